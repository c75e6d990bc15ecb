"""The ingest step: plan → stage → commit, each safe to kill at any instant and to run again.

- ``plan`` freezes which object versions make a batch, in a create-only file. Each version is planned once, ever.
- ``stage`` reads exactly those versions, parses and validates them, writes the result under a folder of its own and
  then a create-only report that points to it. The first report wins, so every retry goes on with the same bytes.
- ``commit`` decides once, in a create-only file, which staged rows are new, then appends records, quarantine and
  ledger, each under the app id ``ingest/<project>/<batch>``. Batches are committed in the order they were planned.
"""

from __future__ import annotations

import io
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from include.errors import QuarantineLimitError, StorageError
from include.ingestion.contract import Contract
from include.ingestion.landing import Landing, ObjectRef, ObjectSupersededError, ObjectVanishedError
from include.ingestion.parse import BadRow, RejectedObjectError, check_size, is_packed, parse_object
from include.ingestion.rows import Draft, known_columns, read_row
from include.lake import Lake, keys
from include.lake.schemas import QUARANTINE, RECORDS
from include.project import Project

MAX_BATCH_BYTES = 64 * 1024**2  # unpacked; a batch is held in memory, at about 20 times this
PACKED_RATIO = 10  # what a packed byte is taken for when it is planned
MAX_BATCH_OBJECTS = 500
MAX_PLANNED_BATCHES = 200  # per run; the rest is planned by the next one
NAMED_CHECKS = 10
NAMED_COLUMNS = 20
OBJECT_ROW = -1


# ---------------------------------------------------------------- plan


def plan(project: Project, lake: Lake, landing: Landing, *, now: datetime) -> dict[str, Any]:
    """Freeze new object versions into batches.

    :returns: ``batches``: numbers of all batches that are not committed yet, oldest first; ``objects``: object versions
        in them; ``left``: object versions left to the next run, above ``MAX_PLANNED_BATCHES``.
    :raises StorageError: when the landing bucket or the lake cannot be reached.
    """
    while True:
        numbers = _planned(project, lake)
        ledger = lake.read("objects", project.name, columns=["bucket", "key", "object_version", "ingest_batch"])
        committed = set(ledger["ingest_batch"])
        waiting = {n: _read_plan(project, lake, n) for n in numbers if n not in committed}
        seen = set(ledger.select("bucket", "key", "object_version").iter_rows())
        for one in waiting.values():
            seen |= {(one["bucket"], ref.key, ref.version) for ref in _refs(one)}
        new = [ref for ref in landing.list_objects() if (landing.bucket, ref.key, ref.version) not in seen]
        groups = list(_groups(sorted(new, key=lambda ref: (ref.last_modified_at, ref.key))))
        room = max(MAX_PLANNED_BATCHES - len(waiting), 0)
        for number, group in enumerate(groups[:room], start=max(numbers, default=0) + 1):
            frozen = {
                "project": project.name,
                "bucket": landing.bucket,
                "batch": number,
                "planned_at": now.isoformat(),
                "objects": [ref.to_json() for ref in group],
            }
            if not lake.files.create(_plan_path(project, number), keys.canonical_json(frozen).encode()):
                break  # another run planned meanwhile: look again
            waiting[number] = frozen
        else:
            return {
                "batches": sorted(waiting),
                "objects": sum(len(one["objects"]) for one in waiting.values()),
                "left": sum(len(group) for group in groups[room:]),
            }


def _groups(refs: Iterable[ObjectRef]) -> Iterator[list[ObjectRef]]:
    """Batches within the limits; an object above the byte limit is a batch of its own."""
    group: list[ObjectRef] = []
    size_bytes = 0
    for ref in refs:
        weight_bytes = ref.size_bytes * (PACKED_RATIO if is_packed(ref.key) else 1)
        if group and (size_bytes + weight_bytes > MAX_BATCH_BYTES or len(group) == MAX_BATCH_OBJECTS):
            yield group
            group, size_bytes = [], 0
        group.append(ref)
        size_bytes += weight_bytes
    if group:
        yield group


