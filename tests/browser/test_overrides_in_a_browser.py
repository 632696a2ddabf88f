"""Overrides as a person gives them: one with an end, many by CSV after a dry run; also without JavaScript."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from django.urls import reverse
from playwright.sync_api import Page, expect

from catalog.models import Feature
from customers.models import Customer
from entitlements.models import FeatureOverride, Grant, OverrideBatch
from entitlements.override import override
from tests import builders as a

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def acme(now: datetime) -> Customer:
    """Ten days on Pro with 100 credits a month."""
    return a.on(a.pro(50), since=now - timedelta(days=10))


def address(who: Customer) -> str:
    return reverse("admin:customers_customer_change", args=[who.pk])


def in_days(now: datetime, days: int) -> str:
    return (now + timedelta(days=days)).date().isoformat()


def test_an_override_with_an_end_is_given_seen_and_ends_by_itself(signed_in: SignIn, acme: Customer, now: datetime):
    """L-48"""
    page = signed_in()
    page.goto(address(acme))
    panel = page.locator("section:has(#overrides-title)")

    page.get_by_role("link", name="Override feature").click()
    page.select_option("dialog [name=feature]", label="Credits")
    expect(page.locator("dialog [name=value]")).to_be_focused()
    page.fill("dialog [name=value]", "400")
    page.fill("dialog [name=until]", in_days(now, 5))
    expect(page.locator("#override-outcome")).to_contain_text("Credits 400 instead of 100; 400 left (was 100)")
    page.fill("dialog [name=reason]", "launch week")
    page.click("dialog button:has-text('Override feature')")
    page.wait_for_url("**" + address(acme))

    expect(panel).to_contain_text("Credits 400 instead of 100")
    expect(panel).to_contain_text("“launch week”")
    expect(page.locator(".cus-feature", has_text="Credits")).to_contain_text("400 of 400 left")
    with time_machine.travel(now + timedelta(days=6)):
        page.reload()
        expect(page.locator(".cus-feature", has_text="Credits")).to_contain_text("100 of 100 left")
        expect(panel.locator("summary")).to_contain_text("Past overrides")


def test_the_dialog_says_what_is_missing_and_keeps_what_was_typed(signed_in: SignIn, acme: Customer):
    """L-06, L-07"""
    page = signed_in()
    page.goto(address(acme))

    page.get_by_role("link", name="Override feature").click()
    page.select_option("dialog [name=feature]", label="Credits")
    expect(page.locator("dialog [name=value]")).to_be_focused()
    page.fill("dialog [name=value]", "lots")
    expect(page.locator("#override-outcome")).to_contain_text("is not a number")
    page.click("dialog button:has-text('Override feature')")

    expect(page.locator("#id_value_error")).to_contain_text("is not a number")
    expect(page.locator("#id_until_error")).to_contain_text("Say when it ends, or that it is permanent")
    expect(page.locator("#id_reason_error")).to_be_visible()
    expect(page.locator("dialog [name=value]")).to_have_value("lots")
    expect(page.locator("dialog [name=value]")).to_be_focused()


def test_what_holds_already_is_superseded_in_the_same_dialog(signed_in: SignIn, acme: Customer, now: datetime):
    """L-12"""
    credits = Feature.objects.get(slug="credits")
    override(acme, credits, Decimal(200), effective_until=None, reason="first deal", actor=a.STAFF, now=now)
    page = signed_in()
    page.goto(address(acme))

    page.get_by_role("link", name="Override feature").click()
    page.select_option("dialog [name=feature]", label="Credits")
    expect(page.locator("dialog [name=value]")).to_be_focused()
    page.fill("dialog [name=value]", "400")
    page.check("dialog [name=permanent]")
    page.fill("dialog [name=reason]", "better deal")
    expect(page.locator("#override-outcome")).to_contain_text("“first deal”")
    page.check("dialog [name=supersede]")
    page.click("dialog button:has-text('Override feature')")
    page.wait_for_url("**" + address(acme))

    expect(page.locator("section:has(#overrides-title) ul[aria-label=Features]")).to_contain_text("400")
    assert FeatureOverride.objects.get(units=200).superseded_by.units == 400


def test_an_override_is_given_and_revoked_without_javascript_on_a_phone(
    signed_in: SignIn, acme: Customer, now: datetime
):
    """L-08"""
    page = signed_in(width=390, javascript=False)
    page.goto(address(acme))

    page.get_by_role("link", name="Override feature").click()
    page.select_option("[name=feature]", label="Credits")
    page.fill("[name=value]", "400")
    page.fill("[name=until]", in_days(now, 5))
    page.fill("[name=reason]", "launch week")
    page.click("button:has-text('Override feature')")
    panel = page.locator("section:has(#overrides-title)")
    expect(panel).to_contain_text("instead of 100")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    panel.get_by_role("link", name="Revoke the override of Credits").click()
    page.fill("[name=reason]", "launch is over")
    page.click("button:has-text('Revoke override')")

    expect(panel).to_contain_text("No special prices and no overrides")


def test_units_are_given_with_their_place_in_the_burn(signed_in: SignIn, acme: Customer, now: datetime):
    page = signed_in()
    page.goto(address(acme))

    page.click("text=Give units")
    page.select_option("dialog [name=feature]", label="Credits")
    page.fill("dialog [name=units]", "500")
    page.fill("dialog [name=label]", "Support case 412")
    page.fill("dialog [name=until]", in_days(now, 5))
    expect(page.locator("#units-outcome li").first).to_contain_text("Support case 412 500 left")
    expect(page.locator("#units-outcome li").last).to_contain_text("Pro 100 left")
    page.fill("dialog [name=reason]", "outage")
    page.click("dialog button:has-text('Give units')")
    page.wait_for_url("**" + address(acme))

    expect(page.locator(".cus-feature", has_text="Credits")).to_contain_text("burns in this order")
    assert Grant.objects.get().units == 500


def test_many_are_overridden_by_csv_after_a_dry_run(signed_in: SignIn, acme: Customer, now: datetime):
    """L-30"""
    globex = a.on(a.reread(acme.subscriptions.get().product.plans.get()), since=now, name="Globex")
    page = signed_in()
    page.goto(reverse("admin:entitlements_featureoverride_changelist"))

    page.click("text=Override many")
    rows = f"customer_id,feature,value,until\n{acme.customer_id},credits,500,{in_days(now, 9)}\n"
    page.fill("[name=rows]", rows + f"{globex.customer_id},credits,many,{in_days(now, 9)}\nnobody,credits,5,permanent")
    page.fill("[name=reason]", "everybody who waited")
    page.click("text=Try it")
    expect(page.locator("section:has(#bad-title) tbody tr")).to_have_count(2)
    expect(page.locator("section:has(#good-title) tbody tr")).to_contain_text(["Acme"])
    assert not FeatureOverride.objects.exists()
    page.click("text=Give 1 override")

    expect(page.locator("#batch")).to_contain_text("1 of 1 rows")
    batch = OverrideBatch.objects.get()
    assert batch.overrides.get().customer == acme
    page.click("text=Revoke the batch")
    page.fill("dialog [name=reason]", "wrong list")
    page.click("dialog button:has-text('Revoke the batch')")
    expect(page.locator("#batch")).to_contain_text("Revoked on")
    assert a.left(acme, now=datetime.now(UTC)) == 100


def test_customers_that_are_ticked_in_their_list_are_overridden_together(
    signed_in: SignIn, acme: Customer, now: datetime
):
    """L-30"""
    page = signed_in()
    page.goto(reverse("admin:customers_customer_changelist"))

    page.check("[data-all=customer]")
    page.click("text=Override a feature")
    page.select_option("[name=feature]", label="Credits")
    expect(page.get_by_label("Units", exact=True)).to_be_visible()
    page.fill("[name=value]", "250")
    page.fill("[name=until]", in_days(now, 9))
    page.fill("[name=reason]", "everybody who waited")
    page.click("text=Try it")
    page.click("text=Give 1 override")

    expect(page.locator("#batch")).to_contain_text("Done")
    assert FeatureOverride.objects.get().units == 250


def test_a_long_batch_is_followed_by_a_progress_bar(signed_in: SignIn, acme: Customer, now: datetime):
    """L-30: the page asks again until the rows are done."""
    batch = OverrideBatch.objects.create(reason="outage", created_by="ops", created_at=now, total=4, done=1, rows=[])
    page = signed_in()
    page.goto(reverse("admin:override_batch", args=[batch.public_id]))
    expect(page.locator("#batch")).to_contain_text("1 of 4 rows")

    OverrideBatch.objects.filter(pk=batch.pk).update(done=3)
    expect(page.locator("#batch")).to_contain_text("3 of 4 rows")
    OverrideBatch.objects.filter(pk=batch.pk).update(done=4, finished_at=now)

    expect(page.locator("#batch")).to_contain_text("Done")
