"""Bytes to rows: every way an object or a row can be wrong has its own clear sentence, and loses nothing."""

import gzip
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.ingestion import parse
from include.ingestion.parse import BadRow, RejectedObjectError, Row, parse_object

LINES = b'{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n'
TABLE = b"id,text\n1,a\n2,b\n"


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def good(rows: list[Row | BadRow]) -> list[dict]:
    return [row.values for row in rows if isinstance(row, Row)]


def reasons(rows: list[Row | BadRow]) -> list[tuple[int, str, bytes]]:
    return [(row.number, row.reason, row.raw) for row in rows if isinstance(row, BadRow)]


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("a.jsonl", LINES),
        ("a.ndjson", LINES.rstrip(b"\n")),
        ("a.JSONL", LINES.replace(b"\n", b"\r\n")),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES),
        ("a.jsonl.gz", gzip.compress(LINES)),
        ("a.jsonl.gz", gzip.compress(LINES[:25]) + gzip.compress(LINES[25:])),
        ("a.jsonl.zst", pa.compress(LINES, codec="zstd", asbytes=True)),
        ("a.csv", TABLE),
        ("a.csv", b"\xef\xbb\xbf" + TABLE),
        ("a.csv", TABLE.replace(b"\n", b"\r\n")),
        ("a.csv.gz", gzip.compress(TABLE)),
        ("a.parquet", parquet(pa.table({"id": ["1", "2"], "text": ["a", "b"]}))),
    ],
)
def test_every_format_gives_the_same_rows(key: str, data: bytes):
    rows = parse_object(key, data, ["id", "text"])
    assert good(rows) == [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]
    assert [row.number for row in rows] == [0, 1]


@pytest.mark.parametrize(
    ("key", "data", "check", "sentence"),
    [
        ("a.jsonl", b"", "object_empty", r"object 'a.jsonl' is empty \(0 bytes\)\. Upload it again"),
        ("a.xlsx", b"x", "object_format", r"'a.xlsx' has an ending we do not read\. Use \.jsonl"),
        ("jsonl", b"x", "object_format", r"'jsonl' has an ending"),
        ("a.parquet.gz", b"x", "object_format", r"'a.parquet.gz' has an ending"),
        (
            "a.jsonl",
            LINES.decode().encode("utf-16"),
            "object_encoding",
            r"'a.jsonl' is not UTF-8; it looks like UTF-16",
        ),
        ("a.csv", TABLE.decode().encode("utf-16-le"), "object_encoding", r"'a.csv' is not UTF-8"),
        ("a.jsonl.gz", gzip.compress(LINES)[:-9], "object_truncated", r"'a.jsonl.gz' is damaged or cut short"),
        ("a.jsonl.gz", LINES, "object_truncated", r"'a.jsonl.gz' is damaged or cut short.*Not a gzipped file"),
        (
            "a.jsonl.zst",
            pa.compress(LINES, codec="zstd", asbytes=True)[:-5],
            "object_truncated",
            r"damaged or cut short",
        ),
        ("a.csv", b"id,id,text\n", "object_columns", r"has columns \['id'\] more than once"),
        (
            "a.csv",
            b"id,body\n1,a\n",
            "object_columns",
            r"'a.csv' lacks the columns \['text'\]; it has \['id', 'body'\]",
        ),
        ("a.csv", b"\n", "object_columns", r"lacks the columns \['id', 'text'\]"),
        ("a.csv", b'"id,text\n', "object_columns", r"has no readable header"),
        ("a.parquet", parquet(pa.table({"id": ["1"], "n": [1]})), "object_columns", r"lacks the columns \['text'\]"),
        ("a.parquet", b"PAR1 no", "object_truncated", r"'a.parquet' is damaged or no Parquet file"),
        ("a.parquet", parquet(pa.table({"id": ["1"], "text": ["b"]}))[:-20], "object_truncated", r"damaged"),
    ],
)
def test_an_object_that_is_not_what_it_claims_is_refused_whole(key: str, data: bytes, check: str, sentence: str):
    with pytest.raises(RejectedObjectError, match=sentence) as caught:
        parse_object(key, data, ["id", "text"])
    assert caught.value.check == check
    assert caught.value.remedy.endswith(".")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "1", "te', "line is not a JSON object (Input data was truncated)"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b'{"a": NaN}', "JSON is malformed"),
        (b'{"a": Infinity}', "JSON is malformed"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "out of range"),
        (b'{"a": "\xff\xfe"}', "line is not valid UTF-8"),
        (b'{"a": "\\ud800"}', "line is not a JSON object"),
        (b'{"a": ' + b"[" * 100_000 + b"}", "line is not a JSON object"),
        (b'{"a": 1} {"b": 2}', "trailing characters"),
    ],
)
def test_a_bad_line_costs_only_itself_and_keeps_its_bytes(line: bytes, reason: str):
    rows = parse_object("a.jsonl", LINES[:25] + line + b"\n\n" + LINES[25:], [])
    assert len(good(rows)) == 2
    [(number, said, raw)] = reasons(rows)
    assert (number, raw) == (1, line)
    assert reason in said


