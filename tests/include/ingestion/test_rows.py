"""Parsed rows to drafts of records: types, ids, times, consent, and every problem of a row at once."""

from datetime import UTC, datetime

import pytest

from include.ingestion.parse import BadRow, Row
from include.ingestion.rows import Draft, read_row
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


def draft(**changes) -> Draft:
    result = read_row(SOURCE, Row(0, b"raw", {**VALUES, **changes}))
    assert isinstance(result, Draft), result
    return result


def bad(source: Source = SOURCE, **changes) -> BadRow:
    result = read_row(source, Row(3, b"raw", {**VALUES, **changes}))
    assert isinstance(result, BadRow), result
    return result


def test_a_plain_row():
    one = draft(lang="en", age="41", score="0.5", extra={"a": [1]}, nothing=None)
    assert one.fields == {"text": "hello", "note": ""}
    assert one.source_id == "7"
    assert one.event_at == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert one.consent is True
    assert one.metadata == {"lang": "en", "age": 41, "score": 0.5, "extra": {"a": [1]}}
    assert one.columns == {
        "text": "hello", "note": None, "id": "7", "at": VALUES["at"], "lang": "en", "age": 41, "score": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"), [(5, "5"), (1.5, "1.5"), (True, "true"), ({"b": 1, "a": "ü"}, '{"a":"ü","b":1}')]
)
def test_values_that_are_not_text_become_text(value, text: str):
    assert draft(text=value, id=value).fields["text"] == text
    assert draft(id=value).source_id == text


def test_without_an_id_column_the_content_is_the_id():
    source = SOURCE.model_copy(update={"id_column": None})
    one, two = (read_row(source, Row(n, b"", {**VALUES, "id": str(n)})) for n in (1, 2))
    assert isinstance(one, Draft)
    assert isinstance(two, Draft)
    assert one.source_id == two.source_id == '{"note":"","text":"hello"}'


@pytest.mark.parametrize("value", [None, "", "  ", "\n"])
@pytest.mark.parametrize("column", ["text", "id", "at"])
def test_required_columns_must_hold_something(column: str, value):
    row = bad(**{column: value})
    assert row.reason == f"{column!r} is missing or empty"
    assert row.failures[0]["expectation"] == "required_column"
    assert (row.number, row.raw, row.stage) == (3, b"raw", "parse")


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
    assert draft(at=value).event_at == expected


@pytest.mark.parametrize(
    "value", ["yesterday", "2026-13-01", 1772359200, "1772359200", "0001-01-01T00:00:00+14:00", True]
)
def test_event_times_that_are_none_are_named(value):
    row = bad(at=value)
    assert row.reason == "'at' is not an ISO 8601 time"
    assert row.failures == [{"expectation": "event_time", "column": "at", "observed": value}]


@pytest.mark.parametrize("value", [True, "true", " TRUE ", 1, "1"])
def test_consent_is_a_clear_yes(value):
    assert draft(ok=value).consent is True


@pytest.mark.parametrize("value", [False, "false", 0, "0", "", None, "yes?", 2, [True], {"true": 1}])
def test_anything_else_is_no_consent(value):
    assert draft(ok=value).consent is False


def test_without_a_consent_column_consent_is_unknown():
    source = SOURCE.model_copy(update={"consent_column": None})
    one = read_row(source, Row(0, b"", VALUES))
    assert isinstance(one, Draft)
    assert one.consent is None
    assert one.metadata == {"ok": True}


@pytest.mark.parametrize(
    ("column", "value", "stored"),
    [
        ("age", 41.0, 41),
        ("age", " -3 ", -3),
        ("age", "", None),
        ("score", 2, 2.0),
        ("score", "1e3", 1000.0),
        ("lang", 7, "7"),
    ],
)
def test_metadata_takes_the_type_of_the_project(column: str, value, stored):
    assert draft(**{column: value}).metadata.get(column) == stored


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
        ("score", "nan"),
        ("score", "inf"),
        ("score", {}),
        ("score", 10**400),
    ],
)
def test_metadata_of_another_type_is_named(column: str, value):
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
