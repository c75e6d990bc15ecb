"""The commands behind the Makefile: ``python -m standalone install | up | down | status | logs | clean``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from standalone import display, processes, services
from standalone.display import Progress, console
from standalone.errors import PortError, ServiceError, StackError
from standalone.home import REPO, Home, port_is_free, port_variable
from standalone.install import install
from standalone.processes import Lock
from standalone.stack import Stack, service_urls
from standalone.supervisor import GIVE_UP_STARTS, Supervisor

START_TIMEOUT_SECONDS = 600
STOP_TIMEOUT_SECONDS = 60
LOG_LINES = 15


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="standalone", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="install or update the environments").add_argument(
        "--dev", action="store_true", help="also what tests and checks need"
    )
    commands.add_parser("up", help="install, start, wait until everything works")
    commands.add_parser("down", help="stop everything; data stays")
    commands.add_parser("status", help="show the services").add_argument("--json", action="store_true")
    commands.add_parser("logs", help="show or follow logs").add_argument("service", nargs="?")
    commands.add_parser("clean", help="stop, then remove the state folder with all data")
    commands.add_parser("supervise").add_argument("ports")  # started by 'up'
    arguments = parser.parse_args()
    handlers: dict[str, Callable[[Home], int]] = {
        "install": lambda home: install_command(home, dev=arguments.dev),
        "up": up,
        "down": down,
        "status": lambda home: status(home, as_json=arguments.json),
        "logs": lambda home: logs(home, arguments.service),
        "clean": clean,
        "supervise": lambda home: supervise(home, json.loads(arguments.ports)),
    }
    try:
        return handlers[arguments.command](Home())
    except StackError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted. 'make status' shows what runs, 'make down' stops it.")
        return 130


def started_at() -> float:
    """When the command was given, which is before this interpreter was installed."""
    return float(os.environ.get("LABELWHEEL_STARTED_AT") or time.time())


def install_command(home: Home, *, dev: bool) -> int:
    """Install both environments."""
    home.create()
    with Progress(started_at()) as progress:
        install(home, lambda name, state: progress.report(f"{name} environment", state), dev=dev)
    console.print(f"Installed in {home.venvs}", soft_wrap=True)
    return 0


def up(home: Home) -> int:
    """Bring the stack to health; nothing is left running when that fails."""
    home.create()
    with processes.locked(home.up_lock_file):
        if supervisor_pid(home) is not None:
            return _already_up(home)
        with Progress(started_at()) as progress:
            _end_leftovers(home)
            home.ensure_credentials()
            ports = home.choose_ports(os.environ)
            check_ports(ports)
            install(home, lambda name, state: progress.report(f"{name} environment", state))
            daemon = _start_supervisor(home, ports)
            failure = _await_health(home, daemon, progress)
        if failure is not None:
            down(home)
            raise failure
    _welcome(home)
    return 0


def supervisor_pid(home: Home) -> int | None:
    """The process id of the running supervisor, or None."""
    if not home.lock_file.exists():
        return None
    lock = Lock(home.lock_file)
    try:
        return lock.holder()
    finally:
        lock.close()


def _already_up(home: Home) -> int:
    stack = Stack.load(home.path)
    console.print("The stack is up already.")
    if not stack.state().get("healthy"):
        console.print("It is not healthy now; waiting for it ...")
        stack.wait_ready(START_TIMEOUT_SECONDS)
    display.show_access(stack, with_passwords=False)
    return 0


def _end_leftovers(home: Home) -> None:
    """End what an earlier supervisor left, after its guardian, if one is at it, has finished."""
    with processes.locked(home.guardian_lock_file):
        processes.end(processes.find(home.path), grace_seconds=10)
    home.state_file.unlink(missing_ok=True)


def check_ports(ports: dict[str, int]) -> None:
    """Require that every port can be listened on.

    :raises PortError: naming the port, its holder where that is visible, and the variable to change.
    """
    for name, port in ports.items():
        if not port_is_free(port):
            raise PortError(
                f"Port {port}, needed for {name}, is taken by {_holder(port)}",
                remedy=f"Stop that program, or set {port_variable(name)} to another port, or LABELWHEEL_PORTS=auto.",
            )


def _holder(port: int) -> str:
    for process in psutil.process_iter(["pid", "name"]):
        try:
            connections = process.net_connections(kind="tcp")
        except (psutil.Error, OSError):
            continue  # not ours to look at
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections):
            return f"process {process.pid} ({process.name()})"
    return "another user's program"


def _start_supervisor(home: Home, ports: dict[str, int]) -> subprocess.Popen[bytes]:
    with (home.logs / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "standalone", "supervise", json.dumps(ports)],
            cwd=REPO,
            env={
                **os.environ,
                "LABELWHEEL_HOME": str(home.path),
                "LABELWHEEL_VENVS": str(home.venvs),
                "LABELWHEEL_STARTED_AT": str(started_at()),
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def supervise(home: Home, ports: dict[str, int]) -> int:
    """Be the supervisor."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("httpx", "botocore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    lock = Lock(home.lock_file)
    if not lock.acquire(wait=False):
        logging.error("another supervisor runs already")
        return 1
    stack = Stack(home, ports, service_urls(ports), home.credentials())
    Supervisor(stack, services.prepare(stack), started_at()).run()
    return 0


