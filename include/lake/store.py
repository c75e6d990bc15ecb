"""One bucket of S3-compatible object storage, reduced to the five operations the rest is built from.

``create`` and ``swap`` are conditional writes (If-None-Match, If-Match); every exactly-once promise rests on them, so
``probe`` checks once that the server really refuses.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from include.errors import StorageError

if TYPE_CHECKING:
    from obstore.store import S3Store


@dataclass(frozen=True)
class StoreConfig:
    """How to reach the object store; secrets are kept out of ``repr``.

    Leave ``access_key`` empty to use the machine's own role (instance profile, service account).
    """

    endpoint_url: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = "us-east-1"

    def options(self) -> dict[str, str]:
        """The same settings as Delta Lake's and obstore's storage options."""
        values = {
            "aws_endpoint_url": self.endpoint_url,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "aws_session_token": self.session_token,
            "aws_region": self.region,
        }
        options = {key: value for key, value in values.items() if value}
        if self.endpoint_url:
            options["aws_virtual_hosted_style_request"] = "false"
            if self.endpoint_url.startswith("http://"):
                options["aws_allow_http"] = "true"
        if self._is_private():
            options["aws_unsigned_payload"] = "true"
        return options

    def _is_private(self) -> bool:
        """Whether nobody on the way can change what is sent, so that hashing it twice for its signature is a waste."""
        url = urlsplit(self.endpoint_url or "https://aws")
        return url.scheme == "https" or url.hostname in ("localhost", "127.0.0.1", "::1")


class Store:
    """One bucket (and an optional prefix in it).

    :raises StorageError: from every method, when the server is away, the bucket is missing or the keys are wrong.
    """

    def __init__(self, config: StoreConfig, bucket: str, prefix: str = "") -> None:
        self.config = config
        self.bucket = bucket
        self.prefix = prefix.strip("/")

    @cached_property
    def _client(self) -> S3Store:
        from obstore.store import S3Store

        options: dict[str, Any] = dict(self.config.options())
        allow_http = options.pop("aws_allow_http", "false") == "true"
        return S3Store(
            self.bucket,
            prefix=self.prefix or None,
            client_options={"allow_http": allow_http, "connect_timeout": "5s", "timeout": "120s"},
            retry_config={"max_retries": 4},
            **options,
        )

    def uri(self, path: str) -> str:
        """``s3://bucket/prefix/path``."""
        return "s3://" + "/".join(part for part in (self.bucket, self.prefix, path) if part)

    def get(self, path: str, *, version: str | None = None) -> bytes | None:
        """The object's bytes, or None when there is none.

        :param version: the version id in a bucket that keeps versions; the newest by default.
        """
        found = self.get_versioned(path, version=version)
        return None if found is None else found[0]

    def get_versioned(self, path: str, *, version: str | None = None) -> tuple[bytes, str] | None:
        """The object's bytes and its etag, or None when there is none."""
        import obstore
        from obstore.exceptions import BaseError, NotFoundError

        try:
            result = obstore.get(self._client, path, options={"version": version} if version else None)
            return bytes(result.bytes()), str(result.meta["e_tag"])
        except (NotFoundError, FileNotFoundError) as error:
            if "NoSuchBucket" in str(error):
                raise self._explain(error, path) from error
            return None
        except BaseError as error:
            raise self._explain(error, path) from error

    def put(self, path: str, data: bytes) -> None:
        """Write, replacing whatever was there: only for paths that name their content."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            obstore.put(self._client, path, data)
        except (BaseError, FileNotFoundError) as error:
            raise self._explain(error, path) from error

    def create(self, path: str, data: bytes) -> bool:
        """Write only if nothing is there. True when this call created it."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            obstore.put(self._client, path, data, mode="create")
        except AlreadyExistsError:
            return False
        except (BaseError, FileNotFoundError) as error:
            raise self._explain(error, path) from error
        return True

    def swap(self, path: str, data: bytes, etag: str | None) -> bool:
        """Replace only if the object still has this etag (None: only if there is none). True when it was replaced."""
        import obstore
        from obstore.exceptions import BaseError, PreconditionError

        if etag is None:
            return self.create(path, data)
        try:
            obstore.put(self._client, path, data, mode={"e_tag": etag})
        except PreconditionError:
            return False
        except (BaseError, FileNotFoundError) as error:
            raise self._explain(error, path) from error
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """Paths under a folder, in no particular order."""
        for path, _ in self.list_with_times(prefix):
            yield path

    def list_with_times(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Paths under a folder and when each was last written, in no particular order."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            for page in obstore.list(self._client, prefix):
                for item in page:
                    yield str(item["path"]), item["last_modified"]
        except (BaseError, FileNotFoundError) as error:
            raise self._explain(error, prefix) from error

    def delete(self, paths: Sequence[str]) -> None:
        """Remove objects in this order; those that are gone already do not matter."""
        import obstore
        from obstore.exceptions import BaseError

        for path in paths:
            try:
                obstore.delete(self._client, path)
            except FileNotFoundError:  # some servers say so, others do not
                continue
            except BaseError as error:
                raise self._explain(error, path) from error

    def get_json(self, path: str) -> Any | None:
        """The object as JSON, or None when there is none."""
        data = self.get(path)
        return None if data is None else json.loads(data)

    def create_json(self, path: str, value: object) -> Any:
        """Freeze a value: the first writer wins, and everyone gets the winner's value back."""
        data = json.dumps(value, sort_keys=True).encode()
        if self.create(path, data):
            return json.loads(data)
        return self.get_json(path)

    def probe(self) -> None:
        """Check that the bucket exists, takes our keys, and refuses to create the same key twice.

        :raises StorageError: naming what is wrong and the remedy.
        """
        import obstore

        path = f"_probe/{uuid.uuid4().hex}"
        self.create(path, b"1")
        refused = not self.create(path, b"2")
        obstore.delete(self._client, path)
        if not refused:
            raise StorageError(
                f"the object store behind bucket {self.bucket!r} ignores conditional writes (If-None-Match)",
                remedy="Use a server that honours them: without them commits overwrite each other silently.",
            )

    def _explain(self, error: Exception, path: str) -> StorageError:
        text = str(error)
        where = f"s3://{self.bucket}/{path}"
        if "NoSuchBucket" in text:
            return StorageError(f"bucket {self.bucket!r} does not exist", remedy="Create it, or correct its name.")
        refusals = ("<Code>AccessDenied", "<Code>InvalidAccessKeyId", "<Code>SignatureDoesNotMatch", "401 U", "403 F")
        if any(refusal in text for refusal in refusals):  # bare numbers would match digits of a path
            return StorageError(
                f"the object store refused our credentials for {where}",
                remedy="Check login, password and permissions of the S3 connection.",
            )
        return StorageError(
            f"the object store did not answer for {where} ({type(error).__name__})",
            remedy="Check that it runs and that the connection's endpoint_url is right; then retry.",
        )
