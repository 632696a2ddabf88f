"""The mirror of Stripe, for staff: the import and how far it is, what could not be mirrored or followed, and why."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.stripe_collection import in_dashboard, require_keys
from billing_admin.flows import stripe_import
from billing_admin.flows.stripe_follow import look_again
from billing_admin.flows.stripe_links import link_by_key
from billing_admin.pages import render_page
from billing_admin.site import page
from catalog.models import Plan
from customers.journal import Actor
from payments.gateway import StripeTrouble, in_a_hurry
from payments.mirroring import PriceTerms
from payments.models import StripeCustomer, StripePrice, StripeRun, StripeSubscription

USE = "payments.use_stripe"
VIEW = "payments.view_striperun"
A_PAGE = 50
ONCE = Q(facts__interval="")


# The import -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StageRow:
    title: str
    count: int
    state: str  # done, now, or to come


@dataclass(frozen=True, slots=True)
class Progress:
    run: StripeRun
    stages: tuple[StageRow, ...]

    @property
    def done(self) -> int:
        return sum(stage.state == "done" for stage in self.stages)

    @property
    def is_moving(self) -> bool:
        return self.run.finished_at is None

    @property
    def share(self) -> int:
        return 100 * self.done // len(self.stages)


def progress_of(run: StripeRun) -> Progress:
    """Stripe does not say how much there is, so the bar counts stages, and each stage its rows."""
    names = [stage.name for stage in stripe_import.STAGES]
    at = names.index(run.cursor["stage"]) if run.cursor else len(names)
    words = ["done" if n < at else "now" if n == at else "to come" for n in range(len(names))]
    rows = zip(stripe_import.STAGES, words, strict=True)
    return Progress(run, tuple(StageRow(s.title, run.counts.get(s.name, 0), word) for s, word in rows))


@requires(VIEW)
def mirror(request: HttpRequest) -> HttpResponse:
    require_keys()
    return render_page(request, "stripe/mirror.html", trail=[("Mirror", "")], **_about(request))


@requires(VIEW)
def progress(request: HttpRequest) -> HttpResponse:
    """What a page that waits asks for again and again."""
    require_keys()
    return TemplateResponse(request, "stripe/mirror_progress.html", _about(request))


def _about(request: HttpRequest) -> dict[str, Any]:
    run = stripe_import.latest()
    return {
        "progress": progress_of(run) if run else None,
        "progress_url": link("stripe_mirror_progress"),
        "begin_url": link("stripe_import") if allowed(request, USE) else "",
        "counts": _counts(),
        "conflicts_url": link("stripe_conflicts"),
        "customers_url": link("stripe_customers", shown="unlinked"),
    }


def _counts() -> dict[str, int]:
    """What the mirror holds, in three queries."""
    prices = StripePrice.objects.aggregate(
        plans=Count("pk", filter=Q(conflict="", is_active=True)),
        once=Count("pk", filter=ONCE),
        bad_prices=Count("pk", filter=~Q(conflict="") & ~ONCE),
    )
    customers = StripeCustomer.objects.filter(deleted_at=None).aggregate(
        linked=Count("pk", filter=Q(customer__isnull=False)),
        unlinked=Count("pk", filter=Q(customer=None)),
        bad_customers=Count("pk", filter=Q(customer=None) & ~Q(conflict="")),
    )
    items = StripeSubscription.objects.aggregate(
        followed=Count("pk", filter=Q(subscription__ended_at=None, subscription__isnull=False)),
        bad_items=Count("pk", filter=~Q(conflict="")),
    )
    return prices | customers | items


@requires(USE)
def begin_import(request: HttpRequest) -> HttpResponse:
    require_keys()
    try:
        with in_a_hurry():
            stripe_import.begin(actor=Actor.of(request.user), now=moment(request))
    except ValidationError as refused:
        messages.error(request, refused.messages[0])
    except StripeTrouble as error:
        messages.error(request, f"The import could not begin. {error.sentence}")
    return HttpResponseRedirect(link("stripe_mirror"))


# What is in the way ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conflict:
    """One thing of Stripe's that nothing here goes with. `whose` is the customer or product it belongs to."""

    stripe_id: str
    kind: str
    whose: str
    why: str
    url: str = ""
    act_url: str = ""
    act: str = ""
    dashboard_url: str = ""


