"""Feature overrides as values: another value of one feature, for a customer or one of their subscriptions. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from catalog.money import grouped
from catalog.terms import FeatureTerms


@dataclass(frozen=True, slots=True)
class Override:
    """Exactly one of `on`, `units`, `text` and `unlimited` says what is true while it is in force.

    `subscription_id` is None at the level of the customer, where it replaces the merged value; else it replaces what
    that subscription contributes.
    """

    id: int
    public_id: str
    feature: FeatureTerms
    subscription_id: int | None
    starts_at: datetime
    ends_at: datetime | None
    on: bool | None = None
    units: Decimal | None = None
    text: str = ""
    unlimited: bool = False
    reason: str = ""

    def holds(self, at: datetime) -> bool:
        return self.starts_at <= at and (self.ends_at is None or at < self.ends_at)

    @property
    def closes(self) -> bool:
        """Whether it says that there is no access at all."""
        return self.on is False

    @property
    def is_of_customer(self) -> bool:
        return self.subscription_id is None

    def describe(self) -> str:
        """For people: `50,000`, `on`, `no access`, `unlimited`."""
        if self.on is not None:
            return "on" if self.on else "no access"
        if self.unlimited:
            return "unlimited"
        return self.text if self.units is None else grouped(self.units)


@dataclass(frozen=True, slots=True)
class Replaced:
    """The overrides of one feature that are in force: that of the customer, and those of subscriptions by their id.

    `asked` are the subscriptions in force in the order in which they are asked: main plans first, the oldest first.
    """

    of_customer: Override | None
    of_subscriptions: dict[int, Override]
    asked: tuple[int | None, ...] = ()

    @property
    def closed(self) -> bool:
        return self.of_customer is not None and self.of_customer.closes

    def of(self, subscription_id: int | None) -> Override | None:
        return None if subscription_id is None else self.of_subscriptions.get(subscription_id)

    @property
    def all(self) -> list[Override]:
        own = [self.of_customer] if self.of_customer else []
        return [*own, *self.of_subscriptions.values()]

    @property
    def decides_units(self) -> bool:
        """Whether the customer's override alone says how many units there are, whatever those of subscriptions say."""
        return self.of_customer is not None and (self.of_customer.units is not None or self.of_customer.unlimited)

    @property
    def both_levels(self) -> bool:
        return self.of_customer is not None and bool(self.of_subscriptions)


NOTHING_REPLACED = Replaced(None, {})


def in_force(
    overrides: Iterable[Override], slug: str, at: datetime, subscriptions: Iterable[int | None] = ()
) -> Replaced:
    """The overrides of a feature at the instant; those of subscriptions that do not apply then have no say."""
    asked = tuple(subscriptions)
    found = [o for o in overrides if o.feature.slug == slug and o.holds(at)]
    if not found:
        return NOTHING_REPLACED
    own = next((o for o in found if o.subscription_id is None), None)
    of = {o.subscription_id: o for o in found if o.subscription_id is not None}
    return Replaced(own, {pk: of[pk] for pk in asked if pk is not None and pk in of}, asked)
