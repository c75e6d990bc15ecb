"""Train a challenger when the policy says so; promote it only if it beats the champion on the frozen holdout.

- **Runs when** labels were decided, and daily. Skips unless the retrain policy is met; each evaluation leaves a row in
  `decisions` with its reason, also when the answer is no.
- **Reads** `labels`, `records`, `selections`, the champion pointer. **Writes** `snapshots`, `models`, `decisions`,
  `metrics`, and, by one atomic swap, the champion pointer.
- **Re-run** is safe because a snapshot is named by its content, a model by its bytes, and a decision by what it judged.
- **If it fails** the champion is untouched; clear the failed task. See docs/runbooks/retrain.md.
"""

import labelwheel_runtime as runtime
from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from include.assets import loop_assets
from include.project import Project, load_projects


def build(project: Project) -> None:
    assets = loop_assets(project)

    @dag(
        dag_id=project.dag_id("retrain"),
        dag_display_name=f"{project.title} · retrain",
        description="Labels → snapshot → challenger → champion",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable(project.schedule.retrain, timezone="UTC"), assets=[assets.labels]
        ),
        max_active_runs=1,  # two promotions at once would race for the champion
        default_args=runtime.DEFAULT_ARGS,
        doc_md=__doc__,
        tags=runtime.tags("retrain", project),
    )
    def retrain() -> None:
        @task
        def evaluate_policy() -> None:
            from include.training.policy import should_retrain

            decision = should_retrain(project, runtime.lake_of(project), now=runtime.now())
            if not decision["retrain"]:
                raise AirflowSkipException(decision["why"])

        @task
        def freeze_snapshot() -> str:
            from include.training.snapshot import freeze_snapshot as freeze

            return freeze(project, runtime.lake_of(project), now=runtime.now())["snapshot_id"]

        @task
        def train(snapshot_id: str) -> str:
            from include.training import steps

            return steps.train(project, runtime.lake_of(project), snapshot_id, now=runtime.now())["model_version"]

        @task
        def evaluate(snapshot_id: str, model_version: str) -> dict:
            from include.training import steps

            return steps.evaluate(project, runtime.lake_of(project), snapshot_id, model_version)

        @task(outlets=[assets.champion])
        def promote(report: dict, *, outlet_events=None) -> None:
            from include.training import steps

            decision = steps.promote(project, runtime.lake_of(project), report, now=runtime.now())
            if not decision["promoted"]:
                raise AirflowSkipException(decision["why"])
            outlet_events[assets.champion].extra = decision

        snapshot_id = freeze_snapshot()
        evaluate_policy() >> snapshot_id
        promote(evaluate(snapshot_id, train(snapshot_id)))

    retrain()


for _project in load_projects():
    if _project.training is not None:
        build(_project)
