"""Finding and ending processes, whatever became of their parents.

Every service is started with ``LABELWHEEL_SERVICE`` in its environment; its descendants inherit it, also those that
leave the process group (Airflow's tasks do). So all processes of a service can be found by looking, and no list of
process ids has to survive a crash.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

MARKER = "LABELWHEEL_SERVICE"
# Without these, titles that services give themselves overwrite the environment the marker is in.
KEEP_MARKER = {"SPT_NOENV": "1"}


def marker(home: Path, service: str) -> str:
    """The value of the marker for one service of one stack."""
    return f"{service}@{home}"


def find(home: Path, service: str | None = None) -> list[psutil.Process]:
    """All living processes of a stack, or of one of its services."""
    found = []
    for process in psutil.process_iter():
        try:
            value = process.environ().get(MARKER, "")
        except (psutil.Error, OSError):
            continue  # gone, a zombie, or somebody else's
        name, _, place = value.partition("@")
        if place == str(home) and service in (None, name) and process.pid != os.getpid():
            found.append(process)
    return found


def end(processes: Iterable[psutil.Process], *, grace_seconds: float) -> int:
    """End processes, with SIGKILL after the grace; return how many there were."""
    processes = list(processes)
    if grace_seconds > 0:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=10)
    return len(processes)


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants; empty when it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def pss_bytes(process: psutil.Process) -> int:
    """Memory of one process, pages shared with others counted by share (plain resident size where that is unknown)."""
    try:
        with Path(f"/proc/{process.pid}/smaps_rollup").open(encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except FileNotFoundError:
        with contextlib.suppress(psutil.Error):
            return int(process.memory_info().rss)
    except (OSError, StopIteration):
        pass  # ended while being read
    return 0


class Lock:
    """An advisory lock on a file; the kernel releases it when its holder dies, so it is never stale."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a+")
        os.set_inheritable(self._file.fileno(), False)

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock; without ``wait`` return False when somebody holds it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()
        return True

    def holder(self) -> int | None:
        """The process id of the holder, or None when nobody holds the lock."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = self.path.read_text(encoding="ascii")
            return int(text) if text.isdigit() else None
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return None

    def close(self) -> None:
        """Release the lock."""
        self._file.close()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock for the time of the block; wait for it first."""
    lock = Lock(path)
    lock.acquire(wait=True)
    try:
        yield
    finally:
        lock.close()
