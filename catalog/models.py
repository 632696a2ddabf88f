"""What we sell: features, products, plans, versions and their items.

A published version is frozen: triggers in the database refuse every change of it and of its items (see the
migration), so that its terms may be cached for ever and every invoice can be explained years later.
"""

from functools import lru_cache

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.text import slugify
from simple_history.models import HistoricalRecords

from catalog import terms
from catalog.charges import Price
from catalog.periods import FEE_CADENCES, NEVER, PLAN_CADENCES, RESETS
from catalog.rollovers import Rollover

KEY = RegexValidator(
    r"^[a-z0-9][a-z0-9_\-]*$", "Use lower-case letters, digits, - and _, starting with a letter or digit.", "bad_key"
)


def unique_key(model: type[models.Model], name: str, field: str = "key") -> str:
    """A free key slugged from a name: `api`, then `api-2`, `api-3`."""
    base = slugify(name)[:50] or model._meta.model_name or "item"
    taken = set(model._default_manager.filter(**{f"{field}__startswith": base}).values_list(field, flat=True))
    return base if base not in taken else next(k for n in range(2, 10_000) if (k := f"{base}-{n}") not in taken)


class ArchivableQuerySet(models.QuerySet):
    def offered(self) -> "ArchivableQuerySet":
        """Not archived: what a new plan may use."""
        return self.filter(archived_at=None)


class Meter(models.Model):
    """How reported events become units: which events, and what is made of their values over a window."""

    class Aggregation(models.TextChoices):
        SUM = "sum", "Sum of a property"
        COUNT = "count", "Number of events"
        MAX = "max", "Largest value"
        UNIQUE_COUNT = "unique_count", "Number of different values"
        LATEST = "latest", "Latest value"
        TIME_AVERAGE = "time_average", "Average level over time (GB-months)"

    slug = models.CharField(max_length=60, unique=True, validators=[KEY])
    name = models.CharField(max_length=120)
    event_name = models.CharField(max_length=120, help_text="The events it reads.")
    aggregation = models.CharField(max_length=15, choices=Aggregation, default=Aggregation.SUM)
    property = models.CharField(max_length=120, blank=True, help_text="Where the value stands; empty: the event's.")
    filters = models.JSONField(default=dict, blank=True, help_text="Property → the values that count; empty: all.")
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ArchivableQuerySet.as_manager()
    history = HistoricalRecords()

    class Meta:
        ordering = ("name",)
        indexes = [models.Index(fields=["event_name"], condition=Q(archived_at=None), name="meter_of_event")]

    def __str__(self) -> str:
        return self.name


