"""The three models of annotators: published values, laws, and the traps of plain Dawid-Skene."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.labeling.aggregation import dawid_skene as models
from include.labeling.aggregation.dawid_skene import Fit, dawid_skene, majority, one_coin, shared_coin
from include.labeling.aggregation.votes import Votes
from tests.include.labeling.aggregation.crowds import accuracy, answers, coin_matrix

# Dawid and Skene 1979, table 1: 45 patients; observer 1 saw each three times, observers 2 to 5 once.
ANAESTHETISTS = """111 1 1 1 1|333 4 3 3 4|112 2 1 2 2|222 3 1 2 1|222 3 2 2 2|222 3 3 2 2|122 2 1 1 1|333 3 4 3 3
222 2 2 2 3|232 2 2 2 3|444 4 4 4 4|222 3 3 4 3|111 1 1 1 1|222 3 2 1 2|121 1 1 1 1|111 2 1 1 1|111 1 1 1 1|111 1 1 1 1
222 2 2 2 1|222 1 3 2 2|222 2 2 2 2|222 2 2 2 1|222 3 2 2 2|221 2 2 2 2|111 1 1 1 1|111 1 1 1 1|232 2 2 2 2|111 1 1 1 1
111 1 1 1 1|112 1 1 2 1|111 1 1 1 1|333 3 2 3 3|111 1 1 1 1|222 2 2 2 2|222 3 2 3 2|433 4 3 4 3|221 2 2 3 2|232 3 2 3 3
333 3 4 3 2|111 1 1 1 1|111 1 1 1 1|121 2 1 1 1|232 2 2 2 2|121 1 1 1 1|222 2 2 2 2"""
MODELS = [majority, shared_coin, one_coin, dawid_skene]


def anaesthetists() -> Votes:
    """Each look of observer 1 counts as a worker's own answer of its own, for one answer per worker and item."""
    rows = [patient.split() for patient in ANAESTHETISTS.replace("\n", "|").split("|")]
    triples = [
        (i, 0 if place < 3 else place - 2, int(value) - 1)
        for i, row in enumerate(rows)
        for place, value in enumerate("".join(row))
    ]
    items, workers, labels = (np.array(column) for column in zip(*triples, strict=True))
    return Votes(items, workers, labels, len(rows), 5, 4)


def test_the_table_of_1979_has_its_published_class_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = anaesthetists()
    assert (votes.n_items, len(votes)) == (45, 315)
    # The published figures are of maximum likelihood: next to no pseudo-answers.
    for name in ("COIN_PSEUDO_ANSWERS", "PSEUDO_ROWS", "CLASS_PSEUDO_ITEMS"):
        monkeypatch.setattr(models, name, 1e-3)
    assert dawid_skene(votes).shares == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=0.01)


@pytest.mark.parametrize("model", MODELS)
def test_shares_and_posteriors_are_probabilities(model: models.Fit) -> None:
    fit = model(anaesthetists())  # type: ignore[operator]
    assert fit.posterior.sum(axis=1) == pytest.approx(np.ones(45))
    assert fit.shares.sum() == pytest.approx(1.0)
    if fit.confusion is not None:
        assert fit.confusion.sum(axis=2) == pytest.approx(np.ones((5, 4)))


def test_the_vote_is_perks_posterior() -> None:
    votes = Votes(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0]), np.array([1, 1, 0, 2]), 3, 3, 4)
    posterior = majority(votes).posterior
    assert posterior[0] == pytest.approx([1.25 / 4, 2.25 / 4, 0.25 / 4, 0.25 / 4])
    assert posterior[1, 2] == pytest.approx(1.25 / 2)
    assert posterior[2] == pytest.approx(np.full(4, 0.25))  # nobody answered


def test_a_good_person_outweighs_two_careless_ones() -> None:
    truths = np.random.default_rng(1).integers(0, 3, 300)
    people = np.stack([coin_matrix(0.95, 3), coin_matrix(0.4, 3), coin_matrix(0.4, 3)])
    votes = answers(people, truths, 3, seed=2)
    assert accuracy(majority(votes).posterior, truths) < 0.75
    fit = one_coin(votes)
    assert accuracy(fit.posterior, truths) > 0.9
    assert fit.accuracy[0] > max(fit.accuracy[1:]) + 0.2


def test_confusion_matrices_find_the_class_a_person_always_takes_for_another() -> None:
    # Two of three people call most of class 1 by the name of class 0; the third sees it.
    blind = coin_matrix(0.9, 3)
    blind[1] = [0.8, 0.15, 0.05]
    truths = np.random.default_rng(3).integers(0, 3, 2000)
    votes = answers(np.stack([blind, blind, coin_matrix(0.9, 3)]), truths, 3, seed=4)
    assert accuracy(dawid_skene(votes).posterior, truths) > accuracy(one_coin(votes).posterior, truths) + 0.05


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_of_one_class_does_not_flip(seed: int) -> None:
    truths = np.zeros(40, dtype=np.int64)
    people = np.stack([coin_matrix(0.8, 3) for _ in range(4)])
    votes = answers(people, truths, 3, seed=seed)
    voted = accuracy(majority(votes).posterior, truths)
    assert accuracy(dawid_skene(votes).posterior, truths) >= voted - 0.1  # plain Dawid-Skene turns half of them over


def test_many_classes_and_two_answers_do_not_make_it_worse_than_the_vote() -> None:
    truths = np.random.default_rng(5).integers(0, 20, 400)
    people = np.stack([coin_matrix(0.7, 20)] * 15)
    votes = answers(people, truths, 2, seed=6)
    assert accuracy(dawid_skene(votes).posterior, truths) >= accuracy(majority(votes).posterior, truths) - 0.01


@st.composite
def some_votes(draw: st.DrawFn) -> Votes:
    n_items, n_workers, size = draw(st.integers(1, 8)), draw(st.integers(1, 4)), draw(st.integers(2, 4))
    cells = draw(st.lists(st.integers(0, n_items * n_workers - 1), unique=True, max_size=20))
    labels = draw(st.lists(st.integers(0, size - 1), min_size=len(cells), max_size=len(cells)))
    places = np.array(cells, dtype=np.int64)
    return Votes(places // n_workers, places % n_workers, np.array(labels, dtype=np.int64), n_items, n_workers, size)


@settings(max_examples=60, deadline=None)
@given(some_votes(), st.integers(0, 2**32 - 1))
def test_any_answers_give_probabilities_that_ignore_their_order(votes: Votes, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(votes))
    shuffled = Votes(
        votes.items[order], votes.workers[order], votes.labels[order], votes.n_items, votes.n_workers, votes.n_classes
    )
    for model in MODELS:
        fit: Fit = model(votes)
        assert np.isfinite(fit.posterior).all()
        assert fit.posterior.sum(axis=1) == pytest.approx(np.ones(votes.n_items))
        assert fit.likelihood(votes) == pytest.approx(np.clip(fit.likelihood(votes), 1e-6, 1.0))
        # Sums in another order may end EM a round earlier, where posteriors still move by about its tolerance.
        assert model(shuffled).posterior == pytest.approx(fit.posterior, abs=1e-3)


@given(some_votes())
def test_one_answer_more_for_the_winner_never_lowers_it_in_the_vote(votes: Votes) -> None:
    before = majority(votes).posterior
    winner = int(before[0].argmax())
    more = Votes(
        np.append(votes.items, 0), np.append(votes.workers, 0), np.append(votes.labels, winner),
        votes.n_items, votes.n_workers, votes.n_classes,
    )  # fmt: skip
    assert majority(more).posterior[0, winner] > before[0, winner]
