"""What makes a record worth a person's time: the strategies a project mixes.

Three kinds, told apart by their methods:

- a **weight** strategy gives every candidate a weight; records are drawn by priority sampling, so the probability of
  each to be chosen is known (``mixture.py``);
- a **stratified** strategy is a weight strategy that also cuts the candidates into cells, each with places of its own;
- a **certainty** strategy looks at a shortlist and chooses. Its records have no usable probability: they teach the
  model and never enter an estimate.

Strategies are pure functions of arrays. A project names a built-in one, or its own as ``package.module:Class``; the
options in the project file are the arguments it is made with.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from include.errors import ProjectError
from include.sampling.clusters import centers_of, one_per_cluster
from include.sampling.relabel import worth_of_an_answer

Floats = npt.NDArray[np.floating[Any]]
Positions = npt.NDArray[np.int64]
Known = Mapping[str, Mapping[str, float]]

SHORTLIST = 10_000  # records whose vectors are compared; bounds memory and time of certainty strategies
OTHER = "(other)"  # the cell of rare values
NO_VALUE = "(none)"


@dataclass(frozen=True)
class Texts:
    """A column of texts that repeat a lot: ``names[codes[i]]`` is the i-th; all names differ, "" is no text."""

    codes: npt.NDArray[np.int32]
    names: tuple[str, ...]

    @classmethod
    def of(cls, values: Sequence[str | None] | npt.NDArray[Any]) -> Texts:
        """The column with these values."""
        texts = np.array([value or "" for value in values], dtype=str)
        names, codes = np.unique(texts, return_inverse=True)
        return cls(codes.astype(np.int32), tuple(names.tolist()))

    def take(self, where: Positions) -> Texts:
        """Some rows."""
        return Texts(self.codes[where], self.names)

    def among(self, wanted: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Whether each text is one of ``wanted``, shape (N,)."""
        chosen = set(wanted)
        return np.array([name in chosen for name in self.names], dtype=bool)[self.codes]


@dataclass(frozen=True)
class Candidates:
    """N records that may be chosen, column by column.

    :param size: N.
    :param columns: arrays with N rows: ``margin``, ``entropy``, ``confidence``, ``served_confidence`` (what production
        answered with; all (N,), in [0, 1], NaN where no model has looked), ``probabilities`` (N, K), ``vector`` (N, D),
        ``answers`` (N, annotators; a position in ``classes``, or -1). A column that nobody has is absent.
    :param texts: columns of N texts: ``label``, ``served_label`` (class names), ``metadata.<column>``.
    :param classes: K names, the columns of ``probabilities``.
    :param known: what was known before, equal for all candidates: ``labels`` ({class: final labels}),
        ``asked.metadata.<column>`` ({value: records people were asked about}).
    """

    size: int
    columns: Mapping[str, npt.NDArray[Any]]
    classes: tuple[str, ...] = ()
    known: Known = field(default_factory=dict)
    texts: Mapping[str, Texts] = field(default_factory=dict)

    def numbers(self, name: str, *, missing: float) -> npt.NDArray[np.float32]:
        """A column as numbers, shape (N,); ``missing`` stands where there is none."""
        if name not in self.columns:
            return np.full(self.size, missing, dtype=np.float32)
        values = self.columns[name].astype(np.float32, copy=False)
        unknown = np.isnan(values)
        return np.where(unknown, np.float32(missing), values) if unknown.any() else values

    def words(self, name: str) -> Texts:
        """A column of texts; ``(none)`` where there is none."""
        if name not in self.texts:
            return Texts(np.zeros(self.size, dtype=np.int32), (NO_VALUE,))
        column = self.texts[name]
        return Texts(column.codes, tuple(one or NO_VALUE for one in column.names))

    def take(self, where: Positions) -> Candidates:
        """Some of them, in this order.

        :param where: positions, shape (M,).
        """
        columns = {name: values[where] for name, values in self.columns.items()}
        texts = {name: values.take(where) for name, values in self.texts.items()}
        return replace(self, size=len(where), columns=columns, texts=texts)

    def with_columns(self, **columns: npt.NDArray[Any]) -> Candidates:
        """The same records with more columns."""
        return replace(self, columns={**self.columns, **columns})


