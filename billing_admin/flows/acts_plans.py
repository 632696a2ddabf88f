"""A plan for less than its list price, as an act that can need a second person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, Self

from billing_admin.approving import Effect, Part, Shown, Size, guarded
from billing_admin.flows.acts import (
    Gone,
    about,
    coupons_beside,
    customer_again,
    day,
    instant,
    money,
    percent,
    sizes_of_coupon,
    text,
)
from billing_admin.flows.coupons import coupon_for_act
from billing_admin.flows.enable_plan import enable_plan, preview_plan, propose
from billing_admin.flows.plan_change import Activation, FirstPeriod, NewCoupon, PlanChange, Proposal, Timing
from catalog.models import Coupon, Feature, Plan, PlanVersion, PromoCode
from catalog.money import exponent, format_minor, plain
from catalog.off_list import WHOLE, off_both, percent_off, share_off
from catalog.terms import Conditions, PlanTerms
from catalog.terms_json import items_from_json, items_to_json
from customers.journal import Actor
from customers.models import Customer, Operation, Phase


@guarded
@dataclass(frozen=True)
class EnablePlan:
    """A custom plan, or a plan with a coupon. Made from a proposal, or again from what was kept of one."""

    who: Customer
    proposal: Proposal | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)

    key: ClassVar[str] = "plan.enabled"
    title: ClassVar[str] = "A plan below its list price"
    measures: ClassVar[Mapping[str, str]] = {"discount": "discount, in percent"}
    contains: ClassVar[tuple[str, ...]] = ("coupon.applied", "trial.extended", "plan.activated")
    permissions: ClassVar[tuple[str, ...]] = ("customers.enable_plan",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        return cls(customer_again(inputs), asked=inputs)

    def to_json(self) -> dict[str, Any]:
        if self.proposal is None:
            return dict(self.asked)
        return {"customer": self.who.public_id, **proposal_to_json(self.proposal)}

    def customer(self) -> Customer:
        return self.who

    def sizes(self, now: datetime) -> Sequence[Size]:
        return [Size("discount", discount(self.who, self._proposal(now), now))]

    def parts(self, now: datetime) -> Sequence[Part]:
        """Its coupons, a trial that is longer than the plan's own, and access that does not wait for its payment."""
        proposal = self._proposal(now)
        found = [_part(new, proposal.card) for new in proposal.coupons]
        if days := given_trial(proposal):
            found.append(Part("trial.extended", [Size("days", Decimal(days))]))
        if proposal.activation is Activation.NOW:
            change = preview_plan(self.who, proposal, now=now)
            if change.could_wait:
                found.append(Part("plan.activated", [money("amount", change.total, change.currency)]))
        return found

    def shown(self, now: datetime) -> Shown:
        proposal = self._proposal(now)
        change = preview_plan(self.who, proposal, now=now)
        off = discount(self.who, proposal, now)
        return Shown(
            f"Put {self.who.name} on {_name(proposal)}{_below(off)}",
            effects=tuple(_effects(self.who, change, off)),
            warnings=(f"It replaces {change.replaces}.",) if change.replaces else (),
            facts=_facts(change, off) | {"other coupons": coupons_beside(self.who)},
        )

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation:
        return enable_plan(self.who, self._proposal(now), reason=reason, actor=actor, now=now).operation

    def _proposal(self, now: datetime) -> Proposal:
        return self.proposal or proposal_from_json(self.who, self.asked, now)


def given_trial(proposal: Proposal) -> int:
    """Days of a trial that is longer than the plan's own; 0 where there is none."""
    days = proposal.terms.trial_days if proposal.trial_days is None else proposal.trial_days
    return days if days and days > (proposal.standard.trial_days or 0) else 0


def _below(off: Decimal) -> str:
    return f", {percent(off)} below list" if off else ""


def _name(proposal: Proposal) -> str:
    return f"{proposal.plan_name}{' (custom)' if proposal.is_custom else ''}"


def _effects(customer: Customer, change: PlanChange, off: Decimal) -> list[Effect]:
    """What is asked for at this moment moves with the clock, so it decorates: the prices behind it are what counts."""
    found = [about(customer), Effect("Begins", "", day(change.starts_at if change.is_scheduled else None, "Now"))]
    found += [Effect(d.key, "", d.sentence(change.currency)) for d in change.differences]
    found.append(Effect("Below list", "", percent(off)))
    found += [Effect(f"Coupon {c.terms.label}", "", "with this plan") for c in change.proposal.coupons]
    if change.trial_ends_at:
        found.append(Effect("Trial until", "", f"{change.trial_ends_at:%-d %b %Y}", is_passing=True))
    if change.proposal.activation is Activation.NOW:
        found.append(Effect("Access", "", "before the first payment"))
    due = format_minor(change.total, change.currency)
    return [*found, Effect("Due at once, if it were done at this moment", "", due, is_passing=True)]


def _facts(change: PlanChange, off: Decimal) -> dict[str, Any]:
    held = change.position.held
    return {
        "kind": change.kind,
        "timing": change.timing,
        "starts": change.starts_at if change.is_scheduled else None,
        "waits for payment": change.is_gated,
        "trial": bool(change.trial_ends_at),
        "discount": plain(off),
        "present plan": held.terms.version_id if held else None,
        "next plan": held.following.phase_id if held and held.following else None,
        "replaces": change.replaces,
        "net terms": change.net_terms_days,
    }


