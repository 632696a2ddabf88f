"""Who buys, under which plan: customers, their contracts, the phases of each, and the journal of every act."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import RangeOperators
from django.contrib.postgres.indexes import OpClass
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Func, Prefetch, Q, Value
from django.db.models.functions import Upper
from simple_history.models import HistoricalRecords

from catalog.models import Coupon, Feature, Plan, PlanVersion, Product, PromoCode, terms_of
from catalog.money import plain
from catalog.terms import PlanTerms
from customers.recurring import Held, pieces, prices_levels, recurring
from customers.states import APPLYING, LIVE, NEXT, CannotMove, SubscriptionState

CUSTOMER_ID = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9_.:@|\-]*$", "Use letters, digits and _ . : @ | - for a customer id.", "bad_customer_id"
)
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def public_id(prefix: str) -> str:
    return f"{prefix}_{''.join(secrets.choice(ALPHABET) for _ in range(16))}"


def new_customer_id() -> str:
    return public_id("cus")


def new_subscription_id() -> str:
    return public_id("sub")


def new_operation_id() -> str:
    return public_id("op")


def new_override_id() -> str:
    return public_id("ovr")


def new_migration_id() -> str:
    return public_id("mig")


def new_applied_coupon_id() -> str:
    return public_id("dis")


class CustomerQuerySet(models.QuerySet):
    def open(self) -> "CustomerQuerySet":
        """Not closed: what lists and the API show."""
        return self.filter(closed_at=None)

    def to_erase(self, now: datetime) -> "CustomerQuerySet":
        return self.filter(erase_at__lte=now, erased_at=None)

    def matching(self, words: str) -> "CustomerQuerySet":
        """By the start of an id, name or e-mail, whatever the case; each arm has an index of its own."""
        words = words.strip()
        return self.filter(
            Q(customer_id__istartswith=words)
            | Q(public_id__startswith=words)
            | Q(name__istartswith=words)
            | Q(email__istartswith=words)
        )


class Customer(models.Model):
    public_id = models.CharField(max_length=24, unique=True, default=new_customer_id, editable=False)
    customer_id = models.CharField(
        max_length=120, unique=True, validators=[CUSTOMER_ID], help_text="The id your application uses."
    )
    name = models.CharField(max_length=200)
    email = models.EmailField(blank=True)
    currency = models.CharField(max_length=3, blank=True, help_text="Set by the first contract; empty until then.")
    usage_started_at = models.DateTimeField(
        null=True, blank=True, help_text="Where windows of assigned and default plans are counted from."
    )
    locale = models.CharField(max_length=12, default="en_US", help_text="Language and signs of what they read.")
    billing_address = models.TextField(blank=True)
    tax_number = models.CharField(max_length=40, blank=True)
    created_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True, editable=False)
    erase_at = models.DateTimeField(null=True, blank=True, editable=False)
    erased_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Counted up by the database with every change of this row and of what the customer holds (revision.py): who keeps
    # values made from them knows by it whether they are still true.
    revision = models.BigIntegerField(default=0, editable=False)

    objects = CustomerQuerySet.as_manager()
    history = HistoricalRecords(excluded_fields=["revision"])

    class Meta:
        ordering = ("-id",)
        permissions = [
            ("enable_plan", "Can enable and change billed plans and make custom plans"),
            ("assign_plan", "Can assign plans that are never invoiced"),
            ("cancel_subscription", "Can cancel subscriptions"),
            ("activate_unpaid", "Can activate a plan before its first invoice is paid"),
            ("extend_trial", "Can extend trials"),
            ("pause_collection", "Can pause the collection of a subscription"),
        ]
        # Prefix searches ignore case, so each searched column has an index on its upper-case form.
        indexes = [
            models.Index(OpClass(Upper("customer_id"), name="text_pattern_ops"), name="customer_id_prefix"),
            models.Index(OpClass(Upper("name"), name="text_pattern_ops"), name="customer_name_prefix"),
            models.Index(OpClass(Upper("email"), name="text_pattern_ops"), name="customer_email_prefix"),
            models.Index(fields=["erase_at"], condition=Q(erased_at=None), name="customer_to_erase"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def usage_anchor(self) -> datetime:
        """Where windows that follow no billed contract are counted from."""
        return self.usage_started_at or self.created_at


class PlanReservation(models.Model):
    """A plan made for one deal: hidden from, and refused for, everybody else."""

    plan = models.OneToOneField(Plan, on_delete=models.CASCADE, related_name="reservation")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="reserved_plans")


class PhaseQuerySet(models.QuerySet):
    def kept(self) -> "PhaseQuerySet":
        """Those that were in force or will be: neither withdrawn nor waiting for a payment."""
        return self.filter(withdrawn_at=None, pending_since=None)

    def pending(self) -> "PhaseQuerySet":
        """Those that begin once their invoice is paid."""
        return self.filter(withdrawn_at=None, pending_since__isnull=False)

    def giving_access(self) -> "PhaseQuerySet":
        """Those of contracts that give access by their dates alone: not of one whose first payment is still to come."""
        waits = Q(subscription__state=SubscriptionState.SCHEDULED, subscription__waits_for_payment=True)
        return self.filter(subscription__state__in=APPLYING).exclude(waits)

    def in_force(self, now: datetime) -> "PhaseQuerySet":
        return self.kept().filter(Q(ends_at=None) | Q(ends_at__gt=now), starts_at__lte=now)


class SubscriptionQuerySet(models.QuerySet):
    def live(self) -> "SubscriptionQuerySet":
        return self.filter(state__in=LIVE)

    def standing(self) -> "SubscriptionQuerySet":
        """Live, or agreed for a day to come."""
        return self.filter(state__in=APPLYING)

    def due(self, now: datetime) -> "SubscriptionQuerySet":
        """Contracts of which something is to be begun, billed, switched or ended, and that no person has to look at
        first."""
        return self.standing().filter(bills_at__lte=now, parked_at=None)

    def parked(self) -> "SubscriptionQuerySet":
        return self.live().exclude(parked_at=None)

    def paused(self, now: datetime) -> "SubscriptionQuerySet":
        """Those of which nothing is collected at the instant."""
        resumed = Q(collection_resumes_at__lte=now)
        return self.filter(collection_paused_at__lte=now).exclude(resumed)

    def on(self, version: PlanVersion, now: datetime) -> "SubscriptionQuerySet":
        return self.live().filter(phases__in=Phase.objects.in_force(now).filter(version=version))

    def with_phases(self) -> "SubscriptionQuerySet":
        phases = Phase.objects.kept().select_related("version__plan__product", "version__custom__base_version")
        return self.select_related("product").prefetch_related(
            Prefetch("phases", queryset=phases.order_by("starts_at", "id"))
        )


class Subscription(models.Model):
    """The lasting contract of a customer with a product. What it ran on, and when, are its phases.

    `period_starts_at`/`period_ends_at` is the present period of the plan's cadence, `bills_at` the next instant at
    which something is billed, switched or ended (None: never).
    """

    State = SubscriptionState

    class WhilePaused(models.TextChoices):
        KEEP_AS_DRAFT = "keep_as_draft", "Keep invoices as drafts"
        VOID = "void", "Void them"
        MARK_UNCOLLECTIBLE = "mark_uncollectible", "Mark them as uncollectible"

    class Unused(models.TextChoices):
        """What becomes of fees and bought units that a contract's end leaves unused."""

        ACCOUNT_CREDIT = "account_credit", "Account credit"
        REFUND = "refund", "Refund"
        NOTHING = "nothing", "Nothing"

    public_id = models.CharField(max_length=24, unique=True, default=new_subscription_id, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="subscriptions")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="subscriptions")
    add_on = models.BooleanField(default=False)
    state = models.CharField(max_length=15, choices=SubscriptionState, default=SubscriptionState.SCHEDULED)
    quantity = models.PositiveIntegerField(default=1, help_text="Of the phase that the present period began with.")
    started_at = models.DateTimeField()
    period_starts_at = models.DateTimeField(null=True)
    period_ends_at = models.DateTimeField(null=True)
    bills_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField(
        null=True, help_text="A planned end: a cancellation at the end of the cycle, a term."
    )
    end_reason = models.CharField(max_length=20, blank=True)
    ended_at = models.DateTimeField(null=True)
    bills_use_at_end = models.BooleanField(default=True, help_text="Whether the planned end bills open use.")
    unused_at_end = models.CharField(max_length=15, choices=Unused, default=Unused.NOTHING)
    settled_at = models.DateTimeField(
        null=True, help_text="Its final invoice was made then; access goes on until the end, and nothing is billed."
    )
    parked_at = models.DateTimeField(null=True)
    parked_because = models.CharField(max_length=500, blank=True)
    trial_ends_at = models.DateTimeField(null=True, help_text="Use before it is never billed.")
    waits_for_payment = models.BooleanField(
        default=False, help_text="Of a start on a day to come: access comes with the first payment, not by date."
    )
    net_terms_days = models.PositiveSmallIntegerField(null=True, help_text="Days to pay; empty: the account's.")
    payment_window_hours = models.PositiveSmallIntegerField(null=True, help_text="Empty: the account's.")
    approve_first_invoice = models.BooleanField(null=True, help_text="Empty: as the account does.")
    collection_paused_at = models.DateTimeField(null=True)
    collection_resumes_at = models.DateTimeField(null=True)
    collection_behavior = models.CharField(max_length=20, choices=WhilePaused, blank=True)

    objects = SubscriptionQuerySet.as_manager()
    history = HistoricalRecords(excluded_fields=["period_starts_at", "period_ends_at", "bills_at"])

    class Meta:
        ordering = ("started_at", "id")
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "product"],
                condition=Q(add_on=False, state__in=["scheduled", "pending_payment", "trialing", "active", "past_due"]),
                name="one_main_plan_per_product",
            ),
            models.CheckConstraint(name="quantity_positive", condition=Q(quantity__gt=0)),
        ]
        indexes = [
            models.Index(
                fields=["bills_at", "id"],
                condition=Q(state__in=["trialing", "active", "past_due", "scheduled"], parked_at=None),
                name="subscription_due",
            ),
            models.Index(
                fields=["ends_at"],
                condition=Q(state__in=["trialing", "active", "past_due"], ends_at__isnull=False),
                name="subscription_end",
            ),
            models.Index(fields=["trial_ends_at"], condition=Q(state="trialing"), name="subscription_trial_end"),
        ]

    def __str__(self) -> str:
        return self.public_id

    def move_to(self, state: str) -> None:
        if state not in NEXT.get(self.state, set()):
            raise CannotMove(self.state, state)
        self.state = state

    def recover(self, now: datetime) -> None:
        """Nothing of it is overdue any more: active again, or on its trial."""
        present = self.phase_at(now)
        on_trial = present is not None and present.is_trial
        self.move_to(SubscriptionState.TRIALING if on_trial else SubscriptionState.ACTIVE)
        self.save(update_fields=["state"])

    @property
    def is_live(self) -> bool:
        return self.state in LIVE

    def phase_at(self, now: datetime) -> "Phase | None":
        """The phase in force; reads the prefetched phases when there are any."""
        return next((p for p in self.kept_phases() if p.covers(now)), None)

    def next_phase(self, now: datetime) -> "Phase | None":
        """The scheduled change, the first if there are several; what a trial was begun for is none."""
        current, found = self.phase_at(now), next((p for p in self.kept_phases() if p.starts_at > now), None)
        return None if found is None or (current and found.continues(current)) else found

    def later_phases(self, now: datetime) -> "list[Phase]":
        """The changes that are scheduled after the next one, in order."""
        following = self.next_phase(now)
        return [] if following is None else [p for p in self.kept_phases() if p.starts_at > following.starts_at]

    def kept_phases(self) -> "list[Phase]":
        kept = (p for p in self.phases.all() if p.withdrawn_at is None and p.pending_since is None)
        return sorted(kept, key=lambda p: (p.starts_at, p.pk))


