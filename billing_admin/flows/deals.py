"""Verbs of a deal until it is carried out: begin it, write another version, send it, note who signed it, give it up.

A version that anybody was shown is never changed: a change is another version, and the deal is a draft again that has
to be approved anew. Who has to approve is asked in `deal_approval.py`; `deal_execute.py` carries it out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.flows.deal_figures import reckon
from billing_admin.flows.deal_use import Term
from billing_admin.flows.position import held_subscription
from catalog.items import InvalidItems, ItemError, check_conditions, check_items
from catalog.models import Feature, Plan, PlanVersion
from catalog.periods import Cadence
from catalog.terms import FeatureTerms, PlanTerms
from customers.journal import Actor, record, require_reason
from customers.models import Customer, Operation
from deals.models import Deal, DealVersion
from deals.states import DealState
from deals.terms import DealTerms, InvalidDeal, Problem, StandsOn, differences, of_version, validate
from entitlements.override import value_of


class CannotChangeDeal(ValidationError):
    def __init__(self, deal: Deal):
        super().__init__(
            f"{deal.name} is {deal.get_state_display().lower()}; make an amendment or a new deal instead.",
            code="deal_closed",
        )


class InvalidPhase(InvalidItems):
    """Items that one phase cannot sell; `place` counts the phases from 0."""

    def __init__(self, place: int, errors: Sequence[ItemError]):
        self.place = place
        super().__init__(errors)


class NotATemplate(ValidationError):
    def __init__(self) -> None:
        super().__init__("A template is for no customer: make a deal from it first.", code="deal_is_a_template")


class OfferOver(ValidationError):
    def __init__(self, at: datetime):
        super().__init__(f"The offer stood until {at:%-d %b %Y}. Give it a new end first.", code="offer_over")


class CustomerMoved(ValidationError):
    """The customer has something else of the product than when the version was written."""

    def __init__(self, deal: Deal):
        super().__init__(
            f"What {deal.customer} has of this product is not what {deal.name} was written for any more."
            " Look at its calendar and save it again.",
            code="deal_customer_moved",
        )


class NothingToAmend(ValidationError):
    def __init__(self, deal: Deal):
        super().__init__(f"{deal.name} was not carried out, so change it instead of amending it.", code="not_executed")


class AmendedAlready(ValidationError):
    def __init__(self, later: Deal):
        super().__init__(f"{later.name} amends it and was carried out. Amend that one.", code="amended_already")


# Reading --------------------------------------------------------------------------------------------------------------


def newest(deal: Deal) -> DealVersion:
    """What the deal says now."""
    version: DealVersion = deal.versions.order_by("-number")[0]
    return version


def read_terms(version: DealVersion) -> DealTerms:
    """What a version says, with the features as they are called now."""
    return DealTerms.from_json(version.content, features_of(version.content))


def features_of(content: dict[str, Any]) -> dict[str, FeatureTerms]:
    """The features that a deal's items name, by slug; one query."""
    slugs = {i["feature"]["slug"] for phase in content["phases"] for i in phase["items"] if "feature" in i}
    return {feature.slug: feature.terms() for feature in Feature.objects.filter(slug__in=slugs)}


def base_of(deal: Deal) -> PlanTerms:
    """The rate card that the deal starts from: what list prices are."""
    version: PlanVersion = PlanVersion.objects.with_items().get(pk=deal.base_version_id)
    return version.terms()


def stands_on(customer: Customer, plan: Plan) -> StandsOn:
    """What the customer has of the plan's product now."""
    subscription = held_subscription(customer, plan)
    if subscription is None:
        waiting = customer.subscriptions.filter(
            product_id=plan.product_id, add_on=plan.add_on, state__in=["scheduled", "pending_payment"]
        ).first()
        return StandsOn(waiting.public_id) if waiting and not plan.add_on else StandsOn()
    phase = subscription.phases.kept().order_by("starts_at", "id").last()
    return (
        StandsOn(subscription.public_id, phase.version_id, phase.quantity)
        if phase
        else StandsOn(subscription.public_id)
    )


def has_moved(deal: Deal, terms: DealTerms) -> bool:
    """Whether the customer's contract is another by now than the one that these words were agreed on."""
    return deal.customer is not None and stands_on(deal.customer, deal.base_version.plan) != terms.stands_on


