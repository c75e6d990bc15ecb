"""The contract: Great Expectations' own verdicts, row by row, equal to its slow COMPLETE results."""

import random
from typing import Any

import pytest

from include.errors import ProjectError
from include.ingestion.contract import Contract, import_great_expectations, in_memory_batch
from include.ingestion.rows import contract_columns
from tests.include.conftest import ProjectFactory

SOURCE = {
    "event_time_column": "at",
    "fields": {"text": {"title": "Text"}, "note": {"title": "Note", "required": False}},
    "metadata": {
        "a": {"title": "A", "type": "float"},
        "b": {"title": "B", "type": "float"},
        "k": {"title": "K", "type": "integer"},
        "lang": {"title": "Language"},
    },
}

ROW_LEVEL = [
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": -1, "max_value": 1}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "k", "min_value": 20}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "a"}},
    {"type": "expect_column_values_to_be_null", "kwargs": {"column": "note"}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "lang", "value_set": ["en", "de"]}},
    {"type": "expect_column_values_to_not_be_in_set", "kwargs": {"column": "lang", "value_set": ["xx"]}},
    {"type": "expect_column_value_lengths_to_be_between", "kwargs": {"column": "text", "min_value": 3, "max_value": 7}},
    {"type": "expect_column_value_lengths_to_equal", "kwargs": {"column": "lang", "value": 2}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "k"}},
    {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "text", "regex": "^[a-m]"}},
    {"type": "expect_column_values_to_not_match_regex", "kwargs": {"column": "text", "regex": "z"}},
    {
        "type": "expect_column_values_to_match_strftime_format",
        "kwargs": {"column": "at", "strftime_format": "%Y-%m-%d"},
    },
    {"type": "expect_column_values_to_be_json_parseable", "kwargs": {"column": "note"}},
    {"type": "expect_column_pair_values_a_to_be_greater_than_b", "kwargs": {"column_A": "a", "column_B": "b"}},
    {"type": "expect_column_pair_values_to_be_equal", "kwargs": {"column_A": "lang", "column_B": "note"}},
    {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["lang", "k"]}},
    {"type": "expect_column_values_to_be_of_type", "kwargs": {"column": "text", "type_": "str"}},
    {
        "type": "expect_column_values_to_be_between",
        "kwargs": {
            "column": "b",
            "min_value": 0,
            "row_condition": {"type": "comparison", "column": {"name": "a"}, "operator": ">", "parameter": 0},
        },
    },
]
NEVER_FAILING = {"expect_column_values_to_be_of_type"}


def rows(count: int = 400) -> list[dict[str, Any]]:
    """Rows with nulls, repeats and breaches of every expectation above."""
    draw = random.Random(17)  # noqa: S311 - test data
    letters = "abmnxyz"
    return [
        {
            "text": "".join(draw.choice(letters) for _ in range(draw.randint(1, 9))),
            "note": draw.choice([None, None, '{"a": 1}', "{bad", "en"]),
            "id": str(number),
            "at": draw.choice(["2026-01-01", "2026-02-30"]),
            "a": draw.choice([None, draw.gauss(0, 1)]),
            "b": draw.choice([None, draw.gauss(0, 1)]),
            "k": draw.choice([None, draw.randint(0, 300)]),
            "lang": draw.choice([None, "en", "de", "xx", "french"]),
        }
        for number in range(count)
    ]


def contract(make_project: ProjectFactory, *expectations: dict[str, Any]) -> Contract:
    return Contract(make_project(source=SOURCE, validation={"expectations": list(expectations)}))


@pytest.mark.parametrize("expectation", ROW_LEVEL, ids=lambda one: one["type"].removeprefix("expect_"))
def test_failing_rows_equal_those_of_complete_results(make_project: ProjectFactory, expectation: dict[str, Any]):
    one = contract(make_project, expectation)
    data = rows()
    mine = sorted(one.check(data).failures)

    gx = import_great_expectations()
    frame = one._frame(data).assign(row_number=range(len(data)))
    suite = gx.ExpectationSuite(name="complete", expectations=[one._expectation(0)])
    how = {"result_format": "COMPLETE", "unexpected_index_column_names": ["row_number"]}
    [result] = in_memory_batch(frame).validate(suite, result_format=how).results
    complete = sorted({found["row_number"] for found in result.result.get("unexpected_index_list") or []})
    assert mine == complete
    assert bool(mine) == (expectation["type"] not in NEVER_FAILING)


