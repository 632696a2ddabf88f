"""The plan page: its versions, their items, how they differ, who is on a plan of their own; and the acts on a plan."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from billing_admin.access import allowed, require
from billing_admin.admin.links import link
from billing_admin.admin.stripe_mirror import mirrored_of
from billing_admin.flows import catalog as acts
from billing_admin.items import ItemsForm, items_shown
from billing_admin.middleware import DeskRequest
from billing_admin.pages import ActPage, render_page
from billing_admin.plan_page import custom_rows, item_rows, suggestions, terms_by_version, version_rows
from billing_admin.templatetags.desk import state
from catalog.items import InvalidItems
from catalog.models import Plan, PlanVersion
from catalog.terms import PlanTerms, differences
from customers.journal import Actor

PLANS = Plan.objects.select_related("product", "current_version")


def plan_state(plan: Plan) -> str:
    if plan.archived_at:
        return state("archived")
    return state("published", "On sale") if plan.current_version_id else state("draft", "Not published")


def plan_url(plan: Plan, page: str = "change", **query: Any) -> str:
    url = reverse(f"admin:catalog_plan_{page}", args=[plan.pk])
    return url + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")


def trail_of(plan: Plan, *rest: str) -> list[tuple[str, str]]:
    product = reverse("admin:catalog_product_change", args=[plan.product_id])
    trail = [("Products", reverse("admin:catalog_product_changelist")), (plan.product.name, product)]
    trail.append((plan.name, plan_url(plan) if rest else ""))
    return trail + [(name, "") for name in rest]


# Looking --------------------------------------------------------------------------------------------------------------


def plan_page(request: DeskRequest, plan: Plan) -> HttpResponse:
    require(request, "catalog.view_plan")
    plan = PLANS.get(pk=plan.pk)
    versions = list(plan.versions.standard().order_by("-number"))
    draft = next((v for v in versions if v.state == PlanVersion.State.DRAFT), None)
    chosen = numbered(versions, request.GET.get("version")) or plan.current_version or draft
    other = numbered(versions, request.GET.get("compare"))
    terms = terms_by_version({v.pk for v in (chosen, other) if v}, plan)
    shown = terms.get(chosen.pk) if chosen else None
    return render_page(
        request,
        "catalog/plan.html",
        trail=trail_of(plan),
        items=item_rows(shown) if shown else [],
        conditions=shown.conditions.describe(plan.currency) if shown else [],
        compared=compared(terms[other.pk], shown, plan) if other and shown else None,
        other=other,
        suggestions=suggestions(plan, now=request.now) if allowed(request, "entitlements.view_featureoverride") else [],
        move_url=move_url(request, plan, versions, chosen),
        **frame_of(request, plan, versions, draft, chosen),
    )


def frame_of(
    request: DeskRequest,
    plan: Plan,
    versions: list[PlanVersion],
    draft: PlanVersion | None,
    chosen: PlanVersion | None,
) -> dict[str, Any]:
    """What the page and its editor share: the head, the versions, who is on a custom plan."""
    rows = version_rows(plan, versions, chosen, request.now)
    customs = custom_rows(plan, now=request.now, before=number_or_0(request.GET.get("customs_before")) or None)
    return {
        "plan": plan,
        "state_word": plan_state(plan),
        "versions": rows,
        "chosen": chosen,
        "chosen_row": next((r for r in rows if r.is_chosen), None),
        "current_row": next((r for r in rows if r.is_current), None),
        "draft": draft,
        "next_number": (versions[0].number if versions else 0) + 1,
        "customs": customs,
        "is_assigned": plan.kind == Plan.Kind.ASSIGNED,
        "mirrored": mirrored_of(plan),
        "may_change": allowed(request, "catalog.change_plan"),
        "may_rebase": allowed(request, "customers.enable_plan"),
        "may_see_customers": allowed(request, "customers.view_customer"),
    }


def move_url(request: HttpRequest, plan: Plan, versions: list[PlanVersion], chosen: PlanVersion | None) -> str:
    """Where customers are moved from the chosen version to the current one, or from an older one to the chosen."""
    published = [v for v in versions if v.state != PlanVersion.State.DRAFT]
    if len(published) < 2 or plan.is_read_only or plan.is_default or not allowed(request, "customers.migrate_plan"):
        return ""
    is_older = chosen is not None and chosen in published and chosen.pk != plan.current_version_id
    start = chosen.number if chosen and is_older else None
    return link("migration_new", plan.pk, **{"from": start})


def numbered(versions: list[PlanVersion], number: str | None) -> PlanVersion | None:
    return next((v for v in versions if str(v.number) == number), None)


def compared(other: PlanTerms, chosen: PlanTerms, plan: Plan) -> list[tuple[str, str]]:
    """From the other version to the chosen one, as sentences."""
    found = [(d.sign, d.sentence(plan.currency)) for d in differences(other, chosen)]
    if other.cadence != chosen.cadence:
        found.insert(0, ("changed", f"Cadence: {other.cadence} → {chosen.cadence}"))
    if other.conditions != chosen.conditions:
        was, becomes = (", ".join(t.conditions.describe(plan.currency)) or "none" for t in (other, chosen))
        found.append(("changed", f"Trial and minimum: {was} → {becomes}"))
    return found


# Writing the draft ----------------------------------------------------------------------------------------------------


def edit_plan_page(request: DeskRequest, pk: int) -> HttpResponse:
    """The items editor of the draft. Looking changes nothing: a draft begins with the first save."""
    require(request, "catalog.change_plan")
    plan = get_object_or_404(PLANS, pk=pk)
    versions = list(plan.versions.standard().order_by("-number"))
    draft = next((v for v in versions if v.state == PlanVersion.State.DRAFT), None)
    start = draft or plan.current_version
    terms = start.terms() if start else None
    form = ItemsForm(
        request.POST if request.method == "POST" else None,
        plan=plan,
        items=terms.items if terms else (),
        cadence=terms.cadence if terms else "P1M",
        conditions=terms.conditions if terms else None,
    )
    message = request.POST.get("message", "").strip()
    refused: list[str] = []
    if form.moved:
        refused = [
            "Somebody else saved this draft meanwhile. Yours is below: press again to put it in place of theirs."
        ]
    elif request.method == "POST" and form.is_valid():
        try:
            return carry_out(request, plan, form, message)
        except InvalidItems as found:
            form.refuse(found)
        except ValidationError as found:
            refused = found.messages
    status = 422 if form.has_errors or refused else 200
    answer = render_page(
        request,
        "catalog/plan_edit.html",
        trail=trail_of(plan, "Edit"),
        form=form,
        message=message,
        refused=refused,
        needs_message=plan.current_version_id is not None,
        **frame_of(request, plan, versions, draft, draft),
    )
    answer.status_code = status
    return answer


def carry_out(request: DeskRequest, plan: Plan, form: ItemsForm, message: str) -> HttpResponse:
    actor, now = Actor.of(request.user), request.now
    if request.POST.get("do") == "publish":
        version = acts.update(
            plan,
            form.items,
            cadence=form.cadence,
            conditions=form.conditions,
            message=message,
            actor=actor,
            now=now,
        )
        messages.success(request, f"{plan.name} {version.label} is published.")
        return HttpResponseRedirect(plan_url(plan))
    draft = acts.save_draft(plan, form.items, cadence=form.cadence, conditions=form.conditions, actor=actor, now=now)
    messages.success(request, f"Draft v{draft.number} was saved. Nobody gets it before it is published.")
    return HttpResponseRedirect(plan_url(plan, "edit"))


@require_POST
def redraw_items(request: HttpRequest, pk: int) -> HttpResponse:
    """The editor after one of its buttons; nothing is saved."""
    require(request, "catalog.view_plan")
    plan = get_object_or_404(PLANS, pk=pk)
    standard = PlanVersion.objects.filter(plan=plan, pk=number_or_0(request.GET.get("standard"))).first()
    items, cadence = items_shown(plan)
    form = ItemsForm(
        request.POST,
        plan=plan,
        items=items,
        cadence=cadence,
        standard=standard.terms() if standard else None,
        prefix=request.GET.get("prefix", "items"),
    )
    return render(request, "parts/items_editor.html", {"items": form})


@require_POST
def try_price(request: HttpRequest, pk: int) -> HttpResponse:
    """What the price in one row makes of the quantity beside it; nothing is saved."""
    require(request, "catalog.view_plan")
    plan = get_object_or_404(PLANS, pk=pk)
    form = ItemsForm(request.POST, plan=plan, prefix=request.GET.get("prefix", "items"))
    row = next((row for row in form.rows if row.id == request.GET.get("row")), None)
    if row is None:
        raise Http404("There is no such row.")
    return render(request, "parts/items_example_live.html", {"items": form, "row": row})


def number_or_0(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 18 else 0


# Acts -----------------------------------------------------------------------------------------------------------------


class PlanAct(ActPage):
    permission = "catalog.change_plan"

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.plan = get_object_or_404(PLANS, pk=kwargs["pk"])

    def back(self) -> str:
        return plan_url(self.plan)

    def trail(self) -> list[tuple[str, str]]:
        return trail_of(self.plan, self.get_title())

    @property
    def actor(self) -> Actor:
        return Actor.of(self.request.user)


class DetailsForm(forms.Form):
    name = forms.CharField(max_length=120, help_text="Internal: what staff call it.")
    invoice_display_name = forms.CharField(
        label="Invoice display name", max_length=120, help_text="What customers read on invoices."
    )
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 2}))
    currency = forms.ChoiceField()
    billing_version = forms.TypedChoiceField(
        label="Billing version",
        coerce=int,
        choices=[(1, "1"), (0, "0 (legacy)")],
        help_text="Fixed once somebody subscribed. 0 is legacy: no allowances, no first invoice as a gate.",
    )

    def __init__(self, *args: Any, plan: Plan, **kwargs: Any):
        super().__init__(*args, **kwargs)
        own = forms.ChoiceField(choices=[(c, c) for c in dict.fromkeys([plan.currency, *settings.CURRENCIES])])
        own.help_text = "Fixed once the plan has prices or subscriptions."
        self.fields["currency"] = own
        if plan.is_read_only:
            for name in ("name", "invoice_display_name", "currency", "billing_version"):
                self.fields[name].disabled = True
            self.fields["name"].help_text = "Mirrored from Stripe: change it there."


class EditDetails(PlanAct):
    submit = "Save"
    form_class = DetailsForm

    def get_title(self) -> str:
        return f"Edit {self.plan.name}"

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"plan": self.plan}

    def get_initial(self) -> dict[str, Any]:
        return {name: getattr(self.plan, name) for name in DetailsForm.base_fields}

    def act(self, form: Any) -> str:
        acts.edit_plan(self.plan, **form.cleaned_data, actor=self.actor, now=self.request.now)
        messages.success(self.request, "Saved. No new version was needed.")
        return self.back()


class MessageForm(forms.Form):
    message = forms.CharField(
        label="What changes",
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2, "autofocus": True, "placeholder": "More credits for the same price"}),
        help_text="The commit message. It stays with the version.",
    )

    def __init__(self, *args: Any, optional: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fields["message"].required = not optional


class Publish(PlanAct):
    form_class = MessageForm
    act_template = "catalog/publish.html"

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"optional": self.plan.current_version_id is None}

    def get_title(self) -> str:
        return f"Publish {self.plan.name} v{self.draft.number}" if self.draft else f"Publish {self.plan.name}"

    @property
    def draft(self) -> PlanVersion | None:
        return self.plan.versions.standard().filter(state=PlanVersion.State.DRAFT).first()

    def extra(self) -> dict[str, Any]:
        current = self.plan.current_version
        terms = terms_by_version({v.pk for v in (self.draft, current) if v}, self.plan)
        changes = compared(terms[current.pk], terms[self.draft.pk], self.plan) if current and self.draft else None
        return {"plan": self.plan, "changes": changes, "current": current}

    def get_outcome(self) -> str:
        return publish_outcome(self.plan)

    def act(self, form: Any) -> str:
        message = form.cleaned_data["message"]
        version = acts.publish(self.plan, message=message, actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{self.plan.name} {version.label} is published.")
        return self.back()


def publish_outcome(plan: Plan) -> str:
    if plan.is_default and plan.current_version:
        return f"It replaces {plan.current_version.label} at once for everyone who has nothing else."
    if plan.current_version:
        if plan.is_read_only:
            return "Everybody who subscribes to it in Stripe has it from now on, with what they used."
        return f"New subscriptions take it. Customers on {plan.current_version.label} stay on it until they are moved."
    return "Customers can take it from now on. Its items can then only change with a new version."


class DiscardDraft(PlanAct):
    form_class = forms.Form
    danger = True

    def get_title(self) -> str:
        return f"Discard the draft of {self.plan.name}"

    def get_submit(self) -> str:
        return "Discard draft"

    def get_outcome(self) -> str:
        return "What was typed is gone. What customers have stays as it is."

    def act(self, form: Any) -> str:
        acts.discard_draft(self.plan, actor=self.actor, now=self.request.now)
        return self.back()


class PlanChoice(forms.ModelChoiceField):
    def label_from_instance(self, obj: Any) -> str:
        return str(obj.title)


class DuplicateForm(forms.Form):
    source = PlanChoice(
        Plan.objects.none(),
        label="From",
        empty_label="Choose a plan",
        help_text="Its features, without prices. Fees here stay as they are.",
    )

    def __init__(self, *args: Any, plan: Plan, **kwargs: Any):
        super().__init__(*args, **kwargs)
        source = self.fields["source"]
        assert isinstance(source, PlanChoice)
        source.queryset = PLANS.filter(current_version__isnull=False).exclude(pk=plan.pk)


class DuplicateAccess(PlanAct):
    form_class = DuplicateForm
    submit = "Duplicate into the draft"

    def get_title(self) -> str:
        return "Duplicate feature access"

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"plan": self.plan}

    def get_outcome(self) -> str:
        return (
            f"The draft of {self.plan.name} gets exactly these features instead of its own. Nothing is published yet."
        )

    def act(self, form: Any) -> str:
        source = form.cleaned_data["source"]
        acts.duplicate_access(source, self.plan, actor=self.actor, now=self.request.now)
        messages.success(self.request, f"The draft has the features of {source.name} now. Check them, then publish.")
        return plan_url(self.plan, "edit")


class MakeDefault(PlanAct):
    """Asks with the present default's name; the flag then moves in one transaction."""

    form_class = forms.Form
    submit = "Make it the default"

    def get_title(self) -> str:
        return f"Make {self.plan.name} the default"

    def get_outcome(self) -> str:
        present = Plan.objects.default().exclude(pk=self.plan.pk).first()
        if present:
            moved = f"{self.plan.name} takes its place at once, for everyone who has nothing else."
            return f"{present.name} is the default now. {moved}"
        return f"{self.plan.name} then applies at once to every customer who has nothing else."

    def extra(self) -> dict[str, Any]:
        present = Plan.objects.default().exclude(pk=self.plan.pk).first()
        return {"fields_template": "catalog/confirm_default.html", "present": present}

    def act(self, form: Any) -> str:
        # Confirmed is the default that the person was shown, not whichever there is by now.
        present = Plan.objects.default().first()
        confirmed = present is None or self.request.POST.get("instead_of") == str(present.pk)
        acts.make_default(self.plan, confirmed=confirmed, actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{self.plan.name} is the default product now.")
        return self.back()


class UnsetDefault(PlanAct):
    form_class = forms.Form

    def get_title(self) -> str:
        return f"{self.plan.name} as the default"

    def get_submit(self) -> str:
        return "Have no default"

    def get_outcome(self) -> str:
        return "Customers who have nothing else then have no access at all, at once."

    def act(self, form: Any) -> str:
        acts.unset_default(self.plan, actor=self.actor, now=self.request.now)
        return self.back()


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=500, widget=forms.Textarea(attrs={"rows": 2, "autofocus": True}))


