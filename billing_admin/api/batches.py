"""Imports and bulk acts: tried first, confirmed as they were tried, followed row by row, stopped, taken back."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Literal, Self

from django.db.models import QuerySet
from ninja import Query, Router
from pydantic import Field
from pydantic.alias_generators import to_camel

from billing_admin.admin.customer import CustomerFilter
from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, Caller, endpoint
from billing_admin.api.finding import page_of
from billing_admin.api.refusals import BadTable, BadValue, NotFound
from billing_admin.api.shapes import Answer, Body, Id, Money, Page, Problem, Quantity, Rate, Reason, Slug
from billing_admin.csv_file import LARGEST
from billing_admin.csv_table import BadRows
from billing_admin.flows import batches as verbs
from billing_admin.flows.batches import MOST, Row, State
from billing_admin.models import Batch, BatchRow
from billing_admin.row_acts import ROW_ACTS, RowAct
from catalog.money import plain
from customers.models import Customer

router = Router(tags=["Batches"])

VIEW = "billing_admin.view_batch"
# The cells that a batch for chosen customers has from elsewhere.
NOT_SAID = ("customer_id", "reason")
# Once it was confirmed, saying so again changes nothing.
CONFIRMED = (State.RUNNING, State.STOPPED, State.FINISHED)
OVERRIDES = "overrides"
EXAMPLE = {
    "act": "grants",
    "inputs": {"feature": "credits", "units": 500, "until": "2027-01-01", "label": "Sorry"},
    "customers": ["acme", "globex"],
    "reason": "the outage of March",
}
WHY = {"reason": "the wrong list"}


# What comes in --------------------------------------------------------------------------------------------------------

# As long as the longest text that a column takes: one for many customers is kept with each of them.
Cell = Annotated[str, Field(max_length=5_000)] | Rate | None
Cells = dict[Slug, Cell]


class CustomersMatching(Body):
    """The conditions of the list of customers in the desk; closed customers are never among them."""

    q: str = Field(default="", max_length=200, description="How a name, an id or an e-mail begins.")
    plan: str = Field(default="", max_length=60, description="Key of a plan that they are on.", examples=["pro"])
    state: Literal["", "active", "past_due", "canceling", "parked", "none"] = ""

    def rows(self, now: datetime) -> QuerySet[Customer]:
        """Raises `BadValue` for a plan that is none, where the page would show everybody."""
        form = CustomerFilter(self.model_dump())
        if not form.is_valid():
            name, problems = next(iter(form.errors.items()))
            raise BadValue(f"filter.{name}", str(problems[0]))
        return form.narrowed(Customer.objects.all(), now)

    def words(self) -> str:
        return "&".join(f"{name}={value}" for name, value in self.model_dump().items() if value)


class BatchIn(Body):
    act: str = Field(
        max_length=40,
        description="What each row does.",
        json_schema_extra={"enum": [*sorted(ROW_ACTS)]},
        examples=["grants"],
    )
    inputs: Cells = Field(
        default_factory=dict,
        description="With `customers` or `filter`: the columns of the act, the same for everybody.",
    )
    customers: Literal["all"] | Annotated[list[Id], Field(min_length=1, max_length=MOST)] | None = Field(
        default=None, description="The same act for all, or for those with these ids."
    )
    filter: CustomersMatching | None = Field(default=None, description="The same act for all that match now.")
    rows: Annotated[list[Cells], Field(min_length=1, max_length=MOST)] | None = Field(
        default=None, description="An import: in each row the columns of the act."
    )
    csv: Annotated[str, Field(max_length=LARGEST)] | None = Field(
        default=None, description="The same as a text; its first line names the columns."
    )
    title: str = Field(default="", max_length=300, description="What people read, such as the name of the file.")
    reason: Reason = ""
    again: bool = Field(default=False, description="The same rows were imported before, and are wanted again.")

    @property
    def source(self) -> str:
        """Which of the four ways to say it was taken. Raises `BadValue` for none or several."""
        said = [name for name in ("customers", "filter", "rows", "csv") if getattr(self, name) is not None]
        if len(said) != 1:
            raise BadValue("rows", "Send one of customers, filter, rows and csv.", "missing_field")
        return said[0]

    def begin(self, caller: Caller, now: datetime) -> Batch:
        """Raises `BadTable` with each cell that is wrong, and what the verbs raise."""
        act, source = find_act(self.act), self.source
        require_begin(caller, act)
        if source in ("rows", "csv") and self.inputs:
            raise BadValue("inputs", "Inputs go with customers or filter; here each row says everything.")
        made = {"csv": self._of_csv, "rows": self._of_rows}.get(source, self._of_customers)
        if source in ("customers", "filter"):
            caller.require("customers.view_customer")
        try:
            return made(act, caller, now)
        except BadRows as refused:
            raise BadTable(
                problem_of(source, act, found.line, found.column, found.message) for found in refused.problems
            ) from None

    def _of_csv(self, act: RowAct, caller: Caller, now: datetime) -> Batch:
        text = self.csv or ""
        verbs.refuse_again(act.key, verbs.digest_of(act.key, text), again=self.again)
        said = {"name": self.title or "rows through the API", "reason": self.reason}
        return verbs.begin_file(act.key, text, **said, user=caller.holder, now=now)

    def _of_rows(self, act: RowAct, caller: Caller, now: datetime) -> Batch:
        rows = [cells_of(row, f"rows.{place}") for place, row in enumerate(self.rows or [])]
        said = {"title": self.title or "rows through the API", "reason": self.reason}
        return verbs.begin_rows(act.key, rows, **said, user=caller.holder, now=now, again=self.again)

    def _of_customers(self, act: RowAct, caller: Caller, now: datetime) -> Batch:
        inputs = cells_of(self.inputs, "inputs")
        for name in NOT_SAID:
            if name in inputs:
                raise BadValue(f"inputs.{to_camel(name)}", "This is said beside the inputs.", "unknown_field")
        ids, who = self._chosen(now)
        number = f"{len(ids):,} {'customer' if len(ids) == 1 else 'customers'}"
        said = {"title": self.title or f"{number}: {who}", "reason": self.reason}
        return verbs.begin_chosen(act.key, ids, inputs, **said, user=caller.holder, now=now)

    def _chosen(self, now: datetime) -> tuple[list[str], str]:
        """The ids, one more than a batch takes at most; and who they are in words."""
        if isinstance(self.customers, list):
            return self.customers, "named through the API"
        matching = self.filter or CustomersMatching()
        rows = matching.rows(now).order_by("name", "pk")
        words = matching.words()
        return list(
            rows.values_list("customer_id", flat=True)[: MOST + 1]
        ), f"all that match {words}" if words else "all"


class BatchConfirmIn(Body):
    confirmation: str = Field(max_length=64, description="Of the batch as it was tried.")


class BatchReasonIn(Body):
    reason: Reason = ""


def find_act(key: str) -> RowAct:
    if key == OVERRIDES:
        raise BadValue("act", "Overrides have a call of their own: POST /overrides/bulk.", "unknown_kind")
    if key not in ROW_ACTS:
        raise BadValue(
            "act", f"There is no such import or bulk act. Use {', '.join(sorted(ROW_ACTS))}.", "unknown_kind"
        )
    return ROW_ACTS[key]


def cells_of(said: Cells, where: str) -> dict[str, str]:
    """Cells by column, as a file has them. Raises `BadValue` for a column that is said twice."""
    cells: dict[str, str] = {}
    for name, value in said.items():
        column = re.sub(r"(?<=[a-z])[A-Z]", lambda found: f"_{found[0]}", name).lower()
        if column in cells:
            raise BadValue(f"{where}.{name}", "This column stands twice.", "bad_rows")
        cells[column] = "" if value is None else plain(value) if isinstance(value, Decimal) else value
    return cells


def problem_of(source: str, act: RowAct, line: int, column: str, message: str) -> dict[str, str]:
    """In `field` the place as the caller wrote it: `rows.0.usageStartedAt`, `csv.2.usage_started_at` (by lines; the
    heading is line 1), `inputs.feature`."""
    known = column in {known.name for known in act.columns}
    name = to_camel(column) if known else column
    where = {"csv": f"csv.{line}.{column}", "rows": f"rows.{line - 2}.{name}"}.get(source, f"inputs.{name}")
    return {"code": "bad_cell", "message": message, "field": source if where == "inputs.customerId" else where}


# What goes out --------------------------------------------------------------------------------------------------------


class BatchCounts(Answer):
    """Rows by where they are."""

    total: int
    read: int = Field(description="Not tried yet.")
    ready: int = Field(description="Would be done, or wait to be.")
    left_out: int = Field(description="Would be refused, so they are not done.")
    done: int
    failed: int
    taken_back: int
    kept: int = Field(description="Could not be taken back.")


class BatchBrief(Answer):
    id: str = Field(examples=["imp_9aQ2mZ8TqVbNc1R4"])
    act: str = Field(examples=["grants"])
    source: Literal["file", "chosen"] = Field(description="An import, or one act for customers who were chosen.")
    title: str
    state: Literal["trying", "tried", "running", "stopped", "finished", "taking_back", "taken_back"]
    reason: str
    created_by: str
    created_at: datetime
    confirmed_at: datetime | None
    finished_at: datetime | None
    approved_by: str | None
    taken_back_by: str | None
    take_back_reason: str | None
    counts: BatchCounts

    @classmethod
    def of(cls, batch: Batch, number: Mapping[str, int], **more: object) -> Self:
        return cls(
            id=batch.public_id,
            act=batch.kind,
            source=batch.source,  # type: ignore[arg-type]  # one of them
            title=batch.title,
            state=batch.state,  # type: ignore[arg-type]  # one of them
            reason=batch.reason,
            created_by=batch.created_by,
            created_at=batch.created_at,
            confirmed_at=batch.confirmed_at,
            finished_at=batch.finished_at,
            approved_by=batch.approved_by or None,
            taken_back_by=batch.taken_back_by or None,
            take_back_reason=batch.take_back_reason or None,
            counts=BatchCounts(total=batch.total, **{state.value: number.get(state, 0) for state in Row}),
            **more,
        )


class BatchUnits(Answer):
    feature_slug: str
    units: Quantity


class BatchOut(BatchBrief):
    confirmation: str | None = Field(description="Once it is tried: send it to have exactly this done.")
    due: list[Money] = Field(description="What the rows that can be done charge at once; while it is tried only.")
    units: list[BatchUnits] = Field(description="Units that they give; while it is tried only.")

    @classmethod
    def read(cls, batch: Batch) -> Self:
        is_tried = batch.state == State.TRIED
        due, units = verbs.totals(batch) if is_tried else ({}, {})
        return cls.of(
            batch,
            verbs.counts(batch),
            confirmation=batch.fingerprint if is_tried else None,
            due=[Money.of(total, currency) for currency, total in sorted(due.items())],
            units=[BatchUnits(feature_slug=slug, units=total) for slug, total in sorted(units.items())],
        )


class BatchesOut(Page):
    data: list[BatchBrief]


RowState = Literal["read", "ready", "left_out", "done", "failed", "taken_back", "kept"]


class BatchRowOut(Answer):
    line: int = Field(description="In the file; the heading is line 1, so the first of `rows` is line 2.")
    customer_id: str | None
    cells: dict[str, str] = Field(description="What was asked for, by column; empty once a customer is erased.")
    state: RowState
    before: str = Field(examples=["Credits: 100 left"])
    after: str = Field(examples=["Credits: 600 left until 1 Jan 2027"])
    problem: Problem | None = Field(description="Why it was left out, failed or kept; `field` is the column.")
    operation_ids: list[str] = Field(description="The acts that came of it.")
    done_at: datetime | None

    @classmethod
    def of(cls, row: BatchRow) -> Self:
        """Reads `customer`, which should be joined."""
        named = str(row.cells.get("customer_id", "")) or None
        problem = Problem(code=row.code or "cannot_take_back", message=row.problem, field=row.column or None)
        return cls(
            line=row.line,
            customer_id=row.customer.customer_id if row.customer else named,
            cells=row.cells,
            state=row.state,  # type: ignore[arg-type]  # one of them
            before=row.before,
            after=row.after,
            problem=problem if row.problem else None,
            operation_ids=row.operations,
            done_at=row.done_at,
        )


class BatchRowsOut(Page):
    data: list[BatchRowOut]


# The calls ------------------------------------------------------------------------------------------------------------


@endpoint(
    router,
    "POST",
    "/batches",
    needs=VIEW,
    gives=BatchOut,
    status=HTTPStatus.CREATED,
    refuses=[409],
    example=EXAMPLE,
)
def begin_batch(request: ApiRequest, body: BatchIn) -> BatchOut:
    """Try an import, or one act for many customers; nothing is done before it is confirmed.

    Every cell that cannot be read is in `errors`, its `field` the place: `rows.0.units`, `csv.2.units` by lines of the
    text, `inputs.units`. Then nothing is kept. Up to 100 rows are tried before the answer, more by the workers: read
    the batch until it is `tried`. Rows that would be refused are left out. It takes the permission that the act takes,
    each row its own. Overrides have `POST /overrides/bulk`.
    """
    batch = verbs.begin_trying(body.begin(request.auth, request.now), request.now)
    return BatchOut.read(batch)


@endpoint(router, "GET", "/batches", needs=VIEW, gives=BatchesOut)
def list_batches(
    request: ApiRequest,
    cursor: Annotated[Id | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> BatchesOut:
    """Imports and bulk acts of everybody, the newest first."""
    found, after = page_of(Batch.objects.all(), cursor, limit)
    number = verbs.counts_of(found)
    return BatchesOut(data=[BatchBrief.of(batch, number[batch.pk]) for batch in found], next_cursor=after)


@endpoint(router, "GET", "/batches/{import_id}", needs=VIEW, gives=BatchOut, refuses=[404])
def read_batch(request: ApiRequest, import_id: Id) -> BatchOut:
    """How far it is: its rows by state; once tried, what they come to and the `confirmation` to send."""
    return BatchOut.read(_find(import_id))


@endpoint(router, "GET", "/batches/{import_id}/rows", needs=VIEW, gives=BatchRowsOut, refuses=[404])
def list_batch_rows(
    request: ApiRequest,
    import_id: Id,
    state: Annotated[RowState | None, Query()] = None,
    cursor: Annotated[Id | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> BatchRowsOut:
    """What each row would do, or what became of it, by lines; `cursor` is the line that the last page ended with."""
    rows = _find(import_id).rows.select_related("customer").order_by("line")
    if cursor is not None:
        if not cursor.isdecimal() or len(cursor) > 9:
            raise BadValue("cursor", "This is not a cursor of this list.", "bad_cursor")
        rows = rows.filter(line__gt=int(cursor))
    if state is not None:
        rows = rows.filter(state=state)
    found = list(rows[: limit + 1])
    shown = found[:limit]
    return BatchRowsOut(
        data=[BatchRowOut.of(row) for row in shown],
        next_cursor=str(shown[-1].line) if len(found) > limit else None,
    )


@endpoint(
    router,
    "POST",
    "/batches/{import_id}/confirm",
    needs=VIEW,
    gives=BatchOut,
    also=ASKED,
    refuses=[404, 409],
    example={"confirmation": "5f3c9a0e4b7d4c1f8a2e6b9d0c3f7a1e"},
)
def confirm_batch(request: ApiRequest, import_id: Id, body: BatchConfirmIn) -> BatchOut:
    """Have the rows that are `ready` done, exactly as they were tried.

    It takes what all of its rows take, whoever began it; they are done with the rights of whoever began it. Workers do
    them one by one. Where a rule wants a second person the answer is 202, and nothing is done before they approve.
    Again: no error, no change.
    """
    batch = _held_by(request.auth, import_id, lambda batch: verbs.needs_of(batch, Row.READY))
    if batch.state not in CONFIRMED or batch.fingerprint != body.confirmation:
        verbs.confirm(batch, body.confirmation, actor=request.auth.actor, now=request.now)
    return BatchOut.read(batch)


@endpoint(router, "POST", "/batches/{import_id}/stop", needs=VIEW, gives=BatchOut, refuses=[404, 409])
def stop_batch(request: ApiRequest, import_id: Id) -> BatchOut:
    """Hold the rows that wait. What is done stays until it is taken back."""
    batch = _held_by(request.auth, import_id)
    verbs.stop(batch, actor=request.auth.actor, now=request.now)
    return BatchOut.read(batch)


@endpoint(router, "POST", "/batches/{import_id}/resume", needs=VIEW, gives=BatchOut, refuses=[404, 409])
def resume_batch(request: ApiRequest, import_id: Id) -> BatchOut:
    """Go on with a stopped one."""
    batch = _held_by(request.auth, import_id, lambda batch: verbs.needs_of(batch, Row.READY))
    verbs.resume(batch, actor=request.auth.actor, now=request.now)
    return BatchOut.read(batch)


@endpoint(router, "POST", "/batches/{import_id}/retry", needs=VIEW, gives=BatchOut, refuses=[404, 409])
def retry_batch(request: ApiRequest, import_id: Id) -> BatchOut:
    """Try the rows again that failed, and only those; they are to be confirmed anew."""
    batch = _held_by(request.auth, import_id)
    verbs.retry_failed(batch, actor=request.auth.actor, now=request.now)
    return BatchOut.read(verbs.begin_trying(batch, request.now))


@endpoint(router, "POST", "/batches/{import_id}/undo", needs=VIEW, gives=BatchOut, refuses=[404, 409], example=WHY)
def undo_batch(request: ApiRequest, import_id: Id, body: BatchReasonIn) -> BatchOut:
    """Take every row back that was done, the last first; workers do it. Rows that wait are never done.

    It takes the permissions of the acts and of what takes them back. What cannot be taken back is `kept`, and its row
    says why.
    """
    batch = _held_by(request.auth, import_id, verbs.needs_back)
    verbs.take_back(batch, reason=body.reason, actor=request.auth.actor, now=request.now)
    return BatchOut.read(batch)


def require_begin(caller: Caller, act: RowAct) -> None:
    """Whether there are rows that this key may do; each row asks for its own."""
    if not any(caller.may(permission) for permission in act.anyhow):
        caller.require(act.anyhow[0])


def _held_by(caller: Caller, public_id: str, needs: Callable[[Batch], Iterable[str]] = lambda _batch: ()) -> Batch:
    """A batch for whoever may act on it, whoever began it."""
    batch = _find(public_id)
    require_begin(caller, verbs.find_act(batch.kind))
    caller.require(*needs(batch))
    return batch


def _find(public_id: str) -> Batch:
    found = Batch.objects.select_related("user", "key").filter(public_id=public_id).first()
    if found is None:
        raise NotFound("batch", public_id)
    return found
