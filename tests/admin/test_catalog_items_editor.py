"""The items editor: what is typed becomes items, refusals stand at their cell, differences are marked."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.http import QueryDict

from billing_admin.items import ItemsForm
from billing_admin.typed import to_number
from catalog.charges import Price
from catalog.models import Plan
from catalog.rollovers import Rollover
from catalog.terms import ItemTerms
from tests import builders as a
from tests.admin.catalog_desk import row, staff, typed

pytestmark = pytest.mark.django_db


def form(plan: Plan, *items: ItemTerms | dict[str, Any], standard: bool = False, **more: str) -> ItemsForm:
    data = QueryDict(mutable=True)
    for name, value in typed(*items, **more).items():
        data.setlist(name, value if isinstance(value, list) else [value])
    shown = plan.current_version.terms() if plan.current_version else None
    return ItemsForm(data, plan=plan, items=shown.items if shown else (), standard=shown if standard else None)


def errors(of: ItemsForm) -> list[dict[str, str]]:
    of.is_valid()
    return [r.errors for r in of.rows]


def test_what_is_shown_means_what_it_was_made_from():
    items = (
        a.fee("49.995", quantity=3),
        a.allowance("12.5", soft=True, max_overage=500, calendar=True),
        a.allowance(None, of="calls"),
        a.seats(),
        a.switch(),
        a.static("unlimited"),
    )
    plan = a.plan("pro", *items)

    typed_again = form(plan, *plan.current_version.terms().items)

    assert typed_again.is_valid(), errors(typed_again)
    assert tuple(typed_again.items) == plan.current_version.terms().items


def test_a_price_per_thousand_is_kept_exactly_per_unit():
    plan = a.plan("api", a.fee(0), published=False)

    filled = form(plan, row(a.allowance(0, of="tokens"), price="0.002", per="1000"))

    assert filled.is_valid()
    assert filled.items[0].price == Price(rate=Decimal("0.000002"))
    assert filled.items[0].price.per == 1000


@pytest.mark.parametrize(
    ("text", "number"),
    [("10,000", "10000"), ("$50", "50"), ("−5.5", "-5.5"), (" 1 000 ", "1000"), (".5", "0.5"), ("0", "0")],
)
def test_numbers_are_read_as_people_write_them(text: str, number: str):
    assert to_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["1,5", "ten", "NaN", "1e9", "Infinity", "-", "1.2.3", "١٠"])
def test_what_is_no_number_is_refused_and_kept_as_typed(text: str):
    plan = a.pro()

    filled = form(plan, row(a.allowance(), included=text))

    assert "is not a number" in errors(filled)[0]["included"]
    assert filled.rows[0].typed["included"] == text


def test_every_wrong_cell_is_named_at_once():
    """A-14"""
    plan = a.pro()

    filled = form(
        plan,
        row(a.fee(50), amount="-3"),
        row(a.allowance(), included="-1"),
        row(a.allowance(10, of="calls", price="1"), price="-0.5"),
        row(a.static(), value=""),
    )

    assert [set(found) for found in errors(filled)] == [{"price"}, {"included"}, {"price"}, {"included"}]


def test_an_unknown_feature_is_refused_at_its_line():
    """A-14"""
    plan = a.pro()

    filled = form(plan, row(a.allowance()) | {"feature": "gone", "key": "gone"})

    assert errors(filled) == [{"name": "There is no feature 'gone'."}]


def test_the_same_feature_twice_is_refused_at_the_second_line():
    """Y-07"""
    plan = a.pro()

    filled = form(plan, a.allowance(), row(a.allowance()) | {"key": "credits-2"})

    assert "on the plan already" in errors(filled)[1]["name"]


def test_a_feature_reserved_for_another_product_is_refused():
    """Y-06"""
    plan = a.pro()
    feature = a.feature("gpu", type="boolean")
    feature.product = a.product("hardware")
    feature.save()

    filled = form(plan, a.switch("gpu"))

    assert "reserved for another product" in errors(filled)[0]["name"]


def test_a_quantity_that_is_no_whole_number_is_refused():
    """Y-33"""
    assert "whole number" in errors(form(a.pro(), row(a.fee(10), quantity="1.5")))[0]["price"]


def test_a_fee_without_an_amount_is_refused():
    """Y-34"""
    assert "needs an amount" in errors(form(a.pro(), row(a.fee(10), amount="")))[0]["price"]


def test_too_many_decimals_and_too_large_numbers_are_refused_before_the_database():
    plan = a.pro()

    filled = form(plan, row(a.allowance(), included="0.1234567"), row(a.fee(1), amount="9" * 13))

    assert errors(filled) == [{"included": "At most 6 decimals."}, {"price": "This number is too large."}]


def test_a_key_that_nobody_could_have_been_given_is_refused():
    assert "cannot be used" in errors(form(a.pro(), row(a.fee(10), key="<b>")))[0]["name"]


def test_lines_without_a_key_get_one_of_their_own():
    plan = a.pro()

    filled = form(plan, row(a.fee(10), key="", name="Set up"), row(a.fee(5), key="", name="Set up"), a.fee(1))

    assert filled.is_valid()
    assert [item.key for item in filled.items] == ["set-up", "set-up-2", "base"]


def test_unlimited_wins_over_a_number_left_in_the_cell():
    filled = form(a.pro(), row(a.allowance(), included="100", unlimited="on"))

    assert filled.is_valid()
    assert (filled.items[0].included, filled.items[0].unlimited) == (None, True)


def test_the_order_of_the_lines_is_the_order_of_the_items():
    filled = form(a.pro(), a.allowance(), a.fee(50))

    assert filled.is_valid()
    assert [item.key for item in filled.items] == ["credits", "base"]


def test_a_cell_that_differs_from_the_standard_is_marked_and_says_what_it_was():
    filled = form(a.pro(), a.fee(50), row(a.allowance(), included="250"), standard=True)

    changed = filled.rows[1]

    assert [name for name, differs in changed.changed.items() if differs] == ["included"]
    assert changed.was["included"] == "100"
    assert not filled.rows[0].is_changed


def test_another_spelling_of_the_same_number_is_no_difference():
    filled = form(a.pro(), row(a.fee(50), amount="50"), row(a.allowance(), included="100.0"), standard=True)

    assert not filled.differs


def test_a_line_taken_off_is_still_named():
    filled = form(a.pro(), a.fee(50), standard=True)

    assert [(gone.label, gone.text) for gone in filled.gone] == [("Credits", "100")]


def test_back_to_standard_puts_everything_back():
    filled = form(a.pro(), row(a.fee(9)), a.switch(), standard=True, **{"items-act": "standard:"})

    assert filled.acted and not filled.differs


def test_a_button_of_the_editor_never_saves():
    filled = form(a.pro(), a.fee(50), **{"items-act": "up:r0"})

    assert not filled.is_valid()


def test_buttons_move_add_and_remove_lines_without_losing_what_was_typed():
    plan = a.pro()
    a.feature("calls")
    lines = (row(a.fee(50), amount="oops"), row(a.allowance(), included="7"))

    moved = form(plan, *lines, **{"items-act": "down:r0"})
    added = form(plan, *lines, **{"items-act": "add:calls"})
    removed = form(plan, *lines, **{"items-act": "remove:r1"})

    assert [r.label for r in moved] == ["Credits", "Base fee"]
    assert moved.rows[1].typed["amount"] == "oops"
    assert [r.label for r in added] == ["Base fee", "Credits", "Calls"]
    assert [r.label for r in removed] == ["Base fee"]


def test_a_new_line_resets_with_the_plan_unless_it_is_a_level():
    plan = a.plan("pro", a.fee(50), cadence="P3M")
    a.feature("calls")
    a.feature("desks", usage="allocated")

    added = form(plan, cadence="P3M", **{"items-act": "add:calls"})
    level = form(plan, cadence="P3M", **{"items-act": "add:desks"})

    assert added.rows[0].typed["reset"] == "P3M"
    assert level.rows[0].typed["reset"] == "never"


def test_prices_of_a_mirrored_plan_stay_whatever_is_sent():
    """P-42"""
    plan = a.plan("mirror", a.fee(50), a.allowance(100, price="0.5"), kind="stripe")

    filled = form(plan, row(a.fee(1)), row(a.allowance(200, price="0.5"), price="9"))

    assert filled.is_valid()
    assert (filled.items[0].amount, filled.items[1].price) == (Decimal(50), Price(rate=Decimal("0.5")))
    assert filled.items[1].included == 200


def test_the_editor_redraws_itself_for_htmx():
    plan = a.pro()
    a.feature("calls")
    standard = plan.current_version_id

    page = staff("Read-only").post(
        f"/catalog/plan/{plan.pk}/items/?prefix=deal&standard={standard}",
        typed(row(a.fee(50), amount="60"), prefix="deal") | {"deal-act": "add:calls"},
    )

    html = page.content.decode()
    assert 'id="deal-editor"' in html and 'value="60"' in html and "was $50.00 / month" in html
    assert "data-focus" in html


def test_what_is_typed_is_escaped():
    page = staff().post(
        f"/catalog/plan/{a.pro().pk}/items/", typed(row(a.fee(50), amount='"><script>')) | {"items-act": "up:r0"}
    )

    assert b"<script>" not in page.content


def rolling() -> ItemTerms:
    return replace(a.allowance(100), rollover=Rollover("P1M", Decimal(50), Decimal("12.5")), keeps_overage=True)


def test_what_becomes_of_the_rest_is_shown_and_read_again():
    plan = a.plan("pro", rolling(), replace(a.allowance(10, of="calls"), rollover=Rollover("P14D")))
    stored = plan.current_version.terms().items

    again = form(plan, *stored, standard=True)

    assert again.is_valid(), errors(again)
    assert tuple(again.items) == stored
    assert not again.differs


@pytest.mark.parametrize(
    ("item", "changed", "field"),
    [
        (rolling, {"roll_most": "0"}, "roll_most"),
        (rolling, {"roll_most": "many"}, "roll_most"),
        (rolling, {"roll_percent": "2000"}, "roll_percent"),
        (rolling, {"rolls": ""}, "rolls"),
        (rolling, {"rolls": "P5D"}, "rolls"),
        (rolling, {"included": "", "unlimited": "on"}, "rolls"),
        (a.allowance, {"limit": "soft", "price": "0.5", "keeps_overage": "on"}, "keeps_overage"),
    ],
)
def test_a_rollover_that_cannot_be_is_refused_at_its_field(item, changed: dict[str, str], field: str):
    typed_again = form(a.pro(), row(item(), **changed))

    assert [list(cells) for cells in errors(typed_again)] == [[field]]
    assert typed_again.rows[0].rest_open and not typed_again.rows[0].unfolded


def test_what_never_resets_leaves_the_fields_of_the_rest_out():
    typed_again = form(a.pro(), row(rolling(), reset="never"))

    assert typed_again.is_valid(), errors(typed_again)
    assert (typed_again.items[0].rollover, typed_again.items[0].keeps_overage) == (None, False)


def test_a_rollover_that_differs_from_the_standard_is_marked_with_what_it_was():
    plan = a.plan("pro", replace(a.allowance(100), rollover=Rollover("P1M", Decimal(50))))

    [differing] = form(plan, row(plan.current_version.terms().items[0], roll_most="60"), standard=True).rows

    assert differing.changed["reset"]
    assert differing.was["reset"] == "monthly, up to 50 roll over for 1 month"


def test_the_editor_and_the_plan_page_say_what_rolls_over():
    plan = a.plan("pro", rolling())

    edit = staff().get(f"/catalog/plan/{plan.pk}/edit/").content.decode()
    page = staff().get(f"/catalog/plan/{plan.pk}/change/").content.decode()

    assert 'name="items-r0-roll_most" value="50"' in edit and "rolls over, overage kept" in edit
    assert "up to 50 and 12.5 % roll over for 1 month" in page and "overage kept" in page
