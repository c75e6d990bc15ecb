"""What every DAG of the loop shares: defaults, tags, the clock, and the way from connections to clients.

Imported by DAG files at parse time, so nothing here is heavy or touches a service before a task calls it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param
from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule

from include.errors import ObjectError, ProjectError, QuarantineLimitError, TrainingError

if TYPE_CHECKING:
    from labelwheel_argilla.client import ArgillaClient

    from include.ingestion.landing import Landing
    from include.lake import Lake, StoreConfig
    from include.project import Project

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "labelwheel",
    "retries": 3,
    "retry_delay": timedelta(seconds=5),  # services restart in seconds; exponential from here
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
    "execution_timeout": timedelta(hours=1),
    "retry_policy": ExceptionRetryPolicy(
        rules=[
            RetryRule(
                exception=[ProjectError, ObjectError, QuarantineLimitError, TrainingError],
                action=RetryAction.FAIL,
                reason="the same input fails the same way",
            )
        ]
    ),
}

# The form of the ingest DAG. Everything but mode and sweep is for a replay.
INGEST_PARAMS: dict[str, Param] = {
    "mode": Param(
        "new_objects",
        type="string",
        enum=["new_objects", "replay"],
        values_display={"new_objects": "Load new objects", "replay": "Replay rows in quarantine"},
        description="What this run does.",
    ),
    "sweep": Param(
        False, type="boolean", description="Compare every object with the ledger now, not only the places of late."
    ),
    "dry_run": Param(
        True, type="boolean", section="Replay", description="Only say what would pass today; move nothing."
    ),
    "batches": Param(
        [], type="array", items={"type": "integer"}, section="Replay", description="Ingest batches; empty: all."
    ),
    "check": Param(
        None,
        type=["null", "string"],
        section="Replay",
        description="Only rows that failed this check, for example expect_column_values_to_be_in_set.",
    ),
    "key": Param(
        None,
        type=["null", "string"],
        section="Replay",
        description="Only rows of this object; with a / at the end: of this folder.",
    ),
    "limit": Param(
        10_000, type="integer", minimum=1, maximum=100_000, section="Replay", description="At most this many rows."
    ),
}

# The form of the sample DAG.
SAMPLE_PARAMS: dict[str, Param] = {
    "request_id": Param(
        None,
        type=["null", "string"],
        maxLength=64,
        description="Name of an extra batch outside the cycle. Empty: the batch of the present cycle slot.",
    )
}

# Back-pressure. Their slots are in deploy/pools.json; a task whose pool does not exist is never started.
POOL_STAGE = "labelwheel_stage"
POOL_COMMIT = "labelwheel_commit"
POOL_MAINTAIN = "labelwheel_maintain"


def tags(step: str, project: Project) -> list[str]:
    """The closed vocabulary: exactly one ``stage:``, one ``project:`` and ``labelwheel`` (tests/dags checks it)."""
    return ["labelwheel", f"stage:{step}", f"project:{project.name}"]


def now() -> datetime:
    """The clock, read in tasks only; the logic in ``include/`` gets the time handed in."""
    return datetime.now(UTC)


def run_moment(dag_run: Any) -> datetime:
    """When a run was meant to happen: its cron slot or backfilled date; without one, when it was created."""
    moment: datetime = getattr(dag_run, "logical_date", None) or dag_run.run_after
    return moment


def ingest_schedule(project: Project) -> Any:
    """Cron; where the project names a queue of S3 events also whenever objects land, as a watcher sees them."""
    from airflow.sdk import AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable

    from include.assets import loop_assets

    source, cron = project.source, CronTriggerTimetable(project.schedule.ingest, timezone="UTC")
    if not source.events_queue_url:
        return cron
    from labelwheel_events import S3EventsTrigger

    trigger = S3EventsTrigger(project.connections.s3, source.events_queue_url, source.bucket, source.prefix)
    watcher = AssetWatcher(name=f"{project.name}_landing", trigger=trigger)
    landing = loop_assets(project, landing_watchers=[watcher]).landing
    return AssetOrTimeSchedule(timetable=cron, assets=[landing])


def plan_ingest(project: Project, params: dict[str, Any], dag_run: Any) -> list[int]:
    """Freeze what an ingest run is asked to do; the numbers of its batches.

    :raises AirflowSkipException: when there is nothing to do, with the reason; also after a dry run.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    from include.ingestion.events import hinted_keys
    from include.ingestion.requests import plan_run

    hints = hinted_keys(event.extra for event in reversed(dag_run.consumed_asset_events or []))
    planned = plan_run(
        project, lake_of(project), landing_of(project), params, request_id=dag_run.run_id, hints=hints, now=now()
    )
    if not planned["batches"]:
        raise AirflowSkipException(planned["why"])
    batches: list[int] = planned["batches"]
    return batches


