"""Production accuracy: an estimate that is right on average, with an interval that means what it says."""

import math
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from include.errors import TrainingError
from include.lake import keys
from include.monitoring.accuracy import (
    _batch_estimates,
    estimate_accuracy,
    measure_accuracy,
    pool,
    wilson_interval,
)
from include.monitoring.champion import champion_pointer
from include.sampling.draw import margin_weights, priority_draw
from tests.include.monitoring.conftest import FROZEN
from tests.include.training.world import World, mixed

NOW = FROZEN + timedelta(days=3)
CYCLES = 300


def population(random, size: int, skill: float, optimism: float):
    """Confidences of a binary model and whether it is right; ``optimism`` is how far it overrates itself."""
    confidence = 0.5 + 0.5 * random.beta(skill, 1.0, size)
    correct = random.random(size) < confidence - optimism * (1.0 - confidence)
    return confidence, correct.astype(float)


def drawn(random, confidence, size: int, random_share: float):
    """A batch as the sampling step draws it: some at random, the rest mostly uncertain ones; positions and chances."""
    total, at_random = len(confidence), int(size * random_share)
    margin = 2.0 * confidence - 1.0
    first = priority_draw(np.ones(total), random.random(total), at_random)
    rest = np.setdiff1d(np.arange(total), first.chosen)
    weights = margin_weights(margin[rest], 0.1)
    second = priority_draw(weights, random.random(len(rest)), size - at_random)
    chance = np.empty(total)
    chance[rest] = second.probability
    floor = float(weights.mean()) * 0.1 / 1.1
    chance[first.chosen] = np.minimum(1.0, ((1.0 - margin[first.chosen]) ** 2 + floor) * second.threshold)
    chosen = np.concatenate([first.chosen, rest[second.chosen]])
    return chosen, (1.0 - (1.0 - chance) * (1.0 - first.probability[0]))[chosen]


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
        estimate = estimate_accuracy(confidence, correct[chosen], confidence[chosen], chance)
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
        estimate = estimate_accuracy(confidence, correct[chosen], confidence[chosen], chance)
        errors["batch"].append(estimate.value - correct.mean())
        errors["slice"].append(correct[chosen[:80]].mean() - correct.mean())
    assert np.std(errors["batch"]) < 0.7 * np.std(errors["slice"])


def test_an_estimate_worked_out_by_hand():
    estimate = estimate_accuracy(
        np.array([0.9, 0.8, 0.7, 0.6]), np.array([1.0, 0.0]), np.array([0.9, 0.6]), np.array([0.25, 0.5])
    )
    # 0.75 + (0.1 * 4 - 0.6 * 2) / (4 + 2)
    assert estimate.value == pytest.approx(0.75 - 0.8 / 6)
    assert estimate.n == 2


def test_a_census_is_the_truth_without_width():
    correct = np.array([1.0, 0.0, 1.0, 1.0])
    estimate = estimate_accuracy(np.full(4, 0.9), correct, np.full(4, 0.9), np.ones(4))
    assert estimate.value == pytest.approx(0.75)
    assert estimate.low == estimate.high == estimate.value


def test_all_right_is_not_certainty():
    estimate = estimate_accuracy(np.full(1000, 0.95), np.ones(50), np.full(50, 0.95), np.full(50, 0.05))
    assert estimate.value == pytest.approx(1.0)
    assert 0.9 < estimate.low < 0.96  # Wilson's plain interval for 50 of 50 begins at 0.929
    assert estimate.high == 1.0


shares = st.floats(0.0, 1.0)
samples = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), shares, st.floats(0.001, 1.0)), min_size=1, max_size=30)


@settings(deadline=None)
@given(samples, st.lists(shares, min_size=1, max_size=30))
def test_the_interval_is_finite_ordered_and_within_bounds(sample, everyone):
    correct, confidence, chance = (np.array(column) for column in zip(*sample, strict=True))
    estimate = estimate_accuracy(np.array(everyone), correct, confidence, chance)
    assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0
    assert estimate.n_effective > 0
    order = np.argsort(chance, kind="stable")
    again = estimate_accuracy(np.array(everyone), correct[order], confidence[order], chance[order])
    assert again.value == pytest.approx(estimate.value)
    assert again.low == pytest.approx(estimate.low)


