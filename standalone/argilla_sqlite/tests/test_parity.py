"""One list of searches, run through Argilla's HTTP API against every engine that can be reached.

The expected answers are those of Elasticsearch in stock Argilla 2.8.0. `sqlite` always runs; Elasticsearch and
OpenSearch run when ARGILLA_PARITY_ELASTICSEARCH_URL or ARGILLA_PARITY_OPENSEARCH_URL names one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from api import LABEL_QUESTION, TEXT_FIELD, Dataset, Json, answer, checked, create_annotator, workspace_id
from stack import Stack

OPTIONS = [{"value": v, "text": v} for v in ("a", "b", "c")]
QUESTIONS: list[Json] = [
    LABEL_QUESTION,
    {"name": "topics", "settings": {"type": "multi_label_selection", "options": OPTIONS}},
    {"name": "stars", "settings": {"type": "rating", "options": [{"value": v} for v in range(1, 6)]}},
    {"name": "why", "settings": {"type": "text", "use_markdown": False}},
]
FIELDS: list[Json] = [
    TEXT_FIELD,
    {"name": "note", "settings": {"type": "text", "use_markdown": False}},
    {"name": "talk", "settings": {"type": "chat", "use_markdown": False}},
    {"name": "extra", "settings": {"type": "custom", "template": "<p></p>", "advanced_mode": False}},
]
# The quote, the dot and the accent are what a JSON path could stumble over.
PLACE = 'the "place" d.é'
METADATA: list[Json] = [
    {"name": "source", "settings": {"type": "terms"}, "visible_for_annotators": True},
    {"name": PLACE, "settings": {"type": "terms"}, "visible_for_annotators": True},
    {"name": "length", "settings": {"type": "integer"}, "visible_for_annotators": True},
    {"name": "score", "settings": {"type": "float"}, "visible_for_annotators": True},
]
VECTORS: list[Json] = [{"name": "v", "dimensions": 3}]


def suggestion(question: str, value: Any, score: Any = None, agent: str | None = None) -> Json:
    return {"question": question, "value": value, "score": score, "agent": agent, "type": "model"}


RECORDS: list[Json] = [
    {
        "external_id": "r1",
        "fields": {"body": "The quick brown fox jumps over the lazy dog", "note": "classic pangram"},
        "metadata": {"source": ["web", "book"], "length": 43, "score": 0.1},
        "suggestions": [suggestion("label", "ham", 0.9, "m1"), suggestion("topics", ["a", "b"], [0.5, 0.7], "m1")],
        "vectors": {"v": [1, 0, 0]},
    },
    {
        "external_id": "r2",
        "fields": {"body": "Quick e-mail from joe@example.com about v2.0", "note": "brown paper"},
        "metadata": {"source": "mail", "length": 7, PLACE: "Übersee"},
        "suggestions": [suggestion("label", "spam", 0.2, "m2"), suggestion("stars", 2, 0.3, "m2")],
        "vectors": {"v": [0.9, 0.1, 0]},
    },
    {
        "external_id": "r3",
        "fields": {"body": "I can't say; the dog is not lazy", "note": "Weather in Zürich"},
        "metadata": {"source": "web", "length": 1000, "score": -2.5},
        "suggestions": [suggestion("label", "spam", 0.6, "m1"), suggestion("stars", 5, 0.8, "m1")],
        "vectors": {"v": [0, 1, 0]},
    },
    {
        "external_id": "r4",
        "fields": {
            "body": "東京タワー is tall",
            "talk": [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "general kenobi"}],
        },
        "metadata": {"source": "web", "score": 3.25},
        "suggestions": [suggestion("topics", ["c"], [0.1], "m3")],
        "vectors": {"v": [-1, 0, 0]},
    },
    {
        "external_id": "r5",
        "fields": {"body": "foxtrot 3.14 http://docs.example.org/x", "extra": {"title": "Hidden treasure", "n": 5}},
        "suggestions": [suggestion("why", "because")],
        "vectors": {"v": [0, 0, 1]},
    },
    {"external_id": "r6", "fields": {"body": "nothing in common"}, "metadata": {"length": 7, "score": 0.1}},
]
ALL = ["r1", "r2", "r3", "r4", "r5", "r6"]


@dataclass
class World:
    """The dataset as its owner, and as two annotators of whom each has answered some records."""

    owner: Dataset
    ann: Dataset
    bob: Dataset
    ids: dict[str, str]


@pytest.fixture(scope="module")
def world(any_engine: Stack) -> Iterator[World]:
    with any_engine.client() as owner:
        users = [create_annotator(owner, workspace_id(owner)) for _ in range(2)]
        dataset = Dataset.publish(owner, fields=FIELDS, questions=QUESTIONS, metadata=METADATA, vectors=VECTORS)
        question_ids = dataset.question_ids()
        for record in RECORDS:
            for item in record.get("suggestions", []):
                if "question" in item:
                    item["question_id"] = question_ids[item["question"]]
        ids = dataset.upsert(RECORDS)
        with any_engine.client(users[0]["api_key"]) as ann, any_engine.client(users[1]["api_key"]) as bob:
            answer(ann, ids["r1"], label="ham", stars=5, topics=["a", "c"])
            answer(ann, ids["r2"], status="draft", label="spam", stars=1)
            answer(ann, ids["r3"], status="discarded")
            answer(bob, ids["r1"], label="spam", stars=2)
            answer(bob, ids["r4"], label="spam", stars=4)
            yield World(dataset, Dataset(ann, dataset.id), Dataset(bob, dataset.id), ids)


@pytest.mark.parametrize(
    ("query", "field", "expected"),
    [
        ("fox", None, ["r1"]),
        ("FOX", None, ["r1"]),
        ("quick brown", None, ["r1", "r2"]),  # r2 has one word in each of two fields
        ("quick brown", "body", ["r1"]),
        ("fox | e", None, ["r1", "r2"]),
        ("quick -fox", None, ["r2"]),
        ("quick - fox", None, ["r1"]),  # a lone sign negates nothing
        ("-quick", None, ["r3", "r4", "r5", "r6"]),
        ("--quick", None, ["r1", "r2"]),
        ("nothing | -the", None, ["r2", "r4", "r5", "r6"]),
        ('"lazy dog"', None, ["r1"]),
        ('"dog lazy"', None, []),
        ("lazy dog", None, ["r1", "r3"]),
        ("fox*", None, ["r1", "r5"]),
        ("fo* -foxtrot", None, ["r1"]),
        ("(quick | lazy) dog", None, ["r1", "r3"]),
        ("quick | lazy dog", None, ["r1", "r3"]),  # read from the left: (quick | lazy) dog
        ("lazy+dog", None, ["r1", "r3"]),
        ("*", None, ALL),
        ("", None, []),
        ("!!!", None, []),
        ('"', None, []),
        ("((fox", None, ["r1"]),
        ("fox)", None, ["r1"]),
        ("\\*", None, []),
        ("e-mail", None, ["r2"]),
        ("e-ma*", None, []),  # the start of a word is not split into words
        ("example.com", None, ["r2"]),
        ("example", None, []),  # a host name is one word
        ("example*", None, ["r2"]),
        ("docs.example.org", None, ["r5"]),
        ("v2.0", None, ["r2"]),
        ("3.14", None, ["r5"]),
        ("can't", None, ["r3"]),
        ("zürich", None, ["r3"]),
        ("zurich", None, []),  # accents count
        ("東京", None, ["r4"]),
        ("タワー", None, ["r4"]),
        ("kenobi", "talk", ["r4"]),
        ("assistant", "talk", ["r4"]),
        ("kenobi", "body", []),
        ('"there general"', "talk", []),  # a phrase does not run on into the next message
        ("hello kenobi", "talk", ["r4"]),
        ("treasure", "extra", ["r5"]),
        ("treasure", None, ["r5"]),
    ],
)
def test_text_query(world: World, query: str, field: str | None, expected: list[str]) -> None:
    assert world.owner.text(query, field) == expected


def test_text_results_come_best_first_with_scores(world: World) -> None:
    page = world.owner.search({"query": {"text": {"q": "quick | fox | jumps"}}})
    scores = [item["query_score"] for item in page["items"]]
    assert [item["record"]["external_id"] for item in page["items"]] == ["r1", "r2"]
    assert scores == sorted(scores, reverse=True)
    assert all(score > 0 for score in scores)


METADATA_SCOPES = {
    name: {"entity": "metadata", "metadata_property": name} for name in ("source", PLACE, "length", "score")
}


def terms(scope: Json, *values: Any) -> Json:
    return {"type": "terms", "scope": scope, "values": list(values)}


def between(scope: Json, ge: Any = None, le: Any = None) -> Json:
    return {
        "type": "range",
        "scope": scope,
        **({"ge": ge} if ge is not None else {}),
        **({"le": le} if le is not None else {}),
    }


def suggested(question: str, prop: str = "value") -> Json:
    return {"entity": "suggestion", "question": question, "property": prop}


def responded(question: str) -> Json:
    return {"entity": "response", "question": question}


def record(prop: str) -> Json:
    return {"entity": "record", "property": prop}


RESPONSE_STATUS: Json = {"entity": "response", "property": "status"}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([terms(METADATA_SCOPES["source"], "web")], ["r1", "r3", "r4"]),
        ([terms(METADATA_SCOPES["source"], "book", "mail")], ["r1", "r2"]),
        ([terms(METADATA_SCOPES["source"], "we")], []),
        ([terms(METADATA_SCOPES[PLACE], "Übersee")], ["r2"]),
        ([terms(METADATA_SCOPES["length"], "7")], ["r2", "r6"]),
        ([between(METADATA_SCOPES["length"], ge=7, le=43)], ["r1", "r2", "r6"]),
        ([between(METADATA_SCOPES["length"], ge=44)], ["r3"]),
        ([between(METADATA_SCOPES["score"], le=0)], ["r3"]),
        ([between(METADATA_SCOPES["score"], ge=-2.5, le=3.25)], ["r1", "r3", "r4", "r6"]),
        ([terms(METADATA_SCOPES["source"], "web"), between(METADATA_SCOPES["score"], ge=0)], ["r1", "r4"]),
        ([terms(suggested("label"), "spam")], ["r2", "r3"]),
        ([terms(suggested("topics"), "b", "c")], ["r1", "r4"]),
        ([terms(suggested("stars"), "5")], ["r3"]),
        ([between(suggested("stars"), ge=2, le=4)], ["r2"]),
        ([terms(suggested("why"), "because")], []),  # texts are not indexed as values
        ([between(suggested("label", "score"), ge=0.5)], ["r1", "r3"]),
        ([between(suggested("topics", "score"), ge=0.6)], ["r1"]),
        ([terms(suggested("label", "agent"), "m1")], ["r1", "r3"]),
        ([terms(suggested("topics", "type"), "model")], ["r1", "r4"]),
        ([terms(responded("label"), "spam")], ["r1", "r2", "r4"]),
        ([terms(responded("label"), "ham")], ["r1"]),
        ([terms(responded("topics"), "c")], ["r1"]),
        ([between(responded("stars"), ge=4)], ["r1", "r4"]),
        ([terms(RESPONSE_STATUS, "submitted")], ["r1", "r4"]),
        ([terms(RESPONSE_STATUS, "draft", "discarded")], ["r2", "r3"]),
        ([terms(RESPONSE_STATUS, "pending")], ["r5", "r6"]),
        ([terms(RESPONSE_STATUS, "pending", "draft")], ["r2", "r5", "r6"]),
        ([terms(record("status"), "completed")], ["r1", "r4"]),
        ([terms(record("status"), "pending")], ["r2", "r3", "r5", "r6"]),
        ([terms(record("external_id"), "r2", "r9")], ["r2"]),
        ([between(record("external_id"), ge="r3", le="r5")], ["r3", "r4", "r5"]),
        ([between(record("inserted_at"), ge="2020-01-01T00:00:00")], ALL),
        ([between(record("inserted_at"), le="2020-01-01T00:00:00Z")], []),
        ([between(record("inserted_at"), ge="2020-01-01", le="2999-01-01")], ALL),
        ([between(record("updated_at"), ge=1577836800000)], ALL),
    ],
)
def test_filter(world: World, filters: list[Json], expected: list[str]) -> None:
    assert sorted(world.owner.found({"filters": {"and": filters}})) == expected


@pytest.mark.parametrize(
    ("statuses", "of_ann", "of_bob"),
    [
        (["pending"], ["r4", "r5", "r6"], ["r2", "r3", "r5", "r6"]),
        (["submitted"], ["r1"], ["r1", "r4"]),
        (["draft"], ["r2"], []),
        (["discarded"], ["r3"], []),
        (["pending", "submitted"], ["r1", "r4", "r5", "r6"], ALL),
    ],
)
def test_queue_of_each_user(world: World, statuses: list[str], of_ann: list[str], of_bob: list[str]) -> None:
    body = {"filters": {"and": [terms(RESPONSE_STATUS, *statuses)]}}
    assert sorted(world.ann.found(body, me=True)) == of_ann
    assert sorted(world.bob.found(body, me=True)) == of_bob


def test_response_filters_look_at_the_users_own_answers(world: World) -> None:
    body = {"filters": {"and": [terms(responded("label"), "spam")]}}
    assert sorted(world.ann.found(body, me=True)) == ["r2"]
    assert sorted(world.bob.found(body, me=True)) == ["r1", "r4"]


def test_record_id_filter(world: World) -> None:
    body = {"filters": {"and": [terms(record("id"), world.ids["r3"], "00000000-0000-0000-0000-000000000000", "x")]}}
    assert world.owner.found(body) == ["r3"]


def test_date_of_change_filter_is_exact(world: World) -> None:
    page = world.owner.search({"filters": {"and": [terms(record("external_id"), "r6")]}})
    changed = page["items"][0]["record"]["updated_at"]
    assert "r6" in world.owner.found({"filters": {"and": [between(record("updated_at"), ge=changed, le=changed)]}})


def test_text_and_filter_and_sort_together(world: World) -> None:
    body = {
        "query": {"text": {"q": "dog"}},
        "filters": {"and": [terms(METADATA_SCOPES["source"], "web")]},
        "sort": [{"scope": METADATA_SCOPES["length"], "order": "desc"}],
    }
    assert world.owner.found(body) == ["r3", "r1"]


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ([(METADATA_SCOPES["length"], "asc"), (record("external_id"), "asc")], ["r2", "r6", "r1", "r3", "r4", "r5"]),
        ([(METADATA_SCOPES["length"], "desc"), (record("external_id"), "desc")], ["r3", "r1", "r6", "r2", "r5", "r4"]),
        ([(METADATA_SCOPES["score"], "asc"), (record("external_id"), "asc")], ["r3", "r1", "r6", "r4", "r2", "r5"]),
        ([(METADATA_SCOPES["source"], "asc"), (record("external_id"), "asc")], ["r1", "r2", "r3", "r4", "r5", "r6"]),
        ([(METADATA_SCOPES["source"], "desc"), (record("external_id"), "desc")], ["r4", "r3", "r1", "r2", "r6", "r5"]),
        ([(suggested("label", "score"), "desc"), (record("external_id"), "asc")], ["r1", "r3", "r2", "r4", "r5", "r6"]),
        ([(suggested("topics", "score"), "asc"), (record("external_id"), "asc")], ["r4", "r1", "r2", "r3", "r5", "r6"]),
        ([(suggested("stars"), "desc"), (record("external_id"), "asc")], ["r3", "r2", "r1", "r4", "r5", "r6"]),
        ([(responded("stars"), "desc"), (record("external_id"), "asc")], ["r4", "r1", "r2", "r3", "r5", "r6"]),
        ([(record("status"), "asc"), (record("external_id"), "desc")], ["r4", "r1", "r6", "r5", "r3", "r2"]),
        ([(record("external_id"), "desc")], ["r6", "r5", "r4", "r3", "r2", "r1"]),
    ],
)
def test_sort(world: World, orders: list[tuple[Json, str]], expected: list[str]) -> None:
    body = {"sort": [{"scope": scope, "order": order} for scope, order in orders]}
    assert world.owner.found(body) == expected
    pages = [world.owner.found(body, limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [name for page in pages for name in page] == expected


def test_each_user_has_a_random_order_that_stays_the_same_over_pages(world: World) -> None:
    orders = []
    for view in (world.ann, world.bob):
        order = view.found({}, me=True)
        assert sorted(order) == ALL
        assert [name for offset in range(6) for name in view.found({}, me=True, limit=1, offset=offset)] == order
        orders.append(order)


@pytest.mark.parametrize(
    ("vector", "filters", "expected"),
    [
        ({"value": [1, 0, 0]}, None, ["r1", "r2"]),
        ({"value": [10, 0, 0]}, None, ["r1", "r2"]),
        ({"value": [1, 0, 0], "order": "least_similar"}, None, ["r4"]),
        ({"value": [1, 0, 0]}, [terms(METADATA_SCOPES["source"], "mail")], ["r2"]),
        ({"value": [0, 0.9, 0.1]}, None, ["r3", "r5"]),
    ],
)
def test_similarity(world: World, vector: Json, filters: list[Json] | None, expected: list[str]) -> None:
    body: Json = {"query": {"vector": {"name": "v", **vector}}}
    if filters:
        body["filters"] = {"and": filters}
    page = world.owner.search(body, limit=len(expected))
    assert [item["record"]["external_id"] for item in page["items"]] == expected


def test_similarity_score_is_half_of_one_plus_cosine(world: World) -> None:
    page = world.owner.search({"query": {"vector": {"name": "v", "value": [1, 0, 0]}}}, limit=5)
    scores = {item["record"]["external_id"]: item["query_score"] for item in page["items"]}
    cosine_r2 = 0.9 / (0.81 + 0.01) ** 0.5
    expected = {"r1": 1.0, "r2": (1 + cosine_r2) / 2, "r3": 0.5, "r5": 0.5, "r4": 0.0}
    assert scores == pytest.approx(expected, abs=1e-5)


def test_similar_to_a_record_leaves_it_out(world: World) -> None:
    body = {"query": {"vector": {"name": "v", "record_id": world.ids["r1"]}}}
    assert world.owner.found(body, limit=1) == ["r2"]
    assert "r1" not in [item["record"]["external_id"] for item in world.owner.search(body, limit=50)["items"]]


def test_similarity_together_with_text(world: World) -> None:
    body = {"query": {"vector": {"name": "v", "value": [1, 0, 0]}, "text": {"q": "dog"}}}
    assert world.owner.found(body, limit=2) == ["r1", "r3"]


def test_similarity_pages(world: World) -> None:
    body = {"query": {"vector": {"name": "v", "value": [0.8, 0.3, 0.1]}}}
    whole = [item["record"]["external_id"] for item in world.owner.search(body, limit=5)["items"]]
    assert [name for offset in range(5) for name in world.owner.found(body, limit=1, offset=offset)] == whole


def test_metadata_metrics(world: World) -> None:
    properties = checked(world.owner.client.get(f"/me/datasets/{world.owner.id}/metadata-properties"))["items"]
    metrics = {
        prop["name"]: checked(world.owner.client.get(f"/metadata-properties/{prop['id']}/metrics"))
        for prop in properties
    }
    assert metrics["source"]["total"] == 5
    assert metrics["source"]["values"] == [
        {"term": "web", "count": 3},
        {"term": "book", "count": 1},
        {"term": "mail", "count": 1},
    ]
    assert metrics[PLACE]["values"] == [{"term": "Übersee", "count": 1}]
    assert (metrics["length"]["min"], metrics["length"]["max"]) == (7, 1000)
    assert (metrics["score"]["min"], metrics["score"]["max"]) == (-2.5, 3.25)


def test_progress(world: World) -> None:
    progress = checked(world.owner.client.get(f"/datasets/{world.owner.id}/progress"))
    assert {key: progress[key] for key in ("total", "completed", "pending")} == {
        "total": 6,
        "completed": 2,
        "pending": 4,
    }


def test_progress_of_a_user(world: World, any_engine: Stack) -> None:
    metrics = checked(world.ann.client.get(f"/me/datasets/{world.ann.id}/metrics"))["responses"]
    assert (metrics["draft"], metrics["discarded"]) == (1, 1)
    if any_engine.environment["ARGILLA_SEARCH_ENGINE"] == "sqlite":
        # Stock Argilla also counts what others answered on the same records.
        assert metrics == {"total": 6, "submitted": 1, "draft": 1, "discarded": 1, "pending": 3}


def test_every_change_is_seen_by_the_next_search(any_engine: Stack, world: World) -> None:
    """Create, edit, suggest, answer, reopen, delete: the next search knows, without waiting."""
    owner = world.owner.client
    dataset = Dataset.publish(
        owner, fields=[TEXT_FIELD], questions=[LABEL_QUESTION], metadata=METADATA, vectors=VECTORS
    )
    label = dataset.question_ids()["label"]
    fruit = {"external_id": "x", "fields": {"body": "apple"}, "vectors": {"v": [1, 0, 0]}}
    ids = dataset.upsert([fruit, {"external_id": "y", "fields": {"body": "pear"}, "vectors": {"v": [0, 1, 0]}}])
    near_x = {"query": {"vector": {"name": "v", "value": [1, 0, 0]}}}
    assert dataset.text("apple") == ["x"]
    assert dataset.found(near_x, limit=1) == ["x"]

    dataset.upsert([{**fruit, "fields": {"body": "cherry"}, "vectors": {"v": [-1, 0, 0]}}])
    assert dataset.text("apple") == []
    assert dataset.text("cherry") == ["x"]
    assert dataset.found(near_x, limit=1) == ["y"]

    checked(owner.patch(f"/records/{ids['y']}", json={"fields": {"body": "plum"}, "metadata": {"source": "late"}}))
    assert dataset.text("plum") == ["y"]
    assert dataset.found({"filters": {"and": [terms(METADATA_SCOPES["source"], "late")]}}) == ["y"]

    body = {"question_id": label, "value": "ham", "score": 0.5}
    checked(owner.put(f"/records/{ids['x']}/suggestions", json=body))
    assert dataset.found({"filters": {"and": [terms(suggested("label"), "ham")]}}) == ["x"]

    response = answer(owner, ids["x"], label="spam")
    completed = {"filters": {"and": [terms(record("status"), "completed")]}}
    assert dataset.found(completed) == ["x"]
    checked(owner.delete(f"/responses/{response['id']}"))
    assert dataset.found(completed) == []

    dataset.delete([ids["x"]])
    assert dataset.text("cherry") == []
    assert dataset.found({}) == ["y"]
    checked(owner.delete(f"/datasets/{dataset.id}"))
    assert owner.post(f"/datasets/{dataset.id}/records/search", json={}).status_code == httpx.codes.NOT_FOUND


@pytest.mark.parametrize(
    "body",
    [
        {"filters": {"and": [terms(METADATA_SCOPES["length"], "many")]}},
        {"filters": {"and": [between(record("inserted_at"), ge="yesterday")]}},
        {"filters": {"and": [between(RESPONSE_STATUS, ge=1)]}},
        {"query": {"vector": {"name": "v", "value": [1, 2]}}},
        {"query": {"vector": {"name": "v", "value": [0, 0, 0]}}},
        {"query": {"text": {"q": "(" * 40 + "a" + ")" * 40}}},
        {"query": {"text": {"q": "a " * 2000}}},
    ],
)
def test_impossible_search_says_what_is_wrong(world: World, any_engine: Stack, body: Json) -> None:
    if any_engine.environment["ARGILLA_SEARCH_ENGINE"] != "sqlite":
        pytest.skip("stock Argilla answers 500 to what its engine refuses")
    answer = world.owner.client.post(f"/datasets/{world.owner.id}/records/search", json=body)
    assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert len(answer.json()["detail"]) > 20
