"""The bucket and folder where new data lands: what is there, and exactly those bytes that were planned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from include.errors import ObjectError, StorageError
from include.lake import StoreConfig

LOST_CODES = {"NoSuchKey", "NoSuchVersion", "404"}
CHANGED_CODES = {"PreconditionFailed", "412"}
REFUSED_CODES = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "401", "403"}


class ObjectVanishedError(ObjectError):
    """The object was deleted after it was listed."""


class ObjectSupersededError(ObjectError):
    """The object was overwritten after it was listed; the new version is planned as an object of its own."""


@dataclass(frozen=True)
class ObjectRef:
    """One version of one object, as it was listed.

    :param etag: without quotes; reads insist on it.
    :param version_id: None where the bucket keeps no versions.
    """

    key: str
    etag: str
    version_id: str | None
    size_bytes: int
    last_modified_at: datetime

    @property
    def version(self) -> str:
        """What tells two contents of the same key apart: the version id, or the etag where versioning is off."""
        return self.version_id or self.etag

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a plan file."""
        return {**asdict(self), "last_modified_at": self.last_modified_at.isoformat()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ObjectRef:
        """The inverse of ``to_json``."""
        return cls(**{**value, "last_modified_at": datetime.fromisoformat(value["last_modified_at"])})


class Landing:
    """One folder of one bucket, read only.

    :raises StorageError: from every method, when the server is away, the bucket is missing or the keys are wrong.
    """

    def __init__(self, config: StoreConfig, bucket: str, prefix: str) -> None:
        self.config = config
        self.bucket = bucket
        self.prefix = prefix

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.config.endpoint_url,
            aws_access_key_id=self.config.access_key,
            aws_secret_access_key=self.config.secret_key,
            aws_session_token=self.config.session_token,
            region_name=self.config.region,
            config=Config(
                signature_version="s3v4",
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "total_max_attempts": 4},
                s3={"addressing_style": "path" if self.config.endpoint_url else "auto"},
            ),
        )

    def list_objects(self) -> Iterator[ObjectRef]:
        """The newest version of every object in the folder, in no particular order; folder markers are left out."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            versioned = self._client.get_bucket_versioning(Bucket=self.bucket).get("Status") == "Enabled"
            operation, member = ("list_object_versions", "Versions") if versioned else ("list_objects_v2", "Contents")
            pages = self._client.get_paginator(operation).paginate(Bucket=self.bucket, Prefix=self.prefix)
            for page in pages:
                for item in page.get(member, []):
                    if item.get("IsLatest", True) and not item["Key"].endswith("/"):
                        yield _ref(item)
        except (BotoCoreError, ClientError) as error:
            raise self._explain(error, self.prefix) from error

    def read(self, ref: ObjectRef) -> bytes:
        """The bytes of that very version.

        :raises ObjectVanishedError: when it was deleted since.
        :raises ObjectSupersededError: when the key holds other bytes now.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        version = {"VersionId": ref.version_id} if ref.version_id else {}
        try:
            reply = self._client.get_object(Bucket=self.bucket, Key=ref.key, IfMatch=f'"{ref.etag}"', **version)
            with reply["Body"] as body:
                return bytes(body.read())
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in LOST_CODES:
                raise ObjectVanishedError(
                    f"object {ref.key!r} was deleted after it was listed",
                    remedy="Upload it again if it was deleted by mistake.",
                ) from error
            if code in CHANGED_CODES:
                raise ObjectSupersededError(
                    f"object {ref.key!r} was overwritten after it was listed",
                    remedy="Nothing to do: the next run loads the new version.",
                ) from error
            raise self._explain(error, ref.key) from error
        except BotoCoreError as error:
            raise self._explain(error, ref.key) from error

    def _explain(self, error: Exception, path: str) -> StorageError:
        code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        where = f"s3://{self.bucket}/{path}"
        if code == "NoSuchBucket":
            return StorageError(
                f"bucket {self.bucket!r} does not exist", remedy="Create it, or correct source.bucket in the project."
            )
        if code in REFUSED_CODES or type(error).__name__ == "NoCredentialsError":
            return StorageError(
                f"the object store refused our credentials for {where} ({code or type(error).__name__})",
                remedy="Check login, password and permissions of the S3 connection (list, read, read versioning).",
            )
        return StorageError(
            f"the object store did not answer for {where} ({code or type(error).__name__})",
            remedy="Check that it runs and that the connection's endpoint_url is right; then retry.",
        )


def _ref(item: dict[str, Any]) -> ObjectRef:
    version_id = item.get("VersionId")
    return ObjectRef(
        key=item["Key"],
        etag=item["ETag"].strip('"'),
        version_id=version_id if version_id != "null" else None,  # "null" is overwritten in place: the etag tells
        size_bytes=item["Size"],
        last_modified_at=item["LastModified"].astimezone(UTC),
    )
