"""Which records people were asked about, and which are worth a model's time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.lake.consent import consented
from include.lake.groups import Groups
from include.lake.lake import Lake
from include.project import Project

if TYPE_CHECKING:
    import polars as pl

KEYS = ["record_id", "content_hash"]
TASK_RECORDS = 50_000  # one mapped task: some minutes of a model's work, against seconds to start it


def standing(project: Project, lake: Lake, selections: pl.DataFrame) -> pl.DataFrame:
    """The selections without those that people were relieved of before anyone answered.

    An answer that came between the withdrawal and the removal from the queue counts: its selection stands.

    :param selections: rows of ``selections`` with ``batch_id``, ``record_id`` and ``content_hash``.
    :raises StorageError: when the lake cannot be read.
    """
    withdrawn = lake.read("withdrawals", project.name, columns=["batch_id", *KEYS])
    if withdrawn.is_empty():
        return selections
    answers = lake.read("responses", project.name, columns=[*KEYS, "batch_id"])
    unanswered = withdrawn.join(answers, on=[*KEYS, "batch_id"], how="anti")
    return selections.join(unanswered, on=["batch_id", "record_id"], how="anti")


def in_play(project: Project, lake: Lake) -> pl.DataFrame:
    """The records a new model should look at: those that can still be chosen, and those people were asked about.

    Still to be chosen is the first record of each group of duplicates, unless people were asked about any that is
    there. The others they were asked about are few, each having cost an answer, and all are needed: what waits gets
    fresh suggestions, labels are audited against the model, and estimates compare it with them.

    :returns: ``record_id``, ``content_hash`` of the present content, sorted by ``record_id``; all with consent.
    :raises StorageError: when the lake cannot be read.
    """
    import polars as pl

    records = lake.read("records", project.name, columns=[*KEYS, "consent", "ingest_batch"])
    groups = Groups.read(project, lake)
    records = groups.kept(groups.of(records.filter(consented(project) & groups.settled()).select(KEYS)))
    asked = records.join(lake.read("selections", project.name, columns=KEYS), on=KEYS, how="semi")
    fresh = groups.first(records.join(asked, on="group_id", how="anti"))
    return pl.concat([asked.select(KEYS), fresh.select(KEYS)]).sort("record_id")


def parts(rows: pl.DataFrame, *, task_records: int = TASK_RECORDS) -> list[list[str]]:
    """Cut work into mapped tasks: neighbouring shards together, until a task has enough to be worth its start.

    :param rows: the records to be worked on; only ``record_id`` is looked at.
    :returns: the shards of each task; none without work, at most 16.
    """
    import polars as pl

    counts = rows.group_by(pl.col("record_id").str.head(1).alias("shard")).len().sort("shard")
    found: list[list[str]] = []
    open_records = task_records
    for name, count in counts.iter_rows():
        if open_records + count > task_records:
            found.append([])
            open_records = 0
        found[-1].append(name)
        open_records += count
    return found
