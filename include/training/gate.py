"""The promotion gate: a paired exact test on one frozen holdout. Pure functions, no storage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAJORITY_CLASS = "majority_class"  # the rival of the first challenger


def mcnemar_exact(wins: int, losses: int) -> float:
    """One-sided exact McNemar test: how likely this many wins or more are if both models are equally good.

    Source: Q. McNemar, *Note on the sampling error of the difference between correlated proportions or percentages*,
    Psychometrika 12, 1947, in its exact form: wins ~ Binomial(wins + losses, 1/2).

    :param wins: records only the challenger has right.
    :param losses: records only the rival has right.
    :returns: p-value; 1 when the two never differ.
    """
    from scipy.stats import binomtest

    if wins + losses == 0:
        return 1.0
    return float(binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue)


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """95% Wilson score interval of a share; (0, 1) when n is 0.

    Source: E. B. Wilson, *Probable inference, the law of succession, and statistical inference*, JASA 22, 1927.
    """
    from scipy.stats import binomtest

    if n == 0:
        return 0.0, 1.0
    interval = binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def compare(truth: Sequence[str], challenger: Sequence[str], rival: Sequence[str]) -> dict[str, Any]:
    """Both models on the same N records.

    :param truth: labels, shape (N,); ``challenger`` and ``rival``: predicted labels, shape (N,).
    :returns: ``n``, ``wins``, ``losses``, ``p_value``; ``accuracy``, ``accuracy_low``, ``accuracy_high``, ``macro_f1``
        of the challenger and, with the prefix ``rival_``, of its rival (null without records); ``classes``: per class
        ``n``, ``correct``, ``rival_correct``.
    """
    rows = list(zip(truth, challenger, rival, strict=True))
    wins = sum(c == t != r for t, c, r in rows)
    losses = sum(r == t != c for t, c, r in rows)
    totals = Counter(truth)
    right = Counter(t for t, c, _ in rows if c == t)
    rival_right = Counter(t for t, _, r in rows if r == t)
    return {
        "n": len(rows),
        "wins": wins,
        "losses": losses,
        "p_value": mcnemar_exact(wins, losses),
        **_figures(truth, challenger, ""),
        **_figures(truth, rival, "rival_"),
        "classes": {
            name: {"n": count, "correct": right[name], "rival_correct": rival_right[name]}
            for name, count in sorted(totals.items())
        },
    }


def _figures(truth: Sequence[str], predicted: Sequence[str], prefix: str) -> dict[str, float | None]:
    from sklearn.metrics import f1_score

    n = len(truth)
    correct = sum(t == p for t, p in zip(truth, predicted, strict=True))
    low, high = wilson_interval(correct, n)
    macro = f1_score(truth, predicted, average="macro", zero_division=0.0) if n else None
    return {
        f"{prefix}accuracy": correct / n if n else None,
        f"{prefix}accuracy_low": low,
        f"{prefix}accuracy_high": high,
        f"{prefix}macro_f1": None if macro is None else float(macro),
    }


@dataclass(frozen=True)
class Verdict:
    """The gate's answer and its one sentence."""

    promote: bool
    why: str


def decide(report: dict[str, Any], *, min_holdout: int, significance: float) -> Verdict:
    """Promote only a challenger that is better beyond chance on enough records; a tie keeps the champion.

    :param report: what ``compare`` gave, plus ``rival``: a model version or ``MAJORITY_CLASS``.
    """
    n, wins, losses, p_value = (report[name] for name in ("n", "wins", "losses", "p_value"))
    if n < min_holdout:
        return Verdict(False, f"Not promoted: the holdout has {n} records, {min_holdout} are needed.")
    rival = "the majority class" if report["rival"] == MAJORITY_CLASS else f"champion {report['rival']}"
    score = f"against {rival} it wins {wins} and loses {losses} of {n} holdout records (p = {p_value:.3g})"
    if p_value >= significance:
        return Verdict(False, f"Not promoted: {score}; better beyond chance needs p < {significance:g}.")
    return Verdict(True, f"Promoted: {score}, below {significance:g}.")
