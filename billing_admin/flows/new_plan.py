"""A plan in one act: made, filled, published, and kept for one customer where it is a deal."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from billing_admin.flows import catalog
from catalog.models import Plan, Product
from catalog.terms import Conditions, ItemTerms
from customers.journal import Actor
from customers.models import Customer, PlanReservation


@transaction.atomic
def new_plan(
    product: Product,
    items: Sequence[ItemTerms],
    *,
    name: str,
    key: str = "",
    invoice_display_name: str = "",
    description: str = "",
    kind: str = Plan.Kind.BILLED,
    currency: str,
    cadence: str,
    conditions: Conditions | None = None,
    add_on: bool = False,
    billing_version: int = 1,
    reserved_for: Customer | None = None,
    publish: bool = True,
    message: str = "",
    actor: Actor,
    now: datetime,
) -> Plan:
    """Raises what the catalog refuses: names, keys, currency, billing version, items, an empty billed plan."""
    plan = catalog.create_plan(
        product,
        name=name,
        key=key,
        invoice_display_name=invoice_display_name,
        kind=kind,
        currency=currency,
        cadence=cadence,
        add_on=add_on,
        billing_version=billing_version,
        actor=actor,
        now=now,
    )
    if description.strip():
        plan.description = description.strip()
        plan.save(update_fields=["description"])
    if reserved_for:
        PlanReservation.objects.create(plan=plan, customer=reserved_for)
    if publish:
        catalog.update(plan, items, cadence=cadence, conditions=conditions, message=message, actor=actor, now=now)
    else:
        catalog.save_draft(plan, items, cadence=cadence, conditions=conditions, actor=actor, now=now)
    return plan
