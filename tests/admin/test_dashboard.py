"""The first page: each number is what the list that it leads to adds up to."""

from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.urls import resolve

from billing_admin.coming import Kind
from billing_admin.flows.cancel import cancel
from billing_admin.models import ApprovalRequest
from catalog.money import format_minor
from customers.models import PlanMigration
from deals.models import Deal
from entitlements.override import override
from tests.admin.customer_desk import CustomerDesk, Page
from tests.builders import (
    STAFF,
    customer,
    enable,
    feature,
    fee,
    new_version,
    on,
    overuse,
    plan,
    pro,
    team,
    the_subscription,
    use,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db
LATE_MARCH = day("2026-03-28")


@pytest.fixture(autouse=True)
def own_cache(settings: Any, request: pytest.FixtureRequest) -> None:
    """What one test looked up is nothing to the next."""
    backend = "django.core.cache.backends.locmem.LocMemCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": request.node.name}}


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client, now=LATE_MARCH)


def a_world() -> None:
    """Renewals, a change and an override's end within a week of 28 March; open and late invoices; work under way."""
    with connection.cursor() as cursor:  # other tests fill these tables; what the planner knows of that outlives them
        cursor.execute("ANALYZE customers_customer, customers_subscription")
    small, large = pro(50), team(200)
    acme = on(small)
    overuse(acme, 30)
    on(small, name="Globex")
    enable(on(large, name="Initech"), small, now=MARCH_16)
    gone = on(large, name="Hooli")
    cancel(the_subscription(gone), reason="too dear", actor=STAFF, now=MARCH_16)
    enable(customer("Late"), plan("solo", fee(5), of="solo"))
    on(plan("euro", fee(80), of="euro", currency="EUR"), name="Umbrella", since=day("2026-03-10"))
    override(acme, feature(), 400, effective_until=APRIL_1, reason="support case", actor=STAFF, now=MARCH_1)
    version = new_version(small, fee(60))
    for state in (PlanMigration.State.RUNNING, PlanMigration.State.PAUSED):
        PlanMigration.objects.create(
            plan=small,
            from_version=small.versions.get(number=1),
            to_version=version,
            state=state,
            reason="new prices",
            created_by="ops",
            created_at=MARCH_16,
        )
    for name in ("Acme 2026", "Globex 2026"):
        Deal.objects.create(name=name, customer=acme, base_version=version, owner="sam", created_at=MARCH_16)
    a_request()


def a_request() -> None:
    asker, _ = User.objects.get_or_create(username="sam", defaults={"is_staff": True})
    ApprovalRequest.objects.create(
        act="credit.granted",
        title="Credit",
        inputs={},
        shown={},
        fingerprint="x",
        reason="outage",
        requested_by="sam",
        user=asker,
        approver=Group.objects.get(name="Admin"),
        why="Credit needs approval.",
        requested_at=MARCH_16,
        expires_at=day("2026-04-30"),
    )


def tile(page: Page, label: str) -> Any:
    [found] = [tile for tile in page.answer.context["tiles"] if tile.label == label]
    return found


def follow(desk: CustomerDesk, url: str) -> Page:
    """The page at an address of ours."""
    parts = urlsplit(url)
    match = resolve(parts.path)
    return desk.get(match.url_name, *match.args, *match.kwargs.values(), **dict(parse_qsl(parts.query)))


def rows(page: Page) -> list[Any]:
    return list(page.answer.context["rows"])


def test_customers_are_as_many_as_their_list(desk):
    a_world()
    found = tile(desk.get("index"), "Customers")

    assert found.value == (str(len(rows(follow(desk, found.url)))),) == ("6",)


def test_subscriptions_lead_to_a_page(desk):
    a_world()
    found = tile(desk.get("index"), "Active subscriptions")

    assert (found.value, follow(desk, found.url).status) == (("6",), 200)


