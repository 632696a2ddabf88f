"""Coupons of customers as discounts and invoice credits; what remains of them is counted from documents."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Sum

from catalog.models import Coupon
from catalog.periods import Cadence, period_containing
from customers.models import AppliedCoupon, AppliedCouponQuerySet, Customer, Subscription
from invoicing.discounts import DiscountTerms
from invoicing.grants import MoneyGrant
from invoicing.models import Deduction, InvoiceCredit, InvoiceLine
from invoicing.states import InvoiceState

DISCOUNTS = (Coupon.Kind.PERCENT, Coupon.Kind.FIXED)

# A billing period that something was taken off in: the contract, and when the period began.
Counted = tuple[int | None, datetime | None]


def discounts_of(
    customer: Customer, subscription: Subscription | None, *, at: datetime, currency: str, waiting: bool = False
) -> Iterator[DiscountTerms]:
    """The discounts that the next document of a contract takes, in the order in which they were applied.

    `waiting` also takes those that begin with the next plan that is enabled.
    """
    found = DiscountTable.read([customer.pk], at=at, waiting=waiting)
    yield from found.terms(customer.pk, subscription, at=at, currency=currency)


@dataclass(frozen=True, slots=True)
class DiscountTable:
    """The discounts of many customers, by their primary key, with the periods in which each was taken."""

    of_customers: Mapping[int, Sequence[AppliedCoupon]] = field(default_factory=dict)
    counted: Mapping[int, set[Counted]] = field(default_factory=dict)

    @classmethod
    def read(cls, customers: Collection[int], *, at: datetime, waiting: bool = False) -> "DiscountTable":
        """Whatever their number, in at most four queries; one where nobody has a coupon."""
        kept: AppliedCouponQuerySet = AppliedCoupon.objects.kept(at) if waiting else AppliedCoupon.objects.in_force(at)
        rows = list(with_coupon(kept.filter(customer__in=customers, coupon__kind__in=DISCOUNTS)).order_by("id"))
        of_customers: dict[int, list[AppliedCoupon]] = {}
        for row in rows:
            of_customers.setdefault(row.customer_id, []).append(row)
        return cls(of_customers, counted_periods(rows))

    def terms(
        self, customer: int, subscription: Subscription | None, *, at: datetime, currency: str
    ) -> Iterator[DiscountTerms]:
        """Those of the next document of one contract: in its currency, and with a period left to take part in."""
        own = subscription.pk if subscription else None
        running = (own, _running(subscription, at))
        for row in self.of_customers.get(customer, ()):
            is_foreign = row.coupon.kind == Coupon.Kind.FIXED and row.coupon.currency != currency
            if is_foreign or row.subscription_id not in (None, own):
                continue
            left = left_of(row, self.counted)
            goes_on = row.coupon.duration == Coupon.Duration.REPEATING and running in self.counted.get(row.pk, ())
            if left != 0 or goes_on:
                yield discount_terms(row.coupon, row.pk, periods=left, is_running=goes_on)


def _running(subscription: Subscription | None, at: datetime) -> datetime | None:
    """When the period began that runs at the instant; None where that period has not been opened yet."""
    if subscription is None or subscription.period_ends_at is None or at >= subscription.period_ends_at:
        return None
    return subscription.period_starts_at


def with_coupon(rows: AppliedCouponQuerySet) -> AppliedCouponQuerySet:
    """With what a discount is made of."""
    found: AppliedCouponQuerySet = rows.select_related("coupon").prefetch_related("coupon__plans")
    return found


def discount_terms(coupon: Coupon, id: int, *, periods: int | None = None, is_running: bool = False) -> DiscountTerms:
    """A coupon as a discount; `id` is the applied coupon's, `periods` are those that it still takes part in."""
    plans = frozenset(plan.pk for plan in coupon.plans.all())
    return DiscountTerms(
        id=id,
        label=coupon.name,
        percent=coupon.percent if coupon.kind == Coupon.Kind.PERCENT else None,
        amount=coupon.amount if coupon.kind == Coupon.Kind.FIXED else None,
        keys=frozenset(coupon.item_keys) or None,
        plans=plans or None,
        once=coupon.duration == Coupon.Duration.ONCE,
        periods=periods,
        is_running=is_running,
    )


def most_periods(coupon: Coupon) -> int | None:
    """How many billing periods a discount takes part in; None: for ever."""
    if coupon.duration == Coupon.Duration.FOREVER:
        return None
    return 1 if coupon.duration == Coupon.Duration.ONCE else coupon.periods or 0


def periods_left(applied: AppliedCoupon) -> int | None:
    """How many billing periods it still takes part in; None: for ever. Void documents give theirs back."""
    return left_of(applied, counted_periods([applied]))


def left_of(applied: AppliedCoupon, counted: Mapping[int, set[Counted]]) -> int | None:
    """The same, from periods that were read for many."""
    most = most_periods(applied.coupon)
    return None if most is None else max(0, most - len(counted.get(applied.pk, ())))


def counted_periods(applied: Iterable[AppliedCoupon]) -> dict[int, set[Counted]]:
    """The billing periods in which each took something off a document that is not void; two queries for any number.

    Several documents of one period count once.
    """
    ending = [row.pk for row in applied if row.coupon.duration != Coupon.Duration.FOREVER]
    if not ending:
        return {}
    taken = list(
        Deduction.objects.filter(applied_coupon__in=ending)
        .exclude(invoice__state=InvoiceState.VOID)
        .values_list("applied_coupon_id", "invoice_id", "invoice__subscription_id")
    )
    began = _began({invoice_id for _, invoice_id, _ in taken})
    found: dict[int, set[Counted]] = {}
    for applied_id, invoice_id, subscription_id in taken:
        found.setdefault(applied_id, set()).add((subscription_id, began.get(invoice_id)))
    return found


def _began(invoice_ids: Collection[int]) -> dict[int, datetime]:
    """When the billing period of each document began: the one that its latest charge lies in.

    A renewal also bills use of the period before, and a change in the middle of a period only the rest of it.
    """
    if not invoice_ids:
        return {}
    lines = InvoiceLine.objects.filter(invoice__in=invoice_ids, starts_at__isnull=False, phase__isnull=False)
    parts = lines.order_by("starts_at", "id").values_list(
        "invoice_id", "starts_at", "phase__anchor", "phase__version__cadence"
    )
    return {
        invoice_id: period_containing(anchor, Cadence.parse(cadence), starts_at).starts_at
        for invoice_id, (starts_at, anchor, cadence) in {row[0]: row[1:] for row in parts}.items()
        if starts_at is not None
    }


def money_grants(customer: Customer, *, at: datetime, currency: str) -> Iterator[MoneyGrant]:
    """Invoice credits with something left, in the currency of the document."""
    rows = InvoiceCredit.objects.live(at).filter(customer=customer, currency=currency)
    taken = taken_of_credits(rows)
    for row in rows:
        left = row.amount - taken.get(row.pk, 0)
        if left > 0:
            yield MoneyGrant(row.pk, row.label, left, row.expires_at, row.priority, row.created_at)


def taken_of_credits(credits: Iterable[InvoiceCredit]) -> dict[int, int]:
    """What documents that are not void took of each, in minor units; one query."""
    rows = Deduction.objects.filter(invoice_credit__in=[credit.pk for credit in credits])
    sums = rows.exclude(invoice__state=InvoiceState.VOID).values("invoice_credit_id").annotate(taken=Sum("amount"))
    return {row["invoice_credit_id"]: row["taken"] for row in sums}
