"""Discovery: what look finds and with how many requests, what only a sweep finds, and that nothing is found twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.ingestion import discover, landing, planning
from include.ingestion.discover import Folder, Watch
from include.ingestion.landing import Landing, ObjectRef, Page
from include.lake import Lake, StoreConfig
from include.project import Project
from tests.include.conftest import Bucket, ProjectFactory, s3_client
from tests.include.ingestion.ledger import commit_batch
from tests.moto_server import ACCOUNT, client, moto_server

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two keys in each answer to LIST, so that twenty objects are many."""
    monkeypatch.setattr(landing, "PAGE_KEYS", 2)


@dataclass
class World:
    """A landing folder, its project and its lake."""

    project: Project
    lake: Lake
    bucket: Bucket
    landing: Landing = field(init=False)

    def __post_init__(self) -> None:
        self.landing = Landing(self.bucket.config, self.bucket.name, self.bucket.prefix)

    def put(self, *names: str, data: bytes = b"1") -> None:
        for name in names:
            self.bucket.put(name, data)

    def ingest(self, now: datetime, **options: Any) -> tuple[list[str], dict[str, Any]]:
        """Plan and commit: the names of the objects that were new, sorted, and the counts of the plan."""
        counts = planning.plan(self.project, self.lake, self.landing, now=now, **options)
        names = []
        for batch in counts["batches"]:
            found = planning.refs(planning.read_plan(self.project, self.lake, batch))
            names += [ref.key.removeprefix(self.bucket.prefix) for ref in found]
            commit_batch(self.project, self.lake, batch)
        return sorted(names), counts

    def looked(self, now: datetime, **options: Any) -> list[str]:
        """As ``ingest``, requiring that it was a look and not a sweep."""
        names, counts = self.ingest(now, **options)
        assert not counts["swept"]
        return names

    def swept(self, now: datetime) -> list[str]:
        names, counts = self.ingest(now, sweep=True)
        assert counts["swept"]
        return names

    def statuses(self) -> dict[str, str]:
        """The newest status of each object version, by name; one version each."""
        rows = self.lake.read("objects", self.project.name)
        names = [key.removeprefix(self.bucket.prefix) for key in rows["key"]]
        assert len(set(names)) == len(names)
        return dict(zip(names, rows["status"], strict=True))

    @property
    def watch(self) -> Watch:
        return planning.read_cursor(self.project, self.lake)[0].watch


@pytest.fixture
def world(make_project: ProjectFactory, bucket: Bucket, lake: Lake) -> World:
    return World(make_project(source={"prefix": bucket.prefix}), lake, bucket)


def days(*numbers: int, objects: int = 6) -> list[str]:
    return [f"2026-02-{day:02d}/{number:03d}.jsonl" for day in numbers for number in range(objects)]


@pytest.fixture
def old_world(world: World) -> World:
    """Ten days with six objects each, all ingested, the last a day ago."""
    world.put(*days(*range(1, 11)))
    assert world.swept(NOON - 25 * HOUR) == days(*range(1, 11))
    assert world.looked(NOON - 22 * HOUR) == []  # the marks of the sweep are older than the window now
    return world


# ---------------------------------------------------------------- look


