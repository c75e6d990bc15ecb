"""Find labels that may be wrong, with the reason for each suspicion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from include.errors import LabelwheelError
from include.lake import Lake
from include.lake.consent import consented
from include.lake.groups import Groups
from include.project import Project

SHOWN = 5


def find_suspects(
    project: Project, lake: Lake, *, kind: str, size: int, record_ids: Sequence[str] = ()
) -> dict[str, Any]:
    """List the records an audit would send to people, most suspicious first; one of each group of duplicates.

    :param kind: ``suspected_label_errors``: final labels that a model contradicts most confidently;
        ``record_ids``: the records listed.
    :param size: at most this many.
    :returns: ``{"suspects": [{"record_id", "score", "why"}], "labels": number looked at, "why": one sentence}``.
    :raises LabelwheelError: for listed records that do not exist or have no consent.
    """
    if kind == "record_ids":
        suspects = _listed(project, lake, record_ids)[:size]
        return {"suspects": suspects, "labels": 0, "why": f"{len(suspects)} records were listed by hand."}
    labels = _label_values(lake, project)
    predictions = lake.read(
        "predictions",
        project.name,
        columns=["record_id", "content_hash", "label", "confidence", "predicted_at"],
        where=pl.col("origin") == "batch",
    )
    latest = predictions.sort("predicted_at").unique(["record_id", "content_hash"], keep="last", maintain_order=True)
    contradicted = (
        labels.join(latest, on=["record_id", "content_hash"])
        .filter(pl.col("label") != pl.col("value"))
        .sort(["confidence", "record_id"], descending=[True, False])
        .unique("group_id", keep="first", maintain_order=True)
        .head(size)
    )
    suspects = [
        {
            "record_id": row["record_id"],
            "score": row["confidence"],
            "why": f"labeled {row['value']}, but the model says {row['label']} ({row['confidence']:.0%})",
        }
        for row in contradicted.iter_rows(named=True)
    ]
    shown = "; ".join(f"{s['record_id'][:8]} {s['why']}" for s in suspects[:SHOWN])
    why = f"{len(suspects)} suspects among {labels.height} labels{': ' + shown if shown else ''}."
    return {"suspects": suspects, "labels": labels.height, "why": why}


def _label_values(lake: Lake, project: Project) -> pl.DataFrame:
    labels = lake.read(
        "labels", project.name, columns=["record_id", "content_hash", "value_json", "status", "question"]
    )
    records = lake.read("records", project.name, columns=["record_id", "content_hash", "consent"])
    usable = records.filter(consented(project))
    labels = labels.filter((pl.col("status") == "final") & (pl.col("question") == project.question.name))
    labels = Groups.read(project, lake).of(labels.join(usable, on=["record_id", "content_hash"], how="semi"))
    values = [json.loads(text) if text is not None else None for text in labels["value_json"]]
    plain = [value if isinstance(value, str) else None for value in values]  # spans have no single class to contradict
    return labels.with_columns(pl.Series("value", plain, dtype=pl.String)).filter(pl.col("value").is_not_null())


def _listed(project: Project, lake: Lake, record_ids: Sequence[str]) -> list[dict[str, Any]]:
    wanted = list(dict.fromkeys(record_ids))
    columns, where = ["record_id", "content_hash", "consent"], pl.col("record_id").is_in(wanted)
    records = lake.read("records", project.name, columns=columns, where=where)
    if missing := [r for r in wanted if r not in records["record_id"]]:
        raise LabelwheelError(
            f"{len(missing)} of {len(wanted)} record ids are not in project {project.name!r}, first: {missing[0]!r}",
            remedy="Copy record ids from the metadata in Argilla or from the records table.",
        )
    if refused := records.filter(~consented(project))["record_id"].sort().to_list():
        raise LabelwheelError(
            f"{len(refused)} of {len(wanted)} records have no consent in project {project.name!r}, "
            f"first: {refused[0]!r}",
            remedy="Leave them out: nobody may be asked about them.",
        )
    once = set(Groups.read(project, lake).of(records).sort("record_id").unique("group_id", keep="first")["record_id"])
    return [{"record_id": r, "score": None, "why": "listed by hand"} for r in wanted if r in once]
