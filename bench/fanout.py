"""How much faster a second Celery worker makes the ``ingest`` DAG: 1.5 times or more is wanted.

A real Airflow with the Celery executor, Postgres, Redis and an S3 server on this machine. The same load is ingested by
one worker and by two, each worker pinned to a core of its own and its libraries to one thread; scheduler, API server,
database and S3 server run on the same cores and are not pinned. Measured from the start of the first task to the end of
``commit``, as Airflow's database has it; alternating, the median of pairwise ratios. Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from bench.support import mails
from bench.support.cluster import Cluster, await_dags, open_cluster
from bench.support.environments import bench_folder
from include.errors import LabelwheelError
from include.ingestion.planning import MAX_BATCH_BYTES
from include.lake import Lake, StoreConfig
from standalone.airflow_api import await_value
from standalone.errors import StackError
from standalone.stack import LAKE_BUCKET, LANDING_BUCKET

BATCHES = 12
PAIRS = 2
PAIRS_SECONDS = 780  # no new pair is begun that would end later
ROW_BYTES = 410  # a little more than a row has on average
RUN_SECONDS = 720
FILL = 0.97  # so that two objects never fit into one batch, and one always does


def main() -> int:
    """Measure, and print one line per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=BATCHES)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="at most")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    cores = sorted(os.sched_getaffinity(0))[:2]
    try:
        if len(cores) < 2:
            raise StackError("This benchmark needs two cores", remedy="Run it on a larger machine.")
        load = os.getloadavg()[0]
        print(f"load before the start: {load:.1f}; the figures mean something only on a quiet machine", flush=True)
        figure = compare(cores, arguments.batches, arguments.pairs) | {"load_before": round(load, 1)}
    except LabelwheelError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(figure))
    return 0


def _stop(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def compare(cores: list[int], batches: int, max_pairs: int) -> dict[str, Any]:
    """Runs with one and with two workers in turn, each with a project and tables of its own."""
    rows_per_batch = int(MAX_BATCH_BYTES * FILL / ROW_BYTES)
    paths = mails.objects(bench_folder(), batches * rows_per_batch, rows_per_batch)
    small = mails.objects(bench_folder(), 200, 200)
    names = [f"fanout_{number}" for number in range(2 * max_pairs)]
    projects = [mails.project_settings(name, "fanout/", lake_prefix=name) for name in names]
    projects.append(mails.project_settings("warm_up", "warm_up/", lake_prefix="warm_up"))
    with open_cluster(projects) as cluster:
        upload(cluster, "warm_up/", small)
        upload(cluster, "fanout/", paths)
        await_dags(cluster.api, [f"{project['name']}__ingest" for project in projects])
        with cluster.workers(cores):
            ingest(cluster, "warm_up")
        seconds: dict[int, list[float]] = {1: [], 2: []}
        start, longest = time.monotonic(), 0.0
        for pair in range(max_pairs):
            began = time.monotonic()
            if pair and began - start + longest > PAIRS_SECONDS:
                break
            order = (1, 2) if pair % 2 == 0 else (2, 1)
            for name, workers in zip(names[2 * pair : 2 * pair + 2], order, strict=True):
                with cluster.workers(cores[:workers]):
                    taken, tasks = ingest(cluster, name)
                check(cluster, name, batches, tasks, batches * rows_per_batch)
                seconds[workers].append(taken)
                print(f"{workers} worker(s): {batches} batches in {taken:.1f} s", flush=True)
            longest = max(longest, time.monotonic() - began)
    return {
        "bench": "fanout",
        "ratio": round(statistics.median(one / two for one, two in zip(seconds[1], seconds[2], strict=True)), 3),
        "ours": round(statistics.median(seconds[2]), 1),
        "rivals": {"one worker": round(statistics.median(seconds[1]), 1)},
        "unit": "seconds from the start of the first task to the end of commit",
        "n": len(seconds[2]),
        "batches": batches,
        "rows": batches * rows_per_batch,
    }


def upload(cluster: Cluster, prefix: str, paths: list[Path]) -> None:
    """Put the files below a prefix of the landing bucket."""
    client = cluster.s3.client(timeout_seconds=120)
    for path in paths:
        client.put_object(Bucket=LANDING_BUCKET, Key=prefix + path.name, Body=path.read_bytes())


def ingest(cluster: Cluster, project: str) -> tuple[float, list[dict[str, Any]]]:
    """One run of the project's DAG; seconds from its first task's start to the end of ``commit``, and its tasks."""
    dag_id = f"{project}__ingest"
    run = f"/dags/{dag_id}/dagRuns/{cluster.api.trigger(dag_id)}"

    def ended() -> str | None:
        state: str = cluster.api.call("GET", run)["state"]
        return state if state in ("success", "failed") else None

    if (
        await_value(ended, RUN_SECONDS, f"{dag_id} has not ended", "Use a quiet machine, or fewer --batches")
        == "failed"
    ):
        raise StackError(f"{cluster.last_words(dag_id)}\n{dag_id} failed", remedy="The end of its last log is above.")
    path = f"{run}/taskInstances?limit=1000"
    tasks: list[dict[str, Any]] = cluster.api.call("GET", path)["task_instances"]
    first = min(datetime.fromisoformat(one["start_date"]) for one in tasks if one["start_date"])
    last = max(datetime.fromisoformat(one["end_date"]) for one in tasks if one["task_id"] == "commit")
    return (last - first).total_seconds(), tasks


def check(cluster: Cluster, project: str, batches: int, tasks: list[dict[str, Any]], rows: int) -> None:
    """Require that every row landed, in as many tasks as planned.

    :raises StackError: when the figures are wrong: the times then mean nothing.
    """
    staged = sum(one["task_id"] == "stage" and one["state"] == "success" for one in tasks)
    tries = max(one["try_number"] for one in tasks)
    server = cluster.s3
    config = StoreConfig(server.endpoint_url, server.access_key_id, server.secret_access_key, region=server.region_name)
    ledger = Lake(config, LAKE_BUCKET, project).read("objects", project, columns=["accepted", "quarantined"])
    quarantined = mails.expected_bad(rows).total()
    found = {
        "stage tasks": staged,
        "tries": tries,
        "accepted": int(ledger["accepted"].sum()),
        "quarantined": int(ledger["quarantined"].sum()),
    }
    wanted = {"stage tasks": batches, "tries": 1, "accepted": rows - quarantined, "quarantined": quarantined}
    if found != wanted:
        raise StackError(f"{project}: found {found}, wanted {wanted}", remedy="Read the logs of its tasks.")


if __name__ == "__main__":
    raise SystemExit(main())