def test_csv_rows_are_rejected_one_by_one():
    data = b'id,text\n1,a\n2,b,c\n3\n4,"two\nlines"\n5,\xff\n6,"x"y\n\n7,\n'
    rows = parse_object("a.csv", data, ["id"])
    assert good(rows) == [{"id": "1", "text": "a"}, {"id": "4", "text": "two\nlines"}, {"id": "7", "text": None}]
    assert reasons(rows) == [
        (1, "row has too many columns: 3, the header has 2", b"2,b,c"),
        (2, "row has too few columns: 1, the header has 2", b"3"),
        (4, "row is not valid UTF-8 (invalid start byte)", b"5,\xff"),
        (5, "row is not readable as CSV (',' expected after '\"')", b'6,"x"y'),
    ]


def test_an_unclosed_quote_is_one_bad_row_with_all_it_swallowed():
    rows = parse_object("a.csv", b'id,text\n1,a\n2,"b\n3,c\n', [])
    assert good(rows) == [{"id": "1", "text": "a"}]
    assert reasons(rows) == [(1, "row is not readable as CSV (unexpected end of data)", b'2,"b\n3,c')]


def test_an_object_without_rows_is_no_error():
    assert parse_object("a.jsonl", b"\n", []) == []
    assert parse_object("a.jsonl.gz", gzip.compress(b""), []) == []
    assert parse_object("a.csv", b"id,text\n", ["id"]) == []
    assert parse_object("a.parquet", parquet(pa.table({"id": pa.array([], pa.string())})), ["id"]) == []


def test_a_bomb_is_refused_before_it_unpacks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parse, "FREE_UNPACKED_BYTES", 1000)
    bomb = gzip.compress(b"0" * 10_000_000)
    with pytest.raises(RejectedObjectError, match=rf"unpacks to more than {200 * len(bomb):,} bytes\. Split it"):
        parse_object("a.jsonl.gz", bomb, [])


def test_a_parquet_file_that_unpacks_too_large_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parse, "MAX_OBJECT_BYTES", 1000)
    with pytest.raises(RejectedObjectError, match="more than the 1,000 we read at once"):
        parse_object("a.parquet", parquet(pa.table({"n": list(range(5000))})), [])


def test_parquet_values_become_json_values():
    table = pa.table(
        {
            "at": [datetime(2026, 1, 1, tzinfo=UTC)],
            "day": [date(2026, 1, 1)],
            "price": [Decimal("1.50")],
            "blob": [b"\x00\xff"],
            "nan": [float("nan")],
            "nested": [{"a": [1, None]}],
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        }
    )
    [row] = parse_object("a.parquet", parquet(table), [])
    assert isinstance(row, Row)
    assert row.values == {
        "at": "2026-01-01T00:00:00+00:00",
        "day": "2026-01-01",
        "price": "1.50",
        "blob": "AP8=",
        "nan": None,
        "nested": {"a": [1, None]},
        "map": [["k", 1]],
    }
    assert json.loads(row.raw) == row.values


def test_parquet_text_that_is_not_utf8_refuses_the_object():
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    with pytest.raises(RejectedObjectError, match="damaged or no Parquet file.*UTF8"):
        parse_object("a.parquet", parquet(pa.table({"text": broken})), [])
