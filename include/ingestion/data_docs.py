"""Data Docs: for each ingest batch a page of what Great Expectations found, and an index, as a static site in the lake.

``data_docs/<project>/validations/<batch>.html`` and ``data_docs/<project>/index.html`` link to each other by relative
paths, so that the folder can be served by the bucket, by Airflow (``plugins/labelwheel_data_docs.py``) or from a disk.
The index lists the newest batches; what it lists is kept beside it in ``index.json``.
"""

from __future__ import annotations

import json
from datetime import datetime
from html import escape
from typing import Any

from include.errors import StorageError
from include.ingestion.planning import stage_path
from include.lake import Lake
from include.lake.keys import canonical_json
from include.project import Project
from include.validation.pages import page, validation_page, verdict_of

LISTED_BATCHES = 200
SWAP_ATTEMPTS = 20


def index_path(project: Project) -> str:
    """Where the index is kept."""
    return f"data_docs/{project.name}/index.html"


def page_path(project: Project, batch: int) -> str:
    """Where the page of a batch is kept."""
    return f"data_docs/{project.name}/validations/{batch:08d}.html"


def render(result: dict[str, Any], *, project: Project, batch: int, validated_at: datetime) -> bytes:
    """The page of one batch: HTML that stands alone.

    :param result: ``BatchVerdict.result``.
    """
    return validation_page(
        result,
        title=f"{project.title}: ingest batch {batch}",
        facts=[("Validated", f"{validated_at:%Y-%m-%d %H:%M} UTC")],
        above='<p class="soft"><a href="../index.html">All batches</a></p>',
    ).encode()


def publish(project: Project, lake: Lake, batch: int, result: dict[str, Any], *, validated_at: datetime) -> str:
    """Write the page of a batch and list it in the index. Safe to repeat: the same batch gives the same page.

    :returns: where the page is, as ``s3://…``.
    :raises StorageError: when storage fails.
    """
    path = page_path(project, batch)
    lake.files.put(path, render(result, project=project, batch=batch, validated_at=validated_at))
    kind, sentence = verdict_of(result)
    statistics, own = result["statistics"], result["meta"]["labelwheel"]
    entry = {
        "batch": batch,
        "validated_at": validated_at.isoformat(),
        "kind": kind,
        "verdict": sentence,
        "rows": own["rows"],
        "met": statistics["successful_expectations"],
        "not_met": statistics["unsuccessful_expectations"],
        "skipped": len(own["skipped"]),
    }
    lake.files.put(index_path(project), _index(project, _listed(project, lake, entry)))
    return lake.files.uri(path)


def publish_committed(project: Project, lake: Lake, batches: list[int]) -> list[str]:
    """Write the pages of committed batches.

    :returns: where the pages are, as ``s3://…``.
    :raises StorageError: when a batch is not committed, or the lake cannot be reached.
    """
    pages = []
    for batch in batches:
        report = lake.files.get_json(stage_path(project, batch, "report.json"))
        resolved = lake.files.get_json(stage_path(project, batch, "resolved.json"))
        if report is None or resolved is None:
            raise StorageError(
                f"ingest batch {batch} of project {project.name!r} has no staged report any more",
                remedy="Nothing to do for a batch that maintenance expired; else commit it first.",
            )
        at = datetime.fromisoformat(resolved["committed_at"])
        pages.append(publish(project, lake, batch, report["validation"], validated_at=at))
    return pages


def _listed(project: Project, lake: Lake, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Add an entry to those the index lists; newest batch first."""
    path = f"data_docs/{project.name}/index.json"
    for _ in range(SWAP_ATTEMPTS):
        found = lake.files.get_versioned(path)
        listed = json.loads(found[0]) if found else []
        kept = [one for one in listed if one["batch"] != entry["batch"]]
        entries = sorted([*kept, entry], key=lambda one: -int(one["batch"]))[:LISTED_BATCHES]
        if entries == listed or lake.files.swap(path, canonical_json(entries).encode(), found[1] if found else None):
            return entries
    raise StorageError(
        f"the Data Docs index of project {project.name!r} kept changing while a batch was added to it",
        remedy="Run the task again, with fewer writers at once.",
    )


def _index(project: Project, entries: list[dict[str, Any]]) -> bytes:
    def row(one: dict[str, Any]) -> str:
        skipped = f'<span class="soft"> · {int(one["skipped"])} skipped</span>' if one["skipped"] else ""
        batch = int(one["batch"])
        return (
            f'<tr><td class="whole"><a href="validations/{batch:08d}.html">Batch {batch}</a></td>'
            f'<td class="whole">{datetime.fromisoformat(one["validated_at"]):%Y-%m-%d %H:%M} UTC</td>'
            f'<td class="number">{int(one["rows"]):,}</td>'
            f"<td>{int(one['met'])} met · {int(one['not_met'])} not met{skipped}</td>"
            f'<td class="{escape(one["kind"])}">{escape(one["verdict"])}</td></tr>'
        )

    title = f"{project.title}: data docs"
    head = '<tr><th>Batch</th><th>Validated</th><th class="number">Rows</th><th>Expectations</th><th>Verdict</th></tr>'
    more = f'<p class="soft">The newest {LISTED_BATCHES} batches.</p>' if len(entries) == LISTED_BATCHES else ""
    body = [
        f"<h1>{escape(title)}</h1>",
        '<p class="soft">What Great Expectations found in each ingest batch, newest first.</p>',
        f"<table>\n{head}\n{''.join(row(one) for one in entries)}\n</table>{more}",
    ]
    return page(title, "\n".join(body)).encode()
