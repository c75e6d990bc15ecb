"""From answers to labels: the newest submitted answer of each person on the current content, by vote.

A label question takes a strict majority, or, where the project says ``aggregation: reliability``, the likeliest value
under the model of annotators that all answers together support (``include.labeling.aggregation.choice``). A span
question keeps the spans that more than half of the people marked exactly. Nothing is decided silently: at or below the
project's agreement floor, without a majority, or below its posterior floor, the label is ``needs_adjudication`` and has
no value.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from include.labeling.aggregation.choice import choose
from include.labeling.aggregation.votes import encode
from include.labeling.agreement import (
    Agreement,
    Span,
    alpha_with_interval,
    mean_pairwise_f1,
    mean_with_interval,
    value_counts,
)
from include.lake import Lake
from include.lake.keys import canonical_json, digest, shard
from include.project import Project, Question

log = logging.getLogger(__name__)

MAJORITY = "majority"
FINAL, NEEDS_ADJUDICATION, RETRACTED = "final", "needs_adjudication", "retracted"

LabelKey = tuple[str, str]  # record id, content hash
Answers = dict[str, str]  # annotator -> value_json


@dataclass(frozen=True)
class Verdict:
    """What the answers of one record come to. ``value_json`` is None unless the label is final."""

    status: str
    value_json: str | None
    agreement: float | None
    posterior: float | None
    method: str = MAJORITY


def update_labels(project: Project, lake: Lake, *, now: datetime) -> dict[str, Any]:
    """Append a revision of every label whose answers or rules changed, and the agreement of all present answers.

    :returns: ``{"final", "needs_adjudication", "retracted", "unchanged", "agreement", "agreement_n"}``: labels written
        by status, and Krippendorff's alpha (span questions: mean pairwise F1), None when undefined.
    """
    answers = _current_answers(project, lake)
    labels = _newest_labels(project, lake)
    counts: dict[str, Any] = dict.fromkeys((FINAL, NEEDS_ADJUDICATION, RETRACTED, "unchanged"), 0)
    rows = []
    verdicts = _verdicts(project, answers)
    for key in sorted({*answers, *labels}):
        given, before, verdict = answers.get(key, {}), labels.get(key), verdicts.get(key)
        if verdict is None and (before is None or before["status"] == RETRACTED):
            continue  # no label yet, or withdrawn already
        row = _row(project, key, given, verdict, before, now)
        if before is not None and all(before[name] == row[name] for name in ("status", "value_json", "answers_digest")):
            counts["unchanged"] += 1
            continue
        rows.append(row)
        counts[row["status"]] += 1
    lake.append("labels", rows, app_id=_app_id(project, rows))
    agreement = _measure(project, lake, answers, now)
    counts["agreement"] = None if agreement is None else agreement.value
    counts["agreement_n"] = 0 if agreement is None else agreement.n
    return counts


def _verdicts(project: Project, answers: dict[LabelKey, Answers]) -> dict[LabelKey, Verdict]:
    """The verdict of every record with enough answers."""
    rules = project.labeling
    enough = {key: given for key, given in answers.items() if len(given) >= rules.min_submitted}
    if rules.aggregation == "reliability" and answers:
        return {key: verdict for key, verdict in _by_reliability(project, answers).items() if key in enough}
    return {key: decide(project.question, list(given.values()), rules.agreement_floor) for key, given in enough.items()}


def _by_reliability(project: Project, answers: dict[LabelKey, Answers]) -> dict[LabelKey, Verdict]:
    """All answers judged together: also those to records that wait for more say how reliable somebody is."""
    classes = [canonical_json(name) for name in project.question.labels]
    given = ((key, who, said) for key, by in sorted(answers.items()) for who, said in sorted(by.items()))
    votes, names = encode(given, classes)
    choice = choose(votes)
    log.info("How answers were weighed: %s.", choice.why)
    counts, verdicts = votes.counts(), {}
    for item, key in enumerate(sorted(answers)):
        best = int(choice.fit.posterior[item].argmax())
        posterior, agreement = float(choice.fit.posterior[item, best]), float(counts[item, best] / counts[item].sum())
        sure = posterior >= project.labeling.posterior_floor and agreement > project.labeling.agreement_floor
        verdicts[key] = Verdict(
            FINAL if sure else NEEDS_ADJUDICATION,
            names.classes[best] if sure else None,
            agreement,
            posterior if sure else None,
            choice.fit.method,
        )
    return verdicts


def decide(question: Question, values: Sequence[str], floor: float) -> Verdict:
    """The verdict of one or more answers.

    :param values: canonical JSON of each answer, at least one.
    :param floor: agreement at or below this share needs adjudication.
    """
    return _decide_label(question, values, floor) if question.type == "label" else _decide_spans(values, floor)


def _decide_label(question: Question, values: Sequence[str], floor: float) -> Verdict:
    """Strict majority. The posterior is the share with one more answer spread evenly over the K labels:
    (c + 1/K) / (n + 1), the Dirichlet mean under Perks' prior.
    """
    value, count = Counter(values).most_common(1)[0]
    agreement = count / len(values)
    if 2 * count <= len(values) or agreement <= floor:
        return Verdict(NEEDS_ADJUDICATION, None, agreement, None)
    return Verdict(FINAL, value, agreement, (count + 1 / len(question.labels)) / (len(values) + 1))


def _decide_spans(values: Sequence[str], floor: float) -> Verdict:
    """Exact-span vote. The posterior is the mean, over all spans anyone marked, of the winning side's share with one
    more answer split evenly: (c + 1/2) / (n + 1); without any span, the same share for "nothing to mark".
    """
    answers = [_spans(value) for value in values]
    n = len(answers)
    agreement = mean_pairwise_f1(answers)
    if agreement <= floor:
        return Verdict(NEEDS_ADJUDICATION, None, agreement, None)
    votes = Counter(span for answer in answers for span in answer)
    kept = sorted(span for span, count in votes.items() if 2 * count > n)
    shares = [(max(count, n - count) + 0.5) / (n + 1) for count in votes.values()] or [(n + 0.5) / (n + 1)]
    value = [{"start": start, "end": end, "label": label} for start, end, label in kept]
    return Verdict(FINAL, canonical_json(value), agreement, sum(shares) / len(shares))


def _spans(value_json: str) -> frozenset[Span]:
    return frozenset((one["start"], one["end"], one["label"]) for one in json.loads(value_json))


def _current_answers(project: Project, lake: Lake) -> dict[LabelKey, Answers]:
    """Newest submitted answer per person, on records' current content only."""
    journal = lake.read(
        "responses",
        project.name,
        columns=["record_id", "content_hash", "annotator", "status", "value_json", "version_at"],
        where=(pl.col("question") == project.question.name)
        & (pl.col("schema_version") == project.labeling.schema_version),
    )
    if journal.is_empty():
        return {}
    current = lake.read(
        "records",
        project.name,
        columns=["record_id", "content_hash"],
        where=pl.col("record_id").is_in(journal["record_id"].unique().to_list()),
    )
    newest = (
        journal.sort("version_at")
        .unique(subset=["record_id", "content_hash", "annotator"], keep="last", maintain_order=True)
        .filter((pl.col("status") == "submitted") & pl.col("value_json").is_not_null())
        .join(current, on=["record_id", "content_hash"], how="semi")
    )
    answers: dict[LabelKey, Answers] = defaultdict(dict)
    for row in newest.iter_rows(named=True):
        answers[row["record_id"], row["content_hash"]][row["annotator"]] = row["value_json"]
    return dict(answers)


