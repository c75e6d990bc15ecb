"""JSON Lines: one JSON object per line, UTF-8. Row numbers are line numbers; blank lines count, and are no rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from include.ingestion.blocks import Block
from include.ingestion.reading.assemble import Part, Singles, assemble
from include.ingestion.reading.json_exact import Unreadable, read_line
from include.ingestion.reading.json_fast import Shape, Shapes, read_plain
from include.ingestion.reading.lines import (
    BLOCK_BYTES,
    BLOCK_ROWS,
    Lines,
    LongLine,
    bad_row,
    cut_lines,
    few_lines,
    long_row,
)
from include.ingestion.rows import known_columns
from include.project import Source


def json_blocks(chunks: Iterable[bytes], source: Source, *, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The rows of JSON Lines.

    :param chunks: the object's bytes in pieces of at most ``source.limits.max_row_bytes``, without a byte order mark.
    """
    known = known_columns(source)
    shapes = Shapes(source, known)
    limit_bytes = source.limits.max_row_bytes
    number = 0
    for piece in cut_lines(chunks, max_row_bytes=limit_bytes, block_bytes=block_bytes):
        if isinstance(piece, LongLine):
            bad = long_row(number, piece.head, piece.size_bytes, limit_bytes)
            yield assemble(known, None, Singles(bad=[bad]), raw=lambda _: b"")
            number += 1
            continue
        for lines in few_lines(piece, number, BLOCK_ROWS):
            number += len(lines)
            if not lines.data.isspace():
                yield _block(lines, shapes.of(lines), known, source)


def exact_block(lines: Lines, known: set[str], source: Source) -> Block:
    """All lines read one by one: slower, and what every other way must be equal to."""
    return _block(lines, None, known, source)


def _block(lines: Lines, shape: Shape | None, known: set[str], source: Source) -> Block:
    part: Part | None = None
    positions = lines.filled() if shape is None else []
    if shape is not None:
        part, positions = read_plain(lines, shape)
    singles = Singles()
    for position in positions:
        raw = lines.line(position)
        if not raw.strip():
            continue
        row = read_line(raw, source.limits)
        number = lines.first + position
        if isinstance(row, Unreadable):
            singles.bad.append(bad_row(number, raw, row.check, row.reason))
        else:
            singles.numbers.append(number)
            singles.rows.append(row)
    return assemble(known, part, singles, raw=lambda number: lines.line(number - lines.first))
