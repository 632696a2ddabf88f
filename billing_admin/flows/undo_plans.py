"""Taking a change of plan back before the next renewal: the former version goes on, as a phase of its own.

What the change billed is given back, and what it gave back is charged again (`undo_money`); use stays counted, under
the former allowance (`undo_units`). A new cycle that the change began ends, and the former one goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from billing_admin.flows.cancel import cancel
from billing_admin.flows.corrections import void_invoice
from billing_admin.flows.position import read_position
from billing_admin.flows.renew import add_ons_of
from billing_admin.flows.undo_contracts import (
    ASSIGN,
    ENABLE,
    contract_of,
    instant,
    locked,
    permission_of,
    phase_with,
    plan_again,
    planned_before,
)
from billing_admin.flows.undo_contracts import words_of as planned_words
from billing_admin.flows.undo_money import (
    Ending,
    billed_use,
    documents_of,
    effects_of,
    endings_of,
    facts_of,
    give_back,
    stays_of,
)
from billing_admin.flows.undo_units import UsedUnits, Windows, bring_back, moves_back, used_units
from billing_admin.undoing import TakenBack, inverse, line_of, taking_back
from customers import holdings, switch
from customers.contracts import MULTIPLYING
from customers.journal import Actor, record
from customers.models import AppliedCoupon, Customer, Operation, Phase, Subscription
from customers.states import SubscriptionState
from entitlements.override import put_under_overrides
from entitlements.provision import apply_moves


@dataclass(frozen=True)
class Change:
    """A change of plan as it stands by now: what it made of the contract. `former` is None where that began with it."""

    operation: Operation
    contract: Subscription
    phase: Phase
    former: Phase | None

    @classmethod
    def of(cls, operation: Operation) -> "Change":
        before = operation.effects.get("before") or {}
        former = phase_with(before["phase"]) if before.get("phase") else None
        return cls(operation, contract_of(operation), phase_with(operation.effects.get("phase")), former)

    @property
    def before(self) -> Mapping[str, Any]:
        """What the journal keeps of the contract from before the act."""
        return self.operation.effects.get("before") or {}

    @property
    def waits(self) -> bool:
        """Whether it still waits for its first payment, so that the former plan never ended."""
        return self.phase.pending_since is not None and self.phase.withdrawn_at is None

    @property
    def restarted(self) -> bool:
        """Whether it began a new billing cycle: other dates, or windows that follow another calendar."""
        if self.former is None:
            return False
        follows = [each.version.plan.kind in MULTIPLYING for each in (self.former, self.phase)]
        moved = self.former.is_trial != self.phase.is_trial or self.former.anchor != self.phase.anchor
        return follows[0] != follows[1] or (all(follows) and moved)

    @cached_property
    def windows(self) -> Windows:
        return Windows(self.operation, self.contract, self.former)

    def used(self, now: datetime) -> list[UsedUnits]:
        return used_units(self.windows, now)

    def endings(self, used: list[UsedUnits]) -> list[Ending]:
        return endings_of(self.operation, {each.line.pk: each.charge for each in used})


@inverse
class PlanEnabled:
    verb = "plan.enabled"
    permissions = (ENABLE,)
    possible = (ENABLE, ASSIGN)

    def permissions_of(self, operation: Operation) -> tuple[str, ...]:
        return permission_of(phase_with(operation.effects.get("phase")))

    def why_not(self, operation: Operation, now: datetime) -> str:
        change = Change.of(operation)
        return _over(change, now) or _came_after(change, now)

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        change = Change.of(operation)
        used = change.used(now)
        endings = change.endings(used)
        planned = planned_words(*planned_before(operation, now)) if change.former else []
        stays = [*billed_use(endings), *(each.sentence for each in used)]
        if change.former is not None:
            stays.append("What was used since stays used, and counts under the former allowance.")
            if change.former.terms().arrears_fees and not change.waits:
                name = change.phase.version.plan.name
                stays.append(f"Fees in arrears are billed from now on, not for the time on {name}.")
        return TakenBack(
            " ".join([_said(change), *planned]),
            effects=tuple(effects_of(endings)),
            stays=(*stays, *stays_of(endings)),
            facts={
                "phase": change.phase.pk,
                "former": change.former.pk if change.former else None,
                "invoices": facts_of(endings),
            },
        )

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        customer, contract = locked(operation, now)
        change = Change.of(operation)
        if change.waits and change.former is not None:
            by = taking_back(actor, operation, "invoice.voided")
            for invoice in documents_of(operation):
                void_invoice(invoice, reason=reason, actor=by, now=now)
            return line_of(operation)
        used = change.used(now)
        endings = change.endings(used)
        if change.former is None:
            by = taking_back(actor, operation, "subscription.canceled")
            nothing = Subscription.Unused.NOTHING
            cancel(contract, at_once=True, bill_use=False, unused=nothing, reason=reason, actor=by, now=now)
            made, back = line_of(operation), None
        else:
            made, back = _go_back(customer, contract, change, reason=reason, actor=actor, now=now)
            bring_back(change.windows, endings, used, made, now=now)
            put_under_overrides(customer, now=now, operation=made)
        _drop_coupons(operation, contract, actor=actor, now=now)
        give_back(endings, phase=back, reason=reason, actor=actor, now=now)
        return made


def _said(change: Change) -> str:
    name = f"{change.phase.version.plan.name} {change.phase.version.label}"
    if change.waits:
        return f"{name} no longer waits for its first payment."
    if change.former is None:
        return f"{name} ends."
    back = f"Back to {change.former.version.plan.name} {change.former.version.label}."
    return f"{back} Its billing dates are the former ones again." if change.restarted else back


# Whether it can be ----------------------------------------------------------------------------------------------------


def _over(change: Change, now: datetime) -> str:
    """Why there is nothing to go back from."""
    phase, contract = change.phase, change.contract
    if phase.withdrawn_at is not None:
        return f"It was given up on {phase.withdrawn_at:%-d %b %Y}."
    if contract.state in (SubscriptionState.ENDED, SubscriptionState.WITHDRAWN):
        return "The subscription is over."
    if change.waits or contract.state == SubscriptionState.PENDING_PAYMENT:
        return ""
    if contract.parked_at is not None:
        return f"The subscription is parked: {contract.parked_because}"
    if contract.settled_at is not None:
        return "The final invoice of this subscription is made."
    present = contract.phase_at(now)
    if present is None or present.pk != phase.pk:
        return _changed_since(change, present)
    if contract.period_starts_at is not None and contract.period_starts_at > phase.starts_at:
        return f"It was renewed on {contract.period_starts_at:%-d %b %Y}. Change the plan instead."
    billed = None if phase.is_trial else switch.next_bill(phase.terms(), phase.anchor, phase.starts_at)
    if billed is not None and billed <= now:
        return f"It was billed again on {billed:%-d %b %Y}. Change the plan instead."
    return ""


def _changed_since(change: Change, present: Phase | None) -> str:
    """What to do where another phase is in force: taking back what came later would leave one of its own, too."""
    acts = change.contract.customer.operations.filter(verb="plan.taken_back")
    if present is not None and acts.filter(effects__phase=present.pk).exists():
        return "A later change was taken back since, which began the plan anew. Enable the former plan instead."
    return "The plan was changed, or began a period of its own, since. Enable the former plan instead."


def _came_after(change: Change, now: datetime) -> str:
    """Why what was there before cannot go on as it was."""
    former = change.former
    if change.waits or change.contract.state == SubscriptionState.PENDING_PAYMENT:
        return ""
    if former is None:
        beside = add_ons_of(change.contract)
        return "An add-on runs beside it, and would end with it. Take that back first." if beside else ""
    if not change.restarted:
        return ""
    if former.is_trial and not change.phase.is_trial:
        return "It ended a trial, and a trial does not begin again. Enable the plan anew, with a trial of its own."
    terms, name = former.terms(), former.version.plan.name
    missed = None if terms.is_free else switch.next_bill(terms, former.anchor, change.phase.starts_at)
    if missed is not None and missed <= now:
        return (
            f"{name} would have been billed on {missed:%-d %b %Y}, which nobody did. "
            f"Enable {name} again; it is priced anew from then on."
        )
    return ""


def _drop_coupons(operation: Operation, contract: Subscription, *, actor: Actor, now: datetime) -> None:
    """Coupons that came with the act go with it; those that somebody applied have acts of their own."""
    if not operation.inputs.get("coupons"):
        return
    came = AppliedCoupon.objects.filter(subscription=contract, applied_at=operation.at, removed_at=None)
    own = contract.customer.operations.filter(verb="coupon.applied").values_list("effects__applied", flat=True)
    came.exclude(public_id__in=list(own)).update(removed_at=now, removed_by=actor.name)


# The way back ---------------------------------------------------------------------------------------------------------


def _go_back(
    customer: Customer, contract: Subscription, change: Change, *, reason: str, actor: Actor, now: datetime
) -> tuple[Operation, Phase]:
    """The former version as a phase of its own, on its former dates, with the balances that are there."""
    former, operation = change.former, change.operation
    assert former is not None, "there is a plan to go back to"
    at = now.replace(microsecond=0)
    position = read_position(customer, former.version.plan, at=at, subscription=contract)
    kept = _keeps_schedule(change, contract, now)
    back = switch.switch_now(
        contract,
        former.version,
        anchor=former.anchor,
        at=at,
        now=now,
        quantity=former.quantity,
        keep_schedule=kept,
        bought=former.bought_units(),
    )
    _restore_terms(contract, change)
    if not kept:
        plan_again(contract, *planned_before(operation, now), now)
    made = record(
        customer,
        "plan.taken_back",
        f"Back to {former.version.plan.name} {former.version.label} from "
        f"{change.phase.version.plan.name} {change.phase.version.label}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"subscription": contract.public_id, "version": former.version_id},
        effects={"phase": back.pk, "startsAt": at},
        reverses=operation,
    )
    back.subscription = contract
    after = holdings.contract_of(back, customer)
    moves = moves_back(change.windows, position, after, restarted=change.restarted)
    apply_moves(customer, moves, used_later={}, now=now, operation=made)
    return made, back


def _keeps_schedule(change: Change, contract: Subscription, now: datetime) -> bool:
    """Whether what is planned by now stays: it was planned since the act, or the act had left it alone.

    A trial that a change had taken over goes on as one.
    """
    former, following = change.former, contract.next_phase(now)
    if former is not None and former.is_trial != change.phase.is_trial:
        return False
    if former is not None and former.is_trial:
        return True
    present = following.pk if following else None, contract.ends_at
    kept = change.before.get("left")
    if kept is None:
        return following is not None or (contract.ends_at is not None and contract.ends_at > now)
    left = kept["next"], instant(kept["endsAt"])
    was = change.before.get("next"), instant(change.before.get("endsAt"))
    return present != left or left == was


def _restore_terms(contract: Subscription, change: Change) -> None:
    """What the act had brought along beside the plan."""
    before, fields = change.before, []
    if "netTermsDays" in before and change.operation.inputs.get("netTermsDays") is not None:
        contract.net_terms_days = before["netTermsDays"]
        fields.append("net_terms_days")
    if "trialEndsAt" in before and change.phase.is_trial:
        contract.trial_ends_at = instant(before["trialEndsAt"])
        fields.append("trial_ends_at")
    if fields:
        contract.save(update_fields=fields)
