"""How it is paid: what we know of Stripe's objects, beside our own rows.

Amounts are whole minor units as in the rest of the house; Stripe's own units stop at the gateway. What is still to be
done is a query over these rows, so a worker may be late, killed or doubled.
"""

from datetime import datetime

from django.db import models
from django.db.models import F, Q

from catalog.models import Plan, Product
from customers.models import Customer, Subscription
from invoicing.models import Invoice


class Method(models.TextChoices):
    """Who starts a payment, or that Stripe takes no part in it."""

    CHARGE = "charge_automatically", "Charge the saved payment method"
    SEND = "send_invoice", "Send an invoice to pay"
    NONE = "none", "Do not collect with Stripe"


class StripeAccount(models.Model):
    """The account whose keys we have; one row, made with the first answer of Stripe."""

    SINGLE = 1

    stripe_id = models.CharField(max_length=40)
    name = models.CharField(max_length=200, blank=True)
    livemode = models.BooleanField()
    key_digest = models.CharField(max_length=16, help_text="Which secret key the account was read with.")
    connected_at = models.DateTimeField(help_text="Invoices issued before are not sent by themselves.")
    method = models.CharField(max_length=20, choices=Method, default=Method.CHARGE)
    auto_advance = models.BooleanField(
        default=False, help_text="Stripe retries failed payments by its own rules; else we do, on the days for retries."
    )
    link_key = models.CharField(
        max_length=40, default="customer_id", help_text="The metadata key under which Stripe's customers carry our id."
    )
    failing_since = models.DateTimeField(null=True, help_text="Stripe has not answered since then.")
    last_error = models.CharField(max_length=300, blank=True)
    last_answer_at = models.DateTimeField(null=True)
    mirrored_at = models.DateTimeField(null=True, help_text="When the first import was complete.")

    class Meta:
        verbose_name = "Stripe account"
        permissions = [("use_stripe", "Can collect, link and repair with Stripe")]
        constraints = [models.CheckConstraint(name="stripe_account_once", condition=Q(id=1))]

    def __str__(self) -> str:
        return self.name or self.stripe_id

    @classmethod
    def present(cls) -> "StripeAccount | None":
        return cls.objects.filter(pk=cls.SINGLE).first()


class StripeCustomerQuerySet(models.QuerySet):
    def linked(self) -> "StripeCustomerQuerySet":
        return self.filter(customer__isnull=False, deleted_at=None)

    def unlinked(self) -> "StripeCustomerQuerySet":
        return self.filter(customer=None, deleted_at=None)

    def out_of_step(self) -> "StripeCustomerQuerySet":
        """Those to whom Stripe does not write what we know: name, e-mail, our id."""
        same = Q(sent_name=F("customer__name"), sent_email=F("customer__email"), sent_id=F("customer__customer_id"))
        return self.linked().filter(customer__erased_at=None).exclude(same)


