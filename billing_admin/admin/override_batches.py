"""Overrides of many customers at once: chosen in the list or written as CSV, tried, given with a progress bar, taken
back together."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from io import StringIO
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from billing_admin.access import allowed, require, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.overrides import GIVE, VALUE, OverrideForm, RevokeForm
from billing_admin.api.override_batches import AT_ONCE, hand_over
from billing_admin.csv_file import LARGEST, CsvField
from billing_admin.csv_table import BadRows, Problem
from billing_admin.flows.approvals import ApprovalNeeded
from billing_admin.flows.override_batch import (
    COLUMNS,
    MOST,
    PERMANENT,
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
    say_revoked,
)
from billing_admin.pages import ActPage, add_refusal, ask_for_approval, dress, render_page
from billing_admin.site import page
from catalog.models import Feature
from customers.journal import Actor
from customers.models import Customer
from entitlements.models import FeatureOverride, OverrideBatch

BULK = "entitlements.bulk_override"
VIEW = "entitlements.view_overridebatch"
A_PAGE = 50
ROWS_SHOWN = 200
EXAMPLE = "customer_id,feature,value,until,reason\nacme,credits,500,2027-01-01,\nglobex,credits,unlimited,permanent,"


# What is asked for ----------------------------------------------------------------------------------------------------


class ChosenForm(OverrideForm):
    """One value for the customers that were chosen in the list."""

    supersede = forms.BooleanField(
        label="End what overrides this feature in that time already: this one takes over", required=False
    )

    def rows(self, customers: Sequence[Customer]) -> str:
        """As CSV, so that there is one way to read them; after `is_valid()`."""
        said = self.cleaned_data
        value = said["value"].strip() if said["what"] == VALUE else said["what"]
        until = said["until"].isoformat() if said["until"] else PERMANENT
        starts = self.wanted.starts_at
        begins = starts.astimezone(UTC).isoformat() if starts > self.now else ""
        supersede = "yes" if said["supersede"] else ""
        names = ("customer_id", "feature", "value", "from", "until", "supersede")
        lines = [(c.customer_id, said["feature"], value, begins, until, supersede) for c in customers]
        return as_csv([names, *lines])


class RowsForm(forms.Form):
    """Rows as CSV: pasted, or a file."""

    rows = forms.CharField(
        label="Rows",
        required=False,
        strip=False,
        max_length=LARGEST,
        widget=forms.Textarea(attrs={"rows": 10, "spellcheck": "false", "placeholder": EXAMPLE, "wrap": "off"}),
    )
    file = CsvField()
    reason = forms.CharField(
        label="Reason",
        max_length=500,
        help_text="Of the batch, and of every row that has none of its own.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if not self.errors and not said.get("file") and not said.get("rows", "").strip():
            self.add_error("rows", "Paste rows, or choose a file.")
        return said

    @property
    def text(self) -> str:
        said = self.cleaned_data
        return str(said["file"] or said["rows"])


def as_csv(lines: Iterable[Sequence[str]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


# Pages ----------------------------------------------------------------------------------------------------------------


@requires(BULK)
def many(request: HttpRequest) -> HttpResponse:
    """Ask, try, give: each step is a form of this page, and the last one is refused when its numbers moved."""
    step = request.POST.get("step", "")
    if step == "give":
        return _give(request)
    if request.POST.getlist("customer") or request.GET.getlist("customer"):
        return _chosen(request)
    return _written(request)


def _chosen(request: HttpRequest) -> HttpResponse:
    customers = chosen_customers(request)
    kwargs: dict[str, Any] = {
        "features": {f.slug: f for f in Feature.objects.filter(archived_at=None).order_by("name")},
        "subscriptions": [],
        "now": moment(request),
        "time_boxed": not allowed(request, GIVE),
    }
    if request.method == "POST":
        form = ChosenForm(request.POST, **kwargs)
        if form.is_valid():
            try:
                return _tried(request, form.rows(customers), form.cleaned_data["reason"])
            except BadRows as refused:
                add_refusal(form, refused)
    else:
        kept = ("feature", "value", "starts", "until", "permanent", "reason", "supersede")
        form = ChosenForm(initial={name: request.GET[name] for name in kept if name in request.GET}, **kwargs)
    dress(form)
    return _page(request, "overrides/many_chosen.html", form=form, customers=customers)


def chosen_customers(request: HttpRequest) -> list[Customer]:
    asked = request.POST.getlist("customer") or request.GET.getlist("customer")
    keys = [int(key) for key in asked[:MOST] if key.isdecimal() and len(key) < 18]
    return list(Customer.objects.open().filter(pk__in=keys).order_by("name", "pk"))


def _written(request: HttpRequest) -> HttpResponse:
    form = RowsForm(request.POST or None, request.FILES or None)
    problems: Sequence[Problem] = ()
    if request.method == "POST" and form.is_valid():
        try:
            return _tried(request, form.text, form.cleaned_data["reason"])
        except BadRows as refused:
            problems = refused.problems
            # A file cannot be filled in again, so what it held can be mended here.
            form = RowsForm(initial={"rows": form.text, "reason": form.cleaned_data["reason"]})
    dress(form)
    return _page(
        request,
        "overrides/many_written.html",
        form=form,
        problems=problems,
        columns=COLUMNS,
        most=MOST,
        example=EXAMPLE,
    )


@dataclass(frozen=True, slots=True)
class TriedRow:
    line: int
    customer: str
    customer_url: str
    feature: str
    before: str
    after: str
    starts: datetime | None
    until: datetime | None
    reason: str
    problem: str
    column: str


def _tried(request: HttpRequest, text: str, reason: str, *, moved: bool = False) -> HttpResponse:
    """The table of what would happen. Raises `BadRows`."""
    outcomes = _outcomes(request, read_rows(text))
    rows = [_tried_row(outcome) for outcome in outcomes]
    good, bad = [row for row in rows if not row.problem], [row for row in rows if row.problem]
    return _page(
        request,
        "overrides/many_tried.html",
        good=good[:ROWS_SHOWN],
        number=len(good),
        more=max(0, len(good) - ROWS_SHOWN),
        bad=bad,
        text=text,
        reason=reason,
        seen=digest(outcomes),
        moved=moved,
        features=names_of({row.feature for row in good}),
        back_url=link("override_batch_new"),
    )


def names_of(slugs: set[str]) -> str:
    return ", ".join(Feature.objects.filter(slug__in=slugs).order_by("name").values_list("name", flat=True))


def _outcomes(request: HttpRequest, rows: Sequence[Row]) -> list[Outcome]:
    found = dry_run(rows, moment(request))
    if allowed(request, GIVE):
        return found
    ends = "You may give overrides for a limited time only: say when it ends."
    stays = "It would end a permanent override, which takes the permission to give those."
    lines = lasting(rows, moment(request))
    return [_beyond_concessions(o, stays if o.row.until else ends) if o.row.line in lines else o for o in found]


def _beyond_concessions(outcome: Outcome, why: str) -> Outcome:
    return replace(outcome, problem=outcome.problem or why, column="supersede" if outcome.row.until else "until")


def _tried_row(outcome: Outcome) -> TriedRow:
    row, customer = outcome.row, outcome.customer
    return TriedRow(
        line=row.line,
        customer=customer.name if customer else row.customer_id,
        customer_url=customer_link(customer.pk) if customer else "",
        feature=row.feature,
        before=outcome.before,
        after=outcome.after,
        starts=row.starts,
        until=row.until,
        reason=row.reason,
        problem=outcome.problem,
        column=outcome.column,
    )


def digest(outcomes: Iterable[Outcome]) -> str:
    """Changes when a row would do something else than what was looked at."""
    seen = [(o.row.line, o.customer.pk if o.customer else 0, o.before, o.after, o.problem) for o in outcomes]
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


def _give(request: HttpRequest) -> HttpResponse:
    """What was looked at is given; what would do something else by now is shown again."""
    text, reason = request.POST.get("rows", ""), request.POST.get("reason", "")
    try:
        outcomes = _outcomes(request, read_rows(text))
    except BadRows as refused:
        form = RowsForm(initial={"rows": text, "reason": reason})
        dress(form)
        shown = {"form": form, "problems": refused.problems, "columns": COLUMNS, "most": MOST, "example": EXAMPLE}
        return _page(request, "overrides/many_written.html", **shown)
    good = [outcome.row for outcome in outcomes if not outcome.problem]
    if not good or not reason.strip() or digest(outcomes) != request.POST.get("seen", ""):
        return _tried(request, text, reason, moved=True)
    now = moment(request)
    try:
        batch = begin(good, reason, Actor.of(request.user), now)
    except ApprovalNeeded as needed:
        back = link("override_batch_new")
        trail = [("Overrides", link("entitlements_featureoverride_changelist")), ("Override many", "")]
        return ask_for_approval(request, needed, back=back, trail=trail, reason=reason)
    if len(good) <= AT_ONCE:
        carry_out(batch, now)
    else:
        hand_over(batch)
    return HttpResponseRedirect(link("override_batch", batch.public_id))


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    trail = [("Overrides", link("entitlements_featureoverride_changelist")), ("Override many", "")]
    return render_page(request, template, trail=trail, **context)


# One batch ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is; `standing` of what it gave is still in force or to come."""

    batch: OverrideBatch
    state: str
    label: str
    standing: int

    @property
    def share(self) -> int:
        return 100 if not self.batch.total else self.batch.done * 100 // self.batch.total

    @property
    def given(self) -> int:
        return self.batch.done - len(self.batch.failures)

    @property
    def is_moving(self) -> bool:
        """Somebody who looks waits for more."""
        return self.batch.finished_at is None or (self.batch.revoked_at is not None and self.standing > 0)