def test_new_objects_in_the_last_and_in_a_new_folder_cost_few_requests(
    old_world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(landing, "PAGE_KEYS", 1000)
    old_world.put("2026-02-10/006.jsonl", "2026-02-10/007.jsonl", "2026-02-11/000.jsonl")
    names, counts = old_world.ingest(NOON - 4 * HOUR)
    assert names == ["2026-02-10/006.jsonl", "2026-02-10/007.jsonl", "2026-02-11/000.jsonl"]
    assert (counts["swept"], counts["list_requests"]) == (False, 3)  # the parent, the last folder, the new one
    names, counts = old_world.ingest(NOON - 3 * HOUR)
    assert (names, counts["swept"], counts["list_requests"]) == ([], False, 3)


def test_the_requests_do_not_grow_with_what_is_there(world: World):
    requests = []
    for year, count in ((2025, 10), (2026, 60)):
        world.put(*(f"{year}-01-{day:02d}/{number}.jsonl" for day in (1, 2) for number in range(100, 100 + count)))
        world.swept(NOON)
        world.looked(NOON + 3 * HOUR)
        world.put(f"{year}-01-02/900.jsonl", f"{year}-01-03/1.jsonl")
        names, counts = world.ingest(NOON + 4 * HOUR)
        assert len(names) == 2
        requests.append(counts["list_requests"])
    assert requests[0] == requests[1] <= 5


def test_new_folders_are_followed_to_their_ends(old_world: World):
    new = ["2026-02-11/a/1.jsonl", "2026-02-11/a/b/c/1.jsonl", "2026-02-12/1.jsonl", "loose.jsonl"]
    old_world.put(*new)
    assert old_world.looked(NOON - 3 * HOUR) == new
    old_world.put("2026-02-11/a/b/c/2.jsonl", "2026-02-11/a/2.jsonl")
    assert old_world.looked(NOON - 2 * HOUR) == ["2026-02-11/a/2.jsonl", "2026-02-11/a/b/c/2.jsonl"]


def test_several_folders_may_grow_at_once(world: World):
    world.put(*(f"{source}/2026-02-{day:02d}/{n}.jsonl" for source in "abc" for day in (1, 2) for n in range(4)))
    world.ingest(NOON - 9 * HOUR)
    world.put("a/2026-02-02/4.jsonl", "b/2026-02-02/4.jsonl", "c/2026-02-02/4.jsonl")
    world.swept(NOON - 8 * HOUR)  # by the server's clock all of it was written within the window
    assert sorted(world.watch.folders) == [
        world.bucket.prefix + name
        for name in ["", "a/", "a/2026-02-01/", "a/2026-02-02/", "b/", "b/2026-02-01/", "b/2026-02-02/"]
        + ["c/", "c/2026-02-01/", "c/2026-02-02/"]
    ]
    for hours in (7, 6):
        new = [f"a/2026-02-02/{12 - hours}.jsonl", f"b/2026-02-03/{9 - hours}.jsonl"]
        world.put(*new)
        assert world.looked(NOON - hours * HOUR) == new


@pytest.mark.parametrize(("after", "found"), [(1.5, True), (4.0, False)])
def test_a_late_key_is_found_within_the_window_and_by_the_sweep_after_it(old_world: World, after: float, found: bool):
    old_world.put("2026-02-10/100.jsonl")
    assert old_world.looked(NOON - 20 * HOUR) == ["2026-02-10/100.jsonl"]
    old_world.put("2026-02-10/099.jsonl")
    late = ["2026-02-10/099.jsonl"]
    assert old_world.looked(NOON - (20 - after) * HOUR) == (late if found else [])
    assert old_world.swept(NOON) == ([] if found else late)


def test_a_late_folder_is_found_within_the_window(old_world: World):
    old_world.put("2026-02-20/1.jsonl")
    assert old_world.looked(NOON - 20 * HOUR) == ["2026-02-20/1.jsonl"]
    old_world.put("2026-02-19/1.jsonl")
    assert old_world.looked(NOON - 19 * HOUR) == ["2026-02-19/1.jsonl"]
    old_world.put("2026-02-19/2.jsonl")  # now it grows, too
    assert old_world.looked(NOON - 18 * HOUR) == ["2026-02-19/2.jsonl"]


def test_overwritten_objects_are_found_within_the_window_and_by_the_sweep_after_it(old_world: World):
    old_world.put("2026-02-11/1.jsonl")
    assert old_world.looked(NOON - 20 * HOUR) == ["2026-02-11/1.jsonl"]
    old_world.put("2026-02-11/1.jsonl", "2026-02-01/001.jsonl", data=b"2")
    assert old_world.looked(NOON - 19 * HOUR) == ["2026-02-11/1.jsonl"]
    assert old_world.swept(NOON) == ["2026-02-01/001.jsonl"]
    assert old_world.swept(NOON + HOUR) == []


def test_keys_that_are_not_ordered_by_time_are_found_by_the_sweep(old_world: World):
    old_world.put("2026-02-10/0000.jsonl", "aaa/1.jsonl", "2025/1.jsonl")
    assert old_world.looked(NOON - 3 * HOUR) == ["aaa/1.jsonl"]
    names, counts = old_world.ingest(NOON)  # a day after the last one
    assert counts["swept"]
    assert names == ["2025/1.jsonl", "2026-02-10/0000.jsonl"]


def test_a_look_that_found_too_much_goes_on_where_it_started(old_world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planning, "MAX_BATCH_OBJECTS", 2)
    monkeypatch.setattr(planning, "MAX_PLANNED_BATCHES", 2)
    monkeypatch.setattr(discover, "SIFT_ROWS", 2)
    new = [f"2026-02-{day}/{number}.jsonl" for day in (11, 12) for number in range(6)]
    old_world.put(*new)
    found = []
    for minute in range(5):
        found += old_world.looked(NOON - 3 * HOUR + timedelta(minutes=minute))
    assert sorted(found) == new
    assert old_world.looked(NOON - 2 * HOUR) == []


def test_a_small_landing_folder_is_swept_every_time(world: World):
    world.put("b/1.jsonl", "z.jsonl")
    assert world.ingest(NOON)[0] == ["b/1.jsonl", "z.jsonl"]
    world.put("a/1.jsonl")
    names, counts = world.ingest(NOON + timedelta(minutes=1))
    assert (names, counts["swept"]) == (["a/1.jsonl"], True)


def test_a_sweep_comes_by_itself_when_it_is_time(old_world: World):
    assert not old_world.ingest(NOON - 2 * HOUR)[1]["swept"]
    assert old_world.ingest(NOON)[1]["swept"]
    assert not old_world.ingest(NOON + HOUR)[1]["swept"]
    assert old_world.ingest(NOON - 48 * HOUR)[1]["swept"]  # the clock was wrong, then or now


# ---------------------------------------------------------------- hints


def test_hinted_keys_are_checked_and_found_anywhere(old_world: World):
    quiet = "2026-02-03/0000.jsonl"
    old_world.put(quiet, "2026-02-03/folder/")
    prefix = old_world.bucket.prefix
    hints = [
        prefix + quiet,
        prefix + quiet,
        prefix + "2026-02-03/folder/",
        prefix + "gone.jsonl",
        prefix,
        "elsewhere/x",
    ]
    hints += [prefix + "../x", prefix + "k" * 2000, prefix + days(4)[0]]
    assert old_world.looked(NOON - 3 * HOUR, hints=hints) == [quiet]
    assert old_world.looked(NOON - 2 * HOUR, hints=hints) == []


def test_a_hint_to_what_a_look_finds_as_well_is_one_object(old_world: World):
    old_world.put("2026-02-11/1.jsonl")
    hints = [f"{old_world.bucket.prefix}2026-02-11/1.jsonl"]
    assert old_world.looked(NOON - 3 * HOUR, hints=hints) == ["2026-02-11/1.jsonl"]


# ---------------------------------------------------------------- deleted, restored, copied


def test_deleted_objects_are_marked_and_keep_their_figures(old_world: World):
    for name in days(2, 5):
        old_world.bucket.delete(name)
    names, counts = old_world.ingest(NOON, sweep=True)
    assert (names, counts["deleted"]) == ([], 12)
    assert {name for name, status in old_world.statuses().items() if status == "deleted"} == set(days(2, 5))
    ledger = old_world.lake.read("objects", old_world.project.name)
    assert (ledger.height, ledger["rows"].sum(), ledger["accepted"].sum()) == (60, 60, 60)
    assert ledger.filter(pl.col("status") == "deleted")["revision"].unique().to_list() == [2]
    assert old_world.ingest(NOON + HOUR, sweep=True)[1]["deleted"] == 0


def test_what_was_deleted_and_is_back_with_the_same_bytes_is_not_loaded_again(old_world: World):
    name = days(3)[0]
    old_world.bucket.delete(name)
    assert old_world.ingest(NOON, sweep=True)[1]["deleted"] == 1
    old_world.put(name)
    assert old_world.looked(NOON + HOUR, hints=[old_world.bucket.prefix + name]) == []
    names, counts = old_world.ingest(NOON + 2 * HOUR, sweep=True)
    assert (names, counts["deleted"], counts["restored"]) == ([], 0, 1)
    assert set(old_world.statuses().values()) == {"loaded"}
    old_world.put(name, data=b"other")
    assert old_world.swept(NOON + 3 * HOUR) == [name]


def test_what_another_run_commits_while_we_sweep_is_not_taken_for_deleted(old_world: World):
    """Its object was not there yet when its folder was listed."""

    class Overtaken(Landing):
        def all_pages(self) -> Iterator[Page]:
            yield from list(super().all_pages())
            if "first.jsonl" not in old_world.statuses():
                old_world.put("first.jsonl")
                assert old_world.looked(NOON - 3 * HOUR) == ["first.jsonl"]

    slow = Overtaken(old_world.bucket.config, old_world.bucket.name, old_world.bucket.prefix)
    counts = planning.plan(old_world.project, old_world.lake, slow, now=NOON - 3 * HOUR, sweep=True)
    assert (counts["batches"], counts["deleted"]) == ([], 0)
    assert set(old_world.statuses().values()) == {"loaded"}


def test_a_copy_under_another_key_is_an_object_of_its_own(old_world: World):
    bucket = old_world.bucket
    source = {"Bucket": bucket.name, "Key": bucket.prefix + days(4)[0]}
    bucket.client.copy_object(Bucket=bucket.name, Key=f"{bucket.prefix}2026-02-04/copy.jsonl", CopySource=source)
    assert old_world.swept(NOON) == ["2026-02-04/copy.jsonl"]


def test_an_upload_in_progress_is_not_there_and_its_early_time_does_no_harm(old_world: World):
    bucket, key = old_world.bucket, f"{old_world.bucket.prefix}2026-02-11/1.jsonl"
    upload = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)["UploadId"]
    name = {"Bucket": bucket.name, "Key": key, "UploadId": upload}
    part = bucket.client.upload_part(**name, PartNumber=1, Body=b"1")
    assert old_world.looked(NOON - 3 * HOUR) == []
    assert old_world.swept(NOON - 2 * HOUR) == []
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    bucket.client.complete_multipart_upload(**name, MultipartUpload=parts)
    assert old_world.looked(NOON - HOUR) == ["2026-02-11/1.jsonl"]


