"""Keeps the services of one stack running, and reports on them in ``state.json``.

One thread per service walks it through its life: wait for what it needs, start, wait until it works, watch, start again
after a crash. Stopping goes the other way round: a service stops when nothing that needs it runs any more. SIGTERM
stops the stack; if the supervisor itself is killed, the guardian process ends the services.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from include.errors import LabelwheelError
from standalone import processes, provision
from standalone.errors import ServiceError
from standalone.home import REPO, write_private
from standalone.services import CHECK_ERRORS, Check, Service
from standalone.stack import Stack

log = logging.getLogger(__name__)

BACKOFF_SECONDS = (1.0, 30.0)  # first and longest wait before a restart
STEADY_SECONDS = 60.0  # healthy for so long: the next crash starts from the shortest wait again
POLL_SECONDS = 0.25  # while starting
CHECK_SECONDS = 10.0  # while running
HUNG_SECONDS = 120.0  # alive but failing its check for so long: restart it
SAMPLE_SECONDS = 5.0  # memory, log sizes, project files
GIVE_UP_STARTS = 3  # starts that never worked, after which 'make up' reports a failure
LOG_BYTES = 20 * 1024 * 1024
PROVISION = "provision"
PROVISIONED = {"s3", "argilla-server", "airflow-api-server"}


class Runner:
    """One service's life."""

    def __init__(self, service: Service, supervisor: Supervisor) -> None:
        self.name = service.name
        self.service = service
        self.thread = threading.Thread(target=self.run, name=service.name)
        self.supervisor = supervisor
        self.state = "waiting"
        self.error = ""
        self.restarts = 0
        self.failed_starts = 0
        self.started_at = datetime.now(UTC)
        self.ready_seconds: float | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = threading.Event()
        self.log_file = supervisor.home.logs / f"{service.name}.log"

    def report(self) -> dict[str, Any]:
        """This service in ``state.json``."""
        process = self.process
        return {
            "state": self.state,
            "pid": process.pid if process and process.poll() is None else None,
            "restarts": self.restarts,
            "failed_starts": self.failed_starts,
            "ready_seconds": self.ready_seconds,
            "error": self.error,
        }

    def run(self) -> None:
        """Start, watch, start again, until the supervisor stops."""
        backoff = BACKOFF_SECONDS[0]
        while self._needs_are_ready():
            if self._start():
                if self.service.check is None:
                    break
                ready_at = time.monotonic()
                self._watch(self.service.check)
                if time.monotonic() - ready_at >= STEADY_SECONDS:
                    backoff = BACKOFF_SECONDS[0]
            if self.supervisor.stopping.is_set():
                break
            self.ready.clear()
            self._clean_up()
            self.restarts += 1
            self.state = "restarting"
            log.warning("%s: %s; starting it again in %.0f s", self.name, self.error, backoff)
            self.supervisor.stopping.wait(backoff)
            backoff = min(backoff * 2, BACKOFF_SECONDS[1])
        self._stop()

    def _needs_are_ready(self) -> bool:
        needs = [self.supervisor.runners[name] for name in self.service.needs]
        while not self.supervisor.stopping.wait(POLL_SECONDS if needs else 0):
            if all(need.ready.is_set() for need in needs):
                return True
        return False

    def _start(self) -> bool:
        """Start and wait; whether it works now."""
        if self.service.is_done():
            self._became_ready()
            return True
        self.state = "starting"
        try:
            self._await_ready(self._spawn())
        except (ServiceError, OSError) as error:
            if not self.supervisor.stopping.is_set():
                self.error = str(error)
                self.failed_starts += 1
            return False
        self._became_ready()
        return True

    def _became_ready(self) -> None:
        self.failed_starts = 0
        self.error = ""
        self.state = "ready"
        if self.ready_seconds is None:
            self.ready_seconds = self.supervisor.elapsed_seconds()
        self.ready.set()
        log.info("%s is ready", self.name)

    def _spawn(self) -> subprocess.Popen[bytes]:
        service = self.service
        environ = {
            **service.environ,
            **processes.KEEP_MARKER,
            processes.MARKER: processes.marker(self.supervisor.home.path, service.name),
        }
        rotate(self.log_file)
        self.started_at = datetime.now(UTC)
        with self.log_file.open("ab") as output:
            self.process = process = subprocess.Popen(
                service.command,
                cwd=REPO,
                env=environ,
                stdin=subprocess.PIPE if service.standard_input else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        os.setpriority(os.PRIO_PROCESS, process.pid, service.nice)
        if process.stdin:
            with process.stdin as stdin:
                stdin.write(service.standard_input.encode())
        return process

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.service.ready_timeout_seconds
        last = "it is still starting"
        while not self.supervisor.stopping.wait(POLL_SECONDS):
            code = process.poll()
            if code is not None:
                if self.service.check is None and code == 0:
                    self._job_is_done()
                    return
                raise ServiceError(f"{self.name} ended with {_exit_text(code)}", remedy=f"Read {self.log_file}.")
            if self.service.check is not None:
                try:
                    self.service.check(self.started_at)
                except CHECK_ERRORS as error:
                    last = str(error)
                else:
                    return
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{self.name} was not ready after {self.service.ready_timeout_seconds:.0f} s ({last})",
                    remedy=f"Read {self.log_file}.",
                )
        raise ServiceError(f"{self.name} was stopped while starting", remedy="Start the stack again.")

    def _job_is_done(self) -> None:
        if self.service.done:
            stamp, text = self.service.done
            stamp.write_text(text, encoding="utf-8")

    def _watch(self, check: Check) -> None:
        """Return when the process has ended, hangs, or the supervisor stops."""
        healthy_at = checked_at = time.monotonic()
        while not self.supervisor.stopping.wait(POLL_SECONDS):
            code = self.process.poll() if self.process else 0
            if code is not None:
                self.error = f"{self.name} ended with {_exit_text(code)}"
                return
            now = time.monotonic()
            if now - checked_at < CHECK_SECONDS:
                continue
            try:
                check(self.started_at)
                self.state, self.error, healthy_at = "ready", "", now
            except CHECK_ERRORS as error:
                self.state, self.error = "unhealthy", str(error)
                if now - healthy_at > HUNG_SECONDS and self._needs_still_ready():
                    self.error = f"{self.name} has not answered for {HUNG_SECONDS:.0f} s ({error})"
                    return
            checked_at = time.monotonic()

    def _needs_still_ready(self) -> bool:
        """Whether its own health is to blame: Airflow's parts are seen through the API server."""
        seen_through = {"airflow-api-server"} if self.name.startswith("airflow-") else set()
        names = {*self.service.needs, *seen_through} - {self.name}
        return all(self.supervisor.runners[name].state == "ready" for name in names)

    def _stop(self) -> None:
        self.supervisor.stopping.wait()  # a job has nothing left to do until then
        dependents = [r for r in self.supervisor.runners.values() if self.name in r.service.needs]
        for dependent in dependents:
            dependent.thread.join()
        self.ready.clear()
        process = self.process
        if process is not None and process.poll() is None:
            self.state = "stopping"
            process.terminate()
            try:
                process.wait(self.service.stop_timeout_seconds)
            except subprocess.TimeoutExpired:
                log.warning("%s did not stop in %.0f s", self.name, self.service.stop_timeout_seconds)
        self._clean_up()
        self.state = "stopped"

    def _clean_up(self) -> None:
        """End what is left of the service: its process, and children that outlived it."""
        if self.process is None:
            return
        processes.end(processes.find(self.supervisor.home.path, self.name), grace_seconds=0)
        self.process.wait()


