"""Columns the project does not know → one canonical JSON object per row, at column speed."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

# Python and Rust write floats alike between these; outside of them only one of the two uses an exponent.
LEAST_FLOAT, LARGEST_FLOAT = 1e-4, 1e16


def encode_extras(columns: pa.Table, names: Sequence[str]) -> pa.StringArray:
    """What ``canonical_json`` gives for each row of the named columns without nulls; null for a row of nulls only.

    ``tests/include/ingestion/reading/test_extras.py`` proves that the two are equal byte by byte.

    :param columns: text, whole numbers, floats (see ``uneven_floats``), true and false.
    """
    import polars as pl

    by_name = dict(zip(columns.column_names, columns.columns, strict=True))  # looking up is slow among ten thousand
    filled = [name for name in sorted(names) if by_name[name].null_count < len(columns)]
    if not filled:
        return pa.nulls(len(columns), pa.string())
    # numbered, because polars would read a name like "^a$" as a pattern
    frame = pl.DataFrame({str(at): pl.from_arrow(by_name[name]) for at, name in enumerate(filled)})
    members = []
    for at, name in enumerate(filled):
        column = pl.col(str(at))
        value: pl.Expr
        if pa.types.is_string(by_name[name].type):
            wrapped = pl.struct(column.alias("s")).struct.json_encode()
            value = pl.when(column.is_not_null()).then(wrapped.str.strip_prefix('{"s":').str.strip_suffix("}"))
        else:
            value = column.cast(pl.String)
        members.append(pl.concat_str([pl.lit(json.dumps(name, ensure_ascii=False) + ":"), value]))
    body = pl.concat_str(members, separator=",", ignore_nulls=True)
    # members are never empty, so an empty body is a row of nulls only
    encoded = frame.select(pl.when(body != "").then(pl.concat_str([pl.lit("{"), body, pl.lit("}")])))
    return encoded.to_series().to_arrow().cast(pa.string())


def uneven_floats(column: pa.ChunkedArray, *, whole_too: bool) -> npt.NDArray[np.bool_]:
    """(R,) whether ``encode_extras`` may write this float otherwise than ``canonical_json`` does.

    :param whole_too: mark whole numbers, because the source may have written ``5`` where the column says ``5.0``.
    """
    values = column.to_numpy()  # null becomes NaN, which no comparison marks
    size = np.abs(values)
    uneven: npt.NDArray[np.bool_] = (size < LEAST_FLOAT) | (size >= LARGEST_FLOAT)
    marked: npt.NDArray[np.bool_] = uneven | (values == np.floor(values)) if whole_too else uneven & (values != 0)
    return marked
