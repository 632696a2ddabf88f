"""Whom to move to which version, when, and what becomes of each price: the page before the dry run."""

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404

from billing_admin.access import requires
from billing_admin.admin.acts import moment
from billing_admin.admin.catalog_plans import PLANS, trail_of
from billing_admin.admin.links import link
from billing_admin.csv_file import LARGEST, CsvField
from billing_admin.csv_table import BadRows, Problem
from billing_admin.flows.migrate_order import (
    ALL,
    FILTER,
    LIST,
    CannotMigrate,
    Chosen,
    Order,
    check_order,
    choose,
    differing,
    read_customers,
    with_proposed,
)
from billing_admin.pages import add_refusal, dress, render_page
from billing_admin.plan_page import customers_by_version
from billing_admin.site import page
from catalog.mapping import BadMapping, PriceMapping, priced
from catalog.models import Plan, PlanVersion
from catalog.terms import ItemTerms, PlanTerms, differences
from customers.models import PlanMigration

MIGRATE = "customers.migrate_plan"
Timing = PlanMigration.Timing
DROP = "drop"
PROBLEMS_SHOWN = 50
# Orders that one person is looking at; older ones are forgotten.
KEPT, KEPT_AS = 3, "migration_orders"


@dataclass(frozen=True, slots=True)
class VersionChoice:
    version: PlanVersion
    customers: int
    is_current: bool


@dataclass(frozen=True, slots=True)
class MappingRow:
    """One priced item of the old version and what it becomes."""

    item: ItemTerms
    label: str
    price: str
    field: Any