class StripeCustomer(models.Model):
    """A customer of Stripe's, and which of ours it is; none while nobody has linked it."""

    class Link(models.TextChoices):
        CREATED = "created", "Made by us"
        METADATA = "metadata", "By the metadata key"
        HAND = "hand", "By hand"
        CSV = "csv", "By a file"

    stripe_id = models.CharField(max_length=40, unique=True)
    customer = models.OneToOneField(Customer, on_delete=models.PROTECT, null=True, related_name="stripe")
    linked_by = models.CharField(max_length=10, choices=Link, blank=True)
    linked_at = models.DateTimeField(null=True)
    name = models.CharField(max_length=200, blank=True, help_text="As Stripe has it.")
    email = models.CharField(max_length=254, blank=True)
    key = models.CharField(max_length=200, blank=True, help_text="What stands under the account's metadata key.")
    conflict = models.CharField(max_length=300, blank=True, help_text="Why it is not linked by itself.")
    sent_name = models.CharField(max_length=200, blank=True, help_text="What we told Stripe last.")
    sent_email = models.CharField(max_length=254, blank=True)
    sent_id = models.CharField(max_length=120, blank=True)
    method = models.CharField(max_length=20, choices=Method, blank=True, help_text="Empty: as the account does.")
    payment_methods = models.JSONField(
        default=list, help_text="Cards and debits as Stripe has them: id, type, brand, last4, expires, default."
    )
    next_attempt_at = models.DateTimeField(null=True, help_text="After a failure: when to tell Stripe again.")
    attempts = models.PositiveSmallIntegerField(default=0)
    problem = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(null=True, help_text="In Stripe.")
    deleted_at = models.DateTimeField(null=True, help_text="Deleted in Stripe.")
    seen_at = models.DateTimeField(null=True)

    objects = StripeCustomerQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        verbose_name = "Stripe customer"
        indexes = [models.Index(fields=["id"], condition=Q(customer=None, deleted_at=None), name="stripe_unlinked")]

    def __str__(self) -> str:
        return self.name or self.stripe_id

    @property
    def default_method(self) -> "dict[str, object] | None":
        """What Stripe charges by itself; None when there is nothing to charge."""
        return next((m for m in self.payment_methods if m.get("default")), None)


class StripeInvoiceQuerySet(models.QuerySet):
    def waiting(self) -> "StripeInvoiceQuerySet":
        """The backlog: a next step is planned."""
        return self.filter(next_attempt_at__isnull=False)

    def due(self, now: datetime) -> "StripeInvoiceQuerySet":
        free = Q(claimed_until=None) | Q(claimed_until__lte=now)
        return self.filter(free, next_attempt_at__lte=now)

    def outrun(self) -> "StripeInvoiceQuerySet":
        """Those whose document was paid, if in part, voided or given up here while Stripe still asks for all of it."""
        asked = Q(status__in=["draft", "open", "uncollectible"], next_attempt_at=None)
        due = F("invoice__total") - F("invoice__credit_applied") - F("invoice__offset") - F("invoice__paid")
        too_much = Q(invoice__state="open", status="open", asked__gt=F("collected") + due)
        closed = too_much | Q(invoice__state__in=["paid", "void"]) | Q(invoice__state="uncollectible", status="open")
        # One that was parked after it was closed is a person's.
        since = Q(parked_at__lt=F("invoice__paid_at")) | Q(parked_at__lt=F("invoice__voided_at"))
        return self.filter(asked, closed, Q(parked_at=None) | since)


