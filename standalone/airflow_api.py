"""The few calls to Airflow's REST API that the demo and the tests need; each survives a restart of the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from standalone.errors import ServiceError, StackError
from standalone.stack import Stack

CALL_SECONDS = 180  # a killed api-server is back within half a minute
RUN_SECONDS = 420  # a run takes under a minute; a killed scheduler costs a restart and its tasks a retry
POLL_SECONDS = 0.5
FINAL = (400, 403, 409, 422)

Value = TypeVar("Value")


def await_value(probe: Callable[[], Value | None], timeout_seconds: float, otherwise: str, remedy: str) -> Value:
    """Ask until there is an answer other than None.

    :raises StackError: with ``otherwise`` and ``remedy`` when the time is up.
    """
    deadline = time.monotonic() + timeout_seconds
    while (value := probe()) is None:
        if time.monotonic() > deadline:
            raise StackError(f"{otherwise} after {timeout_seconds:.0f} s", remedy=remedy)
        time.sleep(POLL_SECONDS)
    return value


@dataclass
class AirflowApi:
    """Airflow's REST API as the administrator of a standalone stack."""

    stack: Stack
    token: str = field(default="", repr=False)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request below ``/api/v2``, repeated while the server is away, knows no such thing yet, or wants a token.

        :raises ServiceError: when that lasts too long, or the request itself is refused.
        """
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            try:
                self.token = self.token or self.stack.airflow_token()
                response = httpx.request(
                    method,
                    f"{self.stack.urls['airflow']}/api/v2{path}",
                    json=body,
                    headers={"Authorization": f"Bearer {self.token}"},
                    timeout=30,
                )
            except (httpx.TransportError, ServiceError) as error:
                problem = str(error)
            else:
                if response.is_success:
                    answer: dict[str, Any] = response.json()
                    return answer
                problem = f"{response.status_code} {response.text[:300]}"
                if response.status_code in FINAL:
                    break
            if time.monotonic() > deadline:
                break
            self.token = ""
            time.sleep(POLL_SECONDS)
        raise ServiceError(
            f"Airflow refused {method} {path}: {problem}",
            remedy="See 'make status' and 'make logs s=airflow-api-server'.",
        )

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run by hand; returns its id."""
        run = self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}})
        return str(run["dag_run_id"])

    def finish(self, dag_id: str, run_id: str, *, may_fail: bool = False) -> str:
        """Wait for the end of a run; returns its state.

        :raises StackError: when it takes too long, or fails and may not, naming the task and where its log is.
        """
        path = f"/dags/{dag_id}/dagRuns/{run_id}"
        page = f"{self.stack.urls['airflow']}/dags/{dag_id}/runs/{run_id}"

        def ended() -> str | None:
            state = self.call("GET", path)["state"]
            return state if state in ("success", "failed") else None

        state = await_value(ended, RUN_SECONDS, f"{dag_id} has not ended", f"Look at {page}")
        if state == "failed" and not may_fail:
            failed = [name for name, its in self.task_states(dag_id, run_id).items() if its == "failed"]
            raise StackError(f"{dag_id} failed in {', '.join(failed)}", remedy=f"Read the log: {page}")
        return state

    def run(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Trigger a DAG and wait for its success; returns the run's id."""
        run_id = self.trigger(dag_id, conf)
        self.finish(dag_id, run_id)
        return run_id

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The latest runs, newest first."""
        answer = self.call("GET", f"/dags/{dag_id}/dagRuns?order_by=-run_after&limit=50")
        found: list[dict[str, Any]] = answer["dag_runs"]
        return found

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """State of each task of a run (of a mapped task: its last instance)."""
        answer = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return {one["task_id"]: one["state"] for one in answer["task_instances"]}