class Phase(models.Model):
    """A plan version in a subscription over `[starts_at, ends_at)`. Phases never overlap; a scheduled change is one.

    `anchor` is where its billing periods are counted from: usually the former phase's, its own start when the cycle
    restarts. It is decided with the phase, as the quantity is, so that a late worker cannot change what a date means.
    """

    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="phases")
    version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="phases")
    anchor = models.DateTimeField()
    quantity = models.PositiveIntegerField(default=1)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    withdrawn_at = models.DateTimeField(null=True)
    is_trial = models.BooleanField(default=False)
    bought = models.JSONField(default=dict, help_text="Prepaid units by item key, the included ones counted.")
    pending_since = models.DateTimeField(null=True, help_text="Waits for its invoice to be paid; not in force.")
    # What it brings as it was sold, see recurring.py: follows from the version, the quantity and the units bought.
    # What the levels in use add is `LevelRevenue`.
    monthly = models.BigIntegerField(default=0, editable=False, help_text="Minor units, normalised to a month.")
    fees = models.BigIntegerField(default=0, editable=False, help_text="Of one renewal, minor units.")
    fees_between = models.BigIntegerField(default=0, editable=False, help_text="Of a billing date inside a period.")

    objects = PhaseQuerySet.as_manager()

    class Meta:
        ordering = ("starts_at", "id")
        constraints = [
            models.CheckConstraint(name="phase_quantity_positive", condition=Q(quantity__gt=0)),
            models.CheckConstraint(
                name="phase_ends_after_start", condition=Q(ends_at=None) | Q(ends_at__gte=F("starts_at"))
            ),
            # Equality of a plain integer would need an extension; a range of one number does not.
            ExclusionConstraint(
                name="phases_do_not_overlap",
                condition=Q(withdrawn_at=None, pending_since=None),
                expressions=[
                    (
                        Func("subscription", "subscription", Value("[]"), function="int8range"),
                        RangeOperators.OVERLAPS,
                    ),
                    (Func("starts_at", "ends_at", function="tstzrange"), RangeOperators.OVERLAPS),
                ],
            ),
        ]
        indexes = [
            models.Index(fields=["version"], name="phase_version"),
            models.Index(
                fields=["starts_at", "id"], condition=Q(withdrawn_at=None, pending_since=None), name="phase_start"
            ),
            models.Index(
                fields=["ends_at"],
                condition=Q(withdrawn_at=None, pending_since=None, ends_at__isnull=False),
                name="phase_end",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version} from {self.starts_at:%Y-%m-%d}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """With what it brings, whenever that can have changed; so nobody changes these columns with `update()`."""
        fields, is_new = kwargs.get("update_fields"), self._state.adding
        is_sold_anew = fields is None or bool({"version", "quantity", "bought"} & set(fields))
        if is_sold_anew:
            brought = recurring(terms_of(self.version_id).sold(self.quantity, self.bought_units()))
            self.monthly, self.fees, self.fees_between = brought.monthly, brought.fees, brought.fees_between
            if fields is not None:
                kwargs["update_fields"] = [*fields, "monthly", "fees", "fees_between"]
        super().save(*args, **kwargs)
        if prices_levels(terms_of(self.version_id)) or (is_sold_anew and not is_new):
            self._tell_levels(is_new=is_new)

    def _tell_levels(self, *, is_new: bool) -> None:
        """What the levels of its contract add, from all that is known of them: a phase that was over may be back."""
        if not is_new:
            self.level_revenue.all().delete()
        history = LevelInUse.objects.filter(subscription=self.subscription_id).select_related("feature")
        held = [row.held() for row in history]
        LevelRevenue.objects.bulk_create(
            LevelRevenue(phase=self, starts_at=piece.starts_at, ends_at=piece.ends_at, monthly=piece.monthly)
            for piece in pieces(terms_of(self.version_id), self.quantity, self.bought_units(), held)
        )

    def covers(self, at: datetime) -> bool:
        return self.starts_at <= at and (self.ends_at is None or at < self.ends_at)

    def terms(self) -> PlanTerms:
        return self.version.terms()

    def continues(self, trial: "Phase") -> bool:
        """Whether it is what a trial was begun for, rather than a change of it."""
        same = (self.version_id, self.quantity, self.bought) == (trial.version_id, trial.quantity, trial.bought)
        return trial.is_trial and not self.is_trial and same

    def sold(self, levels: Mapping[str, Decimal] | None = None) -> PlanTerms:
        """The terms as this customer has them: its quantity, the units they bought, the levels handed in by key."""
        return self.terms().sold(self.quantity, self.bought_units() | dict(levels or {}))

    def bought_units(self) -> dict[str, Decimal]:
        return {key: Decimal(units) for key, units in self.bought.items()}


class LevelInUse(models.Model):
    """How many units of a level (seats) a contract had in use, from–until: what it is charged by. See levels.py.

    Kept beside the balances because events move into the archive, and because a phase asks for its past when it is
    written: it begins with the level of the one before it.
    """

    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="levels")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+", db_index=False)
    units = models.DecimalField(max_digits=30, decimal_places=6)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("starts_at", "id")
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "feature"], condition=Q(ends_at=None), name="one_level_at_a_time"
            ),
            models.CheckConstraint(
                name="level_is_of_a_time", condition=Q(ends_at=None) | Q(ends_at__gt=F("starts_at"))
            ),
            models.CheckConstraint(name="level_in_use", condition=Q(units__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{plain(self.units)} {self.feature} from {self.starts_at:%Y-%m-%d}"

    def held(self) -> Held:
        return Held(self.feature.slug, self.units, self.starts_at, self.ends_at)


class LevelRevenue(models.Model):
    """What the levels in use add to `Phase.monthly`, from–until; of these times only those in its phase count.

    It follows from the phase and the levels of its contract, and is written with either.
    """

    phase = models.ForeignKey(Phase, on_delete=models.CASCADE, related_name="level_revenue")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    monthly = models.BigIntegerField(help_text="Minor units, normalised to a month.")

    class Meta:
        ordering = ("starts_at", "id")
        constraints = [
            models.UniqueConstraint(fields=["phase"], condition=Q(ends_at=None), name="one_sum_of_levels_at_a_time"),
            models.CheckConstraint(
                name="level_revenue_is_of_a_time", condition=Q(ends_at=None) | Q(ends_at__gt=F("starts_at"))
            ),
        ]
        indexes = [
            models.Index(fields=["starts_at"], name="level_revenue_start"),
            models.Index(fields=["ends_at"], condition=Q(ends_at__isnull=False), name="level_revenue_end"),
        ]

    def __str__(self) -> str:
        return f"{self.monthly} from {self.starts_at:%Y-%m-%d}"


class PriceOverrideQuerySet(models.QuerySet):
    def in_force(self) -> "PriceOverrideQuerySet":
        """Not revoked; whether its cycles are used up is derived from documents."""
        return self.filter(revoked_at=None)


class PriceOverride(models.Model):
    """Another price for one item of one subscription, for so many of its billing periods (None: until revoked).

    `components` are as they came in: type, label, amount_cents, recurrence_rule. Appended and revoked, never edited.
    It is a price of the plan in force when it was given; no other plan takes it.
    """

    class Mode(models.TextChoices):
        REPLACE = "replace", "Instead of the item's own price"
        ADD = "add", "Beside the item's own price"

    public_id = models.CharField(max_length=24, unique=True, default=new_override_id, editable=False)
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="price_overrides")
    item_key = models.CharField(max_length=60)
    mode = models.CharField(max_length=7, choices=Mode, default=Mode.REPLACE)
    components = models.JSONField()
    cycles = models.PositiveSmallIntegerField(null=True)
    reason = models.TextField()
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    revoked_by = models.CharField(max_length=150, blank=True)
    revoke_reason = models.TextField(blank=True)

    objects = PriceOverrideQuerySet.as_manager()
    history = HistoricalRecords()

    class Meta:
        ordering = ("-id",)
        permissions = [("override_price", "Can override prices")]
        constraints = [
            models.CheckConstraint(name="override_cycles_positive", condition=Q(cycles=None) | Q(cycles__gt=0)),
        ]
        indexes = [
            models.Index(fields=["subscription", "item_key"], name="override_of_contract"),
            models.Index(
                fields=["subscription"],
                condition=Q(revoked_at=None, cycles__isnull=False),
                name="override_that_runs_out",
            ),
        ]

    def __str__(self) -> str:
        return self.public_id


class AppliedCouponQuerySet(models.QuerySet):
    def kept(self, now: datetime) -> "AppliedCouponQuerySet":
        """Neither ended nor removed, those that wait for a plan included."""
        return self.filter(Q(ends_at=None) | Q(ends_at__gt=now), removed_at=None)

    def in_force(self, now: datetime) -> "AppliedCouponQuerySet":
        return self.kept(now).filter(waits=False)


class AppliedCoupon(models.Model):
    """A coupon on a customer, or on one of their subscriptions. What remains of it is counted from documents."""

    public_id = models.CharField(max_length=24, unique=True, default=new_applied_coupon_id, editable=False)
    customer = models.ForeignKey("Customer", on_delete=models.PROTECT, related_name="applied_coupons")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, null=True, related_name="applied_coupons")
    coupon = models.ForeignKey(Coupon, on_delete=models.PROTECT, related_name="applied")
    promo_code = models.ForeignKey(PromoCode, on_delete=models.PROTECT, null=True, related_name="applied")
    applied_at = models.DateTimeField()
    applied_by = models.CharField(max_length=150)
    reason = models.TextField(blank=True)
    waits = models.BooleanField(default=False, help_text="Begins with the next plan that is enabled.")
    ends_at = models.DateTimeField(null=True)
    removed_at = models.DateTimeField(null=True)
    removed_by = models.CharField(max_length=150, blank=True)

    objects = AppliedCouponQuerySet.as_manager()

    class Meta:
        ordering = ("id",)
        permissions = [("apply_coupon", "Can apply and remove coupons")]
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "coupon"],
                condition=Q(removed_at=None, ends_at=None),
                name="coupon_once_per_customer",
                violation_error_message="This customer has this coupon already.",
            ),
        ]
        indexes = [
            models.Index(fields=["coupon"], condition=Q(removed_at=None), name="applied_coupon_live"),
            models.Index(
                fields=["ends_at"], condition=Q(removed_at=None, ends_at__isnull=False), name="applied_coupon_end"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.coupon} for {self.customer}"


class CustomPlan(models.Model):
    """Who a tailored version serves, what it was made from, and why."""

    version = models.OneToOneField(PlanVersion, on_delete=models.PROTECT, related_name="custom")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="custom_plans")
    base_version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="tailored_versions")
    reason = models.TextField()
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("-created_at",)


