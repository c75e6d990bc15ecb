"""The Argilla dataset of a project: made from the project file, verified against it, and repaired where Argilla allows.

After publishing, Argilla freezes fields, questions and their values. What may still change (guidelines, titles, label
texts and their order, ``min_submitted``, new metadata and vectors) is brought up to date. When anything else differs,
nothing is changed: the error names every difference and what would become of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from include.errors import LabelingError
from include.labeling.service import Json, LabelingService
from include.lake import Lake
from include.project import REASON_FIELD, Project, Question, RecordField

log = logging.getLogger(__name__)

# Metadata that push adds to every record: name -> (title, Argilla type, may annotators see it).
# Annotators see why and in what order; not what could tell them which answer a model or a measurement expects.
OWN_METADATA: dict[str, tuple[str, str, bool]] = {
    "reason": ("Why you see this", "terms", True),
    "priority": ("Priority (higher first)", "float", True),
    "cycle": ("Cycle", "terms", True),
    "batch": ("Batch", "terms", False),
    "strategy": ("Strategy", "terms", False),
    "model_version": ("Model version", "terms", False),
    "selection_score": ("How much the model hesitates", "float", False),
    "content_hash": ("Content hash", "terms", False),
}
# Metadata is two clicks away in Argilla, so the reason is also the first thing that is read.
OWN_FIELDS = {REASON_FIELD: RecordField(title="Why you see this", required=False)}
QUESTION_TYPES = {"label": "label_selection", "multi_label": "multi_label_selection"}  # the others have the same name
VECTORS_TITLE = "Similar content"
MAX_VECTORS = 5  # kinds of vectors that Argilla takes in one dataset
EDITABLE_OPTIONS = ("label", "multi_label", "span")  # texts and order, never the values


@dataclass(frozen=True)
class Step:
    """One thing in which the live dataset differs from the project file.

    :param action: ``create``, ``update``, ``delete`` can be done in place; ``new_version`` needs a new dataset.
    :param what: the thing that differs, with its name.
    :param difference: how, as a sentence; empty for what is missing.
    """

    action: Literal["create", "update", "delete", "new_version"]
    what: str
    difference: str = ""
    apply: Callable[[], None] | None = None


def ensure_dataset(
    project: Project, service: LabelingService, vectors: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Create, complete, verify, update and publish the project's dataset. Safe to repeat, also after a kill half-way.

    :param vectors: dimensions of each kind of vectors that records will carry, by name.
    :returns: ``{"dataset_id", "created", "updated"}``; *updated* names what was brought up to date.
    :raises LabelingError: when the workspace is missing, or the live dataset differs in something Argilla has frozen;
        then nothing was changed, and the message is the whole plan.
    """
    workspace = service.find_workspace(project.workspace)
    if workspace is None:
        raise LabelingError(
            f"Argilla has no workspace {project.workspace!r} that this key may see",
            remedy="Create the workspace and make the service account a member of it, or correct labeling.workspace.",
        )
    dataset = service.find_dataset(workspace["id"], project.dataset)
    created = dataset is None
    if dataset is None:
        dataset = service.create_dataset({"workspace_id": workspace["id"], **_dataset_settings(project)})
    steps = plan_dataset(project, service, dataset, vectors or {})
    if any(step.action == "new_version" for step in steps):
        raise _differs(project, steps)
    for step in steps:
        if step.apply is not None:
            step.apply()
    if dataset["status"] == "draft":
        service.publish_dataset(dataset["id"])
    updated = [step.what for step in steps if step.action == "update"]
    if updated:
        log.info("Dataset %s was brought up to date: %s.", project.dataset, ", ".join(updated))
    return {"dataset_id": str(dataset["id"]), "created": created, "updated": updated}


def plan_dataset(project: Project, service: LabelingService, live: Json, vectors: Mapping[str, int]) -> list[Step]:
    """What it would take to make the live dataset what the project file says. Changes nothing.

    :param live: the dataset as Argilla shows it.
    :param vectors: as in ``ensure_dataset``.
    """
    dataset_id, draft = str(live["id"]), live["status"] == "draft"
    return [
        *_dataset_steps(project, service, live),
        *_field_steps(project, service, dataset_id, draft),
        *_question_steps(project, service, dataset_id, draft),
        *_metadata_steps(project, service, dataset_id),
        *_vector_steps(service, dataset_id, vectors),
    ]


