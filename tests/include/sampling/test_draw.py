"""Priority sampling: sizes, known probabilities, and estimates that are unbiased because of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sampling.draw import margin_weights, priority_draw

weights_and_coins = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(1e-3, 1e3), min_size=n, max_size=n),
        st.lists(st.floats(1e-6, 1 - 1e-6), min_size=n, max_size=n, unique=True),
        st.integers(0, 70),
    )
)


@given(weights_and_coins)
@settings(deadline=None)
def test_draws_the_size_asked_for_with_probabilities_in_range(case: tuple[list[float], list[float], int]) -> None:
    weights, coins, size = np.array(case[0]), np.array(case[1]), case[2]
    draw = priority_draw(weights, coins, size)
    assert len(set(draw.chosen.tolist())) == min(size, weights.size)
    assert ((draw.probability >= 0) & (draw.probability <= 1)).all()
    if size >= weights.size:
        assert (draw.probability == 1).all()


@given(weights_and_coins, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_of_candidates_does_not_matter(case: tuple[list[float], list[float], int], shuffler: object) -> None:
    weights, coins, size = np.array(case[0]), np.array(case[1]), case[2]
    order = np.arange(weights.size)
    shuffler.shuffle(order)  # type: ignore[attr-defined]
    straight, shuffled = priority_draw(weights, coins, size), priority_draw(weights[order], coins[order], size)
    if np.unique(coins / weights).size == weights.size:
        assert set(order[shuffled.chosen].tolist()) == set(straight.chosen.tolist())
        assert straight.threshold == shuffled.threshold


def test_weighted_sums_are_unbiased() -> None:
    """Sum of value / pi over the sample estimates the population total: the point of knowing pi."""
    generator = np.random.default_rng(7)
    values = generator.exponential(1.0, 300)
    weights = margin_weights(generator.random(300), 0.1)
    totals = []
    for _ in range(3000):
        draw = priority_draw(weights, generator.uniform(1e-9, 1 - 1e-9, 300), 40)
        totals.append((values[draw.chosen] / draw.probability[draw.chosen]).sum())
    standard_error = np.std(totals) / np.sqrt(len(totals))
    assert abs(np.mean(totals) - values.sum()) < 4 * standard_error


def test_uncertain_records_are_drawn_more_often_but_none_is_excluded() -> None:
    weights = margin_weights(np.array([0.0, 1.0]), 0.1)
    assert weights[0] > 5 * weights[1] > 0


@pytest.mark.parametrize(
    ("weights", "coins"), [([0.0], [0.5]), ([np.inf], [0.5]), ([1.0], [0.0]), ([1.0], [1.0]), ([1.0, 1.0], [0.5])]
)
def test_refuses_weights_and_coins_without_meaning(weights: list[float], coins: list[float]) -> None:
    with pytest.raises(ValueError, match=r"weights|coins"):
        priority_draw(np.array(weights), np.array(coins), 1)
