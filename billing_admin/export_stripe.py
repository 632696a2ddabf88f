"""What waits for Stripe, and where it and our books part, as files."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from billing_admin.admin import stripe_compare, stripe_mirror
from billing_admin.admin.stripe_compare import DifferencesFilter, took_of, words_of
from billing_admin.admin.stripe_methods import behind
from billing_admin.admin.stripe_mirror import ONCE
from billing_admin.admin.stripe_settings import BACKLOG
from billing_admin.csv_table import Cell, in_major
from billing_admin.exports import ListExport, Walk, each, exported
from billing_admin.flows.stripe_compare import told
from payments.models import (
    StripeCredit,
    StripeCustomer,
    StripeInvoice,
    StripePrice,
    StripeRun,
    StripeSubscription,
)

exported(
    ListExport(
        kind="differences",
        title="Reconciliation",
        page="stripe_compare",
        permission=stripe_compare.VIEW,
        head=(
            "subject",
            "kind",
            "what",
            "customer_id",
            "our_id",
            "stripe_id",
            "ours",
            "theirs",
            "repair",
            "since",
            "settled_at",
            "settled_by",
        ),
        rows=lambda asked: asked.form(DifferencesFilter).narrowed(),
        cells=each(
            lambda row: (
                row.subject,
                row.kind,
                words_of(row),
                row.customer.customer_id if row.customer else "",
                row.our_id,
                row.stripe_id,
                row.ours,
                row.theirs,
                row.repair,
                row.since,
                row.settled_at,
                row.settled_by,
            )
        ),
    )
)

exported(
    ListExport(
        kind="comparisons",
        title="Comparisons with Stripe",
        page="stripe_compare_runs",
        permission=stripe_compare.VIEW,
        head=("started_at", "started_by", "finished_at", "differences", "took", "problem"),
        rows=lambda _asked: StripeRun.objects.filter(kind=StripeRun.Kind.COMPARISON),
        cells=each(
            lambda run: (
                run.started_at,
                run.started_by,
                run.finished_at,
                told(run) if run.finished_at else None,
                took_of(run),
                run.problem,
            )
        ),
    )
)


# The backlog ----------------------------------------------------------------------------------------------------------


def _backlog() -> Iterator[Any]:
    """In the order of the page: invoices and refunds as they are due, then customers."""
    due = ("next_attempt_at", "id")
    yield from StripeInvoice.objects.waiting().select_related("invoice__customer").order_by(*due)
    credits = StripeCredit.objects.filter(next_attempt_at__isnull=False).select_related("note__customer")
    yield from credits.order_by(*due)
    yield from StripeCustomer.objects.out_of_step().exclude(problem="").select_related("customer").order_by("id")


def _backlog_cells(row: StripeInvoice | StripeCredit | StripeCustomer) -> Sequence[Cell]:
    if isinstance(row, StripeCustomer):
        assert row.customer is not None, "only linked ones are out of step"
        who = (row.customer.customer_id, row.customer.name)
        return ("customer", "", *who, "", None, "", None, row.attempts, row.next_attempt_at, behind(row, row.customer))
    paper = row.invoice if isinstance(row, StripeInvoice) else row.note
    amount = row.invoice.due if isinstance(row, StripeInvoice) else row.amount
    return (
        "invoice" if isinstance(row, StripeInvoice) else "refund",
        str(paper),
        paper.customer.customer_id,
        paper.customer.name,
        paper.currency,
        in_major(amount, paper.currency),
        row.state,
        row.queued_at,
        row.attempts,
        row.next_attempt_at,
        row.problem,
    )


exported(
    ListExport(
        kind="backlog",
        title="Backlog",
        page="stripe_backlog",
        permission=BACKLOG,
        head=(
            "what",
            "document",
            "customer_id",
            "customer",
            "currency",
            "amount",
            "state",
            "waits_since",
            "failed",
            "next_attempt_at",
            "problem",
        ),
        rows=lambda _asked: Walk(_backlog()),
        cells=each(_backlog_cells),
    )
)


# Conflicts ------------------------------------------------------------------------------------------------------------


def _conflicts() -> Iterator[Any]:
    subscriptions = StripeSubscription.objects.exclude(conflict="").select_related("stripe_customer__customer")
    prices = StripePrice.objects.exclude(conflict="").exclude(ONCE).select_related("product")
    customers = StripeCustomer.objects.unlinked().exclude(conflict="")
    return chain(subscriptions.order_by("-id"), customers.order_by("-id"), prices.order_by("-id"))


def _conflict_cells(row: StripeSubscription | StripeCustomer | StripePrice) -> Sequence[Cell]:
    match row:
        case StripeSubscription():
            whose = str(row.stripe_customer.customer or row.stripe_customer)
            return ("subscription", row.stripe_id, whose, row.status, row.conflict)
        case StripeCustomer():
            return ("customer", row.stripe_id, row.name or row.email, "", row.conflict)
    return ("price", row.stripe_id, row.product.name, "active" if row.is_active else "archived", row.conflict)


exported(
    ListExport(
        kind="conflicts",
        title="Conflicts with Stripe",
        page="stripe_conflicts",
        permission=stripe_mirror.VIEW,
        head=("what", "stripe_id", "whose", "state", "why"),
        rows=lambda _asked: Walk(_conflicts()),
        cells=each(_conflict_cells),
    )
)
