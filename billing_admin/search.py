"""The command palette: pages, and everything that has a name, a number or an id; each only for those who may see it.

A whole id of ours (or of Stripe, with its keys) leads straight to what it names, and nothing else is asked. Words are
looked up by how names and numbers begin: one query for each kind, however many rows there are.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.contrib.auth.models import User
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from billing_admin.frame import navigation
from billing_admin.models import ApiKey, ApprovalRequest, Batch
from catalog.models import Coupon, Feature, Meter, Plan, PlanVersion, Product
from customers.models import AppliedCoupon, Customer, Operation, PlanMigration, PriceOverride, Subscription
from deals.models import Deal
from entitlements.models import FeatureOverride, Grant, OverrideBatch
from invoicing.models import Invoice, InvoiceCredit, Payment
from payments.models import StripeCredit, StripeCustomer, StripeInvoice, StripeSubscription

MOST = 6  # of each kind: whoever needs more opens the list
ID = re.compile(r"([a-z]{2,4})_[A-Za-z0-9]{8,60}")
VERSION = re.compile(r"(.+?)\s+v(\d{1,6})", re.IGNORECASE)


class Found(NamedTuple):
    title: str
    description: str
    link: str
    icon: str


Search = Callable[[str], Iterator[Found]]


def find(request: HttpRequest, words: str) -> list[Found]:
    named = ID.fullmatch(words)
    if named and (found := exact(request, words, named[1])):
        return found
    found = list(pages(request, words))
    for permission, search in SEARCHES:
        if request.user.has_perm(permission):
            found += search(words)
    return found


def pages(request: HttpRequest, words: str) -> Iterator[Found]:
    for group in navigation(request):
        for item in group["items"]:
            if words.lower() in item["title"].lower():
                yield Found(item["title"], group.get("title", "Page"), item["link"], item["icon"])


def to(name: str, *args: Any, query: str = "") -> str:
    """The address of a page, or nothing for a kind without one of its own."""
    try:
        return reverse(f"admin:{name}", args=args) + query
    except NoReverseMatch:
        return ""


# Whole ids ------------------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """What an id that begins so can be: where it is looked up, and which page shows it."""

    permission: str
    what: str
    icon: str
    rows: Callable[[str], QuerySet]
    page: Callable[[Any], str]


def exact(request: HttpRequest, word: str, prefix: str) -> list[Found]:
    """At most two queries: ours, and Stripe's where they begin alike."""
    found = []
    for kind in KINDS.get(prefix, ()):
        if request.user.has_perm(kind.permission):
            found += [
                Found(word, f"{kind.what} · {row}" if str(row) != word else kind.what, link, kind.icon)
                for row in kind.rows(word)[:MOST]
                if (link := kind.page(row))
            ]
    return found


def by_id(model: type[Model], *beside: str) -> Callable[[str], QuerySet]:
    return lambda word: model._default_manager.filter(public_id=word).select_related(*beside)


def in_stripe(model: type[Model], *beside: str) -> Callable[[str], QuerySet]:
    return lambda word: model._default_manager.filter(stripe_id=word).select_related(*beside)


def customer_page(pk: int | None) -> str:
    return to("customers_customer_change", pk) if pk else ""


def invoice_page(pk: int | None) -> str:
    return to("invoicing_invoice_change", pk) if pk else ""


