"""Plan, stage and commit against a real S3 server: what lands, what is quarantined and why."""

import gzip
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.errors import ProjectError, QuarantineLimitError, StorageError
from include.ingestion import attempt
from include.ingestion.commit import check_quarantine_limit, commit
from include.ingestion.landing import Landing
from include.ingestion.planning import plan, stage_path
from include.ingestion.stage import stage
from include.lake import Lake, StoreConfig, keys
from include.project import Project, Source
from tests.include.conftest import Bucket, ProjectFactory, s3_client

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def mails(*ids: int, text: str = "text") -> bytes:
    return lines(*({"id": str(number), "text": f"{text} {number}"} for number in ids))


@pytest.fixture
def project(make_project: ProjectFactory, bucket: Bucket) -> Project:
    return make_project(source={"prefix": bucket.prefix})


@pytest.fixture
def landing(bucket: Bucket) -> Landing:
    return Landing(bucket.config, bucket.name, bucket.prefix)


def ingest(project: Project, lake: Lake, landing: Landing) -> dict[str, Any]:
    batches = plan(project, lake, landing, now=NOW)["batches"]
    for batch in batches:
        stage(project, lake, landing, batch, now=NOW)
    return commit(project, lake, batches, now=NOW)


def figures(counts: dict[str, Any]) -> tuple[int, int, int, int]:
    return counts["rows"], counts["records"], counts["duplicates"], counts["quarantined"]


def quarantined(lake: Lake, project: Project) -> list[dict[str, Any]]:
    return lake.read("quarantine", project.name).sort("key", "row_number").to_dicts()


# ---------------------------------------------------------------- the way of good rows


def test_a_record_carries_where_it_came_from(make_project, bucket: Bucket, lake: Lake, landing: Landing):
    project = make_project(
        source={
            "prefix": bucket.prefix,
            "event_time_column": "at",
            "consent_column": "ok",
            "metadata": {"age": {"title": "Age", "type": "integer"}},
        }
    )
    row = {"id": 7, "text": "hello", "at": "2026-02-01T00:00:00Z", "ok": "true", "age": "41", "color": "red"}
    key = bucket.put("a.jsonl", b"\n" + lines(row))
    counts = ingest(project, lake, landing)
    assert figures(counts) == (1, 1, 0, 0)
    assert counts["new_columns"] == ["color"]
    stored = lake.read("records", project.name).row(0, named=True)
    assert stored.pop("state_hash") is not None
    etag = bucket.client.head_object(Bucket=bucket.name, Key=key)["ETag"].strip('"')
    assert stored == {
        "project": "mails",
        "record_id": (record_id := keys.record_id("mails", "7")),
        "shard": record_id[0],
        "revision": 1,
        "content_hash": keys.content_hash({"text": "hello"}),
        "source_id": "7",
        "fields_json": '{"text":"hello"}',
        "metadata_json": '{"age":41,"color":"red"}',
        "event_at": datetime(2026, 2, 1, tzinfo=UTC),
        "ingested_at": NOW,
        "consent": True,
        "bucket": bucket.name,
        "key": key,
        "object_version": etag,
        "row_number": 1,  # the blank line counts as a line
        "ingest_batch": 1,
    }
    ledger = lake.read("objects", project.name).row(0, named=True)
    assert (ledger["key"], ledger["object_version"], ledger["status"]) == (key, etag, "loaded")
    assert (ledger["rows"], ledger["accepted"], ledger["duplicates"], ledger["quarantined"]) == (1, 1, 0, 0)
    assert ledger["size_bytes"] == len(b"\n" + lines(row))
    assert ledger["committed_at"] == NOW


def test_an_object_is_loaded_once_and_an_overwritten_one_again(project, bucket: Bucket, lake: Lake, landing: Landing):
    bucket.put("a.jsonl", mails(1, 2))
    assert figures(ingest(project, lake, landing)) == (2, 2, 0, 0)
    assert plan(project, lake, landing, now=NOW)["batches"] == []
    bucket.put("a.jsonl", mails(1, 2, 3))
    assert figures(ingest(project, lake, landing)) == (3, 1, 2, 0)
    assert plan(project, lake, landing, now=NOW)["batches"] == []
    assert lake.read("records", project.name)["revision"].to_list() == [1, 1, 1]
    assert lake.read("objects", project.name).height == 2


