"""`python -m argilla_sqlite <arguments>`: Argilla's own command line, with the SQLite search engine."""

import signal
import sys

from argilla_sqlite.errors import ArgillaSqliteError
from argilla_sqlite.runtime import prepare


def main() -> None:
    try:
        prepare()
    except ArgillaSqliteError as error:
        sys.exit(f"argilla_sqlite: {error}")

    from argilla_server.cli import app as command_line

    # uvicorn shuts down on SIGTERM and then raises it again, which without a handler would skip the clean-up at exit.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    command_line(prog_name="python -m argilla_sqlite")


if __name__ == "__main__":
    main()
