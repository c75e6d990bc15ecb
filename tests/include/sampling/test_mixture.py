"""The draw of a whole batch: exact probabilities, partitions that change nothing, places that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sampling.draw import coins, seed_bits
from include.sampling.mixture import Drawn, Entry, Part, draw, part_of, places_of
from include.sampling.strategies import Candidates, Texts, make_strategy

FLOOR = 0.1
LANGUAGES = ["de", "en", "fr"]


def candidates_of(size: int, seed: int, *, cells: Sequence[str] = LANGUAGES) -> tuple[Candidates, np.ndarray[Any, Any]]:
    """Candidates as a model and a metadata column see them, with random ids."""
    random = np.random.default_rng(seed)
    columns = {
        "margin": random.beta(0.5, 0.5, size),
        "confidence": random.random(size),
        "entropy": np.where(random.random(size) < 0.1, np.nan, random.random(size)),
    }
    texts = {"metadata.lang": Texts.of(random.choice(list(cells), size))}
    ids = random.integers(0, 2**64, size, dtype=np.uint64)
    return Candidates(size, columns, texts=texts), ids


def entries_of(mixture: dict[str, float], **options: dict[str, Any]) -> list[Entry]:
    by = {"stratified": {"by": "lang"}, "stale": {"by": "lang"}, **options}
    return [Entry(name, make_strategy(name, by.get(name)), share) for name, share in mixture.items()]


def drawn_from(entries: list[Entry], parts: list[Part], size: int, cycle: object = 0, **extra: Any) -> Drawn:
    return draw(entries, parts, size=size, seed_of=lambda number: seed_bits(cycle, number), floor_share=FLOOR, **extra)


MIXTURES = st.sampled_from(
    [
        {"random": 1.0},
        {"random": 0.5, "margin": 0.5},
        {"margin": 0.4, "random": 0.3, "entropy": 0.3},
        {"random": 0.2, "stratified": 0.4, "least_confidence": 0.4},
        {"random": 0.1, "stale": 0.3, "margin": 0.3, "hybrid": 0.3},
        {"random": 0.2, "diverse": 0.3, "hybrid": 0.3, "stratified": 0.2},
    ]
)


@given(MIXTURES, st.integers(1, 80), st.integers(0, 30), st.integers(0, 2**32), st.data())
@settings(deadline=None, max_examples=150)
def test_partitions_and_their_order_change_nothing(
    mixture: dict[str, float], count: int, size: int, seed: int, data: st.DataObject
) -> None:
    entries = entries_of(mixture)
    candidates, ids = candidates_of(count, seed)
    whole = drawn_from(entries, [part_of(entries, candidates, ids)], size)
    part_number = np.array(data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count)))
    order = np.random.default_rng(seed).permutation(count)
    parts = []
    for number in range(5):
        where = order[part_number[order] == number]
        parts.append(part_of(entries, candidates.take(where), ids[where]))
    pieces = drawn_from(entries, parts, size)

    def without_place(drawn: Drawn) -> list[Any]:
        chosen = [(c.id_bits, c.entry, c.cell, c.weight, c.threshold, c.inclusion_probability) for c in drawn.chosen]
        return [chosen, {n: (one.ids.tolist(), one.keys.tolist()) for n, one in drawn.shortlists.items()}, drawn.places]

    assert without_place(pieces) == without_place(whole)
    for one in pieces.chosen:
        assert int(parts[one.part].ids[one.position]) == one.id_bits


@given(MIXTURES, st.integers(2, 40), st.integers(1, 25), st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_probabilities_are_those_of_the_draw_without_the_record(
    mixture: dict[str, float], count: int, size: int, seed: int
) -> None:
    """The definition, by brute force: draw again without each chosen record, and look where its coins would count."""
    entries = [one for one in entries_of(mixture) if hasattr(one.strategy, "weights")]
    candidates, ids = candidates_of(count, seed)
    part = part_of(entries, candidates, ids)
    places = places_of(entries, min(size, count))
    frames = _frames_by_hand(entries, part, candidates, places)
    drawn = drawn_from(entries, [part], size)
    assert sorted(one.id_bits for one in drawn.chosen) == sorted(
        int(ids[i]) for mine in _turns(frames, set(range(count))) for i in mine[0]
    )
    for one in drawn.chosen:
        others = set(range(count)) - {one.position}
        missed = 1.0
        for (keys, weights, _), (_, last) in zip(frames, _turns(frames, others), strict=True):
            del keys
            weight = weights[one.position]
            missed *= 1.0 - (min(1.0, weight * last) if weight > 0 else 0.0)
        assert one.inclusion_probability == pytest.approx(1.0 - missed, rel=1e-9)
        assert one.frame_probability <= one.inclusion_probability + 1e-12


def _frames_by_hand(
    entries: list[Entry], part: Part, candidates: Candidates, places: list[int]
) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]]:
    """Keys, weights and places of each frame in turn; what ``mixture`` does, without partitions."""
    frames = []
    order = sorted(range(len(entries)), key=lambda number: entries[number].name != "random")
    for number in order:
        raw = part.scores[number]
        weights = np.ones(candidates.size) if raw is None else raw.astype(np.float64)
        mean = np.rint(weights * 2**23).sum() / 2**23 / candidates.size
        floor = max(FLOOR * mean, 1e-9)
        weights = (weights + floor) / (mean + floor)
        tossed = coins(part.ids, seed_bits(0, number))
        if number not in part.cells:
            frames.append((tossed / weights, weights, places[number]))
            continue
        cells = part.cells[number]
        counts = {name: int((cells.codes == code).sum()) for code, name in enumerate(cells.names)}
        counts = {name: count for name, count in counts.items() if count}
        drawn = drawn_from(entries, [part], sum(places))
        for name in sorted(counts):
            inside = np.where(cells.among([name]), weights, 0.0)
            with np.errstate(divide="ignore"):
                keys = tossed / inside
            # the places of a cell are checked elsewhere; here a full cell has as many as it was given
            frames.append((keys, inside, _cell_places_of(drawn, entries, number, counts, places[number])[name]))
    return frames


def _cell_places_of(
    drawn: Drawn, entries: list[Entry], number: int, counts: dict[str, int], places: int
) -> dict[str, int]:
    from include.sampling.mixture import _cell_places, _Cells

    cells = _Cells(counts)
    shares = entries[number].strategy.shares(counts, {})  # type: ignore[union-attr]
    return dict(zip(cells.names, _cell_places(shares, cells, places), strict=True))


def _turns(frames: list[Any], among: set[int]) -> list[tuple[list[int], float]]:
    """What each frame takes, and the key of the last; infinite when it found too few."""
    taken: set[int] = set()
    result = []
    for keys, weights, places in frames:
        if places == 0:
            result.append(([], 0.0))
            continue
        free = sorted((keys[i], i) for i in among - taken if weights[i] > 0)[:places]
        taken |= {i for _, i in free}
        result.append(([i for _, i in free], free[-1][0] if len(free) == places else np.inf))
    return result
