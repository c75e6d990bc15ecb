"""Plan: freeze new object versions into batches, each version once, and know which batches are committed.

A batch is a create-only file ``ingest/<project>/plan/<number>.json``; numbers have no holes and are never used again.
To plan is to create the next number, so of two runs that plan at once one loses, looks again, and sees what the other
took. A killed run leaves whole files only. The truth is these files and the ``objects`` ledger; ``cursor.json`` beside
them is a hint, replaced by If-Match, that saves looking at everything again: it may be deleted at any time.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from include.errors import StorageError
from include.ingestion import discover
from include.ingestion.landing import Landing, ObjectRef
from include.lake import Lake, keys
from include.project import Project

MAX_BATCH_BYTES = 128 * 1024**2  # unpacked
PACKED_RATIO = 10  # what a packed byte is taken for when it is planned
PACKED_SUFFIXES = {".gz", ".zst", ".parquet"}
MAX_BATCH_OBJECTS = 500
MAX_PLANNED_BATCHES = 200  # per run; the rest is planned by the next one
MAX_HINTS = 1000  # per run; each costs a HEAD, and what is left out is found by looking
HEADS_AT_ONCE = 8
NUMBERS_AT_ONCE = 2000  # batches whose ledger rows are looked up by one read

log = logging.getLogger(__name__)


# ---------------------------------------------------------------- files


def plan_path(project: Project, batch: int) -> str:
    """The create-only file that is the batch."""
    return f"ingest/{project.name}/plan/{batch:08d}.json"


def stage_path(project: Project, batch: int, name: str) -> str:
    """A file that staging the batch writes."""
    return f"ingest/{project.name}/stage/{batch:08d}/{name}"


def last_good_path(project: Project) -> str:
    """The profile of the last batch that was committed as good."""
    return f"ingest/{project.name}/last_good.json"


def cursor_path(project: Project) -> str:
    """Where planning remembers how far it got."""
    return f"ingest/{project.name}/cursor.json"


def read_plan(project: Project, lake: Lake, batch: int) -> dict[str, Any]:
    """A batch as it was frozen: ``project``, ``bucket``, ``batch``, ``kind``, ``planned_at``, ``objects`` and more.

    :raises StorageError: when there is no such batch.
    """
    found = _plan(project, lake, batch)
    if found is None:
        raise StorageError(
            f"the plan of ingest batch {batch} of project {project.name!r} does not exist",
            remedy="Run the plan task first; if the file was deleted, restore it from the bucket's versions.",
        )
    return found


def _plan(project: Project, lake: Lake, batch: int) -> dict[str, Any] | None:
    found: dict[str, Any] | None = lake.files.get_json(plan_path(project, batch))
    return found and {"kind": "objects", **found}  # early plans had no kind


def refs(planned: dict[str, Any]) -> list[ObjectRef]:
    """The object versions of a batch."""
    return [ObjectRef.from_json(one) for one in planned["objects"]]


# ---------------------------------------------------------------- cursor


@dataclass(frozen=True)
class Cursor:
    """How far planning got.

    :param last_batch: all numbers up to this one are taken.
    :param committed: all batches up to this one are committed.
    :param watch: what discovery remembers.
    """

    last_batch: int
    committed: int
    watch: discover.Watch

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"last_batch": self.last_batch, "committed": self.committed, "watch": self.watch.to_json()}


def read_cursor(project: Project, lake: Lake) -> tuple[Cursor, str | None]:
    """The cursor, brought up to date from the plans; and the etag of its file, None when there is none.

    Without a usable file everything is looked up again, and discovery will sweep.
    """
    found = lake.files.get_versioned(cursor_path(project))
    cursor = _parse_cursor(project, found[0]) if found else None
    if cursor is None:
        paths = lake.files.list(f"ingest/{project.name}/plan")
        numbers = sorted(int(path.rpartition("/")[2].removesuffix(".json")) for path in paths)
        open_batches = _uncommitted(project, lake, numbers)
        last_batch = max(numbers, default=0)
        # Plans are deleted only after their batch was committed, and never the last one.
        cursor = Cursor(last_batch, min(open_batches, default=last_batch + 1) - 1, _new_watch(project))
    last_batch = cursor.last_batch
    while lake.files.get(plan_path(project, last_batch + 1)) is not None:
        last_batch += 1
    return replace(cursor, last_batch=last_batch), found[1] if found else None


def _parse_cursor(project: Project, data: bytes) -> Cursor | None:
    try:
        value = json.loads(data)
        watch = discover.Watch.from_json(value["watch"])
        cursor = Cursor(value["last_batch"], value["committed"], watch)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("The cursor of project %s is not readable (%r): looking at everything again.", project.name, error)
        return None
    if (watch.bucket, watch.prefix) != (project.source.bucket, project.source.prefix):
        return replace(cursor, watch=_new_watch(project))
    return cursor


def _new_watch(project: Project) -> discover.Watch:
    return discover.Watch(project.source.bucket, project.source.prefix)


def _write_cursor(project: Project, lake: Lake, cursor: Cursor, etag: str | None) -> bool:
    """True when it was written; False when another run wrote it meanwhile: then that one's stays."""
    return lake.files.swap(cursor_path(project), keys.canonical_json(cursor.to_json()).encode(), etag)


