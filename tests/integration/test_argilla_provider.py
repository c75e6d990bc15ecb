"""Client, hook and trigger against a real Argilla, and against one that is away or refuses us."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from labelwheel_argilla.client import ArgillaClient
from labelwheel_argilla.hook import ArgillaHook
from labelwheel_argilla.triggers import DatasetActivityTrigger

from include.errors import LabelingError
from include.labeling.service import LabelingNotFoundError, LabelingRefusedError, LabelingUnavailableError
from standalone.stack import Stack

pytestmark = pytest.mark.stack

CONN_ID = "argilla_under_test"
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there


@pytest.fixture
def client(stack: Stack) -> Iterator[ArgillaClient]:
    with ArgillaClient(stack.urls["argilla"], stack.credentials.argilla_owner_api_key) as client:
        yield client


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, stack: Stack) -> Any:
    def as_connection(**changes: Any) -> None:
        parts = {"host": stack.urls["argilla"], "password": stack.credentials.argilla_owner_api_key, **changes}
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps({"conn_type": "argilla", **parts}))

    as_connection()
    return as_connection


@pytest.fixture
def dataset(client: ArgillaClient, stack: Stack) -> dict[str, str]:
    """A published dataset with one record, in a workspace of its own."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with stack.argilla() as owner:
        workspace_id = owner.post("/api/v1/workspaces", json={"name": name}).raise_for_status().json()["id"]
    found = client.create_dataset({"name": "watched", "workspace_id": workspace_id})
    text = {"type": "text", "use_markdown": False}
    client.create_field(found["id"], {"name": "text", "title": "Text", "required": True, "settings": text})
    options = [{"value": one, "text": one} for one in ("a", "b")]
    settings = {"type": "label_selection", "options": options}
    client.create_question(found["id"], {"name": "kind", "title": "Kind", "required": True, "settings": settings})
    client.publish_dataset(found["id"])
    client.upsert_records(found["id"], [{"external_id": "one", "fields": {"text": "hello"}}])
    return {"id": found["id"], "workspace": name, "workspace_id": workspace_id}


def answer(stack: Stack, client: ArgillaClient, dataset_id: str, value: str) -> None:
    record = client.search_records(dataset_id, include=("responses",))[0][0]
    body = {"status": "submitted", "values": {"kind": {"value": value}}}
    with stack.argilla() as owner:
        if record.get("responses"):
            done = owner.put(f"/api/v1/responses/{record['responses'][0]['id']}", json=body)
        else:
            done = owner.post(f"/api/v1/records/{record['id']}/responses", json=body)
        done.raise_for_status()


def test_connection_test_says_who_we_are(stack: Stack, connect: Any) -> None:
    works, words = ArgillaHook(CONN_ID).test_connection()
    assert works
    username = stack.credentials.argilla_owner_username
    assert words.startswith(f"Argilla 2.8.0 answers; user {username} has the role owner and sees ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "wrong.key"}, "refused the API key. Put the key of an existing user"),
        ({"host": NOWHERE}, "did not answer (ConnectError). Check that it runs"),
        ({"host": ""}, "lacks the server URL"),
        ({"host": "ftp://argilla"}, "cannot be used as it is (host 'ftp://argilla')"),
        ({"password": "ключ"}, "cannot be used as it is"),
    ],
)
def test_connection_test_says_what_is_wrong(connect: Any, changes: dict[str, str], words: str) -> None:
    connect(**changes)
    works, said = ArgillaHook(CONN_ID).test_connection()
    assert not works
    assert words in said
    assert "wrong.key" not in said


def test_another_server_is_not_taken_for_argilla(stack: Stack, connect: Any) -> None:
    connect(host=stack.urls["s3"])
    works, said = ArgillaHook(CONN_ID).test_connection()
    assert not works
    assert "Argilla" in said


def test_errors_name_what_happened(stack: Stack, client: ArgillaClient, dataset: dict[str, str]) -> None:
    with pytest.raises(LabelingNotFoundError, match="not found"):
        client.get_dataset(str(uuid.uuid4()))
    good = {"external_id": "two", "fields": {"text": "hi"}}
    for bad in ({"external_id": "three", "fields": {"txt": "hi"}}, {"external_id": "three", "fields": {"text": [1]}}):
        with pytest.raises(LabelingRefusedError) as caught:
            client.upsert_records(dataset["id"], [good, bad])
        assert caught.value.position == 1
        assert "text" in caught.value.reason
    assert client.search_records(dataset["id"])[1] == 1  # nothing of a refused call is written
    with pytest.raises(ValueError, match="at most 500"):
        client.upsert_records(dataset["id"], [good] * 501)
    with pytest.raises(ValueError, match="at most 100"):
        client.delete_records(dataset["id"], [str(uuid.uuid4())] * 101)
    client.delete_records(dataset["id"], [])
    client.delete_records(dataset["id"], [str(uuid.uuid4())])  # gone already
    body = {
        "username": f"u{uuid.uuid4().hex[:8]}",
        "first_name": "x",
        "role": "annotator",
        "password": uuid.uuid4().hex,
    }
    with stack.argilla() as owner:
        key = owner.post("/api/v1/users", json=body).raise_for_status().json()["api_key"]
    with (
        ArgillaClient(client.url, key) as outsider,
        pytest.raises(LabelingError, match="may not do GET .* Make the service account an admin"),
    ):
        outsider.get_dataset(dataset["id"])


