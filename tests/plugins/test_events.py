"""The trigger on S3 events: against a real queue (moto), with real notifications, and through what can go wrong."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import labelwheel_events
import pytest
from airflow.triggers.base import BaseEventTrigger
from labelwheel_events import S3EventsTrigger

from tests.moto_server import ACCOUNT, client, moto_server

CONN_ID = "s3_under_test"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def queue_url(moto: str) -> str:
    found: str = client("sqs", moto).create_queue(QueueName=uuid.uuid4().hex)["QueueUrl"]
    return found


@pytest.fixture(autouse=True)
def _connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The S3 connection of a server elsewhere: SQS is where the queue's address says."""
    parts = {
        "conn_type": "aws",
        "login": ACCOUNT["aws_access_key_id"],
        "password": ACCOUNT["aws_secret_access_key"],
        "extra": {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:9"},
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(parts))


def trigger_on(queue_url: str, **changes: Any) -> S3EventsTrigger:
    arguments = {"bucket": "landing", "prefix": "in/", "wait_seconds": 1, **changes}
    return S3EventsTrigger(CONN_ID, queue_url, **arguments)


def waiting(moto: str, queue_url: str) -> int:
    """Messages in the queue, hidden ones included."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = client("sqs", moto).get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return sum(int(counts[name]) for name in names)


def record(key: str) -> dict[str, Any]:
    return {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "landing"}, "object": {"key": key}}}


def send(moto: str, queue_url: str, *bodies: str) -> None:
    for body in bodies:
        client("sqs", moto).send_message(QueueUrl=queue_url, MessageBody=body)


async def next_event(events: AsyncIterator[Any], *, seconds: float = 20) -> dict[str, Any]:
    event = await asyncio.wait_for(anext(events), seconds)
    payload: dict[str, Any] = event.payload
    return payload


def test_objects_that_land_raise_an_event_and_their_messages_go(moto: str, queue_url: str):
    s3, sqs = client("s3", moto), client("sqs", moto)
    bucket = f"landing-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    arn = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    queue = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [queue]})
    names = ["in/a b+c.jsonl", "in/ü/100%.jsonl", "in/x.jsonl"]
    for name in [*names, "elsewhere/x.jsonl"]:
        s3.put_object(Bucket=bucket, Key=name, Body=b"1")
    s3.delete_object(Bucket=bucket, Key="in/x.jsonl")

    async def watch() -> dict[str, Any]:
        async with aclosing(trigger_on(queue_url, bucket=bucket).run()) as events:
            found = await next_event(events)
            assert waiting(moto, queue_url) > 0  # not before the event was handed over
            with pytest.raises(TimeoutError):
                await next_event(events, seconds=3)  # it goes on, and deletes
        return found

    found = asyncio.run(watch())
    assert (found["bucket"], sorted(found["keys"])) == (bucket, sorted(names))
    assert waiting(moto, queue_url) == 0


def test_messages_that_are_none_are_logged_deleted_and_hold_nothing_up(
    moto: str, queue_url: str, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    trigger = trigger_on(queue_url)
    monkeypatch.setattr(trigger.log, "warning", lambda text, *values: said.append(text % values))
    good = json.dumps({"Records": [record("in/a")]})
    send(moto, queue_url, "no json", "[]", "{}", '{"Records": [{}]}', '{"Event": "s3:TestEvent"}', good)

    async def watch() -> dict[str, Any]:
        async with aclosing(trigger.run()) as events:
            found = await next_event(events)
            with pytest.raises(TimeoutError):
                await next_event(events, seconds=3)
        return found

    assert asyncio.run(watch()) == {"bucket": "landing", "keys": ["in/a"]}
    assert waiting(moto, queue_url) == 0
    assert len(said) == 4
    assert all("is deleted unread: a message in the events queue is not an S3 event" in one for one in said)


def test_a_killed_trigger_repeats_its_event(moto: str, queue_url: str):
    client("sqs", moto).set_queue_attributes(QueueUrl=queue_url, Attributes={"VisibilityTimeout": "1"})
    send(moto, queue_url, json.dumps({"Records": [record("in/a")]}))

    async def watch() -> dict[str, Any]:
        async with aclosing(trigger_on(queue_url).run()) as events:
            return await next_event(events)

    assert asyncio.run(watch()) == asyncio.run(watch()) == {"bucket": "landing", "keys": ["in/a"]}


def test_a_flood_comes_in_events_of_limited_size(moto: str, queue_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(labelwheel_events, "MAX_KEYS", 20)
    keys = [f"in/{number:03d}" for number in range(45)]
    send(moto, queue_url, *(json.dumps({"Records": [record(key)]}) for key in keys))

    async def watch() -> list[list[str]]:
        async with aclosing(trigger_on(queue_url).run()) as events:
            return [(await next_event(events))["keys"] for _ in range(3)]

    found = asyncio.run(watch())
    assert all(len(one) <= 20 for one in found)
    assert sorted(key for one in found for key in one) == keys


def test_a_queue_that_is_away_is_waited_for_without_blocking(
    moto: str, queue_url: str, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    gone = trigger_on(queue_url.rpartition("/")[0] + "/no-such-queue")
    monkeypatch.setattr(gone.log, "warning", lambda text, *values: said.append(text % values))

    async def watch() -> int:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.05)
                beats += 1

        beating = asyncio.create_task(beat())
        async with aclosing(gone.run()) as events:
            with pytest.raises(TimeoutError):
                await next_event(events, seconds=4)
        beating.cancel()
        return beats

    assert asyncio.run(watch()) > 20  # others in the triggerer went on
    assert len(said) == 1  # once, not at every look
    assert "NonExistentQueue" in said[0] or "QueueDoesNotExist" in said[0]


def test_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    trigger = trigger_on("queue")
    monkeypatch.setattr(trigger.log, "warning", lambda text, *values: said.append(text % values))

    async def watch() -> None:
        async with aclosing(trigger.run()) as events:
            with pytest.raises(TimeoutError):
                await next_event(events, seconds=2)

    asyncio.run(watch())
    assert "source.events_queue_url 'queue' is no address of a queue" in said[0]


def test_equal_watches_share_one_trigger() -> None:
    one, other = (S3EventsTrigger("conn", "http://q/1", "landing", "in/") for _ in range(2))
    assert BaseEventTrigger.hash(*one.serialize()) == BaseEventTrigger.hash(*other.serialize())
    path, arguments = S3EventsTrigger("conn", "http://q/1", "landing", "other/", wait_seconds=2).serialize()
    assert BaseEventTrigger.hash(path, arguments) != BaseEventTrigger.hash(*one.serialize())
    assert path == f"{S3EventsTrigger.__module__}.{S3EventsTrigger.__qualname__}"
    assert S3EventsTrigger(**arguments).serialize() == (path, arguments)
