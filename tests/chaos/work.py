"""What the chaos run does to the lake, and the worker processes that do it.

The one place that imports the ingest step. A worker runs each task in a forked child, as Airflow's executors do, so
that either can be killed without the other.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from include.ingestion.commit import commit
from include.ingestion.landing import Landing
from include.ingestion.planning import plan
from include.ingestion.stage import stage
from include.lake import Lake, StoreConfig, maintenance
from include.project import Project

LAKE_PREFIX = "chaos"
TABLES = ("records", "quarantine", "objects")


@dataclass(frozen=True)
class Place:
    """Where the work happens."""

    project: Project
    config: StoreConfig
    log: Path  # what tasks print

    def lake(self) -> Lake:
        """The tables."""
        return Lake(self.config, self.project.lake.bucket, LAKE_PREFIX)

    def landing(self) -> Landing:
        """The source folder."""
        return Landing(self.config, self.project.source.bucket, self.project.source.prefix)


def perform(place: Place, task: str, argument: Any) -> Any:
    """One task, as the DAGs call it."""
    project, lake, now = place.project, place.lake(), datetime.now(UTC)
    if task == "plan":
        return plan(project, lake, place.landing(), now=now)["batches"]
    if task == "stage":
        return stage(project, lake, place.landing(), argument, now=now)["batch"]
    if task == "commit":
        return commit(project, lake, argument, now=now)["batches"]
    return [maintenance.tidy_table(lake, table, project.name, retention_days=14, now=now) for table in TABLES]


def worker(connection: Connection, place: Place) -> None:
    """Run tasks until killed: receive ``(task, argument)``; send ``("started", pid)`` and ``("ended", code, result)``.

    Worker and children are a process group of their own.
    """
    os.setpgid(0, 0)
    tqdm.set_lock(threading.RLock())  # its own lock is shared by processes, and each killed one would leave it behind
    while True:
        task, argument = connection.recv()
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            _child(write_end, place, task, argument)
        os.close(write_end)
        connection.send(("started", pid))
        with os.fdopen(read_end, "rb") as pipe:
            text = pipe.read()
        _, status = os.waitpid(pid, 0)
        connection.send(("ended", os.waitstatus_to_exitcode(status), json.loads(text) if text else None))


def _child(write_end: int, place: Place, task: str, argument: Any) -> None:
    """Perform the task, write its result, and leave without anything of the parent's being run again."""
    code = 1
    with place.log.open("a") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    try:
        data = json.dumps(perform(place, task, argument)).encode()
        os.write(write_end, data)
        code = 0
    except BaseException:  # whatever it was, the child must not go on as a copy of the worker
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)