def test_recurring_revenue_is_the_closing_of_the_month_and_the_sum_of_its_customers(desk):
    a_world()
    found = tile(desk.get("index"), "Recurring revenue")
    page = follow(desk, found.url)
    closing = page.answer.context["months"][0].figures[-1]
    behind = follow(desk, closing.url)

    assert found.value == ("$505.00", "€80.00")
    assert closing.words == found.value[0]
    assert format_minor(sum(row.closing for row in rows(behind)), "USD") == closing.words
    assert format_minor(behind.answer.context["total"], "USD") == closing.words


def test_open_invoices_add_up_to_what_their_list_has_due(desk):
    a_world()
    found = tile(desk.get("index"), "Open invoices")
    listed = rows(follow(desk, found.url))

    assert found.value == (format_minor(sum(row.due for row in listed), "USD"),) == ("$5.00",)
    assert found.note == f"{len(listed)} open"


def test_past_due_invoices_are_as_many_as_their_list(desk):
    a_world()
    found = tile(desk.get("index"), "Past due")

    assert found.value == (str(len(rows(follow(desk, found.url)))),) == ("1",)


@pytest.mark.parametrize(
    ("label", "kind", "value"),
    [
        ("Renewals", Kind.RENEWAL, ("$105.00",)),
        ("Scheduled changes", Kind.CHANGE, ("1",)),
        ("Overrides ending", Kind.OVERRIDE_END, ("1",)),
    ],
)
def test_what_comes_this_week_is_what_its_list_shows(desk, label, kind, value):
    a_world()
    found = tile(desk.get("index"), label)
    listed = follow(desk, found.url)
    total = listed.answer.context["total"]

    assert found.value == value
    assert {row.coming.kind for row in rows(listed)} == {kind}
    assert (tuple(total.money) if kind == Kind.RENEWAL else (str(total.count),)) == value
    assert len(rows(listed)) == total.count


def test_migrations_are_those_that_run(desk):
    a_world()
    found = tile(desk.get("index"), "Migrations")

    assert found.value == (str(len(rows(follow(desk, found.url)))),) == ("1",)


def test_deals_are_those_under_way(desk):
    a_world()
    found = tile(desk.get("index"), "Deals")

    assert found.value == (str(len(rows(follow(desk, found.url)))),) == ("2",)


def test_approvals_are_those_that_wait_for_this_person(desk):
    a_world()
    found = tile(desk.get("index"), "Approvals")

    assert found.value == (str(len(rows(follow(desk, found.url)))),) == ("1",)


def test_who_cannot_approve_or_migrate_is_not_told_how_much_of_it_waits(client):
    """A-53."""
    a_world()
    labels = {tile.label for tile in CustomerDesk(client, role="Read-only").get("index").answer.context["tiles"]}

    assert not labels & {"Approvals", "Migrations"}


def test_work_that_is_stuck_leads_to_the_runs(desk):
    found = tile(desk.get("index"), "Parked or failed")

    assert (found.value, found.tone, follow(desk, found.url).status) == (("0",), "good", 200)


def test_a_product_s_figure_is_the_sum_of_its_lines(desk):
    a_world()
    [first, *_] = desk.get("index").answer.context["products"]

    for figure in (first.this, first.year):
        page = follow(desk, figure.url)
        assert format_minor(sum(row.line.net for row in rows(page)), "USD") == figure.words == "$500.00"
        assert format_minor(page.answer.context["total"], "USD") == figure.words


def test_a_feature_s_figure_is_the_sum_of_its_events(desk):
    who = on(pro(50))
    use(who, 7, now=MARCH_16)
    use(who, 5, now=day("2026-03-20"))
    [row] = desk.get("index").answer.context["features"]

    events = follow(desk, row.this.url)

    assert row.this.words == row.year.words == "12"
    assert sum(Decimal(each.taken) for each in events.answer.context["found"].rows) == 12


def test_a_new_database_has_a_first_page_too(desk):
    page = desk.get("index")

    assert page.status == 200
    assert "Nothing was invoiced" in page.text and "Nothing was used" in page.text
    assert "Nothing has moved in these months." in page.text


def test_the_first_page_takes_a_fixed_number_of_queries(desk, django_assert_max_num_queries):
    a_world()
    with django_assert_max_num_queries(52):
        desk.get("index")
    with django_assert_max_num_queries(42):  # what is kept is not asked for again
        desk.get("index")
