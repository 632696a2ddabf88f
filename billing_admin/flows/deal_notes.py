"""Verb: write a note on a deal."""

from datetime import datetime

from django.db import transaction

from billing_admin.flows.details import EmptyNote
from customers.journal import Actor, record
from deals.models import Deal, DealNote


@transaction.atomic
def add_deal_note(deal: Deal, *, text: str, actor: Actor, now: datetime) -> DealNote:
    """Append a note; the journal says that there is one, the text stays with the note. Raises `EmptyNote`."""
    text = text.strip()
    if not text:
        raise EmptyNote
    note = DealNote.objects.create(deal=deal, author=actor.name, text=text, created_at=now)
    inputs = {"deal": deal.public_id}
    record(deal.customer, "deal.noted", f"Added a note to the deal {deal.name}", actor=actor, now=now, inputs=inputs)
    return note
