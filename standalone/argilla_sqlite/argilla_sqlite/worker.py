"""`python -m argilla_sqlite.worker`: Argilla's background jobs (webhooks, status updates, imports), one at a time.

Stock Argilla forks a process per job and imports everything in it, about a second each; here jobs run in this process.
Failed webhooks are tried again by rq's scheduler, which runs beside it. SIGTERM or SIGINT ends the worker: at once when
idle, after the running job otherwise; a second signal does not wait for the job, and Redis keeps it as failed.
"""

import logging
import sys

from argilla_sqlite.errors import ArgillaSqliteError
from argilla_sqlite.runtime import prepare


def main() -> None:
    try:
        prepare()
    except ArgillaSqliteError as error:
        sys.exit(f"argilla_sqlite: {error}")

    from argilla_server.jobs.queues import DEFAULT_QUEUE, HIGH_QUEUE, REDIS_CONNECTION
    from rq import SimpleWorker

    worker = SimpleWorker([HIGH_QUEUE, DEFAULT_QUEUE], connection=REDIS_CONNECTION)
    worker.work(with_scheduler=True, logging_level=logging.WARNING)


if __name__ == "__main__":
    main()
