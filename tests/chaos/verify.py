"""The lake compared with the truth: every row of every object that was read is there exactly once, and none else."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from include.lake import Lake
from include.project import Project
from tests.chaos.objects import Content, World

NAME = re.compile(rb"[ow]\d+/\d+|torn")  # what names a row, in its raw bytes


@dataclass(frozen=True)
class Verdict:
    """Which invariants hold, what is missing or too much, and how many rows of each kind were expected."""

    invariants: dict[str, bool]
    losses: dict[str, int]
    rows: dict[str, int]


def verify(lake: Lake, project: Project, world: World) -> Verdict:
    """Compare; a version that was overwritten or deleted before it was read may be missing, but never in part."""
    ledger = {(one["key"], one["object_version"]): one for one in lake.read("objects", project.name).to_dicts()}
    read = {version: world.contents[version] for version in ledger if ledger[version]["rows"]}
    expected = Counter(dict.fromkeys((source_id for one in read.values() for source_id in one.good), 1))
    records = lake.read("records", project.name, newest=False)
    found = Counter(records["source_id"])
    texts = {source_id: text for one in read.values() for source_id, text in one.good.items()}
    bad = Counter({(*version, name): 1 for version, one in read.items() for name in one.bad})
    rejected = lake.read("quarantine", project.name, newest=False).to_dicts()
    quarantined = Counter((one["key"], one["object_version"], _name(one["raw"])) for one in rejected)
    losses = {
        "records_missing": (expected - found).total(),
        "records_too_many": (found - expected).total(),
        "quarantine_missing": (bad - quarantined).total(),
        "quarantine_too_many": (quarantined - bad).total(),
    }
    last = [(key, etag) for key, etag in world.final.items() if etag]
    stored = lake.read("objects", project.name, newest=False).select("key", "object_version", "revision")
    invariants = {
        "every_object_has_its_fate": all(version in ledger for version in last),
        "present_objects_are_loaded": all(ledger[one]["status"] == "loaded" for one in last if one in ledger),
        "nothing_unknown_in_the_ledger": set(ledger) <= set(world.contents),
        "each_state_of_an_object_once_in_the_ledger": stored.is_duplicated().sum() == 0,
        "counts_add_up": all(_adds_up(ledger[version], one) for version, one in read.items()),
        "ledger_and_records_agree": sum(one["accepted"] for one in ledger.values()) == records.height,
        "each_row_in_records_once": losses["records_missing"] == losses["records_too_many"] == 0,
        "each_bad_row_in_quarantine_once": losses["quarantine_missing"] == losses["quarantine_too_many"] == 0,
        "first_revisions_only": records["revision"].unique().to_list() == [1],
        "texts_are_right": all(
            f'"{texts.get(source_id)}"' in fields
            for source_id, fields in records.select("source_id", "fields_json").iter_rows()
        ),
    }
    return Verdict(invariants, losses, {"records": expected.total(), "quarantine": bad.total()})


def _name(raw: bytes) -> str:
    found = NAME.search(raw)
    return found.group().decode() if found else repr(raw)


def _adds_up(row: dict[str, Any], content: Content) -> bool:
    parts = row["accepted"] + row["duplicates"] + row["quarantined"] + (row.get("replayed") or 0)
    return bool(row["rows"] == parts == content.rows and row["quarantined"] == len(content.bad))
