"""Keep the project's tables fast and its files few: compaction, checkpoints, and what nobody needs any more.

- **Runs when** its cron says so (at night), or by hand. It may run beside everything else.
- **Reads** the project's tables, and the plans and stage folders of ingest. **Writes** the same rows in fewer files,
  sorted by `record_id`, and checkpoints of the tables' logs. **Deletes** what is older than `retention_days`: files
  that left a table or never reached it, plans and stage folders of committed batches; never snapshots or models.
- **Re-run** is safe because files are swapped in one commit, which fails when anybody else swapped one of them first.
- **If it fails** nothing else stops and nothing is half done; clear the task. `waiting` or `uncommitted` in a task's
  result names ingest batches that hold the clean-up back. See docs/runbooks/maintain.md.
"""

import labelwheel_runtime as runtime
from airflow.sdk import CronTriggerTimetable, Param, dag, task

from include.project import Project, load_projects


def build(project: Project) -> None:
    @dag(
        dag_id=project.dag_id("maintain"),
        dag_display_name=f"{project.title} · maintain",
        description="Compaction, checkpoints, and files nobody needs any more",
        schedule=CronTriggerTimetable(project.schedule.maintain, timezone="UTC"),
        max_active_runs=1,  # a second run would only do the work of the first once more
        default_args={**runtime.DEFAULT_ARGS, "pool": runtime.POOL_MAINTAIN},
        doc_md=__doc__,
        tags=runtime.tags("maintain", project),
        params={
            "retention_days": Param(
                14,
                type="integer",
                minimum=7,
                maximum=365,
                description="How long files stay that no table uses, and plans and stage folders of committed batches.",
            )
        },
    )
    def maintain() -> None:
        @task
        def find_tables() -> list[str]:
            from include.lake import maintenance

            return maintenance.existing_tables(runtime.lake_of(project))

        @task(map_index_template="{{ task.op_kwargs['table'] }}")
        def tidy(table: str, params=None) -> dict:
            from include.lake import maintenance

            lake, days = runtime.lake_of(project), params["retention_days"]
            return maintenance.tidy_table(lake, table, project.name, retention_days=days, now=runtime.now())

        @task
        def expire_batches(params=None) -> dict:
            from include.lake import maintenance

            lake, days = runtime.lake_of(project), params["retention_days"]
            return maintenance.expire_batches(lake, project.name, retention_days=days, now=runtime.now())

        tidy.expand(table=find_tables())
        expire_batches()

    maintain()


for _project in load_projects():
    build(_project)
