"""Profiles of good batches, and expectations that compare with them."""

import json
from typing import Any

import pyarrow as pa
import pytest

from include.validation.profiles import MAX_VALUES, NoReferenceError, batch_profile, fill
from tests.include.validation.data import expect, rows, suite, table

LAST = "$last_good_batch"
COLUMNS = pa.table(
    {
        "lang": pa.array(["en"] * 6 + ["de"] * 3 + [None]),
        "k": pa.array([*range(9), None], pa.int64()),
        "constant": pa.array([1.5] * 10),
        "missing": pa.nulls(10, pa.float64()),
        "id": pa.array([str(n) for n in range(10)]),
    }
)


def test_a_profile_is_small_json():
    profile = json.loads(json.dumps(batch_profile(COLUMNS), allow_nan=False))
    assert profile["rows"] == 10
    assert profile["columns"]["lang"] == {"nulls": 1, "distinct": 2, "values": {"en": 6, "de": 3}}
    assert profile["columns"]["missing"] == {"nulls": 10, "distinct": 0}
    number = profile["columns"]["k"]
    assert (number["mean"], number["min"], number["max"], number["quantiles"]["0.5"]) == (4.0, 0, 8, 4.0)
    assert sum(number["counts"]) == 9
    assert "bins" not in profile["columns"]["constant"]


def test_a_column_of_many_values_lists_none():
    many = pa.table({"id": [str(n) for n in range(MAX_VALUES + 1)]})
    assert batch_profile(many)["columns"]["id"] == {"nulls": 0, "distinct": MAX_VALUES + 1}


@pytest.mark.parametrize(
    ("placeholder", "figure"),
    [
        ({LAST: "rows", "times": 0.5}, 5.0),
        ({LAST: "rows", "times": 2, "plus": 1}, 21.0),
        ({LAST: "null_share"}, 0.1),
        ({LAST: "non_null_share", "plus": -0.2}, 0.7),
        ({LAST: "mean"}, 4.0),
        ({LAST: "median", "column": "constant"}, 1.5),
        ({LAST: "stdev", "column": "constant"}, 0.0),
        ({LAST: "max", "times": 10}, 80.0),
        ({LAST: "values", "column": "lang"}, ["en", "de"]),
        ({LAST: "partition", "column": "lang"}, {"values": ["en", "de"], "weights": [6 / 9, 3 / 9]}),
    ],
)
def test_placeholders_stand_for_figures(placeholder: dict[str, Any], figure: Any):
    filled = fill({"column": "k", "min_value": placeholder}, batch_profile(COLUMNS), "k")
    assert filled == {"column": "k", "min_value": pytest.approx(figure) if isinstance(figure, float) else figure}


def test_quantile_ranges_have_two_ends():
    placeholder = {LAST: "quantile_ranges", "times": [0.5, 2], "plus": [-1, 1]}
    filled = fill(placeholder, batch_profile(COLUMNS), "k")
    assert filled["quantiles"] == [0.05, 0.25, 0.5, 0.75, 0.95]
    assert filled["value_ranges"][2] == [1.0, 9.0]


@pytest.mark.parametrize(
    ("placeholder", "column", "why"),
    [
        ({LAST: "values"}, "id", None),
        ({LAST: "values"}, "k", "has no 'values'"),
        ({LAST: "partition"}, "constant", "has no 'partition'"),
        ({LAST: "mean"}, "missing", "has no 'mean'"),
        ({LAST: "mean"}, "unseen", "was not asked about"),
    ],
)
def test_a_figure_that_is_not_there_is_named(placeholder: dict[str, Any], column: str, why: str | None):
    if why is None:
        assert len(fill(placeholder, batch_profile(COLUMNS), column)) == 10
    else:
        with pytest.raises(NoReferenceError, match=why):
            fill(placeholder, batch_profile(COLUMNS), column)


def last(what: str, **change: Any) -> dict[str, Any]:
    return {LAST: what, **change}


KL = {"partition_object": last("partition"), "tail_weight_holdout": 0.01}
DRIFT = [
    expect("table_row_count_to_be_between", min_value=last("rows", times=0.5), max_value=last("rows", times=2)),
    expect(
        "column_proportion_of_non_null_values_to_be_between", column="a", min_value=last("non_null_share", plus=-0.15)
    ),
    expect("column_kl_divergence_to_be_less_than", column="lang", threshold=0.1, **KL),
    expect("column_kl_divergence_to_be_less_than", column="k", threshold=0.2, internal_weight_holdout=0.01, **KL),
    expect("column_quantile_values_to_be_between", column="k", quantile_ranges=last("quantile_ranges", plus=[-60, 60])),
    expect(
        "column_mean_to_be_between", column="k", min_value=last("mean", times=0.7), max_value=last("mean", times=1.3)
    ),
    expect("column_distinct_values_to_be_in_set", column="lang", value_set=last("values")),
]


def judge(data: list[dict[str, Any]], reference: dict[str, Any] | None) -> Any:
    one = suite(*[{**drift, "meta": {"severity": "hold"}} for drift in DRIFT])
    chunk = table(data)
    return one.check_batch([one.collect(chunk)], [], reference)


def test_the_first_batch_is_compared_with_nothing_and_says_so():
    verdict = judge(rows(), None)
    assert not verdict.hold
    assert [one["why"] for one in verdict.findings] == ["skipped: there is no good batch yet to compare with"] * 7
    assert len(verdict.result["meta"]["labelwheel"]["skipped"]) == 7
    assert verdict.profile["rows"] == 400
    assert set(verdict.profile["columns"]) == {"a", "lang", "k"}


def test_a_batch_like_the_last_one_passes():
    reference = json.loads(json.dumps(judge(rows(seed=1), None).profile))
    verdict = judge(rows(seed=2), reference)
    assert verdict.findings == []
    assert verdict.result["statistics"]["successful_expectations"] == 7


def shift(data: list[dict[str, Any]], change: str) -> list[dict[str, Any]]:
    changes: dict[str, Any] = {
        "nulls": lambda row: {**row, "a": None},
        "classes": lambda row: {**row, "lang": "de" if row["lang"] == "en" else row["lang"]},
        "new class": lambda row: {**row, "lang": "it" if row["lang"] == "en" else row["lang"]},
        "numbers": lambda row: {**row, "k": None if row["k"] is None else row["k"] * 3},
    }
    return data[:100] if change == "volume" else [changes[change](row) for row in data]


@pytest.mark.parametrize(
    ("change", "positions"),
    [
        ("volume", [0]),
        ("nulls", [1]),
        ("classes", [2]),
        ("new class", [2, 6]),
        ("numbers", [3, 4, 5]),
    ],
)
def test_a_batch_unlike_the_last_one_is_held(change: str, positions: list[int]):
    reference = judge(rows(seed=1), None).profile
    verdict = judge(shift(rows(seed=2), change), reference)
    assert verdict.hold
    assert [one["position"] for one in verdict.findings] == positions
