"""What it takes to agree on something in a deal beside writing deals: the same as to give it by hand."""

from collections.abc import Iterator

from deals.terms import NOW, DealTerms

VIEW = "deals.view_deal"
ADD, CHANGE, SEND, EXECUTE = "deals.add_deal", "deals.change_deal", "deals.send_deal", "deals.execute_deal"
NOTE = "deals.add_dealnote"


def rights_for(terms: DealTerms) -> Iterator[str]:
    """The permissions that its parts take."""
    if terms.activation == NOW:
        yield "customers.activate_unpaid"
    if terms.trial_days:
        yield "customers.extend_trial"
    if terms.coupons:
        yield "customers.apply_coupon"
    if terms.overrides:
        yield "entitlements.add_featureoverride"
    if terms.prices:
        yield "customers.override_price"
