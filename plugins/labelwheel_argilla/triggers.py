"""Watch labeling activity from the triggerer: raises an asset event when people answered, and holds no worker slot.

The event is a hint that starts the sweep earlier. It may come twice (a triggerer was killed between firing and
remembering) and nothing depends on it: the sweep has a cron beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from include.errors import LabelingError
from labelwheel_argilla.client import API_KEY_HEADER, refusal, unreachable
from labelwheel_argilla.hook import address

MAX_BACKOFF_SECONDS = 30.0  # one small request; and the first batch may create the dataset at any moment
REQUEST_TIMEOUT_SECONDS = 10.0
STATE_KEY = "last_activity_at"


@dataclass(frozen=True)
class Server:
    """Where Argilla is, and as whom we come."""

    url: str
    api_key: str


class DatasetActivityTrigger(BaseEventTrigger):
    """Fires ``{"dataset", "last_activity_at"}`` when people answered and then paused, or at intervals while they go on.

    It goes on for ever: an Argilla that is down, a dataset that does not exist yet and a missing connection cost one
    warning each and a growing pause.

    :param argilla_conn_id: id of a connection of type ``argilla``.
    :param workspace: Argilla workspace of the dataset.
    :param dataset: name of the dataset.
    :param poll_seconds: pause between two looks, each one small request.
    :param quiet_seconds: fire once nobody has answered for this long.
    :param busy_seconds: fire at the latest this long after the first unreported answer.
    """

    def __init__(
        self,
        argilla_conn_id: str,
        workspace: str,
        dataset: str,
        poll_seconds: float = 5.0,
        quiet_seconds: float = 10.0,
        busy_seconds: float = 60.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's triggers are untyped
        self.argilla_conn_id = argilla_conn_id
        self.workspace = workspace
        self.dataset = dataset
        self.poll_seconds = poll_seconds
        self.quiet_seconds = quiet_seconds
        self.busy_seconds = busy_seconds
        self._complaint = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments: equal for equal watches, so that DAGs share one trigger."""
        return (
            "labelwheel_argilla.triggers.DatasetActivityTrigger",
            {
                "argilla_conn_id": self.argilla_conn_id,
                "workspace": self.workspace,
                "dataset": self.dataset,
                "poll_seconds": self.poll_seconds,
                "quiet_seconds": self.quiet_seconds,
                "busy_seconds": self.busy_seconds,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, fire, remember; never return."""
        reported = await self._remembered()
        seen, first_seen_at, moved_at = reported, 0.0, 0.0
        async for activity in self._activities():
            now = time.monotonic()
            if activity == reported:
                seen = reported
                continue
            if activity != seen:
                first_seen_at = now if seen == reported else first_seen_at
                seen, moved_at = activity, now
            if now - moved_at >= self.quiet_seconds or now - first_seen_at >= self.busy_seconds:
                event = {"dataset": self.dataset, "last_activity_at": activity}
                yield TriggerEvent(event)  # type: ignore[no-untyped-call]
                reported = activity
                await self._remember(activity)

    async def _activities(self) -> AsyncIterator[str]:
        """The dataset's ``last_activity_at``, one per poll; pauses between looks, longer after failures."""
        pause, server, dataset_id = self.poll_seconds, None, None
        async with httpx.AsyncClient(timeout=REQUEST_TIMEOUT_SECONDS) as http:
            while True:
                try:
                    server = server or await self._server()
                    dataset_id = dataset_id or await self._dataset_id(http, server)
                    dataset = await self._get(http, server, f"/datasets/{dataset_id}")
                except (LabelingError, AirflowException, AirflowRuntimeError) as error:
                    # Forget both: the connection may have been corrected, the dataset made anew.
                    server, dataset_id = None, None
                    self._complain(str(error))
                    pause = min(pause * 2, MAX_BACKOFF_SECONDS)
                else:
                    self._complaint = ""
                    pause = self.poll_seconds
                    yield dataset["last_activity_at"]
                await asyncio.sleep(pause)

    async def _server(self) -> Server:
        return Server(*address(await BaseHook.aget_connection(self.argilla_conn_id)))

    async def _dataset_id(self, http: httpx.AsyncClient, server: Server) -> str:
        for workspace in (await self._get(http, server, "/me/workspaces"))["items"]:
            if workspace["name"] == self.workspace:
                found = await self._get(http, server, f"/me/datasets?workspace_id={workspace['id']}")
                for dataset in found["items"]:
                    if dataset["name"] == self.dataset:
                        return str(dataset["id"])
        raise LabelingError(
            f"Argilla has no dataset {self.dataset!r} in workspace {self.workspace!r} yet",
            remedy="The first batch creates it; the trigger goes on looking.",
        )

    async def _get(self, http: httpx.AsyncClient, server: Server, path: str) -> dict[str, Any]:
        try:
            response = await http.get(f"{server.url}/api/v1{path}", headers={API_KEY_HEADER: server.api_key})
            body = response.json() if response.status_code < 400 else None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise unreachable(server.url, error) from error
        if not isinstance(body, dict):
            raise refusal(server.url, response)
        return body

    def _complain(self, message: str) -> None:
        """Once per trouble, not once per look."""
        if message != self._complaint:
            self.log.warning("Not watching %s for now: %s", self.dataset, message)
            self._complaint = message

    async def _remembered(self) -> str | None:
        """The activity reported last, also by an earlier triggerer process."""
        if self.asset_state_store is None:
            return None
        try:
            stored = await self.asset_state_store.aget(STATE_KEY)
        except (ValueError, AirflowRuntimeError) as error:  # ValueError: two assets share this trigger
            self._complain(f"its state cannot be read ({error}); one event may come twice.")
            return None
        return stored if isinstance(stored, str) else None

    async def _remember(self, activity: str) -> None:
        if self.asset_state_store is None:
            return
        try:
            await self.asset_state_store.aset(STATE_KEY, activity)
        except (ValueError, AirflowRuntimeError) as error:
            self._complain(f"its state cannot be stored ({error}); one event may come twice.")