# ---------------------------------------------------------------- committed


def is_committed(project: Project, lake: Lake, batch: int) -> bool:
    """Whether the batch is in the ledger."""
    found = lake.files.get(cursor_path(project))
    cursor = _parse_cursor(project, found) if found else None
    if cursor is not None and batch <= cursor.committed:
        return True
    return lake.has_transaction("objects", f"ingest/{project.name}/{batch}")


def uncommitted_before(project: Project, lake: Lake, batch: int) -> list[int]:
    """Numbers of the batches planned before this one and not committed yet, oldest first."""
    cursor, _ = read_cursor(project, lake)
    return _uncommitted(project, lake, range(cursor.committed + 1, batch))


def mark_committed(project: Project, lake: Lake, batch: int) -> None:
    """Remember that the batch is in the ledger; does nothing while an older one is not, or when another run writes."""
    cursor, etag = read_cursor(project, lake)
    if batch == cursor.committed + 1:
        _write_cursor(project, lake, replace(cursor, committed=batch), etag)


def _uncommitted(project: Project, lake: Lake, numbers: Sequence[int]) -> list[int]:
    """Those of the batches (in increasing order) that are not in the ledger."""
    done: set[int] = set()
    for at in range(0, len(numbers), NUMBERS_AT_ONCE):
        some = numbers[at : at + NUMBERS_AT_ONCE]
        where = pl.col("ingest_batch").is_between(some[0], some[-1])
        done |= set(
            lake.read("objects", project.name, columns=["ingest_batch"], where=where, newest=False)["ingest_batch"]
        )
    return [number for number in numbers if number not in done and not _is_done_otherwise(project, lake, number)]


def _is_done_otherwise(project: Project, lake: Lake, batch: int) -> bool:
    """Whether a batch without ledger rows of its own is committed."""
    planned = _plan(project, lake, batch)
    if planned is None:
        return True  # deleted after it was committed
    return planned["kind"] != "objects" and lake.has_transaction("objects", f"ingest/{project.name}/{batch}")


def plans_in_waiting(project: Project, lake: Lake) -> list[dict[str, Any]]:
    """The batches that are planned and not committed yet, oldest first."""
    cursor, _ = read_cursor(project, lake)
    return list(_waiting(project, lake, cursor))


def _waiting(project: Project, lake: Lake, cursor: Cursor) -> Iterator[dict[str, Any]]:
    for number in _uncommitted(project, lake, range(cursor.committed + 1, cursor.last_batch + 1)):
        yield read_plan(project, lake, number)


# ---------------------------------------------------------------- plan


def plan(
    project: Project,
    lake: Lake,
    landing: Landing,
    *,
    now: datetime,
    hints: Sequence[str] = (),
    sweep: bool = False,
) -> dict[str, Any]:
    """Freeze new object versions into batches.

    :param hints: keys said to be new, for example by S3 events; each is checked, and none is needed.
    :param sweep: compare everything with the ledger now, even when the last sweep was not long ago.
    :returns: ``batches``: numbers of all batches that are not committed yet, oldest first; ``objects``: object versions
        in them; ``left``: new object versions left to the next run, at least, above ``MAX_PLANNED_BATCHES``; ``swept``;
        ``deleted`` and ``restored``: object versions that a sweep marked so; ``list_requests``.
    :raises StorageError: when the landing bucket or the lake cannot be reached.
    """
    before = landing.list_requests
    deleted = restored = 0
    while True:
        cursor, etag = read_cursor(project, lake)
        numbers, identities, objects = _planned(project, lake, landing, cursor)
        room = max(MAX_PLANNED_BATCHES - len(numbers), 0)
        found = _discover(project, lake, landing, cursor, identities, hints, sweep, now, room * MAX_BATCH_OBJECTS)
        deleted, restored = deleted + found.deleted, restored + found.restored
        batches = even_batches(found.refs)
        taken = range(cursor.last_batch + 1, cursor.last_batch + 1 + min(room, len(batches)))
        for number, group in zip(taken, batches, strict=False):  # without room for all
            document = {
                "bucket": landing.bucket,
                "kind": "objects",
                "planned_at": now.isoformat(),
                "objects": [ref.to_json() for ref in group],
            }
            if _create(project, lake, number, document) is None:
                break  # another run planned meanwhile: look again
        else:
            left = found.left + sum(len(group) for group in batches[room:])
            _remember(project, lake, cursor, etag, found, [*numbers, *taken], left)
            return {
                "batches": [*numbers, *taken],
                "objects": objects + sum(len(group) for group in batches[:room]),
                "left": left,
                "swept": found.swept,
                "deleted": deleted,
                "restored": restored,
                "list_requests": landing.list_requests - before,
            }


