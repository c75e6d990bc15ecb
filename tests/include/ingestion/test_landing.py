"""The landing folder: exactly the bytes that were planned, through cut connections, and clear words when all fails."""

from __future__ import annotations

import gzip
import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.stub import Stubber
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.errors import StorageError
from include.ingestion import landing as module
from include.ingestion.landing import Landing, ObjectRef, ObjectStream, ObjectSupersededError, ObjectVanishedError
from include.lake import StoreConfig
from tests.include.conftest import Bucket

KIB = 1024


@pytest.fixture
def landing(bucket: Bucket) -> Landing:
    return Landing(bucket.config, bucket.name, bucket.prefix)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 100 * KIB)
    monkeypatch.setattr(module, "JUMP_BYTES", 1 * KIB)
    monkeypatch.setattr(module, "CHUNK_BYTES", 10 * KIB)
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.001)


def put(bucket: Bucket, landing: Landing, data: bytes, name: str = "object") -> ObjectRef:
    ref = landing.head(bucket.put(name, data))
    assert ref is not None
    return ref


def fetches(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges that are requested from now on."""
    seen: list[tuple[int, int]] = []
    original = landing._part

    def part(ref: ObjectRef, start: int, stop: int) -> bytes:
        seen.append((start, stop))
        return original(ref, start, stop)

    monkeypatch.setattr(landing, "_part", part)
    return seen


# ---------------------------------------------------------------- reading


@pytest.mark.usefixtures("small_parts")
def test_a_stream_gives_the_bytes_in_order_a_part_at_a_time(
    bucket: Bucket, landing: Landing, monkeypatch: pytest.MonkeyPatch
):
    data = os.urandom(350 * KIB + 7)
    ref = put(bucket, landing, data)
    seen = fetches(landing, monkeypatch)
    with landing.open(ref) as stream:
        assert seen == []
        pieces = []
        while piece := stream.read(30_000):
            pieces.append(piece)
        assert {len(piece) for piece in pieces[:-1]} == {30_000}
        assert stream.read(1) == b""
    assert b"".join(pieces) == data == landing.read(ref)
    assert seen[:4] == [(0, 102_400), (102_400, 204_800), (204_800, 307_200), (307_200, len(data))]


def test_every_reader_of_files_can_use_it(bucket: Bucket, landing: Landing):
    text = b"".join(b"line %d\n" % number for number in range(5000))
    with landing.open(put(bucket, landing, gzip.compress(text))) as stream, gzip.GzipFile(fileobj=stream) as unpacked:
        assert unpacked.read() == text
    with io.BufferedReader(landing.open(put(bucket, landing, text))) as lines:  # type: ignore[type-var]
        assert list(lines) == text.splitlines(keepends=True)
    sink = io.BytesIO()
    table = pa.table({"a": list(range(100_000)), "b": [str(number) for number in range(100_000)]})
    pq.write_table(table, sink, row_group_size=10_000)
    with landing.open(put(bucket, landing, sink.getvalue())) as stream:
        assert pq.ParquetFile(pa.PythonFile(stream, mode="r")).read_row_group(7).equals(table.slice(70_000, 10_000))


@pytest.mark.usefixtures("small_parts")
def test_a_jump_fetches_little(bucket: Bucket, landing: Landing, monkeypatch: pytest.MonkeyPatch):
    data = os.urandom(500 * KIB)
    ref = put(bucket, landing, data)
    seen = fetches(landing, monkeypatch)
    with landing.open(ref) as stream:
        stream.seek(-8, io.SEEK_END)
        assert stream.read() == data[-8:]
        stream.seek(200_000)
        assert stream.read(5000) == data[200_000:205_000]
        assert stream.tell() == 205_000
    assert seen == [(len(data) - 8, len(data)), (200_000, 205_000)]


@settings(deadline=None, max_examples=150)
@given(
    size=st.integers(0, 1000),
    moves=st.lists(
        st.one_of(st.tuples(st.just("seek"), st.integers(0, 1200)), st.tuples(st.just("read"), st.integers(-1, 500))),
        max_size=12,
    ),
)
def test_any_moves_give_what_a_file_gives(size: int, moves: list[tuple[str, int]]):
    data = os.urandom(size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART_BYTES", 64)
        patch.setattr(module, "JUMP_BYTES", 16)
        with ObjectStream(lambda start, stop: data[start:stop], size) as stream, io.BytesIO(data) as file:
            for move, value in moves:
                assert getattr(stream, move)(value) == getattr(file, move)(value)
                assert stream.tell() == file.tell()


def test_empty_objects_are_empty_and_checked(bucket: Bucket, landing: Landing):
    ref = put(bucket, landing, b"")
    with landing.open(ref) as stream:
        assert (stream.read(10), stream.read()) == (b"", b"")
    bucket.put("object", b"1")
    with pytest.raises(ObjectSupersededError):
        landing.read(ref)
    bucket.delete("object")
    with pytest.raises(ObjectVanishedError):
        landing.read(ref)


def test_a_closed_stream_is_closed(bucket: Bucket, landing: Landing):
    with landing.open(put(bucket, landing, b"1")) as stream:
        assert stream.readable()
    with pytest.raises(ValueError, match="closed"):
        stream.read(1)


# ---------------------------------------------------------------- gone half-way


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("change", ["overwrite", "shorten", "delete"])
def test_an_object_that_changes_half_way_is_never_a_mixture(bucket: Bucket, landing: Landing, change: str):
    ref = put(bucket, landing, b"1" * 500 * KIB)
    with landing.open(ref) as stream:
        assert stream.read(50 * KIB) == b"1" * 50 * KIB
        if change == "delete":
            bucket.delete("object")
        else:
            bucket.put("object", b"2" * (500 if change == "overwrite" else 10) * KIB)
        with pytest.raises(ObjectVanishedError if change == "delete" else ObjectSupersededError) as caught:
            stream.read()
    assert repr(ref.key) in str(caught.value)


# ---------------------------------------------------------------- cut connections


@contextmanager
def cutting(config: StoreConfig, cut: Callable[[int], int | None]) -> Iterator[StoreConfig]:
    """The server through a relay that ends connection number n after ``cut(n)`` bytes of answers; None: never."""
    host, port = config.endpoint_url.removeprefix("http://").split(":")  # type: ignore[union-attr]
    listener = socket.create_server(("127.0.0.1", 0))
    count = 0

    def pump(source: socket.socket, target: socket.socket, limit: int | None) -> None:
        sent = 0
        with suppress(OSError):
            while chunk := source.recv(16 * KIB):
                if limit is not None:
                    chunk = chunk[: limit - sent]
                target.sendall(chunk)
                sent += len(chunk)
                if limit is not None and sent >= limit:
                    break
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def serve() -> None:
        nonlocal count
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((host, int(port)))
                limit = cut(count)
                count += 1
                threading.Thread(target=pump, args=(near, far, None), daemon=True).start()
                threading.Thread(target=pump, args=(far, near, limit), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield replace(config, endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.usefixtures("small_parts")
def test_a_cut_body_goes_on_where_it_was_cut(bucket: Bucket, landing: Landing):
    data = os.urandom(350 * KIB)
    ref = put(bucket, landing, data)
    with cutting(bucket.config, lambda number: 60_000 if number < 5 else None) as config:
        far = Landing(config, bucket.name, bucket.prefix)
        starts = []
        far._client.meta.events.register(
            "before-call.s3.GetObject", lambda params, **_: starts.append(params["headers"]["Range"])
        )
        assert far.read(ref) == data
        far._client.close()
    assert starts[0] == "bytes=0-102399"
    resumed = int(starts[1].removeprefix("bytes=").split("-")[0])
    assert 40_000 < resumed < 60_000  # not from the beginning; some bytes were headers


@pytest.mark.usefixtures("small_parts")
def test_a_body_that_is_always_cut_is_given_up(bucket: Bucket, landing: Landing, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "RESUMES", 3)
    ref = put(bucket, landing, os.urandom(90 * KIB))
    with cutting(bucket.config, lambda _: 12_000) as config:
        far = Landing(config, bucket.name, bucket.prefix)
        with pytest.raises(StorageError, match=r"sent \d+ of 92160 bytes of s3://landing/.* in 3 attempts") as caught:
            far.read(ref)
        far._client.close()
    assert not isinstance(caught.value, ObjectVanishedError | ObjectSupersededError)


@pytest.mark.usefixtures("small_parts")
def test_an_object_overwritten_while_its_body_was_cut_is_superseded(bucket: Bucket, landing: Landing):
    ref = put(bucket, landing, b"1" * 90 * KIB)

    def cut(number: int) -> int | None:
        if number == 1:
            bucket.put("object", b"2" * 90 * KIB)
        return 40_000 if number == 0 else None

    with cutting(bucket.config, cut) as config:
        far = Landing(config, bucket.name, bucket.prefix)
        with pytest.raises(ObjectSupersededError):
            far.read(ref)
        far._client.close()


def test_a_server_without_ranges_is_named(bucket: Bucket, landing: Landing):
    ref = put(bucket, landing, b"12345")
    with Stubber(landing._client) as stub:
        body = io.BytesIO(b"12345")
        stub.add_response("get_object", {"Body": body, "ETag": f'"{ref.etag}"'})
        with pytest.raises(StorageError, match="ignores Range"):
            landing.read(ref)


def test_a_server_that_ignores_if_match_is_not_believed(bucket: Bucket, landing: Landing):
    ref = put(bucket, landing, b"12345")
    with Stubber(landing._client) as stub:
        stub.add_response("get_object", {"Body": io.BytesIO(b"54321"), "ETag": '"other"'})
        with pytest.raises(ObjectSupersededError):
            landing.read(ref)


# ---------------------------------------------------------------- listing and permissions


def test_list_requests_are_counted(bucket: Bucket, landing: Landing, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PAGE_KEYS", 2)
    for number in range(5):
        bucket.put(str(number), b"1")
    assert len(list(landing.list_objects())) == 5
    assert landing.list_requests == 3


def test_a_head_tells_what_a_list_tells(bucket: Bucket, landing: Landing):
    ref = put(bucket, landing, b"12345")
    [listed] = landing.list_objects()
    assert replace(ref, last_modified_at=listed.last_modified_at) == listed
    assert landing.head(f"{bucket.prefix}gone") is None


def test_folder_markers_are_no_objects(bucket: Bucket, landing: Landing):
    bucket.put("folder/", b"")
    bucket.put("folder/a", b"")
    assert [ref.key.removeprefix(bucket.prefix) for ref in landing.list_objects()] == ["folder/a"]


def test_a_role_that_may_not_see_versioning_is_told_what_it_needs(landing: Landing):
    with Stubber(landing._client) as stub:
        stub.add_client_error("get_bucket_versioning", "AccessDenied", http_status_code=403)
        with pytest.raises(StorageError, match=r"allow it s3:GetBucketVersioning on this bucket\.") as caught:
            list(landing.list_objects())
    assert "keeps versions (AccessDenied)" in str(caught.value)


def test_a_server_that_knows_no_versioning_keeps_no_versions(landing: Landing):
    with Stubber(landing._client) as stub:
        stub.add_client_error("get_bucket_versioning", "NotImplemented", http_status_code=501)
        assert landing.versioned is False


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"secret_key": "wrong"}, "refused our credentials"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "did not answer"),
    ],
)
def test_troubles_are_told_in_words(bucket: Bucket, changes: dict[str, Any], words: str):
    with pytest.raises(StorageError, match=words):
        list(Landing(replace(bucket.config, **changes), bucket.name, bucket.prefix).list_objects())
    with pytest.raises(StorageError, match="bucket 'no-such-bucket' does not exist"):
        list(Landing(bucket.config, "no-such-bucket", bucket.prefix).list_objects())


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400 * KIB))
def test_refs_survive_their_plan(size: int):
    ref = ObjectRef("ü\n%", "e", None, size, module.datetime.now(module.UTC), 3)
    assert ObjectRef.from_json(ref.to_json()) == ref
