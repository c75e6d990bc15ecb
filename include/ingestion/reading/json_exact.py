"""One line → the JSON object in it, or exactly why there is none."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from include.project import Limits

_KEY = re.compile(rb'"\s*:')


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a line is no row."""

    check: str
    reason: str


class _TwiceError(ValueError):
    """A JSON object names a key twice."""


def read_line(raw: bytes, limits: Limits) -> dict[str, Any] | Unreadable:
    """The object of a line; whatever would be guessed, lost or changed silently makes it unreadable instead."""
    import msgspec

    try:
        row: dict[str, Any] = _decoder().decode(raw)
    except UnicodeDecodeError as error:
        return Unreadable("utf8", f"line is not valid UTF-8 ({error.reason})")
    except (msgspec.DecodeError, RecursionError) as error:
        return Unreadable("json_object", f"line is not a JSON object ({error})")
    keys, depth = _measure(row, limits.max_nesting)
    if depth > limits.max_nesting:
        return Unreadable("row_nesting", f"line nests more than {limits.max_nesting} levels of objects and lists")
    if len(row) > limits.max_columns:
        return Unreadable("row_columns", f"line has {len(row):,} columns, more than the {limits.max_columns:,} allowed")
    # Every key is followed by a colon: where there are not more of them than keys that were kept, none was lost.
    if raw.count(b":") != keys and len(_KEY.findall(raw)) != keys:
        try:
            json.loads(raw.decode(), object_pairs_hook=_unique)
        except _TwiceError as error:
            return Unreadable("json_object", f"line is not a JSON object that can be kept (it has {error} twice)")
    return row


@cache
def _decoder() -> Any:
    import msgspec

    return msgspec.json.Decoder(dict[str, Any])


def _measure(row: dict[str, Any], max_depth: int) -> tuple[int, int]:
    """Number of keys at all levels, and levels of nesting; stops one level below the limit."""
    keys, depth = len(row), 1
    level = [value for value in row.values() if type(value) is dict or type(value) is list]
    while level and depth <= max_depth:
        depth += 1
        below: list[Any] = []
        for one in level:
            keys += len(one) if type(one) is dict else 0
            inner = one.values() if type(one) is dict else one
            below += [value for value in inner if type(value) is dict or type(value) is list]
        level = below
    return keys, depth


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(repr(next(name for name in names if names.count(name) > 1))[:200])
    return row
