"""Which is worth more: another answer for an old record, or the first one for a new record? (ActiveLab)

Source: H. W. Goh, J. Mueller, *ActiveLab: Active learning with re-labeling by multiple annotators*, arXiv:2301.11856,
2023, on top of CROWDLAB (H. W. Goh, U. Tkachenko, J. Mueller, arXiv:2210.06812, 2022). The same figures as
``cleanlab.multiannotator.get_active_learning_scores`` with one model whose probabilities are calibrated already.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Answers = npt.NDArray[np.int64]

LEAST = 1e-6  # of a weight: nobody is worth nothing


def worth_of_an_answer(answers: Answers, probabilities: Floats) -> Floats:
    """A score per record; the **lowest** score is where the next answer helps most.

    The score is the posterior chance of the consensus, shrunk towards 1 / K by the weight of one more average
    annotator: a record with many trusted answers is shrunk least.

    :param answers: class positions, shape (N, annotators), -1 where nobody answered; records without any are new ones.
    :param probabilities: of the model, shape (N, K); rows of NaN count as a model that knows nothing.
    """
    classes = probabilities.shape[1]
    model = np.where(np.isnan(probabilities), 1.0 / classes, probabilities).astype(np.float64)
    given = answers >= 0
    counts = given.sum(axis=1)
    old = counts > 0
    quality = model.max(axis=1)  # of a new record: the model's own confidence
    if not old.any() or (counts[old] == 1).all():
        people, trust = np.ones(answers.shape[1]), 1.0
        consensus = answers.max(axis=1, initial=0)
        quality[old] = model[old, consensus[old]]
    else:
        taking_part = given[old].any(axis=0)
        people = np.zeros(answers.shape[1])
        people[taking_part], trust, quality[old] = _crowdlab(answers[old][:, taking_part], model[old])
        people_mean = float(people[taking_part].mean())
        return _shrunk(quality, given @ people + trust, people_mean, classes)
    return _shrunk(quality, given @ people + trust, float(people.mean()) if people.size else 1.0, classes)


def _shrunk(quality: Floats, weight: Floats, average: float, classes: int) -> Floats:
    return np.asarray((weight * quality + average / classes) / (weight + average))


def _crowdlab(answers: Answers, model: Floats) -> tuple[Floats, float, Floats]:
    """Weights of annotators and model, and the posterior chance of each record's consensus."""
    given = answers >= 0
    counts, several = given.sum(axis=1), given.sum(axis=1) > 1
    classes = model.shape[1]
    votes = np.stack([(answers == one).sum(axis=1) for one in range(classes)], axis=1)
    consensus = _majority(votes, model)
    agreement = votes[np.arange(len(votes)), consensus] / counts
    likely = float(agreement[several].mean())
    unlikely = (1.0 - likely) / max(classes - 1, 1)
    commonest = int(np.bincount(consensus[several], minlength=classes).argmax())
    guessing = max(float((consensus[several] != commonest).mean()), LEAST)
    people = np.maximum(1.0 - (1.0 - _agreements(answers, counts)) / guessing, LEAST)
    wrong = float((model[several].argmax(axis=1) != consensus[several]).mean())
    trust = max(1.0 - wrong / guessing, LEAST) * float(np.sqrt(counts.mean()))
    posterior = model * trust
    for one in range(classes):
        posterior[:, one] += ((answers == one) * likely + (given & (answers != one)) * unlikely) @ people
    posterior /= (given @ people + trust)[:, None]
    return people, trust, posterior[np.arange(len(votes)), consensus]


def _majority(votes: npt.NDArray[np.int64], model: Floats) -> npt.NDArray[np.int64]:
    """The class with most votes; of several, the one the model holds likelier."""
    tied = votes == votes.max(axis=1, keepdims=True)
    return np.asarray(np.where(tied, model, -1.0).argmax(axis=1))


def _agreements(answers: Answers, counts: npt.NDArray[np.int64]) -> Floats:
    """How often each annotator agrees with the others who answered the same records; the mean where there are none."""
    result = np.full(answers.shape[1], np.nan)
    for one in range(answers.shape[1]):
        mine = (answers[:, one] >= 0) & (counts > 1)
        if mine.any():
            same = (answers[mine] == answers[mine, one][:, None]).sum(axis=1) - 1
            result[one] = same.sum() / (counts[mine] - 1).sum()
    return np.where(np.isnan(result), np.nanmean(result), result)
