"""What readers of objects hand on: blocks of readable rows as columns, and the rows that are not readable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from include.errors import ObjectError

OBJECT_ROW = -1  # the row number that stands for the object as a whole


class RejectedObjectError(ObjectError):
    """The object as a whole is not what it claims to be; none of its rows are loaded.

    :param check: short name of what failed, counted beside the names of expectations.
    """

    def __init__(self, check: str, what: str, *, remedy: str) -> None:
        super().__init__(what, remedy=remedy)
        self.check = check


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that goes to quarantine.

    :param number: 0-based position of the row in its object; ``OBJECT_ROW`` for the object as a whole.
    :param raw: the row's own bytes.
    :param stage: ``object`` | ``parse`` | ``validate`` | ``batch``.
    :param reason: one sentence for people.
    :param failures: ``[{"expectation", "column", "observed"}]``, every check that failed.
    """

    number: int
    raw: bytes
    stage: str
    reason: str
    failures: list[dict[str, Any]]


@dataclass
class Block:
    """The readable rows (R of them) of one stretch of an object, by column, and its bad rows.

    :param numbers: (R,) 0-based position of each row in its object, increasing.
    :param columns: R rows; the columns the project knows, as far as the stretch has them, typed ``string``, ``int64``,
        ``double`` or ``bool``; null = missing.
    :param extras: (R,) canonical JSON of the columns the project does not know, nulls left out; null where there are
        none.
    :param raw: gives the bytes of the i-th row, for the few that end in quarantine.
    :param header: what rows of this object cannot be read without: the header line of a CSV object, else None.
    """

    numbers: pa.Int64Array
    columns: pa.Table
    extras: pa.StringArray
    raw: Callable[[int], bytes]
    bad: list[BadRow] = field(default_factory=list)
    new_columns: set[str] = field(default_factory=set)
    header: bytes | None = None
