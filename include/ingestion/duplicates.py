"""Find out which records say the same as an earlier one: the step after commit, exactly once per ingest batch.

Equal contents are found by their hash, nearly equal ones by MinHash over the 8-byte windows of the lower-case text. One
row per content is remembered in ``signatures``: 128 slots of one byte, in 16 columns of 8 slots. Two contents that
agree in one whole column are candidates; they are linked if the share of equal slots says that their Jaccard similarity
reaches the project's threshold. Results are rows in ``duplicates``, for every record but the first of a group.

- A content joins the group of the earliest content it is similar to, for good. Groups never merge: the split into train
  and holdout follows them. So two groups may hold similar contents when a later content is similar to both.
- Texts are compared only with those that arrived while ``duplicates.near`` was on and ``duplicates.fields`` the same.
- Cost: the new texts, and one pass over the columns of ``signatures``, about 200 bytes for each stored content. Nothing
  else grows with what is stored.
- Batches are linked in order, each against what came before it, so a repeated or racing attempt finds the same.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.lake import Lake
from include.lake.groups import linked_path
from include.lake.keys import shard
from include.lake.schemas import SIGNATURES
from include.project import Project

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

BAND_COLUMNS = [name for name in SIGNATURES.schema.names if name.startswith("band_")]
SLOTS = 8 * len(BAND_COLUMNS)
WINDOW_BYTES = 8  # a window is one 64-bit number
LEAST_WINDOWS = 50  # a shorter text is compared for equality only: one word would decide
SEED = 17
SLICE_RECORDS = 20_000  # texts whose windows are in memory at once
CHANCE = 1 / 256  # that two unlike slots of one byte are equal


def link_duplicates(project: Project, lake: Lake, batches: list[int], *, now: datetime) -> dict[str, Any]:
    """Link the records of these committed ingest batches, and of all before them that are not linked yet.

    Safe to kill anywhere and to run again, also beside another run.

    :param batches: numbers of committed batches; none: up to the newest in the ledger.
    :returns: ``{"batches", "exact", "near"}``: the batches asked for, and the rows of ``duplicates`` that they have by
        kind. The same figures come back when they were linked before.
    :raises StorageError: when the lake cannot be reached; a retry goes on where it stopped.
    """
    import polars as pl

    newest = max(batches, default=0) or _newest_batch(project, lake)
    for batch in range(_linked_up_to(project, lake) + 1, newest + 1):
        _link(project, lake, batch, now)
        _mark_linked(project, lake, batch)
    found = lake.read(
        "duplicates", project.name, columns=["kind"], where=pl.col("ingest_batch").is_in(batches), newest=False
    )
    counts = dict(found["kind"].value_counts().iter_rows())
    return {"batches": sorted(set(batches)), "exact": counts.get("exact", 0), "near": counts.get("near", 0)}


def _newest_batch(project: Project, lake: Lake) -> int:
    ledger = lake.read("objects", project.name, columns=["ingest_batch"], newest=False)
    return int(ledger["ingest_batch"].max() or 0)  # type: ignore[arg-type]


def _linked_up_to(project: Project, lake: Lake) -> int:
    state = lake.files.get_json(linked_path(project))
    return 0 if state is None else int(state["batch"])


def _mark_linked(project: Project, lake: Lake, batch: int) -> None:
    """Move the mark forward, never back."""
    path, swapped = linked_path(project), False
    while not swapped:
        found = lake.files.get_versioned(path)
        if found is not None and json.loads(found[0])["batch"] >= batch:
            return
        swapped = lake.files.swap(path, json.dumps({"batch": batch}).encode(), None if found is None else found[1])


# ---------------------------------------------------------------- one batch


def _link(project: Project, lake: Lake, batch: int, now: datetime) -> None:
    """Append the signatures of the batch's new contents, then what follows from them for its records."""
    import polars as pl

    records = _records(project, lake, batch)
    if records.is_empty():
        return
    contents = records.unique("content_hash", keep="first", maintain_order=True)
    known = _known(project, lake, contents["content_hash"], batch)
    new = contents.join(known, on="content_hash", how="anti", maintain_order="left")
    app_id = f"link/{project.name}/{batch}"
    if not new.is_empty():
        signed = _grouped(project, lake, _signed(project, new), batch)
        rows = signed.select(pl.lit(project.name).alias("project"), pl.exclude("fields_json"))
        if lake.append("signatures", rows.to_arrow(), app_id=app_id).committed:
            known = pl.concat([known, rows.select(known.columns)])
        else:  # a rival's: it may have had another version of the project file
            known = _known(project, lake, contents["content_hash"], batch)
    lake.append("duplicates", _rows(project, records, known, now).to_arrow(), app_id=app_id)


