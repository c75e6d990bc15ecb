"""Which records may be used: a record without consent is stored, but never shown, trained on, scored or counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.project import Project

if TYPE_CHECKING:
    import polars as pl


def consented(project: Project) -> pl.Expr:
    """Whether a row of ``records`` may be used, from its column ``consent``; never null.

    Where the project has a consent column, only a stored yes is one: a record that was ingested before the column was
    configured has none. Without one, nobody was asked; a stored no of earlier days is still a no.
    """
    import polars as pl

    return pl.col("consent").fill_null(project.source.consent_column is None)
