"""How much annotators agree: Krippendorff's alpha with an interval, Cohen's kappa of pairs, span overlap. Pure numpy.

Alpha needs a level, the distance between two values: nominal for classes, ordinal or interval for ratings, MASI for
sets of labels. The same ratings can have a nominal alpha of .25 and an interval alpha of .80, so a figure without its
level says nothing.

Sources: K. Krippendorff, *Content Analysis*, 3rd ed., 2013, ch. 12; *Computing Krippendorff's Alpha-Reliability*, 2011.
R. Passonneau, *Measuring Agreement on Set-valued Items (MASI)*, LREC 2006. J. Cohen, *A coefficient of agreement for
nominal scales*, 1960. Intervals: delete-a-group jackknife, J. Shao, D. Tu, *The Jackknife and Bootstrap*, 1995, ch. 5.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from include.labeling.aggregation.votes import Votes

Counts = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Span = tuple[int, int, str]  # start, end, label
Level = Callable[[Floats], Floats]  # totals of the values (K,) -> squared distances between them (K, K)

REPLICATES = 400
GROUPS = 50  # of units that are left out in turn
CELLS = 2**22  # of the table of counts held as floating-point numbers at a time


@dataclass(frozen=True)
class Agreement:
    """A figure with its 95% interval over records, and how many records it rests on."""

    value: float
    low: float
    high: float
    n: int


def nominal(totals: Floats) -> Floats:
    """Any two classes are equally far apart."""
    return 1.0 - np.eye(len(totals))


def ordinal(totals: Floats) -> Floats:
    """Values are ranks: how many answers lie between two of them, half of those at the ends. Values in their order."""
    reached = totals.cumsum() - totals / 2
    return (reached[:, None] - reached[None, :]) ** 2


def interval(values: Sequence[float]) -> Level:
    """Values are numbers with meaningful differences, in the order of the columns."""
    numbers = np.asarray(values, dtype=np.float64)
    distances = (numbers[:, None] - numbers[None, :]) ** 2
    return lambda totals: distances


def masi(values: Sequence[frozenset[str]]) -> Level:
    """Values are sets of labels: 1 - Jaccard · monotonicity (1 equal, 2/3 subset, 1/3 overlap, 0 disjoint)."""
    distances = np.array([[1.0 - _masi_similarity(a, b) for b in values] for a in values]).reshape(len(values), -1)
    return lambda totals: distances


def _masi_similarity(one: frozenset[str], other: frozenset[str]) -> float:
    if one == other:
        return 1.0
    if not one & other:
        return 0.0
    return len(one & other) / len(one | other) * (2 / 3 if one <= other or other <= one else 1 / 3)


def value_counts(units: Sequence[Sequence[Hashable]], values: Sequence[Hashable] | None = None) -> Counts:
    """How often each value was given, shape (N, K): N units, K values.

    :param values: the values in the order of the columns; by default all that occur, in order of appearance.
    """
    known = dict.fromkeys(value for unit in units for value in unit) if values is None else values
    position = {value: k for k, value in enumerate(known)}
    counts = np.zeros((len(units), len(position)), dtype=np.int64)
    for row, unit in enumerate(units):
        for value in unit:
            counts[row, position[value]] += 1
    return counts


def nominal_alpha(counts: Counts) -> float | None:
    """Krippendorff's alpha at the nominal level; see ``alpha``."""
    return alpha(counts, nominal)


def alpha(counts: Counts, level: Level) -> float | None:
    """Krippendorff's alpha, 1 - D_o / D_e.

    :param counts: shape (N, K), answers per unit and value; units with fewer than two answers are left out.
    :returns: None when it is undefined: nothing to pair, or all paired answers equal (no variation to agree on).
    """
    return _alpha(_coincidences(counts, np.zeros(len(counts), dtype=np.int64), None)[0], level)


def alpha_with_interval(
    counts: Counts, level: Level = nominal, *, clusters: Ints | None = None, weights: Floats | None = None
) -> Agreement | None:
    """Alpha with a 95% interval: each of up to 50 groups of records is left out once, on the scale of log(1 - alpha).

    :param clusters: shape (N,), the record of each unit where a record has several; by default each is its own.
    :param weights: shape (N,), how many equal units a row stands for.
    :returns: None where ``alpha`` is None.
    """
    paired = counts.sum(axis=1) >= 2
    if not paired.any():
        return None
    records = np.arange(len(counts))[paired] if clusters is None else clusters[paired]
    _, numbers = np.unique(records, return_inverse=True)
    n = int(numbers.max()) + 1
    parts = _coincidences(counts[paired], numbers % min(GROUPS, n), None if weights is None else weights[paired])
    whole = parts.sum(axis=0)
    value = _alpha(whole, level)
    if value is None:
        return None
    left_out = [_alpha(whole - part, level) for part in parts] if len(parts) > 1 else []
    low, high = _jackknife_limits(value, [one for one in left_out if one is not None])
    return Agreement(value, low, high, n)


