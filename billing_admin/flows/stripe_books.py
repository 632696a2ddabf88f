"""Our side of a comparison with Stripe, read as values: a page of it in a fixed number of queries."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, Sum

from billing_admin.flows.stripe_customers import formers
from customers.models import Customer
from invoicing.models import Invoice, Payment, Refund
from payments.comparing import Named, OurCustomer, OurInvoice, OurItem, OurPayment
from payments.facts import CustomerFacts, InvoiceFacts
from payments.gateway import REFERENCE
from payments.models import StripeAccount, StripeCredit, StripeCustomer, StripeInvoice, StripeSubscription

STRIPE = "stripe"
# What is to be done within this time will have been done before a person has read about it.
SOON = timedelta(hours=1)


# Customers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CustomerBooks:
    """Of a page of Stripe's customers: whom each is linked with, and whom its metadata names."""

    linked: Mapping[str, OurCustomer] = field(default_factory=dict)
    by_reference: Mapping[str, OurCustomer] = field(default_factory=dict)
    by_key: Mapping[str, OurCustomer] = field(default_factory=dict)
    link_key: str = ""

    def named(self, theirs: CustomerFacts) -> Named:
        reference, key = theirs.metadata.get(REFERENCE, ""), theirs.metadata.get(self.link_key, "")
        return Named(reference, key, self.by_reference.get(reference) or self.by_key.get(key))


def read_customers(theirs: Collection[CustomerFacts], account: StripeAccount) -> CustomerBooks:
    """Two queries."""
    rows = StripeCustomer.objects.filter(stripe_id__in=[facts.id for facts in theirs]).linked()
    linked = {row.stripe_id: our_customer(row.customer, row) for row in rows.select_related("customer") if row.customer}
    references = {facts.metadata.get(REFERENCE, "") for facts in theirs} - {""}
    keys = {facts.metadata.get(account.link_key, "") for facts in theirs} - {""}
    wanted = Customer.objects.filter(Q(public_id__in=references) | Q(customer_id__in=keys))
    named = [our_customer(row, getattr(row, "stripe", None)) for row in wanted.select_related("stripe")]
    return CustomerBooks(
        {stripe_id: ours for stripe_id, ours in linked.items() if ours is not None},
        {ours.public_id: ours for ours in named},
        {ours.customer_id: ours for ours in named},
        account.link_key,
    )


def our_customer(customer: Customer, row: StripeCustomer | None) -> OurCustomer:
    live = row if row is not None and row.deleted_at is None else None
    sent = (live.sent_name, live.sent_email, live.sent_id) if live else ("", "", "")
    return OurCustomer(
        key=customer.pk,
        public_id=customer.public_id,
        customer_id=customer.customer_id,
        name=customer.name,
        email=customer.email,
        stripe_id=live.stripe_id if live else "",
        is_told=customer.erased_at is not None or sent == (customer.name, customer.email, customer.customer_id),
        is_erased=customer.erased_at is not None,
    )


# Invoices -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InvoiceBooks:
    """Documents by their Stripe ids and by their public ids; `moving`: public ids of those that are on their way."""

    by_stripe_id: Mapping[str, OurInvoice] = field(default_factory=dict)
    by_public_id: Mapping[str, OurInvoice] = field(default_factory=dict)
    moving: frozenset[str] = frozenset()

    def of(self, theirs: InvoiceFacts) -> OurInvoice | None:
        return self.by_stripe_id.get(theirs.id) or self.by_public_id.get(theirs.reference)


def read_invoices(
    now: datetime,
    *,
    stripe_ids: Collection[str] = (),
    references: Collection[str] = (),
    keys: Collection[int] = (),
    intents: Collection[str] = (),
) -> InvoiceBooks:
    """Documents by ids of Stripe's, by public ids or by keys, in seven queries. `intents`: payments to look for."""
    wanted = set(keys)
    if stripe_ids:
        wanted |= set(StripeInvoice.objects.filter(stripe_id__in=stripe_ids).values_list("invoice_id", flat=True))
    known = Q(pk__in=wanted) | Q(public_id__in=references) if references else Q(pk__in=wanted)
    invoices = list(Invoice.objects.invoices().filter(known).select_related("customer", "stripe", "customer__stripe"))
    if not invoices:
        return InvoiceBooks()
    read = _Read(invoices, intents)
    ours = [read.value(invoice) for invoice in invoices]
    return InvoiceBooks(
        {value.stripe_id: value for value in ours if value.stripe_id},
        {value.public_id: value for value in ours},
        frozenset(invoice.public_id for invoice in invoices if is_moving(invoice, now)),
    )


def row_of(invoice: Invoice) -> StripeInvoice | None:
    row: StripeInvoice | None = getattr(invoice, "stripe", None)
    return row


