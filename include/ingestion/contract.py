"""The contract for incoming rows: the project's Great Expectations suite, judged row by row.

Great Expectations runs with result format BASIC; for the expectations that failed, its own boolean masks are fetched
through its metric engine. That costs the same at any share of bad rows and names every failing row, where the COMPLETE
format costs 60 µs per failure. ``tests/include/ingestion/test_contract.py`` compares the masks with COMPLETE results.
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.errors import ProjectError
from include.ingestion.rows import contract_columns, shorten
from include.lake.keys import canonical_json, digest
from include.project import Project

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SEVERITIES = ("quarantine", "warn")


@dataclass
class Verdict:
    """What a suite said about some rows.

    :param failures: by row position: every failed expectation as ``{"expectation", "column", "observed"}``.
    :param warnings: what failed without rejecting rows: table-level expectations, severity ``warn``, and rows that
        ``mostly`` tolerates, as ``{"expectation", "column", "why", "rows", "observed"}``.
    """

    failures: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    warnings: list[dict[str, Any]] = field(default_factory=list)


class Contract:
    """The expectations of one project."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._types = contract_columns(project.source)
        self._configs = project.validation.expectations

    @property
    def suite_version(self) -> str:
        """Equal for equal expectations."""
        return digest("suite", canonical_json(self._configs))

    def check(self, rows: Sequence[dict[str, Any]]) -> Verdict:
        """Judge rows, each a mapping of the contract columns.

        :raises ProjectError: for an expectation that Great Expectations does not know, or that does not fit the
            columns; the message names its position.
        """
        verdict = Verdict()
        if not self._configs or not rows:
            return verdict
        gx = import_great_expectations()
        expectations = [self._expectation(position) for position in range(len(self._configs))]
        frame = self._frame(rows)
        batch = in_memory_batch(frame)
        suite = gx.ExpectationSuite(name="contract", expectations=expectations)
        results = batch.validate(suite, result_format="BASIC").results
        for result in sorted(results, key=lambda one: one.expectation_config.meta["position"]):
            self._judge(result, frame, batch, verdict)
        return verdict

    def _expectation(self, position: int) -> Any:
        from great_expectations.exceptions import GreatExpectationsError
        from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

        config = self._configs[position]
        meta = dict(config.get("meta") or {})
        if meta.get("severity", SEVERITIES[0]) not in SEVERITIES:
            raise self._wrong(position, f"severity {meta['severity']!r} is none of {', '.join(SEVERITIES)}")
        for column in _columns(config["kwargs"]):
            if column not in self._types:
                raise self._wrong(position, f"column {column!r} is none of the project's: {', '.join(self._types)}")
        try:
            return ExpectationConfiguration(**{**config, "meta": {**meta, "position": position}}).to_domain_obj()
        except (GreatExpectationsError, ValueError, TypeError) as error:
            raise self._wrong(position, " ".join(str(error).split())) from error

    def _wrong(self, position: int, why: str) -> ProjectError:
        return ProjectError(
            f"project {self._project.name!r}: validation.expectations[{position}] "
            f"({self._configs[position]['type']}) cannot be used: {why}",
            remedy="Correct it in the project file; the Great Expectations gallery lists every type and its kwargs.",
        )

    def _frame(self, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
        import pandas as pd

        # Great Expectations hashes every column it is given, so it gets only those it needs
        everything = any("row_condition" in config["kwargs"] for config in self._configs)
        used = {column for config in self._configs for column in _columns(config["kwargs"])}
        data = {}
        for name, kind in self._types.items():
            if everything or name in used:
                values = [row.get(name) for row in rows]
                whole = "Int64" if None in values else "int64"
                data[name] = pd.Series(values, dtype={"integer": whole, "float": "float64"}.get(kind, "object"))
        return pd.DataFrame(data, index=pd.RangeIndex(len(rows)))

    def _judge(self, result: Any, frame: pd.DataFrame, batch: Any, verdict: Verdict) -> None:
        config = result.expectation_config
        position = config.meta["position"]
        if message := _raised(result.exception_info):
            raise self._wrong(position, message)
        columns = _columns(config.kwargs)
        finding = {"expectation": config.type, "column": ", ".join(columns) or None}
        count = result.result.get("unexpected_count")
        if count is None:  # a judgement on the table or on a whole column: no row is to blame
            if not result.success:
                observed = shorten(_plain(result.result.get("observed_value")))
                verdict.warnings.append({**finding, "why": "table", "rows": len(frame), "observed": observed})
            return
        if not count:
            return
        if result.success or config.meta.get("severity") == "warn":
            why = "mostly" if result.success else "severity"
            verdict.warnings.append({**finding, "why": why, "rows": int(count), "observed": None})
            return
        failing = unexpected_rows(config, batch, len(frame))
        if len(failing) != count:
            raise RuntimeError(f"Great Expectations counts {count} rows for {config.type}, its mask {len(failing)}")
        values = [frame[column].tolist() for column in columns]
        for row in failing:
            seen = [_plain(one[row]) for one in values]
            observed = shorten(seen[0] if len(seen) == 1 else seen)
            verdict.failures[int(row)].append({**finding, "observed": observed})


def unexpected_rows(config: Any, batch: Any, rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Positions of the rows that break a row-level expectation, from Great Expectations' own mask.

    :param rows: length of the frame behind ``batch``; its index must be 0 … rows − 1.
    """
    import numpy as np
    from great_expectations.expectations.registry import get_expectation_impl
    from great_expectations.validator.metric_configuration import MetricConfiguration
    from great_expectations.validator.metrics_calculator import MetricsCalculator

    engine = batch.data.execution_engine
    implementation = get_expectation_impl(config.type)
    needs = implementation(**config.kwargs).get_validation_dependencies(
        execution_engine=engine, runtime_configuration={"result_format": {"result_format": "BOOLEAN_ONLY"}}
    )
    count = needs.get_metric_configuration(f"{implementation.map_metric}.unexpected_count")
    metric = MetricConfiguration(
        f"{implementation.map_metric}.condition", count.metric_domain_kwargs, count.metric_value_kwargs
    )
    calculator = MetricsCalculator(execution_engine=engine, show_progress_bars=False)
    found, _ = calculator.compute_metrics(metric_configurations=[metric])
    unexpected = found[metric.id][0]
    mask = np.zeros(rows, dtype=bool)
    mask[unexpected.index[unexpected.to_numpy(dtype=bool)]] = True
    return np.flatnonzero(mask)


def import_great_expectations() -> Any:
    """The library, imported once and late (it takes seconds and 270 MB), without telemetry."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "module 'sre_", DeprecationWarning)  # GX 1.24 imports two of them
        import great_expectations
    return great_expectations


def in_memory_batch(frame: pd.DataFrame) -> Any:
    """The frame as a Great Expectations batch, in a context that writes no files and shows no progress bars."""
    context = import_great_expectations().get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("rows")
    return asset.add_batch_definition_whole_dataframe("all").get_batch(batch_parameters={"dataframe": frame})


def _columns(kwargs: dict[str, Any]) -> list[str]:
    single = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    return [*single, *kwargs.get("column_list", [])]


def _raised(info: dict[str, Any]) -> str | None:
    """The message of the first exception in an ``exception_info``, which is flat or keyed by metric."""
    for one in [info] if "raised_exception" in info else info.values():
        if one["raised_exception"]:
            return " ".join(str(one["exception_message"]).split())
    return None


def _plain(value: Any) -> Any:
    """A JSON value: numpy scalars as Python's, missing values as None, the rest as text."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return None if type(value).__name__ == "NAType" else str(value)
