"""Compaction, checkpoints and clean-up beside running writers: no row lost, doubled or out of order."""

import io
from datetime import UTC, datetime, timedelta

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction

from include.lake import Lake, StoreConfig, keys, maintenance
from include.lake.maintenance import (
    checkpoint,
    compact,
    existing_tables,
    expire_batches,
    remove_unused,
    tidy_table,
)
from include.lake.schemas import TABLES
from tests.include.processes import race

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEEKS = timedelta(days=14)
LATER = datetime.now(UTC) + timedelta(days=20)  # seen from there, everything a test writes is old
SHARD = "7"


def record(number: int, revision: int = 1, project: str = "p"):
    """A row of one shard; ids are in another order than the numbers."""
    record_id = SHARD + keys.digest(number)[1:]
    return {
        "project": project,
        "shard": SHARD,
        "record_id": record_id,
        "source_id": str(number),
        "revision": revision,
        "ingested_at": NOW,
        "fields_json": f'{{"text":"{number}"}}',
    }


def fill(lake: Lake, commits: int, project: str = "p", first: int = 0) -> None:
    for commit in range(first, first + commits):
        rows = [record(commit * 10 + row, project=project) for row in range(3)]
        lake.append("records", rows, app_id=f"{project}/{commit}")


def opened(lake: Lake, table: str = "records") -> DeltaTable:
    return DeltaTable(lake.files.uri(f"tables/{table}"), storage_options=lake.config.options())


def paths(lake: Lake, table: str = "records") -> set[str]:
    """The files of the present version."""
    return set(pa.table(opened(lake, table).get_add_actions()).column("path").to_pylist())


def stored(lake: Lake, table: str = "records") -> set[str]:
    """All Parquet files in the table's folder."""
    folder = f"tables/{table}/"
    return {
        path.removeprefix(folder)
        for path in lake.files.list(folder)
        if path.endswith(".parquet") and "_delta_log" not in path
    }


def rows_of(lake: Lake, path: str, table: str = "records") -> pa.Table:
    data = lake.files.get(f"tables/{table}/{path}")
    assert data is not None
    return pq.read_table(io.BytesIO(data), partitioning=None)


# ---------------------------------------------------------------- compaction


def test_compaction_keeps_every_row_and_sorts_the_file(lake: Lake):
    fill(lake, 6)
    before = lake.read("records", "p", newest=False).sort("source_id")
    counts = compact(lake, "records", "p")
    assert (counts["files_before"], counts["files_after"], counts["rewritten_files"]) == (6, 1, 6)
    assert counts["rewritten_rows"] == 18
    assert counts["outrun"] == 0
    assert counts["bytes_before"] > counts["bytes_after"] > 0
    assert lake.read("records", "p", newest=False).sort("source_id").equals(before)
    (path,) = paths(lake)
    ids = rows_of(lake, path)["record_id"].to_pylist()
    assert len(ids) == 18
    assert ids == sorted(ids)
    assert ids != [record(c * 10 + r)["record_id"] for c in range(6) for r in range(3)]  # the order had to change


def test_delta_lakes_own_compaction_would_not_sort(lake: Lake):
    """Why there is one of our own; when this fails, look whether ours can go."""
    fill(lake, 6)
    opened(lake).optimize.compact()
    (path,) = paths(lake)
    ids = rows_of(lake, path)["record_id"].to_pylist()
    assert ids != sorted(ids)


def test_point_reads_find_rows_in_a_compacted_file(lake: Lake):
    fill(lake, 6)
    compact(lake, "records", "p")
    for number in (0, 21, 52):
        wanted = record(number)["record_id"]
        found = lake.read("records", "p", where=(pl.col("shard") == SHARD) & (pl.col("record_id") == wanted))
        assert found["source_id"].to_list() == [str(number)]


