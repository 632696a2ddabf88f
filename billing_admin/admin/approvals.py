"""What waits for a second person: the inbox, one request with what it would do, and the rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.db.models.fields.json import KT
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.functional import cached_property

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, link
from billing_admin.approving import Shown
from billing_admin.flows import approvals as verbs
from billing_admin.flows.approval_rules import RuleTerms, ruled_acts, said, switch_rule, write_rule
from billing_admin.flows.approvals import DECIDE, Compared, act_of, compared, is_requester, refuse_decision
from billing_admin.models import ApprovalRequest, ApprovalRule
from billing_admin.pages import ActPage, render_page
from billing_admin.site import page
from customers.journal import Actor
from customers.models import Operation

VIEW = "billing_admin.view_approvalrequest"
RULES = "billing_admin.change_approvalrule"
A_PAGE = 50
SEVERAL = "several_roles"
State = ApprovalRequest.State
TONES = {
    State.WAITING: "draft",
    State.APPLIED: "on",
    State.REFUSED: "failed",
    State.OUTDATED: "past_due",
}


def person(request: HttpRequest) -> User:
    assert isinstance(request.user, User), "pages of the desk are for people"
    return request.user


# The inbox ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request as a list shows it."""

    request: ApprovalRequest
    url: str
    tone: str
    label: str
    asked_of: str

    @classmethod
    def of(cls, request: ApprovalRequest, now: datetime) -> "RequestRow":
        is_over = request.state == State.WAITING and request.expires_at <= now
        state = State.EXPIRED if is_over else State(request.state)
        # Lists leave out what it shows, and read this word of it alone.
        roles = vars(request).get(SEVERAL) or request.approver.name
        return cls(request, link("approval", request.public_id), TONES.get(state, "off"), state.label, roles)


TABS = {"": "Waiting for me", "asked": "Asked by me", "waiting": "All that wait", "decided": "Decided"}


def of_tab(tab: str, user: User, now: datetime) -> QuerySet[ApprovalRequest]:
    match tab:
        case "asked":
            return ApprovalRequest.objects.filter(Q(user=user) | Q(key__created_by=user.get_username()))
        case "waiting":
            return ApprovalRequest.objects.waiting(now)
        case "decided":
            return ApprovalRequest.objects.exclude(state=State.WAITING)
    return verbs.waiting_for_user(user, now)


@requires(VIEW)
def inbox(request: HttpRequest) -> HttpResponse:
    """Newest first, by keys; the tab lives in the URL."""
    tab, before, user, now = (
        request.GET.get("shown", ""),
        request.GET.get("before", ""),
        person(request),
        moment(request),
    )
    tabs = TABS if allowed(request, DECIDE) else {name: words for name, words in TABS.items() if name}
    tab = tab if tab in tabs else next(iter(tabs))
    rows = with_roles(of_tab(tab, user, now)).select_related("customer", "approver").order_by("-id")
    rows = rows.defer("inputs", "shown")
    if before.isdecimal() and len(before) < 18:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: A_PAGE + 1])
    older = f"?shown={tab}&before={found[A_PAGE - 1].pk}" if len(found) > A_PAGE else ""
    return render_page(
        request,
        "approvals/inbox.html",
        trail=[("Approvals", "")],
        tabs=[(f"?shown={name}" if name else "?", words, name == tab) for name, words in tabs.items()],
        tab=tab,
        rows=[RequestRow.of(row, now) for row in found[:A_PAGE]],
        older=older,
        first=not before,
        rules_url=link("approval_rules") if allowed(request, RULES) else "",
    )


def with_roles(rows: QuerySet[ApprovalRequest]) -> QuerySet[ApprovalRequest]:
    """With the names of all roles that it takes to decide one, where it takes several."""
    return rows.annotate(**{SEVERAL: KT(f"shown__{verbs.ASKED_OF}")})


# One request ----------------------------------------------------------------------------------------------------------


def find(public_id: str) -> ApprovalRequest:
    rows = with_roles(ApprovalRequest.objects.all())
    rows = rows.select_related("customer", "approver", "user", "key", "operation")
    return get_object_or_404(rows, public_id=public_id)


@dataclass(frozen=True, slots=True)
class Present:
    """What the act would do now, beside what was shown; or why it could not be done at all."""

    rows: Sequence[Compared]
    warnings: Sequence[str]
    moved: str = ""
    refusal: str = ""
    is_made: bool = False

    @property
    def differs(self) -> bool:
        """Whether there is anything to compare, also what moves by itself."""
        return self.is_made and any(row.was != row.now for row in self.rows)


def present(asked: ApprovalRequest, now: datetime) -> Present:
    """Made anew only while it waits: what was decided stays as it was decided."""
    warnings = asked.shown.get("warnings", ())
    if asked.state != State.WAITING or asked.expires_at <= now:
        return Present(compared(asked, None), warnings)
    try:
        act = act_of(asked)
        shown: Shown = act.shown(now)
        changed = verbs.moved(asked, shown) or verbs.outgrown(asked, act, now)
    except ValidationError as refused:
        return Present(compared(asked, None), warnings, refusal=" ".join(refused.messages))
    return Present(compared(asked, shown), shown.warnings, moved=changed, is_made=True)


