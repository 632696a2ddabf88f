"""A year of Acme Robotics, told by dates: each paragraph moves the clock and says what is true then."""

from decimal import Decimal

import pytest

from billing_admin.flows.cancel import cancel, withdraw
from billing_admin.flows.plan_change import Timing
from catalog.models import Plan
from entitlements.edit import edit_balance
from invoicing.readings import account_credit
from tests.builders import (
    STAFF,
    access,
    allowance,
    default,
    enable,
    fee,
    left,
    new_version,
    on,
    pass_time,
    plan,
    seats,
    the_subscription,
    totals,
    use,
)
from tests.instants import day


@pytest.mark.django_db
def test_acme_from_first_plan_to_farewell():
    """A-01, A-04, A-09, A-10, A-15, A-21, A-25, A-30, A-33, A-36"""
    default(allowance(5))
    pro = plan("pro", fee(50), allowance(100, price="0.10"), seats(3))
    plan("team", fee(200), allowance(500, price="0.08"), seats(20))
    acme = on(pro, since=day("2026-01-31"))
    assert totals(acme) == [5000]

    # February: a deal of 250 credits at the same price, in the middle of the period.
    use(acme, 78, now=day("2026-02-10"))
    enable(acme, pro, fee(50), allowance(250, price="0.10"), seats(3), now=day("2026-02-10"))
    assert left(acme, now=day("2026-02-10")) == 172
    assert totals(acme) == [5000]

    # The period ends on the last day of February, and the next on the 31st again.
    pass_time(acme, to=day("2026-02-28"))
    assert left(acme, now=day("2026-02-28")) == 250
    assert the_subscription(acme).period_ends_at == day("2026-03-31")

    # March: an outage; ops give 300 credits until the reset, and no longer.
    edit_balance(acme, feature="credits", to=Decimal(300), reason="outage", actor=STAFF, now=day("2026-03-03"))
    assert left(acme, now=day("2026-03-03")) == 300
    pass_time(acme, to=day("2026-03-31"))
    assert left(acme, now=day("2026-03-31")) == 250

    # The base gets a new version; Acme's deal stays as it is.
    new_version(pro, fee(70), allowance(100, price="0.10"), seats(3))
    pass_time(acme, to=day("2026-04-30"))
    assert totals(acme) == [5000, 5000, 5000, 5000]

    # May: 40 units too many, then an upgrade half-way: 15.5 of 31 days from 30 April to 31 May.
    use(acme, 290, now=day("2026-05-10"))
    use(acme, 5, of="seats", now=day("2026-05-10"))
    change = enable(acme, Plan.objects.get(key="team"), now=day("2026-05-15T12:00")).change
    assert sorted(line.amount for line in change.lines) == [-2500, 400, 10000]
    assert left(acme, now=day("2026-05-15T12:00")) == 500
    assert left(acme, of="seats", now=day("2026-05-15T12:00")) == 15

    # June: back to Pro at the end of the cycle, regretted, and then meant.
    pass_time(acme, to=day("2026-06-10"))
    standard = Plan.objects.get(key="pro")
    enable(acme, standard, now=day("2026-06-10"))
    withdraw(the_subscription(acme), actor=STAFF, now=day("2026-06-11"))
    scheduled = enable(acme, standard, now=day("2026-06-12")).change
    assert (scheduled.timing, scheduled.starts_at) == (Timing.CYCLE_END, day("2026-06-30"))

    # The worker sleeps until the 3rd of July; Acme notices nothing.
    assert access(acme, now=day("2026-07-02")).limit == 100
    use(acme, 10, now=day("2026-07-02"))
    pass_time(acme, to=day("2026-07-03"))
    assert left(acme, now=day("2026-07-03")) == 90
    assert totals(acme)[-1] == 7000

    # September: farewell at the end of the cycle; the default product serves from then on.
    pass_time(acme, to=day("2026-09-05"))
    cancel(the_subscription(acme), reason="closing shop", actor=STAFF, now=day("2026-09-05"))
    pass_time(acme, to=day("2026-12-31"))
    assert access(acme, now=day("2026-12-31")).limit == 5
    assert acme.invoices.unpaid().count() == 0
    assert account_credit(acme) == 0
