"""Another price for one item of a contract, for a while: give it, revoke it, see the next invoices with it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.coming import runs_out_at
from billing_admin.flows.approvals import guard_as
from billing_admin.flows.position import levels_of
from billing_admin.flows.renew import catch_up
from billing_admin.flows.upcoming import Upcoming, coming
from catalog.terms import ItemTerms, PlanTerms
from customers.journal import Actor, record, require_reason
from customers.mirrored import FollowsStripe
from customers.models import Customer, Phase, PriceOverride, Subscription
from customers.states import SubscriptionState
from invoicing.overrides import dropped_with, read_specials, specials_of
from invoicing.readings import unbilled
from invoicing.special import MODES, REPLACE, Special, priced_items, read_components, stored_components

MOST_CYCLES = 1_200
SHOWN = 3


class Refused(ValidationError):
    """A price that cannot be overridden like this; `field` is the name in the payload."""

    def __init__(self, why: str, code: str, field: str = ""):
        self.field = field
        super().__init__(why, code=code)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for: components as they came in; `cycles` None is until revoked."""

    item_key: str
    components: Sequence[Mapping[str, Any]]
    mode: str = REPLACE
    cycles: int | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """One invoice to come, with the special price and without; None where there is none then."""

    at: datetime
    after: Upcoming | None
    before: Upcoming | None


@transaction.atomic
def override_price(
    subscription: Subscription, wanted: Wanted, *, reason: str, actor: Actor, now: datetime
) -> PriceOverride:
    """Give an item of a contract another price from its next billing period that is due.

    What is overdue is carried out first, so that "next" is the same for everybody. Raises `ReasonRequired`, `Refused`,
    `BadComponent` beside the component, and `ApprovalNeeded`.
    """
    reason = require_reason(reason, "a special price")
    customer = Customer.objects.select_for_update().get(pk=subscription.customer_id)
    catch_up(customer, now=now)
    subscription = Subscription.objects.with_phases().select_for_update(of=("self",)).get(pk=subscription.pk)
    phase = _held(subscription, now)
    special = _checked(subscription, phase, wanted, now=now)
    guard_as("price.overridden", actor=actor, now=now, reason=reason, subscription=subscription, wanted=wanted)
    row = PriceOverride.objects.create(
        subscription=subscription,
        item_key=wanted.item_key,
        mode=wanted.mode,
        components=[component.to_json() for component in special.components],
        cycles=wanted.cycles,
        reason=reason,
        created_by=actor.name,
        created_at=now,
    )
    item = _item(phase.terms(), wanted.item_key)
    record(
        customer,
        "price.overridden",
        f"Special price for {phase.version.plan.name} · {item.label}, {how_long(wanted.cycles)}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={
            "subscription": subscription.public_id,
            "priceId": wanted.item_key,
            "components": row.components,
            "mode": wanted.mode,
            "expiresAfterBillingCycles": wanted.cycles,
        },
        effects={"override": row.public_id},
    )
    return row


@transaction.atomic
def revoke_override(override: PriceOverride, *, reason: str, actor: Actor, now: datetime) -> PriceOverride:
    """End a special price: invoices from now on take the item's own. One that has ended already stays as it is."""
    reason = require_reason(reason, "revoking a special price")
    owner = Customer.objects.filter(subscriptions=override.subscription_id)
    customer = owner.select_for_update().get()
    catch_up(customer, now=now)
    row = PriceOverride.objects.select_related("subscription").select_for_update(of=("self",)).get(pk=override.pk)
    if row.revoked_at is not None:
        return row
    row.revoked_at, row.revoked_by, row.revoke_reason = now, actor.name, reason
    row.save()
    record(
        customer,
        "price.override_revoked",
        f"Revoked the special price for {row.item_key}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"override": row.public_id, "subscription": row.subscription.public_id},
        effects={"priceId": row.item_key},
    )
    return row


