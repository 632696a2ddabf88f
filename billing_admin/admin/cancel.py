"""Withdraw a scheduled change, cancel a subscription, take a cancellation back: dialogs, or pages of their own."""

from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join

from billing_admin.access import allowed, require
from billing_admin.admin.acts import moment
from billing_admin.admin.enable import ENABLE, permission, said
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.change_rows import money_of
from billing_admin.flows.cancel import (
    AlreadyEnded,
    Cancellation,
    Unused,
    cancel,
    preview_cancel,
    refundable_unused,
    withdraw,
)
from billing_admin.flows.renew import catch_up
from billing_admin.pages import ActPage
from billing_admin.site import page
from catalog.money import format_minor
from customers.holdings import default_contract
from customers.journal import Actor
from customers.models import Phase, Subscription
from customers.states import SubscriptionState
from customers.switch import NothingScheduled

CANCEL = "customers.cancel_subscription"
REFUND = "invoicing.credit_invoice"
CYCLE_END, NOW, ON_A_DAY = "cycle_end", "now", "on_a_day"
AT_ONCE, PAID = "at_once", "paid"


class SubscriptionAct(ActPage):
    """An act on one subscription; it goes back to the customer's page."""

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.now = moment(request)
        self.actor = Actor.of(request.user)
        self.subscription = self.read(kwargs["public_id"])
        self.customer = self.subscription.customer

    def read(self, public_id: str) -> Subscription:
        subscriptions = Subscription.objects.select_related("customer").with_phases()
        found: Subscription = get_object_or_404(subscriptions, public_id=public_id)
        return found

    @cached_property
    def phase(self) -> Phase | None:
        """The phase in force, or the last there was."""
        return self.subscription.phase_at(self.now) or next(reversed(self.subscription.kept_phases()), None)

    @property
    def plan_name(self) -> str:
        return self.phase.version.plan.name if self.phase else self.subscription.product.name

    def back(self) -> str:
        return customer_link(self.customer.pk)

    def trail(self) -> list[tuple[str, str]]:
        return [
            ("Customers", link("customers_customer_changelist")),
            (self.customer.name, self.back()),
            (self.get_title(), ""),
        ]

    def leave(self, sentence: str) -> HttpResponse:
        """There is nothing to do here any more: say so where they come from."""
        messages.warning(self.request, sentence)
        if self.is_dialog:
            return HttpResponse(status=204, headers={"HX-Redirect": self.back()})
        return HttpResponseRedirect(self.back())