@pytest.mark.parametrize("skew_days", [-300, 300])
def test_a_wrong_clock_of_the_server_loses_nothing(world: World, skew_days: int):
    class Skewed(Landing):
        def pages(self, *args: Any, **options: Any) -> Iterator[Page]:
            for page in super().pages(*args, **options):
                times = [datetime.fromisoformat(one) + timedelta(days=skew_days) for one in page.modified]
                page.modified = [one.isoformat().replace("+00:00", "Z") for one in times]
                yield page

    world.landing = Skewed(world.bucket.config, world.bucket.name, world.bucket.prefix)
    world.put(*days(*range(1, 11)))
    assert len(world.swept(NOON - 20 * HOUR)) == 60
    world.put("2026-02-10/100.jsonl", "2026-02-11/1.jsonl")
    assert world.looked(NOON - 19 * HOUR) == ["2026-02-10/100.jsonl", "2026-02-11/1.jsonl"]
    late = ["2026-02-10/099.jsonl", "2026-02-11/0.jsonl"]
    world.put(*late)
    assert world.looked(NOON - 18.5 * HOUR) == late
    world.put("2026-02-05/100.jsonl")
    world.ingest(NOON - 18 * HOUR)
    world.swept(NOON)
    assert len(world.statuses()) == 65


# ---------------------------------------------------------------- versions


