"""Whole columns to records: the same ids, hashes and JSON as one by one, whatever the texts hold."""

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from include.ingestion.blocks import Block
from include.ingestion.chunks import Chunk, Part, chunks
from include.ingestion.records import OWN_COLUMNS, encode, order
from include.ingestion.rows import as_text, known_columns, normalise
from include.lake import keys
from include.project import Project

PROJECT = Project.model_validate(
    {
        "name": "mails",
        "title": "Mails",
        "source": {
            "prefix": "in/",
            "id_column": "id",
            "event_time_column": "at",
            "consent_column": "ok",
            "fields": {"text": {"title": "Text"}, "also": {"title": "Also", "required": False}},
            "metadata": {
                "lang": {"title": "Language"},
                "age": {"title": "Age", "type": "integer"},
                "score": {"title": "Score", "type": "float"},
            },
        },
        "labeling": {
            "guidelines": "Decide whether the text is spam or not.",
            "questions": [
                {"name": "kind", "type": "label", "title": "?", "labels": {"spam": "Spam", "ham": "Not spam"}}
            ],
        },
    }
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda text: text.strip())
MOMENT = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
ROW = st.fixed_dictionaries(
    {"id": TEXT, "text": TEXT, "at": MOMENT.map(datetime.isoformat)},
    optional={
        "also": TEXT,
        "ok": st.booleans(),
        "lang": TEXT,
        "age": st.integers(-(2**63), 2**63 - 1),
        "score": st.floats(-1e15, 1e15).filter(lambda x: x == 0 or abs(x) >= 1e-4),
        "extra": st.dictionaries(st.sampled_from(["a", "b"]), st.one_of(TEXT, st.integers()), min_size=1),
    },
)


def chunk_of(rows: list[dict[str, Any]], project: Project = PROJECT) -> Chunk:
    known = sorted(known_columns(project.source))
    table = pa.table({name: pa.array([as_text(row.get(name)) for row in rows], pa.string()) for name in known})
    extras = pa.array([keys.canonical_json(row["extra"]) if "extra" in row else None for row in rows], pa.string())
    block = Block(pa.array(range(len(rows)), pa.int64()), table, extras, lambda row: b"")
    found = normalise(project.source, block)
    assert found.bad == []
    return Chunk([Part(0, found)])


@settings(deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=5))
def test_columns_at_once_are_the_keys_one_by_one(rows: list[dict[str, Any]]):
    chunk = chunk_of(rows)
    encoded = encode(PROJECT, chunk, chunk.columns, None)
    assert encoded.column_names == OWN_COLUMNS
    for row, record in zip(rows, encoded.to_pylist(), strict=True):
        fields = {"text": row["text"], "also": row.get("also", "")}
        assert record["fields_json"] == keys.canonical_json(fields)
        assert record["content_hash"] == keys.content_hash(fields)
        assert record["record_id"] == keys.record_id("mails", row["id"])
        metadata = {name: row[name] for name in ("age", "lang", "score") if row.get(name) not in (None, "")}
        assert json.loads(record["metadata_json"]) == {**metadata, **row.get("extra", {})}
        assert record["event_at"] == datetime.fromisoformat(row["at"])
        assert record["consent"] == row.get("ok", False)


@settings(deadline=None)
@given(rows=st.lists(ROW, min_size=2, max_size=2))
def test_a_state_is_equal_when_everything_that_counts_is(rows: list[dict[str, Any]]):
    chunk = chunk_of(rows)
    one, two = encode(PROJECT, chunk, chunk.columns, None).to_pylist()
    counts = ("content_hash", "metadata_json", "event_at", "consent")
    assert (one["state_hash"] == two["state_hash"]) == all(one[name] == two[name] for name in counts)


def test_without_an_id_column_the_content_is_the_id():
    source = PROJECT.source.model_copy(update={"id_column": None})
    project = PROJECT.model_copy(update={"source": source})
    chunk = chunk_of([{"text": "hello", "at": "2026-01-01"}], project)
    [record] = encode(project, chunk, chunk.columns, None).to_pylist()
    assert record["source_id"] == record["fields_json"] == '{"also":"","text":"hello"}'


def test_personal_data_found_is_metadata_between_the_configured_and_the_unknown():
    rows = [{"id": str(n), "text": "x", "at": "2026-01-01", "lang": "en", "extra": {"a": 1}} for n in range(2)]
    chunk = chunk_of(rows)
    encoded = encode(PROJECT, chunk, chunk.columns, pa.array(['["email"]', None]))
    assert encoded["metadata_json"].to_pylist() == ['{"lang":"en","pii":["email"],"a":1}', '{"lang":"en","a":1}']


@settings(deadline=None)
@given(ids=st.lists(st.text("0123456789abcdef", min_size=32, max_size=32), max_size=40), repeats=st.integers(1, 3))
def test_order_sorts_ids_keeps_equal_ones_in_place_and_finds_the_shards(ids: list[str], repeats: int):
    ids = ids * repeats
    positions, edges = order(pa.chunked_array([pa.array(ids, pa.string())]))
    placed = positions.to_pylist()
    assert placed == sorted(range(len(ids)), key=lambda row: (ids[row], row))
    assert len(edges) == 17
    for shard, start, stop in zip(keys.SHARDS, edges, edges[1:], strict=False):
        assert all(ids[row][0] == shard for row in placed[start:stop])


def test_chunks_join_parts_of_many_objects_and_know_where_rows_come_from():
    def part(number: int, *texts: str) -> Part:
        rows = [{"id": text, "text": text, "at": "2026-01-01"} for text in texts]
        found = chunk_of(rows)._parts[0].rows
        found.raw = lambda row: texts[row].encode()
        return Part(number, found)

    [chunk] = chunks([part(0, "a", "b"), part(1), part(2, "c")])
    assert chunk.size == 3
    assert chunk.object_index.tolist() == [0, 0, 2]
    assert [chunk.source(row) for row in range(3)] == [(0, 0, b"a", None), (0, 1, b"b", None), (2, 0, b"c", None)]
    assert chunk.columns["text"].to_pylist() == ["a", "b", "c"]
    assert np.array_equal(chunk.numbers, [0, 1, 0])
    assert list(chunks([])) == []
