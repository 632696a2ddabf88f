"""Imports and bulk acts: read, tried without writing, confirmed, carried out row by row, taken back together.

A row is one transaction that also counts itself as done, so a batch may be killed, doubled or late: what is left of it
is its rows that wait. A row that is refused is kept with its reason and holds nobody up. Every act of a row carries the
batch's id into the journal.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.core.exceptions import ValidationError
from django.db import OperationalError, transaction
from django.db.models import Count, Q

from billing_admin.csv_table import BadRows, Line, Problem, read_table
from billing_admin.flows.approvals import MayNoLonger, MayNotDecide, guard_as
from billing_admin.flows.undo import permissions_for, undo, why_not
from billing_admin.holders import has_lost, holder_of, whose
from billing_admin.models import Batch, BatchRow
from billing_admin.row_acts import ROW_ACTS, RowAct, check_cells
from billing_admin.undoing import INVERSES, AsksMore
from catalog.after import after_commit
from catalog.money import format_minor, grouped
from customers.journal import Actor, record, require_reason
from customers.models import Customer, Operation
from entitlements.provision import hold

log = structlog.get_logger("billing_admin.batches")

State, Row = Batch.State, BatchRow.State
UNDER_WAY = (State.TRYING, State.RUNNING, State.TAKING_BACK)
# Nobody is at it; what was done may be taken back. Tried again: the rows that failed wait to be confirmed.
SETTLED = (State.FINISHED, State.STOPPED, State.TRIED)
MOST = 10_000
# So many are tried or done while a person waits; more are left to the workers.
AT_ONCE = 100
CHUNK = 100
# What nobody confirms goes after so long.
FORGOTTEN_AFTER = timedelta(days=7)
# A clock that stands still: whoever waits for few rows has them done within their own instant.
A_MOMENT = timedelta(seconds=1)


class UnknownKind(ValidationError):
    def __init__(self) -> None:
        super().__init__("There is no such import or bulk act.", code="unknown_kind")


class NotInThisState(ValidationError):
    def __init__(self, batch: Batch):
        state = batch.get_state_display().lower()
        super().__init__(f"This cannot be done now: the batch is {state}.", code="batch_not_in_this_state")


class Moved(ValidationError):
    def __init__(self) -> None:
        super().__init__("It would do something else now than what you saw. Try it again.", code="preview_outdated")


class NobodyLeft(ValidationError):
    def __init__(self) -> None:
        super().__init__("No row of it can be done.", code="no_rows")


class MayNot(ValidationError):
    def __init__(self) -> None:
        super().__init__("This row takes a permission that whoever began the batch does not have.", code="not_allowed")


class ImportedBefore(ValidationError):
    def __init__(self, batch: Batch):
        super().__init__(
            f"The same rows were imported before, as {batch.public_id}; say that you want them again.",
            code="imported_before",
        )


class DataErased(ValidationError):
    def __init__(self) -> None:
        super().__init__("The data of this customer is erased.", code="customer_erased")


def find_act(kind: str) -> RowAct:
    act = ROW_ACTS.get(kind)
    if act is None:
        raise UnknownKind
    return act


def needs_of(batch: Batch, state: str) -> tuple[str, ...]:
    """Every permission that the rows in a state take, so that nobody lets others' rows be done or taken back that they
    could not do themselves. One query, and one for each word that makes a difference."""
    act = find_act(batch.kind)
    if not act.needs_follow:
        return act.needs({})
    rows = batch.rows.filter(state=state).exclude(cells={}).order_by()
    words = rows.values_list(f"cells__{act.needs_follow}", flat=True).distinct()
    return tuple(sorted({permission for word in words for permission in act.needs({act.needs_follow: word})}))


def needs_back(batch: Batch) -> tuple[str, ...]:
    """Those that taking its rows back takes: of the acts themselves, and of what takes them back."""
    verbs = Operation.objects.filter(batch=batch.public_id).order_by().values_list("verb", flat=True).distinct()
    found = (INVERSES.get(verb) for verb in verbs)
    back = {word for inverse in found if inverse and not isinstance(inverse, AsksMore) for word in inverse.permissions}
    return tuple(sorted({*needs_of(batch, Row.DONE), *back}))


# Reading --------------------------------------------------------------------------------------------------------------


def digest_of(kind: str, text: str) -> str:
    """The same for the same rows, whatever their line ends."""
    lines = [line.rstrip() for line in text.lstrip("\ufeff").splitlines()]
    return hashlib.sha256("\n".join([kind, *lines]).strip().encode()).hexdigest()


def same_before(kind: str, digest: str) -> list[Batch]:
    """Batches of the same rows that somebody confirmed, the newest first."""
    return list(Batch.objects.filter(kind=kind, digest=digest).exclude(confirmed_at=None).order_by("-id")[:5])


def read_lines(act: RowAct, text: str) -> list[Line]:
    """Raises `BadRows` with every line and column that is wrong in itself."""
    names = [column.name for column in act.columns]
    lines, problems = read_table(text, names, [c.name for c in act.columns if c.needed], most=MOST)
    problems = [*problems, *check_cells(act, lines)]
    if problems:
        raise BadRows(problems)
    return lines


def begin_file(kind: str, text: str, *, name: str, reason: str, user: Any, now: datetime) -> Batch:
    """Keep the rows of a file, to be tried. Raises `BadRows`, `ReasonRequired`, `UnknownKind`."""
    act = find_act(kind)
    reason = require_reason(reason, "an import")
    lines = read_lines(act, text)
    digest = digest_of(kind, text)
    return _begin(act, lines, Batch.Source.FILE, title=name, digest=digest, reason=reason, user=user, now=now)


def begin_rows(
    kind: str,
    rows: Sequence[Mapping[str, str]],
    *,
    title: str,
    reason: str,
    user: Any,
    now: datetime,
    again: bool = False,
) -> Batch:
    """Keep rows as programs have them, cells by column, to be tried; the first is line 2, as below a heading.

    Raises `BadRows`, `ReasonRequired`, `UnknownKind`, and `ImportedBefore` unless they are wanted `again`.
    """
    act = find_act(kind)
    reason = require_reason(reason, "an import")
    if not rows or len(rows) > MOST:
        raise BadRows([Problem(2, act.columns[0].name, f"Send 1 to {MOST:,} rows.")])
    names = [column.name for column in act.columns]
    lines = [
        Line(number, dict.fromkeys(names, "") | {name: cell.strip() for name, cell in row.items()})
        for number, row in enumerate(rows, start=2)
    ]
    unknown = f"This column is not known. Use {', '.join(names)}."
    problems = [Problem(line.number, name, unknown) for line in lines for name in line.cells if name not in names]
    problems = [*problems, *check_cells(act, lines)]
    if problems:
        raise BadRows(problems)
    digest = digest_of(kind, json.dumps([dict(line.cells) for line in lines], sort_keys=True))
    refuse_again(kind, digest, again=again)
    return _begin(act, lines, Batch.Source.FILE, title=title, digest=digest, reason=reason, user=user, now=now)


def refuse_again(kind: str, digest: str, *, again: bool) -> None:
    """Raises `ImportedBefore` for rows that somebody confirmed already, unless they are wanted again."""
    if not again and (same := same_before(kind, digest)):
        raise ImportedBefore(same[0])


def begin_chosen(
    kind: str,
    customer_ids: Sequence[str],
    said: Mapping[str, str],
    *,
    title: str,
    reason: str,
    user: Any,
    now: datetime,
) -> Batch:
    """The same act for customers by their ids, as they are now; `said` are the other cells.

    Raises `BadRows` (of line 2: every row says the same), `ReasonRequired`, `UnknownKind`.
    """
    act = find_act(kind)
    reason = require_reason(reason, "an act on many customers")
    if not act.about_customers or not customer_ids or len(customer_ids) > MOST:
        raise BadRows([Problem(2, "customer_id", f"Choose 1 to {MOST:,} customers.")])
    empty = {column.name: "" for column in act.columns}
    if unknown := [name for name in said if name not in empty]:
        raise BadRows([Problem(2, name, f"This column is not known. Use {', '.join(empty)}.") for name in unknown])
    lines = [
        Line(number, {**empty, **said, "customer_id": customer_id})
        for number, customer_id in enumerate(dict.fromkeys(customer_ids), start=2)
    ]
    if problems := check_cells(act, lines[:1]):
        raise BadRows(problems)
    text = json.dumps([dict(line.cells) for line in lines], sort_keys=True)
    digest = digest_of(kind, text)
    return _begin(act, lines, Batch.Source.CHOSEN, title=title, digest=digest, reason=reason, user=user, now=now)


@transaction.atomic
def _begin(act: RowAct, lines: Sequence[Line], source: str, **kept: Any) -> Batch:
    user, now = kept.pop("user"), kept.pop("now")
    batch = Batch.objects.create(
        kind=act.key,
        source=source,
        total=len(lines),
        **whose(user),
        created_by=user.get_username(),
        created_at=now,
        **{**kept, "title": kept["title"][:300]},
    )
    rows = (BatchRow(batch=batch, line=line.number, cells=dict(line.cells)) for line in lines)
    BatchRow.objects.bulk_create(rows, batch_size=1_000)
    return batch


# Going on -------------------------------------------------------------------------------------------------------------


def begin_trying(batch: Batch, now: datetime) -> Batch:
    """Few rows are tried while somebody waits; more are a worker's."""
    if batch.total <= AT_ONCE:
        step(batch, now)
    if batch.state in UNDER_WAY:
        hand_over(batch)
    return batch


