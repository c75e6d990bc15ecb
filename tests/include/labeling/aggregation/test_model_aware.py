"""People and a classifier together: better training labels, and never anywhere else."""

from __future__ import annotations

import numpy as np
import pytest

from include.errors import LabelingError
from include.labeling.aggregation.dawid_skene import dawid_skene
from include.labeling.aggregation.model_aware import label_for_training
from include.labeling.aggregation.votes import Floats, Ints, Votes
from tests.include.labeling.aggregation.crowds import accuracy, answers, coin_matrix

ITEMS = 800


def world() -> tuple[Votes, Ints]:
    truths = np.random.default_rng(1).integers(0, 4, ITEMS)
    return answers(np.stack([coin_matrix(0.7, 4)] * 6), truths, 2, seed=2), truths


def opinion(truths: Ints, right: float, seed: int) -> Floats:
    """A classifier that is right this often and about as sure as it should be."""
    rng = np.random.default_rng(seed)
    said = np.where(rng.random(len(truths)) < right, truths, (truths + rng.integers(1, 4, len(truths))) % 4)
    probabilities = np.full((len(truths), 4), (1 - right) / 3)
    probabilities[np.arange(len(truths)), said] = right
    return probabilities


def test_a_good_classifier_helps() -> None:
    votes, truths = world()
    fit = dawid_skene(votes)
    found = label_for_training(votes, fit, opinion(truths, 0.8, 3), ["train"] * ITEMS)
    assert accuracy(found.posterior, truths) > accuracy(fit.posterior, truths) + 0.08
    assert found.power >= 0.6
    assert found.method == "dawid_skene+model"
    assert found.posterior.sum(axis=1) == pytest.approx(np.ones(ITEMS))


def test_a_useless_classifier_is_not_believed() -> None:
    votes, truths = world()
    fit = dawid_skene(votes)
    noise = np.random.default_rng(4).dirichlet(np.full(4, 0.3), ITEMS)
    found = label_for_training(votes, fit, noise, ["train"] * ITEMS)
    assert found.power <= 0.1
    assert accuracy(found.posterior, truths) >= accuracy(fit.posterior, truths) - 0.02


@pytest.mark.parametrize("split", ["holdout", "gold", "production", ""])
def test_the_model_may_not_vote_outside_training(split: str) -> None:
    votes, truths = world()
    with pytest.raises(LabelingError, match=f"may not vote on items of split '{split}'"):
        label_for_training(votes, dawid_skene(votes), opinion(truths, 0.8, 3), [*["train"] * (ITEMS - 1), split])


def test_shapes_that_do_not_fit_are_refused() -> None:
    votes, truths = world()
    fit = dawid_skene(votes)
    with pytest.raises(LabelingError, match="split"):
        label_for_training(votes, fit, opinion(truths, 0.8, 3), ["train"])
    with pytest.raises(LabelingError, match="shape"):
        label_for_training(votes, fit, np.ones((ITEMS, 3)) / 3, ["train"] * ITEMS)
