"""The tables of the lake: one schema per table, the natural key of each row, and how the table is partitioned.

Column grammar: units in names (``_bytes``, ``_seconds``, ``_pct``), ``_at`` is a UTC time in microseconds, ``_json``
holds canonical JSON text, plain adjectives are booleans. ``shard`` is the first hexadecimal digit of ``record_id``.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

TIME = pa.timestamp("us", tz="UTC")
TEXT = pa.string()
LONG = pa.int64()
REAL = pa.float64()
BOOL = pa.bool_()
NUMBERS = pa.list_(pa.float32())


@dataclass(frozen=True)
class Table:
    """One table: its columns, and the columns that make a row unique (newest wins by ``version``)."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    version: str | None = None  # among rows with the same key, the greatest value is current
    partition_by: tuple[str, ...] = ("project",)

    @property
    def repetitive(self) -> list[str]:
        """Columns whose values repeat a lot, so that a dictionary makes them small."""
        return [name for name in self.schema.names if name in REPETITIVE and name not in self.partition_by]

    @property
    def ordered(self) -> list[str]:
        """Columns whose least and greatest values let readers skip files: all but long texts."""
        return [field.name for field in self.schema if not field.name.endswith("_json") and field.type != pa.binary()]


# Columns that say where a row comes from or which of a few kinds it is.
REPETITIVE = frozenset(
    {"revision", "consent", "bucket", "key", "object_version", "ingest_batch", "ingested_at", "classes_json"}
)


def _table(
    name: str,
    columns: dict[str, pa.DataType],
    key: tuple[str, ...],
    *,
    version: str | None = None,
    sharded: bool = False,
) -> Table:
    head = {"project": TEXT, **({"shard": TEXT, "record_id": TEXT} if sharded else {})}
    partition_by = ("project", "shard") if sharded else ("project",)
    return Table(name, pa.schema(list({**head, **columns}.items())), ("project", *key), version, partition_by)


OBJECTS = _table(
    "objects",
    {
        "bucket": TEXT,
        "key": TEXT,
        "object_version": TEXT,  # version id, or etag where versioning is off
        "etag": TEXT,
        "size_bytes": LONG,
        "last_modified_at": TIME,
        "revision": LONG,  # grows when a replay or a sweep changes what is known about the object
        "status": TEXT,  # loaded | rejected | superseded | vanished | held | deleted
        "rows": LONG,  # = accepted + duplicates + quarantined + replayed
        "accepted": LONG,
        "duplicates": LONG,
        "quarantined": LONG,  # still in quarantine
        "replayed": LONG,  # left quarantine by a replay, as a record or as a duplicate of one
        "error": TEXT,
        "ingest_batch": LONG,
        "committed_at": TIME,
    },
    ("bucket", "key", "object_version"),
    version="revision",
)

RECORDS = _table(
    "records",
    {
        "revision": LONG,  # grows with every changed content of the same record_id
        "content_hash": TEXT,
        "state_hash": LONG,  # of content, metadata, event time and consent: a new revision has another one
        "source_id": TEXT,
        "fields_json": TEXT,
        "metadata_json": TEXT,  # configured columns first, then those the project does not know; missing ones left out
        "event_at": TIME,
        "ingested_at": TIME,
        "consent": BOOL,  # null: the project has no consent column
        "bucket": TEXT,
        "key": TEXT,
        "object_version": TEXT,
        "row_number": LONG,  # 0-based position of the row in its object
        "ingest_batch": LONG,
    },
    ("record_id",),
    version="revision",
    sharded=True,
)

QUARANTINE = _table(
    "quarantine",
    {
        "bucket": TEXT,
        "key": TEXT,
        "object_version": TEXT,
        "row_number": LONG,  # -1: the object as a whole
        "attempt": LONG,  # 0 when the row arrived, one more with every replay
        "stage": TEXT,  # object | parse | validate | batch
        "reason": TEXT,  # one sentence
        "failures_json": TEXT,  # [{"expectation", "column", "observed"}]
        "raw": pa.binary(),
        "header": pa.binary(),  # the header line of a CSV object
        "suite_version": TEXT,
        "ingest_batch": LONG,
        "quarantined_at": TIME,
        "replayed_at": TIME,  # when it left quarantine
    },
    ("bucket", "key", "object_version", "row_number"),
    version="attempt",
)

