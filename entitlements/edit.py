"""Verb: set what is left of one balance until its window ends. The plan's own allowance comes back by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction

from catalog.charges import rate
from catalog.money import format_minor, grouped, to_minor
from catalog.periods import NEVER
from customers.holdings import contracts_at
from customers.journal import Actor, record, require_reason
from customers.models import Customer, Operation
from entitlements.balances import ZERO, Bucket, Standing
from entitlements.models import Balance, BalanceEntry
from entitlements.pool import Pool
from entitlements.provision import enter, held_until, hold, settle
from entitlements.readings import open_rows, pool


class NothingToEdit(ValidationError):
    def __init__(self, feature: str):
        super().__init__(
            f"{feature} has no balance that could be edited: it is unlimited, not metered, or not in the plan.",
            code="no_balance",
        )


class NothingBelowZero(ValidationError):
    def __init__(self, label: str):
        super().__init__(f"{label} cannot go below zero: no plan promises it. Set it to 0 or more.", code="below_zero")


class BadResetDate(ValidationError):
    """A date that cannot be; `field` is `reset_at` or `expires_at`."""

    def __init__(self, why: str, field: str = "reset_at"):
        self.field = field
        super().__init__(why, code="bad_reset_date")


@dataclass(frozen=True, slots=True)
class BalanceEdit:
    """What an edit will make true. Amounts in units; `charge` in minor units of `currency`, at the present rate.

    `next_granted` is what the next window starts with (None: without a limit); what no plan promises has no next one.
    """

    bucket: Bucket
    contract_name: str
    to: Decimal
    ends_at: datetime | None
    adjusts: Decimal
    next_granted: Decimal | None
    charged_units: Decimal
    charge: int
    currency: str

    @property
    def sentence(self) -> str:
        """For people, before the button: until when it holds, what comes after, what it adds to the next invoice."""
        left = f"{grouped(max(ZERO, self.to))} left" if self.to >= 0 else f"{grouped(-self.to)} beyond the allowance"
        if self.ends_at is None:
            held = f"From now on: {left}; this balance never resets."
        elif not self.bucket.is_plan and not (self.bucket.grant and self.bucket.grant.recurs):
            held = f"Until {self.ends_at:%-d %b %Y}: {left}; then it is gone."
        else:
            after = "no limit" if self.next_granted is None else grouped(self.next_granted)
            held = f"Until {self.ends_at:%-d %b %Y}: {left}; then {after} again."
        if self.charge:
            amount = format_minor(self.charge, self.currency)
            return f"{held} {grouped(self.charged_units)} units ({amount}) will be charged on the next invoice."
        if self.to < 0:
            return f"{held} Nothing is charged; use is blocked until then."
        return f"{held} Nothing is charged."


def plan_bucket(found: Sequence[Standing], feature: str, *, interval: str | None = None) -> int:
    """The place of the bucket that an edit naming none moves: the main plan's, then the oldest one's."""
    places = [
        i
        for i, s in enumerate(found)
        if not s.bucket.unlimited and (interval is None or s.bucket.item.reset == interval)
    ]
    if not places:
        raise NothingToEdit(feature)
    return min(places, key=lambda i: (found[i].bucket.add_on, found[i].bucket.since, i))


def preview_edit(
    there: Pool,
    feature: str,
    *,
    to: Decimal,
    now: datetime,
    place: int | None = None,
    reset_at: datetime | None = None,
    expires_at: datetime | None = None,
) -> BalanceEdit:
    """What setting one bucket's rest would make true; pure. `place` is one of the pool's, else the plan's is taken.

    Raises `NothingToEdit` and `BadResetDate`.
    """
    place = plan_bucket(there.standings, feature) if place is None else place
    bucket = there.buckets[place]
    if bucket.left is None:
        raise NothingToEdit(feature)
    if expires_at is not None and not bucket.is_extra:
        why = "What a plan promises ends with its window; only a bonus or a purchase takes an end."
        raise BadResetDate(why, "expires_at")
    if place >= len(there.standings):
        return _edit_beside(bucket, to, now=now, reset_at=reset_at, expires_at=expires_at)
    chosen = there.standings[place]
    item, ends_at = bucket.item, bucket.ends_at
    if reset_at is not None and reset_at != ends_at:
        if item.reset == NEVER:
            raise BadResetDate("This balance never resets, so it takes no reset date.")
        if reset_at <= now:
            raise BadResetDate("The reset date has to be in the future.")
        if item.price is not None and not item.included:
            raise BadResetDate("This balance is billed with its period, so its end cannot be moved.")
        ends_at = reset_at
    overage = max(ZERO, -to)
    currency = chosen.contribution.contract.terms.currency
    billed = item.is_usage and chosen.contribution.contract.terms.is_invoiced
    return BalanceEdit(
        bucket=bucket,
        contract_name=chosen.contribution.contract.plan_name,
        to=to,
        ends_at=ends_at,
        adjusts=to - bucket.left,
        next_granted=chosen.contribution.granted,
        charged_units=overage if billed else ZERO,
        charge=to_minor(rate(item.price, overage).amount, currency) if billed and item.price else 0,
        currency=currency,
    )


def _edit_beside(
    bucket: Bucket, to: Decimal, *, now: datetime, reset_at: datetime | None, expires_at: datetime | None
) -> BalanceEdit:
    """An edit of a bonus, a purchase, a rollover or an override's bucket: nothing is charged for any of them."""
    if to < 0:
        raise NothingBelowZero(bucket.label)
    if reset_at is not None and reset_at != bucket.ends_at:
        raise BadResetDate("Only what a plan promises has a reset date; this balance ends on a date of its own.")
    if expires_at is not None and bucket.grant is not None and bucket.grant.recurs:
        raise BadResetDate("This one comes again in each of its windows; change the grant instead.", "expires_at")
    if expires_at is not None and expires_at <= now:
        raise BadResetDate("The end has to be in the future.", "expires_at")
    return BalanceEdit(
        bucket=bucket,
        contract_name=bucket.label,
        to=to,
        ends_at=expires_at or bucket.ends_at,
        adjusts=to - (bucket.left or ZERO),
        next_granted=bucket.grant.units if bucket.grant and bucket.grant.recurs else ZERO,
        charged_units=ZERO,
        charge=0,
        currency="",
    )


