"""What a customer holds, kept in this process for as long as its revision stands still.

The contracts and overrides behind an answer change seldom, use changes all the time: so the former are read once, and
each statement that reads balances says whether they are still true.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError, close_old_connections

from billing_admin.hot.wire import Away, Refused, Row, Wire
from catalog.models import Feature, Plan, PlanItem, PlanVersion, terms_of
from customers.contracts import Contract, order
from customers.holdings import contract_of, default_contract_on
from customers.models import Customer, Phase, Subscription
from customers.states import APPLYING, SubscriptionState
from entitlements.models import FeatureOverride
from entitlements.overrides import Override
from entitlements.readings import feature_terms, override_of, remember_items

log = structlog.get_logger("billing_admin.hot")

# Names of plans are shown, and their change counts no revision up: they are looked at every so many seconds.
LOOKS_EVERY = 5.0
MOST = 12_000
# Who asked a moment earlier than it was read may use it, too.
CLOCK_GOES_BACK = timedelta(seconds=1)

CUSTOMER = ("id", "public_id", "customer_id", "usage_started_at", "created_at", "revision")
SUBSCRIPTION = ("id", "customer_id", "product_id", "add_on", "started_at", "ends_at")
PHASE = (
    "id",
    "subscription_id",
    "version_id",
    "anchor",
    "quantity",
    "starts_at",
    "ends_at",
    "is_trial",
    "bought",
)
VERSION = ("id", "plan_id", "tailored")
PLAN = ("id", "name", "kind", "current_version_id")
# Whole rows: what is read of them may grow.
OVERRIDE = tuple(field.attname for field in FeatureOverride._meta.concrete_fields)
FEATURE = tuple(field.attname for field in Feature._meta.concrete_fields)


def columns_of(table: str, names: Sequence[str]) -> str:
    return ", ".join(f'{table}."{name}"' for name in names)


# By the id that the application uses, else by ours.
_CUSTOMER = f"""
JOIN LATERAL (
  (SELECT {columns_of("m", CUSTOMER)} FROM customers_customer m WHERE m.customer_id = n.name AND m.closed_at IS NULL)
  UNION ALL
  (SELECT {columns_of("m", CUSTOMER)} FROM customers_customer m WHERE m.public_id = n.name AND m.closed_at IS NULL)
  LIMIT 1
) c ON true
"""  # noqa: S608  columns from constants
HELD = f"""
SELECT n.name, {columns_of("c", CUSTOMER)}, {columns_of("s", SUBSCRIPTION)}, {columns_of("p", PHASE)},
  {columns_of("v", VERSION)}, {columns_of("l", PLAN)}
FROM unnest($1::text[]) WITH ORDINALITY AS n(name, ord)
{_CUSTOMER}
LEFT JOIN customers_subscription s
  ON s.customer_id = c.id AND s.state IN ({", ".join(f"'{state}'" for state in sorted(APPLYING))})
  AND NOT (s.state = '{SubscriptionState.SCHEDULED}' AND s.waits_for_payment)
LEFT JOIN customers_phase p ON p.subscription_id = s.id AND p.withdrawn_at IS NULL AND p.pending_since IS NULL
  AND (p.ends_at IS NULL OR p.ends_at > $2::timestamptz)
