"""Parse time of each DAG file against a file that only imports ``airflow.sdk`` (budget: 1.5 times).

Whole processes in turn, CPU seconds as the operating system counts them, medians of pairwise ratios. Last line: JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = 7


def cpu_seconds(code: str, environ: dict[str, str]) -> float:
    """User plus system time of one Python process that runs the code."""
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True, env=environ, cwd=ROOT)  # noqa: S603 - our own code
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


def main() -> int:
    """Measure every DAG file and print one line each, then the JSON object."""
    with tempfile.TemporaryDirectory() as home:
        path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
        environ = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PYTHONPATH": path}
        files = sorted((ROOT / "dags").glob("*.py"))
        codes = {file.name: f"import runpy; runpy.run_path({str(file)!r})" for file in files}
        for code in ["import airflow.sdk", *codes.values()]:
            cpu_seconds(code, environ)  # warm the file cache and byte code
        ratios: dict[str, float] = {}
        bases, times = [], []
        for name, code in codes.items():
            pairs = [(cpu_seconds(code, environ), cpu_seconds("import airflow.sdk", environ)) for _ in range(RUNS)]
            ratios[name] = statistics.median(ours / base for ours, base in pairs)
            times.append(statistics.median(ours for ours, _ in pairs))
            bases.append(statistics.median(base for _, base in pairs))
            print(f"{name:14s} {times[-1]:.2f} s, {ratios[name]:.2f} times the import of airflow.sdk alone")
    slowest = max(ratios, key=lambda name: ratios[name])
    figure = {
        "bench": "parse_time",
        "ratio": round(ratios[slowest], 3),
        "ours": round(max(times), 3),
        "rivals": {"import airflow.sdk": round(statistics.median(bases), 3)},
        "unit": "CPU seconds per parse of the slowest file",
        "n": RUNS,
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "slowest": slowest,
    }
    print(json.dumps(figure))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
