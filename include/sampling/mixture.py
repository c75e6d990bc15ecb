"""Draw a batch by several strategies at once, with the exact probability of each record to be drawn by any of them.

The batch has fixed places. Frames take turns, ``random`` first: each takes as many records as it has places, those with
the smallest keys ``coin / weight`` that no earlier frame took (priority sampling: N. Duffield, C. Lund, M. Thorup,
J. ACM 54, 2007). A cell of a stratified strategy is a frame of its own. So ``random`` is a simple random sample of all.

**Probability.** Hold the coins of all other records fixed and toss those of record i again. In a draw without i, let
kappa_h be the key of the last record that frame h took (infinite when it found too few). Record i comes into the batch
if and only if its key in some frame h is below kappa_h, because up to that moment nothing differs. Its coins are
independent, so given the others

    pi_i = 1 - prod_h (1 - min(1, w_ih * kappa_h)),

and ``sum(y_i / pi_i)`` over the batch is unbiased without any approximation (conditioning on the ranks of the others:
E. Cohen, H. Kaplan, *Summarizing data using bottom-k sketches*, PODC 2007).

The draw without i needs no second draw. Had i, which frame g took, not been there, g would have taken its next record;
if a later frame h had taken that one, h would have taken its own next, and so on. So kappa_h is the key of the next
record for g and the frames of this chain, and of the last record taken for all others: one row of numbers per frame g.

Certainty strategies come last: they choose from what is left, and change nothing of the above.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from include.sampling.draw import Bits, Floats, Least, Positions, below, coins_of, mix, toss
from include.sampling.strategies import (
    OTHER,
    Candidates,
    CertaintyStrategy,
    Known,
    Strategy,
    StratifiedStrategy,
    Texts,
    WeightStrategy,
)

Weights = npt.NDArray[np.float32]

MOST_CELLS = 20  # of a stratified strategy: the most frequent values, the others share the last cell
LEAST_FLOOR = 1e-9
THREADS = 2
GRAIN = 2**23  # weights are multiples of 1 / GRAIN: their sum is exact, and does not depend on the order


@dataclass(frozen=True)
class Entry:
    """One line of a project's mixture.

    :param name: as selections record it.
    :param share: of the batch, in [0, 1].
    """

    name: str
    strategy: Strategy
    share: float


@dataclass(frozen=True)
class Part:
    """What is kept of one partition of the candidates: 16 bytes per record, and 4 for each entry.

    :param ids: first 64 bits of the record ids, shape (n,); ``mixed`` is what coins are made of.
    :param scores: for each entry the weights, or the ranks of a certainty strategy, shape (n,); None: all are equal.
    :param cells: for each stratified entry, the cell of each record.
    """

    ids: Bits
    mixed: Bits
    scores: tuple[Weights | None, ...]
    cells: Mapping[int, Texts]


@dataclass(frozen=True)
class Chosen:
    """A record that was drawn: the ``position``-th of partition ``part``.

    :param entry: the entry whose frame drew it; ``cell`` its cell there.
    :param weight: in that frame, as a multiple of the mean weight.
    :param threshold: tau of that frame: the key of the first record it did not take; infinite when it took all.
    :param frame_probability: min(1, weight * threshold).
    :param inclusion_probability: chance to be drawn by any frame.
    """

    part: int
    position: int
    id_bits: int
    entry: int
    cell: str | None
    weight: float
    threshold: float
    frame_probability: float
    inclusion_probability: float


@dataclass(frozen=True)
class Drawn:
    """The records drawn, in the order of the frames.

    :param shortlists: for each certainty entry that has places, the records it may choose from.
    :param places: of each entry.
    """

    chosen: list[Chosen]
    shortlists: dict[int, Least]
    places: list[int]


@dataclass(frozen=True)
class _Scale:
    """How the weights of one entry are used: (weight + floor) / (mean + floor), so that their mean is 1."""

    floor: float
    mean: float

    @property
    def most(self) -> float:
        """The greatest weight there can be."""
        return (1.0 + self.floor) / (self.mean + self.floor)

    def of(self, part: Part, number: int, where: Positions | None = None) -> Floats:
        """Weights of some records of a part, or of all."""
        weights = part.scores[number]
        if weights is None:
            raw = np.ones(part.ids.size if where is None else where.size)
        else:
            raw = (weights if where is None else weights[where]).astype(np.float64)
        return np.asarray((raw + self.floor) / (self.mean + self.floor))


@dataclass(frozen=True)
class _Cells:
    """The cells of a stratified entry: rare values are folded into one.

    :param counts: candidates in each.
    """

    counts: dict[str, int]

    @property
    def names(self) -> list[str]:
        return sorted(self.counts)

    def of(self, cells: Texts) -> Positions:
        """For each record, the position of its cell in ``names``."""
        position = {name: at for at, name in enumerate(self.names)}
        folded = [position.get(name, position.get(OTHER, -1)) for name in cells.names]
        return np.array(folded, dtype=np.int64)[cells.codes]

    def within(self, cells: Texts, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether each record is in one of the wanted cells; ``wanted`` has one value for each of ``names``."""
        here = Texts(np.arange(len(cells.names), dtype=np.int32), cells.names)
        return np.append(wanted, False)[self.of(here)][cells.codes]  # -1, in no cell, is the last


