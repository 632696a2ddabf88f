"""The balances of a change of plan that is taken back: use counts under the former allowance, in its former windows.

Units that came with the change go back; those that were used stay, with their part of the charge.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any

from billing_admin.flows.position import Position
from billing_admin.flows.undo_money import Ending, documents_of
from catalog.money import format_minor, grouped, round_half_away
from customers.contracts import MULTIPLYING, Contract
from customers.holdings import contract_of
from customers.models import Customer, Operation, Phase, Subscription
from entitlements.allowances import contributions_of
from entitlements.balances import Bucket, BucketMove, Contribution, Fate, keeps_for_ever, reprovision
from entitlements.grant import void_grant
from entitlements.levels import tell_levels
from entitlements.models import Balance, BalanceEntry, BalanceQuerySet, Grant
from entitlements.provision import enter
from entitlements.readings import item_terms
from invoicing.lines import ONE_TIME, PREPAID, USAGE, units_paid
from invoicing.models import Invoice, InvoiceLine
from invoicing.readings import gross_of

ZERO = Decimal(0)
Entered = BalanceEntry.Kind


@dataclass(frozen=True, slots=True)
class UsedUnits:
    """Bought units of one line that are used: they stay, with so much of the charge (minor units, with tax)."""

    line: InvoiceLine
    units: Decimal
    charge: int

    @property
    def sentence(self) -> str:
        item = item_terms(self.line.item_id or 0)
        assert item.feature is not None, "units are bought of a feature"
        money = format_minor(self.charge, self.line.invoice.currency)
        what = f"{grouped(self.units)} {item.feature.name} of those that were bought with it are used"
        return f"{what}: they stay, with {money} of {self.line.invoice}."


class Windows:
    """What an act did to the balances of its contract. `former` is None where the contract began with it."""

    def __init__(self, operation: Operation, contract: Subscription, former: Phase | None):
        self.operation, self.contract, self.former = operation, contract, former
        self.customer: Customer = contract.customer

    @cached_property
    def acts(self) -> list[Operation]:
        """The act, and the one that began what had waited for its first payment."""
        gating = [document.public_id for document in documents_of(self.operation) if document.gates_id]
        begun = self.customer.operations.filter(verb="plan.activated", inputs__invoice__in=gating) if gating else []
        return [self.operation, *begun]

    @cached_property
    def written(self) -> Mapping[str, Any]:
        """The ends of the windows by feature as the journal keeps them; nothing of what waited since."""
        kept: Mapping[str, Any] = (self.operation.effects.get("before") or {}).get("windows", {})
        return kept if len(self.acts) == 1 else {}

    @cached_property
    def promised(self) -> dict[str, Contribution]:
        """What the former plan promises, by feature."""
        if self.former is None:
            return {}
        return {each.slug: each for each in contributions_of([contract_of(self.former, self.customer)])}

    def closed(self, kind: str = Balance.Source.PLAN_ITEM) -> BalanceQuerySet:
        """The windows of the contract that the act ended."""
        entries = BalanceEntry.objects.filter(operation__in=self.acts, kind=Entered.CLOSE).values("balance")
        rows = Balance.objects.filter(pk__in=entries, subscription=self.contract, source=kind)
        return rows.select_related("feature").order_by("id")

    def end_of(self, row: Balance) -> datetime | None:
        """When a window that the act cut short would have ended."""
        slug = row.feature.slug
        if slug in self.written:
            said = self.written[slug]
            return datetime.fromisoformat(said) if said else None
        item = item_terms(row.item_id or 0)
        if keeps_for_ever(item) or self.former is None:
            return None
        return Contribution(contract_of(self.former, self.customer), item).window(row.starts_at).ends_at

    def is_over(self, row: Balance, now: datetime) -> bool:
        """Whether a window that the act cut short would be over by now: nothing can count in it any more."""
        ends_at = self.end_of(row)
        return ends_at is not None and ends_at <= now

    def purchases(self) -> list[Grant]:
        """What unused units became that had been bought once."""
        made = BalanceEntry.objects.filter(operation__in=self.acts, kind=Entered.GRANT).values("balance")
        rows = Grant.objects.filter(balances__in=made, source=Grant.Source.PURCHASE, voided_at=None)
        return list(rows.select_related("feature", "customer").order_by("id").distinct())


# Bought units ---------------------------------------------------------------------------------------------------------


def used_units(windows: Windows, now: datetime) -> list[UsedUnits]:
    """What of the units that an act sold is used and has no room in the former allowance.

    Included units are used first, and those that were there before the act: they count as if it had not been.
    """
    sold = InvoiceLine.objects.filter(
        invoice__in=[d.pk for d in documents_of(windows.operation) if d.kind == Invoice.Kind.INVOICE],
        kind__in=(PREPAID, ONE_TIME),
        amount__gt=0,
        item__feature__isnull=False,
    )
    found = []
    for line in sold.select_related("invoice", "item").order_by("id"):
        units = _used(line, windows, now)
        if units > 0:
            part = Fraction(units) / Fraction(line.quantity)
            found.append(UsedUnits(line, units, round_half_away(gross_of(line) * part)))
    return found


def _used(line: InvoiceLine, windows: Windows, now: datetime) -> Decimal:
    item = item_terms(line.item_id or 0)
    own = Balance.objects.promised().filter(subscription=windows.contract, item=line.item_id, closed_at=None)
    row = own.filter(granted__isnull=False).first()
    if row is None or item.feature is None or not item.is_prepaid or not line.quantity:
        return ZERO
    edits = row.adjusted + row.withheld
    consumed = row.used - edits - (item.included or ZERO) * windows.contract.quantity
    before = [r for r in windows.closed() if r.feature_id == row.feature_id and not windows.is_over(r, now)]
    promised = windows.promised.get(item.feature.slug)
    room = ZERO
    if promised is not None:
        if promised.granted is None:
            return ZERO
        room = promised.granted - sum((_counted(r) for r in before), ZERO)
    new: Decimal = line.quantity
    if promised is not None and not before and promised.item.is_prepaid:
        new -= units_paid(promised.item)  # they were there before, on the same window
    units: Decimal = min(consumed, row.used - edits - room, new)
    return max(ZERO, units)


def _counted(row: Balance) -> Decimal:
    """Use of a window that counts against its allowance; what became a purchase does not."""
    counted: Decimal = row.used - max(ZERO, row.adjusted + row.withheld)
    return counted


# The way back ---------------------------------------------------------------------------------------------------------


def moves_back(windows: Windows, position: Position, after: Contract, *, restarted: bool) -> list[BucketMove]:
    """Use is carried, whichever plan it was; nothing is granted afresh. Where the cycle had begun anew, windows end
    when they would have."""
    held = position.held
    assert held is not None, "there is a plan to go back from"
    follows = held.contract.follows_contract
    owner = (held.subscription_id, None) if follows else (None, held.contract.plan_id)
    rows = [bucket for bucket in position.buckets if bucket.owner == owner]
    if not follows and held.contract.plan_id != after.plan_id:
        since = windows.operation.at
        rows = [row for row in rows if keeps_for_ever(row.item) or (after.follows_contract and _opened(row, since))]
    moves = reprovision(
        rows,
        contributions_of([after]),
        position.at,
        renew_consumables=False,
        new_cycle=restarted,
        waiting=position.waiting,
    )
    return [_ending_as_before(move, windows, position.at, restarted=restarted) for move in moves]


def _opened(bucket: Bucket, since: datetime) -> bool:
    """Whether a bucket of an assigned plan came with the act, and was not left behind by an earlier stay on it."""
    return bucket.id is not None and Balance.objects.filter(pk=bucket.id, opened_at__gte=since).exists()


def _ending_as_before(move: BucketMove, windows: Windows, at: datetime, *, restarted: bool) -> BucketMove:
    after = move.after
    if after is None or not after.is_plan or after.item.feature is None or after.ends_at is None:
        return move
    said = windows.written.get(after.item.feature.slug)
    if not said or not (restarted or move.fate is Fate.OPENED):
        return move
    ends_at = datetime.fromisoformat(said)
    return replace(move, after=replace(after, ends_at=ends_at)) if ends_at > at else move


def bring_back(
    windows: Windows, endings: Sequence[Ending], used: Iterable[UsedUnits], made: Operation, *, now: datetime
) -> None:
    """What was used, and edited, in windows that the act had ended counts again, but not what it billed of it; units
    that became a purchase are the plan's again, and rollovers go on. Bought units that are used stay."""
    standing = [ending.document.pk for ending in endings if not ending.is_void]
    paid = set(InvoiceLine.objects.filter(invoice__in=standing, kind=USAGE).values_list("balance_id", flat=True))
    for row in windows.closed().select_for_update(of=("self",)):
        if windows.is_over(row, now):
            _bill_later(row, endings)
        elif target := _target(windows, row.feature_id):
            _move(row, target, is_paid=row.pk in paid, now=now, made=made)
    ended = BalanceEntry.objects.filter(operation=made, kind=Entered.CLOSE).values("balance")
    for row in Balance.objects.promised().filter(pk__in=ended).order_by("id").select_for_update(of=("self",)):
        if target := _target(windows, row.feature_id):
            _move(row, target, is_paid=False, now=now, made=made)
    _return_purchases(windows, made, now=now)
    _return_rollovers(windows, made, now=now)
    for each in used:
        target = _target(windows, each.line.item.feature_id) if each.line.item else None
        if target is not None:
            _adjust(target, each.units, now=now, made=made)
    tell_levels(windows.customer, [windows.contract.pk], now=now)


