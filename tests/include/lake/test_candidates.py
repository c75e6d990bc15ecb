"""Which records are worth a model's time, and how the work is cut."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.lake import Lake, candidates
from include.lake.candidates import in_play, standing
from tests.include.training.world import START, World


@pytest.fixture
def world(lake: Lake, make_project: Callable[..., Any]) -> World:
    """An empty mailbox."""
    return World(make_project(), lake)


def copies(world: World, of: str, count: int, **columns: Any) -> list[str]:
    """Records with the content of another."""
    rows = [{"record_id": f"{number}" * 32, "revision": 1, "content_hash": world.hashes[of]} for number in range(count)]
    world.write("records", [{**row, **columns} for row in rows])
    return [row["record_id"] for row in rows]


def playing(world: World) -> set[str]:
    found = in_play(world.project, world.lake)
    assert found["record_id"].is_sorted()
    assert found["record_id"].is_unique().all()
    return set(found["record_id"])


def test_one_of_a_group_plays_until_people_were_asked_then_the_one_they_were_asked_about(world: World):
    first, other = world.records(["spam", "ham"], name="a")
    group = {first, *copies(world, first, 3)}
    assert len(playing(world) & group) == 1
    assert other in playing(world)
    asked = max(group)
    world.hashes[asked] = world.hashes[first]
    world.select([asked, other])
    assert playing(world) == {asked, other}


def test_without_consent_nobody_plays_and_changed_content_does_again(world: World):
    (first,) = world.records(["spam"], name="a")
    world.records(["ham"], name="b", consent=False)
    world.select([first])
    world.write("records", [{"record_id": first, "revision": 2, "content_hash": "changed"}])
    assert in_play(world.project, world.lake).rows() == [(first, "changed")]


def test_an_empty_lake_has_nobody(world: World):
    assert playing(world) == set()


def test_a_withdrawn_selection_does_not_stand_unless_it_was_answered_in_that_batch(world: World):
    ids = world.records(["spam"] * 4, name="a")
    world.select(ids, batch="b1")
    world.select(ids[1:2], batch="b2", at=START + timedelta(hours=2))
    selections = world.lake.read("selections", world.project.name)
    assert standing(world.project, world.lake, selections).height == 5

    def rows(numbers: list[int], batch: str, **columns: Any) -> list[dict[str, Any]]:
        return [
            {"record_id": ids[one], "content_hash": world.hashes[ids[one]], "batch_id": batch, **columns}
            for one in numbers
        ]

    answer = {"question": "kind", "annotator": "ana", "version_at": START, "status": "submitted"}
    world.write("withdrawals", rows([0, 1, 2], "b1"))
    world.write("responses", [*rows([2], "b1", **answer), *rows([1], "b2", **answer)])
    left = standing(world.project, world.lake, selections)
    assert sorted(left.select("batch_id", "record_id").iter_rows()) == sorted(
        [("b1", ids[2]), ("b1", ids[3]), ("b2", ids[1])]
    )


@given(st.lists(st.text("0123456789abcdef", min_size=1, max_size=4), max_size=60), st.integers(1, 20))
def test_every_record_is_in_one_part_and_no_part_could_take_its_neighbour(ids: list[str], task_records: int):
    found = candidates.parts(
        pl.DataFrame({"record_id": ids}, schema={"record_id": pl.String}), task_records=task_records
    )
    assert [shard for part in found for shard in part] == sorted({one[0] for one in ids})
    sizes = [sum(one[0] in part for one in ids) for part in found]
    assert all(size <= task_records or len(part) == 1 for size, part in zip(sizes, found, strict=True))
    first = [sum(one[0] == part[0] for one in ids) for part in found]
    assert all(sizes[at] + first[at + 1] > task_records for at in range(len(found) - 1))
