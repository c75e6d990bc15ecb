"""CSV: comma, double quotes, a header line, UTF-8. Rows are counted after the header; blank lines are no rows."""

from __future__ import annotations

import csv
import io
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.ingestion.blocks import BadRow, Block, RejectedObjectError
from include.ingestion.reading.assemble import Part, Singles, assemble
from include.ingestion.reading.extras import encode_extras
from include.ingestion.reading.lines import (
    BLOCK_BYTES,
    BLOCK_ROWS,
    KEPT_RAW_BYTES,
    LongLine,
    bad_row,
    cut_lines,
    long_row,
)
from include.ingestion.rows import known_columns
from include.project import Limits, Source

UTF8_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")


def csv_blocks(key: str, chunks: Iterable[bytes], source: Source, *, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The rows of CSV; an empty cell is a missing value.

    :param chunks: the object's bytes in pieces of at most ``source.limits.max_row_bytes``, without a byte order mark.
    :raises RejectedObjectError: when the header is no header, or lacks a column that every row must have.
    """
    # A process-wide setting of the csv module; rows are kept within their own limit by _Feed.
    csv.field_size_limit(max(csv.field_size_limit(), source.limits.max_row_bytes))
    limit_bytes = source.limits.max_row_bytes
    pieces = cut_lines(chunks, max_row_bytes=limit_bytes, block_bytes=block_bytes, lone_cr=True)
    feed = _Feed(pieces, limit_bytes)
    reader = csv.reader(feed, strict=True)
    names = _header(key, feed, reader, source)
    header = feed.take_row()
    known = known_columns(source)
    number = 0
    while feed.more():
        piece = feed.take_piece()
        if piece is not None and not piece.strip(b"\r\n"):
            continue
        part = _read_at_once(piece, names, known, limit_bytes) if piece is not None else None
        if piece is not None and part is not None:
            blocks = _sliced(part, number, piece)
        else:
            feed.put_back(piece)
            blocks = iter([_read_carefully(feed, reader, names, known, number)])
        for block in blocks:
            number += len(block.numbers) + len(block.bad)
            yield replace(block, header=header)


def check_columns(key: str, names: list[str], required: Collection[str], limits: Limits) -> None:
    """Refuse a table whose columns cannot be told apart, are too many, or lack one that every row must have.

    :raises RejectedObjectError: naming the columns.
    """
    if len(names) > limits.max_columns:
        raise _too_many_columns(key, limits)
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise _no_header(f"object {key!r} has columns {twice[:20]} more than once", "Name each column once.")
    missing = sorted(set(required) - set(names), key=list(required).index)
    if missing:
        raise _no_header(
            f"object {key!r} lacks the columns {missing}; it has {names[:20]}",
            "Rename its columns, or correct 'source' in the project file.",
        )


def _too_many_columns(key: str, limits: Limits) -> RejectedObjectError:
    return _no_header(
        f"object {key!r} has more than {limits.max_columns:,} columns",
        "Leave out columns, or raise source.limits.max_columns in the project file.",
    )


def _no_header(what: str, remedy: str) -> RejectedObjectError:
    return RejectedObjectError("object_columns", what, remedy=remedy)


class _TooLongError(Exception):
    """The row goes on beyond the limit."""


class _Feed:
    """Hands lines to ``csv.reader``, and remembers which ones made the present row and the present block.

    A quoted cell may hold line ends, so a row may take several lines, and go on in the next piece.
    """

    def __init__(self, pieces: Iterator[bytes | LongLine], limit_bytes: int) -> None:
        self._pieces = pieces
        self.limit_bytes = limit_bytes
        self._piece: bytes | LongLine | None = None  # fetched, and no line of it given out
        self._lines: Iterator[str] = iter(())
        self._ahead: str | None = None
        self._row: list[str] = []
        self._row_bytes = 0
        self.valid = True  # whether the present row is known to be UTF-8

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._ahead is None and not self._open():
            raise StopIteration
        line = self._ahead
        assert line is not None  # noqa: S101 - _open says so
        if self._row:  # a line by itself is never too long
            self._row_bytes = (self._row_bytes or _bytes(self._row[0])) + _bytes(line)
            if self._row_bytes > self.limit_bytes:
                raise _TooLongError  # this line begins the next row
        self._row.append(line)
        self._ahead = next(self._lines, None)
        return line

    def more(self) -> bool:
        """Whether anything is left."""
        if self._ahead is None and self._piece is None:
            self._piece = next(self._pieces, None)
        return self._ahead is not None or self._piece is not None

    @property
    def at_piece_end(self) -> bool:
        """Whether the next line comes from a piece that was not opened yet."""
        return self._ahead is None

    def take_piece(self) -> bytes | None:
        """The next piece as a whole, if it was not opened."""
        piece = self._piece
        if self._ahead is not None or not isinstance(piece, bytes):
            return None
        self._piece = None
        return piece

    def put_back(self, piece: bytes | None) -> None:
        """Undo ``take_piece``."""
        self._piece = self._piece if piece is None else piece

    def split_header(self) -> None:
        """Leave all but the first line of the next piece for later, so that it can be read as a whole."""
        piece = self._piece
        if isinstance(piece, bytes) and (end := _LINE_END.search(piece)) and b'"' not in piece[: end.start()]:
            self._load(piece[: end.end()])
            self._piece = piece[end.end() :] or None

    def first_line(self) -> bytes | LongLine:
        """The first line of the next piece."""
        piece = self._piece
        if piece is None or isinstance(piece, LongLine):
            return b"" if piece is None else piece
        end = _LINE_END.search(piece)
        return piece[: end.start()] if end else piece

    def take_row(self) -> bytes:
        """The bytes of the lines given out since the last call, without the last line end."""
        return _encoded(self.take_lines())

    def row(self) -> bytes:
        """The same, without taking them."""
        return _encoded(self._row)

    def take_lines(self) -> list[str]:
        """The same as the lines they are."""
        lines, self._row, self._row_bytes = self._row, [], 0
        return lines

    def take_long_line(self) -> LongLine | None:
        """The line above the limit, if that is what comes next."""
        piece = self._piece
        if self._ahead is None and isinstance(piece, LongLine):
            self._piece = None
            return piece
        return None

    def _open(self) -> bool:
        """Get the next line ready; False at the end."""
        while self._ahead is None and self.more():
            if isinstance(self._piece, LongLine):
                raise _TooLongError
            piece, self._piece = self._piece, None
            assert piece is not None  # noqa: S101 - more() says so
            self._load(piece)
        return self._ahead is not None

    def _load(self, piece: bytes) -> None:
        try:
            text = piece.decode()
            self.valid = self.valid or not self._row
        except UnicodeDecodeError:
            # carries the wrong bytes through the reader, so that only their rows are rejected
            text, self.valid = piece.decode("utf-8", "surrogateescape"), False
        self._lines = iter(io.StringIO(text, newline=""))
        self._ahead = next(self._lines, None)


def _header(key: str, feed: _Feed, reader: Iterator[list[str]], source: Source) -> list[str]:
    feed.more()
    line = feed.first_line()
    if isinstance(line, LongLine) or line.count(b",") >= source.limits.max_columns:
        raise _too_many_columns(key, source.limits)  # told without making a million names
    feed.split_header()
    try:
        names = next(reader, [])
        "".join(names).encode()
    except (csv.Error, UnicodeEncodeError, _TooLongError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeEncodeError) else str(error) or "it does not end"
        raise _no_header(f"object {key!r} has no readable header ({why})", "Correct its first line.") from error
    check_columns(key, names, source.required_columns, source.limits)
    return names


def _read_at_once(piece: bytes, names: list[str], known: set[str], limit_bytes: int) -> Part | None:
    """The rows of a piece, numbered from 0; None when they are not all as they should be, or go on after it."""
    if b'"' not in piece and not piece.startswith(UTF8_BOM):
        return _read_plain(piece, names, known)
    if piece.count(b"\n") > BLOCK_ROWS:
        return None
    try:
        lines = io.StringIO(piece.decode(), newline="")
        reader = csv.reader(lines, strict=True)
        rows = [row for row in reader if row]
    except (UnicodeDecodeError, csv.Error):
        return None
    if any(len(row) != len(names) for row in rows) or (reader.line_num > len(rows) and len(piece) > limit_bytes):
        return None
    return _part(_table(rows, names), known)


def _read_plain(piece: bytes, names: list[str], known: set[str]) -> Part | None:
    """The rows of lines without a quote."""
    import pyarrow.csv as pc_csv

    text = pa.string()
    try:
        table = pc_csv.read_csv(
            pa.BufferReader(piece),
            read_options=pc_csv.ReadOptions(use_threads=False, block_size=len(piece) + 1, column_names=names),
            parse_options=pc_csv.ParseOptions(quote_char=False, double_quote=False, escape_char=False),
            convert_options=pc_csv.ConvertOptions(
                column_types=dict.fromkeys(names, text), strings_can_be_null=True, null_values=[""]
            ),
        )
    except pa.ArrowException:  # a row with too many or too few cells, bytes that are not UTF-8
        return None
    return _part(table, known)


def _sliced(part: Part, number: int, piece: bytes) -> Iterator[Block]:
    lines: list[bytes] = []

    def raw(row: int) -> bytes:
        if not lines:
            lines.extend(_split(piece))
        return lines[row - number]

    for at in range(0, len(part.numbers), BLOCK_ROWS):
        stop = at + BLOCK_ROWS
        some = Part(part.numbers[at:stop] + number, part.columns[at:stop], part.extras[at:stop], part.new_columns)
        yield assemble((), some, Singles(), raw)


def _split(piece: bytes) -> Iterator[bytes]:
    """The bytes of each row of a piece that was read at once."""
    if b'"' not in piece:
        yield from (line for line in _LINE_END.split(piece) if line)
        return
    taken: list[str] = []

    def remembered() -> Iterator[str]:
        for line in io.StringIO(piece.decode(), newline=""):
            taken.append(line)
            yield line

    for row in csv.reader(remembered(), strict=True):
        raw = _encoded(taken)
        taken.clear()
        if row:
            yield raw


def _read_carefully(feed: _Feed, reader: Iterator[list[str]], names: list[str], known: set[str], first: int) -> Block:
    """The rows up to the end of the present piece, and of the pieces that its last row goes on in."""
    numbers: list[int] = []
    rows: list[list[str]] = []
    lines: list[list[str]] = []
    bad: list[BadRow] = []
    number = first
    while feed.more() and len(rows) < BLOCK_ROWS:
        found = _next_row(feed, reader, names, number)
        if isinstance(found, BadRow):
            bad.append(found)
        elif found is not None:
            rows.append(found)
            numbers.append(number)
            lines.append(feed.take_lines())
        number += found is not None
        if feed.at_piece_end:
            break
    part = _part(_table(rows, names), known)
    part.numbers = np.array(numbers, np.int64)

    def raw(row: int) -> bytes:
        return _encoded(lines[bisect_left(numbers, row)])

    return assemble((), part, Singles(bad=bad), raw)


def _next_row(feed: _Feed, reader: Iterator[list[str]], names: list[str], number: int) -> list[str] | BadRow | None:
    """The cells of the next row, or what is wrong with it; None for a blank line."""
    try:
        cells = next(reader, [])
    except csv.Error as error:
        return bad_row(number, feed.take_row(), "csv_row", f"row is not readable as CSV ({error})")
    except _TooLongError:
        return _too_long(feed, number)
    if not cells:
        feed.take_row()
        return None
    if len(cells) != len(names):
        many = "many" if len(cells) > len(names) else "few"
        reason = f"row has too {many} columns: {len(cells)}, the header has {len(names)}"
        return bad_row(number, feed.take_row(), "csv_columns", reason, len(cells))
    if not feed.valid:
        try:
            feed.row().decode()
        except UnicodeDecodeError as error:
            return bad_row(number, feed.take_row(), "utf8", f"row is not valid UTF-8 ({error.reason})")
    return cells


def _too_long(feed: _Feed, number: int) -> BadRow:
    head = feed.take_row()
    if (line := feed.take_long_line()) is None:
        return long_row(number, head, None, feed.limit_bytes)
    return long_row(number, head[:KEPT_RAW_BYTES] + line.head, len(head) + line.size_bytes, feed.limit_bytes)


def _encoded(lines: list[str]) -> bytes:
    return "".join(lines).encode("utf-8", "surrogateescape").rstrip(b"\r\n")


def _bytes(line: str) -> int:
    return len(line) if line.isascii() else len(line.encode("utf-8", "surrogateescape"))


def _table(rows: list[list[str]], names: list[str]) -> pa.Table:
    """Rows of cells as columns; an empty cell is null."""
    cells: Iterable[Any] = zip(*rows, strict=True) if rows else ([] for _ in names)
    columns = {}
    for name, column in zip(names, cells, strict=True):
        values = pa.array(column, pa.string())
        columns[name] = pc.if_else(pc.equal(pc.binary_length(values), 0), pa.scalar(None, pa.string()), values)
    return pa.table(columns)


def _part(table: pa.Table, known: set[str]) -> Part:
    """All columns of text, as a part numbered from 0."""
    columns = list(zip(table.column_names, table.columns, strict=True))
    extra = [name for name, _ in columns if name not in known]
    new_columns = {name for name, column in columns if name not in known and column.null_count < len(table)}
    numbers = np.arange(len(table), dtype=np.int64)
    known_here = table.select([name for name, _ in columns if name in known])  # dropping thousands takes seconds
    return Part(numbers, known_here, encode_extras(table, extra), new_columns)
