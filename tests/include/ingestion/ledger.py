"""Ledger rows as a commit writes them, without reading the objects."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from include.ingestion import planning
from include.lake import Lake
from include.project import Project


def commit_batch(project: Project, lake: Lake, batch: int, *, status: str = "loaded") -> None:
    """Write the ledger of a planned batch: one row in each object, accepted when it was loaded."""
    planned = planning.read_plan(project, lake, batch)
    accepted = 1 if status == "loaded" else 0
    rows: list[dict[str, Any]] = [
        {
            "project": project.name,
            "bucket": planned["bucket"],
            "key": ref.key,
            "object_version": ref.version,
            "size_bytes": ref.size_bytes,
            "last_modified_at": ref.last_modified_at,
            "revision": ref.ledger_revision,
            "status": status,
            "rows": 1,
            "accepted": accepted,
            "duplicates": 0,
            "quarantined": 1 - accepted,
            "replayed": 0,
            "ingest_batch": batch,
            "committed_at": datetime(2026, 3, 1, tzinfo=UTC),
        }
        for ref in planning.refs(planned)
    ]
    lake.append("objects", rows, app_id=f"ingest/{project.name}/{batch}")
