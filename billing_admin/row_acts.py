"""What a row of an import or of a bulk act can do. Each kind names its columns, says what a row would do, and does it
by the ordinary verb, so that rows meet the same refusals as a person on a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from django.core.exceptions import ValidationError

from billing_admin.csv_table import Line, Problem, to_instant
from billing_admin.flows.coupons import BEGINS, Begins, find_offer, plans_of, refuse
from billing_admin.flows.customers import (
    BadEmail,
    DuplicateCustomerId,
    Refused,
    assignable_plans,
    create_customer,
)
from billing_admin.flows.details import add_note
from billing_admin.flows.enable_plan import enable_plan, preview_plan, propose
from billing_admin.flows.grants import Wanted, give_units
from billing_admin.flows.plan_change import PlanChange, Timing
from billing_admin.flows.rewards import apply_coupon
from billing_admin.typed import to_number
from catalog.coupons import gives
from catalog.models import Feature, Plan
from catalog.money import format_minor, grouped, plain
from catalog.periods import NEVER, RESETS
from catalog.terms import METERED
from customers.journal import Actor
from customers.models import AppliedCoupon, Customer, Phase
from entitlements.check import check

LASTING = "lasting"
TIMINGS = {"": None, "now": Timing.NOW, "cycle_end": Timing.CYCLE_END}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table, with what stands in it."""

    name: str
    help: str
    needed: bool = False
    example: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What a row would do, in words. `facts` are what may not move until it is done."""

    before: str
    after: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class BadCell(ValidationError):
    """A refusal at one column of a row."""

    def __init__(self, column: str, why: str, code: str = "bad_cell"):
        self.field = column
        super().__init__(why, code=code)


class RowAct(Protocol):
    """`needs` says what one row takes; whoever has one of `anyhow` has some rows that they may do. Where that differs
    from row to row, it follows from one column alone: `needs_follow`."""

    key: str
    title: str
    one: str
    columns: tuple[Column, ...]
    anyhow: tuple[str, ...]
    about_customers: bool
    needs_follow: str

    def read(self, cells: Mapping[str, str]) -> list[tuple[str, str]]:
        """What is wrong with cells in themselves: (column, sentence)."""

    def same(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        """Rows that are the same by this are refused after the first."""

    def needs(self, cells: Mapping[str, str]) -> tuple[str, ...]: ...

    def look(self, customer: Customer | None, cells: Mapping[str, str], now: datetime) -> Look:
        """Writes nothing of the act. Raises what the verb would."""

    def do(
        self, customer: Customer | None, cells: Mapping[str, str], *, reason: str, actor: Actor, now: datetime
    ) -> Customer:
        """One transaction: the caller's. Returns whom it was about."""


ROW_ACTS: dict[str, RowAct] = {}


Made = TypeVar("Made", bound=RowAct)


def row_act(made: type[Made]) -> type[Made]:
    """Register what a row can do."""
    ROW_ACTS[made.key] = made()
    return made


CUSTOMER = Column("customer_id", "the application's id, or ours (cus_…)", needed=True, example="acme")
REASON = Column("reason", "empty: the reason of all", example="")


def date_of(cells: Mapping[str, str], column: str) -> datetime | None:
    """An instant of a cell that was read already."""
    text = cells.get(column, "")
    return to_instant(text) if text and text.lower() != LASTING else None


def _is_quantity(text: str) -> bool:
    return text.isdecimal() and len(text) < 12 and 0 < int(text) <= 1_000_000


def _bad_date(cells: Mapping[str, str], *columns: str) -> list[tuple[str, str]]:
    found = []
    for column in columns:
        try:
            date_of(cells, column)
        except ValueError:
            found.append((column, f"“{cells[column]}” is not a date like 2026-03-01 or 2026-03-01T12:00Z."))
    return found


