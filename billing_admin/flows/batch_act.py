"""Acts on many customers as something that a second person may have to approve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Self

from billing_admin.approving import Effect, Shown, Size, guarded
from billing_admin.flows.acts import Gone
from billing_admin.flows.batches import confirm, find_act
from billing_admin.models import Batch, BatchRow
from customers.journal import Actor
from customers.models import Customer, Operation

SHOWN = 50


@guarded
@dataclass(frozen=True, slots=True)
class BulkStarted:
    """An import, or a bulk act, as it was tried."""

    key: ClassVar[str] = "bulk.started"
    title: ClassVar[str] = "An import or bulk act"
    measures: ClassVar[Mapping[str, str]] = {"customers": "customers"}
    permissions: ClassVar[tuple[str, ...]] = ("billing_admin.view_batch",)

    batch: Batch

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        found = Batch.objects.filter(public_id=inputs["batch"]).first()
        if found is None:
            raise Gone("The batch")
        return cls(found)

    def to_json(self) -> dict[str, Any]:
        return {"batch": self.batch.public_id}

    def customer(self) -> Customer | None:
        return None

    def sizes(self, now: datetime) -> Sequence[Size]:
        return [Size("customers", Decimal(self._ready.count()))]

    def shown(self, now: datetime) -> Shown:
        act, number = find_act(self.batch.kind), self._ready.count()
        rows = self._ready.select_related("customer").order_by("line")[:SHOWN]
        effects = [Effect(_who(row), row.before, row.after) for row in rows]
        more = (f"And {number - SHOWN:,} more rows.",) if number > SHOWN else ()
        left_out = self.batch.rows.filter(state=BatchRow.State.LEFT_OUT).count()
        out = (f"{left_out:,} rows are left out, because they would be refused.",) if left_out else ()
        return Shown(
            f"{act.one}: {number:,} {'row' if number == 1 else 'rows'} ({self.batch.title})",
            tuple(effects),
            (*more, *out),
            {"batch": self.batch.public_id, "seen": self.batch.fingerprint},
        )

    @property
    def _ready(self) -> Any:
        return self.batch.rows.filter(state=BatchRow.State.READY)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        return confirm(self.batch, self.batch.fingerprint, actor=actor, now=now)


def _who(row: BatchRow) -> str:
    return row.customer.name if row.customer else str(row.cells.get("customer_id", ""))
