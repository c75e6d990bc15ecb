"""What scripted annotators answer: accuracy, habits and determinism, without a server."""

from collections import Counter
from dataclasses import replace

import pytest

from include.lake.keys import record_id
from standalone.annotators import CONFUSED_WITH, PERSONAS, Persona, decide
from standalone.demo_data import addresses
from standalone.demo_data.messages import CLASSES

TEXT = "211 W. Wacker Dr., Ste 300, Chicago"
SPANS = [
    {"start": 0, "end": 3, "label": "house_number"},
    {"start": 4, "end": 17, "label": "street"},
    {"start": 19, "end": 26, "label": "unit"},
    {"start": 28, "end": 35, "label": "city"},
]
LABELS = list(addresses.MERGED)
RECORDS = [record_id("email_triage", str(n)) for n in range(8000)]


def test_scripted_people_are_named_as_such():
    assert [persona.username for persona in PERSONAS] == ["scripted_ana", "scripted_ben", "scripted_chen"]


@pytest.mark.parametrize("persona", PERSONAS, ids=lambda persona: persona.name)
def test_accuracy_and_discards_are_as_configured(persona: Persona):
    decisions = [decide(persona, one, "linux_users_ie", CLASSES, "", 17) for one in RECORDS]
    given = [decision.answer for decision in decisions if decision.answer is not None]
    right = sum(answer == "linux_users_ie" for answer in given)
    assert right / len(given) == pytest.approx(persona.accuracy, abs=0.02)
    assert (len(RECORDS) - len(given)) / len(RECORDS) == pytest.approx(persona.discard_share, abs=0.01)
    slips = [decision for decision in decisions if decision.first is not None]
    assert len(slips) / len(RECORDS) == pytest.approx(persona.slip_share, abs=0.015)
    assert all(decision.first != decision.answer for decision in slips)


def test_answers_depend_on_seed_record_and_person_only():
    ana, ben = PERSONAS[:2]
    answers = {
        (name, seed): [decide(who, one, "spam", CLASSES, "", seed) for one in RECORDS]
        for name, who in (("ana", ana), ("ben", ben))
        for seed in (17, 18)
    }
    assert answers["ana", 17] == [decide(ana, one, "spam", CLASSES, "", 17) for one in RECORDS]
    assert answers["ana", 17] != answers["ana", 18]
    assert answers["ana", 17] != answers["ben", 17]


def test_mistakes_go_where_people_err():
    chen = replace(PERSONAS[2], accuracy=0.0, discard_share=0.0)
    wrong = Counter(decide(chen, one, "newsletter", CLASSES, "", 17).answer for one in RECORDS)
    assert set(wrong) == {"spam", "news_feed", "chatter_fork"}
    assert wrong["chatter_fork"] > wrong["spam"] > wrong["news_feed"]


def test_only_labels_of_the_question_are_used():
    for persona in PERSONAS:
        blind = replace(persona, accuracy=0.0, discard_share=0.0)
        answers = {decide(blind, one, "no", ["yes", "no"], "", 17).answer for one in RECORDS[:100]}
        assert answers == {"yes"}


def test_every_class_has_plausible_confusions():
    for labels in (list(CLASSES), LABELS):
        for label in labels:
            assert CONFUSED_WITH[label]
            assert label not in CONFUSED_WITH[label]
            assert set(CONFUSED_WITH[label]) <= set(labels)


def test_span_mistakes_are_slips_that_argilla_accepts():
    ben = replace(PERSONAS[1], accuracy=0.0, discard_share=0.0)
    before = [dict(span) for span in SPANS]
    kinds = Counter()
    for one in RECORDS[:400]:
        answer = decide(ben, one, SPANS, LABELS, TEXT, 17).answer
        assert answer != SPANS
        assert all(0 <= span["start"] < span["end"] <= len(TEXT) for span in answer)
        assert all(a["end"] <= b["start"] for a, b in zip(answer, answer[1:], strict=False))
        assert {span["label"] for span in answer} <= set(LABELS)
        kinds[
            "missing" if len(answer) < 4 else "label" if [s["end"] for s in answer] == [3, 17, 26, 35] else "edge"
        ] += 1
    assert set(kinds) == {"missing", "label", "edge"}
    assert before == SPANS
