"""The collection of one invoice with Stripe, for staff: where it stands, what comes next, and what can be done."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django import forms
from django.db.models import Q, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.invoice_acts import InvoiceAct, ReasonForm
from billing_admin.admin.links import link
from billing_admin.flows.stripe_account import failing, reached
from billing_admin.flows.stripe_anew import (
    StripeIsAway,
    can_be_retried,
    collect_anew,
    collect_with_stripe,
    retry,
    stop_collecting,
)
from billing_admin.flows.stripe_collect import charged_again_at, refresh
from billing_admin.site import page
from billing_admin.stripe_provider import pass_on
from catalog.after import after_commit
from catalog.money import format_minor
from invoicing.models import Invoice, Refund
from invoicing.states import InvoiceState
from payments.gateway import NotAllowed, StripeTrouble, Unreachable, enabled, in_a_hurry, livemode
from payments.models import Method, StripeAccount, StripeInvoice
from payments.words import AFTER_PARKED, STANDINGS, Standing, after_processing

USE = "payments.use_stripe"
VIEW = "payments.view_stripeinvoice"
State = StripeInvoice.State
# A worker is expected to move these on within seconds, so the panel looks again.
SOON = (State.WAITING,)
ANEW = (
    State.VOID, State.OUTSIDE, State.UNCOLLECTIBLE, State.PARKED, State.DECLINED, State.NEEDS_METHOD, State.SENT,
    State.ACTION,
)  # fmt: skip
STOPPABLE = (State.WAITING, State.NEEDS_METHOD, State.SENT, State.ACTION, State.DECLINED, State.PARKED)
SHORT: dict[str, str] = {State.ACTION: "Needs confirmation"}
CHOICES = [(value, SHORT.get(value, label)) for value, label in State.choices]
DASHBOARD = "https://dashboard.stripe.com"


class WithKeys:
    """For pages that only keys of Stripe make: without them the address leads nowhere."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        require_keys()
        answer: HttpResponse = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        return answer


def require_keys() -> None:
    if not enabled():
        raise Http404("Stripe is not set up here.")


def in_dashboard(kind: str, stripe_id: str) -> str:
    """Where Stripe's own dashboard shows an object: `in_dashboard("invoices", "in_…")`."""
    mode = "" if livemode() else "/test"
    return f"{DASHBOARD}{mode}/{kind}/{stripe_id}"


def word_of(row: StripeInvoice) -> str:
    """Its state in a word or two, where Django's own label is a sentence."""
    return SHORT.get(row.state) or str(row.get_state_display())


# The panel ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CollectionAct:
    label: str
    url: str
    primary: bool = False


@dataclass(frozen=True, slots=True)
class Collection:
    """What the panel shows. `state` is (word, tone); empty while the invoice is not collected with Stripe."""

    state: tuple[str, str] = ("", "")
    what: str = ""
    next: str = ""
    next_at: datetime | None = None
    tried: int = 0
    method: str = ""
    money: tuple[tuple[str, str], ...] = ()
    unexplained: str = ""
    credit_url: str = ""
    ids: tuple[tuple[str, str], ...] = ()
    hosted_url: str = ""
    pdf_url: str = ""
    dashboard_url: str = ""
    seen_at: datetime | None = None
    acts: tuple[CollectionAct, ...] = ()
    is_test: bool = False
    url: str = ""
    looks_again: bool = False


def read_collection(invoice: Invoice, request: HttpRequest) -> Collection | None:
    """The panel of an invoice, whose `stripe` row is joined; None without keys, and for what Stripe never collects."""
    if not enabled() or not allowed(request, VIEW):
        return None
    row: StripeInvoice | None = getattr(invoice, "stripe", None)
    acts = tuple(acts_of(invoice, row, request))
    url = link("stripe_collection_panel", invoice.pk)
    if row is None:
        is_asked = invoice.kind == Invoice.Kind.INVOICE and invoice.state == InvoiceState.OPEN and invoice.due > 0
        if not is_asked:
            return None
        return Collection(
            what="It is not collected with Stripe.",
            next="Record payments as they come, or hand it to Stripe.",
            acts=acts,
            is_test=not livemode(),
            url=url,
        )
    return _of_row(row, acts, moment(request), url)


