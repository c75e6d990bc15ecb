"""A real Argilla for the tests: Redis, the server and the worker as child processes on free ports of this machine."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

PACKAGE_ROOT = Path(__file__).parents[1]
START_TIMEOUT_SECONDS = 90
OWNER_API_KEY = "owner." + secrets.token_hex(16)
WORKSPACE = "parity"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout_seconds} s")
        time.sleep(0.05)


def redis_binary() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server") or os.environ.get("LABELWHEEL_REDIS_SERVER")
    if not found or not shutil.which(found):
        raise FileNotFoundError(
            "These tests need Redis: put redis-server or valkey-server on PATH, or name one in LABELWHEEL_REDIS_SERVER "
            f"(now {found!r})."
        )
    return found


@contextlib.contextmanager
def running_redis(directory: Path) -> Iterator[str]:
    port = free_port()
    command = [redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
    with (directory / "redis.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: _accepts(port), "Redis answering")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Stack:
    """One Argilla home. `environment` is added to every process, for instance to choose another engine."""

    home: Path
    redis_url: str
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        return self.home / "argilla.db"

    @property
    def index(self) -> Path:
        return self.home / "argilla.db-search"

    @property
    def temporary(self) -> Path:
        return self.home / "tmp"

    def command(self, *arguments: str, module: str = "argilla_sqlite") -> tuple[list[str], dict[str, str]]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(PACKAGE_ROOT),
            "ARGILLA_HOME_PATH": str(self.home),
            "ARGILLA_REDIS_URL": self.redis_url,
            "ARGILLA_AUTH_SECRET_KEY": "only for tests",
            "TMPDIR": str(self.temporary),
            **self.environment,
        }
        self.temporary.mkdir(exist_ok=True)
        return [sys.executable, "-m", module, *arguments], environment

    def run(self, *arguments: str) -> None:
        command, environment = self.command(*arguments)
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=START_TIMEOUT_SECONDS)

    def bootstrap(self) -> None:
        self.run("database", "migrate")
        self.run(
            *("database", "users", "create", "--role", "owner", "--first-name", "owner", "--username", "owner"),
            *("--password", secrets.token_hex(8), "--api-key", OWNER_API_KEY, "--workspace", WORKSPACE),
        )

    def spawn(self, *arguments: str, module: str = "argilla_sqlite") -> subprocess.Popen[bytes]:
        command, environment = self.command(*arguments, module=module)
        with (self.home / f"{module}.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def start(self) -> None:
        self.server = self.spawn("start", "--host", "127.0.0.1", "--port", str(self.port), "--no-access-log")
        wait_until(self._is_ready, "Argilla answering")

    def _is_ready(self) -> bool:
        assert self.server is not None
        if self.server.poll() is not None:
            raise RuntimeError(f"Argilla ended at start:\n{(self.home / 'argilla_sqlite.log').read_text()[-3000:]}")
        try:
            return httpx.get(f"{self.url}/api/v1/status").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        """End the server and return its exit code."""
        assert self.server is not None
        self.server.send_signal(sent)
        code = self.server.wait(timeout=30)
        self.server = None
        return code

    @contextlib.contextmanager
    def running(self) -> Iterator["Stack"]:
        self.start()
        try:
            yield self
        finally:
            if self.server is not None:
                self.stop()

    def client(self, api_key: str = OWNER_API_KEY) -> httpx.Client:
        return httpx.Client(base_url=f"{self.url}/api/v1", headers={"X-Argilla-Api-Key": api_key}, timeout=60)
