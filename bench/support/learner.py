"""The model that learns from the labels of the label-efficiency benchmark, fast enough to be fitted a thousand times.

It is the product's built-in trainer (TF-IDF, then logistic regression with balanced classes) with two differences that
are the same for all sides: the words are counted in the whole pool once, and the regression is fitted on the Cholesky
factor of the Gram matrix of the labeled texts. The latter changes nothing: with an L2 penalty the solution lies in the
span of the labeled texts (representer theorem: B. Schölkopf, R. Herbrich, A. J. Smola, COLT 2001), and a rotation of
the features leaves penalty and loss as they were; the class probabilities agree to 1e-6, in a fifth of the time.

Only NumPy, SciPy and scikit-learn are imported: the rivals' environment runs this file, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
Points = list[tuple[int, float]]  # (answers people gave, what the model was worth then)

JITTER = 1e-5  # on the diagonal of the Gram matrix, whose entries are cosines
STAY = 3  # a curve ends when it was above its end level that often in a row


@dataclass(frozen=True)
class Task:
    """One split of one set: N texts that may be labeled, T texts that measure.

    :param pool: TF-IDF, shape (N, terms); rows of unit length.
    :param test: shape (T, terms).
    :param truth: class positions of the pool, shape (N,).
    :param noisy: the same with some answers wrong.
    :param test_truth: shape (T,).
    :param vectors: the project's default embeddings of the pool, shape (N, D), float32.
    """

    name: str
    seed: int
    classes: tuple[str, ...]
    pool: Any
    test: Any
    truth: Positions
    noisy: Positions
    test_truth: Positions
    vectors: npt.NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write everything to one file; a file with that name is complete."""
        part = path.with_suffix(".part.npz")
        matrices = {
            f"{name}_{what}": getattr(matrix, what)
            for name, matrix in (("pool", self.pool), ("test", self.test))
            for what in ("data", "indices", "indptr", "shape")
        }
        np.savez(
            part,
            name=self.name,
            seed=self.seed,
            classes=np.array(self.classes),
            truth=self.truth,
            noisy=self.noisy,
            test_truth=self.test_truth,
            vectors=self.vectors,
            **matrices,
        )
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Task:
        """The inverse of ``save``."""
        with np.load(path) as file:
            pool, test = (
                sparse.csr_matrix(
                    (file[f"{name}_data"], file[f"{name}_indices"], file[f"{name}_indptr"]),
                    tuple(file[f"{name}_shape"]),
                )
                for name in ("pool", "test")
            )
            return cls(
                name=str(file["name"]),
                seed=int(file["seed"]),
                classes=tuple(file["classes"].tolist()),
                pool=pool,
                test=test,
                truth=file["truth"],
                noisy=file["noisy"],
                test_truth=file["test_truth"],
                vectors=file["vectors"],
            )


@dataclass(frozen=True)
class Fitted:
    """Class probabilities, columns in the order of the task's classes; 0 for a class without labels.

    ``pool`` has shape (N, K), ``test`` (T, K).
    """

    pool: Floats
    test: Floats


@dataclass(frozen=True)
class Learner:
    """Fits models for one task. ``pool`` (N, N) and ``test`` (T, N) are inner products with the texts of the pool."""

    pool: npt.NDArray[np.float32]
    test: npt.NDArray[np.float32]

    @classmethod
    def of(cls, task: Task) -> Learner:
        """Compute the inner products."""
        return cls((task.pool @ task.pool.T).toarray(), (task.test @ task.pool.T).toarray())

    def fit(self, chosen: Positions, labels: Positions, classes: int) -> Fitted:
        """Fit on the texts ``chosen`` of the pool, of which the i-th has class ``labels[i]``, one of ``classes``."""
        results = [np.zeros((len(side), classes)) for side in (self.pool, self.test)]
        present = np.unique(labels)
        if present.size == 1:
            for one in results:
                one[:, present[0]] = 1.0
            return Fitted(*results)
        gram = self.pool[np.ix_(chosen, chosen)] + np.float32(JITTER) * np.eye(len(chosen), dtype=np.float32)
        factor = linalg.cholesky(gram, lower=True, overwrite_a=True)
        model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(factor, labels)
        weights = linalg.solve_triangular(factor, model.coef_.T, lower=True, trans=1)
        for one, side in zip(results, (self.pool, self.test), strict=True):
            one[:, present] = _shares(side[:, chosen] @ weights + model.intercept_)
        return Fitted(*results)


