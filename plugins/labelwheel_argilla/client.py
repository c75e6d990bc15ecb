"""A small typed client of Argilla's REST API (v1, server 2.8), on httpx; no Airflow and no Argilla SDK in it.

The SDK flattens responses (no ids, no times), drops empty ones, and costs seconds of imports; the loop needs all three.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from include.errors import LabelingError
from include.labeling.service import Json, LabelingNotFoundError, LabelingRefusedError, LabelingUnavailableError

PATIENCE_SECONDS = 120.0  # Argilla restarts in 10 to 30 seconds, its search engine in a minute
FIRST_PAUSE_SECONDS = 0.3
LONGEST_PAUSE_SECONDS = 5.0
BULK_LIMIT = 500  # records per bulk call; Argilla refuses more
DELETE_LIMIT = 100  # records per deletion; as above
API_KEY_HEADER = "X-Argilla-Api-Key"
_IDEMPOTENT = frozenset({"GET", "PUT", "PATCH", "DELETE"})


class ArgillaClient:
    """Argilla as seen by one API key. Use it as a context manager, or call ``close()``.

    Requests that may be repeated (everything but creations and bulk writes) are tried again while Argilla is away, each
    time on a fresh connection: Argilla drops the keep-alive connection after an internal error. A connection that was
    never made is retried for the others too.

    :param url: the server's root, for example ``http://127.0.0.1:6900``.
    :param api_key: the key of an owner, or of an admin of the workspaces used.
    :param timeout_seconds: per HTTP request, not per call.
    :param patience_seconds: no new attempt of a call is begun after this time.
    :raises LabelingError: from every method, when the server is away (``LabelingUnavailableError``) or refuses us.
    """

    def __init__(
        self, url: str, api_key: str, *, timeout_seconds: float = 60.0, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.url = url.rstrip("/")
        self._headers = {API_KEY_HEADER: api_key}
        self._timeout = httpx.Timeout(timeout_seconds, connect=min(5.0, timeout_seconds))
        self._patience_seconds = patience_seconds
        self._http: httpx.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ArgillaClient({self.url!r})"

    def close(self) -> None:
        """Give the connections back; the client opens new ones when it is used again."""
        if self._http is not None:
            self._http.close()
            self._http = None

    # Who we are

    def version(self) -> str:
        """The server's version, for example ``2.8.0``."""
        try:
            return str(self._call("GET", "/version")["version"])
        except (LabelingNotFoundError, KeyError) as error:
            raise foreign(self.url) from error

    def me(self) -> Json:
        """The user the key belongs to: ``username``, ``role``, ``id``."""
        return self._call("GET", "/me")

    def workspaces(self) -> list[Json]:
        """Workspaces the user may see."""
        return self._items("/me/workspaces")

    def find_workspace(self, name: str) -> Json | None:
        """The workspace of that name, or None when there is none the user may see."""
        return next((one for one in self.workspaces() if one["name"] == name), None)

    def usernames(self, workspace_id: str) -> dict[str, str]:
        """User id → user name: members of the workspace, ourselves, and for an owner's key everyone."""
        me = self.me()
        path = "/users" if me["role"] == "owner" else f"/workspaces/{workspace_id}/users"
        return {str(one["id"]): str(one["username"]) for one in [*self._items(path), me]}

    # Datasets and their settings

    def find_dataset(self, workspace_id: str, name: str) -> Json | None:
        """The dataset of that name in the workspace, or None."""
        found = self._items("/me/datasets", params={"workspace_id": workspace_id})
        return next((one for one in found if one["name"] == name and one["workspace_id"] == workspace_id), None)

    def get_dataset(self, dataset_id: str) -> Json:
        """One dataset.

        :raises LabelingNotFoundError: when it was deleted.
        """
        return self._call("GET", f"/datasets/{dataset_id}")

    def create_dataset(self, settings: Json) -> Json:
        """Create an unpublished dataset."""
        return self._call("POST", "/datasets", json=settings)

    def update_dataset(self, dataset_id: str, changes: Json) -> None:
        """Change guidelines or distribution."""
        self._call("PATCH", f"/datasets/{dataset_id}", json=changes)

    def publish_dataset(self, dataset_id: str) -> None:
        """Open the dataset for records and annotators."""
        self._call("PUT", f"/datasets/{dataset_id}/publish")

    def list_fields(self, dataset_id: str) -> list[Json]:
        """All fields of a dataset."""
        return self._items(f"/datasets/{dataset_id}/fields")

    def list_questions(self, dataset_id: str) -> list[Json]:
        """All questions of a dataset."""
        return self._items(f"/datasets/{dataset_id}/questions")

    def list_metadata_properties(self, dataset_id: str) -> list[Json]:
        """All metadata properties of a dataset."""
        return self._items(f"/me/datasets/{dataset_id}/metadata-properties")

    def list_vectors_settings(self, dataset_id: str) -> list[Json]:
        """All kinds of vectors of a dataset."""
        return self._items(f"/datasets/{dataset_id}/vectors-settings")

    def create_vectors_settings(self, dataset_id: str, settings: Json) -> None:
        """Add a kind of vectors: ``name``, ``title``, ``dimensions``."""
        self._call("POST", f"/datasets/{dataset_id}/vectors-settings", json=settings)

    def delete_vectors_settings(self, settings_id: str) -> None:
        """Remove a kind of vectors with all vectors of that kind."""
        self._call("DELETE", f"/vectors-settings/{settings_id}")

    def create_field(self, dataset_id: str, settings: Json) -> None:
        """Add a field to an unpublished dataset."""
        self._call("POST", f"/datasets/{dataset_id}/fields", json=settings)

    def create_question(self, dataset_id: str, settings: Json) -> None:
        """Add a question to an unpublished dataset."""
        self._call("POST", f"/datasets/{dataset_id}/questions", json=settings)

    def create_metadata_property(self, dataset_id: str, settings: Json) -> None:
        """Add a metadata property."""
        self._call("POST", f"/datasets/{dataset_id}/metadata-properties", json=settings)

    def update_field(self, field_id: str, changes: Json) -> None:
        """Change a field's title or markdown setting."""
        self._call("PATCH", f"/fields/{field_id}", json=changes)

    def update_question(self, question_id: str, changes: Json) -> None:
        """Change a question's title, description, or the texts and order of its options."""
        self._call("PATCH", f"/questions/{question_id}", json=changes)

    def update_metadata_property(self, property_id: str, changes: Json) -> None:
        """Change a metadata property's title or visibility."""
        self._call("PATCH", f"/metadata-properties/{property_id}", json=changes)

    # Records and answers

    def upsert_records(self, dataset_id: str, records: Sequence[Json]) -> None:
        """Insert or update up to 500 records by ``external_id``; answers already given stay.

        A write that got no answer is not repeated here: the caller looks first whether it happened.

        :raises LabelingRefusedError: nothing was written; ``position`` names the first bad record.
        :raises LabelingUnavailableError: all of it was written, or nothing.
        """
        if len(records) > BULK_LIMIT:
            raise ValueError(f"at most {BULK_LIMIT} records per call, got {len(records)}")
        # Argilla sends all records back. To compress them would cost its only process a seventh of the time of a write.
        headers = {"Accept-Encoding": "identity"}
        path = f"/datasets/{dataset_id}/records/bulk"
        self._call("PUT", path, json={"items": list(records)}, headers=headers, repeatable=False)

    def delete_records(self, dataset_id: str, record_ids: Sequence[str]) -> None:
        """Remove up to 100 records by Argilla's own ids, with their answers; those that are gone do not matter."""
        if len(record_ids) > DELETE_LIMIT:
            raise ValueError(f"at most {DELETE_LIMIT} records per call, got {len(record_ids)}")
        if record_ids:
            self._call("DELETE", f"/datasets/{dataset_id}/records", params={"ids": ",".join(record_ids)})

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
        """One page of records (all filters must hold), and the total number that match.

        :param include: of ``responses``, ``suggestions``, ``vectors``.
        :param limit: at most 1000.
        """
        body: Json = {}
        if filters:
            body["filters"] = {"and": list(filters)}
        if sort:
            body["sort"] = list(sort)
        found = self._call(
            "POST",
            f"/datasets/{dataset_id}/records/search",
            json=body,
            params={"offset": offset, "limit": limit, **({"include": ",".join(include)} if include else {})},
            repeatable=True,
        )
        return [item["record"] for item in found["items"]], int(found["total"])

    def users_progress(self, dataset_id: str) -> list[Json]:
        """Counts of answers by user, record status and answer status."""
        users: list[Json] = self._call("GET", f"/datasets/{dataset_id}/users/progress")["users"]
        return users

    # Plumbing

    def _items(self, path: str, params: Mapping[str, Any] | None = None) -> list[Json]:
        items: list[Json] = self._call("GET", path, params=params)["items"]
        return items

    def _call(
        self,
        method: str,
        path: str,
        *,
        json: Json | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
    ) -> Json:
        repeatable = method in _IDEMPOTENT if repeatable is None else repeatable
        deadline, pause = time.monotonic() + self._patience_seconds, FIRST_PAUSE_SECONDS
        while True:
            last = time.monotonic() + pause > deadline
            try:
                response = self._session().request(method, f"/api/v1{path}", json=json, params=params, headers=headers)
            except httpx.UnsupportedProtocol as error:
                raise malformed(self.url) from error
            except httpx.TransportError as error:
                self.close()
                if last or not (repeatable or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)):
                    raise unreachable(self.url, error) from error
            else:
                if response.status_code < 400:
                    return _body(response)
                if response.status_code >= 500:
                    self.close()
                if response.status_code < 500 or last or not repeatable:
                    raise refusal(self.url, response)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _session(self) -> httpx.Client:
        if self._http is None:
            try:
                self._http = httpx.Client(base_url=self.url, headers=self._headers, timeout=self._timeout)
            except (httpx.InvalidURL, UnicodeEncodeError) as error:
                raise malformed(self.url) from error
        return self._http


