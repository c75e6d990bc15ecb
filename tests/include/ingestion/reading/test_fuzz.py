"""Arbitrary bytes under every ending, in a process of its own: native code must not end it."""

import subprocess
import sys
from pathlib import Path


def test_any_bytes_are_rows_or_refused(tmp_path: Path):
    last = tmp_path / "last"
    command = [sys.executable, "-W", "error", "-m", "tests.include.ingestion.reading.fuzz", str(last), "600"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[4], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{done.stderr[-4000:]}\nlast input: {last.read_bytes()!r}"
    counts = dict(one.split("=") for one in done.stdout.split())
    assert all(int(counts[name]) > 50 for name in ("read", "rejected", "rows", "bad")), counts
