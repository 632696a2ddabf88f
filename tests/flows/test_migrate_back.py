"""Taking back: one contract or the whole, while the switch is not invoiced; and holding, stopping, going on."""

from datetime import timedelta

import pytest

from billing_admin.flows.migrate import WrongState, pause, progress, resume, stop, take_back, take_back_row
from billing_admin.flows.migrate_order import Timing
from billing_admin.flows.undo_migrations import MigrationStarted, MovedAtOnce, MoveScheduled
from customers.journal import ReasonRequired
from customers.models import Customer, MigrationRow, Operation, PlanMigration
from tests import builders as a
from tests.flows.migrations_world import begun, carried, moved, named, order, row_of, second_version
from tests.instants import APRIL_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db
WHY = {"reason": "the wrong version", "actor": a.STAFF}


@pytest.fixture
def pro():
    made = a.pro(50)
    for name in ("Acme", "Globex", "Initech"):
        a.on(made, name=name)
    second_version(made, a.fee(60), a.allowance(100))
    return made


def states(migration):
    return sorted(MigrationRow.objects.filter(migration=migration).values_list("state", flat=True))


def test_a_scheduled_move_is_withdrawn(pro):
    migration = moved(order(pro))
    row = migration.rows.first()

    take_back_row(row, now=MARCH_16, **WHY)
    a.pass_time(row.customer, to=APRIL_1)

    assert row.state == MigrationRow.State.TAKEN_BACK
    assert a.totals(row.customer) == [5000, 5000]


def test_the_line_in_the_journal_points_at_the_first(pro):
    migration = moved(order(pro))
    row = migration.rows.first()

    made = take_back_row(row, now=MARCH_16, **WHY)

    assert (made.verb, made.reverses, made.reason) == (
        "plan.migration_taken_back",
        row.operation,
        "the wrong version",
    )


def test_a_move_that_was_invoiced_is_kept_and_says_why(pro):
    """L-26"""
    migration = moved(order(pro))
    row = migration.rows.first()
    a.pass_time(row.customer, to=APRIL_1)

    assert take_back_row(row, now=day("2026-04-02"), **WHY) is None

    assert (row.state, row.code) == (MigrationRow.State.KEPT, "invoiced")
    assert row.problem == "It began on 1 Apr 2026 and is invoiced; what is invoiced stays."
    a.pass_time(row.customer, to=MAY_1)
    assert a.totals(row.customer) == [5000, 6000, 6000]


def test_a_move_whose_day_has_come_is_kept_though_no_worker_has_come_yet(pro):
    """Law 7: what a date means is not up to the worker."""
    migration = moved(order(pro))
    row = migration.rows.first()

    take_back_row(row, now=day("2026-04-02"), **WHY)

    assert row.state == MigrationRow.State.KEPT


def test_a_pass_that_is_behind_a_renewal_takes_back_nothing_of_it(pro):
    """L-26, law 7: the pass began just before midnight and comes to the contract after its renewal."""
    migration = moved(order(pro, chosen=named(Customer.objects.get(name="Acme"))))
    acme = migration.rows.get().customer
    a.pass_time(acme, to=APRIL_1)
    take_back(migration, now=APRIL_1 - timedelta(seconds=1), **WHY)
    migration.refresh_from_db()

    carried(migration, now=APRIL_1 - timedelta(seconds=1))
    assert states(migration) == ["scheduled"]
    carried(migration, now=APRIL_1)
    a.pass_time(acme, to=MAY_1)

    assert states(migration) == ["kept"]
    assert a.totals(acme) == [5000, 6000, 6000]


def test_features_that_were_changed_at_once_are_changed_back_with_their_use():
    partner = a.assigned("partner", a.allowance(1000))
    acme = a.on(partner)
    second_version(partner, a.allowance(1500), a.switch("sso"))
    migration = moved(order(partner, timing=Timing.NOW))
    a.use(acme, 400, now=day("2026-03-17"))

    take_back_row(row_of(migration, acme), now=day("2026-03-18"), **WHY)

    access = a.access(acme, now=day("2026-03-18"))
    assert (access.net, access.limit) == (600, 1000)
    assert not a.access(acme, of="sso", now=day("2026-03-18")).allowed


def test_features_of_a_billed_plan_go_back_until_they_are_invoiced():
    made = a.pro(50, credits=100)
    acme = a.on(made)
    second_version(made, a.fee(50), a.allowance(250))
    migration = moved(order(made, timing=Timing.NOW))
    a.use(acme, 30, now=day("2026-03-17"))

    take_back_row(row_of(migration, acme), now=day("2026-03-18"), **WHY)

    access = a.access(acme, now=day("2026-03-18"))
    assert (access.net, access.limit, access.next_reset_at) == (70, 100, APRIL_1)
    assert a.totals(acme) == [5000]


