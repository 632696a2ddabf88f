"""When a recurring price's next period begins, counted from the anchor so that the 31st comes back after February."""

import calendar
from datetime import UTC, datetime, timedelta

MONTHS = {"month": 1, "year": 12}
DAYS = {"day": 1, "week": 7}


def next_boundary(anchor: int, after: int, interval: str, count: int) -> int:
    """The first boundary later than `after`; instants in Unix seconds."""
    start = datetime.fromtimestamp(anchor, UTC)
    step = 1
    while (found := boundary(start, step, interval, count)) <= after:
        step += 1
    return found


def boundary(anchor: datetime, step: int, interval: str, count: int) -> int:
    if interval in DAYS:
        return int((anchor + timedelta(days=DAYS[interval] * count * step)).timestamp())
    months = anchor.year * 12 + anchor.month - 1 + MONTHS[interval] * count * step
    year, month = divmod(months, 12)
    day = min(anchor.day, calendar.monthrange(year, month + 1)[1])
    return int(anchor.replace(year=year, month=month + 1, day=day).timestamp())
