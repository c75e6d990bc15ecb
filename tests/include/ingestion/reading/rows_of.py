"""Blocks as plain rows: what tests of readers compare."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include.ingestion.blocks import BadRow, Block
from include.ingestion.reading import read_blocks
from include.ingestion.rows import as_text
from include.project import Limits, Source

SOURCE = Source.model_validate(
    {
        "prefix": "in/",
        "id_column": "id",
        "event_time_column": "at",
        "consent_column": "ok",
        "fields": {"text": {"title": "Text"}, "note": {"title": "Note", "required": False}},
        "metadata": {
            "lang": {"title": "Language"},
            "age": {"title": "Age", "type": "integer"},
            "score": {"title": "Score", "type": "float"},
        },
    }
)
# Any object will do: nothing is required, nothing is known but one column.
LOOSE = Source.model_validate({"prefix": "in/", "fields": {"text": {"title": "Text", "required": False}}})
PLAIN = Source.model_validate({"prefix": "in/", "id_column": "id", "fields": {"text": {"title": "Text"}}})


def limited(source: Source, **limits: Any) -> Source:
    """The source with other limits."""
    return source.model_copy(update={"limits": Limits(**limits)})


class Pieces:
    """A stream that gives at most ``most`` bytes at a time, as a network does."""

    def __init__(self, data: bytes, most: int = 2**30) -> None:
        self._data = io.BytesIO(data)
        self._most = most

    def read(self, size: int, /) -> bytes:
        return self._data.read(min(size, self._most))


@dataclass
class Rows:
    """Everything an object gave; columns of every type as text, so that all ways to read a row compare."""

    numbers: list[int] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)
    extras: list[str | None] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    new_columns: set[str] = field(default_factory=set)
    headers: set[bytes | None] = field(default_factory=set)
    blocks: int = 0

    @property
    def all(self) -> list[dict[str, Any]]:
        """Known and unknown columns together."""
        return [
            {**values, **(json.loads(extras) if extras else {})}
            for values, extras in zip(self.values, self.extras, strict=True)
        ]

    @property
    def reasons(self) -> list[tuple[int, str, bytes]]:
        return [(bad.number, bad.reason, bad.raw) for bad in self.bad]

    @property
    def checks(self) -> list[str]:
        return [failure["expectation"] for bad in self.bad for failure in bad.failures]


ALLOWED_TYPES = {pa.string(), pa.int64(), pa.float64(), pa.bool_()}


def collect(blocks: Iterable[Block]) -> Rows:
    """All rows of some blocks, which must keep the promises of ``Block``."""
    rows = Rows()
    last = -1
    for block in blocks:
        size = len(block.numbers)
        numbers = block.numbers.to_pylist()
        assert block.columns.num_rows == size == len(block.extras)
        assert set(block.columns.schema.types) <= ALLOWED_TYPES
        assert block.extras.type == pa.string()
        block.columns.validate(full=True)
        block.extras.validate(full=True)
        every = sorted([*numbers, *(bad.number for bad in block.bad)])
        assert len(set(every)) == len(every)
        assert numbers == sorted(numbers)
        assert not every or every[0] > last
        last = every[-1] if every else last
        rows.numbers += numbers
        for row in block.columns.to_pylist():
            rows.values.append({name: as_text(value) for name, value in row.items() if value is not None})
        rows.extras += block.extras.to_pylist()
        rows.raw += [block.raw(row) for row in range(size)]
        rows.bad += sorted(block.bad, key=lambda bad: bad.number)
        rows.new_columns |= block.new_columns
        rows.headers.add(block.header)
        rows.blocks += 1
    return rows


def read_blocks_of(key: str, data: bytes, source: Source, most: int) -> Iterator[Block]:
    """The blocks of an object."""
    return read_blocks(key, Pieces(data, most), source, len(data))


def read(key: str, data: bytes, source: Source = LOOSE, *, most: int = 2**30) -> Rows:
    """All rows of an object."""
    return collect(read_blocks_of(key, data, source, most))


def parquet(table: pa.Table, **options: Any) -> bytes:
    """A table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()
