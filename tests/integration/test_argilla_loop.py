"""The labeling half of the loop against a real Argilla and a real object store.

Each test has a workspace, a project and a lake of its own; people answer through Argilla's own REST API.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from labelwheel_argilla.client import ArgillaClient

from include.errors import LabelingError
from include.labeling.aggregate import update_labels
from include.labeling.collect import collect_responses
from include.labeling.push import push_batch
from include.labeling.queue import open_records
from include.labeling.settings import ensure_dataset
from include.lake import Lake, StoreConfig
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
                "tier": 0,
                "reason": "The model is unsure: spam 51%, ham 49%",
                "suggestion": {"value": "spam", "score": 0.51},
                **chosen,
            }
            for name, text in texts.items()
        ]
        plan = {"batch_id": batch_id, "kind": "cycle", "cycle": cycle, "selections": selections}
        self.lake.files.create_json(f"batches/{batch_id}.json", plan)
        return batch_id

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

        def make(question: dict[str, Any] = LABEL_QUESTION) -> Bench:
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
                    },
                    "labeling": {"guidelines": "Decide what the text is, please.", "questions": [question]},
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
        "content_hash": content_hash({"text": "buy now"}),
    }
    with bench.as_person("ann") as ann:
        visible = ann.get(f"/api/v1/me/datasets/{record['dataset_id']}/metadata-properties").json()["items"]
    assert {one["name"] for one in visible} == {"reason", "priority", "cycle", "channel", "length"}


def test_a_blind_record_shows_no_trace_of_the_model(bench: Bench) -> None:
    bench.load(TWO, blind=True)
    record = bench.in_argilla()["buy now"]
    assert record["suggestions"] == []
    assert "spam" not in record["metadata"]["reason"]


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
    with pytest.raises(LabelingError, match=f"{difference}. Raise labeling.schema_version"):
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
