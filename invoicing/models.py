"""What they owe: invoices and credit notes with their lines, payments, and the account credit ledger.

Amounts are whole minor units of the document's currency. Issued documents never change; a correction is another
document. Every line stores how its amount came about.
"""

from django.db import models
from django.db.models import F, Q

from catalog.models import PlanItem
from customers.models import Customer, Operation, Phase, Subscription, public_id
from entitlements.models import Balance
from invoicing.states import NEXT, CannotMove, InvoiceState


def new_invoice_id() -> str:
    return public_id("in")


def new_payment_id() -> str:
    return public_id("pay")


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


class Invoice(models.Model):
    class Kind(models.TextChoices):
        INVOICE = "invoice", "Invoice"
        CREDIT_NOTE = "credit_note", "Credit note"

    State = InvoiceState

    public_id = models.CharField(max_length=24, unique=True, default=new_invoice_id, editable=False)
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.INVOICE)
    number = models.CharField(max_length=24, unique=True, null=True)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="invoices")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, null=True, related_name="invoices")
    operation = models.ForeignKey(Operation, on_delete=models.PROTECT, null=True, related_name="invoices")
    state = models.CharField(max_length=15, choices=InvoiceState, default=InvoiceState.DRAFT)
    currency = models.CharField(max_length=3)
    total = models.BigIntegerField(help_text="Sum of the lines, minor units; a credit note's is below zero.")
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
    covers_from = models.DateTimeField(null=True)
    covers_until = models.DateTimeField(null=True)
    issued_at = models.DateTimeField(null=True)
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
        ]
        constraints = [
            models.CheckConstraint(
                name="issued_has_number", condition=Q(state="draft") | Q(number__isnull=False, issued_at__isnull=False)
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
        if state not in NEXT.get(self.state, set()):
            raise CannotMove(self.state, state)
        self.state = state


class InvoiceLine(models.Model):
    class Kind(models.TextChoices):
        FEE = "fee", "Fee"
        ONE_TIME = "one_time", "One-time fee"
        UNUSED = "unused", "Unused time"
        USAGE = "usage", "Usage"

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines")
    position = models.PositiveSmallIntegerField(default=0)
    kind = models.CharField(max_length=10, choices=Kind)
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, null=True, related_name="invoice_lines")
    phase = models.ForeignKey(Phase, on_delete=models.PROTECT, null=True, related_name="invoice_lines")
    item = models.ForeignKey(PlanItem, on_delete=models.PROTECT, null=True, related_name="invoice_lines")
    balance = models.ForeignKey(Balance, on_delete=models.PROTECT, null=True, related_name="invoice_lines")
    source = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="credits", help_text="A credit's charge."
    )
    key = models.CharField(max_length=60)
    description = models.CharField(max_length=300)
    quantity = models.DecimalField(max_digits=30, decimal_places=6)
    rate = models.DecimalField(max_digits=24, decimal_places=12, null=True)
    starts_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField(null=True)
    amount = models.BigIntegerField()
    derivation = models.JSONField(default=dict)

    class Meta:
        ordering = ("invoice", "position", "id")
        constraints = [
            models.UniqueConstraint(
                fields=["phase", "item", "starts_at"], condition=Q(kind="fee"), name="fee_billed_once_per_period"
            ),
            models.UniqueConstraint(
                fields=["balance", "item"], condition=Q(kind="usage"), name="usage_of_a_window_billed_once"
            ),
        ]
        indexes = [
            models.Index(fields=["subscription", "ends_at"], name="line_of_contract"),
        ]

    def __str__(self) -> str:
        return self.description


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
        constraints = [models.CheckConstraint(name="payment_positive", condition=Q(amount__gt=0))]


class CreditEntry(models.Model):
    """One line of a customer's account credit; the sum of the lines is what they have with us, in minor units."""

    class Kind(models.TextChoices):
        CREDIT_NOTE = "credit_note", "Credit note"
        APPLIED = "applied", "Applied to an invoice"
        OVERPAID = "overpaid", "Paid too much"
        RETURNED = "returned", "Returned from a voided invoice"

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
