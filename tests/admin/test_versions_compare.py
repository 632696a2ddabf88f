"""Versions beside each other field by field, who is on which, custom plans and their distance, what a new version
would say once."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from billing_admin.version_table import ADDED, CHANGED, REMOVED, SAME, compare_table
from catalog.charges import Price
from catalog.models import Feature, Plan
from catalog.rollovers import Rollover
from catalog.terms import _SHOWN, IN_FULL, ItemTerms, PlanTerms
from customers.models import Customer
from entitlements.override import override
from tests import builders as a
from tests.admin.catalog_desk import typed
from tests.admin.customer_desk import CustomerDesk, Page
from tests.instants import MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def compared(desk: CustomerDesk, plan: Plan, **query: Any) -> Page:
    return desk.get("catalog_plan_compare", plan.pk, **query)


def row_of(page: Page, key: str) -> Any:
    return next(row for row in page.answer.context["table"].rows if row.key == key)


def cell_of(page: Page, key: str, label: str) -> Any:
    return next(cell for cell in row_of(page, key).cells if cell.label == label)


# Field by field


def test_a_changed_field_shows_both_values_and_the_rest_of_the_item_is_not_marked(desk):
    """L-22"""
    plan = a.pro()
    a.new_version(plan, a.fee(50), a.allowance(250))

    page = compared(desk, plan, **{"from": 1, "to": 2})

    assert (cell_of(page, "credits", "Included").before, cell_of(page, "credits", "Included").after) == (
        ("100",),
        ("250",),
    )
    assert [cell.label for cell in row_of(page, "credits").cells if cell.is_changed] == ["Included"]


def test_added_and_removed_items_are_named_as_such(desk):
    plan = a.pro()
    a.new_version(plan, a.fee(50), a.switch())

    page = compared(desk, plan)

    assert {row.key: row.sign for row in page.answer.context["table"].rows} == {
        "base": SAME,
        "sso": ADDED,
        "credits": REMOVED,
    }


def test_items_that_are_the_same_are_folded_away_until_asked_for(desk):
    plan = a.pro()
    a.new_version(plan, a.fee(50), a.allowance(250))

    folded, whole = compared(desk, plan), compared(desk, plan, all=1)

    assert [row.key for row in folded.answer.context["rows"]] == ["credits"]
    assert "Show the 1 that is the same" in folded.text
    assert [row.key for row in whole.answer.context["rows"]] == ["base", "credits"]


def test_conditions_and_cadence_are_said_in_words(desk):
    plan = a.plan("pro", a.fee(50), trial_days=14, commitment="500")
    a.new_version(plan, a.fee(500, cadence="P1Y"), cadence="P1Y")

    about = {cell.label: (cell.before, cell.after) for cell in compared(desk, plan).answer.context["table"].about}

    assert about["Billed"] == (("every month",), ("every year",))
    assert about["Trial"] == (("14 days free, then billed",), ("14 days free, then billed",))
    assert about["Minimum"] == (("at least $500.00 a period",), ("at least $500.00 a period",))


def test_the_list_price_and_its_difference_are_money_with_a_real_minus(desk):
    plan = a.pro(50)
    a.new_version(plan, a.fee(40), a.allowance(100))

    page = compared(desk, plan)

    assert "$50.00" in page.text and "$40.00" in page.text and "−$10.00" in page.text


def test_the_page_says_what_the_difference_means_for_whoever_is_moved(desk):
    """L-24"""
    plan = a.pro()
    a.new_version(plan, a.fee(50), a.allowance(250))
    a.new_version(plan, a.fee(60), a.allowance(250))

    assert "Only features differ" in compared(desk, plan, **{"from": 1, "to": 2}).text
    assert "Prices differ" in compared(desk, plan, **{"from": 2, "to": 3}).text
    assert "Both say the same." in compared(desk, plan, **{"from": 2, "to": 2}).text


def test_without_being_asked_the_current_version_stands_beside_the_one_before(desk):
    plan = a.pro()
    a.new_version(plan, a.fee(60), a.allowance())
    a.new_version(plan, a.fee(70), a.allowance())

    shown = compared(desk, plan).answer.context

    assert (shown["before"].version.number, shown["after"].version.number) == (2, 3)


def test_a_custom_plan_stands_beside_its_base_with_its_customer(desk):
    """A-09"""
    plan = a.pro()
    a.enable(a.customer("Acme Robotics"), plan, a.fee(50), a.allowance(250))

    page = compared(desk, plan, **{"from": 1, "to": "custom-1"})

    assert "Acme Robotics · custom 1" in page.text
    assert cell_of(page, "credits", "Included").after == ("250",)


@pytest.mark.parametrize("asked", ["99", "x", "custom-99", "custom-x", "custom-99999999999999"])
def test_a_version_that_does_not_exist_is_not_found(desk, asked):
    plan = a.pro()

    assert compared(desk, plan, to=asked).status == 404


def test_a_plan_of_which_nothing_was_written_has_nothing_to_compare(desk):
    plan = a.plan("empty", published=False)
    plan.versions.all().delete()

    assert compared(desk, plan).status == 404


def test_comparing_asks_as_often_for_many_items_as_for_one(desk, django_assert_max_num_queries):
    plan = a.plan("pro", a.fee(50), *(a.allowance(n, of=f"feature-{n}") for n in range(1, 13)))
    a.new_version(plan, a.fee(60), *(a.allowance(n + 1, of=f"feature-{n}") for n in range(1, 13)))
    compared(desk, plan)

    with django_assert_max_num_queries(12):
        compared(desk, plan)


def test_whoever_may_look_at_plans_may_compare_them_and_is_not_offered_to_move_anybody(client):
    """A-53"""
    plan = a.pro()
    a.new_version(plan, a.fee(60), a.allowance())

    page = CustomerDesk(client, role="Read-only").get("catalog_plan_compare", plan.pk)

    assert page.status == 200 and "Move customers" not in page.text


def terms(item: ItemTerms) -> PlanTerms:
    return PlanTerms(plan_id=1, currency="USD", cadence="P1M", items=(item,))


CHANGES: dict[str, Any] = {
    "amount": Decimal(60),
    "quantity": 2,
    "cadence": "P1Y",
    "granted": Decimal(7),
    "value": "other",
    "reset": "P1D",
    "reset_anchor": "calendar",
    "limit": "soft",
    "max_overage": Decimal(5),
    "rollover": Rollover(lasts="P1M"),
    "keeps_overage": True,
    "price": Price(rate=Decimal("0.000001")),
    "term": "in_arrears",
    "on_increase": IN_FULL,
    "on_decrease": IN_FULL,
}


@pytest.mark.parametrize("field", _SHOWN)
def test_whatever_field_differs_marks_its_row(field):
    """No difference between two versions can hide: each field that is compared anywhere has a cell here."""
    old = a.fee(50) if field in ("amount", "quantity") else a.static("100") if field == "value" else a.prepaid()
    name = "included" if field == "granted" else field

    new = replace(old, **{name: CHANGES[field]})

    assert [row.sign for row in compare_table(terms(old), terms(new)).rows] == [CHANGED]


def test_a_new_name_of_an_item_is_a_difference_and_says_the_old_one(desk):
    plan = a.pro()
    a.new_version(plan, replace(a.fee(50), name="Platform fee"), a.allowance())

    assert row_of(compared(desk, plan), "base").was_called == "Base fee"


# The plan page


def on_page(desk: CustomerDesk, plan: Plan, **query: Any) -> Page:
    return desk.get("catalog_plan_change", plan.pk, **query)


def test_the_number_of_customers_on_a_version_leads_to_exactly_those(desk):
    plan = a.pro()
    a.on(plan, name="Acme")
    a.new_version(plan, a.fee(60), a.allowance())
    a.on(plan, name="Bolt")
    first = plan.versions.get(number=1)

    page = desk.get("customers_customer_changelist", version=first.pk)

    assert f"?version={first.pk}" in on_page(desk, plan).html
    assert [row.name for row in page.answer.context["rows"]] == ["Acme"]
    assert "Customers on Pro v1" in page.text


def test_a_custom_plan_says_what_it_costs_more_or_less_a_month_by_list(desk):
    """A-09"""
    plan = a.pro(50)
    a.enable(a.customer("Acme"), plan, a.fee(40), a.allowance(100))
    a.enable(a.customer("Bolt"), plan, a.fee(50), a.allowance(250))

    rows = {row.custom.customer.name: row for row in on_page(desk, plan).answer.context["customs"].rows}

    assert (rows["Acme"].price_difference, rows["Acme"].costs_less) == ("−$10.00", True)
    assert rows["Bolt"].price_difference == ""


def test_a_yearly_custom_price_is_compared_by_the_month(desk):
    """A-09"""
    plan = a.plan("pro", a.fee(1200, cadence="P1Y"), cadence="P1Y")
    a.enable(a.customer("Acme"), plan, a.fee(600, cadence="P1Y"))

    [row] = on_page(desk, plan).answer.context["customs"].rows

    assert row.price_difference == "−$50.00"


def test_custom_plans_go_on_on_the_next_page(desk, monkeypatch):
    """A-09"""
    monkeypatch.setattr("billing_admin.plan_page.CUSTOM_PLANS_SHOWN", 2)
    plan = a.pro()
    for n in range(3):
        a.enable(a.customer(f"Customer {n}"), plan, a.fee(40 + n), a.allowance(100))

    first = on_page(desk, plan).answer.context["customs"]
    second = on_page(desk, plan, customs_before=first.older).answer.context["customs"]

    assert [row.custom.customer.name for row in first.rows] == ["Customer 2", "Customer 1"]
    assert [row.custom.customer.name for row in second.rows] == ["Customer 0"]
    assert (first.total, second.total, second.older) == (3, 3, None)


def test_the_new_base_is_offered_only_to_whoever_was_made_from_another(desk):
    """A-09"""
    plan = a.pro()
    a.enable(a.customer("Acme"), plan, a.fee(40), a.allowance(100))
    before = on_page(desk, plan).text
    a.new_version(plan, a.fee(60), a.allowance())

    assert "Offer v" not in before
    assert "Offer v2" in on_page(desk, plan).text


def test_an_older_version_becomes_current_with_a_line_in_the_history(desk):
    """Y-46"""
    plan = a.pro()
    a.new_version(plan, a.fee(60), a.allowance())

    asked = desk.get("catalog_version_current", plan.pk, 1, dialog=True)
    done = desk.post("catalog_version_current", plan.pk, 1)

    assert "New subscriptions take v1 from now on. Nobody is moved." in asked.text
    assert done.went_on
    assert "v1" in desk.get("customers_operation_changelist").text


# What a new version would say once


def overridden(plan: Plan, names: list[str], units: int = 500) -> list[Customer]:
    credits = Feature.objects.get(slug="credits")
    found = [a.on(plan, name=name) for name in names]
    for who in found:
        override(who, credits, Decimal(units), effective_until=None, reason="launch", actor=a.STAFF, now=MARCH_1)
    return found


def test_the_same_override_on_three_customers_of_a_plan_suggests_a_new_version(desk):
    """L-46"""
    plan = a.pro()
    overridden(plan, ["Acme", "Bolt", "Coil"])

    page = on_page(desk, plan)

    assert "Credits 500 is overridden alike on 3 customers of this plan. A new version says it once" in page.text


def test_two_customers_with_the_same_override_suggest_nothing(desk):
    """L-46"""
    plan = a.pro()
    overridden(plan, ["Acme", "Bolt"])
    overridden(plan, ["Coil"], units=400)

    assert not on_page(desk, plan).answer.context["suggestions"]


def test_what_the_current_version_gives_already_is_not_suggested(desk):
    """L-46"""
    plan = a.pro()
    overridden(plan, ["Acme", "Bolt", "Coil"])
    a.new_version(plan, a.fee(50), a.allowance(500), now=MARCH_16)

    assert not on_page(desk, plan).answer.context["suggestions"]


# The new base for a custom plan


def offered(desk: CustomerDesk, who: Customer, plan: Plan) -> Page:
    return desk.get("enable_plan", who.pk, plan=plan.key, rebase=1)


def custom_on_v1(plan: Plan, *items: ItemTerms) -> Customer:
    who = a.customer("Acme")
    a.enable(who, plan, *items)
    return who


def test_the_new_base_comes_with_the_customers_own_changes_on_top(desk):
    """A-09"""
    plan = a.pro(50, credits=100)
    who = custom_on_v1(plan, a.fee(40), a.allowance(100))
    a.new_version(plan, a.fee(50), a.allowance(250))

    page = offered(desk, who, plan)

    shown = page.answer.context["page"]
    items = {item.key: item for item in shown.items.present}
    assert (items["base"].amount, items["credits"].included) == (40, 250)
    assert "Pro v2 with their own changes on top." in page.text
    assert "Credits: 100 → 250" in page.text


def test_where_both_changed_a_cell_the_page_says_whose_holds(desk):
    """A-09"""
    plan = a.pro(50)
    who = custom_on_v1(plan, a.fee(40), a.allowance(100))
    a.new_version(plan, a.fee(60), a.allowance(100))

    page = offered(desk, who, plan)

    assert "Base fee, price: their own ($40.00 / month) stays; the base has $60.00 / month." in page.text


def test_whoever_has_nothing_of_their_own_left_would_be_on_the_standard_version(desk):
    """A-09"""
    plan = a.pro(50, credits=100)
    who = custom_on_v1(plan, a.fee(50), a.allowance(250))
    a.new_version(plan, a.fee(50), a.allowance(250))

    assert "Nothing of their own is left" in offered(desk, who, plan).text


def test_enabling_the_offer_makes_a_custom_plan_of_the_new_base(desk):
    """A-09"""
    plan = a.pro(50, credits=100)
    who = custom_on_v1(plan, a.fee(40), a.allowance(100))
    a.new_version(plan, a.fee(50), a.allowance(250))
    page = offered(desk, who, plan)
    typed_ = typed(*page.answer.context["page"].items.present)
    said = typed_ | {"plan": "pro", "version": "2", "rebase": "1", "reason": "the better base", "quantity": "1"}
    looked = desk.post("enable_plan", who.pk, act="preview", **said)

    desk.post("enable_plan", who.pk, act="enable", confirmed=looked.answer.context["rows"].confirmed, **said)

    custom = who.custom_plans.first()
    assert custom is not None
    assert (custom.base_version.number, custom.version.items.get(key="base").amount) == (2, 40)
    assert a.left(who, now=MARCH_16) == 250


def test_a_customer_on_the_standard_plan_is_offered_nothing_to_rebase(desk):
    plan = a.pro()
    who = a.on(plan)

    assert "with their own changes on top" not in offered(desk, who, plan).text
