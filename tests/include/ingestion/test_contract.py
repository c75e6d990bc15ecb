"""The contract of a project: its suite over its columns. What contracts do is tested in tests/include/validation."""

import pyarrow as pa
import pytest

from include.errors import ProjectError
from include.ingestion.contract import Contract
from include.ingestion.rows import contract_columns
from include.project import SUITES_DIR, load_project, project_files
from tests.include.conftest import ProjectFactory

IN_SET = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "lang", "value_set": ["en"]}}
SOURCE = {
    "event_time_column": "at",
    "metadata": {"lang": {"title": "Language"}, "k": {"title": "K", "type": "integer"}},
}
ARROW = {"text": pa.string(), "integer": pa.int64(), "float": pa.float64()}


def test_rows_are_judged_by_the_columns_of_the_source(make_project: ProjectFactory):
    project = make_project(source=SOURCE, validation={"expectations": [IN_SET]})
    schema = pa.schema([(name, ARROW[kind]) for name, kind in contract_columns(project.source).items()])
    columns = pa.Table.from_pylist([{"id": "1", "lang": "en"}, {"id": "2", "lang": "xx"}, {"id": "3"}], schema=schema)
    assert list(Contract(project).check(columns).failures) == [1]


def test_a_mistake_names_project_and_place(make_project: ProjectFactory):
    project = make_project(validation={"expectations": [IN_SET]})
    with pytest.raises(ProjectError, match=r"project 'mails': validation\.expectations\[0\].*column 'lang' is none of"):
        Contract(project).check(pa.table({"text": ["a"], "id": ["b"]}))


@pytest.mark.parametrize("path", project_files(), ids=lambda path: path.stem)
def test_the_suites_of_the_shipped_projects_can_be_used(path):
    project = load_project(path)
    assert project.validation.suite
    assert (SUITES_DIR / project.validation.suite).exists()
    contract = Contract(project)
    types = contract_columns(project.source)
    columns = pa.schema([(name, ARROW[kind]) for name, kind in types.items()]).empty_table()
    results = contract.check(columns).results
    assert results
    verdict = contract.check_batch([contract.collect(columns)], [results])
    assert not [one for one in verdict.findings if one["failed"]]


def test_contracts_name_the_suite_file_they_come_from(make_project: ProjectFactory, tmp_path, monkeypatch):
    from include import project as module

    monkeypatch.setattr(module, "SUITES_DIR", tmp_path)
    (tmp_path / "own.yaml").write_text("expectations: [{type: expect_wonders, kwargs: {}}]")
    with pytest.raises(ProjectError, match=r"suite 'own.yaml': expectations\[0\] \(expect_wonders\)"):
        Contract(make_project(validation={"suite": "own.yaml"})).check(pa.table({"text": ["a"], "id": ["b"]}))
