"""Objects that are one record each: texts, and images by reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from include.ingestion.blocks import BadRow, Block, RejectedObjectError
from include.ingestion.reading.assemble import Part, Singles, assemble
from include.ingestion.reading.lines import KEPT_RAW_BYTES, bad_row, long_row
from include.ingestion.reading.packing import Stream
from include.project import Source

# What the first bytes of an image must be: any of the alternatives, each as (position, bytes) that must all be there.
Signature = tuple[tuple[int, bytes], ...]
_JPEG: tuple[Signature, ...] = (((0, b"\xff\xd8\xff"),),)
_TIFF: tuple[Signature, ...] = tuple(((0, head),) for head in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))
IMAGE_SIGNATURES: dict[str, tuple[Signature, ...]] = {
    ".png": (((0, b"\x89PNG\r\n\x1a\n"),),),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": (((0, b"RIFF"), (8, b"WEBP")),),
    ".gif": (((0, b"GIF87a"),), ((0, b"GIF89a"),)),
    ".tif": _TIFF,
    ".tiff": _TIFF,
}
SIGNATURE_BYTES = 12


def text_blocks(key: str, chunks: Iterable[bytes], source: Source) -> Iterator[Block]:
    """The record of a text object: its content in the project's field, its key as the id.

    :param chunks: the bytes, without a byte order mark.
    """
    limit_bytes = source.limits.max_row_bytes
    parts: list[bytes] = []
    size_bytes = 0
    for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes - len(chunk) <= limit_bytes:
            parts.append(chunk)
        elif len(parts) > 1:
            parts = [b"".join(parts)[:KEPT_RAW_BYTES]]  # too large: only its size matters now
    content = b"".join(parts)
    if size_bytes > limit_bytes:
        yield _bad(long_row(0, content[:KEPT_RAW_BYTES], size_bytes, limit_bytes))
        return
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        yield _bad(bad_row(0, content, "utf8", f"text is not valid UTF-8 ({error.reason})"))
        return
    yield _record(key, text, content, source)


def image_blocks(key: str, ending: str, stream: Stream, source: Source, uri: str) -> Iterator[Block]:
    """The record of an image object: its reference in the project's field, its key as the id.

    Only the first bytes are read, to see that the image is of the kind its ending says.

    :raises RejectedObjectError: when it is not.
    """
    head = b""
    while len(head) < SIGNATURE_BYTES and (part := stream.read(SIGNATURE_BYTES - len(head))):
        head += part
    if not _matches(head, ending):
        found = [name.lstrip(".") for name in IMAGE_SIGNATURES if _matches(head, name)]
        looks = f"its first bytes are those of {found[0]}" if found else f"it begins with {head!r}"
        raise RejectedObjectError(
            "object_format",
            f"object {key!r} is no {ending.lstrip('.')} image; {looks}",
            remedy="Give it the ending of what it is, and upload it again.",
        )
    yield _record(key, uri, uri.encode(), source)


def _matches(head: bytes, ending: str) -> bool:
    return any(all(head.startswith(mark, at) for at, mark in marks) for marks in IMAGE_SIGNATURES[ending])


def _record(key: str, content: str, raw: bytes, source: Source) -> Block:
    columns = pa.table({str(source.id_column): [key], next(iter(source.fields)): [content]})
    part = Part(np.zeros(1, np.int64), columns, pa.nulls(1, pa.string()))
    return assemble(columns.column_names, part, Singles(), raw=lambda _: raw)


def _bad(bad: BadRow) -> Block:
    return assemble((), None, Singles(bad=[bad]), raw=lambda _: b"")
