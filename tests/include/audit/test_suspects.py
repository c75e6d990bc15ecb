"""Suspected label errors: the labels a model contradicts most confidently."""

from datetime import UTC, datetime
from typing import Any

import pytest

from include.audit.suspects import find_suspects
from include.errors import LabelwheelError
from include.lake import Lake
from include.lake.keys import canonical_json, record_id, shard

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def add_labeled(lake: Lake, project: str, cases: list[tuple[str, str, str, float]]) -> None:
    """``(source id, label by people, label by model, the model's confidence)`` each."""
    records, labels, predictions = [], [], []
    for source_id, label, predicted, confidence in cases:
        one = record_id(project, source_id)
        head = {"project": project, "shard": shard(one), "record_id": one, "content_hash": source_id}
        records.append({**head, "revision": 1})
        labels.append({**head, "question": "kind", "schema_version": 1, "revision": 1, "status": "final"})
        labels[-1]["value_json"] = canonical_json(label)
        predictions.append({**head, "model_version": "m", "origin": "batch", "label": predicted, "predicted_at": NOW})
        predictions[-1]["confidence"] = confidence
    lake.append("records", records, app_id="r")
    lake.append("labels", labels, app_id="l")
    lake.append("predictions", predictions, app_id="p")


def test_the_most_confident_contradiction_comes_first(lake: Lake, make_project: Any) -> None:
    cases = [("a", "spam", "spam", 0.99), ("b", "spam", "ham", 0.7), ("c", "ham", "spam", 0.95)]
    add_labeled(lake, "mails", cases)
    found = find_suspects(make_project(), lake, kind="suspected_label_errors", size=5)
    assert [s["record_id"] for s in found["suspects"]] == [record_id("mails", "c"), record_id("mails", "b")]
    assert found["suspects"][0]["why"] == "labeled ham, but the model says spam (95%)"
    assert found["why"].startswith("2 suspects among 3 labels")
    assert len(find_suspects(make_project(), lake, kind="suspected_label_errors", size=1)["suspects"]) == 1


def test_listed_records_must_exist(lake: Lake, make_project: Any) -> None:
    add_labeled(lake, "mails", [("a", "spam", "spam", 0.9)])
    found = find_suspects(make_project(), lake, kind="record_ids", size=5, record_ids=[record_id("mails", "a")] * 2)
    assert len(found["suspects"]) == 1
    with pytest.raises(LabelwheelError, match="'nope'"):
        find_suspects(make_project(), lake, kind="record_ids", size=5, record_ids=["nope"])


def change_records(lake: Lake, project: str, source_ids: str, **columns: Any) -> None:
    rows = []
    for source_id in source_ids:
        one = record_id(project, source_id)
        rows.append(
            {"project": project, "shard": shard(one), "record_id": one, "revision": 2, "content_hash": source_id}
        )
    lake.append("records", [{**row, **columns} for row in rows], app_id="change")


def test_without_consent_nobody_is_a_suspect_and_nobody_can_be_listed(lake: Lake, make_project: Any) -> None:
    add_labeled(lake, "mails", [("a", "spam", "ham", 0.9), ("b", "spam", "ham", 0.8)])
    change_records(lake, "mails", "a", consent=False)
    found = find_suspects(make_project(), lake, kind="suspected_label_errors", size=5)
    assert [s["record_id"] for s in found["suspects"]] == [record_id("mails", "b")]
    both = [record_id("mails", "b"), record_id("mails", "a")]
    with pytest.raises(LabelwheelError, match=r"1 of 2 records have no consent in project 'mails', first: '.*'"):
        find_suspects(make_project(), lake, kind="record_ids", size=5, record_ids=both)


def test_of_equal_records_only_one_is_a_suspect(lake: Lake, make_project: Any) -> None:
    add_labeled(lake, "mails", [("a", "spam", "ham", 0.8), ("b", "spam", "ham", 0.9), ("c", "spam", "ham", 0.7)])
    rows = [{"record_id": record_id("mails", one), "content_hash": one, "group_id": "a", "kind": "near"} for one in "b"]
    lake.append("duplicates", [{"project": "mails", "shard": shard(r["record_id"]), **r} for r in rows], app_id="d")
    project = make_project(duplicates={"near": "link"})
    found = find_suspects(project, lake, kind="suspected_label_errors", size=5)
    assert [s["record_id"] for s in found["suspects"]] == [record_id("mails", "b"), record_id("mails", "c")]
    listed = [record_id("mails", one) for one in "abc"]
    found = find_suspects(project, lake, kind="record_ids", size=5, record_ids=listed)
    assert len(found["suspects"]) == 2