class Feature(models.Model):
    class Type(models.TextChoices):
        BOOLEAN = terms.BOOLEAN, "On / off"
        METERED = terms.METERED, "Metered"
        STATIC = terms.STATIC, "Static value"

    class Usage(models.TextChoices):
        CONSUMABLE = terms.CONSUMABLE, "Consumable (used up)"
        ALLOCATED = terms.ALLOCATED, "Allocated (a level, such as seats)"

    slug = models.CharField(max_length=60, unique=True, validators=[KEY], help_text="What code asks for.")
    name = models.CharField(max_length=120)
    type = models.CharField(max_length=10, choices=Type)
    usage = models.CharField(max_length=10, choices=Usage, default=Usage.CONSUMABLE, help_text="Metered features only.")
    unit = models.CharField(max_length=30, blank=True, help_text='One unit, for people: "credit", "token".')
    description = models.TextField(blank=True)
    product = models.ForeignKey(
        "Product",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="own_features",
        help_text="Reserved for one product; empty: any plan may use it.",
    )
    meter = models.ForeignKey(
        Meter,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="features",
        help_text="Counts events by its rule; empty: units are reported as they are.",
    )
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ArchivableQuerySet.as_manager()
    history = HistoricalRecords()

    class Meta:
        ordering = ("name",)
        constraints = [
            models.CheckConstraint(
                name="feature_allocated_is_metered",
                condition=Q(usage=terms.CONSUMABLE) | Q(type=terms.METERED),
                violation_error_message="Only metered features can be allocated.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    def terms(self) -> terms.FeatureTerms:
        return terms.FeatureTerms(self.slug, self.name, self.type, self.usage, self.unit, self.pk, self.meter_id)


class Product(models.Model):
    key = models.CharField(max_length=60, unique=True, validators=[KEY])
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ArchivableQuerySet.as_manager()
    history = HistoricalRecords()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class PlanQuerySet(ArchivableQuerySet):
    def default(self) -> "PlanQuerySet":
        return self.filter(is_default=True)

    def on_sale(self) -> "PlanQuerySet":
        """Offered, with a version that new subscriptions take."""
        return self.filter(archived_at=None, current_version__isnull=False, product__archived_at=None)


class Plan(models.Model):
    class Kind(models.TextChoices):
        BILLED = "billed", "Billed (we invoice it)"
        ASSIGNED = "assigned", "Assigned by hand or API, never invoiced"
        STRIPE = "stripe", "Mirrored from Stripe"

    class BillingVersion(models.IntegerChoices):
        LEGACY = 0, "0 (legacy)"
        CURRENT = 1, "1"

    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="plans")
    key = models.CharField(max_length=60, unique=True, validators=[KEY])
    name = models.CharField(max_length=120, help_text="Internal: what staff call it.")
    invoice_display_name = models.CharField(max_length=120, help_text="What customers read on invoices.")
    description = models.TextField(blank=True)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.BILLED)
    currency = models.CharField(max_length=3, default="USD")
    billing_version = models.PositiveSmallIntegerField(choices=BillingVersion, default=BillingVersion.CURRENT)
    add_on = models.BooleanField(default=False, help_text="Stands beside the product's main plan.")
    is_default = models.BooleanField(default=False, help_text="Applies to whoever has nothing else.")
    current_version = models.ForeignKey(
        "PlanVersion", on_delete=models.PROTECT, null=True, blank=True, related_name="+", editable=False
    )
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PlanQuerySet.as_manager()
    history = HistoricalRecords()

    class Meta:
        ordering = ("product__name", "name")
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"],
                condition=Q(is_default=True),
                name="one_default_plan",
                violation_error_message="There is a default plan already.",
                violation_error_code="default_exists",
            ),
            models.CheckConstraint(
                name="default_plan_is_assigned",
                condition=Q(is_default=False) | Q(kind="assigned", add_on=False),
                violation_error_message="Only an assigned plan that is no add-on can be the default.",
            ),
            models.CheckConstraint(
                name="plan_billing_version_known",
                condition=Q(billing_version__in=[0, 1]),
                violation_error_message="Billing version must be 0 or 1.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def title(self) -> str:
        said = self.name == self.product.name or self.name.startswith(f"{self.product.name} · ")
        return self.name if said else f"{self.product.name} · {self.name}"

    @property
    def is_read_only(self) -> bool:
        """Name, prices and subscriptions of a mirrored plan are Stripe's; its features are ours."""
        return self.kind == self.Kind.STRIPE


class PlanVersionQuerySet(models.QuerySet):
    def standard(self) -> "PlanVersionQuerySet":
        return self.filter(tailored=False)

    def live(self) -> "PlanVersionQuerySet":
        return self.filter(state=PlanVersion.State.PUBLISHED)

    def with_items(self) -> "PlanVersionQuerySet":
        return self.select_related("plan__product").prefetch_related("items__feature")


class PlanVersion(models.Model):
    class State(models.TextChoices):
        DRAFT = "draft", "Draft"
        PUBLISHED = "published", "Published"
        ARCHIVED = "archived", "Archived"

    class TrialEnd(models.TextChoices):
        CHARGE = terms.CHARGE, "The first period begins and is billed"
        CANCEL = terms.CANCEL, "The subscription ends"

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    tailored = models.BooleanField(default=False, help_text="Made for one customer; numbered in a series of its own.")
    state = models.CharField(max_length=10, choices=State, default=State.DRAFT)
    cadence = models.CharField(max_length=5, default="P1M", choices={k: k for k in PLAN_CADENCES})
    trial_days = models.PositiveSmallIntegerField(default=0, help_text="Free days before the first period; 0: none.")
    trial_end = models.CharField(max_length=6, choices=TrialEnd, default=TrialEnd.CHARGE)
    commitment = models.DecimalField(
        max_digits=24,
        decimal_places=12,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="What a period costs at least; the difference is billed at its close.",
    )
    commit_message = models.CharField(max_length=500, blank=True)
    created_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = PlanVersionQuerySet.as_manager()

    class Meta:
        ordering = ("plan", "tailored", "-number")
        constraints = [
            models.UniqueConstraint(fields=["plan", "tailored", "number"], name="version_number_once_per_plan"),
            models.UniqueConstraint(
                fields=["plan"], condition=Q(state="draft", tailored=False), name="one_draft_per_plan"
            ),
            models.CheckConstraint(name="version_cadence_known", condition=Q(cadence__in=list(PLAN_CADENCES))),
        ]

    def __str__(self) -> str:
        return f"{self.plan.name} {self.label}"

    @property
    def label(self) -> str:
        return f"custom {self.number}" if self.tailored else f"v{self.number}"

    @property
    def is_frozen(self) -> bool:
        return self.state != self.State.DRAFT

    @property
    def billing_interval(self) -> str:
        """Deprecated word for the cadence: monthly, quarterly, yearly."""
        return PLAN_CADENCES[self.cadence]

    def terms(self) -> terms.PlanTerms:
        """The rate card as a value; cached in process once the version is frozen."""
        return terms_of(self.pk) if self.is_frozen else read_terms(self)


def read_terms(version: PlanVersion) -> terms.PlanTerms:
    return terms.PlanTerms(
        plan_id=version.plan_id,
        currency=version.plan.currency,
        cadence=version.cadence,
        items=tuple(item.terms() for item in version.items.all()),
        kind=version.plan.kind,
        billing_version=version.plan.billing_version,
        trial_days=version.trial_days,
        trial_end=version.trial_end,
        commitment=version.commitment,
        plan_name=version.plan.invoice_display_name,
        version_id=version.pk,
    )


@lru_cache(maxsize=20_000)
def _frozen_terms(version_id: int) -> terms.PlanTerms:
    return read_terms(PlanVersion.objects.with_items().get(pk=version_id))


def terms_of(version_id: int) -> terms.PlanTerms:
    """Terms of a published (frozen) version, read once per process."""
    return _frozen_terms(version_id)


class PlanItem(models.Model):
    class Limit(models.TextChoices):
        HARD = terms.HARD, "Hard: refused beyond it"
        SOFT = terms.SOFT, "Soft: counted beyond it"

    class ResetAnchor(models.TextChoices):
        BILLING_PERIOD = terms.BILLING_PERIOD, "Billing period"
        CALENDAR = terms.CALENDAR, "Calendar"

    class Term(models.TextChoices):
        IN_ADVANCE = terms.IN_ADVANCE, "In advance"
        IN_ARREARS = terms.IN_ARREARS, "In arrears"
        INSTANT = terms.INSTANT, "At once, from the wallet"

    class Proration(models.TextChoices):
        PRORATE = terms.PRORATE, "The share of the period that is left"
        IN_FULL = terms.IN_FULL, "The whole period"
        NEXT_CYCLE = terms.NEXT_CYCLE, "From the next period"

    version = models.ForeignKey(PlanVersion, on_delete=models.CASCADE, related_name="items")
    position = models.PositiveSmallIntegerField(default=0)
    key = models.CharField(max_length=60, validators=[KEY], help_text="Stable from version to version.")
    name = models.CharField(max_length=120, blank=True)
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, null=True, blank=True, related_name="items")
    # A fee
    amount = models.DecimalField(
        max_digits=24, decimal_places=12, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    cadence = models.CharField(
        max_length=5, blank=True, choices=FEE_CADENCES, help_text="How often it is billed; empty on use: with the plan."
    )
    quantity = models.PositiveIntegerField(default=1)
    # An allowance
    included = models.DecimalField(
        max_digits=24, decimal_places=6, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    unlimited = models.BooleanField(default=False)
    reset = models.CharField(max_length=5, choices=RESETS, default=NEVER)
    reset_anchor = models.CharField(max_length=15, choices=ResetAnchor, default=ResetAnchor.BILLING_PERIOD)
    limit = models.CharField(max_length=4, choices=Limit, default=Limit.HARD)
    max_overage = models.DecimalField(
        max_digits=24, decimal_places=6, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    value = models.CharField(max_length=500, blank=True, help_text="A static feature's number or text.")
    rollover = models.JSONField(null=True, blank=True, help_text="What of a window's rest lives on, and how long.")
    keeps_overage = models.BooleanField(
        default=False, help_text="What was used beyond a window is taken from the next one."
    )
    # A price of units: by use, prepaid, or per seat
    price = models.JSONField(null=True, blank=True, help_text="The charge model with its exact numbers.")
    term = models.CharField(max_length=10, choices=Term, blank=True, help_text="Empty: the usual one of its kind.")
    on_increase = models.CharField(max_length=10, choices=Proration, default=Proration.PRORATE)
    on_decrease = models.CharField(max_length=10, choices=Proration, default=Proration.PRORATE)

    class Meta:
        ordering = ("position", "id")
        constraints = [
            models.UniqueConstraint(fields=["version", "key"], name="item_key_once_per_version"),
            models.UniqueConstraint(
                fields=["version", "feature"],
                name="feature_once_per_version",
                violation_error_message="This feature is on the plan already.",
            ),
            models.CheckConstraint(
                name="item_is_a_fee_or_a_feature",
                condition=Q(feature=None, amount__isnull=False, price__isnull=True, included=None, unlimited=False)
                & ~Q(cadence="")
                | Q(feature__isnull=False, amount=None, quantity=1) & (Q(cadence="") | Q(price__isnull=False)),
                violation_error_message="An item is either a fee (with an amount) or a feature.",
            ),
            models.CheckConstraint(
                name="item_numbers_not_negative",
                condition=(Q(amount=None) | Q(amount__gte=0)) & (Q(included=None) | Q(included__gte=0)),
            ),
            models.CheckConstraint(
                name="priced_use_keeps_no_overage", condition=Q(keeps_overage=False) | Q(price__isnull=True)
            ),
            models.CheckConstraint(
                name="unlimited_includes_no_number", condition=Q(unlimited=False) | Q(included=None)
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.key

    def terms(self) -> terms.ItemTerms:
        return terms.ItemTerms(
            key=self.key,
            name=self.name,
            feature=self.feature.terms() if self.feature else None,
            amount=self.amount,
            cadence=self.cadence,
            quantity=self.quantity,
            included=self.included,
            unlimited=self.unlimited,
            reset=self.reset,
            reset_anchor=self.reset_anchor,
            limit=self.limit,
            max_overage=self.max_overage,
            price=None if self.price is None else Price.from_json(self.price),
            term=self.term,
            on_increase=self.on_increase,
            on_decrease=self.on_decrease,
            value=self.value,
            rollover=None if self.rollover is None else Rollover.from_json(self.rollover),
            keeps_overage=self.keeps_overage,
            id=self.pk,
        )


class Coupon(models.Model):
    """A discount or a reward: what it gives, for how long, on what, how often."""

    class Kind(models.TextChoices):
        PERCENT = "percent", "Percent off"
        FIXED = "fixed", "Amount off"
        INVOICE_CREDIT = "invoice_credit", "Credit for invoices"
        FREE_PRODUCT = "free_product", "Free product"
        FEATURE_GRANT = "feature_grant", "Units of a feature"

    class Duration(models.TextChoices):
        ONCE = "once", "One invoice"
        REPEATING = "repeating", "Several billing periods"
        FOREVER = "forever", "For ever"

    code = models.CharField(max_length=60, unique=True, validators=[KEY])
    name = models.CharField(max_length=120, help_text="What customers read on invoices.")
    kind = models.CharField(max_length=15, choices=Kind)
    percent = models.DecimalField(max_digits=7, decimal_places=4, null=True, blank=True)
    amount = models.BigIntegerField(null=True, blank=True, help_text="Minor units; amount off and invoice credit.")
    currency = models.CharField(max_length=3, blank=True)
    duration = models.CharField(max_length=10, choices=Duration, default=Duration.ONCE)
    periods = models.PositiveSmallIntegerField(null=True, blank=True, help_text="How many billing periods it lasts.")
    plans = models.ManyToManyField(Plan, blank=True, related_name="coupons", help_text="Empty: every plan.")
    item_keys = models.JSONField(default=list, blank=True, help_text="Empty: every item.")
    first_time_only = models.BooleanField(default=False, help_text="Only for customers who never paid an invoice.")
    max_redemptions = models.PositiveIntegerField(null=True, blank=True)
    redeem_by = models.DateTimeField(null=True, blank=True)
    free_plan = models.ForeignKey(Plan, on_delete=models.PROTECT, null=True, blank=True, related_name="free_by")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, null=True, blank=True, related_name="granted_by")
    units = models.DecimalField(max_digits=24, decimal_places=6, null=True, blank=True)
    lasts_days = models.PositiveIntegerField(
        null=True, blank=True, help_text="How long a credit, a product or units last."
    )
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ArchivableQuerySet.as_manager()
    history = HistoricalRecords()

    class Meta:
        ordering = ("name",)
        constraints = [
            models.CheckConstraint(
                name="coupon_percent_in_range", condition=Q(percent=None) | Q(percent__gt=0, percent__lte=100)
            ),
            models.CheckConstraint(name="coupon_amount_positive", condition=Q(amount=None) | Q(amount__gt=0)),
            models.CheckConstraint(
                name="coupon_gives_something",
                condition=Q(kind="percent", percent__isnull=False)
                | Q(kind__in=["fixed", "invoice_credit"], amount__isnull=False) & ~Q(currency="")
                | Q(kind="free_product", free_plan__isnull=False)
                | Q(kind="feature_grant", feature__isnull=False, units__gt=0),
            ),
            models.CheckConstraint(
                name="coupon_repeating_has_periods",
                condition=~Q(duration="repeating") | Q(periods__isnull=False, periods__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class PromoCode(models.Model):
    """A word that customers type to get a coupon, with limits of its own. Stored in upper case."""

    coupon = models.ForeignKey(Coupon, on_delete=models.PROTECT, related_name="promo_codes")
    code = models.CharField(max_length=40, unique=True)
    max_redemptions = models.PositiveIntegerField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    first_time_only = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("code",)

    def __str__(self) -> str:
        return self.code