def why_not(asked: ApprovalRequest, user: User, now: datetime) -> str:
    """Why this person cannot decide it; empty when they can."""
    try:
        refuse_decision(asked, user, now)
    except ValidationError as refused:
        return " ".join(refused.messages)
    return ""


@requires(VIEW)
def one(request: HttpRequest, public_id: str) -> HttpResponse:
    asked, now, user = find(public_id), moment(request), person(request)
    waits = asked.state == State.WAITING and asked.expires_at > now
    refusal = why_not(asked, user, now) if waits else ""
    return render_page(
        request,
        "approvals/one.html",
        trail=[("Approvals", link("approvals")), (asked.public_id, "")],
        asked=asked,
        row=RequestRow.of(asked, now),
        waits=waits,
        present=present(asked, now),
        refusal=refusal if waits and allowed(request, DECIDE) else "",
        may_decide=waits and not refusal,
        may_withdraw=waits and is_requester(asked, Actor.of(user)),
        customer_url=customer_link(asked.customer_id) if asked.customer_id else "",
        history_url=_history(asked.operation),
        links={name: link(f"approval_{name}", asked.public_id) for name in ("approve", "refuse", "withdraw")},
    )


def _history(operation: Operation | None) -> str:
    """The journal, at the act that was carried out."""
    if operation is None:
        return ""
    return link("customers_operation_changelist", before=operation.pk + 1, customer=operation.customer_id)


class RequestAct(ActPage):
    """An act on one request; goes back to its page."""

    permission: str | tuple[str, ...] = DECIDE

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.asked = find(kwargs["public_id"])

    def back(self) -> str:
        return link("approval", self.asked.public_id)

    def trail(self) -> list[tuple[str, str]]:
        return [("Approvals", link("approvals")), (self.asked.public_id, self.back()), (self.get_title(), "")]


class Approve(RequestAct):
    """What has moved since cannot be approved; then the same act tells whoever asked."""

    @cached_property
    def moved(self) -> str:
        return present(self.asked, moment(self.request)).moved

    def get_title(self) -> str:
        return "Send it back" if self.moved else "Approve"

    def get_submit(self) -> str:
        return "Send it back" if self.moved else "Approve and do it"

    def get_outcome(self) -> str:
        if self.moved:
            return f"Nothing is done. {self.moved} {self.asked.requested_by} is told, and can ask again."
        return f"{self.asked.shown['sentence']}: done at once, in the name of {self.asked.requested_by}."

    def act(self, form: forms.Form) -> str:
        decided = verbs.approve(self.asked, user=person(self.request), now=moment(self.request))
        if decided.state == State.OUTDATED:
            messages.warning(
                self.request, f"Nothing was done. {decided.answer} {decided.requested_by} has to ask again."
            )
        else:
            messages.success(self.request, f"Approved and done: {decided.title}")
        return self.back()


