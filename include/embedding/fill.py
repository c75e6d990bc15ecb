"""Give every record in play its vector, once per content.

The built-in embedder learns from the project's own texts, as soon as there are 100 of them, and anew when there are ten
and a hundred times as many. Each time its name changes and everything is embedded again, which adds a ninth to the work
of embedding each record once. A text's vector never changes under the same name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.embedding.embedders import Embedder, embed, own_embedder
from include.embedding.latent_text import DIMENSIONS, LatentText
from include.errors import StorageError
from include.lake import Lake
from include.lake.candidates import KEYS, in_play, parts
from include.lake.keys import digest
from include.lake.texts import read_texts
from include.project import Project

if TYPE_CHECKING:
    import polars as pl

LATENT_TEXT = "latent_text"
LEARNED_FROM = (10_000, 1_000, 100)  # texts at which the built-in embedder learns
LEARNING_TEXTS = 20_000  # at most so many are learned from, a uniform sample
SLICE_RECORDS = 5_000  # texts in memory at once


@dataclass(frozen=True)
class Present:
    """The content of ``embedders/<project>.json``: whose vectors are the present ones."""

    name: str
    dimensions: int


def pointer_path(project: Project) -> str:
    """The file that names the present embedder: ``{"name", "dimensions"}``."""
    return f"embedders/{project.name}.json"


def plan_embedding(project: Project, lake: Lake) -> dict[str, Any]:
    """What has to be embedded: records in play without a vector of the present embedder.

    Teaches the built-in embedder when its time has come.

    :returns: ``{"embedder", "parts"}``; the name is null when the project has no vectors, or too few texts yet to learn
        from. A part is the input of one ``embed_part``: ``{"embedder", "shards"}``; there is none without work.
    :raises ProjectError: when the project's own embedder cannot be loaded.
    :raises StorageError: when the file of the built-in one was deleted.
    """
    wanted = in_play(project, lake)
    present = _choose(project, lake, wanted)
    if present is None:
        return {"embedder": None, "parts": []}
    _point(project, lake, present)
    pending = _pending(project, lake, present.name, wanted)
    return {
        "embedder": present.name,
        "parts": [{"embedder": present.name, "shards": shards} for shards in parts(pending)],
    }


def embed_part(project: Project, lake: Lake, part: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """Embed what is pending in the part's shards, in slices that are one append each, named by its content.

    A content that has a vector under another record is not embedded again.

    :param part: one of ``plan_embedding``'s.
    :returns: ``{"embedded", "copied", "embedder"}``: contents embedded and rows copied by this call.
    :raises ProjectError: when the project's own embedder cannot be loaded, or gives no unit vectors.
    :raises StorageError: when the file of the built-in one is missing or damaged.
    """
    import polars as pl

    name = part["embedder"]
    counts = {"embedded": 0, "copied": 0}
    wanted = in_play(project, lake).filter(pl.col("record_id").str.head(1).is_in(part["shards"]))
    pending = _pending(project, lake, name, wanted)
    if pending.is_empty():
        return {**counts, "embedder": name}
    embedder = _load(project, lake, name)
    known = _known(project, lake, name, pending["content_hash"])
    for offset in range(0, pending.height, SLICE_RECORDS):
        found = read_texts(project, lake, pending.slice(offset, SLICE_RECORDS))
        fresh = found.join(known, on="content_hash", how="anti").unique("content_hash", maintain_order=True)
        vectors = embed(embedder, fresh["text"].to_list()) if fresh.height else known["vector"].clear()
        own = pl.DataFrame([fresh["content_hash"], pl.Series("vector", vectors, known.schema["vector"])])
        rows = found.select(KEYS).join(pl.concat([known, own]), on="content_hash").sort("record_id")
        rows = rows.with_columns(
            pl.lit(project.name).alias("project"),
            pl.col("record_id").str.head(1).alias("shard"),
            pl.lit(name).alias("embedder"),
            pl.lit(now).alias("embedded_at"),
        )
        content = digest(*rows["record_id"], *rows["content_hash"])
        lake.append("embeddings", rows.to_arrow(), app_id=f"embed/{project.name}/{name}/{content}")
        counts["embedded"] += fresh.height
        counts["copied"] += rows.height - fresh.height
    return {**counts, "embedder": name}


def _choose(project: Project, lake: Lake, wanted: pl.DataFrame) -> Present | None:
    spec = project.embedding.embedder
    if spec is None or (spec == LATENT_TEXT and project.source.format == "image"):
        return None
    if spec != LATENT_TEXT:
        made = own_embedder(spec)
        return Present(made.name, made.dimensions)
    size = next((size for size in LEARNED_FROM if wanted.height >= size), None)
    known = lake.files.get_json(pointer_path(project))
    if known is not None and known["name"].startswith(f"{LATENT_TEXT}-"):
        # Records leave (consent is withdrawn, groups grow): what was learned from many is not thrown away for that.
        size = max(size or 0, int(known["name"].rpartition("-")[2]))
    if size is None or wanted.is_empty():
        return None
    present = Present(f"{LATENT_TEXT}-{DIMENSIONS}-{size}", DIMENSIONS)
    if lake.files.get(_artifact_path(project, present.name)) is None:
        if known is not None and known["name"] == present.name:
            raise _lost(present.name)  # what it would learn now are other vectors under the same name
        texts = read_texts(project, lake, wanted.head(LEARNING_TEXTS))["text"]  # ids are hashes: a uniform sample
        learned = LatentText.fit(present.name, texts.to_list())
        lake.files.create(_artifact_path(project, present.name), learned.dump())
    return present


def _point(project: Project, lake: Lake, present: Present) -> None:
    found = lake.files.get_versioned(pointer_path(project))
    data = json.dumps({"name": present.name, "dimensions": present.dimensions}, sort_keys=True).encode()
    if found is None or found[0] != data:
        # Losing this swap means that another run has just pointed to what it found: ours embeds under its own name.
        lake.files.swap(pointer_path(project), data, None if found is None else found[1])


def _load(project: Project, lake: Lake, name: str) -> Embedder:
    spec = project.embedding.embedder
    if spec is not None and spec != LATENT_TEXT:
        return own_embedder(spec)
    data = lake.files.get(_artifact_path(project, name))
    if data is None:
        raise _lost(name)
    return LatentText.load(name, data)


def _lost(name: str) -> StorageError:
    return StorageError(
        f"the file of embedder {name!r} is missing from the lake",
        remedy="Restore it from the bucket's versions: vectors that were made with it cannot be continued without it.",
    )


def _artifact_path(project: Project, name: str) -> str:
    return f"embedders/{project.name}/{name}.npz"


def _pending(project: Project, lake: Lake, name: str, wanted: pl.DataFrame) -> pl.DataFrame:
    """Ids and content hashes still to be embedded, sorted by id."""
    import polars as pl

    done = lake.read("embeddings", project.name, columns=KEYS, where=pl.col("embedder") == name)
    return wanted.join(done, on=KEYS, how="anti", maintain_order="left")


def _known(project: Project, lake: Lake, name: str, contents: pl.Series) -> pl.DataFrame:
    """``content_hash`` and ``vector`` of those contents that have one under another record."""
    import polars as pl

    where = (pl.col("embedder") == name) & pl.col("content_hash").is_in(contents.implode())
    rows = lake.read("embeddings", project.name, columns=["content_hash", "vector"], where=where)
    return rows.unique("content_hash", keep="any")
