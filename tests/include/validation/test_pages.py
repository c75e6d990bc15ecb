"""Pages: they stand alone, they say what happened, and nothing in the data can become markup."""

import html
import json
import re
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pytest

from include.validation.contract import SuiteContract
from include.validation.pages import html_of, validation_page, verdict_of
from include.validation.suites import check_expectations
from tests.include.validation.data import BATCH_LEVEL, ROW_LEVEL, SHARES, expect, rows, suite, table
from tests.include.validation.test_contract import judged

TEXT_TAGS = {"a", "br", "code", "em", "h1", "h2", "h5", "h6", "li", "p", "pre", "span", "strong", "ul"}
PAGE_TAGS = {"html", "head", "meta", "title", "style", "body", "main", "div"}
ALLOWED_TAGS = TEXT_TAGS | PAGE_TAGS | {"dl", "dt", "dd", "table", "tr", "th", "td", "details", "summary"}


class Markup(HTMLParser):
    """Collects the tags and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [str(value) for name, value in attrs if name in {"href", "src", "action"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(result: dict[str, Any]) -> Markup:
    text = validation_page(json.loads(json.dumps(result)), title="Things", facts=[("validated", "today")], above="")
    assert "://" not in re.sub(r"(?s)<style>.*</style>", "", text)
    return Markup(text)


def test_a_page_of_every_kind_of_expectation_stands_alone():
    expectations = [*ROW_LEVEL, *SHARES, *BATCH_LEVEL]
    page = page_of(judged(suite(*expectations), table(rows()), [100]).result)
    assert page.tags <= ALLOWED_TAGS
    assert page.attributes <= {"lang", "charset", "http-equiv", "content", "name", "href", "id", "class", "style"}
    assert all(link.startswith("#e") for link in page.links)
    assert "values must belong to this set: en de" in re.sub(r"\s+", " ", page.text)
    assert "Kullback-Leibler (KL) divergence" in page.text
    assert "content_block_type" not in page.text, "a block was shown as it is"


ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td></table></main><svg onload=alert(1)>",
    '" onmouseover="alert(1)',
    "javascript:alert(1)",
    "$column ${column} $icon {{ 7*7 }} {% raw %} %s",
    "&lt;script&gt;",
    "<pre><!--",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_in_the_data_or_the_suite_becomes_markup(attack: str):
    types = {attack: "text", "text": "text", "number": "integer"}
    expectations = check_expectations(
        [
            expect("column_values_to_be_in_set", column=attack, value_set=["good", attack + "!"]),
            expect("column_values_to_match_regex", column="text", regex="^" + re.escape(attack) + "!$"),
            expect("column_distinct_values_to_be_in_set", column="text", value_set=[attack + "!"]),
            expect("column_most_common_value_to_be_in_set", column="text", value_set=["z"]),
            expect("column_kl_divergence_to_be_less_than", column="text", threshold=0.1, partition_object={"values": [attack + "!", "b"], "weights": [0.5, 0.5]}),  # noqa: E501
            expect("column_pair_values_to_be_equal", column_A=attack, column_B="text"),
            expect("column_values_to_be_in_set", column="text", value_set=["good"], meta={"notes": attack}),
            {**expect("column_values_to_be_null", column="text"), "notes": [attack], "description": attack},
            expect("column_mean_to_be_between", column=attack, min_value=1),
            expect("column_values_to_match_json_schema", column="text", json_schema={"title": attack}),
            expect("column_mean_to_be_between", column="number", min_value={"$last_good_batch": "mean"}),
        ],
        where="expectations",
    )  # fmt: skip
    one = SuiteContract(expectations, types, name=attack, where="expectations")
    data = pa.table({attack: [attack, "good", None], "text": [attack, None, "x"], "number": [1, 2, 3]})
    text = validation_page(judged(one, data, [1]).result, title=attack, facts=[(attack, attack)], above="")
    page = Markup(text)
    assert page.tags <= ALLOWED_TAGS
    assert page.attributes <= {"lang", "charset", "http-equiv", "content", "name", "href", "id", "class", "style"}
    assert all(link.startswith("#e") for link in page.links)
    assert page.text.count(attack) >= 8, "the text itself must be readable"
    assert html.escape(attack) in text


def test_parameters_are_put_in_once():
    block = {
        "content_block_type": "string_template",
        "string_template": {"template": "$a <b> ${b} $missing $5", "params": {"a": "$b", "b": "<i>"}, "tag": "script"},
    }
    assert html_of(block) == "$b &lt;b&gt; &lt;i&gt; $missing $5"


def test_unknown_blocks_are_shown_as_text():
    assert html_of({"content_block_type": "new", "x": "<b>"}) == (
        "<pre>{&#x27;content_block_type&#x27;: &#x27;new&#x27;, &#x27;x&#x27;: &#x27;&lt;b&gt;&#x27;}</pre>"
    )
    assert html_of(None) == ""


@pytest.mark.parametrize(
    ("severity", "passes", "kind", "said"),
    [
        ("warn", True, "good", "Passed:"),
        ("warn", False, "warn", "with warnings"),
        ("quarantine", False, "warn", "in part"),
        ("hold", False, "bad", "Held back"),
    ],
)
def test_the_page_opens_with_what_became_of_the_batch(severity: str, passes: bool, kind: str, said: str):
    limit = 400 if passes else 100
    one = suite(expect("column_values_to_be_between", column="k", max_value=limit, meta={"severity": severity}))
    result = judged(one, table(rows()), []).result
    assert verdict_of(result)[0] == kind
    assert said in verdict_of(result)[1]
    assert verdict_of(result)[1] in page_of(result).text


def test_what_was_not_judged_is_listed():
    one = suite(expect("table_row_count_to_be_between", min_value={"$last_good_batch": "rows"}))
    page = page_of(judged(one, table(rows()), []).result)
    assert "Not judged" in page.text
    assert "no good batch yet" in page.text
