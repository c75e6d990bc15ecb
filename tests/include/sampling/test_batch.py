"""A whole batch from a real lake: every kind of strategy, read in chunks, and what selections must know of a record."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from include.lake import Lake
from include.lake.keys import canonical_json, content_hash, record_id, shard
from include.project import Project
from include.sampling import batch, candidates
from include.sampling.batch import entries_of, select
from include.sampling.candidates import read_pool
from include.sampling.strategies import Margin, Random
from tests.include.conftest import ProjectFactory

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
LANGUAGES = ["de", "en", "en", "en"]
EMBEDDER = "test-8"


class Corpus:
    """Records with metadata, predictions of model ``m1``, answers of production and vectors, all from one seed."""

    def __init__(self, project: Project, lake: Lake, count: int) -> None:
        self.project, self.lake = project, lake
        self.ids = [record_id(project.name, str(number)) for number in range(count)]
        random = np.random.default_rng(3)
        self.spam = random.beta(0.4, 0.4, count)
        self.heap = random.integers(0, 4, count)
        self.vectors = np.eye(8, dtype=np.float32)[self.heap] + 0.01 * random.normal(size=(count, 8)).astype(np.float32)

    def write(self, table: str, rows: list[dict[str, Any]], *, name: str = "1") -> None:
        common = {"project": self.project.name}
        filled = [
            {
                **common,
                "shard": shard(row["record_id"]),
                "content_hash": content_hash({"text": row["record_id"]}),
                **row,
            }
            for row in rows
        ]
        self.lake.append(table, filled, app_id=f"test/{table}/{name}")

    def records(self) -> None:
        self.write(
            "records",
            [
                {
                    "record_id": one,
                    "revision": 1,
                    "fields_json": canonical_json({"text": one}),
                    "metadata_json": canonical_json({"lang": LANGUAGES[number % 4], "complaint": number % 50 == 0}),
                }
                for number, one in enumerate(self.ids)
            ],
        )

    def predictions(self, *, origin: str = "batch") -> None:
        spam = self.spam if origin == "batch" else 1.0 - self.spam
        self.write(
            "predictions",
            [
                {
                    "record_id": one,
                    "model_version": "m1",
                    "origin": origin,
                    "label": "spam" if p > 0.5 else "ham",
                    "confidence": max(p, 1 - p),
                    "margin": abs(2 * p - 1),
                    "probabilities_json": canonical_json({"ham": round(1 - p, 6), "spam": round(p, 6)}),
                    "entropy": float(-(p * np.log2(p + 1e-12) + (1 - p) * np.log2(1 - p + 1e-12)).clip(-1, 0)),
                    "classes_json": canonical_json(["ham", "spam"]),
                    "probabilities": [1 - p, p],
                    "predicted_at": NOW,
                }
                for one, p in zip(self.ids, spam.tolist(), strict=True)
            ],
            name=origin,
        )

    def embeddings(self, count: int | None = None) -> None:
        self.lake.files.create_json(f"embedders/{self.project.name}.json", {"name": EMBEDDER, "dimensions": 8})
        rows = zip(self.ids[:count], self.vectors[:count].tolist(), strict=True)
        self.write("embeddings", [{"record_id": one, "embedder": EMBEDDER, "vector": vector} for one, vector in rows])

    def asked(self, ids: list[str], *, at: datetime = NOW - timedelta(days=2), batch_id: str = "mails/cycle/0") -> None:
        rows = [{"record_id": one, "batch_id": batch_id, "tier": 0, "split": "train", "selected_at": at} for one in ids]
        self.write("selections", rows, name=batch_id)

    def answered(self, answers: dict[str, list[str]]) -> None:
        question = {"question": "kind", "schema_version": 1}
        self.write(
            "responses",
            [
                {"record_id": one, **question, "annotator": f"a{n}", "version_at": NOW, "status": "submitted"}
                | {"value_json": json.dumps(value)}
                for one, values in answers.items()
                for n, value in enumerate(values)
            ],
        )
        self.write(
            "labels",
            [
                {"record_id": one, **question, "revision": 1, "status": "final", "value_json": json.dumps(values[0])}
                | {"decided_at": NOW - timedelta(days=1)}
                for one, values in answers.items()
            ],
        )

    def select(self, size: int = 60, *, model_version: str | None = "m1", cycle: str = "c1") -> list[dict[str, Any]]:
        return select(read_pool(self.project, self.lake), cycle=cycle, model_version=model_version, size=size)


def corpus_of(make_project: ProjectFactory, lake: Lake, mixture: list[dict[str, Any]], count: int = 400) -> Corpus:
    project = make_project(
        source={"metadata": {"lang": {"title": "Language"}, "complaint": {"title": "Complaint"}}},
        sampling={"mixture": mixture, "blind_share": 0.2},
    )
    corpus = Corpus(project, lake, count)
    corpus.records()
    return corpus


EVERYTHING: list[dict[str, Any]] = [
    {"strategy": "stratified", "share": 0.1, "options": {"by": "lang"}},
    {"strategy": "random", "share": 0.2},
    {"strategy": "margin", "share": 0.1},
    {"strategy": "entropy", "share": 0.1},
    {"strategy": "rare_class", "share": 0.1},
    {"strategy": "stale", "share": 0.1, "options": {"by": "lang"}},
    {"strategy": "production", "share": 0.1, "options": {"flag": "complaint"}},
    {"strategy": "hybrid", "share": 0.1},
    {"strategy": "diverse", "share": 0.1},
]


@pytest.fixture
def everything(make_project: ProjectFactory, lake: Lake) -> Corpus:
    corpus = corpus_of(make_project, lake, EVERYTHING)
    corpus.predictions()
    corpus.predictions(origin="inference")
    corpus.embeddings()
    return corpus


def test_every_strategy_fills_its_places_and_selections_know_what_estimates_need(everything: Corpus) -> None:
    rows = everything.select()
    assert len({row["record_id"] for row in rows}) == len(rows) == 60
    names = [row["strategy"] for row in rows]
    assert {name: names.count(name) for name in set(names)} == {
        line["strategy"]: round(60 * line["share"]) for line in EVERYTHING
    }
    for row in rows:
        certain = row["strategy"] in ("hybrid", "diverse")
        figures = [row[name] for name in ("weight", "threshold", "frame_probability", "inclusion_probability")]
        assert all((figure is None) == certain for figure in figures)
        assert certain or 0 < row["frame_probability"] <= row["inclusion_probability"] <= 1
        assert (row["cell"] is not None) == (row["strategy"] in ("stratified", "stale"))
        assert (row["suggestion"] is None) == row["blind"]
        assert row["model_version"] == "m1"
        assert row["reason"]
    assert sorted(row["cell"] for row in rows if row["strategy"] == "stratified") == ["de"] * 3 + ["en"] * 3
    assert {row["strategy"] for row in rows if row["split"] == "holdout"} == {"random"}
    random_rows = [row for row in rows if row["strategy"] == "random"]
    assert len({row["frame_probability"] for row in random_rows}) == 1
    assert np.mean([row["score"] for row in rows if row["strategy"] == "margin"]) > np.mean(
        [row["score"] for row in random_rows]
    )


def test_the_same_cycle_gives_the_same_batch_however_it_is_read(
    everything: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = everything.select()
    monkeypatch.setattr(candidates, "CHUNK_RECORDS", 30)
    assert len(list(read_pool(everything.project, everything.lake).chunks())) > 10
    assert everything.select() == at_once
    assert {row["record_id"] for row in everything.select(cycle="c2")} != {row["record_id"] for row in at_once}


def test_stored_probabilities_give_unbiased_totals(everything: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many cycles, the sum of 1 / pi estimates the number of candidates, and of any part of them."""
    pool = read_pool(everything.project, everything.lake)
    entries = entries_of(everything.project, scored=True, embedded=True)
    needs = {name for entry in entries for name in entry.strategy.needs}
    parts = []
    for chunk in pool.chunks():
        rows, found = candidates.read_candidates(pool, *chunk, needs=needs, model_version="m1", known={})
        parts.append(batch.part_of(entries, found, rows["bits"].to_numpy()))
    spam = dict(zip((int(one[:16], 16) for one in everything.ids), everything.spam.tolist(), strict=True))
    totals = []
    for cycle in range(400):
        drawn = batch.draw(entries, parts, size=60, seed_of=lambda n, c=cycle: batch.seed_bits(c, n), floor_share=0.1)
        weights = {one.id_bits: 1 / one.inclusion_probability for one in drawn.chosen}
        totals.append([sum(weights.values()), sum(w * spam[one] for one, w in weights.items())])
    error = np.std(totals, axis=0) / np.sqrt(len(totals))
    assert (np.abs(np.mean(totals, axis=0) - [400, everything.spam.sum()]) < 4 * error).all()


