"""Imports and bulk acts: written or uploaded, or for customers who were chosen in their list; tried, confirmed,
followed, taken back together."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from billing_admin.access import allowed, require, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.customer import CustomerFilter
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.override_batches import BULK, EXAMPLE, RowsForm, as_csv
from billing_admin.admin.overrides import RevokeForm
from billing_admin.csv_table import BadRows, Problem
from billing_admin.exports import conditions
from billing_admin.flows import batches
from billing_admin.flows.batches import MOST, State
from billing_admin.flows.override_batch import COLUMNS as OVERRIDE_COLUMNS
from billing_admin.models import Batch, BatchRow
from billing_admin.pages import ActPage, add_refusal, dress, render_page
from billing_admin.row_acts import ROW_ACTS, Column, RowAct
from billing_admin.site import page
from catalog.models import Feature, Plan
from customers.journal import Actor
from customers.models import Customer

VIEW = "billing_admin.view_batch"
A_PAGE, ROWS_SHOWN = 50, 200
# So many customers go to the page of overrides by their numbers, in its address.
MOST_OVERRIDDEN = 500
OVERRIDES = "overrides"
DOTS = {
    State.TRYING: "open",
    State.TRIED: "draft",
    State.RUNNING: "open",
    State.STOPPED: "draft",
    State.FINISHED: "on",
    State.TAKING_BACK: "open",
    State.TAKEN_BACK: "off",
}


# What can be imported -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    title: str
    one: str
    url: str
    template_url: str


def kinds(request: HttpRequest) -> list[Kind]:
    """What this person may import; overrides have pages of their own."""
    found = [
        Kind(act.title, act.one, link("import_new", act.key), link("import_template", act.key))
        for act in ROW_ACTS.values()
        if may_begin(request, act)
    ]
    if allowed(request, BULK):
        url, template = link("override_batch_new"), link("import_template", OVERRIDES)
        found.append(Kind("Overrides", "Override features", url, template))
    return found


def may_begin(request: HttpRequest, act: RowAct) -> bool:
    """Whether there are rows that this person may do; each row asks for its own."""
    return any(allowed(request, permission) for permission in act.anyhow)


def require_begin(request: HttpRequest, act: RowAct) -> None:
    if not may_begin(request, act):
        require(request, act.anyhow[0])


def find_act(key: str) -> RowAct:
    act = ROW_ACTS.get(key)
    if act is None:
        raise Http404("There is no such import.")
    return act


def example_of(columns: Sequence[Column]) -> str:
    return as_csv([[column.name for column in columns], [column.example for column in columns]])


def template(request: HttpRequest, kind: str) -> HttpResponse:
    """The heading and one row to begin with."""
    if kind == OVERRIDES:
        require(request, BULK)
        text = as_csv([OVERRIDE_COLUMNS]) if not EXAMPLE else f"{EXAMPLE}\n"
    else:
        act = find_act(kind)
        require_begin(request, act)
        text = example_of(act.columns)
    answer = HttpResponse(text, content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{kind}.csv"'
    return answer


# Written or uploaded --------------------------------------------------------------------------------------------------


class ImportForm(RowsForm):
    again = forms.BooleanField(label="I know, and want it again", required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["rows"].widget.attrs["placeholder"] = example
        self.order_fields(["rows", "file", "reason", "again"])

    def show_again(self) -> None:
        self.fields["again"].widget = forms.CheckboxInput()


def new_import(request: HttpRequest, kind: str) -> HttpResponse:
    """Read the rows, or name every line and column that is wrong; nothing is kept half."""
    act = find_act(kind)
    require(request, VIEW)
    require_begin(request, act)
    form = ImportForm(request.POST or None, request.FILES or None, example=example_of(act.columns).strip())
    problems: Sequence[Problem] = ()
    same: list[Batch] = []
    if request.method == "POST" and form.is_valid():
        said, text = form.cleaned_data, form.text
        same = batches.same_before(act.key, batches.digest_of(act.key, text))
        if not same or said["again"]:
            file = request.FILES.get("file")
            name = (file.name if file else "") or "pasted rows"
            try:
                batch = batches.begin_file(
                    act.key, text, name=name, reason=said["reason"], user=request.user, now=moment(request)
                )
            except BadRows as refused:
                problems = refused.problems
            except ValidationError as refused:
                add_refusal(form, refused)
            else:
                return _go_on(request, batch)
        if not form.errors:
            # A file cannot be filled in again, so what it held can be mended here.
            form = ImportForm(initial={"rows": text, "reason": said["reason"]}, example="")
        if same:
            form.show_again()
    dress(form)
    return render_page(
        request,
        "batches/written.html",
        trail=[("Imports", link("billing_admin_batch_changelist")), (f"Import {act.title.lower()}", "")],
        act=act,
        form=form,
        problems=problems,
        same=[(batch, link("batch", batch.public_id)) for batch in same],
        most=MOST,
        example=example_of(act.columns),
        template_url=link("import_template", act.key),
        back_url=link("billing_admin_batch_changelist"),
    )


def _go_on(request: HttpRequest, batch: Batch) -> HttpResponse:
    """Few rows while the person waits; more are a worker's."""
    batches.begin_trying(batch, moment(request))
    return HttpResponseRedirect(link("batch", batch.public_id))


