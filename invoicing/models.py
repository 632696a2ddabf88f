"""What they owe: invoices and credit notes with their lines, payments, and the account credit ledger.

Amounts are whole minor units of the document's currency. Issued documents never change; a correction is another
document. Every line stores how its amount came about.
"""

import secrets
from datetime import datetime

from django.db import models
from django.db.models import F, Q

from catalog.models import Plan, PlanItem
from customers.models import AppliedCoupon, Customer, Operation, Phase, PriceOverride, Subscription, public_id
from entitlements.models import Balance, UsageEvent
from invoicing.states import NEXT, NEXT_OF_NOTE, CannotMove, InvoiceState


def default_retry_days() -> list[int]:
    return [3, 7, 14, 21]


def new_invoice_id() -> str:
    return public_id("in")


def new_invoice_credit_id() -> str:
    return public_id("icr")


def new_payment_id() -> str:
    return public_id("pay")


def new_refund_id() -> str:
    return public_id("ref")


def new_token() -> str:
    """What stands in the link that customers get: 256 bits, so that nobody guesses it."""
    return secrets.token_urlsafe(32)


class BillingSettings(models.Model):
    """How this account bills; one row. A subscription may override the window, the approval and the terms."""

    SINGLE = 1

    payment_window_hours = models.PositiveSmallIntegerField(
        default=24, help_text="So long may a first invoice stay unpaid."
    )
    grace_hours = models.PositiveSmallIntegerField(
        default=0, help_text="So long an invoice with use waits for late events before it is issued."
    )
    approve_first_invoices = models.BooleanField(
        default=False, help_text="First invoices wait for somebody's approval."
    )
    net_terms_days = models.PositiveSmallIntegerField(default=0, help_text="Days to pay; above 0 nothing is gated.")
    retry_days = models.JSONField(
        default=default_retry_days,
        help_text="Days after the due date on which payment is asked for again; after the last it is given up.",
    )
    most_lines = models.PositiveIntegerField(default=1000, help_text="A renewal with more lines waits for a person.")
    most_growth = models.PositiveIntegerField(
        default=20, help_text="So does one whose total is beyond so many times the largest of the last year."
    )
    company_name = models.CharField(max_length=200, blank=True)
    company_address = models.TextField(blank=True)
    company_tax_number = models.CharField(max_length=40, blank=True)
    invoice_footer = models.TextField(blank=True)
    payment_instructions = models.TextField(
        blank=True, help_text="How customers pay by transfer: bank, IBAN. The number of the invoice is added."
    )
    send_invoices = models.BooleanField(default=False, help_text="Mail every issued document to its customer.")

    class Meta:
        verbose_name_plural = "billing settings"
        constraints = [models.CheckConstraint(name="billing_settings_once", condition=Q(id=1))]

    def __str__(self) -> str:
        return "Billing settings"

    @classmethod
    def present(cls) -> "BillingSettings":
        """The row, or what holds without one."""
        return cls.objects.filter(pk=cls.SINGLE).first() or cls(pk=cls.SINGLE)


class InvoiceSeries(models.Model):
    """The gapless numbers of one customer: counted up under a row lock, in the transaction that issues."""

    customer = models.OneToOneField(Customer, on_delete=models.PROTECT, related_name="invoice_series")
    prefix = models.CharField(max_length=12, unique=True)
    invoices = models.PositiveIntegerField(default=0)
    credit_notes = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "invoice series"


