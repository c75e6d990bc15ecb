"""Keep the tables fast and the bucket small, beside running writers: compaction, checkpoints, and what may be deleted.

What is kept, and why:

- **Files of the present version**, always. Compaction replaces many small files of one partition by one that holds the
  same rows, sorted by ``record_id`` (else by object key); Delta Lake's own would only put them one behind the other.
- **Files that left the table** (replaced by compaction) until the retention has passed: readers may still use them.
- **Files that are not in the table yet**: a staged data file lies in the table's folder until its batch is committed.
  Orphans younger than the retention are never touched; older ones only while no staged batch has waited that long.
- **App ids of all appends, for ever.** A batch may stay half committed for as long as a DAG is paused, so there is no
  age after which an id cannot be needed again: an expired one would let the retry append its rows twice. (Appends carry
  no time with their id, so ``delta.setTransactionRetentionDuration`` would not expire them either.)
- **Snapshots, models, batches and pointers**: not touched at all. A snapshot is a file of its own, and its
  ``label_version`` only says what it was made from, so no version of a table is pinned by it.
"""

from __future__ import annotations

import io
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from include.errors import StorageError
from include.lake.lake import COMMIT_ATTEMPTS, DataFile, Lake, _stats, conform
from include.lake.schemas import TABLES, Table

if TYPE_CHECKING:
    from deltalake import DeltaTable

TARGET_BYTES = 64 * 1024**2  # of Parquet; unpacked and sorted it takes about ten times this in memory
MIN_FILES = 4  # a partition with fewer small files is left alone: rewriting it would cost more than it saves
MIN_RETENTION = timedelta(days=7)  # Delta Lake's own limit: it remembers removed files for a week
ROW_GROUP_ROWS = 65_536
CHECKPOINT_COMMITS = 10
STAGING_MARGIN = timedelta(days=1)  # the longest a stage task may take between its first file and its report


def existing_tables(lake: Lake) -> list[str]:
    """Names of the tables that were ever written."""
    return [name for name in TABLES if lake.version(name) >= 0]


def tidy_table(lake: Lake, table: str, project: str, *, retention_days: int, now: datetime) -> dict[str, Any]:
    """Compact the project's partitions of a table, then checkpoint and clean the table; safe to kill and repeat.

    :param retention_days: how long files stay that are no longer, or not yet, part of the table; at least 7.
    :returns: ``table`` and the figures of ``compact``, ``checkpoint`` and ``remove_unused``.
    :raises ValueError: for a shorter retention.
    :raises StorageError: when storage fails; a retry goes on where it stopped.
    """
    if timedelta(days=retention_days) < MIN_RETENTION:
        raise ValueError(f"retention_days is {retention_days}: less than {MIN_RETENTION.days} would hurt readers")
    return {
        "table": table,
        **compact(lake, table, project),
        **checkpoint(lake, table),
        **remove_unused(lake, table, retention=timedelta(days=retention_days), now=now),
    }


# ---------------------------------------------------------------- compaction


@dataclass(frozen=True)
class _LiveFile:
    """A file of the table's present version."""

    path: str
    size_bytes: int
    written_at_ms: int
    partition: dict[str, str]


def compact(lake: Lake, table: str, project: str, *, target_bytes: int = TARGET_BYTES) -> dict[str, Any]:
    """Replace small files of the project's partitions by few large ones, sorted by ``record_id``.

    :param target_bytes: wanted size; files of half of it or more are left alone, so each row is rewritten a few times
        in its life, not every night.
    :returns: ``files_before`` and ``files_after`` (of the project), ``rewritten_files``, ``rewritten_rows``,
        ``bytes_before`` and ``bytes_after`` (of the rewritten files), ``outrun`` (groups that another
        compaction took first).
    :raises StorageError: when storage fails; groups that were replaced stay replaced.
    """
    spec = TABLES[table]
    counts = dict.fromkeys(("rewritten_files", "rewritten_rows", "bytes_before", "bytes_after", "outrun"), 0)
    delta = lake._open(spec)
    if delta is None:
        return {"files_before": 0, "files_after": 0, **counts}
    live = _live_files(delta, spec, project)
    columns = pa.schema(delta.schema().to_arrow()).names
    files_after = len(live)
    for group in _groups(live, target_bytes):
        rows = _read(lake, spec, columns, group)
        merged = _write(lake, spec, rows, group[0].partition)
        if not _replace(lake, spec, group, merged):
            counts["outrun"] += 1
            continue
        files_after -= len(group) - 1
        counts["rewritten_files"] += len(group)
        counts["rewritten_rows"] += rows.num_rows
        counts["bytes_before"] += sum(one.size_bytes for one in group)
        counts["bytes_after"] += merged.size_bytes
    return {"files_before": len(live), "files_after": files_after, **counts}