# Chosen in the list ---------------------------------------------------------------------------------------------------


class BulkForm(forms.Form):
    """The cells of a bulk act, which are the same for everybody."""

    def __init__(self, *args: Any, act: RowAct, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for column in act.columns:
            if column.name not in ("customer_id", "reason"):
                self.fields[column.name] = _field(column)
        self.fields["reason"] = forms.CharField(
            max_length=500, help_text="It is shown wherever the effect shows.", widget=_plain_input()
        )

    @property
    def said(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.cleaned_data.items() if name != "reason"}


def _plain_input() -> forms.TextInput:
    return forms.TextInput(attrs={"autocomplete": "off"})


def _field(column: Column) -> forms.Field:
    label = column.name.replace("_", " ").capitalize()
    help_text = f"{column.help[:1].upper()}{column.help[1:]}."
    if column.name == "feature":
        features = Feature.objects.filter(archived_at=None, type=Feature.Type.METERED).order_by("name")
        choices = [("", "Choose …"), *features.values_list("slug", "name")]
        return forms.ChoiceField(label=label, choices=choices, required=column.needed)
    if column.name == "plan":
        plans = Plan.objects.filter(archived_at=None, is_default=False, current_version__isnull=False)
        plans = plans.exclude(kind=Plan.Kind.STRIPE).select_related("product").order_by("product__name", "name")
        return forms.ChoiceField(label=label, choices=[("", "Choose …"), *((p.key, p.title) for p in plans)])
    if column.name == "timing":
        words = [("", "As the change is"), ("now", "Now"), ("cycle_end", "At the end of the cycle")]
        return forms.ChoiceField(label=label, choices=words, required=False)
    if column.name == "at":
        begins = [("next_invoice", "From the next invoice"), ("enable", "With the next plan that is enabled")]
        return forms.ChoiceField(label="Begins", choices=begins, required=False)
    if column.name == "ends_on":
        return forms.CharField(
            label=label, required=False, help_text=help_text, widget=forms.DateInput(attrs={"type": "date"})
        )
    if column.name == "text":
        return forms.CharField(label="Note", max_length=5_000, widget=forms.Textarea(attrs={"rows": 4}))
    return forms.CharField(
        label=label, required=column.needed, max_length=120, help_text=help_text, widget=_plain_input()
    )


@dataclass(frozen=True, slots=True)
class Chosen:
    """Customers as they were chosen: those who were ticked, or everybody whom a filter leaves. `keys` are looked up
    when they are needed; `number` counts up to one more than a batch takes."""

    request: HttpRequest

    @property
    def asked(self) -> QueryDict:
        return self.request.POST if self.request.method == "POST" else self.request.GET

    @property
    def is_all(self) -> bool:
        return bool(self.asked.get("all"))

    @property
    def query(self) -> str:
        """The conditions of the list."""
        return conditions(self.asked.get("query", "")).urlencode()

    def rows(self) -> Any:
        if self.is_all:
            found = CustomerFilter(conditions(self.query)).narrowed(Customer.objects.all(), moment(self.request))
            return found.filter(closed_at=None).order_by("name", "pk")
        keys = [int(key) for key in self.asked.getlist("customer")[:MOST] if key.isdecimal() and len(key) < 18]
        return Customer.objects.open().filter(pk__in=keys).order_by("name", "pk")

    def ids(self) -> list[str]:
        return list(self.rows().values_list("customer_id", flat=True)[: MOST + 1])

    def title(self, number: int) -> str:
        who = f"{number:,} {'customer' if number == 1 else 'customers'}"
        if not self.is_all:
            return f"{who}, chosen in the list"
        return f"{who}: all that match {self.query}" if self.query else f"{who}: all"


def bulk(request: HttpRequest, kind: str) -> HttpResponse:
    """One act for the customers that were chosen, to be tried before anything is done."""
    if kind == OVERRIDES:
        return _override_many(request)
    act = find_act(kind)
    require(request, VIEW, "customers.view_customer")
    require_begin(request, act)
    if not act.about_customers:
        raise Http404("This is no act on customers.")
    chosen = Chosen(request)
    ids = chosen.ids()
    form = BulkForm(request.POST if request.method == "POST" else None, act=act)
    if request.method == "POST" and form.is_valid():
        try:
            batch = batches.begin_chosen(
                act.key,
                ids,
                form.said,
                title=chosen.title(len(ids)),
                reason=form.cleaned_data["reason"],
                user=request.user,
                now=moment(request),
            )
        except BadRows as refused:
            for problem in refused.problems:
                form.add_error(problem.column if problem.column in form.fields else None, problem.message)
        except ValidationError as refused:
            add_refusal(form, refused)
        else:
            return _go_on(request, batch)
    dress(form)
    return render_page(
        request,
        "batches/chosen.html",
        trail=[("Customers", link("customers_customer_changelist")), (act.one, "")],
        act=act,
        form=form,
        chosen=chosen,
        number=len(ids),
        most=MOST,
        customers=list(chosen.rows()[:50]),
        keys=[] if chosen.is_all else list(chosen.rows().values_list("pk", flat=True)),
        back_url=link("customers_customer_changelist") + (f"?{chosen.query}" if chosen.query else ""),
    )


def _override_many(request: HttpRequest) -> HttpResponse:
    """Overrides have a page of their own, which takes those who were ticked or, written out, all that match."""
    require(request, BULK)
    chosen = Chosen(request)
    keys = list(chosen.rows().values_list("pk", flat=True)[: MOST_OVERRIDDEN + 1])
    if len(keys) > MOST_OVERRIDDEN:
        messages.error(request, f"More than {MOST_OVERRIDDEN} customers match. Filter further, or write rows as CSV.")
        return HttpResponseRedirect(f"{link('customers_customer_changelist')}?{chosen.query}")
    asked = QueryDict(mutable=True)
    asked.setlist("customer", [str(key) for key in keys])
    return HttpResponseRedirect(f"{link('override_batch_new')}?{asked.urlencode()}")


# One batch ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowShown:
    line: int
    customer: str
    url: str
    what: str
    before: str
    after: str
    problem: str
    column: str


def row_shown(row: BatchRow) -> RowShown:
    named = str(row.cells.get("name") or row.cells.get("customer_id", ""))
    return RowShown(
        line=row.line,
        customer=row.customer.name if row.customer else named,
        url=customer_link(row.customer_id) if row.customer_id else "",
        what=str(row.cells.get("plan") or row.cells.get("coupon") or row.cells.get("feature") or ""),
        before=row.before,
        after=row.after,
        problem=row.problem,
        column=row.column,
    )


def find_batch(public_id: str) -> Batch:
    found = Batch.objects.select_related("user").filter(public_id=public_id).first()
    if found is None:
        raise Http404("There is no such import or bulk act.")
    return found


SECTIONS = (
    (BatchRow.State.FAILED, "Failed"),
    (BatchRow.State.KEPT, "Kept: could not be taken back"),
    (BatchRow.State.LEFT_OUT, "Left out: would be refused"),
    (BatchRow.State.READY, "What would happen"),
    (BatchRow.State.DONE, "Done"),
    (BatchRow.State.TAKEN_BACK, "Taken back"),
)
# What rows are that nothing was done with.
WAITS = {State.STOPPED: "Waiting", State.TAKEN_BACK: "Never done"}


@requires(VIEW)
def one_batch(request: HttpRequest, public_id: str) -> HttpResponse:
    batch = find_batch(public_id)
    trail = [("Imports", link("billing_admin_batch_changelist")), (batch.public_id, "")]
    about = _about(request, batch) | {"export_query": {"batch": batch.public_id}}
    return render_page(request, "batches/batch.html", trail=trail, **about)


@requires(VIEW)
def progress(request: HttpRequest, public_id: str) -> HttpResponse:
    """What a page that waits asks for again and again."""
    return TemplateResponse(request, "batches/progress.html", _about(request, find_batch(public_id)))


def _about(request: HttpRequest, batch: Batch) -> dict[str, Any]:
    act, number = find_act(batch.kind), batches.counts(batch)
    moving = batch.state in batches.UNDER_WAY
    over = batch.total - number[BatchRow.State.READ] - number[BatchRow.State.READY]
    if batch.state == State.TRYING:
        over = batch.total - number[BatchRow.State.READ]
    if batch.state == State.TAKING_BACK:
        over = batch.total - number[BatchRow.State.DONE]
    ready, done = number[BatchRow.State.READY], number[BatchRow.State.DONE]
    may = may_begin(request, act)
    return {
        "batch": batch,
        "act": act,
        "state": (DOTS[State(batch.state)], batch.get_state_display()),
        "number": {word.value: number[word] for word in BatchRow.State},
        "over": over,
        "moving": moving,
        "sums": batches.sums(batch) if batch.state == State.TRIED else [],
        "has_bar": batch.state != State.TRIED,
        "sections": [] if moving else _sections(batch, number),
        "progress_url": link("batch_progress", batch.public_id),
        "history_url": link("customers_operation_changelist", batch=batch.public_id)
        if allowed(request, "customers.view_operation") and batch.confirmed_at
        else "",
        "confirm_url": link("batch_confirm", batch.public_id, seen=batch.fingerprint)
        if may and batch.state == State.TRIED and ready
        else "",
        "confirm_label": f"{act.one}: {ready:,} {'row' if ready == 1 else 'rows'}",
        "turn_url": link("batch_turn", batch.public_id) if may else "",
        "can_stop": batch.state == State.RUNNING,
        "can_resume": batch.state == State.STOPPED and ready > 0,
        "can_retry": batch.state == State.FINISHED and number[BatchRow.State.FAILED] > 0,
        "take_back_url": link("batch_take_back", batch.public_id)
        if may and done and batch.state in batches.SETTLED
        else "",
    }


def _sections(batch: Batch, number: Any) -> list[dict[str, Any]]:
    """The rows by what became of them, so many of each; one query for each that has rows."""
    found = []
    for state, title in SECTIONS:
        if number[state]:
            rows = batch.rows.filter(state=state).select_related("customer").order_by("line")[:ROWS_SHOWN]
            is_ready = state == BatchRow.State.READY
            found.append(
                {
                    "state": state.value,
                    "title": WAITS.get(State(batch.state), title) if is_ready else title,
                    "number": number[state],
                    "rows": [row_shown(row) for row in rows],
                    "more": max(0, number[state] - ROWS_SHOWN),
                    "is_bad": state in (BatchRow.State.FAILED, BatchRow.State.KEPT, BatchRow.State.LEFT_OUT),
                }
            )
    return found


class BatchPage(ActPage):
    """An act on one batch, for whoever may do what all of its rows do, whoever began it."""

    permission = VIEW

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        require(request, VIEW)
        require_begin(request, find_act(self.batch.kind))
        require(request, *self.needs())
        return super().dispatch(request, *args, **kwargs)

    @cached_property
    def batch(self) -> Batch:
        return find_batch(self.kwargs["public_id"])

    def needs(self) -> Sequence[str]:
        raise NotImplementedError

    def back(self) -> str:
        return link("batch", self.batch.public_id)

    def trail(self) -> list[tuple[str, str]]:
        imports = ("Imports", link("billing_admin_batch_changelist"))
        return [imports, (self.batch.public_id, self.back()), (self.get_title(), "")]

    def act(self, form: Any) -> str:
        raise NotImplementedError


class Confirm(BatchPage):
    """The button below the dry run. What was looked at stands in the address."""

    def needs(self) -> Sequence[str]:
        return batches.needs_of(self.batch, BatchRow.State.READY)

    def get_title(self) -> str:
        return f"{find_act(self.batch.kind).one}?"

    def get_submit(self) -> str:
        ready = self._ready
        return f"{find_act(self.batch.kind).one}: {ready:,} {'row' if ready == 1 else 'rows'}"

    @cached_property
    def _ready(self) -> int:
        return batches.counts(self.batch)[BatchRow.State.READY]

    def get_outcome(self) -> str:
        left_out = batches.counts(self.batch)[BatchRow.State.LEFT_OUT]
        out = f" {left_out:,} are left out." if left_out else ""
        return f"{self._ready:,} {'row is' if self._ready == 1 else 'rows are'} done, each by itself.{out}"

    def act(self, form: Any) -> str:
        now, seen = moment(self.request), self.request.GET.get("seen", "")
        batches.confirm(self.batch, seen, actor=Actor.of(self.request.user), now=now)
        if self._ready <= batches.AT_ONCE // 4:
            batches.go_on(self.batch, clock=lambda: now, until=now + batches.A_MOMENT)
        return self.back()


class TakeBack(BatchPage):
    title = "Take the batch back"
    form_class = RevokeForm
    danger = True

    def needs(self) -> Sequence[str]:
        return batches.needs_back(self.batch)

    def get_outcome(self) -> str:
        done = batches.counts(self.batch)[BatchRow.State.DONE]
        rows = "1 row is" if done == 1 else f"{done:,} rows are"
        return f"{rows} taken back, the last first. What cannot be taken back any more is kept, with the reason."

    def act(self, form: RevokeForm) -> str:
        now = moment(self.request)
        reason = form.cleaned_data["reason"]
        batches.take_back(self.batch, reason=reason, actor=Actor.of(self.request.user), now=now)
        if self.batch.total <= batches.AT_ONCE // 4:
            batches.go_on(self.batch, clock=lambda: now, until=now + batches.A_MOMENT)
        return self.back()


def turn(request: HttpRequest, public_id: str) -> HttpResponse:
    """Stop, go on, or try again what failed."""
    batch = find_batch(public_id)
    require(request, VIEW)
    require_begin(request, find_act(batch.kind))
    actor, now = Actor.of(request.user), moment(request)
    try:
        match request.POST.get("do", ""):
            case "stop":
                batches.stop(batch, actor=actor, now=now)
            case "resume":
                require(request, *batches.needs_of(batch, BatchRow.State.READY))
                batches.resume(batch, actor=actor, now=now)
            case "retry":
                batches.retry_failed(batch, actor=actor, now=now)
                return _go_on(request, batch)
            case _:
                raise Http404("There is no such act.")
    except ValidationError as refused:
        messages.error(request, refused.messages[0])
    return HttpResponseRedirect(link("batch", public_id))


page("imports/<slug:kind>/new/", name="import_new")(new_import)
page("imports/<slug:kind>/template.csv", name="import_template", methods=("GET",))(template)
page("bulk/<slug:kind>/", name="bulk")(bulk)
page("imports/<str:public_id>/", name="batch", methods=("GET",))(one_batch)
page("imports/<str:public_id>/progress/", name="batch_progress", methods=("GET",))(progress)
page("imports/<str:public_id>/confirm/", name="batch_confirm")(Confirm.as_view())
page("imports/<str:public_id>/take-back/", name="batch_take_back")(TakeBack.as_view())
page("imports/<str:public_id>/turn/", name="batch_turn", methods=("POST",))(turn)


# All of them ----------------------------------------------------------------------------------------------------------


@requires(VIEW)
def batch_list(request: HttpRequest) -> HttpResponse:
    """Newest first, by keys."""
    before, rows = request.GET.get("before", ""), Batch.objects.order_by("-id")
    if before.isdecimal() and len(before) < 18:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: A_PAGE + 1])
    return render_page(
        request,
        "batches/list.html",
        trail=[("Imports", "")],
        kinds=kinds(request),
        rows=[
            {
                "batch": batch,
                "act": ROW_ACTS[batch.kind].one if batch.kind in ROW_ACTS else batch.kind,
                "url": link("batch", batch.public_id),
                "state": DOTS[State(batch.state)],
            }
            for batch in found[:A_PAGE]
        ],
        older=f"?before={found[A_PAGE - 1].pk}" if len(found) > A_PAGE else "",
        first=not before,
        overrides_url=link("entitlements_overridebatch_changelist"),
    )


@admin.register(Batch)
class BatchAdmin(ModelAdmin):
    """The frame around the list of imports and bulk acts."""

    def get_urls(self) -> list[URLPattern]:
        return [path("", self.admin_site.admin_view(batch_list), name="billing_admin_batch_changelist")]
