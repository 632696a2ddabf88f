"""Correct what was issued, with what follows from it: credit notes, voids, voids with a new invoice, write-offs.

An issued invoice never changes. What a correction settles opens its gate and brings its contract back in order.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.flows.approvals import guard_as, guard_done
from billing_admin.flows.collection import net_terms_of, recover
from billing_admin.flows.gate import give_up_gate, settled, waits
from billing_admin.flows.renew import phase_at
from catalog.money import format_minor
from customers.journal import Actor, record, require_reason
from customers.models import Customer, Phase
from invoicing.credit_note import credit
from invoicing.issue import Issuing, annul, settle_issued, totals_of, void, write_lines
from invoicing.lines import MAXIMUM, MINIMUM, TRUE_UP, Line
from invoicing.manual import attach_pending, line_of
from invoicing.models import BillingSettings, Invoice, InvoiceLine
from invoicing.pipeline import Drawn, draw_up
from invoicing.providers import MANUAL
from invoicing.rules import billing_rules, from_json
from invoicing.states import InvoiceState

# They came after the coupons, so no coupon takes anything of them.
AFTER_COUPONS = (MINIMUM, MAXIMUM, TRUE_UP)


class CannotReissue(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="cannot_reissue")


class CannotWriteOff(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="cannot_write_off")


@transaction.atomic
def credit_invoice(
    invoice: Invoice,
    *,
    lines: Iterable[tuple[int, int]] | None = None,
    amount: int | None = None,
    whole: bool = False,
    settlement: str,
    reason: str,
    reference: str = "",
    actor: Actor,
    now: datetime,
) -> Invoice:
    """A credit note (see `invoicing.credit_note.credit`). One that settles the rest of its invoice opens its gate.

    Raises `ApprovalNeeded`.
    """
    reason = require_reason(reason, "a credit note")
    Customer.objects.select_for_update().get(pk=invoice.customer_id)
    lines = None if lines is None else list(lines)
    asked = {"lines": lines, "amount": amount, "whole": whole, "settlement": settlement, "reference": reference}
    guard_as("invoice.credited", actor=actor, now=now, reason=reason, invoice=invoice, **asked)
    note = credit(
        invoice,
        lines=lines,
        amount=amount,
        whole=whole,
        settlement=settlement,
        reason=reason,
        reference=reference,
        # What Stripe gave back already, at the press of a button there.
        provider="stripe" if reference.strip().startswith("re_") else MANUAL,
        actor=actor,
        now=now,
    )
    if note.offsets_id is not None:
        settled(Invoice.objects.get(pk=note.offsets_id or 0), actor=actor, now=now)
    return note


@transaction.atomic
def void_invoice(invoice: Invoice, *, reason: str, actor: Actor, now: datetime) -> Invoice:
    """Void a draft or an open invoice. Its period stays settled; a plan that waited for its payment is given up.

    Raises `ReasonRequired`, `CannotMove`, `ApprovalNeeded`.
    """
    reason = require_reason(reason, "voiding an invoice")
    before = invoice = _hold(invoice)
    if waits(invoice):
        give_up_gate(invoice, reason=reason, end_reason="voided", actor=actor, now=now)
    else:
        void(invoice, reason=reason, actor=actor, now=now)
    invoice = _hold(invoice)
    recover(invoice, now=now)
    # Last, so that what cannot be is refused rather than asked for; all of it is rolled back.
    guard_done("invoice.voided", actor=actor, now=now, reason=reason, invoice=before)
    return invoice


def _hold(invoice: Invoice) -> Invoice:
    """The invoice as it is once the customer is held."""
    Customer.objects.select_for_update().get(pk=invoice.customer_id)
    rows = Invoice.objects.select_for_update(of=("self",)).select_related("customer", "subscription", "gates")
    held: Invoice = rows.get(pk=invoice.pk)
    return held


@transaction.atomic
def mark_uncollectible(invoice: Invoice, *, reason: str, actor: Actor, now: datetime) -> Invoice:
    """Give up an open invoice: nobody is reminded any more, a payment is still taken. Raises `ReasonRequired`,
    `CannotMove`, `CannotWriteOff`, `ApprovalNeeded`.
    """
    reason = require_reason(reason, "giving up an invoice")
    invoice = _hold(invoice)
    if waits(invoice):
        raise CannotWriteOff(f"A plan waits for the payment of {invoice}; void it instead.")
    invoice.move_to(InvoiceState.UNCOLLECTIBLE)
    guard_as("invoice.uncollectible", actor=actor, now=now, reason=reason, invoice=Invoice.objects.get(pk=invoice.pk))
    invoice.next_reminder_at = None
    invoice.save(update_fields=["state", "next_reminder_at"])
    recover(invoice, now=now)
    record(
        invoice.customer,
        "invoice.uncollectible",
        f"Gave up {invoice}: {format_minor(invoice.due, invoice.currency)} was not paid",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"invoice": invoice.public_id},
        effects={"due": invoice.due},
    )
    return invoice


# Void and reissue -----------------------------------------------------------------------------------------------------


@transaction.atomic
def reissue(invoice: Invoice, *, reason: str, actor: Actor, now: datetime) -> Invoice:
    """Void an invoice and issue its lines anew, with the coupons, credits, taxes and terms of today. What was paid
    goes over by way of account credit. Raises `ReasonRequired`, `CannotReissue`.
    """
    reason = require_reason(reason, "issuing an invoice anew")
    invoice = _hold(invoice)
    rows = list(invoice.lines.select_related("phase__version__plan").order_by("position", "id"))
    _refuse_reissue(invoice, rows)
    expires_at = invoice.expires_at
    annul(invoice, reason=reason, now=now)
    invoice.lines.update(is_replaced=True)
    phase = _phase_of(invoice, rows)
    drawn = _drawn_today(invoice, rows, phase, now)
    again = Invoice(
        customer=invoice.customer,
        subscription=invoice.subscription,
        operation=invoice.operation,
        currency=invoice.currency,
        replaces=invoice,
        gates=invoice.gates,
        expires_at=expires_at,
        memo=invoice.memo,
        **totals_of(drawn),
    )
    again.save()
    kept = dict(enumerate(_copies(rows, again)))
    write_lines(again, drawn, how=Issuing(subscription=invoice.subscription, phase=phase), kept=kept)
    settle_issued(again, now=now, net_terms_days=net_terms_of(invoice.subscription, BillingSettings.present()))
    record(
        invoice.customer,
        "invoice.reissued",
        f"Voided {invoice} and issued {again} in its place",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"invoice": invoice.public_id},
        effects={"invoice": again.public_id, "was": invoice.total, "total": again.total},
    )
    settled(again, actor=actor, now=now)
    return again


def _refuse_reissue(invoice: Invoice, rows: list[InvoiceLine]) -> None:
    if invoice.kind != Invoice.Kind.INVOICE or invoice.state not in (InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE):
        state = invoice.get_state_display().lower()
        raise CannotReissue(f"{invoice} is {state}; only an invoice that is owed can be issued anew.")
    credited = InvoiceLine.objects.filter(source__in=rows).exclude(invoice__state=InvoiceState.VOID)
    if credited.exists():
        raise CannotReissue(f"Part of {invoice} has been credited; correct it by another credit note.")


def _phase_of(invoice: Invoice, rows: list[InvoiceLine]) -> Phase:
    known = [row.phase for row in rows if row.phase is not None]
    if known:
        return known[-1]
    assert invoice.subscription is not None and invoice.issued_at is not None, "invoices are those of contracts"
    return phase_at(invoice.subscription, invoice.issued_at)


def _drawn_today(invoice: Invoice, rows: list[InvoiceLine], phase: Phase, now: datetime) -> Drawn:
    """The same lines through today's rules; a credit keeps the taxes of what it gives back."""
    plan = phase.version.plan
    rules = billing_rules(invoice.customer, plan, invoice.subscription, at=now, currency=invoice.currency)
    mirrored = {row.source_id: tuple(from_json(row.taxes)) for row in rows if row.source_id}

    def plan_of(line: Line) -> int | None:
        return None if line.kind in AFTER_COUPONS else plan.pk

    return draw_up(
        [line_of(row, invoice.currency) for row in rows],
        currency=invoice.currency,
        discounts=[replace(d, plans=d.plans or frozenset({plan.pk})) for d in rules.discounts],
        plan_of=plan_of,
        grants=rules.grants,
        taxes=lambda line: mirrored.get(line.source_id or 0, rules.taxes),
        account_credit=rules.account_credit,
    )


def _copies(rows: list[InvoiceLine], again: Invoice) -> list[InvoiceLine]:
    """The same lines under the new invoice."""
    for row in rows:
        row.pk, row.invoice, row.is_replaced = None, again, False
        row._state.adding = True
    copies = InvoiceLine.objects.bulk_create(rows)
    attach_pending(copies)
    return copies
