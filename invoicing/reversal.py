"""Verbs: the documents of an act that is taken back. What it charged is credited, what it gave back is charged again.

A reversal is exact line by line: time that an act had given back is paid for again, for the period it was paid for, so
that whatever comes next counts from the same lines as if nothing had been. Callers hold the customer's row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from catalog.money import format_minor
from catalog.periods import Period
from customers.journal import Actor, record
from customers.models import Phase
from invoicing.allocation import allocate_within
from invoicing.credit_note import ACCOUNT_CREDIT, OFFSET, OWED, LineRoom, credit_room
from invoicing.documents import Document
from invoicing.issue import Issuing, enter_credit, settle_issued, write
from invoicing.lines import ADVANCE, FEE, Line
from invoicing.models import CreditEntry, Invoice, InvoiceLine
from invoicing.pipeline import Drawn, DrawnLine
from invoicing.readings import gross_of
from invoicing.rules import from_json
from invoicing.states import InvoiceState
from invoicing.taxes import LineTax, tax_totals


@dataclass(frozen=True, slots=True)
class Reversal:
    """The credit note that takes an invoice back: `amount` is what it gives, with tax, minor units."""

    document: Document
    settlement: str

    @property
    def amount(self) -> int:
        return -self.document.total


def reversal_of(invoice: Invoice, kept: Mapping[int, int], settlement: str = ACCOUNT_CREDIT) -> Reversal | None:
    """The credit of all lines but what is `kept` of them (gross by the line's id, minor units), with the time that
    they had given back charged again.

    None where lines cannot say it alone: nothing would be given, a line without a source took something off, or less
    was paid than that.
    """
    room = credit_room(invoice)
    drawn = []
    for line in room.lines:
        back = line.gross - min(line.gross, kept.get(line.line_id, 0))
        if back:
            drawn.append(line.part_of_gross(back))
    for credit in _credits(invoice):
        if credit.source_id is None:
            return None
        drawn.append(charged_again(credit, -gross_of(credit)))
    found = Reversal(_document(drawn, invoice, invoice.pk if settlement == OFFSET else None), settlement)
    wanted = room.rest - sum(kept.values())
    fits = 0 < found.amount == min(wanted, room.most(settlement))
    return found if fits else None


def reverse(
    invoice: Invoice, wanted: Reversal, *, phase: Phase | None, reason: str, actor: Actor, now: datetime
) -> Invoice:
    """Write the credit note of a reversal; what is charged again belongs to `phase`."""
    money = format_minor(wanted.amount, invoice.currency)
    operation = record(
        invoice.customer,
        "invoice.credited",
        f"Credited {money} of {invoice}: {Invoice.Settlement(wanted.settlement).label.lower()}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"invoice": invoice.public_id, "settlement": wanted.settlement, "reference": ""},
        effects={"total": -wanted.amount, "lines": _told(wanted.document)},
    )
    how = Issuing(subscription=invoice.subscription, phase=phase, operation=operation)
    note = write(invoice.customer, wanted.document, how=how)
    note.corrects, note.memo = invoice, reason
    return settle_issued(note, now=now)


def withdraw_note(note: Invoice, *, reason: str, actor: Actor, now: datetime) -> Invoice:
    """Void a credit note that came with an act: its account credit is taken back, or its invoice owes again.

    The caller has made sure that the credit is there, or that the invoice can owe it.
    """
    amount = -note.total
    if note.offsets_id is None:
        enter_credit(note.customer, CreditEntry.Kind.UNDONE, -amount, invoice=note, now=now)
    elif target := Invoice.objects.select_for_update().filter(pk=note.offsets_id, state__in=OWED).first():
        target.offset -= amount
        target.save(update_fields=["offset"])
    note.move_to(InvoiceState.VOID)
    note.voided_at, note.void_reason = now, reason
    note.save(update_fields=["state", "voided_at", "void_reason"])
    record(
        note.customer,
        "credit_note.voided",
        f"Voided {note}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"creditNote": note.public_id},
        effects={"invoice": None, "amount": amount},
    )
    return note


def charge_again(
    note: Invoice,
    amount: int,
    *,
    phase: Phase | None,
    net_terms_days: int,
    reason: str,
    actor: Actor,
    now: datetime,
) -> Invoice:
    """Charge so much (with tax, minor units) of what a credit note gave back; the note itself stands.

    It is an invoice like any other: account credit pays for it first.
    """
    credits = _credits(note)
    parts = allocate_within(amount, [-gross_of(credit) for credit in credits])
    drawn = [charged_again(credit, part) for credit, part in zip(credits, parts, strict=True) if part]
    document = _document(drawn, note, None)
    operation = record(
        note.customer,
        "invoice.issued",
        f"Charged {format_minor(amount, note.currency)} of {note} again",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"creditNote": note.public_id},
        effects={"total": amount, "lines": _told(document)},
    )
    made = write(note.customer, document, how=Issuing(subscription=note.subscription, phase=phase, operation=operation))
    made.memo = reason
    return settle_issued(made, now=now, net_terms_days=net_terms_days)


def _credits(document: Invoice) -> Sequence[InvoiceLine]:
    """What a document gives back of others, line by line."""
    rows = document.lines.filter(amount__lt=0).select_related("source__item", "invoice").order_by("position", "id")
    return [row for row in rows if row.net < 0]


def _told(document: Document) -> list[dict[str, object]]:
    return [{"description": line.description, "amount": line.amount} for line in document.lines]


def _document(drawn: Sequence[DrawnLine], of: Invoice, offsets_id: int | None) -> Document:
    totals = tax_totals(tax for line in drawn for tax in line.taxes)
    return Document(Drawn(tuple(drawn), (), totals, of.currency), offsets_id=offsets_id)


def charged_again(credit: InvoiceLine, gross: int) -> DrawnLine:
    """A charge for so much (with tax, minor units) of the time that a credit line had given back."""
    source = credit.source
    assert source is not None, "what was given back was charged by a line"
    rates = zip(from_json(credit.taxes), (-tax["amount"] for tax in credit.taxes), strict=True)
    room = LineRoom(
        line_id=source.pk,
        key=source.key,
        description=_named(source),
        net=-credit.net,
        taxes=tuple(LineTax(rate, 0, amount) for rate, amount in rates),
        currency=credit.invoice.currency,
        charged=-credit.net,
    )
    mirrored = room.part_of_gross(gross)
    share = Fraction(gross, room.gross)
    taxes = tuple(LineTax(tax.rate, -tax.taxable, -tax.amount) for tax in mirrored.taxes)
    return DrawnLine(_line(credit, source, -mirrored.line.amount, share, room), taxes=taxes)


def _named(source: InvoiceLine) -> str:
    """A charge without the part of its name that says from when."""
    return source.description.split(" (from ")[0].removesuffix(" again")


def _line(credit: InvoiceLine, source: InvoiceLine, amount: int, share: Fraction, room: LineRoom) -> Line:
    facts = dict(source.derivation)
    period = {name: facts[name] for name in ("periodStartsAt", "periodEndsAt") if name in facts}
    whole, shown = (format_minor(minor, room.currency) for minor in (room.net, amount))
    part = "" if share == 1 else f", {shown} of it"
    found: dict[str, object] = {"sum": f"{whole} had been given back of {room.description}{part}", **period}
    if "price" in credit.derivation:
        found["price"] = str(Fraction(credit.derivation["price"]) * share)
    if period and credit.starts_at is not None:
        span = Period(*map(datetime.fromisoformat, period.values()))
        found["share"] = str(span.left(credit.starts_at) * share)
    again = f"{room.description} again"
    since = f" (from {credit.starts_at:%-d %b %Y})" if credit.starts_at else ""
    return Line(
        source.kind if source.kind in ADVANCE else FEE,
        source.key,
        f"{again}{since}"[:300],
        amount,
        room.currency,
        quantity=source.quantity,
        rate=source.rate,
        starts_at=credit.starts_at,
        ends_at=credit.ends_at,
        derivation=found,
        item_id=source.item_id,
    )
