"""dlt: its file system source → its file system destination, Parquet, without validation.

With the setting ``arrow`` false the rows are read by dlt's own ``read_jsonl`` (the stock way), with true by a
transformer that yields Arrow tables.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"

import dlt
import pyarrow as pa
import pyarrow.json as pj
from dlt.common.configuration.specs import AwsCredentials
from dlt.sources.filesystem import FileItemDict, filesystem, read_jsonl

from bench.sides.clock import Job, measure


def read_arrow(items: Iterator[FileItemDict]) -> Iterator[pa.Table]:
    """Each file as one Arrow table."""
    for item in items:
        yield pj.read_json(pa.BufferReader(item.read_bytes()))


def main() -> None:
    """Measure one run."""
    job = Job.read()
    credentials = AwsCredentials(
        aws_access_key_id=job.access_key,
        aws_secret_access_key=job.secret_key,
        endpoint_url=job.endpoint_url,
        region_name=job.region,
    )
    with tempfile.TemporaryDirectory() as folder:

        def work(prefix: str, keys: list[str], output: str) -> dict[str, Any]:
            files = filesystem(f"s3://{job.landing}/{prefix}", credentials=credentials, file_glob="*.jsonl")
            reader = dlt.transformer(read_arrow) if job.settings["arrow"] else read_jsonl()
            name = output.rpartition("/")[2]
            pipeline = dlt.pipeline(
                f"bench_{name}",
                pipelines_dir=folder,
                destination=dlt.destinations.filesystem(f"s3://{job.lake}/{output}", credentials=credentials),
                dataset_name="mails",
            )
            pipeline.run((files | reader).with_name("rows"), loader_file_format="parquet").raise_on_failed_jobs()
            return {"rows": pipeline.last_trace.last_normalize_info.row_counts["rows"]}

        measure(work, job)


if __name__ == "__main__":
    main()
