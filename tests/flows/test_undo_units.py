"""Taking a change back that bought units: they go back, those that are used stay with their part of the charge."""

from decimal import Decimal

import pytest

from customers.models import Customer
from entitlements.models import Grant
from invoicing.models import Invoice
from invoicing.readings import account_credit
from tests import builders as a
from tests.flows.undo_world import last, seen, take_back
from tests.instants import APRIL_1, MARCH_16, day

pytestmark = pytest.mark.django_db
MARCH_20 = day("2026-03-20")


def bought(packs: int, *, pays: bool = True) -> Customer:
    """100 included and 100 bought; from 16 March so many packs of 100 more, at $31.00 a month each."""
    plan = a.plan("pro", a.fee(50), a.prepaid(100, price="31"))
    who = a.customer()
    a.enable(who, plan, bought={"credits": Decimal(200)})
    a.pay_all(who)
    a.enable(who, plan, now=MARCH_16, bought={"credits": Decimal(200 + 100 * packs)})
    if pays:
        a.pay_all(who, now=MARCH_16)
    return who


def back(who: Customer) -> None:
    take_back(last(who, "plan.enabled"), now=MARCH_20)


def test_units_that_nobody_used_go_back_with_all_of_their_charge():
    """L-47: 16 of 31 days of two packs."""
    who = bought(2)
    a.use(who, 150, now=MARCH_16)

    back(who)

    access = a.access(who, now=MARCH_20)
    assert (access.limit, access.used, account_credit(who)) == (200, 150, 3200)


def test_units_that_are_used_stay_with_their_part_of_the_charge():
    """L-47: 50 of the 200 that were bought are used; $8.00 of $32.00."""
    who = bought(2)
    a.use(who, 250, now=MARCH_16)

    taken = seen(last(who, "plan.enabled"), now=MARCH_20)
    back(who)

    assert taken.stays[0] == (
        "50 Credits of those that were bought with it are used: they stay, with $8.00 of ACME-0002."
    )
    assert (a.left(who, now=MARCH_20), account_credit(who)) == (0, 2400)


def test_units_that_are_used_and_not_paid_for_are_still_owed():
    """L-47"""
    who = bought(2, pays=False)
    a.use(who, 250, now=MARCH_16)

    back(who)

    assert (a.left(who, now=MARCH_20), who.invoices.get(number="ACME-0002").due) == (0, 800)


def test_the_next_period_begins_with_the_former_units():
    """L-47"""
    who = bought(2)
    a.use(who, 250, now=MARCH_16)

    back(who)
    a.pass_time(who, to=APRIL_1)

    assert (a.left(who, now=APRIL_1), a.totals(who)[-1]) == (200, 8100)


def test_units_of_another_plan_go_back_and_what_is_used_of_them_stays():
    """L-47: 100 were there before; of 300 used, 200 have no room but in what was bought."""
    who = a.on(a.pro())
    a.use(who, 40)
    a.enable(who, a.plan("packs", a.fee(80), a.prepaid(0, price="31")), now=MARCH_16, bought={"credits": Decimal(400)})
    a.pay_all(who, now=MARCH_16)
    a.use(who, 160, now=MARCH_16)

    taken = seen(last(who, "plan.enabled"), now=MARCH_20)
    back(who)

    assert taken.stays[0].startswith("100 Credits of those that were bought with it are used")
    access = a.access(who, now=MARCH_20)
    assert (access.remaining, access.next_reset_at) == (0, APRIL_1)


def once(units: int) -> dict[str, Decimal]:
    return {"tokens": Decimal(units)}


def lasting(key: str, price: int) -> object:
    return a.plan(key, a.fee(price), a.prepaid(0, of="tokens", price="10", once=True))


def test_units_that_became_a_purchase_are_the_plans_again():
    """L-47: 300 were bought once, 100 are used; 20 more were used of the purchase."""
    who = a.customer()
    a.enable(who, lasting("pro", 50), bought=once(300))
    a.pay_all(who)
    a.use(who, 100, of="tokens")
    a.enable(who, a.team(), now=MARCH_16)
    a.use(who, 20, of="tokens", now=MARCH_16)
    assert a.left(who, of="tokens", now=MARCH_16) == 180

    back(who)

    assert a.left(who, of="tokens", now=MARCH_20) == 180
    assert Grant.objects.get().voided_at == MARCH_20


def test_units_bought_once_more_go_back_and_those_from_before_stay():
    """L-47"""
    who = a.customer()
    a.enable(who, lasting("pro", 50), bought=once(300))
    a.pay_all(who)
    a.use(who, 100, of="tokens")
    a.enable(who, lasting("team", 200), now=MARCH_16, bought=once(500))
    a.pay_all(who, now=MARCH_16)

    back(who)

    assert a.left(who, of="tokens", now=MARCH_20) == 200
    note = who.invoices.get(kind=Invoice.Kind.CREDIT_NOTE)
    assert -5000 in note.lines.values_list("amount", flat=True)


def test_a_first_plan_whose_units_are_used_gives_back_the_rest_of_them():
    """L-47: of $30.00 for 300 units, 75 are used."""
    who = a.customer()
    a.enable(who, lasting("pro", 50), now=MARCH_16, bought=once(300))
    a.pay_all(who, now=MARCH_16)
    a.use(who, 75, of="tokens", now=MARCH_16)

    take_back(last(who, "plan.enabled"), now=MARCH_16)

    assert account_credit(who) == 5000 + 2250


def test_seats_in_use_stay_in_use_and_are_paid_as_before():
    """L-47: five seats, two of them included; the dearer seats of the other plan are given back."""
    who = a.on(a.plan("pro", a.fee(50), a.paid_seats(2, price="10")))
    a.use(who, 5, of="seats")
    a.pay_all(who)
    a.enable(who, a.plan("team", a.fee(200), a.paid_seats(2, price="25")), now=MARCH_16)
    a.pay_all(who, now=MARCH_16)

    back(who)
    a.pass_time(who, to=APRIL_1)

    assert a.access(who, of="seats", now=APRIL_1).used == 5
    assert a.totals(who)[-1] == 5000 + 3 * 1000
