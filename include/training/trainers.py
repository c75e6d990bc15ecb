"""Trainers: from texts and labels to a model. A project names a built-in one or its own, ``package.module:Class``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from include.errors import ProjectError

Floats = npt.NDArray[np.float64]


class Model(Protocol):
    """A fitted classifier in scikit-learn's own words, made of parts ``skops`` trusts (scikit-learn and numpy)."""

    classes_: Sequence[str]

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """Class probabilities, shape (N, K), rows adding up to 1, columns in the order of ``classes_``."""
        ...


@runtime_checkable
class Trainer(Protocol):
    """What a project's ``training.trainer`` must offer; it is made without arguments."""

    def fit(self, texts: Sequence[str], labels: Sequence[str], weights: Floats, *, seed: int) -> Model:
        """Fit a model.

        :param texts: N texts, as ``include.lake.texts.record_text`` makes them.
        :param labels: N class names, at least two different ones.
        :param weights: how sure each label is, shape (N,), in (0, 1].
        :param seed: the only source of randomness: the same input must give the same model.
        :raises ValueError: when nothing can be learned from these texts.
        """
        ...


class TextClassifier:
    """TF-IDF over words and word pairs, then logistic regression with balanced classes."""

    MAX_FEATURES = 50_000  # bounds the artifact: about 0.4 MB per class

    def fit(self, texts: Sequence[str], labels: Sequence[str], weights: Floats, *, seed: int) -> Model:
        """See ``Trainer.fit``."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import Pipeline

        tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=self.MAX_FEATURES)
        regression = LogisticRegression(class_weight="balanced", max_iter=1000, random_state=seed)
        pipeline = Pipeline([("tfidf", tfidf), ("regression", regression)])
        pipeline.fit(list(texts), list(labels), regression__sample_weight=weights)
        # Plain ints: skops stores each numpy integer as a file of its own (20 s instead of 1 s for 38,000 terms).
        tfidf.vocabulary_ = {term: int(column) for term, column in sorted(tfidf.vocabulary_.items())}
        model: Model = pipeline
        return model


TRAINERS: dict[str, type[Trainer]] = {"text_classifier": TextClassifier}


def get_trainer(name: str) -> Trainer:
    """The built-in trainer of that name, or the class behind ``package.module:Class``.

    :raises ProjectError: when it cannot be imported, cannot be made without arguments, or has no ``fit``.
    """
    if name in TRAINERS:
        return TRAINERS[name]()
    module_name, colon, class_name = name.partition(":")
    if not colon:
        raise ProjectError(
            f"training.trainer {name!r} is not built in",
            remedy=f"Use one of {sorted(TRAINERS)}, or name a class as package.module:Class.",
        )
    try:
        made: Any = getattr(importlib.import_module(module_name), class_name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ProjectError(
            f"training.trainer {name!r} cannot be loaded ({error})",
            remedy="Check the spelling, and that the package is installed where tasks run.",
        ) from error
    if not isinstance(made, Trainer):
        raise ProjectError(
            f"training.trainer {name!r} has no method 'fit'",
            remedy="Give it fit(texts, labels, weights, *, seed), as include/training/trainers.py says.",
        )
    return made


def fit(trainer: Trainer, texts: Sequence[str], labels: Sequence[str], weights: Floats, *, seed: int) -> Model:
    """Fit on one thread: on small sparse data more threads cost fivefold and change nothing."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        return trainer.fit(texts, labels, weights, seed=seed)


def predict(model: Model, texts: Sequence[str]) -> Floats:
    """Class probabilities of N texts on one thread, shape (N, K)."""
    from threadpoolctl import threadpool_limits

    if not texts:
        return np.empty((0, len(model.classes_)))
    with threadpool_limits(limits=1):
        return np.asarray(model.predict_proba(list(texts)), dtype=np.float64)