class PlanMigration(models.Model):
    """An order to move contracts from one version of a plan to another: who was chosen, when, and which price becomes
    which. What is left of it is its rows that wait; a run that is stopped or killed goes on from there."""

    class Timing(models.TextChoices):
        NOW = "now", "Now (features only)"
        NEXT_BILLING_CYCLE = "next_billing_cycle", "At each contract's next billing cycle"
        ON_DATE = "on_date", "At the first billing cycle from a date"

    class State(models.TextChoices):
        READY = "ready", "Ready"
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        STOPPED = "stopped", "Stopped"
        FINISHED = "finished", "Finished"
        TAKING_BACK = "taking_back", "Being taken back"
        TAKEN_BACK = "taken_back", "Taken back"

    public_id = models.CharField(max_length=24, unique=True, default=new_migration_id, editable=False)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="migrations")
    from_version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="migrations_away")
    to_version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="migrations_to")
    timing = models.CharField(max_length=20, choices=Timing, default=Timing.NEXT_BILLING_CYCLE)
    not_before = models.DateTimeField(null=True, help_text="For a date: the first boundary from here on.")
    mappings = models.JSONField(default=list, help_text="`{from, to}` by item key; to null: dropped on purpose.")
    chosen = models.JSONField(default=dict, help_text="How the customers were chosen, as people read it.")
    state = models.CharField(max_length=12, choices=State, default=State.READY)
    fingerprint = models.CharField(max_length=64, blank=True, help_text="Of the dry run that was confirmed.")
    reason = models.TextField()
    created_by = models.CharField(max_length=150)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    approval = models.CharField(max_length=24, blank=True)
    approved_by = models.CharField(max_length=150, blank=True)
    take_back_reason = models.TextField(blank=True)
    taken_back_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ("-id",)
        permissions = [("migrate_plan", "Can move customers to another version of a plan")]
        indexes = [
            models.Index(
                fields=["state"], condition=Q(state__in=["running", "taking_back"]), name="migration_under_way"
            ),
        ]

    def __str__(self) -> str:
        return self.public_id


