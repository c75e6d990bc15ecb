"""The launcher and the worker as a supervisor sees them: what they serve, deliver, refuse, and how they end."""

import http.server
import json
import re
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import LABEL_QUESTION, TEXT_FIELD, Dataset, answer, checked
from stack import Stack, wait_until


@contextmanager
def webhook_receiver(failures: int = 0) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the address of a server that keeps what is posted to it, after answering 500 to the first `failures`."""
    received: list[dict[str, Any]] = []
    remaining = [failures]

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if remaining[0] > 0:
                remaining[0] -= 1
                self.send_response(500)
            else:
                received.append(json.loads(body))
                self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test output quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", received
        finally:
            server.shutdown()


def test_serves_the_web_ui_without_foreign_hosts(any_engine: Stack) -> None:
    page = httpx.get(any_engine.url)
    assert page.status_code == httpx.codes.OK
    assert '<div id="__nuxt">' in page.text
    assert httpx.get(f"{any_engine.url}/dataset/x/annotation-mode").text == page.text
    assets = set(re.findall(r'(?:src|href)="(/_nuxt/[^"]+)"', page.text))
    assert len(assets) >= 2
    for asset in assets:
        assert httpx.get(any_engine.url + asset).status_code == httpx.codes.OK
    style_sheets = list(any_engine.temporary.glob("*/statics/**/*.css"))
    assert style_sheets
    for style_sheet in style_sheets:
        assert "fonts.googleapis.com" not in style_sheet.read_text(encoding="utf-8")


def test_database_uses_a_write_ahead_log(any_engine: Stack) -> None:
    with closing(sqlite3.connect(any_engine.database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_stopped_server_exits_cleanly_and_leaves_no_copy_of_the_ui(stack: Stack) -> None:
    stack.start()
    assert list(stack.temporary.glob("*/statics/index.html"))
    assert stack.stop(signal.SIGTERM) == 0
    assert list(stack.temporary.iterdir()) == []


def test_another_argilla_is_refused_with_one_sentence(stack: Stack, tmp_path: Path) -> None:
    """A distribution that claims to be 2.9.0 comes first on the path."""
    claim = tmp_path / "claim" / "argilla_server-2.9.0.dist-info"
    claim.mkdir(parents=True)
    (claim / "METADATA").write_text("Metadata-Version: 2.1\nName: argilla-server\nVersion: 2.9.0\n")
    for module in ("argilla_sqlite", "argilla_sqlite.worker"):
        command, environment = stack.command("start", module=module)
        environment["PYTHONPATH"] = f"{claim.parent}:{environment['PYTHONPATH']}"
        refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1
        assert "argilla-server 2.9.0 is installed" in refused.stderr
        assert "install argilla-server==2.8.0" in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("database_url", ["postgresql+asyncpg://localhost/argilla", "sqlite+aiosqlite://"])
def test_database_without_a_file_is_refused_with_one_sentence(stack: Stack, database_url: str) -> None:
    stack.environment["ARGILLA_DATABASE_URL"] = database_url
    command, environment = stack.command("start")
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "ARGILLA_DATABASE_URL" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_worker_delivers_events_retries_and_stops_when_told(any_engine: Stack) -> None:
    worker = any_engine.spawn(module="argilla_sqlite.worker")
    try:
        with any_engine.client() as owner, webhook_receiver(failures=1) as (url, received):
            dataset = Dataset.publish(owner, fields=[TEXT_FIELD], questions=[LABEL_QUESTION])
            before = dataset.upsert([{"external_id": "before", "fields": {"body": "x"}}])
            events = ["response.created", "record.created", "record.updated", "record.deleted", "record.completed"]
            webhook = checked(owner.post("/webhooks", json={"url": url, "events": events, "description": "test"}))
            ids = dataset.upsert([{"external_id": "after", "fields": {"body": "y"}}])
            dataset.upsert([{"external_id": "before", "fields": {"body": "z"}}])
            answer(owner, ids["after"], label="ham")
            dataset.delete([before["before"]])
            # The first delivery fails and is tried again by the scheduler after ten seconds.
            expected = [*events, "record.updated"]
            wait_until(lambda: len(received) >= len(expected), "delivery of all events", timeout_seconds=40)
            assert sorted(event["type"] for event in received) == sorted(expected)
            created = next(event for event in received if event["type"] == "record.created")
            assert created["data"]["fields"] == {"body": "y"}

            checked(owner.patch(f"/webhooks/{webhook['id']}", json={"events": ["response.created"]}))
            received.clear()
            ids = dataset.upsert([{"external_id": "silent", "fields": {"body": "y"}}])
            answer(owner, ids["silent"], label="spam")
            wait_until(lambda: len(received) >= 1, "delivery of the answer", timeout_seconds=20)
            assert [event["type"] for event in received] == ["response.created"]
            checked(owner.delete(f"/webhooks/{webhook['id']}"))

            # A job of the other queue: it goes through the search engine and updates every record's status.
            completed = {"type": "terms", "scope": {"entity": "record", "property": "status"}, "values": ["completed"]}
            assert sorted(dataset.found({"filters": {"and": [completed]}})) == ["after", "silent"]
            distribution = {"strategy": "overlap", "min_submitted": 2}
            checked(owner.patch(f"/datasets/{dataset.id}", json={"distribution": distribution}))
            wait_until(lambda: dataset.found({"filters": {"and": [completed]}}) == [], "both records being reopened")
    finally:
        worker.send_signal(signal.SIGTERM)
        # One to two seconds on an idle machine, most of it the scheduler's pause; blocked on Redis it would be minutes.
        assert worker.wait(timeout=20) == 0