@runtime_checkable
class WeightStrategy(Protocol):
    """Worth as a number."""

    needs: tuple[str, ...]  # columns it looks at

    def weights(self, candidates: Candidates) -> Floats:
        """How much each record is worth, shape (N,), in [0, 1].

        Only ratios matter; a floor is added later. The weight of a record must not depend on the other candidates,
        which may be in another partition: what is common to all is in ``candidates.known``.
        """
        ...


@runtime_checkable
class StratifiedStrategy(WeightStrategy, Protocol):
    """A weight strategy with places for each cell."""

    def cells(self, candidates: Candidates) -> Texts:
        """The cell of each record. When there are many cells, the small ones become one, ``(other)``."""
        ...

    def shares(self, counts: Mapping[str, int], known: Known) -> dict[str, float]:
        """What each cell should have of the places; only ratios matter.

        :param counts: candidates in each cell, over all partitions.
        """
        ...


@runtime_checkable
class CertaintyStrategy(Protocol):
    """Worth that depends on the rest of the batch."""

    needs: tuple[str, ...]

    def shortlist(self, size: int) -> int:
        """How many records it wants to choose ``size`` from; at most ``SHORTLIST``."""
        ...

    def ranks(self, candidates: Candidates) -> Floats | None:
        """The order of the shortlist, shape (N,), smallest first; None: by a coin."""
        ...

    def choose(self, candidates: Candidates, size: int, *, seed: int) -> Positions:
        """Positions of at most ``size`` different records of the shortlist."""
        ...


Strategy: TypeAlias = WeightStrategy | CertaintyStrategy


class Random:
    """Every record the same: what honest figures and the holdout come from."""

    needs: tuple[str, ...] = ()

    def weights(self, candidates: Candidates) -> Floats:
        return np.ones(candidates.size)


class Margin:
    """(1 - margin)²: where two classes are close. A record the model has not seen counts as one it knows nothing of."""

    needs: tuple[str, ...] = ("margin",)

    def weights(self, candidates: Candidates) -> Floats:
        return np.asarray((1.0 - candidates.numbers("margin", missing=0.0)) ** 2)


class Entropy:
    """The square of the normalised entropy: where many classes are possible."""

    needs: tuple[str, ...] = ("entropy",)

    def weights(self, candidates: Candidates) -> Floats:
        return np.asarray(candidates.numbers("entropy", missing=1.0) ** 2)


class LeastConfidence:
    """(1 - confidence)²: where the best class is not sure."""

    needs: tuple[str, ...] = ("confidence",)

    def weights(self, candidates: Candidates) -> Floats:
        return np.asarray((1.0 - candidates.numbers("confidence", missing=0.0)) ** 2)


class RareClass:
    """((p + u) / 2)⁴: p is the chance to be of a wanted class, u is (1 - margin)².

    The power makes up for probabilities that differ little, as those of a linear model do (docs/label-efficiency.md).

    :param classes: the wanted ones. By default each class counts in inverse proportion to its labels so far.
    """

    needs: tuple[str, ...] = ("probabilities", "margin")

    def __init__(self, classes: list[str] | None = None) -> None:
        self.classes = tuple(classes or ())

    def weights(self, candidates: Candidates) -> Floats:
        unsure = Margin().weights(candidates)
        if "probabilities" not in candidates.columns:
            return unsure
        wanted = self._wanted(candidates)
        chance = candidates.columns["probabilities"] @ wanted
        unknown = np.isnan(chance)
        if unknown.any():
            chance = np.where(unknown, wanted.mean(), chance)
        return np.asarray(np.minimum((chance + unsure) / 2.0, 1.0))

    def _wanted(self, candidates: Candidates) -> npt.NDArray[np.float32]:
        if self.classes:
            return np.array([name in self.classes for name in candidates.classes], dtype=np.float32)
        labels = candidates.known.get("labels", {})
        wanted = np.array([1.0 / (1.0 + labels.get(name, 0.0)) for name in candidates.classes], dtype=np.float32)
        return np.asarray(wanted / wanted.max())