def find_dataset(project: Project, service: LabelingService) -> Json | None:
    """The live dataset of the project, or None when there is none (or no workspace for it)."""
    workspace = service.find_workspace(project.workspace)
    return None if workspace is None else service.find_dataset(workspace["id"], project.dataset)


def known_dataset_id(project: Project, lake: Lake) -> str | None:
    """The dataset this project pushed to last; None when it never pushed."""
    memory: dict[str, str] | None = lake.files.get_json(_memory_path(project))
    return None if memory is None else memory["dataset_id"]


def remember_dataset(project: Project, lake: Lake, dataset_id: str) -> None:
    """Remember which dataset this project pushes to, so that a deleted one is told from one that never was.

    :raises LabelingError: when another run remembers another dataset at the same moment.
    """
    found = lake.files.get_versioned(_memory_path(project))
    if found is not None and json.loads(found[0])["dataset_id"] == dataset_id:
        return
    data = json.dumps({"dataset_id": dataset_id}).encode()
    swapped = lake.files.swap(_memory_path(project), data, None if found is None else found[1])
    if not swapped and known_dataset_id(project, lake) != dataset_id:
        raise LabelingError(
            f"two runs prepared dataset {project.dataset!r} at once", remedy="Retry: the second run finds it ready."
        )


def _memory_path(project: Project) -> str:
    return f"labeling/{project.dataset}.json"


def _dataset_settings(project: Project) -> Json:
    return {
        "name": project.dataset,
        "guidelines": project.labeling.guidelines,
        "allow_extra_metadata": False,  # a metadata key nobody declared is a mistake, so let Argilla refuse it
        "distribution": {"strategy": "overlap", "min_submitted": project.labeling.min_submitted},
    }


def _dataset_steps(project: Project, service: LabelingService, live: Json) -> Iterator[Step]:
    wanted = _dataset_settings(project)
    for name in ("distribution", "guidelines"):
        if live.get(name) != wanted[name]:
            yield Step("update", name, apply=partial(service.update_dataset, live["id"], {name: wanted[name]}))


def _field_steps(project: Project, service: LabelingService, dataset_id: str, draft: bool) -> Iterator[Step]:
    live = {one["name"]: one for one in service.list_fields(dataset_id)}
    # A dataset published without our own field goes on without it.
    own = {name: field for name, field in OWN_FIELDS.items() if draft or name in live}
    wanted_fields = {**own, **project.source.fields}
    yield from _unequal_names("fields", set(live), set(wanted_fields), draft)
    for name, field in wanted_fields.items():
        settings, found, what = _field_settings(field), live.get(name), f"field {name}"
        if found is None:
            wanted = {"name": name, "title": field.title, "required": field.required, "settings": settings}
            if draft:
                yield Step("create", what, apply=partial(service.create_field, dataset_id, wanted))
            continue
        frozen = {
            "type": (found["settings"]["type"], field.type),
            "required": (found["required"], field.required),
        }
        if differing := _frozen(what, frozen):
            yield from differing
        elif changes := _changes(found, {"title": field.title, "settings": settings}):
            yield Step("update", what, apply=partial(service.update_field, found["id"], changes))


def _field_settings(field: RecordField) -> Json:
    if field.type == "custom":
        return {"type": "custom", "template": field.template, "advanced_mode": field.scripts}
    return {"type": field.type} if field.type == "image" else {"type": field.type, "use_markdown": field.markdown}


def _question_steps(project: Project, service: LabelingService, dataset_id: str, draft: bool) -> Iterator[Step]:
    live = {one["name"]: one for one in service.list_questions(dataset_id)}
    questions = project.labeling.questions
    yield from _unequal_names("questions", set(live), {question.name for question in questions}, draft)
    for question in questions:
        settings, found, what = _question_settings(question), live.get(question.name), f"question {question.name}"
        words = {"title": question.title, "description": question.description}
        if found is None:
            wanted = {"name": question.name, **words, "required": question.required, "settings": settings}
            if draft:
                yield Step("create", what, apply=partial(service.create_question, dataset_id, wanted))
        elif differing := _frozen(what, _frozen_in_question(question, settings, found)):
            yield from differing
        else:
            changes = _changes(found, words)
            editable = ("options",) if question.type in EDITABLE_OPTIONS else ("use_markdown",)
            if any(found["settings"].get(key) != settings[key] for key in editable if key in settings):
                changes["settings"] = settings
            if changes:
                yield Step("update", what, apply=partial(service.update_question, found["id"], changes))


