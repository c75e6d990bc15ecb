"""What may be put before people (how it gets there is tested with a real Argilla in tests/integration)."""

from __future__ import annotations

import pytest

from include.labeling.push import _contents
from include.lake import Lake, keys
from tests.include.conftest import ProjectFactory


@pytest.mark.parametrize(("column", "shown"), [(None, {"yes", "nobody asked"}), ("agreed", {"yes"})])
def test_records_without_consent_are_withheld(
    lake: Lake, make_project: ProjectFactory, column: str | None, shown: set[str]
):
    """Also when the consent was withdrawn after the batch was planned: the newest revision decides."""
    project = make_project(source={"consent_column": column})
    names = {keys.record_id(project.name, name): name for name in ("yes", "no", "withdrawn", "nobody asked")}
    consent = {"yes": True, "no": False, "withdrawn": True, "nobody asked": None}
    rows = [
        {
            "project": project.name,
            "shard": keys.shard(one),
            "record_id": one,
            "revision": 1,
            "content_hash": "c",
            "consent": consent[name],
        }
        for one, name in names.items()
    ]
    withdrawn = [
        {**row, "revision": 2, "consent": False} for row in rows if names[str(row["record_id"])] == "withdrawn"
    ]
    lake.append("records", [*rows, *withdrawn], app_id="test")
    assert {names[one] for one, _ in _contents(project, lake, list(names))} == shown
