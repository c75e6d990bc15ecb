"""Results of Great Expectations as plain JSON: made small, and summed over the chunks of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from include.lake.keys import canonical_json

OBSERVED_CHARACTERS = 200
LISTED_VALUES = 20  # Great Expectations' own partial_unexpected_count

Result = dict[str, Any]  # of one expectation, as ``ExpectationValidationResult.to_json_dict()`` has it


def merge_results(chunks: Sequence[Result]) -> Result:
    """The result of one row-level expectation on all chunks together: what one pass over them would give.

    :param chunks: its results on each chunk, in the order of the rows; at least one.
    """
    parts = [one["result"] for one in chunks]
    elements = sum(one["element_count"] for one in parts)
    unexpected = sum(one["unexpected_count"] for one in parts)
    result: dict[str, Any] = {
        "element_count": elements,
        "unexpected_count": unexpected,
        "unexpected_percent": _percent(unexpected, elements),
        "partial_unexpected_list": [value for one in parts for value in one["partial_unexpected_list"]][:LISTED_VALUES],
    }
    counted = elements
    if "missing_count" in parts[0]:  # all but the expectations about nulls themselves
        missing = sum(one["missing_count"] for one in parts)
        counted = elements - missing
        result |= {
            "unexpected_percent": _percent(unexpected, counted),
            "missing_count": missing,
            "missing_percent": _percent(missing, elements),
            "unexpected_percent_total": _percent(unexpected, elements),
            "unexpected_percent_nonmissing": _percent(unexpected, counted),
        }
    mostly = chunks[0]["expectation_config"]["kwargs"].get("mostly", 1)
    success = not counted or (float(counted) - float(unexpected)) / float(counted) >= mostly
    return {**chunks[0], "success": success, "result": result}


def _percent(part: int, whole: int) -> float | None:
    return part / whole * 100 if whole else None


def suite_result(
    name: str, results: list[Result], *, rows: int, hold: bool, skipped: list[dict[str, Any]], suite_version: str
) -> dict[str, Any]:
    """One validation result of a suite, as ``ExpectationSuiteValidationResult.to_json_dict()`` has it.

    :param skipped: expectations that were not judged, as ``{"position", "expectation", "column", "level", "severity",
        "why"}``; kept in ``meta.labelwheel`` with ``rows``, ``hold`` and ``suite_version``.
    """
    from great_expectations import __version__

    good = sum(one["success"] for one in results)
    return {
        "success": good == len(results),
        "results": results,
        "suite_name": name,
        "suite_parameters": {},
        "statistics": {
            "evaluated_expectations": len(results),
            "successful_expectations": good,
            "unsuccessful_expectations": len(results) - good,
            "success_percent": _percent(good, len(results)),
        },
        "meta": {
            "great_expectations_version": __version__,
            "labelwheel": {"rows": rows, "hold": hold, "skipped": skipped, "suite_version": suite_version},
        },
        "id": None,
    }


def validation_rows(
    result: dict[str, Any], *, project: str, suite: str, input_id: str, ingest_batch: int | None, validated_at: datetime
) -> list[dict[str, Any]]:
    """Rows of table ``validations``: one for each expectation, in the order of the suite.

    :param result: of ``suite_result``.
    :param suite: ``ingest`` or ``labels``.
    :param input_id: what was judged.
    """
    own = result["meta"]["labelwheel"]
    common = {
        "project": project,
        "suite": suite,
        "input_id": input_id,
        "ingest_batch": ingest_batch,
        "suite_version": own["suite_version"],
        "validated_at": validated_at,
    }
    rows = [{**common, **one} for one in own["skipped"]]
    for one in result["results"]:
        config, found = one["expectation_config"], one["result"]
        rows.append(
            {
                **common,
                "position": config["meta"]["position"],
                "expectation": config["type"],
                "column": ", ".join(columns_of(config["kwargs"])) or None,
                "level": config["meta"]["level"],
                "severity": config["meta"]["severity"],
                "success": one["success"],
                "why": one["exception_info"]["exception_message"],
                "element_count": found.get("element_count"),
                "unexpected_count": found.get("unexpected_count"),
                "observed_json": canonical_json(found["observed_value"]) if "observed_value" in found else None,
                "kwargs_json": canonical_json(config["kwargs"]),
            }
        )
    return sorted(rows, key=lambda one: int(one["position"]))


def columns_of(kwargs: dict[str, Any]) -> list[str]:
    """The columns an expectation judges."""
    single = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    return [*single, *kwargs.get("column_list", [])]


def shorten(value: Any) -> Any:
    """A value small enough to list beside its failure."""
    text = value if isinstance(value, str) else None if value is None else canonical_json(value)
    if text is None or len(text) <= OBSERVED_CHARACTERS:
        return value
    return text[:OBSERVED_CHARACTERS] + "…"


def plain(value: Any) -> Any:
    """A JSON value: numpy's scalars as Python's, missing values and infinities as None, the rest as (short) text."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return plain(value.tolist())
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return None if type(value).__name__ == "NAType" else shorten(str(value))
