"""Which items can stand on a plan: when and how each may be charged."""

from dataclasses import replace
from decimal import Decimal

import pytest

from catalog.charges import GRADUATED, PACKAGE, PERCENTAGE, STAIRSTEP, VOLUME, Price, Tier
from catalog.items import InvalidItems, check_items
from catalog.models import Plan
from catalog.terms import ALLOCATED, IN_ADVANCE, IN_ARREARS, INSTANT, ItemTerms
from tests import builders as a

pytestmark = pytest.mark.django_db

D = Decimal
ANY = Price(rate=D(1))
TIERS = (Tier(D(10), D(1), D(5)), Tier(None, D(2)))


def plan_of(version: int = 1) -> Plan:
    plan = Plan.objects.filter(key="pro").first() or a.plan("pro", published=False)
    plan.billing_version = version
    return plan


def refusals(*items: ItemTerms, plan: Plan | None = None, cadence: str = "P1Y") -> list[tuple[str, str]]:
    try:
        check_items(plan or plan_of(), cadence, items)
    except InvalidItems as refused:
        return [(e.field, e.code) for e in refused.errors]
    return []


def use(price: Price | None = ANY, **changes: object) -> ItemTerms:
    return replace(a.allowance(None, of="calls", soft=True), unlimited=False, price=price, **changes)


def seats(price: Price = ANY, **changes: object) -> ItemTerms:
    level = a.feature("seats", usage=ALLOCATED).terms()
    return ItemTerms(key="seats", feature=level, included=D(5), limit="soft", price=price, **changes)


def test_instant_payment_is_refused_on_billing_version_1():
    """Y-10"""
    assert refusals(use(term=INSTANT)) == [("term", "instant_needs_version_0")]


@pytest.mark.parametrize("term", ["", INSTANT, IN_ADVANCE, IN_ARREARS])
def test_every_term_is_accepted_on_billing_version_0(term):
    """Y-11"""
    assert refusals(use(term=term), plan=plan_of(0)) == []


@pytest.mark.parametrize("item", ["allowance", "unlimited", "boolean", "static"])
def test_nothing_is_given_away_on_billing_version_0(item):
    """Y-12"""
    items = {
        "allowance": a.allowance(100),
        "unlimited": a.allowance(None),
        "boolean": a.switch(),
        "static": a.static(),
    }

    assert refusals(items[item], plan=plan_of(0)) == [("feature", "allowance_on_version_0")]


def test_priced_use_on_billing_version_0_includes_no_units():
    """Y-12"""
    assert refusals(use(included=D(5)), plan=plan_of(0)) == [("included", "allowance_on_version_0")]


def test_fees_and_priced_use_stand_on_billing_version_0():
    """Y-12"""
    assert refusals(a.fee(10), use(), plan=plan_of(0)) == []


def test_a_quantity_on_a_metered_price_is_refused():
    """Y-33"""
    assert refusals(use(quantity=5)) == [("quantity", "quantity_on_feature")]


@pytest.mark.parametrize("model", [PACKAGE, VOLUME, STAIRSTEP, GRADUATED])
def test_seats_may_have_any_price_of_units(model):
    tiers = (Tier(D(10), flat=D(5)), Tier(None, flat=D(9))) if model == STAIRSTEP else TIERS
    price = Price(PACKAGE, rate=D(10), pack=D(5)) if model == PACKAGE else Price(model, tiers=tiers)

    assert refusals(seats(price)) == []


def test_seats_are_paid_in_advance():
    assert refusals(seats(term=IN_ADVANCE)) == []
    assert refusals(seats(term=IN_ARREARS)) == [("term", "level_in_advance")]


def test_seats_never_reset():
    assert refusals(seats(reset="P1M")) == [("reset", "allocated_resets")]


@pytest.mark.parametrize("item", [seats, lambda price: use(price, term=IN_ADVANCE)])
def test_what_is_bought_cannot_cost_a_percentage(item):
    assert refusals(item(Price(PERCENTAGE, percent=D(2)))) == [("price.model", "percentage_ahead")]


def test_prepaid_units_may_last():
    assert refusals(use(term=IN_ADVANCE, reset="never")) == []


def test_use_in_arrears_needs_an_end_to_bill_at():
    assert refusals(use(reset="never")) == [("reset", "priced_never_resets")]


def test_prepaid_units_may_be_sold_once_and_then_last():
    assert refusals(use(term=IN_ADVANCE, cadence="P0D", reset="never")) == []
    assert refusals(use(term=IN_ADVANCE, cadence="P0D")) == [("reset", "once_resets")]


def test_use_is_never_billed_just_once():
    assert ("cadence", "unknown_cadence") in refusals(use(cadence="P0D"))


def test_a_price_is_billed_no_less_often_than_its_plan():
    assert refusals(use(cadence="P1Y"), cadence="P1M") == [("cadence", "longer_than_plan")]


def test_a_fee_may_be_asked_for_in_arrears_unless_it_is_paid_once():
    assert refusals(replace(a.fee(10), term=IN_ARREARS)) == []
    assert refusals(replace(a.fee(10, cadence="P0D"), term=IN_ARREARS)) == [("term", "once_in_arrears")]


def test_a_fee_is_never_taken_from_the_wallet():
    assert refusals(replace(a.fee(10), term=INSTANT), plan=plan_of(0)) == [("term", "instant_fee")]


def test_what_has_no_price_has_no_term_and_no_interval():
    assert refusals(replace(a.allowance(), term=IN_ADVANCE)) == [("term", "term_without_price")]
    assert refusals(replace(a.allowance(), cadence="P1M")) == [("cadence", "cadence_without_price")]


def test_every_wrong_cell_of_a_price_is_named():
    """A-14"""
    price = Price(GRADUATED, tiers=(Tier(D(10), D(-1)), Tier(D(5))))

    assert refusals(use(price)) == [
        ("price.tiers.0.unit", "negative_price"),
        ("price.tiers.1.up_to", "tier_order"),
        ("price.tiers.1.up_to", "tier_gap"),
    ]


def test_the_price_of_each_unit_is_the_price_cell():
    """A-14"""
    assert refusals(use(Price(rate=D(-1)))) == [("price", "negative_price")]


def test_an_unknown_way_to_prorate_is_refused():
    assert refusals(seats(on_increase="never")) == [("on_increase", "unknown_proration")]


@pytest.mark.parametrize(("item", "term"), [(a.fee(1), IN_ADVANCE), ("use", IN_ARREARS), ("seats", IN_ADVANCE)])
def test_fees_and_levels_are_usually_asked_for_in_advance_and_use_in_arrears(item, term):
    items = {"use": use, "seats": seats}
    assert (items[item]() if isinstance(item, str) else item).usual_term == term
