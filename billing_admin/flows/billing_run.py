"""The billing run: ordinary renewals, a batch of customers at a time.

Most renewals are alike: one contract, one boundary, the same plan goes on. For those everything is read in a few
queries per batch, each customer is decided by the same functions as in `renew`, and written in one transaction of
their own with a handful of statements: hold the customer, see that nothing moved since it was read, write every row.
What is out of the ordinary or has moved meanwhile is nobody's loss: `prepare` leaves it out, `write` refuses it, and
`catch_up` does it.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import DataError, connection
from django.db.models import Model, Sum
from psycopg import Cursor
from psycopg.errors import DivisionByZero

from billing_admin.flows.boundary import boundary_lines
from billing_admin.flows.caution import Limits, why_not
from billing_admin.flows.collection import net_terms_of, pauses
from billing_admin.flows.position import stretch_of
from billing_admin.flows.renew import largest_documents, words_of
from billing_admin.models import WorkerFailure
from catalog.terms import ALLOCATED, PlanTerms
from customers.holdings import contract_of
from customers.journal import CLOCKWORK, draft
from customers.models import AppliedCoupon, Customer, Operation, Phase, PriceOverride, Subscription
from customers.switch import next_bill, plan_period
from entitlements.balances import Standing
from entitlements.models import Balance
from entitlements.readings import pool_under
from invoicing.documents import BillingRules, Document, bounds_of, draw
from invoicing.issue import Issuing, draft_of, invoice_number, line_row, open_as
from invoicing.lines import Line
from invoicing.mail import mail_when_written
from invoicing.models import (
    BillingSettings,
    CreditEntry,
    Invoice,
    InvoiceCredit,
    InvoiceLine,
    InvoiceSeries,
    PendingLine,
)
from invoicing.readings import rated_use, unbilled_use
from invoicing.rules import TaxTable
from invoicing.states import InvoiceState

# In this order they are written; all are ledgers, so rows are only added.
WRITTEN: tuple[type[Model], ...] = (Operation, Balance, Invoice, InvoiceLine, CreditEntry)
# How many ids are taken from a sequence at once. Those that are not needed are lost; ids are no numbers of anything.
BLOCK = 500

# What changes whenever anything does that a renewal is decided on: row versions of what is updated in place, the newest
# rows of the ledgers. Every act on a customer is journalled.
STAMP = """
    SELECT c.id, concat_ws('|', c.xmin,
        (SELECT string_agg(s.id || ':' || s.xmin, ',' ORDER BY s.id)
           FROM customers_subscription s WHERE s.customer_id = c.id),
        (SELECT string_agg(b.id || ':' || b.xmin, ',' ORDER BY b.id)
           FROM entitlements_balance b WHERE b.customer_id = c.id AND b.closed_at IS NULL),
        (SELECT n.xmin FROM invoicing_invoiceseries n WHERE n.customer_id = c.id),
        (SELECT max(o.id) FROM customers_operation o WHERE o.customer_id = c.id),
        (SELECT max(e.id) FROM entitlements_usageevent e WHERE e.customer_id = c.id),
        (SELECT max(e.id) FROM invoicing_creditentry e WHERE e.customer_id = c.id))
    FROM customers_customer c WHERE c.id = ANY(%s)
"""
# These two divide by zero when somebody else holds the customer, or was there since: so all statements of a renewal can
# be sent at once, and the first that finds it impossible stops the rest.
#
# Where nobody is mailed, its end need not wait for the disk: the pass writes its record after each batch and waits for
# that, which is behind all of these. A database that dies before may forget whole renewals, never a part of one; their
# customers are due again then, and nobody has heard of anything else.
HOLD = """
    SELECT set_config('synchronous_commit', %s, true), 1 / count(*)
    FROM (SELECT 1 FROM customers_customer WHERE id = %s FOR UPDATE SKIP LOCKED) AS held