class WithdrawPage(SubscriptionAct):
    """Take back what is scheduled: a change of plan, else a cancellation."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.permission = self.needed()
        return super().dispatch(request, *args, **kwargs)

    def needed(self) -> str:
        """Whoever may make a change may take it back."""
        if self.next is None:
            return CANCEL
        return ENABLE if self.next.version.tailored else permission(self.next.version.plan)

    @cached_property
    def next(self) -> Phase | None:
        return self.subscription.next_phase(self.now)

    @property
    def is_cancellation(self) -> bool:
        ends_at = self.subscription.ends_at
        return self.next is None and self.subscription.is_live and ends_at is not None and ends_at > self.now

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if self.next is None and not self.is_cancellation:
            return self.leave(said(NothingScheduled()))
        return super().get(request, *args, **kwargs)

    def get_title(self) -> str:
        return "Take back the cancellation" if self.is_cancellation else "Withdraw the scheduled change"

    def get_submit(self) -> str:
        return f"Keep {self.plan_name}" if self.is_cancellation else "Withdraw the change"

    def get_outcome(self) -> str:
        stays = f"{self.customer.name} stays on {self.plan_name}{' (custom)' if self._is_custom else ''}"
        if self.next:
            name = f"{self.next.version.plan.name}{' (custom)' if self.next.version.tailored else ''}"
            return f"{stays}; the change to {name} on {self.next.starts_at:%-d %b %Y} will not happen."
        if self.subscription.ends_at:
            return f"{stays}; it no longer ends on {self.subscription.ends_at:%-d %b %Y}."
        return ""

    @property
    def _is_custom(self) -> bool:
        return self.phase is not None and self.phase.version.tailored

    def act(self, form: forms.Form) -> str:
        sentence = self.get_outcome()
        withdraw(self.subscription, actor=self.actor, now=self.now)
        messages.success(self.request, sentence)
        return self.back()


class CancelForm(forms.Form):
    when = forms.ChoiceField(widget=forms.RadioSelect)
    ends_on = forms.DateField(
        label="Last day is the one before",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    bill_use = forms.ChoiceField(label="Open usage", widget=forms.RadioSelect, required=False)
    unused = forms.ChoiceField(label="Unused fees and prepaid packs", widget=forms.RadioSelect, required=False)
    access = forms.ChoiceField(label="Access", widget=forms.RadioSelect, required=False)
    reason = forms.CharField(
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Shown in the history and wherever the effect shows.",
        error_messages={"required": "Give a reason for a cancellation; it is shown wherever the effect shows."},
    )

    def __init__(self, *args: Any, planned: Cancellation, cycle_ends_at: datetime | None, refunds: bool, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.cycle_ends_at = cycle_ends_at
        whens = [(NOW, "Now"), (ON_A_DAY, "On another day")]
        if cycle_ends_at:
            whens.insert(0, (CYCLE_END, f"At the end of the cycle, {cycle_ends_at:%-d %b %Y}"))
        use, back = (format_minor(amount, planned.currency) for amount in (planned.use_total, planned.unused_total))
        unused = [(Unused.ACCOUNT_CREDIT, f"Account credit: {back}"), (Unused.NOTHING, "Nothing comes back")]
        if refunds:
            money = format_minor(refundable_unused(planned), planned.currency)
            unused.insert(1, (Unused.REFUND, f"Refund what was paid with money: {money}"))
        self._offer("when", whens)
        self._offer("bill_use", [("yes", f"Bill it on a final invoice: {use}"), ("no", "Do not bill it")])
        self._offer("unused", unused)
        ends = [(AT_ONCE, "Ends at once")]
        if cycle_ends_at:
            ends.append((PAID, f"Lasts for what is paid, until {cycle_ends_at:%-d %b %Y}; nothing more is billed"))
        self._offer("access", ends)

    def _offer(self, name: str, choices: Sequence[tuple[str, str]]) -> None:
        """The first choice is the usual one."""
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices, field.initial = choices, choices[0][0]

    def clean(self) -> dict[str, Any]:
        answers = super().clean() or {}
        if answers.get("when") == ON_A_DAY and not answers.get("ends_on") and "ends_on" not in self.errors:
            self.add_error("ends_on", "Say on which day access ends.")
        return answers

    @property
    def answers(self) -> dict[str, Any]:
        """As the verbs take them; whatever stands in a field counts only when it was asked for."""
        said = self.cleaned_data
        at_once = said.get("when") == NOW
        day = said.get("ends_on") if said.get("when") == ON_A_DAY else None
        return {
            "at_once": at_once,
            "ends_at": datetime.combine(day, time(), UTC) if day else None,
            "bill_use": said.get("bill_use") != "no",
            "unused": said.get("unused") or Unused.ACCOUNT_CREDIT,
            "access_until": self.cycle_ends_at if at_once and said.get("access") == PAID else None,
        }


class GiveUpForm(CancelForm):
    """What was never paid has nothing to ask about but the reason."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for name in ("when", "ends_on", "bill_use", "unused", "access"):
            del self.fields[name]

    @property
    def answers(self) -> dict[str, Any]:
        return {"at_once": True}


