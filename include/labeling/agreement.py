"""How much annotators agree: Krippendorff's alpha for labels, exact-span F1 for spans. Pure numpy.

Source: K. Krippendorff, *Content Analysis*, 3rd ed., 2013, ch. 12; *Computing Krippendorff's Alpha-Reliability*, 2011.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Span = tuple[int, int, str]  # start, end, label

REPLICATES = 400


@dataclass(frozen=True)
class Agreement:
    """A figure with its 95% bootstrap interval over records, and how many records it rests on."""

    value: float
    low: float
    high: float
    n: int


def value_counts(units: Sequence[Sequence[Hashable]]) -> Counts:
    """How often each value was given, shape (N, K): N units, K distinct values over all of them."""
    position = {value: k for k, value in enumerate(dict.fromkeys(value for unit in units for value in unit))}
    counts = np.zeros((len(units), len(position)), dtype=np.int64)
    for row, unit in enumerate(units):
        for value in unit:
            counts[row, position[value]] += 1
    return counts


def nominal_alpha(counts: Counts) -> float | None:
    """Krippendorff's alpha at the nominal level, 1 − D_o / D_e.

    :param counts: shape (N, K), answers per unit and value; units with fewer than two answers are left out.
    :returns: None when it is undefined: nothing to pair, or all paired answers equal (no variation to agree on).
    """
    counts = counts[counts.sum(axis=1) >= 2]
    agreeing, answers = _pairs(counts)
    return _alpha(float(agreeing.sum()), counts.sum(axis=0).astype(np.float64), float(answers.sum()))


def alpha_with_interval(counts: Counts, *, seed: int) -> Agreement | None:
    """Alpha with a percentile bootstrap interval over units (Krippendorff's alpha has no closed-form variance).

    :returns: None where ``nominal_alpha`` is None.
    """
    counts = counts[counts.sum(axis=1) >= 2]
    alpha = nominal_alpha(counts)
    if alpha is None:
        return None
    agreeing, answers = _pairs(counts)
    draws = [_alpha(float(one @ agreeing), one @ counts, float(one @ answers)) for one in _resamples(len(counts), seed)]
    low, high = np.quantile([draw for draw in draws if draw is not None], [0.025, 0.975])
    return Agreement(alpha, min(float(low), alpha), max(float(high), alpha), len(counts))


def mean_with_interval(values: Sequence[float], *, seed: int) -> Agreement | None:
    """The mean with a percentile bootstrap interval; None without values."""
    if not values:
        return None
    data = np.asarray(values, dtype=np.float64)
    means = [float(one @ data) / len(data) for one in _resamples(len(data), seed)]
    mean = float(data.mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return Agreement(mean, min(float(low), mean), max(float(high), mean), len(data))


def span_f1(one: frozenset[Span], other: frozenset[Span]) -> float:
    """F1 of two span sets, exact match of start, end and label; 1.0 when both are empty."""
    return 1.0 if not one and not other else 2 * len(one & other) / (len(one) + len(other))


def mean_pairwise_f1(answers: Sequence[frozenset[Span]]) -> float:
    """Mean ``span_f1`` over all pairs of annotators; 1.0 for a single one."""
    pairs = [span_f1(one, other) for one, other in combinations(answers, 2)]
    return sum(pairs) / len(pairs) if pairs else 1.0


def _pairs(counts: Counts) -> tuple[Floats, Floats]:
    """Per unit: agreeing ordered pairs over (m − 1), and m; shapes (N,). Their sums are n − n·D_o and n."""
    answers = counts.sum(axis=1).astype(np.float64)
    return (counts * (counts - 1)).sum(axis=1) / np.maximum(answers - 1, 1), answers


def _alpha(agreeing: float, totals: Floats, answers: float) -> float | None:
    """Alpha from summed pairs, value totals (K,) and the number of pairable answers."""
    expected_disagreement = answers * (answers - 1) - float((totals * (totals - 1)).sum())
    if answers < 2 or expected_disagreement <= 0:
        return None
    return 1.0 - (answers - 1) * (answers - agreeing) / expected_disagreement


def _resamples(size: int, seed: int) -> Iterator[Floats]:
    """How often each of ``size`` units is drawn, per bootstrap replicate."""
    rng = np.random.default_rng(seed)
    for _ in range(REPLICATES):
        yield np.bincount(rng.integers(0, size, size), minlength=size).astype(np.float64)
