"""Few points that stand for many: weighted k-means with one record per cluster, and greedy k-centers.

Both are deterministic for a seed; distances are Euclidean, which for vectors of unit length orders like cosine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

ROUNDS = 10  # of Lloyd's algorithm; later ones hardly move a center


def one_per_cluster(vectors: Vectors, weights: Floats, count: int, *, seed: int) -> Positions:
    """The record next to the center of each of ``count`` weighted k-means clusters.

    Source: F. Zhdanov, *Diverse mini-batch active learning*, arXiv:1901.05954, 2019; the start is k-means++ (D. Arthur,
    S. Vassilvitskii, SODA 2007) with weights.

    :param vectors: shape (M, D).
    :param weights: shape (M,), positive: how much each record pulls its center.
    :returns: min(count, M) different positions, in ascending order.
    """
    if count <= 0 or count >= len(vectors):
        return np.arange(len(vectors) if count > 0 else 0)
    points = np.ascontiguousarray(vectors, dtype=np.float32)
    pull = np.asarray(weights, dtype=np.float64)
    centers = points[_spread(points, pull, count, seed)]
    for _ in range(ROUNDS):
        nearest, _ = _nearest(points, centers)
        moved = _centers(points, pull, nearest, centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    nearest, distance = _nearest(points, centers)
    order = np.lexsort((np.arange(len(points)), distance, nearest))
    first = np.r_[True, nearest[order][1:] != nearest[order][:-1]]
    return _filled(points, order[first], count)


def centers_of(vectors: Vectors, count: int) -> Positions:
    """Greedy k-center: each next record is the one farthest from those taken; the first is nearest to the mean.

    Source: T. F. Gonzalez, *Clustering to minimize the maximum intercluster distance*, TCS 38, 1985 (at most twice the
    best radius); for active learning: O. Sener, S. Savarese, *A core-set approach*, ICLR 2018.

    :param vectors: shape (M, D).
    :returns: min(count, M) different positions, in ascending order.
    """
    if count <= 0 or count >= len(vectors):
        return np.arange(len(vectors) if count > 0 else 0)
    points = np.ascontiguousarray(vectors, dtype=np.float32)
    _, from_mean = _nearest(points, points.mean(axis=0)[None, :])
    start = int(from_mean.argmin())
    return _filled(points, np.array([start]), count)


def _filled(points: Vectors, chosen: Positions, count: int) -> Positions:
    """``chosen`` and, until there are ``count``, the record farthest from all of them."""
    taken = [int(one) for one in chosen]
    if len(taken) < count:
        lengths = _lengths(points)
        distance = np.full(len(points), np.inf, dtype=np.float32)
        for one in taken:
            distance = np.minimum(distance, _squares(points, lengths, one))
        distance[taken] = -1.0  # so that copies of a taken record, at distance 0, come before itself
        while len(taken) < count:
            taken.append(int(distance.argmax()))
            distance = np.minimum(distance, _squares(points, lengths, taken[-1]))
            distance[taken] = -1.0
    return np.sort(np.array(taken, dtype=np.int64))


def _spread(points: Vectors, weights: Floats, count: int, seed: int) -> list[int]:
    """Positions to start from: each next one drawn in proportion to weight times squared distance (k-means++)."""
    random = np.random.default_rng(seed)
    lengths = _lengths(points)
    taken: list[int] = []
    chance = weights.copy()
    distance = np.full(len(points), np.inf, dtype=np.float32)
    for _ in range(count):
        if chance.sum() <= 0:  # fewer different vectors than clusters
            break
        taken.append(_drawn(chance, random.random()))
        distance = np.minimum(distance, _squares(points, lengths, taken[-1]))
        distance[taken[-1]] = 0.0
        chance = weights * distance
    return taken


def _drawn(chance: Floats, coin: float) -> int:
    """A position, in proportion to its chance; never one without any."""
    edges = np.cumsum(chance)
    return int(min(np.searchsorted(edges, coin * edges[-1], side="right"), np.flatnonzero(chance)[-1]))


def _lengths(points: Vectors) -> Vectors:
    """Squared lengths, shape (M,)."""
    return np.asarray(np.einsum("md,md->m", points, points))


def _squares(points: Vectors, lengths: Vectors, one: int) -> Vectors:
    """Squared distances to record ``one``, shape (M,)."""
    return np.asarray(np.maximum(lengths - 2.0 * (points @ points[one]) + lengths[one], 0.0), dtype=np.float32)


def _nearest(points: Vectors, centers: Vectors) -> tuple[Positions, Vectors]:
    """The nearest center of each record, and the squared distance to it."""
    distance = _lengths(centers)[None, :] - 2.0 * (points @ centers.T)
    nearest = distance.argmin(axis=1)
    return nearest, distance[np.arange(len(points)), nearest] + _lengths(points)


def _centers(points: Vectors, weights: Floats, nearest: Positions, before: Vectors) -> Vectors:
    """Weighted means; a cluster that lost all its records keeps its center."""
    order = np.argsort(nearest, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(nearest[order]) > 0])
    clusters = nearest[order][starts]
    pulls = np.add.reduceat(weights[order], starts)
    sums = np.add.reduceat(points[order] * weights[order, None], starts, axis=0)
    moved = before.copy()
    moved[clusters] = (sums / pulls[:, None]).astype(np.float32)
    return moved
