"""Which planned cycle a run belongs to."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from include.errors import LabelwheelError

REQUEST_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}$")


def cycle_slot(cron: str, at: datetime) -> str:
    """The latest slot of the cycle's cron at or before ``at``, as ``2026-11-23T06:00Z``.

    A run that an asset event started has no data interval: it joins the slot it falls into.
    """
    from croniter import croniter

    moment = at.astimezone(UTC)
    slot = moment if croniter.match(cron, moment) else croniter(cron, moment).get_prev(datetime)
    return slot.replace(second=0, microsecond=0).strftime("%Y-%m-%dT%H:%MZ")


def batch_id(project: str, kind: str, cycle: str) -> str:
    """The natural key of a batch; it is also its path under ``batches/``.

    :raises LabelwheelError: when the cycle key (a form's request id) could not be a path.
    """
    if not REQUEST_ID.match(cycle):
        raise LabelwheelError(
            f"request id {cycle!r} cannot name a batch",
            remedy="Use up to 128 letters, digits, dots, colons, plus signs, dashes or underscores.",
        )
    return f"{project}/{kind}/{cycle}"
