"""How many labels does it take? The project's own draw against random and against other people's active learning.

Sets: e-mails, the Brown corpus, film reviews and Debian's package descriptions (``bench/support/texts.py``); five
seeds, each with another split, pool order and noise. The figure is the number of labels with which the model reaches
95% of the accuracy it has with the whole pool labeled (mean curve over the seeds, first crossing that stays), divided
by what random needs. Every side labels in the same batches, is measured by the same model, and pays for every label.

- *plain*: one right answer per text. ``random``; plain ``margin`` (the least margins); ``ours``: the mixture below,
  drawn by ``include.sampling`` with its random share, starting without a model; strategies of scikit-activeml.
- *noise*: the same with 10% wrong answers; the level is 95% of the accuracy with the whole noisy pool.
- *rare*: is it one of a class with a prevalence below 3%? Labels to 90% of the whole pool's average precision.
- *people*: the protocol of ActiveLab: five people who err, each answer costs, and a text may be asked about again.

How the mixtures were chosen, and what came out: ``docs/label-efficiency.md``.
Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # two processes, one core each

import hashlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from bench.support import texts
from bench.support.curves import labels_needed, mean_curve, ratio_interval
from bench.support.environments import bench_folder, python_with
from bench.support.learner import (
    Fitted,
    Floats,
    Learner,
    Opinions,
    Points,
    Positions,
    Round,
    Task,
    accuracy,
    curve,
    people_curve,
)
from include.embedding.latent_text import LatentText
from include.sampling.draw import seed_bits
from include.sampling.mixture import Entry, draw, part_of
from include.sampling.strategies import Candidates, CertaintyStrategy, make_strategy
from standalone.home import REPO, Home

VERSION = 2  # raise it when tasks are made differently: cached ones are not used then
SETS: Mapping[str, Callable[[Home], texts.Answered | None]] = {
    "e_mails": texts.e_mails,
    "brown": texts.brown,
    "movies": texts.movies,
    "debian": texts.debian,
}
SEEDS = 5
POOL, TEST = 3000, 2000
FEWEST = 20  # of a class; texts of smaller ones are left out
TERMS = 50_000
BATCH = 100
RARE_BATCH = 50
LEVEL, RARE_LEVEL, PEOPLE_LEVEL = 0.95, 0.90, 0.90
BEYOND = 1.01  # curves end when they are that much above their level
NOISE = 0.1
FLOOR = 0.1  # weight_floor of a project
# Classes with a prevalence of 1.1 to 2.4% that can be learned at all (those of Brown cannot, films have none).
RARE = {"e_mails": ("odd_news_zzzteana", "other_personal"), "debian": ("php", "graphics")}
OURS = {"random": 0.2, "hybrid": 0.8}
OURS_RARE = {"random": 0.2, "hybrid": 0.8}
WEIGHTED = {"random": 0.2, "rare_class": 0.8}  # every probability known
OURS_PEOPLE = {"random": 0.2, "relabel": 0.8}
PEOPLE = (0.95, 0.9, 0.85, 0.8, 0.7)  # share of right answers of each person
PEOPLE_SETS = ("e_mails", "movies")
QUERIES = ("Badge", "Falcun")  # of scikit-activeml
RIVAL_SECONDS = 900
WORKERS = 2

Curves = dict[str, Points]


def make_task(home: Home, name: str, seed: int) -> Path | None:
    """The split of a set for a seed, from the cache or made; None when the machine does not have the set."""
    path = bench_folder() / f"label-efficiency-{VERSION}" / f"{name}-{seed}.npz"
    if path.exists():
        return path
    answered = SETS[name](home)
    if answered is None:
        return None
    path.parent.mkdir(exist_ok=True)
    _split(answered, seed).save(path)
    return path


def _split(answered: texts.Answered, seed: int) -> Task:
    """Whole groups go to the test until it is large enough; the pool is drawn from the rest."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    random = np.random.default_rng(seed)
    counts = Counter(answered.labels)
    kept = np.array([at for at, label in enumerate(answered.labels) if counts[label] >= FEWEST])
    groups = np.unique(np.array(answered.groups)[kept], return_inverse=True)[1]
    turn = random.permutation(groups.max() + 1)[groups]
    order = kept[np.lexsort((random.random(kept.size), turn))]
    turns = np.sort(turn)
    cut = int(np.searchsorted(turns, turns[min(TEST, kept.size // 4)], side="right"))
    test, pool = order[:cut][:TEST], random.permutation(order[cut:])[:POOL]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=TERMS, dtype=np.float32)
    pool_texts = [answered.texts[at] for at in pool]
    matrix = words.fit_transform(pool_texts)
    classes = tuple(sorted({answered.labels[at] for at in pool}))
    position = {label: at for at, label in enumerate(classes)}
    truth = np.array([position[answered.labels[at]] for at in pool])
    wrong = random.random(truth.size) < NOISE
    noisy = np.where(wrong, (truth + random.integers(1, len(classes), truth.size)) % len(classes), truth)
    return Task(
        name=answered.name,
        seed=seed,
        classes=classes,
        pool=matrix,
        test=words.transform([answered.texts[at] for at in test]),
        truth=truth,
        noisy=noisy,
        test_truth=np.array([position.get(answered.labels[at], -1) for at in test]),
        vectors=LatentText.fit("bench", pool_texts).embed(pool_texts),
    )


def seen(probabilities: Floats) -> dict[str, Floats]:
    """The columns a project's champion gives its candidates, from class probabilities (N, K)."""
    best = np.sort(probabilities, axis=1)
    logs = np.log(np.maximum(probabilities, 1e-12))
    return {
        "margin": best[:, -1] - best[:, -2],
        "confidence": best[:, -1],
        "entropy": -(probabilities * logs).sum(axis=1) / np.log(probabilities.shape[1]),
        "probabilities": probabilities,
    }


def draw_batch(
    mixture: Mapping[str, float],
    candidates: Candidates,
    ids: np.ndarray[Any, np.dtype[np.uint64]],
    size: int,
    *,
    cycle: str,
    options: Mapping[str, Any] | None = None,
) -> Positions:
    """A batch as the project draws it: positions of ``size`` candidates.

    :param options: of the strategies that need any.
    """
    entries = [Entry(name, make_strategy(name, (options or {}).get(name)), share) for name, share in mixture.items()]
    drawn = draw(
        entries,
        [part_of(entries, candidates, ids)],
        size=size,
        seed_of=lambda number: seed_bits("label_efficiency", entries[number].name, cycle),
        floor_share=FLOOR,
    )
    taken = [one.position for one in drawn.chosen]
    for number, listed in drawn.shortlists.items():
        strategy, places = entries[number].strategy, drawn.places[number]
        assert isinstance(strategy, CertaintyStrategy)  # noqa: S101 - only these have shortlists
        free = listed.position[~np.isin(listed.position, taken)][: strategy.shortlist(places)]
        seed = seed_bits("label_efficiency", entries[number].name, cycle)
        taken += free[strategy.choose(candidates.take(free), places, seed=seed)].tolist()
    return np.array(taken)


def ids_of(task: Task) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """First 64 bits of the record ids."""
    names = [f"{task.name}/{task.seed}/{at}" for at in range(len(task.truth))]
    return np.array([int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) for name in names], dtype=np.uint64)


def ours(mixture: Mapping[str, float], options: Mapping[str, Any] | None = None) -> Callable[[Round], Positions]:
    """Our side, with a model."""

    def choose(known: Round) -> Positions:
        columns = {**seen(known.model.pool[known.left]), "vector": known.task.vectors[known.left]}
        classes = known.task.classes if known.model.pool.shape[1] > 2 else ("other", "wanted")
        candidates = Candidates(len(known.left), columns, classes)
        ids = ids_of(known.task)[known.left]
        cycle = f"{known.task.seed}/{known.number}"
        return known.left[draw_batch(mixture, candidates, ids, known.size, cycle=cycle, options=options)]

    return choose


def cold_start(task: Task) -> Positions:
    """Our first batch."""
    mixture = {"random": OURS["random"], "cold_start": 1.0 - OURS["random"]}
    candidates = Candidates(len(task.truth), {"vector": task.vectors})
    return draw_batch(mixture, candidates, ids_of(task), BATCH, cycle=f"{task.seed}/start")


def at_random(known: Round) -> Positions:
    """The random side."""
    return np.random.default_rng([known.task.seed, known.number]).permutation(known.left)[: known.size]


def least_margin(known: Round) -> Positions:
    """Plain margin sampling."""
    margins = seen(known.model.pool[known.left])["margin"]
    return known.left[np.argsort(margins, kind="stable")[: known.size]]


def first_at_random(task: Task) -> Positions:
    """The first batch of everybody else."""
    return np.random.default_rng([task.seed, 10**6]).permutation(len(task.truth))[:BATCH]


def plain(
    task: Task, learner: Learner, answers: Positions, sides: Mapping[str, Callable[[Round], Positions]]
) -> Curves:
    """One answer per text; values are shares of the accuracy with the whole pool."""
    worth, everyone, classes = accuracy(task), np.arange(len(answers)), len(task.classes)
    full = worth(learner.fit(everyone, answers, classes))
    return {
        name: curve(
            task,
            learner,
            choose,
            start=cold_start(task) if name == "ours" else first_at_random(task),
            answers=answers,
            classes=classes,
            worth=lambda model: worth(model) / full,
            sizes=[BATCH],
            end=LEVEL * BEYOND,
        )
        for name, choose in sides.items()
    } | {"full": [(len(answers), full)]}


def rare(task: Task, learner: Learner, name: str) -> Curves:
    """Is a text of this class? Values are shares of the average precision with the whole pool."""
    from sklearn.metrics import average_precision_score

    answers = (task.truth == task.classes.index(name)).astype(np.int64)
    truth = task.test_truth == task.classes.index(name)

    def worth(model: Fitted) -> float:
        return float(average_precision_score(truth, model.test[:, 1]))

    full = worth(learner.fit(np.arange(len(answers)), answers, 2))
    sides = {
        "random": (at_random, [2 * BATCH]),  # only its grid is coarser
        "margin": (least_margin, [RARE_BATCH]),
        "ours": (ours(OURS_RARE), [RARE_BATCH]),
        "ours_weighted": (ours(WEIGHTED, {"rare_class": {"classes": ["wanted"]}}), [RARE_BATCH]),
    }
    return {
        side: curve(
            task,
            learner,
            choose,
            start=cold_start(task) if side.startswith("ours") else first_at_random(task),
            answers=answers,
            classes=2,
            worth=lambda model: worth(model) / full,
            sizes=sizes,
            end=RARE_LEVEL * BEYOND,
        )
        for side, (choose, sizes) in sides.items()
    } | {"full": [(len(answers), full)]}


def crowd(task: Task) -> tuple[Positions, Positions]:
    """What each person would say of each text, and in which order they come to it; both (N, people)."""
    random = np.random.default_rng([task.seed, 5])
    shape = (len(task.truth), len(PEOPLE))
    wrong = random.random(shape) >= np.array(PEOPLE)
    others = (task.truth[:, None] + random.integers(1, len(task.classes), shape)) % len(task.classes)
    return np.where(wrong, others, task.truth[:, None]), np.argsort(random.random(shape), axis=1)


def asked_again(known: Opinions) -> Positions:
    """Our side where people err: new texts compete with old ones."""
    free = np.flatnonzero((known.answers < 0).any(axis=1))
    columns = {**seen(known.unseen[free]), "vector": known.task.vectors[free], "answers": known.answers[free]}
    candidates = Candidates(len(free), columns, known.task.classes)
    cycle = f"{known.task.seed}/people/{known.number}"
    return free[draw_batch(OURS_PEOPLE, candidates, ids_of(known.task)[free], known.size, cycle=cycle)]


def only_new(choose: Callable[[Round], Positions]) -> Callable[[Opinions], Positions]:
    """A side that never asks twice."""

    def side(known: Opinions) -> Positions:
        given = (known.answers >= 0).any(axis=1)
        chosen = np.flatnonzero(given)
        labels = known.answers[chosen].max(axis=1)
        return choose(Round(known.number, known.task, np.flatnonzero(~given), chosen, labels, known.model, known.size))

    return side


def with_people(task: Task, learner: Learner, full: float) -> tuple[Curves, dict[str, Any]]:
    """The curves of the people protocol, and what the rival needs to run it."""
    opinions, order = crowd(task)
    worth, end = accuracy(task), PEOPLE_LEVEL * BEYOND
    sides = {
        "random": only_new(at_random),
        "margin": only_new(least_margin),
        "ours_new_only": only_new(ours(OURS)),
        "ours": asked_again,
    }
    curves = {
        name: people_curve(
            task,
            learner,
            choose,
            start=first_at_random(task),
            opinions=opinions,
            order=order,
            worth=lambda model: worth(model) / full,
            size=BATCH,
            end=end,
        )
        for name, choose in sides.items()
    }
    job = {"opinions": opinions.tolist(), "order": order.tolist(), "size": BATCH, "end": end * full}
    return curves, job


def rivals(path: Path, task: Task, full: float, people: dict[str, Any] | None, python: Path) -> Curves:
    """The rivals' curves, in their own environment.

    :raises RuntimeError: with the end of what it said.
    """
    job = {
        "task": str(path),
        "start": first_at_random(task).tolist(),
        "queries": QUERIES,
        "sizes": [BATCH],
        "end": LEVEL * BEYOND * full,
        "people": people,
    }
    process = subprocess.run(  # noqa: S603 - our own script
        [str(python), str(REPO / "bench" / "sides" / "active_rivals.py")],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=RIVAL_SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )
    if process.returncode:
        raise RuntimeError(f"the rivals failed on {path.stem}:\n{process.stderr[-3000:]}")
    found: dict[str, list[tuple[int, float]]] = json.loads(process.stdout.splitlines()[-1])
    return {name: [(count, value / full) for count, value in points] for name, points in found.items()}


def run(name: str, seed: int, python: Path) -> dict[str, Any] | None:
    """Everything about one set and one seed; None when the machine does not have the set."""
    path = make_task(Home(), name, seed)
    if path is None:
        return None
    started = time.monotonic()
    task = Task.load(path)
    learner = Learner.of(task)
    curves = plain(task, learner, task.truth, {"random": at_random, "margin": least_margin, "ours": ours(OURS)})
    full = curves.pop("full")[0][1]
    noise = plain(task, learner, task.noisy, {"random": at_random, "ours": ours(OURS)})
    noise.pop("full")
    rare_curves = {wanted: rare(task, learner, wanted) for wanted in RARE.get(name, ())}
    people, job = with_people(task, learner, full) if name in PEOPLE_SETS else ({}, None)
    del learner  # the rivals make their own
    theirs = rivals(path, task, full, job, python)
    if job:
        people["cleanlab"] = theirs.pop("cleanlab")
    return {
        "set": name,
        "seed": seed,
        "full": full,
        "plain": {**curves, **theirs},
        "noise": noise,
        "rare": rare_curves,
        "people": people,
        "seconds": time.monotonic() - started,
    }


def by_set(results: list[dict[str, Any]], part: str) -> dict[str, dict[str, list[Points]]]:
    """{side: {set: [curve of each seed]}} of one protocol; of *rare*, each class is a set."""
    found: dict[str, dict[str, list[Points]]] = {}
    for one in results:
        curves = one[part].items() if part == "rare" else [(one["set"], one[part])]
        for name, sides in curves:
            for side, points in sides.items():
                found.setdefault(side, {}).setdefault(name, []).append(points)
    return found


def ratios(sides: dict[str, dict[str, list[Points]]], level: float) -> dict[str, dict[str, float]]:
    """{side: {set: labels needed, as a share of what random needs}}, without random itself."""
    needed = {
        side: {name: labels_needed(curves, level) for name, curves in sets.items()} for side, sets in sides.items()
    }
    base = needed.pop("random")
    return {side: {name: count / base[name] for name, count in sets.items()} for side, sets in needed.items()}


def show(title: str, sides: dict[str, dict[str, list[Points]]], level: float) -> dict[str, float]:
    """Print a table; the mean ratio of each side."""
    shares = ratios(sides, level)
    print(f"\n{title}: labels needed, as a share of random's")
    for name, curves in sides["random"].items():
        needed = labels_needed(curves, level)
        unreached = " or more: the pool is used up" if mean_curve(curves)[1][-1] < level else ""
        print(f"  {name:8s} random needs {needed:5.0f}{unreached}")
        print("           " + ", ".join(f"{side} {one[name]:.2f}" for side, one in shares.items()))
    return {side: fmean(one.values()) for side, one in shares.items()}


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Three digits."""
    return {name: round(value, 3) for name, value in figures.items()}


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The last line."""
    parts = {part: by_set(results, part) for part in ("plain", "noise", "rare", "people")}
    means = show("Plain answers, to 95% of full accuracy", parts["plain"], LEVEL)
    noise = show("10% wrong answers, to 95% of full accuracy", parts["noise"], LEVEL)
    figure: dict[str, Any] = {"bench": "label_efficiency"}
    shares = ratios(parts["plain"], LEVEL)
    noisy = ratios(parts["noise"], LEVEL)["ours"]
    low, high = ratio_interval(parts["plain"]["ours"], parts["plain"]["random"], LEVEL)
    best = min(QUERIES, key=lambda name: means[name])
    figure |= {
        "ratio": round(means["ours"], 3),
        "ratio_interval": [round(low, 3), round(high, 3)],
        "ours": rounded({name: labels_needed(c, LEVEL) for name, c in parts["plain"]["ours"].items()}),
        "rivals": {
            "random": 1.0,
            "margin": round(means["margin"], 3),
            f"scikit-activeml {best}": round(means[best], 3),
        },
        "unit": "labels needed to reach 95% of full-data accuracy, as a share of what random needs, mean over sets",
        "n": len(results),
        "worst": round(max(*shares["ours"].values(), *noisy.values()), 3),
        "ratio_noise": round(noise["ours"], 3),
        "per_set": {side: rounded(one) for side, one in shares.items()},
        "per_set_noise": {side: rounded(one) for side, one in ratios(parts["noise"], LEVEL).items()},
    }
    if parts["rare"]:
        whole = parts["rare"].pop("full")
        figure["full_rare"] = rounded({name: fmean(points[0][1] for points in c) for name, c in whole.items()})
        rare_means = show("A rare class, to 90% of full average precision", parts["rare"], RARE_LEVEL)
        figure["ratio_rare"] = round(rare_means["ours"], 3)
        figure["per_set_rare"] = {side: rounded(one) for side, one in ratios(parts["rare"], RARE_LEVEL).items()}
    if parts["people"]:
        show("People who err, to 90% of full accuracy", parts["people"], PEOPLE_LEVEL)
        figure["per_set_people"] = {side: rounded(one) for side, one in ratios(parts["people"], PEOPLE_LEVEL).items()}
    return figure


def main() -> int:
    """Run every set and seed on two cores, print tables, then the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS), help="some of the sets")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--plot", type=Path, help="write the plot to this SVG file")
    arguments = parser.parse_args()
    python = python_with("active_learning")
    jobs = [(name, seed) for name in arguments.sets.split(",") for seed in range(arguments.seeds)]
    results: list[dict[str, Any]] = []
    results_file = bench_folder() / "label-efficiency.json"
    with ProcessPoolExecutor(WORKERS) as pool:
        waiting = [(job, pool.submit(run, *job, python)) for job in jobs]
        for (name, seed), future in waiting:
            result = future.result()
            if result is None:
                print(f"{name}: this machine does not have it", flush=True)
                continue
            results.append(result)
            results_file.write_text(json.dumps(results), encoding="utf-8")
            print(f"{name}, seed {seed}: {result['seconds']:.0f} s", flush=True)
    if arguments.plot:
        plot = [str(python), str(REPO / "bench" / "sides" / "plot_curves.py"), str(results_file), str(arguments.plot)]
        subprocess.run(plot, check=True, env={**os.environ, "PYTHONPATH": str(REPO)})  # noqa: S603 - our own script
    print(json.dumps(summary(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
