"""Labelwheel: plan → stage → commit, with the ten expectations, as the tasks of the ``ingest`` DAG call it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bench.sides.clock import Job, measure
from bench.support.mails import project_settings
from include.ingestion.commit import commit
from include.ingestion.landing import Landing
from include.ingestion.planning import plan
from include.ingestion.stage import stage
from include.lake import Lake, StoreConfig
from include.project import Project


def main() -> None:
    """Measure one run."""
    job = Job.read()
    config = StoreConfig(job.endpoint_url, job.access_key, job.secret_key, region=job.region)
    lake = Lake(config, job.lake, job.output)

    def work(prefix: str, keys: list[str], output: str) -> dict[str, Any]:
        project = Project.model_validate(project_settings(output.rpartition("/")[2], prefix))
        landing = Landing(config, job.landing, prefix)
        return ingest(project, lake, landing)

    measure(work, job)


def ingest(project: Project, lake: Lake, landing: Landing) -> dict[str, Any]:
    """Everything new, one batch after the other; returns the counts of the commit."""
    batches = plan(project, lake, landing, now=datetime.now(UTC))["batches"]
    for batch in batches:
        stage(project, lake, landing, batch, now=datetime.now(UTC))
    return commit(project, lake, batches, now=datetime.now(UTC))


if __name__ == "__main__":
    main()
