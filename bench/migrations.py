"""Moving a cohort to another version: the look, the move and the way back, a contract per customer.

Beside the look stands one with a tenth of the contracts, beside the move the rows it writes without any decision.
"""

import time
from collections.abc import Callable
from datetime import datetime

from django.db import connection, transaction

from bench import world
from bench.report import Report
from billing_admin.flows.migrate import begin, take_back
from billing_admin.flows.migrate_order import Chosen, Order, with_proposed
from billing_admin.flows.migrate_outlook import dry_run
from billing_admin.flows.migrate_run import carry_out
from catalog.models import Plan, PlanVersion
from catalog.publish import open_draft, publish
from customers.journal import Actor, record
from customers.models import Customer, MigrationRow, Phase, PlanMigration, Subscription

# Out of the way of every other copy.
FIRST = 5_000_001
STAFF = Actor("bench")


def migrations(report: Report) -> None:
    """Five thousand contracts of the plan that the copies are on; a tenth of that when it has to be quick."""
    number = 500 if report.quick else 5_000
    template = Customer.objects.get(customer_id="template-plan")
    now = _now()
    made = world.World(template, template, secret="", now=now)
    world.copy(made, FIRST, FIRST + number - 1)
    world.settle_down()
    report.title(f"Moving {number:,} contracts to another version, one worker")
    few, all_ = _order(template, number // 10, now), _order(template, number, now)
    tenth, _ = _measured(lambda: dry_run(few, now), number // 10)
    rate, _ = _measured(lambda: dry_run(all_, now), number)
    report.add(f"dry run, {number:,} contracts", rate, "/s", floor=tenth, against="a tenth of them")
    floor = _floor(all_, number // 10, now)
    migration = begin(all_, reason="bench", actor=STAFF, now=now)
    _carry_out(report, "scheduled", migration, number, floor, now)
    assert not migration.rows.exclude(state=MigrationRow.State.SCHEDULED).exists(), "all of them are moved"
    take_back(migration, reason="bench", actor=STAFF, now=now)
    migration.refresh_from_db()
    _carry_out(report, "taken back", migration, number, floor, now)
    assert migration.state == PlanMigration.State.TAKEN_BACK


def _now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT date_trunc('second', now())")
        now: datetime = cursor.fetchone()[0]
    return now


def _order(template: Customer, number: int, now: datetime) -> Order:
    """The first so many of the copies, from the version that they are on to the next one."""
    version: PlanVersion = template.subscriptions.get().phases.latest("starts_at").version
    plan = Plan.objects.get(pk=version.plan_id)
    if plan.current_version_id == version.pk:
        publish(open_draft(plan, by="bench"), message="next", by="bench", now=now)
        plan.refresh_from_db()
    assert plan.current_version is not None
    ids = tuple(f"bench-{n}" for n in range(FIRST, FIRST + number))
    return with_proposed(Order(version, plan.current_version, Chosen("list", ids)))


def _carry_out(report: Report, what: str, migration: PlanMigration, number: int, floor: float, now: datetime) -> None:
    rate, spent = _measured(lambda: carry_out(migration, now), number)
    report.add(what, rate, "/s", floor=floor, against="the same rows")
    report.add(f"{what}, processor time of the worker for one", spent, "ms")


def _measured(run: Callable[[], object], number: int) -> tuple[float, float]:
    """So many a second by the clock, and milliseconds of this process for each."""
    began, spent = time.perf_counter(), time.process_time()
    run()
    return number / (time.perf_counter() - began), 1000 * (time.process_time() - spent) / number


def _floor(order: Order, number: int, now: datetime) -> float:
    """A next phase and a line in the journal each, in a transaction of their own that is then taken back."""
    contracts = list(Subscription.objects.filter(customer__customer_id__in=order.chosen.customers[:number]))
    spent = 0.0
    for contract in contracts:
        with transaction.atomic():
            began = time.perf_counter()
            phase = contract.phases.latest("starts_at")
            phase.ends_at = contract.period_ends_at
            assert phase.ends_at is not None, "what is billed every month has a period"
            phase.save(update_fields=["ends_at"])
            Phase.objects.create(
                subscription=contract, version=order.to_version, anchor=phase.anchor, starts_at=phase.ends_at
            )
            record(contract.customer, "plan.migration_scheduled", "bench", actor=STAFF, now=now)
            contract.save()
            spent += time.perf_counter() - began
            transaction.set_rollback(True)
    return number / spent
