"""Deals: what sales engineers build for one customer, version by version, until both sides have agreed and it is done.

What a deal says is the content of its versions (`terms.py`); a version is never changed once it was shown to anybody.
"""

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q

from catalog.models import PlanVersion
from customers.models import Customer, Operation, Subscription, public_id
from deals.states import DealState, refuse_move


def new_deal_id() -> str:
    return public_id("deal")


class DealQuerySet(models.QuerySet):
    def templates(self) -> "DealQuerySet":
        return self.filter(is_template=True)

    def open(self) -> "DealQuerySet":
        """Neither carried out nor given up."""
        return self.filter(is_template=False).exclude(state__in=[DealState.EXECUTED, DealState.VOID])

    def to_expire(self, now: datetime) -> "DealQuerySet":
        return self.open().filter(expires_at__lte=now)


class Deal(models.Model):
    """One deal, or a template for deals (then without a customer)."""

    State = DealState

    public_id = models.CharField(max_length=24, unique=True, default=new_deal_id, editable=False)
    name = models.CharField(max_length=200)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, null=True, related_name="deals")
    base_version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="deals")
    is_template = models.BooleanField(default=False)
    made_from = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="copies")
    amends = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="amendments")
    state = models.CharField(max_length=20, choices=DealState, default=DealState.DRAFT)
    owner = models.CharField(max_length=150)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, help_text="Until when the offer stands.")
    approved_fingerprint = models.CharField(max_length=64, blank=True, help_text="Of the version that was approved.")
    approval = models.CharField(max_length=24, blank=True)
    approved_by = models.CharField(max_length=150, blank=True)
    approved_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    accepted_at = models.DateTimeField(null=True)
    accepted_by = models.CharField(max_length=200, blank=True, help_text="Who signed on the other side, and how.")
    executed_at = models.DateTimeField(null=True)
    voided_at = models.DateTimeField(null=True)
    void_reason = models.TextField(blank=True)
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, null=True, related_name="deals")
    operation = models.ForeignKey(Operation, on_delete=models.PROTECT, null=True, related_name="+")

    objects = DealQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        permissions = [
            ("send_deal", "Can send a deal and record its acceptance"),
            ("execute_deal", "Can execute an accepted deal"),
        ]
        constraints = [
            models.CheckConstraint(
                name="deal_has_a_customer", condition=Q(is_template=True, customer=None) | Q(is_template=False)
            ),
        ]
        indexes = [models.Index(fields=["state", "-id"], name="deal_state")]

    def __str__(self) -> str:
        return self.name

    def move_to(self, state: str) -> None:
        refuse_move(self.state, state)
        self.state = state


class DealVersion(models.Model):
    """What a deal says, numbered; the newest one counts. Frozen once it was submitted, sent or followed by another."""

    deal = models.ForeignKey(Deal, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    content = models.JSONField(help_text="DealTerms, see terms.py.")
    message = models.CharField(max_length=500, blank=True, help_text="What this version changes.")
    figures = models.JSONField(
        default=dict, help_text="What lists show of it: value, a month, discount, as it was written."
    )
    fingerprint = models.CharField(max_length=64)
    frozen_at = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("deal", "-number")
        constraints = [models.UniqueConstraint(fields=["deal", "number"], name="deal_version_once")]

    def __str__(self) -> str:
        return f"{self.deal.name} v{self.number}"


class DealNote(models.Model):
    """What staff want the next person to know about a deal."""

    deal = models.ForeignKey(Deal, on_delete=models.CASCADE, related_name="notes")
    author = models.CharField(max_length=150)
    text = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("-created_at", "-id")
