"""The Argilla dataset of a project: made from the project file, verified against it, and repaired where Argilla allows.

After publishing, Argilla freezes fields, questions and label values. What may still change (guidelines, titles, label
texts and their order, ``min_submitted``, new metadata properties) is brought up to date; anything else is an error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from include.errors import LabelingError
from include.labeling.service import Json, LabelingService
from include.lake import Lake
from include.project import Project, Question

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
    "content_hash": ("Content hash", "terms", False),
}
QUESTION_TYPES = {"label": "label_selection", "span": "span"}


def ensure_dataset(project: Project, service: LabelingService) -> dict[str, Any]:
    """Create, complete, verify, update and publish the project's dataset. Safe to repeat, also after a kill half-way.

    :returns: ``{"dataset_id", "created", "updated"}``; *updated* names what was brought up to date.
    :raises LabelingError: when the workspace is missing, or the live dataset differs in something Argilla has frozen.
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
    dataset_id, draft = str(dataset["id"]), dataset["status"] == "draft"
    updated = [
        *_update_dataset(project, service, dataset),
        *_ensure_fields(project, service, dataset_id, draft),
        *_ensure_question(project, service, dataset_id, draft),
        *_ensure_metadata(project, service, dataset_id),
    ]
    if draft:
        service.publish_dataset(dataset_id)
    if updated:
        log.info("Dataset %s was brought up to date: %s.", project.dataset, ", ".join(updated))
    return {"dataset_id": dataset_id, "created": created, "updated": updated}


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


def _update_dataset(project: Project, service: LabelingService, live: Json) -> list[str]:
    wanted = _dataset_settings(project)
    changes = _changes(live, {key: wanted[key] for key in ("guidelines", "distribution")})
    if changes:
        service.update_dataset(live["id"], changes)
    return sorted(changes)


def _ensure_fields(project: Project, service: LabelingService, dataset_id: str, draft: bool) -> list[str]:
    live = {one["name"]: one for one in service.list_fields(dataset_id)}
    _refuse_unequal(project, "fields", set(live), set(project.source.fields), draft)
    updated = []
    for name, field in project.source.fields.items():
        settings = {"type": "text", "use_markdown": field.markdown}
        found = live.get(name)
        if found is None:
            service.create_field(
                dataset_id, {"name": name, "title": field.title, "required": field.required, "settings": settings}
            )
            continue
        for what, is_now, should_be in (
            ("type", found["settings"]["type"], "text"),
            ("required", found["required"], field.required),
        ):
            if is_now != should_be:
                raise _differs(project, f"field {name!r} has {what} {is_now}, the file says {should_be}")
        if changes := _changes(found, {"title": field.title, "settings": settings}):
            service.update_field(found["id"], changes)
            updated.append(f"field {name}")
    return updated


def _ensure_question(project: Project, service: LabelingService, dataset_id: str, draft: bool) -> list[str]:
    question = project.question
    live = {one["name"]: one for one in service.list_questions(dataset_id)}
    _refuse_unequal(project, "questions", set(live), {question.name}, draft)
    options = [{"value": value, "text": text, "description": None} for value, text in question.labels.items()]
    settings: Json = {"type": QUESTION_TYPES[question.type], "options": options}
    found = live.get(question.name)
    if found is None:
        if question.field is not None:
            settings["field"] = question.field
        service.create_question(
            dataset_id,
            {
                "name": question.name,
                "title": question.title,
                "description": question.description,
                "required": True,
                "settings": settings,
            },
        )
        return []
    _refuse_other_question(project, question, found["settings"])
    changes = _changes(found, {"title": question.title, "description": question.description})
    if found["settings"]["options"] != options:
        changes["settings"] = settings
    if changes:
        service.update_question(found["id"], changes)
    return [f"question {question.name}"] if changes else []


def _refuse_other_question(project: Project, question: Question, live: Json) -> None:
    name, wanted_type = question.name, QUESTION_TYPES[question.type]
    if live["type"] != wanted_type:
        raise _differs(project, f"question {name!r} is of type {live['type']}, the file says {wanted_type}")
    if live.get("field") != question.field:
        raise _differs(project, f"question {name!r} marks {live.get('field')!r}, the file says {question.field!r}")
    values = {option["value"] for option in live["options"]}
    if values != set(question.labels):
        raise _differs(
            project,
            f"question {name!r} has the labels {_names(values)}, the file says {_names(set(question.labels))}",
        )


def _ensure_metadata(project: Project, service: LabelingService, dataset_id: str) -> list[str]:
    wanted = dict(OWN_METADATA)
    wanted.update({name: (one.title, one.type, True) for name, one in project.source.metadata.items()})
    live = {one["name"]: one for one in service.list_metadata_properties(dataset_id)}
    updated = []
    for name, (title, kind, visible) in wanted.items():
        found = live.get(name)
        if found is None:
            settings = {"name": name, "title": title, "settings": {"type": kind}, "visible_for_annotators": visible}
            service.create_metadata_property(dataset_id, settings)
            continue
        if found["settings"]["type"] != kind:
            raise _differs(project, f"metadata {name!r} is of type {found['settings']['type']}, the file says {kind}")
        if changes := _changes(found, {"title": title, "visible_for_annotators": visible}):
            service.update_metadata_property(found["id"], changes)
            updated.append(f"metadata {name}")
    return updated


def _refuse_unequal(project: Project, what: str, live: set[str], wanted: set[str], draft: bool) -> None:
    """More than wanted is a difference; less is one only once the dataset is published (a draft is completed)."""
    if live - wanted or (live != wanted and not draft):
        raise _differs(project, f"it has the {what} {_names(live)}, the file says {_names(wanted)}")


def _changes(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Json:
    return {key: value for key, value in wanted.items() if live.get(key) != value}


def _names(values: set[str]) -> str:
    return ", ".join(sorted(values)) or "none"


def _differs(project: Project, difference: str) -> LabelingError:
    return LabelingError(
        f"dataset {project.dataset!r} in Argilla differs from the project file: {difference}",
        remedy=f"Raise labeling.schema_version in {project.name}.yaml: a new dataset is made, the old one stays.",
    )
