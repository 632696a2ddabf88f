"""Customers are moved to another version as a person does it: mapped, looked at, followed while a real worker moves
them, and one of them taken back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from billing_admin import tasks
from billing_admin.flows.migrate_order import Order, with_proposed
from catalog.models import Plan
from customers.models import Customer, MigrationRow, PlanMigration
from tests import builders as a
from tests.browser.conftest import the_dialog
from tests.workers.conftest import Workers, workers  # noqa: F401  a fixture

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def pro(now: datetime) -> Plan:
    """Three customers on Pro at $50 with support at $10; the next version asks $65 and has no support."""
    plan = a.plan("pro", a.fee(50), a.fee(10, key="support"), a.allowance(100))
    for name in ("Acme Robotics", "Bolt Logistics", "Coil Energy"):
        a.on(plan, name=name, since=now - timedelta(days=3))
    a.new_version(plan, a.fee(65), a.allowance(250))
    return plan


@pytest.fixture
def worker(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> Workers:  # noqa: F811  the fixture
    """A worker of its own that carries migrations out."""
    monkeypatch.setattr(tasks.carry_out_migration, "queue", workers.queue, raising=False)
    monkeypatch.setattr(tasks.carry_out_migration, "_exec_options", None)  # which remembers the queue
    workers.start()
    return workers


def next_version(who: Customer, now: datetime) -> int | None:
    phase = a.the_subscription(who).next_phase(now)
    return phase.version.number if phase else None


def test_customers_are_mapped_looked_at_moved_by_a_worker_and_one_taken_back(
    signed_in: SignIn, pro: Plan, worker: Workers, now: datetime
):
    """L-24, L-25, L-29"""
    page = signed_in()
    page.goto(f"/catalog/plan/{pro.pk}/change/?version=1")
    page.get_by_role("link", name="Move customers …").click()
    expect(page.get_by_label("Now", exact=False).first).to_be_disabled()

    page.get_by_role("button", name="See what would happen").click()
    expect(page.locator("#id_map-support_error")).to_contain_text("or drop it on purpose")
    page.get_by_label("Base fee (support)").select_option(label="is dropped")
    page.get_by_role("button", name="See what would happen").click()
    expect(page.locator(".mig-sums")).to_contain_text("+$15.00")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_label("Reason").fill("new list prices")
    page.get_by_role("button", name="Move 3 customers at their next billing cycle").click()

    progress = page.locator("#migration")
    expect(progress).to_contain_text("Finished")
    expect(progress).to_contain_text("3 of 3")
    expect(page.locator("tbody tr", has_text="Bolt")).to_contain_text("Scheduled")
    page.get_by_role("link", name="Take back Bolt Logistics").click()
    box = the_dialog(page)
    expect(box).to_contain_text("Bolt Logistics stays on v1")
    box.get_by_label("Reason").fill("promised the old price")
    box.get_by_role("button", name="Take back").click()

    expect(page.locator("tbody tr", has_text="Bolt")).to_contain_text("Taken back")
    versions = {who.name: next_version(who, now) for who in Customer.objects.order_by("name")}
    assert versions == {"Acme Robotics": 2, "Bolt Logistics": None, "Coil Energy": 2}


def begun(plan: Plan, now: datetime) -> PlanMigration:
    """One that nobody carries out yet."""
    versions = {v.number: v for v in plan.versions.with_items()}
    order = with_proposed(Order(versions[1], versions[2]))
    made = PlanMigration.objects.create(
        plan=plan,
        from_version=order.from_version,
        to_version=order.to_version,
        mappings=[mapping.to_json() for mapping in order.mappings],
        chosen=order.chosen.to_json(),
        state=PlanMigration.State.RUNNING,
        reason="new list prices",
        created_by="ops",
        created_at=now,
        started_at=now,
    )
    MigrationRow.objects.bulk_create(
        MigrationRow(migration=made, customer=who, subscription=a.the_subscription(who))
        for who in Customer.objects.all()
    )
    return made


def test_the_page_follows_a_migration_and_stops_asking_once_it_is_finished(signed_in: SignIn, pro: Plan, now: datetime):
    migration = begun(pro, now)
    page = signed_in()
    page.goto(f"/migrations/{migration.public_id}/")
    expect(page.locator("#migration")).to_contain_text("0 of 3")

    migration.rows.filter(customer__name="Acme Robotics").update(state="scheduled")
    expect(page.locator("#migration")).to_contain_text("1 of 3")
    migration.rows.update(state="scheduled")
    PlanMigration.objects.update(state="finished")

    expect(page.locator("#migration")).to_contain_text("Finished")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2_500)
    assert not [url for url in asked if "progress" in url]


def test_a_migration_is_held_by_keyboard_and_goes_on_without_javascript_on_a_phone(
    signed_in: SignIn, pro: Plan, now: datetime
):
    migration = begun(pro, now)
    page = signed_in()
    page.goto(f"/migrations/{migration.public_id}/")
    page.get_by_role("link", name="Pause").press("Enter")
    box = the_dialog(page)
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    page.get_by_role("link", name="Pause").press("Enter")
    the_dialog(page)
    page.keyboard.type("support is busy")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#migration")).to_contain_text("Paused")

    phone = signed_in(width=390, javascript=False)
    phone.goto(f"/migrations/{migration.public_id}/")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.get_by_role("link", name="Resume").click()
    phone.get_by_role("button", name="Resume the migration").click()

    expect(phone.locator("#migration")).to_contain_text("Running")
    expect(phone.get_by_role("link", name="Look again")).to_be_visible()