def is_moving(invoice: Invoice, now: datetime) -> bool:
    """A worker is at it, or soon will be; or it waits for a person already, before it ever came to Stripe."""
    row = row_of(invoice)
    if row is None:
        return False
    claimed = row.claimed_until is not None and row.claimed_until > now
    soon = row.next_attempt_at is not None and row.next_attempt_at <= now + SOON
    return claimed or soon or (row.parked_at is not None and row.stripe_id is None)


class _Read:
    """What belongs to some documents, each kind of it in one query."""

    def __init__(self, invoices: Collection[Invoice], intents: Collection[str]):
        keys = [invoice.pk for invoice in invoices]
        recorded = Payment.objects.filter(provider=STRIPE).select_related("invoice")
        known = recorded.filter(Q(invoice__in=keys) | Q(reference__in=intents) if intents else Q(invoice__in=keys))
        self.payments = [
            OurPayment(row.public_id, row.reference, row.amount, row.invoice.public_id) for row in known.order_by("id")
        ]
        given = Refund.objects.filter(of__in=keys).order_by()
        by_stripe = Q(provider=STRIPE)
        sums = given.values("of").annotate(there=Sum("amount", filter=by_stripe, default=0), all=Sum("amount"))
        self.refunded = {row["of"]: (row["there"], row["all"]) for row in sums}
        unsent = given.filter(by_stripe, reference="").values_list("of", flat=True)
        waiting = StripeCredit.objects.filter(of__invoice__in=keys, next_attempt_at__isnull=False)
        self.refund_moves = {*unsent, *waiting.values_list("of__invoice", flat=True)}
        self.former = self._former(invoices)

    def _former(self, invoices: Collection[Invoice]) -> dict[int, set[str]]:
        """Stripe customers that were deleted there and replaced: old invoices stay with them."""
        by_id = {invoice.customer.public_id: invoice.customer_id for invoice in invoices}
        found: dict[int, set[str]] = {}
        rows = formers(invoice.customer for invoice in invoices).values_list("stripe_id", "sent_id")
        for stripe_id, public_id in rows:
            found.setdefault(by_id[public_id], set()).add(stripe_id)
        return found

    def value(self, invoice: Invoice) -> OurInvoice:
        row, owner = row_of(invoice), getattr(invoice.customer, "stripe", None)
        owners = {owner.stripe_id} if owner else set()
        return OurInvoice(
            customer=invoice.customer_id,
            public_id=invoice.public_id,
            label=str(invoice),
            currency=invoice.currency,
            state=invoice.state,
            total=invoice.total,
            due=invoice.due,
            credit_applied=invoice.credit_applied,
            offset=invoice.offset,
            paid=invoice.paid,
            owners=frozenset(owners | self.former.get(invoice.customer_id, set())),
            payments=tuple(p for p in self.payments if p.invoice == invoice.public_id),
            elsewhere={p.intent: p for p in self.payments if p.invoice != invoice.public_id},
            refunded=self.refunded.get(invoice.pk, (0, 0)),
            refund_moves=invoice.pk in self.refund_moves,
            **(_known(row, has_card=bool(owner and owner.default_method)) if row else {}),
        )


def _known(row: StripeInvoice, *, has_card: bool) -> Mapping[str, Any]:
    return {
        "stripe_id": row.stripe_id or "",
        "status": row.status,
        "known_as": row.state,
        "method": row.method,
        "is_parked": row.parked_at is not None,
        "has_card": has_card,
    }


# Subscriptions --------------------------------------------------------------------------------------------------------


def read_items(stripe_ids: Iterable[str]) -> dict[str, list[OurItem]]:
    """The mirrored items of some subscriptions, by the subscription; one query."""
    rows = StripeSubscription.objects.filter(stripe_id__in=set(stripe_ids), removed_at=None)
    found: dict[str, list[OurItem]] = {}
    for row in rows.select_related("stripe_customer", "price", "subscription").order_by("id"):
        found.setdefault(row.stripe_id, []).append(_item(row))
    return found


def _item(row: StripeSubscription) -> OurItem:
    contract = row.subscription
    return OurItem(
        customer=row.stripe_customer.customer_id,
        item_id=row.item_id,
        stripe_id=row.stripe_id,
        owner=row.stripe_customer.stripe_id,
        status=row.status,
        price=row.price.stripe_id if row.price else "",
        quantity=row.quantity,
        starts_at=row.period_starts_at,
        ends_at=row.period_ends_at,
        our_id=contract.public_id if contract else "",
        contract_state=contract.state if contract else "",
        contract_quantity=contract.quantity if contract else 0,
        has_conflict=bool(row.conflict),
    )
