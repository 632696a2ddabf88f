"""A person at the page "Enable Product", in a browser without JavaScript: what the page shows is what gets posted."""

from datetime import datetime
from html.parser import HTMLParser
from typing import Any

import time_machine
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from customers.models import Customer, Subscription


class Fields(HTMLParser):
    """The fields of the forms of a page, as a browser would send them; buttons are left out."""

    def __init__(self, html: str):
        super().__init__()
        self.values: dict[str, str] = {}
        self.select = ""
        self.textarea = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name = given.get("name", "")
        if tag == "input" and name and "disabled" not in given:
            is_ticked = given.get("type") in ("radio", "checkbox")
            if not is_ticked or "checked" in given:
                self.add(name, given.get("value", "on" if is_ticked else ""))
        elif tag == "select":
            self.select = name
        elif tag == "option" and self.select and ("selected" in given or self.select not in self.values):
            self.values[self.select] = given.get("value", "")
        elif tag == "textarea":
            self.textarea = name
            self.values[name] = ""

    def add(self, name: str, value: str) -> None:
        if name == "items-row" and name in self.values:
            self.values[name] = f"{self.values[name]} {value}"
        else:
            self.values[name] = value

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self.select = ""
        if tag == "textarea":
            self.textarea = ""

    def handle_data(self, data: str) -> None:
        if self.textarea:
            self.values[self.textarea] += data.strip()


def person(role: str = "Sales engineer") -> User:
    user, created = User.objects.get_or_create(username=role.lower().replace(" ", "-"), defaults={"is_staff": True})
    if created:
        user.groups.add(Group.objects.get(name=role))
    return user


class Desk:
    """One person with one customer's page open."""

    def __init__(self, client: Client, customer: Customer, *, now: datetime, role: str = "Sales engineer"):
        self.client, self.customer, self.now = client, customer, now
        self.fields: dict[str, str] = {}
        self.text = ""
        self.answer: Any = None
        with self.at():
            client.force_login(person(role))

    def at(self) -> time_machine.travel:
        return time_machine.travel(self.now, tick=False)

    @property
    def url(self) -> str:
        return reverse("admin:enable_plan", args=[self.customer.pk])

    def open(self, **query: str) -> "Desk":
        """Open the page, with `plan="pro"` to have it chosen already."""
        with self.at():
            return self._take(self.client.get(self.url, query))

    def type(self, item: str = "", **values: str) -> "Desk":
        """Type into the row of an item (`type("credits", included="250")`), or into the other fields."""
        prefix = f"items-{self.row(item)}-" if item else ""
        self.fields |= {f"{prefix}{name}": value for name, value in values.items()}
        return self

    def row(self, item: str) -> str:
        return next(row for row in self.fields["items-row"].split() if self.fields[f"items-{row}-key"] == item)

    def preview(self) -> "Desk":
        return self._post("preview")

    def enable(self, **values: str) -> "Desk":
        return self.type(**values)._post("enable")

    def live_preview(self) -> str:
        """What the right column becomes while somebody types."""
        with self.at():
            url = reverse("admin:enable_plan_preview", args=[self.customer.pk])
            self.answer = self.client.post(url, self._body(), headers={"HX-Request": "true"})
        return self.answer.content.decode()

    def _post(self, act: str) -> "Desk":
        with self.at():
            return self._take(self.client.post(self.url, self._body() | {"act": act}, follow=True))

    def _body(self) -> dict[str, Any]:
        rows = self.fields.get("items-row")
        return {**self.fields, **({"items-row": rows.split()} if rows else {})}

    def _take(self, answer: Any) -> "Desk":
        self.answer, self.text = answer, answer.content.decode()
        self.fields = Fields(self.text).values
        return self

    @property
    def rows(self) -> Any:
        """The preview that is on the page."""
        return self.answer.context["rows"]

    @property
    def message(self) -> str:
        return " ".join(str(message) for message in self.answer.context["messages"])

    @property
    def left_the_page(self) -> bool:
        return bool(self.answer.redirect_chain)


def subscription_page(name: str, subscription: Subscription) -> str:
    return reverse(f"admin:{name}", args=[subscription.public_id])
