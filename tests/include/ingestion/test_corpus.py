"""Every hostile input has the fate it must have, loses no row, and is read in bounded memory."""

import tracemalloc
from collections import Counter

import pyarrow as pa
import pytest

from include.ingestion.blocks import BadRow, RejectedObjectError
from include.ingestion.reading import read_blocks
from include.ingestion.rows import normalise
from include.project import Source
from tests.corpus.hostile import CASES, SOURCES, Case, Fate
from tests.include.ingestion.reading.rows_of import Pieces, collect

MOST_BYTES = 128 * 1024**2  # a row may have 8 MiB, and is held several times while it is read


def source_of(case: Case) -> Source:
    return Source.model_validate({"prefix": "in/", **SOURCES[case.format]})


def checks(bad: list[BadRow]) -> Counter[str]:
    """Rows by the first check they failed."""
    return Counter(one.failures[0]["expectation"] for one in bad)


def fate_of(case: Case, data: bytes) -> Fate:
    good = 0
    unreadable: Counter[str] = Counter()
    misfit: Counter[str] = Counter()
    try:
        for block in read_blocks(case.key, Pieces(data), source_of(case), len(data)):
            rows = normalise(source_of(case), block)
            assert len(rows.numbers) + len(rows.bad) == len(block.numbers) + len(block.bad)
            good += len(rows.numbers)
            unreadable += checks(block.bad)
            misfit += checks(rows.bad) - checks(block.bad)
    except RejectedObjectError as error:
        return Fate(rejected=error.check)
    return Fate(good, dict(unreadable), dict(misfit))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_fate_of_hostile_input(case: Case):
    data = case.data()
    if not case.big:
        assert fate_of(case, data) == case.fate
        return
    # Python counts its memory, Arrow its own
    arrow = pa.default_memory_pool()
    counting = pa.proxy_memory_pool(arrow)
    pa.set_memory_pool(counting)
    tracemalloc.start()
    try:
        assert fate_of(case, data) == case.fate
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(arrow)
    assert peak_bytes < MOST_BYTES, f"{peak_bytes:,} bytes in Python"
    assert counting.max_memory() < MOST_BYTES, f"{counting.max_memory():,} bytes in Arrow"


@pytest.mark.parametrize(
    "case", [one for one in CASES if not one.big and one.fate.rejected is None], ids=lambda case: case.name
)
def test_every_row_is_there_and_keeps_its_bytes(case: Case):
    data = case.data()
    rows = collect(read_blocks(case.key, Pieces(data, 999), source_of(case), len(data)))
    assert len(rows.numbers) + len(rows.bad) == case.fate.rows
    assert all(bad.raw and bad.reason and bad.stage == "parse" for bad in rows.bad)
    if case.key.lower().endswith(("jsonl", "csv")):
        assert all(raw in data for raw in [*rows.raw, *(bad.raw for bad in rows.bad)])


def test_the_corpus_is_one():
    assert len(CASES) >= 70
    assert len({case.name for case in CASES}) == len(CASES)