DUPLICATES = _table(
    "duplicates",
    {
        "content_hash": TEXT,
        "group_id": TEXT,  # content hash of the first content of its group
        "kind": TEXT,  # exact | near
        "duplicate_of": TEXT,  # the earlier record it was found equal or similar to
        "similarity": REAL,  # 1 for exact ones, else estimated Jaccard similarity
        "method": TEXT,  # how texts were compared; null for exact ones
        "ingest_batch": LONG,
        "linked_at": TIME,
    },
    ("record_id", "content_hash"),
    sharded=True,
)

# The index behind `duplicates`: one row per content, written when it is first seen.
SIGNATURES = _table(
    "signatures",
    {
        "content_hash": TEXT,
        "record_id": TEXT,  # the record that had this content first
        "group_id": TEXT,  # content_hash, or the group of the earlier content it resembles
        "duplicate_of": TEXT,  # the record that had that content first; null for the first of a group
        "similarity": REAL,
        "method": TEXT,  # null: not compared, only equal contents are found
        "position": LONG,  # order of arrival within the ingest batch
        "ingest_batch": LONG,
        **{f"band_{band:02d}": LONG for band in range(16)},  # the MinHash signature, 8 slots of a byte each
    },
    ("content_hash",),
)

VALIDATIONS = _table(
    "validations",
    {
        "suite": TEXT,  # ingest | labels
        "input_id": TEXT,  # what was judged: the ingest batch, or the snapshot id
        "position": LONG,  # 0-based, of the expectation in the suite
        "ingest_batch": LONG,  # null for labels
        "suite_version": TEXT,
        "expectation": TEXT,
        "column": TEXT,  # or several, comma-separated; null for the table as a whole
        "level": TEXT,  # row | share | batch
        "severity": TEXT,  # quarantine | warn | hold
        "success": BOOL,  # null: skipped
        "why": TEXT,  # why it was skipped, or could not be judged, which counts as failed
        "element_count": LONG,
        "unexpected_count": LONG,
        "observed_json": TEXT,  # the observed value of batch-level expectations
        "kwargs_json": TEXT,  # as judged: figures of the last good batch filled in
        "validated_at": TIME,
    },
    ("suite", "input_id", "position"),
)

PREDICTIONS = _table(
    "predictions",
    {
        "content_hash": TEXT,
        "model_version": TEXT,
        "origin": TEXT,  # batch | inference
        "label": TEXT,
        "confidence": REAL,
        "margin": REAL,  # best minus second-best probability
        "probabilities_json": TEXT,
        "predicted_at": TIME,
        "entropy": REAL,  # of the probabilities, as a share of that of equal ones: 0 sure, 1 no idea
        "classes_json": TEXT,  # ["ham", "spam"]: the classes behind `probabilities`, in their order
        "probabilities": NUMBERS,
    },
    ("record_id", "content_hash", "model_version", "origin"),
    sharded=True,
)

EMBEDDINGS = _table(
    "embeddings",
    {
        "content_hash": TEXT,
        "embedder": TEXT,  # its name; the present one is "name" of the file embedders/<project>.json
        "vector": NUMBERS,  # of unit length
        "embedded_at": TIME,
    },
    ("record_id", "content_hash", "embedder"),
    sharded=True,
)

SELECTIONS = _table(
    "selections",
    {
        "batch_id": TEXT,
        "content_hash": TEXT,
        "strategy": TEXT,  # whose frame drew it: random, margin, …, audit
        "score": REAL,
        "weight": REAL,  # in its own frame, as a multiple of the mean; null when nothing was drawn
        "threshold": REAL,  # tau of its own frame; null when it took all
        "frame_probability": REAL,  # chance of being drawn by its own frame
        "inclusion_probability": REAL,  # by any frame; null: unknown, never used in estimates
        "population": LONG,  # candidates the batch was drawn from
        "seed": LONG,
        "model_version": TEXT,
        "blind": BOOL,
        "gold": BOOL,
        "tier": LONG,
        "split": TEXT,  # train | holdout, written once
        "reason": TEXT,
        "selected_at": TIME,
        "cell": TEXT,  # of a stratified strategy: each cell is a frame of its own
    },
    ("batch_id", "record_id"),
    sharded=True,
)

