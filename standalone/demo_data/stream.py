"""What the demo data sets share: dated landing objects in several formats, with flaws made on purpose.

Flawed rows say so in their own text and never come from the data. Building a stream twice gives the same bytes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

Row = dict[str, Any]
Answer = str | list[dict[str, Any]]


@dataclass(frozen=True)
class LandingObject:
    """One object to upload.

    :param day: the (real or synthetic) day it belongs to; ``until`` and ``after`` select by it.
    :param rows: rows in it, flawed ones included; 0 when it cannot be read at all.
    :param flaws: what is wrong with it on purpose, one name per flawed row, or one for the object as a whole.
    """

    key: str
    day: date
    body: bytes
    rows: int
    flaws: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stream:
    """A data set as it arrives, and the truth about it, which is never uploaded.

    :param answers: by source id: a label, or spans ``{"start", "end", "label"}``.
    """

    project: str
    objects: list[LandingObject]
    answers: dict[str, Answer]

    def between(self, after: date | None, until: date | None) -> list[LandingObject]:
        """Objects of days from ``after`` (inclusive) to ``until`` (exclusive), so that the same date cuts in two."""
        return [o for o in self.objects if (after is None or o.day >= after) and (until is None or o.day < until)]


@dataclass(frozen=True)
class Shape:
    """The columns of a data set, as far as flaws need to know them."""

    columns: tuple[str, ...]
    id_column: str
    time_column: str
    text_column: str
    example: Callable[[str, date], Row]  # (text, day) → a complete, valid row

    def flawed(self, flaw: str, day: date) -> Row | str:
        """A row (or a whole line) with one flaw, which its own text names."""
        row = self.example(f"Broken on purpose, to show quarantine at work: {FLAWS[flaw]}.", day)
        row[self.id_column] = f"broken-on-purpose/{day.isoformat()}/{flaw}"
        if flaw == "cut_off_line":
            return json.dumps(row)[:-12]
        if flaw == "too_many_columns":
            return csv_line([*(row[name] for name in self.columns), "one", "too", "many"])
        changes: dict[str, Row] = {
            "no_text": {self.text_column: None},
            "unreadable_time": {self.time_column: "next Tuesday, around noon"},
            "wrong_year": {self.time_column: f"2031-{day:%m-%d}T12:00:00+00:00"},
            "address_not_masked": {self.text_column: f"{row[self.text_column]} Write to someone@example.org"},
        }
        return {**row, **changes[flaw]}


FLAWS = {
    "cut_off_line": "the line ends in the middle",
    "too_many_columns": "the row has more columns than the header",
    "no_text": "the text is missing",
    "unreadable_time": "the time is not ISO 8601",
    "wrong_year": "the sender's clock runs years ahead",
    "address_not_masked": "it holds an e-mail address that should have been masked",
}


def make_object(shape: Shape, key: str, day: date, rows: Sequence[Row], flaws: Sequence[str] = ()) -> LandingObject:
    """One object in the format its key's ending says, with the flawed rows spread among the good ones."""
    lines: list[Row | str] = list(rows)
    for position, flaw in enumerate(flaws, start=1):
        lines.insert(position * len(rows) // (len(flaws) + 1), shape.flawed(flaw, day))
    if key.endswith(".csv"):
        text = csv_line(shape.columns) + "".join(
            line if isinstance(line, str) else csv_line([line[name] for name in shape.columns]) for line in lines
        )
    else:
        text = "".join(
            (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n" for line in lines
        )
    body = text.encode()
    if key.endswith(".gz"):
        body = gzip.compress(body, mtime=0)  # without a time stamp, so that the same rows give the same bytes
    return LandingObject(key, day, body, len(lines), tuple(flaws))


def cut_off_object(shape: Shape, key: str, day: date) -> LandingObject:
    """A gzip file whose upload broke off; its rows could be read up to the cut, but none may be loaded."""
    rows = [shape.example(f"Broken on purpose: row {n} of a file that was cut off.", day) for n in range(20)]
    whole = make_object(shape, key, day, rows)
    return LandingObject(key, day, whole.body[: len(whole.body) * 2 // 3], 0, ("cut_off_file",))


def empty_object(key: str, day: date) -> LandingObject:
    """An object of 0 bytes, as a crashed exporter leaves it."""
    return LandingObject(key, day, b"", 0, ("empty_file",))


def csv_line(values: Sequence[Any]) -> str:
    """One CSV row with its line end; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
