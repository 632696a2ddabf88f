"""The passes of the clockwork: settle what is due, customer by customer, and keep a record of each pass.

What is left to do is always a query, so a pass may be doubled, late, or killed at any instruction: each customer is
one transaction, and the numbers of the run are written in it. A customer whom a pass cannot settle is recorded with
the cause and holds nobody up; the next pass tries again, and after a few failures in a row a person has to look.
"""

import json
import re
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from django.db import DatabaseError, connection, transaction
from django.db.models import Q

from billing_admin.flows.accepted import count_next, forget, next_accepted, waiting
from billing_admin.flows.approvals import expire_due as close_approvals
from billing_admin.flows.billing_run import Moved, Renewal, prepare, write
from billing_admin.flows.customers import erase, erase_due
from billing_admin.flows.drafts import issue_due
from billing_admin.flows.dunning import collect_overdue, to_collect
from billing_admin.flows.gate import expire
from billing_admin.flows.override_batch import carry_out, unfinished
from billing_admin.flows.override_notices import tell_ending
from billing_admin.flows.renew import MOST_PERIODS, catch_up, renew_or_park
from billing_admin.models import Heartbeat, WorkerFailure, WorkerRun
from customers import switch
from customers.journal import CLOCKWORK, Actor, record
from customers.models import Customer, CustomerQuerySet, Operation, Subscription
from entitlements.archive import archive_month, due_months, scrub, to_scrub
from entitlements.models import Balance
from entitlements.partitions import make_ahead
from entitlements.reset import bring_up_to_date, reset_due
from entitlements.reset_many import START, Place, reset_many
from invoicing.models import Invoice
from payments.under_way import at_rest

RENEWALS, RESETS, ERASURES = "renew_due", "reset_due", "erase_due"
DRAFTS, EXPIRIES, DUNNING = "issue_due", "expire_due", "dun_due"
MONTHS, ARCHIVE = "make_months", "archive_due"
BATCHES, ACCEPTED = "carry_out_batches", "count_accepted"
ENDS = "tell_override_ends"
APPROVALS = "expire_approvals"
CLOCKWORK_HEARD = "clockwork"

log = structlog.get_logger("billing_admin.runs")

# So many are looked up at a time, and so many are settled in one pass at most: the next pass goes on from there.
BATCH, MOST = 200, 20_000
# Advisory locks on customers: their ids, far from whatever else anybody locks so.
KEPT_BY_RENEWALS = 7_000_000_000_000_000_000
KEEP = "SELECT id FROM unnest(%s::bigint[]) AS id WHERE pg_try_advisory_lock(id + %s)"
LET_GO = "SELECT count(pg_advisory_unlock(id + %s)) FROM unnest(%s::bigint[]) AS id"
# Accepted use that fails is looked at again after so long.
TRIED_AGAIN_AFTER = timedelta(minutes=1)
# After so many failures in a row a contract waits for a person.
PATIENCE = 5
# Work that is not a customer's: what to do with the names of what failed, for whom, and when. Its modules put it here.
AGAIN: "dict[str, Callable[[Collection[str], str, datetime], Pass]]" = {}


