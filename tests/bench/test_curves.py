"""How many labels a curve needs: hand-made curves with known answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.support.curves import labels_needed, mean_curve, ratio_interval

RISING = [(100, 0.5), (200, 0.7), (300, 0.9), (400, 1.0)]


def test_the_crossing_lies_between_two_points() -> None:
    assert labels_needed([RISING], 0.8) == pytest.approx(250)


def test_a_crossing_that_does_not_stay_does_not_count() -> None:
    dip = [(100, 0.5), (200, 0.96), (300, 0.9), (400, 1.0)]
    assert labels_needed([dip], 0.95) == pytest.approx(350)


def test_the_mean_of_the_seeds_is_what_crosses() -> None:
    slow = [(100, 0.3), (200, 0.5), (300, 0.7), (400, 0.8)]
    grid, mean = mean_curve([RISING, slow])
    assert grid.tolist() == [100, 200, 300, 400]
    assert mean == pytest.approx([0.4, 0.6, 0.8, 0.9])
    assert labels_needed([RISING, slow], 0.8) == pytest.approx(300)


def test_a_level_that_is_never_reached_costs_everything() -> None:
    assert labels_needed([RISING], 1.1) == 400


def test_a_level_that_is_always_reached_costs_the_start() -> None:
    assert labels_needed([RISING], 0.4) == 100


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.2, 5.0))
def test_a_side_that_needs_a_multiple_of_the_labels_has_that_ratio(scale: float) -> None:
    scaled = [(round(count * 1000 * scale), value) for count, value in RISING]
    base = [(count * 1000, value) for count, value in RISING]
    low, high = ratio_interval({"one": [scaled, scaled]}, {"one": [base, base]}, 0.8)
    assert low == pytest.approx(scale, rel=0.01)
    assert high == pytest.approx(scale, rel=0.01)


def test_the_interval_contains_the_ratio_and_widens_with_the_seeds_spread() -> None:
    fast = [(100, 0.7), (200, 0.9), (300, 1.0), (400, 1.0)]
    base = {"one": [RISING, RISING, RISING]}
    narrow = ratio_interval({"one": [fast, fast, fast]}, base, 0.8)
    wide = ratio_interval({"one": [fast, RISING, fast]}, base, 0.8)
    assert narrow[0] == narrow[1] == pytest.approx(150 / 250)
    assert wide[0] < labels_needed([fast, RISING, fast], 0.8) / 250 < wide[1]
