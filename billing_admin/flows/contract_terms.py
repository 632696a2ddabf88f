"""Terms of one contract that differ from the account's: days to pay, the window of a first invoice, its approval."""

from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction

from customers.journal import Actor, record, require_reason
from customers.mirrored import refuse_mirrored
from customers.models import Customer, Subscription
from customers.states import SubscriptionState
from invoicing.account import BOUNDS

FIELDS = {
    "net_terms_days": "net terms",
    "payment_window_hours": "the payment window",
    "approve_first_invoice": "the approval of its first invoice",
}


class BadTerm(ValidationError):
    """A value that a contract cannot have, beside its field."""

    def __init__(self, field: str, why: str):
        self.field = field
        super().__init__(why, code="bad_term")


class ContractOver(ValidationError):
    def __init__(self) -> None:
        super().__init__("This subscription is over; its terms stay as they were.", code="already_ended")


@dataclass(frozen=True, slots=True)
class ContractTerms:
    """What a contract has of its own; None: as the account does."""

    net_terms_days: int | None = None
    payment_window_hours: int | None = None
    approve_first_invoice: bool | None = None

    @classmethod
    def of(cls, subscription: Subscription) -> "ContractTerms":
        return cls(*(getattr(subscription, field) for field in FIELDS))


@transaction.atomic
def change_contract_terms(
    subscription: Subscription, wanted: ContractTerms, *, reason: str, actor: Actor, now: datetime
) -> Subscription:
    """Set what a contract has of its own. It holds for invoices from now on; open ones keep their due date.

    Raises `ReasonRequired`, `BadTerm`, `ContractOver`.
    """
    reason = require_reason(reason, "terms of their own")
    for field in ("net_terms_days", "payment_window_hours"):
        least, most, why = BOUNDS[field]
        value = getattr(wanted, field)
        if value is not None and not least <= value <= most:
            raise BadTerm(field, why)
    customer = Customer.objects.select_for_update().get(pk=subscription.customer_id)
    subscription = Subscription.objects.select_for_update().get(pk=subscription.pk)
    if subscription.state in (SubscriptionState.ENDED, SubscriptionState.WITHDRAWN):
        raise ContractOver
    refuse_mirrored(subscription)
    before = ContractTerms.of(subscription)
    changed = [field for field in FIELDS if getattr(before, field) != getattr(wanted, field)]
    if not changed:
        return subscription
    for field in changed:
        setattr(subscription, field, getattr(wanted, field))
    subscription.save(update_fields=changed)
    record(
        customer,
        "subscription.terms_changed",
        f"Changed {', '.join(FIELDS[field] for field in changed)}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"subscription": subscription.public_id}
        | {field: {"from": getattr(before, field), "to": getattr(wanted, field)} for field in changed},
    )
    return subscription