def _question_settings(question: Question) -> Json:
    settings: Json = {"type": QUESTION_TYPES.get(question.type, question.type)}
    if question.type == "rating":
        settings["options"] = [{"value": value} for value in question.ratings]
    elif question.type == "text":
        settings["use_markdown"] = question.markdown
    else:
        settings["options"] = [
            {"value": value, "text": text, "description": None} for value, text in question.labels.items()
        ]
    if question.type == "span":
        settings["field"] = question.field
    return settings


def _frozen_in_question(question: Question, settings: Json, found: Json) -> dict[str, tuple[Any, Any]]:
    live = found["settings"]
    frozen = {
        "type": (live["type"], settings["type"]),
        "required": (found["required"], question.required),
        "field": (live.get("field"), question.field),
    }
    if live["type"] == settings["type"] and "options" in settings:
        values = [_names(str(one["value"]) for one in these["options"]) for these in (live, settings)]
        frozen["labels"] = (values[0], values[1])
        if question.type == "ranking" and values[0] == values[1]:
            texts = [", ".join(one["text"] for one in these["options"]) for these in (live, settings)]
            frozen["texts"] = (texts[0], texts[1])
    return frozen


def _metadata_steps(project: Project, service: LabelingService, dataset_id: str) -> Iterator[Step]:
    wanted = dict(OWN_METADATA)
    wanted.update({name: (one.title, one.type, one.visible) for name, one in project.source.metadata.items()})
    live = {one["name"]: one for one in service.list_metadata_properties(dataset_id)}
    for name, (title, kind, visible) in wanted.items():
        found, what = live.get(name), f"metadata {name}"
        if found is None:
            settings = {"name": name, "title": title, "settings": {"type": kind}, "visible_for_annotators": visible}
            yield Step("create", what, apply=partial(service.create_metadata_property, dataset_id, settings))
        elif differing := _frozen(what, {"type": (found["settings"]["type"], kind)}):
            yield from differing
        elif changes := _changes(found, {"title": title, "visible_for_annotators": visible}):
            yield Step("update", what, apply=partial(service.update_metadata_property, found["id"], changes))


def _vector_steps(service: LabelingService, dataset_id: str, wanted: Mapping[str, int]) -> Iterator[Step]:
    live = {one["name"]: one for one in service.list_vectors_settings(dataset_id)} if wanted else {}
    outdated = sorted((one["inserted_at"], name) for name, one in live.items() if name not in wanted)
    for _, name in outdated[: max(0, len({*live, *wanted}) - MAX_VECTORS)]:  # the embedder was replaced again and again
        yield Step("delete", f"vectors {name}", apply=partial(service.delete_vectors_settings, live[name]["id"]))
    for name, dimensions in wanted.items():
        what = f"vectors {name}"
        if name not in live:
            settings = {"name": name, "title": VECTORS_TITLE, "dimensions": dimensions}
            yield Step("create", what, apply=partial(service.create_vectors_settings, dataset_id, settings))
        else:
            yield from _frozen(what, {"dimensions": (live[name]["dimensions"], dimensions)})


def _unequal_names(what: str, live: set[str], wanted: set[str], draft: bool) -> Iterator[Step]:
    """More than wanted is a difference; less is one only once the dataset is published (a draft is completed)."""
    if live - wanted or (live != wanted and not draft):
        yield Step("new_version", what, f"it has the {what} {_names(live)}, the file says {_names(wanted)}")


def _frozen(what: str, values: Mapping[str, tuple[Any, Any]]) -> list[Step]:
    """A step for each value that is not what it should be, and cannot be changed."""
    return [
        Step("new_version", what, f"{what} has the {name} {is_now}, the file says {should_be}")
        for name, (is_now, should_be) in values.items()
        if is_now != should_be
    ]


def _changes(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Json:
    return {key: value for key, value in wanted.items() if live.get(key) != value}


def _names(values: Iterable[str]) -> str:
    return ", ".join(sorted(values)) or "none"


def _differs(project: Project, steps: list[Step]) -> LabelingError:
    frozen = "; ".join(step.difference for step in steps if step.action == "new_version")
    others = ", ".join(f"{step.action} {step.what}" for step in steps if step.action != "new_version")
    too = f" It will also have what could have been done in place: {others}." if others else ""
    return LabelingError(
        f"dataset {project.dataset!r} in Argilla differs from the project file in what Argilla has frozen, and was "
        f"left as it is: {frozen}",
        remedy=f"Raise labeling.schema_version in {project.name}.yaml to {project.labeling.schema_version + 1}: the "
        f"next batch goes to a new dataset, and this one stays with its answers.{too}",
    )
