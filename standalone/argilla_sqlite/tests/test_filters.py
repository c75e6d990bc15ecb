"""Filters and sort orders as SQL: they mean what Python says they mean, whatever the names and values hold."""

import json
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from argilla_sqlite.errors import InvalidSearchError

DATASET_ID = "d" * 32
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Import the modules that need Argilla, which at import warns, reads its home and copies its UI."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("ARGILLA_HOME_PATH", str(tmp_path_factory.mktemp("home")))
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("ui")))
        names = {"filters": "argilla_sqlite.filters", "schema": "argilla_sqlite.schema"}
        yield {
            **{name: import_module(path) for name, path in names.items()},
            "argilla": import_module("argilla_server.search_engine.base"),
        }


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("ATTACH ':memory:' AS argilla")
        connection.executescript("""
            CREATE TABLE argilla.records (id TEXT, metadata JSON, status, external_id, inserted_at, updated_at);
            CREATE TABLE argilla.suggestions (record_id TEXT, question_id TEXT, value JSON, score JSON, agent, type);
            CREATE TABLE argilla.responses (record_id TEXT, user_id TEXT, status TEXT, "values" JSON);
        """)
        yield connection


def schema_of(modules: dict[str, Any], metadata: dict[str, str], questions: dict[str, str] | None = None) -> Any:
    schema = modules["schema"]
    kinds = schema.ValueKind
    return schema.DatasetSchema(
        dataset_id=DATASET_ID,
        text_columns=(),
        questions={name: schema.Question(f"id of {name}", kinds(kind)) for name, kind in (questions or {}).items()},
        metadata={name: kinds(kind) for name, kind in metadata.items()},
    )


def matching(database: sqlite3.Connection, clause: Any) -> list[str]:
    rows = database.execute(
        f"SELECT id FROM argilla.records AS record WHERE {clause.sql} ORDER BY rowid", clause.parameters
    )
    return [record_id for (record_id,) in rows]


# SQLite ends a text it takes out of JSON at a NUL character, which no label or term holds.
WORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=8
) | st.sampled_from(["'", '"', "a.b", "$", "é", "');--", "[0]", "#"])


@RELAXED
@given(
    name=WORDS,
    wanted=st.lists(WORDS, min_size=1, max_size=3),
    values=st.lists(st.none() | WORDS | st.lists(WORDS, max_size=3), max_size=6),
)
def test_metadata_terms(
    modules: dict[str, Any],
    database: sqlite3.Connection,
    name: str,
    wanted: list[str],
    values: list[None | str | list[str]],
) -> None:
    values = [*values, wanted[0], wanted[-1:]]
    database.execute("DELETE FROM argilla.records")
    database.executemany(
        "INSERT INTO argilla.records (id, metadata) VALUES (?, ?)",
        [(str(row), json.dumps({"other": "x", name: value})) for row, value in enumerate(values)],
    )
    argilla = modules["argilla"]
    condition = argilla.TermsFilter(scope=argilla.MetadataFilterScope(metadata_property=name), values=wanted)
    clause = modules["filters"].where(condition, schema_of(modules, {name: "keyword"}))
    as_lists = [value if isinstance(value, list) else [value] for value in values]
    assert matching(database, clause) == [str(row) for row, value in enumerate(as_lists) if set(value) & set(wanted)]


@RELAXED
@given(
    values=st.lists(st.none() | st.integers(-10, 10) | st.floats(-10, 10), max_size=8),
    low=st.none() | st.integers(-10, 10),
    high=st.none() | st.floats(-10, 10),
)
def test_metadata_range_and_sort(
    modules: dict[str, Any],
    database: sqlite3.Connection,
    values: list[float | None],
    low: float | None,
    high: float | None,
) -> None:
    database.execute("DELETE FROM argilla.records")
    database.executemany(
        "INSERT INTO argilla.records (id, metadata) VALUES (?, ?)",
        [(str(row), json.dumps({"n": value} if value is not None else {})) for row, value in enumerate(values)],
    )
    argilla, filters = modules["argilla"], modules["filters"]
    scope = argilla.MetadataFilterScope(metadata_property="n")
    schema = schema_of(modules, {"n": "number"})
    if low is not None or high is not None:
        clause = filters.where(argilla.RangeFilter(scope=scope, ge=low, le=high), schema)
        expected = [
            str(row)
            for row, value in enumerate(values)
            if value is not None and (low is None or value >= low) and (high is None or value <= high)
        ]
        assert matching(database, clause) == expected
    for direction, sign in (("asc", 1), ("desc", -1)):
        order = filters.order_by([argilla.Order(scope=scope, order=direction)], schema)
        rows = database.execute(
            f"SELECT id FROM argilla.records AS record ORDER BY {order.sql}, rowid", order.parameters
        ).fetchall()
        ranked = sorted(range(len(values)), key=lambda row: (values[row] is None, sign * (values[row] or 0.0), row))
        assert [int(row) for (row,) in rows] == ranked


