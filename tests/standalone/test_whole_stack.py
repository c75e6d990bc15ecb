"""The whole stack under what happens to it: a second 'up', killed services, a killed supervisor, a taken port.

The tests share one stack and run in the order of this file.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from standalone import processes
from standalone.provision import POOLS, project_workspaces
from standalone.stack import LAKE_BUCKET, LANDING_BUCKET, Stack
from tests.stack_fixture import run_standalone

pytestmark = pytest.mark.stack
Until = Callable[..., None]
Answer = TypeVar("Answer")
KEY = "standalone-test/object"
PROCESSES = (
    "s3",
    "redis",
    "argilla-server",
    "argilla-worker",
    "airflow-api-server",
    "airflow-scheduler",
    "airflow-dag-processor",
    "airflow-triggerer",
)


@pytest.fixture(scope="module")
def first_up(home: Path) -> str:
    """What the first start prints, an hour after the command was given: to install may have taken so long."""
    return run_standalone(home, "up", LABELWHEEL_STARTED_AT=str(time.time() - 3600)).stdout


@pytest.fixture
def stack(home: Path, first_up: str) -> Stack:
    return Stack.load(home)


def everything(stack: Stack) -> list[psutil.Process]:
    """All processes of the stack: the supervisor, its guardian, the services and their children."""
    return processes.tree(stack.state()["pid"])


def of_the_living(ask: Callable[[], Answer]) -> Answer | None:
    """What a process answers; None when it has ended since it was listed, as tasks do all the time."""
    try:
        return ask()
    except psutil.NoSuchProcess:
        return None


def content(path: Path) -> bytes:
    """A file's bytes; none when it has gone since it was listed, as a database's side files do."""
    try:
        return path.read_bytes() if path.is_file() and path.stat().st_size < 2**20 else b""
    except FileNotFoundError:
        return b""


def test_first_start_shows_where_and_as_whom(stack: Stack, first_up: str) -> None:
    credentials = stack.credentials
    for shown in (*stack.urls.values(), credentials.airflow_admin_password, credentials.argilla_owner_password):
        assert shown in first_up
    state = stack.state()
    assert state["healthy"]
    assert 3600 < state["ready_seconds"] < 3900


def test_everything_is_provisioned(stack: Stack) -> None:
    names = {bucket["Name"] for bucket in stack.s3().list_buckets()["Buckets"]}
    assert {LANDING_BUCKET, LAKE_BUCKET} <= names
    for account in ("service", "annotator"):
        with stack.argilla(account) as api:
            mine = {w["name"] for w in api.get("/api/v1/me/workspaces").raise_for_status().json()["items"]}
        assert mine == project_workspaces(Path("include/projects").absolute())
    wanted_pools = {name: pool["slots"] for name, pool in json.loads(POOLS.read_text()).items()}
    assert wanted_pools
    with stack.airflow() as api:
        for name in ("labelwheel_s3", "labelwheel_argilla"):
            connection = api.get(f"/api/v2/connections/{name}").raise_for_status().json()
            assert connection["password"] == "***"
        pools = {pool["name"]: pool["slots"] for pool in api.get("/api/v2/pools").raise_for_status().json()["pools"]}
    assert {name: pools.get(name) for name in wanted_pools} == wanted_pools


def test_second_up_changes_nothing(stack: Stack, home: Path) -> None:
    began = time.monotonic()
    again = run_standalone(home, "up").stdout
    assert time.monotonic() - began < 10
    assert "up already" in again
    assert stack.credentials.airflow_admin_password not in again, "passwords are shown once"
    assert Stack.load(home).state()["pid"] == stack.state()["pid"]


def test_status_is_for_people_and_programs(stack: Stack, home: Path) -> None:
    text = run_standalone(home, "status").stdout
    assert all(name in text for name in PROCESSES)
    report = json.loads(run_standalone(home, "status", "--json").stdout)
    assert report["healthy"]
    assert report["peak_memory_bytes"] > 500 * 2**20


def test_nothing_listens_beyond_loopback(stack: Stack) -> None:
    answers = [of_the_living(lambda p=process: p.net_connections("inet")) or [] for process in everything(stack)]
    sockets = [c for answer in answers for c in answer if c.status != "ESTABLISHED"]
    listening = [c for c in sockets if c.status == psutil.CONN_LISTEN or c.type == socket.SOCK_DGRAM]
    assert {c.laddr.port for c in listening} >= set(stack.ports.values())
    assert {c.laddr.ip for c in listening} <= {"127.0.0.1", "::1"}


def test_secrets_are_nowhere_but_in_private_files(stack: Stack) -> None:
    secrets = stack.credentials.secret_values()
    home = stack.home
    assert stat.S_IMODE(home.credentials_file.stat().st_mode) == 0o600
    readable = {str(path): path.read_text(errors="replace") for path in home.logs.rglob("*") if path.is_file()}
    readable["state.json"] = home.state_file.read_text()
    for process in everything(stack):
        readable[f"command line of {process.pid}"] = " ".join(of_the_living(process.cmdline) or [])
    for path in (home.data / "airflow" / "logs").rglob("*.log"):
        readable[str(path)] = path.read_text(errors="replace")
    assert len(readable) > len(PROCESSES)
    assert [(place, s) for place, text in readable.items() for s in secrets if s in text] == []


def test_files_with_secrets_are_private(stack: Stack) -> None:
    secrets = [secret.encode() for secret in stack.credentials.secret_values()]
    texts = {path: content(path) for path in stack.home.path.rglob("*")}
    telling = [path for path, text in texts.items() if any(secret in text for secret in secrets) and path.exists()]
    assert {path.name for path in telling} >= {"credentials.json", "redis.conf", "identities.json", "passwords.json"}
    databases = {path for path in telling if path.suffix.startswith(".db")}  # the folder they are in is private
    assert {stat.S_IMODE(path.stat().st_mode) for path in telling if path not in databases} == {0o600}


def test_memory_is_within_bounds(stack: Stack) -> None:
    """Idle; running tasks add to it."""
    assert sum(stack.state()["memory_bytes"].values()) < 2.5 * 2**30


def test_many_writers_do_not_stop_airflow(stack: Stack) -> None:
    """Each request writes an audit log and a row; on SQLite with one writer they must queue, not block each other."""

    def write(number: int) -> int:
        with stack.airflow() as api:
            return api.post("/api/v2/variables", json={"key": f"writer-{number}", "value": "x"}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(64))) == {201}
    with stack.airflow() as api:
        logs = api.get("/api/v2/eventLogs?event=post_variable&limit=1").raise_for_status().json()
    assert logs["total_entries"] >= 64, "the audit log is complete"


def test_data_to_find_again(stack: Stack) -> None:
    stack.s3().put_object(Bucket=LAKE_BUCKET, Key=KEY, Body=b"still here")
    with stack.argilla() as api:
        api.post("/api/v1/workspaces", json={"name": "kept"}).raise_for_status()
    with stack.airflow() as api:
        api.post("/api/v2/variables", json={"key": "kept", "value": "still here"}).raise_for_status()


def assert_data(stack: Stack) -> None:
    assert stack.s3().get_object(Bucket=LAKE_BUCKET, Key=KEY)["Body"].read() == b"still here"
    with stack.argilla() as api:
        names = {w["name"] for w in api.get("/api/v1/me/workspaces").raise_for_status().json()["items"]}
        assert "kept" in names
    with stack.airflow() as api:
        assert api.get("/api/v2/variables/kept").raise_for_status().json()["value"] == "still here"


@pytest.mark.parametrize("name", PROCESSES)
def test_a_killed_service_comes_back(stack: Stack, until: Until, name: str) -> None:
    before = stack.state()["services"][name]
    os.kill(before["pid"], signal.SIGKILL)

    def is_back() -> bool:
        state = stack.state()
        now = state["services"][name]
        return bool(state["healthy"] and now["restarts"] > before["restarts"] and now["pid"] != before["pid"])

    until(is_back, f"{name} back and everything healthy", timeout_seconds=120)


def test_data_survives_the_kills(stack: Stack) -> None:
    assert_data(stack)


def test_a_killed_supervisor_leaves_nothing_and_up_recovers(stack: Stack, home: Path, until: Until) -> None:
    running = everything(stack)
    os.kill(stack.state()["pid"], signal.SIGKILL)
    until(lambda: not any(process.is_running() for process in running), "all ended", timeout_seconds=30)
    # What it wrote down is stale now, and its process id may belong to anybody.
    assert run_standalone(home, "status", check=False).returncode == 1
    run_standalone(home, "up")
    assert_data(Stack.load(home))


def test_down_stops_everything_and_is_idempotent(stack: Stack, home: Path) -> None:
    running = everything(stack)
    run_standalone(home, "down")
    assert [process for process in running if process.is_running()] == []
    assert processes.find(home) == []
    run_standalone(home, "down")
    assert run_standalone(home, "status", check=False).returncode == 1


def test_a_taken_port_is_named_with_its_holder_and_the_variable(stack: Stack, home: Path) -> None:
    with socket.create_server(("127.0.0.1", stack.ports["argilla"])):
        process = run_standalone(home, "up", check=False, LABELWHEEL_PORTS="")
    assert process.returncode == 1
    for expected in (str(stack.ports["argilla"]), f"process {os.getpid()}", "LABELWHEEL_ARGILLA_PORT"):
        assert expected in process.stdout
    assert processes.find(home) == []


def test_a_service_that_cannot_start_is_named_with_its_log(stack: Stack, home: Path) -> None:
    database = home / "data" / "argilla" / "argilla.db"
    kept = database.rename(database.with_name("kept.db"))
    database.write_text("this is no database " * 100)
    stamp = home / "data" / "argilla" / "setup.done"
    stamp.unlink()
    process = run_standalone(home, "up", check=False)
    assert process.returncode == 1
    assert "argilla-setup.log ends with" in process.stdout
    assert "argilla-setup ended with exit code" in process.stdout
    assert processes.find(home) == [], "a failed start leaves nothing running"
    kept.rename(database)


def test_data_survives_down_and_up(stack: Stack, home: Path) -> None:
    output = run_standalone(home, "up").stdout
    assert stack.credentials.airflow_admin_password not in output
    assert_data(Stack.load(home))


def test_clean_removes_the_stack_and_only_it(stack: Stack, home: Path) -> None:
    (home / "mine.txt").write_text("not part of the stack")
    run_standalone(home, "clean")
    assert [path.name for path in home.iterdir()] == ["mine.txt"]
    assert processes.find(home) == []
    assert stack.home.venvs.exists(), "shared environments stay"
    (home / "mine.txt").unlink()
