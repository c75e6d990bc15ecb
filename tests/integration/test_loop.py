"""The whole loop on a real stack and real data: what one turn leaves behind, and that more turns double nothing."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import Any

import polars as pl
import pytest

from include.lake import Lake
from standalone import demo
from standalone.airflow_api import AirflowApi, await_value
from standalone.lake_report import lake_of
from standalone.stack import Stack

pytestmark = pytest.mark.stack
PROJECT = demo.MAIN


@pytest.fixture(scope="session")
def lake(loop: Stack) -> Lake:
    return lake_of(loop)


def test_every_object_has_its_fate_and_the_counts_add_up(lake: Lake) -> None:
    for project in demo.PROJECTS:
        objects = lake.read("objects", project)
        assert objects.height > 5
        assert (objects["rows"] == objects["accepted"] + objects["duplicates"] + objects["quarantined"]).all()
        assert objects["accepted"].sum() == lake.read("records", project, newest=False).height
        assert objects["quarantined"].sum() == lake.read("quarantine", project, newest=False).height


def test_every_rejected_row_says_why(lake: Lake) -> None:
    rejected = lake.read("quarantine", PROJECT)
    assert set(rejected["stage"]) == {"object", "parse", "validate"}
    assert rejected["reason"].str.len_chars().min() > 20
    for text in rejected.filter(pl.col("stage") == "validate")["failures_json"]:
        assert all(failure["expectation"] for failure in json.loads(text))


def test_the_first_champion_was_proved_better_than_the_majority_class(lake: Lake) -> None:
    yes = lake.read("decisions", PROJECT, where=(pl.col("kind") == "promote") & (pl.col("outcome") == "yes"))
    first = yes.sort("decided_at").row(0, named=True)
    report = json.loads(first["inputs_json"])
    assert report["rival"] == "majority_class"
    assert report["p_value"] < 0.05
    assert report["n"] >= 25
    metric = lake.read("metrics", PROJECT, where=pl.col("name") == "holdout_accuracy").row(0, named=True)
    assert metric["low"] < metric["value"] < metric["high"]


def test_no_holdout_record_was_trained_on_and_only_the_random_frame_is_held_out(lake: Lake) -> None:
    chosen = lake.read("selections", PROJECT)
    assert set(chosen.filter(pl.col("split") == "holdout")["strategy"]) == {"random"}
    assert chosen["inclusion_probability"].is_between(0, 1, closed="right").all()


def test_nobody_answered_twice_and_suggestions_are_not_labels(lake: Lake) -> None:
    labels = lake.read("labels", PROJECT)
    answers = lake.read("responses", PROJECT).filter(pl.col("status") == "submitted")
    assert labels.filter(pl.col("status") == "final").height > 80
    assert set(labels["record_id"]) <= set(answers["record_id"])
    assert answers.select("record_id", "annotator").is_duplicated().sum() == 0
    assert answers["annotator"].unique().str.starts_with("scripted_").all()


def test_the_next_batch_carries_suggestions_except_for_the_blind_share(loop: Stack, lake: Lake) -> None:
    champion = demo.champion(loop)
    assert champion is not None
    chosen = lake.read("selections", PROJECT, where=pl.col("model_version") == champion["model_version"])
    with loop.argilla() as argilla:
        (dataset,) = [d for d in argilla.get("/api/v1/me/datasets").json()["items"] if d["name"] == f"{PROJECT}-v1"]
        by_batch = {
            "type": "terms",
            "scope": {"entity": "metadata", "metadata_property": "batch"},
            "values": chosen["batch_id"].unique().to_list(),
        }
        found = argilla.post(
            f"/api/v1/datasets/{dataset['id']}/records/search?include=suggestions&limit=500",
            json={"filters": {"type": "and", "and": [by_batch]}},
        ).json()["items"]
    records = {item["record"]["external_id"]: item["record"]["suggestions"] for item in found}
    assert len(records) > 50
    blind = dict(chosen.select("record_id", "blind").iter_rows())
    assert {record for record, suggestions in records.items() if not suggestions} == {r for r in blind if blind[r]}


def test_the_parsing_project_collects_span_labels(lake: Lake) -> None:
    labels = lake.read("labels", "address_parsing").filter(pl.col("status") == "final")
    assert labels.height > 30
    spans = json.loads(labels["value_json"][0])
    assert {"start", "end", "label"} <= set(spans[0])


def test_every_dag_run_ended_well(loop: Stack, airflow: AirflowApi) -> None:
    for step in ("ingest", "sample", "collect", "retrain", "monitor"):
        states = {run["state"] for run in airflow.runs(f"{PROJECT}__{step}")}
        assert "success" in states, step
        assert "failed" not in states, step


def test_asset_events_that_are_doubled_or_mean_nothing_change_nothing(loop: Stack, airflow: AirflowApi) -> None:
    before = demo.lake_report(loop)[PROJECT]
    assets = {a["name"]: a["id"] for a in airflow.call("GET", "/assets?limit=100")["assets"]}
    for name in ("records", "labels", "champion", "activity") * 3:
        airflow.call("POST", "/assets/events", {"asset_id": assets[f"{PROJECT}/{name}"], "extra": {}})
    for step in ("sample", "collect", "retrain"):
        settle(airflow, f"{PROJECT}__{step}")
    after = demo.lake_report(loop)[PROJECT]
    same = ("objects", "records", "quarantine", "responses", "labels", "champion", "models", "doubled_records")
    assert {k: after[k] for k in same} == {k: before[k] for k in same}
    assert after["doubled_records"] == 0


def test_an_audit_is_dry_first_and_then_asks_again_under_a_tier(loop: Stack, airflow: AirflowApi, lake: Lake) -> None:
    labeled = lake.read("labels", PROJECT).filter(pl.col("status") == "final")["record_id"].sort().to_list()[:2]
    form: dict[str, Any] = {
        "kind": "record_ids",
        "record_ids": labeled,
        "reason": "spot check",
        "request_id": "audit-1",
    }
    airflow.run(f"{PROJECT}__audit", form)
    audit = pl.col("batch_id") == f"{PROJECT}/audit/audit-1"
    assert lake.read("selections", PROJECT, where=audit).is_empty()
    dry = lake.read("decisions", PROJECT, where=pl.col("kind") == "sample")["why"].to_list()
    assert any(why.startswith("Dry run, nothing sent. 2 records: spot check") for why in dry)
    for _ in range(2):  # the same request is planned once
        airflow.run(f"{PROJECT}__audit", {**form, "dry_run": False})
    assert lake.read("selections", PROJECT, where=audit, newest=False)["tier"].to_list() == [1, 1]


def test_a_second_turn_adds_a_cycle_and_doubles_nothing(loop: Stack, airflow: AirflowApi, lake: Lake) -> None:
    before = demo.lake_report(loop)
    demo.go_round(loop, airflow)
    after = report_with_new_answers(loop, before)
    for project in demo.PROJECTS:
        for table in ("objects", "records", "quarantine"):
            assert after[project][table] == before[project][table]
        assert after[project]["doubled_records"] == 0
    chosen = lake.read("selections", PROJECT, newest=False).filter(pl.col("tier") == 0)
    assert chosen.select("record_id", "content_hash").is_duplicated().sum() == 0
    test_every_dag_run_ended_well(loop, airflow)


def test_with_every_service_killed_once_the_loop_still_completes(loop: Stack, airflow: AirflowApi) -> None:
    """SIGKILL to each service in turn while the loop goes round; it ends like any other turn."""
    before = demo.lake_report(loop)
    services = [name for name, service in loop.state()["services"].items() if service.get("pid")]
    killed: list[str] = []
    done = threading.Event()

    def kill_one_after_another() -> None:
        for name in services[len(killed) :]:
            if done.wait(8):
                return
            os.kill(loop.state()["services"][name]["pid"], signal.SIGKILL)
            killed.append(name)
            await_value(lambda: loop.state()["healthy"] or None, 180, f"not healthy after {name} died", "")

    for _ in range(3):  # one turn is too short for all of them
        done.clear()
        killer = threading.Thread(target=kill_one_after_another)
        killer.start()
        try:
            demo.go_round(loop, airflow)
        finally:
            done.set()
            killer.join()
        if len(killed) == len(services):
            break
    assert killed == services
    assert len(services) == 8
    after = report_with_new_answers(loop, before)
    for project in demo.PROJECTS:
        assert after[project]["doubled_records"] == 0
        assert after[project]["records"] == before[project]["records"]


def report_with_new_answers(stack: Stack, before: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Counts of the lake once every project has collected answers; a sweep finds what a lost event left behind."""

    def counted() -> dict[str, dict[str, Any]] | None:
        now = demo.lake_report(stack)
        return now if all(now[p]["responses"] > before[p]["responses"] for p in demo.PROJECTS) else None

    return await_value(counted, 420, "answers were not collected", "Look at the collect DAGs.")


def settle(airflow: AirflowApi, dag_id: str) -> None:
    """Wait until no run of the DAG is queued or running."""
    await_value(
        lambda: all(run["state"] in ("success", "failed") for run in airflow.runs(dag_id)) or None,
        300,
        f"{dag_id} keeps running",
        "Look at its runs.",
    )
