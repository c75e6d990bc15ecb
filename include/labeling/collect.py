"""Bring answers back from Argilla into ``responses``, a journal that keeps every version of every answer.

A person's response to a record is one row for each question of the project, also for those no labels are decided for.

A sweep reads all answered records, compares them with the journal and appends what differs. Why it loses nothing while
people keep answering:

- The watermark of a sweep is what was read *before* its first page. Whatever happens later moves Argilla's activity, so
  the next sweep does not skip; an answer that a paging shift hid is found then.
- An answer that is missing from the pages is looked up by its record before it is called deleted.
- An answer given before the live dataset existed belongs to a dataset that is gone; its absence means nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from include.errors import LabelingError
from include.labeling.push import record_id_of, terms
from include.labeling.service import Json, LabelingNotFoundError, LabelingService
from include.labeling.settings import find_dataset, known_dataset_id
from include.lake import Lake
from include.lake.keys import canonical_json, digest, shard
from include.project import Project, Question

log = logging.getLogger(__name__)

PAGE = 1000
LOOKUP = 250  # values Argilla takes in one terms filter
KEPT_STATUSES = ("submitted", "discarded")  # drafts are never stored
INCLUDE = ("responses", "suggestions")
BY_ID = [{"scope": {"entity": "record", "property": "id"}, "order": "asc"}]
# A sweep this soon after the last activity may have read a search index that was not refreshed yet, and clocks differ.
SETTLE = timedelta(seconds=60)
# Argilla's activity does not move for answers an owner bulk-loads with equal counts; look at everything once a day.
FULL_SWEEP = timedelta(hours=24)
TICK = timedelta(microseconds=1)

AnswerKey = tuple[str, str, str, str]  # record id, content hash, question, annotator


@dataclass(frozen=True)
class Answer:
    """One answer as Argilla shows it now."""

    key: AnswerKey
    response_id: str
    updated_at: datetime
    status: str
    value_json: str | None
    suggestion_json: str | None
    model_version: str | None
    batch_id: str | None


def collect_responses(project: Project, lake: Lake, service: LabelingService, *, now: datetime) -> dict[str, Any]:
    """Append every new version of every answer to ``responses``.

    *edited* counts new versions of answers already in the journal, *deleted* those that are gone or drafts again.

    :param now: the time of this sweep, stored as ``collected_at``.
    :returns: ``{"submitted", "edited", "discarded", "deleted", "unchanged", "versions_appended", "swept"}``; *swept* is
        False when Argilla shows no activity since the last complete sweep.
    :raises LabelingError: when the dataset was deleted in Argilla: that retracts nothing.
    """
    counts: dict[str, Any] = dict.fromkeys(("submitted", "edited", "discarded", "deleted", "unchanged"), 0)
    dataset = find_dataset(project, service)
    if dataset is None and known_dataset_id(project, lake) is not None:
        raise _gone(project)
    if dataset is None or dataset["status"] == "draft":
        return {**counts, "versions_appended": 0, "swept": False}  # nothing was ever pushed
    try:
        return _sweep(project, lake, service, dataset, counts, now)
    except LabelingNotFoundError as error:
        raise _gone(project) from error


def _sweep(
    project: Project, lake: Lake, service: LabelingService, dataset: Json, counts: dict[str, Any], now: datetime
) -> dict[str, Any]:
    activity = _activity(service, dataset["id"])
    watermark = lake.files.get_versioned(_watermark_path(project))
    if watermark is not None and _nothing_new(json.loads(watermark[0]), activity, now):
        return {**counts, "versions_appended": 0, "swept": False}
    journal = _newest_versions(project, lake)
    names = {row["response_id"]: row["annotator"] for row in journal.values()}
    users = service.usernames(dataset["workspace_id"])
    questions = {str(one["id"]): str(one["name"]) for one in service.list_questions(dataset["id"])}
    answers = _by_key(_answers(project, _answered_records(service, dataset["id"]), questions, users, names))
    made_at = _time(dataset["inserted_at"])
    absent = [row for key, row in journal.items() if key not in answers and _could_vanish(row, made_at)]
    hidden = _records_with(service, dataset["id"], {row["content_hash"] for row in absent})
    found_again = _by_key(_answers(project, hidden, questions, users, names))
    answers |= {key: answer for key, answer in found_again.items() if key in journal}
    rows = []
    for answer in answers.values():
        before = journal.get(answer.key)
        if before is not None and not _changed(before, answer):
            counts["unchanged"] += 1
            continue
        rows.append(_version(project, answer, before, now))
        edited = before is not None and before["status"] == answer.status == "submitted"
        counts["edited" if edited else answer.status] += 1
    for row in absent:
        if _key(row) not in answers:
            rows.append(_deletion(row, now))
            counts["deleted"] += 1
    lake.append("responses", rows, app_id=_app_id(project, rows))
    state = {**activity, "swept_at": now.isoformat()}
    # Losing this swap means that another sweep finished meanwhile: its watermark is as good as ours.
    lake.files.swap(_watermark_path(project), json.dumps(state).encode(), None if watermark is None else watermark[1])
    log.info("Swept %d answers of %s: %d new versions.", len(answers), project.dataset, len(rows))
    return {**counts, "versions_appended": len(rows), "swept": True}


def _gone(project: Project) -> LabelingError:
    return LabelingError(
        f"dataset {project.dataset!r} was deleted in Argilla; the answers collected from it stay in the lake",
        remedy=f"Run {project.dag_id('sample')}: it makes the dataset anew and puts unlabeled records back.",
    )


def _watermark_path(project: Project) -> str:
    return f"labeling/{project.dataset}.sweep.json"


def _activity(service: LabelingService, dataset_id: str) -> Json:
    """What moves when people answer: Argilla's own time stamp, and the counts by user as a checksum beside it."""
    dataset = service.get_dataset(dataset_id)
    return {
        "dataset_id": dataset_id,
        "last_activity_at": dataset["last_activity_at"],
        "progress": digest(canonical_json(service.users_progress(dataset_id))),
    }


