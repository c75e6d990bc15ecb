"""The labeling half of the loop against a real Argilla and a real object store.

Each test has a workspace, a project and a lake of its own; people answer through Argilla's own REST API.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import polars as pl
import pytest
from labelwheel_argilla.client import ArgillaClient

from include.errors import LabelingError
from include.labeling.aggregate import update_labels
from include.labeling.collect import collect_responses
from include.labeling.pending import refresh_suggestions, withdraw
from include.labeling.push import push_batch
from include.labeling.queue import open_records, tend_queue
from include.labeling.service import LabelingUnavailableError
from include.labeling.settings import ensure_dataset, plan_dataset
from include.lake import Lake, Store, StoreConfig
from include.lake.candidates import standing
from include.lake.keys import canonical_json, content_hash, record_id, shard
from include.project import Project
from standalone.stack import LAKE_BUCKET, Stack

pytestmark = pytest.mark.stack

PEOPLE = ("ann", "bob", "cat")
LABEL_QUESTION = {
    "name": "kind",
    "type": "label",
    "title": "What is it?",
    "labels": {"spam": "Spam", "ham": "Not spam"},
}
SPAN_QUESTION = {
    "name": "parts",
    "type": "span",
    "title": "Mark the parts",
    "labels": {"name": "Name", "city": "City"},
    "field": "text",
}


@dataclass
class Bench:
    """One project, its people, and shortcuts for what the tests do again and again."""

    project: Project
    lake: Lake
    service: ArgillaClient
    owner: httpx.Client
    people: dict[str, tuple[str, str]]  # name -> (user name, API key)
    steps: int = 0
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def change(self, **labeling: Any) -> None:
        raw = self.project.model_dump()
        raw["labeling"].update(labeling)
        self.project = Project.model_validate(raw)

    def records(self, texts: dict[str, str], *, revision: int = 1, **columns: Any) -> None:
        self.steps += 1
        rows = [
            {
                "project": self.project.name,
                "record_id": record_id(self.project.name, name),
                "shard": shard(record_id(self.project.name, name)),
                "revision": revision,
                "content_hash": content_hash({"text": text}),
                "fields_json": canonical_json({"text": text}),
                "metadata_json": canonical_json({"channel": "web", "length": len(text)}),
                **columns,
            }
            for name, text in texts.items()
        ]
        self.lake.append("records", rows, app_id=f"test/{self.steps}")

    def plan(self, texts: dict[str, str], cycle: str = "c1", **chosen: Any) -> str:
        batch_id = f"{self.project.name}/cycle/{cycle}"
        selections = [
            {
                "record_id": record_id(self.project.name, name),
                "content_hash": content_hash({"text": text}),
                "strategy": "random",
                "model_version": "m1",
                "blind": False,
                "score": 0.98,
                "tier": 0,
                "reason": "The model is unsure: spam 51%, ham 49%",
                "suggestion": {"value": "spam", "score": 0.51},
                **chosen,
            }
            for name, text in texts.items()
        ]
        plan = {"batch_id": batch_id, "kind": "cycle", "cycle": cycle, "selections": selections}
        self.lake.files.create_json(f"batches/{batch_id}.json", plan)
        rows = [
            {"project": self.project.name, "batch_id": batch_id, "shard": shard(one["record_id"]), **one}
            for one in selections
        ]
        for row in rows:
            del row["suggestion"]
        self.lake.append("selections", rows, app_id=f"sample/{batch_id}")
        return batch_id

    def predict(self, texts: dict[str, str], model_version: str, label: str) -> None:
        """Let a model say the same of every text."""
        self.steps += 1
        rows = [
            {
                "project": self.project.name,
                "record_id": record_id(self.project.name, name),
                "shard": shard(record_id(self.project.name, name)),
                "content_hash": content_hash({"text": text}),
                "model_version": model_version,
                "origin": "batch",
                "label": label,
                "confidence": 0.8,
                "margin": 0.6,
            }
            for name, text in texts.items()
        ]
        self.lake.append("predictions", rows, app_id=f"test/{self.steps}")

    def refresh(self, model_version: str) -> dict[str, Any]:
        return refresh_suggestions(self.project, self.lake, self.service, model_version)

    def external_ids(self, *names: str) -> list[str]:
        return [record_id(self.project.name, name) for name in names]

    def load(self, texts: dict[str, str], cycle: str = "c1", **chosen: Any) -> dict[str, Any]:
        """Records, plan and push in one."""
        self.records(texts)
        return self.push(self.plan(texts, cycle, **chosen))

    def push(self, batch_id: str) -> dict[str, Any]:
        return push_batch(self.project, self.lake, self.service, batch_id)

    def collect(self, later_seconds: float = 0) -> dict[str, Any]:
        """Sweep; the clock of the test moves on its own, so that no test has to wait."""
        self.now += timedelta(seconds=1 + later_seconds)
        return collect_responses(self.project, self.lake, self.service, now=self.now)

    def counts(self, later_seconds: float = 0) -> dict[str, int]:
        """The counts of a sweep that are not zero."""
        return {name: n for name, n in self.collect(later_seconds).items() if n and name != "swept"}

    def dataset_id(self) -> str:
        return str(ensure_dataset(self.project, self.service)["dataset_id"])

    def in_argilla(self) -> dict[str, dict[str, Any]]:
        """Text → Argilla record."""
        found, _ = self.service.search_records(self.dataset_id(), include=("responses", "suggestions"))
        return {one["fields"]["text"]: one for one in found}

    def as_person(self, person: str) -> httpx.Client:
        return httpx.Client(
            base_url=str(self.owner.base_url), headers={"X-Argilla-Api-Key": self.people[person][1]}, timeout=60
        )

    def answer(self, person: str, text: str, value: Any = None, status: str = "submitted") -> str:
        """Answer as a person does in the UI; answering again edits."""
        record = self.in_argilla()[text]
        with self.as_person(person) as http:
            me = http.get("/api/v1/me").raise_for_status().json()["id"]
            values = {} if value is None else {self.project.question.name: {"value": value}}
            body = {"status": status, "values": values}
            mine = [one["id"] for one in record.get("responses", []) if one["user_id"] == me]
            if mine:
                response = http.put(f"/api/v1/responses/{mine[0]}", json=body)
            else:
                response = http.post(f"/api/v1/records/{record['id']}/responses", json=body)
            return str(response.raise_for_status().json()["id"])

    def withdraw(self, person: str, response_id: str) -> None:
        with self.as_person(person) as http:
            http.delete(f"/api/v1/responses/{response_id}").raise_for_status()

    def delete_dataset(self) -> None:
        self.owner.delete(f"/api/v1/datasets/{self.dataset_id()}").raise_for_status()

    def journal(self) -> list[dict[str, Any]]:
        return self.lake.read("responses", self.project.name).sort("version_at").to_dicts()


@pytest.fixture(scope="session")
def accounts(stack: Stack) -> dict[str, dict[str, Any]]:
    """A service account and three annotators, for all tests: hashing passwords is slow on purpose."""
    made = {}
    with stack.argilla() as owner:
        for who, role in (("service", "admin"), *((one, "annotator") for one in PEOPLE)):
            username = f"{who}-{uuid.uuid4().hex[:8]}"
            body = {"username": username, "first_name": who, "role": role, "password": uuid.uuid4().hex}
            made[who] = owner.post("/api/v1/users", json=body).raise_for_status().json()
    return made


@pytest.fixture
def make_bench(stack: Stack, accounts: dict[str, dict[str, Any]]) -> Iterator[Callable[..., Bench]]:
    with stack.argilla() as owner:
        benches: list[Bench] = []

        def make(*questions: dict[str, Any], **source: Any) -> Bench:
            name = f"t{uuid.uuid4().hex[:12]}"
            workspace = owner.post("/api/v1/workspaces", json={"name": name}).raise_for_status().json()["id"]
            for user in accounts.values():
                member = {"user_id": user["id"]}
                owner.post(f"/api/v1/workspaces/{workspace}/users", json=member).raise_for_status()
            project = Project.model_validate(
                {
                    "name": name,
                    "title": "Test",
                    "source": {
                        "prefix": "test/",
                        "fields": {"text": {"title": "Text"}},
                        "metadata": {
                            "channel": {"title": "Channel"},
                            "length": {"title": "Length", "type": "integer"},
                        },
                        **source,
                    },
                    "labeling": {
                        "guidelines": "Decide what the text is, please.",
                        "questions": list(questions) or [LABEL_QUESTION],
                    },
                }
            )
            server = stack.s3_server
            config = StoreConfig(server.endpoint_url, server.access_key_id, server.secret_access_key)
            service = ArgillaClient(stack.urls["argilla"], accounts["service"]["api_key"])
            people = {one: (accounts[one]["username"], accounts[one]["api_key"]) for one in PEOPLE}
            benches.append(Bench(project, Lake(config, LAKE_BUCKET, f"tests/{name}"), service, owner, people))
            return benches[-1]

        yield make
        for bench in benches:
            bench.service.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


TWO = {"one": "buy now", "two": "see you"}


def test_a_batch_reaches_people_with_its_suggestions_and_reasons(bench: Bench) -> None:
    counts = bench.load(TWO)
    assert (counts["pushed"], counts["withheld"], counts["recreated"]) == (2, 0, False)
    record = bench.in_argilla()["buy now"]
    assert record["external_id"] == record_id(bench.project.name, "one")
    assert record["status"] == "pending"
    suggestion = record["suggestions"][0]
    assert (suggestion["value"], suggestion["score"], suggestion["agent"]) == ("spam", 0.51, "m1")
    assert record["metadata"].pop("priority") < 1
    assert record["metadata"] == {
        "channel": "web",
        "length": 7,
        "batch": f"{bench.project.name}/cycle/c1",
        "cycle": "c1",
        "strategy": "random",
        "reason": "The model is unsure: spam 51%, ham 49%",
        "model_version": "m1",
        "selection_score": 0.98,
        "content_hash": content_hash({"text": "buy now"}),
    }
    assert record["fields"] == {"why_shown": "The model is unsure: spam 51%, ham 49%", "text": "buy now"}
    with bench.as_person("ann") as ann:
        visible = ann.get(f"/api/v1/me/datasets/{record['dataset_id']}/metadata-properties").json()["items"]
    assert {one["name"] for one in visible} == {"reason", "priority", "cycle", "channel", "length"}


def test_a_blind_record_shows_no_trace_of_the_model(bench: Bench) -> None:
    bench.load(TWO, blind=True)
    record = bench.in_argilla()["buy now"]
    assert record["suggestions"] == []
    assert not {"model_version", "selection_score"} & set(record["metadata"])
    assert record["fields"]["why_shown"] == record["metadata"]["reason"] == "Chosen for this cycle"


def test_pushing_again_keeps_one_record_and_every_answer(bench: Bench) -> None:
    bench.load(TWO)
    bench.answer("ann", "buy now", "spam")
    assert bench.push(f"{bench.project.name}/cycle/c1")["pushed"] == 2
    records = bench.in_argilla()
    assert len(records) == 2
    assert len(records["buy now"]["responses"]) == 1
    assert open_records(bench.project, bench.service) == 2


def test_records_without_consent_or_with_changed_content_are_withheld(bench: Bench) -> None:
    bench.records({"one": "buy now"}, consent=False)
    bench.records({"two": "see you"}, consent=True)
    bench.records({"two": "see you later"}, revision=2, consent=True)
    counts = bench.push(bench.plan(TWO))
    assert (counts["pushed"], counts["withheld"]) == (0, 2)
    assert bench.in_argilla() == {}


def test_changed_content_gets_a_record_of_its_own(bench: Bench) -> None:
    bench.load({"one": "buy now"})
    for person in ("ann", "bob"):
        bench.answer(person, "buy now", "spam")
    bench.records({"one": "buy never"}, revision=2)
    bench.push(bench.plan({"one": "buy never"}, "c2"))
    bench.push(f"{bench.project.name}/cycle/c2")
    assert set(bench.in_argilla()) == {"buy now", "buy never"}
    bench.answer("ann", "buy never", "ham")
    assert bench.counts() == {"submitted": 3, "versions_appended": 3}
    answered = {(row["content_hash"], row["value_json"]) for row in bench.journal()}
    new = content_hash({"text": "buy never"})
    assert answered == {(content_hash({"text": "buy now"}), '"spam"'), (new, '"ham"')}
    assert {row["record_id"] for row in bench.journal()} == {record_id(bench.project.name, "one")}
    bench.answer("bob", "buy never", "ham")
    bench.collect()
    update_labels(bench.project, bench.lake, now=bench.now)
    labels = bench.lake.read("labels", bench.project.name)
    assert labels.select("content_hash", "value_json", "status").rows() == [(new, '"ham"', "final")]


def test_one_bad_record_does_not_hold_up_the_others(bench: Bench) -> None:
    texts = {f"r{n}": f"text {n}" for n in range(300)}
    bench.records(texts)
    bad = {"r7", "r8", "r299"}
    batch_id = f"{bench.project.name}/cycle/c1"
    good = bench.plan(texts, "draft")
    plan = bench.lake.files.get_json(f"batches/{good}.json")
    for chosen, name in zip(plan["selections"], texts, strict=True):
        if name in bad:
            chosen["suggestion"] = {"value": "no such label", "score": 0.5}
    bench.lake.files.create_json(f"batches/{batch_id}.json", {**plan, "batch_id": batch_id})
    with pytest.raises(LabelingError, match="refused 3 records") as caught:
        bench.push(batch_id)
    for name in bad:
        assert record_id(bench.project.name, name) in str(caught.value)
    assert "no such label" in str(caught.value)
    assert len(bench.in_argilla()) == 297


def test_answers_edits_discards_and_withdrawals_become_versions(bench: Bench) -> None:
    bench.load(TWO)
    assert bench.collect()["versions_appended"] == 0
    bench.answer("ann", "buy now", "spam")
    bench.answer("bob", "buy now", "ham")
    bench.answer("bob", "see you", "spam", status="draft")  # never stored
    bench.answer("cat", "see you", "spam", status="discarded")
    assert bench.counts() == {"submitted": 2, "discarded": 1, "versions_appended": 3}
    first = next(row for row in bench.journal() if row["annotator"] == bench.people["ann"][0])
    assert first["value_json"] == '"spam"'
    assert first["suggestion_json"] == '"spam"'
    assert (first["model_version"], first["batch_id"]) == ("m1", f"{bench.project.name}/cycle/c1")
    assert first["content_hash"] == content_hash({"text": "buy now"})
    discarded = next(row for row in bench.journal() if row["status"] == "discarded")
    assert discarded["value_json"] is None

    bench.answer("ann", "buy now", "ham")
    response_id = bench.answer("cat", "see you", "ham")  # thought again
    assert bench.counts() == {"edited": 1, "submitted": 1, "unchanged": 1, "versions_appended": 2}
    bench.withdraw("cat", response_id)
    bench.answer("bob", "buy now", "ham", status="draft")  # set back: no answer any more
    assert bench.counts() == {"deleted": 2, "unchanged": 1, "versions_appended": 2}
    bench.answer("bob", "buy now", "spam")
    bench.answer("cat", "see you", "ham")
    assert bench.counts() == {"submitted": 2, "unchanged": 1, "versions_appended": 2}
    bob = [row["status"] for row in bench.journal() if row["annotator"] == bench.people["bob"][0]]
    assert bob == ["submitted", "deleted", "submitted"]


def test_answers_become_labels_and_fall_back_with_them(bench: Bench) -> None:
    bench.load(TWO)
    for person in ("ann", "bob"):
        bench.answer(person, "buy now", "spam")
    bench.answer("ann", "see you", "ham")
    bench.answer("bob", "see you", "spam")
    bench.collect()
    counts = update_labels(bench.project, bench.lake, now=bench.now)
    assert (counts["final"], counts["needs_adjudication"], counts["agreement_n"]) == (1, 1, 2)
    assert bench.in_argilla()["buy now"]["status"] == "completed"
    assert open_records(bench.project, bench.service) == 0
    response = next(one for one in bench.journal() if one["value_json"] == '"ham"')
    bench.withdraw("ann", response["response_id"])
    bench.collect()
    assert update_labels(bench.project, bench.lake, now=bench.now)["retracted"] == 1


def test_a_quiet_dataset_is_not_read_again_but_once_a_day_it_is(bench: Bench) -> None:
    bench.load(TWO)
    bench.answer("ann", "buy now", "spam")
    assert bench.collect()["swept"]
    assert bench.collect()["swept"]  # so soon after an answer the search index may not have shown it
    assert bench.collect(later_seconds=120)["swept"]
    assert not bench.collect()["swept"]
    bench.answer("bob", "buy now", "spam")
    assert bench.counts() == {"submitted": 1, "unchanged": 1, "versions_appended": 1}
    assert not bench.collect()["swept"]
    assert bench.collect(later_seconds=25 * 3600)["swept"]


def test_answers_loaded_by_an_owner_are_found_although_activity_stands_still(bench: Bench) -> None:
    bench.load(TWO)
    bench.collect(later_seconds=120)
    assert not bench.collect()["swept"]
    record = bench.in_argilla()["buy now"]
    activity = bench.service.get_dataset(record["dataset_id"])["last_activity_at"]
    me = bench.owner.get("/api/v1/me").json()["id"]
    loaded = {"user_id": me, "status": "submitted", "values": {"kind": {"value": "ham"}}}
    items = [{"id": record["id"], "responses": [loaded]}]
    bench.owner.put(f"/api/v1/datasets/{record['dataset_id']}/records/bulk", json={"items": items}).raise_for_status()
    assert bench.service.get_dataset(record["dataset_id"])["last_activity_at"] == activity
    assert bench.counts() == {"submitted": 1, "versions_appended": 1}


def test_a_sweep_that_dies_before_its_watermark_loses_and_doubles_nothing(bench: Bench) -> None:
    bench.load(TWO)
    bench.answer("ann", "buy now", "spam")
    bench.collect()
    before = bench.journal()
    bench.lake.files.put(
        f"labeling/{bench.project.dataset}.sweep.json",
        json.dumps(
            {"dataset_id": "", "last_activity_at": "", "progress": "", "swept_at": "2026-01-01T00:00:00Z"}
        ).encode(),
    )
    assert bench.counts() == {"unchanged": 1}
    assert bench.journal() == before


def test_an_answer_that_was_wrongly_recorded_as_deleted_comes_back(bench: Bench) -> None:
    bench.load(TWO)
    bench.answer("ann", "buy now", "spam")
    bench.collect()
    row = bench.journal()[0]
    row.update(status="deleted", value_json=None, version_at=row["version_at"] + timedelta(microseconds=1))
    bench.lake.append("responses", [row], app_id="test/wrong")
    assert bench.counts() == {"submitted": 1, "versions_appended": 1}
    assert [row["status"] for row in bench.journal()] == ["submitted", "deleted", "submitted"]
    assert bench.counts() == {"unchanged": 1}


def test_people_answering_between_pages_lose_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of two; after the first page someone withdraws an answer, so that the next pages shift by one."""
    texts = {f"r{n}": f"text {n}" for n in range(7)}
    bench.load(texts)
    given = {text: bench.answer("ann", text, "ham") for text in texts.values()}
    bench.collect()
    monkeypatch.setattr("include.labeling.collect.PAGE", 2)
    order = sorted(bench.in_argilla().values(), key=lambda one: one["id"])
    search, calls = bench.service.search_records, []

    def shifting(*arguments: Any, **options: Any) -> Any:
        found = search(*arguments, **options)
        if not calls:
            bench.withdraw("ann", given[order[0]["fields"]["text"]])
        calls.append(options)
        return found

    monkeypatch.setattr(bench.service, "search_records", shifting)
    seen = bench.counts()
    monkeypatch.undo()
    assert "deleted" not in seen  # the hidden answer is not taken for a deletion
    assert bench.counts() == {"deleted": 1, "unchanged": 6, "versions_appended": 1}
    assert bench.counts() == {"unchanged": 6}


