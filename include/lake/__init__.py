"""Tables and files on object storage. All access to stored state goes through this package.

Loaded on first use (PEP 562): ``include.lake.keys`` is also imported where no table library is installed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.lake.lake import Appended, DataFile, Lake
    from include.lake.store import Store, StoreConfig

__all__ = ["Appended", "DataFile", "Lake", "Store", "StoreConfig"]


def __getattr__(name: str) -> Any:
    if name in ("Appended", "DataFile", "Lake"):
        from include.lake import lake as module
    elif name in ("Store", "StoreConfig"):
        from include.lake import store as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)
