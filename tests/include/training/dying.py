"""A lake whose process dies right after each thing it stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from include.lake import Appended, Lake, Store


class Died(BaseException):
    """The process was killed: nothing catches this."""


class _DyingStore(Store):
    def create(self, path: str, data: bytes) -> bool:
        if super().create(path, data):
            raise Died(path)
        return False

    def swap(self, path: str, data: bytes, etag: str | None) -> bool:
        if super().swap(path, data, etag):
            raise Died(path)
        return False


class _DyingLake(Lake):
    def append(self, table: str, rows: pa.Table | Sequence[Mapping[str, Any]], *, app_id: str) -> Appended:
        done = super().append(table, rows, app_id=app_id)
        if done.committed:
            raise Died(f"{table} {app_id}")
        return done


def run_with_deaths(lake: Lake, work: Callable[[Lake], Any]) -> tuple[Any, int]:
    """Run ``work`` again and again, killed after the first new thing each attempt stores, until it stores nothing new.

    :returns: what the attempt that survived gave, and the number of deaths before it.
    """
    dying = _DyingLake(lake.config, lake.files.bucket, lake.files.prefix)
    dying.files = _DyingStore(lake.config, lake.files.bucket, lake.files.prefix)
    for deaths in range(100):
        try:
            return work(dying), deaths
        except Died:
            continue
    raise AssertionError("the work never came to an end")
