"""How a customer can pay a document: one entry per provider. `manual` is a transfer that staff record by hand.

A provider that takes payments on a page of its own answers with that page's address; the hosted document then shows a
button. Register it in `PROVIDERS`; nothing else has to know.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from catalog.after import after_commit
from invoicing.models import BillingSettings, Invoice


@dataclass(frozen=True, slots=True)
class Way:
    """One way to pay: the provider's page (`url`), or what to do without one; `reference` finds the payment again.

    `failed` says why the provider could not charge by itself: one of `FAILURES`. `save_url` is the page on which the
    customer saves what is charged by itself from then on; `has_saved` that there is something already.
    """

    provider: str
    url: str = ""
    instructions: str = ""
    reference: str = ""
    failed: str = ""
    save_url: str = ""
    has_saved: bool = False


MANUAL = "manual"
# Why a payment failed, as customers may know it; nothing is said of lost cards or of fraud.
FAILURES = ("failed_insufficient_funds", "failed_expired_card", "failed_generic", "failed_action")

Provider = Callable[[Invoice, BillingSettings], Way | None]


def transfer(invoice: Invoice, account: BillingSettings) -> Way:
    """A bank transfer: the account's own words, and the number of the document as its reference."""
    return Way(MANUAL, instructions=account.payment_instructions.strip(), reference=str(invoice))


PROVIDERS: dict[str, Provider] = {MANUAL: transfer}
# Who wants to know, soon, that a document was issued, paid or annulled. They find it by themselves as well, later.
LISTENERS: list[Callable[[str], None]] = []


def tell_providers(invoice: Invoice) -> None:
    """By the public id of the document, once everything is written; what goes wrong there undoes nothing here."""
    for listener in LISTENERS:
        after_commit(listener, invoice.public_id)


def ways_to_pay(
    invoice: Invoice, account: BillingSettings, providers: Mapping[str, Provider] | None = None
) -> tuple[Way, ...]:
    """What the customer may choose from, while something is due; those with a page of their own first."""
    if not invoice.due or invoice.state == Invoice.State.DRAFT:
        return ()
    asked = PROVIDERS if providers is None else providers
    ways = [way for provider in asked.values() if (way := provider(invoice, account))]
    return tuple(sorted(ways, key=lambda way: not way.url))
