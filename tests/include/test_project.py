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
        ("title: Mails", "title: Mails\nsampling: {mixture: {random: 0.5, margn: 0.5}}", "'margn' is none of random"),
        ("title: Mails", "title: Mails\nsampling: {mixture: {random: 0.5, stratified: 0.5}}", "options.by"),
        (
            "title: Mails",
            "title: Mails\nsampling: {mixture: [{strategy: random, share: 1, options: {by: x}}]}",
            "sampling.mixture.long.0",
        ),
        (
            "title: Mails",
            "title: Mails\nsampling: {mixture: [{strategy: random, share: 0.5}, "
            "{strategy: stale, share: 0.5, options: {by: lang}}]}",
            "stale names 'lang'",
        ),
        ("prefix: mails/", "prefix: mails/\n  metadata: {batch: {title: Batch}}", "source.metadata"),
        ("title: Mails", "title: Mails\nvalidation: {expectations: [{kwargs: {}}]}", "validation.expectations"),
        ("title: Mails", "title: Mails\nvalidation: {suite: nowhere.yaml}", "'nowhere.yaml' does not exist"),
        ("title: Mails", "title: Mails\nvalidation: {suite: a.yaml, expectations: [{}]}", "keep one of them"),
        ("title: Mails", "title: Mails\ntraining: {label_suite: ../x.yaml}", "below suites/"),
        ("title: Mails", "title: Mails\ntraining: {label_expectations: [{}]}", "training.label_expectations[0]"),
        ("type: label", "type: span", "labeling.questions.0"),
        ("{spam: Spam, ham: Ham}", "{spam: Spam}", "label questions need 2 'labels' or more"),
        ("{spam: Spam, ham: Ham}", "{spam: Spam, ham: Ham}, ratings: [1, 2]", "'ratings' belongs to rating questions"),
        ("{spam: Spam, ham: Ham}", "{spam: Spam, ham: Ham}, markdown: true", "'markdown' belongs to text questions"),
        ("{spam: Spam, ham: Ham}", "{spam: Spam, ham: Ham}, required: false", "so it must be required"),
        ("type: label", "type: text", "text questions need no 'labels'"),
        ("type: label", "type: ranking", "comes first, and answers to ranking questions are kept but not yet made"),
        (
            "  questions:",
            "  questions:\n    - {name: kind, type: span, title: T, field: text, labels: {a: A}}",
            "'kind'",
        ),
        (
            "  questions:",
            "  questions:\n    - {name: sure, type: rating, title: T, ratings: [1]}",
            "two or more different",
        ),
        ("{title: Text}", "{title: Text, type: custom}", "custom fields need it"),
        ("{title: Text}", "{title: Text, template: <b>}", "'template' belongs to custom fields"),
        ("{title: Text}", "{title: Text, type: image, markdown: true}", "does not go with image fields"),
        ("{title: Text}", "{title: Text, scripts: true}", "'scripts' belongs to custom fields"),
        ("text: {title: Text}", "why_shown: {title: Text}", "'why_shown' is the name of the field"),
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


def test_spans_are_marked_in_texts_only(tmp_path: Path) -> None:
    text = GOOD.replace("{title: Text}", "{title: Text, type: chat}").replace("type: label", "type: span, field: text")
    with pytest.raises(ProjectError, match="marks field 'text', which is no text field"):
        load_project(write(tmp_path, text))


def test_a_project_may_ask_more_than_what_becomes_a_label(tmp_path: Path) -> None:
    more = """
    - {name: sure, type: rating, title: "How sure?", ratings: [1, 2, 3]}
    - {name: why, type: text, title: "Why?", required: false}
"""
    project = load_project(write(tmp_path, GOOD.rstrip() + more))
    assert [question.type for question in project.labeling.questions] == ["label", "rating", "text"]
    assert project.question.name == "kind"


def test_image_objects_are_shown_as_images(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, GOOD.replace("prefix: mails/", "prefix: mails/\n  format: image")))
    assert project.source.fields["text"].type == "image"


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


def test_a_mixture_has_a_short_and_a_long_form(tmp_path: Path) -> None:
    long = (
        "sampling:\n  mixture:\n"
        "    - {strategy: random, share: 0.5}\n"
        "    - {strategy: my.package:Own, share: 0.3, options: {any: thing}}\n"
        "    - {strategy: hybrid, share: 0.2}\n"
    )
    lines = load_project(write(tmp_path, GOOD + long)).sampling.lines
    assert [(line.strategy, line.share) for line in lines] == [
        ("random", 0.5),
        ("my.package:Own", 0.3),
        ("hybrid", 0.2),
    ]
    assert lines[1].options == {"any": "thing"}
    short = GOOD + "sampling: {mixture: {random: 0.4, margin: 0.6}}\n"
    sampling = load_project(write(tmp_path, short)).sampling
    assert [(line.strategy, line.share, line.options) for line in sampling.lines] == [
        ("random", 0.4, {}),
        ("margin", 0.6, {}),
    ]
    assert sampling.model_dump()["mixture"] == {"random": 0.4, "margin": 0.6}  # as decisions record it


def test_the_published_schema_is_the_model() -> None:
    import json

    published = json.loads((Path(__file__).parents[2] / "docs" / "project-schema.json").read_text())
    assert published == Project.model_json_schema(), "write json.dumps(Project.model_json_schema(), indent=1) there"


def test_the_shipped_projects_are_valid() -> None:
    shipped: list[Any] = [load_project(path) for path in project_files()]
    assert {p.name for p in shipped} >= {"email_triage", "address_parsing"}


def test_reserved_metadata_is_what_push_adds() -> None:
    from include.labeling.settings import OWN_METADATA
    from include.project import RESERVED_METADATA

    assert set(OWN_METADATA) == RESERVED_METADATA


def test_reliability_needs_classes(tmp_path: Path) -> None:
    spans = GOOD.replace("type: label", "type: span, field: text")
    with pytest.raises(ProjectError, match="aggregation 'reliability' needs a label question first"):
        load_project(write(tmp_path, spans.replace("labeling:", "labeling:\n  aggregation: reliability")))
    assert load_project(write(tmp_path, spans)).labeling.aggregation == "majority"
