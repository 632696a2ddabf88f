from calendar import monthrange
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.periods import Cadence, boundary, count_until, period_containing, window
from tests.instants import day

CADENCES = st.sampled_from(["PT1H", "P1D", "P1W", "P1M", "P3M", "P6M", "P1Y"]).map(Cadence.parse)
# Hypothesis wants bounds without a zone and adds the zone itself.
INSTANTS = st.datetimes(datetime(1999, 1, 1), datetime(2060, 12, 31), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda at: at.replace(microsecond=0)
)


@settings(max_examples=400, deadline=None)
@given(anchor=INSTANTS, cadence=CADENCES, at=INSTANTS)
def test_every_instant_lies_in_exactly_one_period(anchor, cadence, at):
    n = count_until(anchor, cadence, at)

    assert boundary(anchor, cadence, n) <= at < boundary(anchor, cadence, n + 1)


@settings(max_examples=400, deadline=None)
@given(anchor=INSTANTS, months=st.sampled_from([1, 3, 6, 12]), n=st.integers(-60, 60))
def test_a_boundary_keeps_the_anchors_day_or_the_last_day_of_a_shorter_month(anchor, months, n):
    """A-28, Y-20, P-28"""
    at = boundary(anchor, Cadence(months=months), n)

    assert at.day == min(anchor.day, monthrange(at.year, at.month)[1])
    assert at.timetz() == anchor.timetz()
    assert (at.year * 12 + at.month) - (anchor.year * 12 + anchor.month) == n * months


@settings(max_examples=200, deadline=None)
@given(anchor=INSTANTS, cadence=CADENCES, at=INSTANTS, cut=st.fractions(0, 1))
def test_shares_of_a_period_sum_to_the_whole(anchor, cadence, at, cut):
    period = period_containing(anchor, cadence, at)
    middle = period.starts_at + timedelta(seconds=int(period.seconds * cut))

    assert (1 - period.left(middle)) + period.left(middle) == 1
    assert period.left(middle) == Fraction(int((period.ends_at - middle).total_seconds()), period.seconds)


def test_the_31st_comes_back_after_a_shorter_month():
    """A-28, Y-20"""
    anchor, monthly = day("2028-01-31T10:00"), Cadence.parse("P1M")

    assert [boundary(anchor, monthly, n) for n in (1, 2, 3)] == [
        day("2028-02-29T10:00"),
        day("2028-03-31T10:00"),
        day("2028-04-30T10:00"),
    ]


def test_a_leap_day_anchor_returns_in_the_next_leap_year():
    anchor, yearly = day("2024-02-29"), Cadence.parse("P1Y")

    assert [boundary(anchor, yearly, n) for n in (1, 4)] == [day("2025-02-28"), day("2028-02-29")]


def test_calendar_windows_are_the_same_for_everybody_and_weeks_begin_on_monday():
    """P-27, P-28"""
    at = day("2026-11-21T09:00")  # a Saturday

    assert window("P1M", day("2020-05-17"), at, on_calendar=True).starts_at == day("2026-11-01")
    assert window("P1W", day("2020-05-17"), at, on_calendar=True).starts_at == day("2026-11-16")
    assert window("P3M", day("2020-05-17"), at, on_calendar=True).starts_at == day("2026-10-01")


def test_a_balance_that_never_resets_has_a_window_without_an_end():
    """P-30"""
    assert window("never", day("2026-01-01"), day("2030-01-01")).ends_at is None
