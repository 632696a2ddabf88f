"""Verb: correct an issued invoice by a credit note: whole, an amount, or line by line. What was issued never changes.

Each line of a note points at the line it gives back, and mirrors its taxes in proportion to what is left of both, so
that any sequence of notes ends exactly at the line and its tax. A note never returns more than was paid for the
invoice (refund, account credit), and never cuts off more than is owed (offset).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Prefetch

from catalog.money import format_minor, round_half_away
from customers.journal import Actor, record, require_reason
from customers.models import Customer
from invoicing.allocation import allocate, allocate_within
from invoicing.documents import Document
from invoicing.issue import Issuing, enter_credit, next_number, open_as, settle_issued, write, write_refunds
from invoicing.lines import CORRECTION, Line
from invoicing.models import CreditEntry, Invoice, InvoiceLine, Refund
from invoicing.pipeline import Drawn, DrawnLine
from invoicing.providers import MANUAL, tell_providers
from invoicing.readings import account_credit, given_back, gross_of
from invoicing.refund import Part, refunded, split
from invoicing.rules import from_json
from invoicing.states import InvoiceState
from invoicing.taxes import LineTax, tax_totals

REFUND = Invoice.Settlement.REFUND
ACCOUNT_CREDIT = Invoice.Settlement.ACCOUNT_CREDIT
OFFSET = Invoice.Settlement.OFFSET
CORRECTABLE = (InvoiceState.OPEN, InvoiceState.PAID, InvoiceState.UNCOLLECTIBLE)
OWED = (InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE)


class BadCredit(ValidationError):
    def __init__(self, why: str, code: str = "bad_credit"):
        super().__init__(why, code=code)


class CannotUndo(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="cannot_undo")


# What can be credited -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LineRoom:
    """What of one line nobody gave back yet: `net` (before tax on top) and its taxes, minor units."""

    line_id: int
    key: str
    description: str
    net: int
    taxes: tuple[LineTax, ...]
    currency: str
    charged: int
    price: Fraction | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    @property
    def added(self) -> int:
        """Tax on top."""
        return sum(tax.amount for tax in self.taxes if not tax.inclusive)

    @property
    def gross(self) -> int:
        return self.net + self.added

    def part(self, net: int) -> DrawnLine:
        """A credit of so much before tax on top; below the whole rest the taxes come in proportion."""
        return self._drawn(net, [round_half_away(Fraction(tax.amount * net, self.net)) for tax in self.taxes])

    def part_of_gross(self, gross: int) -> DrawnLine:
        """A credit of so much with tax."""
        added = round_half_away(Fraction(self.added * gross, self.gross))
        net = gross - added
        on_top = iter(allocate(added, [tax.amount for tax in self.taxes if not tax.inclusive]))
        within = (round_half_away(Fraction(tax.amount * net, self.net)) for tax in self.taxes if tax.inclusive)
        return self._drawn(net, [next(within) if tax.inclusive else next(on_top) for tax in self.taxes])

    def _drawn(self, net: int, taxes: Sequence[int]) -> DrawnLine:
        included = sum(amount for tax, amount in zip(self.taxes, taxes, strict=True) if tax.inclusive)
        mirrored = tuple(
            LineTax(tax.rate, -(net - included), -amount) for tax, amount in zip(self.taxes, taxes, strict=True)
        )
        return DrawnLine(self._line(net), taxes=mirrored)

    def _line(self, net: int) -> Line:
        credited, left = format_minor(net, self.currency), format_minor(self.net, self.currency)
        facts = {"sum": f"{credited} of the {left} that nobody gave back of {self.description}"}
        if self.price is not None and self.charged:
            # What later credits of unused time count from: the price of the whole period shrinks in proportion.
            facts["price"] = str(self.price * Fraction(net, self.charged))
        return Line(
            CORRECTION,
            self.key,
            f"Credit for {self.description}"[:300],
            -net,
            self.currency,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
            derivation=facts,
            source_id=self.line_id,
        )


@dataclass(frozen=True, slots=True)
class CreditRoom:
    """What of an invoice can still be credited, tax included, minor units.

    `rest` is what no note has taken off its total yet; `refundable` is paid with money and not refunded,
    `returnable` paid at all and not given back, `owed` still open.
    """

    invoice: str
    currency: str
    lines: tuple[LineRoom, ...]
    rest: int
    refundable: int
    returnable: int
    owed: int

    def most(self, settlement: str) -> int:
        """The largest credit that can be settled like this."""
        settled = {REFUND: self.refundable, ACCOUNT_CREDIT: self.returnable, OFFSET: self.owed}[
            settlement_of(settlement)
        ]
        return max(0, min(self.rest, sum(line.gross for line in self.lines), settled))

    def limits(self, settlement: str) -> tuple[str, ...]:
        """What holds a credit back, in sentences: how it is settled, then what was credited before."""
        refundable, returnable, owed, rest = (
            format_minor(max(0, minor), self.currency)
            for minor in (self.refundable, self.returnable, self.owed, self.rest)
        )
        why = {
            REFUND: f"{refundable} of {self.invoice} was paid with money and not given back; that can be refunded.",
            ACCOUNT_CREDIT: f"{returnable} of {self.invoice} was paid and not given back; "
            "that can become account credit.",
            OFFSET: f"{owed} of {self.invoice} is still owed; that can be taken off.",
        }[settlement_of(settlement)]
        return why, f"{rest} of {self.invoice} has not been credited yet."


def settlement_of(name: str) -> Invoice.Settlement:
    if name not in Invoice.Settlement.values:
        raise BadCredit(f"Choose where the credit goes: {', '.join(Invoice.Settlement.values)}.", "bad_settlement")
    return Invoice.Settlement(name)


def credit_room(invoice: Invoice) -> CreditRoom:
    """Read what can be credited, four queries. Raises `BadCredit` for what takes no correction."""
    if invoice.kind != Invoice.Kind.INVOICE:
        raise BadCredit(f"{invoice} is a credit note; void it instead.", "not_creditable")
    if invoice.state not in CORRECTABLE:
        why = "change its lines instead" if invoice.state == InvoiceState.DRAFT else "nothing of it is owed"
        state = invoice.get_state_display().lower()
        raise BadCredit(f"{invoice} is {state}: {why}.", "not_creditable")
    live = InvoiceLine.objects.exclude(invoice__state=InvoiceState.VOID)
    rows = invoice.lines.filter(amount__gt=0).prefetch_related(Prefetch("credits", live)).order_by("position", "id")
    lines = [_room_of(row, invoice.currency) for row in rows]
    credited = InvoiceLine.objects.filter(source__invoice=invoice).exclude(invoice__state=InvoiceState.VOID)
    taken = sum(gross_of(line) for line in credited)
    returned, back = given_back(invoice), refunded(invoice)
    came = invoice.paid + invoice.credit_applied
    return CreditRoom(
        invoice=str(invoice),
        currency=invoice.currency,
        lines=tuple(line for line in lines if line.net > 0),
        rest=invoice.total + taken,
        refundable=max(0, min(invoice.paid - back, came - returned)),
        returnable=max(0, came - returned),
        owed=invoice.due if invoice.state in OWED else 0,
    )


def _room_of(row: InvoiceLine, currency: str) -> LineRoom:
    credits = list(row.credits.all())
    rates = from_json(row.taxes)
    left = [
        max(0, tax["amount"] + sum(other["amount"] for c in credits for other in c.taxes if other["id"] == tax["id"]))
        for tax in row.taxes
    ]
    price = row.derivation.get("price")
    return LineRoom(
        line_id=row.pk,
        key=row.key,
        description=row.description,
        net=row.net + sum(credit.net for credit in credits),
        taxes=tuple(LineTax(rate, 0, amount) for rate, amount in zip(rates, left, strict=True)),
        currency=currency,
        charged=row.amount,
        price=None if price is None else Fraction(price),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
    )


# The decision ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreditPreview:
    """A credit note before it is written: `document` is what will be, `room` what there was to credit."""

    document: Document
    room: CreditRoom
    settlement: str

    @property
    def amount(self) -> int:
        """What the customer gets, tax included, minor units."""
        return -self.document.total

    @property
    def limits(self) -> tuple[str, ...]:
        return self.room.limits(self.settlement)

    @property
    def sentence(self) -> str:
        money = format_minor(self.amount, self.room.currency)
        where = {
            REFUND: "is paid back",
            ACCOUNT_CREDIT: "becomes account credit",
            OFFSET: f"comes off {self.room.invoice}",
        }[Invoice.Settlement(self.settlement)]
        return f"{money} {where}."


def preview_credit(
    invoice: Invoice,
    *,
    lines: Iterable[tuple[int, int]] | None = None,
    amount: int | None = None,
    whole: bool = False,
    settlement: str,
) -> CreditPreview:
    """What a credit note would be: of lines (primary key, minor units before tax on top), of an amount with tax that
    is spread over all lines, or of all that is left. Raises `BadCredit`, whose sentence names the limit.
    """
    chosen = settlement_of(settlement)
    room = credit_room(invoice)
    if sum((lines is not None, amount is not None, whole)) != 1:
        raise BadCredit("Credit either lines, or an amount, or all that is left.")
    drawn = _lines_of(room, lines) if lines is not None else _spread(room, room.rest if whole else amount or 0)
    totals = tax_totals(tax for line in drawn for tax in line.taxes)
    found = Document(
        Drawn(tuple(drawn), (), totals, invoice.currency), offsets_id=invoice.pk if chosen == OFFSET else None
    )
    preview = CreditPreview(found, room, chosen)
    if preview.amount > room.most(chosen):
        settled, before = preview.limits
        wanted = format_minor(preview.amount, invoice.currency)
        because = before if preview.amount > room.rest else settled
        raise BadCredit(f"{wanted} is too much. {because}", "credit_too_high")
    return preview


def _lines_of(room: CreditRoom, wanted: Iterable[tuple[int, int]]) -> list[DrawnLine]:
    by_id, found = {line.line_id: line for line in room.lines}, []
    for line_id, net in wanted:
        line = by_id.pop(line_id, None)
        if line is None:
            raise BadCredit(
                f"Nothing can be credited of one of these lines of {room.invoice}, or it stands there twice."
            )
        if net <= 0:
            raise BadCredit(f"A credit for {line.description} is more than zero.")
        if net > line.net:
            left = format_minor(line.net, room.currency)
            raise BadCredit(f"Only {left} of {line.description} is left to credit.", "credit_too_high")
        found.append(line.part(net))
    if not found:
        raise BadCredit("Choose at least one line.")
    return found


def _spread(room: CreditRoom, amount: int) -> list[DrawnLine]:
    """The amount over what is left of all lines, by largest remainder."""
    if amount <= 0:
        why = f"Nothing of {room.invoice} is left to credit." if room.rest <= 0 else "A credit is more than zero."
        raise BadCredit(why)
    most = min(room.rest, sum(line.gross for line in room.lines))
    if amount > most:
        left, wanted = format_minor(most, room.currency), format_minor(amount, room.currency)
        raise BadCredit(f"{wanted} is too much: {left} of {room.invoice} is left to credit.", "credit_too_high")
    parts = allocate_within(amount, [line.gross for line in room.lines])
    return [line.part_of_gross(part) for line, part in zip(room.lines, parts, strict=True) if part]


# The act --------------------------------------------------------------------------------------------------------------


@transaction.atomic
def credit(
    invoice: Invoice,
    *,
    lines: Iterable[tuple[int, int]] | None = None,
    amount: int | None = None,
    whole: bool = False,
    settlement: str,
    reason: str,
    reference: str = "",
    provider: str = MANUAL,
    actor: Actor,
    now: datetime,
) -> Invoice:
    """Write the credit note that was previewed. A refund with the `reference` of its transfer went already, by the
    `provider` who sent it. Without one it is still to be sent: what a provider took in through that provider, the rest
    by hand (`pay_out`). Raises `ReasonRequired`, `BadCredit`.
    """
    reason = require_reason(reason, "a credit note")
    customer = Customer.objects.select_for_update().get(pk=invoice.customer_id)
    invoice = Invoice.objects.select_for_update().get(pk=invoice.pk)
    preview = preview_credit(invoice, lines=lines, amount=amount, whole=whole, settlement=settlement)
    operation = record(
        customer,
        "invoice.credited",
        f"Credited {format_minor(preview.amount, invoice.currency)} of {invoice}: "
        f"{Invoice.Settlement(preview.settlement).label.lower()}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"invoice": invoice.public_id, "settlement": preview.settlement, "reference": reference.strip()},
        effects={
            "total": -preview.amount,
            "lines": [{"description": li.description, "amount": li.amount} for li in preview.document.lines],
        },
    )
    how = Issuing(subscription=invoice.subscription, operation=operation)
    note = write(customer, preview.document, how=how)
    note.corrects, note.memo = invoice, reason
    if preview.settlement == REFUND:
        reference = reference.strip()
        parts = [Part(invoice, provider, preview.amount)] if reference else split(invoice, preview.amount)
        _refund(note, parts, reference, actor=actor, now=now)
    else:
        settle_issued(note, now=now)
    return note


def _refund(note: Invoice, parts: Iterable[Part], reference: str, *, actor: Actor, now: datetime) -> None:
    open_as(note, next_number(note.customer, note.kind), now=now, net_terms_days=0)
    note.settlement = REFUND
    note.move_to(InvoiceState.PAID)
    note.paid_at = now
    note.save()
    write_refunds(note, parts, reference=reference, actor=actor.name, now=now)
    tell_providers(note)


@transaction.atomic
def pay_out(note: Invoice, *, reference: str, actor: Actor, now: datetime) -> list[Refund]:
    """Record the transfer of what staff still had to send back; what a provider sends is not theirs.

    Raises `BadCredit`.
    """
    customer = Customer.objects.select_for_update().get(pk=note.customer_id)
    refunds = list(Refund.objects.select_for_update().filter(credit_note=note))
    if not refunds or note.state == InvoiceState.VOID:
        raise BadCredit(f"{note} refunds nothing.", "not_a_refund")
    by_hand = [refund for refund in refunds if refund.provider == MANUAL]
    if not by_hand:
        raise BadCredit(f"{note} goes back the way it was paid, not by hand.", "refunded_by_provider")
    if by_hand[0].reference:
        raise BadCredit(f"{note} was paid out already: {by_hand[0].reference}.", "paid_out")
    if not reference.strip():
        raise BadCredit("Give the reference of the transfer, such as the bank's transaction number.")
    for refund in by_hand:
        refund.reference, refund.actor, refund.at = reference.strip(), actor.name, now
        refund.save(update_fields=["reference", "actor", "at"])
    record(
        customer,
        "refund.paid_out",
        f"Paid out {format_minor(sum(refund.amount for refund in by_hand), note.currency)} for {note}",
        actor=actor,
        now=now,
        inputs={"creditNote": note.public_id, "reference": reference.strip()},
    )
    return by_hand


@transaction.atomic
def void_credit_note(note: Invoice, *, reason: str, actor: Actor, now: datetime) -> Invoice:
    """Undo a correction: its lines can be credited again. Raises `ReasonRequired`, and `CannotUndo` for one that came
    with a change of plan, whose account credit is spent, whose refund is paid out, or whose invoice is settled.
    """
    reason = require_reason(reason, "voiding a credit note")
    customer = Customer.objects.select_for_update().get(pk=note.customer_id)
    note = Invoice.objects.select_for_update(of=("self",)).select_related("corrects").get(pk=note.pk)
    if note.kind != Invoice.Kind.CREDIT_NOTE or note.corrects_id is None:
        raise CannotUndo(f"{note} is no correction that somebody made; it belongs to a change of plan.")
    if note.state == InvoiceState.VOID:
        raise CannotUndo(f"{note} is void already.")
    if note.corrects is not None and note.corrects.state == InvoiceState.VOID:
        raise CannotUndo(f"{note.corrects} is void, so nothing of it can be owed again.")
    amount = -note.total
    if note.settlement == OFFSET:
        _owe_again(note, amount)
    elif note.settlement == ACCOUNT_CREDIT:
        _take_back(customer, note, amount, now)
    else:
        _refuse_money_that_left(note)
    note.move_to(InvoiceState.VOID)
    note.voided_at, note.void_reason = now, reason
    note.save(update_fields=["state", "voided_at", "void_reason"])
    record(
        customer,
        "credit_note.voided",
        f"Voided {note}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"creditNote": note.public_id},
        effects={"invoice": note.corrects.public_id if note.corrects else None, "amount": amount},
    )
    return note


def _refuse_money_that_left(note: Invoice) -> None:
    for refund in Refund.objects.select_for_update().filter(credit_note=note):
        if refund.reference:
            raise CannotUndo(f"{note} was paid out ({refund.reference}); money that is gone cannot be taken back.")
        if refund.sent_at is not None:
            raise CannotUndo(f"{note} is on its way back to the customer; it cannot be stopped any more.")


def _owe_again(note: Invoice, amount: int) -> None:
    target = Invoice.objects.select_for_update().get(pk=note.offsets_id or 0)
    if target.state not in OWED:
        raise CannotUndo(f"{target} is {target.get_state_display().lower()}, so its debt cannot come back.")
    target.offset -= amount
    target.save(update_fields=["offset"])


def _take_back(customer: Customer, note: Invoice, amount: int, now: datetime) -> None:
    there = account_credit(customer)
    if there < amount:
        spent, left = format_minor(amount - max(0, there), note.currency), format_minor(max(0, there), note.currency)
        raise CannotUndo(f"{spent} of {note} was used already; {left} of account credit is left.")
    enter_credit(customer, CreditEntry.Kind.UNDONE, -amount, invoice=note, now=now)
