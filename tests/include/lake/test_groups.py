"""Who belongs together under which policy, and who may be used at all."""

from __future__ import annotations

import polars as pl
import pytest

from include.lake.consent import consented
from include.lake.groups import Groups
from include.project import Duplicates
from tests.include.conftest import ProjectFactory

# a is first; b is equal to a; c is nearly equal to a; d is equal to c; e is alone
ROWS = pl.DataFrame({"record_id": ["e", "d", "c", "b", "a"], "content_hash": ["5", "3", "3", "1", "1"]})
LINKED = pl.DataFrame(
    {
        "record_id": ["b", "c", "d"],
        "content_hash": ["1", "3", "3"],
        "group_id": ["1", "1", "1"],
        "ingest_batch": [1, 1, 2],
    }
)


def groups(exact: str, near: str, linked_up_to: int = 2) -> Groups:
    return Groups(Duplicates.model_validate({"exact": exact, "near": near}), LINKED, linked_up_to)


def first(one: Groups) -> list[str]:
    return sorted(one.first(one.of(ROWS))["record_id"])


@pytest.mark.parametrize(
    ("exact", "near", "together", "left", "kept"),
    [
        ("keep", "off", ["a", "b", "c", "d", "e"], "abcde", "abcde"),
        ("keep", "keep", ["a", "b", "c", "d", "e"], "abcde", "abcde"),
        ("link", "off", ["ab", "cd", "e"], "ace", "abcde"),
        ("link", "keep", ["ab", "cd", "e"], "ace", "abcde"),
        ("link", "link", ["abcd", "e"], "ae", "abcde"),
        ("drop", "off", ["ab", "cd", "e"], "ace", "ace"),
        ("drop", "keep", ["ab", "cd", "e"], "ace", "ace"),
        ("drop", "link", ["abcd", "e"], "ae", "ace"),
        ("drop", "drop", ["abcd", "e"], "ae", "ae"),
    ],
)
def test_the_policy_decides_who_is_together_and_who_is_left(
    exact: str, near: str, together: list[str], left: str, kept: str
):
    one = groups(exact, near)
    found = one.of(ROWS).group_by("group_id").agg(pl.col("record_id").sort().str.join(""))
    assert sorted(found["record_id"]) == together
    assert first(one) == list(left)
    assert sorted(one.kept(one.of(ROWS))["record_id"]) == list(kept)


def test_without_the_first_member_the_next_one_is_first():
    one = groups("link", "link")
    rows = one.of(ROWS)
    for gone, left in (("a", "be"), ("ab", "ce"), ("abc", "de")):
        assert sorted(one.first(rows.filter(~pl.col("record_id").is_in(list(gone))))["record_id"]) == list(left)


def test_near_needs_that_the_batch_was_linked_and_equality_does_not():
    rows = pl.DataFrame({"ingest_batch": [None, 1, 2, 3]}, schema={"ingest_batch": pl.Int64})
    assert rows.filter(groups("link", "link").settled())["ingest_batch"].to_list() == [None, 1, 2]
    assert rows.filter(groups("link", "off").settled()).height == 4
    assert rows.filter(groups("link", "keep").settled()).height == 4


def test_near_may_not_be_stricter_than_exact():
    for exact, near in (("keep", "link"), ("keep", "drop"), ("link", "drop")):
        with pytest.raises(ValueError, match="stricter than exact"):
            groups(exact, near)


@pytest.mark.parametrize(("column", "expected"), [(None, [True, False, True]), ("agreed", [True, False, False])])
def test_consent(make_project: ProjectFactory, column: str | None, expected: list[bool]):
    """Where the project has a consent column, a record that came without one has no consent."""
    project = make_project(source={"consent_column": column})
    rows = pl.DataFrame({"consent": [True, False, None]})
    assert rows.select(consented(project))["consent"].to_list() == expected