"""
SAME = f"SELECT 1 / count(*) FROM ({STAMP}) AS present (id, stamp) WHERE stamp = %s"  # noqa: S608  our own text
CLOSE = "UPDATE entitlements_balance SET closed_at = %s WHERE id = ANY(%s)"


@dataclass(frozen=True, slots=True)
class Renewal:
    """One customer's renewal, decided and ready to be written; `stamp` is what it was decided on. Its invoice may be
    mailed."""

    subscription: Subscription
    stamp: str
    series: InvoiceSeries | None
    closed: tuple[int, ...]
    is_mailed: bool
    rows: Mapping[type[Model], Sequence[Model]]

    @property
    def invoices(self) -> list[Invoice]:
        return [row for row in self.rows[Invoice] if isinstance(row, Invoice)]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a batch is decided on: by customer, or by subscription where it says so."""

    now: datetime
    account: BillingSettings
    stamps: Mapping[int, str]
    due: Mapping[int, Subscription]
    phases: Mapping[int, list[Phase]] = field(default_factory=dict)  # by subscription
    buckets: Mapping[int, list[Balance]] = field(default_factory=dict)
    use: Mapping[int, list[Balance]] = field(default_factory=dict)  # by subscription
    largest: Mapping[int, int] = field(default_factory=dict)  # by subscription
    credit: Mapping[int, int] = field(default_factory=dict)
    series: Mapping[int, InvoiceSeries] = field(default_factory=dict)
    taxes: TaxTable = field(default_factory=TaxTable)

    @property
    def limits(self) -> Limits:
        return Limits(self.account.most_lines, self.account.most_growth)


# Reading -------------------------------------------------------------------------------------------------------------


def read(customer_ids: Collection[int], now: datetime) -> Facts:
    """Everything about the ordinary ones among these customers, whatever their number in about fifteen queries."""
    account, stamps = BillingSettings.present(), stamps_of(customer_ids)
    due = _alone(Subscription.objects.due(now).live().filter(customer__in=customer_ids).select_related("customer"))
    for unusual in _unusual(due, now):
        due.pop(unusual, None)
    if not due:
        return Facts(now, account, stamps, due)
    contracts, customers = list(due.values()), list(due)
    phases = Phase.objects.kept().filter(subscription__in=contracts).select_related("version__plan")
    by_contract = _grouped(phases.order_by("starts_at", "id"), lambda phase: phase.subscription_id)
    buckets = Balance.objects.filter(customer__in=customers, closed_at=None).select_related("feature").order_by("id")
    credit = (
        CreditEntry.objects.filter(customer__in=customers).order_by().values("customer").annotate(sum=Sum("amount"))
    )
    return Facts(
        now=now,
        account=account,
        stamps=stamps,
        due=due,
        phases=by_contract,
        buckets=_grouped(buckets, lambda bucket: bucket.customer_id),
        use=unbilled_use(contracts),
        largest=largest_documents(contracts, now),
        credit=dict(credit.values_list("customer_id", "sum")),
        series={row.customer_id: row for row in InvoiceSeries.objects.filter(customer__in=customers)},
        taxes=TaxTable.read(customers, {p.version.plan_id for found in by_contract.values() for p in found}),
    )


def stamps_of(customer_ids: Collection[int]) -> dict[int, str]:
    with connection.cursor() as cursor:
        cursor.execute(STAMP, [list(customer_ids)])
        return dict(cursor.fetchall())


def _alone(contracts: Iterable[Subscription]) -> dict[int, Subscription]:
    """By customer, where there is one only."""
    found = _grouped(contracts, lambda contract: contract.customer_id)
    return {customer_id: rows[0] for customer_id, rows in found.items() if len(rows) == 1}


