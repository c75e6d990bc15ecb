"""The first batch of a project: no labels, no model, and yet it shows what there is."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import polars as pl

from include.embedding.fill import embed_part, plan_embedding
from include.lake import Lake
from include.sampling.plan import plan_cycle
from tests.include.training.world import START, World

NOW = START + timedelta(days=1)


def test_a_first_batch_covers_what_chance_would_miss(lake: Lake, make_project: Callable[..., Any]):
    """One mail in 50 is of a kind that thirty random ones miss with a chance of 53%."""
    project = make_project(sampling={"batch_size": 40, "mixture": {"random": 0.25, "margin": 0.75}})
    world = World(project, lake)
    world.records(["spam"] * 145 + ["ham"] * 150, name="many", clarity=0.8)
    rare = set(world.records(["list"] * 6, name="rare", clarity=0.8))
    for part in plan_embedding(project, lake)["parts"]:
        embed_part(project, lake, part, now=NOW)
    call: dict[str, Any] = {"request_id": None, "moment": NOW, "open_records": 0, "model_version": None, "now": NOW}
    assert plan_cycle(project, lake, **call)["outcome"] == "planned"
    chosen = lake.read("selections", project.name)
    spread = chosen.filter(pl.col("strategy") == "cold_start")
    assert spread.height == 30
    assert rare & set(spread["record_id"])
    assert {world.kinds[one] for one in spread["record_id"]} == {"spam", "ham", "list"}
    assert spread["inclusion_probability"].null_count() == 30  # a certainty stratum: in no estimate
    assert plan_cycle(project, lake, **call)["outcome"] == "pending"  # the same batch
