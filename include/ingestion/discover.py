"""Which object versions in the landing folder are new, at the cost of the new ones.

Two ways, and the second is the truth:

- ``look`` follows the folders that are growing. In each it lists what lies behind the last key that was known before
  the lateness window (``source.lateness_hours``), with a delimiter, so that one request gives both the objects of a
  folder and the names of its subfolders. It watches the landing folder itself, every folder that got objects within the
  window, the folders above those, and from the landing folder down the last subfolder by name: where names grow with
  time (``2026-11-24/…``), that is where new data lands. New subfolders are followed to their ends.
- ``sweep`` lists everything and compares it with the ledger. It finds what ``look`` cannot: names that are not ordered
  by time, objects later than the window, overwritten or copied ones in quiet folders, and those that were deleted.
  It runs at least every ``source.sweep_hours``, and every time while it is as cheap as looking.

So every object is found by the next sweep at the latest, however its key is made. Times told by the server
(``LastModified``) only choose the folders watched after a sweep; whether an object is new is decided by its identity
alone: (bucket, key, version id, or etag where versioning is off) is neither in the ledger nor in a plan that waits.

A sweep holds a bounded share in memory, however many objects there are: ledger and listing are written to temporary
files in ``PARTS`` parts by a hash of the key, and compared part by part. Key ranges would not do: servers list in
different orders, and the ledger is in order of arrival.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import polars as pl
import pyarrow as pa

from include.ingestion.landing import Landing, ObjectRef, Page
from include.lake import Lake, keys
from include.lake.schemas import OBJECTS
from include.project import Project

MAX_WATCHED = 256  # folders; beyond, the ones that grew last are watched and the sweep finds the rest
MARKS_PER_WINDOW = 4
SMALL_SWEEP_REQUESTS = 4  # a sweep that costs no more is done every time
LEDGER_BATCHES = 200  # read at a time: about 100,000 rows
SIFT_ROWS = 10_000  # listed objects a look collects before it asks the ledger about them
PART_ROWS = 100_000  # rows a sweep collects before it writes them out
PARTS = 128
MAX_SCANNED_FOLDERS = 10_000  # remembered during a sweep, to choose from

READ = ("loaded", "rejected", "held")  # the version was read to its end, and its rows have their fate
UNREAD = ("vanished", "superseded")  # it was gone before it was read: when it comes back it is new
DELETED = "deleted"  # it was read, and is gone from the landing folder since
IDENTITY = ["key", "object_version"]
LISTED = {"key": pl.String, "etag": pl.String, "version_id": pl.String, "size_bytes": pl.Int64, "modified": pl.String}
LISTED_SCHEMA = pl.Schema({**LISTED, "object_version": pl.String})
LEDGER = ("key", "object_version", "status", "revision", "ingest_batch")
LEDGER_SCHEMA = pl.DataFrame(OBJECTS.schema.empty_table()).schema


# ---------------------------------------------------------------- what is remembered


@dataclass
class Folder:
    """A folder that is watched.

    :param marks: (time, key), both increasing: at that time everything in the folder up to that key was known. Where
        the last entry is a subfolder, its name with the final ``/`` is the key.
    :param found_at: when objects were last found in it.
    :param last_child: its last subfolder by name.
    :param greatest: its last entry by name.
    """

    marks: list[tuple[datetime, str]] = field(default_factory=list)
    found_at: datetime | None = None
    last_child: str | None = None
    greatest: str | None = None

    def start(self, cutoff: datetime) -> str | None:
        """The key behind which late objects can still be expected; None: from the beginning."""
        return max((key for at, key in self.marks if at <= cutoff), default=None)

    def knows(self, entry: str) -> bool:
        """Whether the entry is not behind all that were seen."""
        return self.greatest is not None and entry <= self.greatest

    def mark(self, now: datetime, lateness: timedelta) -> None:
        """Note that everything up to the last entry is known now; marks that no window will need again are dropped."""
        at, key = self.marks[-1] if self.marks else (None, "")
        if (self.greatest or "") > key and (at is None or now - at >= lateness / MARKS_PER_WINDOW):
            self.marks.append((now, self.greatest or ""))
        passed = [at for at, _ in self.marks if at <= now - lateness]
        self.marks = [one for one in self.marks if not passed or one[0] >= passed[-1]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "marks": [[at.isoformat(), key] for at, key in self.marks],
            "found_at": self.found_at.isoformat() if self.found_at else None,
            "last_child": self.last_child,
            "greatest": self.greatest,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Folder:
        """The inverse of ``to_json``."""
        return cls(
            marks=[(datetime.fromisoformat(at), key) for at, key in value["marks"]],
            found_at=datetime.fromisoformat(value["found_at"]) if value["found_at"] else None,
            last_child=value["last_child"],
            greatest=value["greatest"],
        )


@dataclass
class Watch:
    """What discovery remembers of a landing folder. Losing it costs a sweep and nothing else.

    :param crowded: more folders grow than are watched.
    :param swept_at: when the last complete sweep began; None: the next run must sweep.
    :param sweep_requests: LIST requests of that sweep.
    """

    bucket: str
    prefix: str
    folders: dict[str, Folder] = field(default_factory=dict)
    crowded: bool = False
    swept_at: datetime | None = None
    sweep_requests: int = 0

    def sweep_is_due(self, project: Project, now: datetime) -> bool:
        """Whether everything should be listed: it was long ago, or costs no more than a look."""
        return (
            self.swept_at is None
            or abs(now - self.swept_at) >= timedelta(hours=project.source.sweep_hours)  # also when clocks were wrong
            or self.sweep_requests <= max(SMALL_SWEEP_REQUESTS, len(self.folders))
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "bucket": self.bucket,
            "prefix": self.prefix,
            "folders": {name: folder.to_json() for name, folder in sorted(self.folders.items())},
            "crowded": self.crowded,
            "swept_at": self.swept_at.isoformat() if self.swept_at else None,
            "sweep_requests": self.sweep_requests,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Watch:
        """The inverse of ``to_json``."""
        return cls(
            bucket=value["bucket"],
            prefix=value["prefix"],
            folders={name: Folder.from_json(one) for name, one in value["folders"].items()},
            crowded=value["crowded"],
            swept_at=datetime.fromisoformat(value["swept_at"]) if value["swept_at"] else None,
            sweep_requests=value["sweep_requests"],
        )


@dataclass
class Found:
    """What a look or a sweep found.

    :param refs: new object versions, in order of arrival.
    :param left: new ones beyond the capacity; a look stops there, so there may be more of them.
    :param deleted: object versions marked as deleted in the ledger.
    :param restored: object versions that were marked as deleted and are there again, with their old bytes.
    :param watch: what to remember, once the refs are planned.
    """

    refs: list[ObjectRef]
    left: int
    watch: Watch
    swept: bool
    deleted: int = 0
    restored: int = 0


# ---------------------------------------------------------------- new or known


def listed_frame(pages: Sequence[Page]) -> pl.DataFrame:
    """Listed objects by column, with their ``object_version``."""
    columns = {
        "key": [key for page in pages for key in page.keys],
        "etag": [etag for page in pages for etag in page.etags],
        "version_id": [version_id for page in pages for version_id in page.version_ids],
        "size_bytes": [size_bytes for page in pages for size_bytes in page.sizes],
        "modified": [modified for page in pages for modified in page.modified],
    }
    frame = pl.DataFrame(columns, schema=LISTED)
    return frame.with_columns(pl.coalesce("version_id", "etag").alias("object_version"))


def waiting_frame(refs: Sequence[ObjectRef]) -> pl.DataFrame:
    """Identities of object versions that are planned and not yet committed."""
    return pl.DataFrame(
        {"key": [ref.key for ref in refs], "object_version": [ref.version for ref in refs]},
        schema={"key": pl.String, "object_version": pl.String},
    )


def current(ledger: pl.DataFrame) -> pl.DataFrame:
    """The newest row of each identity."""
    ledger = ledger.with_columns(pl.col("revision").fill_null(1)).sort("revision", "ingest_batch")
    return ledger.unique(IDENTITY, keep="last", maintain_order=True)


def new_versions(listed: pl.DataFrame, ledger: pl.DataFrame, waiting: pl.DataFrame) -> pl.DataFrame:
    """Listed versions that were never read and do not wait to be; ``ledger_revision`` numbers their ledger row."""
    known = current(ledger)
    fresh = listed.unique(IDENTITY, keep="first", maintain_order=True)
    fresh = fresh.join(known.filter(~pl.col("status").is_in(UNREAD)), on=IDENTITY, how="anti")
    fresh = fresh.join(waiting, on=IDENTITY, how="anti")
    return fresh.join(known.select(*IDENTITY, "revision"), on=IDENTITY, how="left").with_columns(
        (pl.col("revision").fill_null(0) + 1).alias("ledger_revision")
    )


class _New:
    """New versions in order of arrival, the first ``capacity`` of them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self._frames: list[pl.DataFrame] = []
        self._held = 0

    def add(self, frame: pl.DataFrame) -> None:
        self.count += frame.height
        self._held += frame.height
        self._frames.append(frame)
        if self._held > 2 * self.capacity + PART_ROWS:
            self._cut()

    def _cut(self) -> None:
        kept = pl.concat(self._frames).sort("modified", "key").head(self.capacity)
        self._frames, self._held = [kept], kept.height

    def refs(self) -> list[ObjectRef]:
        if not self._frames:
            return []
        self._cut()
        columns = ("key", "etag", "version_id", "size_bytes", "modified", "ledger_revision")
        found = [
            ObjectRef(key, etag, version_id, size_bytes, _time(modified), revision)
            for key, etag, version_id, size_bytes, modified, revision in self._frames[0].select(columns).iter_rows()
        ]
        return sorted(found, key=lambda ref: (ref.last_modified_at, ref.key))

    @property
    def left(self) -> int:
        return max(self.count - self.capacity, 0)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def folder_of(key: str) -> str:
    """The folder a key lies in, with its final ``/``."""
    return key[: key.rfind("/") + 1]


