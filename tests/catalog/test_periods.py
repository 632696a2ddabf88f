"""Periods as values: what can be one. Their arithmetic is tried with random instants in tests/properties."""

import pytest

from catalog.periods import Cadence, DatesOutOfOrder, NaiveInstant, Period, period_containing
from tests.instants import APRIL_1, MARCH_1


def test_a_period_cannot_end_before_it_starts():
    """Law 1"""
    with pytest.raises(DatesOutOfOrder):
        Period(APRIL_1, MARCH_1)


def test_a_period_may_end_the_instant_it_starts():
    """Law 1"""
    assert APRIL_1 not in Period(APRIL_1, APRIL_1)


def test_an_instant_without_a_zone_is_refused():
    """Law 1"""
    with pytest.raises(NaiveInstant):
        period_containing(MARCH_1.replace(tzinfo=None), Cadence(months=1), APRIL_1.replace(tzinfo=None))
