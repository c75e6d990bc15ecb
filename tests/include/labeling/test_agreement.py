"""Agreement figures against published values, and laws they must obey on any answers."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.labeling.aggregation.votes import Votes
from include.labeling.agreement import (
    Confusion,
    Level,
    alpha,
    alpha_by_class,
    alpha_by_slice,
    alpha_with_interval,
    confusions,
    guideline_notes,
    interval,
    masi,
    mean_pairwise_f1,
    mean_with_interval,
    nominal,
    nominal_alpha,
    ordinal,
    pairwise_kappa,
    soft_span_f1,
    span_alpha,
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
    return float(1 - (len(flat) - 1) * observed / expected)


def test_canonical_table_has_its_published_nominal_alpha() -> None:
    assert nominal_alpha(value_counts(canonical_units())) == pytest.approx(0.743, abs=0.0005)


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
    assert alpha_with_interval(value_counts([["a"]])) is None


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
        agreement = alpha_with_interval(value_counts(answers))
        assert agreement is not None
        assert agreement.n == 200
        covered += agreement.low <= 0.36 <= agreement.high
    assert covered >= 88


@pytest.mark.parametrize(
    ("level", "published"), [(nominal, 0.743), (ordinal, 0.815), (interval([1, 2, 3, 4, 5]), 0.849)]
)
def test_canonical_table_has_its_published_alpha_at_every_level(level: Level, published: float) -> None:
    counts = value_counts(canonical_units(), ["1", "2", "3", "4", "5"])
    assert alpha(counts, level) == pytest.approx(published, abs=0.0005)
    found = alpha_with_interval(counts, level)
    assert found is not None
    assert found.value == alpha(counts, level)
    assert found.low < found.value < found.high < 1.0
    assert found.n == 11  # one unit has a single answer


def test_masi_distances_are_those_of_passonneau() -> None:
    values = [frozenset("a"), frozenset("ab"), frozenset("bc"), frozenset("d")]
    distances = masi(values)(np.ones(4))
    assert distances[0, 0] == 0.0
    assert distances[0, 1] == pytest.approx(1 - 1 / 2 * 2 / 3)
    assert distances[1, 2] == pytest.approx(1 - 1 / 3 * 1 / 3)
    assert distances[0, 3] == 1.0
    # Sets with one label each are classes: the same figure as nominal alpha.
    single = [frozenset(value) for value in "12345"]
    counts = value_counts(canonical_units(), list("12345"))
    assert alpha(counts, masi(single)) == pytest.approx(0.743, abs=0.0005)


@given(st.lists(st.lists(st.integers(0, 3), min_size=0, max_size=4), max_size=8))
def test_alpha_equals_its_definition_for_any_distance(data: list[list[int]]) -> None:
    distance = np.array([[0.0, 1, 4, 9], [1, 0, 1, 4], [4, 1, 0, 1], [9, 4, 1, 0]])
    paired = [unit for unit in data if len(unit) >= 2]
    flat = [value for unit in paired for value in unit]
    expected = sum(distance[a, b] for a, b in permutations(flat, 2))
    found = alpha(value_counts(data, [0, 1, 2, 3]), interval([0, 1, 2, 3]))
    if not expected:
        assert found is None
        return
    observed = sum(sum(distance[a, b] for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in paired)
    # The pairing correction of alpha, n - 1 over all n (n - 1) pairs of different answers.
    assert found == pytest.approx(1 - (len(flat) - 1) * observed / expected)


def test_alpha_by_class_finds_the_class_people_do_not_recognise() -> None:
    units = [["a", "a"]] * 20 + [["b", "b"]] * 20 + [["c", "b"], ["b", "c"], ["c", "c"]] * 5
    by_class = alpha_by_class(value_counts(units, ["a", "b", "c"]))
    values = [one.value for one in by_class if one is not None]
    assert len(values) == 3
    assert values[0] == pytest.approx(1.0)
    assert values[2] < values[1] < 1.0


def test_alpha_by_slice_separates_what_the_whole_hides() -> None:
    units = [["a", "a"], ["b", "b"]] * 20 + [["a", "b"], ["b", "a"]] * 20
    slices = ["lang=en"] * 40 + ["lang=de"] * 40
    found = alpha_by_slice(value_counts(units), slices)
    english, german = found["lang=en"], found["lang=de"]
    assert english is not None
    assert german is not None
    assert english.value == pytest.approx(1.0)
    assert german.value < 0
    assert (english.n, german.n) == (40, 40)


def test_span_alpha_forgives_a_near_miss_and_not_another_place() -> None:
    near = [[frozenset({(10, 30, "name")}), frozenset({(10, 29, "name")})]] * 5
    apart = [[frozenset({(10, 30, "name")}), frozenset({(40, 60, "name")})]] * 5
    close, far = span_alpha(near, [100] * 5), span_alpha(apart, [100] * 5)
    assert close is not None
    assert far is not None
    assert close.value > 0.95
    assert far.value < 0
    assert close.n == 5
    # From the definition: 2 · 5 · 100 characters, 39 · 5 of them in the span, 2 · 5 disagreeing answers.
    n, marked = 1000, 195
    assert close.value == pytest.approx(1 - (n - 1) * 10 / (2 * marked * (n - marked)))
    assert span_alpha([], []) is None


@given(st.frozensets(span, max_size=4), st.frozensets(span, max_size=4))
def test_soft_span_f1_is_symmetric_and_one_for_equal_marks(one: frozenset[Any], other: frozenset[Any]) -> None:
    assert soft_span_f1(one, other) == soft_span_f1(other, one)
    assert 0.0 <= soft_span_f1(one, other) <= 1.0
    assert soft_span_f1(one, one) == 1.0


def test_soft_span_f1_counts_characters() -> None:
    assert soft_span_f1(frozenset({(0, 10, "a")}), frozenset({(5, 10, "a")})) == pytest.approx(2 * 5 / 15)
    assert soft_span_f1(frozenset({(0, 10, "a")}), frozenset({(0, 10, "b")})) == 0.0
    assert soft_span_f1(frozenset({(0, 10, "a")}), frozenset()) == 0.0


def cohen_votes(table: list[list[int]]) -> Votes:
    """Two workers' answers with this cross table."""
    pairs = [(a, b) for a, row in enumerate(table) for b, count in enumerate(row) for _ in range(count)]
    n = len(pairs)
    labels = np.array([label for pair in pairs for label in pair])
    return Votes(np.repeat(np.arange(n), 2), np.tile([0, 1], n), labels, n, 2, len(table))