def store_config(project: Project) -> StoreConfig:
    """How to reach the project's object store, from its Airflow connection of type ``aws``."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    from include.lake import StoreConfig

    hook: Any = AwsGenericHook(aws_conn_id=project.connections.s3, client_type="s3")
    credentials = hook.get_credentials()
    return StoreConfig(
        endpoint_url=hook.conn_config.get_service_endpoint_url("s3"),
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        session_token=credentials.token,
        region=hook.conn_region_name or "us-east-1",
    )


def lake_of(project: Project) -> Lake:
    """The project's tables and files."""
    from include.lake import Lake

    return Lake(store_config(project), project.lake.bucket, project.lake.prefix)


def landing_of(project: Project) -> Landing:
    """The folder where the project's new data lands."""
    from include.ingestion.landing import Landing

    return Landing(store_config(project), project.source.bucket, project.source.prefix)


@contextmanager
def argilla_of(project: Project) -> Iterator[ArgillaClient]:
    """A client of the project's Argilla, closed afterwards."""
    from labelwheel_argilla.hook import ArgillaHook

    with ArgillaHook(project.connections.argilla).client as client:
        yield client


def plan_batch(project: Project, model_version: str | None, request_id: str | None, dag_run: Any) -> str:
    """Take from the queue what waited too long, then plan the batch that what is left allows; its id.

    :raises AirflowSkipException: when there is no batch to push, with the reason.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    from include.labeling.queue import tend_queue
    from include.sampling.plan import plan_cycle

    lake, at = lake_of(project), now()
    with argilla_of(project) as argilla:
        queue = tend_queue(project, lake, argilla, now=at)
    planned = plan_cycle(
        project,
        lake,
        request_id=request_id,
        moment=run_moment(dag_run),
        open_records=queue["open_records"],
        median_age_days=queue["median_age_days"],
        model_version=model_version,
        now=at,
    )
    if planned["outcome"] in ("skipped", "pushed"):
        raise AirflowSkipException(planned["why"])
    batch_id: str = planned["batch_id"]
    return batch_id


def refresh_suggestions(project: Project, model_version: str | None) -> dict[str, Any]:
    """Show what waits for people with the suggestions of this model.

    :raises AirflowSkipException: without a model.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    from include.labeling import pending

    if model_version is None:
        raise AirflowSkipException("There is no champion yet: nobody suggests anything.")
    with argilla_of(project) as argilla:
        return pending.refresh_suggestions(project, lake_of(project), argilla, model_version)


def push(project: Project, batch_id: str, event: Any) -> dict[str, Any]:
    """Show a planned batch to people, and put its counts on the asset event. Safe to repeat at any point."""
    from include.labeling.push import push_batch
    from include.sampling.plan import mark_pushed

    lake = lake_of(project)
    with argilla_of(project) as argilla:
        counts: dict[str, Any] = push_batch(project, lake, argilla, batch_id)
    mark_pushed(lake, batch_id=batch_id, counts=counts)
    event.extra = {"batch_id": batch_id, **counts}
    return counts