def _live_files(delta: DeltaTable, spec: Table, project: str) -> list[_LiveFile]:
    """The project's files, oldest first."""
    with _explained(spec, "listing the files of"):
        actions = pa.table(delta.get_add_actions(flatten=True))
    found = []
    for row in actions.to_pylist():
        partition = {column: row[f"partition.{column}"] for column in spec.partition_by}
        if partition["project"] == project:
            found.append(_LiveFile(row["path"], row["size_bytes"], row["modification_time"], partition))
    return sorted(found, key=lambda one: (one.written_at_ms, one.path))


def _groups(live: Iterable[_LiveFile], target_bytes: int) -> Iterator[list[_LiveFile]]:
    """Small files of one partition in groups of about the target size, each of at least two files."""
    partitions: dict[tuple[str, ...], list[_LiveFile]] = defaultdict(list)
    for one in live:
        if one.size_bytes < target_bytes / 2:
            partitions[tuple(one.partition.values())].append(one)
    for small in partitions.values():
        if len(small) < MIN_FILES:
            continue
        group: list[_LiveFile] = []
        for one in small:
            if len(group) > 1 and sum(each.size_bytes for each in group) + one.size_bytes > target_bytes:
                yield group
                group = []
            group.append(one)
        if len(group) > 1:
            yield group


def _read(lake: Lake, spec: Table, columns: list[str], group: list[_LiveFile]) -> pa.Table:
    """The rows of the files, in the columns the table has by now without those of the partition, in order."""
    import pyarrow.parquet as pq

    tables = []
    for one in group:
        path = f"tables/{spec.name}/{one.path}"
        data = lake.files.get(path)
        if data is None:
            raise StorageError(
                f"file {lake.files.uri(path)} of table {spec.name!r} is gone",
                remedy="Restore it from the bucket's versions: the table cannot be read without it.",
            )
        rows = pq.read_table(pa.BufferReader(data), partitioning=None)
        tables.append(conform(rows, spec))
    merged = pa.concat_tables(tables)
    order = next((name for name in ("record_id", "key") if name in columns), None)
    merged = merged.sort_by(order) if order else merged  # stable: rows of one record or object stay as they arrived
    return merged.select([name for name in spec.schema.names if name in columns and name not in spec.partition_by])