@settings(deadline=None)
@given(samples, st.floats(0.1, 1.0))
def test_only_the_ratios_of_the_chances_matter_for_the_value(sample, rate: float):
    correct, confidence, chance = (np.array(column) for column in zip(*sample, strict=True))
    one = estimate_accuracy(confidence, correct, confidence, chance)
    other = estimate_accuracy(confidence, correct, confidence, chance * rate)
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
        estimate_accuracy(confidence, correct[part], confidence[part], np.full(200, 0.05))
        for part in (picked[:200], picked[200:])
    ]
    whole = estimate_accuracy(confidence, correct[picked], confidence[picked], np.full(400, 0.05))
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
        estimate_accuracy(*(np.array(one) for one in (everyone, correct, confidence, chance)))


def test_without_a_champion_there_is_no_figure(world: World):
    answer = measure_accuracy(world.project, world.lake, cycle="c1", now=NOW)
    assert (answer["value"], answer["why"]) == (None, "No accuracy figure: there is no champion yet.")
    assert world.lake.version("metrics") == -1


def test_before_new_labels_the_holdout_stands_in(crowned: World):
    answer = measure_accuracy(crowned.project, crowned.lake, cycle="c1", now=NOW)
    assert (answer["value"], answer["low"], answer["high"], answer["n"]) == (0.8, 0.66, 0.89, 45)
    assert answer["method"] == "holdout_wilson"
    row = crowned.lake.read("metrics", crowned.project.name).row(0, named=True)
    assert (row["name"], row["value"], row["method"], row["n"]) == ("accuracy", 0.8, "holdout_wilson", 45)


