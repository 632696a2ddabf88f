"""Where our books and Stripe's part. Pure: our side and Stripe's as values go in, differences come out.

What is told here is what a person would have to explain. Two books that both say "nothing is owed any more" agree,
whatever word each of them has for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from catalog.money import format_minor
from invoicing.states import InvoiceState
from payments.facts import CustomerFacts, InvoiceFacts, ItemFacts, PaymentFacts, SubscriptionFacts
from payments.models import Difference, Method, StripeInvoice
from payments.steps import UNDER_WAY, Act, Owed, Step, meaning_of, next_step

Kind, Subject, State = Difference.Kind, Difference.Subject, StripeInvoice.State

# What Stripe says of a subscription that goes on, and the state of the contract that follows it.
FOLLOWED = {"active": "active", "trialing": "trialing", "past_due": "past_due", "incomplete": "pending_payment"}
OVER = ("canceled", "incomplete_expired")


class Repair:
    """The names of the repairs that cannot do harm; what they do stands in the flow that carries them out."""

    LOOK = "look"  # write down what Stripe shows of an invoice
    RECORD = "record"  # the same, and with it a payment
    ADOPT = "adopt"  # know the Stripe invoice that carries our id
    START = "start"  # collect an open invoice with Stripe
    ANEW = "anew"  # draw up a Stripe invoice again
    BRING_ON = "bring_on"  # void, give up, mark paid or credit in Stripe what is so here
    TELL = "tell"  # write name, e-mail and ids to Stripe
    FOLLOW = "follow"  # follow the subscription again
    UNLINK = "unlink"  # know that the customer was deleted in Stripe


@dataclass(frozen=True, slots=True)
class Gap:
    """One difference, in words. `customer` is the key of ours; without a `repair` a person has to decide."""

    subject: str
    kind: str
    our_id: str
    stripe_id: str
    ours: str
    theirs: str
    repair: str = ""
    customer: int | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.subject, self.kind, self.our_id, self.stripe_id


# Customers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OurCustomer:
    """`stripe_id` is the one that is linked; `is_told`: Stripe was told what we know, so it ought to have it."""

    key: int
    public_id: str
    customer_id: str
    name: str
    email: str
    stripe_id: str = ""
    is_told: bool = True
    is_erased: bool = False

    @property
    def words(self) -> str:
        return f"{self.name}, {self.email}" if self.email else self.name


@dataclass(frozen=True, slots=True)
class Named:
    """What stands in the metadata of a Stripe customer, and whom of ours that means (None: nobody)."""

    reference: str
    key: str
    means: OurCustomer | None = None


def compare_customer(ours: OurCustomer | None, theirs: CustomerFacts, named: Named) -> list[Gap]:
    """`ours` is linked with it; None: nobody is."""
    if ours is None:
        return list(_of_unlinked(theirs, named))
    if ours.is_erased:
        return []  # what Stripe still knows was decided when they were deleted here
    if theirs.deleted:
        gap = _of_customer(ours, Kind.MISSING_THERE, theirs, "deleted, or never there", Repair.UNLINK)
        return [gap]
    if not ours.is_told:
        return []
    gaps = []
    if (ours.name, ours.email) != (theirs.name, theirs.email):
        gaps.append(_of_customer(ours, Kind.STATUS, theirs, words_of(theirs), Repair.TELL))
    if not _carries_ours(ours, named):
        safe = named.means is None or named.means.key == ours.key
        there = " and ".join(filter(None, [named.reference, named.key])) or "no id of ours"
        gap = _of_customer(ours, Kind.OWNER, theirs, f"carries {there}", Repair.TELL if safe else "")
        gaps.append(gap)
    return gaps


def _carries_ours(ours: OurCustomer, named: Named) -> bool:
    """One of our two ids is enough, as long as the other is not somebody else's."""
    reference, key = named.reference == ours.public_id, named.key == ours.customer_id
    return (reference or key) and (reference or not named.reference) and (key or not named.key)


