"""Put a planned batch before people: upsert its records, with suggestions, into the project's Argilla dataset.

An Argilla record keeps one content for life. When a record comes back with new content, or is asked about again
(tier > 0), it gets an Argilla record of its own; so an answer always belongs to the text that was read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from include.errors import LabelingError
from include.labeling.service import Json, LabelingRefusedError, LabelingService
from include.labeling.settings import ensure_dataset, known_dataset_id, remember_dataset
from include.lake import Lake
from include.lake.consent import consented
from include.lake.keys import canonical_json, uniform
from include.project import Project

log = logging.getLogger(__name__)

PAGE = 250  # records per bulk call: as many external ids as one terms filter of the look-up takes
ID_SEPARATOR = "#"
BLIND_REASON = "Chosen for this cycle"  # a reason that quotes the model would unblind
NAMED_REFUSALS = 5


def push_batch(project: Project, lake: Lake, service: LabelingService, batch_id: str) -> dict[str, Any]:
    """Push a batch; prepares the dataset first. Repeating it adds nothing, and answers already given stay.

    When a person had deleted the dataset, it is made anew and the unlabeled records of earlier batches are put back.

    :returns: ``{"pushed", "withheld", "restored", "recreated", "dataset_id"}``; *withheld* counts records whose consent
        is gone or whose content has changed since the plan, *restored* the records of earlier batches.
    :raises LabelingError: after everything else was pushed, naming the records Argilla refused.
    """
    plan = _load_plan(lake, batch_id)
    dataset_id = str(ensure_dataset(project, service)["dataset_id"])
    known = known_dataset_id(project, lake)
    recreated = known not in (None, dataset_id)
    if known is None:
        remember_dataset(project, lake, dataset_id)
    pushed, withheld, refused = _push(project, lake, service, dataset_id, plan, plan["selections"])
    restored = 0
    if recreated:
        log.warning(
            "Dataset %s had been deleted in Argilla and was made anew. Answers collected before stay in the lake; "
            "records without a final label are put back.",
            project.dataset,
        )
        restored, refused_earlier = _restore(project, lake, service, dataset_id, batch_id)
        refused += refused_earlier
        remember_dataset(project, lake, dataset_id)  # last: a kill before this repeats the restoring
    if refused:
        named = "; ".join(refused[:NAMED_REFUSALS]) + (" …" if len(refused) > NAMED_REFUSALS else "")
        raise LabelingError(
            f"Argilla refused {len(refused)} records of batch {batch_id}, {pushed + restored} were pushed: {named}",
            remedy="Correct these records at their source, or the project file; pushing again is safe.",
        )
    return {
        "pushed": pushed,
        "withheld": withheld,
        "restored": restored,
        "recreated": recreated,
        "dataset_id": dataset_id,
    }


def record_id_of(external_id: str) -> str:
    """The lake's record id of an Argilla record."""
    return external_id.split(ID_SEPARATOR, 1)[0]


def terms(entity: str, name: str, values: Sequence[str]) -> Json:
    """A search filter: the property has one of these values."""
    return {"type": "terms", "scope": {"entity": entity, "property": name}, "values": list(values)}


def _load_plan(lake: Lake, batch_id: str) -> Json:
    plan: Json | None = lake.files.get_json(f"batches/{batch_id}.json")
    if plan is None:
        raise LabelingError(f"batch {batch_id!r} was never planned", remedy="Check the batch id, or plan it first.")
    return plan


def _restore(
    project: Project, lake: Lake, service: LabelingService, dataset_id: str, batch_id: str
) -> tuple[int, list[str]]:
    """Put the records of all other batches back that have no final label yet."""
    labels = lake.read("labels", project.name, columns=["record_id", "content_hash", "status"])
    done = set(labels.filter(pl.col("status") == "final").select("record_id", "content_hash").iter_rows())
    restored, refused = 0, []
    for path in sorted(lake.files.list(f"batches/{project.name}")):
        if not path.endswith(".json") or path == f"batches/{batch_id}.json":
            continue
        plan = _load_plan(lake, path.removeprefix("batches/").removesuffix(".json"))
        waiting = [one for one in plan["selections"] if (one["record_id"], one["content_hash"]) not in done]
        pushed, _, bad = _push(project, lake, service, dataset_id, plan, waiting)
        restored += pushed
        refused += bad
    return restored, refused


