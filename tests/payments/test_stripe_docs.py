"""docs/stripe.md says what the code does: which events it looks at, which calls it makes, which codes it has."""

import ast
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from billing_admin import checks
from launch.environment import ROOT
from payments import gateway, steps
from payments.events import ABOUT, matters
from payments.models import StripeInvoice

READS = {"retrieve", "retrieve_current", "list"}


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    """The page's sections by their titles."""
    parts = re.split(r"^## (.+)$", (ROOT / "docs" / "stripe.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str) -> list[list[str]]:
    """The cells of its first table, without the heading."""
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def known_to_stripe() -> set[str]:
    """Every type of event that an endpoint can subscribe to, as Stripe's library lists them."""
    spec = find_spec("stripe")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "params" / "_webhook_endpoint_create_params.py"
    return set(re.findall(r'"([a-z_0-9]+(?:\.[a-z_0-9]+)+)"', source.read_text()))


def test_the_events_to_subscribe_to_are_those_that_we_look_at(sections):
    listed = [type_ for cells in rows(sections["Events"]) for type_ in quoted(cells[0])]

    assert [type_ for type_ in listed if not matters(type_)] == []
    assert [type_ for type_ in listed if type_ not in known_to_stripe()] == []


def test_no_family_of_events_that_we_look_at_is_left_out(sections):
    listed = " ".join(type_ for cells in rows(sections["Events"]) for type_ in quoted(cells[0]))
    families = {family for family in ABOUT if any(type_.startswith(f"{family}.") for type_ in known_to_stripe())}

    assert [family for family in sorted(families) if not re.search(rf"\b{re.escape(family)}\.", listed)] == []


def calls() -> dict[str, str]:
    """What the gateway calls of Stripe's API, by service: read or write."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(inspect.getsource(gateway))):
        if not isinstance(node, ast.Attribute):
            continue
        path = ast.unparse(node)
        if match := re.fullmatch(r"self\.v1\.(\w+(?:\.\w+)?)\.(\w+)", path):
            service, method = match.groups()
            if method in ("payment_methods", "line_items"):
                continue  # a service within another, not a call
            found[service] = "write" if method not in READS or found.get(service) == "write" else "read"
        elif match := re.fullmatch(r"self\.v1\.(\w+)", path):
            found.setdefault(match[1], "read")  # pages are read through a service
    return found


def test_a_restricted_key_needs_what_our_code_calls(sections):
    needed: dict[str, set[str]] = {}
    for _, right, services in rows(sections["Permissions of a restricted key"]):
        for service in quoted(services):
            needed.setdefault(service, set()).add(right)

    assert needed.keys() == calls().keys()


def test_a_permission_to_write_is_asked_for_where_something_is_written(sections):
    made = calls()
    table = rows(sections["Permissions of a restricted key"])
    said = {cells[0]: cells[1] for cells in table}
    wanted = {
        cells[0]: "write" if any(made[service] == "write" for service in quoted(cells[2])) else "read"
        for cells in table
    }

    assert said == wanted


def test_every_code_of_a_parked_invoice_is_explained(sections):
    explained = {code for cells in rows(sections["What the codes mean"]) for code in quoted(cells[0])}
    made = {
        node.args[2].value
        for node in ast.walk(ast.parse(inspect.getsource(steps)))
        if isinstance(node, ast.Call) and len(node.args) == 3 and ast.unparse(node.args[0]) == "Act.PARK"
        and isinstance(node.args[2], ast.Constant)
    }  # fmt: skip

    assert made
    assert made <= explained


def test_every_check_of_the_keys_is_named(sections):
    ids = set(re.findall(r'id="(stripe\.\w+)"', inspect.getsource(checks)))

    assert ids == set(re.findall(r"stripe\.[EW]\d+", sections["What the codes mean"]))


def test_each_state_of_a_collection_has_its_row(sections):
    assert [cells[0] for cells in rows(sections["How an invoice gets there"])] == StripeInvoice.State.labels
