"""Customers on a first version of a plan, and a second version to move them to."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from billing_admin.flows.migrate import begin
from billing_admin.flows.migrate_order import Chosen, Order, Timing, with_proposed
from billing_admin.flows.migrate_row import Carried
from billing_admin.flows.migrate_run import carry_out
from catalog.mapping import PriceMapping
from catalog.models import Plan
from catalog.terms import ItemTerms
from customers.models import Customer, MigrationRow, PlanMigration
from tests import builders as a
from tests.instants import MARCH_16


def second_version(plan: Plan, *items: ItemTerms, now: datetime = MARCH_16, cadence: str | None = None) -> None:
    a.new_version(plan, *items, now=now, cadence=cadence)


def order(plan: Plan, *maps: tuple[str, str | None], timing: str = Timing.NEXT_BILLING_CYCLE, **more: Any) -> Order:
    """From the plan's first version to its current one; what is not mapped follows by itself."""
    plan = a.reread(plan)
    first = plan.versions.with_items().get(tailored=False, number=1)
    assert plan.current_version is not None
    asked = Order(first, plan.current_version, timing=timing, **more)
    return with_proposed(replace(asked, mappings=tuple(PriceMapping(old, new) for old, new in maps)))


def named(*customers: Customer) -> Chosen:
    return Chosen("list", tuple(customer.customer_id for customer in customers))


def begun(asked: Order, now: datetime = MARCH_16) -> PlanMigration:
    return begin(asked, reason="new prices of spring", actor=a.STAFF, now=now)


def carried(migration: PlanMigration, now: datetime = MARCH_16, most: int | None = None) -> Carried:
    return carry_out(migration, now, most)


def moved(asked: Order, now: datetime = MARCH_16) -> PlanMigration:
    """Begun and carried out at the same instant."""
    migration = begun(asked, now)
    carried(migration, now)
    return migration


def row_of(migration: PlanMigration, customer: Customer) -> MigrationRow:
    return migration.rows.select_related("migration", "subscription", "customer").get(customer=customer)
