"""Money on its way back through Stripe, on the page of its credit note; and what a person does when it got stuck."""

from dataclasses import dataclass

from django import forms
from django.http import Http404

from billing_admin.admin.acts import moment
from billing_admin.admin.invoice_acts import InvoiceAct
from billing_admin.flows.stripe_credits import pay_another_way, stuck, try_again
from catalog.money import format_minor
from invoicing.models import Invoice
from payments.gateway import enabled
from payments.models import StripeCredit

State = StripeCredit.State
TONES = {
    State.WAITING: "wait",
    State.PENDING: "wait",
    State.DONE: "good",
    State.FAILED: "bad",
    State.PARKED: "bad",
    State.CANCELED: "off",
}
WORDS = {
    State.WAITING: "Stripe is asked within a minute.",
    State.PENDING: "The bank is at it; that can take days.",
    State.DONE: "It went back the way it was paid.",
    State.FAILED: "The money is with us again. Send it another way, or void this credit note.",
    State.PARKED: "Nothing was sent. Ask again, send it another way, or void this credit note.",
    State.CANCELED: "Stripe has no more to do with it.",
}


@dataclass(frozen=True, slots=True)
class Returned:
    """One refund through Stripe: of which invoice, how much, where it stands, what is wrong."""

    of: str
    amount: str
    state: tuple[str, str]
    problem: str
    words: str
    refund_id: str


def credits_of(note: Invoice) -> list[StripeCredit]:
    is_refund = note.kind == Invoice.Kind.CREDIT_NOTE and note.settlement == Invoice.Settlement.REFUND
    return list(note.stripe_credits.select_related("of__invoice", "note")) if enabled() and is_refund else []


def returned(note: Invoice) -> list[Returned]:
    """What the page of a credit note shows of its refunds; nothing for other documents."""
    return [
        Returned(
            of=str(row.of.invoice),
            amount=format_minor(row.amount, note.currency),
            state=(row.get_state_display(), TONES[State(row.state)]),
            problem=row.problem,
            words=WORDS[State(row.state)],
            refund_id=row.refund_id,
        )
        for row in credits_of(note)
    ]


# What a person does ---------------------------------------------------------------------------------------------------


def can_be_asked_again(note: Invoice) -> bool:
    return any(row.state == State.PARKED for row in stuck(credits_of(note)))


def can_be_sent_by_hand(note: Invoice) -> bool:
    return bool(stuck(credits_of(note)))


class OfStuckRefunds(InvoiceAct):
    permission = "invoicing.credit_invoice"

    @property
    def stuck(self) -> list[StripeCredit]:
        rows = stuck(credits_of(self.invoice))
        if not rows:
            raise Http404("No refund of this document waits for a person.")
        return rows

    def amount(self, rows: list[StripeCredit]) -> str:
        return self.money(sum(row.amount for row in rows))


class AskAgain(OfStuckRefunds):
    permission = "payments.use_stripe"
    title = "Ask Stripe again"

    @property
    def parked(self) -> list[StripeCredit]:
        return [row for row in self.stuck if row.state == State.PARKED]

    def get_outcome(self) -> str:
        return f"Stripe is asked within a minute to give back {self.amount(self.parked)}."

    def act(self, form: forms.Form) -> str:
        for row in self.parked:
            try_again(row, actor=self.by, now=moment(self.request))
        return self.done("Stripe is asked again.")


class ByHandForm(forms.Form):
    reference = forms.CharField(
        max_length=200,
        help_text="What the bank calls the transfer.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class SendByHand(OfStuckRefunds):
    title = "Record another way"
    submit = "Record the transfer"
    form_class = ByHandForm

    def get_outcome(self) -> str:
        return f"{self.amount(self.stuck)} went to {self.invoice.customer} by a transfer; Stripe sends nothing."

    def act(self, form: ByHandForm) -> str:
        for row in self.stuck:
            pay_another_way(row, reference=form.cleaned_data["reference"], actor=self.by, now=moment(self.request))
        return self.done(f"The refund of {self.invoice} is recorded.")


ACTS: dict[str, type[InvoiceAct]] = {"refund-again": AskAgain, "refund-by-hand": SendByHand}