def test_revisions_grow_with_what_changed_and_only_then(make_project, bucket: Bucket, lake: Lake, landing: Landing):
    project = make_project(source={"prefix": bucket.prefix, "consent_column": "ok", "event_time_column": "at"})
    row = {"id": "1", "text": "a", "ok": True, "at": "2026-01-01"}
    changes = [{}, {"text": "b"}, {"text": "b"}, {"note": 1}, {"ok": False}, {"at": "2026-01-02"}]
    bucket.put("a.jsonl", lines(*({**row, **change} for change in changes[:3])))  # within one object
    bucket.put("b.jsonl", lines(*({**row, **change} for change in changes[3:4])))  # within one batch
    assert figures(ingest(project, lake, landing)) == (4, 3, 1, 0)
    bucket.put("c.jsonl", lines(row, {**row, "ok": False}, {**row, "at": "2026-01-02"}))  # over batches
    assert figures(ingest(project, lake, landing)) == (3, 3, 0, 0)
    bucket.put("d.jsonl", lines({**row, "at": "2026-01-02"}))
    assert figures(ingest(project, lake, landing)) == (1, 0, 1, 0)
    history = lake.read("records", project.name, newest=False).sort("revision")
    assert history["revision"].to_list() == [1, 2, 3, 4, 5, 6]
    assert history["fields_json"].to_list() == ['{"text":"a"}', '{"text":"b"}', *(['{"text":"a"}'] * 4)]
    assert history["consent"].to_list() == [True, True, True, True, False, True]
    assert lake.read("records", project.name)["revision"].to_list() == [6]


def test_without_an_id_column_equal_content_is_one_record(make_project, bucket: Bucket, lake: Lake, landing: Landing):
    project = make_project(source={"prefix": bucket.prefix, "id_column": None})
    bucket.put("a.jsonl", lines({"text": "same"}, {"text": "same"}, {"text": "other"}))
    assert figures(ingest(project, lake, landing)) == (3, 2, 1, 0)
    assert sorted(lake.read("records", project.name)["source_id"]) == ['{"text":"other"}', '{"text":"same"}']


def test_projects_with_one_lake_keep_apart(make_project, bucket: Bucket, lake: Lake, landing: Landing):
    bucket.put("a.jsonl", mails(1))
    for name in ("mails", "letters"):
        assert figures(ingest(make_project(name=name, source={"prefix": bucket.prefix}), lake, landing)) == (1, 1, 0, 0)
    assert lake.read("records", "mails")["record_id"][0] != lake.read("records", "letters")["record_id"][0]


def test_versioned_buckets_are_known_by_version_ids(make_project, s3_config: StoreConfig, lake: Lake):
    """An object that goes back to earlier bytes has its old etag again, and only a version id tells that it changed."""
    versioned = Bucket(s3_config, f"versioned-{lake.files.prefix[:12]}", "in/", s3_client(s3_config))
    versioned.client.create_bucket(Bucket=versioned.name)
    versioned.client.put_bucket_versioning(Bucket=versioned.name, VersioningConfiguration={"Status": "Enabled"})
    project = make_project(source={"bucket": versioned.name, "prefix": "in/"})
    landing = Landing(s3_config, versioned.name, "in/")
    for text in ("one", "two", "one"):
        versioned.put("a.jsonl", mails(1, text=text))
        assert figures(ingest(project, lake, landing)) == (1, 1, 0, 0)
    assert lake.read("records", project.name)["fields_json"].to_list() == ['{"text":"one 1"}']
    assert lake.read("records", project.name)["revision"].to_list() == [3]
    versioned.put("b.jsonl", mails(2))
    batches = plan(project, lake, landing, now=NOW)["batches"]
    [ref] = [one for one in landing.list_objects() if one.key == "in/b.jsonl"]
    versioned.client.delete_object(Bucket=versioned.name, Key="in/b.jsonl", VersionId=ref.version_id)
    assert stage(project, lake, landing, batches[0], now=NOW)["rows"] == 0
    assert commit(project, lake, batches, now=NOW)["statuses"] == {"vanished": 1}


