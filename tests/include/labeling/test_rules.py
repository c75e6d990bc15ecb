"""Keyword rules: what they find, and which mistakes in them a project file names."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include.labeling.rules import holds, suggestion_of
from include.project import Project, Rule

Make = Callable[..., Project]


@pytest.mark.parametrize(
    ("rule", "text", "found"),
    [
        ({"any": ["pills", "winner"]}, "Cheap PILLS today", True),
        ({"any": ["pill"]}, "cheap pills", False),  # whole words
        ({"any": ["free money"]}, "get free\n money now", True),  # any white space
        ({"any": ["free money"]}, "free your money", False),
        ({"any": ["$$$"]}, "make$$$fast", True),
        ({"any": ["c++"]}, "C++11 and c++", True),
        ({"any": ["größe"]}, "Die GRÖSSE zählt nicht, die Größe schon", True),
        ({"any": ["a.b"]}, "a+b axb", False),  # no regular expression
        ({"all": ["cheap", "pills"]}, "pills, and cheap", True),
        ({"all": ["cheap", "pills"]}, "cheap", False),
        ({"any": ["offer"], "none": ["meeting"]}, "an offer", True),
        ({"any": ["offer"], "none": ["meeting"]}, "an offer for the meeting", False),
        ({"any": ["offer", "deal"], "all": ["today"], "none": ["re:"]}, "deal of today", True),
        ({"any": ["offer", "deal"], "all": ["today"], "none": ["re:"]}, "Re: deal of today", False),
    ],
)
def test_a_rule_holds_when_every_given_condition_does(rule: dict[str, Any], text: str, found: bool):
    assert holds(Rule(label="spam", **rule), text) is found


words = st.text("abcXYZ012", min_size=1, max_size=5)


@given(st.lists(words, min_size=1, max_size=4), st.lists(words, max_size=12))
def test_keywords_are_found_where_a_list_of_words_has_them(keywords: list[str], text: list[str]):
    present = [keyword.lower() in [word.lower() for word in text] for keyword in keywords]
    joined = " ".join(text)
    assert holds(Rule(label="x", any=keywords), joined) is any(present)
    assert holds(Rule(label="x", all=keywords), joined) is all(present)
    assert holds(Rule(label="x", all=keywords[:1], none=keywords[1:]), joined) is (present[0] and not any(present[1:]))


def test_the_first_rule_that_holds_suggests_and_reads_its_own_field(make_project: Make):
    fields = {"subject": {"title": "Subject"}, "text": {"title": "Text"}}
    rules = [
        {"label": "ham", "any": ["meeting"], "field": "subject"},
        {"label": "spam", "any": ["meeting", "offer"]},
    ]
    project = make_project(source={"fields": fields}, rules=rules)
    said = {"question": "kind", "score": None, "agent": "rules"}
    assert suggestion_of(project, {"subject": "Meeting", "text": "an offer"}) == {**said, "value": "ham"}
    assert suggestion_of(project, {"subject": "Hello", "text": "meeting"}) == {**said, "value": "spam"}
    assert suggestion_of(project, {"subject": None, "text": {"parts": ["an offer"]}}) == {**said, "value": "spam"}
    assert suggestion_of(project, {"subject": "Hello", "text": "you"}) is None
    assert suggestion_of(make_project(), {"text": "an offer"}) is None


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ({"label": "spam"}, "needs keywords under 'any' or 'all'"),
        ({"label": "spam", "none": ["x"]}, "needs keywords under 'any' or 'all'"),
        ({"label": "spam", "any": ["x", " "]}, "empty keyword"),
        ({"label": "spma", "any": ["x"]}, "'spma', which is no label of question 'kind'"),
        ({"label": "spam", "any": ["x"], "field": "body"}, "field 'body', which source.fields lacks"),
        ({"label": "spam", "any": ["x"], "question": "other"}, "question 'other', which labeling.questions lacks"),
    ],
)
def test_a_rule_that_cannot_work_is_named(make_project: Make, rule: dict[str, Any], what: str):
    with pytest.raises(ValidationError, match=what):
        make_project(rules=[rule])


def test_rules_do_not_mark_spans(make_project: Make):
    question = {"name": "kind", "type": "span", "title": "?", "field": "text", "labels": {"spam": "S", "ham": "H"}}
    with pytest.raises(ValidationError, match="is a span question"):
        make_project(labeling={"questions": [question]}, rules=[{"label": "spam", "any": ["x"]}])