@dataclass
class Pass:
    """One pass in the making. Its row is written with the first work, so that idle passes leave none."""

    task: str
    now: datetime
    run: WorkerRun | None = None
    counts: Counter[str] = field(default_factory=Counter)
    asked_by: str = ""

    @property
    def done(self) -> int:
        return self.counts["done"]

    @property
    def failed(self) -> int:
        return self.counts["failed"]

    def begin(self) -> WorkerRun:
        if self.run is None:
            self.run = WorkerRun.objects.create(task=self.task, started_at=self.now, effects=self.effects())
        return self.run

    def wrote(self, *, invoices: Iterable[Invoice] = (), done: int = 1, **counts: int) -> None:
        """Count what the open transaction does; both are written, or neither."""
        self.count(invoices, done=done, **counts)
        self._write()

    def count(self, invoices: Iterable[Invoice], *, done: int = 1, **counts: int) -> None:
        self.counts = self.counts.copy()  # the former value is put back when the transaction is not written
        self.counts.update(done=done, **counts)
        for invoice in invoices:
            word, money = (
                ("invoices", "money") if invoice.kind == Invoice.Kind.INVOICE else ("credit_notes", "credited")
            )
            self.counts.update({word: 1, f"{money}:{invoice.currency}": invoice.total})

    def statement(self) -> tuple[str, list[Any]]:
        """What writes the numbers: it runs with every customer, so it is spelled out once."""
        values = [self.done, self.failed, json.dumps(self.effects()), self.begin().pk]
        return "UPDATE billing_admin_workerrun SET done = %s, failed = %s, effects = %s WHERE id = %s", values

    def fail(self, what: str, error: Exception) -> None:
        """Keep the cause; a failure that stands there already is renewed, except where failures in a row count."""
        run, cause = self.begin(), cause_of(error)
        detail = "".join(traceback.format_exception(error))[-10_000:]
        values = {"run": run, "at": self.now, "cause": cause, "detail": detail}
        known = open_failures(what).filter(cause=cause).exclude(run__task=RENEWALS)
        if not known.update(**values):
            WorkerFailure.objects.create(what=what, **values)
        self.counts["failed"] += 1
        self._write()

    def effects(self) -> dict[str, Any]:
        """As JSON: counts by name, and money by currency in minor units."""
        found: dict[str, Any] = {"asked_by": self.asked_by} if self.asked_by else {}
        for name, number in self.counts.items():
            money, _, currency = name.partition(":")
            if currency:
                found.setdefault(money, {})[currency] = number
            elif name not in ("done", "failed"):
                found[name] = number
        return found

    def _write(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(*self.statement())

    def sync(self) -> None:
        """Wait until everything that was done so far is on disk: this row is written after all of it."""
        self._write()

    def finish(self, at: datetime) -> WorkerRun | None:
        """Close the record of a pass that was over at the instant, and say that the clockwork was heard."""
        if not self.asked_by:
            heard(self.task, at)
        if self.run is None:
            return None
        if not self.done and not self.failed:  # somebody else was faster with everything
            self.run.delete()
            return None
        self.run.finished_at = at
        self.run.done, self.run.failed, self.run.effects = self.done, self.failed, self.effects()
        self.run.save()
        return self.run


def heard(name: str, at: datetime) -> None:
    row = Heartbeat(name=name, at=at)
    Heartbeat.objects.bulk_create([row], update_conflicts=True, unique_fields=["name"], update_fields=["at"])


# Renewals, and whatever else is due on a contract: scheduled changes, ends -------------------------------------------


def renewals(*, now: datetime, most: int = MOST) -> Pass:
    """Settle every contract that is due, who waits longest first."""
    this = Pass(RENEWALS, now)
    for batch in _due_customers(now, most):
        with _kept_from_others(batch) as customers:
            if customers:
                _settle_batch(this, customers)
    return this


def _settle_batch(this: Pass, customers: Collection[int]) -> None:
    this.begin()
    ordinary = _prepare(customers, this.now)
    for customer_id in customers:
        if customer_id not in ordinary or not _write(this, ordinary[customer_id]):
            _settle(this, customer_id)
    this.sync()


@contextmanager
def _kept_from_others(batch: Collection[int]) -> Iterator[list[int]]:
    """Those of a batch that no other pass has before it, so that two share the work instead of reading it twice.

    It saves work, no more: what keeps a renewal from happening twice is the lock of the customer's row. A pass that
    dies lets go of them with its connection.
    """
    with connection.cursor() as cursor:
        cursor.execute(KEEP, [list(batch), KEPT_BY_RENEWALS])
        ours = {customer_id for (customer_id,) in cursor.fetchall()}
    try:
        yield [customer_id for customer_id in batch if customer_id in ours]
    finally:
        with connection.cursor() as cursor:
            cursor.execute(LET_GO, [KEPT_BY_RENEWALS, list(ours)])


def _prepare(customers: Collection[int], now: datetime) -> dict[int, Renewal]:
    """What can be written quickly; nothing when that fails: one by one it is found whose fault it is."""
    try:
        return prepare(customers, now=now)
    except Exception:
        log.exception("a batch of renewals was not prepared", customers=len(customers))
        return {}


def _due_customers(now: datetime, most: int) -> Iterator[list[int]]:
    """Each customer once, a batch at a time, whatever comes of them: who fails is for the next pass."""
    seen: set[int] = set()
    rows = Subscription.objects.due(now).order_by("bills_at", "id")
    left = rows
    while len(seen) < most and (batch := list(left.values_list("customer_id", "bills_at", "id")[:BATCH])):
        new = [customer_id for customer_id, _, _ in batch if customer_id not in seen]
        new = list(dict.fromkeys(new))[: most - len(seen)]
        seen.update(new)
        yield new
        _, last_at, last_id = batch[-1]
        left = rows.filter(bills_at__gte=last_at).exclude(bills_at=last_at, id__lte=last_id)


def _write(this: Pass, renewal: Renewal) -> bool:
    """Write what was prepared; False when it has to be done the ordinary way, which finds and names what is wrong."""
    before = this.counts
    this.count(renewal.invoices)
    try:
        with transaction.atomic():
            write(renewal, now=this.now, beside=this.statement())
    except (DatabaseError, Moved) as error:
        if not isinstance(error, Moved):
            who = renewal.subscription.customer.public_id
            log.warning("a prepared renewal was refused", customer=who, error=str(error))
        this.counts = before
        return False
    return True


def _settle(this: Pass, customer_id: int, *, looked_at: Collection[int] = ()) -> None:
    this.begin()
    before = this.counts
    try:
        with transaction.atomic():
            customer = _claim(customer_id)
            due = [] if customer is None else list(customer.subscriptions.due(this.now))
            if customer is None or not due:
                return
            this.wrote(invoices=catch_up(customer, now=this.now, looked_at=looked_at))
            _resolve([customer.public_id, *(s.public_id for s in due)], this.now)
    except Exception:  # whatever it was, it is found again and recorded contract by contract
        this.counts = before
        _settle_apart(this, customer_id)


def _claim(customer_id: int) -> Customer | None:
    """Hold the customer's row; None when somebody else works on them: then it is theirs, or the next pass's."""
    return Customer.objects.select_for_update(skip_locked=True).filter(pk=customer_id).first()


def _settle_apart(this: Pass, customer_id: int) -> None:
    """Contract by contract, so that the one that fails is named and the others go on; balances have their own pass."""
    for subscription in Subscription.objects.due(this.now).filter(customer_id=customer_id).order_by("bills_at", "id"):
        before = this.counts
        try:
            with transaction.atomic():
                customer = _claim(customer_id)
                if customer is None:
                    return
                this.wrote(invoices=_renew_one(customer, subscription, this.now))
                _resolve([subscription.public_id], this.now)
        except Exception as error:  # recorded with its cause; a dead database lets the record fail, and so the pass
            this.counts = before
            this.fail(subscription.public_id, error)
            _park_if_hopeless(subscription, this.now)


def _renew_one(customer: Customer, subscription: Subscription, now: datetime) -> list[Invoice]:
    invoices: list[Invoice] = []
    for _ in range(MOST_PERIODS):
        due = Subscription.objects.due(now).filter(pk=subscription.pk).first()
        if due is None:
            break
        invoices += renew_or_park(customer, due, now=now)
    return invoices


def _park_if_hopeless(subscription: Subscription, now: datetime) -> None:
    in_a_row = open_failures(subscription.public_id).order_by("-id")
    if in_a_row.count() < PATIENCE:
        return
    because = f"Failed {in_a_row.count()} times in a row: {in_a_row[0].cause}"
    with transaction.atomic():
        customer = Customer.objects.select_for_update().get(pk=subscription.customer_id)
        switch.park(Subscription.objects.get(pk=subscription.pk), because=because, now=now)
        _resolve([subscription.public_id], now)  # the parked contract stands for them from now on
        record(
            customer,
            "subscription.parked",
            f"Parked {subscription.public_id}: {because}",
            actor=CLOCKWORK,
            now=now,
            effects={"since": subscription.bills_at},
        )


# Resets --------------------------------------------------------------------------------------------------------------


def resets(*, now: datetime, most: int = MOST) -> Pass:
    """Open the next window of every balance that has ended: those that are alike together, whatever their number, and
    then batch after batch, at most so many customers, until nothing is left."""
    this = Pass(RESETS, now)
    failing: set[int] = set()
    if Balance.objects.due(now).exists():
        _reset_alike(this)
    most += this.done
    while this.done < most and Balance.objects.due(now).exclude(customer_id__in=failing).exists():
        this.begin()
        before = this.counts
        try:
            with transaction.atomic():
                batch = reset_due(now=now, limit=BATCH, skip=failing)
                this.wrote(done=batch.customers, windows=batch.closed)
        except Exception:
            this.counts = before
            found = _reset_apart(this, skip=failing)
            if not found and this.done == before["done"]:
                raise  # not the fault of any one customer
            failing |= found
            continue
        if not batch.customers:
            break
    return this


def _reset_alike(this: Pass) -> None:
    this.begin()
    place: Place | None = START
    while place is not None:
        with transaction.atomic():
            step = reset_many(now=this.now, after=place)
            if step.reset.customers:
                this.wrote(done=step.reset.customers, windows=step.reset.closed)
        place = step.upto


def _reset_apart(this: Pass, *, skip: Collection[int]) -> set[int]:
    """A batch one by one. Returns those who failed."""
    due = Balance.objects.due(this.now).exclude(customer_id__in=skip).order_by("ends_at")
    customers = dict.fromkeys(due.values_list("customer_id", flat=True)[:BATCH])
    return {customer_id for customer_id in customers if not _reset_one(this, customer_id)}


def _reset_one(this: Pass, customer_id: int) -> bool:
    before = this.counts
    try:
        with transaction.atomic():
            customer = _claim(customer_id)
            if customer is not None and (closed := bring_up_to_date(customer, now=this.now)):
                this.wrote(windows=closed)
                _resolve([customer.public_id], this.now)
    except Exception as error:
        this.counts = before
        this.fail(Customer.objects.values_list("public_id", flat=True).get(pk=customer_id), error)
        return False
    return True


# Erasures ------------------------------------------------------------------------------------------------------------


def erasures(*, now: datetime) -> Pass:
    """Erase whom the grace period no longer protects, batch after batch."""
    this = Pass(ERASURES, now)
    try:
        while erased := erase_due(now=now):
            this.wrote(done=erased)
    except Exception:
        for customer in Customer.objects.to_erase(now).order_by("erase_at"):
            _erase_one(this, customer)
    return this


def _erase_one(this: Pass, customer: Customer) -> None:
    before = this.counts
    try:
        with transaction.atomic():
            if erase(customer.pk, now=this.now):
                this.wrote()
                _resolve([customer.public_id], this.now)
    except Exception as error:
        this.counts = before
        this.fail(customer.public_id, error)


# Months of events ----------------------------------------------------------------------------------------------------


def make_months(*, now: datetime) -> Pass:
    """Make the tables of the months ahead. What comes in without one is put aside meanwhile, so nothing is lost."""
    this = Pass(MONTHS, now)
    before = this.counts
    try:
        if made := make_ahead(now=now):
            this.wrote(done=len(made))
        _resolve([MONTHS], now)
    except Exception as error:  # busy tables, mostly: there are three months to try again
        this.counts = before
        this.fail(MONTHS, error)
    return this


def archive(*, now: datetime, keep: int | None, folder: Path) -> Pass:
    """Move months that ended `keep` months ago into files (None: all stay), and whom was erased out of the files."""
    this = Pass(ARCHIVE, now)
    for month in due_months(now=now, keep=keep) if keep else []:
        _one_file(this, f"usage-{month:%Y-%m}", partial(archive_month, month, folder=folder, now=now))
    for row, erased in to_scrub():
        _one_file(this, row.file, partial(scrub, row, erased, folder=folder, now=now))
    return this


def _one_file(this: Pass, name: str, act: Callable[[], object]) -> None:
    before = this.counts
    try:
        with transaction.atomic():
            act()
            this.wrote()
            _resolve([name], this.now)
    except Exception as error:
        this.counts = before
        this.fail(name, error)


# Overrides of many customers at once ----------------------------------------------------------------------------------


def override_batches(*, now: datetime) -> Pass:
    """Go on with batches that nobody has carried out to their end; each counts its own rows as it goes."""
    this = Pass(BATCHES, now)
    for batch in unfinished(now):
        try:
            carry_out(batch, now)
            this.wrote()
            _resolve([batch.public_id], now)
        except Exception as error:
            this.fail(batch.public_id, error)
    return this


def override_ends(*, now: datetime) -> Pass:
    """Tell staff which overrides end soon, each once."""
    this = Pass(ENDS, now)
    try:
        with transaction.atomic():
            if told := tell_ending(now):
                this.wrote(done=told)
        _resolve([ENDS], now)
    except Exception as error:
        this.counts.clear()
        this.fail(ENDS, error)
    return this


def approvals(*, now: datetime) -> Pass:
    """Close requests for approval that nobody decided in time; whoever asked is told."""
    this = Pass(APPROVALS, now)
    try:
        while done := close_approvals(now=now):
            this.wrote(done=done)
        _resolve([APPROVALS], now)
    except Exception as error:
        this.fail(APPROVALS, error)
    return this


# Use that was accepted ------------------------------------------------------------------------------------------------


def accepted(*, now: datetime, most: int = MOST) -> Pass:
    """Count the use that callers did not wait for, every few seconds; so only a pass that fails leaves a record."""
    this, customers = Pass(ACCEPTED, now), waiting(most)
    recent = open_failures().filter(run__task=ACCEPTED, at__gt=now - TRIED_AGAIN_AFTER) if customers else []
    failing = {failure.what for failure in recent}
    for customer_id in customers:
        last = 0
        while (looked_at := _count_accepted(this, customer_id, last, failing)) is not None:
            last = looked_at
    forget(now)
    return this


def _count_accepted(this: Pass, customer_id: int, after: int, failing: Collection[str]) -> int | None:
    """The event that was looked at; None when there is none left for us."""
    try:
        with transaction.atomic():
            row = count_next(customer_id, after=after, skip=failing, now=this.now)
            if row is not None:
                _resolve([row.public_id], this.now)
    except Exception as error:
        row = next_accepted(customer_id, after=after, skip=failing)
        if row is not None:
            this.fail(row.public_id, error)
        return None if row is None else row.pk
    if row is None:
        return None
    this.count([], refused=int(row.error is not None))
    return row.pk


# Work that waits customer by customer ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Queue:
    """One kind of work: whose turn it is, and what is done for one of them in a transaction of their own.

    `settle` holds the customer already. It hands back what it counted, as `Pass.wrote` takes it.
    """

    task: str
    due: Callable[[datetime], CustomerQuerySet]
    settle: Callable[[Customer, datetime], dict[str, Any]]


def _with_drafts(now: datetime) -> CustomerQuerySet:
    drafts = Invoice.objects.to_issue(now).filter(awaits_approval=False)
    return Customer.objects.filter(invoices__in=drafts).distinct()


def _issue(customer: Customer, now: datetime) -> dict[str, Any]:
    return {"invoices": issue_due(now, customer=customer)}


def _with_expired_invoices(now: datetime) -> CustomerQuerySet:
    return Customer.objects.filter(invoices__in=at_rest(Invoice.objects.expired(now))).distinct()


def _expire(customer: Customer, now: datetime) -> dict[str, Any]:
    invoices = at_rest(Invoice.objects.expired(now)).filter(customer=customer).order_by("expires_at", "id")
    return {"expired": sum(expire(invoice, now=now) for invoice in invoices)}


def _dun(customer: Customer, now: datetime) -> dict[str, Any]:
    did = collect_overdue(customer, now=now)
    return {"invoices": did.invoices, "reminders": did.reminders, "given_up": did.given_up}


QUEUES = {
    queue.task: queue
    for queue in (
        Queue(DRAFTS, _with_drafts, _issue),
        Queue(EXPIRIES, _with_expired_invoices, _expire),
        Queue(DUNNING, to_collect, _dun),
    )
}


def work(task: str, *, now: datetime, most: int = MOST) -> Pass:
    """One pass over a queue: each customer once, whatever comes of them."""
    this, queue = Pass(task, now), QUEUES[task]
    seen = last = 0
    while seen < most:
        batch = list(queue.due(now).filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:BATCH])
        if not batch:
            break
        for customer_id in batch[: most - seen]:
            _work_one(this, queue, customer_id)
        seen, last = seen + len(batch), batch[-1]
    return this