class InvoiceQuerySet(models.QuerySet):
    def invoices(self) -> "InvoiceQuerySet":
        return self.filter(kind=Invoice.Kind.INVOICE)

    def unpaid(self) -> "InvoiceQuerySet":
        return self.filter(kind=Invoice.Kind.INVOICE, state=InvoiceState.OPEN)

    def newest(self) -> "InvoiceQuerySet":
        return self.order_by("-id")

    def drafts(self) -> "InvoiceQuerySet":
        return self.filter(state=InvoiceState.DRAFT)

    def to_issue(self, now: datetime) -> "InvoiceQuerySet":
        """Drafts whose grace is over."""
        return self.filter(state=InvoiceState.DRAFT, issues_at__lte=now)

    def gating(self) -> "InvoiceQuerySet":
        """First invoices whose payment somebody's access waits for."""
        return self.filter(state__in=[InvoiceState.DRAFT, InvoiceState.OPEN], gates__pending_since__isnull=False) | (
            self.filter(
                state__in=[InvoiceState.DRAFT, InvoiceState.OPEN],
                gates__isnull=False,
                subscription__state="pending_payment",
            )
        )

    def expired(self, now: datetime) -> "InvoiceQuerySet":
        """First invoices that nobody paid within their window."""
        return self.filter(state__in=[InvoiceState.DRAFT, InvoiceState.OPEN], expires_at__lte=now)

    def overdue(self, now: datetime) -> "InvoiceQuerySet":
        """Past their due date. One that gates a plan has a window of its own."""
        return self.unpaid().filter(due_at__lt=now, expires_at=None)

    def to_remind(self, now: datetime) -> "InvoiceQuerySet":
        """Overdue ones whose next step has come, unless the collection of their contract is paused."""
        waiting = self.overdue(now).filter(Q(next_reminder_at=None) | Q(next_reminder_at__lte=now))
        return waiting.exclude(subscription__in=Subscription.objects.paused(now))


class Invoice(models.Model):
    class Kind(models.TextChoices):
        INVOICE = "invoice", "Invoice"
        CREDIT_NOTE = "credit_note", "Credit note"

    class Settlement(models.TextChoices):
        ACCOUNT_CREDIT = "account_credit", "Account credit"
        REFUND = "refund", "Refund"
        OFFSET = "offset", "Off the open invoice"

    State = InvoiceState

    public_id = models.CharField(max_length=24, unique=True, default=new_invoice_id, editable=False)
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.INVOICE)
    number = models.CharField(max_length=24, unique=True, null=True)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="invoices")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, null=True, related_name="invoices")
    operation = models.ForeignKey(Operation, on_delete=models.PROTECT, null=True, related_name="invoices")
    state = models.CharField(max_length=15, choices=InvoiceState, default=InvoiceState.DRAFT)
    currency = models.CharField(max_length=3)
    token = models.CharField(max_length=64, unique=True, default=new_token, editable=False)
    subtotal = models.BigIntegerField(default=0, help_text="Sum of the lines, minor units.")
    discount_total = models.BigIntegerField(default=0, help_text="Taken off by coupons.")
    credit_total = models.BigIntegerField(default=0, help_text="Taken off by invoice credits, before tax.")
    tax_added = models.BigIntegerField(default=0, help_text="Tax on top of the prices.")
    tax_included = models.BigIntegerField(default=0, help_text="Tax inside the prices.")
    total = models.BigIntegerField(
        help_text="Lines − discounts − credits + added tax, minor units; a credit note's is below zero."
    )
    credit_applied = models.BigIntegerField(default=0, help_text="Taken from account credit.")
    offset = models.BigIntegerField(default=0, help_text="Taken off by credit notes that offset this invoice.")
    paid = models.BigIntegerField(default=0, help_text="Sum of the payments that count towards it.")
    offsets = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        related_name="offset_by",
        help_text="Credit notes: whose debt it cuts.",
    )
    settlement = models.CharField(
        max_length=15, choices=Settlement, blank=True, help_text="Credit notes: where the money goes."
    )
    corrects = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="credit_notes", help_text="Credit notes: of what."
    )
    replaces = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="replaced_by", help_text="The void one it stands for."
    )
    gates = models.ForeignKey(
        Phase, on_delete=models.PROTECT, null=True, related_name="gating_invoices", help_text="What its payment starts."
    )
    awaits_approval = models.BooleanField(default=False)
    memo = models.TextField(blank=True)
    covers_from = models.DateTimeField(null=True)
    covers_until = models.DateTimeField(null=True)
    issued_at = models.DateTimeField(null=True)
    issues_at = models.DateTimeField(null=True, help_text="Drafts: when the grace for late use is over.")
    boundary_at = models.DateTimeField(null=True, help_text="Drafts: the end of the period that they bill use of.")
    expires_at = models.DateTimeField(null=True, help_text="First invoices: void if unpaid by then.")
    next_reminder_at = models.DateTimeField(null=True)
    reminders = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)
    voided_at = models.DateTimeField(null=True)
    void_reason = models.TextField(blank=True)

    objects = InvoiceQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        permissions = [
            ("pay_invoice", "Can record payments"),
            ("void_invoice", "Can void invoices"),
            ("edit_draft", "Can add lines to draft invoices and issue them"),
            ("approve_invoice", "Can approve first invoices"),
            ("credit_invoice", "Can make credit notes and refunds"),
            ("write_off_invoice", "Can mark invoices as uncollectible"),
        ]
        constraints = [
            models.CheckConstraint(
                name="issued_has_number",
                condition=Q(state__in=["draft", "void"]) | Q(number__isnull=False, issued_at__isnull=False),
            ),
            models.CheckConstraint(
                name="invoice_adds_up",
                condition=Q(total=F("subtotal") - F("discount_total") - F("credit_total") + F("tax_added")),
            ),
            models.CheckConstraint(
                name="invoice_signs",
                condition=Q(kind="invoice", total__gte=0) | Q(kind="credit_note", total__lte=0),
            ),
            models.CheckConstraint(
                name="not_settled_beyond_total",
                condition=Q(kind="credit_note") | Q(total__gte=F("credit_applied") + F("offset") + F("paid")),
            ),
            models.CheckConstraint(
                name="settled_parts_not_negative", condition=Q(credit_applied__gte=0, offset__gte=0, paid__gte=0)
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "-id"], name="invoice_of_customer"),
            models.Index(fields=["due_at"], condition=Q(state="open", kind="invoice"), name="invoice_unpaid"),
            models.Index(fields=["issues_at"], condition=Q(state="draft"), name="invoice_to_issue"),
            models.Index(
                fields=["expires_at"],
                condition=Q(state__in=["draft", "open"], expires_at__isnull=False),
                name="invoice_to_expire",
            ),
            models.Index(
                fields=["next_reminder_at"],
                condition=Q(state="open", next_reminder_at__isnull=False),
                name="invoice_to_remind",
            ),
            models.Index(fields=["issued_at"], name="invoice_issued"),
        ]

    def __str__(self) -> str:
        return self.number or f"Draft {self.public_id}"

    @property
    def due(self) -> int:
        """What is still to be paid, in minor units; nothing on a credit note or a closed document."""
        if self.kind == self.Kind.CREDIT_NOTE or self.state in (InvoiceState.VOID, InvoiceState.PAID):
            return 0
        return self.total - self.credit_applied - self.offset - self.paid

    def move_to(self, state: str) -> None:
        moves = NEXT if self.kind == self.Kind.INVOICE else NEXT_OF_NOTE
        if state not in moves.get(self.state, set()):
            raise CannotMove(self.state, state)
        self.state = state


