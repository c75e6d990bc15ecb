"""Three models of annotators, from few parameters to many, fitted by expectation-maximisation.

- *majority*: everyone is right equally often; errors fall on the other classes evenly. Its winner has most votes.
- *one-coin*: each worker has an accuracy of their own, drawn towards everyone's.
- *Dawid-Skene*: each worker has a confusion matrix, shrunk towards their one-coin matrix: a row of few answers stays
  near it, so that a class a worker never met cannot flip (plain Dawid-Skene turns whole one-class batches over).

Sources: A. P. Dawid, A. M. Skene, *Maximum likelihood estimation of observer error-rates using the EM algorithm*,
Applied Statistics 28 (1979); J. Zhang et al., *Spectral methods meet EM* (2016), for the one-coin model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from include.labeling.aggregation.votes import Floats, Votes

MAJORITY, ONE_COIN, DAWID_SKENE = "majority", "one_coin", "dawid_skene"

COIN_PSEUDO_ANSWERS = 2.0  # a worker's accuracy starts as everyone's, with this many answers' weight
PSEUDO_ROWS = 5.0  # a row of a worker's confusion matrix starts as one-coin, with this many answers' weight
CLASS_PSEUDO_ITEMS = 3.0  # items added to every class when class shares are estimated
LEAST, MOST = 1e-3, 1 - 1e-3  # no worker is taken to be always wrong, or never
TOLERANCE = 1e-5  # mean change of an item's posterior, summed over classes, at which EM stops
MAX_ROUNDS = 200


@dataclass(frozen=True)
class Fit:
    """A fitted model of annotators.

    :param posterior: shape (N, K), probability of each class per item; items without answers have the class shares.
    :param shares: shape (K,), estimated class shares.
    :param accuracy: shape (W,), chance that a worker's answer is right.
    :param confusion: shape (W, K, K), chance of [worker, truth, answer]; None where accuracy says it all.
    """

    method: str
    posterior: Floats
    shares: Floats
    accuracy: Floats
    confusion: Floats | None = None

    def likelihood(self, votes: Votes) -> Floats:
        """Chance of each answer under each truth, shape (n, K)."""
        if self.confusion is not None:
            return self.confusion[votes.workers, :, votes.labels]
        right = self.accuracy[votes.workers]
        chances = np.repeat(((1 - right) / (votes.n_classes - 1))[:, None], votes.n_classes, axis=1)
        chances[np.arange(len(votes)), votes.labels] = right
        return chances

    def matrices(self, n_classes: int) -> Floats:
        """The confusion matrices [worker, truth, answer], shape (W, K, K), also of a one-coin model."""
        return _coin(self.accuracy, n_classes) if self.confusion is None else self.confusion

    def judge(self, votes: Votes, log_prior: Floats | None = None) -> Floats:
        """Posterior of items under this model, shape (N, K), from other answers or another prior.

        :param log_prior: shape (K,) or (N, K); the class shares by default.
        """
        return _normalised(self.evidence(votes) + (np.log(self.shares) if log_prior is None else log_prior))

    def evidence(self, votes: Votes) -> Floats:
        """Log-likelihood of an item's answers under each truth, up to a constant per item, shape (N, K)."""
        if self.confusion is None:
            return votes.sum_votes(_coin_weights(self.accuracy, votes.n_classes)[votes.workers])
        log_chances = np.log(self.confusion).transpose(1, 0, 2).reshape(votes.n_classes, -1)
        cells = votes.workers * votes.n_classes + votes.labels
        return np.stack(
            [np.bincount(votes.items, log_chance[cells], votes.n_items) for log_chance in log_chances], axis=1
        )


def majority(votes: Votes) -> Fit:
    """The vote. Posterior: (c + 1/K) / (n + 1), the Dirichlet mean under Perks' prior; equal counts share equally."""
    counts = votes.counts()
    posterior = (counts + 1 / votes.n_classes) / (counts.sum(axis=1, keepdims=True) + 1)
    best = counts.max(axis=1, keepdims=True)
    winners = (counts == best) & (best > 0)
    right = _right_per_worker(votes, winners / np.maximum(winners.sum(axis=1, keepdims=True), 1)).sum()
    # Counting winners flatters: each answer voted for itself. Pseudo-answers at chance keep it below certainty.
    pooled = (right + 1) / (len(votes) + votes.n_classes)
    shares = np.full(votes.n_classes, 1 / votes.n_classes)
    return Fit(MAJORITY, posterior, shares, np.full(votes.n_workers, np.clip(pooled, LEAST, MOST)))


