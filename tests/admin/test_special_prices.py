"""Special prices on the desk: the dialog, the sidebar, what comes next, the list, and who may."""

from typing import Any

import pytest
from django.test import Client

from billing_admin.flows.reprice import Wanted, override_price, revoke_override
from catalog.models import Plan
from customers.models import Customer, PriceOverride
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.instants import APRIL_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db
MONTHLY = "RRULE:FREQ=MONTHLY;INTERVAL=1"


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def acme(name: str = "Acme Robotics") -> Customer:
    plan = Plan.objects.filter(key="pro").first() or a.pro(50)
    return a.on(plan, name=name)


def give(who: Customer, *, amount: int = 3000, cycles: int | None = 2, label: str = "Launch price") -> PriceOverride:
    component = {"type": "fixed", "label": label, "amount_cents": amount, "recurrence_rule": MONTHLY}
    wanted = Wanted("base", [component], cycles=cycles)
    return override_price(a.the_subscription(who), wanted, reason="migration deal", actor=a.STAFF, now=MARCH_16)


def typed(who: Customer, **said: Any) -> dict[str, Any]:
    return {
        "item": f"{a.the_subscription(who).public_id}:base",
        "mode": "replace",
        "lasts": "periods",
        "cycles": "2",
        "label_0": "Launch price",
        "amount_0": "30",
        "every_0": MONTHLY,
        "reason": "migration deal",
    } | said


def test_the_dialog_gives_the_price_that_was_typed(desk):
    """L-13"""
    who = acme()

    page = desk.post("give_special_price", who.pk, **typed(who))

    [row] = PriceOverride.objects.all()
    assert page.went_on
    assert (row.item_key, row.mode, row.cycles, row.reason) == ("base", "replace", 2, "migration deal")
    assert row.components == [
        {"type": "fixed", "label": "Launch price", "amount_cents": 3000, "recurrence_rule": MONTHLY}
    ]


def test_until_revoked_leaves_the_periods_out(desk):
    """L-14"""
    who = acme()

    desk.post("give_special_price", who.pk, **typed(who, lasts="revoked", cycles="5"))

    assert PriceOverride.objects.get().cycles is None


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"cycles": ""}, "cycles"),
        ({"cycles": "0"}, "cycles"),
        ({"reason": ""}, "reason"),
        ({"label_0": ""}, "label_0"),
        ({"amount_0": "1.234"}, "amount_0"),
        ({"amount_0": "-5"}, "amount_0"),
        ({"label_1": "Seats"}, "amount_1"),
        ({"amount_2": "5"}, "label_2"),
        ({"label_1": "Launch price", "amount_1": "1"}, "label_1"),
        ({"item": "sub_other:base"}, "item"),
    ],
)
def test_what_is_wrong_stands_at_its_field(desk, said: dict[str, str], field: str):
    """L-06, L-14, L-17"""
    who = acme()

    page = desk.post("give_special_price", who.pk, **typed(who, **said))

    assert list(page.errors) == [field]
    assert not PriceOverride.objects.exists()


def test_while_typing_the_next_invoices_show_with_it_and_without(desk):
    who = acme()

    page = desk.get("special_price_preview", who.pk, **typed(who, reason=""))

    assert "Holds for 2 billing periods, from 1 Apr 2026" in page.text
    assert [(row.before, row.after) for row in page.answer.context["rows"]] == [
        ("$50.00", "$30.00"),
        ("$50.00", "$30.00"),
        ("$50.00", "$50.00"),
    ]


def test_the_preview_says_what_is_wrong(desk):
    """L-12"""
    who = acme()
    give(who)

    assert "already" in desk.get("special_price_preview", who.pk, **typed(who)).text


def test_the_sidebar_says_what_remains_until_when_and_why(desk):
    """L-14"""
    who = acme()
    give(who)

    [row] = desk.page(who).answer.context["overrides"]

    # Two billing periods from 1 April.
    assert (row.what, row.left, row.ends_at) == ("Pro · Base fee", "2 of 2 billing periods left", day("2026-06-01"))
    assert row.components == ("Launch price: $30.00 every month",)
    assert (row.list_price, row.reason, row.by) == ("$50.00 / month", "migration deal", "ops")


def test_what_remains_goes_down_with_every_period(desk, client: Client):
    """L-14"""
    who = acme()
    give(who)
    a.pass_time(who, to=APRIL_1)

    [row] = CustomerDesk(client, now=APRIL_1).page(who).answer.context["overrides"]

    assert (row.left, row.ends_at) == ("1 of 2 billing periods left", day("2026-06-01"))


