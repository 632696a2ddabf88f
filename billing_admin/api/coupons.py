"""Coupons that are given out, those of a customer, and money that comes off a customer's invoices."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from django.db.models import Count, QuerySet
from ninja import Query, Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer, find_plan
from billing_admin.api.operations import OperationOut
from billing_admin.api.refusals import BadValue, NotFound
from billing_admin.api.shapes import Answer, Body, Id, Instant, MinorUnits, Money, Page, Quantity, Reason, Slug, Units
from billing_admin.flows import coupon_book
from billing_admin.flows.coupons import Begins
from billing_admin.flows.rewards import (
    NextInvoices,
    apply_coupon,
    give_invoice_credit,
    preview_coupon,
    remove,
    void_invoice_credit,
)
from billing_admin.reward_rows import CreditRow, RewardRow, credit_rows, reward_rows
from catalog.coupons import CouponDraft, draft_of, gives, lasts
from catalog.models import Coupon, Feature, PromoCode
from customers.models import AppliedCoupon, Customer, Subscription
from invoicing.models import InvoiceCredit
from invoicing.rewards import DISCOUNTS

router = Router(tags=["Coupons"])

VIEW = "catalog.view_coupon"
APPLY = "customers.apply_coupon"

Times = Annotated[int, Field(ge=1, le=2**31 - 1)]
Few = Annotated[int, Field(ge=1, le=32_767)]
Key = Annotated[str, Field(min_length=1, max_length=60)]


class PromoCodeIn(Body):
    code: str = Field(max_length=40, examples=["LAUNCH20"])
    max_redemptions: Times | None = None
    expires_at: Instant | None = None
    first_time_only: bool = False


class PromoCodeChange(Body):
    active: bool


class PromoCodeOut(Answer):
    code: str
    coupon_code: str
    active: bool
    redemptions: int
    max_redemptions: int | None
    expires_at: datetime | None
    first_time_only: bool

    @classmethod
    def of(cls, promo: PromoCode, redemptions: int) -> Self:
        return cls(
            code=promo.code,
            coupon_code=promo.coupon.code,
            active=promo.is_active,
            redemptions=redemptions,
            max_redemptions=promo.max_redemptions,
            expires_at=promo.expires_at,
            first_time_only=promo.first_time_only,
        )


class CouponIn(Body):
    name: str = Field(max_length=120, description="Customers read it on their invoices.")
    code: str = Field("", max_length=60, description="Left out: made from the name.")
    kind: Literal["percent", "fixed", "invoice_credit", "free_product", "feature_grant"]
    percent: Annotated[Decimal, Field(max_digits=20)] | None = None
    amount: MinorUnits | None = Field(None, description="Minor units; `fixed` and `invoice_credit`.")
    currency: str = Field("", max_length=3)
    duration: Literal["once", "repeating", "forever", ""] = Field("", description="`percent` and `fixed`.")
    periods: Few | None = Field(None, description="How many billing periods `repeating` lasts.")
    plan_keys: list[Key] = Field(default_factory=list, max_length=100, description="Empty: every plan.")
    item_keys: list[Key] = Field(default_factory=list, max_length=100, description="Empty: every item.")
    first_time_only: bool = False
    max_redemptions: Times | None = None
    redeem_by: Instant | None = None
    free_plan_key: Key | None = Field(None, description="`free_product`: an assigned plan.")
    feature_slug: Slug | None = Field(None, description="`feature_grant`: a metered feature.")
    units: Units | None = None
    lasts_days: Times | None = Field(None, description="How long what is given at once lasts; null: without end.")

    def draft(self) -> CouponDraft:
        said = self.model_dump(exclude={"plan_keys", "free_plan_key", "feature_slug", "item_keys"})
        return CouponDraft(
            **said,
            item_keys=tuple(self.item_keys),
            plans=tuple(find_plan(key) for key in self.plan_keys),
            free_plan=find_plan(self.free_plan_key) if self.free_plan_key else None,
            feature=_feature(self.feature_slug) if self.feature_slug else None,
        )


class CouponChange(Body):
    """What is left out stays. What a coupon gives is fixed; make another one."""

    name: str | None = Field(None, max_length=120)
    first_time_only: bool | None = None
    max_redemptions: Times | None = None
    redeem_by: Instant | None = None
    archived: bool | None = None


class CouponOut(Answer):
    code: str = Field(examples=["launch-20"])
    name: str
    kind: str
    gives: str = Field(examples=["20 % off"])
    lasts: str = Field(examples=["3 billing periods"])
    percent: Quantity | None
    amount: Money | None
    duration: str | None
    periods: int | None
    plan_keys: list[str]
    item_keys: list[str]
    first_time_only: bool
    redemptions: int
    max_redemptions: int | None
    redeem_by: datetime | None
    free_plan_key: str | None
    feature_slug: str | None
    units: Quantity | None
    lasts_days: int | None
    archived_at: datetime | None
    promo_codes: list[PromoCodeOut]

    @classmethod
    def of(cls, coupon: Coupon) -> Self:
        same = ("code", "name", "kind", "percent", "periods", "item_keys", "first_time_only", "max_redemptions")
        more = ("redeem_by", "units", "lasts_days", "archived_at")
        return cls(
            **{name: getattr(coupon, name) for name in (*same, *more)},
            gives=gives(coupon),
            lasts=lasts(coupon),
            amount=None if coupon.amount is None else Money.of(coupon.amount, coupon.currency),
            duration=coupon.duration if draft_of(coupon).duration else None,
            plan_keys=[plan.key for plan in coupon.plans.all()],
            redemptions=coupon.times,  # type: ignore[attr-defined]  # counted by `_coupons`
            free_plan_key=coupon.free_plan.key if coupon.free_plan else None,
            feature_slug=coupon.feature.slug if coupon.feature else None,
            promo_codes=[PromoCodeOut.of(promo, len(promo.applied.all())) for promo in coupon.promo_codes.all()],
        )


class CouponsOut(Page):
    data: list[CouponOut]


class ApplyIn(Body):
    code: Id = Field(description="A coupon's code, or one of its promo codes.")
    subscription_id: Id | None = Field(None, description="One contract only; left out: all of them.")
    at: Literal["next_invoice", "enable"] = Field(
        "next_invoice", description="From the next invoice, or with the next plan that is enabled."
    )
    reason: Reason = ""


class CouponPreviewIn(Body):
    code: Id
    subscription_id: Id | None = None
    at: Literal["next_invoice", "enable"] = "next_invoice"


class AppliedOut(Answer):
    id: str = Field(examples=["dis_7bQ2mZ8TqVbNc1R4"])
    code: str
    promo_code: str | None
    name: str
    kind: str
    gives: str
    left: str = Field(description="What is left of it, for people.", examples=["2 invoices left"])
    periods_left: int | None = Field(description="Billing periods to come; null: for ever, or not a discount.")
    waits: bool = Field(description="Begins with the next plan that is enabled.")
    used_up: bool
    subscription_id: str | None
    applied_at: datetime
    applied_by: str
    reason: str
    ends_at: datetime | None
    removed_at: datetime | None

    @classmethod
    def of(cls, row: RewardRow) -> Self:
        applied, coupon = row.applied, row.applied.coupon
        return cls(
            id=applied.public_id,
            code=coupon.code,
            promo_code=applied.promo_code.code if applied.promo_code else None,
            name=coupon.name,
            kind=coupon.kind,
            gives=row.gives,
            left=row.left,
            periods_left=row.periods_left if coupon.kind in DISCOUNTS else None,
            waits=applied.waits,
            used_up=row.is_spent,
            subscription_id=applied.subscription.public_id if applied.subscription else None,
            applied_at=applied.applied_at,
            applied_by=applied.applied_by,
            reason=applied.reason,
            ends_at=applied.ends_at,
            removed_at=applied.removed_at,
        )


class AppliedListOut(Answer):
    data: list[AppliedOut]


class InvoiceWithCouponOut(Answer):
    subscription_id: str
    at: datetime
    plan: str
    estimated: bool = Field(description="Use may still be added.")
    without: Money
    with_coupon: Money

    @classmethod
    def of(cls, found: NextInvoices) -> Self:
        currency = found.without.currency
        return cls(
            subscription_id=found.subscription.public_id,
            at=found.at,
            plan=found.without.plan_name,
            estimated=found.without.is_estimated,
            without=Money.of(found.without.total, currency),
            with_coupon=Money.of(found.with_coupon.total, currency),
        )


class CouponPreviewOut(Answer):
    next_invoices: list[InvoiceWithCouponOut]


class InvoiceCreditIn(Body):
    amount: Annotated[MinorUnits, Field(ge=1)] = Field(description="Minor units.")
    currency: str = Field(min_length=3, max_length=3)
    label: str = Field(max_length=120, pattern=r"\S", description="Customers read it on their invoices.")
    expires_at: Instant | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] = Field(0, description="The lowest is taken first.")
    reason: Reason


class VoidCreditIn(Body):
    reason: Reason


class InvoiceCreditOut(Answer):
    id: str = Field(examples=["icr_7bQ2mZ8TqVbNc1R4"])
    label: str
    amount: Money
    left: Money
    priority: int
    expires_at: datetime | None
    created_at: datetime
    created_by: str
    voided_at: datetime | None

    @classmethod
    def of(cls, row: CreditRow) -> Self:
        credit = row.credit
        return cls(
            id=credit.public_id,
            label=credit.label,
            amount=Money.of(credit.amount, credit.currency),
            left=Money.of(0 if credit.voided_at else row.left, credit.currency),
            priority=credit.priority,
            expires_at=credit.expires_at,
            created_at=credit.created_at,
            created_by=credit.created_by,
            voided_at=credit.voided_at,
        )


class InvoiceCreditsOut(Answer):
    data: list[InvoiceCreditOut]


# The coupons we give out --------------------------------------------------------------------------------------------


@endpoint(router, "GET", "/coupons", needs=VIEW, gives=CouponsOut)
def list_coupons(
    request: ApiRequest,
    archived: bool = False,
    cursor: Annotated[str | None, Query(max_length=60)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> CouponsOut:
    """The coupons that are given out, the newest first; `archived=true` adds those that no longer are."""
    rows = _coupons() if archived else _coupons().filter(archived_at=None)
    if cursor is not None:
        last = Coupon.objects.filter(code=cursor).values_list("pk", flat=True).first()
        if last is None:
            raise BadValue("cursor", "This is not a cursor of this list.", "bad_cursor")
        rows = rows.filter(pk__lt=last)
    found = list(rows.order_by("-pk")[: limit + 1])
    following = found[limit - 1].code if len(found) > limit else None
    return CouponsOut(data=[CouponOut.of(coupon) for coupon in found[:limit]], next_cursor=following)


@endpoint(
    router,
    "POST",
    "/coupons",
    needs="catalog.add_coupon",
    gives=CouponOut,
    status=201,
    refuses=[404],
    example={"name": "Launch", "kind": "percent", "percent": "20", "duration": "repeating", "periods": 3},
)
def create_coupon(request: ApiRequest, body: CouponIn) -> CouponOut:
    """Make a coupon. Fields that do not go with its kind are refused."""
    coupon = coupon_book.make_coupon(body.draft(), actor=request.auth.actor, now=request.now)
    return CouponOut.of(_coupon(coupon.code))


@endpoint(router, "GET", "/coupons/{code}", needs=VIEW, gives=CouponOut, refuses=[404])
def read_coupon(request: ApiRequest, code: Key) -> CouponOut:
    """Read a coupon with its promo codes and how often it was redeemed."""
    return CouponOut.of(_coupon(code))


@endpoint(
    router,
    "PATCH",
    "/coupons/{code}",
    needs="catalog.change_coupon",
    gives=CouponOut,
    refuses=[404],
    example={"name": "Launch 20 %", "maxRedemptions": 100},
)
def change_coupon(request: ApiRequest, code: Key, body: CouponChange) -> CouponOut:
    """Change the name or the limits of a coupon, archive it or give it out again."""
    coupon, actor, now = _coupon(code), request.auth.actor, request.now
    said: dict[str, Any] = body.model_dump(exclude_unset=True)
    archived = said.pop("archived", None)
    present = draft_of(coupon)
    values = {name: getattr(present, name) for name in CouponDraft.__dataclass_fields__}
    coupon_book.edit_coupon(coupon, CouponDraft(**values | _without_null(said)), actor=actor, now=now)
    if archived is not None:
        turn = coupon_book.archive_coupon if archived else coupon_book.restore_coupon
        turn(_coupon(code), actor=actor, now=now)
    return CouponOut.of(_coupon(code))


@endpoint(
    router,
    "POST",
    "/coupons/{code}/promo-codes",
    needs="catalog.change_coupon",
    gives=PromoCodeOut,
    status=201,
    refuses=[404],
    example={"code": "LAUNCH20", "maxRedemptions": 100},
)
def add_promo_code(request: ApiRequest, code: Key, body: PromoCodeIn) -> PromoCodeOut:
    """Add a word that customers type to get the coupon. Upper and lower case are the same."""
    said = body.model_dump()
    promo = coupon_book.make_promo_code(_coupon(code), **said, actor=request.auth.actor, now=request.now)
    return PromoCodeOut.of(promo, 0)


@endpoint(
    router,
    "PATCH",
    "/promo-codes/{code}",
    needs="catalog.change_coupon",
    gives=PromoCodeOut,
    refuses=[404],
    example={"active": False},
)
def change_promo_code(request: ApiRequest, code: Key, body: PromoCodeChange) -> PromoCodeOut:
    """Switch a promo code off, or on again."""
    promo = PromoCode.objects.select_related("coupon").filter(code=code.upper()).first()
    if promo is None:
        raise NotFound("promo_code", code)
    coupon_book.turn_promo_code(promo, on=body.active, actor=request.auth.actor, now=request.now)
    return PromoCodeOut.of(promo, promo.applied.count())


# Of a customer ------------------------------------------------------------------------------------------------------


@endpoint(router, "GET", "/customers/{customer_id}/coupons", needs=VIEW, gives=AppliedListOut, refuses=[404])
def list_applied_coupons(request: ApiRequest, customer_id: Id, ended: bool = False) -> AppliedListOut:
    """The coupons of a customer with what is left of each; `ended=true` adds those that ended or were removed."""
    customer = find_customer(customer_id)
    rows = AppliedCoupon.objects.filter(customer=customer)
    found = reward_rows(rows if ended else AppliedCoupon.objects.kept(request.now).filter(customer=customer))
    return AppliedListOut(data=[AppliedOut.of(row) for row in found if ended or not row.is_spent])


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/coupons",
    needs=APPLY,
    gives=AppliedOut,
    status=201,
    also=ASKED,
    refuses=[404, 409],
    example={"code": "LAUNCH20", "at": "next_invoice"},
)
def apply_to_customer(request: ApiRequest, customer_id: Id, body: ApplyIn) -> AppliedOut:
    """Give a customer a coupon.

    A discount counts from the next invoice or with the next plan that is enabled; money, units and products are given
    at once. Each refusal has a code of its own: `coupon_expired`, `coupon_not_active`, `coupon_not_for_plan`,
    `coupon_for_first_time`, `coupon_used_up`, `coupon_applied_already`, `coupon_in_other_currency`.
    """
    customer = find_customer(customer_id)
    applied = apply_coupon(
        customer,
        body.code,
        subscription=_contract(customer, body.subscription_id),
        at=Begins(body.at),
        reason=body.reason,
        actor=request.auth.actor,
        now=request.now,
    )
    return _applied(applied)


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/coupons/preview",
    needs=APPLY,
    gives=CouponPreviewOut,
    refuses=[404, 409],
    example={"code": "spring"},
)
def preview_for_customer(request: ApiRequest, customer_id: Id, body: CouponPreviewIn) -> CouponPreviewOut:
    """The next invoice of each contract, without and with a coupon. Refuses what applying would refuse."""
    customer = find_customer(customer_id)
    contract = _contract(customer, body.subscription_id)
    found = preview_coupon(customer, body.code, subscription=contract, at=Begins(body.at), now=request.now)
    return CouponPreviewOut(next_invoices=[InvoiceWithCouponOut.of(one) for one in found])


@endpoint(
    router,
    "DELETE",
    "/customers/{customer_id}/coupons/{applied_id}",
    needs=APPLY,
    gives=AppliedOut,
    refuses=[404, 409],
)
def remove_from_customer(
    request: ApiRequest, customer_id: Id, applied_id: Id, reason: Annotated[str, Query(max_length=500)] = ""
) -> AppliedOut:
    """Take a coupon off a customer. Invoices that had it keep it; of money and units the rest is gone."""
    applied = AppliedCoupon.objects.filter(customer=find_customer(customer_id), public_id=applied_id).first()
    if applied is None:
        raise NotFound("applied_coupon", applied_id)
    remove(applied, reason=reason, actor=request.auth.actor, now=request.now)
    return _applied(applied)


# Invoice credits ----------------------------------------------------------------------------------------------------


@endpoint(
    router,
    "GET",
    "/customers/{customer_id}/invoice-credits",
    needs="invoicing.view_invoicecredit",
    gives=InvoiceCreditsOut,
    refuses=[404],
)
def list_invoice_credits(request: ApiRequest, customer_id: Id) -> InvoiceCreditsOut:
    """Money that comes off a customer's invoices before tax: what was given, and what is left of it."""
    credits = InvoiceCredit.objects.filter(customer=find_customer(customer_id)).order_by("-id")
    return InvoiceCreditsOut(data=[InvoiceCreditOut.of(row) for row in credit_rows(credits)])


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/invoice-credits",
    needs="invoicing.add_invoicecredit",
    gives=InvoiceCreditOut,
    status=201,
    also=ASKED,
    refuses=[404, 409],
    example={"amount": 5000, "currency": "USD", "label": "Goodwill", "reason": "outage on 3 March"},
)
def create_invoice_credit(request: ApiRequest, customer_id: Id, body: InvoiceCreditIn) -> InvoiceCreditOut:
    """Give money that comes off the next invoices before tax until it is used up."""
    customer = find_customer(customer_id)
    credit = give_invoice_credit(customer, **body.model_dump(), actor=request.auth.actor, now=request.now)
    return InvoiceCreditOut.of(CreditRow(credit, 0))


