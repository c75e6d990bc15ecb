"""Reports on annotators: published interval values, and fairness at the edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.errors import LabelingError
from include.labeling.annotators import (
    AnnotatorPolicy,
    Answered,
    difference,
    judge,
    ranking,
    report,
    seconds_per_answer,
    share,
)

POLICY = AnnotatorPolicy(least=20, warn_below=0.9, down_weight_below=0.8, pause_below=0.65)
START = datetime(2026, 11, 23, 9, tzinfo=UTC)


def hits(right: int, n: int) -> list[bool]:
    return [True] * right + [False] * (n - right)


def test_a_share_has_the_interval_published_by_newcombe() -> None:
    # Newcombe 1998, two-sided intervals for the single proportion, table I: 81/263, Wilson.
    found = share(hits(81, 263))
    assert found.low == pytest.approx(0.2553, abs=5e-5)
    assert found.high == pytest.approx(0.3662, abs=5e-5)
    assert share([]).value is None


def test_a_difference_has_the_interval_published_by_newcombe() -> None:
    # Newcombe 1998, comparison of eleven methods, table II: 56/70 - 48/80, method 10.
    found = difference(hits(56, 70), hits(48, 80))
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0524, abs=5e-5)
    assert found.high == pytest.approx(0.3339, abs=5e-5)
    assert found.n == 70
    assert difference([], [True]).value is None


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 60), st.integers(1, 60))
def test_intervals_hold_their_value_and_stay_in_bounds(a: int, b: int, n: int, m: int) -> None:
    one, both = share(hits(min(a, n), n)), difference(hits(min(a, n), n), hits(min(b, m), m))
    assert one.value is not None
    assert one.low is not None
    assert one.high is not None
    assert 0 <= one.low <= one.value + 1e-12
    assert one.value <= one.high + 1e-12
    assert both.low is not None
    assert both.high is not None
    assert -1 - 1e-9 <= both.low <= both.high <= 1 + 1e-9


@pytest.mark.parametrize(
    ("right", "n", "action", "weight", "approval"),
    [
        (0, 19, "too_few", 1.0, False),  # whatever they answered
        (0, 0, "too_few", 1.0, False),
        (8, 20, "pause", 0.5, True),  # at most 61%
        (10, 20, "down_weight", 0.5, False),  # at most 70%
        (16, 20, "none", 1.0, False),  # 80%, and may be 92%
        (150, 200, "warn", 1.0, False),  # 75%, at most 80.5%
        (200, 200, "none", 1.0, False),
    ],
)
def test_verdicts_follow_the_far_end_of_the_interval(
    right: int, n: int, action: str, weight: float, approval: bool
) -> None:
    verdict = judge(share(hits(right, n)), POLICY)
    assert (verdict.action, verdict.weight, verdict.needs_approval) == (action, weight, approval)
    assert verdict.why.endswith(".")
    assert str(n) in verdict.why


@given(st.integers(0, 100), st.integers(0, 100))
def test_only_a_pause_needs_approval_and_nobody_is_judged_below_the_least_n(right: int, n: int) -> None:
    verdict = judge(share(hits(min(right, n), n)), POLICY)
    assert verdict.needs_approval == (verdict.action == "pause")
    assert (verdict.action == "too_few") == (n < POLICY.least)


def test_nobody_is_ranked_below_the_least_n_and_overlapping_people_share_a_rank() -> None:
    people = {"ann": (95, 100), "bob": (93, 100), "cat": (40, 100), "new": (5, 5), "also_new": (0, 3)}
    reports = [report(name, Answered(gold=hits(*found)), POLICY) for name, found in people.items()]
    ranked = [(rank, one.annotator) for rank, one in ranking(reports, POLICY)]
    assert ranked == [(1, "ann"), (1, "bob"), (3, "cat"), (None, "also_new"), (None, "new")]


def test_speed_leaves_breaks_out() -> None:
    times = [START + timedelta(seconds=seconds) for seconds in (0, 10, 30, 3_000, 3_020)]
    assert seconds_per_answer(list(reversed(times))) == 20.0
    assert seconds_per_answer(times[:1]) is None
    assert seconds_per_answer([times[0], times[3]]) is None


def test_a_report_has_consistency_and_anchoring_with_their_n() -> None:
    found = report(
        "ann",
        Answered(hits(18, 20), (), hits(9, 10), followed_shown=hits(45, 50), followed_blind=hits(10, 20)),
        POLICY,
    )
    assert (found.consistency.value, found.consistency.n) == (0.9, 10)
    assert found.anchoring.value == pytest.approx(0.4)
    assert found.anchoring.n == 20
    assert found.anchoring.low is not None
    assert found.anchoring.low > 0
    assert found.verdict.action == "none"


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(LabelingError, match="limits"):
        AnnotatorPolicy(pause_below=0.9, warn_below=0.8)
