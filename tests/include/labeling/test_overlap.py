"""The overlap policy: what it asks at its edges, and that it always comes to an end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.errors import LabelingError
from include.labeling.aggregation.votes import Floats
from include.labeling.overlap import Asked, OverlapPolicy, next_step, plan_threshold

POLICY = OverlapPolicy(start=2, threshold=0.9, most=3, most_expert=1)
FRESH = Asked(answers=0, pending=0, available=5, experts_available=1, posterior=None)


@pytest.mark.parametrize(
    ("known", "action", "n", "says"),
    [
        (FRESH, "ask", 2, "every record gets 2"),
        (replace(FRESH, pending=2), "wait", 0, "2 answers asked before"),
        (replace(FRESH, available=1), "ask", 1, "ask 1 more"),
        (replace(FRESH, available=0), "ask_expert", 1, "nobody else is available"),
        (replace(FRESH, available=0, experts_available=0), "adjudicate", 0, "no expert is available"),
        (replace(FRESH, answers=2, posterior=0.9), "stop", 0, "certain enough"),
        (replace(FRESH, answers=2, posterior=0.89999), "ask", 1, "0.899 (threshold 0.9)"),
        (replace(FRESH, answers=1, posterior=0.99), "ask", 1, "every record gets 2"),
        (replace(FRESH, answers=1, posterior=0.99, available=0), "stop", 0, "Nobody is left"),
        (replace(FRESH, answers=3, posterior=0.8), "ask_expert", 1, "did not settle it"),
        (replace(FRESH, answers=2, posterior=0.8, available=0), "ask_expert", 1, "nobody else"),
        (replace(FRESH, answers=3, posterior=0.8, experts_available=0), "adjudicate", 0, "no expert is available"),
        (replace(FRESH, answers=3, posterior=0.8, expert_answers=1), "adjudicate", 0, "no more experts"),
        (replace(FRESH, answers=3, posterior=0.95, expert_answers=1), "stop", 0, "An expert answered"),
        (replace(FRESH, answers=2, posterior=0.99, calibration=True), "ask", 1, "calibrates"),
        (replace(FRESH, answers=3, posterior=0.99, calibration=True), "stop", 0, "certain enough"),
    ],
)
def test_next_step(known: Asked, action: str, n: int, says: str) -> None:
    step = next_step(POLICY, known)
    assert (step.action, step.n) == (action, n)
    assert says in step.why
    assert step.why.endswith(".")


@pytest.mark.parametrize("settings", [{"start": 0}, {"start": 4}, {"threshold": 1.0}, {"most_expert": -1}])
def test_policies_that_mean_nothing_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(LabelingError):
        replace(POLICY, **settings)  # type: ignore[arg-type]


def test_negative_counts_are_refused() -> None:
    with pytest.raises(LabelingError, match="negative"):
        next_step(POLICY, replace(FRESH, available=-1))


@given(
    start=st.integers(1, 4),
    more=st.integers(0, 3),
    experts=st.integers(0, 3),
    people=st.integers(0, 8),
    experts_there=st.integers(0, 3),
    calibration=st.booleans(),
    posteriors=st.lists(st.floats(0.1, 1.0), min_size=16, max_size=16),
)
def test_it_ends_and_never_asks_more_people_than_there_are(
    start: int, more: int, experts: int, people: int, experts_there: int, calibration: bool, posteriors: list[float]
) -> None:
    policy = OverlapPolicy(start=start, threshold=0.9, most=start + more, most_expert=experts)
    known = Asked(0, 0, people, experts_there, None, calibration=calibration)
    for posterior in posteriors:
        step = next_step(policy, known)
        if step.action in ("stop", "adjudicate"):
            break
        if step.action == "ask":
            known = replace(known, answers=known.answers + step.n, available=known.available - step.n)
        else:
            assert step.action == "ask_expert"
            known = replace(
                known, expert_answers=known.expert_answers + 1, experts_available=known.experts_available - 1
            )
        known = replace(known, posterior=posterior)
    else:
        pytest.fail("it goes on for ever")
    assert known.available >= 0
    assert known.experts_available >= 0
    assert known.answers <= max(policy.most, 3 if calibration else 0)
    assert known.expert_answers <= experts
    assert (step.action == "stop") == (known.posterior is not None and known.posterior >= 0.9)


def test_the_planned_threshold_follows_how_good_people_are() -> None:
    def people(accuracy: float) -> Floats:
        matrix = np.full((3, 3), (1 - accuracy) / 2)
        np.fill_diagonal(matrix, accuracy)
        return np.stack([matrix] * 8)

    shares = np.full(3, 1 / 3)
    policy = OverlapPolicy(start=1, most=5)
    planned = [plan_threshold(shares, people(accuracy), policy) for accuracy in (0.6, 0.75, 0.9)]
    assert planned == sorted(planned)
    assert 0.5 <= planned[0] < planned[2] < 1.0
    assert plan_threshold(shares, people(0.75), policy) == planned[1]  # it repeats
    assert plan_threshold(shares, people(0.75), policy, fixed=1) == 0.5  # the first answer always does
