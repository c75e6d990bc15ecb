"""Quarantine is a workplace: rows leave it when suite, limits or a person's judgement changed, and figures add up."""

import json
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from include.errors import LabelwheelError, QuarantineLimitError
from include.ingestion import replay
from include.ingestion.commit import check_quarantine_limit, commit
from include.ingestion.landing import Landing
from include.ingestion.planning import plan
from include.ingestion.requests import plan_run
from include.ingestion.stage import stage
from include.lake import Lake
from include.project import Project
from tests.include.conftest import Bucket, ProjectFactory

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHORT = {"type": "expect_column_value_lengths_to_be_between", "kwargs": {"column": "text", "max_value": 5}}
LONGER = {"type": "expect_column_value_lengths_to_be_between", "kwargs": {"column": "text", "max_value": 8}}
MANY = {
    "type": "expect_table_row_count_to_be_between",
    "kwargs": {"min_value": 100},
    "meta": {"severity": "hold"},
}
REQUEST: dict[str, Any] = {
    "mode": "replay",
    "sweep": False,
    "dry_run": False,
    "batches": [],
    "check": None,
    "key": None,
    "limit": 100,
}


@pytest.fixture
def landing(bucket: Bucket) -> Landing:
    return Landing(bucket.config, bucket.name, bucket.prefix)


def run(project: Project, lake: Lake, landing: Landing, batches: list[int] | None = None) -> dict[str, Any]:
    batches = plan(project, lake, landing, now=NOW)["batches"] if batches is None else batches
    for batch in batches:
        stage(project, lake, landing, batch, now=NOW)
    return commit(project, lake, batches, now=NOW)


def ask(project: Project, lake: Lake, landing: Landing, name: str = "one", **changes: Any) -> dict[str, Any]:
    return plan_run(project, lake, landing, {**REQUEST, **changes}, request_id=name, hints=[], now=NOW)


def again(project: Project, lake: Lake, landing: Landing, name: str = "one", **changes: Any) -> dict[str, Any]:
    return run(project, lake, landing, ask(project, lake, landing, name, **changes)["batches"])["replayed"]


def in_quarantine(lake: Lake) -> list[tuple[str, int, int]]:
    rows = lake.read("quarantine", "mails").filter(pl.col("replayed_at").is_null())
    return sorted((row["key"].rpartition("/")[2], row["row_number"], row["attempt"]) for row in rows.to_dicts())


def texts(lake: Lake) -> list[str]:
    return sorted(json.loads(one)["text"] for one in lake.read("records", "mails")["fields_json"])


def check_sums(lake: Lake) -> None:
    """``rows = accepted + duplicates + still quarantined + replayed``, and the tables hold what the ledger says."""
    ledger = lake.read("objects", "mails")
    for one in ledger.to_dicts():
        assert one["rows"] == one["accepted"] + one["duplicates"] + one["quarantined"] + one["replayed"], one
    open_rows = lake.read("quarantine", "mails").filter(pl.col("replayed_at").is_null())
    assert ledger["quarantined"].sum() == open_rows.height
    records = lake.read("records", "mails", newest=False)
    assert records.height <= ledger["accepted"].sum() + ledger["replayed"].sum()
    assert records.unique(["record_id", "revision"]).height == records.height


def project_with(make_project: ProjectFactory, bucket: Bucket, *expectations: dict[str, Any], **source: Any) -> Project:
    return make_project(source={"prefix": bucket.prefix, **source}, validation={"expectations": list(expectations)})


def put_some(bucket: Bucket) -> None:
    bucket.put("a.jsonl", b"\n".join(
        [b'{"id": "1", "text": "short"}', b"", b'{"id": "2", "text": "longer"}', b'{"id": "3", "text": "far too long"}',
         b'{"id": "4", "te', b'{"id": "5", "text": "long\\u00e9r"}']))  # fmt: skip
    bucket.put("b.csv", b'id,text\n6,"lon,\nger"\n7,"x\n')


