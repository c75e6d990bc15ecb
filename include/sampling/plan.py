"""Plan a batch: freeze who is asked about what, with which probability, before anything reaches people.

The plan is a create-only file: whoever comes second, a retry or a rival, gets the first plan back. Recording it in the
``selections`` table and pushing it to Argilla are separate steps that can be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from include.errors import LabelwheelError
from include.lake import Lake
from include.lake.consent import consented
from include.lake.groups import Groups
from include.lake.keys import canonical_json, digest, shard, uniform
from include.project import Project
from include.sampling.cycle import batch_id as batch_key
from include.sampling.cycle import cycle_slot
from include.sampling.draw import Draw, margin_weights, priority_draw

RANDOM, COLD_START, MARGIN = "random", "cold_start", "margin"


@dataclass(frozen=True)
class Frame:
    """One share of the mixture as it was drawn: positions refer to the frame's own candidates."""

    strategy: str
    candidates: pl.DataFrame
    draw: Draw
    weights: np.ndarray[Any, np.dtype[np.float64]]


def plan_cycle(
    project: Project,
    lake: Lake,
    *,
    request_id: str | None,
    moment: datetime,
    open_records: int,
    model_version: str | None,
    now: datetime,
) -> dict[str, Any]:
    """Plan and record the batch of the cycle slot that ``moment`` falls into, or an extra one under a request id.

    :param request_id: names an extra batch outside the cycle; None for the slot's own.
    :param open_records: records that wait for people now (back-pressure).
    :param model_version: the champion whose predictions guide the draw; None in cold start.
    :returns: ``{"batch_id", "outcome": "planned" | "pending" | "pushed" | "skipped", "selected", "why"}``; *pending* is
        a batch that an earlier attempt planned but did not finish pushing.
    :raises LabelwheelError: for a request id that cannot name a batch.
    """
    kind, cycle = ("request", request_id) if request_id else ("cycle", cycle_slot(project.schedule.cycle, moment))
    batch_id = batch_key(project.name, kind, cycle)
    if plan := lake.files.get_json(plan_path(batch_id)):
        return _record(project, lake, plan)
    if open_records >= project.sampling.max_open_records:
        why = f"No batch: {open_records} records wait for people, the limit is {project.sampling.max_open_records}."
        return _skip(project, lake, batch_id, "backlog", why, now)
    candidates = _candidates(project, lake, model_version)
    if candidates.is_empty():
        why = "No batch: every usable record was already chosen, is a duplicate, or waits for ingest to compare it."
        return _skip(project, lake, batch_id, "no-candidates", why, now)
    selections = _select(project, candidates, cycle=cycle, model_version=model_version)
    return _freeze(project, lake, batch_id, selections, candidates.height, model_version, now)


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
    known = {row["record_id"]: row for row in _with_splits(Groups.read(project, lake), records, asked).to_dicts()}
    tiers = dict(asked.group_by("record_id").agg(pl.col("tier").max()).iter_rows())
    selections = [
        {
            "record_id": suspect["record_id"],
            "content_hash": known[suspect["record_id"]]["content_hash"],
            "strategy": "audit",
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


def _candidates(project: Project, lake: Lake, model_version: str | None) -> pl.DataFrame:
    """Records people may see and were never asked about, sorted by id, with the champion's view of each.

    Of a group of duplicates it is the first record, unless people were asked about any that is still there. A record
    whose content changed since may be asked about again; ``split`` is what the first selection of the record, or of any
    content of its group, decided.
    """
    records = lake.read("records", project.name, columns=["record_id", "content_hash", "consent", "ingest_batch"])
    groups = Groups.read(project, lake)
    records = records.filter(consented(project) & groups.settled()).drop("consent", "ingest_batch")
    asked = lake.read("selections", project.name, columns=["record_id", "content_hash", "split", "selected_at"])
    records = _with_splits(groups, records, asked)
    answered = records.join(asked, on=["record_id", "content_hash"], how="semi")
    records = groups.first(records.join(answered, on="group_id", how="anti")).sort("record_id")
    if model_version is None:
        return records.with_columns(
            pl.lit(None, pl.String).alias("label"),
            pl.lit(None, pl.Float64).alias("confidence"),
            pl.lit(None, pl.Float64).alias("margin"),
            pl.lit(None, pl.String).alias("probabilities_json"),
        )
    predictions = lake.read(
        "predictions",
        project.name,
        columns=["record_id", "content_hash", "label", "confidence", "margin", "probabilities_json"],
        where=(pl.col("model_version") == model_version) & (pl.col("origin") == "batch"),
    )
    return records.join(predictions, on=["record_id", "content_hash"], how="left").sort("record_id")


def _with_splits(groups: Groups, records: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """The records with ``group_id`` and ``split``; null when neither record nor group was ever selected."""
    records, asked = groups.of(records), groups.of(asked).sort("selected_at")
    own = asked.unique("record_id", keep="first", maintain_order=True).select("record_id", "split")
    of_group = asked.unique("group_id", keep="first", maintain_order=True).select(
        "group_id", pl.col("split").alias("_s")
    )
    joined = records.join(own, on="record_id", how="left").join(of_group, on="group_id", how="left")
    return joined.with_columns(pl.coalesce("split", "_s")).drop("_s")


def _select(
    project: Project, candidates: pl.DataFrame, *, cycle: str, model_version: str | None
) -> list[dict[str, Any]]:
    """Draw every share of the mixture; later shares draw from what earlier ones left."""
    rules = project.sampling
    size = min(rules.batch_size, candidates.height)
    random_size = min(size, max(1, round(size * rules.mixture["random"])))
    first = _draw_frame(project, candidates, RANDOM, random_size, cycle)
    rest = candidates.filter(~pl.int_range(pl.len()).is_in(first.draw.chosen.tolist()))
    strategy = MARGIN if model_version is not None else COLD_START
    second = _draw_frame(project, rest, strategy, size - random_size, cycle)
    # Chance of a candidate under each frame, also for candidates the other frame took: pi needs both.
    random_chance = float(first.draw.probability[0])
    rows = []
    for frame in (first, second):
        for position in frame.draw.chosen.tolist():
            row = frame.candidates.row(position, named=True)
            own = float(frame.draw.probability[position])
            other = random_chance if frame is second else _chance_in_second(second, row, rules.weight_floor)
            chosen = {
                "record_id": row["record_id"],
                "content_hash": row["content_hash"],
                "strategy": frame.strategy,
                "score": None if row["margin"] is None else 1.0 - row["margin"],
                "weight": float(frame.weights[position]),
                "threshold": None if np.isinf(frame.draw.threshold) else frame.draw.threshold,
                "frame_probability": own,
                "inclusion_probability": 1.0 - (1.0 - own) * (1.0 - other),
                "model_version": model_version,
                "blind": uniform("blind", project.name, row["record_id"]) < rules.blind_share,
                "gold": False,
                "tier": 0,
                "split": row["split"] or _split(project, row["group_id"], frame.strategy),
                "reason": _reason(frame.strategy, row),
                "suggestion": None,
            }
            if row["label"] is not None and not chosen["blind"]:
                chosen["suggestion"] = {"value": row["label"], "score": row["confidence"]}
            rows.append(chosen)
    return rows


def _draw_frame(project: Project, candidates: pl.DataFrame, strategy: str, size: int, cycle: str) -> Frame:
    coins = np.array(
        [uniform("draw", project.name, strategy, cycle, project.sampling.seed, r) for r in candidates["record_id"]]
    )
    weights = np.ones(candidates.height)
    if strategy == MARGIN:
        weights = margin_weights(_margins(candidates), project.sampling.weight_floor)
    return Frame(strategy, candidates, priority_draw(weights, coins, size), weights)


def _margins(candidates: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Margins, shape (N,); a record the champion has not scored counts as one it knows nothing about (margin 0)."""
    return np.asarray(candidates["margin"].fill_null(0.0).to_numpy(), dtype=np.float64)


def _chance_in_second(second: Frame, row: dict[str, Any], floor_share: float) -> float:
    """The chance a record of the random frame had in the second frame, had it not been drawn before."""
    if not second.draw.chosen.size:
        return 0.0
    if np.isinf(second.draw.threshold):
        return 1.0
    if second.strategy != MARGIN:
        return min(1.0, second.draw.threshold)
    # Same weight rule as the frame's own candidates: the floor is theirs (a share of their mean weight).
    floor = float(second.weights.mean()) * floor_share / (1.0 + floor_share)
    weight = (1.0 - (row["margin"] or 0.0)) ** 2 + max(floor, 1e-9)
    return min(1.0, weight * second.draw.threshold)


def _split(project: Project, group_id: str, strategy: str) -> str:
    """Decided once, at first selection: the holdout is filled from the random frame only."""
    held_out = strategy == RANDOM and uniform("split", project.name, group_id) < project.sampling.holdout_share
    return "holdout" if held_out else "train"


def _reason(strategy: str, row: dict[str, Any]) -> str:
    """Why a person sees this record, in words for annotators."""
    if strategy == MARGIN and row["probabilities_json"]:
        best = sorted(json.loads(row["probabilities_json"]).items(), key=lambda item: -item[1])[:2]
        return "The model is unsure: " + ", ".join(f"{name} {share:.0%}" for name, share in best)
    if strategy == MARGIN:
        return "New to the model: it has no opinion yet"
    if strategy == COLD_START:
        return "A first look: there is no model yet"
    return "Chosen at random, to measure quality"
