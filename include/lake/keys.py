"""Natural keys: how things are named so that doing them twice does them once."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: object) -> str:
    """One text per value: sorted keys, no spaces, unicode kept, no NaN.

    :raises ValueError: for NaN or infinity, which JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(*parts: object) -> str:
    """128-bit BLAKE2b of the parts, as 32 hexadecimal digits; parts are length-prefixed, so no two lists collide."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher.hexdigest()


# Ids of records and contents are SHA-256 of one text, cut to 128 bits: engines that hash whole columns have it, too.
RECORD_ID_TEXT = "record:{project}:"
CONTENT_HASH_TEXT = "content:"
ID_DIGITS = 32
SHARDS = "0123456789abcdef"


def record_id(project: str, source_id: str) -> str:
    """The id of a record: hash of project and source id."""
    return _text_hash(RECORD_ID_TEXT.format(project=project) + source_id)


def content_hash(fields: dict[str, Any]) -> str:
    """Equal for equal fields, whatever their order."""
    return _text_hash(CONTENT_HASH_TEXT + canonical_json(fields))


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:ID_DIGITS]


def ingest_app_id(project: str, batch: int) -> str:
    """The application transaction under which an ingest batch lands in each table."""
    return f"ingest/{project}/{batch}"


def shard(record_id: str) -> str:
    """The partition of a record: the first hexadecimal digit of its id (16 partitions)."""
    return record_id[0]


def uniform(*parts: object) -> float:
    """A number in (0, 1) that depends on nothing but the parts: the coin of every draw and split."""
    return (int(digest("uniform", *parts)[:13], 16) + 0.5) / 16**13