class InvoiceLine(models.Model):
    class Kind(models.TextChoices):
        FEE = "fee", "Fee"
        ONE_TIME = "one_time", "One-time fee"
        UNUSED = "unused", "Unused time"
        USAGE = "usage", "Usage"
        PREPAID = "prepaid", "Prepaid units"
        SEATS = "seats", "Seats"
        SEATS_ADDED = "seats_added", "Seats added"
        OVERRIDE = "override", "Special price"
        MANUAL = "manual", "Manual line"
        MINIMUM = "minimum", "Minimum"
        MAXIMUM = "maximum", "Maximum"
        TRUE_UP = "true_up", "Minimum commitment"
        CORRECTION = "correction", "Correction"

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines")
    position = models.PositiveSmallIntegerField(default=0)
    kind = models.CharField(max_length=12, choices=Kind)
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, null=True, related_name="invoice_lines")
    phase = models.ForeignKey(Phase, on_delete=models.PROTECT, null=True, related_name="invoice_lines")
    item = models.ForeignKey(PlanItem, on_delete=models.PROTECT, null=True, related_name="invoice_lines")
    balance = models.ForeignKey(Balance, on_delete=models.PROTECT, null=True, related_name="invoice_lines")
    source = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="credits", help_text="A credit's charge."
    )
    override = models.ForeignKey(PriceOverride, on_delete=models.PROTECT, null=True, related_name="invoice_lines")
    key = models.CharField(max_length=60, blank=True)
    description = models.CharField(max_length=300)
    quantity = models.DecimalField(max_digits=30, decimal_places=6)
    rate = models.DecimalField(max_digits=24, decimal_places=12, null=True)
    starts_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField(null=True)
    amount = models.BigIntegerField(help_text="Minor units, before deductions.")
    discounted = models.BigIntegerField(default=0, help_text="Its part of the coupons.")
    credited = models.BigIntegerField(default=0, help_text="Its part of the invoice credits.")
    tax = models.BigIntegerField(default=0, help_text="All tax on it, added or included.")
    taxes = models.JSONField(default=list, help_text="Rates as they were: id, name, percent, inclusive, amount.")
    is_replaced = models.BooleanField(default=False, help_text="Its invoice was voided and issued anew.")
    derivation = models.JSONField(default=dict)

    class Meta:
        ordering = ("invoice", "position", "id")
        constraints = [
            models.UniqueConstraint(
                fields=["phase", "item", "starts_at"],
                condition=Q(kind__in=["fee", "prepaid", "seats"], is_replaced=False),
                name="fee_billed_once_per_period",
            ),
            models.UniqueConstraint(
                fields=["phase", "item"],
                condition=Q(kind="one_time", is_replaced=False),
                name="one_time_fee_billed_once",
            ),
            models.UniqueConstraint(
                fields=["balance", "item"],
                condition=Q(kind="usage", is_replaced=False),
                name="usage_of_a_window_billed_once",
            ),
            models.UniqueConstraint(
                fields=["override", "description", "starts_at"],
                condition=Q(kind="override", is_replaced=False),
                name="special_price_billed_once",
            ),
            models.UniqueConstraint(
                fields=["phase", "starts_at"],
                condition=Q(kind="true_up", is_replaced=False),
                name="commitment_billed_once_per_period",
            ),
        ]
        indexes = [
            models.Index(fields=["subscription", "ends_at"], name="line_of_contract"),
        ]

    def __str__(self) -> str:
        return self.description

    @property
    def net(self) -> int:
        """What it charged in the end, before tax."""
        return self.amount - self.discounted - self.credited


