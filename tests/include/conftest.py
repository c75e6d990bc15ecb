"""A real S3 server for every test of ``include/``, and small factories on top of it.

- ``s3_config``    how to reach the server (session)
- ``bucket``       a folder of its own in the landing bucket, per test
- ``lake``         an empty lake of its own, per test
- ``make_project`` a valid project; keyword arguments replace parts of it, nested mappings are merged
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config

from include.lake import Lake, StoreConfig
from include.project import Project
from standalone.s3 import run_server

LANDING_BUCKET = "landing"
LAKE_BUCKET = "lake"

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


@pytest.fixture(scope="session")
def s3_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreConfig]:
    """A server on loopback with one account and the two buckets, ended with the session."""
    with run_server(tmp_path_factory.mktemp("s3")) as server:
        for name in (LANDING_BUCKET, LAKE_BUCKET):
            server.client().create_bucket(Bucket=name)
        yield StoreConfig(
            server.endpoint_url, server.access_key_id, server.secret_access_key, region=server.region_name
        )


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
