"""Training sets that never change: what the labels say now, frozen under the hash of its content.

A snapshot is one Parquet file, ``snapshots/<project>/<snapshot id>.parquet``, one row per labeled record, sorted by
``record_id``. Training and evaluation read nothing else.
"""

from __future__ import annotations

import io
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from include.errors import ProjectError, TrainingError
from include.lake import Lake
from include.lake.consent import consented
from include.lake.groups import Groups
from include.lake.keys import canonical_json, digest
from include.lake.texts import record_text
from include.project import Project, Training

if TYPE_CHECKING:
    import polars as pl

SCHEMA = pa.schema(
    {
        "record_id": pa.string(),
        "content_hash": pa.string(),
        "text": pa.string(),
        "label": pa.string(),
        "label_revision": pa.int64(),
        "posterior": pa.float64(),
        "split": pa.string(),  # train | holdout
        "inclusion_probability": pa.float64(),
    }
)


def training_rules(project: Project) -> Training:
    """The project's training section.

    :raises ProjectError: when it has none, or when its question is not one a classifier can answer.
    """
    if project.training is None:
        raise ProjectError(
            f"project {project.name!r} has no 'training' section",
            remedy="Add one to its YAML, or do not run its retrain step.",
        )
    if project.question.type != "label":
        raise ProjectError(
            f"project {project.name!r} asks a {project.question.type} question, and trainers need a label question",
            remedy="Remove the 'training' section to collect labels only.",
        )
    return project.training


def current_labels(project: Project, lake: Lake) -> pl.DataFrame:
    """What the labels say now about records that may be trained or evaluated on, in the columns of ``SCHEMA``.

    A row is a final label of the record's present content. Left out: gold records and their duplicates, records without
    consent, and records no batch ever selected (they have no split). Split and probability are those of the earliest
    selection.

    A group of duplicates has one row, that of the record people were asked about first. If it ever had a record in
    each split (records change, and so does what counts as a duplicate), it trains: a model may have seen it.
    """
    import polars as pl

    question = project.question
    labels = lake.read(
        "labels",
        project.name,
        columns=["record_id", "content_hash", "value_json", "revision", "posterior", "status"],
        where=(pl.col("question") == question.name) & (pl.col("schema_version") == project.labeling.schema_version),
    ).filter(pl.col("status") == "final")
    records = lake.read(
        "records",
        project.name,
        columns=["record_id", "content_hash", "fields_json", "consent"],
        where=pl.col("record_id").is_in(labels["record_id"].to_list()),
    ).filter(consented(project))
    groups = Groups.read(project, lake)
    labels = groups.of(labels.join(records, on=["record_id", "content_hash"]))
    frame = _on_one_side(project, lake, groups, labels)
    texts = [record_text(project, fields_json) for fields_json in frame["fields_json"]]
    values = [json.loads(value_json) for value_json in frame["value_json"]]
    return (
        frame.rename({"revision": "label_revision"})
        .with_columns(pl.Series("text", texts, pl.String), pl.Series("label", values, pl.String))
        .select(SCHEMA.names)
        .sort("record_id")
    )


def _on_one_side(project: Project, lake: Lake, groups: Groups, labels: pl.DataFrame) -> pl.DataFrame:
    """One label per group, with the split and inclusion probability of its record's first selection."""
    import polars as pl

    chosen = lake.read(
        "selections",
        project.name,
        columns=[
            "record_id", "content_hash", "batch_id", "split", "gold", "inclusion_probability", "selected_at"
        ],
    )  # fmt: skip
    chosen = groups.of(chosen).sort("selected_at", "batch_id")
    chosen = chosen.with_columns(pl.col("split").first().over("record_id"))
    gold = chosen.filter(pl.col("gold").fill_null(False))
    trained = chosen.filter(pl.col("split") == "train").select("group_id").unique()
    first = chosen.unique("record_id", keep="first", maintain_order=True).drop("content_hash", "group_id", "gold")
    return (
        labels.join(first.with_row_index("order"), on="record_id")
        .filter(pl.col("split").is_in(["train", "holdout"]))
        .join(gold, on="record_id", how="anti")
        .join(gold, on="group_id", how="anti")
        .sort("order")
        .unique("group_id", keep="first", maintain_order=True)
        .join(trained.with_columns(pl.lit("train").alias("side")), on="group_id", how="left")
        .with_columns(pl.coalesce("side", "split").alias("split"))
    )


def snapshot_key(labels: pl.DataFrame) -> str:
    """The id of a snapshot: hash of its rows, whatever library writes them."""
    return digest("snapshot", canonical_json(labels.select(SCHEMA.names).sort("record_id").rows()))


def snapshot_path(project: Project, snapshot_id: str) -> str:
    """Where a snapshot is kept."""
    return f"snapshots/{project.name}/{snapshot_id}.parquet"


def freeze_snapshot(project: Project, lake: Lake, *, now: datetime) -> dict[str, Any]:
    """Freeze what the labels say now; the same labels give the same snapshot.

    :returns: ``{"snapshot_id", "uri", "records", "train", "holdout"}``.
    :raises ProjectError: when the project does not train.
    :raises TrainingError: when there is no final label yet.
    """
    training_rules(project)
    label_version = lake.version("labels")
    labels = current_labels(project, lake)
    if labels.is_empty():
        raise TrainingError(
            f"project {project.name!r} has no final labels", remedy="Finish a batch in Argilla and collect it first."
        )
    snapshot_id = snapshot_key(labels)
    path = snapshot_path(project, snapshot_id)
    lake.files.create(path, parquet_bytes(labels))
    splits = dict(labels["split"].value_counts().iter_rows())
    counts = {"records": labels.height, "train": splits.get("train", 0), "holdout": splits.get("holdout", 0)}
    row = {
        "project": project.name,
        "snapshot_id": snapshot_id,
        "uri": lake.files.uri(path),
        **counts,
        "classes_json": canonical_json(dict(labels["label"].value_counts().iter_rows())),
        "question": project.question.name,
        "schema_version": project.labeling.schema_version,
        "label_version": label_version,
        "created_at": now,
    }
    lake.append("snapshots", [row], app_id=f"snapshot/{project.name}/{snapshot_id}")
    return {"snapshot_id": snapshot_id, "uri": row["uri"], **counts}


def parquet_bytes(labels: pl.DataFrame) -> bytes:
    """The snapshot as Parquet: the same rows give the same bytes (with one version of pyarrow)."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    table = labels.select(SCHEMA.names).sort("record_id").to_arrow().cast(SCHEMA)
    pq.write_table(table, buffer, version="2.6", compression="zstd", row_group_size=65_536)
    return buffer.getvalue()


def load_snapshot(project: Project, lake: Lake, snapshot_id: str) -> pl.DataFrame:
    """The rows of a snapshot, checked against its id.

    :raises TrainingError: when it is missing or its content is not what the id says.
    """
    import polars as pl

    data = lake.files.get(snapshot_path(project, snapshot_id))
    if data is None:
        raise TrainingError(f"snapshot {snapshot_id!r} does not exist", remedy="Run the retrain step from its start.")
    try:
        frame = pl.read_parquet(io.BytesIO(data))
        found = snapshot_key(frame)
    except pl.exceptions.PolarsError as error:
        raise _altered(snapshot_id) from error
    if found != snapshot_id:
        raise _altered(snapshot_id)
    return frame


def _altered(snapshot_id: str) -> TrainingError:
    return TrainingError(
        f"snapshot {snapshot_id!r} was altered: its content does not match its id",
        remedy="Delete the file and run the retrain step from its start.",
    )
