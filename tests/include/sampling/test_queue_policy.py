"""The size of a batch: what people can do in time, and no more than the queue may hold."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.lake import Lake, keys
from include.project import Project
from include.sampling.queue_policy import QueueState, answers_per_day, batch_size, measured_speed
from tests.include.sampling.test_plan import add_records, plan

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
Make = Callable[..., Project]


@pytest.fixture
def project(make_project: Make) -> Project:
    """Batches of 100, two answers for each record, at most 200 open, five days of work."""
    return make_project(sampling={"batch_size": 100, "max_open_records": 200}, labeling={"min_submitted": 2})


@pytest.mark.parametrize(
    ("state", "size", "code"),
    [
        (QueueState(0), 100, None),  # nothing is known yet
        (QueueState(0, None, 400.0), 100, None),  # 200 records a day: a full batch, not more
        (QueueState(0, None, 20.0), 50, "slow"),  # 10 records a day, 5 days
        (QueueState(30, 1.0, 20.0), 20, "slow"),  # 30 of the 50 wait already
        (QueueState(50, 1.0, 20.0), 0, "slow"),
        (QueueState(120, 1.0, 400.0), 80, "backlog"),  # 80 more are 200
        (QueueState(200, 1.0, 400.0), 0, "backlog"),
        (QueueState(10, 5.0, None), 100, None),  # as old as may be
        (QueueState(10, 20.0, None), 25, "old"),  # four times too old
        (QueueState(10, 20.0, 20.0), 10, "old"),  # slow and old: a quarter of 40
        (QueueState(10, 900.0, None), 0, "old"),
    ],
)
def test_each_limit_counts_and_says_so(project: Project, state: QueueState, size: int, code: str | None):
    allowed = batch_size(project, state, requested=False)
    assert (allowed.size, allowed.code) == (size, code)
    if code is not None:
        assert allowed.why.startswith(f"A batch of {size} instead of 100: " if size else "No batch: ")
    assert f"{state.open_records} " in allowed.why or code is None
    assert allowed.figures()["open_records"] == state.open_records


def test_a_fast_team_gets_more_when_the_project_allows_it(make_project: Make):
    project = make_project(
        sampling={"batch_size": 100, "max_open_records": 900}, queue={"max_batch_size": 400, "target_days": 2}
    )
    sizes = [batch_size(project, QueueState(50, 0.5, speed), requested=False).size for speed in (100, 300, 3000)]
    assert sizes == [50, 250, 400]


@pytest.mark.parametrize(("open_records", "size"), [(0, 100), (150, 50), (200, 0)])
def test_a_requested_batch_knows_only_the_limit_of_open_records(project: Project, open_records: int, size: int):
    assert batch_size(project, QueueState(open_records, 90.0, 2.0), requested=True).size == size


@given(
    st.integers(0, 400),
    st.none() | st.floats(0, 100),
    st.none() | st.floats(0, 1000),
    st.booleans(),
    st.integers(0, 50),
)
def test_a_batch_never_overfills_the_queue_and_never_grows_with_it(
    open_records: int, age: float | None, speed: float | None, requested: bool, more: int
):
    project = Project.model_validate(BARE)
    allowed = batch_size(project, QueueState(open_records, age, speed), requested=requested)
    assert 0 <= allowed.size <= project.sampling.batch_size
    assert allowed.size == 0 or open_records + allowed.size <= project.sampling.max_open_records
    assert batch_size(project, QueueState(open_records + more, age, speed), requested=requested).size <= allowed.size
    assert (allowed.code is None) == (allowed.size == project.sampling.batch_size)
    json.dumps(allowed.figures(), allow_nan=False)


BARE: dict[str, Any] = {
    "name": "mails",
    "title": "Mails",
    "source": {"prefix": "mails/", "fields": {"text": {"title": "Text"}}},
    "labeling": {
        "guidelines": "Decide whether the text is spam or not.",
        "questions": [{"name": "kind", "type": "label", "title": "?", "labels": {"spam": "Spam", "ham": "Ham"}}],
    },
    "sampling": {"batch_size": 100, "max_open_records": 200},
}


def given_at(per_week: list[int], *, workdays: int = 5) -> list[datetime]:
    """Answers of whole weeks, the latest first, spread over the working days of each."""
    return [
        NOW - timedelta(weeks=week, days=number % workdays + 1, minutes=number)
        for week, count in enumerate(per_week)
        for number in range(count)
    ]


def speed(times: list[datetime], *, window_days: int = 28) -> float | None:
    return answers_per_day(times, window_days=window_days, now=NOW)


def test_the_speed_is_that_of_a_usual_week_whatever_the_holidays():
    assert speed(given_at([70, 70, 70, 70])) == pytest.approx(10.0)
    assert speed(given_at([0, 70, 70, 70])) == pytest.approx(10.0)  # a week off
    assert speed(given_at([0, 0, 70, 70])) == pytest.approx(10.0)  # two
    assert speed(given_at([5, 70, 70, 70])) == pytest.approx(10.0)  # nearly a week off
    assert speed(given_at([700, 70, 70, 70])) == pytest.approx(10.0)  # one busy week


def test_a_beginning_is_no_speed_yet_and_a_first_week_is_measured_by_its_days():
    assert speed([]) is None
    assert speed(given_at([300], workdays=4)) is None
    assert speed([NOW - timedelta(days=day, hours=1) for day in range(5) for _ in range(20)]) == pytest.approx(
        100 / (4 + 1 / 24)
    )
    began_midweek = [*given_at([70]), *(NOW - timedelta(days=8, minutes=one) for one in range(10))]
    assert speed(began_midweek) == pytest.approx(10.0)


def test_what_is_older_than_the_window_or_not_yet_given_does_not_count():
    old = [NOW - timedelta(days=29 + day) for day in range(20)]
    assert speed([*old, NOW + timedelta(hours=1)]) is None
    assert speed([*old, *given_at([70, 70])]) == pytest.approx(10.0)


@given(st.lists(st.floats(0, 60), max_size=80), st.integers(7, 60))
def test_a_speed_is_positive_and_no_more_than_what_was_done(days: list[float], window_days: int):
    found = speed([NOW - timedelta(days=day) for day in days], window_days=window_days)
    assert found is None or 0 < found <= len(days)


def add_answers(lake: Lake, project: Project, times: list[datetime], *, name: str, **columns: Any) -> None:
    rows = []
    for number, at in enumerate(times):
        record_id = keys.record_id(project.name, f"{name}-{number}")
        row = {
            "project": project.name,
            "shard": keys.shard(record_id),
            "record_id": record_id,
            "content_hash": "c",
            "question": "kind",
            "annotator": "ana",
            "version_at": at,
            "status": "submitted",
        }
        rows.append({**row, **columns})
    lake.append("responses", rows, app_id=f"answers/{name}")


def test_each_answer_counts_once_when_it_was_first_given(lake: Lake, project: Project):
    times = given_at([70, 70, 70, 70])
    add_answers(lake, project, times, name="a")
    add_answers(lake, project, [NOW] * len(times), name="a", response_id="edited")  # the same answers, edited today
    add_answers(lake, project, given_at([500]), name="gone", status="deleted")
    assert measured_speed(project, lake, now=NOW) == pytest.approx(10.0)
    add_answers(lake, project, given_at([70, 70, 70, 70]), name="b", status="discarded")  # work, too
    assert measured_speed(project, lake, now=NOW) == pytest.approx(20.0)


def test_a_shrunk_batch_and_a_skipped_one_leave_the_figures_in_decisions(lake: Lake, project: Project):
    add_records(lake, project, 300)
    add_answers(lake, project, given_at([140] * 4), name="a")  # 10 records a day
    first = plan(project, lake, now=NOW, moment=NOW, open_records=20, median_age_days=1.0)
    assert (first["outcome"], first["selected"]) == ("planned", 30)
    tomorrow = NOW + timedelta(days=1)
    later = plan(project, lake, now=tomorrow, moment=tomorrow, open_records=50, median_age_days=2.0)
    assert later["outcome"] == "skipped"
    decisions = lake.read("decisions", project.name).sort("decided_at").to_dicts()
    assert [row["outcome"] for row in decisions] == ["yes", "no"]
    assert "A batch of 30 instead of 100: people finish 10 records a day and 20 wait" in decisions[0]["why"]
    assert decisions[1]["why"].startswith("No batch: people finish 10 records a day and 50 wait; 5 days of work may.")
    shrunk, skipped = (json.loads(row["inputs_json"]) for row in decisions)
    assert shrunk["queue"] == {
        **{"size": 30, "limited_by": "slow", "open_records": 20},
        **{"median_age_days": 1.0, "answers_per_day": 20.0},
    }
    assert (skipped["size"], skipped["open_records"], skipped["median_age_days"]) == (0, 50, 2.0)


def test_withdrawn_records_can_be_selected_again_unless_somebody_answered_after_all(lake: Lake, make_project: Make):
    project = make_project(sampling={"batch_size": 40, "mixture": {"random": 1.0}})
    add_records(lake, project, 40)
    first = plan(project, lake, now=NOW, moment=NOW)
    assert first["selected"] == 40
    chosen = lake.read("selections", project.name).sort("record_id")
    columns = ["project", "shard", "record_id", "batch_id", "content_hash"]
    withdrawn = chosen.select(columns).head(10).to_dicts()
    lake.append("withdrawals", [{**row, "withdrawn_at": NOW} for row in withdrawn], app_id="test/withdrawn")
    answered = {**withdrawn[0], "question": "kind", "annotator": "ana", "version_at": NOW, "status": "submitted"}
    lake.append("responses", [answered], app_id="test/answer")
    tomorrow = NOW + timedelta(days=1)
    again = plan(project, lake, now=tomorrow, moment=tomorrow)
    rows = lake.read("selections", project.name).filter(batch_id=again["batch_id"])
    assert set(rows["record_id"]) == {row["record_id"] for row in withdrawn[1:]}
    before = dict(chosen.select("record_id", "split").iter_rows())
    assert all(before[row["record_id"]] == row["split"] for row in rows.iter_rows(named=True))
    assert plan(project, lake, now=NOW + timedelta(days=2), moment=NOW + timedelta(days=2))["outcome"] == "skipped"