@pytest.fixture
def versioned(make_project: ProjectFactory, s3_config: StoreConfig, lake: Lake) -> World:
    bucket = Bucket(s3_config, f"versioned-{lake.files.prefix[:12]}", "in/", s3_client(s3_config))
    bucket.client.create_bucket(Bucket=bucket.name)
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    return World(make_project(source={"bucket": bucket.name, "prefix": "in/"}), lake, bucket)


def test_in_versioned_buckets_the_newest_version_of_each_key_is_found(versioned: World):
    versioned.put(*days(1, 2, 3))
    versioned.put(*days(1), data=b"2")
    assert versioned.swept(NOON - 20 * HOUR) == days(1, 2, 3)
    versioned.put("2026-02-03/100.jsonl", "2026-02-04/1.jsonl")
    versioned.put("2026-02-03/100.jsonl", data=b"2")
    assert versioned.looked(NOON - 19 * HOUR) == ["2026-02-03/100.jsonl", "2026-02-04/1.jsonl"]
    versioned.put("2026-02-04/1.jsonl", data=b"2")
    assert versioned.looked(NOON - 18.5 * HOUR) == ["2026-02-04/1.jsonl"]
    versioned.put("2026-02-04/1.jsonl")  # the bytes of the first version, but not that version
    versioned.put("2026-02-01/001.jsonl")
    assert versioned.looked(NOON - 18 * HOUR, hints=["in/2026-02-01/001.jsonl"]) == [
        "2026-02-01/001.jsonl",
        "2026-02-04/1.jsonl",
    ]
    assert versioned.swept(NOON) == []
    versioned.bucket.delete("2026-02-02/001.jsonl")
    assert versioned.ingest(NOON + HOUR, sweep=True)[1]["deleted"] == 1


