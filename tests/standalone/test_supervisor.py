"""The supervisor with small real services: restarts, order of stopping, nothing left behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from standalone import processes
from standalone.home import REPO, Home

Until = Callable[..., None]
StartSupervisor = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "stack"


@pytest.fixture
def supervise(folder: Path) -> Iterator[StartSupervisor]:
    """Start a supervisor with the services of a scenario."""
    started: list[subprocess.Popen[bytes]] = []

    def start(scenario: str) -> subprocess.Popen[bytes]:
        python = str(Home().python("tools"))
        environ = {**os.environ, "PYTHONPATH": str(REPO), "LABELWHEEL_VENVS": str(Home().venvs)}
        command = [python, "-m", "tests.standalone.small_stack", str(folder), scenario]
        started.append(subprocess.Popen(command, cwd=REPO, env=environ, stdin=subprocess.DEVNULL))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    processes.end(processes.find(folder), grace_seconds=0)


def healthy(folder: Path) -> bool:
    return bool(Home(folder).read_state().get("healthy"))


def test_a_crashing_service_is_started_again_after_growing_waits(
    supervise: StartSupervisor, folder: Path, until: Until
) -> None:
    supervise("crash")
    starts = folder / "starts"
    until(lambda: starts.exists() and len(starts.read_text().split()) >= 4, "four starts")
    gaps = [later - earlier for earlier, later in pairwise(map(float, starts.read_text().split()))]
    lived_seconds = 0.6
    for gap, wait_seconds in zip(gaps, (1, 2, 4), strict=False):
        assert lived_seconds + wait_seconds <= gap < lived_seconds + 2 * wait_seconds + 1
    report = Home(folder).read_state()["services"]["crash"]
    assert report["restarts"] >= 3
    assert "exit code 3" in report["error"] or report["state"] in ("starting", "ready")


def test_services_stop_after_what_needs_them(supervise: StartSupervisor, folder: Path, until: Until) -> None:
    supervisor = supervise("order")
    until(lambda: healthy(folder), "healthy")
    supervisor.terminate()
    assert supervisor.wait(20) == 0
    assert (folder / "order").read_text().split() == ["top", "middle", "base"]
    assert not processes.find(folder)


def test_a_stubborn_service_is_killed(supervise: StartSupervisor, folder: Path, until: Until) -> None:
    supervisor = supervise("stubborn")
    until(lambda: healthy(folder), "healthy")
    supervisor.terminate()
    assert supervisor.wait(20) == 0
    assert not processes.find(folder)


def test_nothing_outlives_a_killed_supervisor(supervise: StartSupervisor, folder: Path, until: Until) -> None:
    supervisor = supervise("stubborn")
    # Two services, and the child one of them has sent into a session of its own.
    until(lambda: healthy(folder) and len(processes.find(folder)) == 3, "three processes")
    supervisor.kill()
    until(lambda: not processes.find(folder), "all ended", timeout_seconds=20)


def test_a_killed_guardian_is_replaced(supervise: StartSupervisor, folder: Path, until: Until) -> None:
    supervisor = supervise("order")
    until(lambda: healthy(folder), "healthy")

    def guardians() -> list[int]:
        children = psutil.Process(supervisor.pid).children()
        alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        return [child.pid for child in alive if "standalone.guardian" in child.cmdline()]

    (first,) = guardians()
    os.kill(first, signal.SIGKILL)
    until(lambda: (now := guardians()) and now != [first], "a new guardian")
    supervisor.kill()
    until(lambda: not processes.find(folder), "all ended", timeout_seconds=20)
