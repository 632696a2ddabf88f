"""Pages of the desk: each a small declaration inside the admin frame.

An `ActPage` is one act on one thing: GET shows its form, POST does it. Where there is JavaScript a link with
`hx-get="…" hx-target="#desk-dialog"` opens the same page as a dialog.
"""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.views.generic import FormView

from billing_admin.access import RequiresMixin
from billing_admin.middleware import DeskRequest

INPUT = "desk-input"


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
        except ValidationError as refused:
            add_refusal(form, refused)
            return self.form_invalid(form)
        if self.is_dialog:
            return HttpResponse(status=204, headers={"HX-Redirect": url})
        return HttpResponseRedirect(url)

    @property
    def is_dialog(self) -> bool:
        return bool(self.request.headers.get("HX-Request"))

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


def add_refusal(form: forms.BaseForm, refused: ValidationError) -> None:
    """A verb's refusal on the form: at its field where it names one that is there, else at the top."""
    if hasattr(refused, "error_dict"):
        for name, errors in refused.error_dict.items():
            form.add_error(name if name in form.fields else None, errors)
    else:
        form.add_error(None, refused)