def _above(folder: str, root: str) -> list[str]:
    """``folder`` and the folders above it, from ``root`` down."""
    return [folder[: at + 1] for at in range(len(root) - 1, len(folder)) if folder[at] == "/"]


# ---------------------------------------------------------------- look


class _Sieve:
    """Takes pages of listed objects, keeps the new versions; the ledger is asked about many pages at once."""

    def __init__(self, project: Project, lake: Lake, bucket: str, waiting: pl.DataFrame, capacity: int) -> None:
        self.new = _New(capacity)
        self.grown: set[str] = set()  # folders with new objects
        self._project, self._lake, self._bucket, self._waiting = project, lake, bucket, waiting
        self._pages: list[Page] = []

    @property
    def is_full(self) -> bool:
        return self.new.count >= self.new.capacity

    def add(self, page: Page) -> None:
        if page.keys:
            self._pages.append(page)
        if sum(len(one.keys) for one in self._pages) >= SIFT_ROWS:
            self.flush()

    def flush(self) -> None:
        if not self._pages:
            return
        listed = listed_frame(self._pages)
        self._pages.clear()
        first, last = listed["key"].min(), listed["key"].max()
        # The range lets whole files be skipped; the names bound what is read of the others.
        where = (
            (pl.col("bucket") == self._bucket)
            & pl.col("key").is_between(pl.lit(first), pl.lit(last))
            & pl.col("key").is_in(listed["key"].unique().to_list())
        )
        ledger = self._lake.read("objects", self._project.name, columns=list(LEDGER), where=where, newest=False)
        fresh = new_versions(listed, ledger, self._waiting)
        self.new.add(fresh)
        self.grown.update(folder_of(key) for key in fresh["key"])


