"""The path to an answer, step by step, as callers read it."""

from datetime import datetime
from decimal import Decimal
from typing import Self

from pydantic import Field

from billing_admin.api.shapes import Answer, Quantity
from billing_admin.flows.explain import Rows, rows_behind
from customers.contracts import Contract
from entitlements.access import LIMIT_REACHED
from entitlements.explain import Applied, Beyond, Contributor, Decider, Explanation, Given, Limit, Merge, Rule


class HeldPlanOut(Answer):
    """A plan in force. The default product has no subscription."""

    plan_key: str
    plan_name: str
    version: str = Field(examples=["v3"])
    subscription_id: str | None
    is_default: bool
    is_custom: bool
    add_on: bool
    since: datetime = Field(description="Since when this version is in force.")

    @classmethod
    def fields(cls, contract: Contract, rows: Rows) -> dict[str, object]:
        version, subscription = rows.version(contract), rows.subscription(contract.subscription_id)
        return {
            "plan_key": version.plan.key if version else "",
            "plan_name": contract.plan_name,
            "version": version.label if version else "",
            "subscription_id": subscription.public_id if subscription else None,
            "is_default": contract.is_default,
            "is_custom": contract.is_custom,
            "add_on": contract.add_on,
            "since": contract.phase_starts_at,
        }

    @classmethod
    def of(cls, contract: Contract, rows: Rows) -> Self:
        return cls.model_validate(cls.fields(contract, rows))


class ContributorOut(HeldPlanOut):
    """A plan that mentions the feature."""

    item_key: str
    quantity: int = Field(description="What multiplies the allowance.")
    promises: str = Field(examples=["2 × 100 = 200"])
    units: Quantity | None = Field(description="Of one window; null: without a limit, or not metered.")
    overridden_by: str | None = Field(description="The override that says something else for this subscription.")

    @classmethod
    def told(cls, found: Contributor, rows: Rows) -> Self:
        override = found.override
        own = {
            "item_key": found.item.key,
            "quantity": found.times,
            "promises": found.promises,
            "units": found.units,
            "overridden_by": override.public_id if override else None,
        }
        return cls.model_validate(cls.fields(found.contract, rows) | own)


class OverrideStep(Answer):
    """An override in force: what it says instead of what, and what that did."""

    id: str
    level: str = Field(description="`subscription`, or `customer`, which is applied last.")
    subscription_id: str | None
    says: str = Field(examples=["50,000"])
    instead_of: str = Field(examples=["10,000"])
    adds: Quantity | None = Field(description="Units of its own bucket; null: without a limit.")
    takes: Quantity = Field(description="Units that it withholds from what the plans give.")
    is_outvoted: bool = Field(description="The customer's override decides instead.")
    effective_from: datetime
    effective_until: datetime | None = Field(description="Null: permanent.")
    reason: str

    @classmethod
    def of(cls, applied: Applied, rows: Rows) -> Self:
        override = applied.override
        subscription = rows.subscription(override.subscription_id)
        return cls(
            id=override.public_id,
            level="customer" if override.is_of_customer else "subscription",
            subscription_id=subscription.public_id if subscription else None,
            says=override.describe(),
            instead_of=applied.instead_of,
            adds=applied.adds,
            takes=applied.takes,
            is_outvoted=applied.is_outvoted,
            effective_from=override.starts_at,
            effective_until=override.ends_at,
            reason=override.reason,
        )


class MergeStep(Answer):
    """How what the sources say becomes one answer."""

    rule: Rule = Field(
        description="`any` switch that is on; the `largest` number; the `first` text; the `sum` of the buckets; "
        "`unlimited` absorbs; an `override` replaces; `none` says anything."
    )
    parts: list[str]
    result: str
    conflicts: bool

    @classmethod
    def of(cls, merge: Merge) -> Self:
        return cls(rule=merge.rule, parts=list(merge.parts), result=merge.result, conflicts=merge.conflicts)


