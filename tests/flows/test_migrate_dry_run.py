"""The dry run: prices, lost access, who is left alone and why, sums; in a fixed number of queries."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing_admin.csv_table import BadRows
from billing_admin.flows.cancel import cancel
from billing_admin.flows.migrate_order import CannotMigrate, Chosen, Timing, read_customers
from billing_admin.flows.migrate_outlook import dry_run
from billing_admin.flows.plan_change import Activation
from billing_admin.flows.plan_change import Timing as ChangeTiming
from customers import switch
from tests import builders as a
from tests.flows.migrations_world import begun, carried, moved, named, order, row_of, second_version
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db


def only(asked, now=MARCH_16):
    [row] = dry_run(asked, now).rows
    return row


def skipped(asked, now=MARCH_16):
    return {row.customer_name: row.code for row in dry_run(asked, now).skipped}


def test_old_and_new_price_count_quantity_bought_packs_and_seats():
    """L-29"""
    pro = a.plan("pro", a.fee(50), a.prepaid(0, price="10", pack=100), a.paid_seats(2, price="10"))
    acme = a.customer()
    a.enable(acme, pro, quantity=2, bought={"credits": Decimal(300)})
    a.pay_all(acme)
    a.use(acme, 7, of="seats")
    second_version(pro, a.fee(60), a.prepaid(0, price="12", pack=100), a.paid_seats(2, price="15"))

    row = only(order(pro))

    assert row.old_price == 2 * (5000 + 3 * 1000) + 3 * 1000
    assert row.new_price == 2 * (6000 + 3 * 1200) + 3 * 1500
    assert row.at == APRIL_1


def test_a_year_is_compared_with_twelve_months():
    pro = a.pro(50)
    a.on(pro)
    second_version(pro, a.fee(480, cadence="P1Y"), a.allowance(100), cadence="P1Y")

    row = only(order(pro))

    assert (row.old_price, row.new_price) == (5000, 4000)


def test_access_that_goes_away_is_told_feature_by_feature():
    """L-29"""
    pro = a.plan("pro", a.fee(50), a.allowance(100), a.switch("sso"), a.static("100"))
    acme = a.on(pro)
    a.use(acme, 80)
    second_version(pro, a.fee(50), a.allowance(50), a.static("60"))

    row = only(order(pro))

    assert row.lost == ("Credits: 100 → 50", "Sso: goes away", "Rate limit: 100 → 60")
    assert row.above == ("Credits: 80 in use, 50 included then",)


def test_conflicts_are_skipped_and_listed():
    """L-28, L-29"""
    pro, team = a.pro(50), a.team(20)
    for name in ("Moves", "Custom", "Leaving", "Changing", "Parked"):
        a.on(pro, name=name)
    by_name = {s.customer.name: s for s in pro.product.subscriptions.select_related("customer")}
    a.enable(by_name["Custom"].customer, pro, a.fee(45), a.allowance(100))
    cancel(by_name["Leaving"], ends_at=MAY_1, reason="moves on", actor=a.STAFF, now=MARCH_1)
    a.enable(by_name["Changing"].customer, team, timing=ChangeTiming.CYCLE_END)
    switch.park(by_name["Parked"], because="a strange sum.", now=MARCH_1)
    custom = a.the_subscription(by_name["Custom"].customer)
    switch.withdraw_next(custom, at=MARCH_1, now=MARCH_1)
    a.enable(by_name["Custom"].customer, pro, a.fee(55), a.allowance(100))
    second_version(pro, a.fee(60), a.allowance(100))

    outlook = dry_run(order(pro), MARCH_16)

    assert [row.customer_name for row in outlook.moving] == ["Moves"]
    assert skipped(order(pro)) == {
        "Custom": "custom_plan",
        "Leaving": "end_planned",
        "Changing": "scheduled_change",
        "Parked": "parked",
    }
    assert outlook.skips == {"custom_plan": 1, "end_planned": 1, "parked": 1, "scheduled_change": 1}


def test_those_that_are_skipped_are_rows_of_the_migration_and_stay_as_they_are():
    """L-28"""
    pro = a.pro(50)
    plain, custom = a.on(pro), a.on(pro, name="Custom")
    a.enable(custom, pro, a.fee(55), a.allowance(100))
    second_version(pro, a.fee(60), a.allowance(100))

    migration = moved(order(pro))

    assert dict(migration.rows.values_list("customer__name", "state")) == {
        plain.name: "scheduled",
        "Custom": "skipped",
    }
    assert a.the_subscription(custom).next_phase(MARCH_16) is None


def test_a_customer_on_trial_is_moved_afterwards():
    pro = a.plan("pro", a.fee(50), a.allowance(100), trial_days=30)
    a.enable(a.customer("Trying"), pro, now=MARCH_1)
    second_version(pro, a.fee(60), a.allowance(100))

    row = only(order(pro))

    assert (row.code, row.problem) == ("on_trial", "It is on trial until 31 Mar 2026; move it afterwards.")


def test_on_trial_features_can_be_changed_at_once():
    pro = a.plan("pro", a.fee(50), a.allowance(100), trial_days=30)
    acme = a.customer("Trying")
    a.enable(acme, pro, now=MARCH_1)
    second_version(pro, a.fee(50), a.allowance(250))

    moved(order(pro, timing=Timing.NOW))
    a.pass_time(acme, to=day("2026-03-31"))

    assert a.left(acme, now=day("2026-03-31")) == 250
    assert {p.version.number for p in a.the_subscription(acme).kept_phases() if p.starts_at >= MARCH_16} == {2}


def test_a_change_that_waits_for_its_payment_is_left_alone():
    pro, free = a.pro(50), a.free()
    acme = a.on(free)
    a.enable(acme, pro, now=day("2026-03-10"), activation=Activation.AFTER_PAYMENT)
    second_version(free, a.allowance(20))

    assert skipped(order(free)) == {acme.name: "pending_payment"}


def test_a_contract_that_was_changed_between_look_and_turn_is_skipped_then():
    """L-29"""
    pro = a.pro(50)
    acme = a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))
    migration = begun(order(pro))
    cancel(a.the_subscription(acme), ends_at=MAY_1, reason="moves on", actor=a.STAFF, now=MARCH_16)
    carried(migration)

    row = row_of(migration, acme)
    assert (row.state, row.code) == ("skipped", "end_planned")
    assert a.the_subscription(acme).ends_at == MAY_1


def test_sums_are_of_those_that_move():
    """L-29"""
    pro = a.pro(50)
    a.on(pro)
    big = a.customer("Big")
    a.enable(big, pro, quantity=10)
    leaving = a.on(pro, name="Leaving")
    cancel(a.the_subscription(leaving), ends_at=MAY_1, reason="moves on", actor=a.STAFF, now=MARCH_16)
    second_version(pro, a.fee(60), a.allowance(100))

    total = dry_run(order(pro), MARCH_16).sums["USD"]

    assert (total.old, total.new, total.difference) == (55000, 66000, 11000)


def test_a_minimum_counts_as_the_price_of_a_period():
    pro = a.plan("pro", a.fee(50), a.allowance(10, price="1"), commitment="100")
    a.on(pro)
    second_version(pro, a.fee(120), a.allowance(10, price="1"))

    row = only(order(pro))

    assert (row.old_price, row.new_price) == (10000, 12000)


def test_unknown_customers_of_a_list_are_named_by_line():
    """L-25's kin: refused before anything is scheduled."""
    pro = a.pro(50)
    acme, other = a.on(pro), a.on(a.free(), name="Other")
    second_version(pro, a.fee(60), a.allowance(100))
    listed = read_customers(f"customer_id\n{acme.customer_id}\nnobody\n{other.customer_id}\n")

    with pytest.raises(BadRows) as refused:
        dry_run(order(pro, chosen=listed), MARCH_16)

    assert [(p.line, p.message) for p in refused.value.problems] == [
        (3, "There is no customer 'nobody'."),
        (4, f"{other.customer_id} is not on Pro v1."),
    ]


