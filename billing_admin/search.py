"""The command palette: pages, customers, what we sell, and invoices; each only for those who may see it."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from django.db.models import Q
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from billing_admin.frame import navigation
from catalog.models import Feature, Plan, Product
from customers.models import Customer
from invoicing.models import Invoice

MOST = 6  # of each kind: whoever needs more opens the list


class Found(NamedTuple):
    title: str
    description: str
    link: str
    icon: str


def find(request: HttpRequest, words: str) -> list[Found]:
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


def customers(words: str) -> Iterator[Found]:
    for customer in Customer.objects.matching(words)[:MOST]:
        yield from page_of(customer, "customers_customer_change", f"Customer · {customer.customer_id}", "group")


def products(words: str) -> Iterator[Found]:
    for product in Product.objects.filter(Q(name__icontains=words) | Q(key__startswith=words))[:MOST]:
        yield from page_of(product, "catalog_product_change", "Product", "deployed_code")


def plans(words: str) -> Iterator[Found]:
    wanted = Plan.objects.filter(Q(name__icontains=words) | Q(key__startswith=words)).select_related("product")
    for plan in wanted[:MOST]:
        yield from page_of(plan, "catalog_plan_change", f"Plan of {plan.product.name}", "sell")


def features(words: str) -> Iterator[Found]:
    for feature in Feature.objects.filter(Q(name__icontains=words) | Q(slug__startswith=words))[:MOST]:
        yield from page_of(feature, "catalog_feature_change", f"Feature · {feature.slug}", "toggle_on")


def invoices(words: str) -> Iterator[Found]:
    wanted = Invoice.objects.filter(Q(number__startswith=words.upper()) | Q(public_id=words)).select_related("customer")
    for invoice in wanted[:MOST]:
        yield from page_of(invoice, "invoicing_invoice_change", f"Invoice · {invoice.customer.name}", "receipt_long")


def page_of(row: Customer | Product | Plan | Feature | Invoice, url: str, what: str, icon: str) -> Iterator[Found]:
    try:
        yield Found(str(row), what, reverse(f"admin:{url}", args=[row.pk]), icon)
    except NoReverseMatch:  # a kind without a page of its own
        return


SEARCHES: list[tuple[str, Callable[[str], Iterator[Found]]]] = [
    ("customers.view_customer", customers),
    ("catalog.view_product", products),
    ("catalog.view_plan", plans),
    ("catalog.view_feature", features),
    ("invoicing.view_invoice", invoices),
]
