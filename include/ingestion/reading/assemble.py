"""Rows that were read at once, as a table, and rows that were read one by one, put together in their order."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from include.ingestion.blocks import BadRow, Block
from include.ingestion.rows import as_text
from include.lake.keys import canonical_json

Numbers = npt.NDArray[np.int64]
INT64 = range(-(2**63), 2**63)


@dataclass
class Part:
    """Readable rows (R of them) as columns: see ``Block``."""

    numbers: Numbers  # (R,)
    columns: pa.Table
    extras: pa.Array
    new_columns: set[str] = field(default_factory=set)


@dataclass
class Singles:
    """Rows that were read one by one: their numbers and JSON values, and those that could not be read."""

    numbers: list[int] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def assemble(known: Collection[str], part: Part | None, singles: Singles, raw: Callable[[int], bytes]) -> Block:
    """A block of both kinds of rows, by number.

    :param known: columns the project gives a meaning to.
    :param raw: gives the bytes of a row by its number in the object.
    """
    if singles.numbers:
        single = _part(known, singles, like=part.columns.schema if part else None)
        part = _interleave(part, single) if part and len(part.numbers) else single
    if part is None:
        part = Part(np.empty(0, np.int64), pa.table({}), pa.nulls(0, pa.string()))
    numbers = part.numbers
    return Block(
        numbers=pa.array(numbers, pa.int64()),
        columns=part.columns,
        extras=part.extras,
        raw=lambda row: raw(int(numbers[row])),
        bad=singles.bad,
        new_columns=part.new_columns,
    )


def _part(known: Collection[str], singles: Singles, like: pa.Schema | None) -> Part:
    """The rows as columns, each of the type in ``like`` if all its values are of that type, else as text."""
    rows = singles.rows
    columns: dict[str, pa.Array] = {}
    for name in sorted(known):
        values = [row.get(name) for row in rows]
        if any(value is not None for value in values):
            columns[name] = _typed(values, like.field(name).type if like and name in like.names else pa.string())
    new_columns: set[str] = set()
    extras: list[str | None] = []
    for row in rows:
        others = {name: value for name, value in row.items() if value is not None and name not in known}
        new_columns |= others.keys()
        extras.append(canonical_json(others) if others else None)
    table = pa.table(columns) if columns else no_columns(len(rows))
    return Part(np.array(singles.numbers, np.int64), table, pa.array(extras, pa.string()), new_columns)


def no_columns(rows: int) -> pa.Table:
    """A table that has rows all the same."""
    return pa.table({"": pa.nulls(rows)}).select([])


def _typed(values: list[Any], wanted: pa.DataType) -> pa.Array:
    types = {type(value) for value in values if value is not None}
    fits = (
        (pa.types.is_integer(wanted) and types <= {int} and all(one is None or one in INT64 for one in values))
        or (pa.types.is_floating(wanted) and types <= {int, float})
        or (pa.types.is_boolean(wanted) and types <= {bool})
    )
    if not fits:
        return pa.array([value if type(value) is str else _text(value) for value in values], pa.string())
    if pa.types.is_floating(wanted):
        try:
            values = [None if value is None else float(value) for value in values]
        except OverflowError:  # a whole number beyond all floats
            return pa.array([as_text(value) for value in values], pa.string())
    return pa.array(values, wanted)


def _text(value: Any) -> str | None:
    """The same as ``as_text``, faster for numbers."""
    if type(value) is int or type(value) is float:
        return repr(value)
    return as_text(value)


def _interleave(one: Part, two: Part) -> Part:
    numbers = np.concatenate((one.numbers, two.numbers))
    order = np.argsort(numbers, kind="stable")
    names = [*one.columns.column_names, *(n for n in two.columns.column_names if n not in one.columns.column_names)]
    columns = {name: _joined(one, two, name).take(pa.array(order)) for name in names}
    table = pa.table(columns) if columns else no_columns(len(numbers))
    extras = pa.concat_arrays([one.extras, two.extras]).take(pa.array(order))
    return Part(numbers[order], table, extras, one.new_columns | two.new_columns)


def _joined(one: Part, two: Part, name: str) -> pa.Array:
    """The column of both parts; where their types differ, as text."""
    found = [part.columns[name].combine_chunks() if name in part.columns.column_names else None for part in (one, two)]
    types = {array.type for array in found if array is not None}
    wanted = types.pop() if len(types) == 1 else pa.string()
    arrays = []
    for array, part in zip(found, (one, two), strict=True):
        if array is None:
            arrays.append(pa.nulls(len(part.numbers), wanted))
        elif array.type != wanted:
            arrays.append(pa.array([as_text(value) for value in array.to_pylist()], pa.string()))
        else:
            arrays.append(array)
    return pa.concat_arrays(arrays)