def _newest_labels(project: Project, lake: Lake) -> dict[LabelKey, dict[str, Any]]:
    rows = lake.read(
        "labels",
        project.name,
        columns=["record_id", "content_hash", "revision", "status", "value_json", "answers_digest"],
        where=(pl.col("question") == project.question.name)
        & (pl.col("schema_version") == project.labeling.schema_version),
    )
    return {(row["record_id"], row["content_hash"]): row for row in rows.iter_rows(named=True)}


def _answers_digest(answers: Answers) -> str:
    """Equal for equal answers of the same people, in any order."""
    return digest("answers", *(part for pair in sorted(answers.items()) for part in pair))


def _row(
    project: Project,
    key: LabelKey,
    answers: Answers,
    verdict: Verdict | None,
    before: dict[str, Any] | None,
    now: datetime,
) -> dict[str, Any]:
    """The next revision of a label; without a verdict it is retracted."""
    record_id, content_hash = key
    return {
        "project": project.name,
        "shard": shard(record_id),
        "record_id": record_id,
        "content_hash": content_hash,
        "question": project.question.name,
        "schema_version": project.labeling.schema_version,
        "revision": 1 if before is None else before["revision"] + 1,
        "value_json": verdict and verdict.value_json,
        "posterior": verdict and verdict.posterior,
        "method": verdict.method if verdict else MAJORITY,
        "answers": len(answers),
        "agreement": verdict and verdict.agreement,
        "status": verdict.status if verdict else RETRACTED,
        "answers_digest": _answers_digest(answers),
        "decided_at": now,
    }


def _app_id(project: Project, rows: Sequence[dict[str, Any]]) -> str:
    names = ("record_id", "content_hash", "question", "schema_version", "revision", "answers_digest")
    return f"labels/{project.name}/{digest(*('|'.join(str(row[name]) for name in names) for row in rows))}"


def _measure(project: Project, lake: Lake, answers: dict[LabelKey, Answers], now: datetime) -> Agreement | None:
    """Agreement over all records with two or more answers; one ``metrics`` row per state of the answers."""
    shared = [list(given.values()) for _, given in sorted(answers.items()) if len(given) >= 2]
    cycle = digest(*(digest(*key, _answers_digest(given)) for key, given in sorted(answers.items())))
    seed = int(cycle[:8], 16)
    if project.question.type == "label":
        name, method = "agreement_alpha", "Krippendorff alpha, nominal; 95% jackknife over records"
        agreement = alpha_with_interval(value_counts(shared)) if shared else None
    else:
        name, method = "agreement_span_f1", "mean pairwise exact-span F1; 95% bootstrap over records"
        f1 = [mean_pairwise_f1([_spans(value) for value in values]) for values in shared]
        agreement = mean_with_interval(f1, seed=seed)
    if agreement is not None:
        row = {
            "project": project.name,
            "name": name,
            "cycle": cycle,
            "slice": "all",
            "value": agreement.value,
            "low": agreement.low,
            "high": agreement.high,
            "n": agreement.n,
            "method": method,
            "measured_at": now,
        }
        lake.append("metrics", [row], app_id=f"metrics/{project.name}/{name}/{cycle}")
    return agreement
