"""CSV: streamed, cut anywhere, read at once where it can be: it gives what Python's csv module gives for the whole."""

import csv
import io
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from include.ingestion.reading import csv_rows
from include.ingestion.reading.csv_rows import csv_blocks
from tests.include.ingestion.reading.rows_of import LOOSE, Rows, collect, limited

HEADER = b"text,b,c"


def streamed(data: bytes, chunk: int, block: int) -> Rows:
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    return collect(csv_blocks("a.csv", iter(chunks), LOOSE, block_bytes=block))


def whole(data: bytes) -> tuple[list[tuple[int, dict[str, str], bytes]], list[tuple[int, str, bytes]]]:
    """Good rows as (number, values, raw), bad ones as (number, check, raw)."""
    taken: list[str] = []

    def lines() -> Any:
        for line in io.StringIO(data.decode("utf-8", "surrogateescape"), newline=""):
            taken.append(line)
            yield line

    def take() -> bytes:
        raw = "".join(taken).encode("utf-8", "surrogateescape").rstrip(b"\r\n")
        taken.clear()
        return raw

    reader = csv.reader(lines(), strict=True)
    names = next(reader)
    take()
    good: list[tuple[int, dict[str, str], bytes]] = []
    bad: list[tuple[int, str, bytes]] = []
    while True:
        number = len(good) + len(bad)
        try:
            cells = next(reader)
        except StopIteration:
            return good, bad
        except csv.Error:
            bad.append((number, "csv_row", take()))
            continue
        raw = take()
        if not cells:
            continue
        try:
            raw.decode()
        except UnicodeDecodeError:
            bad.append((number, "csv_columns" if len(cells) != len(names) else "utf8", raw))
            continue
        if len(cells) != len(names):
            bad.append((number, "csv_columns", raw))
        else:
            values = {name: cell for name, cell in zip(names, cells, strict=True) if cell}
            good.append((number, values, raw))


cells = st.sampled_from(["", "a", "ü", "1", " ", "😀", "\ufeff", "\0", "'"]) | st.text(
    st.characters(codec="utf-8", exclude_characters='",\r\n'), max_size=5
)
quoted = st.text(st.sampled_from('a,"\n\r é'), max_size=6).map(lambda cell: '"' + cell.replace('"', '""') + '"')
plain_rows = st.lists(cells, min_size=3, max_size=3).map(",".join)
rows = st.one_of(
    plain_rows,
    plain_rows,
    st.lists(cells | quoted, min_size=3, max_size=3).map(",".join),
    st.lists(cells | quoted, max_size=5).map(",".join),
    st.sampled_from(["", '"', 'a,"b,c', 'a,"b"x,c', ",,", '"""', "a,b\x85,c", "a\u2028,b,c"]),
)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    ends = draw(st.sampled_from([["\n"], ["\r\n"], ["\r"], ["\n", "\r\n", "\r", "\n\n", "\r\r\n"]]))
    body = "".join(row + draw(st.sampled_from(ends)) for row in draw(st.lists(rows, max_size=12)))
    data = body.encode()
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80"])) + data[at:]
    return HEADER + draw(st.sampled_from(ends)).encode() + data.rstrip(draw(st.sampled_from([b"", b"\n", b"\r\n"])))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.integers(1, 40), st.integers(1, 60))
@example(b"text,b,c\r\n1,2,3\r\n\r\n4,5,6\r7,8,9\n", 10, 10)
@example(b'text,b,c\n1,"2\n\n2",3\n4,5,6\n', 3, 1)
def test_streaming_changes_nothing(data: bytes, chunk: int, block: int):
    good, bad = whole(data)
    found = streamed(data, chunk, block)
    assert list(zip(found.numbers, found.all, found.raw, strict=True)) == good
    assert [(one.number, check, one.raw) for one, check in zip(found.bad, found.checks, strict=True)] == bad


def test_plain_pieces_are_read_at_once(monkeypatch: pytest.MonkeyPatch):
    data = HEADER + b"\n" + b"".join(b"%d,,x\n" % n for n in range(1000))
    monkeypatch.setattr(csv_rows, "_read_carefully", None)
    monkeypatch.setattr(csv_rows, "BLOCK_ROWS", 300)
    found = streamed(data, 1000, 10**6)
    assert (found.blocks, found.numbers) == (4, list(range(1000)))
    assert found.all[999] == {"text": "999", "c": "x"}
    assert found.raw[301] == b"301,,x"
    assert found.new_columns == {"c"}


def test_a_bad_row_costs_only_its_own_piece(monkeypatch: pytest.MonkeyPatch):
    carefully = []
    read = csv_rows._read_carefully
    monkeypatch.setattr(csv_rows, "_read_carefully", lambda *args: carefully.append(1) or read(*args))
    lines = [b"%d,y,x\n" % n for n in range(1000)]
    lines[300] = b'"300","y",x\n'  # quotes alone cost nothing
    lines[500] = b'"a\n,""b",y,x\n'
    lines[700] = b'"a"b,y,x\n'
    found = streamed(HEADER + b"\n" + b"".join(lines), 100, 1000)
    assert found.numbers == [*range(700), *range(701, 1000)]
    assert found.values[500] == {"text": 'a\n,"b'}
    assert found.raw[500] == b'"a\n,""b",y,x'
    assert len(carefully) == 1 < found.blocks


def test_many_rows_in_one_piece_are_several_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(csv_rows, "BLOCK_ROWS", 7)
    found = streamed(HEADER + b"\n" + b'1,"2",3\n' * 50, 1000, 10**6)
    assert (found.blocks, found.numbers) == (8, list(range(50)))
    assert found.raw == [b'1,"2",3'] * 50


def test_a_long_line_inside_a_quoted_cell_ends_its_row():
    source = limited(LOOSE, max_row_bytes=1024)
    data = b'text\na\n"b\n' + b"x" * 3000 + b'\ny"\nz\n'
    chunks = [data[at : at + 500] for at in range(0, len(data), 500)]
    found = collect(csv_blocks("a.csv", iter(chunks), source))
    assert [one["text"] for one in found.values] == ["a", 'y"', "z"]  # what is left begins a row of its own
    assert found.checks[0] == "row_size"
    assert found.bad[0].raw.startswith(b'"b')
    assert found.bad[0].reason.startswith("row has 3,")


def test_columns_are_text():
    [block] = csv_blocks("a.csv", iter([b"text\n1\n2\n"]), LOOSE)
    assert block.columns.schema == pa.schema([("text", pa.string())])
    assert block.header == b"text"