def preview_override(subscription: Subscription, wanted: Wanted, *, now: datetime) -> list[Beside]:
    """The next invoices of the contract with the special price and without it. Writes nothing."""
    subscription = Subscription.objects.with_phases().get(pk=subscription.pk)
    special = _checked(subscription, _held(subscription, now), wanted, now=now)
    held = specials_of(subscription)
    use, levels = unbilled(subscription, None), levels_of(subscription)
    after = {u.at: u for u in coming(subscription, use, levels, (*held, special), most=SHOWN)}
    before = {u.at: u for u in coming(subscription, use, levels, held, most=SHOWN)}
    return [Beside(at, after.get(at), before.get(at)) for at in sorted(after | before)[:SHOWN]]


def ends_early(subscription: Subscription, wanted: Wanted, *, now: datetime) -> str:
    """A sentence where a change to come drops the item before the special price has been used up; else empty."""
    subscription = Subscription.objects.with_phases().get(pk=subscription.pk)
    phase = _held(subscription, now)
    special = Special(0, phase.version.plan_id, wanted.item_key, wanted.mode, (), wanted.cycles, since=now)
    change = dropped_with(special, subscription)
    over = runs_out_at(subscription, phase, wanted.cycles, key=wanted.item_key)
    if change is None or (over is not None and over <= change.starts_at):
        return ""
    label = _item(phase.terms(), wanted.item_key).label
    day = f"{change.starts_at:%-d %b %Y}"
    return f"It ends on {day}, with the change that is scheduled then: {label} is not sold after it."


def items_of(subscription: Subscription, now: datetime) -> list[ItemTerms]:
    """What a special price can be given for now."""
    phase = subscription.phase_at(now)
    return priced_items(phase.sold()) if phase and subscription.is_live else []


def in_force(rows: Iterable[PriceOverride]) -> Iterator[tuple[PriceOverride, Special]]:
    """Special prices that some invoice to come may take: not revoked, and with periods left."""
    for special, row in read_specials(rows):
        if row.revoked_at is None and special.left != 0:
            yield row, special


def how_long(cycles: int | None) -> str:
    if cycles is None:
        return "until revoked"
    return f"for {cycles} billing period{'s' if cycles != 1 else ''}"


def _held(subscription: Subscription, now: datetime) -> Phase:
    phase = subscription.phase_at(now) if subscription.is_live else None
    if phase is None or subscription.state == SubscriptionState.PENDING_PAYMENT:
        raise Refused("Only a running subscription can have special prices.", "not_running")
    if phase.version.plan.is_read_only:
        raise FollowsStripe(subscription)
    return phase


def _item(terms: PlanTerms, key: str) -> ItemTerms:
    found = next((item for item in priced_items(terms) if item.key == key), None)
    if found is not None:
        return found
    if terms.item(key) is None:
        raise Refused(f"{terms.plan_name} has no item {key!r}.", "unknown_item", "price_id")
    why = f"{key!r} is not billed period by period, so there is no price to override."
    raise Refused(why, "not_priced", "price_id")


def _checked(subscription: Subscription, phase: Phase, wanted: Wanted, *, now: datetime) -> Special:
    terms = phase.terms()
    _item(terms, wanted.item_key)
    if wanted.mode not in MODES:
        raise Refused(f"The mode is one of {', '.join(MODES)}.", "bad_mode", "mode")
    if wanted.cycles is not None and not 1 <= wanted.cycles <= MOST_CYCLES:
        why = f"Give 1 to {MOST_CYCLES:,} billing periods, or none for until it is revoked."
        raise Refused(why, "bad_cycles", "expires_after_billing_cycles")
    components = read_components(wanted.components, mode=wanted.mode, currency=terms.currency)
    if wanted.mode == REPLACE:
        refuse_second(subscription, wanted.item_key, now)
    return Special(0, terms.plan_id, wanted.item_key, wanted.mode, components, wanted.cycles, since=now)


def refuse_second(subscription: Subscription, key: str, now: datetime) -> None:
    rows = subscription.price_overrides.in_force().filter(mode=REPLACE).order_by("id")
    for row, special in in_force(rows):
        if special.key_at(now) != key:
            continue
        names = ", ".join(component.label for component in stored_components(row.components))
        why = f"{key!r} has a special price already ({names}); revoke it first, or add beside it."
        raise Refused(why, "override_overlaps", "price_id")
