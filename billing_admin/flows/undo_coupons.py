"""Taking back coupons on a customer, and money that comes off invoices."""

from collections.abc import Iterator
from datetime import datetime

from billing_admin.flows.coupons import bonuses_of
from billing_admin.flows.enable_plan import enable_plan, propose
from billing_admin.flows.position import held_subscription
from billing_admin.flows.renew import catch_up
from billing_admin.flows.rewards import remove, void_invoice_credit
from billing_admin.flows.undo_balances import units_taken
from billing_admin.undoing import CannotTakeBack, TakenBack, inverse, line_of, taking_back
from catalog.coupons import gives
from catalog.models import Coupon
from catalog.money import format_minor
from customers.journal import Actor, record
from customers.models import AppliedCoupon, Customer, Operation
from entitlements.grant import grant
from entitlements.models import Balance, Grant
from invoicing.models import Deduction, InvoiceCredit
from invoicing.rewards import taken_of_credits
from invoicing.states import InvoiceState

APPLY = ("customers.apply_coupon",)


def _applied(public_id: str) -> AppliedCoupon:
    rows = AppliedCoupon.objects.select_related("customer", "coupon__feature", "coupon__free_plan", "subscription")
    found: AppliedCoupon = rows.get(public_id=public_id)
    return found


def _taken(applied: AppliedCoupon) -> Iterator[str]:
    """What invoices took of it, a sentence each."""
    deducted = Deduction.objects.filter(applied_coupon=applied) | Deduction.objects.filter(
        invoice_credit__applied_coupon=applied
    )
    invoices = deducted.exclude(invoice__state__in=[InvoiceState.VOID, InvoiceState.DRAFT]).select_related("invoice")
    for found in invoices.order_by("id"):
        money = format_minor(found.amount, found.invoice.currency)
        yield f"{money} came off {found.invoice}; that stays."


@inverse
class CouponApplied:
    verb = "coupon.applied"
    permissions = APPLY

    def why_not(self, operation: Operation, now: datetime) -> str:
        return _over(_applied(operation.effects["applied"]), now)

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        applied = _applied(operation.effects["applied"])
        used = Balance.objects.filter(grant__in=bonuses_of(applied), used__gt=0).exists()
        stays = [*_taken(applied), "It still counts as redeemed."]
        stays += ["What was used of its units stays used."] if used else []
        return TakenBack(
            f"Removes {applied.coupon.name}: {gives(applied.coupon)}.",
            stays=tuple(stays),
            facts={"applied": applied.public_id, "ends": applied.ends_at},
        )

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        by = taking_back(actor, operation, "coupon.removed")
        remove(_applied(operation.effects["applied"]), reason=reason, actor=by, now=now)
        return line_of(operation)


def _over(applied: AppliedCoupon, now: datetime) -> str:
    if applied.removed_at is not None:
        return f"{applied.coupon.name} was removed on {applied.removed_at:%-d %b %Y} already."
    if applied.ends_at is not None and applied.ends_at <= now:
        return f"{applied.coupon.name} ended on {applied.ends_at:%-d %b %Y}."
    return ""


@inverse
class CouponRemoved:
    """The same coupon holds again, with what is left of it: that is counted from documents."""

    verb = "coupon.removed"
    permissions = APPLY

    def why_not(self, operation: Operation, now: datetime) -> str:
        applied = _applied(operation.inputs["applied"])
        name = applied.coupon.name
        if applied.removed_at is None:
            return f"The customer has {name}."
        if applied.ends_at is not None and applied.ends_at <= now:
            return f"{name} would have ended on {applied.ends_at:%-d %b %Y}."
        beside = AppliedCoupon.objects.kept(now).filter(customer=applied.customer, coupon=applied.coupon)
        if beside.exists():
            return f"The customer has {name} again."
        free = applied.coupon.free_plan
        if free is not None and held_subscription(applied.customer, free) is not None:
            return f"The customer has a plan of {free.product.name} by now."
        given = applied.subscription
        if given is not None and given.ended_at is not None and applied.coupon.kind != Coupon.Kind.FREE_PRODUCT:
            return "The subscription that it was for has ended."
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        applied = _applied(operation.inputs["applied"])
        return TakenBack(
            f"Applies {applied.coupon.name} again: {gives(applied.coupon)}, with what is left of it.",
            stays=("Invoices since it was removed stay as they are.",),
            facts={"applied": applied.public_id},
        )

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        applied = _applied(operation.inputs["applied"])
        customer = Customer.objects.select_for_update().get(pk=applied.customer_id)
        catch_up(customer, now=now)
        removed_at, applied.removed_at, applied.removed_by = applied.removed_at, None, ""
        applied.save(update_fields=["removed_at", "removed_by"])
        made = record(
            customer,
            "coupon.applied",
            f"Applied {applied.coupon.name} again: {gives(applied.coupon)}",
            actor=actor,
            now=now,
            reason=reason,
            inputs={"coupon": applied.coupon.code, "again": True},
            effects={"applied": applied.public_id, "endsAt": applied.ends_at},
            reverses=operation,
        )
        applied.invoice_credits.filter(voided_at=removed_at).update(voided_at=None)
        for given in Grant.objects.filter(pk__in=_voided_by(operation)).select_related("feature"):
            if units := units_taken(operation, given):
                ends, label = given.ends_at, given.label
                grant(customer, given.feature, units, ends_at=ends, label=label, operation=made, now=now)
        _give_product(applied, customer, actor=actor, now=now)
        return made


