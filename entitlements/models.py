"""What they may use: one balance per contributing item and window, and the events that used it up."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField, RangeOperators
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Coalesce

from catalog.models import Feature, Plan, PlanItem
from customers.models import Customer, Operation, Subscription, public_id

UNITS = {"max_digits": 30, "decimal_places": 6}


def units(**options: Any) -> models.DecimalField:
    """A column of units: up to 24 digits and 6 decimals."""
    return models.DecimalField(max_digits=UNITS["max_digits"], decimal_places=UNITS["decimal_places"], **options)


# A foreign key that is not checked row by row: see `Balance`.
COPIED: Any = {"db_index": False, "db_constraint": False}


def new_event_id() -> str:
    return public_id("evt")


def new_override_id() -> str:
    return public_id("fov")


def new_batch_id() -> str:
    return public_id("bat")


def new_grant_id() -> str:
    return public_id("gra")


def new_accepted_id() -> str:
    return public_id("acc")


class OverrideBatch(models.Model):
    """Overrides that were given together, to be looked at and taken back together."""

    public_id = models.CharField(max_length=24, unique=True, default=new_batch_id, editable=False)
    reason = models.TextField()
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    total = models.PositiveIntegerField(default=0, help_text="Rows asked for.")
    done = models.PositiveIntegerField(default=0, help_text="Rows looked at so far.")
    failures = models.JSONField(default=list, blank=True, help_text="What was refused: line, customer, why.")
    rows = models.JSONField(default=list, blank=True, help_text="What was asked for, as it was confirmed.")
    finished_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    revoked_by = models.CharField(max_length=150, blank=True)
    revoke_reason = models.TextField(blank=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return self.public_id


class FeatureOverrideQuerySet(models.QuerySet):
    def in_force(self, now: datetime) -> "FeatureOverrideQuerySet":
        return self.filter(Q(stops_at=None) | Q(stops_at__gt=now), effective_from__lte=now)

    def standing(self, now: datetime) -> "FeatureOverrideQuerySet":
        """In force, or still to come; not what was taken back before it began."""
        return self.filter(Q(stops_at=None) | Q(stops_at__gt=now)).exclude(stops_at=F("effective_from"))

    def over(self, now: datetime) -> "FeatureOverrideQuerySet":
        """Stopped, or taken back before they began."""
        return self.filter(Q(stops_at__lte=now) | Q(stops_at=F("effective_from")))

    def in_state(self, state: str, now: datetime) -> "FeatureOverrideQuerySet":
        """Those of one `FeatureOverride.state`."""
        if state == "scheduled":
            return self.standing(now).filter(effective_from__gt=now)
        if state == "in_force":
            return self.in_force(now)
        over = self.over(now)
        if state == "revoked":
            return over.filter(revoked_at__isnull=False)
        return over.filter(revoked_at=None, superseded_by__isnull=state != "superseded")


class FeatureOverride(models.Model):
    """Another value of one feature for one customer, or for one of their subscriptions, from–until, with a reason.

    Appended and stopped, never edited (a trigger keeps it so): `effective_until` is what was agreed (None: permanent),
    `stops_at` when it really ends, which a revocation or a successor brings forward. Exactly one of the values is set:
    `on` (False closes a feature of any type), `units` of a metered one, `text` of a static one, or `unlimited`.
    """

    public_id = models.CharField(max_length=24, unique=True, default=new_override_id, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="feature_overrides")
    subscription = models.ForeignKey(
        Subscription, on_delete=models.PROTECT, null=True, related_name="feature_overrides"
    )
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="overrides")
    on = models.BooleanField(null=True)
    units = units(null=True)
    text = models.CharField(max_length=500, blank=True)
    unlimited = models.BooleanField(default=False)
    reason = models.TextField()
    effective_from = models.DateTimeField()
    effective_until = models.DateTimeField(null=True, help_text="Null: permanent.")
    stops_at = models.DateTimeField(null=True)
    batch = models.ForeignKey(OverrideBatch, on_delete=models.PROTECT, null=True, related_name="overrides")
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    revoked_by = models.CharField(max_length=150, blank=True)
    revoke_reason = models.TextField(blank=True)
    superseded_by = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="supersedes")

    objects = FeatureOverrideQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        permissions = [
            ("give_concession", "Can override features for a limited time"),
            ("bulk_override", "Can override features of many customers at once"),
        ]
        constraints = [
            models.CheckConstraint(
                name="override_has_one_value",
                condition=Q(on__isnull=False, units=None, text="", unlimited=False)
                | Q(on=None, units__gte=0, text="", unlimited=False)
                | Q(on=None, units=None, unlimited=False) & ~Q(text="")
                | Q(on=None, units=None, text="", unlimited=True),
            ),
            models.CheckConstraint(
                name="override_ends_after_start",
                condition=(Q(effective_until=None) | Q(effective_until__gt=F("effective_from")))
                & (Q(stops_at=None) | Q(stops_at__gte=F("effective_from"))),
            ),
            # Equality of plain numbers would need an extension; ranges of one number do not.
            ExclusionConstraint(
                name="overrides_do_not_overlap",
                expressions=[
                    (Func("customer", "customer", Value("[]"), function="int8range"), RangeOperators.OVERLAPS),
                    (Func("feature", "feature", Value("[]"), function="int8range"), RangeOperators.OVERLAPS),
                    (
                        Func(
                            Coalesce("subscription", Value(0, models.BigIntegerField())),
                            Coalesce("subscription", Value(0, models.BigIntegerField())),
                            Value("[]"),
                            function="int8range",
                        ),
                        RangeOperators.OVERLAPS,
                    ),
                    (Func("effective_from", "stops_at", function="tstzrange"), RangeOperators.OVERLAPS),
                ],
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "-id"], name="override_of_customer"),
            models.Index(fields=["feature", "-id"], name="override_of_feature"),
            models.Index(fields=["stops_at"], name="override_end"),
        ]

    def __str__(self) -> str:
        return self.public_id

    def state(self, now: datetime) -> str:
        """`scheduled`, `in_force`, `expired`, `superseded` or `revoked`: derived from its dates."""
        if self.is_over(now):
            return "revoked" if self.revoked_at else "superseded" if self.superseded_by_id else "expired"
        return "scheduled" if now < self.effective_from else "in_force"

    def is_over(self, now: datetime) -> bool:
        """Whether it has stopped, or was taken back before it began."""
        return self.stops_at is not None and (self.stops_at <= now or self.stops_at == self.effective_from)


class Grant(models.Model):
    """Units of a customer's own, beside every plan: a bonus or a purchase, once or again and again.

    Each of its windows is a balance. With `recurs` (an ISO 8601 duration) a new window of `units` opens at each
    boundary counted from `starts_at` until `ends_at`; without it there is one window, `[starts_at, ends_at)`.
    """

    class Source(models.TextChoices):
        BONUS = "bonus", "Bonus"
        PURCHASE = "purchase", "Purchase"

    public_id = models.CharField(max_length=24, unique=True, default=new_grant_id, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="grants")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="grants")
    source = models.CharField(max_length=10, choices=Source, default=Source.BONUS)
    units = units()
    label = models.CharField(max_length=120)
    priority = models.SmallIntegerField(default=0, help_text="Smaller ones are burnt first.")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    recurs = models.CharField(max_length=5, blank=True, help_text="Empty: once.")
    reason = models.TextField(blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    idempotency_key = models.CharField(max_length=255, null=True, blank=True)
    created_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField()
    voided_at = models.DateTimeField(null=True)
    voided_by = models.CharField(max_length=150, blank=True)
    void_reason = models.TextField(blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=["customer", "idempotency_key"], name="grant_once_per_key"),
            models.CheckConstraint(name="grant_units_positive", condition=Q(units__gt=0)),
            models.CheckConstraint(
                name="grant_ends_after_start", condition=Q(ends_at=None) | Q(ends_at__gt=F("starts_at"))
            ),
        ]
        indexes = [models.Index(fields=["customer", "-id"], name="grant_of_customer")]

    def __str__(self) -> str:
        return self.label


class BalanceQuerySet(models.QuerySet):
    def open(self, now: datetime) -> "BalanceQuerySet":
        """In their window, and not replaced by another."""
        return self.filter(Q(ends_at=None) | Q(ends_at__gt=now), closed_at=None, starts_at__lte=now)

    def promised(self) -> "BalanceQuerySet":
        """What items of plans promise for their windows, without what stands beside them."""
        return self.filter(source__in=["plan_item", "default"])

    def due(self, now: datetime) -> "BalanceQuerySet":
        """Windows that have ended and whose successor nobody has opened yet."""
        return self.filter(closed_at=None, ends_at__lte=now)


class Balance(models.Model):
    """One bucket of one metered feature over `[starts_at, ends_at)`.

    It belongs to a subscription (billed and mirrored plans: the window follows the contract), to a plan (assigned and
    default plans: leaving and coming back resumes it), to a grant, or to an override. `granted` is what was promised
    (None: unlimited), `adjusted` what was added or taken since, `used` what was tracked; what is left is granted +
    adjusted − used. `withheld` is the part of `adjusted` that an override takes while it is in force.

    A reset writes two of these rows for each window, so there is no index that no question needs, and what can only be
    copied from the window before is not looked up again for each row. What a balance belongs to cannot be deleted from
    under it all the same: triggers keep customers, contracts and published items.
    """

    class Source(models.TextChoices):
        PLAN_ITEM = "plan_item", "Plan"
        DEFAULT = "default", "Default product"
        BONUS = "bonus", "Bonus"
        PURCHASE = "purchase", "Purchase"
        ROLLOVER = "rollover", "Rollover"
        OVERRIDE = "override", "Override"

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="balances", **COPIED)
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="balances", **COPIED)
    source = models.CharField(max_length=10, choices=Source, default=Source.PLAN_ITEM)
    subscription = models.ForeignKey(
        Subscription, on_delete=models.PROTECT, null=True, related_name="balances", **COPIED
    )
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, null=True, related_name="balances", **COPIED)
    item = models.ForeignKey(PlanItem, on_delete=models.PROTECT, null=True, related_name="balances", **COPIED)
    grant = models.ForeignKey(Grant, on_delete=models.PROTECT, null=True, related_name="balances", db_index=False)
    override = models.ForeignKey(
        FeatureOverride, on_delete=models.PROTECT, null=True, related_name="balances", db_index=False
    )
    label = models.CharField(max_length=120, blank=True, help_text="A bonus or purchase: what it is called.")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    opened_at = models.DateTimeField(help_text="When the row was written: a window begins whether or not it is.")
    closed_at = models.DateTimeField(null=True)
    granted = units(null=True)
    adjusted = units(default=Decimal(0))
    used = units(default=Decimal(0))
    withheld = units(default=Decimal(0))
    withheld_by = models.ForeignKey(
        FeatureOverride, on_delete=models.PROTECT, null=True, related_name="withholds", db_index=False
    )
    priority = models.SmallIntegerField(default=0)
    # What a meter keeps of the window: see entitlements/meters.py, `Gauge`.
    level = units(null=True)
    level_at = models.DateTimeField(null=True)
    level_units = models.DecimalField(max_digits=48, decimal_places=24, null=True)
    level_counted = units(null=True)

    objects = BalanceQuerySet.as_manager()

    class Meta:
        ordering = ("starts_at", "id")
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "feature"],
                condition=Q(closed_at=None, subscription__isnull=False, source="plan_item"),
                name="one_open_bucket_per_contract",
            ),
            models.UniqueConstraint(
                fields=["customer", "plan", "feature"],
                condition=Q(closed_at=None, plan__isnull=False, source__in=["plan_item", "default"]),
                name="one_open_bucket_per_plan",
            ),
            models.UniqueConstraint(
                fields=["override"],
                condition=Q(closed_at=None, override__isnull=False),
                name="one_open_bucket_per_override",
            ),
            models.UniqueConstraint(
                fields=["grant"], condition=Q(closed_at=None, grant__isnull=False), name="one_open_bucket_per_grant"
            ),
            models.UniqueConstraint(
                fields=["customer", "feature", "subscription", "plan", "starts_at"],
                condition=Q(source="rollover", closed_at=None),
                nulls_distinct=False,
                name="window_rolls_over_once",
            ),
            models.CheckConstraint(
                name="bucket_has_one_owner",
                condition=Q(source__in=["bonus", "purchase"], grant__isnull=False, subscription=None, plan=None)
                | Q(source="override", override__isnull=False, plan=None)
                | Q(source__in=["plan_item", "default", "rollover"], item__isnull=False)
                & (Q(subscription=None, plan__isnull=False) | Q(subscription__isnull=False, plan=None)),
            ),
            models.CheckConstraint(
                name="withheld_by_an_override",
                condition=Q(withheld=0, withheld_by=None) | Q(withheld__gte=0, withheld_by__isnull=False),
            ),
            models.CheckConstraint(
                name="bucket_ends_after_start", condition=Q(ends_at=None) | Q(ends_at__gte=F("starts_at"))
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "feature"], condition=Q(closed_at=None), name="balance_open"),
            models.Index(fields=["ends_at", "customer"], condition=Q(closed_at=None), name="balance_due"),
            models.Index(
                fields=["subscription", "ends_at"],
                condition=Q(subscription__isnull=False),
                name="balance_of_contract",
            ),
            models.Index(fields=["customer", "feature", "-starts_at"], name="balance_history"),
            # Most rows have none of these.
            models.Index(fields=["grant"], condition=Q(grant__isnull=False), name="balance_of_grant"),
            models.Index(fields=["override"], condition=Q(override__isnull=False), name="balance_of_override"),
            models.Index(fields=["withheld_by"], condition=Q(withheld_by__isnull=False), name="balance_withheld_by"),
            models.Index(
                fields=["customer", "feature"],
                condition=Q(closed_at=None, level_units__isnull=False),
                name="balance_level",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.feature} from {self.starts_at:%Y-%m-%d}"

    @property
    def is_extra(self) -> bool:
        """A bonus or a purchase: units of the customer's own, beside what any plan promises."""
        return self.source in (self.Source.BONUS, self.Source.PURCHASE)

    @property
    def is_promised(self) -> bool:
        """What an item of a plan promises for its window: the bucket that others stand beside."""
        return self.source in (self.Source.PLAN_ITEM, self.Source.DEFAULT)

    @property
    def left(self) -> Decimal | None:
        """What is left, below zero when more was used; None without a limit."""
        return None if self.granted is None else self.granted + self.adjusted - self.used


