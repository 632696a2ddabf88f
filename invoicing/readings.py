"""Rows as values: fees whose time is not over, use that nobody billed yet, and account credit."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from django.db.models import Exists, F, OuterRef, Sum

from catalog.periods import Period
from customers.models import Customer, Subscription
from entitlements.models import Balance, BalanceEntry, BalanceQuerySet
from entitlements.readings import item_terms, remember_items
from invoicing.lines import FEE, UNUSED, USAGE, BilledFee, RatedUse
from invoicing.models import CreditEntry, InvoiceLine
from invoicing.states import InvoiceState


def account_credit(customer: Customer) -> int:
    """What the customer has with us, in minor units of their currency."""
    return CreditEntry.objects.filter(customer=customer).aggregate(sum=Sum("amount"))["sum"] or 0


def billed_fees(subscription: Subscription, at: datetime) -> list[BilledFee]:
    """Fees of this contract that were invoiced for time after the instant and whose time nobody gave back yet."""
    credits = InvoiceLine.objects.filter(source=OuterRef("pk"), kind=UNUSED).exclude(invoice__state=InvoiceState.VOID)
    lines = (
        InvoiceLine.objects.filter(~Exists(credits), subscription=subscription, kind=FEE, ends_at__gt=at)
        .exclude(invoice__state=InvoiceState.VOID)
        .select_related("invoice", "item")
        .order_by("id")
    )
    return [fee for fee in map(_billed_fee, lines) if fee.net > 0]


def _billed_fee(line: InvoiceLine) -> BilledFee:
    assert line.ends_at is not None
    invoice = line.invoice
    owed = invoice.total - invoice.offset
    paid = Fraction(invoice.paid + invoice.credit_applied, owed) if owed > 0 else Fraction(1)
    return BilledFee(
        line_id=line.pk,
        key=line.key,
        label=line.description.split(" (from ")[0],
        currency=invoice.currency,
        price=Fraction(line.derivation["price"]),
        period=Period(
            datetime.fromisoformat(line.derivation["periodStartsAt"]),
            datetime.fromisoformat(line.derivation["periodEndsAt"]),
        ),
        net=line.amount,
        ends_at=line.ends_at,
        invoice_id=invoice.pk,
        invoice_due=invoice.due,
        paid_share=Fraction(1) if invoice.state == InvoiceState.PAID else min(Fraction(1), paid),
    )


def unbilled(subscription: Subscription, until: datetime | None) -> list[Balance]:
    """Windows of this contract that ended by the instant (None: all) with use to pay for that is on no invoice yet."""
    rows = Balance.objects.filter(subscription=subscription)
    return _with_use_to_bill(rows if until is None else rows.filter(ends_at__lte=until))


def unbilled_use(subscriptions: Iterable[Subscription]) -> dict[int, list[Balance]]:
    """Windows with use to pay for that stands on no invoice yet, open ones included, per contract; three queries."""
    rows = Balance.objects.filter(subscription__in=[s.pk for s in subscriptions])
    found: dict[int, list[Balance]] = {}
    for row in _with_use_to_bill(rows):
        found.setdefault(row.subscription_id or 0, []).append(row)
    return found


def _with_use_to_bill(balances: BalanceQuerySet) -> list[Balance]:
    """Those with use beyond what they include at a price, with their ledgers; what has no limit includes everything."""
    lines = InvoiceLine.objects.filter(balance=OuterRef("pk"), kind=USAGE)
    priced = BalanceEntry.objects.filter(balance=OuterRef("pk"), item__price__gt=0)
    rows = list(
        balances.filter(Exists(priced), granted__isnull=False, used__gt=F("granted") + F("adjusted"))
        .exclude(Exists(lines))
        .prefetch_related("entries")
        .order_by("ends_at", "id")
    )
    remember_items(entry.item_id for row in rows for entry in row.entries.all() if entry.item_id)
    return rows


def rated_use(row: Balance, *, used: Decimal | None = None) -> RatedUse:
    """The use of one window with the items that were in force while it was used, from its (prefetched) ledger."""
    used = row.used if used is None else used
    grants = (BalanceEntry.Kind.GRANT, BalanceEntry.Kind.REGRANT)
    marks = sorted((entry for entry in row.entries.all() if entry.kind in grants), key=lambda entry: entry.pk)
    segments = []
    for place, mark in enumerate(marks):
        item_id = mark.item_id or row.item_id
        upto = marks[place + 1].rates_from if place + 1 < len(marks) else used
        segments.append((item_terms(item_id), used if upto is None else upto))
    return RatedUse(
        balance_id=row.pk,
        granted=row.granted or Decimal(0),
        adjusted=row.adjusted,
        used=used,
        segments=tuple(segments) or ((item_terms(row.item_id), used),),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
    )
