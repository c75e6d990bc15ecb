"""``make test``: lint, types, then every test, from the fastest to the slowest, stopping at the first that fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from standalone.display import console
from standalone.errors import StackError
from standalone.home import REPO, Home
from standalone.install import install
from standalone.services import find_redis

TYPED = ("include", "plugins", "standalone")
# Tests that start no whole stack come first.
TIERS = {
    "Unit and data plane": ("tests/include", "tests/dags", "tests/plugins", "tests/chaos", "tests/bench"),
    "Whole stack": ("tests/standalone", "tests/integration", "tests/e2e"),
}
ARGILLA = REPO / "standalone" / "argilla_sqlite"


def main(only: str | None) -> int:
    """Run everything, or only ``lint``."""
    home = Home()
    try:
        if only != "lint":
            find_chromium()
        home.create()
        console.rule("Install")
        install(home, lambda name, state: console.print(f"{name} environment: {state}"), dev=True)
    except StackError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 1
    airflow, argilla = str(home.python("airflow")), str(home.python("argilla"))
    sections = [
        ("Lint", [airflow, "-m", "ruff", "check", "."], REPO),
        ("Format", [airflow, "-m", "ruff", "format", "--check", "."], REPO),
        ("Types", [airflow, "-m", "mypy", "--exclude", "/argilla_sqlite/", *TYPED], REPO),
        (
            "Types of Argilla on SQLite",
            [airflow, "-m", "mypy", "--python-executable", argilla, "argilla_sqlite"],
            ARGILLA,
        ),
    ]
    if only != "lint":
        pytest = [airflow, "-m", "pytest", "--durations=5"]
        sections.append(("Argilla on SQLite", [argilla, "-m", "pytest", "--durations=5", "tests"], ARGILLA))
        sections.extend((title, [*pytest, *folders], REPO) for title, folders in TIERS.items())
    for title, command, folder in sections:
        console.rule(title)
        began = time.monotonic()
        code = subprocess.run(command, cwd=folder, env=environ(home, folder), check=False).returncode
        if code:
            console.print(f"{title} failed (exit code {code}).", style="red")
            return 1
        console.print(f"{title} passed in {time.monotonic() - began:.0f} s.", style="green")
    return 0


def environ(home: Home, folder: Path) -> dict[str, str]:
    """The environment of the checks: the folder under test is the import root, stacks share our environments."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "ARGILLA_", "AWS_"))}
    return {
        **kept,
        "PYTHONPATH": str(folder),
        "LABELWHEEL_VENVS": str(home.venvs),
        "CHROMIUM": find_chromium_or_empty(),
        "LABELWHEEL_REDIS_SERVER": str(find_redis()),
        # Last, so that only what is nowhere else is found here: the S3 server.
        "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), str(home.venvs / "tools" / "bin")]),
    }


def find_chromium_or_empty() -> str:
    """The browser for tests of what people see, or nothing."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), "")


def find_chromium() -> str:
    """The browser for tests of what people see.

    :raises StackError: when there is none.
    """
    found = find_chromium_or_empty()
    if not found:
        raise StackError("The end-to-end tests need Chromium", remedy="Install it (Debian: apt-get install chromium).")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
