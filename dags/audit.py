"""Look again at labels that may be wrong: find suspects, and, when not a dry run, send them to people once more.

- **Runs when** someone fills in the form. Dry by default: the first run only lists what it would send.
- **Reads** `labels`, `predictions`, `records`. **Writes** a decision with the suspects; if not dry, an extra batch
  (`selections`, Argilla) under `<project>/audit/<request id>`.
- **Re-run** is safe because the batch is named by the request id: the same request is planned once.
- **If it fails** clear the task; nothing was sent twice. See docs/runbooks/audit.md.
"""

import labelwheel_runtime as runtime
from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from include.assets import loop_assets
from include.project import Project, load_projects


def build(project: Project) -> None:
    assets = loop_assets(project)

    @dag(
        dag_id=project.dag_id("audit"),
        dag_display_name=f"{project.title} · audit",
        description="A form: suspected label errors → an extra batch for people",
        schedule=None,
        max_active_runs=1,  # two audits at once could pick the same records
        default_args=runtime.DEFAULT_ARGS,
        doc_md=__doc__,
        tags=runtime.tags("audit", project),
        params={
            "kind": Param(
                "suspected_label_errors",
                enum=["suspected_label_errors", "record_ids"],
                title="What to look at",
                description="Labels the champion contradicts most confidently, or the records listed below.",
            ),
            "size": Param(20, type="integer", minimum=1, maximum=500, description="At most this many records."),
            "record_ids": Param([], type="array", items={"type": "string"}, description="For kind record_ids."),
            "reason": Param(
                type="string", minLength=8, maxLength=300, description="Why you look again; people see it in Argilla."
            ),
            "request_id": Param(
                None, type=["null", "string"], maxLength=64, description="Name of the batch. Empty: the run's id."
            ),
            "dry_run": Param(True, type="boolean", description="Only list the suspects; send nothing."),
        },
    )
    def audit() -> None:
        @task
        def find(params=None) -> dict:
            from include.audit.suspects import find_suspects

            lake, ids = runtime.lake_of(project), params["record_ids"]
            return find_suspects(project, lake, kind=params["kind"], size=params["size"], record_ids=ids)

        @task
        def plan(found: dict, params=None, dag_run=None) -> str:
            from include.sampling.plan import plan_listed

            planned = plan_listed(
                project,
                runtime.lake_of(project),
                request_id=params["request_id"] or dag_run.run_id,
                suspects=found["suspects"],
                reason=params["reason"],
                dry_run=params["dry_run"],
                now=runtime.now(),
            )
            if planned["outcome"] in ("skipped", "pushed"):
                raise AirflowSkipException(planned["why"])
            return planned["batch_id"]

        @task(outlets=[assets.batches])
        def push(batch_id: str, *, outlet_events=None) -> dict:
            return runtime.push(project, batch_id, outlet_events[assets.batches])

        push(plan(find()))

    audit()


for _project in load_projects():
    build(_project)
