"""The product in one file: propose a plan for one customer, see what happens, enable it.

`preview_plan` reads a position and decides; `enable_plan` locks the customer, decides again as of the preview's
instant, refuses if anything that was confirmed has moved, and writes everything in one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core import signing
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from billing_admin.flows.approvals import guard_as
from billing_admin.flows.change import preview
from billing_admin.flows.collection import finish
from billing_admin.flows.coupons import apply_new, begin_waiting
from billing_admin.flows.drafts import as_if_issued, issue_drafts_of
from billing_admin.flows.gate import give_up_gate
from billing_admin.flows.migrate_leave import leave_cohort
from billing_admin.flows.plan_change import (
    Activation,
    FirstPeriod,
    NewCoupon,
    NewSpecial,
    PlanChange,
    Proposal,
    Timing,
    explain,
)
from billing_admin.flows.position import Position, held_subscription, read_position
from billing_admin.flows.renew import catch_up
from catalog.items import check_conditions, check_items
from catalog.models import Plan, PlanVersion
from catalog.money import plain
from catalog.publish import tailor
from catalog.terms import ChangeKind, Conditions, ItemTerms, PlanTerms
from customers import switch
from customers.journal import Actor, plain_json, record, require_reason
from customers.mirrored import refuse_mirrored
from customers.models import Customer, CustomPlan, Operation, Phase, PlanReservation, PriceOverride, Subscription
from customers.states import APPLYING, SubscriptionState
from entitlements.balances import Bucket, BucketMove
from entitlements.override import put_under_overrides
from entitlements.provision import apply_moves
from entitlements.readings import used_since
from invoicing.documents import Document, nothing_due
from invoicing.issue import Issuing, issue
from invoicing.models import Invoice, InvoiceLine
from invoicing.readings import account_credit
from invoicing.wallet import money_in_wallets

SALT = "plan-change"
MOST_NET_TERMS = 365


class AlreadyOnPlan(ValidationError):
    def __init__(self, plan: str):
        super().__init__(f"This customer is on {plan} with exactly these items already.", code="already_on_plan")


class PlanNotOffered(ValidationError):
    def __init__(self, plan: Plan, why: str):
        super().__init__(f"{plan.name} cannot be enabled: {why}", code="plan_not_offered")


class CurrencyLocked(ValidationError):
    def __init__(self, currency: str, other: str):
        super().__init__(
            f"This customer is billed in {currency}; a plan in {other} has to wait until nothing is open in it.",
            code="currency_locked",
        )


class BadEnd(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="bad_end")


class BadAnchor(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="bad_anchor")


class BadQuantity(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="bad_quantity")


class PreviewOutdated(ValidationError):
    """The world moved after the preview; `change` is what would happen now."""

    def __init__(self, change: PlanChange, why: str):
        self.change = change
        super().__init__(f"{why} Look at the new numbers and confirm again.", code="preview_outdated")


@dataclass(frozen=True, slots=True)
class Told:
    """How the journal tells of a change that is a part of a larger act."""

    verb: str
    summary: str
    inputs: Mapping[str, Any]
    reverses: Operation | None = None


@dataclass(frozen=True, slots=True)
class Enabled:
    """What came of it."""

    operation: Operation
    subscription: Subscription
    change: PlanChange
    invoices: tuple[Invoice, ...]


def propose(
    customer: Customer,
    plan: Plan,
    *,
    items: Sequence[ItemTerms] | None = None,
    cadence: str | None = None,
    conditions: Conditions | None = None,
    version: PlanVersion | None = None,
    quantity: int = 1,
    timing: Timing | None = None,
    ends_at: datetime | None = None,
    bought: Mapping[str, Decimal] | None = None,
    trial_days: int | None = None,
    activation: Activation = Activation.AFTER_PAYMENT,
    coupons: Sequence[NewCoupon] = (),
    net_terms_days: int | None = None,
    anchor: datetime | None = None,
    first_period: FirstPeriod = FirstPeriod.PRORATE,
    specials: Sequence[NewSpecial] = (),
) -> Proposal:
    """What somebody wants a customer to be on, checked. Items equal to a standard version are that version.

    `bought` are prepaid units by item key or feature. Raises `PlanNotOffered`, `InvalidItems` (naming each cell),
    `CurrencyLocked`, `BadQuantity`.
    """
    chosen = version or plan.current_version
    if chosen is None:
        raise PlanNotOffered(plan, "it has no published version yet. Publish it first.")
    _refuse_unoffered(customer, plan)
    standard = chosen.terms()
    terms, version_id, is_custom = standard, standard.version_id, False
    if items is not None:
        terms = replace(standard.with_items(items), cadence=cadence or standard.cadence)
        terms = terms.under(conditions or standard.conditions)
        check_items(plan, terms.cadence, terms.items)
        check_conditions(plan, terms.conditions)
        if terms.content() == standard.content():
            terms = standard
        else:
            terms, version_id = _own_version(customer, plan, terms)
            is_custom = True
    _refuse_foreign_currency(customer, terms)
    if quantity < 1:
        raise BadQuantity("The quantity is a whole number of 1 or more.")
    _refuse_unknown_units(terms, bought or {})
    if trial_days is not None and trial_days < 0:
        raise ValidationError("A trial has 0 or more days.", code="bad_trial")
    if net_terms_days is not None and not 0 <= net_terms_days <= MOST_NET_TERMS:
        raise ValidationError(f"Net terms are 0 to {MOST_NET_TERMS} days.", code="bad_net_terms")
    return Proposal(
        plan_id=plan.pk,
        plan_name=plan.name,
        kind=plan.kind,
        add_on=plan.add_on,
        terms=terms,
        standard=standard,
        version_id=version_id,
        is_custom=is_custom,
        quantity=quantity,
        timing=timing,
        ends_at=ends_at,
        bought=tuple(sorted((bought or {}).items())),
        trial_days=trial_days,
        activation=activation,
        coupons=tuple(coupons),
        net_terms_days=net_terms_days,
        anchor=anchor,
        first_period=first_period,
        specials=tuple(specials),
    )


def _refuse_unknown_units(terms: PlanTerms, bought: Mapping[str, Decimal]) -> None:
    prepaid = [item for item in terms.items if item.is_prepaid and item.feature]
    known = {item.key for item in prepaid} | {item.feature.slug for item in prepaid if item.feature}
    for key, units in bought.items():
        if key not in known:
            raise BadQuantity(f"{key} is not sold in advance on this plan.")
        if not units.is_finite() or units < 0:
            raise BadQuantity("The units of a prepaid feature are a number of 0 or more.")


def _own_version(customer: Customer, plan: Plan, terms: PlanTerms) -> tuple[PlanTerms, int | None]:
    """The customer's own custom version, when the items are exactly those it has."""
    own = PlanVersion.objects.with_items().filter(plan=plan, custom__customer=customer).order_by("-number").first()
    if own and own.terms().content() == terms.content():
        return own.terms(), own.pk
    return terms, None