def look(
    project: Project,
    lake: Lake,
    landing: Landing,
    watch: Watch,
    waiting: pl.DataFrame,
    *,
    hints: Sequence[ObjectRef] = (),
    now: datetime,
    capacity: int,
) -> Found:
    """New object versions in the folders that are growing.

    :param waiting: identities that are planned and not committed, as of before this call.
    :param hints: what hinted keys hold now.
    :param capacity: object versions that can be planned now; the look ends when it has found that many.
    """
    lateness = timedelta(hours=project.source.lateness_hours)
    sieve = _Sieve(project, lake, landing.bucket, waiting, capacity)
    sieve.add(Page.of(hints))
    folders = {name: Folder.from_json(one.to_json()) for name, one in watch.folders.items()}
    folders.setdefault(landing.prefix, Folder())
    coming = deque(sorted(folders))
    while coming and not sieve.is_full:
        name = coming.popleft()
        folder = folders[name]
        start = folder.start(now - lateness)
        for page in landing.pages(name, after=start, delimiter=True):
            sieve.add(page)
            for child in page.folders:
                # S3 names the subfolder behind which a listing starts, other servers do not.
                if child not in folders and child > (start or "") and not (watch.crowded and folder.knows(child)):
                    folders[child] = Folder()
                    coming.append(child)
            folder.last_child = max([*page.folders, folder.last_child or ""]) or None
            folder.greatest = max([*page.keys, *page.folders, folder.greatest or ""]) or None
            if sieve.is_full:
                break
    sieve.flush()
    if sieve.is_full:  # some of it was not looked at: the next run starts from what was remembered before
        return Found(sieve.new.refs(), sieve.new.left, watch, swept=False)
    for name, folder in folders.items():
        folder.mark(now, lateness)
        folder.found_at = now if name in sieve.grown else folder.found_at
    kept, crowded = _worth_watching(folders, landing.prefix, now - lateness)
    remembered = replace(watch, folders=kept, crowded=crowded)
    return Found(sieve.new.refs(), 0, remembered, swept=False)


