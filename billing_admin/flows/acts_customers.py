"""The deletion of a customer, as an act that can need a second person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from billing_admin.approving import Effect, Shown, Size, guarded
from billing_admin.flows.acts import customer_again
from billing_admin.flows.customers import ERASED_AFTER, DeletionBlocked, close_customer, deletion_blockers
from billing_admin.flows.stripe_delete import delete_there
from customers.journal import Actor
from customers.models import Customer, Operation


@guarded
@dataclass(frozen=True)
class DeleteCustomer:
    """`in_stripe`: there too, which comes first. The name is typed by whoever asks."""

    who: Customer
    confirm_name: str
    in_stripe: bool = False

    key: ClassVar[str] = "customer.closed"
    title: ClassVar[str] = "The deletion of a customer"
    measures: ClassVar[Mapping[str, str]] = {}
    permissions: ClassVar[tuple[str, ...]] = ("customers.delete_customer",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        return cls(customer_again(inputs), inputs["confirm_name"], inputs["in_stripe"])

    def to_json(self) -> dict[str, Any]:
        return {"customer": self.who.public_id, "confirm_name": self.confirm_name, "in_stripe": self.in_stripe}

    def customer(self) -> Customer:
        return self.who

    def sizes(self, now: datetime) -> Sequence[Size]:
        return []

    def shown(self, now: datetime) -> Shown:
        """Raises `DeletionBlocked` with what has to be settled first."""
        if blockers := deletion_blockers(self.who, now=now):
            raise DeletionBlocked(blockers)
        effects = [
            Effect("Customer", self.who.name, "closed and hidden at once"),
            Effect("Personal data", "", f"erased after {ERASED_AFTER.days} days, until then it can be undone"),
        ]
        if self.in_stripe:
            effects.append(Effect("In Stripe", "", "deleted at once, which cannot be undone"))
        contracts = list(self.who.subscriptions.live().order_by("id").values_list("public_id", flat=True))
        effects += [Effect(f"Subscription {public_id}", "", "ends at once") for public_id in contracts]
        return Shown(f"Delete {self.who.name}", tuple(effects), facts={"closed": self.who.closed_at, "ends": contracts})

    def prepare(self, *, reason: str, actor: Actor, now: datetime) -> None:
        if self.in_stripe:
            delete_there(self.who, confirm_name=self.confirm_name, reason=reason, actor=actor, now=now)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        close_customer(self.who, confirm_name=self.confirm_name, reason=reason, actor=actor, now=now)
        return self.who.operations.filter(verb=self.key).newest().first()
