"""Overrides through a move to another version: those of features stay, those of prices follow the mapping with the
billing periods they have left, whoever comes late."""

from dataclasses import replace
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError

from billing_admin.flows.migrate import take_back_row
from billing_admin.flows.migrate_order import Timing
from billing_admin.flows.migrate_outlook import dry_run
from billing_admin.flows.reprice import revoke_override
from catalog.mapping import PriceMapping
from customers.models import PriceOverride
from entitlements.override import override
from invoicing.issue import void
from invoicing.models import InvoiceLine
from invoicing.overrides import specials_of
from tests import builders as a
from tests.flows.migrations_world import moved, order, row_of, second_version
from tests.instants import APRIL_1, APRIL_16, JUNE_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db
JULY_1, AUGUST_1 = day("2026-07-01"), day("2026-08-01")


@pytest.fixture
def acme():
    """A special price of $30 for three billing periods, from 1 April."""
    who = a.on(a.plan("pro", a.fee(50), a.fee(7, key="support")))
    a.special_price(who, 3000, cycles=3, now=MARCH_16)
    return who


def plan_of(who):
    return a.the_subscription(who).phases.first().version.plan


def rename(who, **more):
    """The base fee goes on as the platform fee, at another price."""
    plan = plan_of(who)
    second_version(plan, a.fee(60, key="platform"), a.fee(7, key="support"))
    return moved(order(plan, ("base", "platform"), **more))


def month_by_month(who, *to):
    for at in to:
        a.pass_time(who, to=at)
    return a.totals(who)


MONTHS = (APRIL_1, MAY_1, JUNE_1, JULY_1)


def test_of_an_item_that_keeps_its_key_it_goes_on(acme):
    """L-27"""
    plan = plan_of(acme)
    second_version(plan, a.fee(60), a.fee(7, key="support"))
    moved(order(plan))

    assert month_by_month(acme, *MONTHS) == [5700, 3700, 3700, 3700, 6700]


def test_it_follows_its_item_to_another_key_with_the_periods_it_has_left(acme):
    """L-27"""
    rename(acme, timing=Timing.ON_DATE, not_before=MAY_1)

    assert month_by_month(acme, *MONTHS) == [5700, 3700, 3700, 3700, 6700]
    lines = InvoiceLine.objects.filter(override__isnull=False).order_by("id")
    assert [line.key for line in lines] == ["base", "platform", "platform"]


def test_a_late_worker_bills_as_a_punctual_one_would_have(acme):
    """L-27, law 7"""
    rename(acme, timing=Timing.ON_DATE, not_before=MAY_1)

    a.pass_time(acme, to=JULY_1)

    assert a.totals(acme) == [5700, 3700, 3700, 3700, 6700]


def test_a_void_invoice_gives_its_period_back_on_the_other_side_of_the_move(acme):
    """L-14, L-27"""
    rename(acme, timing=Timing.ON_DATE, not_before=MAY_1)
    a.pass_time(acme, to=APRIL_1, pays=False)
    void(acme.invoices.latest("id"), reason="wrong address", actor=a.STAFF, now=APRIL_16)

    assert month_by_month(acme, MAY_1, JUNE_1, JULY_1, AUGUST_1) == [5700, 3700, 3700, 3700, 3700, 6700]


def test_of_use_the_period_before_the_move_is_billed_under_the_old_key():
    """L-27: what is billed afterwards is billed by the item that it was used under."""
    plan = a.plan("usage", a.fee(10), a.allowance(0, of="calls", price="1"))
    who = a.on(plan)
    a.special_price(who, 500, key="calls", cycles=2, now=MARCH_16)
    a.use(who, 40, of="calls", now=MARCH_16)
    second_version(plan, a.fee(10), replace(a.allowance(0, of="calls", price="2"), key="requests"))
    moved(order(plan, ("calls", "requests")))

    a.pass_time(who, to=APRIL_1)
    a.use(who, 40, of="calls", now=APRIL_16)
    a.pass_time(who, to=MAY_1)
    a.use(who, 40, of="calls", now=day("2026-05-16"))
    a.pass_time(who, to=JUNE_1)

    assert a.totals(who) == [1000, 1500, 1500, 1000 + 8000]


