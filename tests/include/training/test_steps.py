"""Train, evaluate, promote: on a real store, killed at every write, and raced."""

import json
from datetime import timedelta

import polars as pl
import pytest

from include.errors import TrainingError
from include.lake import Lake, Store
from include.training import registry
from include.training.gate import MAJORITY_CLASS
from include.training.policy import should_retrain
from include.training.score import plan_scoring, score_part
from include.training.snapshot import freeze_snapshot, snapshot_path
from include.training.steps import evaluate, promote, train
from include.training.trainers import TextClassifier
from tests.include.training.conftest import QUESTION, TRAINING
from tests.include.training.dying import run_with_deaths
from tests.include.training.world import START, World, mixed

NOW = START + timedelta(days=1)
LATER = NOW + timedelta(days=1)


class SpamOnly(TextClassifier):
    """A trainer that learns from a few records only, to be beaten."""

    def fit(self, texts, labels, weights, *, seed):
        """Keep a dozen of the records."""
        return super().fit(texts[:12], labels[:12], weights[:12], seed=seed)


def challenge(project, lake, *, now=NOW):
    snapshot_id = freeze_snapshot(project, lake, now=now)["snapshot_id"]
    version = train(project, lake, snapshot_id, now=now)["model_version"]
    return evaluate(project, lake, snapshot_id, version)


def retrain(project, lake, *, now=NOW):
    return promote(project, lake, challenge(project, lake, now=now), now=now)


