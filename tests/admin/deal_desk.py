"""A person at the pages of deals, in a browser without JavaScript: what a page shows is what gets posted."""

from datetime import datetime
from typing import Any

import time_machine
from django.test import Client
from django.urls import reverse

from billing_admin.flows.deals import create_deal
from customers.models import Customer
from deals.models import Deal
from tests import builders as a
from tests.admin.enable_desk import Fields, person

# Fields that a form has several of.
MANY = ("phase", "coupon-row", "override-row", "price-row")


class DealFields(Fields):
    """Fields of which there are several are kept apart by spaces, in their order."""

    def add(self, name: str, value: str) -> None:
        if (name in MANY or name.endswith("-row")) and name in self.values:
            self.values[name] = f"{self.values[name]} {value}"
        else:
            self.values[name] = value


class DealDesk:
    """One person at the builder of one deal."""

    def __init__(self, client: Client, deal: Deal, *, now: datetime, role: str = "Sales engineer"):
        self.client, self.deal, self.now = client, deal, now
        self.fields: dict[str, str] = {}
        self.text = ""
        self.answer: Any = None
        with self.at():
            client.force_login(person(role))

    def at(self) -> time_machine.travel:
        return time_machine.travel(self.now, tick=False)

    def url(self, name: str) -> str:
        return reverse(f"admin:{name}", args=[self.deal.public_id])

    def open(self) -> "DealDesk":
        with self.at():
            return self._take(self.client.get(self.url("deal_edit")))

    def type(self, phase: str = "", item: str = "", **values: str) -> "DealDesk":
        """Into a field (`type(**{"p0-label": "Year 1"})`), or into a row of a phase's items."""
        prefix = f"{phase}-{self.row(phase, item)}-" if item else ""
        self.fields |= {f"{prefix}{name}": value for name, value in values.items()}
        return self

    def row(self, phase: str, item: str) -> str:
        rows = self.fields[f"{phase}-row"].split()
        return next(row for row in rows if self.fields[f"{phase}-{row}-key"] == item)

    def do(self, button: str) -> "DealDesk":
        return self._post({"do": button})

    def look(self) -> "DealDesk":
        return self._post({"act": "look"})

    def save(self, **values: str) -> "DealDesk":
        return self.type(**values)._post({"act": "save"})

    def live(self) -> str:
        """What the right column becomes while somebody types."""
        with self.at():
            answer = self.client.post(self.url("deal_edit_preview"), self._body({}), headers={"HX-Request": "true"})
        self.answer = answer
        return answer.content.decode()

    def act(self, name: str, /, **values: str) -> "DealDesk":
        """One of the dialogs, as a page."""
        with self.at():
            return self._take(self.client.post(self.url(name), values, follow=True))

    def page(self, **query: str) -> "DealDesk":
        with self.at():
            return self._take(self.client.get(self.url("deals_deal_change"), query))

    def _post(self, button: dict[str, str]) -> "DealDesk":
        with self.at():
            return self._take(self.client.post(self.url("deal_edit"), self._body(button), follow=True))

    def _body(self, button: dict[str, str]) -> dict[str, Any]:
        data: dict[str, Any] = {**self.fields, **button}
        return {name: value.split() if name in MANY or name.endswith("-row") else value for name, value in data.items()}

    def _take(self, answer: Any) -> "DealDesk":
        self.answer, self.text = answer, answer.content.decode()
        self.fields = DealFields(self.text).values
        return self

    @property
    def message(self) -> str:
        return " ".join(str(message) for message in self.answer.context["messages"])


def begun(customer: Customer | None = None, *items: Any, term_months: int = 12, now: datetime, **plan: Any) -> Deal:
    """A draft on a plan with a fee of $50.00 a month and priced calls, for a customer."""
    made = a.plan("pro", *(items or (a.fee(50), a.allowance(1000, of="calls", price="0.01"))), **plan)
    return create_deal(
        customer, made.current_version, name="Acme: Pro", term_months=term_months, actor=a.STAFF, now=now
    )
