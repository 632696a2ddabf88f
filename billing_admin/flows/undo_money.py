"""What becomes of the documents of a change of plan that is taken back, each as it stands by now.

An invoice that is not paid is voided; of one that is paid all but use, and what is used of bought units, becomes
account credit. A credit note is voided while what it gave is there, else as much of it is charged again as is left.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from billing_admin.approving import Effect
from billing_admin.flows.approvals import guard_as
from billing_admin.flows.collection import net_terms_of
from billing_admin.flows.corrections import credit_invoice, void_invoice
from billing_admin.flows.gate import settled
from catalog.models import Coupon
from catalog.money import format_minor
from customers.journal import Actor
from customers.models import Operation, Phase
from invoicing.credit_note import ACCOUNT_CREDIT, OFFSET, OWED, credit_room
from invoicing.lines import TRUE_UP, USAGE
from invoicing.models import BillingSettings, Invoice, InvoiceLine
from invoicing.readings import account_credit, gross_of
from invoicing.reversal import Reversal, charge_again, reversal_of, reverse, withdraw_note
from invoicing.states import InvoiceState

UNPAID = (InvoiceState.DRAFT, *OWED)


class Fate(StrEnum):
    VOIDED = "voided"
    CREDITED = "credited"
    WITHDRAWN = "withdrawn"
    CHARGED_AGAIN = "charged again"
    STAYS = "stays"


@dataclass(frozen=True, slots=True)
class Ending:
    """What becomes of one document. `amount` is credited, withdrawn or charged again; `kept` is what stays charged for
    use, elapsed time and used units, by the line's id; `spent` is account credit that was used. All in minor units,
    with tax."""

    document: Invoice
    fate: Fate
    amount: int = 0
    spent: int = 0
    kept: Mapping[int, int] = field(default_factory=dict)

    @property
    def is_void(self) -> bool:
        """Whether nothing of it stands afterwards, so that its use is still to be billed."""
        return self.fate in (Fate.VOIDED, Fate.WITHDRAWN)


def documents_of(operation: Operation) -> Iterator[Invoice]:
    """What an act issued and nobody corrected as a whole."""
    rows = Invoice.objects.filter(operation=operation).exclude(state=InvoiceState.VOID).order_by("id")
    yield from rows.select_related("customer", "subscription", "gates", "offsets")


def is_unpaid(invoice: Invoice) -> bool:
    return invoice.kind == Invoice.Kind.INVOICE and invoice.state in UNPAID


def endings_of(operation: Operation, units: Mapping[int, int]) -> list[Ending]:
    """What becomes of each document; `units` is the charge for bought units that are used, by the line's id."""
    return [_ending(document, units) for document in documents_of(operation)]


def _ending(document: Invoice, units: Mapping[int, int]) -> Ending:
    if document.kind == Invoice.Kind.CREDIT_NOTE:
        return _ending_of_note(document)
    lines = list(document.lines.all())
    earned = {line.pk: units[line.pk] for line in lines if units.get(line.pk)}
    earned |= {line.pk: gross_of(line) for line in lines if _is_elapsed(line)}
    if is_unpaid(document) and not (earned and document.state in OWED):
        return Ending(document, Fate.VOIDED)
    kept = earned | {line.pk: gross_of(line) for line in lines if line.kind == USAGE}
    room = credit_room(document)
    most = room.most(ACCOUNT_CREDIT) + room.most(OFFSET)
    amount = max(0, min(room.rest - sum(kept.values()), most))
    return Ending(document, Fate.CREDITED if amount else Fate.STAYS, amount, kept=kept)


def _is_elapsed(line: InvoiceLine) -> bool:
    """Whether it charges for the time before the change, which nobody bills again: fees in arrears, and minimums."""
    return line.amount > 0 and (line.kind == TRUE_UP or "inArrears" in line.derivation)


def _ending_of_note(note: Invoice) -> Ending:
    amount = -note.total
    if note.offsets is not None:
        settled_since = note.offsets.state == InvoiceState.PAID
        return Ending(note, Fate.CHARGED_AGAIN if settled_since else Fate.WITHDRAWN, amount)
    there = max(0, min(amount, account_credit(note.customer)))
    if there == amount:
        return Ending(note, Fate.WITHDRAWN, amount)
    return Ending(note, Fate.CHARGED_AGAIN if there else Fate.STAYS, there, spent=amount - there)


# In words -------------------------------------------------------------------------------------------------------------


def effects_of(endings: Iterable[Ending]) -> Iterator[Effect]:
    for ending in endings:
        document, amount = ending.document, format_minor(ending.amount, ending.document.currency)
        money = format_minor(abs(document.total), document.currency)
        kind = "credit note" if document.kind == Invoice.Kind.CREDIT_NOTE else document.get_state_display().lower()
        after = {
            Fate.VOIDED: "void",
            Fate.WITHDRAWN: "void",
            Fate.CREDITED: f"{kind}, with a credit note of {amount}",
            Fate.CHARGED_AGAIN: f"{amount} of it charged again by an invoice",
        }.get(ending.fate)
        if after:
            yield Effect(str(document), f"{kind}, {money}", after)


