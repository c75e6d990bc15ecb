"""Records that still wait for people: taken back, or shown with a newer model's suggestion.

Both leave alone what anybody has answered, also as a draft: an answer must not vanish, and the suggestion an answer was
given with is read by ``collect`` afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from include.errors import LabelingError
from include.labeling.push import (
    NAMED_REFUSALS,
    PAGE,
    look_up,
    metadata_of,
    persistently,
    record_id_of,
    suggestion,
    terms,
    upsert,
)
from include.labeling.service import Json, LabelingService
from include.labeling.settings import find_dataset
from include.lake import Lake
from include.project import Project

log = logging.getLogger(__name__)

DELETED_AT_ONCE = 100  # Argilla's limit
READ_AT_ONCE = 1000
BY_ID = [{"scope": {"entity": "record", "property": "id"}, "order": "asc"}]


def withdraw(project: Project, service: LabelingService, external_ids: Sequence[str]) -> dict[str, Any]:
    """Take records out of the queue that nobody has answered yet.

    Looked up and removed by hundreds: an answer given in the milliseconds between would go with its record, because
    Argilla removes answers with their records and offers no condition.

    :param external_ids: Argilla's external ids, as ``push_batch`` gave them.
    :returns: ``{"withdrawn", "answered", "gone"}``: external ids by what became of them. *answered* ones stay.
    """
    dataset = find_dataset(project, service)
    fates: dict[str, Any] = {"withdrawn": [], "answered": [], "gone": []}
    wanted = sorted(set(external_ids))
    if dataset is None:
        return {**fates, "gone": wanted}
    for start in range(0, len(wanted), DELETED_AT_ONCE):
        page = wanted[start : start + DELETED_AT_ONCE]
        found = {one["external_id"]: one for one in look_up(service, dataset["id"], page, include=["responses"])}
        untouched = [name for name, record in found.items() if _untouched(record)]
        service.delete_records(dataset["id"], [found[name]["id"] for name in untouched])
        fates["withdrawn"] += untouched
        fates["answered"] += [name for name in found if name not in untouched]
        fates["gone"] += [name for name in page if name not in found]
    log.info("Withdrew %d of %d records of %s.", len(fates["withdrawn"]), len(wanted), project.dataset)
    return fates


def refresh_suggestions(project: Project, lake: Lake, service: LabelingService, model_version: str) -> dict[str, Any]:
    """Give the records that wait untouched the suggestions of this model, from ``predictions``; none to blind ones.

    The reason to show a record stays what it was when it was chosen. Safe to repeat: what has this model's suggestion
    is not written again. Costs as much as there is pending, however large the dataset is.

    :returns: ``{"refreshed", "unscored", "pending"}``; *unscored* ones have no prediction of this model (yet).
    :raises LabelingError: after everything else was refreshed, naming the records Argilla refused.
    """
    counts = {"refreshed": 0, "unscored": 0, "pending": 0}
    dataset = find_dataset(project, service)
    if dataset is None or dataset["status"] == "draft" or project.question.type != "label":
        return counts
    waiting = [one for one in _pending(service, dataset["id"]) if _untouched(one)]
    counts["pending"] = len(waiting)
    stale = _not_blind(project, lake, [one for one in waiting if one["metadata"].get("model_version") != model_version])
    answers = _predictions(project, lake, model_version, stale)
    question_id = next(
        str(one["id"]) for one in service.list_questions(dataset["id"]) if one["name"] == project.question.name
    )
    items = []
    for record in stale:
        answer = answers.get((record_id_of(record["external_id"]), record["metadata"]["content_hash"]))
        if answer is None:
            counts["unscored"] += 1
            continue
        label, confidence, margin = answer
        items.append(
            {
                "external_id": record["external_id"],
                "metadata": record["metadata"] | {"model_version": model_version, "selection_score": 1.0 - margin},
                "suggestions": [suggestion(question_id, label, confidence, model_version)],
            }
        )
    refused: list[str] = []
    for start in range(0, len(items), PAGE):
        page = items[start : start + PAGE]
        refused += persistently(lambda page=page: _refresh(service, dataset["id"], page))  # type: ignore[misc]
    counts["refreshed"] = len(items) - len(refused)
    if refused:
        raise LabelingError(
            f"Argilla refused fresh suggestions for {len(refused)} records: {'; '.join(refused[:NAMED_REFUSALS])}",
            remedy="Check that the model knows only labels of the project file; the others were refreshed.",
        )
    return counts


def _refresh(service: LabelingService, dataset_id: str, items: Sequence[Json]) -> list[str]:
    """Write those that are there and have other suggestions. Returns ``<external id>: <reason>`` of refused ones."""
    found = metadata_of(service, dataset_id, [one["external_id"] for one in items])
    stale = [
        one
        for one in items
        if (live := found.get(one["external_id"])) is not None
        and live.get("model_version") != one["metadata"]["model_version"]
    ]
    return upsert(service, dataset_id, stale)


def _untouched(record: Json) -> bool:
    return record["status"] == "pending" and not record.get("responses")


def _pending(service: LabelingService, dataset_id: str) -> Iterator[Json]:
    """Every record of ours that waits for answers, with those it has."""
    offset, total = 0, 1
    while offset < total:
        records, total = service.search_records(
            dataset_id,
            filters=[terms("record", "status", ["pending"])],
            include=["responses"],
            sort=BY_ID,
            offset=offset,
            limit=READ_AT_ONCE,
        )
        yield from (one for one in records if one["external_id"] and "content_hash" in (one.get("metadata") or {}))
        offset += READ_AT_ONCE


def _not_blind(project: Project, lake: Lake, records: Sequence[Json]) -> list[Json]:
    """Those whose selection is known, and is not blind."""
    selections = lake.read(
        "selections",
        project.name,
        columns=["batch_id", "record_id", "blind"],
        where=pl.col("record_id").is_in(sorted({record_id_of(one["external_id"]) for one in records})),
    ).filter(~pl.col("blind"))
    seeing = set(selections.select("batch_id", "record_id").iter_rows())
    return [one for one in records if (one["metadata"].get("batch"), record_id_of(one["external_id"])) in seeing]


def _predictions(
    project: Project, lake: Lake, model_version: str, records: Sequence[Json]
) -> dict[tuple[str, str], tuple[str, float, float]]:
    """(record id, content hash) → label, confidence, margin."""
    rows = lake.read(
        "predictions",
        project.name,
        columns=["record_id", "content_hash", "label", "confidence", "margin"],
        where=(pl.col("model_version") == model_version)
        & (pl.col("origin") == "batch")
        & pl.col("record_id").is_in(sorted({record_id_of(one["external_id"]) for one in records})),
    )
    return {(row[0], row[1]): (row[2], row[3], row[4]) for row in rows.iter_rows()}
