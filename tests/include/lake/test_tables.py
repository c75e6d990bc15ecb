"""Appends land exactly once, reads see the newest, on a real S3 server."""

from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from include.errors import StorageError
from include.lake import Lake, StoreConfig, keys
from include.lake.lake import conform
from include.lake.schemas import TABLES
from tests.include.processes import race

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(source_id: str, revision: int = 1, **values):
    record_id = keys.record_id("p", source_id)
    return {
        "project": "p",
        "shard": keys.shard(record_id),
        "record_id": record_id,
        "source_id": source_id,
        "revision": revision,
        **values,
    }


def test_every_table_round_trips_a_typed_empty_frame_and_a_row(lake: Lake):
    for name, spec in TABLES.items():
        empty = lake.read(name, "p")
        assert empty.is_empty()
        assert empty.columns == spec.schema.names
        assert lake.version(name) == -1
    metric = {"project": "p", "name": "n", "cycle": "c", "slice": "all", "measured_at": NOW}
    lake.append("metrics", [metric], app_id="1")
    row = lake.read("metrics", "p").row(0, named=True)
    assert row["measured_at"] == NOW
    assert row["value"] is None


def test_a_table_of_an_earlier_release_is_read_and_gets_its_new_columns(lake: Lake):
    spec = TABLES["predictions"]
    older = pa.schema([field for field in spec.schema if field.name not in ("entropy", "probabilities")])
    row = {"project": "p", "shard": "a", "record_id": "a1", "model_version": "m1"}
    uri = lake.files.uri("tables/predictions")
    made = DeltaTable.create(uri, older, partition_by=list(spec.partition_by), storage_options=lake.config.options())
    write_deltalake(made, pa.Table.from_pylist([row], schema=older), mode="append")
    before = lake.read("predictions", "p")
    assert before.columns == spec.schema.names
    assert before["probabilities"].to_list() == [None]
    assert before["entropy"].dtype == pl.Float64
    newer = {**row, "record_id": "a2", "entropy": 0.5, "probabilities": [0.25, 0.75]}
    assert [lake.append("predictions", [newer], app_id="x/1").committed for _ in range(2)] == [True, False]
    after = lake.read("predictions", "p", columns=["record_id", "entropy", "probabilities"]).sort("record_id")
    assert after.rows() == [("a1", None, None), ("a2", 0.5, [0.25, 0.75])]


def test_the_same_app_id_lands_once(lake: Lake):
    first = lake.append("records", [record("a")], app_id="x/1")
    again = lake.append("records", [record("a"), record("b")], app_id="x/1")
    other = lake.append("records", [record("b")], app_id="x/2")
    assert (first.committed, again.committed, other.committed) == (True, False, True)
    assert sorted(lake.read("records", "p", newest=False)["source_id"]) == ["a", "b"]


def test_a_lower_app_id_that_comes_late_still_lands(lake: Lake):
    lake.append("records", [record("b")], app_id="x/2")
    assert lake.append("records", [record("a")], app_id="x/1").committed


def test_no_rows_make_no_commit(lake: Lake):
    assert not lake.append("records", [], app_id="x/1").committed
    assert lake.version("records") == -1
    assert lake.append("records", [record("a")], app_id="x/1").committed


def append_in_child(barrier, results, config, bucket, prefix, shared):
    lake = Lake(config, bucket, prefix)
    lake.read("records", "p")
    barrier.wait()
    committed = lake.append("records", [record("shared")], app_id=shared).committed
    me = str(datetime.now(UTC).timestamp())
    lake.append("records", [record(me)], app_id=f"own/{me}")
    results.put(committed)


@pytest.mark.parametrize("exists", [False, True], ids=["first ever write", "later write"])
def test_of_racing_processes_one_lands_the_shared_rows_and_all_land_their_own(lake: Lake, exists: bool):
    if exists:
        lake.append("records", [record("before")], app_id="before")
    committed = race(4, append_in_child, lake.config, lake.files.bucket, lake.files.prefix, "shared/1")
    assert sorted(committed) == [False, False, False, True]
    stored = lake.read("records", "p", newest=False)["source_id"].to_list()
    assert stored.count("shared") == 1
    assert len(stored) == 5 + exists


def test_reads_keep_the_greatest_version_of_each_key(lake: Lake):
    lake.append("records", [record("a", 2, fields_json="new"), record("b")], app_id="1")
    lake.append("records", [record("a", 1, fields_json="old")], app_id="2")  # arrives late
    newest = lake.read("records", "p", columns=["source_id", "fields_json"]).sort("source_id")
    assert newest.rows() == [("a", "new"), ("b", None)]
    assert newest.columns == ["source_id", "fields_json"]
    assert lake.read("records", "p", newest=False).height == 3


def test_a_filter_does_not_bring_an_older_version_back(lake: Lake):
    """Consent was withdrawn in revision 2: a reader of consented records must not see revision 1."""
    lake.append("records", [record("a", 1, consent=True), record("b", 1, consent=True)], app_id="1")
    lake.append("records", [record("a", 2, consent=False)], app_id="2")
    consented = lake.read("records", "p", columns=["source_id"], where=pl.col("consent"))
    assert consented.rows() == [("b",)]
    assert lake.read("records", "p", where=pl.col("consent"), newest=False).height == 2
    assert lake.read("records", "p", where=pl.col("record_id") == keys.record_id("p", "a")).height == 1


def test_projects_do_not_see_each_other(lake: Lake):
    lake.append("records", [record("a"), {**record("a"), "project": "q"}], app_id="1")
    assert lake.read("records", "p").height == 1
    assert lake.read("records", "nobody").height == 0


def test_files_are_sorted_by_record_id():
    table = conform([record(str(number)) for number in range(50)], TABLES["records"])
    assert table["record_id"].to_pylist() == sorted(table["record_id"].to_pylist())


@pytest.mark.parametrize("rows", [[{"project": "p", "typo": 1}], pa.table({"project": ["p"], "typo": [1]})])
def test_unknown_columns_are_refused(lake: Lake, rows):
    with pytest.raises(ValueError, match=r"table 'records' has no columns \['typo'\]"):
        lake.append("records", rows, app_id="1")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", None], ids=["server away", "wrong secret"])
def test_errors_are_one_line_that_names_the_table_and_keeps_the_secret(s3_config: StoreConfig, endpoint: str | None):
    config = replace(s3_config, endpoint_url=endpoint or s3_config.endpoint_url, secret_key="wrong-secret")
    lake = Lake(config, "lake")
    for call in (lambda: lake.append("records", [record("a")], app_id="1"), lambda: lake.read("records", "p")):
        with pytest.raises(StorageError, match=r"^table 'records' at s3://lake/tables/records .* retry\.$") as caught:
            call()
        assert str(caught.value).isprintable()
        assert "wrong-secret" not in str(caught.value)
