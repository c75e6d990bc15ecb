"""Bytes to rows: every way an object or a row can be wrong has its own clear sentence, and loses nothing."""

import gzip
import json
import tracemalloc
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import chain, repeat

import pyarrow as pa
import pytest

from include.errors import StorageError
from include.ingestion.blocks import RejectedObjectError
from include.ingestion.reading import is_packed, object_uri, packing, read_blocks
from include.lake.keys import digest
from include.project import Source
from tests.include.ingestion.reading.rows_of import LOOSE, PLAIN, Pieces, limited, parquet, read

LINES = b'{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n'
TABLE = b"id,text\n1,a\n2,b\n"
PARQUET = parquet(pa.table({"id": ["1", "2"], "text": ["a", "b"]}))
TEXTS = Source.model_validate({"prefix": "in/", "format": "text", "fields": {"body": {"title": "Text"}}})
IMAGES = Source.model_validate(
    {"prefix": "in/", "bucket": "pictures", "format": "image", "fields": {"image": {"title": "Picture"}}}
)


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


@pytest.mark.parametrize("most", [1, 7, 2**30], ids=lambda most: f"{most} at a time")
@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("a.jsonl", LINES),
        ("a.ndjson", LINES.rstrip(b"\n")),
        ("a.JSONL", LINES.replace(b"\n", b"\r\n")),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES),
        ("a.jsonl.gz", gzip.compress(LINES)),
        ("a.jsonl.GZ", gzip.compress(LINES[:25]) + gzip.compress(LINES[25:])),
        ("a.jsonl.zst", zstd(LINES)),
        ("a.jsonl.zst", zstd(LINES[:25]) + zstd(LINES[25:])),
        ("a.csv", TABLE),
        ("a.csv", b"\xef\xbb\xbf" + TABLE),
        ("a.csv", TABLE.replace(b"\n", b"\r\n")),
        ("a.csv", TABLE.replace(b"\n", b"\r")),
        ("a.csv.gz", gzip.compress(TABLE)),
        ("a.csv.zst", zstd(TABLE)),
        ("a.parquet", PARQUET),
        ("a.parquet.gz", gzip.compress(PARQUET)),
        ("a.parquet.zst", zstd(PARQUET)),
    ],
)
def test_every_format_gives_the_same_rows(key: str, data: bytes, most: int):
    rows = read(key, data, PLAIN, most=most)
    assert rows.all == [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]
    assert rows.numbers == [0, 1]
    assert rows.bad == []
    assert rows.headers == {b"id,text" if ".csv" in key else None}


@pytest.mark.parametrize(
    ("key", "data", "check", "sentence"),
    [
        ("a.jsonl", b"", "object_empty", r"object 'a.jsonl' is empty \(0 bytes\)\. Upload it again"),
        ("a.xlsx", b"x", "object_format", r"'a.xlsx' has an ending we do not read\. Use \.jsonl"),
        ("jsonl", b"x", "object_format", r"'jsonl' has an ending"),
        ("a.gz", b"x", "object_format", r"'a.gz' has an ending"),
        ("a.jsonl.gz.gz", b"x", "object_format", r"'a.jsonl.gz.gz' has an ending"),
        ("x.jsonl/a", b"x", "object_format", r"'x.jsonl/a' has an ending"),
        ("a.txt", b"x", "object_format", r"source.format in the project file \('rows'\)"),
        ("a.jsonl", LINES.decode().encode("utf-16"), "object_encoding", r"'a.jsonl' is not UTF-8.*like UTF-16"),
        ("a.csv", TABLE.decode().encode("utf-16-le"), "object_encoding", r"'a.csv' is not UTF-8"),
        ("a.jsonl.gz", gzip.compress(LINES)[:-9], "object_truncated", r"'a.jsonl.gz' is damaged or cut short"),
        ("a.jsonl.gz", LINES, "object_truncated", r"'a.jsonl.gz' is damaged or cut short.*Not a gzipped file"),
        ("a.jsonl.zst", zstd(LINES)[:-5], "object_truncated", r"damaged or cut short"),
        ("a.jsonl", gzip.compress(LINES), "object_format", r"it begins like a gzip file"),
        ("a.csv", PARQUET, "object_format", r"it begins like a Parquet file"),
        ("a.csv", b"id,id,text\n", "object_columns", r"has columns \['id'\] more than once"),
        (
            "a.csv",
            b"id,body\n1,a\n",
            "object_columns",
            r"'a.csv' lacks the columns \['text'\]; it has \['id', 'body'\]",
        ),
        ("a.csv", b"\n", "object_columns", r"lacks the columns \['text', 'id'\]"),
        ("a.csv", b'"id,text\n', "object_columns", r"has no readable header"),
        ("a.csv", b"id,\xff\n", "object_columns", r"has no readable header \(it is not UTF-8\)"),
        ("a.parquet", parquet(pa.table({"id": ["1"], "n": [1]})), "object_columns", r"lacks the columns \['text'\]"),
        ("a.parquet", b"PAR1 no", "object_truncated", r"'a.parquet' is damaged or no Parquet file"),
        ("a.parquet", PARQUET[:-20], "object_truncated", r"damaged"),
    ],
)
def test_an_object_that_is_not_what_it_claims_is_refused_whole(key: str, data: bytes, check: str, sentence: str):
    with pytest.raises(RejectedObjectError, match=sentence) as caught:
        read(key, data, PLAIN)
    assert caught.value.check == check
    assert caught.value.remedy.endswith(".")


