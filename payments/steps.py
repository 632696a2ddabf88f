"""What to do next with an invoice in Stripe, and what its state there means. Pure.

Nothing is remembered about how far a collection came: the next step is read off what is owed here and what Stripe
shows now. So it may be interrupted anywhere, repeated, or overtaken by a person on either side.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from catalog.money import format_minor
from invoicing.states import InvoiceState
from payments.facts import InvoiceFacts, PaymentFacts
from payments.lines import SentLine
from payments.minor import NotInStripe, least, to_stripe
from payments.models import Method, StripeInvoice
from payments.words import DISPUTES, why_declined

State = StripeInvoice.State
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
# A payment that is under way: whoever charges again might charge twice. One that "requires confirmation" is not: so
# Stripe calls it before the first attempt, where there is a card.
UNDER_WAY = ("processing", "requires_action", "requires_capture")
# Of these, whatever does not wait for the customer.
MONEY_MOVES = ("processing", "requires_capture")


class Act(StrEnum):
    NOTHING = "nothing"
    CREATE = "create"
    ADD_LINES = "add_lines"
    DISCARD = "discard"
    FINALIZE = "finalize"
    CHARGE = "charge"
    CREDIT = "credit"
    SETTLE_OUTSIDE = "settle_outside"
    VOID = "void"
    GIVE_UP = "give_up"
    PARK = "park"


@dataclass(frozen=True, slots=True)
class Step:
    """One act. `why` and `code` say what a person has to know about a parked one; `amount` is what a credit takes."""

    act: Act
    why: str = ""
    code: str = ""
    amount: int = 0
    lines: tuple[SentLine, ...] = ()


NOTHING = Step(Act.NOTHING)


@dataclass(frozen=True, slots=True)
class Owed:
    """Our side: an issued invoice, `due` in minor units. `may_charge`: there is a card, and its time has come;
    `is_asked`: because somebody asked for it, or saved another card.

    `stopped`: it stays open here, but somebody decided that Stripe does not ask for it.
    """

    state: str
    due: int
    currency: str
    lines: tuple[SentLine, ...]
    may_charge: bool = False
    is_asked: bool = False
    stopped: bool = False

    @property
    def is_owed(self) -> bool:
        return self.state == InvoiceState.OPEN and self.due > 0 and not self.stopped


def next_step(owed: Owed, seen: InvoiceFacts | None) -> Step:
    """The one act that brings Stripe's invoice (None: there is none) nearer to ours."""
    if seen is None:
        return _first(owed)
    if seen.status == "draft":
        return _of_draft(owed, seen)
    if seen.status == "open":
        return _of_open(owed, seen)
    if seen.status == "uncollectible":
        return _of_given_up(owed)
    return NOTHING


def _first(owed: Owed) -> Step:
    if not owed.is_owed:
        return NOTHING
    if sum(line.amount for line in owed.lines) != owed.due:
        return Step(Act.PARK, "The lines of this invoice do not sum to what is due on it.", "lines_do_not_sum")
    try:
        for line in owed.lines:
            to_stripe(line.amount, owed.currency)
    except NotInStripe as error:
        return Step(Act.PARK, error.messages[0], "too_fine_for_stripe")
    if owed.due < least(owed.currency):
        words = format_minor(least(owed.currency), owed.currency)
        why = f"Stripe charges no less than {words}. Take this payment another way, or let account credit cover it."
        return Step(Act.PARK, why, "below_minimum")
    return Step(Act.CREATE)


def _of_draft(owed: Owed, seen: InvoiceFacts) -> Step:
    if not owed.is_owed:
        return Step(Act.DISCARD)
    there = {line.key: line.amount for line in seen.lines}
    wanted = {line.key: line.amount for line in owed.lines}
    if "" in there:
        return Step(Act.PARK, "Somebody else added a line to the draft in Stripe.", "foreign_line")
    if len(there) < len(seen.lines) or any(wanted.get(key) != amount for key, amount in there.items()):
        return Step(Act.DISCARD)  # drawn up from what was owed before
    missing = tuple(line for line in owed.lines if line.key not in there)
    if missing:
        return Step(Act.ADD_LINES, lines=missing)
    return _mismatch(owed, seen) or Step(Act.FINALIZE)


