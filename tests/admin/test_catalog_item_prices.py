"""Prices in the items editor: every charge model is typed, checked at its cell, compared and tried on a quantity."""

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.http import QueryDict

from billing_admin.items import ItemsForm
from catalog.charges import GRADUATED, PACKAGE, PERCENTAGE, STAIRSTEP, VOLUME, Price, Tier
from catalog.models import Plan
from catalog.publish import open_draft, publish, write_conditions
from catalog.terms import ALLOCATED, CANCEL, IN_ADVANCE, IN_ARREARS, INSTANT, NEXT_CYCLE, Conditions, ItemTerms
from tests import builders as a
from tests.admin.catalog_desk import row, staff, typed
from tests.admin.test_catalog_items_editor import errors, form
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db

D = Decimal
GRADED = Price(GRADUATED, tiers=(Tier(D(10000), D("0.001")), Tier(None, D("0.0008"))))


def use(price: Price | None = GRADED, **changes: Any) -> ItemTerms:
    return replace(a.allowance(0, of="calls", soft=True), price=price, **changes)


def seats(price: Price) -> ItemTerms:
    return ItemTerms(
        key="seats", feature=a.feature("seats", usage=ALLOCATED).terms(), included=D(5), limit="soft", price=price
    )


def tried(item: ItemTerms, *, plan: Plan | None = None, **changed: Any) -> str:
    """What the page answers when a price is tried on a quantity."""
    page = staff("Read-only").post(
        f"/catalog/plan/{(plan or a.pro()).pk}/items/example/?prefix=items&row=r0", typed(row(item, **changed))
    )
    return " ".join(page.content.decode().split())


@pytest.mark.parametrize(
    "item",
    [
        lambda: use(Price(rate=D("0.000002"), per=1000, line_min=D(5), line_max=D(90))),
        lambda: use(Price(PACKAGE, rate=D(10), pack=D(100)), term=IN_ADVANCE, on_decrease=NEXT_CYCLE),
        lambda: use(GRADED, cadence="P1M"),
        lambda: use(Price(GRADUATED, per=1000, tiers=(Tier(D(5), D("0.002"), D(1)), Tier(None, D("0.0015"))))),
        lambda: use(Price(VOLUME, pack=D(100), tiers=(Tier(D(500), D(10)), Tier(None, D(5))))),
        lambda: use(Price(STAIRSTEP, tiers=(Tier(D(10), flat=D(0)), Tier(None, flat=D(20))))),
        lambda: use(
            Price(PERCENTAGE, percent=D("2.9"), fixed=D("0.3"), transaction_min=D("0.5"), transaction_max=D(9))
        ),
        lambda: use(Price(PACKAGE, rate=D(10), pack=D(100)), term=IN_ADVANCE, cadence="P0D", reset="never"),
        lambda: seats(Price(VOLUME, tiers=(Tier(D(10), D(12)), Tier(None, D(8))))),
        lambda: replace(a.fee(10), term=IN_ARREARS),
    ],
)
def test_every_price_that_is_shown_means_what_it_was_made_from(item):
    plan = a.plan("pro", item(), cadence="P3M")
    stored = plan.current_version.terms().items

    again = form(plan, *stored, cadence="P3M")

    assert again.is_valid(), errors(again)
    assert tuple(again.items) == stored
    assert not form(plan, *stored, cadence="P3M", standard=True).differs


def test_fields_of_another_model_are_left_aside():
    filled = form(a.pro(), row(use(GRADED), model="package", price="10", pack="100", percent="oops"))

    assert filled.is_valid(), errors(filled)
    assert filled.items[0].price == Price(PACKAGE, rate=D(10), pack=D(100))


def test_tiers_typed_per_thousand_are_kept_exactly_per_unit():
    filled = form(a.pro(), row(use(), tier_per="1000", up_to=["10,000", ""], unit=["2", "1.5"], flat=["", ""]))

    assert filled.is_valid(), errors(filled)
    assert [tier.unit for tier in filled.items[0].price.tiers] == [D("0.002"), D("0.0015")]


def test_a_wrong_tier_is_named_at_its_cell_past_rows_that_were_left_empty():
    """A-14"""
    tiers = {"up_to": ["10", "", "5", ""], "unit": ["1", "", "1", "-1"], "flat": ["", "", "", ""]}

    found = errors(form(a.pro(), row(use(), **tiers)))[0]

    assert set(found) == {"tiers.2.up_to", "tiers.3.unit"}
    assert "rising order" in found["tiers.2.up_to"]


def test_a_last_tier_with_an_end_is_refused():
    """A-14"""
    found = errors(form(a.pro(), row(use(), up_to=["10", "20"], unit=["1", "1"], flat=["", ""])))[0]

    assert "Leave the last bound empty" in found["tiers.1.up_to"]


def test_tiers_without_any_are_refused():
    """A-14"""
    assert set(errors(form(a.pro(), row(use(), up_to=["", ""], unit=["", ""], flat=["", ""])))[0]) == {"tiers"}


