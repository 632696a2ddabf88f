"""What is coming and the rows behind figures of revenue, as files: merged from many tables, or summed."""

from collections.abc import Iterator, Sequence
from typing import Any

from billing_admin.admin.coming import SEES, ComingFilter, window_of
from billing_admin.admin.revenue import (
    Charged,
    Chosen,
    RowsFilter,
    charged_of,
    chosen_of,
    told_rows,
)
from billing_admin.coming import Coming, total
from billing_admin.csv_table import Cell, in_major
from billing_admin.exports import Asked, ListExport, Walk, each, exported
from billing_admin.flows.coming import read_all, read_days
from invoicing.models import InvoiceLine

CHUNK = 500

# What is coming -------------------------------------------------------------------------------------------------------


def _coming(asked: Asked) -> Walk:
    form = asked.form(ComingFilter, drop=("month",))
    window = form.asked(*window_of(form, asked.now))
    return Walk(read_all(window), total(read_days(window).values()).count)


def _coming_cells(row: Coming) -> Sequence[Cell]:
    return (
        row.at,
        row.kind.value,
        row.customer.customer_id if row.customer else "",
        row.customer.name if row.customer else "",
        row.what,
        row.why,
        row.currency,
        in_major(row.amount, row.currency),
        in_major(row.expected, row.currency),
        row.so_far,
    )


exported(
    ListExport(
        kind="coming",
        title="What is coming",
        page="coming_list",
        permission=SEES[0],
        needs=SEES[1:],
        head=("at", "kind", "customer_id", "customer", "what", "why", "currency", "to_bill", "expected", "so_far"),
        rows=_coming,
        cells=each(_coming_cells),
    )
)


# Revenue --------------------------------------------------------------------------------------------------------------


def _chosen(asked: Asked) -> Chosen:
    return chosen_of(asked.form(RowsFilter), asked.now)


def _moved(asked: Asked) -> Walk:
    return Walk(_moved_rows(_chosen(asked)))


def _moved_rows(chosen: Chosen) -> Iterator[tuple[int, int | None, int]]:
    before: int | None = None
    while found := chosen.rows(before=before, most=CHUNK):
        yield from found
        before = found[-1][0]


def _moved_cells(rows: Sequence[Any], asked: Asked) -> Iterator[Sequence[Cell]]:
    chosen = _chosen(asked)
    for row in told_rows(rows):
        yield (
            row.customer.customer_id,
            row.customer.name,
            f"{chosen.first:%Y-%m}",
            str(chosen.kind),
            chosen.currency,
            in_major(row.opening, chosen.currency),
            in_major(row.closing, chosen.currency),
            in_major(row.change, chosen.currency),
        )


exported(
    ListExport(
        kind="recurring_revenue",
        title="Recurring revenue",
        page="revenue_movements",
        permission=SEES[0],
        needs=SEES[1:],
        head=("customer_id", "customer", "month", "kind", "currency", "opening", "closing", "change"),
        rows=_moved,
        cells=_moved_cells,
    )
)


def _charged(asked: Asked) -> Charged:
    return charged_of(asked.form(RowsFilter), asked.now)


def _lines(asked: Asked) -> Walk:
    return Walk(_charged_rows(_charged(asked)))


def _charged_rows(charged: Charged) -> Iterator[InvoiceLine]:
    before = None
    while found := charged.rows(before=before, most=CHUNK):
        yield from found
        issued_at = found[-1].invoice.issued_at
        assert issued_at is not None, "only what was issued is listed"
        before = issued_at, found[-1].pk


def _line_cells(line: InvoiceLine) -> Sequence[Cell]:
    invoice = line.invoice
    return (
        invoice.issued_at,
        str(invoice),
        invoice.customer.customer_id,
        invoice.customer.name,
        line.kind,
        line.description,
        invoice.currency,
        in_major(line.net, invoice.currency),
    )


exported(
    ListExport(
        kind="invoice_lines",
        title="Lines of a product",
        page="revenue_lines",
        permission=SEES[0],
        needs=SEES[1:],
        head=("issued_at", "document", "customer_id", "customer", "kind", "description", "currency", "net"),
        rows=_lines,
        cells=each(_line_cells),
    )
)
