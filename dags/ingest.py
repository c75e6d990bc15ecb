"""Bring new objects from the landing bucket into the lake: every good row once, every bad row with its reason.

- **Runs when** its cron says so, when S3 events announce objects (if the project names a queue), or by hand: to load
  at once, to sweep (compare everything with the ledger), or to replay rows in quarantine after the suite was corrected.
- **Reads** the project's landing folder and the `objects` ledger. **Writes** `records`, `quarantine`, `objects`,
  `validations`, `duplicates`, and the Data Docs of each batch.
- **Re-run** is safe because work is frozen before it is done (plan, staged result, commit) and each commit carries its
  own id: a killed task repeats its work and lands it once.
- **If it fails** in `check_quarantine`, the good rows are already stored: look at the named objects and expectations.
  Otherwise clear the failed task. See docs/runbooks/ingest.md.
"""

import labelwheel_runtime as runtime
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException
from labelwheel_data_docs import DataDocsLink

from include.assets import loop_assets
from include.project import Project, load_projects


def build(project: Project) -> None:
    assets = loop_assets(project)

    @dag(
        dag_id=project.dag_id("ingest"),
        dag_display_name=f"{project.title} · ingest",
        description="Landing objects → validated records, quarantine, ledger",
        schedule=runtime.ingest_schedule(project),
        max_active_runs=1,  # batches are committed in order: duplicates are judged against what came before
        default_args=runtime.DEFAULT_ARGS,
        doc_md=__doc__,
        tags=runtime.tags("ingest", project),
        params=runtime.INGEST_PARAMS,
    )
    def ingest() -> None:
        @task
        def plan(params=None, dag_run=None) -> list[int]:
            return runtime.plan_ingest(project, dict(params), dag_run)

        @task(pool=runtime.POOL_STAGE, map_index_template="batch {{ task.op_kwargs['batch'] }}")
        def stage(batch: int) -> dict:
            from include.ingestion.stage import stage as stage_batch

            lake, landing = runtime.lake_of(project), runtime.landing_of(project)
            return stage_batch(project, lake, landing, batch, now=runtime.now())

        @task(pool=runtime.POOL_COMMIT)
        def commit(batches: list[int], staged: list[dict]) -> dict:
            from include.ingestion.commit import commit as commit_batches

            return commit_batches(project, runtime.lake_of(project), batches, now=runtime.now())

        @task
        def data_docs(counts: dict) -> list[str]:
            from include.ingestion.data_docs import publish_committed

            return publish_committed(project, runtime.lake_of(project), counts["batches"])

        @task(pool=runtime.POOL_COMMIT)
        def link_duplicates(counts: dict) -> dict:
            from include.ingestion.duplicates import link_duplicates as link

            return link(project, runtime.lake_of(project), counts["batches"], now=runtime.now())

        @task(outlets=[assets.records])
        def announce(counts: dict, linked: dict, *, outlet_events=None) -> None:
            if not counts["records"] + counts["replayed"]["records"]:
                raise AirflowSkipException("No new or changed records: nobody needs to wake up.")
            outlet_events[assets.records].extra = {**counts, **linked}

        @task(retries=0)
        def check_quarantine(counts: dict) -> None:
            from include.ingestion.commit import check_quarantine_limit

            check_quarantine_limit(project, counts)

        batches = plan()
        counts = commit(batches, stage.expand(batch=batches))
        announce(counts, link_duplicates(counts))
        data_docs(counts).operator.operator_extra_links = (DataDocsLink(),)
        check_quarantine(counts)

    ingest()


for _project in load_projects():
    build(_project)
