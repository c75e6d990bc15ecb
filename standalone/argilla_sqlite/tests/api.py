"""Argilla's HTTP API as its UI and SDK use it. Every call raises on an unexpected answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from stack import WORKSPACE

Json = dict[str, Any]


def checked(response: httpx.Response) -> Any:
    if response.is_error:
        raise AssertionError(
            f"{response.request.method} {response.request.url}: {response.status_code} {response.text}"
        )
    return response.json() if response.content else None


def create_annotator(owner: httpx.Client, workspace_id: str) -> Json:
    name = f"annotator-{uuid4().hex[:8]}"
    body = {"first_name": name, "username": name, "role": "annotator", "password": "password-of-a-test"}
    user: Json = checked(owner.post("/users", json=body))
    checked(owner.post(f"/workspaces/{workspace_id}/users", json={"user_id": user["id"]}))
    return user


def workspace_id(owner: httpx.Client) -> str:
    spaces = checked(owner.get("/me/workspaces"))["items"]
    return next(str(space["id"]) for space in spaces if space["name"] == WORKSPACE)


@dataclass
class Dataset:
    """A published dataset, seen through one user's client."""

    client: httpx.Client
    id: str

    @classmethod
    def publish(
        cls,
        owner: httpx.Client,
        *,
        fields: Sequence[Json],
        questions: Sequence[Json],
        metadata: Sequence[Json] = (),
        vectors: Sequence[Json] = (),
    ) -> "Dataset":
        body = {"name": f"dataset-{uuid4().hex[:8]}", "workspace_id": workspace_id(owner)}
        dataset_id = checked(owner.post("/datasets", json=body))["id"]
        for path, items in (
            ("fields", fields),
            ("questions", questions),
            ("metadata-properties", metadata),
            ("vectors-settings", vectors),
        ):
            for item in items:
                checked(owner.post(f"/datasets/{dataset_id}/{path}", json={"title": item["name"], **item}))
        checked(owner.put(f"/datasets/{dataset_id}/publish"))
        return cls(owner, dataset_id)

    def question_ids(self) -> dict[str, str]:
        questions = checked(self.client.get(f"/datasets/{self.id}/questions"))["items"]
        return {question["name"]: question["id"] for question in questions}

    def upsert(self, items: Sequence[Json]) -> dict[str, str]:
        """Write records; return their ids by external id."""
        written = checked(self.client.put(f"/datasets/{self.id}/records/bulk", json={"items": items}))["items"]
        return {record["external_id"]: record["id"] for record in written}

    def delete(self, record_ids: Iterable[str]) -> None:
        checked(self.client.delete(f"/datasets/{self.id}/records", params={"ids": ",".join(record_ids)}))

    def search(self, body: Json, *, me: bool = False, limit: int = 100, offset: int = 0) -> Json:
        path = f"{'/me' if me else ''}/datasets/{self.id}/records/search"
        found: Json = checked(self.client.post(path, json=body, params={"limit": limit, "offset": offset}))
        return found

    def found(self, body: Json, *, me: bool = False, limit: int = 100, offset: int = 0) -> list[str]:
        """Return the external ids in the order of the answer, after checking its total when it is all on one page."""
        page = self.search(body, me=me, limit=limit, offset=offset)
        names = [item["record"]["external_id"] for item in page["items"]]
        if offset == 0 and len(names) < limit:
            assert page["total"] == len(names)
        return names

    def text(self, query: str, field: str | None = None) -> list[str]:
        return sorted(self.found({"query": {"text": {"q": query, **({"field": field} if field else {})}}}))


def answer(client: httpx.Client, record_id: str, status: str = "submitted", **values: Any) -> Json:
    body = {"status": status, "values": {question: {"value": value} for question, value in values.items()}}
    response: Json = checked(client.post(f"/records/{record_id}/responses", json=body))
    return response


TEXT_FIELD: Json = {"name": "body", "required": True, "settings": {"type": "text", "use_markdown": False}}
LABEL_QUESTION: Json = {
    "name": "label",
    "required": True,
    "settings": {"type": "label_selection", "options": [{"value": v, "text": v} for v in ("spam", "ham")]},
}
