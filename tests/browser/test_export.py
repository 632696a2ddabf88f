"""Lists in a browser: narrow one, keep the filter, take it away as CSV; import rows and see what they would do."""

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from billing_admin.list_runs import write_exports
from customers.models import Customer
from tests import builders as a

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]
LIST = "admin:customers_customer_changelist"


def clock() -> datetime:
    return datetime.now(UTC)


def test_a_narrowed_list_is_exported_followed_and_downloaded(signed_in: SignIn, settings, tmp_path: Path):
    settings.EXPORT_FOLDER = tmp_path
    acme = a.customer("Acme Robotics")
    a.customer("Globex")
    page = signed_in()

    page.goto(reverse(LIST))
    page.fill("#id_q", "acme")
    page.click("button:has-text('Filter')")
    expect(page.locator("main, body").first).not_to_contain_text("Globex")
    page.click("text=Export CSV")
    expect(page.locator("#exports")).to_contain_text("Waiting")
    write_exports(clock=clock)

    expect(page.locator("#exports")).to_contain_text("Ready")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download Customers").click()
    rows = list(csv.DictReader(waiting.value.path().open()))
    assert [(row["customer_id"], row["name"]) for row in rows] == [(acme.customer_id, "Acme Robotics")]


def test_a_filter_is_kept_used_and_deleted(signed_in: SignIn):
    a.customer("Acme Robotics")
    page = signed_in()

    page.goto(reverse(LIST) + "?q=acme")
    page.click("text=Save this filter")
    expect(page.locator("dialog")).to_be_visible()
    page.fill("dialog [name=name]", "Robots")
    page.click("dialog button:has-text('Save filter')")
    expect(page.locator(".lst-chip")).to_have_count(1)
    page.goto(reverse(LIST))
    page.click(".lst-chip >> text=Robots")
    page.wait_for_url("**?q=acme")
    expect(page.locator(".lst-chip.is-on")).to_have_text("Robotsedit")

    page.get_by_role("link", name="Change the filter Robots").click()
    expect(page.locator("dialog")).to_be_visible()
    page.click("dialog >> text=Delete this filter")
    page.click("dialog button:has-text('Delete filter')")
    page.wait_for_url("**" + reverse(LIST))
    expect(page.locator(".lst-chip")).to_have_count(0)


def test_rows_are_imported_after_their_mistakes_are_mended(signed_in: SignIn):
    page = signed_in()
    page.goto(reverse("admin:import_new", args=["customers"]))

    page.fill("[name=rows]", "customer_id,name\nacme,Acme\n,Globex")
    page.fill("[name=reason]", "moved")
    page.click("button:has-text('Try it')")
    expect(page.locator("section[aria-labelledby=problems-title]")).to_contain_text("customer_id")
    page.fill("[name=rows]", "customer_id,name\nacme,Acme\nglobex,Globex")
    page.click("button:has-text('Try it')")
    page.click("text=Create customers: 2 rows")
    expect(page.locator("dialog")).to_be_visible()
    page.click("dialog button:has-text('Create customers: 2 rows')")

    expect(page.locator("#batch")).to_contain_text("2 done")
    assert set(Customer.objects.values_list("customer_id", flat=True)) == {"acme", "globex"}


def test_everybody_who_matches_is_given_units_and_they_are_taken_back(signed_in: SignIn):
    """L-30"""
    now = clock().replace(microsecond=0)
    plan = a.pro()
    people = [a.on(plan, name=name, since=now) for name in ("Acme", "Acme Two")]
    page = signed_in()

    page.goto(reverse(LIST) + "?q=acme")
    page.check("[name=all]")
    page.click("text=Give bonus units")
    page.select_option("[name=feature]", label="Credits")
    page.fill("[name=units]", "50")
    page.fill("[name=until]", "lasting")
    page.fill("[name=reason]", "the outage")
    page.click("button:has-text('Try it')")
    expect(page.locator("#batch")).to_contain_text("Credits: 150 left")
    page.click("text=Give bonus units: 2 rows")
    expect(page.locator("dialog")).to_be_visible()
    page.click("dialog button.desk-btn--primary")
    expect(page.locator("#batch")).to_contain_text("2 done")
    assert [a.left(who, now=clock()) for who in people] == [150, 150]

    page.click("text=Take the batch back")
    expect(page.locator("dialog")).to_be_visible()
    page.fill("dialog [name=reason]", "the wrong list")
    page.click("dialog button.desk-btn--danger")
    expect(page.locator("#batch")).to_contain_text("2 taken back")
    assert [a.left(who, now=clock()) for who in people] == [100, 100]


def test_who_is_ticked_on_one_page_goes_along_with_those_of_another(signed_in: SignIn):
    """L-30"""
    for name in ("Acme", "Globex", "Initech"):
        a.customer(name)
    page = signed_in()

    page.goto(reverse(LIST) + "?q=acme")
    page.get_by_label("Choose Acme").check()
    page.goto(reverse(LIST) + "?q=glob")
    expect(page.locator("[data-picked]")).to_contain_text("1 chosen on other pages")
    page.get_by_label("Choose Globex").check()
    page.click("text=Add a note")

    expect(page.get_by_role("heading", name="Add a note: 2 customers")).to_be_visible()
    page.goto(reverse(LIST) + "?q=acme")
    expect(page.get_by_label("Choose Acme")).not_to_be_checked()