def test_a_number_that_cannot_be_read_is_kept_and_named_at_its_cell():
    """A-14"""
    filled = form(a.pro(), row(use(), up_to=["ten", ""], unit=["1", "1"], flat=["", ""]))

    assert "is not a number" in errors(filled)[0]["tiers.0.up_to"]
    assert filled.rows[0].tiers[0].up_to == "ten"


@pytest.mark.parametrize(
    ("item", "changed", "cell"),
    [
        (use, {"model": "package", "price": "", "pack": "10"}, "price"),
        (use, {"model": "package", "price": "1", "pack": "0"}, None),
        (use, {"model": "package", "price": "1", "pack": "0.5"}, "pack"),
        (use, {"model": "percentage", "percent": "101"}, "percent"),
        (use, {"model": "percentage"}, "percent"),
        (
            use,
            {"model": "percentage", "percent": "1", "transaction_min": "2", "transaction_max": "1"},
            "transaction_min",
        ),
        (use, {"model": "per_unit", "price": "", "term": "in_advance"}, "price"),
        (use, {"model": "per_unit", "price": "1", "line_min": "-1"}, "line_min"),
        (use, {"model": "surprise"}, "model"),
        (use, {"term": "instant"}, "term"),
        (use, {"cadence": "P0D"}, "cadence"),
    ],
)
def test_each_refusal_of_a_price_stands_at_its_cell_and_unfolds_it(item, changed, cell):
    """A-14, Y-10"""
    filled = form(a.pro(), row(item(), **changed))

    [found] = errors(filled)

    assert set(found) == ({cell} if cell else set())
    assert filled.rows[0].unfolded is (cell is not None and cell != "price")


def test_the_wallet_is_offered_on_billing_version_0_alone():
    """Y-10, Y-11"""
    plan = a.pro()
    assert INSTANT not in [choice.value for choice in form(plan, use()).rows[0].terms]

    plan.billing_version = 0

    filled = form(plan, row(use(), term=INSTANT))
    assert INSTANT in [choice.value for choice in filled.rows[0].terms]
    assert filled.is_valid() and filled.items[0].is_instant


@pytest.mark.parametrize(
    ("item", "cell"),
    [
        (lambda: a.switch(), "name"),
        (lambda: a.static(), "name"),
        (lambda: a.allowance(100, of="calls"), "name"),
        (lambda: use(replace(GRADED), included=D(5)), "included"),
    ],
)
def test_what_billing_version_0_cannot_give_is_refused_at_its_cell(item, cell):
    """Y-12"""
    legacy = a.plan("metered", a.instantly(), billing_version=0)

    [found] = errors(form(legacy, row(item())))

    assert cell in found


def test_a_level_has_neither_a_percentage_nor_a_choice_of_when():
    filled = form(a.pro(), row(seats(GRADED), term=IN_ARREARS))

    assert PERCENTAGE not in [choice.value for choice in filled.rows[0].models]
    assert filled.is_valid(), errors(filled)
    assert filled.items[0].is_seats and filled.items[0].term == ""


def test_what_a_change_of_quantity_costs_is_kept_for_what_is_bought_alone():
    bought = form(a.pro(), row(use(), term=IN_ADVANCE, on_increase=NEXT_CYCLE))
    used = form(Plan.objects.get(), row(use(), on_increase=NEXT_CYCLE))

    assert bought.is_valid() and used.is_valid()
    assert (bought.items[0].on_increase, used.items[0].on_increase) == (NEXT_CYCLE, "prorate")


def test_a_tier_is_added_above_the_last_one_and_taken_out_again():
    plan = a.pro()
    typed_row = row(use(), up_to=["10", ""], unit=["1", "oops"], flat=["", ""])

    added = form(plan, typed_row, **{"items-act": "tier:r0"})
    removed = form(plan, typed_row, **{"items-act": "untier:r0.0"})

    assert [tier.up_to for tier in added.rows[0].tiers] == ["10", "", ""]
    assert [tier.unit for tier in added.rows[0].tiers] == ["1", "", "oops"]
    assert added.rows[0].tiers[1].fresh and added.rows[0].unfolded
    assert [tier.unit for tier in removed.rows[0].tiers] == ["oops"]


@pytest.mark.parametrize("act", ["untier:r0.9", "untier:r0.x", "untier:r9.0", "tier:nope", "untier:"])
def test_a_button_for_a_tier_that_is_not_there_does_nothing(act):
    assert len(form(a.pro(), use(), **{"items-act": act}).rows[0].tiers) == 2


def test_a_tier_that_differs_from_the_standard_is_marked_and_says_what_it_was():
    plan = a.plan("pro", use())

    filled = form(plan, row(use(), unit=["0.002", "0.0008"]), standard=True)

    changed = filled.rows[0]
    assert [cell for cell, differs in changed.changed.items() if differs] == ["more"]
    assert changed.was["tiers"] == "up to 10,000: $0.001 / unit; over 10,000: $0.0008 / unit"


def test_a_tier_that_was_taken_out_is_a_difference():
    plan = a.plan("pro", use())

    assert form(plan, row(use(), up_to=[""], unit=["0.0008"], flat=[""]), standard=True).differs