def test_an_image_is_a_record_that_refers_to_its_very_version(make_project, s3_config: StoreConfig, lake: Lake):
    images = Bucket(s3_config, f"images-{lake.files.prefix[:12]}", "in/", s3_client(s3_config))
    images.client.create_bucket(Bucket=images.name)
    images.client.put_bucket_versioning(Bucket=images.name, VersioningConfiguration={"Status": "Enabled"})
    source = {"bucket": images.name, "prefix": "in/", "format": "image", "fields": {"picture": {"title": "Picture"}}}
    project = make_project().model_copy(update={"source": Source.model_validate(source)})
    landing = Landing(s3_config, images.name, "in/")
    for number in range(2):
        images.put("a b.png", b"\x89PNG\r\n\x1a\n" + b"%d" % number * 100)
        assert figures(ingest(project, lake, landing)) == (1, 1, 0, 0)
    [ref] = landing.list_objects()
    record = lake.read("records", project.name).row(0, named=True)
    assert (record["source_id"], record["revision"]) == ("in/a b.png", 2)
    uri = f"s3://{images.name}/in/a%20b.png?versionId={ref.version_id}"
    assert json.loads(record["fields_json"]) == {"picture": uri}


# ---------------------------------------------------------------- batches


def test_batches_are_committed_in_the_order_they_were_planned(project, bucket: Bucket, lake: Lake, landing: Landing):
    for number in (1, 2):
        bucket.put(f"{number}.jsonl", mails(7, text=str(number)))
        plan(project, lake, landing, now=NOW)
    stage(project, lake, landing, 2, now=NOW)
    with pytest.raises(StorageError, match="batch 2 of project 'mails' must wait: batch 1 is planned before it"):
        commit(project, lake, [2], now=NOW)
    with pytest.raises(StorageError, match=r"batch 1 of project 'mails' is not staged\. Run its stage task"):
        commit(project, lake, [2, 1], now=NOW)
    stage(project, lake, landing, 1, now=NOW)
    commit(project, lake, [2, 1], now=NOW)
    newest = lake.read("records", project.name).row(0, named=True)
    assert (newest["fields_json"], newest["revision"]) == ('{"text":"2 7"}', 2)


def test_nothing_new_is_no_work(project, lake: Lake, landing: Landing):
    assert plan(project, lake, landing, now=NOW)["batches"] == []
    counts = commit(project, lake, [], now=NOW)
    assert figures(counts) == (0, 0, 0, 0)
    check_quarantine_limit(project, counts)


def test_a_batch_that_was_never_planned_is_named(project, lake: Lake, landing: Landing):
    with pytest.raises(StorageError, match="plan of ingest batch 9 of project 'mails' does not exist"):
        stage(project, lake, landing, 9, now=NOW)


def test_staged_figures_that_were_tampered_with_are_noticed(project, bucket: Bucket, lake: Lake, landing: Landing):
    bucket.put("a.jsonl", mails(1, 2))
    [batch] = plan(project, lake, landing, now=NOW)["batches"]
    stage(project, lake, landing, batch, now=NOW)
    path = stage_path(project, batch, "report.json")
    report = lake.files.get_json(path)
    report["objects"][0]["rows"] = 3
    lake.files.put(path, json.dumps(report).encode())
    with pytest.raises(
        StorageError, match="do not add up: object .* has 3 rows, but 2 accepted, 0 duplicates, 0 quarantined"
    ):
        commit(project, lake, [batch], now=NOW)
    assert lake.version("records") == -1


