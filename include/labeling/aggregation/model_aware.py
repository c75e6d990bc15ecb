"""Labels from people and a classifier together: more labels right with few answers each. For training only.

A holdout or an estimate of production accuracy asks how good the model is; there the model must not vote. Therefore
every item comes with its split, and anything but ``train`` is refused.

The classifier's probabilities, flattened by a power, are each item's prior in the model of annotators (V. C. Raykar et
al., *Learning from crowds*, JMLR 11, 2010); the power is the one under which the answers are most likely, 0 when the
classifier is of no use. Like CROWDLAB (H. W. Goh et al., *CROWDLAB*, 2022) it needs predictions of a model that did
not learn from the item's own answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from include.errors import LabelingError
from include.labeling.aggregation.dawid_skene import Fit
from include.labeling.aggregation.votes import Floats, Votes

TRAIN = "train"
POWERS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class TrainingLabels:
    """Posteriors that may train a model, and must not judge one.

    :param posterior: shape (N, K).
    :param method: the model of annotators, with ``+model``.
    :param power: how much the classifier was believed, 0 not at all, 1 as it says.
    """

    posterior: Floats
    method: str
    power: float


def label_for_training(votes: Votes, fit: Fit, probabilities: Floats, splits: Sequence[str]) -> TrainingLabels:
    """The posterior of every item given its answers and the classifier's opinion.

    :param fit: of the same votes.
    :param probabilities: shape (N, K), of a model that never saw the answers to the item: out-of-fold, or earlier.
    :param splits: shape (N,), the split of every item.
    :raises LabelingError: when an item is not for training, or the probabilities do not fit.
    """
    if len(splits) != votes.n_items:
        raise LabelingError("not every item has a split", remedy="Pass the split of each item.")
    if others := sorted({split for split in splits if split != TRAIN}):
        raise LabelingError(
            f"the model may not vote on items of split {others[0]!r}", remedy="Use answers alone for these items."
        )
    if probabilities.shape != (votes.n_items, votes.n_classes):
        raise LabelingError(
            f"probabilities have shape {probabilities.shape}, not {(votes.n_items, votes.n_classes)}",
            remedy="Give one row per item and one column per class of the question.",
        )
    evidence, log_model = fit.evidence(votes), np.log(np.maximum(probabilities, LEAST_PROBABILITY))
    answered = votes.per_item() > 0
    priors = {power: _prior(log_model, np.log(fit.shares), power) for power in POWERS}
    power = max(POWERS, key=lambda one: _log_marginal(evidence[answered], priors[one][answered]))
    return TrainingLabels(fit.judge(votes, priors[power]), f"{fit.method}+model", power)


def _prior(log_model: Floats, log_shares: Floats, power: float) -> Floats:
    """Log of shares^(1-power) · model^power, normalised per item, shape (N, K)."""
    log_prior = power * log_model + (1 - power) * log_shares
    best = log_prior.max(axis=1, keepdims=True)
    normalised: Floats = log_prior - best - np.log(np.exp(log_prior - best).sum(axis=1, keepdims=True))
    return normalised


def _log_marginal(evidence: Floats, log_prior: Floats) -> float:
    """Log-likelihood of all answers, up to a constant."""
    total = evidence + log_prior
    best = total.max(axis=1)
    return float((best + np.log(np.exp(total - best[:, None]).sum(axis=1))).sum())
