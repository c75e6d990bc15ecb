"""What annotators read of a record: each stored field as Argilla takes it, by the type the project file gives it."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from include.errors import StorageError
from include.labeling.service import Json
from include.lake import Lake, Store
from include.lake.keys import canonical_json
from include.project import Project, RecordField

# What a browser shows, by the ending of the object's key. Argilla refuses others.
IMAGE_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
}
MAX_IMAGE_BYTES = 3_700_000  # Argilla takes 5,000,000 characters of base64


class UnshowableError(ValueError):
    """A value that is not of its field's type; the message says which field and why."""


def argilla_fields(project: Project, lake: Lake, stored: Json) -> Json:
    """The fields of one record; those without a value are left out.

    Images in our own object store are put into the record itself: a link that opens for annotators would be open to
    everybody, and would expire before the last of them is done.

    :param stored: field → value, as in ``records``.
    :raises UnshowableError: for the first value that cannot be shown.
    """
    return {
        name: _value(name, field, lake, stored[name])
        for name, field in project.source.fields.items()
        if stored.get(name) is not None
    }


def _value(name: str, field: RecordField, lake: Lake, value: Any) -> Any:
    match field.type:
        case "text":
            return value if isinstance(value, str) else canonical_json(value)
        case "image":
            return _image(name, lake, value)
        case "chat":
            messages = _from_json(value)
            if not isinstance(messages, list) or not all(_is_message(one) for one in messages):
                raise UnshowableError(f"field {name!r} is no list of messages with the texts 'role' and 'content'")
            return [{"role": one["role"], "content": one["content"]} for one in messages]
        case "custom":
            mapping = _from_json(value)
            if not isinstance(mapping, dict):
                raise UnshowableError(f"field {name!r} is no mapping")
            return mapping


def _from_json(value: Any) -> Any:
    """The value itself, or what its text says when it came from a column of texts."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(part), str) for part in ("role", "content"))


def _image(name: str, lake: Lake, value: Any) -> str:
    if not isinstance(value, str):
        raise UnshowableError(f"field {name!r} names no image")
    place = urlsplit(value)
    if place.scheme != "s3":
        return value
    key = unquote(place.path.lstrip("/"))
    kind = IMAGE_TYPES.get(key.rpartition(".")[2].lower())
    if kind is None:
        raise UnshowableError(f"field {name!r}: browsers do not show {key!r}")
    version = parse_qs(place.query).get("versionId", [None])[0]
    try:
        data = Store(lake.files.config, place.netloc).get(key, version=version)
    except StorageError as error:
        raise UnshowableError(f"field {name!r}: {error}") from error
    if data is None:
        raise UnshowableError(f"field {name!r}: {value} is not there any more")
    if len(data) > MAX_IMAGE_BYTES:
        raise UnshowableError(f"field {name!r}: {key!r} has {len(data):,} bytes, Argilla shows {MAX_IMAGE_BYTES:,}")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
