"""A piece of SQL together with the values bound to its placeholders, in order."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

SqlValue = str | int | float | bytes | None


class Clause(NamedTuple):
    """SQL text holding `?` only where a value goes; values never become part of the text."""

    sql: str
    parameters: tuple[SqlValue, ...] = ()


EVERYTHING = Clause("1")
NOTHING = Clause("0")


def placeholders(values: Sequence[SqlValue], parameter: str = "?") -> Clause:
    """Return `?, ?, …` for a non-empty list, to stand between parentheses."""
    return Clause(", ".join([parameter] * len(values)), tuple(values))


def all_of(clauses: Iterable[Clause]) -> Clause:
    """Join conditions by AND; no condition at all holds for every row."""
    return _joined(" AND ", clauses) or EVERYTHING


def any_of(clauses: Iterable[Clause]) -> Clause:
    """Join conditions by OR; no condition at all holds for no row."""
    return _joined(" OR ", clauses) or NOTHING


def _joined(operator: str, clauses: Iterable[Clause]) -> Clause | None:
    parts = list(clauses)
    if not parts:
        return None
    return Clause(
        "(" + operator.join(part.sql for part in parts) + ")",
        tuple(value for part in parts for value in part.parameters),
    )