def test_a_list_needs_no_heading():
    assert read_customers("acme\nglobex\n\nacme\n") == Chosen("list", ("acme", "globex"))


def test_a_filter_finds_by_words_and_by_the_start_of_the_contract():
    pro = a.pro(50)
    a.on(pro, name="Acme One")
    a.on(pro, name="Acme Two", since=day("2026-03-10"))
    a.on(pro, name="Globex")
    second_version(pro, a.fee(60), a.allowance(100))

    found = dry_run(order(pro, chosen=Chosen("filter", words="acme", started_before=day("2026-03-05"))), MARCH_16)

    assert [row.customer_name for row in found.rows] == ["Acme One"]


def test_the_same_version_is_no_migration():
    pro = a.pro(50)
    a.on(pro)

    with pytest.raises(CannotMigrate):
        dry_run(order(pro), MARCH_16)


def test_a_chosen_customer_can_be_given_by_either_id():
    pro = a.pro(50)
    acme = a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))

    assert dry_run(order(pro, chosen=Chosen("list", (acme.public_id,))), MARCH_16).moves == 1
    assert dry_run(order(pro, chosen=named(acme)), MARCH_16).moves == 1


def test_many_contracts_take_as_many_queries_as_few(django_assert_max_num_queries):
    pro = a.pro(50)
    customers = [a.on(pro, since=MARCH_1 + timedelta(hours=n)) for n in range(2)]
    second_version(pro, a.fee(60), a.allowance(100))
    asked = order(pro)
    dry_run(asked, MARCH_16)  # terms are read once per process

    with django_assert_max_num_queries(6):
        dry_run(asked, MARCH_16)
    for n in range(6):
        a.enable(a.customer(f"More {n}"), pro, version=asked.from_version, now=MARCH_16)
    with django_assert_max_num_queries(6):
        assert dry_run(asked, MARCH_16).moves == len(customers) + 6
