"""Failed work, the customers of one migration, the rows of one import and the rules of approval, as files."""

from django.db.models import QuerySet
from django.http import Http404

from billing_admin.admin.approvals import RULES
from billing_admin.admin.migration_order import MIGRATE
from billing_admin.admin.migrations import RowsFilter, find_migration
from billing_admin.csv_table import in_major
from billing_admin.exports import Asked, ListExport, each, exported
from billing_admin.flows.approval_rules import said
from billing_admin.models import ApprovalRule, Batch, WorkerFailure
from billing_admin.runs import open_failures

exported(
    ListExport(
        kind="failures",
        title="Failed work",
        page="billing_admin_workerrun_changelist",
        button="Failures as CSV",
        permission="billing_admin.view_workerrun",
        head=("what", "cause", "task", "at"),
        rows=lambda _asked: open_failures().select_related("run"),
        cells=each(lambda row: (row.what, row.cause, row.run.task, row.at)),
    )
)


def _of_run(asked: Asked) -> QuerySet:
    key = asked.query.get("run", "")
    return WorkerFailure.objects.filter(run=int(key) if key.isdecimal() and len(key) < 18 else None)


exported(
    ListExport(
        kind="failures_of_run",
        title="Failures of a run",
        page="billing_admin_workerrun_change",
        of="run",
        permission="billing_admin.view_workerrun",
        head=("what", "cause", "at", "resolved_at"),
        rows=_of_run,
        cells=each(lambda row: (row.what, row.cause, row.at, row.resolved_at)),
    )
)


def _customers_of_migration(asked: Asked) -> QuerySet:
    migration = find_migration(asked.query.get("migration", ""))
    rows: QuerySet = asked.form(RowsFilter).narrowed(migration, asked.now)
    return rows.select_related("customer", "subscription", "migration__plan")


exported(
    ListExport(
        kind="migration_rows",
        title="Customers of a migration",
        page="migration",
        of="migration",
        permission=MIGRATE,
        head=(
            "customer_id",
            "name",
            "subscription",
            "state",
            "begins",
            "currency",
            "old_price",
            "new_price",
            "difference",
            "access_lost",
            "code",
            "why",
        ),
        rows=_customers_of_migration,
        cells=each(
            lambda row: (
                row.customer.customer_id,
                row.customer.name,
                row.subscription.public_id,
                row.state_now,
                row.at,
                row.migration.plan.currency,
                in_major(row.old_price, row.migration.plan.currency),
                in_major(row.new_price, row.migration.plan.currency),
                in_major(row.new_price - row.old_price, row.migration.plan.currency),
                "; ".join(row.lost),
                row.code,
                row.problem,
            )
        ),
    )
)


def _rows_of_batch(asked: Asked) -> QuerySet:
    batch = Batch.objects.filter(public_id=asked.query.get("batch", "")).first()
    if batch is None:
        raise Http404("There is no such import.")
    return batch.rows.select_related("customer")


exported(
    ListExport(
        kind="batch_rows",
        title="Rows of an import or bulk act",
        page="batch",
        of="batch",
        permission="billing_admin.view_batch",
        head=("line", "customer_id", "state", "before", "after", "column", "problem", "done_at"),
        rows=_rows_of_batch,
        cells=each(
            lambda row: (
                row.line,
                row.customer.customer_id if row.customer else row.cells.get("customer_id", ""),
                row.state,
                row.before,
                row.after,
                row.column,
                row.problem,
                row.done_at,
            )
        ),
    )
)

exported(
    ListExport(
        kind="approval_rules",
        title="Rules of approval",
        page="approval_rules",
        permission=RULES,
        head=("act", "measure", "above", "currency", "rule", "active", "expires_hours", "created_by", "created_at"),
        rows=lambda _asked: ApprovalRule.objects.select_related("approver").prefetch_related("for_roles"),
        cells=each(
            lambda row: (
                row.act,
                row.measure,
                row.above,
                row.currency,
                said(row),
                row.is_active,
                row.expires_hours,
                row.created_by,
                row.created_at,
            )
        ),
    )
)
