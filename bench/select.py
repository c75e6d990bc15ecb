"""500 records from 10⁷ scored candidates by the full mixture: how much more than reading their scores once?

Candidates lie in 16 Parquet files, one per shard, as ``predictions`` keeps them: record id, label, confidence, margin,
entropy, class probabilities, and a metadata column to stratify by. **Ours** reads them shard by shard, keeps a few
numbers of each record, and draws by nine strategies at once (k-centers among 10,000 and hybrid included). The **rival**
is one scan: the same columns decoded shard by shard and added up, nothing else. Vectors of the shortlists are made up
from the ids: 10⁴ of them are little to read.

Each side is a process of its own and runs three times in turn; the median counts. Memory is the peak of the process.
The same draw from one single partition of all candidates must choose the same records with the same probabilities. Not
timed: ``production`` and ``relabel``, which read other tables, and finding out who was asked before. Reading label and
probabilities of the 500, for their reasons and suggestions, is timed apart: ``seconds_words``.

The files are made once, in ``.standalone/bench/select-<n>``. Last line: JSON; ``ratio`` is our time over the scan's.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.support.environments import bench_folder
from include.lake.keys import SHARDS, digest
from include.sampling.candidates import ID_BITS, matrix, texts_of
from include.sampling.draw import Bits, Least, coins, seed_bits
from include.sampling.mixture import THREADS, Drawn, Entry, Part, draw, part_of
from include.sampling.strategies import Candidates, CertaintyStrategy, make_strategy

CANDIDATES = 10_000_000
SIZE = 500
ROUNDS = 3
DIMENSIONS = 64
CLASSES = ("alpha", "beta", "gamma", "rare")
LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pl", "pt")
MIXTURE: list[tuple[str, float, dict[str, Any]]] = [
    ("random", 0.2, {}),
    ("stratified", 0.1, {"by": "lang"}),
    ("margin", 0.2, {}),
    ("entropy", 0.1, {}),
    ("least_confidence", 0.05, {}),
    ("rare_class", 0.1, {"classes": ["rare"]}),
    ("stale", 0.05, {"by": "lang"}),
    ("hybrid", 0.1, {}),
    ("diverse", 0.1, {"method": "kcenter"}),
]
KNOWN = {"asked.metadata.lang": {"en": 900.0, "de": 100.0}}
SCORES = ["record_id", "lang", "label", "confidence", "margin", "entropy", "probabilities"]
DRAWN_FROM = [name for name in SCORES if name != "label"]
TARGET = {"ratio": 2.0, "peak_memory_bytes": 1_000_000_000}


def make_files(folder: Path, count: int) -> None:
    """Synthetic scores: a model that is mostly sure, one class in fifty rare."""
    done = folder / "done"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    print(f"making {count} candidates in {folder}", flush=True)
    for number, shard in enumerate(SHARDS):
        random = np.random.default_rng([count, number])
        n = count // 16 + (number < count % 16)
        first = (random.integers(0, 2**60, n, dtype=np.uint64)) | (np.uint64(number) << np.uint64(60))
        first.sort()
        ids = pl.Series("a", [f"{one:016x}" for one in first.tolist()])
        rest = pl.Series("b", [f"{one:016x}" for one in random.integers(0, 2**63, n, dtype=np.uint64).tolist()])
        scores = random.exponential(1.0, (n, 4)).astype(np.float32) ** 3 * np.array([1.0, 1.0, 0.7, 0.02], np.float32)
        chances = scores / scores.sum(axis=1, keepdims=True)
        ordered = np.sort(chances, axis=1)
        entropy = -(chances * np.log(np.maximum(chances, 1e-12))).sum(axis=1) / np.log(4)
        pl.DataFrame(
            {
                "record_id": ids + rest,
                "lang": pl.Series(np.array(LANGUAGES)[random.zipf(1.7, n) % len(LANGUAGES)]),
                "label": pl.Series(np.array(CLASSES)[chances.argmax(axis=1)]),
                "confidence": ordered[:, -1].astype(np.float64),
                "margin": (ordered[:, -1] - ordered[:, -2]).astype(np.float64),
                "entropy": np.clip(entropy, 0, 1).astype(np.float64),
                "probabilities": pl.Series(chances).arr.to_list(),
            }
        ).write_parquet(folder / f"{shard}.parquet", compression="zstd", compression_level=1, row_group_size=65_536)
    done.touch()


def scan(folder: Path) -> dict[str, Any]:
    """Decode every score column once."""
    total = 0.0
    for shard in SHARDS:
        frame = pl.read_parquet(folder / f"{shard}.parquet", columns=SCORES)
        total += sum(frame[name].sum() for name in ("confidence", "margin", "entropy"))
        total += frame["record_id"].len() + frame["label"].len() + frame["lang"].len()
        total += frame["probabilities"].explode().sum()
    return {"total": total}


def entries() -> list[Entry]:
    return [Entry(name, make_strategy(name, options), share) for name, share, options in MIXTURE]


def candidates_of(frame: pl.DataFrame) -> tuple[Candidates, Bits]:
    """The frame as strategies see it, with the first 64 bits of the ids."""
    columns = {name: frame[name].to_numpy().astype(np.float32) for name in ("confidence", "margin", "entropy")}
    columns["probabilities"] = matrix(frame["probabilities"], len(CLASSES))
    bits = frame.select(ID_BITS).to_series().to_numpy()
    return Candidates(frame.height, columns, CLASSES, KNOWN, {"metadata.lang": texts_of(frame["lang"])}), bits


def choose(folder: Path, *, single: bool) -> dict[str, Any]:
    """The whole selection; ``single``: all candidates in one partition."""
    mixture = entries()
    files = [folder / f"{shard}.parquet" for shard in SHARDS]

    def part(group: list[Path]) -> Part:
        candidates, bits = candidates_of(pl.read_parquet(group, columns=DRAWN_FROM))
        return part_of(mixture, candidates, bits)

    with ThreadPoolExecutor(THREADS) as threads:
        parts = list(threads.map(part, [files] if single else [[file] for file in files]))
    drawn = draw(
        mixture, parts, size=SIZE, seed_of=lambda number: seed_bits("bench", number), floor_share=0.1, known=KNOWN
    )
    taken = {one.id_bits for one in drawn.chosen}
    rows: list[tuple[Any, ...]] = [
        (f"{one.id_bits:016x}", mixture[one.entry].name, one.cell, one.threshold, one.inclusion_probability)
        for one in drawn.chosen
    ]
    for number, shortlist in drawn.shortlists.items():
        for bits_chosen in certain(mixture[number], shortlist, drawn, number, taken):
            taken.add(bits_chosen)
            rows.append((f"{bits_chosen:016x}", mixture[number].name, None, None, None))
    return {"taken": sorted(taken), "digest": digest(*rows), "chosen": len(rows)}


def certain(entry: Entry, shortlist: Least, drawn: Drawn, number: int, taken: set[int]) -> list[int]:
    """What a certainty strategy takes from its shortlist."""
    strategy = entry.strategy
    assert isinstance(strategy, CertaintyStrategy)  # noqa: S101 - only these have shortlists
    places = drawn.places[number]
    free = np.flatnonzero([one not in taken for one in shortlist.ids.tolist()])[: strategy.shortlist(places)]
    ids = shortlist.ids[free]
    columns = {"margin": shortlist.keys[free].astype(np.float32), "vector": vectors_of(ids)}
    chosen = strategy.choose(Candidates(ids.size, columns), places, seed=seed_bits("bench", number))
    return [int(one) for one in ids[chosen]]


def vectors_of(ids: Bits) -> Any:
    """A unit vector for each id, made of coins."""
    vectors = np.stack([coins(ids, seed_bits("vector", axis)) - 0.5 for axis in range(DIMENSIONS)], axis=1)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def read_words(folder: Path, bits: list[int]) -> int:
    """Read labels and probabilities of the chosen records, for reasons and suggestions; returns how many were found."""
    prefixes = [f"{one:016x}" for one in bits]
    found = 0
    for shard in SHARDS:
        mine = [one for one in prefixes if one[0] == shard]
        if mine:
            wanted = pl.scan_parquet(folder / f"{shard}.parquet").filter(pl.col("record_id").str.head(16).is_in(mine))
            found += wanted.select("record_id", "label", "confidence", "probabilities").collect().height
    return found


def side(name: str, folder: Path) -> None:
    """Run one side in this process and print its figures."""
    started, busy = time.perf_counter(), time.process_time()
    result = scan(folder) if name == "scan" else choose(folder, single=name == "single")
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - busy
    if taken := result.pop("taken", None):
        result["found"] = read_words(folder, taken)
        result["seconds_words"] = time.perf_counter() - started - seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_memory_bytes": peak, **result}))


def run(name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.select", "--side", name, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own interpreter
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    took = f"{figures['seconds']:.2f} s, CPU {figures['cpu_seconds']:.2f} s"
    print(f"{name:>7s}: {took}, peak {figures['peak_memory_bytes'] / 2**20:.0f} MiB", flush=True)
    return figures


def main() -> int:
    """Make the files when they are missing, run both sides in turn, then compare with the single partition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--side", choices=["scan", "ours", "single"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        side(asked.side, asked.folder)
        return 0
    folder = bench_folder() / f"select-{asked.candidates}"
    make_files(folder, asked.candidates)
    run("scan", folder)  # brings the files into the page cache
    rounds = [{name: run(name, folder) for name in ("scan", "ours")} for _ in range(asked.rounds)]
    single = run("single", folder)
    ours, scanned = (statistics.median(one[name]["seconds"] for one in rounds) for name in ("ours", "scan"))
    cpu = {name: statistics.median(one[name]["cpu_seconds"] for one in rounds) for name in ("scan", "ours")}
    peak = max(one["ours"]["peak_memory_bytes"] for one in rounds)
    equal = {one["ours"]["digest"] for one in rounds} == {single["digest"]}
    result = {
        "bench": "select",
        "ratio": round(ours / scanned, 3),
        "ours": round(ours, 2),
        "rivals": {"one_scan": round(scanned, 2)},
        "unit": "seconds",
        "n": asked.candidates,
        "selected": rounds[0]["ours"]["chosen"],
        "seconds_words": round(statistics.median(one["ours"]["seconds_words"] for one in rounds), 2),
        "ratio_cpu": round(cpu["ours"] / cpu["scan"], 3),
        "peak_memory_bytes": peak,
        "peak_memory_bytes_scan": max(one["scan"]["peak_memory_bytes"] for one in rounds),
        "partitioned_equals_single_pass": equal,
        "reached": ours <= TARGET["ratio"] * scanned and peak < TARGET["peak_memory_bytes"] and equal,
    }
    print(json.dumps(result))
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
