"""A billing run that writes nothing."""

from datetime import timedelta

import pytest
import time_machine

from billing_admin import runs
from billing_admin.flows.cancel import cancel
from billing_admin.flows.dry_run import dry_run
from invoicing.models import BillingSettings, Invoice
from tests import builders as a
from tests.admin.catalog_desk import staff
from tests.books import books
from tests.instants import APRIL_1, MARCH_1

pytestmark = pytest.mark.django_db


def test_it_says_what_would_be_billed_and_writes_nothing() -> None:
    """Counts, sums by currency, customers."""
    pro = a.pro()
    euro = a.plan("euro", a.fee(20), of="europe", currency="EUR")
    customers = [a.on(pro, name="Acme"), a.on(euro, name="Globex"), a.on(pro, name="Initech")]
    cancel(a.the_subscription(customers[2]), reason="moves on", actor=a.STAFF, now=MARCH_1)
    before = books(customers)

    found = dry_run(APRIL_1)

    assert books(customers) == before
    assert [(row.customer.name, row.totals) for row in found.rows] == [
        ("Acme", ((5_000, "USD"),)),
        ("Globex", ((2_000, "EUR"),)),
        ("Initech", ()),
    ]
    assert found.sums == {"EUR": 2_000, "USD": 5_000}
    assert found.is_whole


def test_it_names_who_would_be_parked() -> None:
    BillingSettings.objects.create(pk=1, most_lines=1)
    acme = a.on(a.plan("metered", a.fee(50), a.allowance(0, of="calls", price="1")))
    a.overuse(acme, 5, of="calls")

    [row] = dry_run(APRIL_1).parked

    assert row.parked == "The invoice would have 2 lines, more than 1."
    assert a.the_subscription(acme).parked_at is None


def test_it_looks_at_no_more_than_it_was_asked_to() -> None:
    pro = a.pro()
    for name in ("Acme", "Globex", "Initech"):
        a.on(pro, name=name)

    found = dry_run(APRIL_1, limit=2)

    assert (len(found.rows), found.is_whole) == (2, False)


def test_what_it_says_is_what_the_run_does() -> None:
    """The preview is what is executed."""
    pro = a.pro()
    for name in ("Acme", "Globex"):
        a.on(pro, name=name)

    said = dry_run(APRIL_1)
    run = runs.renewals(now=APRIL_1)

    assert run.counts["money:USD"] == said.sums["USD"]


def test_staff_see_it_on_the_run_page() -> None:
    a.on(a.pro())

    with time_machine.travel(APRIL_1 - timedelta(hours=3), tick=False):
        page = staff("Finance").get("/billing_admin/workerrun/dry-run/?until=day").content.decode()

    assert "$50.00" in page
    assert "Acme Robotics" in page
    assert Invoice.objects.count() == 1


def test_drafts_are_issued_when_their_grace_is_over() -> None:
    """Y-29: the pass of the clockwork."""
    BillingSettings.objects.create(pk=1, grace_hours=24)
    acme = a.on(a.plan("metered", a.fee(50), a.allowance(0, of="calls", price="1")))
    runs.renewals(now=APRIL_1)

    early = runs.work(runs.DRAFTS, now=APRIL_1 + timedelta(hours=23)).finish(APRIL_1)
    run = runs.work(runs.DRAFTS, now=APRIL_1 + timedelta(hours=24)).finish(APRIL_1)

    assert early is None
    assert run.effects == {"invoices": 1, "money": {"USD": 5_000}}
    assert acme.invoices.filter(state="open").count() == 1
