"""How many labels a curve needs to reach a level, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Curves = Sequence[Sequence[tuple[int, float]]]  # one per seed: (labels, share of the full-data figure)

DRAWS = 1000


def mean_curve(curves: Curves) -> tuple[Floats, Floats]:
    """The grid of label counts, and the mean over seeds at each; between and after its points a curve is its last line.

    A curve ends when it has stayed above the level for a while, so what follows its end is not measured.
    """
    grid = np.array(sorted({count for curve in curves for count, _ in curve}), dtype=np.float64)
    rows = [np.interp(grid, [count for count, _ in curve], [value for _, value in curve]) for curve in curves]
    return grid, np.mean(rows, axis=0)


def labels_needed(curves: Curves, level: float) -> float:
    """Where the mean curve crosses the level for good; the whole pool when it never does, the start when always."""
    grid, mean = mean_curve(curves)
    below = np.flatnonzero(mean < level)
    if not below.size:
        return float(grid[0])
    last = int(below[-1])
    if last + 1 == grid.size:
        return float(grid[-1])
    share = (level - mean[last]) / (mean[last + 1] - mean[last])
    return float(grid[last] + share * (grid[last + 1] - grid[last]))


def ratio_interval(ours: Mapping[str, Curves], base: Mapping[str, Curves], level: float) -> tuple[float, float]:
    """95% bootstrap interval of the mean over sets of the ratio of labels needed: seeds are drawn anew, in pairs."""
    random = np.random.default_rng(0)
    means = []
    for _ in range(DRAWS):
        ratios = []
        for name, curves in ours.items():
            drawn = random.integers(0, len(curves), len(curves))
            mine, theirs = ([side[seed] for seed in drawn] for side in (curves, base[name]))
            ratios.append(labels_needed(mine, level) / labels_needed(theirs, level))
        means.append(fmean(ratios))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
