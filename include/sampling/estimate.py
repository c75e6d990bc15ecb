"""Figures about everything a batch was drawn from, from the answers to the few records that were drawn.

Batches are drawn with known inclusion probabilities, uncertain records more often. The model's own opinion of every
record is the control: it makes the interval narrow, and the sample corrects what is wrong with it. So figures are right
even if the model is badly mistaken about itself; then they are only less precise.

Records of certainty strata have no probability and must not be handed in: estimates are about the draw of the others,
which was from all candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Z = 1.959963984540054  # 97.5% point of the normal distribution
LEAST_TO_CALIBRATE = 50  # labels; fewer say little about two numbers
FITTED = 2  # numbers that calibration fits to the labels


@dataclass(frozen=True)
class Estimate:
    """A share with its 95% interval.

    ``n``: labels behind it. ``n_effective``: size of a plain random sample with the same precision (infinite for a
    census).
    """

    value: float
    low: float
    high: float
    n: int
    n_effective: float


@dataclass(frozen=True)
class Response:
    """What became of the records of one stratum that people were asked about.

    ``rate``: answered of all; those that wait or were discarded are taken to be like the answered ones.
    """

    stratum: str
    asked: int
    answered: int

    @property
    def rate(self) -> float:
        return self.answered / self.asked


def estimate_share(
    control_all: Floats, outcome: Floats, control: Floats, inclusion_probability: Floats, *, fitted: int = 0
) -> Estimate:
    """The share of a population of N with some outcome, from n labeled records drawn with known probabilities.

    The Hájek difference, ``mean(control over all) + Σ((outcome - control)/π) / Σ(1/π)``. For accuracy, the outcome is 1
    where the model is right, and the control its (calibrated) confidence; for the prevalence of a class, the outcome is
    1 where the label is that class, and the control its probability. Sources: C.-E. Särndal, B. Swensson, J. Wretman,
    *Model Assisted Survey Sampling*, 1992: the difference estimator, with the correction in Hájek's ratio form and its
    linearised variance, ``Σ (1-π) e² / π² / (Σ 1/π)²``, e being the residuals from the weighted mean and draws taken as
    independent.

    Near 0 and 1, and when all answers agree, residuals hide the uncertainty: two pseudo-records, one with the outcome
    and one without, with the mean weight, enter the variance (the idea of Agresti and Coull, 1998), and the interval is
    Wilson's at the effective sample size.

    :param control_all: the control of every record, shape (N,), in [0, 1]; selected records included.
    :param outcome: of the labeled records, shape (n,), 0 or 1.
    :param control: of the labeled records, shape (n,).
    :param inclusion_probability: chance of each of those records to be selected and labeled, shape (n,), in (0, 1].
    :param fitted: numbers of the control that were fitted to these labels: 2 after ``calibrate``.
    :raises ValueError: for an empty population or sample, shapes that differ, or probabilities out of range.
    """
    _check(control_all, outcome, control, inclusion_probability)
    weights = 1.0 / inclusion_probability
    total, n = float(weights.sum()), len(weights)
    difference = outcome - control
    shift = float(weights @ difference) / total
    value = min(1.0, max(0.0, float(control_all.mean()) + shift))

    expected = float(weights @ control) / total
    variance = _variance(weights, difference - shift, np.array([1.0 - expected, -expected]) - shift, fitted)

    kish = total**2 / float((weights**2).sum())
    inner = (kish * value + 1.0) / (kish + 2.0)  # away from 0 and 1, where value (1 − value) says nothing
    return _interval(value, inner, variance, n)


def estimate_recall(
    found_all: Floats,
    present_all: Floats,
    found: Floats,
    present: Floats,
    found_control: Floats,
    present_control: Floats,
    inclusion_probability: Floats,
) -> Estimate | None:
    """Of the records of one class, the share that the model finds; None when no labeled record is of the class.

    A ratio of two Hájek differences, that of records the model rightly calls so, and that of records that are so, with
    the variance of its linearisation (Särndal et al., 1992, section 5.6), and pseudo-records as in ``estimate_share``.

    :param found_all: control of *rightly called so*, for every record: its confidence where it says the class, else 0.
    :param present_all: control of *is so*: the probability of the class. Shapes (N,).
    :param found: 1 where the model says the class and the label is the class, shape (n,).
    :param present: 1 where the label is the class, shape (n,).
    :param found_control: of the labeled records, shape (n,); so is ``present_control``.
    :param inclusion_probability: as for ``estimate_share``.
    :raises ValueError: as ``estimate_share``.
    """
    _check(found_all, found, found_control, inclusion_probability)
    _check(present_all, present, present_control, inclusion_probability)
    if not present.any():
        return None
    weights = 1.0 / inclusion_probability
    total = float(weights.sum())
    numerator = float(found_all.mean()) + float(weights @ (found - found_control)) / total
    denominator = float(present_all.mean()) + float(weights @ (present - present_control)) / total
    observed = float(weights @ present) / total
    if denominator <= 0.1 * observed:  # the controls contradict the sample: trust the sample alone
        found_control, present_control = np.zeros_like(found), np.zeros_like(present)
        numerator, denominator = float(weights @ found) / total, observed
    value = min(1.0, max(0.0, numerator / denominator))
    of_class = weights[present > 0]
    kish = float(of_class.sum()) ** 2 / float((of_class**2).sum())
    inner = (kish * value + 1.0) / (kish + 2.0)
    residuals = (found - found_control) - inner * (present - present_control)
    centered = residuals - float(weights @ residuals) / total
    variance = _variance(weights, centered, np.array([1.0 - inner, -inner])) / denominator**2
    return _interval(value, inner, variance, int((present > 0).sum()))


def calibrate(confidence: Floats, correct: Floats, inclusion_probability: Floats, confidence_all: Floats) -> Floats:
    """The model's confidence in every record as the labels show it to be: Platt's two numbers, fitted to them.

    ``sigmoid(a * logit(confidence) + b)`` by weighted maximum likelihood, drawn towards the identity (a = 1, b = 0) as
    by some labels that agree with it. Two numbers, so the estimate stays unbiased but for terms of order 1 / n. From:
    J. Platt, *Probabilistic outputs for support vector machines*, 1999; the generalised difference estimator: C. Wu, R.
    Sitter, *A model-calibration approach*, JASA 96, 2001.

    :param confidence: of the labeled records, shape (n,); so are ``correct`` and ``inclusion_probability``.
    :param confidence_all: of every record, shape (N,).
    :returns: shape (N,); unchanged with fewer than 50 labels.
    """
    if len(correct) < LEAST_TO_CALIBRATE:
        return confidence_all
    logits = _logit(confidence)
    design = np.stack([logits, np.ones_like(logits)], axis=1)
    weights = 1.0 / inclusion_probability
    weights = weights / weights.mean()
    start = np.array([1.0, 0.0])
    numbers = start.copy()
    for _ in range(25):
        chance = _sigmoid(design @ numbers)
        slope = design.T @ (weights * (correct - chance)) - (numbers - start)
        curvature = (design * (weights * chance * (1.0 - chance))[:, None]).T @ design + np.eye(2)
        step = np.linalg.solve(curvature, slope)
        numbers = numbers + np.clip(step, -1.0, 1.0)
        if float(np.abs(step).max()) < 1e-9:
            break
    return np.asarray(_sigmoid(numbers[0] * _logit(confidence_all) + numbers[1]))


def responses(strata: Sequence[str], answered: Bools) -> tuple[Floats, list[Response]]:
    """How likely each record was to be answered: the answered share of its stratum.

    An inclusion probability times this is the chance to be selected *and* labeled. Records that nobody answered yet,
    and discarded ones, are taken to be like the others of their stratum; how many there are is in the report.

    :param strata: of n records that people were asked about, such as the frame that drew each.
    :param answered: whether each has a label, shape (n,).
    :returns: the rate for each record, shape (n,), 0 where a stratum has no answer; and a report by stratum.
    """
    names, codes = np.unique(np.array(strata, dtype=str), return_inverse=True)
    asked = np.bincount(codes, minlength=len(names))
    done = np.bincount(codes, weights=answered.astype(np.float64), minlength=len(names))
    report = [Response(str(one), int(a), int(d)) for one, a, d in zip(names, asked, done, strict=True)]
    return np.asarray((done / np.maximum(asked, 1))[codes], dtype=np.float64), report


def pool(estimates: Sequence[Estimate]) -> Estimate:
    """One estimate from several independent ones, weighted by their number of labels.

    :raises ValueError: when there is none.
    """
    n = sum(one.n for one in estimates)
    if not n:
        raise ValueError("there is nothing to pool")
    value = sum(one.n * one.value for one in estimates) / n
    spread = sum(one.n**2 / one.n_effective for one in estimates)
    n_effective = n**2 / spread if spread else math.inf
    low, high = wilson_interval(value, n_effective)
    return Estimate(value, low, high, n, n_effective)


def wilson_interval(share: float, n_effective: float) -> tuple[float, float]:
    """95% Wilson score interval of a share, for any positive effective sample size; a census has no width.

    Source: E. B. Wilson, *Probable inference, the law of succession, and statistical inference*, JASA 22, 1927.
    """
    if math.isinf(n_effective):
        return share, share
    scale = 1.0 + Z**2 / n_effective
    middle = (share + Z**2 / (2.0 * n_effective)) / scale
    half = Z * math.sqrt(share * (1.0 - share) / n_effective + Z**2 / (4.0 * n_effective**2)) / scale
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


@dataclass(frozen=True)
class ClassFigures:
    """What is estimated of one class; ``recall`` is null when no labeled record is of it."""

    prevalence: Estimate
    recall: Estimate | None


def estimate_classes(
    classes: Sequence[str],
    probabilities_all: Floats,
    probabilities: Floats,
    truth: Sequence[str],
    inclusion_probability: Floats,
) -> Mapping[str, ClassFigures]:
    """Prevalence and recall of each class.

    :param classes: K names, the columns of the probabilities; the model says the likeliest one.
    :param probabilities_all: of every record, shape (N, K); selected records included.
    :param probabilities: of the labeled records, shape (n, K).
    :param truth: n labels; some may be of classes the model does not know.
    :param inclusion_probability: as for ``estimate_share``.
    :raises ValueError: as ``estimate_share``.
    """
    said_all, said = probabilities_all.argmax(axis=1), probabilities.argmax(axis=1)
    labels = np.array(truth, dtype=object)
    figures = {}
    for number, name in enumerate(classes):
        present = (labels == name).astype(np.float64)
        all_of, of = probabilities_all[:, number], probabilities[:, number]
        figures[name] = ClassFigures(
            estimate_share(all_of, present, of, inclusion_probability),
            estimate_recall(
                np.where(said_all == number, all_of, 0.0),
                all_of,
                present * (said == number),
                present,
                np.where(said == number, of, 0.0),
                of,
                inclusion_probability,
            ),
        )
    return figures


def _variance(weights: Floats, residuals: Floats, pseudo: Floats, fitted: int = 0) -> float:
    """Of a weighted mean of residuals, with two pseudo-records of the mean weight.

    Residuals are smaller than errors because the mean, and ``fitted`` numbers, were fitted to them. They tell about as
    much as Kish's effective number of equal weights (L. Kish, *Survey Sampling*, 1965), so that is where the degrees of
    freedom come from; intervals use the normal distribution, and the last factor makes their width that of Student's
    (first term of the Cornish-Fisher expansion).
    """
    all_weights = np.append(weights, [float(weights.sum()) / len(weights)] * 2)
    total = float(all_weights.sum())
    unsampled = 1.0 - 1.0 / all_weights
    squares = float((unsampled * (all_weights * np.append(residuals, pseudo)) ** 2).sum())
    effective = total**2 / float((all_weights**2).sum())
    freedom = max(effective - 1.0 - fitted, 1.0)
    return effective / freedom * (1.0 + (Z**2 + 1.0) / (2.0 * freedom)) * squares / total**2


def _interval(value: float, inner: float, variance: float, n: int) -> Estimate:
    n_effective = inner * (1.0 - inner) / variance if variance > 0 else math.inf
    low, high = wilson_interval(value, n_effective)
    return Estimate(value, low, high, n, n_effective)


def _logit(chance: Floats) -> Floats:
    inside = np.clip(chance, 1e-6, 1.0 - 1e-6)
    return np.asarray(np.log(inside / (1.0 - inside)))


def _sigmoid(value: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(value, -40.0, 40.0))))


def _check(control_all: Floats, outcome: Floats, control: Floats, probability: Floats) -> None:
    if not len(control_all) or not len(outcome):
        raise ValueError("an estimate needs a population and a labeled record")
    if not outcome.shape == control.shape == probability.shape:
        raise ValueError(f"shapes differ: {outcome.shape}, {control.shape}, {probability.shape}")
    if probability.min() <= 0 or probability.max() > 1:
        raise ValueError("inclusion probabilities must lie in (0, 1]")
