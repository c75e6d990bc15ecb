"""Ratings: people differ in how high they rate and in how much they scatter; both are estimated and taken into account.

Model: rating = item's value + rater's bias + error with the rater's own variance; weights are one over the variance.
Variances are hard to tell from few ratings, so biases and variances are drawn towards everyone's.

Source: the analysis of variance with raters as in J. L. Fleiss, *The Design and Analysis of Clinical Experiments*,
1986, ch. 1, solved by alternating weighted means; the weighted median as in F. Y. Edgeworth, 1888.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from include.labeling.aggregation.votes import Floats, Ints

PSEUDO_RATINGS = 5.0  # a rater's bias starts at 0 and the variance at everyone's, with this many ratings' weight
LEAST_VARIANCE = 1e-6
MAX_ROUNDS = 100
TOLERANCE = 1e-9


@dataclass(frozen=True)
class RatingFit:
    """Values of N items from ratings by W raters.

    :param mean: shape (N,), weighted mean of the ratings less each rater's bias; NaN without ratings.
    :param median: shape (N,), weighted median of the ratings as given; NaN without ratings.
    :param error: shape (N,), standard error of the mean.
    :param bias: shape (W,), how much higher than others a rater rates.
    :param variance: shape (W,), of a rater's errors.
    """

    mean: Floats
    median: Floats
    error: Floats
    bias: Floats
    variance: Floats


def fit_ratings(items: Ints, raters: Ints, values: Floats, *, n_items: int, n_raters: int) -> RatingFit:
    """Fit biases and variances to n ratings; ``items``, ``raters``, ``values`` have shape (n,)."""
    given = np.bincount(raters, minlength=n_raters)
    bias, variance = np.zeros(n_raters), np.ones(n_raters)
    mean = np.full(n_items, np.nan)
    for _ in range(MAX_ROUNDS):
        weights = 1 / variance[raters]
        total = np.bincount(items, weights, n_items)
        sums = np.bincount(items, weights * (values - bias[raters]), n_items)
        before, mean = mean, np.divide(sums, total, out=np.full(n_items, np.nan), where=total > 0)
        if np.allclose(before, mean, atol=TOLERANCE, rtol=0, equal_nan=True):
            break
        residual = values - mean[items]
        bias = np.bincount(raters, residual, n_raters) / (given + PSEUDO_RATINGS)
        squared = (residual - bias[raters]) ** 2
        pooled = max(float(squared.mean()), LEAST_VARIANCE) if len(values) else 1.0
        variance = (np.bincount(raters, squared, n_raters) + PSEUDO_RATINGS * pooled) / (given + PSEUDO_RATINGS)
    weights = 1 / variance[raters]
    total = np.bincount(items, weights, n_items)
    error = np.divide(1.0, np.sqrt(total), out=np.full(n_items, np.nan), where=total > 0)
    return RatingFit(mean, weighted_medians(items, values, weights, n_items=n_items), error, bias, variance)


def weighted_medians(items: Ints, values: Floats, weights: Floats, *, n_items: int) -> Floats:
    """The lowest value of each item at which half of the weight is reached, shape (N,); NaN without ratings."""
    order = np.lexsort((values, items))
    reached = weights[order].cumsum()
    total = np.bincount(items, weights, n_items)
    half = (total.cumsum() - total / 2)[items[order]]
    # A hair below half, so that two equal weights give the lower value whatever their rounding.
    over = np.flatnonzero(reached >= half - 1e-9 * total[items[order]])
    medians = np.full(n_items, np.nan)
    found, first = np.unique(items[order][over], return_index=True)
    medians[found] = values[order][over][first]
    return medians
