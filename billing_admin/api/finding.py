"""From the ids that callers use to rows; what is hidden is not found."""

from typing import TypeVar

from django.db.models import Q, QuerySet

from billing_admin.api.refusals import BadValue, NotFound
from billing_admin.models import Batch, Export
from catalog.models import Plan, PlanVersion, Product
from customers.models import Customer, Operation, Subscription
from deals.models import Deal
from entitlements.models import FeatureOverride, Grant
from invoicing.models import Invoice
from payments.gateway import enabled


def find_customer(customer_id: str, *, closed: bool = False) -> Customer:
    """By the id that the caller's application uses, or by ours (`cus_…`)."""
    rows = Customer.objects.all() if closed else Customer.objects.open()
    found: list[Customer] = sorted(
        rows.filter(Q(customer_id=customer_id) | Q(public_id=customer_id))
        if customer_id.startswith("cus_")
        else rows.filter(customer_id=customer_id),
        key=lambda customer: customer.customer_id != customer_id,
    )
    if not found:
        raise NotFound("customer", customer_id)
    return found[0]


def find_subscription(public_id: str) -> Subscription:
    rows = Subscription.objects.with_phases().select_related("customer", "product")
    found: Subscription | None = rows.filter(public_id=public_id, customer__closed_at=None).first()
    if found is None:
        raise NotFound("subscription", public_id)
    return found


def find_invoice(public_id: str) -> Invoice:
    rows = Invoice.objects.select_related("customer", "subscription", "corrects", "replaces", *with_collection())
    found = rows.filter(public_id=public_id).first()
    if found is None:
        raise NotFound("invoice", public_id)
    return found


def with_collection() -> tuple[str, ...]:
    """What is joined to invoices to tell where their collection stands; nothing without keys of Stripe."""
    return ("stripe",) if enabled() else ()


def find_plan(key: str) -> Plan:
    found = plans().filter(key=key).first()
    if found is None:
        raise NotFound("plan", key)
    return found


def plans() -> "QuerySet[Plan]":
    return Plan.objects.select_related("product", "current_version__plan").prefetch_related(
        "current_version__items__feature"
    )


def find_version(plan: Plan, number: int) -> PlanVersion:
    found: PlanVersion | None = (
        PlanVersion.objects.with_items().filter(plan=plan, tailored=False, number=number).first()
    )
    if found is None or found.state != PlanVersion.State.PUBLISHED:
        raise BadValue("version", f"{plan.name} has no published version {number}.", "version_not_found")
    return found


def find_product(key: str) -> Product:
    found = Product.objects.filter(key=key).first()
    if found is None:
        raise BadValue("product_id", f"There is no product {key!r}.", "product_not_found")
    return found


Row = TypeVar("Row", Customer, Invoice, FeatureOverride, Grant, Deal, Operation, Batch, Export)


def page_of(rows: "QuerySet[Row]", cursor: str | None, limit: int) -> tuple[list[Row], str | None]:
    """The rows after the one that the cursor names, newest first, and the cursor of what follows."""
    if cursor is not None:
        last = rows.model._default_manager.filter(public_id=cursor).values_list("pk", flat=True).first()
        if last is None:
            raise BadValue("cursor", "This is not a cursor of this list.", "bad_cursor")
        rows = rows.filter(pk__lt=last)
    found = list(rows.order_by("-pk")[: limit + 1])
    return found[:limit], found[limit - 1].public_id if len(found) > limit else None
