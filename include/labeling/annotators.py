"""How well each annotator works, fairly: every figure with its interval and n, and no verdict or rank below a least n.

Verdicts look at the far end of the interval: someone is called worse than a limit only when even the upper end of the
interval is below it. Pausing a person is only ever proposed; a human approves it.

Sources: E. B. Wilson, *Probable inference*, JASA 22 (1927), for shares; R. G. Newcombe, *Interval estimation for the
difference between independent proportions*, Statistics in Medicine 17 (1998), method 10, for differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from math import sqrt
from statistics import median
from typing import Literal

from include.errors import LabelingError

Action = Literal["none", "too_few", "warn", "down_weight", "pause"]

Z = 1.959964
BREAK = timedelta(minutes=10)  # a longer gap between two answers is a break, not work
REDUCED_WEIGHT = 0.5


@dataclass(frozen=True)
class Share:
    """A share of ``n`` with its 95% interval; all None without any."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Answered:
    """One person's answers, already compared with what they are judged by.

    :param gold: of each gold record, whether the answer was right.
    :param times: when each answer was given, in any order.
    :param reasked: of each record answered twice, whether the answers are equal.
    :param followed_shown: of each record shown with a suggestion, whether the answer equals it.
    :param followed_blind: of each record shown without, whether it equals what would have been suggested.
    """

    gold: Sequence[bool] = ()
    times: Sequence[datetime] = ()
    reasked: Sequence[bool] = ()
    followed_shown: Sequence[bool] = ()
    followed_blind: Sequence[bool] = ()


@dataclass(frozen=True)
class AnnotatorPolicy:
    """Limits of accuracy on gold. Below ``least`` gold answers nothing is said about anyone."""

    least: int = 20
    warn_below: float = 0.9
    down_weight_below: float = 0.8
    pause_below: float = 0.65

    def __post_init__(self) -> None:
        if self.least < 1 or not 0 <= self.pause_below <= self.down_weight_below <= self.warn_below <= 1:
            raise LabelingError(
                f"limits of accuracy do not follow each other: {self}",
                remedy="Set 0 <= pause_below <= down_weight_below <= warn_below <= 1, and least to 1 or more.",
            )


@dataclass(frozen=True)
class Verdict:
    """What follows from a report.

    :param weight: of this person's answers in a vote.
    :param needs_approval: nothing happens before a human approves it.
    """

    action: Action
    weight: float
    needs_approval: bool
    why: str


@dataclass(frozen=True)
class Report:
    """The figures of one annotator.

    :param seconds: median time from one answer to the next, without breaks; None without any two.
    :param anchoring: how much more often a suggestion is followed when it is shown; n is the smaller of the two.
    """

    annotator: str
    accuracy: Share
    seconds: float | None
    consistency: Share
    anchoring: Share
    verdict: Verdict


def report(annotator: str, answered: Answered, policy: AnnotatorPolicy) -> Report:
    """All figures of one person, and what follows."""
    accuracy = share(answered.gold)
    return Report(
        annotator,
        accuracy,
        seconds_per_answer(answered.times),
        share(answered.reasked),
        difference(answered.followed_shown, answered.followed_blind),
        judge(accuracy, policy),
    )


def judge(accuracy: Share, policy: AnnotatorPolicy) -> Verdict:
    """The verdict about an accuracy on gold."""
    if accuracy.value is None or accuracy.high is None or accuracy.n < policy.least:
        why = f"{accuracy.n} gold answers are too few to judge anyone by; {policy.least} are needed."
        return Verdict("too_few", 1.0, False, why)
    said = (
        f"Right on {accuracy.value:.0%} of {accuracy.n} gold records (at most {accuracy.high:.0%} with 95% certainty)"
    )
    if accuracy.high < policy.pause_below:
        why = f"{said}, below {policy.pause_below:.0%}: propose to pause; a human decides."
        return Verdict("pause", REDUCED_WEIGHT, True, why)
    if accuracy.high < policy.down_weight_below:
        return Verdict("down_weight", REDUCED_WEIGHT, False, f"{said}, below {policy.down_weight_below:.0%}.")
    if accuracy.high < policy.warn_below:
        return Verdict("warn", 1.0, False, f"{said}, below {policy.warn_below:.0%}: show them the guidelines again.")
    return Verdict("none", 1.0, False, f"{said}.")


def ranking(reports: Sequence[Report], policy: AnnotatorPolicy) -> list[tuple[int | None, Report]]:
    """Reports by accuracy with their rank; whoever has too few gold answers comes last, by name and without a rank.

    A rank says how many are better beyond doubt, plus one: people whose intervals overlap share it.
    """
    judged = [one for one in reports if one.verdict.action != "too_few" and one.accuracy.n >= policy.least]
    others = sorted((one for one in reports if one not in judged), key=lambda one: one.annotator)
    judged.sort(key=lambda one: (-(one.accuracy.value or 0.0), one.annotator))
    ranked: list[tuple[int | None, Report]] = [
        (1 + sum((other.accuracy.low or 0.0) > (one.accuracy.high or 0.0) for other in judged), one) for one in judged
    ]
    return ranked + [(None, one) for one in others]


def share(hits: Sequence[bool]) -> Share:
    """The share of hits with Wilson's interval."""
    n = len(hits)
    if not n:
        return Share(None, None, None, 0)
    value = sum(hits) / n
    centre = (value + Z**2 / (2 * n)) / (1 + Z**2 / n)
    reach = Z / (1 + Z**2 / n) * sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    return Share(value, max(centre - reach, 0.0), min(centre + reach, 1.0), n)


def difference(first: Sequence[bool], second: Sequence[bool]) -> Share:
    """Share of hits in the first minus that in the second, -1..1, with Newcombe's interval; n: of the smaller."""
    one, other = share(first), share(second)
    if one.value is None or other.value is None or one.low is None or other.low is None:
        return Share(None, None, None, min(one.n, other.n))
    if one.high is None or other.high is None:
        return Share(None, None, None, min(one.n, other.n))
    value = one.value - other.value
    down = sqrt((one.value - one.low) ** 2 + (other.high - other.value) ** 2)
    up = sqrt((one.high - one.value) ** 2 + (other.value - other.low) ** 2)
    return Share(value, value - down, value + up, min(one.n, other.n))


def seconds_per_answer(times: Sequence[datetime]) -> float | None:
    """Median seconds from one answer to the next, gaps longer than ``BREAK`` left out."""
    gaps = [later - earlier for earlier, later in pairwise(sorted(times))]
    worked = [gap.total_seconds() for gap in gaps if gap <= BREAK]
    return median(worked) if worked else None