@RELAXED
@given(question=WORDS, value=WORDS)
def test_answers_of_a_question_with_any_name(
    modules: dict[str, Any], database: sqlite3.Connection, question: str, value: str
) -> None:
    database.executescript("DELETE FROM argilla.records; DELETE FROM argilla.responses;")
    database.execute("INSERT INTO argilla.records (id) VALUES ('r')")
    user_id = UUID(int=7)
    answer = json.dumps({question: {"value": [value, "more"]}, "other": {"value": value + "!"}})
    database.execute("INSERT INTO argilla.responses VALUES ('r', ?, 'submitted', ?)", (user_id.hex, answer))
    argilla, filters = modules["argilla"], modules["filters"]
    schema = schema_of(modules, {}, {question: "keyword"})

    class Annotator:
        def __init__(self, user_id: UUID) -> None:
            self.id = user_id

    for user, expected in ((None, ["r"]), (Annotator(user_id), ["r"]), (Annotator(UUID(int=8)), [])):
        scope = argilla.ResponseFilterScope(question=question, property=None, user=user)
        assert matching(database, filters.where(argilla.TermsFilter(scope=scope, values=[value]), schema)) == expected


@pytest.mark.parametrize(
    ("bound", "value", "expected"),
    [
        ("ge", "2026", "2026-01-01 00:00:00.000000"),
        ("le", "2026", "2026-01-01 23:59:59.999999"),
        ("ge", "2026-03-04", "2026-03-04 00:00:00.000000"),
        ("le", "2026-03-04", "2026-03-04 23:59:59.999999"),
        ("le", "2026-03-04T05:06:07", "2026-03-04 05:06:07.999999"),
        ("le", "2026-03-04T05:06:07.123456", "2026-03-04 05:06:07.123456"),
        ("ge", "2026-03-04T05:06:07.123456789Z", "2026-03-04 05:06:07.123456"),
        ("ge", "2026-03-04T05:06:07+02:00", "2026-03-04 03:06:07.000000"),
        ("ge", 1577836800000.0, "2020-01-01 00:00:00.000000"),
        ("ge", "1577836800000", "2020-01-01 00:00:00.000000"),
    ],
)
def test_dates(modules: dict[str, Any], bound: str, value: str | float, expected: str) -> None:
    argilla = modules["argilla"]
    condition = argilla.RangeFilter(scope=argilla.RecordFilterScope(property="inserted_at"), **{bound: value})
    assert modules["filters"].where(condition, schema_of(modules, {})).parameters == (expected,)


@pytest.mark.parametrize(
    "value", ["", "tomorrow", "2026-13-01", "2026-02-30", "nan", "inf", "9" * 30, "2026-01-01T25:00"]
)
def test_what_is_not_a_date_is_refused(modules: dict[str, Any], value: str) -> None:
    argilla = modules["argilla"]
    condition = argilla.RangeFilter(scope=argilla.RecordFilterScope(property="updated_at"), ge=value)
    with pytest.raises(InvalidSearchError, match="not a date"):
        modules["filters"].where(condition, schema_of(modules, {}))


@pytest.mark.parametrize("value", ["", "many", "nan", "inf", "1e999", "0x10"])
def test_what_is_not_a_number_is_refused(modules: dict[str, Any], value: str) -> None:
    argilla = modules["argilla"]
    condition = argilla.TermsFilter(scope=argilla.MetadataFilterScope(metadata_property="n"), values=[value])
    with pytest.raises(InvalidSearchError, match="not a number"):
        modules["filters"].where(condition, schema_of(modules, {"n": "number"}))


def test_parsers_kept_by_the_patch_give_what_argilla_gives(modules: dict[str, Any]) -> None:
    models = import_module("argilla_server.models")
    stored = {
        "type": "label_selection",
        "options": [{"value": "a", "text": "A", "description": None}],
        "visible_options": None,
    }
    question = models.Question(name="q", settings=stored)
    terms = models.MetadataProperty(name="m", settings={"type": "terms", "values": ["x"]})
    before = (question.parsed_settings, terms.parsed_settings)
    import_module("argilla_sqlite.patches").apply_patches()
    assert (question.parsed_settings, terms.parsed_settings) == before
    question.settings = {**stored, "options": [{"value": "b", "text": "B", "description": None}]}
    assert [option.value for option in question.parsed_settings.options] == ["b"]