def progress_of(batch: OverrideBatch, now: datetime) -> Progress:
    standing = batch.overrides.standing(now).count()
    if batch.revoked_at is not None:
        return Progress(batch, "draft" if standing else "off", "Taking back" if standing else "Revoked", standing)
    if batch.finished_at is None:
        return Progress(batch, "open", "Under way", standing)
    return Progress(batch, "on", "Done", standing)


def find_batch(public_id: str) -> OverrideBatch:
    found = OverrideBatch.objects.filter(public_id=public_id).first()
    if found is None:
        raise Http404("There is no such batch.")
    return found


@requires(VIEW)
def one_batch(request: HttpRequest, public_id: str) -> HttpResponse:
    batch, now = find_batch(public_id), moment(request)
    return render_page(
        request,
        "overrides/batch.html",
        trail=[
            ("Overrides", link("entitlements_featureoverride_changelist")),
            ("Batches", link("entitlements_overridebatch_changelist")),
            (batch.public_id, ""),
        ],
        **_about(request, batch, now),
    )


@requires(VIEW)
def progress(request: HttpRequest, public_id: str) -> HttpResponse:
    """What a page that waits asks for again and again; the last answer brings the rows with it."""
    return TemplateResponse(request, "overrides/progress.html", _about(request, find_batch(public_id), moment(request)))


