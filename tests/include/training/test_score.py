"""Scoring: every current record once per model version."""

import json
import math
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.errors import TrainingError
from include.lake import Lake, candidates, keys
from include.project import Project
from include.training import score
from include.training.score import plan_scoring, predictions, score_part
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


def score_candidates(project: Project, lake: Lake, *, now: datetime) -> dict[str, Any]:
    """One run of the DAG: plan, then every mapped task."""
    planned = plan_scoring(project, lake)
    counts = [score_part(project, lake, part, now=now) for part in planned["parts"]]
    assert {one["model_version"] for one in counts} <= {planned["model_version"]}
    return {"scored": sum(one["scored"] for one in counts), "model_version": planned["model_version"]}


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
    original = score.read_texts

    def overtaken(project, lake, *rest):
        monkeypatch.setattr(score, "read_texts", original)
        score_candidates(project, lake, now=NOW)
        return original(project, lake, *rest)

    monkeypatch.setattr(score, "read_texts", overtaken)
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


@pytest.mark.parametrize(("policy", "scored"), [("keep", 123), ("link", 120), ("drop", 120)])
def test_of_a_group_of_duplicates_one_is_scored(ready: World, champion: str, policy: str, scored: int):
    add_copies(ready, 3)
    duplicates = ready.project.duplicates.model_copy(update={"exact": policy})
    project = ready.project.model_copy(update={"duplicates": duplicates})
    assert score_candidates(project, ready.lake, now=NOW)["scored"] == scored


def test_another_champion_looks_again_at_what_can_be_chosen_and_at_what_was_asked(ready: World, champion: str):
    """Not at a duplicate that nobody will ever be asked about."""
    waiting = ready.records(mixed(5), name="new")
    add_copies(ready, 3)
    score_candidates(ready.project, ready.lake, now=NOW)
    ready.lake.files.put(f"champions/{ready.project.name}.json", renamed_champion(ready, "another"))
    assert score_candidates(ready.project, ready.lake, now=NOW) == {"scored": 125, "model_version": "another"}
    answers = rows(ready).filter(pl.col("model_version") == "another")
    assert set(answers["record_id"]) == {*ready.kinds}
    assert set(waiting) <= set(answers["record_id"])


def renamed_champion(world: World, version: str) -> bytes:
    pointer = world.lake.files.get_json(f"champions/{world.project.name}.json")
    return json.dumps({**pointer, "model_version": version}).encode()


def test_a_part_keeps_to_its_model_when_another_is_promoted_meanwhile(ready: World, champion: str):
    (part,) = plan_scoring(ready.project, ready.lake)["parts"]
    ready.lake.files.put(f"champions/{ready.project.name}.json", renamed_champion(ready, "another"))
    assert score_part(ready.project, ready.lake, part, now=NOW) == {"scored": 120, "model_version": champion}
    assert rows(ready)["model_version"].unique().to_list() == [champion]


def test_parts_share_the_work_and_without_work_there_is_none(ready: World, champion: str, monkeypatch):
    monkeypatch.setattr(candidates.parts, "__kwdefaults__", {"task_records": 30})
    planned = plan_scoring(ready.project, ready.lake)["parts"]
    assert len(planned) > 2
    assert sorted(shard for part in planned for shard in part["shards"]) == sorted(keys.SHARDS)
    counts = [score_part(ready.project, ready.lake, part, now=NOW)["scored"] for part in planned]
    assert sum(counts) == rows(ready)["record_id"].n_unique() == 120
    assert plan_scoring(ready.project, ready.lake) == {"model_version": champion, "parts": []}


def distribution(weights: list[int]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


@given(
    st.integers(2, 6).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(0, 1000), min_size=width, max_size=width).filter(any).map(distribution),
            min_size=1,
            max_size=20,
        )
    )
)
def test_figures_of_an_answer_are_those_worked_out_one_by_one(chances: list[list[float]]):
    classes = ['a "quoted" one', "ü", "c", "d", "e", "f"][: len(chances[0])]
    ids = [f"{number:032x}" for number in range(len(chances))]
    found = predictions(pl.DataFrame({"record_id": ids, "content_hash": ids}), np.array(chances), classes)
    assert found.height == len(chances)
    for row, own in zip(found.iter_rows(named=True), chances, strict=True):
        best, second = sorted(own, reverse=True)[:2]
        assert row["label"] == classes[own.index(best)]
        assert (row["confidence"], row["margin"]) == (best, best - second)
        bits = -sum(share * math.log(share) for share in own if share) / math.log(len(own))
        assert row["entropy"] == pytest.approx(bits, abs=1e-12)
        assert 0.0 <= row["entropy"] <= 1.0
        assert json.loads(row["classes_json"]) == classes
        assert row["probabilities"] == pytest.approx(own, abs=1e-7)
        assert json.loads(row["probabilities_json"]) == pytest.approx(dict(zip(classes, own, strict=True)), abs=6e-7)


@pytest.mark.parametrize("bad", [[[0.5, math.nan]], [[1.5, -0.5]], [[0.2, 0.3, 0.5]], [[0.5, 0.5], [0.5, 0.5]]])
def test_what_is_no_probability_is_refused(bad: list[list[float]]):
    with pytest.raises(TrainingError, match="no probabilities"):
        predictions(pl.DataFrame({"record_id": ["a"], "content_hash": ["b"]}), np.array(bad), ["ham", "spam"])


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
    original = score.read_texts

    def withdrawn(project, lake, *rest):
        monkeypatch.setattr(score, "read_texts", original)
        change = {"record_id": victim, "revision": 2, "content_hash": ready.hashes[victim], "consent": False}
        ready.write("records", [change])
        return original(project, lake, *rest)

    monkeypatch.setattr(score, "read_texts", withdrawn)
    assert score_candidates(ready.project, ready.lake, now=NOW)["scored"] == 119
    assert victim not in rows(ready)["record_id"]