SEE_CUSTOMER, SEE_INVOICE = "customers.view_customer", "invoicing.view_invoice"
KINDS: dict[str, tuple[Kind, ...]] = {
    "cus": (
        Kind(SEE_CUSTOMER, "Customer", "group", by_id(Customer), lambda row: customer_page(row.pk)),
        Kind(
            "payments.view_stripecustomer",
            "Stripe customer",
            "supervised_user_circle",
            in_stripe(StripeCustomer, "customer"),
            lambda row: customer_page(row.customer_id),
        ),
    ),
    "sub": (
        Kind(
            "customers.view_subscription",
            "Subscription",
            "autorenew",
            by_id(Subscription, "customer"),
            lambda row: customer_page(row.customer_id),
        ),
        Kind(
            "payments.view_stripesubscription",
            "Subscription in Stripe",
            "sync_alt",
            in_stripe(StripeSubscription, "subscription"),
            lambda row: customer_page(row.subscription.customer_id if row.subscription else None),
        ),
    ),
    "in": (
        Kind(SEE_INVOICE, "Invoice", "receipt_long", by_id(Invoice), lambda row: invoice_page(row.pk)),
        Kind(
            "payments.view_stripeinvoice",
            "Invoice in Stripe",
            "receipt_long",
            in_stripe(StripeInvoice),
            lambda row: invoice_page(row.invoice_id),
        ),
    ),
    "cn": (
        Kind(
            "payments.view_stripecredit",
            "Credit note in Stripe",
            "receipt_long",
            in_stripe(StripeCredit),
            lambda row: invoice_page(row.note_id),
        ),
    ),
    "pay": (
        Kind(
            "invoicing.view_payment",
            "Payment",
            "payments",
            by_id(Payment, "invoice"),
            lambda row: invoice_page(row.invoice_id),
        ),
    ),
    "icr": (
        Kind(
            "invoicing.view_invoicecredit",
            "Invoice credit",
            "redeem",
            by_id(InvoiceCredit),
            lambda row: customer_page(row.customer_id),
        ),
    ),
    "op": (
        Kind(
            "customers.view_operation",
            "Act",
            "history",
            by_id(Operation),
            lambda row: to("customers_operation_changelist", query=f"?q={row.public_id}"),
        ),
    ),
    "ovr": (
        Kind(
            "customers.view_priceoverride",
            "Special price",
            "price_change",
            by_id(PriceOverride, "subscription"),
            lambda row: customer_page(row.subscription.customer_id),
        ),
    ),
    "fov": (
        Kind(
            "entitlements.view_featureoverride",
            "Override",
            "swap_vert",
            by_id(FeatureOverride, "feature", "customer"),
            lambda row: customer_page(row.customer_id),
        ),
    ),
    "bat": (
        Kind(
            "entitlements.view_overridebatch",
            "Batch of overrides",
            "playlist_add_check",
            by_id(OverrideBatch),
            lambda row: to("override_batch", row.public_id),
        ),
    ),
    "gra": (
        Kind(
            "entitlements.view_grant",
            "Bonus units",
            "redeem",
            by_id(Grant, "feature", "customer"),
            lambda row: customer_page(row.customer_id),
        ),
    ),
    "dis": (
        Kind(
            "customers.view_appliedcoupon",
            "Applied coupon",
            "redeem",
            by_id(AppliedCoupon, "coupon", "customer"),
            lambda row: customer_page(row.customer_id),
        ),
    ),
    "mig": (
        Kind(
            "customers.view_planmigration",
            "Migration",
            "move_up",
            by_id(PlanMigration, "plan"),
            lambda row: to("migration", row.public_id),
        ),
    ),
    "deal": (
        Kind(
            "deals.view_deal",
            "Deal",
            "handshake",
            by_id(Deal),
            lambda row: to("deals_deal_change", row.public_id),
        ),
    ),
    "apr": (
        Kind(
            "billing_admin.view_approvalrequest",
            "Approval",
            "how_to_reg",
            by_id(ApprovalRequest),
            lambda row: to("approval", row.public_id),
        ),
    ),
    "imp": (
        Kind(
            "billing_admin.view_batch",
            "Import or bulk act",
            "upload",
            by_id(Batch),
            lambda row: to("batch", row.public_id),
        ),
    ),
    "key": (
        Kind(
            "billing_admin.change_apikey",
            "API key",
            "key",
            by_id(ApiKey),
            lambda row: to("billing_admin_apikey_change", row.pk),
        ),
    ),
}


# Words ----------------------------------------------------------------------------------------------------------------


def customers(words: str) -> Iterator[Found]:
    # By their keys: to walk along the newest until enough of them match would read them all where none does.
    matching = Customer.objects.matching(words).order_by().values("pk")
    for customer in Customer.objects.filter(pk__in=matching)[:MOST]:
        yield from page_of(customer, "customers_customer_change", f"Customer · {customer.customer_id}", "group")


