"""Plans: rate cards of a product, with their versions."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from django.conf import settings
from ninja import Query, Router
from pydantic import Field

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer, find_plan, find_product, plans
from billing_admin.api.items import ItemIn, ItemOut, items_of
from billing_admin.api.refusals import NotFound
from billing_admin.api.shapes import Answer, Body, ExactRate, Id, Rate, Slug
from billing_admin.flows import catalog as verbs
from billing_admin.flows.enable_plan import addable_plans, offered_plans
from billing_admin.flows.new_plan import new_plan
from catalog.models import Plan, PlanVersion
from catalog.periods import plan_cadence
from catalog.terms import Conditions, ItemTerms

router = Router(tags=["Plans"])

VIEW = "catalog.view_plan"
LEGACY = "Billing version 0 is legacy: use 1 for new plans."
ITEMS = [
    {"type": "fee", "name": "Base fee", "amount": "50.00"},
    {"type": "usage", "featureSlug": "tokens", "included": 100000, "unitPrice": "0.002", "per": 1000},
    {"type": "allowance", "featureSlug": "credits", "included": 100, "resets": "P1M"},
    {"type": "boolean", "featureSlug": "sso"},
    {"type": "static", "featureSlug": "rate-limit", "value": "100"},
]

Name = Annotated[str, Field(max_length=120)]
Entries = Annotated[list[ItemIn], Field(max_length=200)]


class VersionBody(Body):
    """What a version holds. `prices` and `items` are one list: write each entry where you like it."""

    billing_cadence: str | None = Field(None, max_length=20, description="P1M, P3M or P1Y.", examples=["P1M"])
    billing_interval: str | None = Field(
        None,
        max_length=20,
        description="Deprecated: monthly, quarterly or yearly. billingCadence wins.",
        json_schema_extra={"deprecated": True},
    )
    trial_days: int | None = Field(None, description="Free days before the first period.", examples=[14])
    trial_end: Literal["charge", "cancel"] | None = Field(
        None, description="After the free days the first period is billed, or the subscription ends."
    )
    commitment: Rate | None = Field(None, description="What a period costs at least.", examples=["500.00"])
    prices: Entries = Field(default_factory=list)
    items: Entries = Field(default_factory=list)
    publish: bool = Field(default=True, description="False leaves a draft.")
    commit_message: Annotated[str, Field(max_length=500)] = ""

    def terms(self, present: PlanVersion | None = None) -> tuple[str, list[ItemTerms]]:
        """The cadence and the items that were meant; a cadence that is left out is the present version's."""
        stays = present.cadence if present and not self.billing_interval else None
        cadence = plan_cadence(self.billing_cadence or stays, self.billing_interval)
        return cadence, items_of([*self.prices, *self.items], cadence, present.terms() if present else None)

    def conditions(self, present: PlanVersion | None = None) -> Conditions:
        """Trial and commitment; what is left out is the present version's, an explicit null takes it away."""
        was = present.terms().conditions if present else Conditions()
        given = {name: getattr(self, name) for name in ("trial_days", "trial_end") if getattr(self, name) is not None}
        if "commitment" in self.model_fields_set:
            given["commitment"] = self.commitment
        return replace(was, **given)


class PlanIn(VersionBody):
    product_id: Slug
    name: Name
    key: Slug | None = Field(None, description="Slugged from the name when left out.")
    invoice_display_name: Name = Field("", description="What customers read; the name when left out.")
    description: Annotated[str, Field(max_length=5_000)] = ""
    kind: Literal["billed", "assigned"] = "billed"
    currency: Annotated[str, Field(max_length=3)] | None = Field(None, description="The account's first, if left out.")
    billing_version: int = Field(1, description="0 (legacy) or 1.")
    add_on: bool = False
    reserved_for: Id | None = Field(None, description="A customer: hidden from, and refused for, all others.")


