"""``make bench-<name>`` and ``make bench``: benchmarks in the Airflow environment; the last line of each is JSON."""

from __future__ import annotations

import os
import subprocess
import sys

from standalone.display import console
from standalone.errors import StackError
from standalone.home import REPO, Home
from standalone.install import install

BENCH_SECONDS = 1200


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    known = sorted(path.stem for path in (REPO / "bench").glob("*.py"))
    if unknown := sorted(set(names) - set(known)):
        console.print(f"There is no benchmark {unknown[0]!r}. Choose from: {', '.join(known)}.", style="red")
        return 2
    home = Home()
    try:
        home.create()
        install(home, lambda name, state: console.print(f"{name} environment: {state}"), dev=True)
    except StackError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 1
    environ = {**os.environ, "PYTHONPATH": str(REPO)}
    for name in names or known:
        command = [str(home.python("airflow")), str(REPO / "bench" / f"{name}.py")]
        if code := subprocess.run(command, cwd=REPO, env=environ, timeout=BENCH_SECONDS, check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
