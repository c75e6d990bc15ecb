"""S3 event notifications: keys out of every kind of message, and a reason for every message that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.ingestion.events import MalformedEventError, created_keys, hinted_keys


def record(key: str, *, name: str = "ObjectCreated:Put", bucket: str = "landing") -> dict[str, Any]:
    """As S3 writes it, cut to what matters and some of what does not."""
    about = {"key": key, "size": 1, "eTag": "e", "versionId": "v", "sequencer": "0055AED6DCD90281E5"}
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": "2026-03-01T12:00:00.000Z",
        "eventName": name,
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": bucket, "arn": "x"}, "object": about},
    }


def keys(message: Any) -> list[str]:
    return created_keys(json.dumps(message), "landing", "in/")


def test_several_records_of_one_message():
    records = [record("in/b"), record("in/a", name="ObjectCreated:CompleteMultipartUpload"), record("in/b")]
    assert keys({"Records": records}) == ["in/b", "in/a"]
    assert keys({"Records": []}) == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("in/a+b.jsonl", "in/a b.jsonl"),
        ("in/a%2Bb", "in/a+b"),
        ("in/100%25", "in/100%"),
        ("in/%2541", "in/%41"),
        ("in/%C3%BC/%F0%9F%98%80", "in/ü/\U0001f600"),
        ("in/%0A", "in/\n"),
        ("in/../x", "in/../x"),
        ("in//x", "in//x"),
    ],
)
def test_keys_are_decoded(written: str, meant: str):
    assert keys({"Records": [record(written)]}) == [meant]


def test_other_places_and_deleted_objects_are_no_hints():
    others = [record("elsewhere/a"), record("in/a", bucket="other"), record("in/")]
    removed = [record("in/a", name=name) for name in ("ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated")]
    assert keys({"Records": [*others, *removed, record("in/c", name="s3:ObjectCreated:Copy")]}) == ["in/c"]


def test_the_message_s3_sends_when_notifications_are_switched_on():
    message = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-03-01T12:00:00.000Z", "Bucket": "landing"}
    assert keys(message) == []


def test_messages_wrapped_by_sns():
    wrapped: Any = {"Records": [record("in/a+b")]}
    for _ in range(3):
        wrapped = {"Type": "Notification", "MessageId": "1", "TopicArn": "x", "Message": json.dumps(wrapped)}
        assert keys(wrapped) == ["in/a b"]
    with pytest.raises(MalformedEventError, match="wrapped too often"):
        keys({"Type": "Notification", "Message": json.dumps(wrapped)})


@pytest.mark.parametrize(("kind", "expected"), [("Object Created", ["in/a+%41"]), ("Object Deleted", [])])
def test_messages_of_eventbridge_have_keys_as_they_are(kind: str, expected: list[str]):
    detail = {"version": "0", "bucket": {"name": "landing"}, "object": {"key": "in/a+%41", "etag": "e"}}
    assert keys({"source": "aws.s3", "detail-type": kind, "detail": detail}) == expected


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "no JSON"),
        ("nonsense", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "a JSON list, not an object"),
        ("null", "a JSON NoneType, not an object"),
        ("{}", "has no 'Records'"),
        ('{"Records": {}}', "has no 'Records'"),
        ('{"Records": [1]}', "has no 'eventName'"),
        ('{"Records": [{"eventName": 1}]}', "has no 'eventName'"),
        ('{"Records": [{"eventName": "ObjectCreated:Put"}]}', "names no bucket and key"),
        ('{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": "x"}}]}', "names no bucket and key"),
        (json.dumps({"Records": [record("")]}), "its bucket or key is not a name"),
        (json.dumps({"Records": [record(1)]}), "its bucket or key is not a name"),  # type: ignore[arg-type]
        ('{"source": "aws.s3", "detail-type": "Object Created", "detail": []}', "names no bucket and key"),
        ('{"Type": "Notification", "Message": "x"}', "no JSON"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(body: str, why: str):
    with pytest.raises(MalformedEventError, match="not an S3 event notification") as caught:
        created_keys(body, "landing", "in/")
    assert why in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Records", "s3", "bucket", "object", "name", "key", "eventName", "detail", "source", "Type"]
            ),
            inner | st.sampled_from(["ObjectCreated:Put", "aws.s3", "Notification"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_gives_keys_or_a_reason(message: Any):
    try:
        found = keys(message)
    except MalformedEventError:
        return
    assert all(key.startswith("in/") for key in found)


def test_keys_come_back_out_of_asset_events():
    extras = [
        {"from_trigger": True, "payload": {"bucket": "landing", "keys": ["in/b", "in/a"]}},
        None,
        {"rows": 1},
        {"payload": "x"},
        {"payload": {"keys": None}},
        {"from_trigger": True, "payload": {"bucket": "landing", "keys": ["in/a", 1, "in/c"]}},
    ]
    assert hinted_keys(extras) == ["in/b", "in/a", "in/c"]