def alpha_by_class(counts: Counts) -> list[Agreement | None]:
    """Alpha of each class against all others, K of them: which class people recognise, and which they do not."""
    totals = counts.sum(axis=1)
    return [alpha_with_interval(np.stack([one, totals - one], axis=1)) for one in counts.T]


def alpha_by_slice(counts: Counts, slices: Sequence[str], level: Level = nominal) -> dict[str, Agreement | None]:
    """Alpha within each slice; ``slices``: shape (N,), such as ``lang=de``."""
    names = np.asarray(slices)
    return {str(name): alpha_with_interval(counts[names == name], level) for name in np.unique(names)}


def span_alpha(records: Sequence[Sequence[frozenset[Span]]], lengths: Sequence[int]) -> Agreement | None:
    """Nominal alpha over characters: each has the labels of the spans that cover it, or none.

    :param records: the answers of each record.
    :param lengths: of the texts, in characters; text nobody marked counts as agreement on nothing.
    """
    units, weights, clusters = list[list[Hashable]](), list[float](), list[int]()
    for number, (answers, length) in enumerate(zip(records, lengths, strict=True)):
        cuts = sorted({0, length, *(edge for answer in answers for start, end, _ in answer for edge in (start, end))})
        for start, end in zip(cuts, cuts[1:], strict=False):
            units.append([_labels_at(answer, start) for answer in answers])
            weights.append(float(end - start))
            clusters.append(number)
    if not units:
        return None
    return alpha_with_interval(value_counts(units), clusters=np.array(clusters), weights=np.array(weights))


def _labels_at(answer: frozenset[Span], position: int) -> frozenset[str]:
    return frozenset(label for start, end, label in answer if start <= position < end)


@dataclass(frozen=True)
class PairKappa:
    """Cohen's kappa of two workers on the items both answered; None when both always gave one and the same class."""

    workers: tuple[int, int]
    kappa: float | None
    n: int


def pairwise_kappa(votes: Votes, *, least: int) -> list[PairKappa]:
    """Kappa of every pair of workers with ``least`` or more common items, in order of their numbers."""
    first, second = _answer_pairs(votes)
    swapped = votes.workers[first] > votes.workers[second]
    first, second = np.where(swapped, second, first), np.where(swapped, first, second)
    pairs, number = np.unique(votes.workers[first] * votes.n_workers + votes.workers[second], return_inverse=True)
    size = votes.n_classes
    cells = (number * size + votes.labels[first]) * size + votes.labels[second]
    tables = np.bincount(cells, minlength=len(pairs) * size * size).reshape(len(pairs), size, size)
    return [
        PairKappa((int(pair // votes.n_workers), int(pair % votes.n_workers)), _kappa(table), int(table.sum()))
        for pair, table in zip(pairs, tables, strict=True)
        if table.sum() >= least
    ]


def _kappa(table: Ints) -> float | None:
    n = table.sum()
    expected = float(table.sum(axis=0) @ table.sum(axis=1)) / n**2
    return None if expected == 1.0 else float((np.trace(table) / n - expected) / (1 - expected))


def _answer_pairs(votes: Votes) -> tuple[Ints, Ints]:
    """Positions of all pairs of answers to one item, each pair once."""
    order = np.argsort(votes.items, kind="stable")
    items = votes.items[order]
    longest = int(votes.per_item().max(initial=0))
    found = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))]
    for lag in range(1, longest):
        same = np.flatnonzero(items[lag:] == items[:-lag])
        found.append((order[same], order[same + lag]))
    return np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found])


@dataclass(frozen=True)
class Confusion:
    """Two classes people mix up.

    :param records: items where someone said one class and someone else the other.
    :param of_records: items with two or more answers where anyone said either.
    :param share: of all disagreeing pairs of answers.
    :param examples: items, those the answers split most evenly first.
    """

    classes: tuple[int, int]
    records: int
    of_records: int
    share: float
    examples: list[int]


