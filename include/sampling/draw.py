"""Priority (bottom-k) sampling: a draw without replacement whose inclusion probabilities are known.

Source: N. Duffield, C. Lund, M. Thorup, *Priority sampling for estimation of arbitrary subset sums*, J. ACM 54, 2007.
With coins u_i in (0, 1) and weights w_i, the k records with the smallest u_i / w_i are drawn; with tau the (k+1)-th
smallest, pi_i = min(1, w_i * tau). The coin is a hash, so the same draw repeats anywhere, in any partitioning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """The outcome of one draw over N candidates.

    ``chosen``: positions of the drawn candidates, smallest key first, shape (min(k, N),).
    ``probability``: chance of each candidate to be drawn, shape (N,).
    ``threshold``: tau; infinite when everyone was drawn.
    """

    chosen: npt.NDArray[np.int64]
    probability: Floats
    threshold: float


def priority_draw(weights: Floats, coins: Floats, size: int) -> Draw:
    """Draw ``size`` of N candidates.

    :param weights: shape (N,), positive.
    :param coins: shape (N,), in (0, 1).
    :raises ValueError: for weights or coins out of range, or shapes that differ.
    """
    if weights.shape != coins.shape:
        raise ValueError(f"weights and coins differ in shape: {weights.shape} and {coins.shape}")
    if weights.size and not (np.isfinite(weights).all() and weights.min() > 0):
        raise ValueError("weights must be positive and finite: give every candidate a floor")
    if coins.size and not (coins.min() > 0 and coins.max() < 1):
        raise ValueError("coins must lie strictly between 0 and 1")
    keys = coins / weights
    order = np.argsort(keys, kind="stable")
    if size >= weights.size:
        return Draw(order, np.ones_like(weights), float("inf"))
    threshold = float(keys[order[size]])
    return Draw(order[:size], np.minimum(1.0, weights * threshold), threshold)


def margin_weights(margins: Floats, floor_share: float) -> Floats:
    """Weights of the ``margin`` strategy: (1 - margin)^2, plus a floor that keeps every probability away from 0.

    :param margins: best minus second-best class probability, shape (N,), in [0, 1].
    :param floor_share: the floor, as a share of the mean weight; bounds how large 1/pi can get.
    """
    weights = (1.0 - margins) ** 2
    floor = floor_share * float(weights.mean()) if weights.size else 0.0
    return np.asarray(weights + max(floor, 1e-9), dtype=np.float64)
