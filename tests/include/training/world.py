"""A small mailbox: records, selections and labels as the other steps of the loop leave them in the lake."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from include.lake import Lake, keys
from include.project import Project

START = datetime(2026, 3, 1, tzinfo=UTC)
VOCABULARY = {
    "spam": "offer cheap pills winner prize click free money urgent loan credit bonus casino deal refund",
    "ham": "meeting agenda minutes report draft budget lunch project review schedule team notes travel plan",
    "list": "kernel patch compile module branch merge commit driver build release bug trace thread socket",
    "shared": "hello please thanks regards today week about with from see attached new all best time this that",
}
WORDS = {kind: words.split() for kind, words in VOCABULARY.items()}


def mails(kinds: Sequence[str], *, seed: int, clarity: float = 0.35) -> list[str]:
    """One text per kind; ``clarity`` is the share of words that tell it, the rest tells nothing or the wrong kind."""
    random = np.random.default_rng(seed)
    other = WORDS["spam"] + WORDS["ham"] + WORDS["list"]
    texts = []
    for kind in kinds:
        words = []
        for coin in random.random(14):
            source = WORDS[kind] if coin < clarity else (other if coin < clarity + 0.15 else WORDS["shared"])
            words.append(str(random.choice(source)))
        texts.append(" ".join(words))
    return texts


@dataclass
class World:
    """Writes rows; every write is an append of its own."""

    project: Project
    lake: Lake
    kinds: dict[str, str] = field(default_factory=dict)  # the true kind of each record
    hashes: dict[str, str] = field(default_factory=dict)
    appends: Any = field(default_factory=itertools.count)

    def write(self, table: str, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows, filling in the project and the shard."""
        filled = [
            {
                "project": self.project.name,
                **({"shard": keys.shard(row["record_id"])} if "record_id" in row else {}),
                **row,
            }
            for row in rows
        ]
        self.lake.append(table, filled, app_id=f"world/{next(self.appends)}")

    def records(
        self, kinds: Sequence[str], *, name: str, at: datetime = START, clarity: float = 0.35, **columns: Any
    ) -> list[str]:
        """Ingest one mail per kind and return the record ids."""
        seed = int(keys.digest(name)[:8], 16)
        rows = []
        for number, (kind, text) in enumerate(zip(kinds, mails(kinds, seed=seed, clarity=clarity), strict=True)):
            record_id = keys.record_id(self.project.name, f"{name}-{number}")
            self.kinds[record_id] = kind
            self.hashes[record_id] = keys.content_hash({"text": text})
            rows.append(
                {
                    "record_id": record_id,
                    "revision": 1,
                    "content_hash": self.hashes[record_id],
                    "fields_json": keys.canonical_json({"text": text}),
                    "event_at": at + timedelta(seconds=number),
                    "ingested_at": at,
                    **columns,
                }
            )
        self.write("records", rows)
        return [row["record_id"] for row in rows]

    def select(
        self,
        record_ids: Iterable[str],
        *,
        batch: str = "b1",
        split: str = "train",
        at: datetime = START + timedelta(hours=1),
        **columns: Any,
    ) -> None:
        """Choose records for a batch."""
        common = {"inclusion_probability": 0.5, "strategy": "random", "gold": False, **columns}
        self.write(
            "selections",
            [
                {
                    "record_id": one,
                    "content_hash": self.hashes[one],
                    "batch_id": batch,
                    "split": split,
                    "selected_at": at,
                    **common,
                }
                for one in record_ids
            ],
        )

    def label(self, record_ids: Iterable[str], *, revision: int = 1, value: str | None = None, **columns: Any) -> None:
        """Give records their true kind, or ``value``, as final label."""
        common = {"question": "kind", "schema_version": 1, "posterior": 1.0, "status": "final", **columns}
        self.write(
            "labels",
            [
                {
                    "record_id": one,
                    "content_hash": self.hashes[one],
                    "revision": revision,
                    "value_json": keys.canonical_json(value or self.kinds[one]),
                    **common,
                }
                for one in record_ids
            ],
        )

    def predict(
        self, record_ids: Sequence[str], labels: Sequence[str], confidences: Sequence[float], *, version: str = "v1"
    ) -> None:
        """What a model says of records."""
        self.write(
            "predictions",
            [
                {
                    "record_id": one,
                    "content_hash": self.hashes[one],
                    "model_version": version,
                    "origin": "batch",
                    "label": label,
                    "confidence": confidence,
                }
                for one, label, confidence in zip(record_ids, labels, confidences, strict=True)
            ],
        )


def mixed(count: int, kinds: Sequence[str] = ("spam", "ham", "list")) -> list[str]:
    """``count`` kinds, in turn."""
    return [kinds[number % len(kinds)] for number in range(count)]
