"""Duplicates never reach people twice; a group that lost its consent does not stand in the way of its other members."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.lake import Lake, StoreConfig
from include.lake.groups import linked_path
from include.lake.keys import canonical_json, record_id, shard
from include.project import Project
from include.sampling.plan import plan_cycle, plan_listed
from include.training.snapshot import current_labels
from tests.include.conftest import ProjectFactory

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


class Mailbox:
    """Writes records, duplicates and labels as the steps of the loop leave them; contents are named by one letter."""

    def __init__(self, project: Project, lake: Lake) -> None:
        self.project = project
        self.lake = lake
        self.appends = itertools.count()
        self.revisions: dict[str, int] = {}
        self.days = itertools.count()

    def write(self, table: str, rows: list[dict[str, Any]]) -> None:
        head = [{"project": self.project.name, "shard": shard(row["record_id"])} for row in rows]
        filled = [{**one, **row} for one, row in zip(head, rows, strict=True)]
        self.lake.append(table, filled, app_id=f"test/{next(self.appends)}")

    def record(self, name: str, content: str, *, consent: bool | None = None, batch: int | None = None) -> str:
        one = record_id(self.project.name, name)
        self.revisions[one] = self.revisions.get(one, 0) + 1
        row = {"record_id": one, "revision": self.revisions[one], "content_hash": content, "ingest_batch": batch}
        self.write("records", [{**row, "fields_json": canonical_json({"text": content}), "consent": consent}])
        return one

    def near(self, one: str, content: str, group: str, *, batch: int = 1) -> None:
        row = {"record_id": one, "content_hash": content, "group_id": group, "kind": "near", "ingest_batch": batch}
        self.write("duplicates", [row])

    def linked(self, batch: int) -> None:
        self.lake.files.put(linked_path(self.project), canonical_json({"batch": batch}).encode())

    def ask(self, size: int | None = None) -> list[str]:
        """Plan the batch of the next day."""
        project = self.project
        if size is not None:
            project = project.model_copy(update={"sampling": project.sampling.model_copy(update={"batch_size": size})})
        moment = NOW + timedelta(days=next(self.days))
        planned = plan_cycle(
            project, self.lake, request_id=None, moment=moment, open_records=0, model_version=None, now=moment
        )
        rows = self.lake.read("selections", self.project.name, where=pl.col("batch_id") == planned["batch_id"])
        return sorted(rows["record_id"])

    def answer(self) -> None:
        """Final labels for whatever was asked about."""
        asked = self.lake.read("selections", self.project.name, columns=["record_id", "content_hash"]).unique()
        common = {"question": "kind", "schema_version": 1, "revision": 1, "status": "final", "value_json": '"spam"'}
        self.write("labels", [{**row, **common, "posterior": 1.0} for row in asked.to_dicts()])


@pytest.fixture
def box(make_project: ProjectFactory, lake: Lake) -> Mailbox:
    """Near duplicates are linked."""
    return Mailbox(make_project(duplicates={"near": "link"}, schedule={"cycle": "0 6 * * *"}), lake)


def test_of_a_group_only_the_first_is_asked_in_one_batch_and_in_later_ones(box: Mailbox):
    first = box.record("a", "A")
    box.record("b", "A")
    similar = box.record("c", "C")
    box.near(similar, "C", "A")
    box.near(record_id("mails", "b"), "A", "A")
    assert box.ask() == [first]
    assert box.ask() == []
    box.answer()
    box.record("d", "C")
    other = box.record("e", "E")
    assert box.ask() == [other]


def test_kept_duplicates_are_records_like_any(make_project: ProjectFactory, lake: Lake):
    box = Mailbox(make_project(duplicates={"exact": "keep", "near": "keep"}), lake)
    records = [box.record("a", "A"), box.record("b", "A"), box.record("c", "C")]
    box.near(records[2], "C", "A")
    assert box.ask() == sorted(records)


@pytest.mark.parametrize("policy", ["link", "drop"])
def test_equal_contents_are_asked_once_before_any_were_linked(make_project: ProjectFactory, lake: Lake, policy: str):
    box = Mailbox(make_project(duplicates={"exact": policy}), lake)
    for name in "abcdef":
        box.record(name, "A")
    assert len(box.ask()) == 1
    assert box.ask() == []


def test_similar_texts_wait_until_their_batch_was_linked(box: Mailbox):
    early, late = box.record("a", "A", batch=1), box.record("b", "B", batch=2)
    assert box.ask() == []
    box.linked(1)
    assert box.ask() == [early]
    box.near(late, "B", "A", batch=2)
    box.linked(2)
    assert box.ask() == []


def test_when_the_first_has_no_consent_the_next_is_asked(box: Mailbox):
    first, second, third = (box.record(name, "A", consent=name != "a") for name in "abc")
    box.near(second, "A", "A", batch=1)
    box.near(third, "A", "A", batch=2)
    assert first not in (asked := box.ask())
    assert asked == [second]
    box.record("b", "A", consent=False)  # withdrawn after it was asked about: its answer cannot be used
    assert box.ask() == [third]
    box.record("c", "A", consent=False)
    assert box.ask() == []


def test_consent_that_nobody_was_asked_for_is_none_where_the_project_asks(make_project: ProjectFactory, lake: Lake):
    box = Mailbox(make_project(source={"consent_column": "agreed"}), lake)
    box.record("a", "A", consent=None)
    agreed = box.record("b", "B", consent=True)
    assert box.ask() == [agreed]


def test_a_record_that_leaves_its_group_is_asked_and_so_is_the_next_of_the_group(box: Mailbox):
    first, second = box.record("a", "A"), box.record("b", "A")
    box.near(second, "A", "A")
    assert box.ask() == [first]
    box.record("a", "Z")
    assert box.ask() == sorted([first, second])
    splits = box.lake.read("selections", "mails", columns=["record_id", "split"]).unique()
    assert splits.height == 2  # a record keeps its split
    assert splits["split"].n_unique() == 1  # and the group keeps that of its first selection


def test_an_audit_leaves_out_who_has_no_consent_and_keeps_the_split_of_the_group(box: Mailbox):
    first = box.record("a", "A")
    box.ask()
    split = box.lake.read("selections", "mails")["split"][0]
    copy, refused = box.record("b", "A"), box.record("c", "C", consent=False)
    suspects = [{"record_id": one, "score": None, "why": "w"} for one in (first, copy, refused)]
    call: dict[str, Any] = {"request_id": "r", "reason": "look", "dry_run": False, "now": NOW}
    planned = plan_listed(box.project, box.lake, suspects=suspects, **call)
    rows = box.lake.read("selections", "mails", where=pl.col("batch_id") == planned["batch_id"])
    assert set(rows["record_id"]) == {first, copy}
    assert set(rows["split"]) == {split}


STEP = st.one_of(
    st.tuples(
        st.just("record"), st.sampled_from("abcdef"), st.sampled_from("ABCD"), st.sampled_from([None, None, False])
    ),
    st.tuples(st.just("ask"), st.integers(1, 3)),
    st.tuples(st.just("answer")),
)
NEAR = {"B": "A", "D": "C"}  # B is nearly A, D is nearly C


@given(steps=st.lists(STEP, min_size=4, max_size=9))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_no_group_is_asked_twice_or_straddles_the_split(
    make_project: ProjectFactory, s3_config: StoreConfig, steps: list[tuple[Any, ...]]
):
    box = Mailbox(make_project(duplicates={"near": "link"}), Lake(s3_config, "lake", uuid.uuid4().hex))
    group = {content: NEAR.get(content, content) for content in "ABCD"}
    now: dict[str, tuple[str, bool | None]] = {}
    trained: set[str] = set()
    for step, *values in [*steps, ("answer",), ("ask", 3), ("answer",)]:
        if step == "record":
            name, content, consent = values
            one = box.record(name, content, consent=consent)
            if content in NEAR:
                box.near(one, content, NEAR[content])
            now[one] = (content, consent)
        elif step == "ask":
            before = box.lake.read("selections", "mails", columns=["record_id", "content_hash"]).rows()
            taken = {group[c] for r, c in before if now[r] == (c, None)}
            asked = [group[now[one][0]] for one in box.ask(values[0])]
            assert len(asked) == len(set(asked))
            assert not set(asked) & taken
        else:
            box.answer()
            labels = current_labels(box.project, box.lake)
            sides = [(group[row["content_hash"]], row["split"]) for row in labels.to_dicts()]
            assert len(dict(sides)) == len(sides)  # one label per group
            assert all(now[one][1] is None for one in labels["record_id"])
            assert not trained & {one for one, side in sides if side == "holdout"}  # a model has never seen them
            trained |= {one for one, side in sides if side == "train"}
