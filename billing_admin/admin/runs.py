"""What the workers did and could not do, what is due next, and the acts that take a failure out of the way."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, F, Max, Min, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from billing_admin import list_runs, migration_runs, runs, stripe_runs
from billing_admin.access import allowed, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, link
from billing_admin.flows.dry_run import dry_run
from billing_admin.models import Heartbeat, WorkerFailure, WorkerRun
from billing_admin.pages import render_page
from catalog.money import format_minor
from customers.journal import Actor
from customers.models import Customer, Phase, Subscription
from customers.states import LIVE
from entitlements.models import Balance
from invoicing.models import Invoice
from payments.under_way import at_rest

A_PAGE = 30
MOST_GROUPS, MOST_NAMED, MOST_PARKED, MOST_COUNTED = 20, 6, 50, 10_000
# A retry happens while a person waits; more than these are left to the next pass.
MOST_RETRIED = 25
SILENT_AFTER = timedelta(minutes=3)
# A pass is stopped after nine minutes at the latest (`task_time_limit`), so an older open record was cut short.
CUT_SHORT_AFTER = timedelta(minutes=10)
MAY_RETRY = "billing_admin.change_workerrun"

TASKS = {
    runs.RENEWALS: "Renewals",
    runs.RESETS: "Resets",
    runs.DRAFTS: "Drafts",
    runs.EXPIRIES: "Unpaid first invoices",
    runs.DUNNING: "Overdue invoices",
    runs.ERASURES: "Erasures",
    runs.ACCEPTED: "Accepted use",
    runs.BATCHES: "Overrides of many customers",
    runs.ENDS: "Overrides that end soon",
    runs.APPROVALS: "Requests for approval that ran out",
    runs.MONTHS: "Months of events",
    runs.ARCHIVE: "Archive of events",
    **list_runs.NAMES,
    **migration_runs.NAMES,
    **stripe_runs.NAMES,
}
WORDS = {
    "expired": ("expired", "expired"),
    "reminders": ("reminder", "reminders"),
    "given_up": ("given up", "given up"),
    "invoices": ("invoice", "invoices"),
    "credit_notes": ("credit note", "credit notes"),
    "windows": ("window", "windows"),
}


# Reading -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pulse:
    """Whether the workers are heard, and since when not."""

    heard_at: datetime | None
    silent_for: str
    looked: tuple[tuple[str, datetime], ...]

    @property
    def silent(self) -> bool:
        return bool(self.silent_for)


def pulse(now: datetime) -> Pulse:
    beats = dict(Heartbeat.objects.values_list("name", "at"))
    heard_at = beats.get(runs.CLOCKWORK_HEARD)
    silent = heard_at is None or now - heard_at > SILENT_AFTER
    return Pulse(
        heard_at,
        (ago(now - heard_at) if heard_at else "ever") if silent else "",
        tuple((words, beats[name]) for name, words in TASKS.items() if name in beats),
    )


def ago(span: timedelta) -> str:
    """`4 min`, `2 h 14 min`, `3 days`."""
    minutes = max(0, int(span.total_seconds())) // 60
    if minutes >= 48 * 60:
        return f"{minutes // 1440} days"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


@dataclass(frozen=True, slots=True)
class RunRow:
    """One pass in a line."""

    title: str
    url: str
    at: datetime
    took: str
    done: int
    what: str
    money: tuple[str, ...]
    failed: int
    state: tuple[str, str]
    asked_by: str


def run_row(run: WorkerRun, now: datetime) -> RunRow:
    counts = [
        f"{number:,} {WORDS[name][number != 1]}" for name, number in run.effects.items() if name in WORDS and number
    ]
    money = [format_minor(minor, currency) for currency, minor in run.effects.get("money", {}).items()]
    money += [format_minor(minor, currency) for currency, minor in run.effects.get("credited", {}).items()]
    return RunRow(
        title=TASKS.get(run.task, run.task),
        url=link("billing_admin_workerrun_change", run.pk),
        at=run.started_at,
        took=_took(run),
        done=run.done,
        what=", ".join(counts),
        money=tuple(money),
        failed=run.failed,
        state=_state(run, now),
        asked_by=run.effects.get("asked_by", ""),
    )


def _took(run: WorkerRun) -> str:
    if run.finished_at is None:
        return ""
    seconds = (run.finished_at - run.started_at).total_seconds()
    return ago(run.finished_at - run.started_at) if seconds >= 120 else f"{seconds:.1f} s"


def _state(run: WorkerRun, now: datetime) -> tuple[str, str]:
    """(word, label). What a pass had done before it was cut short is kept, and the next one went on from there."""
    if run.finished_at is None:
        return ("open", "Running") if now - run.started_at < CUT_SHORT_AFTER else ("draft", "Cut short")
    return ("failed", f"{run.failed:,} failed") if run.failed else ("active", "Done")


@dataclass(frozen=True, slots=True)
class Failed:
    """One customer or contract that a pass could not finish."""

    id: int
    what: str
    name: str
    url: str
    at: datetime
    detail: str


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Equal causes together: `count` customers or contracts, of whom a few are named."""

    cause: str
    count: int
    since: datetime
    last: datetime
    named: tuple[Failed, ...]