def go_on(batch: Batch, *, clock: Callable[[], datetime], until: datetime) -> int:
    """Try, carry out or take back what is left, until an instant. Returns how many rows it came to.

    Safe to run twice, at once, and to kill.
    """
    done = 0
    while batch.state in UNDER_WAY and (now := clock()) < until:
        done += step(batch, now)
    return done


def step(batch: Batch, now: datetime) -> int:
    """A chunk of tries, or one row to do or to take back; when none is left, the batch goes on to its next state."""
    match batch.state:
        case State.TRYING:
            return _try_some(batch, now)
        case State.RUNNING:
            return _do_next(batch, now)
        case State.TAKING_BACK:
            return _take_back_next(batch, now)
    return 0


def _locked(batch: Batch, state: str) -> bool:
    """Hold the batch, so that two who go on with it take turns; refreshes it. False when it has gone on already."""
    held = Batch.objects.select_for_update(no_key=True).get(pk=batch.pk)
    batch.state, batch.fingerprint = held.state, held.fingerprint
    batch.approval, batch.approved_by = held.approval, held.approved_by
    batch.take_back_reason, batch.taken_back_by = held.take_back_reason, held.taken_back_by
    return bool(held.state == state)


def _try_some(batch: Batch, now: datetime) -> int:
    act, user = find_act(batch.kind), holder_of(batch)
    # Looked at before the batch is held: previews may settle what is overdue, which takes the customers' rows.
    rows = list(batch.rows.filter(state=Row.READ).order_by("line")[:CHUNK])
    customers = customers_of(rows) if act.about_customers else {}
    for row in rows:
        _look(row, act, customers, user, now)
    with transaction.atomic():
        if not _locked(batch, State.TRYING):
            return 0
        still = set(batch.rows.filter(pk__in=[row.pk for row in rows], state=Row.READ).values_list("pk", flat=True))
        changed = [row for row in rows if row.pk in still]
        BatchRow.objects.bulk_update(
            changed, ["customer", "state", "before", "after", "facts", "code", "column", "problem"]
        )
        if not batch.rows.filter(state=Row.READ).exists():
            batch.state, batch.fingerprint = State.TRIED, _fingerprint(batch)
            batch.save(update_fields=["state", "fingerprint"])
    return len(changed)