def _records(project: Project, lake: Lake, batch: int) -> pl.DataFrame:
    """The record revisions of a batch in the order of their rows, as ``position``."""
    import polars as pl

    columns = ["record_id", "content_hash", "key", "row_number", "ingest_batch"]
    texts = ["fields_json"] if project.duplicates.near != "off" else []
    where = pl.col("ingest_batch") == batch
    found = lake.read("records", project.name, columns=[*columns, *texts], where=where, newest=False)
    return found.sort("key", "row_number", "record_id").drop("key", "row_number").with_row_index("position")


def _known(project: Project, lake: Lake, contents: pl.Series, batch: int) -> pl.DataFrame:
    """What ``signatures`` says of these contents, as far as it was written for this batch or earlier ones."""
    import polars as pl

    columns = ["content_hash", "record_id", "group_id", "duplicate_of", "similarity", "method"]
    where = pl.col("content_hash").is_in(contents.implode()) & (pl.col("ingest_batch") <= batch)
    return lake.read("signatures", project.name, columns=columns, where=where, newest=False)


def _rows(project: Project, records: pl.DataFrame, known: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The rows of ``duplicates`` for these records."""
    import polars as pl

    joined = records.join(known, on="content_hash", suffix="_first")
    exact = pl.col("record_id") != pl.col("record_id_first")
    similar = pl.col("group_id") != pl.col("content_hash")
    return (
        joined.filter(exact | similar)
        .unique(["record_id", "content_hash"], keep="first", maintain_order=True)
        .select(
            pl.lit(project.name).alias("project"),
            pl.col("record_id").str.head(len(shard("0"))).alias("shard"),
            "record_id",
            "content_hash",
            "group_id",
            pl.when(exact).then(pl.lit("exact")).otherwise(pl.lit("near")).alias("kind"),
            pl.when(exact).then("record_id_first").otherwise("duplicate_of").alias("duplicate_of"),
            pl.when(exact).then(1.0).otherwise("similarity").alias("similarity"),
            pl.when(exact).then(None).otherwise("method").alias("method"),
            "ingest_batch",
            pl.lit(now).dt.cast_time_unit("us").alias("linked_at"),
        )
    )


# ---------------------------------------------------------------- signatures


def _signed(project: Project, contents: pl.DataFrame) -> pl.DataFrame:
    """The contents with their bands and ``method``; both null where texts are not compared or too short."""
    import numpy as np
    import polars as pl

    if "fields_json" not in contents.columns:
        empty = {name: pl.lit(None, pl.Int64) for name in BAND_COLUMNS}
        return contents.with_columns(pl.lit(None, pl.String).alias("method"), **empty)
    parts = []
    for part in contents.iter_slices(SLICE_RECORDS):
        slots, windows = signatures(_texts(project, part["fields_json"]))
        long_enough = pl.Series(windows >= LEAST_WINDOWS)
        bands = np.ascontiguousarray(slots).view("<i8")
        named = {name: bands[:, number] for number, name in enumerate(BAND_COLUMNS)}
        signed = part.with_columns(
            pl.lit(_method(project)).alias("method"), **{n: pl.Series(v) for n, v in named.items()}
        )
        parts.append(signed.with_columns(pl.when(long_enough).then(pl.col("method", *BAND_COLUMNS))))
    return pl.concat(parts)


def _method(project: Project) -> str:
    """How texts are compared; signatures made in different ways say nothing about each other."""
    from rensa import RMinHash

    fields = ",".join(_compared_fields(project))
    return f"rminhash-{RMinHash.ALGORITHM_VERSION} {SLOTS} seed {SEED}, {WINDOW_BYTES}-byte windows of {fields}"


def _compared_fields(project: Project) -> list[str]:
    return project.duplicates.fields or list(project.source.fields)


def _texts(project: Project, fields_json: pl.Series) -> pl.Series:
    """What is compared: the fields one below the other, in one spelling of characters, lower case, single spaces."""
    import polars as pl

    names = _compared_fields(project)
    fields = fields_json.str.json_decode(pl.Struct(dict.fromkeys(names, pl.String))).struct.unnest()
    joined = fields.select(pl.concat_str([pl.col(name).fill_null("") for name in names], separator="\n"))
    return joined.to_series().str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def signatures(texts: pl.Series) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """MinHash of N texts.

    :returns: slots, shape (N, 128), one byte each; and the number of windows in each text, shape (N,).
    """
    import numpy as np
    from rensa import RMinHash

    lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
    data = b"".join(text.encode() for text in texts) + bytes(WINDOW_BYTES)
    ends = np.cumsum(lengths)
    windows = np.maximum(lengths - WINDOW_BYTES + 1, 0)
    offsets = np.concatenate([[0], np.cumsum(windows)])
    places = np.arange(offsets[-1]) + np.repeat(ends - lengths - offsets[:-1], windows)
    numbers = np.ndarray(len(data) - WINDOW_BYTES + 1, "<u8", data, strides=(1,))[places]
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(_mixed(numbers), offsets.astype(np.uint64), SLOTS, SEED)
    slots = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(texts), SLOTS)
    return _mixed(slots).astype(np.uint8), windows


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of MurmurHash3: every bit of the result depends on every bit of the number."""
    import numpy as np

    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(33))