def _await_health(home: Home, daemon: subprocess.Popen[bytes], progress: Progress) -> StackError | None:
    """Show the start until it has succeeded (None) or failed (why).

    The time to install does not count: it has no limit, and the command may have been given long ago.
    """
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        state = home.read_state()
        reports = state.get("services", {})
        for name, report in reports.items():
            progress.report(name, report["state"])
        if state.get("healthy"):
            return None
        failed = [name for name, report in reports.items() if report["failed_starts"] >= GIVE_UP_STARTS]
        if failed:
            return _failure(home, failed[0], reports[failed[0]]["error"])
        if daemon.poll() is not None:
            return _failure(home, "supervisor", f"The supervisor ended with exit code {daemon.returncode}")
        if time.monotonic() > deadline:
            late = [name for name, report in reports.items() if report["state"] != "ready"] or ["supervisor"]
            return _failure(home, late[0], f"Not ready after {START_TIMEOUT_SECONDS} s: {', '.join(late)}")
        time.sleep(0.2)


def _failure(home: Home, name: str, what: str) -> StackError:
    log_file = home.logs / f"{name if name != 'provision' else 'supervisor'}.log"
    tail = _tail(log_file, LOG_LINES)
    # The sentence comes last, where the eye is.
    return ServiceError(f"{log_file} ends with:\n{tail}\n{what}", remedy="Correct that and run 'make up' again.")


def _tail(log_file: Path, lines: int) -> str:
    if not log_file.exists():
        return "(there is no log yet)"
    return "\n".join(log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _welcome(home: Home) -> None:
    stack = Stack.load(home.path)
    console.print(f"Labelwheel is up after {stack.state()['ready_seconds']:.0f} s.", style="green")
    display.show_access(stack, with_passwords=not home.shown_file.exists())
    home.shown_file.touch()


def down(home: Home) -> int:
    """Stop the supervisor and with it everything; then make sure nothing is left."""
    pid = supervisor_pid(home)
    if pid is None:
        if home.path.exists():
            _end_leftovers(home)
        console.print("The stack is down.")
        return 0
    supervisor = psutil.Process(pid)
    supervisor.terminate()
    try:
        supervisor.wait(STOP_TIMEOUT_SECONDS)
    except psutil.TimeoutExpired:
        supervisor.kill()  # its guardian ends the services
        supervisor.wait(10)
    _end_leftovers(home)
    console.print("The stack is down; its data stays. 'make up' starts it again.")
    return 0


def status(home: Home, *, as_json: bool) -> int:
    """Show how the services are; 0 only when all are healthy."""
    state = home.read_state() if supervisor_pid(home) is not None else {}
    if as_json:
        sys.stdout.write(json.dumps(state or {"healthy": False, "services": {}}, indent=2) + "\n")
    elif not state:
        console.print("The stack is down. 'make up' starts it.")
    else:
        display.show_services(state)
        display.show_access(Stack.load(home.path), with_passwords=False)
    return 0 if state.get("healthy") else 1


def logs(home: Home, service: str | None) -> int:
    """Show the last lines of every log, or follow one."""
    files = {path.stem: path for path in sorted(home.logs.glob("*.log"))}
    if service is None:
        for name, path in files.items():
            console.rule(name)
            console.print(_tail(path, LOG_LINES), markup=False)
        return 0
    if service not in files:
        raise StackError(f"There is no log of {service!r}", remedy=f"Logs there are: {', '.join(files) or 'none yet'}.")
    return subprocess.run(["tail", "-n", "100", "-F", str(files[service])], check=False).returncode


def clean(home: Home) -> int:
    """Remove the stack and all its data."""
    down(home)
    # Only what is ours: LABELWHEEL_HOME may name a folder with other things in it.
    for path in home.contents():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if home.path.exists() and not any(home.path.iterdir()):
        home.path.rmdir()
    console.print(f"Removed the stack in {home.path}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
