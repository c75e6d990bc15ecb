"""Every run joins exactly one slot."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from include.errors import LabelwheelError
from include.sampling.cycle import batch_id, cycle_slot


@pytest.mark.parametrize(
    ("at", "slot"),
    [
        (datetime(2026, 11, 23, 6, 0, tzinfo=UTC), "2026-11-23T06:00Z"),
        (datetime(2026, 11, 23, 6, 0, 59, tzinfo=UTC), "2026-11-23T06:00Z"),
        (datetime(2026, 11, 23, 5, 59, 59, tzinfo=UTC), "2026-11-22T06:00Z"),
        (datetime(2026, 11, 23, 23, 0, tzinfo=UTC), "2026-11-23T06:00Z"),
        (datetime(2026, 11, 23, 7, 0, tzinfo=timezone(timedelta(hours=1))), "2026-11-23T06:00Z"),
    ],
)
def test_a_run_joins_the_latest_slot(at: datetime, slot: str) -> None:
    assert cycle_slot("0 6 * * *", at) == slot


@pytest.mark.parametrize("cycle", ["", "../x", "a/b", "a b", "-a", "x" * 129])
def test_a_request_id_that_is_no_path_is_refused(cycle: str) -> None:
    with pytest.raises(LabelwheelError, match="request id"):
        batch_id("mails", "request", cycle)


def test_the_run_id_of_a_manual_run_names_a_batch() -> None:
    run_id = "manual__2026-11-23T10:00:00.123456+00:00_a1B2c3D4"
    assert batch_id("mails", "audit", run_id) == f"mails/audit/{run_id}"
