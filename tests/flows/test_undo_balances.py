"""Taking back edits of balances and units that were given."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing_admin.flows.grants import Wanted, change_units, give_units, void_units
from customers.models import Customer, Operation
from entitlements.edit import edit_balance
from entitlements.ledger import ledger
from entitlements.models import Balance, Grant
from tests import builders as a
from tests.flows.undo_world import changes, last, seen, take_back, why
from tests.instants import APRIL_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db


def edited(who: Customer, to: int = 250, **more: object) -> Operation:
    operation, _ = edit_balance(
        who, feature="credits", to=Decimal(to), reason="outage", actor=a.STAFF, now=MARCH_16, **more
    )
    return operation


def given(who: Customer, units: int = 40, **more: object) -> Grant:
    wanted = Wanted(feature=a.feature("credits"), units=Decimal(units), ends_at=None, label="Sorry", **more)
    return give_units(who, wanted, reason="outage", actor=a.STAFF, now=MARCH_16)


def test_the_difference_of_an_edit_goes_back_and_use_in_between_stays():
    who = a.on(a.pro())
    operation = edited(who, 250)
    a.use(who, 30, now=MARCH_16)

    taken = seen(operation, now=MARCH_16)
    take_back(operation, now=MARCH_16)

    assert taken.stays == ("30 Credits were used in this window; they stay used.",)
    assert a.left(who, now=MARCH_16) == 70


def test_an_edit_under_a_later_one_takes_only_its_own_difference_back():
    who = a.on(a.pro())
    first = edited(who, 250)
    edited(who, 300)

    take_back(first, now=MARCH_16)

    assert a.left(who, now=MARCH_16) == 150


def test_the_ledger_of_a_balance_still_sums_to_what_is_left():
    """Every number is a sum of rows"""
    who = a.on(a.pro())
    take_back(edited(who, 250), now=MARCH_16)

    assert ledger(Balance.objects.get(customer=who))[-1].after == 100


def test_a_reset_date_that_was_moved_goes_back():
    who = a.on(a.pro())
    operation = edited(who, 250, reset_at=day("2026-03-25"))

    taken = seen(operation, now=MARCH_16)
    take_back(operation, now=MARCH_16)

    assert changes(taken)["Resets"] == ("25 Mar 2026", "1 Apr 2026")
    assert a.access(who, now=MARCH_16).next_reset_at == APRIL_1


def test_an_edit_ends_with_its_window_and_is_not_taken_back_after_it():
    who = a.on(a.pro())
    operation = edited(who, 250)

    assert why(operation, now=APRIL_1) == "The window ended on 1 Apr 2026, and the edit with it."


def test_what_is_left_of_a_bonus_goes_and_what_was_used_stays_used():
    who = a.on(a.pro())
    given(who, priority=-1)
    a.use(who, 10, now=MARCH_16)
    operation = last(who, "grant.given")

    taken = seen(operation, now=MARCH_16)
    made = take_back(operation, now=MARCH_16)

    assert taken.stays == ("10 Credits of it were used; they stay used.",)
    assert (made.verb, a.left(who, now=MARCH_16)) == ("grant.voided", 100)


def test_a_bonus_that_was_taken_back_is_given_again_with_what_was_left():
    who = a.on(a.pro())
    bonus = given(who, priority=-1)
    a.use(who, 10, now=MARCH_16)
    void_units(bonus, reason="wrong customer", actor=a.STAFF, now=MARCH_16)

    take_back(last(who, "grant.voided"), now=MARCH_16)

    assert a.access(who, now=MARCH_16).remaining == 130


def test_a_bonus_that_comes_again_is_given_again_whole_from_its_next_window():
    who = a.on(a.pro())
    bonus = given(who, priority=-1, recurs="P1M")
    a.use(who, 10, now=MARCH_16)
    void_units(bonus, reason="wrong customer", actor=a.STAFF, now=MARCH_16)

    take_back(last(who, "grant.voided"), now=MARCH_16)

    assert a.access(who, now=MARCH_16).remaining == 130
    assert a.access(who, now=day("2026-04-20")).remaining == 140


def test_a_bonus_that_has_ended_is_not_taken_back():
    who = a.on(a.pro())
    wanted = Wanted(feature=a.feature("credits"), units=Decimal(5), ends_at=APRIL_1, label="Sorry")
    give_units(who, wanted, reason="outage", actor=a.STAFF, now=MARCH_16)

    assert why(last(who, "grant.given"), now=MAY_1) == "Sorry ended on 1 Apr 2026."


def test_a_changed_bonus_changes_back():
    who = a.on(a.pro())
    bonus = given(who, 40)
    change_units(bonus, {"units": Decimal(90), "label": "Very sorry"}, actor=a.STAFF, now=MARCH_16)
    operation = last(who, "grant.changed")

    assert changes(seen(operation, now=MARCH_16))["Units"] == ("90", "40")
    take_back(operation, now=MARCH_16 + timedelta(hours=1))

    bonus.refresh_from_db()
    assert (bonus.units, bonus.label, a.access(who, now=MARCH_16).remaining) == (40, "Sorry", 140)


def test_a_bonus_that_was_changed_twice_changes_back_from_the_last():
    who = a.on(a.pro())
    bonus = given(who, 40)
    change_units(bonus, {"units": Decimal(90)}, actor=a.STAFF, now=MARCH_16)
    first = last(who, "grant.changed")
    change_units(bonus, {"units": Decimal(70)}, actor=a.STAFF, now=MARCH_16)

    assert why(first, now=MARCH_16) == "Sorry was changed again since."