class ArchivePlan(PlanAct):
    form_class = ReasonForm

    def get_title(self) -> str:
        return f"Archive {self.plan.name}"

    def get_outcome(self) -> str:
        return "Nobody new can take it. Whoever is on it stays, with everything they have."

    def act(self, form: Any) -> str:
        acts.archive_plan(self.plan, reason=form.cleaned_data["reason"], actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{self.plan.name} was archived.")
        return self.back()


class RestorePlan(PlanAct):
    form_class = forms.Form

    def get_title(self) -> str:
        return f"Restore {self.plan.name}"

    def get_outcome(self) -> str:
        return "New subscriptions can take it again."

    def act(self, form: Any) -> str:
        acts.restore_plan(self.plan, actor=self.actor, now=self.request.now)
        return self.back()


class VersionAct(PlanAct):
    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        version = self.plan.versions.standard().filter(number=kwargs["number"]).first()
        if version is None:
            raise Http404("There is no such version.")
        self.version = version

    def back(self) -> str:
        return plan_url(self.plan, version=self.version.number)


class MakeCurrent(VersionAct):
    form_class = forms.Form

    def get_title(self) -> str:
        return f"Make {self.version.label} current"

    def get_outcome(self) -> str:
        return f"New subscriptions take {self.version.label} from now on. Nobody is moved."

    def act(self, form: Any) -> str:
        acts.make_current(self.version, actor=self.actor, now=self.request.now)
        messages.success(self.request, f"New subscriptions take {self.version.label} again.")
        return self.back()


class ArchiveVersion(VersionAct):
    form_class = ReasonForm

    def get_title(self) -> str:
        return f"Archive {self.version.label}"

    def get_outcome(self) -> str:
        return "It can no longer be made current. Customers on it stay on it."

    def act(self, form: Any) -> str:
        acts.archive_version(self.version, reason=form.cleaned_data["reason"], actor=self.actor, now=self.request.now)
        return self.back()
