"""What the sidebar of a customer says about their money, and the newest notes, in one question to the database."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import CharField, Exists, OuterRef, Subquery, Sum
from django.db.models.functions import Cast, Coalesce, JSONObject

from catalog.money import plain
from customers.models import Customer, Note
from invoicing.models import CreditEntry, TaxExemption, TaxRate, Wallet

NOTES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class NoteFact:
    author: str
    text: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """Account credit in minor units; taxes in words, empty where the plan and the account decide; if there is a
    wallet; the newest notes."""

    credit: int
    taxes: str
    has_wallet: bool
    notes: tuple[NoteFact, ...]


def read_facts(customer: Customer) -> Facts:
    entries = CreditEntry.objects.filter(customer=OuterRef("pk")).order_by().values("customer")
    exemptions = TaxExemption.objects.filter(customer=OuterRef("pk"), ended_at=None)
    rates = TaxRate.objects.filter(assignments__customer=OuterRef("pk"), archived_at=None).order_by("id")
    row = JSONObject(author="author", text="text", at="created_at")
    notes = Note.objects.filter(customer=OuterRef("pk")).order_by("-created_at", "-id").annotate(row=row)
    as_text = JSONObject(name="name", percent=Cast("percent", CharField()), inclusive="inclusive")
    found = Customer.objects.filter(pk=customer.pk).annotate(
        credit=Coalesce(Subquery(entries.annotate(sum=Sum("amount")).values("sum")), 0),
        exempt=Exists(exemptions),
        has_wallet=Exists(Wallet.objects.filter(customer=OuterRef("pk"))),
        rates=ArraySubquery(rates.annotate(row=as_text).values("row")),
        noted=ArraySubquery(notes.values("row")[:NOTES_SHOWN]),
    )
    credit, exempt, own, has_wallet, noted = found.values_list("credit", "exempt", "rates", "has_wallet", "noted").get()
    return Facts(
        int(credit),
        "Exempt" if exempt else ", ".join(_words(rate) for rate in own),
        has_wallet,
        tuple(NoteFact(n["author"], n["text"], datetime.fromisoformat(n["at"])) for n in noted),
    )


def _words(rate: dict[str, Any]) -> str:
    within = ", within the price" if rate["inclusive"] else ""
    return f"{rate['name']} {plain(Decimal(rate['percent']))} %{within}"
