"""A suite of Great Expectations, judged on columns: row by row where that makes sense, else once per batch.

An expectation is on one of three levels, by what it needs to see:

- ``row``: each row is judged by itself. A row that fails goes to quarantine (default), or the expectation only warns,
  or it holds the batch back.
- ``share``: the same with ``mostly`` below 1. How many rows fail is a property of the batch, so no row is to blame: it
  warns (default) or holds. Judged on the summed counts of all chunks.
- ``batch``: it looks at other rows (unique, increasing, outliers), at a whole column or at the table. It warns
  (default) or holds; it is judged once per batch on the columns it needs, and may compare with the last good batch
  (``profiles.py``).

Rows come in chunks, and no verdict depends on where the chunks end.

Row-level results are computed in the BASIC format; the boolean masks behind them name the failing rows at a cost that
does not depend on their number, where the COMPLETE format costs 60 µs each.
``tests/include/validation/test_contract.py`` compares the masks with COMPLETE results.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from textwrap import shorten as shorten_text
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from include.errors import ProjectError
from include.lake.keys import canonical_json, digest
from include.validation import profiles
from include.validation.engine import Built, Run, build, import_great_expectations, map_metric
from include.validation.results import (
    OBSERVED_CHARACTERS,
    Result,
    columns_of,
    merge_results,
    shorten,
    suite_result,
)
from include.validation.suites import severity_of

if TYPE_CHECKING:
    import pandas as pd

EXACT_IN_FLOAT = 2**53
REMEDY = "Correct it in the suite; the Great Expectations gallery lists every type and its kwargs."

# Map expectations whose verdict on a row depends on other rows or on the column as a whole.
NEEDS_THE_BATCH = frozenset(
    {
        "expect_column_value_z_scores_to_be_less_than",
        "expect_column_values_to_be_decreasing",
        "expect_column_values_to_be_in_type_list",
        "expect_column_values_to_be_increasing",
        "expect_column_values_to_be_of_type",
        "expect_column_values_to_be_unique",
        "expect_column_values_to_not_be_outliers",
        "expect_compound_columns_to_be_unique",
    }
)
# What these look at is which columns there are: the contract's own, whatever a batch brings.
ABOUT_THE_COLUMNS = frozenset(
    {
        "expect_column_to_exist",
        "expect_table_column_count_to_be_between",
        "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list",
        "expect_table_columns_to_match_set",
    }
)
ABOUT_THE_ROW_COUNT = frozenset({"expect_table_row_count_to_be_between", "expect_table_row_count_to_equal"})

_ARROW = {"text": pa.string(), "integer": pa.int64(), "float": pa.float64()}


@dataclass
class Verdict:
    """What the row-level part of a suite said about a chunk.

    :param failures: by row position: every failed expectation as ``{"expectation", "column", "observed"}``.
    :param warnings: row-level expectations of severity ``warn`` that failed, as ``{"expectation", "column", "why",
        "rows", "observed"}``; ``BatchVerdict.findings`` has them summed over the batch.
    :param results: Great Expectations' results on this chunk, for ``check_batch``.
    """

    failures: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)


@dataclass(frozen=True)
class Kept:
    """What the batch-level part of a suite needs of a chunk."""

    rows: int
    columns: pa.Table


@dataclass
class BatchVerdict:
    """What a suite said about a batch.

    :param hold: an expectation of severity ``hold`` failed: nothing of the batch may be used.
    :param findings: every expectation that failed or was not judged, as ``{"position", "expectation", "column",
        "level", "severity", "failed", "why", "rows", "observed"}``. *why* is ``rows`` (that many rows fail), ``share``
        (more than ``mostly`` allows), ``mostly`` (no more than that: not failed), ``batch``, ``error: …`` (it could
        not be judged, which counts as failed) or ``skipped: …`` (nothing to judge or to compare with: not failed).
    :param profile: of this batch; once it is committed as good, the reference of the next.
    :param result: one Great Expectations validation result of the whole suite, as JSON.
    """

    hold: bool
    findings: list[dict[str, Any]]
    profile: dict[str, Any]
    result: dict[str, Any]


@dataclass(frozen=True)
class _Entry:
    """One expectation of the suite, ready to be judged."""

    position: int
    config: dict[str, Any]
    level: str
    severity: str
    columns: tuple[str, ...]  # the columns it judges
    needs: frozenset[str]  # and those it reads, row_condition included
    built: Built | None  # None while placeholders wait for a reference

    @property
    def names(self) -> dict[str, Any]:
        return {"expectation": self.config["type"], "column": ", ".join(self.columns) or None}

    @property
    def is_about_columns(self) -> bool:
        return self.config["type"] in ABOUT_THE_COLUMNS


class SuiteContract:
    """A suite over named and typed columns. Cheap to make: the library is imported by the first check."""

    def __init__(self, expectations: Sequence[dict[str, Any]], types: dict[str, str], *, name: str, where: str) -> None:
        """
        :param expectations: as ``suites.check_expectations`` returns them.
        :param types: every column expectations may speak of, each ``text``, ``integer`` or ``float``.
        :param name: of the suite, on result pages.
        :param where: names the list of expectations in error messages; the position is appended.
        """
        self.name = name
        self._configs = list(expectations)
        self._types = types
        self._where = where
        self._lock = threading.Lock()

    @property
    def suite_version(self) -> str:
        """Equal for suites that judge alike: notes, ids and other decoration do not count."""
        core = [[one["type"], one["kwargs"], severity_of(one)] for one in self._configs]
        return digest("suite", canonical_json(core))

    # ------------------------------------------------------------ rows

    def check(self, columns: pa.Table) -> Verdict:
        """Judge a chunk row by row. Safe to call from several threads.

        :param columns: (R,) rows of the contract's columns, typed string, int64 or double; null = missing.
        :raises ProjectError: for an expectation that Great Expectations does not know, or that does not fit the
            columns; the message names its position.
        """
        verdict = Verdict()
        entries = [one for one in self._entries if one.level != "batch"]
        if not entries:
            return verdict
        run = Run(
            self._frame(columns, entries, columns.num_rows), {one.position: one.built for one in entries if one.built}
        )
        for one in entries:
            result = self._tidy(one, run.result(one.position))
            if message := result["exception_info"]["exception_message"]:
                raise self._wrong(one.position, message)
            verdict.results.append(result)
            count = result["result"]["unexpected_count"]
            if not count or one.level == "share":
                continue
            if one.severity == "warn":
                verdict.warnings.append({**one.names, "why": "severity", "rows": count, "observed": None})
                continue
            rows = run.mask(one.position).nonzero()[0]
            if len(rows) != count:
                raise RuntimeError(
                    f"Great Expectations counts {count} rows for {one.config['type']}, its mask {len(rows)}"
                )
            for row, failure in _failures(one, rows, columns):
                verdict.failures.setdefault(row, []).append(failure)
        return verdict

    # ------------------------------------------------------------ batch

    def collect(self, columns: pa.Table) -> Kept:
        """What ``check_batch`` needs of a chunk; text that repeats itself is kept once."""
        kept = columns.select([name for name in columns.column_names if name in self._batch_columns])
        for position, name in enumerate(kept.column_names):
            if pa.types.is_string(kept[name].type) and columns.num_rows:
                packed = kept[name].combine_chunks().dictionary_encode()
                if len(packed.dictionary) <= len(packed) // 2:
                    kept = kept.set_column(position, name, packed)
        return Kept(columns.num_rows, kept)

    def check_batch(
        self, kept: Sequence[Kept], results: Sequence[list[Result]], reference: dict[str, Any] | None = None
    ) -> BatchVerdict:
        """Judge a batch: sum up what was said about its chunks, and judge what only the whole can show.

        :param kept: what ``collect`` gave for each chunk.
        :param results: ``Verdict.results`` of each chunk, in the same order.
        :param reference: ``BatchVerdict.profile`` of the last good batch; None when there is none.
        :raises ProjectError: for an expectation that cannot be used; the message names its position.
        """
        table = self._joined(kept)
        rows = sum(one.rows for one in kept)
        judged = self._summed(results)
        ready, skipped = self._ready(rows, reference)
        for about_columns in (False, True):
            some = [one for one in self._entries if one.position in ready and one.is_about_columns == about_columns]
            if some:
                frame = self._names_only() if about_columns else self._frame(table, some, rows)
                run = Run(frame, {one.position: ready[one.position] for one in some})
                judged |= {one.position: self._tidy(one, run.result(one.position)) for one in some}
        findings = [found for one in self._entries if (found := _finding(one, judged, skipped, rows))]
        hold = any(one["failed"] and one["severity"] == "hold" for one in findings)
        omitted = ("failed", "rows", "observed")
        return BatchVerdict(
            hold=hold,
            findings=findings,
            profile={**profiles.batch_profile(table), "rows": rows},
            result=suite_result(
                self.name,
                [judged[position] for position in sorted(judged)],
                rows=rows,
                hold=hold,
                skipped=[
                    {name: value for name, value in one.items() if name not in omitted}
                    for one in findings
                    if one["position"] in skipped
                ],
                suite_version=self.suite_version,
            ),
        )

    def _summed(self, results: Sequence[list[Result]]) -> dict[int, Result]:
        """Row-level results by position; those of an empty batch are Great Expectations' own on no rows."""
        entries = [one for one in self._entries if one.level != "batch"]
        if not entries:
            return {}
        chunks = list(results) or [self.check(_schema(self._types).empty_table()).results]
        return {one.position: merge_results([chunk[n] for chunk in chunks]) for n, one in enumerate(entries)}

    def _ready(self, rows: int, reference: dict[str, Any] | None) -> tuple[dict[int, Built], dict[int, str]]:
        """By position: batch-level expectations with their placeholders filled, and why others are skipped."""
        ready: dict[int, Built] = {}
        skipped: dict[int, str] = {}
        for one in self._entries:
            if one.level != "batch":
                continue
            if not rows and not one.is_about_columns and one.config["type"] not in ABOUT_THE_ROW_COUNT:
                skipped[one.position] = "the batch has no rows"
            elif one.built is not None:
                ready[one.position] = one.built
            else:
                try:
                    kwargs = profiles.fill(one.config["kwargs"], reference, one.config["kwargs"].get("column"))
                except profiles.NoReferenceError as error:
                    skipped[one.position] = str(error)
                else:
                    ready[one.position] = self._build(one.position, kwargs, one.level, one.severity)
        return ready, skipped

    def _joined(self, kept: Sequence[Kept]) -> pa.Table:
        """The kept columns of all chunks, as one table of plain types."""
        schema = _schema({name: kind for name, kind in self._types.items() if name in self._batch_columns})
        return pa.concat_tables(
            [schema.empty_table(), *(one.columns.select(schema.names).cast(schema) for one in kept)]
        )

    # ------------------------------------------------------------ the suite

    @cached_property
    def _batch_columns(self) -> frozenset[str]:
        own = [one for one in self._entries if one.level == "batch" and not one.is_about_columns]
        return frozenset(name for one in own for name in one.needs)

    @property
    def _entries(self) -> list[_Entry]:
        with self._lock:  # building imports the library and touches the warning filters: once, not in two threads
            return self._built

    @cached_property
    def _built(self) -> list[_Entry]:
        import_great_expectations()
        return [self._entry(position) for position in range(len(self._configs))]

    def _entry(self, position: int) -> _Entry:
        config = self._configs[position]
        kwargs = config["kwargs"]
        level = self._level(position)
        columns = tuple(columns_of(kwargs))
        waits = profiles.placeholders(kwargs)
        try:
            compared = [profiles.check_placeholder(one, kwargs.get("column")) for one in waits]
        except ValueError as error:
            raise self._wrong(position, str(error)) from error
        if waits and level != "batch":
            raise self._wrong(position, f"{profiles.PLACEHOLDER} needs an expectation that judges the whole batch")
        needs = {*columns, *(name for name in compared if name)}
        if unknown := sorted(needs - set(self._types)):
            raise self._wrong(position, f"column {unknown[0]!r} is none of the project's: {', '.join(self._types)}")
        if condition := kwargs.get("row_condition"):
            needs |= _condition_columns(condition) & set(self._types) or set(self._types)
        severity = severity_of(config) or ("quarantine" if level == "row" else "warn")
        if severity == "quarantine" and level != "row":
            what = "a share of the batch (mostly)" if level == "share" else "the whole batch"
            raise self._wrong(
                position, f"severity 'quarantine' rejects single rows, but it judges {what}: warn or hold"
            )
        built = None if waits else self._build(position, kwargs, level, severity)
        return _Entry(position, config, level, severity, columns, frozenset(needs), built)

    def _level(self, position: int) -> str:
        config = self._configs[position]
        try:
            metric = map_metric(config["type"])
        except ValueError as error:
            raise self._wrong(position, str(error)) from error
        if metric is None or config["type"] in NEEDS_THE_BATCH:
            return "batch"
        return "row" if config["kwargs"].get("mostly", 1) == 1 else "share"

    def _build(self, position: int, kwargs: dict[str, Any], level: str, severity: str) -> Built:
        config = self._configs[position]
        chosen = {name: config[name] for name in ("notes", "description", "id", "severity") if config.get(name)}
        meta = {**(config.get("meta") or {}), "position": position, "level": level, "severity": severity}
        try:
            return build(config["type"], kwargs, meta, chosen)
        except ValueError as error:
            raise self._wrong(position, str(error)) from error

    def _wrong(self, position: int, why: str) -> ProjectError:
        place = f"{self._where}[{position}] ({self._configs[position]['type']})"
        return ProjectError(f"{place} cannot be used: {shorten_text(why, width=400)}", remedy=REMEDY)

    # ------------------------------------------------------------ frames

    def _frame(self, columns: pa.Table, entries: Sequence[_Entry], rows: int) -> pd.DataFrame:
        """The columns that the entries read, as pandas takes them from Arrow; the index is the row position."""
        import pandas as pd

        needed = {name for one in entries for name in one.needs}
        names = [name for name in self._types if name in needed]
        if not names:
            return pd.DataFrame(index=pd.RangeIndex(rows))
        frame: pd.DataFrame = columns.select(names).to_pandas()
        for name in names:
            # Integers become floats, by pandas where some are missing, by Great Expectations where they meet a bound.
            # Where that would round, they stay Python's (slow) integers.
            if self._types[name] == "integer" and _would_round(columns[name]):
                frame[name] = columns[name].to_pandas(types_mapper=lambda _: pd.Int64Dtype())
        return frame

    def _names_only(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(columns=list(self._types))

    def _tidy(self, entry: _Entry, result: Result) -> Result:
        """Whole numbers in the list of unexpected values, which may have gone through floats."""
        found = result["result"].get("partial_unexpected_list")
        if found and len(entry.columns) == 1 and self._types[entry.columns[0]] == "integer":
            result["result"]["partial_unexpected_list"] = [None if one is None else int(one) for one in found]
        return result


def _schema(types: dict[str, str]) -> pa.Schema:
    return pa.schema([(name, _ARROW[kind]) for name, kind in types.items()])


def _failures(entry: _Entry, rows: Any, columns: pa.Table) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each failing row, with what was seen there."""
    indices = pa.array(rows)
    seen = [_observed(columns[name].take(indices)) for name in entry.columns]
    observed = seen[0] if len(seen) == 1 else [shorten(list(one)) for one in zip(*seen, strict=True)]
    name, column = entry.names["expectation"], entry.names["column"]
    for row, value in zip(rows.tolist(), observed, strict=True):
        yield row, {"expectation": name, "column": column, "observed": value}


def _observed(values: pa.ChunkedArray) -> list[Any]:
    """Column values as they are listed beside failures; long texts are cut before Python sees them."""
    if pa.types.is_string(values.type):
        long = pc.greater(pc.utf8_length(values), OBSERVED_CHARACTERS)
        if pc.any(long).as_py():
            start = pc.utf8_slice_codeunits(values, 0, OBSERVED_CHARACTERS)
            values = pc.if_else(long, pc.binary_join_element_wise(start, "…", ""), values)
    found: list[Any] = values.to_pylist()
    return found


def _finding(entry: _Entry, judged: dict[int, Result], skipped: dict[int, str], rows: int) -> dict[str, Any] | None:
    """What there is to say about one expectation; None when it succeeded."""

    def found(*, failed: bool, why: str, count: int = rows, observed: Any = None) -> dict[str, Any]:
        head = {"position": entry.position, **entry.names, "level": entry.level, "severity": entry.severity}
        return {**head, "failed": failed, "why": why, "rows": count, "observed": shorten(observed)}

    if entry.position in skipped:
        return found(failed=False, why=f"skipped: {skipped[entry.position]}")
    one = judged[entry.position]
    if message := one["exception_info"]["exception_message"]:
        return found(failed=True, why=f"error: {shorten(message)}")
    count = one["result"].get("unexpected_count")
    if entry.level == "batch":
        observed = one["result"].get("observed_value")
        return None if one["success"] else found(failed=True, why="batch", count=count or rows, observed=observed)
    if not count:
        return None
    if one["success"]:
        return found(failed=False, why="mostly", count=count)
    return found(failed=True, why="rows" if entry.level == "row" else "share", count=count)


def _condition_columns(condition: Any) -> set[str]:
    """The columns a row_condition names; none for one that is text, which may name any."""
    if isinstance(condition, dict):
        own = condition.get("column")
        found = {own["name"]} if isinstance(own, dict) and "name" in own else set()
        return found.union(*(_condition_columns(one) for one in condition.values()))
    return set().union(*(_condition_columns(one) for one in condition)) if isinstance(condition, list) else set()


def _would_round(column: pa.ChunkedArray) -> bool:
    """Whether integers would lose digits as floats."""
    ends = pc.min_max(column).as_py()
    return ends["min"] is not None and bool(max(-ends["min"], ends["max"]) > EXACT_IN_FLOAT)