def failure_groups(open_failures: "QuerySet[WorkerFailure]") -> list[FailureGroup]:
    """Open failures by cause, the largest group first; four queries."""
    groups = list(
        open_failures.order_by()
        .values("cause")
        .annotate(count=Count("what", distinct=True), since=Min("at"), last=Max("at"))
        .order_by("-count", "cause")[:MOST_GROUPS]
    )
    newest = open_failures.filter(cause__in=[group["cause"] for group in groups]).order_by("-id")[:200]
    by_cause: dict[str, dict[str, WorkerFailure]] = {}
    for failure in newest:
        by_cause.setdefault(failure.cause, {}).setdefault(failure.what, failure)
    chosen = [f for found in by_cause.values() for f in list(found.values())[:MOST_NAMED]]
    rows = {row.id: row for row in failed_rows(chosen)}
    return [
        FailureGroup(
            named=tuple(rows[f.pk] for f in by_cause.get(group["cause"], {}).values() if f.pk in rows), **group
        )
        for group in groups
    ]


def failed_rows(failures: Iterable[WorkerFailure]) -> list[Failed]:
    """Failures with the customers whom they name; two queries."""
    failures = list(failures)
    ids = [failure.what for failure in failures]
    customers = {c.public_id: c for c in Customer.objects.filter(public_id__in=ids)} if ids else {}
    contracts = Subscription.objects.filter(public_id__in=ids).select_related("customer") if ids else []
    customers |= {contract.public_id: contract.customer for contract in contracts}
    return [
        Failed(
            failure.pk,
            failure.what,
            customers[failure.what].name if failure.what in customers else failure.what,
            customer_link(customers[failure.what].pk) if failure.what in customers else "",
            failure.at,
            failure.detail,
        )
        for failure in failures
    ]


@dataclass(frozen=True, slots=True)
class Due:
    """How much of one kind of work is due now, in a day, in a week; capped where counting would be slow."""

    what: str
    now: str
    day: str
    week: str


def due_next(now: datetime) -> list[Due]:
    """What will happen by itself, from the columns that the workers ask."""
    ends = [now, now + timedelta(days=1), now + timedelta(days=7)]
    waiting = Subscription.objects.filter(state__in=LIVE, parked_at=None)
    # A contract is billed no later than its scheduled change or end, so its index serves those two as well.
    phases = Phase.objects.kept().filter(
        subscription__state__in=LIVE,
        subscription__parked_at=None,
        starts_at__gt=F("subscription__started_at"),
        starts_at__gte=F("subscription__bills_at"),
    )
    until: list[tuple[str, Any]] = [
        ("Renewals", lambda end: waiting.filter(bills_at__lte=end)),
        ("Scheduled changes", lambda end: phases.filter(subscription__bills_at__lte=end, starts_at__lte=end)),
        ("Planned ends", lambda end: waiting.filter(bills_at__lte=end, ends_at__lte=end)),
        ("Drafts to issue", lambda end: Invoice.objects.to_issue(end).filter(awaits_approval=False)),
        ("Unpaid first invoices", lambda end: at_rest(Invoice.objects.expired(end))),
        ("Reminders", lambda end: at_rest(Invoice.objects.to_remind(end))),
        ("Resets", lambda end: Balance.objects.filter(closed_at=None, ends_at__lte=end)),
        ("Erasures", lambda end: Customer.objects.to_erase(end)),
    ]
    return [Due(what, *(capped(rows(end)) for end in ends)) for what, rows in until]