def test_folders_whose_names_order_differently_are_all_listed_with_versions(
    versioned: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(landing, "PAGE_KEYS", 6)  # more than one folder holds, and less than all
    names = [
        f"{folder}/{number}.jsonl" for folder in ("2026", "2026-11", "2026-11-24", "2026.1") for number in range(5)
    ]
    versioned.put(*names)
    assert versioned.swept(NOON) == sorted(names)


def test_odd_keys_are_found_with_versions(versioned: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(landing, "PAGE_KEYS", 100)
    folders = [name for name in PATHLIKE if name != "\x01"]  # not encoded by SeaweedFS there, and XML cannot hold it
    names = [f"{folder}/{name}" for folder in folders for name in PATHLIKE[:3]]
    versioned.put(*names)
    assert versioned.swept(NOON) == sorted(names)
    assert versioned.swept(NOON + HOUR) == []
    assert all(versioned.landing.read(ref) == b"1" for ref in versioned.landing.list_objects())


def test_suspending_versions_does_not_make_everything_new(versioned: World):
    versioned.put(*days(1, 2))
    assert versioned.swept(NOON) == days(1, 2)
    status = {"Status": "Suspended"}
    versioned.bucket.client.put_bucket_versioning(Bucket=versioned.bucket.name, VersioningConfiguration=status)
    versioned.landing = Landing(versioned.bucket.config, versioned.bucket.name, "in/")
    versioned.put("2026-02-02/900.jsonl", "2026-02-01/001.jsonl", data=b"2")
    assert versioned.swept(NOON + HOUR) == ["2026-02-01/001.jsonl", "2026-02-02/900.jsonl"]
    assert versioned.swept(NOON + 2 * HOUR) == []


# ---------------------------------------------------------------- odd keys


# A backslash is left out: SeaweedFS makes it a slash.
ODD = [
    "a b",
    "ü",
    "\U0001f600",
    "%",
    "%41",
    "100%",
    "a+b",
    "a&b<c>\"'",
    "?q=1#f",
    "*[]{}|^`~",
    "\x01",
    "a//b//c",
    "a.b",
]
PATHLIKE = ["a\nb", "a\tb", *(name for name in ODD if "//" not in name)]
BYTEWISE = ["..", "../x", ".", "./y", "//", "/lead", "folder/x/", "k" * 1000, *ODD]  # moto cannot hold a new line


def test_odd_keys_a_path_like_server_holds_are_found_read_and_looked_behind(world: World):
    names = [f"{folder}/{name}" for folder in PATHLIKE for name in PATHLIKE]
    world.put(*names)
    assert world.ingest(NOON)[0] == sorted(names)
    assert world.ingest(NOON + HOUR, sweep=True)[0] == []
    prefix = world.bucket.prefix
    refs = {ref.key: ref for ref in world.landing.list_objects()}
    assert all(world.landing.read(refs[prefix + name]) == b"1" for name in names[::7])
    for folder in PATHLIKE:
        listed = sorted(f"{prefix}{folder}/{name}" for name in PATHLIKE)
        for at in (0, len(listed) // 2):
            behind = [key for page in world.landing.pages(f"{prefix}{folder}/", after=listed[at]) for key in page.keys]
            assert sorted(behind) == listed[at + 1 :]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


def moto_world(url: str, project: Project, lake: Lake, *, versioned: bool) -> World:
    config = StoreConfig(url, ACCOUNT["aws_access_key_id"], ACCOUNT["aws_secret_access_key"])
    bucket = Bucket(config, project.source.bucket, "in/", client("s3", url))
    bucket.client.create_bucket(Bucket=bucket.name)
    if versioned:
        bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    return World(project, lake, bucket)


@pytest.mark.parametrize("versioned", [False, True])
def test_odd_keys_no_path_could_hold_are_found_and_read(
    make_project: ProjectFactory, moto: str, lake: Lake, versioned: bool, monkeypatch: pytest.MonkeyPatch
):
    """Keys of up to 1,024 bytes, empty segments, dots, and an object whose name ends like a folder."""
    monkeypatch.setattr(landing, "PAGE_KEYS", 1000)  # moto cannot page through versions
    project = make_project(source={"bucket": f"odd-{versioned}".lower(), "prefix": "in/"})
    world = moto_world(moto, project, lake, versioned=versioned)
    longest = "in/" + "é" * 510 + "x"
    assert len(longest.encode()) == 1024
    names = [*BYTEWISE, *(f"deep/{name}" for name in BYTEWISE), longest.removeprefix("in/")]
    names = [name for name in names if len(f"in/{name}".encode()) <= 1024]
    if versioned:  # moto cannot list this one with versions
        names = [name for name in names if "\x01" not in name]
    for name in names:
        world.put(name, data=name.encode())
    world.put("marker/", data=b"")
    assert world.ingest(NOON)[0] == sorted(names)
    assert world.swept(NOON + HOUR) == []
    refs = {ref.key: ref for ref in world.landing.list_objects()}
    assert len(refs) == len(names)
    for name in names:
        assert world.landing.read(refs[f"in/{name}"]) == name.encode()
    # The same keys once more, by look: their folder has grown, and everything in it was overwritten.
    for name in names:
        world.put(name, data=b"2" + name.encode())
    watch = Watch(project.source.bucket, "in/", {}, swept_at=NOON, sweep_requests=1000)
    waiting = discover.waiting_frame([])
    found = discover.look(project, lake, world.landing, watch, waiting, now=NOON + HOUR, capacity=1000)
    assert sorted(ref.key.removeprefix("in/") for ref in found.refs) == sorted(names)


# ---------------------------------------------------------------- any history

NAMES = [f"{folder}{name}" for folder in ("", "a/", "a/b/", "a-b/", "c/") for name in "1357"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(NAMES), st.sampled_from([b"1", b"2", b""])),
        st.tuples(st.just("delete"), st.sampled_from(NAMES)),
        st.tuples(st.just("look"), st.integers(0, 90)),
        st.tuples(st.just("sweep"), st.integers(0, 90)),
        st.tuples(st.just("forget")),
    ),
    max_size=14,
)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_whatever_happens_each_version_is_planned_once_and_none_is_missed(
    make_project: ProjectFactory, s3_config: StoreConfig, bucket: Bucket, steps: list[tuple[Any, ...]], seed: int
):
    prefix = f"{bucket.prefix}{random.Random(seed).getrandbits(64):x}-{id(steps)}/"  # noqa: S311 - a name
    place = Bucket(s3_config, bucket.name, prefix, bucket.client)
    world = World(make_project(source={"prefix": prefix}), Lake(s3_config, "lake", prefix), place)
    now, there, written, planned = NOON, {}, set(), []
    for step, *values in [*steps, ("look", 1), ("sweep", 1)]:
        match step:
            case "put":
                world.put(values[0], data=values[1])
                there[values[0]] = values[1]
                written.add((values[0], values[1]))
            case "delete":
                world.bucket.delete(values[0])
                there.pop(values[0], None)
            case "forget":
                world.lake.files.delete([planning.cursor_path(world.project)])
            case _:
                now += timedelta(minutes=values[0])
                counts = planning.plan(world.project, world.lake, world.landing, now=now, sweep=step == "sweep")
                for batch in counts["batches"]:
                    refs = planning.refs(planning.read_plan(world.project, world.lake, batch))
                    planned += [(ref.key.removeprefix(prefix), ref.etag) for ref in refs]
                    commit_batch(world.project, world.lake, batch)
    ledger = world.lake.read("objects", world.project.name)
    current = {ref.key.removeprefix(prefix): ref.etag for ref in world.landing.list_objects()}
    assert set(current) == set(there)
    assert len(set(planned)) == len(planned)
    assert set(current.items()) <= set(planned)
    assert len(planned) == ledger.height <= len(written)
    gone = {key.removeprefix(prefix) for key in ledger.filter(pl.col("status") == "deleted")["key"]}
    assert gone == {name for name, _ in planned} - set(there)


# ---------------------------------------------------------------- sweeps in parts


def test_a_sweep_in_parts_finds_the_same_as_one_in_memory(old_world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discover, "PART_ROWS", 7)
    monkeypatch.setattr(discover, "LEDGER_BATCHES", 1)
    old_world.put("2026-02-01/new.jsonl", "2026-02-02/new.jsonl")
    old_world.put(*days(3), data=b"2")
    for name in days(4):
        old_world.bucket.delete(name)
    names, counts = old_world.ingest(NOON, sweep=True)
    assert names == sorted([*days(3), "2026-02-01/new.jsonl", "2026-02-02/new.jsonl"])
    assert counts["deleted"] == 6
    names, counts = old_world.ingest(NOON + HOUR, sweep=True)
    assert (names, counts["deleted"]) == ([], 0)


def test_spilled_rows_come_back_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discover, "PART_ROWS", 10)
    rows = pl.DataFrame({"key": [f"k{number}" for number in range(95)], "value": range(95)})
    with discover._Spill(tmp_path / "one") as spill:
        for at in range(0, 95, 3):
            spill.add(rows[at : at + 3])
    assert spill.parts == discover.PARTS
    back = pl.concat([spill.part(number, spill.parts, rows.schema) for number in range(spill.parts)])
    assert back.sort("value").equals(rows)
    with discover._Spill(tmp_path / "two") as small:
        small.add(rows[:5])
    assert small.parts == 1
    again = pl.concat([small.part(number, 128, rows.schema) for number in range(128)])
    assert again.sort("value").equals(rows[:5])


