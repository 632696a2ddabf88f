"""The instants that tests speak of. All at midnight UTC unless the name says otherwise."""

from datetime import UTC, datetime


def day(text: str) -> datetime:
    """`day("2026-03-15")`, or with a time: `day("2026-03-15T12:30")`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


MARCH_1 = day("2026-03-01")
MARCH_16 = day("2026-03-16")
APRIL_1 = day("2026-04-01")
APRIL_16 = day("2026-04-16")
MAY_1 = day("2026-05-01")
JUNE_1 = day("2026-06-01")
