"""Grants that are changed, taken back or asked for again, late or with seats in use."""

from decimal import Decimal
from typing import Any

import pytest

from customers.models import Customer
from entitlements.edit import edit_balance
from entitlements.grant import GrantKeyReused, change_grant, grant, void_grant
from entitlements.ledger import ledger
from entitlements.models import Balance, Grant
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


def monthly(who: Customer, units: int = 100) -> Grant:
    return grant(who, a.feature(), Decimal(units), ends_at=None, label="Monthly", recurs="P1M", now=MARCH_1)


def sums(who: Customer) -> bool:
    """Whether each balance is the sum of its ledger."""
    return all(ledger(row)[-1].after == row.left for row in Balance.objects.filter(customer=who))


def test_a_change_after_a_window_that_nobody_closed_leaves_its_edit_there():
    """P-38, A-38"""
    who = a.on(a.pro(credits=100))
    given = monthly(who)
    window = given.balances.get()
    edit_balance(
        who, feature="credits", to=Decimal(10), balance_id=window.pk, reason="case 7", actor=a.STAFF, now=MARCH_1
    )

    change_grant(given, ends_at=None, units=Decimal(150), now=APRIL_16)

    assert a.left(who, now=APRIL_16) == 250
    assert list(given.balances.order_by("starts_at").values_list("starts_at", "granted", "adjusted")) == [
        (MARCH_1, 100, -90),
        (APRIL_1, 150, 0),
    ]
    assert sums(who)


def test_taken_back_after_a_window_that_nobody_closed_the_present_one_is_taken():
    """P-38, A-38"""
    given = monthly(who := a.on(a.pro(credits=100)))

    assert void_grant(given, now=APRIL_16) == 100

    assert a.left(who, now=APRIL_16) == 100 and sums(who)


def test_seats_that_a_grant_held_stay_in_use_when_it_is_taken_back():
    """P-38"""
    who = a.on(a.plan("team", a.fee(50), a.seats(5)))
    given = grant(who, a.feature("seats"), Decimal(5), ends_at=APRIL_1, label="Guests", now=MARCH_1)
    a.use(who, 8, of="seats")

    void_grant(given, now=MARCH_16)

    found = a.access(who, of="seats", now=MARCH_16)
    assert sum(bucket.used for bucket in found.buckets) == 8 and sums(who)


def test_one_that_begins_later_can_be_taken_back_before():
    """P-38"""
    who = a.on(a.pro(credits=100))
    given = grant(who, a.feature(), Decimal(5), starts_at=APRIL_1, ends_at=None, label="Soon", now=MARCH_1)

    assert void_grant(given, now=MARCH_16) == 5

    assert a.left(who, now=APRIL_16) == 100


@pytest.mark.parametrize("units", [5, 6])
def test_the_key_of_a_grant_that_has_ended_gives_it_again(units: int):
    """Y-43"""
    who = a.on(a.pro(credits=100))
    asked: dict[str, Any] = {"ends_at": MARCH_16, "label": "Welcome", "key": "deal-1"}
    first = grant(who, a.feature(), Decimal(5), **asked, now=MARCH_1)

    if units != 5:
        with pytest.raises(GrantKeyReused):
            grant(who, a.feature(), Decimal(units), **asked, now=APRIL_1)
    else:
        assert grant(who, a.feature(), Decimal(units), **asked, now=APRIL_1) == first
