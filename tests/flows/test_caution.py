"""Renewals that are too remarkable to be issued unseen wait for a person."""

from datetime import timedelta

import pytest

from billing_admin import runs
from customers.models import Customer
from invoicing.models import BillingSettings
from tests import builders as a
from tests.instants import APRIL_1, MARCH_1, MAY_1

pytestmark = pytest.mark.django_db
JUST_BEFORE = APRIL_1 - timedelta(hours=1)


def metered(name: str = "Acme Robotics", *, used: int) -> Customer:
    """Somebody who pays $50 a month and $1 for each call."""
    plan = a.plan("metered", a.fee(50), a.allowance(0, of="calls", price="1"))
    who = a.on(plan, name=name)
    a.overuse(who, used, of="calls", now=JUST_BEFORE)
    return who


def test_a_total_far_beyond_the_largest_so_far_parks_the_contract_and_issues_nothing() -> None:
    """Safety bounds of the billing run: more than 20 times."""
    acme = metered(used=951)

    run = runs.renewals(now=APRIL_1)

    contract = a.the_subscription(acme)
    assert contract.parked_because == "$1,001.00 would be more than 20 times its largest invoice so far, $50.00."
    assert a.totals(acme) == [5_000]
    assert contract.bills_at == APRIL_1
    assert a.access(acme, of="calls", now=APRIL_1).allowed
    assert (run.done, run.failed, run.counts["invoices"]) == (1, 0, 0)
    assert acme.operations.newest()[0].verb == "subscription.parked"


def test_a_total_at_the_bound_is_issued() -> None:
    acme = metered(used=950)

    runs.renewals(now=APRIL_1)

    assert a.totals(acme) == [5_000, 100_000]


def test_growth_of_small_sums_alarms_nobody() -> None:
    """Nothing below 100 in the document's currency is held against former ones."""
    plan = a.plan("tiny", a.fee(1), a.allowance(0, of="calls", price="1"))
    acme = a.on(plan)
    a.overuse(acme, 99, of="calls", now=JUST_BEFORE)

    runs.renewals(now=APRIL_1)

    assert a.totals(acme) == [100, 10_000]


def test_too_many_lines_wait_for_a_person() -> None:
    BillingSettings.objects.create(pk=1, most_lines=1)
    acme = metered(used=5)

    runs.renewals(now=APRIL_1)

    assert a.the_subscription(acme).parked_because == "The invoice would have 2 lines, more than 1."
    assert a.totals(acme) == [5_000]


def test_whoever_looked_at_it_lets_it_go_on_and_the_next_one_is_held_against_it() -> None:
    acme = metered(used=951)
    runs.renewals(now=APRIL_1)

    _, run = runs.unpark(a.the_subscription(acme), actor=a.STAFF, now=APRIL_1)
    a.overuse(acme, 2_000, of="calls", now=APRIL_1)
    runs.renewals(now=MAY_1)

    assert run is not None
    assert run.effects["money"] == {"USD": 100_100}
    assert a.totals(acme) == [5_000, 100_100, 205_000]


def test_a_yearly_fee_beside_monthly_use_is_no_surprise() -> None:
    """The largest document of the last year is what counts, not the newest."""
    plan = a.plan("yearly", a.fee(12_000, cadence="P1Y"), a.allowance(0, of="calls", price="1"), cadence="P1Y")
    acme = a.on(plan)

    a.pass_time(acme, to=MARCH_1.replace(year=2027))

    assert a.totals(acme) == [1_200_000, 1_200_000]
