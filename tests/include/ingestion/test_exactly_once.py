"""Killed at any write and run again, or run three times at once: every row lands exactly once."""

import json
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.ingestion.commit import commit
from include.ingestion.landing import Landing
from include.ingestion.planning import plan, stage_path
from include.ingestion.stage import stage
from include.lake import Lake, Store, StoreConfig
from include.project import Project
from tests.include.conftest import Bucket, ProjectFactory
from tests.include.processes import CRASHED, crash_at, race, run

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WRITES = [(Store, "create"), (Store, "put"), (Store, "swap"), (Lake, "append"), (Lake, "add_files")]


def ingest(project: Project, lake: Lake, landing: Landing) -> dict[str, Any]:
    batches = plan(project, lake, landing, now=NOW)["batches"]
    for batch in batches:
        stage(project, lake, landing, batch, now=NOW)
    return commit(project, lake, batches, now=NOW)


def ingest_and_die(
    project: Project, config: StoreConfig, lake_bucket: str, lake_prefix: str, call: int, when: str
) -> None:
    crash_at(call, when, WRITES)
    landing = Landing(config, project.source.bucket, project.source.prefix)
    ingest(project, Lake(config, lake_bucket, lake_prefix), landing)


def put_mixed_objects(bucket: Bucket) -> None:
    """Two objects: 4 different records, 2 duplicates, 3 bad rows."""
    good = [{"id": str(number), "text": f"text {number}"} for number in (1, 2, 3, 3, 4)]
    bucket.put("a.jsonl", b"\n".join([*(json.dumps(row).encode() for row in good), b"{bad", b"[]"]))
    bucket.put("b.csv", b"id,text\n1,text 1\n5\n")


def check_landed_once(lake: Lake, project: Project) -> None:
    records = lake.read("records", project.name, newest=False)
    assert sorted(records["source_id"]) == ["1", "2", "3", "4"]
    assert records["revision"].to_list() == [1] * 4
    quarantine = lake.read("quarantine", project.name, newest=False)
    assert sorted(quarantine["raw"]) == [b"5", b"[]", b"{bad"]
    ledger = lake.read("objects", project.name, newest=False)
    assert ledger.height == 2
    sums = ledger.select("rows", "accepted", "duplicates", "quarantined").sum().row(0)
    assert sums == (9, 4, 2, 3)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_write_and_run_again_everything_lands_once(
    make_project: ProjectFactory, bucket: Bucket, s3_config: StoreConfig, when: str
):
    put_mixed_objects(bucket)
    project = make_project(source={"prefix": bucket.prefix})
    landing = Landing(s3_config, bucket.name, bucket.prefix)
    finished = 0
    for call in count():
        lake = Lake(s3_config, "lake", f"{bucket.prefix}{call}")
        code = run(ingest_and_die, project, s3_config, lake.files.bucket, lake.files.prefix, call, when)
        counts = ingest(project, lake, landing)
        if counts["rows"]:
            assert (counts["rows"], counts["records"], counts["duplicates"], counts["quarantined"]) == (9, 4, 2, 3)
        else:
            finished += 1  # the ledger was written: there was nothing left to do
        check_landed_once(lake, project)
        assert plan(project, lake, landing, now=NOW)["batches"] == []
        if code == 0:
            break
        assert code == CRASHED, f"write {call}"
    # plan, cursor; two files, keys, report; resolved; three tables, the ledger; profile, cursor
    assert call >= 12
    assert 1 <= finished <= 6


def ingest_in_race(barrier, results, project: Project, config: StoreConfig, lake_prefix: str) -> None:
    lake = Lake(config, "lake", lake_prefix)
    landing = Landing(config, project.source.bucket, project.source.prefix)
    lake.files.get("warm-up")
    barrier.wait()
    results.put(ingest(project, lake, landing))


def test_three_racing_runs_land_everything_once(make_project: ProjectFactory, bucket: Bucket, lake: Lake):
    put_mixed_objects(bucket)
    project = make_project(source={"prefix": bucket.prefix})
    counts = race(3, ingest_in_race, project, lake.config, lake.files.prefix)
    check_landed_once(lake, project)
    assert lake.read("objects", project.name)["ingest_batch"].to_list() == [1, 1]
    assert {one["rows"] for one in counts} <= {0, 9}  # a run that came late found nothing to do
    assert max(one["rows"] for one in counts) == 9


def commit_in_race(barrier, results, project: Project, config: StoreConfig, lake_prefix: str, batches) -> None:
    lake = Lake(config, "lake", lake_prefix)
    lake.files.get("warm-up")
    barrier.wait()
    results.put(commit(project, lake, batches, now=datetime.now(UTC)))


