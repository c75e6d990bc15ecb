"""One try at staging a batch: read its rows, judge them, write the good and the bad ones where no reader sees them yet.

Three threads share the work: one reads and parses ahead, one judges (Great Expectations), one encodes and writes.
Memory holds a few chunks, whatever the size of objects and batches.
"""

from __future__ import annotations

import io
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa

from include.ingestion.ahead import ahead
from include.ingestion.blocks import OBJECT_ROW, BadRow, RejectedObjectError
from include.ingestion.chunks import Chunk, Part, chunks
from include.ingestion.contract import BatchVerdict, Contract
from include.ingestion.landing import Landing, ObjectRef, ObjectSupersededError, ObjectVanishedError
from include.ingestion.privacy import Privacy
from include.ingestion.reading import read_blocks
from include.ingestion.records import encode
from include.ingestion.rows import normalise
from include.ingestion.staged import NothingWritten, StagedFiles
from include.lake import keys
from include.project import Project

SMALL_BYTES = 8 * 1024**2  # objects up to this size are fetched whole, several at once
FETCHED_AHEAD = 4
HELD_BACK_BYTES = 32 * 1024**2  # of an object are parsed before its first row is handed on: most faults show by then
BAD_ROW_BYTES = 1000  # what a bad row takes in memory beside its own bytes
NAMED_CHECKS = 10
NAMED_COLUMNS = 20


@dataclass(frozen=True)
class Fate:
    """What became of an object that gives no rows."""

    status: str
    error: str
    check: str | None = None


class Again(Exception):  # noqa: N818 - a signal to start over, not an error
    """Something was learnt too late: the attempt starts over knowing it."""


@dataclass
class Known:
    """What an attempt knows before it reads."""

    fates: dict[int, Fate] = field(default_factory=dict)  # by position of the object in the batch
    held: BatchVerdict | None = None


@dataclass
class _Entry:
    """What the ledger will say about one object."""

    ref: ObjectRef
    status: str = "loaded"
    error: str | None = None
    accepted: int = 0
    quarantined: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.ref.key,
            "object_version": self.ref.version,
            "etag": self.ref.etag,
            "revision": self.ref.ledger_revision,
            "size_bytes": self.ref.size_bytes,
            "last_modified_at": self.ref.last_modified_at.isoformat(),
            "status": self.status,
            "error": self.error,
            "rows": self.accepted + self.quarantined,
            "accepted": self.accepted,
            "quarantined": self.quarantined,
        }


class Source(Protocol):
    """Where the rows of a batch come from."""

    objects: list[ObjectRef]

    def parts(self, known: dict[int, Fate]) -> Iterator[Part | tuple[int, Fate]]:
        """Parts of objects, or the fate of an object that gives none.

        :param known: fates of objects that are not to be read again, by position.
        :raises Again: when an object turns out to be unusable after some of its rows were handed on.
        """
        ...


