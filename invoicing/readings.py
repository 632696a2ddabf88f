"""Rows as values: fees whose time is not over, use that nobody billed yet, and account credit."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from django.core.exceptions import ValidationError
from django.db.models import Exists, F, OuterRef, Prefetch, Q, Sum

from catalog.charges import PERCENTAGE
from catalog.periods import Period
from customers.models import Customer, Subscription
from entitlements.events import opened_at
from entitlements.ledger import lines_of
from entitlements.models import Balance, BalanceEntry, BalanceQuerySet, UsageEvent
from entitlements.readings import item_terms, remember_items, without_ended_override
from invoicing.commitment import COUNTED
from invoicing.lines import ADVANCE, OVERRIDE, PREPAID, SEATS, SEATS_ADDED, UNUSED, USAGE, BilledFee, RatedUse
from invoicing.models import CreditEntry, Invoice, InvoiceLine
from invoicing.states import InvoiceState


class UseArchived(ValidationError):
    """Each event of the window has a price of its own, and the events are in the archive."""

    def __init__(self, balance: Balance):
        super().__init__(
            f"The events of the window from {balance.starts_at:%-d %b %Y} are in the archive, so it cannot be priced"
            " again.",
            code="use_archived",
        )


def account_credit(customer: Customer) -> int:
    """What the customer has with us, in minor units of their currency."""
    return CreditEntry.objects.filter(customer=customer).aggregate(sum=Sum("amount"))["sum"] or 0


def given_back(invoice: Invoice) -> int:
    """What of an invoice was given back in money or account credit, or went into other charges; minor units with tax.

    What only came off its own debt was never paid.
    """
    lines = InvoiceLine.objects.filter(source__invoice=invoice, invoice__offsets=None)
    return -sum(gross_of(line) for line in lines.exclude(invoice__state=InvoiceState.VOID))


def gross_of(line: InvoiceLine) -> int:
    """What a line charged with tax, minor units."""
    added: int = sum(tax["amount"] for tax in line.taxes if not tax["inclusive"])
    return line.net + added


def charged_in(subscription: Subscription, period: Period) -> int:
    """What documents of a contract charged for a period that counts towards its minimum commitment, minor units."""
    lines = InvoiceLine.objects.filter(subscription=subscription, kind__in=COUNTED, is_replaced=False)
    lines = lines.exclude(invoice__state=InvoiceState.VOID)
    # A credit belongs to the time of the charge that it gives back.
    charge = ~Q(kind=UNUSED) & Q(starts_at__gte=period.starts_at, starts_at__lt=period.ends_at)
    credit = Q(kind=UNUSED, source__starts_at__gte=period.starts_at, source__starts_at__lt=period.ends_at)
    lines = lines.filter(charge | credit)
    sums = lines.aggregate(amount=Sum("amount"), discounted=Sum("discounted"))
    return (sums["amount"] or 0) - (sums["discounted"] or 0)


def billed_fees(subscription: Subscription, at: datetime) -> list[BilledFee]:
    """What this contract paid ahead for time after the instant, as far as nobody gave it back yet."""
    rows = (
        InvoiceLine.objects.filter(_paid_ahead(), subscription=subscription, ends_at__gt=at)
        .exclude(invoice__state__in=[InvoiceState.VOID, InvoiceState.DRAFT])
        .exclude(derivation__has_key="inArrears")
        .select_related("invoice", "item")
        .prefetch_related(Prefetch("credits", InvoiceLine.objects.exclude(invoice__state=InvoiceState.VOID)))
        .order_by("id")
    )
    lines = [line for line in rows if line.amount > 0]
    consumed, returned = _consumed(subscription, lines), _returned({line.invoice for line in lines})
    fees = _taken_off(
        [_billed_fee(line, consumed, returned) for line in lines], [line for line in rows if line.amount < 0]
    )
    # Seats that a coupon paid whole are billed all the same: nobody charges them again.
    return [fee for fee in fees if fee.net > 0 or (fee.kind in (SEATS, SEATS_ADDED) and fee.units)]


def _paid_ahead() -> Q:
    """Charges for time to come: of fees, units and seats, and of special prices in the place of those."""
    own = Q(kind__in=ADVANCE, amount__gt=0)
    return own | (Q(kind=OVERRIDE, derivation__has_key="periodStartsAt") & ~Q(amount=0))


def _taken_off(fees: list[BilledFee], lines: Iterable[InvoiceLine]) -> list[BilledFee]:
    """What special prices below zero took off a charge beside them was not paid, so it is not given back."""
    for line in lines:
        beside = [fee for fee in fees if (fee.invoice_id, fee.key) == (line.invoice_id, line.key)]
        if beside:
            dearest = max(beside, key=lambda fee: fee.price)
            price = max(Fraction(0), dearest.price + Fraction(line.derivation["price"]))
            fees[fees.index(dearest)] = replace(dearest, price=price, net=dearest.net + line.net)
    return fees


def _consumed(subscription: Subscription, lines: Iterable[InvoiceLine]) -> dict[int, tuple[Decimal, Decimal]]:
    """Of bought units, by item: how many, and how many of them were used. The included ones are used first."""
    items = {line.item_id for line in lines if line.kind == PREPAID and line.item_id}
    if not items:
        return {}
    found = {}
    own = Balance.objects.promised().filter(subscription=subscription, item__in=items, closed_at=None)
    for row in own.filter(granted__isnull=False):
        included = (item_terms(row.item_id or 0).included or Decimal(0)) * subscription.quantity
        bought = max(Decimal(0), (row.granted or Decimal(0)) - included)
        # What an override takes for a while is not used: it comes back with its end, and with a change of plan.
        adjusted = row.adjusted + row.withheld
        found[row.item_id or 0] = bought, min(bought, max(Decimal(0), row.used - adjusted - included))
    return found


def _returned(invoices: Iterable[Invoice]) -> dict[int, int]:
    """What corrections returned of what was paid for invoices that are not settled yet, minor units."""
    partly = [invoice.pk for invoice in invoices if invoice.due]
    if not partly:
        return {}
    notes = Invoice.objects.filter(corrects__in=partly, offsets=None).exclude(state=InvoiceState.VOID).order_by()
    sums = notes.values("corrects").annotate(sum=Sum("total")).values_list("corrects", "sum")
    return {pk or 0: -total for pk, total in sums}


def _billed_fee(line: InvoiceLine, consumed: dict[int, tuple[Decimal, Decimal]], returned: dict[int, int]) -> BilledFee:
    assert line.ends_at is not None
    bought, used = consumed.get(line.item_id or 0, (Decimal(0), Decimal(0)))
    invoice = line.invoice
    back = returned.get(invoice.pk, 0)
    owed = invoice.total - invoice.offset - back
    paid = Fraction(invoice.paid + invoice.credit_applied - back, owed) if owed > 0 else Fraction(1)
    credits = list(line.credits.all())
    listed, kept = Fraction(line.derivation["price"]), Fraction(line.net, line.amount)
    given = sum((Fraction(credit.derivation.get("price", "0")) for credit in credits), Fraction(0))
    price = listed * kept - given
    units = line.quantity + sum((credit.quantity for credit in credits if credit.quantity < 0), Decimal(0))
    # A change of plan gives back all of a line, whatever it counts.
    if price <= 0 and any(credit.kind == UNUSED for credit in credits):
        units = Decimal(0)
    return BilledFee(
        line_id=line.pk,
        key=line.key,
        label=line.description.split(" (from ")[0],
        currency=invoice.currency,
        price=max(Fraction(0), price),
        period=Period(
            datetime.fromisoformat(line.derivation["periodStartsAt"]),
            datetime.fromisoformat(line.derivation["periodEndsAt"]),
        ),
        net=line.net + sum(credit.amount for credit in credits),
        ends_at=line.ends_at,
        invoice_id=invoice.pk,
        invoice_due=invoice.due,
        paid_share=Fraction(1) if invoice.state == InvoiceState.PAID else min(Fraction(1), max(Fraction(0), paid)),
        kind=line.kind,
        units=units,
        listed=listed - given / kept if kept else listed,
        bought=bought if line.kind == PREPAID else Decimal(0),
        consumed=used if line.kind == PREPAID else Decimal(0),
    )


def unbilled(subscription: Subscription, until: datetime | None, *, at: datetime | None = None) -> list[Balance]:
    """Windows of this contract that ended by the instant (None: all) with use to pay for that is on no invoice yet.

    Open ones are as they are at `at` (None: as they will end).
    """
    rows = Balance.objects.promised().filter(subscription=subscription)
    return _with_use_to_bill(rows if until is None else rows.filter(ends_at__lte=until), at)


def unbilled_use(subscriptions: Iterable[Subscription]) -> dict[int, list[Balance]]:
    """Windows with use to pay for that stands on no invoice yet, open ones included, per contract; three queries."""
    rows = Balance.objects.promised().filter(subscription__in=[s.pk for s in subscriptions])
    found: dict[int, list[Balance]] = {}
    for row in _with_use_to_bill(rows):
        found.setdefault(row.subscription_id or 0, []).append(row)
    return found


def _with_use_to_bill(balances: BalanceQuerySet, at: datetime | None = None) -> list[Balance]:
    """Those with use to pay for, with their ledgers: beyond what they include, or priced also when nothing is used.

    What has no limit includes everything; what was used in a trial is free.
    """
    lines = InvoiceLine.objects.filter(balance=OuterRef("pk"), kind=USAGE, is_replaced=False)
    priced = Q(item__price__isnull=False) | Exists(
        BalanceEntry.objects.filter(balance=OuterRef("pk"), item__price__isnull=False)
    )
    at_zero = Q(item__price__has_key="at_zero")
    found = (
        balances.filter(priced, Q(used__gt=F("granted") + F("adjusted")) | at_zero, granted__isnull=False)
        .exclude(Exists(lines))
        .exclude(subscription__trial_ends_at__gt=F("starts_at"))
        .select_related("withheld_by")
        .prefetch_related("entries")
        .order_by("ends_at", "id")
    )
    rows = list(found)
    remember_items(line.item_id for row in rows for line in lines_of(row) if line.item_id)
    rows = [without_ended_override(row, at) for row in rows]
    return [row for row in rows if _has_use_to_bill(row) and _is_billed_by_use(row)]


def _has_use_to_bill(row: Balance) -> bool:
    """What an override took may have come back since."""
    price = item_terms(row.item_id).price if row.item_id else None
    return row.left is not None and (row.left < 0 or (price is not None and price.charges_at_zero))


def _is_billed_by_use(row: Balance) -> bool:
    """Whether any item that its use was rated by bills it afterwards."""
    return any(item_terms(line.item_id).is_usage for line in lines_of(row) if line.item_id)


def _transactions(row: Balance) -> tuple[Decimal, ...]:
    """The single amounts of a window, where each of them has a price of its own."""
    price = item_terms(row.item_id).price if row.item_id else None
    if price is None or price.model != PERCENTAGE:
        return ()
    if row.archived_use.exists():
        raise UseArchived(row)
    events = UsageEvent.objects.counted_on(row, since=opened_at(row)).filter(voided_at=None).order_by("id")
    return tuple(
        amount
        for ids, amounts in events.values_list("balance_ids", "amounts")
        for balance_id, amount in zip(ids, amounts, strict=True)
        if balance_id == row.pk
    )


def rated_use(row: Balance, *, used: Decimal | None = None) -> RatedUse:
    """The use of one window with the items that were in force while it was used, from its (prefetched) ledger."""
    used = row.used if used is None else used
    grants = (BalanceEntry.Kind.GRANT, BalanceEntry.Kind.REGRANT)
    marks = [line for line in lines_of(row) if line.kind in grants]
    segments = []
    for place, mark in enumerate(marks):
        item_id = mark.item_id or row.item_id or 0
        upto = marks[place + 1].rates_from if place + 1 < len(marks) else used
        segments.append((item_terms(item_id), used if upto is None else upto))
    return RatedUse(
        balance_id=row.pk,
        granted=row.granted or Decimal(0),
        adjusted=row.adjusted,
        used=used,
        segments=tuple(segments) or ((item_terms(row.item_id or 0), used),),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        transactions=_transactions(row),
    )
