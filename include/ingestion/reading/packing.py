"""What an object is, by the ending of its key, and its unpacked bytes as a stream that keeps the limits."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Protocol

from include.ingestion.blocks import RejectedObjectError
from include.project import Limits

PACKINGS = {".gz": "gzip", ".zst": "zstd"}
FREE_UNPACKED_BYTES = 16 * 1024**2  # below this the ratio does not matter
CHUNK_BYTES = 1024**2


class Stream(Protocol):
    """The stored bytes of an object."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; ``b""`` at the end only."""


def endings(key: str) -> tuple[str, str | None]:
    """The ending that tells the format, and the ending of the packing around it; both in lower case, with the dot."""
    path = PurePosixPath(key.rpartition("/")[2])
    last = path.suffix.lower()
    return (PurePosixPath(path.stem).suffix.lower(), last) if last in PACKINGS else (last, None)


def is_packed(key: str) -> bool:
    """Whether the object is compressed as a whole, by its ending."""
    return endings(key)[1] is not None


def check_size(key: str, size_bytes: int, limits: Limits) -> None:
    """Refuse an object before it is read.

    :raises RejectedObjectError: above ``limits.max_object_bytes``.
    """
    if size_bytes > limits.max_object_bytes:
        raise too_large(key, f"has {size_bytes:,} bytes, more than the {limits.max_object_bytes:,} allowed")


def unpacked_limit(limits: Limits, stored_bytes: int) -> int:
    """How many bytes an object of ``stored_bytes`` may unpack to."""
    return min(limits.max_object_bytes, max(FREE_UNPACKED_BYTES, int(limits.max_unpacked_ratio * stored_bytes)))


def too_large(key: str, why: str) -> RejectedObjectError:
    """The error for an object above a limit of size."""
    return RejectedObjectError(
        "object_size",
        f"object {key!r} {why}",
        remedy="Split it into smaller objects, or raise source.limits in the project file.",
    )


class Unpacked:
    """The bytes of an object, unpacked on the way.

    :param stream: the stored bytes; its own errors pass through unchanged: they are not the object's fault.
    :param size_bytes: stored size, which the unpacked size is measured against.
    """

    def __init__(self, key: str, stream: Stream, limits: Limits, size_bytes: int) -> None:
        self._key = key
        self._stored = _Stored(stream)
        self._packing = endings(key)[1]
        self._size_bytes = 0
        self.limit_bytes = limits.max_object_bytes
        if self._packing:
            self.limit_bytes = unpacked_limit(limits, size_bytes)
        self._source = self._open()

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, less at the end only.

        :raises RejectedObjectError: when the object does not unpack, or unpacks to more than the limits allow.
        """
        try:
            data = _fill(self._source, size)
        except (EOFError, OSError, zlib.error) as error:
            if self._stored.failure is not None:
                raise self._stored.failure from None
            raise RejectedObjectError(
                "object_truncated",
                f"object {self._key!r} is damaged or cut short: it does not unpack as {self._packing} ({error})",
                remedy="Upload it again; nothing of it was loaded.",
            ) from error
        self._size_bytes += len(data)
        if self._size_bytes > self.limit_bytes:
            verb = "unpacks to" if self._packing else "has"
            raise too_large(self._key, f"{verb} more than {self.limit_bytes:,} bytes")
        return data

    def chunks(self, size: int) -> Iterator[bytes]:
        """All bytes in pieces of ``size``, the last one shorter."""
        while chunk := self.read(size):
            yield chunk

    def _open(self) -> Stream:
        if self._packing == ".gz":
            return gzip.GzipFile(fileobj=self._stored, mode="rb")  # type: ignore[call-overload, no-any-return]
        if self._packing == ".zst":
            import pyarrow as pa

            opened: Stream = pa.input_stream(pa.PythonFile(self._stored, mode="r"), compression="zstd")
            return opened
        return self._stored


def _fill(stream: Stream, size: int) -> bytes:
    """Exactly ``size`` bytes, less at the end only."""
    parts: list[bytes] = []
    left = size
    while left and (part := stream.read(left)):
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class _Stored:
    """The stored bytes as the file that unpackers want; remembers why reading failed, if it did."""

    closed = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.failure: BaseException | None = None

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        try:
            return _fill(self._stream, size)  # gzip takes less than it asked for as the end
        except BaseException as error:
            self.failure = error
            raise

    def close(self) -> None:
        """Nothing to do: who opened the stream closes it."""
