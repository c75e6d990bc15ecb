"""Helpers for tests of the stack itself: they start, kill and restart real processes, each in a folder of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from standalone import processes
from tests.stack_fixture import run_standalone


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait for a condition; fail with its description when it does not come true."""

    def wait(condition: Callable[[], object], what: str, timeout_seconds: float = 60) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            assert time.monotonic() < deadline, f"after {timeout_seconds} s still not: {what}"
            time.sleep(0.05)

    return wait


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder of a stack the module starts itself; whatever runs there is ended with the module."""
    folder = tmp_path_factory.mktemp("own-stack")
    yield folder
    run_standalone(folder, "down", check=False)
    processes.end(processes.find(folder), grace_seconds=0)