@transaction.atomic
def edit_balance(
    customer: Customer,
    *,
    feature: str,
    to: Decimal,
    reason: str,
    actor: Actor,
    now: datetime,
    balance_id: int | None = None,
    interval: str | None = None,
    total: bool = False,
    reset_at: datetime | None = None,
    expires_at: datetime | None = None,
) -> tuple[Operation, Balance]:
    """Set what is left of a bucket until it ends; `total` sets the sum over all buckets by moving the plan's.

    `balance_id` names the bucket (else the plan's, of the given reset `interval` if any). Returns the journal line
    and the row. `expires_at` is another end for a bonus or a purchase. Raises `NothingToEdit`, `NothingBelowZero`,
    `BadResetDate`, `ReasonRequired`.
    """
    reason = require_reason(reason, "a balance edit")
    hold(customer, alone=True)
    contracts = contracts_at(customer, now)
    rows = held_until(customer, open_rows(customer).filter(feature__slug=feature), now, now=now)
    there = pool(customer, contracts, rows, now, feature)
    place = place_of(there, feature, balance_id, interval)
    left = there.buckets[place].left
    if total:
        to = part_of_total(there, place, to)
    planned = preview_edit(there, feature, to=to, now=now, place=place, reset_at=reset_at, expires_at=expires_at)
    row = settle(customer, there, rows, now=now)[place]
    row.adjusted += planned.adjusts
    until_before, row.ends_at = row.ends_at, planned.ends_at
    row.save(update_fields=["adjusted", "ends_at"])
    if expires_at is not None and row.grant is not None:
        row.grant.ends_at = row.ends_at
        row.grant.save(update_fields=["ends_at"])
    operation = record(
        customer,
        "balance.edited",
        f"Set {row.feature.name} to {grouped(to)} left (was {grouped(left or ZERO)})",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"feature": feature, "to": to, "resetAt": reset_at, "expiresAt": expires_at, "balance": row.pk},
        effects={
            "was": left,
            "adjusted": planned.adjusts,
            "until": planned.ends_at,
            "untilBefore": until_before,
            "charge": planned.charge,
        },
    )
    enter(row, BalanceEntry.Kind.EDIT, planned.adjusts, now=now, operation=operation)
    return operation, row


def place_of(there: Pool, feature: str, balance_id: int | None, interval: str | None = None) -> int:
    """Of the bucket that an edit means. Raises `NothingToEdit`."""
    if balance_id is None:
        return plan_bucket(there.standings, feature, interval=interval)
    named = [i for i, bucket in enumerate(there.buckets) if bucket.id == balance_id and not bucket.unlimited]
    if not named:
        raise NothingToEdit(feature)
    return named[0]


def part_of_total(there: Pool, place: int, to: Decimal) -> Decimal:
    """What one bucket is set to, so that all together come to so much."""
    if there.buckets[place].left is None:
        return to
    return to - sum((there.buckets[i].remaining or ZERO for i in there.usable if i != place), ZERO)
