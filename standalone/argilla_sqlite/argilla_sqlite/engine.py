"""The search engine itself: what Argilla calls, answered from its own database."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from argilla_server.enums import MetadataPropertyType, SimilarityOrder
from argilla_server.models import Dataset, MetadataProperty, Record, Response, Suggestion, User, VectorSettings
from argilla_server.search_engine.base import (
    Filter,
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    MetadataMetrics,
    Order,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    TermsMetrics,
    TextQuery,
)
from argilla_server.settings import settings

from argilla_sqlite.clause import Clause, all_of
from argilla_sqlite.connections import Connection, Connections
from argilla_sqlite.filters import metadata_values, order_by, where
from argilla_sqlite.runtime import ENGINE_NAME, database_file
from argilla_sqlite.schema import DatasetSchema, ValueKind, read_schema
from argilla_sqlite.similarity import VectorCache, nearest
from argilla_sqlite.text_index import TextIndex

_LOGGER = logging.getLogger(__name__)

Result = TypeVar("Result")


class SqliteSearchEngine(SearchEngine):
    """One per process. Queries run in worker threads, so that a slow one does not hold up the server."""

    _instance: ClassVar["SqliteSearchEngine | None"] = None

    def __init__(self, database_path: Path) -> None:
        self._connections = Connections(database_path)
        self._text_index = TextIndex()
        self._vectors = VectorCache()

    @classmethod
    async def new_instance(cls) -> "SqliteSearchEngine":
        """Return the process's engine. Raises ConfigurationError when Argilla is not set to use an SQLite file."""
        if cls._instance is None:
            cls._instance = cls(database_file(settings.database_url))
        return cls._instance

    async def close(self) -> None:
        """Argilla closes the engine after every request; its connections are worth keeping for the next one."""

    async def ping(self) -> bool:
        def action(connection: Connection) -> bool:
            return bool(connection.value("SELECT count(*) FROM argilla.alembic_version") == 1)

        try:
            return await self._run(action)
        except sqlite3.OperationalError as error:
            _LOGGER.error("Argilla's database %s cannot be read: %s", self._connections.database_path, error)
            return False

    async def info(self) -> dict[str, Any]:
        return {"engine": ENGINE_NAME, "version": {"number": sqlite3.sqlite_version}}

    # The database is the index for everything but words, and the words are indexed by the search that needs them.

    async def create_index(self, dataset: Dataset) -> None: ...

    async def configure_metadata_property(self, dataset: Dataset, metadata_property: MetadataProperty) -> None: ...

    async def configure_index_vectors(self, vector_settings: VectorSettings) -> None: ...

    async def index_records(self, dataset: Dataset, records: Iterable[Record]) -> None: ...

    async def partial_record_update(self, record: Record, **update: Any) -> None: ...

    async def delete_records(self, dataset: Dataset, records: Iterable[Record]) -> None: ...

    async def update_record_response(self, response: Response) -> None: ...

    async def delete_record_response(self, response: Response) -> None: ...

    async def update_record_suggestion(self, suggestion: Suggestion) -> None: ...

    async def delete_record_suggestion(self, suggestion: Suggestion) -> None: ...

    async def delete_index(self, dataset: Dataset) -> None:
        dataset_id = dataset.id.hex
        await self._run(lambda connection: self._text_index.drop(connection, dataset_id))

    async def get_dataset_progress(self, dataset: Dataset) -> dict[str, int]:
        """Return the number of records of each status, and their `total`."""
        counting = Clause(
            "SELECT status, count(*) FROM argilla.records WHERE dataset_id = ? GROUP BY 1", (dataset.id.hex,)
        )
        return await self._progress(dataset, counting)

    async def get_dataset_user_progress(self, dataset: Dataset, user: User) -> dict[str, int]:
        """Return the number of the user's own answers of each status, and their `total`."""
        counting = Clause(
            "SELECT response.status, count(*) FROM argilla.responses AS response "
            "JOIN argilla.records AS record ON record.id = response.record_id "
            "WHERE record.dataset_id = ? AND response.user_id = ? GROUP BY 1",
            (dataset.id.hex, user.id.hex),
        )
        return await self._progress(dataset, counting)

    async def _progress(self, dataset: Dataset, counting: Clause) -> dict[str, int]:
        if dataset.is_draft:
            return {}
        counts: dict[str, int] = dict(await self._run(lambda connection: connection.execute(*counting).fetchall()))
        return {"total": sum(counts.values()), **counts}

    async def search(  # noqa: PLR0913 - Argilla's own signature
        self,
        dataset: Dataset,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,
        sort: list[Order] | None = None,
        offset: int = 0,
        limit: int = 100,
        user_id: UUID | None = None,
    ) -> SearchResponses:
        """Return one page and the exact total.

        Without `sort`, the order is that of the text score; for a user (`user_id`) the score is multiplied by a number
        drawn for that user and record: an order of the user's own that stays the same from page to page.
        """
        dataset_id = dataset.id.hex

        def action(connection: Connection) -> SearchResponses:
            schema = read_schema(connection, dataset_id)
            source, condition = self._matching(connection, schema, query, filter)
            score = Clause("score" if query is not None else "1.0")
            if user_id is not None:
                score = Clause(f"{score.sql} * user_random(?, record.id)", (user_id.hex,))
            order = order_by(sort, schema) if sort else Clause("2 DESC")
            with connection.snapshot():
                matching = Clause(
                    f"FROM {source.sql} WHERE {condition.sql}", (*source.parameters, *condition.parameters)
                )
                total = connection.value(f"SELECT count(*) {matching.sql}", matching.parameters)
                rows = connection.execute(
                    f"SELECT record.id, {score.sql} {matching.sql} ORDER BY {order.sql}, record.rowid LIMIT ? OFFSET ?",
                    (*score.parameters, *matching.parameters, *order.parameters, limit, offset),
                ).fetchall()
            return _responses(rows, total)

        return await self._run(action)

    async def similarity_search(  # noqa: PLR0913 - Argilla's own signature
        self,
        dataset: Dataset,
        vector_settings: VectorSettings,
        value: list[float] | None = None,
        record: Record | None = None,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,
        max_results: int = 100,
        order: SimilarityOrder = SimilarityOrder.most_similar,
        threshold: float | None = None,
    ) -> SearchResponses:
        """Return the records nearest to a vector, or to a record (itself left out), among those the filters allow."""
        if (value is None) == (record is None):
            raise ValueError("Give either a vector value or a record to search by similarity, not both.")
        vector = value if record is None else record.vector_value_by_vector_settings(vector_settings)
        if not vector:
            raise ValueError(f"The record has no vector named {vector_settings.name!r} to search by.")
        sign = -1.0 if order == SimilarityOrder.least_similar else 1.0
        dataset_id, vector_settings_id, dimensions = dataset.id.hex, vector_settings.id.hex, vector_settings.dimensions
        excluded_id = record.id.hex if record else None

        def action(connection: Connection) -> SearchResponses:
            allowed_ids = None
            if query is not None or filter is not None:
                schema = read_schema(connection, dataset_id)
                source, condition = self._matching(connection, schema, query, filter)
                found = connection.execute(
                    f"SELECT record.id FROM {source.sql} WHERE {condition.sql}",
                    (*source.parameters, *condition.parameters),
                )
                allowed_ids = {record_id for (record_id,) in found}
            rows = nearest(
                self._vectors.read(connection, vector_settings_id, dimensions),
                [sign * number for number in vector],
                count=max_results,
                allowed_ids=allowed_ids,
                excluded_id=excluded_id,
                threshold=threshold,
            )
            return _responses(rows, len(rows))

        return await self._run(action)

    async def compute_metrics_for(self, metadata_property: MetadataProperty) -> MetadataMetrics:
        """Return the counts of a property's terms, most frequent first, or the extremes of its numbers."""
        is_terms = metadata_property.type == MetadataPropertyType.terms
        kind = ValueKind.KEYWORD if is_terms else ValueKind.NUMBER
        source, _, value = metadata_values(metadata_property.name, kind)
        values = Clause(
            f"FROM argilla.records AS record, {source.sql} AND record.dataset_id = ? AND {value} IS NOT NULL",
            (*source.parameters, metadata_property.dataset_id.hex),
        )
        if is_terms:
            # A term listed twice in one record counts once, as in Elasticsearch.
            counting = (
                f"SELECT CAST({value} AS TEXT), count(DISTINCT record.id) {values.sql} GROUP BY 1 ORDER BY 2 DESC, 1"
            )
            rows = await self._run(lambda connection: connection.execute(counting, values.parameters).fetchall())
            terms = [TermsMetrics.TermCount(term=term, count=count) for term, count in rows]
            return TermsMetrics(total=sum(term.count for term in terms), values=terms)
        extremes = f"SELECT min({value}), max({value}) {values.sql}"
        low, high = await self._run(lambda connection: connection.execute(extremes, values.parameters).fetchone())
        if metadata_property.type == MetadataPropertyType.integer:
            return IntegerMetadataMetrics(min=low, max=high)
        return FloatMetadataMetrics(min=low, max=high)

    def _matching(
        self, connection: Connection, schema: DatasetSchema, query: TextQuery | str | None, filter: Filter | None
    ) -> tuple[Clause, Clause]:
        """Return the tables (`record`, and `score` for a text query) and the condition of the records that match."""
        conditions = [Clause("record.dataset_id = ?", (schema.dataset_id,))]
        if filter is not None:
            conditions.append(where(filter, schema))
        if query is None:
            return Clause("argilla.records AS record"), all_of(conditions)
        text = TextQuery(q=query) if isinstance(query, str) else query
        found = self._text_index.matching(connection, schema, text.q, text.field)
        source = Clause(
            f"({found.sql}) AS found CROSS JOIN argilla.records AS record ON record.id = found.record_id",
            found.parameters,
        )
        return source, all_of(conditions)

    async def _run(self, action: Callable[[Connection], Result]) -> Result:
        return await asyncio.to_thread(self._connections.run, action)


def _responses(rows: Sequence[tuple[str, float]], total: int) -> SearchResponses:
    items = [SearchResponseItem(record_id=UUID(hex=record_id), score=score) for record_id, score in rows]
    return SearchResponses(items=items, total=total)