class PlanChange(Body):
    """What is left out stays. Name, display name and description change in place, without a version."""

    name: Name = ""
    invoice_display_name: Name = ""
    description: Annotated[str, Field(max_length=5_000)] = ""
    currency: Annotated[str, Field(max_length=3)] = ""
    billing_version: int = 1


class VersionRef(Answer):
    number: int
    state: str
    billing_cadence: str = Field(examples=["P1M"])
    billing_interval: str = Field(json_schema_extra={"deprecated": True}, description="Read billingCadence instead.")
    commit_message: str
    created_by: str
    published_at: datetime | None

    @classmethod
    def values(cls, version: PlanVersion) -> dict[str, Any]:
        return {
            "number": version.number,
            "state": version.state,
            "billing_cadence": version.cadence,
            "billing_interval": version.billing_interval,
            "commit_message": version.commit_message,
            "created_by": version.created_by,
            "published_at": version.published_at,
        }


class VersionOut(VersionRef):
    trial_days: int
    trial_end: str | None = Field(description="With a trial: `charge` or `cancel`.")
    commitment: ExactRate | None
    items: list[ItemOut]

    @classmethod
    def of(cls, version: PlanVersion) -> Self:
        return cls(
            **cls.values(version),
            trial_days=version.trial_days,
            trial_end=version.trial_end if version.trial_days else None,
            commitment=version.commitment,
            items=[ItemOut.of(item) for item in version.terms().items],
        )


class PlanOut(Answer):
    key: str
    product_id: str
    name: str = Field(description="Internal.")
    invoice_display_name: str = Field(description="What customers read.")
    description: str
    kind: str
    currency: str
    billing_version: int
    billing_cadence: str | None = Field(description="Of the current version.")
    billing_interval: str | None = Field(json_schema_extra={"deprecated": True}, description="Read billingCadence.")
    add_on: bool
    is_default: bool
    archived_at: datetime | None
    warnings: list[str]
    current_version: VersionOut | None = Field(description="What new subscriptions take.")

    @classmethod
    def values(cls, plan: Plan) -> dict[str, Any]:
        current = plan.current_version
        return {
            "key": plan.key,
            "product_id": plan.product.key,
            "name": plan.name,
            "invoice_display_name": plan.invoice_display_name,
            "description": plan.description,
            "kind": plan.kind,
            "currency": plan.currency,
            "billing_version": plan.billing_version,
            "billing_cadence": current.cadence if current else None,
            "billing_interval": current.billing_interval if current else None,
            "add_on": plan.add_on,
            "is_default": plan.is_default,
            "archived_at": plan.archived_at,
            "warnings": [LEGACY] if plan.billing_version == Plan.BillingVersion.LEGACY else [],
            "current_version": VersionOut.of(current) if current else None,
        }

    @classmethod
    def of(cls, plan: Plan) -> Self:
        return cls(**cls.values(plan))


class PlanDetail(PlanOut):
    versions: list[VersionRef]

    @classmethod
    def of(cls, plan: Plan) -> Self:
        versions = plan.versions.standard().order_by("-number")
        return cls(**cls.values(plan), versions=[VersionRef(**VersionRef.values(v)) for v in versions])


class PlansOut(Answer):
    data: list[PlanOut]


@endpoint(router, "GET", "/plans", needs=VIEW, gives=PlansOut)
def list_plans(
    request: ApiRequest,
    product_id: Annotated[str | None, Query(alias="productId", max_length=60)] = None,
    archived: bool = False,
) -> PlansOut:
    """List plans with their current versions; archived ones only when asked for."""
    rows = plans() if archived else plans().filter(archived_at=None)
    if product_id is not None:
        rows = rows.filter(product__key=product_id)
    return PlansOut(data=[PlanOut.of(plan) for plan in rows])


