"""Notes on a customer: what the next person should know."""

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction

from customers.journal import Actor, record
from customers.models import Customer, Note


class EmptyNote(ValidationError):
    def __init__(self) -> None:
        super().__init__("Write the note first.", code="empty_note")


@transaction.atomic
def add_note(customer: Customer, *, text: str, actor: Actor, now: datetime) -> Note:
    """Append a note; the journal says that there is one, the text stays with the note."""
    text = text.strip()
    if not text:
        raise EmptyNote
    note = Note.objects.create(customer=customer, author=actor.name, text=text, created_at=now)
    record(customer, "note.added", "Added a note", actor=actor, now=now, inputs={"note": note.pk})
    return note