def test_rows_that_pass_a_corrected_suite_become_records(
    make_project: ProjectFactory, bucket: Bucket, lake: Lake, landing: Landing
):
    put_some(bucket)
    strict = project_with(make_project, bucket, SHORT)
    counts = run(strict, lake, landing)
    assert (counts["records"], counts["quarantined"]) == (1, 6)
    mild = project_with(make_project, bucket, LONGER)
    assert again(mild, lake, landing) == {"rows": 6, "records": 3, "duplicates": 0, "quarantined": 3}
    assert texts(lake) == ["lon,\nger", "longer", "longér", "short"]
    assert in_quarantine(lake) == [("a.jsonl", 3, 1), ("a.jsonl", 4, 1), ("b.csv", 1, 1)]
    assert set(lake.read("records", "mails").select("key", "row_number").rows()) == {
        (f"{bucket.prefix}a.jsonl", 0), (f"{bucket.prefix}a.jsonl", 2), (f"{bucket.prefix}a.jsonl", 5),
        (f"{bucket.prefix}b.csv", 0),
    }  # fmt: skip
    moved = lake.read("quarantine", "mails").filter(pl.col("replayed_at").is_not_null())
    assert moved["attempt"].to_list() == [1, 1, 1]
    assert set(moved["replayed_at"]) == {NOW}
    check_sums(lake)
    assert plan(mild, lake, landing, now=NOW)["batches"] == []
    assert again(mild, lake, landing, "two") == {"rows": 3, "records": 0, "duplicates": 0, "quarantined": 3}
    assert [attempt for *_, attempt in in_quarantine(lake)] == [2, 2, 2]
    check_sums(lake)


def test_a_dry_run_says_what_would_happen_and_moves_nothing(
    make_project: ProjectFactory, bucket: Bucket, lake: Lake, landing: Landing
):
    put_some(bucket)
    run(project_with(make_project, bucket, SHORT), lake, landing)
    before = in_quarantine(lake)
    found = ask(project_with(make_project, bucket, LONGER), lake, landing, dry_run=True)
    assert found["batches"] == []
    assert (found["chosen"], found["would_pass"], found["would_fail"]) == (6, 3, 3)
    assert found["why"].startswith(
        "Dry run, nothing moved. Of 6 rows 3 would become records now; the others still fail"
    )
    assert in_quarantine(lake) == before
    assert texts(lake) == ["short"]
    assert lake.read("decisions", "mails").select("kind", "outcome", "why").rows() == [("replay", "no", found["why"])]


def test_a_request_is_planned_once_and_only_one_at_a_time(
    make_project: ProjectFactory, bucket: Bucket, lake: Lake, landing: Landing
):
    put_some(bucket)
    run(project_with(make_project, bucket, SHORT), lake, landing)
    mild = project_with(make_project, bucket, LONGER)
    [batch] = ask(mild, lake, landing)["batches"]
    assert ask(mild, lake, landing)["batches"] == [batch]
    with pytest.raises(
        LabelwheelError, match="replay 'one' of project 'mails' is not finished. Run the ingest DAG once"
    ):
        ask(mild, lake, landing, "two")
    assert plan(mild, lake, landing, now=NOW)["batches"] == [batch]  # a normal run finishes it
    run(mild, lake, landing)
    assert ask(mild, lake, landing)["batches"] == [batch]
    assert again(mild, lake, landing) == {"rows": 6, "records": 3, "duplicates": 0, "quarantined": 3}
    assert len(texts(lake)) == 4
    check_sums(lake)


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"check": "csv_row"}, 1),
        ({"check": "json_object"}, 1),
        ({"check": "expect_column_value_lengths_to_be_between"}, 4),
        ({"check": "expect"}, 0),
        ({"key": "b.csv"}, 2),
        ({"key": ""}, 6),
        ({"batches": [9]}, 0),
        ({"limit": 2}, 2),
    ],
)
def test_rows_are_chosen_by_check_object_and_batch(
    make_project: ProjectFactory, bucket: Bucket, lake: Lake, landing: Landing, changes: dict[str, Any], rows: int
):
    put_some(bucket)
    strict = project_with(make_project, bucket, SHORT)
    run(strict, lake, landing)
    if "key" in changes:
        changes = {"key": bucket.prefix + changes["key"]}
    arguments = {name: REQUEST[name] for name in ("batches", "check", "key", "limit")}
    assert replay.choose(strict, lake, **{**arguments, **changes}).height == rows