def customers_of(rows: Sequence[BatchRow]) -> dict[str, Customer]:
    """By the id that a row names; the application's own wins over one of ours that reads the same. One query."""
    named = {row.cells["customer_id"] for row in rows if row.cells}
    found = list(Customer.objects.open().filter(Q(customer_id__in=named) | Q(public_id__in=named)))
    return {c.public_id: c for c in found} | {c.customer_id: c for c in found}


def _look(row: BatchRow, act: RowAct, customers: Mapping[str, Customer], user: Any, now: datetime) -> None:
    """Write into the row what it would do, or why it would be refused."""
    row.before = row.after = row.code = row.column = row.problem = ""
    row.facts = {}
    try:
        if not row.cells:
            raise DataErased
        row.customer = customers.get(row.cells["customer_id"]) if act.about_customers else None
        if act.about_customers and row.customer is None:
            raise _no_customer(row)
        if user is None or not user.has_perms(act.needs(row.cells)):
            raise MayNot
        look = act.look(row.customer, row.cells, now)
    except ValidationError as error:
        _refuse(row, act, error, Row.LEFT_OUT)
        return
    row.state, row.before, row.after = Row.READY, look.before[:300], look.after[:300]
    row.facts = json.loads(json.dumps(dict(look.facts), default=str))


