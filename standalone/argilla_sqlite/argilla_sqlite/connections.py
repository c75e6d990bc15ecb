"""Connections that see two files at once: Argilla's database, read-only, and the full text index, which may be rebuilt.

The index file is the connection's own (`main`) and Argilla's is attached as `argilla`. The order matters: a writing
transaction first waits for the lock on the index and only then looks at Argilla's data, so whoever writes the index
last has also seen the newest data, and the index can never go back in time.
"""

import hashlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from argilla_sqlite.clause import SqlValue

_LOGGER = logging.getLogger(__name__)

Result = TypeVar("Result")

BUSY_TIMEOUT_SECONDS = 30.0
# Enough for the default thread pool of a small machine; more only cost memory.
MAX_IDLE_CONNECTIONS = 8


class Versions(NamedTuple):
    """Counters that move when another connection commits to Argilla's database or to the index."""

    argilla: int
    text_index: int


class Connection:
    """One SQLite connection, used by one thread at a time. Transactions are explicit."""

    def __init__(self, database_path: Path, index_path: Path) -> None:
        self._sqlite = sqlite3.connect(
            index_path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False, uri=True
        )
        # What this connection has found to agree with Argilla's tables, and at which versions of the two files.
        self.known_fresh: dict[str, Versions] = {}
        try:
            # An index lost to a power cut is rebuilt, so it need not wait for the disk.
            self.execute("PRAGMA main.journal_mode = WAL")
            self.execute("PRAGMA main.synchronous = NORMAL")
            self.execute("ATTACH DATABASE ? AS argilla", (database_path.resolve().as_uri() + "?mode=ro",))
            self._sqlite.create_function("user_random", 2, user_random, deterministic=True)
            self._sqlite.create_function("content_digest", 1, content_digest, deterministic=True)
            self.index_inode = index_path.stat().st_ino
        except BaseException:
            self._sqlite.close()
            raise

    def execute(self, sql: str, parameters: Sequence[SqlValue] = ()) -> sqlite3.Cursor:
        return self._sqlite.execute(sql, parameters)

    def execute_many(self, sql: str, rows: Iterator[tuple[SqlValue, ...]] | Sequence[tuple[SqlValue, ...]]) -> None:
        self._sqlite.executemany(sql, rows)

    def value(self, sql: str, parameters: Sequence[SqlValue] = ()) -> Any:
        """Return the first column of the first row, or None."""
        row = self.execute(sql, parameters).fetchone()
        return row[0] if row else None

    def versions(self) -> Versions:
        return Versions(self.value("PRAGMA argilla.data_version"), self.value("PRAGMA main.data_version"))

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one consistent state of each file."""
        self.execute("BEGIN")
        try:
            yield
        finally:
            self.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the only write lock on the index, and one state of Argilla's data that is at least as new."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def close(self) -> None:
        self._sqlite.close()


class Connections:
    """Connections to one database and its index, opened on demand and kept for the next caller."""

    def __init__(self, database_path: Path) -> None:
        self.database_path = database_path
        self.index_path = database_path.with_name(database_path.name + "-search")
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._opening = threading.Lock()

    def run(self, action: Callable[[Connection], Result]) -> Result:
        """Call `action` with a connection; start the index anew and call once more if its file turns out damaged."""
        try:
            return self._run(action)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            _LOGGER.warning("The search index %s is damaged (%s): it is deleted and rebuilt.", self.index_path, error)
            self._delete_index()
        return self._run(action)

    def _run(self, action: Callable[[Connection], Result]) -> Result:
        connection = self._take()
        try:
            result = action(connection)
        except BaseException:
            # Its state is unknown (an open cursor, a transaction that failed to roll back): never reuse it.
            connection.close()
            raise
        with self._lock:
            if len(self._idle) < MAX_IDLE_CONNECTIONS:
                self._idle.append(connection)
                return result
        connection.close()
        return result

    def _take(self) -> Connection:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            if self._is_current(connection):
                return connection
            connection.close()
        # One at a time: two connections switching a new file to WAL at once would not wait for each other.
        with self._opening:
            return Connection(self.database_path, self.index_path)

    def _is_current(self, connection: Connection) -> bool:
        """Return False when the index file was deleted or replaced under the connection."""
        try:
            return self.index_path.stat().st_ino == connection.index_inode
        except FileNotFoundError:
            return False

    def _delete_index(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        for suffix in ("", "-wal", "-shm"):
            self.index_path.with_name(self.index_path.name + suffix).unlink(missing_ok=True)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    # Extended codes carry the primary code in their low byte.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def user_random(user_seed: str, record_id: str) -> float:
    """Return a number in [0, 1) that looks random and is always the same for one user and one record."""
    digest = hashlib.blake2b(record_id.encode(), key=user_seed.encode()[:64], digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def content_digest(content: str) -> bytes:
    """Return a fingerprint of a record's stored fields."""
    return hashlib.blake2b(content.encode(), digest_size=8).digest()