class CancelPage(SubscriptionAct):
    """Four questions, each with its amount, and what the answers that are ticked come to."""

    permission = CANCEL
    danger = True
    act_template = "enable/cancel.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._gone() or super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if gone := self._gone():
            return gone
        if request.POST.get("act") == "preview":
            form = self.get_form()
            form.is_valid()
            return self.render_to_response(self.get_context_data(form=form))
        return super().post(request, *args, **kwargs)

    def _gone(self) -> HttpResponse | None:
        """What is overdue is carried out first; it may be that the subscription ends with it."""
        catch_up(self.customer, now=self.now)
        self.subscription = self.read(self.subscription.public_id)
        return None if self.subscription.is_live or self.is_pending else self.leave(said(AlreadyEnded()))

    @property
    def is_pending(self) -> bool:
        return self.subscription.state == SubscriptionState.PENDING_PAYMENT

    @cached_property
    def planned(self) -> Cancellation:
        """Settled now, with the usual answers: where the amounts beside the answers come from."""
        return preview_cancel(self.subscription, at_once=True, now=self.now)

    def get_form_class(self) -> type[CancelForm]:
        return GiveUpForm if self.is_pending else CancelForm

    def get_form_kwargs(self) -> dict[str, Any]:
        settled = self.subscription.settled_at is not None
        cycle_ends_at = None if settled else self.subscription.period_ends_at
        refunds = allowed(self.request, REFUND)
        more = {"planned": self.planned, "cycle_ends_at": cycle_ends_at, "refunds": refunds}
        return super().get_form_kwargs() | more

    def get_title(self) -> str:
        return f"Cancel {self.plan_name}"

    def extra(self) -> dict[str, Any]:
        return {
            "planned": self.planned,
            "keep": f"Keep {self.plan_name}",
            "preview_url": link("cancel_preview", self.subscription.public_id),
            "is_invoiced": self.phase is not None and self.phase.terms().is_invoiced,
        }

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        return context | self.happens(context["form"])

    def happens(self, form: CancelForm) -> dict[str, Any]:
        """What the answers come to, in a sentence and as documents; or why they cannot be."""
        try:
            planned = preview_cancel(self.subscription, **self._answers(form), now=self.now)
        except ValidationError as refused:
            return {"happens": said(refused), "money": None}
        money = money_of(planned.documents, planned.currency)
        return {"happens": f"{planned.sentence} {self.afterwards}".strip(), "money": money, "outcome_of": planned}

    def _answers(self, form: CancelForm) -> dict[str, Any]:
        if not form.is_bound:
            return {"at_once": self.is_pending or form.cycle_ends_at is None}
        form.is_valid()
        return form.answers

    @cached_property
    def afterwards(self) -> str:
        """The default product may take over."""
        others = self.customer.subscriptions.live().exclude(pk=self.subscription.pk).exists()
        default = None if others else default_contract(self.customer)
        return f"Then {default.plan_name} applies." if default else ""

    def act(self, form: CancelForm) -> str:
        answers = form.answers
        if answers.get("unused") == Unused.REFUND:
            require(self.request, REFUND)
        try:
            operation, invoices = cancel(
                self.subscription, **answers, reason=form.cleaned_data["reason"], actor=self.actor, now=self.now
            )
        except ValidationError as refused:
            if getattr(refused, "code", "") != "end_in_the_past":
                raise
            raise ValidationError({"ends_on": refused.messages}) from refused
        links = format_html_join(
            "", ' <a class="desk-link" href="{}">{}</a>', ((invoice_link(i.pk), str(i)) for i in invoices)
        )
        said_now = f"{operation.summary.replace('Canceled', f'{self.plan_name} was canceled', 1)}."
        messages.success(self.request, format_html("{}{}", said_now, links))
        return self.back()


class CancelPreview(CancelPage):
    """What the ticked answers come to, alone: for the dialog while somebody chooses."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if gone := self._gone():
            return gone
        return TemplateResponse(request, "enable/cancel_outcome.html", self.happens(self.get_form()))


page("subscriptions/<str:public_id>/withdraw/", name="withdraw_change")(WithdrawPage.as_view())
page("subscriptions/<str:public_id>/uncancel/", name="uncancel_subscription")(WithdrawPage.as_view())
page("subscriptions/<str:public_id>/cancel/", name="cancel_subscription")(CancelPage.as_view())
page("subscriptions/<str:public_id>/cancel/preview/", name="cancel_preview")(CancelPreview.as_view())
