"""Replay: judge rows in quarantine once more, after the suite or the limits changed, and move those that now pass.

A replay is a batch like any other, planned, staged and committed: its rows come from the quarantine table, and from the
bucket where a whole object had been refused. What a batch-level expectation held back is released by a replay, because
somebody looked at it. Rows that pass become records; rows that fail stay in quarantine with today's reasons.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from include.errors import LabelwheelError, StorageError
from include.ingestion.attempt import Again, Attempt, Fate, Known, LandedRows
from include.ingestion.blocks import OBJECT_ROW, BadRow, Block, RejectedObjectError
from include.ingestion.chunks import Part
from include.ingestion.landing import Landing, ObjectRef
from include.ingestion.planning import create_plan, plans_in_waiting, refs
from include.ingestion.reading import read_blocks
from include.ingestion.rows import Rows, normalise
from include.ingestion.staged import NothingWritten, StagedFiles
from include.lake import Lake, keys
from include.project import Project

MAX_ROWS = 100_000
CHOSEN = ["bucket", "key", "object_version", "row_number", "attempt", "stage", "raw", "header"]


def choose(
    project: Project, lake: Lake, *, batches: list[int], check: str | None, key: str | None, limit: int
) -> pl.DataFrame:
    """Rows that are in quarantine now, oldest first.

    :param batches: ingest batches; all when empty.
    :param check: an expectation or check that must be among those the row failed; None for any.
    :param key: key of an object, or a folder that ends with ``/``; None for any.
    :returns: the columns ``CHOSEN``, at most ``limit`` rows.
    """
    where = pl.col("replayed_at").is_null()
    if batches:
        where &= pl.col("ingest_batch").is_in(batches)
    if check:
        where &= pl.col("failures_json").str.contains(f'"expectation":{keys.canonical_json(check)}', literal=True)
    if key:
        where &= pl.col("key").str.starts_with(key) if key.endswith("/") else pl.col("key") == key
    found = lake.read("quarantine", project.name, columns=[*CHOSEN, "ingest_batch"], where=where)
    return found.sort("ingest_batch", "key", "object_version", "row_number").select(CHOSEN).head(limit)


def try_replay(
    project: Project, lake: Lake, landing: Landing, chosen: pl.DataFrame, *, now: datetime
) -> dict[str, Any]:
    """What a replay of these rows would do; writes nothing.

    :returns: ``chosen``, ``would_pass``, ``would_fail`` (rows), ``failed_checks`` (rows by check).
    """
    objects = [one.to_json() for one in _objects(project, lake, chosen)]
    planned = {"bucket": landing.bucket, "batch": 0, "objects": objects}
    known = Known()
    while True:
        attempt = ReplayAttempt(
            project, NothingWritten(), landing, planned, known, chosen=chosen, reference=None, now=now
        )
        try:
            report = attempt.run()
        except Again:
            continue
        break
    return {
        "chosen": chosen.height,
        "would_pass": sum(one["accepted"] for one in report["objects"]),
        "would_fail": sum(one["quarantined"] for one in report["objects"]),
        "failed_checks": report["failed_checks"],
    }


def plan_replay(
    project: Project, lake: Lake, landing: Landing, chosen: pl.DataFrame, *, request_id: str, now: datetime
) -> int | None:
    """Freeze chosen rows as a batch; the same request is planned once.

    :returns: the number of the batch; None when there is nothing to replay.
    :raises LabelwheelError: when another replay waits to be committed: it may have chosen the same rows.
    """
    pointer = f"ingest/{project.name}/replay/{keys.digest(request_id)}.json"
    while True:
        if (done := lake.files.get_json(pointer)) is not None:
            return int(done["batch"])
        waiting = [plan for plan in plans_in_waiting(project, lake) if plan["kind"] == "replay"]
        mine = next((plan for plan in waiting if plan["request_id"] == request_id), None)
        if mine is None and waiting:
            raise LabelwheelError(
                f"replay {waiting[0]['request_id']!r} of project {project.name!r} is not finished",
                remedy="Run the ingest DAG once without a replay: it finishes what is planned. Then ask again.",
            )
        if mine is None:
            if chosen.is_empty():
                return None
            objects = _objects(project, lake, chosen)
            rows = _to_parquet(chosen)
            rows_path = f"ingest/{project.name}/replay/{keys.digest(rows)}.parquet"
            lake.files.put(rows_path, rows)
            mine = create_plan(
                project,
                lake,
                {
                    "bucket": landing.bucket,
                    "kind": "replay",
                    "request_id": request_id,
                    "rows": rows_path,
                    "planned_at": now.isoformat(),
                    "objects": [one.to_json() for one in objects],
                },
            )
        if mine is not None:  # else another plan took the number: look again
            lake.files.create_json(pointer, {"batch": mine["batch"]})


def _to_parquet(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    pq.write_table(frame.to_arrow(), sink, compression="zstd")
    return sink.getvalue()


def chosen_rows(lake: Lake, planned: dict[str, Any]) -> pl.DataFrame:
    """The rows a replay plan froze.

    :raises StorageError: when their file is missing.
    """
    data = lake.files.get(planned["rows"])
    if data is None:
        raise StorageError(
            f"the rows of replay {planned['request_id']!r} do not exist ({planned['rows']})",
            remedy="Restore the file from the bucket's versions.",
        )
    return pl.DataFrame(pl.from_arrow(pq.read_table(pa.BufferReader(data))))


def _objects(project: Project, lake: Lake, chosen: pl.DataFrame) -> list[ObjectRef]:
    """The object versions the rows come from, as the ledger knows them."""
    wanted = chosen.select("key", "object_version").unique(maintain_order=True)
    ledger = _ledger(project, lake, wanted)
    found = {(row["key"], row["object_version"]): row for row in ledger.iter_rows(named=True)}
    return [_ref(found[key, version]) for key, version in wanted.iter_rows()]


def _ledger(project: Project, lake: Lake, wanted: pl.DataFrame) -> pl.DataFrame:
    """Ledger rows of object versions."""
    rows = lake.read("objects", project.name, where=pl.col("key").is_in(wanted["key"].unique().to_list()))
    return rows.join(wanted, on=["key", "object_version"], how="semi")


def _ref(row: dict[str, Any]) -> ObjectRef:
    return ObjectRef(
        key=row["key"],
        etag=row["etag"],
        version_id=row["object_version"] if row["object_version"] != row["etag"] else None,
        size_bytes=row["size_bytes"],
        last_modified_at=row["last_modified_at"],
    )


class QuarantinedRows:
    """Rows of a replay, object by object, in the place of ``LandedRows``."""

    def __init__(self, project: Project, landing: Landing, objects: list[ObjectRef], chosen: pl.DataFrame) -> None:
        self.project = project
        self.objects = objects
        self._landed = LandedRows(project, landing, objects)
        self._chosen = chosen.partition_by("key", "object_version", as_dict=True)

    def parts(self, known: dict[int, Fate]) -> Iterator[Part | tuple[int, Fate]]:
        """See ``LandedRows.parts``."""
        for position, ref in enumerate(self.objects):
            rows = self._chosen[ref.key, ref.version]
            if (rows["row_number"] == OBJECT_ROW).any():
                yield from self._landed.parts_of([position], known)
            else:
                for part in self._stored(rows.sort("row_number")):
                    yield Part(position, part)

    def _stored(self, rows: pl.DataFrame) -> Iterator[Rows]:
        headers = rows["header"].unique().to_list()
        if headers == [None]:
            yield from self._read(rows, ".jsonl", b"".join(raw + b"\n" for raw in rows["raw"]))
            return
        for row in rows.iter_slices(1):  # a quote left open must not swallow the next row
            yield from self._read(row, ".csv", row["header"][0] + b"\n" + row["raw"][0] + b"\n")

    def _read(self, rows: pl.DataFrame, ending: str, data: bytes) -> Iterator[Rows]:
        numbers = rows["row_number"].to_list()
        try:
            blocks = list(read_blocks(f"replay{ending}", io.BytesIO(data), self.project.source, len(data)))
            found = [
                number for block in blocks for number in [*block.numbers.to_pylist(), *(b.number for b in block.bad)]
            ]
            if sorted(found) != list(range(len(numbers))):
                raise RejectedObjectError("row", "the stored row is not one row any more", remedy="Upload it again.")
        except RejectedObjectError as error:
            if rows.height > 1:
                for row in rows.iter_slices(1):
                    yield from self._read(row, ending, row["raw"][0] + b"\n")
                return
            failure = {"expectation": error.check, "column": None, "observed": None}
            bad = BadRow(numbers[0], rows["raw"][0], "parse", str(error), [failure])
            yield _only_bad(self.project, bad, rows["header"][0])
            return
        for block in blocks:
            block.numbers = pa.array([numbers[one] for one in block.numbers.to_pylist()], pa.int64())
            block.bad = [BadRow(numbers[b.number], b.raw, b.stage, b.reason, b.failures) for b in block.bad]
            yield normalise(self.project.source, block)


def _only_bad(project: Project, bad: BadRow, header: bytes | None) -> Rows:
    none = pa.array([], pa.int64())
    block = Block(none, pa.table({}), pa.array([], pa.string()), lambda _: b"", [bad], header=header)
    return normalise(project.source, block)


class ReplayAttempt(Attempt):
    """One try at staging a replay: its rows leave quarantine or enter it again under the next attempt number."""

    releases_held = True

    def __init__(
        self,
        project: Project,
        files: StagedFiles | NothingWritten,
        landing: Landing,
        planned: dict[str, Any],
        known: Known,
        *,
        chosen: pl.DataFrame,
        reference: dict[str, Any] | None,
        now: datetime,
    ) -> None:
        rows = QuarantinedRows(project, landing, refs(planned), chosen)
        super().__init__(project, files, rows, planned, known, reference=reference, now=now)
        places = chosen.select("key", "object_version", "row_number", "attempt")
        self._attempts = {(key, version, number): attempt for key, version, number, attempt in places.iter_rows()}
        self._again: set[tuple[str, str, int]] = set()

    def _quarantine_row(self, key: str, version: str, bad: BadRow, header: bytes | None) -> dict[str, Any]:
        self._again.add((key, version, bad.number))
        attempt = self._attempts.get((key, version, bad.number), -1) + 1
        return {**super()._quarantine_row(key, version, bad, header), "attempt": attempt}

    def _end(self, position: int, fate: Fate) -> None:
        super()._end(position, fate)
        if fate.check is None:  # the object is gone: its row stays where it is
            failure = {"expectation": f"object_{fate.status}", "column": None, "observed": None}
            self._reject(position, [BadRow(OBJECT_ROW, b"", "object", fate.error, [failure])], None)

    def _finish(self) -> None:
        """Mark the rows that passed."""
        moved = sorted(set(self._attempts) - self._again)
        passed = [BadRow(number, b"", "replay", "the row passed a replay", []) for _, _, number in moved]
        rows = [self._quarantine_row(*place[:2], bad, None) for place, bad in zip(moved, passed, strict=True)]
        self.files.reject([{**row, "raw": None, "replayed_at": self.now} for row in rows])


def settle(
    project: Project, lake: Lake, planned: dict[str, Any], objects: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The ledger rows after a replay: what the replay found about its rows, added to what is known of their objects.

    :param objects: the replay's own figures, one for each object of the plan.
    """
    wanted = pl.DataFrame(
        {"key": [one["key"] for one in objects], "object_version": [one["object_version"] for one in objects]}
    )
    ledger = {(row["key"], row["object_version"]): row for row in _ledger(project, lake, wanted).iter_rows(named=True)}
    return [_settled(ledger[one["key"], one["object_version"]], one) for one in objects]


def _settled(old: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    revision = old["revision"] + 1
    figures = ("status", "error", "rows", "accepted", "duplicates", "quarantined", "replayed")
    if old["status"] == "rejected":  # it was read anew: what it holds is known only now
        if found["status"] == "loaded":
            return {**found, "revision": revision}
        return {**found, **{name: old[name] for name in figures}, "error": found["error"], "revision": revision}
    moved = found["accepted"] + found["duplicates"]
    return {
        **found,
        **{name: old[name] for name in figures},
        "status": "loaded" if moved else old["status"],
        "quarantined": old["quarantined"] - moved,
        "replayed": old["replayed"] + moved,
        "revision": revision,
    }
