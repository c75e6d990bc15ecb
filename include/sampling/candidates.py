"""The records that may be chosen, read shard by shard: what is kept of each is a few numbers (``mixture.Part``)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from include.lake import Lake
from include.lake.candidates import KEYS, standing
from include.lake.consent import consented
from include.lake.groups import Groups
from include.lake.keys import SHARDS
from include.project import Project
from include.sampling.draw import ID_BITS_DIGITS, Bits
from include.sampling.strategies import Candidates, Known, Texts

CHUNK_RECORDS = 700_000  # of neighbouring shards that are read at once; a larger shard is read alone
MODEL_COLUMNS = frozenset({"margin", "entropy", "confidence", "probabilities"})
SERVED_COLUMNS = {"label": "served_label", "confidence": "served_confidence"}
METADATA = "metadata."
ID_BITS = pl.col("record_id").str.head(ID_BITS_DIGITS).str.to_integer(base=16, dtype=pl.UInt64)


@dataclass(frozen=True)
class Pool:
    """Who may be chosen now, and who was before.

    :param free: first 64 bits of the ids of the records that may be chosen, by shard, sorted.
    :param asked: the selections that stand, and those withdrawn: ``record_id``, ``content_hash``, ``tier``, ``split``,
        ``selected_at``, ``stands``.
    """

    project: Project
    lake: Lake
    groups: Groups
    free: Mapping[str, Bits]
    asked: pl.DataFrame

    @property
    def size(self) -> int:
        """How many records may be chosen."""
        return sum(bits.size for bits in self.free.values())

    def chunks(self) -> Iterator[tuple[list[str], Bits]]:
        """Neighbouring shards with free records, and those records, in the order of ids."""
        shards: list[str] = []
        for name, bits in self.free.items():
            if shards and sum(self.free[one].size for one in shards) + bits.size > CHUNK_RECORDS:
                yield shards, np.concatenate([self.free[one] for one in shards])
                shards = []
            shards = [*shards, name] if bits.size else shards
        if shards:
            yield shards, np.concatenate([self.free[one] for one in shards])


def read_pool(project: Project, lake: Lake) -> Pool:
    """Find the records people may see and were never asked about.

    Of a group of duplicates it is the first record, unless people were asked about any that is still there. A record
    whose content changed since may be asked about again. Reads narrow columns of one shard at a time; kept are 20 bytes
    per record. Groups are told apart by 64 bits of a hash: of 10⁷, two fall together with a chance of one in 400,000,
    and then one record waits that need not.

    :raises StorageError: when the lake cannot be read.
    """
    groups = Groups.read(project, lake)
    columns = ["batch_id", *KEYS, "tier", "split", "selected_at"]
    asked = lake.read("selections", project.name, columns=columns)
    valid = standing(project, lake, asked).select("batch_id", "record_id", pl.lit(True).alias("stands"))
    asked = asked.join(valid, on=["batch_id", "record_id"], how="left").with_columns(pl.col("stands").fill_null(False))
    stands = asked.filter("stands").select(KEYS).unique()
    followers = groups.linked.group_by(KEYS).agg(pl.col("ingest_batch").min().alias("followed"))
    found, answered = [], []
    for shard in SHARDS:
        records = lake.read(
            "records",
            project.name,
            columns=[*KEYS, "consent", "ingest_batch"],
            where=pl.col("shard") == shard,
        )
        records = groups.of(records.filter(consented(project) & groups.settled()).select(KEYS))
        compact = [ID_BITS.alias("bits"), pl.col("group_id").hash().alias("group")]
        answered.append(records.join(stands, on=KEYS, how="semi").select(compact[1]))
        found.append(records.join(followers, on=KEYS, how="left").select(*compact, pl.col("followed").cast(pl.Int32)))
    free = pl.concat(found).join(pl.concat(answered).unique(), on="group", how="anti")
    free = free.sort("group", "followed", "bits", nulls_last=False).unique("group", keep="first", maintain_order=True)
    bits = free["bits"].sort().to_numpy()
    edges = np.searchsorted(bits, np.arange(16, dtype=np.uint64) << np.uint64(60))
    return Pool(
        project, lake, groups, dict(zip(SHARDS, np.split(bits, edges[1:]), strict=True)), asked.drop("batch_id")
    )


def read_candidates(
    pool: Pool, shards: Sequence[str], bits: Bits, *, needs: Iterable[str], model_version: str | None, known: Known
) -> tuple[pl.DataFrame, Candidates]:
    """Records of some shards, as strategies see them.

    :param bits: first 64 bits of their ids. Records that left since the pool was read are missing.
    :param needs: columns of ``strategies.Candidates``; without ``vector`` and ``answers``.
    :returns: ``record_id``, ``content_hash``, ``bits``, sorted by id; and the candidates in the same order.
    """
    wanted = set(needs)
    paths = sorted(name.removeprefix(METADATA) for name in wanted if name.startswith(METADATA))
    rows = _records(pool, shards, bits, with_metadata=bool(paths))
    columns: dict[str, npt.NDArray[Any]] = {}
    texts: dict[str, Texts] = {}
    for path in paths:
        texts[METADATA + path] = texts_of(_metadata(rows, path))
    if wanted & set(SERVED_COLUMNS.values()):
        served = _served(pool, shards)
        rows = rows.join(served, on=KEYS, how="left", maintain_order="left")
        texts["served_label"] = texts_of(rows["served_label"])
        columns["served_confidence"] = rows["served_confidence"].to_numpy()
    classes: tuple[str, ...] = ()
    numbers = sorted((wanted & MODEL_COLUMNS) | (wanted & {"label"}))
    if model_version is not None and numbers:
        seen = numbers + (["classes_json"] if "probabilities" in wanted else [])
        few = rows["record_id"] if rows.height < CHUNK_RECORDS // 10 else None
        answers = predictions_of(pool, shards, model_version, seen, among=few)
        rows = rows.join(answers, on=KEYS, how="left", maintain_order="left")
        classes = _classes(rows) if "probabilities" in wanted else ()
        for name in numbers:
            if name == "label":
                texts[name] = texts_of(rows[name])
            elif name != "probabilities":
                columns[name] = rows[name].to_numpy().astype(np.float32)
            elif classes:
                columns[name] = matrix(rows[name], len(classes))
    return rows.select(*KEYS, "bits"), Candidates(rows.height, columns, classes, known, texts)


def predictions_of(
    pool: Pool,
    shards: Sequence[str],
    model_version: str,
    columns: Sequence[str],
    *,
    among: pl.Series | None = None,
) -> pl.DataFrame:
    """What the model says: ``record_id``, ``content_hash`` and these columns.

    :param among: the record ids wanted; all by default.
    """
    where = (
        pl.col("shard").is_in(list(shards)) & (pl.col("model_version") == model_version) & (pl.col("origin") == "batch")
    )
    if among is not None:
        where &= pl.col("record_id").is_in(among.implode())
    return pool.lake.read("predictions", pool.project.name, columns=[*KEYS, *columns], where=where)


def label_counts(project: Project, lake: Lake) -> dict[str, float]:
    """Final labels of each class."""
    labels = _final_labels(project, lake, ["value_json"])
    return {str(json.loads(value)): float(count) for value, count in labels["value_json"].value_counts().iter_rows()}


def asked_counts(pool: Pool, columns: Iterable[str]) -> dict[str, dict[str, float]]:
    """For each metadata column, how many records of each value people were asked about.

    :param columns: names like ``metadata.lang``.
    :returns: keys like ``asked.metadata.lang``.
    """
    counts = {name: Counter[str]() for name in columns}
    if not counts:
        return {}
    ids = pool.asked["record_id"].unique()
    records = pool.lake.read(
        "records",
        pool.project.name,
        columns=["metadata_json"],
        where=pl.col("shard").is_in(ids.str.head(1).unique().implode()) & pl.col("record_id").is_in(ids.implode()),
    )
    for name, counter in counts.items():
        values = texts_of(_metadata(records, name.removeprefix(METADATA)))
        words = Candidates(records.height, {}, texts={name: values}).words(name)
        counter.update(
            dict(zip(words.names, np.bincount(words.codes, minlength=len(words.names)).tolist(), strict=True))
        )
    return {f"asked.{name}": {value: float(n) for value, n in counter.items()} for name, counter in counts.items()}


def read_vectors(
    pool: Pool, embedder: str, rows: pl.DataFrame
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The vectors of some records, as far as they have one.

    :param rows: ``record_id``, ``content_hash``, M rows.
    :returns: positions of the rows with a vector, shape (V,), and their vectors, shape (V, D).
    """
    ids = rows["record_id"]
    vectors = pool.lake.read(
        "embeddings",
        pool.project.name,
        columns=[*KEYS, "vector"],
        where=pl.col("shard").is_in(ids.str.head(1).unique().implode())
        & (pl.col("embedder") == embedder)
        & pl.col("record_id").is_in(ids.implode()),
    )
    found = rows.with_row_index("at").join(vectors, on=KEYS, maintain_order="left")
    if found.is_empty():
        return np.empty(0, np.int64), np.empty((0, 1), np.float32)
    return found["at"].to_numpy().astype(np.int64), matrix(found["vector"], len(found["vector"][0]))