def _refuse_unoffered(customer: Customer, plan: Plan) -> None:
    if customer.closed_at:
        raise ValidationError("This customer is closed.", code="customer_closed")
    if plan.archived_at or plan.product.archived_at:
        raise PlanNotOffered(plan, "it is archived.")
    if plan.kind == Plan.Kind.STRIPE:
        raise PlanNotOffered(plan, "it is mirrored from Stripe, so its subscriptions are made there.")
    if plan.is_default:
        raise PlanNotOffered(plan, "it is the default product and applies by itself to whoever has nothing else.")
    reserved = PlanReservation.objects.filter(plan=plan).first()
    if reserved and reserved.customer_id != customer.pk:
        raise PlanNotOffered(plan, "it is reserved for another customer.")


def _refuse_foreign_currency(customer: Customer, terms: PlanTerms) -> None:
    if terms.is_free or not customer.currency or customer.currency == terms.currency:
        return
    running = customer.subscriptions.standing().filter(phases__version__plan__kind=Plan.Kind.BILLED).exists()
    if running or customer.invoices.unpaid().exists() or account_credit(customer) or money_in_wallets(customer):
        raise CurrencyLocked(customer.currency, terms.currency)


def preview_plan(customer: Customer, proposal: Proposal, *, now: datetime) -> PlanChange:
    """What enabling the proposal would do at this moment. Raises `AlreadyOnPlan`, `ContractParked`.

    What is overdue is carried out first: a change cannot be priced on a period that nobody has opened yet.
    """
    catch_up(customer, now=now)
    with as_if_issued([_held_by(customer, proposal)], now=now):
        change = preview(_read(customer, proposal, now.replace(microsecond=0)), proposal)
    if change.kind is ChangeKind.NOTHING:
        raise AlreadyOnPlan(_name(proposal))
    _refuse_bad_end(change)
    _refuse_bad_anchor(change)
    return change


