"""An order to move customers to another version of their plan: from where to where, whom, when, which price becomes
which."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db.models import Q

from billing_admin.csv_table import BadRows, Problem, read_table
from catalog.mapping import PriceMapping, check_mapping, price_differences, propose_mappings
from catalog.models import Plan, PlanVersion
from catalog.terms import PlanTerms
from customers.models import Customer, Phase, PlanMigration, Subscription, SubscriptionQuerySet

Timing = PlanMigration.Timing
ALL, LIST, FILTER = "all", "list", "filter"
MOST = 100_000


class CannotMigrate(ValidationError):
    """An order that cannot be carried out for anybody; `field` is the name in the payload."""

    def __init__(self, why: str, code: str, field: str = ""):
        self.field = field
        super().__init__(why, code=code)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whom to move: everybody on the version, the customers of a list (`customers` by either id, with their `lines`
    where they came from a file), or those that a filter finds (`words` begin an id, name or e-mail; the contract's
    start lies in `[started_from, started_before)`)."""

    who: str = ALL
    customers: tuple[str, ...] = ()
    lines: tuple[int, ...] = field(default=(), compare=False)
    words: str = ""
    started_from: datetime | None = None
    started_before: datetime | None = None

    def describe(self) -> str:
        """For people: `all customers`, `12 customers of a list`."""
        if self.who == LIST:
            return f"{len(self.customers):,} {'customer' if len(self.customers) == 1 else 'customers'} of a list"
        if self.who != FILTER:
            return "all customers"
        parts = [f"“{self.words}”"] if self.words else []
        parts += [f"since {self.started_from:%-d %b %Y}"] if self.started_from else []
        parts += [f"before {self.started_before:%-d %b %Y}"] if self.started_before else []
        return f"customers found by {', '.join(parts)}" if parts else "all customers"

    def to_json(self) -> dict[str, Any]:
        dates = {"startedFrom": self.started_from, "startedBefore": self.started_before}
        return {
            "who": self.who,
            "customers": list(self.customers),
            "words": self.words,
            **{name: at.isoformat() if at else None for name, at in dates.items()},
            "description": self.describe(),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        dates = [
            datetime.fromisoformat(text) if text else None for text in (kept["startedFrom"], kept["startedBefore"])
        ]
        return cls(kept["who"], tuple(kept["customers"]), (), kept["words"], *dates)


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants. `not_before` goes with `Timing.ON_DATE`: the first billing cycle from there on."""

    from_version: PlanVersion
    to_version: PlanVersion
    chosen: Chosen = Chosen()
    timing: str = Timing.NEXT_BILLING_CYCLE
    not_before: datetime | None = None
    mappings: tuple[PriceMapping, ...] = ()

    @property
    def plan(self) -> Plan:
        return self.from_version.plan

    @property
    def old(self) -> PlanTerms:
        return self.from_version.terms()

    @property
    def new(self) -> PlanTerms:
        return self.to_version.terms()

    @property
    def keys(self) -> dict[str, str | None]:
        """What becomes of each item of the old version: those that nobody mapped keep their key, or are gone."""
        same = {i.key: i.key if self.new.item(i.key) is not None else None for i in self.old.items}
        return same | {mapping.old: mapping.new for mapping in self.mappings}

    def to_json(self) -> dict[str, Any]:
        return {
            "plan": self.plan.key,
            "fromVersion": self.from_version.number,
            "toVersion": self.to_version.number,
            "chosen": self.chosen.to_json(),
            "timing": str(self.timing),
            "notBefore": self.not_before.isoformat() if self.not_before else None,
            "priceMappings": [mapping.to_json() for mapping in self.mappings],
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The order again. Raises `CannotMigrate` when a version is gone."""
        return cls(
            standard_version(kept["plan"], kept["fromVersion"]),
            standard_version(kept["plan"], kept["toVersion"]),
            Chosen.from_json(kept["chosen"]),
            kept["timing"],
            datetime.fromisoformat(kept["notBefore"]) if kept["notBefore"] else None,
            tuple(PriceMapping.from_json(mapping) for mapping in kept["priceMappings"]),
        )

    @classmethod
    def of(cls, migration: PlanMigration) -> Self:
        """The order that a migration was begun with."""
        return cls(
            migration.from_version,
            migration.to_version,
            Chosen.from_json(migration.chosen),
            migration.timing,
            migration.not_before,
            tuple(PriceMapping.from_json(mapping) for mapping in migration.mappings),
        )


def standard_version(plan_key: str, number: int) -> PlanVersion:
    found: PlanVersion | None = (
        PlanVersion.objects.with_items().filter(plan__key=plan_key, tailored=False, number=number).first()
    )
    if found is None or not found.is_frozen:
        raise CannotMigrate(f"{plan_key} has no published version {number}.", "version_not_found")
    return found


def with_proposed(order: Order) -> Order:
    """The order with the mappings that follow by themselves, where it says nothing of an item."""
    said = {mapping.old for mapping in order.mappings}
    taken = {mapping.new for mapping in order.mappings}
    proposed = propose_mappings(order.old, order.new).mappings
    more = [mapping for mapping in proposed if mapping.old not in said and mapping.new not in taken]
    return replace(order, mappings=(*order.mappings, *more))


def check_order(order: Order) -> None:
    """Refuse what cannot be done for anybody. Raises `CannotMigrate`, `BadMapping`."""
    plan, old, new = order.plan, order.from_version, order.to_version
    if old.plan_id != new.plan_id or old.tailored or new.tailored:
        raise CannotMigrate("A migration goes from one standard version of a plan to another.", "not_standard")
    if old.pk == new.pk:
        raise CannotMigrate(f"{old} is the version that they are on.", "same_version", "to_version")
    if new.state != PlanVersion.State.PUBLISHED:
        raise CannotMigrate(f"{new} is not published, so nobody can be moved to it.", "not_published", "to_version")
    if plan.kind == Plan.Kind.STRIPE:
        raise CannotMigrate(
            f"{plan.name} follows Stripe; a newer version of it is taken over by itself.", "mirrored_from_stripe"
        )
    check_mapping(order.old, order.new, order.mappings)
    _check_timing(order)


def _check_timing(order: Order) -> None:
    if order.timing == Timing.NOW:
        if differing := price_differences(order.old, order.new):
            why = (
                f"Prices differ ({'; '.join(differing)}), so they change with a billing cycle: the next one, or later."
            )
            raise CannotMigrate(why, "prices_differ", "schedule")
        return
    if order.plan.kind != Plan.Kind.BILLED:
        raise CannotMigrate(
            f"{order.plan.name} has no billing cycles: move its customers now.", "no_cycles", "schedule"
        )
    if (order.timing == Timing.ON_DATE) != (order.not_before is not None):
        raise CannotMigrate("Give a date with the timing “from a date”, and only with it.", "bad_schedule", "schedule")


def differing(order: Order) -> tuple[str, ...]:
    """How the prices of the two versions differ; nothing when only features do, so that it can be done now."""
    return price_differences(order.old, order.new)


def choose(from_version: PlanVersion, chosen: Chosen, now: datetime) -> SubscriptionQuerySet:
    """The contracts in force on the version, and on custom versions of it (those are listed and left alone), by id.

    Raises `BadRows` naming each line of a list with a customer that is unknown, or not on the version.
    """
    phases = Phase.objects.in_force(now).filter(Q(version=from_version) | Q(version__custom__base_version=from_version))
    found: SubscriptionQuerySet = Subscription.objects.live().filter(phases__in=phases).order_by("id")
    if chosen.who == LIST:
        return found.filter(customer__in=_listed(found, from_version, chosen))
    if chosen.who == FILTER:
        if chosen.words.strip():
            found = found.filter(customer__in=Customer.objects.matching(chosen.words))
        if chosen.started_from:
            found = found.filter(started_at__gte=chosen.started_from)
        if chosen.started_before:
            found = found.filter(started_at__lt=chosen.started_before)
    return found


def _listed(on: SubscriptionQuerySet, version: PlanVersion, chosen: Chosen) -> set[int]:
    """The keys of the customers of a list; an id of the caller's own wins over one of ours that reads the same."""
    names = chosen.customers
    rows = Customer.objects.open().filter(Q(customer_id__in=names) | Q(public_id__in=names))
    known: dict[str, int] = {}
    for key, own, public in rows.values_list("pk", "customer_id", "public_id"):
        known.setdefault(public, key)
        known[own] = key
    held = set(on.filter(customer__in=known.values()).values_list("customer_id", flat=True))
    lines = chosen.lines or tuple(range(1, len(names) + 1))
    problems = []
    for line, name in zip(lines, names, strict=True):
        if name not in known:
            problems.append(Problem(line, "customer_id", f"There is no customer {name!r}."))
        elif known[name] not in held:
            problems.append(Problem(line, "customer_id", f"{name} is not on {version}."))
    if problems:
        raise BadRows(problems)
    return {known[name] for name in names}


def read_customers(text: str) -> Chosen:
    """A list of customers from a CSV text with the column `customer_id`, or with one id a line and no heading.

    Raises `BadRows` for what is no such list.
    """
    first = text.lstrip("\ufeff").strip().partition("\n")[0]
    has_heading = "customer_id" in first.lower().replace(" ", "_")
    table = text if has_heading else f"customer_id\n{text.lstrip(chr(0xFEFF))}"
    lines, problems = read_table(table, ["customer_id"], ["customer_id"], most=MOST)
    shift = 0 if has_heading else 1
    if problems:
        raise BadRows([Problem(p.line - shift, p.column, p.message) for p in problems])
    named: dict[str, int] = {}
    for line in lines:
        named.setdefault(line.cells["customer_id"], line.number - shift)
    return Chosen(LIST, tuple(named), tuple(named.values()))
