"""moto as a server: S3 with keys that no path-like server holds, and SQS. No auth, nothing atomic: not for races."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

ACCOUNT = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


@contextmanager
def moto_server() -> Iterator[str]:
    """The address of an empty server, for as long as the block runs."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def client(service: str, endpoint_url: str) -> Any:
    """A boto3 client for it."""
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}, proxies={})
    return boto3.client(service, endpoint_url=endpoint_url, config=config, **ACCOUNT)