def test_revisions_of_a_record_stay_in_the_order_they_arrived(lake: Lake):
    for revision in range(1, 6):
        lake.append("records", [record(1, revision), record(2, revision)], app_id=f"p/{revision}")
    compact(lake, "records", "p")
    (path,) = paths(lake)
    assert rows_of(lake, path)["revision"].to_pylist() == [1, 2, 3, 4, 5] * 2
    assert lake.read("records", "p")["revision"].to_list() == [5, 5]


def test_a_second_compaction_has_nothing_to_do(lake: Lake):
    fill(lake, 5)
    compact(lake, "records", "p")
    version = lake.version("records")
    assert compact(lake, "records", "p")["rewritten_files"] == 0
    assert lake.version("records") == version


def test_large_files_and_few_small_ones_are_left_alone(lake: Lake):
    fill(lake, maintenance.MIN_FILES - 1)
    assert compact(lake, "records", "p")["rewritten_files"] == 0
    fill(lake, 3, first=10)
    size = max(pa.table(opened(lake).get_add_actions()).column("size_bytes").to_pylist())
    assert compact(lake, "records", "p", target_bytes=size)["rewritten_files"] == 0  # all are above half of it
    counts = compact(lake, "records", "p", target_bytes=3 * size)
    assert counts["files_after"] == 2
    assert counts["rewritten_files"] == 6
    assert lake.read("records", "p").height == 18


def test_other_projects_and_other_shards_keep_their_files(lake: Lake):
    fill(lake, 5)
    fill(lake, 5, project="q")
    other = {**record(1), "shard": "a", "record_id": "a" * 32}
    lake.append("records", [other], app_id="other-shard")
    before = {path for path in paths(lake) if path.startswith("project=q") or "shard=a" in path}
    assert len(before) == 6
    assert compact(lake, "records", "p")["files_after"] == 2
    assert before < paths(lake)
    assert len(paths(lake)) == 7
    assert lake.read("records", "q").height == 15


def test_ledger_files_are_sorted_by_key_and_the_newest_row_of_an_object_stays_newest(lake: Lake):
    for number in range(5):
        row = {"project": "p", "bucket": "b", "object_version": "1", "ingest_batch": number}
        lake.append(
            "objects",
            [{**row, "key": f"day/{9 - number}", "revision": 1}, {**row, "key": "day/1", "revision": number}],
            app_id=str(number),
        )
    compact(lake, "objects", "p")
    (path,) = paths(lake, "objects")
    keys_found = rows_of(lake, path, "objects")["key"].to_pylist()
    assert keys_found == sorted(keys_found)
    newest = lake.read("objects", "p", where=pl.col("key") == "day/1")
    assert newest["revision"].to_list() == [4]


def test_tables_without_record_ids_keep_their_order(lake: Lake):
    for number in range(5):
        metric = {"project": "p", "name": "n", "cycle": str(9 - number), "slice": "all", "measured_at": NOW}
        lake.append("metrics", [metric], app_id=str(number))
    assert compact(lake, "metrics", "p")["files_after"] == 1
    assert lake.read("metrics", "p", newest=False)["cycle"].to_list() == ["9", "8", "7", "6", "5"]


def test_the_same_rows_of_every_table_after_compaction(lake: Lake):
    kinds = {
        "text": "x", "string": "x", "int64": 1, "double": 0.5, "bool": True, "binary": b"\x00\xff",
        "timestamp[us, tz=UTC]": NOW, "list<item: float>": [0.5, 0.25],
    }  # fmt: skip
    for name, spec in TABLES.items():
        for number in range(4):
            row = {field.name: kinds[str(field.type)] for field in spec.schema}
            row.update({"project": "p"} | ({"shard": SHARD} if "shard" in row else {}))
            row[spec.key[1]] = f"{SHARD}{number}"
            if number == 3:
                keep = {*spec.key, *spec.partition_by}
                row = {column: value for column, value in row.items() if column in keep}
            lake.append(name, [row], app_id=str(number))
        before = lake.read(name, "p", newest=False).sort(spec.key[1])
        assert compact(lake, name, "p")["files_after"] == 1, name
        assert lake.read(name, "p", newest=False).sort(spec.key[1]).equals(before), name
    assert existing_tables(lake) == list(TABLES)