def stays_of(endings: Iterable[Ending]) -> Iterator[str]:
    """What of the money is not as if nothing had been, a sentence each."""
    for ending in endings:
        document = ending.document
        if ending.spent:
            money = format_minor(ending.spent, document.currency)
            yield f"{money} of the account credit that {document} gave is used already; it stays with the customer."
        if document.kind != Invoice.Kind.INVOICE:
            continue
        yield from () if ending.is_void else _taken_off(document)
        paid = document.paid if ending.is_void else min(document.paid, ending.amount)
        if paid:
            money = format_minor(paid, document.currency)
            yield f"{money} that was paid for {document} is not paid back: it becomes account credit."


def _taken_off(document: Invoice) -> Iterator[str]:
    """What reduced an invoice that stands, and is used up by that."""
    for taken in document.deductions.select_related("applied_coupon__coupon"):
        coupon = taken.applied_coupon.coupon if taken.applied_coupon else None
        if coupon is None or coupon.duration != Coupon.Duration.FOREVER:
            money = format_minor(taken.amount, document.currency)
            yield f"{money} that {taken.label} took off {document} counts as used."


def billed_use(endings: Iterable[Ending]) -> Iterator[str]:
    """Use, and time before the change, that it had billed and that stays so."""
    for ending in endings:
        if ending.is_void:
            continue
        lines, currency = list(ending.document.lines.all()), ending.document.currency
        use = sum(gross_of(line) for line in lines if line.kind == USAGE)
        elapsed = sum(gross_of(line) for line in lines if _is_elapsed(line))
        if use:
            yield f"{format_minor(use, currency)} for use on {ending.document} stays billed."
        if elapsed:
            yield f"{format_minor(elapsed, currency)} for the time before the change on {ending.document} stays billed."


def facts_of(endings: Iterable[Ending]) -> list[tuple[object, ...]]:
    found = []
    for ending in endings:
        i = ending.document
        there = ending.fate, ending.amount, ending.spent
        own = there if i.kind == Invoice.Kind.CREDIT_NOTE else ()  # of invoices, use that comes in moves the amount
        found.append((i.public_id, i.state, i.total, i.paid, i.credit_applied, i.offset, *own))
    return found


# The act --------------------------------------------------------------------------------------------------------------


def give_back(
    endings: Sequence[Ending], *, phase: Phase | None, reason: str, actor: Actor, now: datetime
) -> list[Invoice]:
    """Carry out what becomes of the documents; what is charged again belongs to `phase`. Returns what was issued.

    Invoices come first: what they give back pays for what is charged again. Raises `ApprovalNeeded`.
    """
    made: list[Invoice] = []
    for ending in sorted(endings, key=lambda e: e.document.kind == Invoice.Kind.CREDIT_NOTE):
        document = Invoice.objects.select_related("customer", "subscription", "gates").get(pk=ending.document.pk)
        if ending.fate is Fate.VOIDED and document.state == InvoiceState.VOID:
            continue  # a first invoice that nobody paid was given up with its contract
        if ending.fate is Fate.VOIDED:
            void_invoice(document, reason=reason, actor=actor, now=now)
        elif ending.fate is Fate.CREDITED:
            made += _credit(document, ending, phase=phase, reason=reason, actor=actor, now=now)
        elif ending.fate is Fate.WITHDRAWN:
            withdraw_note(document, reason=reason, actor=actor, now=now)
        elif ending.fate is Fate.CHARGED_AGAIN:
            days = net_terms_of(document.subscription, BillingSettings.present())
            made.append(
                charge_again(
                    document, ending.amount, phase=phase, net_terms_days=days, reason=reason, actor=actor, now=now
                )
            )
    return made


def _credit(
    invoice: Invoice, ending: Ending, *, phase: Phase | None, reason: str, actor: Actor, now: datetime
) -> list[Invoice]:
    """Line by line where that says it all, else spread over the lines: first off what is owed, then as credit."""
    settlement = OFFSET if invoice.state in OWED else ACCOUNT_CREDIT
    exact = reversal_of(invoice, ending.kept, settlement)
    if exact is not None and exact.amount == ending.amount:
        return [_reverse(invoice, exact, phase=phase, reason=reason, actor=actor, now=now)]
    made, rest = [], ending.amount
    for each in (OFFSET, ACCOUNT_CREDIT):
        part = min(rest, credit_room(invoice).most(each))
        if part:
            made.append(credit_invoice(invoice, amount=part, settlement=each, reason=reason, actor=actor, now=now))
            invoice.refresh_from_db()
            rest -= part
    return made


def _reverse(
    invoice: Invoice, exact: Reversal, *, phase: Phase | None, reason: str, actor: Actor, now: datetime
) -> Invoice:
    guard_as(
        "invoice.credited",
        actor=actor,
        now=now,
        reason=reason,
        invoice=invoice,
        amount=exact.amount,
        settlement=exact.settlement,
    )
    note = reverse(invoice, exact, phase=phase, reason=reason, actor=actor, now=now)
    if note.offsets_id is not None:
        settled(Invoice.objects.get(pk=invoice.pk), actor=actor, now=now)
    return note
