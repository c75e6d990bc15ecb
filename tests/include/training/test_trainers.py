"""Trainers: the built-in one learns, repeats itself, and says what it cannot do."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from include.errors import ProjectError
from include.training.trainers import TextClassifier, fit, get_trainer, predict
from tests.include.training.world import mails, mixed

ROOT = Path(__file__).parents[3]


class NotATrainer:
    """A class without ``fit``."""


class NeedsArguments:
    """A trainer that cannot be made."""

    def __init__(self, size: int) -> None:
        self.size = size


class CharacterTrainer:
    """A project's own trainer."""

    def fit(self, texts, labels, weights, *, seed):
        """Character n-grams and naive Bayes."""
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.naive_bayes import ComplementNB
        from sklearn.pipeline import make_pipeline

        pipeline = make_pipeline(CountVectorizer(analyzer="char", ngram_range=(2, 4)), ComplementNB())
        return pipeline.fit(texts, labels, complementnb__sample_weight=weights)


def trained(kinds, *, seed=1, weights=None):
    texts = mails(kinds, seed=seed)
    return fit(TextClassifier(), texts, kinds, np.ones(len(kinds)) if weights is None else weights, seed=17)


def test_it_learns_and_its_probabilities_are_valid():
    model = trained(mixed(240))
    truth = mixed(90)
    chances = predict(model, mails(truth, seed=2))
    assert chances.shape == (90, 3)
    assert chances.min() >= 0
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, rtol=1e-12)
    assert (np.asarray(model.classes_)[chances.argmax(axis=1)] == truth).mean() > 0.8


def test_a_class_seen_once_is_still_a_class():
    model = trained([*["spam"] * 20, *["ham"] * 20, "list"])
    assert list(model.classes_) == ["ham", "list", "spam"]
    np.testing.assert_allclose(predict(model, ["kernel patch", ""]).sum(axis=1), 1.0)


def test_weights_matter():
    texts, labels = ["lunch"] * 20 + ["casino"] * 20, (["ham"] * 10 + ["spam"] * 10) * 2
    weights = np.repeat([1.0, 0.1, 0.1, 1.0], 10)  # of two opinions on each text, one is sure
    chance_ham = predict(fit(TextClassifier(), texts, labels, weights, seed=17), ["lunch", "casino"])[:, 0]
    assert chance_ham[0] > 0.6
    assert chance_ham[1] < 0.4


def test_no_texts_give_no_rows():
    assert predict(trained(mixed(30)), []).shape == (0, 3)


def test_texts_without_words_are_refused():
    with pytest.raises(ValueError, match="empty vocabulary"):
        fit(TextClassifier(), ["", ""], ["spam", "ham"], np.ones(2), seed=17)


def test_a_project_may_bring_its_own_trainer():
    trainer = get_trainer(f"{__name__}:CharacterTrainer")
    kinds = mixed(60)
    model = fit(trainer, mails(kinds, seed=1), kinds, np.ones(60), seed=17)
    assert predict(model, mails(kinds, seed=1)).shape == (60, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("forest", "'forest' is not built in. Use one of ['text_classifier']"),
        ("no_such_package.trainers:Mine", "cannot be loaded (No module named 'no_such_package')"),
        (f"{__name__}:Missing", "cannot be loaded"),
        (f"{__name__}:NeedsArguments", "cannot be loaded"),
        (f"{__name__}:NotATrainer", "has no method 'fit'"),
        (":Mine", "cannot be loaded"),
    ],
)
def test_unusable_trainers_are_named(name: str, message: str):
    with pytest.raises(ProjectError) as caught:
        get_trainer(name)
    assert message in str(caught.value)


TRAIN_AND_HASH = """
import hashlib, sys, numpy as np, skops.io
from include.training.registry import _canonical
from include.training.trainers import TextClassifier, fit
from tests.include.training.world import mails, mixed
kinds = mixed(90)
model = fit(TextClassifier(), mails(kinds, seed=1), kinds, np.linspace(0.5, 1, 90), seed=17)
print(hashlib.sha256(_canonical(skops.io.dumps(model))).hexdigest())
"""


def test_the_same_snapshot_gives_the_same_artifact_in_every_process():
    environments = [{"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "1"}]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN_AND_HASH],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), **one},
            stdout=subprocess.PIPE,
        )
        for one in environments
    ]
    outputs = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].strip()) == 64
