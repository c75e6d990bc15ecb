"""When to retrain: every evaluation is a decision row, also when the answer is no."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.lake import Lake
from include.lake.keys import canonical_json, digest
from include.project import Project
from include.training.snapshot import current_labels, load_snapshot, snapshot_key, training_rules

if TYPE_CHECKING:
    import polars as pl

WORDS = {"new_labels": "new training labels", "classes": "classes in the training labels", "holdout": "holdout labels"}


def should_retrain(project: Project, lake: Lake, *, now: datetime) -> dict[str, Any]:
    """Decide whether the labels of now deserve a training, and write the decision down.

    Three conditions, all needed: ``min_new_labels`` training labels the last judged snapshot does not hold (a changed
    answer counts as new), two classes to tell apart, and ``min_holdout`` holdout labels, because a challenger that
    cannot be judged would use up the new labels for nothing.

    The decision's input is the hash of the labels, the last judged snapshot and the policy: the same state is decided
    once. A run that was killed between training and verdict gets the same *yes* again and finds its model trained;
    after the verdict the same labels are not new any more.

    :returns: ``{"retrain", "why", "input_id", "new_labels", "train", "holdout", "classes"}``.
    :raises ProjectError: when the project does not train.
    """
    rules = training_rules(project)
    labels = current_labels(project, lake)
    judged = last_judged_snapshot(project, lake)
    known = labels.clear() if judged is None else load_snapshot(project, lake, judged)
    values = _count(labels, known)
    needed = {"new_labels": rules.min_new_labels, "classes": 2, "holdout": rules.min_holdout}
    unmet = [f"{values[name]} of {least} {WORDS[name]}" for name, least in needed.items() if values[name] < least]
    since = f"since snapshot {judged[:8]}" if judged else "and no model yet"
    why = (
        f"Not retrained: {', '.join(unmet)}."
        if unmet
        else f"Retrain: {values['new_labels']} new training labels {since}, {rules.min_new_labels} are enough."
    )
    policy_json = canonical_json(rules.model_dump())
    labels_id = snapshot_key(labels)
    input_id = digest(labels_id, judged or "", policy_json)
    row = {
        "project": project.name,
        "kind": "retrain",
        "input_id": input_id,
        "outcome": "no" if unmet else "yes",
        "why": why,
        "policy_json": policy_json,
        "inputs_json": canonical_json({**values, "needed": needed, "labels": labels_id, "last_snapshot": judged}),
        "decided_at": now,
    }
    lake.append("decisions", [row], app_id=f"decision/retrain/{project.name}/{input_id}")
    return {"retrain": not unmet, "why": why, "input_id": input_id, **values}


def last_judged_snapshot(project: Project, lake: Lake) -> str | None:
    """The snapshot behind the newest verdict, promotion or rejection; None before the first."""
    import polars as pl

    models = lake.read("models", project.name, columns=["snapshot_id", "stage", "staged_at"])
    judged = models.filter(pl.col("stage").is_in(["champion", "rejected"])).sort("staged_at")
    return None if judged.is_empty() else str(judged["snapshot_id"][-1])


def _count(labels: pl.DataFrame, known: pl.DataFrame) -> dict[str, int]:
    import polars as pl

    train = labels.filter(pl.col("split") == "train")
    new = train.join(known, on=["record_id", "content_hash", "label_revision"], how="anti")
    return {
        "new_labels": new.height,
        "train": train.height,
        "classes": train["label"].n_unique(),
        "holdout": labels.height - train.height,
    }
