"""Repair one difference between our books and Stripe's: say what is written where, do it, and look at it again.

A repair is one of the verbs that collect, tell or mirror anyway; here it is only named, previewed and journaled. What
a person confirmed is decided again before it is done, and refused when either side has moved.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.flows.gate import waits
from billing_admin.flows.stripe_account import connect
from billing_admin.flows.stripe_anew import StripeIsAway, collect_anew
from billing_admin.flows.stripe_collect import collect_one, hand_over, read_owed, refresh, start
from billing_admin.flows.stripe_compare import check_again, key_of, look_again
from billing_admin.flows.stripe_customers import tell
from billing_admin.flows.stripe_mirror import mirror_customer, mirror_subscription
from catalog.money import format_minor
from customers.journal import Actor, record
from customers.models import Customer
from invoicing.models import Invoice, Payment
from payments.comparing import Gap, Repair
from payments.facts import InvoiceFacts
from payments.gateway import StripeTrouble, gateway
from payments.models import Difference, StripeAccount, StripeCustomer, StripeInvoice
from payments.steps import Act, meaning_of, next_step

STRIPE, HERE = "Stripe", "Here"
REASON = "Stripe has lost its invoice; found when the books were compared."

# What the button says.
LABELS = {
    Repair.LOOK: "Take over Stripe's state",
    Repair.RECORD: "Record the payment",
    Repair.ADOPT: "Follow this Stripe invoice",
    Repair.START: "Collect with Stripe",
    Repair.ANEW: "Draw up again in Stripe",
    Repair.BRING_ON: "Bring Stripe in line",
    Repair.TELL: "Tell Stripe",
    Repair.FOLLOW: "Follow Stripe again",
    Repair.UNLINK: "Note the deletion",
}


class NotSafe(ValidationError):
    def __init__(self, why: str = "No repair of this is safe: a person has to decide which side is right."):
        super().__init__(why, code="no_safe_repair")


class WorldMoved(ValidationError):
    def __init__(self, why: str = "One of the two sides moved meanwhile. Look at what would be written now."):
        super().__init__(why, code="world_moved")


@dataclass(frozen=True, slots=True)
class Write:
    """One thing that a repair writes, and on which side."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What a repair would do now. Whoever confirms sends `fingerprint` back."""

    gap: Gap
    label: str
    writes: tuple[Write, ...]

    @property
    def fingerprint(self) -> str:
        return sha256(repr((self.gap, self.writes)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Repaired:
    """`difference` is settled, or still there: where Stripe did not answer, it will be asked again."""

    difference: Difference
    writes: tuple[Write, ...]

    @property
    def is_gone(self) -> bool:
        return self.difference.settled_at is not None


def preview(row: Difference, now: datetime) -> Preview:
    """Reads both sides, writes nothing. Raises `NotSafe`, `WorldMoved`, `StripeIsAway`."""
    if row.settled_at is not None:
        raise WorldMoved("Both sides agree by now: there is nothing to repair.")
    try:
        gap = _present(row, now)
        if not gap.repair:
            raise NotSafe
        return Preview(gap, LABELS[gap.repair], tuple(EFFECTS[gap.repair](gap, now)))
    except StripeTrouble as trouble:
        raise StripeIsAway(trouble) from trouble


def _present(row: Difference, now: datetime) -> Gap:
    verdict = look_again(row, now)
    if verdict.is_moving:
        raise WorldMoved("It is on its way already: a worker is at it, or will be soon.")
    for gap in verdict.gaps:
        if gap.key == key_of(row):
            return gap
    raise WorldMoved("Both sides agree by now: there is nothing to repair. The next comparison settles it.")


def repair(row: Difference, *, confirmed: str, actor: Actor, now: datetime) -> Repaired:
    """Do what was previewed, journal it, and compare that one thing again. Raises as `preview` does."""
    seen = preview(row, now)
    if seen.fingerprint != confirmed:
        raise WorldMoved
    try:
        ACTS[seen.gap.repair](seen.gap, actor, now)
    except StripeTrouble as trouble:
        raise StripeIsAway(trouble) from trouble
    _journal(seen, actor, now)
    try:
        row = check_again(row, now, by=actor.name)
    except StripeTrouble:
        row.refresh_from_db()  # it stays open until the next comparison
    return Repaired(row, seen.writes)


@transaction.atomic
def _journal(seen: Preview, actor: Actor, now: datetime) -> None:
    gap = seen.gap
    customer = Customer.objects.select_for_update().get(pk=gap.customer) if gap.customer else None
    record(
        customer,
        "difference.repaired",
        f"{seen.label}: {gap.our_id or gap.stripe_id} had {gap.ours!r} here, {gap.theirs!r} in Stripe",
        actor=actor,
        now=now,
        inputs={"subject": gap.subject, "kind": gap.kind, "ours": gap.our_id, "stripe": gap.stripe_id},
        effects={"repair": gap.repair, "writes": [f"{write.where}: {write.what}" for write in seen.writes]},
        fingerprint=seen.fingerprint,
    )


# What each would write ------------------------------------------------------------------------------------------------


def _invoice_of(gap: Gap) -> Invoice:
    """Of an invoice, or of a payment that is known or not."""
    payment = Payment.objects.filter(public_id=gap.our_id).first()
    found = Invoice.objects.select_related("customer", "gates__version__plan", "stripe")
    return found.get(pk=payment.invoice_id) if payment else found.get(public_id=gap.our_id)


def _customer_of(gap: Gap) -> Customer:
    return Customer.objects.get(public_id=gap.our_id)


def _row_of(gap: Gap) -> StripeInvoice:
    return StripeInvoice.objects.select_related("invoice__customer").get(invoice=_invoice_of(gap))


def _facts(row: StripeInvoice) -> InvoiceFacts:
    return gateway().invoice(row.stripe_id or "")


def _look(gap: Gap, now: datetime) -> Iterable[Write]:
    row = _row_of(gap)
    owner = StripeCustomer.objects.filter(customer=row.invoice.customer, deleted_at=None).first()
    meaning = meaning_of(_facts(row), method=row.method, has_card=bool(owner and owner.default_method))
    label = StripeInvoice.State(meaning.state).label.lower()
    yield Write(HERE, f"the collection of {row.invoice} is shown as {label}")
    if meaning.problem:
        yield Write(HERE, meaning.problem)


def _record(gap: Gap, now: datetime) -> Iterable[Write]:
    row = _row_of(gap)
    invoice = row.invoice
    left = invoice.due
    known = set(Payment.objects.filter(provider="stripe", invoice=invoice).values_list("reference", flat=True))
    for payment in _facts(row).payments:
        if payment.status != "succeeded" or not payment.received or payment.intent in known:
            continue
        counted = min(payment.received, left)
        left -= counted
        said = format_minor(payment.received, invoice.currency)
        yield Write(HERE, f"a payment of {said} ({payment.intent}) for {invoice}")
        if payment.received > counted:
            over = format_minor(payment.received - counted, invoice.currency)
            yield Write(HERE, f"{over} of it becomes account credit of {invoice.customer}")
    if invoice.state == Invoice.State.OPEN and not left:
        yield Write(HERE, f"{invoice} is paid")
        gated = _invoice_of(gap)
        if waits(gated) and gated.gates is not None:
            yield Write(HERE, f"{gated.gates.version.plan} begins")
    elif left:
        yield Write(HERE, f"{format_minor(left, invoice.currency)} stays due on {invoice}")


def _adopt(gap: Gap, now: datetime) -> Iterable[Write]:
    invoice = _invoice_of(gap)
    yield Write(HERE, f"{invoice} is known to be {gap.stripe_id} in Stripe, and takes over what Stripe says of it")


def _start(gap: Gap, now: datetime) -> Iterable[Write]:
    invoice = _invoice_of(gap)
    yield Write(HERE, f"{invoice} is handed to the collection")
    yield Write(STRIPE, f"an invoice over {format_minor(invoice.due, invoice.currency)}{_then(invoice)}")


def _anew(gap: Gap, now: datetime) -> Iterable[Write]:
    invoice = _invoice_of(gap)
    yield Write(HERE, f"{invoice} forgets {gap.stripe_id}")
    yield Write(STRIPE, f"a new invoice over {format_minor(invoice.due, invoice.currency)}{_then(invoice)}")


def _then(invoice: Invoice) -> str:
    owner = StripeCustomer.objects.filter(customer=invoice.customer, deleted_at=None).first()
    card = owner.default_method if owner else None
    return f", to be charged to {card['label']}" if card else ", to be paid on Stripe's page"


TAKEN: dict[Act, Callable[[StripeInvoice, str], str]] = {
    Act.VOID: lambda row, amount: f"{row.stripe_id} is voided",
    Act.GIVE_UP: lambda row, amount: f"{row.stripe_id} is marked as uncollectible",
    Act.SETTLE_OUTSIDE: lambda row, amount: f"{row.stripe_id} is marked as paid outside Stripe; nothing is charged",
    Act.DISCARD: lambda row, amount: f"the draft {row.stripe_id} is deleted",
    Act.CREDIT: lambda row, amount: f"a credit note takes {amount} off {row.stripe_id}",
    Act.ADD_LINES: lambda row, amount: f"the draft {row.stripe_id} gets its lines and is finalised{_then(row.invoice)}",
    Act.FINALIZE: lambda row, amount: f"the draft {row.stripe_id} is finalised{_then(row.invoice)}",
}


def _bring_on(gap: Gap, now: datetime) -> Iterable[Write]:
    row = _row_of(gap)
    step = next_step(read_owed(row, facts := _facts(row), now), facts)
    if step.act is Act.PARK:
        raise NotSafe(step.why)
    if step.act not in TAKEN:
        raise WorldMoved("There is nothing left to do in Stripe.")
    yield Write(STRIPE, TAKEN[step.act](row, format_minor(step.amount, row.invoice.currency)))


def _tell(gap: Gap, now: datetime) -> Iterable[Write]:
    customer = _customer_of(gap)
    yield Write(STRIPE, f"{gap.stripe_id} is named {customer.name}, e-mail {customer.email or 'none'}")
    yield Write(STRIPE, f"its metadata carry {customer.public_id} and {customer.customer_id}")


def _follow(gap: Gap, now: datetime) -> Iterable[Write]:
    yield Write(HERE, f"{gap.stripe_id} is taken over as Stripe has it: {gap.theirs} instead of {gap.ours}")
    yield Write(HERE, "the contract that follows it changes with it; the use of its features stays counted")


def _unlink(gap: Gap, now: datetime) -> Iterable[Write]:
    customer = _customer_of(gap)
    yield Write(HERE, f"{gap.stripe_id} is noted as deleted in Stripe, and its saved cards with it")
    yield Write(HERE, f"what {customer} had by subscriptions of {gap.stripe_id} ends")
    yield Write(HERE, "the next invoice makes another customer in Stripe")


EFFECTS: dict[str, Callable[[Gap, datetime], Iterable[Write]]] = {
    Repair.LOOK: _look,
    Repair.RECORD: _record,
    Repair.ADOPT: _adopt,
    Repair.START: _start,
    Repair.ANEW: _anew,
    Repair.BRING_ON: _bring_on,
    Repair.TELL: _tell,
    Repair.FOLLOW: _follow,
    Repair.UNLINK: _unlink,
}


# Doing it -------------------------------------------------------------------------------------------------------------


def _do_refresh(gap: Gap, actor: Actor, now: datetime) -> None:
    refresh(_row_of(gap), now)


def _do_adopt(gap: Gap, actor: Actor, now: datetime) -> None:
    account = connect(now)
    with transaction.atomic():  # nobody may draw up another one in between
        row = hand_over(_invoice_of(gap), account, actor=actor, now=now)
        StripeInvoice.objects.filter(pk=row.pk, stripe_id=None).update(stripe_id=gap.stripe_id)
    refresh(_row_of(gap), now)


def _do_start(gap: Gap, actor: Actor, now: datetime) -> None:
    collect_one(start(_invoice_of(gap), actor=actor, now=now), now)


def _do_anew(gap: Gap, actor: Actor, now: datetime) -> None:
    collect_one(collect_anew(_invoice_of(gap), reason=REASON, actor=actor, now=now), now)


def _do_bring_on(gap: Gap, actor: Actor, now: datetime) -> None:
    collect_one(_row_of(gap), now)


def _do_tell(gap: Gap, actor: Actor, now: datetime) -> None:
    row = StripeCustomer.objects.select_related("customer").get(stripe_id=gap.stripe_id)
    tell(row, StripeAccount.objects.get(), now)


def _do_follow(gap: Gap, actor: Actor, now: datetime) -> None:
    mirror_subscription(gap.stripe_id, now)


def _do_unlink(gap: Gap, actor: Actor, now: datetime) -> None:
    mirror_customer(gap.stripe_id, now)


ACTS: dict[str, Callable[[Gap, Actor, datetime], None]] = {
    Repair.LOOK: _do_refresh,
    Repair.RECORD: _do_refresh,
    Repair.ADOPT: _do_adopt,
    Repair.START: _do_start,
    Repair.ANEW: _do_anew,
    Repair.BRING_ON: _do_bring_on,
    Repair.TELL: _do_tell,
    Repair.FOLLOW: _do_follow,
    Repair.UNLINK: _do_unlink,
}


# Many at once ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tried:
    """One of many: what it would write, or why it would not."""

    difference: Difference
    preview: Preview | None
    refused: str = ""


def preview_many(rows: Sequence[Difference], now: datetime) -> list[Tried]:
    """The preview of each. Once Stripe does not answer it is asked for no other: somebody waits."""
    found, away = [], ""
    for row in rows:
        if away:
            found.append(Tried(row, None, away))
            continue
        try:
            found.append(Tried(row, preview(row, now)))
        except ValidationError as refused:
            away = refused.messages[0] if is_away(refused) else ""
            found.append(Tried(row, None, refused.messages[0]))
    return found


def is_away(refused: ValidationError) -> bool:
    return isinstance(refused, StripeIsAway) and refused.code == "stripe_unreachable"
