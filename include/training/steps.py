"""The retrain step: train a challenger, compare it, promote it or say why not.

Every function may be killed at any line and run again: artifacts and snapshots are named by their content, rows are
appended under natural keys, and the swap of the champion pointer is the one moment a promotion happens.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any

import numpy as np

from include.errors import TrainingError
from include.lake import Lake
from include.lake.keys import canonical_json
from include.project import Project
from include.training import gate, registry
from include.training.label_contract import check_labels
from include.training.snapshot import load_snapshot, training_rules
from include.training.trainers import Model, fit, get_trainer, predict

if TYPE_CHECKING:
    import polars as pl

SWAP_ATTEMPTS = 5


def train(project: Project, lake: Lake, snapshot_id: str, *, now: datetime) -> dict[str, Any]:
    """Fit the project's trainer on the snapshot's train split and register a challenger, once per snapshot and trainer.

    :returns: ``{"model_version", "snapshot_id", "trainer", "train", "classes"}``; counts of records and classes.
    :raises ProjectError: when the project does not train, or its trainer cannot be loaded.
    :raises TrainingError: when the snapshot is not what its id says, breaks the contract for labels, or nothing can be
        learned from it.
    """
    import polars as pl

    rules = training_rules(project)
    snapshot = load_snapshot(project, lake, snapshot_id)
    rows = snapshot.filter(pl.col("split") == "train")
    classes = rows["label"].n_unique()
    result = {"snapshot_id": snapshot_id, "trainer": rules.trainer, "train": rows.height, "classes": classes}
    earlier = lake.read("models", project.name).filter(
        (pl.col("snapshot_id") == snapshot_id)
        & (pl.col("trainer") == rules.trainer)
        & (pl.col("stage") == "challenger")
    )
    if not earlier.is_empty():
        return {"model_version": earlier["model_version"][0], **result}
    if classes < 2:
        raise TrainingError(
            f"the {rows.height} training labels of snapshot {snapshot_id[:8]} know {classes} of the two classes needed",
            remedy="Label more records, until a second class appears.",
        )
    check_labels(project, lake, snapshot_id, snapshot, now=now)
    weights = rows["posterior"].fill_null(1.0).to_numpy()
    try:
        model = fit(
            get_trainer(rules.trainer), rows["text"].to_list(), rows["label"].to_list(), weights, seed=rules.seed
        )
    except ValueError as error:
        raise TrainingError(
            f"trainer {rules.trainer!r} could not learn from snapshot {snapshot_id[:8]} ({error})",
            remedy="Look at the snapshot's texts and labels.",
        ) from error
    sha256 = registry.save_model(project, lake, model)
    version = registry.model_version(snapshot_id, sha256)
    figures = {"train": rows.height, "classes": dict(sorted(Counter(rows["label"]).items()))}
    _stage(
        project,
        lake,
        {"model_version": version, "snapshot_id": snapshot_id, "sha256": sha256, "trainer": rules.trainer},
        stage="challenger",
        metrics=figures,
        at=now,
    )
    return {"model_version": version, **result}


def evaluate(project: Project, lake: Lake, snapshot_id: str, model_version: str) -> dict[str, Any]:
    """Compare a challenger with the champion, or with the majority class before the first one, on the same holdout.

    The champion never trained on a holdout record: a record's split is decided once, at its first selection.

    :returns: ``gate.compare``'s figures with ``model_version``, ``snapshot_id``, ``sha256``, ``trainer`` and ``rival``.
    :raises TrainingError: when the model, its artifact or the snapshot is missing or altered.
    """
    import polars as pl

    challenger = _model_row(project, lake, model_version)
    snapshot = load_snapshot(project, lake, snapshot_id)
    holdout = snapshot.filter(pl.col("split") == "holdout")
    texts = holdout["text"].to_list()
    current = registry.champion(project, lake)
    if current is None:
        trained = Counter(snapshot.filter(pl.col("split") == "train")["label"])
        majority = min(trained, key=lambda name: (-trained[name], name))
        rival, answers = gate.MAJORITY_CLASS, [majority] * len(texts)
    else:
        rival = current.model_version
        answers = _answers(registry.load_model(project, lake, current.sha256), texts)
    own = _answers(registry.load_model(project, lake, challenger["artifact_sha256"]), texts)
    return {
        "model_version": model_version,
        "snapshot_id": snapshot_id,
        "sha256": challenger["artifact_sha256"],
        "trainer": challenger["trainer"],
        "rival": rival,
        **gate.compare(holdout["label"].to_list(), own, answers),
    }


def promote(project: Project, lake: Lake, report: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """Put the gate's verdict into effect: swap the champion pointer, or reject the challenger.

    When the champion is not the one the report speaks of (another promotion came first), the challenger is evaluated
    again, against the new one. A challenger that was already promoted or rejected keeps its verdict.

    :param report: what ``evaluate`` gave.
    :returns: ``{"promoted", "why", "model_version"}``.
    :raises TrainingError: when the pointer kept changing, or a model cannot be loaded.
    """
    rules = training_rules(project)
    version = report["model_version"]
    for _ in range(SWAP_ATTEMPTS):
        current = registry.champion(project, lake)
        if current is not None:
            _record_promotion(project, lake, current)  # completes what a killed task may have left out
        if settled := _settled(project, lake, version):
            return settled
        if report["rival"] != (current.model_version if current else gate.MAJORITY_CLASS):
            report = evaluate(project, lake, report["snapshot_id"], version)
        verdict = gate.decide(report, min_holdout=rules.min_holdout, significance=rules.significance)
        if not verdict.promote:
            _record_verdict(project, lake, report, verdict.why, stage="rejected", at=now)
            return {"promoted": False, "why": verdict.why, "model_version": version}
        new = _successor(report, current, verdict.why, now)
        if registry.swap_champion(project, lake, new, expected=current):
            _record_promotion(project, lake, new)
            return {"promoted": True, "why": verdict.why, "model_version": version}
    raise TrainingError(
        f"the champion of {project.name!r} changed {SWAP_ATTEMPTS} times while {version} was being promoted",
        remedy="Run the promotion again, with fewer trainings at once.",
    )


def _answers(model: Model, texts: list[str]) -> list[str]:
    best = predict(model, texts).argmax(axis=1)
    return [str(label) for label in np.asarray(model.classes_)[best]]


def _successor(
    report: dict[str, Any], current: registry.ChampionRef | None, why: str, now: datetime
) -> registry.ChampionRef:
    previous = None
    if current is not None:
        previous = {name: getattr(current, name) for name in ("model_version", "snapshot_id", "sha256", "trainer")}
    return registry.ChampionRef(
        model_version=report["model_version"],
        snapshot_id=report["snapshot_id"],
        sha256=report["sha256"],
        trainer=report["trainer"],
        promoted_at=now.isoformat(),
        why=why,
        report=report,
        previous=previous,
    )


def _record_promotion(project: Project, lake: Lake, champion: registry.ChampionRef) -> None:
    """The rows of a promotion, all from the pointer, so that any later run writes the very same ones."""
    at = datetime.fromisoformat(champion.promoted_at)
    if champion.previous is not None:
        figures = {"replaced_by": champion.model_version}
        _stage(project, lake, champion.previous, stage="retired", metrics=figures, at=at)
    _record_verdict(project, lake, champion.report, champion.why, stage="champion", at=at)


def _record_verdict(
    project: Project, lake: Lake, report: dict[str, Any], why: str, *, stage: str, at: datetime
) -> None:
    """The decision, the holdout figure, and last the model's stage, which says that the challenger is settled."""
    version, snapshot_id = report["model_version"], report["snapshot_id"]
    input_id = f"{version}:{report['rival']}"
    decision = {
        "project": project.name,
        "kind": "promote",
        "input_id": input_id,
        "outcome": "yes" if stage == "champion" else "no",
        "why": why,
        "policy_json": canonical_json(training_rules(project).model_dump()),
        "inputs_json": canonical_json(report),
        "decided_at": at,
    }
    lake.append("decisions", [decision], app_id=f"decision/promote/{project.name}/{input_id}")
    if report["n"]:
        metric = {
            "project": project.name,
            "name": "holdout_accuracy",
            "cycle": snapshot_id,
            "slice": "all",
            "value": report["accuracy"],
            "low": report["accuracy_low"],
            "high": report["accuracy_high"],
            "n": report["n"],
            "method": "wilson",
            "measured_at": at,
        }
        lake.append("metrics", [metric], app_id=f"metric/{project.name}/holdout_accuracy/{version}")
    _stage(project, lake, report, stage=stage, metrics={**report, "why": why}, at=at)


