"""The tables: append exactly once, read the newest.

Every append carries an application transaction under an app id of its own (Delta protocol, ``txn`` action), so a retry,
or two workers racing, land the rows once. Nothing is updated in place: readers take the greatest version of each key.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from include.errors import StorageError
from include.lake.schemas import TABLES, Table
from include.lake.store import Store, StoreConfig

if TYPE_CHECKING:
    import polars as pl
    from deltalake import DeltaTable

COMMIT_ATTEMPTS = 40


@dataclass(frozen=True)
class Appended:
    """What an append did: ``rows`` were handed in; ``committed`` is False when an earlier attempt had landed them."""

    table: str
    rows: int
    committed: bool


class Lake:
    """All tables and files of one deployment, under one bucket and prefix.

    :raises StorageError: from every method that talks to the object store.
    """

    def __init__(self, config: StoreConfig, bucket: str, prefix: str = "") -> None:
        self.config = config
        self.files = Store(config, bucket, prefix)

    def append(self, table: str, rows: pa.Table | Sequence[Mapping[str, Any]], *, app_id: str) -> Appended:
        """Append rows exactly once under ``app_id``; no rows, no commit.

        :param table: a name in ``include.lake.schemas.TABLES``.
        :param rows: an Arrow table, or mappings; missing columns are null, unknown ones an error.
        :param app_id: names this piece of work; the same id never lands twice.
        :raises ValueError: for columns the table does not have.
        :raises StorageError: when other writers kept winning for too long.
        """
        from deltalake import CommitProperties, Transaction, write_deltalake
        from deltalake.exceptions import CommitFailedError, DeltaError

        spec = TABLES[table]
        data = conform(rows, spec)
        if data.num_rows == 0:
            return Appended(table, 0, committed=False)
        properties = CommitProperties(app_transactions=[Transaction(app_id, 1)], max_commit_retries=0)
        for attempt in range(COMMIT_ATTEMPTS):
            delta = self._open(spec) or self._create(spec)
            if delta.transaction_version(app_id) is not None:
                return Appended(table, data.num_rows, committed=False)
            try:
                # Only through the handle just looked at: given a URI, deltalake would open a newer version by itself,
                # in which app_id may have landed meanwhile, and append the rows again.
                write_deltalake(delta, data, mode="append", commit_properties=properties)
            except CommitFailedError:
                time.sleep(min(0.05 * 2**attempt, 2.0))  # another writer won this version: reopen and look again
            except DeltaError as error:
                raise StorageError(
                    f"appending {data.num_rows} rows to table {table!r} failed ({_on_one_line(error)})",
                    remedy="Check the object store; a retry cannot double the rows.",
                ) from error
            except OSError as error:
                raise StorageError(
                    f"the object store did not take {data.num_rows} rows for table {table!r} ({_on_one_line(error)})",
                    remedy="Check that it runs and that the lake bucket exists; a retry cannot double the rows.",
                ) from error
            else:
                return Appended(table, data.num_rows, committed=True)
        raise StorageError(
            f"table {table!r} was too busy: {COMMIT_ATTEMPTS} attempts to append lost to other writers",
            remedy="Retry later, or put the writers of this table into one Airflow pool.",
        )

    def read(
        self,
        table: str,
        project: str,
        *,
        columns: Sequence[str] | None = None,
        where: pl.Expr | None = None,
        newest: bool = True,
    ) -> pl.DataFrame:
        """Rows of one project.

        :param columns: wanted columns; all by default.
        :param where: a polars filter over stored columns. With ``newest`` it sees the newest rows only; it is pushed
            into the scan where that changes nothing (all rows, or only key and partition columns).
        :param newest: keep one row per natural key, the one with the greatest version (duplicates by a race vanish).
        :returns: a polars frame with the table's columns; empty, but typed, when nothing was ever written.
        """
        import polars as pl

        spec = TABLES[table]
        delta = self._open(spec)
        wanted = list(columns or spec.schema.names)
        if delta is None:
            empty = pl.from_arrow(spec.schema.empty_table())
            assert isinstance(empty, pl.DataFrame)  # noqa: S101 - from_arrow's return type is a union
            return empty.select(wanted)
        scan = pl.scan_delta(delta).filter(pl.col("project") == project)
        filtered = [] if where is None else where.meta.root_names()
        pushed = not newest or set(filtered) <= {*spec.key, *spec.partition_by}
        if where is not None and pushed:
            scan = scan.filter(where)
        if not newest:
            return scan.select(wanted).collect()
        version = [spec.version] if spec.version else []
        frame = scan.select(list(dict.fromkeys([*wanted, *filtered, *spec.key, *version]))).collect()
        frame = frame.sort(version, maintain_order=True) if version else frame
        frame = frame.unique(subset=list(spec.key), keep="last", maintain_order=True)
        if where is not None and not pushed:  # an older version must not come back because the newest does not match
            frame = frame.filter(where)
        return frame.select(wanted)

    def version(self, table: str) -> int:
        """The table's present Delta version; -1 when nothing was ever written."""
        delta = self._open(TABLES[table])
        return -1 if delta is None else delta.version()

    def _create(self, spec: Table) -> DeltaTable:
        """Make an empty table, or take the one that another writer made first."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        uri = self.files.uri(f"tables/{spec.name}")
        try:
            return DeltaTable.create(
                uri, spec.schema, partition_by=list(spec.partition_by), storage_options=self.config.options()
            )
        except (OSError, DeltaError) as error:
            if (made := self._open(spec)) is not None:
                return made
            raise StorageError(
                f"table {spec.name!r} at {uri} cannot be created ({_on_one_line(error)})",
                remedy="Check that the lake bucket exists and may be written; then retry.",
            ) from error

    def _open(self, spec: Table) -> DeltaTable | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        uri = self.files.uri(f"tables/{spec.name}")
        try:
            return DeltaTable(uri, storage_options=self.config.options())
        except TableNotFoundError:
            return None
        except (OSError, DeltaError) as error:
            raise StorageError(
                f"table {spec.name!r} at {uri} cannot be opened ({_on_one_line(error)})",
                remedy="Check that the object store runs and that the lake bucket exists; then retry.",
            ) from error


def _on_one_line(error: Exception) -> str:
    """Delta Lake's messages are coloured trees; logs and pages want one line."""
    return " ".join(re.sub(r"\x1b\[\d+m|↳", " ", str(error)).split())


def conform(rows: pa.Table | Sequence[Mapping[str, Any]], spec: Table) -> pa.Table:
    """Rows with exactly the table's columns, types and order, sorted by ``record_id`` where it has one.

    :raises ValueError: for columns the table does not have.
    """
    if not isinstance(rows, pa.Table):
        _refuse_unknown({key for row in rows for key in row}, spec)
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=spec.schema)
    else:
        _refuse_unknown(set(rows.column_names), spec)
        missing = [field for field in spec.schema if field.name not in rows.column_names]
        for field in missing:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        table = rows.select(spec.schema.names).cast(spec.schema)
    return table.sort_by("record_id") if "record_id" in spec.schema.names else table


def _refuse_unknown(columns: set[str], spec: Table) -> None:
    unknown = columns - set(spec.schema.names)
    if unknown:
        raise ValueError(f"table {spec.name!r} has no columns {sorted(unknown)}")
