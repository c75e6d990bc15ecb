"""``make chaos``: the long chaos run in the Airflow environment, on an S3 server of its own; the last line is JSON."""

from __future__ import annotations

import subprocess
import sys

from standalone.checks import environ
from standalone.display import console
from standalone.errors import StackError
from standalone.home import REPO, Home
from standalone.install import install

CHAOS_SECONDS = 1200


def main(arguments: list[str]) -> int:
    """Install what is missing and run it; ``--kills``, ``--objects`` and ``--seed`` are handed on."""
    home = Home()
    try:
        home.create()
        install(home, lambda name, state: console.print(f"{name} environment: {state}"), dev=True)
    except StackError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 1
    command = [str(home.python("airflow")), "-m", "tests.chaos", *arguments]
    return subprocess.run(command, cwd=REPO, env=environ(home, REPO), timeout=CHAOS_SECONDS, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