def _worth_watching(folders: dict[str, Folder], root: str, cutoff: datetime) -> tuple[dict[str, Folder], bool]:
    """The folders that grew within the window, those above them, the last ones by name; and whether some are left."""
    growing = [name for name, one in folders.items() if one.found_at is not None and one.found_at >= cutoff]
    growing.sort(key=lambda name: (folders[name].found_at, name), reverse=True)
    kept = {root}
    for name in growing[:MAX_WATCHED]:
        kept.update(_above(name, root))
    last: str | None = root
    while last is not None and last in folders:
        kept.add(last)
        last = folders[last].last_child
    return {name: folders[name] for name in sorted(kept) if name in folders}, len(growing) > MAX_WATCHED


# ---------------------------------------------------------------- sweep


def sweep(
    project: Project,
    lake: Lake,
    landing: Landing,
    waiting: pl.DataFrame,
    *,
    last_batch: int,
    now: datetime,
    capacity: int,
) -> Found:
    """New object versions anywhere in the folder; what is gone from it is marked in the ledger.

    :param waiting: identities that are planned and not committed, as of before this call.
    :param last_batch: the greatest number of a planned batch.
    :param capacity: object versions that can be planned now; with more than that, the next run sweeps again.
    """
    lateness = timedelta(hours=project.source.lateness_hours)
    requests = landing.list_requests
    scanned = _Scanned(landing.prefix, (now - lateness).strftime("%Y-%m-%dT%H:%M:%S"))
    new = _New(capacity)
    changed = _Changed(project, lake, now)
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        # The ledger first: what is committed while we list would otherwise look deleted.
        with _Spill(Path(folder, "ledger")) as ledger:
            for rows in _ledger(project, lake, landing, last_batch):
                ledger.add(rows)
        with _Spill(Path(folder, "listed")) as listed:
            for frame in _frames(landing.all_pages()):
                scanned.add(frame)
                listed.add(frame)
        parts = max(ledger.parts, listed.parts)
        for part in range(parts):
            here, known = listed.part(part, parts, LISTED_SCHEMA), ledger.part(part, parts, LEDGER_SCHEMA)
            new.add(new_versions(here, known, waiting))
            changed.compare(here, known)
        changed.write()
    folders = scanned.folders(now, lateness)
    kept, crowded = _worth_watching(folders, landing.prefix, now - lateness)
    watch = Watch(
        landing.bucket,
        landing.prefix,
        kept,
        crowded,
        swept_at=None if new.left else now,
        sweep_requests=landing.list_requests - requests,
    )
    return Found(new.refs(), new.left, watch, swept=True, deleted=changed.deleted, restored=changed.restored)