def test_without_a_model_what_needs_one_is_a_diverse_start(make_project: ProjectFactory, lake: Lake) -> None:
    mixture = [{"strategy": "random", "share": 0.5}, {"strategy": "hybrid", "share": 0.5}]
    corpus = corpus_of(make_project, lake, mixture)
    corpus.embeddings()
    rows = corpus.select(8, model_version=None)
    assert sorted(row["strategy"] for row in rows) == ["cold_start"] * 4 + ["random"] * 4
    start = [row for row in rows if row["strategy"] == "cold_start"]
    assert {corpus.heap[corpus.ids.index(row["record_id"])] for row in start} == {0, 1, 2, 3}
    assert {row["inclusion_probability"] for row in start} == {None}
    assert {row["suggestion"] for row in rows} == {None}


def test_places_of_records_without_a_vector_are_filled_by_the_order_of_the_shortlist(
    make_project: ProjectFactory, lake: Lake
) -> None:
    mixture = [{"strategy": "random", "share": 0.2}, {"strategy": "hybrid", "share": 0.8}]
    corpus = corpus_of(make_project, lake, mixture, count=40)
    corpus.predictions()
    corpus.embeddings(3)
    rows = corpus.select(20)
    assert len({row["record_id"] for row in rows}) == len(rows) == 20


