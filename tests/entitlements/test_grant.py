"""Bonuses: units beside every plan, which are burnt in order, give access alone, and end without a successor."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal

import pytest
from django.db import connection, transaction

from customers.models import Customer
from entitlements.balances import Mode
from entitlements.check import check_all
from entitlements.grant import BadGrant, GrantIsOver, GrantIsUsed, NotGrantable, change_grant, grant, void_grant
from entitlements.ledger import ledger
from entitlements.models import Balance, Grant
from entitlements.reset import reset_due
from entitlements.track import LimitReached, track
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db


def bonus(
    who: Customer, units: int, *, ends_at: datetime | None = None, of: str = "credits", now: datetime = MARCH_1
) -> Balance:
    """The one window of a bonus."""
    given = grant(who, a.feature(of), Decimal(units), ends_at=ends_at, label="Support case 412", now=now)
    return given.balances.get()


def terms(balance: Balance) -> Grant:
    assert balance.grant is not None
    return balance.grant


def used(balance: Balance) -> Decimal:
    balance.refresh_from_db()
    return balance.used


def test_a_bonus_leaves_the_limit_as_it_is_and_carries_the_extra():
    """P-32"""
    who = a.on(a.pro(credits=100))

    bonus(who, 40, ends_at=APRIL_16)

    found = a.access(who)
    assert (found.limit, found.remaining) == (100, 140)
    assert found.bonus is not None and found.bonus.remaining == 40
    assert found.next_reset_at == APRIL_1


def test_what_ends_first_is_burnt_first():
    who = a.on(a.pro(credits=100))
    soon, late = bonus(who, 40, ends_at=MARCH_16), bonus(who, 40, ends_at=MAY_1)

    a.use(who, 150)

    assert (used(soon), a.access(who).used, used(late)) == (40, 100, 10)


def test_a_bonus_without_end_is_burnt_last():
    who = a.on(a.pro(credits=100))
    lasting = bonus(who, 40)

    a.use(who, 110)

    assert used(lasting) == 10


def test_units_given_back_go_to_what_was_burnt_last():
    who = a.on(a.pro(credits=100))
    lasting = bonus(who, 40)
    a.use(who, 120)

    a.use(who, -30)

    assert (used(lasting), a.access(who).used) == (0, 90)


def test_a_bonus_gives_access_without_any_plan():
    who = a.customer()
    bonus(who, 40)

    found = a.use(who, 30).access

    assert (found.has_access, found.allowed, found.remaining, found.limit) == (True, True, 10, 0)
    assert found.source == "bonus"


def test_use_beyond_a_bonus_and_no_plan_is_refused():
    who = a.customer()
    bonus(who, 40)

    with pytest.raises(LimitReached):
        a.use(who, 41)


def test_use_beyond_everything_goes_to_the_plan_not_to_the_bonus():
    who = a.on(a.pro(credits=100))
    lasting = bonus(who, 40)

    a.overuse(who, 150)

    assert (used(lasting), a.access(who).overage) == (40, 10)


def test_a_feature_that_only_a_bonus_gives_is_listed():
    who = a.on(a.pro())
    bonus(who, 5, of="images")

    assert [found.feature for found in check_all(who, now=MARCH_1)] == ["credits", "images"]


def test_a_bonus_beside_the_default_product_is_not_taken_for_its_balance():
    a.default(a.lasting(10, of="credits"))
    who = a.customer()
    own = bonus(who, 40, now=MARCH_16)

    a.use(who, 5, now=MARCH_16)

    assert (a.access(who, now=MARCH_16).remaining, used(own)) == (45, 0)


def test_a_bonus_that_has_ended_counts_no_more_although_no_worker_came():
    who = a.on(a.pro(credits=100))
    bonus(who, 40, ends_at=MARCH_16)

    assert a.access(who, now=MARCH_16).remaining == 100


def test_a_bonus_that_ends_is_closed_without_successor():
    who = a.on(a.pro(credits=100))
    ended = bonus(who, 40, ends_at=MARCH_16)

    reset_due(now=MARCH_16)

    ended.refresh_from_db()
    assert (ended.closed_at, ended.ends_at) == (MARCH_16, MARCH_16)
    assert Balance.objects.filter(customer=who, source=Balance.Source.BONUS).count() == 1


def test_a_bonus_outlives_a_reset_of_the_plan():
    who = a.on(a.pro(credits=100))
    bonus(who, 40, ends_at=MAY_1)
    a.use(who, 120)

    a.pass_time(who, to=APRIL_1)

    assert a.access(who, now=APRIL_1).remaining == 120


def test_a_bonus_outlives_a_change_of_plan():
    who = a.on(a.pro(credits=100))
    bonus(who, 40)

    a.enable(who, a.team(credits=500), now=MARCH_16)

    assert a.access(who, now=MARCH_16).remaining == 540


def test_a_bonus_taken_back_keeps_what_was_used_of_it():
    """P-38"""
    who = a.customer()
    own = bonus(who, 40)
    a.use(who, 15)

    gone = void_grant(terms(own), now=MARCH_16)

    own.refresh_from_db()
    assert (gone, own.used, own.left, own.closed_at) == (25, 15, 0, MARCH_16)
    assert not a.access(who, now=MARCH_16).has_access


def test_a_bonus_taken_back_twice_changes_nothing_the_second_time():
    """P-38, Y-44"""
    own = bonus(a.customer(), 40)
    void_grant(terms(own), now=MARCH_16)

    assert void_grant(terms(own), now=APRIL_1) == 0
    given = terms(own)
    given.refresh_from_db()
    assert given.voided_at == MARCH_16


def test_a_bonus_that_is_over_cannot_be_changed():
    """P-38"""
    own = bonus(a.customer(), 40)
    void_grant(terms(own), now=MARCH_16)

    with pytest.raises(GrantIsOver):
        change_grant(terms(own), ends_at=None, now=APRIL_1)


def test_a_bonus_can_be_changed_while_nobody_used_it():
    """P-38"""
    who = a.customer()
    own = bonus(who, 40)

    change_grant(terms(own), units=Decimal(60), ends_at=MAY_1, label="Case 413", now=MARCH_16)

    own.refresh_from_db()
    assert (own.granted, own.ends_at, own.label) == (60, MAY_1, "Case 413")
    assert ledger(own)[-1].after == 60


def test_a_bonus_that_was_used_can_no_longer_be_changed():
    """P-38"""
    who = a.customer()
    own = bonus(who, 40)
    a.use(who, 1)

    with pytest.raises(GrantIsUsed):
        change_grant(terms(own), units=Decimal(60), ends_at=None, now=MARCH_16)


@pytest.mark.parametrize("type", ["boolean", "static"])
def test_a_bonus_of_what_is_not_counted_is_refused(type: str):
    """P-39"""
    with pytest.raises(NotGrantable):
        grant(a.customer(), a.feature("sso", type=type), Decimal(5), ends_at=None, label="x", now=MARCH_1)


@pytest.mark.parametrize("units", ["0", "-1", "NaN", "0.0000001", "1e24"])
def test_units_that_cannot_be_given_are_refused(units: str):
    with pytest.raises(BadGrant):
        grant(a.customer(), a.feature(), Decimal(units), ends_at=None, label="x", now=MARCH_1)


def test_an_end_in_the_past_is_refused():
    with pytest.raises(BadGrant):
        bonus(a.customer(), 40, ends_at=MARCH_1, now=MARCH_16)


def test_the_ledger_of_a_bonus_sums_to_what_is_left():
    who = a.customer()
    own = bonus(who, 40)
    a.use(who, 15)
    void_grant(terms(own), now=MARCH_16)

    own.refresh_from_db()
    assert [(line.amount, line.after) for line in ledger(own)] == [(40, 40), (-15, 25), (-25, 0), (0, 0)]


def test_a_check_with_a_bonus_needs_no_more_queries(django_assert_max_num_queries):
    who = a.on(a.pro())
    bonus(who, 40)
    a.access(who)

    with django_assert_max_num_queries(5):
        a.access(who)


# Units that are bought once -----------------------------------------------------------------------------------------


def top_up(included: int = 0):
    return a.plan("top-up", a.prepaid(included, once=True))


def test_a_top_up_bought_twice_adds_up():
    """Y-57"""
    who, plan = a.customer(), top_up()
    a.enable(who, plan, bought={"credits": Decimal(100)})

    a.enable(who, plan, bought={"credits": Decimal(100)}, now=MARCH_16)

    assert a.access(who, now=MARCH_16).remaining == 200
    assert a.totals(who) == [1000, 1000]


def test_what_was_used_of_the_first_top_up_stays_used():
    """Y-57"""
    who, plan = a.customer(), top_up()
    a.enable(who, plan, bought={"credits": Decimal(100)})
    a.use(who, 30)

    a.enable(who, plan, bought={"credits": Decimal(100)}, now=MARCH_16)

    kept = Balance.objects.get(customer=who, source=Balance.Source.PURCHASE)
    assert (kept.granted, kept.ends_at, a.access(who, now=MARCH_16).remaining) == (70, None, 170)


def test_use_between_the_preview_and_the_second_top_up_is_not_given_back():
    """Y-57"""
    who, plan = a.customer(), top_up()
    a.enable(who, plan, bought={"credits": Decimal(100)})
    proposal = a.propose(who, a.reread(plan), bought={"credits": Decimal(100)}, activation=a.Activation.NOW)
    confirmed = a.confirmation(a.preview_plan(who, proposal, now=MARCH_16))
    a.use(who, 30, now=MARCH_16)

    a.enable_plan(who, proposal, reason="more", actor=a.STAFF, now=MARCH_16, confirmed=confirmed)

    assert a.access(who, now=MARCH_16).remaining == 170


def test_bought_units_outlive_the_plan_that_replaces_their_own():
    """Y-57"""
    who = a.customer()
    a.enable(who, top_up(), bought={"credits": Decimal(100)})
    a.use(who, 30)

    a.enable(who, a.pro(credits=50), now=MARCH_16)

    assert a.access(who, now=MARCH_16).remaining == 120


def test_a_purchase_counts_towards_the_limit_and_is_no_bonus():
    who, plan = a.customer(), top_up()
    a.enable(who, plan, bought={"credits": Decimal(100)})
    a.enable(who, plan, bought={"credits": Decimal(100)}, now=MARCH_16)

    found = a.access(who, now=MARCH_16)

    assert (found.limit, found.bonus) == (200, None)


@pytest.mark.django_db(transaction=True)
def test_a_bonus_is_burnt_once_when_two_use_it_at_once():
    who = a.customer()
    own = bonus(who, 10)

    def take(_: int) -> bool:
        try:
            with transaction.atomic():
                return track(who, feature="credits", amount=Decimal(6), now=MARCH_16, mode=Mode.REJECT).applied
        except LimitReached:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(take, range(2)))

    assert (sorted(done), used(own)) == ([False, True], 6)
