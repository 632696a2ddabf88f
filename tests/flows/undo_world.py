"""Taking acts back in tests: look at the inverse, confirm it, carry it out."""

from datetime import datetime

from billing_admin.flows.undo import confirmation, look, undo, why_not
from billing_admin.undoing import TakenBack
from customers.models import Customer, Operation
from tests.builders import STAFF


def last(who: Customer | None, verb: str = "") -> Operation:
    """The newest act on a customer, of one verb if it is named."""
    found = Operation.objects.filter(customer=who).newest()
    return (found.filter(verb=verb) if verb else found)[0]


def take_back(operation: Operation, *, now: datetime) -> Operation:
    """As a person does it: look, then confirm what was seen."""
    operation = Operation.objects.get(pk=operation.pk)
    taken = look(operation, now)
    return undo(operation, reason="a mistake", actor=STAFF, now=now, confirmed=confirmation(operation, taken, now))


def seen(operation: Operation, *, now: datetime) -> TakenBack:
    return look(Operation.objects.get(pk=operation.pk), now)


def why(operation: Operation, *, now: datetime) -> str:
    return why_not(Operation.objects.get(pk=operation.pk), now)


def changes(taken: TakenBack) -> dict[str, tuple[str, str]]:
    return {effect.label: (effect.before, effect.after) for effect in taken.effects}
