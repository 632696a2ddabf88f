"""What they may use: one balance per contributing item and window, and the events that used it up."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from catalog.models import Feature, Plan, PlanItem
from customers.models import Customer, Operation, Subscription, public_id

UNITS = {"max_digits": 30, "decimal_places": 6}


def units(**options: Any) -> models.DecimalField:
    """A column of units: up to 24 digits and 6 decimals."""
    return models.DecimalField(max_digits=UNITS["max_digits"], decimal_places=UNITS["decimal_places"], **options)


def new_event_id() -> str:
    return public_id("evt")


class BalanceQuerySet(models.QuerySet):
    def open(self, now: datetime) -> "BalanceQuerySet":
        """In their window, and not replaced by another."""
        return self.filter(Q(ends_at=None) | Q(ends_at__gt=now), closed_at=None, starts_at__lte=now)

    def due(self, now: datetime) -> "BalanceQuerySet":
        """Windows that have ended and whose successor nobody has opened yet."""
        return self.filter(closed_at=None, ends_at__lte=now)


class Balance(models.Model):
    """One bucket of one metered feature over `[starts_at, ends_at)`.

    It belongs to a subscription (billed and mirrored plans: the window follows the contract) or to a plan (assigned
    and default plans: leaving and coming back resumes it). `granted` is what the item promised (None: unlimited),
    `adjusted` what staff added or took, `used` what was tracked; what is left is granted + adjusted − used.
    """

    class Source(models.TextChoices):
        PLAN_ITEM = "plan_item", "Plan"
        DEFAULT = "default", "Default product"
        BONUS = "bonus", "Bonus"
        PURCHASE = "purchase", "Purchase"

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="balances")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="balances")
    source = models.CharField(max_length=10, choices=Source, default=Source.PLAN_ITEM)
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, null=True, related_name="balances")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, null=True, related_name="balances")
    item = models.ForeignKey(PlanItem, on_delete=models.PROTECT, null=True, related_name="balances")
    label = models.CharField(max_length=120, blank=True, help_text="A bonus or purchase: what it is called.")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    granted = units(null=True)
    adjusted = units(default=Decimal(0))
    used = units(default=Decimal(0))
    priority = models.SmallIntegerField(default=0)

    objects = BalanceQuerySet.as_manager()

    class Meta:
        ordering = ("starts_at", "id")
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "feature"],
                condition=Q(closed_at=None, subscription__isnull=False),
                name="one_open_bucket_per_contract",
            ),
            models.UniqueConstraint(
                fields=["customer", "plan", "feature"],
                condition=Q(closed_at=None, plan__isnull=False),
                name="one_open_bucket_per_plan",
            ),
            models.CheckConstraint(
                name="bucket_has_one_owner",
                condition=Q(source__in=["bonus", "purchase"], subscription=None, plan=None)
                | Q(source__in=["plan_item", "default"], item__isnull=False)
                & (Q(subscription=None, plan__isnull=False) | Q(subscription__isnull=False, plan=None)),
            ),
            models.CheckConstraint(
                name="bucket_ends_after_start", condition=Q(ends_at=None) | Q(ends_at__gte=F("starts_at"))
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "feature"], condition=Q(closed_at=None), name="balance_open"),
            models.Index(fields=["ends_at"], condition=Q(closed_at=None), name="balance_due"),
            models.Index(fields=["subscription", "ends_at"], name="balance_of_contract"),
            models.Index(fields=["customer", "feature", "-starts_at"], name="balance_history"),
        ]

    def __str__(self) -> str:
        return f"{self.feature} from {self.starts_at:%Y-%m-%d}"

    @property
    def is_extra(self) -> bool:
        """A bonus or a purchase: no plan promises it, so it ends without a successor."""
        return self.source in (self.Source.BONUS, self.Source.PURCHASE)

    @property
    def left(self) -> Decimal | None:
        """What is left, below zero when more was used; None without a limit."""
        return None if self.granted is None else self.granted + self.adjusted - self.used


class BalanceEntry(models.Model):
    """One line of a balance's ledger that is not use: the grant, an edit, a new allowance, a move of usage.

    Together with the use of its events the entries sum to what is left. `rates_from` is set where the item of the
    bucket changed: units used from that total on are rated by the entry's item.
    """

    class Kind(models.TextChoices):
        GRANT = "grant", "Granted"
        REGRANT = "regrant", "Allowance changed"
        EDIT = "edit", "Edited"
        MOVED = "moved", "Usage moved"
        CLOSE = "close", "Window ended"

    balance = models.ForeignKey(Balance, on_delete=models.PROTECT, related_name="entries")
    kind = models.CharField(max_length=10, choices=Kind)
    amount = units(null=True, help_text="Null: no limit.")
    item = models.ForeignKey(PlanItem, on_delete=models.PROTECT, null=True, related_name="+")
    rates_from = units(null=True)
    operation = models.ForeignKey(Operation, on_delete=models.PROTECT, null=True, related_name="balance_entries")
    at = models.DateTimeField()

    class Meta:
        ordering = ("id",)
        indexes = [models.Index(fields=["balance", "id"], name="entry_of_balance")]


class UsageEvent(models.Model):
    """One act of use, as the application reported it, with the buckets it was taken from."""

    public_id = models.CharField(max_length=24, default=new_event_id, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="usage_events")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="usage_events")
    amount = units(help_text="What was asked for.")
    taken = units(help_text="What was counted.")
    at = models.DateTimeField()
    key = models.CharField(max_length=255, null=True, blank=True, help_text="Idempotency key.")
    mode = models.CharField(max_length=8)
    properties = models.JSONField(default=dict, blank=True)
    balance_ids = ArrayField(models.BigIntegerField(), default=list)
    amounts = ArrayField(units(), default=list)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "key"], condition=Q(key__isnull=False), name="usage_counted_once_per_key"
            )
        ]
        indexes = [
            models.Index(fields=["customer", "-id"], name="event_of_customer"),
            models.Index(fields=["customer", "feature", "-at"], name="event_of_feature"),
        ]

    def __str__(self) -> str:
        return f"{self.taken} {self.feature}"
