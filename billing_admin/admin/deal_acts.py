"""Acts on one deal, each a dialog: submit, send, note who accepted, execute, give up, note, copy, amend."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse

from billing_admin.access import require
from billing_admin.admin.acts import moment
from billing_admin.admin.links import link
from billing_admin.deal_rights import ADD, CHANGE, EXECUTE, NOTE, SEND, rights_for
from billing_admin.deal_rows import worth_of
from billing_admin.flows.deal_approval import submit
from billing_admin.flows.deal_calendar import DealCalendar
from billing_admin.flows.deal_execute import execute
from billing_admin.flows.deal_mail import Letter, letter_of, send_deal
from billing_admin.flows.deal_notes import add_deal_note
from billing_admin.flows.deal_reading import calendar_for
from billing_admin.flows.deals import accept, amend, create_from, newest, read_terms, void
from billing_admin.pages import ActPage
from catalog.money import format_minor
from customers.journal import Actor
from deals.models import Deal
from deals.states import DealState

BESIDE = (
    "customer",
    "base_version__plan__product",
    "made_from",
    "amends",
    "subscription__product",
    "operation",
)


def find_deal(key: str) -> Deal:
    """By our id (`deal_…`) or by its number in our own links."""
    rows = Deal.objects.select_related(*BESIDE)
    is_number = key.isdecimal() and len(key) < 18
    found = rows.filter(pk=int(key)).first() if is_number else rows.filter(public_id=key).first()
    if found is None:
        raise Http404("There is no such deal.")
    return found


def deal_link(deal: Deal) -> str:
    return link("deals_deal_change", deal.public_id)


class DealAct(ActPage):
    """An act page below `/deals/deal/<key>/`: knows its deal, goes back to its page."""

    deal: Deal

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.actor, self.now = Actor.of(request.user), moment(request)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.deal = find_deal(kwargs["key"])
        return super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.deal = find_deal(kwargs["key"])
        return super().post(request, *args, **kwargs)

    def back(self) -> str:
        return deal_link(self.deal)

    def trail(self) -> list[tuple[str, str]]:
        return [("Deals", link("deals_deal_changelist")), (self.deal.name, self.back()), (self.get_title(), "")]


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=2000, widget=forms.Textarea(attrs={"rows": 3}))


class WhyForm(forms.Form):
    reason = forms.CharField(
        label="Why",
        required=False,
        max_length=2000,
        help_text="Whoever approves it reads this first.",
        widget=forms.Textarea(attrs={"rows": 3}),
    )


class SubmitDeal(DealAct):
    permission = CHANGE
    form_class = WhyForm
    title = "Submit for approval"

    def get_outcome(self) -> str:
        terms = read_terms(newest(self.deal))
        worth = worth_of(terms, calendar_for(self.deal, terms, now=self.now))
        return (
            f"{worth.total} over {worth.term}, {worth.discount} below list. Where a rule asks for it, a second person"
            " approves exactly this version; otherwise it is approved at once."
        )

    def act(self, form: WhyForm) -> str:
        deal = submit(self.deal, reason=form.cleaned_data["reason"], actor=self.actor, now=self.now)
        if deal.state == DealState.APPROVED:
            messages.success(self.request, f"{deal.name} is approved: no rule asks for a second person.")
        else:
            messages.success(self.request, f"{deal.name} waits for approval. Nothing is sent until then.")
        return self.back()


class SendForm(forms.Form):
    to = forms.EmailField(
        label="To", required=False, help_text="Empty: nothing is mailed; the deal is only marked as sent."
    )
    subject = forms.CharField(max_length=200)
    text = forms.CharField(widget=forms.Textarea(attrs={"rows": 9}), max_length=8000)


class SendDeal(DealAct):
    permission = SEND
    form_class = SendForm
    title = "Send the order form"
    submit = "Send"
    outcome = "The order form goes along as a PDF. The deal then waits for the customer's signature."

    def get_initial(self) -> dict[str, Any]:
        letter = letter_of(self.deal, self.now)
        return {"to": letter.to, "subject": letter.subject, "text": letter.text}

    def act(self, form: SendForm) -> str:
        said = form.cleaned_data
        send_deal(self.deal, Letter(said["to"], said["subject"], said["text"]), actor=self.actor, now=self.now)
        done = f"sent to {said['to']}" if said["to"] else "marked as sent; nothing was mailed"
        messages.success(self.request, f"{self.deal.name} is {done}.")
        return self.back()


class AcceptForm(forms.Form):
    by = forms.CharField(label="Who signed", max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    on = forms.DateField(label="On", required=False, widget=forms.DateInput(attrs={"type": "date"}))
    how = forms.CharField(
        label="How",
        max_length=60,
        required=False,
        widget=forms.TextInput(attrs={"placeholder": "signed PDF by e-mail", "autocomplete": "off"}),
    )


class AcceptDeal(DealAct):
    permission = SEND
    form_class = AcceptForm
    title = "Record acceptance"
    outcome = "The customer is bound by this version from then on; it is carried out when somebody executes it."

    def act(self, form: AcceptForm) -> str:
        said = form.cleaned_data
        day = f"{said['on']:%-d %b %Y}" if said["on"] else ""
        how = ", ".join(part for part in (said["how"].strip(), day) if part)
        accept(self.deal, by=said["by"], how=how, actor=self.actor, now=self.now)
        messages.success(self.request, f"{said['by']} has accepted {self.deal.name}.")
        return self.back()


class ExecuteDeal(DealAct):
    permission = EXECUTE
    form_class = WhyForm
    title = "Execute the deal"
    submit = "Execute"

    def get_outcome(self) -> str:
        terms = read_terms(newest(self.deal))
        calendar = calendar_for(self.deal, terms, now=self.now)
        worth = worth_of(terms, calendar)
        phases = len(terms.phases)
        begins = f"{calendar.term.opens_at:%-d %b %Y}"
        follows = "1 more phase follows by itself" if phases == 2 else f"{phases - 1} more phases follow by themselves"
        later = f"; {follows}" if phases > 1 else ""
        what = f"{self.deal.customer} is on {terms.plan_name} as agreed from {begins}{later}."
        return f"{what} {worth.total} over {worth.term}.{_at_once(calendar)}"

    def act(self, form: WhyForm) -> str:
        require(self.request, *rights_for(read_terms(newest(self.deal))))
        deal = execute(self.deal, reason=form.cleaned_data["reason"], actor=self.actor, now=self.now)
        messages.success(self.request, f"{deal.name} is carried out.")
        return self.back()


def _at_once(calendar: DealCalendar) -> str:
    """What a running contract is charged by the act, which the order form has reckoned for another day perhaps."""
    if not calendar.depends_on_day:
        return ""
    due = sum(invoice.total for invoice in calendar.invoices if invoice.at == calendar.term.opens_at)
    verb = "are charged" if due >= 0 else "are given back"
    return f" {format_minor(abs(due), calendar.currency)} {verb} at once, reckoned for today."


class VoidDeal(DealAct):
    permission = CHANGE
    form_class = ReasonForm
    title = "Give up the deal"
    submit = "Give up"
    danger = True
    outcome = "It stays to be read, and nothing of it can be carried out any more."

    def act(self, form: ReasonForm) -> str:
        void(self.deal, reason=form.cleaned_data["reason"], actor=self.actor, now=self.now)
        messages.success(self.request, f"{self.deal.name} is given up.")
        return self.back()


class NoteForm(forms.Form):
    text = forms.CharField(label="Note", widget=forms.Textarea(attrs={"rows": 4}), max_length=8000)


class AddDealNote(DealAct):
    permission = NOTE
    form_class = NoteForm
    title = "Add a note"
    submit = "Add note"

    def act(self, form: NoteForm) -> str:
        add_deal_note(self.deal, text=form.cleaned_data["text"], actor=self.actor, now=self.now)
        return self.back()


class NameForm(forms.Form):
    name = forms.CharField(max_length=200, widget=forms.TextInput(attrs={"autocomplete": "off"}))


class KeepAsTemplate(DealAct):
    permission = ADD
    form_class = NameForm
    title = "Copy as a template"
    submit = "Make the template"
    outcome = "A template says the same for nobody in particular; new deals can start from it."

    def get_initial(self) -> dict[str, Any]:
        return {"name": f"Template: {self.deal.base_version.plan.name}"}

    def act(self, form: NameForm) -> str:
        made = create_from(self.deal, None, name=form.cleaned_data["name"], actor=self.actor, now=self.now)
        return deal_link(made)


class AmendDeal(DealAct):
    permission = ADD
    form_class = NameForm
    title = "Amend the deal"
    submit = "Begin the amendment"
    outcome = "A draft begins with the phases that are left. The contract goes on as agreed until it is executed."

    def get_initial(self) -> dict[str, Any]:
        return {"name": f"{self.deal.name}, amended"[:200]}

    def act(self, form: NameForm) -> str:
        made = amend(self.deal, name=form.cleaned_data["name"], actor=self.actor, now=self.now)
        return link("deal_edit", made.public_id)