@dataclass(frozen=True)
class _Frame:
    """A weight entry, or one cell of it; ``cell`` is its position in ``cells.names``."""

    entry: int
    scale: _Scale
    places: int
    least: Least
    cells: _Cells | None = None
    cell: int = 0

    @property
    def cell_name(self) -> str | None:
        return None if self.cells is None else self.cells.names[self.cell]

    def weights(self, picked: Least, parts: Sequence[Part]) -> Floats:
        """The weights here of records that any frame took; 0 outside the cell."""
        result = np.zeros(picked.ids.size)
        for at, part in enumerate(parts):
            here = picked.part == at
            where = picked.position[here]
            result[here] = self.scale.of(part, self.entry, where)
            if self.cells is not None:
                result[here] *= self.cells.of(part.cells[self.entry].take(where)) == self.cell
        return result


def part_of(entries: Sequence[Entry], candidates: Candidates, ids: Bits) -> Part:
    """One partition, ready to be drawn from.

    :param ids: first 64 bits of the candidates' record ids, shape (N,).
    :raises ValueError: when a strategy gives weights that are no numbers from 0 to 1, or not one per candidate.
    """
    scores: list[Weights | None] = []
    cells: dict[int, Texts] = {}
    for number, entry in enumerate(entries):
        if isinstance(entry.strategy, WeightStrategy):
            weights = _checked(entry.name, entry.strategy.weights(candidates), candidates.size)
            scores.append(weights)
            if isinstance(entry.strategy, StratifiedStrategy):
                cells[number] = entry.strategy.cells(candidates)
        else:
            ranks = entry.strategy.ranks(candidates)
            scores.append(None if ranks is None else ranks.astype(np.float32))
    return Part(ids, mix(ids), tuple(scores), cells)


def places_of(entries: Sequence[Entry], size: int) -> list[int]:
    """How many of ``size`` places each entry has, by largest remainders; ``random`` has at least one."""
    shares = np.array([entry.share for entry in entries])
    places = _rounded(shares, size)
    for number, entry in enumerate(entries):
        if entry.name == "random" and entry.share > 0 and size > 0 and places[number] == 0:
            places[int(np.argmax(places))] -= 1
            places[number] = 1
    return places


def draw(
    entries: Sequence[Entry],
    parts: Sequence[Part],
    *,
    size: int,
    seed_of: Callable[[int], int],
    floor_share: float,
    known: Known | None = None,
) -> Drawn:
    """Draw ``size`` of the candidates; fewer when there are fewer, or when earlier frames emptied a cell.

    The result depends on the candidates only, not on how they are cut into parts, or on their order.

    :param parts: what ``part_of`` made of each partition.
    :param seed_of: the 64-bit seed of an entry's coins, by its number.
    :param floor_share: added to every weight, as a share of the mean weight: no probability is near 0, no 1 / pi huge.
    :param known: as strategies saw it.
    """
    population = sum(part.ids.size for part in parts)
    places = places_of(entries, min(size, population))
    weighted = [n for n, entry in enumerate(entries) if isinstance(entry.strategy, WeightStrategy) and places[n]]
    weighted.sort(key=lambda number: entries[number].name != "random")
    length = sum(places[number] for number in weighted) + 1

    def frames_of(number: int) -> list[_Frame]:
        scale, strategy = _scale(parts, number, floor_share), entries[number].strategy
        cells, sizes = None, [places[number]]
        if isinstance(strategy, StratifiedStrategy):
            cells = _Cells(_counts(parts, number))
            sizes = _cell_places(strategy.shares(cells.counts, known or {}), cells, places[number])
        found = _search(parts, number, scale, seed_of(number), length, cells)
        return [_Frame(number, scale, size, found[at], cells, at) for at, size in enumerate(sizes) if size]

    with ThreadPoolExecutor(THREADS) as threads:  # numpy lets go of the interpreter's lock
        frames = [frame for found in threads.map(frames_of, weighted) for frame in found]
    chosen = _take_turns(frames, parts)
    taken = {one.id_bits for one in chosen}
    certain = [n for n, entry in enumerate(entries) if n not in weighted and places[n]]
    extra = sum(places[number] for number in certain)
    shortlists: dict[int, Least] = {}
    for number in certain:
        strategy = entries[number].strategy
        assert isinstance(strategy, CertaintyStrategy)  # noqa: S101 - there is no third kind
        wanted = strategy.shortlist(places[number]) + extra
        shortlists[number] = _shortlist(parts, number, seed_of(number), wanted, taken)
    return Drawn(chosen, shortlists, places)


