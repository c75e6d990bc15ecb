"""Snapshots: what is in them, and that the same labels are the same snapshot."""

import io
from datetime import timedelta

import polars as pl
import pytest

from include.errors import ProjectError, TrainingError
from include.lake import keys
from include.lake.texts import record_text
from include.training.snapshot import (
    current_labels,
    freeze_snapshot,
    load_snapshot,
    parquet_bytes,
    snapshot_path,
)
from tests.include.training.world import START, World, mixed

NOW = START + timedelta(days=1)


def test_the_same_labels_are_the_same_snapshot_and_one_row(ready: World):
    first = freeze_snapshot(ready.project, ready.lake, now=NOW)
    again = freeze_snapshot(ready.project, ready.lake, now=NOW + timedelta(days=1))
    assert again == first
    assert (first["records"], first["train"], first["holdout"]) == (120, 80, 40)
    rows = ready.lake.read("snapshots", ready.project.name, newest=False)
    assert rows.height == 1
    assert rows["created_at"][0] == NOW
    assert rows["classes_json"][0] == '{"ham":40,"list":40,"spam":40}'


def test_the_same_rows_are_the_same_bytes_in_any_order(ready: World):
    labels = current_labels(ready.project, ready.lake)
    assert parquet_bytes(labels.sample(fraction=1.0, shuffle=True, seed=3)) == parquet_bytes(labels)


def test_a_changed_answer_is_another_snapshot(ready: World):
    before = freeze_snapshot(ready.project, ready.lake, now=NOW)
    ready.label([next(iter(ready.kinds))], revision=2, value="list")
    after = freeze_snapshot(ready.project, ready.lake, now=NOW)
    assert after["snapshot_id"] != before["snapshot_id"]
    assert load_snapshot(ready.project, ready.lake, before["snapshot_id"]).height == 120


def test_gold_unconsented_unselected_unfinished_and_outdated_labels_stay_out(world: World):
    good, gold, open_, stale, unselected = world.records(mixed(5), name="mail")
    refused = world.records(["spam"], name="refused", consent=False)[0]
    allowed = world.records(["spam"], name="allowed", consent=True)[0]
    world.select([good, open_, stale, refused, allowed])
    world.select([gold], gold=True)
    world.label([good, gold, stale, unselected, refused, allowed])
    world.label([open_], status="needs_adjudication")
    changed = {"text": "another content"}
    world.write(
        "records",
        [
            {
                "record_id": stale,
                "revision": 2,
                "content_hash": keys.content_hash(changed),
                "fields_json": keys.canonical_json(changed),
                "ingested_at": NOW,
            }
        ],
    )
    assert set(current_labels(world.project, world.lake)["record_id"]) == {good, allowed}


def test_a_retracted_label_leaves(ready: World):
    victim = next(iter(ready.kinds))
    ready.label([victim], revision=2, status="retracted")
    assert victim not in set(current_labels(ready.project, ready.lake)["record_id"])


def test_split_and_probability_are_those_of_the_earliest_selection(world: World):
    (record_id,) = world.records(["spam"], name="mail")
    world.select([record_id], batch="later", split="train", at=START + timedelta(hours=9), inclusion_probability=0.9)
    world.select([record_id], batch="first", split="holdout", at=START + timedelta(hours=1), inclusion_probability=0.1)
    world.label([record_id])
    row = current_labels(world.project, world.lake).row(0, named=True)
    assert (row["split"], row["inclusion_probability"]) == ("holdout", 0.1)


def test_without_labels_nothing_is_frozen(world: World):
    with pytest.raises(TrainingError, match="no final labels"):
        freeze_snapshot(world.project, world.lake, now=NOW)


@pytest.mark.parametrize("change", ["label", "garbage"])
def test_an_altered_snapshot_is_refused(ready: World, change: str):
    snapshot_id = freeze_snapshot(ready.project, ready.lake, now=NOW)["snapshot_id"]
    frame = load_snapshot(ready.project, ready.lake, snapshot_id)
    buffer = io.BytesIO()
    if change == "label":
        frame.with_columns(pl.lit("spam").alias("label")).write_parquet(buffer)
    else:
        buffer.write(b"PAR1 no parquet")
    ready.lake.files.put(snapshot_path(ready.project, snapshot_id), buffer.getvalue())
    with pytest.raises(TrainingError, match="was altered"):
        load_snapshot(ready.project, ready.lake, snapshot_id)


