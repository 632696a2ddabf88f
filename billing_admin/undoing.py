"""How acts are taken back. Each verb of the journal that can be has an `Inverse` here, by its name; each that cannot
has a sentence in `CANNOT`.

An inverse says what would be true again, what cannot be taken back, and does it: as an act of its own whose line in
the journal points at the first. `flows/undo.py` finds it, shows it and carries it out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar, runtime_checkable

from django.core.exceptions import ValidationError

from billing_admin.approving import Effect
from customers.journal import Actor, TakesBack
from customers.models import Operation


class CannotTakeBack(ValidationError):
    """An act that stays: its sentence says why, and what can be done instead."""

    def __init__(self, why: str):
        super().__init__(why, code="cannot_take_back")


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The inverse of one act as it would be now. `stays` names what cannot be taken back, a sentence each; `facts` are
    what must not move between looking and doing."""

    sentence: str
    effects: tuple[Effect, ...] = ()
    stays: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class Inverse(Protocol):
    """`permissions` are those of the act itself: who may do it may take it back."""

    @property
    def verb(self) -> str: ...

    @property
    def permissions(self) -> tuple[str, ...]: ...

    def why_not(self, operation: Operation, now: datetime) -> str:
        """Why it can no longer be taken back, in a sentence; empty when it can."""

    def look(self, operation: Operation, now: datetime) -> TakenBack: ...

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        """One transaction; the line in the journal has `reverses=operation`."""


@runtime_checkable
class AsksMore(Protocol):
    """An inverse whose act takes other permissions from case to case, one of the `possible` ones."""

    @property
    def possible(self) -> tuple[str, ...]: ...

    def permissions_of(self, operation: Operation) -> tuple[str, ...]: ...


INVERSES: dict[str, Inverse] = {}


Made = TypeVar("Made", bound=Inverse)


def inverse(made: type[Made]) -> type[Made]:
    """Register how acts of one verb are taken back."""
    its = made()
    INVERSES[its.verb] = its
    return made


def taking_back(actor: Actor, operation: Operation, verb: str) -> Actor:
    """The actor for a verb that writes its own line: the one of this name will point at what is undone."""
    return replace(actor, takes_back=TakesBack(operation, verb))


def line_of(operation: Operation) -> Operation:
    """The line that takes an act back, once it is written. Raises `CannotTakeBack` where the verb found nothing."""
    made = Operation.objects.filter(reverses=operation).first()
    if made is None:
        raise CannotTakeBack("Nothing of this act is left to take back.")
    return made


INVOICED = "An issued document never changes. Correct it on its own page, by a credit note or by voiding it."
PAID = "Money that moved is not moved back by a click here. Refund it from the page of its invoice."
BY_TIME = "It came with its date, nobody decided it."
STRIPE = "It happened in Stripe, or follows what happened there; change it there."
ASKED_STRIPE = "Stripe was asked already; what it did since is seen on the page of the invoice."
CREATED = "What was made stays on record; archive or delete it instead."
DRAFT = "A draft is changed by changing it again."
VERSION = "A published version never changes. Make another version current, or publish a new one."

