"""JSON Lines: what is read at once is exactly what is read line by line, and what cannot be read at once is not."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from include.ingestion.reading import json_rows
from include.ingestion.reading.json_fast import Shapes, read_plain
from include.ingestion.reading.json_rows import exact_block, json_blocks
from include.ingestion.reading.lines import Lines
from include.ingestion.rows import as_text, known_columns, normalise
from include.project import Source
from tests.include.ingestion.reading.rows_of import SOURCE, Rows, collect, limited

KNOWN = known_columns(SOURCE)
CLEAN = b"".join(
    b'{"id": "%d", "at": "2026-01-01", "ok": true, "text": "t\\u00e9", "age": %d, "score": 0.5, "x": %d, "y": "b"}\n'
    % (n, n, n)
    for n in range(100)
)


def at_once(data: bytes) -> Rows:
    return collect(json_blocks(iter([data]) if data else iter(()), SOURCE))


def one_by_one(data: bytes) -> Rows:
    return collect([exact_block(Lines(data, 0), KNOWN, SOURCE)])


def meaning(rows: Rows) -> list[Any]:
    """All of it, a float column as the numbers that its texts mean: 5 and 5.0 are one of those."""
    values = [{**one, "score": _number(one.get("score"))} for one in rows.values]
    return [rows.numbers, values, rows.extras, rows.raw, rows.bad, rows.new_columns]


def _number(text: str | None) -> Any:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def read_at_once(data: bytes, source: Source = SOURCE) -> tuple[int, list[int]]:
    """How many rows of a stretch were read at once, and which lines were left."""
    lines = Lines(data, 0)
    shape = Shapes(source, known_columns(source)).of(lines)
    if shape is None:
        return 0, list(range(len(lines)))
    part, left = read_plain(lines, shape)
    return (0 if part is None else len(part.numbers)), left


texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["", "a:b", '"', "\\", "\0", "\x7f", "\u2028"]
)
numbers = st.integers(-(2**70), 2**70) | st.integers(-5, 5)
floats = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.5, 5.0, -0.0, 1e-5, 1e16, 1.5e300, 5e-324])
anything = st.recursive(
    st.none() | st.booleans() | numbers | floats | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
BY_KIND = {"text": texts, "int": numbers, "float": floats, "bool": st.booleans(), "any": anything}
names = st.sampled_from([*sorted(KNOWN), "x", "y", "^x$", "", "record_id", "é", "a b", "__proto__"]) | texts


@st.composite
def json_lines(draw: st.DrawFn) -> bytes:
    """Lines that mostly have the same columns with values of the same type, and some that do not."""
    columns = draw(st.dictionaries(names, st.sampled_from(sorted(BY_KIND)), max_size=6))
    lines = []
    for _ in range(draw(st.integers(1, 12))):
        row = {}
        for name, kind in columns.items():
            odd = draw(st.integers(0, 19))
            if odd > 1:
                row[name] = draw(BY_KIND[kind] if odd > 2 else anything)
        if draw(st.integers(0, 9)) == 0:
            row[draw(names)] = draw(anything)
        ascii_only, spaces = draw(st.booleans()), draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\r:  ")]))
        line = json.dumps(row, ensure_ascii=ascii_only, separators=spaces).encode()
        if draw(st.integers(0, 14)) == 0:
            line = draw(odd_lines(line))
        lines.append(line)
    ends = draw(st.sampled_from([b"\n", b"\r\n"]))
    return ends.join(lines) + draw(st.sampled_from([b"", ends]))


@st.composite
def odd_lines(draw: st.DrawFn, line: bytes) -> bytes:
    """The line with something wrong or unusual about it."""
    at = draw(st.integers(0, len(line)))
    return draw(
        st.sampled_from(
            [
                line[:at],
                line[:at] + b"\n" + line[at:],
                line[:at] + b"\0" + line[at:],
                line[:at] + b"\xff" + line[at:],
                line[:at] + b"\r" + line[at:],
                line + line,
                line + b" ",
                b" " + line,
                line + b"]",
                b"",
                b" ",
                b"null",
                b"[]",
                b"\xef\xbb\xbf" + line,
                line.replace(b'"', b"'"),
                line[:-1] + b',"id":"twice"}',
                line[:-1] + b',"x":1e999}',
                line[:-1] + b',"x":"\\ud800"}',
                line[:-1] + b',"x":01}',
                line.replace(b"{", b'{"id":"1","\\u0069d":"2",', 1),
            ]
        )
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(json_lines())
@example(b"null\nnull\n")
@example(b'null\n{"id":"1"}\n')
@example(b'{"id":"1"}\nnull\n{"id":"1"}{"id":"2"}\n')
@example(b'{"id":"1"}\n\n{"id":"1"}\n{"id":"1"}\0\n')
@example(b'{"score":5}\n{"score":-0}\n{"score":123456789012345678901234567890}\n')
@example(b'{"x":0.1}\n{"x":5}\n{"x":5.0}\n{"x":1e-7}\n{"x":0.3}\n')
@example(b'{"age":-0}\n{"age":5.0}\n{"age":"5"}\n{"age":5}\n{"age":6}\n')
@example(b"{}\n{}\n")
def test_reading_at_once_changes_nothing(data: bytes):
    assert meaning(at_once(data)) == meaning(one_by_one(data))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(json_lines())
def test_rows_mean_the_same_whichever_way_they_were_read(data: bytes):
    fast, exact = (
        [normalise(SOURCE, block) for block in blocks]
        for blocks in (json_blocks(iter([data]), SOURCE), [exact_block(Lines(data, 0), KNOWN, SOURCE)])
    )
    for name in ("columns", "event_at", "consent", "extras", "numbers"):
        said = [[value for one in rows for value in getattr(one, name).to_pylist()] for rows in (fast, exact)]
        assert said[0] == said[1], name
    bad = [[(bad.number, bad.reason, bad.raw) for one in rows for bad in one.bad] for rows in (fast, exact)]
    assert bad[0] == bad[1]


def test_clean_lines_are_read_at_once():
    assert read_at_once(CLEAN) == (100, [])
    assert meaning(at_once(CLEAN)) == meaning(one_by_one(CLEAN))
    [block] = json_blocks(iter([CLEAN]), SOURCE)
    assert {one.name: one.type for one in block.columns.schema} == {
        "id": pa.string(), "at": pa.string(), "ok": pa.bool_(), "text": pa.string(), "note": pa.string(),
        "lang": pa.string(), "age": pa.int64(), "score": pa.float64(),
    }  # fmt: skip
    assert (block.extras[7].as_py(), block.new_columns) == ('{"x":7,"y":"b"}', {"x", "y"})


def test_text_columns_of_whole_numbers_are_read_at_once_too():
    data = b"".join(b'{"id": %d, "text": "a", "ok": 1, "lang": true}\n' % n for n in range(50))
    assert read_at_once(data) == (50, [])
    assert at_once(data).values[3] == {"id": "3", "text": "a", "ok": "1", "lang": "true"}


@pytest.mark.parametrize(
    "line",
    [
        b"null",
        b"",
        b" {}",
        b'{"id": "1", "id": "2"}',
        b'{"id": "1", "\\u0069d": "2"}',
        b'{"id": "\\ud800"}',
        b'{"id": "\xff"}',
        b'{"id": "\xc0\xaf"}',
        b'{"id": "1"} {"id": "2"}',
        b'{"id": "1"}\0{"id": "2"}',
        b'{"id": "1"',
        b'{"score": NaN}',
        b'{"score": -Infinity}',
        b'{"score": 1e999}',
        b'{"age": 9223372036854775808}',
        b'{"age": 1.5}',
        b'{"text": 5}',
        b'{"text": ["a"]}',
        b'{"x": 1.0}',
        b'{"x": "1"}',
        b"\xef\xbb\xbf{}",
    ],
)
@pytest.mark.parametrize("at", [0, 50, 98])
def test_one_odd_line_is_left_and_the_others_are_read_at_once(line: bytes, at: int):
    lines = CLEAN.split(b"\n")[:-1]
    lines[at] = line
    data = b"\n".join(lines)
    rows, left = read_at_once(data)
    if b'"1", "' in line:  # only pyarrow sees a key that comes twice, so it is looked for among halves
        assert rows == 50
        assert set(left) == set(range(50) if at < 50 else range(50, 100))
    else:
        assert (rows, left) == (99, [at] if line else [])  # a blank line is no row
    assert meaning(at_once(data)) == meaning(one_by_one(data))


def test_an_object_on_two_lines_and_two_objects_on_a_line_do_not_cancel_out():
    lines = [b'{"id": "1"}'] * 20
    data = b"\n".join([*lines, b'{"id": "2",', b'"text": "b"}', b'{"id": "3"}{"id": "4"}', *lines])
    rows = at_once(data)
    assert rows.numbers == [*range(20), *range(23, 43)]
    assert [bad.number for bad in rows.bad] == [20, 21, 22]


def test_a_column_that_the_sample_did_not_have_is_left():
    lines = CLEAN.split(b"\n")
    lines[50] = b'{"unseen": 1}'
    assert read_at_once(b"\n".join(lines)) == (99, [50])
    assert at_once(b"\n".join(lines)).new_columns == {"x", "y", "unseen"}


def test_a_new_column_in_the_middle_is_learnt():
    more = CLEAN.replace(b"}\n", b', "later": "z"}\n')
    rows = at_once(CLEAN + more)
    assert rows.new_columns == {"x", "y", "later"}
    assert read_at_once(more) == (100, [])


def test_line_numbers_go_on_over_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(json_rows, "BLOCK_ROWS", 7)
    data = CLEAN + b"\n\n" + b"oops\n" + CLEAN.rstrip()
    rows = at_once(data)
    assert rows.blocks > 28
    assert rows.numbers == [*range(100), *range(103, 203)]
    assert [bad.number for bad in rows.bad] == [102]
    assert meaning(rows) == meaning(one_by_one(data))


def test_a_column_of_odd_values_becomes_text_for_all():
    data = b"".join(b'{"age": %d, "score": %d.5}\n' % (n, n) for n in range(20)) + b'{"age": [1], "score": "high"}\n'
    rows = at_once(data)
    assert [one["age"] for one in rows.values] == [*map(str, range(20)), "[1]"]
    assert [one["score"] for one in rows.values] == [*(f"{n}.5" for n in range(20)), "high"]


@pytest.mark.parametrize("size", [1024, 1500, 4096])
def test_cuts_of_chunks_change_nothing(size: int):
    source = limited(SOURCE, max_row_bytes=4096)
    data = CLEAN + b'{"text": "' + b"\xc3\xa9" * 3000 + b'"}\r\n' + CLEAN
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    rows = collect(json_blocks(iter(chunks), source))
    assert rows.numbers == [*range(100), *range(101, 201)]
    assert (rows.checks, rows.bad[0].number) == (["row_size"], 100)


@pytest.mark.parametrize(
    "value", [0, -5, 2**70, 0.5, -0.0, 1e16, 1e-7, 5e-324, True, None, "a", ["b", 1.5], {"c": None}]
)
def test_values_that_are_not_text_become_the_text_that_rows_say(value: Any):
    [row] = at_once(json.dumps({"text": value}).encode()).values
    assert row.get("text") == as_text(value)
