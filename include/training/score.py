"""The champion's answer for every record that has none yet."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from include.lake import Lake
from include.lake.consent import consented
from include.lake.groups import Groups
from include.lake.keys import canonical_json, digest, shard
from include.project import Project
from include.training import registry
from include.training.snapshot import record_text
from include.training.trainers import Model, predict

if TYPE_CHECKING:
    import polars as pl

SLICE_RECORDS = 5_000


def score_candidates(project: Project, lake: Lake, *, now: datetime) -> dict[str, Any]:
    """Predict the present content of every record with consent that lacks a prediction of this model version.

    Dropped duplicates are left out; linked ones are scored, because they are data as good as any.

    Work is cut into slices of ``SLICE_RECORDS`` in the order of ``record_id``; each is one append named by its content,
    so a retry goes on where the killed attempt stopped.

    :returns: ``{"scored", "model_version"}``: records predicted by this call; null without a champion.
    :raises TrainingError: when the champion's artifact is missing or altered.
    """
    current = registry.champion(project, lake)
    if current is None:
        return {"scored": 0, "model_version": None}
    pending = _pending(project, lake, current.model_version)
    scored = 0
    if pending.is_empty():
        return {"scored": scored, "model_version": current.model_version}
    model = registry.load_model(project, lake, current.sha256)
    for offset in range(0, pending.height, SLICE_RECORDS):
        part = pending.slice(offset, SLICE_RECORDS)
        rows = _predictions(project, lake, model, current.model_version, part, now)
        content = digest(*part["record_id"], *part["content_hash"])
        lake.append("predictions", rows, app_id=f"score/{project.name}/{current.model_version}/{content}")
        scored += len(rows)
    return {"scored": scored, "model_version": current.model_version}


def _pending(project: Project, lake: Lake, model_version: str) -> pl.DataFrame:
    """Ids and content hashes still to be predicted, sorted by id."""
    import polars as pl

    records = lake.read("records", project.name, columns=["record_id", "content_hash", "consent", "ingest_batch"])
    groups = Groups.read(project, lake)
    done = lake.read(
        "predictions",
        project.name,
        columns=["record_id", "content_hash"],
        where=(pl.col("model_version") == model_version) & (pl.col("origin") == "batch"),
    )
    usable = groups.kept(groups.of(records.filter(consented(project) & groups.settled())))
    return (
        usable.select("record_id", "content_hash")
        .join(done, on=["record_id", "content_hash"], how="anti")
        .sort("record_id")
    )


def _predictions(
    project: Project, lake: Lake, model: Model, model_version: str, part: pl.DataFrame, now: datetime
) -> list[dict[str, Any]]:
    import polars as pl

    first, last = part["record_id"][0], part["record_id"][-1]
    shards = sorted({shard(record_id) for record_id in part["record_id"]})
    records = lake.read(
        "records",
        project.name,
        columns=["record_id", "content_hash", "fields_json", "consent"],
        where=pl.col("shard").is_in(shards) & pl.col("record_id").is_between(pl.lit(first), pl.lit(last)),
    ).filter(consented(project))
    # A record that changed since the slice was cut is left to the next run.
    found = part.join(records, on=["record_id", "content_hash"]).sort("record_id")
    probabilities = predict(model, [record_text(project, fields) for fields in found["fields_json"]])
    classes = [str(name) for name in model.classes_]
    rows = []
    for record_id, content_hash, chances in zip(found["record_id"], found["content_hash"], probabilities, strict=True):
        best, second = np.argsort(-chances, kind="stable")[:2]
        rows.append(
            {
                "project": project.name,
                "shard": shard(record_id),
                "record_id": record_id,
                "content_hash": content_hash,
                "model_version": model_version,
                "origin": "batch",
                "label": classes[best],
                "confidence": float(chances[best]),
                "margin": float(chances[best] - chances[second]),
                "probabilities_json": canonical_json(
                    {name: round(float(chance), 6) for name, chance in zip(classes, chances, strict=True)}
                ),
                "predicted_at": now,
            }
        )
    return rows