def _of_row(row: StripeInvoice, acts: tuple[CollectionAct, ...], now: datetime, url: str) -> Collection:
    standing = standing_of(row)
    unexplained = unexplained_refund(row)
    due_now = row.next_attempt_at is not None and row.next_attempt_at <= now
    return Collection(
        state=(word_of(row), standing.tone),
        what=standing.what,
        next="" if unexplained > 0 else standing.next,
        next_at=row.next_attempt_at if not due_now else None,
        tried=row.attempts,
        method="" if row.method == Method.NONE else row.get_method_display(),
        money=tuple(_money(row)),
        unexplained=format_minor(unexplained, row.invoice.currency) if unexplained > 0 else "",
        credit_url=link("invoice_credit", row.invoice_id),
        ids=tuple((what, id_) for what, id_ in _ids(row) if id_),
        hosted_url=row.hosted_url,
        pdf_url=row.pdf_url,
        dashboard_url=in_dashboard("invoices", row.stripe_id) if row.stripe_id else "",
        seen_at=row.seen_at,
        acts=acts,
        is_test=not livemode(),
        url=url,
        looks_again=due_now or (row.state in SOON and not row.attempts),
    )


def standing_of(row: StripeInvoice) -> Standing:
    """The sentences of a row: Stripe's own where something is wrong, else those of its state."""
    known = STANDINGS[row.state]
    what = row.problem or known.what
    if row.attempts:
        return Standing("wait", what, f"It is tried again by itself; {row.attempts} so far.")
    if row.state == State.VOID and row.invoice.state == InvoiceState.OPEN:
        if row.method == Method.NONE:
            return Standing("off", "Somebody stopped collecting it with Stripe.", "Record payments as they come.")
        said = f"Void in Stripe, but {format_minor(row.invoice.due, row.invoice.currency)} is still open here."
        return Standing("bad", said, "Collect it anew, void it here too, or record a payment.")
    if row.status == "paid" and row.invoice.state == InvoiceState.OPEN:
        return _of_unequal(row)
    return replace(known, what=what, next=_next(row, known))


def _of_unequal(row: StripeInvoice) -> Standing:
    """Stripe asks for nothing more, though something is open here."""
    left = f"{format_minor(row.invoice.due, row.invoice.currency)} is still open here."
    if row.state == State.OUTSIDE:
        said = f"Marked as paid in Stripe without a payment, but {left}"
        return Standing("bad", said, "Record the payment if it came, void it here too, or collect it anew.")
    return Standing(
        "bad", f"Paid in Stripe, but {left}", "Look in Stripe for what was taken off; record that here, or credit it."
    )


def _next(row: StripeInvoice, known: Standing) -> str:
    if row.state == State.PARKED:
        return AFTER_PARKED.get(row.code, known.next)
    if row.state == State.PROCESSING:
        owner = getattr(row.invoice.customer, "stripe", None)
        default = owner.default_method if owner else None
        return after_processing(str(default["type"]) if default else "")
    if row.state == State.DECLINED:
        return _after_decline(row, known)
    return known.next


def _after_decline(row: StripeInvoice, known: Standing) -> str:
    account = StripeAccount.present()
    if account is not None and account.auto_advance:
        return "Stripe tries again by its own rules. The customer can pay on the hosted page meanwhile."
    at = row.next_attempt_at or charged_again_at(row)
    if at is None:
        return f"No further day for retries is left. {known.next}"
    return f"It is charged again on {at.day} {at:%b %Y}. The customer can pay on the hosted page meanwhile."


