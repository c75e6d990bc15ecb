"""A batch is planned once per cycle, its probabilities are stored, and a refusal says why."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from include.lake import Lake
from include.lake.keys import canonical_json, content_hash, record_id, shard
from include.project import Project
from include.sampling.plan import mark_pushed, plan_cycle, plan_listed, plan_path

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def add_records(lake: Lake, project: Project, count: int, *, consent: bool | None = None, start: int = 0) -> list[str]:
    ids = [record_id(project.name, f"{start + i}") for i in range(count)]
    rows = [
        {
            "project": project.name,
            "shard": shard(one),
            "record_id": one,
            "revision": 1,
            "content_hash": content_hash({"text": one}),
            "fields_json": canonical_json({"text": one}),
            "consent": consent,
        }
        for one in ids
    ]
    lake.append("records", rows, app_id=f"test/{start}")
    return ids


def add_predictions(lake: Lake, project: Project, ids: list[str], model: str) -> None:
    rows = [
        {
            "project": project.name,
            "shard": shard(one),
            "record_id": one,
            "content_hash": content_hash({"text": one}),
            "model_version": model,
            "origin": "batch",
            "label": "spam",
            "confidence": 0.5 + share / 2,
            "margin": share,
            "probabilities_json": canonical_json({"spam": 0.5 + share / 2, "ham": 0.5 - share / 2}),
        }
        for one, share in zip(ids, np.linspace(0, 1, len(ids)), strict=True)
    ]
    lake.append("predictions", rows, app_id=f"test/{model}")


def plan(project: Project, lake: Lake, **changes: Any) -> dict[str, Any]:
    call: dict[str, Any] = {"request_id": None, "moment": NOW, "open_records": 0, "model_version": None, "now": NOW}
    return plan_cycle(project, lake, **{**call, **changes})


@pytest.fixture
def project(make_project: Any) -> Project:
    return make_project(
        sampling={"batch_size": 40, "mixture": {"random": 0.5, "margin": 0.5}, "max_open_records": 50},
        schedule={"cycle": "0 6 * * *"},
    )


def test_cold_start_is_uniform_and_fills_the_holdout_from_the_random_frame_only(lake: Lake, project: Project) -> None:
    add_records(lake, project, 200)
    assert plan(project, lake)["outcome"] == "planned"
    chosen = lake.read("selections", project.name)
    assert chosen.height == 40
    assert sorted(chosen["strategy"].unique()) == ["cold_start", "random"]
    assert chosen.filter(pl.col("split") == "holdout")["strategy"].unique().to_list() == ["random"]
    of_frame = chosen.group_by("strategy").agg(pl.col("inclusion_probability").n_unique())
    assert of_frame["inclusion_probability"].to_list() == [1, 1]
    assert chosen["inclusion_probability"].to_list() == pytest.approx([40 / 200] * 40, rel=0.35)
    assert set(chosen["weight"]) == {1.0}


def test_the_same_slot_gives_the_same_batch_and_the_next_slot_other_records(lake: Lake, project: Project) -> None:
    add_records(lake, project, 200)
    first = plan(project, lake)
    again = plan(project, lake, moment=NOW.replace(hour=23), now=NOW.replace(hour=23))
    assert again["batch_id"] == first["batch_id"] == "mails/cycle/2026-11-23T06:00Z"
    assert again["outcome"] == "pending"
    assert lake.read("selections", project.name, newest=False).height == 40
    mark_pushed(lake, batch_id=first["batch_id"], counts={"pushed": 40})
    assert plan(project, lake)["outcome"] == "pushed"
    plan(project, lake, moment=NOW.replace(day=24))
    rows = lake.read("selections", project.name, newest=False)
    assert rows.height == rows["record_id"].n_unique() == 80


def test_racing_planners_agree_on_one_batch(lake: Lake, project: Project) -> None:
    add_records(lake, project, 120)
    moments = [NOW.replace(minute=m) for m in range(4)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda at: plan(project, lake, now=at), moments))
    assert {r["batch_id"] for r in results} == {"mails/cycle/2026-11-23T06:00Z"}
    rows = lake.read("selections", project.name, newest=False)
    assert rows.height == rows["record_id"].n_unique() == 40
    assert lake.read("decisions", project.name, newest=False).height == 1


def test_with_a_champion_uncertain_records_come_with_their_suggestion(lake: Lake, project: Project) -> None:
    ids = add_records(lake, project, 300)
    add_predictions(lake, project, ids, "m1")
    planned = plan(project, lake, model_version="m1")
    selections = lake.files.get_json(plan_path(planned["batch_id"]))["selections"]
    by_margin = [s for s in selections if s["strategy"] == "margin"]
    at_random = [s for s in selections if s["strategy"] == "random"]
    assert np.mean([s["score"] for s in by_margin]) > np.mean([s["score"] for s in at_random])
    assert all(0 < s["inclusion_probability"] <= 1 for s in selections)
    assert all((s["suggestion"] is None) == s["blind"] for s in selections)
    assert by_margin[0]["reason"].startswith("The model is unsure: Spam")


def test_no_consent_means_never_chosen(lake: Lake, project: Project) -> None:
    refused = add_records(lake, project, 30, consent=False)
    allowed = add_records(lake, project, 10, consent=True, start=100)
    plan(project, lake)
    chosen = set(lake.read("selections", project.name)["record_id"])
    assert chosen == set(allowed)
    assert not chosen & set(refused)


@pytest.mark.parametrize(("open_records", "outcome"), [(49, "planned"), (50, "skipped")])
def test_a_full_queue_stops_the_next_batch_and_says_why(
    lake: Lake, project: Project, open_records: int, outcome: str
) -> None:
    add_records(lake, project, 100)
    planned = plan(project, lake, open_records=open_records)
    assert planned["outcome"] == outcome
    decision = lake.read("decisions", project.name).row(0, named=True)
    assert decision["outcome"] == ("yes" if outcome == "planned" else "no")
    if outcome == "skipped":
        assert "50 records wait for people" in decision["why"]
        assert lake.files.get(plan_path(planned["batch_id"])) is None  # a later run of the slot may still plan it


def test_nothing_to_choose_says_so_once_per_cycle(lake: Lake, project: Project) -> None:
    for _ in range(2):
        assert "already chosen" in plan(project, lake)["why"]
    assert lake.read("decisions", project.name, newest=False).height == 1


def test_an_audit_batch_asks_again_under_the_next_tier_and_keeps_the_split(lake: Lake, project: Project) -> None:
    add_records(lake, project, 100)
    plan(project, lake)
    held_out = lake.read("selections", project.name).filter(pl.col("split") == "holdout")["record_id"].to_list()[:3]
    suspects = [
        {"record_id": one, "score": 0.9, "why": "labeled ham, but the model says spam (90%)"} for one in held_out
    ]
    call: dict[str, Any] = {"request_id": "look-1", "suspects": suspects, "reason": "spot check", "now": NOW}
    assert plan_listed(project, lake, dry_run=True, **call)["outcome"] == "skipped"
    assert lake.read("selections", project.name).height == 40
    dry = lake.read("decisions", project.name, where=pl.col("input_id") == "mails/audit/look-1#dry-run")
    assert json.loads(dry["inputs_json"][0]) == {"suspects": suspects}
    planned = plan_listed(project, lake, dry_run=False, **call)
    assert planned["outcome"] == "planned"
    rows = lake.read("selections", project.name, where=pl.col("batch_id") == planned["batch_id"])
    assert set(rows["tier"]) == {1}
    assert set(rows["split"]) == {"holdout"}
    assert rows["inclusion_probability"].null_count() == 3


def test_a_record_whose_content_changed_may_be_asked_again_in_the_same_split(lake: Lake, project: Project) -> None:
    ids = add_records(lake, project, 40)
    plan(project, lake)
    before = dict(lake.read("selections", project.name).select("record_id", "split").iter_rows())
    assert plan(project, lake, moment=NOW.replace(day=24))["outcome"] == "skipped"
    changed = [
        {"project": project.name, "shard": shard(one), "record_id": one, "revision": 2, "content_hash": f"new {one}"}
        for one in ids[:10]
    ]
    lake.append("records", changed, app_id="test/changed")
    again = plan(project, lake, moment=NOW.replace(day=25))
    rows = lake.read("selections", project.name, where=pl.col("batch_id") == again["batch_id"])
    assert set(rows["record_id"]) == set(ids[:10])
    assert all(before[row["record_id"]] == row["split"] for row in rows.iter_rows(named=True))
