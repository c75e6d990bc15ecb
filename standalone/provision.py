"""What the services need to know of each other: buckets, Argilla workspaces and members, Airflow connections and pools.

Runs after every start and whenever a file in ``include/projects/`` changes. Everything is looked up first, so running
it again changes nothing; it speaks REST because a command line call of Airflow or Argilla costs seconds.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import yaml
from botocore.exceptions import BotoCoreError, ClientError

from standalone.errors import ServiceError
from standalone.home import REPO
from standalone.s3 import REGION
from standalone.stack import LAKE_BUCKET, LANDING_BUCKET, Stack

PROJECTS = REPO / "include" / "projects"
POOLS = REPO / "deploy" / "pools.json"  # the file 'airflow pools import' takes in production
log = logging.getLogger(__name__)


def provision(stack: Stack, projects: Path = PROJECTS) -> None:
    """Create whatever is missing.

    :raises ServiceError: when a service refuses; running it again is safe.
    """
    try:
        _buckets(stack)
        _workspaces(stack, project_workspaces(projects))
        with stack.airflow() as api:
            _connections(stack, api)
            _pools(api)
            _reparse(api)
    except (httpx.HTTPError, ClientError, BotoCoreError) as error:
        detail = error.response.text[:500] if isinstance(error, httpx.HTTPStatusError) else ""
        raise ServiceError(
            f"Provisioning failed: {error} {detail}".strip(), remedy="Read logs/supervisor.log and the service's log."
        ) from error


def project_workspaces(folder: Path) -> set[str]:
    """The Argilla workspaces of all projects; a file that cannot be read is skipped, Airflow reports it to people."""
    workspaces = set()
    for path in sorted(folder.glob("*.y*ml")):
        try:
            project = yaml.safe_load(path.read_text(encoding="utf-8"))
            workspace = project.get("labeling", {}).get("workspace") or project["name"]
        except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
            log.warning("%s has no readable name, so it gets no workspace: %s", path.name, error)
            continue
        workspaces.add(str(workspace))
    return workspaces


def fingerprint(folder: Path = PROJECTS) -> tuple[tuple[str, int, int], ...]:
    """Changes when a project file is added, removed or edited."""
    files = sorted(folder.glob("*.y*ml"))
    return tuple((path.name, stat.st_mtime_ns, stat.st_size) for path in files if (stat := path.stat()))


def _buckets(stack: Stack) -> None:
    client = stack.s3()
    existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in (LANDING_BUCKET, LAKE_BUCKET):
        if name not in existing:
            client.create_bucket(Bucket=name)


def _workspaces(stack: Stack, wanted: set[str]) -> None:
    members = {stack.credentials.argilla_service_username, stack.credentials.argilla_annotator_username}
    with stack.argilla("owner") as api:
        users = {u["username"]: u["id"] for u in _get(api, "/api/v1/users")["items"]}
        existing = {w["name"]: w["id"] for w in _get(api, "/api/v1/me/workspaces")["items"]}
        for name in sorted(wanted):
            if name not in existing:
                existing[name] = _post(api, "/api/v1/workspaces", {"name": name})["id"]
            path = f"/api/v1/workspaces/{existing[name]}/users"
            present = {u["username"] for u in _get(api, path)["items"]}
            for username in sorted(members - present):
                _post(api, path, {"user_id": users[username]})


def _connections(stack: Stack, api: httpx.Client) -> None:
    credentials = stack.credentials
    extra = {
        "endpoint_url": stack.urls["s3"],
        "region_name": REGION,
        "config_kwargs": {"signature_version": "s3v4", "s3": {"addressing_style": "path"}},
    }
    wanted = [
        {
            "connection_id": "labelwheel_s3",
            "conn_type": "aws",
            "description": "Object storage: landing zone and lake.",
            "login": credentials.s3_access_key_id,
            "password": credentials.s3_secret_access_key,
            "extra": json.dumps(extra),
        },
        {
            "connection_id": "labelwheel_argilla",
            "conn_type": "argilla",
            "description": "Argilla, as the service account that is admin of the project workspaces.",
            "host": stack.urls["argilla"],
            "password": credentials.argilla_service_api_key,
        },
    ]
    for connection in wanted:
        response = api.patch(f"/api/v2/connections/{connection['connection_id']}", json=connection)
        if response.status_code == httpx.codes.NOT_FOUND:
            response = api.post("/api/v2/connections", json=connection)
        response.raise_for_status()


def _pools(api: httpx.Client) -> None:
    """Tasks in a pool that does not exist wait for ever. Slots that somebody changed in Airflow stay as they are."""
    existing = {pool["name"] for pool in _get(api, "/api/v2/pools?limit=100")["pools"]}
    for name, pool in json.loads(POOLS.read_text(encoding="utf-8")).items():
        if name not in existing:
            _post(api, "/api/v2/pools", {"name": name, **pool})


def _reparse(api: httpx.Client) -> None:
    """Ask for every DAG file to be read now: its own text has not changed, but the projects it makes DAGs of have."""
    dags = _get(api, "/api/v2/dags?limit=100&exclude_stale=true")["dags"]
    for token in {dag["file_token"] for dag in dags}:
        response = api.put(f"/api/v2/parseDagFile/{token}")
        if response.status_code != httpx.codes.CONFLICT:  # asked for already
            response.raise_for_status()


def _get(api: httpx.Client, path: str) -> Any:
    return api.get(path).raise_for_status().json()


def _post(api: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    return api.post(path, json=body).raise_for_status().json()
