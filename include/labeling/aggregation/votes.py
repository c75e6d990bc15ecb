"""Answers to a label question as arrays: who said which class about which item."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from include.errors import LabelingError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Votes:
    """n answers about N items by W workers, over K classes. One worker answers an item at most once.

    :param items: shape (n,), in 0..N-1.
    :param workers: shape (n,), in 0..W-1.
    :param labels: shape (n,), in 0..K-1.
    """

    items: Ints
    workers: Ints
    labels: Ints
    n_items: int
    n_workers: int
    n_classes: int

    def __post_init__(self) -> None:
        if not len(self.items) == len(self.workers) == len(self.labels):
            raise LabelingError("items, workers and labels differ in length", remedy="Give one of each per answer.")
        limits = {"items": self.n_items, "workers": self.n_workers, "labels": self.n_classes}
        for name, limit in limits.items():
            values: Ints = getattr(self, name)
            if len(values) and not 0 <= values.min() <= values.max() < limit:
                raise LabelingError(f"{name} has a position outside 0..{limit - 1}", remedy="Number them from 0.")

    def __len__(self) -> int:
        return len(self.items)

    def only(self, kept: npt.NDArray[np.bool_]) -> Votes:
        """The answers where ``kept`` (n,) is true; items, workers and classes keep their numbers."""
        return Votes(
            self.items[kept], self.workers[kept], self.labels[kept], self.n_items, self.n_workers, self.n_classes
        )

    def counts(self) -> Floats:
        """Answers per item and class, shape (N, K)."""
        return self.sum_votes(np.ones(len(self)))

    def sum_votes(self, weights: Floats) -> Floats:
        """Sum of weights (n,) per item and answered class, shape (N, K)."""
        cells = self.items * self.n_classes + self.labels
        sums: Floats = np.bincount(cells, weights, self.n_items * self.n_classes).astype(np.float64)
        return sums.reshape(self.n_items, self.n_classes)

    def per_item(self) -> Ints:
        """Answers per item, shape (N,)."""
        return np.bincount(self.items, minlength=self.n_items).astype(np.int64)

    def per_worker(self) -> Floats:
        """Answers per worker, shape (W,)."""
        return np.bincount(self.workers, minlength=self.n_workers).astype(np.float64)


@dataclass(frozen=True)
class Codebook:
    """What the numbers in ``Votes`` stand for: names in the order of their numbers."""

    items: list[Hashable]
    workers: list[str]
    classes: list[str]


def encode(answers: Iterable[tuple[Hashable, str, str]], classes: Sequence[str]) -> tuple[Votes, Codebook]:
    """Number (item, worker, class) answers; items and workers in order of first appearance.

    :param classes: every class people could choose, also those nobody chose.
    :raises LabelingError: for an answer that is none of the classes, or two by one worker on one item.
    """
    items: dict[Hashable, int] = {}
    workers: dict[str, int] = {}
    numbers = {name: number for number, name in enumerate(classes)}
    rows: dict[tuple[int, int], int] = {}
    for item, worker, value in answers:
        if value not in numbers:
            raise LabelingError(f"{value!r} is no class of the question", remedy="Raise the schema version.")
        key = items.setdefault(item, len(items)), workers.setdefault(worker, len(workers))
        if key in rows:
            raise LabelingError(f"{worker!r} answered {item!r} twice", remedy="Pass only the newest answer.")
        rows[key] = numbers[value]
    pairs = np.array(list(rows), dtype=np.int64).reshape(-1, 2)
    labels = np.array(list(rows.values()), dtype=np.int64)
    votes = Votes(pairs[:, 0], pairs[:, 1], labels, len(items), len(workers), len(classes))
    return votes, Codebook(list(items), list(workers), list(classes))
