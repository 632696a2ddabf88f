"""Units of a customer's own, beside every plan: bonuses and purchases, once or again and again."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from django.db.models import Sum
from ninja import Query, Router
from pydantic import AliasChoices, Field

from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer, page_of
from billing_admin.api.overrides import find_feature
from billing_admin.api.refusals import NotFound
from billing_admin.api.shapes import Answer, Body, Id, Instant, Page, Properties, Quantity, Reason, Slug, Units
from billing_admin.flows.grants import Wanted, change_units, give_units, void_units
from customers.models import Customer
from entitlements.models import Balance, Grant
from entitlements.readings import pool_at

router = Router(tags=["Grants"])

VIEW, GIVE, CHANGE = "entitlements.view_grant", "entitlements.add_grant", "entitlements.change_grant"
EXAMPLE = {
    "featureSlug": "credits",
    "units": 500,
    "source": "bonus",
    "label": "Welcome",
    "endsAt": "2026-06-01T00:00:00Z",
    "reason": "agreed at the start",
    "idempotencyKey": "deal-4711",
}
Label = Annotated[str, Field(min_length=1, max_length=120)]
Priority = Annotated[int, Field(strict=True, ge=-(2**15), lt=2**15)]
Metadata = Annotated[Properties, Field(max_length=50)]
Some = Annotated[Units, Field(gt=0)]


class GrantIn(Body):
    feature_slug: Slug
    units: Some
    source: Literal["bonus", "purchase"] = "bonus"
    label: Label | None = Field(default=None, description="What it is called; left out: Bonus or Purchase.")
    priority: Priority = Field(default=0, description="Smaller ones are used first.")
    starts_at: Instant | None = Field(default=None, description="Left out: now.")
    ends_at: Instant | None = Field(default=None, description="Null: the units last until they are used.")
    recurs: str | None = Field(
        default=None, max_length=5, description="`PT1H`, `P1D`, `P1W`, `P1M`, `P3M`, `P6M`, `P1Y`: anew in each window."
    )
    reason: Reason = Field(default="", description="A bonus takes one.")
    metadata: Metadata = Field(default_factory=dict)
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None,
        validation_alias=AliasChoices("idempotencyKey", "idempotency_key"),
        description="The same grant again for the same key, for good.",
    )


class GrantChange(Body):
    """What is left out stays as it is."""

    units: Some | None = None
    label: Label | None = None
    priority: Priority | None = None
    ends_at: Instant | None = Field(default=None, description="Null: the units last.")
    reason: Reason | None = None
    metadata: Metadata | None = None


class GrantVoidIn(Body):
    reason: Reason = ""


class GrantOut(Answer):
    id: str = Field(examples=["gra_9aQ2mZ8TqVbNc1R4"])
    customer_id: str
    feature_slug: str = Field(examples=["credits"])
    source: Literal["bonus", "purchase"]
    state: Literal["scheduled", "active", "ended", "voided"]
    units: Quantity = Field(description="Of each window.", examples=[500])
    used: Quantity = Field(description="Of all its windows so far.")
    remaining: Quantity = Field(description="What may be used of it now.")
    label: str
    priority: int
    starts_at: datetime
    ends_at: datetime | None
    recurs: str | None
    window_ends_at: datetime | None = Field(description="When what is left now is gone.")
    reason: str
    metadata: dict[str, Any]
    idempotency_key: str | None
    created_by: str
    created_at: datetime
    voided_at: datetime | None
    voided_by: str | None
    void_reason: str | None


class GrantsOut(Page):
    data: list[GrantOut]


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/grants",
    needs=GIVE,
    gives=GrantOut,
    status=201,
    also=ASKED,
    refuses=[404, 409],
    example=EXAMPLE,
)
def create_grant(request: ApiRequest, customer_id: Id, body: GrantIn) -> GrantOut:
    """Give units beside every plan.

    They give access by themselves, and are used by priority, then the earliest end. With `recurs` new units come in
    each window, and what was left of the last is gone. A key that gave something else is a conflict.
    """
    customer, feature = find_customer(customer_id), find_feature(body.feature_slug)
    wanted = Wanted(
        feature=feature,
        units=body.units,
        ends_at=body.ends_at,
        label=body.label or body.source.capitalize(),
        source=body.source,
        priority=body.priority,
        starts_at=body.starts_at,
        recurs=body.recurs or "",
        metadata=body.metadata,
    )
    given = give_units(
        customer, wanted, reason=body.reason, key=body.idempotency_key, actor=request.auth.actor, now=request.now
    )
    return _told(given.public_id, request.now)


@endpoint(router, "GET", "/customers/{customer_id}/grants", needs=VIEW, gives=GrantsOut, refuses=[404])
def list_grants(
    request: ApiRequest,
    customer_id: Id,
    feature_slug: Annotated[Slug | None, Query(alias="featureSlug")] = None,
    cursor: Annotated[Id | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> GrantsOut:
    """What a customer was given, newest first; voided and ended ones, too."""
    customer = find_customer(customer_id)
    rows = Grant.objects.filter(customer=customer).select_related("customer", "feature")
    if feature_slug is not None:
        rows = rows.filter(feature=find_feature(feature_slug))
    found, after = page_of(rows, cursor, limit)
    return GrantsOut(data=tell(customer, found, request.now), next_cursor=after)


@endpoint(router, "GET", "/grants/{grant_id}", needs=VIEW, gives=GrantOut, refuses=[404])
def read_grant(request: ApiRequest, grant_id: Id) -> GrantOut:
    """Read a grant."""
    return _told(grant_id, request.now)


@endpoint(
    router,
    "PATCH",
    "/grants/{grant_id}",
    needs=CHANGE,
    gives=GrantOut,
    also=ASKED,
    refuses=[404, 409],
    example={"units": 750, "endsAt": "2026-07-01T00:00:00Z"},
)
def change_grant(request: ApiRequest, grant_id: Id, body: GrantChange) -> GrantOut:
    """Change a grant while nothing of it is used. Once something is, it can only be voided."""
    said = {name: getattr(body, name) for name in body.model_fields_set}
    changes = {name: value for name, value in said.items() if value is not None or name == "ends_at"}
    given = _find(grant_id)
    if changes:
        change_units(given, changes, actor=request.auth.actor, now=request.now)
    return _told(grant_id, request.now)


@endpoint(
    router,
    "POST",
    "/grants/{grant_id}/void",
    needs=CHANGE,
    gives=GrantOut,
    refuses=[404],
    example={"reason": "given to the wrong customer"},
)
def void_grant(request: ApiRequest, grant_id: Id, body: GrantVoidIn) -> GrantOut:
    """Take back what is left of a grant, and all that would still come of it. Voided again: no change."""
    given = _find(grant_id)
    if given.voided_at is None:
        void_units(given, reason=body.reason, actor=request.auth.actor, now=request.now)
    return _told(grant_id, request.now)


def tell(customer: Customer, grants: Sequence[Grant], now: datetime) -> list[GrantOut]:
    """Grants of a customer with what was used and what is left of each; few queries for all of them."""
    totals = Balance.objects.filter(grant__in=grants).order_by().values_list("grant").annotate(Sum("used"))
    used = dict(totals)
    there = {bucket.grant.id: bucket for bucket in pool_at(customer, now).buckets if bucket.grant} if grants else {}
    told = []
    for grant in grants:
        bucket = there.get(grant.pk)
        told.append(
            GrantOut(
                id=grant.public_id,
                customer_id=customer.customer_id,
                feature_slug=grant.feature.slug,
                source=grant.source,  # type: ignore[arg-type]  # one of them
                state=_state(grant, now),
                units=grant.units,
                used=used.get(grant.pk) or Decimal(0),
                remaining=(bucket.remaining if bucket else None) or Decimal(0),
                label=grant.label,
                priority=grant.priority,
                starts_at=grant.starts_at,
                ends_at=grant.ends_at,
                recurs=grant.recurs or None,
                window_ends_at=bucket.ends_at if bucket else None,
                reason=grant.reason,
                metadata=grant.metadata,
                idempotency_key=grant.idempotency_key,
                created_by=grant.created_by,
                created_at=grant.created_at,
                voided_at=grant.voided_at,
                voided_by=grant.voided_by or None,
                void_reason=grant.void_reason or None,
            )
        )
    return told


def _state(grant: Grant, now: datetime) -> Literal["scheduled", "active", "ended", "voided"]:
    if grant.voided_at is not None:
        return "voided"
    if grant.ends_at is not None and grant.ends_at <= now:
        return "ended"
    return "scheduled" if now < grant.starts_at else "active"


def _find(public_id: str) -> Grant:
    rows = Grant.objects.select_related("customer", "feature").filter(customer__closed_at=None)
    found = rows.filter(public_id=public_id).first()
    if found is None:
        raise NotFound("grant", public_id)
    return found


def _told(public_id: str, now: datetime) -> GrantOut:
    grant = _find(public_id)
    return tell(grant.customer, [grant], now)[0]
