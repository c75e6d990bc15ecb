"""Rules every DAG file keeps; each rule is what an operator relies on at three in the morning."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from include.project import load_projects, project_files
from tests.dags.conftest import ROOT

STEPS = ["ingest", "sample", "collect", "retrain", "monitor", "audit", "maintain"]
MANUAL = ["**Runs when**", "**Reads**", "**Writes**", "**Re-run**", "**If it fails**"]
LINES = 90


def test_the_files_are_the_steps_of_the_loop(dag_files: list[Path]) -> None:
    assert sorted(f.stem for f in dag_files) == sorted([*STEPS, "projects"])


def test_every_project_has_its_dags_and_nothing_failed_to_import(bag: Any) -> None:
    assert bag.import_errors == {}
    assert len(project_files()) >= 2
    expected = {
        project.dag_id(step)
        for project in load_projects()
        for step in STEPS
        if project.training is not None or step not in ("retrain", "monitor")
    }
    assert set(bag.dags) == expected


@pytest.mark.parametrize("step", [*STEPS, "projects"])
def test_a_dag_file_is_a_page_of_wiring(dag_files: list[Path], step: str) -> None:
    file = next(f for f in dag_files if f.stem == step)
    text = file.read_text()
    assert len(text.splitlines()) <= LINES
    manual = ast.get_docstring(ast.parse(text)) or ""
    assert [part for part in MANUAL if part not in manual] == []
    assert (
        re.findall(r"getenv|environ|Variable\.|utcnow|datetime\.now|SELECT |BaseHook\.get|Connection\.get", text) == []
    )
    if step != "projects":
        assert "doc_md=__doc__" in text


@pytest.mark.parametrize("step", STEPS)
def test_heavy_or_far_things_are_imported_inside_tasks(dag_files: list[Path], step: str) -> None:
    allowed = (
        *("airflow.sdk", "include.assets", "include.project"),
        *("labelwheel_runtime", "labelwheel_argilla.triggers", "labelwheel_data_docs"),
    )
    tree = ast.parse(next(f for f in dag_files if f.stem == step).read_text())
    names = [n.name for node in tree.body if isinstance(node, ast.Import) for n in node.names]
    names += [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert names
    assert [name for name in names if not name.startswith(allowed)] == []


def test_tags_are_the_closed_vocabulary(bag: Any) -> None:
    for dag_id, dag in bag.dags.items():
        project, step = dag_id.split("__")
        assert set(dag.tags) == {"labelwheel", f"stage:{step}", f"project:{project}"}


def test_every_dag_is_documented_bounded_and_retried(bag: Any) -> None:
    for dag in bag.dags.values():
        assert dag.doc_md
        assert dag.description
        assert dag.max_active_runs == 1
        assert not dag.catchup
        for task in dag.tasks:
            assert task.execution_timeout is not None
            assert task.retries >= 2 or task.task_id == "check_quarantine", task.task_id


def test_every_param_is_described(bag: Any) -> None:
    described = 0
    for dag in bag.dags.values():
        for name in dag.params:
            param = dag.params.get_param(name)
            assert param.description or param.schema.get("description"), f"{dag.dag_id}.{name}"
            described += 1
    assert described


@pytest.mark.parametrize(
    ("step", "gate", "write"),
    [
        ("ingest", "commit", "check_quarantine"),  # good rows land first, then the limit is checked
        ("ingest", "stage", "commit"),
        ("sample", "find_unscored", "score"),
        ("sample", "find_unembedded", "embed"),
        ("sample", "score", "plan"),
        ("sample", "embed", "plan"),
        ("sample", "plan", "push"),
        ("collect", "collect_responses", "announce"),
        ("retrain", "evaluate_policy", "freeze_snapshot"),
        ("retrain", "evaluate_policy", "train"),
        ("retrain", "evaluate", "promote"),
        ("audit", "plan", "push"),
    ],
)
def test_gates_sit_upstream_of_what_they_guard(bag: Any, step: str, gate: str, write: str) -> None:
    dags = [dag for dag_id, dag in bag.dags.items() if dag_id.endswith(f"__{step}")]
    assert dags
    for dag in dags:
        assert gate in dag.get_task(write).get_flat_relative_ids(upstream=True)


def test_models_work_in_mapped_tasks_and_a_batch_is_planned_when_there_is_no_work(bag: Any) -> None:
    from airflow.sdk.definitions.mappedoperator import MappedOperator

    dags = [dag for dag_id, dag in bag.dags.items() if dag_id.endswith("__sample")]
    assert dags
    for dag in dags:
        assert {task.task_id for task in dag.tasks if isinstance(task, MappedOperator)} == {"score", "embed"}
        assert dag.get_task("plan").trigger_rule == "none_failed"  # an empty list of parts skips the mapped tasks
        assert dag.get_task("push").trigger_rule == "all_success"


def test_every_pool_a_task_waits_in_is_provisioned(bag: Any) -> None:
    """Airflow never starts a task whose pool does not exist; it only warns."""
    import labelwheel_runtime as runtime

    pools = json.loads((ROOT / "deploy" / "pools.json").read_text())
    assert set(pools) == {runtime.POOL_STAGE, runtime.POOL_COMMIT, runtime.POOL_MAINTAIN}
    assert all(pool["slots"] >= 1 and pool["description"] for pool in pools.values())
    used = {task.pool for dag in bag.dags.values() for task in dag.tasks}
    assert runtime.POOL_MAINTAIN in used
    assert used <= {*pools, "default_pool"}


def test_a_missing_pool_is_a_warning_on_the_dag() -> None:
    """What an operator sees who forgot to import the pools (docs/runbooks/maintain.md)."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(ROOT / "dags" / "maintain.py"), known_pools={"default_pool"})
    warnings = {warning.dag_id: warning.message for warning in bag.dag_warnings}
    assert set(warnings) == {project.dag_id("maintain") for project in load_projects()}
    assert all("non-existent pools: ['labelwheel_maintain']" in message for message in warnings.values())


def test_maintain_never_keeps_files_for_less_than_a_week(bag: Any) -> None:
    dags = [dag for dag_id, dag in bag.dags.items() if dag_id.endswith("__maintain")]
    assert dags
    for dag in dags:
        assert dag.params["retention_days"] == 14
        assert dag.params.get_param("retention_days").schema["minimum"] == 7


def test_audit_is_dry_by_default_and_needs_a_reason(bag: Any) -> None:
    for dag_id, dag in bag.dags.items():
        if dag_id.endswith("__audit"):
            assert dag.params["dry_run"] is True
            assert "default" not in dag.params.get_param("reason").schema
            assert not dag.params.get_param("reason").has_value


def test_assets_connect_the_loop(bag: Any) -> None:
    """Every asset that wakes a DAG is written by another DAG of the same project (people write ``activity``)."""
    for project in load_projects():
        dags = [dag for dag_id, dag in bag.dags.items() if dag_id.startswith(f"{project.name}__")]
        written = {outlet.name for dag in dags for task in dag.tasks for outlet in task.outlets}
        conditions = [getattr(dag.timetable, "asset_condition", None) for dag in dags]
        woken_by = {
            asset.name
            for condition in conditions
            if condition is not None
            for asset in getattr(condition, "objects", [condition])
        }
        assert woken_by
        wanted = {name for name in woken_by if not name.endswith("/activity")}
        if project.training is None:
            wanted.discard(f"{project.name}/champion")
        assert wanted <= written