def _of_unlinked(theirs: CustomerFacts, named: Named) -> Iterator[Gap]:
    if theirs.deleted:
        return
    means = named.means
    if means is None:
        if named.reference:
            there = f"{words_of(theirs)}, carries {named.reference}"
            yield Gap(Subject.CUSTOMER, Kind.MISSING_HERE, "", theirs.id, "no such customer", there)
    elif not means.stripe_id:
        gap = Gap(Subject.CUSTOMER, Kind.MISSING_HERE, means.public_id, theirs.id, "not linked", words_of(theirs))
        yield replace(gap, customer=means.key)
    elif means.stripe_id != theirs.id:
        ours = f"linked with {means.stripe_id}"
        gap = Gap(Subject.CUSTOMER, Kind.OWNER, means.public_id, theirs.id, ours, "carries the same id of ours")
        yield replace(gap, customer=means.key)


def _of_customer(ours: OurCustomer, kind: str, theirs: CustomerFacts, there: str, repair: str) -> Gap:
    here = f"{ours.public_id} and {ours.customer_id}" if kind == Kind.OWNER else ours.words
    return Gap(Subject.CUSTOMER, kind, ours.public_id, theirs.id, here, there, repair, ours.key)


def words_of(theirs: CustomerFacts) -> str:
    return ", ".join(filter(None, [theirs.name, theirs.email])) or "no name, no e-mail"


# Invoices and their payments ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OurPayment:
    """One that Stripe took in, as it is recorded here. `invoice` is the public id of the one it settles."""

    public_id: str
    intent: str
    amount: int
    invoice: str


@dataclass(frozen=True, slots=True)
class OurInvoice:
    """A document with what we know of it in Stripe (`stripe_id` empty: nothing yet); amounts in minor units.

    `owners` are the Stripe customers that it may belong to. `payments` are recorded for it by Stripe, `elsewhere` the
    ones recorded for another document. `refunded` is what credit notes gave back of it: through Stripe, and in all.
    """

    customer: int
    public_id: str
    label: str
    currency: str
    state: str
    total: int
    due: int
    credit_applied: int = 0
    offset: int = 0
    paid: int = 0
    owners: frozenset[str] = frozenset()
    stripe_id: str = ""
    status: str = ""
    known_as: str = ""
    method: str = ""
    has_card: bool = False
    is_parked: bool = False
    payments: tuple[OurPayment, ...] = ()
    elsewhere: Mapping[str, OurPayment] = field(default_factory=dict)
    refunded: tuple[int, int] = (0, 0)
    refund_moves: bool = False

    @property
    def is_owed(self) -> bool:
        """Whether Stripe is to ask for it."""
        return self.state == InvoiceState.OPEN and self.due > 0 and self.method != Method.NONE

    @property
    def taken(self) -> int:
        return sum(payment.amount for payment in self.payments)

    def say(self, minor: int) -> str:
        return format_minor(minor, self.currency)

    @property
    def words(self) -> str:
        due = f", {self.say(self.due)} due" if self.is_owed else ""
        return f"{self.label}: {self.state}{due}"


def compare_invoice(ours: OurInvoice | None, theirs: InvoiceFacts | None) -> list[Gap]:
    """One document and the Stripe invoice for it, read whole: with every payment. None: there is no such thing."""
    if theirs is None:
        return [] if ours is None else list(_missing_there(ours))
    if ours is None or ours.stripe_id != theirs.id:
        return list(_missing_here(ours, theirs))
    payments = list(compare_payments(ours, theirs.payments))
    gaps = [*_owner(ours, theirs), *_amount(ours, theirs), *payments, *compare_refunds(ours, theirs.payments)]
    unrecorded = any(gap.kind == Kind.MISSING_HERE for gap in payments)
    if not unrecorded:  # with the payment its status comes as well
        gaps += _status(ours, theirs) or _known_otherwise(ours, theirs)
    return list({gap.key: gap for gap in reversed(gaps)}.values())[::-1]


def is_suspect(ours: OurInvoice | None, theirs: InvoiceFacts) -> bool:
    """Whether the row of a list, which has no payments, gives a reason to look at the whole."""
    if ours is None or ours.stripe_id != theirs.id:
        return bool(compare_invoice(ours, theirs))
    if theirs.status != ours.status or list(_owner(ours, theirs)) or list(_amount(ours, theirs)):
        return True
    # Stripe counts what was paid elsewhere as paid, and says how much of it that was.
    return ours.taken not in (theirs.paid, theirs.paid - theirs.paid_outside) or bool(_status(ours, theirs))


