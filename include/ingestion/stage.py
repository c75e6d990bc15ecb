"""Stage: read exactly what was planned, judge every row, and write the result where no reader sees it yet.

The work of one batch is one task. A create-only report points to what it wrote: the first report wins, so every retry
goes on with the same bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from include.errors import StorageError
from include.ingestion.allocators import keep_freed_memory
from include.ingestion.attempt import Again, Attempt, Known, LandedRows
from include.ingestion.landing import Landing
from include.ingestion.planning import last_good_path, read_plan, refs, stage_path
from include.ingestion.replay import ReplayAttempt, chosen_rows
from include.ingestion.staged import StagedFiles
from include.lake import Lake
from include.project import Project


def stage(project: Project, lake: Lake, landing: Landing, batch: int, *, now: datetime) -> dict[str, Any]:
    """Read, judge and write one planned batch.

    :returns: ``batch``, ``objects``, ``rows``, ``accepted``, ``quarantined``, ``held``, ``failed_checks`` (rows by
        check), ``warnings`` (expectations that failed without rejecting rows), ``new_columns`` (columns the project
        does not know, kept in ``metadata_json``). Duplicates among the accepted rows are found by ``commit``.
    :raises StorageError: when storage fails; nothing is half staged, and a retry starts over.
    :raises ProjectError: when an expectation of the project cannot be used.
    """
    path = stage_path(project, batch, "report.json")
    report: dict[str, Any] | None = lake.files.get_json(path)
    if report is None:
        keep_freed_memory()
        report = lake.files.create_json(path, _stage(project, lake, landing, batch, now))
    return {
        "batch": batch,
        "objects": len(report["objects"]),
        **{name: sum(one[name] for one in report["objects"]) for name in ("rows", "accepted", "quarantined")},
        **{name: report[name] for name in ("held", "failed_checks", "warnings", "new_columns")},
    }


def _stage(project: Project, lake: Lake, landing: Landing, batch: int, now: datetime) -> dict[str, Any]:
    planned = read_plan(project, lake, batch)
    if planned["bucket"] != landing.bucket:
        raise StorageError(
            f"ingest batch {batch} of project {project.name!r} was planned in bucket {planned['bucket']!r}, "
            f"not in {landing.bucket!r}",
            remedy="Set source.bucket back until this batch is committed, then change it.",
        )
    good: dict[str, Any] | None = lake.files.get_json(last_good_path(project))
    reference = good["profile"] if good else None
    known = Known()
    while True:  # each turn knows one fault more, so it ends
        files = StagedFiles(project, lake, planned, now=now)
        if planned["kind"] == "replay":
            chosen = chosen_rows(lake, planned)
            attempt: Attempt = ReplayAttempt(
                project, files, landing, planned, known, chosen=chosen, reference=reference, now=now
            )
        else:
            rows = LandedRows(project, landing, refs(planned))
            attempt = Attempt(project, files, rows, planned, known, reference=reference, now=now)
        try:
            return attempt.run()
        except Again:
            continue