def _mismatch(owed: Owed, seen: InvoiceFacts) -> Step | None:
    """Stripe's total is its own sum: with equal lines it may still differ, by a tax, a discount or a balance there."""
    if (seen.total, seen.due) == (owed.due, owed.due):
        return None
    total, due, ours = (format_minor(amount, owed.currency) for amount in (seen.total, seen.due, owed.due))
    why = f"Stripe makes it {total} and asks for {due}, but {ours} is due. Look for a balance, tax or discount there."
    return Step(Act.PARK, why, "total_mismatch")


def _of_open(owed: Owed, seen: InvoiceFacts) -> Step:
    if owed.state == InvoiceState.VOID or owed.stopped:
        return NOTHING if _in_flight(seen) else Step(Act.VOID)
    if owed.state == InvoiceState.UNCOLLECTIBLE:
        return Step(Act.GIVE_UP)
    if not owed.is_owed:
        return NOTHING if _in_flight(seen) else Step(Act.SETTLE_OUTSIDE)
    if owed.due < seen.remaining:
        return NOTHING if _under_way(seen) else Step(Act.CREDIT, amount=seen.remaining - owed.due)
    if owed.due > seen.remaining:
        asked, due = (format_minor(amount, owed.currency) for amount in (seen.remaining, owed.due))
        return Step(Act.PARK, f"Stripe asks for {asked}, but {due} is due here.", "asks_for_less")
    # One that waits for its customer is tried with another card; the payment stays one and the same.
    waits = _in_flight(seen) if owed.is_asked else _under_way(seen)
    return Step(Act.CHARGE) if owed.may_charge and not waits else NOTHING


def _of_given_up(owed: Owed) -> Step:
    if owed.state == InvoiceState.PAID:
        return Step(Act.SETTLE_OUTSIDE)
    if owed.state == InvoiceState.VOID or owed.stopped:
        return Step(Act.VOID)
    return NOTHING


def _under_way(seen: InvoiceFacts) -> bool:
    return any(payment.status in UNDER_WAY for payment in seen.payments)


def _in_flight(seen: InvoiceFacts) -> bool:
    """Money is moving already. What only waits for its customer ends with the invoice."""
    return any(payment.status in MONEY_MOVES for payment in seen.payments)


# What it means --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meaning:
    """Our word for what Stripe shows, with its code and a sentence where something is wrong."""

    state: str
    code: str = ""
    problem: str = ""


def meaning_of(seen: InvoiceFacts, *, method: str, has_card: bool) -> Meaning:
    """`has_card`: the customer has a saved way to pay that Stripe charges by itself."""
    if seen.status == "paid":
        return _of_paid(seen)
    if seen.status == "open":
        return _of_asked(seen, method=method, has_card=has_card)
    if seen.status == "void":
        return Meaning(State.VOID)
    return Meaning(State.UNCOLLECTIBLE if seen.status == "uncollectible" else State.WAITING)


def _of_paid(seen: InvoiceFacts) -> Meaning:
    taken = [payment for payment in seen.payments if payment.status == "succeeded"]
    if not taken:
        return Meaning(State.OUTSIDE)
    for payment in taken:
        if payment.disputed and payment.dispute_status not in ("won", "warning_closed", "prevented"):
            lost = payment.dispute_status == "lost"
            words = DISPUTES.get(payment.dispute_status, "The customer disputes the payment.")
            return Meaning(State.LOST if lost else State.DISPUTED, payment.dispute_status, words)
    received, refunded = sum(p.received for p in taken), sum(p.refunded for p in taken)
    if refunded:
        return Meaning(State.REFUNDED if refunded >= received else State.PART_REFUNDED)
    return Meaning(State.PAID)


def _of_asked(seen: InvoiceFacts, *, method: str, has_card: bool) -> Meaning:
    last = latest(seen)
    if last is not None and last.status == "processing":
        return Meaning(State.PROCESSING)
    if last is not None and last.status in UNDER_WAY:
        return Meaning(State.ACTION, "requires_action")
    if last is not None and (last.code or last.decline_code):
        code = last.decline_code or last.code
        if code == "authentication_required":
            return Meaning(State.ACTION, code, why_declined(last.code, last.decline_code, last.message))
        return Meaning(State.DECLINED, code, why_declined(last.code, last.decline_code, last.message))
    if method == Method.SEND:
        return Meaning(State.SENT)
    return Meaning(State.WAITING if has_card else State.NEEDS_METHOD)


def latest(seen: InvoiceFacts) -> PaymentFacts | None:
    """The newest attempt that has not been given up."""
    tried = [payment for payment in seen.payments if payment.status != "canceled"]
    return max(tried, key=lambda payment: payment.at or LONG_AGO, default=None)
