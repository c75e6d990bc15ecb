"""Parquet, some rows of a row group at a time. Row numbers are positions in the file."""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.ingestion.blocks import Block, RejectedObjectError
from include.ingestion.reading.assemble import Part, Singles, assemble, no_columns
from include.ingestion.reading.csv_rows import check_columns
from include.ingestion.reading.extras import encode_extras, uneven_floats
from include.ingestion.reading.lines import BLOCK_BYTES, KEPT_RAW_BYTES, bad_row, long_row
from include.ingestion.reading.packing import CHUNK_BYTES, Unpacked, too_large, unpacked_limit
from include.ingestion.rows import as_text, contract_columns, known_columns
from include.lake.keys import canonical_json
from include.project import Source

SPOOL_BYTES = 32 * 1024**2  # kept in memory; larger files go to a temporary file on disk
BATCH_ROWS = 16_384
READ_BYTES = 1024**2  # of a column at a time, instead of all it has in a row group
LIST_ITEM_BYTES = 8
DICTIONARY_INDEX_BYTES = 4


def parquet_blocks(key: str, unpacked: Unpacked, source: Source) -> Iterator[Block]:
    """The rows of a Parquet file.

    Parquet is read from its end, so the object is first copied to a spool (memory, above ``SPOOL_BYTES`` a nameless
    temporary file), which ends with the generator. Text is read as references to the values that are stored, so that a
    value repeated a million times is not a million values at once.

    :raises RejectedObjectError: when the file is damaged, or unpacks to more than the limits allow.
    """
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        for chunk in unpacked.chunks(CHUNK_BYTES):
            spool.write(chunk)
        limit_bytes = unpacked_limit(source.limits, spool.tell())
        spool.seek(0)
        first = given_bytes = 0
        roles = _roles(source)
        for batch in _batches(key, spool, source, limit_bytes):
            for piece in _pieces(batch, min(BLOCK_BYTES, source.limits.max_row_bytes)):
                if piece.num_rows == 1 and (size := _weight(piece)) > source.limits.max_row_bytes:
                    long = long_row(first, _head(piece), size, source.limits.max_row_bytes)
                    block = assemble((), None, Singles(bad=[long]), raw=lambda _: b"")
                else:
                    block = _block(piece, roles, first)
                first += piece.num_rows
                given_bytes += block.columns.nbytes + block.extras.nbytes
                if given_bytes > limit_bytes:  # more than its footer said
                    raise too_large(key, f"unpacks to more than {limit_bytes:,} bytes")
                yield block


# ---------------------------------------------------------------- the file


