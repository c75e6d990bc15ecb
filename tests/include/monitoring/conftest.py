"""A mailbox with a champion whose predictions each test writes itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from include.lake import Lake
from include.training import registry
from include.training.snapshot import freeze_snapshot
from tests.include.training.world import START, World, mixed

FROZEN = START + timedelta(days=1)


@pytest.fixture
def world(lake: Lake, make_project: Callable[..., Any]) -> World:
    """An empty mailbox."""
    return World(make_project(monitoring={"window_records": 300}), lake)


@pytest.fixture
def crowned(world: World) -> World:
    """A champion ``v1``, made from 40 labeled mails of a batch ``b1``; nothing is predicted yet."""
    record_ids = world.records(mixed(40), name="first")
    world.select(record_ids)
    world.label(record_ids)
    snapshot_id = freeze_snapshot(world.project, world.lake, now=FROZEN)["snapshot_id"]
    pointer = registry.ChampionRef(
        model_version="v1",
        snapshot_id=snapshot_id,
        sha256="0" * 64,
        trainer="text_classifier",
        promoted_at=FROZEN.isoformat(),
        why="Promoted: it was better.",
        report={"accuracy": 0.8, "accuracy_low": 0.66, "accuracy_high": 0.89, "n": 45},
        previous=None,
    )
    assert registry.swap_champion(world.project, world.lake, pointer, expected=None)
    return world
