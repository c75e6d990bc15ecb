"""The promotion gate: exact numbers, and properties that must hold for any numbers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.training.gate import MAJORITY_CLASS, compare, decide, mcnemar_exact, wilson_interval

counts = st.integers(0, 60)
labels = st.sampled_from(["spam", "ham", "list"])


@pytest.mark.parametrize(
    ("wins", "losses", "p_value"),
    [
        (0, 0, 1.0),
        (1, 1, 3 / 4),
        (5, 0, 1 / 32),
        (0, 5, 1.0),
        (10, 2, 79 / 4096),  # (66 + 12 + 1) / 2^12
        (12, 4, 2517 / 65536),  # (1820 + 560 + 120 + 16 + 1) / 2^16
    ],
)
def test_p_values_worked_out_by_hand(wins: int, losses: int, p_value: float):
    assert mcnemar_exact(wins, losses) == pytest.approx(p_value, rel=1e-12)


@settings(deadline=None)  # the first example imports scipy
@given(counts, counts)
def test_both_directions_share_only_the_observed_outcome(wins: int, losses: int):
    from math import comb

    total = wins + losses
    observed = comb(total, wins) / 2**total
    assert mcnemar_exact(wins, losses) + mcnemar_exact(losses, wins) == pytest.approx(1.0 + observed)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_intervals_known_from_the_literature(correct: int, n: int, low: float, high: float):
    # 81 of 263 is Newcombe's example (Statistics in Medicine 17, 1998, table I).
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_the_report_counts_what_happened():
    report = compare(
        ["spam", "spam", "ham", "ham", "list"],
        ["spam", "spam", "ham", "list", "ham"],
        ["spam", "ham", "ham", "ham", "ham"],
    )
    assert (report["n"], report["wins"], report["losses"]) == (5, 1, 1)
    assert (report["accuracy"], report["rival_accuracy"]) == (3 / 5, 3 / 5)
    assert report["macro_f1"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert report["rival_macro_f1"] == pytest.approx((2 / 3 + 2 * 0.5 / 1.5 + 0) / 3)
    assert report["classes"] == {
        "ham": {"n": 2, "correct": 1, "rival_correct": 2},
        "list": {"n": 1, "correct": 0, "rival_correct": 0},
        "spam": {"n": 2, "correct": 2, "rival_correct": 1},
    }


def test_an_empty_holdout_is_reported_without_inventing_an_accuracy():
    report = compare([], [], [])
    assert (report["n"], report["accuracy"], report["rival_macro_f1"], report["p_value"]) == (0, None, None, 1.0)
    assert not decide({**report, "rival": MAJORITY_CLASS}, min_holdout=10, significance=0.05).promote


@settings(deadline=None)  # the first example imports scipy
@given(st.lists(st.tuples(labels, labels, labels), max_size=40))
def test_swapping_the_models_swaps_the_report(rows: list[tuple[str, str, str]]):
    truth, first, second = ([row[i] for row in rows] for i in range(3))
    one, other = compare(truth, first, second), compare(truth, second, first)
    assert (one["wins"], one["losses"]) == (other["losses"], other["wins"])
    assert one["accuracy"] == other["rival_accuracy"]
    assert one["macro_f1"] == other["rival_macro_f1"]
    verdicts = [decide({**r, "rival": "v1"}, min_holdout=1, significance=0.49).promote for r in (one, other)]
    assert not all(verdicts)
    if one["wins"] == one["losses"]:
        assert not any(verdicts)


@settings(deadline=None)  # the first example imports scipy
@given(counts, counts, st.integers(0, 200), st.floats(0.001, 0.499))
def test_no_promotion_below_the_minimum_holdout_nor_by_a_tie(wins: int, losses: int, n: int, significance: float):
    report = {"n": n, "wins": wins, "losses": losses, "p_value": mcnemar_exact(wins, losses), "rival": "v1"}
    verdict = decide(report, min_holdout=100, significance=significance)
    if n < 100 or wins <= losses:
        assert not verdict.promote
    assert verdict.promote == (n >= 100 and report["p_value"] < significance)
    assert verdict.why.startswith("Promoted: " if verdict.promote else "Not promoted: ")
    assert verdict.why.endswith(".")