def _refuse_bad_end(change: PlanChange) -> None:
    if change.proposal.ends_at is None:
        return
    if change.is_scheduled:
        raise BadEnd("A scheduled change takes no end; give it one once it has started, or choose another time.")
    if change.proposal.ends_at <= change.starts_at:
        raise BadEnd(f"The end has to come after the start, {change.starts_at:%-d %b %Y}.")


def _refuse_bad_anchor(change: PlanChange) -> None:
    anchor, position = change.proposal.anchor, change.position
    if anchor is None:
        return
    if anchor > position.at:
        raise BadAnchor("Billing periods are counted from now or from an instant before, not from one to come.")
    if position.held is not None or change.proposal.add_on:
        raise BadAnchor("Only a first plan says where its periods are counted from; later ones follow it.")


def _read(customer: Customer, proposal: Proposal, at: datetime, ledger: int | None = None) -> Position:
    plan = Plan.objects.select_related("product").get(pk=proposal.plan_id)
    subscription = held_subscription(customer, plan)
    if subscription:
        refuse_mirrored(subscription)
        switch.refuse_parked(subscription)
    else:
        _refuse_scheduled(customer, plan)
    return read_position(customer, plan, at=at, ledger=ledger, subscription=subscription)


def _refuse_scheduled(customer: Customer, plan: Plan) -> None:
    """A contract that begins on a day to come has the place of the product's plan already."""
    waiting = customer.subscriptions.filter(
        product_id=plan.product_id, add_on=False, state=SubscriptionState.SCHEDULED
    ).first()
    if waiting is not None and not plan.add_on:
        raise PlanNotOffered(
            plan, f"a contract begins on {waiting.started_at:%-d %b %Y}. Cancel that first, or wait for it."
        )


def _held_by(customer: Customer, proposal: Proposal) -> Subscription | None:
    return held_subscription(customer, Plan.objects.get(pk=proposal.plan_id))


def _name(proposal: Proposal) -> str:
    return f"{proposal.plan_name}{' (custom)' if proposal.is_custom else ''}"


def confirmation(change: PlanChange) -> str:
    """A signed word that stands for "I saw these numbers": pass it to `enable_plan`."""
    seen = {"f": change.fingerprint, "at": change.position.at.isoformat(), "l": change.position.ledger}
    kept = {"c": change.position.customer_id, "u": change.valid_until.isoformat()}
    return signing.dumps({**seen, **kept}, salt=SALT, compress=True)


def enable_plan(
    customer: Customer,
    proposal: Proposal,
    *,
    reason: str,
    actor: Actor,
    now: datetime,
    confirmed: str | None = None,
) -> Enabled:
    """Carry out what was previewed. Without a confirmation the change is decided and done at this moment.

    Raises `ReasonRequired` (custom plans, access before payment), `AlreadyOnPlan`, `PreviewOutdated` with what would
    happen now, and `ApprovalNeeded` for a discount, a trial or an early access that takes a second person.
    """
    if proposal.is_custom:
        reason = require_reason(reason, "a custom plan")
    if proposal.activation is Activation.NOW:
        reason = require_reason(reason, "access before the first payment")
    with transaction.atomic():
        customer = Customer.objects.select_for_update().get(pk=customer.pk)
        catch_up(customer, now=now)
        issue_drafts_of(_held_by(customer, proposal), actor=actor, now=now)
        change = _decide_again(customer, proposal, confirmed, now)
        if change.kind is ChangeKind.NOTHING:
            raise AlreadyOnPlan(_name(proposal))
        _refuse_bad_anchor(change)
        if proposal.terms.is_invoiced:
            guard_as("plan.enabled", actor=actor, now=now, reason=reason, who=customer, proposal=proposal)
        return carry_out_change(customer, change, reason=reason.strip(), actor=actor, now=now)


