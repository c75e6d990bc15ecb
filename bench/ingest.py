"""Rows per second from S3 to a committed table: Labelwheel against five ways to load the same JSON Lines.

Ours does everything the ``ingest`` DAG does: parse, validate with ten expectations, quarantine the rows that fail,
commit exactly once. Each side is a process of its own, in an environment of its own, on the same server and objects;
imports and a warm-up come before the clock; every side may use all cores. Sides run in turn, and in reverse order every
other round. What each side stored is read back and compared after every run. Then the peak memory of our largest
process for 10⁵, 10⁶ and 10⁷ rows. Last line: JSON; a ratio is ours divided by the rival, in rows per second, the median
over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections import defaultdict
from types import FrameType
from typing import Any

from bench.support import mails
from bench.support.arena import LAKE, LANDING, OURS, OURS_AS_TASKS, RIVALS, Arena, open_arena
from bench.support.environments import bench_folder

ROWS = 1_000_000
# dlt's stock reader handles some thousand rows per second: it gets a tenth, and rows per second are compared.
DLT_SHARE = 10
MAX_ROUNDS = 5
ROUNDS_SECONDS = 480  # no new round is begun that would end later
MEMORY_ROWS = (100_000, 1_000_000, 10_000_000)
LOAD, DLT_LOAD = "load/", "load_dlt/"


def main() -> int:
    """Run everything, or what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="a multiple of 500,000")
    parser.add_argument("--rounds", type=int, default=MAX_ROUNDS, help="at most")
    parser.add_argument("--only", nargs="*", choices=sorted(RIVALS), help="these rivals; none: memory only")
    parser.add_argument("--memory-rows", type=int, nargs="*", default=list(MEMORY_ROWS))
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    rivals = list(RIVALS) if arguments.only is None else arguments.only
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, every side may use all of them; load before the start: {load:.1f}", flush=True)
    figure: dict[str, Any] = {"bench": "ingest", "load_before": round(load, 1)}
    with open_arena() as arena:
        if rivals:
            figure |= race(arena, rivals, arguments.rows, arguments.rounds)
        if arguments.memory_rows:
            figure |= memory(arena, arguments.memory_rows)
    print(json.dumps(figure))
    return 0


def _stop(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def race(arena: Arena, rivals: list[str], rows: int, max_rounds: int) -> dict[str, Any]:
    """All sides in turn, as often as the time allows."""
    paths = mails.objects(bench_folder(), rows)
    arena.upload(LOAD, paths)
    arena.upload(DLT_LOAD, paths[: len(paths) // DLT_SHARE])
    speeds: dict[str, list[float]] = defaultdict(list)
    efforts: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, list[int]] = defaultdict(list)
    began = longest = 0.0
    start = time.monotonic()
    for number in range(max_rounds):
        began = time.monotonic()
        if number and began - start + longest > ROUNDS_SECONDS:
            break
        names = ["ours", *rivals]
        for name in names if number % 2 == 0 else reversed(names):
            figures = one_run(arena, name, rows, f"round_{number}_{name}")
            speeds[name].append(figures["rows"] / figures["wall_seconds"])
            efforts[name].append(figures["rows"] / figures["cpu_seconds"])
            peaks[name].append(figures["peak_memory_bytes"])
        longest = max(longest, time.monotonic() - began)
    ratios = {name: _median_ratio(speeds["ours"], speeds[name]) for name in rivals}
    cpu_ratios = {name: _median_ratio(efforts["ours"], efforts[name]) for name in rivals}
    for name in rivals:
        print(
            f"ours : {name:12s} {ratios[name]:7.2f} in rows per second, {cpu_ratios[name]:7.2f} in rows per CPU second"
        )
    if "dlt" in rivals:
        print(f"dlt's stock reader was given {rows // DLT_SHARE} rows, all others {rows}")
    keys = {name: "ratio" if name == "pandas_gx" else f"ratio_{name}" for name in rivals}
    return {
        **{keys[name]: round(ratio, 3) for name, ratio in ratios.items()},
        "cpu_ratios": {name: round(ratio, 3) for name, ratio in cpu_ratios.items()},
        "ours": round(statistics.median(speeds["ours"])),
        "rivals": {name: round(statistics.median(speeds[name])) for name in rivals},
        "unit": "rows per second",
        "n": len(speeds["ours"]),
        "rows": rows,
        "rows_dlt": rows // DLT_SHARE,
        "quarantined": mails.expected_bad(rows).total(),
        "peak_memory_bytes_by_side": {name: max(values) for name, values in peaks.items()},
    }


def one_run(arena: Arena, name: str, rows: int, output: str) -> dict[str, Any]:
    """Run one side, check what it stored, remove it, and say how it was."""
    side = OURS if name == "ours" else RIVALS[name]
    prefix, its_rows = (DLT_LOAD, rows // DLT_SHARE) if name == "dlt" else (LOAD, rows)
    figures = arena.run(side, prefix, output)
    arena.check(side, figures, output, its_rows, ("msg",))
    arena.remove(LAKE, output)
    print(
        f"{name:12s} {figures['rows']:>9d} rows {figures['wall_seconds']:8.2f} s {figures['cpu_seconds']:8.2f} CPU s "
        f"{figures['rows'] / figures['wall_seconds']:10,.0f} rows/s {figures['peak_memory_bytes'] / 2**20:7.0f} MiB",
        flush=True,
    )
    return figures


def _median_ratio(ours: list[float], rival: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, rival, strict=True))


def memory(arena: Arena, sizes: list[int]) -> dict[str, Any]:
    """The peak memory of our largest process for growing loads, one process for each batch.

    Beyond the rows at hand, the same rows under other ids.
    """
    peaks: dict[int, int] = {}
    for rows in sorted(sizes):
        prefix = f"memory_{rows}/"
        repeats = max(rows // ROWS, 1)
        tags = tuple(f"m{number:02d}" for number in range(repeats))
        for tag in tags:
            arena.upload(prefix, mails.objects(bench_folder(), rows // repeats), tag=tag)
        figures = arena.run(OURS_AS_TASKS, prefix, f"memory_{rows}")
        arena.check(OURS_AS_TASKS, figures, f"memory_{rows}", rows, tags)
        arena.remove(LAKE, f"memory_{rows}")
        arena.remove(LANDING, prefix)
        peaks[rows] = figures["peak_memory_bytes"]
        print(f"{rows:>9d} rows: peak {peaks[rows] / 2**20:.0f} MiB, {figures['wall_seconds']:.1f} s", flush=True)
    return {
        "peak_memory_bytes": {str(rows): peak for rows, peak in peaks.items()},
        "peak_memory_ratio": round(max(peaks.values()) / min(peaks.values()), 3),
    }


if __name__ == "__main__":
    raise SystemExit(main())