# ---------------------------------------------------------------- bad input


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "check", "words"),
    [
        ("empty.jsonl", b"", "object_empty", ["is empty (0 bytes)", "Upload it again"]),
        (
            "utf16.jsonl",
            mails(1).decode().encode("utf-16"),
            "object_encoding",
            ["looks like UTF-16", "Save it as UTF-8"],
        ),
        ("cut.jsonl.gz", gzip.compress(mails(1, 2))[:-8], "object_truncated", ["cut short", "Upload it again"]),
        (
            "other.parquet",
            _parquet(pa.table({"id": ["1"]})),
            "object_columns",
            ["lacks the columns ['text']", "Rename"],
        ),
        ("other.csv", b"id,body\n1,x\n", "object_columns", ["lacks the columns ['text']", "Rename"]),
        ("notes.docx", b"x", "object_format", ["an ending we do not read", "Use .jsonl"]),
    ],
)
def test_an_unusable_object_is_quarantined_whole_and_the_rest_lands(
    project, bucket: Bucket, lake: Lake, landing: Landing, name: str, data: bytes, check: str, words: list[str]
):
    key = bucket.put(name, data)
    bucket.put("good.jsonl", mails(5))
    counts = ingest(project, lake, landing)
    assert figures(counts) == (2, 1, 0, 1)
    assert counts["statuses"] == {"loaded": 1, "rejected": 1}
    assert counts["failed_checks"] == {check: 1}
    [row] = quarantined(lake, project)
    assert (row["key"], row["row_number"], row["stage"], row["raw"]) == (key, -1, "object", None)
    assert key in row["reason"]
    assert all(word in row["reason"] for word in words)
    ledger = lake.read("objects", project.name, where=pl.col("key") == key).row(0, named=True)
    assert (ledger["status"], ledger["error"]) == ("rejected", row["reason"])
    assert plan(project, lake, landing, now=NOW)["batches"] == []  # it is not tried again and again


def test_an_object_above_the_size_limit_is_not_even_read(make_project, bucket: Bucket, lake: Lake, landing: Landing):
    project = make_project(source={"prefix": bucket.prefix, "limits": {"max_object_bytes": 1024}})
    bucket.put("a.jsonl", mails(*range(100)))
    assert ingest(project, lake, landing)["failed_checks"] == {"object_size": 1}


@pytest.mark.parametrize(
    "line", [b'{"id": "%d", "text": "' + b"x" * 1000 + b'"}\n', b"{broken %d" + b"x" * 1000 + b"\n"]
)
def test_an_object_found_damaged_after_its_first_rows_leaves_none_of_them(
    project, bucket: Bucket, lake: Lake, landing: Landing, monkeypatch: pytest.MonkeyPatch, line: bytes
):
    """Its first rows were handed on, good or bad, when the end of the packed object turned out to be missing."""
    monkeypatch.setattr(attempt, "HELD_BACK_BYTES", 1024**2)
    parts = []
    original = attempt.Attempt._good

    def watched(self, given):
        yield from original(self, watch(given))

    def watch(given):
        for part in given:
            parts.append(type(part))
            yield part

    monkeypatch.setattr(attempt.Attempt, "_good", watched)
    rows = b"".join(line % number for number in range(25_000))
    bucket.put("cut.jsonl.gz", gzip.compress(rows, 1)[:-8])
    bucket.put("good.jsonl", mails(5))
    counts = ingest(project, lake, landing)
    assert parts[0] is attempt.Part  # its rows had been handed on before its end was reached
    assert figures(counts) == (2, 1, 0, 1)
    assert counts["failed_checks"] == {"object_truncated": 1}
    assert counts["statuses"] == {"loaded": 1, "rejected": 1}
    assert [row["row_number"] for row in quarantined(lake, project)] == [-1]
    assert lake.read("records", project.name)["source_id"].to_list() == ["5"]


def test_bad_rows_are_quarantined_with_their_bytes_and_the_rest_lands(
    project, bucket: Bucket, lake: Lake, landing: Landing
):
    bad_lines = [b'{"id": "2", "te', b'{"id": "3", "text": "\xff"}', b'{"id": "4", "text": ""}']
    bucket.put("a.jsonl", b"\xef\xbb\xbf" + mails(1) + b"\n".join(bad_lines) + b"\n" + mails(9))
    bucket.put("b.csv", b"id,text\n10,ok\n11,too,many\n12\n")
    bucket.put("c.jsonl", b"\n\n")
    counts = ingest(project, lake, landing)
    assert figures(counts) == (8, 3, 0, 5)
    assert counts["failed_checks"] == {"csv_columns": 2, "json_object": 1, "utf8": 1, "required_column(text)": 1}
    rows = quarantined(lake, project)
    assert [row["raw"] for row in rows] == [*bad_lines, b"11,too,many", b"12"]
    assert [row["row_number"] for row in rows] == [1, 2, 3, 1, 2]
    assert [row["stage"] for row in rows] == ["parse"] * 5
    assert all(json.loads(row["failures_json"]) for row in rows)
    ledger = lake.read("objects", project.name).sort("key").to_dicts()
    assert [(one["status"], one["rows"], one["accepted"], one["quarantined"]) for one in ledger] == [
        ("loaded", 5, 2, 3),
        ("loaded", 3, 1, 2),
        ("loaded", 0, 0, 0),
    ]