@requires(VIEW)
def conflicts(request: HttpRequest) -> HttpResponse:
    """The newest of each kind; nothing here is decided by itself."""
    require_keys()
    groups = [
        ("Subscriptions", "Nothing here follows them.", _subscriptions()),
        ("Customers", "Nobody here is them.", _customers(may=allowed(request, USE))),
        ("Prices", "No plan here stands for them.", _prices()),
    ]
    return render_page(
        request,
        "stripe/conflicts.html",
        trail=[("Mirror", link("stripe_mirror")), ("Conflicts", "")],
        groups=[group for group in groups if group[2]],
        most=A_PAGE,
        again_url=link("stripe_look_again") if allowed(request, USE) else "",
        once=StripePrice.objects.filter(ONCE).count(),
    )


def _subscriptions() -> list[Conflict]:
    rows = StripeSubscription.objects.exclude(conflict="").select_related("stripe_customer__customer")
    return [
        Conflict(
            stripe_id=row.stripe_id,
            kind=row.status,
            whose=str(row.stripe_customer.customer or row.stripe_customer),
            why=row.conflict,
            url=customer_link(row.stripe_customer.customer_id) if row.stripe_customer.customer_id else "",
            dashboard_url=in_dashboard("subscriptions", row.stripe_id),
        )
        for row in rows.order_by("-id")[:A_PAGE]
    ]


def _customers(*, may: bool) -> list[Conflict]:
    rows = StripeCustomer.objects.unlinked().exclude(conflict="").order_by("-id")
    return [
        Conflict(
            stripe_id=row.stripe_id,
            kind="",
            whose=row.name or row.email,
            why=row.conflict,
            act_url=link("stripe_link", row.pk) if may else "",
            act="Link",
            dashboard_url=in_dashboard("customers", row.stripe_id),
        )
        for row in rows[:A_PAGE]
    ]


def _prices() -> list[Conflict]:
    rows = StripePrice.objects.exclude(conflict="").exclude(ONCE).select_related("product").order_by("-id")
    return [
        Conflict(
            stripe_id=row.stripe_id,
            kind="" if row.is_active else "archived",
            whose=row.product.name,
            why=row.conflict,
            dashboard_url=in_dashboard("prices", row.stripe_id),
        )
        for row in rows[:A_PAGE]
    ]


@requires(USE)
def look_at_conflicts(request: HttpRequest) -> HttpResponse:
    """Once more, with what is true by now."""
    require_keys()
    now = moment(request)
    waiting = StripeCustomer.objects.unlinked().exclude(key="").order_by("-id").values_list("pk", flat=True)
    linked = link_by_key(list(waiting[:A_PAGE]), now)
    followed = look_again(now)
    messages.success(request, f"Linked {linked:,} customers and brought {followed:,} subscriptions in line.")
    return HttpResponseRedirect(link("stripe_conflicts"))


page("stripe/mirror/", name="stripe_mirror", methods=("GET",))(mirror)
page("stripe/mirror/progress/", name="stripe_mirror_progress", methods=("GET",))(progress)
page("stripe/mirror/import/", name="stripe_import", methods=("POST",))(begin_import)
page("stripe/mirror/conflicts/", name="stripe_conflicts", methods=("GET",))(conflicts)
page("stripe/mirror/conflicts/again/", name="stripe_look_again", methods=("POST",))(look_at_conflicts)


# On the page of a plan ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a plan mirrors: Stripe's price in words, its tiers a line each."""

    price_id: str
    product_id: str
    lines: tuple[str, ...]
    is_active: bool
    followed: int
    dashboard_url: str


def mirrored_of(plan: Plan) -> Mirrored | None:
    """For a plan that is mirrored; two queries."""
    row = StripePrice.objects.filter(plan=plan).select_related("product").first() if plan.is_read_only else None
    if row is None:
        return None
    return Mirrored(
        price_id=row.stripe_id,
        product_id=row.product.stripe_id,
        lines=tuple(PriceTerms.read(row.facts).describe()),
        is_active=row.is_active and row.product.is_active,
        followed=row.subscriptions.filter(subscription__ended_at=None, subscription__isnull=False).count(),
        dashboard_url=in_dashboard("prices", row.stripe_id),
    )
