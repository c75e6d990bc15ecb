"""Plan a batch: freeze who is asked about what, with which probability, before anything reaches people.

The plan is a create-only file: whoever comes second, a retry or a rival, gets the first plan back. Recording it in the
``selections`` table and pushing it to Argilla are separate steps that can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import polars as pl

from include.errors import LabelwheelError
from include.lake import Lake
from include.lake.consent import consented
from include.lake.groups import Groups
from include.lake.keys import canonical_json, digest, shard
from include.project import Project
from include.sampling.batch import select, with_splits
from include.sampling.candidates import read_pool
from include.sampling.cycle import batch_id as batch_key
from include.sampling.cycle import cycle_slot
from include.sampling.queue_policy import BatchSize, QueueState, batch_size, measured_speed


def plan_cycle(
    project: Project,
    lake: Lake,
    *,
    request_id: str | None,
    moment: datetime,
    open_records: int,
    model_version: str | None,
    now: datetime,
    median_age_days: float | None = None,
) -> dict[str, Any]:
    """Plan and record the batch of the cycle slot that ``moment`` falls into, or an extra one under a request id.

    :param request_id: names an extra batch outside the cycle; None for the slot's own.
    :param open_records: records that wait for people now (back-pressure).
    :param model_version: the champion whose predictions guide the draw; None in cold start.
    :param median_age_days: how long those records have waited.
    :returns: ``{"batch_id", "outcome": "planned" | "pending" | "pushed" | "skipped", "selected", "why"}``; *pending* is
        a batch that an earlier attempt planned but did not finish pushing.
    :raises LabelwheelError: for a request id that cannot name a batch.
    """
    kind, cycle = ("request", request_id) if request_id else ("cycle", cycle_slot(project.schedule.cycle, moment))
    batch_id = batch_key(project.name, kind, cycle)
    if plan := lake.files.get_json(plan_path(batch_id)):
        return _record(project, lake, plan)
    queue = QueueState(open_records, median_age_days, measured_speed(project, lake, now=now))
    allowed = batch_size(project, queue, requested=request_id is not None)
    if not allowed.size:
        return _skip(project, lake, batch_id, str(allowed.code), allowed.why, now, inputs=allowed.figures())
    pool = read_pool(project, lake)
    if not pool.size:
        why = "No batch: every usable record was already chosen, is a duplicate, or waits for ingest to compare it."
        return _skip(project, lake, batch_id, "no-candidates", why, now)
    selections = select(pool, cycle=cycle, model_version=model_version, size=allowed.size)
    return _freeze(project, lake, batch_id, selections, pool.size, model_version, now, allowed)


def plan_listed(
    project: Project,
    lake: Lake,
    *,
    request_id: str,
    suspects: Sequence[dict[str, Any]],
    reason: str,
    dry_run: bool,
    now: datetime,
) -> dict[str, Any]:
    """Plan and record an audit batch of exactly these records, asked once more under the next tier.

    Nothing is drawn, so the inclusion probability is null: these answers never enter an unbiased estimate. Nobody sees
    a suggestion: the model is the accuser here. The split of a record stays what it was.

    :param suspects: ``{"record_id", "score", "why"}`` each; those without consent are left out.
    :returns: as ``plan_cycle``; a dry run is *skipped* and leaves only its decision.
    """
    batch_id = batch_key(project.name, "audit", request_id)
    if plan := lake.files.get_json(plan_path(batch_id)):
        return _record(project, lake, plan)
    found = f"{len(suspects)} records: {reason}"
    if dry_run:
        why = f"Dry run, nothing sent. {found}"
        return _skip(project, lake, batch_id, "dry-run", why, now, inputs={"suspects": list(suspects)})
    if not suspects:
        return _skip(project, lake, batch_id, "nothing-found", f"Nothing to look at again. {found}", now)
    records = lake.read("records", project.name, columns=["record_id", "content_hash", "consent"])
    records = records.filter(consented(project)).drop("consent")
    asked = lake.read("selections", project.name, columns=["record_id", "content_hash", "tier", "split", "selected_at"])
    known = {row["record_id"]: row for row in with_splits(Groups.read(project, lake), records, asked).to_dicts()}
    tiers = dict(asked.group_by("record_id").agg(pl.col("tier").max()).iter_rows())
    selections = [
        {
            "record_id": suspect["record_id"],
            "content_hash": known[suspect["record_id"]]["content_hash"],
            "strategy": "audit",
            "cell": None,
            "score": suspect["score"],
            "weight": None,
            "threshold": None,
            "frame_probability": None,
            "inclusion_probability": None,
            "model_version": None,
            "blind": True,
            "gold": False,
            "tier": tiers.get(suspect["record_id"], -1) + 1,
            "split": known[suspect["record_id"]]["split"] or "train",
            "reason": f"A second look: {reason}",
            "suggestion": None,
        }
        for suspect in suspects
        if suspect["record_id"] in known
    ]
    return _freeze(project, lake, batch_id, selections, len(selections), None, now)


def plan_path(batch_id: str) -> str:
    """Where the plan of a batch is frozen."""
    return f"batches/{batch_id}.json"


def load_plan(lake: Lake, batch_id: str) -> dict[str, Any]:
    """The frozen plan of a batch.

    :raises LabelwheelError: when no such batch was ever planned.
    """
    plan: dict[str, Any] | None = lake.files.get_json(plan_path(batch_id))
    if plan is None:
        raise LabelwheelError(f"batch {batch_id!r} was never planned", remedy="Check the batch id.")
    return plan


def mark_pushed(lake: Lake, *, batch_id: str, counts: dict[str, Any]) -> None:
    """Remember that every record of the batch reached Argilla, so that later runs of the same cycle do nothing."""
    lake.files.create_json(f"batches/{batch_id}.pushed", counts)


def _freeze(
    project: Project,
    lake: Lake,
    batch_id: str,
    selections: list[dict[str, Any]],
    population: int,
    model_version: str | None,
    now: datetime,
    allowed: BatchSize | None = None,
) -> dict[str, Any]:
    _, kind, cycle = batch_id.split("/", 2)
    plan = lake.files.create_json(
        plan_path(batch_id),
        {
            "batch_id": batch_id,
            "project": project.name,
            "kind": kind,
            "cycle": cycle,
            "created_at": now.isoformat(),
            "model_version": model_version,
            "population": population,
            "seed": project.sampling.seed,
            "selections": selections,
            "queue": None if allowed is None else {"why": allowed.why, **allowed.figures()},
        },
    )
    return {**_record(project, lake, plan), "outcome": "planned"}


def _record(project: Project, lake: Lake, plan: dict[str, Any]) -> dict[str, Any]:
    """Append a frozen plan to ``selections`` and its *yes* to ``decisions``, once however often it is called."""
    batch_id, created_at = plan["batch_id"], datetime.fromisoformat(plan["created_at"])
    rows = [
        {
            "project": project.name,
            "shard": shard(chosen["record_id"]),
            "batch_id": batch_id,
            "population": plan["population"],
            "seed": plan["seed"],
            "selected_at": created_at,
            **{key: value for key, value in chosen.items() if key != "suggestion"},
        }
        for chosen in plan["selections"]
    ]
    lake.append("selections", rows, app_id=f"sample/{batch_id}")
    why = f"Selected {len(rows)} of {plan['population']} candidates ({_strategy_counts(plan)})."
    inputs = {"model_version": plan["model_version"]}
    if queue := plan.get("queue"):  # absent in plans of earlier releases, null for an audit
        inputs["queue"] = {name: value for name, value in queue.items() if name != "why"}
        why += f" {queue['why']}" if queue["limited_by"] else ""
    _decide(project, lake, batch_id, "yes", why, created_at, inputs=inputs)
    pushed = lake.files.get_json(f"batches/{batch_id}.pushed") is not None
    return {
        "batch_id": batch_id,
        "outcome": "pushed" if pushed else "pending",
        "selected": len(rows),
        "why": f"Batch {batch_id} was already sent to people." if pushed else why,
    }


def _strategy_counts(plan: dict[str, Any]) -> str:
    names = [chosen["strategy"] for chosen in plan["selections"]]
    return ", ".join(f"{names.count(name)} {name.replace('_', ' ')}" for name in sorted(set(names)))


def _skip(
    project: Project,
    lake: Lake,
    batch_id: str,
    code: str,
    why: str,
    now: datetime,
    *,
    inputs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    _decide(project, lake, f"{batch_id}#{code}", "no", why, now, inputs=inputs or {})
    return {"batch_id": batch_id, "outcome": "skipped", "selected": 0, "why": why}


def _decide(
    project: Project, lake: Lake, input_id: str, outcome: str, why: str, now: datetime, *, inputs: dict[str, Any]
) -> None:
    row = {
        "project": project.name,
        "kind": "sample",
        "input_id": input_id,
        "outcome": outcome,
        "why": why,
        "policy_json": canonical_json(project.sampling.model_dump()),
        "inputs_json": canonical_json(inputs),
        "decided_at": now,
    }
    lake.append("decisions", [row], app_id=f"decision/sample/{project.name}/{digest(input_id)}")
