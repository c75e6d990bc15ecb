"""A parsed row → what a record is made of, by the columns the project names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from include.ingestion.parse import BadRow, Row
from include.lake.keys import canonical_json, content_hash
from include.project import Source

OBSERVED_CHARACTERS = 200


@dataclass(frozen=True)
class Draft:
    """A row whose columns could all be read; it becomes a record if it keeps the contract.

    :param fields: every configured field; an optional field that is missing is ``""``.
    :param columns: what Great Expectations sees: fields, id, event time and metadata columns; None where missing.
    :param metadata: configured metadata (typed) and all columns the project does not know, without missing ones.
    """

    row: Row
    fields: dict[str, str]
    source_id: str
    event_at: datetime | None
    consent: bool | None
    metadata: dict[str, Any]
    columns: dict[str, Any]

    @cached_property
    def content_hash(self) -> str:
        """See ``include.lake.keys.content_hash``."""
        return content_hash(self.fields)


def contract_columns(source: Source) -> dict[str, str]:
    """The columns expectations may speak of, each with its type: text, integer or float."""
    texts = [*source.fields, *(name for name in (source.id_column, source.event_time_column) if name)]
    types = {name: "text" if one.type == "terms" else one.type for name, one in source.metadata.items()}
    return {**dict.fromkeys(texts, "text"), **types}


def known_columns(source: Source) -> set[str]:
    """The columns the project gives a meaning to."""
    return {*contract_columns(source), *([source.consent_column] if source.consent_column else [])}


def read_row(source: Source, row: Row) -> Draft | BadRow:
    """The draft of a record, or the row with everything that is wrong with it."""
    failures: list[dict[str, Any]] = []
    reasons: list[str] = []

    def fail(check: str, column: str, reason: str) -> None:
        failures.append({"expectation": check, "column": column, "observed": shorten(row.values.get(column))})
        reasons.append(f"{column!r} {reason}")

    texts = {name: as_text(row.values.get(name)) for name in [*source.fields, *source.required_columns]}
    for name in source.required_columns:
        if not (texts[name] or "").strip():
            fail("required_column", name, "is missing or empty")
    event_at = None
    if source.event_time_column and (texts[source.event_time_column] or "").strip():
        event_at = read_time(row.values[source.event_time_column])
        if event_at is None:
            fail("event_time", source.event_time_column, "is not an ISO 8601 time")
    metadata: dict[str, Any] = {}
    for name, one in source.metadata.items():
        try:
            metadata[name] = read_metadata(row.values.get(name), one.type)
        except (ValueError, OverflowError):
            fail(f"metadata_{one.type}", name, f"is not of type {one.type}")
    if failures:
        return BadRow(row.number, row.raw, "parse", "; ".join(reasons), failures)

    fields = {name: texts[name] or "" for name in source.fields}
    return Draft(
        row=row,
        fields=fields,
        source_id=(texts[source.id_column] or "") if source.id_column else canonical_json(fields),
        event_at=event_at,
        consent=read_consent(row.values.get(source.consent_column)) if source.consent_column else None,
        metadata={name: value for name, value in (*metadata.items(), *_others(source, row)) if value is not None},
        columns={**texts, **metadata},
    )


def _others(source: Source, row: Row) -> list[tuple[str, Any]]:
    known = known_columns(source)
    return [(name, value) for name, value in row.values.items() if name not in known]


def as_text(value: Any) -> str | None:
    """Text as it is, anything else as canonical JSON; None for a missing value."""
    return value if value is None or isinstance(value, str) else canonical_json(value)


def shorten(value: Any) -> Any:
    """A value small enough to list beside its failure."""
    text = value if isinstance(value, str) else None if value is None else canonical_json(value)
    if text is None or len(text) <= OBSERVED_CHARACTERS:
        return value
    return text[:OBSERVED_CHARACTERS] + "…"


def read_time(value: Any) -> datetime | None:
    """An ISO 8601 time in UTC; without an offset it is taken as UTC. None when it is not one."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read_consent(value: Any) -> bool:
    """True only for a clear yes (true, 1); a missing or unreadable consent is none."""
    return value is True or (str(value).strip().lower() in {"true", "1"})


def read_metadata(value: Any, kind: str) -> str | int | float | None:
    """A metadata value in its type; None when it is missing.

    :raises ValueError: when it is not of that type.
    """
    if value is None or value == "":
        return None
    if kind == "terms":
        return as_text(value)
    if isinstance(value, bool | list | dict) or (isinstance(value, str) and "_" in value):  # int("1_0") is 10
        raise ValueError(kind)
    if kind == "integer":
        if isinstance(value, float) and not value.is_integer():
            raise ValueError(kind)
        number = int(value)
        if not -(2**63) <= number < 2**63:
            raise ValueError(kind)
        return number
    real = float(value)
    if not math.isfinite(real):
        raise ValueError(kind)
    return real
