"""Coins are uniform and independent, and the smallest keys are found in any partitioning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from include.lake.keys import record_id
from include.sampling.draw import Least, coins, seed_bits

IDS = np.array([int(record_id("mails", str(number))[:16], 16) for number in range(20_000)], dtype=np.uint64)
SEQUENCE = np.arange(20_000, dtype=np.uint64)  # the worst ids there could be


@pytest.mark.parametrize("ids", [IDS, SEQUENCE], ids=["hashes", "sequence"])
@pytest.mark.parametrize("cycle", ["2026-11-23T06:00Z", "2026-11-24T06:00Z", 0, 1])
def test_coins_are_uniform(ids: np.ndarray, cycle: object) -> None:
    tossed = coins(ids, seed_bits(cycle))
    assert tossed.min() > 0
    assert tossed.max() < 1
    assert np.unique(tossed).size == ids.size
    assert kstest(tossed, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("ids", [IDS, SEQUENCE], ids=["hashes", "sequence"])
def test_coins_of_different_seeds_have_nothing_in_common(ids: np.ndarray) -> None:
    """Also of seeds that differ in one bit, and of one seed between neighbours: correlations, and pairs in a grid."""
    seeds = [seed_bits("a"), seed_bits("a") ^ 1, seed_bits("a") ^ (1 << 63), seed_bits("b")]
    tossed = np.stack([coins(ids, seed) for seed in seeds])
    off_diagonal = np.corrcoef(tossed)[np.triu_indices(len(seeds), 1)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(ids.size)
    pairs = [(tossed[0], tossed[other]) for other in range(1, len(seeds))] + [(tossed[0][:-1], tossed[0][1:])]
    for one, other in pairs:
        grid, _, _ = np.histogram2d(one, other, bins=10, range=[[0, 1], [0, 1]])
        expected = one.size / 100
        assert ((grid - expected) ** 2 / expected).sum() < 160  # chi-squared, 99 degrees of freedom: p = 1e-4


def test_a_seed_depends_on_every_part() -> None:
    seeds = [seed_bits("mails", "margin", 1), seed_bits("mails", "margin", 2), seed_bits("mails", "random", 1)]
    assert len({*seeds, seed_bits("mail", "smargin", 1)}) == 4
    assert all(0 <= seed < 2**64 for seed in seeds)


keys = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@given(keys, st.integers(0, 70), st.data())
@settings(deadline=None)
def test_the_smallest_of_all_are_among_the_smallest_of_each_part(
    values: list[float], count: int, data: st.DataObject
) -> None:
    """Keys may be equal: then ids decide."""
    all_keys, ids = np.array(values), np.arange(len(values), dtype=np.uint64)[::-1]
    part = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values))))
    pieces = [Least.of(all_keys[part == one], ids[part == one], count, part=one) for one in range(4)]
    merged = Least.merge(pieces, count)
    expected = sorted(zip(values, ids.tolist(), strict=True))[:count]
    assert list(zip(merged.keys.tolist(), merged.ids.tolist(), strict=True)) == expected
    for at, (key, one) in enumerate(expected):
        inside = np.flatnonzero(part == merged.part[at])
        assert (all_keys[inside[merged.position[at]]], ids[inside[merged.position[at]]]) == (key, one)


def test_nothing_of_nothing() -> None:
    assert Least.merge([], 5).ids.size == 0
    assert Least.of(np.empty(0), np.empty(0, np.uint64), 3, part=0).keys.size == 0