def test_a_missing_snapshot_is_named(world: World):
    with pytest.raises(TrainingError, match="'beef' does not exist"):
        load_snapshot(world.project, world.lake, "beef")


def test_text_is_the_fields_in_the_order_of_the_project(make_project):
    fields = {"subject": {"title": "Subject"}, "note": {"title": "Note", "required": False}}
    project = make_project(source={"fields": fields})
    assert list(project.source.fields) == ["text", "subject", "note"]
    assert record_text(project, '{"note":null,"subject":"s","text":"t"}') == "t\ns"


def test_projects_that_do_not_train_are_told(make_project, lake):
    with pytest.raises(ProjectError, match="no 'training' section"):
        freeze_snapshot(make_project(training=None), lake, now=NOW)
    question = {"name": "parts", "type": "span", "title": "t", "field": "text", "labels": {"a": "A", "b": "B"}}
    spans = make_project(labeling={"questions": [question]})
    with pytest.raises(ProjectError, match="span question"):
        freeze_snapshot(spans, lake, now=NOW)


def copies(world: World, of: str, names: str, **columns: object) -> list[str]:
    """Records with the same text as another one."""
    rows = []
    for name in names:
        one = keys.record_id(world.project.name, name)
        world.hashes[one], world.kinds[one] = world.hashes[of], world.kinds[of]
        text = keys.canonical_json({"text": "copy"})
        rows.append({"record_id": one, "revision": 1, "content_hash": world.hashes[of], "fields_json": text, **columns})
    world.write("records", rows)
    return [row["record_id"] for row in rows]


def test_of_equal_records_one_label_is_used_that_of_the_first_asked(world: World):
    (first,) = world.records(["spam"], name="mail")
    second, third = copies(world, first, "bc")
    world.select([second], at=START + timedelta(hours=1), inclusion_probability=0.25)
    world.select([first, third], batch="b2", at=START + timedelta(hours=2))
    world.label([first, second, third])
    labels = current_labels(world.project, world.lake)
    assert labels.select("record_id", "inclusion_probability").rows() == [(second, 0.25)]


def test_equal_records_in_both_splits_train(world: World):
    """A champion may have trained on the one: the other may not judge it."""
    (first,) = world.records(["spam"], name="mail")
    (second,) = copies(world, first, "b")
    world.select([first], split="holdout", at=START + timedelta(hours=1))
    world.select([second], batch="b2", split="train", at=START + timedelta(hours=2))
    world.label([first])
    assert current_labels(world.project, world.lake)["split"].to_list() == ["train"]


def test_kept_duplicates_are_labels_like_any(lake, make_project):
    world = World(make_project(duplicates={"exact": "keep"}), lake)
    (first,) = world.records(["spam"], name="mail")
    (second,) = copies(world, first, "b")
    world.select([first], split="holdout")
    world.select([second], split="train")
    world.label([first, second])
    labels = current_labels(world.project, lake)
    assert dict(labels.select("record_id", "split").iter_rows()) == {first: "holdout", second: "train"}


def test_a_copy_of_a_gold_record_is_not_trained_on(world: World):
    (gold,) = world.records(["spam"], name="mail")
    (copy,) = copies(world, gold, "b")
    world.select([gold], gold=True)
    world.select([copy], batch="b2")
    world.label([gold, copy])
    assert current_labels(world.project, world.lake).is_empty()


def test_when_the_labeled_record_loses_its_consent_the_next_one_counts(world: World):
    (first,) = world.records(["spam"], name="mail", consent=True)
    (second,) = copies(world, first, "b", consent=True)
    world.select([first], at=START + timedelta(hours=1))
    world.select([second], batch="b2", at=START + timedelta(hours=2))
    world.label([first, second])
    assert current_labels(world.project, world.lake)["record_id"].to_list() == [first]
    world.write("records", [{"record_id": first, "revision": 2, "content_hash": world.hashes[first], "consent": False}])
    assert current_labels(world.project, world.lake)["record_id"].to_list() == [second]


def test_a_record_that_came_before_the_consent_column_is_not_trained_on(lake, make_project):
    world = World(make_project(source={"consent_column": "agreed"}), lake)
    silent, agreed = *world.records(["spam"], name="m"), *world.records(["ham"], name="n", consent=True)
    world.select([silent, agreed])
    world.label([silent, agreed])
    assert current_labels(world.project, lake)["record_id"].to_list() == [agreed]
