"""Bring people's answers back, keep every version of them, and decide labels.

- **Runs when** people were active in Argilla (a watcher in the triggerer, which holds no worker), and on a cron that
  sweeps for whatever no event announced.
- **Reads** answers in Argilla. **Writes** `responses` (a journal: nothing is overwritten), `labels`, `metrics`.
- **Re-run** is safe because an answer is stored under (record, annotator, version) and a label under a digest of its
  answers: the same answers change nothing.
- **If it fails** because the dataset is gone, nothing is lost: answers collected so far stay in the lake; the next
  `sample` makes the dataset anew. See docs/runbooks/collect.md.
"""

import labelwheel_runtime as runtime
from airflow.sdk import AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable, dag, task
from airflow.sdk.exceptions import AirflowSkipException
from labelwheel_argilla.triggers import DatasetActivityTrigger

from include.assets import loop_assets
from include.project import Project, load_projects


def build(project: Project) -> None:
    trigger = DatasetActivityTrigger(
        argilla_conn_id=project.connections.argilla, workspace=project.workspace, dataset=project.dataset
    )
    assets = loop_assets(project, [AssetWatcher(name=f"{project.name}_labeling_activity", trigger=trigger)])

    @dag(
        dag_id=project.dag_id("collect"),
        dag_display_name=f"{project.title} · collect",
        description="Answers in Argilla → journal of responses → labels",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable(project.schedule.collect, timezone="UTC"), assets=[assets.activity]
        ),
        max_active_runs=1,  # one sweep sees everything: a second one beside it would only repeat the work
        default_args=runtime.DEFAULT_ARGS,
        doc_md=__doc__,
        tags=runtime.tags("collect", project),
    )
    def collect() -> None:
        @task
        def collect_responses() -> dict:
            from include.labeling.collect import collect_responses as sweep

            with runtime.argilla_of(project) as argilla:
                return sweep(project, runtime.lake_of(project), argilla, now=runtime.now())

        @task
        def decide_labels(collected: dict) -> dict:
            from include.labeling.aggregate import update_labels

            return update_labels(project, runtime.lake_of(project), now=runtime.now())

        @task(outlets=[assets.labels])
        def announce(collected: dict, decided: dict, *, outlet_events=None) -> None:
            if not decided["final"] + decided["needs_adjudication"] + decided["retracted"]:
                raise AirflowSkipException("No label was decided, changed or withdrawn.")
            outlet_events[assets.labels].extra = {**collected, **decided}

        collected = collect_responses()
        announce(collected, decide_labels(collected))

    collect()


for _project in load_projects():
    build(_project)