def _plan_path(project: Project, batch: int) -> str:
    return f"ingest/{project.name}/plan/{batch:08d}.json"


def _stage_path(project: Project, batch: int, name: str) -> str:
    return f"ingest/{project.name}/stage/{batch:08d}/{name}"


def _planned(project: Project, lake: Lake) -> list[int]:
    """Numbers of all planned batches, in order."""
    paths = lake.files.list(f"ingest/{project.name}/plan")
    return sorted(int(path.rpartition("/")[2].removesuffix(".json")) for path in paths)


def _read_plan(project: Project, lake: Lake, batch: int) -> dict[str, Any]:
    found: dict[str, Any] | None = lake.files.get_json(_plan_path(project, batch))
    if found is None:
        raise StorageError(
            f"the plan of ingest batch {batch} of project {project.name!r} does not exist",
            remedy="Run the plan task first; if the file was deleted, restore it from the bucket's versions.",
        )
    return found


def _refs(planned: dict[str, Any]) -> list[ObjectRef]:
    return [ObjectRef.from_json(one) for one in planned["objects"]]


# ---------------------------------------------------------------- stage


@dataclass
class _Loaded:
    """One object version after reading: its drafts and bad rows, and what the ledger will say."""

    ref: ObjectRef
    status: str = "loaded"
    error: str | None = None
    drafts: list[Draft] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def stage(project: Project, lake: Lake, landing: Landing, batch: int, *, now: datetime) -> dict[str, Any]:
    """Read, parse and validate one planned batch.

    :returns: ``batch``, ``objects``, ``rows``, ``accepted``, ``quarantined``, ``failed_checks`` (rows by check),
        ``warnings`` (expectations that failed without rejecting rows), ``new_columns`` (columns the project does not
        know, kept in ``metadata_json``). Duplicates among the accepted rows are found by ``commit``.
    :raises StorageError: when storage fails; nothing is half staged, and a retry starts over.
    :raises ProjectError: when an expectation of the project cannot be used.
    """
    path = _stage_path(project, batch, "report.json")
    report: dict[str, Any] | None = lake.files.get_json(path)
    if report is None:
        report = lake.files.create_json(path, _stage(project, lake, landing, batch, now))
    return {
        "batch": batch,
        "objects": len(report["objects"]),
        **{name: sum(one[name] for one in report["objects"]) for name in ("rows", "accepted", "quarantined")},
        **{name: report[name] for name in ("failed_checks", "warnings", "new_columns")},
    }


def _stage(project: Project, lake: Lake, landing: Landing, batch: int, now: datetime) -> dict[str, Any]:
    planned = _read_plan(project, lake, batch)
    if planned["bucket"] != landing.bucket:
        raise StorageError(
            f"ingest batch {batch} of project {project.name!r} was planned in bucket {planned['bucket']!r}, "
            f"not in {landing.bucket!r}",
            remedy="Set source.bucket back until this batch is committed, then change it.",
        )
    contract = Contract(project)
    loaded = [_load(project, landing, ref) for ref in _refs(planned)]
    warnings = _validate(contract, loaded)
    records = [_record(project, planned, one.ref, draft, now) for one in loaded for draft in one.drafts]
    rejected = [_rejected(project, planned, one.ref, bad, contract, now) for one in loaded for bad in one.bad]
    attempt = _stage_path(project, batch, uuid.uuid4().hex)
    if records:
        lake.files.put(f"{attempt}/accepted.parquet", _to_parquet(pa.Table.from_pylist(records, RECORDS.schema)))
    if rejected:
        lake.files.put(f"{attempt}/quarantine.parquet", _to_parquet(pa.Table.from_pylist(rejected, QUARANTINE.schema)))
    known = known_columns(project.source)
    checks = Counter(check for one in loaded for bad in one.bad for check in _check_names(bad))
    columns = {name for one in loaded for draft in one.drafts for name in draft.metadata}
    return {
        "batch": batch,
        "bucket": planned["bucket"],
        "attempt": attempt,
        "suite_version": contract.suite_version,
        "staged_at": now.isoformat(),
        "objects": [_ledger_entry(one) for one in loaded],
        "failed_checks": dict(checks.most_common(NAMED_CHECKS)),
        "warnings": warnings,
        "new_columns": sorted(columns - known)[:NAMED_COLUMNS],
    }