def test_an_object_without_rows_is_no_error():
    for key, data in [
        ("a.jsonl", b"\n"),
        ("a.jsonl.gz", gzip.compress(b"")),
        ("a.jsonl.zst", zstd(b"")),
        ("a.csv", b"id,text\n"),
        ("a.csv", b"id,text"),
        ("a.parquet", parquet(pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}))),
    ]:
        rows = read(key, data, PLAIN)
        assert (rows.values, rows.bad) == ([], []), key


# ---------------------------------------------------------------- packing


def test_what_is_packed_is_told_by_the_ending():
    assert is_packed("in/a.jsonl.gz")
    assert is_packed("in/a.parquet.ZST")
    assert not is_packed("in/a.jsonl")
    assert not is_packed("in.gz/a.csv")


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gz", "zst"])
def test_a_bomb_is_refused_before_it_unpacks(pack, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "FREE_UNPACKED_BYTES", 1000)
    bomb = pack(b"\n" * 50_000_000)
    key = "a.jsonl.gz" if pack is gzip.compress else "a.jsonl.zst"
    with pytest.raises(RejectedObjectError, match=rf"unpacks to more than {200 * len(bomb):,} bytes\. Split it"):
        read(key, bomb)


def test_an_object_above_the_limit_is_refused():
    source = limited(LOOSE, max_object_bytes=1000)
    with pytest.raises(RejectedObjectError, match="has 1,040 bytes, more than the 1,000 allowed"):
        read("a.jsonl", b'{"a": 1}    \n' * 80, source)
    packed = gzip.compress(b'{"a": 1}    \n' * 80)
    with pytest.raises(RejectedObjectError, match="unpacks to more than 1,000 bytes"):
        read("a.jsonl.gz", packed, source)


