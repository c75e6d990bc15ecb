"""AWS SDK for pandas (awswrangler): ``s3.read_json`` → ``s3.to_parquet``, without validation."""

from __future__ import annotations

from typing import Any

import awswrangler as wr
import boto3

from bench.sides.clock import Job, measure


def main() -> None:
    """Measure one run."""
    job = Job.read()
    wr.config.s3_endpoint_url = job.endpoint_url
    session = boto3.Session(
        aws_access_key_id=job.access_key, aws_secret_access_key=job.secret_key, region_name=job.region
    )

    def work(prefix: str, keys: list[str], output: str) -> dict[str, Any]:
        frame = wr.s3.read_json([f"s3://{job.landing}/{key}" for key in keys], lines=True, boto3_session=session)
        wr.s3.to_parquet(frame, f"s3://{job.lake}/{output}/", dataset=True, compression="zstd", boto3_session=session)
        return {"rows": len(frame)}

    measure(work, job)


if __name__ == "__main__":
    main()
