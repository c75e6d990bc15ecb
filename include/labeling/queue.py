"""What waits for people, for how long, and what has waited too long."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from include.labeling.pending import withdraw
from include.labeling.push import record_id_of, terms
from include.labeling.service import LabelingService
from include.labeling.settings import find_dataset
from include.lake import Lake
from include.lake.keys import digest, shard
from include.project import Project

PAGE = 1000


@dataclass(frozen=True)
class Waiting:
    """A record that waits for answers.

    :param since: when it was put before people.
    :param touched: somebody answered, discarded, or keeps a draft.
    """

    external_id: str
    batch_id: str | None
    content_hash: str | None
    since: datetime
    touched: bool


def tend_queue(project: Project, lake: Lake, service: LabelingService, *, now: datetime) -> dict[str, Any]:
    """Withdraw what has waited too long, and measure what waits.

    :returns: ``{"open_records", "median_age_days", "withdrawn"}``: records that wait, how long half of them have (null
        when nothing waits), and how many were withdrawn by this call.
    :raises LabelingError: when Argilla is away; a retry goes on where it stopped.
    """
    waiting = read_queue(project, service)
    withdrawn = _withdraw(project, lake, service, _stale(project, waiting, now), now)
    left = [one for one in waiting if one.external_id not in withdrawn]
    ages = [max(0.0, _days(now, one.since)) for one in left]
    return {
        "open_records": len(left),
        "median_age_days": statistics.median(ages) if ages else None,
        "withdrawn": len(withdrawn),
    }


def read_queue(project: Project, service: LabelingService) -> list[Waiting]:
    """The records that still wait for answers; none when the dataset does not exist.

    Argilla keeps a record pending for ever when people discard it; one that was discarded by as many people as should
    have answered waits for nobody and is left out.
    """
    dataset = find_dataset(project, service)
    if dataset is None or dataset["status"] == "draft":
        return []
    found, offset, total = [], 0, 1
    while offset < total:
        records, total = service.search_records(
            dataset["id"],
            filters=[terms("record", "status", ["pending"])],
            include=["responses"],
            sort=[{"scope": {"entity": "record", "property": "id"}, "order": "asc"}],
            offset=offset,
            limit=PAGE,
        )
        offset += PAGE
        for record in records:
            answers = record.get("responses") or []
            if sum(answer["status"] == "discarded" for answer in answers) >= project.labeling.min_submitted:
                continue
            metadata = record.get("metadata") or {}
            found.append(
                Waiting(
                    external_id=str(record["external_id"]),
                    batch_id=metadata.get("batch"),
                    content_hash=metadata.get("content_hash"),
                    since=_time(record["inserted_at"]),
                    touched=bool(answers),
                )
            )
    return found


def open_records(project: Project, service: LabelingService) -> int:
    """How many records still wait for answers."""
    return len(read_queue(project, service))


def _stale(project: Project, waiting: Sequence[Waiting], now: datetime) -> list[Waiting]:
    """What nobody has touched for too long. What somebody asked for by hand, in an audit, is left alone."""
    limit = project.queue.max_pending_days
    if limit is None:
        return []
    return [
        one
        for one in waiting
        if not one.touched
        and one.batch_id is not None  # not pushed by us
        and not one.batch_id.startswith(f"{project.name}/audit/")
        and _days(now, one.since) > limit
    ]


def _withdraw(
    project: Project, lake: Lake, service: LabelingService, stale: Sequence[Waiting], now: datetime
) -> set[str]:
    """Write down that these may be selected again, then remove them from Argilla; the external ids that are gone.

    In this order nothing is lost: what a kill leaves in Argilla is still stale, and the repetition removes it. Nothing
    is planned in between, because this comes before the plan in the same task. What somebody answers in between stays
    in Argilla, and ``include.lake.candidates.standing`` sees the answer.
    """
    if not stale:
        return set()
    why = f"nobody answered for {project.queue.max_pending_days:g} days"
    rows = [
        {
            "project": project.name,
            "shard": shard(record_id_of(one.external_id)),
            "record_id": record_id_of(one.external_id),
            "batch_id": one.batch_id,
            "content_hash": one.content_hash,
            "why": why,
            "withdrawn_at": now,
        }
        for one in stale
    ]
    names = digest(*sorted(f"{row['batch_id']}|{row['record_id']}" for row in rows))
    lake.append("withdrawals", rows, app_id=f"withdraw/{project.name}/{names}")
    fates = withdraw(project, service, [one.external_id for one in stale])
    return {*fates["withdrawn"], *fates["gone"]}


def _days(now: datetime, since: datetime) -> float:
    return (now - since).total_seconds() / 86_400


def _time(text: str) -> datetime:
    """Argilla writes UTC, with or without saying so."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
