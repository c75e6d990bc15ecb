"""Answers to labels: the vote, its edges, and revisions that follow the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.labeling.aggregate import decide, update_labels
from include.lake import Lake
from include.lake.keys import content_hash, record_id, shard
from include.project import Project, Question

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LABEL = Question(name="kind", type="label", title="?", labels={"spam": "Spam", "ham": "Not spam", "odd": "Odd"})
SPAN = Question(name="parts", type="span", title="?", labels={"name": "Name", "city": "City"}, field="text")
A = {"start": 0, "end": 4, "label": "name"}
B = {"start": 5, "end": 9, "label": "city"}


def spans(*marked: dict[str, Any]) -> str:
    return json.dumps(list(marked))


@pytest.mark.parametrize(
    ("values", "floor", "status", "value", "agreement"),
    [
        (["spam"], 0.5, "final", "spam", 1.0),
        (["spam", "spam"], 0.5, "final", "spam", 1.0),
        (["spam", "ham"], 0.5, "needs_adjudication", None, 0.5),
        (["spam", "ham"], 0.0, "needs_adjudication", None, 0.5),  # a tie is no majority, whatever the floor
        (["spam", "spam", "ham"], 0.5, "final", "spam", 2 / 3),
        (["spam", "spam", "ham"], 2 / 3, "needs_adjudication", None, 2 / 3),  # at the floor
        (["spam", "spam", "ham", "odd"], 0.4, "needs_adjudication", None, 0.5),  # ahead, but not more than half
        (["spam", "ham", "odd"], 0.0, "needs_adjudication", None, 1 / 3),
    ],
)
def test_label_vote(values: list[str], floor: float, status: str, value: str | None, agreement: float) -> None:
    verdict = decide(LABEL, [json.dumps(one) for one in values], floor)
    assert (verdict.status, verdict.value_json) == (status, None if value is None else json.dumps(value))
    assert verdict.agreement == pytest.approx(agreement)


@given(st.lists(st.sampled_from(["spam", "ham", "odd"]), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_label_vote_ignores_order_and_never_overrules_a_majority(values: list[str], random: Any) -> None:
    encoded = [json.dumps(one) for one in values]
    verdict = decide(LABEL, encoded, 0.5)
    random.shuffle(encoded)
    assert decide(LABEL, encoded, 0.5) == verdict
    majority = [one for one in set(values) if 2 * values.count(one) > len(values)]
    assert (verdict.value_json is not None) == bool(majority)
    if majority:
        assert verdict.value_json == json.dumps(majority[0])
        assert verdict.posterior is not None
        assert 1 / 3 < verdict.posterior < 1.0


def test_more_unanimous_answers_are_worth_more() -> None:
    posteriors = [decide(LABEL, ['"spam"'] * n, 0.5).posterior or 0.0 for n in (1, 2, 3, 10)]
    assert posteriors == sorted(posteriors)
    assert posteriors[0] == pytest.approx((1 + 1 / 3) / 2)


@pytest.mark.parametrize(
    ("values", "status", "kept", "agreement"),
    [
        ([spans(A, B)], "final", [A, B], 1.0),
        ([spans(), spans()], "final", [], 1.0),
        ([spans(A, B), spans(A)], "final", [A], 2 / 3),
        ([spans(A), spans(B)], "needs_adjudication", None, 0.0),
        ([spans(A), spans(A), spans(A, B)], "final", [A], (1 + 2 / 3 + 2 / 3) / 3),
        ([spans(A), spans(dict(A, end=3))], "needs_adjudication", None, 0.0),  # nearly is not exactly
    ],
)
def test_span_vote(values: list[str], status: str, kept: list[dict[str, Any]] | None, agreement: float) -> None:
    verdict = decide(SPAN, values, 0.5)
    assert verdict.status == status
    assert (None if verdict.value_json is None else json.loads(verdict.value_json)) == kept
    assert verdict.agreement == pytest.approx(agreement)


@pytest.fixture
def journal(lake: Lake, make_project: Callable[..., Project]) -> Journal:
    return Journal(make_project(), lake)


class Journal:
    """Records and answers written straight into the lake."""

    def __init__(self, project: Project, lake: Lake) -> None:
        self.project, self.lake, self.steps = project, lake, 0

    def record(self, name: str, text: str = "hello", revision: int = 1) -> None:
        self.steps += 1
        row = {
            "project": self.project.name,
            "record_id": record_id(self.project.name, name),
            "shard": shard(record_id(self.project.name, name)),
            "revision": revision,
            "content_hash": content_hash({"text": text}),
        }
        self.lake.append("records", [row], app_id=f"test/{self.steps}")

    def answer(
        self, name: str, annotator: str, value: str | None, status: str = "submitted", text: str = "hello"
    ) -> None:
        self.steps += 1
        row = {
            "project": self.project.name,
            "record_id": record_id(self.project.name, name),
            "shard": shard(record_id(self.project.name, name)),
            "content_hash": content_hash({"text": text}),
            "question": "kind",
            "annotator": annotator,
            "version_at": NOW + timedelta(seconds=self.steps),
            "status": status,
            "value_json": None if value is None else json.dumps(value),
            "schema_version": 1,
        }
        self.lake.append("responses", [row], app_id=f"test/{self.steps}")

    def update(self) -> dict[str, Any]:
        return update_labels(self.project, self.lake, now=NOW)

    def label(self, name: str) -> dict[str, Any]:
        rows = self.lake.read("labels", self.project.name).filter(
            record_id=record_id(self.project.name, name)  # filter by equality
        )
        assert rows.height == 1
        return rows.row(0, named=True)


def test_labels_follow_their_answers(journal: Journal) -> None:
    journal.record("one")
    journal.answer("one", "ann", "spam")
    assert journal.update()["final"] == 0  # one answer of two
    journal.answer("one", "bob", "spam")
    assert journal.update()["final"] == 1
    assert journal.update() == {
        "final": 0,
        "needs_adjudication": 0,
        "retracted": 0,
        "unchanged": 1,
        "agreement": None,  # one record, one value: nothing to agree about
        "agreement_n": 0,
    }
    journal.answer("one", "bob", "ham")  # bob thinks again
    assert journal.update()["needs_adjudication"] == 1
    assert (journal.label("one")["revision"], journal.label("one")["value_json"]) == (2, None)
    journal.answer("one", "cat", "ham")
    assert journal.update()["final"] == 1
    label = journal.label("one")
    assert (label["revision"], label["value_json"], label["answers"], label["status"]) == (3, '"ham"', 3, "final")


def test_withdrawn_answers_retract_the_label_once(journal: Journal) -> None:
    journal.record("one")
    for annotator in ("ann", "bob"):
        journal.answer("one", annotator, "spam")
    journal.update()
    journal.answer("one", "bob", None, status="deleted")
    assert journal.update()["retracted"] == 1
    assert journal.label("one")["status"] == "retracted"
    assert journal.update()["retracted"] == 0
    journal.answer("one", "bob", "spam")
    assert journal.update()["final"] == 1
    assert journal.label("one")["revision"] == 3


def test_discards_never_count(journal: Journal) -> None:
    journal.record("one")
    journal.answer("one", "ann", "spam")
    journal.answer("one", "bob", None, status="discarded")
    assert journal.update()["final"] == 0


def test_an_answer_to_older_content_is_no_current_label(journal: Journal) -> None:
    journal.record("one", "old text")
    for annotator in ("ann", "bob"):
        journal.answer("one", annotator, "spam", text="old text")
    assert journal.update()["final"] == 1
    journal.record("one", "new text", revision=2)
    assert journal.update()["retracted"] == 1
    for annotator in ("ann", "bob"):
        journal.answer("one", annotator, "ham", text="new text")
    assert journal.update()["final"] == 1
    rows = journal.lake.read("labels", "mails")
    assert dict(rows.select("status", "value_json").iter_rows()) == {"retracted": None, "final": '"ham"'}


def test_other_rules_decide_again(journal: Journal, make_project: Callable[..., Project]) -> None:
    journal.record("one")
    for annotator, value in (("ann", "spam"), ("bob", "spam"), ("cat", "ham")):
        journal.answer("one", annotator, value)
    assert journal.update()["final"] == 1
    journal.project = make_project(labeling={"agreement_floor": 0.7})
    assert journal.update()["needs_adjudication"] == 1


def test_the_agreement_figure_is_measured_once_per_state_of_the_answers(journal: Journal) -> None:
    for name, values in {"one": ("spam", "spam"), "two": ("ham", "ham"), "three": ("spam", "ham")}.items():
        journal.record(name)
        for annotator, value in zip(("ann", "bob"), values, strict=True):
            journal.answer(name, annotator, value)
    counts = journal.update()
    journal.update()
    metrics = journal.lake.read("metrics", "mails", newest=False)
    assert metrics.height == 1
    row = metrics.row(0, named=True)
    assert (row["name"], row["n"], row["slice"]) == ("agreement_alpha", 3, "all")
    assert row["value"] == counts["agreement"] == pytest.approx(1 - 5 * 2 / 18)
    assert row["low"] <= row["value"] <= row["high"]


def test_by_reliability_who_is_usually_right_decides(journal: Journal, make_project: Callable[..., Project]) -> None:
    for number in range(40):  # ann and bob agree; cat says whatever
        journal.record(f"known-{number}")
        right, wrong = ("spam", "ham") if number % 2 else ("ham", "spam")
        for annotator, value in (("ann", right), ("bob", right), ("cat", right if number % 4 < 2 else wrong)):
            journal.answer(f"known-{number}", annotator, value)
    journal.record("split")
    journal.answer("split", "ann", "spam")
    journal.answer("split", "cat", "ham")

    def labeled(**rules: Any) -> tuple[str, str | None, str]:
        journal.project = make_project(labeling={"agreement_floor": 0.4, **rules})
        journal.update()
        label = journal.label("split")
        return label["status"], label["value_json"], label["method"]

    assert labeled() == ("needs_adjudication", None, "majority")
    status, value, method = labeled(aggregation="reliability")
    assert (status, value) == ("final", '"spam"')
    assert method in ("one_coin", "dawid_skene")
    assert (journal.label("split")["posterior"] or 0.0) >= 0.8
    assert labeled(aggregation="reliability", posterior_floor=0.9999)[:2] == ("needs_adjudication", None)
    assert labeled(aggregation="reliability", agreement_floor=0.5)[:2] == ("needs_adjudication", None)
    assert journal.label("known-1")["value_json"] == '"spam"'


def test_by_reliability_a_record_waits_for_as_many_answers_as_ever(
    journal: Journal, make_project: Callable[..., Project]
) -> None:
    journal.project = make_project(labeling={"aggregation": "reliability"})
    assert journal.update()["final"] == 0
    journal.record("one")
    journal.answer("one", "ann", "spam")
    assert journal.update()["final"] == 0
    journal.answer("one", "bob", "spam")
    assert journal.update()["final"] == 1
    assert journal.label("one")["method"] == "majority", "too few answers to learn about anyone"
