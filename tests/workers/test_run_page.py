"""The run page: what failed and why, what waits for a person, what is due next, and since when nobody is heard."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.test import Client

from billing_admin import runs
from billing_admin.admin.runs import due_next, failure_groups, pulse
from billing_admin.models import WorkerFailure
from customers.models import Customer
from tests import builders as a
from tests.instants import APRIL_1, MARCH_1
from tests.workers.test_runs import refusing_invoices_of, renew, the_database_refusing

pytestmark = pytest.mark.django_db
PAGE = "/billing_admin/workerrun/"
NOON = APRIL_1 + timedelta(hours=12)


def browser(role: str) -> Client:
    user = User.objects.create_user(role.lower(), is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


def look(client: Client, url: str = PAGE) -> str:
    with time_machine.travel(NOON, tick=False):
        return client.get(url).content.decode()


def press(client: Client, url: str, **values: object) -> int:
    with time_machine.travel(NOON, tick=False):
        return client.post(f"{PAGE}{url}", values).status_code


def failing_customers() -> list[Customer]:
    pro = a.pro()
    customers = [a.on(pro, name=name) for name in ("Acme Robotics", "Globex Logistics")]
    ids = ", ".join(str(who.pk) for who in customers)
    with the_database_refusing("invoicing_invoice", f"customer_id NOT IN ({ids})"):
        renew()
    return customers


def test_failures_are_grouped_by_cause_with_their_customers() -> None:
    """The run page's first question: what is broken, and for whom."""
    failing_customers()

    page = look(browser("Finance"))

    assert page.count('class="run-cause"') == 1
    assert "Retry all 2" in page
    assert "Acme Robotics" in page
    assert "Globex Logistics" in page


def test_retry_all_does_what_failed_and_closes_the_group() -> None:
    """Retry all of one cause."""
    customers = failing_customers()
    cause = WorkerFailure.objects.first().cause

    assert press(browser("Finance"), "retry/", cause=cause) == 302

    assert [len(a.totals(who)) for who in customers] == [2, 2]
    assert failure_groups(runs.open_failures()) == []


def test_retry_one_leaves_the_others() -> None:
    """Retry one."""
    failing_customers()
    [first, second] = WorkerFailure.objects.order_by("id")

    press(browser("Admin"), "retry/", failure=first.pk)

    assert list(runs.open_failures()) == [second]


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Sales engineer"])
def test_only_admin_and_finance_may_retry(role: str) -> None:
    """Others see the page without the buttons, and are refused when they post."""
    failing_customers()
    client = browser(role)

    assert "Retry all" not in look(client)
    assert press(client, "retry/", failure=WorkerFailure.objects.first().pk) == 403
    assert runs.open_failures().count() == 2


def test_a_parked_contract_shows_its_reason_and_can_be_tried_again() -> None:
    """Let it go on: unpark and try again."""
    acme = a.on(a.pro())
    with refusing_invoices_of(acme):
        for _ in range(runs.PATIENCE):
            renew()
    client = browser("Finance")
    page = look(client)

    press(client, f"unpark/{a.the_subscription(acme).pk}/")

    assert "Failed 5 times in a row" in page
    assert "Let it go on" in page
    assert "Failures, by cause" not in page
    assert a.the_subscription(acme).parked_at is None
    assert len(a.totals(acme)) == 2


def test_the_page_warns_when_nobody_was_heard_for_three_minutes() -> None:
    """Since when the workers are silent."""
    runs.heard(runs.CLOCKWORK_HEARD, NOON - timedelta(minutes=134))

    assert "The workers have been silent for 2 h 14 min" in look(browser("Read-only"))


def test_a_beat_of_two_minutes_ago_is_no_reason_to_warn() -> None:
    """The clockwork says that it is alive twice a minute."""
    runs.heard(runs.CLOCKWORK_HEARD, NOON - timedelta(minutes=2))

    assert not pulse(NOON).silent
    assert "Workers are running" in look(browser("Read-only"))


def test_what_is_due_is_counted_for_now_a_day_and_a_week() -> None:
    """Renewals, scheduled changes, planned ends and resets, from the columns that the workers ask."""
    pro, team = a.pro(), a.team()
    a.on(pro, name="Acme")
    globex = a.on(team, name="Globex", since=MARCH_1 + timedelta(hours=20))
    a.enable(globex, pro, now=MARCH_1 + timedelta(days=9))
    a.enable(a.customer("Initech"), a.assigned(), ends_at=APRIL_1 + timedelta(days=3))

    counts = {due.what: (due.now, due.day, due.week) for due in due_next(APRIL_1)}

    assert counts["Renewals"] == ("1", "2", "3")
    assert counts["Scheduled changes"] == ("0", "1", "1")
    assert counts["Planned ends"] == ("0", "0", "1")
    assert counts["Resets"] == ("2", "3", "3")  # Initech's own window among them


def test_the_page_asks_few_queries_however_many_runs_and_failures(django_assert_max_num_queries) -> None:
    """No query per row."""
    failing_customers()
    for minutes in range(1, 4):
        renew(APRIL_1 + timedelta(minutes=minutes))
    client = browser("Admin")
    look(client)

    with django_assert_max_num_queries(36):
        look(client)


def test_the_first_page_shows_numbers_that_lead_to_their_rows() -> None:
    """The dashboard."""
    acme = a.on(a.pro())
    renew()
    runs.heard(runs.CLOCKWORK_HEARD, NOON)

    page = look(browser("Read-only"), "/")

    assert page.count('class="dash-tile__label"') == 10
    assert "$50.00" in page  # recurring, and open since the renewal
    assert f"{acme.invoices.newest()[0].number} · $50.00 unpaid" not in page  # not late yet
    assert "Invoiced per month" in page
    assert "Usage events per day" in page


def test_the_first_page_names_what_needs_a_person() -> None:
    """Late invoices, parked contracts, coming ends."""
    acme = a.customer()
    a.enable(acme, a.pro())  # and never pays

    page = look(browser("Finance"), "/")

    assert f"{acme.invoices.get().number} · $50.00 unpaid" in page
    assert "31 days late" in page


def test_who_may_see_no_customers_sees_no_numbers_either() -> None:
    """The first page is open to all staff, its numbers are not."""
    a.on(a.pro())
    nobody = User.objects.create_user("nobody", is_staff=True)
    client = Client()
    client.force_login(nobody)

    page = look(client, "/")

    assert "dash-tile" not in page
    assert "$50.00" not in page


def test_a_run_has_a_page_with_its_failures_and_what_became_of_them() -> None:
    """From the list to the traceback in one click."""
    [acme, _] = failing_customers()
    run = WorkerFailure.objects.first().run
    renew(APRIL_1 + timedelta(minutes=1))

    page = look(browser("Read-only"), f"{PAGE}{run.pk}/change/")

    assert acme.name in page
    assert "Traceback" in page
    assert page.count("Done since") == 2
    assert "Retry" not in page


def test_a_run_that_is_not_there_is_not_found() -> None:
    """No number in an address breaks a page."""
    client = browser("Read-only")

    assert [client.get(f"{PAGE}{key}/change/").status_code for key in ("999999", "x")] == [404, 404]
