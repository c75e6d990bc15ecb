"""The champion's answer for every record it may still matter for, and that has none yet."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from include.errors import TrainingError
from include.lake import Lake
from include.lake.candidates import KEYS, in_play, parts
from include.lake.keys import canonical_json, digest
from include.lake.texts import read_texts
from include.project import Project
from include.training import registry
from include.training.trainers import Floats, predict

if TYPE_CHECKING:
    import polars as pl

SLICE_RECORDS = 5_000  # texts in memory at once


def plan_scoring(project: Project, lake: Lake) -> dict[str, Any]:
    """What the present champion has to predict: records in play without a prediction of this model version.

    After a promotion that is every record that can still be chosen, and those people were asked about
    (``include.lake.candidates.in_play``); at other times, the new ones.

    :returns: ``{"model_version", "parts"}``; the version is null without a champion. A part is the input of one
        ``score_part``: ``{"model_version", "sha256", "shards"}``; there is none without work.
    """
    current = registry.champion(project, lake)
    if current is None:
        return {"model_version": None, "parts": []}
    model = {"model_version": current.model_version, "sha256": current.sha256}
    pending = _pending(project, lake, current.model_version)
    return {
        "model_version": current.model_version,
        "parts": [{**model, "shards": shards} for shards in parts(pending)],
    }


def score_part(project: Project, lake: Lake, part: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """Predict what is pending in the part's shards, by the model the part names, even if another leads by now.

    Work is cut into slices of ``SLICE_RECORDS`` in the order of ``record_id``; each is one append named by its content,
    so a retry goes on where the killed attempt stopped.

    :param part: one of ``plan_scoring``'s.
    :returns: ``{"scored", "model_version"}``: records predicted by this call.
    :raises TrainingError: when the model's artifact is missing or altered, or it gives no probabilities.
    """
    import polars as pl

    version = part["model_version"]
    scored = 0
    pending = _pending(project, lake, version).filter(pl.col("record_id").str.head(1).is_in(part["shards"]))
    if pending.is_empty():
        return {"scored": scored, "model_version": version}
    model = registry.load_model(project, lake, part["sha256"])
    classes = [str(name) for name in model.classes_]
    for offset in range(0, pending.height, SLICE_RECORDS):
        found = read_texts(project, lake, pending.slice(offset, SLICE_RECORDS))
        if found.is_empty():
            continue
        chances = predict(model, found["text"].to_list())
        answers = predictions(found.select(KEYS), chances, classes).with_columns(
            pl.lit(project.name).alias("project"),
            pl.lit(version).alias("model_version"),
            pl.lit("batch").alias("origin"),
            pl.lit(now).alias("predicted_at"),
        )
        content = digest(*found["record_id"], *found["content_hash"])
        lake.append("predictions", answers.to_arrow(), app_id=f"score/{project.name}/{version}/{content}")
        scored += answers.height
    return {"scored": scored, "model_version": version}


def predictions(keys: pl.DataFrame, chances: Floats, classes: list[str]) -> pl.DataFrame:
    """A model's answers as rows of ``predictions``.

    ``entropy`` is Shannon's, divided by its greatest value, ln K, so that it means the same for any number of classes.

    :param keys: ``record_id`` and ``content_hash``, N rows.
    :param chances: class probabilities, shape (N, K), K > 1, in the order of ``classes``.
    :raises TrainingError: for another shape, or values that are no probabilities.
    """
    import polars as pl

    wanted = (keys.height, len(classes))
    if chances.shape != wanted or not (np.isfinite(chances).all() and (chances >= 0).all() and (chances <= 1).all()):
        raise TrainingError(
            f"the model gave no probabilities of shape {wanted} for {keys.height} records",
            remedy="Correct predict_proba of the project's own trainer.",
        )
    order = np.argsort(-chances, axis=1, kind="stable")
    best, second = (np.take_along_axis(chances, order[:, place : place + 1], axis=1)[:, 0] for place in (0, 1))
    surprise = -np.log(chances, out=np.zeros_like(chances), where=chances > 0)
    entropy = (chances * surprise).sum(axis=1) / np.log(len(classes))
    columns = {f"class {number}": np.round(column, 6) for number, column in enumerate(chances.T)}
    members: list[pl.Expr] = []
    for name, column in zip(classes, columns, strict=True):
        opening = ("," if members else "{") + canonical_json(name) + ":"
        members += [pl.lit(opening), pl.col(column).cast(pl.String)]
    in_words = pl.DataFrame(columns).select(pl.concat_str([*members, pl.lit("}")])).to_series()
    return keys.select(
        pl.col("record_id").str.head(1).alias("shard"),
        *KEYS,
        pl.Series("label", np.asarray(classes, dtype=object)[order[:, 0]], pl.String),
        pl.Series("confidence", best),
        pl.Series("margin", best - second),
        in_words.alias("probabilities_json"),
        pl.Series("entropy", np.clip(entropy, 0.0, 1.0)),
        pl.lit(canonical_json(classes)).alias("classes_json"),
        pl.Series("probabilities", chances.astype(np.float32)).arr.to_list().alias("probabilities"),
    )


def _pending(project: Project, lake: Lake, model_version: str) -> pl.DataFrame:
    """Ids and content hashes still to be predicted, sorted by id."""
    import polars as pl

    done = lake.read(
        "predictions",
        project.name,
        columns=KEYS,
        where=(pl.col("model_version") == model_version) & (pl.col("origin") == "batch"),
    )
    return in_play(project, lake).join(done, on=KEYS, how="anti", maintain_order="left")