def _gap(ours: OurInvoice, kind: str, stripe_id: str, here: str, there: str, repair: str = "") -> Gap:
    return Gap(Subject.INVOICE, kind, ours.public_id, stripe_id, here, there, repair, ours.customer)


def _missing_there(ours: OurInvoice) -> Iterator[Gap]:
    if ours.stripe_id:
        repair = Repair.ANEW if ours.is_owed else ""
        yield _gap(ours, Kind.MISSING_THERE, ours.stripe_id, ours.words, "no such invoice", repair)
    elif ours.is_owed:
        yield _gap(ours, Kind.MISSING_THERE, "", ours.words, "no invoice for it", Repair.START)


def _missing_here(ours: OurInvoice | None, theirs: InvoiceFacts) -> Iterator[Gap]:
    there = f"{theirs.number or theirs.id}: {theirs.status}, {format_minor(theirs.total, theirs.currency)}"
    if not theirs.reference or theirs.status == "void":
        return
    if ours is None:
        here = f"no document {theirs.reference}"
        yield Gap(Subject.INVOICE, Kind.MISSING_HERE, theirs.reference, theirs.id, here, there)
    elif ours.stripe_id:
        yield _gap(ours, Kind.MISSING_HERE, theirs.id, f"{ours.label} is {ours.stripe_id} there", f"a second: {there}")
    else:
        yield _gap(ours, Kind.MISSING_HERE, theirs.id, f"{ours.words}, not known there", there, Repair.ADOPT)


def _owner(ours: OurInvoice, theirs: InvoiceFacts) -> Iterator[Gap]:
    if theirs.customer not in ours.owners:
        here = f"{ours.label} of {', '.join(sorted(ours.owners)) or 'nobody in Stripe'}"
        yield _gap(ours, Kind.OWNER, theirs.id, here, f"of {theirs.customer or 'nobody'}")


def _amount(ours: OurInvoice, theirs: InvoiceFacts) -> Iterator[Gap]:
    if theirs.status == "draft":
        return
    others = max(0, ours.paid - ours.taken)
    most = ours.total - ours.credit_applied
    # Payments by other ways and credit notes came before Stripe's total was made, or after.
    if not most - ours.offset - others <= theirs.total <= most:
        here, there = f"{ours.label}: {ours.say(most)} to be paid", f"a total of {ours.say(theirs.total)}"
        yield _gap(ours, Kind.AMOUNT, theirs.id, here, there)
        return
    step = _step(ours, theirs)
    if ours.is_owed and theirs.status == "open" and step.act in (Act.CREDIT, Act.PARK):
        here, there = f"{ours.label}: {ours.say(ours.due)} due", f"asks for {ours.say(theirs.remaining)}"
        repair = Repair.BRING_ON if step.act is Act.CREDIT else ""
        yield _gap(ours, Kind.AMOUNT, theirs.id, here, there, repair)


def _step(ours: OurInvoice, theirs: InvoiceFacts) -> Step:
    owed = Owed(ours.state, ours.due, ours.currency, (), stopped=ours.method == Method.NONE)
    return next_step(owed, theirs)


def _status(ours: OurInvoice, theirs: InvoiceFacts) -> list[Gap]:
    repair = None
    if theirs.status == "draft":
        repair = "" if ours.is_parked else Repair.BRING_ON
    elif theirs.status in ("open", "uncollectible") and not ours.is_owed:
        settles = _step(ours, theirs).act in (Act.VOID, Act.SETTLE_OUTSIDE, Act.GIVE_UP)
        repair = Repair.BRING_ON if settles else None
    elif ours.is_owed and theirs.status != "open":
        repair = ""  # settled there without money: which of both is right, nobody can tell from here
    elif ours.state == InvoiceState.UNCOLLECTIBLE and theirs.status == "paid":
        repair = ""
    if repair is None:
        return []
    outside = " outside Stripe" if theirs.status == "paid" and not theirs.payments else ""
    return [_gap(ours, Kind.STATUS, theirs.id, ours.words, f"{theirs.status}{outside}", repair)]


