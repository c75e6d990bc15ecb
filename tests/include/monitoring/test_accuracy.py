"""Production accuracy: which batches estimate it, over which population; the estimators have tests of their own."""

from datetime import timedelta

import numpy as np
import pytest

from include.errors import TrainingError
from include.lake import keys
from include.monitoring.accuracy import _batch_estimates, measure_accuracy
from include.monitoring.champion import champion_pointer
from tests.include.monitoring.conftest import FROZEN
from tests.include.training.world import World, mixed

NOW = FROZEN + timedelta(days=3)


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


def test_a_second_look_at_trained_records_does_not_spoil_the_batch_it_came_with(crowned: World):
    trained = list(crowned.kinds)[:5]
    crowned.label(new_batch(crowned, right=1.0))
    again = {"strategy": "relabel", "tier": 1, "inclusion_probability": None}
    crowned.select(trained, batch="b2", at=FROZEN + timedelta(days=2), **again)
    answer = measure_accuracy(crowned.project, crowned.lake, cycle="c1", now=NOW)
    assert (answer["method"], answer["n"], answer["value"]) == ("hajek_difference", 60, pytest.approx(1.0))


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