def test_a_contract_that_was_changed_since_is_kept(pro):
    migration = moved(order(pro))
    row = migration.rows.first()
    other = a.team()
    a.enable(row.customer, other, now=day("2026-03-20"))

    take_back_row(row, now=day("2026-03-21"), **WHY)

    assert row.state == MigrationRow.State.TAKEN_BACK  # the change that came replaced what was scheduled
    assert a.the_subscription(row.customer).phase_at(day("2026-03-21")).version.plan_id == other.pk


def test_the_whole_is_taken_back_in_batches(pro):
    migration = moved(order(pro))

    take_back(migration, now=MARCH_16, **WHY)
    migration.refresh_from_db()
    carried(migration, most=2)
    assert migration.state == PlanMigration.State.TAKING_BACK
    carried(migration)

    assert (migration.state, states(migration)) == (PlanMigration.State.TAKEN_BACK, ["taken_back"] * 3)
    assert Operation.objects.get(verb="migration.taken_back").reverses.verb == "migration.started"


def test_who_was_never_moved_is_not_moved_by_it(pro):
    migration = begun(order(pro))
    carried(migration, most=1)

    take_back(migration, now=MARCH_16, **WHY)
    migration.refresh_from_db()
    carried(migration)

    assert states(migration) == ["taken_back"] * 3
    assert Operation.objects.filter(verb="plan.migration_taken_back").count() == 1


def test_those_that_are_invoiced_stay_and_the_others_go_back(pro):
    migration = moved(order(pro))
    first = migration.rows.first()
    a.pass_time(first.customer, to=APRIL_1)
    late = migration.rows.last()
    take_back_row(late, now=MARCH_16, **WHY)

    take_back(migration, now=day("2026-04-02"), **WHY)
    migration.refresh_from_db()
    carried(migration, now=day("2026-04-02"))

    assert states(migration) == ["kept", "kept", "taken_back"]
    assert progress(migration, day("2026-04-02")).kept == 2


def test_a_paused_one_waits_until_it_goes_on(pro):
    migration = begun(order(pro))
    carried(migration, most=1)

    pause(migration, now=MARCH_16, **WHY)
    carried(migration)
    assert states(migration) == ["scheduled", "waiting", "waiting"]
    resume(migration, actor=a.STAFF, now=MARCH_16)
    carried(migration)

    assert states(migration) == ["scheduled"] * 3


def test_a_stopped_one_moves_nobody_else(pro):
    migration = begun(order(pro))
    carried(migration, most=1)

    migration = stop(migration, now=MARCH_16, **WHY)
    carried(migration)

    assert states(migration) == ["scheduled", "waiting", "waiting"]
    with pytest.raises(WrongState):
        resume(migration, actor=a.STAFF, now=MARCH_16)


@pytest.mark.parametrize("act", [pause, stop, take_back])
def test_each_takes_a_reason(pro, act):
    migration = begun(order(pro))

    with pytest.raises(ReasonRequired):
        act(migration, reason="", actor=a.STAFF, now=MARCH_16)


def test_the_act_of_one_customer_can_be_undone(pro):
    migration = moved(order(pro))
    row = migration.rows.first()
    inverse = MoveScheduled()
    assert inverse.why_not(row.operation, MARCH_16) == ""
    assert inverse.look(row.operation, MARCH_16).sentence == "Takes back the move on 1 Apr 2026; it stays on Pro v1."

    made = inverse.take_back(row.operation, now=MARCH_16, **WHY)

    assert made.reverses == row.operation
    assert inverse.why_not(row.operation, MARCH_16) == "It was taken back."


def test_what_is_invoiced_is_not_offered_to_be_undone(pro):
    migration = moved(order(pro))
    row = migration.rows.first()
    a.pass_time(row.customer, to=APRIL_1)

    assert "is invoiced" in MoveScheduled().why_not(row.operation, APRIL_1)


def test_features_changed_at_once_can_be_undone():
    made = a.pro(50)
    acme = a.on(made)
    second_version(made, a.fee(50), a.allowance(250))
    migration = moved(order(made, timing=Timing.NOW))
    operation = row_of(migration, acme).operation

    MovedAtOnce().take_back(operation, now=MARCH_16, **WHY)

    assert a.left(acme, now=MARCH_16) == 100


def test_the_beginning_of_a_migration_can_be_undone(pro):
    migration = moved(order(pro))
    started = Operation.objects.get(verb="migration.started")

    shown = MigrationStarted().look(started, MARCH_16)
    made = MigrationStarted().take_back(started, now=MARCH_16, **WHY)

    assert shown.sentence == "Takes back 3 moves to Pro v2, in batches."
    assert made.reverses == started
    migration.refresh_from_db()
    assert MigrationStarted().why_not(started, MARCH_16) == "It is being taken back."
