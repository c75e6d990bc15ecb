"""A mailbox per test, and one that is ready to train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from include.lake import Lake
from tests.include.training.world import World, mixed

TRAINING = {"min_new_labels": 60, "min_holdout": 30}
LABELS = {"spam": "Spam", "ham": "Not spam", "list": "From a mailing list"}
QUESTION = {"name": "kind", "type": "label", "title": "What is it?", "labels": LABELS}


@pytest.fixture
def world(lake: Lake, make_project: Callable[..., Any]) -> World:
    """An empty mailbox."""
    return World(make_project(training=TRAINING, labeling={"questions": [QUESTION]}), lake)


@pytest.fixture
def ready(world: World) -> World:
    """120 labeled mails: 80 to train on, 40 held out."""
    record_ids = world.records(mixed(120), name="first")
    world.select(record_ids[:80])
    world.select(record_ids[80:], split="holdout")
    world.label(record_ids)
    return world
