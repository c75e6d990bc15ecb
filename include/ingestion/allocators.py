"""How a staging task keeps memory: pages that were freed are used again, not given back and zeroed anew by the kernel.

A stage task is a process of its own that fills and frees the same few hundred megabytes again and again. With the
defaults of the allocators a quarter of its time went into page faults.
"""

from __future__ import annotations

import ctypes
import os

import pyarrow as pa

# <malloc.h> of glibc: parameter numbers of mallopt, and what they are set to.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_MALLOPT = {
    _MMAP_THRESHOLD: 1024**3,  # larger blocks are mapped, and unmapped when they are freed
    _TRIM_THRESHOLD: 2 * 1024**3 - 1,
    _ARENA_MAX: 2,  # what one thread frees another one soon takes
}
POLARS_KEEPS = "dirty_decay_ms:20000,muzzy_decay_ms:20000"


def keep_freed_memory() -> bool:
    """Set this process up; to be called before much is allocated, and before polars is imported.

    :returns: False where the C library is not glibc: then everything stays as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    for parameter, value in _MALLOPT.items():
        mallopt(parameter, value)
    pa.set_memory_pool(pa.system_memory_pool())
    os.environ.setdefault("_RJEM_MALLOC_CONF", POLARS_KEEPS)  # read by the allocator of polars when it is loaded
    return True