def test_a_deleted_dataset_retracts_nothing_and_comes_back_with_the_open_records(bench: Bench) -> None:
    bench.load(TWO, "c1")
    for person in ("ann", "bob"):
        bench.answer(person, "buy now", "spam")
    bench.answer("ann", "see you", "ham")
    bench.collect()
    update_labels(bench.project, bench.lake, now=bench.now)
    bench.delete_dataset()
    with pytest.raises(LabelingError, match=f"was deleted in Argilla.*Run {bench.project.name}__sample"):
        bench.collect()
    assert open_records(bench.project, bench.service) == 0
    bench.records({"three": "more news"})
    counts = bench.push(bench.plan({"three": "more news"}, "c2"))
    assert (counts["recreated"], counts["pushed"], counts["restored"]) == (True, 1, 1)  # 'buy now' has its label
    assert set(bench.in_argilla()) == {"more news", "see you"}
    assert bench.counts() == {}
    assert [row["status"] for row in bench.journal()] == ["submitted"] * 3
    again = bench.push(f"{bench.project.name}/cycle/c2")
    assert (again["recreated"], again["restored"]) == (False, 0)
    bench.answer("bob", "see you", "ham")
    assert bench.counts() == {"submitted": 1, "versions_appended": 1}
    assert update_labels(bench.project, bench.lake, now=bench.now)["final"] == 1  # with the answer from before


