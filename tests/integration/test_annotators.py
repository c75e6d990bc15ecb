"""Scripted annotators against a real Argilla: complete, exact, resumable, and robust when replies get lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from labelwheel_argilla.client import ArgillaClient

from include.labeling.settings import ensure_dataset
from include.lake.keys import record_id
from include.project import Project
from standalone.annotators import PERSONAS, decide, ensure_accounts, run_annotators
from standalone.demo_data.stream import Answer, Stream
from standalone.demo_data.upload import write_answers
from standalone.errors import ServiceError
from standalone.home import REPO
from standalone.stack import Stack

pytestmark = pytest.mark.stack

USERNAMES = {persona.username for persona in PERSONAS}
LABELS = {"spam": "Spam", "newsletter": "Newsletter", "other_personal": "Personal"}
LABEL_QUESTION = {"name": "pile", "type": "label", "title": "Which pile?", "labels": LABELS}
SPAN_QUESTION = {
    "name": "parts",
    "type": "span",
    "title": "Mark the parts",
    "labels": {"house_number": "House number", "street": "Street", "city": "City"},
    "field": "text",
}


@dataclass
class Desk:
    """A project of one test with its answer key, as the scripted annotators find it."""

    stack: Stack
    project: Project
    dataset_id: str
    truth: dict[str, Answer]  # by record id

    def run(self, **options: Any) -> dict[str, int]:
        stack = options.pop("stack", self.stack)
        options = {"pace_seconds": 0.0, "workspace": self.project.workspace, **options}
        return run_annotators(stack, self.project.name, **options)

    def records(self) -> dict[str, dict[str, Any]]:
        """Every record with all responses, by external id."""
        with self.stack.argilla() as api:
            path = f"/api/v1/datasets/{self.dataset_id}/records/search?limit=1000&include=responses"
            items = api.post(path, json={}).raise_for_status().json()["items"]
        return {item["record"]["external_id"]: item["record"] for item in items}

    def usernames(self) -> dict[str, str]:
        with self.stack.argilla() as api:
            return {
                user["id"]: user["username"] for user in api.get("/api/v1/users").raise_for_status().json()["items"]
            }

    def answers(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Every response by (external id, user name); more than one response for such a pair is a failure."""
        names, found = self.usernames(), {}
        for external_id, record in self.records().items():
            for response in record["responses"]:
                key = (external_id, names[response["user_id"]])
                assert key not in found, f"{key} answered twice"
                found[key] = response
        return found

    def decision(self, external_id: str, username: str) -> Any:
        persona = next(persona for persona in PERSONAS if persona.username == username)
        labels = list(self.project.question.labels)
        return decide(persona, external_id, self.truth[external_id], labels, self.text(external_id), 17)

    def text(self, external_id: str) -> str:
        return "12 Oak Lane, Springfield" if self.project.question.field else ""


def make_desk(stack: Stack, rows: int, question: dict[str, Any]) -> Desk:
    name = f"scripted_{uuid.uuid4().hex[:10]}"
    project = Project.model_validate(
        {
            "name": name,
            "title": "Test",
            "source": {"prefix": f"{name}/", "fields": {"text": {"title": "Text"}}},
            "labeling": {"guidelines": "Sort these short texts, please.", "questions": [question], "min_submitted": 2},
        }
    )
    truths: list[Answer] = list(LABELS)
    if question["type"] == "span":
        ends = {"house_number": (0, 2), "street": (3, 11), "city": (13, 24)}
        truths = [[{"start": start, "end": end, "label": label} for label, (start, end) in ends.items()]]
    by_source = {f"mail-{n}": truths[n % len(truths)] for n in range(rows)}
    write_answers(Stream(name, [], by_source), stack.home)
    ensure_accounts(stack, project.workspace)
    with ArgillaClient(stack.urls["argilla"], stack.credentials.argilla_owner_api_key) as client:
        dataset_id = ensure_dataset(project, client)["dataset_id"]
        desk = Desk(stack, project, dataset_id, {record_id(name, one): truth for one, truth in by_source.items()})
        client.upsert_records(
            dataset_id,
            [
                {"external_id": one, "fields": {"text": desk.text(one) or "Dear reader"}, "metadata": {"cycle": "test"}}
                for one in [*desk.truth, "f" * 32]  # the last is of other origin
            ],
        )
    return desk


def test_everything_is_answered_as_decided_and_nothing_twice(stack: Stack):
    desk = make_desk(stack, 60, LABEL_QUESTION)
    counts = desk.run()
    answers = desk.answers()
    assert {name for _, name in answers} <= USERNAMES
    assert counts["submitted"] + counts["discarded"] == len(answers)
    assert counts["unknown"] == len(PERSONAS)
    assert sum(counts[f"submitted.{name}"] for name in USERNAMES) == counts["submitted"]
    records = desk.records()
    stranger = records.pop("f" * 32)
    assert (stranger["status"], stranger["responses"]) == ("pending", [])
    # A record waits for ever only when two of the three people discard it.
    willing = {one: sum(desk.decision(one, name).answer is not None for name in USERNAMES) for one in records}
    waiting = {one: record["responses"] for one, record in records.items() if record["status"] == "pending"}
    assert waiting == {one: records[one]["responses"] for one in records if willing[one] < 2}
    for (external_id, name), response in answers.items():
        expected = desk.decision(external_id, name).answer
        if expected is None:
            assert response["status"] == "discarded"
        else:
            assert (response["status"], response["values"]["pile"]["value"]) == ("submitted", expected)
    corrected = sum(desk.decision(*key).first is not None for key in answers)
    assert counts["corrected"] == corrected
    again = desk.run()
    assert (again["submitted"], again["discarded"], again["corrected"]) == (0, 0, 0)
    assert desk.answers() == answers


