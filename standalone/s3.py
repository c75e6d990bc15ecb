"""The S3 server of the standalone stack: SeaweedFS ``weed mini``, all of it on loopback."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from standalone.errors import ServiceError, StackError
from standalone.home import DEFAULT_PORTS, Home, free_port, write_private

REGION = "us-east-1"
# Its own bucket, so that probing never shows up in anyone's listing.
PROBE_BUCKET = "labelwheel-probe"
# Without a limit Go lets its heap grow well beyond what the data needs.
ENVIRONMENT = {"GOMEMLIMIT": "400MiB"}


@dataclass(frozen=True)
class S3Server:
    """How to reach an S3 server."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region_name: str = REGION

    def client(self, *, timeout_seconds: float = 20, retries: int = 2) -> Any:
        """A boto3 client for it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region_name,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                connect_timeout=timeout_seconds,
                read_timeout=timeout_seconds,
                retries={"max_attempts": retries},
                proxies={},  # one of the environment is for the internet, not for loopback
            ),
        )


def find_weed() -> Path:
    """The server binary: from the tools environment, else from PATH.

    :raises StackError: when it is nowhere.
    """
    folders = [Home().venvs / "tools" / "bin", Path(sys.executable).parent, *os.get_exec_path()]
    found = shutil.which("weed", path=os.pathsep.join(map(str, folders)))
    if found is None:
        raise StackError("The S3 server 'weed' is not installed", remedy="Run 'make install'.")
    return Path(found)


def command(weed: Path, data: Path, ports: Mapping[str, int]) -> list[str]:
    """The command line of the server; its keys are in the identities file, not here."""
    return [
        str(weed),
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={data / 'identities.json'}",
        f"-s3.port={ports['s3']}",
        f"-s3.port.grpc={ports['s3_grpc']}",
        f"-master.port={ports['s3_master']}",
        f"-master.port.grpc={ports['s3_master_grpc']}",
        f"-volume.port={ports['s3_volume']}",
        f"-volume.port.grpc={ports['s3_volume_grpc']}",
        f"-filer.port={ports['s3_filer']}",
        f"-filer.port.grpc={ports['s3_filer_grpc']}",
        f"-admin.port={ports['s3_admin']}",
        f"-admin.port.grpc={ports['s3_admin_grpc']}",
        # Services we do not use would each listen, too.
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
    ]


def write_identities(data: Path, access_key_id: str, secret_access_key: str) -> None:
    """Give the server its one account."""
    identity = {
        "name": "labelwheel",
        "credentials": [{"accessKey": access_key_id, "secretKey": secret_access_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    write_private(data / "identities.json", json.dumps({"identities": [identity]}))


def probe(server: S3Server) -> None:
    """Require what the lake relies on: old objects readable, new ones writable, a second create of a key refused.

    :raises ServiceError: when the server is not ready, or breaks the promise.
    """
    client = server.client(timeout_seconds=5, retries=0)
    try:
        try:
            # After a restart this fails until the volumes holding old objects have registered.
            client.get_object(Bucket=PROBE_BUCKET, Key="previous")["Body"].read()
        except client.exceptions.NoSuchBucket:
            client.create_bucket(Bucket=PROBE_BUCKET)
        except client.exceptions.NoSuchKey:
            pass
        client.put_object(Bucket=PROBE_BUCKET, Key="previous", Body=b"labelwheel" * 400)
        key = f"once/{secrets.token_hex(8)}"
        client.put_object(Bucket=PROBE_BUCKET, Key=key, Body=b"1", IfNoneMatch="*")
        try:
            client.put_object(Bucket=PROBE_BUCKET, Key=key, Body=b"2", IfNoneMatch="*")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
                raise
        else:
            raise ServiceError(
                f"The S3 server at {server.endpoint_url} ignores conditional writes",
                remedy="Use one that honours If-None-Match; otherwise commits overwrite each other.",
            )
        finally:
            client.delete_object(Bucket=PROBE_BUCKET, Key=key)
    except (ClientError, BotoCoreError) as error:
        raise ServiceError(
            f"The S3 server at {server.endpoint_url} does not answer ({error})", remedy="Read logs/s3.log."
        ) from error


@contextmanager
def run_server(data: Path, *, timeout_seconds: float = 60) -> Iterator[S3Server]:
    """A private S3 server on free ports, for as long as the block runs.

    :param data: an empty or earlier data folder.
    :raises ServiceError: when it is not ready in time.
    """
    ports: dict[str, int] = {}
    for name in DEFAULT_PORTS:
        if name.startswith("s3"):
            ports[name] = free_port(set(ports.values()))
    server = S3Server(f"http://127.0.0.1:{ports['s3']}", secrets.token_hex(10), secrets.token_urlsafe(30))
    write_identities(data, server.access_key_id, server.secret_access_key)
    with (data / "s3.log").open("ab") as log:
        process = subprocess.Popen(
            command(find_weed(), data, ports),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **ENVIRONMENT},
        )
    try:
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                probe(server)
                break
            except ServiceError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
