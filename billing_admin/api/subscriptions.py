"""Contracts of customers: read one, cancel it, withdraw what is scheduled."""

from datetime import datetime
from typing import Self

from ninja import Router
from pydantic import Field

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_subscription
from billing_admin.api.invoices import InvoiceOut
from billing_admin.api.lines import LineOut
from billing_admin.api.operations import OperationOut
from billing_admin.api.shapes import Answer, Body, Id, Instant, Money, Reason
from billing_admin.flows import cancel as verbs
from billing_admin.flows.cancel import Cancellation
from customers.models import Phase, Subscription

router = Router(tags=["Subscriptions"])

CANCEL = "customers.cancel_subscription"


class PhaseOut(Answer):
    plan_key: str
    plan_name: str
    version: int
    is_custom: bool
    billing_cadence: str
    billing_interval: str = Field(json_schema_extra={"deprecated": True}, description="Read billingCadence instead.")
    starts_at: datetime
    ends_at: datetime | None

    @classmethod
    def of(cls, phase: Phase) -> Self:
        return cls(
            plan_key=phase.version.plan.key,
            plan_name=phase.version.plan.name,
            version=phase.version.number,
            is_custom=phase.version.tailored,
            billing_cadence=phase.version.cadence,
            billing_interval=phase.version.billing_interval,
            starts_at=phase.starts_at,
            ends_at=phase.ends_at,
        )


class SubscriptionOut(Answer):
    id: str = Field(examples=["sub_9aQ2mZ8TqVbNc1R4"])
    product_id: str = Field(examples=["api"])
    state: str = Field(examples=["active"])
    add_on: bool
    quantity: int
    plan: PhaseOut | None = Field(description="What it runs on now.")
    scheduled_change: PhaseOut | None = Field(description="What it is to run on next; can be withdrawn until then.")
    started_at: datetime
    period_starts_at: datetime | None
    period_ends_at: datetime | None
    ends_at: datetime | None = Field(description="A planned end.")
    end_reason: str | None
    ended_at: datetime | None

    @classmethod
    def of(cls, subscription: Subscription, now: datetime) -> Self:
        current = subscription.phase_at(now) if subscription.is_live else None
        following = subscription.next_phase(now) if subscription.is_live else None
        return cls(
            id=subscription.public_id,
            product_id=subscription.product.key,
            state=subscription.state,
            add_on=subscription.add_on,
            quantity=subscription.quantity,
            plan=PhaseOut.of(current) if current else None,
            scheduled_change=PhaseOut.of(following) if following else None,
            started_at=subscription.started_at,
            period_starts_at=subscription.period_starts_at,
            period_ends_at=subscription.period_ends_at,
            ends_at=subscription.ends_at,
            end_reason=subscription.end_reason or None,
            ended_at=subscription.ended_at,
        )


class CancelIn(Body):
    at_once: bool = Field(default=False, description="Else at the end of the cycle, or at `endsAt`.")
    bill_use: bool = Field(default=True, description="At once: bill use that is still open.")
    unused: str = "account_credit"
    ends_at: Instant | None = Field(None, description="A later end.")
    reason: Reason = ""


class WithdrawIn(Body):
    reason: Reason = ""


class CancellationOut(Answer):
    sentence: str = Field(examples=["Access ends on 1 Apr 2026. Nothing is due now."])
    ends_at: datetime
    at_once: bool
    lines: list[LineOut]
    total: Money
    withdraws: str

    @classmethod
    def of(cls, planned: Cancellation) -> Self:
        return cls(
            sentence=planned.sentence,
            ends_at=planned.ends_at,
            at_once=planned.at_once,
            lines=[LineOut.of(line) for line in (*planned.use_lines, *planned.unused)],
            total=Money.of(planned.total, planned.currency),
            withdraws=planned.withdraws,
        )


class CanceledOut(Answer):
    operation: OperationOut
    subscription: SubscriptionOut
    invoices: list[InvoiceOut]


class WithdrawnOut(Answer):
    operation: OperationOut
    subscription: SubscriptionOut


@endpoint(
    router,
    "GET",
    "/subscriptions/{subscription_id}",
    needs="customers.view_subscription",
    gives=SubscriptionOut,
    refuses=[404],
)
def read_subscription(request: ApiRequest, subscription_id: Id) -> SubscriptionOut:
    """Read a subscription."""
    return SubscriptionOut.of(find_subscription(subscription_id), request.now)


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/cancel/preview",
    needs=CANCEL,
    gives=CancellationOut,
    refuses=[404, 409],
    example={"atOnce": True},
)
def preview_cancel(request: ApiRequest, subscription_id: Id, body: CancelIn) -> CancellationOut:
    """What cancelling would do: when access ends, what open use costs, what comes back."""
    planned = verbs.preview_cancel(
        find_subscription(subscription_id),
        at_once=body.at_once,
        bill_use=body.bill_use,
        unused=body.unused,
        now=request.now,
    )
    return CancellationOut.of(planned)


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/cancel",
    needs=CANCEL,
    gives=CanceledOut,
    refuses=[404, 409],
    example={"atOnce": True, "billUse": True, "creditUnused": True, "reason": "moved to another vendor"},
)
def cancel_subscription(request: ApiRequest, subscription_id: Id, body: CancelIn) -> CanceledOut:
    """Cancel at the end of the cycle (the default), at a later instant, or at once."""
    subscription = find_subscription(subscription_id)
    operation, invoices = verbs.cancel(
        subscription,
        at_once=body.at_once,
        bill_use=body.bill_use,
        unused=body.unused,
        ends_at=body.ends_at,
        reason=body.reason,
        actor=request.auth.actor,
        now=request.now,
    )
    return CanceledOut(
        operation=OperationOut.of(operation),
        subscription=SubscriptionOut.of(find_subscription(subscription_id), request.now),
        invoices=[InvoiceOut.of(invoice) for invoice in invoices],
    )


@endpoint(
    router,
    "DELETE",
    "/subscriptions/{subscription_id}/scheduled-change",
    needs=CANCEL,
    gives=WithdrawnOut,
    refuses=[404, 409],
    example={"reason": "changed their mind"},
)
def withdraw_scheduled_change(request: ApiRequest, subscription_id: Id, body: WithdrawIn | None = None) -> WithdrawnOut:
    """Withdraw the scheduled change, or take back a cancellation, while its date has not come."""
    operation = verbs.withdraw(
        find_subscription(subscription_id),
        reason=body.reason if body else "",
        actor=request.auth.actor,
        now=request.now,
    )
    return WithdrawnOut(
        operation=OperationOut.of(operation),
        subscription=SubscriptionOut.of(find_subscription(subscription_id), request.now),
    )


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/scheduled-change/withdraw",
    needs=CANCEL,
    gives=WithdrawnOut,
    refuses=[404, 409],
    example={"reason": "changed their mind"},
)
def withdraw_by_post(request: ApiRequest, subscription_id: Id, body: WithdrawIn | None = None) -> WithdrawnOut:
    """The same, for clients that cannot send a body with DELETE."""
    return withdraw_scheduled_change(request, subscription_id, body)