def test_rows_that_break_the_contract_are_quarantined_with_every_failure(
    make_project, bucket: Bucket, lake: Lake, landing: Landing
):
    expectations = [
        {"type": "expect_column_value_lengths_to_be_between", "kwargs": {"column": "text", "max_value": 5}},
        {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "text", "regex": "^[a-z]+$"}},
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}, "meta": {"severity": "warn"}},
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 100}},
    ]
    project = make_project(source={"prefix": bucket.prefix}, validation={"expectations": expectations})
    rows = [("1", "fine"), ("2", "FAR TOO LONG"), ("3", "Big"), ("1", "fine")]
    bucket.put("a.jsonl", b"{broken\n" + lines(*({"id": one, "text": text} for one, text in rows)))
    counts = ingest(project, lake, landing)
    assert figures(counts) == (5, 1, 1, 3)
    assert [(one["batch"], one["why"], one["expectation"]) for one in counts["warnings"]] == [
        (1, "batch", "expect_column_values_to_be_unique"),
        (1, "batch", "expect_table_row_count_to_be_between"),
    ]
    _, long, big = quarantined(lake, project)
    assert (long["row_number"], long["stage"], long["raw"]) == (2, "validate", b'{"id": "2", "text": "FAR TOO LONG"}')
    assert json.loads(long["failures_json"]) == [
        {"expectation": expectations[0]["type"], "column": "text", "observed": "FAR TOO LONG"},
        {"expectation": expectations[1]["type"], "column": "text", "observed": "FAR TOO LONG"},
    ]
    assert json.loads(big["failures_json"])[0]["observed"] == "Big"
    assert long["suite_version"]


def test_a_broken_contract_stops_the_batch_until_the_project_is_corrected(
    make_project, bucket: Bucket, lake: Lake, landing: Landing
):
    wrong = {"expectations": [{"type": "expect_miracles", "kwargs": {}}]}
    project = make_project(source={"prefix": bucket.prefix}, validation=wrong)
    bucket.put("a.jsonl", mails(1))
    [batch] = plan(project, lake, landing, now=NOW)["batches"]
    with pytest.raises(ProjectError, match=r"validation\.expectations\[0\] \(expect_miracles\)"):
        stage(project, lake, landing, batch, now=NOW)
    assert figures(ingest(make_project(source={"prefix": bucket.prefix}), lake, landing)) == (1, 1, 0, 0)


# ---------------------------------------------------------------- storage


def test_an_object_deleted_after_it_was_listed_has_vanished(project, bucket: Bucket, lake: Lake, landing: Landing):
    bucket.put("a.jsonl", mails(1))
    bucket.put("b.jsonl", mails(2))
    [batch] = plan(project, lake, landing, now=NOW)["batches"]
    bucket.delete("a.jsonl")
    stage(project, lake, landing, batch, now=NOW)
    counts = commit(project, lake, [batch], now=NOW)
    assert figures(counts) == (1, 1, 0, 0)
    assert counts["statuses"] == {"loaded": 1, "vanished": 1}
    error = lake.read("objects", project.name, where=pl.col("status") == "vanished")["error"][0]
    assert "a.jsonl' was deleted after it was listed. Upload it again" in error
    bucket.put("a.jsonl", mails(1, text="restored"))
    assert figures(ingest(project, lake, landing)) == (1, 1, 0, 0)


def test_an_object_overwritten_after_it_was_listed_is_superseded(project, bucket: Bucket, lake: Lake, landing: Landing):
    bucket.put("a.jsonl", mails(1))
    [batch] = plan(project, lake, landing, now=NOW)["batches"]
    bucket.put("a.jsonl", mails(1, 2))
    assert stage(project, lake, landing, batch, now=NOW)["rows"] == 0
    assert commit(project, lake, [batch], now=NOW)["statuses"] == {"superseded": 1}
    assert figures(ingest(project, lake, landing)) == (2, 2, 0, 0)


