"""Pages of the desk: each a small declaration inside the admin frame.

An `ActPage` is one act on one thing: GET shows its form, POST does it. Where there is JavaScript a link with
`hx-get="…" hx-target="#desk-dialog"` opens the same page as a dialog. Where a rule wants a second person for what was
to be done, the page shows what would be asked for instead, and asks when it is posted once more.
"""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.generic import FormView

from billing_admin.access import RequiresMixin
from billing_admin.flows.approvals import ApprovalNeeded, ask
from billing_admin.middleware import DeskRequest
from customers.journal import Actor

INPUT = "desk-input"
ASK, WHY = "ask-for-approval", "why-approve"


def dress(form: forms.BaseForm) -> None:
    """Our classes on every control, and each control tied to its help and its error."""
    for bound in form:
        widget = bound.field.widget
        if not isinstance(widget, forms.CheckboxInput | forms.RadioSelect | forms.HiddenInput):
            widget.attrs["class"] = f"{INPUT} {widget.attrs.get('class', '')}".strip()
        described = [f"{bound.auto_id}_helptext"] * bool(bound.field.help_text)
        if form.is_bound and bound.errors:
            widget.attrs["aria-invalid"] = "true"
            described.append(f"{bound.auto_id}_error")
        if described:
            widget.attrs["aria-describedby"] = " ".join(described)


def render_page(request: HttpRequest, template: str, *, trail: list[tuple[str, str]], **context: Any) -> HttpResponse:
    """A page inside the admin frame. The last of the trail is where we are."""
    request.current_app = admin.site.name
    title = trail[-1][0]
    return TemplateResponse(
        request, template, {**admin.site.each_context(request), "title": title, "trail": trail, **context}
    )


class ActPage(RequiresMixin, FormView):
    """Subclasses say `permission`, `title`, `submit`, and do it in `act`, which returns where to go next."""

    request: DeskRequest
    form_class: type[forms.BaseForm] = forms.Form
    title = ""
    submit = ""
    danger = False
    outcome = ""  # one sentence: what will be true afterwards
    act_template = "parts/act.html"
    fields_template = "parts/act_fields.html"
    page_template = "parts/act_page.html"

    def act(self, form: Any) -> str:
        """Do it; the answer is the URL to go to. A `ValidationError` is shown on the form."""
        raise NotImplementedError

    def back(self) -> str:
        """Where Cancel leads."""
        raise NotImplementedError

    def trail(self) -> list[tuple[str, str]]:
        return [("Back", self.back()), (self.get_title(), "")]

    def get_title(self) -> str:
        return self.title

    def get_submit(self) -> str:
        return self.submit or self.get_title()

    def get_outcome(self) -> str:
        return self.outcome

    def extra(self) -> dict[str, Any]:
        """What the template needs besides the form."""
        return {}

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            url = self.act(form)
        except ApprovalNeeded as needed:
            why = str(form.cleaned_data.get("reason") or "")
            return ask_for_approval(self.request, needed, back=self.back(), trail=self.trail(), reason=why)
        except ValidationError as refused:
            add_refusal(form, refused)
            return self.form_invalid(form)
        return go_on(self.request, url)

    @property
    def is_dialog(self) -> bool:
        return is_dialog(self.request)

    def render_to_response(self, context: dict[str, Any], **_kwargs: Any) -> HttpResponse:
        dress(context["form"])
        context |= {
            "action": self.request.get_full_path(),
            "back": self.back(),
            "submit": self.get_submit(),
            "danger": self.danger,
            "outcome": self.get_outcome(),
            "act_template": self.act_template,
            "fields_template": self.fields_template,
            **self.extra(),
        }
        if self.is_dialog:
            return TemplateResponse(
                self.request, self.act_template, {**context, "title": self.get_title(), "dialog": True}
            )
        return render_page(self.request, self.page_template, trail=self.trail(), **context)


def is_dialog(request: HttpRequest) -> bool:
    return bool(request.headers.get("HX-Request"))


def go_on(request: HttpRequest, url: str) -> HttpResponse:
    """To another page, also out of a dialog."""
    if is_dialog(request):
        return HttpResponse(status=204, headers={"HX-Redirect": url})
    return HttpResponseRedirect(url)


def ask_for_approval(
    request: HttpRequest, needed: ApprovalNeeded, *, back: str, trail: list[tuple[str, str]], reason: str = ""
) -> HttpResponse:
    """What would be asked for, with a button that posts the same once more; then it is asked, and the request shown.

    For any page whose verb has raised `ApprovalNeeded` on a POST.
    """
    now: datetime = request.now  # type: ignore[attr-defined]  # by the middleware
    reason = reason or needed.reason or request.POST.get(WHY, "")
    context: dict[str, Any] = {"needed": needed, "back": back, "asks_why": not reason}
    try:
        if ASK in request.POST:
            asked = ask(needed, reason=reason, actor=Actor.of(request.user), now=now)
            messages.success(request, f"{needed.asked_of} is asked for approval. Nothing is done until then.")
            return go_on(request, reverse("admin:approval", args=[asked.public_id]))
        context["shown"] = needed.act.shown(now)
    except ValidationError as refused:
        context["problem"] = " ".join(refused.messages)
    left_out = ("csrfmiddlewaretoken", ASK, WHY)
    said = [(name, value) for name, values in request.POST.lists() if name not in left_out for value in values]
    context |= {"said": said, "ask": ASK, "why": WHY, "action": request.get_full_path()}
    title, template = "Ask for approval", "approvals/ask.html"
    if is_dialog(request):
        return TemplateResponse(request, template, {**context, "title": title, "dialog": True})
    return render_page(
        request, "parts/act_page.html", trail=[*trail[:-1], (title, "")], act_template=template, **context
    )


def add_refusal(form: forms.BaseForm, refused: ValidationError) -> None:
    """A verb's refusal on the form: at its field where it names one that is there, else at the top."""
    if hasattr(refused, "error_dict"):
        for name, errors in refused.error_dict.items():
            form.add_error(name if name in form.fields else None, errors)
    else:
        form.add_error(None, refused)
