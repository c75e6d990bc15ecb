"""Plans: each object version once, whoever is killed or races; numbers, what is committed, even batches."""

from __future__ import annotations

import gzip
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.errors import StorageError
from include.ingestion import planning
from include.ingestion.landing import Landing, ObjectRef
from include.lake import Lake, Store, StoreConfig
from include.project import Project
from tests.include.conftest import Bucket, ProjectFactory
from tests.include.ingestion.ledger import commit_batch
from tests.include.processes import CRASHED, crash_at, race, run

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def project(make_project: ProjectFactory, bucket: Bucket) -> Project:
    return make_project(source={"prefix": bucket.prefix})


@pytest.fixture
def landing(bucket: Bucket) -> Landing:
    return Landing(bucket.config, bucket.name, bucket.prefix)


def plan(project: Project, lake: Lake, landing: Landing, **options: Any) -> dict[str, Any]:
    return planning.plan(project, lake, landing, **{"now": NOW, **options})


def planned_keys(project: Project, lake: Lake, batch: int) -> list[str]:
    found = planning.refs(planning.read_plan(project, lake, batch))
    return [ref.key.removeprefix(project.source.prefix) for ref in found]


def times_planned(project: Project, lake: Lake) -> Counter[tuple[str, str]]:
    """How often each object version is in a plan."""
    cursor, _ = planning.read_cursor(project, lake)
    batches = [planning.read_plan(project, lake, number) for number in range(1, cursor.last_batch + 1)]
    return Counter(
        (ref.key.removeprefix(project.source.prefix), ref.version) for b in batches for ref in planning.refs(b)
    )


# ---------------------------------------------------------------- once


def test_an_object_version_is_planned_once(project: Project, bucket: Bucket, lake: Lake, landing: Landing):
    bucket.put("a.jsonl", b"1")
    assert plan(project, lake, landing)["batches"] == [1]
    assert plan(project, lake, landing)["batches"] == [1]  # it waits
    commit_batch(project, lake, 1)
    assert plan(project, lake, landing)["batches"] == []
    bucket.put("a.jsonl", b"2")
    bucket.put("b.jsonl", b"1")
    counts = plan(project, lake, landing)
    assert (counts["batches"], counts["objects"], counts["left"]) == ([2], 2, 0)
    assert sorted(planned_keys(project, lake, 2)) == ["a.jsonl", "b.jsonl"]
    assert set(times_planned(project, lake).values()) == {1}


def test_a_plan_says_what_was_listed(project: Project, bucket: Bucket, lake: Lake, landing: Landing):
    key = bucket.put("a.jsonl", b"12345")
    plan(project, lake, landing)
    planned = planning.read_plan(project, lake, 1)
    [ref] = planning.refs(planned)
    etag = bucket.client.head_object(Bucket=bucket.name, Key=key)["ETag"].strip('"')
    assert (ref.key, ref.etag, ref.version_id, ref.size_bytes) == (key, etag, None, 5)
    assert {name: planned[name] for name in ("project", "bucket", "batch", "kind", "planned_at")} == {
        "project": "mails",
        "bucket": bucket.name,
        "batch": 1,
        "kind": "objects",
        "planned_at": NOW.isoformat(),
    }


@pytest.mark.parametrize("status", ["vanished", "superseded"])
def test_what_was_gone_before_it_was_read_is_planned_again_when_it_is_back(
    project: Project, bucket: Bucket, lake: Lake, landing: Landing, status: str
):
    bucket.put("a.jsonl", b"1")
    plan(project, lake, landing)
    commit_batch(project, lake, 1, status=status)
    assert plan(project, lake, landing)["batches"] == [2]
    [ref] = planning.refs(planning.read_plan(project, lake, 2))
    assert ref.ledger_revision == 2
    commit_batch(project, lake, 2)
    assert plan(project, lake, landing)["batches"] == []
    assert lake.read("objects", project.name)["status"].to_list() == ["loaded"]


