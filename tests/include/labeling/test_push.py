"""What may be put before people (how it gets there is tested with a real Argilla in tests/integration)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.labeling import push
from include.labeling.push import _contents, _pages, suggestion
from include.lake import Lake, keys
from tests.include.conftest import ProjectFactory


@pytest.mark.parametrize(("column", "shown"), [(None, {"yes", "nobody asked"}), ("agreed", {"yes"})])
def test_records_without_consent_are_withheld(
    lake: Lake, make_project: ProjectFactory, column: str | None, shown: set[str]
):
    """Also when the consent was withdrawn after the batch was planned: the newest revision decides."""
    project = make_project(source={"consent_column": column})
    names = {keys.record_id(project.name, name): name for name in ("yes", "no", "withdrawn", "nobody asked")}
    consent = {"yes": True, "no": False, "withdrawn": True, "nobody asked": None}
    rows = [
        {
            "project": project.name,
            "shard": keys.shard(one),
            "record_id": one,
            "revision": 1,
            "content_hash": "c",
            "consent": consent[name],
        }
        for one, name in names.items()
    ]
    withdrawn = [
        {**row, "revision": 2, "consent": False} for row in rows if names[str(row["record_id"])] == "withdrawn"
    ]
    lake.append("records", [*rows, *withdrawn], app_id="test")
    assert {names[one] for one, _ in _contents(project, lake, list(names))} == shown


@given(st.lists(st.integers(0, 12), max_size=40))
def test_pages_keep_order_and_stay_within_both_limits(sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(push, "PAGE", 5)
        patch.setattr(push, "PAGE_CHARACTERS", 10)
        items = [{"external_id": str(n), "fields": {"text": "x" * size}} for n, size in enumerate(sizes)]
        pages = list(_pages(items))
    assert [one for page in pages for one in page] == items
    for page in pages:
        assert 1 <= len(page) <= 5
        assert sum(len(one["fields"]["text"]) for one in page) <= 10 or len(page) == 1


@pytest.mark.parametrize(
    ("value", "score", "expected"),
    [("spam", 0.5, 0.5), ("spam", None, None), (["a", "b"], 0.5, [0.5, 0.5]), (["a"], None, None), ([], 0.5, None)],
)
def test_an_answer_of_several_parts_has_a_score_for_each(value: object, score: float | None, expected: object) -> None:
    assert suggestion("q", value, score, "m1")["score"] == expected
