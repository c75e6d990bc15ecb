"""How good is the champion on the data it is used on?

Batches are drawn with known inclusion probabilities, uncertain records more often; the answers people give to them
estimate the champion's accuracy on everything the batch was drawn from, without a test set of its own.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.lake import Lake
from include.lake.consent import consented
from include.lake.groups import Groups
from include.monitoring.champion import champion_pointer, champion_predictions, snapshot_records
from include.project import Project
from include.sampling.estimate import FITTED, LEAST_TO_CALIBRATE, Estimate, calibrate, estimate_share, pool

if TYPE_CHECKING:
    import polars as pl

SELECTED = ["batch_id", "record_id", "content_hash", "strategy", "gold", "tier"]
LEAST_LABELS = 20  # fewer labels say less than the holdout does

HOLDOUT_FIGURES = {"value": "accuracy", "low": "accuracy_low", "high": "accuracy_high", "n": "n"}  # in the report


def measure_accuracy(project: Project, lake: Lake, *, cycle: str, now: datetime) -> dict[str, Any]:
    """Estimate the champion's accuracy for one cycle and write it to ``metrics`` as ``accuracy``, once per cycle.

    Used are batches that have no record in the champion's snapshot, nor a duplicate of one: records that estimate a
    model never trained it. Of each, the population is what it was drawn from, one record per group of duplicates.
    Unanswered records are non-response: a record's probability is
    multiplied by the answered share of its strategy. Until such batches have 20 labels, the holdout stands in.

    :param cycle: the time slot this figure belongs to.
    :returns: ``{"value", "low", "high", "n", "method", "model_version", "why"}``; method ``hajek_difference`` or
        ``holdout_wilson``; ``value`` is null, and nothing is written, without a champion.
    :raises TrainingError: when the champion's snapshot is missing.
    """
    pointer = champion_pointer(project, lake)
    if pointer is None:
        why = "No accuracy figure: there is no champion yet."
        return {**dict.fromkeys(("value", "low", "high", "method", "model_version")), "n": 0, "why": why}
    estimates = _batch_estimates(project, lake, pointer)
    labels = sum(one.n for one in estimates)
    if labels >= LEAST_LABELS:
        pooled = pool(estimates)
        figure = {"value": pooled.value, "low": pooled.low, "high": pooled.high, "n": pooled.n}
        method, source = "hajek_difference", f"{labels} labels of {len(estimates)} batches it never trained on"
    else:
        report = pointer["report"]
        figure = {name: report[key] for name, key in HOLDOUT_FIGURES.items()}
        method, source = "holdout_wilson", f"its holdout, because only {labels} labels came after its snapshot"
    row = {"project": project.name, "name": "accuracy", "cycle": cycle, "slice": "all", "method": method}
    lake.append("metrics", [{**row, **figure, "measured_at": now}], app_id=f"metric/{project.name}/accuracy/{cycle}")
    version = pointer["model_version"]
    interval = f"{figure['low']:.1%} to {figure['high']:.1%}"
    why = f"Champion {version} is right on {figure['value']:.1%} ({interval}), by {source}."
    return {**figure, "method": method, "model_version": version, "why": why}


def _batch_estimates(project: Project, lake: Lake, pointer: dict[str, Any]) -> list[Estimate]:
    """One estimate per usable batch that has labels, in order of selection."""
    import numpy as np
    import polars as pl

    seen = snapshot_records(project, lake, pointer["snapshot_id"])
    chosen = lake.read(
        "selections",
        project.name,
        columns=[*SELECTED, "inclusion_probability", "selected_at"],
    )
    groups = Groups.read(project, lake)
    chosen, seen = groups.of(chosen), groups.of(seen)
    asked_first = chosen.filter(pl.col("tier").fill_null(0) == 0)  # a second look at a trained record spoils no batch
    touched = pl.concat([asked_first.join(seen, on=key, how="semi") for key in ("record_id", "group_id")])
    drawn = chosen.join(touched, on="batch_id", how="anti").filter(
        pl.col("inclusion_probability").is_not_null()
        & ~pl.col("gold").fill_null(False)
        & (pl.col("strategy") != "audit")
    )
    if drawn.is_empty():
        return []
    predictions = champion_predictions(project, lake, pointer["model_version"])
    records = lake.read("records", project.name, columns=["record_id", "content_hash", "consent", "ingested_at"])
    population = groups.of(records.filter(consented(project)).join(predictions, on=["record_id", "content_hash"]))
    answered = _answered(project, lake, drawn, population)
    estimates = []
    for (batch_id,), batch in answered.sort("selected_at", "record_id").group_by("batch_id", maintain_order=True):
        at = batch["selected_at"][0]
        earlier = chosen.filter((pl.col("selected_at") < at) & (pl.col("batch_id") != batch_id))
        known = (pl.col("ingested_at") <= at) | pl.col("record_id").is_in(batch["record_id"].to_list())
        candidates = population.filter(known).join(earlier, on="group_id", how="anti")
        candidates = candidates.join(earlier, on="record_id", how="anti")
        drawn_from = candidates.join(batch, on="group_id", how="anti")
        candidates = pl.concat([groups.first(drawn_from), candidates.join(batch, on="record_id", how="semi")])
        correct, chance = batch["correct"].to_numpy(), batch["chance"].to_numpy()
        everyone, confidence = candidates["confidence"].to_numpy(), batch["confidence"].to_numpy()
        both = calibrate(confidence, correct, chance, np.concatenate([everyone, confidence]))
        fitted = FITTED if correct.size >= LEAST_TO_CALIBRATE else 0
        estimates.append(estimate_share(both[: everyone.size], correct, both[everyone.size :], chance, fitted=fitted))
    return estimates


def _answered(project: Project, lake: Lake, drawn: pl.DataFrame, population: pl.DataFrame) -> pl.DataFrame:
    """The drawn records with a final label and a prediction of the same content, whether they agree (``correct``), and
    the chance of each to be drawn and answered (``chance``)."""
    import polars as pl

    labels = lake.read(
        "labels",
        project.name,
        columns=["record_id", "content_hash", "value_json", "status"],
        where=(pl.col("question") == project.question.name)
        & (pl.col("schema_version") == project.labeling.schema_version),
    ).filter(pl.col("status") == "final")
    labels = labels.with_columns(pl.Series("truth", [json.loads(v) for v in labels["value_json"]], pl.String))
    keys = ["record_id", "content_hash"]
    answered = drawn.join(labels, on=keys).join(population.drop("group_id"), on=keys)
    stratum = ["batch_id", "strategy"]
    asked = drawn.group_by(stratum).len("asked")
    done = answered.group_by(stratum).len("done")
    return (
        answered.join(asked, on=stratum)
        .join(done, on=stratum)
        .with_columns(
            (pl.col("truth") == pl.col("label")).cast(pl.Float64).alias("correct"),
            (pl.col("inclusion_probability") * pl.col("done") / pl.col("asked")).alias("chance"),
        )
    )
