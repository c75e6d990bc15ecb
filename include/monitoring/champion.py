"""The champion as monitoring sees it: the pointer and the snapshot that ``include/training`` leaves in the lake."""

from __future__ import annotations

import io
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.errors import TrainingError
from include.lake import Lake
from include.project import Project

if TYPE_CHECKING:
    import polars as pl


def champion_pointer(project: Project, lake: Lake) -> dict[str, Any] | None:
    """The champion pointer (``model_version``, ``snapshot_id``, ``report``, …); None before the first promotion."""
    pointer: dict[str, Any] | None = lake.files.get_json(f"champions/{project.name}.json")
    return pointer


def snapshot_time(project: Project, lake: Lake, snapshot_id: str) -> datetime:
    """When the snapshot was made: what was ingested later, its model has never seen.

    :raises TrainingError: when the snapshot is not registered.
    """
    import polars as pl

    rows = lake.read("snapshots", project.name, columns=["created_at"], where=pl.col("snapshot_id") == snapshot_id)
    if rows.is_empty():
        raise _lost(snapshot_id)
    created: datetime = rows["created_at"][0]
    return created


def snapshot_records(project: Project, lake: Lake, snapshot_id: str) -> pl.DataFrame:
    """``record_id`` and ``content_hash`` of every record of the snapshot, trained on or held out.

    :raises TrainingError: when the snapshot's file is gone.
    """
    import polars as pl

    data = lake.files.get(f"snapshots/{project.name}/{snapshot_id}.parquet")
    if data is None:
        raise _lost(snapshot_id)
    return pl.read_parquet(io.BytesIO(data), columns=["record_id", "content_hash"])


def champion_predictions(project: Project, lake: Lake, model_version: str) -> pl.DataFrame:
    """``record_id``, ``content_hash``, ``label``, ``confidence`` of each record the champion has scored."""
    import polars as pl

    return lake.read(
        "predictions",
        project.name,
        columns=["record_id", "content_hash", "label", "confidence"],
        where=(pl.col("model_version") == model_version) & (pl.col("origin") == "batch"),
    )


def _lost(snapshot_id: str) -> TrainingError:
    return TrainingError(
        f"the champion's snapshot {snapshot_id!r} is missing from the lake",
        remedy="Restore it from a backup, or retrain.",
    )