# ---------------------------------------------------------------- groups


def _grouped(project: Project, lake: Lake, new: pl.DataFrame, batch: int) -> pl.DataFrame:
    """The new contents with ``group_id``, ``duplicate_of`` and ``similarity``."""
    import polars as pl

    alone = {
        "group_id": pl.col("content_hash"),
        "duplicate_of": pl.lit(None, pl.String),
        "similarity": pl.lit(None, pl.Float64),
    }
    new = new.with_columns(**alone)
    compared = new.filter(pl.col("method").is_not_null())
    if compared.is_empty():
        return new
    earlier = _candidates(project, lake, compared, batch)
    columns = ["content_hash", "record_id", "group_id", *BAND_COLUMNS]
    contents = pl.concat([earlier.select(columns), compared.select(columns)])
    groups, records = contents["group_id"].to_list(), contents["record_id"].to_list()
    found = []
    for row, match, similarity in _similar_pairs(contents, earlier.height, project.duplicates.threshold):
        groups[row] = groups[match]  # of an earlier row, so it is final
        found.append((contents["content_hash"][row], groups[row], records[match], similarity))
    schema = {"content_hash": pl.String, "group_id": pl.String, "duplicate_of": pl.String, "similarity": pl.Float64}
    return new.update(pl.DataFrame(found, schema, orient="row"), on="content_hash")


def _candidates(project: Project, lake: Lake, new: pl.DataFrame, batch: int) -> pl.DataFrame:
    """Earlier contents that share a band with a new one, in order of arrival."""
    import polars as pl

    shares_band = pl.any_horizontal(pl.col(name).is_in(new[name].unique().implode()) for name in BAND_COLUMNS)
    where = (pl.col("ingest_batch") < batch) & (pl.col("method") == new["method"][0]) & shares_band
    columns = ["content_hash", "record_id", "group_id", "ingest_batch", "position", *BAND_COLUMNS]
    found = lake.read("signatures", project.name, columns=columns, where=where, newest=False)
    return found.sort("ingest_batch", "position")


def _similar_pairs(contents: pl.DataFrame, earlier: int, threshold: float) -> list[tuple[int, int, float]]:
    """For rows from ``earlier`` on, the earliest row they are similar to: ``(row, match, similarity)``, by row.

    Of all that share a band only the earliest is looked at: a wave of equal-looking texts costs no square.
    """
    import numpy as np
    import polars as pl

    rows = contents.with_row_index("row")
    pairs = pl.concat(
        rows.select("row", pl.col("row").first().over(name).alias("match")).filter(
            (pl.col("row") >= earlier) & (pl.col("match") < pl.col("row"))
        )
        for name in BAND_COLUMNS
    ).unique()
    slots = contents.select(BAND_COLUMNS).to_numpy(order="c").astype("<i8").view(np.uint8)
    similar = [pairs.clear().with_columns(pl.lit(0.0).alias("similarity"))]
    for part in pairs.iter_slices(SLICE_RECORDS):
        equal = (slots[part["row"].to_numpy()] == slots[part["match"].to_numpy()]).mean(axis=1)
        estimate = np.clip((equal - CHANCE) / (1 - CHANCE), 0.0, 1.0)
        similar.append(part.with_columns(pl.Series("similarity", estimate)).filter(pl.col("similarity") >= threshold))
    best = pl.concat(similar).sort("row", "match").unique("row", keep="first", maintain_order=True)
    return list(best.iter_rows())
