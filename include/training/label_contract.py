"""The contract for labels: a suite of Great Expectations that a snapshot must keep before anything is trained on it.

It is judged by the same engine as incoming rows (``include/validation``), on the columns of the snapshot. A snapshot is
frozen, so no single label can be taken out of it: whatever fails with another severity than ``warn`` stops training.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from include.errors import TrainingError
from include.lake import Lake
from include.project import Project
from include.training.snapshot import SCHEMA, training_rules
from include.validation.contract import BatchVerdict, SuiteContract
from include.validation.results import validation_rows

if TYPE_CHECKING:
    import polars as pl

TYPES = {
    field.name: {pa.string(): "text", pa.int64(): "integer", pa.float64(): "float"}[field.type] for field in SCHEMA
}


def label_contract(project: Project) -> SuiteContract:
    """The project's suite for labels, or the default one."""
    rules = training_rules(project)
    where = f"suite {rules.label_suite!r}: expectations" if rules.label_suite else "training.label_expectations"
    return SuiteContract(
        rules.label_expectations or default_expectations(project),
        TYPES,
        name=f"{project.name} labels",
        where=f"project {project.name!r}: {where}",
    )


def default_expectations(project: Project) -> list[dict[str, Any]]:
    """What is expected of the labels of every project that names no suite of its own."""

    def expect(what: str, severity: str, **kwargs: Any) -> dict[str, Any]:
        return {"type": f"expect_{what}", "kwargs": kwargs, "meta": {"severity": severity}}

    return [
        expect("column_values_to_not_be_null", "hold", column="label"),
        expect("column_values_to_be_in_set", "hold", column="label", value_set=list(project.question.labels)),
        expect("column_unique_value_count_to_be_between", "hold", column="label", min_value=2),
        expect("column_values_to_be_unique", "hold", column="record_id"),
        expect("column_values_to_be_between", "hold", column="posterior", min_value=0, max_value=1),
        expect("column_values_to_not_be_null", "hold", column="split"),
        expect("column_values_to_be_in_set", "hold", column="split", value_set=["train", "holdout"]),
        expect(
            "column_values_to_be_between",
            "hold",
            column="inclusion_probability",
            min_value=0,
            max_value=1,
            strict_min=True,
        ),
        expect("column_value_lengths_to_be_between", "warn", column="text", min_value=1),
        # Texts that occur twice count twice, and may sit in train and holdout at once.
        expect("column_proportion_of_unique_values_to_be_between", "warn", column="text", min_value=0.9),
    ]


def check_labels(
    project: Project, lake: Lake, snapshot_id: str, snapshot: pl.DataFrame, *, now: datetime
) -> BatchVerdict:
    """Judge a snapshot and keep the result in table ``validations``; stop if it is not fit to train on.

    :param snapshot: its rows, in the columns of ``snapshot.SCHEMA``.
    :raises ProjectError: when an expectation of the suite cannot be used.
    :raises TrainingError: naming the expectations that failed.
    """
    contract = label_contract(project)
    columns = snapshot.select(SCHEMA.names).to_arrow().cast(SCHEMA)
    rows = contract.check(columns)
    verdict = contract.check_batch([contract.collect(columns)], [rows.results])
    stored = validation_rows(
        verdict.result,
        project=project.name,
        suite="labels",
        input_id=snapshot_id,
        ingest_batch=None,
        validated_at=now,
    )
    app_id = f"validation/labels/{project.name}/{snapshot_id}/{contract.suite_version}"
    lake.append("validations", stored, app_id=app_id)
    stopping = [one for one in verdict.findings if one["failed"] and one["severity"] != "warn"]
    if stopping:
        examples = {found["expectation"]: found["observed"] for one in rows.failures.values() for found in one}
        raise TrainingError(
            f"snapshot {snapshot_id[:8]} of project {project.name!r} breaks the contract for labels: "
            + "; ".join(_sentence(one, examples) for one in stopping),
            remedy="Correct these labels in Argilla, or the suite (training.label_suite); then run retrain again.",
        )
    return verdict


def _sentence(finding: dict[str, Any], examples: dict[str, Any]) -> str:
    name = f"{finding['expectation']}({finding['column'] or ''})"
    if finding["why"] == "rows":
        return f"{name} fails in {finding['rows']} rows, as in {examples[finding['expectation']]!r}"
    if finding["why"].startswith("error"):
        return f"{name} could not be judged ({finding['why'].removeprefix('error: ')})"
    return f"{name} fails" + (f", observed {finding['observed']!r}" if finding["observed"] is not None else "")