def _no_customer(row: BatchRow) -> ValidationError:
    error = ValidationError(f"There is no customer {row.cells['customer_id']!r}.", code="customer_not_found")
    error.field = "customer_id"  # type: ignore[attr-defined]  # where refusals name their field
    return error


def _refuse(row: BatchRow, act: RowAct, error: ValidationError, state: str) -> None:
    column = getattr(error, "field", "") or ""
    row.state, row.problem = state, " ".join(error.messages)[:500]
    row.code = (getattr(error, "code", None) or "invalid")[:60]
    row.column = column if column in {c.name for c in act.columns} else "reason" * (row.code == "reason_required")


def _fingerprint(batch: Batch) -> str:
    """Of everything that was looked at: another word when a row would do something else."""
    seen = batch.rows.filter(state__in=(Row.READY, Row.LEFT_OUT)).order_by("line")
    facts = list(seen.values_list("line", "state", "customer_id", "before", "after", "facts", "problem"))
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:32]


def counts(batch: Batch) -> Counter[str]:
    """How many rows are in which state; one query."""
    rows = batch.rows.order_by().values_list("state").annotate(n=Count("id"))
    return Counter(dict(rows.values_list("state", "n")))


def counts_of(found: Sequence[Batch]) -> dict[int, Counter[str]]:
    """The same for several, by their keys; one query."""
    rows = BatchRow.objects.filter(batch__in=found).order_by().values_list("batch", "state").annotate(n=Count("id"))
    number: dict[int, Counter[str]] = {batch.pk: Counter() for batch in found}
    for key, state, n in rows.values_list("batch", "state", "n"):
        number[key][state] = n
    return number


def totals(batch: Batch) -> tuple[Mapping[str, int], Mapping[str, Decimal]]:
    """What the rows that can be done come to: money due at once, in minor units by currency, and units by feature; one
    query."""
    due: Counter[str] = Counter()
    units: dict[str, Decimal] = {}
    for facts, cells in batch.rows.filter(state=Row.READY).values_list("facts", "cells").iterator():
        if facts.get("currency"):
            due[facts["currency"]] += facts.get("total", 0)
        if "units" in facts:
            slug = cells.get("feature", "")
            units[slug] = units.get(slug, Decimal(0)) + Decimal(facts["units"])
    return due, units


def sums(batch: Batch) -> list[tuple[str, str]]:
    """The totals in words."""
    due, units = totals(batch)
    return [
        *(("due", format_minor(total, currency)) for currency, total in sorted(due.items())),
        *((f"units of {slug}", grouped(total)) for slug, total in sorted(units.items())),
    ]


# Confirming -----------------------------------------------------------------------------------------------------------


@transaction.atomic
def confirm(batch: Batch, seen: str, *, actor: Actor, now: datetime) -> Operation:
    """Let the rows that can be done be done, as they were looked at. Raises `Moved`, `NobodyLeft`, `NotInThisState`,
    `MayNotDecide` for whoever approves what they began, and `ApprovalNeeded` where a rule wants a second person."""
    if not _locked(batch, State.TRIED):
        raise NotInThisState(batch)
    if seen != batch.fingerprint:
        raise Moved
    ready = batch.rows.filter(state=Row.READY).count()
    if not ready:
        raise NobodyLeft
    _refuse_own_approval(batch, actor)
    guard_as("bulk.started", actor=actor, now=now, reason=batch.reason, batch=batch)
    batch.state, batch.confirmed_at = State.RUNNING, now
    batch.approval, batch.approved_by = actor.approval, actor.approved_by
    batch.save(update_fields=["state", "confirmed_at", "approval", "approved_by"])
    act = find_act(batch.kind)
    operation = record(
        None,
        "bulk.started",
        f"{act.one}: {ready:,} {'row' if ready == 1 else 'rows'} ({batch.title})",
        actor=actor,
        now=now,
        reason=batch.reason,
        inputs={"batch": batch.public_id, "kind": batch.kind, "rows": ready},
    )
    hand_over(batch)
    return operation