class Production:
    """Where the model in use may have failed people: it disagrees with the champion, was unsure, or users complained.

    The mean of the three signals; records that production never answered are left to the floor.

    :param flag: the metadata column that is true, yes or 1 when a user complained.
    """

    def __init__(self, flag: str | None = None) -> None:
        self.flag = None if flag is None else f"metadata.{flag}"
        self.needs: tuple[str, ...] = (
            "label",
            "served_label",
            "served_confidence",
            *([self.flag] if self.flag else []),
        )

    def weights(self, candidates: Candidates) -> Floats:
        served, label = candidates.words("served_label"), candidates.words("label")
        answered = ~served.among([NO_VALUE])
        differs = answered & ~label.among([NO_VALUE]) & ~_same(served, label)
        unsure = answered * (1.0 - candidates.numbers("served_confidence", missing=1.0)) ** 2
        flagged = np.zeros(candidates.size, dtype=bool)
        if self.flag:
            column = candidates.words(self.flag)
            flagged = column.among(name for name in column.names if name.lower() in ("true", "yes", "1"))
        return np.asarray((differs + unsure + flagged) / 3.0)


class Stratified:
    """Places for each value of a metadata column, drawn at random within it.

    :param by: the column.
    :param shares: ``equal``, or ``proportional`` to the candidates.
    """

    def __init__(self, by: str, shares: Literal["equal", "proportional"] = "equal") -> None:
        self.column = f"metadata.{by}"
        self.needs: tuple[str, ...] = (self.column,)
        self.proportional = shares == "proportional"

    def weights(self, candidates: Candidates) -> Floats:
        return np.ones(candidates.size)

    def cells(self, candidates: Candidates) -> Texts:
        return candidates.words(self.column)

    def shares(self, counts: Mapping[str, int], known: Known) -> dict[str, float]:
        return {cell: float(count) if self.proportional else 1.0 for cell, count in counts.items()}


class Stale(Stratified):
    """Slices of the data that people have seen too little of, because they grew or are new.

    A slice's places are in proportion to its candidates times the odds that a record of it is a candidate rather than
    one people were asked about: the density ratio of a domain classifier whose only feature is the slice.

    :param by: the metadata column whose values are the slices.
    """

    MOST_ODDS = 20.0  # a slice that people have never seen has infinite odds

    def __init__(self, by: str) -> None:
        super().__init__(by)

    def shares(self, counts: Mapping[str, int], known: Known) -> dict[str, float]:
        asked = known.get(f"asked.{self.column}", {})
        candidates, seen = sum(counts.values()), sum(asked.values())
        others = seen - sum(asked.get(cell, 0.0) for cell in counts)

        def odds(cell: str) -> float:
            seen_here = others if cell == OTHER else asked.get(cell, 0.0)
            share_seen = (seen_here + 1.0) / (seen + len(counts))
            return min(self.MOST_ODDS, counts[cell] / candidates / share_seen)

        return {cell: count * odds(cell) for cell, count in counts.items()}


class Diverse:
    """Records unlike each other: one per k-means cluster, or greedy k-centers, over a random shortlist.

    :param method: ``kmeans`` prefers typical records, ``kcenter`` finds outliers too.
    """

    needs: tuple[str, ...] = ("vector",)

    def __init__(self, method: Literal["kmeans", "kcenter"] = "kmeans") -> None:
        self.method = method

    def shortlist(self, size: int) -> int:
        return SHORTLIST

    def ranks(self, candidates: Candidates) -> Floats | None:
        return None

    def choose(self, candidates: Candidates, size: int, *, seed: int) -> Positions:
        vectors = candidates.columns["vector"]
        if self.method == "kcenter":
            return centers_of(vectors, size)
        return one_per_cluster(vectors, np.ones(candidates.size), size, seed=seed)


