"""A run of the sample DAG as Airflow executes it, with what its tasks call put aside: who is skipped, who is not."""

import warnings
from collections.abc import Callable
from typing import Any

import labelwheel_runtime as runtime
import pytest

from include.embedding import fill
from include.errors import ProjectError
from include.training import score

PROJECT = "email_triage"
PARTS = [
    {"model_version": "m1", "sha256": "s", "shards": ["0"]},
    {"model_version": "m1", "sha256": "s", "shards": ["1"]},
]


@pytest.fixture(scope="module")
def database() -> None:
    """The metadata database of a run."""
    from airflow.utils.db import initdb

    with warnings.catch_warnings():  # what Airflow's in-process API server imports is deprecated over there
        warnings.simplefilter("ignore")
        import airflow.api_fastapi.execution_api.app  # noqa: F401
    initdb()


@pytest.fixture
def run(database: None, bag: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, list[str]]]:
    """Run the DAG; how each task ended (all of a mapped one). ``calls`` of the function are what reached the tasks."""
    calls: list[tuple[str, Any]] = []

    def called(name: str, result: Any) -> Callable[..., Any]:
        def call(*arguments: Any, **_: Any) -> Any:
            calls.append((name, arguments[-1]))
            return result

        return call

    def fails(*_: Any, **__: Any) -> None:
        raise ProjectError("no vectors", remedy="None.")  # not retried

    def go(
        champion: str | None,
        unscored: list[dict[str, Any]],
        unembedded: list[dict[str, Any]],
        embedding_fails: bool = False,
    ) -> dict[str, list[str]]:
        monkeypatch.setattr(runtime, "lake_of", lambda project: None)
        monkeypatch.setattr(score, "plan_scoring", lambda *_: {"model_version": champion, "parts": unscored})
        monkeypatch.setattr(fill, "plan_embedding", lambda *_: {"embedder": "e", "parts": unembedded})
        monkeypatch.setattr(score, "score_part", called("score", {"scored": 1, "model_version": champion}))
        monkeypatch.setattr(fill, "embed_part", fails if embedding_fails else called("embed", {"embedded": 1}))
        monkeypatch.setattr(runtime, "plan_batch", lambda project, version, *_: called("plan", "b1")(version))
        monkeypatch.setattr(runtime, "push", lambda project, batch, event: called("push", {})(batch))
        monkeypatch.setattr(runtime, "refresh_suggestions", lambda project, version: called("refresh", {})(version))
        finished = bag.dags[f"{PROJECT}__sample"].test()
        ends: dict[str, list[str]] = {}
        for one in finished.get_task_instances():
            ends.setdefault(one.task_id, []).append(str(one.state))
        return ends

    go.calls = calls  # type: ignore[attr-defined]
    return go


def test_before_the_first_champion_a_batch_is_planned_all_the_same(run: Any) -> None:
    ends = run(None, [], [])
    assert (ends["score"], ends["embed"]) == (["skipped"], ["skipped"])
    assert (ends["plan"], ends["push"]) == (["success"], ["success"])
    assert ("plan", None) in run.calls
    assert ("push", "b1") in run.calls


def test_every_part_has_a_task_of_its_own_and_the_plan_waits_for_all(run: Any) -> None:
    ends = run("m1", PARTS, [{"embedder": "e", "shards": ["0"]}])
    assert (ends["score"], ends["embed"]) == (["success"] * 2, ["success"])
    assert (ends["plan"], ends["push"], ends["refresh"]) == (["success"], ["success"], ["success"])
    names = [name for name, _ in run.calls]
    assert names.count("score") == 2
    assert names.index("plan") > max(place for place, name in enumerate(names) if name in ("score", "embed"))
    assert ("plan", "m1") in run.calls


def test_a_failed_part_stops_the_plan(run: Any) -> None:
    ends = run("m1", [], [{"embedder": "e", "shards": ["0"]}], embedding_fails=True)
    assert ends["find_unscored"] == ["success"]
    assert not {"success", "skipped"} & {*ends["embed"], *ends["plan"], *ends["push"]}
    assert "plan" not in [name for name, _ in run.calls]
