"""Another value of one feature, as an act that can need a second person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Self

from billing_admin.approving import Effect, Shown, Size, guarded
from billing_admin.flows.acts import (
    about,
    customer_again,
    day,
    feature_again,
    instant,
    last_of,
    subscription_again,
    text,
)
from billing_admin.flows.override_outlook import Outlook, Wanted, gives, outlook
from billing_admin.flows.overrides import Value, give_override, sizes_of_override
from catalog.models import Feature
from catalog.money import plain
from customers.journal import Actor
from customers.models import Customer, Operation, Subscription
from entitlements.override import describe, value_of


@guarded
@dataclass(frozen=True)
class GiveOverride:
    """`starts_at` None: as soon as it is given; `ends_at` None: for good."""

    who: Customer
    feature: Feature
    value: Value
    subscription: Subscription | None
    starts_at: datetime | None
    ends_at: datetime | None
    supersede: bool = False

    key: ClassVar[str] = "override.given"
    title: ClassVar[str] = "A feature override"
    measures: ClassVar[Mapping[str, str]] = {"units": "units", "days": "days that it lasts"}
    permissions: ClassVar[tuple[str, ...]] = ("entitlements.give_concession",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        value = inputs["value"]
        return cls(
            customer_again(inputs),
            feature_again(inputs["feature"]),
            Decimal(value["number"]) if isinstance(value, dict) else value,
            subscription_again(inputs["subscription"]) if inputs["subscription"] else None,
            instant(inputs["starts_at"]),
            instant(inputs["ends_at"]),
            inputs["supersede"],
        )

    def to_json(self) -> dict[str, Any]:
        number = {"number": plain(self.value)} if isinstance(self.value, Decimal) else None
        return {
            "customer": self.who.public_id,
            "feature": self.feature.slug,
            "value": number or self.value,
            "subscription": self.subscription.public_id if self.subscription else None,
            "starts_at": text(self.starts_at),
            "ends_at": text(self.ends_at),
            "supersede": self.supersede,
        }

    def customer(self) -> Customer:
        return self.who

    def more_permissions(self, now: datetime) -> tuple[str, ...]:
        """What stays, or ends what would have stayed, takes more than a concession."""
        ended = self._outlook(now).overlapping if self.supersede else ()
        stays = self.ends_at is None or any(row.effective_until is None for row in ended)
        return ("entitlements.add_featureoverride",) if stays else ()

    def _starts(self, now: datetime) -> datetime:
        """A start that has come since it was asked for is now."""
        return max(self.starts_at or now, now)

    def sizes(self, now: datetime) -> Sequence[Size]:
        return sizes_of_override(value_of(self.feature, self.value), self._starts(now), self.ends_at)

    def _wanted(self, now: datetime) -> Wanted:
        asked = value_of(self.feature, self.value)
        return Wanted(self.feature, asked, self.subscription, self._starts(now), self.ends_at)

    def _outlook(self, now: datetime) -> Outlook:
        return outlook(self.who, self._wanted(now), now=now)

    def shown(self, now: datetime) -> Shown:
        found, until = self._outlook(now), day(self.ends_at, "somebody revokes it")
        effects = [
            about(self.who),
            Effect(self.feature.name, gives(found.before), gives(found.after)),
            Effect("From", "", day(self.starts_at, "at once")),
            Effect("Until", "", until),
        ]
        ended = [row for row in found.overlapping if self.supersede]
        effects += [Effect(f"The override that holds, {describe(row)}", "", "ends") for row in ended]
        facts = {
            "before": gives(found.before),
            "after": gives(found.after),
            "ends others": [row.public_id for row in ended],
        }
        whose = f" ({self.subscription.public_id})" if self.subscription else ""
        value = found.wanted.value().describe()
        sentence = f"Override {self.feature.name} of {self.who.name}{whose}: {value} until {until}"
        return Shown(sentence, tuple(effects), facts=facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        starts = self.starts_at if self.starts_at is not None and self.starts_at > now else None
        give_override(
            self.who,
            self.feature,
            self.value,
            subscription=self.subscription,
            effective_from=starts,
            effective_until=self.ends_at,
            reason=reason,
            supersede=self.supersede,
            actor=actor,
            now=now,
        )
        return last_of(self.who, self.key)