# Selections that people were relieved of before anyone answered: these records may be selected again.
WITHDRAWALS = _table(
    "withdrawals",
    {
        "batch_id": TEXT,
        "content_hash": TEXT,
        "why": TEXT,
        "withdrawn_at": TIME,
    },
    ("batch_id", "record_id"),
    sharded=True,
)

RESPONSES = _table(
    "responses",
    {
        "content_hash": TEXT,
        "question": TEXT,
        "annotator": TEXT,
        "response_id": TEXT,
        "version_at": TIME,  # Argilla's updated_at of this version of the answer
        "status": TEXT,  # submitted | discarded | deleted
        "value_json": TEXT,  # null unless submitted
        "suggestion_json": TEXT,  # what was shown, null when blind or none
        "model_version": TEXT,
        "guideline_version": LONG,
        "schema_version": LONG,
        "batch_id": TEXT,
        "collected_at": TIME,
    },
    ("record_id", "content_hash", "question", "annotator", "version_at"),
    version="version_at",
    sharded=True,
)

LABELS = _table(
    "labels",
    {
        "content_hash": TEXT,
        "question": TEXT,
        "schema_version": LONG,
        "revision": LONG,
        "value_json": TEXT,
        "posterior": REAL,
        "method": TEXT,
        "answers": LONG,
        "agreement": REAL,  # share of answers equal to the value, or mean pairwise span F1
        "status": TEXT,  # final | needs_adjudication | retracted
        "answers_digest": TEXT,  # hash of the answers this revision was made from
        "decided_at": TIME,
    },
    ("record_id", "content_hash", "question", "schema_version"),
    version="revision",
    sharded=True,
)

SNAPSHOTS = _table(
    "snapshots",
    {
        "snapshot_id": TEXT,  # hash of the content
        "uri": TEXT,
        "records": LONG,
        "train": LONG,
        "holdout": LONG,
        "classes_json": TEXT,
        "question": TEXT,
        "schema_version": LONG,
        "label_version": LONG,  # version of the labels table it was read from
        "created_at": TIME,
    },
    ("snapshot_id",),
)

MODELS = _table(
    "models",
    {
        "model_version": TEXT,
        "snapshot_id": TEXT,
        "trainer": TEXT,
        "stage": TEXT,  # challenger | champion | rejected | retired
        "artifact_uri": TEXT,
        "artifact_sha256": TEXT,
        "metrics_json": TEXT,
        "libraries_json": TEXT,
        "staged_at": TIME,
    },
    ("model_version", "stage"),
)

DECISIONS = _table(
    "decisions",
    {
        "kind": TEXT,  # sample | retrain | promote | audit | replay
        "input_id": TEXT,  # batch id or snapshot id or digest of what was looked at
        "outcome": TEXT,  # yes | no
        "why": TEXT,  # one sentence
        "policy_json": TEXT,
        "inputs_json": TEXT,
        "decided_at": TIME,
    },
    ("kind", "input_id"),
)

METRICS = _table(
    "metrics",
    {
        "name": TEXT,
        "cycle": TEXT,  # what it was measured for: batch id, snapshot id, time slot
        "slice": TEXT,  # 'all' or 'column=value'
        "value": REAL,
        "low": REAL,
        "high": REAL,
        "n": LONG,
        "method": TEXT,
        "measured_at": TIME,
    },
    ("name", "cycle", "slice"),
)

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        OBJECTS,
        RECORDS,
        QUARANTINE,
        DUPLICATES,
        SIGNATURES,
        VALIDATIONS,
        PREDICTIONS,
        EMBEDDINGS,
        SELECTIONS,
        WITHDRAWALS,
        RESPONSES,
        LABELS,
        SNAPSHOTS,
        MODELS,
        DECISIONS,
        METRICS,
    )
}
