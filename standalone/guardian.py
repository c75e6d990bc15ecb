"""Ends the services when their supervisor is gone, however it went.

The supervisor holds the other end of our standard input. When it closes, because the supervisor was killed or has
finished, whatever still runs is ended. A lock tells the next supervisor that this is still going on.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path


def main(home: Path) -> None:
    """Wait for the supervisor's end, then end what it left behind."""
    # A terminal's Ctrl-C or 'kill' of the group is for the supervisor; we go when it has gone.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()
    from standalone import processes  # only now: it would cost memory all the time

    processes.end(processes.find(home), grace_seconds=10)


if __name__ == "__main__":
    import fcntl

    with Path(sys.argv[2]).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        main(Path(sys.argv[1]))
