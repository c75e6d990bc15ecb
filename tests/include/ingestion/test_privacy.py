"""The privacy gate: what a project asks for happens to a chunk of rows, and to nothing else in it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from include.errors import ProjectError
from include.ingestion.personal_data import Redacted
from include.ingestion.privacy import Privacy
from include.project import Project
from tests.include.conftest import ProjectFactory

ROWS = {
    "id": ["a@b.org", "2", "3", "4"],
    "text": ["write to a@b.org", "nothing here", None, "a@b.org, +49 30 1234567"],
    "title": ["", "tel 555-1234", "x", "y"],
    "sender": ["s", "s", "x@y.org", "s"],
    "size": [1, 2, 3, None],
}


@pytest.fixture
def chunk() -> pa.Table:
    return pa.table(ROWS, pa.schema([(n, pa.int64() if n == "size" else pa.string()) for n in ROWS]))


def project_with(make_project: ProjectFactory, **privacy: object) -> Project:
    metadata = {"sender": {"title": "Sender"}, "size": {"title": "Size", "type": "integer"}}
    fields = {"title": {"title": "Title", "required": False}}
    return make_project(source={"fields": fields, "metadata": metadata}, privacy=privacy)


def test_off_by_default(make_project: ProjectFactory, chunk: pa.Table):
    result = Privacy(project_with(make_project)).apply(chunk)
    assert result.columns is chunk
    assert result.kinds is None
    assert result.failures == {}


def test_redact_changes_fields_and_text_metadata_but_no_id(make_project: ProjectFactory, chunk: pa.Table):
    result = Privacy(project_with(make_project, action="redact")).apply(chunk)
    assert result.columns.to_pydict() == {
        **ROWS,
        "text": ["write to [email]", "nothing here", None, "[email], [phone]"],
        "title": ["", "tel [phone]", "x", "y"],
        "sender": ["s", "s", "[email]", "s"],
    }
    assert result.columns.schema == chunk.schema
    assert result.kinds is None
    assert result.failures == {}


def test_flag_names_the_kinds_and_changes_nothing(make_project: ProjectFactory, chunk: pa.Table):
    result = Privacy(project_with(make_project, action="flag")).apply(chunk)
    assert result.columns.equals(chunk)
    assert result.kinds is not None
    assert result.kinds.to_pylist() == ['["email"]', '["phone"]', '["email"]', '["email","phone"]']
    assert result.failures == {}


def test_quarantine_names_kinds_and_columns_but_not_the_data(make_project: ProjectFactory, chunk: pa.Table):
    result = Privacy(project_with(make_project, action="quarantine", detect=["phone"])).apply(chunk)
    assert result.failures == {
        1: [{"expectation": "pii(phone)", "column": None, "observed": ["title"]}],
        3: [{"expectation": "pii(phone)", "column": None, "observed": ["text"]}],
    }
    assert result.columns.equals(chunk)
    both = Privacy(project_with(make_project, action="quarantine")).apply(chunk).failures[3][0]
    assert both["expectation"] == "pii(email, phone)"


def test_columns_in_several_chunks_and_missing_columns(make_project: ProjectFactory, chunk: pa.Table):
    twice = pa.concat_tables([chunk, chunk.slice(3)]).drop_columns(["title"])
    result = Privacy(project_with(make_project, action="flag")).apply(twice)
    assert result.kinds is not None
    assert result.kinds.to_pylist() == ['["email"]', None, '["email"]', '["email","phone"]', '["email","phone"]']
    redacted = Privacy(project_with(make_project, action="redact")).apply(twice).columns["text"].to_pylist()
    assert redacted[3:] == ["[email], [phone]"] * 2


def test_no_rows(make_project: ProjectFactory, chunk: pa.Table):
    for action in ("flag", "redact", "quarantine"):
        result = Privacy(project_with(make_project, action=action)).apply(chunk.slice(0, 0))
        assert result.columns.num_rows == 0
        assert result.failures == {}


class Shouting:
    """A plug-in that finds capital letters."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds

    def __call__(self, texts: pa.StringArray) -> Redacted:
        values = texts.to_pylist()
        lowered = [None if one is None else one.lower() for one in values]
        found = [one != low for one, low in zip(values, lowered, strict=True)]
        return Redacted(pa.array(lowered, pa.string()), {"shout": pa.array(found)})


class Short(Shouting):
    def __call__(self, texts: pa.StringArray) -> Redacted:
        return Redacted(texts[:0], {})


class NotCallable:
    def __init__(self, kinds: tuple[str, ...]) -> None: ...


def test_a_plug_in_replaces_the_detector(make_project: ProjectFactory):
    project = project_with(make_project, action="flag", plugin=f"{__name__}:Shouting", detect=["email"])
    result = Privacy(project).apply(pa.table({"text": ["Oh", "oh", None]}))
    assert result.kinds is not None
    assert result.kinds.to_pylist() == ['["shout"]', None, None]


@pytest.mark.parametrize("name", ["no.such:Thing", f"{__name__}:Missing", f"{__name__}:NotCallable"])
def test_a_plug_in_that_cannot_be_used_is_named(make_project: ProjectFactory, name: str):
    with pytest.raises(ProjectError, match=name):
        Privacy(project_with(make_project, action="flag", plugin=name))


def test_a_plug_in_that_loses_rows_is_stopped(make_project: ProjectFactory, chunk: pa.Table):
    gate = Privacy(project_with(make_project, action="redact", plugin=f"{__name__}:Short"))
    with pytest.raises(ProjectError, match="gave other than 4 texts"):
        gate.apply(chunk)


def test_an_id_that_is_also_a_field_cannot_be_redacted(make_project: ProjectFactory):
    with pytest.raises(ValueError, match="would change ids"):
        make_project(source={"id_column": "text"}, privacy={"action": "redact"})
