"""Reading the past: what an answer at an earlier instant was made from, as it was known then.

Contracts come from the dates of their phases, overrides from what was given and taken back by then, balances from the
lines of their ledgers and the events that had been reported. Nothing of it is stored twice, so it can be read for any
instant whose events are still in the database. In a fixed number of queries, however much has happened since.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Exists, Max, OuterRef, Prefetch, Q, Sum

from catalog.models import PlanVersion
from catalog.terms import METERED, FeatureTerms
from customers.contracts import Contract, order
from customers.holdings import contract_of, default_contract_on, default_plan
from customers.models import Customer, Operation, Phase, Subscription
from customers.states import SubscriptionState
from entitlements.allowances import contributions_of
from entitlements.balances import ZERO, Contribution
from entitlements.events import opened_at
from entitlements.ledger import lines_of
from entitlements.metered import RECOUNT
from entitlements.models import (
    CLOCKS_DIFFER,
    ArchivedMonth,
    ArchivedUse,
    Balance,
    BalanceEntry,
    FeatureOverride,
    Grant,
    UsageEvent,
)
from entitlements.overrides import Override
from entitlements.partitions import ends
from entitlements.pool import Pool
from entitlements.provision import ACCRUED
from entitlements.readings import grant_terms, item_terms, override_of, pool_under, remember_items

Kind = BalanceEntry.Kind
GRANTING = {Kind.GRANT, Kind.REGRANT}
# Lines that went into what is adjusted; those of a move hold use as well.
ADJUSTING = {Kind.EDIT, Kind.ROLLED, Kind.KEPT, Kind.OVERRIDE}


class NoSuchPast(ValidationError):
    """There is nothing to be read for this instant; `code` says why."""

    def __init__(self, why: str, code: str):
        super().__init__(why, code=code)


@dataclass(frozen=True, slots=True)
class Past:
    """What a check at the instant was decided from."""

    at: datetime
    contracts: tuple[Contract, ...]
    pool: Pool


def past(customer: Customer, feature: FeatureTerms, at: datetime, *, now: datetime) -> Past:
    """What was known of a feature at an earlier instant. Raises `NoSuchPast`."""
    _refuse_unreadable(customer, at, now)
    anchor = _anchor_then(customer, at)
    contracts = contracts_then(customer, at, anchor=anchor.at)
    overrides = overrides_then(customer, feature, at)
    metered = feature.type == METERED
    rows = rows_then(customer, feature, contracts, overrides, at, anchor) if metered else []
    return Past(at, tuple(contracts), pool_under(overrides, contracts, rows, at, feature.slug))


def _refuse_unreadable(customer: Customer, at: datetime, now: datetime) -> None:
    if at > now:
        raise NoSuchPast("This instant lies in the future.", "in_the_future")
    if at < customer.created_at:
        raise NoSuchPast(
            f"{customer.name} is a customer only since {_day(customer.created_at)}.", "before_the_customer"
        )
    last = ArchivedMonth.objects.aggregate(last=Max("month"))["last"]
    if last is not None and at < ends(last):
        raise NoSuchPast(
            f"Events reported before {_day(ends(last))} are in the archive, so answers of that time can no longer be "
            "told.",
            "archived",
        )


def _day(at: datetime) -> str:
    return f"{at:%-d %b %Y}"


# Contracts ------------------------------------------------------------------------------------------------------------


def contracts_then(customer: Customer, at: datetime, *, anchor: datetime | None = None) -> list[Contract]:
    """What applied at the instant: phases by their dates, those of contracts that have ended since included.

    `anchor` is where windows of assigned plans were counted from then, if that was not where they are now.
    """
    if customer.closed_at is not None and customer.closed_at <= at:
        return []
    then = copy(customer)
    then.usage_started_at = customer.usage_anchor if anchor is None else anchor
    main = Subscription.objects.filter(
        customer=customer, product=OuterRef("subscription__product"), add_on=False, started_at__lte=at
    )
    goes_on = main.filter(Q(ends_at=None) | Q(ends_at__gt=at))
    over = Q(subscription__add_on=True) & Exists(main.filter(ends_at__lte=at)) & ~Exists(goes_on)
    phases = Phase.objects.in_force(at).filter(subscription__customer=customer).exclude(over)
    found = list(phases.select_related("subscription", "version__plan"))
    let_in = _let_in(customer, [phase.subscription for phase in found])
    held = [phase for phase in found if _had_access(let_in, phase.subscription, at)]
    return order(contract_of(phase, then) for phase in held) or _default_then(then, at)


def _let_in(customer: Customer, subscriptions: Sequence[Subscription]) -> dict[int, datetime | None]:
    """By contract that began by waiting for its first payment: since when it gave access; None: it never did."""
    ids = {subscription.pk: subscription.public_id for subscription in subscriptions}
    beginnings = Subscription.history.filter(id__in=ids).order_by("id", "history_id").distinct("id")
    waited = [pk for pk, state in beginnings.values_list("id", "state") if state == SubscriptionState.PENDING_PAYMENT]
    if not waited:
        return {}
    acts = Operation.objects.filter(customer=customer, verb="plan.activated").order_by("-id")
    since = {effects.get("subscription"): at for effects, at in acts.values_list("effects", "at")}
    return {pk: since.get(ids[pk]) for pk in waited}


def _had_access(let_in: Mapping[int, datetime | None], subscription: Subscription, at: datetime) -> bool:
    if subscription.pk not in let_in:
        return True
    since = let_in[subscription.pk]
    return since is not None and since <= at


def _default_then(customer: Customer, at: datetime) -> list[Contract]:
    """The default product with the version that was live then."""
    plan = default_plan()
    if plan is None:
        return []
    versions = PlanVersion.objects.standard().filter(plan=plan, published_at__lte=at)
    version = versions.order_by("-published_at", "-number").first()
    if version is None:
        return []
    then = copy(plan)
    then.current_version_id = version.pk
    return [default_contract_on(then, customer)]


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where windows of assigned plans were counted from; `moved_at` is when it was moved next."""

    at: datetime
    moved_at: datetime | None = None


