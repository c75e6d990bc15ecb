"""Every record in play gets its vector, once per content, on a real S3 server."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from include.embedding import fill
from include.embedding.fill import embed_part, plan_embedding, pointer_path
from include.errors import ProjectError, StorageError
from include.lake import Lake, keys
from include.project import Project
from tests.include.embedding import own
from tests.include.training.dying import run_with_deaths
from tests.include.training.world import START, World, mixed

NOW = START + timedelta(days=1)


@pytest.fixture
def make_world(lake: Lake, make_project: Callable[..., Any]) -> Callable[..., World]:
    """A mailbox of a project with these settings."""
    return lambda **changes: World(make_project(**changes), lake)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A mailbox of 120 mails and an embedder that counts its texts."""
    own.CALLS.clear()
    made = make_world(embedding={"embedder": "tests.include.embedding.own:ByLength"})
    made.records(mixed(120), name="first")
    return made


def run(project: Project, lake: Lake) -> dict[str, Any]:
    """One run of the DAG: plan, then every mapped task."""
    planned = plan_embedding(project, lake)
    counts = [embed_part(project, lake, part, now=NOW) for part in planned["parts"]]
    totals = {name: sum(one[name] for one in counts) for name in ("embedded", "copied")}
    return {**totals, "embedder": planned["embedder"]}


def rows(world: World) -> pl.DataFrame:
    return world.lake.read("embeddings", world.project.name, newest=False)


def test_new_records_are_embedded_once(world: World):
    name = "by_length-1"
    assert run(world.project, world.lake) == {"embedded": 120, "copied": 0, "embedder": name}
    assert plan_embedding(world.project, world.lake) == {"embedder": name, "parts": []}
    world.records(["spam"] * 7, name="new")
    assert run(world.project, world.lake)["embedded"] == 7
    stored = rows(world)
    assert stored.height == stored["record_id"].n_unique() == 127
    assert sum(len(call) for call in own.CALLS) == 127
    row = stored.row(0, named=True)
    assert row["shard"] == row["record_id"][0]
    assert np.linalg.norm(row["vector"]) == pytest.approx(1.0)
    assert world.lake.files.get_json(pointer_path(world.project)) == {"name": name, "dimensions": 2}


def test_equal_contents_of_records_that_are_kept_apart_are_embedded_once(make_world: Callable[..., World]):
    own.CALLS.clear()
    kept = {"exact": "keep"}
    world = make_world(embedding={"embedder": "tests.include.embedding.own:ByLength"}, duplicates=kept)
    (first,) = world.records(["spam"], name="first")
    copy = {"revision": 1, "content_hash": world.hashes[first], "fields_json": keys.canonical_json({"text": "copy"})}

    def add_copies(*names: str) -> None:
        world.write("records", [{"record_id": keys.record_id("mails", name), **copy} for name in names])

    add_copies("a", "b")
    assert run(world.project, world.lake) == {"embedded": 1, "copied": 2, "embedder": "by_length-1"}
    add_copies("c")
    assert run(world.project, world.lake) == {"embedded": 0, "copied": 1, "embedder": "by_length-1"}
    assert rows(world)["vector"].n_unique() == 1
    assert sum(len(call) for call in own.CALLS) == 1


def test_killed_between_slices_it_goes_on_where_it_stopped(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fill, "SLICE_RECORDS", 50)
    result, deaths = run_with_deaths(world.lake, lambda lake: run(world.project, lake))
    assert (result["embedded"], deaths) == (0, 4)  # after the pointer and after each slice
    assert rows(world).height == rows(world)["record_id"].n_unique() == 120


def test_the_built_in_one_waits_for_texts_learns_and_learns_again_from_ten_times_as_many(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fill, "LEARNED_FROM", (90, 30))
    world = make_world()
    world.records(mixed(29), name="few")
    assert plan_embedding(world.project, world.lake) == {"embedder": None, "parts": []}
    world.records(mixed(2), name="enough")
    assert run(world.project, world.lake) == {"embedded": 31, "copied": 0, "embedder": "latent_text-128-30"}
    artifact = world.lake.files.get("embedders/mails/latent_text-128-30.npz")
    world.records(mixed(20), name="more")
    assert run(world.project, world.lake)["embedded"] == 20
    assert world.lake.files.get("embedders/mails/latent_text-128-30.npz") == artifact
    many = world.records(mixed(60), name="many")
    assert run(world.project, world.lake) == {"embedded": 111, "copied": 0, "embedder": "latent_text-128-90"}
    assert world.lake.files.get_json(pointer_path(world.project))["name"] == "latent_text-128-90"
    refused = [{"record_id": one, "revision": 2, "content_hash": world.hashes[one], "consent": False} for one in many]
    world.write("records", refused)  # fewer than it was learned from: nothing is thrown away
    assert run(world.project, world.lake) == {"embedded": 0, "copied": 0, "embedder": "latent_text-128-90"}


@pytest.mark.parametrize("changes", [{"embedding": {"embedder": None}}, {"source": {"format": "image"}}])
def test_projects_without_vectors_have_nothing_to_do(make_world: Callable[..., World], changes: dict[str, Any]):
    world = make_world(**changes)
    world.records(mixed(150), name="first")
    assert plan_embedding(world.project, world.lake) == {"embedder": None, "parts": []}
    assert world.lake.files.get_json(pointer_path(world.project)) is None


def test_a_deleted_artifact_is_not_learned_anew_under_its_old_name(make_world: Callable[..., World]):
    world = make_world()
    world.records(mixed(120), name="first")
    (part,) = plan_embedding(world.project, world.lake)["parts"]
    world.lake.files.delete(["embedders/mails/latent_text-128-100.npz"])
    with pytest.raises(StorageError, match="missing from the lake"):
        plan_embedding(world.project, world.lake)
    with pytest.raises(StorageError, match="missing from the lake"):
        embed_part(world.project, world.lake, part, now=NOW)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("TooLong", "no unit vectors of shape"),
        ("TooWide", "no unit vectors of shape"),
        ("NotEvenOne", "lacks 'name', 'dimensions' or 'embed'"),
        ("Nowhere", "cannot be loaded"),
    ],
)
def test_a_bad_embedder_of_ones_own_is_named(make_world: Callable[..., World], spec: str, what: str):
    world = make_world(embedding={"embedder": f"tests.include.embedding.own:{spec}"})
    world.records(mixed(3), name="first")
    with pytest.raises(ProjectError, match=what):
        run(world.project, world.lake)
    assert rows(world).is_empty()
