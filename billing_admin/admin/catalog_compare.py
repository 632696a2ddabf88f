"""Two versions of a plan field by field, or a custom plan and what it was made from."""

from dataclasses import dataclass

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from billing_admin.access import allowed, require
from billing_admin.admin.catalog_plans import PLANS, plan_url, trail_of
from billing_admin.admin.links import customer_link, link
from billing_admin.pages import render_page
from billing_admin.plan_page import CUSTOM, signed_minor, terms_by_version
from billing_admin.version_table import compare_table, list_price
from catalog.models import Plan, PlanVersion
from catalog.terms import ChangeKind, PlanTerms, compare
from customers.models import CustomPlan


@dataclass(frozen=True, slots=True)
class Choice:
    """One side as the address names it: a version's number, or `custom-3`."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class Side:
    version: PlanVersion
    choice: Choice
    customer: str = ""
    customer_url: str = ""


def compare_page(request: HttpRequest, pk: int) -> HttpResponse:
    require(request, "catalog.view_plan")
    plan = get_object_or_404(PLANS, pk=pk)
    versions = list(plan.versions.standard().order_by("-number"))
    before, after = sides(request, plan, versions)
    terms = terms_by_version({before.version.pk, after.version.pk}, plan)
    old, new = terms[before.version.pk], terms[after.version.pk]
    table = compare_table(old, new)
    return render_page(
        request,
        "catalog/compare.html",
        trail=[*trail_of(plan, "Compare")],
        plan=plan,
        before=before,
        after=after,
        choices=choices(versions, before, after, plan),
        swap_url=plan_url(plan, "compare", **{"from": after.choice.value, "to": before.choice.value}),
        table=table,
        rows=table.rows if "all" in request.GET else table.changed,
        shows_all="all" in request.GET,
        same=len(table.rows) - len(table.changed),
        whole_url=plan_url(plan, "compare", **{"from": before.choice.value, "to": after.choice.value, "all": 1}),
        changed_url=plan_url(plan, "compare", **{"from": before.choice.value, "to": after.choice.value}),
        meaning=meaning(old, new, is_own=before.version.tailored or after.version.tailored),
        list_prices=(list_price(old), list_price(new)),
        list_difference=signed_minor(list_price(new) - list_price(old), plan.currency),
        is_priced=not (old.is_free and new.is_free),
        move_url=move_url(request, plan, before, after),
    )


def sides(request: HttpRequest, plan: Plan, versions: list[PlanVersion]) -> tuple[Side, Side]:
    """The two that are asked for; else the current version beside the one before it."""
    if not versions:
        raise Http404("There is nothing to compare yet.")
    current = plan.current_version or versions[0]
    after = side(request, plan, versions, request.GET.get("to") or str(current.number))
    usual = _before(versions, after.version, plan)
    return side(request, plan, versions, request.GET.get("from") or usual), after


def _before(versions: list[PlanVersion], after: PlanVersion, plan: Plan) -> str:
    if after.tailored:
        return str((plan.current_version or versions[0]).number)
    older = [v.number for v in versions if v.number < after.number]
    return str(older[0] if older else versions[0].number)


def side(request: HttpRequest, plan: Plan, versions: list[PlanVersion], asked: str) -> Side:
    if asked.startswith(CUSTOM):
        return _custom_side(request, plan, asked.removeprefix(CUSTOM))
    found = next((v for v in versions if str(v.number) == asked), None)
    if found is None:
        raise Http404("There is no such version.")
    return Side(found, choice_of(found, plan))


def _custom_side(request: HttpRequest, plan: Plan, number: str) -> Side:
    asked = int(number) if number.isdecimal() and len(number) < 9 else 0
    rows = CustomPlan.objects.select_related("version", "customer")
    custom = rows.filter(version__plan=plan, version__number=asked).first()
    if custom is None:
        raise Http404("There is no such custom plan.")
    label = f"{custom.customer.name} · {custom.version.label}"
    url = customer_link(custom.customer_id) if allowed(request, "customers.view_customer") else ""
    return Side(custom.version, Choice(f"{CUSTOM}{number}", label), custom.customer.name, url)


def choice_of(version: PlanVersion, plan: Plan) -> Choice:
    state = " (draft)" if version.state == PlanVersion.State.DRAFT else ""
    current = " (current)" if version.pk == plan.current_version_id else state
    return Choice(str(version.number), f"{version.label}{current}")


def choices(versions: list[PlanVersion], before: Side, after: Side, plan: Plan) -> list[Choice]:
    """Every standard version, and whichever custom plans are looked at."""
    customs = [s.choice for s in (before, after) if s.version.tailored]
    return [*customs, *(choice_of(version, plan) for version in versions)]


def meaning(old: PlanTerms, new: PlanTerms, *, is_own: bool) -> str:
    """What the difference is to whoever is moved from one to the other; nobody is moved to or from a custom plan."""
    match compare(old, new):
        case ChangeKind.NOTHING:
            return "Both say the same."
        case ChangeKind.FEATURES:
            moved = "" if is_own else ": whoever is moved has them at once, and no money moves"
            return f"Only features differ{moved}."
    moved = "" if is_own else ": whoever is moved pays them from a billing cycle on, and nothing in between"
    return f"Prices differ{moved}."


def move_url(request: HttpRequest, plan: Plan, before: Side, after: Side) -> str:
    """Where customers of the one are moved to the other, for whoever may."""
    both = (before.version, after.version)
    movable = all(v.state != PlanVersion.State.DRAFT and not v.tailored for v in both) and both[0] != both[1]
    if not movable or plan.is_read_only or plan.is_default or not allowed(request, "customers.migrate_plan"):
        return ""
    return link("migration_new", plan.pk, **{"from": both[0].number, "to": both[1].number})
