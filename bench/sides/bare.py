"""The least that can be done: obstore and pyarrow; no hash, no validation, no ledger."""

from __future__ import annotations

from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
from obstore.store import S3Store

from bench.sides.clock import Job, measure


def main() -> None:
    """Measure one run."""
    job = Job.read()

    def store(bucket: str) -> S3Store:
        return S3Store(
            bucket,
            endpoint=job.endpoint_url,
            access_key_id=job.access_key,
            secret_access_key=job.secret_key,
            region=job.region,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    landing, lake = store(job.landing), store(job.lake)

    def work(prefix: str, keys: list[str], output: str) -> dict[str, Any]:
        rows = 0
        for key in keys:
            data = obstore.get(landing, key).bytes()
            table = pj.read_json(pa.BufferReader(data))
            sink = BytesIO()
            pq.write_table(table, sink, compression="zstd")
            obstore.put(lake, f"{output}/{PurePosixPath(key).stem}.parquet", sink.getvalue())
            rows += table.num_rows
        return {"rows": rows}

    measure(work, job)


if __name__ == "__main__":
    main()
