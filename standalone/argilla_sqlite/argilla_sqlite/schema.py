"""What a dataset can be searched by: its text columns, and the kind of value of its questions and metadata."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from argilla_sqlite.connections import Connection


class ValueKind(Enum):
    """How Elasticsearch would compare the values: as exact strings, as numbers, or not at all."""

    KEYWORD = "keyword"
    NUMBER = "number"
    UNSEARCHABLE = "unsearchable"


class TextColumn(NamedTuple):
    """One column of the full text index. A chat field has two: what was said, and by which role."""

    field: str
    part: str


@dataclass(frozen=True)
class Question:
    id: str
    kind: ValueKind


@dataclass(frozen=True)
class DatasetSchema:
    """Read afresh for every search, as properties may be added to a published dataset. Ids are 32 hex digits."""

    dataset_id: str
    text_columns: tuple[TextColumn, ...]
    questions: Mapping[str, Question]
    metadata: Mapping[str, ValueKind]


_COLUMN_PARTS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "custom": ("custom",),
    "chat": ("content", "role"),
    "image": (),
}

# Text, ranking and span values are stored but not indexed by stock Argilla: no filter on them matches anything.
_QUESTION_KINDS = {
    "label_selection": ValueKind.KEYWORD,
    "multi_label_selection": ValueKind.KEYWORD,
    "rating": ValueKind.NUMBER,
}

_METADATA_KINDS = {"terms": ValueKind.KEYWORD, "integer": ValueKind.NUMBER, "float": ValueKind.NUMBER}


def read_schema(connection: Connection, dataset_id: str) -> DatasetSchema:
    """Return the schema of one dataset; one without fields or questions is simply empty."""

    def settings_types(table: str) -> list[tuple[str, str, str]]:
        rows = connection.execute(
            f"SELECT id, name, settings FROM argilla.{table} WHERE dataset_id = ? ORDER BY inserted_at, id",
            (dataset_id,),
        )
        return [(row_id, name, json.loads(settings)["type"]) for row_id, name, settings in rows]

    return DatasetSchema(
        dataset_id=dataset_id,
        text_columns=tuple(
            TextColumn(name, part) for _, name, kind in settings_types("fields") for part in _COLUMN_PARTS[kind]
        ),
        questions={
            name: Question(row_id, _QUESTION_KINDS.get(kind, ValueKind.UNSEARCHABLE))
            for row_id, name, kind in settings_types("questions")
        },
        metadata={name: _METADATA_KINDS[kind] for _, name, kind in settings_types("metadata_properties")},
    )
