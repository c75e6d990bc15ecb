"""Scoring: every current record once per model version."""

import json
from datetime import timedelta

import polars as pl
import pytest

from include.lake import keys
from include.training import score
from include.training.score import score_candidates
from include.training.snapshot import freeze_snapshot
from include.training.steps import evaluate, promote, train
from tests.include.training.dying import run_with_deaths
from tests.include.training.world import START, World, mixed

NOW = START + timedelta(days=1)


@pytest.fixture
def champion(ready: World) -> str:
    """The version of the first champion."""
    snapshot_id = freeze_snapshot(ready.project, ready.lake, now=NOW)["snapshot_id"]
    version = train(ready.project, ready.lake, snapshot_id, now=NOW)["model_version"]
    assert promote(ready.project, ready.lake, evaluate(ready.project, ready.lake, snapshot_id, version), now=NOW)[
        "promoted"
    ]
    return version


def rows(world: World) -> pl.DataFrame:
    return world.lake.read("predictions", world.project.name, newest=False)


def test_without_a_champion_nothing_is_scored(ready: World):
    assert score_candidates(ready.project, ready.lake, now=NOW) == {"scored": 0, "model_version": None}


def test_every_record_with_consent_is_scored_once(ready: World, champion: str):
    ready.records(["spam"] * 3, name="refused", consent=False)
    ready.records(["spam"] * 2, name="allowed", consent=True)
    assert score_candidates(ready.project, ready.lake, now=NOW) == {"scored": 122, "model_version": champion}
    assert score_candidates(ready.project, ready.lake, now=NOW) == {"scored": 0, "model_version": champion}
    assert rows(ready).height == 122
    row = rows(ready).row(0, named=True)
    chances = json.loads(row["probabilities_json"])
    best, second, third = sorted(chances.values(), reverse=True)
    assert set(chances) == {"ham", "list", "spam"}
    assert sum(chances.values()) == pytest.approx(1.0, abs=1e-5)
    assert chances[row["label"]] == best == pytest.approx(row["confidence"], abs=1e-6)
    assert row["margin"] == pytest.approx(best - second, abs=2e-6)
    assert third <= second
    assert (row["origin"], row["shard"]) == ("batch", row["record_id"][0])


def test_new_records_and_new_content_are_scored_the_rest_is_not(ready: World, champion: str):
    score_candidates(ready.project, ready.lake, now=NOW)
    ready.records(mixed(7), name="new")
    changed = {"text": "kernel patch"}
    record_id = next(iter(ready.kinds))
    revised = {
        "record_id": record_id,
        "revision": 2,
        "content_hash": keys.content_hash(changed),
        "fields_json": keys.canonical_json(changed),
        "ingested_at": NOW,
    }
    ready.write("records", [revised])
    assert score_candidates(ready.project, ready.lake, now=NOW)["scored"] == 8
    answers = rows(ready).filter(pl.col("record_id") == record_id)
    assert answers.filter(pl.col("content_hash") == revised["content_hash"])["label"].to_list() == ["list"]


def test_killed_between_slices_it_goes_on_where_it_stopped(ready: World, champion: str, monkeypatch):
    monkeypatch.setattr(score, "SLICE_RECORDS", 50)
    result, deaths = run_with_deaths(ready.lake, lambda lake: score_candidates(ready.project, lake, now=NOW))
    assert (result["scored"], deaths) == (0, 3)
    assert rows(ready).height == rows(ready)["record_id"].n_unique() == 120


def test_an_attempt_believed_dead_that_goes_on_doubles_nothing(ready: World, champion: str, monkeypatch):
    monkeypatch.setattr(score, "SLICE_RECORDS", 50)
    original = score._predictions

    def overtaken(project, lake, *rest):
        monkeypatch.setattr(score, "_predictions", original)
        score_candidates(project, lake, now=NOW)
        return original(project, lake, *rest)

    monkeypatch.setattr(score, "_predictions", overtaken)
    score_candidates(ready.project, ready.lake, now=NOW)
    assert rows(ready).height == rows(ready)["record_id"].n_unique() == 120


def add_copies(world: World, count: int, **columns: object) -> None:
    first = next(iter(world.kinds))
    rows = [
        {
            "record_id": keys.record_id(world.project.name, f"copy-{number}"),
            "revision": 1,
            "content_hash": world.hashes[first],
            "fields_json": keys.canonical_json({"text": "copy"}),
            **columns,
        }
        for number in range(count)
    ]
    world.write("records", rows)


@pytest.mark.parametrize(("policy", "scored"), [("keep", 123), ("link", 123), ("drop", 120)])
def test_dropped_duplicates_are_not_scored(ready: World, champion: str, policy: str, scored: int):
    add_copies(ready, 3)
    duplicates = ready.project.duplicates.model_copy(update={"exact": policy})
    project = ready.project.model_copy(update={"duplicates": duplicates})
    assert score_candidates(project, ready.lake, now=NOW)["scored"] == scored


def test_dropped_similar_texts_are_not_scored_nor_those_that_were_not_compared_yet(ready: World, champion: str):
    record_ids = list(ready.kinds)
    group = ready.hashes[record_ids[0]]
    row = {"record_id": record_ids[1], "content_hash": ready.hashes[record_ids[1]], "group_id": group, "kind": "near"}
    ready.write("duplicates", [row])
    ready.records(["spam"] * 2, name="not linked", ingest_batch=1)
    duplicates = ready.project.duplicates.model_copy(update={"exact": "drop", "near": "drop"})
    project = ready.project.model_copy(update={"duplicates": duplicates})
    assert score_candidates(project, ready.lake, now=NOW)["scored"] == 119
    assert record_ids[1] not in rows(ready)["record_id"]


def test_consent_withdrawn_while_scoring_is_honoured(ready: World, champion: str, monkeypatch):
    victim = sorted(ready.kinds)[-1]
    original = score._predictions

    def withdrawn(project, lake, *rest):
        monkeypatch.setattr(score, "_predictions", original)
        change = {"record_id": victim, "revision": 2, "content_hash": ready.hashes[victim], "consent": False}
        ready.write("records", [change])
        return original(project, lake, *rest)

    monkeypatch.setattr(score, "_predictions", withdrawn)
    assert score_candidates(ready.project, ready.lake, now=NOW)["scored"] == 119
    assert victim not in rows(ready)["record_id"]
