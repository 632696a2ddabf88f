"""Tax rates of the account, and which of them a customer or a plan has."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self

from ninja import Query, Router
from pydantic import BeforeValidator, Field

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer, find_plan
from billing_admin.api.refusals import BadValue, NotFound
from billing_admin.api.shapes import Answer, Body, Count, ExactRate, Id, Reason, Slug
from catalog.models import Plan
from customers.models import Customer
from invoicing import tax as verbs
from invoicing.models import TaxAssignment, TaxExemption, TaxRate

router = Router(tags=["Taxes"])

VIEW = "invoicing.view_taxrate"
ADD = "invoicing.add_taxrate"
CHANGE = "invoicing.change_taxrate"
ASSIGN = "invoicing.change_taxassignment"
RateId = Annotated[int, Field(ge=1, le=2**62)]


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


class TaxRateIn(Body):
    name: str = Field(max_length=200, description="What customers read.")
    percent: Annotated[Decimal, BeforeValidator(_no_boolean)]
    inclusive: bool = Field(default=False, description="Within the prices; else on top of them.")
    region: str = Field("", max_length=200)
    is_default: bool = Field(default=False, description="For whoever has no rate of their own, nor their plan.")


class ArchiveIn(Body):
    reason: Reason = ""


class DefaultIn(Body):
    is_default: bool


class CustomerTaxesIn(Body):
    tax_rate_ids: list[Count] = Field(
        max_length=100, description="Exactly these; none: the plan's, else the account's."
    )
    exempt_because: str | None = Field(None, max_length=2_000, description="With a reason: no tax at all. Null: taxed.")


class PlanTaxesIn(Body):
    tax_rate_ids: list[Count] = Field(max_length=100, description="Exactly these; none: the account's.")


class TaxRateOut(Answer):
    id: int
    name: str = Field(examples=["VAT"])
    percent: ExactRate = Field(examples=["19"])
    inclusive: bool
    region: str
    is_default: bool
    archived_at: datetime | None

    @classmethod
    def of(cls, rate: TaxRate) -> Self:
        return cls(
            id=rate.pk,
            name=rate.name,
            percent=rate.percent,
            inclusive=rate.inclusive,
            region=rate.region,
            is_default=rate.is_default,
            archived_at=rate.archived_at,
        )


class TaxRatesOut(Answer):
    tax_rates: list[TaxRateOut]


class CustomerTaxesOut(TaxRatesOut):
    exempt_because: str | None

    @classmethod
    def of(cls, customer: Customer) -> Self:
        exemption = TaxExemption.objects.filter(customer=customer, ended_at=None).first()
        return cls(tax_rates=_assigned(customer=customer), exempt_because=exemption.reason if exemption else None)


def _assigned(customer: Customer | None = None, plan: Plan | None = None) -> list[TaxRateOut]:
    rows = TaxAssignment.objects.filter(customer=customer, plan=plan, rate__archived_at=None)
    return [TaxRateOut.of(row.rate) for row in rows.select_related("rate").order_by("rate_id")]


def _find(rate_id: int) -> TaxRate:
    found = TaxRate.objects.filter(pk=rate_id).first()
    if found is None:
        raise NotFound("tax_rate", str(rate_id))
    return found


def _named(ids: list[int]) -> list[TaxRate]:
    found = TaxRate.objects.in_bulk(ids)
    missing = [str(pk) for pk in ids if pk not in found]
    if missing:
        raise BadValue("tax_rate_ids", f"There is no tax rate {', '.join(missing[:5])}.", "tax_rate_not_found")
    return list(found.values())


@endpoint(
    router,
    "POST",
    "/tax-rates",
    needs=ADD,
    gives=TaxRateOut,
    status=201,
    refuses=[409],
    example={"name": "VAT", "percent": "19", "inclusive": False, "region": "Germany", "isDefault": False},
)
def create_tax_rate(request: ApiRequest, body: TaxRateIn) -> TaxRateOut:
    """Create a tax rate. It is archived, not edited: documents keep the rate they were issued with."""
    rate = verbs.create_rate(**body.model_dump(), actor=request.auth.actor, now=request.now)
    return TaxRateOut.of(rate)


@endpoint(router, "GET", "/tax-rates", needs=VIEW, gives=TaxRatesOut)
def list_tax_rates(request: ApiRequest, archived: Annotated[bool, Query()] = False) -> TaxRatesOut:
    """List the rates in use; with `archived` the others, too."""
    rates = TaxRate.objects.order_by("id") if archived else TaxRate.objects.filter(archived_at=None).order_by("id")
    return TaxRatesOut(tax_rates=[TaxRateOut.of(rate) for rate in rates])


@endpoint(
    router,
    "POST",
    "/tax-rates/{tax_rate_id}/default",
    needs=CHANGE,
    gives=TaxRateOut,
    refuses=[404, 409],
    example={"isDefault": True},
)
def default_tax_rate(request: ApiRequest, tax_rate_id: RateId, body: DefaultIn) -> TaxRateOut:
    """Let a rate apply to whoever has none of their own, or no longer."""
    rate = _find(tax_rate_id)
    return TaxRateOut.of(verbs.set_default(rate, is_default=body.is_default, actor=request.auth.actor, now=request.now))


@endpoint(
    router,
    "POST",
    "/tax-rates/{tax_rate_id}/archive",
    needs=CHANGE,
    gives=TaxRateOut,
    refuses=[404],
    example={"reason": "the rate of last year"},
)
def archive_tax_rate(request: ApiRequest, tax_rate_id: RateId, body: ArchiveIn) -> TaxRateOut:
    """Take a rate out of use: documents from now on go without it. Archiving twice changes nothing."""
    rate = verbs.archive_rate(_find(tax_rate_id), reason=body.reason, actor=request.auth.actor, now=request.now)
    return TaxRateOut.of(rate)


@endpoint(router, "GET", "/customers/{customer_id}/taxes", needs=VIEW, gives=CustomerTaxesOut, refuses=[404])
def read_customer_taxes(request: ApiRequest, customer_id: Id) -> CustomerTaxesOut:
    """The rates that a customer has of their own, and why they are exempt."""
    return CustomerTaxesOut.of(find_customer(customer_id))


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/taxes",
    needs=ASSIGN,
    gives=CustomerTaxesOut,
    refuses=[404, 409],
    example={"taxRateIds": [], "exemptBecause": "reverse charge, DE123456789"},
)
def tax_customer(request: ApiRequest, customer_id: Id, body: CustomerTaxesIn) -> CustomerTaxesOut:
    """Give a customer exactly these rates of their own, or an exemption. It holds for documents from now on."""
    customer = find_customer(customer_id)
    verbs.tax_customer(
        customer,
        _named(body.tax_rate_ids),
        exempt_because=body.exempt_because,
        actor=request.auth.actor,
        now=request.now,
    )
    return CustomerTaxesOut.of(customer)


@endpoint(router, "GET", "/plans/{key}/taxes", needs=VIEW, gives=TaxRatesOut, refuses=[404])
def read_plan_taxes(request: ApiRequest, key: Slug) -> TaxRatesOut:
    """The rates of a plan, for whoever has none of their own."""
    return TaxRatesOut(tax_rates=_assigned(plan=find_plan(key)))


@endpoint(
    router,
    "POST",
    "/plans/{key}/taxes",
    needs=ASSIGN,
    gives=TaxRatesOut,
    refuses=[404, 409],
    example={"taxRateIds": []},
)
def tax_plan(request: ApiRequest, key: Slug, body: PlanTaxesIn) -> TaxRatesOut:
    """Give a plan exactly these rates."""
    plan = find_plan(key)
    verbs.tax_plan(plan, _named(body.tax_rate_ids), actor=request.auth.actor, now=request.now)
    return TaxRatesOut(tax_rates=_assigned(plan=plan))
