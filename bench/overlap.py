"""Adaptive overlap against asking three people about everything, with crowds simulated from real raters.

``next_step`` decides about every record after every round of answers, as the product would: one answer each, a few
records three to get to know the annotators, then one more answer wherever the posterior is below the threshold. Who is
asked is drawn at random among those who have not answered. There is no expert tier here: the data name no experts, so
a record that stays unsettled is labeled as its posterior says.

Crowds: ``pyanno``'s eight curators on real texts of five classes, with and without a classifier that learns out of fold
from the labels so far; and twenty people like those of ``iqitems``. Fixed overlap is three answers each, decided by the
same ``choose`` (and by the vote, for comparison). The policy is the default one but for the threshold, which
``plan_threshold`` finds anew after every round, from the answers so far and nothing else. (A fixed threshold had asked
for far more answers than needed on one draw of these crowds; that is why there is a plan.)

``answers_per_label`` and ``accuracy_vs_overlap3`` (points; positive: better than three answers each) are those of
people and model together; ``settings`` has all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bench.aggregate import out_of_fold
from bench.support import crowds
from bench.support.texts import debian
from include.labeling.aggregation.choice import choose
from include.labeling.aggregation.dawid_skene import Fit, majority
from include.labeling.aggregation.model_aware import label_for_training
from include.labeling.aggregation.votes import Floats, Ints, Votes
from include.labeling.overlap import Asked, OverlapPolicy, next_step, plan_threshold
from standalone.home import Home

SEED = 31
DRAWS, ITEMS = 3, 2_000
FIXED = 3
IQ_RATERS = 20
POLICY = OverlapPolicy()

Opinion = Callable[[Floats], Floats]  # posterior (N, K) so far -> probabilities (N, K) of a classifier


@dataclass
class World:
    """Items with a truth, and a crowd of which each rater may be asked once about each item.

    :param order: shape (N, W), whom to ask first, second, ...
    :param given: shape (N, W), what they would say.
    """

    truths: Ints
    order: Ints
    given: Ints
    n_classes: int

    def votes(self, answers: Ints) -> Votes:
        """The first ``answers[i]`` answers to every item i."""
        items, place = np.nonzero(np.arange(self.order.shape[1]) < answers[:, None])
        workers = self.order[items, place]
        n_items, n_workers = self.order.shape
        return Votes(items, workers, self.given[items, workers], n_items, n_workers, self.n_classes)

    def accuracy(self, posterior: Floats) -> float:
        """Share of items whose likeliest class is the true one."""
        return float((posterior.argmax(axis=1) == self.truths).mean())


def make_world(crowd: crowds.Crowd, rng: np.random.Generator) -> World:
    """Every rater's answer to every item, and the order in which they would be asked."""
    truths = crowd.truths(rng, ITEMS)
    n_workers = len(crowd.confusion)
    given = np.stack([crowd.answer(rng, truths, np.full(ITEMS, one)) for one in range(n_workers)], axis=1)
    order = rng.random((ITEMS, n_workers)).argsort(axis=1)
    return World(truths, order, given, len(crowd.shares))


def adaptive(world: World, opinion: Opinion | None) -> tuple[Floats, Ints]:
    """Ask as the policy says; the posterior (N, K) and the answers (N,) it took."""
    n_items, n_workers = world.order.shape
    answers = np.zeros(n_items, dtype=np.int64)
    calibrating = np.arange(n_items) < round(POLICY.calibration_share * n_items)
    posterior = np.zeros((n_items, world.n_classes))
    policy = POLICY
    while True:
        best = posterior.max(axis=1)
        more = np.zeros(n_items, dtype=np.int64)
        for i in range(n_items):
            known = Asked(
                answers=int(answers[i]),
                pending=0,
                available=n_workers - int(answers[i]),
                experts_available=0,
                posterior=float(best[i]) if answers[i] else None,
                calibration=bool(calibrating[i]),
            )
            more[i] = next_step(policy, known).n
        if not more.any():
            return posterior, answers
        answers += more
        fit = choose(world.votes(answers)).fit
        posterior = decide(world.votes(answers), fit, opinion)
        threshold = plan_threshold(fit.shares, fit.matrices(world.n_classes), POLICY, fixed=FIXED)
        policy = replace(POLICY, threshold=threshold)


