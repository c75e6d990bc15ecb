"""Records per second that reach Argilla by ``push_batch``, against the Argilla SDK's own ``records.log``: 1.5 times.

One Argilla (on SQLite, as in the standalone stack) and one S3 server on this machine. Ours is the whole push of a batch
as the DAG does it: it reads plan and records from the lake, verifies the dataset, looks up what is there already, and
writes. The SDK gets the very same records as objects made beforehand, and only its call is timed. Each push goes to a
dataset of its own on the same server; alternating, after one round that is not counted, the median of pairwise ratios.
``ratio_cpu`` compares the CPU seconds of client and server together, which other work on the machine disturbs less.
Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from labelwheel_argilla.client import ArgillaClient

from bench.support.argilla import Argilla, run_argilla
from bench.support.environments import python_with
from include.errors import LabelwheelError
from include.labeling.push import push_batch
from include.labeling.service import Json
from include.labeling.settings import ensure_dataset
from include.lake import Lake, StoreConfig
from include.lake.keys import canonical_json, content_hash, record_id, shard
from include.project import Project
from standalone.home import REPO
from standalone.s3 import run_server

RECORDS = 4_000
PAIRS = 5
SEED = 17
WORDS_PER_RECORD = 150  # about 1,000 characters: a short e-mail
BLIND_SHARE = 0.1
BUCKET, WORKSPACE = "lake", "bench"


class Recorder(ArgillaClient):
    """The client, which remembers what it wrote."""

    def __init__(self, url: str, api_key: str) -> None:
        super().__init__(url, api_key)
        self.written: list[Json] = []

    def upsert_records(self, dataset_id: str, records: Sequence[Json]) -> None:
        """As the client does it."""
        super().upsert_records(dataset_id, records)
        self.written += records


def project(version: int) -> Project:
    """The same project with another dataset for each version."""
    return Project.model_validate(
        {
            "name": "bench",
            "title": "Bench",
            "lake": {"bucket": BUCKET},
            "source": {
                "prefix": "in/",
                "fields": {"subject": {"title": "Subject"}, "body": {"title": "Message"}},
                "metadata": {
                    "sender": {"title": "Sender"},
                    "characters": {"title": "Length in characters", "type": "integer"},
                },
            },
            "labeling": {
                "workspace": WORKSPACE,
                "schema_version": version,
                "guidelines": "Nobody labels the records of a benchmark.",
                "questions": [
                    {"name": "kind", "type": "label", "title": "Which?", "labels": {"spam": "Spam", "ham": "Ham"}}
                ],
            },
        }
    )


def fill(lake: Lake, records: int) -> str:
    """Records and a planned batch of all of them; its id."""
    dice = random.Random(SEED)  # noqa: S311 - repeatable, not secret
    words = [f"{a}{b}{c}" for a in ("con", "re", "over") for b in ("mail", "list", "send") for c in ("ing", "er", "s")]
    rows, selections = [], []
    for number in range(records):
        body = " ".join(dice.choices(words, k=WORDS_PER_RECORD))
        fields = {"subject": f"Message {number}", "body": body}
        key = {"record_id": record_id("bench", str(number)), "content_hash": content_hash(fields)}
        metadata = {"sender": f"host{number % 50}.example", "characters": len(body)}
        rows.append(
            {
                "project": "bench",
                "shard": shard(key["record_id"]),
                "revision": 1,
                "fields_json": canonical_json(fields),
                "metadata_json": canonical_json(metadata),
                **key,
            }
        )
        confidence = dice.uniform(0.4, 0.9)
        selections.append(
            {
                **key,
                "strategy": "margin",
                "model_version": "m-17",
                "blind": dice.random() < BLIND_SHARE,
                "score": confidence,
                "tier": 0,
                "reason": f"The model is unsure: Spam {confidence:.0%}, Ham {1 - confidence:.0%}",
                "suggestion": {"value": "spam", "score": confidence},
            }
        )
    lake.append("records", rows, app_id="bench")
    plan = {"batch_id": "bench/cycle/one", "kind": "cycle", "cycle": "one", "selections": selections}
    lake.files.create_json("batches/bench/cycle/one.json", plan)
    return str(plan["batch_id"])


class Spent(NamedTuple):
    """Seconds of one side, and CPU seconds of client and server together."""

    seconds: float
    cpu_seconds: float


def ours(argilla: Argilla, lake: Lake, batch_id: str, version: int) -> tuple[Spent, list[Json]]:
    """One push, and what it wrote."""
    with Recorder(argilla.url, argilla.keys["owner"]) as client:
        client.version()  # connects
        begun, cpu = time.perf_counter(), time.process_time() + argilla.cpu_seconds()
        counts = push_batch(project(version), lake, client, batch_id)
        spent = Spent(time.perf_counter() - begun, time.process_time() + argilla.cpu_seconds() - cpu)
        require_all(client, counts["dataset_id"], len(client.written))
        return spent, client.written


def sdk(argilla: Argilla, python: Path, records: Path, count: int, version: int) -> Spent:
    """One ``records.log``, in a process of its own."""
    with ArgillaClient(argilla.url, argilla.keys["owner"]) as client:
        dataset_id = ensure_dataset(project(version), client)["dataset_id"]
        job = {
            "url": argilla.url,
            "api_key": argilla.keys["owner"],
            "workspace": WORKSPACE,
            "dataset": project(version).dataset,
            "records": str(records),
        }
        cpu = argilla.cpu_seconds()
        done = subprocess.run(  # noqa: S603 - ourselves
            [str(python), str(REPO / "bench" / "sides" / "sdk_log.py")],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"the SDK's side failed: {done.stderr[-1000:]}")
        cpu = argilla.cpu_seconds() - cpu
        require_all(client, dataset_id, count)
    figures = json.loads(done.stdout.splitlines()[-1])
    return Spent(figures["seconds"], figures["cpu_seconds"] + cpu)


def require_all(client: ArgillaClient, dataset_id: str, count: int) -> None:
    """Stop when a side lost or doubled records: its speed means nothing."""
    _, total = client.search_records(dataset_id, limit=1)
    if total != count:
        raise SystemExit(f"{total} of {count} records are in Argilla: these figures compare nothing")


def for_sdk(written: Sequence[Json], path: Path) -> None:
    """The same records, as the SDK's side reads them."""
    lines = []
    for one in written:
        shown = next(iter(one.get("suggestions", [])), None)
        suggestion = shown and {key: shown[key] for key in ("value", "score", "agent")}
        record = {"id": one["external_id"], "fields": one["fields"], "metadata": one["metadata"], "vectors": {}}
        lines.append(json.dumps({**record, "suggestion": suggestion}))
    path.write_text("\n".join(lines), encoding="utf-8")


