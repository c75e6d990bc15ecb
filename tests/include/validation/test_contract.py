"""The contract: Great Expectations' own verdicts, row by row and batch by batch, wherever the chunks end."""

import copy
import gc
import json
import random
import sys
import threading
import time
from typing import Any

import pyarrow as pa
import pytest

from include.errors import ProjectError
from include.validation.contract import BatchVerdict, SuiteContract
from include.validation.engine import import_great_expectations
from include.validation.results import OBSERVED_CHARACTERS, validation_rows
from tests.include.validation.data import (
    A_ABOVE_0,
    BATCH_LEVEL,
    HUGE,
    ROW_LEVEL,
    SCHEMA,
    SHARES,
    expect,
    rows,
    suite,
    table,
)

IN_SET = ROW_LEVEL[5]
LENGTHS = ROW_LEVEL[9]
PAIR = ROW_LEVEL[24]


def stock(
    data: list[dict[str, Any]], expectations: list[dict[str, Any]], *, how: dict[str, Any], text: str
) -> list[Any]:
    """What Great Expectations says by its ordinary way: data source, batch, suite; ``text`` is the dtype of texts."""
    import pandas as pd

    gx = import_great_expectations()
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("rows")
    dtypes = {"string": text, "double": "float64", "int64": "Int64"}
    frame = pd.DataFrame(
        {
            name: pd.Series([row[name] for row in data], dtype=dtypes[str(SCHEMA.field(name).type)])
            for name in SCHEMA.names
        }
    )
    frame["row_number"] = range(len(data))
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(batch_parameters={"dataframe": frame})
    built = [
        ExpectationConfiguration(**{**copy.deepcopy(one), "meta": {"position": position}}).to_domain_obj()
        for position, one in enumerate(expectations)
    ]
    results = batch.validate(gx.ExpectationSuite(name="stock", expectations=built), result_format=how).results
    return sorted(results, key=lambda one: one.expectation_config.meta["position"])


def judged(one: SuiteContract, data: pa.Table, ends: list[int], reference: Any = None) -> BatchVerdict:
    """The verdict on a batch whose chunks end at these rows."""
    kept, results = [], []
    for start, end in zip([0, *ends], [*ends, data.num_rows], strict=True):
        chunk = data.slice(start, end - start)
        kept.append(one.collect(chunk))
        results.append(one.check(chunk).results)
    return one.check_batch(kept, results, reference)


# ---------------------------------------------------------------- rows


def name_of(expectation: dict[str, Any]) -> str:
    return str(expectation["type"]).removeprefix("expect_")


def test_enough_kinds_are_compared():
    assert len({one["type"] for one in ROW_LEVEL}) >= 20


@pytest.mark.parametrize("text", ["object", "str"])
@pytest.mark.parametrize("expectation", ROW_LEVEL, ids=name_of)
def test_failing_rows_equal_those_of_complete_results(expectation: dict[str, Any], text: str):
    data = rows()
    failures = suite(expectation).check(table(data)).failures
    how = {"result_format": "COMPLETE", "unexpected_index_column_names": ["row_number"]}
    [result] = stock(data, [expectation], how=how, text=text)
    assert not result.exception_info["raised_exception"]
    assert set(failures) == {one["row_number"] for one in result.result["unexpected_index_list"]}
    assert 0 < len(failures) < len(data)