def refuse_customer_moved(deal: Deal, terms: DealTerms) -> None:
    """Raises `CustomerMoved` where the customer's contract is another than the version says."""
    if has_moved(deal, terms):
        raise CustomerMoved(deal)


# Beginning ------------------------------------------------------------------------------------------------------------


@transaction.atomic
def create_deal(
    customer: Customer | None,
    version: PlanVersion,
    *,
    name: str,
    term_months: int = 12,
    expires_at: datetime | None = None,
    actor: Actor,
    now: datetime,
) -> Deal:
    """A draft that says what a published version says; without a customer it is a template."""
    terms = of_version(PlanVersion.objects.with_items().get(pk=version.pk).terms(), term_months=term_months)
    return _begin(Deal(name=name, customer=customer, base_version=version, expires_at=expires_at), terms, actor, now)


@transaction.atomic
def create_from(
    source: Deal,
    customer: Customer | None,
    *,
    name: str,
    expires_at: datetime | None = None,
    actor: Actor,
    now: datetime,
) -> Deal:
    """A draft that says what a template, or another deal, says; without a customer it is a template itself."""
    terms = replace(read_terms(newest(source)), starts_at=None)
    deal = Deal(
        name=name, customer=customer, base_version_id=source.base_version_id, made_from=source, expires_at=expires_at
    )
    return _begin(deal, terms, actor, now)


@transaction.atomic
def amend(deal: Deal, *, name: str, expires_at: datetime | None = None, actor: Actor, now: datetime) -> Deal:
    """A draft that changes a deal which was carried out: it begins with the phases that are not over. Raises
    `NothingToAmend`, `AmendedAlready`."""
    deal = Deal.objects.select_related("customer", "subscription", "operation").get(pk=deal.pk)
    if deal.state != DealState.EXECUTED or deal.subscription is None:
        raise NothingToAmend(deal)
    if later := deal.amendments.filter(state=DealState.EXECUTED).first():
        raise AmendedAlready(later)
    new = Deal(name=name, customer=deal.customer, base_version_id=deal.base_version_id, amends=deal, made_from=deal)
    new.expires_at = expires_at
    return _begin(new, _rest(deal, now), actor, now)


def _rest(deal: Deal, now: datetime) -> DealTerms:
    """What of an executed deal is still to come: its phases without the months that are over. What came with it once,
    coupons, overrides and special prices, holds already."""
    terms = read_terms(newest(deal))
    passed = min(term_as_executed(deal, terms).passed(now), terms.term_months)
    spans = zip(terms.phases, terms.spans(), strict=True)
    left = [(phase, end - max(start, passed)) for phase, (start, end) in spans if end > passed]
    if not left:  # the term is over and the contract renewed: another one like its last phase
        left = [(terms.phases[-1], terms.term_months)]
    *earlier, (last, months) = left
    phases = [replace(phase, months=rest) for phase, rest in earlier] + [replace(last, months=None)]
    return replace(
        terms,
        phases=tuple(phases),
        term_months=months + sum(rest for _, rest in earlier),
        starts_at=None,
        trial_days=0,
        coupons=(),
        overrides=(),
        prices=(),
    )


def term_as_executed(deal: Deal, terms: DealTerms) -> Term:
    """Where the months of a deal lie that was carried out."""
    assert deal.operation is not None
    kept = deal.operation.effects["term"]
    instants = (datetime.fromisoformat(kept[name]) for name in ("anchor", "opensAt", "startsAt"))
    anchor, opens_at, starts_at = instants
    labels = tuple((start, phase.label) for phase, (start, _) in zip(terms.phases, terms.spans(), strict=True))
    step = Cadence.parse(terms.cadence).months
    return Term(anchor, opens_at, starts_at, terms.term_months, kept["first"], step, labels)


def _begin(deal: Deal, terms: DealTerms, actor: Actor, now: datetime) -> Deal:
    deal.is_template = deal.customer_id is None
    deal.owner, deal.user_id, deal.created_at = actor.name, actor.user_id, now
    if not deal.name.strip():
        raise ValidationError("Give the deal a name.", code="no_name")
    deal.save()
    version = _write(deal, terms, message="", actor=actor, now=now)
    note(deal, "created", f"Began the deal {deal.name}", version=version, actor=actor, now=now)
    return deal


# Changing -------------------------------------------------------------------------------------------------------------


