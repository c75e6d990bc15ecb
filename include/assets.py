"""Every Asset of the loop, one map. Events on them carry counts; they are hints, never data.

``landing`` (S3) → ``records`` → ``predictions`` → ``batches`` → ``activity`` (people) → ``labels`` → ``champion`` →
``predictions`` again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow.sdk import Asset

if TYPE_CHECKING:
    from airflow.sdk import AssetWatcher

    from include.project import Project


@dataclass(frozen=True)
class LoopAssets:
    """The assets of one project."""

    landing: Asset  # objects landed (raised by a watcher of S3 events)
    records: Asset  # written by ingest: new or changed records
    predictions: Asset  # written by sample: the champion's view of every record
    batches: Asset  # written by sample: a batch reached Argilla
    activity: Asset  # people answered in Argilla (raised by a watcher)
    labels: Asset  # written by collect: labels were decided, changed or withdrawn
    champion: Asset  # written by retrain: another model leads
    metrics: Asset  # written by monitor


def loop_assets(
    project: Project,
    activity_watchers: list[AssetWatcher] | None = None,
    landing_watchers: list[AssetWatcher] | None = None,
) -> LoopAssets:
    """The assets of a project; the one DAG that consumes ``activity`` or ``landing`` passes its watchers."""

    def asset(name: str, watchers: list[AssetWatcher] | None = None) -> Asset:
        uri = f"labelwheel://{project.name}/{name}"
        return Asset(name=f"{project.name}/{name}", uri=uri, group="labelwheel", watchers=watchers or [])

    return LoopAssets(
        landing=asset("landing", landing_watchers),
        records=asset("records"),
        predictions=asset("predictions"),
        batches=asset("batches"),
        activity=asset("activity", activity_watchers),
        labels=asset("labels"),
        champion=asset("champion"),
        metrics=asset("metrics"),
    )