def test_kappa_has_its_textbook_value() -> None:
    # Cohen's kappa of 20, 5, 10, 15: observed .7, expected .5 (a standard textbook example).
    (found,) = pairwise_kappa(cohen_votes([[20, 5], [10, 15]]), least=1)
    assert (found.workers, found.n) == ((0, 1), 50)
    assert found.kappa == pytest.approx(0.4)
    assert pairwise_kappa(cohen_votes([[20, 5], [10, 15]]), least=51) == []
    (same,) = pairwise_kappa(cohen_votes([[5, 0], [0, 0]]), least=1)
    assert same.kappa is None


def test_kappa_does_not_care_in_which_order_answers_came() -> None:
    votes = cohen_votes([[20, 5], [10, 15]])
    order = np.random.default_rng(4).permutation(len(votes))
    mixed = Votes(votes.items[order], votes.workers[order], votes.labels[order], 50, 2, 2)
    (found,) = pairwise_kappa(mixed, least=1)
    assert found.kappa == pytest.approx(0.4)


def confused_votes() -> Votes:
    """Items 0-5: classes 0 and 1; item 6: 1 and 2; items 7-9: both said 2; item 10: one answer."""
    answers = [(0, 1)] * 6 + [(1, 2)] + [(2, 2)] * 3
    items = np.array([i for i in range(10) for _ in range(2)] + [10])
    workers = np.array([0, 1] * 10 + [0])
    return Votes(items, workers, np.array([label for pair in answers for label in pair] + [0]), 11, 2, 3)


def test_confusions_name_the_worst_pair_first_with_examples() -> None:
    first, second = confusions(confused_votes())
    assert first == Confusion((0, 1), records=6, of_records=7, share=6 / 7, examples=[0, 1, 2])
    assert (second.classes, second.records, second.examples) == ((1, 2), 1, [6])


def test_guideline_notes_say_which_classes_and_show_three_records() -> None:
    notes = guideline_notes(confusions(confused_votes(), most=1), ["spam", "news", "ham"], lambda item: f"text\n{item}")
    assert notes.startswith("**spam** and **news** are mixed up: of 7 records")
    assert notes.count("\n- text ") == 3
    assert guideline_notes([], ["spam"], str) == ""


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