def _anchor_then(customer: Customer, at: datetime) -> Anchor:
    moves = Operation.objects.filter(customer=customer, verb="customer.updated", at__gt=at).order_by("id")
    move = moves.filter(inputs__has_key="usage_started_at").first()
    if move is None:
        return Anchor(customer.usage_anchor)
    before = move.inputs["usage_started_at"]["from"]
    return Anchor(datetime.fromisoformat(before) if before else customer.created_at, move.at)


# Overrides ------------------------------------------------------------------------------------------------------------


def overrides_then(customer: Customer, feature: FeatureTerms, at: datetime) -> list[Override]:
    """Those of a feature that had been given, with the ends that were known."""
    rows = customer.feature_overrides.filter(feature__slug=feature.slug, created_at__lte=at)
    return [
        replace(override_of(row), ends_at=_end_then(row, at)) for row in rows.select_related("feature", "superseded_by")
    ]


def _end_then(row: FeatureOverride, at: datetime) -> datetime | None:
    ends = [row.effective_until]
    if row.revoked_at is not None and row.revoked_at <= at:
        ends.append(max(row.revoked_at, row.effective_from))
    if row.superseded_by is not None and row.superseded_by.created_at <= at:
        ends.append(max(row.superseded_by.effective_from, row.effective_from))
    return min((end for end in ends if end is not None), default=None)


# Balances -------------------------------------------------------------------------------------------------------------

Owners = Mapping[tuple[int | None, int | None], Contribution]


def rows_then(
    customer: Customer,
    feature: FeatureTerms,
    contracts: Sequence[Contract],
    overrides: Sequence[Override],
    at: datetime,
    anchor: Anchor,
) -> list[Balance]:
    """The balances that were open, as they were; not to be saved."""
    alive = Balance.objects.filter(Q(closed_at=None) | Q(closed_at__gt=at), opened_at__lte=at, customer=customer)
    entries = Prefetch("entries", BalanceEntry.objects.select_related("operation").order_by("id"))
    rows = list(
        alive.filter(feature_id=feature.id or 0)
        .select_related("grant", "subscription", "override")
        .prefetch_related(entries)
        .order_by("id")
    )
    used = _used_then(customer, feature, rows, at)
    remember_items(line.item_id for row in rows for line in lines_of(row) if line.item_id)
    owners = {contribution.owner: contribution for contribution in contributions_of(contracts, feature.slug)}
    replayed = [_Replay(row, at, owners, overrides, anchor).row(used.get(row.pk, ZERO)) for row in rows]
    _put_level(customer, feature, replayed, at)
    return replayed