def test_three_racing_commits_agree_on_every_figure(make_project: ProjectFactory, bucket: Bucket, lake: Lake):
    project = make_project(source={"prefix": bucket.prefix})
    landing = Landing(lake.config, bucket.name, bucket.prefix)
    put_mixed_objects(bucket)
    plan(project, lake, landing, now=NOW)
    bucket.put("c.jsonl", b'{"id": "4", "text": "changed"}\n{"id": "1", "text": "text 1"}\n')
    batches = plan(project, lake, landing, now=NOW)["batches"]
    assert batches == [1, 2]
    for batch in batches:
        stage(project, lake, landing, batch, now=NOW)
    counts = race(3, commit_in_race, project, lake.config, lake.files.prefix, batches)
    assert counts[0] == counts[1] == counts[2]
    assert (counts[0]["rows"], counts[0]["records"], counts[0]["duplicates"], counts[0]["quarantined"]) == (11, 5, 3, 3)
    records = lake.read("records", project.name, newest=False).sort("source_id", "revision")
    assert list(zip(records["source_id"], records["revision"], strict=True)) == [
        ("1", 1), ("2", 1), ("3", 1), ("4", 1), ("4", 2),
    ]  # fmt: skip


def stage_in_race(barrier, results, project: Project, config: StoreConfig, lake_prefix: str) -> None:
    lake = Lake(config, "lake", lake_prefix)
    landing = Landing(config, project.source.bucket, project.source.prefix)
    barrier.wait()
    stage(project, lake, landing, 1, now=datetime.now(UTC))
    results.put(lake.files.get(stage_path(project, 1, "report.json")))


def test_racing_stages_go_on_with_the_report_of_one(make_project: ProjectFactory, bucket: Bucket, lake: Lake):
    put_mixed_objects(bucket)
    project = make_project(source={"prefix": bucket.prefix})
    plan(project, lake, Landing(lake.config, bucket.name, bucket.prefix), now=NOW)
    reports = race(3, stage_in_race, project, lake.config, lake.files.prefix)
    assert reports[0] is not None
    assert reports[0] == reports[1] == reports[2]


GOOD = st.builds(
    lambda number, text: json.dumps({"id": str(number), "text": text}, ensure_ascii=False).encode(),
    st.integers(0, 5),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip()),
)
ANY_LINE = st.one_of(
    GOOD,
    st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"")),
    st.sampled_from([b"", b"  ", b"{}", b'{"id": "1"}', b'{"id": "1", "text": NaN}', b'{"id": null, "text": "x"}']),
)


@given(objects=st.lists(st.lists(ANY_LINE, max_size=12), min_size=1, max_size=3))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_figures_add_up_and_good_rows_round_trip(
    make_project: ProjectFactory, s3_config: StoreConfig, bucket: Bucket, objects: list[list[bytes]]
):
    """The example's own folder and lake: hypothesis runs many examples within one test."""
    folder = f"{bucket.prefix}{datetime.now(UTC).timestamp()}/"
    here = Bucket(s3_config, bucket.name, folder, bucket.client)
    for number, lines in enumerate(objects):
        here.put(f"{number}.jsonl", b'{"id": "first", "text": "x"}\n' + b"\n".join(lines))
    project = make_project(source={"prefix": folder})
    lake = Lake(s3_config, "lake", folder)
    counts = ingest(project, lake, Landing(s3_config, bucket.name, folder))

    assert counts["rows"] == counts["records"] + counts["duplicates"] + counts["quarantined"]
    assert counts["rows"] == len(objects) + sum(1 for lines in objects for line in lines if line.strip())
    assert lake.read("quarantine", project.name).height == counts["quarantined"]
    stored = lake.read("records", project.name, newest=False)
    assert stored.height == counts["records"]

    expected: dict[str, str] = {}
    for ref in sorted(
        Landing(s3_config, bucket.name, folder).list_objects(), key=lambda r: (r.last_modified_at, r.key)
    ):
        for line in Landing(s3_config, bucket.name, folder).read(ref).split(b"\n"):
            try:
                row = json.loads(line.decode(), parse_constant=lambda _: None)
            except ValueError:
                continue
            if isinstance(row, dict) and row.get("id") and (row.get("text") or "").strip():
                expected[row["id"]] = row["text"]
    newest = lake.read("records", project.name)
    actual = {one["source_id"]: json.loads(one["fields_json"])["text"] for one in newest.to_dicts()}
    assert actual == expected