@pytest.mark.parametrize(
    ("item", "changed", "words"),
    [
        (use, {"for": "12,000"}, "$11.60 = 10,000 × $0.001 + 2,000 × $0.0008"),
        (use, {"included": "2,000", "for": "14,000"}, "$11.60 = 10,000 × $0.001 + 2,000 × $0.0008 (2,000 included)"),
        (use, {"model": "per_unit", "price": "2", "per": "1000", "for": "500"}, "$1.00 = 500 × $2.00 per 1,000"),
        (
            use,
            {"model": "package", "price": "10", "pack": "100", "term": "in_advance", "for": "250"},
            "$30.00 = 3 packs of 100 × $10.00",
        ),
        (use, {"model": "percentage", "percent": "2.9", "fixed": "0.3"}, "$3.20 = 2.9 % of $100.00 + $0.30"),
        (use, {"line_min": "5", "for": "1"}, "$5.00 = 1 × $0.001 (at least $5.00 a period)"),
        (use, {"line_max": "5", "for": "12000"}, "$5.00 = 10,000 × $0.001 + 2,000 × $0.0008 (at most $5.00 a period)"),
        (lambda: seats(Price(rate=D(10))), {"for": "8"}, "$30.00 = 3 × $10.00 (5 included)"),
    ],
)
def test_a_price_is_tried_on_a_quantity_while_it_is_typed(item, changed, words):
    answer = tried(item(), **changed).partition("<p")[0]

    assert re.sub("<[^>]+>", "", answer).strip() == words


@pytest.mark.parametrize("changed", [{"up_to": ["5", "3"]}, {"unit": ["oops", "1"]}, {"for": "many"}, {"for": "-1"}])
def test_what_cannot_be_counted_with_says_so(changed):
    assert "not complete" in tried(use(), **changed)


def test_the_words_of_the_row_follow_what_is_typed():
    answer = tried(use(), model="stairstep", up_to=["10", ""], flat=["5", "9"])

    assert 'id="items-r0-words" hx-swap-oob="true">from $5.00, 2 steps' in answer
    assert "stairsteps, in arrears" in answer


def test_a_price_of_a_row_that_is_not_there_is_not_found():
    page = staff().post(f"/catalog/plan/{a.pro().pk}/items/example/?row=r7", typed(use()))

    assert page.status_code == 404


# Trial and commitment -------------------------------------------------------------------------------------------------


def test_a_trial_and_a_commitment_are_saved_with_the_draft():
    plan = a.pro()

    page = staff().post(
        f"/catalog/plan/{plan.pk}/edit/",
        typed(a.fee(50))
        | {"items-trial_days": "14", "items-trial_end": CANCEL, "items-commitment": "500", "do": "save"},
    )

    assert page.status_code == 302
    assert plan.versions.get(state="draft").terms().conditions == Conditions(14, CANCEL, D(500))


@pytest.mark.parametrize(
    ("field", "text"),
    [("trial_days", "1.5"), ("trial_days", "-1"), ("trial_days", "9999"), ("commitment", "-5"), ("commitment", "x")],
)
def test_a_trial_or_commitment_that_cannot_be_is_refused_at_its_field(field, text):
    filled = form(a.pro(), a.fee(50), **{f"items-{field}": text})

    assert not filled.is_valid()
    assert set(filled.errors) == {field}


def test_a_commitment_differs_from_the_standard():
    assert form(a.pro(), a.fee(50), a.allowance(), standard=True, **{"items-commitment": "5"}).differs


def test_an_editor_without_these_fields_keeps_the_trial_and_the_commitment():
    plan = a.pro()
    kept = Conditions(14, CANCEL, D(500))
    data = QueryDict(mutable=True)
    for name, value in typed(a.fee(50)).items():
        data.setlist(name, value if isinstance(value, list) else [value])

    filled = ItemsForm(data, plan=plan, conditions=kept)

    assert filled.is_valid()
    assert filled.proposal.conditions == kept


def test_the_plan_page_tells_each_tier_when_it_is_asked_for_and_the_conditions():
    plan = a.plan("pro", use(GRADED, term=IN_ADVANCE), published=False)
    write_conditions(plan.versions.get(), Conditions(14, CANCEL, D(500)))
    publish(plan.versions.get(), message="first", by="tests", now=MARCH_1)

    html = staff("Read-only").get(f"/catalog/plan/{plan.pk}/change/").content.decode()

    for words in ("prepaid", "over 10,000: $0.0008 / unit", "14 days free, then ended", "at least $500.00 a period"):
        assert words in html


def test_versions_that_differ_in_their_conditions_say_so():
    plan = a.pro()
    draft = open_draft(plan, by="tests")
    write_conditions(draft, Conditions(14))
    publish(draft, message="next", by="tests", now=MARCH_1)

    html = staff("Read-only").get(f"/catalog/plan/{plan.pk}/change/?version=2&compare=1").content.decode()

    assert "Trial and minimum: none → 14 days free, then billed" in html