# Verbs without an inverse: why, and what to do instead.
CANNOT: dict[str, str] = {
    "event.voided": "A voided event stays voided; report the use again.",
    "seats.changed": "The level was reported by the application; report it again.",
    "override.ends_soon": "It is a notice, nothing was changed.",
    "override_batch.revoked": "Take back the revocations of single customers, or give the batch again.",
    "grant.ended": BY_TIME,
    # Contracts
    "plan.activated": "Access that was given was there. Cancel the plan, or correct its invoice.",
    "plan.switched": BY_TIME,
    "plan.migration_taken_back": "Move the customer again, in a migration of their own.",
    "migration.paused": "Resume the migration, on its page.",
    "migration.resumed": "Pause the migration again, on its page.",
    "migration.stopped": "Begin another migration for those who were not moved.",
    "migration.taken_back": "Begin another migration.",
    "plan.taken_back": "Enable the plan again; it is priced anew from then on.",
    "subscription.begun": BY_TIME,
    "subscription.renewed": BY_TIME,
    "subscription.ended": "What ended stays ended; enable the plan again.",
    "subscription.parked": "A person looks at it and lets it go on, on the page of runs.",
    "subscription.unparked": "What was due was carried out.",
    "trial.ended": "The first period has begun, and is billed. Correct its invoice, or cancel the plan.",
    # Documents and money
    "invoice.issued": INVOICED,
    "invoice.approved": INVOICED,
    "invoice.voided": "A void document stays void; its number is spent. Issue another one.",
    "invoice.reissued": INVOICED,
    "invoice.uncollectible": "Nothing was taken away: a payment is still taken, and settles it.",
    "invoice.reminded": "What was sent was sent.",
    "credit_note.voided": "A void document stays void. Credit the invoice again.",
    "line.added": DRAFT,
    "line.removed": DRAFT,
    "payment.received": PAID,
    "payment.late": PAID,
    "payment.expired": "The window was over. Enable the plan again.",
    "refund.paid_out": PAID,
    "refund.failed": PAID,
    "refund.parked": PAID,
    "refund.retried": ASKED_STRIPE,
    "wallet.topped_up": "Money that came in is in the wallet. Pay it out, or correct the wallet.",
    "wallet.paid_out": PAID,
    # Customers
    "customer.created": "Delete the customer instead; that can be taken back for 30 days.",
    "customer.reopened": "Delete the customer again.",
    "customer.erased": "What was erased is gone.",
    "customer.deleted_in_stripe": STRIPE,
    # Stripe
    "collection.started": ASKED_STRIPE,
    "collection.stopped": "Hand the invoice to Stripe anew, on its page.",
    "collection.retried": ASKED_STRIPE,
    "collection.parked": BY_TIME,
    "collection.chosen": "Choose again, on the same page.",
    "payment_method.asked": "What was sent was sent.",
    "payment_method.saved": STRIPE,
    "payment_method.chosen": "Choose another one, on the page of the customer.",
    "payment_method.removed": "Only the customer can give it to Stripe again.",
    "difference.repaired": "Look at the difference again; it is repaired from either side there.",
    "stripe.changed": "Change the settings of Stripe again, on their page.",
    "stripe.retried": ASKED_STRIPE,
    "stripe.linked": "Unlink the customer on the page of Stripe.",
    "stripe.linked_by_file": "Unlink single customers on the page of Stripe.",
    "stripe.unlinked": "Link the customer again on the page of Stripe.",
    "stripe.import_begun": STRIPE,
    "stripe.imported": STRIPE,
    "stripe_events.retried": ASKED_STRIPE,
    "stripe_events.fetched": ASKED_STRIPE,
    "subscription.mirrored": STRIPE,
    "subscription.followed": STRIPE,
    "plan.mirrored": STRIPE,
    # Catalog
    "product.created": CREATED,
    "plan.created": CREATED,
    "plan.published": VERSION,
    "plan.draft_saved": DRAFT,
    "plan.draft_discarded": "What a discarded draft held is gone; edit the plan again.",
    "plan.access_duplicated": DRAFT,
    "version.archived": "An archived version stays archived: publish its items as a new one.",
    "feature.created": CREATED,
    "feature.edited": "Edit the feature again, on its page.",
    "feature.deleted": "No plan used it; make it anew.",
    "meter.created": CREATED,
    "meter.edited": "Edit the meter again, on its page.",
    "coupon.created": "Archive the coupon instead.",
    "coupon.changed": "Edit the coupon again, on its page.",
    "promo_code.added": "Switch the promo code off instead.",
    "tax_rate.created": "Archive the rate instead.",
    "tax_rate.archived": "Documents go without an archived rate; make a new one.",
    # Deals
    "deal.created": "Void the deal instead.",
    "deal.changed": "Each version of a deal stays; change it again.",
    "deal.renamed": "Rename it again.",
    "deal.submitted": "Withdraw what was asked for, on the page of the request.",
    "deal.approved": "Reopen the deal instead.",
    "deal.sent": "What was sent was sent. Void the deal, or make another version.",
    "deal.accepted": "The customer has agreed. Void the deal instead.",
    "deal.reopened": "Submit it again.",
    "deal.voided": "Make a new deal from this one.",
    # The desk
    "approval.asked": "Withdraw the request, on its page.",
    "approval.refused": "Ask again.",
    "approval.withdrawn": "Ask again.",
    "approval.expired": "Ask again.",
    "approval.outdated": "Ask again.",
    "approval_rule.added": "Switch the rule off instead.",
    "approval_rule.changed": "Change the rule again, on its page.",
    "approval_rule.switched_on": "Switch the rule off again, on its page.",
    "approval_rule.switched_off": "Switch the rule on again, on its page.",
    "export.asked": "What was exported was exported.",
    "bulk.started": "Take back the acts on single customers; the list of acts can be narrowed to this run.",
    "deal.noted": "A note stays with its deal; add another one.",
    "api_key.revoked": "Nobody can read its secret again; issue another key.",
}
