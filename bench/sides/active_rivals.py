"""The rivals of bench/label_efficiency: query strategies of scikit-activeml, and cleanlab's ActiveLab scores.

Reads a job as JSON, writes the curves as JSON. scikit-activeml's strategies want dense features: they get the
project's default embeddings and a logistic regression on them to look at; what is measured is the same model for all.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.multiannotator import get_active_learning_scores
from skactiveml import pool as strategies
from skactiveml.classifier import SklearnClassifier
from sklearn.linear_model import LogisticRegression

from bench.support.learner import Learner, Opinions, Positions, Round, Task, accuracy, curve, people_curve

ROUND_SEEDS = 1000  # more rounds than any curve has
SIMPLE_C = 10.0  # of the regression on unit vectors; the default hardly learns from them


def query(name: str) -> Any:
    """A side that asks scikit-activeml."""

    def choose(known: Round) -> Positions:
        labels = np.full(len(known.task.truth), np.nan)
        labels[known.chosen] = known.labels
        model = SklearnClassifier(
            LogisticRegression(class_weight="balanced", C=SIMPLE_C, max_iter=1000), classes=np.unique(known.task.truth)
        )
        strategy = getattr(strategies, name)(random_state=ROUND_SEEDS * known.task.seed + known.number)
        argument = "estimator" if name == "Clue" else "clf"
        picked = strategy.query(X=known.task.vectors, y=labels, batch_size=known.size, **{argument: model})
        return np.asarray(picked, dtype=np.int64)

    return choose


def active_lab(known: Opinions) -> Positions:
    """The texts with the lowest ActiveLab scores, answered before or not."""
    given = known.answers >= 0
    old, new = np.flatnonzero(given.any(axis=1)), np.flatnonzero(~given.any(axis=1))
    seen = given[old].any(axis=0)
    answers = np.where(given[old], known.answers[old].astype(np.float64), np.nan)[:, seen]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains that most texts have one answer
        scores = get_active_learning_scores(answers, known.unseen[old], known.model.pool[new])
    worth = np.concatenate(scores)
    worth[: len(old)][given[old].all(axis=1)] = np.inf
    return np.asarray(np.concatenate([old, new])[np.argsort(worth, kind="stable")[: known.size]])


def main() -> int:
    """Run one job."""
    job = json.load(sys.stdin)
    warnings.simplefilter("ignore", FutureWarning)
    task = Task.load(Path(job["task"]))
    learner, start = Learner.of(task), np.array(job["start"])
    worth = accuracy(task)
    curves = {
        name: curve(
            task,
            learner,
            query(name),
            start=start,
            answers=task.truth,
            classes=len(task.classes),
            worth=worth,
            sizes=job["sizes"],
            end=job["end"],
        )
        for name in job["queries"]
    }
    if people := job["people"]:
        curves["cleanlab"] = people_curve(
            task,
            learner,
            active_lab,
            start=start,
            opinions=np.array(people["opinions"]),
            order=np.array(people["order"]),
            worth=worth,
            size=people["size"],
            end=people["end"],
        )
    print(json.dumps(curves))
    return 0


if __name__ == "__main__":
    sys.exit(main())
