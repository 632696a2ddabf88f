"""Stripe's customers and whose they are here. Without keys of Stripe there is nothing at these addresses."""

from datetime import datetime
from typing import Annotated

from django.http import Http404
from ninja import Query, Router
from pydantic import Field

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer
from billing_admin.api.refusals import BadValue, NotFound
from billing_admin.api.shapes import Answer, Body, Page, Reason
from billing_admin.flows import stripe_links
from payments.gateway import enabled
from payments.models import StripeCustomer

router = Router(tags=["Stripe"])

VIEW = "payments.view_stripecustomer"
USE = "payments.use_stripe"

StripeId = Annotated[str, Field(min_length=1, max_length=40, examples=["cus_NffrFeUfNV2Hib"])]


class StripeCustomerOut(Answer):
    """A customer in Stripe, and which of ours it is."""

    stripe_customer_id: str = Field(examples=["cus_NffrFeUfNV2Hib"])
    name: str = Field(description="As Stripe has it.")
    email: str
    key: str = Field(description="What stands under the account's key in Stripe's metadata.")
    customer_id: str | None = Field(description="Null while nobody has linked it.", examples=["acme"])
    linked_by: str | None = Field(description="`created`, `metadata`, `hand` or `csv`.", examples=["metadata"])
    linked_at: datetime | None
    conflict: str | None = Field(description="Why it is not linked by itself.")
    is_deleted: bool = Field(description="Deleted in Stripe.")

    @classmethod
    def of(cls, row: StripeCustomer) -> "StripeCustomerOut":
        """Reads the customer, who should be joined."""
        return cls(
            stripe_customer_id=row.stripe_id,
            name=row.name,
            email=row.email,
            key=row.key,
            customer_id=row.customer.customer_id if row.customer else None,
            linked_by=row.linked_by or None,
            linked_at=row.linked_at if row.customer else None,
            conflict=row.conflict or None,
            is_deleted=row.deleted_at is not None,
        )


class StripeCustomersOut(Page):
    data: list[StripeCustomerOut]


class LinkIn(Body):
    customer_id: str = Field(min_length=1, max_length=120, examples=["acme"])
    stripe_customer_id: StripeId


class UnlinkIn(Body):
    stripe_customer_id: StripeId
    reason: Reason


def require_stripe() -> None:
    if not enabled():
        raise Http404("Stripe is not set up here.")


def find_stripe_customer(stripe_id: str) -> StripeCustomer:
    found = StripeCustomer.objects.select_related("customer").filter(stripe_id=stripe_id).first()
    if found is None:
        raise NotFound("customer", stripe_id)
    return found


@endpoint(router, "GET", "/stripe/customers", needs=VIEW, gives=StripeCustomersOut, refuses=[404])
def list_stripe_customers(
    request: ApiRequest,
    unlinked: Annotated[bool | None, Query()] = None,
    cursor: Annotated[str | None, Query(max_length=18)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> StripeCustomersOut:
    """The customers of Stripe that are known here, the newest first.

    `unlinked=true` gives those that nobody here is, `false` those that are linked.
    """
    require_stripe()
    if cursor is not None and not (cursor.isascii() and cursor.isdigit()):
        raise BadValue("cursor", "This is not a cursor of this list.", "bad_cursor")
    rows = StripeCustomer.objects.select_related("customer").order_by("-id")
    if unlinked is not None:
        rows = rows.filter(customer__isnull=unlinked, deleted_at=None)
    rows = rows.filter(pk__lt=int(cursor)) if cursor else rows
    found = list(rows[: limit + 1])
    following = str(found[limit - 1].pk) if len(found) > limit else None
    return StripeCustomersOut(data=[StripeCustomerOut.of(row) for row in found[:limit]], next_cursor=following)


@endpoint(
    router,
    "POST",
    "/stripe/links",
    needs=USE,
    gives=StripeCustomerOut,
    status=201,
    refuses=[404, 409],
    example={"customerId": "acme", "stripeCustomerId": "cus_NffrFeUfNV2Hib"},
)
def link_stripe_customer(request: ApiRequest, body: LinkIn) -> StripeCustomerOut:
    """Say that a customer of Stripe's is one of ours.

    Its subscriptions are followed from now on; name and e-mail here stay as they are, and Stripe is told them. 409
    `link_refused` where either is linked already, closed, or deleted.
    """
    require_stripe()
    row, customer = find_stripe_customer(body.stripe_customer_id), find_customer(body.customer_id)
    stripe_links.link(row, customer, actor=request.auth.actor, now=request.now)
    return StripeCustomerOut.of(find_stripe_customer(row.stripe_id))


@endpoint(
    router,
    "DELETE",
    "/stripe/links",
    needs=USE,
    gives=StripeCustomerOut,
    refuses=[404, 409],
    example={"stripeCustomerId": "cus_NffrFeUfNV2Hib", "reason": "wrong company"},
)
def unlink_stripe_customer(request: ApiRequest, body: UnlinkIn) -> StripeCustomerOut:
    """Take a link back; it is made again by hand only.

    409 `link_in_use` while invoices or running subscriptions hang on it, `not_linked` where there is none.
    """
    require_stripe()
    row = find_stripe_customer(body.stripe_customer_id)
    stripe_links.unlink(row, reason=body.reason, actor=request.auth.actor, now=request.now)
    return StripeCustomerOut.of(find_stripe_customer(row.stripe_id))
