"""The states of a deal and the one map of its moves."""

from django.core.exceptions import ValidationError
from django.db import models


class DealState(models.TextChoices):
    DRAFT = "draft", "Draft"
    AWAITING_APPROVAL = "awaiting_approval", "Awaiting approval"
    APPROVED = "approved", "Approved"
    SENT = "sent", "Sent"
    ACCEPTED = "accepted", "Accepted"
    EXECUTED = "executed", "Executed"
    VOID = "void", "Void"


_S = DealState
# A changed deal is a draft again, whatever it was: nothing that was approved, sent or accepted is changed in secret.
NEXT: dict[str, set[str]] = {
    _S.DRAFT: {_S.AWAITING_APPROVAL, _S.APPROVED, _S.VOID},
    _S.AWAITING_APPROVAL: {_S.DRAFT, _S.APPROVED, _S.VOID},
    _S.APPROVED: {_S.DRAFT, _S.SENT, _S.ACCEPTED, _S.VOID},
    _S.SENT: {_S.DRAFT, _S.SENT, _S.ACCEPTED, _S.VOID},  # once more: mail gets lost
    _S.ACCEPTED: {_S.DRAFT, _S.EXECUTED, _S.VOID},
    _S.EXECUTED: {_S.ACCEPTED},  # taken back, before anything was renewed
}


class CannotMoveDeal(ValidationError):
    def __init__(self, state: str, wanted: str):
        now, then = DealState(state).label.lower(), DealState(wanted).label.lower()
        super().__init__(f"A deal that is {now} cannot become {then}.", code="deal_state")


def refuse_move(state: str, wanted: str) -> None:
    """Raises `CannotMoveDeal` unless the map allows the move."""
    if wanted not in NEXT.get(state, set()):
        raise CannotMoveDeal(state, wanted)