LEFT JOIN catalog_planversion v ON v.id = p.version_id
LEFT JOIN catalog_plan l ON l.id = v.plan_id
ORDER BY n.ord, p.starts_at, p.id
"""  # noqa: S608
REPLACED = f"""
SELECT {columns_of("o", OVERRIDE)}, {columns_of("f", FEATURE)}
FROM unnest($1::text[]) AS n(name)
{_CUSTOMER}
JOIN entitlements_featureoverride o ON o.customer_id = c.id
JOIN catalog_feature f ON f.id = o.feature_id
ORDER BY o.id DESC
"""  # noqa: S608
DEFAULT = f"SELECT {columns_of('l', PLAN)} FROM catalog_plan l WHERE is_default AND current_version_id IS NOT NULL"  # noqa: S608
STATEMENTS = {
    "begin": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "held": HELD,
    "replaced": REPLACED,
    "default": DEFAULT,
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
}


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """The contracts and overrides of an open customer, true at `revision`, from when they were read until an edge of
    their dates.

    `default_version` is that of the default product where it applies.
    """

    pk: int
    revision: int
    contracts: tuple[Contract, ...]
    overrides: tuple[Override, ...]
    default_version: int | None
    since: datetime
    until: datetime | None

    def is_true(self, revision: int | None, default_version: int | None, now: datetime) -> bool:
        """Whether it still holds, given what was read beside the balances."""
        if revision != self.revision or now < self.since - CLOCK_GOES_BACK:
            return False
        if self.until is not None and self.until <= now:
            return False
        return self.default_version in (None, default_version)


@dataclass(slots=True, eq=False)
class HoldingAsk:
    """`answer` is the holding, None for nobody that is open to us, or what happened instead."""

    name: str
    now: datetime
    answer: "asyncio.Future[Any]"


class Holdings:
    """The holdings that this process knows, the longest unused forgotten first."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._known: OrderedDict[str, Holding] = OrderedDict()
        self._versions: set[int] = set()

    def get(self, name: str) -> Holding | None:
        """By the id that was asked with; None when it is not known here."""
        found = self._known.get(name)
        if found is not None:
            self._known.move_to_end(name)
        return found

    def forget(self, name: str, holding: Holding) -> None:
        """It is no longer true; one that was read meanwhile stays."""
        if self._known.get(name) is holding:
            del self._known[name]

    async def watch_names(self) -> None:
        """Forget everything when a plan gets another name; runs as long as the process."""
        names = None
        while True:
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._executor, names_of_plans)
            except DatabaseError as error:
                log.warning("names were not read", cause=str(error))
            else:
                if found != names:
                    self._known.clear()
                names = found
            await asyncio.sleep(LOOKS_EVERY)

    async def carry_out(self, wire: Wire, asks: list[HoldingAsk]) -> None:
        """Read those that are asked for, from one snapshot. Raises `Away` after telling them so."""
        names = ",".join(f'"{name}"' for name in dict.fromkeys(ask.name for ask in asks))
        now = max(ask.now for ask in asks)
        array = f"{{{names}}}".encode()
        try:
            _, held, replaced, default, _ = await wire.run(
                ("begin", []),
                ("held", [array, now.isoformat().encode()]),
                ("replaced", [array]),
                ("default", []),
                ("commit", []),
            )
            found = Found(wire.rows(held), wire.rows(replaced), wire.rows(default))
            await self._meet(found.versions - self._versions)
            read = found.holdings(now)
        except SynchronousOnlyOperation:  # terms that were met long ago, and forgotten for newer ones
            self._versions.clear()
            settle(asks, None)
            return
        except Refused as refusal:
            log.warning("holdings were refused", cause=str(refusal), code=refusal.code)
            settle(asks, None)
            raise Away(str(refusal)) from refusal
        except Away:
            settle(asks, None)
            raise
        for name, holding in read.items():
            self._known[name] = holding
            self._known.move_to_end(name)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        for ask in asks:
            if not ask.answer.done():
                ask.answer.set_result(read.get(ask.name))

    async def _meet(self, versions: set[int]) -> None:
        """Have the terms of these at hand, which deciding reads where it may not wait for the database."""
        if versions:
            await asyncio.get_running_loop().run_in_executor(self._executor, meet, versions)
            self._versions |= versions


def settle(asks: Sequence[HoldingAsk], answer: Holding | None) -> None:
    for ask in asks:
        if not ask.answer.done():
            ask.answer.set_result(answer)


def names_of_plans() -> list[tuple[int, str]]:
    try:
        return list(Plan.objects.order_by("pk").values_list("pk", "name"))
    finally:
        close_old_connections()