class BalanceEntry(models.Model):
    """One line of a balance's ledger that is not use: the grant, an edit, a new allowance, a move of usage.

    Together with the use of its events the lines sum to what is left. What the balance's row says itself, that a
    window was opened with an allowance and that it was closed, is written only where an act did it, or where the
    allowance changed since; `ledger.lines_of` has all of them. `rates_from` is set where the item of the bucket
    changed: units used from that total on are rated by the entry's item.
    """

    class Kind(models.TextChoices):
        GRANT = "grant", "Granted"
        REGRANT = "regrant", "Allowance changed"
        EDIT = "edit", "Edited"
        MOVED = "moved", "Usage moved"
        ROLLED = "rolled", "Rollover trimmed"
        KEPT = "kept", "Overage kept"
        OVERRIDE = "override", "Override"
        CLOSE = "close", "Window ended"

    balance = models.ForeignKey(Balance, on_delete=models.PROTECT, related_name="entries", db_index=False)
    kind = models.CharField(max_length=10, choices=Kind)
    amount = units(null=True, help_text="Null: no limit.")
    item = models.ForeignKey(PlanItem, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    rates_from = units(null=True)
    operation = models.ForeignKey(
        Operation, on_delete=models.PROTECT, null=True, related_name="balance_entries", db_index=False
    )
    at = models.DateTimeField()

    class Meta:
        ordering = ("id",)
        indexes = [
            models.Index(fields=["balance", "id"], name="entry_of_balance"),
            models.Index(fields=["operation"], condition=Q(operation__isnull=False), name="entry_of_act"),
        ]


# The clock of whoever reports use may be ahead of ours by so much.
CLOCKS_DIFFER = timedelta(minutes=5)


class UsageEventQuerySet(models.QuerySet):
    """Readings that also say when the events were reported, so that only the months in question are opened."""

    def since(self, at: datetime) -> "UsageEventQuerySet":
        """What happened at the instant or later: it cannot have been reported before it happened."""
        return self.filter(at__gte=at, recorded_at__gte=at - CLOCKS_DIFFER)

    def counted_on(self, balance: Balance, *, since: datetime) -> "UsageEventQuerySet":
        """What a balance gave units to; `since` is when it was opened."""
        return self.filter(
            customer_id=balance.customer_id,
            feature_id=balance.feature_id,
            balance_ids__contains=[balance.pk],
            recorded_at__gte=since - CLOCKS_DIFFER,
        )


class UsageEvent(models.Model):
    """One act of use, as the application reported it, with the buckets it was taken from.

    The table is partitioned by the month of `recorded_at`. An event that several features count is a row for each,
    with one `public_id`. What was voided was given back to the buckets that it had been taken from.
    """

    public_id = models.CharField(max_length=24, default=new_event_id, editable=False)
    # Every index costs on every event: the composite ones below begin with the customer and with the feature.
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="usage_events", db_index=False)
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="usage_events", db_index=False)
    name = models.CharField(max_length=120, blank=True, help_text="The event's name, where a meter read it.")
    amount = units(help_text="What was asked for.")
    taken = units(help_text="What was counted.")
    reported = units(null=True, help_text="The value that a meter read.")
    at = models.DateTimeField(help_text="When it happened.")
    recorded_at = models.DateTimeField(help_text="When it was reported.")
    key = models.CharField(max_length=255, null=True, blank=True, help_text="Idempotency key.")
    mode = models.CharField(max_length=8)
    properties = models.JSONField(default=dict, blank=True)
    balance_ids = ArrayField(models.BigIntegerField(), default=list)
    amounts = ArrayField(units(), default=list)
    voided_at = models.DateTimeField(null=True)
    void_operation = models.ForeignKey(Operation, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)

    objects = UsageEventQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        permissions = [("void_usageevent", "Can void events")]
        indexes = [
            models.Index(fields=["customer", "-id"], name="event_of_customer"),
            models.Index(fields=["feature", "-id"], name="event_by_feature"),
            models.Index(fields=["customer", "feature", "-at"], name="event_of_feature"),
            models.Index(fields=["public_id"], name="event_public_id"),
        ]

    def __str__(self) -> str:
        return f"{self.taken} {self.feature}"