def _nothing_new(seen: Json, activity: Json, now: datetime) -> bool:
    swept_at = datetime.fromisoformat(seen["swept_at"])
    settled = swept_at - _time(activity["last_activity_at"]) >= SETTLE
    recent = now - swept_at < FULL_SWEEP
    return settled and recent and all(seen[name] == value for name, value in activity.items())


def _newest_versions(project: Project, lake: Lake) -> dict[AnswerKey, dict[str, Any]]:
    """The journal's newest version of every answer to the present questions and schema."""
    rows = lake.read(
        "responses",
        project.name,
        where=pl.col("question").is_in([question.name for question in project.labeling.questions])
        & (pl.col("schema_version") == project.labeling.schema_version),
    ).sort("version_at")
    return {_key(row): row for row in rows.iter_rows(named=True)}


def _key(row: dict[str, Any]) -> AnswerKey:
    return row["record_id"], row["content_hash"], row["question"], row["annotator"]


def _answered_records(service: LabelingService, dataset_id: str) -> Iterator[Json]:
    """Every record with a submitted or discarded answer."""
    return _search(service, dataset_id, terms("response", "status", KEPT_STATUSES))


def _records_with(service: LabelingService, dataset_id: str, content_hashes: Iterable[str]) -> Iterator[Json]:
    """Every record with one of these contents, whatever its answers are."""
    wanted = sorted(content_hashes)
    for start in range(0, len(wanted), LOOKUP):
        page = wanted[start : start + LOOKUP]
        scope = {"entity": "metadata", "metadata_property": "content_hash"}
        yield from _search(service, dataset_id, {"type": "terms", "scope": scope, "values": page})


def _search(service: LabelingService, dataset_id: str, condition: Json) -> Iterator[Json]:
    """Matching records with their answers and suggestions, by pages in the order of their ids."""
    offset, total = 0, 1
    while offset < total:
        records, total = service.search_records(
            dataset_id, filters=[condition], include=INCLUDE, sort=BY_ID, offset=offset, limit=PAGE
        )
        yield from records
        offset += PAGE