@pytest.mark.parametrize("status", ["loaded", "rejected", "held"])
def test_what_was_read_is_not_planned_again(
    project: Project, bucket: Bucket, lake: Lake, landing: Landing, status: str
):
    bucket.put("a.jsonl", b"1")
    plan(project, lake, landing)
    commit_batch(project, lake, 1, status=status)
    assert plan(project, lake, landing)["batches"] == []


def test_the_cursor_may_be_deleted_or_broken_at_any_time(
    project: Project, bucket: Bucket, lake: Lake, landing: Landing
):
    for number in range(4):
        bucket.put(f"{number}.jsonl", b"1")
        plan(project, lake, landing)
        if number < 2:
            commit_batch(project, lake, number + 1)
        if number % 2:
            lake.files.delete([planning.cursor_path(project)])
        else:
            lake.files.put(planning.cursor_path(project), b'{"last_batch": "')
    counts = plan(project, lake, landing)
    assert (counts["batches"], counts["swept"]) == ([3, 4], True)
    assert set(times_planned(project, lake).values()) == {1}
    assert len(times_planned(project, lake)) == 4


def test_expired_plans_of_committed_batches_are_not_missed(
    project: Project, bucket: Bucket, lake: Lake, landing: Landing
):
    for number in (1, 2, 3):
        bucket.put(f"{number}.jsonl", b"1")
        plan(project, lake, landing)
        commit_batch(project, lake, number)
    lake.files.delete([planning.plan_path(project, number) for number in (1, 2)])
    lake.files.delete([planning.cursor_path(project)])
    bucket.put("4.jsonl", b"1")
    assert plan(project, lake, landing)["batches"] == [4]
    assert planning.uncommitted_before(project, lake, 5) == [4]


def test_another_landing_folder_starts_with_a_sweep_and_keeps_the_numbers(
    project: Project, make_project: ProjectFactory, bucket: Bucket, lake: Lake, landing: Landing
):
    bucket.put("a.jsonl", b"1")
    assert plan(project, lake, landing)["batches"] == [1]
    bucket.put("deeper/a.jsonl", b"1")
    moved = make_project(source={"prefix": f"{bucket.prefix}deeper/"})
    counts = plan(moved, lake, Landing(bucket.config, bucket.name, moved.source.prefix))
    assert (counts["batches"], counts["swept"]) == ([1, 2], True)


# ---------------------------------------------------------------- kills and races


def plan_and_die(project: Project, config: StoreConfig, lake_prefix: str, call: int, when: str) -> None:
    crash_at(call, when, [(Store, "create"), (Store, "swap"), (Lake, "append")])
    planning.MAX_BATCH_OBJECTS = 2
    plan(project, Lake(config, "lake", lake_prefix), Landing(config, project.source.bucket, project.source.prefix))


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_write_and_run_again_each_version_is_planned_once(
    project: Project, bucket: Bucket, lake: Lake, landing: Landing, when: str
):
    for number in range(5):
        bucket.put(f"{number}.jsonl", b"1")
    codes = []
    for call in range(6):
        one = Lake(lake.config, lake.files.bucket, f"{lake.files.prefix}{call}")
        codes.append(run(plan_and_die, project, lake.config, one.files.prefix, call, when))
        counts = plan(project, one, landing)
        planned = times_planned(project, one)
        assert (len(planned), set(planned.values())) == (5, {1}), f"write {call}"
        assert counts["objects"] == 5
        assert counts["batches"] == list(range(1, len(counts["batches"]) + 1))
    # Three plans and the cursor, which is created inside swap: two calls.
    assert codes == [CRASHED] * 5 + [0]


def plan_in_race(barrier, results, project: Project, config: StoreConfig, lake_prefix: str) -> None:
    lake = Lake(config, "lake", lake_prefix)
    landing = Landing(config, project.source.bucket, project.source.prefix)
    planning.MAX_BATCH_OBJECTS = 2
    lake.files.get("warm-up")
    barrier.wait()
    results.put(plan(project, lake, landing))


