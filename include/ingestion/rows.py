"""Readable rows → the typed columns a record is made of, by the columns the project names; whole columns at a time."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.ingestion.blocks import BadRow, Block
from include.lake.keys import canonical_json
from include.project import Source
from include.validation.results import shorten

TIME = pa.timestamp("us", tz="UTC")
# What Python's datetime can hold, as Arrow counts: microseconds since 1970.
FIRST_MOMENT_US, LAST_MOMENT_US = (
    pa.scalar(moment, pa.timestamp("us")).value
    for moment in (datetime.min, datetime.max)  # noqa: DTZ901 - the bounds themselves
)
_WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]+(\.0+)?\s*")


@dataclass
class Rows:
    """Rows (R of them) whose columns could all be read; they become records if they keep the contract.

    :param numbers: (R,) 0-based position of each row in its object.
    :param columns: (R, C) what expectations may speak of, typed as ``contract_columns`` says; null = missing.
    :param event_at: (R,) UTC times; all null where the project has no event time.
    :param consent: (R,) true only for a clear yes; all null where the project has no consent column.
    :param extras: (R,) canonical JSON of the columns the project does not know; null where there are none.
    :param raw: gives the bytes of the i-th row.
    :param header: as of the block.
    :param bad: rows of the block that could not be read, as such or by their columns.
    :param new_columns: columns the project does not know.
    """

    numbers: pa.Int64Array
    columns: pa.Table
    event_at: pa.TimestampArray
    consent: pa.BooleanArray
    extras: pa.StringArray
    raw: Callable[[int], bytes]
    header: bytes | None = None
    bad: list[BadRow] = field(default_factory=list)
    new_columns: set[str] = field(default_factory=set)

    def take(self, kept: pa.BooleanArray) -> Rows:
        """Only the rows marked true; the bad ones are left behind."""
        if not kept.false_count:
            return replace(self, bad=[])
        positions, raw = pc.indices_nonzero(kept).to_pylist(), self.raw
        return Rows(
            numbers=self.numbers.filter(kept),
            columns=self.columns.filter(kept),
            event_at=self.event_at.filter(kept),
            consent=self.consent.filter(kept),
            extras=self.extras.filter(kept),
            raw=lambda row: raw(positions[row]),
            header=self.header,
            new_columns=self.new_columns,
        )


def contract_columns(source: Source) -> dict[str, str]:
    """The columns expectations may speak of, each with its type: text, integer or float."""
    texts = [*source.fields, *(name for name in (source.id_column, source.event_time_column) if name)]
    types = {name: "text" if one.type == "terms" else one.type for name, one in source.metadata.items()}
    return {**dict.fromkeys(texts, "text"), **types}


def known_columns(source: Source) -> set[str]:
    """The columns the project gives a meaning to."""
    return {*contract_columns(source), *([source.consent_column] if source.consent_column else [])}


class _Findings:
    """What is wrong with which rows, one check and column at a time, in the order of the checks."""

    def __init__(self) -> None:
        self.by_row: dict[int, list[tuple[str, str, str, Any]]] = defaultdict(list)

    def add(self, rows: Iterable[int], check: str, column: str, reason: str, values: pa.Array) -> None:
        for row in rows:
            self.by_row[row].append((check, column, reason, values[row].as_py()))


def normalise(source: Source, block: Block) -> Rows:
    """The rows of a block in the types of the project; unreadable ones become bad rows that list all that is wrong."""
    size = len(block.numbers)
    findings = _Findings()

    def stored(name: str) -> pa.Array:
        if name not in block.columns.column_names:
            return pa.nulls(size, pa.string())
        return block.columns[name].combine_chunks()

    texts = {name: _as_texts(stored(name)) for name in dict.fromkeys([*source.fields, *source.required_columns])}
    for name in source.required_columns:
        findings.add(_marked(_is_blank(texts[name])), "required_column", name, "is missing or empty", texts[name])
    event_at = pa.nulls(size, TIME)
    if source.event_time_column:
        said = texts[source.event_time_column]
        event_at = read_times(said)
        wrong = pc.and_(pc.is_null(event_at), pc.invert(_is_blank(said)))
        findings.add(_marked(wrong), "event_time", source.event_time_column, "is not an ISO 8601 time", said)
    metadata: dict[str, pa.Array] = {}
    for name, one in source.metadata.items():
        values = stored(name)
        metadata[name], wrong_rows = _metadata_column(values, one.type)
        findings.add(wrong_rows, f"metadata_{one.type}", name, f"is not of type {one.type}", values)

    columns = pa.table({**texts, **metadata}) if texts or metadata else block.columns.select([])
    consent = _read_consents(stored(source.consent_column)) if source.consent_column else pa.nulls(size, pa.bool_())
    rows = Rows(
        block.numbers,
        columns.select(list(contract_columns(source))),
        event_at,
        consent,
        block.extras,
        block.raw,
        block.header,
        new_columns=block.new_columns,
    )
    bad = [*block.bad, *(_bad_row(block, row, found) for row, found in findings.by_row.items())]
    if findings.by_row:
        kept = pa.array([row not in findings.by_row for row in range(size)], pa.bool_())
        rows = rows.take(kept)
    rows.bad = sorted(bad, key=lambda one: one.number)
    return rows


def _bad_row(block: Block, row: int, found: list[tuple[str, str, str, Any]]) -> BadRow:
    failures = [
        {"expectation": check, "column": column, "observed": shorten(observed)} for check, column, _, observed in found
    ]
    reason = "; ".join(f"{column!r} {reason}" for _, column, reason, _ in found)
    return BadRow(block.numbers[row].as_py(), block.raw(row), "parse", reason, failures)


def _marked(mask: pa.BooleanArray) -> list[int]:
    """Positions of the true values."""
    return pc.indices_nonzero(mask).to_pylist() if mask.true_count else []


def _is_blank(texts: pa.StringArray) -> pa.BooleanArray:
    """Missing, empty or nothing but white space."""
    empty = pc.or_(pc.equal(pc.binary_length(texts), 0), pc.utf8_is_space(texts))
    return pc.fill_null(empty, True)


def _as_texts(values: pa.Array) -> pa.StringArray:
    """A column as ``as_text`` says, for the types a block may have."""
    if pa.types.is_string(values.type):
        return values
    if pa.types.is_floating(values.type):
        return pa.array([as_text(value) for value in values.to_pylist()], pa.string())
    return values.cast(pa.string())  # whole numbers; true and false


def as_text(value: Any) -> str | None:
    """Text as it is, anything else as canonical JSON; None for a missing value."""
    return value if value is None or isinstance(value, str) else canonical_json(value)


def read_times(texts: pa.StringArray) -> pa.TimestampArray:
    """ISO 8601 times in UTC, null where a text is none; a time without an offset is taken as UTC."""
    for form in (TIME, pa.timestamp("us")):  # all with an offset, or all without: read at once
        try:
            times = texts.cast(form)
        except pa.ArrowInvalid:
            continue
        times = times.cast(TIME) if form.tz else pc.assume_timezone(times, "UTC")
        span = pc.min_max(times)
        first, last = span["min"].value, span["max"].value
        if first is None or (first >= FIRST_MOMENT_US and last <= LAST_MOMENT_US):
            return times
        break
    return pa.array([None if text is None else read_time(text) for text in texts.to_pylist()], TIME)


def read_time(text: str) -> datetime | None:
    """One ISO 8601 time in UTC; None when it is not one."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _read_consents(values: pa.Array) -> pa.BooleanArray:
    """True only for a clear yes (true, 1); a missing or unreadable consent is none."""
    if not pa.types.is_boolean(values.type):
        said = pc.utf8_lower(pc.utf8_trim_whitespace(_as_texts(values)))
        values = pc.is_in(said, value_set=pa.array(["true", "1"]))
    return pc.fill_null(values, False)


