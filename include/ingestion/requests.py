"""What a run of the ingest DAG is asked to do: new objects, or, from the form, a replay of rows in quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from include.ingestion import planning, replay
from include.ingestion.landing import Landing
from include.lake import Lake, keys
from include.project import Project

NEW_OBJECTS, REPLAY = "new_objects", "replay"


def plan_run(
    project: Project,
    lake: Lake,
    landing: Landing,
    request: dict[str, Any],
    *,
    request_id: str,
    hints: Sequence[str],
    now: datetime,
) -> dict[str, Any]:
    """Freeze the batches a run stages and commits.

    :param request: ``mode`` and ``sweep``; for a replay also ``batches``, ``check``, ``key``, ``limit``, ``dry_run``.
    :param request_id: names a replay; the same id is planned once.
    :param hints: keys that events say are new.
    :returns: ``batches`` to stage and commit, and ``why`` in one sentence; a replay adds what it found.
    """
    if request["mode"] == REPLAY:
        return _plan_replay(project, lake, landing, request, request_id, now)
    planned = planning.plan(project, lake, landing, now=now, hints=hints, sweep=request["sweep"])
    why = (
        f"{planned['objects']} object versions in {len(planned['batches'])} batches; {planned['left']} left for later."
    )
    return {**planned, "why": why if planned["batches"] else "Nothing new landed."}


def _plan_replay(
    project: Project, lake: Lake, landing: Landing, request: dict[str, Any], request_id: str, now: datetime
) -> dict[str, Any]:
    chosen = replay.choose(
        project,
        lake,
        batches=request["batches"],
        check=request["check"],
        key=request["key"],
        limit=request["limit"],
    )
    found: dict[str, Any] = {"chosen": chosen.height}
    batch: int | None = None
    if not request["dry_run"]:
        batch = replay.plan_replay(project, lake, landing, chosen, request_id=request_id, now=now)
        why = f"Replay of {chosen.height} rows as batch {batch}." if batch else "No row in quarantine fits the request."
    elif chosen.is_empty():
        why = "Dry run. No row in quarantine fits the request."
    else:
        found = replay.try_replay(project, lake, landing, chosen, now=now)
        still = ", ".join(f"{name} ({rows})" for name, rows in found["failed_checks"].items())
        why = f"Dry run, nothing moved. Of {found['chosen']} rows {found['would_pass']} would become records now"
        why += f"; the others still fail {still}." if still else "."
    decision = {
        "project": project.name,
        "kind": "replay",
        "input_id": request_id,
        "outcome": "yes" if batch else "no",
        "why": why,
        "policy_json": keys.canonical_json(request),
        "inputs_json": keys.canonical_json({**found, "batch": batch}),
        "decided_at": now,
    }
    lake.append("decisions", [decision], app_id=f"decision/replay/{project.name}/{keys.digest(request_id)}")
    return {**found, "batches": [batch] if batch else [], "why": why}