def _unusual(due: Mapping[int, Subscription], now: datetime) -> Iterator[int]:
    """Customers whose documents depend on more than their plan, and those who failed before."""
    customers, contracts = list(due), list(due.values())
    yield from AppliedCoupon.objects.in_force(now).filter(customer__in=customers).values_list("customer_id", flat=True)
    credits = InvoiceCredit.objects.filter(customer__in=customers, voided_at=None)
    yield from credits.values_list("customer_id", flat=True)
    overrides = PriceOverride.objects.filter(subscription__in=contracts)
    yield from overrides.values_list("subscription__customer_id", flat=True)
    waiting = PendingLine.objects.filter(subscription__in=contracts, line=None)
    yield from waiting.values_list("subscription__customer_id", flat=True)
    names = {contract.public_id: customer_id for customer_id, contract in due.items()}
    names |= {contract.customer.public_id: customer_id for customer_id, contract in due.items()}
    for what in WorkerFailure.objects.filter(what__in=names, resolved_at=None).values_list("what", flat=True):
        yield names[what]


def _grouped(rows: Iterable[Any], key: Callable[[Any], int]) -> dict[int, list[Any]]:
    found = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


# Deciding ------------------------------------------------------------------------------------------------------------


def prepare(customer_ids: Collection[int], *, now: datetime) -> dict[int, Renewal]:
    """The renewals among the due work of these customers that are ordinary, by customer."""
    facts, ids = read(customer_ids, now), Ids()
    decided = {customer_id: decide(contract, facts, ids) for customer_id, contract in facts.due.items()}
    return {customer_id: renewal for customer_id, renewal in decided.items() if renewal is not None}


def decide(subscription: Subscription, facts: Facts, ids: "Ids") -> Renewal | None:
    """What `renew` would write for this contract; None when it is not an ordinary renewal."""
    at, now, customer = subscription.bills_at, facts.now, subscription.customer
    phases = facts.phases.get(subscription.pk, [])
    series = facts.series.get(customer.pk)
    if at is None or not _goes_on(subscription, phases, at, facts):
        return None
    phase = phases[-1]
    phase.subscription = subscription
    terms, bills_at = phase.terms(), next_bill(phase.terms(), phase.anchor, at)
    windows = _windows(facts.buckets.get(customer.pk, []), phase, customer, at, now)
    if windows is None or terms.commitment or (bills_at is not None and bills_at <= now):
        return None
    lines, documents = _documents(subscription, phases, facts, at)
    if len(documents) > 1 or why_not(documents, facts.limits, facts.largest.get(subscription.pk)):
        return None
    rows = _rows_of(windows, subscription, now, ids)
    if documents:
        if series is None or documents[0].is_credit_note or _waits(terms, facts.account):
            return None
        series.invoices += 1
        words = words_of(phase, lines, at, switched=False)
        operation = draft(customer, actor=CLOCKWORK, now=now, **words)
        operation.pk = ids.next(Operation)
        days = net_terms_of(subscription, facts.account)
        how = Issuing(subscription, phase, operation, net_terms_days=days)
        rows |= {Operation: [operation]} | _issued(customer, documents[0], how, invoice_number(series), now, ids)
    period = plan_period(terms, phase.anchor, at)
    subscription.period_starts_at = period.starts_at if period else None
    subscription.period_ends_at = period.ends_at if period else None
    subscription.bills_at = bills_at
    closed = tuple(standing.ended.id for standing in windows if standing.ended and standing.ended.id)
    counted = series if documents else None
    return Renewal(subscription, facts.stamps[customer.pk], counted, closed, facts.account.send_invoices, rows)


def _goes_on(subscription: Subscription, phases: Sequence[Phase], at: datetime, facts: Facts) -> bool:
    """Whether the same phase is in force before the boundary and for ever after it, and is collected."""
    if not phases or subscription.add_on or subscription.ends_at is not None:
        return False
    if pauses(subscription, at) or pauses(subscription, facts.now):
        return False
    last = phases[-1]
    endless = last.starts_at < at and last.ends_at is None and not last.is_trial
    return endless and subscription.state != Subscription.State.TRIALING and subscription.quantity == last.quantity


def _waits(terms: PlanTerms, account: BillingSettings) -> bool:
    """Whether late use may still come onto its document."""
    return account.grace_hours > 0 and bool(terms.usage_items)


