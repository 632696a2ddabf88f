"""A list taken away as CSV, as a person does it: the button above the list, then the file that a worker wrote."""

import csv
import re
from html import unescape
from io import StringIO
from typing import Any
from urllib.parse import parse_qsl

from billing_admin.flows.exports import path_of, write
from billing_admin.models import Export
from tests.admin.customer_desk import CustomerDesk

BUTTON = re.compile(r'name="kind" value="(\w+)"><input type="hidden" name="query" value="([^"]*)"')


def buttons(html: str) -> dict[str, str]:
    """What each button “Export CSV” of a page asks for: kind → query."""
    return {kind: unescape(query) for kind, query in BUTTON.findall(html)}


def taken_away(desk: CustomerDesk, kind: str, name: str, /, *args: Any, **query: Any) -> list[dict[str, str]]:
    """The rows of the file that the button on this page asks for."""
    asked = buttons(desk.get(name, *args, **query).html)[kind]
    desk.post("export_ask", kind=kind, query=asked)
    return list(csv.DictReader(StringIO(text_of(desk, Export.objects.latest("id")))))


def text_of(desk: CustomerDesk, export: Export) -> str:
    export = write(export, clock=lambda: desk.now)
    assert export.state == "done", export.problem
    file = path_of(export)
    text = file.read_text()
    file.unlink()
    return text


def asked_for(desk: CustomerDesk, name: str, /, *args: Any, **query: Any) -> dict[str, str]:
    """What the only button of a page asks for, as its parts."""
    [said] = buttons(desk.get(name, *args, **query).html).values()
    return dict(parse_qsl(said))
