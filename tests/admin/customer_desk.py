"""A person at a customer's page, in a browser without JavaScript."""

from datetime import datetime
from html import unescape
from typing import Any

import time_machine
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags

from customers.models import Customer
from tests.admin.enable_desk import person
from tests.instants import MARCH_16


class CustomerDesk:
    """Opens pages and posts forms at one instant, with one role."""

    def __init__(self, client: Client, *, now: datetime = MARCH_16, role: str = "Admin"):
        self.client, self.now = client, now
        with time_machine.travel(now, tick=False):
            client.force_login(person(role))

    def get(self, name: str, /, *args: Any, dialog: bool = False, **query: Any) -> "Page":
        headers = {"HX-Request": "true"} if dialog else None
        with time_machine.travel(self.now, tick=False):
            return Page(self.client.get(reverse(f"admin:{name}", args=args), query, headers=headers))

    def post(self, name: str, /, *args: Any, dialog: bool = False, **said: Any) -> "Page":
        headers = {"HX-Request": "true"} if dialog else None
        with time_machine.travel(self.now, tick=False):
            return Page(self.client.post(reverse(f"admin:{name}", args=args), said, headers=headers))

    def page(self, customer: Customer) -> "Page":
        return self.get("customers_customer_change", customer.pk)


class Page:
    """What came back, as people read it."""

    def __init__(self, answer: Any):
        self.answer = answer
        self.status = answer.status_code
        self.html = answer.getvalue().decode()  # of a streamed answer, too

    @property
    def text(self) -> str:
        return " ".join(unescape(strip_tags(self.html.replace("<", " <"))).split())

    @property
    def errors(self) -> dict[str, list[str]]:
        return {name: list(errors) for name, errors in self.answer.context["form"].errors.items()}

    @property
    def went_on(self) -> bool:
        return self.status == 302 or "HX-Redirect" in self.answer.headers
