"""Keyword rules: weak suggestions for the time before there is a model. Shown to people, never stored as labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from include.project import Project, Rule

AGENT = "rules"  # what Argilla shows as the author of the suggestion


def suggestion_of(project: Project, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the first rule that holds suggests.

    :param fields: the fields of a record, by name.
    :returns: ``{"question", "value", "score", "agent"}``; the score is null, because keywords have no probability. None
        when no rule holds.
    """
    for rule in project.rules:
        if holds(rule, _text(project, rule, fields)):
            question = rule.question or project.labeling.questions[0].name
            return {"question": question, "value": rule.label, "score": None, "agent": AGENT}
    return None


def holds(rule: Rule, text: str) -> bool:
    """Whether every condition of the rule that is given is met by the text."""
    return (
        (not rule.any or any(_occurs(keyword, text) for keyword in rule.any))
        and all(_occurs(keyword, text) for keyword in rule.all)
        and not any(_occurs(keyword, text) for keyword in rule.none)
    )


def _occurs(keyword: str, text: str) -> bool:
    return _pattern(keyword).search(text) is not None


@lru_cache(maxsize=4096)
def _pattern(keyword: str) -> re.Pattern[str]:
    """The keyword as whole words, blanks standing for any white space; case does not matter.

    An end that is no letter or digit has no word boundary to ask for: ``$$$`` is found anywhere.
    """
    words = r"\s+".join(re.escape(word) for word in keyword.split())
    first, last = keyword.strip()[0], keyword.strip()[-1]
    before = r"(?<!\w)" if re.match(r"\w", first) else ""
    after = r"(?!\w)" if re.match(r"\w", last) else ""
    return re.compile(before + words + after, re.IGNORECASE)


def _text(project: Project, rule: Rule, fields: Mapping[str, Any]) -> str:
    names = [rule.field] if rule.field is not None else list(project.source.fields)
    values = (fields.get(name) for name in names)
    return "\n".join(value if isinstance(value, str) else json.dumps(value) for value in values if value is not None)
