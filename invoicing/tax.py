"""Verbs: the tax rates of the account, who has which, and who has none."""

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from catalog.models import Plan
from catalog.money import plain
from customers.journal import Actor, record, require_reason
from customers.models import Customer
from invoicing.models import TaxAssignment, TaxExemption, TaxRate

PLACES = 4
MOST_RATES = 5


class BadRate(ValidationError):
    """A rate that cannot be used, beside its field."""

    def __init__(self, field: str, why: str, code: str = "bad_tax_rate"):
        self.field = field
        super().__init__(why, code=code)


@transaction.atomic
def create_rate(
    *,
    name: str,
    percent: Decimal,
    inclusive: bool = False,
    region: str = "",
    is_default: bool = False,
    actor: Actor,
    now: datetime,
) -> TaxRate:
    """A new named rate. Raises `BadRate`; the same rate twice would only confuse, so it is refused."""
    name, region = name.strip(), region.strip()
    if not name or len(name) > 60:
        raise BadRate("name", "Give the rate the name that customers read, up to 60 letters.")
    if len(region) > 60:
        raise BadRate("region", "A region has up to 60 letters.")
    if not percent.is_finite() or not 0 <= percent <= 100 or percent != round(percent, PLACES):
        raise BadRate("percent", f"A rate is 0 to 100 percent, with at most {PLACES} digits after the point.")
    same = TaxRate.objects.filter(name=name, percent=percent, inclusive=inclusive, region=region, archived_at=None)
    if same.exists():
        raise BadRate("name", f"There is a rate {name} {plain(percent)} % already.", "tax_rate_exists")
    rate = TaxRate.objects.create(name=name, percent=percent, inclusive=inclusive, region=region, is_default=is_default)
    effects = {"id": rate.pk, "percent": plain(percent), "inclusive": inclusive, "default": is_default}
    record(None, "tax_rate.created", f"Created the tax rate {words(rate)}", actor=actor, now=now, effects=effects)
    return rate


@transaction.atomic
def set_default(rate: TaxRate, *, is_default: bool, actor: Actor, now: datetime) -> TaxRate:
    """Let a rate apply to whoever has none of their own, or no longer. Issued documents stay as they are."""
    rate = _live(rate)
    if rate.is_default != is_default:
        rate.is_default = is_default
        rate.save(update_fields=["is_default"])
        summary = (
            f"{words(rate)} {'applies' if is_default else 'no longer applies'} to whoever has no rate of their own"
        )
        inputs = {"id": rate.pk, "default": is_default}
        record(None, "tax_rate.default_changed", summary, actor=actor, now=now, inputs=inputs)
    return rate


@transaction.atomic
def archive_rate(rate: TaxRate, *, reason: str, actor: Actor, now: datetime) -> TaxRate:
    """Take a rate out of use: documents from now on go without it. Archiving twice changes nothing."""
    reason = require_reason(reason, "archiving a tax rate")
    rate = TaxRate.objects.select_for_update().get(pk=rate.pk)
    if rate.archived_at is None:
        rate.archived_at, rate.is_default = now, False
        rate.save(update_fields=["archived_at", "is_default"])
        effects = {"id": rate.pk, "assignments": rate.assignments.count()}
        summary = f"Archived the tax rate {words(rate)}"
        record(None, "tax_rate.archived", summary, actor=actor, now=now, reason=reason, effects=effects)
    return rate


