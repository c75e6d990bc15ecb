"""The full text index: one FTS5 table per dataset in a file beside Argilla's database.

Nothing is indexed when records are written. A search that needs the index first brings it up to date with the records
as they are committed, whatever happened since it was last used: texts changed, rows written by another process, a
crash halfway, a deleted, damaged or older index file. When nothing was committed since, that costs two counters;
otherwise one scan over the dataset's record ids and times of change, plus the changed texts.
"""

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from itertools import islice

from argilla_sqlite.clause import NOTHING, Clause, SqlValue, placeholders
from argilla_sqlite.connections import Connection
from argilla_sqlite.schema import DatasetSchema, TextColumn
from argilla_sqlite.text_query import EVERY_DOCUMENT, EVERY_DOCUMENT_COLUMN, Everything, parse, to_fts5
from argilla_sqlite.tokens import BOUNDARY, WORD_PUNCTUATION, tokens

_LOGGER = logging.getLogger(__name__)

# Raise it whenever the tables below or the way texts are split change: an index of another version is rebuilt.
INDEX_VERSION = 1

# Small enough that a batch of long texts stays in memory, below SQLite's limit of bound values.
BATCH_RECORDS = 500


class TextIndex:
    """Keeps and queries the full text index of every dataset. Safe to share between threads."""

    def __init__(self) -> None:
        # Datasets whose indexed texts were compared with the records byte by byte since this process started.
        self._compared: set[tuple[int, str]] = set()
        self._lock = threading.Lock()

    def matching(self, connection: Connection, schema: DatasetSchema, query: str, field: str | None) -> Clause:
        """Return a subquery of (record_id, score) for the records whose text matches `query`.

        `field` limits the search to one field. The score is BM25, higher is better. Raises InvalidSearchError when the
        query is too long or too deeply nested.
        """
        node = parse(query)
        if isinstance(node, Everything):
            return Clause(
                "SELECT id AS record_id, 1.0 AS score FROM argilla.records WHERE dataset_id = ?", (schema.dataset_id,)
            )
        columns = [
            name for name, column in _index_columns(schema.text_columns) if field is None or column.field == field
        ]
        expression = to_fts5(node, columns)
        if expression is None:
            return Clause(f"SELECT NULL AS record_id, NULL AS score WHERE {NOTHING.sql}")
        self.refresh(connection, schema)
        table = _table(schema.dataset_id)
        return Clause(
            f"SELECT document.record_id, -matched.rank AS score FROM main.{table} AS matched "
            "JOIN main.text_documents AS document ON document.document_id = matched.rowid "
            f"WHERE matched.{table} MATCH ?",
            (expression,),
        )

    def refresh(self, connection: Connection, schema: DatasetSchema) -> None:
        """Make the index agree with every record committed before this call."""
        versions = connection.versions()
        comparison = (connection.index_inode, schema.dataset_id)
        if connection.known_fresh.get(schema.dataset_id) == versions and comparison in self._compared:
            return
        with connection.writing():
            _create_tables(connection)
            _create_dataset_table(connection, schema)
            written, removed = _reconcile(connection, schema, every_byte=comparison not in self._compared)
            index_version = connection.versions().text_index
        with self._lock:
            self._compared.add(comparison)
        # Argilla's version from before the records were read: a commit in between costs a needless scan, and no text.
        connection.known_fresh[schema.dataset_id] = versions._replace(text_index=index_version)
        if written or removed:
            _LOGGER.info(
                "Text index of dataset %s: %d records indexed, %d removed.", schema.dataset_id, written, removed
            )

    def drop(self, connection: Connection, dataset_id: str) -> None:
        """Forget everything about a dataset; a later search builds it anew."""
        with connection.writing():
            _create_tables(connection)
            _drop_dataset_table(connection, dataset_id)


def _table(dataset_id: str) -> str:
    """Return the table's name: 32 hex digits and a prefix, safe inside SQL."""
    return f"text_{int(dataset_id, 16):032x}"


def _index_columns(text_columns: Sequence[TextColumn]) -> list[tuple[str, TextColumn]]:
    return [(f"c{position}", column) for position, column in enumerate(text_columns)]


def _create_tables(connection: Connection) -> None:
    if connection.value("PRAGMA main.user_version") == INDEX_VERSION:
        return
    virtual_tables = connection.execute(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE %'"
    ).fetchall()
    for (name,) in virtual_tables:
        connection.execute(f"DROP TABLE main.{name}")
    connection.execute("DROP TABLE IF EXISTS main.text_datasets")
    connection.execute("DROP TABLE IF EXISTS main.text_documents")
    connection.execute("CREATE TABLE main.text_datasets (dataset_id TEXT PRIMARY KEY, columns TEXT NOT NULL) STRICT")
    connection.execute(
        "CREATE TABLE main.text_documents (document_id INTEGER PRIMARY KEY, dataset_id TEXT NOT NULL, "
        "record_id TEXT NOT NULL UNIQUE, updated_at TEXT NOT NULL, digest BLOB NOT NULL) STRICT"
    )
    connection.execute("CREATE INDEX main.text_documents_dataset ON text_documents (dataset_id)")
    connection.execute(f"PRAGMA main.user_version = {INDEX_VERSION}")