class RefuseForm(forms.Form):
    reason = forms.CharField(
        label="Reason",
        max_length=500,
        help_text="Whoever asked reads it.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class Refuse(RequestAct):
    title = "Refuse"
    submit = "Refuse the request"
    danger = True
    form_class = RefuseForm
    outcome = "Nothing is done. It can be asked for again."

    def act(self, form: RefuseForm) -> str:
        user, now = person(self.request), moment(self.request)
        verbs.refuse(self.asked, reason=form.cleaned_data["reason"], user=user, now=now)
        messages.success(self.request, f"Refused: {self.asked.title}")
        return self.back()


class WithdrawForm(forms.Form):
    reason = forms.CharField(
        label="Reason", max_length=500, required=False, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )


class Withdraw(RequestAct):
    permission = VIEW
    title = "Withdraw the request"
    form_class = WithdrawForm
    outcome = "Nothing is done, and nobody can approve it any more."

    def act(self, form: WithdrawForm) -> str:
        actor, now = Actor.of(self.request.user), moment(self.request)
        verbs.withdraw(self.asked, reason=form.cleaned_data["reason"], actor=actor, now=now)
        messages.success(self.request, f"Withdrawn: {self.asked.title}")
        return self.back()


# The rules ------------------------------------------------------------------------------------------------------------


@requires(RULES)
def rules(request: HttpRequest) -> HttpResponse:
    rows = ApprovalRule.objects.select_related("approver").prefetch_related("for_roles")
    return render_page(
        request,
        "approvals/rules.html",
        trail=[("Approvals", link("approvals")), ("Rules", "")],
        rows=[
            {
                "rule": rule,
                "sentence": said(rule),
                "edit_url": link("approval_rule", rule.pk),
                "switch_url": link("approval_rule_switch", rule.pk),
            }
            for rule in sorted(rows, key=lambda rule: (not rule.is_active, rule.act, rule.above or 0, rule.pk))
        ],
        new_url=link("approval_rule_new"),
    )


class RuleForm(forms.Form):
    act = forms.ChoiceField(label="Act")
    measure = forms.ChoiceField(label="Measured by", required=False)
    above = forms.DecimalField(
        label="Above",
        required=False,
        max_digits=24,
        decimal_places=6,
        help_text="Percent, an amount in major units (250.00), units, days, or customers. Empty: every such act.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    currency = forms.ChoiceField(label="Currency", required=False, help_text="Of an amount.")
    within_hours = forms.IntegerField(
        label="Together with others of so many hours",
        required=False,
        min_value=1,
        help_text="Amounts and units: what the same person did for the same customer in that time counts along. "
        "Empty: each act by itself.",
    )
    for_roles = forms.ModelMultipleChoiceField(
        Group.objects.order_by("name"),
        label="Asked of",
        required=False,
        help_text="None ticked: everybody, superusers included.",
        widget=forms.CheckboxSelectMultiple,
    )
    approver = forms.ModelChoiceField(
        Group.objects.filter(permissions__codename="decide_approval").order_by("name"),
        label="Approved by",
        empty_label=None,
        help_text="Roles that may decide. Nobody approves what they asked for themselves.",
    )
    expires_hours = forms.IntegerField(label="Hours until a request expires", initial=72, min_value=1)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        acts = ruled_acts()
        measures: dict[str, list[str]] = {}
        for kind in acts.values():
            for name, words in kind.measures.items():
                measures.setdefault(name, []).append(words)
        self._choices("act", [(key, kind.title) for key, kind in acts.items()])
        named = [(name, words[0][:1].upper() + words[0][1:]) for name, words in measures.items()]
        self._choices("measure", [("", "Every one of them"), *named])
        self._choices("currency", [("", "Any"), *((code, code) for code in settings.CURRENCIES)])

    def _choices(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices

    @property
    def terms(self) -> RuleTerms:
        """After `is_valid()`."""
        said = self.cleaned_data
        return RuleTerms(
            said["act"],
            said["approver"],
            measure=said["measure"],
            above=said["above"],
            currency=said["currency"],
            for_roles=list(said["for_roles"]),
            expires_hours=said["expires_hours"],
            within_hours=said["within_hours"],
        )


class RulePage(ActPage):
    permission = RULES

    def back(self) -> str:
        return link("approval_rules")

    def trail(self) -> list[tuple[str, str]]:
        return [("Approvals", link("approvals")), ("Rules", self.back()), (self.get_title(), "")]

    def find(self) -> ApprovalRule:
        rows = ApprovalRule.objects.select_related("approver").prefetch_related("for_roles")
        return get_object_or_404(rows, pk=self.kwargs["pk"])


class NewRule(RulePage):
    form_class = RuleForm
    title = "New rule"
    submit = "Add rule"
    outcome = "It holds at once, for pages, the API and bulk acts alike."

    def act(self, form: RuleForm) -> str:
        rule = write_rule(form.terms, actor=Actor.of(self.request.user), now=moment(self.request))
        messages.success(self.request, said(rule))
        return self.back()


class EditRule(RulePage):
    form_class = RuleForm
    title = "Change the rule"
    submit = "Save rule"
    outcome = "It holds at once. Requests that wait already keep the rule as it was."

    def get_initial(self) -> dict[str, Any]:
        rule = self.find()
        fields = ("act", "measure", "above", "currency", "within_hours", "approver", "expires_hours")
        return {name: getattr(rule, name) for name in fields} | {"for_roles": rule.for_roles.all()}

    def act(self, form: RuleForm) -> str:
        rule = write_rule(form.terms, rule=self.find(), actor=Actor.of(self.request.user), now=moment(self.request))
        messages.success(self.request, said(rule))
        return self.back()


class SwitchRule(RulePage):
    """Off, or on again."""

    def get_title(self) -> str:
        return "Switch the rule off" if self.find().is_active else "Switch the rule on"

    def get_outcome(self) -> str:
        rule = self.find()
        then = "Nobody is asked any more; what waits already still waits." if rule.is_active else "It holds at once."
        return f"{said(rule)} {then}"

    def act(self, form: forms.Form) -> str:
        rule = self.find()
        switched = switch_rule(rule, on=not rule.is_active, actor=Actor.of(self.request.user), now=moment(self.request))
        messages.success(self.request, f"{'On' if switched.is_active else 'Off'}: {said(switched)}")
        return self.back()


page("approvals/", name="approvals", methods=("GET",))(inbox)
page("approvals/rules/", name="approval_rules", methods=("GET",))(rules)
page("approvals/rules/new/", name="approval_rule_new")(NewRule.as_view())
page("approvals/rules/<int:pk>/", name="approval_rule")(EditRule.as_view())
page("approvals/rules/<int:pk>/switch/", name="approval_rule_switch")(SwitchRule.as_view())
page("approvals/<str:public_id>/", name="approval", methods=("GET",))(one)
page("approvals/<str:public_id>/approve/", name="approval_approve")(Approve.as_view())
page("approvals/<str:public_id>/refuse/", name="approval_refuse")(Refuse.as_view())
page("approvals/<str:public_id>/withdraw/", name="approval_withdraw")(Withdraw.as_view())