def _money(row: StripeInvoice) -> Iterator[tuple[str, str]]:
    currency = row.invoice.currency
    if row.asked and not row.collected:
        yield "Asks for", format_minor(row.asked, currency)
    if row.collected:
        yield "Collected", format_minor(row.collected, currency)
    if row.refunded:
        yield "Given back", format_minor(row.refunded, currency)


def _ids(row: StripeInvoice) -> Iterator[tuple[str, str]]:
    yield "Invoice", row.stripe_id or ""
    yield "Number", row.number
    yield "Payment", row.payment_intent


def unexplained_refund(row: StripeInvoice) -> int:
    """What Stripe gave back of this invoice beyond what credit notes of ours account for, minor units."""
    if not row.refunded:
        return 0
    sent = Refund.objects.filter(of=row.invoice_id).filter(Q(sent_at__isnull=False) | ~Q(reference=""))
    told: int = sent.exclude(credit_note__state=InvoiceState.VOID).aggregate(sum=Sum("amount"))["sum"] or 0
    return row.refunded - told


def acts_of(invoice: Invoice, row: StripeInvoice | None, request: HttpRequest) -> Iterator[CollectionAct]:
    """What can be done now by this person; the first stands out where something is wrong."""
    is_open = invoice.state == InvoiceState.OPEN and invoice.kind == Invoice.Kind.INVOICE and invoice.due > 0
    if not allowed(request, USE):
        return
    if row is None:
        if is_open:
            yield CollectionAct("Collect with Stripe", link("stripe_collect", invoice.pk), primary=True)
        return
    if can_be_retried(row):
        label = "Charge again now" if row.state == State.DECLINED else "Try again"
        yield CollectionAct(label, link("stripe_retry", invoice.pk), primary=True)
    is_void = row.state == State.VOID
    if is_open and row.state in ANEW:
        label = "Collect with Stripe" if row.method == Method.NONE else "Collect anew"
        yield CollectionAct(label, link("stripe_anew", invoice.pk), primary=is_void and row.method != Method.NONE)
    if is_open and is_void and row.method != Method.NONE and allowed(request, "invoicing.void_invoice"):
        yield CollectionAct("Void here too", link("invoice_void", invoice.pk))
    if is_open and row.state in STOPPABLE and row.method != Method.NONE:
        yield CollectionAct("Stop collecting", link("stripe_stop", invoice.pk))
    if row.stripe_id:
        yield CollectionAct("Refresh from Stripe", link("stripe_refresh", invoice.pk))


@requires("invoicing.view_invoice", VIEW)
def panel(request: HttpRequest, pk: int) -> HttpResponse:
    """The panel alone, which the page asks for again while a worker is at it."""
    require_keys()
    rows = Invoice.objects.select_related("customer__stripe", "stripe__invoice__customer__stripe")
    invoice = rows.filter(pk=pk).first()
    if invoice is None:
        raise Http404("There is no such invoice.")
    context = {"collection": read_collection(invoice, request), "invoice": invoice}
    return TemplateResponse(request, "stripe/collection.html", context)


# The acts -------------------------------------------------------------------------------------------------------------


class CollectionPage(WithKeys, InvoiceAct):
    """An act on the collection of one invoice."""

    permission: str | tuple[str, ...] = USE

    @property
    def row(self) -> StripeInvoice:
        found = StripeInvoice.objects.select_related("invoice__customer").filter(invoice=self.invoice_pk).first()
        if found is None:
            raise Http404("This invoice is not collected with Stripe.")
        return found

    @property
    def due(self) -> str:
        return self.money(self.invoice.due)

    def hand_on(self) -> None:
        """A worker takes the next step at once."""
        after_commit(pass_on, self.invoice.public_id)


class Collect(CollectionPage):
    submit = "Collect with Stripe"

    def get_title(self) -> str:
        return f"Collect {self.invoice} with Stripe"

    def get_outcome(self) -> str:
        who = self.invoice.customer
        return f"Stripe asks {who} for {self.due}: a saved payment method is charged, else the invoice waits for one."

    def act(self, form: forms.Form) -> str:
        with in_a_hurry():
            collect_with_stripe(self.invoice, actor=self.by, now=moment(self.request))
        self.hand_on()
        return self.done(f"{self.invoice} is handed to Stripe.")