def decide(votes: Votes, fit: Fit, opinion: Opinion | None) -> Floats:
    """The posterior from answers, and from the classifier where there is one."""
    if opinion is None:
        return fit.posterior
    return label_for_training(votes, fit, opinion(fit.posterior), ["train"] * votes.n_items).posterior


def main() -> int:
    """Run every crowd and print the JSON object."""
    os.environ["OMP_NUM_THREADS"] = "1"
    settings: dict[str, dict[str, float]] = {}
    for crowd_name, crowd in {"curators": crowds.curators(), "iq raters": iq_crowd()}.items():
        rows: dict[str, list[dict[str, float]]] = {}
        for number in range(DRAWS):
            rng = np.random.default_rng((SEED, number))
            world = make_world(crowd, rng)
            opinions: dict[str, Opinion | None] = {"people": None}
            if crowd_name == "curators":
                opinions["people and model"] = classifier(world, rng)
            for name, opinion in opinions.items():
                rows.setdefault(f"{crowd_name}, {name}", []).append(one_run(world, opinion))
                print(f"draw {number}: {crowd_name}, {name}: {rows[f'{crowd_name}, {name}'][-1]}", flush=True)
        for name, runs in rows.items():
            settings[name] = {key: round(float(np.mean([run[key] for run in runs])), 4) for key in runs[0]}
            print(f"{name}: {settings[name]}", flush=True)
    headline = settings["curators, people and model"]
    figure = {
        "bench": "overlap",
        "ratio": round(headline["answers_per_label"] / FIXED, 4),
        "ours": headline["answers_per_label"],
        "rivals": {"fixed overlap": FIXED},
        "unit": "answers per label",
        "n": DRAWS * ITEMS,
        "answers_per_label": headline["answers_per_label"],
        "accuracy_vs_overlap3": headline["accuracy_vs_overlap3"],
        "settings": settings,
    }
    print(json.dumps(figure))
    return 0


def one_run(world: World, opinion: Opinion | None) -> dict[str, float]:
    """Accuracy in percent of adaptive and of fixed overlap on the same items with the same people."""
    posterior, answers = adaptive(world, opinion)
    fixed = world.votes(np.full(len(world.truths), FIXED))
    reached = 100 * world.accuracy(posterior)
    three = 100 * world.accuracy(choose(fixed).fit.posterior)
    return {
        "answers_per_label": float(answers.mean()),
        "accuracy": reached,
        "overlap3": three,
        "overlap3_by_vote": 100 * world.accuracy(majority(fixed).posterior),
        "accuracy_vs_overlap3": reached - three,
    }


def iq_crowd() -> crowds.Crowd:
    """Twenty raters as often right as people of ``iqitems`` were, wrong evenly over the other choices."""
    answers = crowds.iq_answers()
    complete = answers[(answers != crowds.MISSING).all(axis=1)]
    right = (complete == crowds.IQ_KEY).mean(axis=1)
    accuracy = np.random.default_rng(SEED).choice(right, IQ_RATERS, replace=False).clip(0.02, 0.98)
    size = crowds.IQ_CHOICES
    confusion = np.repeat(((1 - accuracy) / (size - 1))[:, None, None], size, axis=1).repeat(size, axis=2)
    confusion[:, np.arange(size), np.arange(size)] = accuracy[:, None]
    return crowds.Crowd(np.full(size, 1 / size), confusion)


def classifier(world: World, rng: np.random.Generator) -> Opinion:
    """A classifier of real texts whose section stands for the true class; it learns from the labels so far.

    :raises CrowdDataError: without Debian's package index.
    """
    read = debian(Home())
    if read is None:
        raise crowds.CrowdDataError("apt has no package index here: run 'apt-get update'")
    labels = np.array(read.labels)
    largest = sorted(read.classes, key=lambda name: -int((labels == name).sum()))[: world.n_classes]
    of_class = [np.flatnonzero(labels == name) for name in largest]
    texts = [read.texts[int(rng.choice(of_class[truth]))] for truth in world.truths]
    return lambda posterior: out_of_fold(texts, posterior.argmax(axis=1), world.n_classes)


if __name__ == "__main__":
    raise SystemExit(main())
