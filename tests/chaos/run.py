"""The chaos run: objects keep landing while tasks, workers and the S3 server are killed at random instants.

Kills are drawn from the seed: at which moment of a task's usual duration, and what is killed. Which task then meets
which kill depends on the machine. Whatever happens, afterwards every row must be in the lake exactly once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from include.lake import StoreConfig
from include.project import Project
from standalone.errors import ServiceError
from standalone.home import DEFAULT_PORTS, free_port
from standalone.s3 import REGION, S3Server, command, find_weed, probe, write_identities
from tests.chaos.objects import MAX_TEXT, Step, World, make_world
from tests.chaos.verify import Verdict, verify
from tests.chaos.work import Place, worker

KINDS = {"task": 60, "worker": 15, "orphan": 10, "s3": 15}  # how often each is drawn, in percent
KILL_SHARE = {"plan": 0.15, "stage": 0.6, "commit": 0.7, "maintain": 0.7}  # of the attempts of each task
ATTEMPTS = 4  # of a task in one run, as in the DAGs; then the run is given up and the next one begins
WORKERS = 2
HUNG_SECONDS = 60
SETTLE_RUNS = 30
PRELOADED = [
    "boto3",
    "deltalake",
    "great_expectations",
    "msgspec",
    "obstore.store",
    "polars",
    "pyarrow.csv",
    "pyarrow.json",
]
PRELOADED += ["tests.chaos.work"]
PREFIX = "mails/"

_context = multiprocessing.get_context("forkserver")


@dataclass
class Server:
    """An S3 server that can be killed and started again on the same data and ports."""

    data: Path
    ports: dict[str, int] = field(default_factory=lambda: _free_ports())
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.handle = S3Server(f"http://127.0.0.1:{self.ports['s3']}", "chaos", "chaos-secret")
        write_identities(self.data, self.handle.access_key_id, self.handle.secret_access_key)

    def start(self) -> None:
        """Start without waiting; it is away for a moment longer."""
        with (self.data / "s3.log").open("ab") as log:
            self.process = subprocess.Popen(command(find_weed(), self.data, self.ports), stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL, at any moment."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def wait(self, timeout_seconds: float = 60) -> None:
        """Until old objects can be read and new ones written."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                return probe(self.handle)
            except ServiceError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def _free_ports() -> dict[str, int]:
    ports: dict[str, int] = {}
    for name in DEFAULT_PORTS:
        if name.startswith("s3"):
            ports[name] = free_port(set(ports.values()))
    return ports


@dataclass
class Attempt:
    """One attempt of a task on a worker."""

    task: str
    argument: Any
    began: float
    pid: int | None = None
    kill_at: float | None = None
    kind: str = ""


class Worker:
    """A worker process and the attempt it is busy with."""

    def __init__(self, place: Place) -> None:
        ours, theirs = _context.Pipe()
        self.connection: Connection = ours
        self.process = _context.Process(target=worker, args=(theirs, place))
        self.process.start()
        theirs.close()
        self.attempt: Attempt | None = None

    def kill(self, *, children: bool) -> None:
        """SIGKILL of the worker, with or without the task it runs."""
        pid = self.process.pid
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL) if children else os.kill(pid, signal.SIGKILL)
        self.process.join()
        self.connection.close()


