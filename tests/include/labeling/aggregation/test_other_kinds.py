"""Multi-labels, ratings, rankings, spans and texts: known answers, and laws on any."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.labeling.aggregation.multi_labels import option_posteriors, vote_options
from include.labeling.aggregation.rankings import (
    BORDA,
    KEMENY,
    concordance,
    consensus,
    preferences,
    strengths,
)
from include.labeling.aggregation.ratings import fit_ratings, weighted_medians
from include.labeling.aggregation.spans import Span, vote_spans
from include.labeling.aggregation.texts import medoid, similarity

TEXT = "Dr. Ana Maria Lopez lives in New York, USA."
NAME, CITY = (4, 19, "name"), (29, 37, "city")


def test_options_are_voted_on_one_by_one() -> None:
    answers = [frozenset({"red", "round"}), frozenset({"red"}), frozenset({"red", "old"})]
    kept, posterior = vote_options(answers)
    assert kept == ["red"]
    assert posterior == pytest.approx((3.5 + 2.5 + 2.5) / 3 / 4)
    assert vote_options([frozenset()]) == ([], 0.75)


def test_option_posteriors_tell_reliable_people_from_guessers() -> None:
    rng = np.random.default_rng(1)
    answers, truths = [], []
    for item in range(200):
        truth = frozenset(option for option in ("a", "b") if rng.random() < 0.5)
        truths.append(truth)
        for worker, right in (("sure", 0.97), ("sane", 0.95), ("ann", 0.55), ("ben", 0.5), ("coin", 0.5)):
            chosen = frozenset(o for o in ("a", "b") if (o in truth) == (rng.random() < right))
            answers.append((item, worker, chosen))
    found = option_posteriors(answers, ["a", "b"])
    assert found.items == list(range(200))
    said = [frozenset(np.array(["a", "b"])[row > 0.5]) for row in found.posterior]
    voted = [
        frozenset(vote_options([chosen for number, _, chosen in answers if number == item])[0]) for item in range(200)
    ]
    right, right_by_vote = (sum(a == b for a, b in zip(one, truths, strict=True)) for one in (said, voted))
    assert right > right_by_vote + 20


def test_a_rater_who_is_always_higher_does_not_raise_what_only_they_rated() -> None:
    rng = np.random.default_rng(2)
    truth = rng.uniform(1, 9, 200)
    items, raters = np.repeat(np.arange(200), 3), np.tile(np.arange(3), 200)
    noise = np.array([0.2, 0.2, 2.0])[raters] * rng.standard_normal(600)
    values = truth[items] + np.array([0.0, 2.0, 0.0])[raters] + noise
    kept = ~((items < 20) & (raters != 1))  # the first 20 items are rated by the generous one only
    fit = fit_ratings(items[kept], raters[kept], values[kept], n_items=200, n_raters=3)
    assert fit.bias[1] - fit.bias[0] == pytest.approx(2.0, abs=0.2)
    assert fit.variance[2] > 5 * fit.variance[0]
    plain = values[(items < 20) & (raters == 1)]
    level = fit.mean[20:].mean() - truth[20:].mean()  # the scale's zero is everyone's mean bias
    assert np.abs(fit.mean[:20] - truth[:20] - level).mean() < np.abs(plain - truth[:20] - level).mean() / 2


def test_medians_are_weighted_and_the_lower_of_two_equals() -> None:
    items, values = np.array([0, 0, 0, 1, 1]), np.array([5.0, 1.0, 3.0, 4.0, 2.0])
    equal = weighted_medians(items, values, np.ones(5), n_items=3)
    assert equal[:2].tolist() == [3.0, 2.0]
    assert np.isnan(equal[2])
    assert weighted_medians(items, values, np.array([5.0, 1, 1, 1, 1]), n_items=3)[0] == 5.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=20))
def test_means_and_medians_stay_within_the_ratings_when_raters_are_alike(ratings: list[tuple[int, int]]) -> None:
    items, values = np.array([item for item, _ in ratings]), np.array([float(value) for _, value in ratings])
    fit = fit_ratings(items, np.zeros(len(items), dtype=np.int64), values, n_items=4, n_raters=1)
    for item in range(4):
        given = values[items == item]
        assert np.isnan(fit.mean[item]) == (len(given) == 0)
        if len(given):
            assert fit.median[item] in given
            assert given.min() - 1e-6 <= fit.mean[item] + fit.bias[0] <= given.max() + 1e-6


def ranks(*order: str) -> dict[str, int]:
    return {option: place for place, option in enumerate(order, start=1)}


def test_kemeny_follows_the_majority_where_borda_does_not() -> None:
    # Three of five put a first of all; the points of the other two would put b first.
    people = [ranks("a", "b", "c")] * 3 + [ranks("b", "c", "a")] * 2
    assert consensus(people, ["a", "b", "c"]) == (["a", "b", "c"], KEMENY)
    wins = preferences(people, ["a", "b", "c"])
    borda = wins.sum(axis=1)
    assert borda[1] > borda[0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.permutations(list("abcd")), min_size=1, max_size=6))
def test_kemeny_contradicts_the_fewest_pairs_of_all_orders(orders: list[list[str]]) -> None:
    people = [ranks(*order) for order in orders]
    wins = preferences(people, list("abcd"))

    def contradicted(order: tuple[str, ...] | list[str]) -> float:
        places = ["abcd".index(option) for option in order]
        return sum(float(wins[b, a]) for i, a in enumerate(places) for b in places[i + 1 :])

    found, method = consensus(people, list("abcd"))
    assert method == KEMENY
    assert contradicted(found) == min(contradicted(order) for order in permutations("abcd"))


def test_many_options_are_ranked_by_borda_and_missing_or_tied_ones_are_fine() -> None:
    options = [f"o{number:02d}" for number in range(12)]
    assert consensus([ranks(*options)] * 3, options) == (options, BORDA)
    tied = preferences([{"a": 1, "b": 1}, {"a": 1}], ["a", "b"])
    assert tied.tolist() == [[0.0, 0.5], [0.5, 0.0]]


def test_strengths_give_back_the_chances_they_were_made_from() -> None:
    # 6000 pairs with a before b in three of four: strengths 3 to 1.
    found = strengths([ranks("a", "b")] * 4500 + [ranks("b", "a")] * 1500, ["a", "b"])
    assert found["a"] == pytest.approx(0.75, abs=0.001)
    assert sum(found.values()) == pytest.approx(1.0)
    never = strengths([ranks("a", "b")] * 3, ["a", "b"])
    assert 0.5 < never["a"] < 1.0


def test_concordance_of_equal_opposite_and_single_rankings() -> None:
    options = ["a", "b", "c"]
    assert concordance([ranks("a", "b", "c")] * 2, options) == 1.0
    assert concordance([ranks("a", "b", "c"), ranks("c", "b", "a")], options) == 0.0
    assert concordance([ranks("a", "b", "c")], options) == 1.0


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        ([{NAME}, {NAME}, {CITY}], [NAME]),
        ([{NAME, CITY}] * 2, [NAME, CITY]),
        ([{NAME}, {(4, 13, "name")}, {(0, 19, "name")}], [NAME]),  # no two marked the same
        ([{NAME}, {(4, 19, "city")}], []),
        ([set(), set()], []),
        (
            [{(4, 7, "name"), (8, 19, "name")}] * 2 + [{NAME}],
            [(4, 7, "name"), (8, 19, "name")],  # neighbours stay two
        ),
        ([{(3, 19, "name")}, {(4, 20, "name")}], [NAME]),  # half a blank more or less
    ],
)
def test_token_votes(answers: list[set[Span]], kept: list[Span]) -> None:
    found = vote_spans([frozenset(answer) for answer in answers], TEXT)
    assert found.spans == sorted(kept)
    assert 0.5 <= found.posterior < 1.0


def test_the_posterior_of_a_token_vote_grows_with_people() -> None:
    posteriors = [vote_spans([frozenset({NAME})] * n, TEXT).posterior for n in (1, 2, 5)]
    assert posteriors == sorted(posteriors)
    assert posteriors[0] == pytest.approx(0.75)


token_spans = st.sampled_from([(0, 3, "a"), (4, 7, "a"), (4, 13, "b"), (8, 13, "a"), (29, 37, "b")])


@given(st.lists(st.frozensets(token_spans), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_token_votes_ignore_order_and_stay_inside_what_people_marked(
    answers: list[frozenset[Span]], random: object
) -> None:
    found = vote_spans(answers, TEXT)
    assert vote_spans(answers[::-1], TEXT) == found
    marked = {(p, label) for answer in answers for start, end, label in answer for p in range(start, end)}
    for start, end, label in found.spans:
        edges = {(start, label), (end - 1, label)}
        assert edges <= marked


def test_the_medoid_is_the_answer_nearest_to_the_others() -> None:
    answers = ["The cat sat on the mat", "the cat  sat on a mat", "A cat sat on the mat", "Dogs bark"]
    chosen, agreement = medoid(answers)
    assert chosen in answers[:3]
    assert 0.4 < agreement < 1.0
    assert medoid(["alone"]) == ("alone", 1.0)
    assert similarity("Same  TEXT", "same text") == 1.0
    assert similarity("abc", "xyz") < 0.3


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_the_medoid_is_one_of_the_answers_in_any_order(answers: list[str]) -> None:
    chosen, agreement = medoid(answers)
    assert chosen in answers
    assert 0.0 <= agreement <= 1.0
    assert medoid(answers[::-1])[1] == pytest.approx(agreement)
