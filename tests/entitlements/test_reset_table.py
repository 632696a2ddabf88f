"""The whole table of resets: cadences, what windows are anchored on, month ends, and an anchor that moves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from dateutil.relativedelta import relativedelta

from billing_admin.flows.customers import update_customer
from catalog.terms import BILLING_PERIOD, CALENDAR, METERED, FeatureTerms, ItemTerms, PlanTerms
from customers.contracts import Contract
from customers.models import Customer
from entitlements.balances import Contribution
from entitlements.models import Balance
from entitlements.reset import reset_due
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1, day

HOUR = timedelta(hours=1)
STEPS = {
    "PT1H": relativedelta(hours=1),
    "P1D": relativedelta(days=1),
    "P1W": relativedelta(weeks=1),
    "P1M": relativedelta(months=1),
    "P3M": relativedelta(months=3),
    "P6M": relativedelta(months=6),
    "P1Y": relativedelta(years=1),
}
# Month ends, a leap day, the hours in which Europe and America change their clocks, the last instant of a year.
INSTANTS = [
    day("2028-02-29T12:00"),
    day("2026-02-28T23:59"),
    day("2026-03-29T01:30"),
    day("2026-03-31T00:00"),
    day("2026-04-30T23:59"),
    day("2026-11-01T05:30"),
    day("2026-12-31T23:59"),
]
ANCHORS = {
    "billing_period": day("2024-01-31T10:15"),
    "usage_started_at": day("2024-08-30T07:00"),
    "created_at": day("2024-02-29T18:45"),
}


def slowly(step: relativedelta, anchor: datetime, at: datetime) -> tuple[datetime, datetime]:
    """The window of an instant by counting windows one after the other, each from the anchor."""
    n = 0
    while anchor + step * (n + 1) <= at:
        n += 1
    return anchor + step * n, anchor + step * (n + 1)


def by_the_calendar(step: str, at: datetime) -> datetime:
    midnight = datetime(at.year, at.month, at.day, tzinfo=UTC)
    starts = {
        "PT1H": at.replace(minute=0),
        "P1D": midnight,
        "P1W": midnight - timedelta(days=at.weekday()),
        "P1M": midnight.replace(day=1),
        "P3M": midnight.replace(month=(at.month - 1) // 3 * 3 + 1, day=1),
        "P6M": midnight.replace(month=(at.month - 1) // 6 * 6 + 1, day=1),
        "P1Y": midnight.replace(month=1, day=1),
    }
    return starts[step]


def contribution(reset: str, anchor: datetime, *, kind: str, on: str = BILLING_PERIOD) -> Contribution:
    feature = FeatureTerms("credits", "Credits", METERED, id=1)
    item = ItemTerms("credits", feature=feature, included=Decimal(100), reset=reset, reset_anchor=on, id=1)
    terms = PlanTerms(1, "USD", "P1M", (item,), kind=kind)
    return Contribution(Contract(1, "Pro", kind, 1, terms, anchor, anchor, anchor, subscription_id=1), item)


@pytest.mark.parametrize("at", INSTANTS, ids=lambda at: f"{at:%Y-%m-%dT%H:%M}")
@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("reset", STEPS)
def test_a_window_is_counted_from_its_anchor(reset: str, anchor: str, at: datetime):
    """P-24 P-25 P-26 P-28"""
    kind = "billed" if anchor == "billing_period" else "assigned"

    found = contribution(reset, ANCHORS[anchor], kind=kind).window(at)

    assert (found.starts_at, found.ends_at) == slowly(STEPS[reset], ANCHORS[anchor], at)


@pytest.mark.parametrize("at", INSTANTS, ids=lambda at: f"{at:%Y-%m-%dT%H:%M}")
@pytest.mark.parametrize("kind", ["billed", "assigned"])
@pytest.mark.parametrize("reset", STEPS)
def test_a_calendar_window_is_the_same_for_everybody(reset: str, kind: str, at: datetime):
    """P-27"""
    starts = by_the_calendar(reset, at)

    found = contribution(reset, ANCHORS["created_at"], kind=kind, on=CALENDAR).window(at)

    assert (found.starts_at, found.ends_at) == (starts, starts + STEPS[reset])


def test_the_first_calendar_window_of_a_contract_begins_with_the_contract():
    bought = contribution("P1M", day("2026-03-16"), kind="billed", on=CALENDAR)

    found = bought.window(day("2026-03-20"))

    assert (found.starts_at, found.ends_at) == (day("2026-03-16"), APRIL_1)


@pytest.mark.parametrize("reset", ["P1D", "P1M", "P1Y"])
def test_a_trial_is_a_period_of_its_own(reset: str):
    starts = day("2026-03-16")
    trial = contribution(reset, starts, kind="billed")
    trial = replace(trial, contract=replace(trial.contract, trial_ends_at=starts + timedelta(days=10, hours=6)))

    found = trial.window(starts + timedelta(days=10, hours=1))

    assert found.ends_at == starts + timedelta(days=10, hours=6)


def test_what_never_resets_has_no_next_reset():
    """P-30"""
    found = contribution("never", MARCH_1, kind="billed").window(day("2031-01-01"))

    assert found.ends_at is None


# Through the database -------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("reset", STEPS)
def test_a_check_tells_the_next_reset_of_every_cadence(reset: str):
    since = day("2026-01-31T10:15")
    who = a.on(a.plan("pro", a.fee(10), a.allowance(100, resets=reset), now=since), since=since)

    found = a.access(who, now=day("2026-02-28T23:59"))

    assert found.next_reset_at == slowly(STEPS[reset], since, day("2026-02-28T23:59"))[1]


@pytest.mark.django_db
def test_several_contributors_keep_windows_of_their_own():
    """A check names the reset that comes first; what it gives back is the allowance of that window."""
    who = a.on(a.plan("pro", a.fee(10), a.allowance(100)), since=MARCH_1)
    a.enable(who, a.assigned("partner", a.allowance(10, resets="P1W"), of="partners"), now=MARCH_16)
    a.enable(who, a.assigned("daily", a.allowance(1, resets="P1D", calendar=True), of="extras"), now=MARCH_16)
    a.use(who, 111, now=MARCH_16 + HOUR)

    resets = [(at, a.access(who, now=at).remaining) for at in (day("2026-03-17"), day("2026-03-22"), APRIL_1)]

    assert a.access(who, now=MARCH_16 + HOUR).next_reset_at == day("2026-03-17")
    assert resets == [(day("2026-03-17"), 1), (day("2026-03-22"), 11), (APRIL_1, 111)]


def moved(who: Customer, *, to: datetime, now: datetime) -> Customer:
    return update_customer(who, usage_started_at=to, reason="signed late", actor=a.STAFF, now=now)


@pytest.mark.django_db
def test_an_anchor_that_moves_in_a_window_reopens_it_and_recounts_its_use():
    """P-29"""
    who = a.customer(since=MARCH_1)
    a.enable(who, a.assigned("partner", a.allowance(100)), now=MARCH_1)
    a.use(who, 30, now=MARCH_16 - HOUR)
    a.use(who, 20, now=MARCH_16 + HOUR)

    moved(who, to=MARCH_16, now=day("2026-03-20"))

    [row] = Balance.objects.all()
    assert (row.starts_at, row.ends_at, row.used) == (MARCH_16, APRIL_16, 20)


@pytest.mark.django_db
def test_an_anchor_that_moves_leaves_windows_of_contracts_alone():
    """P-26"""
    who = a.on(a.plan("pro", a.fee(10), a.allowance(100)))
    a.use(who, 30)

    moved(who, to=MARCH_16 - 40 * 24 * HOUR, now=MARCH_16)

    assert a.access(who, now=MARCH_16).next_reset_at == APRIL_1


@pytest.mark.django_db
def test_a_plan_that_was_left_is_resumed_in_the_window_of_the_anchor_that_moved_meanwhile():
    """P-29"""
    who = a.customer(since=MARCH_1)
    first, second = a.assigned("one", a.allowance(100)), a.assigned("two", a.allowance(50))
    a.enable(who, first, now=MARCH_1)
    a.use(who, 30, now=MARCH_16 + HOUR)
    a.enable(who, second, now=MARCH_16 + 2 * HOUR)
    moved(who, to=MARCH_16, now=day("2026-03-20"))

    a.enable(who, first, now=day("2026-03-25"))

    found = a.access(who, now=day("2026-03-25"))
    assert (found.remaining, found.next_reset_at) == (70, APRIL_16)


@pytest.mark.django_db
def test_a_plan_that_was_left_for_longer_than_its_window_begins_afresh_in_that_of_the_anchor():
    """P-29"""
    who = a.customer(since=MARCH_1)
    first, second = a.assigned("one", a.allowance(100)), a.assigned("two", a.allowance(50))
    a.enable(who, first, now=MARCH_1)
    a.use(who, 30, now=MARCH_16 - HOUR)
    a.enable(who, second, now=MARCH_16)
    moved(who, to=MARCH_16, now=day("2026-03-20"))

    a.enable(who, first, now=day("2026-04-20"))

    found = a.access(who, now=day("2026-04-20"))
    assert (found.remaining, found.next_reset_at) == (100, day("2026-05-16"))


@pytest.mark.django_db
@pytest.mark.parametrize("reset", ["PT1H", "P1D", "P1W", "P1M"])
def test_a_worker_that_comes_late_opens_the_window_that_holds_then(reset: str):
    """A-38"""
    who = a.on(a.plan("pro", a.fee(10), a.allowance(100, resets=reset)))
    a.use(who, 30)
    late = MAY_1 + timedelta(hours=5, minutes=30)

    reset_due(now=late)

    row = Balance.objects.get(closed_at=None)
    assert (row.starts_at, row.ends_at) == slowly(STEPS[reset], MARCH_1, late)