class StripeInvoice(models.Model):
    """One of our invoices on its way through Stripe."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting for Stripe"
        NEEDS_METHOD = "needs_method", "No payment method"
        SENT = "sent", "Sent to the customer"
        ACTION = "requires_action", "Waits for the customer's confirmation"
        DECLINED = "declined", "Declined"
        PROCESSING = "processing", "Processing"
        PAID = "paid", "Paid"
        OUTSIDE = "paid_outside", "Settled outside Stripe"
        PART_REFUNDED = "partially_refunded", "Partially refunded"
        REFUNDED = "refunded", "Refunded"
        DISPUTED = "disputed", "Disputed"
        LOST = "dispute_lost", "Dispute lost"
        VOID = "void", "Void in Stripe"
        UNCOLLECTIBLE = "uncollectible", "Uncollectible"
        PARKED = "parked", "Parked"

    invoice = models.OneToOneField(Invoice, on_delete=models.PROTECT, related_name="stripe")
    stripe_id = models.CharField(max_length=40, unique=True, null=True, help_text="None: not made there yet.")
    number = models.CharField(max_length=60, blank=True, help_text="Stripe's own.")
    method = models.CharField(max_length=20, choices=Method)
    status = models.CharField(max_length=15, blank=True, help_text="Stripe's word: draft, open, paid, void, …")
    state = models.CharField(max_length=20, choices=State, default=State.WAITING)
    code = models.CharField(max_length=60, blank=True, help_text="Stripe's code of what is wrong.")
    problem = models.CharField(max_length=500, blank=True, help_text="What is wrong, as a sentence.")
    payment_intent = models.CharField(max_length=40, blank=True)
    paid_with = models.CharField(max_length=60, blank=True, help_text="The card or account that the money came from.")
    hosted_url = models.CharField(max_length=1000, blank=True)
    pdf_url = models.CharField(max_length=1000, blank=True)
    asked = models.BigIntegerField(default=0, help_text="What the Stripe invoice asks for, minor units.")
    collected = models.BigIntegerField(default=0, help_text="What Stripe took in for it.")
    refunded = models.BigIntegerField(default=0, help_text="What Stripe gave back of that.")
    queued_at = models.DateTimeField()
    next_attempt_at = models.DateTimeField(null=True, help_text="When the next step is due; None: nothing to do.")
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Failures in a row to reach Stripe.")
    generation = models.PositiveSmallIntegerField(
        default=0, help_text="Part of the idempotency keys: counted up when Stripe answered that it failed."
    )
    charges = models.PositiveSmallIntegerField(default=0, help_text="Attempts to charge that Stripe has answered.")
    charge_asked = models.BooleanField(default=False, help_text="Somebody asked to charge again now.")
    claimed_until = models.DateTimeField(null=True, help_text="A worker is at it until then.")
    parked_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True)

    objects = StripeInvoiceQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        verbose_name = "Stripe invoice"
        indexes = [
            models.Index(fields=["next_attempt_at"], condition=Q(next_attempt_at__isnull=False), name="stripe_due"),
            models.Index(fields=["payment_intent"], condition=~Q(payment_intent=""), name="stripe_by_intent"),
            models.Index(
                fields=["status"],
                condition=Q(status__in=["draft", "open", "uncollectible"], next_attempt_at=None),
                name="stripe_still_asks",
            ),
            models.Index(fields=["state", "-id"], name="stripe_by_state"),
        ]

    def __str__(self) -> str:
        return self.stripe_id or f"{self.invoice_id}, not in Stripe yet"


class StripeCreditQuerySet(models.QuerySet):
    def due(self, now: datetime) -> "StripeCreditQuerySet":
        return self.filter(next_attempt_at__lte=now)


class StripeCredit(models.Model):
    """Money that a credit note of ours gives back through Stripe, of one invoice that was paid there."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting for Stripe"
        PENDING = "pending", "On its way"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        PARKED = "parked", "Parked"
        CANCELED = "canceled", "Cancelled"

    note = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="stripe_credits")
    of = models.ForeignKey(StripeInvoice, on_delete=models.PROTECT, related_name="credits")
    amount = models.BigIntegerField()
    stripe_id = models.CharField(max_length=40, unique=True, null=True, help_text="Stripe's credit note.")
    refund_id = models.CharField(max_length=40, blank=True)
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    problem = models.CharField(max_length=500, blank=True)
    queued_at = models.DateTimeField()
    next_attempt_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    generation = models.PositiveSmallIntegerField(default=0)

    objects = StripeCreditQuerySet.as_manager()

    class Meta:
        ordering = ("id",)
        verbose_name = "Stripe credit"
        constraints = [
            models.UniqueConstraint(fields=["note", "of"], name="one_stripe_credit_per_note_and_invoice"),
            models.CheckConstraint(name="stripe_credit_positive", condition=Q(amount__gt=0)),
        ]
        indexes = [
            models.Index(fields=["next_attempt_at"], condition=Q(next_attempt_at__isnull=False), name="credit_due"),
            models.Index(fields=["refund_id"], condition=~Q(refund_id=""), name="credit_by_refund"),
        ]


class StripeEventQuerySet(models.QuerySet):
    def due(self, now: datetime) -> "StripeEventQuerySet":
        return self.filter(state=StripeEvent.State.WAITING, next_attempt_at__lte=now)