class LandedRows:
    """Rows of objects in the landing bucket, in order, object by object."""

    def __init__(self, project: Project, landing: Landing, objects: list[ObjectRef]) -> None:
        self.project = project
        self.landing = landing
        self.objects = objects

    def parts(self, known: dict[int, Fate]) -> Iterator[Part | tuple[int, Fate]]:
        """See ``Source.parts``."""
        return self.parts_of(range(len(self.objects)), known)

    def parts_of(self, positions: Iterable[int], known: dict[int, Fate]) -> Iterator[Part | tuple[int, Fate]]:
        """The same for some objects only."""
        for position, opened in self._open_all(positions, known):
            if isinstance(opened, Fate):
                yield position, opened
                continue
            yield from self._parts(position, opened, known)

    def _parts(self, position: int, stream: BinaryIO, known: dict[int, Fate]) -> Iterator[Part | tuple[int, Fate]]:
        ref, source = self.objects[position], self.project.source
        held_back: list[Part] = []
        size_bytes = 0
        try:
            with stream:
                for block in read_blocks(ref.key, stream, source, ref.size_bytes, version_id=ref.version_id):
                    part = Part(position, normalise(source, block))
                    if size_bytes >= HELD_BACK_BYTES:
                        yield from held_back
                        held_back = []
                        yield part
                    else:
                        held_back.append(part)
                        # bad rows count, too: an object of nothing else must not pile up
                        size_bytes += block.columns.nbytes + sum(BAD_ROW_BYTES + len(bad.raw) for bad in part.rows.bad)
        except (ObjectVanishedError, ObjectSupersededError, RejectedObjectError) as error:
            fate = _fate(error)
            if size_bytes >= HELD_BACK_BYTES and not held_back:
                known[position] = fate
                raise Again from error
            yield position, fate
        else:
            yield from held_back

    def _open_all(self, wanted: Iterable[int], known: dict[int, Fate]) -> Iterator[tuple[int, BinaryIO | Fate]]:
        """Streams in order; small objects are fetched by several threads at once."""
        with ThreadPoolExecutor(FETCHED_AHEAD, thread_name_prefix="fetch") as pool:
            coming: deque[tuple[int, Future[bytes] | None]] = deque()
            positions = iter(wanted)
            while True:
                while len(coming) < FETCHED_AHEAD and (position := next(positions, None)) is not None:
                    ref = self.objects[position]
                    small = ref.size_bytes <= SMALL_BYTES and position not in known
                    coming.append((position, pool.submit(self.landing.read, ref) if small else None))
                if not coming:
                    return
                position, fetched = coming.popleft()
                if position in known:
                    yield position, known[position]
                    continue
                try:
                    yield position, io.BytesIO(fetched.result()) if fetched else self._large(position)
                except (ObjectVanishedError, ObjectSupersededError) as error:
                    yield position, _fate(error)

    def _large(self, position: int) -> BinaryIO:
        opened: BinaryIO = self.landing.open(self.objects[position])
        return opened


def _fate(error: ObjectVanishedError | ObjectSupersededError | RejectedObjectError) -> Fate:
    if isinstance(error, RejectedObjectError):
        return Fate("rejected", str(error), error.check)
    return Fate("vanished" if isinstance(error, ObjectVanishedError) else "superseded", str(error))