def test_a_held_batch_reaches_nobody_until_it_is_released(
    make_project: ProjectFactory, bucket: Bucket, lake: Lake, landing: Landing
):
    put_some(bucket)
    careful = project_with(make_project, bucket, MANY, SHORT)
    counts = run(careful, lake, landing)
    assert (counts["rows"], counts["records"], counts["quarantined"], counts["held"]) == (7, 0, 7, [1])
    assert counts["statuses"] == {"held": 2}
    with pytest.raises(QuarantineLimitError, match=r"batches \[1\] of project 'mails' were held back as a whole"):
        check_quarantine_limit(careful, counts)
    assert lake.read("records", "mails").height == 0
    held = lake.read("quarantine", "mails").filter(pl.col("stage") == "batch")
    assert "the whole batch was held back: expect_table_row_count_to_be_between" in held["reason"][0]
    check_sums(lake)
    assert again(careful, lake, landing) == {"rows": 7, "records": 1, "duplicates": 0, "quarantined": 6}
    assert texts(lake) == ["short"]
    assert sorted(lake.read("objects", "mails")["status"]) == ["held", "loaded"]
    check_sums(lake)


def test_an_object_refused_whole_is_read_again(
    make_project: ProjectFactory, bucket: Bucket, lake: Lake, landing: Landing
):
    bucket.put("a.jsonl", b'{"id": "1", "text": "short"}\n{"id": "2", "text": "far too long"}\n' * 30)
    bucket.put("gone.jsonl", b'{"id": "3", "text": "x"}\n' * 100)
    bucket.put("empty.jsonl", b"")
    small = project_with(make_project, bucket, SHORT, limits={"max_object_bytes": 1000})
    counts = run(small, lake, landing)
    assert (counts["rows"], counts["quarantined"], counts["statuses"]) == (3, 3, {"rejected": 3})
    bucket.delete("gone.jsonl")
    large = project_with(make_project, bucket, SHORT)
    assert again(large, lake, landing) == {"rows": 62, "records": 1, "duplicates": 29, "quarantined": 32}
    assert texts(lake) == ["short"]
    ledger = {row["key"].rpartition("/")[2]: row for row in lake.read("objects", "mails").to_dicts()}
    assert {key: row["status"] for key, row in ledger.items()} == {
        "a.jsonl": "loaded", "empty.jsonl": "rejected", "gone.jsonl": "rejected",
    }  # fmt: skip
    assert "was deleted" in ledger["gone.jsonl"]["error"]
    assert [(key, row) for key, row, _ in in_quarantine(lake) if row < 0] == [("empty.jsonl", -1), ("gone.jsonl", -1)]
    check_sums(lake)


def test_a_replayed_row_that_is_known_by_now_is_a_duplicate(
    make_project: ProjectFactory, bucket: Bucket, lake: Lake, landing: Landing
):
    put_some(bucket)
    run(project_with(make_project, bucket, SHORT), lake, landing)
    mild = project_with(make_project, bucket, LONGER)
    bucket.put("c.jsonl", b'{"id": "2", "text": "longer"}\n')
    assert run(mild, lake, landing)["records"] == 1
    assert again(mild, lake, landing) == {"rows": 6, "records": 2, "duplicates": 1, "quarantined": 3}
    assert len(texts(lake)) == 4
    check_sums(lake)
