"""Simulated people for tests of aggregation: the truth is known."""

from __future__ import annotations

import numpy as np

from include.labeling.aggregation.votes import Floats, Ints, Votes


def coin_matrix(accuracy: float, size: int) -> Floats:
    """Right with this chance, else evenly wrong; shape (K, K)."""
    matrix = np.full((size, size), (1 - accuracy) / (size - 1))
    np.fill_diagonal(matrix, accuracy)
    return matrix


def answers(confusion: Floats, truths: Ints, per_item: int, seed: int) -> Votes:
    """``per_item`` answers to every item by different people; confusion: shape (W, K, K), [worker, truth, answer]."""
    rng = np.random.default_rng(seed)
    n_workers, size, _ = confusion.shape
    chosen = rng.random((len(truths), n_workers)).argsort(axis=1)[:, :per_item].ravel()
    items = np.repeat(np.arange(len(truths)), per_item)
    cumulated = confusion[chosen, truths[items]].cumsum(axis=1)
    labels = np.minimum((rng.random(len(items))[:, None] > cumulated).sum(axis=1), size - 1)
    return Votes(items, chosen, labels, len(truths), n_workers, size)


def accuracy(posterior: Floats, truths: Ints) -> float:
    """Share of items whose likeliest class is the true one."""
    return float((posterior.argmax(axis=1) == truths).mean())
