"""Customers: create, read, list, change, delete."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Self

from django.core.exceptions import ValidationError
from ninja import Query, Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer, page_of
from billing_admin.api.shapes import Answer, Body, Id, Instant, Page, Reason
from billing_admin.api.subscriptions import SubscriptionOut
from billing_admin.flows.customers import (
    UNSET,
    close_customer,
    create_customer,
    held_plans,
    reopen_customer,
    update_customer,
)
from billing_admin.flows.stripe_delete import delete_everywhere
from customers.models import Customer
from payments.gateway import in_a_hurry

router = Router(tags=["Customers"])

NO_KEY = "A deletion in Stripe takes no Idempotency-Key: repeated, it finds the customer closed."
VIEW = "customers.view_customer"
ASSIGN = "customers.assign_plan"

Keys = Annotated[list[Annotated[str, Field(min_length=1, max_length=60)]], Field(max_length=200)]
Name = Annotated[str, Field(max_length=200)]
Email = Annotated[str, Field(max_length=254)]


class CustomerIn(Body):
    customer_id: Id = Field(description="The id that your application uses.")
    name: Name
    email: Email = ""
    custom_product_keys: Keys = Field(default_factory=list, description="Assigned plans to hold from the start.")
    usage_started_at: Instant | None = Field(None, description="Where windows of assigned plans are counted from.")


class CustomerChange(Body):
    """What is left out stays as it is."""

    name: Name = ""
    email: Email = ""
    customer_id: Id = "-"
    custom_product_keys: Keys = Field(default_factory=list, description="Held from now on: exactly these.")
    usage_started_at: Instant | None = None
    billing_address: str = Field("", max_length=1_000, description="As it stands on their invoices.")
    tax_number: str = Field("", max_length=40)
    locale: str = Field("en_US", max_length=12, description="Language and signs of what they read.", examples=["de_DE"])
    reason: Reason = ""


class CustomerDeletion(Body):
    confirm_name: str = Field(max_length=200, description="The customer's name, to be sure.")
    reason: Reason
    in_stripe: bool = Field(
        default=False, description="Delete the customer in Stripe first; needs the right to use Stripe."
    )


class Undo(Body):
    reason: Reason = ""


class CustomerOut(Answer):
    id: str = Field(examples=["cus_5xkP2mZ8TqVbNc1R"])
    customer_id: str = Field(examples=["acme"])
    name: str
    email: str
    currency: str | None = Field(description="Set by the first contract.")
    usage_started_at: datetime | None
    billing_address: str
    tax_number: str
    locale: str = Field(examples=["en_US"])
    created_at: datetime
    closed_at: datetime | None
    erase_at: datetime | None = Field(description="When personal data of a closed customer is erased.")

    @classmethod
    def values(cls, customer: Customer) -> dict[str, Any]:
        return {
            "id": customer.public_id,
            "customer_id": customer.customer_id,
            "name": customer.name,
            "email": customer.email,
            "currency": customer.currency or None,
            "usage_started_at": customer.usage_started_at,
            "billing_address": customer.billing_address,
            "tax_number": customer.tax_number,
            "locale": customer.locale,
            "created_at": customer.created_at,
            "closed_at": customer.closed_at,
            "erase_at": customer.erase_at,
        }


class CustomerDetail(CustomerOut):
    custom_product_keys: list[str] = Field(description="Keys of the assigned plans that the customer holds.")
    subscriptions: list[SubscriptionOut] = Field(description="What runs, or is to.")

    @classmethod
    def of(cls, customer: Customer, now: datetime) -> Self:
        live = customer.subscriptions.live().with_phases()
        return cls(
            **cls.values(customer),
            custom_product_keys=[plan.key for _, plan in held_plans(customer, now)],
            subscriptions=[SubscriptionOut.of(subscription, now) for subscription in live],
        )


class CustomersOut(Page):
    data: list[CustomerOut]


@endpoint(
    router,
    "POST",
    "/customers",
    needs="customers.add_customer",
    gives=CustomerDetail,
    status=HTTPStatus.CREATED,
    refuses=[409],
    example={
        "customerId": "acme",
        "name": "Acme Robotics",
        "email": "ops@acme.example",
        "customProductKeys": ["partner"],
    },
)
def create(request: ApiRequest, body: CustomerIn) -> CustomerDetail:
    """Create a customer.

    `customProductKeys` names assigned plans (or products with one assigned plan); unknown, mirrored, default and
    billed ones are refused, listing the keys, and nothing is created.
    """
    if body.custom_product_keys:
        request.auth.require(ASSIGN)
    customer = create_customer(
        customer_id=body.customer_id,
        name=body.name,
        email=body.email,
        custom_product_keys=body.custom_product_keys,
        usage_started_at=body.usage_started_at,
        actor=request.auth.actor,
        now=request.now,
    )
    return CustomerDetail.of(customer, request.now)


@endpoint(router, "GET", "/customers", needs=VIEW, gives=CustomersOut)
def list_customers(
    request: ApiRequest,
    search: Annotated[str, Query(max_length=200)] = "",
    cursor: Annotated[str | None, Query(max_length=24)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> CustomersOut:
    """List customers, the newest first.

    `search` finds by the start of an id, a name or an e-mail, whatever the case.
    """
    rows = Customer.objects.open()
    if search.strip():
        rows = rows.matching(search)
    found, following = page_of(rows, cursor, limit)
    return CustomersOut(data=[CustomerOut(**CustomerOut.values(c)) for c in found], next_cursor=following)


@endpoint(router, "GET", "/customers/{customer_id}", needs=VIEW, gives=CustomerDetail, refuses=[404])
def read(request: ApiRequest, customer_id: Id) -> CustomerDetail:
    """Read a customer, by your id or by ours."""
    return CustomerDetail.of(find_customer(customer_id), request.now)


@endpoint(
    router,
    "PATCH",
    "/customers/{customer_id}",
    needs="customers.change_customer",
    gives=CustomerDetail,
    refuses=[404, 409],
    example={"email": "billing@acme.example", "customProductKeys": ["partner", "lab"]},
)
def update(request: ApiRequest, customer_id: Id, body: CustomerChange) -> CustomerDetail:
    """Change a customer.

    What is left out stays. `customProductKeys` is the whole list: plans that it does not name end, and an empty list
    ends all of them.
    """
    given = body.model_fields_set
    if "custom_product_keys" in given:
        request.auth.require(ASSIGN)
    customer = update_customer(
        find_customer(customer_id),
        name=body.name if "name" in given else UNSET,
        email=body.email if "email" in given else UNSET,
        customer_id=body.customer_id if "customer_id" in given else UNSET,
        custom_product_keys=body.custom_product_keys if "custom_product_keys" in given else UNSET,
        usage_started_at=body.usage_started_at if "usage_started_at" in given else UNSET,
        billing_address=body.billing_address if "billing_address" in given else UNSET,
        tax_number=body.tax_number if "tax_number" in given else UNSET,
        locale=body.locale if "locale" in given else UNSET,
        reason=body.reason,
        actor=request.auth.actor,
        now=request.now,
    )
    return CustomerDetail.of(customer, request.now)


@endpoint(
    router,
    "DELETE",
    "/customers/{customer_id}",
    needs="customers.delete_customer",
    gives=CustomerDetail,
    also=ASKED,
    refuses=[404, 409],
    example={"confirmName": "Acme Robotics", "reason": "asked us to"},
)
def delete(request: ApiRequest, customer_id: Id, body: CustomerDeletion) -> CustomerDetail:
    """Delete a customer: closed and hidden at once, personal data erased after 30 days.

    Refused with 409 `deletion_blocked`, naming everything that has to be settled first: what runs and is paid for,
    open invoices, account credit. With `inStripe` nothing changes here unless Stripe has deleted the customer.
    """
    said: dict[str, Any] = {"confirm_name": body.confirm_name, "reason": body.reason}
    said |= {"actor": request.auth.actor, "now": request.now}
    customer = find_customer(customer_id)
    if not body.in_stripe:
        return CustomerDetail.of(close_customer(customer, **said), request.now)
    request.auth.require("payments.use_stripe")
    if request.headers.get("Idempotency-Key"):
        # Its answer would be kept in one transaction with the act, and none may wait for Stripe.
        raise ValidationError(NO_KEY, code="idempotency_key_refused")
    with in_a_hurry():
        return CustomerDetail.of(delete_everywhere(customer, **said), request.now)


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/reopen",
    needs="customers.delete_customer",
    gives=CustomerDetail,
    refuses=[404, 409],
    example={"reason": "deleted by mistake"},
)
def reopen(request: ApiRequest, customer_id: Id, body: Undo | None = None) -> CustomerDetail:
    """Take back a deletion within its 30 days. What ended with it stays ended."""
    customer = reopen_customer(
        find_customer(customer_id, closed=True),
        reason=body.reason if body else "",
        actor=request.auth.actor,
        now=request.now,
    )
    return CustomerDetail.of(customer, request.now)
