"""Drift: the distance, its interval, its test, and the windows they are taken over."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.errors import TrainingError
from include.lake import keys
from include.monitoring.drift import chi_square_p, compare_mixes, measure_drift
from tests.include.monitoring.conftest import FROZEN
from tests.include.training.world import World, mixed

LATER = FROZEN + timedelta(hours=1)
NOW = FROZEN + timedelta(days=1)
mixes = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=8).filter(
    lambda rows: sum(r[0] for r in rows) > 0 and sum(r[1] for r in rows) > 0
)


def counts(*values: int):
    return np.array(values, dtype=np.int64)


def test_a_distance_worked_out_by_hand():
    drift = compare_mixes(counts(500, 300, 200), counts(40, 40, 20), seed=1)
    assert drift.value == pytest.approx(0.5 * (0.1 + 0.1 + 0.0))
    assert drift.low < drift.value < drift.high


def test_a_chi_square_known_from_the_textbook():
    # 2 x 2 table 20/30, 30/20: chi-square = 4 on one degree of freedom, p = 0.0455.
    assert chi_square_p(counts(20, 30), counts(30, 20)) == pytest.approx(0.04550, abs=1e-5)


def test_rare_classes_are_pooled_before_the_test():
    pooled = chi_square_p(counts(480, 500, 12, 8), counts(520, 460, 9, 11))
    assert chi_square_p(counts(480, 500, 12, 4, 4), counts(520, 460, 9, 5, 6)) == pytest.approx(pooled)
    assert chi_square_p(counts(1000, 3), counts(1000, 0)) == 1.0


@settings(deadline=None)  # the first example imports scipy
@given(mixes, st.integers(0, 2**32))
def test_the_figure_is_a_distance_with_an_interval_around_it(rows, seed: int):
    old, new = counts(*(r[0] for r in rows)), counts(*(r[1] for r in rows))
    one, other = compare_mixes(old, new, seed=seed), compare_mixes(new, old, seed=seed)
    assert one.value == pytest.approx(other.value)
    assert one.p_value == pytest.approx(other.p_value)
    assert 0.0 <= one.low <= one.value <= one.high <= 1.0
    assert 0.0 <= one.p_value <= 1.0
    assert compare_mixes(old, new, seed=seed) == one
    assert compare_mixes(old, 3 * old, seed=seed).value == pytest.approx(0.0)


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 0.0, 0.03), (0.03, 0.5, 1.0), (0.2, 1.0, 1.0)])
def test_the_interval_covers_the_true_distance_and_the_test_keeps_its_level(shift: float, least: float, most: float):
    random = np.random.default_rng(5)
    before = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    after = before + shift * np.array([-1, 0, 0, 0, 1, 0])
    covered, alarms, cycles = 0, 0, 200
    for seed in range(cycles):
        drift = compare_mixes(random.multinomial(4000, before), random.multinomial(1500, after), seed=seed)
        covered += drift.low <= shift <= drift.high
        alarms += drift.p_value < 0.01
    assert covered >= 0.94 * cycles
    assert least <= alarms / cycles <= most


@pytest.mark.parametrize(("old", "new"), [((0, 0), (1, 2)), ((1, 2), (0, 0)), ((1, 2), (1, 2, 3))])
def test_empty_windows_are_refused(old, new):
    with pytest.raises(ValueError, match="both windows need records"):
        compare_mixes(counts(*old), counts(*new), seed=1)


def fill(world: World, kinds, *, name: str, **columns) -> list[str]:
    """Ingest mails and predict the true kind of each."""
    record_ids = world.records(kinds, name=name, **columns)
    world.predict(record_ids, kinds, [0.9] * len(kinds))
    return record_ids


def test_a_shifted_mix_raises_the_alarm_and_is_written_once(crowned: World):
    fill(crowned, mixed(300), name="reference")
    fill(crowned, mixed(200, ("spam", "spam", "spam", "ham")), name="newest", at=LATER)
    drift = measure_drift(crowned.project, crowned.lake, cycle="c1", now=NOW)
    assert drift["alarm"]
    assert (drift["n"], drift["n_reference"], drift["model_version"]) == (200, 300, "v1")
    assert drift["value"] == pytest.approx(3 / 4 - 1 / 3)
    assert drift["why"].startswith("Drift: the predicted class mix moved by 41.7% ")
    assert measure_drift(crowned.project, crowned.lake, cycle="c1", now=NOW + timedelta(hours=1)) == drift
    # An asset event takes plain values only; NumPy's are refused.
    assert {type(value) for value in drift.values()} <= {float, int, str, bool}
    rows = crowned.lake.read("metrics", crowned.project.name, newest=False).sort("name")
    assert rows.select("name", "cycle", "slice", "value", "n").rows() == [
        ("drift", "c1", "all", drift["value"], 200),
        ("drift_p_value", "c1", "all", drift["p_value"], 200),
    ]
    assert rows.select("low", "high").row(0) == (drift["low"], drift["high"])


def test_the_same_mix_raises_no_alarm(crowned: World):
    fill(crowned, mixed(300), name="reference")
    fill(crowned, mixed(90), name="newest", at=LATER)
    drift = measure_drift(crowned.project, crowned.lake, cycle="c1", now=NOW)
    assert not drift["alarm"]
    assert drift["value"] == pytest.approx(0.0)
    assert drift["high"] > 0.02
    assert drift["why"].startswith("No drift: ")


@pytest.mark.parametrize(("policy", "alarm", "n"), [("link", True, 240), ("keep", False, 90)])
def test_a_wave_of_equal_mails_counts_though_the_champion_looked_at_one(
    crowned: World, policy: str, alarm: bool, n: int
):
    fill(crowned, mixed(300), name="reference")
    newest = fill(crowned, mixed(90), name="newest", at=LATER)
    copy = {"revision": 1, "content_hash": crowned.hashes[newest[0]], "event_at": LATER, "ingested_at": LATER}
    ids = [keys.record_id(crowned.project.name, f"copy {number}") for number in range(150)]
    crowned.write("records", [{"record_id": one, **copy} for one in ids])
    duplicates = crowned.project.duplicates.model_copy(update={"exact": policy})
    project = crowned.project.model_copy(update={"duplicates": duplicates})
    drift = measure_drift(project, crowned.lake, cycle="c1", now=NOW)
    assert (drift["alarm"], drift["n"]) == (alarm, n)


def test_the_newest_window_is_the_newest_by_event_time(crowned: World):
    fill(crowned, mixed(60), name="reference")
    fill(crowned, ["spam"] * 100, name="old news", at=LATER, event_at=FROZEN - timedelta(days=300))
    fill(crowned, mixed(300), name="news", at=LATER)
    assert measure_drift(crowned.project, crowned.lake, cycle="c1", now=NOW)["value"] == pytest.approx(0.0)


def test_the_reference_stays_as_it_was_when_records_change_later(crowned: World):
    record_ids = fill(crowned, mixed(60), name="reference")
    fill(crowned, mixed(60), name="newest", at=LATER)
    changed = {"text": "something else"}
    revised = [
        {
            "record_id": one,
            "revision": 2,
            "content_hash": keys.content_hash(changed),
            "fields_json": keys.canonical_json(changed),
            "ingested_at": LATER,
        }
        for one in record_ids[:10]
    ]
    crowned.write("records", revised)
    drift = measure_drift(crowned.project, crowned.lake, cycle="c1", now=NOW)
    assert (drift["n"], drift["n_reference"]) == (60, 60)


def test_with_nothing_to_compare_there_is_a_reason_and_no_figure(world: World):
    answer = measure_drift(world.project, world.lake, cycle="c1", now=NOW)
    assert (answer["value"], answer["alarm"]) == (None, False)
    assert answer["why"] == "No drift figure: there is no champion yet."
    assert world.lake.version("metrics") == -1


def test_too_few_records_are_a_reason_and_no_figure(crowned: World):
    fill(crowned, mixed(29), name="reference")
    answer = measure_drift(crowned.project, crowned.lake, cycle="c1", now=NOW)
    assert "29 predicted records the champion's snapshot knew, 30 are needed" in answer["why"]
    fill(crowned, mixed(1), name="one more")
    crowned.records(mixed(50), name="not predicted", at=LATER)
    answer = measure_drift(crowned.project, crowned.lake, cycle="c1", now=NOW)
    assert "0 predicted records arrived after it" in answer["why"]
    assert crowned.lake.read("metrics", crowned.project.name).filter(pl.col("name") == "drift").is_empty()


def test_a_champion_without_its_snapshot_is_an_error(crowned: World):
    pointer = crowned.lake.files.get_json("champions/mails.json")
    crowned.lake.files.put("champions/mails.json", keys.canonical_json({**pointer, "snapshot_id": "gone"}).encode())
    with pytest.raises(TrainingError, match="snapshot 'gone' is missing"):
        measure_drift(crowned.project, crowned.lake, cycle="c1", now=NOW)


def test_records_that_lost_their_consent_are_in_no_window(crowned: World):
    known = fill(crowned, mixed(60), name="known")
    newest = fill(crowned, mixed(60), name="newest", at=LATER)
    before = measure_drift(crowned.project, crowned.lake, cycle="c1", now=NOW)
    changes = [
        {"record_id": one, "revision": 2, "content_hash": crowned.hashes[one], "consent": False, "ingested_at": NOW}
        for one in (known[0], newest[0], newest[1])
    ]
    crowned.write("records", changes)
    after = measure_drift(crowned.project, crowned.lake, cycle="c2", now=NOW)
    assert after["n_reference"] == before["n_reference"] - 1
    assert after["n"] == before["n"] - 2