def test_a_retry_commits_the_same_bytes_whatever_happened_to_the_source(
    project, bucket: Bucket, lake: Lake, landing: Landing
):
    bucket.put("a.jsonl", mails(1))
    [batch] = plan(project, lake, landing, now=NOW)["batches"]
    first = stage(project, lake, landing, batch, now=NOW)
    bucket.delete("a.jsonl")
    assert stage(project, lake, landing, batch, now=NOW) == first
    counts = commit(project, lake, [batch], now=NOW)
    assert figures(counts) == (1, 1, 0, 0)
    assert commit(project, lake, [batch], now=datetime(2027, 1, 1, tzinfo=UTC)) == counts


def test_a_bucket_changed_under_a_planned_batch_is_refused(project, bucket: Bucket, lake: Lake, landing: Landing):
    bucket.put("a.jsonl", mails(1))
    [batch] = plan(project, lake, landing, now=NOW)["batches"]
    other = Landing(bucket.config, "lake", bucket.prefix)
    with pytest.raises(StorageError, match="was planned in bucket 'landing', not in 'lake'"):
        stage(project, lake, other, batch, now=NOW)


@pytest.mark.parametrize(
    ("changes", "bucket_name", "sentence"),
    [
        ({}, "no-such-bucket", r"bucket 'no-such-bucket' does not exist\. Create it, or correct source\.bucket"),
        ({"secret_key": "wrong"}, "landing", r"refused our credentials for s3://landing/.* \(SignatureDoesNotMatch\)"),
        ({"access_key": "nobody"}, "landing", r"refused our credentials for s3://landing/.* \(InvalidAccessKeyId\)"),
        ({"endpoint_url": "http://127.0.0.1:1"}, "landing", r"did not answer for s3://landing/.*endpoint_url is right"),
    ],
)
def test_a_landing_that_cannot_be_reached_is_named(
    project, s3_config: StoreConfig, lake: Lake, changes: dict[str, str], bucket_name: str, sentence: str
):
    config = replace(s3_config, **changes)
    with pytest.raises(StorageError, match=sentence) as caught:
        plan(project, lake, Landing(config, bucket_name, "in/"), now=NOW)
    assert "wrong" not in str(caught.value)


def test_reading_fails_as_clearly_as_listing(project, bucket: Bucket, lake: Lake, landing: Landing):
    bucket.put("a.jsonl", mails(1))
    [batch] = plan(project, lake, landing, now=NOW)["batches"]
    for changes, words in (
        ({"secret_key": "wrong"}, "refused our credentials for"),
        ({"endpoint_url": "http://127.0.0.1:1"}, "sent 0 of 30 bytes of"),
    ):
        broken = Landing(replace(bucket.config, **changes), bucket.name, bucket.prefix)
        with pytest.raises(StorageError, match=rf"{words} s3://landing/{bucket.prefix}a\.jsonl"):
            stage(project, lake, broken, batch, now=NOW)
    assert stage(project, lake, landing, batch, now=NOW)["accepted"] == 1


# ---------------------------------------------------------------- limit


def test_the_limit_fails_a_run_only_above_it_and_after_landing(
    make_project, bucket: Bucket, lake: Lake, landing: Landing
):
    project = make_project(source={"prefix": bucket.prefix}, validation={"max_quarantined_pct": 25})
    bucket.put("a.jsonl", mails(1, 2, 3) + b"{bad\n")
    counts = ingest(project, lake, landing)
    check_quarantine_limit(project, counts)  # exactly at the limit
    bucket.put("b.jsonl", mails(4) + b"{bad\n")
    counts = ingest(project, lake, landing)
    assert lake.read("records", project.name).height == 4
    with pytest.raises(
        QuarantineLimitError,
        match=r"1 of 2 rows \(50\.0%\) of project 'mails' were quarantined, more than the 25% allowed; most failed "
        r"json_object \(1\); the good rows are stored\. Look at table 'quarantine' where ingest_batch is one of \[2\]",
    ):
        check_quarantine_limit(project, counts)


def test_a_rejected_object_counts_as_a_quarantined_row(project, bucket: Bucket, lake: Lake, landing: Landing):
    bucket.put("a.jsonl", b"")
    with pytest.raises(QuarantineLimitError, match=r"1 of 1 rows \(100\.0%\).*object_empty \(1\)"):
        check_quarantine_limit(project, ingest(project, lake, landing))