def _windows(
    buckets: Sequence[Balance], phase: Phase, customer: Customer, at: datetime, now: datetime
) -> list[Standing] | None:
    """The windows of the contract at the boundary; None unless each goes on, or is followed by the next one."""
    own = [row for row in buckets if row.subscription_id == phase.subscription_id and row.starts_at <= at]
    if any(row.ends_at is not None and row.ends_at <= now for row in buckets if row not in own):
        return None
    # Overrides are settled with their customer's other balances: where one has written anything, the ordinary way is
    # taken, and what one will take of a window that begins it takes before anything is counted there.
    if any(not row.is_promised or row.withheld_by_id is not None for row in own):
        return None
    if any(row.level_units is not None for row in buckets):
        return None  # a level is counted up to the boundary first
    there = pool_under([], [contract_of(phase, customer)], own, at)
    found = list(there.standings)
    if there.beside or there.over:
        return None
    kept = {standing.bucket.id for standing in found} | {s.ended.id for s in found if s.ended}
    if {row.pk for row in own} - kept:
        return None
    ends = {row.pk: row.ends_at for row in own}
    for standing in found:
        bucket, ended = standing.bucket, standing.ended
        if standing.is_carried or (bucket.ends_at is not None and bucket.ends_at <= now):
            return None
        follows = ended is not None and ended.owner == bucket.owner and ended.ends_at == ends[ended.id or 0]
        if bucket.id is None and (not follows or bucket.used or bucket.adjusted):
            return None
    return found


def _documents(
    subscription: Subscription, phases: Sequence[Phase], facts: Facts, at: datetime
) -> tuple[list[Line], list[Document]]:
    customer_id, plan = subscription.customer_id, phases[-1].version.plan
    levels = {
        row.feature.slug: max(Decimal(0), row.used)
        for row in facts.buckets.get(customer_id, [])
        if row.subscription_id == subscription.pk and row.feature.usage == ALLOCATED
    }
    history = [stretch_of(phase, levels) for phase in phases if phase.starts_at < at]
    ended = [row for row in facts.use.get(subscription.pk, []) if row.ends_at is not None and row.ends_at <= at]
    lines = boundary_lines(at, history=history, after=history[-1], uses=[rated_use(row) for row in ended])
    rules = BillingRules(
        plan_id=plan.pk,
        taxes=facts.taxes.terms(customer_id, plan.pk),
        account_credit=facts.credit.get(customer_id, 0),
    )
    return lines, draw(lines, rules, bounds=bounds_of(history[-1].terms, lines), currency=plan.currency)


# Rows ----------------------------------------------------------------------------------------------------------------


class Ids:
    """Ids for rows that are not written yet, taken from the tables' sequences by the block."""

    def __init__(self) -> None:
        self.waiting: dict[type[Model], list[int]] = {}

    def next(self, model: type[Model]) -> int:
        waiting = self.waiting.setdefault(model, [])
        if not waiting:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s) ORDER BY 1 DESC",
                    [model._meta.db_table, BLOCK],
                )
                waiting += [number for (number,) in cursor.fetchall()]
        return waiting.pop()


def _rows_of(
    windows: Sequence[Standing], subscription: Subscription, now: datetime, ids: Ids
) -> dict[type[Model], Sequence[Model]]:
    """The windows that follow those that ended."""
    opened = []
    for standing in windows:
        bucket, ended = standing.bucket, standing.ended
        if ended is None or bucket.id is not None:
            continue
        row = Balance(
            id=ids.next(Balance),
            customer_id=subscription.customer_id,
            feature_id=bucket.item.feature_row,
            source=Balance.Source.PLAN_ITEM,
            subscription=subscription,
            item_id=bucket.item.row,
            starts_at=bucket.starts_at,
            ends_at=bucket.ends_at,
            opened_at=now,
            granted=bucket.granted,
            priority=bucket.priority,
        )
        opened.append(row)
    empty: dict[type[Model], Sequence[Model]] = dict.fromkeys(WRITTEN, ())
    return empty | {Balance: opened}