class PendingLine(models.Model):
    """A manual line that waits for the next invoice of a subscription. Negative: a credit."""

    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="pending_lines")
    description = models.CharField(max_length=300)
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    line = models.OneToOneField(InvoiceLine, on_delete=models.PROTECT, null=True, related_name="pending_line")

    class Meta:
        ordering = ("id",)
        indexes = [models.Index(fields=["subscription"], condition=Q(line=None), name="pending_line_waiting")]


class InvoiceCreditQuerySet(models.QuerySet):
    def live(self, now: datetime) -> "InvoiceCreditQuerySet":
        """Neither void nor expired; something may be left of them or not."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), voided_at=None)


class InvoiceCredit(models.Model):
    """Money that comes off invoices before tax until it is used up or ends; what is left is counted from documents."""

    public_id = models.CharField(max_length=24, unique=True, default=new_invoice_credit_id, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="invoice_credits")
    applied_coupon = models.ForeignKey(
        AppliedCoupon, on_delete=models.PROTECT, null=True, related_name="invoice_credits"
    )
    label = models.CharField(max_length=120)
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    priority = models.SmallIntegerField(default=0)
    expires_at = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    voided_at = models.DateTimeField(null=True)

    objects = InvoiceCreditQuerySet.as_manager()

    class Meta:
        ordering = ("id",)
        constraints = [models.CheckConstraint(name="invoice_credit_positive", condition=Q(amount__gt=0))]
        indexes = [
            models.Index(fields=["customer"], condition=Q(voided_at=None), name="invoice_credit_of_customer"),
        ]


class Deduction(models.Model):
    """What a coupon or an invoice credit took off one document, before tax."""

    class Kind(models.TextChoices):
        DISCOUNT = "discount", "Coupon"
        INVOICE_CREDIT = "invoice_credit", "Invoice credit"

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="deductions")
    position = models.PositiveSmallIntegerField(default=0)
    kind = models.CharField(max_length=15, choices=Kind)
    applied_coupon = models.ForeignKey(AppliedCoupon, on_delete=models.PROTECT, null=True, related_name="deductions")
    invoice_credit = models.ForeignKey(InvoiceCredit, on_delete=models.PROTECT, null=True, related_name="deductions")
    label = models.CharField(max_length=200)
    amount = models.BigIntegerField()
    derivation = models.JSONField(default=dict)

    class Meta:
        ordering = ("position", "id")
        constraints = [
            models.CheckConstraint(name="deduction_positive", condition=Q(amount__gt=0)),
            models.CheckConstraint(
                name="deduction_has_one_source",
                condition=Q(kind="discount", invoice_credit=None) | Q(kind="invoice_credit", applied_coupon=None),
            ),
        ]


class TaxRate(models.Model):
    """A named rate. It is archived, not edited: documents keep the rate they were issued with."""

    name = models.CharField(max_length=60, help_text="What customers read: VAT, Sales tax.")
    percent = models.DecimalField(max_digits=7, decimal_places=4)
    inclusive = models.BooleanField(default=False, help_text="Inside the prices; else on top of them.")
    region = models.CharField(max_length=60, blank=True)
    is_default = models.BooleanField(default=False, help_text="For whoever has no rate of their own.")
    archived_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name", "percent")
        constraints = [
            models.CheckConstraint(name="tax_percent_in_range", condition=Q(percent__gte=0, percent__lte=100))
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.percent.normalize():f} %"


class TaxAssignment(models.Model):
    """A rate of one customer, or of one plan for whoever has none of their own."""

    rate = models.ForeignKey(TaxRate, on_delete=models.PROTECT, related_name="assignments")
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, null=True, related_name="tax_assignments")
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, null=True, related_name="tax_assignments")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="tax_of_a_customer_or_a_plan",
                condition=Q(customer=None, plan__isnull=False) | Q(customer__isnull=False, plan=None),
            ),
            models.UniqueConstraint(
                fields=["rate", "customer"], condition=Q(customer__isnull=False), name="tax_once_per_customer"
            ),
            models.UniqueConstraint(fields=["rate", "plan"], condition=Q(plan__isnull=False), name="tax_once_per_plan"),
        ]


class TaxExemption(models.Model):
    """No tax for a customer, with the reason that an auditor will ask for."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="tax_exemptions")
    reason = models.TextField()
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=["customer"], condition=Q(ended_at=None), name="one_exemption_per_customer")
        ]


