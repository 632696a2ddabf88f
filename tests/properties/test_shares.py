"""Shares of time: however a period is cut, its parts cost what the whole costs, up to the rounding of each line."""

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from catalog.periods import Cadence, period_containing
from catalog.terms import IN_ARREARS, ItemTerms
from invoicing.lines import advance_line, arrears_line
from tests.instants import MARCH_1

AMOUNTS = st.decimals(0, 100_000, places=4, allow_nan=False)
CADENCES = st.sampled_from(["P1M", "P3M", "P1Y"])
CUTS = st.lists(st.integers(0, 366 * 86_400), max_size=6)
ANCHORS = st.integers(0, 40 * 86_400)


@given(amount=AMOUNTS, cadence=CADENCES, cuts=CUTS, shift=ANCHORS, quantity=st.integers(1, 50))
def test_a_fee_in_arrears_costs_the_same_however_its_period_is_cut(amount, cadence, cuts, shift, quantity):
    """Law 2"""
    anchor = MARCH_1 + timedelta(seconds=shift)
    period = period_containing(anchor, Cadence.parse(cadence), anchor)
    item = ItemTerms("base", amount=Decimal(amount), cadence=cadence, quantity=quantity, term=IN_ARREARS)
    inside = [anchor + timedelta(seconds=cut % period.seconds) for cut in cuts]
    stops = sorted({period.starts_at, *inside, period.ends_at})
    names = {"plan_name": "Pro", "currency": "USD"}

    parts = [arrears_line(item, period, since=a, until=b, **names).amount for a, b in pairwise(stops)]

    whole = arrears_line(item, period, since=period.starts_at, until=period.ends_at, **names).amount
    assert abs(sum(parts) - whole) <= len(parts) / 2 + 0.5


@given(amount=AMOUNTS, cadence=CADENCES, cut=st.integers(0, 366 * 86_400), shift=ANCHORS)
def test_the_time_before_and_after_an_instant_cost_the_whole_period(amount, cadence, cut, shift):
    """Law 2"""
    anchor = MARCH_1 + timedelta(seconds=shift)
    period = period_containing(anchor, Cadence.parse(cadence), anchor)
    at = anchor + timedelta(seconds=cut % period.seconds)
    ahead = ItemTerms("base", amount=Decimal(amount), cadence=cadence)
    behind = ItemTerms("base", amount=Decimal(amount), cadence=cadence, term=IN_ARREARS)
    names = {"plan_name": "Pro", "currency": "USD"}

    after = advance_line(ahead, period, since=at, **names).amount
    before = arrears_line(behind, period, since=anchor, until=at, **names).amount if at > anchor else 0

    assert abs(before + after - advance_line(ahead, period, since=anchor, **names).amount) <= 1