class StripeEvent(models.Model):
    """One event of Stripe's, kept once by its id. It says which object to look at, not what to believe of it."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        DONE = "done", "Done"
        IGNORED = "ignored", "Ignored"
        FAILED = "failed", "Failed"

    stripe_id = models.CharField(max_length=80, unique=True)
    type = models.CharField(max_length=100)
    object_id = models.CharField(max_length=80, blank=True)
    customer = models.CharField(max_length=80, blank=True, help_text="Stripe's id of the customer whom it is about.")
    happened_at = models.DateTimeField(help_text="Stripe's clock.")
    received_at = models.DateTimeField()
    was_fetched = models.BooleanField(default=False, help_text="We asked for it; else Stripe sent it.")
    payload = models.JSONField()
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    outcome = models.CharField(max_length=300, blank=True, help_text="What became of it, or why it failed.")
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    processed_at = models.DateTimeField(null=True)

    objects = StripeEventQuerySet.as_manager()

    class Meta:
        ordering = ("-happened_at", "-id")
        verbose_name = "Stripe event"
        indexes = [
            models.Index(fields=["-happened_at", "-id"], name="stripe_event_newest"),
            models.Index(fields=["object_id", "-happened_at"], name="stripe_event_of_object"),
            models.Index(fields=["type", "-happened_at"], name="stripe_event_by_type"),
            models.Index(
                fields=["customer", "-happened_at"], condition=~Q(customer=""), name="stripe_event_of_customer"
            ),
            models.Index(fields=["state", "-happened_at"], name="stripe_event_by_state"),
            models.Index(fields=["next_attempt_at"], condition=Q(state="waiting"), name="stripe_event_due"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.stripe_id}"


class StripeRefusal(models.Model):
    """How many events came that are not for us; of the events themselves nothing is kept."""

    class Kind(models.TextChoices):
        ACCOUNT = "account", "of another account"
        MODE = "mode", "of the other mode, test or live"

    kind = models.CharField(max_length=7, choices=Kind, primary_key=True)
    number = models.PositiveIntegerField()
    since = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        verbose_name = "Stripe refusal"

    def __str__(self) -> str:
        return f"{self.number} {self.get_kind_display()}"


class StripeProduct(models.Model):
    """A product of Stripe's; its plans are the prices that repeat."""

    stripe_id = models.CharField(max_length=40, unique=True)
    product = models.OneToOneField(Product, on_delete=models.PROTECT, null=True, related_name="stripe")
    name = models.CharField(max_length=250)
    is_active = models.BooleanField(default=True)
    conflict = models.CharField(max_length=300, blank=True, help_text="Why it is not mirrored.")
    seen_at = models.DateTimeField()

    class Meta:
        ordering = ("name", "id")
        verbose_name = "Stripe product"

    def __str__(self) -> str:
        return self.name


class StripePrice(models.Model):
    """A price of Stripe's; one that repeats is a plan of ours, whose features are defined here."""

    stripe_id = models.CharField(max_length=60, unique=True)
    product = models.ForeignKey(StripeProduct, on_delete=models.PROTECT, related_name="prices")
    plan = models.OneToOneField(Plan, on_delete=models.PROTECT, null=True, related_name="stripe")
    is_active = models.BooleanField(default=True)
    facts = models.JSONField(default=dict, help_text="Currency, amount, interval, scheme, tiers, as Stripe has them.")
    conflict = models.CharField(max_length=300, blank=True, help_text="Why it is not mirrored.")
    seen_at = models.DateTimeField()

    class Meta:
        ordering = ("product", "id")
        verbose_name = "Stripe price"

    def __str__(self) -> str:
        return self.stripe_id