def _decide_again(customer: Customer, proposal: Proposal, confirmed: str | None, now: datetime) -> PlanChange:
    """The change as of the preview's instant and ledger position, if it is still the one that was confirmed."""
    present = now.replace(microsecond=0)
    if confirmed is None:
        return preview(_read(customer, proposal, present), proposal)
    try:
        seen = signing.loads(confirmed, salt=SALT)
    except signing.BadSignature:
        raise ValidationError("The confirmation is not one of ours. Preview again.", code="bad_confirmation") from None
    if seen["c"] != customer.pk:
        raise ValidationError("The confirmation is of another customer. Preview again.", code="bad_confirmation")
    change = preview(_read(customer, proposal, datetime.fromisoformat(seen["at"]), seen["l"]), proposal)
    # An edge that was settled since is no longer in the position; what was signed still knows it.
    expired = now >= datetime.fromisoformat(seen["u"])
    if change.fingerprint == seen["f"] and not expired and now < change.valid_until:
        return change
    fresh = preview(_read(customer, proposal, present), proposal)
    if fresh.kind is ChangeKind.NOTHING:
        raise AlreadyOnPlan(_name(proposal))
    why = "The preview has expired." if expired else "Something changed since the preview was made."
    raise PreviewOutdated(fresh, why)


def carried_out(customer: Customer, confirmed: str) -> Operation | None:
    """What was done already with this confirmation: somebody pressed twice, or went back and pressed again."""
    try:
        seen = signing.loads(confirmed, salt=SALT)
    except signing.BadSignature:
        return None
    since = datetime.fromisoformat(seen["at"])
    return customer.operations.filter(fingerprint=seen["f"], at__gte=since).order_by("id").last()


def carry_out_change(
    customer: Customer, change: PlanChange, *, reason: str, actor: Actor, now: datetime, told: Told | None = None
) -> Enabled:
    """Catalog, customers, entitlements, invoicing: in that order, once each. The caller holds the customer's row and
    has caught them up."""
    proposal, position = change.proposal, change.position
    plan = Plan.objects.select_related("product").get(pk=proposal.plan_id)
    version = version_for(customer, plan, proposal, reason=reason, actor=actor, now=now)
    usual = Told("plan.scheduled" if change.is_scheduled else "plan.enabled", explain(change), {})
    told = told or usual
    operation = record(
        customer,
        told.verb,
        told.summary,
        actor=actor,
        now=now,
        reason=reason,
        inputs=_inputs(change) | dict(told.inputs),
        effects=_effects(change),
        fingerprint=change.fingerprint,
        reverses=told.reverses,
    )
    if not proposal.terms.is_free and customer.currency != proposal.terms.currency:
        customer.currency = proposal.terms.currency
        customer.save(update_fields=["currency"])
    _give_up_pending(customer, plan, actor=actor, now=now)
    before = _before(change)
    subscription, phase = _switch(customer, change, version, now=now)
    if proposal.is_custom:
        leave_cohort(subscription, now=now)
    _keep(operation, change, subscription, phase, before)
    if proposal.net_terms_days is not None:
        subscription.net_terms_days = proposal.net_terms_days
        subscription.save(update_fields=["net_terms_days"])
    if not change.is_scheduled and not change.is_gated:
        used_later = used_since(customer, position.ledger)
        moves = _bound(change.moves, version, subscription)
        apply_moves(customer, moves, used_later=used_later, now=now, operation=operation)
        put_under_overrides(customer, now=now, operation=operation)
    documents = _written(customer, change, version, subscription, reason=reason, actor=actor, now=now)
    how = Issuing(
        subscription=subscription,
        phase=phase,
        operation=operation,
        phases=_phases_of_charges(change, version, phase),
        net_terms_days=change.net_terms_days,
        is_draft=change.is_gated and position.gate.awaits_approval,
        gates=phase if change.is_gated else None,
        expires_at=now + position.gate.payment_window if change.is_gated else None,
        awaits_approval=change.is_gated and position.gate.awaits_approval,
    )
    invoices = finish(issue(customer, documents, now=now, how=how), subscription, now=now)
    return Enabled(operation, subscription, change, tuple(invoices))


def _before(change: PlanChange) -> dict[str, Any]:
    """What the contract was, for whoever takes the change back: the rows it ran on, and the end that was planned."""
    held = change.position.held
    if held is None:
        return {}
    contract = Subscription.objects.get(pk=held.subscription_id)
    following = contract.next_phase(change.position.at)
    return {
        "phase": held.phase_id,
        "next": following.pk if following else None,
        "windows": _windows(change),
        "netTermsDays": contract.net_terms_days,
        "trialEndsAt": contract.trial_ends_at,
        **switch.planned_end(contract),
    }