@transaction.atomic
def save_version(deal: Deal, terms: DealTerms, *, message: str = "", actor: Actor, now: datetime) -> DealVersion:
    """Another version of what the deal says; what is said already is no other version. A deal that was submitted, sent
    or signed is a draft again, and its approval is gone.

    Raises `InvalidDeal`, `InvalidItems` (naming each cell), `CannotChangeDeal`.
    """
    deal = hold(deal)
    if deal.state in (DealState.EXECUTED, DealState.VOID):
        raise CannotChangeDeal(deal)
    before = newest(deal)
    check(deal, terms)
    terms = _standing(deal, terms)
    if terms.fingerprint == before.fingerprint:
        return before
    version = _write(deal, terms, message=message, actor=actor, now=now)
    reopen(deal)
    sentences = differences(read_terms(before), terms)
    summary = f"Changed the deal {deal.name}: {message or '; '.join(sentences) or 'nothing that is said'}"
    note(deal, "changed", summary, version=version, actor=actor, now=now, effects={"differences": sentences})
    return version


@transaction.atomic
def rename(deal: Deal, *, name: str, expires_at: datetime | None, actor: Actor, now: datetime) -> Deal:
    """Call the deal something else, or let the offer stand until another time.

    An offer that stands longer than whoever approved it was shown is a draft again.
    """
    deal = hold(deal)
    if deal.state in (DealState.EXECUTED, DealState.VOID):
        raise CannotChangeDeal(deal)
    if not name.strip():
        raise ValidationError("Give the deal a name.", code="no_name")
    longer = deal.expires_at is not None and (expires_at is None or expires_at > deal.expires_at)
    if longer and deal.state != DealState.ACCEPTED:
        reopen(deal)
    deal.name, deal.expires_at = name.strip(), expires_at
    deal.save(update_fields=["name", "expires_at"])
    note(deal, "renamed", f"Renamed the deal {deal.name}", version=newest(deal), actor=actor, now=now)
    return deal


def check(deal: Deal, terms: DealTerms) -> None:
    """Refuse what cannot be sold, whoever it is for. Raises `InvalidDeal`, `InvalidItems`."""
    validate(terms)
    plan = Plan.objects.select_related("product").get(versions=deal.base_version_id)
    base = base_of(deal)
    for place, phase in enumerate(terms.phases):
        card = terms.phase_terms(phase, base)
        try:
            check_items(plan, card.cadence, card.items)
        except InvalidItems as refused:
            raise InvalidPhase(place, refused.errors) from refused
        check_conditions(plan, card.conditions)
    refuse_overrides(terms)


def refuse_overrides(terms: DealTerms) -> None:
    """Raises `InvalidDeal` for a feature that there is not, or a value that it does not take."""
    features = Feature.objects.in_bulk([o.feature for o in terms.overrides], field_name="slug")
    problems = []
    for place, asked in enumerate(terms.overrides):
        if asked.feature not in features:
            there_is_none = f"There is no feature {asked.feature!r}."
            problems.append(Problem(f"overrides.{place}.feature", there_is_none, "unknown_feature"))
            continue
        try:
            value_of(features[asked.feature], asked.value)
        except ValidationError as refused:
            words = " ".join(refused.messages)
            problems.append(Problem(f"overrides.{place}.value", words, "wrong_value_type"))
    if problems:
        raise InvalidDeal(problems)


def _standing(deal: Deal, terms: DealTerms) -> DealTerms:
    """The terms with what the customer has of the product as it is now: that is what they are agreed on."""
    if deal.customer is None:
        return replace(terms, stands_on=StandsOn())
    return replace(terms, stands_on=stands_on(deal.customer, Plan.objects.get(versions=deal.base_version_id)))


def _write(deal: Deal, terms: DealTerms, *, message: str, actor: Actor, now: datetime) -> DealVersion:
    terms = _standing(deal, terms)
    last = deal.versions.order_by("-number").first()
    if last is not None:
        freeze(last, now)
    return DealVersion.objects.create(
        deal=deal,
        number=last.number + 1 if last else 1,
        content=terms.to_json(),
        message=message[:500],
        figures=reckon(deal.customer, terms, now=now),
        fingerprint=terms.fingerprint,
        created_by=actor.name,
        created_at=now,
    )


