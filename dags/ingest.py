"""Bring new objects from the landing bucket into the lake: every good row once, every bad row with its reason.

- **Runs when** its cron says so, or by hand after an upload.
- **Reads** the project's landing folder and the `objects` ledger. **Writes** `records`, `quarantine`, `objects`.
- **Re-run** is safe because work is frozen before it is done (plan, staged result, commit) and each commit carries its
  own id: a killed task repeats its work and lands it once.
- **If it fails** in `check_quarantine`, the good rows are already stored: look at the named objects and expectations.
  Otherwise clear the failed task. See docs/runbooks/ingest.md.
"""

import labelwheel_runtime as runtime
from airflow.sdk import CronTriggerTimetable, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from include.assets import loop_assets
from include.project import Project, load_projects


def build(project: Project) -> None:
    assets = loop_assets(project)

    @dag(
        dag_id=project.dag_id("ingest"),
        dag_display_name=f"{project.title} · ingest",
        description="Landing objects → validated records, quarantine, ledger",
        schedule=CronTriggerTimetable(project.schedule.ingest, timezone="UTC"),
        max_active_runs=1,  # batches are committed in order: duplicates are judged against what came before
        default_args=runtime.DEFAULT_ARGS,
        doc_md=__doc__,
        tags=runtime.tags("ingest", project),
    )
    def ingest() -> None:
        @task
        def plan() -> list[int]:
            from include.ingestion import steps

            lake, landing = runtime.lake_of(project), runtime.landing_of(project)
            return steps.plan(project, lake, landing, now=runtime.now())["batches"]

        @task(map_index_template="batch {{ task.op_kwargs['batch'] }}")
        def stage(batch: int) -> dict:
            from include.ingestion import steps

            lake, landing = runtime.lake_of(project), runtime.landing_of(project)
            return steps.stage(project, lake, landing, batch, now=runtime.now())

        @task
        def commit(batches: list[int], staged: list[dict]) -> dict:
            from include.ingestion import steps

            return steps.commit(project, runtime.lake_of(project), batches, now=runtime.now())

        @task(outlets=[assets.records])
        def announce(counts: dict, *, outlet_events=None) -> None:
            if not counts["records"]:
                raise AirflowSkipException("No new or changed records: nobody needs to wake up.")
            outlet_events[assets.records].extra = counts

        @task(retries=0)
        def check_quarantine(counts: dict) -> None:
            from include.ingestion import steps

            steps.check_quarantine_limit(project, counts)

        batches = plan()
        counts = commit(batches, stage.expand(batch=batches))
        announce(counts)
        check_quarantine(counts)

    ingest()


for _project in load_projects():
    build(_project)
