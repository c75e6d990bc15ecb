"""A supervisor with small services for tests: ``python -m tests.standalone.small_stack <home> <scenario>``."""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import datetime
from pathlib import Path

from standalone.errors import ServiceError
from standalone.home import Home
from standalone.services import Service
from standalone.stack import Stack
from standalone.supervisor import Supervisor

HERE = Path(__file__).parent
SLEEP = "import time; time.sleep(600)"
# A child that leaves its parent's session, as Airflow's tasks leave its process group.
ORPHAN = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)\n{SLEEP}"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
# Says when it stopped, so that the order can be seen.
POLITE = (
    "import pathlib, signal, sys, time\n"
    "def bye(*_):\n"
    "    open(sys.argv[1], 'a').write(sys.argv[2] + chr(10)); sys.exit()\n"
    "signal.signal(signal.SIGTERM, bye); pathlib.Path(sys.argv[3]).touch(); time.sleep(600)"
)


def service(home: Home, name: str, code: str, *arguments: str, needs: tuple[str, ...] = ()) -> Service:
    """A service of a few lines, ready as soon as it runs."""

    def check(started: datetime) -> None:
        if code == POLITE and not Path(arguments[2]).exists():
            raise ServiceError(f"{name} has not said hello", remedy="Wait.")

    command = [sys.executable, "-c", code, *arguments]
    return Service(name, command, dict(os.environ), needs=needs, check=check, stop_timeout_seconds=1)


def scenario(home: Home, name: str) -> list[Service]:
    """The services of a test."""
    if name == "crash":
        started = f"open({str(home.path / 'starts')!r}, 'a').write(str(time.time()) + chr(10))"
        return [service(home, "crash", f"import time; {started}; time.sleep(0.6); raise SystemExit(3)")]
    if name == "stubborn":
        return [service(home, "stubborn", STUBBORN), service(home, "orphan", ORPHAN)]
    order = str(home.path / "order")
    names = {"base": (), "middle": ("base",), "top": ("middle",)}
    return [
        service(home, each, POLITE, order, each, str(home.path / f"{each}.hello"), needs=needs)
        for each, needs in names.items()
    ]


def main() -> None:
    """Run the scenario until SIGTERM."""
    logging.basicConfig(level=logging.INFO)
    home = Home(Path(sys.argv[1]))
    home.create()
    credentials, _ = home.ensure_credentials()
    stack = Stack(home, home.ports(), {}, credentials)
    Supervisor(stack, scenario(home, sys.argv[2]), time.time()).run()


if __name__ == "__main__":
    main()
