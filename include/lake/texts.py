"""What a model reads of records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from include.lake.consent import consented
from include.lake.lake import Lake
from include.project import Project

if TYPE_CHECKING:
    import polars as pl


def record_text(project: Project, fields_json: str) -> str:
    """The project's fields in their order, one per line; absent ones are left out."""
    fields = json.loads(fields_json)
    values = (fields.get(name) for name in project.source.fields)
    return "\n".join(str(value) for value in values if value is not None)


def read_texts(project: Project, lake: Lake, rows: pl.DataFrame) -> pl.DataFrame:
    """The texts of some records, as far as they are what they were.

    A record that changed since the rows were read is left out, and so is one whose consent went meanwhile.

    :param rows: ``record_id`` and ``content_hash``, sorted by id; not empty.
    :returns: ``record_id``, ``content_hash``, ``text``, sorted by id.
    :raises StorageError: when the lake cannot be read.
    """
    import polars as pl

    ids = rows["record_id"]
    records = lake.read(
        "records",
        project.name,
        columns=["record_id", "content_hash", "fields_json", "consent"],
        where=pl.col("shard").is_in(ids.str.head(1).unique().implode())
        & pl.col("record_id").is_between(pl.lit(ids[0]), pl.lit(ids[-1]))  # files and row groups are skipped by this
        & pl.col("record_id").is_in(ids.implode()),
    ).filter(consented(project))
    found = rows.join(records, on=["record_id", "content_hash"]).sort("record_id")
    texts = [record_text(project, fields) for fields in found["fields_json"]]
    return found.select("record_id", "content_hash", pl.Series("text", texts, pl.String))