def capped(rows: "QuerySet[Any]") -> str:
    number = rows.order_by()[: MOST_COUNTED + 1].count()
    return f"{MOST_COUNTED:,}+" if number > MOST_COUNTED else f"{number:,}"


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A contract that waits for a person."""

    id: int
    public_id: str
    customer: str
    url: str
    product: str
    since: datetime
    because: str


def parked_rows() -> list[ParkedRow]:
    rows = Subscription.objects.parked().select_related("customer", "product").order_by("parked_at", "id")
    return [
        ParkedRow(
            row.pk,
            row.public_id,
            row.customer.name,
            customer_link(row.customer_id),
            row.product.name,
            row.parked_at,
            row.parked_because,
        )
        for row in rows[:MOST_PARKED]
    ]


# Pages ---------------------------------------------------------------------------------------------------------------


@requires("billing_admin.view_workerrun")
def run_page(request: HttpRequest) -> HttpResponse:
    now, before = moment(request), request.GET.get("before", "")
    rows = WorkerRun.objects.filter(pk__lt=int(before)) if before.isdecimal() else WorkerRun.objects.all()
    found = list(rows.order_by("-id")[: A_PAGE + 1])
    return render_page(
        request,
        "runs/page.html",
        trail=[("Runs", "")],
        pulse=pulse(now),
        groups=failure_groups(runs.open_failures()),
        parked=parked_rows(),
        due=due_next(now),
        rows=[run_row(run, now) for run in found[:A_PAGE]],
        older=f"?before={found[A_PAGE - 1].pk}" if len(found) > A_PAGE else "",
        first=not before,
        may_retry=allowed(request, MAY_RETRY),
    )


@requires("billing_admin.view_workerrun")
def one_run(request: HttpRequest, object_id: str) -> HttpResponse:
    run = WorkerRun.objects.filter(pk=int(object_id)).first() if object_id.isdecimal() else None
    if run is None:
        raise Http404("There is no such run.")
    row = run_row(run, moment(request))
    failures = list(run.failures.order_by("-id")[:100])
    return render_page(
        request,
        "runs/one.html",
        trail=[("Runs", link("billing_admin_workerrun_changelist")), (row.title, "")],
        run=run,
        row=row,
        export_query={"run": run.pk},
        failures=list(zip(failures, failed_rows(failures), strict=True)),
        may_retry=allowed(request, MAY_RETRY),
    )


# How far ahead a dry run looks, and at how many: a person waits for it.
AHEAD = {"now": ("Now", timedelta()), "day": ("24 hours", timedelta(days=1)), "week": ("7 days", timedelta(days=7))}
MOST_TRIED = 200


@requires("billing_admin.view_workerrun")
def dry_run_page(request: HttpRequest) -> HttpResponse:
    """What the billing run would do; nothing is written."""
    chosen = request.GET.get("until", "")
    chosen = chosen if chosen in AHEAD else "now"
    until = moment(request) + AHEAD[chosen][1]
    found = dry_run(until, MOST_TRIED)
    return render_page(
        request,
        "runs/dry.html",
        trail=[("Runs", link("billing_admin_workerrun_changelist")), ("Dry run", "")],
        found=found,
        rows=[(row, customer_link(row.customer.pk)) for row in found.rows],
        until=until,
        chosen=chosen,
        choices=[(word, label) for word, (label, _) in AHEAD.items()],
    )


@admin.register(WorkerRun)
class WorkerRunAdmin(ModelAdmin):
    """Records of the clockwork: read, retried, never edited."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: WorkerRun | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        return [
            path("dry-run/", self.admin_site.admin_view(dry_run_page), name="dry_run"),
            path("retry/", self.admin_site.admin_view(retry), name="retry_failures"),
            path("unpark/<int:pk>/", self.admin_site.admin_view(unpark), name="unpark_contract"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return run_page(request)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return one_run(request, object_id)


# Acts ----------------------------------------------------------------------------------------------------------------


@require_POST
@requires(MAY_RETRY)
def retry(request: HttpRequest) -> HttpResponse:
    """Try one failure again, or all of a cause."""
    failures = runs.open_failures().select_related("run").order_by("id")
    one = request.POST.get("failure", "")
    failures = failures.filter(pk=int(one)) if one.isdecimal() else failures.filter(cause=request.POST.get("cause", ""))
    chosen = {failure.what: failure for failure in failures}
    if not chosen:
        messages.info(request, "Somebody was faster: there is nothing left to retry.")
        return _back()
    tried = runs.retry(list(chosen.values())[:MOST_RETRIED], actor=Actor.of(request.user), now=moment(request))
    failed = sum(run.failed for run in tried)
    left = len(chosen) - min(len(chosen), MOST_RETRIED)
    _say(request, min(len(chosen), MOST_RETRIED), failed, left)
    return _back()


def _say(request: HttpRequest, tried: int, failed: int, left: int) -> None:
    more = f" The other {left:,} are tried by the next pass." if left else ""
    if not failed:
        messages.success(request, f"{tried:,} tried again, all done.{more}")
    elif failed < tried:
        messages.warning(request, f"{tried:,} tried again: {tried - failed:,} done, {failed:,} failed.{more}")
    else:
        messages.error(request, f"{tried:,} tried again, and it failed again.{more} The cause is below.")


@require_POST
@requires(MAY_RETRY)
def unpark(request: HttpRequest, pk: int) -> HttpResponse:
    """Hand a parked contract back to the clockwork, and try at once."""
    subscription = Subscription.objects.parked().select_related("customer").filter(pk=pk).first()
    if subscription is None:
        messages.info(request, "This contract is not parked any more.")
        return _back()
    _, run = runs.unpark(subscription, actor=Actor.of(request.user), now=moment(request))
    if run is not None and run.failed:
        messages.error(request, f"{subscription.customer} was tried again, and it failed again. The cause is below.")
    else:
        messages.success(request, f"{subscription.customer} is up to date.")
    return _back()


def _back() -> HttpResponse:
    return HttpResponseRedirect(link("billing_admin_workerrun_changelist"))