def _stage(
    project: Project, lake: Lake, model: dict[str, Any], *, stage: str, metrics: dict[str, Any], at: datetime
) -> None:
    row = {
        "project": project.name,
        "model_version": model["model_version"],
        "snapshot_id": model["snapshot_id"],
        "trainer": model["trainer"],
        "stage": stage,
        "artifact_uri": lake.files.uri(registry.artifact_path(project, model["sha256"])),
        "artifact_sha256": model["sha256"],
        "metrics_json": canonical_json(metrics),
        "libraries_json": canonical_json({name: installed(name) for name in ("numpy", "scikit-learn", "skops")}),
        "staged_at": at,
    }
    lake.append("models", [row], app_id=f"model/{project.name}/{model['model_version']}/{stage}")


def _model_row(project: Project, lake: Lake, model_version: str) -> dict[str, Any]:
    rows = _stages(project, lake, model_version, "challenger")
    if rows.is_empty():
        raise TrainingError(f"model {model_version!r} is not registered", remedy="Train its snapshot first.")
    return rows.row(0, named=True)


def _settled(project: Project, lake: Lake, model_version: str) -> dict[str, Any] | None:
    rows = _stages(project, lake, model_version, "champion", "rejected")
    if rows.is_empty():
        return None
    row = rows.sort("stage").row(0, named=True)
    why = json.loads(row["metrics_json"])["why"]
    return {"promoted": row["stage"] == "champion", "why": why, "model_version": model_version}


def _stages(project: Project, lake: Lake, model_version: str, *stages: str) -> pl.DataFrame:
    import polars as pl

    where = (pl.col("model_version") == model_version) & pl.col("stage").is_in(list(stages))
    return lake.read("models", project.name, where=where)
