"""The retrain policy: every evaluation is written down once, and the same labels never train twice."""

import json
from datetime import timedelta

from include.training.policy import should_retrain
from include.training.snapshot import freeze_snapshot
from include.training.steps import evaluate, promote, train
from tests.include.training.world import START, World, mixed

NOW = START + timedelta(days=1)


def decisions(world: World):
    rows = world.lake.read("decisions", world.project.name, newest=False)
    return rows.filter(rows["kind"] == "retrain").sort("decided_at")


def retrain(world: World, at=NOW):
    snapshot_id = freeze_snapshot(world.project, world.lake, now=at)["snapshot_id"]
    version = train(world.project, world.lake, snapshot_id, now=at)["model_version"]
    return promote(world.project, world.lake, evaluate(world.project, world.lake, snapshot_id, version), now=at)


def test_an_empty_project_says_no_and_why(world: World):
    answer = should_retrain(world.project, world.lake, now=NOW)
    assert not answer["retrain"]
    assert answer["why"] == (
        "Not retrained: 0 of 60 new training labels, 0 of 2 classes in the training labels, 0 of 30 holdout labels."
    )
    row = decisions(world).row(0, named=True)
    assert (row["outcome"], row["why"], row["input_id"]) == ("no", answer["why"], answer["input_id"])


def test_enough_labels_say_yes_with_the_value_of_each_condition(ready: World):
    answer = should_retrain(ready.project, ready.lake, now=NOW)
    assert answer["retrain"]
    assert answer["why"] == "Retrain: 80 new training labels and no model yet, 60 are enough."
    inputs = json.loads(decisions(ready)["inputs_json"][0])
    assert {name: inputs[name] for name in ("new_labels", "train", "classes", "holdout")} == {
        "new_labels": 80,
        "train": 80,
        "classes": 3,
        "holdout": 40,
    }
    assert inputs["needed"] == {"new_labels": 60, "classes": 2, "holdout": 30}


def test_the_same_state_is_decided_once(ready: World):
    first = should_retrain(ready.project, ready.lake, now=NOW)
    again = should_retrain(ready.project, ready.lake, now=NOW + timedelta(hours=1))
    assert again == first
    assert decisions(ready).height == 1


def test_a_run_killed_before_its_verdict_is_decided_the_same_way_again(ready: World):
    first = should_retrain(ready.project, ready.lake, now=NOW)
    snapshot_id = freeze_snapshot(ready.project, ready.lake, now=NOW)["snapshot_id"]
    train(ready.project, ready.lake, snapshot_id, now=NOW)
    assert should_retrain(ready.project, ready.lake, now=NOW + timedelta(hours=1)) == first
    assert decisions(ready).height == 1


def test_the_same_labels_never_train_twice(ready: World):
    assert should_retrain(ready.project, ready.lake, now=NOW)["retrain"]
    retrain(ready)
    answer = should_retrain(ready.project, ready.lake, now=NOW + timedelta(hours=1))
    assert (answer["retrain"], answer["new_labels"]) == (False, 0)
    assert decisions(ready)["outcome"].to_list() == ["yes", "no"]


def test_only_new_training_labels_count_and_changed_answers_are_new(ready: World):
    retrain(ready)
    more = ready.records(mixed(30), name="second")
    ready.select(more[:20], batch="b2")
    ready.select(more[20:], batch="b2", split="holdout")
    ready.label(more)
    ready.label(list(ready.kinds)[:5], revision=2, value="spam")
    answer = should_retrain(ready.project, ready.lake, now=NOW + timedelta(hours=1))
    assert (answer["new_labels"], answer["holdout"]) == (25, 50)
    assert answer["why"] == "Not retrained: 25 of 60 new training labels."


def test_one_class_or_a_small_holdout_wait_for_more(world: World):
    record_ids = world.records(["spam"] * 100, name="one class")
    world.select(record_ids[:80])
    world.select(record_ids[80:], split="holdout")
    world.label(record_ids)
    answer = should_retrain(world.project, world.lake, now=NOW)
    assert answer["why"] == "Not retrained: 1 of 2 classes in the training labels, 20 of 30 holdout labels."