class MigrationRowQuerySet(models.QuerySet):
    def left(self) -> "MigrationRowQuerySet":
        """Not looked at yet."""
        return self.filter(state=MigrationRow.State.WAITING)


class MigrationRow(models.Model):
    """One contract of a migration: what it was expected to mean, and what became of it."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        SCHEDULED = "scheduled", "Scheduled"
        MOVED = "moved", "Moved"
        SKIPPED = "skipped", "Skipped"
        FAILED = "failed", "Failed"
        TAKEN_BACK = "taken_back", "Taken back"
        KEPT = "kept", "Kept: invoiced already"

    migration = models.ForeignKey(PlanMigration, on_delete=models.PROTECT, related_name="rows")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="migration_rows")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="migration_rows")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    code = models.CharField(max_length=40, blank=True, help_text="Why it was skipped or failed.")
    problem = models.CharField(max_length=500, blank=True)
    old_price = models.BigIntegerField(default=0, help_text="Per period of the plan, minor units.")
    new_price = models.BigIntegerField(default=0)
    lost = models.JSONField(default=list, help_text="Access that goes away, in words.")
    at = models.DateTimeField(null=True, help_text="When the new version begins.")
    phase = models.ForeignKey(Phase, on_delete=models.PROTECT, null=True, related_name="+")
    operation = models.ForeignKey("Operation", on_delete=models.PROTECT, null=True, related_name="+")
    done_at = models.DateTimeField(null=True)

    objects = MigrationRowQuerySet.as_manager()

    class Meta:
        ordering = ("id",)
        constraints = [
            models.UniqueConstraint(fields=["migration", "subscription"], name="contract_once_per_migration"),
        ]
        indexes = [models.Index(fields=["migration", "state", "id"], name="migration_row_state")]


class Note(models.Model):
    """What staff want the next person to know about a customer."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="notes")
    author = models.CharField(max_length=150)
    text = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("-created_at", "-id")