def meet(versions: set[int]) -> None:
    """Read terms that are kept for ever."""
    try:
        for version in versions:
            terms_of(version)
        items = PlanItem.objects.filter(version__in=versions, feature__isnull=False)
        met = list(items.values_list("id", "feature_id"))
        remember_items(item_id for item_id, _ in met)
        feature_terms(feature_id for _, feature_id in met if feature_id is not None)
    finally:
        close_old_connections()


class Found:
    """What was read, as the values that it means. Pure."""

    def __init__(self, held: Sequence[Row], replaced: Sequence[Row], default: Sequence[Row]) -> None:
        self._held: dict[str, list[Held]] = {}
        for name, *values in held:
            self._held.setdefault(name, []).append(Held(values))
        self._overrides: dict[int, dict[int, Override]] = {}
        for columns in replaced:
            row = FeatureOverride.from_db("default", OVERRIDE, columns[: len(OVERRIDE)])
            row.feature = Feature.from_db("default", FEATURE, columns[len(OVERRIDE) :])
            self._overrides.setdefault(row.customer_id, {})[row.pk] = override_of(row)
        self._default = next((Plan.from_db("default", PLAN, columns) for columns in default), None)

    @property
    def versions(self) -> set[int]:
        """Those whose terms the holdings are made from."""
        found = {row.version for rows in self._held.values() for row in rows}
        if self._default is not None:
            found.add(self._default.current_version_id)
        return {version for version in found if version is not None}

    def holdings(self, now: datetime) -> dict[str, Holding]:
        """By the id that was asked with."""
        return {name: self._holding(rows, now) for name, rows in self._held.items()}

    def _holding(self, rows: "list[Held]", now: datetime) -> Holding:
        customer = rows[0].customer
        ended = {row.product for row in rows if row.is_main and row.ends_at is not None and row.ends_at <= now}
        applying = (row for row in rows if row.has_begun(now) and (row.is_main or row.product not in ended))
        contracts = order(contract_of(row.phase, customer) for row in applying)
        default_version = None
        if not contracts and self._default is not None:
            contracts, default_version = (
                [default_contract_on(self._default, customer)],
                self._default.current_version_id,
            )
        overrides = tuple(self._overrides.get(customer.pk, {}).values())
        edges = [edge for row in rows for edge in row.edges]
        edges += [edge for override in overrides for edge in (override.starts_at, override.ends_at)]
        return Holding(
            pk=customer.pk,
            revision=customer.revision,
            contracts=tuple(contracts),
            overrides=overrides,
            default_version=default_version,
            since=now,
            until=min((edge for edge in edges if edge is not None and edge > now), default=None),
        )


class Held:
    """One row of `HELD`: the customer, and a live contract with one of its phases where there is one."""

    def __init__(self, values: Sequence[Any]) -> None:
        parts, start = [], 0
        for names in (CUSTOMER, SUBSCRIPTION, PHASE, VERSION, PLAN):
            parts.append(values[start : start + len(names)])
            start += len(names)
        self._customer, self._subscription, self._phase, self._version, self._plan = parts

    @property
    def customer(self) -> Customer:
        return Customer.from_db("default", CUSTOMER, self._customer)

    @property
    def version(self) -> int | None:
        found: int | None = self._version[0]
        return found

    @property
    def product(self) -> int | None:
        found: int | None = self._subscription[2]
        return found

    @property
    def is_main(self) -> bool:
        return self._subscription[3] is False

    @property
    def ends_at(self) -> datetime | None:
        found: datetime | None = self._subscription[5]
        return found

    def has_begun(self, now: datetime) -> bool:
        return self._phase[0] is not None and self._phase[5] <= now

    @property
    def phase(self) -> Phase:
        """With what it is joined to."""
        phase = Phase.from_db("default", PHASE, self._phase)
        phase.subscription = Subscription.from_db("default", SUBSCRIPTION, self._subscription)
        phase.version = PlanVersion.from_db("default", VERSION, self._version)
        phase.version.plan = Plan.from_db("default", PLAN, self._plan)
        return phase

    @property
    def edges(self) -> list[datetime | None]:
        return [self.ends_at, self._phase[5], self._phase[6]]