@pytest.mark.parametrize(("patience_seconds", "waits"), [(0, []), (1.0, [0.3, 0.6])])
def test_a_server_away_is_tried_again_and_then_named(
    monkeypatch: pytest.MonkeyPatch, patience_seconds: float, waits: list[float]
) -> None:
    waited: list[float] = []
    sleep = time.sleep

    def wait(seconds: float) -> None:
        waited.append(seconds)
        sleep(seconds)

    monkeypatch.setattr("labelwheel_argilla.client.time.sleep", wait)
    with (
        ArgillaClient(NOWHERE, "key", patience_seconds=patience_seconds) as away,
        pytest.raises(LabelingUnavailableError, match=f"{NOWHERE} did not answer"),
    ):
        away.me()
    assert waited == waits


class Failing(BaseHTTPRequestHandler):
    """Answers 500 to the first requests, and then as Argilla would."""

    failures = 2
    asked: ClassVar[list[tuple[str, str]]] = []

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.command, self.headers["Accept-Encoding"]))
        body = b'{"items": []}'
        self.send_response(500 if len(self.asked) <= self.failures else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_PUT()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def failing() -> Iterator[str]:
    Failing.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_internal_errors_are_tried_again_but_creations_and_bulk_writes_are_not(failing: str) -> None:
    with ArgillaClient(failing, "key", patience_seconds=10) as argilla:
        with pytest.raises(LabelingUnavailableError, match="answered 500 to PUT"):
            argilla.upsert_records("d", [{"external_id": "one"}])  # looked for by the caller
        assert Failing.asked == [("PUT", "identity")]
        with pytest.raises(LabelingUnavailableError, match="answered 500 to POST"):
            argilla.create_dataset({"name": "d"})  # would be made twice
        Failing.asked.clear()
        argilla.publish_dataset("d")
        assert len(Failing.asked) == 3


def test_a_connection_the_server_dropped_is_replaced(client: ArgillaClient) -> None:
    assert client.me()["role"] == "owner"
    client.close()
    assert client.me()["role"] == "owner"


class Store:
    """Airflow's asset state for one asset, as far as the trigger uses it (its own needs a triggerer process)."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    async def aget(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = value


def watch(dataset: dict[str, str], store: Store, **options: Any) -> DatasetActivityTrigger:
    options = {"poll_seconds": 0.1, "quiet_seconds": 0.3, "busy_seconds": 60, **options}
    trigger = DatasetActivityTrigger(CONN_ID, dataset["workspace"], "watched", **options)
    trigger.asset_state_store = store  # type: ignore[assignment]
    return trigger


async def next_event(events: Any) -> dict[str, Any]:
    event = await asyncio.wait_for(anext(events), timeout=30)
    payload: dict[str, Any] = event.payload
    return payload


async def is_silent(events: Any, seconds: float) -> bool:
    try:
        await asyncio.wait_for(anext(events), timeout=seconds)
    except TimeoutError:
        return True
    return False


def test_the_trigger_reports_each_activity_once(
    stack: Stack, client: ArgillaClient, dataset: dict[str, str], connect: Any
) -> None:
    async def scenario() -> None:
        store = Store()
        events = watch(dataset, store).run()
        first = await next_event(events)  # the publishing: nothing was remembered yet
        await asyncio.to_thread(answer, stack, client, dataset["id"], "a")
        second = await next_event(events)
        assert second["dataset"] == "watched"
        assert second["last_activity_at"] > first["last_activity_at"]
        assert await is_silent(events, 1.5)
        assert store.values == {"last_activity_at": second["last_activity_at"]}
        # Another triggerer takes over: what was reported stays reported, what comes is reported.
        events = watch(dataset, store).run()
        assert await is_silent(events, 1.5)
        events = watch(dataset, store).run()
        await asyncio.to_thread(answer, stack, client, dataset["id"], "b")
        assert (await next_event(events))["last_activity_at"] > second["last_activity_at"]

    asyncio.run(scenario())


def test_the_trigger_waits_for_quiet_but_not_for_ever(
    stack: Stack, client: ArgillaClient, dataset: dict[str, str], connect: Any
) -> None:
    async def scenario() -> None:
        store = Store()
        store.values["last_activity_at"] = client.get_dataset(dataset["id"])["last_activity_at"]
        events = watch(dataset, store, quiet_seconds=3600, busy_seconds=3600).run()
        await asyncio.to_thread(answer, stack, client, dataset["id"], "a")
        assert await is_silent(events, 1.0)
        events = watch(dataset, store, quiet_seconds=3600, busy_seconds=0.5).run()
        assert (await next_event(events))["dataset"] == "watched"

    asyncio.run(scenario())


def test_the_trigger_outlives_every_trouble(
    stack: Stack,
    client: ArgillaClient,
    dataset: dict[str, str],
    connect: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Missing connection, wrong key, server away, dataset not there; each named once; then it works."""
    monkeypatch.setattr("labelwheel_argilla.triggers.MAX_BACKOFF_SECONDS", 0.2)

    async def scenario() -> None:
        trigger = watch(dataset, Store())
        complaints: list[str] = []
        monkeypatch.setattr(trigger.log, "warning", lambda words, *parts: complaints.append(words % parts))
        trigger.dataset = "not there yet"
        events = trigger.run()
        event = asyncio.ensure_future(anext(events))

        async def until(words: str) -> None:
            async with asyncio.timeout(30):
                while not any(words in one for one in complaints):
                    assert not event.done()
                    await asyncio.sleep(0.05)

        await until("has no dataset 'not there yet'")
        connect(password="wrong.key")
        await until("refused the API key")
        connect(host=NOWHERE)
        await until("did not answer")
        monkeypatch.delenv(f"AIRFLOW_CONN_{CONN_ID.upper()}")
        await until("isn't defined")
        trigger.dataset = "watched"
        connect()
        assert (await asyncio.wait_for(event, timeout=30)).payload["dataset"] == "watched"
        assert len(complaints) == 4

    asyncio.run(scenario())