def _metadata_column(values: pa.Array, kind: str) -> tuple[pa.Array, list[int]]:
    """A metadata column in its type, null where missing, and the positions of values of another type."""
    if kind == "terms":
        texts = _as_texts(values)
        return pc.if_else(pc.equal(pc.binary_length(texts), 0), pa.scalar(None, pa.string()), texts), []
    wanted, read = (pa.int64(), read_integer) if kind == "integer" else (pa.float64(), read_float)
    if values.type == wanted or (kind == "float" and pa.types.is_integer(values.type)):
        numbers = values.cast(wanted)
    else:
        texts = _as_texts(values)
        found = [None if not text else read(text) for text in texts.to_pylist()]
        numbers = pa.array(found, wanted)
        missing = pc.fill_null(pc.equal(pc.binary_length(texts), 0), True)
        return numbers, _marked(pc.and_(pc.is_null(numbers), pc.invert(missing)))
    if kind == "float":
        endless = pc.fill_null(pc.invert(pc.is_finite(numbers)), False)
        return pc.if_else(endless, pa.scalar(None, wanted), numbers), _marked(endless)
    return numbers, []


def read_integer(text: str) -> int | None:
    """A whole number of 64 bits, also written as ``41.0``; None when it is not one."""
    if len(text) > 40 or not _WHOLE_NUMBER.fullmatch(text):
        return None
    number = int(text.partition(".")[0])
    return number if -(2**63) <= number < 2**63 else None


def read_float(text: str) -> float | None:
    """A finite number; None when it is not one."""
    if "_" in text:  # float("1_0") is 10
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
