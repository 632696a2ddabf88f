"""Taking a change of plan back before the next renewal: the former version goes on, as a phase of its own.

What the change billed is given back: an invoice that is not paid is voided, of one that is paid all but use becomes
account credit by a credit note. Use stays counted, under the former allowance.
"""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from billing_admin.approving import Effect
from billing_admin.flows.cancel import cancel
from billing_admin.flows.corrections import credit_invoice, void_invoice
from billing_admin.flows.position import Position, read_position
from billing_admin.flows.undo_contracts import (
    ASSIGN,
    ENABLE,
    contract_of,
    locked,
    permission_of,
    phase_with,
    plan_again,
    planned_before,
)
from billing_admin.flows.undo_contracts import words_of as planned_words
from billing_admin.undoing import TakenBack, inverse, line_of, taking_back
from catalog.money import format_minor
from catalog.terms import ChangeKind
from customers import holdings, switch
from customers.contracts import MULTIPLYING, Contract
from customers.journal import Actor, record
from customers.models import AppliedCoupon, Customer, Operation, Phase, Subscription
from customers.states import SubscriptionState
from entitlements.allowances import contributions_of
from entitlements.balances import BucketMove, keeps_for_ever, reprovision
from entitlements.models import Balance, BalanceEntry, Grant
from entitlements.override import put_under_overrides
from entitlements.provision import apply_moves, enter
from invoicing.credit_note import ACCOUNT_CREDIT, credit_room
from invoicing.lines import USAGE
from invoicing.models import Invoice
from invoicing.readings import gross_of
from invoicing.states import InvoiceState

UNPAID = (InvoiceState.DRAFT, InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE)
BEGINS = (ChangeKind.FIRST, ChangeKind.ADD_ON)


@inverse
class PlanEnabled:
    verb = "plan.enabled"
    permissions = (ENABLE,)
    possible = (ENABLE, ASSIGN)

    def permissions_of(self, operation: Operation) -> tuple[str, ...]:
        return permission_of(phase_with(operation.effects.get("phase")))

    def why_not(self, operation: Operation, now: datetime) -> str:
        phase, contract = phase_with(operation.effects.get("phase")), contract_of(operation)
        return _over(operation, phase, contract, now) or _billed_apart(operation, phase, contract)

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        phase, former = phase_with(operation.effects["phase"]), _former(operation)
        name = f"{phase.version.plan.name} {phase.version.label}"
        said = f"{name} ends." if former is None else f"Back to {former.version.plan.name} {former.version.label}."
        if _waits(phase):
            said = f"{name} no longer waits for its first payment."
        invoices = list(_invoices(operation))
        stays = [f"{_use(i)} for use on {i} stays billed." for i in invoices if _use_of(i) and not _unpaid(i)]
        stays += ["What was used since stays used, and counts under the former allowance."] * (former is not None)
        planned = planned_words(*planned_before(operation, now)) if former else []
        return TakenBack(
            " ".join([said, *planned]),
            effects=tuple(effect for invoice in invoices for effect in _given_back(invoice)),
            stays=(*stays, *_money_stays(invoices)),
            facts={
                "phase": phase.pk,
                "former": former.pk if former else None,
                "invoices": [(i.public_id, i.state, i.total, i.paid, i.credit_applied, i.offset) for i in invoices],
            },
        )

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        customer, contract = locked(operation, now)
        phase, former = phase_with(operation.effects["phase"]), _former(operation)
        if _waits(phase) and former is not None:
            by = taking_back(actor, operation, "invoice.voided")
            for invoice in _invoices(operation):
                void_invoice(invoice, reason=reason, actor=by, now=now)
            return line_of(operation)
        if former is None:
            by = taking_back(actor, operation, "subscription.canceled")
            nothing = Subscription.Unused.NOTHING
            cancel(contract, at_once=True, bill_use=False, unused=nothing, reason=reason, actor=by, now=now)
            made = line_of(operation)
        else:
            made = _go_back(customer, contract, phase, former, operation, reason=reason, actor=actor, now=now)
        _drop_coupons(operation, contract, actor=actor, now=now)
        for invoice in _invoices(operation):
            _give_back(invoice, reason=reason, actor=actor, now=now)
        return made