def _put_level(customer: Customer, feature: FeatureTerms, rows: Sequence[Balance], at: datetime) -> None:
    """What a meter kept of the window: of levels that are averaged over time, what was held and counted until when.

    What other meters keep has no part in an answer. Up to the last event a level is as exact as its events are, which
    are rounded to a millionth of a unit.
    """
    accruing = [row for row in rows if row.level_units is not None]
    for row in rows:
        row.level = row.level_at = row.level_units = row.level_counted = None
    if not accruing:
        return
    main = accruing[0]
    events = UsageEvent.objects.filter(customer=customer, feature_id=feature.id or 0, recorded_at__lte=at)
    events = events.filter(Q(voided_at=None) | Q(voided_at__gt=at))
    last = events.exclude(reported=None).exclude(mode=RECOUNT).order_by("-recorded_at", "-id").first()
    if last is None or last.reported is None:
        return
    until = datetime.fromisoformat(last.properties["until"]) if last.mode == ACCRUED else last.at
    counted = events.filter(at__gte=main.starts_at).aggregate(sum=Sum("taken"))["sum"] or ZERO
    main.level, main.level_at = last.reported, max(until, main.starts_at)
    main.level_units = main.level_counted = counted


class _Replay:
    """One balance, from the lines of its ledger until an instant."""

    def __init__(
        self, row: Balance, at: datetime, owners: Owners, overrides: Sequence[Override], anchor: Anchor
    ) -> None:
        self.present, self.at, self.anchor = row, at, anchor
        self.contribution = _beside(row, owners) if row.override_id else owners.get((row.subscription_id, row.plan_id))
        self.overrides = overrides
        self.all = lines_of(row)
        self.lines = [entry for entry in self.all if entry.at <= at]

    def row(self, counted: Decimal) -> Balance:
        """`counted` are units that events had taken from it."""
        row, moved = copy(self.present), self._moved()
        row.item_id = next((line.item_id for line in reversed(self.lines) if line.item_id), row.item_id)
        row.granted = self._granted()
        adjusted = [line.amount or ZERO for line in self.lines if line.kind in ADJUSTING]
        row.adjusted = sum(adjusted, ZERO) + moved.adjusted
        row.used = counted + moved.used
        row.withheld = -sum((line.amount or ZERO for line in self.lines if line.kind == Kind.OVERRIDE), ZERO)
        row.withheld_by_id = self._withheld_by(row)
        row.starts_at, row.ends_at = self._dates(row)
        row.closed_at = None
        if row.grant is not None:
            row.grant = _grant_then(row.grant, self.at)
        return row

    def _granted(self) -> Decimal | None:
        granted: Decimal | None = ZERO
        for line in self.lines:
            if line.kind in GRANTING:
                granted = None if line.amount is None else (granted or ZERO) + line.amount
        return granted

    def _moved(self) -> "Moved":
        """What moved in from another bucket, taken apart into use and edits.

        A line says only their difference. The edits are what the other lines do not account for; what went out again
        when the bucket was closed is no part of it.
        """
        lines = [line for line in self.all if line.kind == Kind.MOVED]
        row, gone = self.present, None
        if lines and row.closed_at is not None and lines[-1].at == row.closed_at:
            gone = lines.pop()
        inside = sum((line.amount or ZERO for line in lines if line.at <= self.at), ZERO)
        if not lines or lines[0].at > self.at:
            return Moved(adjusted=ZERO, used=-inside)
        adjusted = row.adjusted - sum((line.amount or ZERO for line in self.all if line.kind in ADJUSTING), ZERO)
        if gone is not None:
            emptied = not row.used and not row.adjusted
            adjusted = ZERO if emptied else adjusted - min(ZERO, gone.amount or ZERO)
        return Moved(adjusted=adjusted, used=adjusted - inside)

    def _withheld_by(self, row: Balance) -> int | None:
        """The override that had taken from it, or put a limit to it, when that was written last."""
        limited = row.granted is not None and row.item_id is not None and item_terms(row.item_id).unlimited
        if not row.withheld and not limited:
            return None
        kinds = GRANTING if limited else {Kind.OVERRIDE}
        written_at = max(line.at for line in self.lines if line.kind in kinds)
        levels = {None, self.contribution.contract.subscription_id if self.contribution else row.subscription_id}
        found = [o for o in self.overrides if o.subscription_id in levels and o.holds(written_at)]
        found.sort(key=lambda o: (o.id != row.withheld_by_id, not o.is_of_customer))
        return found[0].id if found else None

    # Dates ------------------------------------------------------------------------------------------------------------

    def _dates(self, row: Balance) -> tuple[datetime, datetime | None]:
        moved_at, contribution = self.anchor.moved_at, self.contribution
        was_moved = moved_at is not None and (self.present.closed_at is None or self.present.closed_at >= moved_at)
        if was_moved and contribution is not None and row.plan_id is not None and row.ends_at is not None:
            window = contribution.window(self.present.opened_at)
            return window.starts_at, window.ends_at
        return row.starts_at, self._end(row)

    def _end(self, row: Balance) -> datetime | None:
        """The end that was known: edits say it themselves; what was ended early since ended regularly then."""
        for line in reversed(self.lines):
            if line.kind == Kind.REGRANT:
                break
            until = line.operation.effects.get("until") if line.kind == Kind.EDIT and line.operation else None
            if until:
                return datetime.fromisoformat(until)
        return self._regular_end(row) if self._was_changed_since(row) else row.ends_at

    def _was_changed_since(self, row: Balance) -> bool:
        since = [line for line in self.all if line.at > self.at]
        if any(line.kind == Kind.REGRANT for line in since):
            return True
        edits = [line.operation.inputs for line in since if line.kind == Kind.EDIT and line.operation]
        if any(said.get("resetAt") or said.get("expiresAt") for said in edits):
            return True
        early = [
            self.present.closed_at,
            row.subscription.ended_at if row.subscription else None,
            row.override.stops_at if row.override else None,
            row.grant.voided_at if row.grant else None,
        ]
        return row.ends_at is not None and row.ends_at in early

    def _regular_end(self, row: Balance) -> datetime | None:
        window = self.contribution.window(row.starts_at).ends_at if self.contribution else row.ends_at
        if row.grant is not None:
            return grant_terms(_grant_then(row.grant, self.at)).window(row.starts_at).ends_at
        if row.override_id is not None:
            own = next((o.ends_at for o in self.overrides if o.id == row.override_id), None)
            return min((end for end in (own, window) if end is not None), default=None)
        if row.source == Balance.Source.ROLLOVER and row.item_id is not None:
            rule = item_terms(row.item_id).rollover
            return row.ends_at if rule is None else rule.ends_at(row.starts_at)
        return window