def test_each_row_lists_every_failed_expectation_with_what_was_seen():
    one = suite(ROW_LEVEL[0], IN_SET, PAIR)
    verdict = one.check(table([{"a": 5.0, "b": 6.0, "lang": "xx"}, {"a": 0.5, "b": 0.0, "lang": "en"}, {}]))
    assert verdict.failures == {
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


def test_large_numbers_are_seen_exactly():
    verdict = suite(ROW_LEVEL[2]).check(table([{"big": HUGE}, {}, {"big": HUGE + 1}]))
    assert [one["observed"] for found in verdict.failures.values() for one in found] == [HUGE + 1]
    assert verdict.results[0]["result"]["partial_unexpected_list"] == [HUGE + 1]
    small = suite(ROW_LEVEL[1]).check(table([{"k": 7}, {}]))
    assert json.dumps(small.results[0]["result"]["partial_unexpected_list"]) == "[7]"


def test_long_texts_are_cut_where_they_are_listed():
    short = expect("column_value_lengths_to_be_between", column="text", max_value=5)
    text = "é" * (OBSERVED_CHARACTERS + 1)
    verdict = suite(short).check(table([{"text": text}, {"text": text[:-1]}, {"text": "ok"}]))
    cut = text[:-1] + "…"
    assert [verdict.failures[row][0]["observed"] for row in (0, 1)] == [cut, text[:-1]]
    assert verdict.results[0]["result"]["partial_unexpected_list"] == [cut, text[:-1]]


def test_severity_warn_rejects_no_row():
    verdict = suite({**IN_SET, "meta": {"severity": "warn"}}).check(table(rows()))
    assert not verdict.failures
    assert verdict.warnings == [
        {
            "expectation": IN_SET["type"],
            "column": "lang",
            "why": "severity",
            "rows": sum(row["lang"] in {"xx", "french"} for row in rows()),
            "observed": None,
        }
    ]


def test_the_same_expectation_twice_is_judged_twice():
    verdict = suite({**IN_SET, "meta": {"severity": "warn"}}, IN_SET).check(table(rows()))
    assert len(verdict.warnings) == 1
    assert len(verdict.failures) == verdict.warnings[0]["rows"]


def test_a_text_that_is_no_json_does_not_match_a_schema_and_wrong_schemas_are_named():
    verdict = suite(ROW_LEVEL[23]).check(table([{"note": note} for note in ("{bad", '{"a": 1}', None, "[" * 99_999)]))
    assert sorted(verdict.failures) == [0, 3]
    wrong = expect("column_values_to_match_json_schema", column="note", json_schema={"type": "wonder"})
    with pytest.raises(ProjectError, match=r"expectations\[0\].*wonder"):
        suite(wrong).check(table([{"note": "{}"}]))


def test_an_empty_suite_and_an_empty_chunk_say_nothing():
    assert not suite().check(table(rows(3))).results
    assert not suite(*ROW_LEVEL).check(table([])).failures


# ---------------------------------------------------------------- chunks


@pytest.mark.parametrize("seed", range(4))
def test_verdicts_do_not_depend_on_where_chunks_end(seed: int):
    one = suite(*ROW_LEVEL, *SHARES, *BATCH_LEVEL)
    data = table(rows(seed=seed))
    ends = sorted(random.Random(seed).choices(range(data.num_rows + 1), k=5))  # noqa: S311 - test data
    whole, pieces = judged(one, data, []), judged(one, data, ends)
    assert pieces == whole
    assert {found["level"] for found in whole.findings} == {"row", "share", "batch"}
    failures: dict[int, Any] = {}
    for start, end in zip([0, *ends], [*ends, data.num_rows], strict=True):
        part = one.check(data.slice(start, end - start)).failures
        failures |= {start + row: found for row, found in part.items()}
    assert failures == one.check(data).failures


def test_merged_results_equal_those_of_one_ordinary_pass():
    expectations = [*ROW_LEVEL, *SHARES, *BATCH_LEVEL]
    data = rows()
    merged = judged(suite(*expectations), table(data), [1, 120, 121, 300]).result["results"]
    ordinary = stock(data, expectations, how={"result_format": "BASIC"}, text="str")
    assert len(merged) == len(ordinary) == len(expectations)
    for expectation, mine, theirs in zip(expectations, merged, ordinary, strict=True):
        expected = comparable(theirs.to_json_dict()["result"])
        found = comparable({name: mine["result"].get(name) for name in expected})
        if "column" not in expectation["kwargs"]:  # pairs are listed as tuples or mappings
            expected["partial_unexpected_list"] = len(expected.get("partial_unexpected_list", []))
            found["partial_unexpected_list"] = len(found.get("partial_unexpected_list", []))
        assert (mine["success"], found) == (theirs.success, expected), expectation


def comparable(value: Any) -> Any:
    """Numbers up to the order in which they were added; texts as far as they are listed."""
    if isinstance(value, dict):
        return {name: comparable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [comparable(one) for one in value]
    if isinstance(value, str):
        return value[:OBSERVED_CHARACTERS]
    return float(f"{value:.9g}") if isinstance(value, float) and value == value else value


def test_two_chunks_never_share_a_metric():
    one = suite(IN_SET, expect("column_values_to_be_unique", column="lang"))
    first, second = table([{"lang": "xx"}] * 3), table([{"lang": "en"}] * 3)
    assert [sorted(one.check(chunk).failures) for chunk in (first, second, first)] == [[0, 1, 2], [], [0, 1, 2]]


def test_nothing_is_hashed(monkeypatch: pytest.MonkeyPatch):
    import_great_expectations()
    from great_expectations.execution_engine import pandas_execution_engine

    hashed = []
    monkeypatch.setattr(pandas_execution_engine, "hash_pandas_dataframe", lambda frame: hashed.append(frame) or "hash")
    stock(rows(3), [IN_SET], how={"result_format": "BASIC"}, text="str")
    assert hashed, "Great Expectations no longer hashes frames: its data sources can be used again"
    hashed.clear()
    judged(suite(IN_SET, *BATCH_LEVEL), table(rows()), [100])
    assert not hashed


def test_threads_get_their_own_verdicts():
    one = suite(*ROW_LEVEL[:12])
    chunks = [table(rows(100, seed=seed)) for seed in range(6)]
    expected = [suite(*ROW_LEVEL[:12]).check(chunk).failures for chunk in chunks]
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda n=n, chunk=chunk: found.update({n: one.check(chunk).failures}))
        for n, chunk in enumerate(chunks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(6)] == expected


def test_a_thousand_chunks_leave_nothing_behind():
    import resource

    one = suite(IN_SET)
    chunk = table(rows(1000))
    for _ in range(50):
        one.check(chunk)
    gc.collect()
    objects, memory = len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        one.check(chunk)
    gc.collect()
    assert len(gc.get_objects()) - objects < 500  # half an object per chunk
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * (1 if sys.platform == "darwin" else 1024)
    assert grown < 20 * 1024**2


def test_failing_rows_cost_little():
    one = suite(*[expect("column_values_to_be_in_set", column="lang", value_set=[word]) for word in ("en", "de", "fr")])
    good = pa.table([pa.array(["en"] * 200_000)], names=["lang"])
    spent = {}
    for share in (0.0, 0.01):
        bad = int(share * 200_000)
        chunk = pa.table([pa.array(["xx"] * bad + ["en"] * (200_000 - bad))], names=["lang"])
        warned = suite(
            *[{**one_config, "meta": {"severity": "warn"}} for one_config in one._configs[1:]], one._configs[0]
        )
        warned.check(good)
        started = time.process_time()
        assert len(warned.check(chunk).failures) == bad
        spent[share] = time.process_time() - started
    assert spent[0.01] < spent[0.0] + 0.1


# ---------------------------------------------------------------- batch


def test_what_fails_without_rejecting_rows_is_a_finding():
    verdict = judged(
        suite(
            expect("table_row_count_to_be_between", min_value=1000),
            expect("column_mean_to_be_between", column="k", max_value=1),
            {**IN_SET, "meta": {"severity": "warn"}},
            expect("column_value_lengths_to_be_between", column="text", min_value=3, max_value=7, mostly=0.01),
            expect("column_values_to_be_in_set", column="lang", value_set=["en", "de"], mostly=0.9),
            expect("column_values_to_be_between", column="a", min_value=-100),
        ),
        table(rows()),
        [100],
    )
    assert not verdict.hold
    wrong = sum(row["lang"] in {"xx", "french"} for row in rows())
    assert [(one["position"], one["why"], one["severity"], one["failed"]) for one in verdict.findings] == [
        (0, "batch", "warn", True),
        (1, "batch", "warn", True),
        (2, "rows", "warn", True),
        (3, "mostly", "warn", False),
        (4, "share", "warn", True),
    ]
    assert [one["rows"] for one in verdict.findings][2::2] == [wrong, wrong]
    assert verdict.findings[0]["observed"] == 400
    assert verdict.result["statistics"]["evaluated_expectations"] == 6
    assert not verdict.result["success"]


@pytest.mark.parametrize(
    ("expectation", "holds"),
    [
        (expect("table_row_count_to_be_between", min_value=1000), True),
        (expect("table_row_count_to_be_between", min_value=10), False),
        (IN_SET, True),
        (expect("column_values_to_be_in_set", column="lang", value_set=["en", "de"], mostly=0.9), True),
        (expect("column_values_to_be_in_set", column="lang", value_set=["en", "de"], mostly=0.1), False),
        (expect("column_values_to_be_unique", column="k"), True),
        (expect("column_mean_to_be_between", column="text", min_value=1), True),  # cannot be judged
    ],
    ids=lambda one: name_of(one) if isinstance(one, dict) else str(one),
)
def test_a_failure_of_severity_hold_holds_the_batch(expectation: dict[str, Any], holds: bool):
    one = suite({**expectation, "meta": {"severity": "hold"}})
    verdict = judged(one, table(rows()), [7])
    assert verdict.hold is holds
    assert judged(suite({**expectation, "meta": {"severity": "warn"}}), table(rows()), []).hold is False
    assert verdict.result["meta"]["labelwheel"]["hold"] is holds


def test_rows_that_break_an_expectation_of_severity_hold_are_named_too():
    verdict = suite({**IN_SET, "meta": {"severity": "hold"}}).check(table(rows()))
    assert len(verdict.failures) == sum(row["lang"] in {"xx", "french"} for row in rows())


def test_batch_level_expectations_that_cannot_be_judged_say_so_and_stop_nothing():
    verdict = judged(suite(expect("column_mean_to_be_between", column="text", min_value=1), IN_SET), table(rows()), [])
    first = verdict.findings[0]
    assert (first["position"], first["failed"], first["severity"]) == (0, True, "warn")
    assert first["why"].startswith("error: ")
    assert verdict.result["results"][0]["exception_info"]["raised_exception"]


def test_an_empty_batch_is_judged_by_its_size_only():
    wanted = expect("table_row_count_to_be_between", min_value=1, meta={"severity": "hold"})
    mean = expect("column_mean_to_be_between", column="a", min_value=1, meta={"severity": "hold"})
    verdict = suite(wanted, mean, IN_SET).check_batch([], [])
    assert verdict.hold
    assert [(one["position"], one["why"]) for one in verdict.findings] == [
        (0, "batch"),
        (1, "skipped: the batch has no rows"),
    ]
    assert verdict.profile["rows"] == 0
    assert verdict.result["results"][1]["result"]["element_count"] == 0


def test_only_needed_columns_are_kept_and_repeated_text_once():
    one = suite(
        IN_SET,
        expect("column_values_to_be_unique", column="text"),
        expect("column_distinct_values_to_be_in_set", column="lang", value_set=["en"]),
    )  # noqa: E501
    kept = one.collect(table(rows()))
    assert kept.rows == 400
    assert kept.columns.column_names == ["text", "lang"]
    assert pa.types.is_dictionary(kept.columns["lang"].type)
    assert pa.types.is_string(kept.columns["text"].type)
    assert suite(IN_SET).collect(table(rows())).columns.nbytes == 0


def test_expectations_about_columns_see_the_contract():
    one = suite(
        expect("column_to_exist", column="note"),
        expect("table_column_count_to_equal", value=8),
        expect("table_columns_to_match_set", column_set=["text", "note"], exact_match=False),
    )
    assert judged(one, table(rows(5)), []).findings == []


def test_rows_of_the_validations_table(tmp_path: Any):
    from datetime import UTC, datetime

    from include.lake.lake import conform
    from include.lake.schemas import TABLES

    one = suite(
        IN_SET,
        expect("table_row_count_to_be_between", min_value=1000, meta={"severity": "hold"}),
        expect("table_row_count_to_be_between", min_value={"$last_good_batch": "rows"}),
        expect("column_mean_to_be_between", column="text", min_value=1),
    )
    result = json.loads(json.dumps(judged(one, table(rows()), []).result))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    found = validation_rows(result, project="p", suite="ingest", input_id="7", ingest_batch=7, validated_at=now)
    stored = conform(found, TABLES["validations"]).to_pylist()
    assert [(row["position"], row["level"], row["severity"], row["success"]) for row in stored] == [
        (0, "row", "quarantine", False),
        (1, "batch", "hold", False),
        (2, "batch", "warn", None),
        (3, "batch", "warn", False),
    ]
    assert (stored[0]["unexpected_count"], stored[1]["observed_json"]) == (
        sum(row["lang"] in {"xx", "french"} for row in rows()),
        "400",
    )
    assert "no good batch yet" in stored[2]["why"]
    assert "Traceback" not in stored[3]["why"]
    assert {row["suite_version"] for row in stored} == {one.suite_version}


# ---------------------------------------------------------------- mistakes

BETWEEN = "column_values_to_be_between"
UNUSABLE = [
    (expect("wonders"), "expect_wonders not found"),
    (expect(BETWEEN, column="no", min_value=1), "column 'no' is none of the project's"),
    (expect("compound_columns_to_be_unique", column_list=["a", "no"]), "column 'no' is none"),
    (expect(BETWEEN, column="a", bogus=1), "extra fields not permitted"),
    (expect(BETWEEN, column="text", min_value=1), "must either be None or of the same type"),
    (expect("column_values_to_match_like_pattern", column="text", like_pattern="a%"), "pattern"),
    (expect("column_values_to_be_unique", column="k", meta={"severity": "quarantine"}), "judges the whole batch"),
    (expect(BETWEEN, column="a", min_value=0, mostly=0.9, meta={"severity": "quarantine"}), "a share of the batch"),
    (expect(BETWEEN, column="a", min_value={"$last_good_batch": "min"}), "judges the whole batch"),
    (expect("column_mean_to_be_between", column="a", min_value={"$last_good_batch": "luck"}), "'luck' is none of"),
    (expect("column_mean_to_be_between", column="a", min_value={"$last_good_batch": "mean", "time": 2}), "'time'"),
    (expect("column_mean_to_be_between", column="a", min_value={"$last_good_batch": "mean", "times": "2"}), "a number"),
    (expect("table_row_count_to_equal", value={"$last_good_batch": "mean"}), "needs a 'column'"),
    (expect("column_mean_to_be_between", column="a", min_value={"$last_good_batch": "mean", "column": "no"}), "'no'"),
]


@pytest.mark.parametrize(("expectation", "why"), UNUSABLE, ids=range(len(UNUSABLE)))
def test_an_expectation_that_cannot_be_used_names_its_place(expectation: dict[str, Any], why: str):
    with pytest.raises(ProjectError, match=r"^expectations\[1\] \(expect_") as caught:
        suite(ROW_LEVEL[4], expectation).check(table(rows(5)))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_conditions_as_text_still_work():
    old = expect(BETWEEN, column="b", min_value=0, row_condition="a > 0", condition_parser="pandas")
    new = expect(BETWEEN, column="b", min_value=0, row_condition=A_ABOVE_0)
    data = table(rows())
    assert sorted(suite(old).check(data).failures) == sorted(suite(new).check(data).failures) != []


def test_the_suite_version_follows_what_is_judged():
    one, same, other = suite(ROW_LEVEL[0]), suite({**ROW_LEVEL[0], "notes": "why", "id": "x"}), suite(ROW_LEVEL[1])
    assert one.suite_version == same.suite_version != other.suite_version
    assert suite({**ROW_LEVEL[0], "severity": "info"}).suite_version != one.suite_version
