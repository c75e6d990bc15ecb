"""Commit: decide once which staged rows are new, make them visible, then write the ledger; in planned order.

Staged rows were written as first revisions. Where that is true, and it is true of almost all new data, a commit adds
the staged data files to the table as they are: its cost is some lines of the Delta log. Only files with duplicates or
changed records are written anew. What is known already is looked up shard by shard, in the id and state columns alone.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from include.errors import QuarantineLimitError, StorageError
from include.ingestion.attempt import NAMED_CHECKS, NAMED_COLUMNS
from include.ingestion.planning import (
    is_committed,
    last_good_path,
    mark_committed,
    read_plan,
    stage_path,
    uncommitted_before,
)
from include.ingestion.replay import settle
from include.lake import DataFile, Lake, keys
from include.lake.schemas import RECORDS
from include.project import Project
from include.validation.results import validation_rows


def commit(project: Project, lake: Lake, batches: list[int], *, now: datetime) -> dict[str, Any]:
    """Add staged batches to ``records``, ``quarantine`` and ``objects``, in planned order, exactly once.

    :returns: ``batches``; summed over those that loaded objects: ``objects``, ``rows`` = ``records`` + ``duplicates`` +
        ``quarantined``, ``statuses`` (objects by status); the same figures of replays in ``replayed``; over all:
        ``held`` (batches), ``failed_checks`` (rows by check), ``warnings``, ``new_columns``. The same figures come back
        when batches were committed before.
    :raises StorageError: when storage fails, a batch was not staged, or an older batch is not committed yet.
    """
    wanted = sorted(set(batches))
    open_batches = [batch for batch in wanted if not is_committed(project, lake, batch)]
    reports = {batch: _report(project, lake, batch) for batch in wanted}
    resolved = {
        batch: found
        for batch in wanted
        if (found := lake.files.get_json(stage_path(project, batch, "resolved.json"))) is not None
    }
    if open_batches:
        first = open_batches[0]
        older = [one for one in uncommitted_before(project, lake, open_batches[-1]) if one not in open_batches]
        if older:
            raise StorageError(
                f"ingest batch {open_batches[-1]} of project {project.name!r} must wait: batch {older[0]} is planned "
                "before it",
                remedy=f"Stage and commit batch {older[0]} first: revisions follow the order of arrival.",
            )
        missing = [batch for batch in open_batches if batch not in resolved]
        # Whatever was resolved is seen again, because what comes after it is judged against it.
        known = _Known(project, lake, first, {batch: reports[batch] for batch in open_batches}) if missing else None
        for batch in open_batches:
            if batch in missing:
                assert known is not None  # noqa: S101 - by construction
                resolved[batch] = _resolve(project, lake, reports[batch], known, now)
            _append(project, lake, reports[batch], resolved[batch])
            mark_committed(project, lake, batch)
    return _totals(wanted, [reports[batch] for batch in wanted], [resolved[batch] for batch in wanted])


def _report(project: Project, lake: Lake, batch: int) -> dict[str, Any]:
    report: dict[str, Any] | None = lake.files.get_json(stage_path(project, batch, "report.json"))
    if report is None:
        raise StorageError(
            f"ingest batch {batch} of project {project.name!r} is not staged", remedy="Run its stage task first."
        )
    return report


# ---------------------------------------------------------------- what is known already


class _Known:
    """What has to change about staged rows: duplicates and later revisions, for several batches at once.

    A row equal to the newest revision of its record in content, metadata, event time and consent is a duplicate. Event
    time and consent count: a corrected time must show, and a withdrawn consent must never be dropped as a duplicate.

    :param first: the oldest batch that is not committed; records of later batches do not count as known, so that the
        result is the same however far a rival has got.
    """

    def __init__(self, project: Project, lake: Lake, first: int, reports: dict[int, dict[str, Any]]) -> None:
        self._project = project
        self._lake = lake
        self._first = first
        self._files = {batch: self._open(report) for batch, report in reports.items()}
        found = [changes for shard in keys.SHARDS if (changes := self._changes(reports, shard)) is not None]
        self.changes = pl.concat(found) if found else None
        self._files.clear()

    def of(self, batch: int) -> pl.DataFrame | None:
        """Rows of a batch that are not first revisions: ``file``, ``row``, ``object``, ``duplicate``, ``revision``."""
        if self.changes is None:
            return None
        found = self.changes.filter(pl.col("batch") == batch)
        return None if found.is_empty() else found

    def _open(self, report: dict[str, Any]) -> pq.ParquetFile | None:
        if report["keys"] is None:
            return None
        data = self._lake.files.get(report["keys"])
        if data is None:
            raise StorageError(
                f"staged file {self._lake.files.uri(report['keys'])} does not exist",
                remedy="Restore it from the bucket's versions; expire stage folders after their batch is committed.",
            )
        return pq.ParquetFile(pa.BufferReader(data))

    def _staged(self, reports: dict[int, dict[str, Any]], shard: str) -> Iterator[pl.DataFrame]:
        for batch, report in reports.items():
            for number, file in enumerate(report["records"]):
                if file["partition"]["shard"] == shard:
                    opened = self._files[batch]
                    assert opened is not None  # noqa: S101 - a report with data files has keys
                    frame = pl.DataFrame(pl.from_arrow(opened.read_row_group(number)))
                    yield frame.with_row_index("row").with_columns(
                        pl.lit(batch, pl.Int64).alias("batch"), pl.lit(number, pl.Int32).alias("file")
                    )

    def _changes(self, reports: dict[int, dict[str, Any]], shard: str) -> pl.DataFrame | None:
        staged = list(self._staged(reports, shard))
        if not staged:
            return None
        new = pl.concat(staged)
        known = self._lake.read_states(self._project.name, shard, new["record_id"], before_batch=self._first)
        both = pl.concat([known.with_columns(pl.lit(-1, pl.Int64).alias("batch")), new], how="diagonal")
        both = both.filter(pl.col("record_id").is_duplicated())
        if both.is_empty():
            return None
        both = both.sort("record_id", "batch", "arrival", nulls_last=False, maintain_order=True)
        same_record = pl.col("record_id") == pl.col("record_id").shift(1)
        duplicate = (same_record & (pl.col("state_hash") == pl.col("state_hash").shift(1))).fill_null(False)
        base = pl.col("revision").first().fill_null(0).over("record_id")
        both = both.with_columns(duplicate.alias("duplicate"))
        fresh = (~pl.col("duplicate") & (pl.col("batch") >= 0)).cast(pl.Int64)
        both = both.with_columns((base + fresh.cum_sum().over("record_id")).alias("revision"))
        changed = (pl.col("batch") >= 0) & (pl.col("duplicate") | (pl.col("revision") != 1))
        return both.filter(changed).select("batch", "file", "row", "object", "duplicate", "revision")


# ---------------------------------------------------------------- resolve


def _resolve(project: Project, lake: Lake, report: dict[str, Any], known: _Known, now: datetime) -> dict[str, Any]:
    """Decide once what of a batch lands, and freeze it."""
    batch = report["batch"]
    objects = [{**one, "duplicates": 0, "replayed": 0} for one in report["objects"]]
    files = [DataFile(**one) for one in report["records"]]
    changes = known.of(batch)
    if changes is not None:
        twice = changes.filter("duplicate").group_by("object").len()
        for position, count in twice.iter_rows():
            objects[position] |= {"duplicates": count, "accepted": objects[position]["accepted"] - count}
        attempt = f"{batch:08d}-{uuid.uuid4().hex}-resolved"
        for (number,), rows in changes.partition_by("file", as_dict=True).items():
            files[number] = _rewrite(lake, files[number], rows, name=f"{attempt}-{number}.parquet")
        files = [file for file in files if file.rows]
    figures = ("rows", "accepted", "duplicates", "quarantined")
    counts = {name: sum(one[name] for one in objects) for name in figures}
    planned = read_plan(project, lake, batch)
    if planned["kind"] == "replay":
        objects = settle(project, lake, planned, objects)
    result = {
        "kind": planned["kind"],
        "committed_at": now.isoformat(),
        "counts": counts,
        "objects": objects,
        "records": [file.to_json() for file in files],
    }
    _check_sums(project, batch, result)
    frozen: dict[str, Any] = lake.files.create_json(stage_path(project, batch, "resolved.json"), result)
    return frozen


def _rewrite(lake: Lake, file: DataFile, changes: pl.DataFrame, *, name: str) -> DataFile:
    """A data file without its duplicates and with the true revisions."""
    table = lake.read_file(RECORDS.name, file)
    revisions = table["revision"].to_numpy().copy()
    revisions[changes["row"].to_numpy()] = changes["revision"].to_numpy()
    column = table.schema.get_field_index("revision")
    table = table.set_column(column, RECORDS.schema.field("revision"), pa.array(revisions, pa.int64()))
    kept = pl.Series([True]).extend_constant(True, table.num_rows - 1)
    kept[changes.filter("duplicate")["row"]] = False
    table = table.filter(kept.to_arrow())
    if not table.num_rows:
        return DataFile(**{**file.to_json(), "rows": 0})
    return lake.write_file(RECORDS.name, table, name=name)


def _check_sums(project: Project, batch: int, result: dict[str, Any]) -> None:
    for one in result["objects"]:
        if one["rows"] != one["accepted"] + one["duplicates"] + one["quarantined"] + one["replayed"]:
            raise _wrong_sum(project, batch, f"object {one['key']!r} has {one['rows']} rows, but {one['accepted']} "
                             f"accepted, {one['duplicates']} duplicates, {one['quarantined']} quarantined, "
                             f"{one['replayed']} replayed")  # fmt: skip
        if min(one["duplicates"], one["accepted"], one["quarantined"], one["replayed"]) < 0:
            raise _wrong_sum(project, batch, f"object {one['key']!r} has a figure below 0: {one}")
    landing = sum(file["rows"] for file in result["records"])
    accepted = result["counts"]["accepted"]
    if landing != accepted:
        raise _wrong_sum(project, batch, f"its data files hold {landing} rows, the objects count {accepted}")


def _wrong_sum(project: Project, batch: int, what: str) -> StorageError:
    return StorageError(
        f"the figures of ingest batch {batch} of project {project.name!r} do not add up: {what}",
        remedy="A staged file was changed; delete the batch's stage folder and run its stage task again.",
    )


# ---------------------------------------------------------------- append


def _append(project: Project, lake: Lake, report: dict[str, Any], resolved: dict[str, Any]) -> None:
    """Data first, the ledger last: a batch counts as committed when its ledger rows are there."""
    app_id = keys.ingest_app_id(project.name, report["batch"])
    committed_at = datetime.fromisoformat(resolved["committed_at"])
    lake.add_files("records", [DataFile(**one) for one in resolved["records"]], app_id=app_id)
    lake.add_files("quarantine", [DataFile(**one) for one in report["quarantine"]], app_id=app_id)
    lake.append("validations", _validations(project, report, committed_at), app_id=app_id)
    common = {
        "project": project.name,
        "bucket": report["bucket"],
        "ingest_batch": report["batch"],
        "committed_at": committed_at,
    }
    ledger = [
        {**common, **one, "last_modified_at": datetime.fromisoformat(one["last_modified_at"])}
        for one in resolved["objects"]
    ]
    lake.append("objects", ledger, app_id=app_id)
    if not report["held"] and any(one["accepted"] for one in resolved["objects"]):
        _remember_profile(project, lake, report)


def _validations(project: Project, report: dict[str, Any], validated_at: datetime) -> list[dict[str, Any]]:
    return validation_rows(
        report["validation"],
        project=project.name,
        suite="ingest",
        input_id=str(report["batch"]),
        ingest_batch=report["batch"],
        validated_at=validated_at,
    )


def _remember_profile(project: Project, lake: Lake, report: dict[str, Any]) -> None:
    """Make this batch the reference for the next ones, unless a later one is already."""
    path = last_good_path(project)
    data = keys.canonical_json({"batch": report["batch"], "profile": report["profile"]}).encode()
    while True:
        found = lake.files.get_versioned(path)
        if found is not None and json.loads(found[0])["batch"] >= report["batch"]:
            return
        if lake.files.swap(path, data, found[1] if found else None):
            return


def _totals(batches: list[int], reports: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    checks: Counter[str] = Counter()
    for report in reports:
        checks.update(report["failed_checks"])
    loads = [result for result in results if result["kind"] != "replay"]
    replays = [result["counts"] for result in results if result["kind"] == "replay"]
    loaded = {name: sum(one["counts"][name] for one in loads) for name in ("rows", "duplicates", "quarantined")}
    return {
        "batches": batches,
        "objects": sum(len(result["objects"]) for result in loads),
        **loaded,
        "records": sum(one["counts"]["accepted"] for one in loads),
        "replayed": {
            "rows": sum(one["rows"] for one in replays),
            "records": sum(one["accepted"] for one in replays),
            "duplicates": sum(one["duplicates"] for one in replays),
            "quarantined": sum(one["quarantined"] for one in replays),
        },
        "held": [report["batch"] for report in reports if report["held"]],
        "statuses": dict(sorted(Counter(one["status"] for result in loads for one in result["objects"]).items())),
        "failed_checks": dict(checks.most_common(NAMED_CHECKS)),
        "warnings": [{"batch": report["batch"], **one} for report in reports for one in report["warnings"]],
        "new_columns": sorted({name for report in reports for name in report["new_columns"]})[:NAMED_COLUMNS],
    }


# ---------------------------------------------------------------- limit


def check_quarantine_limit(project: Project, counts: dict[str, Any]) -> None:
    """Fail a run whose quarantined share is above the project's limit, or that held back a batch; call it last.

    :param counts: of ``commit``.
    :raises QuarantineLimitError: naming the figures, the checks that failed most, and where to look.
    """
    if counts["held"]:
        raise QuarantineLimitError(
            f"batches {counts['held'][:10]} of project {project.name!r} were held back as a whole: an expectation of "
            "severity hold failed; nothing of them is in 'records', everything is in 'quarantine'",
            remedy="Look at the batch's Data Docs; then release the rows by a replay, or correct the source.",
        )
    limit_pct = project.validation.max_quarantined_pct
    if not counts["rows"] or 100 * counts["quarantined"] / counts["rows"] <= limit_pct:
        return
    share_pct = 100 * counts["quarantined"] / counts["rows"]
    checks = ", ".join(f"{name} ({rows})" for name, rows in list(counts["failed_checks"].items())[:3])
    raise QuarantineLimitError(
        f"{counts['quarantined']} of {counts['rows']} rows ({share_pct:.1f}%) of project {project.name!r} were "
        f"quarantined, more than the {limit_pct:g}% allowed; most failed {checks}; the good rows are stored",
        remedy=f"Look at table 'quarantine' where ingest_batch is one of {counts['batches'][:10]}; correct the source "
        "or validation.max_quarantined_pct.",
    )
