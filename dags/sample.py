"""Pick the records worth a person's time and show them in Argilla, with the champion's suggestion and a reason.

- **Runs when** the cycle's cron says so, when records arrive or another champion leads (the run then joins the cycle
  slot it falls into), or by hand: a `request_id` makes an extra batch.
- **Reads** `records`, `predictions`, `embeddings`, the speed of people in `responses`, the open queue in Argilla.
  **Writes** `predictions`, `embeddings`, `withdrawals`, `selections`, `decisions`, and in Argilla: the records of the
  batch, a new champion's suggestions for those that wait; what nobody answered for too long is taken away.
- **Re-run** is safe because the plan of a batch is a create-only file: the same slot gives the same batch, and records
  reach Argilla under their own id. A skipped `plan` says why (also in `decisions`). `score` and `embed` have one task
  for each group of shards with work, and are skipped without.
- **If it fails** while pushing, clear the task: it goes on where it stopped. See docs/runbooks/sample.md.
"""

import labelwheel_runtime as runtime
from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, TriggerRule, dag, task

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
        params=runtime.SAMPLE_PARAMS,
    )
    def sample() -> None:
        @task
        def find_unscored(ti=None) -> list[dict]:
            from include.training.score import plan_scoring

            work = plan_scoring(project, runtime.lake_of(project))
            ti.xcom_push("champion", {"model_version": work["model_version"]})  # null before the first
            return work["parts"]

        @task
        def find_unembedded() -> list[dict]:
            from include.embedding.fill import plan_embedding

            return plan_embedding(project, runtime.lake_of(project))["parts"]

        @task(outlets=[assets.predictions], pool=runtime.POOL_STAGE)
        def score(part: dict, *, outlet_events=None) -> None:
            from include.training.score import score_part

            counts = score_part(project, runtime.lake_of(project), part, now=runtime.now())
            outlet_events[assets.predictions].extra = counts

        @task(pool=runtime.POOL_STAGE)
        def embed(part: dict) -> dict:
            from include.embedding.fill import embed_part

            return embed_part(project, runtime.lake_of(project), part, now=runtime.now())

        @task(trigger_rule=TriggerRule.NONE_FAILED)  # without work, nothing was scored or embedded
        def refresh(champion: dict) -> dict:
            return runtime.refresh_suggestions(project, champion["model_version"])

        @task(trigger_rule=TriggerRule.NONE_FAILED)
        def plan(champion: dict, params=None, dag_run=None) -> str:
            return runtime.plan_batch(project, champion["model_version"], params["request_id"], dag_run)

        @task(outlets=[assets.batches])
        def push(batch_id: str, *, outlet_events=None) -> dict:
            return runtime.push(project, batch_id, outlet_events[assets.batches])

        unscored = find_unscored()
        scored, embedded = score.expand(part=unscored), embed.expand(part=find_unembedded())
        scored >> refresh(unscored["champion"])
        batch = plan(unscored["champion"])
        [scored, embedded] >> batch
        push(batch)

    sample()


for _project in load_projects():
    build(_project)