def _write(lake: Lake, spec: Table, rows: pa.Table, partition: dict[str, str]) -> DataFile:
    """A data file like those of ``Lake.write_file``, packed tighter: it is written once and read for years."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        use_dictionary=spec.repetitive,
        write_statistics=[name for name in spec.ordered if name in rows.column_names],
        row_group_size=ROW_GROUP_ROWS,
    )
    data = sink.getvalue()
    folder = "/".join(f"{column}={value}" for column, value in partition.items())
    path = f"{folder}/compact-{uuid.uuid4().hex}.parquet"
    lake.files.put(f"tables/{spec.name}/{path}", data)
    ids = rows["record_id"] if "record_id" in rows.column_names else None
    return DataFile(
        path=path,
        size_bytes=len(data),
        rows=rows.num_rows,
        partition=partition,
        first_record_id=ids[0].as_py() if ids is not None else None,
        last_record_id=ids[-1].as_py() if ids is not None else None,
        written_at_ms=time.time_ns() // 1_000_000,
    )


def _replace(lake: Lake, spec: Table, group: list[_LiveFile], merged: DataFile) -> bool:
    """Swap files in one commit; False when some of them had left the table already.

    Delta Lake's own conflict check lets a second compaction remove the same files once more and doubles their rows
    (tried with 1.6.6). So the commit may only become the version after the one in which the files were seen.
    """
    from deltalake import CommitProperties
    from deltalake.exceptions import CommitFailedError
    from deltalake.transaction import AddAction, RemoveAction

    actions: list[Any] = [
        RemoveAction(
            one.path,
            data_change=False,
            deletion_timestamp=time.time_ns() // 1_000_000,
            size=one.size_bytes,
            partition_values={**one.partition},
        )
        for one in group
    ]
    stats = _stats(merged)
    actions.append(
        AddAction(
            merged.path, merged.size_bytes, merged.partition, merged.written_at_ms, data_change=False, stats=stats
        )
    )
    for attempt in range(COMMIT_ATTEMPTS):
        delta = lake._open(spec)
        if delta is None:
            return False
        live = {one.path for one in _live_files(delta, spec, merged.partition["project"])}
        if merged.path in live:
            return True  # our commit landed, only its answer was lost
        if not live.issuperset(one.path for one in group):
            return False
        try:
            with _explained(spec, "compacting"):
                delta.create_write_transaction(
                    actions,
                    "append",
                    delta.schema(),
                    list(spec.partition_by),
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
        except CommitFailedError:
            time.sleep(min(0.05 * 2**attempt, 2.0))  # another writer won this version: look again
        else:
            return True
    raise StorageError(
        f"table {spec.name!r} was too busy: {COMMIT_ATTEMPTS} attempts to compact lost to other writers",
        remedy="Clear the task when less is written, or move schedule.maintain to a quieter hour.",
    )


# ---------------------------------------------------------------- log


def checkpoint(lake: Lake, table: str) -> dict[str, Any]:
    """Sum up the table's log where enough was committed since the last time, and drop entries it no longer needs.

    Entries go after 30 days (Delta Lake's default), and only those a checkpoint has summed up.

    :returns: ``version``, ``checkpointed`` (commits summed up now), ``log_files_removed``.
    """
    spec = TABLES[table]
    delta = lake._open(spec)
    if delta is None:
        return {"version": -1, "checkpointed": 0, "log_files_removed": 0}
    log = f"tables/{table}/_delta_log"
    last = lake.files.get_json(f"{log}/_last_checkpoint")
    commits = delta.version() - (last["version"] if last else -1)
    if commits < CHECKPOINT_COMMITS:
        return {"version": delta.version(), "checkpointed": 0, "log_files_removed": 0}
    before = sum(1 for _ in lake.files.list(log))
    with _explained(spec, "checkpointing"):
        delta.create_checkpoint()
        delta.cleanup_metadata()
    after = sum(1 for _ in lake.files.list(log))
    return {"version": delta.version(), "checkpointed": commits, "log_files_removed": max(before + 1 - after, 0)}


# ---------------------------------------------------------------- files no reader and no writer needs


def remove_unused(lake: Lake, table: str, *, retention: timedelta, now: datetime) -> dict[str, Any]:
    """Delete files that left the table, or never reached it, longer than ``retention`` ago.

    Nothing is deleted while a batch of any project has been staged for about that long without being committed: its
    data files look like orphans, and its commit would make the table point to files that are gone.

    :returns: ``removed`` (files), ``waiting`` (the batches that put it off, as ``<project>/<number>``).
    :raises StorageError: when storage fails; a retry goes on.
    """
    spec = TABLES[table]
    delta = lake._open(spec)
    if delta is None:
        return {"removed": 0, "waiting": []}
    waiting = _waiting_batches(lake, before=now - retention + STAGING_MARGIN)
    if waiting:
        return {"removed": 0, "waiting": waiting}
    with _explained(spec, "cleaning"):
        removed = delta.vacuum(
            retention_hours=int(retention.total_seconds() // 3600),
            dry_run=False,
            enforce_retention_duration=retention >= MIN_RETENTION,
            full=True,  # also files the log never knew: those of killed attempts
        )
    return {"removed": len(removed), "waiting": []}


def _waiting_batches(lake: Lake, *, before: datetime) -> list[str]:
    """Batches staged before a time and still not committed, of all projects: they share the tables."""
    old = [
        (project, number)
        for (project, number), folder in _stage_folders(lake, "ingest").items()
        if any(path.endswith("/report.json") and written_at < before for path, written_at in folder)
    ]
    done = _committed(lake, old)
    return sorted(f"{project}/{number}" for project, number in set(old) - done)


# ---------------------------------------------------------------- plans and staged results


def expire_batches(lake: Lake, project: str, *, retention_days: int, now: datetime) -> dict[str, Any]:
    """Delete stage folders and plans of ingest batches that are committed and older than ``retention_days``.

    A plan says which object versions were taken; once its batch is committed, the ledger says so. Plans go in the order
    of their numbers, none behind one that must stay, and the newest one always stays: numbers are never used again.

    :returns: ``stage_folders``, ``stage_files`` and ``plans`` deleted; ``uncommitted`` (old batches that must stay).
    :raises StorageError: when storage fails; a retry goes on.
    """
    before = now - timedelta(days=retention_days)
    old_folders = {
        batch: sorted((path for path, _ in files), key=_data_first)
        for batch, files in _stage_folders(lake, f"ingest/{project}/stage").items()
        if all(written_at < before for _, written_at in files)
    }
    plans = sorted(
        (int(path.rpartition("/")[2].removesuffix(".json")), path, written_at)
        for path, written_at in lake.files.list_with_times(f"ingest/{project}/plan")
        if path.endswith(".json") and path.rpartition("/")[2].removesuffix(".json").isdecimal()
    )
    old_plans = [(number, path) for number, path, written_at in plans[:-1] if written_at < before]
    candidates = {*old_folders, *((project, number) for number, _ in old_plans)}
    done = _committed(lake, candidates)
    finished = [files for batch, files in old_folders.items() if batch in done]
    for files in finished:
        lake.files.delete(files)
    expired = []
    for number, path in old_plans:
        if (project, number) not in done:
            break
        expired.append(path)
    lake.files.delete(expired)
    return {
        "stage_folders": len(finished),
        "stage_files": sum(len(files) for files in finished),
        "plans": len(expired),
        "uncommitted": sorted(number for _, number in candidates - done),
    }


def _data_first(path: str) -> tuple[bool, str]:
    """Reports last: as long as one is there, the folder is known to be staged."""
    return path.endswith(".json"), path


def _stage_folders(lake: Lake, under: str) -> dict[tuple[str, int], list[tuple[str, datetime]]]:
    """Files of each stage folder with their times, by (project, batch number)."""
    folders: dict[tuple[str, int], list[tuple[str, datetime]]] = defaultdict(list)
    for path, written_at in lake.files.list_with_times(under):
        parts = path.split("/")
        if len(parts) > 4 and parts[2] == "stage" and parts[3].isdecimal():
            folders[parts[1], int(parts[3])].append((path, written_at))
    return folders


def _committed(lake: Lake, batches: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of the batches whose ledger entries have landed, the last thing a commit writes."""
    wanted = set(batches)
    delta = lake._open(TABLES["objects"]) if wanted else None
    if delta is None:
        return set()
    return {one for one in wanted if delta.transaction_version(f"ingest/{one[0]}/{one[1]}") is not None}


@contextmanager
def _explained(spec: Table, doing: str) -> Iterator[None]:
    """Storage errors of Delta Lake as ours; a lost race for a version stays what it is."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except CommitFailedError:
        raise
    except (OSError, DeltaError) as error:
        raise StorageError(
            f"{doing} table {spec.name!r} failed ({' '.join(str(error).split())})",
            remedy="Check that the object store runs; then clear the task, which goes on where it stopped.",
        ) from error