def _about(request: HttpRequest, batch: OverrideBatch, now: datetime) -> dict[str, Any]:
    found = progress_of(batch, now)
    rows = [] if batch.finished_at is None else results(batch)
    return {
        "batch": batch,
        "progress": found,
        "refused": [row for row in rows if row.state == "refused"],
        "given": [_given(row) for row in rows if row.state == "given"][:ROWS_SHOWN],
        "left_out": sum(row.state == "given up" for row in rows),
        "progress_url": link("override_batch_progress", batch.public_id),
        "register_url": link("entitlements_featureoverride_changelist", batch=batch.public_id, shown="all"),
        "revoke_url": link("override_batch_revoke", batch.public_id)
        if batch.revoked_at is None and may_revoke(request, batch)
        else "",
    }


def may_revoke(request: HttpRequest, batch: OverrideBatch) -> bool:
    """Whoever could have given it; a batch with permanent overrides takes the permission for those."""
    lasting = any(row["until"] is None for row in batch.rows)
    return allowed(request, BULK) and (not lasting or allowed(request, GIVE))


def _given(result: Result) -> dict[str, Any]:
    row: FeatureOverride | None = result.override
    return {
        "line": result.row.line,
        "customer": row.customer.name if row else result.row.customer_id,
        "url": customer_link(row.customer_id) if row else "",
        "feature": row.feature.name if row else result.row.feature,
        "value": result.row.value,
        "until": result.row.until,
    }


