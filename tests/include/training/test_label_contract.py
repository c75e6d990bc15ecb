"""Labels keep a contract before they are trained on: what breaks it stops training and names the expectation."""

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from include.errors import ProjectError, TrainingError
from include.training.label_contract import TYPES, check_labels, default_expectations
from include.training.snapshot import freeze_snapshot, load_snapshot
from include.training.steps import train
from tests.include.training.world import START, World

NOW = START + timedelta(days=1)
SMALL = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 10_000}}


def snapshot_of(world: World) -> tuple[str, pl.DataFrame]:
    snapshot_id = freeze_snapshot(world.project, world.lake, now=NOW)["snapshot_id"]
    return snapshot_id, load_snapshot(world.project, world.lake, snapshot_id)


def with_rules(world: World, **rules: Any) -> Any:
    training = {**world.project.training.model_dump(), **rules}
    return world.project.model_copy(update={"training": type(world.project.training)(**training)})


def stored(world: World) -> list[dict[str, Any]]:
    return world.lake.read("validations", world.project.name).sort("position").to_dicts()


def test_good_labels_are_trained_on_and_the_judgement_is_kept(ready: World):
    snapshot_id, _ = snapshot_of(ready)
    train(ready.project, ready.lake, snapshot_id, now=NOW)
    rows = stored(ready)
    assert len(rows) == len(default_expectations(ready.project))
    assert {(row["suite"], row["input_id"], row["validated_at"]) for row in rows} == {("labels", snapshot_id, NOW)}
    assert all(row["success"] for row in rows)
    train(ready.project, ready.lake, snapshot_id, now=NOW)
    assert ready.lake.read("validations", ready.project.name, newest=False).height == len(rows)


def test_a_label_outside_the_set_stops_training(ready: World):
    ready.label([next(iter(ready.kinds))], revision=2, value="no such class")
    snapshot_id, _ = snapshot_of(ready)
    with pytest.raises(TrainingError) as caught:
        train(ready.project, ready.lake, snapshot_id, now=NOW)
    said = "expect_column_values_to_be_in_set(label) fails in 1 rows, as in 'no such class'"
    assert said in str(caught.value)
    assert snapshot_id[:8] in str(caught.value)
    assert ready.lake.read("models", ready.project.name).is_empty()
    assert [row["success"] for row in stored(ready)].count(False) == 1


BROKEN = [
    (pl.lit(None, pl.String).alias("label"), "expect_column_values_to_not_be_null(label)"),
    (pl.lit("spam").alias("label"), "expect_column_unique_value_count_to_be_between(label) fails, observed 1"),
    (pl.lit("x").alias("record_id"), "expect_column_values_to_be_unique(record_id)"),
    (pl.lit(1.5).alias("posterior"), "expect_column_values_to_be_between(posterior) fails in 120 rows, as in 1.5"),
    (pl.lit("test").alias("split"), "expect_column_values_to_be_in_set(split)"),
    (pl.lit(None, pl.String).alias("split"), "expect_column_values_to_not_be_null(split)"),
    (pl.lit(0.0).alias("inclusion_probability"), "expect_column_values_to_be_between(inclusion_probability)"),
]


@pytest.mark.parametrize(("change", "said"), BROKEN, ids=range(len(BROKEN)))
def test_the_default_suite_names_what_is_wrong(ready: World, change: pl.Expr, said: str):
    snapshot_id, frame = snapshot_of(ready)
    with pytest.raises(TrainingError) as caught:
        check_labels(ready.project, ready.lake, snapshot_id, frame.with_columns(change), now=NOW)
    assert said in str(caught.value)


def test_a_missing_posterior_and_repeated_texts_do_not_stop_training(ready: World):
    snapshot_id, frame = snapshot_of(ready)
    changed = frame.with_columns(pl.lit(None, pl.Float64).alias("posterior"), pl.lit("same").alias("text"))
    verdict = check_labels(ready.project, ready.lake, snapshot_id, changed, now=NOW)
    assert [(one["column"], one["severity"]) for one in verdict.findings] == [("text", "warn")]


@pytest.mark.parametrize(("severity", "stops"), [("hold", True), ("warn", False)])
def test_a_suite_of_the_project_takes_the_place_of_the_default(ready: World, severity: str, stops: bool):
    ready.project = with_rules(ready, label_expectations=[{**SMALL, "meta": {"severity": severity}}])
    ready.label([next(iter(ready.kinds))], revision=2, value="no such class")
    snapshot_id, _ = snapshot_of(ready)
    if stops:
        with pytest.raises(TrainingError, match=r"row_count_to_be_between\(\) fails, observed 120"):
            train(ready.project, ready.lake, snapshot_id, now=NOW)
    else:
        train(ready.project, ready.lake, snapshot_id, now=NOW)
    assert [(row["severity"], row["success"]) for row in stored(ready)] == [(severity, False)]


def test_a_row_that_would_go_to_quarantine_stops_training(ready: World):
    in_set = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "label", "value_set": ["spam"]}}
    ready.project = with_rules(ready, label_expectations=[in_set])
    snapshot_id, _ = snapshot_of(ready)
    with pytest.raises(TrainingError, match=r"in_set\(label\) fails in 80 rows, as in '(ham|list)'"):
        train(ready.project, ready.lake, snapshot_id, now=NOW)


def test_the_suite_may_be_a_file(ready: World, tmp_path, monkeypatch):
    from include import project as module

    monkeypatch.setattr(module, "SUITES_DIR", tmp_path)
    (tmp_path / "labels.yaml").write_text("expectations: [{type: expect_wonders, kwargs: {}}]")
    ready.project = with_rules(ready, label_suite="labels.yaml")
    assert ready.project.training.label_expectations
    assert "label_expectations" not in ready.project.training.model_dump()
    snapshot_id, _ = snapshot_of(ready)
    with pytest.raises(ProjectError, match=r"'mails': suite 'labels.yaml': expectations\[0\] \(expect_wonders\)"):
        train(ready.project, ready.lake, snapshot_id, now=NOW)


def test_expectations_may_speak_of_every_column_of_a_snapshot(ready: World):
    _, frame = snapshot_of(ready)
    assert list(TYPES) == frame.columns
    assert set(TYPES.values()) == {"text", "integer", "float"}
