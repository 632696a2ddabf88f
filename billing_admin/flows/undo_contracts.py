"""Taking back what was planned or agreed for a contract: scheduled changes, cancellations, terms, pauses, trials."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from billing_admin.approving import Effect
from billing_admin.flows import collection, trials
from billing_admin.flows.cancel import withdraw
from billing_admin.flows.contract_terms import FIELDS, ContractTerms, change_contract_terms
from billing_admin.flows.migrate_leave import join_again, taken_from_cohort
from billing_admin.flows.renew import catch_up
from billing_admin.undoing import CannotTakeBack, TakenBack, inverse, line_of, taking_back
from catalog.models import Plan
from customers import switch
from customers.journal import Actor, record
from customers.models import Customer, Operation, Phase, Subscription
from customers.states import SubscriptionState

ENABLE, ASSIGN = "customers.enable_plan", "customers.assign_plan"
OVER = "The subscription is over."


def contract_of(operation: Operation) -> Subscription:
    public_id = operation.effects.get("subscription") or operation.inputs.get("subscription")
    found = Subscription.objects.select_related("product", "customer").filter(public_id=public_id).first()
    if found is None:
        raise CannotTakeBack("Nothing is kept of the subscription that this act was about.")
    return found


def locked(operation: Operation, now: datetime) -> tuple[Customer, Subscription]:
    """The rows as they are once what is due is carried out; the customer is held."""
    contract = contract_of(operation)
    customer = Customer.objects.select_for_update().get(pk=contract.customer_id)
    catch_up(customer, now=now)
    return customer, Subscription.objects.select_for_update().get(pk=contract.pk)


def phase_with(pk: Any) -> Phase:
    rows = Phase.objects.select_related("subscription", "version__plan__product")
    found = rows.filter(pk=pk).first() if pk else None
    if found is None:
        raise CannotTakeBack("Nothing is kept of the plan that was there before.")
    return found


def permission_of(phase: Phase) -> tuple[str, ...]:
    """What it takes to put somebody on what a phase has."""
    is_standard = phase.version.plan.kind == Plan.Kind.ASSIGNED and not phase.version.tailored
    return (ASSIGN if is_standard else ENABLE,)


def instant(said: Any) -> datetime | None:
    return datetime.fromisoformat(said) if said else None


# What was planned before ----------------------------------------------------------------------------------------------


def planned_before(operation: Operation, now: datetime) -> tuple[Phase | None, Mapping[str, Any]]:
    """The change, or the end, that an act took away and that is still ahead."""
    before = operation.effects.get("before") or {}
    ends_at = instant(before.get("endsAt"))
    phase = phase_with(before["next"]) if before.get("next") else None
    if phase is not None and (phase.withdrawn_at is None or phase.starts_at <= now or taken_from_cohort(phase)):
        phase = None
    return phase, before if ends_at is not None and ends_at > now else {}


def plan_again(contract: Subscription, phase: Phase | None, end: Mapping[str, Any], now: datetime) -> None:
    """Schedule what was planned before once more: all phases that were withdrawn together, and the end. The caller
    holds the customer."""
    at, ends_at = now.replace(microsecond=0), instant(end.get("endsAt"))
    if phase is not None:
        together = contract.phases.filter(withdrawn_at=phase.withdrawn_at, starts_at__gte=phase.starts_at)
        rows = together.select_related("version__plan__product").order_by("starts_at", "id")
        stages = [switch.Stage(r.version, r.anchor, r.starts_at, r.quantity, r.bought_units()) for r in rows]
        made = switch.schedule_all(contract, stages, ends_at=ends_at, at=at, now=now)
        join_again(list(zip(rows, made, strict=True)), now=now)
    elif ends_at is not None:
        switch.cancel_at(contract, ends_at=ends_at, reason=end["endReason"], at=at, now=now)
    if ends_at is not None:
        contract.end_reason = end["endReason"]
        contract.bills_use_at_end, contract.unused_at_end = end["billUse"], end["unused"]
        contract.save(update_fields=["end_reason", "bills_use_at_end", "unused_at_end"])


def words_of(phase: Phase | None, end: Mapping[str, Any]) -> list[str]:
    said = [f"Schedules {phase.version.plan.name} for {phase.starts_at:%-d %b %Y} again."] if phase else []
    ends_at = instant(end.get("endsAt"))
    return said + ([f"Plans the end on {ends_at:%-d %b %Y} again."] if ends_at else [])


# Scheduled changes ----------------------------------------------------------------------------------------------------


@inverse
class PlanScheduled:
    """Withdrawn while its date has not come; what it had replaced is planned again."""

    verb = "plan.scheduled"
    permissions = (ENABLE,)
    possible = (ENABLE, ASSIGN)

    def permissions_of(self, operation: Operation) -> tuple[str, ...]:
        return permission_of(phase_with(operation.effects.get("phase")))

    def why_not(self, operation: Operation, now: datetime) -> str:
        phase = phase_with(operation.effects.get("phase"))
        if phase.withdrawn_at is not None:
            return f"The change was withdrawn or replaced on {phase.withdrawn_at:%-d %b %Y}."
        return (
            f"It took effect on {phase.starts_at:%-d %b %Y}; change the plan again." if phase.starts_at <= now else ""
        )

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        phase = phase_with(operation.effects.get("phase"))
        former, end = planned_before(operation, now)
        said = f"Withdraws the change to {phase.version.plan.name} on {phase.starts_at:%-d %b %Y}."
        facts = {"phase": phase.pk, "starts": phase.starts_at, "next": former.pk if former else None}
        return TakenBack(" ".join([said, *words_of(former, end)]), facts=facts | {"end": end.get("endsAt")})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        contract = contract_of(operation)
        withdraw(contract, reason=reason, actor=taking_back(actor, operation, "change.withdrawn"), now=now)
        contract.refresh_from_db()
        plan_again(contract, *planned_before(operation, now), now)
        return line_of(operation)


@inverse
class ChangeWithdrawn:
    """Scheduled again while its date has not come."""

    verb = "change.withdrawn"
    permissions = (ENABLE,)
    possible = (ENABLE, ASSIGN)

    def permissions_of(self, operation: Operation) -> tuple[str, ...]:
        return permission_of(phase_with(operation.effects.get("phase")))

    def why_not(self, operation: Operation, now: datetime) -> str:
        phase = phase_with(operation.effects.get("phase"))
        if phase.starts_at <= now:
            return f"It would have begun on {phase.starts_at:%-d %b %Y}; make a new change."
        if taken_from_cohort(phase):
            return "It was a move of many customers, which was taken back since; make a new change."
        return nothing_else(phase.subscription, now, but=_end_before(operation))

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        phase = phase_with(operation.effects.get("phase"))
        return TakenBack(words_of(phase, {})[0], facts={"phase": phase.pk, "on": _running(phase.subscription, now)})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        customer, contract = locked(operation, now)
        phase = phase_with(operation.effects["phase"])
        plan_again(contract, phase, operation.effects.get("before") or {}, now)
        again = contract.phases.kept().filter(starts_at=phase.starts_at).get()
        return record(
            customer,
            "plan.scheduled",
            f"Scheduled {phase.version.plan.name} for {phase.starts_at:%-d %b %Y} again",
            actor=actor,
            now=now,
            reason=reason,
            inputs={"plan": phase.version.plan.name, "version": phase.version_id, "quantity": phase.quantity},
            effects={"subscription": contract.public_id, "phase": again.pk, "startsAt": phase.starts_at},
            reverses=operation,
        )


def _end_before(operation: Operation) -> datetime | None:
    return instant((operation.effects.get("before") or {}).get("endsAt"))


def nothing_else(contract: Subscription, now: datetime, *, but: datetime | None = None) -> str:
    """Why nothing can be planned for a contract (`but` an end that was there before); empty when it can."""
    if not contract.is_live:
        return OVER
    if contract.parked_at is not None:
        return f"The subscription is parked: {contract.parked_because}"
    if contract.ends_at is not None and contract.ends_at > now and contract.ends_at != but:
        return f"Its end on {contract.ends_at:%-d %b %Y} is planned by now. Take that back first."
    following = contract.next_phase(now)
    if following is not None:
        return f"A change to {following.version.plan.name} is scheduled by now. Withdraw that first."
    return ""


def _running(contract: Subscription, now: datetime) -> int | None:
    phase = contract.phase_at(now)
    return phase.pk if phase else None


# Cancellations --------------------------------------------------------------------------------------------------------


@inverse
class SubscriptionCanceled:
    """A planned end is taken back, and the change that it had withdrawn is scheduled again."""

    verb = "subscription.canceled"
    permissions = ("customers.cancel_subscription",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        contract = contract_of(operation)
        if contract.settled_at is not None:
            return "Its final invoice is made. Enable the plan again."
        if operation.inputs.get("atOnce") or not contract.is_live:
            return "It ended. Enable the plan again."
        if contract.ends_at is None or contract.ends_at != instant(operation.effects.get("endsAt")):
            return "This end is no longer planned."
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        contract = contract_of(operation)
        former, end = planned_before(operation, now)
        said = f"{contract.product.name} goes on after {contract.ends_at:%-d %b %Y}."
        stays = ("First invoices that were given up with it stay void.",) if operation.effects.get("givesUp") else ()
        facts = {"ends": contract.ends_at, "next": former.pk if former else None, "end": end.get("endsAt")}
        return TakenBack(" ".join([said, *words_of(former, end)]), stays=stays, facts=facts)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        contract = contract_of(operation)
        withdraw(contract, reason=reason, actor=taking_back(actor, operation, "cancellation.withdrawn"), now=now)
        contract.refresh_from_db()
        plan_again(contract, *planned_before(operation, now), now)
        return line_of(operation)


@inverse
class CancellationWithdrawn:
    verb = "cancellation.withdrawn"
    permissions = ("customers.cancel_subscription",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        ends_at = _end_before(operation)
        if ends_at is None or ends_at <= now:
            return "The end that was planned is over; cancel the subscription anew."
        return nothing_else(contract_of(operation), now)

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        before, contract = operation.effects["before"], contract_of(operation)
        return TakenBack(words_of(None, before)[0], facts={"end": before, "on": _running(contract, now)})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        customer, contract = locked(operation, now)
        before = operation.effects["before"]
        plan_again(contract, None, before, now)
        return record(
            customer,
            "subscription.canceled",
            f"Canceled for {instant(before['endsAt']):%-d %b %Y} again",
            actor=actor,
            now=now,
            reason=reason,
            inputs={"subscription": contract.public_id, "atOnce": False},
            effects={"endsAt": before["endsAt"]},
            reverses=operation,
        )


# Terms, pauses, trials ------------------------------------------------------------------------------------------------


@inverse
class TermsChanged:
    verb = "subscription.terms_changed"
    permissions = ("customers.change_subscription",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        contract = contract_of(operation)
        if contract.state in (SubscriptionState.ENDED, SubscriptionState.WITHDRAWN):
            return OVER
        moved = [name for name, said in _terms(operation).items() if getattr(contract, name) != said["to"]]
        return f"{FIELDS[moved[0]].capitalize()} changed again since." if moved else ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        effects = tuple(
            Effect(FIELDS[name].capitalize(), _value(said["to"]), _value(said["from"]))
            for name, said in _terms(operation).items()
        )
        stays = ("Open invoices keep their due dates.",)
        return TakenBack("Changes the terms back.", effects=effects, stays=stays, facts=_terms(operation))

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        contract = contract_of(operation)
        present = {name: getattr(contract, name) for name in FIELDS}
        wanted = ContractTerms(**present | {name: said["from"] for name, said in _terms(operation).items()})
        by = taking_back(actor, operation, self.verb)
        change_contract_terms(contract, wanted, reason=reason, actor=by, now=now)
        return line_of(operation)


def _terms(operation: Operation) -> dict[str, Any]:
    return {name: said for name, said in operation.inputs.items() if name in FIELDS}


def _value(said: Any) -> str:
    return "as the account" if said is None else {True: "yes", False: "no"}.get(said, str(said))


@inverse
class CollectionPaused:
    """Collected again from now on; or paused as it was before, where the act changed a pause."""

    verb = "collection.paused"
    permissions = ("customers.pause_collection",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        contract = contract_of(operation)
        if not contract.is_live:
            return OVER
        if not collection.pauses(contract, now):
            return "Collection goes on already."
        said = (operation.inputs["behavior"], instant(operation.inputs["resumesAt"]))
        if said != (contract.collection_behavior, contract.collection_resumes_at):
            return "The pause was changed again since."
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        former = _former_pause(operation, now)
        said = "Pauses collection as it was paused before." if former else "Collects again from now on."
        stays = ("Invoices that the pause voided or gave up stay so; drafts that it kept are issued by hand.",)
        return TakenBack(said, stays=stays, facts={"act": operation.inputs, "former": former})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        contract, former = contract_of(operation), _former_pause(operation, now)
        if former:
            by = taking_back(actor, operation, self.verb)
            collection.pause(contract, **former, reason=reason, actor=by, now=now)
        else:
            by = taking_back(actor, operation, "collection.resumed")
            collection.resume(contract, reason=reason, actor=by, now=now)
        return line_of(operation)


def _former_pause(operation: Operation, now: datetime) -> dict[str, Any]:
    """The pause from before the act, unless it would be over by now."""
    before = operation.effects.get("before") or {}
    resumes_at = instant(before.get("resumesAt"))
    if not before or (resumes_at is not None and resumes_at <= now):
        return {}
    return {"behavior": before["behavior"], "resumes_at": resumes_at}


@inverse
class CollectionResumed:
    verb = "collection.resumed"
    permissions = ("customers.pause_collection",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        contract = contract_of(operation)
        if not contract.is_live:
            return OVER
        if collection.pauses(contract, now):
            return "Collection is paused again already."
        return "" if _former_pause(operation, now) else "The pause would be over by now."

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        former = _former_pause(operation, now)
        until = f" until {former['resumes_at']:%-d %b %Y}" if former["resumes_at"] else ""
        label = Subscription.WhilePaused(former["behavior"]).label.lower()
        stays = ("What was collected meanwhile stays collected.",)
        return TakenBack(f"Pauses collection again{until}: {label}.", stays=stays, facts=former)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        by = taking_back(actor, operation, "collection.paused")
        former = _former_pause(operation, now)
        collection.pause(contract_of(operation), **former, reason=reason, actor=by, now=now)
        return line_of(operation)


@inverse
class TrialExtended:
    verb = "trial.extended"
    permissions = ("customers.extend_trial",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        contract, was = contract_of(operation), instant(operation.effects["was"])
        if contract.state != SubscriptionState.TRIALING:
            return "The trial is over."
        if contract.trial_ends_at != instant(operation.effects["trialEndsAt"]):
            return "The end of the trial was moved again since."
        if was is None or was <= now:
            return "The trial would have ended by now. End it now instead."
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        was = instant(operation.effects["was"])
        facts = {"was": was, "is": operation.effects["trialEndsAt"]}
        return TakenBack(f"The trial ends on {was:%-d %b %Y} again.", facts=facts)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        was = instant(operation.effects["was"])
        assert was is not None, "a trial has an end"
        return trials.shorten(
            contract_of(operation), until=was, reason=reason, actor=actor, reverses=operation, now=now
        )


@inverse
class TrialShortened(TrialExtended):
    """The other way round: it lasts as long as before."""

    verb = "trial.shortened"

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        by = taking_back(actor, operation, "trial.extended")
        was = instant(operation.effects["was"])
        trials.extend(contract_of(operation), until=was, reason=reason, actor=by, now=now)
        return line_of(operation)
