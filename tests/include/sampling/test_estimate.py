"""Estimates that are right on average, with intervals that mean what they say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from include.sampling.draw import seed_bits
from include.sampling.estimate import (
    FITTED,
    Response,
    calibrate,
    estimate_classes,
    estimate_share,
    pool,
    responses,
    wilson_interval,
)
from include.sampling.mixture import Entry, draw, part_of
from include.sampling.strategies import Candidates, Margin, Random

CYCLES = 300


def population(random, size: int, skill: float, optimism: float):
    """Confidences of a binary model and whether it is right; ``optimism`` is how far it overrates itself."""
    confidence = 0.5 + 0.5 * random.beta(skill, 1.0, size)
    correct = random.random(size) < confidence - optimism * (1.0 - confidence)
    return confidence, correct.astype(float)


def drawn(random, confidence, size: int, random_share: float):
    """A batch as the sampling step draws it: some at random, the rest mostly uncertain ones; positions and chances."""
    candidates = Candidates(len(confidence), {"margin": 2.0 * confidence - 1.0})
    entries = [Entry("random", Random(), random_share), Entry("margin", Margin(), 1.0 - random_share)]
    ids = random.integers(0, 2**64, len(confidence), dtype=np.uint64)
    cycle = random.integers(0, 2**62)
    part = part_of(entries, candidates, ids)
    chosen = draw(entries, [part], size=size, seed_of=lambda n: seed_bits(cycle, n), floor_share=0.1).chosen
    return np.array([one.position for one in chosen]), np.array([one.inclusion_probability for one in chosen])


@pytest.mark.parametrize(
    ("size", "random_share", "skill", "optimism"),
    [(400, 0.1, 2.0, 0.5), (100, 0.4, 2.0, 0.5), (400, 0.2, 1.0, 0.0), (200, 0.4, 6.0, 0.3)],
)
def test_intervals_cover_the_truth_where_the_plain_mean_does_not(size, random_share, skill, optimism):
    random = np.random.default_rng(11)
    covered = naive = 0
    errors = []
    for _ in range(CYCLES):
        confidence, correct = population(random, 4000, skill, optimism)
        chosen, chance = drawn(random, confidence, size, random_share)
        estimate = estimate_share(confidence, correct[chosen], confidence[chosen], chance)
        truth, mean = correct.mean(), correct[chosen].mean()
        covered += estimate.low <= truth <= estimate.high
        naive += abs(mean - truth) <= 1.96 * math.sqrt(mean * (1 - mean) / size)
        errors.append(estimate.value - truth)
    assert 0.92 <= covered / CYCLES <= 0.98
    assert naive / CYCLES < 0.6
    assert abs(np.mean(errors)) < 4 * np.std(errors) / math.sqrt(CYCLES) + 0.002


def test_uncertainty_sampling_with_pi_beats_the_random_slice_of_the_same_batch():
    random = np.random.default_rng(3)
    errors = {"batch": [], "slice": []}
    for _ in range(200):
        confidence, correct = population(random, 4000, 2.0, 0.3)
        chosen, chance = drawn(random, confidence, 400, 0.2)
        estimate = estimate_share(confidence, correct[chosen], confidence[chosen], chance)
        errors["batch"].append(estimate.value - correct.mean())
        errors["slice"].append(correct[chosen[:80]].mean() - correct.mean())
    assert np.std(errors["batch"]) < 0.7 * np.std(errors["slice"])


def test_an_estimate_worked_out_by_hand():
    estimate = estimate_share(
        np.array([0.9, 0.8, 0.7, 0.6]), np.array([1.0, 0.0]), np.array([0.9, 0.6]), np.array([0.25, 0.5])
    )
    # 0.75 + (0.1 * 4 - 0.6 * 2) / (4 + 2)
    assert estimate.value == pytest.approx(0.75 - 0.8 / 6)
    assert estimate.n == 2


def test_a_census_is_the_truth_without_width():
    correct = np.array([1.0, 0.0, 1.0, 1.0])
    estimate = estimate_share(np.full(4, 0.9), correct, np.full(4, 0.9), np.ones(4))
    assert estimate.value == pytest.approx(0.75)
    assert estimate.low == estimate.high == estimate.value


def test_all_right_is_not_certainty():
    estimate = estimate_share(np.full(1000, 0.95), np.ones(50), np.full(50, 0.95), np.full(50, 0.05))
    assert estimate.value == pytest.approx(1.0)
    assert 0.9 < estimate.low < 0.96  # Wilson's plain interval for 50 of 50 begins at 0.929
    assert estimate.high == 1.0


shares = st.floats(0.0, 1.0)
samples = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), shares, st.floats(0.001, 1.0)), min_size=1, max_size=30)


@settings(deadline=None)
@given(samples, st.lists(shares, min_size=1, max_size=30))
def test_the_interval_is_finite_ordered_and_within_bounds(sample, everyone):
    correct, confidence, chance = (np.array(column) for column in zip(*sample, strict=True))
    estimate = estimate_share(np.array(everyone), correct, confidence, chance)
    assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0
    assert estimate.n_effective > 0
    order = np.argsort(chance, kind="stable")
    again = estimate_share(np.array(everyone), correct[order], confidence[order], chance[order])
    assert again.value == pytest.approx(estimate.value)
    assert again.low == pytest.approx(estimate.low)


@settings(deadline=None)
@given(samples, st.floats(0.1, 1.0))
def test_only_the_ratios_of_the_chances_matter_for_the_value(sample, rate: float):
    correct, confidence, chance = (np.array(column) for column in zip(*sample, strict=True))
    one = estimate_share(confidence, correct, confidence, chance)
    other = estimate_share(confidence, correct, confidence, chance * rate)
    assert other.value == pytest.approx(one.value)
    assert other.high - other.low >= one.high - one.low - 1e-9  # fewer answers, never a narrower interval


@settings(deadline=None)
@given(st.integers(1, 500), st.data())
def test_wilson_agrees_with_scipy(n: int, data):
    correct = data.draw(st.integers(0, n))
    expected = binomtest(correct, n).proportion_ci(method="wilson")
    assert wilson_interval(correct / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_pooling_the_halves_of_a_sample_is_about_the_whole():
    random = np.random.default_rng(2)
    confidence, correct = population(random, 4000, 2.0, 0.3)
    picked = random.choice(4000, 400, replace=False)
    halves = [
        estimate_share(confidence, correct[part], confidence[part], np.full(200, 0.05))
        for part in (picked[:200], picked[200:])
    ]
    whole = estimate_share(confidence, correct[picked], confidence[picked], np.full(400, 0.05))
    pooled = pool(halves)
    assert pooled.n == 400
    assert pooled.value == pytest.approx(whole.value, abs=1e-9)
    assert pooled.high - pooled.low == pytest.approx(whole.high - whole.low, rel=0.05)


@pytest.mark.parametrize(
    ("everyone", "correct", "confidence", "chance", "message"),
    [
        ([], [1.0], [0.5], [0.5], "needs a population"),
        ([0.5], [], [], [], "needs a population"),
        ([0.5], [1.0, 0.0], [0.5], [0.5], "shapes differ"),
        ([0.5], [1.0], [0.5], [0.0], "must lie in"),
        ([0.5], [1.0], [0.5], [1.1], "must lie in"),
    ],
)
def test_nonsense_is_refused(everyone, correct, confidence, chance, message):
    with pytest.raises(ValueError, match=message):
        estimate_share(*(np.array(one) for one in (everyone, correct, confidence, chance)))


def test_calibration_makes_the_interval_narrower_and_keeps_its_promise():
    """A model whose confidence says nothing: as a control it only adds noise."""
    random = np.random.default_rng(5)
    covered, widths = 0, {"raw": [], "calibrated": []}
    for _ in range(CYCLES):
        confidence = 0.5 + 0.5 * random.random(4000)
        correct = (random.random(4000) < 0.75).astype(float)
        chosen, chance = drawn(random, confidence, 300, 0.2)
        control = calibrate(confidence[chosen], correct[chosen], chance, confidence)
        estimate = estimate_share(control, correct[chosen], control[chosen], chance, fitted=FITTED)
        raw = estimate_share(confidence, correct[chosen], confidence[chosen], chance)
        covered += estimate.low <= correct.mean() <= estimate.high
        widths["calibrated"].append(estimate.high - estimate.low)
        widths["raw"].append(raw.high - raw.low)
    assert 0.92 <= covered / CYCLES <= 0.98
    assert np.mean(widths["calibrated"]) < np.mean(widths["raw"])


def test_a_calibrated_model_is_left_about_as_it_is_and_few_labels_change_nothing():
    random = np.random.default_rng(1)
    confidence = random.random(20_000)
    correct = (random.random(20_000) < confidence).astype(float)
    everyone = np.linspace(0.01, 0.99, 50)
    assert calibrate(confidence, correct, np.ones(20_000), everyone) == pytest.approx(everyone, abs=0.02)
    assert (calibrate(confidence[:20], correct[:20], np.ones(20), everyone) == everyone).all()
    hostile = calibrate(confidence, 1.0 - correct, np.ones(20_000), everyone)
    assert hostile == pytest.approx(1.0 - everyone, abs=0.02)


@pytest.mark.parametrize("certain", [0.0, 1.0])
def test_calibration_survives_labels_that_all_agree(certain: float):
    everyone = calibrate(np.full(60, 1.0), np.full(60, certain), np.full(60, 0.1), np.array([0.0, 0.5, 1.0]))
    assert np.isfinite(everyone).all()
    assert ((everyone >= 0) & (everyone <= 1)).all()


def test_prevalence_and_recall_of_each_class_are_covered():
    """Three classes, one of them rare, and a model with errors; labels of uncertain records are over-represented."""
    random = np.random.default_rng(21)
    classes = ["a", "b", "rare"]
    covered = {(name, figure): 0 for name in classes for figure in ("prevalence", "recall")}
    without = 0
    for _ in range(CYCLES):
        truth = random.choice(3, 4000, p=[0.6, 0.3, 0.1])
        scores = random.normal(size=(4000, 3)) + 2.2 * np.eye(3)[truth]
        chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        ordered = np.sort(chances, axis=1)
        confidence = (1.0 + ordered[:, -1] - ordered[:, -2]) / 2.0
        chosen, chance = drawn(random, confidence, 400, 0.3)
        labels = [classes[one] for one in truth[chosen]]
        figures = estimate_classes(classes, chances, chances[chosen], labels, chance)
        said = chances.argmax(axis=1)
        for number, name in enumerate(classes):
            is_so = truth == number
            prevalence, recall = figures[name].prevalence, figures[name].recall
            covered[name, "prevalence"] += prevalence.low <= is_so.mean() <= prevalence.high
            if recall is None:
                without += 1
                continue
            covered[name, "recall"] += recall.low <= (said[is_so] == number).mean() <= recall.high
    assert without == 0
    assert {key: share / CYCLES for key, share in covered.items() if not 0.91 <= share / CYCLES <= 0.985} == {}


def test_a_class_without_labels_has_a_prevalence_but_no_recall():
    chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    figures = estimate_classes(["a", "b"], chances, chances[:2], ["a", "a"], np.array([0.5, 0.5]))
    assert figures["b"].recall is None
    assert figures["b"].prevalence.n == 2
    assert figures["a"].recall is not None
    assert figures["a"].recall.value == pytest.approx(1.0, abs=0.2)


def test_labels_of_a_class_the_model_does_not_know_count_against_the_others():
    chances = np.full((4, 2), 0.5)
    figures = estimate_classes(["a", "b"], chances, chances, ["a", "new", "new", "b"], np.ones(4))
    assert [figures[name].prevalence.value for name in ("a", "b")] == [0.25, 0.25]


def test_non_response_is_made_up_for_within_its_stratum_and_reported():
    rates, report = responses(["margin", "random", "margin", "random"], np.array([True, True, False, True]))
    assert rates.tolist() == [0.5, 1.0, 0.5, 1.0]
    assert report == [Response("margin", 2, 1), Response("random", 2, 2)]
    assert [one.rate for one in report] == [0.5, 1.0]


def test_estimates_are_right_when_people_leave_the_hard_frame_unanswered():
    random = np.random.default_rng(9)
    covered, errors, naive = 0, [], []
    for _ in range(CYCLES):
        confidence, correct = population(random, 4000, 2.0, 0.5)
        chosen, chance = drawn(random, confidence, 400, 0.3)
        strata = np.where(np.arange(400) < 120, "random", "margin")
        answered = random.random(400) < np.where(strata == "random", 0.95, 0.5)
        rates, _ = responses(strata.tolist(), answered)
        got = chosen[answered]
        estimate = estimate_share(confidence, correct[got], confidence[got], (chance * rates)[answered])
        plain = estimate_share(confidence, correct[got], confidence[got], chance[answered])
        covered += estimate.low <= correct.mean() <= estimate.high
        errors.append(estimate.value - correct.mean())
        naive.append(plain.value - correct.mean())
    assert 0.92 <= covered / CYCLES <= 0.985
    assert abs(np.mean(errors)) < 4 * np.std(errors) / math.sqrt(CYCLES) + 0.002
    assert len(naive) == CYCLES
