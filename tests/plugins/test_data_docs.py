"""Data Docs inside Airflow: who may read a page, what is refused, and under which policy pages go out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import labelwheel_data_docs as docs
import labelwheel_runtime as runtime
import pytest

from include import project as projects
from include.errors import StorageError

ROOT = Path(__file__).parents[2]
INDEX = "/mails__ingest/index.html"
PAGE = "/mails__ingest/validations/00000007.html"
PROJECT = """
name: mails
title: Mails
source: {prefix: mails/, fields: {text: {title: Text}}}
labeling:
  guidelines: Decide whether the text is spam.
  questions:
    - {name: kind, type: label, title: "What is it?", labels: {spam: Spam, ham: Ham}}
"""


class Files:
    """A lake that holds two pages."""

    pages: dict[str, bytes]

    def __init__(self) -> None:
        self.pages = {
            "data_docs/mails/index.html": b"<h1>index</h1>",
            "data_docs/mails/validations/00000007.html": b"<script>alert(1)</script>",
        }

    def get(self, path: str) -> bytes | None:
        if path not in self.pages and not self.pages:
            raise StorageError("the object store did not answer", remedy="Check that it runs.")
        return self.pages.get(path)


class Everything:
    """The DAGs an admin may read."""

    def __contains__(self, dag_id: object) -> bool:
        return True


class Users:
    """Who asks, and which DAGs that person may read."""

    known = True
    readable: frozenset[str] | Everything = frozenset({"mails__ingest"})


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    (tmp_path / "mails.yaml").write_text(PROJECT)
    monkeypatch.setattr(projects, "PROJECTS_DIR", tmp_path)
    files = Files()
    monkeypatch.setattr(runtime, "lake_of", lambda project: SimpleNamespace(files=files))
    return files


@pytest.fixture
def users() -> Users:
    return Users()


@pytest.fixture
def client(files: Files, users: Users, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The app behind Airflow's own checks; only the session and the auth manager are replaced."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # starlette asks for another HTTP library
        from airflow.api_fastapi.core_api import security
        from fastapi import HTTPException
        from fastapi.testclient import TestClient

    def user() -> Any:
        if not users.known:
            raise HTTPException(401, "Not authenticated")
        return SimpleNamespace(get_id=lambda: "1")

    manager = SimpleNamespace(
        is_authorized_dag=lambda *, method, access_entity, details, user: (
            method == "GET" and details.id in users.readable
        )
    )
    monkeypatch.setattr(security, "get_auth_manager", lambda: manager)
    monkeypatch.setattr(security.DagModel, "get_team_name", lambda dag_id: None)
    app = docs.build_app()
    app.dependency_overrides[security.get_user] = user
    yield TestClient(app, raise_server_exceptions=True)
    app.dependency_overrides.clear()


@pytest.mark.parametrize(("path", "body"), [(INDEX, "<h1>index</h1>"), (PAGE, "<script>alert(1)</script>")])
def test_readers_of_the_ingest_dag_see_pages_that_can_do_nothing(client: Any, path: str, body: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.text) == (200, body)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "sandbox", "frame-ancestors 'self'", "form-action 'none'"} <= set(policy)
    assert not [one for one in policy if "script" in one or "http" in one or "*" in one]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("path", [INDEX, PAGE])
def test_strangers_and_people_without_the_right_see_nothing(client: Any, users: Users, path: str) -> None:
    users.readable = frozenset({"others__ingest", "mails__sample"})
    assert client.get(path).status_code == 403
    users.known = False
    answer = client.get(path)
    assert answer.status_code == 401
    assert "index" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/mails__sample/index.html",
        "/mails/index.html",
        "/..__ingest/index.html",
        "/%2e%2e%2fx__ingest/index.html",
        "/mails__ingest%0a/index.html",
        "/mails__ingest/validations/7.html",
        "/mails__ingest/validations/000000007.html",
        "/mails__ingest/validations/..%2findex.html",
        "/mails__ingest/validations/00000007.json",
        "/mails__ingest/validations/00000007.html%0a",
        "/mails__ingest/validations/%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1.html",
        "/mails__ingest/index.json",
        "/mails__ingest/",
        "/mails__ingest",
        "/",
        "/docs",
        "/openapi.json",
        "/redoc",
    ],
)
def test_nothing_else_is_served(client: Any, users: Users, path: str) -> None:
    users.readable = Everything()
    assert client.get(path).status_code in {404, 422}


def test_pages_that_are_not_there_and_lakes_that_are_away(client: Any, files: Files, users: Users) -> None:
    assert client.get(PAGE.replace("7", "8")).status_code == 404
    users.readable = frozenset({"others__ingest"})
    assert client.get(INDEX.replace("mails", "others")).status_code == 404
    users.readable = frozenset({"mails__ingest"})
    files.pages.clear()
    answer = client.get(PAGE)
    assert answer.status_code == 503
    assert "Check that it runs" in answer.text


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_pages_are_only_read(client: Any, method: str) -> None:
    assert getattr(client, method)(PAGE).status_code == 405


def test_airflow_finds_the_plugin_and_mounts_the_app() -> None:
    from airflow._shared.module_loading.file_discovery import find_path_from_directory

    found = {Path(path).name for path in find_path_from_directory(str(ROOT / "plugins"), ".airflowignore", "glob")}
    assert "labelwheel_data_docs.py" in found
    [app] = docs.LabelwheelDataDocs.fastapi_apps
    assert app["url_prefix"] == "/data-docs"
    assert callable(app["app"])


def test_the_plugin_is_light_to_import() -> None:
    code = (
        "import sys, airflow.sdk, airflow.plugins_manager; before = set(sys.modules); import labelwheel_data_docs; "
        "print(sorted(set(sys.modules) - before))"
    )
    path = f"{ROOT}:{ROOT / 'plugins'}"
    run = [sys.executable, "-W", "ignore", "-c", code]
    out = subprocess.run(run, capture_output=True, text=True, check=True, env={"PYTHONPATH": path, "PATH": "/usr/bin"})
    new = out.stdout.splitlines()[-1]
    assert "labelwheel_data_docs" in new
    assert not [heavy for heavy in ("fastapi", "include", "pandas", "boto") if f"'{heavy}" in new or f".{heavy}" in new]


@pytest.mark.parametrize(
    ("returned", "page"),
    [
        (["s3://lake/data_docs/mails/validations/00000007.html"], "validations/00000007.html"),
        (["s3://lake/data_docs/mails/validations/00000007.html", "s3://lake/x"], "index.html"),
        ([], "index.html"),
        (None, "index.html"),
    ],
)
def test_the_link_leads_to_the_page_that_was_written(monkeypatch: pytest.MonkeyPatch, returned: Any, page: str) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example/some/path/")
    operator = SimpleNamespace(task_id="data_docs", dag_id="mails__ingest")
    instance = SimpleNamespace(xcom_pull=lambda *, task_ids: returned if task_ids == "data_docs" else None)
    link = docs.DataDocsLink().get_link(operator, ti_key=instance)
    assert link == f"http://airflow.example/some/path/data-docs/mails__ingest/{page}"


def test_the_link_survives_on_a_task_of_a_stored_dag() -> None:
    from airflow.sdk import DAG, task
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("mails__ingest", start_date=datetime(2026, 1, 1), schedule=None) as dag:  # noqa: DTZ001 - as Airflow wants

        @task
        def data_docs() -> list[str]:
            return []

        data_docs().operator.operator_extra_links = (docs.DataDocsLink(),)
    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("data_docs")
    assert [(link.name, link.xcom_key) for link in stored.operator_extra_links] == [("Data Docs", "_link_DataDocsLink")]
