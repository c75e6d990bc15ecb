"""Bytes of one source object → its rows, good and bad. Formats are told by the ending of the key.

``.jsonl`` / ``.ndjson`` (UTF-8, one object per line), ``.csv`` (UTF-8, comma, header), each also as ``.gz`` or
``.zst``, and ``.parquet``. A bad row becomes a ``BadRow`` with its raw bytes and never stops the object; an object that
is not what it claims to be raises ``RejectedObjectError``, and nothing of it is loaded.
"""

from __future__ import annotations

import base64
import csv
import gzip
import io
import math
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, time
from pathlib import PurePosixPath
from typing import Any

from include.errors import ObjectError
from include.lake.keys import canonical_json

MAX_OBJECT_BYTES = 512 * 1024**2
MAX_UNPACKED_RATIO = 200  # times the packed size; a log packs 10 to 50 times
FREE_UNPACKED_BYTES = 16 * 1024**2  # below this the ratio does not matter
MAX_CSV_FIELD_BYTES = 4 * 1024**2  # also how much an unclosed quote can swallow
UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


class RejectedObjectError(ObjectError):
    """The object as a whole is not what it claims to be; none of its rows are loaded.

    :param check: short name of what failed, counted beside the names of expectations.
    """

    def __init__(self, check: str, what: str, *, remedy: str) -> None:
        super().__init__(what, remedy=remedy)
        self.check = check


@dataclass(frozen=True, slots=True)
class Row:
    """A row that could be read: JSON values by column name."""

    number: int
    raw: bytes
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that goes to quarantine.

    :param failures: ``[{"expectation", "column", "observed"}]``, every check that failed.
    """

    number: int
    raw: bytes
    stage: str
    reason: str
    failures: list[dict[str, Any]]


def parse_object(key: str, data: bytes, required: Collection[str]) -> list[Row | BadRow]:
    """All rows of an object, in order; blank lines are not rows.

    :param required: columns a table-like object must have.
    :raises RejectedObjectError: when the object as a whole cannot be used.
    """
    if not data:
        raise RejectedObjectError("object_empty", f"object {key!r} is empty (0 bytes)", remedy="Upload it again.")
    name, unpack = _packing(key)
    reader = _READERS.get(PurePosixPath(name).suffix.lower())
    if reader is None or (unpack and reader is _parquet_rows):
        raise RejectedObjectError(
            "object_format",
            f"object {key!r} has an ending we do not read",
            remedy="Use .jsonl, .ndjson, .csv (also with .gz or .zst) or .parquet.",
        )
    if unpack:
        data = _unpack(key, data, unpack)
    return list(reader(key, data, required))


def check_size(key: str, size_bytes: int) -> None:
    """Refuse an object before it is read.

    :raises RejectedObjectError: above ``MAX_OBJECT_BYTES``.
    """
    if size_bytes > MAX_OBJECT_BYTES:
        raise RejectedObjectError(
            "object_size",
            f"object {key!r} has {size_bytes:,} bytes, more than the {MAX_OBJECT_BYTES:,} we read at once",
            remedy="Split it into smaller objects.",
        )


def is_packed(key: str) -> bool:
    """Whether the object is compressed as a whole, by its ending."""
    return _packing(key)[1] is not None


def _packing(key: str) -> tuple[str, str | None]:
    ending = PurePosixPath(key).suffix.lower()
    return (key[: -len(ending)], ending) if ending in {".gz", ".zst"} else (key, None)


def _unpack(key: str, data: bytes, packing: str) -> bytes:
    import pyarrow as pa

    limit = min(MAX_OBJECT_BYTES, max(FREE_UNPACKED_BYTES, MAX_UNPACKED_RATIO * len(data)))
    try:
        if packing == ".gz":
            unpacked = gzip.GzipFile(fileobj=io.BytesIO(data)).read(limit + 1)
        else:
            unpacked = pa.input_stream(pa.BufferReader(data), compression="zstd").read(limit + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise RejectedObjectError(
            "object_truncated",
            f"object {key!r} is damaged or cut short: it does not unpack as {packing} ({error})",
            remedy="Upload it again; nothing of it was loaded.",
        ) from error
    if len(unpacked) > limit:
        raise RejectedObjectError(
            "object_size",
            f"object {key!r} unpacks to more than {limit:,} bytes",
            remedy="Split it into smaller objects.",
        )
    return unpacked


def _text(key: str, data: bytes) -> bytes:
    """UTF-8 without its byte order mark."""
    head = data[:1000]
    if head.startswith(UTF16_BOMS) or head.count(0) > len(head) * 0.3:
        raise RejectedObjectError(
            "object_encoding",
            f"object {key!r} is not UTF-8; it looks like UTF-16",
            remedy="Save it as UTF-8 and upload it again.",
        )
    return data.removeprefix(UTF8_BOM)


def _require(key: str, names: list[str], required: Collection[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RejectedObjectError(
            "object_columns", f"object {key!r} has columns {twice} more than once", remedy="Name each column once."
        )
    missing = [name for name in required if name not in names]
    if missing:
        raise RejectedObjectError(
            "object_columns",
            f"object {key!r} lacks the columns {missing}; it has {names[:20]}",
            remedy="Rename its columns, or correct 'source' in the project file.",
        )


def _bad(number: int, raw: bytes, check: str, reason: str, observed: object = None) -> BadRow:
    return BadRow(number, raw, "parse", reason, [{"expectation": check, "column": None, "observed": observed}])


def _json_rows(key: str, data: bytes, required: Collection[str]) -> Iterator[Row | BadRow]:
    import msgspec

    del required  # any line may lack any field: that is a matter of rows, not of the object
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for number, line in enumerate(io.BytesIO(_text(key, data))):
        raw = line.rstrip(b"\r\n")
        if not raw.strip():
            continue
        try:
            yield Row(number, raw, decode(raw))
        except UnicodeDecodeError as error:
            yield _bad(number, raw, "utf8", f"line is not valid UTF-8 ({error.reason})")
        except (msgspec.DecodeError, RecursionError) as error:
            yield _bad(number, raw, "json_object", f"line is not a JSON object ({error})")


class _Lines:
    """Lines of a CSV text that remembers which ones made the present row (a quoted cell may hold line breaks)."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self._taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self._taken.append(line)
            yield line

    def take(self) -> bytes:
        raw = "".join(self._taken).encode("utf-8", "surrogateescape")
        self._taken.clear()
        return raw.rstrip(b"\r\n")