# Whether it can be ----------------------------------------------------------------------------------------------------


def _former(operation: Operation) -> Phase | None:
    """What the customer was on in this contract; None where it began with the act."""
    before = operation.effects.get("before") or {}
    return phase_with(before["phase"]) if before.get("phase") else None


def _waits(phase: Phase) -> bool:
    return phase.pending_since is not None and phase.withdrawn_at is None


def _over(operation: Operation, phase: Phase, contract: Subscription, now: datetime) -> str:
    """Why there is nothing to go back from."""
    if phase.withdrawn_at is not None:
        return f"It was given up on {phase.withdrawn_at:%-d %b %Y}."
    if contract.state in (SubscriptionState.ENDED, SubscriptionState.WITHDRAWN):
        return "The subscription is over."
    if _waits(phase) or contract.state == SubscriptionState.PENDING_PAYMENT:
        return ""
    if contract.parked_at is not None:
        return f"The subscription is parked: {contract.parked_because}"
    if contract.settled_at is not None:
        return "The final invoice of this subscription is made."
    present = contract.phase_at(now)
    if present is None or present.pk != phase.pk:
        return "The plan was changed, or began a period of its own, since. Take that back first, or enable the plan."
    if contract.period_starts_at is not None and contract.period_starts_at > phase.starts_at:
        return f"It was renewed on {contract.period_starts_at:%-d %b %Y}. Change the plan instead."
    return ""


def _billed_apart(operation: Operation, phase: Phase, contract: Subscription) -> str:
    """Why its money or its windows cannot be put back as they were."""
    former = _former(operation)
    if former is None or _waits(phase):
        return ""
    follows = [each.version.plan.kind in MULTIPLYING for each in (former, phase)]
    restarted = former.is_trial != phase.is_trial or former.anchor != phase.anchor
    if follows[0] != follows[1] or (all(follows) and restarted):
        return "It began a new billing cycle. Enable the former plan instead, and correct the invoice."
    note = next((i for i in _invoices(operation) if i.kind == Invoice.Kind.CREDIT_NOTE), None)
    if note is not None:
        return f"It gave {format_minor(-note.total, note.currency)} back ({note}). Enable the former plan instead."
    if Grant.objects.filter(balances__entries__operation=operation).exists():
        return "Units that were bought once became a purchase. Enable the former plan instead."
    return ""


# Its money ------------------------------------------------------------------------------------------------------------


def _invoices(operation: Operation) -> Iterator[Invoice]:
    """What the act issued and nobody corrected as a whole."""
    rows = Invoice.objects.filter(operation=operation).exclude(state=InvoiceState.VOID).order_by("id")
    yield from rows.select_related("customer", "subscription", "gates")


def _unpaid(invoice: Invoice) -> bool:
    return invoice.state in UNPAID


def _use_of(invoice: Invoice) -> int:
    """What it charges for use with tax, minor units."""
    return sum(gross_of(line) for line in invoice.lines.filter(kind=USAGE))


def _use(invoice: Invoice) -> str:
    return format_minor(_use_of(invoice), invoice.currency)


def _creditable(invoice: Invoice) -> int:
    """All but use, as far as it was paid and not given back yet."""
    room = credit_room(invoice)
    return max(0, min(room.rest - _use_of(invoice), room.most(ACCOUNT_CREDIT)))


def _given_back(invoice: Invoice) -> Iterator[Effect]:
    money = format_minor(invoice.total, invoice.currency)
    if _unpaid(invoice):
        yield Effect(str(invoice), f"{invoice.get_state_display().lower()}, {money}", "void")
    elif amount := _creditable(invoice):
        back = format_minor(amount, invoice.currency)
        yield Effect(str(invoice), f"paid, {money}", f"paid, with a credit note of {back}")


def _money_stays(invoices: list[Invoice]) -> Iterator[str]:
    for invoice in invoices:
        paid = invoice.paid if _unpaid(invoice) else min(invoice.paid, _creditable(invoice))
        if paid:
            money = format_minor(paid, invoice.currency)
            yield f"{money} that was paid for {invoice} is not paid back: it becomes account credit."