class Provisioner(Runner):
    """Provisions when all services are ready, and again when a project file changes."""

    def __init__(self, supervisor: Supervisor, needs: tuple[str, ...]) -> None:
        super().__init__(Service(PROVISION, [], {}, needs=needs), supervisor)

    def run(self) -> None:
        """Provision, wait for a change, provision again; a failure is tried again with growing waits."""
        backoff = BACKOFF_SECONDS[0]
        while self._needs_are_ready():
            seen = provision.fingerprint()
            try:
                provision.provision(self.supervisor.stack)
            except (LabelwheelError, OSError) as error:
                self.state, self.error = "unhealthy", str(error)
                self.failed_starts += 1
                log.warning("%s; trying again in %.0f s", error, backoff)
                self.supervisor.stopping.wait(backoff)
                backoff = min(backoff * 2, BACKOFF_SECONDS[1])
                continue
            backoff = BACKOFF_SECONDS[0]
            self._became_ready()
            while provision.fingerprint() == seen and not self.supervisor.stopping.wait(SAMPLE_SECONDS):
                pass
        self._stop()


class Supervisor:
    """The services of one stack.

    :param stack: with the ports of this start.
    :param services: what to run; each needs only services of the list.
    :param started_at: when the command that starts the stack was given, in seconds since the epoch.
    """

    def __init__(self, stack: Stack, services: list[Service], started_at: float) -> None:
        self.stack = stack
        self.home = stack.home
        self.started_at = started_at
        self.stopping = threading.Event()
        self.ready_seconds: float | None = None
        self.memory_bytes: dict[str, int] = {}
        self.peak_memory_bytes = 0
        self.runners: dict[str, Runner] = {}
        for service in services:
            self.runners[service.name] = Runner(service, self)
        if self.runners.keys() >= PROVISIONED:
            self.runners[PROVISION] = Provisioner(self, tuple(self.runners))
        self._published: dict[str, Any] = {}
        self._guardian: subprocess.Popen[bytes] | None = None

    def elapsed_seconds(self) -> float:
        """Seconds since the command was given."""
        return round(time.time() - self.started_at, 1)

    def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        threading.excepthook = self._on_bug
        self._keep_guardian()
        for runner in self.runners.values():
            runner.thread.start()
        sampled_at = 0.0
        while not self.stopping.wait(POLL_SECONDS * 2):
            self._keep_guardian()
            if time.monotonic() - sampled_at > SAMPLE_SECONDS:
                self.sample()
                sampled_at = time.monotonic()
            self.write_state()
        log.info("stopping")
        while any(runner.thread.is_alive() for runner in self.runners.values()):
            time.sleep(POLL_SECONDS)
            self.write_state()
        self.write_state()
        self._end_guardian()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stopping.set()

    def _on_bug(self, bug: threading.ExceptHookArgs) -> None:
        # A service nobody watches would look alive for ever: stop, and let the log tell.
        log.critical("a defect in the supervisor ends the stack", exc_info=bug.exc_value)
        self.stopping.set()

    def _keep_guardian(self) -> None:
        if self._guardian is None or self._guardian.poll() is not None:
            self._guardian = subprocess.Popen(
                [sys.executable, "-m", "standalone.guardian", str(self.home.path), str(self.home.guardian_lock_file)],
                cwd=REPO,
                stdin=subprocess.PIPE,
                start_new_session=True,
            )

    def _end_guardian(self) -> None:
        if self._guardian is not None and self._guardian.stdin is not None:
            self._guardian.stdin.close()
            self._guardian.wait()

    def sample(self) -> None:
        """Measure memory, and keep logs from growing without bound."""
        here = psutil.Process()
        memory = {"supervisor": processes.pss_bytes(here)}
        if self._guardian is not None and self._guardian.poll() is None:
            memory["supervisor"] += processes.pss_bytes(psutil.Process(self._guardian.pid))
        for name, runner in self.runners.items():
            found = processes.tree(runner.process.pid) if runner.process else []
            if found:
                memory[name] = sum(map(processes.pss_bytes, found))
        self.memory_bytes = memory
        self.peak_memory_bytes = max(self.peak_memory_bytes, sum(memory.values()))
        for log_file in self.home.logs.glob("*.log"):
            rotate(log_file, running=True)

    def state(self) -> dict[str, Any]:
        """All there is to know about the stack."""
        healthy = all(runner.state == "ready" for runner in self.runners.values())
        if healthy and self.ready_seconds is None:
            self.ready_seconds = self.elapsed_seconds()
        return {
            "pid": os.getpid(),
            "healthy": healthy and not self.stopping.is_set(),
            "stopping": self.stopping.is_set(),
            "started_at": self.started_at,
            "ready_seconds": self.ready_seconds,
            "memory_bytes": self.memory_bytes,
            "peak_memory_bytes": self.peak_memory_bytes,
            "ports": self.stack.ports,
            "urls": self.stack.urls,
            "services": {name: runner.report() for name, runner in self.runners.items()},
        }

    def write_state(self) -> None:
        """Publish the state when it has changed; a full disk must not end the services."""
        state = self.state()
        if state == self._published:
            return
        try:
            write_private(self.home.state_file, json.dumps(state, indent=2))
        except OSError:
            log.exception("state.json could not be written")
        else:
            self._published = state


def rotate(log_file: Path, *, running: bool = False) -> None:
    """Move a big log aside, keeping one old one; a running service goes on appending to the emptied file."""
    if not log_file.exists() or log_file.stat().st_size < LOG_BYTES:
        return
    old = log_file.with_suffix(".log.1")
    if running:
        with log_file.open("rb") as source:
            source.seek(-LOG_BYTES // 2, os.SEEK_END)
            old.write_bytes(source.read())
        os.truncate(log_file, 0)
    else:
        log_file.replace(old)


def _exit_text(code: int) -> str:
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