def _voided_by(operation: Operation) -> list[int]:
    entries = operation.balance_entries.filter(balance__grant__isnull=False)
    return [pk for pk in entries.values_list("balance__grant", flat=True).distinct() if pk]


def _give_product(applied: AppliedCoupon, customer: Customer, *, actor: Actor, now: datetime) -> None:
    plan = applied.coupon.free_plan
    if applied.coupon.kind != Coupon.Kind.FREE_PRODUCT or plan is None:
        return
    proposal = propose(customer, plan, ends_at=applied.ends_at)
    because = f"Given by the coupon {applied.coupon.name}."
    applied.subscription = enable_plan(customer, proposal, reason=because, actor=actor, now=now).subscription
    applied.save(update_fields=["subscription"])


# Money off invoices ---------------------------------------------------------------------------------------------------


def _credit(operation: Operation) -> InvoiceCredit:
    found: InvoiceCredit = InvoiceCredit.objects.select_related("customer").get(public_id=operation.inputs["credit"])
    return found


@inverse
class InvoiceCreditGiven:
    verb = "invoice_credit.given"
    permissions = ("invoicing.change_invoicecredit",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        credit = _credit(operation)
        if credit.voided_at is not None:
            return f"It was taken back on {credit.voided_at:%-d %b %Y} already."
        if credit.expires_at is not None and credit.expires_at <= now:
            return f"It ended on {credit.expires_at:%-d %b %Y}."
        return "" if credit.amount > _used(credit) else "All of it came off invoices."

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        credit = _credit(operation)
        used = _used(credit)
        left, gone = format_minor(credit.amount - used, credit.currency), format_minor(used, credit.currency)
        stays = (f"{gone} came off invoices; that stays.",) if used else ()
        facts = {"credit": credit.public_id, "used": used}
        return TakenBack(f"Takes back {left} of {credit.label}.", stays=stays, facts=facts)

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        by = taking_back(actor, operation, "invoice_credit.voided")
        void_invoice_credit(_credit(operation), reason=reason, actor=by, now=now)
        return line_of(operation)


def _used(credit: InvoiceCredit) -> int:
    taken: int = taken_of_credits([credit]).get(credit.pk, 0)
    return taken


@inverse
class InvoiceCreditVoided:
    verb = "invoice_credit.voided"
    permissions = ("invoicing.add_invoicecredit",)

    def why_not(self, operation: Operation, now: datetime) -> str:
        credit = _credit(operation)
        if credit.voided_at is None:
            return "It holds."
        if credit.expires_at is not None and credit.expires_at <= now:
            return f"It would have ended on {credit.expires_at:%-d %b %Y}."
        return "" if credit.amount > _used(credit) else "All of it came off invoices."

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        credit = _credit(operation)
        left = format_minor(credit.amount - _used(credit), credit.currency)
        return TakenBack(f"Gives {left} of {credit.label} again.", facts={"credit": credit.public_id, "left": left})

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        credit = InvoiceCredit.objects.select_for_update(of=("self",)).get(pk=_credit(operation).pk)
        if credit.voided_at is None:
            raise CannotTakeBack("It holds.")
        credit.voided_at = None
        credit.save(update_fields=["voided_at"])
        left = credit.amount - _used(credit)
        return record(
            operation.customer,
            "invoice_credit.given",
            f"Gave {format_minor(left, credit.currency)} for the next invoices again: {credit.label}",
            actor=actor,
            now=now,
            reason=reason,
            inputs={"credit": credit.public_id, "amount": left, "currency": credit.currency},
            reverses=operation,
        )
