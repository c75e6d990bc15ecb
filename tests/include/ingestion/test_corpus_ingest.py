"""The whole hostile corpus lands in one bucket at once: every object meets its fate, and no row is lost or doubled."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from include.ingestion.commit import commit
from include.ingestion.landing import Landing
from include.ingestion.planning import plan
from include.ingestion.stage import stage
from include.lake import Lake
from include.project import Source
from tests.corpus.hostile import CASES, SOURCES
from tests.include.conftest import Bucket, ProjectFactory

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("form", sorted(SOURCES))
def test_every_object_meets_its_fate_and_the_figures_add_up(
    make_project: ProjectFactory, bucket: Bucket, lake: Lake, form: str
):
    cases = {}
    for number, case in enumerate(one for one in CASES if one.format == form):
        # a folder of its own: the ending, and for whole objects the name, belong to the case
        cases[bucket.put(f"{number:03d}/{case.key}", case.data())] = case
    assert len(cases) >= 9
    source = Source.model_validate({**SOURCES[form], "prefix": bucket.prefix, "bucket": bucket.name})
    project = make_project().model_copy(update={"source": source})
    landing = Landing(bucket.config, bucket.name, bucket.prefix)
    batches = plan(project, lake, landing, now=NOW)["batches"]
    for batch in batches:
        stage(project, lake, landing, batch, now=NOW)
    counts = commit(project, lake, batches, now=NOW)
    assert plan(project, lake, landing, now=NOW)["batches"] == []

    ledger = {row["key"]: row for row in lake.read("objects", project.name).iter_rows(named=True)}
    assert set(ledger) == set(cases)
    assert counts["rows"] == counts["records"] + counts["duplicates"] + counts["quarantined"]
    wrong = [(case.name, case.fate, ledger[key]) for key, case in cases.items() if not _is(case.fate, ledger[key])]
    assert wrong == []
    quarantine = lake.read("quarantine", project.name, newest=False)
    assert quarantine.height == counts["quarantined"]
    assert quarantine.unique(["key", "row_number"]).height == quarantine.height
    records = lake.read("records", project.name, newest=False)
    assert records.height == counts["records"]
    assert records.unique(["record_id", "revision"]).height == records.height
    rejected = quarantine.filter(pl.col("row_number") == -1)
    checks = {key: case.fate.rejected for key, case in cases.items() if case.fate.rejected}
    assert dict(rejected.select("key", "failures_json").iter_rows()).keys() == checks.keys()


def _is(fate: Any, row: dict[str, Any]) -> bool:
    if fate.rejected:
        return (row["status"], row["rows"], row["quarantined"]) == ("rejected", 1, 1)
    bad = sum(fate.unreadable.values()) + sum(fate.misfit.values())
    found = (row["status"], row["accepted"] + row["duplicates"], row["quarantined"])
    return found == ("loaded", fate.good, bad)
