"""Pick the records worth a person's time and show them in Argilla, with the champion's suggestion and a reason.

- **Runs when** the cycle's cron says so, when records arrive or another champion leads (the run then joins the cycle
  slot it falls into), or by hand: a `request_id` makes an extra batch.
- **Reads** `records`, `predictions`, the open queue in Argilla. **Writes** `predictions`, `selections`, `decisions`,
  and the records of the batch in Argilla.
- **Re-run** is safe because the plan of a batch is a create-only file: the same slot gives the same batch, and records
  reach Argilla under their own id. A skipped `plan` says why (also in `decisions`).
- **If it fails** while pushing, clear the task: it goes on where it stopped. See docs/runbooks/sample.md.
"""

import labelwheel_runtime as runtime
from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Param, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from include.assets import loop_assets
from include.project import Project, load_projects


def build(project: Project) -> None:
    assets = loop_assets(project)

    @dag(
        dag_id=project.dag_id("sample"),
        dag_display_name=f"{project.title} · sample",
        description="Records → a batch for people, with suggestions",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable(project.schedule.cycle, timezone="UTC"),
            assets=(assets.records | assets.champion),
        ),
        max_active_runs=1,  # two plans at once would both see the same free records
        default_args=runtime.DEFAULT_ARGS,
        doc_md=__doc__,
        tags=runtime.tags("sample", project),
        params={
            "request_id": Param(
                None,
                type=["null", "string"],
                maxLength=64,
                description="Name of an extra batch outside the cycle. Empty: the batch of the present cycle slot.",
            )
        },
    )
    def sample() -> None:
        @task(outlets=[assets.predictions])
        def score(*, outlet_events=None) -> str | None:
            from include.training.score import score_candidates

            counts = score_candidates(project, runtime.lake_of(project), now=runtime.now())
            outlet_events[assets.predictions].extra = counts
            return counts["model_version"]

        @task
        def plan(model_version: str | None, params=None, dag_run=None) -> str:
            from include.labeling.queue import open_records
            from include.sampling.plan import plan_cycle

            with runtime.argilla_of(project) as argilla:
                waiting = open_records(project, argilla)
            planned = plan_cycle(
                project,
                runtime.lake_of(project),
                request_id=params["request_id"],
                moment=runtime.run_moment(dag_run),
                open_records=waiting,
                model_version=model_version,
                now=runtime.now(),
            )
            if planned["outcome"] in ("skipped", "pushed"):
                raise AirflowSkipException(planned["why"])
            return planned["batch_id"]

        @task(outlets=[assets.batches])
        def push(batch_id: str, *, outlet_events=None) -> dict:
            return runtime.push(project, batch_id, outlet_events[assets.batches])

        push(plan(score()))

    sample()


for _project in load_projects():
    build(_project)
