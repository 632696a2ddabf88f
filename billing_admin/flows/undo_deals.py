"""Taking the execution of a deal back, before what it began is renewed: the deal is accepted again, to be changed or
carried out anew. Each act that it was made of is taken back in turn, the last one first.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import ClassVar

from billing_admin.approving import Effect
from billing_admin.flows.deals import hold, newest, note
from billing_admin.flows.undo_contracts import contract_of, locked, plan_again, planned_before
from billing_admin.flows.undo_contracts import words_of as planned_words
from billing_admin.undoing import INVERSES, CannotTakeBack, TakenBack, inverse
from customers import switch
from customers.journal import Actor
from customers.models import AppliedCoupon, Operation, Subscription
from customers.states import SubscriptionState
from deals.models import Deal
from deals.states import DealState

ENABLED = "plan.enabled"


@inverse
class DealExecuted:
    verb: ClassVar[str] = "deal.executed"
    permissions: ClassVar[tuple[str, ...]] = ("deals.execute_deal",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        deal, contract = deal_of(operation), contract_of(operation)
        if deal.state != DealState.EXECUTED or deal.operation_id != operation.pk:
            return f"{deal.name} is {deal.get_state_display().lower()} by now."
        if later := deal.amendments.filter(state=DealState.EXECUTED).first():
            return f"{later.name} amends it and was carried out. Take that back first."
        if contract.state == SubscriptionState.SCHEDULED:
            return ""
        if enabled := _act(operation, ENABLED):
            return INVERSES[ENABLED].why_not(enabled, now) if ENABLED in INVERSES else "It began at once."
        starts_at = datetime.fromisoformat(operation.effects["phases"][0]["startsAt"])
        if contract.state in (SubscriptionState.ENDED, SubscriptionState.WITHDRAWN):
            return "The subscription is over."
        if contract.state == SubscriptionState.PENDING_PAYMENT:
            return "It waits for its first payment. Void that invoice, or cancel the plan."
        return f"It took effect on {starts_at:%-d %b %Y}. Amend it instead." if _began(operation, contract, now) else ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        deal, contract = deal_of(operation), contract_of(operation)
        said = [f"{deal.name} is accepted again, and not carried out."]
        effects: list[Effect] = []
        stays: list[str] = []
        if contract.state == SubscriptionState.SCHEDULED:
            said.append(f"The contract that would begin on {contract.started_at:%-d %b %Y} is withdrawn.")
        for act in acts_of(operation):
            found = INVERSES[act.verb].look(act, now)
            effects += found.effects or [Effect(act.summary, after="taken back")]
            said += [found.sentence] if act.verb == ENABLED else []
            stays += found.stays
        if _act(operation, ENABLED) is None:
            said += planned_words(*planned_before(operation, now))
        facts = {"deal": deal.public_id, "state": deal.state, "contract": contract.state, "bills": contract.bills_at}
        return TakenBack(" ".join(said), tuple(effects), tuple(stays), facts)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        deal = hold(deal_of(operation))
        _, contract = locked(operation, now)
        if why := self.why_not(operation, now):
            raise CannotTakeBack(why)
        enabled = _act(operation, ENABLED)
        for act in acts_of(operation):
            if act.verb != ENABLED:
                INVERSES[act.verb].take_back(act, reason=reason, actor=actor, now=now)
        planned, end = planned_before(operation, now) if enabled is None else (None, {})
        if planned is not None or end:
            plan_again(contract, planned, end, now)
        else:
            _drop_phases(contract, now)
        if enabled is not None:
            INVERSES[ENABLED].take_back(enabled, reason=reason, actor=actor, now=now)
        came = AppliedCoupon.objects.filter(public_id__in=operation.effects.get("coupons", []), removed_at=None)
        came.update(removed_at=now, removed_by=actor.name)
        Subscription.objects.filter(pk=contract.pk).update(
            net_terms_days=(operation.effects.get("before") or {}).get("netTermsDays")
        )
        deal.move_to(DealState.ACCEPTED)
        deal.executed_at = deal.subscription = deal.operation = None
        deal.save(update_fields=["state", "executed_at", "subscription", "operation"])
        return note(
            deal,
            "taken_back",
            f"Took back the execution of {deal.name}",
            version=newest(deal),
            actor=actor,
            now=now,
            reason=reason,
            effects={"subscription": contract.public_id},
            reverses=operation,
        )


def deal_of(operation: Operation) -> Deal:
    deal = Deal.objects.select_related("customer").filter(public_id=operation.inputs["deal"]).first()
    if deal is None:
        raise CannotTakeBack("There is no such deal any more.")
    return deal


def acts_of(operation: Operation) -> Iterator[Operation]:
    """What the deal was carried out by and can still be taken back, the last act first."""
    rows = Operation.objects.filter(public_id__in=operation.effects.get("acts", []), reversed_by=None)
    return (act for act in rows.select_related("customer").order_by("-id") if act.verb in INVERSES)


def _act(operation: Operation, verb: str) -> Operation | None:
    return next((act for act in acts_of(operation) if act.verb == verb), None)


def _began(operation: Operation, contract: Subscription, now: datetime) -> bool:
    """Whether a phase of the deal is in force, of a contract that ran before: it was scheduled, so it began by date."""
    scheduled = operation.effects.get("scheduled", [])
    present = contract.phase_at(now)
    return present is None or present.pk in scheduled


def _drop_phases(contract: Subscription, now: datetime) -> None:
    """Withdraw what the deal had scheduled, and the end of its term."""
    at = now.replace(microsecond=0)
    if contract.state == SubscriptionState.SCHEDULED:
        switch.withdraw_start(contract, now=now)
    elif contract.is_live:
        switch.schedule_all(contract, [], ends_at=None, at=at, now=now)