def freeze(version: DealVersion, now: datetime) -> None:
    """From now on it is what somebody was shown."""
    if version.frozen_at is None:
        version.frozen_at = now
        version.save(update_fields=["frozen_at"])


def reopen(deal: Deal) -> None:
    """A draft again: nothing of it is approved, sent or signed any more."""
    if deal.state != DealState.DRAFT:
        deal.move_to(DealState.DRAFT)
    deal.approved_fingerprint = deal.approval = deal.approved_by = deal.accepted_by = ""
    deal.approved_at = deal.sent_at = deal.accepted_at = None
    deal.save()


# Sending, signing, giving up ------------------------------------------------------------------------------------------


@transaction.atomic
def send(deal: Deal, *, actor: Actor, now: datetime) -> Deal:
    """Note that the order form went out. Raises `CannotMoveDeal`, `OfferOver`, and `CustomerMoved` where it was written
    for another contract than the customer has by now."""
    deal = hold(deal)
    _refuse_over(deal, now)
    deal.move_to(DealState.SENT)
    refuse_customer_moved(deal, read_terms(newest(deal)))
    deal.sent_at = now
    deal.save(update_fields=["state", "sent_at"])
    note(deal, "sent", f"Sent the deal {deal.name}", version=newest(deal), actor=actor, now=now)
    return deal


@transaction.atomic
def accept(deal: Deal, *, by: str, how: str = "", actor: Actor, now: datetime) -> Deal:
    """Note who signed on the other side, and how. Raises `CannotMoveDeal`, `OfferOver`."""
    deal = hold(deal)
    _refuse_over(deal, now)
    if not by.strip():
        raise ValidationError("Say who signed on the other side.", code="no_signature")
    deal.move_to(DealState.ACCEPTED)
    deal.accepted_at = now
    deal.accepted_by = ", ".join(part for part in (by.strip(), how.strip()) if part)[:200]
    deal.save(update_fields=["state", "accepted_at", "accepted_by"])
    summary = f"{deal.accepted_by} accepted the deal {deal.name}"
    note(deal, "accepted", summary, version=newest(deal), actor=actor, now=now)
    return deal


@transaction.atomic
def void(deal: Deal, *, reason: str, actor: Actor, now: datetime) -> Deal:
    """Give a deal up; it stays as it was. Raises `ReasonRequired`, `CannotMoveDeal`."""
    reason = require_reason(reason, "giving up a deal")
    deal = hold(deal)
    deal.move_to(DealState.VOID)
    deal.voided_at, deal.void_reason = now, reason
    deal.save(update_fields=["state", "voided_at", "void_reason"])
    note(deal, "voided", f"Gave up the deal {deal.name}", version=newest(deal), actor=actor, now=now, reason=reason)
    return deal


def _refuse_over(deal: Deal, now: datetime) -> None:
    if deal.is_template:
        raise NotATemplate
    if deal.expires_at is not None and deal.expires_at <= now:
        raise OfferOver(deal.expires_at)


# In common ------------------------------------------------------------------------------------------------------------


def hold(deal: Deal) -> Deal:
    """The deal as it is now, with the customer's row locked before it."""
    if deal.customer_id is not None:
        Customer.objects.select_for_update().get(pk=deal.customer_id)
    rows = Deal.objects.select_for_update(of=("self",)).select_related("customer", "base_version__plan")
    return rows.get(pk=deal.pk)


def note(
    deal: Deal,
    act: str,
    summary: str,
    *,
    version: DealVersion,
    actor: Actor,
    now: datetime,
    reason: str = "",
    effects: dict[str, Any] | None = None,
    reverses: Operation | None = None,
) -> Operation:
    """One line of the journal about a deal: which version, and the state that it is in from then on."""
    return record(
        deal.customer,
        f"deal.{act}",
        summary,
        actor=actor,
        now=now,
        reason=reason,
        inputs={"deal": deal.public_id, "version": version.number},
        effects={"state": deal.state, **(effects or {})},
        fingerprint=version.fingerprint,
        reverses=reverses,
    )


def open_versions(deals: Iterable[Deal]) -> dict[int, DealVersion]:
    """The newest version of each, by the deal's key; one query."""
    rows = DealVersion.objects.filter(deal__in=[deal.pk for deal in deals]).order_by("deal", "number")
    return {row.deal_id: row for row in rows}
