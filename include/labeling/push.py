"""Put a planned batch before people: upsert its records, with suggestions, into the project's Argilla dataset.

An Argilla record keeps one content for life. When a record comes back with new content, or is asked about again
(tier > 0), it gets an Argilla record of its own; so an answer always belongs to the text that was read.

Each page of records is looked up before it is written: what a killed attempt, or a write whose reply got lost, has
left is not written again. So a push may be repeated at any point, goes on where it stopped, and outlives restarts of
Argilla.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import polars as pl

from include.errors import LabelingError
from include.labeling.fields import UnshowableError, argilla_fields
from include.labeling.rules import suggestion_of
from include.labeling.service import Json, LabelingRefusedError, LabelingService, LabelingUnavailableError
from include.labeling.settings import ensure_dataset, known_dataset_id, remember_dataset
from include.labeling.vectors import read_vectors
from include.lake import Lake
from include.lake.consent import consented
from include.lake.keys import canonical_json, uniform
from include.project import REASON_FIELD, Project

log = logging.getLogger(__name__)
Result = TypeVar("Result")

PAGE = 500  # records per bulk call: Argilla's limit, and the fastest
PAGE_CHARACTERS = 8_000_000  # of all fields: the worker, the server and the reply each hold a page in memory
LOOKUP = 250  # external ids that one terms filter takes
# Pauses before a page is looked up and written again. The look-up itself waits until Argilla is back.
PAUSES_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
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
    dataset_id = str(persistently(lambda: ensure_dataset(project, service))["dataset_id"])
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


def persistently(action: Callable[[], Result]) -> Result:
    """Run an action that may be repeated at any point; again while Argilla is away, within limits.

    :raises LabelingUnavailableError: when it stays away.
    """
    for pause in PAUSES_SECONDS:
        try:
            return action()
        except LabelingUnavailableError as error:
            log.warning("%s Looking again in %.1f s.", error, pause)
            time.sleep(pause)
    return action()


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
    """Put the records of all other batches back that have no final label yet and were not withdrawn."""
    labels = lake.read("labels", project.name, columns=["record_id", "content_hash", "status"])
    done = set(labels.filter(pl.col("status") == "final").select("record_id", "content_hash").iter_rows())
    withdrawn = lake.read("withdrawals", project.name, columns=["batch_id", "record_id"])
    restored, refused = 0, []
    for path in sorted(lake.files.list(f"batches/{project.name}")):
        if not path.endswith(".json") or path == f"batches/{batch_id}.json":
            continue
        plan = _load_plan(lake, path.removeprefix("batches/").removesuffix(".json"))
        gone = set(withdrawn.filter(pl.col("batch_id") == plan["batch_id"])["record_id"])
        waiting = [
            one
            for one in plan["selections"]
            if (one["record_id"], one["content_hash"]) not in done and one["record_id"] not in gone
        ]
        pushed, _, bad = _push(project, lake, service, dataset_id, plan, waiting)
        restored += pushed
        refused += bad
    return restored, refused


def _push(
    project: Project, lake: Lake, service: LabelingService, dataset_id: str, plan: Json, selections: Sequence[Json]
) -> tuple[int, int, list[str]]:
    """Push these selections of a plan; how many are there now and were withheld, and who was refused and why."""
    contents = _contents(project, lake, [one["record_id"] for one in selections])
    vectors = read_vectors(project, lake, contents)
    if vectors.dimensions:
        persistently(lambda: ensure_dataset(project, service, vectors.dimensions))
    questions = {str(one["name"]): str(one["id"]) for one in service.list_questions(dataset_id)}
    says_why = any(one["name"] == REASON_FIELD for one in service.list_fields(dataset_id))
    items, refused = [], []
    shown = [one for one in selections if (one["record_id"], one["content_hash"]) in contents]
    for chosen in shown:
        key = (chosen["record_id"], chosen["content_hash"])
        try:
            item = _item(project, lake, plan, chosen, contents[key], questions)
        except UnshowableError as error:
            refused.append(f"{chosen['record_id']}: {error}")
            continue
        if says_why:
            item["fields"][REASON_FIELD] = item["metadata"]["reason"]
        if key in vectors.by_content:
            item["vectors"] = vectors.by_content[key]
        items.append(item)
    for page in _pages(items):
        refused += persistently(lambda page=page: _push_page(service, dataset_id, page))  # type: ignore[misc]
    return len(shown) - len(refused), len(selections) - len(shown), refused


def _pages(items: Sequence[Json]) -> Iterator[list[Json]]:
    """Cut into bulk calls, by number and by size."""
    page: list[Json] = []
    characters = 0
    for item in items:
        size = sum(len(value) if isinstance(value, str) else len(str(value)) for value in item["fields"].values())
        if page and (len(page) == PAGE or characters + size > PAGE_CHARACTERS):
            yield page
            page, characters = [], 0
        page.append(item)
        characters += size
    if page:
        yield page


def _push_page(service: LabelingService, dataset_id: str, items: Sequence[Json]) -> list[str]:
    """Write what is not there yet. Returns ``<external id>: <reason>`` of each refused record."""
    return upsert(service, dataset_id, _missing(service, dataset_id, items))


def _contents(project: Project, lake: Lake, record_ids: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """(record id, content hash) → the stored row, by its newest revision; none of those without consent."""
    rows = lake.read(
        "records",
        project.name,
        columns=["record_id", "content_hash", "fields_json", "metadata_json", "consent"],
        where=pl.col("record_id").is_in(sorted(set(record_ids))),
    ).filter(consented(project))
    return {(row["record_id"], row["content_hash"]): row for row in rows.iter_rows(named=True)}


def _item(
    project: Project, lake: Lake, plan: Json, chosen: Json, row: Mapping[str, Any], questions: Mapping[str, str]
) -> Json:
    """The Argilla record of one selection.

    :raises UnshowableError: when a field's value is not of the field's type.
    """
    external_id = chosen["record_id"]
    if chosen["tier"]:
        external_id += f"{ID_SEPARATOR}{chosen['tier']}"
    fields = json.loads(row["fields_json"])
    item: Json = {
        "external_id": external_id,
        "fields": argilla_fields(project, lake, fields),
        "metadata": _metadata(project, plan, chosen, row),
    }
    shown = chosen["suggestion"] or suggestion_of(project, fields)  # keywords, while there is no model
    if shown is not None and not chosen["blind"]:
        question = shown.get("question") or project.question.name
        agent = shown.get("agent") or chosen["model_version"]
        item["suggestions"] = [suggestion(questions[question], shown["value"], shown["score"], agent)]
    return item


def suggestion(question_id: str, value: Any, score: float | None, agent: str | None) -> Json:
    """A suggestion as Argilla takes it: with one score for each part of an answer of several parts."""
    if score is not None and isinstance(value, list):
        return suggestion(question_id, value, None, agent) | {"score": [score] * len(value) or None}
    return {"question_id": question_id, "value": value, "score": score, "agent": agent, "type": "model"}


def _metadata(project: Project, plan: Json, chosen: Json, row: Mapping[str, Any]) -> Json:
    """Where the record comes from and why it is shown. Nothing about a blind record comes from a model."""
    blind = chosen["blind"]
    own = {
        "batch": plan["batch_id"],
        "cycle": plan["cycle"],
        "strategy": chosen["strategy"],
        "reason": BLIND_REASON if blind else chosen["reason"],
        "priority": _priority(plan, chosen["record_id"]),
        "model_version": None if blind else chosen["model_version"],
        "selection_score": None if blind else chosen.get("score"),
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


def _missing(service: LabelingService, dataset_id: str, items: Sequence[Json]) -> list[Json]:
    """The items that this batch has not brought yet, under another external id where theirs belongs to other content.

    What the batch has brought is left alone: its suggestion may have been refreshed since.
    """
    ids = [one["external_id"] for one in items]
    found = metadata_of(service, dataset_id, ids)
    named = [_with_own_id(one, found) for one in items]
    found |= metadata_of(service, dataset_id, sorted({one["external_id"] for one in named} - set(ids)))
    return [one for one in named if found.get(one["external_id"], {}).get("batch") != one["metadata"]["batch"]]


def _with_own_id(item: Json, found: Mapping[str, Json]) -> Json:
    """The item under another external id when its own already belongs to other content."""
    external_id, content_hash = item["external_id"], item["metadata"]["content_hash"]
    if external_id not in found or found[external_id].get("content_hash") == content_hash:
        return item
    return {**item, "external_id": f"{external_id}{ID_SEPARATOR}{content_hash[:12]}"}


def metadata_of(service: LabelingService, dataset_id: str, external_ids: Sequence[str]) -> dict[str, Json]:
    """External id → metadata, of those that exist."""
    return {one["external_id"]: one.get("metadata") or {} for one in look_up(service, dataset_id, external_ids)}


def look_up(
    service: LabelingService, dataset_id: str, external_ids: Sequence[str], *, include: Sequence[str] = ()
) -> Iterator[Json]:
    """The Argilla records under these external ids, those that exist."""
    for start in range(0, len(external_ids), LOOKUP):
        named = terms("record", "external_id", external_ids[start : start + LOOKUP])
        found, _ = service.search_records(dataset_id, filters=[named], include=include, limit=LOOKUP)
        yield from found


def upsert(service: LabelingService, dataset_id: str, items: Sequence[Json]) -> list[str]:
    """Upsert a page; set refused records aside one by one. Returns ``<external id>: <reason>`` of each."""
    refused: list[str] = []
    waiting = [list(items)]
    while waiting:
        part = waiting.pop()
        try:
            if part:
                service.upsert_records(dataset_id, part)
        except LabelingRefusedError as error:
            if error.position is None and len(part) > 1:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
                continue
            # Argilla checks in order and writes nothing: what stands before the bad one is good.
            bad = part.pop(error.position or 0)
            refused.append(f"{bad['external_id']}: {error.reason}")
            waiting.append(part)
    return refused