class MeterMember(models.Model):
    """A value that a meter of different values has met in a window, kept on the window's main balance."""

    pk = models.CompositePrimaryKey("balance", "digest")
    balance = models.ForeignKey(Balance, on_delete=models.PROTECT, related_name="members", db_index=False)
    digest = models.UUIDField(help_text="Of the value's text: see `digest_of_key`.")


class UsageKey(models.Model):
    """An idempotency key that counted, kept for good beside events that are partitioned and archived."""

    pk = models.CompositePrimaryKey("customer", "digest")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="usage_keys", db_index=False)
    digest = models.UUIDField(help_text="Of the key: see `digest_of_key`.")
    event_id = models.BigIntegerField()
    recorded_at = models.DateTimeField()


class AcceptedEvent(models.Model):
    """An event whose caller did not wait for it to be counted: kept as it was asked for until a worker has."""

    public_id = models.CharField(max_length=24, unique=True, default=new_accepted_id, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="accepted_events")
    asked = models.JSONField(help_text="Feature, units, key, mode, properties, instant.")
    accepted_at = models.DateTimeField()
    revision = models.BigIntegerField(help_text="The customer's, when it was accepted.")
    settled_at = models.DateTimeField(null=True)
    event_id = models.CharField(max_length=24, blank=True, help_text="Public id of the event that it became.")
    applied = models.BooleanField(null=True, help_text="False: its key had been counted before.")
    error = models.JSONField(null=True, help_text="Why it was refused: code, message, field.")

    class Meta:
        ordering = ("id",)
        indexes = [
            models.Index(fields=["id"], condition=Q(settled_at=None), name="accepted_to_count"),
            models.Index(fields=["settled_at"], condition=Q(settled_at__isnull=False), name="accepted_and_settled"),
        ]

    def __str__(self) -> str:
        return self.public_id


class ArchivedUse(models.Model):
    """What one balance gave on one day (UTC) to events whose rows are in the archive: their part of its ledger."""

    balance = models.ForeignKey(Balance, on_delete=models.PROTECT, related_name="archived_use", db_index=False)
    day = models.DateField()
    at = models.DateTimeField(help_text="Of the first event of the day.")
    used = units()
    events = models.PositiveBigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["balance", "day"], name="archived_day_of_balance")]


class ArchivedMonth(models.Model):
    """A month of events, by when they were reported, that was moved into a file."""

    month = models.DateField(help_text="Its first day.")
    file = models.CharField(max_length=120, unique=True, help_text="Its name in the folder of the archive.")
    events = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    archived_at = models.DateTimeField()
    written_at = models.DateTimeField(help_text="When the file was written last: what is erased later is taken out.")

    class Meta:
        ordering = ("-month",)

    def __str__(self) -> str:
        return self.file