def _load(project: Project, landing: Landing, ref: ObjectRef) -> _Loaded:
    loaded = _Loaded(ref)
    try:
        check_size(ref.key, ref.size_bytes)
        rows = parse_object(ref.key, landing.read(ref), project.source.required_columns)
    except ObjectVanishedError as error:
        loaded.status, loaded.error = "vanished", str(error)
    except ObjectSupersededError as error:
        loaded.status, loaded.error = "superseded", str(error)
    except RejectedObjectError as error:
        loaded.status, loaded.error = "rejected", str(error)
        failure = {"expectation": error.check, "column": None, "observed": None}
        loaded.bad.append(BadRow(OBJECT_ROW, b"", "object", str(error), [failure]))
    else:
        for row in rows:
            result = row if isinstance(row, BadRow) else read_row(project.source, row)
            if isinstance(result, BadRow):
                loaded.bad.append(result)
            else:
                loaded.drafts.append(result)
    return loaded


def _validate(contract: Contract, loaded: list[_Loaded]) -> list[dict[str, Any]]:
    """Move the drafts that break the contract to the bad rows; returns the warnings."""
    verdict = contract.check([draft.columns for one in loaded for draft in one.drafts])
    position = 0
    for one in loaded:
        kept = []
        for draft in one.drafts:
            failures = verdict.failures.get(position)
            position += 1
            if failures:
                names = ", ".join(_check_name(failure) for failure in failures)
                reason = f"row breaks the contract: {names}"
                one.bad.append(BadRow(draft.row.number, draft.row.raw, "validate", reason, failures))
            else:
                kept.append(draft)
        one.drafts = kept
    return verdict.warnings


def _check_name(failure: dict[str, Any]) -> str:
    return f"{failure['expectation']}({failure['column'] or ''})".removesuffix("()")


def _check_names(bad: BadRow) -> set[str]:
    return {_check_name(failure) for failure in bad.failures}


def _record(project: Project, planned: dict[str, Any], ref: ObjectRef, draft: Draft, now: datetime) -> dict[str, Any]:
    """A row of ``records`` without its revision, which ``commit`` decides."""
    record_id = keys.record_id(project.name, draft.source_id)
    return {
        "project": project.name,
        "shard": keys.shard(record_id),
        "record_id": record_id,
        "content_hash": draft.content_hash,
        "source_id": draft.source_id,
        "fields_json": keys.canonical_json(draft.fields),
        "metadata_json": keys.canonical_json(draft.metadata),
        "event_at": draft.event_at,
        "ingested_at": now,
        "consent": draft.consent,
        "bucket": planned["bucket"],
        "key": ref.key,
        "object_version": ref.version,
        "row_number": draft.row.number,
        "ingest_batch": planned["batch"],
    }


def _rejected(
    project: Project, planned: dict[str, Any], ref: ObjectRef, bad: BadRow, contract: Contract, now: datetime
) -> dict[str, Any]:
    return {
        "project": project.name,
        "bucket": planned["bucket"],
        "key": ref.key,
        "object_version": ref.version,
        "row_number": bad.number,
        "stage": bad.stage,
        "reason": bad.reason,
        "failures_json": keys.canonical_json(bad.failures),
        "raw": None if bad.number == OBJECT_ROW else bad.raw,
        "suite_version": contract.suite_version,
        "ingest_batch": planned["batch"],
        "quarantined_at": now,
    }


