"""Reading: what holds for the documents of one contract at an instant, as a value."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Q

from catalog.models import Plan
from customers.models import Customer, Subscription
from invoicing.documents import BillingRules
from invoicing.lines import ADVANCE, OVERRIDE
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
    """The rates of one customer's documents for one plan."""
    return TaxTable.read([customer.pk], [plan.pk]).terms(customer.pk, plan.pk)


@dataclass(frozen=True, slots=True)
class TaxTable:
    """The rates of many customers and plans, by primary key."""

    of_customers: Mapping[int, Sequence[TaxTerms]] = field(default_factory=dict)
    of_plans: Mapping[int, Sequence[TaxTerms]] = field(default_factory=dict)
    usual: Sequence[TaxTerms] = ()
    exempt: frozenset[int] = frozenset()

    @classmethod
    def read(cls, customers: Collection[int], plans: Collection[int]) -> "TaxTable":
        """Whatever their number, in three queries."""
        rates = TaxRate.objects.filter(archived_at=None, is_default=True).order_by("id")
        exempt = TaxExemption.objects.filter(customer__in=customers, ended_at=None)
        assigned = TaxAssignment.objects.filter(Q(customer__in=customers) | Q(plan__in=plans), rate__archived_at=None)
        of_customers: dict[int, list[TaxTerms]] = {}
        of_plans: dict[int, list[TaxTerms]] = {}
        for row in assigned.select_related("rate").order_by("rate_id"):
            found = of_plans if row.customer_id is None else of_customers
            found.setdefault(row.customer_id or row.plan_id or 0, []).append(_terms(row.rate))
        usual = tuple(_terms(rate) for rate in rates)
        return cls(of_customers, of_plans, usual, frozenset(exempt.values_list("customer_id", flat=True)))

    def terms(self, customer: int, plan: int) -> tuple[TaxTerms, ...]:
        """The customer's own rates, else the plan's, else the account's; none for whoever is exempt."""
        if customer in self.exempt:
            return ()
        return tuple(self.of_customers.get(customer) or self.of_plans.get(plan) or self.usual)


def _terms(rate: TaxRate) -> TaxTerms:
    return TaxTerms(rate.pk, rate.name, rate.percent, rate.inclusive)


def _taxes_of_lines(subscription: Subscription | None, at: datetime) -> dict[int, tuple[TaxTerms, ...]]:
    """The taxes that lines whose time is not over were issued with."""
    if subscription is None:
        return {}
    lines = InvoiceLine.objects.filter(subscription=subscription, kind__in=[*ADVANCE, OVERRIDE], ends_at__gt=at)
    lines = lines.exclude(invoice__state=InvoiceState.VOID)
    return {pk: tuple(from_json(taxes)) for pk, taxes in lines.values_list("pk", "taxes")}


def from_json(taxes: Iterable[dict[str, Any]]) -> list[TaxTerms]:
    """Rates as a line keeps them."""
    return [TaxTerms(tax["id"], tax["name"], Decimal(tax["percent"]), tax["inclusive"]) for tax in taxes]
