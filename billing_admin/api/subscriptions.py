"""Contracts of customers: read one, cancel it, withdraw what is scheduled."""

from datetime import datetime
from typing import Literal, Self

from ninja import Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.documents import DocumentOut
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_subscription
from billing_admin.api.invoices import InvoiceOut
from billing_admin.api.lines import LineOut
from billing_admin.api.operations import OperationOut
from billing_admin.api.shapes import Answer, Body, Id, Instant, Money, Quantity, Reason
from billing_admin.flows import cancel as verbs
from billing_admin.flows.cancel import Cancellation
from customers.models import Phase, Subscription
from customers.states import SubscriptionState

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
    plan: PhaseOut | None = Field(description="What it runs on now, or will once it is paid.")
    scheduled_change: PhaseOut | None = Field(description="What it is to run on next; can be withdrawn until then.")
    later_changes: list[PhaseOut] = Field(description="What it is to run on after that; withdrawn with it.")
    started_at: datetime
    period_starts_at: datetime | None
    period_ends_at: datetime | None
    ends_at: datetime | None = Field(description="A planned end.")
    end_reason: str | None
    ended_at: datetime | None
    trial_ends_at: datetime | None
    settled_at: datetime | None = Field(description="Its final invoice was made then; access goes on until `endsAt`.")
    quantities: dict[str, Quantity] = Field(description="Prepaid units in total, by item key.")
    net_terms_days: int | None = Field(description="Null: the account's.")

    @classmethod
    def of(cls, subscription: Subscription, now: datetime) -> Self:
        waits = subscription.state == SubscriptionState.PENDING_PAYMENT
        current = subscription.phase_at(now) if subscription.is_live or waits else None
        following = subscription.next_phase(now) if subscription.is_live else None
        return cls(
            id=subscription.public_id,
            product_id=subscription.product.key,
            state=subscription.state,
            add_on=subscription.add_on,
            quantity=subscription.quantity,
            plan=PhaseOut.of(current) if current else None,
            scheduled_change=PhaseOut.of(following) if following else None,
            later_changes=[PhaseOut.of(phase) for phase in subscription.later_phases(now)] if following else [],
            started_at=subscription.started_at,
            period_starts_at=subscription.period_starts_at,
            period_ends_at=subscription.period_ends_at,
            ends_at=subscription.ends_at,
            end_reason=subscription.end_reason or None,
            ended_at=subscription.ended_at,
            trial_ends_at=subscription.trial_ends_at,
            settled_at=subscription.settled_at,
            quantities=current.bought_units() if current else {},
            net_terms_days=subscription.net_terms_days,
        )


class CancelIn(Body):
    at_once: bool = Field(default=False, description="Settle now; else at the end of the cycle, or at `endsAt`.")
    bill_use: bool = Field(default=True, description="Bill use that is still open when it is settled.")
    unused: Literal["account_credit", "refund", "nothing"] = Field(
        "account_credit",
        description="What unused fees and prepaid packs become. A refund, as far as money came in, takes "
        "`invoicing.credit_invoice`.",
    )
    ends_at: Instant | None = Field(None, description="A later end.")
    access_until: Instant | None = Field(
        None,
        description="At once: access goes on until then, at most to the period's end; nothing more is billed.",
    )
    reason: Reason = ""


class WithdrawIn(Body):
    reason: Reason = ""


class CancellationOut(Answer):
    sentence: str = Field(examples=["Access ends on 1 Apr 2026. Nothing is due now."])
    ends_at: datetime
    at_once: bool
    settles_at: datetime = Field(description="When the documents are issued; amounts to come are as known by now.")
    lines: list[LineOut]
    documents: list[DocumentOut]
    total: Money
    refund: Money = Field(description="What is paid out of it.")
    withdraws: str
    gives_up: list[str] = Field(description="First invoices that nobody paid, by id: they become void.")

    @classmethod
    def of(cls, planned: Cancellation) -> Self:
        return cls(
            sentence=planned.sentence,
            ends_at=planned.ends_at,
            at_once=planned.at_once,
            lines=[LineOut.of(line) for line in (*planned.use_lines, *planned.unused)],
            settles_at=planned.settles_at,
            documents=[DocumentOut.of(document) for document in planned.documents],
            total=Money.of(planned.total, planned.currency),
            refund=Money.of(planned.refund, planned.currency),
            withdraws=planned.withdraws,
            gives_up=[invoice.public_id for invoice in planned.gives_up],
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
        ends_at=body.ends_at,
        access_until=body.access_until,
        now=request.now,
    )
    return CancellationOut.of(planned)


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/cancel",
    needs=CANCEL,
    gives=CanceledOut,
    also=ASKED,
    refuses=[404, 409],
    example={"atOnce": True, "billUse": True, "unused": "account_credit", "reason": "moved to another vendor"},
)
def cancel_subscription(request: ApiRequest, subscription_id: Id, body: CancelIn) -> CanceledOut:
    """Cancel at the end of the cycle (the default), at a later instant, or at once.

    A first payment that nobody made is given up; a scheduled change is withdrawn.
    """
    subscription = find_subscription(subscription_id)
    if body.unused == "refund":
        request.auth.require("invoicing.credit_invoice")
    operation, invoices = verbs.cancel(
        subscription,
        at_once=body.at_once,
        bill_use=body.bill_use,
        unused=body.unused,
        ends_at=body.ends_at,
        access_until=body.access_until,
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