def read_answered(pool: Pool, model_version: str) -> tuple[pl.DataFrame, Candidates]:
    """Records that have a label and wait for nobody, with their answers and what the model says of them.

    :returns: ``record_id``, ``content_hash``, sorted by id; and ``probabilities``, ``answers`` of the same records.
    """
    project, lake = pool.project, pool.lake
    labels = _final_labels(project, lake, [*KEYS, "decided_at"])
    last = pool.asked.filter("stands").group_by("record_id").agg(pl.col("selected_at").max())
    labels = labels.join(last, on="record_id").filter(pl.col("decided_at") >= pl.col("selected_at"))
    shards = labels["record_id"].str.head(1).unique().to_list()
    records = lake.read("records", project.name, columns=[*KEYS, "consent"], where=pl.col("shard").is_in(shards))
    labels = labels.join(records.filter(consented(project)), on=KEYS, how="semi").select(KEYS)
    answers = predictions_of(pool, shards, model_version, ["probabilities", "classes_json"])
    rows = labels.join(answers, on=KEYS).filter(pl.col("probabilities").is_not_null()).sort("record_id")
    classes = _classes(rows)
    responses = lake.read(
        "responses",
        project.name,
        columns=[*KEYS, "annotator", "value_json"],
        where=(pl.col("question") == project.question.name) & (pl.col("status") == "submitted"),
    ).join(rows.select(KEYS).with_row_index("at"), on=KEYS)
    people = sorted(responses["annotator"].unique())
    given = np.full((rows.height, max(len(people), 1)), -1, dtype=np.int64)
    position = {name: at for at, name in enumerate(classes)}
    for at, annotator, value in responses.select("at", "annotator", "value_json").iter_rows():
        given[at, people.index(annotator)] = position.get(json.loads(value), -1)
    columns: dict[str, npt.NDArray[Any]] = {
        "answers": given,
        "probabilities": matrix(rows["probabilities"], max(len(classes), 1)),
    }
    kept = np.flatnonzero((given >= 0).any(axis=1))
    candidates = Candidates(rows.height, columns, classes).take(kept)
    return rows.select(KEYS)[kept.tolist()], candidates


