"""Suite files: what Great Expectations saves can be read, and a mistake names its file and place."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.errors import ProjectError
from include.validation.contract import SuiteContract
from include.validation.engine import import_great_expectations
from include.validation.suites import check_expectations, read_suite, severity_of
from tests.include.validation.data import BATCH_LEVEL, ROW_LEVEL, TYPES, rows, table

ONE = {"type": "expect_column_values_to_be_null", "kwargs": {"column": "a"}}


def write(folder: Path, value: Any, name: str = "things.json") -> str:
    text = value if isinstance(value, str) else json.dumps(value) if name.endswith("json") else yaml.safe_dump(value)
    (folder / name).write_text(text)
    return name


def contract(expectations: list[dict[str, Any]]) -> SuiteContract:
    return SuiteContract(expectations, TYPES, name="things", where="expectations")


@pytest.mark.parametrize("name", ["things.json", "things.yaml", "things.yml"])
def test_a_suite_that_great_expectations_saved_means_the_same(tmp_path: Path, name: str):
    gx = import_great_expectations()
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    written = [
        *ROW_LEVEL[:6],
        *BATCH_LEVEL,
        {**ROW_LEVEL[6], "meta": {"severity": "hold", "owner": "ana"}},
        {**ROW_LEVEL[9], "severity": "warning", "notes": ["two", "notes"]},
        {**ROW_LEVEL[11], "severity": "info", "description": "It matches."},
        ROW_LEVEL[-1],
    ]
    context = gx.get_context(mode="ephemeral")
    built = [ExpectationConfiguration(**json.loads(json.dumps(one))).to_domain_obj() for one in written]
    saved = context.suites.add(gx.ExpectationSuite(name="things", expectations=built, notes=["n"], meta={"m": 1}))
    data = saved.to_json_dict()
    assert data["expectations"][0]["severity"] == "critical"
    assert data["expectations"][0]["id"]

    one, two = contract(read_suite(tmp_path, write(tmp_path, data, name))), contract(written)
    for first, second in ((one, two), (two, one)):
        chunk = table(rows())
        first_verdict, second_verdict = first.check(chunk), second.check(chunk)
        assert first_verdict.failures == second_verdict.failures
        assert (
            first.check_batch([first.collect(chunk)], [first_verdict.results]).findings
            == second.check_batch([second.collect(chunk)], [second_verdict.results]).findings
        )


@pytest.mark.parametrize(
    ("expectation", "severity"),
    [
        ({}, None),
        ({"severity": "critical"}, None),
        ({"severity": "warning"}, "warn"),
        ({"severity": "info"}, "warn"),
        ({"severity": "info", "meta": {"severity": "hold"}}, "hold"),
        ({"severity": "critical", "meta": {"severity": "warn"}}, "warn"),
        ({"meta": None}, None),
    ],
)
def test_our_word_wins_over_the_librarys(expectation: dict[str, Any], severity: str | None):
    assert severity_of(expectation) == severity


def test_dates_that_yaml_reads_become_text_again(tmp_path: Path):
    text = "expectations: [{type: expect_x, kwargs: {column: a, value_set: [2026-01-31, 2026-01-31 10:00:00]}}]"
    [one] = read_suite(tmp_path, write(tmp_path, text, "things.yaml"))
    assert one["kwargs"]["value_set"] == ["2026-01-31", "2026-01-31T10:00:00"]


@pytest.mark.parametrize(
    ("value", "name", "said"),
    [
        ({"expectations": [ONE, {"kwargs": {}}]}, "s.json", "suite 's.json': expectations[1] needs 'type'"),
        ({"expectations": [ONE, "x"]}, "s.json", "expectations[1] needs 'type'"),
        ({"expectations": [{**ONE, "kwrags": {}}]}, "s.yaml", "expectations[0] (expect_column_values_to_be_null) has"),
        ({"expectations": [{**ONE, "meta": {"severity": "explode"}}]}, "s.yaml", "severity 'explode' is none of quar"),
        ({"expectations": [{**ONE, "severity": "hold"}]}, "s.yaml", "severity 'hold' is none of critical"),
        ({"expectations": [{**ONE, "meta": ["x"]}]}, "s.yaml", "'meta' is not a mapping"),
        ("expectations: [{type: t, kwargs: {a: .nan}}]", "s.yaml", "expectations[0] (t) holds a value JSON"),
        ({"expectation": []}, "s.yaml", "no list 'expectations'"),
        ({"expectations": [], "extra": 1}, "s.yaml", "unknown key 'extra'"),
        ("a: [", "s.yaml", "not readable as YAML at line 1"),
        ('{"a":\n}', "s.json", "not readable as JSON at line 2"),
        ("", "s.yaml", "no list 'expectations'"),
    ],
)
def test_a_mistake_names_file_and_place(tmp_path: Path, value: Any, name: str, said: str):
    with pytest.raises(ProjectError) as caught:
        read_suite(tmp_path, write(tmp_path, value, name))
    assert f"suite {name!r}" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["../secrets.yaml", "/etc/passwd", "things.txt", "no.yaml", "", "."])
def test_only_suites_of_the_folder_are_read(tmp_path: Path, name: str):
    (tmp_path / "suites").mkdir()
    write(tmp_path, {"expectations": []}, "secrets.yaml")
    with pytest.raises(ProjectError, match="suite"):
        read_suite(tmp_path / "suites", name)


def test_inline_lists_are_checked_alike():
    with pytest.raises(ProjectError, match=r"validation\.expectations\[0\] needs"):
        check_expectations([{}], where="validation.expectations")
