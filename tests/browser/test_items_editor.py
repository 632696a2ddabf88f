"""Prices in the items editor as a person types them: folded away, tried on a quantity, refused at their cell."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from playwright.sync_api import Page, expect

from catalog.charges import GRADUATED, VOLUME, Price, Tier
from catalog.models import Plan
from tests import builders as a

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]
D = Decimal


@pytest.fixture
def plan() -> Plan:
    tiers = Price(VOLUME, tiers=(Tier(D(10), D(12)), Tier(None, D(8))))
    return a.plan("pro", a.fee(50), a.allowance(0, price="0.002"), replace(a.seats(), price=tiers))


def edit(page: Page, plan: Plan) -> None:
    page.goto(f"/catalog/plan/{plan.pk}/edit/")
    expect(page.locator("#items-r1-more")).to_be_hidden()


def type_tiers(page: Page, *tiers: tuple[str, str]) -> None:
    for n, (upper, unit) in enumerate(tiers):
        page.locator("[name=items-r1-up_to]").nth(n).fill(upper)
        page.locator("[name=items-r1-unit]").nth(n).fill(unit)


def test_tiers_are_unfolded_by_keyboard_tried_while_typing_and_published(signed_in: SignIn, plan: Plan):
    page = signed_in()
    edit(page, plan)

    page.focus("[name=items-r1-unfolded]")
    page.keyboard.press("Space")
    page.select_option("#items-r1-model", GRADUATED)
    type_tiers(page, ("10,000", "0.001"), ("", "0.0008"))
    page.fill("#items-r1-for", "12,000")

    expect(page.locator("#items-r1-sum")).to_contain_text("$11.60 = 10,000 × $0.001 + 2,000 × $0.0008")
    expect(page.locator("#items-r1-words")).to_have_text("from $0.001 / unit, 2 tiers")
    page.get_by_label("What changes").fill("tiers")
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_text("is published")).to_be_visible()
    plan.refresh_from_db()
    assert plan.current_version.terms().item("credits").price == Price(
        GRADUATED, tiers=(Tier(D(10000), D("0.001")), Tier(None, D("0.0008")))
    )


def test_a_tier_is_added_without_losing_what_was_typed_and_its_refusal_stands_at_its_cell(
    signed_in: SignIn, plan: Plan
):
    page = signed_in()
    edit(page, plan)
    page.get_by_text("volume tiers, in advance").click()

    page.locator("[name=items-r2-unit]").nth(1).fill("7.5")
    page.locator("#items-r2-tier").press("Enter")
    expect(page.locator("[name=items-r2-up_to]")).to_have_count(3)
    expect(page.locator("[name=items-r2-up_to]").nth(1)).to_be_focused()
    page.keyboard.type("5")
    page.get_by_role("button", name="Save draft").click()

    expect(page.locator("#items-r2-more .desk-error")).to_have_text(
        "The tier before ends at 10: put tiers in rising order."
    )
    expect(page.locator("[name=items-r2-up_to]").nth(1)).to_have_attribute("aria-invalid", "true")
    expect(page.locator("[name=items-r2-unit]").nth(2)).to_have_value("7.5")


def test_a_deals_wrong_tier_is_named_at_its_cell_while_it_is_typed(signed_in: SignIn, plan: Plan):
    page = signed_in()
    page.goto(f"/customers/{a.customer().pk}/enable/?plan=pro")
    page.locator("#items-r2-way").click()

    page.locator("[name=items-r2-up_to]").nth(1).fill("3")

    expect(page.locator("#items-r2-more .items__tier .desk-error")).to_contain_text("rising order")
    expect(page.locator("#items-r2-sum")).to_contain_text("not complete")
    page.locator("[name=items-r2-up_to]").nth(1).fill("")
    page.locator("[name=items-r2-unit]").nth(1).fill("9")
    expect(page.locator("#items-r2-more .desk-error")).to_have_count(0)
    expect(page.locator("#items-r2-row")).to_have_class("items__row is-changed")


def test_without_javascript_a_tier_is_added_and_saved(signed_in: SignIn, plan: Plan):
    page = signed_in(javascript=False)
    edit(page, plan)
    page.locator(".items__unfold", has_text="volume tiers").click()

    page.locator("#items-r2-tier").click()
    page.locator("[name=items-r2-up_to]").nth(1).fill("50")
    page.locator("[name=items-r2-unit]").nth(1).fill("10")
    page.get_by_role("button", name="Save draft").click()

    expect(page.get_by_text("was saved")).to_be_visible()
    tiers = plan.versions.get(state="draft").terms().item("seats").price.tiers
    assert [tier.up_to for tier in tiers] == [10, 50, None]


@pytest.mark.parametrize("width", [390, 1440])
def test_unfolded_prices_are_not_wider_than_the_screen(signed_in: SignIn, plan: Plan, width: int):
    page = signed_in(width=width)
    edit(page, plan)

    for fold in page.locator(".items__unfold").all():
        fold.click()

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator("#items-r2-more")).to_be_visible()