def _known_otherwise(ours: OurInvoice, theirs: InvoiceFacts) -> list[Gap]:
    """Both books agree, but our page says something else of the collection: a word of Stripe's did not arrive."""
    meaning = meaning_of(theirs, method=ours.method, has_card=ours.has_card)
    same_state = ours.is_parked or meaning.state == ours.known_as or _is_waiting(meaning.state, ours.known_as)
    if same_state and theirs.status == ours.status:
        return []
    here, there = (State(state).label.lower() for state in (ours.known_as, meaning.state))
    disputed = next((payment for payment in theirs.payments if payment.disputed), None)
    if disputed is not None and meaning.state in (State.DISPUTED, State.LOST, State.PAID):
        words = f"{ours.label}: {here}"
        return [_payment_gap(ours, Kind.STATUS, disputed, words, meaning.problem or there, Repair.LOOK)]
    return [_gap(ours, Kind.STATUS, theirs.id, f"{ours.label}: shown as {here}", there, Repair.LOOK)]


def _is_waiting(one: str, other: str) -> bool:
    """Whether there is a card to charge is told by the customer, not by the invoice."""
    return {one, other} <= {State.WAITING, State.NEEDS_METHOD}


def compare_payments(ours: OurInvoice, there: Sequence[PaymentFacts]) -> Iterator[Gap]:
    taken = {payment.intent: payment for payment in there if payment.status == "succeeded" and payment.received}
    here = {payment.intent: payment for payment in ours.payments}
    for payment in taken.values():
        yield from _of_payment(ours, here.get(payment.intent), payment)
    for known in here.values():
        if known.intent not in taken and not _is_under_way(known.intent, there):
            words = f"{ours.label}: {ours.say(known.amount)} received"
            yield Gap(
                Subject.PAYMENT,
                Kind.MISSING_THERE,
                known.public_id,
                known.intent,
                words,
                "no such payment of this invoice",
                customer=ours.customer,
            )


def _is_under_way(intent: str, there: Sequence[PaymentFacts]) -> bool:
    return any(payment.intent == intent and payment.status in UNDER_WAY for payment in there)


def _of_payment(ours: OurInvoice, known: OurPayment | None, there: PaymentFacts) -> Iterator[Gap]:
    if known is None:
        other = ours.elsewhere.get(there.intent)
        said = f"{ours.say(there.received)} received for {ours.label}"
        if other is not None:
            yield _payment_gap(ours, Kind.OWNER, there, f"recorded for {other.invoice}", said)
        else:
            yield _payment_gap(ours, Kind.MISSING_HERE, there, f"{ours.words}, no such payment", said, Repair.RECORD)
    elif known.amount != there.received:
        here, said = f"{ours.label}: {ours.say(known.amount)} received", f"{ours.say(there.received)} received"
        yield _payment_gap(ours, Kind.AMOUNT, there, here, said)


def compare_refunds(ours: OurInvoice, there: Sequence[PaymentFacts]) -> Iterator[Gap]:
    """What went back by Stripe, and what credit notes say of it; of one invoice together, said at one payment."""
    back = [payment for payment in there if payment.refunded]
    refunded = sum(payment.refunded for payment in back)
    least, most = ours.refunded
    if ours.refund_moves or least <= refunded <= most or not there:
        return
    at = (back or list(there))[0]
    here = f"{ours.label}: {ours.say(least if refunded < least else most)} given back by credit notes"
    yield _payment_gap(ours, Kind.AMOUNT, at, here, f"{ours.say(refunded)} refunded")


def _payment_gap(ours: OurInvoice, kind: str, there: PaymentFacts, here: str, said: str, repair: str = "") -> Gap:
    known = next((payment.public_id for payment in ours.payments if payment.intent == there.intent), ours.public_id)
    return Gap(Subject.PAYMENT, kind, known, there.intent, here, said, repair, ours.customer)


