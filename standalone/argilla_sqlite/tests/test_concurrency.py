"""Three annotators and a bulk writer work at once, as on a busy day: no request fails and nothing is lost."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from api import LABEL_QUESTION, TEXT_FIELD, Dataset, answer, checked, create_annotator, workspace_id
from stack import Stack

ANNOTATORS = 3
ANSWERS_EACH = 15
BATCHES = 8
BATCH_RECORDS = 100


def batch(first: int) -> list[dict[str, Any]]:
    return [
        {"external_id": f"n{number}", "fields": {"body": f"word{number % 7} text"}, "vectors": {"v": [1, number]}}
        for number in range(first, first + BATCH_RECORDS)
    ]


def annotate(stack: Stack, dataset_id: str, api_key: str) -> int:
    """Work through one's own queue as the UI does, with a text and a similarity search before each answer."""
    pending = {
        "filters": {
            "and": [{"type": "terms", "scope": {"entity": "response", "property": "status"}, "values": ["pending"]}]
        }
    }
    with stack.client(api_key) as client:
        view = Dataset(client, dataset_id)
        for _ in range(ANSWERS_EACH):
            record = view.search(pending, me=True, limit=1)["items"][0]["record"]
            assert view.search({"query": {"text": {"q": "word3 | text"}}}, me=True, limit=5)["items"]
            assert view.search({"query": {"vector": {"name": "v", "value": [1, 2]}}}, me=True, limit=5)["items"]
            answer(client, record["id"], label="ham")
            checked(client.get(f"/me/datasets/{dataset_id}/metrics"))
        submitted: int = checked(client.get(f"/me/datasets/{dataset_id}/metrics"))["responses"]["submitted"]
        return submitted


def write(stack: Stack, dataset_id: str) -> None:
    with stack.client() as owner:
        view = Dataset(owner, dataset_id)
        for number in range(1, BATCHES):
            view.upsert(batch(number * BATCH_RECORDS))


def test_annotators_and_a_bulk_writer_at_once(any_engine: Stack) -> None:
    with any_engine.client() as owner:
        dataset = Dataset.publish(
            owner, fields=[TEXT_FIELD], questions=[LABEL_QUESTION], vectors=[{"name": "v", "dimensions": 2}]
        )
        dataset.upsert(batch(0))
        users = [create_annotator(owner, workspace_id(owner)) for _ in range(ANNOTATORS)]
        with ThreadPoolExecutor(ANNOTATORS + 1) as pool:
            writing = pool.submit(write, any_engine, dataset.id)
            annotating = [pool.submit(annotate, any_engine, dataset.id, user["api_key"]) for user in users]
            writing.result(timeout=120)
            submitted = [work.result(timeout=120) for work in annotating]

        if any_engine.environment["ARGILLA_SEARCH_ENGINE"] == "sqlite":
            assert submitted == [ANSWERS_EACH] * ANNOTATORS
        assert dataset.search({}, limit=1)["total"] == BATCHES * BATCH_RECORDS
        assert dataset.search({"query": {"text": {"q": "text"}}}, limit=1)["total"] == BATCHES * BATCH_RECORDS
        progress = checked(owner.get(f"/datasets/{dataset.id}/users/progress"))["users"]
        assert sorted(user["completed"]["submitted"] for user in progress) == [ANSWERS_EACH] * ANNOTATORS
