"""The passes that move customers to another version: what they record, what they leave for a person."""

import pytest
from django.contrib.auth.models import Group, User

from billing_admin import runs
from billing_admin.flows.approvals import ApprovalNeeded, approve, ask
from billing_admin.flows.migrate import begin, pause, progress
from billing_admin.migration_runs import MIGRATIONS, migrations
from billing_admin.models import ApprovalRequest, ApprovalRule, WorkerFailure, WorkerRun
from customers.journal import Actor
from customers.models import Customer, MigrationRow, PlanMigration, PriceOverride
from tests import builders as a
from tests.flows.migrations_world import begun, order, row_of, second_version
from tests.instants import MARCH_16

pytestmark = pytest.mark.django_db
BROKEN = [{"label": "", "amount_cents": 1, "recurrence_rule": "no rule"}]


@pytest.fixture
def pro():
    made = a.pro(50)
    for name in ("Acme", "Globex", "Initech"):
        a.on(made, name=name)
    second_version(made, a.fee(60), a.allowance(100))
    return made


def finished(this):
    return this.finish(MARCH_16)


def test_a_pass_moves_what_waits_and_leaves_its_record(pro):
    migration = begun(order(pro))

    run = finished(migrations(now=MARCH_16))

    assert (run.task, run.done, run.failed) == (MIGRATIONS, 3, 0)
    assert progress(migration, MARCH_16).scheduled == 3
    migration.refresh_from_db()
    assert migration.state == PlanMigration.State.FINISHED


def test_an_idle_pass_leaves_none(pro):
    migration = begun(order(pro))
    pause(migration, reason="look first", actor=a.STAFF, now=MARCH_16)

    assert finished(migrations(now=MARCH_16)) is None
    assert not WorkerRun.objects.exists()


def test_one_that_fails_is_recorded_and_tried_again_by_a_person(pro):
    """L-29"""
    migration = begun(order(pro))
    acme = row_of(migration, Customer.objects.get(name="Acme"))
    unreadable = a.special_price(acme.customer, now=MARCH_16)
    PriceOverride.objects.update(components=BROKEN)

    run = finished(migrations(now=MARCH_16))
    failure = WorkerFailure.objects.get()
    assert (run.done, run.failed) == (2, 1)
    assert failure.what == f"{migration.public_id}/{acme.subscription.public_id}"

    unreadable.delete()
    runs.retry([failure], actor=a.STAFF, now=MARCH_16)

    failure.refresh_from_db()
    acme.refresh_from_db()
    assert (failure.resolved_at, acme.state) == (MARCH_16, MigrationRow.State.SCHEDULED)


def test_what_a_second_person_agreed_to_is_begun_in_the_name_of_whoever_asked(pro):
    finance = Group.objects.get(name="Finance")
    ApprovalRule.objects.create(act="migration.started", measure="customers", above=2, approver=finance)
    asker = User.objects.create_user("ann", email="ann@example.com", is_staff=True, is_superuser=True)
    boss = User.objects.create_user("boss", email="boss@example.com", is_staff=True)
    boss.groups.add(finance)
    with pytest.raises(ApprovalNeeded) as needed:
        begin(order(pro), reason="spring", actor=Actor.of(asker), now=MARCH_16)
    request = ask(needed.value, reason="spring", actor=Actor.of(asker), now=MARCH_16)
    approve(request, user=boss, now=MARCH_16)

    request.refresh_from_db()
    migration = PlanMigration.objects.get()
    assert request.state == ApprovalRequest.State.APPLIED
    assert (migration.created_by, migration.approved_by, migration.reason) == ("ann", "boss", "spring")
    finished(migrations(now=MARCH_16))
    assert migration.rows.first().operation.approved_by == "boss"
