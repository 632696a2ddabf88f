"""Taking back what was done to balances: edits, and units that were given beside every plan."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing_admin.approving import Effect
from billing_admin.flows.grants import Wanted, change_units, give_units, void_units
from billing_admin.undoing import CannotTakeBack, TakenBack, inverse, line_of, taking_back
from catalog.money import grouped
from customers.holdings import contracts_at
from customers.journal import Actor, record
from customers.models import Operation
from entitlements.models import Balance, BalanceEntry, Grant
from entitlements.provision import enter, held_until, hold, settle
from entitlements.readings import open_rows, pool

EDIT = BalanceEntry.Kind.EDIT
ZERO = Decimal(0)


def instant(said: Any) -> datetime | None:
    """An instant as the journal keeps it."""
    return datetime.fromisoformat(said) if said else None


# Edits ----------------------------------------------------------------------------------------------------------------


@inverse
class BalanceEdited:
    """The difference goes back; what was used in between stays used. A moved reset date goes back while its former
    one is still ahead."""

    verb = "balance.edited"
    permissions = ("entitlements.change_balance",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        row = _edited(operation)
        if row.closed_at is not None or (row.ends_at is not None and row.ends_at <= now):
            return f"The window ended on {row.ends_at or row.closed_at:%-d %b %Y}, and the edit with it."
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        row, amount = _edited(operation), _difference(operation)
        said = "adds {} again" if amount < 0 else "takes {} away again"
        stays = []
        if row.used:
            stays.append(f"{grouped(row.used)} {row.feature.name} were used in this window; they stay used.")
        until = _former_end(operation, row, now)
        if until is None and _moved_end(operation, row):
            stays.append("The reset date stays where it is: the former one has passed.")
        effects = (Effect("Resets", f"{row.ends_at:%-d %b %Y}", f"{until:%-d %b %Y}"),) if until and row.ends_at else ()
        return TakenBack(
            f"{row.feature.name}: {said.format(grouped(abs(amount)))}." if amount else f"{row.feature.name} as before.",
            effects=effects,
            stays=tuple(stays),
            facts={"balance": row.pk, "amount": amount, "until": until, "now": row.ends_at},
        )

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        customer = operation.customer
        assert customer is not None, "balances are somebody's"
        hold(customer, alone=True)
        row, amount = _edited(operation), _difference(operation)
        rows = held_until(customer, open_rows(customer, [row.feature_id]), now, now=now)
        settle(customer, pool(customer, contracts_at(customer, now), rows, now, row.feature.slug), rows, now=now)
        row = Balance.objects.select_for_update(of=("self",)).select_related("feature", "grant").get(pk=row.pk)
        if row.closed_at is not None:
            raise CannotTakeBack("The window has ended, and the edit with it.")
        before, until = row.left, _former_end(operation, row, now)
        row.adjusted -= amount
        was, row.ends_at = row.ends_at, until or row.ends_at
        row.save(update_fields=["adjusted", "ends_at"])
        if until is not None and row.grant is not None:
            row.grant.ends_at = until
            row.grant.save(update_fields=["ends_at"])
        was_left, left = grouped(before or ZERO), grouped(row.left or ZERO)
        made = record(
            customer,
            self.verb,
            f"Took back the edit of {row.feature.name}: {left} left (was {was_left})",
            actor=actor,
            now=now,
            reason=reason,
            inputs={"feature": row.feature.slug, "to": row.left, "balance": row.pk},
            effects={"was": before, "adjusted": -amount, "until": row.ends_at, "untilBefore": was},
            reverses=operation,
        )
        enter(row, EDIT, -amount, now=now, operation=made)
        return made


def _edited(operation: Operation) -> Balance:
    found: Balance | None = (
        Balance.objects.select_related("feature", "grant").filter(pk=operation.inputs.get("balance")).first()
    )
    if found is None:
        raise CannotTakeBack("The balance of this edit is in the archive.")
    return found


def _difference(operation: Operation) -> Decimal:
    return Decimal(operation.effects["adjusted"])


def _moved_end(operation: Operation, row: Balance) -> bool:
    before, after = instant(operation.effects.get("untilBefore")), instant(operation.effects.get("until"))
    return "untilBefore" in operation.effects and before != after and row.ends_at == after


def _former_end(operation: Operation, row: Balance, now: datetime) -> datetime | None:
    """The end from before the edit, while it is ahead and nobody has moved it since."""
    before = instant(operation.effects.get("untilBefore"))
    return before if _moved_end(operation, row) and before is not None and before > now else None


# Grants ---------------------------------------------------------------------------------------------------------------


@inverse
class GrantGiven:
    """What is left goes; what was used of it stays used."""

    verb = "grant.given"
    permissions = ("entitlements.change_grant",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        grant = given_by(operation)
        if grant.voided_at is not None:
            return f"{grant.label} was taken back on {grant.voided_at:%-d %b %Y} already."
        if grant.ends_at is not None and grant.ends_at <= now:
            return f"{grant.label} ended on {grant.ends_at:%-d %b %Y}."
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        grant = given_by(operation)
        used = sum((row.used for row in grant.balances.all()), ZERO)
        stays = (f"{grouped(used)} {grant.feature.name} of it were used; they stay used.",) if used > 0 else ()
        return TakenBack(
            f"Takes back what is left of {grant.label} ({grant.feature.name}).",
            stays=stays,
            facts={"grant": grant.public_id, "ends": grant.ends_at, "units": grant.units},
        )

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        by = taking_back(actor, operation, "grant.voided")
        void_units(given_by(operation), reason=reason, actor=by, now=now)
        return line_of(operation)


def given_by(operation: Operation) -> Grant:
    """The grant that an act gave, through the ledger of its first window."""
    entry = BalanceEntry.objects.filter(operation=operation, balance__grant__isnull=False)
    row = Balance.objects.filter(pk__in=entry.values("balance")).select_related("grant__feature", "grant__customer")
    found = row.order_by("id").first()
    if found is None or found.grant is None:
        raise CannotTakeBack("Nothing is kept of what this act gave.")
    return found.grant


@inverse
class GrantVoided:
    """What was taken back is given again, in a grant of its own."""

    verb = "grant.voided"
    permissions = ("entitlements.add_grant",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        grant = _voided(operation)
        if grant.ends_at is not None and grant.ends_at <= now:
            return f"{grant.label} would have ended on {grant.ends_at:%-d %b %Y}."
        if not grant.recurs and not units_taken(operation):
            return "Nothing was left of it."
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        grant, units = _voided(operation), units_taken(operation)
        return TakenBack(
            f"Gives {grouped(units)} {grant.feature.name} again: {grant.label}.",
            facts={"grant": grant.public_id, "units": units, "ends": grant.ends_at},
        )

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        grant = _voided(operation)
        give_again(grant, units_taken(operation), reason=reason, actor=taking_back(actor, operation, "grant.given"),
                   now=now)  # fmt: skip
        return line_of(operation)


def give_again(grant: Grant, left: Decimal, *, reason: str, actor: Actor, now: datetime) -> Grant:
    """A grant like another one, with so much left in its present window; later windows are whole."""
    again = give_units(
        grant.customer,
        Wanted(
            feature=grant.feature,
            units=grant.units if grant.recurs else left,
            ends_at=grant.ends_at,
            label=grant.label,
            source=grant.source,
            priority=grant.priority,
            starts_at=grant.starts_at if grant.recurs or grant.starts_at > now else None,
            recurs=grant.recurs,
            metadata=grant.metadata,
        ),
        reason=reason,
        actor=actor,
        now=now,
    )
    row = again.balances.select_for_update(of=("self",)).order_by("-id").first()
    if row is not None and grant.recurs and row.left != left:
        missing = left - (row.left or ZERO)
        row.adjusted += missing
        row.save(update_fields=["adjusted"])
        enter(row, EDIT, missing, now=now)
    return again


def _voided(operation: Operation) -> Grant:
    found: Grant = Grant.objects.select_related("customer", "feature").get(public_id=operation.inputs["grant"])
    return found


def units_taken(operation: Operation, grant: Grant | None = None) -> Decimal:
    """What an act took away of open windows, by their ledgers."""
    taken = BalanceEntry.objects.filter(operation=operation, kind=EDIT, balance__grant__isnull=False)
    if grant is not None:
        taken = taken.filter(balance__grant=grant)
    return -sum((entry.amount or ZERO for entry in taken), ZERO)


@inverse
class GrantChanged:
    verb = "grant.changed"
    permissions = ("entitlements.change_grant",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        grant = _voided(operation)
        if grant.voided_at is not None or (grant.ends_at is not None and grant.ends_at <= now):
            return f"{grant.label} is over."
        ends = instant(_before(operation).get("ends_at"))
        if ends is not None and ends <= now:
            return f"It would have ended on {ends:%-d %b %Y}."
        said = {name: value for name, value in operation.inputs.items() if name != "grant"}
        if any(_as(name, value) != getattr(grant, name) for name, value in said.items()):
            return f"{grant.label} was changed again since."
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        grant, before = _voided(operation), _before(operation)
        effects = tuple(
            Effect(name.replace("_", " ").capitalize(), _words(getattr(grant, name)), _words(_as(name, value)))
            for name, value in before.items()
        )
        facts = {"grant": grant.public_id, "present": {name: getattr(grant, name) for name in before}}
        return TakenBack(f"Changes {grant.label} back.", effects=effects, facts=facts)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        changes = {name: _as(name, value) for name, value in _before(operation).items()}
        change_units(_voided(operation), changes, actor=taking_back(actor, operation, self.verb), now=now)
        return line_of(operation)


def _before(operation: Operation) -> Mapping[str, Any]:
    found: Mapping[str, Any] = operation.effects["before"]
    return found


def _as(name: str, value: Any) -> Any:
    """A value of a grant as its column has it."""
    if value is None:
        return None
    if name == "units":
        return Decimal(value)
    return datetime.fromisoformat(value) if name == "ends_at" else value


def _words(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%-d %b %Y}"
    return grouped(value) if isinstance(value, Decimal) else "—" if value in (None, "") else str(value)