def grow(world: World, *, count=240, name="second"):
    """A second, larger batch of finished labels."""
    more = world.records(mixed(count), name=name, clarity=0.5)
    world.select(more[: count // 2], batch=name)
    world.select(more[count // 2 :], batch=name, split="holdout")
    world.label(more)


def weak(world: World):
    """The same project with the trainer that learns little."""
    training = {**world.project.training.model_dump(), "trainer": f"{__name__}:SpamOnly"}
    return world.project.model_copy(update={"training": type(world.project.training)(**training)})


def stages(world: World):
    rows = world.lake.read("models", world.project.name, newest=False).sort("model_version", "stage")
    return rows.select("model_version", "stage").rows()


def test_the_first_champion_beats_the_majority_class(ready: World):
    report = challenge(ready.project, ready.lake)
    assert report["rival"] == MAJORITY_CLASS
    assert (report["n"], report["rival_accuracy"]) == (40, pytest.approx(13 / 40, abs=0.03))
    assert report["accuracy_low"] < report["accuracy"] < report["accuracy_high"]
    assert json.loads(json.dumps(report)) == report
    answer = promote(ready.project, ready.lake, report, now=NOW)
    assert answer["promoted"]
    assert answer["why"].startswith("Promoted: against the majority class it wins ")
    current = registry.champion(ready.project, ready.lake)
    assert current.model_version == report["model_version"]
    assert current.model_version == registry.model_version(report["snapshot_id"], current.sha256)
    decision = ready.lake.read("decisions", ready.project.name).row(0, named=True)
    assert (decision["kind"], decision["outcome"], decision["why"]) == ("promote", "yes", answer["why"])
    metric = ready.lake.read("metrics", ready.project.name).row(0, named=True)
    assert (metric["name"], metric["value"], metric["n"]) == ("holdout_accuracy", report["accuracy"], 40)
    assert metric["low"] == report["accuracy_low"]
    assert stages(ready) == [(current.model_version, "challenger"), (current.model_version, "champion")]


def test_training_a_snapshot_again_gives_the_same_model_and_no_new_row(ready: World):
    snapshot_id = freeze_snapshot(ready.project, ready.lake, now=NOW)["snapshot_id"]
    first = train(ready.project, ready.lake, snapshot_id, now=NOW)
    assert train(ready.project, ready.lake, snapshot_id, now=LATER) == first
    assert first == {
        "model_version": first["model_version"],
        "snapshot_id": snapshot_id,
        "trainer": "text_classifier",
        "train": 80,
        "classes": 3,
    }
    assert stages(ready) == [(first["model_version"], "challenger")]


def test_holdout_labels_never_reach_the_trainer(ready: World):
    before = challenge(ready.project, ready.lake)
    holdout = list(ready.kinds)[80:]
    ready.label(holdout, revision=2, value="spam")
    after = challenge(ready.project, ready.lake)
    assert after["snapshot_id"] != before["snapshot_id"]
    assert after["sha256"] == before["sha256"]


def test_a_small_holdout_promotes_nobody(world: World):
    record_ids = world.records(mixed(100), name="mail")
    world.select(record_ids[:80])
    world.select(record_ids[80:], split="holdout")
    world.label(record_ids)
    answer = retrain(world.project, world.lake)
    assert answer["why"] == "Not promoted: the holdout has 20 records, 30 are needed."
    assert registry.champion(world.project, world.lake) is None
    assert [stage for _, stage in stages(world)] == ["challenger", "rejected"]


def test_an_equal_challenger_is_rejected_once_and_keeps_its_verdict(ready: World):
    champion = retrain(ready.project, ready.lake)["model_version"]
    ready.label(list(ready.kinds)[80:81], revision=2)  # one more revision of the same answer: a new snapshot
    report = challenge(ready.project, ready.lake, now=LATER)
    assert (report["rival"], report["wins"], report["losses"]) == (champion, 0, 0)
    answer = promote(ready.project, ready.lake, report, now=LATER)
    assert not answer["promoted"]
    assert f"against champion {champion} it wins 0 and loses 0 of 40" in answer["why"]
    assert promote(ready.project, ready.lake, report, now=LATER + timedelta(days=1)) == answer
    assert registry.champion(ready.project, ready.lake).model_version == champion
    decisions = ready.lake.read("decisions", ready.project.name, newest=False)
    assert sorted(decisions["outcome"]) == ["no", "yes"]


def test_a_better_challenger_retires_the_champion(ready: World):
    old = retrain(weak(ready), ready.lake)["model_version"]
    grow(ready)
    answer = retrain(ready.project, ready.lake, now=LATER)
    assert answer["promoted"]
    new = answer["model_version"]
    assert sorted(stages(ready)) == sorted(
        [(old, "challenger"), (old, "champion"), (old, "retired"), (new, "challenger"), (new, "champion")]
    )
    assert registry.champion(ready.project, ready.lake).previous["model_version"] == old


def test_a_retired_champion_does_not_come_back_by_a_repeated_task(ready: World):
    first = challenge(weak(ready), ready.lake)
    promote(weak(ready), ready.lake, first, now=NOW)
    grow(ready)
    new = retrain(ready.project, ready.lake, now=LATER)["model_version"]
    again = promote(weak(ready), ready.lake, first, now=LATER)
    assert (again["promoted"], again["model_version"]) == (True, first["model_version"])  # what was decided then
    assert registry.champion(ready.project, ready.lake).model_version == new


def test_of_two_promotions_at_once_one_wins_and_the_other_is_compared_with_it(ready: World):
    weak_project = weak(ready)
    strong, feeble = challenge(ready.project, ready.lake), challenge(weak_project, ready.lake)
    assert strong["rival"] == feeble["rival"] == MAJORITY_CLASS
    rival_lake = ready.lake

    class Overtaken(Store):
        """Another promotion comes between reading and swapping the pointer."""

        def swap(self, path: str, data: bytes, etag: str | None) -> bool:
            promote(ready.project, rival_lake, strong, now=NOW)
            return super().swap(path, data, etag)

    slow = Lake(rival_lake.config, rival_lake.files.bucket, rival_lake.files.prefix)
    slow.files = Overtaken(rival_lake.config, rival_lake.files.bucket, rival_lake.files.prefix)
    answer = promote(weak_project, slow, feeble, now=NOW)
    assert not answer["promoted"]
    assert answer["why"].startswith(f"Not promoted: against champion {strong['model_version']} ")
    assert registry.champion(ready.project, ready.lake).model_version == strong["model_version"]
    outcomes = ready.lake.read("decisions", ready.project.name).select("input_id", "outcome").rows()
    assert sorted(outcomes) == sorted(
        [
            (f"{strong['model_version']}:{MAJORITY_CLASS}", "yes"),
            (f"{feeble['model_version']}:{strong['model_version']}", "no"),
        ]
    )


def loop(project, lake, *, now):
    """The retrain and scoring steps as their DAGs run them."""
    if should_retrain(project, lake, now=now)["retrain"]:
        retrain(project, lake, now=now)
    counts = [score_part(project, lake, part, now=now) for part in plan_scoring(project, lake)["parts"]]
    return {"scored": sum(one["scored"] for one in counts)}


def contents(world: World):
    """All rows of every table training writes, but for what tells the two lakes apart."""
    return {
        name: world.lake.read(name, world.project.name, newest=False)
        .drop("uri", "artifact_uri", "label_version", strict=False)
        .rows()
        for name in ("decisions", "snapshots", "models", "metrics", "predictions")
    }


def test_killed_after_every_write_the_loop_ends_as_if_it_had_never_been_killed(make_project, s3_config):
    project = make_project(training=TRAINING, labeling={"questions": [QUESTION]})
    calm, deadly = (World(project, Lake(s3_config, "lake", prefix)) for prefix in ("calm", "deadly"))
    for world in (calm, deadly):
        grow(world, count=120, name="first")
    deaths = _both(calm, deadly, weak(calm), now=NOW)
    for world in (calm, deadly):
        grow(world)
    deaths += _both(calm, deadly, project, now=LATER)
    stage_names = [stage for _, stage in stages(calm)]
    assert sorted(stage_names) == ["challenger", "challenger", "champion", "champion", "retired"]
    # Twice: 2 retrain decisions, snapshot file and row, verdict on the labels, artifact, challenger, pointer, verdict,
    # metric, champion, predictions; and once the retired row.
    assert deaths == 2 * 12 + 1
    for name, rows in contents(calm).items():
        assert sorted(contents(deadly)[name], key=str) == sorted(rows, key=str), name


def _both(calm: World, deadly: World, project, *, now):
    """One round of the loop in both lakes; returns how often the deadly one was killed."""
    assert loop(project, calm.lake, now=now)["scored"] == len(calm.kinds)
    loop(project, calm.lake, now=now)
    _, deaths = run_with_deaths(deadly.lake, lambda lake: loop(project, lake, now=now))
    return deaths


def test_one_class_cannot_be_trained(world: World):
    record_ids = world.records(["spam"] * 10, name="mail")
    world.select(record_ids)
    world.label(record_ids)
    snapshot_id = freeze_snapshot(world.project, world.lake, now=NOW)["snapshot_id"]
    with pytest.raises(TrainingError, match="10 training labels of snapshot .* know 1 of the two classes"):
        train(world.project, world.lake, snapshot_id, now=NOW)


def test_texts_without_words_cannot_be_trained(world: World):
    record_ids = world.records(["spam", "ham"], name="mail", fields_json='{"text":"!"}')
    world.select(record_ids)
    world.label(record_ids)
    snapshot_id = freeze_snapshot(world.project, world.lake, now=NOW)["snapshot_id"]
    with pytest.raises(TrainingError, match="could not learn from snapshot .*empty vocabulary"):
        train(world.project, world.lake, snapshot_id, now=NOW)


def test_an_unknown_model_and_a_lost_snapshot_are_named(ready: World):
    report = challenge(ready.project, ready.lake)
    with pytest.raises(TrainingError, match="'x-y' is not registered"):
        evaluate(ready.project, ready.lake, report["snapshot_id"], "x-y")
    ready.lake.files.put(snapshot_path(ready.project, report["snapshot_id"]), b"")
    with pytest.raises(TrainingError, match="was altered"):
        evaluate(ready.project, ready.lake, report["snapshot_id"], report["model_version"])


def test_stages_are_rows_that_say_what_was_measured(ready: World):
    retrain(ready.project, ready.lake)
    rows = ready.lake.read("models", ready.project.name)
    figures = {row["stage"]: json.loads(row["metrics_json"]) for row in rows.iter_rows(named=True)}
    assert figures["challenger"] == {"train": 80, "classes": {"ham": 27, "list": 26, "spam": 27}}
    assert figures["champion"]["classes"]["spam"]["n"] == 13
    assert rows.filter(pl.col("libraries_json").str.contains("scikit-learn")).height == 2
