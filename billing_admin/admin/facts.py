"""What the sidebar of a customer says about their money, in one question to the database."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import CharField, Exists, OuterRef, Subquery, Sum
from django.db.models.functions import Cast, Coalesce, JSONObject

from catalog.money import plain
from customers.models import Customer
from invoicing.models import CreditEntry, TaxExemption, TaxRate, Wallet


@dataclass(frozen=True, slots=True)
class MoneyFacts:
    """Account credit in minor units; taxes in words, empty where the plan and the account decide; if there is a
    wallet."""

    credit: int
    taxes: str
    has_wallet: bool


def money_facts(customer: Customer) -> MoneyFacts:
    entries = CreditEntry.objects.filter(customer=OuterRef("pk")).order_by().values("customer")
    exemptions = TaxExemption.objects.filter(customer=OuterRef("pk"), ended_at=None)
    rates = TaxRate.objects.filter(assignments__customer=OuterRef("pk"), archived_at=None).order_by("id")
    as_text = JSONObject(name="name", percent=Cast("percent", CharField()), inclusive="inclusive")
    found = Customer.objects.filter(pk=customer.pk).annotate(
        credit=Coalesce(Subquery(entries.annotate(sum=Sum("amount")).values("sum")), 0),
        exempt=Exists(exemptions),
        has_wallet=Exists(Wallet.objects.filter(customer=OuterRef("pk"))),
        rates=ArraySubquery(rates.annotate(row=as_text).values("row")),
    )
    credit, exempt, own, has_wallet = found.values_list("credit", "exempt", "rates", "has_wallet").get()
    return MoneyFacts(int(credit), "Exempt" if exempt else ", ".join(_words(rate) for rate in own), has_wallet)


def _words(rate: dict[str, Any]) -> str:
    within = ", within the price" if rate["inclusive"] else ""
    return f"{rate['name']} {plain(Decimal(rate['percent']))} %{within}"
