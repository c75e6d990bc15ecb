"""Rankings: the order that contradicts people least, and how far apart the options are.

Sources: J. Kemeny, *Mathematics without numbers*, 1959 (fewest contradicted pairs; exact by dynamic programming over
subsets); J.-C. de Borda, 1781, for many options; D. R. Hunter, *MM algorithms for generalized Bradley-Terry models*,
Annals of Statistics 32 (2004), for strengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from include.labeling.aggregation.votes import Floats

KEMENY, BORDA = "kemeny", "borda"
MOST_FOR_KEMENY = 10  # options; the exact search visits every subset of them
PSEUDO_WINS = 0.5  # of each option against each other, so that an option that never lost has a finite strength
MAX_ROUNDS = 1000
TOLERANCE = 1e-10

Ranking = Mapping[str, int]  # option -> rank, 1 is best; equal ranks are ties, options may be missing


def preferences(rankings: Sequence[Ranking], options: Sequence[str]) -> Floats:
    """How many people put option a before option b, shape (K, K); a tie is half of either."""
    found = np.zeros((len(options), len(options)))
    for ranking in rankings:
        for a, b in combinations(range(len(options)), 2):
            if options[a] in ranking and options[b] in ranking:
                first, second = ranking[options[a]], ranking[options[b]]
                found[a, b] += 0.5 if first == second else float(first < second)
                found[b, a] += 0.5 if first == second else float(first > second)
    return found


def consensus(rankings: Sequence[Ranking], options: Sequence[str]) -> tuple[list[str], str]:
    """The options from best to worst, and the method; ties are broken by the order of ``options``."""
    wins = preferences(rankings, options)
    if len(options) <= MOST_FOR_KEMENY:
        return [options[k] for k in _kemeny(wins)], KEMENY
    borda = wins.sum(axis=1) - wins.sum(axis=0)
    return [options[int(k)] for k in np.argsort(-borda, kind="stable")], BORDA


def _kemeny(wins: Floats) -> list[int]:
    """The order with the fewest contradicted pairs: the best order of each subset ends with the best last option."""
    size = len(wins)
    # cost[s], last[s]: of the best order of subset s put before all others
    cost, last = [0.0] * (1 << size), [-1] * (1 << size)
    for subset in range(1, 1 << size):
        members = [k for k in range(size) if subset >> k & 1]
        best = float("inf")
        for k in reversed(members):  # of equal orders, that with the later option last
            before = subset & ~(1 << k)
            here = cost[before] + sum(wins[k, other] for other in members if other != k)
            if here < best - 1e-9:
                best, last[subset] = here, k
        cost[subset] = best
    order, subset = list[int](), (1 << size) - 1
    while subset:
        order.append(last[subset])
        subset &= ~(1 << last[subset])
    return order[::-1]


def strengths(rankings: Sequence[Ranking], options: Sequence[str]) -> dict[str, float]:
    """Bradley-Terry: a is preferred to b with chance s_a / (s_a + s_b); strengths add up to 1."""
    wins = preferences(rankings, options) + PSEUDO_WINS * (1 - np.eye(len(options)))
    met = wins + wins.T
    strength = np.full(len(options), 1 / max(len(options), 1))
    for _ in range(MAX_ROUNDS):
        before = strength
        strength = wins.sum(axis=1) / (met / (before[:, None] + before[None, :])).sum(axis=1)
        strength = strength / strength.sum()
        if np.abs(strength - before).max(initial=0.0) < TOLERANCE:
            break
    return {option: float(value) for option, value in zip(options, strength, strict=True)}


def concordance(rankings: Sequence[Ranking], options: Sequence[str]) -> float:
    """Share of equally ordered pairs, over all pairs of people and of options both ordered; 1.0 for one person.

    0.5 is what chance gives; Kendall's tau, averaged over pairs of people, is twice this less 1.
    """
    agreeing = total = 0.0
    for one, other in combinations(rankings, 2):
        for a, b in combinations([option for option in options if option in one and option in other], 2):
            signs = np.sign(one[a] - one[b]) * np.sign(other[a] - other[b])
            agreeing += (float(signs) + 1) / 2
            total += 1
    return agreeing / total if total else 1.0
