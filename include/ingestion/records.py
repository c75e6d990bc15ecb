"""Rows that keep the contract → rows of the ``records`` table, whole columns at a time.

Ids and hashes are those of ``include.lake.keys``, computed for a column at once; the tests compare both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from include.lake.keys import CONTENT_HASH_TEXT, ID_DIGITS, RECORD_ID_TEXT
from include.project import Project

if TYPE_CHECKING:
    import polars as pl

    from include.ingestion.chunks import Chunk

FIRST_REVISION = 1  # what a staged row is taken for; ``commit`` corrects it where the record is known already
# The columns that differ from row to row; the others are the same for a batch or an object.
OWN_COLUMNS = [
    "record_id",
    "content_hash",
    "state_hash",
    "source_id",
    "fields_json",
    "metadata_json",
    "event_at",
    "consent",
    "row_number",
]


def encode(project: Project, chunk: Chunk, columns: pa.Table, pii: pa.StringArray | None) -> pa.Table:
    """The rows of a chunk as records, in their own order.

    :param columns: (R, C) the chunk's columns, redacted where the project says so.
    :param pii: (R,) kinds of personal data found, as JSON lists; null where there are none.
    :returns: (R,) the columns ``OWN_COLUMNS``.
    """
    import polars as pl

    given = pl.DataFrame({name: pl.Series(name, columns[name]) for name in columns.column_names})
    frame = given.select(_json_object(sorted(project.source.fields), missing="").alias("fields_json"))
    source_id = given[project.source.id_column] if project.source.id_column else frame["fields_json"]
    frame = frame.with_columns(
        source_id.alias("source_id"),
        _metadata_json(project, given, chunk.extras, pii).alias("metadata_json"),
        pl.Series("event_at", chunk.event_at),
        pl.Series("consent", chunk.consent, dtype=pl.Boolean),
        pl.Series("row_number", chunk.numbers),
        _id(CONTENT_HASH_TEXT, "fields_json").alias("content_hash"),
    )
    frame = frame.with_columns(
        _id(RECORD_ID_TEXT.format(project=project.name), "source_id").alias("record_id"),
        _state_hash().alias("state_hash"),
    )
    return frame.select(OWN_COLUMNS).to_arrow()


def order(record_ids: pa.ChunkedArray) -> tuple[pa.Array, list[int]]:
    """Sort ids of equal records together in their own order, and tell the shards apart.

    Sorts by the first 64 of 128 bits, which is the order of the whole texts unless two ids agree in all of them.

    :param record_ids: (R,)
    :returns: (R,) positions in order, and the 17 places between and around the 16 shards among them.
    """
    import polars as pl

    numbers = pl.Series(record_ids).str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64)
    positions = pl.DataFrame({"id": numbers}).with_row_index("row").sort("id", maintain_order=True)
    firsts = np.arange(16, dtype=np.uint64) << np.uint64(60)
    edges = np.searchsorted(positions["id"].to_numpy(), firsts)
    return positions["row"].to_arrow(), [*edges.tolist(), len(numbers)]


def _json_object(names: list[str], *, missing: str | None = None) -> pl.Expr:
    """Columns as canonical JSON objects, keys in the given order."""
    import polars as pl

    columns = [pl.col(name) if missing is None else pl.col(name).fill_null(missing) for name in names]
    return pl.struct(columns).struct.json_encode()


def _metadata_json(
    project: Project, columns: pl.DataFrame, extras: pa.StringArray, pii: pa.StringArray | None
) -> pl.Series:
    """JSON objects without missing values: configured columns by name, then personal data found, then the rest."""
    import polars as pl

    names = sorted(project.source.metadata)
    whole = [name for name in names if not columns[name].null_count()]
    parts = [_members(_json_object(whole))] if whole else []
    for name in (name for name in names if name not in whole):  # a key is left out where its value is missing
        parts.append(pl.when(pl.col(name).is_not_null()).then(_members(_json_object([name]))))
    found: list[pl.Series] = []
    if pii is not None and pii.null_count < len(pii):
        found.append(pl.Series("\0pii", pii))
        parts.append(pl.lit('"pii":') + pl.col("\0pii"))
    if extras.null_count < len(extras):
        found.append(pl.Series("\0extras", extras))
        parts.append(_members(pl.col("\0extras")))
    if not parts:
        return pl.Series([], dtype=pl.String).extend_constant("{}", columns.height)
    body = pl.concat_str(parts, separator=",", ignore_nulls=True)
    return columns.with_columns(found).select(pl.concat_str(pl.lit("{"), body, pl.lit("}"))).to_series()


def _members(objects: pl.Expr) -> pl.Expr:
    """JSON objects without their braces."""
    return objects.str.slice(1).str.strip_suffix("}")


def _id(prefix: str, column: str) -> pl.Expr:
    import polars as pl
    import polars_hash

    text = polars_hash.concat_str(pl.lit(prefix), pl.col(column))
    hashed: pl.Expr = text.chash.sha2_256().str.slice(0, ID_DIGITS)
    return hashed


def _state_hash() -> pl.Expr:
    """64 bits are plenty: a state is only compared with other states of the same record."""
    import polars as pl
    import polars_hash

    moment = pl.col("event_at").dt.timestamp("us").cast(pl.String).fill_null("-")
    consent = pl.col("consent").cast(pl.String).fill_null("-")
    text = polars_hash.concat_str("content_hash", moment, consent, "metadata_json", separator="|")
    hashed: pl.Expr = text.nchash.xxhash64().reinterpret(signed=True)
    return hashed