def _refuse_own_approval(batch: Batch, actor: Actor) -> None:
    """Whoever began it, also through a key that they made, is no second person when somebody else confirms it."""
    own = {batch.created_by, *([batch.key.created_by] if batch.key else [])}
    if actor.approved_by and actor.approved_by in own:
        raise MayNotDecide("You began this yourself; somebody else has to decide it.")


def hand_over(batch: Batch) -> None:
    """Let a worker go on with it as soon as it is written. Should the queue be away, the next pass finds it."""
    from billing_admin.tasks import carry_out_rows_of  # Celery takes memory that web processes need only here

    after_commit(carry_out_rows_of.apply_async, [batch.public_id], retry=False)


@transaction.atomic
def stop(batch: Batch, *, actor: Actor, now: datetime) -> None:
    """No row that waits is done until somebody goes on. Raises `NotInThisState`."""
    if not _locked(batch, State.RUNNING):
        raise NotInThisState(batch)
    batch.state = State.STOPPED
    batch.save(update_fields=["state"])
    _say(batch, "bulk.stopped", f"Stopped {batch.public_id}", actor, now)


@transaction.atomic
def resume(batch: Batch, *, actor: Actor, now: datetime) -> None:
    """Go on with what was stopped. Raises `NotInThisState`."""
    if not _locked(batch, State.STOPPED):
        raise NotInThisState(batch)
    batch.state = State.RUNNING
    batch.save(update_fields=["state"])
    _say(batch, "bulk.resumed", f"Went on with {batch.public_id}", actor, now)
    hand_over(batch)


@transaction.atomic
def retry_failed(batch: Batch, *, actor: Actor, now: datetime) -> int:
    """Try the rows again that failed, and only those; they are confirmed anew. Returns how many."""
    if not _locked(batch, State.FINISHED):
        raise NotInThisState(batch)
    failed = batch.rows.filter(state=Row.FAILED).update(state=Row.READ)
    if not failed:
        raise NobodyLeft
    batch.state, batch.finished_at = State.TRYING, None
    batch.save(update_fields=["state", "finished_at"])
    _say(batch, "bulk.tried_again", f"Tried {failed:,} failed rows of {batch.public_id} again", actor, now)
    return failed


def _say(batch: Batch, verb: str, summary: str, actor: Actor, now: datetime, reason: str = "") -> Operation:
    return record(None, verb, summary, actor=actor, now=now, reason=reason, inputs={"batch": batch.public_id})


# Doing ----------------------------------------------------------------------------------------------------------------


def _do_next(batch: Batch, now: datetime) -> int:
    """The next row that waits, in a transaction of its own; or the end."""
    with transaction.atomic():
        if not _locked(batch, State.RUNNING):
            return 0
        row = batch.rows.filter(state=Row.READY).select_related("customer").order_by("line").first()
        if row is None:
            batch.state, batch.finished_at = State.FINISHED, now
            batch.save(update_fields=["state", "finished_at"])
            return 0
        act = find_act(batch.kind)
        try:
            with transaction.atomic():
                _do(row, batch, act, now)
        except OperationalError:
            raise  # not the row's fault: it is tried again
        except ValidationError as error:
            _refuse(row, act, error, Row.FAILED)
        except Exception:
            log.exception("a row of a batch failed", batch=batch.public_id, line=row.line)
            row.state, row.code, row.problem = Row.FAILED, "internal_error", "Something went wrong on our side."
        row.done_at = now
        row.save()
    return 1


