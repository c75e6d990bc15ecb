"""How every side of the ingest benchmark is measured: one process, everything imported and warmed up before the clock.

Standard library only, because each side runs in an environment of its own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any


@dataclass(frozen=True)
class Job:
    """What a side is to do; read from standard input, because command lines are public.

    :param landing: bucket with the JSON Lines.
    :param prefix: folder of the objects to load; ``warm_up_prefix`` holds a few rows of the same kind.
    :param keys: all objects below ``prefix``.
    :param lake: bucket to write to, below the folder ``output``.
    """

    endpoint_url: str
    access_key: str
    secret_key: str
    region: str
    landing: str
    prefix: str
    keys: list[str]
    warm_up_prefix: str
    warm_up_keys: list[str]
    lake: str
    output: str
    settings: dict[str, Any]

    @classmethod
    def read(cls) -> Job:
        """The job given to this process."""
        return cls(**json.load(sys.stdin))

    def storage_options(self) -> dict[str, Any]:
        """How fsspec's S3 file system reaches the server."""
        return {
            "key": self.access_key,
            "secret": self.secret_key,
            "client_kwargs": {"endpoint_url": self.endpoint_url, "region_name": self.region},
        }


def measure(work: Callable[[str, list[str], str], dict[str, Any]], job: Job) -> None:
    """Do the work once on the few rows, then once against the clock, and print the figures as JSON.

    :param work: called with prefix, keys and output folder; returns counts, among them ``rows``; a side that leaves
        work to other processes of its own adds their ``other_cpu_seconds`` and ``other_peak_memory_bytes`` (the
        largest one's).
    """
    work(job.warm_up_prefix, job.warm_up_keys, f"{job.output}/warm_up")
    cpu, began = _cpu_seconds(), time.perf_counter()
    counts = work(job.prefix, job.keys, f"{job.output}/timed")
    wall_seconds, cpu_seconds = time.perf_counter() - began, _cpu_seconds() - cpu
    other_cpu_seconds = counts.pop("other_cpu_seconds", 0.0)
    other_peak_bytes = counts.pop("other_peak_memory_bytes", 0)
    figures = {
        **counts,
        "wall_seconds": wall_seconds,
        "cpu_seconds": cpu_seconds + other_cpu_seconds,
        "peak_memory_bytes": max(peak_memory_bytes(), other_peak_bytes),
    }
    print(json.dumps(figures))


def _cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    usages = (getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_memory_bytes() -> int:
    """Largest resident size this process has had (not ``ru_maxrss``: that starts with the size of the parent)."""
    with Path("/proc/self/status").open(encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
