"""Moving customers to another version: at their next billing cycle, or at once where only features differ."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing_admin.flows.migrate import OutlookMoved, begin, progress, retry, take_back
from billing_admin.flows.migrate_order import CannotMigrate, Timing
from billing_admin.flows.migrate_outlook import dry_run
from billing_admin.flows.migrate_row import BilledMeanwhile
from catalog.mapping import BadMapping
from customers.journal import ReasonRequired
from customers.models import MigrationRow, Operation, PlanMigration, PriceOverride
from invoicing.models import InvoiceLine
from tests import builders as a
from tests.flows.migrations_world import begun, carried, moved, named, order, row_of, second_version
from tests.instants import APRIL_1, APRIL_16, JUNE_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db
BROKEN = {"recurrence_rule": "no rule"}
JUST_BEFORE_APRIL = APRIL_1 - timedelta(seconds=1)


def version_at(customer, at):
    phase = a.the_subscription(customer).phase_at(at)
    return phase.version.number


def test_prices_change_with_the_next_billing_cycle_of_each_contract():
    """L-24"""
    pro = a.pro(50)
    acme, later = a.on(pro), a.on(pro, since=day("2026-03-10"))
    second_version(pro, a.fee(60), a.allowance(100))

    moved(order(pro))
    a.pass_time(acme, to=MAY_1)
    a.pass_time(later, to=MAY_1)

    assert a.totals(acme) == [5000, 6000, 6000]
    assert a.totals(later) == [5000, 6000]
    assert (version_at(later, day("2026-04-09")), version_at(later, day("2026-04-10"))) == (1, 2)


def test_from_a_date_it_is_the_first_billing_cycle_from_there_on():
    """L-24"""
    pro = a.pro(50)
    acme, later = a.on(pro), a.on(pro, since=day("2026-03-10"))
    second_version(pro, a.fee(60), a.allowance(100))

    moved(order(pro, timing=Timing.ON_DATE, not_before=APRIL_1))

    begins = [phase.starts_at for phase in [a.the_subscription(c).next_phase(MARCH_16) for c in (acme, later)]]
    assert begins == [APRIL_1, day("2026-04-10")]


def test_a_date_further_away_waits_for_the_cycle_after_it():
    """L-24"""
    pro = a.pro(50)
    acme = a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))

    moved(order(pro, timing=Timing.ON_DATE, not_before=APRIL_16))
    a.pass_time(acme, to=JUNE_1)

    assert a.totals(acme) == [5000, 5000, 6000, 6000]


def test_prices_that_differ_are_never_changed_at_once():
    """L-24"""
    pro = a.pro(50)
    a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))

    with pytest.raises(CannotMigrate) as refused:
        dry_run(order(pro, timing=Timing.NOW), MARCH_16)

    assert refused.value.code == "prices_differ"
    assert "$50.00 / month → $60.00 / month" in refused.value.message


def test_features_change_at_once_with_their_use_and_reset_dates():
    """P-40"""
    pro = a.pro(50, credits=100)
    acme = a.on(pro)
    a.use(acme, 30, now=MARCH_16)
    second_version(pro, a.fee(50), a.allowance(250), a.switch("sso"))

    moved(order(pro, timing=Timing.NOW))

    access = a.access(acme, now=MARCH_16)
    assert (access.net, access.next_reset_at) == (220, APRIL_1)
    assert a.access(acme, of="sso", now=MARCH_16).allowed
    assert a.totals(acme) == [5000]


def test_customers_of_assigned_plans_are_moved_at_once():
    """P-40"""
    partner = a.assigned("partner", a.allowance(1000))
    acme = a.on(partner)
    second_version(partner, a.allowance(1500))

    moved(order(partner, timing=Timing.NOW))

    assert a.left(acme, now=MARCH_16) == 1500


def test_a_plan_without_billing_cycles_cannot_wait_for_one():
    partner = a.assigned("partner", a.allowance(1000))
    a.on(partner)
    second_version(partner, a.allowance(1500))

    with pytest.raises(CannotMigrate) as refused:
        dry_run(order(partner), MARCH_16)

    assert refused.value.code == "no_cycles"


def test_a_price_that_nobody_mapped_keeps_everybody_where_they_are():
    """L-25"""
    pro = a.plan("pro", a.fee(50), a.fee(20, key="support"))
    a.on(pro)
    second_version(pro, a.fee(60))

    with pytest.raises(BadMapping) as refused:
        begun(order(pro))

    assert [(p.key, p.code) for p in refused.value.problems] == [("support", "unmapped_price")]
    assert not PlanMigration.objects.exists()


def test_the_mappings_are_kept_with_the_migration():
    """L-25"""
    pro = a.plan("pro", a.fee(50), a.fee(20, key="support"))
    a.on(pro)
    second_version(pro, a.fee(60))

    migration = begun(order(pro, ("support", None)))

    assert migration.mappings == [{"from": "support", "to": None}, {"from": "base", "to": "base"}]


def test_past_invoices_keep_their_items_and_amounts():
    """L-26"""
    pro = a.pro(50)
    acme = a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))
    before = list(InvoiceLine.objects.values())

    moved(order(pro))
    a.pass_time(acme, to=APRIL_1)

    assert [line for line in InvoiceLine.objects.order_by("id").values() if line in before] == before
    last = InvoiceLine.objects.latest("id")
    assert (last.item.version.number, last.amount) == (2, 6000)


def test_quantity_and_units_bought_go_along():
    pro = a.plan("pro", a.fee(50), a.prepaid(100, price="10", pack=100))
    acme = a.customer()
    a.enable(acme, pro, quantity=2, bought={"credits": Decimal(400)})
    a.pay_all(acme)
    second_version(pro, a.fee(50), a.prepaid(100, price="12", pack=100))

    migration = moved(order(pro))
    a.pass_time(acme, to=APRIL_1)

    phase = row_of(migration, acme).phase
    assert (phase.quantity, phase.bought) == (2, {"credits": "400"})
    assert a.totals(acme) == [10000 + 6000, 10000 + 7200]


def test_units_bought_follow_the_mapping_of_their_item():
    pro = a.plan("pro", a.prepaid(0, price="10", pack=100, of="calls"))
    acme = a.customer()
    a.enable(acme, pro, bought={"calls": Decimal(300)})
    a.pay_all(acme)
    second_version(pro, a.prepaid(0, price="10", pack=100, of="requests"))

    migration = moved(order(pro, ("calls", "requests")))

    assert row_of(migration, acme).phase.bought == {"requests": "300"}


def test_a_dry_run_that_was_confirmed_is_what_is_begun():
    """L-29"""
    pro = a.pro(50)
    a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))
    seen = dry_run(order(pro), MARCH_16)

    migration = begin(order(pro), reason="spring", actor=a.STAFF, now=MARCH_16, confirmed=seen.fingerprint)

    assert migration.fingerprint == seen.fingerprint


def test_a_customer_more_than_was_shown_is_refused_with_the_new_look():
    """L-29"""
    pro = a.pro(50)
    a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))
    asked = order(pro)
    seen = dry_run(asked, MARCH_16)
    a.enable(a.customer("Globex"), pro, version=asked.from_version, now=MARCH_16)

    with pytest.raises(OutlookMoved) as refused:
        begin(asked, reason="spring", actor=a.STAFF, now=MARCH_16, confirmed=seen.fingerprint)

    assert refused.value.outlook.moves == 2


def test_use_between_look_and_act_moves_nothing():
    pro = a.pro(50)
    acme = a.on(pro)
    second_version(pro, a.fee(60), a.allowance(50))
    seen = dry_run(order(pro), MARCH_16)
    a.use(acme, 80, now=MARCH_16)

    assert begin(order(pro), reason="spring", actor=a.STAFF, now=MARCH_16, confirmed=seen.fingerprint)


def test_it_takes_a_reason():
    pro = a.pro(50)
    a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))

    with pytest.raises(ReasonRequired):
        begin(order(pro), reason=" ", actor=a.STAFF, now=MARCH_16)


def test_each_customer_has_a_line_in_the_journal_and_so_has_the_whole():
    pro = a.pro(50)
    acme = a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))

    migration = moved(order(pro))

    own = acme.operations.latest("id")
    assert (own.verb, own.summary, own.actor) == ("plan.migration_scheduled", "Moves to Pro v2 on 1 Apr 2026", "ops")
    assert own.inputs["migration"] == migration.public_id
    assert own.reason == "new prices of spring"
    assert Operation.objects.get(verb="migration.started").effects == {"moves": 1, "skips": {}}


def test_whoever_is_moved_already_is_not_moved_twice():
    """L-29: idempotent per subscription."""
    pro = a.pro(50)
    acme = a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))
    migration = moved(order(pro))

    carried(migration)
    carried(migration)

    assert acme.operations.filter(verb="plan.migration_scheduled").count() == 1
    assert migration.state == PlanMigration.State.FINISHED


def test_one_that_fails_holds_up_no_other_and_can_be_tried_again_alone():
    """L-29"""
    pro = a.pro(50)
    acme, globex = a.on(pro), a.on(pro, name="Globex")
    second_version(pro, a.fee(60), a.allowance(100))
    migration = begun(order(pro))
    unreadable = a.special_price(acme, now=MARCH_16)
    PriceOverride.objects.filter(pk=unreadable.pk).update(components=[{"label": "", "amount_cents": 1, **BROKEN}])
    did = carried(migration)
    assert [row_of(migration, c).state for c in (acme, globex)] == ["failed", "scheduled"]
    assert [name for name, _ in did.failures] == [f"{migration.public_id}/{a.the_subscription(acme).public_id}"]
    unreadable.delete()

    retry(row_of(migration, acme), now=MARCH_16)

    assert row_of(migration, acme).state == MigrationRow.State.SCHEDULED


def test_a_late_worker_changes_nothing():
    """Law 7: nobody came from the middle of March until June."""
    pro = a.pro(50)
    punctual, late = a.on(pro), a.on(pro, name="Globex")
    second_version(pro, a.fee(60), a.allowance(100))
    moved(order(pro))
    for at in (APRIL_1, MAY_1, JUNE_1):
        a.pass_time(punctual, to=at)

    assert version_at(late, MAY_1) == 2
    a.pass_time(late, to=JUNE_1)

    assert a.totals(late) == a.totals(punctual) == [5000, 6000, 6000, 6000]


def test_what_is_billed_while_a_pass_goes_on_waits_for_the_next_pass():
    """Law 7: the pass began just before midnight and comes to the contract after its renewal."""
    pro = a.pro(50)
    acme = a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))
    migration = begun(order(pro))
    a.pass_time(acme, to=APRIL_1)

    carried(migration, now=JUST_BEFORE_APRIL)
    assert (migration.state, row_of(migration, acme).state) == (PlanMigration.State.RUNNING, "waiting")
    carried(migration, now=APRIL_1)
    a.pass_time(acme, to=MAY_1)

    assert a.totals(acme) == [5000, 5000, 6000]


def test_a_person_who_tries_again_in_the_moment_of_a_renewal_is_told_so():
    pro = a.pro(50)
    acme = a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))
    migration = begun(order(pro))
    migration.rows.update(state="failed")
    a.pass_time(acme, to=APRIL_1)

    with pytest.raises(BilledMeanwhile):
        retry(row_of(migration, acme), now=JUST_BEFORE_APRIL)

    assert row_of(migration, acme).state == "failed"


def test_nobody_is_moved_by_a_second_try_once_the_whole_is_taken_back():
    """Also when it was taken back after the page with the button was read."""
    pro = a.pro(50)
    acme = a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))
    migration = begun(order(pro))
    migration.rows.update(state="failed")
    row = row_of(migration, acme)
    take_back(migration, reason="the wrong version", actor=a.STAFF, now=MARCH_16)

    retry(row, now=MARCH_16)

    assert (row.state, version_at(acme, APRIL_1)) == ("failed", 1)


def test_how_far_it_is_follows_from_dates():
    pro = a.pro(50)
    for name in ("Acme", "Globex", "Initech"):
        a.on(pro, name=name)
    second_version(pro, a.fee(60), a.allowance(100))
    migration = begun(order(pro))
    carried(migration, most=2)

    before, after = progress(migration, MARCH_16), progress(migration, APRIL_1)

    assert (before.waiting, before.scheduled, before.percent) == (1, 2, 66)
    assert (after.waiting, after.moved) == (1, 2)


def test_only_customers_of_a_list_are_moved():
    pro = a.pro(50)
    acme, globex = a.on(pro), a.on(pro, name="Globex")
    second_version(pro, a.fee(60), a.allowance(100))

    migration = moved(order(pro, chosen=named(globex)))

    assert [row.customer for row in migration.rows.all()] == [globex]
    assert a.the_subscription(acme).next_phase(MARCH_16) is None
