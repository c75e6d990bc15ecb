"""The tables: append exactly once, read the newest.

Every append carries an application transaction under an app id of its own (Delta protocol, ``txn`` action), so a retry,
or two workers racing, land the rows once. Nothing is updated in place: readers take the greatest version of each key.
"""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from include.errors import StorageError
from include.lake.schemas import TABLES, Table
from include.lake.store import Store, StoreConfig

if TYPE_CHECKING:
    import polars as pl
    from deltalake import CommitProperties, DeltaTable

COMMIT_ATTEMPTS = 40


@dataclass(frozen=True)
class Appended:
    """What an append did: ``rows`` were handed in; ``committed`` is False when an earlier attempt had landed them."""

    table: str
    rows: int
    committed: bool


@dataclass(frozen=True)
class DataFile:
    """A Parquet file in a table's folder that is no part of the table until it is added.

    :param path: below the table's folder.
    :param partition: values of the table's partition columns.
    """

    path: str
    size_bytes: int
    rows: int
    partition: dict[str, str]
    first_record_id: str | None
    last_record_id: str | None
    written_at_ms: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a plan or report file; ``DataFile(**value)`` is the inverse."""
        return asdict(self)


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
        from deltalake import write_deltalake

        spec = TABLES[table]
        data = conform(rows, spec)

        def write(delta: DeltaTable, properties: CommitProperties) -> None:
            # A table that an earlier release made gets its new columns with the first rows that have them.
            outdated = len(delta.schema().fields) < len(spec.schema)
            mode: Literal["merge"] | None = "merge" if outdated else None
            write_deltalake(delta, data, mode="append", schema_mode=mode, commit_properties=properties)

        return self._once(spec, app_id, data.num_rows, write)

    def write_file(self, table: str, rows: pa.Table, *, name: str) -> DataFile:
        """Write rows of one partition as a data file that readers do not see before ``add_files``.

        :param rows: all columns of the table in any order; equal values in its partition columns; sorted by
            ``record_id`` where the table has one.
        :param name: file name, unlike that of every other file of the partition.
        """
        import pyarrow.parquet as pq

        spec = TABLES[table]
        partition = {column: str(rows[column][0].as_py()) for column in spec.partition_by}
        stored = rows.select([column for column in spec.schema.names if column not in partition])
        sink = io.BytesIO()
        pq.write_table(
            stored,
            sink,
            compression="zstd",
            compression_level=1,  # to send and to keep a byte costs more than to pack it
            use_dictionary=spec.repetitive,  # ids, hashes and texts hardly repeat: dictionaries of them save nothing
            write_statistics=spec.ordered,
            row_group_size=65_536,
            store_schema=False,  # a dictionary is how we write a column, not its type
        )
        folder = "/".join(f"{column}={value}" for column, value in partition.items())
        path, data = f"{folder}/{name}", sink.getvalue()
        self.files.put(f"{_folder(spec)}/{path}", data)
        ids = rows["record_id"] if "record_id" in rows.column_names else None
        return DataFile(
            path=path,
            size_bytes=len(data),
            rows=rows.num_rows,
            partition=partition,
            first_record_id=ids[0].as_py() if ids is not None else None,
            last_record_id=ids[-1].as_py() if ids is not None else None,
            written_at_ms=time.time_ns() // 1_000_000,
        )

    def read_file(self, table: str, file: DataFile) -> pa.Table:
        """The rows of a data file, with the table's columns.

        :raises StorageError: also when the file does not exist.
        """
        import pyarrow.parquet as pq

        spec = TABLES[table]
        path = f"{_folder(spec)}/{file.path}"
        data = self.files.get(path)
        if data is None:
            raise StorageError(
                f"data file {self.files.uri(path)} does not exist",
                remedy="Restore it from the bucket's versions; clean the table's folder only with the maintain DAG.",
            )
        rows = pq.read_table(pa.BufferReader(data), partitioning=None)
        for column, value in file.partition.items():
            rows = rows.append_column(column, pa.array([value] * rows.num_rows, spec.schema.field(column).type))
        return rows.select(spec.schema.names)

    def add_files(self, table: str, files: Sequence[DataFile], *, app_id: str) -> Appended:
        """Make data files part of the table, all at once and exactly once under ``app_id``; no files, no commit.

        :raises StorageError: as ``append``.
        """
        from deltalake.transaction import AddAction, RemoveAction

        spec = TABLES[table]
        actions: list[AddAction | RemoveAction] = [
            AddAction(one.path, one.size_bytes, one.partition, one.written_at_ms, data_change=True, stats=_stats(one))
            for one in files
        ]

        def write(delta: DeltaTable, properties: CommitProperties) -> None:
            delta.create_write_transaction(
                actions, "append", delta.schema(), list(spec.partition_by), commit_properties=properties
            )

        return self._once(spec, app_id, sum(one.rows for one in files), write)

    def has_transaction(self, table: str, app_id: str) -> bool:
        """Whether this piece of work has landed in the table."""
        delta = self._open(TABLES[table])
        return delta is not None and delta.transaction_version(app_id) is not None

    def _once(
        self, spec: Table, app_id: str, rows: int, write: Callable[[DeltaTable, CommitProperties], None]
    ) -> Appended:
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import CommitFailedError, DeltaError

        if rows == 0:
            return Appended(spec.name, 0, committed=False)
        properties = CommitProperties(app_transactions=[Transaction(app_id, 1)], max_commit_retries=0)
        for attempt in range(COMMIT_ATTEMPTS):
            delta = self._open(spec) or self._create(spec)
            if delta.transaction_version(app_id) is not None:
                return Appended(spec.name, rows, committed=False)
            try:
                # Only through the handle just looked at: given a URI, deltalake would open a newer version by itself,
                # in which app_id may have landed meanwhile, and append the rows again.
                write(delta, properties)
            except CommitFailedError:
                time.sleep(min(0.05 * 2**attempt, 2.0))  # another writer won this version: reopen and look again
            except DeltaError as error:
                raise StorageError(
                    f"appending {rows} rows to table {spec.name!r} failed ({_on_one_line(error)})",
                    remedy="Check the object store; a retry cannot double the rows.",
                ) from error
            except OSError as error:
                raise StorageError(
                    f"the object store did not take {rows} rows for table {spec.name!r} ({_on_one_line(error)})",
                    remedy="Check that it runs and that the lake bucket exists; a retry cannot double the rows.",
                ) from error
            else:
                return Appended(spec.name, rows, committed=True)
        raise StorageError(
            f"table {spec.name!r} was too busy: {COMMIT_ATTEMPTS} attempts to append lost to other writers",
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
        if len(delta.schema().fields) < len(spec.schema):  # made by an earlier release: its new columns are null
            known = {field.name for field in delta.schema().fields}
            absent = pl.DataFrame(pl.from_arrow(spec.schema.empty_table())).drop(known).schema
            scan = scan.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in absent.items())
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

    def read_states(self, project: str, shard: str, record_ids: pl.Series, *, before_batch: int) -> pl.DataFrame:
        """The newest revision and state of records, as far as they were ingested before a batch.

        Reads three narrow columns of one shard. :returns: ``record_id``, ``revision``, ``state_hash``; known ids only.
        """
        import polars as pl

        columns = ["record_id", "revision", "state_hash"]
        delta = self._open(TABLES["records"])
        wanted = record_ids.unique()
        if delta is None:
            return pl.DataFrame(schema={"record_id": pl.String, "revision": pl.Int64, "state_hash": pl.Int64})
        scan = pl.scan_delta(delta).filter(
            (pl.col("project") == project) & (pl.col("shard") == shard) & (pl.col("ingest_batch") < before_batch)
        )
        known = scan.select(columns).join(wanted.to_frame("record_id").lazy(), on="record_id", how="semi").collect()
        return known.sort("revision").unique("record_id", keep="last")

    def version(self, table: str) -> int:
        """The table's present Delta version; -1 when nothing was ever written."""
        delta = self._open(TABLES[table])
        return -1 if delta is None else delta.version()

    def _create(self, spec: Table) -> DeltaTable:
        """Make an empty table, or take the one that another writer made first."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        uri = self.files.uri(_folder(spec))
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

        uri = self.files.uri(_folder(spec))
        try:
            return DeltaTable(uri, storage_options=self.config.options())
        except TableNotFoundError:
            return None
        except (OSError, DeltaError) as error:
            raise StorageError(
                f"table {spec.name!r} at {uri} cannot be opened ({_on_one_line(error)})",
                remedy="Check that the object store runs and that the lake bucket exists; then retry.",
            ) from error


def _folder(spec: Table) -> str:
    return f"tables/{spec.name}"


def _stats(file: DataFile) -> str:
    """The file's statistics as the Delta protocol words them; readers skip files by them."""
    stats: dict[str, Any] = {"numRecords": file.rows}
    if file.first_record_id is not None:
        stats["minValues"] = {"record_id": file.first_record_id}
        stats["maxValues"] = {"record_id": file.last_record_id}
        stats["nullCount"] = {"record_id": 0}
    return json.dumps(stats)


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