def _work_one(this: Pass, queue: Queue, customer_id: int) -> None:
    before = this.counts
    try:
        with transaction.atomic():
            customer = _claim(customer_id)
            if customer is not None and queue.due(this.now).filter(pk=customer_id).exists():
                this.wrote(**queue.settle(customer, this.now))
                _resolve([customer.public_id], this.now, task=queue.task)
    except Exception as error:  # recorded with its cause; the others go on
        this.counts = before
        this.fail(Customer.objects.values_list("public_id", flat=True).get(pk=customer_id), error)


# Failures ------------------------------------------------------------------------------------------------------------


def cause_of(error: Exception) -> str:
    """The kind of failure in a line, without the ids and numbers that would keep equal causes apart."""
    sentence = next(iter(getattr(error, "messages", [])), "") or str(error)
    first = sentence.strip().split("\n")[0]
    first = re.sub(r"\b(cus|sub|in|op|pay|evt|key)_[0-9A-Za-z]{16}\b", r"\1_…", first)
    return f"{type(error).__name__}: {re.sub(r'[0-9]+', '…', first)}"[:300]


def open_failures(what: str | None = None) -> Any:
    found = WorkerFailure.objects.filter(resolved_at=None)
    return found if what is None else found.filter(what=what)


def _resolve(what: Collection[str], now: datetime, *, task: str = "") -> None:
    failures = WorkerFailure.objects.filter(what__in=what, resolved_at=None)
    (failures.filter(run__task=task) if task else failures).update(resolved_at=now)


