"""The fast learner of the benchmark is the product's model, and its curves count every answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from bench.support.learner import (
    Learner,
    Opinions,
    Positions,
    Round,
    Task,
    accuracy,
    curve,
    majority,
    people_curve,
)

CLASSES = 3
POOL, TEST = 120, 60


@pytest.fixture(scope="module")
def task() -> Task:
    random = np.random.default_rng(3)
    truth = random.integers(0, CLASSES, POOL + TEST)
    texts = [
        " ".join(
            [*(f"c{label}w{word}" for word in random.integers(0, 8, 3)), *(f"n{x}" for x in random.integers(0, 40, 6))]
        )
        for label in truth
    ]
    words = TfidfVectorizer(dtype=np.float32)
    pool = words.fit_transform(texts[:POOL])
    return Task(
        name="made_up",
        seed=1,
        classes=tuple("abc"),
        pool=pool,
        test=words.transform(texts[POOL:]),
        truth=truth[:POOL],
        noisy=truth[:POOL],
        test_truth=truth[POOL:],
        vectors=np.eye(POOL, 4, dtype=np.float32),
    )


def in_order(known: Round) -> Positions:
    return known.left[: known.size]


@pytest.mark.parametrize("classes", [2, CLASSES])
def test_probabilities_are_those_of_a_regression_on_the_words(task: Task, classes: int) -> None:
    labels = np.minimum(task.truth, classes - 1)
    chosen = np.arange(0, POOL, 2)
    fitted = Learner.of(task).fit(chosen, labels[chosen], classes)
    plain = LogisticRegression(class_weight="balanced", max_iter=1000, tol=1e-8)
    plain.fit(task.pool[chosen], labels[chosen])
    assert np.abs(fitted.pool - plain.predict_proba(task.pool)).max() < 2e-3
    assert np.abs(fitted.test - plain.predict_proba(task.test)).max() < 2e-3
    assert np.allclose(fitted.test.sum(axis=1), 1.0)


def test_one_class_alone_is_predicted_for_sure(task: Task) -> None:
    fitted = Learner.of(task).fit(np.array([4, 5]), np.array([1, 1]), CLASSES)
    assert (fitted.test[:, 1] == 1.0).all()


def test_a_task_survives_its_file(task: Task, tmp_path: Path) -> None:
    task.save(tmp_path / "task.npz")
    again = Task.load(tmp_path / "task.npz")
    assert isinstance(again.pool, sparse.csr_matrix)
    assert (again.pool != task.pool).nnz == 0
    assert (again.name, again.seed, again.classes) == (task.name, task.seed, task.classes)
    assert (again.truth == task.truth).all()
    assert [path.name for path in tmp_path.iterdir()] == ["task.npz"]


def test_a_curve_counts_all_labels_until_the_pool_is_used_up(task: Task) -> None:
    start = np.arange(20)
    points = curve(
        task,
        Learner.of(task),
        in_order,
        start=start,
        answers=task.truth,
        classes=CLASSES,
        worth=accuracy(task),
        sizes=[30, 50],
        end=2.0,
    )
    assert [count for count, _ in points] == [20, 50, 100, 120]
    assert points[-1][1] > 0.8


def test_a_side_may_not_choose_what_it_has(task: Task) -> None:
    with pytest.raises(ValueError, match="new texts"):
        curve(
            task,
            Learner.of(task),
            lambda known: known.chosen[: known.size],
            start=np.arange(20),
            answers=task.truth,
            classes=CLASSES,
            worth=accuracy(task),
            sizes=[10],
            end=2.0,
        )


def test_each_answer_of_a_person_counts_also_the_second_for_a_text(task: Task) -> None:
    seen: list[int] = []

    def again(known: Opinions) -> Positions:
        seen.append(int((known.answers >= 0).sum(axis=1).max()))
        return np.arange(known.size)

    points = people_curve(
        task,
        Learner.of(task),
        again,
        start=np.arange(20),
        opinions=np.repeat(task.truth[:, None], 3, axis=1),
        order=np.tile(np.arange(3), (POOL, 1)),
        worth=accuracy(task),
        size=20,
        end=0.0,
    )
    assert [count for count, _ in points] == [20, 40, 60]
    assert seen == [1, 2]


def test_ties_go_to_the_class_the_model_holds_likelier() -> None:
    answers = np.array([[0, 1, -1], [2, 2, 1], [-1, -1, 0]])
    model = np.array([[0.1, 0.6, 0.3], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    assert majority(answers, model).tolist() == [1, 2, 0]
