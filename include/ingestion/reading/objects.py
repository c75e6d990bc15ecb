"""Which reader an object gets, by the ending of its key and the format its project expects."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from urllib.parse import quote

from include.ingestion.blocks import Block, RejectedObjectError
from include.ingestion.reading.csv_rows import csv_blocks
from include.ingestion.reading.json_rows import json_blocks
from include.ingestion.reading.packing import CHUNK_BYTES, Stream, Unpacked, check_size, endings
from include.ingestion.reading.parquet_rows import parquet_blocks
from include.ingestion.reading.whole import IMAGE_SIGNATURES, image_blocks, text_blocks
from include.project import Source

JSON_ENDINGS = (".jsonl", ".ndjson")
ROW_ENDINGS = (*JSON_ENDINGS, ".csv", ".parquet")
TEXT_ENDINGS = (".txt", ".text", ".md", ".rst", ".html", ".htm", ".xml", ".eml", ".log")
IMAGE_ENDINGS = tuple(IMAGE_SIGNATURES)

UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
HEAD_BYTES = 1000
# None of them can begin a text that people mean as UTF-8.
SIGNATURES = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PAR1\x15": "Parquet",
    b"PK\x03\x04": "zip",
    b"BZh9": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"%PDF-": "PDF",
}


def read_blocks(
    key: str, stream: Stream, source: Source, size_bytes: int, *, version_id: str | None = None
) -> Iterator[Block]:
    """All rows of an object in order, block by block, in memory that does not grow with the object.

    An object may turn out not to be what it claims to be after some of its blocks were given out, for example when a
    packed one was cut short. It is rejected as a whole: the caller must drop what came before.

    :param key: full key; its ending tells format and packing.
    :param stream: the stored bytes from the first on; errors it raises pass through unchanged.
    :param size_bytes: stored size as it was listed.
    :param version_id: of the object, for the reference that stands for an image; None where the bucket keeps none.
    :raises RejectedObjectError: when the object as a whole cannot be used.
    """
    if not size_bytes:
        raise RejectedObjectError("object_empty", f"object {key!r} is empty (0 bytes)", remedy="Upload it again.")
    ending, packing = endings(key)
    _check_ending(key, ending, packing, source.format)
    if source.format == "image":
        yield from image_blocks(key, ending, stream, source, object_uri(source.bucket, key, version_id))
        return
    check_size(key, size_bytes, source.limits)
    unpacked = Unpacked(key, stream, source.limits, size_bytes)
    if ending == ".parquet":
        yield from parquet_blocks(key, unpacked, source)
        return
    chunks = _text_chunks(key, unpacked, min(CHUNK_BYTES, source.limits.max_row_bytes))
    if source.format == "text":
        yield from text_blocks(key, chunks, source)
    elif ending == ".csv":
        yield from csv_blocks(key, chunks, source)
    else:
        yield from json_blocks(chunks, source)


def object_uri(bucket: str, key: str, version_id: str | None = None) -> str:
    """The reference of an object version: ``s3://bucket/key?versionId=…``, percent-encoded as in any URI."""
    version = f"?versionId={quote(version_id, safe='')}" if version_id else ""
    return f"s3://{bucket}/{quote(key, safe='/')}{version}"


def _check_ending(key: str, ending: str, packing: str | None, form: str) -> None:
    allowed = {"rows": ROW_ENDINGS, "text": TEXT_ENDINGS, "image": IMAGE_ENDINGS}[form]
    if ending in allowed and not (packing and form == "image"):
        return
    packed = "" if form == "image" else " (also with .gz or .zst)"
    raise RejectedObjectError(
        "object_format",
        f"object {key!r} has an ending we do not read",
        remedy=f"Use {', '.join(allowed)}{packed}, or correct source.format in the project file ({form!r}).",
    )


def _text_chunks(key: str, unpacked: Unpacked, chunk_bytes: int) -> Iterator[bytes]:
    """The bytes of a UTF-8 text without its byte order mark.

    :raises RejectedObjectError: when the first bytes tell that it is something else.
    """
    head = unpacked.read(HEAD_BYTES)
    if head.startswith(UTF16_BOMS) or head.count(0) > len(head) * 0.3:
        raise RejectedObjectError(
            "object_encoding",
            f"object {key!r} is not UTF-8; it looks like UTF-16",
            remedy="Save it as UTF-8 and upload it again.",
        )
    for signature, name in SIGNATURES.items():
        if head.startswith(signature):
            raise RejectedObjectError(
                "object_format",
                f"object {key!r} is not the text that its ending promises; it begins like a {name} file",
                remedy="Give it the ending of what it is, and upload it again.",
            )
    return chain([head.removeprefix(UTF8_BOM)], unpacked.chunks(chunk_bytes))
