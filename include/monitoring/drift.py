"""Has the data moved away from what the champion was made for?

One figure: how far the champion's predicted class mix of the newest records is from that of the records known when its
snapshot was made. The reference window is fixed for as long as the champion is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from include.lake import Lake
from include.lake.consent import consented
from include.lake.groups import Groups
from include.lake.keys import digest
from include.monitoring.champion import champion_pointer, champion_predictions, snapshot_time
from include.project import Project

if TYPE_CHECKING:
    import polars as pl

Counts = npt.NDArray[np.int64]
LEAST_RECORDS = 30  # per window; fewer say nothing about a class mix
LEAST_EXPECTED = 5.0  # Cochran's rule for the chi-square approximation
RESAMPLES = 2_000


@dataclass(frozen=True)
class Drift:
    """Distance of two class mixes: total variation in [0, 1], its 95% interval, and the p-value of "no change"."""

    value: float
    low: float
    high: float
    p_value: float


def compare_mixes(reference: Counts, newest: Counts, *, seed: int) -> Drift:
    """Total variation distance between two class mixes, half the sum of absolute differences of shares.

    The interval is ``value ± e``, with e the 95th percentile of how far both mixes move together when both windows are
    resampled. By the triangle inequality it covers at least 95% of the time. The percentiles of the resampled
    distances themselves would not: a distance of noisy mixes is too large, and theirs is twice too large.

    :param reference: records per class, shape (K,); ``newest``: the same classes, shape (K,). Neither may be empty.
    :raises ValueError: for an empty window or shapes that differ.
    """
    if reference.shape != newest.shape or not reference.sum() or not newest.sum():
        raise ValueError("both windows need records, counted over the same classes")
    random = np.random.default_rng(seed)
    old, new = reference / reference.sum(), newest / newest.sum()
    moved = (random.multinomial(reference.sum(), old, RESAMPLES) / reference.sum() - old) - (
        random.multinomial(newest.sum(), new, RESAMPLES) / newest.sum() - new
    )
    error = float(np.quantile(0.5 * np.abs(moved).sum(axis=1), 0.95))
    value = float(0.5 * np.abs(old - new).sum())
    return Drift(value, max(0.0, value - error), min(1.0, value + error), chi_square_p(reference, newest))


def chi_square_p(reference: Counts, newest: Counts) -> float:
    """p-value of Pearson's chi-square test that both windows come from one class mix.

    The rarest classes are pooled until every expected count reaches 5; with one class left nothing can differ: 1.
    """
    from scipy.stats import chi2_contingency

    order = np.argsort(reference + newest, kind="stable")
    table = np.vstack([reference, newest])[:, order].astype(float)
    table = table[:, table.sum(axis=0) > 0]
    smaller = table.sum(axis=1).min() / table.sum()
    while table.shape[1] > 1 and table[:, 0].sum() * smaller < LEAST_EXPECTED:
        table = np.column_stack([table[:, 0] + table[:, 1], table[:, 2:]])
        table = table[:, np.argsort(table.sum(axis=0), kind="stable")]
    if table.shape[1] == 1:
        return 1.0
    return float(chi2_contingency(table, correction=False).pvalue)


def measure_drift(project: Project, lake: Lake, *, cycle: str, now: datetime) -> dict[str, Any]:
    """Measure drift for one cycle and write it to ``metrics`` as ``drift`` and ``drift_p_value``, once per cycle.

    :param cycle: the time slot this figure belongs to; also the seed of the resampling.
    :returns: ``{"value", "low", "high", "n", "n_reference", "p_value", "alarm", "model_version", "why"}``; ``value`` is
        null, and nothing is written, while there is nothing to compare: ``why`` says so.
    :raises TrainingError: when the champion's snapshot is missing.
    """
    pointer = champion_pointer(project, lake)
    if pointer is None:
        return _nothing("No drift figure: there is no champion yet.", None)
    version = pointer["model_version"]
    reference, newest = _windows(project, lake, version, snapshot_time(project, lake, pointer["snapshot_id"]))
    for name, window in (("the champion's snapshot knew", reference), ("arrived after it", newest)):
        if window.height < LEAST_RECORDS:
            why = f"No drift figure: {window.height} predicted records {name}, {LEAST_RECORDS} are needed."
            return _nothing(why, version)
    classes = sorted({*reference["label"], *newest["label"]})
    drift = compare_mixes(
        _counts(reference, classes), _counts(newest, classes), seed=int(digest("drift", project.name, cycle), 16)
    )
    level = project.monitoring.significance
    alarm = drift.p_value < level
    figures = {"n": newest.height, "n_reference": reference.height, "p_value": drift.p_value, "alarm": alarm}
    head = {"project": project.name, "cycle": cycle, "slice": "all", "n": newest.height, "measured_at": now}
    rows = [
        {
            **head,
            "name": "drift",
            "value": drift.value,
            "low": drift.low,
            "high": drift.high,
            "method": "total_variation",
        },
        {**head, "name": "drift_p_value", "value": drift.p_value, "method": "chi_square"},
    ]
    lake.append("metrics", rows, app_id=f"metric/{project.name}/drift/{cycle}")
    why = (
        f"{'Drift' if alarm else 'No drift'}: the predicted class mix moved by {drift.value:.1%} "
        f"(p = {drift.p_value:.3g}, alarm below {level:g})."
    )
    return {"value": drift.value, "low": drift.low, "high": drift.high, **figures, "model_version": version, "why": why}


def _windows(project: Project, lake: Lake, model_version: str, since: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The champion's labels of the records known then, and of the newest ones that came after; all with consent now.

    Duplicates count: a wave of equal mails is a change of the data. The champion looks at one of each group, and its
    answer stands for the others.
    """
    import polars as pl

    groups = Groups.read(project, lake)

    columns = ["record_id", "revision", "content_hash", "event_at", "ingested_at"]
    consents = lake.read("records", project.name, columns=["record_id", "consent"])
    refused = consents.filter(~consented(project)).select("record_id")
    predictions = groups.of(champion_predictions(project, lake, model_version))
    known = lake.read("records", project.name, columns=columns, where=pl.col("ingested_at") <= since, newest=False)
    known = known.sort("revision").unique("record_id", keep="last")  # as they were then, whatever changed since
    known = known.join(refused, on="record_id", how="anti")
    later = lake.read("records", project.name, columns=columns, where=pl.col("ingested_at") > since)
    newest = (
        _answered(groups.of(later.join(refused, on="record_id", how="anti")), predictions)
        .sort(pl.coalesce("event_at", "ingested_at"), "record_id")
        .tail(project.monitoring.window_records)
    )
    return _answered(groups.of(known), predictions), newest