def retry(failures: Iterable[WorkerFailure], *, actor: Actor, now: datetime) -> list[WorkerRun]:
    """Try again at once what passes could not do: a run for each kind of work, which names who asked."""
    failures = list(failures)
    passes: dict[str, Pass] = {}
    for task, again in AGAIN.items():
        if what := [failure.what for failure in failures if failure.run.task == task]:
            passes[task] = again(what, actor.name, now)
    for task, customer in _customers_of(failures):
        this = passes.setdefault(task, Pass(task, now, asked_by=actor.name))
        if task in QUEUES:
            _work_one(this, QUEUES[task], customer.pk)
        elif task == RESETS:
            _reset_one(this, customer.pk)
        elif task == ERASURES:
            _erase_one(this, customer)
        else:
            _settle(this, customer.pk)
        if not _left_to_do(customer, now):  # then somebody else did it meanwhile
            contracts = customer.subscriptions.filter(parked_at=None).values_list("public_id", flat=True)
            _resolve([customer.public_id, *contracts], now)
    return [run for this in passes.values() if (run := this.finish(now))]


def _customers_of(failures: Iterable[WorkerFailure]) -> list[tuple[str, Customer]]:
    """What to try again for whom, each once: a failure names a customer, or one of their contracts."""
    found: dict[tuple[str, int], Customer] = {}
    for failure in failures:
        named = Q(public_id=failure.what) | Q(subscriptions__public_id=failure.what)
        for customer in Customer.objects.filter(named).distinct():
            found[failure.run.task, customer.pk] = customer
    return [(task, customer) for (task, _), customer in found.items()]


def _left_to_do(customer: Customer, now: datetime) -> bool:
    work = customer.subscriptions.due(now), customer.balances.due(now), Customer.objects.to_erase(now)
    queues = any(queue.due(now).filter(pk=customer.pk).exists() for queue in QUEUES.values())
    return queues or work[0].exists() or work[1].exists() or work[2].filter(pk=customer.pk).exists()


def unpark(subscription: Subscription, *, actor: Actor, now: datetime) -> tuple[Operation, WorkerRun | None]:
    """Let the clockwork near a contract again, and try at once: whoever does has looked at what it is billed."""
    with transaction.atomic():
        customer = Customer.objects.select_for_update().get(pk=subscription.customer_id)
        subscription = Subscription.objects.get(pk=subscription.pk)
        because = subscription.parked_because
        switch.unpark(subscription)
        operation = record(
            customer,
            "subscription.unparked",
            f"Unparked {subscription.public_id}",
            actor=actor,
            now=now,
            inputs={"subscription": subscription.public_id},
            effects={"parkedBecause": because},
        )
    this = Pass(RENEWALS, now, asked_by=actor.name)
    _settle(this, customer.pk, looked_at=[subscription.pk])
    return operation, this.finish(now)