def test_one_that_is_used_up_leaves_the_sidebar(client: Client):
    """L-14"""
    who = acme()
    give(who, cycles=1)
    a.pass_time(who, to=APRIL_1)

    assert CustomerDesk(client, now=APRIL_1).page(who).answer.context["overrides"] == []


def test_the_upcoming_invoice_takes_it(desk):
    who = acme()
    give(who)

    [upcoming] = desk.page(who).answer.context["page"].upcoming

    assert [(line.description, line.amount) for line in upcoming.lines] == [("Launch price", 3000)]


def test_it_can_be_revoked_with_a_reason(desk):
    """L-08"""
    row = give(acme())

    page = desk.post("revoke_special_price", row.public_id, reason="deal is over")

    row.refresh_from_db()
    assert page.went_on
    assert (row.revoked_at, row.revoke_reason) == (MARCH_16, "deal is over")


def test_revoking_without_a_reason_is_refused(desk):
    """L-06"""
    row = give(acme())

    assert list(desk.post("revoke_special_price", row.public_id, reason=" ").errors) == ["reason"]


@pytest.mark.parametrize(
    ("shown", "names"),
    [
        ("", ["Open", "Two", "Last"]),
        ("ending", ["Last"]),
        ("open", ["Open"]),
        ("over", ["Gone", "Used"]),
        ("all", ["Gone", "Open", "Two", "Last", "Used"]),
    ],
)
def test_the_list_narrows_to_what_somebody_looks_for(client: Client, shown: str, names: list[str]):
    """L-07"""
    used = acme("Used")
    give(used, cycles=1)
    a.pass_time(used, to=APRIL_1)
    for name, cycles in {"Last": 1, "Two": 2, "Open": None, "Gone": 3}.items():
        row = give(acme(name), cycles=cycles)
        if name == "Gone":
            revoke_override(row, reason="over", actor=a.STAFF, now=MARCH_16)

    page = CustomerDesk(client, now=APRIL_1).get("customers_priceoverride_changelist", shown=shown)

    assert [row.customer for row in page.answer.context["rows"]] == names


def test_the_list_is_read_in_few_queries(desk, django_assert_max_num_queries):
    for n in range(6):
        give(acme(f"Customer {n}"))
    desk.get("customers_priceoverride_changelist")

    with django_assert_max_num_queries(14):
        page = desk.get("customers_priceoverride_changelist")

    assert len(page.answer.context["rows"]) == 6


def test_the_list_finds_a_customer_and_says_when_there_is_none(desk):
    give(acme())

    assert len(desk.get("customers_priceoverride_changelist", q="acme").answer.context["rows"]) == 1
    assert "No special price matches" in desk.get("customers_priceoverride_changelist", q="zzz").text


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Finance"])
def test_only_those_who_make_deals_may_give_or_revoke_one(client: Client, role: str):
    """A-53"""
    who = acme()
    row = give(who)
    desk = CustomerDesk(client, role=role)

    assert {
        desk.get("give_special_price", who.pk).status,
        desk.post("give_special_price", who.pk, **typed(who)).status,
        desk.get("special_price_preview", who.pk, **typed(who)).status,
        desk.post("revoke_special_price", row.public_id, reason="mine").status,
    } == {403}
    assert "Override price" not in desk.page(who).html
    assert desk.get("customers_priceoverride_changelist").status == 200


def test_sales_engineers_may(client: Client):
    """A-53"""
    who = acme()

    assert CustomerDesk(client, role="Sales engineer").post("give_special_price", who.pk, **typed(who)).went_on


def test_a_customer_without_a_plan_is_told_so(desk):
    assert "Enable a product first" in desk.get("give_special_price", a.customer().pk).text


def test_the_dialog_works_after_the_period_went_on(client: Client):
    """L-14: counted from the first billing period that is due then."""
    who = acme()
    a.pass_time(who, to=MAY_1)

    page = CustomerDesk(client, now=MAY_1).get("special_price_preview", who.pk, **typed(who))

    assert "from 1 Jun 2026" in page.text


def test_the_dialog_warns_of_a_change_to_come_that_ends_it(desk):
    """L-27"""
    who = a.on(a.team())
    a.enable(who, a.pro(), now=MARCH_16)

    page = desk.get("special_price_preview", who.pk, **typed(who))

    assert "It ends on 1 Apr 2026, with the change that is scheduled then" in page.text
