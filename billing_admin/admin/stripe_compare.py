"""Where our books and Stripe's part: the last comparison, what it found side by side, and the repairs that are safe."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import find_customer, moment
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.admin.stripe_collection import WithKeys, in_dashboard, require_keys
from billing_admin.flows import stripe_compare
from billing_admin.flows.stripe_compare import IN_STEP, MOVING, STAGES, counted, told
from billing_admin.flows.stripe_repair import LABELS, Preview, is_away, preview, preview_many, repair
from billing_admin.pages import ActPage, dress, render_page
from billing_admin.site import page
from catalog.after import after_commit
from customers.journal import Actor
from invoicing.models import Invoice, Payment
from payments.gateway import in_a_hurry
from payments.models import Difference, StripeRun
from payments.words import DIFFERENCES, NOT_REPAIRED

USE = "payments.use_stripe"
VIEW = "payments.view_difference"
A_PAGE = 50
RUNS = 30
# Of so many each is asked for, one after the other, while a person waits.
MOST_AT_ONCE = 25
Kind, Subject = Difference.Kind, Difference.Subject
SUBJECTS = {
    Subject.CUSTOMER: "Customers",
    Subject.INVOICE: "Invoices",
    Subject.PAYMENT: "Payments",
    Subject.SUBSCRIPTION: "Subscriptions",
}
# Where Stripe's dashboard shows each.
PLACES = {
    Subject.CUSTOMER: "customers",
    Subject.INVOICE: "invoices",
    Subject.PAYMENT: "payments",
    Subject.SUBSCRIPTION: "subscriptions",
}
SHOWN = {"": "Open", "settled": "Settled", "all": "All"}


# What is narrowed to --------------------------------------------------------------------------------------------------


class DifferencesFilter(forms.Form):
    """Lives in the URL."""

    subject = forms.ChoiceField(
        required=False,
        choices=[("", "Everything"), *SUBJECTS.items()],
        widget=forms.Select(attrs={"data-go": "", "aria-label": "What"}),
    )
    kind = forms.ChoiceField(
        required=False,
        choices=[("", "Every kind"), *Kind.choices],
        widget=forms.Select(attrs={"data-go": "", "aria-label": "Kind"}),
    )
    shown = forms.ChoiceField(
        required=False, choices=list(SHOWN.items()), widget=forms.Select(attrs={"data-go": "", "aria-label": "Which"})
    )
    customer = forms.CharField(required=False, max_length=120, widget=forms.HiddenInput)

    def narrowed(self) -> "QuerySet[Difference]":
        said = self.cleaned_data if self.is_valid() else {}
        rows = Difference.objects.select_related("customer")
        for name in ("subject", "kind"):
            if said.get(name):
                rows = rows.filter(**{name: said[name]})
        if said.get("customer"):
            rows = rows.filter(customer=find_customer(said["customer"]))
        if said.get("shown") != "all":
            rows = rows.filter(settled_at__isnull=said.get("shown") != "settled")
        return rows.order_by("-id")


# Rows -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """One difference as the page shows it. `why_not` says why it has no button."""

    row: Difference
    subject: str
    what: str
    customer_url: str
    our_url: str
    dashboard_url: str
    repair: str
    repair_url: str
    why_not: str


def difference_rows(rows: Sequence[Difference], *, may: bool) -> list[DifferenceRow]:
    """With the documents that they are about, in two queries."""
    documents = _documents(rows)
    return [
        DifferenceRow(
            row=row,
            subject=row.get_subject_display(),
            what=words_of(row),
            customer_url=customer_link(row.customer_id) if row.customer_id else "",
            our_url=invoice_link(documents[row.our_id]) if row.our_id in documents else "",
            dashboard_url=in_dashboard(PLACES[Subject(row.subject)], row.stripe_id) if row.stripe_id else "",
            repair=LABELS.get(row.repair, ""),
            repair_url=link("stripe_repair", row.pk) if may and row.repair and row.settled_at is None else "",
            why_not="" if row.repair else NOT_REPAIRED.get((row.subject, row.kind), ""),
        )
        for row in rows
    ]


def words_of(row: Difference) -> str:
    return DIFFERENCES.get((row.subject, row.kind), row.get_kind_display())


def _documents(rows: Iterable[Difference]) -> dict[str, int]:
    """Keys of invoices by what a difference calls them: their own id, or that of a payment."""
    ids = [row.our_id for row in rows if row.subject in (Subject.INVOICE, Subject.PAYMENT) and row.our_id]
    found = dict(Invoice.objects.filter(public_id__in=ids).values_list("public_id", "pk"))
    return found | dict(Payment.objects.filter(public_id__in=ids).values_list("public_id", "invoice_id"))


@dataclass(frozen=True, slots=True)
class Group:
    """How many there are of one kind, and where all of them are repaired."""

    subject: str
    what: str
    number: int
    url: str
    repair: str
    repair_url: str


def groups(*, may: bool) -> list[Group]:
    counts = (
        Difference.objects.filter(settled_at=None)
        .order_by("subject", "kind", "repair")
        .values_list("subject", "kind", "repair")
        .annotate(number=Count("id"))
    )
    return [
        Group(
            subject=SUBJECTS[Subject(subject)],
            what=DIFFERENCES.get((subject, kind), Kind(kind).label),
            number=number,
            url=link("stripe_compare", subject=subject, kind=kind),
            repair=LABELS.get(name, ""),
            repair_url=link("stripe_repair_all", subject=subject, kind=kind, repair=name) if name and may else "",
        )
        for subject, kind, name, number in counts
    ]


# The comparison -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubjectCount:
    title: str
    in_step: int
    differing: int
    moving: int
    url: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """One comparison: what it looked at, and how far it is. `took` is empty while it runs."""

    run: StripeRun
    took: str
    counts: tuple[SubjectCount, ...]
    stage: int = 0
    stages: int = len(STAGES)

    @property
    def in_step(self) -> int:
        return sum(count.in_step for count in self.counts)

    @property
    def looked(self) -> int:
        return sum(count.in_step + count.differing + count.moving for count in self.counts)


def run_row(run: StripeRun, differing: Mapping[str, int]) -> RunRow:
    counts = counted(run)
    names = list(STAGES)
    return RunRow(
        run,
        took_of(run),
        tuple(
            SubjectCount(
                title=title,
                in_step=counts[subject][IN_STEP],
                differing=differing.get(subject, 0),
                moving=counts[subject][MOVING],
                url=link("stripe_compare", subject=subject),
            )
            for subject, title in SUBJECTS.items()
        ),
        stage=names.index(run.cursor["stage"]) if run.cursor else len(names),
    )


def took_of(run: StripeRun) -> str:
    if run.finished_at is None:
        return ""
    seconds = int((run.finished_at - run.started_at).total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"


def _about(request: HttpRequest) -> dict[str, Any]:
    running, last = stripe_compare.unfinished(), stripe_compare.latest()
    differing = stripe_compare.open_differences()
    return {
        "running": run_row(running, differing) if running else None,
        "last": run_row(last, differing) if last else None,
        "number": sum(differing.values()),
        "progress_url": link("stripe_compare_progress"),
        "begin_url": link("stripe_compare_begin") if allowed(request, USE) else "",
        "runs_url": link("stripe_compare_runs"),
    }


@requires(VIEW)
def compare_page(request: HttpRequest) -> HttpResponse:
    """Newest first, by keys instead of pages that have to be counted."""
    require_keys()
    may = allowed(request, USE)
    form = DifferencesFilter(request.GET)
    dress(form)
    rows, before = form.narrowed(), request.GET.get("before", "")
    if before.isdecimal() and len(before) < 18:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: A_PAGE + 1])
    asked = request.GET.copy()
    if len(found) > A_PAGE:
        asked["before"] = str(found[A_PAGE - 1].pk)
    narrowing = {name: value for name, value in request.GET.items() if name != "before" and value}
    said = form.cleaned_data if form.is_valid() else {}
    return render_page(
        request,
        "stripe/compare.html",
        trail=[("Reconciliation", "")],
        form=form,
        rows=difference_rows(found[:A_PAGE], may=may),
        groups=groups(may=may),
        older=f"?{asked.urlencode()}" if len(found) > A_PAGE else "",
        first=not before,
        narrowed=bool(narrowing),
        narrowed_to=find_customer(said["customer"]).name if said.get("customer") else "",
        **_about(request),
    )


@requires(VIEW)
def progress(request: HttpRequest) -> HttpResponse:
    """What a page that waits asks for again and again; the end brings the whole page anew."""
    require_keys()
    about = _about(request)
    if about["running"] is None:
        return HttpResponse(headers={"HX-Refresh": "true"})
    return TemplateResponse(request, "stripe/compare_progress.html", about)


@requires(USE)
def begin(request: HttpRequest) -> HttpResponse:
    """A worker carries it out; the page follows."""
    require_keys()
    stripe_compare.begin(actor=Actor.of(request.user), now=moment(request))
    hand_over()
    return HttpResponseRedirect(link("stripe_compare"))


def hand_over() -> None:
    """Let a worker begin at once; without one, the clockwork does."""
    from billing_admin.tasks import compare_with_stripe  # Celery takes memory that web processes need only here

    after_commit(compare_with_stripe.apply_async, retry=False)


@requires(VIEW)
def runs(request: HttpRequest) -> HttpResponse:
    require_keys()
    rows, before = StripeRun.objects.filter(kind=StripeRun.Kind.COMPARISON), request.GET.get("before", "")
    if before.isdecimal() and len(before) < 18:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: RUNS + 1])
    return render_page(
        request,
        "stripe/compare_runs.html",
        trail=[("Reconciliation", link("stripe_compare")), ("Comparisons", "")],
        rows=[(run_row(run, {}), told(run)) for run in found[:RUNS]],
        older=f"?before={found[RUNS - 1].pk}" if len(found) > RUNS else "",
        first=not before,
    )


# Repairs --------------------------------------------------------------------------------------------------------------


class ConfirmForm(forms.Form):
    """What was looked at comes back as the fingerprint of its preview."""

    confirmed = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)


class RepairPage(WithKeys, ActPage):
    """What would be written where, and the button that does it."""

    permission = USE
    form_class = ConfirmForm
    act_template = "stripe/repair.html"
    page_template = "stripe/repair_page.html"
    row: Difference

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        found = Difference.objects.select_related("customer", "run").filter(pk=kwargs["pk"]).first()
        if found is None:
            raise Http404("There is no such difference.")
        self.row = found

    def get_title(self) -> str:
        return LABELS.get(self.row.repair, "No safe repair")

    def back(self) -> str:
        return link("stripe_compare")

    def trail(self) -> list[tuple[str, str]]:
        return [("Reconciliation", self.back()), (self.get_title(), "")]

    def extra(self) -> dict[str, Any]:
        seen: Preview | None = None
        why_not = ""
        try:
            with in_a_hurry():
                seen = preview(self.row, moment(self.request))
        except ValidationError as refused:
            why_not = refused.messages[0]
        [shown] = difference_rows([self.row], may=False)
        return {"shown": shown, "seen": seen, "why_not": why_not}

    def act(self, form: forms.Form) -> str:
        with in_a_hurry():
            done = repair(
                self.row,
                confirmed=form.cleaned_data["confirmed"],
                actor=Actor.of(self.request.user),
                now=moment(self.request),
            )
        if done.is_gone:
            messages.success(self.request, "Done, and compared again: both sides agree.")
        else:
            messages.warning(self.request, "Done, but the two sides do not agree yet. The next comparison looks again.")
        return self.back()


def _of_kind(said: Mapping[str, str]) -> "QuerySet[Difference]":
    """The oldest first: those of one kind that one repair ends."""
    rows = Difference.objects.filter(settled_at=None, subject=said.get("subject"), kind=said.get("kind"))
    return rows.filter(repair=said.get("repair") or "none").select_related("customer", "run").order_by("id")


@requires(USE)
def repair_all(request: HttpRequest) -> HttpResponse:
    """The preview of each, then all of them; whatever moved between is left out and said."""
    require_keys()
    if request.method == "POST":
        return _repair_each(request)
    rows = _of_kind(request.GET)
    with in_a_hurry():
        tried = preview_many(list(rows[:MOST_AT_ONCE]), moment(request))
    return render_page(
        request,
        "stripe/repair_all.html",
        trail=[("Reconciliation", link("stripe_compare")), ("Repair all", "")],
        tried=list(zip(tried, difference_rows([each.difference for each in tried], may=False), strict=True)),
        label=LABELS.get(request.GET.get("repair", ""), ""),
        ready=sum(each.preview is not None for each in tried),
        left=max(0, rows.count() - len(tried)),
        back_url=link("stripe_compare"),
    )


def _repair_each(request: HttpRequest) -> HttpResponse:
    confirmed = dict(each.partition("-")[::2] for each in request.POST.getlist("one")[:MOST_AT_ONCE])
    keys = [int(key) for key in confirmed if key.isdecimal() and len(key) < 18]
    gone, refused = 0, []
    for row in Difference.objects.filter(pk__in=keys).select_related("customer", "run").order_by("id"):
        try:
            with in_a_hurry():
                done = repair(row, confirmed=confirmed[str(row.pk)], actor=Actor.of(request.user), now=moment(request))
            gone += done.is_gone
        except ValidationError as why:
            refused.append(f"{row.our_id or row.stripe_id}: {why.messages[0]}")
            if is_away(why):
                break
    if gone:
        messages.success(request, f"{gone:,} repaired and compared again: both sides agree.")
    if left := len(keys) - gone - len(refused):
        messages.warning(request, f"{left:,} do not agree yet. The next comparison looks again.")
    for sentence in refused[:5]:
        messages.error(request, sentence)
    return HttpResponseRedirect(link("stripe_compare"))


page("stripe/compare/", name="stripe_compare", methods=("GET",))(compare_page)
page("stripe/compare/progress/", name="stripe_compare_progress", methods=("GET",))(progress)
page("stripe/compare/begin/", name="stripe_compare_begin", methods=("POST",))(begin)
page("stripe/compare/runs/", name="stripe_compare_runs", methods=("GET",))(runs)
page("stripe/compare/repair/", name="stripe_repair_all")(repair_all)
page("stripe/compare/<int:pk>/repair/", name="stripe_repair")(RepairPage.as_view())
