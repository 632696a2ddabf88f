"""Special prices of contracts: another price for one item, for so many billing periods."""

from datetime import datetime
from typing import Annotated, Self

from ninja import Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_subscription
from billing_admin.api.lines import LineOut
from billing_admin.api.refusals import NotFound
from billing_admin.api.shapes import Answer, Body, Id, MinorUnits, Money, Reason, Slug
from billing_admin.flows.reprice import Beside, Wanted, ends_early, override_price, preview_override, revoke_override
from billing_admin.flows.upcoming import Upcoming
from customers.models import PriceOverride, Subscription
from invoicing.overrides import read_specials
from invoicing.special import FIXED, REPLACE, Special

router = Router(tags=["Special prices"])

OVERRIDE = "customers.override_price"
EXAMPLE = {
    "priceId": "base",
    "components": [
        {
            "type": "fixed",
            "label": "Launch price",
            "amount_cents": 2500,
            "recurrence_rule": "RRULE:FREQ=MONTHLY;INTERVAL=1",
        }
    ],
    "mode": "replace",
    "expiresAfterBillingCycles": 3,
    "reason": "agreed at the start",
}
Cycles = Annotated[int, Field(strict=True, ge=-(2**31), le=2**31)]


class ComponentIn(Body):
    type: str = Field(FIXED, max_length=20)
    label: str = Field(max_length=300)
    amount_cents: MinorUnits = Field(description="Minor units of the contract's currency; below zero with mode `add`.")
    recurrence_rule: str = Field(
        max_length=300, description="FREQ (DAILY, WEEKLY, MONTHLY, YEARLY), INTERVAL, and COUNT or UNTIL."
    )
    currency: str | None = Field(None, max_length=3, description="Refused unless it is the contract's.")


class PriceOverrideIn(Body):
    price_id: Slug = Field(description="The key of the plan's item.")
    components: list[ComponentIn] = Field(max_length=100)
    mode: str = Field(REPLACE, max_length=20, description="`replace` the item's own line, or `add` beside it.")
    expires_after_billing_cycles: Cycles | None = Field(
        description="Billing periods from the next one that is due; null: until it is revoked. It has to be said."
    )
    reason: Reason = ""

    def wanted(self) -> Wanted:
        return Wanted(
            item_key=self.price_id,
            components=[component.model_dump(exclude_none=True) for component in self.components],
            mode=self.mode,
            cycles=self.expires_after_billing_cycles,
        )


class RevokeIn(Body):
    reason: Reason = ""


class ComponentOut(Answer):
    type: str
    label: str
    amount_cents: int
    recurrence_rule: str


class PriceOverrideOut(Answer):
    id: str = Field(examples=["ovr_9aQ2mZ8TqVbNc1R4"])
    subscription_id: str
    price_id: str = Field(examples=["base"])
    components: list[ComponentOut]
    mode: str
    expires_after_billing_cycles: int | None
    billing_cycles_left: int | None = Field(description="Counted from invoices that are not void; null: no end.")
    reason: str
    created_by: str
    created_at: datetime
    revoked_at: datetime | None
    revoked_by: str | None
    revoke_reason: str | None

    @classmethod
    def of(cls, row: PriceOverride, left: int | None, subscription: Subscription) -> Self:
        return cls(
            id=row.public_id,
            subscription_id=subscription.public_id,
            price_id=row.item_key,
            components=[ComponentOut(**component) for component in row.components],
            mode=row.mode,
            expires_after_billing_cycles=row.cycles,
            billing_cycles_left=left,
            reason=row.reason,
            created_by=row.created_by,
            created_at=row.created_at,
            revoked_at=row.revoked_at,
            revoked_by=row.revoked_by or None,
            revoke_reason=row.revoke_reason or None,
        )


class PriceOverridesOut(Answer):
    price_overrides: list[PriceOverrideOut]


class UpcomingOut(Answer):
    lines: list[LineOut]
    total: Money

    @classmethod
    def of(cls, found: Upcoming | None) -> Self | None:
        if found is None:
            return None
        return cls(lines=[LineOut.of(line) for line in found.lines], total=Money.of(found.total, found.currency))


class BesideOut(Answer):
    at: datetime
    without: UpcomingOut | None
    with_it: UpcomingOut | None

    @classmethod
    def of(cls, found: Beside) -> Self:
        return cls(at=found.at, without=UpcomingOut.of(found.before), with_it=UpcomingOut.of(found.after))


class PreviewedOut(Answer):
    invoices: list[BesideOut] = Field(description="The next ones, before coupons and tax.")
    warnings: list[str] = Field(description="What ends it before it is used up: a change to come that drops the item.")


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/price-overrides/preview",
    needs=OVERRIDE,
    gives=PreviewedOut,
    refuses=[404, 409],
    example=EXAMPLE,
)
def preview_price_override(request: ApiRequest, subscription_id: Id, body: PriceOverrideIn) -> PreviewedOut:
    """The next invoices with the special price and without it. Writes nothing."""
    subscription, wanted = find_subscription(subscription_id), body.wanted()
    found = preview_override(subscription, wanted, now=request.now)
    ends = ends_early(subscription, wanted, now=request.now)
    return PreviewedOut(invoices=[BesideOut.of(each) for each in found], warnings=[ends] if ends else [])


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/price-overrides",
    needs=OVERRIDE,
    gives=PriceOverrideOut,
    status=201,
    also=ASKED,
    refuses=[404, 409],
    example=EXAMPLE,
)
def create_price_override(request: ApiRequest, subscription_id: Id, body: PriceOverrideIn) -> PriceOverrideOut:
    """Give one item of a subscription another price.

    It holds from the next billing period that is due. What is invoiced already stays, and the plan is untouched.
    """
    subscription = find_subscription(subscription_id)
    row = override_price(subscription, body.wanted(), reason=body.reason, actor=request.auth.actor, now=request.now)
    return PriceOverrideOut.of(row, row.cycles, subscription)


@endpoint(
    router,
    "GET",
    "/subscriptions/{subscription_id}/price-overrides",
    needs="customers.view_priceoverride",
    gives=PriceOverridesOut,
    refuses=[404],
)
def list_price_overrides(request: ApiRequest, subscription_id: Id) -> PriceOverridesOut:
    """Every special price of a subscription, the revoked and used ones too, newest first."""
    subscription = find_subscription(subscription_id)
    rows = list(subscription.price_overrides.order_by("-id"))
    known = {row.pk: special for special, row in read_specials(rows)}
    return PriceOverridesOut(
        price_overrides=[PriceOverrideOut.of(row, _left(row, known.get(row.pk)), subscription) for row in rows]
    )


@endpoint(
    router,
    "POST",
    "/price-overrides/{override_id}/revoke",
    needs=OVERRIDE,
    gives=PriceOverrideOut,
    refuses=[404, 409],
    example={"reason": "the deal is over"},
)
def revoke_price_override(request: ApiRequest, override_id: Id, body: RevokeIn) -> PriceOverrideOut:
    """End a special price: invoices from now on take the item's own. Revoking twice changes nothing."""
    row = PriceOverride.objects.filter(public_id=override_id, subscription__customer__closed_at=None).first()
    if row is None:
        raise NotFound("price_override", override_id)
    row = revoke_override(row, reason=body.reason, actor=request.auth.actor, now=request.now)
    special = next((special for special, _ in read_specials([row])), None)
    return PriceOverrideOut.of(row, _left(row, special), row.subscription)


def _left(row: PriceOverride, special: Special | None) -> int | None:
    if row.revoked_at is not None or special is None:
        return 0
    return special.left
