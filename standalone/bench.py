"""``make bench-<name>`` and ``make bench``: benchmarks in the Airflow environment; the last line of each is JSON."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from standalone.display import console
from standalone.errors import StackError
from standalone.home import REPO, Home
from standalone.install import install
from standalone.services import find_redis

BENCH_SECONDS = 1200
CLEAN_UP_SECONDS = 60


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    known = sorted(path.stem for path in (REPO / "bench").glob("*.py"))
    if unknown := sorted(set(names) - set(known)):
        console.print(f"There is no benchmark {unknown[0]!r}. Choose from: {', '.join(known)}.", style="red")
        return 2
    home = Home()
    try:
        home.create()
        install(home, lambda name, state: console.print(f"{name} environment: {state}"), dev=True)
        environ = {
            **os.environ,
            "PYTHONPATH": str(REPO),
            "PYTHONSAFEPATH": "1",  # a benchmark's name (select) is not to hide the library's module of that name
            "LABELWHEEL_REDIS_SERVER": find_redis(),
            # Last, so that only what is nowhere else is found here: the S3 server and the installer.
            "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), str(home.venvs / "tools" / "bin")]),
        }
    except StackError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 1
    for name in names or known:
        if code := run([str(home.python("airflow")), str(REPO / "bench" / f"{name}.py")], environ):
            return code
    return 0


def run(command: list[str], environ: dict[str, str]) -> int:
    """Run one benchmark; when its time is up or we are interrupted, it gets the time to end what it started."""
    with subprocess.Popen(command, cwd=REPO, env=environ) as process:
        try:
            return process.wait(timeout=BENCH_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=CLEAN_UP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
