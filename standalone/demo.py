"""Go once round the loop on real data: ``make demo``.

Brings the stack up, uploads the first weeks of the demo data, and from then on mostly watches: the DAGs do the work,
scripted annotators answer through Argilla's API as people would, the loop promotes its first model and sends the next
batch with that model's suggestions, which is left for you. Ends with ``report.json`` in the state folder. Running it
again goes round once more and doubles nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError
from rich.console import Console

from include.errors import LabelwheelError
from standalone.airflow_api import AirflowApi, await_value
from standalone.annotators import Session, find_dataset, run_annotators
from standalone.demo_data.upload import FIRST_WEEKS_UNTIL, upload_stream
from standalone.errors import ServiceError
from standalone.home import REPO, write_private
from standalone.stack import LAKE_BUCKET, Stack

MAIN = "email_triage"  # has a trainer; the other project collects labels
PROJECTS = (MAIN, "address_parsing")
BATCH_SECONDS = 240  # from new records to the batch in Argilla, by asset events alone
LOOP_SECONDS = 600  # from the last answer to the verdict on the model; sweeps alone would do it in this time
WHERE_TO_LOOK = "Look at the DAG runs in Airflow, then at 'make logs'."

console = Console(highlight=False)


@dataclass
class Step:
    """What a finished step has to say for itself."""

    done: str = ""


@contextmanager
def step(doing: str) -> Iterator[Step]:
    """Show what is going on, then what came of it and how long it took."""
    begun = time.monotonic()
    result = Step()
    with console.status(doing) if console.is_terminal else nullcontext():
        try:
            yield result
        except BaseException:
            console.print(f"[red]✗[/] {doing} [dim]{time.monotonic() - begun:.0f} s[/]")
            raise
    console.print(f"[green]✓[/] {result.done or doing} [dim]{time.monotonic() - begun:.0f} s[/]", soft_wrap=True)


def champion(stack: Stack) -> dict[str, Any] | None:
    """The champion pointer of the main project."""
    try:
        body = stack.s3().get_object(Bucket=LAKE_BUCKET, Key=f"champions/{MAIN}.json")["Body"].read()
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return None
    pointer: dict[str, Any] = json.loads(body)
    return pointer


def open_records(stack: Stack, project: str) -> int:
    """How many records wait for people now."""
    with Session(stack.urls["argilla"], stack.credentials.argilla_owner_api_key) as argilla:
        dataset_id = find_dataset(argilla, project)
        if dataset_id is None:
            return 0
        return int(argilla.call("GET", f"/datasets/{dataset_id}/progress")[1].get("pending", 0))


def queue_url(stack: Stack, project: str) -> str:
    """The annotators' queue in the order of priority; without the sort, Argilla shows each person a random order."""
    with Session(stack.urls["argilla"], stack.credentials.argilla_owner_api_key) as argilla:
        dataset_id = find_dataset(argilla, project)
    view = "annotation-mode?page=1&status=pending&sort=metadata.priority.desc"
    return f"{stack.urls['argilla']}/dataset/{dataset_id}/{view}"


def demo_requests(stack: Stack, project: str) -> int:
    """How many extra batches earlier demo runs have asked for."""
    prefix = f"batches/{project}/request/demo-"
    pages = stack.s3().get_paginator("list_objects_v2").paginate(Bucket=LAKE_BUCKET, Prefix=prefix)
    return sum(one["Key"].endswith(".json") for page in pages for one in page.get("Contents", []))


def lake_report(stack: Stack) -> dict[str, dict[str, Any]]:
    """Row counts per project, counted in the Airflow environment, which has the readers.

    :raises ServiceError: with the reason, when counting fails.
    """
    process = subprocess.run(
        [str(stack.home.venvs / "airflow" / "bin" / "python"), "-m", "standalone.lake_report"],
        cwd=REPO,
        env={**os.environ, "LABELWHEEL_HOME": str(stack.home.path), "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise ServiceError(f"the lake could not be counted: {process.stderr.strip()[-300:]}", remedy=WHERE_TO_LOOK)
    counts: dict[str, dict[str, Any]] = json.loads(process.stdout)
    return counts


def next_batch(stack: Stack, airflow: AirflowApi, project: str) -> None:
    """Ask for an extra batch now, instead of waiting for the next slot of the cycle."""
    airflow.run(f"{project}__sample", {"request_id": f"demo-{demo_requests(stack, project) + 1}"})


def await_batch(stack: Stack, airflow: AirflowApi, project: str, *, new_objects: int) -> int:
    """Wait until people have something to do. New records wake ``sample``; without any, ask for a batch."""
    if not new_objects and not open_records(stack, project):
        next_batch(stack, airflow, project)
    return await_value(
        lambda: open_records(stack, project) or None, BATCH_SECONDS, f"No batch of {project} in Argilla", WHERE_TO_LOOK
    )


def go_round(stack: Stack, airflow: AirflowApi) -> None:
    """One turn of the loop, from objects in the landing bucket to the next batch with suggestions."""
    leader = champion(stack)
    with step("Uploading the first weeks of e-mails and addresses") as uploading, ThreadPoolExecutor() as pool:
        uploads = pool.map(lambda p: upload_stream(stack.s3(), p, stack.home, until=FIRST_WEEKS_UNTIL[p]), PROJECTS)
        counts = list(uploads)
        objects, rows = sum(c["objects"] for c in counts), sum(c["rows"] for c in counts)
        flaws = sum(c["flawed_rows"] + c["flawed_objects"] for c in counts)
        new = {p: c["uploaded"] for p, c in zip(PROJECTS, counts, strict=True)}
        uploading.done = f"{objects} objects landed ({sum(new.values())} new): {rows:,} rows, {flaws} flaws on purpose"
    with step("Ingesting: validate, quarantine, store") as ingesting, ThreadPoolExecutor() as pool:
        list(pool.map(lambda p: airflow.run(f"{p}__ingest"), PROJECTS))
        report = lake_report(stack)
        ingesting.done = "; ".join(
            f"{p}: {report[p]['records']:,} records, {report[p]['quarantine']} in quarantine" for p in PROJECTS
        )
    with step("Waiting for the batch to reach Argilla") as batching:
        waiting = {p: await_batch(stack, airflow, p, new_objects=new[p]) for p in PROJECTS}
        batching.done = "In Argilla: " + ", ".join(f"{n} records of {p}" for p, n in waiting.items())
    with step("Scripted annotators answer") as labeling, ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda p: run_annotators(stack, p), PROJECTS))
        labeling.done = f"Scripted annotators gave {sum(a['submitted'] for a in answers)} answers"
    answered_at = time.time()
    with step("Collecting, deciding labels, training, judging") as learning:
        learning.done = await_verdict(stack, airflow, leader, answered_at)
    with step("Asking for the next batch, with suggestions") as suggesting:
        next_batch(stack, airflow, MAIN)
        left = open_records(stack, MAIN)
        suggesting.done = f"The next batch waits for you: {left} records with the model's suggestions"


