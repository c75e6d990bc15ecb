"""A stream of bytes → stretches of whole lines, never holding more of a line than the limit allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from include.ingestion.blocks import BadRow

BLOCK_BYTES = 8 * 1024**2
BLOCK_ROWS = 100_000  # very short lines: what is kept per row outweighs its bytes
KEPT_RAW_BYTES = 64 * 1024  # of a row that is too large
NEWLINE = 10


@dataclass
class LongLine:
    """A line above the limit: its first bytes, and how many it has in all, without its line end."""

    head: bytes
    size_bytes: int


def cut_lines(
    chunks: Iterable[bytes], *, max_row_bytes: int, block_bytes: int = BLOCK_BYTES, lone_cr: bool = False
) -> Iterator[bytes | LongLine]:
    r"""Stretches of whole lines of about ``block_bytes``, in order, and between them the lines that are too long.

    :param chunks: pieces of at most ``max_row_bytes``, so that no line within one piece can be too long.
    :param lone_cr: whether ``\r`` alone ends a line, too.
    """
    parts: list[bytes] = []
    size = unfinished = 0  # bytes in parts; bytes after the last line end in them
    long: LongLine | None = None
    for piece in chunks:
        chunk = piece
        if long is not None:
            end = _first_end(chunk, lone_cr)
            long.size_bytes += len(chunk) if end < 0 else end
            if end < 0:
                continue
            yield long
            long, chunk = None, chunk[end + 1 :]
        first, last = _first_end(chunk, lone_cr), _last_end(chunk, lone_cr)
        if unfinished + (len(chunk) if first < 0 else first) > max_row_bytes:
            held = b"".join(parts)
            if size > unfinished:
                yield held[: size - unfinished]
            line = held[size - unfinished :]
            long = LongLine((line + chunk[: max(first, 0) or len(chunk)])[:KEPT_RAW_BYTES], len(line))
            parts, size, unfinished = [], 0, 0
            long.size_bytes += len(chunk) if first < 0 else first
            if first < 0:
                continue
            yield long
            long, chunk = None, chunk[first + 1 :]
            last -= first + 1
        if last >= 0 and size + last + 1 >= block_bytes:
            yield b"".join((*parts, chunk[: last + 1]))
            parts, size, unfinished = [], 0, 0
            chunk = chunk[last + 1 :]
            last = -1
        parts.append(chunk)
        size += len(chunk)
        unfinished = len(chunk) - last - 1 if last >= 0 else unfinished + len(chunk)
    if long is not None:
        yield long
    elif size:
        yield b"".join(parts)


def _first_end(chunk: bytes, lone_cr: bool) -> int:
    end = chunk.find(b"\n")
    if lone_cr:
        # the last byte may be the first half of \r\n
        alone = chunk.find(b"\r", 0, end if end >= 0 else len(chunk) - 1)
        if alone >= 0 and alone + 1 != end:
            return alone
    return end


def _last_end(chunk: bytes, lone_cr: bool) -> int:
    end = chunk.rfind(b"\n")
    return max(end, chunk.rfind(b"\r", 0, max(len(chunk) - 1, 0))) if lone_cr else end


class Lines:
    """The lines (L of them) of a stretch.

    :param data: ends with a line end, except at the end of the object.
    :param first: position of the first line in the object.
    :param ends: (L,) position of each line feed.
    """

    def __init__(self, data: bytes, first: int, ends: npt.NDArray[np.int64] | None = None) -> None:
        self.data = data
        self.first = first
        self.bytes = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(self.bytes == NEWLINE) if ends is None else ends
        if data and not data.endswith(b"\n"):
            ends = np.append(ends, len(data))
        self._ends = ends
        self.starts = np.concatenate(([0], ends[:-1] + 1))[: len(ends)]

    def __len__(self) -> int:
        return len(self._ends)

    def line(self, position: int) -> bytes:
        """One line without its line end, by its position in the stretch."""
        return self.data[int(self.starts[position]) : int(self._ends[position])].rstrip(b"\r\n")

    def all(self) -> list[bytes]:
        """All lines, without the line feed."""
        return self.data.split(b"\n")[: len(self)]

    def filled(self) -> list[int]:
        """Positions of the lines that are not empty."""
        return np.flatnonzero(self._ends > self.starts).tolist()


def few_lines(data: bytes, first: int, most: int) -> Iterator[Lines]:
    """The lines of a stretch, in stretches of at most ``most``, before anything is made for each line."""
    ends = np.frombuffer(data, np.uint8) == NEWLINE
    if np.count_nonzero(ends) <= most:
        yield Lines(data, first, np.flatnonzero(ends))
        return
    cut = data.find(b"\n", len(data) // 2, -1) + 1 or data.rfind(b"\n", 0, len(data) // 2) + 1
    before = int(np.count_nonzero(ends[:cut]))
    yield from few_lines(data[:cut], first, most)
    yield from few_lines(data[cut:], first + before, most)


def bad_row(number: int, raw: bytes, check: str, reason: str, observed: object = None) -> BadRow:
    """A row that cannot be read, by the check it failed."""
    return BadRow(number, raw, "parse", reason, [{"expectation": check, "column": None, "observed": observed}])


def long_row(number: int, head: bytes, size_bytes: int | None, limit_bytes: int) -> BadRow:
    """The row above the size limit; of its bytes only the first are kept.

    :param size_bytes: None where its end was not looked for.
    """
    kept = head[:KEPT_RAW_BYTES]
    has = "goes on" if size_bytes is None else f"has {size_bytes:,} bytes"
    reason = f"row {has}, more than the {limit_bytes:,} bytes allowed; raw is cut after its first {len(kept):,} bytes"
    return bad_row(number, kept, "row_size", reason, size_bytes)