@transaction.atomic
def tax_customer(
    customer: Customer, rates: Collection[TaxRate], *, exempt_because: str | None = None, actor: Actor, now: datetime
) -> Customer:
    """Give a customer these rates of their own and no others; none of their own is the plan's, else the account's.

    `exempt_because` is the reason that an auditor will ask for: with it no tax is asked for at all, until it is
    taken back (None). It has to be said: an empty reason raises `ReasonRequired`.
    """
    if exempt_because is not None:
        exempt_because = require_reason(exempt_because, "an exemption from tax")
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    before, exempt_before = _assigned(customer=customer), _exemption(customer)
    _assign(rates, customer=customer)
    because_before = exempt_before.reason if exempt_before else None
    if exempt_because != because_before:
        if exempt_before:
            exempt_before.ended_at = now
            exempt_before.save(update_fields=["ended_at"])
        if exempt_because is not None:
            TaxExemption.objects.create(customer=customer, reason=exempt_because, created_by=actor.name, created_at=now)
    after = _assigned(customer=customer)
    if (before, because_before) != (after, exempt_because):
        record(
            customer,
            "taxes.changed",
            _summary(after, exempt_because),
            actor=actor,
            now=now,
            reason=exempt_because or "",
            inputs={"from": _named(before), "to": _named(after), "exempt": exempt_because is not None},
            effects=_assignment(before, after) | {"exemptBefore": because_before, "exemptAfter": exempt_because},
        )
    return customer


@transaction.atomic
def tax_plan(plan: Plan, rates: Collection[TaxRate], *, actor: Actor, now: datetime) -> Plan:
    """Give a plan these rates and no others, for whoever has none of their own."""
    plan = Plan.objects.select_for_update().get(pk=plan.pk)
    before = _assigned(plan=plan)
    _assign(rates, plan=plan)
    after = _assigned(plan=plan)
    if before != after:
        names = ", ".join(_named(after)) or "the account's rates"
        record(
            None,
            "plan.taxes_changed",
            f"{plan.name} is taxed with {names}",
            actor=actor,
            now=now,
            inputs={"plan": plan.key, "from": _named(before), "to": _named(after)},
            effects=_assignment(before, after),
        )
    return plan


def _assignment(before: Collection[TaxRate], after: Collection[TaxRate]) -> dict[str, Any]:
    """The rates by their keys, for whoever assigns the former ones again."""
    return {"ratesBefore": [rate.pk for rate in before], "ratesAfter": [rate.pk for rate in after]}


def words(rate: TaxRate) -> str:
    """`VAT 19 %, within the price`."""
    return f"{rate}{', within the price' if rate.inclusive else ''}"


def _live(rate: TaxRate) -> TaxRate:
    rate = TaxRate.objects.select_for_update().get(pk=rate.pk)
    if rate.archived_at is not None:
        raise BadRate("tax_rate_ids", f"{words(rate)} is archived.", "tax_rate_archived")
    return rate


def _assigned(**whose: Any) -> list[TaxRate]:
    rows = TaxAssignment.objects.filter(**whose, rate__archived_at=None).select_related("rate")
    return [row.rate for row in rows.order_by("rate_id")]


def _exemption(customer: Customer) -> TaxExemption | None:
    return TaxExemption.objects.filter(customer=customer, ended_at=None).first()


def _assign(rates: Collection[TaxRate], **whose: Any) -> None:
    if len(rates) > MOST_RATES:
        raise BadRate("tax_rate_ids", f"At most {MOST_RATES} rates at once.", "too_many_tax_rates")
    for rate in rates:
        _live(rate)
    wanted = {rate.pk for rate in rates}
    if sum(rate.percent for rate in rates if rate.inclusive) > 100:
        raise BadRate("tax_rate_ids", "Rates within the price come to more than 100 percent.", "bad_tax_rate")
    assigned = TaxAssignment.objects.filter(**whose)
    assigned.exclude(rate__in=wanted).delete()
    held = set(assigned.values_list("rate_id", flat=True))
    TaxAssignment.objects.bulk_create(TaxAssignment(rate_id=pk, **whose) for pk in sorted(wanted - held))


def _named(rates: Collection[TaxRate]) -> list[str]:
    return [words(rate) for rate in rates]


def _summary(rates: Collection[TaxRate], exempt_because: str | None) -> str:
    if exempt_because is not None:
        return "Exempt from tax"
    return f"Taxed with {', '.join(_named(rates))}" if rates else "Taxed as the plan and the account say"