class Payment(models.Model):
    """Money that arrived. An invoice is paid when its payments reach what is due; the excess becomes account credit."""

    public_id = models.CharField(max_length=24, unique=True, default=new_payment_id, editable=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="payments")
    amount = models.BigIntegerField()
    reference = models.CharField(max_length=200)
    provider = models.CharField(max_length=20, default="manual")
    actor = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        ordering = ("at", "id")
        constraints = [
            models.CheckConstraint(name="payment_positive", condition=Q(amount__gt=0)),
            # A transfer may settle several invoices; what a provider took in has an id of its own.
            models.UniqueConstraint(
                fields=["provider", "reference"], condition=~Q(provider="manual"), name="provider_payment_once"
            ),
        ]


class Refund(models.Model):
    """Money that goes back to the customer for a credit note: what it gives back of one invoice, by one provider.

    `reference` is the bank's or the provider's word for it; without one it is still to be sent.
    """

    public_id = models.CharField(max_length=24, unique=True, default=new_refund_id, editable=False)
    credit_note = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="refunds")
    of = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, related_name="refunded", help_text="Whose payment goes back."
    )
    amount = models.BigIntegerField()
    reference = models.CharField(max_length=200, blank=True)
    provider = models.CharField(max_length=20, default="manual")
    sent_at = models.DateTimeField(null=True, help_text="Handed to the provider, so it cannot be taken back any more.")
    actor = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        ordering = ("at", "id")
        constraints = [
            models.CheckConstraint(name="refund_positive", condition=Q(amount__gt=0)),
            models.UniqueConstraint(
                fields=["credit_note", "of", "provider"],
                condition=~Q(provider="manual"),
                name="provider_refunds_an_invoice_once_per_note",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], condition=~Q(provider="manual") & Q(reference=""), name="refund_by_provider"),
        ]


