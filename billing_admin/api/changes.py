"""Changes of plan: what one would do, to the cent; and the same, done."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, Self

from ninja import Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.documents import DocumentOut, ExpectedOut
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer, find_plan, find_subscription, find_version
from billing_admin.api.invoices import InvoiceOut
from billing_admin.api.items import ItemIn, items_of
from billing_admin.api.lines import LineOut
from billing_admin.api.operations import OperationOut
from billing_admin.api.refusals import BadValue
from billing_admin.api.shapes import Answer, Body, Id, Instant, Money, Quantity, Reason, Slug, Units, as_number
from billing_admin.api.subscriptions import SubscriptionOut
from billing_admin.flows.coupons import coupon_for_act
from billing_admin.flows.courses import daily_use
from billing_admin.flows.enable_plan import (
    MOST_NET_TERMS,
    Enabled,
    confirmation,
    enable_plan,
    preview_plan,
    propose,
)
from billing_admin.flows.forecast import Expected, forecast_change
from billing_admin.flows.gate import waits
from billing_admin.flows.plan_change import Activation, FirstPeriod, PlanChange, Proposal, Timing
from catalog.models import Plan
from catalog.periods import PLAN_CADENCES
from customers.models import Customer
from entitlements.access import Access
from invoicing.mail import document_link

router = Router(tags=["Plan changes"])

EXAMPLE = {
    "planKey": "pro",
    "items": [
        {"type": "fee", "amount": "45.00"},
        {"type": "allowance", "featureSlug": "credits", "included": 500},
    ],
}


class ChangeIn(Body):
    plan_key: Slug
    items: Annotated[list[ItemIn], Field(max_length=200)] | None = Field(
        None, description="All items of a custom plan. Left out: the standard plan."
    )
    cadence: str | None = Field(None, max_length=20, description="Of a custom plan: P1M, P3M or P1Y.")
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(None, description="An older published version.")
    quantity: Annotated[int, Field(ge=1, le=10_000)] = 1
    timing: Literal["now", "cycle_end", "without_billing"] | None = Field(
        None, description="Left out: what the kind of change suggests."
    )
    ends_at: Instant | None = Field(None, description="A planned end.")
    quantities: dict[Slug, Units] | None = Field(
        None,
        description="Prepaid units in total, the included ones counted, by feature or item key. Left out: kept.",
        examples=[{"credits": 300}],
    )
    trial_days: Annotated[int, Field(ge=0, le=730)] | None = Field(
        None, description="Another trial than the version's: takes `customers.extend_trial`. 0: none."
    )
    activation: Literal["after_payment", "now"] = Field(
        "after_payment",
        description="`now` gives access before the first payment: takes `customers.activate_unpaid` and a reason.",
    )
    coupons: Annotated[list[Slug], Field(max_length=10)] = Field(
        default=[],
        description="Coupon or promo codes that come with the act: takes `customers.apply_coupon`.",
    )
    net_terms_days: Annotated[int, Field(ge=0, le=MOST_NET_TERMS)] | None = Field(
        None, description="Days to pay, for this subscription; above 0 nothing waits for a payment."
    )
    billing_anchor: Instant | None = Field(
        None, description="Of a first plan: an instant in the past that its periods are counted from."
    )
    first_period: Literal["prorate", "full"] = Field(
        "prorate",
        description="What an anchor leaves of the first period: prorated by the second, or billed in full.",
    )
    invoices_ahead: Annotated[int, Field(ge=0, le=12)] = Field(0, description="Of a preview: so many of its forecast.")


class ChangeConfirmed(ChangeIn):
    reason: Reason = Field("", description="Required for custom plans.")
    fingerprint: str | None = Field(
        None,
        max_length=2_000,
        description="From the preview: refuse with 409 `preview_outdated` if anything would now be different.",
    )


class FeatureState(Answer):
    """One feature as a preview shows it."""

    has_access: bool
    allowed: bool
    value: bool | int | float | str | None
    unlimited: bool
    limit: Quantity | None
    used: Quantity
    balance: Quantity | None = Field(description="What is left; below zero: beyond the allowance.")
    next_reset_at: datetime | None

    @classmethod
    def of(cls, access: Access) -> Self:
        return cls(
            has_access=access.has_access,
            allowed=access.allowed,
            value=as_number(access.value) if isinstance(access.value, Decimal) else access.value,
            unlimited=access.unlimited,
            limit=access.limit,
            used=access.used,
            balance=access.net,
            next_reset_at=access.next_reset_at,
        )


class FeatureChange(Answer):
    feature_slug: str
    name: str
    changed: bool
    before: FeatureState | None
    after: FeatureState | None


class Difference(Answer):
    key: str
    sign: str = Field(description="`added`, `removed` or `changed`")
    sentence: str = Field(examples=["Credits: 100 → 500"])


class NowOut(Answer):
    lines: list[LineOut]
    documents: list[DocumentOut] = Field(description="With discounts, invoice credits and taxes.")
    total: Money
    from_account_credit: Money


class NextInvoiceOut(Answer):
    at: datetime | None
    lines: list[LineOut]
    documents: list[DocumentOut]
    total: Money
    estimated: bool = Field(description="Use may still be added.")


class ChoiceOut(Answer):
    timing: str
    words: str
    starts_at: datetime
    total: Money = Field(description="Due at once.")
    is_default: bool


class PreviewOut(Answer):
    kind: str = Field(examples=["up"])
    timing: str = Field(examples=["now"])
    why: str = Field(examples=["Takes effect now — higher price"])
    starts_at: datetime
    is_custom: bool
    new_cycle: bool
    replaces: str = Field(description="What was scheduled and goes with this change.")
    stays: str = Field(description="What was scheduled and comes all the same, so that this change ends with it.")
    now: NowOut
    next_invoice: NextInvoiceOut
    access: list[FeatureChange]
    differences: list[Difference]
    choices: list[ChoiceOut] = Field(description="Other timings, with their money.")
    gated: bool = Field(description="Access waits for the first payment.")
    awaits_approval: bool = Field(description="The first invoice waits for somebody's approval.")
    payable_until: datetime | None = Field(description="Of a gated plan: unpaid by then, it is void.")
    trial_ends_at: datetime | None
    net_terms_days: int
    forecast: list[ExpectedOut] = Field(description="As many as `invoicesAhead` asked for.")
    valid_until: datetime
    fingerprint: str = Field(description="Send it with the change to carry out exactly this.")

    @classmethod
    def of(cls, change: PlanChange, ahead: Sequence[Expected] = ()) -> Self:
        currency, gate = change.currency, change.position.gate
        upcoming = change.next_invoice
        return cls(
            kind=change.kind,
            timing=change.timing,
            why=change.why,
            starts_at=change.starts_at,
            is_custom=change.proposal.is_custom,
            new_cycle=change.new_cycle,
            replaces=change.replaces,
            stays=change.stays,
            now=NowOut(
                lines=[LineOut.of(line) for line in change.lines],
                documents=[DocumentOut.of(document) for document in change.documents],
                total=Money.of(change.total, currency),
                from_account_credit=Money.of(change.credit_used, currency),
            ),
            next_invoice=NextInvoiceOut(
                at=upcoming.at,
                lines=[LineOut.of(line) for line in upcoming.lines],
                documents=[DocumentOut.of(document) for document in upcoming.documents],
                total=Money.of(upcoming.total, currency),
                estimated=upcoming.estimated,
            ),
            access=[
                FeatureChange(
                    feature_slug=row.slug,
                    name=row.name,
                    changed=not row.is_same,
                    before=FeatureState.of(row.before) if row.before else None,
                    after=FeatureState.of(row.after) if row.after else None,
                )
                for row in change.access
            ],
            differences=[Difference(key=d.key, sign=d.sign, sentence=d.sentence(currency)) for d in change.differences],
            choices=[
                ChoiceOut(
                    timing=choice.timing,
                    words=choice.words,
                    starts_at=choice.starts_at,
                    total=Money.of(choice.total, currency),
                    is_default=choice.is_default,
                )
                for choice in change.choices
            ],
            gated=change.is_gated,
            awaits_approval=change.is_gated and gate.awaits_approval,
            payable_until=change.position.at + gate.payment_window if change.is_gated else None,
            trial_ends_at=change.trial_ends_at,
            net_terms_days=change.net_terms_days,
            forecast=[ExpectedOut.of(expected) for expected in ahead],
            valid_until=change.valid_until,
            fingerprint=confirmation(change),
        )


class ChangedOut(Answer):
    operation: OperationOut
    subscription: SubscriptionOut
    invoices: list[InvoiceOut]
    checkout_url: str | None = Field(description="Where the first invoice is paid that the plan waits for.")


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/plan-changes/preview",
    needs="customers.view_customer",
    gives=PreviewOut,
    refuses=[404, 409],
    example=EXAMPLE,
)
def preview_plan_change(request: ApiRequest, customer_id: Id, body: ChangeIn) -> PreviewOut:
    """What enabling a plan, standard or custom, would do: money now, the next invoice, access, other timings.

    Nothing changes. The `fingerprint` stands for these numbers until `validUntil`.
    """
    customer = find_customer(customer_id)
    change = preview_plan(customer, proposal_of(request, customer, body), now=request.now)
    daily = daily_use(customer, now=request.now) if body.invoices_ahead else {}
    return PreviewOut.of(change, forecast_change(change, daily, most=body.invoices_ahead))


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/plan-changes",
    needs="customers.view_customer",
    gives=ChangedOut,
    status=201,
    also=ASKED,
    refuses=[404, 409],
    example={**EXAMPLE, "reason": "deal of March", "fingerprint": "eyJmIjoi…"},
)
def change_plan(request: ApiRequest, customer_id: Id, body: ChangeConfirmed) -> ChangedOut:
    """Enable a plan: a first plan, a change, or an add-on beside.

    With the `fingerprint` of a preview exactly that is carried out, or refused with 409 `preview_outdated` and what
    would happen now. Without one it is decided at this moment. A first plan that costs something waits for its payment,
    at `checkoutUrl`. Assigned plans take the permission
    `customers.assign_plan`, all others `customers.enable_plan`.
    """
    customer = find_customer(customer_id)
    enabled = enable_plan(
        customer,
        proposal_of(request, customer, body),
        reason=body.reason,
        actor=request.auth.actor,
        now=request.now,
        confirmed=body.fingerprint,
    )
    return changed(enabled, request.now)


def changed(enabled: Enabled, now: datetime) -> ChangedOut:
    """What came of a change of plan."""
    gating = [invoice for invoice in enabled.invoices if invoice.gates_id and waits(invoice)]
    return ChangedOut(
        operation=OperationOut.of(enabled.operation),
        subscription=SubscriptionOut.of(find_subscription(enabled.subscription.public_id), now),
        invoices=[InvoiceOut.of(invoice) for invoice in enabled.invoices],
        checkout_url=next((document_link(invoice) for invoice in gating if invoice.issued_at), None),
    )


def proposal_of(request: ApiRequest, customer: Customer, body: ChangeIn) -> Proposal:
    """What the body asks for, checked; previews take the same permission as the act."""
    plan = find_plan(body.plan_key)
    request.auth.require("customers.assign_plan" if plan.kind == Plan.Kind.ASSIGNED else "customers.enable_plan")
    for permission in more_permissions(body):
        request.auth.require(permission)
    version = find_version(plan, body.version) if body.version else None
    base = version or plan.current_version
    standard = base.terms() if base else None
    if body.cadence is not None and body.cadence not in PLAN_CADENCES:
        raise BadValue("cadence", f"Allowed: {', '.join(PLAN_CADENCES)}.", "unknown_cadence")
    if body.cadence is not None and body.items is None:
        raise BadValue(
            "cadence", "A cadence of its own takes items of its own: send them, too.", "cadence_without_items"
        )
    cadence = body.cadence or (standard.cadence if standard else "P1M")
    return propose(
        customer,
        plan,
        items=None if body.items is None else items_of(body.items, cadence, standard),
        cadence=body.cadence,
        version=version,
        quantity=body.quantity,
        timing=Timing(body.timing) if body.timing else None,
        ends_at=body.ends_at,
        bought=body.quantities,
        trial_days=body.trial_days,
        activation=Activation(body.activation),
        coupons=[coupon_for_act(customer, code, request.now, plan=plan) for code in body.coupons],
        net_terms_days=body.net_terms_days,
        anchor=body.billing_anchor,
        first_period=FirstPeriod(body.first_period),
    )


def more_permissions(body: ChangeIn) -> Iterator[str]:
    """What takes a permission beside that of the plan."""
    if body.trial_days is not None:
        yield "customers.extend_trial"
    if body.activation == "now":
        yield "customers.activate_unpaid"
    if body.coupons:
        yield "customers.apply_coupon"
