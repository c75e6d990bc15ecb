"""Count what is in the lake, per project, as one JSON object (run in the Airflow environment).

The demo and the tests compare these counts before and after; nothing in the loop reads them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from include.lake import Lake, StoreConfig
from include.project import Project, load_projects
from standalone.stack import LAKE_BUCKET, Stack


def lake_of(stack: Stack) -> Lake:
    """The lake of a standalone stack."""
    server = stack.s3_server
    return Lake(StoreConfig(server.endpoint_url, server.access_key_id, server.secret_access_key), LAKE_BUCKET)


def count(project: Project, lake: Lake) -> dict[str, Any]:
    """Rows per table (current versions), and how many rows are stored twice under one key (must be 0)."""
    champion = lake.files.get_json(f"champions/{project.name}.json")
    labels = lake.read("labels", project.name, columns=["status"])
    responses = lake.read("responses", project.name, columns=["status"])
    report = {
        table: lake.read(table, project.name, columns=["project"]).height
        for table in ("objects", "records", "quarantine", "predictions", "selections", "models", "decisions", "metrics")
    }
    stored = lake.read("records", project.name, columns=["record_id", "revision"], newest=False)
    return {
        **report,
        "responses": responses.filter(responses["status"] == "submitted").height,
        "labels": labels.filter(labels["status"] == "final").height,
        "needs_adjudication": labels.filter(labels["status"] == "needs_adjudication").height,
        "doubled_records": stored.height - stored.unique().height,
        "champion": champion["model_version"] if champion else None,
    }


def main() -> int:
    """Print the counts of every project."""
    lake = lake_of(Stack.load())
    sys.stdout.write(json.dumps({project.name: count(project, lake) for project in load_projects()}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
