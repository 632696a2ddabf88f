"""Reading: what holds for the documents of one contract at an instant, as a value."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from catalog.models import Plan
from customers.models import Customer, Subscription
from invoicing.documents import BillingRules
from invoicing.lines import ADVANCE
from invoicing.models import InvoiceLine, TaxAssignment, TaxExemption, TaxRate
from invoicing.readings import account_credit
from invoicing.rewards import discounts_of, money_grants
from invoicing.states import InvoiceState
from invoicing.taxes import TaxTerms


def billing_rules(
    customer: Customer,
    plan: Plan,
    subscription: Subscription | None,
    *,
    at: datetime,
    currency: str = "",
    enables: bool = False,
) -> BillingRules:
    """Coupons, invoice credits, taxes and account credit of a customer for documents of one plan.

    Where a plan is enabled, so do the coupons begin that wait for one.
    """
    currency = currency or plan.currency
    return BillingRules(
        plan_id=plan.pk,
        discounts=tuple(discounts_of(customer, subscription, at=at, currency=currency, waiting=enables)),
        grants=tuple(money_grants(customer, at=at, currency=currency)),
        taxes=tax_terms(customer, plan),
        source_taxes=_taxes_of_lines(subscription, at),
        account_credit=account_credit(customer),
    )


def tax_terms(customer: Customer, plan: Plan) -> tuple[TaxTerms, ...]:
    """The customer's own rates, else the plan's, else the account's; none for whoever is exempt."""
    if TaxExemption.objects.filter(customer=customer, ended_at=None).exists():
        return ()
    rates = TaxRate.objects.filter(archived_at=None)
    own = list(TaxAssignment.objects.filter(rate__archived_at=None, customer=customer).select_related("rate"))
    own = own or list(TaxAssignment.objects.filter(rate__archived_at=None, plan=plan).select_related("rate"))
    found = [assignment.rate for assignment in own] or list(rates.filter(is_default=True))
    return tuple(_terms(rate) for rate in sorted(found, key=lambda rate: rate.pk))


def _terms(rate: TaxRate) -> TaxTerms:
    return TaxTerms(rate.pk, rate.name, rate.percent, rate.inclusive)


def _taxes_of_lines(subscription: Subscription | None, at: datetime) -> dict[int, tuple[TaxTerms, ...]]:
    """The taxes that lines whose time is not over were issued with."""
    if subscription is None:
        return {}
    lines = InvoiceLine.objects.filter(subscription=subscription, kind__in=ADVANCE, ends_at__gt=at)
    lines = lines.exclude(invoice__state=InvoiceState.VOID)
    return {pk: tuple(from_json(taxes)) for pk, taxes in lines.values_list("pk", "taxes")}


def from_json(taxes: Iterable[dict[str, Any]]) -> list[TaxTerms]:
    """Rates as a line keeps them."""
    return [TaxTerms(tax["id"], tax["name"], Decimal(tax["percent"]), tax["inclusive"]) for tax in taxes]