def test_the_oldest_of_too_many_are_kept():
    new = discover._New(3)
    draw = random.Random(17)  # noqa: S311 - test data
    names = [f"k{number:03d}" for number in range(50)]
    draw.shuffle(names)
    for name in names:
        ref = ObjectRef(name, "e", None, 1, NOON + timedelta(minutes=int(name[1:])))
        listed = discover.listed_frame([Page.of([ref])])
        new.add(listed.with_columns(pl.lit(1, pl.Int64).alias("ledger_revision")))
        new._cut()
    assert [ref.key for ref in new.refs()] == ["k000", "k001", "k002"]
    assert new.left == 47


# ---------------------------------------------------------------- what is remembered


def test_marks_give_the_window_and_stay_few():
    folder = Folder()
    for minute in range(0, 1000, 10):
        folder.greatest = f"k{minute:04d}"
        folder.mark(NOON + timedelta(minutes=minute), 2 * HOUR)
        start = folder.start(NOON + timedelta(minutes=minute) - 2 * HOUR)
        if minute >= 160:
            assert start is not None
            assert 120 <= minute - int(start[1:]) <= 160
        assert len(folder.marks) <= discover.MARKS_PER_WINDOW + 2


def test_what_is_remembered_survives_its_file():
    folder = Folder([(NOON, "a/b"), (NOON + HOUR, "a/ü\n")], NOON, "a/x/", "a/ü\n")
    watch = Watch("b", "a/", {"a/": folder, "a/x/": Folder()}, True, NOON, 12)
    assert Watch.from_json(watch.to_json()) == watch


