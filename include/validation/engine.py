"""Great Expectations' engine: expectations judged on one frame, without its data sources.

A batch that comes from a data source is hashed column by column, twice, at ten times the cost of judging it
(``PandasExecutionEngine.get_batch_data_and_markers``). So the data is handed to an execution engine directly. Each run
makes its own: no metric is shared between two frames, nothing piles up, and threads do not meet.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.validation.results import Result, plain

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

BASIC = "BASIC"  # counts and the first 20 unexpected values; names no rows
_prepared = threading.Lock()
_is_prepared = False


def import_great_expectations() -> Any:
    """The library, imported once and late (it takes seconds and 270 MB), without telemetry."""
    global _is_prepared
    with _prepared:
        os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "module 'sre_", DeprecationWarning)  # GX 1.24 imports two of them
            import great_expectations
        if not _is_prepared:
            _judge_json_schemas_on_any_text()
            _is_prepared = True
    return great_expectations


def _judge_json_schemas_on_any_text() -> None:
    """Replace the metric behind ``expect_column_values_to_match_json_schema``.

    Stock Great Expectations raises on a text that is not JSON, so one such row would stop all ingestion. Here it does
    not match, like any other. The schema itself is still checked, and wrong ones still raise.
    """
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations.metrics.map_metric_provider import (
        ColumnMapMetricProvider,
        column_condition_partial,
    )
    from jsonschema.validators import validator_for  # type: ignore[import-untyped]

    def condition(cls: Any, column: Any, json_schema: Any, **_: Any) -> Any:
        validator_for(json_schema).check_schema(json_schema)
        validator = validator_for(json_schema)(json_schema)

        def matches(text: Any) -> bool:
            try:
                return bool(validator.is_valid(json.loads(text)))
            except (ValueError, TypeError, RecursionError):
                return False

        return column.map(matches)

    registry = logging.getLogger("great_expectations.expectations.registry")
    level = registry.level
    registry.setLevel(logging.ERROR)  # it warns of every metric that is replaced
    try:
        type(
            "JsonSchemaOnAnyText",
            (ColumnMapMetricProvider,),
            {
                "condition_metric_name": "column_values.match_json_schema",
                "condition_value_keys": ("json_schema",),
                "_pandas": column_condition_partial(engine=PandasExecutionEngine)(condition),
            },
        )
    finally:
        registry.setLevel(level)


@dataclass(frozen=True)
class Built:
    """An expectation as the library's own object, and its configuration as results carry it (slow to make)."""

    expectation: Any
    config: dict[str, Any]


def build(type_: str, kwargs: dict[str, Any], meta: dict[str, Any], chosen: dict[str, Any]) -> Built:
    """Make the library's object.

    :param chosen: any of ``notes``, ``description``, ``id``, ``severity``.
    :raises ValueError: when there is no such type, or it does not take such kwargs; the message is the library's.
    """
    from great_expectations.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*(row_condition|condition_parser) parameter", DeprecationWarning)
            made = ExpectationConfiguration(type=type_, kwargs=kwargs, meta=meta, **chosen).to_domain_obj()
        if isinstance(kwargs.get("row_condition"), str):  # of older versions: keep what it was translated to
            current = {name: value for name, value in kwargs.items() if name != "condition_parser"}
            current["row_condition"] = made.configuration.to_json_dict()["kwargs"]["row_condition"]
            return build(type_, current, meta, chosen)
    except (GreatExpectationsError, ValueError, TypeError) as error:
        raise ValueError(str(error)) from error
    return Built(made, made.configuration.to_json_dict())


def map_metric(type_: str) -> str | None:
    """The name of the metric that judges single rows; None for an expectation about a column or the table.

    :raises ValueError: when there is no such type.
    """
    from great_expectations.exceptions import GreatExpectationsError
    from great_expectations.expectations.registry import get_expectation_impl

    try:
        return getattr(get_expectation_impl(type_), "map_metric", None)
    except GreatExpectationsError as error:
        raise ValueError(str(error)) from error


class Run:
    """Some expectations judged together on one frame, each metric computed once."""

    def __init__(self, frame: pd.DataFrame, expectations: Mapping[int, Built]) -> None:
        """
        :param frame: (R,) rows, indexed 0 … R − 1.
        :param expectations: by their position in the suite.
        """
        from great_expectations.execution_engine import PandasExecutionEngine

        self._engine = PandasExecutionEngine()
        self._engine.load_batch_data("rows", frame)
        self._rows = len(frame)
        self._expectations = expectations
        self._needs = {position: self._dependencies(one.expectation) for position, one in expectations.items()}
        self._metrics: dict[Any, Any] = {}
        self._broken: dict[int, str] = {}
        if self._compute([one for needs in self._needs.values() for one in needs.values()]) is not None:
            for position, needs in self._needs.items():  # one by one, to see which it was
                if (message := self._compute(list(needs.values()))) is not None:
                    self._broken[position] = message

    def _dependencies(self, expectation: Any) -> dict[str, Any]:
        needs = expectation.get_validation_dependencies(
            execution_engine=self._engine, runtime_configuration={"result_format": BASIC}
        )
        metrics: dict[str, Any] = needs.metric_configurations
        return metrics

    def _compute(self, metrics: list[Any]) -> str | None:
        """Add metrics to those that are known; the message of the first one that cannot be computed."""
        from great_expectations.exceptions import GreatExpectationsError
        from great_expectations.validator.metrics_calculator import MetricsCalculator

        calculator = MetricsCalculator(execution_engine=self._engine, show_progress_bars=False)
        try:
            found, aborted = calculator.compute_metrics(metrics, runtime_configuration={"result_format": BASIC})
        except GreatExpectationsError as error:  # there is no such metric for pandas
            return str(error)
        self._metrics |= found
        return next((str(one["exception_info"].exception_message) for one in aborted.values()), None)

    def result(self, position: int) -> Result:
        """Great Expectations' result in its JSON form. One that could not be judged is unsuccessful, has an empty
        ``result``, and says why in ``exception_info``."""
        built = self._expectations[position]
        message, found = self._broken.get(position), None
        if message is None:
            try:
                found = built.expectation.metrics_validate(
                    self._metrics, runtime_configuration={"result_format": BASIC}, execution_engine=self._engine
                )
            except Exception as error:  # noqa: BLE001 - as its own validator does; whoever asked decides what it means
                message = f"{type(error).__name__}: {error}"
        message = None if message is None else " ".join(message.split())
        return {
            "success": found is not None and bool(found.success),
            "expectation_config": built.config,
            "result": {} if found is None else {name: plain(value) for name, value in found.result.items()},
            "meta": {},
            "exception_info": {
                "raised_exception": message is not None,
                "exception_traceback": None if message is None else "",  # its renderers expect text
                "exception_message": message,
            },
        }

    def mask(self, position: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(R,) True where a row breaks a row-level expectation: Great Expectations' own condition metric."""
        import numpy as np
        from great_expectations.validator.metric_configuration import MetricConfiguration

        metric = self._expectations[position].expectation.map_metric
        counted = self._needs[position][f"{metric}.unexpected_count"]
        condition = MetricConfiguration(
            f"{metric}.condition", counted.metric_domain_kwargs, counted.metric_value_kwargs
        )
        unexpected = self._metrics[condition.id][0]
        mask = np.zeros(self._rows, dtype=bool)
        mask[unexpected.index[unexpected.to_numpy(dtype=bool)]] = True
        return mask
