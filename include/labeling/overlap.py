"""How many people one record deserves: stop when its label is certain enough, else ask on, then ask an expert.

A pure decision from what is known about one record. It never waits for someone who does not exist: where nobody is left
to ask, the record goes to the next tier, and at the end to adjudication with what is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from include.errors import LabelingError
from include.labeling.aggregation.votes import Floats

Action = Literal["stop", "wait", "ask", "ask_expert", "adjudicate"]


@dataclass(frozen=True)
class OverlapPolicy:
    """When a label is certain enough, and how far to go for it.

    :param start: answers asked at once, before any is known.
    :param threshold: posterior of the likeliest value at which no more is asked.
    :param most: answers of ordinary annotators at most.
    :param most_expert: answers of experts at most.
    :param calibration_share: records that get three answers whatever the posterior says: without them nobody
        would notice that annotators, or the threshold, have become unreliable.
    """

    start: int = 1
    threshold: float = 0.9
    most: int = 5
    most_expert: int = 1
    calibration_share: float = 0.03

    def __post_init__(self) -> None:
        if not 1 <= self.start <= self.most:
            raise LabelingError(f"overlap starts with {self.start} of {self.most}", remedy="Set 1 <= start <= most.")
        if not 0.5 <= self.threshold < 1:
            raise LabelingError(f"threshold is {self.threshold}", remedy="Set it between 0.5 and 1; 0.9 is usual.")
        if self.most_expert < 0 or not 0 <= self.calibration_share <= 1:
            raise LabelingError("expert answers or calibration share out of range", remedy="Set them to 0 or more.")


CALIBRATION_ANSWERS = 3
THRESHOLDS = np.arange(0.5, 0.996, 0.005)
SIMULATED_ITEMS = 4_000


@dataclass(frozen=True)
class Asked:
    """What is known about one record.

    :param answers: submitted by ordinary annotators.
    :param expert_answers: submitted by experts.
    :param pending: asked and not yet answered, by anyone.
    :param available: ordinary annotators who have neither answered nor been asked, and may be.
    :param experts_available: the same of experts.
    :param posterior: of the likeliest value, from people and, for training records, the model; None without answers.
    :param calibration: the record is of the calibration share.
    """

    answers: int
    pending: int
    available: int
    experts_available: int
    posterior: float | None
    expert_answers: int = 0
    calibration: bool = False


@dataclass(frozen=True)
class Step:
    """What to do next: how many more answers to ask, of whom, and why in one sentence."""

    action: Action
    n: int
    why: str


def next_step(policy: OverlapPolicy, asked: Asked) -> Step:
    """Decide about one record.

    :raises LabelingError: when a count is negative.
    """
    counts = (asked.answers, asked.expert_answers, asked.pending, asked.available, asked.experts_available)
    if min(counts) < 0:
        raise LabelingError(f"a count of answers or people is negative: {asked}", remedy="Count them again.")
    if asked.pending:
        return Step("wait", 0, f"{_times(asked.pending, 'answer')} asked before are still out.")
    if asked.expert_answers:
        return _after_expert(policy, asked)
    least = max(policy.start, CALIBRATION_ANSWERS) if asked.calibration else policy.start
    if asked.answers < least:
        missing = least - asked.answers
        reason = "the record calibrates the annotators" if asked.calibration else f"every record gets {least}"
        if asked.available:
            n = min(missing, asked.available)
            return Step("ask", n, f"{_times(asked.answers, 'answer')} so far and {reason}: ask {n} more.")
        if _certain(policy, asked):
            return _stop(policy, asked, f" Nobody is left for the {_times(missing, 'answer')} still wanted.")
        return _escalate(policy, asked, "nobody else is available")
    if _certain(policy, asked):
        return _stop(policy, asked, "")
    if asked.answers >= policy.most:
        return _escalate(policy, asked, f"{_times(asked.answers, 'answer')} did not settle it")
    if not asked.available:
        return _escalate(policy, asked, "nobody else is available")
    return Step("ask", 1, f"{_posterior(policy, asked)} after {_times(asked.answers, 'answer')}: ask 1 more.")


def _after_expert(policy: OverlapPolicy, asked: Asked) -> Step:
    if _certain(policy, asked):
        return _stop(policy, asked, " An expert answered.")
    return _escalate(policy, asked, f"{_times(asked.expert_answers, 'expert answer')} did not settle it")


def _escalate(policy: OverlapPolicy, asked: Asked, reason: str) -> Step:
    if asked.expert_answers < policy.most_expert and asked.experts_available:
        return Step("ask_expert", 1, f"{_posterior(policy, asked)} and {reason}: ask an expert.")
    whom = "no expert is available" if asked.expert_answers < policy.most_expert else "no more experts are to be asked"
    return Step("adjudicate", 0, f"{_posterior(policy, asked)}, {reason} and {whom}: someone must decide.")


def _stop(policy: OverlapPolicy, asked: Asked, more: str) -> Step:
    answers = _times(asked.answers, "answer")
    return Step("stop", 0, f"{_posterior(policy, asked)} after {answers}: certain enough.{more}")


def _certain(policy: OverlapPolicy, asked: Asked) -> bool:
    return asked.posterior is not None and asked.posterior >= policy.threshold


def _posterior(policy: OverlapPolicy, asked: Asked) -> str:
    if asked.posterior is None:
        return "The record has no answer"
    shown = int(asked.posterior * 1000) / 1000  # cut, not rounded: 0.8999 must not read as the 0.9 it misses
    return f"The likeliest value has probability {shown:g} (threshold {policy.threshold:g})"


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def plan_threshold(
    shares: Floats, confusion: Floats, policy: OverlapPolicy, *, fixed: int = CALIBRATION_ANSWERS, seed: int = 17
) -> float:
    """The least threshold at which adaptive overlap is expected to label as well as ``fixed`` answers about everything.

    Simulated from the people as they are estimated; expected accuracy is the mean posterior of the likeliest class.

    :param shares: shape (K,), class shares.
    :param confusion: shape (W, K, K), chance of [worker, truth, answer].
    :returns: 0.5 to 0.995; the last when no threshold is good enough.
    """
    rng = np.random.default_rng(seed)
    n_workers, size, _ = confusion.shape
    most = min(max(policy.most, fixed), n_workers)
    truths = rng.choice(size, SIMULATED_ITEMS, p=shares)
    order = rng.random((SIMULATED_ITEMS, n_workers)).argsort(axis=1)[:, :most]
    log_posterior = np.repeat(np.log(shares)[None, :], SIMULATED_ITEMS, axis=0)
    best = np.empty((SIMULATED_ITEMS, most))
    for step in range(most):
        workers = order[:, step]
        cumulated = confusion[workers, truths].cumsum(axis=1)
        said = np.minimum((rng.random(SIMULATED_ITEMS)[:, None] > cumulated).sum(axis=1), size - 1)
        log_posterior += np.log(confusion[workers, :, said])
        weights = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
        best[:, step] = (weights / weights.sum(axis=1, keepdims=True)).max(axis=1)
    target = best[:, min(fixed, most) - 1].mean()
    first = min(policy.start, most) - 1
    for threshold in THRESHOLDS:
        certain = best[:, first:] >= threshold
        stop = first + np.where(certain.any(axis=1), certain.argmax(axis=1), most - 1 - first)
        if best[np.arange(SIMULATED_ITEMS), stop].mean() >= target:
            return float(threshold)
    return float(THRESHOLDS[-1])