def _answers(
    project: Project,
    records: Iterable[Json],
    questions: dict[str, str],
    users: dict[str, str],
    names: dict[str, str],
) -> Iterator[Answer]:
    """Finished answers in these records. A known answer keeps its annotator's name, even if the user was renamed.

    :param questions: Argilla's id of each question → its name.
    :param users: user id → user name.
    :param names: response id → annotator, of known answers.
    """
    for record in records:
        metadata = record.get("metadata") or {}
        if not record["external_id"] or "content_hash" not in metadata:
            continue  # not pushed by us
        shown = {questions[str(one["question_id"])]: one["value"] for one in record.get("suggestions") or []}
        for response in record.get("responses") or []:
            if response["status"] not in KEPT_STATUSES:
                continue
            user_id, response_id = str(response["user_id"]), str(response["id"])
            annotator = names.get(response_id) or users.get(user_id) or user_id
            # Argilla stores the preselected suggestion in a discarded answer, so only submitted values are values.
            values = (response["values"] or {}) if response["status"] == "submitted" else {}
            for question in project.labeling.questions:
                name = question.name
                yield Answer(
                    key=(record_id_of(record["external_id"]), metadata["content_hash"], name, annotator),
                    response_id=response_id,
                    updated_at=_time(response["updated_at"]),
                    status=response["status"],
                    value_json=_value_json(question, values[name]["value"]) if name in values else None,
                    suggestion_json=_value_json(question, shown[name]) if name in shown else None,
                    model_version=metadata.get("model_version"),
                    batch_id=metadata.get("batch"),
                )


def _by_key(answers: Iterable[Answer]) -> dict[AnswerKey, Answer]:
    """One answer per key: the newest, when a person was asked about the same content twice."""
    found: dict[AnswerKey, Answer] = {}
    for answer in answers:
        if answer.key not in found or found[answer.key].updated_at < answer.updated_at:
            found[answer.key] = answer
    return found


def _value_json(question: Question, value: Any) -> str:
    """The value as Argilla gives it, as canonical JSON; spans sorted by place, without the scores of suggested ones."""
    if question.type == "span":
        spans = ({"start": one["start"], "end": one["end"], "label": one["label"]} for one in value)
        value = sorted(spans, key=lambda one: (one["start"], one["end"], one["label"]))
    return canonical_json(value)


def _could_vanish(row: dict[str, Any], dataset_made_at: datetime) -> bool:
    given_at: datetime = row["version_at"]
    return row["status"] != "deleted" and given_at >= dataset_made_at


def _changed(before: dict[str, Any], answer: Answer) -> bool:
    if (before["response_id"], before["status"]) != (answer.response_id, answer.status):
        return True
    stored_at: datetime = before["version_at"]
    return answer.updated_at > stored_at


def _version(project: Project, answer: Answer, before: dict[str, Any] | None, now: datetime) -> dict[str, Any]:
    record_id, content_hash, question, annotator = answer.key
    # An answer that comes back unchanged after it was recorded as deleted must still sort after its deletion.
    version_at = answer.updated_at if before is None else max(answer.updated_at, before["version_at"] + TICK)
    return {
        "project": project.name,
        "shard": shard(record_id),
        "record_id": record_id,
        "content_hash": content_hash,
        "question": question,
        "annotator": annotator,
        "response_id": answer.response_id,
        "version_at": version_at,
        "status": answer.status,
        "value_json": answer.value_json,
        "suggestion_json": answer.suggestion_json,
        "model_version": answer.model_version,
        "guideline_version": project.labeling.guideline_version,
        "schema_version": project.labeling.schema_version,
        "batch_id": answer.batch_id,
        "collected_at": now,
    }


def _deletion(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Argilla keeps no time of a deletion: one tick after the deleted version sorts right and repeats exactly."""
    return {
        **row,
        "version_at": row["version_at"] + TICK,
        "status": "deleted",
        "value_json": None,
        "collected_at": now,
    }


def _app_id(project: Project, rows: Sequence[dict[str, Any]]) -> str:
    names = ("record_id", "content_hash", "question", "annotator", "version_at")
    keys = sorted("|".join(str(row[name]) for name in names) for row in rows)
    return f"collect/{project.name}/{digest(*keys)}"


def _time(text: str) -> datetime:
    """Argilla writes UTC, with or without saying so."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
