"""Tables and files on object storage. All access to stored state goes through this package."""

from include.lake.lake import Appended, Lake
from include.lake.store import Store, StoreConfig

__all__ = ["Appended", "Lake", "Store", "StoreConfig"]