def test_three_racing_plans_take_each_version_once(project: Project, bucket: Bucket, lake: Lake):
    for number in range(7):
        bucket.put(f"{number}.jsonl", b"1")
    counts = race(3, plan_in_race, project, lake.config, lake.files.prefix)
    planned = times_planned(project, lake)
    assert (len(planned), set(planned.values())) == (7, {1})
    assert max(one["objects"] for one in counts) == 7
    cursor, _ = planning.read_cursor(project, lake)
    assert lake.files.get(planning.plan_path(project, cursor.last_batch + 1)) is None
    assert cursor.last_batch >= 4


def test_a_plan_made_meanwhile_by_another_run_is_kept(project: Project, bucket: Bucket, lake: Lake, landing: Landing):
    """Between this run's look at the plans and its own plan, another run plans; then one more object arrives."""

    class Overtaken(Landing):
        def all_pages(self):
            if not lake.files.get(planning.plan_path(project, 1)):
                assert plan(project, lake, landing)["batches"] == [1]
                bucket.put("b.jsonl", b"2")
            return super().all_pages()

    bucket.put("a.jsonl", b"1")
    counts = plan(project, lake, Overtaken(bucket.config, bucket.name, bucket.prefix))
    assert (counts["batches"], counts["objects"]) == ([1, 2], 2)
    assert [planned_keys(project, lake, number) for number in (1, 2)] == [["a.jsonl"], ["b.jsonl"]]


# ---------------------------------------------------------------- batches


def test_a_backlog_is_planned_in_portions_by_arrival(
    project: Project, bucket: Bucket, lake: Lake, landing: Landing, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(planning, "MAX_BATCH_OBJECTS", 2)
    monkeypatch.setattr(planning, "MAX_PLANNED_BATCHES", 2)
    for number in range(7):
        bucket.put(f"{number}.jsonl", b"1")
    counts = plan(project, lake, landing)
    assert (counts["batches"], counts["objects"], counts["left"]) == ([1, 2], 4, 3)
    counts = plan(project, lake, landing)  # no room
    assert (counts["batches"], counts["objects"]) == ([1, 2], 4)
    for number in (1, 2):
        commit_batch(project, lake, number)
    counts = plan(project, lake, landing, now=NOW + timedelta(minutes=1))
    assert (counts["batches"], counts["objects"], counts["left"]) == ([3, 4], 3, 0)
    planned = times_planned(project, lake)
    assert (len(planned), set(planned.values())) == (7, {1})
    arrival = [ref.key.removeprefix(bucket.prefix) for ref in sorted(landing.list_objects(), key=_arrival)]
    assert [key for number in (1, 2, 3, 4) for key in planned_keys(project, lake, number)] == arrival


def _arrival(ref: ObjectRef) -> tuple[datetime, str]:
    return ref.last_modified_at, ref.key


def ref(name: str, size_bytes: int) -> ObjectRef:
    return ObjectRef(name, "etag", None, size_bytes, NOW)


MIB = 1024**2


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 400 * MIB), max_size=60))
def test_batches_keep_the_limits_and_the_order(sizes: list[int]):
    objects = [ref(f"{number}.jsonl", size) for number, size in enumerate(sizes)]
    batches = planning.even_batches(objects)
    assert [one for batch in batches for one in batch] == objects
    for batch in batches:
        assert 0 < len(batch) <= planning.MAX_BATCH_OBJECTS
        assert len(batch) == 1 or sum(one.size_bytes for one in batch) <= planning.MAX_BATCH_BYTES


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (0, 1, []),
        (500, 10, [500]),
        (501, 10, [251, 250]),
        (1_001, 10, [334, 334, 333]),
        (100_000, 10, [500] * 200),
        (9, 16 * MIB, [5, 4]),  # not 8 and 1
        (3, 128 * MIB, [1, 1, 1]),
    ],
)
def test_batches_are_of_even_size(count: int, size: int, expected: list[int]):
    objects = [ref(f"{number}.jsonl", size) for number in range(count)]
    assert sorted(map(len, planning.even_batches(objects)), reverse=True) == expected


