"""Many lines → columns at once, for lines that are as plain as most are; it never guesses.

pyarrow reads a block with a given schema, and refuses it for a duplicate key, a value of another type, a number that
does not fit or a lone surrogate. What it lets pass is caught around it: ``null`` instead of an object (as the first
value even the end of the process), text that is not UTF-8, NaN and infinity, several objects on a line or one on
several lines, and what follows a NUL. ``tests/include/ingestion/reading/test_json.py`` proves the result equal to that
of the exact reader.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.ingestion.reading.assemble import INT64, Numbers, Part
from include.ingestion.reading.extras import encode_extras, uneven_floats
from include.ingestion.reading.json_exact import Unreadable, read_line
from include.ingestion.reading.lines import Lines
from include.project import Source

SAMPLED_LINES = 32
FEW_LINES = 64  # not worth being tried in halves
PLAIN_SHARE = 0.5  # of the sampled lines; below, reading them one by one is faster
MAX_EXTRA_COLUMNS = 200
OPEN_BRACE = ord("{")
TYPES = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_()}
_PLAIN_NAME = re.compile(r'[^"\\\x00-\x1f\x7f]*')


@dataclass(frozen=True)
class Shape:
    """The columns of plain lines: (name, type) in the order they were met, and which of them the project knows."""

    columns: tuple[tuple[str, str], ...]
    known: frozenset[str]
    as_text: frozenset[str]  # known columns that are text whatever their JSON type

    @cached_property
    def schema(self) -> pa.Schema:
        """What pyarrow is told to expect."""
        return pa.schema([(name, TYPES[kind]) for name, kind in self.columns])

    @cached_property
    def decoder(self) -> Any:
        """A strict decoder of one line: fails for lines that are not plain (but not for all of them)."""
        import msgspec

        whole = Annotated[int, msgspec.Meta(ge=INT64.start, le=INT64.stop - 1)]
        types = {"string": str | None, "int64": whole | None, "double": float | None, "bool": bool | None}
        fields = [(f"c{at}", types[kind], None) for at, (_, kind) in enumerate(self.columns)]
        names = {f"c{at}": name for at, (name, _) in enumerate(self.columns)}
        line = msgspec.defstruct("Line", fields, rename=names, forbid_unknown_fields=True)
        return msgspec.json.Decoder(line)

    def fits(self, row: dict[str, Any]) -> bool:
        """Whether a row is likely to be read at once."""
        kinds = dict(self.columns)
        for name, value in row.items():
            if value is None:
                continue
            kind = _kind(value)
            if kinds.get(name) == "double" and kind == "int64" and name in self.known:
                continue
            if kinds.get(name) != kind:
                return False
            if kind == "double" and name not in self.known and value.is_integer():
                return False
        return True


class Shapes:
    """Tells the shape of each stretch from a sample of its lines."""

    def __init__(self, source: Source, known: Collection[str]) -> None:
        self._source = source
        self._known = frozenset(known)
        self._numbers = {name: one.type for name, one in source.metadata.items() if one.type != "terms"}
        consent = {source.consent_column} - {None, *source.fields, source.id_column, source.event_time_column}
        self._consent = consent
        self._as_text = self._known - self._numbers.keys() - consent
        self._last: Shape | None = None

    def of(self, lines: Lines) -> Shape | None:
        """The shape; None when few lines have one."""
        chosen = np.unique(np.linspace(0, len(lines) - 1, min(SAMPLED_LINES, len(lines))).astype(int))
        found = [read_line(lines.line(int(one)), self._source.limits) for one in chosen]
        rows = [row for row in found if not isinstance(row, Unreadable)]
        if not rows:
            return None
        kinds: dict[str, Counter[str]] = defaultdict(Counter)
        for name in sorted(self._known):
            kinds[name] = Counter()
        for row in rows:
            for name, value in row.items():
                kinds[name].update([_kind(value)] if value is not None else [])
        columns = []
        for name in dict.fromkeys([*rows[0], *kinds]):
            if _PLAIN_NAME.fullmatch(name) and (kind := self._choose(name, kinds[name])):
                columns.append((name, kind))
        if len(columns) > len(self._known) + MAX_EXTRA_COLUMNS:
            return None
        shape = Shape(tuple(columns), self._known, self._as_text)
        if self._last is not None and self._last.columns == shape.columns:
            shape = self._last  # with its decoder
        self._last = shape
        return shape if sum(map(shape.fits, rows)) >= PLAIN_SHARE * len(rows) else None

    def _choose(self, name: str, seen: Counter[str]) -> str | None:
        """The type a column is read as; None to leave rows with it to the exact reader."""
        kinds = [kind for kind, _ in seen.most_common()]
        if self._numbers.get(name) == "float":
            return "string" if kinds[:1] == ["string"] else "double"
        if self._numbers.get(name) == "integer":
            return "string" if kinds[:1] == ["string"] else "int64"
        if name in self._known:
            return next((kind for kind in kinds if kind in ("string", "int64", "bool")), "string")
        return next((kind for kind in kinds if kind in TYPES), None) if kinds else "string"


def read_plain(lines: Lines, shape: Shape) -> tuple[Part | None, list[int]]:
    """The rows of a stretch, and positions of lines to read one by one; no part when nothing could be read at once."""
    all_lines = np.arange(len(lines), dtype=np.int64)
    if bool((lines.bytes[lines.starts] == OPEN_BRACE).all()) and b"\0" not in lines.data:
        part, doubtful = _read(lines.data, all_lines + lines.first, shape)
        if part is not None:
            return part, [int(number) - lines.first for number in doubtful]
    import msgspec

    plain: list[bytes] = []
    at, others = [], []
    decode = shape.decoder.decode
    every = lines.all()
    for position in lines.filled():
        line = every[position]
        try:
            decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            others.append(position)
            continue
        if line[0] == OPEN_BRACE:
            plain.append(line)
            at.append(position)
        else:
            others.append(position)
    parts, left = _read_most(plain, np.array(at, np.int64) + lines.first, shape)
    positions = sorted([*others, *(int(number) - lines.first for number in left)])
    if not parts:
        return None, positions
    part = Part(
        np.concatenate([one.numbers for one in parts]),
        pa.concat_tables([one.columns for one in parts]),
        pa.concat_arrays([one.extras for one in parts]),
        set().union(*(one.new_columns for one in parts)),
    )
    return part, positions


def _read_most(plain: list[bytes], numbers: Numbers, shape: Shape) -> tuple[list[Part], list[int]]:
    """The rows of lines that are plain for all that ``shape.decoder`` can tell, and the numbers of those left.

    One line that only pyarrow refuses (it names a key twice) must not cost all others: halves are tried by themselves.
    """
    if not plain:
        return [], []
    part, doubtful = _read(b"\n".join(plain), numbers, shape)
    if part is not None:
        return [part], doubtful.tolist()
    if len(plain) <= FEW_LINES:
        return [], numbers.tolist()
    half = len(plain) // 2
    parts, left = _read_most(plain[:half], numbers[:half], shape)
    more_parts, more_left = _read_most(plain[half:], numbers[half:], shape)
    return parts + more_parts, left + more_left


def _read(data: bytes, numbers: Numbers, shape: Shape) -> tuple[Part | None, Numbers]:
    """The rows of lines that all begin with a brace, and the numbers of those that must be read one by one after all.

    :param numbers: (R,) of the lines.
    """
    import pyarrow.json as pj

    none = np.empty(0, np.int64)
    try:
        table = pj.read_json(
            pa.BufferReader(data),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pj.ParseOptions(explicit_schema=shape.schema, unexpected_field_behavior="error"),
        )
        table.validate(full=True)  # text that is not UTF-8
    except pa.ArrowException:
        return None, none
    # Every line begins with a brace, and no column takes an object: so as many rows as lines means one on each.
    if table.num_rows != len(numbers):
        return None, none
    extra = [name for name in table.column_names if name not in shape.known]
    doubtful = np.zeros(len(numbers), bool)
    for name in table.column_names:
        if pa.types.is_floating(table.schema.field(name).type):
            if not pc.all(pc.is_finite(table[name]), min_count=0).as_py():
                return None, none
            if name in extra:
                doubtful |= uneven_floats(table[name], whole_too=True)
    left = numbers[doubtful]
    if len(left):
        table, numbers = table.filter(pa.array(~doubtful)), numbers[~doubtful]
    known = table.select([name for name in table.column_names if name in shape.known])
    for at, field in enumerate(known.schema):
        if field.name in shape.as_text and not pa.types.is_string(field.type):
            known = known.set_column(at, field.name, known[field.name].cast(pa.string()))
    new_columns = {name for name in extra if table[name].null_count < len(table)}
    return Part(numbers, known, encode_extras(table, extra), new_columns), left


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if value in INT64 else "other"
    return "string" if isinstance(value, str) else "double" if isinstance(value, float) else "other"