class OperationQuerySet(models.QuerySet):
    def newest(self) -> "OperationQuerySet":
        return self.order_by("-id")


class Operation(models.Model):
    """One act: who, what, why, with which inputs, and what came of it. Appended, never changed."""

    public_id = models.CharField(max_length=24, unique=True, default=new_operation_id, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, null=True, related_name="operations")
    verb = models.CharField(max_length=40)
    summary = models.CharField(max_length=500)
    actor = models.CharField(max_length=150)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    reason = models.TextField(blank=True)
    inputs = models.JSONField(default=dict)
    fingerprint = models.CharField(max_length=64, blank=True)
    effects = models.JSONField(default=dict)
    approval = models.CharField(max_length=24, blank=True, help_text="The request that somebody else approved.")
    approved_by = models.CharField(max_length=150, blank=True)
    batch = models.CharField(max_length=24, blank=True, help_text="The import or the bulk act that it was a row of.")
    # One act is taken back once. Whoever wants it back takes back the act that reverses it, so the chain has no forks.
    reverses = models.OneToOneField("self", on_delete=models.PROTECT, null=True, related_name="reversed_by")
    at = models.DateTimeField()

    objects = OperationQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        indexes = [
            models.Index(fields=["customer", "-id"], name="operation_of_customer"),
            models.Index(fields=["-at"], name="operation_at"),
            models.Index(fields=["batch", "id"], condition=~Q(batch=""), name="operation_of_batch"),
        ]

    def __str__(self) -> str:
        return self.summary
