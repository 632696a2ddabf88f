"""Overrides of many customers at once: read from CSV, tried without writing, given row by row, taken back together.

Each row is a transaction of its own that also counts itself as done, so a batch may be killed, doubled or late: what
is left of it is a query. A row that is refused is listed with its line and holds nobody up.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

import structlog
from django.core.exceptions import ValidationError
from django.db import OperationalError, transaction
from django.db.models import Exists, OuterRef, Q

from billing_admin.csv_table import BadRows, Line, Problem, read_table, to_instant
from billing_admin.flows.approvals import MayNoLonger, guard_as
from billing_admin.flows.override_outlook import gives
from billing_admin.flows.overrides import give_override
from billing_admin.holders import has_lost
from billing_admin.typed import to_number
from catalog.models import Feature
from catalog.money import plain
from catalog.terms import METERED
from customers.contracts import Contract
from customers.holdings import contracts_of_all
from customers.journal import Actor, record, require_reason
from customers.models import Customer, Operation, Subscription
from entitlements.access import Access, decide
from entitlements.allowances import sources_of
from entitlements.models import Balance, FeatureOverride, OverrideBatch
from entitlements.override import BadOverride, Overlaps, refuse_bad_dates, revoke, value_of
from entitlements.readings import override_of, pool_under

log = structlog.get_logger("billing_admin.override_batch")

MOST = 1_000
BULK, PERMANENTLY = "entitlements.bulk_override", "entitlements.add_featureoverride"
COLUMNS = ("customer_id", "feature", "value", "from", "until", "reason", "subscription", "supersede")
NEEDED = ("customer_id", "feature", "value", "until")
PERMANENT = "permanent"
ON, OFF = ("on", "true", "yes"), ("off", "false", "no", "no access", "no_access", "none")

Value = bool | Decimal | str


@dataclass(frozen=True, slots=True)
class Row:
    """One override as it was asked for. `until` None: permanent; `starts` None: as soon as it is given."""

    line: int
    customer_id: str
    feature: str
    value: Value
    until: datetime | None
    starts: datetime | None = None
    reason: str = ""
    subscription: str = ""
    supersede: bool = False

    def to_json(self) -> dict[str, Any]:
        value = {"number": plain(self.value)} if isinstance(self.value, Decimal) else self.value
        return {
            "line": self.line,
            "customer_id": self.customer_id,
            "feature": self.feature,
            "value": value,
            "until": self.until.isoformat() if self.until else None,
            "starts": self.starts.isoformat() if self.starts else None,
            "reason": self.reason,
            "subscription": self.subscription,
            "supersede": self.supersede,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        value, dates = kept["value"], {name: kept[name] for name in ("until", "starts")}
        read = {name: datetime.fromisoformat(text) if text else None for name, text in dates.items()}
        return cls(**{**kept, **read, "value": Decimal(value["number"]) if isinstance(value, dict) else value})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row would do. `before` and `after` are the access in words, at the instant at which it begins.

    `problem` says why it would be refused, `column` where; then there is no `after`.
    """

    row: Row
    customer: Customer | None
    before: str
    after: str
    problem: str = ""
    column: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a row: `waiting`, `given` (with the override), `refused` (with code and why), or `given up`."""

    row: Row
    state: str
    override: FeatureOverride | None = None
    code: str = ""
    why: str = ""
    column: str = ""


# Reading --------------------------------------------------------------------------------------------------------------


def read_rows(text: str) -> list[Row]:
    """The rows of a CSV text with a heading; `;` and tabs separate, too. Raises `BadRows`.

    Columns: customer_id, feature, value, until (a date, or `permanent`), and if wanted from, reason, subscription and
    supersede (`yes`). Dates are ISO 8601; those without a time begin at midnight UTC.
    """
    lines, problems = read_table(text, COLUMNS, NEEDED, most=MOST)
    rows = [_row(line, problems) for line in lines]
    if problems:
        raise BadRows(problems)
    return [row for row in rows if row is not None]


def _row(read_line: Line, problems: list[Problem]) -> Row | None:
    """The row of a line; None with its problems appended."""
    known, line, cell = len(problems), read_line.number, read_line.cells
    problems += [Problem(line, name, "This cell is empty.") for name in NEEDED[:3] if not cell[name]]
    if not cell["until"]:
        problems.append(Problem(line, "until", f"Write when it ends, or `{PERMANENT}`."))
    read = {}
    for name in ("from", "until"):
        try:
            read[name] = None if cell[name].lower() in ("", PERMANENT) else to_instant(cell[name])
        except ValueError:
            problems.append(Problem(line, name, f"“{cell[name]}” is not a date like 2026-03-01 or 2026-03-01T12:00Z."))
    if cell["supersede"].lower() not in ("", *ON, *OFF):
        problems.append(Problem(line, "supersede", "Write yes, or nothing."))
    if len(problems) > known:
        return None
    return Row(
        line=line,
        customer_id=cell["customer_id"],
        feature=cell["feature"],
        value=cell["value"],
        until=read["until"],
        starts=read["from"],
        reason=cell["reason"],
        subscription=cell["subscription"],
        supersede=cell["supersede"].lower() in ON,
    )


def typed(feature: Feature, value: Value) -> Value:
    """A value as people write it, as `value_of` takes it: `on`, `10,000`, `unlimited`, `no access`, a text.

    Raises `BadOverride` for a text that is no number where one is needed.
    """
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word in OFF and (feature.type != "static" or word in ("no access", "no_access")):
        return False
    if feature.type == "boolean" and word in ON:
        return True
    if feature.type != METERED or word == "unlimited":
        return word if word == "unlimited" else value.strip()
    try:
        number = to_number(value)
    except ValueError:
        number = None
    if number is None:
        why = f"{feature.name} takes a number of units, unlimited or no access."
        raise BadOverride("value", why, "wrong_value_type")
    return number


# Trying ---------------------------------------------------------------------------------------------------------------


@dataclass
class _World:
    """What the rows need to know, read at once for all of them; overrides grow with the rows that would be given."""

    now: datetime
    customers: dict[str, Customer]
    features: dict[str, Feature]
    subscriptions: dict[str, Subscription]
    overrides: dict[int, list[FeatureOverride]]
    balances: dict[tuple[int, int], list[Balance]]
    contracts: dict[datetime, dict[int, list[Contract]]] = field(default_factory=dict)

    def contracts_of(self, customer: Customer, at: datetime) -> list[Contract]:
        if at not in self.contracts:
            self.contracts[at] = contracts_of_all(list({c.pk: c for c in self.customers.values()}.values()), at)
        return self.contracts[at][customer.pk]

    def access(self, customer: Customer, feature: Feature, at: datetime) -> Access:
        slug, contracts = feature.slug, self.contracts_of(customer, at)
        rows = self.balances.get((customer.pk, feature.pk), []) if feature.type == METERED else []
        own = [override_of(row) for row in self.overrides.get(customer.pk, []) if row.feature_id == feature.pk]
        there = pool_under(own, contracts, rows, at, slug)
        sources, replaced = sources_of(contracts, slug), there.overrides(slug)
        return decide(feature.terms(), sources, there.of(slug), holds_plan=bool(contracts), replaced=replaced)


def dry_run(rows: Sequence[Row], now: datetime) -> list[Outcome]:
    """What each row would do after those before it. Writes nothing; reads anew for each instant at which rows begin."""
    world = _read_world(rows, now)
    return [_tried(row, world) for row in rows]


def _read_world(rows: Sequence[Row], now: datetime) -> _World:
    named = {row.customer_id for row in rows}
    found = Customer.objects.open().filter(Q(customer_id__in=named) | Q(public_id__in=named))
    # An id of the caller's own wins over one of ours that reads the same.
    customers = {customer.public_id: customer for customer in found}
    customers |= {customer.customer_id: customer for customer in customers.values()}
    ids = {customer.pk for customer in customers.values()}
    features = {f.slug: f for f in Feature.objects.filter(slug__in={row.feature for row in rows})}
    wanted = {row.subscription for row in rows if row.subscription}
    subscriptions = Subscription.objects.filter(public_id__in=wanted) if wanted else []
    balances: dict[tuple[int, int], list[Balance]] = {}
    metered = [f.pk for f in features.values() if f.type == METERED]
    open_rows = Balance.objects.filter(customer__in=ids, feature__in=metered, closed_at=None)
    for balance in open_rows.select_related("grant").order_by("id"):
        balances.setdefault((balance.customer_id, balance.feature_id), []).append(balance)
    ends = [b.ends_at for own in balances.values() for b in own if b.ends_at is not None]
    overrides: dict[int, list[FeatureOverride]] = {}
    standing = FeatureOverride.objects.standing(min([now, *ends])).filter(customer__in=ids)
    for row in standing.filter(feature__in=[f.pk for f in features.values()]).select_related("feature"):
        overrides.setdefault(row.customer_id, []).append(row)
    return _World(now, customers, features, {s.public_id: s for s in subscriptions}, overrides, balances)


def _tried(row: Row, world: _World) -> Outcome:
    customer, feature = world.customers.get(row.customer_id), world.features.get(row.feature)
    if customer is None or feature is None:
        return _refused(row, customer, "", _unknown(row, customer))
    at = max(world.now, row.starts or world.now)
    before = gives(world.access(customer, feature, at))
    try:
        given = _imagined(row, customer, feature, world)
    except ValidationError as error:
        return _refused(row, customer, before, error)
    world.overrides.setdefault(customer.pk, []).append(given)
    return Outcome(row, customer, before, gives(world.access(customer, feature, at)))


def _refused(row: Row, customer: Customer | None, before: str, error: ValidationError) -> Outcome:
    return Outcome(row, customer, before, "", error.messages[0], column_of(error), getattr(error, "code", ""))


def _unknown(row: Row, customer: Customer | None) -> BadOverride:
    if customer is None:
        return BadOverride("customer_id", f"There is no customer {row.customer_id!r}.", "customer_not_found")
    return BadOverride("feature", f"There is no feature {row.feature!r}.", "feature_not_found")


def _imagined(row: Row, customer: Customer, feature: Feature, world: _World) -> FeatureOverride:
    """The override of a row, not written; those it supersedes end in the world. Raises what `override` raises."""
    asked = value_of(feature, typed(feature, row.value))
    starts = row.starts or world.now
    refuse_bad_dates(starts, row.until, now=world.now)
    subscription = _subscription(row, customer, world.subscriptions)
    given = FeatureOverride(
        pk=-row.line,
        customer=customer,
        subscription=subscription,
        feature=feature,
        on=asked.on,
        units=asked.units,
        text=asked.text,
        unlimited=asked.unlimited,
        reason=row.reason,
        effective_from=starts,
        effective_until=row.until,
        stops_at=row.until,
    )
    for other in _met(given, world.overrides.get(customer.pk, [])):
        if not row.supersede:
            raise Overlaps(other)
        other.stops_at = max(other.effective_from, starts)
    return given


def _met(given: FeatureOverride, others: Iterable[FeatureOverride]) -> list[FeatureOverride]:
    """Those of the same level and feature that hold at some time in which this one does."""
    return [
        other
        for other in others
        if (other.feature_id, other.subscription_id) == (given.feature_id, given.subscription_id)
        and (other.stops_at is None or other.stops_at > max(given.effective_from, other.effective_from))
        and (given.effective_until is None or other.effective_from < given.effective_until)
    ]


def _subscription(row: Row, customer: Customer, known: Mapping[str, Subscription]) -> Subscription | None:
    if not row.subscription:
        return None
    found = known.get(row.subscription)
    if found is None or found.customer_id != customer.pk or found.ended_at is not None:
        raise BadOverride("subscription", "This subscription is not a live one of this customer.", "not_theirs")
    return found


def column_of(error: ValidationError) -> str:
    """Where in a row a refusal belongs."""
    if isinstance(error, Overlaps):
        return "from"
    named: str = getattr(error, "field", "")
    return named if named in COLUMNS else "reason" if getattr(error, "code", "") == "reason_required" else ""


# Giving ---------------------------------------------------------------------------------------------------------------


def lasting(rows: Sequence[Row], now: datetime) -> set[int]:
    """The lines that give something permanent, or may end what was given so: they take more than concessions."""
    named = {row.customer_id for row in rows if row.supersede}
    met: set[tuple[str, str]] = set()
    if named:
        whose = Q(customer__customer_id__in=named) | Q(customer__public_id__in=named)
        standing = FeatureOverride.objects.standing(now).filter(whose, effective_until=None)
        for own, public_id, slug in standing.values_list(
            "customer__customer_id", "customer__public_id", "feature__slug"
        ):
            met |= {(own, slug), (public_id, slug)}
    return {row.line for row in rows if row.until is None or (row.supersede and (row.customer_id, row.feature) in met)}


@transaction.atomic
def begin(rows: Sequence[Row], reason: str, actor: Actor, now: datetime) -> OverrideBatch:
    """Keep what was confirmed, as a batch that is still to be carried out: by `carry_out`, or the task of that name.

    The batch's reason is that of every row without one. Raises `ReasonRequired`, `BadRows` for none or too many, and
    `ApprovalNeeded`.
    """
    reason = require_reason(reason, "overrides of many customers")
    if not rows or len(rows) > MOST:
        raise BadRows([Problem(1, "customer_id", f"A batch has 1 to {MOST:,} rows.")])
    guard_as("override_batch.begun", actor=actor, now=now, reason=reason, rows=list(rows))
    batch = OverrideBatch.objects.create(
        reason=reason,
        created_by=actor.name,
        created_at=now,
        total=len(rows),
        rows=[row.to_json() for row in rows],
    )
    record(
        None,
        "override_batch.begun",
        f"Overrides of {len(rows):,} {'row' if len(rows) == 1 else 'rows'} as batch {batch.public_id}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"batch": batch.public_id, "features": sorted({row.feature for row in rows})},
    )
    return batch


def carry_out(
    batch: OverrideBatch, now: datetime, on_progress: Callable[[OverrideBatch], None] | None = None
) -> OverrideBatch:
    """Give what is left of a batch, row by row; of a revoked one, take back what still stands.

    Safe to run twice, at once, and to kill: a row is given and counted in one transaction.
    """
    rows, actor = [Row.from_json(kept) for kept in batch.rows], _actor_of(batch)
    while (batch := _next(batch, rows, actor, now)).finished_at is None:
        if on_progress:
            on_progress(batch)
    if batch.revoked_at is not None:
        _take_back(batch, now)
    if on_progress:
        on_progress(batch)
    return batch


@transaction.atomic
def _next(batch: OverrideBatch, rows: Sequence[Row], actor: Actor, now: datetime) -> OverrideBatch:
    """Give the next row, or finish. The batch is locked first, so two who carry it out take turns."""
    batch = OverrideBatch.objects.select_for_update(no_key=True).defer("rows").get(pk=batch.pk)
    if batch.finished_at is not None:
        return batch
    if batch.done < len(rows):
        row = rows[batch.done]
        try:
            with transaction.atomic():
                _give(row, batch, actor, now)
        except OperationalError:
            raise  # not the row's fault: it is tried again
        except Exception as error:
            batch.failures.append(_failure(row, error))
        batch.done += 1
    if batch.done >= len(rows):
        batch.finished_at = now
    batch.save(update_fields=["done", "failures", "finished_at"])
    return batch


def _give(row: Row, batch: OverrideBatch, actor: Actor, now: datetime) -> FeatureOverride:
    """With the rights of whoever began the batch as they are now: a key that was revoked gives nothing more."""
    if has_lost(actor.name, (BULK, PERMANENTLY) if lasting([row], now) else (BULK,)):
        raise MayNoLonger(actor.name)
    found = Customer.objects.open().filter(Q(customer_id=row.customer_id) | Q(public_id=row.customer_id))
    customer = min(found, key=lambda customer: customer.customer_id != row.customer_id, default=None)
    feature = Feature.objects.filter(slug=row.feature).first()
    if customer is None or feature is None:
        raise _unknown(row, customer)
    named = customer.subscriptions.filter(public_id=row.subscription) if row.subscription else []
    # A start that has come since the batch was confirmed is now.
    starts = row.starts if row.starts is None or row.starts < batch.created_at else max(row.starts, now)
    return give_override(
        customer,
        feature,
        typed(feature, row.value),
        subscription=_subscription(row, customer, {s.public_id: s for s in named}),
        effective_from=starts,
        effective_until=row.until,
        reason=row.reason or batch.reason,
        supersede=row.supersede,
        batch=batch,
        actor=actor,
        now=now,
    )


def _actor_of(batch: OverrideBatch) -> Actor:
    """Whoever began it, with who approved it, as the journal says."""
    at_once = Operation.objects.filter(at=batch.created_at, verb="override_batch.begun")
    begun = at_once.filter(inputs__batch=batch.public_id).order_by("id").first()
    approval, approved_by = (begun.approval, begun.approved_by) if begun else ("", "")
    return Actor(batch.created_by, None, approval, approved_by, batch=batch.public_id)


def _failure(row: Row, error: Exception) -> dict[str, Any]:
    code, why, column = "internal_error", "Something went wrong on our side.", ""
    if isinstance(error, ValidationError):
        code, why, column = getattr(error, "code", None) or "invalid", error.messages[0], column_of(error)
    else:
        log.exception("a row of a batch failed", line=row.line, exc_info=error)
    return {"line": row.line, "customer": row.customer_id, "column": column, "code": code, "why": why}


def results(batch: OverrideBatch) -> list[Result]:
    """What became of each row, in their order; one query. Overrides are given in the order of the rows."""
    given = iter(batch.overrides.order_by("id").select_related("feature", "customer", "subscription"))
    failures = {failure["line"]: failure for failure in batch.failures}
    found = []
    for place, kept in enumerate(batch.rows):
        row = Row.from_json(kept)
        if place >= batch.done:
            found.append(Result(row, "waiting" if batch.finished_at is None else "given up"))
        elif row.line in failures:
            failure = failures[row.line]
            found.append(Result(row, "refused", code=failure["code"], why=failure["why"], column=failure["column"]))
        else:
            found.append(Result(row, "given", override=next(given, None)))
    return found


# Taking back ----------------------------------------------------------------------------------------------------------


def revoke_batch(batch: OverrideBatch, reason: str, actor: Actor, now: datetime) -> OverrideBatch:
    """Stop all overrides of a batch at once; rows that were not given yet never are. Again: no error, no change.

    Raises `ReasonRequired`. Whoever is killed in between has said it already: `carry_out` takes back the rest.
    """
    batch = say_revoked(batch, reason, actor, now)
    _take_back(batch, now)
    return batch


@transaction.atomic
def say_revoked(batch: OverrideBatch, reason: str, actor: Actor, now: datetime) -> OverrideBatch:
    """The first half of it: nothing more is given; `carry_out`, or the task of that name, takes back what stands."""
    reason = require_reason(reason, "a revocation")
    batch = OverrideBatch.objects.select_for_update(no_key=True).get(pk=batch.pk)
    if batch.revoked_at is not None:
        return batch
    batch.revoked_at, batch.revoked_by, batch.revoke_reason = now, actor.name, reason
    batch.finished_at = batch.finished_at or now
    batch.save(update_fields=["revoked_at", "revoked_by", "revoke_reason", "finished_at"])
    record(
        None,
        "override_batch.revoked",
        f"Revoked the overrides of batch {batch.public_id}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"batch": batch.public_id},
        effects={"standing": batch.overrides.standing(now).count()},
    )
    return batch


def _take_back(batch: OverrideBatch, now: datetime) -> None:
    for row in batch.overrides.standing(now).select_related("customer").order_by("id"):
        revoke(row, reason=batch.revoke_reason, actor=Actor(batch.revoked_by), now=now)


def unfinished(now: datetime) -> list[OverrideBatch]:
    """Batches with work left: rows to give, or overrides to take back."""
    standing = FeatureOverride.objects.standing(now).filter(batch=OuterRef("pk"))
    left = Q(finished_at=None) | Q(revoked_at__isnull=False) & Exists(standing)
    return list(OverrideBatch.objects.filter(left).order_by("id"))