def malformed(url: str) -> LabelingError:
    """The connection's host is no URL, or its password cannot be an HTTP header."""
    return LabelingError(
        f"the Argilla connection cannot be used as it is (host {url!r})",
        remedy="Give the server's URL as host, for example http://127.0.0.1:6900, and the API key as password.",
    )


def foreign(url: str) -> LabelingError:
    """Something answered, but it is not Argilla."""
    return LabelingError(
        f"{url} answered, but not as Argilla does",
        remedy="Check that host in the Argilla connection is the URL of an Argilla server.",
    )


def unreachable(url: str, error: Exception) -> LabelingError:
    """No answer came back."""
    if isinstance(error, httpx.UnsupportedProtocol):
        return malformed(url)
    return LabelingUnavailableError(
        f"Argilla at {url} did not answer ({type(error).__name__})",
        remedy="Check that it runs and that host in the Argilla connection is right; then retry.",
    )


def refusal(url: str, response: httpx.Response) -> LabelingError:
    """An error answer as one sentence: key refused, not allowed, not there, bad content, or a server failure."""
    reason, position = _reason(response)
    what = f"{response.request.method} {response.request.url.path}"
    match response.status_code:
        case 401:
            return LabelingError(
                f"Argilla at {url} refused the API key",
                remedy="Put the key of an existing user into the password of the Argilla connection.",
            )
        case 403:
            return LabelingError(
                f"the user of the API key may not do {what} in Argilla",
                remedy="Make the service account an admin and a member of the project's workspace.",
            )
        case 404:
            return LabelingNotFoundError(
                f"Argilla does not have what {what} asks for ({reason})", remedy="Check whether someone deleted it."
            )
        case 422:
            where = "" if position is None else f" item {position} of"
            return LabelingRefusedError(
                f"Argilla refused{where} {what}: {reason}",
                remedy="Correct the data or the project file; a retry does not help.",
                reason=reason,
                position=position,
            )
        case status:
            kind = LabelingUnavailableError if status >= 500 else LabelingError
            said = f"Argilla answered {status} to {what} ({reason})"
            return kind(said, remedy="Look into Argilla's log; then retry.")


def _body(response: httpx.Response) -> Json:
    if not response.content:
        return {}
    try:
        body: Json = response.json()
    except ValueError as error:
        raise foreign(str(response.request.url)) from error
    return body


def _reason(response: httpx.Response) -> tuple[str, int | None]:
    """Argilla's words, shortened, and the position in a bulk request when they name one."""
    try:
        detail = response.json()
    except ValueError:
        return response.reason_phrase or "no reason given", None
    detail = detail.get("detail", detail) if isinstance(detail, dict) else detail
    if isinstance(detail, dict):
        params = detail.get("params") or {}
        errors = params.get("errors")
        if errors:
            place = [part for part in errors[0]["loc"] if part != "body"]
            numbers = [part for part in place[:2] if isinstance(part, int)]
            return f"{'.'.join(map(str, place))}: {errors[0]['msg']}", numbers[0] if numbers else None
        detail = params.get("detail") or params.get("message") or detail.get("message") or detail.get("code") or detail
    text = str(detail)[:500]
    found = re.search(r"position (\d+)", text)
    return text, int(found[1]) if found else None
