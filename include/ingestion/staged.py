"""What a stage task writes: data files of ``records`` and ``quarantine`` that are in no table yet, and their keys.

Runs in one thread beside the one that reads and judges. Memory holds one flush: a batch of any size is written in
portions, each portion one data file per shard, sorted by ``record_id``.
"""

from __future__ import annotations

import io
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.ingestion.planning import refs, stage_path
from include.ingestion.records import FIRST_REVISION, order
from include.lake import DataFile, Lake
from include.lake.keys import SHARDS
from include.lake.lake import conform
from include.lake.schemas import QUARANTINE, RECORDS
from include.project import Project

WRITTEN_AT_ONCE = 4  # data files: the store answers slowly, compared with how fast they are made
FLUSH_BYTES = 32 * 1024**2
WORTH_SORTING = 0.8  # share of good rows below which the others are left out before rows are put in order
KEYS = pa.schema(
    {
        "record_id": pa.string(),
        "state_hash": pa.int64(),
        "object": pa.int32(),  # position of its object in the batch
        "arrival": pa.int64(),  # position of the row in the batch: later rows supersede earlier ones
    }
)


class NothingWritten:
    """Takes the place of ``StagedFiles`` where only the verdicts are wanted."""

    def __init__(self) -> None:
        self.records: list[DataFile] = []
        self.quarantine: list[DataFile] = []

    def add(self, rows: pa.Table, objects: np.ndarray[Any, Any], good: np.ndarray[Any, Any]) -> None:
        """Forget them."""

    def reject(self, rows: list[dict[str, Any]]) -> None:
        """Forget them."""

    def close(self) -> str | None:
        """There is nothing to write."""
        return None


class StagedFiles:
    """Collects rows of a batch and writes them as data files whose names no other attempt has."""

    def __init__(self, project: Project, lake: Lake, planned: dict[str, Any], *, now: datetime) -> None:
        self._lake = lake
        self._name = f"{planned['batch']:08d}-{uuid.uuid4().hex}"
        self._keys_path = stage_path(project, planned["batch"], f"{self._name}.keys.parquet")
        objects = refs(planned)
        # One value for all rows, or one for each object: kept once, and written as what Parquet calls a dictionary.
        self._same: dict[str, Any] = {
            "project": project.name,
            "revision": FIRST_REVISION,
            "ingested_at": now,
            "bucket": planned["bucket"],
            "ingest_batch": planned["batch"],
        }
        self._by_object = {
            "key": pa.array([ref.key for ref in objects], pa.string()),
            "object_version": pa.array([ref.version for ref in objects], pa.string()),
        }
        self._waiting: list[pa.Table] = []
        self._rejected: list[dict[str, Any]] = []
        self._waiting_bytes = {"records": 0, "quarantine": 0}
        self._arrived = 0
        self._keys: list[pa.Table] = []
        self._pool = ThreadPoolExecutor(WRITTEN_AT_ONCE, thread_name_prefix="put")
        self._writing: list[Future[DataFile]] = []
        self.records: list[DataFile] = []
        self.quarantine: list[DataFile] = []

    def add(
        self,
        rows: pa.Table,
        objects: np.ndarray[tuple[int], np.dtype[np.int64]],
        good: np.ndarray[tuple[int], np.dtype[np.bool_]],
    ) -> None:
        """Take rows of ``records``, as ``encode`` gives them.

        :param rows: (R,)
        :param objects: (R,) position of each row's object in the batch.
        :param good: (R,) which rows to take.
        """
        arrival = np.arange(self._arrived, self._arrived + rows.num_rows)
        self._arrived += rows.num_rows
        rows = rows.append_column("object", pa.array(objects, pa.int32())).append_column("arrival", pa.array(arrival))
        if good.mean() < WORTH_SORTING:
            rows, good = rows.filter(pa.array(good)), good[good]
        self._waiting.append(rows.append_column("good", pa.array(good)))
        self._waiting_bytes["records"] += rows.nbytes
        if self._waiting_bytes["records"] >= FLUSH_BYTES:
            self._flush_records()

    def reject(self, rows: list[dict[str, Any]]) -> None:
        """Take rows of ``quarantine``."""
        self._rejected += rows
        self._waiting_bytes["quarantine"] += sum(1000 + len(row["raw"] or b"") for row in rows)
        if self._waiting_bytes["quarantine"] >= FLUSH_BYTES:
            self._flush_quarantine()

    def close(self) -> str | None:
        """Write what is left.

        :returns: path of a Parquet file of ``KEYS``, one row group for each file of ``records``, in their order; None
            when there are none.
        """
        self._flush_records()
        self._flush_quarantine()
        self._settle()
        self._pool.shutdown()
        if not self._keys:
            return None
        sink = io.BytesIO()
        with pq.ParquetWriter(sink, KEYS, compression="zstd", use_dictionary=["object"]) as writer:
            for keys in self._keys:
                writer.write_table(keys, row_group_size=max(keys.num_rows, 1))
        self._lake.files.put(self._keys_path, sink.getvalue())
        return self._keys_path

    def _flush_records(self) -> None:
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting)
        self._waiting, self._waiting_bytes["records"] = [], 0
        positions, edges = order(rows["record_id"])
        if pc.all(rows["good"]).as_py() is False:  # leave the others out while the rest is put in order
            good = rows["good"].take(positions).to_numpy()
            edges = np.concatenate([[0], np.cumsum(good)])[edges].tolist()
            positions = positions.filter(pa.array(good))
        rows = rows.drop_columns(["good"]).take(positions)
        del positions
        keys, flush = rows.select(KEYS.names).cast(KEYS), len(self._keys)
        objects = rows["object"].combine_chunks()
        rows = rows.drop_columns(["object", "arrival"])
        for name, values in self._by_object.items():
            rows = rows.append_column(name, pa.DictionaryArray.from_arrays(objects, values))
        nothing = pa.array(np.zeros(len(objects), np.int32))
        for name, value in self._same.items():
            same = pa.array([value], RECORDS.schema.field(name).type)
            rows = rows.append_column(name, pa.DictionaryArray.from_arrays(nothing, same))
        self._settle()  # two flushes in memory are enough
        for shard, start, stop in zip(SHARDS, edges, edges[1:], strict=False):
            if start == stop:
                continue
            part = rows.slice(start, stop - start)
            part = part.append_column("shard", pa.array([shard] * part.num_rows))
            name = f"{self._name}-{flush}.parquet"
            self._writing.append(self._pool.submit(self._lake.write_file, "records", part, name=name))
            self._keys.append(keys.slice(start, stop - start))

    def _settle(self) -> None:
        """Wait for the files that are being written."""
        self.records += [writing.result() for writing in self._writing]
        self._writing.clear()

    def _flush_quarantine(self) -> None:
        if not self._rejected:
            return
        table = conform(self._rejected, QUARANTINE)
        self._rejected, self._waiting_bytes["quarantine"] = [], 0
        name = f"{self._name}-{len(self.quarantine)}.parquet"
        self.quarantine.append(self._lake.write_file("quarantine", table, name=name))