def _windows(change: PlanChange) -> dict[str, datetime | None]:
    """When the windows of the contract would have ended, by feature: the act may cut them short."""
    held = change.position.held
    own = (held.subscription_id, None) if held else None
    buckets = [b for b in change.position.buckets if b.is_plan and b.owner == own]
    return {bucket.item.feature.slug: bucket.ends_at for bucket in buckets if bucket.item.feature}


def _keep(
    operation: Operation, change: PlanChange, subscription: Subscription, phase: Phase, before: Mapping[str, Any]
) -> None:
    """Say which rows the act wrote, now that they are there, and what it left planned."""
    kept = before.get("next") if change.keeps_schedule else None
    left = {"left": {"next": kept, "endsAt": subscription.ends_at}} if before else {}
    rows = {"subscription": subscription.public_id, "phase": phase.pk, "before": {**before, **left}}
    operation.effects |= plain_json(rows)
    operation.save(update_fields=["effects"])


def _written(
    customer: Customer,
    change: PlanChange,
    version: PlanVersion,
    subscription: Subscription,
    *,
    reason: str,
    actor: Actor,
    now: datetime,
) -> list[Document]:
    """The documents that were confirmed, pointing at the rows that exist now. The first of a paid plan is never left
    out: with nothing due it is issued at zero."""
    ids = {item.key: item.id for item in version.terms().items if item.id}
    coupons = {
        new.terms.id: apply_new(customer, new, subscription=subscription, actor=actor, now=now).pk
        for new in change.proposal.coupons
    }
    begin_waiting(customer, subscription, version.plan, now=now)
    specials = {
        new.terms.id: give_special(subscription, new, reason=reason, actor=actor, now=now).pk
        for new in change.proposal.specials
    }
    documents = [document.bound(ids, coupons, specials) for document in change.documents]
    held, terms = change.position.held, change.proposal.terms
    first = held is None or held.terms.is_free
    if not documents and first and terms.is_invoiced and not terms.is_free and not change.trial_ends_at:
        documents = [] if change.is_scheduled else [nothing_due(terms.currency)]
    return documents


def _phases_of_charges(change: PlanChange, version: PlanVersion, phase: Phase) -> dict[int, Phase]:
    """Charges belong to the new phase; use to the one that it was used under."""
    held = change.position.held
    old = Phase.objects.get(pk=held.phase_id) if held else phase
    used = {line.item_id for line in change.lines if line.kind == InvoiceLine.Kind.USAGE and line.item_id}
    return dict.fromkeys(used, old)


def _give_up_pending(customer: Customer, plan: Plan, *, actor: Actor, now: datetime) -> None:
    """A newer act voids what still waits for its first payment, and its link."""
    for invoice in customer.invoices.gating().filter(subscription__product_id=plan.product_id):
        if invoice.subscription and invoice.subscription.add_on == plan.add_on:
            give_up_gate(invoice, reason="Replaced by a newer change.", end_reason="replaced", actor=actor, now=now)


def give_special(
    subscription: Subscription, new: NewSpecial, *, reason: str, actor: Actor, now: datetime
) -> PriceOverride:
    """Write a special price that came with the act."""
    terms = new.terms
    row = PriceOverride.objects.create(
        subscription=subscription,
        item_key=terms.item_key,
        mode=terms.mode,
        components=[component.to_json() for component in terms.components],
        cycles=terms.cycles,
        reason=reason,
        created_by=actor.name,
        created_at=terms.since,
    )
    record(
        subscription.customer,
        "price.overridden",
        f"Special price for {terms.item_key}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={
            "subscription": subscription.public_id,
            "priceId": terms.item_key,
            "components": row.components,
            "mode": terms.mode,
            "expiresAfterBillingCycles": terms.cycles,
        },
        effects={"override": row.public_id},
    )
    return row


def version_for(
    customer: Customer, plan: Plan, proposal: Proposal, *, reason: str, actor: Actor, now: datetime
) -> PlanVersion:
    """The version that a proposal names; one is tailored for the customer where there is none."""
    if proposal.version_id is not None:
        return _with_items(proposal.version_id)
    version = tailor(plan, proposal.terms, by=actor.name, reason=reason, now=now)
    CustomPlan.objects.create(
        version=version,
        customer=customer,
        base_version_id=proposal.standard.version,
        reason=reason,
        created_by=actor.name,
        created_at=now,
    )
    return _with_items(version.pk)


def _with_items(version_id: int) -> PlanVersion:
    version: PlanVersion = PlanVersion.objects.with_items().get(pk=version_id)
    return version


