"""One S3 server, the same objects and the same machine for every side of the ingest benchmarks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import obstore
import polars as pl
from obstore.store import S3Store

from bench.sides.clock import Job
from bench.support import mails
from bench.support.environments import bench_folder, python_with
from include.lake import Lake, StoreConfig
from standalone.home import REPO
from standalone.s3 import run_server

LANDING, LAKE = "landing", "lake"
WARM_UP_PREFIX = "warm_up/"
WARM_UP_ROWS = 200
SIDE_SECONDS = 900


@dataclass(frozen=True)
class Side:
    """One contestant.

    :param script: in ``bench/sides``.
    :param environment: in ``bench/environments``; None is the project's own.
    :param written: where below its output folder the rows it accepted are; empty when it writes to our tables.
    """

    script: str
    environment: str | None
    written: str
    settings: dict[str, Any]


OURS = Side("ours", None, "", {})
OURS_AS_TASKS = Side("ours", None, "", {"process_per_batch": True})
RIVALS = {
    "pandas_gx": Side("pandas_gx", "pandas_gx", "timed/*.parquet", {"expectations": mails.EXPECTATIONS}),
    "awswrangler": Side("wrangler", "awswrangler", "timed/*.parquet", {}),
    "dlt": Side("dlt_load", "dlt", "timed/mails/rows/*.parquet", {"arrow": False}),
    "dlt_arrow": Side("dlt_load", "dlt", "timed/mails/rows/*.parquet", {"arrow": True}),
    "bare": Side("bare", "bare", "timed/*.parquet", {}),
}


class WrongCountError(RuntimeError):
    """A side lost or doubled rows: its speed means nothing."""


@dataclass(frozen=True)
class Arena:
    """The server with its two buckets."""

    config: StoreConfig

    def store(self, bucket: str) -> S3Store:
        """A client for one bucket."""
        assert self.config.endpoint_url is not None  # noqa: S101 - we started the server
        return S3Store(
            bucket,
            endpoint=self.config.endpoint_url,
            access_key_id=self.config.access_key,
            secret_access_key=self.config.secret_key,
            region=self.config.region,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def upload(self, prefix: str, paths: list[Path], *, tag: str = "msg") -> None:
        """Put the files below the prefix, with ids of their own when a tag is given."""
        landing = self.store(LANDING)
        for path in paths:
            data = path.read_bytes()
            name = path.name.replace("mails", f"mails-{tag}")
            obstore.put(landing, prefix + name, data if tag == "msg" else mails.retag(data, tag))

    def keys(self, prefix: str) -> list[str]:
        """All objects below a prefix of the landing bucket, sorted."""
        return sorted(item["path"] for page in obstore.list(self.store(LANDING), prefix) for item in page)

    def remove(self, bucket: str, prefix: str) -> None:
        """Delete everything below a prefix."""
        store = self.store(bucket)
        for page in obstore.list(store, prefix):
            obstore.delete(store, [item["path"] for item in page])

    def run(self, side: Side, prefix: str, output: str) -> dict[str, Any]:
        """Let one side load the prefix, in a process of its own; its figures.

        :raises RuntimeError: when it fails, with the end of what it said.
        """
        job = Job(
            endpoint_url=str(self.config.endpoint_url),
            access_key=str(self.config.access_key),
            secret_key=str(self.config.secret_key),
            region=self.config.region,
            landing=LANDING,
            prefix=prefix,
            keys=self.keys(prefix),
            warm_up_prefix=WARM_UP_PREFIX,
            warm_up_keys=self.keys(WARM_UP_PREFIX),
            lake=LAKE,
            output=output,
            settings=side.settings,
        )
        python = Path(sys.executable) if side.environment is None else python_with(side.environment)
        with subprocess.Popen(  # noqa: S603 - our own script
            [str(python), str(REPO / "bench" / "sides" / f"{side.script}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPO), "GX_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"},
            start_new_session=True,  # so that its helpers can be ended with it
        ) as process:
            try:
                out, err = process.communicate(json.dumps(asdict(job)), timeout=SIDE_SECONDS)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode:
            raise RuntimeError(
                f"side {side.script} failed (exit code {process.returncode}):\n{out[-1000:]}{err[-3000:]}"
            )
        figures: dict[str, Any] = json.loads(out.splitlines()[-1])
        return figures

    def check(self, side: Side, figures: dict[str, Any], output: str, rows: int, tags: tuple[str, ...]) -> None:
        """Read back what a side wrote.

        :raises WrongCountError: when rows are missing or too many.
        """
        if side in (OURS, OURS_AS_TASKS):
            self._check_ours(figures, output, rows, tags)
            return
        options = self.config.options()
        files = pl.scan_parquet(f"s3://{LAKE}/{output}/{side.written}", storage_options=options)
        stored = files.select(pl.len()).collect().item()
        _require(side.script, "rows", rows, reported=figures["rows"], stored=stored)
        if "quarantined" in figures:
            _require(side.script, "quarantined", mails.expected_bad(rows).total(), reported=figures["quarantined"])

    def _check_ours(self, figures: dict[str, Any], output: str, rows: int, tags: tuple[str, ...]) -> None:
        each = rows // len(tags)
        bad = mails.expected_bad(each)
        bad_rows = bad.total() * len(tags)
        _require("ours", "rows", rows, reported=figures["rows"], summed=figures["records"] + figures["quarantined"])
        _require("ours", "quarantined", bad_rows, reported=figures["quarantined"])
        checks = {name: count * len(tags) for name, count in bad.items()}
        if figures["failed_checks"] != checks:
            raise WrongCountError(f"ours: failed checks are {figures['failed_checks']}, not {checks}")
        lake = Lake(self.config, LAKE, output)
        wanted = pl.concat([_source_ids(each, tag) for tag in tags])
        found = lake.read("records", "timed", columns=["source_id"], newest=False)["source_id"]
        if not found.sort().equals(wanted.filter(~_bad_mask(each, len(tags))).sort()):
            raise WrongCountError(
                f"ours: records has {len(found)} rows and they are not the {rows - bad_rows} valid ones"
            )
        raw = lake.read("quarantine", "timed", columns=["raw"], newest=False)["raw"]
        refused = raw.cast(pl.String).str.json_path_match("$.id")
        if not refused.sort().equals(wanted.filter(_bad_mask(each, len(tags))).sort()):
            raise WrongCountError(f"ours: quarantine has {len(raw)} rows and they are not the {bad_rows} invalid ones")


def _require(side: str, what: str, wanted: int, **found: int) -> None:
    for how, number in found.items():
        if number != wanted:
            raise WrongCountError(f"{side}: {what} {how}: {number}, not {wanted}")


def _source_ids(rows: int, tag: str) -> pl.Series:
    numbers = pl.Series("row", range(rows), dtype=pl.Int64)
    frame = numbers.to_frame().select(pl.format(f"{tag}-{{}}", pl.col("row").cast(pl.String).str.zfill(9)))
    return frame.to_series().alias("source_id")


def _bad_mask(rows: int, repeats: int) -> pl.Series:
    """``mails.is_bad`` of all rows, as often as they were loaded under other ids."""
    numbers = pl.Series("row", range(rows), dtype=pl.Int64)
    return pl.concat([numbers % mails.BAD_EVERY == mails.BAD_OFFSET] * repeats)


@contextmanager
def open_arena() -> Iterator[Arena]:
    """An arena for the time of the block; everything in it is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=bench_folder(), prefix="s3-") as folder, run_server(Path(folder)) as server:
        for name in (LANDING, LAKE):
            server.client().create_bucket(Bucket=name)
        arena = Arena(
            StoreConfig(server.endpoint_url, server.access_key_id, server.secret_access_key, region=server.region_name)
        )
        arena.upload(WARM_UP_PREFIX, mails.objects(bench_folder(), WARM_UP_ROWS, WARM_UP_ROWS))
        yield arena