def test_of_too_many_growing_folders_the_last_ones_are_watched(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discover, "MAX_WATCHED", 2)
    folders = {f"r/{number}/": Folder(found_at=NOON + timedelta(minutes=number)) for number in range(5)}
    folders["r/"] = Folder(last_child="r/z/")
    folders["r/z/"] = Folder()
    kept, crowded = discover._worth_watching(folders, "r/", NOON)
    assert (sorted(kept), crowded) == (["r/", "r/3/", "r/4/", "r/z/"], True)
    kept, crowded = discover._worth_watching(folders, "r/", NOON + timedelta(minutes=4))
    assert (sorted(kept), crowded) == (["r/", "r/4/", "r/z/"], False)


def test_a_sweep_over_very_many_folders_remembers_few(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discover, "MAX_SCANNED_FOLDERS", 20)
    monkeypatch.setattr(discover, "MAX_WATCHED", 2)
    scanned = discover._Scanned("r/", "2026-03-01T10:00:00")
    for number in range(200):
        refs = [ObjectRef(f"r/{number:03d}/x/{n}", "e", None, 1, NOON - HOUR * (number % 50)) for n in range(2)]
        scanned.add(discover.listed_frame([Page.of(refs)]))
        assert len(scanned._scans) <= 20 + 3
    folders = scanned.folders(NOON, 2 * HOUR)
    assert "r/199/x/" in folders  # the last by name
    assert {name for name, one in folders.items() if one.found_at} >= {"r/150/x/"}
    assert folders["r/"].last_child == "r/199/"