@pytest.mark.parametrize("key", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.csv", "a.parquet", "a.parquet.zst"])
@pytest.mark.parametrize("error", [StorageError("the store is away", remedy="Retry."), OSError("reset by peer")])
def test_errors_of_the_stream_are_not_the_objects_fault(key: str, error: Exception):
    data = b"".join(b'{"a": "%s"}\n' % digest(str(n)).encode() for n in range(1000))
    packed = gzip.compress(data) if key.endswith(".gz") else zstd(data) if key.endswith(".zst") else data

    class Cut(Pieces):
        def read(self, size: int, /) -> bytes:
            if self._data.tell() > 400:
                raise error
            return super().read(size)

    with pytest.raises(type(error)) as caught:
        list(read_blocks(key, Cut(packed, 300), LOOSE, len(packed)))
    assert caught.value is error


def test_rows_before_a_cut_may_have_been_given_out():
    lines = "".join(f'{{"id": "{n}", "text": "{digest(n)}"}}\n' for n in range(250_000)).encode()
    blocks = read_blocks("a.jsonl.gz", Pieces(gzip.compress(lines, 1)[:-50]), PLAIN, 10_000_000)
    assert len(next(blocks).numbers) > 0
    with pytest.raises(RejectedObjectError):
        list(blocks)


WORDS = b"some words, and more, " * 40


class Endless:
    """A long object that is nowhere as a whole: a head, then the same lines over and over."""

    def __init__(self, head: bytes, lines: bytes, times: int) -> None:
        self.size_bytes = len(head) + len(lines) * times
        self._parts = chain([head], repeat(lines, times))
        self._left = b""

    def read(self, size: int, /) -> bytes:
        self._left = self._left or next(self._parts, b"")
        part, self._left = self._left[:size], self._left[size:]
        return part


@pytest.mark.parametrize(
    ("key", "head", "lines"),
    [
        ("a.jsonl", b"", b'{"id": "1", "text": "%s", "x": 5}\n' % WORDS * 1500),
        ("a.jsonl", b"", b'{"id": "1", "text": "%s", "x": 5}\nno row\n' % WORDS * 1500),
        ("a.csv", b"id,text,x\n", b"1,%s,5\n" % WORDS.replace(b",", b"") * 1500),
        ("a.csv", b"id,text,x\n", b'1,"%s",5\n' % WORDS * 1500),
    ],
    ids=["lines", "lines and bad ones", "cells", "quoted cells"],
)
def test_memory_does_not_grow_with_the_object(key: str, head: bytes, lines: bytes):
    def peak_bytes(times: int) -> int:
        arrow = pa.default_memory_pool()
        counting = pa.proxy_memory_pool(arrow)
        pa.set_memory_pool(counting)
        tracemalloc.start()
        try:
            stream = Endless(head, lines, times)
            rows = sum(len(one.numbers) + len(one.bad) for one in read_blocks(key, stream, PLAIN, stream.size_bytes))
            assert rows == times * lines.count(b"\n")
            return int(tracemalloc.get_traced_memory()[1] + counting.max_memory())
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(arrow)

    assert peak_bytes(60) < 1.2 * peak_bytes(20)


# ---------------------------------------------------------------- JSON Lines, row by row


@pytest.mark.parametrize(
    ("line", "check", "reason"),
    [
        (b'{"id": "1", "te', "json_object", "line is not a JSON object (Input data was truncated)"),
        (b"[1, 2]", "json_object", "Expected `object`, got `array`"),
        (b"null", "json_object", "Expected `object`, got `null`"),
        (b'{"a": NaN}', "json_object", "JSON is malformed"),
        (b'{"a": Infinity}', "json_object", "JSON is malformed"),
        (b'{"a": 1e999}', "json_object", "out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "json_object", "out of range"),
        (b'{"a": "\xff\xfe"}', "utf8", "line is not valid UTF-8"),
        (b'{"a": "\\ud800"}', "json_object", "line is not a JSON object"),
        (b'{"a": ' + b"[" * 100_000 + b"}", "json_object", "line is not a JSON object"),
        (b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", "row_nesting", "line nests more than 64 levels"),
        (b'{"a": 1} {"b": 2}', "json_object", "trailing characters"),
        (b'{"a": 1, "a": 1}', "json_object", "it has 'a' twice"),
        (b'{"a": 1, "\\u0061": 2}', "json_object", "it has 'a' twice"),
        (b'{"a": {"b": [{"c": 1, "c": 2}]}}', "json_object", "it has 'c' twice"),
        (b'{"a": 1}\0', "json_object", "trailing characters"),
        (b"{" + b",".join(b'"%d":1' % n for n in range(10_001)) + b"}", "row_columns", "line has 10,001 columns"),
    ],
)
def test_a_bad_line_costs_only_itself_and_keeps_its_bytes(line: bytes, check: str, reason: str):
    rows = read("a.jsonl", LINES[:25] + line + b"\n\n" + LINES[25:])
    assert rows.numbers == [0, 3]
    [(number, said, raw)] = rows.reasons
    assert (number, raw, rows.checks) == (1, line, [check])
    assert reason in said


@pytest.mark.parametrize(
    "line", [b'{"a": ' + b"[" * 63 + b"]" * 63 + b"}", b'{"a": ":\\":", "b": {"a": ":"}}', b'  {"a" : 1}\t', b"{}"]
)
def test_lines_that_only_look_odd_are_rows(line: bytes):
    rows = read("a.jsonl", LINES + line + b"\n")
    assert (rows.numbers, rows.bad) == ([0, 1, 2], [])
    assert rows.raw[2] == line


@pytest.mark.parametrize("key", ["a.jsonl", "a.csv"])
def test_a_row_above_the_limit_is_cut_and_the_others_stay(key: str):
    source = limited(LOOSE, max_row_bytes=200_000)
    long = b'{"text": "' + b"x" * 300_000 + b'"}'
    good = b'{"text": "y"}'
    if key == "a.csv":
        long, good = long[10:-2], b"y"
    lines = [b"text"] * (key == "a.csv") + [good, long, good, long]
    rows = read(key, b"\n".join(lines), source, most=1000)
    assert rows.numbers == [0, 2]
    assert rows.raw == [good, good]
    assert rows.checks == ["row_size", "row_size"]
    for (number, reason, raw), expected in zip(rows.reasons, [1, 3], strict=True):
        assert number == expected
        assert raw == long[:65536]
        assert reason == (
            f"row has {len(long):,} bytes, more than the 200,000 bytes allowed; raw is cut after its first 65,536 bytes"
        )


# ---------------------------------------------------------------- CSV, row by row


def test_csv_rows_are_rejected_one_by_one():
    data = b'id,text\n1,a\n2,b,c\n3\n4,"two\nlines"\n5,\xff\n6,"x"y\n\n7,\n'
    rows = read("a.csv", data, PLAIN)
    assert rows.all == [{"id": "1", "text": "a"}, {"id": "4", "text": "two\nlines"}, {"id": "7"}]
    assert rows.numbers == [0, 3, 6]
    assert rows.raw == [b"1,a", b'4,"two\nlines"', b"7,"]
    assert rows.reasons == [
        (1, "row has too many columns: 3, the header has 2", b"2,b,c"),
        (2, "row has too few columns: 1, the header has 2", b"3"),
        (4, "row is not valid UTF-8 (invalid start byte)", b"5,\xff"),
        (5, "row is not readable as CSV (',' expected after '\"')", b'6,"x"y'),
    ]


def test_an_unclosed_quote_is_one_bad_row_with_all_it_swallowed():
    rows = read("a.csv", b'id,text\n1,a\n2,"b\n3,c\n', PLAIN)
    assert rows.all == [{"id": "1", "text": "a"}]
    assert rows.reasons == [(1, "row is not readable as CSV (unexpected end of data)", b'2,"b\n3,c')]


def test_an_unclosed_quote_swallows_no_more_than_a_row_may_have():
    source = limited(PLAIN, max_row_bytes=10_000)
    lines = [b"%d,x" % n for n in range(5000)]
    lines[100] = b'100,"x'
    rows = read("a.csv", b"id,text\n" + b"\n".join(lines), source)
    [(number, reason, raw)] = rows.reasons
    assert number == 100
    assert reason == "row goes on, more than the 10,000 bytes allowed; raw is cut after its first 9,999 bytes"
    swallowed = raw.count(b"\n") + 1
    assert len(rows.values) + swallowed == 5000
    assert rows.numbers == [*range(100), *range(101, 5001 - swallowed)]


@pytest.mark.parametrize("column_count", [10_001, 1_000_000])
def test_a_header_of_too_many_columns_is_refused(column_count: int):
    with pytest.raises(RejectedObjectError, match="more than 10,000 columns"):
        read("a.csv", b",".join(b"c%d" % n for n in range(column_count)) + b"\n")


# ---------------------------------------------------------------- Parquet


def test_a_parquet_file_that_unpacks_too_large_is_refused():
    data = parquet(pa.table({"n": [n // 50 for n in range(50_000)]}), use_dictionary=False, compression="zstd")
    with pytest.raises(RejectedObjectError, match="unpacks to 400,.* bytes, more than 200,000 bytes"):
        read("a.parquet", data, limited(LOOSE, max_object_bytes=200_000))


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
    rows = read("a.parquet", parquet(table))
    expected = {
        "at": "2026-01-01T00:00:00+00:00",
        "day": "2026-01-01",
        "price": "1.50",
        "blob": "AP8=",
        "nested": {"a": [1, None]},
        "map": [["k", 1]],
    }
    assert rows.all == [expected]
    assert json.loads(rows.raw[0]) == {**expected, "nan": None}
    assert rows.new_columns == set(expected)


def test_parquet_text_that_is_not_utf8_refuses_the_object():
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    with pytest.raises(RejectedObjectError, match=r"damaged or no Parquet file.*UTF8"):
        read("a.parquet", parquet(pa.table({"text": broken})))


# ---------------------------------------------------------------- objects that are one record


@pytest.mark.parametrize("key", ["in/a b.txt", "in/a.HTML", "in/a.eml.gz"])
def test_a_text_object_is_one_record(key: str):
    content = "Grüße\r\n\0\n".encode()
    data = gzip.compress(content) if key.endswith(".gz") else b"\xef\xbb\xbf" + content
    rows = read(key, data, TEXTS, most=3)
    assert rows.values == [{"key": key, "body": "Grüße\r\n\0\n"}]
    assert (rows.numbers, rows.raw, rows.extras) == ([0], [content], [None])


def test_a_text_object_that_cannot_be_read_is_a_bad_row():
    assert read("a.txt", b"a\xff", TEXTS).reasons == [(0, "text is not valid UTF-8 (invalid start byte)", b"a\xff")]
    rows = read("a.txt", b"x" * 3_000_000, limited(TEXTS, max_row_bytes=100_000))
    assert (rows.checks, rows.bad[0].raw) == (["row_size"], b"x" * 65536)
    with pytest.raises(RejectedObjectError, match=r"Use \.txt.*correct source.format in the project file \('text'\)"):
        read("a.jsonl", LINES, TEXTS)


@pytest.mark.parametrize(
    ("key", "head"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n"),
        ("a.jpg", b"\xff\xd8\xff\xe0"),
        ("a.JPEG", b"\xff\xd8\xff\xdb"),
        ("a.webp", b"RIFF\0\0\0\0WEBP"),
        ("a.gif", b"GIF89a"),
        ("a.tif", b"II*\0"),
        ("a.tiff", b"MM\0*"),
    ],
)
def test_an_image_object_is_one_record_that_refers_to_it(key: str, head: bytes):
    data = head + bytes(100)
    [block] = read_blocks(key, Pieces(data, 5), IMAGES, len(data), version_id="v/1")
    assert block.columns.to_pylist() == [{"key": key, "image": f"s3://pictures/{key}?versionId=v%2F1"}]
    assert block.raw(0) == f"s3://pictures/{key}?versionId=v%2F1".encode()
    with pytest.raises(RejectedObjectError, match="is no .* image; it begins with"):
        read(key, b"<html>", IMAGES)


def test_an_image_under_the_ending_of_another_is_refused():
    with pytest.raises(RejectedObjectError, match="is no png image; its first bytes are those of jpg"):
        read("a.png", b"\xff\xd8\xff\xe0" + bytes(50), IMAGES)
    with pytest.raises(RejectedObjectError, match="has an ending we do not read"):
        read("a.png.gz", gzip.compress(b"\x89PNG\r\n\x1a\n"), IMAGES)


def test_a_reference_is_a_uri():
    assert object_uri("b", "in/a b?%ü.png") == "s3://b/in/a%20b%3F%25%C3%BC.png"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fields": {"a": {"title": "A"}, "b": {"title": "B"}}}, "needs one field"),
        ({"fields": {"key": {"title": "A"}}}, "needs one field, and not 'key', which is the id"),
        ({"metadata": {"lang": {"title": "L"}}}, "has no columns"),
        ({"consent_column": "ok"}, "has no columns"),
    ],
)
def test_a_project_of_whole_objects_cannot_have_columns(changes: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        Source.model_validate({**TEXTS.model_dump(), **changes})
