"""Undo: the dialog that shows an act, its inverse before it happens, and what stays; and takes it back."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing_admin.access import allowed
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, link
from billing_admin.flows.undo import confirmation, look, permissions_for, undo, why_not
from billing_admin.pages import ActPage, render_page
from billing_admin.undoing import TakenBack
from customers.journal import Actor
from customers.models import Operation
from invoicing.models import Invoice

SEE = "customers.view_operation"


class UndoForm(forms.Form):
    reason = forms.CharField(label="Reason", max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))


class UndoPage(ActPage):
    """Who may do the act may take it back: its permissions are asked for before anything is shown."""

    form_class = UndoForm
    act_template = "undo/act.html"
    taken: TakenBack

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        rows = Operation.objects.select_related("customer", "reversed_by")
        found = rows.filter(public_id=kwargs["operation"]).first()
        if found is None:
            raise Http404("There is no such act.")
        self.operation = found
        self.permission = (SEE, *permissions_for(found))
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._looked() or super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._looked() or super().post(request, *args, **kwargs)

    def _looked(self) -> HttpResponse | None:
        """Look at what taking it back would do; a page with the reason where it cannot be."""
        now = moment(self.request)
        why = why_not(self.operation, now)
        if not why:
            try:
                self.taken = look(self.operation, now)
                return None
            except ValidationError as refused:
                why = " ".join(refused.messages)
        return self._cannot(why)

    def _cannot(self, why: str) -> HttpResponse:
        title = "This act stays"
        context = {"operation": self.operation, "why": why, "back": self.back(), **self._instead()}
        if self.is_dialog:
            return TemplateResponse(self.request, "undo/cannot.html", {**context, "title": title, "dialog": True})
        trail = [*self.trail()[:-1], (title, "")]
        return render_page(self.request, "parts/act_page.html", trail=trail, act_template="undo/cannot.html", **context)

    def _instead(self) -> dict[str, str]:
        """Where its money is corrected, for whoever may see it."""
        if not allowed(self.request, "invoicing.view_invoice"):
            return {}
        invoice = Invoice.objects.filter(operation=self.operation).order_by("id").first()
        said = self.operation.inputs.get("invoice")
        invoice = invoice or (Invoice.objects.filter(public_id=said).first() if isinstance(said, str) else None)
        if invoice is None:
            return {}
        return {"instead": f"Open {invoice}", "instead_url": link("invoicing_invoice_change", invoice.pk)}

    def act(self, form: UndoForm) -> str:
        undo(
            self.operation,
            reason=form.cleaned_data["reason"],
            actor=Actor.of(self.request.user),
            now=moment(self.request),
            confirmed=self.request.POST.get("confirmed", ""),
        )
        messages.success(self.request, f"Taken back: {self.operation.summary}")
        return self.back()

    def back(self) -> str:
        customer = self.operation.customer
        return customer_link(customer.pk) if customer else link("customers_operation_changelist")

    def trail(self) -> list[tuple[str, str]]:
        customer = self.operation.customer
        first = (customer.name, self.back()) if customer else ("History", self.back())
        return [first, (self.get_title(), "")]

    def get_title(self) -> str:
        return "Take an act back"

    def get_submit(self) -> str:
        summary = self.operation.summary
        return f"Take back: {summary if len(summary) <= 60 else summary[:57].rstrip() + '…'}"

    def extra(self) -> dict[str, Any]:
        now = moment(self.request)
        return {
            "operation": self.operation,
            "taken": self.taken,
            "confirmed": confirmation(self.operation, self.taken, now),
        }