@endpoint(
    router,
    "POST",
    "/plans",
    needs="catalog.add_plan",
    gives=PlanDetail,
    status=201,
    refuses=[409],
    example={
        "productId": "api",
        "name": "Pro",
        "invoiceDisplayName": "API Pro",
        "currency": "USD",
        "billingCadence": "P1M",
        "billingVersion": 1,
        "prices": ITEMS[:2],
        "items": ITEMS[2:],
    },
)
def create_plan(request: ApiRequest, body: PlanIn) -> PlanDetail:
    """Create a plan and publish its first version, unless `publish` is false."""
    cadence, items = body.terms()
    plan = new_plan(
        find_product(body.product_id),
        items,
        name=body.name,
        key=body.key or "",
        invoice_display_name=body.invoice_display_name,
        description=body.description,
        kind=body.kind,
        currency=body.currency or settings.CURRENCIES[0],
        cadence=cadence,
        conditions=body.conditions(),
        add_on=body.add_on,
        billing_version=body.billing_version,
        reserved_for=find_customer(body.reserved_for) if body.reserved_for else None,
        publish=body.publish,
        message=body.commit_message,
        actor=request.auth.actor,
        now=request.now,
    )
    return PlanDetail.of(find_plan(plan.key))


@endpoint(router, "GET", "/plans/{key}", needs=VIEW, gives=PlanDetail, refuses=[404])
def read_plan(request: ApiRequest, key: Slug) -> PlanDetail:
    """Read a plan."""
    return PlanDetail.of(find_plan(key))


@endpoint(
    router,
    "PATCH",
    "/plans/{key}",
    needs="catalog.change_plan",
    gives=PlanDetail,
    refuses=[404, 409],
    example={"invoiceDisplayName": "API Professional"},
)
def change_plan_details(request: ApiRequest, key: Slug, body: PlanChange) -> PlanDetail:
    """Change a plan's words in place; its currency and billing version only while nobody depends on them."""
    plan, given = find_plan(key), body.model_fields_set
    fields = ("name", "invoice_display_name", "description", "currency", "billing_version")
    values = {field: getattr(body if field in given else plan, field) for field in fields}
    verbs.edit_plan(plan, **values, actor=request.auth.actor, now=request.now)
    return PlanDetail.of(find_plan(key))


@endpoint(router, "GET", "/plans/{key}/versions/{number}", needs=VIEW, gives=VersionOut, refuses=[404])
def read_version(request: ApiRequest, key: Slug, number: Annotated[int, Field(ge=1, le=2**31 - 1)]) -> VersionOut:
    """Read one version with its items."""
    version = PlanVersion.objects.with_items().filter(plan=find_plan(key), tailored=False, number=number).first()
    if version is None:
        raise NotFound("version", str(number))
    return VersionOut.of(version)


@endpoint(
    router,
    "POST",
    "/plans/{key}/versions",
    needs="catalog.add_planversion",
    gives=VersionOut,
    status=201,
    refuses=[404, 409],
    example={"commitMessage": "More credits", "items": ITEMS},
)
def create_version(request: ApiRequest, key: Slug, body: VersionBody) -> VersionOut:
    """Publish a new version. New subscriptions take it; whoever is on an older one stays there."""
    plan = find_plan(key)
    cadence, items = body.terms(plan.current_version)
    conditions = body.conditions(plan.current_version)
    actor, now = request.auth.actor, request.now
    if body.publish:
        version = verbs.update(
            plan,
            items,
            cadence=cadence,
            conditions=conditions,
            message=body.commit_message,
            actor=actor,
            now=now,
        )
    else:
        version = verbs.save_draft(plan, items, cadence=cadence, conditions=conditions, actor=actor, now=now)
    return VersionOut.of(PlanVersion.objects.with_items().get(pk=version.pk))


@endpoint(router, "GET", "/customers/{customer_id}/plans", needs=VIEW, gives=PlansOut, refuses=[404])
def list_plans_for_customer(request: ApiRequest, customer_id: Id, addable: bool = False) -> PlansOut:
    """Plans that this customer may be put on.

    With `addable=true` only those that would stand beside what they have: another main plan of a product that they
    are on would be a change.
    """
    customer = find_customer(customer_id)
    found = addable_plans(customer) if addable else offered_plans(customer)
    return PlansOut(data=[PlanOut.of(plan) for plan in found])
