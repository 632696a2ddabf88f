"""Another value of a feature, for a customer or one of their subscriptions: give it, look at it, take it back."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from django.db.models import BooleanField, Exists, ExpressionWrapper, F, OuterRef, Q, Value
from django.db.models.functions import Coalesce
from ninja import Query, Router
from pydantic import AfterValidator, Field, WithJsonSchema

from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, Caller, endpoint
from billing_admin.api.finding import find_customer, page_of
from billing_admin.api.refusals import NotFound
from billing_admin.api.shapes import Answer, Body, Id, Instant, Page, Reason, Slug, as_number
from billing_admin.flows.override_batch import typed
from billing_admin.flows.overrides import give_override
from catalog.models import Feature
from catalog.terms import BOOLEAN
from customers.models import Customer, Subscription
from entitlements.allowances import as_number as number_in
from entitlements.models import FeatureOverride, FeatureOverrideQuerySet
from entitlements.override import overlapping, revoke

router = Router(tags=["Overrides"])

VIEW = "entitlements.view_featureoverride"
# The one gives everything, the other what ends by itself.
GIVE, CONCESSION = "entitlements.add_featureoverride", "entitlements.give_concession"
EXAMPLE = {
    "featureSlug": "credits",
    "value": 50000,
    "effectiveUntil": "2026-06-01T00:00:00Z",
    "reason": "load test before their launch",
}
FAR = datetime(9999, 1, 1, tzinfo=UTC)
State = Literal["scheduled", "in_force", "expired", "superseded", "revoked"]


def _value(value: Any) -> bool | Decimal | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if not 0 < len(value) <= 500:
            raise ValueError("a text of 1 to 500 signs is expected")
        return value
    if not isinstance(value, int | Decimal):
        raise ValueError("true, false, a number or a text is expected")
    number = Decimal(value)
    if not number.is_finite() or abs(number) >= Decimal(10) ** 24:
        raise ValueError("a number of at most 24 digits before the point is expected")
    return number


OverrideValue = Annotated[
    Any,
    AfterValidator(_value),
    WithJsonSchema(
        {"anyOf": [{"type": "boolean"}, {"type": "number"}, {"type": "string", "minLength": 1, "maxLength": 500}]}
    ),
]
VALUE = "By the feature's type: true or false, a number, a text, `unlimited` or `no_access`."
UNTIL = "Null: permanent. It has to be said; the instant itself is no longer part of it."


class OverrideIn(Body):
    feature_slug: Slug
    value: OverrideValue = Field(description=VALUE)
    subscription_id: Id | None = Field(None, description="Left out: for the customer, over all their plans.")
    effective_from: Instant | None = Field(None, description="Left out: now.")
    effective_until: Instant | None = Field(description=UNTIL)
    reason: Reason = ""
    supersede: bool = Field(default=False, description="End what holds in that time at the new start.")


class OverrideRevokeIn(Body):
    reason: Reason = ""


class OverrideOut(Answer):
    id: str = Field(examples=["fov_9aQ2mZ8TqVbNc1R4"])
    customer_id: str
    feature_slug: str = Field(examples=["credits"])
    subscription_id: str | None = Field(description="Null: for the customer.")
    level: Literal["customer", "subscription"]
    value: bool | int | float | str = Field(description=VALUE, examples=[50000])
    state: State
    permanent: bool
    effective_from: datetime
    effective_until: datetime | None = Field(description="As it was agreed; null: permanent.")
    stops_at: datetime | None = Field(description="When it really ends: a revocation or a successor comes first.")
    both_levels: bool = Field(
        description="The feature is overridden at the other level, too, at some time of this one."
    )
    reason: str
    batch_id: str | None
    created_by: str
    created_at: datetime
    revoked_at: datetime | None
    revoked_by: str | None
    revoke_reason: str | None
    superseded_by: str | None = Field(description="The override that ended this one.")

    @classmethod
    def of(cls, row: FeatureOverride, now: datetime) -> Self:
        """Of a row of `told`."""
        return cls(
            id=row.public_id,
            customer_id=row.customer.customer_id,
            feature_slug=row.feature.slug,
            subscription_id=row.subscription.public_id if row.subscription else None,
            level="subscription" if row.subscription_id else "customer",
            value=value_out(row),
            state=row.state(now),  # type: ignore[arg-type]  # one of them
            permanent=row.effective_until is None,
            effective_from=row.effective_from,
            effective_until=row.effective_until,
            stops_at=row.stops_at,
            both_levels=row.both_levels,  # type: ignore[attr-defined]  # annotated
            reason=row.reason,
            batch_id=row.batch.public_id if row.batch else None,
            created_by=row.created_by,
            created_at=row.created_at,
            revoked_at=row.revoked_at,
            revoked_by=row.revoked_by or None,
            revoke_reason=row.revoke_reason or None,
            superseded_by=row.superseded_by.public_id if row.superseded_by else None,
        )


class OverridesOut(Page):
    data: list[OverrideOut]


def value_out(row: FeatureOverride) -> bool | int | float | str:
    """The value as it can be sent again: `no_access` closes what is no on/off feature."""
    if row.on is not None:
        return row.on if row.on or row.feature.type == BOOLEAN else "no_access"
    if row.unlimited:
        return "unlimited"
    number = row.units if row.units is not None else number_in(row.text)
    return row.text if number is None else as_number(number)


def told() -> FeatureOverrideQuerySet:
    """Overrides of customers who are there, with all that is told of them; one query."""
    at_some_time = Q(effective_from__lt=Coalesce(OuterRef("stops_at"), Value(FAR)))
    at_some_time &= Q(stops_at=None) | Q(stops_at__gt=OuterRef("effective_from"))
    others = FeatureOverride.objects.filter(at_some_time, customer=OuterRef("customer"), feature=OuterRef("feature"))
    others = others.exclude(stops_at=F("effective_from"))
    other_level: Any = Q(subscription=None) & Exists(others.filter(subscription__isnull=False))
    other_level |= Q(subscription__isnull=False) & Exists(others.filter(subscription=None))
    rows = FeatureOverride.objects.filter(customer__closed_at=None)
    rows = rows.annotate(both_levels=ExpressionWrapper(other_level, BooleanField()))
    return rows.select_related("customer", "feature", "subscription", "batch", "superseded_by")


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/overrides",
    needs=(GIVE, CONCESSION),
    gives=OverrideOut,
    status=201,
    also=ASKED,
    refuses=[404, 409],
    example=EXAMPLE,
)
def create_override(request: ApiRequest, customer_id: Id, body: OverrideIn) -> OverrideOut:
    """Give a feature another value for a while, or for good.

    The plan stays as it is. A number above what the plan gives is a bucket of its own while it is in force; below, it
    takes what is not used. `effectiveUntil` has to be sent: null is permanent, and takes the first permission; so does
    superseding a permanent one.
    """
    refuse_what_stays(request.auth, body.effective_until)
    customer, feature = find_customer(customer_id), find_feature(body.feature_slug)
    subscription, starts_at = _subscription(customer, body.subscription_id), body.effective_from or request.now
    if body.supersede:
        for other in overlapping(customer, feature, subscription, starts_at, body.effective_until):
            refuse_what_stays(request.auth, other.effective_until)
    row = give_override(
        customer,
        feature,
        typed(feature, body.value),
        subscription=subscription,
        effective_from=body.effective_from,
        effective_until=body.effective_until,
        reason=body.reason,
        supersede=body.supersede,
        actor=request.auth.actor,
        now=request.now,
    )
    return OverrideOut.of(told().get(pk=row.pk), request.now)


@endpoint(router, "GET", "/customers/{customer_id}/overrides", needs=VIEW, gives=OverridesOut, refuses=[404])
def list_overrides_of_customer(
    request: ApiRequest,
    customer_id: Id,
    state: State | None = None,
    feature_slug: Annotated[Slug | None, Query(alias="featureSlug")] = None,
    cursor: Annotated[Id | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> OverridesOut:
    """The overrides of a customer, newest first; those that are over, too."""
    rows = told().filter(customer=find_customer(customer_id))
    return _page(_chosen(rows, state, feature_slug, request.now), cursor, limit, request.now)


@endpoint(router, "GET", "/overrides", needs=VIEW, gives=OverridesOut, refuses=[404])
def list_overrides(
    request: ApiRequest,
    state: State | None = None,
    feature_slug: Annotated[Slug | None, Query(alias="featureSlug")] = None,
    batch_id: Annotated[Id | None, Query(alias="batchId")] = None,
    ends_within_days: Annotated[int | None, Query(alias="endsWithinDays", ge=0, le=3650)] = None,
    no_end: Annotated[bool, Query(alias="noEnd")] = False,
    both_levels: Annotated[bool, Query(alias="bothLevels")] = False,
    cursor: Annotated[Id | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> OverridesOut:
    """The register of all overrides, newest first.

    `endsWithinDays` are those that still stand and end within so many days, `noEnd` those that stand without an end,
    `bothLevels` those that stand at both levels of one feature.
    """
    rows, now = _chosen(told(), state, feature_slug, request.now), request.now
    if batch_id is not None:
        rows = rows.filter(batch__public_id=batch_id)
    if ends_within_days is not None:
        rows = rows.standing(now).filter(stops_at__lte=now + timedelta(days=ends_within_days))
    if no_end:
        rows = rows.standing(now).filter(stops_at=None)
    if both_levels:
        rows = rows.standing(now).filter(both_levels=True)
    return _page(rows, cursor, limit, now)


@endpoint(router, "GET", "/overrides/{override_id}", needs=VIEW, gives=OverrideOut, refuses=[404])
def read_override(request: ApiRequest, override_id: Id) -> OverrideOut:
    """Read an override."""
    return OverrideOut.of(_find(override_id), request.now)


@endpoint(
    router,
    "POST",
    "/overrides/{override_id}/revoke",
    needs=(GIVE, CONCESSION),
    gives=OverrideOut,
    refuses=[404],
    example={"reason": "the test is over"},
)
def revoke_feature_override(request: ApiRequest, override_id: Id, body: OverrideRevokeIn) -> OverrideOut:
    """Stop an override at once; it stays for the record. One that is over already stays as it is."""
    row = _find(override_id)
    refuse_what_stays(request.auth, row.effective_until)
    if not row.is_over(request.now):
        revoke(row, reason=body.reason, actor=request.auth.actor, now=request.now)
    return OverrideOut.of(_find(override_id), request.now)


def refuse_what_stays(caller: Caller, until: datetime | None) -> None:
    """Whoever may only make concessions gives, and takes back, what ends by itself."""
    if until is None:
        caller.require(GIVE)


def find_feature(slug: str) -> Feature:
    found = Feature.objects.filter(slug=slug).first()
    if found is None:
        raise NotFound("feature", slug)
    return found


def _find(public_id: str) -> FeatureOverride:
    found: FeatureOverride | None = told().filter(public_id=public_id).first()
    if found is None:
        raise NotFound("override", public_id)
    return found


def _subscription(customer: Customer, public_id: str | None) -> Subscription | None:
    if public_id is None:
        return None
    found: Subscription | None = customer.subscriptions.filter(public_id=public_id).first()
    if found is None:
        raise NotFound("subscription", public_id)
    return found


def _chosen(
    rows: FeatureOverrideQuerySet, state: str | None, slug: str | None, now: datetime
) -> FeatureOverrideQuerySet:
    if state is not None:
        rows = rows.in_state(state, now)
    return rows if slug is None else rows.filter(feature=find_feature(slug))


def _page(rows: FeatureOverrideQuerySet, cursor: str | None, limit: int, now: datetime) -> OverridesOut:
    found, after = page_of(rows, cursor, limit)
    return OverridesOut(data=[OverrideOut.of(row, now) for row in found], next_cursor=after)