def _checked(name: str, weights: npt.NDArray[np.floating[Any]], size: int) -> Weights | None:
    """The weights as multiples of 1 / GRAIN; none when all are 1."""
    if weights.shape != (size,) or (size and not (weights.min() >= 0 and weights.max() <= 1)):
        raise ValueError(f"strategy {name!r} must give each of {size} candidates one weight from 0 to 1")
    if size and weights.min() == 1:
        return None
    kept = weights.astype(np.float32)
    kept += np.float32(1)  # numbers from 1 to 2 are multiples of 1 / GRAIN
    kept -= np.float32(1)
    return kept


def _scale(parts: Sequence[Part], number: int, floor_share: float) -> _Scale:
    total, count = 0, 0
    for part in parts:
        weights = part.scores[number]
        count += part.ids.size
        total += part.ids.size * GRAIN if weights is None else round(float(weights.sum(dtype=np.float64)) * GRAIN)
    mean = total / GRAIN / count if count else 0.0
    return _Scale(max(floor_share * mean, LEAST_FLOOR), mean)


def _search(
    parts: Sequence[Part], number: int, scale: _Scale, seed: int, length: int, cells: _Cells | None
) -> list[Least]:
    """The records with the smallest keys, in each cell.

    What the parts before have brought bounds the keys that can still count, and by that the coins: of most records only
    the coin is looked at.
    """
    found = [Least.join([]) for _ in (cells.names if cells else [""])]
    for at, part in enumerate(parts):
        tossed = toss(part.mixed, seed)
        bounds = [one.bound(length) for one in found]
        finite = [bound for bound in bounds if np.isfinite(bound)]
        promising = below(tossed, max(finite) * scale.most) if finite else np.ones(tossed.size, dtype=bool)
        if cells is not None and finite:
            promising |= cells.within(part.cells[number], np.isinf(bounds))
        where = np.flatnonzero(promising)
        keys, ids = coins_of(tossed[where]) / scale.of(part, number, where), part.ids[where]
        cell_of = None if cells is None else cells.of(part.cells[number].take(where))
        for cell, before in enumerate(found):
            inside = np.arange(where.size) if cell_of is None else np.flatnonzero(cell_of == cell)
            here = Least.of(keys[inside], ids[inside], length, part=at, among=where[inside])
            found[cell] = Least.merge([before, here], length)
    return found


def _cell_places(shares: Mapping[str, float], cells: _Cells, places: int) -> list[int]:
    """Places of each cell: in proportion to its share, but no more than it has candidates."""
    counts = [cells.counts[name] for name in cells.names]
    wanted = [shares.get(name, 0.0) for name in cells.names]
    sizes = [0] * len(counts)
    while (left := min(places, sum(counts)) - sum(sizes)) > 0:
        still = [share if size < count else 0.0 for share, size, count in zip(wanted, sizes, counts, strict=True)]
        if sum(still) <= 0:
            break
        more = _rounded(still, left)
        sizes = [min(size + one, count) for size, one, count in zip(sizes, more, counts, strict=True)]
    return sizes


