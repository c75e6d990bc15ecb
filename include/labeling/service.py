"""What ``include/`` needs from Argilla: a subset of ``labelwheel_argilla.client.ArgillaClient``, and how it fails.

Identifiers are Argilla's UUIDs as text. ``Json`` objects are Argilla's own REST shapes (API v1 of server 2.8).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from include.errors import LabelingError

Json = dict[str, Any]


class LabelingNotFoundError(LabelingError):
    """The addressed dataset, record or user does not exist (any more). A retry does not help."""


class LabelingUnavailableError(LabelingError):
    """No answer, or an internal error of Argilla's: what was asked may or may not have been done. A retry may help."""


class LabelingRefusedError(LabelingError):
    """Argilla understood the request and refuses its content (422). A retry does not help.

    :param reason: Argilla's own words.
    :param position: 0-based position of the refused item in a bulk request, when Argilla named it.
    """

    def __init__(self, what: str, *, remedy: str, reason: str, position: int | None) -> None:
        super().__init__(what, remedy=remedy)
        self.reason = reason
        self.position = position


class LabelingService(Protocol):
    """The labeling server.

    :raises LabelingError: from every method, when the server is away or refuses us.
    """

    def find_workspace(self, name: str) -> Json | None:
        """The workspace of that name, or None when there is none we may see."""
        ...

    def usernames(self, workspace_id: str) -> dict[str, str]:
        """User id → user name, for everyone who may answer in the workspace."""
        ...

    def find_dataset(self, workspace_id: str, name: str) -> Json | None:
        """The dataset of that name, or None."""
        ...

    def get_dataset(self, dataset_id: str) -> Json:
        """One dataset, with ``last_activity_at`` and ``inserted_at``."""
        ...

    def create_dataset(self, settings: Json) -> Json:
        """Create an unpublished dataset."""
        ...

    def update_dataset(self, dataset_id: str, changes: Json) -> None:
        """Change guidelines or distribution."""
        ...

    def publish_dataset(self, dataset_id: str) -> None:
        """Open the dataset for records and annotators."""
        ...

    def list_fields(self, dataset_id: str) -> list[Json]:
        """All fields."""
        ...

    def list_questions(self, dataset_id: str) -> list[Json]:
        """All questions."""
        ...

    def list_metadata_properties(self, dataset_id: str) -> list[Json]:
        """All metadata properties."""
        ...

    def list_vectors_settings(self, dataset_id: str) -> list[Json]:
        """All kinds of vectors: their names and dimensions."""
        ...

    def create_vectors_settings(self, dataset_id: str, settings: Json) -> None:
        """Add a kind of vectors."""
        ...

    def delete_vectors_settings(self, settings_id: str) -> None:
        """Remove a kind of vectors with all vectors of that kind."""
        ...

    def create_field(self, dataset_id: str, settings: Json) -> None:
        """Add a field to an unpublished dataset."""
        ...

    def create_question(self, dataset_id: str, settings: Json) -> None:
        """Add a question to an unpublished dataset."""
        ...

    def create_metadata_property(self, dataset_id: str, settings: Json) -> None:
        """Add a metadata property."""
        ...

    def update_field(self, field_id: str, changes: Json) -> None:
        """Change what may change after publishing: title and markdown."""
        ...

    def update_question(self, question_id: str, changes: Json) -> None:
        """Change what may change after publishing: title, description, texts and order of options."""
        ...

    def update_metadata_property(self, property_id: str, changes: Json) -> None:
        """Change title or visibility."""
        ...

    def upsert_records(self, dataset_id: str, records: Sequence[Json]) -> None:
        """Insert or update up to 500 records by ``external_id``. Is not repeated by itself.

        :raises LabelingRefusedError: nothing was written; ``position`` names the first bad record.
        :raises LabelingUnavailableError: all of it was written, or nothing.
        """
        ...

    def delete_records(self, dataset_id: str, record_ids: Sequence[str]) -> None:
        """Remove up to 100 records, by Argilla's own ids, with their answers; those that are gone do not matter."""
        ...

    def search_records(
        self,
        dataset_id: str,
        *,
        filters: Sequence[Json] = (),
        include: Sequence[str] = (),
        sort: Sequence[Json] = (),
        offset: int = 0,
        limit: int = 1000,
    ) -> tuple[list[Json], int]:
        """One page of records (all filters must hold) and the total number that match."""
        ...

    def users_progress(self, dataset_id: str) -> list[Json]:
        """Counts of answers by user, record status and answer status."""
        ...
