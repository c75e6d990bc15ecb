"""Data Docs inside Airflow: pages of the lake for whoever may read the project's ingest DAG, and a link to them.

Airflow imports this file in every process, so it holds no more than the link and the promise of an app; the app itself
is built by the api-server's first request. Everything it serves is a file that ``include/ingestion/data_docs.py``
wrote, and goes out under a policy that allows no script, no request and no form, whatever the file holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.responses import HTMLResponse

    from include.project import Project

URL_PREFIX = "/data-docs"
INGEST_DAG = r"^[a-z][a-z0-9_]{1,47}__ingest$"
BATCH_PAGE = r"^[0-9]{8}\.html$"


class DataDocsLink(BaseOperatorLink):
    """The button *Data Docs* on the task that wrote pages: to its page, or to the index for none or several."""

    name = "Data Docs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Called by the worker when the task ends.

        :param ti_key: the running task instance; it returned where the pages are.
        """
        from airflow.sdk.configuration import conf

        written = ti_key.xcom_pull(task_ids=operator.task_id) or []
        page = f"validations/{written[0].rpartition('/')[2]}" if len(written) == 1 else "index.html"
        base_url = conf.get("api", "base_url", fallback="").rstrip("/")
        return f"{base_url}{URL_PREFIX}/{operator.dag_id}/{page}"


class DataDocsApp:
    """The pages as an ASGI app that is built when it is first asked for something."""

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
        """Hand the request on."""
        await build_app()(scope, receive, send)


@cache
def build_app() -> FastAPI:
    """Two routes, both behind the login and the right to read the ingest DAG they name."""
    from airflow.api_fastapi.core_api.security import requires_access_dag, requires_authenticated
    from fastapi import Depends, FastAPI, Path
    from fastapi.responses import HTMLResponse

    app = FastAPI(
        title="Labelwheel data docs",
        dependencies=[Depends(requires_authenticated()), Depends(requires_access_dag("GET"))],
        default_response_class=HTMLResponse,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )

    @app.get("/{dag_id}/index.html")
    def index(dag_id: str = Path(pattern=INGEST_DAG)) -> Any:
        from include.ingestion.data_docs import index_path

        return _file(dag_id, index_path)

    @app.get("/{dag_id}/validations/{page}")
    def batch(dag_id: str = Path(pattern=INGEST_DAG), page: str = Path(pattern=BATCH_PAGE)) -> Any:
        from include.ingestion.data_docs import page_path

        return _file(dag_id, lambda project: page_path(project, int(page.removesuffix(".html"))))

    return app


def _file(dag_id: str, path: Callable[[Project], str]) -> HTMLResponse:
    """A page of the project's lake, with headers that make it harmless."""
    import labelwheel_runtime as runtime
    from fastapi import HTTPException
    from fastapi.responses import HTMLResponse

    from include.errors import ProjectError, StorageError
    from include.project import PROJECTS_DIR, load_project
    from include.validation.pages import CONTENT_SECURITY_POLICY

    try:
        project = load_project(PROJECTS_DIR / f"{dag_id.removesuffix('__ingest')}.yaml")
        page = runtime.lake_of(project).files.get(path(project))
    except FileNotFoundError as error:
        raise HTTPException(404, "There is no such project.") from error
    except (ProjectError, StorageError) as error:
        raise HTTPException(503, str(error)) from error
    if page is None:
        raise HTTPException(404, "There is no such page. It is written when the batch is committed.")
    return HTMLResponse(
        page,
        headers={
            "Content-Security-Policy": f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'self'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "private, no-cache",
        },
    )


class LabelwheelDataDocs(AirflowPlugin):
    """Registers the app; ``dags/ingest.py`` puts the link on its task ``data_docs``."""

    name = "labelwheel_data_docs"
    fastapi_apps = [{"app": DataDocsApp(), "url_prefix": URL_PREFIX, "name": "Labelwheel data docs"}]  # noqa: RUF012
