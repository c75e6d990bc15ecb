"""Choose the records of a batch: read the candidates, draw, let certainty strategies choose, and say why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from include.lake.candidates import KEYS
from include.lake.groups import Groups
from include.lake.keys import uniform
from include.project import MixtureLine, Project
from include.sampling.candidates import (
    METADATA,
    MODEL_COLUMNS,
    Pool,
    asked_counts,
    label_counts,
    predictions_of,
    read_answered,
    read_candidates,
    read_vectors,
)
from include.sampling.draw import Bits, Least, seed_bits
from include.sampling.mixture import THREADS, Chosen, Drawn, Entry, Part, draw, part_of
from include.sampling.strategies import (
    Candidates,
    CertaintyStrategy,
    Known,
    Margin,
    Random,
    Strategy,
    StratifiedStrategy,
    make_strategy,
)

RANDOM, COLD_START = "random", "cold_start"
UNSURE = frozenset({"margin", "entropy", "least_confidence", "hybrid"})


@dataclass(frozen=True)
class _Picked:
    """A record of the batch before its words are found; ``chosen`` is null when a certainty strategy took it."""

    entry: Entry
    record_id: str
    content_hash: str
    chosen: Chosen | None
    again: bool = False  # people have answered it before


def select(pool: Pool, *, cycle: str, model_version: str | None, size: int) -> list[dict[str, Any]]:
    """Choose up to ``size`` records of the pool by the project's mixture, deterministic for (project, cycle, seed).

    :param model_version: the champion; null before there is one: strategies that need a model become ``cold_start``.
    :returns: rows of a plan: what ``selections`` stores, and ``suggestion``.
    :raises ProjectError: when a strategy cannot be made.
    """
    project = pool.project
    embedder = _present_embedder(pool)
    entries = entries_of(project, scored=model_version is not None, embedded=embedder is not None)
    needs = {name for entry in entries for name in entry.strategy.needs}
    known: Known = {"labels": label_counts(project, pool.lake)} if "probabilities" in needs else {}

    def part(chunk: tuple[list[str], Bits]) -> Part:
        rows, candidates = read_candidates(pool, *chunk, needs=needs, model_version=model_version, known=known)
        return part_of(entries, candidates, rows["bits"].to_numpy())

    with ThreadPoolExecutor(THREADS) as threads:  # one chunk is read while another is weighed
        parts = list(threads.map(part, pool.chunks()))
    slices = {
        name for entry in entries if isinstance(entry.strategy, StratifiedStrategy) for name in entry.strategy.needs
    }
    drawn = draw(
        entries,
        parts,
        size=size,
        seed_of=lambda number: _seed(project, cycle, entries, number),
        floor_share=project.sampling.weight_floor,
        known={**known, **asked_counts(pool, sorted(name for name in slices if name.startswith(METADATA)))},
    )
    del parts  # the largest thing in memory
    picked = _picked(pool, entries, drawn)
    for number, shortlist in drawn.shortlists.items():
        taken = {one.record_id for one in picked}
        picked += _certain(
            pool,
            entries[number],
            shortlist,
            drawn.places[number],
            taken,
            seed=_seed(project, cycle, entries, number),
            model_version=model_version,
            embedder=embedder,
        )
    return _rows(pool, picked, model_version)


def entries_of(project: Project, *, scored: bool, embedded: bool) -> list[Entry]:
    """The project's mixture as it can be drawn now.

    Without a model, strategies that need one become ``cold_start``. Without vectors, ``hybrid`` draws by margin and the
    diverse ones draw at random: then their probabilities are known, too.
    """
    return [_entry(line, scored=scored, embedded=embedded) for line in project.sampling.lines if line.share > 0]


def _entry(line: MixtureLine, *, scored: bool, embedded: bool) -> Entry:
    name, strategy = line.strategy, make_strategy(line.strategy, line.options)
    if not scored and MODEL_COLUMNS & set(strategy.needs):
        name, strategy = COLD_START, make_strategy(COLD_START)
    if not embedded and "vector" in strategy.needs:
        plain: Strategy = Margin() if "margin" in strategy.needs else Random()
        strategy = plain
    return Entry(name, strategy, line.share)


def _seed(project: Project, cycle: str, entries: list[Entry], number: int) -> int:
    """One seed per entry; a strategy that occurs twice tosses other coins the second time."""
    name = entries[number].name
    occurrence = sum(entry.name == name for entry in entries[:number])
    return seed_bits(project.name, name, occurrence, cycle, project.sampling.seed)


def _present_embedder(pool: Pool) -> str | None:
    pointer = pool.lake.files.get_json(f"embedders/{pool.project.name}.json")
    return None if pointer is None or pool.project.embedding.embedder is None else str(pointer["name"])


def _present(pool: Pool, bits: Bits) -> pl.DataFrame:
    """``record_id``, ``content_hash``, ``bits`` of these records, in the order of ``bits``; without those that left."""
    shards = sorted({f"{one:016x}"[0] for one in bits.tolist()})
    if not shards:
        return pl.DataFrame(schema={"record_id": pl.String, "content_hash": pl.String, "bits": pl.UInt64})
    rows, _ = read_candidates(pool, shards, bits, needs=(), model_version=None, known={})
    return pl.DataFrame({"bits": bits}).join(rows, on="bits", maintain_order="left").select(*KEYS, "bits")


def _picked(pool: Pool, entries: list[Entry], drawn: Drawn) -> list[_Picked]:
    chosen = {one.id_bits: one for one in drawn.chosen}
    rows = _present(pool, np.array(list(chosen), dtype=np.uint64))
    return [
        _Picked(entries[chosen[bits].entry], record_id, content_hash, chosen[bits])
        for record_id, content_hash, bits in rows.iter_rows()
    ]


def _certain(
    pool: Pool,
    entry: Entry,
    shortlist: Least,
    places: int,
    taken: set[str],
    *,
    seed: int,
    model_version: str | None,
    embedder: str | None,
) -> list[_Picked]:
    """What a certainty strategy chooses from its shortlist; places it cannot fill go to the first of the list."""
    strategy = entry.strategy
    assert isinstance(strategy, CertaintyStrategy)  # noqa: S101 - only these have shortlists
    rows = _present(pool, shortlist.ids).filter(~pl.col("record_id").is_in(list(taken)))
    rows = rows.head(strategy.shortlist(places))
    shards = rows["record_id"].str.head(1).unique().to_list()
    ids = rows["bits"].to_numpy()
    found, candidates = read_candidates(
        pool, shards, ids, needs=set(strategy.needs) - {"vector", "answers"}, model_version=model_version, known={}
    )
    if "answers" in strategy.needs and model_version is not None:
        return _old_and_new(pool, entry, found, candidates, places, taken, seed, model_version)
    kept = np.arange(found.height)
    if "vector" in strategy.needs and embedder is not None:
        kept, vectors = read_vectors(pool, embedder, found)
        candidates = candidates.take(kept).with_columns(vector=vectors)
    chosen = strategy.choose(candidates, min(places, kept.size), seed=seed) if kept.size else np.empty(0, np.int64)
    best = found[kept[chosen].tolist()]
    spare = rows.join(best, on="record_id", how="anti", maintain_order="left").head(places - best.height)
    return [
        _Picked(entry, row[0], row[1], None) for row in pl.concat([best.select(KEYS), spare.select(KEYS)]).iter_rows()
    ]


def _old_and_new(
    pool: Pool,
    entry: Entry,
    new: pl.DataFrame,
    new_candidates: Candidates,
    places: int,
    taken: set[str],
    seed: int,
    model_version: str,
) -> list[_Picked]:
    """Records that were answered before compete with new ones."""
    old, old_candidates = read_answered(pool, model_version)
    free = np.flatnonzero([record_id not in taken for record_id in old["record_id"]])
    old, old_candidates = old[free.tolist()], old_candidates.take(free)
    if not old_candidates.classes:
        return [_Picked(entry, row[0], row[1], None) for row in new.head(places).select(KEYS).iter_rows()]
    answers, chances = old_candidates.columns["answers"], old_candidates.columns["probabilities"]
    blank = np.full((new.height, answers.shape[1]), -1, dtype=np.int64)
    unknown = np.full((new.height, chances.shape[1]), np.nan, dtype=np.float32)
    candidates = Candidates(
        old.height + new.height,
        {
            "answers": np.concatenate([answers, blank]),
            "probabilities": np.concatenate([chances, new_candidates.columns.get("probabilities", unknown)]),
        },
        old_candidates.classes,
    )
    assert isinstance(entry.strategy, CertaintyStrategy)  # noqa: S101 - checked by the caller
    chosen = entry.strategy.choose(candidates, min(places, candidates.size), seed=seed).tolist()
    both = pl.concat([old.select(KEYS), new.select(KEYS)])
    return [_Picked(entry, both[at, 0], both[at, 1], None, again=at < old.height) for at in chosen]


def _rows(pool: Pool, picked: list[_Picked], model_version: str | None) -> list[dict[str, Any]]:
    """The rows of the plan."""
    if not picked:
        return []
    project = pool.project
    keys = pl.DataFrame([(one.record_id, one.content_hash) for one in picked], schema=KEYS, orient="row")
    known = with_splits(pool.groups, keys, pool.asked)
    if model_version is not None:
        shards = keys["record_id"].str.head(1).unique().to_list()
        seen = ["label", "confidence", "margin", "probabilities_json"]
        answers = predictions_of(pool, shards, model_version, seen, among=keys["record_id"])
        known = known.join(answers, on=KEYS, how="left")
    tiers = dict(pool.asked.group_by("record_id").agg(pl.col("tier").max()).iter_rows())
    by_id = {row["record_id"]: row for row in known.iter_rows(named=True)}
    return [_row(project, one, by_id[one.record_id], tiers, model_version) for one in picked]


def _row(
    project: Project, one: _Picked, known: Mapping[str, Any], tiers: Mapping[str, int], model_version: str | None
) -> dict[str, Any]:
    chosen, margin = one.chosen, known.get("margin")
    blind = one.again or uniform("blind", project.name, one.record_id) < project.sampling.blind_share
    shown = known.get("label") is not None and not blind
    return {
        "record_id": one.record_id,
        "content_hash": one.content_hash,
        "strategy": one.entry.name,
        "cell": None if chosen is None else chosen.cell,
        "score": None if margin is None else 1.0 - margin,
        "weight": None if chosen is None else chosen.weight,
        "threshold": None if chosen is None or np.isinf(chosen.threshold) else chosen.threshold,
        "frame_probability": None if chosen is None else chosen.frame_probability,
        "inclusion_probability": None if chosen is None else chosen.inclusion_probability,
        "model_version": model_version,
        "blind": blind,
        "gold": False,
        "tier": tiers[one.record_id] + 1 if one.again else 0,
        "split": known["split"] or _split(project, known["group_id"], one.entry.name),
        "reason": _reason(project, one, known),
        "suggestion": {"value": known["label"], "score": known["confidence"]} if shown else None,
    }


def with_splits(groups: Groups, records: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """The records with ``group_id`` and ``split``; null when neither record nor group was ever selected.

    :param asked: ``record_id``, ``content_hash``, ``split``, ``selected_at`` of all selections.
    """
    records, asked = groups.of(records), groups.of(asked).sort("selected_at")
    own = asked.unique("record_id", keep="first", maintain_order=True).select("record_id", "split")
    of_group = asked.unique("group_id", keep="first", maintain_order=True).select(
        "group_id", pl.col("split").alias("_s")
    )
    joined = records.join(own, on="record_id", how="left").join(of_group, on="group_id", how="left")
    return joined.with_columns(pl.coalesce("split", "_s")).drop("_s")


def _split(project: Project, group_id: str, strategy: str) -> str:
    """Decided once, at first selection: the holdout is filled from the random frame only."""
    held_out = strategy == RANDOM and uniform("split", project.name, group_id) < project.sampling.holdout_share
    return "holdout" if held_out else "train"


def _reason(project: Project, one: _Picked, known: Mapping[str, Any]) -> str:
    """Why a person sees this record, in words for annotators."""
    name, cell = one.entry.name, one.chosen.cell if one.chosen else None
    likely = sorted(json.loads(known.get("probabilities_json") or "{}").items(), key=lambda item: -item[1])[:2]
    shares = ", ".join(f"{project.question.labels.get(label, label)} {share:.0%}" for label, share in likely)
    if name in UNSURE:
        return f"The model is unsure: {shares}" if shares else "New to the model: it has no opinion yet"
    if one.again:
        return "One more opinion on this one helps more than a new record"
    column = one.entry.strategy.needs[0].removeprefix(METADATA) if cell is not None else ""
    return {
        RANDOM: "Chosen at random, to measure quality",
        COLD_START: "A first look: there is no model yet",
        "stratified": f"One of each kind: {column} {cell}",
        "stale": f"People have seen little of this kind: {column} {cell}",
        "diverse": "Unlike the other records of this batch",
        "rare_class": f"It may be of a class with few examples: {shares}" if shares else "It may be of a rare class",
        "production": "The model in use may be wrong here",
        "relabel": "A first opinion helps more here than one more elsewhere",
    }.get(name, f"Chosen by {name}")