def _issued(
    customer: Customer, document: Document, how: Issuing, number: str, now: datetime, ids: Ids
) -> dict[type[Model], Sequence[Model]]:
    """An invoice with its lines, open or settled by account credit."""
    invoice = draft_of(customer, document, how=how)
    invoice.pk = ids.next(Invoice)
    open_as(invoice, number, now=now, net_terms_days=how.net_terms_days)
    lines = [line_row(invoice, position, drawn, how) for position, drawn in enumerate(document.drawn.lines)]
    for line in lines:
        line.pk = ids.next(InvoiceLine)
    credits = []
    if taken := document.drawn.account_credit:
        invoice.credit_applied = taken
        entry = CreditEntry(customer=customer, currency=invoice.currency, kind=CreditEntry.Kind.APPLIED, at=now)
        entry.pk, entry.amount, entry.invoice = ids.next(CreditEntry), -taken, invoice
        credits.append(entry)
    if invoice.due == 0:
        invoice.move_to(InvoiceState.PAID)
        invoice.paid_at = now
    return {Invoice: [invoice], InvoiceLine: lines, CreditEntry: credits}


# Writing -------------------------------------------------------------------------------------------------------------


class Moved(Exception):
    """Somebody else holds the customer, or was there since the renewal was decided: it has to be decided again."""


def write(renewal: Renewal, *, now: datetime, beside: tuple[str, Sequence[Any]] | None = None) -> None:
    """Write one renewal inside the caller's transaction, which has to be given up when it raises `Moved`.

    `beside` is a statement of the caller's that belongs to it.
    """
    contract, series = renewal.subscription, renewal.series
    try:
        with statements() as run:
            run(HOLD, ["on" if renewal.is_mailed else "off", contract.customer_id])
            run(SAME, [[contract.customer_id], renewal.stamp])
            # Before the next windows are opened: two open ones of a feature may not be, not even for a moment.
            run(CLOSE, [now, list(renewal.closed)])
            run(
                WRITE,
                [
                    *(as_json(renewal.rows[model]) for model in WRITTEN),
                    *(series.invoices if series else None, series.pk if series else None),
                    *(contract.period_starts_at, contract.period_ends_at, contract.bills_at, contract.pk),
                ],
            )
            if beside:
                run(*beside)
    except DataError as error:
        if isinstance(error.__cause__, DivisionByZero):
            raise Moved from error
        raise
    for invoice in renewal.invoices if renewal.is_mailed else ():
        mail_when_written(invoice)


@contextmanager
def statements() -> Iterator[Callable[[str, Sequence[Any]], Cursor[Any]]]:
    """Send several statements at once, each planned once per connection: most of a renewal's time would be waiting."""
    connection.ensure_connection()
    raw = connection.connection
    # Django has it off, for poolers between us and the database; its own statements are never prepared anyway.
    usual, raw.prepare_threshold = raw.prepare_threshold, 1
    try:
        with connection.wrap_database_errors, raw.pipeline():
            yield lambda text, values: Cursor(raw).execute(text, values, prepare=True)
    finally:
        raw.prepare_threshold = usual


def _insert(model: type[Model]) -> str:
    table = model._meta.db_table
    return f"INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, %s)"  # noqa: S608  our own names


WRITE = f"""
    WITH {", ".join(f"{model.__name__.lower()} AS ({_insert(model)})" for model in WRITTEN)},
    counted AS (UPDATE invoicing_invoiceseries SET invoices = %s WHERE id = %s)
    UPDATE customers_subscription SET period_starts_at = %s, period_ends_at = %s, bills_at = %s WHERE id = %s
"""  # noqa: S608  the names of our own tables


def as_json(rows: Sequence[Model]) -> str:
    """Rows as PostgreSQL reads them back into columns, to the microsecond and the last decimal."""
    found = [{column.column: getattr(row, column.attname) for column in row._meta.concrete_fields} for row in rows]
    return json.dumps(found, default=lambda value: value.isoformat() if isinstance(value, datetime) else str(value))
