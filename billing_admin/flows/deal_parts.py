"""What a deal gives besides its price, in the sizes of the acts that would give it by themselves."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from billing_admin.approving import Part, Size
from billing_admin.flows.acts import money, sizes_of_coupon
from billing_admin.flows.coupons import find_offer
from billing_admin.flows.deal_calendar import DealCalendar
from billing_admin.flows.overrides import sizes_of_override
from catalog.models import Coupon, Feature, PlanVersion
from catalog.off_list import WHOLE, share_off
from deals.terms import NOW, DealTerms
from entitlements.override import value_of

# Keys of acts: whoever carries a deal out is not asked about them again.
CONTAINS = ("coupon.applied", "override.given", "trial.extended", "plan.activated")


def parts_of(terms: DealTerms, calendar: DealCalendar, base: PlanVersion) -> Sequence[Part]:
    """Its coupons and overrides, a trial that is longer than the plan's own, and access before the first invoice is
    paid."""
    features = Feature.objects.in_bulk({given.feature for given in terms.overrides}, field_name="slug")
    coupons = [find_offer(given.code).coupon for given in terms.coupons]
    found = [Part("coupon.applied", sizes_of_coupon(coupon, _off(coupon, calendar))) for coupon in coupons]
    for given in terms.overrides:
        if feature := features.get(given.feature):
            starts = calendar.term.since(given.from_month)
            ends = None if given.until_month is None else calendar.term.at(given.until_month)
            sizes = sizes_of_override(value_of(feature, given.value), starts, ends)
            found.append(Part("override.given", sizes))
    if terms.trial_days and terms.trial_days > (base.trial_days or 0):
        found.append(Part("trial.extended", [Size("days", Decimal(terms.trial_days))]))
    if terms.activation == NOW and calendar.invoices:
        found.append(Part("plan.activated", [money("amount", calendar.invoices[0].total, calendar.currency)]))
    return found


def _off(coupon: Coupon, calendar: DealCalendar) -> Decimal:
    """In percent; of an amount off, its part of an average month at list."""
    if coupon.percent is not None:
        return coupon.percent
    month = Fraction(calendar.list_value, calendar.term.months)
    return share_off(month, month - (coupon.amount or 0)) if month > 0 else WHOLE