def products(words: str) -> Iterator[Found]:
    for product in Product.objects.filter(Q(name__icontains=words) | Q(key__startswith=words))[:MOST]:
        yield from page_of(product, "catalog_product_change", "Product", "deployed_code")


def plans(words: str) -> Iterator[Found]:
    wanted = Plan.objects.filter(Q(name__icontains=words) | Q(key__startswith=words)).select_related("product")
    for plan in wanted[:MOST]:
        yield from page_of(plan, "catalog_plan_change", f"Plan of {plan.product.name}", "sell")


def versions(words: str) -> Iterator[Found]:
    """`pro v3`: one version of a plan."""
    said = VERSION.fullmatch(words.strip())
    if said is None:
        return
    plan = Q(plan__name__iexact=said[1]) | Q(plan__key=said[1].lower())
    for row in PlanVersion.objects.filter(plan, number=int(said[2]), tailored=False).select_related("plan")[:MOST]:
        link = to("catalog_plan_change", row.plan_id, query=f"?version={row.number}")
        yield Found(f"{row.plan.name} {row.label}", "Version", link, "layers")


def features(words: str) -> Iterator[Found]:
    for feature in Feature.objects.filter(Q(name__icontains=words) | Q(slug__startswith=words))[:MOST]:
        yield from page_of(feature, "catalog_feature_change", f"Feature · {feature.slug}", "toggle_on")


def meters(words: str) -> Iterator[Found]:
    wanted = Q(name__icontains=words) | Q(slug__startswith=words) | Q(event_name__startswith=words)
    for meter in Meter.objects.filter(wanted)[:MOST]:
        yield from page_of(meter, "catalog_meter_change", f"Meter · {meter.event_name}", "speed")


def coupons(words: str) -> Iterator[Found]:
    own = Q(name__icontains=words) | Q(code__startswith=words.lower())
    promoted = Coupon.objects.filter(promo_codes__code__startswith=words.upper()).values("pk")
    for coupon in Coupon.objects.filter(own | Q(pk__in=promoted))[:MOST]:
        yield from page_of(coupon, "catalog_coupon_change", f"Coupon · {coupon.code}", "redeem")


def invoices(words: str) -> Iterator[Found]:
    wanted = Invoice.objects.filter(number__startswith=words.upper()).select_related("customer").order_by("number")
    for invoice in wanted[:MOST]:
        kind = invoice.get_kind_display()
        yield from page_of(invoice, "invoicing_invoice_change", f"{kind} · {invoice.customer.name}", "receipt_long")


def deals(words: str) -> Iterator[Found]:
    for deal in Deal.objects.filter(name__icontains=words).order_by("-id")[:MOST]:
        if link := to("deals_deal_change", deal.public_id):
            yield Found(deal.name, "Deal", link, "handshake")


def keys(words: str) -> Iterator[Found]:
    for key in ApiKey.objects.filter(name__icontains=words)[:MOST]:
        yield from page_of(key, "billing_admin_apikey_change", "API key", "key")


def people(words: str) -> Iterator[Found]:
    named = Q(username__istartswith=words) | Q(email__istartswith=words)
    named |= Q(first_name__istartswith=words) | Q(last_name__istartswith=words)
    for person in User.objects.filter(named).order_by("username")[:MOST]:
        yield from page_of(person, "auth_user_change", "Person", "badge")


def page_of(row: Model, url: str, what: str, icon: str) -> Iterator[Found]:
    if link := to(url, row.pk):
        yield Found(str(row), what, link, icon)


SEARCHES: list[tuple[str, Search]] = [
    (SEE_CUSTOMER, customers),
    ("catalog.view_product", products),
    ("catalog.view_plan", plans),
    ("catalog.view_planversion", versions),
    ("catalog.view_feature", features),
    ("catalog.view_meter", meters),
    ("catalog.view_coupon", coupons),
    (SEE_INVOICE, invoices),
    ("deals.view_deal", deals),
    ("billing_admin.change_apikey", keys),
    ("auth.view_user", people),
]
