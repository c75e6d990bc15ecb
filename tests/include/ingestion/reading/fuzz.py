"""Any bytes under any ending give rows or ``RejectedObjectError``, nothing else.

Run by ``test_fuzz.py`` in a process of its own, because a mistake in native code ends the process. Each input is
written to the file that is named first, so that the last one can be looked at afterwards:
``python -m tests.include.ingestion.reading.fuzz <file> <examples>``.
"""

from __future__ import annotations

import gzip
import sys
from contextlib import suppress
from itertools import product
from pathlib import Path

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.ingestion.blocks import RejectedObjectError
from include.ingestion.rows import normalise
from include.lake.keys import uniform
from include.project import Source
from tests.corpus.hostile import CASES, SOURCES
from tests.include.ingestion.reading.rows_of import collect, limited, parquet, read_blocks_of

ENDINGS = [".jsonl", ".csv", ".parquet", ".jsonl.gz", ".csv.zst", ".parquet.gz", ".txt", ".png"]
FRAGMENTS = [
    *(b'{"id":"1","text":"a"}', b'{"age":5,"x":0.5}', b"null", b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\u", b"\\"),
    *(b"\n", b"\r", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\xed\xa0\x80", b"1e999", b"NaN", b"-", b" "),
    *(b"id,text\n", b"1,a\n", b'2,"b', b"PAR1", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"true", b'{"id":"\\ud800"}'),
]
SEEDS = [(case.key, data) for case in CASES if not case.big and len(data := case.data()) < 20_000]
COUNTS = {"read": 0, "rejected": 0, "rows": 0, "bad": 0}


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A hostile object made worse, mostly under its own ending; what is packed stays well packed at times."""
    key, original = draw(st.sampled_from(SEEDS))
    data = bytearray(original)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        stop = min(len(data), at + draw(st.integers(0, 8)))
        data[at:stop] = draw(st.binary(max_size=8) | st.sampled_from(FRAGMENTS))
    if draw(st.integers(0, 4)) == 0:
        return draw(made_up_keys), bytes(data)
    return key, bytes(data)


@st.composite
def made_up(draw: st.DrawFn) -> tuple[str, bytes]:
    """Bytes out of nowhere, packed as the ending says."""
    key = draw(made_up_keys)
    data = draw(st.binary(max_size=200) | st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join))
    if key.endswith(".gz"):
        return key, gzip.compress(data)
    return key, pa.compress(data, codec="zstd", asbytes=True) if key.endswith(".zst") else data


made_up_keys = st.sampled_from(["a" + ending for ending in ENDINGS])


def source_for(key: str) -> Source:
    """The limits are low, so that they are met."""
    form = "text" if key.endswith(".txt") else "image" if key.endswith(".png") else "rows"
    return limited(Source.model_validate({"prefix": "in/", **SOURCES[form]}), max_row_bytes=2048)


def fuzz(file: Path, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(made_up() | mutated(), st.integers(1, 3000))
    def any_bytes_are_rows_or_refused(found: tuple[str, bytes], most: int) -> None:
        key, data = found
        file.write_bytes(key.encode() + b"\n" + data)
        source = source_for(key)
        try:
            blocks = list(read_blocks_of(key, data, source, most))
        except RejectedObjectError:
            COUNTS["rejected"] += 1
            return
        rows = collect(blocks)
        for block in blocks:
            after = normalise(source, block)
            assert len(after.numbers) + len(after.bad) == len(block.numbers) + len(block.bad)
        COUNTS["read"] += 1
        COUNTS["rows"] += len(rows.numbers)
        COUNTS["bad"] += len(rows.bad)

    any_bytes_are_rows_or_refused()
    sys.stdout.write(" ".join(f"{name}={count}" for name, count in COUNTS.items()) + "\n")


def damage(file: Path, rounds: int) -> None:
    """Parquet files with single bytes changed, mostly in their footers, in the same order every time."""
    options = product(("none", "snappy", "zstd"), (True, False), ("1.0", "2.0"))
    columns = {"id": [str(n) for n in range(50)], "text": ["a"] * 50, "x": list(range(50)), "y": [[1, 2]] * 50}
    files = [
        parquet(pa.table(columns), compression=packing, use_dictionary=codes, data_page_version=pages)
        for packing, codes, pages in options
    ]
    files += [data for key, data in SEEDS if key.endswith(".parquet")]
    for round_ in range(rounds):
        data = bytearray(files[round_ % len(files)])
        for change in range(1 + round_ % 3):
            coin = uniform(round_, change)
            at = int(coin * len(data)) if coin < 0.5 else max(0, len(data) - 1 - int((coin - 0.5) * 1800))
            data[at] = int(uniform(round_, change, "value") * 256)
        file.write_bytes(data)
        with suppress(RejectedObjectError):
            collect(read_blocks_of("a.parquet", bytes(data), source_for("a.parquet"), 2**30))


if __name__ == "__main__":
    damage(Path(sys.argv[1]), 3 * int(sys.argv[2]))
    fuzz(Path(sys.argv[1]), int(sys.argv[2]))
