"""Hostile input: objects that are broken, misleading or far too large, each with the fate it must have.

Nothing is stored: every case makes its bytes when it is asked to. ``tests/include/ingestion/test_corpus.py`` runs all
of them through the readers; they can as well be put into a bucket and ingested.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MIB = 1024**2
ROW_LIMIT = 8 * MIB  # the default of source.limits.max_row_bytes
BOM = b"\xef\xbb\xbf"

# The 'source' section of a project for each format, without bucket and prefix.
SOURCES: dict[str, dict[str, Any]] = {
    "rows": {
        "id_column": "id",
        "fields": {"text": {"title": "Text"}, "note": {"title": "Note", "required": False}},
        "metadata": {"age": {"title": "Age", "type": "integer"}, "score": {"title": "Score", "type": "float"}},
    },
    "text": {"format": "text", "fields": {"text": {"title": "Text"}}},
    "image": {"format": "image", "fields": {"image": {"title": "Picture"}}},
}


@dataclass(frozen=True)
class Fate:
    """What must become of an object.

    :param rejected: the check by which the object as a whole is refused; then nothing else of it counts.
    :param good: rows that become records, if the contract of the project has nothing against them.
    :param unreadable: rows that go to quarantine because their bytes are no row, by check.
    :param misfit: rows that can be read and go to quarantine for what their columns hold, by check.
    """

    good: int = 0
    unreadable: Mapping[str, int] = field(default_factory=dict)
    misfit: Mapping[str, int] = field(default_factory=dict)
    rejected: str | None = None

    @property
    def rows(self) -> int:
        """Rows of the object: every one is good, unreadable or misfit."""
        return self.good + sum(self.unreadable.values()) + sum(self.misfit.values())


@dataclass(frozen=True)
class Case:
    """One hostile object.

    :param key: with the ending that decides how it is read; no prefix.
    :param data: makes its bytes.
    :param format: which of ``SOURCES`` it is meant for.
    :param big: whether reading it carelessly takes a lot of memory.
    """

    name: str
    key: str
    data: Callable[[], bytes]
    fate: Fate
    format: str = "rows"
    big: bool = False


CASES: list[Case] = []


def _case(name: str, key: str, data: bytes | Callable[[], bytes], fate: Fate, **more: Any) -> None:
    CASES.append(Case(name, key, data if callable(data) else partial(bytes, data), fate, **more))


def _rejected(check: str) -> Fate:
    return Fate(rejected=check)


def _good(rows: int) -> Fate:
    return Fate(good=rows)


def _line(number: int, **more: Any) -> bytes:
    return json.dumps({"id": str(number), "text": f"text {number}", **more}).encode()


FIRST, SECOND = _line(1), _line(2)
LINES = FIRST + b"\n" + SECOND + b"\n"
TABLE = b"id,text\n1,a\n2,b\n"


def _among(*lines: bytes) -> bytes:
    """The lines between two good ones."""
    return b"\n".join([FIRST, *lines, SECOND]) + b"\n"


def _with(members: bytes) -> bytes:
    """A good line with more members."""
    return b'{"id":"3","text":"c",' + members + b"}"


def _parquet(columns: Mapping[str, Any] | pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(dict(columns)), sink, **options)
    return sink.getvalue()


def _rows(count: int, **more: Any) -> dict[str, Any]:
    return {"id": [str(n) for n in range(count)], "text": ["a"] * count, **more}


def _zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


# ---------------------------------------------------------------- JSON Lines: what is left alone


def _json_that_is_good() -> None:
    for name, line in {
        "escaped NUL in a value": _with(b'"note":"a\\u0000b"'),
        "escaped NUL in a key": _with(b'"a\\u0000":1'),
        "surrogate pair as escapes": _with(b'"note":"\\ud83d\\ude00"'),
        "emoji, right-to-left marks, zero-width joiners": _with('"note":"👩‍👩‍👧 \u202eabc\u202c \ufeff"'.encode()),
        "unicode line separators in a value": _with('"note":"a\u2028b\u2029c\u0085d"'.encode()),
        "empty key": _with(b'"":1'),
        "key with quotes, newlines, backslashes": _with(b'"a\\"b\\nc\\\\":"x"'),
        "keys named like internals": _with(
            b'"record_id":"x","project":"y","shard":"z","revision":9,"fields_json":"{}","__proto__":{},"constructor":1'
        ),
        "keys that look like patterns": _with(b'"^.*$":1,"*":2,"$ref":"#"'),
        "key of one megabyte": _with(b'"' + b"k" * MIB + b'":1'),
        "minus zero": _with(b'"age":-0,"score":-0.0,"x":-0,"y":-0.0'),
        "number too small to tell from zero": _with(b'"score":1e-999,"x":1e-999'),
        "whole number beyond 64 bits in an unknown column": _with(b'"x":123456789012345678901234567890'),
        "whole numbers and floats mixed": _with(b'"score":5,"x":5.0') + b"\n" + _with(b'"score":5.5,"x":5'),
        "64 levels of nesting": _with(b'"x":' + b"[" * 63 + b"]" * 63),
        "text that is a nested object": b'{"id":"3","text":{"a":[1,{"b":null}]}}',
        "text and id that are numbers": b'{"id":3,"text":1.5}',
        "spaces around everything": b'  \t{ "id" :\t"3" , "text":"c" }  \r',
        "last of ten thousand columns": _with(b",".join(b'"c%d":%d' % (n, n) for n in range(9_997))),
    }.items():
        _case(f"json: {name}", "a.jsonl", _among(line), _good(3 + line.count(b"\n")))
    _case("json: blank lines of all kinds", "a.jsonl", b"\n\r\n \n\t\n" + LINES + b"\n\n", _good(2))
    _case("json: only blank lines", "a.jsonl", b"\n\r\n  \n", _good(0))
    _case("json: only a byte order mark", "a.jsonl", BOM, _good(0))
    _case("json: byte order mark first", "a.jsonl", BOM + LINES, _good(2))
    _case("json: no line end at the end", "a.jsonl", LINES.rstrip(), _good(2))
    _case("json: mixed line ends", "a.jsonl", FIRST + b"\r\n" + SECOND + b"\n" + _line(3) + b"\r\r\n", _good(3))
    _case("json: key in capitals with odd characters", "Ü %2F..~ a+b.JSONL", LINES, _good(2))
    _case("json: each line brings a new column", "a.jsonl", _new_columns, _good(3000))
    _case("json: laughs, 390,625 lists in a row", "a.jsonl", partial(_laughs, 8), _good(3), big=True)
    _case("json: cell ends exactly at the row limit", "a.jsonl", partial(_sized, ROW_LIMIT), _good(3), big=True)
    _case("json: characters cut at every read", "a.jsonl", _cut_characters, _good(4), big=True)
    _case("json: line ends cut at every read", "a.jsonl", partial(_cut_line_ends, b"\r\n"), _good(9), big=True)


def _new_columns() -> bytes:
    return b"".join(_line(n, **{f"column_{n}": n}) + b"\n" for n in range(3000))


def _laughs(levels: int) -> bytes:
    value = b"0"
    for _ in range(levels):
        value = b"[" + b",".join([value] * 5) + b"]"
    return _among(_with(b'"x":' + value))


def _sized(size: int) -> bytes:
    """Good lines, and one of exactly ``size`` bytes."""
    empty = b'{"id":"3","text":""}'
    return _among(empty.replace(b'""', b'"' + b"x" * (size - len(empty)) + b'"'))


def _cut_characters() -> bytes:
    """Lines of four-byte characters, shifted so that reads of any even size cut one."""
    return b"".join(b'{"id":"%d","text":"%s"}\n' % (n, b"x" * n + "😀".encode() * (MIB * 3 // 8)) for n in range(4))


def _cut_line_ends(end: bytes) -> bytes:
    """Lines whose ends fall on, before and after multiples of a mebibyte."""
    lines, size = [], 0
    for n in range(9):
        head = b'{"id":"%d","text":"' % n
        fill = (n + 1) * MIB // 2 - size - len(head) - 2 - len(end) + n % 3
        lines.append(head + b"x" * fill + b'"}' + end)
        size += len(lines[-1])
    return b"".join(lines)


# ---------------------------------------------------------------- JSON Lines: bad rows


def _json_rows_that_are_bad() -> None:
    for name, line in {
        "null": b"null",
        "array": b'["id","text"]',
        "number": b"1e5",
        "string": b'"id"',
        "true": b"true",
        "two objects on a line": FIRST + SECOND,
        "line cut short": b'{"id":"3","te',
        "string without an end": b'{"id":"3","text":"c',
        "comma at the end": b'{"id":"3","text":"c",}',
        "single quotes": b"{'id':'3','text':'c'}",
        "comment": b'{"id":"3","text":"c"} // three',
        "raw NUL in a value": b'{"id":"3","text":"a\0b"}',
        "raw NUL after the object": b'{"id":"3","text":"c"}\0',
        "raw tab in a value": b'{"id":"3","text":"a\tb"}',
        "escape that is none": b'{"id":"3","text":"\\x41"}',
        "lone high surrogate": b'{"id":"3","text":"\\ud800"}',
        "lone low surrogate": b'{"id":"3","text":"\\udc00x"}',
        "surrogates in the wrong order": b'{"id":"3","text":"\\ude00\\ud83d"}',
        "lone surrogate in a key": _with(b'"\\ud800":1'),
        "key that comes twice": b'{"id":"3","text":"c","text":"d"}',
        "key that comes twice, once as escapes": b'{"id":"3","text":"c","te\\u0078t":"d"}',
        "unknown key that comes twice": _with(b'"x":1,"x":1'),
        "nested key that comes twice": _with(b'"x":[{"y":{"z":1,"z":2}}]'),
        "NaN in a known column": _with(b'"score":NaN'),
        "NaN in an unknown column": _with(b'"x":NaN'),
        "infinity": _with(b'"score":Infinity'),
        "minus infinity": _with(b'"x":-Infinity'),
        "number beyond all floats": _with(b'"score":1e999'),
        "number of five thousand digits": _with(b'"x":' + b"9" * 5000),
        "number with a leading zero": _with(b'"age":007'),
        "number with a plus": _with(b'"age":+7'),
        "number with a bare dot": _with(b'"score":.5'),
        "hexadecimal number": _with(b'"age":0xff'),
        "a hundred thousand brackets": _with(b'"x":' + b"[" * 100_000),
        "a hundred thousand levels of objects": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
        "byte order mark in the middle": BOM + _line(3),
        "form feed in front": b"\x0c" + _line(3),
        "two objects parted by a lone carriage return": _line(3) + b"\r" + _line(4),
    }.items():
        _case(f"json: {name}", "a.jsonl", _among(line), Fate(2, {"json_object": 1}))
    for name, line in {
        "Latin-1": "{'id':'3','text':'Grüße'}".replace("'", '"').encode("latin-1"),
        "overlong UTF-8": b'{"id":"3","text":"\xc0\xaf"}',
        "overlong NUL": b'{"id":"3","text":"\xc0\x80"}',
        "surrogate as UTF-8": b'{"id":"3","text":"\xed\xa0\x80"}',
        "code point beyond Unicode": b'{"id":"3","text":"\xf4\x90\x80\x80"}',
        "character cut short": b'{"id":"3","text":"\xe2\x82"}',
        "bytes that are never UTF-8": b'{"id":"3","text":"\xfe\xff"}',
    }.items():
        _case(f"json: {name}", "a.jsonl", _among(line), Fate(2, {"utf8": 1}))
    _case(
        "json: 65 levels of nesting",
        "a.jsonl",
        _among(_with(b'"x":' + b"[" * 64 + b"]" * 64)),
        Fate(2, {"row_nesting": 1}),
    )
    _case(
        "json: 10,001 columns in a row",
        "a.jsonl",
        _among(b"{" + b",".join(b'"c%d":1' % n for n in range(10_001)) + b"}"),
        Fate(2, {"row_columns": 1}),
    )
    _case("json: field of ten megabytes", "a.jsonl", partial(_sized, 10 * MIB), Fate(2, {"row_size": 1}), big=True)
    _case(
        "json: one byte above the row limit",
        "a.jsonl",
        partial(_sized, ROW_LIMIT + 1),
        Fate(2, {"row_size": 1}),
        big=True,
    )
    _case(
        "json: a hundred megabytes without a line end",
        "a.jsonl",
        partial(bytes, b"x" * 100 * MIB),
        Fate(0, {"row_size": 1}),
        big=True,
    )
    _case("json: null on the first line", "a.jsonl", b"null\n" + LINES, Fate(2, {"json_object": 1}))
    _case("json: nothing but null", "a.jsonl", b"null\n" * 5000, Fate(0, {"json_object": 5000}))
    _case("json: null on every other line", "a.jsonl", (FIRST + b"\nnull\n") * 500, Fate(500, {"json_object": 500}))
    _case("json: an object on two lines", "a.jsonl", _among(b'{"id":"3",', b'"text":"c"}'), Fate(2, {"json_object": 2}))
    _case(
        "json: an object on two lines makes up for two on a line",
        "a.jsonl",
        _among(b'{"id":"3",', b'"text":"c"}', FIRST + FIRST),
        Fate(2, {"json_object": 3}),
    )
    _case("json: byte order mark twice", "a.jsonl", BOM + BOM + LINES, Fate(1, {"json_object": 1}))
    _case("json: only carriage returns end lines", "a.jsonl", LINES.replace(b"\n", b"\r"), Fate(0, {"json_object": 1}))
    _case(
        "json: indented over many lines",
        "a.jsonl",
        json.dumps([{"id": "1"}], indent=1).encode(),
        Fate(0, {"json_object": 5}),
    )
    _case("json: all in one array", "a.jsonl", b"[" + FIRST + b"," + SECOND + b"]", Fate(0, {"json_object": 1}))
    _case(
        "json: a duplicate key in ten thousand plain lines",
        "a.jsonl",
        lambda: b"\n".join([FIRST] * 10_000 + [b'{"id":"1","id":"1","text":"a"}'] + [FIRST] * 10_000),
        Fate(20_000, {"json_object": 1}),
    )
    for name, line, check in [
        ("id is missing", b'{"text":"c"}', "required_column"),
        ("id is null", b'{"id":null,"text":"c"}', "required_column"),
        ("text is blank", b'{"id":"3","text":" \\t\\n"}', "required_column"),
        ("object without members", b"{}", "required_column"),
        ("age is no number", _with(b'"age":"old"'), "metadata_integer"),
        ("age is a list", _with(b'"age":[41]'), "metadata_integer"),
        ("age beyond 64 bits", _with(b'"age":9223372036854775808'), "metadata_integer"),
        ("age of one digit in another script", _with('"age":"٤١"'.encode()), "metadata_integer"),
        ("score is true", _with(b'"score":true'), "metadata_float"),
        ("score is the text NaN", _with(b'"score":"NaN"'), "metadata_float"),
        ("score has an underscore", _with(b'"score":"1_0.5"'), "metadata_float"),
    ]:
        _case(f"json: {name}", "a.jsonl", _among(line), Fate(2, misfit={check: 1}))


# ---------------------------------------------------------------- wrong name, wrong encoding


def _misleading() -> None:
    _case("object of no bytes", "a.jsonl", b"", _rejected("object_empty"))
    _case("ending that is none", "a", LINES, _rejected("object_format"))
    _case("ending in the folder only", "a.jsonl/part-0", LINES, _rejected("object_format"))
    _case("ending we do not read", "a.xlsx", b"PK\x03\x04", _rejected("object_format"))
    _case("packed twice by its name", "a.jsonl.gz.gz", gzip.compress(LINES), _rejected("object_format"))
    _case("packed twice", "a.jsonl.gz", gzip.compress(gzip.compress(LINES)), _rejected("object_format"))
    _case("CSV named jsonl", "a.jsonl", TABLE, Fate(0, {"json_object": 3}))
    _case("Parquet named jsonl", "a.jsonl", partial(_parquet, _rows(2)), _rejected("object_format"))
    _case("gzip named jsonl", "a.jsonl", gzip.compress(LINES), _rejected("object_format"))
    _case("zstd named csv", "a.csv", partial(_zstd, TABLE), _rejected("object_format"))
    _case("PNG named jsonl", "a.jsonl", b"\x89PNG\r\n\x1a\n" + bytes(100), _rejected("object_encoding"))
    _case("HTML named jsonl", "a.jsonl", b"<html>\n<body>404</body>\n</html>", Fate(0, {"json_object": 3}))
    _case("JSON Lines named csv", "a.csv", LINES, _rejected("object_columns"))
    _case("Parquet named csv", "a.csv", partial(_parquet, _rows(2)), _rejected("object_format"))
    _case("CSV named parquet", "a.parquet", TABLE, _rejected("object_truncated"))
    _case("plain text named gz", "a.jsonl.gz", LINES, _rejected("object_truncated"))
    _case("plain text named zst", "a.jsonl.zst", LINES, _rejected("object_truncated"))
    _case("gzip named zst", "a.jsonl.zst", gzip.compress(LINES), _rejected("object_truncated"))
    _case("nothing but NUL", "a.jsonl", bytes(5000), _rejected("object_encoding"))
    for code in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"):
        _case(f"JSON Lines in {code}", "a.jsonl", LINES.decode().encode(code), _rejected("object_encoding"))
        _case(f"CSV in {code}", "a.csv", TABLE.decode().encode(code), _rejected("object_encoding"))


# ---------------------------------------------------------------- packing


def _packed() -> None:
    packed = gzip.compress(LINES)
    _case("gzip: bomb of line ends", "a.jsonl.gz", partial(_gzip_bomb, b"\n"), _rejected("object_size"), big=True)
    _case("gzip: bomb of one line", "a.jsonl.gz", partial(_gzip_bomb, b" "), _rejected("object_size"), big=True)
    _case("gzip: bomb of CSV", "a.csv.gz", partial(_gzip_bomb, b'"'), _rejected("object_size"), big=True)
    _case("zstd: bomb", "a.jsonl.zst", lambda: _zstd(b"\n" * 256 * MIB), _rejected("object_size"), big=True)
    _case("gzip: bomb around Parquet", "a.parquet.gz", partial(_gzip_bomb, b"\0"), _rejected("object_size"), big=True)
    _case("gzip: cut short", "a.jsonl.gz", packed[:-9], _rejected("object_truncated"))
    _case("gzip: cut in the header", "a.jsonl.gz", packed[:5], _rejected("object_truncated"))
    _case("gzip: wrong check sum", "a.jsonl.gz", packed[:-8] + bytes(4) + packed[-4:], _rejected("object_truncated"))
    _case("gzip: wrong length", "a.jsonl.gz", packed[:-4] + b"\x01\0\0\0", _rejected("object_truncated"))
    _case(
        "gzip: a bit flipped",
        "a.jsonl.gz",
        packed[:20] + bytes([packed[20] ^ 255]) + packed[21:],
        _rejected("object_truncated"),
    )
    _case("gzip: garbage after the end", "a.jsonl.gz", packed + b"garbage", _rejected("object_truncated"))
    _case("gzip: zeros after the end", "a.jsonl.gz", packed + bytes(512), _good(2))
    _case(
        "gzip: three members, one of them empty",
        "a.jsonl.gz",
        gzip.compress(FIRST) + gzip.compress(b"") + gzip.compress(b"\n" + SECOND),
        _good(2),
    )
    _case("gzip: second member cut short", "a.jsonl.gz", packed + packed[:-6], _rejected("object_truncated"))
    _case("gzip: header with name, comment and extra", "a.jsonl.gz", partial(_gzip_header, LINES), _good(2))
    _case("gzip: nothing in it", "a.jsonl.gz", gzip.compress(b""), _good(0))
    _case("zstd: cut short", "a.jsonl.zst", lambda: _zstd(LINES)[:-3], _rejected("object_truncated"))
    _case(
        "zstd: cut short after good rows",
        "a.jsonl.zst",
        lambda: _zstd(LINES) + _zstd(LINES)[:9],
        _rejected("object_truncated"),
    )
    _case(
        "zstd: garbage after the end", "a.jsonl.zst", lambda: _zstd(LINES) + b"garbage!", _rejected("object_truncated")
    )
    _case("zstd: two frames", "a.jsonl.zst", lambda: _zstd(FIRST + b"\n") + _zstd(SECOND), _good(2))
    skippable = b"\x50\x2a\x4d\x18" + struct.pack("<I", 5) + b"hello"
    _case("zstd: skippable frames around", "a.jsonl.zst", lambda: skippable + _zstd(LINES) + skippable, _good(2))
    _case(
        "zstd: needs a dictionary",
        "a.jsonl.zst",
        b"\x28\xb5\x2f\xfd\x21\x07\x00\x01\x00\x00",
        _rejected("object_truncated"),
    )
    _case(
        "zstd: asks for a window of gigabytes",
        "a.jsonl.zst",
        b"\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00",
        _rejected("object_truncated"),
    )
    _case("CSV in gzip", "a.csv.gz", gzip.compress(TABLE), _good(2))
    _case("Parquet in zstd", "a.parquet.zst", lambda: _zstd(_parquet(_rows(3))), _good(3))


def _gzip_bomb(fill: bytes) -> bytes:
    """A quarter of a gibibyte, about a thousand times what it is packed."""
    packer = zlib.compressobj(1, wbits=31)
    return b"".join([*(packer.compress(fill * MIB) for _ in range(256)), packer.flush()])


def _gzip_header(data: bytes) -> bytes:
    body = zlib.compressobj(wbits=-15)
    head = b"\x1f\x8b\x08\x1c" + bytes(6) + struct.pack("<H", 4) + b"xtra" + b"name" * 1000 + b"\0" + b"comment\0"
    return head + body.compress(data) + body.flush() + struct.pack("<II", zlib.crc32(data), len(data))


# ---------------------------------------------------------------- CSV


def _csv() -> None:
    for name, data in {
        "byte order mark": BOM + TABLE,
        "only carriage returns end lines": TABLE.replace(b"\n", b"\r"),
        "mixed line ends": b"id,text\r\n1,a\r2,b\n",
        "blank lines": b"id,text\n\n1,a\n\r\n\n2,b\n\n",
        "line ends in cells": b'id,text\n1,"a\nb"\n2,"c\r\n\r\nd\re"\n',
        "quotes in cells": b'id,text\n1,"a ""b"" c"\n2,a"b"c\n',
        "NUL in a cell": b"id,text\n1,a\0b\n2,b\n",
        "unicode line separators": "id,text\n1,a\u2028b\u0085c\n2,b\n".encode(),
        "formulas": b"id,text\n1,=cmd|' /C calc'!A0\n2,\"@SUM(1,2)\"\n",
        "header in quotes over two lines": b'"id","text","a\nb"\n1,a,x\n2,b,\n',
        "empty column name": b"id,text,\n1,a,x\n2,b,y\n",
        "columns named like internals": b"id,text,record_id,__proto__\n1,a,x,y\n2,b,,\n",
        "no line end at the end": TABLE.rstrip(),
    }.items():
        _case(f"csv: {name}", "a.csv", data, _good(2))
    _case("csv: header only", "a.csv", b"id,text\n", _good(0))
    _case("csv: ten thousand columns", "a.csv", lambda: _wide(10_000), _good(1))
    for name, data in {
        "a million columns": lambda: _wide(1_000_000),
        "no header": b"\n1,a\n",
        "columns named twice": b"id,text,text\n1,a,b\n",
        "column missing": b"id,body\n1,a\n",
        "semicolons": b"id;text\n1;a\n",
        "tabs": b"id\ttext\n1\ta\n",
        "separator declared": b"sep=,\nid,text\n1,a\n",
        "header that does not end": b'"id,text\n1,a\n',
        "header in Latin-1": "id,text,Größe\n1,a,b\n".encode("latin-1"),
        "spaces in the header": b"id, text\n1,a\n",
    }.items():
        _case(f"csv: {name}", "a.csv", data, _rejected("object_columns"), big=name == "a million columns")
    for name, row, check in [
        ("too many cells", b"3,c,d", "csv_columns"),
        ("ten thousand cells", b"," * 10_000, "csv_columns"),
        ("too few cells", b"3", "csv_columns"),
        ("blanks on a line", b"   ", "csv_columns"),
        ("text after a quoted cell", b'3,"c"d', "csv_row"),
        ("Latin-1 in a cell", "3,Grüße".encode("latin-1"), "utf8"),
        ("overlong UTF-8 in a cell", b"3,\xc0\xaf", "utf8"),
    ]:
        _case(f"csv: {name}", "a.csv", b"id,text\n1,a\n" + row + b"\n2,b\n", Fate(2, {check: 1}))
    _case("csv: quote that is never closed", "a.csv", b'id,text\n1,a\n2,"b\n3,c\n4,d', Fate(1, {"csv_row": 1}))
    _case(
        "csv: quote that swallows ten megabytes",
        "a.csv",
        _swallowing,
        Fate(2, {"row_size": 1, "csv_columns": 1}),
        big=True,
    )
    _case(
        "csv: field of ten megabytes",
        "a.csv",
        lambda: b"id,text\n1,a\n2," + b"x" * 10 * MIB + b"\n3,c\n",
        Fate(2, {"row_size": 1}),
        big=True,
    )
    _case(
        "csv: line ends cut at every read",
        "a.csv",
        lambda: b"id,text\r\n" + b"".join(b"%d,%s\r\n" % (n, b"x" * (MIB // 2 - 8 + n)) for n in range(9)),
        _good(9),
        big=True,
    )
    _case("csv: id is empty", "a.csv", b"id,text\n,a\n2,b\n", Fate(1, misfit={"required_column": 1}))


def _wide(columns: int) -> bytes:
    header = ["id", "text", *(f"c{n}" for n in range(columns - 2))]
    return (",".join(header) + "\n1,a" + "," * (columns - 2) + "\n").encode()


def _swallowing() -> bytes:
    """An open quote, then eight lines of a megabyte: the row ends at the limit, before the last of them."""
    line = b"x" * (MIB - 1) + b"\n"
    return b'id,text\n1,a\n2,"b\n' + line * 8 + b"3,c\n"


# ---------------------------------------------------------------- Parquet


def _parquet_files() -> None:
    plain = _parquet(_rows(3))
    odd = {
        "decimal": pa.array([Decimal("1.50"), None, Decimal("-0.01")]),
        "time": pa.array([0, 1, None], pa.timestamp("ns", "UTC")),
        "span": pa.array([1, None, 2], pa.duration("us")),
        "bytes": pa.array([b"\0\xff", b"", None]),
        "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
        "nested": pa.array([{"a": [1, None]}, {"a": []}, None]),
        "half": pa.array([1, 2, 3], pa.float32()).cast(pa.float16()),
        "unsigned": pa.array([2**64 - 1, 0, None], pa.uint64()),
        "nothing": pa.nulls(3),
        "code": pa.array(["a", "b", "a"]).dictionary_encode(),
    }
    _case("parquet: types that JSON does not have", "a.parquet", partial(_parquet, _rows(3, **odd)), _good(3))
    _case(
        "parquet: NaN and infinity",
        "a.parquet",
        partial(_parquet, _rows(3, score=[float("nan"), float("inf"), 0.5])),
        _good(3),
    )
    _case("parquet: ids that are numbers", "a.parquet", partial(_parquet, {"id": [1, 2], "text": ["a", "b"]}), _good(2))
    _case("parquet: no rows", "a.parquet", partial(_parquet, _rows(0)), _good(0))
    _case(
        "parquet: text that looks like NUL and emoji",
        "a.parquet",
        partial(_parquet, _rows(2, note=["\0", "😀"])),
        _good(2),
    )
    _case(
        "parquet: empty and missing ids",
        "a.parquet",
        partial(_parquet, {"id": ["", None, "3"], "text": ["a"] * 3}),
        Fate(1, misfit={"required_column": 2}),
    )
    _case(
        "parquet: a time beyond the calendar",
        "a.parquet",
        partial(_parquet, _rows(3, x=pa.array([0, 2**62, 1], pa.timestamp("us")))),
        Fate(2, {"parquet_value": 1}),
    )
    _case("parquet: a struct that names a field twice", "a.parquet", _twice_in_struct, Fate(0, {"parquet_value": 2}))
    _case(
        "parquet: text of ten megabytes",
        "a.parquet",
        partial(_parquet, {"id": ["1", "2"], "text": ["a", "x" * 10 * MIB]}),
        Fate(1, {"row_size": 1}),
        big=True,
    )
    _case(
        "parquet: one megabyte of text, ten thousand times",
        "a.parquet",
        _repeated_text,
        _rejected("object_size"),
        big=True,
    )
    _case("parquet: one number, fifty million times", "a.parquet", _repeated_number, _rejected("object_size"), big=True)
    _case("parquet: a list of three million nulls", "a.parquet", _long_list, Fate(0, {"row_size": 1}), big=True)
    _case(
        "parquet: compressed zeros",
        "a.parquet",
        lambda: _parquet({"id": ["1"], "text": ["\0" * 64 * MIB]}, compression="zstd"),
        _rejected("object_size"),
        big=True,
    )
    for name, data in {
        "columns named twice": partial(_parquet, pa.table([["1"], ["a"], ["b"]], names=["id", "text", "text"])),
        "column missing": partial(_parquet, {"id": ["1"]}),
        "no columns": partial(_parquet, pa.table({})),
        "eleven thousand columns": lambda: _parquet(_rows(1, **{f"c{n}": [1] for n in range(11_000)})),
    }.items():
        _case(f"parquet: {name}", "a.parquet", data, _rejected("object_columns"))
    for name, data in {
        "nothing but magic": b"PAR1PAR1",
        "cut short": plain[:-20],
        "beginning missing": plain[100:],
        "footer of zeros": plain[:-100] + bytes(92) + plain[-8:],
        "footer longer than the file": plain[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1",
        "encrypted footer": plain[:-4] + b"PARE",
        "lists within lists, seventy times": partial(_nested_parquet, 70),
        "pages of zeros": b"PAR1" + bytes(150) + plain[154:],
        "text that is not UTF-8": _parquet_not_utf8,
    }.items():
        _case(f"parquet: {name}", "a.parquet", data, _rejected("object_truncated"))


def _twice_in_struct() -> bytes:
    values = pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 4])], ["a", "a"])
    return _parquet(_rows(2, x=values))


def _repeated_text() -> bytes:
    codes = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), pa.array(["x" * MIB]))
    return _parquet({"id": pa.array([str(n) for n in range(10_000)]), "text": codes})


def _repeated_number() -> bytes:
    count = 50_000_000
    zeros = pa.array(memoryview(bytes(count)), pa.uint8()).cast(pa.int8())
    text = pa.DictionaryArray.from_arrays(zeros, pa.array(["a"]))
    return _parquet({"id": text, "text": text}, row_group_size=count)


def _long_list() -> bytes:
    lists = pa.ListArray.from_arrays(pa.array([0, 3_000_000], pa.int32()), pa.nulls(3_000_000, pa.int64()))
    return _parquet({"id": ["1"], "text": ["a"], "x": lists})


def _nested_parquet(levels: int) -> bytes:
    kind = pa.int64()
    for _ in range(levels):
        kind = pa.list_(kind)
    return _parquet(_rows(1, x=pa.nulls(1, kind)))


def _parquet_not_utf8() -> bytes:
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    return _parquet({"id": ["1"], "text": broken})


# ---------------------------------------------------------------- texts and images


def _whole() -> None:
    laughs = "<!DOCTYPE l [<!ENTITY a 'ha'>" + "".join(
        f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(9)
    )
    texts: dict[str, tuple[str, bytes | Callable[[], bytes], Fate]] = {
        "billion laughs in XML": ("a.xml", (laughs + "]><l>&j;</l>").encode(), _good(1)),
        "script": ("a.html", b"<script>alert(1)</script>", _good(1)),
        "NUL and control characters": ("a.txt", b"some text before it, then\0\x07\x1b[2J", _good(1)),
        "byte order mark": ("a.md", BOM + b"x", _good(1)),
        "blank": ("a.txt", b" \n\t\n", Fate(misfit={"required_column": 1})),
        "Latin-1": ("a.eml", "Grüße".encode("latin-1"), Fate(unreadable={"utf8": 1})),
        "UTF-16": ("a.txt", "text".encode("utf-16"), _rejected("object_encoding")),
        "no bytes": ("a.txt", b"", _rejected("object_empty")),
        "ten megabytes": ("a.txt", partial(bytes, b"x" * 10 * MIB), Fate(unreadable={"row_size": 1})),
        "PDF named txt": ("a.txt", b"%PDF-1.7\n", _rejected("object_format")),
        "JSON Lines in a folder of texts": ("a.jsonl", LINES, _rejected("object_format")),
        "gzip bomb": ("a.txt.gz", partial(_gzip_bomb, b" "), _rejected("object_size")),
    }
    for name, (key, data, fate) in texts.items():
        _case(f"text: {name}", key, data, fate, format="text", big=callable(data))
    jpg, gif = b"\xff\xd8\xff\xe0" + bytes(60), b"GIF89a/*" + b"x" * 60 + b"*/=1;alert(1)"
    images: dict[str, tuple[str, bytes, Fate]] = {
        "picture and script in one": ("a.gif", gif, _good(1)),
        "JPEG named png": ("a.png", jpg, _rejected("object_format")),
        "SVG named png": ("a.png", b"<svg onload='alert(1)'/>", _rejected("object_format")),
        "cut in its first bytes": ("a.png", b"\x89PN", _rejected("object_format")),
        "no bytes": ("a.jpg", b"", _rejected("object_empty")),
        "sound named webp": ("a.webp", b"RIFF\x10\0\0\0WAVEfmt ", _rejected("object_format")),
        "packed": ("a.jpg.gz", gzip.compress(jpg), _rejected("object_format")),
        "SVG": ("a.svg", b"<svg/>", _rejected("object_format")),
        "key with odd characters": ("Ü %3F?#&..jpg", jpg, _good(1)),
    }
    for name, (key, data, fate) in images.items():
        _case(f"image: {name}", key, data, fate, format="image")


_json_that_is_good()
_json_rows_that_are_bad()
_misleading()
_packed()
_csv()
_parquet_files()
_whole()