def shared_coin(votes: Votes) -> Fit:
    """What the vote assumes, as a model that can be held against the data: one accuracy for all workers."""
    return replace(_coin_em(votes, shared=True), method=MAJORITY)


def one_coin(votes: Votes) -> Fit:
    """One accuracy per worker, by EM from the vote."""
    return _coin_em(votes, shared=False)


def dawid_skene(votes: Votes) -> Fit:
    """One confusion matrix per worker, shrunk towards their one-coin matrix, by EM from the vote."""
    fit = majority(votes)
    posterior = fit.posterior
    for _ in range(MAX_ROUNDS):
        right = _right_per_worker(votes, posterior)
        accuracy = _shrunk_accuracy(right, votes.per_worker())
        fit = Fit(DAWID_SKENE, posterior, _class_shares(posterior), accuracy, _confusion(votes, posterior, accuracy))
        posterior, change = _updated(fit, votes)
        if change < TOLERANCE:
            break
    return replace(fit, posterior=posterior)


def _coin_em(votes: Votes, *, shared: bool) -> Fit:
    given = votes.per_worker()
    posterior = majority(votes).posterior
    fit = Fit(ONE_COIN, posterior, _class_shares(posterior), np.full(votes.n_workers, 0.5))
    for _ in range(MAX_ROUNDS):
        right = _right_per_worker(votes, posterior)
        if shared:
            pooled = (right.sum() + 1) / (given.sum() + votes.n_classes)
            accuracy = np.full(votes.n_workers, np.clip(pooled, LEAST, MOST))
        else:
            accuracy = _shrunk_accuracy(right, given)
        fit = Fit(ONE_COIN, posterior, _class_shares(posterior), accuracy)
        posterior, change = _updated(fit, votes)
        if change < TOLERANCE:
            break
    return replace(fit, posterior=posterior)


def _updated(fit: Fit, votes: Votes) -> tuple[Floats, float]:
    posterior = fit.judge(votes)
    return posterior, float(np.abs(posterior - fit.posterior).sum() / max(len(posterior), 1))


def _right_per_worker(votes: Votes, posterior: Floats) -> Floats:
    """Expected right answers of each worker, shape (W,)."""
    right = np.bincount(votes.workers, posterior[votes.items, votes.labels], votes.n_workers)
    return right.astype(np.float64)


def _shrunk_accuracy(right: Floats, given: Floats) -> Floats:
    pooled = right.sum() / max(given.sum(), 1)
    accuracy: Floats = (right + COIN_PSEUDO_ANSWERS * pooled) / (given + COIN_PSEUDO_ANSWERS)
    return np.clip(accuracy, LEAST, MOST)


def _class_shares(posterior: Floats) -> Floats:
    items, classes = posterior.shape
    shares: Floats = (posterior.sum(axis=0) + CLASS_PSEUDO_ITEMS) / (items + CLASS_PSEUDO_ITEMS * classes)
    return shares


def _confusion(votes: Votes, posterior: Floats, accuracy: Floats) -> Floats:
    """Expected answers [worker, truth, answer], with ``PSEUDO_ROWS`` one-coin answers per row, as shares of the row."""
    size = votes.n_classes
    cells = votes.workers * size + votes.labels
    rows = np.stack(
        [
            np.bincount(cells, posterior[votes.items, truth], votes.n_workers * size).reshape(votes.n_workers, size)
            for truth in range(size)
        ],
        axis=1,
    )
    coin = _coin(accuracy, size)
    confusion: Floats = (rows + PSEUDO_ROWS * coin) / (rows.sum(axis=2, keepdims=True) + PSEUDO_ROWS)
    return confusion


def _coin(accuracy: Floats, size: int) -> Floats:
    matrices = np.repeat(((1 - accuracy) / (size - 1))[:, None, None], size, axis=1).repeat(size, axis=2)
    diagonal = np.arange(size)
    matrices[:, diagonal, diagonal] = accuracy[:, None]
    return matrices


def _coin_weights(accuracy: Floats, n_classes: int) -> Floats:
    """What one answer adds to the log-odds of its class."""
    weights: Floats = np.log(accuracy * (n_classes - 1) / (1 - accuracy))
    return weights


def _normalised(log_weights: Floats) -> Floats:
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    posterior: Floats = weights / weights.sum(axis=1, keepdims=True)
    return posterior