class StripeSubscription(models.Model):
    """One item of a subscription of Stripe's, and the subscription here that follows it."""

    stripe_id = models.CharField(max_length=40, help_text="Of the subscription: several items may share it.")
    item_id = models.CharField(max_length=40, unique=True)
    stripe_customer = models.ForeignKey(StripeCustomer, on_delete=models.PROTECT, related_name="subscriptions")
    price = models.ForeignKey(StripePrice, on_delete=models.PROTECT, null=True, related_name="subscriptions")
    subscription = models.OneToOneField(Subscription, on_delete=models.PROTECT, null=True, related_name="stripe")
    status = models.CharField(max_length=20)
    quantity = models.PositiveIntegerField(default=1)
    period_starts_at = models.DateTimeField(null=True)
    period_ends_at = models.DateTimeField(null=True)
    anchor = models.DateTimeField(null=True, help_text="Where its periods are counted from.")
    started_at = models.DateTimeField(null=True)
    trial_ends_at = models.DateTimeField(null=True)
    cancels_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    conflict = models.CharField(max_length=300, blank=True, help_text="Why nothing follows it.")
    removed_at = models.DateTimeField(null=True, help_text="The item is no longer part of it.")
    seen_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        verbose_name = "Stripe subscription"
        indexes = [
            models.Index(fields=["stripe_id"], name="stripe_subscription_items"),
            models.Index(fields=["id"], condition=~Q(conflict=""), name="stripe_subscription_conflict"),
        ]

    def __str__(self) -> str:
        return self.stripe_id


class StripeRun(models.Model):
    """One import or comparison. `cursor` says where a run that was interrupted goes on."""

    class Kind(models.TextChoices):
        IMPORT = "import", "Import"
        COMPARISON = "comparison", "Comparison"

    kind = models.CharField(max_length=10, choices=Kind)
    started_at = models.DateTimeField()
    started_by = models.CharField(max_length=150)
    cursor = models.JSONField(default=dict, help_text="The stage, and the last id of it.")
    counts = models.JSONField(default=dict)
    claimed_until = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ("-id",)
        verbose_name = "Stripe run"
        constraints = [
            models.UniqueConstraint(
                fields=["kind"], condition=Q(finished_at=None), name="one_stripe_run_of_a_kind_at_a_time"
            )
        ]


class Difference(models.Model):
    """Where our books and Stripe's part, as one comparison saw it. A person presses the button that repairs it."""

    class Subject(models.TextChoices):
        CUSTOMER = "customer", "Customer"
        INVOICE = "invoice", "Invoice"
        PAYMENT = "payment", "Payment"
        SUBSCRIPTION = "subscription", "Subscription"

    class Kind(models.TextChoices):
        MISSING_HERE = "missing_here", "Missing here"
        MISSING_THERE = "missing_there", "Missing in Stripe"
        AMOUNT = "amount", "Other amount"
        STATUS = "status", "Other status"
        OWNER = "owner", "Other owner"

    run = models.ForeignKey(StripeRun, on_delete=models.PROTECT, related_name="differences")
    subject = models.CharField(max_length=12, choices=Subject)
    kind = models.CharField(max_length=13, choices=Kind)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, null=True, related_name="stripe_differences")
    our_id = models.CharField(max_length=60, blank=True)
    stripe_id = models.CharField(max_length=80, blank=True)
    ours = models.CharField(max_length=200, blank=True, help_text="As we have it, in words.")
    theirs = models.CharField(max_length=200, blank=True)
    repair = models.CharField(max_length=40, blank=True, help_text="The safe repair; empty: a person must decide.")
    since = models.DateTimeField(help_text="When it was seen first; `run` is the last comparison that saw it.")
    settled_at = models.DateTimeField(null=True, help_text="Repaired, or gone in a later comparison.")
    settled_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=["subject", "kind", "our_id", "stripe_id"],
                condition=Q(settled_at=None),
                name="one_open_difference_of_a_kind",
            )
        ]
        indexes = [
            models.Index(fields=["subject", "kind", "-id"], condition=Q(settled_at=None), name="open_difference")
        ]
