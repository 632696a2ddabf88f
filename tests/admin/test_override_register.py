"""The register of overrides: what it is narrowed to, what it costs to read, and its CSV."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from billing_admin.flows.override_batch import read_rows
from catalog.models import Meter, Plan
from entitlements.models import FeatureOverride
from entitlements.override import revoke
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.admin.taken_away import taken_away
from tests.admin.test_overrides import acme, give
from tests.instants import APRIL_1, APRIL_16, JUNE_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db
PAGE = "entitlements_featureoverride_changelist"


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def listed(desk: CustomerDesk, **said: Any) -> list[tuple[str, str]]:
    """Customers and values, in the order of the register."""
    page = desk.get(PAGE, **said)
    return [(row.customer, row.value) for row in page.answer.context["rows"]]


def gave(name: str, units: str = "400", *, until: datetime | None = MAY_1, **more: Any) -> FeatureOverride:
    return give(acme(name), Decimal(units), until=until, **more)


def test_it_shows_what_stands_with_what_it_replaces_and_why(desk):
    gave("Acme")
    gone = gave("Globex")
    revoke(gone, reason="off", actor=a.STAFF, now=MARCH_16)

    page = desk.get(PAGE)

    assert "Acme Credits 400 instead of 100 16 Mar 2026 1 May 2026 “migration deal” ops, 16 Mar 2026" in page.text
    assert "Globex" not in page.text


def test_it_is_narrowed_to_what_needs_a_look(desk):
    gave("Ending", until=APRIL_1)
    gave("Lasting", until=None)
    gave("Later", starts=APRIL_1)
    doubled = acme("Doubled")
    give(doubled)
    give(doubled, Decimal(300), subscription=a.the_subscription(doubled))
    revoke(gave("Revoked"), reason="off", actor=a.STAFF, now=MARCH_16)
    revoke(gave("Early", starts=APRIL_1), reason="off", actor=a.STAFF, now=MARCH_16)

    assert listed(desk, shown="ending") == [("Ending", "400")]
    assert listed(desk, shown="open") == [("Lasting", "400")]
    assert listed(desk, shown="scheduled") == [("Later", "400")]
    assert listed(desk, shown="both") == [("Doubled", "300"), ("Doubled", "400")]
    assert listed(desk, shown="over") == [("Early", "400"), ("Revoked", "400")]
    assert len(listed(desk, shown="in_force")) == 4
    assert len(listed(desk, shown="all")) == 7


def test_it_finds_customers_features_and_one_customer(desk):
    who = acme("Acme")
    give(who)
    a.feature("sso", type="boolean")
    give(acme("Globex"), value=True, of="sso")

    assert listed(desk, q="glo") == [("Globex", "on")]
    assert listed(desk, feature="credits") == [("Acme", "400")]
    assert listed(desk, customer=who.pk) == [("Acme", "400")]


def test_what_does_not_fit_how_a_feature_is_counted_is_found(desk):
    counted = Meter.objects.create(slug="runs", name="Runs", event_name="run", aggregation="count")
    runs = a.feature("runs")
    runs.meter = counted
    runs.save()
    give(acme("Fraction"), Decimal("2.5"), of="runs")
    give(acme("Whole"), Decimal(3), of="runs")
    give(acme("Unmetered"), Decimal("2.5"))

    page = desk.get(PAGE, shown="misfit")

    assert [row.customer for row in page.answer.context["rows"]] == ["Fraction"]
    assert "metered in whole numbers (number of events)" in page.html


def test_the_same_on_three_customers_suggests_a_version_of_their_plan(desk):
    """L-46"""
    for name in ("Acme", "Globex", "Initech"):
        gave(name)
    gave("Other", "401")

    page = desk.get(PAGE, shown="same")

    [group] = page.answer.context["groups"]
    assert (group.feature, group.value, group.customers, group.plan) == ("Credits", "400", 3, "Pro")
    assert reverse("admin:catalog_plan_edit", args=[Plan.objects.get(key="pro").pk]) in page.html
    like = FeatureOverride.objects.order_by("id")[0].public_id
    assert [name for name, _ in listed(desk, like=like)] == ["Initech", "Globex", "Acme"]


def test_nothing_the_same_says_so(desk):
    gave("Acme")

    assert "No override matches" in desk.get(PAGE, shown="same").text


def test_pages_are_found_by_key(desk, monkeypatch):
    monkeypatch.setattr("billing_admin.admin.override_register.A_PAGE", 2)
    for name in ("One", "Two", "Three"):
        gave(name)

    first = desk.get(PAGE)
    last = first.answer.context["rows"][-1].public_id
    before = FeatureOverride.objects.get(public_id=last).pk

    assert f"before={before}" in first.html
    assert listed(desk, before=before) == [("One", "400")]


@pytest.mark.parametrize("shown", ["", "both", "misfit", "same"])
def test_it_costs_the_same_however_many_there_are(client, shown: str, django_assert_max_num_queries):
    for n in range(8):
        gave(f"Customer {n}")
    desk = CustomerDesk(client, role="Sales engineer")
    desk.get(PAGE, shown=shown)

    with django_assert_max_num_queries(10):
        desk.get(PAGE, shown=shown)


def test_what_is_exported_can_be_sent_again(desk):
    who = acme("Acme")
    give(who, Decimal("12345.5"))
    give(who, "unlimited", subscription=a.the_subscription(who), until=None)

    taken = taken_away(desk, "overrides", PAGE)

    columns = ("customer_id", "feature", "value", "from", "until", "reason", "subscription")
    rows = read_rows("\n".join(",".join(line) for line in [columns, *([row[c] for c in columns] for row in taken)]))
    assert [(row.value, row.until) for row in rows] == [("unlimited", None), ("12345.5", MAY_1)]
    assert taken[0]["state"] == "in_force"


def test_text_of_others_is_no_formula_in_the_export(desk):
    a.feature("sla", type="static")
    give(acme("Acme"), "=1+1", of="sla")

    assert [row["value"] for row in taken_away(desk, "overrides", PAGE)] == ["'=1+1"]


def test_of_groups_the_overrides_behind_them_are_exported(desk):
    for name in ("Acme", "Globex", "Initech"):
        gave(name)
    gave("Other", "401")

    rows = taken_away(desk, "overrides", PAGE, shown="same")

    assert [row["value"] for row in rows] == ["400"] * 3


def test_the_register_is_for_those_who_may_look(client):
    """A-53"""
    who = CustomerDesk(client, role="Read-only")
    row = gave("Acme")

    page = who.get(PAGE)

    assert page.status == 200 and "Acme" in page.text
    assert reverse("admin:override_revoke", args=[row.public_id]) not in page.html


def test_somebody_without_a_role_sees_neither_register_nor_export(client):
    """A-53"""
    desk = CustomerDesk(client, role="Read-only")
    User.objects.get().groups.clear()

    codes = {desk.get(PAGE).status, desk.post("export_ask", kind="overrides").status}

    assert codes == {403}


@pytest.mark.parametrize("said", [{"before": "x" * 30}, {"shown": "nothing"}, {"like": "nobody"}, {"batch": "none"}])
def test_whatever_stands_in_the_address_is_answered(desk, said: dict[str, str]):
    gave("Acme")

    assert desk.get(PAGE, **said).status == 200


def test_ends_are_counted_from_now(client):
    gave("Ending", until=JUNE_1)

    assert listed(CustomerDesk(client, now=APRIL_16), shown="ending") == []
    assert listed(CustomerDesk(client, now=day("2026-05-10")), shown="ending") == [("Ending", "400")]