class Retry(CollectionPage):
    @property
    def charges(self) -> bool:
        return self.row.state == State.DECLINED

    def get_title(self) -> str:
        return f"Charge {self.due} again now" if self.charges else f"Try to collect {self.invoice} again"

    def get_submit(self) -> str:
        return f"Charge {self.due}" if self.charges else "Try again"

    def get_outcome(self) -> str:
        if self.charges:
            days = "" if self.row.next_attempt_at is None else " It takes the place of the next day for retries."
            return f"The customer's payment method is charged {self.due} within seconds.{days}"
        return (
            "A worker takes the next step with Stripe within seconds. If the cause is still there, it is parked again."
        )

    def act(self, form: forms.Form) -> str:
        retry(self.invoice, actor=self.by, now=moment(self.request))
        self.hand_on()
        return self.done(f"{self.invoice} is on its way to Stripe again.")


class Stop(CollectionPage):
    form_class = ReasonForm
    danger = True
    submit = "Stop collecting"

    def get_title(self) -> str:
        return f"Stop collecting {self.invoice} with Stripe"

    def get_outcome(self) -> str:
        there = (
            "Stripe's invoice is voided and its page no longer takes money" if self.row.stripe_id else "It stays here"
        )
        return f"{there}; {self.due} stays open here and is collected by hand."

    def act(self, form: ReasonForm) -> str:
        stop_collecting(self.invoice, reason=form.cleaned_data["reason"], actor=self.by, now=moment(self.request))
        self.hand_on()
        return self.done(f"{self.invoice} is not collected with Stripe any more.")


class Anew(CollectionPage):
    form_class = ReasonForm
    submit = "Collect anew"

    def get_title(self) -> str:
        return f"Collect {self.invoice} anew"

    def get_outcome(self) -> str:
        is_over = self.row.state in (State.VOID, State.OUTSIDE) or not self.row.stripe_id
        ends = "" if is_over else "Stripe's invoice is voided now. "
        return (
            f"{ends}A new one asks for the {self.due} that is due, with another page to pay on; nothing is asked twice."
        )

    def act(self, form: ReasonForm) -> str:
        with in_a_hurry():
            collect_anew(self.invoice, reason=form.cleaned_data["reason"], actor=self.by, now=moment(self.request))
        self.hand_on()
        return self.done(f"{self.invoice} is handed to Stripe anew.")


class Refresh(CollectionPage):
    submit = "Refresh"

    def get_title(self) -> str:
        return f"Refresh {self.invoice} from Stripe"

    def get_outcome(self) -> str:
        return "What Stripe shows of it now stands here: its state, and payments that were not recorded yet."

    def act(self, form: forms.Form) -> str:
        now = moment(self.request)
        try:
            with in_a_hurry():
                row = refresh(self.row, now)
        except StripeTrouble as trouble:
            if isinstance(trouble, Unreachable | NotAllowed):
                failing(trouble, now)
            raise StripeIsAway(trouble) from trouble
        reached(now)
        return self.done(f"Stripe says of {self.invoice}: {row.get_state_display().lower()}.")


page("stripe/invoices/<int:pk>/", name="stripe_collection_panel", methods=("GET",))(panel)
page("stripe/invoices/<int:pk>/collect/", name="stripe_collect")(Collect.as_view())
page("stripe/invoices/<int:pk>/retry/", name="stripe_retry")(Retry.as_view())
page("stripe/invoices/<int:pk>/stop/", name="stripe_stop")(Stop.as_view())
page("stripe/invoices/<int:pk>/anew/", name="stripe_anew")(Anew.as_view())
page("stripe/invoices/<int:pk>/refresh/", name="stripe_refresh")(Refresh.as_view())
