"""Who has to approve a deal, and what they see: what it is worth, how far below list, and every year of its term.

What is approved is one version: its fingerprint stands on the deal, and only that version can be carried out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.db import transaction
from django.urls import reverse

from billing_admin.approving import Effect, Part, Shown, Size, guarded
from billing_admin.flows.approvals import ApprovalNeeded, ask, guard
from billing_admin.flows.coupons import coupon_for_act
from billing_admin.flows.deal_calendar import DealCalendar, read_calendar
from billing_admin.flows.deal_parts import CONTAINS, parts_of
from billing_admin.flows.deals import (
    NotATemplate,
    check,
    freeze,
    hold,
    newest,
    note,
    read_terms,
    refuse_customer_moved,
    reopen,
)
from catalog.money import format_minor, plain, to_major
from customers.journal import Actor
from customers.models import Customer, Operation
from deals.models import Deal, DealVersion
from deals.states import DealState, refuse_move
from deals.terms import DealTerms, describe_override, describe_price, said
from invoicing.tongue import DESK

DISCOUNT, VALUE, MONTHS = "discount", "value", "months"


class VersionMoved(ValidationError):
    def __init__(self, deal: Deal):
        super().__init__(f"{deal.name} says something else by now. Submit it again.", code="deal_moved")


@guarded
@dataclass(frozen=True, slots=True)
class ApproveDeal:
    """One version of a deal, to be approved."""

    deal: Deal
    version: DealVersion

    key: ClassVar[str] = "deal.approved"
    also_ruled_as: ClassVar[tuple[str, ...]] = ("plan.enabled",)
    contains: ClassVar[tuple[str, ...]] = CONTAINS
    title: ClassVar[str] = "A deal"
    measures: ClassVar[Mapping[str, str]] = {
        DISCOUNT: "a discount (%)",
        VALUE: "a total contract value",
        MONTHS: "a term (months)",
    }
    permissions: ClassVar[tuple[str, ...]] = ("deals.change_deal",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        deal = Deal.objects.select_related("customer", "base_version__plan").filter(public_id=inputs["deal"]).first()
        version = deal.versions.filter(number=inputs["version"]).first() if deal else None
        if deal is None or version is None:
            raise ValidationError("There is no such deal any more.", code="deal_not_found")
        return cls(deal, version)

    def to_json(self) -> dict[str, Any]:
        return {"deal": self.deal.public_id, "version": self.version.number, "fingerprint": self.version.fingerprint}

    def customer(self) -> Customer | None:
        return self.deal.customer

    def sizes(self, now: datetime) -> Sequence[Size]:
        _, calendar = self._calendar(now)
        return (
            Size(DISCOUNT, calendar.discount or Decimal(0)),
            Size(VALUE, to_major(calendar.value, calendar.currency), calendar.currency),
            Size(MONTHS, Decimal(calendar.term.months)),
        )

    def parts(self, now: datetime) -> Sequence[Part]:
        terms, calendar = self._calendar(now)
        return parts_of(terms, calendar, self.deal.base_version)

    def shown(self, now: datetime) -> Shown:
        terms, calendar = self._calendar(now)
        value = format_minor(calendar.value, calendar.currency)
        present, long = newest(self.deal), said("term_months", terms.term_months)
        url = reverse("admin:deals_deal_change", args=[self.deal.public_id])
        return Shown(
            sentence=f"{self.deal.name} for {self.deal.customer}: {value} over {long}",
            effects=(*effects_of(terms, calendar, url), *self._offer()),
            warnings=warnings_of(calendar),
            facts={
                **calendar.facts(),
                "content": present.fingerprint,
                "state": self.deal.state == DealState.VOID,
                "expires": self.deal.expires_at,
            },
        )

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        deal = hold(self.deal)
        version = newest(deal)
        if version.fingerprint != self.version.fingerprint:
            raise VersionMoved(deal)
        return approved(deal, version, actor=actor, now=now, reason=reason)

    def given_up(self, *, why: str, actor: Actor, now: datetime) -> None:
        """Nobody will approve it: the deal is a draft again."""
        deal = hold(self.deal)
        # Changed and submitted again meanwhile, it waits for another request.
        if deal.state == DealState.AWAITING_APPROVAL and newest(deal).pk == self.version.pk:
            reopen(deal)
            note(deal, "reopened", f"{deal.name} is a draft again: {why}", version=self.version, actor=actor, now=now)

    def _offer(self) -> list[Effect]:
        until = self.deal.expires_at
        return [Effect("Offer stands until", "", DESK.instant(until))] if until else []

    def _calendar(self, now: datetime) -> tuple[DealTerms, DealCalendar]:
        """As of when it was submitted, so that days that pass change nothing."""
        terms = read_terms(self.version)
        return terms, read_calendar(terms, self.deal.customer, now=self.version.frozen_at or now)


def effects_of(terms: DealTerms, calendar: DealCalendar, url: str = "") -> list[Effect]:
    """What a deal comes to, line by line: list on the left, what is agreed on the right."""

    def money(amount: int) -> str:
        return format_minor(amount, calendar.currency)

    discount = "—" if calendar.discount is None else f"{plain(calendar.discount)} % below list"
    found = [
        Effect("Total contract value", money(calendar.list_value), f"{money(calendar.value)} ({discount})", url),
        Effect("A month", "", money(calendar.monthly)),
        Effect("Plan", "", terms.plan_name),
        Effect("Start", "", said("starts_at", terms.starts_at)),
        Effect("Term", "", f"{said('term_months', terms.term_months)}, then {said('renews', terms.renews)}"),
        Effect("Net terms", "", said("net_terms_days", terms.net_terms_days)),
        Effect("Access", "", said("activation", terms.activation)),
    ]
    if terms.trial_days is not None:
        found.append(Effect("Trial", "", said("trial_days", terms.trial_days)))
    found += [Effect(f"Year {year.number}", "", f"{money(year.net)} net") for year in calendar.years]
    if calendar.committed:
        found.append(Effect("Minimum commitments", "", money(calendar.committed)))
    found += [Effect(f"Coupon {coupon.name or coupon.code}", "", "applied") for coupon in terms.coupons]
    found += [Effect("Override", "", describe_override(override)) for override in terms.overrides]
    found += [Effect("Special price", "", describe_price(price, terms.currency)) for price in terms.prices]
    if terms.special_terms:
        found.append(Effect("Special terms", "", terms.special_terms[:200]))
    return found


def warnings_of(calendar: DealCalendar) -> tuple[str, ...]:
    if calendar.discount is not None and calendar.discount < 0:
        return ("It is dearer than list.",)
    return ()


@transaction.atomic
def submit(deal: Deal, *, reason: str = "", actor: Actor, now: datetime) -> Deal:
    """Have the deal approved: at once where no rule asks for a second person, else it waits for one, who is asked.

    Returns the deal, approved or awaiting approval. Raises `InvalidDeal`, `InvalidItems`, `CustomerMoved`,
    `CannotMoveDeal`, and what the redemption of a coupon refuses.
    """
    deal = hold(deal)
    if deal.is_template or deal.customer is None:
        raise NotATemplate
    refuse_move(deal.state, DealState.AWAITING_APPROVAL)
    version = newest(deal)
    terms = read_terms(version)
    check(deal, terms)
    refuse_customer_moved(deal, terms)
    for coupon in terms.coupons:
        coupon_for_act(deal.customer, coupon.code, now, plan=deal.base_version.plan)
    freeze(version, now)
    act = ApproveDeal(deal, version)
    try:
        guard(act, actor=actor, now=now, reason=reason)
    except ApprovalNeeded as needed:
        request = ask(needed, reason=reason, actor=actor, now=now)
        deal.move_to(DealState.AWAITING_APPROVAL)
        deal.approval = request.public_id
        deal.save(update_fields=["state", "approval"])
        summary = f"Submitted the deal {deal.name} for approval"
        note(deal, "submitted", summary, version=version, actor=actor, now=now, reason=reason)
        return deal
    approved(deal, version, actor=actor, now=now, reason=reason)
    return deal


def approved(deal: Deal, version: DealVersion, *, actor: Actor, now: datetime, reason: str = "") -> Operation:
    """Keep which version was approved, by whom. The caller holds the deal."""
    deal.move_to(DealState.APPROVED)
    deal.approved_fingerprint, deal.approved_at = version.fingerprint, now
    deal.approval, deal.approved_by = actor.approval, actor.approved_by
    deal.save(update_fields=["state", "approved_fingerprint", "approved_at", "approval", "approved_by"])
    by = f"{actor.approved_by} approved" if actor.approved_by else "No approval was needed for"
    summary = f"{by} the deal {deal.name}"
    return note(deal, "approved", summary, version=version, actor=actor, now=now, reason=reason)