def test_collecting_before_the_first_batch_is_no_error(bench: Bench) -> None:
    assert bench.collect() == {
        **dict.fromkeys(("submitted", "edited", "discarded", "deleted", "unchanged", "versions_appended"), 0),
        "swept": False,
    }
    assert open_records(bench.project, bench.service) == 0


def test_records_that_everyone_discards_wait_for_nobody(bench: Bench) -> None:
    bench.load(TWO)
    bench.answer("ann", "buy now", status="discarded")
    assert open_records(bench.project, bench.service) == 2
    bench.answer("bob", "buy now", status="discarded")
    assert open_records(bench.project, bench.service) == 1


def test_spans_go_out_and_come_back(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(SPAN_QUESTION)
    text = {"one": "Ann lives in Bonn"}
    name, city = {"start": 0, "end": 3, "label": "name"}, {"start": 13, "end": 17, "label": "city"}
    bench.load(text, suggestion={"value": [city, name], "score": 0.7})
    bench.answer("ann", text["one"], [city, name])
    bench.answer("bob", text["one"], [name])
    bench.collect()
    values = {row["annotator"].split("-")[0]: json.loads(row["value_json"]) for row in bench.journal()}
    assert values == {"ann": [name, city], "bob": [name]}
    assert json.loads(bench.journal()[0]["suggestion_json"]) == [name, city]
    counts = update_labels(bench.project, bench.lake, now=bench.now)
    assert (counts["final"], counts["agreement"]) == (1, pytest.approx(2 / 3))
    label = bench.lake.read("labels", bench.project.name).row(0, named=True)
    assert json.loads(label["value_json"]) == [name]


def test_a_dataset_killed_before_publishing_is_completed(bench: Bench) -> None:
    workspace = bench.service.find_workspace(bench.project.workspace)
    assert workspace is not None
    draft = bench.service.create_dataset({"name": bench.project.dataset, "workspace_id": workspace["id"]})
    settings = {"type": "text", "use_markdown": False}
    field_settings = {"name": "text", "title": "Old title", "required": True, "settings": settings}
    bench.service.create_field(draft["id"], field_settings)
    assert open_records(bench.project, bench.service) == 0
    assert bench.collect()["swept"] is False
    found = ensure_dataset(bench.project, bench.service)
    assert (found["dataset_id"], found["created"]) == (draft["id"], False)
    assert bench.service.get_dataset(draft["id"])["status"] == "ready"
    assert ensure_dataset(bench.project, bench.service) == {**found, "updated": []}


def test_what_may_change_is_brought_up_to_date(bench: Bench) -> None:
    dataset_id = bench.dataset_id()
    labels = {"ham": "Fine", "spam": "Spam!"}
    bench.change(
        guidelines="Other guidelines, still long enough.",
        min_submitted=3,
        questions=[{**LABEL_QUESTION, "labels": labels}],
    )
    found = ensure_dataset(bench.project, bench.service)
    assert (found["dataset_id"], found["created"]) == (dataset_id, False)
    assert found["updated"] == ["distribution", "guidelines", "question kind"]
    live = bench.service.get_dataset(dataset_id)
    assert (live["guidelines"], live["distribution"]["min_submitted"]) == ("Other guidelines, still long enough.", 3)
    options = bench.service.list_questions(dataset_id)[0]["settings"]["options"]
    assert [(one["value"], one["text"]) for one in options] == [("ham", "Fine"), ("spam", "Spam!")]


@pytest.mark.parametrize(
    ("labels", "difference"),
    [
        ({"spam": "Spam", "ham": "Not spam", "odd": "Odd"}, "labels ham, spam, the file says ham, odd, spam"),
        ({"spam": "Spam", "no": "Not spam"}, "labels ham, spam, the file says no, spam"),
    ],
)
def test_another_label_set_needs_another_dataset(bench: Bench, labels: dict[str, str], difference: str) -> None:
    old = bench.dataset_id()
    bench.change(questions=[{**LABEL_QUESTION, "labels": labels}])
    with pytest.raises(LabelingError, match=f"{difference}. Raise labeling.schema_version .* to 2"):
        ensure_dataset(bench.project, bench.service)
    bench.change(schema_version=2)
    assert bench.dataset_id() != old


def test_another_question_needs_another_dataset(bench: Bench) -> None:
    bench.dataset_id()
    bench.change(questions=[{**LABEL_QUESTION, "name": "sort"}])
    with pytest.raises(LabelingError, match="questions kind, the file says sort"):
        ensure_dataset(bench.project, bench.service)
    bench.change(questions=[{**SPAN_QUESTION, "name": "kind"}])
    with pytest.raises(LabelingError, match="type label_selection, the file says span"):
        ensure_dataset(bench.project, bench.service)


def test_a_missing_workspace_is_named(bench: Bench) -> None:
    bench.change(workspace="nowhere")
    for attempt in (
        lambda: ensure_dataset(bench.project, bench.service),
        lambda: bench.load(TWO),
    ):
        with pytest.raises(LabelingError, match="no workspace 'nowhere'.*Create the workspace"):
            attempt()
    assert open_records(bench.project, bench.service) == 0


def test_a_plan_names_every_difference_and_nothing_is_changed(make_bench: Callable[..., Bench]) -> None:
    score = {"name": "score", "type": "rating", "title": "How sure?", "ratings": [1, 2, 3]}
    bench = make_bench(LABEL_QUESTION, score)
    dataset_id = bench.dataset_id()
    live = bench.service.get_dataset(dataset_id)
    assert plan_dataset(bench.project, bench.service, live, {}) == []
    bench.change(
        guidelines="Guidelines that would be changed in place.",
        questions=[
            {**LABEL_QUESTION, "labels": {"spam": "Spam", "ham": "Ham", "odd": "Odd"}},
            {**score, "ratings": [1, 2, 3, 4], "required": False},
        ],
    )
    plan = plan_dataset(bench.project, bench.service, live, {"topic": 3})
    assert [(step.action, step.what) for step in plan] == [
        ("update", "guidelines"),
        ("new_version", "question kind"),
        ("new_version", "question score"),
        ("new_version", "question score"),
        ("create", "vectors topic"),
    ]
    with pytest.raises(LabelingError) as caught:
        ensure_dataset(bench.project, bench.service, {"topic": 3})
    for words in (
        "question kind has the labels ham, spam, the file says ham, odd, spam",
        "question score has the labels 1, 2, 3, the file says 1, 2, 3, 4",
        "question score has the required True, the file says False",
        f"Raise labeling.schema_version in {bench.project.name}.yaml to 2",
        "update guidelines, create vectors topic",
    ):
        assert words in str(caught.value)
    assert bench.service.get_dataset(dataset_id) == live
    assert bench.service.list_vectors_settings(dataset_id) == []


EVERY_QUESTION: list[tuple[dict[str, Any], Any]] = [
    (LABEL_QUESTION, "spam"),
    (
        {"name": "topics", "type": "multi_label", "title": "Topics", "labels": {"a": "A", "b": "B", "c": "C"}},
        ["c", "a"],
    ),
    ({"name": "sure", "type": "rating", "title": "How sure?", "ratings": [0, 1, 5, 10]}, 5),
    (
        {"name": "order", "type": "ranking", "title": "Order", "labels": {"x": "X", "y": "Y"}},
        [{"value": "y", "rank": 1}, {"value": "x", "rank": 2}],
    ),
    (SPAN_QUESTION, [{"label": "name", "start": 0, "end": 3}]),
    ({"name": "why", "type": "text", "title": "Why?", "required": False, "markdown": True}, "because *so*"),
]


def test_every_type_of_question_is_asked_and_every_answer_is_kept(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(*(question for question, _ in EVERY_QUESTION))
    text = "Ann lives in Bonn"
    bench.load({"one": text}, suggestion={"value": "spam", "score": 0.5})
    assert ensure_dataset(bench.project, bench.service)["updated"] == []
    record = bench.in_argilla()[text]
    values = {question["name"]: {"value": value} for question, value in EVERY_QUESTION}
    for person in ("ann", "bob"):
        given = values if person == "ann" else {name: value for name, value in values.items() if name != "why"}
        with bench.as_person(person) as http:
            body = {"status": "submitted", "values": given}
            http.post(f"/api/v1/records/{record['id']}/responses", json=body).raise_for_status()
    bench.collect()
    ann, bob = bench.people["ann"][0], bench.people["bob"][0]
    kept = {(row["annotator"], row["question"]): row["value_json"] for row in bench.journal()}
    for question, value in EVERY_QUESTION:
        assert json.loads(kept[ann, question["name"]]) == value
    assert kept[bob, "why"] is None
    assert len(kept) == 2 * len(EVERY_QUESTION)
    suggested = {row["question"]: row["suggestion_json"] for row in bench.journal()}
    assert {name for name, value in suggested.items() if value is not None} == {"kind"}
    update_labels(bench.project, bench.lake, now=bench.now)
    labels = bench.lake.read("labels", bench.project.name, where=pl.col("question") == "kind")
    assert labels.select("value_json", "status").rows() == [('"spam"', "final")]
    assert bench.counts() == {"unchanged": 2 * len(EVERY_QUESTION)}


def test_chats_images_and_custom_fields_are_shown_and_what_cannot_be_is_named(make_bench: Callable[..., Bench]) -> None:
    server_image = "pictures/a b.png"
    bench = make_bench(
        fields={
            "text": {"title": "Text"},
            "talk": {"title": "Talk", "type": "chat", "markdown": True},
            "picture": {"title": "Picture", "type": "image", "required": False},
            "card": {"title": "Card", "type": "custom", "template": "<b>{{record.fields.card.name}}</b>"},
        }
    )
    pixel = b"\x89PNG\r\n\x1a\n" + bytes(40)
    Store(bench.lake.files.config, LAKE_BUCKET).put(server_image, pixel)
    good = {
        "text": "good",
        "talk": json.dumps([{"role": "user", "content": "hi", "at": 1}, {"role": "bot", "content": "hello"}]),
        "picture": f"s3://{LAKE_BUCKET}/pictures/a%20b.png",
        "card": {"name": "Ann"},
    }
    linked = {**good, "text": "linked", "picture": "https://example.org/a.png"}
    bad = {
        "no chat": {**good, "text": "no chat", "talk": "hi"},
        "no card": {**good, "text": "no card", "card": "[1]"},
        "no tiff": {**good, "text": "no tiff", "picture": f"s3://{LAKE_BUCKET}/a.tif"},
        "gone": {**good, "text": "gone", "picture": f"s3://{LAKE_BUCKET}/gone.png"},
        "no link": {**good, "text": "no link", "picture": "here"},
        "long role": {**good, "text": "long role", "talk": [{"role": "r" * 21, "content": "x"}]},
    }
    texts = {}
    for fields in (good, linked, *bad.values()):
        name = str(fields["text"])
        bench.records({name: name}, fields_json=canonical_json(fields))
        texts[name] = name
    with pytest.raises(LabelingError, match=f"refused {len(bad)} records") as caught:
        bench.push(bench.plan(texts))
    for words in (
        "'talk' is no list of messages",
        "'card' is no mapping",
        "do not show 'a.tif'",
        "gone.png is not there",
    ):
        assert words in str(caught.value)
    shown = bench.in_argilla()
    assert set(shown) == {"good", "linked"}
    talk = [{"role": "user", "content": "hi"}, {"role": "bot", "content": "hello"}]
    assert shown["good"]["fields"]["talk"] == talk
    assert shown["good"]["fields"]["card"] == {"name": "Ann"}
    assert shown["good"]["fields"]["picture"] == f"data:image/png;base64,{base64.b64encode(pixel).decode()}"
    assert shown["linked"]["fields"]["picture"] == "https://example.org/a.png"
    assert ensure_dataset(bench.project, bench.service)["updated"] == []


def test_metadata_can_be_hidden_from_annotators(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(metadata={"channel": {"title": "Channel", "visible": False}, "length": {"title": "Length"}})
    bench.load(TWO)
    record = bench.in_argilla()["buy now"]
    assert record["metadata"]["channel"] == "web"
    with bench.as_person("ann") as ann:
        found = ann.post(f"/api/v1/me/datasets/{record['dataset_id']}/records/search", json={}).raise_for_status()
        seen = {name for item in found.json()["items"] for name in item["record"]["metadata"]}
    assert seen == {"length", "reason", "priority", "cycle"}


def test_vectors_of_the_newest_embedder_go_along(bench: Bench) -> None:
    texts = {**TWO, "three": "more news"}
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for embedder, vectors, at in (
        ("old", {"one": [1.0], "two": [1.0]}, now),
        ("Latent/2", {"one": [1.0, 0.0], "three": [0.8, 0.6]}, now + timedelta(days=1)),
    ):
        rows = [
            {
                "project": bench.project.name,
                "record_id": record_id(bench.project.name, name),
                "shard": shard(record_id(bench.project.name, name)),
                "content_hash": content_hash({"text": texts[name]}),
                "embedder": embedder,
                "vector": vector,
                "embedded_at": at,
            }
            for name, vector in vectors.items()
        ]
        bench.lake.append("embeddings", rows, app_id=f"test/{embedder}")
    bench.load(texts)
    [settings] = bench.service.list_vectors_settings(bench.dataset_id())
    assert (settings["name"], settings["dimensions"]) == ("latent_2", 2)
    like_one = {"name": "latent_2", "record_id": bench.in_argilla()["buy now"]["id"]}
    with bench.as_person("ann") as ann:
        path = f"/api/v1/me/datasets/{bench.dataset_id()}/records/search"
        found = ann.post(path, json={"query": {"vector": like_one}}).raise_for_status().json()["items"]
    assert [item["record"]["fields"]["text"] for item in found] == ["more news"]


def test_an_outdated_kind_of_vectors_makes_room_for_a_new_one(bench: Bench) -> None:
    names = [f"generation_{n}" for n in range(7)]
    for name in names:
        ensure_dataset(bench.project, bench.service, {name: 3})
    live = bench.service.list_vectors_settings(bench.dataset_id())
    assert {one["name"] for one in live} == set(names[2:])


def test_a_promotion_refreshes_only_what_waits_untouched_and_sees_suggestions(bench: Bench) -> None:
    texts = {name: f"text of {name}" for name in ("open", "drafted", "answered", "blind", "unscored")}
    seeing = {name: text for name, text in texts.items() if name != "blind"}
    bench.load(seeing)
    bench.load({"blind": texts["blind"]}, "c2", blind=True)
    bench.answer("ann", texts["answered"], "spam")
    bench.answer("ann", texts["drafted"], "spam", status="draft")
    bench.predict({name: text for name, text in texts.items() if name != "unscored"}, "m2", "ham")
    assert bench.refresh("m2") == {"refreshed": 1, "unscored": 1, "pending": 3}
    found = bench.in_argilla()
    shown = {
        name: [(one["value"], one["score"], one["agent"]) for one in found[text]["suggestions"]]
        for name, text in texts.items()
    }
    old, new = [("spam", 0.51, "m1")], [("ham", 0.8, "m2")]
    assert shown == {"open": new, "drafted": old, "answered": old, "blind": [], "unscored": old}
    metadata = found[texts["open"]]["metadata"]
    assert (metadata["model_version"], metadata["selection_score"]) == ("m2", pytest.approx(0.4))
    assert (metadata["reason"], metadata["channel"]) == ("The model is unsure: spam 51%, ham 49%", "web")
    assert bench.refresh("m2") == {"refreshed": 0, "unscored": 1, "pending": 3}
    bench.push(f"{bench.project.name}/cycle/c1")  # a late retry does not bring the old suggestion back
    assert [one["agent"] for one in bench.in_argilla()[texts["open"]]["suggestions"]] == ["m2"]
    bench.collect()
    assert json.loads(bench.journal()[0]["suggestion_json"]) == "spam"  # what was shown when the answer was given


def test_refreshing_before_the_first_batch_is_no_error(bench: Bench) -> None:
    assert bench.refresh("m1") == {"refreshed": 0, "unscored": 0, "pending": 0}


def test_only_records_without_any_answer_are_withdrawn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.labeling.pending.DELETED_AT_ONCE", 2)
    texts = {name: f"text of {name}" for name in ("a", "b", "c", "answered", "drafted", "discarded")}
    bench.load(texts)
    bench.answer("ann", texts["answered"], "spam")
    bench.answer("ann", texts["drafted"], "spam", status="draft")
    bench.answer("ann", texts["discarded"], status="discarded")
    names = [*(name for name in texts if name != "c"), "never pushed"]
    fates = withdraw(bench.project, bench.service, bench.external_ids(*names))
    assert {fate: set(ids) for fate, ids in fates.items()} == {
        "withdrawn": set(bench.external_ids("a", "b")),
        "answered": set(bench.external_ids("answered", "drafted", "discarded")),
        "gone": set(bench.external_ids("never pushed")),
    }
    assert set(bench.in_argilla()) == {texts[name] for name in ("c", "answered", "drafted", "discarded")}
    again = withdraw(bench.project, bench.service, bench.external_ids("a"))
    assert again == {"withdrawn": [], "answered": [], "gone": bench.external_ids("a")}
    bench.push(bench.plan({"a": texts["a"]}, "c2"))  # may be chosen again
    assert texts["a"] in bench.in_argilla()


@pytest.mark.parametrize("happened", [True, False], ids=["the write happened", "the write did not happen"])
def test_a_write_without_an_answer_is_looked_for_before_it_is_repeated(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    monkeypatch.setattr("include.labeling.push.PAUSES_SECONDS", (0.0, 0.0))
    texts = {f"r{n}": f"text {n}" for n in range(7)}
    monkeypatch.setattr("include.labeling.push.PAGE", 3)
    write, written = bench.service.upsert_records, []

    def unanswered(dataset_id: str, records: Any) -> None:
        written.append([one["external_id"] for one in records])
        if len(written) == 2:
            if happened:
                write(dataset_id, records)
            raise LabelingUnavailableError("Argilla answered 500", remedy="Retry.")
        write(dataset_id, records)

    monkeypatch.setattr(bench.service, "upsert_records", unanswered)
    assert bench.load(texts)["pushed"] == 7
    assert set(bench.in_argilla()) == set(texts.values())
    repeated = [] if happened else [written[1]]
    assert written == [written[0], written[1], *repeated, written[-1]]
    assert [len(one) for one in written] == [3, 3, *(len(one) for one in repeated), 1]


def test_a_server_that_stays_away_is_an_error_and_a_later_push_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.labeling.push.PAUSES_SECONDS", (0.0,))
    monkeypatch.setattr("include.labeling.push.PAGE", 2)
    texts = {f"r{n}": f"text {n}" for n in range(5)}
    write, written = bench.service.upsert_records, []

    def failing(dataset_id: str, records: Any) -> None:
        if written:
            raise LabelingUnavailableError("Argilla did not answer", remedy="Retry.")
        written.append(len(records))
        write(dataset_id, records)

    monkeypatch.setattr(bench.service, "upsert_records", failing)
    with pytest.raises(LabelingUnavailableError):
        bench.load(texts)
    assert len(bench.in_argilla()) == 2

    def counting(dataset_id: str, records: Any) -> None:
        written.append(len(records))
        write(dataset_id, records)

    monkeypatch.setattr(bench.service, "upsert_records", counting)
    assert bench.push(f"{bench.project.name}/cycle/c1")["pushed"] == 5
    assert written == [2, 2, 1]
    assert set(bench.in_argilla()) == set(texts.values())


def test_a_push_outlives_an_argilla_that_is_killed_again_and_again(
    bench: Bench, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at moments of a bulk write: at its start, in the middle, and about when it is answered."""
    texts = {f"r{n}": f"text {n} " + "word " * 200 for n in range(2400)}
    bench.records(texts)
    batch_id = bench.plan(texts)
    ensure_dataset(bench.project, bench.service)
    moments, killed, calls = [0.05, 0.5, 0.9], [], []  # as shares of the time that the first, undisturbed write took
    undisturbed_seconds = 0.0
    write = bench.service.upsert_records

    def kill() -> None:
        killed.append(stack.state()["services"]["argilla-server"]["pid"])
        os.kill(killed[-1], signal.SIGKILL)

    def in_flight(dataset_id: str, records: Any) -> None:
        nonlocal undisturbed_seconds
        calls.append(len(records))
        timer = None
        if len(calls) > 1 and len(killed) < len(moments):
            timer = threading.Timer(moments[len(killed)] * undisturbed_seconds, kill)
            timer.start()
        began = time.monotonic()
        try:
            write(dataset_id, records)
        finally:
            undisturbed_seconds = undisturbed_seconds or time.monotonic() - began
            if timer is not None:
                timer.join()  # so that each write is killed at most once, and the three kills always happen

    monkeypatch.setattr(bench.service, "upsert_records", in_flight)
    assert bench.push(batch_id)["pushed"] == len(texts)
    assert len(set(killed)) == len(moments)
    stored = every_record(bench)
    assert len(stored) == len(texts)
    assert {one["external_id"] for one in stored} == set(bench.external_ids(*texts))
    assert all(len(one["suggestions"]) == 1 and one["metadata"]["batch"] == batch_id for one in stored)
    del calls[:]
    assert bench.push(batch_id)["pushed"] == len(texts)
    assert calls == []


def every_record(bench: Bench) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    total = 1
    while len(found) < total:
        page, total = bench.service.search_records(
            bench.dataset_id(),
            include=["suggestions"],
            sort=[{"scope": {"entity": "record", "property": "id"}, "order": "asc"}],
            offset=len(found),
        )
        assert page
        found += page
    return found


def test_what_nobody_touched_for_too_long_is_taken_away_and_can_come_back(bench: Bench) -> None:
    """The same record in a later batch is a new one in Argilla: with a new suggestion, waiting from then on."""
    bench.load(TWO, "c1")
    bench.answer("ann", "buy now", "spam")
    assert tend_queue(bench.project, bench.lake, bench.service, now=bench.now)["withdrawn"] == 0
    later = bench.now + timedelta(days=31)
    queue = tend_queue(bench.project, bench.lake, bench.service, now=later)
    assert (queue["withdrawn"], queue["open_records"]) == (1, 1)
    assert queue["median_age_days"] == pytest.approx(31, abs=0.1)
    assert set(bench.in_argilla()) == {"buy now"}
    assert bench.counts() == {"submitted": 1, "versions_appended": 1}
    selections = bench.lake.read("selections", bench.project.name)
    free = set(selections["record_id"]) - set(standing(bench.project, bench.lake, selections)["record_id"])
    assert free == {record_id(bench.project.name, name) for name, text in TWO.items() if text == "see you"}
    again = {name: text for name, text in TWO.items() if text == "see you"}
    bench.push(bench.plan(again, "c2", suggestion={"value": "ham", "score": 0.9}))
    (suggestion,) = bench.in_argilla()["see you"]["suggestions"]
    assert suggestion["value"] == "ham"
    assert open_records(bench.project, bench.service) == 2


def test_keywords_suggest_where_no_model_does(bench: Bench) -> None:
    raw = bench.project.model_dump() | {"rules": [{"label": "spam", "any": ["buy"]}]}
    bench.project = Project.model_validate(raw)
    bench.load(TWO, suggestion=None, model_version=None)
    shown = {text: record["suggestions"] for text, record in bench.in_argilla().items()}
    (suggestion,) = shown["buy now"]
    assert (suggestion["value"], suggestion["agent"], suggestion["score"]) == ("spam", "rules", None)
    assert shown["see you"] == []
    blind = {"three": "buy again"}
    bench.load(blind, "c2", suggestion=None, model_version=None, blind=True)
    assert bench.in_argilla()["buy again"]["suggestions"] == []
    assert bench.lake.read("labels", bench.project.name).is_empty()