class OrderForm(forms.Form):
    """Everything but the two versions, which the page was opened for."""

    who = forms.ChoiceField(
        choices=[(ALL, "Everybody"), (FILTER, "Whoever a filter finds"), (LIST, "A list of customers")],
        initial=ALL,
        widget=forms.RadioSelect,
        label="Who",
    )
    words = forms.CharField(
        label="Name, id or e-mail begins with",
        required=False,
        max_length=120,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    started_from = forms.DateField(
        label="On the contract since, or later", required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    started_before = forms.DateField(
        label="On the contract before", required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    listed = forms.CharField(
        label="Customer ids",
        required=False,
        strip=False,
        max_length=LARGEST,
        help_text="One a line: the application's id, or ours (cus_…). Or CSV with a column customer_id.",
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "wrap": "off", "placeholder": "acme\nglobex"}),
    )
    file = CsvField()
    timing = forms.ChoiceField(label="When", choices=Timing.choices, widget=forms.RadioSelect)
    not_before = forms.DateField(
        label="From", required=False, widget=forms.DateInput(attrs={"type": "date"}), help_text="UTC"
    )

    def __init__(self, *args: Any, order: Order, now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order, self.now = order, now
        self.differing = differing(order)
        self.has_cycles = order.plan.kind == Plan.Kind.BILLED
        self.fields["timing"].initial = Timing.NEXT_BILLING_CYCLE if self.has_cycles else Timing.NOW
        self.problems: Sequence[Problem] = ()
        self._add_mappings()

    def _add_mappings(self) -> None:
        proposed = {mapping.old: mapping.new for mapping in with_proposed(self.order).mappings}
        names = labels(self.order.new)
        kinds = [(f"to:{i.key}", f"becomes {names[i.key]} — {self.words_of(i)}") for i in self.order.new.items]
        for item in priced(self.order.old):
            target = proposed.get(item.key)
            self.fields[f"map-{item.key}"] = forms.ChoiceField(
                label=f"What {item.label} becomes",
                choices=[("", "Say what becomes of it …"), *kinds, (DROP, "is dropped")],
                initial=f"to:{target}" if target else "",
                error_messages={"required": f"Say what {item.label} becomes, or drop it on purpose."},
            )

    def words_of(self, item: ItemTerms) -> str:
        """What an item costs; what it gives, where it costs nothing."""
        words = item.describe_price(self.order.new.currency)
        return item.describe_allowance() if words == "—" else words

    @property
    def mapping_rows(self) -> list[MappingRow]:
        old, names = self.order.old, labels(self.order.old)
        return [
            MappingRow(item, names[item.key], item.describe_price(old.currency), self[f"map-{item.key}"])
            for item in priced(old)
        ]

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if said.get("who") == LIST and not self.errors and not (said["file"] or said["listed"].strip()):
            self.add_error("listed", "Write ids, or choose a file.")
        if said.get("who") == FILTER and not any(said.get(n) for n in ("words", "started_from", "started_before")):
            self.add_error("words", "Say what to find, or choose everybody.")
        if said.get("timing") == Timing.ON_DATE and not said.get("not_before") and "not_before" not in self.errors:
            self.add_error("not_before", "Say from which day on.")
        return said

    def read(self) -> Order | None:
        """What was asked for; None when something is wrong, which then stands at its field. After `is_valid()`."""
        try:
            chosen = self._chosen()
            on_date = self.cleaned_data["timing"] == Timing.ON_DATE
            order = replace(
                self.order,
                chosen=chosen,
                timing=self.cleaned_data["timing"],
                not_before=midnight(self.cleaned_data["not_before"]) if on_date else None,
                mappings=tuple(self._mappings()),
            )
            check_order(order)
            if not choose(order.from_version, chosen, self.now).exists():
                raise CannotMigrate("Nobody on that version was found.", "nobody_found")
        except BadRows as refused:
            self.problems = refused.problems
            return None
        except BadMapping as refused:
            self._refuse_mappings(refused)
            return None
        except CannotMigrate as refused:
            add_refusal_at(self, refused)
            return None
        return order

    def _chosen(self) -> Chosen:
        said = self.cleaned_data
        if said["who"] == LIST:
            return read_customers(said["file"] or said["listed"])
        if said["who"] == FILTER:
            return Chosen(
                FILTER,
                words=said["words"].strip(),
                started_from=midnight(said["started_from"]),
                started_before=midnight(said["started_before"]),
            )
        return Chosen()

    def _mappings(self) -> list[PriceMapping]:
        found = []
        for item in priced(self.order.old):
            said = self.cleaned_data[f"map-{item.key}"]
            found.append(PriceMapping(item.key, None if said == DROP else said.removeprefix("to:")))
        return found

    def _refuse_mappings(self, refused: BadMapping) -> None:
        """Each problem at its cell: those of the new side stand at every cell that names it."""
        for problem in refused.problems:
            if problem.side == "from":
                self.add_error(f"map-{problem.key}", problem.message)
                continue
            label = next((i.label for i in self.order.new.items if i.key == problem.key), problem.key)
            for item in priced(self.order.old):
                if self.cleaned_data.get(f"map-{item.key}") == f"to:{problem.key}":
                    self.add_error(f"map-{item.key}", f"Another item becomes {label} already; one price has one heir.")


def labels(terms: PlanTerms) -> dict[str, str]:
    """What people call each item, by key; with the key beside it where two have one name."""
    times = Counter(item.label for item in terms.items)
    return {i.key: i.label if times[i.label] == 1 else f"{i.label} ({i.key})" for i in terms.items}


def add_refusal_at(form: OrderForm, refused: CannotMigrate) -> None:
    """At the control that the refusal is about, where there is one."""
    if refused.field == "schedule":
        form.add_error("timing", refused)
    else:
        add_refusal(form, refused)


def midnight(day: Any) -> datetime | None:
    return datetime.combine(day, time(), UTC) if day else None


# The page -------------------------------------------------------------------------------------------------------------


@requires(MIGRATE)
def new_migration(request: HttpRequest, pk: int) -> HttpResponse:
    """GET chooses the versions, POST reads the rest and goes on to the dry run."""
    plan, now = get_object_or_404(PLANS, pk=pk), moment(request)
    versions = list(plan.versions.with_items().standard().exclude(state=PlanVersion.State.DRAFT).order_by("-number"))
    counts = customers_by_version(plan, now=now)
    shown = [VersionChoice(v, counts.get(v.pk, 0), v.pk == plan.current_version_id) for v in versions]
    trail = trail_of(plan, "Move customers")
    order = order_asked(request, plan, shown)
    if order is None or plan.is_read_only:
        return render_page(request, "migrations/none.html", trail=trail, plan=plan, follows_stripe=plan.is_read_only)
    form = OrderForm(request.POST or None, request.FILES or None, order=order, now=now)
    if request.method == "POST" and form.is_valid() and (asked := form.read()):
        return HttpResponseRedirect(link("migration_try", keep(request, asked)))
    dress(form)
    answer = render_page(
        request,
        "migrations/choose.html",
        trail=trail,
        plan=plan,
        order=order,
        froms=shown,
        tos=[choice for choice in shown if choice.version.state == PlanVersion.State.PUBLISHED],
        form=form,
        everybody=choose(order.from_version, Chosen(), now).count(),
        changes=[(d.sign, d.sentence(plan.currency)) for d in differences(order.old, order.new)],
        compare_url=link(
            "catalog_plan_compare", plan.pk, **{"from": order.from_version.number, "to": order.to_version.number}
        ),
        problems=form.problems[:PROBLEMS_SHOWN],
        more_problems=max(0, len(form.problems) - PROBLEMS_SHOWN),
    )
    answer.status_code = 422 if form.errors or form.problems else 200
    return answer


def order_asked(request: HttpRequest, plan: Plan, choices: Sequence[VersionChoice]) -> Order | None:
    """From and to as the address says, else from where most are to what is sold; None with a single version."""
    if len(choices) < 2:
        return None
    start = _numbered(choices, request.GET.get("from")) or _usual_start(choices, request.GET.get("to"))
    published = [c.version for c in choices if c.version.state == PlanVersion.State.PUBLISHED and c.version != start]
    end = _numbered(choices, request.GET.get("to"))
    if end is None or end == start:
        current = next((v for v in published if v.pk == plan.current_version_id), None)
        end = current or next(iter(published), None)
    return Order(_of(start, plan), _of(end, plan)) if end else None


def _of(version: PlanVersion, plan: Plan) -> PlanVersion:
    version.plan = plan
    return version


def _numbered(choices: Sequence[VersionChoice], number: str | None) -> PlanVersion | None:
    if not number:
        return None
    found = next((c.version for c in choices if str(c.version.number) == number), None)
    if found is None:
        raise Http404("There is no such version.")
    return found


def _usual_start(choices: Sequence[VersionChoice], end: str | None) -> PlanVersion:
    """Where most customers are of those that are not sold any more."""
    others = [c for c in choices if not c.is_current and str(c.version.number) != end] or list(choices)
    return max(others, key=lambda choice: (choice.customers, choice.version.number)).version


# Orders on their way --------------------------------------------------------------------------------------------------


def keep(request: HttpRequest, order: Order) -> str:
    """Remember an order for the pages that follow; a list can be too long for an address."""
    orders = dict(request.session.get(KEPT_AS, {}))
    key = secrets.token_urlsafe(8)
    orders[key] = order.to_json()
    request.session[KEPT_AS] = dict(list(orders.items())[-KEPT:])
    return key


def refuse_unknown(request: HttpRequest, key: str) -> None:
    """An order is there for whoever made it, until they have made others."""
    if key not in request.session.get(KEPT_AS, {}):
        raise Http404("This dry run was left behind. Start it again from the plan.")


def kept(request: HttpRequest, key: str) -> Order:
    """The order again. Not found once it is forgotten, or a version of it gone."""
    refuse_unknown(request, key)
    try:
        return Order.from_json(request.session[KEPT_AS][key])
    except ValidationError as gone:
        raise Http404(" ".join(gone.messages)) from gone


@requires(MIGRATE)
def choose_plan(request: HttpRequest) -> HttpResponse:
    """Of which plan: those with more than one version that somebody could be on."""
    plans = PLANS.exclude(kind=Plan.Kind.STRIPE).filter(archived_at=None).order_by("product__name", "name")
    published = PlanVersion.objects.standard().exclude(state=PlanVersion.State.DRAFT).filter(plan__in=plans)
    versions: dict[int, int] = {}
    for plan_id in published.order_by().values_list("plan_id", flat=True):
        versions[plan_id] = versions.get(plan_id, 0) + 1
    rows = [(plan, versions[plan.pk]) for plan in plans if versions.get(plan.pk, 0) > 1 and not plan.is_default]
    trail = [("Migrations", link("migrations")), ("Move customers", "")]
    return render_page(request, "migrations/plans.html", trail=trail, rows=rows)


page("catalog/plan/<int:pk>/move/", name="migration_new")(new_migration)
page("migrations/new/", name="migration_plans", methods=("GET",))(choose_plan)