def _do(row: BatchRow, batch: Batch, act: RowAct, now: datetime) -> None:
    if not row.cells:
        raise DataErased
    holder = holder_of(batch)
    if holder is None or not holder.is_active or not holder.has_perms(act.needs(row.cells)):
        raise MayNot
    if row.customer is not None:
        hold(row.customer, alone=True)
        row.customer.refresh_from_db()
    look = act.look(row.customer, row.cells, now)
    if json.loads(json.dumps(dict(look.facts), default=str)) != row.facts:
        raise Moved
    actor = actor_of(batch)
    before = Operation.objects.filter(batch=batch.public_id).order_by("-id").values_list("pk", flat=True).first() or 0
    reason = row.cells.get("reason") or batch.reason
    row.customer = act.do(row.customer, row.cells, reason=reason, actor=actor, now=now)
    made = Operation.objects.filter(batch=batch.public_id, pk__gt=before).order_by("id")
    row.operations = list(made.values_list("public_id", flat=True))
    row.state, row.code, row.column, row.problem = Row.DONE, "", "", ""


def actor_of(batch: Batch) -> Actor:
    """Whoever began it, with who approved it; each of its acts says which batch it was a row of."""
    return Actor(batch.created_by, batch.user_id, batch.approval, batch.approved_by, batch=batch.public_id)


# Taking back ----------------------------------------------------------------------------------------------------------


def can_be_taken_back(batch: Batch) -> bool:
    return batch.state in SETTLED and batch.rows.filter(state=Row.DONE).exists()


@transaction.atomic
def take_back(batch: Batch, *, reason: str, actor: Actor, now: datetime) -> Operation:
    """Take every row back that was done, the last first; rows that wait are never done. What cannot be taken back is
    kept, with the reason. Raises `ReasonRequired`, `NotInThisState`."""
    reason = require_reason(reason, "taking a batch back")
    _locked(batch, State.FINISHED)
    if not can_be_taken_back(batch):
        raise NotInThisState(batch)
    batch.state, batch.taken_back_by, batch.take_back_reason = State.TAKING_BACK, actor.name, reason
    batch.finished_at = None
    batch.save(update_fields=["state", "taken_back_by", "take_back_reason", "finished_at"])
    operation = _say(batch, "bulk.taken_back", f"Took back {batch.public_id} ({batch.title})", actor, now, reason)
    hand_over(batch)
    return operation


def _take_back_next(batch: Batch, now: datetime) -> int:
    with transaction.atomic():
        if not _locked(batch, State.TAKING_BACK):
            return 0
        row = batch.rows.filter(state=Row.DONE).select_related("customer").order_by("-line").first()
        if row is None:
            batch.state, batch.finished_at = State.TAKEN_BACK, now
            batch.save(update_fields=["state", "finished_at"])
            return 0
        try:
            with transaction.atomic():
                _take_back(row, batch, now)
            row.state, row.problem = Row.TAKEN_BACK, ""
        except OperationalError:
            raise
        except ValidationError as error:
            row.state, row.problem = Row.KEPT, " ".join(error.messages)[:500]
        except Exception:
            log.exception("a row of a batch was not taken back", batch=batch.public_id, line=row.line)
            row.state, row.problem = Row.KEPT, "Something went wrong on our side."
        row.done_at = now
        row.save(update_fields=["state", "problem", "done_at"])
    return 1


def _take_back(row: BatchRow, batch: Batch, now: datetime) -> None:
    """All acts of a row or none, with the rights of whoever takes the batch back as they are now. One that somebody
    took back already is back."""
    actor = Actor(batch.taken_back_by, batch=batch.public_id)
    for public_id in reversed(row.operations):
        operation = Operation.objects.select_related("customer", "reversed_by").get(public_id=public_id)
        if getattr(operation, "reversed_by", None) is None:
            if has_lost(actor.name, permissions_for(operation)):
                raise MayNoLonger(actor.name)
            undo(operation, reason=batch.take_back_reason, actor=actor, now=now)


def why_not_back(row: BatchRow, now: datetime) -> str:
    """Why a row can no longer be taken back, in a sentence; empty when it can."""
    for operation in Operation.objects.filter(public_id__in=row.operations).select_related("customer", "reversed_by"):
        if getattr(operation, "reversed_by", None) is None and (why := why_not(operation, now)):
            return why
    return ""


def drop_unconfirmed(*, now: datetime) -> int:
    """Forget what nobody confirmed. Returns how many."""
    old = Batch.objects.filter(
        confirmed_at=None, state__in=(State.TRYING, State.TRIED), created_at__lte=now - FORGOTTEN_AFTER
    )
    found = old.count()
    old.delete()
    return found
