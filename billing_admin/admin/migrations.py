"""Migrations: the list of them, and each one as it runs; held, let go on, stopped, taken back, in part or whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing_admin.access import requires
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.migration_order import MIGRATE
from billing_admin.csv_table import to_instant
from billing_admin.flows.migrate import REPLACED, Progress, progress, rows_of
from billing_admin.pages import dress, render_page
from billing_admin.plan_page import signed_minor
from billing_admin.site import page
from catalog.mapping import PriceMapping
from catalog.models import Plan
from catalog.money import format_minor
from catalog.periods import every
from catalog.terms import PlanTerms
from customers.models import Customer, MigrationRow, PlanMigration

Is = PlanMigration.State
RowIs = MigrationRow.State
A_PAGE = 50
# So long the pace is measured, from one look of the page to a later one.
PACE_WINDOW = timedelta(seconds=30)
TONES = {
    Is.READY: "draft",
    Is.RUNNING: "open",
    Is.PAUSED: "draft",
    Is.STOPPED: "off",
    Is.FINISHED: "on",
    Is.TAKING_BACK: "draft",
    Is.TAKEN_BACK: "off",
}
# What became of a contract, in the order in which people ask: the word, its tone.
ROW_STATES = {
    RowIs.WAITING: ("Waiting", "draft"),
    RowIs.SCHEDULED: ("Scheduled", "scheduled"),
    RowIs.MOVED: ("Moved", "on"),
    RowIs.FAILED: ("Failed", "failed"),
    RowIs.SKIPPED: ("Left alone", "off"),
    RowIs.TAKEN_BACK: ("Taken back", "off"),
    RowIs.KEPT: ("Kept", "draft"),
    REPLACED: ("Replaced since", "off"),
}


# The list -------------------------------------------------------------------------------------------------------------


class MigrationsFilter(forms.Form):
    plan = forms.ChoiceField(required=False, widget=forms.Select(attrs={"data-go": "", "aria-label": "Plan"}))
    state = forms.ChoiceField(
        required=False,
        choices=[("", "Every state"), *Is.choices],
        widget=forms.Select(attrs={"data-go": "", "aria-label": "State"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plans = Plan.objects.filter(migrations__isnull=False).distinct().order_by("name").values_list("key", "name")
        self.fields["plan"].choices = [("", "Every plan"), *plans]  # type: ignore[attr-defined]

    def narrowed(self) -> "QuerySet[PlanMigration]":
        said = self.cleaned_data if self.is_valid() else {}
        rows = PlanMigration.objects.select_related("plan", "from_version", "to_version").order_by("-id")
        if said.get("plan"):
            rows = rows.filter(plan__key=said["plan"])
        return rows.filter(state=said["state"]) if said.get("state") else rows


@dataclass(frozen=True, slots=True)
class ListRow:
    migration: PlanMigration
    url: str
    state: tuple[str, str]
    total: int
    skipped: int
    failed: int


@requires(MIGRATE)
def migration_list(request: HttpRequest) -> HttpResponse:
    form = MigrationsFilter(request.GET)
    dress(form)
    rows, before = form.narrowed(), request.GET.get("before", "")
    if before.isdecimal() and len(before) < 18:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: A_PAGE + 1])
    asked = request.GET.copy()
    if len(found) > A_PAGE:
        asked["before"] = str(found[A_PAGE - 1].pk)
    return render_page(
        request,
        "migrations/list.html",
        trail=[("Migrations", "")],
        form=form,
        rows=list_rows(found[:A_PAGE]),
        older=f"?{asked.urlencode()}" if len(found) > A_PAGE else "",
        first=not before,
        narrowed=any(value for name, value in request.GET.items() if name != "before"),
        new_url=link("migration_plans"),
    )


def list_rows(migrations: Sequence[PlanMigration]) -> list[ListRow]:
    """With their counts, in one query however many they are."""
    counted = MigrationRow.objects.filter(migration__in=[m.pk for m in migrations]).order_by().values("migration")
    skipped, failed = Count("pk", filter=Q(state=RowIs.SKIPPED)), Count("pk", filter=Q(state=RowIs.FAILED))
    counts = {row["migration"]: row for row in counted.annotate(total=Count("pk"), skipped=skipped, failed=failed)}
    found = []
    for migration in migrations:
        count = counts.get(migration.pk, {"total": 0, "skipped": 0, "failed": 0})
        url, state = link("migration", migration.public_id), state_of(migration)
        found.append(
            ListRow(migration, url, state, count["total"] - count["skipped"], count["skipped"], count["failed"])
        )
    return found


def state_of(migration: PlanMigration) -> tuple[str, str]:
    return TONES[Is(migration.state)], migration.get_state_display()


# One migration --------------------------------------------------------------------------------------------------------


def find_migration(public_id: str) -> PlanMigration:
    rows = PlanMigration.objects.select_related("plan__product", "from_version__plan", "to_version__plan")
    found = rows.filter(public_id=public_id).first()
    if found is None:
        raise Http404("There is no such migration.")
    return found


@dataclass(frozen=True, slots=True)
class CountRow:
    """Contracts in one state, and where they are."""

    state: str
    label: str
    tone: str
    number: int
    url: str


@dataclass(frozen=True, slots=True)
class Shown:
    """How far a migration is, for people."""

    migration: PlanMigration
    progress: Progress
    state: tuple[str, str]
    left: int
    counts: tuple[CountRow, ...]
    pace: str

    @property
    def is_moving(self) -> bool:
        """Somebody who looks waits for more."""
        return self.migration.state in (Is.RUNNING, Is.TAKING_BACK)

    @property
    def done(self) -> int:
        return self.progress.total - self.left

    @property
    def share(self) -> int:
        return 100 * self.done // self.progress.total if self.progress.total else 100


def shown_of(migration: PlanMigration, request: HttpRequest) -> Shown:
    """One query."""
    now = moment(request)
    found = progress(migration, now)
    counts = tuple(
        CountRow(state, label, tone, found.counts[state], f"?state={state}")
        for state, (label, tone) in ROW_STATES.items()
        if found.counts[state]
    )
    left = left_of(migration, found)
    return Shown(migration, found, state_of(migration), left, counts, pace(request, found.total - left, left, now))


def left_of(migration: PlanMigration, found: Progress) -> int:
    """What is still to be looked at: forth, those that wait; back, whatever stands."""
    if migration.state == Is.TAKING_BACK:
        return found.waiting + found.scheduled + found.moved + found.replaced
    return found.waiting if migration.state in (Is.READY, Is.RUNNING, Is.PAUSED) else 0


def pace(request: HttpRequest, done: int, left: int, now: datetime) -> str:
    """From an earlier look of the same page, which says when it was and how many were done."""
    before = earlier_look(request)
    if before is None or now <= before[0] or done <= before[1]:
        return ""
    rate = (done - before[1]) / (now - before[0]).total_seconds()
    return f"{rate:,.0f} a second, {_lasts(left / rate)} to go" if rate >= 1 else f"{_lasts(left / rate)} to go"


def _lasts(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def earlier_look(request: HttpRequest) -> tuple[datetime, int] | None:
    """When the same page was looked at before, and how many were done then; nothing for what cannot be read."""
    try:
        return to_instant(request.GET.get("since", "")), int(request.GET.get("from", ""))
    except ValueError:
        return None


def poll_url(request: HttpRequest, shown: Shown) -> str:
    """What the page asks for next, with the look that the pace is measured from."""
    now, before = moment(request), earlier_look(request)
    since, done = before if before and now - before[0] < PACE_WINDOW else (now, shown.done)
    return link("migration_progress", shown.migration.public_id, since=since.isoformat(), **{"from": str(done)})


@dataclass(frozen=True, slots=True)
class RowShown:
    """One contract of the table, with what can be done about it alone."""

    name: str
    customer_id: str
    url: str
    state: tuple[str, str]
    old: str
    new: str
    difference: str
    costs_less: bool
    at: datetime | None
    lost: tuple[str, ...]
    problem: str
    retry_url: str
    take_back_url: str


class RowsFilter(forms.Form):
    """What the table is narrowed to; lives in the URL."""

    q = forms.CharField(
        required=False,
        label="Search",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Name, id or e-mail, as it begins"}),
    )
    state = forms.ChoiceField(
        required=False,
        choices=[("", "Every state"), *((state, label) for state, (label, _) in ROW_STATES.items())],
        widget=forms.Select(attrs={"data-go": "", "aria-label": "State"}),
    )

    def narrowed(self, migration: PlanMigration, now: datetime) -> "QuerySet[MigrationRow]":
        said = self.cleaned_data if self.is_valid() else {}
        rows = rows_of(migration, now).order_by("id")
        if said.get("state"):
            rows = rows.filter(state_now=said["state"])
        if words := said.get("q", "").strip():
            rows = rows.filter(customer__in=Customer.objects.matching(words).order_by().values("pk"))
        return rows


def rows_shown(migration: PlanMigration, request: HttpRequest) -> dict[str, Any]:
    """A page of the table, by keys; one query."""
    form = RowsFilter(request.GET)
    rows, after = form.narrowed(migration, moment(request)), request.GET.get("after", "")
    if after.isdecimal() and len(after) < 18:
        rows = rows.filter(pk__gt=int(after))
    found = list(rows[: A_PAGE + 1])
    asked = request.GET.copy()
    for name in ("since", "from"):
        asked.pop(name, None)
    narrowed = any(value for name, value in asked.items() if name != "after")
    if len(found) > A_PAGE:
        asked["after"] = str(found[A_PAGE - 1].pk)
    return {
        "form": form,
        "rows": [row_shown(row, migration) for row in found[:A_PAGE]],
        "further": f"?{asked.urlencode()}" if len(found) > A_PAGE else "",
        "first": not after,
        "narrowed": narrowed,
    }


def row_shown(row: MigrationRow, migration: PlanMigration) -> RowShown:
    currency, state = migration.plan.currency, row.state_now  # type: ignore[attr-defined]  # as `rows_of` reads it
    forth = migration.state not in (Is.TAKING_BACK, Is.TAKEN_BACK)
    difference = row.new_price - row.old_price
    label, tone = ROW_STATES[state]
    may_retry = forth and row.state in (RowIs.FAILED, RowIs.SKIPPED)
    standing = (RowIs.WAITING, RowIs.SCHEDULED, RowIs.MOVED, RowIs.KEPT)  # what kept it may be over since
    may_take_back = state in standing and migration.state != Is.TAKING_BACK
    return RowShown(
        name=row.customer.name,
        customer_id=row.customer.customer_id,
        url=customer_link(row.customer_id),
        state=(tone, label),
        old=format_minor(row.old_price, currency),
        new=format_minor(row.new_price, currency),
        difference=signed_minor(difference, currency),
        costs_less=difference < 0,
        at=row.at,
        lost=tuple(row.lost),
        problem=row.problem,
        retry_url=link("migration_retry", migration.public_id, row.pk) if may_retry else "",
        take_back_url=link("migration_row_back", migration.public_id, row.pk) if may_take_back else "",
    )


@requires(MIGRATE)
def migration_page(request: HttpRequest, public_id: str) -> HttpResponse:
    migration = find_migration(public_id)
    context = about(migration, request) | rows_shown(migration, request)
    dress(context["form"])
    return render_page(
        request,
        "migrations/page.html",
        trail=[("Migrations", link("migrations")), (title_of(migration), "")],
        mappings=mapping_words(migration),
        period=every(migration.from_version.cadence),
        export_query=narrowing(request) | {"migration": migration.public_id},
        compare_url=link(
            "catalog_plan_compare",
            migration.plan_id,
            **{"from": migration.from_version.number, "to": migration.to_version.number},
        ),
        **context,
    )


def narrowing(request: HttpRequest) -> dict[str, str]:
    return {name: request.GET[name] for name in ("q", "state") if request.GET.get(name)}


def title_of(migration: PlanMigration) -> str:
    return f"{migration.plan.name} {migration.from_version.label} → {migration.to_version.label}"


def about(migration: PlanMigration, request: HttpRequest) -> dict[str, Any]:
    shown = shown_of(migration, request)
    return {
        "migration": migration,
        "shown": shown,
        "title_words": title_of(migration),
        "who": migration.chosen.get("description", "all customers"),
        "poll_url": poll_url(request, shown) if shown.is_moving else "",
        "acts": [(label, link(name, migration.public_id)) for label, name in acts_of(migration)],
    }


def acts_of(migration: PlanMigration) -> list[tuple[str, str]]:
    """What can be done now: the word on the button and the page behind it."""
    found = {
        Is.RUNNING: [("Pause", "migration_pause"), ("Stop", "migration_stop")],
        Is.PAUSED: [("Stop", "migration_stop"), ("Resume", "migration_resume")],
    }.get(Is(migration.state), [])
    takes_back = migration.state in (Is.RUNNING, Is.PAUSED, Is.STOPPED, Is.FINISHED)
    return [*([("Take back", "migration_back")] if takes_back else []), *found]


def mapping_words(migration: PlanMigration) -> list[tuple[str, str]]:
    """Which price became which: the old item, and the new one or nothing."""
    old, new = migration.from_version.terms(), migration.to_version.terms()
    pairs = [PriceMapping.from_json(mapping) for mapping in migration.mappings]
    return [(_label(old, pair.old), _label(new, pair.new) if pair.new else "dropped") for pair in pairs]


def _label(terms: PlanTerms, key: str) -> str:
    item = terms.item(key)
    return f"{item.label}, {item.describe_price(terms.currency)}" if item and not item.is_free else key


@requires(MIGRATE)
def migration_progress(request: HttpRequest, public_id: str) -> HttpResponse:
    """What a page that waits asks for again and again; the end brings the whole page anew."""
    migration = find_migration(public_id)
    context = about(migration, request)
    if not context["shown"].is_moving:
        return HttpResponse(headers={"HX-Refresh": "true"})
    return TemplateResponse(request, "migrations/progress.html", context)


page("migrations/", name="migrations", methods=("GET",))(migration_list)
page("migrations/<str:public_id>/", name="migration", methods=("GET",))(migration_page)
page("migrations/<str:public_id>/progress/", name="migration_progress", methods=("GET",))(migration_progress)
