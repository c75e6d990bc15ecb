"""Questions with several right options: each option is a yes-or-no question of its own.

Source of the decomposition: M.-L. Zhang, Z.-H. Zhou, *A review on multi-label learning algorithms*, IEEE TKDE 26
(2014), section 3.1.1 (binary relevance).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from include.labeling.aggregation.choice import Choice, choose
from include.labeling.aggregation.votes import Floats, encode

NO, YES = "no", "yes"


@dataclass(frozen=True)
class OptionPosteriors:
    """Chance that each option is right.

    :param posterior: shape (N, O).
    :param items: N, in the order of the rows.
    :param choices: O, the model of annotators behind each option and why.
    """

    posterior: Floats
    items: list[Hashable]
    choices: list[Choice]


def option_posteriors(
    answers: Iterable[tuple[Hashable, str, frozenset[str]]], options: Sequence[str]
) -> OptionPosteriors:
    """Posteriors from (item, worker, chosen options) answers.

    :raises LabelingError: when a worker answers an item twice.
    """
    given = list(answers)
    choices, items = list[Choice](), list[Hashable]()
    for option in options:
        votes, book = encode(
            ((item, worker, YES if option in chosen else NO) for item, worker, chosen in given), (NO, YES)
        )
        choices.append(choose(votes))
        items = book.items
    columns = [choice.fit.posterior[:, 1] for choice in choices]
    return OptionPosteriors(np.stack(columns, axis=1) if columns else np.empty((0, 0)), items, choices)


def vote_options(answers: Sequence[frozenset[str]]) -> tuple[list[str], float]:
    """The options more than half of the people chose, sorted, and the posterior.

    The posterior is the mean, over all options anyone chose, of the winning side's share with one more answer split
    evenly: (c + 1/2) / (n + 1); without any option, the same share for "none of them".
    """
    n = len(answers)
    counts = {option: sum(option in answer for answer in answers) for option in frozenset().union(*answers)}
    shares = [(max(count, n - count) + 0.5) / (n + 1) for count in counts.values()] or [(n + 0.5) / (n + 1)]
    return sorted(option for option, count in counts.items() if 2 * count > n), sum(shares) / len(shares)
