"""Events as CSV."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from io import StringIO

from billing_admin.api.events import parts_of
from billing_admin.csv_table import harmless
from catalog.money import plain
from entitlements.models import UsageEvent

HEAD = ("id", "customer", "feature", "name", "value", "counted", "at", "recorded_at", "key", "mode", "properties")


def csv_lines(rows: Iterable[UsageEvent]) -> Iterator[str]:
    yield _csv_line([*HEAD, "balances", "voided_at"])
    for row in rows:
        texts = (row.public_id, row.customer.customer_id, row.feature.slug, row.name)
        yield _csv_line(
            [
                *map(harmless, texts),
                plain(row.amount),
                plain(row.taken),
                row.at.astimezone(UTC).isoformat(),
                row.recorded_at.astimezone(UTC).isoformat(),
                harmless(row.key or ""),
                row.mode,
                json.dumps(row.properties, ensure_ascii=False),
                " ".join(f"{balance_id}:{plain(units)}" for balance_id, units in parts_of(row)),
                row.voided_at.astimezone(UTC).isoformat() if row.voided_at else "",
            ]
        )


def _csv_line(cells: Sequence[str]) -> str:
    line = StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