def _give_back(invoice: Invoice, *, reason: str, actor: Actor, now: datetime) -> None:
    if _unpaid(invoice):
        void_invoice(invoice, reason=reason, actor=actor, now=now)
    elif amount := _creditable(invoice):
        credit_invoice(invoice, amount=amount, settlement=ACCOUNT_CREDIT, reason=reason, actor=actor, now=now)


def _drop_coupons(operation: Operation, contract: Subscription, *, actor: Actor, now: datetime) -> None:
    """Coupons that came with the act go with it; those that somebody applied have acts of their own."""
    if not operation.inputs.get("coupons"):
        return
    came = AppliedCoupon.objects.filter(subscription=contract, applied_at=operation.at, removed_at=None)
    own = contract.customer.operations.filter(verb="coupon.applied").values_list("effects__applied", flat=True)
    came.exclude(public_id__in=list(own)).update(removed_at=now, removed_by=actor.name)


# The way back ---------------------------------------------------------------------------------------------------------


def _go_back(
    customer: Customer,
    contract: Subscription,
    phase: Phase,
    former: Phase,
    operation: Operation,
    *,
    reason: str,
    actor: Actor,
    now: datetime,
) -> Operation:
    at = now.replace(microsecond=0)
    position = read_position(customer, former.version.plan, at=at, subscription=contract)
    kept = contract.next_phase(now) is not None or (contract.ends_at is not None and contract.ends_at > now)
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
    if not kept:
        plan_again(contract, *planned_before(operation, now), now)
    made = record(
        customer,
        "plan.taken_back",
        f"Back to {former.version.plan.name} {former.version.label} from "
        f"{phase.version.plan.name} {phase.version.label}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"subscription": contract.public_id, "version": former.version_id},
        effects={"phase": back.pk, "startsAt": at},
        reverses=operation,
    )
    back.subscription = contract
    moves = _moves(position, holdings.contract_of(back, customer))
    apply_moves(customer, moves, used_later={}, now=now, operation=made)
    _bring_use_back(operation, made, customer, now=now)
    put_under_overrides(customer, now=now, operation=made)
    return made


def _moves(position: Position, after: Contract) -> list[BucketMove]:
    """Use is carried, whichever plan it was; nothing is granted afresh."""
    held = position.held
    assert held is not None, "there is a plan to go back from"
    follows = held.contract.follows_contract
    owner = (held.subscription_id, None) if follows else (None, held.contract.plan_id)
    rows = [bucket for bucket in position.buckets if bucket.owner == owner]
    if not follows and held.contract.plan_id != after.plan_id:
        rows = [row for row in rows if keeps_for_ever(row.item)]
    contributions = contributions_of([after])
    return reprovision(
        rows, contributions, position.at, renew_consumables=False, new_cycle=False, waiting=position.waiting
    )


def _bring_use_back(operation: Operation, made: Operation, customer: Customer, *, now: datetime) -> None:
    """What was used, and edited, in windows that the change had closed counts again; but not what it billed of it."""
    closed = BalanceEntry.objects.filter(operation=operation, kind=BalanceEntry.Kind.CLOSE).values("balance")
    rows = Balance.objects.promised().filter(pk__in=closed, subscription__isnull=False).select_for_update()
    paid = {
        line.balance_id for invoice in _invoices(operation) if not _unpaid(invoice)
        for line in invoice.lines.filter(kind=USAGE)
    }  # fmt: skip
    for row in rows.order_by("id"):
        same = Balance.objects.promised().filter(customer=customer, feature=row.feature_id, closed_at=None)
        target = same.filter(subscription=row.subscription_id).select_for_update().first()
        if target is None or target.pk == row.pk:
            continue
        adjusted = row.adjusted + row.withheld
        room = (row.granted or Decimal(0)) + adjusted
        used = min(row.used, max(Decimal(0), room)) if row.pk in paid else row.used
        for each, sign in ((row, -1), (target, 1)):
            each.used, each.adjusted = each.used + sign * used, each.adjusted + sign * adjusted
            each.save(update_fields=["used", "adjusted"])
            if used != adjusted:
                amount = sign * (adjusted - used)
                enter(each, BalanceEntry.Kind.MOVED, amount, now=now, operation=made)