def test_nothing_to_do_where_nothing_was_written(lake: Lake):
    assert existing_tables(lake) == []
    counts = tidy_table(lake, "records", "p", retention_days=14, now=NOW)
    assert counts["files_before"] == counts["checkpointed"] == counts["removed"] == 0


# ---------------------------------------------------------------- beside writers


def append_in_race(lake: Lake, worker: int) -> dict[str, int]:
    for number in range(12):
        # Every piece of work is done by two workers: one of them must find it landed.
        piece = worker // 2 * 100 + number
        lake.append("records", [record(piece)], app_id=f"piece/{piece}")
    return {"rewritten": 0}


def compact_in_race(lake: Lake, until: int) -> dict[str, int]:
    rewritten = 0
    while True:
        counts = compact(lake, "records", "p")
        rewritten += counts["rewritten_files"]
        checkpoint(lake, "records")
        if lake.read("records", "p", columns=["record_id"]).height == until:
            return {"rewritten": rewritten}


def work_in_race(barrier, results, config: StoreConfig, prefix: str) -> None:
    lake = Lake(config, "lake", prefix)
    worker = barrier.wait()
    results.put(append_in_race(lake, worker) if worker < 4 else compact_in_race(lake, until=24 + 12))


def test_appends_and_compactions_race_and_every_row_is_there_once(lake: Lake):
    fill(lake, 4, first=1000)
    results = race(6, work_in_race, lake.config, lake.files.prefix)
    assert sum(one["rewritten"] for one in results) >= 4
    numbers = lake.read("records", "p", newest=False)["source_id"].to_list()
    pieces = [base + number for base in (0, 100) for number in range(12)]
    filled = [commit * 10 + row for commit in range(1000, 1004) for row in range(3)]
    assert sorted(map(int, numbers)) == sorted(pieces + filled)
    version = lake.version("records")
    for piece in pieces:
        assert not lake.append("records", [record(piece)], app_id=f"piece/{piece}").committed
    assert lake.version("records") == version