def _ledger(project: Project, lake: Lake, landing: Landing, last_batch: int) -> Iterator[pl.DataFrame]:
    """All ledger rows about this folder, some batches at a time."""
    for first in range(1, last_batch + 1, LEDGER_BATCHES):
        where = (pl.col("bucket") == landing.bucket) & pl.col("ingest_batch").is_between(
            first, min(first + LEDGER_BATCHES - 1, last_batch)
        )
        rows = lake.read("objects", project.name, where=where, newest=False)
        yield rows.filter(pl.col("key").str.starts_with(landing.prefix))


def _frames(pages: Iterator[Page]) -> Iterator[pl.DataFrame]:
    """Pages put together into frames of about ``PART_ROWS`` rows; the next page is fetched meanwhile."""
    held: list[Page] = []
    with ThreadPoolExecutor(1, "list") as pool:
        coming = pool.submit(next, pages, None)
        while (page := coming.result()) is not None:
            coming = pool.submit(next, pages, None)
            held.append(page)
            if sum(len(one.keys) for one in held) >= PART_ROWS:
                yield listed_frame(held)
                held.clear()
    if held:
        yield listed_frame(held)


class _Spill(AbstractContextManager["_Spill"]):
    """Rows with a ``key``, in temporary files by a hash of it once they are more than ``PART_ROWS``."""

    def __init__(self, folder: Path) -> None:
        self.parts = 1
        self._folder = folder
        self._held: list[pl.DataFrame] = []
        self._writers: dict[int, Any] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def add(self, rows: pl.DataFrame) -> None:
        self._held.append(rows)
        if sum(one.height for one in self._held) > PART_ROWS:
            self._write()

    def part(self, number: int, parts: int, schema: pl.Schema) -> pl.DataFrame:
        """Rows whose key belongs to part ``number`` of ``parts``."""
        frames = [rows.filter(_part(parts) == number) for rows in self._held] if parts > 1 else list(self._held)
        if (path := self._path(number)).exists():
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stored:
                frames.append(pl.DataFrame(pl.from_arrow(stored.read_all())))
        return pl.concat(frames) if frames else schema.to_frame()

    def _write(self) -> None:
        self._folder.mkdir(exist_ok=True)
        self.parts = PARTS
        rows = pl.concat(self._held).with_columns(_part(PARTS).alias("part"))
        self._held.clear()
        for (number,), some in rows.partition_by("part", as_dict=True, include_key=False).items():
            table = some.to_arrow(compat_level=pl.CompatLevel.oldest())
            if number not in self._writers:
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                self._writers[number] = pa.ipc.new_stream(str(self._path(number)), table.schema, options=options)
            self._writers[number].write_table(table)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.arrow"


def _part(parts: int) -> pl.Expr:
    return pl.col("key").hash(seed=17) % parts


