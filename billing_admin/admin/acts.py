"""Acts on one customer: what all their dialogs have in common."""

from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse

from billing_admin.admin.links import customer_link, link
from billing_admin.pages import ActPage
from customers.journal import Actor
from customers.models import Customer


def moment(request: HttpRequest) -> datetime:
    """The one instant of this request, read by the middleware."""
    now: datetime = request.now  # type: ignore[attr-defined]
    return now


def find_customer(key: str, rows: "QuerySet[Customer] | None" = None) -> Customer:
    """By the number in our own links, by our id (`cus_…`), or by the id that the application uses.

    `rows` may join what the caller reads beside the customer.
    """
    rows = Customer.objects.all() if rows is None else rows
    found = rows.filter(pk=int(key)).first() if key.isdecimal() and len(key) < 18 else None
    found = found or rows.filter(Q(public_id=key) | Q(customer_id=key)).first()
    if found is None:
        raise Http404("There is no such customer.")
    return found


class CustomerAct(ActPage):
    """An act page below `/customers/customer/<key>/`: knows its customer, goes back to their page."""

    customer: Customer

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.actor = Actor.of(request.user)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.customer_key = kwargs["key"]
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.customer = find_customer(self.customer_key)
        return super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.customer = find_customer(self.customer_key)
        return super().post(request, *args, **kwargs)

    def back(self) -> str:
        return customer_link(self.customer.pk)

    def trail(self) -> list[tuple[str, str]]:
        return [
            ("Customers", link("customers_customer_changelist")),
            (self.customer.name, self.back()),
            (self.get_title(), ""),
        ]