def texts_of(values: pl.Series) -> Texts:
    """A column of texts; null is no text."""
    filled = values.fill_null("")
    names = filled.unique().sort()
    codes = filled.cast(pl.Enum(names)).to_physical().cast(pl.Int32).to_numpy()
    return Texts(codes, tuple(names.to_list()))


def _records(pool: Pool, shards: Sequence[str], bits: Bits, *, with_metadata: bool) -> pl.DataFrame:
    """The present records with these bits that may be used, sorted by id."""
    columns = [*KEYS, "consent", *(["metadata_json"] if with_metadata else [])]
    where = pl.col("shard").is_in(list(shards))
    if bits.size < CHUNK_RECORDS // 10:  # few: let the reader skip the others
        where &= pl.col("record_id").str.head(ID_BITS_DIGITS).is_in([f"{one:016x}" for one in bits.tolist()])
    rows = pool.lake.read("records", pool.project.name, columns=columns, where=where)
    rows = rows.filter(consented(pool.project)).with_columns(ID_BITS.alias("bits"))
    rows = rows.join(pl.DataFrame({"bits": bits}), on="bits", how="semi").sort("record_id")
    return rows.unique("bits", keep="first", maintain_order=True)


def _served(pool: Pool, shards: Sequence[str]) -> pl.DataFrame:
    """The last answer of production for each record."""
    rows = pool.lake.read(
        "predictions",
        pool.project.name,
        columns=[*KEYS, "label", "confidence", "predicted_at"],
        where=pl.col("shard").is_in(list(shards)) & (pl.col("origin") == "inference"),
    )
    last = rows.sort("predicted_at").unique(KEYS, keep="last")
    return last.select(*KEYS, *(pl.col(name).alias(served) for name, served in SERVED_COLUMNS.items()))


def _metadata(rows: pl.DataFrame, path: str) -> pl.Series:
    return rows["metadata_json"].str.json_path_match(f"$['{path}']")


def _classes(rows: pl.DataFrame) -> tuple[str, ...]:
    """The classes of a model, from its predictions; none when they were stored without."""
    stored = rows["classes_json"].drop_nulls()
    return tuple(json.loads(stored[0])) if stored.len() else ()


def matrix(lists: pl.Series, width: int) -> npt.NDArray[np.float32]:
    """Lists of equal length as rows, shape (N, width); null becomes NaN."""
    there = (lists.list.len() == width).fill_null(False)
    if there.all() and lists.len():
        return lists.explode().to_numpy().astype(np.float32, copy=False).reshape(-1, width)
    result = np.full((lists.len(), width), np.nan, dtype=np.float32)
    result[there.to_numpy()] = lists.filter(there).explode().to_numpy().reshape(-1, width)
    return result


def _final_labels(project: Project, lake: Lake, columns: Sequence[str]) -> pl.DataFrame:
    labels = lake.read(
        "labels",
        project.name,
        columns=[*columns, "status"],
        where=(pl.col("question") == project.question.name)
        & (pl.col("schema_version") == project.labeling.schema_version),
    )
    return labels.filter(pl.col("status") == "final").drop("status")
