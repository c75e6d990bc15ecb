"""Fixtures that run real servers: ``s3_server`` (only the object store) and ``stack`` (everything).

Use them with ``pytest_plugins = ["tests.stack_fixture"]`` in the top ``conftest.py``.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from standalone.home import REPO, Home
from standalone.s3 import S3Server, run_server
from standalone.stack import Stack


@dataclass(frozen=True)
class S3Bucket:
    """An empty bucket of one test on a real S3 server."""

    server: S3Server
    bucket: str

    @property
    def endpoint_url(self) -> str:
        return self.server.endpoint_url

    @property
    def access_key_id(self) -> str:
        return self.server.access_key_id

    @property
    def secret_access_key(self) -> str:
        return self.server.secret_access_key

    @property
    def region_name(self) -> str:
        return self.server.region_name

    def client(self) -> Any:
        return self.server.client()


@pytest.fixture(scope="session")
def s3_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for the session."""
    with run_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_server(s3_process: S3Server) -> S3Bucket:
    """The session's S3 server and a bucket of this test's own."""
    bucket = f"test-{secrets.token_hex(6)}"
    s3_process.client().create_bucket(Bucket=bucket)
    return S3Bucket(s3_process, bucket)


def run_standalone(home: Path, *arguments: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m standalone …`` for a stack of its own, as ``make`` does, in the tools environment."""
    shared = Home().venvs
    environment = {
        **os.environ,
        "LABELWHEEL_PORTS": "auto",
        "LABELWHEEL_HOME": str(home),
        "LABELWHEEL_VENVS": str(shared),
        "LABELWHEEL_STARTED_AT": str(time.time()),  # not when the tests were started
        **environ,
    }
    python = shared / "tools" / "bin" / "python"
    process = subprocess.run(
        [str(python), "-m", "standalone", *arguments],
        cwd=REPO,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    sys.stdout.write(process.stdout)
    sys.stderr.write(process.stderr)
    if check:
        assert process.returncode == 0, f"standalone {' '.join(arguments)} ended with {process.returncode}"
    return process


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole stack in a temporary folder, ready; or the one named by ``LABELWHEEL_TEST_HOME``, left running."""
    if given := os.environ.get("LABELWHEEL_TEST_HOME"):
        yield Stack.load(Path(given)).wait_ready(timeout_seconds=60)
        return
    home = tmp_path_factory.mktemp("stack")
    run_standalone(home, "up")
    try:
        yield Stack.load(home)
    finally:
        run_standalone(home, "down")