def _create_dataset_table(connection: Connection, schema: DatasetSchema) -> None:
    columns = json.dumps(schema.text_columns)
    indexed_columns = connection.value(
        "SELECT columns FROM main.text_datasets WHERE dataset_id = ?", (schema.dataset_id,)
    )
    if indexed_columns == columns:
        return
    _drop_dataset_table(connection, schema.dataset_id)
    names = [EVERY_DOCUMENT_COLUMN, *(name for name, _ in _index_columns(schema.text_columns))]
    # Texts come in already split into words: the tokenizer only has to part them at the spaces.
    connection.execute(
        f"CREATE VIRTUAL TABLE main.{_table(schema.dataset_id)} "
        f"USING fts5({', '.join(names)}, tokenize = \"ascii tokenchars '{WORD_PUNCTUATION}'\")"
    )
    connection.execute("INSERT INTO main.text_datasets VALUES (?, ?)", (schema.dataset_id, columns))


def _drop_dataset_table(connection: Connection, dataset_id: str) -> None:
    connection.execute(f"DROP TABLE IF EXISTS main.{_table(dataset_id)}")
    connection.execute("DELETE FROM main.text_documents WHERE dataset_id = ?", (dataset_id,))
    connection.execute("DELETE FROM main.text_datasets WHERE dataset_id = ?", (dataset_id,))


def _reconcile(connection: Connection, schema: DatasetSchema, *, every_byte: bool) -> tuple[int, int]:
    """Index new and changed records, remove deleted ones; return how many of each.

    `every_byte` also compares the texts themselves, for changes made behind Argilla's back (a restored backup, plain
    SQL) that left `updated_at` alone.
    """
    differs = "document.updated_at <> record.updated_at"
    if every_byte:
        differs = f"({differs} OR document.digest <> content_digest(record.fields))"
    changed = connection.execute(
        "SELECT record.id, document.document_id FROM argilla.records AS record "
        "LEFT JOIN main.text_documents AS document ON document.record_id = record.id "
        f"WHERE record.dataset_id = ? AND (document.document_id IS NULL OR {differs})",
        (schema.dataset_id,),
    ).fetchall()
    removed = connection.execute(
        "SELECT document_id FROM main.text_documents AS document WHERE dataset_id = ? AND NOT EXISTS (SELECT 1 "
        "FROM argilla.records AS record "
        "WHERE record.id = document.record_id AND record.dataset_id = document.dataset_id)",
        (schema.dataset_id,),
    ).fetchall()
    outdated = removed + [(document_id,) for _, document_id in changed if document_id is not None]
    connection.execute_many(f"DELETE FROM main.{_table(schema.dataset_id)} WHERE rowid = ?", outdated)
    connection.execute_many("DELETE FROM main.text_documents WHERE document_id = ?", outdated)
    record_ids = iter([record_id for record_id, _ in changed])
    while batch := list(islice(record_ids, BATCH_RECORDS)):
        _insert(connection, schema, batch)
    return len(changed), len(removed)


def _insert(connection: Connection, schema: DatasetSchema, record_ids: Sequence[str]) -> None:
    wanted = placeholders(record_ids)
    connection.execute(
        "INSERT INTO main.text_documents (dataset_id, record_id, updated_at, digest) "
        f"SELECT dataset_id, id, updated_at, content_digest(fields) FROM argilla.records WHERE id IN ({wanted.sql})",
        wanted.parameters,
    )
    records = connection.execute(
        "SELECT document.document_id, record.fields FROM argilla.records AS record "
        f"JOIN main.text_documents AS document ON document.record_id = record.id WHERE record.id IN ({wanted.sql})",
        wanted.parameters,
    ).fetchall()

    def rows() -> Iterator[tuple[SqlValue, ...]]:
        for document_id, fields in records:
            values = json.loads(fields)
            texts = (_words(values.get(column.field), column.part) for column in schema.text_columns)
            yield (document_id, EVERY_DOCUMENT, *texts)

    names = ["rowid", EVERY_DOCUMENT_COLUMN, *(name for name, _ in _index_columns(schema.text_columns))]
    connection.execute_many(
        f"INSERT INTO main.{_table(schema.dataset_id)} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
        rows(),
    )


def _words(value: object, part: str) -> str:
    """Return the words of one field's value as the index stores them, parted by spaces."""
    if value is None:
        return ""
    if isinstance(value, list) and part in ("content", "role"):
        return f" {BOUNDARY} ".join(" ".join(tokens(str(message.get(part, "")))) for message in value)
    # A custom field holds an object; like Elasticsearch here, search what Python prints for it.
    return " ".join(tokens(str(value)))
