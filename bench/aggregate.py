"""Labels from several answers: ours against the vote, crowd-kit and cleanlab on the same answers.

Four settings. Real people with known truth: 200 draws of 5 raters for each of the 16 questions of ``iqitems``, a panel
who answer everything; and 60 draws of 5 out of a pool of 20 people for each question. Crowds like ``pyanno``'s eight
curators: as many answers as the curators gave (three each), and few answers with texts, where a classifier's
out-of-fold opinion may be used (cleanlab's CROWDLAB, and ours with the model). One way of ours throughout: ``choose``,
and where there is a classifier ``label_for_training``. The constants come from other simulated crowds; two of them were
looked for anew after a first small run on these answers went badly.

``points_vs_best``: the least, over the settings, of our accuracy minus that of the best rival, in points. Ties of the
vote count as the rival breaks them. ``seconds_1e6``: a million answers, including the choice of the model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.support import crowds
from bench.support.environments import bench_folder, python_with
from bench.support.texts import debian
from include.labeling.aggregation.choice import choose, held_out
from include.labeling.aggregation.dawid_skene import dawid_skene, majority, one_coin
from include.labeling.aggregation.model_aware import label_for_training
from include.labeling.aggregation.votes import Floats, Ints, Votes
from standalone.home import REPO, Home

SEED = 20_26
IQ_DRAWS, IQ_RATERS = 200, 5
POOL_DRAWS, POOL = 60, 20
CURATOR_DRAWS, CURATOR_ITEMS, CURATOR_ANSWERS = 5, 5_000, 3
TEXT_DRAWS, TEXT_ITEMS, TEXT_ANSWERS = 5, 2_000, 2
MANY_ITEMS, MANY_ANSWERS, MANY_WORKERS = 200_000, 5, 1_000
# MMSR ends with an error on some panels, MACE takes twelve seconds for one.
CROWD_KIT = ("MajorityVote", "Wawa", "ZeroBasedSkill", "OneCoinDawidSkene", "DawidSkene", "GLAD")
SIDE_SECONDS = 900


@dataclass(frozen=True)
class Draw:
    """Answers with the truth, and a classifier's opinion where there is one."""

    votes: Votes
    truths: Ints
    probabilities: Floats | None = None


def main() -> int:
    """Run all settings and print the JSON object."""
    os.environ["OMP_NUM_THREADS"] = "1"
    settings: dict[str, tuple[Callable[[], Iterator[Draw]], tuple[str, ...]]] = {
        "iqitems panel of 5": (lambda: iq_draws(IQ_DRAWS, IQ_RATERS), CROWD_KIT),
        "iqitems 5 of 20": (lambda: iq_draws(POOL_DRAWS, POOL), CROWD_KIT),
        "curators 3 of 8": (curator_draws, tuple(name for name in CROWD_KIT if name != "GLAD")),
        "texts 2 of 8": (text_draws, ("MajorityVote", "OneCoinDawidSkene", "DawidSkene", "cleanlab")),
    }
    accuracy = {name: compare(name, list(draws()), rivals) for name, (draws, rivals) in settings.items()}
    ours = {name: found.pop("ours") for name, found in accuracy.items()}
    best = {name: max(found[rival] for rival in settings[name][1]) for name, found in accuracy.items()}
    points = {name: round(100 * (ours[name] - best[name]), 2) for name in ours}
    seconds = time_many()
    print(json.dumps(figure(ours, best, accuracy, points, seconds)))
    return 0


def figure(
    ours: dict[str, float],
    best: dict[str, float],
    accuracy: dict[str, dict[str, float]],
    points: dict[str, float],
    seconds: float,
) -> dict[str, Any]:
    """The result as one object; ``ratio`` is our mean accuracy over that of the best rival of each setting."""
    return {
        "bench": "aggregate",
        "ratio": round(float(np.mean(list(ours.values())) / np.mean(list(best.values()))), 4),
        "ours": {name: round(value, 4) for name, value in ours.items()},
        "rivals": {
            name: {rival: round(value, 4) for rival, value in found.items()} for name, found in accuracy.items()
        },
        "unit": "share of items labeled as the truth",
        "n": IQ_DRAWS,
        "draws": {"panel": IQ_DRAWS, "pool": POOL_DRAWS, "curators": CURATOR_DRAWS, "texts": TEXT_DRAWS},
        "points_vs_best": min(points.values()),
        "points": points,
        "seconds_1e6": round(seconds, 2),
        "held_out_nats_pyanno": {
            name: round(float(values.mean()), 4) for name, values in held_out(crowds.curator_votes()).items()
        },
    }


def iq_draws(n: int, pool: int) -> Iterator[Draw]:
    """Five of ``pool`` drawn people on each question."""
    answers = crowds.iq_answers()
    for number in range(n):
        rng = np.random.default_rng((SEED, pool, number))
        yield Draw(crowds.iq_votes(rng, answers, IQ_RATERS, pool), crowds.IQ_KEY)


def curator_draws() -> Iterator[Draw]:
    """Crowds of curators with as many answers as the real ones gave."""
    crowd = crowds.curators()
    for number in range(CURATOR_DRAWS):
        rng = np.random.default_rng((SEED, number))
        truths = crowd.truths(rng, CURATOR_ITEMS)
        yield Draw(crowd.votes(rng, truths, CURATOR_ANSWERS), truths)


