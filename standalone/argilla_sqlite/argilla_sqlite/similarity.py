"""Exact nearest neighbours by cosine, over the vectors in Argilla's own table."""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from argilla_sqlite.clause import placeholders
from argilla_sqlite.connections import Connection
from argilla_sqlite.errors import InvalidSearchError

# A dataset has at most five kinds of vectors: two datasets in use at a time stay in memory.
MAX_CACHED_MATRICES: Final = 10
BATCH_VECTORS: Final = 500

# Below every score.
_LEFT_OUT: Final = -1.0

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Vectors:
    """All vectors of one kind. Never changed once built, so a search may use it while a newer one is made.

    `record_ids` and `updated_at` have N items; `units` is (N, D) and its rows have length 1, or 0 for a zero vector.
    """

    record_ids: tuple[str, ...]
    updated_at: tuple[str, ...]
    units: Matrix


class VectorCache:
    """The vectors last searched, kept in memory and compared with the database before every use."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, connection: Connection, vector_settings_id: str, dimensions: int) -> Vectors:
        """Return the vectors as committed. Only those added or changed since the last call are read and parsed."""
        with self._lock:
            cached = self._entries.get(vector_settings_id)
            versions = connection.versions()
            if cached is None or connection.known_fresh.get(vector_settings_id) != versions:
                cached = self._entries[vector_settings_id] = _read(connection, vector_settings_id, dimensions, cached)
                connection.known_fresh[vector_settings_id] = versions
            self._entries.move_to_end(vector_settings_id)
            while len(self._entries) > MAX_CACHED_MATRICES:
                self._entries.popitem(last=False)
            return cached


def nearest(  # noqa: PLR0913 - one search has this many knobs; all but two are by keyword
    vectors: Vectors,
    query: Sequence[float],
    *,
    count: int,
    allowed_ids: set[str] | None = None,
    excluded_id: str | None = None,
    threshold: float | None = None,
) -> list[tuple[str, float]]:
    """Return up to `count` (record id, score) pairs, best first; the score is (1 + cosine) / 2, as in Elasticsearch.

    `allowed_ids` and `excluded_id` are applied before the `count` best are taken. Raises InvalidSearchError for a query
    vector of the wrong size or of length 0.
    """
    if not vectors.record_ids:
        return []
    scores = (1.0 + vectors.units @ _unit(query, vectors.units.shape[1])) / 2.0
    if allowed_ids is not None:
        scores[[record_id not in allowed_ids for record_id in vectors.record_ids]] = _LEFT_OUT
    if excluded_id in vectors.record_ids:
        scores[vectors.record_ids.index(excluded_id)] = _LEFT_OUT
    best = np.argsort(-scores, kind="stable")[:count]
    lowest = 0.0 if threshold is None else threshold
    # Rounding can put the score of an opposite vector a hair below 0.
    found = (
        (vectors.record_ids[position], max(float(scores[position]), 0.0))
        for position in best
        if scores[position] != _LEFT_OUT
    )
    return [(record_id, score) for record_id, score in found if score >= lowest]


def _unit(query: Sequence[float], dimensions: int) -> Matrix:
    if len(query) != dimensions:
        raise InvalidSearchError(
            f"The query vector has {len(query)} numbers, but this vector has {dimensions} dimensions."
        )
    vector = np.asarray(query, dtype=np.float32)
    norm = float(np.linalg.norm(vector))
    if norm == 0.0 or not np.isfinite(norm):
        raise InvalidSearchError("The query vector has no direction: its length must be finite and above 0.")
    unit: Matrix = vector / np.float32(norm)
    return unit


def _read(connection: Connection, vector_settings_id: str, dimensions: int, cached: Vectors | None) -> Vectors:
    with connection.snapshot():
        rows = connection.execute(
            "SELECT record_id, updated_at FROM argilla.vectors WHERE vector_settings_id = ? ORDER BY rowid",
            (vector_settings_id,),
        ).fetchall()
        known: dict[tuple[str, str], int] = {}
        units = np.zeros((len(rows), dimensions), dtype=np.float32)
        if cached is not None:
            stamps = zip(cached.record_ids, cached.updated_at, strict=True)
            known = {stamp: position for position, stamp in enumerate(stamps)}
            kept = [(position, known[row]) for position, row in enumerate(rows) if row in known]
            units[[new for new, _ in kept]] = cached.units[[old for _, old in kept]]
        positions = {row[0]: position for position, row in enumerate(rows) if row not in known}
        _load_units(connection, vector_settings_id, positions, units)
    return Vectors(tuple(record_id for record_id, _ in rows), tuple(stamp for _, stamp in rows), units)


def _load_units(connection: Connection, vector_settings_id: str, positions: dict[str, int], units: Matrix) -> None:
    """Read the vectors of the records in `positions` into those rows of `units`, scaled to length 1."""
    record_ids: Iterable[str] = iter(positions)
    while batch := list(islice(record_ids, BATCH_VECTORS)):
        wanted = placeholders(batch)
        for record_id, value in connection.execute(
            "SELECT record_id, value FROM argilla.vectors "
            f"WHERE vector_settings_id = ? AND record_id IN ({wanted.sql})",
            (vector_settings_id, *wanted.parameters),
        ):
            vector = np.asarray(json.loads(value), dtype=np.float32)
            norm = float(np.linalg.norm(vector))
            units[positions[record_id]] = vector / norm if norm > 0.0 else vector
