"""Take an act back: find its inverse, show it, carry it out.

What is shown is what will be done: the inverse is carried out for the preview, the customer is looked at before and
after, and everything is rolled back. Undoing is an act of its own, so it can be undone, too: then the first one holds
again, and is taken back once more by taking back that.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from django.core import signing
from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.approving import Effect
from billing_admin.flows.approvals import ApprovalNeeded
from billing_admin.flows.courses import read_courses
from billing_admin.flows.forecast import forecast
from billing_admin.flows.renew import catch_up
from billing_admin.undoing import CANNOT, INVERSES, AsksMore, CannotTakeBack, Inverse, TakenBack
from catalog.models import Feature
from catalog.money import format_minor, grouped
from customers.journal import CLOCKWORK, Actor, plain_json, require_reason
from customers.models import Customer, Operation, Subscription
from entitlements.access import Access
from entitlements.check import check_all
from invoicing.readings import account_credit

SALT = "undo"
LIVES = timedelta(minutes=30)


class UndoOutdated(ValidationError):
    """What would be taken back has moved; `fresh` is what it would be now."""

    def __init__(self, fresh: TakenBack, why: str):
        self.fresh = fresh
        super().__init__(f"{why} Look at it again and confirm.", code="preview_outdated")


def inverse_of(operation: Operation) -> Inverse | None:
    return INVERSES.get(operation.verb)


def taken_back_by(operation: Operation) -> Operation | None:
    """The act that took it back; reads nothing where it was joined."""
    return getattr(operation, "reversed_by", None)


def may_be(operation: Operation) -> bool:
    """Whether to offer it in a list: known from the row alone. `why_not` has the exact answer."""
    return operation.verb in INVERSES and taken_back_by(operation) is None


def offers(operation: Operation, allows: Callable[[str], bool]) -> bool:
    """Whether to show somebody the button; the act itself asks again."""
    found = inverse_of(operation)
    if found is None or not may_be(operation):
        return False
    if isinstance(found, AsksMore):
        return any(allows(permission) for permission in found.possible)
    return all(allows(permission) for permission in found.permissions)


def permissions_for(operation: Operation) -> tuple[str, ...]:
    """Those of the act itself."""
    found = inverse_of(operation)
    if found is None:
        return ()
    try:
        return found.permissions_of(operation) if isinstance(found, AsksMore) else found.permissions
    except CannotTakeBack:  # what it was about is gone: it can only be looked at
        return found.permissions


def why_not(operation: Operation, now: datetime) -> str:
    """Why an act cannot be taken back, in a sentence; empty when it can."""
    by = taken_back_by(operation)
    if by is not None:
        return f"{by.actor} took it back on {by.at:%-d %b %Y}. To have it again, take that back."
    customer = operation.customer
    if customer is not None and customer.erased_at is not None:
        return "The data of this customer is erased."
    found = inverse_of(operation)
    if found is None:
        return CANNOT.get(operation.verb, "An act of this kind cannot be taken back.")
    if customer is not None and customer.closed_at is not None and operation.verb != "customer.closed":
        return "This customer is closed. Take the deletion back first."
    try:
        return found.why_not(operation, now)
    except CannotTakeBack as gone:
        return str(gone.messages[0])


# The preview ----------------------------------------------------------------------------------------------------------


def look(operation: Operation, now: datetime) -> TakenBack:
    """What taking an act back would do at this moment. Raises `CannotTakeBack`, and what the inverse would.

    Nothing is written: what is carried out to be looked at is rolled back.
    """
    with transaction.atomic():
        operation = held(operation)
        found = _able(operation, now)
        customer = operation.customer
        if customer is not None and customer.closed_at is None:
            catch_up(customer, now=now)
        planned = found.look(operation, now)
        before = dict(standing(customer, now)) if customer else {}
        found.take_back(operation, reason="To look at it first.", actor=CLOCKWORK, now=now)
        after = dict(standing(Customer.objects.get(pk=customer.pk), now)) if customer else {}
        transaction.set_rollback(True)
    return replace(planned, effects=(*planned.effects, *_moved(before, after)))


def held(operation: Operation) -> Operation:
    """The act with its customer, both locked, so that nobody takes it back beside us."""
    if operation.customer_id is not None:
        Customer.objects.select_for_update().get(pk=operation.customer_id)
    Operation.objects.select_for_update(of=("self",)).get(pk=operation.pk)
    found: Operation = Operation.objects.select_related("customer", "reversed_by").get(pk=operation.pk)
    return found


def _able(operation: Operation, now: datetime) -> Inverse:
    if why := why_not(operation, now):
        raise CannotTakeBack(why)
    found = inverse_of(operation)
    assert found is not None, "what can be taken back has an inverse"
    return found


def standing(customer: Customer, now: datetime) -> Iterator[tuple[str, str]]:
    """A customer as people see them, a label and words each: plans, access, the next invoices, money."""
    contracts = list(customer.subscriptions.live().with_phases())
    for contract in contracts:
        phase = contract.phase_at(now) or contract.kept_phases()[-1]
        plan = f"{phase.version.plan.name} {phase.version.label}"
        units = f" × {phase.quantity}" if phase.quantity > 1 else ""
        following = contract.next_phase(now)
        then = f", then {following.version.plan.name} on {following.starts_at:%-d %b %Y}" if following else ""
        ends = f", until {contract.ends_at:%-d %b %Y}" if contract.ends_at else ""
        yield _of("Plan", contract), f"{plan}{units}{then}{ends}"
    features: dict[str, str] = dict(Feature.objects.values_list("slug", "name"))
    for access in check_all(customer, now=now):
        yield features[access.feature], words_of(access)
    for contract, course in read_courses(customer, contracts, now=now):
        expected = forecast(course, {}, most=1)
        words = "none"
        if expected:
            words = f"{format_minor(expected[0].total, expected[0].currency)} on {expected[0].at:%-d %b %Y}"
        yield _of("Next invoice", contract), words
    if customer.currency:
        yield "Account credit", format_minor(account_credit(customer), customer.currency)
        owed = sum(invoice.due for invoice in customer.invoices.unpaid())
        yield "Open invoices", format_minor(owed, customer.currency)


def _of(what: str, contract: Subscription) -> str:
    return f"{what} of {contract.product.name}{f' (add-on {contract.public_id})' if contract.add_on else ''}"


def words_of(access: Access) -> str:
    """`72 left of 100, resets 1 Apr 2026`."""
    if not access.has_access:
        return "no access"
    if access.unlimited:
        return "unlimited"
    if access.value is True:
        return "on"
    if access.value is not None:
        return str(access.value)
    left = access.net if access.net is not None and access.net < 0 else access.remaining
    if left is None:
        return "on"
    of = f" of {grouped(access.limit)}" if access.limit and left <= access.limit else ""
    bonus = f", {grouped(access.bonus.remaining)} of it a bonus" if access.bonus and access.bonus.remaining else ""
    resets = f", resets {access.next_reset_at:%-d %b %Y}" if access.next_reset_at else ""
    return f"{grouped(left)} left{of}{bonus}{resets}"


def _moved(before: dict[str, str], after: dict[str, str]) -> Iterator[Effect]:
    for label in dict.fromkeys([*before, *after]):
        was, is_now = before.get(label, "none"), after.get(label, "none")
        if was != is_now:
            yield Effect(label, was, is_now)


# The act --------------------------------------------------------------------------------------------------------------


def fingerprint(taken: TakenBack) -> str:
    """The facts in one word. Use that was counted meanwhile is none of them."""
    facts = json.dumps([taken.sentence, plain_json(dict(taken.facts))], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:32]


def confirmation(operation: Operation, taken: TakenBack, now: datetime) -> str:
    """A signed word for "I saw this": pass it to `undo`."""
    seen = {"o": operation.public_id, "f": fingerprint(taken), "u": (now + LIVES).isoformat()}
    return signing.dumps(seen, salt=SALT, compress=True)


@transaction.atomic
def undo(operation: Operation, *, reason: str, actor: Actor, now: datetime, confirmed: str | None = None) -> Operation:
    """Carry out the inverse of an act. Without a confirmation it is decided and done at this moment.

    Returns the line in the journal, which points at the act. Raises `ReasonRequired`, `CannotTakeBack`,
    `UndoOutdated`, and what the inverse refuses.
    """
    reason = require_reason(reason, "taking an act back")
    operation = held(operation)
    found = _able(operation, now)
    if operation.customer is not None and operation.customer.closed_at is None:
        catch_up(operation.customer, now=now)
    if confirmed is not None:
        _refuse_other(operation, found, confirmed, now)
    try:
        return found.take_back(operation, reason=reason, actor=actor, now=now)
    except ApprovalNeeded as needed:
        raise CannotTakeBack(f"{needed.why} Do it as an act of its own, and ask for approval there.") from needed


def _refuse_other(operation: Operation, found: Inverse, confirmed: str, now: datetime) -> None:
    try:
        seen = signing.loads(confirmed, salt=SALT)
    except signing.BadSignature:
        raise ValidationError(
            "The confirmation is not one of ours. Look at it again.", code="bad_confirmation"
        ) from None
    if seen["o"] != operation.public_id:
        raise ValidationError("The confirmation is of another act. Look at it again.", code="bad_confirmation")
    fresh = found.look(operation, now)
    if now >= datetime.fromisoformat(seen["u"]):
        raise UndoOutdated(fresh, "What you saw has expired.")
    if fingerprint(fresh) != seen["f"]:
        raise UndoOutdated(fresh, "Something changed since you looked.")
