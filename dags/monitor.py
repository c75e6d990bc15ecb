"""Measure whether the champion still fits the data: drift of its predictions, and its accuracy in production.

- **Runs when** its cron says so, and when the champion has scored new records or labels were decided.
- **Reads** `records`, `predictions`, `selections`, `labels`. **Writes** `metrics`: value, interval, n and method.
- **Re-run** is safe because a figure is stored under (name, cycle, slice): the same cycle is measured once.
- **If it fails** nothing else stops; clear the task. A figure that cannot be measured yet is skipped with the reason.
  See docs/runbooks/monitor.md.
"""

import labelwheel_runtime as runtime
from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from include.assets import loop_assets
from include.project import Project, load_projects


def build(project: Project) -> None:
    assets = loop_assets(project)

    @dag(
        dag_id=project.dag_id("monitor"),
        dag_display_name=f"{project.title} · monitor",
        description="Predictions and labels → drift and production accuracy",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable(project.schedule.monitor, timezone="UTC"),
            assets=(assets.predictions | assets.labels),
        ),
        max_active_runs=1,  # figures of one cycle are measured once
        default_args=runtime.DEFAULT_ARGS,
        doc_md=__doc__,
        tags=runtime.tags("monitor", project),
    )
    def monitor() -> None:
        @task(outlets=[assets.metrics])
        def drift(dag_run=None, *, outlet_events=None) -> dict:
            from include.monitoring.drift import measure_drift

            cycle = runtime.run_moment(dag_run).strftime("%Y-%m-%dT%H:%M:%SZ")
            figure = measure_drift(project, runtime.lake_of(project), cycle=cycle, now=runtime.now())
            if figure["value"] is None:
                raise AirflowSkipException(figure["why"])
            outlet_events[assets.metrics].extra = figure
            return figure

        @task(outlets=[assets.metrics])
        def accuracy(dag_run=None, *, outlet_events=None) -> dict:
            from include.monitoring.accuracy import measure_accuracy

            cycle = runtime.run_moment(dag_run).strftime("%Y-%m-%dT%H:%M:%SZ")
            figure = measure_accuracy(project, runtime.lake_of(project), cycle=cycle, now=runtime.now())
            if figure["value"] is None:
                raise AirflowSkipException(figure["why"])
            outlet_events[assets.metrics].extra = figure
            return figure

        drift()
        accuracy()

    monitor()


for _project in load_projects():
    if _project.training is not None:
        build(_project)
