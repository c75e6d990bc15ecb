"""Free texts cannot be averaged: the answer closest to all others is taken as it is (the medoid).

Similarity is the F1 of shared character trigrams, the overlap coefficient of L. R. Dice, *Measures of the amount of
ecologic association between species*, Ecology 26 (1945): it knows no language and forgives spelling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

WIDTH = 3


def similarity(one: str, other: str) -> float:
    """0 nothing in common, 1 the same but for case and white space."""
    first, second = _grams(one), _grams(other)
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else 1.0


def medoid(answers: Sequence[str]) -> tuple[str, float]:
    """The answer most similar to the others, and its mean similarity to them (1.0 for a single one).

    Of equally similar answers the one first in the alphabet.

    :param answers: at least one.
    """
    if len(answers) == 1:
        return answers[0], 1.0
    scored = []
    for position, answer in enumerate(answers):
        others = [similarity(answer, other) for place, other in enumerate(answers) if place != position]
        scored.append((-sum(others) / len(others), answer))
    score, answer = min(scored)
    return answer, -score


def _grams(text: str) -> Counter[str]:
    plain = f" {' '.join(text.casefold().split())} "
    return Counter(plain[start : start + WIDTH] for start in range(len(plain) - WIDTH + 1))
