"""Coins and bottom-k: what makes a draw repeat anywhere, in any partitioning.

A coin is a hash of the record's id and of a seed, so a retry, another worker or another order of the candidates toss
the same coins. The k records with the smallest keys can be found in each partition and merged: the k smallest of all
are among the k smallest of each part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from include.lake.keys import digest

Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]

ID_BITS_DIGITS = 16  # of a record id: its first 64 bits
BLOCK = 65_536  # records that are worked on at once, so that they stay in the processor's cache


def seed_bits(*parts: object) -> int:
    """64 bits that depend on nothing but the parts."""
    return int(digest("draw", *parts)[:16], 16)


def mix(ids: Bits) -> Bits:
    """The ids, mixed once, as ``toss`` wants them: the half of the work that all seeds share. Shape (N,)."""
    mixed = ids.copy()
    for start in range(0, ids.size, BLOCK):
        _splitmix(mixed[start : start + BLOCK])
    return mixed


def toss(mixed: Bits, seed: int) -> Bits:
    """64 random bits per record, of which ``coins_of`` makes a number.

    ``mixed`` are ids that went through ``mix``: the first 64 bits of SHA-256 based record ids, already uniform and
    independent between records. The finalizer of SplitMix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014) is a bijection
    of 64 bits, so the coins of one seed are as uniform as the ids. Each bit of its result depends on each bit of its
    input; it is applied before and after the seed comes in, so the coins of two seeds have nothing in common (tested).

    :param mixed: shape (N,).
    :param seed: 64 bits, from ``seed_bits``.
    """
    tossed = mixed ^ np.uint64(seed)
    for start in range(0, tossed.size, BLOCK):
        _splitmix(tossed[start : start + BLOCK])
    return tossed


def coins_of(tossed: Bits) -> Floats:
    """The bits as numbers in (0, 1), shape (N,)."""
    return np.asarray(((tossed >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)


def coins(ids: Bits, seed: int) -> Floats:
    """One coin per record, in (0, 1), shape (N,); see ``toss``."""
    return coins_of(toss(mix(ids), seed))


def below(tossed: Bits, limit: float) -> npt.NDArray[np.bool_]:
    """Where the coin may be at most ``limit``; some of those found are a trifle above. Shape (N,)."""
    if limit >= 1.0:
        return np.ones(tossed.size, dtype=bool)
    return tossed <= np.uint64(min(int(limit * 2.0**64) + 2**13, 2**64 - 1))


def _splitmix(bits: Bits) -> None:
    """In place."""
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)


@dataclass(frozen=True)
class Least:
    """The records with the smallest keys, smallest first; equal keys in the order of ids.

    ``part`` and ``position`` say where each record is: in which partition, and where in it. All have shape (k,).
    """

    keys: Floats
    ids: Bits
    part: Positions
    position: Positions

    @classmethod
    def of(cls, keys: Floats, ids: Bits, count: int, *, part: int, among: Positions | None = None) -> Least:
        """The ``count`` smallest of one partition.

        :param keys: shape (n,).
        :param ids: shape (n,).
        :param among: the positions of the keys and ids in the partition; 0 to n - 1 by default.
        """
        if 0 < count < keys.size:
            limit = np.partition(keys, count - 1)[count - 1]
            kept = np.flatnonzero(keys <= limit)  # more than count when keys are equal
        else:
            kept = np.arange(keys.size if count > 0 else 0)
        position = kept if among is None else among[kept]
        return cls(keys[kept], ids[kept], np.full(kept.size, part), position)._first(count)

    @classmethod
    def join(cls, pieces: Sequence[Least]) -> Least:
        """One after the other."""
        columns = {
            "keys": np.concatenate([np.empty(0), *(one.keys for one in pieces)]),
            "ids": np.concatenate([np.empty(0, np.uint64), *(one.ids for one in pieces)]),
            "part": np.concatenate([np.empty(0, np.int64), *(one.part for one in pieces)]),
            "position": np.concatenate([np.empty(0, np.int64), *(one.position for one in pieces)]),
        }
        return cls(**columns)

    @classmethod
    def merge(cls, parts: Sequence[Least], count: int) -> Least:
        """The ``count`` smallest of all, from at least the ``count`` smallest of each."""
        return cls.join(parts)._first(count)

    def bound(self, count: int) -> float:
        """The greatest key that could still be among the ``count`` smallest; infinite while there are fewer."""
        return float(self.keys[count - 1]) if 0 < count <= self.keys.size else np.inf

    def take(self, where: Sequence[int] | Positions) -> Least:
        """Some of them, in this order."""
        at = np.asarray(where, dtype=np.int64)
        return Least(self.keys[at], self.ids[at], self.part[at], self.position[at])

    def _first(self, count: int) -> Least:
        return self.take(np.lexsort((self.ids, self.keys))[:count])
