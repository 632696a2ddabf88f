"""What is coming across customers: each kind, in order, with money; days add up to their lists."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing_admin.coming import Coming, Kind, Sums
from billing_admin.flows.cancel import cancel
from billing_admin.flows.coming import Asked, Cursor, read_all, read_days, read_page
from billing_admin.flows.revenue import INSTANT
from billing_admin.flows.rewards import apply_coupon
from catalog.models import Coupon
from customers.models import Customer
from customers.switch import Stage, plan_start
from entitlements.override import override
from tests.builders import (
    STAFF,
    allowance,
    customer,
    enable,
    feature,
    fee,
    in_arrears,
    on,
    overuse,
    paid_seats,
    pass_time,
    plan,
    pro,
    special_price,
    team,
    the_subscription,
    use,
)
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db
YEAR = timedelta(days=365)


def asked(now: datetime = MARCH_16, **narrowed: object) -> Asked:
    return Asked(now + INSTANT, now + YEAR, **narrowed)  # type: ignore[arg-type]


def told(now: datetime = MARCH_16, **narrowed: object) -> Sequence[Coming]:
    return read_page(asked(now, **narrowed)).rows


def brief(rows: Sequence[Coming]) -> list[tuple[str, datetime, int | None]]:
    return [(row.kind, row.at, row.amount) for row in rows]


def test_a_contract_renews_at_its_next_billing_date_with_its_fees():
    on(pro(50))

    [row] = told()

    assert (row.kind, row.at, row.what, row.amount, row.currency) == (Kind.RENEWAL, APRIL_1, "API · Pro", 5000, "USD")
    assert row.customer is not None and row.customer.name == "Acme Robotics"


def test_what_is_expected_of_a_renewal_is_what_it_will_bill():
    who = on(plan("pro", fee(50), allowance(10, price="1"), paid_seats(2, price="7")))
    overuse(who, 13)
    overuse(who, 5, of="seats")
    special_price(who, 3000)

    [row] = told(kinds=frozenset([Kind.RENEWAL]))
    pass_time(who, to=APRIL_1)

    assert (row.amount, row.expected, row.so_far) == (5000, 3000 + 300 + 2100, True)
    assert who.invoices.latest("id").total == row.expected


def test_a_monthly_billing_date_of_a_yearly_plan_asks_for_what_is_billed_by_the_month():
    on(plan("pro", fee(1200, cadence="P1Y"), fee(10, key="support"), cadence="P1Y"))

    assert [(row.at, row.amount, row.expected) for row in told()] == [(APRIL_1, 1000, 1000)]


def test_a_downgrade_is_a_change_and_no_renewal():
    who = on(team(200))
    enable(who, pro(50), now=MARCH_16)

    [row] = told()

    assert (row.kind, row.at, row.amount, row.expected) == (Kind.CHANGE, APRIL_1, 5000, 5000)
    assert (row.what, row.why) == ("API · Team → API · Pro", "$200.00 → $50.00 a month")


def to_begin(at: datetime, *, trial_until: datetime | None = None, ends_at: datetime | None = None) -> Customer:
    """A contract of 50.00 a month, then 200.00 from May on, that is still to begin."""
    who = customer()
    first, later = (of.current_version for of in (pro(50), team(200)))
    assert first is not None and later is not None
    begins = trial_until or at
    stages = [Stage(first, begins, begins), Stage(later, MAY_1, MAY_1)]
    plan_start(who, stages, trial_ends_at=trial_until, starts_at=at, ends_at=ends_at)
    return who


def test_a_contract_that_begins_on_a_day_to_come_is_told_with_its_changes_and_its_end():
    who = to_begin(APRIL_1, ends_at=day("2026-07-01"))

    begins, changes, ends = told()

    assert brief([begins, changes]) == [(Kind.START, APRIL_1, 5_000), (Kind.CHANGE, MAY_1, 20_000)]
    assert (begins.customer, begins.expected, ends.kind) == (who, 5_000, Kind.END)
    assert sum(sums.count for sums in read_days(asked()).values()) == 3


def test_a_contract_that_begins_with_a_trial_asks_for_nothing_before_its_end():
    to_begin(APRIL_1, trial_until=APRIL_16)

    assert brief(told())[:2] == [(Kind.START, APRIL_1, 0), (Kind.TRIAL_END, APRIL_16, 5_000)]


def test_a_cancellation_is_an_end_and_no_renewal():
    who = on(pro(50))
    cancel(the_subscription(who), reason="too dear", actor=STAFF, now=MARCH_16)

    [row] = told()

    assert brief([row]) == [(Kind.END, APRIL_1, None)]
    assert row.why == "canceled, −$50.00 a month"


def test_the_end_of_a_committed_contract_says_so():
    who = on(plan("pro", in_arrears(50), commitment="500"))
    cancel(the_subscription(who), reason="too dear", actor=STAFF, now=MARCH_16)

    [row] = told()

    assert (row.why, row.expected) == ("canceled, −$500.00 a month, its minimum commitment ends", 5000)


def test_a_trial_ends_once_with_the_fees_that_follow_it():
    enable(customer(), plan("pro", fee(50), trial_days=31))

    assert brief(told()) == [(Kind.TRIAL_END, APRIL_1, 5000)]


def test_a_trial_that_ends_the_contract_asks_for_nothing():
    enable(customer(), plan("pro", fee(50), trial_days=31, trial_end="cancel"))

    [row] = told()

    assert (row.kind, row.amount, row.why) == (Kind.TRIAL_END, None, "then it ends")


def test_an_override_that_ends_says_of_what_and_why():
    who = on(pro(50))
    override(who, feature(), 400, effective_until=APRIL_16, reason="support case", actor=STAFF, now=MARCH_1)

    [row] = told(kinds=frozenset([Kind.OVERRIDE_END]))

    assert (row.at, row.what, row.why) == (APRIL_16, "Credits 400", "support case")


def test_a_special_price_runs_out_with_the_last_period_that_takes_it():
    who = on(pro(50))
    special_price(who, 3000, cycles=2)

    [row] = told(kinds=frozenset([Kind.PRICE_END]))

    assert (row.at, row.what, row.why) == (day("2026-06-01"), "API · Pro · Base fee", "migration deal")


def test_a_special_price_until_revoked_has_no_end():
    special_price(on(pro(50)), 3000)

    assert told(kinds=frozenset([Kind.PRICE_END])) == []


def coupon(who: Customer, **more: object) -> None:
    made = Coupon.objects.create(code="LAUNCH", name="Launch", kind=Coupon.Kind.PERCENT, percent=20, **more)
    apply_coupon(who, made, subscription=the_subscription(who), reason="", actor=STAFF, now=MARCH_1)


def test_a_coupon_for_some_invoices_of_a_contract_ends_with_the_last_of_them():
    coupon(on(pro(50)), duration="repeating", periods=3)

    [row] = told(kinds=frozenset([Kind.COUPON_END]))

    assert (row.at, row.what) == (day("2026-07-01"), "Launch: 20 % off")


def test_nothing_of_the_past_and_nothing_that_was_withdrawn_comes():
    large = team(200)
    who = on(large)
    enable(who, pro(50), now=MARCH_16)
    enable(who, large, fee(220), now=MARCH_16)

    assert [row.kind for row in told()] == [Kind.RENEWAL]
    assert told(now=APRIL_16) == []


def a_mixed_world() -> None:
    small, large = pro(50), team(200)
    for n in range(4):
        on(small, name=f"Small {n}")
    down = on(large, name="Down")
    enable(down, small, now=MARCH_16)
    gone = on(large, name="Gone", since=day("2026-03-05"))
    cancel(the_subscription(gone), reason="too dear", actor=STAFF, now=MARCH_16)
    enable(customer("Trier"), plan("solo", fee(5), of="solo", trial_days=40))
    on(plan("euro", fee(80), of="euro", currency="EUR"), name="Globex", since=day("2026-03-10"))
    special_price(on(small, name="Special"), 3000, cycles=1)


def test_pages_follow_each_other_without_gap_or_overlap():
    a_mixed_world()
    whole = brief(list(read_all(asked())))

    after: Cursor | None = None
    walked = []
    for _ in range(20):
        page = read_page(asked(), after=after, most=2)
        walked += brief(page.rows)
        if page.following is None:
            break
        after = Cursor.read(str(page.following))

    assert walked == whole and len(whole) == 10


@pytest.mark.parametrize(
    "narrowed",
    [
        {},
        {"kinds": frozenset([Kind.RENEWAL])},
        {"kinds": frozenset([Kind.CHANGE, Kind.END, Kind.PRICE_END])},
        {"product": "api"},
        {"plan": "team"},
        {"least": Decimal("60")},
    ],
    ids=["all", "renewals", "changes and ends", "product", "plan", "from 60"],  # a set has no order to be named by
)
def test_each_day_adds_up_to_its_list(narrowed: dict[str, object]):
    a_mixed_world()

    days = read_days(asked(**narrowed))

    for when, sums in days.items():
        begins = max(MARCH_16 + INSTANT, day(when.isoformat()))
        of_day = read_page(Asked(begins, day(when.isoformat()) + timedelta(days=1), **narrowed)).rows  # type: ignore[arg-type]
        assert sums == counted(of_day)
    assert sum(sums.count for sums in days.values()) == len(list(read_all(asked(**narrowed)))) > 0


def counted(rows: Sequence[Coming]) -> Sums:
    found = Sums()
    for row in rows:
        found += Sums({row.kind: 1}, {row.currency: row.amount} if row.amount else {})
    return found


def test_an_amount_narrows_whatever_the_currency():
    a_mixed_world()

    assert {row.what for row in told(least=Decimal(80))} == {"EURO · Euro"}


def test_a_plan_narrows_to_what_comes_to_be_on_it():
    a_mixed_world()

    assert {row.kind for row in told(plan="team")} == {Kind.END}


def test_a_page_takes_the_same_queries_however_many_contracts_it_has():
    small = pro(50)
    on(small, name="First")
    with CaptureQueriesContext(
        connection,
    ) as one:
        told()
    for n in range(4):
        use(on(small, name=f"Other {n}"), 3)
    with CaptureQueriesContext(connection) as many:
        told()

    assert len(many) == len(one) <= 24


def test_the_window_is_half_open():
    on(pro(50))

    assert brief(read_page(Asked(MARCH_16, APRIL_1)).rows) == []
    assert [row.at for row in read_page(Asked(APRIL_1, MAY_1)).rows] == [APRIL_1]


@pytest.mark.parametrize("text", ["", "x", "2026-01-01T00:00:00+00:00~1", "2026-01-01~1~2", "~~", "2026-13-01~1~1"])
def test_what_is_no_cursor_reads_as_none(text: str):
    assert Cursor.read(text) is None