def _batches(key: str, spool: Any, source: Source, limit_bytes: int) -> Iterator[pa.RecordBatch]:
    """Batches of rows of about ``BLOCK_BYTES``, text as dictionaries."""
    import pyarrow.parquet as pq

    with _refusing_damage(key):
        footer = pq.ParquetFile(spool)
        metadata, schema = footer.metadata, footer.schema
        leaves = [schema.column(at) for at in range(metadata.num_columns)]
        names = footer.schema_arrow.names
        depth = max((_depth(one) for one in footer.schema_arrow.types), default=0)
    check_columns(key, names, source.required_columns, source.limits)
    if depth >= source.limits.max_nesting:
        raise RejectedObjectError(
            "object_columns",
            f"object {key!r} nests more than {source.limits.max_nesting} levels of objects and lists",
            remedy="Flatten its columns, or raise source.limits.max_nesting in the project file.",
        )
    claimed_bytes = sum(_claimed_bytes(metadata.row_group(at), len(leaves)) for at in range(metadata.num_row_groups))
    if claimed_bytes > limit_bytes:
        raise too_large(key, f"unpacks to {claimed_bytes:,} bytes, more than {limit_bytes:,} bytes")
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    widest = max((leaf.length for leaf in leaves if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY"), default=1)
    with _refusing_damage(key):
        file = pq.ParquetFile(spool, metadata=metadata, read_dictionary=texts, buffer_size=READ_BYTES)
    for at in range(metadata.num_row_groups):
        group = metadata.row_group(at)
        row_bytes = max(group.total_byte_size // max(group.num_rows, 1), widest, 1)
        batches = file.iter_batches(min(max(BLOCK_BYTES // row_bytes, 1), BATCH_ROWS), row_groups=[at])
        while True:
            with _refusing_damage(key):
                batch = next(batches, None)
                if batch is None:
                    break
                batch.validate(full=True)  # other writers' text columns may hold bytes that are not UTF-8
            yield batch


def _claimed_bytes(group: Any, columns: int) -> int:
    """What a row group unpacks to: a run of one value takes next to nothing in the file, but four bytes each in memory.

    Nothing is asked of single columns: pyarrow 26 ends the process when their part of the footer contradicts itself.
    """
    return max(int(group.total_byte_size), int(group.num_rows) * columns * DICTIONARY_INDEX_BYTES)


@contextmanager
def _refusing_damage(key: str) -> Iterator[None]:
    """Whatever is wrong with the file becomes one kind of error."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise RejectedObjectError(
            "object_truncated",
            f"object {key!r} is damaged or no Parquet file ({' '.join(str(error).split())[:500]})",
            remedy="Write it again; nothing of it was loaded.",
        ) from error


def _depth(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _depth(kind.storage_type)
    if not pa.types.is_nested(kind):
        return 0
    return 1 + max((_depth(kind.field(at).type) for at in range(kind.num_fields)), default=0)


# ---------------------------------------------------------------- its rows


def _pieces(batch: pa.RecordBatch, limit_bytes: int) -> Iterator[pa.RecordBatch]:
    """The batch in slices that unpack to at most ``limit_bytes``, or that are a single row."""
    if batch.num_rows <= 1 or _weight(batch) <= limit_bytes:
        if batch.num_rows:
            yield batch
        return
    half = batch.num_rows // 2
    yield from _pieces(batch.slice(0, half), limit_bytes)
    yield from _pieces(batch.slice(half), limit_bytes)


def _weight(batch: pa.RecordBatch) -> int:
    return sum(map(_bytes, batch.columns))


def _bytes(array: pa.Array) -> int:
    """What an array takes when every value is written out."""
    if isinstance(array, pa.DictionaryArray):
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return int(pc.sum(lengths, min_count=0).as_py()) + DICTIONARY_INDEX_BYTES * len(array)
    if pa.types.is_struct(array.type):
        return sum(map(_bytes, array.flatten()))
    if isinstance(array, pa.MapArray):
        start, count = array.offsets[0].as_py(), array.offsets[-1].as_py() - array.offsets[0].as_py()
        return sum(LIST_ITEM_BYTES * count + _bytes(part.slice(start, count)) for part in (array.keys, array.items))
    if isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        items = array.flatten()
        return LIST_ITEM_BYTES * len(items) + _bytes(items)
    return int(array.nbytes)


def _head(row: pa.RecordBatch) -> bytes:
    """The beginning of a row that is too large, without unpacking all of it."""
    values: dict[str, Any] = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        if isinstance(column, pa.DictionaryArray) and column.indices[0].is_valid:
            values[name] = _plain(column.dictionary[column.indices[0].as_py()].as_py()[:KEPT_RAW_BYTES])
        elif not pa.types.is_nested(column.type):
            values[name] = _values(column)[0][0]
    return canonical_json(values).encode()


def _roles(source: Source) -> dict[str, str]:
    """What the project takes its columns as: text, integer, float or consent."""
    roles = {name: "consent" for name in known_columns(source)}
    return {**roles, **contract_columns(source)}


def _block(batch: pa.RecordBatch, roles: dict[str, str], first: int) -> Block:
    ready: dict[str, pa.Array | None] = {}
    listed: dict[str, list[Any]] = {}
    failed: dict[int, str] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        ready[name] = _ready(column, roles.get(name, "extra"))
        if ready[name] is None:
            listed[name], wrong = _values(column)
            failed.update(dict.fromkeys(wrong, name))
    kept = [row for row in range(batch.num_rows) if row not in failed]
    singles = Singles()
    for row, name in sorted(failed.items()):
        reason = f"column {name!r} holds a {batch.schema.field(name).type} that cannot be written as JSON"
        singles.bad.append(bad_row(first + row, _raw(batch, row), "parquet_value", reason))
    if failed:
        ready = {name: array and array.take(pa.array(kept, pa.int64())) for name, array in ready.items()}
        listed = {name: [values[row] for row in kept] for name, values in listed.items()}

    def texts(name: str) -> pa.Array:
        return pa.array([as_text(value) for value in listed[name]], pa.string())

    known = {name: texts(name) if array is None else array for name, array in ready.items() if name in roles}
    extra = {name: array for name, array in ready.items() if name not in roles}
    extras, new_columns = _extras(extra, listed, len(kept))
    columns = pa.table(known) if known else no_columns(len(kept))
    numbers = np.array(kept, np.int64) + first
    return assemble(
        (), Part(numbers, columns, extras, new_columns), singles, lambda number: _raw(batch, number - first)
    )


def _extras(columns: dict[str, pa.Array | None], listed: dict[str, list[Any]], rows: int) -> tuple[pa.Array, set[str]]:
    """Canonical JSON of the columns the project does not know, and the names of those that hold something."""
    arrays = {name: array for name, array in columns.items() if array is not None}
    if len(arrays) == len(columns):
        filled = {name for name, array in arrays.items() if array.null_count < rows}
        return (encode_extras(pa.table(arrays), list(arrays)) if arrays else pa.nulls(rows, pa.string())), filled
    values = {name: listed[name] if array is None else array.to_pylist() for name, array in columns.items()}
    encoded: list[str | None] = []
    for row in range(rows):
        others = {name: column[row] for name, column in values.items() if column[row] is not None}
        encoded.append(canonical_json(others) if others else None)
    return pa.array(encoded, pa.string()), {name for name, one in values.items() if any(v is not None for v in one)}


def _ready(column: pa.Array, role: str) -> pa.Array | None:
    """The column as a block or ``encode_extras`` wants it; None when its values must be looked at one by one."""
    kind = column.type
    if isinstance(column, pa.DictionaryArray):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string())
    if pa.types.is_boolean(kind):
        return column if role in ("consent", "extra") else column.cast(pa.string())
    if pa.types.is_integer(kind):
        return _ready_integers(column, role)
    return _ready_floats(column, role) if pa.types.is_floating(kind) else None


def _ready_integers(column: pa.Array, role: str) -> pa.Array:
    if role == "float":
        return column.cast(pa.float64(), safe=False)
    if role == "extra":
        return column
    if role == "integer":
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:  # unsigned, and beyond
            pass
    return column.cast(pa.string())


def _ready_floats(column: pa.Array, role: str) -> pa.Array | None:
    if role not in ("float", "extra"):
        return None
    floats = column.cast(pa.float64())
    floats = pc.if_else(pc.is_finite(floats), floats, pa.scalar(None, pa.float64()))
    if role == "extra" and uneven_floats(pa.chunked_array([floats]), whole_too=False).any():
        return None
    return floats


def _raw(batch: pa.RecordBatch, row: int) -> bytes:
    """A row as canonical JSON: Parquet has no bytes of a row."""
    columns = {name: _values(batch.column(at).slice(row, 1))[0][0] for at, name in enumerate(batch.schema.names)}
    return canonical_json(columns).encode()


def _values(column: pa.Array) -> tuple[list[Any], list[int]]:
    """JSON values, and positions of those that have none (they are None)."""
    try:
        return [_plain(value) for value in column.to_pylist()], []
    except (ValueError, OverflowError, pa.ArrowException):
        pass  # a time far outside the calendar, or a struct that names a field twice: find out which
    values: list[Any] = []
    wrong = []
    for row in range(len(column)):
        try:
            values.append(_plain(column[row].as_py()))
        except (ValueError, OverflowError, pa.ArrowException):
            values.append(None)
            wrong.append(row)
    return values, wrong


def _plain(value: Any) -> Any:
    """The JSON value of a Parquet value: ISO 8601 for times, base64 for bytes, text for what JSON has no number for."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | time):  # datetime is a date
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value)