def test_of_two_compactions_of_the_same_files_one_counts(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    fill(lake, 5)
    original = maintenance._write
    inner: list[dict] = []

    def overtaken(*args, **kwargs):
        written = original(*args, **kwargs)
        if not inner:
            inner.append({})
            inner[0] = compact(lake, "records", "p")
        return written

    monkeypatch.setattr(maintenance, "_write", overtaken)
    counts = compact(lake, "records", "p")
    assert inner[0]["files_after"] == 1
    assert (counts["outrun"], counts["rewritten_files"]) == (1, 0)
    assert lake.read("records", "p", newest=False).height == 15


def test_a_compaction_overtaken_just_before_its_commit_gives_way(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    """Delta Lake itself would let it remove the same files again, and the rows would be there twice."""
    fill(lake, 5)
    original = DeltaTable.create_write_transaction
    inner: list[dict] = []

    def overtaken(self: DeltaTable, *args, **kwargs):
        if not inner:
            inner.append({})
            inner[0] = compact(lake, "records", "p")
        original(self, *args, **kwargs)

    monkeypatch.setattr(DeltaTable, "create_write_transaction", overtaken)
    counts = compact(lake, "records", "p")
    assert inner[0]["files_after"] == 1
    assert (counts["outrun"], counts["rewritten_files"]) == (1, 0)
    assert lake.read("records", "p", newest=False).height == 15


def test_a_commit_whose_answer_was_lost_counts(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    from deltalake.exceptions import CommitFailedError

    fill(lake, 5)
    original = DeltaTable.create_write_transaction
    calls = []

    def lost(self: DeltaTable, *args, **kwargs):
        original(self, *args, **kwargs)
        calls.append(1)
        raise CommitFailedError("the version exists")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", lost)
    counts = compact(lake, "records", "p")
    assert (len(calls), counts["outrun"], counts["files_after"]) == (1, 0, 1)
    assert lake.read("records", "p", newest=False).height == 15


# ---------------------------------------------------------------- log


def test_app_ids_survive_compaction_checkpoint_and_a_cleaned_log(lake: Lake):
    fill(lake, 12)
    delta = opened(lake)
    delta.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    compact(lake, "records", "p")
    counts = checkpoint(lake, "records")
    assert counts["checkpointed"] >= 12
    assert counts["log_files_removed"] >= 12
    log = [path.rpartition("/")[2] for path in lake.files.list("tables/records/_delta_log")]
    assert "00000000000000000003.json" not in log  # the commit that brought the id is gone
    for commit in range(12):
        assert not lake.append("records", [record(commit)], app_id=f"p/{commit}").committed
    assert lake.read("records", "p", newest=False).height == 36
    assert lake.append("records", [record(777)], app_id="p/777").committed
    assert lake.read("records", "p", newest=False).height == 37


def test_a_checkpoint_is_made_when_enough_was_committed(lake: Lake):
    fill(lake, 5)
    assert checkpoint(lake, "records")["checkpointed"] == 0
    fill(lake, 6, first=5)
    assert checkpoint(lake, "records")["checkpointed"] == 12  # 11 appends and the creation
    assert checkpoint(lake, "records")["checkpointed"] == 0


# ---------------------------------------------------------------- clean-up


def stage_unseen(lake: Lake, batch: int, *, report: bool = True) -> str:
    """What a stage task leaves: a data file no version of the table knows, and its report."""
    rows = pa.Table.from_pylist([record(9000 + batch)], TABLES["records"].schema)
    file = lake.write_file("records", rows, name=f"staged-{batch}.parquet")
    if report:
        lake.files.create_json(f"ingest/p/stage/{batch:08d}/report.json", {"file": file.path})
    return file.path


def commit_ledger(lake: Lake, batch: int, project: str = "p") -> None:
    row = {"project": project, "bucket": "b", "key": str(batch), "object_version": "1", "ingest_batch": batch}
    lake.append("objects", [row], app_id=f"ingest/{project}/{batch}")


def test_young_orphans_and_replaced_files_stay(lake: Lake):
    fill(lake, 5)
    compact(lake, "records", "p")
    staged = stage_unseen(lake, 1)
    before = stored(lake)
    assert len(before) == 7
    assert remove_unused(lake, "records", retention=WEEKS, now=datetime.now(UTC)) == {"removed": 0, "waiting": []}
    assert stored(lake) == before
    assert staged in before


def test_without_retention_only_what_the_table_uses_is_left(lake: Lake):
    """No retention at all stands for files that are older than it: the server's times cannot be set."""
    fill(lake, 5)
    compact(lake, "records", "p")
    stage_unseen(lake, 1, report=False)
    now = datetime.now(UTC) - timedelta(days=2)
    assert remove_unused(lake, "records", retention=timedelta(0), now=now)["removed"] == 6
    assert stored(lake) == paths(lake)
    assert lake.read("records", "p", newest=False).height == 15


def test_a_staged_batch_that_waits_puts_the_clean_up_off(lake: Lake):
    fill(lake, 5)
    compact(lake, "records", "p")
    staged = stage_unseen(lake, 3)
    lake.files.create_json("ingest/other/stage/00000012/report.json", {})
    counts = remove_unused(lake, "records", retention=timedelta(0), now=LATER)
    assert counts == {"removed": 0, "waiting": ["other/12", "p/3"]}
    assert staged in stored(lake)
    commit_ledger(lake, 3)
    commit_ledger(lake, 12, project="other")
    assert remove_unused(lake, "records", retention=timedelta(0), now=LATER)["removed"] == 6


def test_a_retention_below_a_week_is_refused(lake: Lake):
    fill(lake, 5)
    with pytest.raises(ValueError, match="less than 7"):
        tidy_table(lake, "records", "p", retention_days=6, now=NOW)
    assert len(paths(lake)) == 5


# ---------------------------------------------------------------- plans and stage folders


def planned(lake: Lake) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in lake.files.list("ingest/p/plan"))


def plan_and_stage(lake: Lake, batch: int, *, commit: bool) -> None:
    lake.files.create_json(f"ingest/p/plan/{batch:08d}.json", {"batch": batch})
    folder = f"ingest/p/stage/{batch:08d}"
    lake.files.put(f"{folder}/0123abcd/quarantine.parquet", b"x")
    lake.files.create_json(f"{folder}/report.json", {"batch": batch})
    lake.files.create_json(f"{folder}/resolved.json", {"batch": batch})
    if commit:
        commit_ledger(lake, batch)


def test_finished_batches_expire_and_the_newest_plan_stays(lake: Lake):
    for batch in (1, 2, 3):
        plan_and_stage(lake, batch, commit=True)
    assert expire_batches(lake, "p", retention_days=14, now=datetime.now(UTC))["stage_folders"] == 0
    assert len(planned(lake)) == 3
    counts = expire_batches(lake, "p", retention_days=14, now=LATER)
    assert counts == {"stage_folders": 3, "stage_files": 9, "plans": 2, "uncommitted": []}
    assert planned(lake) == ["00000003.json"]
    assert list(lake.files.list("ingest/p/stage")) == []
    again = expire_batches(lake, "p", retention_days=14, now=LATER)
    assert again == {"stage_folders": 0, "stage_files": 0, "plans": 0, "uncommitted": []}


def test_uncommitted_batches_stay_and_hold_the_plans_behind_them(lake: Lake):
    for batch in (1, 2, 3, 4):
        plan_and_stage(lake, batch, commit=batch != 2)
    counts = expire_batches(lake, "p", retention_days=14, now=LATER)
    assert counts == {"stage_folders": 3, "stage_files": 9, "plans": 1, "uncommitted": [2]}
    assert planned(lake) == ["00000002.json", "00000003.json", "00000004.json"]
    assert {path.split("/")[3] for path in lake.files.list("ingest/p/stage")} == {"00000002"}


def test_other_projects_and_frozen_files_are_not_touched(lake: Lake):
    plan_and_stage(lake, 1, commit=True)
    plan_and_stage(lake, 2, commit=True)
    kept = ["ingest/p2/stage/00000001/report.json", "ingest/p2/plan/00000001.json", "ingest/p/cursor.json"]
    kept += ["snapshots/p/0.parquet", "models/p/0.skops", "batches/p/batch/1.json", "champions/p.json"]
    for path in kept:
        lake.files.put(path, b"{}")
    for project in ("p", "p2"):
        expire_batches(lake, project, retention_days=14, now=LATER)
    assert set(kept) <= set(lake.files.list(""))


def test_app_ids_carry_no_time_so_no_property_can_expire_them(lake: Lake):
    """The docstring's claim: even with the shortest retention of ids, an old append is still known."""
    fill(lake, 3)
    opened(lake).alter.set_table_properties({"delta.setTransactionRetentionDuration": "interval 0 seconds"})
    opened(lake).create_checkpoint()
    assert not lake.append("records", [record(1)], app_id="p/0").committed
    with_time = CommitProperties(app_transactions=[Transaction("timed", 1, last_updated=1)])
    rows = pa.Table.from_pylist([record(5)], TABLES["records"].schema)
    from deltalake import write_deltalake

    write_deltalake(opened(lake), rows, mode="append", commit_properties=with_time)
    assert opened(lake).transaction_version("timed") is None
