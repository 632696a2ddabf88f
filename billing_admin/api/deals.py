"""Deals: begun, changed version by version, looked at, submitted, sent, signed, carried out, given up."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from django.db import transaction
from ninja import Query, Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, Caller, endpoint
from billing_admin.api.finding import find_customer, find_plan, find_version, page_of
from billing_admin.api.items import ItemIn, ItemOut, items_of
from billing_admin.api.lines import LineOut
from billing_admin.api.price_overrides import ComponentIn, ComponentOut
from billing_admin.api.refusals import BadValue, NotFound
from billing_admin.api.shapes import (
    Answer,
    Body,
    Count,
    ExactRate,
    Id,
    Instant,
    Money,
    Page,
    Quantity,
    Rate,
    Reason,
    Slug,
    Units,
)
from billing_admin.deal_rights import ADD, CHANGE, EXECUTE, SEND, VIEW, rights_for
from billing_admin.flows.deal_approval import submit
from billing_admin.flows.deal_calendar import DealCalendar, PlannedInvoice
from billing_admin.flows.deal_execute import execute
from billing_admin.flows.deal_reading import calendar_for
from billing_admin.flows.deal_taken_back import Part, parts_of
from billing_admin.flows.deals import (
    accept,
    amend,
    base_of,
    check,
    create_deal,
    create_from,
    newest,
    read_terms,
    rename,
    save_version,
    send,
    void,
)
from catalog.models import Plan
from deals.models import Deal, DealVersion
from deals.terms import MOST_MONTHS, DealCoupon, DealOverride, DealPhase, DealPrice, DealTerms
from invoicing.special import read_components

router = Router(tags=["Deals"])

BESIDE = ("customer", "base_version__plan__product", "made_from", "amends", "subscription", "operation")
Months = Annotated[int, Field(ge=1, le=MOST_MONTHS)]
Month = Annotated[int, Field(ge=0, le=MOST_MONTHS)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Words = Annotated[str, Field(max_length=20_000)]
Few = Annotated[int, Field(ge=0, le=730)]

PHASES = [
    {"label": "Year 1", "months": 12, "items": [{"type": "fee", "amount": "3333.33"}]},
    {"label": "Year 2", "months": 12, "items": [{"type": "fee", "amount": "5000.00"}], "commitment": "4000.00"},
]
CONTENT = {"termMonths": 24, "netTermsDays": 30, "phases": PHASES}
BEGUN = {"customerId": "acme", "planKey": "pro", "name": "Acme: two years of Pro", "content": CONTENT}


# What a deal says -----------------------------------------------------------------------------------------------------


class DealPhaseIn(Body):
    label: str = Field(max_length=80, examples=["Year 1"])
    months: Months | None = Field(None, description="Left out: until the end of the term; the last phase only.")
    items: Annotated[list[ItemIn], Field(max_length=200)] | None = Field(
        None, description="All items of the phase. Left out: those of the base version."
    )
    quantity: Count = 1
    commitment: Rate | None = Field(None, description="What a period costs at least, in major units.")
    bought: dict[Slug, Units] = Field(default_factory=dict, description="Prepaid units in total, by item key.")
    use: dict[Slug, Units] = Field(
        default_factory=dict, description="Assumed by the month, where it differs from the deal's, by feature."
    )


class DealCouponIn(Body):
    code: Slug
    scope: Literal["subscription", "customer"] = "subscription"


class DealOverrideIn(Body):
    feature_slug: Slug
    value: bool | Decimal | str = Field(description="On or off, units, a text, or `unlimited`.")
    from_month: Month = Field(0, description="Months of the term, counted from 0.")
    until_month: Month | None = Field(None, description="The first month that has it no more; null: it stays.")


class DealPriceIn(Body):
    price_id: Slug = Field(description="The key of the item.")
    components: list[ComponentIn] = Field(max_length=100)
    mode: Literal["replace", "add"] = "replace"
    cycles: Annotated[int, Field(ge=1, le=1_000)] | None = Field(None, description="Null: until it is revoked.")


class DealContentIn(Body):
    """All that a version says; what is left out is as the base version has it, not as the version before."""

    term_months: Months = 12
    cadence: Literal["P1M", "P3M", "P1Y"] | None = None
    starts_at: Instant | None = Field(None, description="Null: when it is executed.")
    renews: bool = Field(default=True, description="Goes on under the last phase after the term; else it ends.")
    net_terms_days: Annotated[int, Field(ge=0, le=365)] | None = None
    trial_days: Few | None = Field(None, description="Takes `customers.extend_trial`, unless it is 0.")
    activation: Literal["after_payment", "now"] = Field(
        "after_payment", description="`now` takes `customers.activate_unpaid`."
    )
    phases: Annotated[list[DealPhaseIn], Field(min_length=1, max_length=36)] | None = Field(
        None, description="Left out: one, as the base version."
    )
    coupons: list[DealCouponIn] = Field(default_factory=list, max_length=10)
    overrides: list[DealOverrideIn] = Field(default_factory=list, max_length=100)
    prices: list[DealPriceIn] = Field(default_factory=list, max_length=50)
    use: dict[Slug, Units] = Field(
        default_factory=dict, description="Assumed to be used in a month (of levels: held), by feature; no promise."
    )
    introduction: Words = ""
    special_terms: Words = ""

    def terms(self, deal: Deal) -> DealTerms:
        """As the deal says it. Raises `InvalidItems` and `BadComponent` for what cannot be read."""
        base = base_of(deal)
        cadence = self.cadence or base.cadence
        phases = self.phases or [DealPhaseIn.model_validate({"label": "Term"})]
        return DealTerms(
            plan_id=base.plan_id,
            plan_name=base.plan_name,
            currency=base.currency,
            version_id=base.version,
            cadence=cadence,
            term_months=self.term_months,
            phases=tuple(_phase(phase, cadence, base) for phase in phases),
            starts_at=self.starts_at,
            renews=self.renews,
            net_terms_days=self.net_terms_days,
            trial_days=self.trial_days,
            activation=self.activation,
            coupons=tuple(DealCoupon(coupon.code, coupon.scope) for coupon in self.coupons),
            overrides=tuple(DealOverride(o.feature_slug, o.value, o.from_month, o.until_month) for o in self.overrides),
            prices=tuple(_price(price, base.currency) for price in self.prices),
            use=tuple(sorted(self.use.items())),
            introduction=self.introduction,
            special_terms=self.special_terms,
        )


def _phase(phase: DealPhaseIn, cadence: str, base: Any) -> DealPhase:
    items = base.items if phase.items is None else items_of(phase.items, cadence, base)
    return DealPhase(
        label=phase.label,
        months=phase.months,
        items=tuple(items),
        quantity=phase.quantity,
        commitment=phase.commitment if phase.items is not None or phase.commitment is not None else base.commitment,
        bought=tuple(sorted(phase.bought.items())),
        use=tuple(sorted(phase.use.items())),
    )


def _price(price: DealPriceIn, currency: str) -> DealPrice:
    raw = [component.model_dump(exclude_none=True) for component in price.components]
    return DealPrice(price.price_id, read_components(raw, mode=price.mode, currency=currency), price.mode, price.cycles)


class DealPhaseOut(Answer):
    label: str
    months: int | None
    items: list[ItemOut]
    quantity: int
    commitment: ExactRate | None
    bought: dict[str, Quantity]
    use: dict[str, Quantity]


class DealCouponOut(Answer):
    code: str
    scope: str


class DealOverrideOut(Answer):
    feature_slug: str
    value: bool | Quantity | str
    from_month: int
    until_month: int | None


class DealPriceOut(Answer):
    price_id: str
    components: list[ComponentOut]
    mode: str
    cycles: int | None


class DealContentOut(Answer):
    """The same words as in `DealContentIn`: what one version answers can be sent for the next."""

    term_months: int
    cadence: str
    starts_at: datetime | None
    renews: bool
    net_terms_days: int | None
    trial_days: int | None
    activation: str
    phases: list[DealPhaseOut]
    coupons: list[DealCouponOut]
    overrides: list[DealOverrideOut]
    prices: list[DealPriceOut]
    use: dict[str, Quantity]
    introduction: str
    special_terms: str

    @classmethod
    def of(cls, terms: DealTerms) -> Self:
        same = ("term_months", "cadence", "starts_at", "renews", "net_terms_days", "trial_days", "activation")
        return cls(
            **{name: getattr(terms, name) for name in (*same, "introduction", "special_terms")},
            phases=[
                DealPhaseOut(
                    label=phase.label,
                    months=phase.months,
                    items=[ItemOut.of(item) for item in phase.items],
                    quantity=phase.quantity,
                    commitment=phase.commitment,
                    bought=dict(phase.bought),
                    use=dict(phase.use),
                )
                for phase in terms.phases
            ],
            coupons=[DealCouponOut(code=coupon.code, scope=coupon.scope) for coupon in terms.coupons],
            overrides=[
                DealOverrideOut(
                    feature_slug=o.feature, value=o.value, from_month=o.from_month, until_month=o.until_month
                )
                for o in terms.overrides
            ],
            prices=[
                DealPriceOut(
                    price_id=price.item_key,
                    components=[ComponentOut(**component.to_json()) for component in price.components],
                    mode=price.mode,
                    cycles=price.cycles,
                )
                for price in terms.prices
            ],
            use=dict(terms.use),
        )


# What it comes to -----------------------------------------------------------------------------------------------------


class PlannedInvoiceOut(Answer):
    at: datetime
    issued_at: datetime
    due_at: datetime
    phase: str
    total: Money
    net: Money
    tax: Money
    is_estimated: bool = Field(description="Use is assumed in it.")
    lines: list[LineOut]

    @classmethod
    def of(cls, invoice: PlannedInvoice, currency: str) -> Self:
        return cls(
            at=invoice.at,
            issued_at=invoice.issued_at,
            due_at=invoice.due_at,
            phase=invoice.phase,
            total=Money.of(invoice.total, currency),
            net=Money.of(invoice.net, currency),
            tax=Money.of(invoice.tax, currency),
            is_estimated=invoice.is_estimated,
            lines=[LineOut.of(line) for line in invoice.lines],
        )


class DealYearOut(Answer):
    number: int
    starts_at: datetime
    ends_at: datetime
    net: Money
    total: Money


class DealCalendarOut(Answer):
    """Every invoice of the term, and what the deal is worth beside list prices; net of tax but for `total`.

    Of an executed deal whose contract ran before, the invoices are those that it is still to get.
    """

    starts_at: datetime
    ends_at: datetime
    reckoned_for: datetime = Field(description="The day on which it takes effect in this calendar.")
    access_waits_for_payment: bool = Field(description="Access begins once the first invoice is paid.")
    total_contract_value: Money
    monthly: Money
    list_value: Money
    discount_percent: ExactRate | None = Field(description="Against list; null where list costs nothing.")
    committed: Money
    years: list[DealYearOut]
    invoices: list[PlannedInvoiceOut]

    @classmethod
    def of(cls, calendar: DealCalendar) -> Self:
        currency = calendar.currency
        return cls(
            starts_at=calendar.starts_at,
            ends_at=calendar.ends_at,
            reckoned_for=calendar.term.opens_at,
            access_waits_for_payment=calendar.is_gated,
            total_contract_value=Money.of(calendar.value, currency),
            monthly=Money.of(calendar.monthly, currency),
            list_value=Money.of(calendar.list_value, currency),
            discount_percent=calendar.discount,
            committed=Money.of(calendar.committed, currency),
            years=[
                DealYearOut(
                    number=year.number,
                    starts_at=year.starts_at,
                    ends_at=year.ends_at,
                    net=Money.of(year.net, currency),
                    total=Money.of(year.total, currency),
                )
                for year in calendar.years
            ],
            invoices=[PlannedInvoiceOut.of(invoice, currency) for invoice in calendar.invoices],
        )


# A deal ---------------------------------------------------------------------------------------------------------------


class DealOut(Answer):
    id: str = Field(examples=["deal_7bQ2mZ8TqVbNc1R4"])
    name: str
    customer_id: str | None
    is_template: bool
    plan_key: str
    base_version: int
    state: str = Field(examples=["draft"])
    version: int
    owner: str
    created_at: datetime
    expires_at: datetime | None
    approval_id: str | None
    approved_by: str | None
    approved_at: datetime | None
    sent_at: datetime | None
    accepted_at: datetime | None
    accepted_by: str | None
    executed_at: datetime | None
    voided_at: datetime | None
    void_reason: str | None
    subscription_id: str | None
    made_from: str | None
    amends: str | None

    @classmethod
    def of(cls, deal: Deal, version: int | None = None) -> Self:
        same = ("name", "is_template", "state", "owner", "created_at", "expires_at", "approved_at", "sent_at")
        more = ("accepted_at", "executed_at", "voided_at")
        base = deal.base_version
        return cls(
            **{name: getattr(deal, name) for name in (*same, *more)},
            id=deal.public_id,
            customer_id=deal.customer.customer_id if deal.customer else None,
            plan_key=base.plan.key,
            base_version=base.number,
            version=version or newest(deal).number,
            approval_id=deal.approval or None,
            approved_by=deal.approved_by or None,
            accepted_by=deal.accepted_by or None,
            void_reason=deal.void_reason or None,
            subscription_id=deal.subscription.public_id if deal.subscription else None,
            made_from=deal.made_from.public_id if deal.made_from else None,
            amends=deal.amends.public_id if deal.amends else None,
        )


class DealPartOut(Answer):
    """One act that an executed deal is made of, and the one that took it back."""

    operation_id: str
    verb: str
    summary: str
    taken_back: bool
    taken_back_at: datetime | None
    taken_back_by: str | None
    taken_back_operation_id: str | None

    @classmethod
    def of(cls, part: Part) -> Self:
        by = part.taken_back_by
        return cls(
            operation_id=part.act.public_id,
            verb=part.act.verb,
            summary=part.act.summary,
            taken_back=by is not None,
            taken_back_at=by.at if by else None,
            taken_back_by=by.actor if by else None,
            taken_back_operation_id=by.public_id if by else None,
        )


class WholeDealOut(DealOut):
    """With what its newest version says, and what it was carried out by."""

    message: str
    fingerprint: str
    content: DealContentOut
    parts: list[DealPartOut] = Field(description="Acts that can each be taken back; none before it is executed.")

    @classmethod
    def whole(cls, deal: Deal) -> Self:
        version: DealVersion = newest(deal)
        said = DealOut.of(deal, version.number).model_dump()
        content = DealContentOut.of(read_terms(version))
        parts = [DealPartOut.of(part) for part in parts_of(deal)]
        return cls(**said, message=version.message, fingerprint=version.fingerprint, content=content, parts=parts)


class DealsOut(Page):
    data: list[DealOut]


class DealIn(Body):
    customer_id: Id | None = Field(None, description="Left out: a template for other deals.")
    plan_key: Slug | None = Field(None, description="Either a plan, or `fromDealId`.")
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(None, description="An older published version.")
    from_deal_id: Id | None = Field(None, description="A template or another deal, whose newest version is copied.")
    name: Name
    expires_at: Instant | None = None
    content: DealContentIn | None = Field(None, description="Left out: as the plan or the copied deal says.")


class DealVersionIn(Body):
    content: DealContentIn
    message: Annotated[str, Field(max_length=500)] = Field("", description="What this version changes.")


class DealChange(Body):
    name: Name | None = None
    expires_at: Instant | None = None


class DealAcceptIn(Body):
    by: Annotated[str, Field(min_length=1, max_length=100)] = Field(description="Who signed on the other side.")
    how: Annotated[str, Field(max_length=80)] = ""


class DealReasonIn(Body):
    reason: Reason = ""


def find_deal(public_id: str) -> Deal:
    found = Deal.objects.select_related(*BESIDE).filter(public_id=public_id).first()
    if found is None:
        raise NotFound("deal", public_id)
    return found


def require_all(caller: Caller, terms: DealTerms) -> None:
    """What its parts take, beside writing deals."""
    for permission in rights_for(terms):
        caller.require(permission)


def read_content(deal: Deal, content: DealContentIn) -> DealTerms:
    """Checked like any version. Raises `InvalidDeal`, `InvalidItems`."""
    terms = content.terms(deal)
    check(deal, terms)
    return terms


@endpoint(router, "GET", "/deals", needs=VIEW, gives=DealsOut, refuses=[404])
def list_deals(
    request: ApiRequest,
    customer_id: Id | None = None,
    state: Literal["draft", "awaiting_approval", "approved", "sent", "accepted", "executed", "void"] | None = None,
    templates: bool = False,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> DealsOut:
    """List deals, the newest first; `templates=true` lists templates instead."""
    rows = Deal.objects.select_related(*BESIDE).filter(is_template=templates)
    if customer_id:
        rows = rows.filter(customer=find_customer(customer_id))
    if state:
        rows = rows.filter(state=state)
    found, following = page_of(rows, cursor, limit)
    versions = dict(DealVersion.objects.filter(deal__in=found).order_by("number").values_list("deal_id", "number"))
    return DealsOut(data=[DealOut.of(deal, versions[deal.pk]) for deal in found], next_cursor=following)


@endpoint(router, "POST", "/deals", needs=ADD, gives=WholeDealOut, status=201, refuses=[404, 409], example=BEGUN)
@transaction.atomic
def begin_deal(request: ApiRequest, body: DealIn) -> WholeDealOut:
    """Begin a deal, from a version of a plan or from another deal.

    Without a customer it is a template. `content` says what differs from the plan; what its parts take besides
    (`customers.override_price`, `customers.apply_coupon`, `entitlements.add_featureoverride`,
    `customers.activate_unpaid`, `customers.extend_trial`) is asked for, too.
    """
    customer = find_customer(body.customer_id) if body.customer_id else None
    common: dict[str, Any] = {"name": body.name, "expires_at": body.expires_at}
    common |= {"actor": request.auth.actor, "now": request.now}
    if body.from_deal_id:
        deal = create_from(find_deal(body.from_deal_id), customer, **common)
    else:
        deal = create_deal(customer, _version(body), **common)
    if body.content:
        _save(request, deal, body.content, "")
    return WholeDealOut.whole(find_deal(deal.public_id))


def _version(body: DealIn) -> Any:
    if not body.plan_key:
        raise BadValue("plan_key", "Say which plan it starts from, or fromDealId.", "plan_missing")
    plan = find_plan(body.plan_key)
    if plan.kind != Plan.Kind.BILLED or plan.current_version is None:
        raise BadValue("plan_key", "A deal starts from a plan that is billed here and published.", "not_billed")
    return find_version(plan, body.version) if body.version else plan.current_version


def _save(request: ApiRequest, deal: Deal, content: DealContentIn, message: str) -> None:
    terms = read_content(deal, content)
    require_all(request.auth, terms)
    save_version(deal, terms, message=message, actor=request.auth.actor, now=request.now)


@endpoint(router, "GET", "/deals/{deal_id}", needs=VIEW, gives=WholeDealOut, refuses=[404])
def read_deal(request: ApiRequest, deal_id: Id) -> WholeDealOut:
    """Read a deal with what its newest version says."""
    return WholeDealOut.whole(find_deal(deal_id))


@endpoint(
    router, "PATCH", "/deals/{deal_id}", needs=CHANGE, gives=WholeDealOut, refuses=[404, 409], example={"name": "Acme"}
)
def change_deal(request: ApiRequest, deal_id: Id, body: DealChange) -> WholeDealOut:
    """Call a deal something else, or let the offer stand until another time; what is left out stays."""
    deal = find_deal(deal_id)
    said = {"name": deal.name, "expires_at": deal.expires_at} | body.model_dump(exclude_unset=True)
    name, expires_at = said["name"] or deal.name, said["expires_at"]
    rename(deal, name=name, expires_at=expires_at, actor=request.auth.actor, now=request.now)
    return WholeDealOut.whole(find_deal(deal_id))


@endpoint(
    router,
    "POST",
    "/deals/{deal_id}/versions",
    needs=CHANGE,
    gives=WholeDealOut,
    status=201,
    refuses=[404, 409],
    example={"content": CONTENT, "message": "A ramp over two years"},
)
def write_deal_version(request: ApiRequest, deal_id: Id, body: DealVersionIn) -> WholeDealOut:
    """Write another version. A deal that was approved, sent or accepted is a draft again."""
    _save(request, find_deal(deal_id), body.content, body.message)
    return WholeDealOut.whole(find_deal(deal_id))


@endpoint(router, "GET", "/deals/{deal_id}/calendar", needs=VIEW, gives=DealCalendarOut, refuses=[404])
def read_deal_calendar(request: ApiRequest, deal_id: Id) -> DealCalendarOut:
    """Read every invoice of the term at the assumed use, and what the deal is worth."""
    deal = find_deal(deal_id)
    return DealCalendarOut.of(calendar_for(deal, read_terms(newest(deal)), now=request.now))


@endpoint(
    router,
    "POST",
    "/deals/{deal_id}/preview",
    needs=VIEW,
    gives=DealCalendarOut,
    refuses=[404],
    example=CONTENT,
)
def preview_deal(request: ApiRequest, deal_id: Id, body: DealContentIn) -> DealCalendarOut:
    """See what another version would come to; nothing is saved."""
    deal = find_deal(deal_id)
    return DealCalendarOut.of(calendar_for(deal, read_content(deal, body), now=request.now))


@endpoint(
    router,
    "POST",
    "/deals/{deal_id}/submit",
    needs=CHANGE,
    gives=DealOut,
    refuses=[404, 409],
    example={"reason": "Big"},
)
def submit_deal(request: ApiRequest, deal_id: Id, body: DealReasonIn) -> DealOut:
    """Have the newest version approved.

    Where no rule asks for a second person it is `approved` at once; else it is `awaiting_approval`, and `approvalId`
    names the request.
    """
    submit(find_deal(deal_id), reason=body.reason, actor=request.auth.actor, now=request.now)
    return DealOut.of(find_deal(deal_id))


@endpoint(router, "POST", "/deals/{deal_id}/send", needs=SEND, gives=DealOut, refuses=[404, 409])
def send_deal(request: ApiRequest, deal_id: Id) -> DealOut:
    """Note that the order form went out; nothing is mailed."""
    send(find_deal(deal_id), actor=request.auth.actor, now=request.now)
    return DealOut.of(find_deal(deal_id))


@endpoint(
    router,
    "POST",
    "/deals/{deal_id}/accept",
    needs=SEND,
    gives=DealOut,
    refuses=[404, 409],
    example={"by": "Ada Lovelace", "how": "signed PDF"},
)
def accept_deal(request: ApiRequest, deal_id: Id, body: DealAcceptIn) -> DealOut:
    """Note who signed on the other side, and how."""
    accept(find_deal(deal_id), by=body.by, how=body.how, actor=request.auth.actor, now=request.now)
    return DealOut.of(find_deal(deal_id))


@endpoint(
    router,
    "POST",
    "/deals/{deal_id}/execute",
    needs=EXECUTE,
    gives=DealOut,
    also=ASKED,
    refuses=[404, 409],
    example={"reason": "signed"},
)
def execute_deal(request: ApiRequest, deal_id: Id, body: DealReasonIn) -> DealOut:
    """Carry out what was approved and accepted: one act, done once however often it is asked for."""
    deal = find_deal(deal_id)
    require_all(request.auth, read_terms(newest(deal)))
    execute(deal, reason=body.reason, actor=request.auth.actor, now=request.now)
    return DealOut.of(find_deal(deal_id))


@endpoint(
    router,
    "POST",
    "/deals/{deal_id}/void",
    needs=CHANGE,
    gives=DealOut,
    refuses=[404, 409],
    example={"reason": "went elsewhere"},
)
def void_deal(request: ApiRequest, deal_id: Id, body: DealReasonIn) -> DealOut:
    """Give a deal up; it stays to be read."""
    void(find_deal(deal_id), reason=body.reason, actor=request.auth.actor, now=request.now)
    return DealOut.of(find_deal(deal_id))


@endpoint(
    router,
    "POST",
    "/deals/{deal_id}/amend",
    needs=ADD,
    gives=WholeDealOut,
    status=201,
    refuses=[404, 409],
    example={"name": "Acme: more seats"},
)
def amend_deal(request: ApiRequest, deal_id: Id, body: DealChange) -> WholeDealOut:
    """Begin an amendment of an executed deal: a draft with the phases that are left."""
    deal = find_deal(deal_id)
    name = body.name or f"{deal.name}, amended"[:200]
    made = amend(deal, name=name, expires_at=body.expires_at, actor=request.auth.actor, now=request.now)
    return WholeDealOut.whole(find_deal(made.public_id))
