"""Balances of a customer, with the ledger behind each number; and an operator's edit of one."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self

from ninja import Query, Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer
from billing_admin.api.operations import OperationOut
from billing_admin.api.refusals import NotFound
from billing_admin.api.shapes import Answer, Body, Id, Instant, Quantity, Reason, Slug, Units
from billing_admin.api.usage import BucketOut
from billing_admin.flows.balances import Wanted, set_balance
from catalog.models import Feature
from customers.models import Customer
from entitlements.balances import Bucket, Standing
from entitlements.ledger import LedgerLine, ledger
from entitlements.models import Balance
from entitlements.pool import slug_of
from entitlements.readings import pool_at

router = Router(tags=["Balances"])


class BalanceEdit(Body):
    feature_slug: Slug
    balance: Units = Field(description="What is to be left; below zero: that much more is owed, or blocked.")
    reset_at: Instant | None = Field(None, description="Another end for this window; later ones run as planned.")
    expires_at: Instant | None = Field(
        default=None, description="Another end of a bonus or a purchase, named by `balanceId`."
    )
    balance_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(
        None, description="One bucket. Left out: the sum is set, by moving the plan's own."
    )
    interval: str | None = Field(None, max_length=20, description="The plan's bucket with this reset, when it has two.")
    reason: Reason


class LedgerLineOut(Answer):
    at: datetime
    kind: str
    title: str
    amount: Quantity | None = Field(description="What the line adds; use is negative. Null: no limit.")
    after: Quantity | None
    who: str
    why: str

    @classmethod
    def of(cls, line: LedgerLine) -> Self:
        return cls(
            at=line.at,
            kind=line.kind,
            title=line.title,
            amount=line.amount,
            after=line.after,
            who=line.who,
            why=line.why,
        )


class BalanceOut(BucketOut):
    feature_slug: str
    plan: str = Field(description="Whose allowance it is; empty: a bonus or a purchase.")
    is_default: bool
    resets: str
    next_granted: Quantity | None = Field(description="What the next window starts with; null: no limit.")
    ledger: list[LedgerLineOut] | None = None

    @classmethod
    def in_standing(cls, standing: Standing, lines: list[LedgerLine] | None) -> Self:
        bucket, contract = standing.bucket, standing.contribution.contract
        assert bucket.item.feature is not None
        return cls(
            **BucketOut.of(bucket).model_dump(),
            feature_slug=bucket.item.feature.slug,
            plan=contract.plan_name,
            is_default=contract.is_default,
            resets=bucket.item.reset,
            next_granted=standing.contribution.granted,
            ledger=None if lines is None else [LedgerLineOut.of(line) for line in lines],
        )

    @classmethod
    def beside_plans(cls, bucket: Bucket, lines: list[LedgerLine] | None) -> Self:
        """A bonus, a purchase, a rollover or what an override adds: no plan promises it."""
        assert bucket.item.feature is not None
        return cls(
            **BucketOut.of(bucket).model_dump(),
            feature_slug=bucket.item.feature.slug,
            plan="",
            is_default=False,
            resets=bucket.item.reset,
            next_granted=bucket.grant.units if bucket.grant and bucket.grant.recurs else Decimal(0),
            ledger=None if lines is None else [LedgerLineOut.of(line) for line in lines],
        )


class BalancesOut(Answer):
    data: list[BalanceOut]


class EditedOut(Answer):
    operation: OperationOut
    data: list[BalanceOut] = Field(description="The balances of the feature as they are now.")


@endpoint(
    router,
    "GET",
    "/customers/{customer_id}/balances",
    needs="entitlements.view_balance",
    gives=BalancesOut,
    refuses=[404],
)
def list_balances(
    request: ApiRequest,
    customer_id: Id,
    feature_slug: Annotated[str | None, Query(alias="featureSlug", max_length=60)] = None,
    ledger: bool = False,
) -> BalancesOut:
    """The open balances of a customer.

    `ledger=true` adds the lines behind each number: grants, edits with who and why, use per day. Their sum is what is
    left.
    """
    customer = find_customer(customer_id)
    return BalancesOut(data=_balances(customer, request.now, feature_slug, with_ledger=ledger))


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/balances",
    needs="entitlements.change_balance",
    gives=EditedOut,
    also=ASKED,
    refuses=[404],
    example={"featureSlug": "credits", "balance": 500, "reason": "goodwill after the outage"},
)
def edit_balance(request: ApiRequest, customer_id: Id, body: BalanceEdit) -> EditedOut:
    """Set what is left until the window ends; then the plan's own allowance comes back by itself."""
    customer = find_customer(customer_id)
    if not Feature.objects.filter(slug=body.feature_slug).exists():
        raise NotFound("feature", body.feature_slug)
    wanted = Wanted(
        body.feature_slug,
        body.balance,
        balance_id=body.balance_id,
        interval=body.interval,
        total=body.balance_id is None,
        reset_at=body.reset_at,
        expires_at=body.expires_at,
    )
    operation, _ = set_balance(customer, wanted, reason=body.reason, actor=request.auth.actor, now=request.now)
    return EditedOut(
        operation=OperationOut.of(operation),
        data=_balances(customer, request.now, body.feature_slug, with_ledger=False),
    )


def _balances(customer: Customer, now: datetime, slug: str | None, *, with_ledger: bool) -> list[BalanceOut]:
    there = pool_at(customer, now, slug)
    found, own = there.standings, [beside.bucket for beside in there.beside if slug in (None, slug_of(beside.bucket))]
    ids = [bucket.id for bucket in there.buckets if bucket.id is not None]
    rows = Balance.objects.in_bulk(ids) if with_ledger else {}
    lines = {pk: ledger(row) for pk, row in rows.items()}
    told = [BalanceOut.in_standing(s, lines.get(s.bucket.id or 0, []) if with_ledger else None) for s in found]
    return told + [BalanceOut.beside_plans(b, lines.get(b.id or 0, []) if with_ledger else None) for b in own]
