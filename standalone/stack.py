"""A handle on a running stack: where its services are, who may sign in, and clients that are signed in already.

Works in every environment of the project that has httpx and boto3::

    stack = Stack.load()
    stack.wait_ready(timeout_seconds=300)
    with stack.airflow() as api:
        api.get("/api/v2/dags").json()
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from standalone.errors import ServiceError, StackError
from standalone.home import Credentials, Home
from standalone.s3 import S3Server

LANDING_BUCKET = "landing"
LAKE_BUCKET = "lake"


@dataclass(frozen=True)
class Stack:
    """One stack, running or not.

    :param urls: of ``airflow``, ``argilla`` and ``s3``.
    """

    home: Home
    ports: dict[str, int]
    urls: dict[str, str]
    credentials: Credentials

    @classmethod
    def load(cls, home: Path | None = None) -> Stack:
        """The stack whose state folder is ``home`` (default: ``LABELWHEEL_HOME``, else ``.standalone``).

        :raises StackError: when it was never started there.
        """
        folder = Home(home)
        credentials = folder.credentials()
        ports = folder.read_state().get("ports") or folder.ports()
        return cls(folder, ports, service_urls(ports), credentials)

    def state(self) -> dict[str, Any]:
        """What the supervisor last reported: services, ports, ``ready_seconds``, ``peak_memory_bytes``."""
        return self.home.read_state()

    def wait_ready(self, timeout_seconds: float) -> Stack:
        """Wait until all services are healthy and provisioned; return the stack with its final ports and keys.

        :raises StackError: when that takes longer, or a service has given up.
        """
        deadline = time.monotonic() + timeout_seconds
        while not (state := self.state()).get("healthy"):
            if time.monotonic() > deadline:
                late = [n for n, s in state.get("services", {}).items() if s["state"] != "ready"] or ["the supervisor"]
                raise StackError(
                    f"After {timeout_seconds:.0f} s not ready: {', '.join(late)}",
                    remedy="See 'make status' and 'make logs'.",
                )
            time.sleep(0.25)
        return Stack.load(self.home.path)

    def airflow_token(self) -> str:
        """A token for Airflow's REST API, as the administrator.

        :raises ServiceError: when Airflow does not answer or refuses the password.
        """
        user = {
            "username": self.credentials.airflow_admin_username,
            "password": self.credentials.airflow_admin_password,
        }
        try:
            response = httpx.post(f"{self.urls['airflow']}/auth/token", json=user, timeout=30, trust_env=False)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise ServiceError(
                f"Airflow at {self.urls['airflow']} gave no token ({error})", remedy="See 'make status'."
            ) from error
        token: str = response.json()["access_token"]
        return token

    def airflow(self) -> httpx.Client:
        """A client for Airflow, signed in as the administrator."""
        headers = {"Authorization": f"Bearer {self.airflow_token()}"}
        return httpx.Client(base_url=self.urls["airflow"], headers=headers, timeout=60, trust_env=False)

    def argilla(self, account: str = "owner") -> httpx.Client:
        """A client for Argilla, signed in as ``owner``, ``service`` or ``annotator``."""
        key: str = getattr(self.credentials, f"argilla_{account}_api_key")
        headers = {"X-Argilla-Api-Key": key}
        # A proxy of the environment is for the internet, not for loopback.
        return httpx.Client(base_url=self.urls["argilla"], headers=headers, timeout=60, trust_env=False)

    @property
    def s3_server(self) -> S3Server:
        """How to reach the S3 server."""
        credentials = self.credentials
        return S3Server(self.urls["s3"], credentials.s3_access_key_id, credentials.s3_secret_access_key)

    def s3(self) -> Any:
        """A boto3 client for the S3 server, patient enough for a restart of it."""
        return self.s3_server.client(retries=8)


def service_urls(ports: dict[str, int]) -> dict[str, str]:
    """Where people and programs find the services."""
    return {name: f"http://127.0.0.1:{ports[name]}" for name in ("airflow", "argilla", "s3")}
