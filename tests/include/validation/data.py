"""Columns with nulls, repeats and breaches of everything, and expectations of every level over them."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa

from include.validation.contract import SuiteContract
from include.validation.suites import check_expectations

TYPES = {
    "text": "text",
    "note": "text",
    "at": "text",
    "lang": "text",
    "a": "float",
    "b": "float",
    "k": "integer",
    "big": "integer",
}
SCHEMA = pa.schema(
    [(name, {"text": pa.string(), "float": pa.float64(), "integer": pa.int64()}[kind]) for name, kind in TYPES.items()]
)
HUGE = 2**60  # neighbours of such numbers are one float


def rows(count: int = 400, seed: int = 17) -> list[dict[str, Any]]:
    """Random rows; the same for the same arguments."""
    draw = random.Random(seed)  # noqa: S311 - test data
    letters = "abmnxyzäß \n٣"
    return [
        {
            "text": "".join(draw.choice(letters) for _ in range(draw.randint(1, 9))),
            "note": draw.choice([None, None, '{"a": 1}', '{"a": "x"}', "{bad", "en", "[" * 5000]),
            "at": draw.choice(["2026-01-01", "2026-02-30", "1 May 2026"]),
            "lang": draw.choice([None, "en", "de", "xx", "french"]),
            "a": draw.choice([None, draw.gauss(0, 1)]),
            "b": draw.choice([None, draw.gauss(0, 1), 0.5]),
            "k": draw.choice([None, draw.randint(0, 300)]),
            "big": draw.choice([None, HUGE + draw.randint(0, 3)]),
        }
        for _ in range(count)
    ]


def table(data: list[dict[str, Any]]) -> pa.Table:
    """The rows as contract columns; what a row leaves out is missing."""
    return pa.Table.from_pylist(data, schema=SCHEMA)


def suite(*expectations: dict[str, Any], name: str = "things") -> SuiteContract:
    """A contract of these expectations."""
    return SuiteContract(
        check_expectations(list(expectations), where="expectations"), TYPES, name=name, where="expectations"
    )


def expect(what: str, /, *, meta: dict[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
    """``expect("column_values_to_be_null", column="a")``."""
    return {"type": f"expect_{what}", "kwargs": kwargs, **({"meta": meta} if meta else {})}


A_ABOVE_0 = {"type": "comparison", "column": {"name": "a"}, "operator": ">", "parameter": 0}
LANG_KNOWN = {"type": "nullity", "column": {"name": "lang"}, "is_null": False}
SCHEMA_OF_NOTES = {"type": "object", "properties": {"a": {"type": "integer"}}}

# Every row-level expectation that Great Expectations has for pandas, most of them in several variants.
ROW_LEVEL = [
    expect("column_values_to_be_between", column="a", min_value=-1, max_value=1),
    expect("column_values_to_be_between", column="k", min_value=20, max_value=250, strict_min=True),
    expect("column_values_to_be_between", column="big", max_value=HUGE),
    expect("column_values_to_not_be_null", column="a"),
    expect("column_values_to_be_null", column="note"),
    expect("column_values_to_be_in_set", column="lang", value_set=["en", "de"]),
    expect("column_values_to_be_in_set", column="k", value_set=[*range(250)]),
    expect("column_values_to_be_in_set", column="lang", value_set=["en", 1, None]),
    expect("column_values_to_not_be_in_set", column="lang", value_set=["xx", "en"]),
    expect("column_value_lengths_to_be_between", column="text", min_value=3, max_value=7),
    expect("column_value_lengths_to_equal", column="lang", value=2),
    expect("column_values_to_match_regex", column="text", regex="^[a-m]"),
    expect("column_values_to_match_regex", column="text", regex="[a-z]$"),
    expect("column_values_to_match_regex", column="text", regex=r"^\w+$"),
    expect("column_values_to_match_regex", column="text", regex=r"(?=.*a)(?!.*b)\S"),
    expect("column_values_to_match_regex", column="text", regex="(?i)ÄB?"),
    expect("column_values_to_not_match_regex", column="text", regex=r"\d|z"),
    expect("column_values_to_match_regex_list", column="text", regex_list=["a", "b"], match_on="all"),
    expect("column_values_to_match_regex_list", column="text", regex_list=["a", "b"]),
    expect("column_values_to_not_match_regex_list", column="text", regex_list=["a", "^b"]),
    expect("column_values_to_match_strftime_format", column="at", strftime_format="%Y-%m-%d"),
    expect("column_values_to_be_dateutil_parseable", column="at"),
    expect("column_values_to_be_json_parseable", column="note"),
    expect("column_values_to_match_json_schema", column="note", json_schema=SCHEMA_OF_NOTES),
    expect("column_pair_values_a_to_be_greater_than_b", column_A="a", column_B="b"),
    expect(
        "column_pair_values_a_to_be_greater_than_b",
        column_A="b",
        column_B="a",
        or_equal=True,
        ignore_row_if="either_value_is_missing",
    ),
    expect("column_pair_values_to_be_equal", column_A="lang", column_B="note"),
    expect("column_pair_values_to_be_equal", column_A="lang", column_B="note", ignore_row_if="neither"),
    expect(
        "column_pair_values_to_be_in_set",
        column_A="lang",
        column_B="note",
        value_pairs_set=[["en", "en"], ["de", "en"]],
        ignore_row_if="either_value_is_missing",
    ),
    expect("select_column_values_to_be_unique_within_record", column_list=["lang", "note"]),
    expect(
        "select_column_values_to_be_unique_within_record",
        column_list=["lang", "note"],
        ignore_row_if="any_value_is_missing",
    ),
    expect("multicolumn_sum_to_equal", column_list=["a", "b"], sum_total=0.5, ignore_row_if="any_value_is_missing"),
    expect("multicolumn_values_to_be_equal", column_list=["lang", "note"], ignore_row_if="never"),
    expect("column_values_to_be_between", column="b", min_value=0, row_condition=A_ABOVE_0),
    expect("column_values_to_not_be_null", column="note", row_condition=LANG_KNOWN),
    expect(
        "column_pair_values_to_be_equal",
        column_A="lang",
        column_B="note",
        row_condition={"type": "or", "conditions": [A_ABOVE_0, LANG_KNOWN]},
    ),
]
SHARES = [
    expect("column_values_to_be_in_set", column="lang", value_set=["en", "de"], mostly=0.4),
    expect("column_values_to_be_in_set", column="lang", value_set=["en", "de"], mostly=0.6),
    expect("column_values_to_not_be_null", column="a", mostly=0.3),
    expect("column_pair_values_to_be_equal", column_A="lang", column_B="note", mostly=0.9),
    expect("column_values_to_be_between", column="b", min_value=0, row_condition=A_ABOVE_0, mostly=0.5),
]
BATCH_LEVEL = [
    expect("column_values_to_be_unique", column="k"),
    expect("compound_columns_to_be_unique", column_list=["lang", "k"]),
    expect("column_values_to_be_increasing", column="k"),
    expect("column_values_to_be_decreasing", column="a", strictly=True),
    expect("column_value_z_scores_to_be_less_than", column="a", threshold=1, double_sided=True),
    expect("column_values_to_not_be_outliers", column="a"),
    expect("column_values_to_be_of_type", column="text", type_="str"),
    expect("column_values_to_be_in_type_list", column="a", type_list=["float", "int"]),
    expect("column_mean_to_be_between", column="k", max_value=1),
    expect("column_median_to_be_between", column="k", min_value=1),
    expect("column_stdev_to_be_between", column="a", max_value=0.1),
    expect("column_sum_to_be_between", column="k", max_value=1),
    expect("column_min_to_be_between", column="k", min_value=0),
    expect("column_max_to_be_between", column="a", max_value=0),
    expect("column_quantile_values_to_be_between", column="k", quantile_ranges={"quantiles": [0.5], "value_ranges": [[0, 300]]}),  # noqa: E501
    expect("column_proportion_of_unique_values_to_be_between", column="k", min_value=0.9),
    expect("column_proportion_of_non_null_values_to_be_between", column="a", min_value=0.9),
    expect("column_unique_value_count_to_be_between", column="lang", max_value=2),
    expect("column_distinct_values_to_be_in_set", column="lang", value_set=["en", "de", "xx", "french"]),
    expect("column_distinct_values_to_contain_set", column="lang", value_set=["en", "it"]),
    expect("column_distinct_values_to_equal_set", column="lang", value_set=["en", "de", "xx", "french"]),
    expect("column_most_common_value_to_be_in_set", column="lang", value_set=["it"]),
    expect("column_kl_divergence_to_be_less_than", column="lang", threshold=0.1, partition_object={"values": ["en", "de", "xx", "french"], "weights": [0.7, 0.1, 0.1, 0.1]}),  # noqa: E501
    expect("table_row_count_to_be_between", min_value=1000),
    expect("table_row_count_to_equal", value=400),
]  # fmt: skip
