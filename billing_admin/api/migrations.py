"""Moving many customers to another version of their plan: see what it means, begin, follow, hold, take back."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self

from ninja import Query, Router
from ninja.responses import Status
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_plan
from billing_admin.api.refusals import BadValue, NotFound
from billing_admin.api.shapes import Answer, Body, Id, Money, Page, Problem, Reason, Slug
from billing_admin.csv_table import BadRows, to_instant
from billing_admin.flows import migrate as verbs
from billing_admin.flows.migrate import MIGRATE, Progress, progress, progress_of, rows_of
from billing_admin.flows.migrate_order import ALL, LIST, CannotMigrate, Chosen, Order, Timing, standard_version
from billing_admin.flows.migrate_outlook import Outlook, RowOutlook, dry_run
from catalog.mapping import PriceMapping, price_differences, propose_mappings
from catalog.models import Plan, PlanVersion
from customers.models import MigrationRow, PlanMigration

router = Router(tags=["Migrations"])

VIEW = "customers.view_planmigration"
MOST_SHOWN = 1_000
MOST_NAMED = 10_000
EXAMPLE = {
    "fromVersion": 3,
    "toVersion": 4,
    "schedule": "next_billing_cycle",
    "priceMappings": [{"from": "base", "to": "base"}, {"from": "support", "to": None}],
    "customers": "all",
    "reason": "prices of spring",
    "dryRun": True,
}
WHY = {"reason": "wrong version"}


# What comes in --------------------------------------------------------------------------------------------------------


class PriceMappingIn(Body):
    from_: Slug = Field(alias="from", description="Key of a priced item of the old version.")
    to: Slug | None = Field(description="Key in the new version; null drops the price on purpose.")


class MigrationIn(Body):
    from_version: int = Field(ge=1, le=1_000_000)
    to_version: int = Field(ge=1, le=1_000_000)
    schedule: str = Field(
        default="next_billing_cycle",
        max_length=40,
        description="`next_billing_cycle`, a date (the first billing cycle from there on), or `now` where no price "
        "differs.",
        examples=["next_billing_cycle"],
    )
    price_mappings: list[PriceMappingIn] = Field(
        default_factory=list, max_length=500, description="Every priced item of the old version, once."
    )
    customers: Literal["all"] | Annotated[list[Id], Field(min_length=1, max_length=MOST_NAMED)] = Field(
        default="all", description="All on the version, or those with these ids."
    )
    reason: Reason = ""
    dry_run: bool = Field(default=False, description="Say what would happen; begin nothing.")
    fingerprint: str | None = Field(
        default=None, max_length=64, description="Of a dry run: begin only if nothing of it has moved since."
    )

    def order(self, plan: Plan) -> Order:
        """Raises `BadValue` beside the field."""
        timing, not_before = _timing(self.schedule)
        names = () if isinstance(self.customers, str) else tuple(dict.fromkeys(self.customers))
        return Order(
            _version(plan, self.from_version, "from_version"),
            _version(plan, self.to_version, "to_version"),
            Chosen(LIST, names) if names else Chosen(ALL),
            timing,
            not_before,
            tuple(PriceMapping(mapping.from_, mapping.to) for mapping in self.price_mappings),
        )


class MigrationReasonIn(Body):
    reason: Reason = ""


def _timing(schedule: str) -> tuple[str, datetime | None]:
    if schedule in (Timing.NOW, Timing.NEXT_BILLING_CYCLE):
        return schedule, None
    try:
        return Timing.ON_DATE, to_instant(schedule)
    except (ValueError, OverflowError):  # the edges of the calendar have no UTC
        why = "Send next_billing_cycle, now, or a date such as 2026-06-01."
        raise BadValue("schedule", why, "bad_schedule") from None


def _version(plan: Plan, number: int, field: str) -> PlanVersion:
    try:
        return standard_version(plan.key, number)
    except CannotMigrate as missing:
        raise BadValue(field, missing.messages[0], "version_not_found") from None


# What goes out --------------------------------------------------------------------------------------------------------


class PriceMappingOut(Answer):
    from_: str = Field(alias="from", examples=["base"])
    to: str | None = Field(examples=["base"])

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        return cls(**{"from": kept["from"], "to": kept["to"]})


class MappingsOut(Answer):
    mappings: list[PriceMappingOut] = Field(description="What follows by itself, or by the feature of the price.")
    unmapped: list[str] = Field(description="Priced items of the old version that somebody has to map, or drop.")
    price_differences: list[str] = Field(
        description="How prices differ; when there are any, they change with a billing cycle.",
        examples=[["Base fee: $50.00 / month → $60.00 / month"]],
    )


class MigrationSum(Answer):
    """Of one period of the present cadence, of all that move; use, coupons and special prices are not counted."""

    old: Money
    new: Money
    difference: Money


class MigrationRowTried(Answer):
    customer_id: str
    subscription_id: str
    quantity: int
    old_price: Money
    new_price: Money
    starts_at: datetime | None = Field(description="When the new version begins; null: at once, or never.")
    lost: list[str] = Field(examples=[["Credits: 100 → 50"]])
    above: list[str] = Field(examples=[["Credits: 80 in use, 50 included then"]])
    skipped: Problem | None = Field(description="Why it would be left alone.")

    @classmethod
    def of(cls, row: RowOutlook) -> Self:
        return cls(
            customer_id=row.customer,
            subscription_id=row.subscription,
            quantity=row.quantity,
            old_price=Money.of(row.old_price, row.currency),
            new_price=Money.of(row.new_price, row.currency),
            starts_at=row.at,
            lost=list(row.lost),
            above=list(row.above),
            skipped=_problem(row.code, row.problem),
        )


class MigrationTriedOut(Answer):
    """What would happen. `rows` are the first 1,000, those that would be left alone first."""

    moves: int
    skips: dict[str, int] = Field(description="How many would be left alone, by why.", examples=[{"custom_plan": 2}])
    losing: int = Field(description="How many of those that move lose access to something.")
    sums: list[MigrationSum]
    price_differences: list[str]
    fingerprint: str = Field(description="Send it to begin exactly this.")
    rows: list[MigrationRowTried]

    @classmethod
    def of(cls, outlook: Outlook) -> Self:
        shown = [*outlook.skipped, *outlook.moving][:MOST_SHOWN]
        return cls(
            moves=outlook.moves,
            skips=outlook.skips,
            losing=outlook.losing,
            sums=[
                MigrationSum(
                    old=Money.of(total.old, currency),
                    new=Money.of(total.new, currency),
                    difference=Money.of(total.difference, currency),
                )
                for currency, total in outlook.sums.items()
            ],
            price_differences=list(outlook.differing),
            fingerprint=outlook.fingerprint,
            rows=[MigrationRowTried.of(row) for row in shown],
        )


class MigrationCounts(Answer):
    """Contracts by what became of them until now; `replaced`: somebody withdrew or replaced what was scheduled."""

    total: int
    waiting: int
    scheduled: int
    moved: int
    skipped: int
    failed: int
    taken_back: int
    kept: int
    replaced: int

    @classmethod
    def from_progress(cls, found: Progress) -> Self:
        return cls(total=found.total, **found.counts)


class MigrationOut(Answer):
    id: str = Field(examples=["mig_9aQ2mZ8TqVbNc1R4"])
    plan_id: str
    from_version: int
    to_version: int
    state: Literal["ready", "running", "paused", "stopped", "finished", "taking_back", "taken_back"]
    schedule: str = Field(examples=["next_billing_cycle"])
    price_mappings: list[PriceMappingOut]
    chosen: str = Field(description="Whose contracts, as people read it.", examples=["all customers"])
    reason: str
    created_by: str
    created_at: datetime
    finished_at: datetime | None
    approved_by: str | None
    taken_back_by: str | None
    take_back_reason: str | None
    counts: MigrationCounts

    @classmethod
    def of(cls, migration: PlanMigration, found: Progress) -> Self:
        at = migration.not_before
        return cls(
            id=migration.public_id,
            plan_id=migration.plan.key,
            from_version=migration.from_version.number,
            to_version=migration.to_version.number,
            state=migration.state,  # type: ignore[arg-type]  # one of them
            schedule=at.astimezone(UTC).isoformat() if at else migration.timing,
            price_mappings=[PriceMappingOut.of(mapping) for mapping in migration.mappings],
            chosen=migration.chosen["description"],
            reason=migration.reason,
            created_by=migration.created_by,
            created_at=migration.created_at,
            finished_at=migration.finished_at,
            approved_by=migration.approved_by or None,
            taken_back_by=migration.taken_back_by or None,
            take_back_reason=migration.take_back_reason or None,
            counts=MigrationCounts.from_progress(found),
        )


class MigrationsOut(Page):
    migrations: list[MigrationOut]


RowState = Literal["waiting", "scheduled", "moved", "skipped", "failed", "taken_back", "kept", "replaced"]


class MigrationRowOut(Answer):
    customer_id: str
    subscription_id: str
    state: RowState
    problem: Problem | None = Field(description="Why it was skipped, failed or kept.")
    old_price: Money
    new_price: Money
    starts_at: datetime | None
    lost: list[str]
    done_at: datetime | None
    operation_id: str | None

    @classmethod
    def of(cls, row: MigrationRow, currency: str) -> Self:
        """Reads what `rows_of` joins."""
        return cls(
            customer_id=row.customer.customer_id,
            subscription_id=row.subscription.public_id,
            state=row.state_now,  # type: ignore[attr-defined]  # annotated
            problem=_problem(row.code, row.problem),
            old_price=Money.of(row.old_price, currency),
            new_price=Money.of(row.new_price, currency),
            starts_at=row.at,
            lost=row.lost,
            done_at=row.done_at,
            operation_id=row.operation.public_id if row.operation else None,
        )


class MigrationRowsOut(Page):
    rows: list[MigrationRowOut]


def _problem(code: str, message: str) -> Problem | None:
    return Problem(code=code, message=message) if code else None


# The calls ------------------------------------------------------------------------------------------------------------


@endpoint(
    router, "GET", "/plans/{plan_id}/migrations/mappings", needs="catalog.view_plan", gives=MappingsOut, refuses=[404]
)
def propose_migration_mappings(
    request: ApiRequest,
    plan_id: Id,
    from_version: Annotated[int, Query(alias="fromVersion")],
    to_version: Annotated[int, Query(alias="toVersion")],
) -> MappingsOut:
    """Which price becomes which by itself, from one version to another, and which ones have to be mapped by hand."""
    plan = find_plan(plan_id)
    old, new = (
        _version(plan, number, field).terms()
        for number, field in ((from_version, "from_version"), (to_version, "to_version"))
    )
    found = propose_mappings(old, new)
    return MappingsOut(
        mappings=[PriceMappingOut.of(mapping.to_json()) for mapping in found.mappings],
        unmapped=list(found.unmapped),
        price_differences=list(price_differences(old, new)),
    )


@endpoint(
    router,
    "POST",
    "/plans/{plan_id}/migrations",
    needs=MIGRATE,
    gives=MigrationOut,
    status=HTTPStatus.CREATED,
    also={HTTPStatus.OK: MigrationTriedOut, **ASKED},
    refuses=[404, 409],
    example=EXAMPLE,
)
def migrate_customers(request: ApiRequest, plan_id: Id, body: MigrationIn) -> MigrationOut | Status[MigrationTriedOut]:
    """Move customers from one version of a plan to another, or see what that would mean.

    Prices change with each contract's next billing cycle, or the first one from a date; where no price differs, `now`
    works, too. Every priced item of the old version has to be mapped or dropped. With `dryRun` nothing is begun, and
    the answer (200) is what would happen. Without it workers move the contracts batch by batch, and the answer (201)
    is the migration as it was begun. Contracts on custom plans, with a scheduled change or with a planned end are left
    alone and listed.
    """
    order = body.order(find_plan(plan_id))
    try:
        if body.dry_run:
            return Status(HTTPStatus.OK, MigrationTriedOut.of(dry_run(order, request.now)))
        migration = verbs.begin(
            order, reason=body.reason, actor=request.auth.actor, now=request.now, confirmed=body.fingerprint
        )
    except BadRows as refused:
        first = refused.problems[0]
        raise BadValue(f"customers.{first.line - 1}", first.message, "customer_not_on_version") from None
    return _out(migration, request.now)


@endpoint(router, "GET", "/migrations", needs=VIEW, gives=MigrationsOut)
def list_migrations(
    request: ApiRequest,
    plan_id: Annotated[Id | None, Query(alias="planId")] = None,
    cursor: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> MigrationsOut:
    """Migrations, the newest first."""
    rows = _migrations().filter(plan__key=plan_id) if plan_id else _migrations()
    if cursor is not None:
        last = PlanMigration.objects.filter(public_id=cursor).values_list("pk", flat=True).first()
        if last is None:
            raise BadValue("cursor", "This is not a cursor of this list.", "bad_cursor")
        rows = rows.filter(pk__lt=last)
    found = list(rows.order_by("-pk")[: limit + 1])
    shown = found[:limit]
    counts = progress_of(shown, request.now)
    return MigrationsOut(
        migrations=[MigrationOut.of(row, counts[row.pk]) for row in shown],
        next_cursor=shown[-1].public_id if len(found) > limit else None,
    )


@endpoint(router, "GET", "/migrations/{migration_id}", needs=VIEW, gives=MigrationOut, refuses=[404])
def read_migration(request: ApiRequest, migration_id: Id) -> MigrationOut:
    """How far a migration is."""
    return _out(_find(migration_id), request.now)


@endpoint(router, "GET", "/migrations/{migration_id}/rows", needs=VIEW, gives=MigrationRowsOut, refuses=[404])
def list_migration_rows(
    request: ApiRequest,
    migration_id: Id,
    state: RowState | None = None,
    cursor: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> MigrationRowsOut:
    """What became of each contract, in a fixed order; `cursor` is the subscription that the last page ended with."""
    migration = _find(migration_id)
    rows = rows_of(migration, request.now)
    if cursor is not None:
        last = migration.rows.filter(subscription__public_id=cursor).values_list("pk", flat=True).first()
        if last is None:
            raise BadValue("cursor", "This is not a cursor of this list.", "bad_cursor")
        rows = rows.filter(pk__gt=last)
    if state is not None:
        rows = rows.filter(state_now=state)
    found = list(rows.order_by("pk")[: limit + 1])
    shown = found[:limit]
    return MigrationRowsOut(
        rows=[MigrationRowOut.of(row, migration.plan.currency) for row in shown],
        next_cursor=shown[-1].subscription.public_id if len(found) > limit else None,
    )


@endpoint(
    router,
    "POST",
    "/migrations/{migration_id}/pause",
    needs=MIGRATE,
    gives=MigrationOut,
    refuses=[404, 409],
    example=WHY,
)
def pause_migration(request: ApiRequest, migration_id: Id, body: MigrationReasonIn) -> MigrationOut:
    """Hold a migration: nobody else is moved until it is resumed."""
    migration = verbs.pause(_find(migration_id), reason=body.reason, actor=request.auth.actor, now=request.now)
    return _out(migration, request.now)


@endpoint(
    router,
    "POST",
    "/migrations/{migration_id}/resume",
    needs=MIGRATE,
    gives=MigrationOut,
    refuses=[404, 409],
    example={"reason": ""},
)
def resume_migration(request: ApiRequest, migration_id: Id, body: MigrationReasonIn) -> MigrationOut:
    """Go on with a paused one."""
    migration = verbs.resume(_find(migration_id), reason=body.reason, actor=request.auth.actor, now=request.now)
    return _out(migration, request.now)


@endpoint(
    router,
    "POST",
    "/migrations/{migration_id}/stop",
    needs=MIGRATE,
    gives=MigrationOut,
    refuses=[404, 409],
    example=WHY,
)
def stop_migration(request: ApiRequest, migration_id: Id, body: MigrationReasonIn) -> MigrationOut:
    """Move nobody else. Who is moved stays so until it is taken back."""
    migration = verbs.stop(_find(migration_id), reason=body.reason, actor=request.auth.actor, now=request.now)
    return _out(migration, request.now)


@endpoint(
    router,
    "POST",
    "/migrations/{migration_id}/take-back",
    needs=MIGRATE,
    gives=MigrationOut,
    refuses=[404, 409],
    example=WHY,
)
def take_migration_back(request: ApiRequest, migration_id: Id, body: MigrationReasonIn) -> MigrationOut:
    """Take the whole back, batch by batch. Contracts whose new version is invoiced already are kept and listed."""
    verbs.take_back(_find(migration_id), reason=body.reason, actor=request.auth.actor, now=request.now)
    return _out(_find(migration_id), request.now)


@endpoint(
    router,
    "POST",
    "/migrations/{migration_id}/rows/{subscription_id}/retry",
    needs=MIGRATE,
    gives=MigrationRowOut,
    refuses=[404, 409],
)
def retry_migration_row(request: ApiRequest, migration_id: Id, subscription_id: Id) -> MigrationRowOut:
    """Try one contract again that was skipped or failed; the answer says what came of it."""
    row = _row(migration_id, subscription_id)
    verbs.retry(row, now=request.now)
    return _row_out(row, request.now)


@endpoint(
    router,
    "POST",
    "/migrations/{migration_id}/rows/{subscription_id}/take-back",
    needs=MIGRATE,
    gives=MigrationRowOut,
    refuses=[404, 409],
    example=WHY,
)
def take_migration_row_back(
    request: ApiRequest, migration_id: Id, subscription_id: Id, body: MigrationReasonIn
) -> MigrationRowOut:
    """Take one contract back. When its new version is invoiced already it is `kept`, and the answer says why."""
    row = _row(migration_id, subscription_id)
    verbs.take_back_row(row, reason=body.reason, actor=request.auth.actor, now=request.now)
    return _row_out(row, request.now)


def _migrations() -> Any:
    return PlanMigration.objects.select_related("plan", "from_version__plan", "to_version__plan")


def _find(public_id: str) -> PlanMigration:
    found: PlanMigration | None = _migrations().filter(public_id=public_id).first()
    if found is None:
        raise NotFound("migration", public_id)
    return found


def _row(migration_id: str, subscription_id: str) -> MigrationRow:
    rows = MigrationRow.objects.filter(migration=_find(migration_id), subscription__public_id=subscription_id)
    joined = ("migration__plan", "migration__from_version__plan", "migration__to_version__plan", "subscription")
    found: MigrationRow | None = rows.select_related(*joined).first()
    if found is None:
        raise NotFound("migration_row", subscription_id)
    return found


def _row_out(row: MigrationRow, now: datetime) -> MigrationRowOut:
    return MigrationRowOut.of(rows_of(row.migration, now).get(pk=row.pk), row.migration.plan.currency)


def _out(migration: PlanMigration, now: datetime) -> MigrationOut:
    return MigrationOut.of(migration, progress(migration, now))