def test_packed_objects_count_with_what_they_will_unpack_to(
    project: Project, bucket: Bucket, lake: Lake, landing: Landing, monkeypatch: pytest.MonkeyPatch
):
    packed = gzip.compress(b"1")
    monkeypatch.setattr(planning, "MAX_BATCH_BYTES", 15 * len(packed))
    for number in range(2):
        bucket.put(f"{number}.jsonl.GZ", packed)
    assert plan(project, lake, landing)["batches"] == [1, 2]


# ---------------------------------------------------------------- committed


def test_what_is_committed_is_known_with_and_without_the_cursor(
    project: Project, bucket: Bucket, lake: Lake, landing: Landing
):
    for number in (1, 2, 3):
        bucket.put(f"{number}.jsonl", b"1")
        plan(project, lake, landing)
    commit_batch(project, lake, 2)
    planning.mark_committed(project, lake, 2)  # not contiguous: nothing to remember
    for _ in range(2):
        assert [planning.is_committed(project, lake, number) for number in (1, 2, 3)] == [False, True, False]
        assert planning.uncommitted_before(project, lake, 3) == [1]
        assert [one["batch"] for one in planning.plans_in_waiting(project, lake)] == [1, 3]
        lake.files.delete([planning.cursor_path(project)])
    plan(project, lake, landing)
    commit_batch(project, lake, 1)
    planning.mark_committed(project, lake, 1)
    assert planning.read_cursor(project, lake)[0].committed == 1
    assert planning.uncommitted_before(project, lake, 4) == [3]
    assert planning.uncommitted_before(project, lake, 1) == []


def test_plans_of_another_kind_take_numbers_and_are_waited_for(
    project: Project, bucket: Bucket, lake: Lake, landing: Landing
):
    bucket.put("a.jsonl", b"1")
    plan(project, lake, landing)
    replay = {"bucket": bucket.name, "kind": "replay", "planned_at": NOW.isoformat(), "objects": [], "rows": "x"}
    made = planning.create_plan(project, lake, replay)
    assert made == {"project": "mails", "batch": 2, **replay}
    assert planning.read_plan(project, lake, 2) == made
    bucket.put("b.jsonl", b"1")
    assert plan(project, lake, landing)["batches"] == [1, 2, 3]
    for number in (1, 3):
        commit_batch(project, lake, number)
    assert plan(project, lake, landing)["batches"] == [2]
    lake.append("objects", [_ledger_row(project, bucket, 1)], app_id="ingest/mails/2")  # a replay changes an old row
    assert plan(project, lake, landing)["batches"] == []
    assert planning.next_batch_number(project, lake) == 4


def _ledger_row(project: Project, bucket: Bucket, batch: int) -> dict[str, Any]:
    return {
        "project": project.name,
        "bucket": bucket.name,
        "key": f"{bucket.prefix}other",
        "object_version": "1",
        "revision": 2,
        "status": "loaded",
        "ingest_batch": batch,
    }


def test_of_two_runs_that_take_a_number_one_is_told_to_look_again(
    project: Project, lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(planning, "next_batch_number", lambda *_: 1)
    document = {"bucket": "b", "kind": "replay", "planned_at": NOW.isoformat(), "objects": []}
    assert planning.create_plan(project, lake, document) is not None
    assert planning.create_plan(project, lake, document) is None


def test_a_batch_that_was_never_planned_is_named(project: Project, lake: Lake):
    with pytest.raises(StorageError, match="plan of ingest batch 9 of project 'mails' does not exist"):
        planning.read_plan(project, lake, 9)


def test_nothing_new_is_no_work(project: Project, lake: Lake, landing: Landing):
    counts = plan(project, lake, landing)
    assert (counts["batches"], counts["objects"], counts["left"]) == ([], 0, 0)