def test_without_vectors_there_are_probabilities(make_project: ProjectFactory) -> None:
    mixture = {"random": 0.2, "hybrid": 0.4, "diverse": 0.4}
    project = make_project(sampling={"mixture": mixture})
    plain = {one.name: type(one.strategy) for one in entries_of(project, scored=True, embedded=False)}
    assert plain == {"random": Random, "hybrid": Margin, "diverse": Random}


def test_another_answer_for_an_old_record_competes_with_new_ones(make_project: ProjectFactory, lake: Lake) -> None:
    mixture = [{"strategy": "random", "share": 0.5}, {"strategy": "relabel", "share": 0.5}]
    corpus = corpus_of(make_project, lake, mixture, count=60)
    corpus.spam[:4], corpus.spam[4:] = 0.5, 0.97  # the model is sure of all but those people disagree about
    corpus.predictions()
    torn, agreed, waiting = corpus.ids[:4], corpus.ids[4:12], corpus.ids[12:14]
    corpus.asked([*torn, *agreed, *waiting])
    corpus.asked(waiting, at=NOW, batch_id="mails/audit/again")  # they wait for people already
    answers = {one: ["spam", "ham"] for one in torn} | {one: ["spam", "spam", "spam"] for one in agreed}
    corpus.answered({**answers, **{one: ["ham", "spam"] for one in waiting}})
    rows = corpus.select(16)
    again = [row for row in rows if row["tier"] == 1]
    assert again
    assert {row["record_id"] for row in again} <= {*torn, *agreed}
    assert {row["record_id"] for row in again} & set(torn)
    assert all(row["strategy"] == "relabel" and row["blind"] and row["split"] == "train" for row in again)
    assert all(row["inclusion_probability"] is None for row in rows if row["strategy"] == "relabel")
    assert not {row["record_id"] for row in rows if row["tier"] == 0} & {*torn, *agreed, *waiting}


def test_a_withdrawn_record_may_be_chosen_again_in_its_split(make_project: ProjectFactory, lake: Lake) -> None:
    corpus = corpus_of(make_project, lake, [{"strategy": "random", "share": 1.0}], count=10)
    corpus.asked(corpus.ids)
    assert read_pool(corpus.project, lake).size == 0
    withdrawn = [{"record_id": one, "batch_id": "mails/cycle/0", "why": "old"} for one in corpus.ids[:4]]
    corpus.write("withdrawals", withdrawn)
    rows = corpus.select(10, model_version=None)
    assert {row["record_id"] for row in rows} == set(corpus.ids[:4])
    assert {row["split"] for row in rows} == {"train"}


def test_consent_that_goes_while_the_batch_is_drawn_is_respected(make_project: ProjectFactory, lake: Lake) -> None:
    corpus = corpus_of(make_project, lake, [{"strategy": "random", "share": 1.0}], count=10)
    pool = read_pool(corpus.project, lake)
    corpus.write("records", [{"record_id": corpus.ids[0], "revision": 2, "consent": False}], name="2")
    chosen = select(pool, cycle="c", model_version=None, size=10)
    assert {row["record_id"] for row in chosen} == set(corpus.ids[1:])


def test_reasons_are_words_for_people(everything: Corpus) -> None:
    reasons = {row["strategy"]: row["reason"] for row in everything.select()}
    assert reasons["hybrid"].startswith("The model is unsure: ")
    assert reasons["stratified"] in ("One of each kind: lang de", "One of each kind: lang en")
    assert reasons["random"] == "Chosen at random, to measure quality"
    assert pl.Series(list(reasons.values())).str.len_chars().max() < 120