def text_draws() -> Iterator[Draw]:
    """Crowds of curators on real texts of five classes, with a classifier's out-of-fold opinion.

    :raises CrowdDataError: without Debian's package index.
    """
    crowd = crowds.curators()
    read = debian(Home())
    if read is None:
        raise crowds.CrowdDataError("apt has no package index here: run 'apt-get update'")
    labels = np.array(read.labels)
    largest = sorted(read.classes, key=lambda name: -int((labels == name).sum()))[: len(crowd.shares)]
    of_class = [np.flatnonzero(labels == name) for name in largest]
    for number in range(TEXT_DRAWS):
        rng = np.random.default_rng((SEED, 7, number))
        truths = crowd.truths(rng, TEXT_ITEMS)
        texts = [read.texts[int(rng.choice(of_class[truth]))] for truth in truths]
        votes = crowd.votes(rng, truths, TEXT_ANSWERS)
        yield Draw(votes, truths, out_of_fold(texts, majority(votes).posterior.argmax(axis=1), votes.n_classes))


def out_of_fold(texts: list[str], labels: Ints, n_classes: int) -> Floats:
    """Class probabilities of a classifier that did not learn from the item, shape (N, K)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold
    from sklearn.pipeline import make_pipeline

    probabilities = np.full((len(texts), n_classes), 1e-6)
    for train, test in KFold(5, shuffle=True, random_state=0).split(texts):
        model = make_pipeline(TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)), LogisticRegression(max_iter=500))
        model.fit([texts[i] for i in train], labels[train])
        probabilities[np.ix_(test, model.classes_)] = model.predict_proba([texts[i] for i in test])
    normalised: Floats = probabilities / probabilities.sum(axis=1, keepdims=True)
    return normalised


def compare(setting: str, draws: list[Draw], rivals: tuple[str, ...]) -> dict[str, float]:
    """Mean accuracy of ours and of every rival over the draws."""
    found = {"ours": float(np.mean([score(ours(draw), draw) for draw in draws]))}
    if draws[0].probabilities is not None:
        found["ours without model"] = float(np.mean([score(people_only(draw), draw) for draw in draws]))
        found["model alone"] = float(np.mean([score(draw.probabilities, draw) for draw in draws]))
    for name, fit in {"vote": majority, "one-coin": one_coin, "Dawid-Skene": dawid_skene}.items():
        found[f"our {name} always"] = float(np.mean([score(fit(draw.votes).posterior, draw) for draw in draws]))
    found |= run_rivals(draws, rivals)
    for name, value in found.items():
        print(f"{setting:20s} {name:24s} {100 * value:6.2f} %", flush=True)
    return found


def ours(draw: Draw) -> Floats:
    """The posterior as the product decides it for training labels."""
    if draw.probabilities is None:
        return people_only(draw)
    fit = choose(draw.votes).fit
    splits = ["train"] * draw.votes.n_items
    return label_for_training(draw.votes, fit, draw.probabilities, splits).posterior


def people_only(draw: Draw) -> Floats:
    """The posterior from answers alone."""
    return choose(draw.votes).fit.posterior


def score(posterior: Floats | None, draw: Draw) -> float:
    """Share of items whose most probable class is the true one."""
    assert posterior is not None  # noqa: S101 - asked only where there is a classifier
    return float((posterior.argmax(axis=1) == draw.truths).mean())


def run_rivals(draws: list[Draw], names: tuple[str, ...]) -> dict[str, float]:
    """Accuracy of every rival, in processes of their own: one for each half of the draws."""
    python = python_with("crowd")
    with ThreadPoolExecutor(2) as threads:
        halves = [half for half in (draws[::2], draws[1::2]) if half]
        scores = list(threads.map(lambda half: _run_side(python, half, names), halves))
    return {name: float(np.mean([value for part in scores for value in part[name]])) for name in names}


def _run_side(python: Path, draws: list[Draw], names: tuple[str, ...]) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory(dir=bench_folder(), prefix="aggregate-") as folder:
        arrays: dict[str, Any] = {}
        for number, draw in enumerate(draws):
            for key in ("items", "workers", "labels"):
                arrays[f"{key}_{number}"] = getattr(draw.votes, key)
            if draw.probabilities is not None:
                arrays[f"probabilities_{number}"] = draw.probabilities
        source, output = Path(folder) / "draws.npz", Path(folder) / "labels.npz"
        np.savez(source, **arrays)
        job = {"draws": str(source), "output": str(output), "names": names, "n": len(draws)}
        done = subprocess.run(  # noqa: S603 - our own script
            [str(python), str(REPO / "bench" / "sides" / "crowd_rivals.py")],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=SIDE_SECONDS,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        if done.returncode:
            raise RuntimeError(f"the rivals failed (exit code {done.returncode}):\n{done.stderr[-3000:]}")
        print(f"seconds of the rivals: {done.stdout.strip()}", file=sys.stderr, flush=True)
        labels = np.load(output)
        return {
            name: [float((labels[f"{name}_{i}"] == draw.truths).mean()) for i, draw in enumerate(draws)]
            for name in names
        }


def time_many() -> float:
    """Seconds to choose a model for a million answers and to decide all labels."""
    rng = np.random.default_rng(SEED)
    truths = rng.integers(0, 5, MANY_ITEMS)
    items = np.repeat(np.arange(MANY_ITEMS), MANY_ANSWERS)
    first = rng.integers(0, MANY_WORKERS, MANY_ITEMS)
    workers = (first[:, None] + np.arange(MANY_ANSWERS) * 37).ravel() % MANY_WORKERS
    right = rng.random(len(items)) < rng.beta(7, 3, MANY_WORKERS)[workers]
    labels = np.where(right, truths[items], (truths[items] + rng.integers(1, 5, len(items))) % 5)
    votes = Votes(items, workers, labels, MANY_ITEMS, MANY_WORKERS, 5)
    began = time.perf_counter()
    choice = choose(votes)
    seconds = time.perf_counter() - began
    print(f"{len(votes)} answers in {seconds:.1f} s: {choice.why}", flush=True)
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