class Attempt:
    """One try at staging a batch.

    :param files: takes what is to be stored.
    :param reference: profile of the last good batch.
    """

    releases_held = False  # whether rows land though an expectation of severity hold failed

    def __init__(
        self,
        project: Project,
        files: StagedFiles | NothingWritten,
        rows: Source,
        planned: dict[str, Any],
        known: Known,
        *,
        reference: dict[str, Any] | None,
        now: datetime,
    ) -> None:
        self.project = project
        self.files = files
        self.rows = rows
        self.reference = reference
        self.planned = planned
        self.known = known
        self.now = now
        self.contract = Contract(project)
        self.privacy = Privacy(project)
        self.entries = [_Entry(ref) for ref in rows.objects]
        self.checks: Counter[str] = Counter()
        self.new_columns: set[str] = set()

    def run(self) -> dict[str, Any]:
        """Do it; the report to freeze."""
        kept, results = [], []
        with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
            written: Future[None] = writer.submit(lambda: None)
            for chunk in chunks(self._good(self._parts())):
                if self.known.held is not None:
                    self._hold(chunk, self.known.held)
                    continue
                private = self.privacy.apply(chunk.columns)
                verdict = self.contract.check(private.columns)
                results.append(verdict.results)
                kept.append(self.contract.collect(private.columns))
                good = self._judge(chunk, private.failures, verdict.failures)
                written.result()  # at most one chunk waits to be written
                written = writer.submit(self._write, chunk, private.columns, private.kinds, good)
                del chunk, private, verdict  # let go of the chunk before the next one is gathered
            written.result()
        whole = self.known.held or self.contract.check_batch(kept, results, self.reference)
        if whole.hold and self.known.held is None and not self.releases_held:
            self.known.held = whole
            raise Again
        self._finish()
        return self._report(whole)

    def _finish(self) -> None:
        """What is left to be stored when every row was judged."""

    def _parts(self) -> Iterator[Part | tuple[int, Fate]]:
        yield from ahead(self.rows.parts(self.known.fates))

    def _good(self, parts: Iterable[Part | tuple[int, Fate]]) -> Iterator[Part]:
        """The parts, after their bad rows went to quarantine."""
        for part in parts:
            if isinstance(part, tuple):
                self._end(*part)
                continue
            self.new_columns |= part.rows.new_columns
            self._reject(part.object, part.rows.bad, part.rows.header)
            if part.rows.columns.num_rows:
                yield part

    def _end(self, position: int, fate: Fate) -> None:
        """Note an object that gives no rows."""
        self.entries[position].status, self.entries[position].error = fate.status, fate.error
        if fate.check is not None:
            failure = {"expectation": fate.check, "column": None, "observed": None}
            self._reject(position, [BadRow(OBJECT_ROW, b"", "object", fate.error, [failure])], None)

    def _reject(self, position: int, bad: list[BadRow], header: bytes | None) -> None:
        if not bad:
            return
        entry = self.entries[position]
        entry.quarantined += len(bad)
        for row in bad:
            self.checks.update({check_name(failure) for failure in row.failures})
        self.files.reject([self._quarantine_row(entry.ref.key, entry.ref.version, row, header) for row in bad])

    def _quarantine_row(self, key: str, version: str, bad: BadRow, header: bytes | None) -> dict[str, Any]:
        return {
            "project": self.project.name,
            "bucket": self.planned["bucket"],
            "key": key,
            "object_version": version,
            "row_number": bad.number,
            "attempt": 0,
            "stage": bad.stage,
            "reason": bad.reason,
            "failures_json": keys.canonical_json(bad.failures),
            "raw": None if bad.number == OBJECT_ROW else bad.raw,
            "header": header,
            "suite_version": self.contract.suite_version,
            "ingest_batch": self.planned["batch"],
            "quarantined_at": self.now,
        }

    def _judge(
        self,
        chunk: Chunk,
        personal: dict[int, list[dict[str, Any]]],
        broken: dict[int, list[dict[str, Any]]],
    ) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Send rows with failures to quarantine; (R,) which rows are good."""
        good = np.ones(chunk.size, dtype=bool)
        for row in sorted({*personal, *broken}):
            failures = [*personal.get(row, []), *broken.get(row, [])]
            good[row] = False
            position, number, raw, header = chunk.source(row)
            reason = f"row breaks the contract: {', '.join(check_name(failure) for failure in failures)}"
            self._reject(position, [BadRow(number, raw, "validate", reason, failures)], header)
        for position, accepted in enumerate(np.bincount(chunk.object_index[good], minlength=len(self.entries))):
            self.entries[position].accepted += int(accepted)
        return good

    def _hold(self, chunk: Chunk, verdict: BatchVerdict) -> None:
        """Send every row of the chunk to quarantine, because the batch as a whole is not to be trusted."""
        failures = [
            {name: finding[name] for name in ("expectation", "column", "observed")}
            for finding in verdict.findings
            if finding["failed"] and finding["severity"] == "hold"
        ]
        reason = f"the whole batch was held back: {', '.join(check_name(failure) for failure in failures)}"
        for row in range(chunk.size):
            position, number, raw, header = chunk.source(row)
            self._reject(position, [BadRow(number, raw, "batch", reason, failures)], header)
            self.entries[position].status = "held"

    def _write(
        self,
        chunk: Chunk,
        columns: pa.Table,
        kinds: pa.StringArray | None,
        good: np.ndarray[tuple[int], np.dtype[np.bool_]],
    ) -> None:
        if good.any():
            self.files.add(encode(self.project, chunk, columns, kinds), chunk.object_index, good)

    def _report(self, verdict: BatchVerdict) -> dict[str, Any]:
        keys_path = self.files.close()
        # An expectation that sent rows to quarantine is in ``failed_checks``; one that was skipped is in the Data Docs.
        failed = [one for one in verdict.findings if one["failed"]]
        warnings = [one for one in failed if one["why"] != "rows" or one["severity"] == "warn"]
        return {
            "batch": self.planned["batch"],
            "bucket": self.planned["bucket"],
            "suite_version": self.contract.suite_version,
            "staged_at": self.now.isoformat(),
            "held": verdict.hold and not self.releases_held,
            "objects": [entry.to_json() for entry in self.entries],
            "records": [file.to_json() for file in self.files.records],
            "quarantine": [file.to_json() for file in self.files.quarantine],
            "keys": keys_path,
            "failed_checks": dict(self.checks.most_common(NAMED_CHECKS)),
            "warnings": warnings,
            "new_columns": sorted(self.new_columns)[:NAMED_COLUMNS],
            "validation": verdict.result,
            "profile": verdict.profile,
        }


def check_name(failure: dict[str, Any]) -> str:
    """How a check is named to people: ``expect_column_values_to_be_in_set(lang)``."""
    return f"{failure['expectation']}({failure['column'] or ''})".removesuffix("()")