def _push(
    project: Project, lake: Lake, service: LabelingService, dataset_id: str, plan: Json, selections: Sequence[Json]
) -> tuple[int, int, list[str]]:
    """Push these selections of a plan; how many were pushed and withheld, and who was refused and why."""
    contents = _contents(project, lake, [one["record_id"] for one in selections])
    question_id = next(
        str(one["id"]) for one in service.list_questions(dataset_id) if one["name"] == project.question.name
    )
    items = [
        _item(project, plan, chosen, contents[key], question_id)
        for chosen in selections
        if (key := (chosen["record_id"], chosen["content_hash"])) in contents
    ]
    refused: list[str] = []
    for start in range(0, len(items), PAGE):
        page = _with_own_ids(service, dataset_id, items[start : start + PAGE])
        refused += _upsert(service, dataset_id, page)
    return len(items) - len(refused), len(selections) - len(items), refused


def _contents(project: Project, lake: Lake, record_ids: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """(record id, content hash) → the stored row, by its newest revision; none of those without consent."""
    rows = lake.read(
        "records",
        project.name,
        columns=["record_id", "content_hash", "fields_json", "metadata_json", "consent"],
        where=pl.col("record_id").is_in(sorted(set(record_ids))),
    ).filter(consented(project))
    return {(row["record_id"], row["content_hash"]): row for row in rows.iter_rows(named=True)}


def _item(project: Project, plan: Json, chosen: Json, row: Mapping[str, Any], question_id: str) -> Json:
    """The Argilla record of one selection."""
    external_id = chosen["record_id"]
    if chosen["tier"]:
        external_id += f"{ID_SEPARATOR}{chosen['tier']}"
    fields = json.loads(row["fields_json"])
    item: Json = {
        "external_id": external_id,
        "fields": {name: _text(fields[name]) for name in project.source.fields if fields.get(name) is not None},
        "metadata": _metadata(project, plan, chosen, row),
    }
    suggestion = chosen["suggestion"]
    if suggestion is not None and not chosen["blind"]:
        score = suggestion["score"]
        if score is not None and isinstance(suggestion["value"], list):
            score = [score] * len(suggestion["value"]) or None  # Argilla wants one score per span
        item["suggestions"] = [
            {
                "question_id": question_id,
                "value": suggestion["value"],
                "score": score,
                "agent": chosen["model_version"],
                "type": "model",
            }
        ]
    return item


def _metadata(project: Project, plan: Json, chosen: Json, row: Mapping[str, Any]) -> Json:
    own = {
        "batch": plan["batch_id"],
        "cycle": plan["cycle"],
        "strategy": chosen["strategy"],
        "reason": BLIND_REASON if chosen["blind"] else chosen["reason"],
        "priority": _priority(plan, chosen["record_id"]),
        "model_version": chosen["model_version"],
        "content_hash": chosen["content_hash"],
    }
    stored = json.loads(row["metadata_json"] or "{}")
    columns = {
        name: _text(stored[name]) if kind.type == "terms" else stored[name]
        for name, kind in project.source.metadata.items()
        if stored.get(name) is not None
    }
    return {**columns, **{name: value for name, value in own.items() if value is not None}}


def _priority(plan: Json, record_id: str) -> float:
    """The same random order for everyone, extra batches first.

    One order for all completes records early; a random one keeps a half-done queue from favouring a strategy, which
    would bias every estimate made from the answers.
    """
    first = 1.0 if plan["kind"] != "cycle" else 0.0
    return round(first + uniform("queue", plan["batch_id"], record_id), 6)


def _text(value: object) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _with_own_ids(service: LabelingService, dataset_id: str, items: Sequence[Json]) -> list[Json]:
    """Give an item another external id when its own already belongs to other content."""
    found, _ = service.search_records(
        dataset_id, filters=[terms("record", "external_id", [one["external_id"] for one in items])], limit=PAGE
    )
    content = {one["external_id"]: (one.get("metadata") or {}).get("content_hash") for one in found}
    return [
        one
        if content.get(one["external_id"], (wanted := one["metadata"]["content_hash"])) == wanted
        else {**one, "external_id": f"{one['external_id']}{ID_SEPARATOR}{wanted[:12]}"}
        for one in items
    ]


def _upsert(service: LabelingService, dataset_id: str, items: Sequence[Json]) -> list[str]:
    """Upsert a page; set refused records aside one by one. Returns ``<external id>: <reason>`` of each."""
    if not items:
        return []
    try:
        service.upsert_records(dataset_id, items)
    except LabelingRefusedError as error:
        if len(items) == 1:
            return [f"{items[0]['external_id']}: {error.reason}"]
        if error.position is not None:
            # Argilla checks in order and writes nothing: what stands before the bad one is good.
            bad = f"{items[error.position]['external_id']}: {error.reason}"
            rest = [*items[: error.position], *items[error.position + 1 :]]
            return [bad, *_upsert(service, dataset_id, rest)]
        half = len(items) // 2
        return [*_upsert(service, dataset_id, items[:half]), *_upsert(service, dataset_id, items[half:])]
    return []