def _target(windows: Windows, feature_id: int | None) -> Balance | None:
    """The open window of the former plan."""
    former = windows.former
    if former is None:
        return None
    follows = former.version.plan.kind in MULTIPLYING
    own = {"subscription": windows.contract} if follows else {"subscription": None, "plan": former.version.plan}
    rows = Balance.objects.promised().filter(customer=windows.customer, feature=feature_id, closed_at=None, **own)
    return rows.select_for_update(of=("self",)).first()


def _move(row: Balance, target: Balance, *, is_paid: bool, now: datetime, made: Operation) -> None:
    if target.pk == row.pk:
        return
    adjusted = row.adjusted + row.withheld
    room = (row.granted or ZERO) + adjusted
    used = min(row.used, max(ZERO, room)) if is_paid else row.used
    for each, sign in ((row, -1), (target, 1)):
        each.used, each.adjusted = each.used + sign * used, each.adjusted + sign * adjusted
        each.save(update_fields=["used", "adjusted"])
        if used != adjusted:
            enter(each, Entered.MOVED, sign * (adjusted - used), now=now, operation=made)


def _adjust(row: Balance, units: Decimal, *, now: datetime, made: Operation) -> None:
    row.adjusted += units
    row.save(update_fields=["adjusted"])
    enter(row, Entered.MOVED, units, now=now, operation=made)