def is_payment_suspect(ours: OurInvoice, there: PaymentFacts) -> bool:
    """Whether one payment of a list gives a reason to look at its whole invoice."""
    if there.status != "succeeded":
        fitting = (State.PROCESSING, State.ACTION, State.DECLINED, State.PARKED)
        return ours.known_as not in fitting and (bool(there.code) or there.status == "processing")
    known = next((payment for payment in ours.payments if payment.intent == there.intent), None)
    if known is None or known.amount != there.received:
        return bool(there.received)
    # What became of these no list tells.
    told = ours.known_as in (State.PART_REFUNDED, State.REFUNDED, State.DISPUTED, State.LOST)
    return told or there.disputed or there.refunded > 0 or ours.refunded[0] > 0


# Subscriptions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OurItem:
    """One mirrored item, with the contract that follows it (`our_id` empty: none does)."""

    customer: int | None
    item_id: str
    stripe_id: str
    owner: str
    status: str
    price: str
    quantity: int
    starts_at: datetime | None
    ends_at: datetime | None
    our_id: str = ""
    contract_state: str = ""
    contract_quantity: int = 0
    has_conflict: bool = False

    @property
    def is_running(self) -> bool:
        return self.status not in OVER


def compare_subscription(
    ours: Sequence[OurItem], theirs: SubscriptionFacts | None, *, customer: int | None
) -> list[Gap]:
    """The items that we follow of one subscription. `customer` is the key of ours that its owner is linked with."""
    there = {item.id: item for item in theirs.items} if theirs else {}
    gaps = []
    for item in ours:
        if theirs is None or item.item_id not in there:
            if item.is_running:
                words = _words(item.status, item.quantity, item.price)
                gaps.append(_item_gap(item, Kind.MISSING_THERE, words, "no such subscription item", Repair.FOLLOW))
            continue
        gaps += _compare_item(item, theirs, there[item.item_id])
    known = {item.item_id for item in ours}
    if theirs is not None and customer is not None and theirs.status not in OVER:
        gaps += [_unfollowed(theirs, item, customer) for id_, item in there.items() if id_ not in known]
    return gaps


def _compare_item(ours: OurItem, theirs: SubscriptionFacts, item: ItemFacts) -> Iterator[Gap]:
    if ours.owner != theirs.customer:
        yield _item_gap(ours, Kind.OWNER, f"of {ours.owner}", f"of {theirs.customer}")
    alone = not ours.our_id or ours.has_conflict
    counted = alone or theirs.status not in FOLLOWED or ours.contract_quantity == item.quantity
    if (ours.price, ours.quantity) != (item.price, item.quantity) or not counted:
        here = f"{ours.quantity if counted else ours.contract_quantity} × {ours.price}"
        yield _item_gap(ours, Kind.AMOUNT, here, f"{item.quantity} × {item.price}", Repair.FOLLOW)
    follows = alone or ours.contract_state == FOLLOWED.get(theirs.status, "ended")
    period_here, period_there = (ours.starts_at, ours.ends_at), (item.period_starts_at, item.period_ends_at)
    if ours.status != theirs.status or period_here != period_there or not follows:
        said = ours.status if follows else f"{ours.status}, its contract {ours.contract_state}"
        here = f"{said}, {_span(*period_here)}"
        yield _item_gap(ours, Kind.STATUS, here, f"{theirs.status}, {_span(*period_there)}", Repair.FOLLOW)


def _unfollowed(theirs: SubscriptionFacts, item: ItemFacts, customer: int) -> Gap:
    there = _words(theirs.status, item.quantity, item.price)
    return Gap(Subject.SUBSCRIPTION, Kind.MISSING_HERE, item.id, theirs.id, "not known", there, Repair.FOLLOW, customer)


def _item_gap(ours: OurItem, kind: str, here: str, there: str, repair: str = "") -> Gap:
    our_id = ours.our_id or ours.item_id
    return Gap(Subject.SUBSCRIPTION, kind, our_id, ours.stripe_id, here, there, repair, ours.customer)


def _words(status: str, quantity: int, price: str) -> str:
    return f"{status}, {quantity} × {price}"


def _span(starts_at: datetime | None, ends_at: datetime | None) -> str:
    return " – ".join(f"{at.day} {at:%b %Y}" if at else "?" for at in (starts_at, ends_at))