def accuracy(task: Task) -> Callable[[Fitted], float]:
    """Share of the test texts that a model gets right."""
    return lambda model: float((model.test.argmax(axis=1) == task.test_truth).mean())


def _shares(scores: Floats) -> Floats:
    """Class probabilities from scores, shape (M, K); one column stands for the second of two classes."""
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


@dataclass(frozen=True)
class Round:
    """What a side knows when it chooses the next batch.

    :param left: texts without an answer, shape (M,), ascending.
    :param chosen: texts with one, in the order they were asked about; ``labels`` are the answers.
    :param size: of the batch.
    """

    number: int
    task: Task
    left: Positions
    chosen: Positions
    labels: Positions
    model: Fitted
    size: int


Choose = Callable[[Round], Positions]


def curve(
    task: Task,
    learner: Learner,
    choose: Choose,
    *,
    start: Positions,
    answers: Positions,
    classes: int,
    worth: Callable[[Fitted], float],
    sizes: Sequence[int],
    end: float,
) -> Points:
    """Label batch by batch until the model is worth ``end`` and stays so, or until nothing is left.

    :param start: the first batch.
    :param answers: what people say of each text of the pool, shape (N,).
    :param worth: of a model.
    :param sizes: of the batches after the first; the last one is repeated.
    """
    chosen, points, high = start, [], 0
    everyone = np.arange(len(answers))
    for number in range(len(everyone)):
        model = learner.fit(chosen, answers[chosen], classes)
        points.append((len(chosen), worth(model)))
        high = high + 1 if points[-1][1] >= end else 0
        left = np.setdiff1d(everyone, chosen)
        if high >= STAY or not left.size:
            break
        size = min(sizes[min(number, len(sizes) - 1)], left.size)
        picked = choose(Round(number, task, left, chosen, answers[chosen], model, size))
        if np.unique(picked).size != size or np.isin(picked, chosen).any():
            raise ValueError(f"a side was to choose {size} new texts, it chose {np.unique(picked).size}")
        chosen = np.concatenate([chosen, picked])
    return points


@dataclass(frozen=True)
class Opinions:
    """What a side knows when it chooses whom to ask again and what to ask anew.

    :param answers: class positions, shape (N, people), -1 where nobody answered.
    :param unseen: class probabilities of texts with answers by a model that was not fitted on them, of others by the
        model in use, shape (N, K).
    """

    number: int
    task: Task
    answers: Positions
    model: Fitted
    unseen: Floats
    size: int


def people_curve(
    task: Task,
    learner: Learner,
    choose: Callable[[Opinions], Positions],
    *,
    start: Positions,
    opinions: Positions,
    order: Positions,
    worth: Callable[[Fitted], float],
    size: int,
    end: float,
) -> Points:
    """As ``curve``, but people err, and a text may be asked about several times: each answer counts.

    :param opinions: what each person would say of each text, shape (N, people).
    :param order: in which order people come to each text, shape (N, people).
    """
    classes = len(task.classes)
    answers = np.full_like(opinions, -1)
    points: Points = []
    high, batch = 0, start
    model = Fitted(np.full((len(answers), classes), 1.0 / classes), np.empty((0, classes)))
    for number in range(len(answers)):
        person = order[batch, (answers[batch] >= 0).sum(axis=1)]
        answers[batch, person] = opinions[batch, person]
        chosen = np.flatnonzero((answers >= 0).any(axis=1))
        labels = majority(answers[chosen], model.pool[chosen])
        model = learner.fit(chosen, labels, classes)
        points.append((int((answers >= 0).sum()), worth(model)))
        high = high + 1 if points[-1][1] >= end else 0
        if high >= STAY or points[-1][0] + size > len(answers):
            break
        unseen = model.pool.copy()
        for fold in range(2):
            here = np.arange(len(chosen)) % 2 == fold
            unseen[chosen[here]] = learner.fit(chosen[~here], labels[~here], classes).pool[chosen[here]]
        batch = choose(Opinions(number, task, answers, model, unseen, size))
        if np.unique(batch).size != size or (answers[batch] >= 0).all(axis=1).any():
            raise ValueError("a side was to choose different texts that somebody has not answered yet")
    return points


def majority(answers: Positions, model: Floats) -> Positions:
    """The class with most votes of each text, shape (M,); of several, the one that the last model held likelier."""
    votes = np.stack([(answers == one).sum(axis=1) for one in range(model.shape[1])], axis=1)
    return np.asarray((votes + 0.5 * model).argmax(axis=1))
