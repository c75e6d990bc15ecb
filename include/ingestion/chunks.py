"""Rows of several stretches and objects joined to chunks of a size at which judging and encoding them is cheap."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from include.ingestion.rows import Rows

CHUNK_BYTES = 16 * 1024**2  # of columns in memory; about as much again is being read, and as much again being written


@dataclass(frozen=True)
class Part:
    """Readable rows of one object.

    :param object: position of the object in its batch.
    """

    object: int
    rows: Rows


class Chunk:
    """Rows (R of them) of one or more objects, in order.

    :param parts: at least one.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0, *(part.rows.columns.num_rows for part in parts)]).tolist()

    @property
    def size(self) -> int:
        """R."""
        return int(self._starts[-1])

    @cached_property
    def columns(self) -> pa.Table:
        """(R, C) contract columns, each in one piece."""
        return pa.concat_tables([part.rows.columns for part in self._parts]).combine_chunks()

    @cached_property
    def numbers(self) -> pa.Int64Array:
        """(R,) row numbers."""
        return pa.concat_arrays([part.rows.numbers for part in self._parts])

    @cached_property
    def event_at(self) -> pa.TimestampArray:
        """(R,) see ``Rows``."""
        return pa.concat_arrays([part.rows.event_at for part in self._parts])

    @cached_property
    def consent(self) -> pa.BooleanArray:
        """(R,) see ``Rows``."""
        return pa.concat_arrays([part.rows.consent for part in self._parts])

    @cached_property
    def extras(self) -> pa.StringArray:
        """(R,) see ``Rows``."""
        return pa.concat_arrays([part.rows.extras for part in self._parts])

    @cached_property
    def object_index(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """(R,) position of each row's object in the batch."""
        return np.repeat([part.object for part in self._parts], np.diff(self._starts))

    def source(self, row: int) -> tuple[int, int, bytes, bytes | None]:
        """Where a row comes from: position of its object, row number, its bytes, and the header it needs."""
        at = bisect_right(self._starts, row) - 1
        part, inside = self._parts[at], row - self._starts[at]
        return part.object, part.rows.numbers[inside].as_py(), part.rows.raw(inside), part.rows.header


def chunks(parts: Iterable[Part]) -> Iterator[Chunk]:
    """Join parts until a chunk is full; the last one may be small."""
    waiting: list[Part] = []
    size_bytes = 0
    for part in parts:
        if not part.rows.columns.num_rows:
            continue
        waiting.append(part)
        size_bytes += part.rows.columns.nbytes
        if size_bytes >= CHUNK_BYTES:
            yield Chunk(waiting)
            waiting, size_bytes = [], 0
    if waiting:
        yield Chunk(waiting)