class Chaos:
    """The scheduler of the run, and the hand that kills."""

    def __init__(self, server: Server, place: Place, rng: random.Random, kills: int, deadline: float) -> None:
        self.server, self.place, self.rng, self.kills, self.deadline = server, place, rng, kills, deadline
        self.workers = [Worker(place) for _ in range(WORKERS)]
        self.faults: Counter[str] = Counter()
        self.killed_in: Counter[str] = Counter()
        self.usual: dict[str, float] = {}  # seconds a task of this name takes
        self.orphans: list[int] = []
        self.runs: Counter[str] = Counter()

    def spent(self, kills: int) -> bool:
        """Whether that many were killed, or the time is up."""
        return self.faults.total() >= kills or time.monotonic() > self.deadline

    # ---- one run of the DAG

    def ingest(self) -> bool:
        """plan → stage, two at a time → commit; False when a task failed too often."""
        planned = self.all_of("plan", [None])
        done = planned is not None and self.all_of("stage", planned[0]) is not None
        done = done and (not planned[0] or self.all_of("commit", [planned[0]]) is not None)
        self.runs["completed" if done else "given up"] += 1
        return done

    def all_of(self, task: str, arguments: list[Any]) -> list[Any] | None:
        """Run a task for each argument; None when one of them failed too often."""
        waiting = deque(enumerate(arguments))
        tries: Counter[int] = Counter()
        results: dict[int, Any] = {}
        busy: dict[int, int] = {}  # worker → position
        while len(results) < len(arguments):
            for index, one in enumerate(self.workers):
                if one.attempt is None and waiting:
                    position, argument = waiting.popleft()
                    self.begin(one, task, argument)
                    busy[index] = position
            for index in [i for i, one in enumerate(self.workers) if one.attempt is not None]:
                outcome = self.poll(index)
                if outcome is None:
                    continue
                position = busy.pop(index)
                succeeded, result = outcome
                if succeeded:
                    results[position] = result
                else:
                    tries[position] += 1
                    waiting.append((position, arguments[position]))
            if tries and max(tries.values()) >= ATTEMPTS and not busy:
                return None
            if tries and max(tries.values()) >= ATTEMPTS:
                waiting.clear()  # let the running ones end
            wait([one.connection for one in self.workers], timeout=0.005)
        return [results[position] for position in range(len(arguments))]

    def begin(self, one: Worker, task: str, argument: Any) -> None:
        """Hand a task to an idle worker and decide whether, when and how it will be disturbed."""
        one.attempt = Attempt(task, argument, time.monotonic())
        if not self.spent(self.kills) and self.rng.random() < KILL_SHARE[task]:
            usual = self.usual.get(task, 1.0)
            one.attempt.kill_at = one.attempt.began + self.rng.uniform(0, 1.05 * usual)
            one.attempt.kind = self.rng.choices(list(KINDS), list(KINDS.values()))[0]
        one.connection.send((task, argument))

    def poll(self, index: int) -> tuple[bool, Any] | None:
        """Whether the worker's attempt ended: (succeeded, result)."""
        one = self.workers[index]
        attempt = one.attempt
        assert attempt is not None
        while one.connection.poll():
            message = one.connection.recv()
            if message[0] == "started":
                attempt.pid = message[1]
                continue
            one.attempt = None
            if message[1] == 0:
                seconds = time.monotonic() - attempt.began
                self.usual[attempt.task] = 0.7 * self.usual.get(attempt.task, seconds) + 0.3 * seconds
            return message[1] == 0, message[2]
        if time.monotonic() - attempt.began > HUNG_SECONDS:
            attempt.kind, attempt.kill_at = "hung", 0.0
        if attempt.pid is not None and attempt.kill_at is not None and time.monotonic() >= attempt.kill_at:
            return self.strike(index, attempt)
        return None

    def strike(self, index: int, attempt: Attempt) -> tuple[bool, Any] | None:
        """Kill what was drawn; returns the attempt's outcome where the worker cannot tell it any more."""
        one, kind = self.workers[index], attempt.kind
        attempt.kill_at = None
        if kind != "hung" and self.spent(self.kills):
            return None
        self.count(kind, attempt)
        if kind == "s3":
            self.server.kill()
            self.server.start()
            return None
        if kind in ("task", "hung"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(attempt.pid or 0, signal.SIGKILL)
            return None
        if kind == "orphan":
            self.orphans.append(attempt.pid or 0)  # goes on alone, beside its own retry
        one.kill(children=kind == "worker")
        self.workers[index] = Worker(self.place)
        return False, None

    def count(self, kind: str, attempt: Attempt) -> None:
        """Write down what was done."""
        self.faults[kind] += 1
        self.killed_in[attempt.task] += 1

    def close(self) -> None:
        """End the workers and whatever they left."""
        for one in self.workers:
            one.kill(children=True)
        for pid in self.orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def upload(server: Server, steps: list[Step]) -> None:
    """What the source system does; it tries again until the server took it."""
    for step in steps:
        _upload(server, step)


def _upload(server: Server, step: Step) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + 60
    client = server.handle.client(timeout_seconds=5, retries=0)
    while True:
        try:
            if step.content is None:
                client.delete_object(Bucket="landing", Key=step.key)
            else:
                client.put_object(Bucket="landing", Key=step.key, Body=step.content.data)
            return
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def make_project() -> Project:
    """A project with one expectation, so that Great Expectations takes part."""
    lengths = {"type": "expect_column_value_lengths_to_be_between", "kwargs": {"column": "text", "max_value": MAX_TEXT}}
    return Project.model_validate(
        {
            "name": "chaos",
            "title": "Chaos",
            "source": {"prefix": PREFIX, "id_column": "id", "fields": {"text": {"title": "Text"}}},
            "validation": {"expectations": [lengths]},
            "labeling": {
                "guidelines": "Nobody labels these records.",
                "questions": [{"name": "kind", "type": "label", "title": "Kind", "labels": {"a": "A", "b": "B"}}],
            },
        }
    )


def run(
    folder: Path, *, kills: int, objects: int, seed: int, per_wave: int = 5, limit_seconds: float = 1000
) -> dict[str, Any]:
    """Let ``objects`` objects land under ``kills`` kills; returns what happened and which invariants hold.

    :param folder: empty; the server's data and ``tasks.log`` (what failed and killed tasks printed) stay in it.
    :param limit_seconds: afterwards nothing more is killed, and the run comes to its end.
    """
    _context.set_forkserver_preload(PRELOADED)
    began = time.monotonic()
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    world = make_world(rng, objects, per_wave=per_wave, prefix=PREFIX)
    server = Server(folder)
    server.start()
    try:
        server.wait()
        client = server.handle.client()
        for bucket in ("landing", "lake"):
            client.create_bucket(Bucket=bucket)
        config = StoreConfig(
            server.handle.endpoint_url, server.handle.access_key_id, server.handle.secret_access_key, region=REGION
        )
        place = Place(make_project(), config, folder / "tasks.log")
        chaos = Chaos(server, place, rng, kills, began + limit_seconds)
        try:
            _go_on(chaos, world)
            server.wait()
            verdict = verify(place.lake(), place.project, world)
        finally:
            chaos.close()
    finally:
        server.kill()
    return _report(chaos, world, verdict, seed, time.monotonic() - began)


def _go_on(chaos: Chaos, world: World) -> None:
    """Waves of objects, a run or more after each, kills spread over all of them; then quietly to the end."""
    total = chaos.kills
    for number, wave in enumerate(world.waves, start=1):
        chaos.kills = round(total * number / len(world.waves))
        half = len(wave) // 2
        upload(chaos.server, wave[:half])
        chaos.ingest()
        upload(chaos.server, wave[half:])
        while not (chaos.ingest() and chaos.spent(chaos.kills - total // 10)):
            pass
        if number % 2 == 0:
            chaos.all_of("maintain", [None])
    while not chaos.spent(total):  # what is left is spent on runs that find nothing new
        chaos.ingest()
        chaos.all_of("maintain", [None])
    for _ in range(SETTLE_RUNS):
        chaos.server.wait()
        if chaos.ingest() and chaos.ingest():
            break


def _report(chaos: Chaos, world: World, verdict: Verdict, seed: int, seconds: float) -> dict[str, Any]:
    return {
        "chaos": "ingest",
        "faults": {"total": chaos.faults.total(), **dict(sorted(chaos.faults.items()))},
        "invariants": verdict.invariants,
        "losses": verdict.losses,
        "seed": seed,
        "objects": sum(1 for key in world.final if key.startswith(f"{PREFIX}day=")),
        "object_versions": len(world.contents),
        "rows": verdict.rows,
        "killed_in": dict(sorted(chaos.killed_in.items())),
        "runs": dict(chaos.runs),
        "usual_seconds": {task: round(seconds, 2) for task, seconds in sorted(chaos.usual.items())},
        "seconds": round(seconds, 1),
    }
