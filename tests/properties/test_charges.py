"""What must hold for every price: shown against a slow reference that walks unit by unit."""

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.charges import GRADUATED, PACKAGE, PER_UNIT, STAIRSTEP, VOLUME, Price, Tier, differs_cheaper, rate

AMOUNTS = st.decimals(0, 20, places=3)
UNITS = st.integers(0, 60).map(Decimal)


@st.composite
def tier_lists(draw):
    bounds = sorted(draw(st.sets(st.integers(1, 50), max_size=4)))
    return tuple(Tier(upper and Decimal(upper), draw(AMOUNTS), draw(AMOUNTS)) for upper in [*bounds, None])


@st.composite
def prices(draw, models=(PER_UNIT, PACKAGE, GRADUATED, VOLUME, STAIRSTEP)):
    model = draw(st.sampled_from(models))
    pack = Decimal(draw(st.integers(1, 9))) if model in (PACKAGE, GRADUATED, VOLUME) else Decimal(1)
    if model in (PER_UNIT, PACKAGE):
        return Price(model, rate=draw(AMOUNTS), pack=pack)
    tiers = draw(tier_lists())
    if model == STAIRSTEP:
        tiers = tuple(Tier(tier.up_to, flat=tier.flat) for tier in tiers)
    return Price(model, pack=pack, tiers=tiers)


def one_by_one(price: Price, units: int) -> Fraction:
    """The same amount, by loops over single units."""
    while units % price.pack:
        units += 1
    if not price.tiers:
        return Fraction(price.rate) / Fraction(price.pack) * units
    reached = [price.tiers[0]]
    each = Fraction(0)
    for n in range(1, units + 1):
        tier = next(tier for tier in price.tiers if tier.up_to is None or n <= tier.up_to)
        if tier is not reached[-1]:
            reached.append(tier)
        each += Fraction(tier.unit) / Fraction(price.pack)
    if price.model == GRADUATED:
        return each + sum(Fraction(tier.flat) for tier in reached)
    last = reached[-1]
    return Fraction(last.flat) + Fraction(last.unit) / Fraction(price.pack) * units


@settings(max_examples=300, deadline=None)
@given(price=prices(), units=UNITS)
def test_an_amount_equals_that_of_counting_unit_by_unit(price, units):
    assert rate(price, units).amount == one_by_one(price, int(units))


@settings(max_examples=200, deadline=None)
@given(price=prices(), units=UNITS)
def test_the_steps_sum_to_the_amount(price, units):
    found = rate(price, units)

    assert sum(step.amount for step in found.steps) == found.amount


@settings(max_examples=200, deadline=None)
@given(price=prices(), cuts=st.lists(st.integers(1, 60), min_size=2, max_size=6, unique=True))
def test_splitting_use_never_changes_the_sum(price, cuts):
    places = [0, *sorted(cuts)]
    parts = [rate(price, Decimal(b - a), before=Decimal(a)).amount for a, b in pairwise(places)]

    assert sum(parts) == rate(price, Decimal(places[-1])).amount


@settings(max_examples=200, deadline=None)
@given(price=prices(models=(PER_UNIT, PACKAGE, GRADUATED)), units=UNITS, more=UNITS)
def test_more_units_never_cost_less(price, units, more):
    assert rate(price, units + more).amount >= rate(price, units).amount


@settings(max_examples=200, deadline=None)
@given(price=prices(), units=st.integers(1, 60).map(Decimal))
def test_what_is_given_back_mirrors_what_was_used(price, units):
    assert rate(price, -units).amount == -rate(price, units).amount


@settings(max_examples=200, deadline=None)
@given(price=prices(), units=st.integers(1, 60).map(Decimal))
def test_taking_all_units_back_leaves_what_no_use_costs(price, units):
    assert rate(price, units).amount + rate(price, -units, before=units).amount == rate(price, Decimal(0)).amount


@settings(max_examples=200, deadline=None)
@given(old=prices(), new=prices(), units=UNITS)
def test_a_price_that_is_called_cheaper_costs_more_for_no_quantity(old, new, units):
    if differs_cheaper(old, new):
        assert rate(new, units).amount <= rate(old, units).amount


@settings(max_examples=100, deadline=None)
@given(price=prices())
def test_a_stored_price_is_the_same_price(price):
    assert Price.from_json(price.to_json()) == price