def _csv_rows(key: str, data: bytes, required: Collection[str]) -> Iterator[Row | BadRow]:
    csv.field_size_limit(MAX_CSV_FIELD_BYTES)
    # surrogateescape carries bytes that are not UTF-8 through the reader, so that only their rows are rejected
    lines = _Lines(_text(key, data).decode("utf-8", "surrogateescape"))
    reader = csv.reader(lines, strict=True)
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise RejectedObjectError(
            "object_columns", f"object {key!r} has no readable header ({error})", remedy="Correct its first line."
        ) from error
    _require(key, names, required)
    lines.take()
    number = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _bad(number, lines.take(), "csv_row", f"row is not readable as CSV ({error})")
        else:
            raw = lines.take()
            if not cells:
                continue  # a blank line
            yield _csv_row(number, raw, names, cells)
        number += 1


def _csv_row(number: int, raw: bytes, names: list[str], cells: list[str]) -> Row | BadRow:
    if len(cells) != len(names):
        many = "many" if len(cells) > len(names) else "few"
        reason = f"row has too {many} columns: {len(cells)}, the header has {len(names)}"
        return _bad(number, raw, "csv_columns", reason, len(cells))
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return _bad(number, raw, "utf8", f"row is not valid UTF-8 ({error.reason})")
    return Row(number, raw, {name: cell or None for name, cell in zip(names, cells, strict=True)})


def _parquet_rows(key: str, data: bytes, required: Collection[str]) -> Iterator[Row | BadRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
        check_size(key, sum(group.total_byte_size for group in groups))
        _require(key, file.schema_arrow.names, required)
        batches = list(file.iter_batches())
        for batch in batches:
            batch.validate(full=True)  # other writers' text columns may hold bytes that are not UTF-8
    except (pa.ArrowException, OSError) as error:
        raise RejectedObjectError(
            "object_truncated",
            f"object {key!r} is damaged or no Parquet file ({error})",
            remedy="Write it again; nothing of it was loaded.",
        ) from error
    for number, row in enumerate(row for batch in batches for row in batch.to_pylist()):
        values = {name: _plain(value) for name, value in row.items()}
        yield Row(number, canonical_json(values).encode(), values)


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


_READERS = {".jsonl": _json_rows, ".ndjson": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
