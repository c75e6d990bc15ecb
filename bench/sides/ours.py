"""Labelwheel: plan → stage → commit, with the ten expectations, as the tasks of the ``ingest`` DAG call it.

As in the DAG, each batch is staged by a task in a process of its own; the pool ``stage`` (deploy/pools.json) lets two
of them run at once.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from typing import Any

from bench.sides.clock import Job, measure, peak_memory_bytes
from bench.support.mails import project_settings
from include.ingestion.commit import commit
from include.ingestion.landing import Landing
from include.ingestion.planning import plan
from include.ingestion.stage import stage
from include.lake import Lake, StoreConfig
from include.project import Project
from standalone.home import REPO

START_SECONDS = 300


def stages_at_once() -> int:
    """The slots of the pool that the DAG's staging tasks run in."""
    pools = json.loads((REPO / "deploy" / "pools.json").read_text(encoding="utf-8"))
    slots: int = next(pool["slots"] for name, pool in pools.items() if name.endswith("stage"))
    return slots


def parts(job: Job, prefix: str, output: str) -> tuple[Project, Lake, Landing]:
    """What the steps work on."""
    config = StoreConfig(job.endpoint_url, job.access_key, job.secret_key, region=job.region)
    project = Project.model_validate(project_settings(output.rpartition("/")[2], prefix))
    return project, Lake(config, job.lake, job.output), Landing(config, job.landing, prefix)


def stage_one(job: Job, prefix: str, output: str, batch: int) -> dict[str, Any]:
    """One staging task; what it cost."""
    cpu = time.process_time()
    project, lake, landing = parts(job, prefix, output)
    stage(project, lake, landing, batch, now=datetime.now(UTC))
    return {"cpu_seconds": time.process_time() - cpu, "peak_memory_bytes": peak_memory_bytes()}


def get_ready(job: Job, worker: int, all_ready: Barrier) -> None:
    """Import everything and do everything once, in a worker."""
    output = f"{job.output}/warm_up_{worker}"
    project, lake, landing = parts(job, job.warm_up_prefix, output)
    for batch in plan(project, lake, landing, now=datetime.now(UTC))["batches"]:
        stage(project, lake, landing, batch, now=datetime.now(UTC))
    all_ready.wait(START_SECONDS)


def main() -> None:
    """Measure one run."""
    job = Job.read()
    context = multiprocessing.get_context("spawn")
    workers = stages_at_once()
    # Where memory is measured each batch has a process of its own, as every task has; imports are in the time then.
    per_batch = bool(job.settings.get("process_per_batch"))
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1 if per_batch else None) as pool:
        if not per_batch:
            barrier = context.Manager().Barrier(workers)
            for ready in [pool.submit(get_ready, job, worker, barrier) for worker in range(workers)]:
                ready.result()

        def work(prefix: str, keys: list[str], output: str) -> dict[str, Any]:
            project, lake, landing = parts(job, prefix, output)
            batches = plan(project, lake, landing, now=datetime.now(UTC))["batches"]
            staged = [one.result() for one in [pool.submit(stage_one, job, prefix, output, batch) for batch in batches]]
            return {
                **commit(project, lake, batches, now=datetime.now(UTC)),
                "other_cpu_seconds": sum(one["cpu_seconds"] for one in staged),
                "other_peak_memory_bytes": max(one["peak_memory_bytes"] for one in staged),
            }

        measure(work, job)


if __name__ == "__main__":
    main()
