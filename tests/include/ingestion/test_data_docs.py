"""Data Docs in the lake: pages and an index that can be written again and again."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from include.ingestion import data_docs
from include.ingestion.contract import Contract
from include.lake import Lake
from include.project import Project
from tests.include.conftest import ProjectFactory

NOW = datetime(2026, 1, 1, 10, tzinfo=UTC)
EXPECTATION = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "text", "value_set": ["a"]}}


@pytest.fixture
def project(make_project: ProjectFactory) -> Project:
    return make_project(title="Mails & <more>", validation={"expectations": [EXPECTATION]})


def result_of(project: Project, *texts: str) -> dict[str, Any]:
    contract = Contract(project)
    columns = pa.table({"text": list(texts), "id": [str(n) for n in range(len(texts))]})
    return contract.check_batch([contract.collect(columns)], [contract.check(columns).results]).result


def publish(project: Project, lake: Lake, batch: int, *texts: str) -> str:
    at = NOW + timedelta(minutes=batch)
    return data_docs.publish(project, lake, batch, result_of(project, *texts), validated_at=at)


def read(lake: Lake, path: str) -> str:
    data = lake.files.get(path)
    assert data is not None
    return data.decode()


def test_a_batch_has_a_page_and_a_line_in_the_index(project: Project, lake: Lake):
    uri = publish(project, lake, 7, "a", "<script>b</script>")
    assert uri == lake.files.uri("data_docs/mails/validations/00000007.html")
    page = read(lake, data_docs.page_path(project, 7))
    assert "Mails &amp; &lt;more&gt;: ingest batch 7" in page
    assert "&lt;script&gt;b&lt;/script&gt;" in page
    assert "<script" not in page
    assert 'href="../index.html"' in page
    index = read(lake, data_docs.index_path(project))
    assert 'href="validations/00000007.html"' in index
    assert "2026-01-01 10:07 UTC" in index
    assert "0 met · 1 not met" in index
    assert "Passed in part" in index


def test_publishing_again_changes_nothing(project: Project, lake: Lake):
    publish(project, lake, 1, "a")
    publish(project, lake, 2, "b")
    paths = [data_docs.page_path(project, 1), data_docs.index_path(project), "data_docs/mails/index.json"]
    before = [read(lake, path) for path in paths]
    publish(project, lake, 1, "a")
    assert [read(lake, path) for path in paths] == before


def test_the_index_lists_the_newest_batches_first(project: Project, lake: Lake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(data_docs, "LISTED_BATCHES", 3)
    for batch in (3, 1, 2, 5, 4):
        publish(project, lake, batch, "a")
    listed = json.loads(read(lake, "data_docs/mails/index.json"))
    assert [one["batch"] for one in listed] == [5, 4, 3]
    index = read(lake, data_docs.index_path(project))
    assert index.index("Batch 5") < index.index("Batch 4") < index.index("Batch 3")
    assert "Batch 2" not in index
    assert "The newest 3 batches." in index


def test_committed_batches_are_published_from_what_was_staged(project: Project, lake: Lake):
    from include.errors import StorageError
    from include.ingestion.planning import stage_path

    for batch in (7, 8):
        lake.files.create_json(stage_path(project, batch, "report.json"), {"validation": result_of(project, "a")})
        lake.files.create_json(stage_path(project, batch, "resolved.json"), {"committed_at": NOW.isoformat()})
    pages = data_docs.publish_committed(project, lake, [7, 8])
    assert pages == [lake.files.uri(data_docs.page_path(project, batch)) for batch in (7, 8)]
    assert "Batch 8" in read(lake, data_docs.index_path(project))
    with pytest.raises(StorageError, match="ingest batch 9"):
        data_docs.publish_committed(project, lake, [9])