class BucketStep(Answer):
    """One balance, in burn order, and what it would give of the units asked for."""

    id: int | None = Field(description="Null while nothing has been written to it.")
    kind: str = Field(description="`plan`, `bonus`, `purchase`, `rollover` or `override`.")
    name: str
    starts_at: datetime
    ends_at: datetime | None
    granted: Quantity | None = Field(description="Null: without a limit.")
    adjusted: Quantity = Field(description="Added or taken since, what an override withholds included.")
    withheld: Quantity
    used: Quantity
    left: Quantity | None = Field(description="Below zero when more was used; null: without a limit.")
    gives: Quantity = Field(description="Of the units asked for, from what is left.")
    gives_beyond: Quantity = Field(description="Of the units asked for, beyond what is left.")
    closed_by: str | None = Field(description="The override that lets nobody use it.")

    @classmethod
    def of(cls, given: Given) -> Self:
        bucket = given.bucket
        return cls(
            id=bucket.id,
            kind=bucket.kind.value,
            name=given.name,
            starts_at=bucket.starts_at,
            ends_at=bucket.ends_at,
            granted=bucket.granted,
            adjusted=bucket.adjusted,
            withheld=bucket.withheld,
            used=bucket.used,
            left=bucket.left,
            gives=given.units,
            gives_beyond=given.beyond,
            closed_by=given.closed_by.public_id if given.closed_by else None,
        )


class BeyondStep(Answer):
    """What happens to use that fits in no balance."""

    limit: Limit = Field(description="`hard`: refused; `soft`: only counted; `priced`: charged.")
    name: str = Field(description="The plan that takes it.")
    most: Quantity | None = Field(description="Units that may still go beyond; null: no cap.")
    is_capped: bool
    units: Quantity = Field(description="Of the units asked for, so many go beyond.")

    @classmethod
    def of(cls, beyond: Beyond) -> Self:
        return cls(
            limit=beyond.limit, name=beyond.name, most=beyond.most, is_capped=beyond.is_capped, units=beyond.units
        )


class Denied(Answer):
    """Which limit it was, how much of it is used, and when it resets. `upgradeTo` says what would allow it."""

    limit: Quantity | None
    used: Quantity
    remaining: Quantity | None
    missing: Quantity
    resets_at: datetime | None

    @classmethod
    def of(cls, found: Explanation) -> Self | None:
        access = found.access
        if access.reason != LIMIT_REACHED:
            return None
        return cls(
            limit=access.limit,
            used=access.used,
            remaining=access.remaining,
            missing=found.missing,
            resets_at=access.next_reset_at,
        )


class ExplanationOut(Answer):
    """The steps in their order: who contributes, overrides, the merge, balances in burn order, what lies beyond."""

    at: datetime = Field(description="The instant that was asked about.")
    decided_by: Decider = Field(description="The step that settled the answer.")
    sentence: str = Field(examples=["5 asked for, 2 left, and the limit is hard. It resets on 1 Apr 2026."])
    contributors: list[ContributorOut]
    without: list[HeldPlanOut] = Field(description="Plans in force that do not mention the feature.")
    default_product: bool = Field(description="The default product answers, because there is no subscription.")
    overrides: list[OverrideStep] = Field(description="Those of subscriptions first, that of the customer last.")
    merge: MergeStep
    buckets: list[BucketStep]
    beyond: BeyondStep | None
    missing: Quantity = Field(description="Units asked for that nothing would give.")
    denied: Denied | None

    @classmethod
    def of(cls, found: Explanation) -> Self:
        rows = rows_behind(found)
        return cls(
            at=found.at,
            decided_by=found.decided_by,
            sentence=found.sentence,
            contributors=[ContributorOut.told(c, rows) for c in found.contributors],
            without=[HeldPlanOut.of(contract, rows) for contract in found.silent],
            default_product=found.is_default,
            overrides=[OverrideStep.of(applied, rows) for applied in found.overrides],
            merge=MergeStep.of(found.merge),
            buckets=[BucketStep.of(given) for given in found.buckets],
            beyond=BeyondStep.of(found.beyond) if found.beyond else None,
            missing=max(Decimal(0), found.missing),
            denied=Denied.of(found),
        )