class Reminder(models.Model):
    """One request for payment that was sent for an invoice after its due date."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="sent_reminders")
    number = models.PositiveSmallIntegerField()
    sent_to = models.EmailField(blank=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ("number",)
        constraints = [models.UniqueConstraint(fields=["invoice", "number"], name="reminded_once_per_number")]


class Wallet(models.Model):
    """Money that a customer paid ahead for use that is charged event by event; exact, in major units.

    A customer has one per currency, and money in one of them at most: it keeps their currency.
    """

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="wallets")
    currency = models.CharField(max_length=3)
    balance = models.DecimalField(max_digits=30, decimal_places=12, default=0)

    class Meta:
        permissions = [("top_up_wallet", "Can top up, correct and pay out wallets")]
        constraints = [
            models.UniqueConstraint(fields=["customer", "currency"], name="one_wallet_per_currency"),
            models.CheckConstraint(name="wallet_not_negative", condition=Q(balance__gte=0)),
        ]


class WalletEntry(models.Model):
    """One line of a wallet; the sum of the lines is its balance. Lines are never changed."""

    class Kind(models.TextChoices):
        TOP_UP = "top_up", "Top-up"
        DEBIT = "debit", "Use"
        RETURN = "return", "Use given back"
        WITHDRAWAL = "withdrawal", "Paid out"
        CORRECTION = "correction", "Correction"

    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, related_name="entries")
    kind = models.CharField(max_length=10, choices=Kind)
    amount = models.DecimalField(max_digits=30, decimal_places=12)
    balance_after = models.DecimalField(max_digits=30, decimal_places=12)
    # The events' table is partitioned, so no constraint can point at it.
    event = models.ForeignKey(
        UsageEvent, on_delete=models.PROTECT, null=True, db_constraint=False, related_name="wallet_entries"
    )
    operation = models.ForeignKey(Operation, on_delete=models.PROTECT, null=True, related_name="wallet_entries")
    key = models.CharField(max_length=255, null=True, blank=True, help_text="Idempotency key of a top-up.")
    reference = models.CharField(max_length=200, blank=True)
    derivation = models.JSONField(default=dict)
    at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "wallet entries"
        constraints = [
            models.UniqueConstraint(
                fields=["wallet", "key"], condition=Q(key__isnull=False), name="topped_up_once_per_key"
            ),
            models.CheckConstraint(name="wallet_never_below_zero", condition=Q(balance_after__gte=0)),
            models.CheckConstraint(
                name="wallet_entry_signs",
                condition=Q(kind__in=["top_up", "return"], amount__gt=0)
                | Q(kind__in=["debit", "withdrawal"], amount__lt=0)
                | (Q(kind="correction") & ~Q(amount=0)),
            ),
            models.CheckConstraint(
                name="wallet_entry_has_its_event",
                condition=Q(kind__in=["debit", "return"], event__isnull=False)
                | Q(kind__in=["top_up", "withdrawal", "correction"], operation__isnull=False),
            ),
        ]
        indexes = [models.Index(fields=["wallet", "-id"], name="entry_of_wallet")]


class CreditEntry(models.Model):
    """One line of a customer's account credit; the sum of the lines is what they have with us, in minor units."""

    class Kind(models.TextChoices):
        CREDIT_NOTE = "credit_note", "Credit note"
        APPLIED = "applied", "Applied to an invoice"
        OVERPAID = "overpaid", "Paid too much"
        RETURNED = "returned", "Returned from a voided invoice"
        LATE = "late", "Paid for an invoice that was settled"
        UNDONE = "undone", "Credit note voided"

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="credit_entries")
    currency = models.CharField(max_length=3)
    amount = models.BigIntegerField()
    kind = models.CharField(max_length=12, choices=Kind)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, null=True, related_name="credit_entries")
    at = models.DateTimeField()

    class Meta:
        ordering = ("id",)
        verbose_name_plural = "credit entries"
        indexes = [models.Index(fields=["customer", "id"], name="credit_of_customer")]
