"""What the sidebar of a customer says about their money and their deals, and the newest notes, in one question to the
database."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import CharField, Count, Exists, OuterRef, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Cast, Coalesce, JSONObject

from billing_admin.models import ApprovalRequest
from catalog.money import format_minor, plain
from customers.models import Customer, Note
from deals.models import Deal, DealVersion
from invoicing.models import CreditEntry, TaxExemption, TaxRate, Wallet

NOTES_SHOWN = 5
DEALS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class NoteFact:
    author: str
    text: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DealFact:
    """A deal that was not given up: since when it is in its state; its value in words, empty until it was reckoned."""

    public_id: str
    name: str
    state: str
    since: datetime
    value: str
    months: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Account credit in minor units; taxes in words, empty where the plan and the account decide; if there is a
    wallet; the newest notes and deals, of these one more than are shown where there are more."""

    credit: int
    taxes: str
    has_wallet: bool
    notes: tuple[NoteFact, ...]
    deals: tuple[DealFact, ...]
    approvals: int = 0


def read_facts(customer: Customer, approvals: "QuerySet[ApprovalRequest]") -> Facts:
    """`approvals` are counted along: those that wait for whoever looks, which every page says."""
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
        dealt=ArraySubquery(_deals()[: DEALS_SHOWN + 1]),
        approvals=Coalesce(Subquery(_number_of(approvals)), 0),
    )
    names = ("credit", "exempt", "rates", "has_wallet", "noted", "dealt", "approvals")
    credit, exempt, own, has_wallet, noted, dealt, waiting = found.values_list(*names).get()
    return Facts(
        int(credit),
        "Exempt" if exempt else ", ".join(_words(rate) for rate in own),
        has_wallet,
        tuple(NoteFact(n["author"], n["text"], datetime.fromisoformat(n["at"])) for n in noted),
        tuple(_deal(row) for row in dealt),
        waiting,
    )


def _number_of(rows: "QuerySet[Any]") -> "QuerySet[Any, Any]":
    """How many there are, as a subquery; no row where there are none."""
    same = rows.order_by().annotate(same=Value(1)).values("same")
    found: QuerySet[Any, Any] = same.annotate(number=Count("pk")).values("number")
    return found


def _deals() -> "QuerySet[Any, Any]":
    """Those of the customer around it that are open or were carried out, newest first."""
    newest = DealVersion.objects.filter(deal=OuterRef("pk")).order_by("-number")
    reached = Coalesce("executed_at", "accepted_at", "sent_at", "approved_at", "created_at")
    row = JSONObject(
        id="public_id",
        name="name",
        state="state",
        since=reached,
        figures=Subquery(newest.values("figures")[:1]),
        months=Subquery(newest.values("content__term_months")[:1]),
    )
    rows = Deal.objects.filter(customer=OuterRef("pk")).exclude(state=Deal.State.VOID).order_by("-id")
    return rows.annotate(row=row).values("row")


def _deal(row: dict[str, Any]) -> DealFact:
    figures = row["figures"]
    value = format_minor(figures["value"], figures["currency"]) if figures else ""
    return DealFact(row["id"], row["name"], row["state"], datetime.fromisoformat(row["since"]), value, row["months"])


def _words(rate: dict[str, Any]) -> str:
    within = ", within the price" if rate["inclusive"] else ""
    return f"{rate['name']} {plain(Decimal(rate['percent']))} %{within}"
