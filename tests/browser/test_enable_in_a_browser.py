"""Enable Product as a person does it, in a real browser with JavaScript."""

import re
from collections.abc import Callable, Iterator

import pytest
import time_machine
from playwright.sync_api import Locator, Page, expect

from billing_admin.flows.renew import catch_up
from catalog.models import Plan
from tests.builders import access, allowance, fee, on, plan, pro, seats, the_subscription, totals, use
from tests.instants import APRIL_1, day

MID_MARCH = day("2026-03-16T12:00")  # half of March

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def mid_march() -> Iterator[None]:
    with time_machine.travel(MID_MARCH, tick=False):
        yield


@pytest.fixture
def acme():
    """On Pro since the first of March: $50 a month, 100 credits of which 78 are used."""
    who = on(pro())
    use(who, 78)
    return who


@pytest.fixture
def page(signed_in: Callable[..., Page], mid_march, acme) -> Iterator[Page]:
    """Signed in, on Acme's page."""
    page = signed_in(width=1440)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(f"/customers/customer/{acme.pk}/")
    yield page
    page.close()
    assert not broken


def change_pro(page: Page) -> None:
    page.get_by_role("link", name=re.compile("^Change")).first.click()
    expect(page.get_by_role("heading", name="What happens")).to_be_visible()


def happens(page: Page) -> Locator:
    return page.locator("#happens")


def reason(page: Page) -> Locator:
    return page.get_by_role("textbox", name=re.compile("^Reason"))


def test_a_custom_plan_from_the_customer_page_to_the_changed_balance(page: Page, acme):
    """A-01"""
    page.get_by_role("link", name="Enable Product").click()
    page.get_by_label("Find a plan").fill("pro")
    page.get_by_role("link", name=re.compile("^Pro")).click()
    expect(happens(page)).to_contain_text("Nothing changes yet")

    page.get_by_label(re.compile("^Credits: included")).fill("250")

    expect(happens(page)).to_contain_text("22 of 100 left → 172 of 250 left")
    expect(happens(page)).to_contain_text("only features change")
    expect(happens(page)).to_contain_text("$0.00")
    expect(page.locator(".items__cell.is-changed .items__was")).to_have_text("was 100")
    reason(page).fill("Support case 412: promised 250 credits")
    page.get_by_role("button", name="Enable custom plan for Acme Robotics").click()

    expect(page.get_by_text("Acme Robotics is on a custom Pro now. Nothing was charged.")).to_be_visible()
    expect(page.locator("body")).to_contain_text("172 of 250 left")
    assert access(acme, now=MID_MARCH).remaining == 172
    assert totals(acme) == [5000]


def test_a_higher_price_with_its_invoice(page: Page, acme):
    """A-04"""
    change_pro(page)
    page.get_by_label("Base fee: amount in USD").fill("70")

    expect(happens(page)).to_contain_text("higher price")
    expect(happens(page)).to_contain_text("−$25.00")
    expect(happens(page)).to_contain_text("$35.00")
    expect(page.get_by_role("radio", name=re.compile("^Now"), checked=True)).to_be_visible()
    reason(page).fill("more seats from April")
    page.get_by_role("button", name="Enable custom plan for Acme Robotics").click()

    expect(page.get_by_text("$10.00 was invoiced.")).to_be_visible()
    number = acme.invoices.newest().first().number
    expect(page.get_by_role("link", name=number).first).to_be_visible()
    assert totals(acme) == [5000, 1000]


def schedule_for_less(page: Page) -> None:
    change_pro(page)
    page.get_by_label("Base fee: amount in USD").fill("30")
    reason(page).fill("goodwill")
    page.get_by_role("button", name="Schedule custom plan for 1 Apr 2026").click()
    expect(page.get_by_text("changes to a custom Pro on 1 Apr 2026. Nothing was charged.")).to_be_visible()


def test_a_lower_price_is_scheduled_and_withdrawn(page: Page, acme):
    """A-15"""
    schedule_for_less(page)

    page.get_by_role("link", name="Withdraw").click()
    expect(page.get_by_text("will not happen")).to_be_visible()
    page.get_by_role("button", name="Withdraw the change").click()

    expect(page.get_by_role("link", name="Withdraw")).to_have_count(0)
    expect(page.get_by_text("Acme Robotics stays on Pro;")).to_be_visible()
    assert the_subscription(acme).next_phase(MID_MARCH) is None


def test_a_lower_price_is_scheduled_and_carried_out_at_its_date(page: Page, acme):
    """A-15"""
    schedule_for_less(page)

    catch_up(acme, now=APRIL_1)

    assert totals(acme) == [5000, 3000]
    page.reload()
    expect(page.locator("body")).to_contain_text("$30.00 / month")


def test_refusals_stand_at_their_cell_while_the_rest_stays_as_typed(page: Page):
    """A-14"""
    change_pro(page)
    reason(page).fill("a long story")
    amount = page.get_by_label("Base fee: amount in USD")

    amount.fill("-5")

    expect(page.locator("#items-editor .desk-error")).to_have_text(
        "A fee cannot be negative. Give a credit or a coupon instead."
    )
    expect(amount).to_be_focused()
    expect(amount).to_have_value("-5")
    expect(page.locator("#enable-button")).to_be_disabled()
    amount.fill("55")
    expect(page.locator("#items-editor .desk-error")).to_have_count(0)
    expect(page.locator("#enable-button")).to_be_enabled()
    expect(reason(page)).to_have_value("a long story")


def test_a_feature_is_added_in_the_editor_and_the_preview_follows(page: Page):
    """A-03"""
    seats(10)
    change_pro(page)

    page.get_by_text("Add item").click()
    page.get_by_role("button", name=re.compile("^.*Seats")).click()

    expect(happens(page)).to_contain_text("Seats")
    page.get_by_label(re.compile("^Seats: included")).fill("10")
    expect(happens(page)).to_contain_text("no access → 0 of 10 in use")
    page.get_by_role("button", name="Back to standard", exact=True).click()
    expect(happens(page)).to_contain_text("Nothing changes yet")


def test_another_plan_is_chosen_and_enabled_by_keyboard_alone(page: Page, acme):
    """A-22"""
    plan("team", fee(200), allowance(500))
    page.get_by_role("link", name="Enable Product").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Find a plan")).to_be_focused()
    page.keyboard.type("team")
    page.keyboard.press("Enter")
    expect(happens(page)).to_contain_text("500 of 500 left")

    expect(page.locator("#enable-button")).to_be_visible()
    page.locator("#enable-button").focus()
    page.keyboard.press("Enter")

    expect(page.get_by_text("Acme Robotics is on Team now.")).to_be_visible()
    assert the_subscription(acme).phase_at(MID_MARCH).version.plan == Plan.objects.get(key="team")
