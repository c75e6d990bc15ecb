"""A project file that is wrong says which file, which field, and what to do."""

from pathlib import Path
from typing import Any

import pytest

from include.errors import ProjectError
from include.project import Project, broken_projects, load_project, load_projects, project_files

GOOD = """
name: mails
title: Mails
source:
  prefix: mails/
  fields: {text: {title: Text}}
labeling:
  guidelines: Decide whether the text is spam.
  questions:
    - {name: kind, type: label, title: "What is it?", labels: {spam: Spam, ham: Ham}}
"""


def write(folder: Path, text: str, name: str = "mails.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_good_file_loads(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, GOOD))
    assert (project.workspace, project.dataset, project.dag_id("ingest")) == ("mails", "mails-v1", "mails__ingest")
    assert project.source.required_columns == ["text"]


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("guidelines:", "guidlines:", "labeling.guid"),
        ("prefix: mails/", "prefix: mails", "source.prefix"),
        ("prefix: mails/", "prefix: mails/\n  bukcet: x", "source.bukcet"),
        ("title: Mails", "title: Mails\nschedule: {ingest: every day}", "schedule.ingest"),
        ("title: Mails", "title: Mails\nsampling: {mixture: {random: 0.5, margin: 0.6}}", "sampling.mixture"),
        ("title: Mails", "title: Mails\nsampling: {mixture: {random: 0, margin: 1}}", "sampling.mixture"),
        ("prefix: mails/", "prefix: mails/\n  metadata: {batch: {title: Batch}}", "source.metadata"),
        ("title: Mails", "title: Mails\nvalidation: {expectations: [{kwargs: {}}]}", "validation.expectations"),
        ("title: Mails", "title: Mails\nvalidation: {suite: nowhere.yaml}", "'nowhere.yaml' does not exist"),
        ("title: Mails", "title: Mails\nvalidation: {suite: a.yaml, expectations: [{}]}", "keep one of them"),
        ("title: Mails", "title: Mails\ntraining: {label_suite: ../x.yaml}", "below suites/"),
        ("title: Mails", "title: Mails\ntraining: {label_expectations: [{}]}", "training.label_expectations[0]"),
        ("type: label", "type: span", "labeling.questions.0"),
        ("type: label", "type: span, field: body", "'body'"),
        ("name: mails", "name: Mails", "name"),
        ("name: mails", "name: other", "name is 'other'"),
        ("title: Mails", "title: [", "line"),
    ],
)
def test_a_mistake_names_file_and_field(tmp_path: Path, old: str, new: str, field: str) -> None:
    with pytest.raises(ProjectError) as caught:
        load_project(write(tmp_path, GOOD.replace(old, new, 1)))
    assert str(caught.value).startswith("mails.yaml")
    assert field in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["", "- a\n", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ProjectError, match=r"mails\.yaml"):
        load_project(write(tmp_path, text))


def test_a_broken_file_costs_only_its_own_project(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD.replace("name: mails", "name: others").replace("title:", "titel:", 1), "others.yaml")
    assert [p.name for p in load_projects(tmp_path)] == ["mails"]
    (error,) = broken_projects(tmp_path)
    assert "others.yaml" in str(error)


def test_the_published_schema_is_the_model() -> None:
    import json

    published = json.loads((Path(__file__).parents[2] / "docs" / "project-schema.json").read_text())
    assert published == Project.model_json_schema(), "run: make schema"


def test_the_shipped_projects_are_valid() -> None:
    shipped: list[Any] = [load_project(path) for path in project_files()]
    assert {p.name for p in shipped} >= {"email_triage", "address_parsing"}


def test_reserved_metadata_is_what_push_adds() -> None:
    from include.labeling.settings import OWN_METADATA
    from include.project import RESERVED_METADATA

    assert set(OWN_METADATA) == RESERVED_METADATA
