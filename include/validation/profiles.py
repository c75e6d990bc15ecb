"""What a good batch looked like, in a few numbers, so that the next one can be compared with it.

A profile is JSON::

    {"rows": 812,
     "columns": {"lang":       {"nulls": 3, "distinct": 2, "values": {"en": 700, "de": 109}},
                 "characters": {"nulls": 0, "distinct": 640, "mean": 913.2, "stdev": 402.9, "min": 4, "max": 4000,
                                "quantiles": {"0.05": 211.0, …}, "bins": [4, 310.5, …], "counts": [81, …]}}}

Only columns are kept that batch-level expectations speak of. In an expectation's kwargs the mapping
``{$last_good_batch: <what>}`` stands for a figure of the last good batch, where *what* is

- a number: ``rows``, ``null_share``, ``non_null_share``, ``distinct``, ``mean``, ``stdev``, ``min``, ``max`` or
  ``median``;
- ``values``: the list of values of a text column (at most ``MAX_VALUES``);
- ``partition``: values or bins with weights, for ``expect_column_kl_divergence_to_be_less_than``;
- ``quantile_ranges``: for ``expect_column_quantile_values_to_be_between``.

``times`` and ``plus`` change a number (``{$last_good_batch: rows, times: 0.5}``); for quantile ranges both are pairs,
one for each end. ``column`` names another column than the expectation's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PLACEHOLDER = "$last_good_batch"
MAX_VALUES = 200
BINS = 10
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_COLUMN_FIGURES = {"null_share", "non_null_share", "distinct", "mean", "stdev", "min", "max", "median"}
_SHAPES = {"values", "partition", "quantile_ranges"}


class NoReferenceError(LookupError):
    """The last good batch has no such figure; the message says why."""


# ---------------------------------------------------------------- making profiles


def batch_profile(columns: pa.Table) -> dict[str, Any]:
    """The profile of a batch.

    :param columns: the columns that matter, typed string, int64 or double; null = missing.
    """
    return {
        "rows": columns.num_rows,
        "columns": {name: _column_profile(columns[name]) for name in columns.column_names},
    }


def _column_profile(column: pa.ChunkedArray) -> dict[str, Any]:
    profile: dict[str, Any] = {"nulls": column.null_count, "distinct": pc.count_distinct(column).as_py()}
    if pa.types.is_string(column.type):
        if profile["distinct"] <= MAX_VALUES:
            counted = pc.value_counts(column.drop_null().combine_chunks())
            counts = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
            profile["values"] = dict(sorted(counts, key=lambda one: (-one[1], one[0])))
        return profile
    values = column.drop_null().to_numpy()
    if len(values):
        edges = np.unique(np.quantile(values.astype(float), np.linspace(0, 1, BINS + 1)))
        profile |= {
            "mean": float(values.mean()),
            "stdev": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
            "min": values.min().item(),
            "max": values.max().item(),
            "quantiles": {str(q): float(np.quantile(values, q)) for q in QUANTILES},
        }
        if len(edges) > 1:
            profile |= {"bins": edges.tolist(), "counts": np.histogram(values, bins=edges)[0].tolist()}
    return profile


# ---------------------------------------------------------------- using them


def placeholders(value: Any) -> list[dict[str, Any]]:
    """All placeholders in an expectation's kwargs."""
    if isinstance(value, dict):
        if PLACEHOLDER in value:
            return [value]
        return [found for one in value.values() for found in placeholders(one)]
    return [found for one in value for found in placeholders(one)] if isinstance(value, list) else []


def check_placeholder(placeholder: dict[str, Any], own_column: str | None) -> str | None:
    """The column a placeholder speaks of; None for ``rows``.

    :raises ValueError: for one that can never be filled.
    """
    what = placeholder[PLACEHOLDER]
    if unknown := sorted(set(placeholder) - {PLACEHOLDER, "times", "plus", "column"}):
        raise ValueError(f"{PLACEHOLDER} does not know {unknown[0]!r}")
    if what == "rows":
        return None
    if what not in _COLUMN_FIGURES | _SHAPES:
        raise ValueError(f"{PLACEHOLDER} {what!r} is none of {', '.join(sorted({'rows', *_COLUMN_FIGURES, *_SHAPES}))}")
    column = placeholder.get("column", own_column)
    if column is None:
        raise ValueError(f"{PLACEHOLDER} {what!r} needs a 'column'")
    for name in ("times", "plus"):
        if name in placeholder:
            _factors(placeholder, name, 0.0, pair=what == "quantile_ranges")
    return str(column)


def fill(value: Any, reference: dict[str, Any] | None, own_column: str | None) -> Any:
    """Kwargs with every placeholder replaced by its figure.

    :param reference: the profile of the last good batch; None when there was none.
    :raises NoReferenceError: when it does not have the figure.
    """
    if isinstance(value, list):
        return [fill(one, reference, own_column) for one in value]
    if not isinstance(value, dict):
        return value
    if PLACEHOLDER not in value:
        return {name: fill(one, reference, own_column) for name, one in value.items()}
    if reference is None:
        raise NoReferenceError("there is no good batch yet to compare with")
    what, column = value[PLACEHOLDER], check_placeholder(value, own_column)
    figure = reference["rows"] if column is None else _figure(reference, column, what)
    if what in {"values", "partition"}:
        return figure
    if what == "quantile_ranges":
        times, plus = _factors(value, "times", 1.0, pair=True), _factors(value, "plus", 0.0, pair=True)
        ranges = [[figure[q] * times[0] + plus[0], figure[q] * times[1] + plus[1]] for q in figure]
        return {"quantiles": [float(q) for q in figure], "value_ranges": [sorted(one) for one in ranges]}
    return figure * _factors(value, "times", 1.0)[0] + _factors(value, "plus", 0.0)[0]


def _figure(reference: dict[str, Any], column: str, what: str) -> Any:
    profile = reference["columns"].get(column)
    if profile is None:
        raise NoReferenceError(f"the last good batch was not asked about column {column!r}")
    if what in {"null_share", "non_null_share"}:
        if not reference["rows"]:
            raise NoReferenceError("the last good batch had no rows")
        share = profile["nulls"] / reference["rows"]
        return share if what == "null_share" else 1 - share
    figure = _shape(profile, what) if what in {"values", "partition"} else _number(profile, what)
    if figure is None:
        raise NoReferenceError(f"the last good batch has no {what!r} of column {column!r}")
    return figure


def _number(profile: dict[str, Any], what: str) -> Any:
    if what == "median":
        return profile.get("quantiles", {}).get("0.5")
    return profile.get({"quantile_ranges": "quantiles"}.get(what, what))


def _shape(profile: dict[str, Any], what: str) -> Any:
    values = profile.get("values")
    if what == "values":
        return list(values) if values else None
    if values:
        return {"values": list(values), "weights": _weights(list(values.values()))}
    if profile.get("bins"):
        return {"bins": profile["bins"], "weights": _weights(profile["counts"])}
    return None


def _weights(counts: list[int]) -> list[float]:
    total = sum(counts)
    return [count / total for count in counts]


def _factors(placeholder: dict[str, Any], name: str, neutral: float, *, pair: bool = False) -> list[float]:
    given = placeholder.get(name, [neutral, neutral] if pair else neutral)
    factors = given if pair and isinstance(given, list) else [given]
    if len(factors) != (2 if pair else 1) or not all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in factors
    ):
        raise ValueError(f"{name!r} beside {PLACEHOLDER} must be {'two numbers' if pair else 'a number'}")
    return [float(one) for one in factors]
