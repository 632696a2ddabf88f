"""How much of a level a contract has in use, and what that adds to what its phases bring."""

from decimal import Decimal

import pytest

from catalog.terms import PlanTerms
from customers.levels import keep_levels
from customers.models import Customer, LevelInUse, LevelRevenue, Phase
from customers.recurring import Held, Piece, levels_add, pieces
from tests.builders import customer, enable, feature, fee, on, paid_seats, plan, the_subscription
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1

SEATS = "seats"


def terms() -> PlanTerms:
    return plan("pro", fee(50), paid_seats(2)).current_version.terms()


def keep(who: Customer, units: int, at) -> None:
    keep_levels(the_subscription(who).pk, {feature(SEATS).pk: Decimal(units)}, at=at)


def added(who: Customer) -> list[tuple]:
    rows = LevelRevenue.objects.filter(phase__subscription__customer=who)
    return [(row.starts_at, row.ends_at, row.monthly) for row in rows]


@pytest.mark.django_db
@pytest.mark.parametrize(("units", "adds"), [("0", 0), ("2", 0), ("3", 1000), ("12.5", 10_500)])
def test_units_beyond_the_included_ones_add_their_price(units, adds):
    assert levels_add(terms(), 1, {}, {SEATS: Decimal(units)}) == adds


@pytest.mark.django_db
def test_levels_of_features_that_the_plan_does_not_price_add_nothing():
    assert levels_add(terms(), 1, {}, {"desks": Decimal(9)}) == 0


@pytest.mark.django_db
def test_a_history_becomes_pieces_and_neighbours_that_add_the_same_are_one():
    """From 3 to 1 to none to 4: what is included adds nothing."""
    history = [
        Held(SEATS, Decimal(3), MARCH_1, MARCH_16),
        Held("desks", Decimal(1), MARCH_1, APRIL_1),
        Held(SEATS, Decimal(3), MARCH_16, APRIL_1),
        Held(SEATS, Decimal(1), APRIL_1, APRIL_16),
        Held(SEATS, Decimal(4), MAY_1),
    ]

    assert pieces(terms(), 1, {}, history) == [Piece(MARCH_1, APRIL_1, 1000), Piece(MAY_1, None, 2000)]


@pytest.mark.django_db
def test_a_level_is_kept_from_until_with_what_it_adds():
    who = on(plan("pro", fee(50), paid_seats(2)))
    keep(who, 5, MARCH_16)
    keep(who, 7, APRIL_16)
    keep(who, 0, MAY_1)

    assert added(who) == [(MARCH_16, APRIL_16, 3000), (APRIL_16, MAY_1, 5000)]
    assert [(row.units, row.ends_at) for row in LevelInUse.objects.all()] == [(5, APRIL_16), (7, MAY_1)]


@pytest.mark.django_db
def test_the_same_level_again_writes_nothing(django_assert_num_queries):
    who = on(plan("pro", fee(50), paid_seats(2)))
    keep(who, 5, MARCH_16)
    contract, seats = the_subscription(who).pk, feature(SEATS).pk

    with django_assert_num_queries(1):
        keep_levels(contract, {seats: Decimal(5)}, at=APRIL_16)


@pytest.mark.django_db
def test_what_comes_late_with_an_earlier_instant_leaves_the_past_alone():
    who = on(plan("pro", fee(50), paid_seats(2)))
    keep(who, 5, APRIL_1)
    keep(who, 7, MARCH_16)

    assert added(who) == [(APRIL_1, None, 5000)]


@pytest.mark.django_db
def test_a_phase_to_come_brings_what_the_level_adds_at_its_own_price():
    who = on(plan("team", fee(200), paid_seats(2, price="20")))
    enable(who, plan("pro", fee(50), paid_seats(2)), now=MARCH_16)
    keep(who, 5, MARCH_16)

    assert sorted(monthly for _, _, monthly in added(who)) == [3000, 6000]


@pytest.mark.django_db
def test_a_phase_that_is_back_in_force_knows_the_levels_that_came_meanwhile():
    who = on(plan("pro", fee(50), paid_seats(2)))
    keep(who, 3, MARCH_1)
    phase = Phase.objects.get()
    phase.ends_at = MARCH_16
    phase.save(update_fields=["ends_at"])
    keep(who, 6, APRIL_1)
    assert added(who) == [(MARCH_1, None, 1000)]

    phase.ends_at = None
    phase.save(update_fields=["ends_at"])

    assert added(who) == [(MARCH_1, APRIL_1, 1000), (APRIL_1, None, 4000)]


@pytest.mark.django_db
def test_a_phase_that_is_sold_anew_brings_what_its_own_terms_say():
    who = customer()
    enable(who, plan("pro", fee(50), paid_seats(2)))
    keep(who, 6, MARCH_16)
    phase = Phase.objects.get()
    phase.quantity = 2
    phase.save(update_fields=["quantity"])

    assert (phase.monthly, added(who)) == (10_000, [(MARCH_16, None, 2000)])
