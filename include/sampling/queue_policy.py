"""How large the next batch may be: what people can do in time, and no more than the queue may hold.

Three limits, the least one counts:

- **Speed**: after the batch, at most ``queue.target_days`` of work may wait, at the measured speed. A fast team gets
  batches of up to ``queue.max_batch_size``. Without a measured speed the limit is ``sampling.batch_size``.
- **Age**: when the records that wait have waited for longer than ``target_days``, the batch shrinks in proportion.
- **Outstanding work**: never more than ``sampling.max_open_records``.

A batch that somebody asks for by a request id only knows the last one: the person knows why.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from include.lake import Lake
from include.project import Project

LEAST_DAYS = 5  # days with answers; fewer are a beginning, not a speed
WEEK_DAYS = 7


@dataclass(frozen=True)
class QueueState:
    """What waits, and how fast people are.

    :param open_records: records that wait for people.
    :param median_age_days: how long they have waited; null when nothing waits, or it is not known.
    :param answers_per_day: of all people together, on a usual day; null while it cannot be measured.
    """

    open_records: int
    median_age_days: float | None = None
    answers_per_day: float | None = None


@dataclass(frozen=True)
class BatchSize:
    """How many records to ask about now, and one sentence why.

    :param code: null for a full batch; else what limits it: ``backlog``, ``slow`` or ``old``.
    """

    size: int
    code: str | None
    why: str
    state: QueueState

    def figures(self) -> dict[str, Any]:
        """What the decision was made from, for ``decisions``."""
        return {"size": self.size, "limited_by": self.code, **asdict(self.state)}


def batch_size(project: Project, state: QueueState, *, requested: bool) -> BatchSize:
    """The size of the next batch; 0: none.

    :param requested: somebody asked for an extra batch.
    """
    rules, queue = project.sampling, project.queue
    size, code, why = rules.batch_size, None, f"A full batch of {rules.batch_size}."
    if not requested and state.answers_per_day is not None:
        records_per_day = state.answers_per_day / project.labeling.min_submitted
        room = math.floor(records_per_day * queue.target_days) - state.open_records
        size = min(queue.max_batch_size or rules.batch_size, max(0, room))
        pace = f"people finish {records_per_day:.3g} records a day and {state.open_records} wait"
        why = f"A batch of {size}: {pace}."
        if size < rules.batch_size:
            code = "slow"
            why = f"{_size(size, rules.batch_size)}: {pace}; {queue.target_days:g} days of work may."
    age = state.median_age_days
    if not requested and age is not None and age > queue.target_days and size:
        size = math.floor(size * queue.target_days / age)
        code = "old"
        why = (
            f"{_size(size, rules.batch_size)}: half of the {state.open_records} records that wait have waited for "
            f"{age:.3g} days or more, {queue.target_days:g} are meant."
        )
    if state.open_records >= rules.max_open_records:
        size, code = 0, "backlog"
        why = f"No batch: {state.open_records} records wait for people, the limit is {rules.max_open_records}."
    elif size > rules.max_open_records - state.open_records:
        size, code = rules.max_open_records - state.open_records, "backlog"
        why = (
            f"{_size(size, rules.batch_size)}: {state.open_records} records wait for people, "
            f"the limit is {rules.max_open_records}."
        )
    return BatchSize(size, code, why, state)


def answers_per_day(answered_at: Sequence[datetime], *, window_days: int, now: datetime) -> float | None:
    """Answers on a usual day, in spite of holidays: the median week of the window, without weeks of silence.

    Weeks are counted back from now, so each has every day of the week. A week in which nobody answered is a holiday,
    and one in which few did moves a median little. The week in which people began is left out if there is another.

    :param answered_at: when each answer was given.
    :returns: null with answers on fewer than 5 days of the window.
    """
    ages = [(now - at).total_seconds() / 86_400 for at in answered_at]
    ages = [age for age in ages if 0 <= age < window_days // WEEK_DAYS * WEEK_DAYS]
    if len({math.floor(age) for age in ages}) < LEAST_DAYS:
        return None
    weeks = Counter(math.floor(age / WEEK_DAYS) for age in ages)
    if len(weeks) == 1:
        return len(ages) / min(WEEK_DAYS, max(ages) - WEEK_DAYS * min(weeks))
    began = max(weeks)
    if max(ages) < (began + 1) * WEEK_DAYS - 1:  # they began, or came back, in the middle of that week
        del weeks[began]
    return statistics.median(weeks.values()) / WEEK_DAYS


def measured_speed(project: Project, lake: Lake, *, now: datetime) -> float | None:
    """``answers_per_day`` of the project's people; an edited answer is one, and a discarded record was work, too."""
    import polars as pl

    work = ["record_id", "content_hash", "annotator"]
    answers = lake.read("responses", project.name, columns=[*work, "status", "version_at"])
    given = answers.filter(pl.col("status") != "deleted").group_by(work).agg(pl.col("version_at").min())
    return answers_per_day(given["version_at"].to_list(), window_days=project.queue.throughput_days, now=now)


def _size(size: int, usual: int) -> str:
    return f"A batch of {size} instead of {usual}" if size else "No batch"
