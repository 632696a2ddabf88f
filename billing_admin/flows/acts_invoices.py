"""Invoices that are given up, and access before one is paid, as acts that can need a second person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from billing_admin.approving import AddsUp, Effect, Shown, Size, guarded
from billing_admin.flows.acts import about, invoice_again, last_of, money
from billing_admin.flows.corrections import mark_uncollectible, void_invoice
from billing_admin.flows.gate import activate_now, waits
from catalog.money import format_minor
from customers.journal import Actor
from customers.models import Customer, Operation
from invoicing.models import Invoice

AMOUNT: Mapping[str, str] = {"amount": "amount"}


@dataclass(frozen=True)
class InvoiceAct:
    """What these acts share: one invoice, and what becomes of it."""

    invoice: Invoice

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        return cls(invoice_again(inputs["invoice"]))

    def to_json(self) -> dict[str, Any]:
        return {"invoice": self.invoice.public_id}

    def customer(self) -> Customer:
        return self.invoice.customer

    def _money(self, minor: int) -> str:
        return format_minor(minor, self.invoice.currency)

    @property
    def _facts(self) -> dict[str, Any]:
        invoice = self.invoice
        return {"state": invoice.state, "total": invoice.total, "due": invoice.due, "a plan waits": waits(invoice)}


@guarded
@dataclass(frozen=True)
class VoidInvoice(InvoiceAct, AddsUp):
    """Measured by the whole of it: what was paid already becomes account credit."""

    key: ClassVar[str] = "invoice.voided"
    title: ClassVar[str] = "Voiding an invoice"
    measures: ClassVar[Mapping[str, str]] = AMOUNT
    permissions: ClassVar[tuple[str, ...]] = ("invoicing.void_invoice",)

    def sizes(self, now: datetime) -> Sequence[Size]:
        return [money("amount", self.invoice.total, self.invoice.currency)]

    @classmethod
    def was(cls, operation: Operation, customer: Customer) -> Sequence[Size]:
        return _of_invoice(operation, customer)

    def shown(self, now: datetime) -> Shown:
        invoice = self.invoice
        effects = [about(invoice.customer), Effect("Owed", self._money(invoice.due), self._money(0))]
        if returned := invoice.credit_applied + invoice.paid:
            effects.append(Effect("Becomes account credit", "", self._money(returned)))
        if waits(invoice) and invoice.gates is not None:
            effects.append(Effect("The plan that waits for it", invoice.gates.version.plan.name, "given up"))
        sentence = f"Void {invoice} of {invoice.customer.name}, {self._money(invoice.total)}"
        return Shown(sentence, tuple(effects), facts=self._facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        void_invoice(self.invoice, reason=reason, actor=actor, now=now)
        return last_of(self.customer(), self.key)


@guarded
@dataclass(frozen=True)
class GiveUpInvoice(InvoiceAct, AddsUp):
    key: ClassVar[str] = "invoice.uncollectible"
    title: ClassVar[str] = "Marking an invoice as uncollectible"
    measures: ClassVar[Mapping[str, str]] = AMOUNT
    permissions: ClassVar[tuple[str, ...]] = ("invoicing.write_off_invoice",)

    def sizes(self, now: datetime) -> Sequence[Size]:
        return [money("amount", self.invoice.due, self.invoice.currency)]

    @classmethod
    def was(cls, operation: Operation, customer: Customer) -> Sequence[Size]:
        return [money("amount", operation.effects["due"], customer.currency)]

    def shown(self, now: datetime) -> Shown:
        due = self._money(self.invoice.due)
        effects = (about(self.customer()), Effect("Nobody is reminded any more of", "", due))
        sentence = f"Mark {self.invoice} of {self.customer().name} as uncollectible, {due}"
        return Shown(sentence, effects, facts=self._facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        mark_uncollectible(self.invoice, reason=reason, actor=actor, now=now)
        return last_of(self.customer(), self.key)


@guarded
@dataclass(frozen=True)
class ActivateUnpaid(InvoiceAct):
    """Measured by what stays owed."""

    key: ClassVar[str] = "plan.activated"
    title: ClassVar[str] = "Access before the first payment"
    measures: ClassVar[Mapping[str, str]] = AMOUNT
    permissions: ClassVar[tuple[str, ...]] = ("customers.activate_unpaid",)

    def sizes(self, now: datetime) -> Sequence[Size]:
        return [money("amount", self.invoice.due or self.invoice.total, self.invoice.currency)]

    def shown(self, now: datetime) -> Shown:
        plan = self.invoice.gates.version.plan.name if self.invoice.gates else "the plan"
        effects = (
            about(self.customer()),
            Effect(plan, f"waits for the payment of {self.invoice}", "active at once"),
            Effect("Stays owed, and no longer expires", "", self._money(self.invoice.due or self.invoice.total)),
        )
        sentence = f"Activate {plan} of {self.customer().name} before {self.invoice} is paid"
        return Shown(sentence, effects, facts=self._facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation:
        return activate_now(self.invoice, reason=reason, actor=actor, now=now)


def _of_invoice(operation: Operation, customer: Customer) -> list[Size]:
    """The whole of the invoice that an act was about."""
    rows = customer.invoices.filter(public_id=operation.inputs.get("invoice"))
    return [money("amount", invoice.total, invoice.currency) for invoice in rows]
