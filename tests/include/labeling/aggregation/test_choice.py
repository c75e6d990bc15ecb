"""The choice between models of annotators: simple where answers say nothing more, richer where they do."""

from __future__ import annotations

import numpy as np
import pytest

from include.labeling.aggregation.choice import LEAST_HIDDEN, choose, held_out
from include.labeling.aggregation.dawid_skene import DAWID_SKENE, MAJORITY, ONE_COIN, majority
from tests.include.labeling.aggregation.crowds import accuracy, answers, coin_matrix


def test_few_answers_are_voted_on() -> None:
    votes = answers(np.stack([coin_matrix(0.8, 3)] * 3), np.array([0, 1, 2]), 3, seed=1)
    choice = choose(votes)
    assert choice.fit.method == MAJORITY
    assert choice.hidden < LEAST_HIDDEN
    assert "too few" in choice.why
    assert (choice.fit.posterior == majority(votes).posterior).all()


def test_nothing_to_hide_is_voted_on_and_not_a_mistake() -> None:
    votes = answers(np.stack([coin_matrix(0.8, 3)] * 3), np.zeros(50, dtype=np.int64), 1, seed=1)
    choice = choose(votes)
    assert (choice.fit.method, choice.hidden, choice.scores) == (MAJORITY, 0, {})


def test_people_who_differ_only_in_care_get_one_accuracy_each() -> None:
    truths = np.random.default_rng(2).integers(0, 6, 500)
    people = np.stack([coin_matrix(share, 6) for share in np.linspace(0.3, 0.95, 20)])
    votes = answers(people, truths, 3, seed=3)
    choice = choose(votes)
    assert choice.fit.method == ONE_COIN
    assert accuracy(choice.fit.posterior, truths) > accuracy(majority(votes).posterior, truths) + 0.03


def test_people_with_habits_get_confusion_matrices_and_the_reason_has_figures() -> None:
    habit = coin_matrix(0.9, 4)
    habit[1], habit[2] = [0.7, 0.25, 0.03, 0.02], [0.05, 0.05, 0.3, 0.6]
    other = coin_matrix(0.9, 4)
    other[0], other[3] = [0.5, 0.05, 0.4, 0.05], [0.1, 0.6, 0.1, 0.2]
    truths = np.random.default_rng(4).integers(0, 4, 1500)
    careful = [coin_matrix(share, 4) for share in (0.8, 0.85, 0.7)]
    votes = answers(np.stack([habit, other, *careful]), truths, 3, seed=5)
    choice = choose(votes)
    assert choice.fit.method == DAWID_SKENE
    assert accuracy(choice.fit.posterior, truths) > accuracy(majority(votes).posterior, truths) + 0.03
    assert choice.scores[DAWID_SKENE] > choice.scores[ONE_COIN] > choice.scores[MAJORITY]
    for score in choice.scores.values():
        assert f"{score:.3f}" in choice.why


@pytest.mark.parametrize("per_item", [2, 5])
def test_every_answer_of_a_small_set_is_hidden_at_most_once(per_item: int) -> None:
    votes = answers(np.stack([coin_matrix(0.8, 3)] * 6), np.zeros(20, dtype=np.int64), per_item, seed=6)
    predicted = held_out(votes)
    assert {len(values) for values in predicted.values()} == {len(votes)}
    assert all((values <= 0).all() for values in predicted.values())


def test_the_choice_repeats() -> None:
    votes = answers(np.stack([coin_matrix(0.7, 3)] * 5), np.zeros(60, dtype=np.int64), 3, seed=7)
    assert choose(votes).why == choose(votes).why
