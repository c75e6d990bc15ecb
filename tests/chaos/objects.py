"""Source objects for the chaos run, each with what must become of every row in it.

All of it follows from the seed. A row's id names its object and its number, so a row that is lost or doubled is found
by name; ``Content`` is the truth the lake is compared with.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
from dataclasses import dataclass, field
from itertools import islice

FORMATS = ("jsonl", "csv", "jsonl.gz", "csv.gz", "parquet")
MAX_TEXT = 60  # longer texts break the project's expectation


@dataclass(frozen=True)
class Content:
    """One version of one object: its bytes and its rows.

    :param good: text by source id, of the rows that must become records.
    :param bad: names of the rows that must be quarantined, as they stand in the raw bytes.
    """

    data: bytes
    good: dict[str, str]
    bad: frozenset[str]

    @property
    def rows(self) -> int:
        """Rows of either kind."""
        return len(self.good) + len(self.bad)

    @property
    def etag(self) -> str:
        """What the server calls this content."""
        return hashlib.md5(self.data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Step:
    """One thing the source system does: write a content under a key, or (None) delete the key."""

    key: str
    content: Content | None


@dataclass
class World:
    """All steps of a source system in waves, and every content a key ever had."""

    waves: list[list[Step]]
    contents: dict[tuple[str, str], Content] = field(default_factory=dict)  # by (key, etag)
    final: dict[str, str | None] = field(default_factory=dict)  # key → etag of the last content, None when deleted


def make_world(rng: random.Random, objects: int, *, per_wave: int, prefix: str) -> World:
    """Objects of all formats in waves: some arrive late in an older folder, are overwritten, copied or deleted."""
    world = World([])
    numbers = iter(range(objects))
    for wave in range(-(-objects // per_wave)):
        steps = [_new_object(rng, number, wave, prefix) for number in islice(numbers, per_wave)]
        written = sorted(key for key, etag in world.final.items() if etag)
        if written:
            again = rng.choice(written)
            steps.append(Step(again, _content(rng, f"w{wave}", again)))  # overwritten, also while it is being read
            source = rng.choice(written)
            copied = world.contents[source, world.final[source] or ""]
            steps.append(Step(source.replace(prefix, f"{prefix}copies/{wave:03d}-", 1), copied))
        if wave % 5 == 4:
            steps.append(Step(rng.choice(written), None))
        for step in steps:
            world.final[step.key] = step.content.etag if step.content else None
            if step.content:
                world.contents[step.key, step.content.etag] = step.content
        world.waves.append(steps)
    return world


def _new_object(rng: random.Random, number: int, wave: int, prefix: str) -> Step:
    day = wave if rng.random() > 0.15 else rng.randrange(wave + 1)  # some come late, into an older folder
    key = f"{prefix}day={day:03d}/part {number:04d} ü.{rng.choice(FORMATS)}"
    return Step(key, _content(rng, f"o{number}", key))


def _content(rng: random.Random, name: str, key: str) -> Content:
    ending = key.partition(".")[2]
    rows: list[tuple[str, str | None]] = []
    for number in range(rng.randint(1, 40)):
        kind = rng.random()
        # Too long for the expectation, or missing; the rest is fine.
        text = "x" * (MAX_TEXT + 1) if kind < 0.05 else None if kind < 0.1 else f"text of {name}/{number}"
        rows.append((f"{name}/{number}", text))
    torn = ending.startswith("jsonl") and rng.random() < 0.5
    good = {source_id: text for source_id, text in rows if text is not None and len(text) <= MAX_TEXT}
    bad = {source_id for source_id, _ in rows if source_id not in good} | ({"torn"} if torn else set())
    return Content(_encode(ending, rows, torn), good, frozenset(bad))


def _encode(ending: str, rows: list[tuple[str, str | None]], torn: bool) -> bytes:
    if ending == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        pq.write_table(pa.table({"id": [one for one, _ in rows], "text": [text for _, text in rows]}), sink)
        return sink.getvalue()
    if ending.startswith("csv"):
        lines = ["id,text", *(f"{source_id},{text or ''}" for source_id, text in rows)]
    else:
        lines = [json.dumps({"id": source_id, "text": text}) for source_id, text in rows]
        lines += ['{"id": "torn", "te'] if torn else []
    data = ("\n".join(lines) + "\n").encode()
    return gzip.compress(data, mtime=0) if ending.endswith(".gz") else data