def _beside(row: Balance, owners: Owners) -> Contribution | None:
    """The contribution whose window the bucket of an override shares."""
    wanted = row.subscription_id
    return next((c for c in owners.values() if wanted in (None, c.contract.subscription_id)), None)


@dataclass(frozen=True, slots=True)
class Moved:
    adjusted: Decimal
    used: Decimal


def _grant_then(grant: Grant, at: datetime) -> Grant:
    """A grant as it was; one that has been taken back since still lived."""
    then = copy(grant)
    if then.voided_at is not None and then.voided_at > at:
        then.voided_at = None
    return then


_USED = """
SELECT part.balance_id, sum(part.amount)
  FROM entitlements_usageevent e CROSS JOIN unnest(e.balance_ids, e.amounts) AS part (balance_id, amount)
  WHERE e.customer_id = %(customer)s AND e.feature_id = %(feature)s
    AND e.recorded_at BETWEEN %(since)s AND %(at)s AND e.balance_ids && %(balances)s::bigint[]
    AND part.balance_id = ANY(%(balances)s) AND (e.voided_at IS NULL OR e.voided_at > %(at)s)
  GROUP BY part.balance_id
"""


def _used_then(customer: Customer, feature: FeatureTerms, rows: Sequence[Balance], at: datetime) -> dict[int, Decimal]:
    """Units that events reported by the instant had taken from each balance; what was voided later counted still."""
    if not rows:
        return {}
    values = {
        "customer": customer.pk,
        "feature": feature.id,
        "balances": [row.pk for row in rows],
        "since": min(opened_at(row) for row in rows) - CLOCKS_DIFFER,
        "at": at,
    }
    with connection.cursor() as cursor:
        cursor.execute(_USED, values)
        used = dict(cursor.fetchall())
    # Months that were archived ended before the instant, so all that they counted had been reported.
    archived = ArchivedUse.objects.filter(balance__in=rows).values("balance").annotate(sum=Sum("used"))
    for balance_id, units in archived.values_list("balance", "sum"):
        used[balance_id] = used.get(balance_id, ZERO) + units
    return used
