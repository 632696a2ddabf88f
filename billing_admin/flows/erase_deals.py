"""What deals say of who a customer was, overwritten when the customer is erased. What was agreed in numbers stays."""

from collections.abc import Callable
from typing import Any

from customers.models import Customer
from deals.models import DealNote, DealVersion

FREE_TEXTS = ("introduction", "special_terms")


def erase_deals(customer: Customer, scrub: Callable[[Any], Any]) -> None:
    """Names, who signed, notes, and the words that somebody wrote into a deal."""
    for deal in customer.deals.all():
        deal.name, deal.void_reason = scrub(deal.name), scrub(deal.void_reason)
        deal.accepted_by = deal.accepted_by and "(erased)"
        deal.save(update_fields=["name", "void_reason", "accepted_by"])
    DealNote.objects.filter(deal__customer=customer).update(text="(erased)")
    for version in DealVersion.objects.filter(deal__customer=customer):
        texts = {name: scrub(version.content.get(name, "")) for name in FREE_TEXTS}
        version.content, version.message = version.content | texts, scrub(version.message)
        version.save(update_fields=["content", "message"])
