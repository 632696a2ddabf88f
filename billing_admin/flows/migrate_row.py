"""One contract of a migration: whose turn it is, what is written of it, and the switch of features at once."""

from dataclasses import dataclass, field
from datetime import datetime

from django.core.exceptions import ValidationError

from billing_admin.flows.change import preview
from billing_admin.flows.drafts import issue_drafts_of
from billing_admin.flows.enable_plan import Told, carry_out_change
from billing_admin.flows.plan_change import Proposal
from billing_admin.flows.position import read_position
from catalog.terms import ChangeKind
from customers.journal import Actor
from customers.models import Customer, MigrationRow, Operation, Phase, Subscription


@dataclass
class Carried:
    """What one stretch of work came to; `failures` are named `migration/contract`."""

    done: int = 0
    skipped: int = 0
    failures: list[tuple[str, Exception]] = field(default_factory=list)


def name_of(row: MigrationRow) -> str:
    """How a failure names the row: the public ids of its migration and its contract."""
    return f"{row.migration.public_id}/{row.subscription.public_id}"


class BilledMeanwhile(ValidationError):
    def __init__(self) -> None:
        super().__init__("This contract was billed in this very moment. Try again.", "billed_meanwhile")


def hold(row: MigrationRow, now: datetime, *, wait: bool) -> Subscription | None:
    """Hold the customer's row and read the contract, with that customer; None when somebody else holds it and nobody
    waits.

    A pass looks at the clock once, and renewals go on beside it. A contract whose period began after `now` is left for
    the next pass: seen from `now` that boundary is still to come, and it would be billed twice. Whoever waits is told
    so: raises `BilledMeanwhile`.
    """
    customer: Customer | None = (
        Customer.objects.select_for_update(skip_locked=not wait).filter(pk=row.customer_id).first()
    )
    if customer is None:
        return None
    subscription = Subscription.objects.get(pk=row.subscription_id)
    subscription.customer = customer
    if subscription.period_starts_at is None or subscription.period_starts_at <= now:
        return subscription
    if wait:
        raise BilledMeanwhile
    return None


# What becomes of a row; the rest was written when it began.
OUTCOME = ("state", "code", "problem", "old_price", "new_price", "lost", "at", "phase", "operation", "done_at")


def write(row: MigrationRow, state: str, now: datetime, *, code: str = "", problem: str = "") -> None:
    row.state, row.code, row.problem, row.done_at = state, code, problem[:500], now
    row.save(update_fields=OUTCOME)


class PricesDiffer(ValidationError):
    def __init__(self) -> None:
        super().__init__("The price of this contract would change, so it waits for a billing cycle.", "prices_differ")


def switch_features(
    row: MigrationRow, customer: Customer, proposal: Proposal, actor: Actor, reason: str, told: Told, now: datetime
) -> tuple[Phase, Operation]:
    """Switch the contract at once to what changes no price. Raises `PricesDiffer`."""
    subscription = Subscription.objects.get(pk=row.subscription_id)
    issue_drafts_of(subscription, actor=actor, now=now)
    plan = row.migration.plan
    at = now.replace(microsecond=0)
    position = read_position(customer, plan, at=at, subscription=subscription)
    change = preview(position, proposal)
    if change.kind is not ChangeKind.FEATURES:
        raise PricesDiffer
    enabled = carry_out_change(customer, change, reason=reason, actor=actor, now=now, told=told)
    phase = enabled.subscription.phase_at(at)
    assert phase is not None, "a contract that goes on has a phase in force"
    return phase, enabled.operation
