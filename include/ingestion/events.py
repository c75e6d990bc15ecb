"""S3 event notifications as they arrive in an SQS queue: which keys they speak of. Hints, never data.

Understood are S3's own messages, the same wrapped by SNS, and those of EventBridge. Nothing but bucket and key is used:
what a key holds is looked up when work starts, so it does not matter when events come late, twice, or out of order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from include.errors import LabelwheelError

MAX_WRAPPINGS = 3  # SNS to SNS happens; more is nonsense


class MalformedEventError(LabelwheelError):
    """A message is not an S3 event notification. A retry does not help; the next sweep finds what it meant to say."""


def created_keys(body: str, bucket: str, prefix: str) -> list[str]:
    """Keys of objects that were created or overwritten in a folder, in the order of the message.

    :param body: body of one message; it may tell of several objects, of none (S3's test message), or of deleted ones.
    :raises MalformedEventError: naming what is wrong with the message.
    """
    found = [key for where, key in _created(_parse(body), MAX_WRAPPINGS) if where == bucket]
    return [key for key in dict.fromkeys(found) if key.startswith(prefix) and key != prefix]


def hinted_keys(extras: Iterable[Mapping[str, Any] | None]) -> list[str]:
    """The keys in asset events that the events trigger raised, given their extras, newest first; others have none."""
    keys: dict[str, None] = {}
    for extra in extras:
        payload = (extra or {}).get("payload")
        listed = payload.get("keys") if isinstance(payload, dict) else None
        keys |= dict.fromkeys(key for key in listed or [] if isinstance(key, str))
    return list(keys)


def _parse(body: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"it is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise _malformed(f"it is a JSON {type(value).__name__}, not an object")
    return value


def _created(message: dict[str, Any], wrappings: int) -> Iterable[tuple[str, str]]:
    """Bucket and key of each created object."""
    if message.get("Event") == "s3:TestEvent":
        return []
    if message.get("Type") == "Notification" and isinstance(message.get("Message"), str):
        if not wrappings:
            raise _malformed("it is wrapped too often")
        return _created(_parse(message["Message"]), wrappings - 1)
    if message.get("source") == "aws.s3":
        detail = message.get("detail")
        created = str(message.get("detail-type", "")).startswith("Object Created")
        return [_names(detail)] if created else []
    records = message.get("Records")
    if not isinstance(records, list):
        raise _malformed("it has no 'Records'")
    found = []
    for record in records:
        if not isinstance(record, dict) or not isinstance(record.get("eventName"), str):
            raise _malformed("a record has no 'eventName'")
        if record["eventName"].removeprefix("s3:").startswith("ObjectCreated:"):
            bucket, key = _names(record.get("s3"))
            found.append((bucket, unquote_plus(key)))  # S3 writes a space as +, EventBridge writes keys as they are
    return found


def _names(about: Any) -> tuple[str, str]:
    try:
        bucket, key = about["bucket"]["name"], about["object"]["key"]
    except (TypeError, KeyError) as error:
        raise _malformed(f"it names no bucket and key ({error!r})") from error
    if not (isinstance(bucket, str) and isinstance(key, str) and key):
        raise _malformed("its bucket or key is not a name")
    return bucket, key


def _malformed(why: str) -> MalformedEventError:
    return MalformedEventError(
        f"a message in the events queue is not an S3 event notification: {why}",
        remedy="Let nothing but the bucket's notifications into this queue.",
    )