def test_spans_are_accepted(stack: Stack):
    desk = make_desk(stack, 25, SPAN_QUESTION)
    desk.run()
    answers = desk.answers()
    assert len(answers) >= 50
    for (external_id, name), response in answers.items():
        if response["status"] == "submitted":
            assert response["values"]["parts"]["value"] == desk.decision(external_id, name).answer
    right = sum(r["values"]["parts"]["value"] == desk.truth[key[0]] for key, r in answers.items() if r["values"])
    assert len(answers) * 0.75 < right < len(answers)


def test_leave_keeps_records_for_others(stack: Stack):
    desk = make_desk(stack, 20, LABEL_QUESTION)
    desk.run(leave=8)
    pending = [one for one, record in desk.records().items() if record["status"] == "pending" and one in desk.truth]
    assert 8 <= len(pending) <= 20
    assert desk.answers()


def test_accounts_are_made_once_and_kept_private(stack: Stack):
    desk = make_desk(stack, 1, LABEL_QUESTION)
    path = stack.home.path / "annotators.json"
    before = json.loads(path.read_text())
    assert ensure_accounts(stack, desk.project.workspace) == {name: one["api_key"] for name, one in before.items()}
    assert json.loads(path.read_text()) == before
    assert path.stat().st_mode & 0o077 == 0
    with stack.argilla() as api:
        users = {user["username"]: user for user in api.get("/api/v1/users").json()["items"]}
        assert {users[name]["role"] for name in USERNAMES} == {"annotator"}
        assert all(users[name]["first_name"].endswith("(scripted)") for name in USERNAMES)
    for name, one in before.items():
        form = {"username": name, "password": one["password"]}
        assert httpx.post(f"{stack.urls['argilla']}/api/v1/token", data=form).status_code == httpx.codes.CREATED


def test_without_a_dataset_the_remedy_is_named(stack: Stack):
    name = f"scripted_{uuid.uuid4().hex[:10]}"
    write_answers(Stream(name, [], {"1": "spam"}), stack.home)
    with pytest.raises(ServiceError, match=f"no open dataset of project '{name}'.*{name}__sample"):
        run_annotators(stack, name, workspace=name)


def test_a_killed_run_is_taken_up_where_it_was(stack: Stack):
    desk = make_desk(stack, 40, LABEL_QUESTION)
    script = (
        "import sys; from pathlib import Path; from standalone.annotators import run_annotators; "
        "from standalone.stack import Stack; "
        "run_annotators(Stack.load(Path(sys.argv[1])), sys.argv[2], workspace=sys.argv[2], pace_seconds=0.05)"
    )
    for goal in (10, 30):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(stack.home.path), desk.project.name], cwd=REPO, stdin=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 120
            while len(desk.answers()) < goal:
                assert process.poll() is None, "the run ended before it could be killed"
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
    before = desk.answers()
    counts = desk.run()
    answers = desk.answers()
    assert set(before) < set(answers)
    assert counts["submitted"] + counts["discarded"] == len(answers) - len(before)
    records = desk.records()
    assert {records[one]["status"] for one in desk.truth} == {"completed"}


@contextmanager
def unreliable(url: str) -> Iterator[tuple[str, Counter[str]]]:
    """A server before Argilla that fails now and then: before the request reached it, or after it was carried out."""
    lock, failures = threading.Lock(), Counter[str]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            with lock:
                failures["requests"] += 1
                number = failures["requests"]
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if number % 5 == 0:
                failures["refused"] += 1
                return self.reply(503, b'{"detail": "try later"}')
            headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
            answer = httpx.request(self.command, url + self.path, content=body, headers=headers, timeout=60)
            if number % 7 == 0:
                failures["reply lost"] += 1
                self.close_connection = True
                return None
            return self.reply(answer.status_code, answer.content)

        def reply(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = forward  # noqa: N815  (names the base class looks for)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", failures
        finally:
            server.shutdown()
            thread.join()


def test_lost_replies_and_errors_cost_no_answer_and_make_none_twice(stack: Stack):
    desk = make_desk(stack, 30, LABEL_QUESTION)
    with unreliable(stack.urls["argilla"]) as (url, failures):
        counts = desk.run(stack=replace(stack, urls={**stack.urls, "argilla": url}))
    assert failures["refused"] > 5
    assert failures["reply lost"] > 5
    answers = desk.answers()
    assert counts["submitted"] + counts["discarded"] == len(answers)
    records = desk.records()
    assert {records[one]["status"] for one in desk.truth} == {"completed"}


def test_watching_goes_on_until_it_is_stopped(stack: Stack):
    desk = make_desk(stack, 12, LABEL_QUESTION)
    stop, results = threading.Event(), []
    run = threading.Thread(target=lambda: results.append(desk.run(watch=True, stop=stop)))
    run.start()
    try:
        deadline = time.monotonic() + 120
        while not all(desk.records()[one]["status"] == "completed" for one in desk.truth):
            assert run.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert run.is_alive()
    finally:
        stop.set()
        run.join(timeout=60)
    assert not run.is_alive()
    assert results[0]["unknown"] == len(PERSONAS)