def test_two_that_change_places_are_told_apart():
    """L-27"""
    plan = a.plan("pro", a.fee(50, key="one"), a.fee(40, key="two"))
    who = a.on(plan)
    a.special_price(who, 3000, key="one", now=MARCH_16)
    second_version(plan, a.fee(50, key="two"), a.fee(40, key="one"))
    moved(order(plan, ("one", "two"), ("two", "one")))

    a.pass_time(who, to=APRIL_1)

    lines = InvoiceLine.objects.filter(invoice=who.invoices.latest("id"))
    assert {line.key: line.amount for line in lines} == {"two": 3000, "one": 4000}


def test_when_the_move_is_taken_back_it_stays_where_it_was(acme):
    """L-27"""
    migration = rename(acme)
    take_back_row(row_of(migration, acme), reason="wrong", actor=a.STAFF, now=MARCH_16)

    assert month_by_month(acme, *MONTHS) == [5700, 3700, 3700, 3700, 5700]


def test_revoked_after_the_move_it_ends(acme):
    migration = rename(acme)
    a.pass_time(acme, to=APRIL_1)
    revoke_override(PriceOverride.objects.get(), reason="over", actor=a.STAFF, now=APRIL_16)

    assert migration.state == "finished"
    assert month_by_month(acme, MAY_1) == [5700, 3700, 6700]


def test_a_second_one_for_the_same_price_is_refused_under_its_new_key(acme):
    rename(acme)
    a.pass_time(acme, to=APRIL_1)

    with pytest.raises(ValidationError) as refused:
        a.special_price(acme, 2000, key="platform", now=APRIL_16)

    assert refused.value.code == "override_overlaps"


def test_a_price_that_is_dropped_while_a_special_one_holds_keeps_the_contract_where_it_is(acme):
    """L-27, L-29"""
    plan = plan_of(acme)
    second_version(plan, a.fee(60, key="platform"), a.fee(7, key="support"))

    [row] = dry_run(order(plan, ("base", None)), MARCH_16).rows

    assert row.code == "override_dropped"
    assert row.problem == "A special price for Base fee would have no item to follow to."


def test_that_is_also_so_when_an_earlier_move_gave_it_another_key(acme):
    """L-27"""
    rename(acme)
    for at in (APRIL_1, MAY_1):
        a.pass_time(acme, to=at)
    plan = plan_of(acme)
    second_version(plan, a.fee(60, key="seat"), a.fee(7, key="support"), now=MAY_1)
    again = order(plan, ("base", "seat"))  # from the first version; they are on the second
    second = plan.versions.with_items().get(tailored=False, number=2)
    asked = replace(
        again, from_version=second, mappings=(PriceMapping("platform", None), PriceMapping("support", "support"))
    )

    [row] = dry_run(asked, MAY_1).rows

    assert (row.code, row.problem) == (
        "override_dropped",
        "A special price for Base fee would have no item to follow to.",
    )


def test_at_once_its_item_cannot_be_dropped_under_it_either(acme):
    """L-27: the fee is charged as before, so it would be its special price alone that went."""
    plan = plan_of(acme)
    second_version(plan, a.fee(50), a.fee(7, key="support"), a.allowance(100))

    [row] = dry_run(order(plan, ("base", None), timing=Timing.NOW), MARCH_16).rows

    assert row.code == "override_dropped"


def test_one_that_is_used_up_holds_nobody_back(acme):
    for at in (APRIL_1, MAY_1, JUNE_1):
        a.pass_time(acme, to=at)
    plan = plan_of(acme)
    second_version(plan, a.fee(60, key="platform"), a.fee(7, key="support"), now=JUNE_1)

    [row] = dry_run(order(plan, ("base", None)), JUNE_1).rows

    assert row.code == ""


def test_it_is_read_in_as_many_queries_as_ever(acme, django_assert_num_queries):
    rename(acme)
    subscription = a.the_subscription(acme)

    with django_assert_num_queries(3):
        [special] = specials_of(subscription)

    assert (special.key_at(MARCH_16), special.key_at(APRIL_1)) == ("base", "platform")


def test_feature_overrides_persist():
    """L-27"""
    pro = a.pro(50, credits=100)
    who = a.on(pro)
    override(
        who,
        a.feature("credits"),
        Decimal(500),
        effective_until=MAY_1,
        reason="pilot",
        actor=a.STAFF,
        now=MARCH_16,
    )
    second_version(pro, a.fee(60), a.allowance(200))
    moved(order(pro))

    a.pass_time(who, to=APRIL_1)
    assert a.left(who, now=APRIL_16) == 500
    a.pass_time(who, to=MAY_1)

    assert a.left(who, now=MAY_1) == 200
