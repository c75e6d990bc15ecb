"""Conditional writes and error sentences of one bucket, on a real S3 server."""

from dataclasses import replace

import pytest

from include.errors import StorageError
from include.lake import Lake, Store, StoreConfig
from tests.include.processes import race


def test_a_missing_object_is_none(lake: Lake):
    assert lake.files.get("nothing") is None
    assert lake.files.get_versioned("nothing") is None
    assert lake.files.get_json("nothing") is None


def test_create_lets_the_first_writer_win(lake: Lake):
    assert lake.files.create("one", b"first")
    assert not lake.files.create("one", b"second")
    assert lake.files.get("one") == b"first"


def test_create_json_gives_everyone_the_value_of_the_winner(lake: Lake):
    assert lake.files.create_json("plan.json", {"n": 1}) == {"n": 1}
    assert lake.files.create_json("plan.json", {"n": 2}) == {"n": 1}


def test_swap_replaces_only_what_was_read(lake: Lake):
    assert lake.files.swap("pointer", b"1", None)
    assert not lake.files.swap("pointer", b"x", None)
    data, etag = lake.files.get_versioned("pointer") or (b"", "")
    assert data == b"1"
    assert lake.files.swap("pointer", b"2", etag)
    assert not lake.files.swap("pointer", b"3", etag)
    assert lake.files.get("pointer") == b"2"


def test_swap_of_an_object_that_is_gone_is_refused(lake: Lake):
    assert not lake.files.swap("gone", b"1", '"0123"')
    assert lake.files.get("gone") is None


def create_in_child(barrier, results, config, bucket, prefix):
    store = Store(config, bucket, prefix)
    store.get("warm-up")
    barrier.wait()
    results.put(store.create("contended", b"x"))


def test_of_racing_creators_exactly_one_wins(lake: Lake):
    won = race(4, create_in_child, lake.config, lake.files.bucket, lake.files.prefix)
    assert sorted(won) == [False, False, False, True]


def test_list_names_the_files_of_a_folder_only(lake: Lake):
    for path in ("a/1", "a/b/2", "ab/3"):
        lake.files.put(path, b"")
    assert sorted(lake.files.list("a")) == ["a/1", "a/b/2"]


def test_probe_accepts_a_server_that_refuses_and_leaves_nothing(lake: Lake):
    lake.files.probe()
    assert list(lake.files.list("_probe")) == []


@pytest.mark.parametrize("method", ["get", "list"])
def test_a_missing_bucket_is_named(s3_config: StoreConfig, method: str):
    store = Store(s3_config, "no-such-bucket")
    with pytest.raises(StorageError, match=r"bucket 'no-such-bucket' does not exist\. Create it"):
        list(getattr(store, method)("x"))


@pytest.mark.parametrize("changes", [{"secret_key": "wrong"}, {"access_key": "nobody", "secret_key": "wrong"}])
def test_refused_credentials_are_named_and_kept_secret(s3_config: StoreConfig, changes: dict[str, str]):
    store = Store(replace(s3_config, **changes), "lake")
    for call in (lambda: store.get("x"), lambda: store.create("x", b""), lambda: list(store.list("x"))):
        with pytest.raises(StorageError, match="refused our credentials for s3://lake/x") as caught:
            call()
        assert "wrong" not in str(caught.value)


def test_a_server_that_is_away_is_not_mistaken_for_a_refusal():
    """Digits in a path (here 403 and 401) say nothing about permissions."""
    store = Store(StoreConfig("http://127.0.0.1:1", "key", "secret"), "lake")
    with pytest.raises(StorageError, match=r"did not answer for s3://lake/403/401.*endpoint_url"):
        store.get("403/401")


def test_secrets_are_not_in_repr(s3_config: StoreConfig):
    assert s3_config.secret_key
    assert s3_config.secret_key not in repr(s3_config)


@pytest.mark.parametrize(
    ("endpoint_url", "hashed"),
    [(None, False), ("https://s3.example", False), ("http://127.0.0.1:8333", False), ("http://s3.example", True)],
)
def test_what_is_sent_is_hashed_for_its_signature_only_where_somebody_could_change_it(endpoint_url, hashed):
    assert ("aws_unsigned_payload" not in StoreConfig(endpoint_url, "key", "secret").options()) is hashed
