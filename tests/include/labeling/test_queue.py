"""What waits, and what has waited too long, with an Argilla in memory (tests/integration has a real one)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.errors import LabelingError
from include.labeling.queue import open_records, tend_queue
from include.lake import Lake, keys
from include.project import Project
from tests.include.conftest import ProjectFactory

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BATCH = "mails/cycle/2026-11-01T06:00Z"


class Shelf:
    """The part of Argilla that the queue needs: records on one dataset, in pages."""

    def __init__(self, records: Sequence[dict[str, Any]], *, away_after: int | None = None) -> None:
        self.records = list(records)
        self.away_after = away_after
        self.deleted: list[list[str]] = []

    def find_workspace(self, name: str) -> dict[str, Any]:
        return {"id": "w", "name": name}

    def find_dataset(self, workspace_id: str, name: str) -> dict[str, Any]:
        return {"id": "d", "status": "ready", "name": name}

    def search_records(self, dataset_id: str, **query: Any) -> tuple[list[dict[str, Any]], int]:
        (condition,) = query["filters"]
        name, values = condition["scope"]["property"], condition["values"]
        found = [one for one in self.records if one[name] in values]
        offset = query.get("offset", 0)
        return found[offset : offset + query.get("limit", 1000)], len(found)

    def delete_records(self, dataset_id: str, record_ids: Sequence[str]) -> None:
        if self.away_after is not None and len(self.deleted) >= self.away_after:
            raise LabelingError("Argilla did not answer", remedy="Retry.")
        assert len(record_ids) <= 100
        self.deleted.append(list(record_ids))
        self.records = [one for one in self.records if one["id"] not in record_ids]


def record(number: int, *, days: float, answers: Sequence[str] = (), batch: str | None = BATCH, **columns: Any):
    record_id = keys.record_id("mails", str(number))
    return {
        "id": f"argilla-{number}",
        "external_id": record_id,
        "status": "pending",
        "metadata": {"batch": batch, "content_hash": f"c{number}"} if batch else {},
        "inserted_at": (NOW - timedelta(days=days)).replace(tzinfo=None).isoformat(),  # as Argilla writes UTC
        "responses": [{"status": status} for status in answers],
        **columns,
    }


@pytest.fixture
def project(make_project: ProjectFactory) -> Project:
    return make_project(queue={"max_pending_days": 30}, labeling={"min_submitted": 2})


def withdrawn(lake: Lake) -> list[str]:
    return sorted(lake.read("withdrawals", "mails", newest=False)["content_hash"])


def test_only_what_nobody_touched_for_too_long_is_withdrawn(lake: Lake, project: Project):
    shelf: Any = Shelf(
        [
            record(1, days=31),
            record(2, days=29),
            record(3, days=31, answers=["submitted"]),
            record(4, days=31, answers=["draft"]),
            record(5, days=31, answers=["discarded"]),
            record(6, days=31, batch="mails/audit/look-1"),  # a person asked for it
            record(7, days=31, batch=None),  # not pushed by us
            record(8, days=31, status="completed"),
            record(9, days=31, batch="mails/request/extra"),
        ]
    )
    assert tend_queue(project, lake, shelf, now=NOW) == {
        "open_records": 6,
        "median_age_days": pytest.approx(31.0),
        "withdrawn": 2,
    }
    assert [sorted(page) for page in shelf.deleted] == [["argilla-1", "argilla-9"]]
    assert withdrawn(lake) == ["c1", "c9"]
    row = lake.read("withdrawals", "mails").filter(content_hash="c1").row(0, named=True)
    assert (row["record_id"], row["batch_id"]) == (keys.record_id("mails", "1"), BATCH)
    assert row["why"] == "nobody answered for 30 days"
    assert tend_queue(project, lake, shelf, now=NOW)["withdrawn"] == 0
    assert withdrawn(lake) == ["c1", "c9"]


def test_without_a_limit_everything_stays(lake: Lake, make_project: ProjectFactory):
    shelf: Any = Shelf([record(1, days=400)])
    project = make_project(queue={"max_pending_days": None})
    assert tend_queue(project, lake, shelf, now=NOW)["withdrawn"] == 0
    assert shelf.deleted == []


def test_killed_while_removing_it_goes_on_and_writes_each_down_once(lake: Lake, project: Project):
    shelf: Any = Shelf([record(number, days=31) for number in range(250)], away_after=1)
    with pytest.raises(LabelingError):
        tend_queue(project, lake, shelf, now=NOW)
    shelf.away_after = None
    again = tend_queue(project, lake, shelf, now=NOW + timedelta(minutes=5))
    assert (again["withdrawn"], again["open_records"], again["median_age_days"]) == (150, 0, None)
    assert sorted(len(page) for page in shelf.deleted) == [50, 100, 100]
    assert lake.read("withdrawals", "mails").height == 250  # each row under its natural key


def test_what_enough_people_discarded_waits_for_nobody(lake: Lake, project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("include.labeling.queue.PAGE", 2)
    answers = [["discarded", "discarded"], ["discarded"], [], ["submitted", "discarded"], ["discarded"] * 3]
    shelf: Any = Shelf([record(number, days=number, answers=given) for number, given in enumerate(answers)])
    assert open_records(project, shelf) == 3
    assert tend_queue(project, lake, shelf, now=NOW) == {
        "open_records": 3,
        "median_age_days": pytest.approx(2.0),
        "withdrawn": 0,
    }
