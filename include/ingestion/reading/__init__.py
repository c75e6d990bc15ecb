"""Bytes of one source object → blocks of rows, at library speed and in bounded memory, and every bad row by itself."""

from include.ingestion.reading.objects import object_uri, read_blocks
from include.ingestion.reading.packing import check_size, is_packed

__all__ = ["check_size", "is_packed", "object_uri", "read_blocks"]