def await_verdict(stack: Stack, airflow: AirflowApi, leader: dict[str, Any] | None, answered_at: float) -> str:
    """Wait until the loop has judged the new labels, by itself; returns the verdict in a sentence.

    Without a champion that is the first promotion. With one, it is a retrain run that began after the last answer.
    """
    if leader is None:
        first = await_value(lambda: champion(stack), LOOP_SECONDS, "No model was promoted", WHERE_TO_LOOK)
        return f"First champion {first['model_version']}: {first['why']}"

    def judged() -> str | None:
        for run in airflow.runs(f"{MAIN}__retrain"):
            began = datetime.fromisoformat(run["run_after"]).timestamp()
            if began > answered_at and run["state"] in ("success", "failed"):
                return str(run["dag_run_id"])
        return None

    run_id = await_value(judged, LOOP_SECONDS, "The new labels were not judged", WHERE_TO_LOOK)
    airflow.finish(f"{MAIN}__retrain", run_id)
    now = champion(stack)
    if now and now["model_version"] != leader["model_version"]:
        return f"New champion {now['model_version']}: {now['why']}"
    return f"Champion {leader['model_version']} stays (see the decisions of {MAIN}__retrain)"


def write_report(stack: Stack, ready_at: float, ready_seconds: float) -> dict[str, Any]:
    """Write ``report.json``: the figures of this demo, and what is in the lake now."""
    path = stack.home.path / "report.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    counts = lake_report(stack)
    leader = champion(stack)
    first_promotion_seconds = earlier.get("first_promotion_seconds")
    if first_promotion_seconds is None and leader is not None:
        promoted_at = datetime.fromisoformat(leader["promoted_at"]).timestamp()
        first_promotion_seconds = round(promoted_at - ready_at, 1)

    def total(name: str) -> int:
        return sum(int(counts[p][name]) for p in PROJECTS)

    report = {
        "ready_seconds": earlier.get("ready_seconds", round(ready_seconds, 1)),
        "first_promotion_seconds": first_promotion_seconds,
        "peak_memory_bytes": stack.state()["peak_memory_bytes"],
        "records": total("records"),
        "quarantined": total("quarantine"),
        "selected": total("selections"),
        "responses": total("responses"),
        "labels": total("labels"),
        "champion": leader["model_version"] if leader else None,
        "urls": stack.urls,
        "projects": counts,
    }
    write_private(path, json.dumps(report, indent=1) + "\n")
    return report


def say_goodbye(stack: Stack, report: dict[str, Any]) -> None:
    """Where to look, and what to do next."""
    who = stack.credentials
    console.print(
        f"\n[bold]The loop runs.[/] Passwords are in {stack.home.path / 'credentials.json'}.\n\n"
        f"Label the batch that waits, as {who.argilla_annotator_username}:\n  {queue_url(stack, MAIN)}\n"
        f"Watch the loop, as {who.airflow_admin_username}:\n  {stack.urls['airflow']}/dags/{MAIN}__sample\n"
        f"Read the figures (ready in {report['ready_seconds']:.0f} s, first model after "
        f"{report['first_promotion_seconds'] or 0:.0f} s more):\n  {stack.home.path / 'report.json'}\n\n"
        "[dim]Those who answered so far are scripted (user names scripted_…). 'make down' stops everything and keeps "
        "it; 'make demo' goes round once more.[/]",
        soft_wrap=True,
    )


def main() -> int:
    """Run the demo; 1 with one sentence when a step fails."""
    begun = float(os.environ.get("LABELWHEEL_STARTED_AT") or time.time())
    up = subprocess.run([sys.executable, "-m", "standalone", "up"], cwd=REPO, check=False)
    if up.returncode:
        return up.returncode  # it has said why
    try:
        stack = Stack.load().wait_ready(timeout_seconds=60)
        ready_at = time.time()
        go_round(stack, AirflowApi(stack))
        say_goodbye(stack, write_report(stack, ready_at, ready_at - begun))
    except LabelwheelError as error:
        console.print(f"[red]{error}[/]")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