def confusions(votes: Votes, *, most: int = 3, examples: int = 3) -> list[Confusion]:
    """The pairs of classes behind most disagreements, worst first."""
    counts = votes.counts()
    counts = np.where((counts.sum(axis=1) >= 2)[:, None], counts, 0)
    disagreeing: dict[tuple[int, int], float] = {}
    for a, b in combinations(range(votes.n_classes), 2):
        disagreeing[a, b] = float(counts[:, a] @ counts[:, b])
    total = sum(disagreeing.values())
    worst = sorted((pair for pair, pairs in disagreeing.items() if pairs), key=lambda pair: (-disagreeing[pair], pair))
    found = []
    for a, b in worst[:most]:
        split = np.minimum(counts[:, a], counts[:, b])
        mixed = np.flatnonzero(split)
        shown = mixed[np.argsort(-split[mixed], kind="stable")][:examples]
        either = int(((counts[:, a] + counts[:, b]) > 0).sum())
        found.append(Confusion((a, b), len(mixed), either, disagreeing[a, b] / total, [int(i) for i in shown]))
    return found


def guideline_notes(found: Sequence[Confusion], classes: Sequence[str], texts: Callable[[int], str]) -> str:
    """The confusions as sentences for the person who edits the guidelines; Markdown, empty without confusions.

    :param texts: what people saw of an item.
    """
    parts = []
    for one in found:
        a, b = (classes[number] for number in one.classes)
        lines = [
            f"**{a}** and **{b}** are mixed up: of {one.of_records} records that anyone called either, people split "
            f"between the two on {one.records} ({one.share:.0%} of all disagreements). Say in the guidelines how to "
            "tell them apart; for example:",
            "",
        ]
        lines += [f"- {' '.join(texts(item).split())[:200]}" for item in one.examples]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


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


def soft_span_f1(one: frozenset[Span], other: frozenset[Span]) -> float:
    """F1 over labeled characters: near misses count by how much they overlap; 1.0 when both mark nothing."""
    first, second = _marked(one), _marked(other)
    if not first and not second:
        return 1.0
    return 2 * len(first & second) / (len(first) + len(second))


def _marked(spans: frozenset[Span]) -> set[tuple[int, str]]:
    return {(position, label) for start, end, label in spans for position in range(start, end)}


def _coincidences(counts: Counts, groups: Ints, weights: Floats | None) -> Floats:
    """Pairs of values within units, each unit's pairs weighted 1 / (m - 1), summed per group; shape (G, K, K)."""
    size = counts.shape[1]
    found = np.zeros((int(groups.max(initial=0)) + 1, size, size))
    for start in range(0, len(counts), max(CELLS // max(size, 1), 1)):
        rows = slice(start, start + max(CELLS // max(size, 1), 1))
        block = counts[rows].astype(np.float64)
        answers = block.sum(axis=1)
        weight = np.where(answers >= 2, 1 / np.maximum(answers - 1, 1), 0.0)
        if weights is not None:
            weight *= weights[rows]
        order = np.argsort(groups[rows], kind="stable")
        names, starts = np.unique(groups[rows][order], return_index=True)
        for name, chosen in zip(names, np.split(order, starts[1:]), strict=True):
            scaled = block[chosen] * weight[chosen, None]
            found[name] += scaled.T @ block[chosen] - np.diag(scaled.sum(axis=0))
    return found


def _alpha(coincidences: Floats, level: Level) -> float | None:
    """Alpha from the coincidence matrix (K, K), whose margins are how often each value was paired."""
    totals = coincidences.sum(axis=1)
    n = totals.sum()
    distances = level(totals)
    expected = float(totals @ distances @ totals)
    # Sums of thirds and the like: a rest of rounding is no variation.
    if n < 2 or expected <= 1e-9 * n:
        return None
    return 1.0 - float((n - 1) * (coincidences * distances).sum() / expected)


def _jackknife_limits(value: float, left_out: list[float]) -> tuple[float, float]:
    """Limits from the figure with each group left out; the figure itself when everyone agrees or one group is all."""
    groups = len(left_out)
    if groups < 2 or value >= 1.0 - 1e-12:
        return value, value
    logs = np.log(np.maximum(1.0 - np.array(left_out), 1e-12))
    error = float(np.sqrt((groups - 1) / groups * ((logs - logs.mean()) ** 2).sum()))
    reach = _t_quantile(groups - 1) * error
    return 1.0 - (1.0 - value) * float(np.exp(reach)), 1.0 - (1.0 - value) * float(np.exp(-reach))


def _t_quantile(freedom: int) -> float:
    """The 97.5% quantile of Student's t, by the Cornish-Fisher series (Abramowitz and Stegun 26.7.5)."""
    z = 1.959964
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _resamples(size: int, seed: int) -> Iterator[Floats]:
    """How often each of ``size`` units is drawn, per bootstrap replicate."""
    rng = np.random.default_rng(seed)
    for _ in range(REPLICATES):
        yield np.bincount(rng.integers(0, size, size), minlength=size).astype(np.float64)
