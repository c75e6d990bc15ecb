"""ActiveLab's scores: equal to the reference implementation's, and defined for any answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sampling.relabel import worth_of_an_answer

ANSWERS = np.array(
    [
        [1, 2, 2, -1],
        [0, 0, -1, -1],
        [0, 0, 2, 1],
        [0, 1, 0, 0],
        [1, 1, 1, -1],
        [2, 2, 2, -1],
        [1, -1, -1, -1],
        [0, 2, -1, -1],
        [1, 1, -1, 1],
        [1, -1, 1, 1],
        [2, -1, 2, 2],
        [2, 1, 2, -1],
    ]
)
MODEL = np.array(
    [
        [0.133, 0.094, 0.773],
        [0.604, 0.332, 0.064],
        [0.690, 0.219, 0.091],
        [0.691, 0.114, 0.195],
        [0.118, 0.743, 0.139],
        [0.078, 0.230, 0.692],
        [0.137, 0.693, 0.170],
        [0.760, 0.126, 0.114],
        [0.055, 0.595, 0.350],
        [0.122, 0.775, 0.103],
        [0.038, 0.107, 0.855],
        [0.208, 0.227, 0.565],
    ]
)
NEW = np.array(
    [[0.020, 0.189, 0.791], [0.482, 0.094, 0.424], [0.856, 0.067, 0.077], [0.751, 0.117, 0.132], [0.536, 0.063, 0.402]]
)
# cleanlab 2.9.0, get_active_learning_scores(ANSWERS, MODEL, NEW), with the search for a temperature switched off.
REFERENCE = [0.6242, 0.6200, 0.5239, 0.6692, 0.7211, 0.6950, 0.6609, 0.6573, 0.6454, 0.7439, 0.7819, 0.5819]
REFERENCE_NEW = [0.7000, 0.4522, 0.7524, 0.6682, 0.4956]


def test_scores_are_those_of_the_reference() -> None:
    nobody = np.full((len(NEW), 4), -1)
    scores = worth_of_an_answer(np.concatenate([ANSWERS, nobody]), np.concatenate([MODEL, NEW]))
    assert scores == pytest.approx(REFERENCE + REFERENCE_NEW, abs=1e-3)


def test_one_answer_each_trusts_model_and_person_alike() -> None:
    answers, chances = np.array([[0, -1], [-1, 1], [-1, -1]]), np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]])
    # (weight of person and model) * chance of the answer, one more person at 1/2; of the new one: the model alone
    assert worth_of_an_answer(answers, chances) == pytest.approx(
        [(2 * 0.9 + 0.5) / 3, (2 * 0.4 + 0.5) / 3, (0.7 + 0.5) / 2]
    )


@given(st.integers(1, 12), st.integers(2, 4), st.integers(1, 4), st.integers(0, 2**32))
@settings(deadline=None)
def test_scores_are_chances_whatever_people_answer(count: int, classes: int, people: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    answers = random.integers(-1, classes, (count, people))
    chances = random.dirichlet(np.ones(classes), count)
    chances[random.random(count) < 0.2] = np.nan
    before = chances.copy()
    scores = worth_of_an_answer(answers, chances)
    assert scores.shape == (count,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert np.array_equal(chances, before, equal_nan=True)