class RevokeBatch(ActPage):
    permission = BULK
    form_class = RevokeForm
    title = "Revoke the batch"
    danger = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        require(request, BULK)
        if not may_revoke(request, self.batch):
            require(request, GIVE)
        return super().dispatch(request, *args, **kwargs)

    @cached_property
    def batch(self) -> OverrideBatch:
        return find_batch(self.kwargs["public_id"])

    def get_outcome(self) -> str:
        standing = self.batch.overrides.standing(moment(self.request)).count()
        waiting = self.batch.total - self.batch.done if self.batch.finished_at is None else 0
        rest = f" {waiting:,} that wait are never given." if waiting else ""
        stop = "1 override stops" if standing == 1 else f"{standing:,} overrides stop"
        return f"{stop} at once; the rows stay, with who revoked them and why.{rest}"

    def back(self) -> str:
        return link("override_batch", self.batch.public_id)

    def trail(self) -> list[tuple[str, str]]:
        register = ("Overrides", link("entitlements_featureoverride_changelist"))
        return [register, (self.batch.public_id, self.back()), (self.title, "")]

    def act(self, form: RevokeForm) -> str:
        reason, actor, now = form.cleaned_data["reason"], Actor.of(self.request.user), moment(self.request)
        if self.batch.done <= AT_ONCE:
            revoke_batch(self.batch, reason, actor, now)
        else:
            hand_over(say_revoked(self.batch, reason, actor, now))
        messages.success(self.request, "The batch is revoked.")
        return self.back()


page("overrides/many/", name="override_batch_new")(many)
page("overrides/batches/<str:public_id>/", name="override_batch", methods=("GET",))(one_batch)
page("overrides/batches/<str:public_id>/progress/", name="override_batch_progress", methods=("GET",))(progress)
page("overrides/batches/<str:public_id>/revoke/", name="override_batch_revoke")(RevokeBatch.as_view())


# All batches ----------------------------------------------------------------------------------------------------------


@requires(VIEW)
def batch_list(request: HttpRequest) -> HttpResponse:
    """Newest first, by keys."""
    before = request.GET.get("before", "")
    batches = OverrideBatch.objects.order_by("-id").defer("rows")
    if before.isdecimal() and len(before) < 18:
        batches = batches.filter(pk__lt=int(before))
    found = list(batches[: A_PAGE + 1])
    rows = [
        {
            "batch": batch,
            "url": link("override_batch", batch.public_id),
            "given": batch.done - len(batch.failures),
            "refused": len(batch.failures),
            "state": "off" if batch.revoked_at else "on" if batch.finished_at else "open",
            "label": "Revoked" if batch.revoked_at else "Done" if batch.finished_at else "Under way",
        }
        for batch in found[:A_PAGE]
    ]
    return render_page(
        request,
        "overrides/batches.html",
        trail=[("Overrides", link("entitlements_featureoverride_changelist")), ("Batches", "")],
        rows=rows,
        older=f"?before={found[A_PAGE - 1].pk}" if len(found) > A_PAGE else "",
        first=not before,
        many_url=link("override_batch_new") if allowed(request, BULK) else "",
    )


@admin.register(OverrideBatch)
class OverrideBatchAdmin(ModelAdmin):
    """The frame around the list of batches."""

    def get_urls(self) -> list[URLPattern]:
        inside = self.admin_site.admin_view
        return [path("", inside(batch_list), name="entitlements_overridebatch_changelist")]
