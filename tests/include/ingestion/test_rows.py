"""Blocks to rows in the project's types: ids, times, consent, metadata, and every problem of a row at once."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.ingestion.blocks import BadRow, Block
from include.ingestion.rows import Rows, as_text, known_columns, normalise, read_time, read_times
from include.project import MetadataProperty, RecordField, Source

SOURCE = Source(
    prefix="in/",
    id_column="id",
    event_time_column="at",
    consent_column="ok",
    fields={"text": RecordField(title="Text"), "note": RecordField(title="Note", required=False)},
    metadata={
        "lang": MetadataProperty(title="Language"),
        "age": MetadataProperty(title="Age", type="integer"),
        "score": MetadataProperty(title="Score", type="float"),
    },
)
VALUES = {"id": "7", "at": "2026-03-01T10:00:00+02:00", "ok": True, "text": "hello"}


def block(*rows: dict[str, Any], source: Source = SOURCE) -> Block:
    """As the exact reader makes it: every value as text."""
    known = sorted(known_columns(source))
    columns = {name: pa.array([as_text(row.get(name)) for row in rows], pa.string()) for name in known}
    numbers = pa.array(range(3, 3 + len(rows)), pa.int64())
    return Block(numbers, pa.table(columns), pa.nulls(len(rows), pa.string()), lambda row: b"raw %d" % row)


def good(source: Source = SOURCE, **changes: Any) -> dict[str, Any]:
    rows = normalise(source, block({**VALUES, **changes}, source=source))
    assert rows.bad == []
    [columns] = rows.columns.to_pylist()
    return {**columns, "event_at": rows.event_at[0].as_py(), "consent": rows.consent[0].as_py()}


def bad(source: Source = SOURCE, **changes: Any) -> BadRow:
    rows = normalise(source, block({**VALUES, **changes}, source=source))
    assert rows.columns.num_rows == 0
    [row] = rows.bad
    return row


def test_a_plain_row():
    assert good(lang="en", age="41", score="0.5") == {
        "text": "hello",
        "note": None,
        "id": "7",
        "at": VALUES["at"],
        "lang": "en",
        "age": 41,
        "score": 0.5,
        "event_at": datetime(2026, 3, 1, 8, tzinfo=UTC),
        "consent": True,
    }


@pytest.mark.parametrize(
    ("value", "text"), [(5, "5"), (1.5, "1.5"), (True, "true"), ({"b": 1, "a": "ü"}, '{"a":"ü","b":1}')]
)
def test_values_that_are_not_text_become_text(value: Any, text: str):
    assert good(text=value, id=value)["text"] == text
    assert good(id=value)["id"] == text


def test_typed_columns_mean_the_same_as_their_text():
    """The fast reader hands on numbers and booleans, the exact one texts."""
    typed = pa.table(
        {
            "id": pa.array([7, 8]),
            "at": pa.array(["2026-03-01", None]),
            "ok": pa.array([True, None]),
            "text": pa.array([1.5, 2.0]),
            "lang": pa.array([True, False]),
            "age": pa.array([41, None]),
            "score": pa.array([2, 3]),
        }
    )
    texts = [{name: value for name, value in row.items()} for row in typed.to_pylist()]
    fast = normalise(SOURCE, Block(pa.array([3, 4]), typed, pa.nulls(2, pa.string()), lambda row: b"raw %d" % row))
    exact = normalise(SOURCE, block(*texts))
    assert fast.columns == exact.columns
    assert (fast.event_at, fast.consent, fast.numbers) == (exact.event_at, exact.consent, exact.numbers)
    assert [one.number for one in fast.bad] == [one.number for one in exact.bad] == [4]


@pytest.mark.parametrize("value", [None, "", "  ", "\n", "\u2003"])
@pytest.mark.parametrize("column", ["text", "id", "at"])
def test_required_columns_must_hold_something(column: str, value: Any):
    row = bad(**{column: value})
    assert row.reason == f"{column!r} is missing or empty"
    assert row.failures[0]["expectation"] == "required_column"
    assert (row.number, row.raw, row.stage) == (3, b"raw 0", "parse")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T10:00:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        (" 2026-03-01T10:00:00Z ", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01 10:00:00.123456789-05:30", datetime(2026, 3, 1, 15, 30, 0, 123456, tzinfo=UTC)),
    ],
)
def test_event_times_are_kept_in_utc(value: str, expected: datetime):
    assert good(at=value)["event_at"] == expected


@pytest.mark.parametrize(
    "value", ["yesterday", "2026-13-01", 1772359200, "1772359200", "0001-01-01T00:00:00+14:00", True]
)
def test_event_times_that_are_none_are_named(value: Any):
    row = bad(at=value)
    assert row.reason == "'at' is not an ISO 8601 time"
    assert row.failures == [{"expectation": "event_time", "column": "at", "observed": as_text(value)}]


MOMENTS = st.datetimes(timezones=st.sampled_from([UTC, None])).map(lambda moment: moment.isoformat())
TIME_TEXTS = st.one_of(
    MOMENTS,
    MOMENTS.map(lambda text: text.replace("T", " ")),
    MOMENTS.map(lambda text: text.removesuffix("+00:00") + "Z"),
    MOMENTS.map(lambda text: text[:10]),
    MOMENTS.map(lambda text: text[:16]),
    st.text("0123456789-:TZ+. ", max_size=26),
    st.sampled_from(["24:00", "2026-02-30", "2026-01-01T24:00:00", "2026-01-01T23:59:60", "0000-01-01", "-2026-01-01"]),
)


@settings(deadline=None)
@given(texts=st.lists(st.one_of(st.none(), TIME_TEXTS), max_size=4))
def test_times_read_at_once_are_those_read_one_by_one(texts: list[str | None]):
    together = read_times(pa.array(texts, pa.string())).to_pylist()
    assert together == [None if text is None else read_time(text) for text in texts]


@pytest.mark.parametrize("value", [True, "true", " TRUE ", 1, "1"])
def test_consent_is_a_clear_yes(value: Any):
    assert good(ok=value)["consent"] is True


@pytest.mark.parametrize("value", [False, "false", 0, "0", "", None, "yes?", 2, 1.0, [True], {"true": 1}])
def test_anything_else_is_no_consent(value: Any):
    assert good(ok=value)["consent"] is False


def test_without_a_consent_column_consent_is_unknown():
    source = SOURCE.model_copy(update={"consent_column": None})
    assert good(source)["consent"] is None


@pytest.mark.parametrize(
    ("column", "value", "stored"),
    [
        ("age", 41.0, 41),
        ("age", " -3 ", -3),
        ("age", "", None),
        ("score", 2, 2.0),
        ("score", "1e3", 1000.0),
        ("lang", 7, "7"),
        ("lang", "", None),
    ],
)
def test_metadata_takes_the_type_of_the_project(column: str, value: Any, stored: Any):
    assert good(**{column: value})[column] == stored


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("age", "old"),
        ("age", 1.5),
        ("age", True),
        ("age", 2**63),
        ("age", "1_000"),
        ("age", "9" * 5000),
        ("age", [1]),
        ("age", "٣"),
        ("score", "nan"),
        ("score", "inf"),
        ("score", "1_0"),
        ("score", {}),
        ("score", 10**400),
    ],
)
def test_metadata_of_another_type_is_named(column: str, value: Any):
    row = bad(**{column: value})
    kind = SOURCE.metadata[column].type
    assert row.reason == f"{column!r} is not of type {kind}"
    assert row.failures[0]["expectation"] == f"metadata_{kind}"


def test_every_problem_of_a_row_is_listed():
    row = bad(text="", at="soon", age="old")
    assert row.reason == "'text' is missing or empty; 'at' is not an ISO 8601 time; 'age' is not of type integer"
    assert [one["column"] for one in row.failures] == ["text", "at", "age"]


def test_long_values_are_shortened_beside_their_failure():
    assert bad(at="x" * 1000).failures[0]["observed"] == "x" * 200 + "…"


def test_bad_rows_leave_the_others_in_place_with_their_own_bytes():
    broken = block(VALUES, {**VALUES, "text": ""}, {**VALUES, "id": "8"})
    broken.bad = [BadRow(1, b"x", "parse", "line is not JSON", [])]
    rows = normalise(SOURCE, broken)
    assert isinstance(rows, Rows)
    assert rows.columns["id"].to_pylist() == ["7", "8"]
    assert rows.numbers.to_pylist() == [3, 5]
    assert [rows.raw(row) for row in range(2)] == [b"raw 0", b"raw 2"]
    assert [(one.number, one.raw) for one in rows.bad] == [(1, b"x"), (4, b"raw 1")]
    assert rows.take(pa.array([False, True])).raw(0) == b"raw 2"