def compare(folder: Path, records: int, pairs: int) -> dict[str, Any]:
    """Alternate between the sides and compare."""
    python = python_with("argilla_sdk")
    for name in ("s3", "argilla"):
        (folder / name).mkdir()
    with run_server(folder / "s3") as s3, run_argilla(folder / "argilla") as argilla:
        s3.client().create_bucket(Bucket=BUCKET)
        with argilla.http() as http:
            http.post("/api/v1/workspaces", json={"name": WORKSPACE}).raise_for_status()
        lake = Lake(StoreConfig(s3.endpoint_url, s3.access_key_id, s3.secret_access_key, region=s3.region_name), BUCKET)
        batch_id = fill(lake, records)
        path = folder / "records.jsonl"
        spent: dict[str, list[Spent]] = {"ours": [], "sdk": []}
        for pair in range(pairs + 1):
            mine, written = ours(argilla, lake, batch_id, 2 * pair + 1)
            for_sdk(written, path)
            rival = sdk(argilla, python, path, records, 2 * pair + 2)
            print(
                f"push {records / mine.seconds:6.0f} records/s, SDK {records / rival.seconds:6.0f} records/s; "
                f"CPU {mine.cpu_seconds:.1f} and {rival.cpu_seconds:.1f} s{'' if pair else ' (warm-up, not counted)'}",
                flush=True,
            )
            if pair:
                spent["ours"].append(mine)
                spent["sdk"].append(rival)
    pairs_of = list(zip(spent["ours"], spent["sdk"], strict=True))
    ratios = [rival.seconds / mine.seconds for mine, rival in pairs_of]
    rates = {name: round(statistics.median(records / one.seconds for one in sides)) for name, sides in spent.items()}
    return {
        "bench": "push",
        "ratio": round(statistics.median(ratios), 2),
        "ours": rates["ours"],
        "rivals": {"argilla 2.8.0 records.log": rates["sdk"]},
        "unit": "records/s",
        "n": records,
        "ratios": [round(ratio, 2) for ratio in ratios],
        "ratio_cpu": round(statistics.median(rival.cpu_seconds / mine.cpu_seconds for mine, rival in pairs_of), 2),
    }


def main() -> int:
    """Measure, and print one line per pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="labelwheel-push-") as folder:
            figure = compare(Path(folder), options.records, options.pairs)
    except LabelwheelError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(figure))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