def test_each_row_lists_every_failed_expectation_with_what_was_seen(make_project: ProjectFactory):
    one = contract(make_project, ROW_LEVEL[0], ROW_LEVEL[4], ROW_LEVEL[13])
    blank = dict.fromkeys(contract_columns(make_project(source=SOURCE).source))
    verdict = one.check([{**blank, "a": 5.0, "b": 6.0, "lang": "xx"}, {**blank, "a": 0.5, "b": 0.0, "lang": "en"}])
    assert dict(verdict.failures) == {
        0: [
            {"expectation": "expect_column_values_to_be_between", "column": "a", "observed": 5.0},
            {"expectation": "expect_column_values_to_be_in_set", "column": "lang", "observed": "xx"},
            {
                "expectation": "expect_column_pair_values_a_to_be_greater_than_b",
                "column": "a, b",
                "observed": [5.0, 6.0],
            },
        ]
    }
    assert verdict.warnings == []


def test_what_fails_without_rejecting_rows_is_a_warning(make_project: ProjectFactory):
    in_set, lengths = ROW_LEVEL[4], ROW_LEVEL[6]
    one = contract(
        make_project,
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1000}},
        {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "k", "max_value": 1}},
        {**in_set, "meta": {"severity": "warn"}},
        {**lengths, "kwargs": {**lengths["kwargs"], "mostly": 0.01}},
    )
    verdict = one.check(rows())
    assert not verdict.failures
    assert [(found["why"], found["expectation"], found["column"]) for found in verdict.warnings] == [
        ("table", "expect_table_row_count_to_be_between", None),
        ("table", "expect_column_mean_to_be_between", "k"),
        ("severity", "expect_column_values_to_be_in_set", "lang"),
        ("mostly", "expect_column_value_lengths_to_be_between", "text"),
    ]
    assert verdict.warnings[0]["observed"] == 400
    assert verdict.warnings[2]["rows"] == sum(1 for row in rows() if row["lang"] in {"xx", "french"})


def test_a_mostly_that_is_missed_rejects_its_rows(make_project: ProjectFactory):
    in_set = ROW_LEVEL[4]
    strict = contract(make_project, in_set).check(rows()).failures
    missed = contract(make_project, {**in_set, "kwargs": {**in_set["kwargs"], "mostly": 0.99}}).check(rows()).failures
    assert sorted(strict) == sorted(missed)


def test_the_same_expectation_twice_is_judged_twice(make_project: ProjectFactory):
    warned = {**ROW_LEVEL[4], "meta": {"severity": "warn"}}
    verdict = contract(make_project, warned, ROW_LEVEL[4]).check(rows())
    assert len(verdict.warnings) == 1
    assert len(verdict.failures) == verdict.warnings[0]["rows"]


BETWEEN = "expect_column_values_to_be_between"
UNUSABLE = [
    ({"type": "expect_wonders", "kwargs": {}}, "expect_wonders not found"),
    ({"type": BETWEEN, "kwargs": {"column": "no", "min_value": 1}}, "column 'no' is none of the project's"),
    ({"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["a", "no"]}}, "column 'no' is none"),
    ({"type": BETWEEN, "kwargs": {"column": "a", "bogus": 1}}, "extra fields not permitted"),
    ({**ROW_LEVEL[0], "meta": {"severity": "explode"}}, "severity 'explode' is none of quarantine, warn"),
    ({**ROW_LEVEL[0], "typo": 1}, "unexpected keyword argument 'typo'"),
    ({"type": BETWEEN, "kwargs": {"column": "text", "min_value": 1}}, "must either be None or of the same type"),
]


@pytest.mark.parametrize(("expectation", "why"), UNUSABLE)
def test_an_expectation_that_cannot_be_used_names_its_place(
    make_project: ProjectFactory, expectation: dict[str, Any], why: str
):
    with pytest.raises(ProjectError, match=r"project 'mails': validation\.expectations\[1\]") as caught:
        contract(make_project, ROW_LEVEL[2], expectation).check(rows(5))
    assert why in str(caught.value)


def test_the_suite_version_follows_the_expectations(make_project: ProjectFactory):
    one, same, other = (contract(make_project, ROW_LEVEL[n]) for n in (0, 0, 1))
    assert one.suite_version == same.suite_version != other.suite_version