def _counts(parts: Sequence[Part], number: int) -> dict[str, int]:
    """Candidates in each cell; rare values are folded into one."""
    counts: Counter[str] = Counter()
    for part in parts:
        cells = part.cells[number]
        counts.update(
            dict(zip(cells.names, np.bincount(cells.codes, minlength=len(cells.names)).tolist(), strict=True))
        )
    present = {name: count for name, count in counts.items() if count}
    if len(present) <= MOST_CELLS:
        return present
    order = sorted(present, key=lambda name: (-present[name], name))
    kept = {name: present[name] for name in order[: MOST_CELLS - 1] if name != OTHER}
    return {**kept, OTHER: sum(present.values()) - sum(kept.values())}


def _rounded(shares: Sequence[float] | Floats, size: int) -> list[int]:
    """Whole numbers in proportion to the shares that add up to ``size``: largest remainders, first ones at a tie."""
    exact = np.asarray(shares, dtype=np.float64)
    exact = exact / exact.sum() * size if exact.sum() > 0 else np.zeros(len(exact))
    whole = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - whole), kind="stable")
    whole[order[: max(0, round(float(exact.sum())) - int(whole.sum()))]] += 1
    return [int(one) for one in whole]


def _take_turns(frames: Sequence[_Frame], parts: Sequence[Part]) -> list[Chosen]:
    taken_by: dict[int, int] = {}
    taken: list[list[int]] = []  # of each frame: positions in its list
    following: list[int | None] = []  # of each frame: the position of the first record it did not take
    for number, frame in enumerate(frames):
        mine: list[int] = []
        after = None
        for position, one in enumerate(frame.least.ids.tolist()):
            if one in taken_by:
                continue
            if len(mine) == frame.places:
                after = position
                break
            mine.append(position)
            taken_by[one] = number
        taken.append(mine)
        following.append(after)
    owner = np.repeat(np.arange(len(frames)), [len(mine) for mine in taken])
    pieces = [frame.least.take(mine) for frame, mine in zip(frames, taken, strict=True)]
    picked = Least.join(pieces)
    kappas = _kappas(frames, taken, following, taken_by)[owner].T
    weights = np.stack([frame.weights(picked, parts) for frame in frames]) if frames else kappas
    with np.errstate(invalid="ignore"):  # 0 * inf: a cell that the record is not in
        reached = np.where(weights > 0, np.minimum(1.0, weights * kappas), 0.0)
    total = 1.0 - np.prod(1.0 - reached, axis=0)
    return [
        Chosen(
            part=int(picked.part[at]),
            position=int(picked.position[at]),
            id_bits=int(picked.ids[at]),
            entry=frames[number].entry,
            cell=frames[number].cell_name,
            weight=float(weights[number, at]),
            threshold=float(kappas[number, at]),
            frame_probability=float(reached[number, at]),
            inclusion_probability=float(total[at]),
        )
        for at, number in enumerate(owner.tolist())
    ]


def _kappas(
    frames: Sequence[_Frame], taken: list[list[int]], following: list[int | None], taken_by: Mapping[int, int]
) -> Floats:
    """Row g, column h: the key below which frame h takes a record that frame g took; see the head of this module."""
    keys_next = [
        np.inf if after is None else float(f.least.keys[after]) for f, after in zip(frames, following, strict=True)
    ]
    keys_last = [
        float(frame.least.keys[mine[-1]]) if len(mine) == frame.places else np.inf
        for frame, mine in zip(frames, taken, strict=True)
    ]
    rows = np.tile(np.array(keys_last), (len(frames), 1))
    for g in range(len(frames)):
        h: int | None = g
        while h is not None:
            rows[g, h] = keys_next[h]
            after = following[h]
            later = None if after is None else taken_by.get(int(frames[h].least.ids[after]))
            h = later if later is not None and later > h else None
    return rows


def _shortlist(parts: Sequence[Part], number: int, seed: int, wanted: int, taken: set[int]) -> Least:
    """The first records of a certainty strategy's order that no frame took."""
    length = wanted + len(taken)
    found = Least.join([])
    for at, part in enumerate(parts):
        ranks, bound = part.scores[number], found.bound(length)
        if ranks is None:
            tossed = toss(part.mixed, seed)
            where = np.flatnonzero(below(tossed, bound))
            keys = coins_of(tossed[where])
        else:
            where = np.flatnonzero(ranks <= bound)
            keys = ranks[where].astype(np.float64)
        here = Least.of(keys, part.ids[where], length, part=at, among=where)
        found = Least.merge([found, here], length)
    free = np.flatnonzero([one not in taken for one in found.ids.tolist()])[:wanted]
    return found.take(free)
