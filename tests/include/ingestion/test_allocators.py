"""Freed pages are used again; measured in a process of its own, because the setting is for a whole process."""

import subprocess
import sys

import pytest

BLOCK_BYTES = 64 * 1024**2
PAGES = BLOCK_BYTES // 4096

# Fills and frees a block three times, and prints Arrow's allocator and the page faults of the last time.
PROGRAM = """
import resource, sys
import pyarrow as pa
from include.ingestion.allocators import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults = 0
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(int(sys.argv[2]))[::4096] = b"x" * (int(sys.argv[2]) // 4096)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(pa.default_memory_pool().backend_name, faults)
"""


def run(setting: str) -> tuple[str, int]:
    arguments = [sys.executable, "-c", PROGRAM, setting, str(BLOCK_BYTES)]
    name, faults = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split()
    return name, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the allocators stay as they are")
def test_memory_that_was_freed_costs_no_page_faults_again():
    _, usual = run("default")
    allocator, faults = run("keep")
    assert usual > PAGES / 2
    assert faults < PAGES / 10
    assert allocator == "system", "Arrow must take its memory from the allocator that was set up"
