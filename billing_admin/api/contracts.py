"""Contracts that go on: trials, prepaid units, and the invoices to come."""

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Query, Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.changes import ChangedOut, PreviewOut, changed
from billing_admin.api.documents import ExpectedOut
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_subscription
from billing_admin.api.invoices import InvoiceOut
from billing_admin.api.operations import OperationOut
from billing_admin.api.shapes import Answer, Body, Id, Instant, Money, Reason, Slug, Units
from billing_admin.api.subscriptions import SubscriptionOut
from billing_admin.flows.courses import daily_use, read_courses, share_of_use
from billing_admin.flows.enable_plan import enable_plan, preview_plan
from billing_admin.flows.forecast import forecast
from billing_admin.flows.plan_change import Proposal, Timing
from billing_admin.flows.trials import end_now, extend
from billing_admin.flows.units import phase_to_change, propose_units, reason_of
from catalog.models import Plan
from customers.models import Subscription

router = Router(tags=["Subscriptions"])

EXTEND = "customers.extend_trial"


class ExtendIn(Body):
    days: Annotated[int, Field(ge=1, le=730)] | None = Field(None, description="Counted from now.")
    until: Instant | None = Field(None, description="Instead of `days`.")
    reason: Reason = ""


class EndTrialIn(Body):
    reason: Reason = ""


class TrialOut(Answer):
    operation: OperationOut
    subscription: SubscriptionOut
    invoices: list[InvoiceOut]


class QuantitiesIn(Body):
    quantities: dict[Slug, Units] = Field(
        description="Units in total, the included ones counted, by feature or item key.", examples=[{"credits": 300}]
    )
    timing: Literal["now", "cycle_end", "without_billing"] | None = None


class QuantitiesConfirmed(QuantitiesIn):
    reason: Reason = Field("", description="Left out: of a custom plan, the reason that it was made for.")
    fingerprint: str | None = Field(None, max_length=2_000, description="From the preview.")


class ForecastOut(Answer):
    subscription_id: str
    invoices: list[ExpectedOut]
    total: Money | None = Field(description="All of them together; null when none is to come.")


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/trial/extend",
    needs=EXTEND,
    gives=TrialOut,
    also=ASKED,
    refuses=[404, 409],
    example={"days": 14, "reason": "needs more time"},
)
def extend_trial(request: ApiRequest, subscription_id: Id, body: ExtendIn) -> TrialOut:
    """Let a trial last longer: so many days from now, or until an instant. The first invoice moves along."""
    operation = extend(
        find_subscription(subscription_id),
        until=body.until,
        days=body.days,
        reason=body.reason,
        actor=request.auth.actor,
        now=request.now,
    )
    return TrialOut(
        operation=OperationOut.of(operation),
        subscription=SubscriptionOut.of(find_subscription(subscription_id), request.now),
        invoices=[],
    )


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/trial/end",
    needs=EXTEND,
    gives=TrialOut,
    refuses=[404, 409],
    example={"reason": "wants to pay"},
)
def end_trial(request: ApiRequest, subscription_id: Id, body: EndTrialIn) -> TrialOut:
    """End a trial now: its first period begins and is billed, or the subscription ends where its plan says so."""
    subscription = find_subscription(subscription_id)
    ended = end_now(subscription, reason=body.reason, actor=request.auth.actor, now=request.now)
    return TrialOut(
        operation=OperationOut.of(ended.operation),
        subscription=SubscriptionOut.of(find_subscription(subscription_id), request.now),
        invoices=[InvoiceOut.of(invoice) for invoice in ended.invoices],
    )


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/quantities/preview",
    needs="customers.view_subscription",
    gives=PreviewOut,
    refuses=[404, 409],
    example={"quantities": {"credits": 300}},
)
def preview_quantities(request: ApiRequest, subscription_id: Id, body: QuantitiesIn) -> PreviewOut:
    """What other numbers of prepaid units would cost: the preview of a change of plan."""
    subscription = find_subscription(subscription_id)
    return PreviewOut.of(preview_plan(subscription.customer, _proposal(request, subscription, body), now=request.now))


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/quantities",
    needs="customers.view_subscription",
    gives=ChangedOut,
    also=ASKED,
    refuses=[404, 409],
    example={"quantities": {"credits": 300}, "fingerprint": "eyJmIjoi…"},
)
def change_quantities(request: ApiRequest, subscription_id: Id, body: QuantitiesConfirmed) -> ChangedOut:
    """Buy other numbers of prepaid units; takes the permission of a change to its plan."""
    subscription = find_subscription(subscription_id)
    enabled = enable_plan(
        subscription.customer,
        _proposal(request, subscription, body),
        reason=body.reason or reason_of(subscription, now=request.now),
        actor=request.auth.actor,
        now=request.now,
        confirmed=body.fingerprint,
    )
    return changed(enabled, request.now)


def _proposal(request: ApiRequest, subscription: Subscription, body: QuantitiesIn) -> Proposal:
    plan = phase_to_change(subscription, now=request.now).version.plan
    request.auth.require("customers.assign_plan" if plan.kind == Plan.Kind.ASSIGNED else "customers.enable_plan")
    timing = Timing(body.timing) if body.timing else None
    return propose_units(subscription.customer, subscription, body.quantities, timing=timing, now=request.now)


@endpoint(
    router,
    "GET",
    "/subscriptions/{subscription_id}/forecast",
    needs="invoicing.view_invoice",
    gives=ForecastOut,
    refuses=[404],
)
def read_forecast(
    request: ApiRequest, subscription_id: Id, invoices: Annotated[int, Query(ge=1, le=12)] = 12
) -> ForecastOut:
    """The next invoices, if nothing changes; use is assumed at the daily rate of the last 30 days."""
    subscription = find_subscription(subscription_id)
    expected = _forecast(subscription, invoices, request.now)
    total = Money.of(sum(one.total for one in expected), expected[0].currency) if expected else None
    return ForecastOut(
        subscription_id=subscription.public_id, invoices=[ExpectedOut.of(one) for one in expected], total=total
    )


def _forecast(subscription: Subscription, most: int, now: datetime) -> tuple[Any, ...]:
    """The use of a feature that several contracts sell is the first one's."""
    customer = subscription.customer
    courses = read_courses(customer, list(customer.subscriptions.live().with_phases()), now=now)
    shares = share_of_use(courses, daily_use(customer, now=now))
    for (other, course), daily in zip(courses, shares, strict=True):
        if other.pk == subscription.pk:
            return forecast(course, daily, most=most)
    return ()