def new_batch(world: World, *, count=200, asked=60, right=0.75, batch="b2", day=2, chance=0.3, **columns):
    """Mails the champion is confident about; ``right`` of each hundred rightly so; some are selected."""
    at = FROZEN + timedelta(days=day)
    record_ids = world.records(mixed(count), name=batch, at=at - timedelta(hours=1))
    answers = [world.kinds[one] if number % 100 < 100 * right else "wrong" for number, one in enumerate(record_ids)]
    world.predict(record_ids, answers, [0.9] * count)
    chosen = record_ids[:: count // asked][:asked]
    world.select(chosen, batch=batch, at=at, inclusion_probability=chance, model_version="v1", **columns)
    return chosen


def test_labels_of_later_batches_estimate_the_champion_once_per_cycle(crowned: World):
    chosen = new_batch(crowned)
    crowned.label(chosen)
    answer = measure_accuracy(crowned.project, crowned.lake, cycle="c1", now=NOW)
    right = np.mean([number % 100 < 75 for number in range(0, 180, 3)])
    assert answer["method"] == "hajek_difference"
    assert answer["n"] == 60
    assert answer["value"] == pytest.approx(right)  # equal confidences and chances: the plain mean
    assert answer["low"] < answer["value"] < answer["high"]
    assert "60 labels of 1 batches" in answer["why"]
    # An asset event takes plain values only; NumPy's are refused.
    assert {type(value) for value in answer.values()} <= {float, int, str, bool}
    assert measure_accuracy(crowned.project, crowned.lake, cycle="c1", now=NOW + timedelta(hours=1)) == answer
    assert crowned.lake.read("metrics", crowned.project.name, newest=False).height == 1


def test_records_that_trained_the_champion_never_estimate_it(crowned: World):
    trained = list(crowned.kinds)
    crowned.predict(trained, ["wrong"] * 40, [0.9] * 40)  # would pull the figure down to nothing
    crowned.label(new_batch(crowned, right=1.0))
    assert measure_accuracy(crowned.project, crowned.lake, cycle="c1", now=NOW)["value"] == pytest.approx(1.0)


def test_gold_audit_and_unusable_labels_are_left_out(crowned: World):
    good = new_batch(crowned, right=1.0)
    crowned.label(good[:30])
    crowned.label(good[30:], status="needs_adjudication")
    for batch, columns in (("gold", {"gold": True}), ("audit", {"strategy": "audit"}), ("none", {"chance": None})):
        crowned.label(new_batch(crowned, batch=batch, right=0.0, **columns))
    answer = measure_accuracy(crowned.project, crowned.lake, cycle="c1", now=NOW)
    assert (answer["value"], answer["n"]) == (pytest.approx(1.0), 30)


def test_unanswered_records_are_made_up_for_within_their_strategy(crowned: World):
    at = FROZEN + timedelta(days=2)
    record_ids = crowned.records(mixed(200), name="b2", at=at)
    easy, hard = record_ids[:30], record_ids[30:60]
    crowned.predict(record_ids, ["wrong" if one in hard else crowned.kinds[one] for one in record_ids], [0.9] * 200)
    for chosen, strategy in ((easy, "random"), (hard, "margin")):
        crowned.select(chosen, batch="b2", at=at, strategy=strategy, inclusion_probability=0.3)
    crowned.label(easy[:10] + hard)
    answer = measure_accuracy(crowned.project, crowned.lake, cycle="c1", now=NOW)
    assert answer["n"] == 40
    assert answer["value"] == pytest.approx(0.5)  # 10 right answers stand for 30, 30 wrong ones for themselves


def test_the_population_is_what_the_batch_was_drawn_from(crowned: World):
    asked_before = list(crowned.kinds)
    crowned.label(new_batch(crowned, right=1.0))
    later = crowned.records(mixed(300), name="later", at=FROZEN + timedelta(days=5))
    refused = crowned.records(mixed(300), name="refused", consent=False)
    others = [*asked_before, *later, *refused]
    crowned.predict(others, ["spam"] * len(others), [0.4] * len(others))
    assert measure_accuracy(crowned.project, crowned.lake, cycle="c1", now=NOW)["value"] == pytest.approx(1.0)


def test_a_lost_snapshot_is_an_error(crowned: World):
    import obstore

    pointer = crowned.lake.files.get_json("champions/mails.json")
    obstore.delete(crowned.lake.files._client, f"snapshots/mails/{pointer['snapshot_id']}.parquet")
    with pytest.raises(TrainingError, match="is missing from the lake"):
        measure_accuracy(crowned.project, crowned.lake, cycle="c1", now=NOW)


def test_duplicates_count_once_in_the_population(crowned: World):
    """The batch was drawn from one record per group, so the estimate is about those."""
    (selected, other), confidences = crowned.records(mixed(2), name="later", at=FROZEN), [0.9, 0.5]
    copies = [keys.record_id(crowned.project.name, f"copy-{number}") for number in range(30)]
    crowned.hashes |= dict.fromkeys(copies, crowned.hashes[selected])
    head = {"revision": 1, "content_hash": crowned.hashes[selected], "ingested_at": FROZEN}
    crowned.write("records", [{"record_id": one, **head} for one in copies])
    at = FROZEN + timedelta(hours=1)
    crowned.select([selected], batch="b2", at=at, inclusion_probability=1.0)
    crowned.label([selected])
    kind = crowned.kinds[selected]
    crowned.predict([selected, other, *copies], [kind] * 32, [*confidences, *[0.9] * 30])
    pointer = champion_pointer(crowned.project, crowned.lake)
    assert pointer is not None
    (estimate,) = _batch_estimates(crowned.project, crowned.lake, pointer)
    assert estimate.value == pytest.approx(0.7 + 0.1)  # mean of 0.9 and 0.5, and what the selected one says


def test_a_batch_with_a_copy_of_a_trained_record_estimates_nothing(crowned: World):
    trained = next(iter(crowned.kinds))
    copy = keys.record_id(crowned.project.name, "copy")
    crowned.hashes[copy], crowned.kinds[copy] = crowned.hashes[trained], crowned.kinds[trained]
    crowned.write("records", [{"record_id": copy, "revision": 1, "content_hash": crowned.hashes[trained]}])
    crowned.select([copy], batch="b2", at=FROZEN + timedelta(hours=1))
    crowned.label([copy])
    crowned.predict([copy], ["spam"], [0.9])
    pointer = champion_pointer(crowned.project, crowned.lake)
    assert pointer is not None
    assert _batch_estimates(crowned.project, crowned.lake, pointer) == []


def test_records_without_consent_are_no_part_of_the_population(crowned: World):
    selected, refused = crowned.records(mixed(2), name="later", at=FROZEN)
    crowned.select([selected], batch="b2", at=FROZEN + timedelta(hours=1), inclusion_probability=1.0)
    crowned.label([selected])
    crowned.predict([selected, refused], [crowned.kinds[selected], "spam"], [0.9, 0.1])
    change = {"record_id": refused, "revision": 2, "content_hash": crowned.hashes[refused], "consent": False}
    crowned.write("records", [{**change, "ingested_at": FROZEN}])
    pointer = champion_pointer(crowned.project, crowned.lake)
    assert pointer is not None
    (estimate,) = _batch_estimates(crowned.project, crowned.lake, pointer)
    assert estimate.value == pytest.approx(1.0)