def create_plan(project: Project, lake: Lake, document: dict[str, Any]) -> dict[str, Any] | None:
    """Freeze a batch of another kind under the next number.

    :param document: ``bucket``, ``kind``, ``planned_at``, ``objects`` and whatever the kind needs.
    :returns: the batch; None when another run took the number: look again whether the batch is still wanted.
    """
    return _create(project, lake, next_batch_number(project, lake), document)


def next_batch_number(project: Project, lake: Lake) -> int:
    """The number of the batch that is planned next."""
    cursor, _ = read_cursor(project, lake)
    return cursor.last_batch + 1


def _create(project: Project, lake: Lake, batch: int, document: dict[str, Any]) -> dict[str, Any] | None:
    frozen = {"project": project.name, "batch": batch, **document}
    return frozen if lake.files.create(plan_path(project, batch), keys.canonical_json(frozen).encode()) else None


def _planned(project: Project, lake: Lake, landing: Landing, cursor: Cursor) -> tuple[list[int], pl.DataFrame, int]:
    """Numbers of the waiting batches, the identities in them (of this bucket), and how many objects they have."""
    numbers, frames, objects = [], [discover.waiting_frame([])], 0
    for planned in _waiting(project, lake, cursor):
        numbers.append(planned["batch"])
        objects += len(planned["objects"])
        if planned["bucket"] == landing.bucket:
            frames.append(discover.waiting_frame(refs(planned)))
    return numbers, pl.concat(frames), objects


def _discover(
    project: Project,
    lake: Lake,
    landing: Landing,
    cursor: Cursor,
    waiting: pl.DataFrame,
    hints: Sequence[str],
    sweep: bool,
    now: datetime,
    capacity: int,
) -> discover.Found:
    if sweep or cursor.watch.sweep_is_due(project, now):
        return discover.sweep(project, lake, landing, waiting, last_batch=cursor.last_batch, now=now, capacity=capacity)
    hinted = _check_hints(landing, hints)
    return discover.look(project, lake, landing, cursor.watch, waiting, hints=hinted, now=now, capacity=capacity)


def _check_hints(landing: Landing, hints: Sequence[str]) -> list[ObjectRef]:
    """What hinted keys of the landing folder hold now."""
    wanted = [key for key in dict.fromkeys(hints) if key.startswith(landing.prefix) and key != landing.prefix]
    if len(wanted) > MAX_HINTS:
        log.info("%s of %s hints are left out; looking finds their objects.", len(wanted) - MAX_HINTS, len(wanted))

    def head(key: str) -> ObjectRef | None:
        try:
            return landing.head(key)
        except StorageError as error:  # a hint only starts work earlier, so a wrong one must not stop it
            log.warning("The hint %r cannot be checked: %s", key, error)
            return None

    with ThreadPoolExecutor(HEADS_AT_ONCE, "head") as pool:
        found = [ref for ref in pool.map(head, wanted[:MAX_HINTS]) if ref is not None]
    return [ref for ref in found if not ref.is_folder_marker]


def _remember(
    project: Project,
    lake: Lake,
    cursor: Cursor,
    etag: str | None,
    found: discover.Found,
    waiting: Sequence[int],
    left: int,
) -> None:
    last_batch = max([cursor.last_batch, *waiting])
    committed = min(waiting, default=last_batch + 1) - 1
    watch = found.watch
    if left:
        # What was left must be found again: by a sweep, or by a look that starts where this one did.
        watch = replace(watch, swept_at=None) if found.swept else cursor.watch
    _write_cursor(project, lake, Cursor(last_batch, committed, watch), etag)


# ---------------------------------------------------------------- batches


def even_batches(objects: Sequence[ObjectRef]) -> list[list[ObjectRef]]:
    """Batches within the limits and of about the same size, in the given order; a larger object is one by itself."""
    full = MAX_BATCH_BYTES * MAX_BATCH_OBJECTS  # of this, each object takes a share
    loads = [min(max(_weight_bytes(ref) * MAX_BATCH_OBJECTS, MAX_BATCH_BYTES), full) for ref in objects]
    left = sum(loads)
    batches: list[list[ObjectRef]] = []
    filled, target = 0, 0.0
    for ref, load in zip(objects, loads, strict=True):
        if not batches or filled + load > full or filled + load / 2 > target:
            batches.append([])
            filled, target = 0, left / math.ceil(left / full)
        batches[-1].append(ref)
        filled += load
        left -= load
    return batches


def _weight_bytes(ref: ObjectRef) -> int:
    return ref.size_bytes * (PACKED_RATIO if PurePosixPath(ref.key).suffix.lower() in PACKED_SUFFIXES else 1)
