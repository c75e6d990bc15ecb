"""Each stored value becomes what Argilla shows, or is named as what cannot be shown."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from include.ingestion.reading.objects import object_uri
from include.labeling.fields import MAX_IMAGE_BYTES, UnshowableError, argilla_fields
from include.lake import Lake, Store
from tests.include.conftest import LAKE_BUCKET, ProjectFactory, s3_client

PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(8)
TALK = [{"role": "user", "content": "hi"}]


def shown(make_project: ProjectFactory, lake: Lake, field: dict[str, Any], value: Any) -> Any:
    project = make_project(source={"fields": {"text": {"title": "Text", **field}}})
    return argilla_fields(project, lake, {"text": value})["text"]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ({}, "as it is", "as it is"),
        ({}, {"b": 1, "a": [2]}, '{"a":[2],"b":1}'),
        ({}, 3, "3"),
        ({"type": "chat"}, TALK, TALK),
        ({"type": "chat"}, json.dumps([{**TALK[0], "at": "noon"}]), TALK),
        ({"type": "custom", "template": "x"}, {"a": 1}, {"a": 1}),
        ({"type": "custom", "template": "x"}, '{"a": 1}', {"a": 1}),
        ({"type": "image"}, "https://example.org/a.png", "https://example.org/a.png"),
    ],
)
def test_a_value_of_its_type_is_shown(
    lake: Lake, make_project: ProjectFactory, field: dict[str, Any], value: Any, expected: Any
) -> None:
    assert shown(make_project, lake, field, value) == expected


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ({"type": "chat"}, "hi", "no list of messages"),
        ({"type": "chat"}, [{"role": "user"}], "no list of messages"),
        ({"type": "custom", "template": "x"}, "[", "no mapping"),
        ({"type": "image"}, 3, "names no image"),
        ({"type": "image"}, "s3://lake/a.tiff", "do not show 'a.tiff'"),
        ({"type": "image"}, "s3://lake/nowhere.png", "not there any more"),
        ({"type": "image"}, "s3://no-such-bucket/a.png", "does not exist"),
    ],
)
def test_a_value_of_another_type_is_named(
    lake: Lake, make_project: ProjectFactory, field: dict[str, Any], value: Any, words: str
) -> None:
    with pytest.raises(UnshowableError, match=f"field 'text'.*{words}"):
        shown(make_project, lake, field, value)


def test_missing_values_are_left_out(lake: Lake, make_project: ProjectFactory) -> None:
    assert argilla_fields(make_project(), lake, {"text": None, "other": "x"}) == {}


def test_an_image_is_shown_as_it_was_when_it_was_ingested(lake: Lake, make_project: ProjectFactory) -> None:
    client = s3_client(lake.files.config)
    bucket = "versioned-images"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    key = "a folder/ä 1.PNG"
    old = client.put_object(Bucket=bucket, Key=key, Body=PIXEL)["VersionId"]
    client.put_object(Bucket=bucket, Key=key, Body=b"changed")
    expected = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
    assert shown(make_project, lake, {"type": "image"}, object_uri(bucket, key, old)) == expected
    assert shown(make_project, lake, {"type": "image"}, object_uri(bucket, key)) != expected
    client.close()


def test_an_image_too_large_for_argilla_is_named(lake: Lake, make_project: ProjectFactory) -> None:
    Store(lake.files.config, LAKE_BUCKET).put("large.jpg", bytes(MAX_IMAGE_BYTES + 1))
    with pytest.raises(UnshowableError, match=r"3,700,001 bytes"):
        shown(make_project, lake, {"type": "image"}, f"s3://{LAKE_BUCKET}/large.jpg")
