"""Revenue: months, and the rows behind each figure."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.http import QueryDict
from django.test import Client

from billing_admin.flows.cancel import cancel
from catalog.money import format_minor
from tests.admin.customer_desk import CustomerDesk
from tests.admin.taken_away import taken_away
from tests.admin.test_dashboard import follow, own_cache, rows  # noqa: F401  a fixture
from tests.builders import STAFF, enable, fee, on, paid_seats, pass_time, plan, pro, team, the_subscription, use
from tests.instants import APRIL_1, APRIL_16, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db
COLUMNS = ["At the beginning", "New", "Expansion", "Reactivation", "Contraction", "Churn", "At the end"]


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client, now=MAY_1)


def a_history() -> None:
    """March: three new customers. April: one more, one grew, one left. May: nothing yet."""
    small, large = pro(50), team(200)
    grows, leaves = on(small), on(small, name="Hooli")
    on(large, name="Globex", since=MARCH_16)
    cancel(the_subscription(leaves), reason="too dear", actor=STAFF, now=MARCH_16)
    pass_time(leaves, to=APRIL_1)
    pass_time(grows, to=APRIL_1)
    enable(grows, large, now=APRIL_16)
    on(small, name="Initech", since=APRIL_16)


def figures(desk: CustomerDesk, **asked: Any) -> dict[str, list[str]]:
    page = desk.get("revenue", **asked)
    return {f"{row.first:%Y-%m}": [figure.words for figure in row.figures] for row in page.answer.context["months"]}


def test_each_month_goes_from_its_opening_through_its_movements_to_its_closing(desk):
    a_history()

    found = figures(desk)

    assert found["2026-05"] == ["$450.00", "—", "—", "—", "—", "—", "$450.00"]
    assert found["2026-04"] == ["$300.00", "+$50.00", "+$150.00", "—", "—", "−$50.00", "$450.00"]
    assert found["2026-03"] == ["—", "+$300.00", "—", "—", "—", "—", "$300.00"]
    assert len(found) == 12


def test_every_figure_is_the_sum_of_the_list_that_it_leads_to(desk):
    a_history()
    page = desk.get("revenue")
    checked = 0
    for month in page.answer.context["months"]:
        for title, figure in zip(COLUMNS, month.figures, strict=True):
            if figure.url:
                behind = follow(desk, figure.url)
                amounts = [row.closing if row.change is None else row.change for row in rows(behind)]
                assert behind.answer.context["title"] == title
                assert format_minor(sum(amounts), "USD") == figure.words.removeprefix("+")
                assert behind.answer.context["total"] == sum(amounts)
                checked += 1
    assert checked == 9


def test_seats_are_part_of_every_figure_and_of_its_list(desk):
    who = on(plan("seated", fee(50), paid_seats(2)))
    use(who, 5, of="seats", now=APRIL_16)

    assert figures(desk)["2026-04"] == ["$50.00", "—", "+$30.00", "—", "—", "—", "$80.00"]
    page = desk.get("revenue_movements", currency="USD", month="2026-04", kind="expansion")
    assert "Acme Robotics $50.00 $80.00 $30.00" in page.text


def test_a_movement_says_before_and_after(desk):
    a_history()

    page = desk.get("revenue_movements", currency="USD", month="2026-04", kind="expansion")

    assert "Expansion in April 2026 $150.00 a month" in page.text
    assert "Acme Robotics $50.00 $200.00 $150.00" in page.text


def test_the_list_of_customers_goes_on_by_keys(desk, monkeypatch):
    monkeypatch.setattr("billing_admin.admin.revenue.A_PAGE", 1)
    a_history()
    names, query = [], QueryDict("currency=USD&month=2026-04&kind=closing")
    while True:
        page = desk.get("revenue_movements", **query.dict())
        names += [row.customer.name for row in rows(page)]
        if not page.answer.context["older"]:
            break
        query = QueryDict(page.answer.context["older"].partition("?")[2])

    assert names == ["Initech", "Globex", "Acme Robotics"]
    assert page.answer.context["total"] == 45_000


def test_lines_of_a_product_go_on_by_keys(desk, monkeypatch):
    monkeypatch.setattr("billing_admin.admin.revenue.A_PAGE", 2)
    a_history()
    found, query = [], QueryDict("currency=USD&month=2026-04&product=api")
    while True:
        page = desk.get("revenue_lines", **query.dict())
        found += [row.line.pk for row in rows(page)]
        if not page.answer.context["older"]:
            break
        query = QueryDict(page.answer.context["older"].partition("?")[2])

    assert len(found) == len(set(found)) > 2


def test_the_csv_of_a_figure_has_all_its_customers(desk, monkeypatch):
    monkeypatch.setattr("billing_admin.export_reports.CHUNK", 1)
    a_history()

    rows = taken_away(desk, "recurring_revenue", "revenue_movements", currency="USD", month="2026-03", kind="new")

    assert [(row["customer"], row["opening"], row["closing"], row["change"]) for row in rows] == [
        ("Globex", "0.00", "200.00", "200.00"),
        ("Hooli", "0.00", "50.00", "50.00"),
        ("Acme Robotics", "0.00", "50.00", "50.00"),
    ]


def test_the_csv_of_a_product_has_its_lines(desk, monkeypatch):
    monkeypatch.setattr("billing_admin.export_reports.CHUNK", 1)
    a_history()

    rows = taken_away(desk, "invoice_lines", "revenue_lines", currency="USD", month="2026-03", product="api")

    assert sorted(row["net"] for row in rows) == ["200.00", "50.00", "50.00"]


def test_each_currency_has_months_of_its_own(desk):
    a_history()
    on(plan("euro", fee(80), of="euro", currency="EUR"), name="Umbrella", since=APRIL_16)

    assert figures(desk, currency="EUR")["2026-04"] == ["—", "+€80.00", "—", "—", "—", "—", "€80.00"]
    assert figures(desk)["2026-04"][-1] == "$450.00"


@pytest.mark.parametrize(
    "asked",
    [
        {"month": "2026-13"},
        {"month": "0000-01"},
        {"month": "9999-12"},
        {"kind": "x"},
        {"currency": "x"},
        {"before": "x"},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["revenue_movements", "revenue_lines", "revenue"])
def test_what_cannot_be_read_shows_the_running_month(desk, name, asked):
    a_history()

    assert desk.get(name, **asked).status == 200


@pytest.mark.parametrize("name", ["revenue", "revenue_movements", "revenue_lines"])
def test_whoever_may_not_see_invoices_sees_no_revenue(client, name):
    """A-53."""
    Group.objects.create(name="Nobody")

    assert CustomerDesk(client, role="Nobody").get(name).status == 403


def test_pages_take_a_fixed_number_of_queries(desk, django_assert_max_num_queries):
    a_history()
    with django_assert_max_num_queries(16):
        desk.get("revenue")
    with django_assert_max_num_queries(10):
        desk.get("revenue_movements", month="2026-04", kind="new")
    with django_assert_max_num_queries(10):
        desk.get("revenue_lines", month="2026-04", product="api")
