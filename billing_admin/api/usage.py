"""May they? They did. What have they got? The calls an application makes all day."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self

from ninja import Query, Router
from ninja.responses import Status
from pydantic import AliasChoices, Field

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.explained import ExplanationOut
from billing_admin.api.finding import find_customer
from billing_admin.api.refusals import BadValue, NotFound
from billing_admin.api.shapes import Answer, Body, Id, Instant, Properties, Quantity, Slug, Units, as_number
from billing_admin.api.upgrades import upgrade_to, upgrades
from billing_admin.flows.accepted import Use, accept, refuse_uncountable
from billing_admin.flows.customers import DuplicateCustomerId, create_customer
from billing_admin.flows.explain import explain_use
from billing_admin.flows.use import as_the_wallet_allows, check_all_use, check_use, track_use
from catalog.models import Plan
from customers.models import Customer
from entitlements.access import INSUFFICIENT_FUNDS, Access
from entitlements.balances import Bucket, Mode
from entitlements.check import check_many
from entitlements.models import UsageEvent
from entitlements.track import Tracked

router = Router(tags=["Access and use"])

CHECK = "entitlements.view_balance"
TRACK = "entitlements.add_usageevent"


class CheckIn(Body):
    customer_id: Id
    feature_slug: Slug | None = None
    feature_slugs: Annotated[list[Slug], Field(min_length=1, max_length=100)] | None = Field(
        default=None,
        validation_alias=AliasChoices("featureSlugs", "feature_slugs", "features"),
        description="Several at once, instead of `featureSlug`: answered in a list, in this order.",
    )
    compact: bool = Field(default=False, description="Of several: leave out those that are not allowed.")
    required: Annotated[Units, Field(ge=0)] = Decimal(1)
    auto_create: bool = Field(default=False, description="Create an unknown customer first.")
    explain: bool = Field(default=False, description="Add the `explanation`: the path to the answer, step by step.")

    def slugs(self) -> list[str]:
        """The features asked for, each once. Raises `BadValue` unless they are said in one way."""
        if self.feature_slugs is None:
            if self.feature_slug is None:
                raise BadValue("featureSlug", "featureSlug is required.", "missing_field")
            return [self.feature_slug]
        if self.feature_slug is not None:
            raise BadValue("featureSlugs", "Send either featureSlug or featureSlugs.")
        if self.explain:
            raise BadValue("explain", "An explanation is of one feature: send featureSlug.")
        return list(dict.fromkeys(self.feature_slugs))


EventKey = Annotated[str, Field(min_length=1, max_length=255)] | None


class TrackIn(Body):
    customer_id: Id
    feature_slug: Slug
    value: Units = Field(Decimal(1), description="Units used; negative gives back.")
    event_key: EventKey = Field(
        None,
        validation_alias=AliasChoices("eventKey", "event_key", "idempotencyKey", "idempotency_key"),
        description="Counted once per customer and key, for good. `idempotencyKey` is another word for it.",
    )
    mode: Literal["reject", "cap", "overflow"] = Field(
        "reject", description="What to do with use that does not fit: refuse all, take what fits, or count everything."
    )
    at: Instant | None = Field(
        None, description="When it happened, if that is not now: it counts in its own window until that is billed."
    )
    properties: Properties = Field(default_factory=dict, max_length=50)
    auto_create: bool = Field(default=False, description="Create an unknown customer first.")
    in_background: bool = Field(
        default=False,
        alias="async",
        description="Do not wait: the answer is 202, and the event is counted soon. What became of it: its id says.",
    )

    def use(self, key: str | None) -> Use:
        """The use that it reports, under the key that was chosen for it."""
        return Use(
            feature=self.feature_slug,
            amount=self.value,
            key=key,
            mode=Mode(self.mode),
            at=self.at,
            properties=self.properties,
        )


class SourceOut(Answer):
    name: str = Field(description="The plan that says so.")
    gives: str
    is_default: bool


class BucketOut(Answer):
    """One balance: what was granted for a window, what staff adjusted, what was used."""

    id: int | None = Field(description="Null while nothing has been written to it.")
    kind: str = Field(description="`plan`, `bonus`, `purchase`, `rollover` or `override`.")
    label: str | None = Field(description="A bonus or purchase: what it is called.")
    starts_at: datetime
    ends_at: datetime | None
    unlimited: bool
    granted: Quantity | None
    adjusted: Quantity
    used: Quantity
    remaining: Quantity | None
    overage: Quantity

    @classmethod
    def of(cls, bucket: Bucket) -> Self:
        return cls(
            id=bucket.id,
            kind=bucket.kind.value,
            label=bucket.label or None,
            starts_at=bucket.starts_at,
            ends_at=bucket.ends_at,
            unlimited=bucket.unlimited,
            granted=bucket.granted,
            adjusted=bucket.adjusted,
            used=bucket.used,
            remaining=bucket.remaining,
            overage=bucket.overage,
        )


class PlanRef(Answer):
    key: str
    name: str


class AccessOut(Answer):
    """`hasAccess`: it is in the package. `allowed`: `required` units may be used now."""

    feature_slug: str = Field(examples=["credits"])
    type: str = Field(examples=["metered"])
    has_access: bool
    allowed: bool
    reason: str = Field(
        description="`ok`, `no_plan`, `not_in_plan`, `no_access`, `limit_reached` or `insufficient_funds`.",
        examples=["ok"],
    )
    source: str = Field(description="`override`, `plan`, `bonus`, or `default` (also for nothing).", examples=["plan"])
    value: bool | int | float | str | None = Field(description="On/off: true or false. Static: the number or text.")
    required: Quantity
    unlimited: bool
    limit: Quantity | None = Field(description="Null: not metered, or unlimited.")
    used: Quantity
    remaining: Quantity | None
    overage: Quantity
    bonus_granted: Quantity = Field(description="Units beside the limit, which stays as it is.")
    bonus_used: Quantity
    bonus_remaining: Quantity = Field(description="Counted in `remaining`, too.")
    has_reached_limit: bool
    next_reset_at: datetime | None
    conflicts: bool = Field(description="Two plans give different texts; the main plan's is shown.")
    sources: list[SourceOut]
    buckets: list[BucketOut]
    upgrade_to: list[PlanRef] = Field(default_factory=list, description="When denied: plans that would allow it.")

    @classmethod
    def of(cls, access: Access, upgrades: list[PlanRef] | None = None) -> Self:
        value = as_number(access.value) if isinstance(access.value, Decimal) else access.value
        return cls(
            feature_slug=access.feature,
            type=access.type,
            has_access=access.has_access,
            allowed=access.allowed,
            reason=access.reason,
            source=access.source,
            value=False if access.type == "boolean" and value is None else value,
            required=access.required,
            unlimited=access.unlimited,
            limit=access.limit,
            used=access.used,
            remaining=access.remaining,
            overage=access.overage,
            bonus_granted=access.bonus.granted if access.bonus else Decimal(0),
            bonus_used=access.bonus.used if access.bonus else Decimal(0),
            bonus_remaining=access.bonus.remaining if access.bonus else Decimal(0),
            has_reached_limit=access.has_reached_limit,
            next_reset_at=access.next_reset_at,
            conflicts=access.conflicts,
            sources=[SourceOut(name=s.name, gives=s.gives, is_default=s.is_default) for s in access.sources],
            buckets=[BucketOut.of(bucket) for bucket in access.buckets],
            upgrade_to=upgrades or [],
        )


class ExplainedAccessOut(AccessOut):
    """An answer with the path to it."""

    explanation: ExplanationOut


class EventOut(Answer):
    id: str
    feature_slug: str
    value: Quantity = Field(description="What was asked for.")
    counted: Quantity = Field(description="What was counted.")
    at: datetime
    event_key: str | None
    mode: str
    properties: dict[str, Any]

    @classmethod
    def of(cls, event: UsageEvent, feature_slug: str) -> Self:
        return cls(
            id=event.public_id,
            feature_slug=feature_slug,
            value=event.amount,
            counted=event.taken,
            at=event.at,
            event_key=event.key,
            mode=event.mode,
            properties=event.properties,
        )


class TrackedOut(Answer):
    applied: bool = Field(description="False: the key was known; `event` is the first one, `access` the present state.")
    event: EventOut
    access: AccessOut


class AcceptedOut(Answer):
    """Use that is kept, and counted soon: `GET /events/accepted/{id}` says what became of it."""

    accepted_id: str = Field(examples=["acc_9aQ2mZ8TqVbNc1R4"])


class AccessListOut(Answer):
    data: list[AccessOut]


EXAMPLE = {"customerId": "acme", "featureSlug": "credits"}


@endpoint(
    router,
    "POST",
    "/check",
    needs=CHECK,
    gives=ExplainedAccessOut | AccessOut | AccessListOut,
    refuses=[404, 409],
    example={**EXAMPLE, "required": 3},
)
def check(request: ApiRequest, body: CheckIn) -> AccessOut | AccessListOut:
    """May this customer use a feature now, or several of them?

    Nothing is counted. When denied, the answer says why, when the balance resets, and which plans would allow it. With
    `featureSlugs` it is a list: what is in no plan is in it, too, with `allowed: false`, unless `compact` is asked for.
    """
    slugs = body.slugs()
    customer = found_or_created(request, body.customer_id, create=body.auto_create)
    if body.feature_slugs is not None:
        return _checked_many(customer, slugs, body.required, request.now, compact=body.compact)
    answered = explained if body.explain else _checked
    return answered(customer, slugs[0], body.required, request.now)


@endpoint(router, "GET", "/check", needs=CHECK, gives=ExplainedAccessOut | AccessOut, refuses=[404])
def check_by_address(
    request: ApiRequest,
    customer_id: Annotated[Id, Query(alias="customerId")],
    feature_slug: Annotated[Slug, Query(alias="featureSlug")],
    required: Annotated[Decimal, Query(ge=0, max_digits=24, decimal_places=6)] = Decimal(1),
    explain: Annotated[bool, Query(description="Add the `explanation`.")] = False,
) -> AccessOut:
    """May this customer use a feature now? (as a GET)"""
    answered = explained if explain else _checked
    return answered(find_customer(customer_id), feature_slug, required, request.now)


@endpoint(
    router,
    "POST",
    "/track",
    needs=TRACK,
    gives=TrackedOut,
    also={HTTPStatus.ACCEPTED: AcceptedOut},
    refuses=[404, 409],
    example={**EXAMPLE, "value": 3, "eventKey": "job-4711", "properties": {"model": "large"}},
)
def track(request: ApiRequest, body: TrackIn) -> TrackedOut | Status[AcceptedOut]:
    """Count use, once per event key.

    All or nothing: use that does not fit is refused with 409 `limit_reached`, and what the wallet has to pay at once
    and does not cover with 409 `insufficient_funds`; its key stays free. The header `Idempotency-Key` may carry the
    event key.
    """
    use = body.use(chosen_key(body.event_key, request.headers.get("Idempotency-Key")))
    customer = found_or_created(request, body.customer_id, create=body.auto_create)
    if body.in_background:
        refuse_uncountable(use)
        [row] = accept([(customer, use)], now=request.now)
        return Status(HTTPStatus.ACCEPTED, AcceptedOut(accepted_id=row.public_id))
    tracked = count(customer, use, now=request.now)
    return TrackedOut(
        applied=tracked.applied,
        event=EventOut.of(tracked.event, body.feature_slug),
        access=AccessOut.of(tracked.access),
    )


def chosen_key(own: str | None, header: str | None) -> str | None:
    """The event's own key, else the header's. Raises `BadValue` for one that cannot be kept."""
    key = own or header or None
    if key and (len(key) > 255 or not key.isprintable()):
        raise BadValue("event_key", "An event key has at most 255 printable characters.")
    return key


def count(customer: Customer, use: Use, *, now: datetime) -> Tracked:
    return track_use(
        customer,
        feature=use.feature,
        amount=use.amount,
        at=use.at,
        now=now,
        key=use.key,
        mode=use.mode,
        properties=use.properties,
    )


@endpoint(router, "GET", "/customers/{customer_id}/features", needs=CHECK, gives=AccessListOut, refuses=[404])
def list_features_of_customer(request: ApiRequest, customer_id: Id, compact: bool = False) -> AccessListOut:
    """Every feature of this customer, with its access; with `compact` only what is allowed."""
    found = check_all_use(find_customer(customer_id), now=request.now)
    return AccessListOut(data=[AccessOut.of(access) for access in found if access.allowed or not compact])


def _checked(customer: Customer, feature: str, required: Decimal, now: datetime) -> AccessOut:
    return _answer(customer, check_use(customer, feature, now=now, required=required), now)


def _checked_many(
    customer: Customer, slugs: Sequence[str], required: Decimal, now: datetime, *, compact: bool
) -> AccessListOut:
    checked = check_many(customer, slugs, now=now, required=required)
    found = [a for a in as_the_wallet_allows(customer, checked, now=now) if a.allowed or not compact]
    plans = upgrades(customer, [access for access in found if _may_upgrade(access)], now=now)
    return AccessListOut(data=[AccessOut.of(access, _refs(plans.get(access.feature, []))) for access in found])


def explained(
    customer: Customer, feature: str, required: Decimal, now: datetime, *, at: datetime | None = None
) -> ExplainedAccessOut:
    """An answer with the path to it; `at` asks for one of the past, where plans that are on sale now play no part."""
    found = explain_use(customer, feature, now=now, required=required, at=at)
    answer = _answer(customer, found.access, now) if at is None else AccessOut.of(found.access)
    return ExplainedAccessOut(**dict(answer), explanation=ExplanationOut.of(found))


def _answer(customer: Customer, access: Access, now: datetime) -> AccessOut:
    return AccessOut.of(access, _refs(upgrade_to(customer, access, now=now) if _may_upgrade(access) else []))


def _may_upgrade(access: Access) -> bool:
    """Whether another plan might help: what a wallet lacks is no matter of plans."""
    return not access.allowed and access.reason != INSUFFICIENT_FUNDS


def _refs(plans: Sequence[Plan]) -> list[PlanRef]:
    return [PlanRef(key=plan.key, name=plan.name) for plan in plans]


def found_or_created(request: ApiRequest, customer_id: str, *, create: bool) -> Customer:
    """The customer; an unknown one is created only when asked for, so that a typo makes no ghost."""
    try:
        return find_customer(customer_id)
    except NotFound:
        if not create:
            raise
    request.auth.require("customers.add_customer")
    try:
        return create_customer(customer_id=customer_id, name=customer_id, actor=request.auth.actor, now=request.now)
    except DuplicateCustomerId:
        return find_customer(customer_id)  # somebody else created it just now