class VoidedCreditOut(Answer):
    operation: OperationOut
    credit: InvoiceCreditOut


@endpoint(
    router,
    "POST",
    "/invoice-credits/{credit_id}/void",
    needs="invoicing.change_invoicecredit",
    gives=VoidedCreditOut,
    refuses=[404, 409],
    example={"reason": "given to the wrong customer"},
)
def void_credit(request: ApiRequest, credit_id: Id, body: VoidCreditIn) -> VoidedCreditOut:
    """Take back what is left of an invoice credit. Invoices that had some of it keep it."""
    credit = InvoiceCredit.objects.select_related("customer").filter(public_id=credit_id).first()
    if credit is None:
        raise NotFound("invoice_credit", credit_id)
    operation = void_invoice_credit(credit, reason=body.reason, actor=request.auth.actor, now=request.now)
    credit.refresh_from_db()
    return VoidedCreditOut(operation=OperationOut.of(operation), credit=InvoiceCreditOut.of(credit_rows([credit])[0]))


# Finding ------------------------------------------------------------------------------------------------------------


def _coupons() -> "QuerySet[Coupon]":
    rows: QuerySet[Coupon] = Coupon.objects.select_related("free_plan__product", "feature").annotate(
        times=Count("applied", distinct=True)
    )
    return rows.prefetch_related("plans", "promo_codes__applied", "promo_codes__coupon")


def _coupon(code: str) -> Coupon:
    found = _coupons().filter(code=code).first()
    if found is None:
        raise NotFound("coupon", code)
    return found


def _feature(slug: str) -> Feature:
    found = Feature.objects.filter(slug=slug).first()
    if found is None:
        raise NotFound("feature", slug)
    return found


def _contract(customer: Customer, public_id: str | None) -> Subscription | None:
    if public_id is None:
        return None
    found: Subscription | None = customer.subscriptions.filter(public_id=public_id).first()
    if found is None:
        raise NotFound("subscription", public_id)
    return found


def _applied(applied: AppliedCoupon) -> AppliedOut:
    [row] = reward_rows(AppliedCoupon.objects.filter(pk=applied.pk))
    return AppliedOut.of(row)


def _without_null(said: dict[str, Any]) -> dict[str, Any]:
    """A name, or whom it is for, cannot be emptied; limits can."""
    return {
        name: value for name, value in said.items() if value is not None or name in ("max_redemptions", "redeem_by")
    }
