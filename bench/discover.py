"""LIST requests and seconds to find 1,000 new objects in 2 folders among a million, against listing them all again.

A private S3 server holds 400 day folders with 2,500 objects each, and the ledger knows them all. Then 600 objects land
in the newest folder and 400 in a new one, and ``plan`` looks, as it does every half hour. Beside it: the full sweep
that it does once a day, and the rival: all objects listed page by page and compared with the ledger in memory, as the
usual sync does. Each side is a process of its own. Making the objects takes minutes, so the server's data is kept in
``.standalone/bench/discover-<n>``; every run works on a copy. Requests are counted in the client. Last line: JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
import polars as pl

from include.ingestion import planning
from include.ingestion.landing import Landing
from include.lake import Lake, Store, StoreConfig
from include.project import Project
from standalone.home import Home
from standalone.s3 import S3Server, run_server

OBJECTS = 1_000_000
FOLDER_OBJECTS = 2_500
BATCH_OBJECTS = 500
LEDGER_ROWS = 100_000  # of one append
NEW_IN_LAST, NEW_IN_NEXT = 600, 400
WRITERS = 32
WRITTEN_AT_ONCE = 50_000
BODY = b""  # discovery reads none
BUCKET, PREFIX = "bench-landing", "in/"
PROJECT: dict[str, Any] = {
    "name": "bench",
    "title": "Bench",
    "lake": {"bucket": "bench-lake"},
    "source": {"bucket": BUCKET, "prefix": PREFIX, "fields": {"text": {"title": "Text"}}},
    "labeling": {
        "guidelines": "Nobody labels the records of a benchmark.",
        "questions": [{"name": "kind", "type": "label", "title": "Q", "labels": {"a": "A", "b": "B"}}],
    },
}


def key(number: int) -> str:
    """Keys grow with time; one folder a day."""
    day = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=number // FOLDER_OBJECTS)
    return f"{PREFIX}{day:%Y-%m-%d}/{number:09d}.jsonl"


def config_of(server: S3Server) -> StoreConfig:
    return StoreConfig(server.endpoint_url, server.access_key_id, server.secret_access_key, region=server.region_name)


def write_objects(config: StoreConfig, names: list[str]) -> None:
    """Upload small objects, many at once, in one thread: the server is the limit."""
    client = Store(config, BUCKET)._client

    async def write(waiting: Any) -> None:
        for name in waiting:
            await obstore.put_async(client, name, BODY)

    async def write_all() -> None:
        waiting = iter(names)
        await asyncio.gather(*(write(waiting) for _ in range(WRITERS)))

    asyncio.run(write_all())


def write_ledger(project: Project, lake: Lake, landing: Landing, now: datetime) -> int:
    """The ledger and the last plan, as ingestion would have left them; returns the number of batches."""
    held: list[pl.DataFrame] = []
    rows = 0

    def append() -> None:
        nonlocal rows
        frame = pl.concat(held)
        batch = (pl.int_range(rows, rows + frame.height) // BATCH_OBJECTS + 1).cast(pl.Int64)
        frame = (
            frame.with_columns(
                pl.lit(project.name).alias("project"), pl.lit(BUCKET).alias("bucket"), batch.alias("ingest_batch")
            )
            .with_columns(pl.lit(1, pl.Int64).alias(name) for name in ("revision", "rows", "accepted"))
            .with_columns(
                *(pl.lit(0, pl.Int64).alias(name) for name in ("duplicates", "quarantined", "replayed")),
                pl.lit("loaded").alias("status"),
                pl.lit(now).dt.cast_time_unit("us").alias("committed_at"),
            )
        )
        lake.append("objects", frame.to_arrow(compat_level=pl.CompatLevel.oldest()), app_id=f"bench/{rows}")
        rows += frame.height
        held.clear()

    for page in landing.all_pages():
        times = pl.Series(page.modified).str.to_datetime(time_unit="us", time_zone="UTC")
        held.append(
            pl.DataFrame(
                {"key": page.keys, "object_version": page.etags, "size_bytes": page.sizes, "last_modified_at": times}
            )
        )
        if sum(one.height for one in held) >= LEDGER_ROWS:
            append()
    if held:
        append()
    batches = -(-rows // BATCH_OBJECTS)
    last = {"project": project.name, "batch": batches, "bucket": BUCKET, "kind": "objects", "objects": []}
    lake.files.create_json(planning.plan_path(project, batches), {**last, "planned_at": now.isoformat()})
    return batches


def prepare(folder: Path, project: Project, objects: int) -> None:
    """Make the server's data, or what an earlier run left to be made."""
    ready, made = folder / "ready", folder / "made"
    if ready.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with run_server(folder) as server:
        config = config_of(server)
        if not made.exists():
            for name in (BUCKET, project.lake.bucket):
                server.client().create_bucket(Bucket=name)
            made.write_text("0")
        for first in range(int(made.read_text()), objects, WRITTEN_AT_ONCE):
            write_objects(config, [key(number) for number in range(first, min(first + WRITTEN_AT_ONCE, objects))])
            made.write_text(str(first + WRITTEN_AT_ONCE))
            print(f"  {min(first + WRITTEN_AT_ONCE, objects):,} objects, {time.monotonic() - begun:.0f} s", flush=True)
        landing = Landing(config, BUCKET, PREFIX)
        write_ledger(project, Lake(config, project.lake.bucket), landing, datetime.now(UTC))
    ready.touch()


def peak_memory_bytes() -> int:
    """Of this process alone: the peak that getrusage tells begins with the parent's."""
    [line] = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def measured(work: Any) -> dict[str, Any]:
    """Run it; seconds, CPU seconds and by how much the peak of memory grew."""
    before, begun, cpu = peak_memory_bytes(), time.monotonic(), time.process_time()
    result = work()
    return {
        **result,
        "seconds": time.monotonic() - begun,
        "cpu_seconds": time.process_time() - cpu,
        "peak_memory_bytes": peak_memory_bytes(),
        "grown_bytes": peak_memory_bytes() - before,
    }


