"""Run functions in processes of their own, to kill them at a chosen point or to let them race."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

PRELOADED = ["boto3", "deltalake", "great_expectations", "obstore.store", "polars", "include.ingestion.stage"]
CRASHED = 77
WAIT_SECONDS = 60

# The server process imports the heavy libraries once and opens nothing, so that each child starts in milliseconds.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def run(work: Callable[..., None], *arguments: Any) -> int:
    """Run ``work`` in one process and return its exit code."""
    process = _context.Process(target=work, args=arguments)
    process.start()
    process.join(WAIT_SECONDS)
    assert process.exitcode is not None, f"{work.__name__} did not end within {WAIT_SECONDS} s"
    return process.exitcode


def race(count: int, work: Callable[..., None], *arguments: Any) -> list[Any]:
    """Run ``work(barrier, results, *arguments)`` in several processes; returns what they put into ``results``."""
    barrier = _context.Barrier(count)
    results = _context.SimpleQueue()
    processes = [_context.Process(target=work, args=(barrier, results, *arguments)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(WAIT_SECONDS)
    assert [process.exitcode for process in processes] == [0] * count
    return [results.get() for _ in range(count)]


def crash_at(call: int, when: str, targets: list[tuple[type, str]]) -> None:
    """In a child: die as if by SIGKILL before or after the ``call``-th call (from 0) of any of the methods."""
    seen = {"calls": 0}

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            mine = seen["calls"]
            seen["calls"] += 1
            if mine == call and when == "before":
                os._exit(CRASHED)
            result = original(*args, **kwargs)
            if mine == call:
                os._exit(CRASHED)
            return result

        return wrapped

    for owner, name in targets:
        setattr(owner, name, wrap(getattr(owner, name)))
