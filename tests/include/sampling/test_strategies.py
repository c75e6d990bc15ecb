"""What each strategy prefers, what it does without a model, and how a project names it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.errors import ProjectError
from include.project import STRATEGY_OPTIONS, MixtureLine
from include.sampling.strategies import (
    NO_VALUE,
    OTHER,
    SHORTLIST,
    STRATEGIES,
    Candidates,
    CertaintyStrategy,
    StratifiedStrategy,
    Texts,
    WeightStrategy,
    make_strategy,
)

NEEDED: dict[str, dict[str, Any]] = {"stratified": {"by": "lang"}, "stale": {"by": "lang"}}


class Longest:
    """A strategy of somebody else."""

    needs = ("metadata.length",)

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def weights(self, candidates: Candidates) -> np.ndarray[Any, Any]:
        return np.full(candidates.size, 0.5**self.power)


def unit(random: np.random.Generator, size: int, dimensions: int = 8) -> np.ndarray[Any, Any]:
    vectors = random.normal(size=(size, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def weights(name: str, candidates: Candidates, **options: Any) -> np.ndarray[Any, Any]:
    strategy = make_strategy(name, options)
    assert isinstance(strategy, WeightStrategy)
    return strategy.weights(candidates)


def test_the_project_file_and_the_code_know_the_same_strategies_and_options() -> None:
    assert set(STRATEGY_OPTIONS) == set(STRATEGIES)
    for name, model in STRATEGY_OPTIONS.items():
        made = make_strategy(name, {**NEEDED.get(name, {}), **model.model_validate(NEEDED.get(name, {})).model_dump()})
        assert isinstance(made, WeightStrategy | CertaintyStrategy)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_without_any_column_every_strategy_still_has_an_opinion(name: str) -> None:
    strategy = make_strategy(name, NEEDED.get(name))
    nothing = Candidates(3, {})
    if isinstance(strategy, WeightStrategy):
        found = strategy.weights(nothing)
        assert found.shape == (3,)
        assert len(set(found.tolist())) == 1
        assert 0 <= found[0] <= 1
    else:
        ranks = strategy.ranks(nothing)
        assert ranks is None or len(set(ranks.tolist())) == 1


chances = st.floats(0, 1, width=32)


@given(st.lists(st.tuples(chances, chances, chances), min_size=1, max_size=20))
@settings(deadline=None)
def test_weights_are_from_0_to_1_and_do_not_depend_on_the_others(rows: list[tuple[float, float, float]]) -> None:
    columns = dict(zip(("margin", "entropy", "confidence"), np.array(rows, dtype=np.float32).T, strict=True))
    columns["served_confidence"] = columns["confidence"]
    two = columns["confidence"]
    columns["probabilities"] = np.stack([two, 1 - two], axis=1)
    texts = {
        "label": Texts.of(["a" if row[0] > 0.5 else "b" for row in rows]),
        "served_label": Texts.of(["a" if row[1] > 0.5 else "" for row in rows]),
        "metadata.lang": Texts.of(["de" if row[2] > 0.5 else "" for row in rows]),
    }
    known = {"labels": {"a": 9.0}}
    candidates = Candidates(len(rows), columns, ("a", "b"), known, texts)
    for name in STRATEGIES:
        strategy = make_strategy(name, NEEDED.get(name))
        if isinstance(strategy, WeightStrategy):
            together = strategy.weights(candidates)
            assert ((together >= 0) & (together <= 1)).all()
            alone = [strategy.weights(candidates.take(np.array([at])))[0] for at in range(len(rows))]
            assert alone == pytest.approx(together.tolist(), abs=1e-6)


def test_uncertain_records_weigh_more_and_unseen_ones_most() -> None:
    columns = {name: np.array([0.9, 0.1, np.nan]) for name in ("margin", "entropy", "confidence")}
    candidates = Candidates(3, columns)
    sure, unsure, unseen = weights("margin", candidates)
    assert sure < unsure < unseen == 1
    unsure, sure, unseen = weights("entropy", candidates)
    assert sure < unsure < unseen == 1
    sure, unsure, unseen = weights("least_confidence", candidates)
    assert sure < unsure < unseen == 1


def test_rare_classes_by_name_or_by_their_labels_so_far() -> None:
    likely = np.array([[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan]], dtype=np.float32)
    columns = {"probabilities": likely, "margin": np.array([0.8, 0.6, np.nan])}
    candidates = Candidates(3, columns, ("common", "rare"), {"labels": {"common": 99.0}})
    common, rare, unseen = weights("rare_class", candidates)
    assert common < rare < unseen
    wanted = weights("rare_class", candidates, classes=["common"])
    assert wanted[0] > wanted[1]


def test_production_looks_at_disagreement_doubt_and_complaints() -> None:
    texts = {
        "label": Texts.of(["a", "a", "a", "a", "a"]),
        "served_label": Texts.of(["a", "b", "a", "a", ""]),
        "metadata.complaint": Texts.of(["", "", "", "True", ""]),
    }
    columns = {"served_confidence": np.array([1.0, 1.0, 0.4, 1.0, np.nan])}
    fine, differs, unsure, flagged, never = weights("production", Candidates(5, columns, texts=texts), flag="complaint")
    assert fine == never == 0
    assert differs == flagged > unsure > 0


def shares(name: str, counts: dict[str, int], asked: dict[str, float], **options: Any) -> dict[str, float]:
    strategy = make_strategy(name, {"by": "lang", **options})
    assert isinstance(strategy, StratifiedStrategy)
    found = strategy.shares(counts, {"asked.metadata.lang": asked})
    total = sum(found.values())
    return {cell: share / total for cell, share in found.items()}


def test_strata_have_equal_or_proportional_shares() -> None:
    counts = {"de": 10, "en": 30}
    assert shares("stratified", counts, {}) == {"de": 0.5, "en": 0.5}
    assert shares("stratified", counts, {}, shares="proportional") == {"de": 0.25, "en": 0.75}
    strategy = make_strategy("stratified", {"by": "lang"})
    assert isinstance(strategy, StratifiedStrategy)
    cells = strategy.cells(Candidates(2, {}, texts={"metadata.lang": Texts.of(["", "de"])}))
    assert [cells.names[code] for code in cells.codes] == [NO_VALUE, "de"]


def test_slices_that_grew_get_more_than_their_share() -> None:
    counts = {"de": 500, "en": 500}
    assert shares("stale", counts, {"de": 100.0, "en": 100.0}) == {"de": 0.5, "en": 0.5}
    grown = shares("stale", counts, {"de": 10.0, "en": 190.0})
    assert grown["de"] > 0.9
    new = shares("stale", {"en": 990, "new": 10}, {"en": 1000.0})
    assert 0.05 < new["new"] < 0.5  # far above its 1 %, but not everything
    folded = shares("stale", {"en": 500, OTHER: 500}, {"en": 100.0, "x": 50.0, "y": 50.0})
    assert folded == {"en": 0.5, OTHER: 0.5}


@pytest.mark.parametrize(("name", "options"), [("diverse", {}), ("diverse", {"method": "kcenter"}), ("hybrid", {})])
@given(st.integers(1, 60), st.integers(0, 70), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_choices_are_different_records_as_many_as_asked_and_repeatable(
    name: str, options: dict[str, Any], count: int, size: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    vectors = unit(random, count)
    vectors[count // 2 :] = vectors[0]  # many copies
    candidates = Candidates(count, {"vector": vectors, "margin": random.random(count)})
    strategy = make_strategy(name, options)
    assert isinstance(strategy, CertaintyStrategy)
    chosen = strategy.choose(candidates, size, seed=seed)
    assert len(set(chosen.tolist())) == len(chosen) == min(size, count)
    assert chosen.tolist() == strategy.choose(candidates, size, seed=seed).tolist()
    assert strategy.shortlist(size) <= SHORTLIST


@pytest.mark.parametrize("options", [{}, {"method": "kcenter"}])
def test_diverse_takes_one_of_each_kind(options: dict[str, Any]) -> None:
    """Ten heaps of very different sizes: a random choice would miss most of the small ones."""
    random = np.random.default_rng(4)
    heap = np.repeat(np.arange(10), [500, 200, 100, 50, 30, 20, 10, 5, 3, 2])
    vectors = unit(random, 10, 32)[heap] + 0.002 * random.normal(size=(heap.size, 32)).astype(np.float32)
    strategy = make_strategy("diverse", options)
    assert isinstance(strategy, CertaintyStrategy)
    candidates = Candidates(heap.size, {"vector": vectors})
    found = [len(set(heap[strategy.choose(candidates, 10, seed=seed)].tolist())) for seed in range(20)]
    assert min(found) >= 9
    assert np.mean(found) > 9.7  # at random it would be 6


def test_hybrid_ranks_by_margin_and_looks_at_eight_for_each_place() -> None:
    strategy = make_strategy("hybrid")
    assert isinstance(strategy, CertaintyStrategy)
    assert strategy.shortlist(20) == 160
    ranks = strategy.ranks(Candidates(3, {"margin": np.array([0.5, np.nan, 0.1])}))
    assert ranks is not None
    assert ranks.argsort().tolist() == [1, 2, 0]


def test_relabel_prefers_records_people_disagree_about_but_not_for_ever() -> None:
    chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.95, 0.05], [0.99, 0.01]])
    answers = np.array([[0, 0, 0], [0, 1, -1], [-1, -1, -1], [0, 0, -1]])
    strategy = make_strategy("relabel")
    assert isinstance(strategy, CertaintyStrategy)
    candidates = Candidates(4, {"answers": answers, "probabilities": chances}, ("a", "b"))
    assert strategy.choose(candidates, 1, seed=0).tolist() == [1]
    limited = make_strategy("relabel", {"most_answers": 2})
    assert isinstance(limited, CertaintyStrategy)
    assert limited.choose(candidates, 4, seed=0).tolist() == [2]


def test_own_strategies_are_named_by_module_and_class() -> None:
    made = make_strategy("tests.include.sampling.test_strategies:Longest", {"power": 2.0})
    assert made.needs == ("metadata.length",)
    assert MixtureLine(strategy="my.package:Own", share=0.1, options={"any": "thing"}).options == {"any": "thing"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("margn", {}, "not built in"),
        ("tests.nowhere:Own", {}, "cannot be made"),
        ("tests.include.sampling.test_strategies:Nobody", {}, "cannot be made"),
        ("tests.include.sampling.test_strategies:Longest", {"strength": 1}, "cannot be made"),
        ("stratified", {}, "cannot be made"),
        ("collections:OrderedDict", {}, "neither"),
    ],
)
def test_a_strategy_that_cannot_be_used_says_why(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        make_strategy(name, options)
