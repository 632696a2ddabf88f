"""Units of a customer's own on the desk: given, shown in the order of the burn, taken back."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from billing_admin.flows.grants import Wanted, give_units
from catalog.models import Feature, Plan
from catalog.rollovers import Rollover
from customers.models import Customer, Operation
from entitlements.models import Grant
from entitlements.override import override
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def acme() -> Customer:
    """On Pro for $50, with 100 credits a month."""
    return a.on(Plan.objects.filter(key="pro").first() or a.pro(50))


def give(who: Customer, units: int = 500, **wanted: Any) -> Grant:
    asked = {"ends_at": MAY_1, "label": "Support case"} | wanted
    feature = Feature.objects.get(slug="credits")
    return give_units(who, Wanted(feature, Decimal(units), **asked), reason="support case", actor=a.STAFF, now=MARCH_16)


def typed(**said: Any) -> dict[str, Any]:
    return {
        "feature": "credits",
        "source": "bonus",
        "units": "500",
        "label": "Support case 412",
        "starts": "",
        "until": "2026-05-01",
        "recurs": "",
        "priority": "0",
        "reason": "outage on 3 March",
    } | said


def test_the_dialog_gives_what_was_typed_and_says_so_in_the_journal(desk):
    who = acme()

    page = desk.post("grant_give", who.pk, **typed())

    [row] = Grant.objects.all()
    assert page.went_on
    assert (row.units, row.source, row.label, row.ends_at) == (500, "bonus", "Support case 412", MAY_1)
    assert a.left(who, now=MARCH_16) == 600
    line = Operation.objects.get(verb="grant.given")
    assert (line.summary, line.reason) == (
        "Gave 500 Credits until 1 May 2026: Support case 412",
        "outage on 3 March",
    )


def test_a_purchase_comes_again_every_month(desk):
    """L-36"""
    who = acme()

    desk.post("grant_give", who.pk, **typed(source="purchase", recurs="P1M", until="", priority="-1"))

    row = Grant.objects.get()
    assert (row.source, row.recurs, row.ends_at, row.priority) == ("purchase", "P1M", None, -1)
    a.use(who, 500, now=MARCH_16)
    assert a.left(who, now=APRIL_16) == 600


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"label": ""}, "label"),
        ({"feature": "sso"}, "feature"),
        ({"units": ""}, "units"),
        ({"units": "0"}, "units"),
        ({"units": "-3"}, "units"),
        ({"units": "0.0000001"}, "units"),
        ({"units": "many"}, "units"),
        ({"until": "2026-03-01"}, "until"),
        ({"starts": "2026-06-01"}, "until"),
        ({"starts": "2026-03-01"}, "starts"),
        ({"recurs": "P5D"}, "recurs"),
        ({"priority": "7"}, "priority"),
    ],
)
def test_what_is_wrong_stands_at_its_field(desk, said: dict[str, str], field: str):
    """L-06"""
    who = acme()
    a.feature("sso", type="boolean")

    page = desk.post("grant_give", who.pk, **typed(**said))

    assert list(page.errors) == [field]
    assert not Grant.objects.exists()


def test_while_typing_the_order_of_the_burn_shows(desk):
    who = acme()

    page = desk.get("grant_preview", who.pk, **typed(reason="", label="", priority="-1"))

    assert "From now until 1 May 2026: 500 Credits more. Nothing is charged." in page.text
    assert "These units 500 left, until 1 May 2026 Pro 100 left, until 1 Apr 2026" in page.text


def test_the_features_say_in_which_order_buckets_burn(client):
    """A-50"""
    rolling = replace(a.allowance(100), rollover=Rollover("P3M"))
    who = a.on(a.plan("pro", a.fee(50), rolling))
    a.use(who, 60, now=MARCH_1)
    give(who, source="purchase", label="Pack")
    credits = Feature.objects.get(slug="credits")
    override(who, credits, Decimal(150), effective_until=MAY_1, reason="deal", actor=a.STAFF, now=MARCH_16)
    a.pass_time(who, to=APRIL_16)

    text = CustomerDesk(client, now=APRIL_16).page(who).text

    order = text[text.index("burns in this order") :]
    places = [order.index(name) for name in ("Rolled over on 1 Apr 2026", "Pack purchase", "Override 50 left")]
    assert places == sorted(places)
    assert "40 left" in order and "Override 50 left until 1 May 2026" in order


def test_what_an_override_withholds_is_no_edit_by_hand(desk):
    who = acme()
    credits = Feature.objects.get(slug="credits")
    override(who, credits, Decimal(30), effective_until=APRIL_1, reason="abuse", actor=a.STAFF, now=MARCH_16)

    text = desk.page(who).text

    assert "70 withheld by an override" in text and "by hand" not in text


def test_a_feature_that_an_override_closes_says_so(desk):
    who = acme()
    credits = Feature.objects.get(slug="credits")
    override(who, credits, value=False, effective_until=APRIL_1, reason="abuse", actor=a.STAFF, now=MARCH_16)

    assert "Credits No Access by an override" in desk.page(who).text.replace("No access", "No Access")


def test_units_to_come_are_shown(desk):
    who = acme()
    give(who, starts_at=APRIL_16, label="Pack", source="purchase")

    assert "Pack purchase 500 to come from 16 Apr 2026" in desk.page(who).text


def test_what_is_left_is_taken_back_with_a_reason(desk):
    who = acme()
    row = give(who)
    a.use(who, 120, now=MARCH_16)

    shown = desk.get("grant_void", row.pk)
    refused = desk.post("grant_void", row.pk, reason="")
    done = desk.post("grant_void", row.pk, reason="given twice")

    row.refresh_from_db()
    assert "480 Credits are taken back; what was used stays used." in shown.text
    assert list(refused.errors) == ["reason"]
    assert done.went_on and (row.void_reason, a.left(who, now=MARCH_16)) == ("given twice", 0)


def test_taking_back_again_changes_nothing(desk):
    row = give(acme())
    desk.post("grant_void", row.pk, reason="given twice")

    desk.post("grant_void", row.pk, reason="again")

    assert Operation.objects.filter(verb="grant.voided").count() == 1


def test_a_closed_customer_gets_no_units(desk):
    who = acme()
    Customer.objects.filter(pk=who.pk).update(closed_at=MARCH_16)

    page = desk.post("grant_give", who.pk, **typed())

    assert list(page.errors) == ["__all__"]
    assert not Grant.objects.exists()


@pytest.mark.parametrize("role", ["Read-only", "Finance"])
def test_readers_see_units_and_neither_dialog_nor_post(client, role: str):
    """A-53"""
    who = acme()
    row = give(who)
    desk = CustomerDesk(client, role=role)

    codes = {
        desk.get("grant_give", who.pk).status,
        desk.post("grant_give", who.pk, **typed()).status,
        desk.get("grant_preview", who.pk, **typed()).status,
        desk.get("grant_void", row.pk).status,
        desk.post("grant_void", row.pk, reason="mine").status,
    }

    page = desk.page(who)
    assert codes == {403}
    assert "Support case" in page.text and "/grants/" not in page.html