def _switch(
    customer: Customer, change: PlanChange, version: PlanVersion, *, now: datetime
) -> tuple[Subscription, Phase]:
    held, at = change.position.held, change.position.at
    bought = dict(change.proposal.bought)
    if held is None:
        return switch.start(
            customer,
            version,
            anchor=change.anchor,
            at=at,
            quantity=change.proposal.quantity,
            bought=bought,
            ends_at=change.proposal.ends_at,
            end_reason="term_ended" if change.proposal.ends_at else "",
            trial_ends_at=change.trial_ends_at,
            pending=change.is_gated,
        )
    subscription = Subscription.objects.select_for_update().get(pk=held.subscription_id)
    if change.is_gated:
        phase = switch.add_pending(
            subscription,
            version,
            anchor=change.anchor,
            at=at,
            quantity=change.proposal.quantity,
            bought=bought,
            now=now,
            ends_at=change.proposal.ends_at,
        )
        return subscription, phase
    if change.is_scheduled:
        phase = switch.schedule(
            subscription,
            version,
            anchor=change.anchor,
            starts_at=change.starts_at,
            quantity=change.proposal.quantity,
            at=at,
            now=now,
            bought=bought,
        )
        return subscription, phase
    phase = switch.switch_now(
        subscription,
        version,
        anchor=change.anchor,
        at=at,
        now=now,
        quantity=change.proposal.quantity,
        keep_schedule=change.keeps_schedule,
        bought=bought,
        trial_ends_at=change.trial_ends_at,
    )
    if change.proposal.ends_at:
        switch.cancel_at(subscription, ends_at=change.proposal.ends_at, reason="term_ended", at=at, now=now)
        phase.refresh_from_db()
    return subscription, phase


def _bound(moves: Sequence[BucketMove], version: PlanVersion, subscription: Subscription) -> list[BucketMove]:
    """The moves with the items and the contract that were written."""
    items = {item.key: item for item in version.terms().items}
    return [replace(move, after=_bucket(move.after, items, subscription)) if move.after else move for move in moves]


def _bucket(bucket: Bucket, items: dict[str, ItemTerms], subscription: Subscription) -> Bucket:
    if bucket.is_extra:
        return bucket
    owner = bucket.owner if bucket.owner[0] is None else (subscription.pk, None)
    return replace(bucket, item=items[bucket.item.key], owner=owner)


def _inputs(change: PlanChange) -> dict:
    proposal = change.proposal
    return {
        "plan": proposal.plan_name,
        "version": proposal.version_id,
        "custom": proposal.is_custom,
        "quantity": proposal.quantity,
        "timing": change.timing,
        "bought": {key: plain(units) for key, units in proposal.bought},
        "activation": proposal.activation,
        "trialDays": proposal.trial_days,
        "netTermsDays": proposal.net_terms_days,
        "anchor": proposal.anchor,
        "coupons": [coupon.terms.label for coupon in proposal.coupons],
        "differences": [d.sentence(change.currency) for d in change.differences],
    }


def _effects(change: PlanChange) -> dict:
    return {
        "kind": change.kind,
        "startsAt": change.starts_at,
        "total": change.total,
        "currency": change.currency,
        "lines": [{"description": line.description, "amount": line.amount} for line in change.lines],
        "replaces": change.replaces,
        "gated": change.is_gated,
        "trialEndsAt": change.trial_ends_at,
    }


def offered_plans(customer: Customer) -> list[Plan]:
    """Plans this customer may be put on, grouped by product; two queries. Mirrored and default ones are left out."""
    plans = (
        Plan.objects.on_sale()
        .exclude(kind=Plan.Kind.STRIPE)
        .filter(is_default=False)
        .select_related("product", "current_version__plan")
        .prefetch_related("current_version__items__feature")
        .filter(Q(reservation=None) | Q(reservation__customer=customer))
    )
    return list(plans.order_by("product__name", "add_on", "name"))


def addable_plans(customer: Customer, *, among: Sequence[Plan] | None = None) -> list[Plan]:
    """Plans beside what the customer has: main plans of a product they are on are a change, not an addition."""
    held = (*APPLYING, SubscriptionState.PENDING_PAYMENT)
    on = set(customer.subscriptions.filter(add_on=False, state__in=held).values_list("product_id", flat=True))
    offered = offered_plans(customer) if among is None else among
    return [plan for plan in offered if plan.add_on or plan.product_id not in on]
