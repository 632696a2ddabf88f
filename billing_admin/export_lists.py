"""The lists of the desk as files: their columns, in the order of their pages, ids first."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib.auth.models import Group, User
from django.db.models import Count, Q, QuerySet

# Lists that are no single table, and those of one customer.
from billing_admin import export_reports, export_stripe, export_use, export_work  # noqa: F401  register theirs
from billing_admin.admin.approvals import TABS, of_tab
from billing_admin.admin.customer import CustomerFilter, customer_rows
from billing_admin.admin.deals import DealFilter, with_newest
from billing_admin.admin.invoices import InvoiceFilter
from billing_admin.admin.migrations import MigrationsFilter
from billing_admin.admin.operations import JournalFilter
from billing_admin.admin.special_prices import SpecialPriceFilter
from billing_admin.admin.stripe_events import EventFilter
from billing_admin.admin.stripe_links import CustomersFilter
from billing_admin.admin.taxes import RateFilter
from billing_admin.csv_table import Cell, in_major
from billing_admin.exports import Asked, BadCondition, ListExport, each, exported, of_customer, of_model
from billing_admin.holders import KeyHolder
from billing_admin.models import ApiKey, ApprovalRequest, Batch, WorkerRun
from catalog.coupons import gives, lasts
from catalog.models import Coupon, Feature, Meter, Plan, Product
from customers.models import Customer, MigrationRow, Operation, PlanMigration, PriceOverride
from entitlements.models import OverrideBatch
from invoicing.models import Invoice, TaxRate
from invoicing.paper import is_overdue
from invoicing.states import InvoiceState
from payments.models import StripeEvent

# Who buys -------------------------------------------------------------------------------------------------------------


def _customers(asked: Asked) -> QuerySet:
    return asked.form(CustomerFilter).narrowed(Customer.objects.all(), asked.now)


def _customer_cells(rows: Sequence[Customer], asked: Asked) -> Iterator[Sequence[Cell]]:
    shown = customer_rows(list(rows), asked.now)
    for customer, row in zip(rows, shown, strict=True):
        yield (
            customer.customer_id,
            customer.public_id,
            customer.name,
            customer.email,
            row.state[1] or row.state[0],
            "; ".join(row.plans),
            row.renews_at,
            row.ends_at,
            customer.currency,
            customer.usage_started_at,
            customer.created_at,
            customer.closed_at,
        )


exported(
    ListExport(
        kind="customers",
        title="Customers",
        page="customers_customer_changelist",
        permission="customers.view_customer",
        head=(
            "customer_id",
            "id",
            "name",
            "email",
            "state",
            "plans",
            "renews_at",
            "ends_at",
            "currency",
            "usage_started_at",
            "created_at",
            "closed_at",
        ),
        rows=_customers,
        cells=_customer_cells,
    )
)


def _operations(asked: Asked) -> QuerySet:
    rows = asked.form(JournalFilter).narrowed(Operation.objects.select_related("customer", "reverses"))
    return of_customer(rows, asked)


exported(
    ListExport(
        kind="history",
        title="History",
        page="customers_operation_changelist",
        permission="customers.view_operation",
        head=(
            "id",
            "at",
            "verb",
            "summary",
            "customer_id",
            "by",
            "approved_by",
            "reason",
            "batch",
            "takes_back",
        ),
        rows=_operations,
        cells=each(
            lambda row: (
                row.public_id,
                row.at,
                row.verb,
                row.summary,
                row.customer.customer_id if row.customer else "",
                row.actor,
                row.approved_by,
                row.reason,
                row.batch,
                row.reverses.public_id if row.reverses else "",
            )
        ),
    )
)


# Money ----------------------------------------------------------------------------------------------------------------


def _invoices(asked: Asked) -> QuerySet:
    return of_customer(asked.form(InvoiceFilter).narrowed(Invoice.objects.select_related("customer"), asked.now), asked)


def _invoice_cells(rows: Sequence[Invoice], asked: Asked) -> Iterator[Sequence[Cell]]:
    for row in rows:
        tax = row.tax_added + row.tax_included
        due = 0 if row.state == InvoiceState.DRAFT else row.due
        amounts = (row.subtotal, row.discount_total, row.credit_total, tax, row.total, row.paid, due)
        yield (
            row.public_id,
            row.number,
            row.kind,
            row.customer.customer_id,
            row.customer.name,
            "past_due" if is_overdue(row, asked.now) else row.state,
            row.issued_at,
            row.due_at,
            row.currency,
            *(in_major(amount, row.currency) for amount in amounts),
        )


exported(
    ListExport(
        kind="invoices",
        title="Invoices",
        page="invoicing_invoice_changelist",
        permission="invoicing.view_invoice",
        head=(
            "id",
            "number",
            "kind",
            "customer_id",
            "customer",
            "state",
            "issued_at",
            "due_at",
            "currency",
            "subtotal",
            "discounts",
            "invoice_credits",
            "tax",
            "total",
            "paid",
            "due",
        ),
        rows=_invoices,
        cells=_invoice_cells,
    )
)


def _special_prices(asked: Asked) -> QuerySet:
    return asked.form(SpecialPriceFilter).narrowed(PriceOverride.objects.all())


def _special_price_cells(rows: Sequence[PriceOverride], _asked: Asked) -> Iterator[Sequence[Cell]]:
    beside = PriceOverride.objects.select_related("subscription__customer", "subscription__product")
    joined = beside.in_bulk([row.pk for row in rows])
    for row in (joined[row.pk] for row in rows):
        yield (
            row.public_id,
            row.subscription.customer.customer_id,
            row.subscription.public_id,
            row.subscription.product.key,
            row.item_key,
            row.mode,
            "; ".join(f"{part['label']}: {part['amount_cents']}" for part in row.components),
            row.cycles,
            row.reason,
            row.created_by,
            row.created_at,
            row.revoked_at,
        )


exported(
    ListExport(
        kind="special_prices",
        title="Special prices",
        page="customers_priceoverride_changelist",
        permission="customers.view_priceoverride",
        head=(
            "id",
            "customer_id",
            "subscription",
            "product",
            "item",
            "mode",
            "components_in_minor_units",
            "cycles",
            "reason",
            "created_by",
            "created_at",
            "revoked_at",
        ),
        rows=_special_prices,
        cells=_special_price_cells,
    )
)

exported(
    ListExport(
        kind="tax_rates",
        title="Tax rates",
        page="invoicing_taxrate_changelist",
        permission="invoicing.view_taxrate",
        head=("name", "percent", "within_the_price", "region", "default", "created_at", "archived_at"),
        rows=lambda asked: asked.form(RateFilter).narrowed(TaxRate.objects.all()),
        cells=each(
            lambda row: (
                row.name,
                row.percent,
                row.inclusive,
                row.region,
                row.is_default,
                row.created_at,
                row.archived_at,
            )
        ),
    )
)


# Deals, migrations, approvals -----------------------------------------------------------------------------------------


def _deals(asked: Asked) -> QuerySet:
    return with_newest(asked.form(DealFilter).narrowed()).select_related("customer", "base_version__plan")


def _deal_cells(rows: Sequence[Any], _asked: Asked) -> Iterator[Sequence[Cell]]:
    for deal in rows:
        figures = deal.figures or {}
        currency = figures.get("currency", "")
        yield (
            deal.public_id,
            deal.name,
            deal.customer.customer_id if deal.customer else "",
            deal.base_version.plan.key,
            "template" if deal.is_template else deal.state,
            currency,
            in_major(figures.get("value"), currency) if currency else None,
            in_major(figures.get("monthly"), currency) if currency else None,
            figures.get("discount"),
            deal.months,
            deal.starts,
            deal.owner,
            deal.approved_by,
            deal.created_at,
            deal.executed_at,
        )


exported(
    ListExport(
        kind="deals",
        title="Deals",
        page="deals_deal_changelist",
        permission="deals.view_deal",
        head=(
            "id",
            "name",
            "customer_id",
            "plan",
            "state",
            "currency",
            "value",
            "monthly",
            "discount_percent",
            "term_months",
            "starts_at",
            "owner",
            "approved_by",
            "created_at",
            "executed_at",
        ),
        rows=_deals,
        cells=_deal_cells,
    )
)


def _migrations(asked: Asked) -> QuerySet:
    failed = Q(rows__state=MigrationRow.State.FAILED)
    skipped = Q(rows__state=MigrationRow.State.SKIPPED)
    return (
        asked.form(MigrationsFilter)
        .narrowed()
        .annotate(number=Count("rows"), failed=Count("rows", filter=failed), skipped=Count("rows", filter=skipped))
    )


def _migration_cells(rows: Sequence[Any], _asked: Asked) -> Iterator[Sequence[Cell]]:
    for row in rows:
        migration: PlanMigration = row
        yield (
            migration.public_id,
            migration.plan.key,
            migration.from_version.number,
            migration.to_version.number,
            migration.timing,
            migration.state,
            row.number,
            row.skipped,
            row.failed,
            migration.reason,
            migration.created_by,
            migration.approved_by,
            migration.created_at,
            migration.finished_at,
        )


exported(
    ListExport(
        kind="migrations",
        title="Migrations",
        page="migrations",
        permission="customers.migrate_plan",
        head=(
            "id",
            "plan",
            "from_version",
            "to_version",
            "timing",
            "state",
            "contracts",
            "left_alone",
            "failed",
            "reason",
            "created_by",
            "approved_by",
            "created_at",
            "finished_at",
        ),
        rows=_migrations,
        cells=_migration_cells,
    )
)


def _approvals(asked: Asked) -> QuerySet:
    tab, is_key = asked.query.get("shown", ""), isinstance(asked.user, KeyHolder)
    if asked.is_strict and tab not in TABS:
        raise BadCondition("shown", f"Choose one of {', '.join(filter(None, TABS))}.")
    if is_key and tab == "asked":
        rows: QuerySet = ApprovalRequest.objects.filter(key=asked.user.key)
    else:  # keys decide nothing: what waits is what waits for anybody
        rows = of_tab(tab or ("waiting" if is_key else ""), asked.user, asked.now)
    return rows.select_related("customer", "approver").defer("inputs", "shown")


exported(
    ListExport(
        kind="approvals",
        title="Approvals",
        page="approvals",
        permission="billing_admin.view_approvalrequest",
        head=(
            "id",
            "act",
            "title",
            "customer_id",
            "rule",
            "approver",
            "state",
            "requested_by",
            "requested_at",
            "expires_at",
            "decided_by",
            "decided_at",
            "answer",
        ),
        rows=_approvals,
        cells=each(
            lambda row: (
                row.public_id,
                row.act,
                row.title,
                row.customer.customer_id if row.customer else "",
                row.why,
                row.approver.name,
                row.state,
                row.requested_by,
                row.requested_at,
                row.expires_at,
                row.decided_by,
                row.decided_at,
                row.answer,
            )
        ),
    )
)


# Stripe ---------------------------------------------------------------------------------------------------------------

exported(
    ListExport(
        kind="stripe_customers",
        title="Stripe customers",
        page="stripe_customers",
        permission="payments.view_stripecustomer",
        head=("stripe_id", "name", "email", "customer_id", "conflict", "deleted_at"),
        rows=lambda asked: asked.form(CustomersFilter).narrowed(),
        cells=each(
            lambda row: (
                row.stripe_id,
                row.name,
                row.email,
                row.customer.customer_id if row.customer else "",
                row.conflict,
                row.deleted_at,
            )
        ),
    )
)

exported(
    ListExport(
        kind="stripe_events",
        title="Stripe events",
        page="payments_stripeevent_changelist",
        permission="payments.view_stripeevent",
        head=(
            "stripe_id",
            "type",
            "object",
            "customer",
            "happened_at",
            "received_at",
            "fetched",
            "state",
            "outcome",
            "attempts",
        ),
        rows=lambda asked: asked.form(EventFilter).narrowed(StripeEvent.objects.defer("payload")),
        cells=each(
            lambda row: (
                row.stripe_id,
                row.type,
                row.object_id,
                row.customer,
                row.happened_at,
                row.received_at,
                row.was_fetched,
                row.state,
                row.outcome,
                row.attempts,
            )
        ),
    )
)


# What we sell ---------------------------------------------------------------------------------------------------------

exported(
    ListExport(
        kind="products",
        title="Products",
        page="catalog_product_changelist",
        permission="catalog.view_product",
        head=("key", "name", "description", "created_at", "archived_at"),
        rows=of_model(Product),
        cells=each(lambda row: (row.key, row.name, row.description, row.created_at, row.archived_at)),
    )
)

exported(
    ListExport(
        kind="plans",
        title="Plans",
        page="catalog_plan_changelist",
        permission="catalog.view_plan",
        head=("key", "name", "product", "kind", "add_on", "currency", "version", "created_at", "archived_at"),
        rows=of_model(Plan),
        cells=each(
            lambda row: (
                row.key,
                row.name,
                row.product.key,
                row.kind,
                row.add_on,
                row.currency,
                row.current_version.label if row.current_version else "",
                row.created_at,
                row.archived_at,
            )
        ),
    )
)

exported(
    ListExport(
        kind="features",
        title="Features",
        page="catalog_feature_changelist",
        permission="catalog.view_feature",
        head=("slug", "name", "type", "usage", "unit", "plans", "created_at", "archived_at"),
        rows=of_model(Feature),
        cells=each(
            lambda row: (
                row.slug,
                row.name,
                row.type,
                row.usage if row.type == Feature.Type.METERED else "",
                row.unit,
                row.on_plans,
                row.created_at,
                row.archived_at,
            )
        ),
    )
)

exported(
    ListExport(
        kind="meters",
        title="Meters",
        page="catalog_meter_changelist",
        permission="catalog.view_meter",
        head=("slug", "name", "event", "aggregation", "property", "features", "created_at", "archived_at"),
        rows=of_model(Meter),
        cells=each(
            lambda row: (
                row.slug,
                row.name,
                row.event_name,
                row.aggregation,
                row.property,
                row.using,
                row.created_at,
                row.archived_at,
            )
        ),
    )
)

exported(
    ListExport(
        kind="coupons",
        title="Coupons",
        page="catalog_coupon_changelist",
        permission="catalog.view_coupon",
        head=("code", "name", "kind", "gives", "for", "currency", "redeemed", "redeem_by", "created_at", "archived_at"),
        rows=of_model(Coupon),
        cells=each(
            lambda row: (
                row.code,
                row.name,
                row.kind,
                gives(row),
                lasts(row),
                row.currency,
                row.times,
                row.redeem_by,
                row.created_at,
                row.archived_at,
            )
        ),
    )
)


# The desk itself ------------------------------------------------------------------------------------------------------

exported(
    ListExport(
        kind="override_batches",
        title="Batches of overrides",
        page="entitlements_overridebatch_changelist",
        permission="entitlements.view_overridebatch",
        head=("id", "rows", "done", "refused", "reason", "created_by", "created_at", "finished_at", "revoked_at"),
        rows=lambda _asked: OverrideBatch.objects.defer("rows"),
        cells=each(
            lambda row: (
                row.public_id,
                row.total,
                row.done,
                len(row.failures),
                row.reason,
                row.created_by,
                row.created_at,
                row.finished_at,
                row.revoked_at,
            )
        ),
    )
)

exported(
    ListExport(
        kind="batches",
        title="Imports and bulk acts",
        page="billing_admin_batch_changelist",
        permission="billing_admin.view_batch",
        head=("id", "what", "source", "title", "state", "rows", "reason", "created_by", "created_at", "finished_at"),
        rows=lambda _asked: Batch.objects.all(),
        cells=each(
            lambda row: (
                row.public_id,
                row.kind,
                row.source,
                row.title,
                row.state,
                row.total,
                row.reason,
                row.created_by,
                row.created_at,
                row.finished_at,
            )
        ),
    )
)

exported(
    ListExport(
        kind="runs",
        title="Runs",
        page="billing_admin_workerrun_changelist",
        permission="billing_admin.view_workerrun",
        head=("task", "started_at", "finished_at", "done", "failed"),
        rows=lambda _asked: WorkerRun.objects.all(),
        cells=each(lambda row: (row.task, row.started_at, row.finished_at, row.done, row.failed)),
    )
)

exported(
    ListExport(
        kind="api_keys",
        title="API keys",
        page="billing_admin_apikey_changelist",
        permission="billing_admin.change_apikey",
        head=("id", "name", "ends_with", "role", "created_by", "created_at", "revoked_at"),
        rows=of_model(ApiKey),
        cells=each(
            lambda row: (
                row.public_id,
                row.name,
                row.hint,
                row.role.name,
                row.created_by,
                row.created_at,
                row.revoked_at,
            )
        ),
    )
)

exported(
    ListExport(
        kind="people",
        title="People",
        page="auth_user_changelist",
        permission="auth.view_user",
        head=("username", "first_name", "last_name", "email", "roles", "may_sign_in", "joined_at", "last_login"),
        rows=of_model(User),
        cells=each(
            lambda row: (
                row.username,
                row.first_name,
                row.last_name,
                row.email,
                "; ".join(group.name for group in row.groups.all()),
                row.is_active and row.is_staff,
                row.date_joined,
                row.last_login,
            )
        ),
    )
)

exported(
    ListExport(
        kind="roles",
        title="Roles",
        page="auth_group_changelist",
        permission="auth.view_group",
        head=("name", "people"),
        rows=of_model(Group),
        cells=each(lambda row: (row.name, row.count)),
    )
)
