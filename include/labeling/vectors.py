"""The vectors that go to Argilla with the records, so that annotators can look for similar ones."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import polars as pl

from include.lake import Lake
from include.project import Project

ContentKey = tuple[str, str]  # record id, content hash
DIGITS = pl.element().round(6)  # as text, all digits of a float cost twice the bytes and say nothing about similarity


@dataclass(frozen=True)
class Vectors:
    """Vectors of some contents, all by the embedder that worked last.

    :param by_content: content → name of the vectors → vector, as a record carries it; not all contents have one.
    :param dimensions: name of the vectors → their length.
    """

    by_content: Mapping[ContentKey, dict[str, list[float]]]
    dimensions: dict[str, int]


def read_vectors(project: Project, lake: Lake, contents: Collection[ContentKey]) -> Vectors:
    """The stored vectors of these contents. Argilla allows five kinds per dataset, so only the newest kind is sent."""
    rows = lake.read(
        "embeddings",
        project.name,
        columns=["record_id", "content_hash", "embedder", "vector", "embedded_at"],
        where=pl.col("record_id").is_in(sorted({record_id for record_id, _ in contents})),
    )
    if rows.is_empty():
        return Vectors({}, {})
    embedder = rows.sort("embedded_at", "embedder")["embedder"][-1]
    name = re.sub(r"[^a-z0-9_-]+", "_", embedder.lower())
    found = {
        (record_id, content_hash): {name: vector}
        for record_id, content_hash, vector in rows.filter(pl.col("embedder") == embedder)
        .select("record_id", "content_hash", pl.col("vector").cast(pl.List(pl.Float64)).list.eval(DIGITS))
        .iter_rows()
        if (record_id, content_hash) in contents
    }
    return Vectors(found, {name: len(next(iter(found.values()))[name])} if found else {})