class ColdStart(Diverse):
    """The first batch, before there is a model."""


class Hybrid:
    """Unsure and unlike each other: the ``oversample`` × size least margins, of them one per weighted cluster."""

    needs: tuple[str, ...] = ("margin", "vector")

    def __init__(self, oversample: float = 8.0) -> None:
        self.oversample = oversample

    def shortlist(self, size: int) -> int:
        return min(SHORTLIST, round(self.oversample * size))

    def ranks(self, candidates: Candidates) -> Floats | None:
        return candidates.numbers("margin", missing=0.0)

    def choose(self, candidates: Candidates, size: int, *, seed: int) -> Positions:
        unsure = 1.0 - candidates.numbers("margin", missing=0.0)
        return one_per_cluster(candidates.columns["vector"], np.maximum(unsure, 1e-3), size, seed=seed)


class Relabel:
    """Another answer for a record people have answered, where that beats a first answer for a new one (ActiveLab).

    :param most_answers: records with as many answers are left alone.
    """

    needs: tuple[str, ...] = ("confidence", "probabilities", "answers")

    def __init__(self, most_answers: int = 5) -> None:
        self.most_answers = most_answers

    def shortlist(self, size: int) -> int:
        return min(SHORTLIST, 4 * size)  # of new records, beside all answered ones

    def ranks(self, candidates: Candidates) -> Floats | None:
        return candidates.numbers("confidence", missing=0.0)

    def choose(self, candidates: Candidates, size: int, *, seed: int) -> Positions:
        answers = candidates.columns["answers"]
        worth = worth_of_an_answer(answers, candidates.columns["probabilities"])
        worth[(answers >= 0).sum(axis=1) >= self.most_answers] = np.inf
        order = np.argsort(worth, kind="stable")[:size]
        return np.sort(order[np.isfinite(worth[order])])


def _same(one: Texts, other: Texts) -> npt.NDArray[np.bool_]:
    """Whether two columns have the same text, shape (N,)."""
    position = {name: code for code, name in enumerate(one.names)}
    translated = np.array([position.get(name, -1) for name in other.names], dtype=np.int64)
    return np.asarray(one.codes == translated[other.codes])


STRATEGIES: dict[str, type] = {
    "random": Random,
    "stratified": Stratified,
    "margin": Margin,
    "entropy": Entropy,
    "least_confidence": LeastConfidence,
    "diverse": Diverse,
    "hybrid": Hybrid,
    "rare_class": RareClass,
    "production": Production,
    "stale": Stale,
    "cold_start": ColdStart,
    "relabel": Relabel,
}


def make_strategy(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """The built-in strategy of that name, or the class behind ``package.module:Class``, made with these options.

    :raises ProjectError: when it cannot be imported, does not take the options, or is no strategy.
    """
    where = f"sampling.mixture: strategy {name!r}"
    if name not in STRATEGIES and ":" not in name:
        raise ProjectError(
            f"{where} is not built in",
            remedy=f"Use one of {sorted(STRATEGIES)}, or name a class as package.module:Class.",
        )
    module_name, _, class_name = name.partition(":")
    try:
        made_by = STRATEGIES[name] if name in STRATEGIES else getattr(importlib.import_module(module_name), class_name)
        made: Any = made_by(**(options or {}))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ProjectError(
            f"{where} cannot be made ({error})",
            remedy="Check its spelling and options, and that its package is installed where tasks run.",
        ) from error
    if not isinstance(made, WeightStrategy | CertaintyStrategy):
        raise ProjectError(
            f"{where} has neither 'weights' nor 'shortlist', 'ranks' and 'choose', or lacks 'needs'",
            remedy="Give it what include/sampling/strategies.py says.",
        )
    return made
