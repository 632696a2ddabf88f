"""The calendar of what is coming and its list: figures, filters, pages, CSV, rights; and the customer's next days."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.http import QueryDict
from django.test import Client

from billing_admin.coming import Kind, Sums
from billing_admin.flows.cancel import cancel
from customers.models import Customer
from tests.admin.customer_desk import CustomerDesk, Page
from tests.admin.taken_away import taken_away
from tests.builders import STAFF, customer, enable, fee, on, plan, pro, special_price, team, the_subscription
from tests.instants import APRIL_1, MARCH_16, day

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def a_world() -> Customer:
    """Two renewals, a downgrade and a cancellation on 1 April; a trial that ends on 5 April; a yearly contract."""
    small, large = pro(50), team(200)
    acme = on(small)
    on(small, name="Globex")
    enable(on(large, name="Initech"), small, now=MARCH_16)
    gone = on(large, name="Hooli")
    cancel(the_subscription(gone), reason="too dear", actor=STAFF, now=MARCH_16)
    enable(customer("Trier"), plan("solo", fee(5), of="solo", trial_days=35))
    on(plan("annual", fee(1200, cadence="P1Y"), of="annual", cadence="P1Y"), name="Umbrella")
    return acme


def cells(page: Page) -> dict[str, Sums]:
    """What the days of the grid say."""
    found = [cell for week in page.answer.context["weeks"] for cell in week if cell.sums.count]
    return {f"{cell.day}": cell.sums for cell in found}


def listed(page: Page) -> list[tuple[str, str]]:
    return [(row.coming.kind, row.coming.customer.name) for row in page.answer.context["rows"]]


def test_a_month_shows_each_day_with_its_figures(desk):
    a_world()

    page = desk.get("coming", month="2026-04")

    assert cells(page) == {
        "2026-04-01": Sums({Kind.CHANGE: 1, Kind.RENEWAL: 2, Kind.END: 1}, {"USD": 15_000}),
        "2026-04-05": Sums({Kind.TRIAL_END: 1}, {"USD": 500}),
    }
    assert "1 plan change 2 renewals 1 contract ends $150.00" in page.text
    assert "5 in April: $155.00 to bill" in page.text


def test_the_present_month_is_shown_first_and_nothing_of_the_past(desk):
    page = desk.get("coming")

    assert page.answer.context["month"].isoformat() == "2026-03-01"
    assert (page.answer.context["earlier"], "month=2026-04" in page.answer.context["later"]) == ("", True)
    assert "Nothing comes in this month" in page.text


@pytest.mark.parametrize("month", ["2020-01", "0000-01", "2026-13", "x", "9999-12"])
def test_a_month_that_cannot_be_shown_is_moved_to_one_that_can(desk, month):
    page = desk.get("coming", month=month)

    assert page.status == 200
    assert "2026-03-01" <= page.answer.context["month"].isoformat() <= "2029-03-01"


def test_a_day_leads_to_the_list_of_the_same_figure(desk):
    a_world()

    page = desk.get("coming_list", day="2026-04-01")

    assert page.answer.context["total"] == cells(desk.get("coming", month="2026-04"))["2026-04-01"]
    assert listed(page) == [
        (Kind.CHANGE, "Initech"),
        (Kind.RENEWAL, "Acme Robotics"),
        (Kind.RENEWAL, "Globex"),
        (Kind.END, "Hooli"),
    ]
    assert "4 events, $150.00 to bill" in page.text


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"kind": "trial_end"}, ["Trier"]),
        ({"product": "annual", "days": "365"}, ["Umbrella"]),
        ({"plan": "team"}, ["Hooli"]),
        ({"least": "40", "kind": "renewal"}, ["Acme Robotics", "Globex"]),
        ({"least": "60"}, []),
        ({"days": "7"}, []),
    ],
    ids=str,
)
def test_the_address_narrows_the_list(desk, said: dict[str, Any], names: list[str]):
    a_world()

    page = desk.get("coming_list", **said)

    assert [name for _, name in listed(page)] == names
    assert page.answer.context["total"].count == len(names)


def test_a_filter_of_the_calendar_stays_with_its_days_and_months(desk):
    a_world()

    page = desk.get("coming", month="2026-04", kind="renewal")

    assert cells(page) == {"2026-04-01": Sums({Kind.RENEWAL: 2}, {"USD": 10_000})}
    assert "/coming/list/?kind=renewal&amp;day=2026-04-01" in page.html
    assert "/coming/?kind=renewal&amp;month=2026-05" in page.html


def test_the_list_goes_on_where_the_page_before_ended(desk, monkeypatch):
    monkeypatch.setattr("billing_admin.admin.coming.A_PAGE", 2)
    a_world()
    query = QueryDict()
    walked: list[tuple[str, str]] = []
    while True:
        page = desk.get("coming_list", **query.dict())
        walked += listed(page)
        if not page.answer.context["later_url"]:
            break
        query = QueryDict(page.answer.context["later_url"].partition("?")[2])

    assert [name for _, name in walked] == ["Initech", "Acme Robotics", "Globex", "Hooli", "Trier"]
    assert page.answer.context["total"].count == 5


def test_rows_tell_what_billing_would_draw_up(desk):
    acme = a_world()
    special_price(acme, 3000)

    page = desk.get("coming_list", kind="renewal")

    assert [(row.coming.amount, row.coming.expected) for row in page.answer.context["rows"]] == [
        (5000, 3000),
        (5000, 5000),
    ]


def test_the_csv_has_the_rows_of_the_list_in_major_units(desk):
    a_world()

    rows = taken_away(desk, "coming", "coming_list", day="2026-04-01")

    assert [(row["kind"], row["customer"], row["to_bill"], row["expected"]) for row in rows] == [
        ("change", "Initech", "50.00", "50.00"),
        ("renewal", "Acme Robotics", "50.00", "50.00"),
        ("renewal", "Globex", "50.00", "50.00"),
        ("end", "Hooli", "", ""),
    ]
    assert rows[0]["at"] == "2026-04-01T00:00:00+00:00"


@pytest.mark.parametrize("name", ["coming", "coming_list"])
def test_whoever_may_not_see_contracts_sees_nothing_of_it(client, name):
    """A-53."""
    Group.objects.create(name="Nobody")
    assert CustomerDesk(client, role="Nobody").get(name).status == 403


@pytest.mark.parametrize("name", ["coming", "coming_list"])
def test_pages_take_a_fixed_number_of_queries(desk, name, django_assert_max_num_queries):
    a_world()

    with django_assert_max_num_queries(37):
        assert desk.get(name, **({"month": "2026-04"} if name == "coming" else {})).status == 200


@pytest.mark.parametrize(
    "said", [{"day": "yesterday"}, {"days": "x"}, {"least": "-1"}, {"kind": "x"}, {"after": "x~1~2"}]
)
def test_what_cannot_be_read_narrows_nothing(desk, said):
    a_world()

    page = desk.get("coming_list", **said)

    assert (page.status, page.answer.context["total"].count) == (200, 5)


# The customer's page --------------------------------------------------------------------------------------------------


def next_days(page: Page) -> list[tuple[str, str, int | None]]:
    return [(row.kind, f"{row.at:%Y-%m-%d}", row.expected) for row in page.answer.context["next_days"]]


def test_a_customer_sees_every_invoice_of_ninety_days(desk):
    assert next_days(desk.page(on(pro(50)))) == [
        (Kind.RENEWAL, "2026-04-01", 5000),
        (Kind.RENEWAL, "2026-05-01", 5000),
        (Kind.RENEWAL, "2026-06-01", 5000),
    ]


def test_a_change_and_its_invoice_are_one_row(desk):
    who = on(team(200))
    enable(who, pro(50), now=MARCH_16)

    [first, *_] = next_days(desk.page(who))

    assert first == (Kind.CHANGE, "2026-04-01", 5000)


def test_a_contract_that_ends_shows_its_end_alone(desk):
    who = on(pro(50))
    cancel(the_subscription(who), reason="too dear", actor=STAFF, now=MARCH_16)

    assert next_days(desk.page(who)) == [(Kind.END, "2026-04-01", None)]


def test_a_special_price_shows_when_it_runs_out(desk):
    who = on(pro(50))
    special_price(who, 3000, cycles=1)

    assert next_days(desk.page(who))[:3] == [
        (Kind.RENEWAL, "2026-04-01", 3000),
        (Kind.RENEWAL, "2026-05-01", 5000),
        (Kind.PRICE_END, "2026-05-01", None),
    ]


def test_a_customer_without_a_plan_has_nothing_coming(desk):
    assert "Nothing renews, changes or ends." in desk.page(customer()).text


def test_the_days_of_the_grid_begin_on_monday(desk):
    weeks = desk.get("coming", month="2026-04").answer.context["weeks"]

    assert [f"{week[0].day}" for week in weeks][:2] == ["2026-03-30", "2026-04-06"]
    assert all(cell.day.weekday() == n for week in weeks for n, cell in enumerate(week))
    assert day("2026-04-30").date() in [cell.day for cell in weeks[-1]]
    assert APRIL_1.date() in [cell.day for cell in weeks[0]]
