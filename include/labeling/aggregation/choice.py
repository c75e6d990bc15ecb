"""Which model of annotators the answers support, decided by predicting answers that were hidden.

Some answers are hidden, each from an item with others, the models are fitted to the rest, and each says how likely the
hidden answers were. One accuracy per annotator is the rule, because shrunk as it is it costs nothing where annotators
are alike; another model decides only when it predicts better by more than one standard error of the paired difference
(the one-standard-error rule: T. Hastie, R. Tibshirani, J. Friedman, *The Elements of Statistical Learning*, 2nd ed.,
section 7.10). With too few answers to try models on, the vote decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from include.labeling.aggregation.dawid_skene import (
    DAWID_SKENE,
    MAJORITY,
    ONE_COIN,
    Fit,
    dawid_skene,
    majority,
    one_coin,
    shared_coin,
)
from include.labeling.aggregation.votes import Floats, Ints, Votes

FOLDS = 5
MAX_PASSES = 5  # over all folds, hiding another answer of each item
ENOUGH_HIDDEN = 5_000  # answers; once as many were hidden, another fold would not change the choice
LEAST_HIDDEN = 30  # with fewer hidden answers nothing is learned about anyone

# From few parameters to many.
MODELS: dict[str, tuple[Callable[[Votes], Fit], Callable[[Votes], Fit]]] = {  # to predict with, to decide with
    MAJORITY: (shared_coin, majority),
    ONE_COIN: (one_coin, one_coin),
    DAWID_SKENE: (dawid_skene, dawid_skene),
}
WORDS = {
    MAJORITY: "majority (all annotators alike)",
    ONE_COIN: "one accuracy per annotator",
    DAWID_SKENE: "one confusion matrix per annotator",
}


@dataclass(frozen=True)
class Choice:
    """The chosen model, fitted to all answers.

    :param scores: mean log-likelihood (nats) of a hidden answer, per model.
    :param hidden: hidden answers behind the scores.
    """

    fit: Fit
    why: str
    scores: dict[str, float]
    hidden: int


def choose(votes: Votes) -> Choice:
    """Fit the model that the answers support."""
    predicted = held_out(votes)
    hidden = len(predicted[MAJORITY])
    scores = {name: float(values.mean()) for name, values in predicted.items() if hidden}
    if hidden < LEAST_HIDDEN:
        why = f"majority: {hidden} answers to try models on are too few, {LEAST_HIDDEN} are needed"
        return Choice(majority(votes), why, scores, hidden)
    name = _best_supported(predicted)
    told = ", ".join(f"{WORDS[other]} {score:.3f}" for other, score in scores.items())
    why = f"{WORDS[name]}: mean log-likelihood of {hidden} hidden answers: {told}"
    return Choice(MODELS[name][1](votes), why, scores, hidden)


def held_out(votes: Votes) -> dict[str, Floats]:
    """Log-likelihood (nats) of every hidden answer under each model fitted without it."""
    found: dict[str, list[Floats]] = {name: [np.empty(0)] for name in MODELS}
    hidden_so_far = 0
    rank = _rank_in_item(votes)
    for turn in range(FOLDS * MAX_PASSES):
        hidden = _hidden(votes, rank, turn)
        if hidden_so_far >= ENOUGH_HIDDEN:
            break
        hidden_so_far += int(hidden.sum())
        rest, asked = votes.only(~hidden), votes.only(hidden)
        for name, (model, _) in MODELS.items():
            fit = model(rest)
            chances = (fit.posterior[asked.items] * fit.likelihood(asked)).sum(axis=1)
            found[name].append(np.log(chances))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _hidden(votes: Votes, rank: Ints, turn: int) -> npt.NDArray[np.bool_]:
    """One answer of each item of this turn's fold that has two or more, another one in every pass over the folds."""
    number, fold = divmod(turn, FOLDS)
    many = votes.per_item()[votes.items]
    hidden: npt.NDArray[np.bool_] = (
        (votes.items % FOLDS == fold)
        & (many >= 2)
        & (number < many)
        & (rank == (votes.items // FOLDS + number) % np.maximum(many, 1))
    )
    return hidden


def _rank_in_item(votes: Votes) -> Ints:
    """Position of each answer among those of its item, by worker, shape (n,)."""
    order = np.lexsort((votes.workers, votes.items))
    given = votes.per_item()
    starts = np.cumsum(given) - given
    rank: Ints = np.empty(len(votes), dtype=np.int64)
    rank[order] = np.arange(len(votes)) - starts[votes.items[order]]
    return rank


def _best_supported(predicted: dict[str, Floats]) -> str:
    """One-coin, unless another model predicts better by more than one standard error of the paired difference."""
    chosen = ONE_COIN
    for name in (MAJORITY, DAWID_SKENE):
        gain = predicted[name] - predicted[chosen]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            chosen = name
    return chosen
