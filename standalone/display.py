"""What the commands show: progress while starting, the table of services, where to sign in."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from standalone.stack import Stack

STYLES = {
    "ready": "green",
    "stopped": "dim",
    "waiting": "dim",
    "unhealthy": "red",
    "restarting": "red",
    "failed": "red",
    "down": "red",
}
console = Console(highlight=False)


class Progress:
    """The steps of a start: a live table on a terminal, one line per change elsewhere."""

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.steps: dict[str, str] = {}
        self._changed_at: dict[str, float] = {}
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=8, transient=True)

    def __enter__(self) -> Progress:
        if console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if console.is_terminal:
            self._live.stop()

    def report(self, step: str, state: str) -> None:
        """A step is in a state (again, perhaps)."""
        if self.steps.get(step) == state:
            return
        self.steps[step] = state
        self._changed_at[step] = time.time()
        if not console.is_terminal and state != "waiting":
            console.print(f"{self._elapsed(time.time()):>6} {step}: {state}")

    def _elapsed(self, moment: float) -> str:
        return f"{moment - self.started_at:.0f} s"

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, title_justify="left", title=f"Labelwheel, {self._elapsed(time.time())}")
        for column in ("", "step", "state", "at"):
            table.add_column(column, header_style="dim")
        for step, state in self.steps.items():
            busy = state in ("starting", "installing")
            mark = Spinner("dots") if busy else Text("✓" if state == "ready" else "·", style=STYLES.get(state, ""))
            at = "" if state == "waiting" else self._elapsed(self._changed_at[step])
            table.add_row(mark, step, Text(state, style=STYLES.get(state, "yellow")), at)
        return table


def show_services(state: dict[str, Any]) -> None:
    """The table of ``make status``."""
    table = Table(box=None, pad_edge=False)
    for column in ("service", "state", "pid", "restarts", "ready after", "memory", ""):
        table.add_column(column, header_style="dim", overflow="fold")
    for name, service in state["services"].items():
        memory = state["memory_bytes"].get(name)
        ready = service["ready_seconds"]
        table.add_row(
            name,
            Text(service["state"], style=STYLES.get(service["state"], "yellow")),
            str(service["pid"] or ""),
            str(service["restarts"] or ""),
            "" if ready is None else f"{ready:.0f} s",
            f"{memory / 2**20:.0f} MiB" if memory else "",
            service["error"],
        )
    console.print(table)
    total, peak = sum(state["memory_bytes"].values()), state["peak_memory_bytes"]
    console.print(f"Memory {total / 2**20:.0f} MiB, at most {peak / 2**20:.0f} MiB so far.")


def show_access(stack: Stack, *, with_passwords: bool) -> None:
    """Where to sign in and as whom; the passwords only once, after that the file has them."""
    c, urls = stack.credentials, stack.urls
    rows = [
        ("Airflow", urls["airflow"], c.airflow_admin_username, c.airflow_admin_password),
        ("Airflow (read only)", urls["airflow"], c.airflow_viewer_username, c.airflow_viewer_password),
        ("Argilla (owner)", urls["argilla"], c.argilla_owner_username, c.argilla_owner_password),
        ("Argilla (annotator)", urls["argilla"], c.argilla_annotator_username, c.argilla_annotator_password),
        ("S3", urls["s3"], c.s3_access_key_id, c.s3_secret_access_key),
    ]
    # Plain lines: a table would cut what does not fit the terminal, and half a password is of no use.
    for name, url, username, password in rows:
        line = f"{name:<20} {url:<24} {username:<21} {password if with_passwords else ''}"
        console.print(line.rstrip(), markup=False, soft_wrap=True)
    if with_passwords:
        console.print("The passwords are shown this once.", end=" ")
    console.print(f"They are kept in {stack.home.credentials_file}", soft_wrap=True)