def _ledger_entry(one: _Loaded) -> dict[str, Any]:
    return {
        "key": one.ref.key,
        "object_version": one.ref.version,
        "size_bytes": one.ref.size_bytes,
        "last_modified_at": one.ref.last_modified_at.isoformat(),
        "status": one.status,
        "error": one.error,
        "rows": len(one.drafts) + len(one.bad),
        "accepted": len(one.drafts),
        "quarantined": len(one.bad),
    }


def _to_parquet(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _from_parquet(lake: Lake, path: str) -> pa.Table:
    import pyarrow.parquet as pq

    data = lake.files.get(path)
    if data is None:
        raise StorageError(
            f"staged file {lake.files.uri(path)} does not exist",
            remedy="Restore it from the bucket's versions; expire the stage folder only after its batch is committed.",
        )
    return pq.read_table(pa.BufferReader(data))


# ---------------------------------------------------------------- commit


def commit(project: Project, lake: Lake, batches: list[int], *, now: datetime) -> dict[str, Any]:
    """Append staged batches to ``records``, ``quarantine`` and ``objects``, in planned order, exactly once.

    :returns: ``batches``, and summed over them ``objects``, ``rows`` = ``records`` + ``duplicates`` + ``quarantined``,
        ``statuses`` (objects by status), ``failed_checks`` (rows by check), ``warnings``, ``new_columns``. The same
        figures come back when batches were committed before.
    :raises StorageError: when storage fails, a batch was not staged, or an older batch is not committed yet.
    """
    numbers = _planned(project, lake)
    committed = set(lake.read("objects", project.name, columns=["ingest_batch"])["ingest_batch"])
    reports, results = [], []
    for batch in sorted(set(batches)):
        older = [number for number in numbers if number < batch and number not in committed]
        if older:
            raise StorageError(
                f"ingest batch {batch} of project {project.name!r} must wait: batch {older[0]} is planned before it",
                remedy=f"Stage and commit batch {older[0]} first: revisions follow the order of arrival.",
            )
        report = lake.files.get_json(_stage_path(project, batch, "report.json"))
        if report is None:
            raise StorageError(
                f"ingest batch {batch} of project {project.name!r} is not staged", remedy="Run its stage task first."
            )
        result = _resolve(project, lake, report, now)
        if batch not in committed:
            _append(project, lake, report, result)
            committed.add(batch)
        reports.append(report)
        results.append(result)
    return _totals(sorted(set(batches)), reports, results)


def _resolve(project: Project, lake: Lake, report: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Decide once which accepted rows are new revisions and which are duplicates."""
    path = _stage_path(project, report["batch"], "resolved.json")
    found: dict[str, Any] | None = lake.files.get_json(path)
    if found is not None:
        return found
    objects = [{**one, "duplicates": 0} for one in report["objects"]]
    attempt = _stage_path(project, report["batch"], uuid.uuid4().hex)
    if any(one["accepted"] for one in objects):
        staged = _from_parquet(lake, f"{report['attempt']}/accepted.parquet")
        records = _with_revisions(project, lake, staged)
        accepted = Counter(zip(records["key"].to_pylist(), records["object_version"].to_pylist(), strict=True))
        for one in objects:
            fresh = accepted[one["key"], one["object_version"]]
            one["duplicates"], one["accepted"] = one["accepted"] - fresh, fresh
        if records.num_rows:
            lake.files.put(f"{attempt}/records.parquet", _to_parquet(records))
    _check_sums(project, report["batch"], objects)
    resolved: dict[str, Any] = lake.files.create_json(
        path, {"attempt": attempt, "committed_at": now.isoformat(), "objects": objects}
    )
    return resolved


def _with_revisions(project: Project, lake: Lake, staged: pa.Table) -> pa.Table:
    """The staged rows that change something, in arrival order, with their revision number.

    A row equal to the newest revision of its record in content, metadata, event time and consent is a duplicate. Event
    time and consent count: a corrected time must show, and a withdrawn consent must never be dropped as a duplicate.
    """
    import polars as pl

    compared = ["content_hash", "metadata_json", "event_at", "consent"]
    ids = staged["record_id"].to_pylist()
    stored = lake.read(
        "records",
        project.name,
        columns=["record_id", "revision", *compared],
        where=pl.col("shard").is_in(sorted({keys.shard(one) for one in ids})) & pl.col("record_id").is_in(set(ids)),
    )
    newest = {record_id: (revision, state) for record_id, revision, *state in stored.iter_rows()}
    kept, revisions = [], []
    for row, (record_id, *state) in enumerate(zip(ids, *(staged[c].to_pylist() for c in compared), strict=True)):
        revision, known = newest.get(record_id, (0, None))
        if state != known:
            newest[record_id] = (revision + 1, state)
            kept.append(row)
            revisions.append(revision + 1)
    table = staged.take(pa.array(kept, pa.int64()))
    index = table.schema.get_field_index("revision")
    return table.set_column(index, RECORDS.schema.field("revision"), pa.array(revisions, pa.int64()))


def _check_sums(project: Project, batch: int, objects: list[dict[str, Any]]) -> None:
    for one in objects:
        if one["rows"] != one["accepted"] + one["duplicates"] + one["quarantined"] or one["duplicates"] < 0:
            raise StorageError(
                f"the figures of object {one['key']!r} in ingest batch {batch} of project {project.name!r} do not add "
                f"up: {one['rows']} rows, {one['accepted']} accepted, {one['duplicates']} duplicates, "
                f"{one['quarantined']} quarantined",
                remedy="A staged file was changed; delete the batch's stage folder and run its stage task again.",
            )


def _append(project: Project, lake: Lake, report: dict[str, Any], resolved: dict[str, Any]) -> None:
    app_id = f"ingest/{project.name}/{report['batch']}"
    if any(one["accepted"] for one in resolved["objects"]):
        lake.append("records", _from_parquet(lake, f"{resolved['attempt']}/records.parquet"), app_id=app_id)
    if any(one["quarantined"] for one in resolved["objects"]):
        lake.append("quarantine", _from_parquet(lake, f"{report['attempt']}/quarantine.parquet"), app_id=app_id)
    common = {
        "project": project.name,
        "bucket": report["bucket"],
        "ingest_batch": report["batch"],
        "committed_at": datetime.fromisoformat(resolved["committed_at"]),
    }
    ledger = [
        {**common, **one, "last_modified_at": datetime.fromisoformat(one["last_modified_at"])}
        for one in resolved["objects"]
    ]
    lake.append("objects", ledger, app_id=app_id)


def _totals(batches: list[int], reports: list[dict[str, Any]], results: list[dict[str, Any]]) -> dict[str, Any]:
    objects = [one for result in results for one in result["objects"]]
    checks: Counter[str] = Counter()
    for report in reports:
        checks.update(report["failed_checks"])
    return {
        "batches": batches,
        "objects": len(objects),
        "rows": sum(one["rows"] for one in objects),
        "records": sum(one["accepted"] for one in objects),
        "duplicates": sum(one["duplicates"] for one in objects),
        "quarantined": sum(one["quarantined"] for one in objects),
        "statuses": dict(sorted(Counter(one["status"] for one in objects).items())),
        "failed_checks": dict(checks.most_common(NAMED_CHECKS)),
        "warnings": [{"batch": report["batch"], **one} for report in reports for one in report["warnings"]],
        "new_columns": sorted({name for report in reports for name in report["new_columns"]})[:NAMED_COLUMNS],
    }


# ---------------------------------------------------------------- limit


def check_quarantine_limit(project: Project, counts: dict[str, Any]) -> None:
    """Fail a run whose quarantined share is above the project's limit; call it after ``commit``, with its counts.

    :raises QuarantineLimitError: naming the figures, the checks that failed most, and where to look.
    """
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