class _Changed:
    """Ledger rows for versions that were deleted from the folder, or put back with the same bytes.

    They repeat the figures of the row before, so that sums over current rows stay what they were.
    """

    def __init__(self, project: Project, lake: Lake, now: datetime) -> None:
        self.deleted = 0
        self.restored = 0
        self._project, self._lake, self._now = project, lake, now
        self._held: list[pl.DataFrame] = []

    def compare(self, listed: pl.DataFrame, ledger: pl.DataFrame) -> None:
        known = current(ledger)
        gone = known.filter(pl.col("status").is_in(READ)).join(listed, on="key", how="anti")
        gone = gone.with_columns(pl.lit(DELETED).alias("status"))
        back = known.filter(pl.col("status") == DELETED).join(listed, on=IDENTITY, how="semi")
        if back.height:
            before = current(ledger.filter(pl.col("status") != DELETED)).select(*IDENTITY, "status")
            back = back.drop("status").join(before, on=IDENTITY, how="inner").select(gone.columns)
        self.deleted += gone.height
        self.restored += back.height
        rows = pl.concat([gone, back])
        if rows.height:
            self._held.append(
                rows.with_columns(
                    pl.col("revision") + 1, pl.lit(self._now).dt.cast_time_unit("us").alias("committed_at")
                )
            )
        if sum(one.height for one in self._held) > PART_ROWS:
            self.write()

    def write(self) -> None:
        if not self._held:
            return
        rows = pl.concat(self._held).sort("key", "object_version")
        self._held.clear()
        identity = rows.select("key", "object_version", "revision", "status").rows()
        app_id = f"ingest/{self._project.name}/sweep/{keys.digest(keys.canonical_json(identity))}"
        self._lake.append("objects", rows.to_arrow(compat_level=pl.CompatLevel.oldest()), app_id=app_id)


@dataclass
class _Scan:
    """What a sweep saw of one folder: its entries (objects and subfolders) and times as the server wrote them."""

    greatest: str = ""
    settled: str = ""  # the greatest entry that was there before the window
    last_child: str = ""
    newest: str = ""


class _Scanned:
    """Which folders a sweep saw grow."""

    def __init__(self, root: str, cutoff: str) -> None:
        self._root, self._cutoff = root, cutoff
        self._scans: dict[str, _Scan] = {root: _Scan()}

    def add(self, listed: pl.DataFrame) -> None:
        old = pl.col("modified") < self._cutoff
        groups = listed.group_by(pl.col("key").str.extract(r"(?s)^(.*/)").alias("folder")).agg(
            pl.col("key").max().alias("greatest"),
            pl.col("key").filter(old).max().alias("settled"),
            pl.col("modified").max().alias("newest"),
        )
        for name, greatest, settled, newest in groups.iter_rows():
            scan = self._scans.setdefault(name, _Scan())
            scan.greatest = max(scan.greatest, greatest)
            scan.settled = max(scan.settled, settled or "")
            scan.newest = max(scan.newest, newest)
            chain = _above(name, self._root)
            for parent, child in pairwise(chain):
                above = self._scans.setdefault(parent, _Scan())
                above.greatest = max(above.greatest, child)
                above.last_child = max(above.last_child, child)
                if settled is not None:
                    above.settled = max(above.settled, child)
        if len(self._scans) > MAX_SCANNED_FOLDERS:
            self._forget()

    def _forget(self) -> None:
        """Keep the folders modified last, those above them, and the last ones by name."""
        newest = sorted(self._scans, key=lambda name: self._scans[name].newest, reverse=True)[: 2 * MAX_WATCHED]
        kept = {one for name in newest for one in _above(name, self._root)} | set(self._last())
        self._scans = {name: self._scans[name] for name in kept if name in self._scans}

    def _last(self) -> Iterator[str]:
        name = self._root
        while name in self._scans:
            yield name
            name = self._scans[name].last_child

    def folders(self, now: datetime, lateness: timedelta) -> dict[str, Folder]:
        """The same as folders to watch; ``found_at`` is set for those modified within the window."""
        result = {}
        for name, scan in self._scans.items():
            marks = [(at, key) for at, key in ((now - lateness, scan.settled), (now, scan.greatest)) if key]
            found_at = now if scan.newest >= self._cutoff else None
            result[name] = Folder(marks, found_at, scan.last_child or None, scan.greatest or None)
        return result
