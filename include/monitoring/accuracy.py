"""How good is the champion on the data it is used on?

Batches are drawn with known inclusion probabilities, uncertain records more often; the answers people give to them
estimate the champion's accuracy on everything the batch was drawn from, without a test set of its own.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from include.lake import Lake
from include.lake.consent import consented
from include.lake.groups import Groups
from include.monitoring.champion import champion_pointer, champion_predictions, snapshot_records
from include.project import Project

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]
Z = 1.959963984540054  # 97.5% point of the normal distribution
LEAST_LABELS = 20  # fewer labels say less than the holdout does

HOLDOUT_FIGURES = {"value": "accuracy", "low": "accuracy_low", "high": "accuracy_high", "n": "n"}  # in the report


@dataclass(frozen=True)
class Estimate:
    """An accuracy with its 95% interval.

    ``n``: labels behind it. ``n_effective``: size of a plain random sample with the same precision (infinite for a
    census).
    """

    value: float
    low: float
    high: float
    n: int
    n_effective: float


def estimate_accuracy(
    confidences_all: Floats, correct: Floats, confidence_selected: Floats, inclusion_probability: Floats
) -> Estimate:
    """Accuracy over a population of N, from n labeled records drawn with known probabilities: the Hájek difference.

    ``mean(confidence over all) + Σ((correct - confidence)/π) / Σ(1/π)``: the model's own opinion of itself, corrected
    by what the sample shows. Sources: C.-E. Särndal, B. Swensson, J. Wretman, *Model Assisted Survey Sampling*, 1992:
    the difference estimator, with the correction in Hájek's ratio form and its linearised variance,
    ``Σ (1-π) e² / π² / (Σ 1/π)²``, e being the residuals from the weighted mean and draws taken as independent.

    Near 0 and 1, and when all answers agree, residuals hide the uncertainty: two pseudo-records, one right and one
    wrong, with the mean weight, enter the variance (the idea of Agresti and Coull, 1998), and the interval is Wilson's
    at the effective sample size.

    :param confidences_all: the model's confidence in its answer, shape (N,), in [0, 1]; selected records included.
    :param correct: 1 where the model's answer is the label, else 0, shape (n,).
    :param confidence_selected: confidence in those answers, shape (n,).
    :param inclusion_probability: chance of each of those records to be selected and labeled, shape (n,), in (0, 1].
    :raises ValueError: for an empty population or sample, shapes that differ, or probabilities out of range.
    """
    _check(confidences_all, correct, confidence_selected, inclusion_probability)
    weights = 1.0 / inclusion_probability
    total, n = float(weights.sum()), len(weights)
    difference = correct - confidence_selected
    shift = float(weights @ difference) / total
    value = min(1.0, max(0.0, float(confidences_all.mean()) + shift))

    confidence = float(weights @ confidence_selected) / total
    all_weights = np.append(weights, [total / n] * 2)
    residuals = np.append(difference, [1.0 - confidence, -confidence]) - shift
    unsampled = 1.0 - 1.0 / all_weights
    squares = float((unsampled * (all_weights * residuals) ** 2).sum())
    variance = (n + 2) / (n + 1) * squares / float(all_weights.sum()) ** 2

    kish = total**2 / float((weights**2).sum())
    inner = (kish * value + 1.0) / (kish + 2.0)  # away from 0 and 1, where value (1 − value) says nothing
    n_effective = inner * (1.0 - inner) / variance if variance > 0 else math.inf
    low, high = wilson_interval(value, n_effective)
    return Estimate(value, low, high, n, n_effective)


def pool(estimates: list[Estimate]) -> Estimate:
    """One estimate from several independent ones, weighted by their number of labels.

    :raises ValueError: when there is none.
    """
    n = sum(one.n for one in estimates)
    if not n:
        raise ValueError("there is nothing to pool")
    value = sum(one.n * one.value for one in estimates) / n
    spread = sum(one.n**2 / one.n_effective for one in estimates)
    n_effective = n**2 / spread if spread else math.inf
    low, high = wilson_interval(value, n_effective)
    return Estimate(value, low, high, n, n_effective)


def wilson_interval(share: float, n_effective: float) -> tuple[float, float]:
    """95% Wilson score interval of a share, for any positive effective sample size; a census has no width.

    Source: E. B. Wilson, *Probable inference, the law of succession, and statistical inference*, JASA 22, 1927.
    """
    if math.isinf(n_effective):
        return share, share
    scale = 1.0 + Z**2 / n_effective
    middle = (share + Z**2 / (2.0 * n_effective)) / scale
    half = Z * math.sqrt(share * (1.0 - share) / n_effective + Z**2 / (4.0 * n_effective**2)) / scale
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def measure_accuracy(project: Project, lake: Lake, *, cycle: str, now: datetime) -> dict[str, Any]:
    """Estimate the champion's accuracy for one cycle and write it to ``metrics`` as ``accuracy``, once per cycle.

    Used are batches that have no record in the champion's snapshot, nor a duplicate of one: records that estimate a
    model never trained it. Of each, the population is what it was drawn from, one record per group of duplicates.
    Unanswered records are non-response: a record's probability is
    multiplied by the answered share of its strategy. Until such batches have 20 labels, the holdout stands in.

    :param cycle: the time slot this figure belongs to.
    :returns: ``{"value", "low", "high", "n", "method", "model_version", "why"}``; method ``hajek_difference`` or
        ``holdout_wilson``; ``value`` is null, and nothing is written, without a champion.
    :raises TrainingError: when the champion's snapshot is missing.
    """
    pointer = champion_pointer(project, lake)
    if pointer is None:
        why = "No accuracy figure: there is no champion yet."
        return {**dict.fromkeys(("value", "low", "high", "method", "model_version")), "n": 0, "why": why}
    estimates = _batch_estimates(project, lake, pointer)
    labels = sum(one.n for one in estimates)
    if labels >= LEAST_LABELS:
        pooled = pool(estimates)
        figure = {"value": pooled.value, "low": pooled.low, "high": pooled.high, "n": pooled.n}
        method, source = "hajek_difference", f"{labels} labels of {len(estimates)} batches it never trained on"
    else:
        report = pointer["report"]
        figure = {name: report[key] for name, key in HOLDOUT_FIGURES.items()}
        method, source = "holdout_wilson", f"its holdout, because only {labels} labels came after its snapshot"
    row = {"project": project.name, "name": "accuracy", "cycle": cycle, "slice": "all", "method": method}
    lake.append("metrics", [{**row, **figure, "measured_at": now}], app_id=f"metric/{project.name}/accuracy/{cycle}")
    version = pointer["model_version"]
    interval = f"{figure['low']:.1%} to {figure['high']:.1%}"
    why = f"Champion {version} is right on {figure['value']:.1%} ({interval}), by {source}."
    return {**figure, "method": method, "model_version": version, "why": why}


def _batch_estimates(project: Project, lake: Lake, pointer: dict[str, Any]) -> list[Estimate]:
    """One estimate per usable batch that has labels, in order of selection."""
    import polars as pl

    seen = snapshot_records(project, lake, pointer["snapshot_id"])
    chosen = lake.read(
        "selections",
        project.name,
        columns=["batch_id", "record_id", "content_hash", "strategy", "gold", "inclusion_probability", "selected_at"],
    )
    groups = Groups.read(project, lake)
    chosen, seen = groups.of(chosen), groups.of(seen)
    touched = pl.concat([chosen.join(seen, on=key, how="semi") for key in ("record_id", "group_id")])
    drawn = chosen.join(touched, on="batch_id", how="anti").filter(
        pl.col("inclusion_probability").is_not_null()
        & ~pl.col("gold").fill_null(False)
        & (pl.col("strategy") != "audit")
    )
    if drawn.is_empty():
        return []
    predictions = champion_predictions(project, lake, pointer["model_version"])
    records = lake.read("records", project.name, columns=["record_id", "content_hash", "consent", "ingested_at"])
    population = groups.of(records.filter(consented(project)).join(predictions, on=["record_id", "content_hash"]))
    answered = _answered(project, lake, drawn, population)
    estimates = []
    for (batch_id,), batch in answered.sort("selected_at", "record_id").group_by("batch_id", maintain_order=True):
        at = batch["selected_at"][0]
        earlier = chosen.filter((pl.col("selected_at") < at) & (pl.col("batch_id") != batch_id))
        known = (pl.col("ingested_at") <= at) | pl.col("record_id").is_in(batch["record_id"].to_list())
        candidates = population.filter(known).join(earlier, on="group_id", how="anti")
        candidates = candidates.join(earlier, on="record_id", how="anti")
        drawn_from = candidates.join(batch, on="group_id", how="anti")
        candidates = pl.concat([groups.first(drawn_from), candidates.join(batch, on="record_id", how="semi")])
        estimates.append(
            estimate_accuracy(
                candidates["confidence"].to_numpy(),
                batch["correct"].to_numpy(),
                batch["confidence"].to_numpy(),
                batch["chance"].to_numpy(),
            )
        )
    return estimates


def _answered(project: Project, lake: Lake, drawn: pl.DataFrame, population: pl.DataFrame) -> pl.DataFrame:
    """The drawn records with a final label and a prediction of the same content, whether they agree (``correct``), and
    the chance of each to be drawn and answered (``chance``)."""
    import polars as pl

    labels = lake.read(
        "labels",
        project.name,
        columns=["record_id", "content_hash", "value_json", "status"],
        where=(pl.col("question") == project.question.name)
        & (pl.col("schema_version") == project.labeling.schema_version),
    ).filter(pl.col("status") == "final")
    labels = labels.with_columns(pl.Series("truth", [json.loads(v) for v in labels["value_json"]], pl.String))
    keys = ["record_id", "content_hash"]
    answered = drawn.join(labels, on=keys).join(population.drop("group_id"), on=keys)
    stratum = ["batch_id", "strategy"]
    asked = drawn.group_by(stratum).len("asked")
    done = answered.group_by(stratum).len("done")
    return (
        answered.join(asked, on=stratum)
        .join(done, on=stratum)
        .with_columns(
            (pl.col("truth") == pl.col("label")).cast(pl.Float64).alias("correct"),
            (pl.col("inclusion_probability") * pl.col("done") / pl.col("asked")).alias("chance"),
        )
    )


def _check(confidences_all: Floats, correct: Floats, confidence_selected: Floats, probability: Floats) -> None:
    if not len(confidences_all) or not len(correct):
        raise ValueError("an estimate needs a population and a labeled record")
    if not correct.shape == confidence_selected.shape == probability.shape:
        raise ValueError(f"shapes differ: {correct.shape}, {confidence_selected.shape}, {probability.shape}")
    if probability.min() <= 0 or probability.max() > 1:
        raise ValueError("inclusion probabilities must lie in (0, 1]")
