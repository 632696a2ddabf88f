"""Overrides of many customers at once: try them, give them, see how far they are, take them back together."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from ninja import Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.errors import OVERRIDE_FIELDS
from billing_admin.api.overrides import GIVE, UNTIL, VALUE, OverrideRevokeIn, OverrideValue, refuse_what_stays
from billing_admin.api.refusals import BadTable, BadValue, NotFound
from billing_admin.api.shapes import Answer, Body, Id, Instant, Problem, Reason, Slug
from billing_admin.csv_file import LARGEST
from billing_admin.csv_table import BadRows
from billing_admin.flows.override_batch import (
    MOST,
    Outcome,
    Result,
    Row,
    begin,
    carry_out,
    dry_run,
    lasting,
    read_rows,
    results,
    revoke_batch,
)
from catalog.after import after_commit
from customers.journal import require_reason
from entitlements.models import OverrideBatch

router = Router(tags=["Overrides"])

BULK = "entitlements.bulk_override"
# So many are given while the caller waits; more are left to the workers.
AT_ONCE = 50
FIELDS = {**OVERRIDE_FIELDS, "customer_id": "customerId", "feature": "featureSlug"}
EXAMPLE = {
    "customers": ["acme", "globex"],
    "featureSlug": "credits",
    "value": 50000,
    "effectiveUntil": "2026-06-01T00:00:00Z",
    "reason": "everybody who waited in the outage",
    "dryRun": True,
}


class Asked(Body):
    """What may stand in a row, or once for all of them."""

    feature_slug: Slug | None = None
    value: OverrideValue = Field(default=None, description=VALUE)
    effective_from: Instant | None = Field(default=None, description="Left out: when the row is carried out.")
    effective_until: Instant | None = Field(default=None, description=f"{UNTIL} In the row, or for all.")
    supersede: bool = Field(default=False, description="End what holds in that time at the new start.")
    reason: Reason = ""


class OverrideRowIn(Asked):
    customer_id: Id
    subscription_id: Id | None = None


class OverrideBulkIn(Asked):
    customers: Annotated[list[Id], Field(min_length=1, max_length=MOST)] | None = Field(
        default=None, description="The same for all of these."
    )
    rows: Annotated[list[OverrideRowIn], Field(min_length=1, max_length=MOST)] | None = Field(
        default=None, description="What a row leaves out is as beside `rows`."
    )
    csv: Annotated[str, Field(max_length=LARGEST)] | None = Field(
        default=None, description="Rows as a text that says everything; its first line names the columns."
    )
    dry_run: bool = Field(default=False, description="Say what would happen; give nothing.")

    def wanted(self) -> list[Row]:
        """The rows, numbered from 0, of a text by its lines. Raises `BadValue` for what is said nowhere, `BadTable`."""
        if sum(said is not None for said in (self.customers, self.rows, self.csv)) != 1:
            raise BadValue("rows", "Send either customers, rows or csv.")
        if self.csv is not None:
            return _of_text(self.csv)
        if self.rows is None:
            return [self._row(OverrideRowIn(customer_id=name), n) for n, name in enumerate(self.customers or [])]
        return [self._row(row, n) for n, row in enumerate(self.rows)]

    def _row(self, row: OverrideRowIn, place: int) -> Row:
        def said(name: str, field: str, *, needed: bool = False) -> Any:
            for who in (row, self):
                if name in who.model_fields_set:
                    return getattr(who, name)
            if needed:
                where = field if self.rows is None else f"rows.{place}.{field}"
                raise BadValue(where, f"{where} is required.", "missing_field")
            return getattr(self, name)

        return Row(
            line=place,
            customer_id=row.customer_id,
            feature=said("feature_slug", "featureSlug", needed=True) or "",
            value=said("value", "value", needed=True),
            until=said("effective_until", "effectiveUntil", needed=True),
            starts=said("effective_from", "effectiveFrom"),
            reason=row.reason,
            subscription=row.subscription_id or "",
            supersede=said("supersede", "supersede"),
        )


def _of_text(text: str) -> list[Row]:
    try:
        return read_rows(text)
    except BadRows as refused:
        problems = (
            {"code": "bad_cell", "message": found.message, "field": f"csv.{found.line}.{found.column}"}
            for found in refused.problems
        )
        raise BadTable(problems) from None


class OverrideRowOut(Answer):
    row: int = Field(description="Its place in the request, from 0; of `csv`, its line.")
    customer_id: str
    feature_slug: str
    state: Literal["would_give", "waiting", "given", "refused", "given_up"]
    before: str | None = Field(default=None, description="Of a dry run: the access without it.", examples=["100"])
    after: str | None = Field(default=None, description="Of a dry run: the access with it.", examples=["50,000"])
    override_id: str | None = None
    error: Problem | None = None

    @classmethod
    def would(cls, outcome: Outcome) -> Self:
        row = outcome.row
        return cls(
            row=row.line,
            customer_id=row.customer_id,
            feature_slug=row.feature,
            state="refused" if outcome.problem else "would_give",
            before=outcome.before or None,
            after=outcome.after or None,
            error=_problem(outcome.code, outcome.problem, outcome.column),
        )

    @classmethod
    def did(cls, result: Result) -> Self:
        row = result.row
        return cls(
            row=row.line,
            customer_id=row.customer_id,
            feature_slug=row.feature,
            state=result.state.replace(" ", "_"),  # type: ignore[arg-type]  # one of them
            override_id=result.override.public_id if result.override else None,
            error=_problem(result.code, result.why, result.column),
        )


class OverrideBatchOut(Answer):
    id: str | None = Field(description="Null for a dry run.", examples=["bat_9aQ2mZ8TqVbNc1R4"])
    state: Literal["dry_run", "running", "finished", "revoked"]
    total: int
    done: int = Field(description="Rows that were given or refused so far.")
    refused: int
    reason: str
    created_by: str | None
    created_at: datetime
    finished_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    revoke_reason: str | None = None
    rows: list[OverrideRowOut]

    @classmethod
    def of(cls, batch: OverrideBatch) -> Self:
        state = "revoked" if batch.revoked_at else "finished" if batch.finished_at else "running"
        return cls(
            id=batch.public_id,
            state=state,  # type: ignore[arg-type]  # one of them
            total=batch.total,
            done=batch.done,
            refused=len(batch.failures),
            reason=batch.reason,
            created_by=batch.created_by,
            created_at=batch.created_at,
            finished_at=batch.finished_at,
            revoked_at=batch.revoked_at,
            revoked_by=batch.revoked_by or None,
            revoke_reason=batch.revoke_reason or None,
            rows=[OverrideRowOut.did(result) for result in results(batch)],
        )

    @classmethod
    def tried(cls, outcomes: Sequence[Outcome], reason: str, now: datetime) -> Self:
        return cls(
            id=None,
            state="dry_run",
            total=len(outcomes),
            done=0,
            refused=sum(bool(outcome.problem) for outcome in outcomes),
            reason=reason,
            created_by=None,
            created_at=now,
            rows=[OverrideRowOut.would(outcome) for outcome in outcomes],
        )


def _problem(code: str, message: str, column: str) -> Problem | None:
    return Problem(code=code, message=message, field=FIELDS.get(column, column) or None) if message else None


@endpoint(
    router, "POST", "/overrides/bulk", needs=BULK, gives=OverrideBatchOut, also=ASKED, refuses=[409], example=EXAMPLE
)
def override_many(request: ApiRequest, body: OverrideBulkIn) -> OverrideBatchOut:
    """Give overrides to up to 1,000 customers as one batch.

    Each row stands by itself: one that is refused is told with its reason, and holds up no other. Up to 50 rows are
    given before the answer; more are `running`, and the batch says how far they are. A permanent one, and superseding
    such a one, takes `entitlements.add_featureoverride`, too.
    """
    rows, now = body.wanted(), request.now
    if lasting(rows, now):
        refuse_what_stays(request.auth, None)
    reason = require_reason(body.reason, "overrides of many customers")
    if body.dry_run:
        return OverrideBatchOut.tried(dry_run(rows, now), reason, now)
    batch = begin(rows, reason, request.auth.actor, now)
    if len(rows) <= AT_ONCE:
        carry_out(batch, now)
    else:
        hand_over(batch)
    return OverrideBatchOut.of(_find(batch.public_id))


@endpoint(router, "GET", "/override-batches/{batch_id}", needs=BULK, gives=OverrideBatchOut, refuses=[404])
def read_override_batch(request: ApiRequest, batch_id: Id) -> OverrideBatchOut:
    """How far a batch is, and what became of each row."""
    return OverrideBatchOut.of(_find(batch_id))


@endpoint(
    router,
    "POST",
    "/override-batches/{batch_id}/revoke",
    needs=BULK,
    gives=OverrideBatchOut,
    refuses=[404],
    example={"reason": "the wrong list"},
)
def revoke_override_batch(request: ApiRequest, batch_id: Id, body: OverrideRevokeIn) -> OverrideBatchOut:
    """Stop all overrides of a batch at once; rows that wait are never given. Again: no error, no change."""
    batch = _find(batch_id)
    if batch.overrides.filter(effective_until=None).exists():
        request.auth.require(GIVE)
    revoke_batch(batch, body.reason, request.auth.actor, request.now)
    return OverrideBatchOut.of(_find(batch_id))


def hand_over(batch: OverrideBatch) -> None:
    """Let a worker carry it out as soon as it is written. Should the queue be away, the next pass finds it."""
    from billing_admin.tasks import carry_out_batch  # Celery takes memory that web processes need only here

    after_commit(carry_out_batch.apply_async, [batch.public_id], retry=False)


def _find(public_id: str) -> OverrideBatch:
    found = OverrideBatch.objects.filter(public_id=public_id).first()
    if found is None:
        raise NotFound("override_batch", public_id)
    return found
