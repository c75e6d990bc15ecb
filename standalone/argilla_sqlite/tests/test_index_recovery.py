"""The text index is right after whatever happened to the server, to the index file or to the database."""

import shutil
import signal
import sqlite3
import threading
from contextlib import closing

import httpx

from api import LABEL_QUESTION, TEXT_FIELD, Dataset
from stack import Stack, wait_until

BATCH_RECORDS = 100


def records(first: int, word: str, count: int = BATCH_RECORDS) -> list[dict[str, object]]:
    return [
        {"external_id": f"n{number}", "fields": {"body": f"{word} number{number}"}}
        for number in range(first, first + count)
    ]


def publish(owner: httpx.Client) -> Dataset:
    return Dataset.publish(owner, fields=[TEXT_FIELD], questions=[LABEL_QUESTION])


def total(dataset: Dataset, query: str) -> int:
    return int(dataset.search({"query": {"text": {"q": query}}}, limit=1)["total"])


def committed(stack: Stack, dataset_id: str) -> list[str]:
    """Return the texts in the database itself."""
    with closing(sqlite3.connect(stack.database)) as connection:
        rows = connection.execute(
            "SELECT json_extract(fields, '$.body') FROM records WHERE dataset_id = ?", (dataset_id.replace("-", ""),)
        )
        return [text for (text,) in rows]


def assert_index_is_right(stack: Stack, dataset: Dataset, *words: str) -> None:
    texts = committed(stack, dataset.id)
    assert texts
    for word in words:
        assert total(dataset, word) == sum(word in text.split() for text in texts), word
    assert total(dataset, "-nosuchword") == len(texts)


def test_server_killed_in_the_middle_of_bulk_writes(stack: Stack) -> None:
    stack.start()
    with stack.client() as owner:
        dataset = publish(owner)
        dataset.upsert(records(0, "first"))
        assert total(dataset, "first") == BATCH_RECORDS
        written = threading.Event()

        def write_until_killed() -> None:
            with stack.client() as writer:
                view = Dataset(writer, dataset.id)
                try:
                    for batch in range(10_000):
                        # New records and changed texts, so that the index is behind in both ways.
                        view.upsert(records(BATCH_RECORDS * (batch // 2), "changed" if batch % 2 else "first"))
                        written.set()
                except httpx.TransportError:
                    return  # the server is dead, as intended

        def search_until_killed() -> None:
            with stack.client() as reader:
                view = Dataset(reader, dataset.id)
                try:
                    while True:
                        total(view, "changed")  # indexes what was written meanwhile, so the kill may hit that too
                except httpx.TransportError:
                    return

        threads = [threading.Thread(target=write_until_killed), threading.Thread(target=search_until_killed)]
        for thread in threads:
            thread.start()
        assert written.wait(timeout=60)
        wait_until(lambda: len(committed(stack, dataset.id)) >= 5 * BATCH_RECORDS, "five batches of records")
        assert stack.stop(signal.SIGKILL) == -signal.SIGKILL
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive()

    stack.start()
    with stack.client() as owner:
        assert_index_is_right(stack, Dataset(owner, dataset.id), "first", "changed")


def test_index_file_deleted_replaced_damaged_or_of_another_version(stack: Stack) -> None:
    stack.start()
    with stack.client() as owner:
        dataset = publish(owner)
        dataset.upsert(records(0, "old"))
        assert total(dataset, "old") == BATCH_RECORDS

        # Deleted while the server runs.
        stack.index.unlink()
        assert_index_is_right(stack, dataset, "old")
        assert stack.index.exists()

        # Overwritten while the server is down.
        stack.stop()
        outdated = stack.home / "outdated"
        shutil.copy(stack.index, outdated)
        stack.index.write_bytes(b"this is no database" * 1000)
        stack.start()
        assert_index_is_right(stack, dataset, "old")
        dataset.upsert(records(0, "new", count=10))
        dataset.upsert(records(BATCH_RECORDS, "late"))
        assert_index_is_right(stack, dataset, "old", "new", "late")

        # An older copy put back: texts changed and rows were written that it knows nothing of.
        stack.stop()
        shutil.copy(outdated, stack.index)
        with closing(sqlite3.connect(stack.database)) as database, database:
            # Behind Argilla's back, without a new time of change.
            database.execute(
                "UPDATE records SET fields = json_set(fields, '$.body', 'secret') WHERE external_id = ?", ("n50",)
            )
            database.execute("DELETE FROM records WHERE external_id = ?", ("n51",))
        stack.start()
        assert_index_is_right(stack, dataset, "old", "new", "late", "secret", "number51")
        assert dataset.text("secret") == ["n50"]

        # Written by another version of the index.
        stack.stop()
        with closing(sqlite3.connect(stack.index)) as index, index:
            index.execute("PRAGMA user_version = 999")
            index.execute("DELETE FROM text_documents")
        stack.start()
        assert_index_is_right(stack, dataset, "old", "new", "late", "secret")


def test_reindex_command_while_the_server_runs(stack: Stack) -> None:
    stack.start()
    with stack.client() as owner:
        dataset = publish(owner)
        dataset.upsert(records(0, "word"))
        assert total(dataset, "word") == BATCH_RECORDS
        stack.run("search-engine", "reindex", "--dataset-id", dataset.id)
        assert_index_is_right(stack, dataset, "word")
