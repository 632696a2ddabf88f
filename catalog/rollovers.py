"""Rollover: what of the rest of a window lives on beside the next one. Pure."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from catalog.money import grouped, plain
from catalog.periods import NEVER, Cadence, boundary

# How long a rollover may last: ISO 8601 durations, or for good.
LASTS = ("P1D", "P7D", "P14D", "P30D", "P60D", "P90D", *(f"P{n}M" for n in range(1, 37)), "P1Y", "P2Y", "P3Y", NEVER)


@dataclass(frozen=True, slots=True)
class Rollover:
    """Units that were not used stay for `lasts` after their window (an ISO 8601 duration, or `never`: for good).

    All that lives on together is at most `most` units, or `percent` of an allowance, whichever is less; without
    either there is no cap.
    """

    lasts: str = NEVER
    most: Decimal | None = None
    percent: Decimal | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Rollover":
        most, percent = data.get("most"), data.get("percent")
        return cls(
            data.get("lasts", NEVER),
            None if most is None else Decimal(most),
            None if percent is None else Decimal(percent),
        )

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"lasts": self.lasts}
        if self.most is not None:
            found["most"] = plain(self.most)
        if self.percent is not None:
            found["percent"] = plain(self.percent)
        return found

    def cap(self, granted: Decimal) -> Decimal | None:
        """Units that may live on together beside an allowance of so many; None without a cap."""
        caps = [] if self.most is None else [self.most]
        caps += [] if self.percent is None else [granted * self.percent / 100]
        return min(caps, default=None)

    def ends_at(self, window_end: datetime) -> datetime | None:
        """When what was left at the end of a window is gone; None: never."""
        return None if self.lasts == NEVER else boundary(window_end, Cadence.parse(self.lasts), 1)

    def describe(self) -> str:
        """For people: `up to 100 roll over for 1 month`."""
        caps = [] if self.most is None else [grouped(self.most)]
        caps += [] if self.percent is None else [f"{plain(self.percent)} %"]
        most = f"up to {' and '.join(caps)} roll over" if caps else "all that is left rolls over"
        return most if self.lasts == NEVER else f"{most} for {duration(self.lasts)}"


def duration(text: str) -> str:
    """For people: `1 month`, `3 months`, `14 days`."""
    cadence = Cadence.parse(text)
    if cadence.months:
        years, months = divmod(cadence.months, 12)
        number, word = (years, "year") if not months else (cadence.months, "month")
    else:
        hours = int(cadence.span.total_seconds() // 3600)
        days, rest = divmod(hours, 24)
        number, word = (days, "day") if not rest else (hours, "hour")
    return f"{number} {word}{'' if number == 1 else 's'}"