def side(name: str, config: StoreConfig, now: datetime) -> dict[str, Any]:
    """What one process measures: ``sweep``, ``look`` or ``rescan``."""
    project = Project.model_validate(PROJECT)
    lake, landing = Lake(config, project.lake.bucket), Landing(config, BUCKET, PREFIX)
    lake.read(
        "objects", project.name, columns=["key"], where=pl.col("ingest_batch") < 0, newest=False
    )  # imports, connects
    landing.head(PREFIX)  # connects
    if name == "rescan":
        return measured(lambda: rescan(project, lake, config))
    return measured(lambda: planning.plan(project, lake, landing, now=now, sweep=name == "sweep"))


def rescan(project: Project, lake: Lake, config: StoreConfig) -> dict[str, Any]:
    """The usual way: boto3's paginator over everything, against the set of what is known."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=config.endpoint_url,
        aws_access_key_id=config.access_key,
        aws_secret_access_key=config.secret_key,
        region_name=config.region,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={}),
    )
    ledger = lake.read("objects", project.name, columns=["key", "object_version"], newest=False)
    known = set(ledger.iter_rows())
    requests, new = 0, 0
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX):
        requests += 1
        new += sum((one["Key"], one["ETag"].strip('"')) not in known for one in page.get("Contents", []))
    return {"objects": new, "list_requests": requests}


def run_side(name: str, config: StoreConfig, now: datetime) -> dict[str, Any]:
    secrets = {"access_key": config.access_key, "secret_key": config.secret_key, "endpoint_url": config.endpoint_url}
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, __file__, "--side", name, "--now", now.isoformat()],
        input=json.dumps(secrets),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{name:8s} {result['objects']:6,} new objects, {result['list_requests']:5,} LIST requests, "
        f"{result['seconds']:6.2f} s ({result['cpu_seconds']:.2f} s CPU), peak memory "
        f"{result['peak_memory_bytes'] / 1e6:.0f} MB, of which {result['grown_bytes'] / 1e6:.0f} MB for the work",
        flush=True,
    )
    return result


def commit_waiting(project: Project, lake: Lake, now: datetime) -> None:
    """Write the ledger of what was planned, as a commit does."""
    for planned in planning.plans_in_waiting(project, lake):
        rows = [
            {
                "project": project.name,
                "bucket": BUCKET,
                "key": ref.key,
                "object_version": ref.version,
                "revision": 1,
                "status": "loaded",
                "ingest_batch": planned["batch"],
                "committed_at": now,
            }
            for ref in planning.refs(planned)
        ]
        lake.append("objects", rows, app_id=f"ingest/{project.name}/{planned['batch']}")


def compare(config: StoreConfig, objects: int) -> dict[str, Any]:
    """Sweep once, then two half hours later find the new objects; at the end the rival."""
    project = Project.model_validate(PROJECT)
    lake = Lake(config, project.lake.bucket)
    tomorrow = datetime.now(UTC) + timedelta(days=1)  # by the server's clock all was written before the window
    sweep = run_side("sweep", config, tomorrow)
    run_side("look", config, tomorrow + timedelta(hours=3))
    new = [key(number) for number in range(objects, objects + NEW_IN_LAST + NEW_IN_NEXT)]
    # The last folder is full by its number; what comes late into it still sorts behind what is there.
    last = key(objects - 1).rpartition("/")[0]
    new[:NEW_IN_LAST] = [f"{last}/{name.rpartition('/')[2]}" for name in new[:NEW_IN_LAST]]
    write_objects(config, new)
    rival = run_side("rescan", config, tomorrow)
    look = run_side("look", config, tomorrow + timedelta(hours=3, minutes=30))
    commit_waiting(project, lake, tomorrow)
    idle = run_side("look", config, tomorrow + timedelta(hours=4))
    if (look["objects"], rival["objects"], idle["objects"]) != (len(new), len(new), 0):
        raise SystemExit("the sides did not find the same objects: these figures compare nothing")
    return {
        "bench": "discover",
        "ratio": round(rival["list_requests"] / look["list_requests"], 1),
        "ours": look["list_requests"],
        "rivals": {"full rescan": rival["list_requests"]},
        "unit": "LIST requests to find the new objects",
        "n": objects,
        "list_requests": look["list_requests"],
        "ratio_seconds": round(rival["seconds"] / look["seconds"], 1),
        "seconds": {"look": round(look["seconds"], 2), "full rescan": round(rival["seconds"], 2)},
        "idle_list_requests": idle["list_requests"],
        "sweep": {
            "list_requests": sweep["list_requests"],
            "seconds": round(sweep["seconds"], 2),
            "peak_memory_bytes": sweep["peak_memory_bytes"],
            "grown_bytes": sweep["grown_bytes"],
        },
        "rescan_grown_bytes": rival["grown_bytes"],
        "new": len(new),
    }


def main() -> int:
    """Prepare, measure, print one line for each side, then the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=OBJECTS)
    parser.add_argument("--side", choices=["sweep", "look", "rescan"])
    parser.add_argument("--now", type=datetime.fromisoformat)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(side(options.side, StoreConfig(**json.load(sys.stdin)), options.now)))
        return 0
    kept = Home().path / "bench" / f"discover-{options.objects}"
    prepare(kept, Project.model_validate(PROJECT), options.objects)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        work = Path(folder, "s3")
        shutil.copytree(kept, work)
        with run_server(work) as server:
            figure = compare(config_of(server), options.objects)
    print(json.dumps(figure))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