def _answered(rows: pl.DataFrame, predictions: pl.DataFrame) -> pl.DataFrame:
    """The rows with the ``label`` of their own prediction, else of one of their group's; without one they are dropped.

    :param rows: as ``predictions``, has ``record_id``, ``content_hash`` and ``group_id``.
    """
    import polars as pl

    own = predictions.select("record_id", "content_hash", "label")
    # Where duplicates are kept apart, a record is its own group: another content's answer says nothing.
    linked = predictions.filter(pl.col("group_id") != pl.col("record_id"))
    of_group = linked.sort("record_id").unique("group_id", keep="first").select("group_id", _label="label")
    joined = rows.join(own, on=["record_id", "content_hash"], how="left").join(of_group, on="group_id", how="left")
    return joined.with_columns(pl.coalesce("label", "_label").alias("label")).filter(pl.col("label").is_not_null())


def _counts(window: pl.DataFrame, classes: list[str]) -> Counts:
    found = dict(window["label"].value_counts().iter_rows())
    return np.array([found.get(name, 0) for name in classes], dtype=np.int64)


def _nothing(why: str, model_version: str | None) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(("value", "low", "high", "p_value"))
    return {**empty, "n": 0, "n_reference": 0, "alarm": False, "model_version": model_version, "why": why}
