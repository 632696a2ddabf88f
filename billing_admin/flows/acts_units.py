"""Balances and bonuses as acts that can need a second person. Amounts are units of a feature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Self

from dateutil.relativedelta import relativedelta

from billing_admin.approving import AddsUp, Effect, Shown, Size, guarded
from billing_admin.flows.acts import Gone, about, customer_again, day, feature_again, instant, last_of, text
from billing_admin.flows.balances import Wanted, set_balance
from billing_admin.flows.grants import Wanted as WantedUnits
from billing_admin.flows.grants import change_units, give_units
from catalog.money import grouped, plain
from catalog.periods import Cadence, boundary, count_until, every
from customers.journal import Actor
from customers.models import Customer, Operation
from entitlements.balances import ZERO
from entitlements.edit import BalanceEdit, part_of_total, place_of, preview_edit
from entitlements.models import Balance, BalanceEntry, Grant
from entitlements.readings import pool_at

UNITS = {"units": "units"}


@guarded
@dataclass(frozen=True)
class EditBalance(AddsUp):
    who: Customer
    wanted: Wanted

    key: ClassVar[str] = "balance.edited"
    title: ClassVar[str] = "A balance edit"
    measures: ClassVar[Mapping[str, str]] = UNITS
    together: ClassVar[tuple[str, ...]] = ("units",)
    permissions: ClassVar[tuple[str, ...]] = ("entitlements.change_balance",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        wanted = Wanted(
            inputs["feature"],
            Decimal(inputs["to"]),
            balance_id=inputs["balance_id"],
            interval=inputs["interval"],
            total=inputs["total"],
            reset_at=instant(inputs["reset_at"]),
            expires_at=instant(inputs["expires_at"]),
        )
        return cls(customer_again(inputs), wanted)

    def to_json(self) -> dict[str, Any]:
        asked = self.wanted
        return {
            "customer": self.who.public_id,
            "feature": asked.feature,
            "to": plain(asked.to),
            "balance_id": asked.balance_id,
            "interval": asked.interval,
            "total": asked.total,
            "reset_at": text(asked.reset_at),
            "expires_at": text(asked.expires_at),
        }

    def customer(self) -> Customer:
        return self.who

    def _planned(self, now: datetime) -> BalanceEdit:
        asked, there = self.wanted, pool_at(self.who, now, self.wanted.feature)
        place = place_of(there, asked.feature, asked.balance_id, asked.interval)
        to = part_of_total(there, place, asked.to) if asked.total else asked.to
        dates = {"reset_at": asked.reset_at, "expires_at": asked.expires_at}
        return preview_edit(there, asked.feature, to=to, now=now, place=place, **dates)

    def sizes(self, now: datetime) -> Sequence[Size]:
        """What is added; of a bonus or a purchase that lasts longer, all that is left then."""
        planned = self._planned(now)
        is_longer = planned.bucket.is_extra and _is_longer(planned.bucket.ends_at, planned.ends_at)
        return [Size("units", max(ZERO, planned.to if is_longer else planned.adjusts))]

    @classmethod
    def was(cls, operation: Operation, customer: Customer) -> Sequence[Size]:
        said, done = operation.inputs, operation.effects
        before, after = instant(done.get("untilBefore")), instant(said.get("expiresAt"))
        is_longer = after is not None and _is_longer(before, after)
        return [Size("units", max(ZERO, Decimal(said["to"] if is_longer else done["adjusted"])))]

    def shown(self, now: datetime) -> Shown:
        """Use goes on meanwhile, so what is left before decorates; what is left afterwards counts."""
        planned, feature = self._planned(now), feature_again(self.wanted.feature)
        before, after = grouped(planned.bucket.left or ZERO), grouped(planned.to)
        until = f" until {planned.ends_at:%-d %b %Y}" if planned.ends_at else ""
        effects = (
            about(self.who),
            Effect(f"{feature.name}, {planned.contract_name}", f"{before} left", f"{after} left", is_passing=True),
            Effect("What becomes true", "", planned.sentence, is_passing=True),
        )
        facts = {"ends": planned.ends_at, "charge": planned.charge, "bucket": planned.contract_name}
        sentence = f"Set {feature.name} of {self.who.name} to {grouped(self.wanted.to)} left{until}"
        return Shown(sentence, effects, facts=facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation:
        operation, _ = set_balance(self.who, self.wanted, reason=reason, actor=actor, now=now)
        return operation


@guarded
@dataclass(frozen=True)
class GiveUnits(AddsUp):
    who: Customer
    wanted: WantedUnits
    idempotency_key: str | None = None

    key: ClassVar[str] = "grant.given"
    title: ClassVar[str] = "A grant"
    measures: ClassVar[Mapping[str, str]] = UNITS
    together: ClassVar[tuple[str, ...]] = ("units",)
    permissions: ClassVar[tuple[str, ...]] = ("entitlements.add_grant",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        wanted = WantedUnits(
            feature_again(inputs["feature"]),
            Decimal(inputs["units"]),
            instant(inputs["ends_at"]),
            inputs["label"],
            source=inputs["source"],
            priority=inputs["priority"],
            starts_at=instant(inputs["starts_at"]),
            recurs=inputs["recurs"],
            metadata=inputs["metadata"],
        )
        return cls(customer_again(inputs), wanted, inputs["key"])

    def to_json(self) -> dict[str, Any]:
        asked = self.wanted
        return {
            "customer": self.who.public_id,
            "feature": asked.feature.slug,
            "units": plain(asked.units),
            "ends_at": text(asked.ends_at),
            "label": asked.label,
            "source": asked.source,
            "priority": asked.priority,
            "starts_at": text(asked.starts_at),
            "recurs": asked.recurs,
            "metadata": dict(asked.metadata),
            "key": self.idempotency_key,
        }

    def customer(self) -> Customer:
        return self.who

    def sizes(self, now: datetime) -> Sequence[Size]:
        """Of units that come again: all that come within a year."""
        return [Size("units", self.wanted.units * windows(self.wanted, now))]

    @classmethod
    def was(cls, operation: Operation, customer: Customer) -> Sequence[Size]:
        said = operation.inputs
        starts, ends = instant(said["from"]), instant(said["until"])
        units = Decimal(said["units"])
        return [Size("units", units * windows_until(said["recurs"], starts or operation.at, ends))]

    @classmethod
    def stays(cls, operation: Operation, customer: Customer) -> Sequence[Size]:
        """What was used of it."""
        first = BalanceEntry.objects.filter(operation=operation, balance__grant__isnull=False).values("balance__grant")
        return [Size("units", sum((row.used for row in Balance.objects.filter(grant__in=first)), ZERO))]

    def shown(self, now: datetime) -> Shown:
        asked = self.wanted
        often = f" every {every(asked.recurs)}" if asked.recurs else ""
        effects = (
            about(self.who),
            Effect(asked.feature.name, "", f"{grouped(asked.units)} more{often}"),
            Effect("From", "", day(asked.starts_at, "at once")),
            Effect("Until", "", day(asked.ends_at, "they are used")),
        )
        sentence = f"Give {self.who.name} {grouped(asked.units)} {asked.feature.name}{often}: {asked.label}"
        return Shown(sentence, effects, facts={"source": asked.source, "units": plain(asked.units)})

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        """A start that has come since it was asked for is now."""
        asked = self.wanted
        if asked.starts_at is not None and asked.starts_at < now:
            asked = replace(asked, starts_at=None)
        give_units(self.who, asked, reason=reason, key=self.idempotency_key, actor=actor, now=now)
        return last_of(self.who, self.key)


@guarded
@dataclass(frozen=True)
class ChangeUnits(AddsUp):
    """More units, or longer, for what was given before: by the rules of giving them."""

    given: Grant
    changes: Mapping[str, Any] = field(default_factory=dict)

    key: ClassVar[str] = "grant.changed"
    ruled_as: ClassVar[str] = GiveUnits.key
    title: ClassVar[str] = "A change of a grant"
    measures: ClassVar[Mapping[str, str]] = UNITS
    together: ClassVar[tuple[str, ...]] = ("units",)
    permissions: ClassVar[tuple[str, ...]] = ("entitlements.change_grant",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        given = Grant.objects.select_related("customer", "feature").filter(public_id=inputs["grant"]).first()
        if given is None:
            raise Gone("The grant")
        changes = dict(inputs["changes"])
        if "units" in changes:
            changes["units"] = Decimal(changes["units"])
        if "ends_at" in changes:
            changes["ends_at"] = instant(changes["ends_at"])
        return cls(given, changes)

    def to_json(self) -> dict[str, Any]:
        changes = dict(self.changes)
        if "units" in changes:
            changes["units"] = plain(changes["units"])
        if "ends_at" in changes:
            changes["ends_at"] = text(changes["ends_at"])
        return {"grant": self.given.public_id, "changes": changes}

    def customer(self) -> Customer:
        return self.given.customer

    def sizes(self, now: datetime) -> Sequence[Size]:
        """All of its units when they become more or last longer, of those that come again all within a year; what only
        gets less needs nobody."""
        given = self.given
        units, ends_at = self.changes.get("units", given.units), self.changes.get("ends_at", given.ends_at)
        if units <= given.units and not _is_longer(given.ends_at, ends_at):
            return []
        return [Size("units", units * windows_until(given.recurs, max(given.starts_at, now), ends_at))]

    @classmethod
    def was(cls, operation: Operation, customer: Customer) -> Sequence[Size]:
        """What came on top of what was given; of units that last longer, all of them."""
        said, before = operation.inputs, operation.effects["before"]
        given = customer.grants.filter(public_id=said["grant"]).first()
        if given is None:
            return []
        units = Decimal(said.get("units", given.units))
        ends_at = instant(said["ends_at"]) if "ends_at" in said else given.ends_at
        is_longer = "ends_at" in said and _is_longer(instant(before["ends_at"]), ends_at)
        more = units if is_longer else max(ZERO, units - Decimal(before.get("units", units)))
        return [Size("units", more * windows_until(given.recurs, max(given.starts_at, operation.at), ends_at))]

    def shown(self, now: datetime) -> Shown:
        before = {"units": grouped(self.given.units), "ends_at": day(self.given.ends_at, "used up")}
        effects = [about(self.given.customer)]
        for name, value in self.changes.items():
            after = grouped(value) if name == "units" else day(value, "used up") if name == "ends_at" else str(value)
            effects.append(Effect(name.replace("_", " ").capitalize(), before.get(name, ""), after))
        facts = {"units": plain(self.given.units), "ends": self.given.ends_at, "voided": self.given.voided_at}
        sentence = f"Change {self.given.label} ({self.given.feature.name}) of {self.given.customer.name}"
        return Shown(sentence, tuple(effects), facts=facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        change_units(self.given, self.changes, actor=actor, now=now)
        return last_of(self.given.customer, self.key)


def _is_longer(before: datetime | None, after: datetime | None) -> bool:
    return before is not None and (after is None or after > before)


def windows(asked: WantedUnits, now: datetime) -> int:
    """How many windows open until the end, or within a year."""
    return windows_until(asked.recurs, asked.starts_at or now, asked.ends_at)


def windows_until(recurs: str, start: datetime, ends_at: datetime | None) -> int:
    if not recurs:
        return 1
    year = start + relativedelta(years=1)
    until = min(ends_at, year) if ends_at else year
    cadence = Cadence.parse(recurs)
    whole = count_until(start, cadence, until)
    return max(1, whole if boundary(start, cadence, whole) == until else whole + 1)
