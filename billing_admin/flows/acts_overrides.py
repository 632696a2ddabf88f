"""Special prices, and overrides of many customers, as acts that can need a second person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, Self

from billing_admin.approving import Effect, Part, Shown, Size, guarded
from billing_admin.flows.acts import about, money, subscription_again
from billing_admin.flows.override_batch import MOST, Outcome, Row, begin, dry_run, lasting, typed
from billing_admin.flows.overrides import sizes_of_override
from billing_admin.flows.reprice import Beside, Wanted, how_long, override_price, preview_override
from billing_admin.flows.upcoming import Upcoming
from catalog.after import after_commit
from catalog.models import Feature
from catalog.money import format_minor, grouped
from catalog.off_list import WHOLE, share_off
from customers.journal import Actor
from customers.models import Customer, Operation, Subscription
from entitlements.override import BadOverride, value_of
from invoicing.special import REPLACE

SHOWN_ROWS = 50


@guarded
@dataclass(frozen=True)
class OverridePrice:
    subscription: Subscription
    wanted: Wanted

    key: ClassVar[str] = "price.overridden"
    title: ClassVar[str] = "A special price"
    measures: ClassVar[Mapping[str, str]] = {"discount": "discount, in percent", "amount": "amount"}
    permissions: ClassVar[tuple[str, ...]] = ("customers.override_price",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        wanted = Wanted(inputs["item_key"], inputs["components"], inputs["mode"], inputs["cycles"])
        return cls(subscription_again(inputs["subscription"]), wanted)

    def to_json(self) -> dict[str, Any]:
        return {
            "subscription": self.subscription.public_id,
            "item_key": self.wanted.item_key,
            "components": [dict(component) for component in self.wanted.components],
            "mode": self.wanted.mode,
            "cycles": self.wanted.cycles,
        }

    def customer(self) -> Customer:
        return self.subscription.customer

    def sizes(self, now: datetime) -> Sequence[Size]:
        """The amount is what comes off the next invoices, so far as they are known now."""
        coming = preview_override(self.subscription, self.wanted, now=now)
        before, after = (sum(map(self._item_of, side), Fraction(0)) for side in _sides(coming))
        currency = next((invoice.currency for side in _sides(coming) for invoice in side if invoice), "")
        off = [money("amount", int(before - after), currency)] if currency and before > after else []
        return [Size("discount", self._discount(coming)), *off]

    def _discount(self, coming: Sequence[Beside]) -> Decimal:
        """Of the item, over the next invoices beside themselves without it. An item that they do not name (its use
        is not known yet) counts as given away whole when its price is replaced."""
        before, after = (sum(map(self._item_of, side), Fraction(0)) for side in _sides(coming))
        if before <= 0:
            return WHOLE if self.wanted.mode == REPLACE else Decimal(0)
        return share_off(before, max(after, Fraction(0)))

    def _item_of(self, invoice: Upcoming | None) -> Fraction:
        lines = invoice.lines if invoice else ()
        return Fraction(sum(line.amount for line in lines if line.key == self.wanted.item_key))

    def shown(self, now: datetime) -> Shown:
        coming = preview_override(self.subscription, self.wanted, now=now)
        phase = Subscription.objects.with_phases().get(pk=self.subscription.pk).phase_at(now)
        plan = phase.version.plan.name if phase else self.subscription.public_id
        item = phase.terms().item(self.wanted.item_key) if phase else None
        label = item.label if item else self.wanted.item_key
        effects = [about(self.customer()), Effect("Price", item.describe_price(self._currency(phase)) if item else "")]
        effects += [_component(component, self._currency(phase)) for component in self.wanted.components]
        effects += [_beside(found) for found in coming]
        sentence = f"Special price for {plan} · {label} of {self.customer().name}, {how_long(self.wanted.cycles)}"
        facts = {"version": phase.version_id if phase else None, "mode": self.wanted.mode}
        return Shown(sentence, tuple(effects), facts=facts)

    def _currency(self, phase: Any) -> str:
        return phase.terms().currency if phase else self.customer().currency

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        row = override_price(self.subscription, self.wanted, reason=reason, actor=actor, now=now)
        found = self.customer().operations.filter(verb=self.key, effects__override=row.public_id).order_by("-id")
        return found.first()


def _sides(coming: Sequence[Beside]) -> tuple[list[Upcoming | None], list[Upcoming | None]]:
    return [found.before for found in coming], [found.after for found in coming]


def _component(component: Mapping[str, Any], currency: str) -> Effect:
    amount = component.get("amount_cents")
    words = format_minor(amount, currency) if isinstance(amount, int) else ""
    return Effect(f"{component.get('label', '')}, {component.get('recurrence_rule', '')}", "", words)


def _beside(found: Beside) -> Effect:
    """Use and the calendar move what invoices come to."""
    before, after = (
        format_minor(invoice.total, invoice.currency) if invoice else "—" for invoice in (found.before, found.after)
    )
    return Effect(f"Invoice of {found.at:%-d %b %Y}, from what is known now", before, after, is_passing=True)


@guarded
@dataclass(frozen=True)
class OverrideMany:
    rows: Sequence[Row]

    key: ClassVar[str] = "override_batch.begun"
    title: ClassVar[str] = "A batch of overrides"
    contains: ClassVar[tuple[str, ...]] = ("override.given",)
    measures: ClassVar[Mapping[str, str]] = {"customers": "number of customers"}
    permissions: ClassVar[tuple[str, ...]] = ("entitlements.bulk_override",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        return cls([Row.from_json(row) for row in inputs["rows"]])

    def to_json(self) -> dict[str, Any]:
        return {"rows": [row.to_json() for row in self.rows[:MOST]]}

    def customer(self) -> None:
        return None

    def parts(self, now: datetime) -> Sequence[Part]:
        """Each row is an override by itself; one that says what cannot be is refused by itself."""
        features = Feature.objects.in_bulk({row.feature for row in self.rows}, field_name="slug")
        known = [(row, features[row.feature]) for row in self.rows if row.feature in features]
        return [part for row, feature in known if (part := _part(row, feature, now))]

    def more_permissions(self, now: datetime) -> tuple[str, ...]:
        return ("entitlements.add_featureoverride",) if lasting(self.rows, now) else ()

    def sizes(self, now: datetime) -> Sequence[Size]:
        return [Size("customers", Decimal(len({row.customer_id for row in self.rows})))]

    def shown(self, now: datetime) -> Shown:
        outcomes = dry_run(self.rows, now)
        good = [outcome for outcome in outcomes if not outcome.problem]
        features = sorted({row.feature for row in self.rows})
        effects = [Effect("Features", "", ", ".join(features)), Effect("Customers", "", grouped(len(good)))]
        effects += [_outcome(outcome) for outcome in good[:SHOWN_ROWS]]
        if len(good) > SHOWN_ROWS:
            effects.append(Effect("And", "", f"{grouped(len(good) - SHOWN_ROWS)} more"))
        warnings = tuple(f"Line {o.row.line}: {o.problem}" for o in outcomes if o.problem)
        facts = {
            "rows": [(o.row.line, o.customer.public_id if o.customer else None, o.after, o.code) for o in outcomes]
        }
        sentence = f"Override {', '.join(features)} of {grouped(len({row.customer_id for row in self.rows}))} customers"
        return Shown(sentence, tuple(effects), warnings=warnings, facts=facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        """Begun here; a worker gives the rows."""
        batch = begin(self.rows, reason, actor, now)
        after_commit(_hand_over, batch.public_id)
        return Operation.objects.filter(verb=self.key, inputs__batch=batch.public_id).order_by("-id").first()


def _part(row: Row, feature: Feature, now: datetime) -> Part | None:
    try:
        asked = value_of(feature, typed(feature, row.value))
    except BadOverride:
        return None
    return Part("override.given", sizes_of_override(asked, row.starts or now, row.until))


def _outcome(outcome: Outcome) -> Effect:
    name = outcome.customer.name if outcome.customer else outcome.row.customer_id
    return Effect(f"{name}: {outcome.row.feature} (line {outcome.row.line})", outcome.before, outcome.after)


def _hand_over(public_id: str) -> None:
    """At once; should the queue be away, the next pass of the clockwork finds it."""
    from billing_admin.tasks import carry_out_batch  # Celery takes memory that web processes need only here

    carry_out_batch.apply_async([public_id], retry=False)
