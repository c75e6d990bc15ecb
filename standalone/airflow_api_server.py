"""Airflow's API server for SQLite: ``python -m standalone.airflow_api_server api-server``.

Airflow's audit log is written inside the event loop. SQLite has one writer at a time, so that write waits for the
request that is writing; and that request's commit waits for the event loop. Both then stand still until the database
times out, and with them everything that talks to Airflow (seen: 60 s, in two of four starts). Here the audit log is
written in a thread, as Airflow does with all other writes. On Postgres, which locks rows, none of this is needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


class Pending:
    """Stands in for the session of the audit log: keeps the rows until ``write`` is called in a thread."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def add(self, row: Any) -> None:
        """Keep a row."""
        self.rows.append(row)

    def commit(self) -> None:
        """Do nothing: ``write`` commits."""

    def write(self, session: Any) -> None:
        """Write and commit what was added."""
        session.add_all(self.rows)
        session.commit()


def write_audit_log_in_thread() -> None:
    """Replace Airflow's audit log dependency, before the routes that use it are imported."""
    from airflow.api_fastapi.common.db.common import SessionDep
    from airflow.api_fastapi.core_api.security import GetUserDep
    from airflow.api_fastapi.logging import decorators
    from fastapi import Request
    from fastapi.concurrency import run_in_threadpool

    original: Callable[[str | None], Callable[..., Awaitable[None]]] = decorators.action_logging

    def action_logging(event: str | None = None) -> Callable[..., Awaitable[None]]:
        log_action = original(event)

        async def log_action_in_thread(request: Request, session: SessionDep, user: GetUserDep) -> None:
            pending = Pending()
            await log_action(request, pending, user)
            if pending.rows:
                await run_in_threadpool(pending.write, session)

        # FastAPI looks names up in this module; they are local to the function above.
        log_action_in_thread.__annotations__ = {"request": Request, "session": SessionDep, "user": GetUserDep}
        return log_action_in_thread

    decorators.action_logging = action_logging


def main() -> None:
    """Run Airflow's command line with the replacement in place."""
    from airflow.__main__ import main as airflow_main

    write_audit_log_in_thread()
    airflow_main()  # type: ignore[no-untyped-call]  # Airflow ships no types for it


if __name__ == "__main__":
    main()
