"""Groups of duplicates as readers see them, by the project's present policy.

A group is named by the content hash of its first content (``include/ingestion/duplicates.py`` finds it), so equal
contents are in one group from the moment they are stored. Groups hold contents, not records: a record belongs to the
group of the content it has now, and leaves it when its content changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.lake.lake import Lake
from include.project import Duplicates, Project

if TYPE_CHECKING:
    import polars as pl

ACTIVE = ("link", "drop")


def linked_path(project: Project) -> str:
    """The file that says up to which ingest batch duplicates are linked: ``{"batch": number}``."""
    return f"ingest/{project.name}/linked.json"


@dataclass(frozen=True)
class Groups:
    """The groups of one project.

    :param linked: of ``duplicates``: ``record_id``, ``content_hash``, ``group_id``, ``ingest_batch``.
    :param linked_up_to: the last ingest batch whose duplicates are linked; 0 before the first.
    """

    policy: Duplicates
    linked: pl.DataFrame
    linked_up_to: int

    @classmethod
    def read(cls, project: Project, lake: Lake) -> Groups:
        """The groups as they are now.

        :raises StorageError: when the lake cannot be read.
        """
        state = lake.files.get_json(linked_path(project)) or {"batch": 0}  # before the rows that it speaks of
        columns = ["record_id", "content_hash", "group_id", "ingest_batch"]
        return cls(project.duplicates, lake.read("duplicates", project.name, columns=columns), state["batch"])

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with their ``group_id``; rows with the same one are duplicates of each other.

        :param rows: has ``record_id`` and ``content_hash``.
        """
        import polars as pl

        if self.policy.exact not in ACTIVE:
            return rows.with_columns(pl.col("record_id").alias("group_id"))
        if self.policy.near not in ACTIVE:
            return rows.with_columns(pl.col("content_hash").alias("group_id"))
        found = self.linked.select("content_hash", "group_id").unique("content_hash")
        joined = rows.join(found, on="content_hash", how="left", maintain_order="left")
        return joined.with_columns(pl.col("group_id").fill_null(pl.col("content_hash")))

    def settled(self) -> pl.Expr:
        """Whether the group of a row of ``records`` is known, from its ``ingest_batch``.

        Equal contents are known at once; for texts that are nearly the same, the batch must have been linked.
        """
        import polars as pl

        if self.policy.near not in ACTIVE:
            return pl.lit(True)
        return pl.col("ingest_batch").fill_null(0) <= self.linked_up_to

    def first(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row of each group: the record that was seen first among these rows.

        :param rows: has ``record_id``, ``content_hash`` and ``group_id``; each record once.
        """
        import polars as pl

        keys = ["record_id", "content_hash"]
        followers = self.linked.group_by(keys).agg(pl.col("ingest_batch").min().alias("_followed"))
        ordered = rows.join(followers, on=keys, how="left").sort("_followed", "record_id", nulls_last=False)
        return ordered.unique("group_id", keep="first", maintain_order=True).drop("_followed")

    def kept(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows without what the policy drops.

        :param rows: as for ``first``; all records that may be used.
        """
        import polars as pl

        if self.policy.near == "drop":
            return self.first(rows)
        if self.policy.exact == "drop":
            return self.first(rows.with_columns(pl.col("content_hash").alias("group_id")))
        return rows