@row_act
class NewCustomers:
    key, title, one = "customers", "Customers", "Create customers"
    anyhow: tuple[str, ...] = ("customers.add_customer",)
    about_customers = False
    needs_follow = "plans"
    columns: tuple[Column, ...] = (
        Column("customer_id", "the id that the application uses", needed=True, example="acme"),
        Column("name", "what people call them", needed=True, example="Acme Robotics"),
        Column("email", "where mail goes", example="ops@acme.example"),
        Column("usage_started_at", "a date: where windows of assigned plans are counted from", example="2026-01-01"),
        Column("plans", "keys of assigned plans, with spaces between", example=""),
    )

    def read(self, cells: Mapping[str, str]) -> list[tuple[str, str]]:
        return _bad_date(cells, "usage_started_at")

    def same(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        return (cells["customer_id"],)

    def needs(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        return (*self.anyhow, "customers.assign_plan") if cells["plans"] else self.anyhow

    def look(self, customer: Customer | None, cells: Mapping[str, str], now: datetime) -> Look:
        if Customer.objects.filter(customer_id=cells["customer_id"]).exists():
            raise DuplicateCustomerId(cells["customer_id"])
        _refuse_bad_customer(cells, now)
        plans = [plan.name for plan in assignable_plans(cells["plans"].split())]
        words = ", ".join([cells["name"], *([cells["email"]] if cells["email"] else []), *plans])
        return Look("none", words, {"plans": plans})

    def do(
        self, customer: Customer | None, cells: Mapping[str, str], *, reason: str, actor: Actor, now: datetime
    ) -> Customer:
        return create_customer(
            customer_id=cells["customer_id"],
            name=cells["name"],
            email=cells["email"],
            usage_started_at=date_of(cells, "usage_started_at"),
            custom_product_keys=cells["plans"].split(),
            actor=actor,
            now=now,
        )


def _refuse_bad_customer(cells: Mapping[str, str], now: datetime) -> None:
    """What the fields themselves refuse, before anything is written."""
    made = Customer(customer_id=cells["customer_id"], name=cells["name"], email=cells["email"], created_at=now)
    try:
        made.clean_fields()
    except ValidationError as error:
        column, problems = next(iter(error.error_dict.items()))
        if column == "email":
            raise BadEmail from None
        raise Refused(column, problems[0].messages[0], problems[0].code or "invalid") from None
    since = date_of(cells, "usage_started_at")
    if since is not None and since > now:
        raise Refused("usage_started_at", "Usage cannot have started in the future.", "usage_start_in_the_future")


@row_act
class AssignPlans:
    key, title, one = "assignments", "Assignments", "Put on a plan"
    anyhow: tuple[str, ...] = ("customers.assign_plan", "customers.enable_plan")
    about_customers = True
    needs_follow = "plan"
    columns: tuple[Column, ...] = (
        CUSTOMER,
        Column("plan", "its key", needed=True, example="partner"),
        Column("quantity", "a whole number; empty: 1", example="1"),
        Column("timing", "now or cycle_end; empty: as the change is", example=""),
        Column("ends_on", "a date on which it ends by itself; empty: it lasts", example=""),
        REASON,
    )

    def read(self, cells: Mapping[str, str]) -> list[tuple[str, str]]:
        found = _bad_date(cells, "ends_on")
        if cells["quantity"] and not _is_quantity(cells["quantity"]):
            found.append(("quantity", "Write a whole number from 1 to 1,000,000."))
        if cells["timing"].lower() not in TIMINGS:
            found.append(("timing", "Write now, cycle_end, or nothing."))
        return found

    def same(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        return (cells["customer_id"], cells["plan"])

    def needs(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        kind = Plan.objects.filter(key=cells["plan"]).values_list("kind", flat=True).first()
        return ("customers.assign_plan",) if kind == Plan.Kind.ASSIGNED else ("customers.enable_plan",)

    def _change(self, customer: Customer, cells: Mapping[str, str], now: datetime) -> PlanChange:
        return preview_plan(customer, self._proposal(customer, cells), now=now)

    def _proposal(self, customer: Customer, cells: Mapping[str, str]) -> Any:
        plan = Plan.objects.select_related("product", "current_version").filter(key=cells["plan"]).first()
        if plan is None:
            raise BadCell("plan", f"There is no plan {cells['plan']!r}.", "plan_not_found")
        return propose(
            customer,
            plan,
            quantity=int(cells["quantity"] or 1),
            timing=TIMINGS[cells["timing"].lower()],
            ends_at=date_of(cells, "ends_on"),
        )

    def look(self, customer: Customer | None, cells: Mapping[str, str], now: datetime) -> Look:
        assert customer is not None, "rows about customers have one"
        change = self._change(customer, cells, now)
        held = change.position.held
        phase = Phase.objects.select_related("version__plan").get(pk=held.phase_id) if held else None
        day = f"from {change.starts_at:%-d %b %Y}" if change.is_scheduled else "now"
        waits = ", waits for its first invoice" if change.is_gated else ""
        due = f", {format_minor(change.total, change.currency)} due" if change.documents else ""
        facts = {
            "total": change.total,
            "currency": change.currency,
            "timing": change.timing,
            "gated": change.is_gated,
            "version": change.proposal.version_id,
        }
        return Look(
            phase.version.plan.name if phase else "none", f"{change.proposal.plan_name} {day}{due}{waits}", facts
        )

    def do(
        self, customer: Customer | None, cells: Mapping[str, str], *, reason: str, actor: Actor, now: datetime
    ) -> Customer:
        assert customer is not None, "rows about customers have one"
        enable_plan(customer, self._proposal(customer, cells), reason=reason, actor=actor, now=now)
        return customer


@row_act
class GiveUnits:
    key, title, one = "grants", "Bonus units", "Give bonus units"
    anyhow: tuple[str, ...] = ("entitlements.add_grant",)
    about_customers = True
    needs_follow = ""
    columns: tuple[Column, ...] = (
        CUSTOMER,
        Column("feature", "its slug", needed=True, example="credits"),
        Column("units", "how many", needed=True, example="500"),
        Column("until", f"a date, or {LASTING}", needed=True, example="2027-01-01"),
        Column("label", "what the customer reads; empty: Bonus", example="Bonus"),
        Column("recurs", "P1D, P1W, P1M, P1Y …: again in each; empty: once", example=""),
        REASON,
    )

    def read(self, cells: Mapping[str, str]) -> list[tuple[str, str]]:
        found = _bad_date(cells, "until")
        try:
            units = to_number(cells["units"])
        except ValueError:
            units = None
        if cells["units"] and (units is None or units <= 0):
            found.append(("units", f"“{cells['units']}” is not a number above 0."))
        if cells["recurs"] and (cells["recurs"] not in RESETS or cells["recurs"] == NEVER):
            found.append(("recurs", "Write P1D, P1W, P1M, P3M, P6M or P1Y, or nothing."))
        return found

    def same(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(cells.values())

    def needs(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        return self.anyhow

    def _wanted(self, cells: Mapping[str, str], now: datetime) -> Wanted:
        feature = Feature.objects.filter(slug=cells["feature"]).first()
        if feature is None:
            raise BadCell("feature", f"There is no feature {cells['feature']!r}.", "feature_not_found")
        if feature.type != METERED:
            raise BadCell("feature", f"{feature.name} is not counted, so units of it cannot be given.", "not_grantable")
        ends_at = date_of(cells, "until")
        if ends_at is not None and ends_at <= now:
            raise BadCell("until", "This has passed already.", "bad_grant")
        units = to_number(cells["units"]) or Decimal(0)
        return Wanted(feature, units, ends_at, cells["label"] or "Bonus", recurs=cells["recurs"])

    def look(self, customer: Customer | None, cells: Mapping[str, str], now: datetime) -> Look:
        assert customer is not None, "rows about customers have one"
        wanted = self._wanted(cells, now)
        access = check(customer, wanted.feature.slug, now=now)
        name, units = wanted.feature.name, wanted.units
        if access.unlimited:
            return Look(f"{name}: unlimited", f"{name}: unlimited, and {grouped(units)} more", {"units": plain(units)})
        left = (access.net if access.net is not None else access.remaining) or Decimal(0)
        until = f" until {wanted.ends_at:%-d %b %Y}" if wanted.ends_at else ""
        before, after = f"{name}: {grouped(left)} left", f"{name}: {grouped(left + units)} left{until}"
        return Look(before, after, {"units": plain(units), "until": wanted.ends_at})

    def do(
        self, customer: Customer | None, cells: Mapping[str, str], *, reason: str, actor: Actor, now: datetime
    ) -> Customer:
        assert customer is not None, "rows about customers have one"
        give_units(customer, self._wanted(cells, now), reason=reason, actor=actor, now=now)
        return customer


@row_act
class ApplyCoupons:
    key, title, one = "coupons", "Coupons", "Apply a coupon"
    anyhow: tuple[str, ...] = ("customers.apply_coupon",)
    about_customers = True
    needs_follow = ""
    columns: tuple[Column, ...] = (
        CUSTOMER,
        Column("coupon", "its code, or a promo code", needed=True, example="launch20"),
        Column("at", "next_invoice, or enable: with the next plan; empty: next_invoice", example=""),
        REASON,
    )

    def read(self, cells: Mapping[str, str]) -> list[tuple[str, str]]:
        if cells["at"].lower() not in ("", *BEGINS):
            return [("at", "Write next_invoice, enable, or nothing.")]
        return []

    def same(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        return (cells["customer_id"], cells["coupon"].lower())

    def needs(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        return self.anyhow

    def look(self, customer: Customer | None, cells: Mapping[str, str], now: datetime) -> Look:
        assert customer is not None, "rows about customers have one"
        offer = find_offer(cells["coupon"])
        at = cells["at"].lower() or Begins.NEXT_INVOICE
        plans = None if at == Begins.ENABLE else plans_of(customer, None, now)
        refuse(offer, customer, plans=plans, now=now)
        rows = AppliedCoupon.objects.kept(now).filter(customer=customer).select_related("coupon")
        before = ", ".join(row.coupon.name for row in rows) or "none"
        also = f"{before}, " if before != "none" else ""
        words = gives(offer.coupon)
        return Look(before, f"{also}{offer.coupon.name}: {words}", {"gives": words, "coupon": offer.coupon.pk})

    def do(
        self, customer: Customer | None, cells: Mapping[str, str], *, reason: str, actor: Actor, now: datetime
    ) -> Customer:
        assert customer is not None, "rows about customers have one"
        at = cells["at"].lower() or Begins.NEXT_INVOICE
        apply_coupon(customer, cells["coupon"], at=at, reason=reason, actor=actor, now=now)
        return customer


@row_act
class AddNotes:
    key, title, one = "notes", "Notes", "Add a note"
    anyhow: tuple[str, ...] = ("customers.add_note",)
    about_customers = True
    needs_follow = ""
    columns: tuple[Column, ...] = (
        CUSTOMER,
        Column("text", "what the next person should know", needed=True, example="Called on 3 March."),
    )

    def read(self, cells: Mapping[str, str]) -> list[tuple[str, str]]:
        return [("text", "At most 5,000 characters.")] if len(cells["text"]) > 5_000 else []

    def same(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(cells.values())

    def needs(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        return self.anyhow

    def look(self, customer: Customer | None, cells: Mapping[str, str], now: datetime) -> Look:
        text = cells["text"]
        return Look("", text if len(text) <= 120 else f"{text[:119]}…")

    def do(
        self, customer: Customer | None, cells: Mapping[str, str], *, reason: str, actor: Actor, now: datetime
    ) -> Customer:
        assert customer is not None, "rows about customers have one"
        add_note(customer, text=cells["text"], actor=actor, now=now)
        return customer


def check_cells(act: RowAct, lines: Sequence[Line]) -> list[Problem]:
    """What is wrong with single cells, and which rows stand twice."""
    problems: list[Problem] = []
    first: dict[tuple[str, ...], int] = {}
    for line in lines:
        missing = [column.name for column in act.columns if column.needed and not line.cells[column.name]]
        problems += [Problem(line.number, name, "This cell is empty.") for name in missing]
        problems += [Problem(line.number, column, why) for column, why in act.read(line.cells) if column not in missing]
        if missing:
            continue
        known = first.setdefault(act.same(line.cells), line.number)
        if known != line.number:
            problems.append(Problem(line.number, act.columns[0].name, f"The same stands in line {known} already."))
    return problems