def _bill_later(row: Balance, endings: Sequence[Ending]) -> None:
    """Use of a window that is over, and whose invoice is void now, is billed when the period closes."""
    void = [ending.document.pk for ending in endings if ending.is_void]
    InvoiceLine.objects.filter(balance=row, kind=USAGE, invoice__in=void).update(is_replaced=True)


def _return_purchases(windows: Windows, made: Operation, *, now: datetime) -> None:
    """What is left of a purchase is the plan's again; what was used of it stays used."""
    for given in windows.purchases():
        rest = void_grant(given, now=now, reason=made.reason, operation=made)
        target = _target(windows, given.feature_id)
        if target is not None and rest:
            _adjust(target, rest, now=now, made=made)


def _return_rollovers(windows: Windows, made: Operation, *, now: datetime) -> None:
    """What rolled over and was ended or trimmed by the act goes on, until the date that it had."""
    for row in windows.closed(Balance.Source.ROLLOVER).select_for_update(of=("self",)):
        rule = item_terms(row.item_id or 0).rollover
        ends_at = rule.ends_at(row.starts_at) if rule else now
        if rule is not None and (ends_at is None or ends_at > now):
            row.ends_at, row.closed_at = ends_at, None
            row.save(update_fields=["ends_at", "closed_at"])
            enter(row, Entered.ROLLED, ZERO, now=now, operation=made)
    trimmed = BalanceEntry.objects.filter(operation__in=windows.acts, kind=Entered.ROLLED, amount__lt=0)
    for entry in trimmed.select_related("balance").filter(balance__closed_at=None, balance__source="rollover"):
        row = Balance.objects.select_for_update(of=("self",)).get(pk=entry.balance_id)
        row.adjusted -= entry.amount or ZERO
        row.save(update_fields=["adjusted"])
        enter(row, Entered.ROLLED, -(entry.amount or ZERO), now=now, operation=made)