def discount(customer: Customer, proposal: Proposal, now: datetime) -> Decimal:
    """Percent below list, coupons included; what this customer pays already gives nothing new away."""
    if proposal.kind != Plan.Kind.BILLED:
        return Decimal(0)
    listed = _listed(customer, proposal, now)
    own = Decimal(0) if _has(customer, proposal, now) else percent_off(listed, proposal.terms)
    for coupon in proposal.coupons:
        own = off_both(own, _coupon_off(coupon, proposal.card))
    return own


def _listed(customer: Customer, proposal: Proposal, now: datetime) -> PlanTerms:
    """The list is the current version, except for whoever is pinned to an older one."""
    if not proposal.is_custom and _has(customer, proposal, now):
        return proposal.standard
    plan = Plan.objects.get(pk=proposal.plan_id)
    current = PlanVersion.objects.with_items().filter(pk=plan.current_version_id or 0).first()
    pinned = _phases(customer, now).filter(version=proposal.standard.version_id).exists()
    return proposal.standard if pinned or current is None else current.terms()


def _has(customer: Customer, proposal: Proposal, now: datetime) -> bool:
    return proposal.version_id is not None and _phases(customer, now).filter(version=proposal.version_id).exists()


def _phases(customer: Customer, now: datetime) -> Any:
    return Phase.objects.filter(subscription__customer=customer, withdrawn_at=None).exclude(ends_at__lte=now)


def _part(new: NewCoupon, card: PlanTerms) -> Part:
    return Part("coupon.applied", sizes_of_coupon(Coupon.objects.get(pk=new.coupon_id), _coupon_off(new, card)))


def _coupon_off(new: NewCoupon, card: PlanTerms) -> Decimal:
    """Of an amount off: its part of a month at list."""
    coupon = Coupon.objects.get(pk=new.coupon_id)
    if coupon.percent is not None:
        return coupon.percent
    month, off = card.monthly(), Fraction(coupon.amount or 0, 10 ** exponent(card.currency))
    return share_off(month, month - off) if month else WHOLE


# As JSON --------------------------------------------------------------------------------------------------------------


def proposal_to_json(proposal: Proposal) -> dict[str, Any]:
    """What was proposed, without anything that is decided from it."""
    terms = proposal.terms
    return {
        "plan": Plan.objects.values_list("key", flat=True).get(pk=proposal.plan_id),
        "version": proposal.standard.version_id,
        "items": items_to_json(terms.items) if proposal.is_custom else None,
        "cadence": terms.cadence,
        "trial_days_of_plan": terms.trial_days,
        "trial_end": terms.trial_end,
        "commitment": None if terms.commitment is None else plain(terms.commitment),
        "quantity": proposal.quantity,
        "timing": proposal.timing,
        "ends_at": text(proposal.ends_at),
        "bought": {key: plain(units) for key, units in proposal.bought},
        "trial_days": proposal.trial_days,
        "activation": proposal.activation,
        "coupons": [_coupon_to_json(coupon) for coupon in proposal.coupons],
        "net_terms_days": proposal.net_terms_days,
        "anchor": text(proposal.anchor),
        "first_period": proposal.first_period,
    }


def _coupon_to_json(new: NewCoupon) -> dict[str, Any]:
    promo = PromoCode.objects.filter(pk=new.promo_code_id or 0).first()
    code = promo.code if promo else Coupon.objects.get(pk=new.coupon_id).code
    return {"code": code, "for_this_act": new.for_this_act}


def proposal_from_json(customer: Customer, kept: Mapping[str, Any], now: datetime) -> Proposal:
    """The proposal again, checked as if it were new. Raises what `propose` and coupons refuse with."""
    plan = Plan.objects.select_related("product").filter(key=kept["plan"]).first()
    version = PlanVersion.objects.with_items().filter(pk=kept["version"] or 0).first()
    if plan is None or version is None:
        raise Gone("The plan")
    features = {row.slug: row.terms() for row in Feature.objects.all()}
    items = None if kept["items"] is None else items_from_json(kept["items"], features)
    least = None if kept["commitment"] is None else Decimal(kept["commitment"])
    return propose(
        customer,
        plan,
        items=items,
        cadence=kept["cadence"] if items is not None else None,
        conditions=Conditions(kept["trial_days_of_plan"], kept["trial_end"], least),
        version=version,
        quantity=kept["quantity"],
        timing=Timing(kept["timing"]) if kept["timing"] else None,
        ends_at=instant(kept["ends_at"]),
        bought={key: Decimal(units) for key, units in kept["bought"].items()},
        trial_days=kept["trial_days"],
        activation=Activation(kept["activation"]),
        coupons=[
            replace(coupon_for_act(customer, c["code"], now, plan=plan), for_this_act=c["for_this_act"])
            for c in kept["coupons"]
        ],
        net_terms_days=kept["net_terms_days"],
        anchor=instant(kept["anchor"]),
        first_period=FirstPeriod(kept["first_period"]),
    )
