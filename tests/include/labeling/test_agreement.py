"""Agreement figures against published values, and laws they must obey on any answers."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.labeling.agreement import (
    alpha_with_interval,
    mean_pairwise_f1,
    mean_with_interval,
    nominal_alpha,
    span_f1,
    value_counts,
)

# Krippendorff 2011, the canonical reliability data: four observers, twelve units, missing answers as dots.
CANONICAL = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
# Tables of equally many answers per unit, as counts per value, with the Fleiss' kappa published for them.
PSYCHIATRISTS = """00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031 00501
30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"""  # Fleiss 1971, table 1
FOURTEEN_RATERS = "0 0 0 0 14|0 2 6 4 2|0 0 3 5 6|0 3 9 2 0|2 2 8 1 1|7 7 0 0 0|3 2 6 3 0|2 5 3 2 2|6 5 2 1 0|0 2 2 3 7"
FLEISS_TABLES = [
    ([[int(digit) for digit in row] for row in PSYCHIATRISTS.split()], 0.430),
    ([[int(count) for count in row.split()] for row in FOURTEEN_RATERS.split("|")], 0.2099),
]

span = st.tuples(st.integers(0, 5), st.integers(6, 9), st.sampled_from("ab"))
unit = st.lists(st.sampled_from("abc"), max_size=5)
units = st.lists(unit, max_size=12)


def canonical_units() -> list[list[str]]:
    return [[value for value in unit if value != "."] for unit in zip(*(row.split() for row in CANONICAL), strict=True)]


def reference_alpha(data: list[list[Any]]) -> float | None:
    """Alpha from first principles: disagreeing ordered pairs, each weighted by 1 / (m − 1), against chance."""
    paired = [unit for unit in data if len(unit) >= 2]
    flat = [value for unit in paired for value in unit]
    expected = sum(a != b for a, b in permutations(flat, 2))
    if not expected:
        return None
    observed = sum(sum(a != b for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in paired)
    return 1 - (len(flat) - 1) * observed / expected


def test_canonical_table_has_its_published_nominal_alpha() -> None:
    alpha = nominal_alpha(value_counts(canonical_units()))
    assert alpha == pytest.approx(0.743, abs=0.0005)


@pytest.mark.parametrize(("table", "kappa"), FLEISS_TABLES)
def test_fleiss_tables_have_their_published_agreement(table: list[list[int]], kappa: float) -> None:
    counts = np.array(table)
    alpha, n = nominal_alpha(counts), counts.sum()
    assert alpha is not None
    # Without missing answers the two differ only in the small-sample term: 1 - alpha = (1 - kappa) (n - 1) / n.
    assert 1 - (1 - alpha) * n / (n - 1) == pytest.approx(kappa, abs=0.0005)


def test_alpha_is_undefined_without_pairs_or_variation() -> None:
    assert nominal_alpha(value_counts([["a"], ["b"], []])) is None
    assert nominal_alpha(value_counts([["a", "a"], ["a", "a"]])) is None
    assert nominal_alpha(value_counts([])) is None
    assert alpha_with_interval(value_counts([["a"]]), seed=1) is None


@given(units)
def test_alpha_equals_the_definition(data: list[list[str]]) -> None:
    alpha, reference = nominal_alpha(value_counts(data)), reference_alpha(data)
    assert (alpha is None) == (reference is None)
    if alpha is not None and reference is not None:
        assert alpha == pytest.approx(reference)
        assert alpha <= 1.0


@given(units, st.randoms(use_true_random=False))
def test_alpha_ignores_order_and_the_names_of_values(data: list[list[str]], random: Any) -> None:
    shuffled = [[{"a": "x", "b": "y", "c": "z"}[value] for value in unit] for unit in data]
    random.shuffle(shuffled)
    for one in shuffled:
        random.shuffle(one)
    alpha, other = nominal_alpha(value_counts(data)), nominal_alpha(value_counts(shuffled))
    assert (alpha is None) == (other is None)
    if alpha is not None and other is not None:
        assert math.isclose(alpha, other, abs_tol=1e-9)


def test_perfect_agreement_is_one_and_systematic_disagreement_below_zero() -> None:
    assert nominal_alpha(value_counts([["a", "a"], ["b", "b"]])) == pytest.approx(1.0)
    alpha = nominal_alpha(value_counts([["a", "b"]] * 10))
    assert alpha is not None
    assert alpha < 0


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Two raters who both see the truth with probability 0.8 among two values: alpha is 1 − 0.32 / 0.5 = 0.36.
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 2, 200)
        answers = [[int(t ^ (rng.random() < 0.2)) for _ in range(2)] for t in truth]
        agreement = alpha_with_interval(value_counts(answers), seed=seed)
        assert agreement is not None
        assert agreement.n == 200
        covered += agreement.low <= 0.36 <= agreement.high
    assert covered >= 88


def test_the_interval_repeats_with_its_seed() -> None:
    counts = value_counts(canonical_units())
    assert alpha_with_interval(counts, seed=5) == alpha_with_interval(counts, seed=5)


def test_the_mean_has_an_interval_around_it() -> None:
    found = mean_with_interval([0.0, 1.0, 1.0, 0.5], seed=3)
    assert found is not None
    assert found.low < found.value == 0.625 < found.high
    assert mean_with_interval([], seed=3) is None


@given(st.frozensets(span), st.frozensets(span))
def test_span_f1_is_symmetric_and_one_only_for_equals(one: frozenset[Any], other: frozenset[Any]) -> None:
    assert span_f1(one, other) == span_f1(other, one)
    assert (span_f1(one, other) == 1.0) == (one == other)
    assert 0.0 <= span_f1(one, other) <= 1.0


def test_pairwise_f1_of_known_answers() -> None:
    a, b = (0, 4, "x"), (5, 9, "y")
    assert mean_pairwise_f1([frozenset({a})]) == 1.0
    assert mean_pairwise_f1([frozenset({a, b}), frozenset({a})]) == pytest.approx(2 / 3)
    assert mean_pairwise_f1([frozenset({a}), frozenset({a}), frozenset()]) == pytest.approx(1 / 3)


@settings(max_examples=20)
@given(st.lists(st.frozensets(span), min_size=1, max_size=4))
def test_pairwise_f1_stays_in_bounds(answers: list[frozenset[Any]]) -> None:
    assert 0.0 <= mean_pairwise_f1(answers) <= 1.0
