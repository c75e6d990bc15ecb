"""Spans by token: people who agree on a name but not on its last comma have still marked the same thing.

Every token gets the label more than half of the people gave it; neighbours with one label join unless most of those who
marked the second began a span there. Source: token-wise voting as in F. Rodrigues, F. Pereira, B. Ribeiro, *Sequence
labeling with multiple annotators*, Machine Learning 95 (2014), section 5 (MVtoken).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[int, int, str]  # start, end, label

TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class SpanVote:
    """The spans most people agree on.

    :param posterior: mean, over the tokens anyone marked, of the winning side's share with one more answer split
        evenly: (c + 1/2) / (n + 1); without any, the same share for "nothing to mark".
    """

    spans: list[Span]
    posterior: float


def vote_spans(answers: Sequence[frozenset[Span]], text: str) -> SpanVote:
    """Vote token by token; spans that overlap within one answer compete, and each label is voted on by itself."""
    n = len(answers)
    tokens = [match.span() for match in TOKEN.finditer(text)]
    labels = sorted({label for answer in answers for _, _, label in answer})
    spans, shares = list[Span](), list[float]()
    for label in labels:
        covers = [[_covering(answer, label, token) for token in tokens] for answer in answers]
        votes = [sum(one[t] is not None for one in covers) for t in range(len(tokens))]
        shares += [(max(count, n - count) + 0.5) / (n + 1) for count in votes if count]
        kept = [t for t, count in enumerate(votes) if 2 * count > n]
        spans += [(tokens[a][0], tokens[b][1], label) for a, b in _joined(kept, covers)]
    return SpanVote(sorted(spans), sum(shares) / len(shares) if shares else (n + 0.5) / (n + 1))


def _covering(answer: frozenset[Span], label: str, token: tuple[int, int]) -> Span | None:
    """The span of this label that covers most of the token, when it covers half of it or more."""
    start, end = token
    best = max(
        (span for span in answer if span[2] == label),
        key=lambda span: (min(end, span[1]) - max(start, span[0]), -span[0], -span[1]),
        default=None,
    )
    return best if best is not None and 2 * (min(end, best[1]) - max(start, best[0])) >= end - start else None


def _joined(kept: Sequence[int], covers: Sequence[Sequence[Span | None]]) -> list[tuple[int, int]]:
    """First and last token of each span."""
    found = list[tuple[int, int]]()
    for t in kept:
        if found and found[-1][1] == t - 1 and not _begins(t, covers):
            found[-1] = found[-1][0], t
        else:
            found.append((t, t))
    return found


def _begins(token: int, covers: Sequence[Sequence[Span | None]]) -> bool:
    """Whether most of those who marked the token have another span there than on the token before."""
    marked = Counter(one[token] != one[token - 1] for one in covers if one[token] is not None)
    return marked[True] > marked[False]
