"""The wallet of a customer: a panel on their page, its ledger, and the dialogs that move money by hand."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from secrets import token_urlsafe
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import CustomerAct, find_customer, moment
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.panels import FeatureRow
from billing_admin.flows.wallets import correct_wallet, pay_out_wallet, top_up_wallet
from billing_admin.pages import dress, render_page
from billing_admin.site import page
from billing_admin.typed import in_calendar
from catalog.money import exponent, format_rate, to_major, to_minor
from customers.models import Customer
from invoicing.models import Wallet, WalletEntry
from invoicing.wallet import signed_rate, wallet_of

VIEW = "invoicing.view_wallet"
TOP_UP = "invoicing.top_up_wallet"
A_PAGE = 50
IN_PANEL = 3
TEXT = {"autocomplete": "off"}


# The panel ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EntryRow:
    """One line of the ledger, in words; `why` says where its amount comes from."""

    at: datetime
    what: str
    why: str
    who: str
    amount: str
    after: str
    is_credit: bool


@dataclass(frozen=True, slots=True)
class WalletPanel:
    balance: str
    is_empty: bool
    pays_at_once: bool
    entries: tuple[EntryRow, ...]
    url: str
    acts: tuple[tuple[str, str], ...]


def panel(
    request: HttpRequest, customer: Customer, features: Iterable[FeatureRow], *, has_wallet: bool
) -> WalletPanel | None:
    """For whoever may look, where there is a wallet or a plan that charges it; then one query."""
    pays_at_once = any(bucket.item.is_instant for row in features for bucket in row.access.buckets)
    if not allowed(request, VIEW) or not (has_wallet or pays_at_once):
        return None
    newest = list(entries_of(customer)[:IN_PANEL])
    wallet = newest[0].wallet if newest else None
    balance = wallet.balance if wallet else Decimal(0)
    currency = wallet.currency if wallet else customer.currency
    return WalletPanel(
        balance=format_rate(balance, currency) if currency else "Empty",
        is_empty=not balance,
        pays_at_once=pays_at_once,
        entries=tuple(entry_row(entry) for entry in newest),
        url=link("customer_wallet", customer.pk),
        acts=acts_for(request, customer, wallet),
    )


def acts_for(request: HttpRequest, customer: Customer, wallet: Wallet | None) -> tuple[tuple[str, str], ...]:
    """(title, address) of what this person may do with the wallet; a closed customer's is only emptied."""
    if not allowed(request, TOP_UP):
        return ()
    found = [] if customer.closed_at else [("Top up", link("wallet_top_up", customer.pk))]
    if wallet and wallet.balance:
        found.append(("Pay out", link("wallet_pay_out", customer.pk)))
    if wallet and not customer.closed_at:
        found.append(("Correct", link("wallet_correct", customer.pk)))
    return tuple(found)


def entry_row(entry: WalletEntry) -> EntryRow:
    """Reads the wallet, the operation, and the event with its feature, which should be joined."""
    currency, operation = entry.wallet.currency, entry.operation
    kind = entry.get_kind_display()
    reason = f"“{operation.reason}”" if operation and operation.reason else ""
    said = [entry.reference, reason, entry.derivation.get("sum", "")]
    return EntryRow(
        at=entry.at,
        what=f"{kind} · {entry.event.feature.name}" if entry.event else kind,
        why=" · ".join(text for text in said if text),
        who=operation.actor if operation else "",
        amount=f"+{format_rate(entry.amount, currency)}" if entry.amount > 0 else signed_rate(entry.amount, currency),
        after=format_rate(entry.balance_after, currency),
        is_credit=entry.amount > 0,
    )


# The ledger -----------------------------------------------------------------------------------------------------------


class LedgerFilter(forms.Form):
    """What the ledger is narrowed to; lives in the URL. Days are whole days in UTC."""

    q = forms.CharField(
        required=False,
        label="Search",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Reference, event or feature"}),
    )
    kind = forms.ChoiceField(
        required=False,
        choices=[("", "Every kind"), *WalletEntry.Kind.choices],
        widget=forms.Select(attrs={"data-go": "", "aria-label": "Kind"}),
    )
    since = forms.DateField(
        required=False, label="From", validators=[in_calendar], widget=forms.DateInput(attrs={"type": "date"})
    )
    until = forms.DateField(
        required=False, label="To", validators=[in_calendar], widget=forms.DateInput(attrs={"type": "date"})
    )

    def narrowed(self, entries: QuerySet[WalletEntry]) -> QuerySet[WalletEntry]:
        said = self.cleaned_data if self.is_valid() else {}
        if words := said.get("q", "").strip():
            among = Q(reference__icontains=words) | Q(event__public_id=words) | Q(event__feature__slug=words)
            entries = entries.filter(among | Q(event__feature__name__iexact=words))
        if said.get("kind"):
            entries = entries.filter(kind=said["kind"])
        if said.get("since"):
            entries = entries.filter(at__gte=datetime.combine(said["since"], time(), UTC))
        if said.get("until"):
            entries = entries.filter(at__lt=datetime.combine(said["until"], time(), UTC) + timedelta(days=1))
        return entries


def entries_of(customer: Customer) -> QuerySet[WalletEntry]:
    rows = WalletEntry.objects.filter(wallet__customer=customer)
    return rows.select_related("wallet", "operation", "event__feature").order_by("-id")


@requires(VIEW)
def wallet_ledger(request: HttpRequest, key: str) -> HttpResponse:
    """Every line with the balance after it, the newest first; what is shown is also what is exported."""
    customer = find_customer(key)
    form = LedgerFilter(request.GET)
    dress(form)
    entries = form.narrowed(entries_of(customer))
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit():
        entries = entries.filter(pk__lt=int(before[:18]))
    found = list(entries[: A_PAGE + 1])
    asked = request.GET.copy()
    asked.pop("before", None)
    said = asked.dict()
    if len(found) > A_PAGE:
        asked["before"] = str(found[A_PAGE - 1].pk)
    wallet = wallet_of(customer)
    return render_page(
        request,
        "wallet/ledger.html",
        trail=[*_trail(customer), ("Wallet", "")],
        customer=customer,
        form=form,
        rows=[entry_row(entry) for entry in found[:A_PAGE]],
        balance=format_rate(wallet.balance, wallet.currency) if wallet else "",
        acts=acts_for(request, customer, wallet),
        export_query={**said, "customer": customer.pk},
        older=f"?{asked.urlencode()}" if len(found) > A_PAGE else "",
        first=not before,
        narrowed=any(value for name, value in request.GET.items() if name != "before"),
    )


def _trail(customer: Customer) -> list[tuple[str, str]]:
    return [("Customers", link("customers_customer_changelist")), (customer.name, customer_link(customer.pk))]


# Dialogs --------------------------------------------------------------------------------------------------------------


class MoneyField(forms.DecimalField):
    """Major units, with as many decimals as somebody typed."""

    def __init__(self, **more: Any) -> None:
        attrs = {**TEXT, "inputmode": "decimal", "autofocus": True}
        super().__init__(max_digits=24, decimal_places=12, widget=forms.TextInput(attrs=attrs), **more)


class TopUpForm(forms.Form):
    amount = MoneyField()
    currency = forms.ChoiceField()
    reference = forms.CharField(
        max_length=200,
        help_text="The bank's or the provider's number of the payment.",
        widget=forms.TextInput(attrs=TEXT),
    )
    # Pressing twice sends the same form twice: it counts once.
    key = forms.CharField(max_length=255, required=False, widget=forms.HiddenInput())

    def __init__(self, *args: Any, currency: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        codes = [currency] if currency else settings.CURRENCIES
        self.fields["currency"].choices = [(code, code) for code in codes]  # type: ignore[attr-defined]
        self.fields["key"].initial = token_urlsafe(16)
        if currency:
            self.fields["currency"].widget = forms.HiddenInput()
            self.fields["currency"].initial = currency
            self.fields["amount"].label = f"Amount ({currency})"


class PayOutForm(forms.Form):
    amount = MoneyField(required=False, help_text="Empty: all of it.")
    reference = forms.CharField(
        max_length=200,
        required=False,
        help_text="The bank's or the provider's number of the payment.",
        widget=forms.TextInput(attrs=TEXT),
    )
    reason = forms.CharField(max_length=500, widget=forms.TextInput(attrs=TEXT))

    def __init__(self, *args: Any, currency: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["amount"].label = f"Amount ({currency})"


class CorrectForm(forms.Form):
    amount = MoneyField(help_text="What is added; with a minus, what is taken out.")
    reason = forms.CharField(max_length=500, widget=forms.TextInput(attrs=TEXT))

    def __init__(self, *args: Any, currency: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["amount"].label = f"Change ({currency})"


@dataclass(frozen=True, slots=True)
class Afterwards:
    """What will be true, in a sentence, and what the button says."""

    sentence: str
    submit: str
    is_possible: bool = True


class WalletAct(CustomerAct):
    """One act on the wallet; the sentence and the button follow what is typed."""

    permission = TOP_UP
    act_template = "wallet/act.html"
    words: ClassVar[str] = ""
    slug: ClassVar[str] = ""

    @classmethod
    def amount_of(cls, wallet: Wallet | None, amount: Decimal | None, currency: str) -> Decimal | None:
        """By how much the balance changes; None while nothing that could be meant was typed."""
        raise NotImplementedError

    @classmethod
    def afterwards(cls, customer: Customer, typed: str, currency: str) -> Afterwards:
        wallet = wallet_of(customer)
        now = wallet.balance if wallet else Decimal(0)
        change = cls.amount_of(wallet, _typed(typed), currency) if currency else None
        if change is None:
            return Afterwards("Enter an amount to see what the wallet holds afterwards.", cls.words, is_possible=False)
        if now + change < 0:
            lacks = f"The wallet has {format_rate(now, currency)}, which is less than that."
            return Afterwards(lacks, cls.words, is_possible=False)
        verb = cls.words if cls.words != "Correct" else "Correct by"
        return Afterwards(
            f"The wallet then holds {format_rate(now + change, currency)}; now it has {format_rate(now, currency)}.",
            f"{verb} {signed_rate(change, currency) if cls is CorrectWallet else format_rate(abs(change), currency)}",
        )

    def get_title(self) -> str:
        return f"{self.words} the wallet" if self.words != "Pay out" else "Pay out of the wallet"

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "currency": currency_of(self.customer)}

    def extra(self) -> dict[str, Any]:
        typed = self.request.POST.get("amount", "")
        currency = self.request.POST.get("currency") or currency_of(self.customer)
        return {
            "planned": self.afterwards(self.customer, typed, _known(currency)),
            "preview_url": link("wallet_preview", self.customer.pk, self.slug),
        }

    def back(self) -> str:
        return link("customer_wallet", self.customer.pk) if self.came_from_ledger else customer_link(self.customer.pk)

    @property
    def came_from_ledger(self) -> bool:
        return self.request.GET.get("from") == "ledger"

    def act(self, form: Any) -> str:
        try:
            entry = self.move(form.cleaned_data)
        except ValidationError as refused:
            field = getattr(refused, "field", None)
            raise (ValidationError({field: refused.messages}) if field else refused) from refused
        holds = format_rate(entry.balance_after, entry.wallet.currency)
        messages.success(self.request, f"The wallet of {self.customer.name} holds {holds}.")
        return self.back()

    def move(self, said: dict[str, Any]) -> WalletEntry:
        raise NotImplementedError


class TopUpWallet(WalletAct):
    form_class = TopUpForm
    words = "Top up"
    slug = "top-up"

    @classmethod
    def amount_of(cls, wallet: Wallet | None, amount: Decimal | None, currency: str) -> Decimal | None:
        return _rounded(amount, currency)

    def move(self, said: dict[str, Any]) -> WalletEntry:
        done = top_up_wallet(
            self.customer,
            said["amount"],
            said["currency"],
            reference=said["reference"],
            key=said["key"] or None,
            actor=self.actor,
            now=moment(self.request),
        )
        return done.entry


class PayOutWallet(WalletAct):
    form_class = PayOutForm
    words = "Pay out"
    slug = "pay-out"

    @classmethod
    def amount_of(cls, wallet: Wallet | None, amount: Decimal | None, currency: str) -> Decimal | None:
        leaves = _rounded(amount, currency)
        return None if leaves is None else -leaves

    @classmethod
    def afterwards(cls, customer: Customer, typed: str, currency: str) -> Afterwards:
        wallet = wallet_of(customer)
        if not typed.strip() and wallet and wallet.balance:
            all_of_it = f"All of {format_rate(wallet.balance, wallet.currency)} is paid out; the wallet is empty then."
            return Afterwards(all_of_it, f"Pay out {format_rate(wallet.balance, wallet.currency)}")
        return super().afterwards(customer, typed, currency)

    def move(self, said: dict[str, Any]) -> WalletEntry:
        return pay_out_wallet(self.customer, **said, actor=self.actor, now=moment(self.request))


class CorrectWallet(WalletAct):
    form_class = CorrectForm
    words = "Correct"
    slug = "correct"

    @classmethod
    def amount_of(cls, wallet: Wallet | None, amount: Decimal | None, currency: str) -> Decimal | None:
        return amount or None

    def move(self, said: dict[str, Any]) -> WalletEntry:
        return correct_wallet(self.customer, **said, actor=self.actor, now=moment(self.request))


def currency_of(customer: Customer) -> str:
    """The wallet's, else the customer's; nothing while neither is settled."""
    wallet = wallet_of(customer)
    return wallet.currency if wallet and (wallet.balance or not customer.currency) else customer.currency


def _known(currency: str) -> str:
    """A currency that was typed or left out is only used to say amounts in when it is one."""
    try:
        exponent(currency)
    except ValidationError:
        return ""
    return currency


def _typed(text: str) -> Decimal | None:
    try:
        amount = Decimal(text.strip().replace(",", ""))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and abs(amount) < Decimal(10) ** 12 else None


def _rounded(amount: Decimal | None, currency: str) -> Decimal | None:
    """As the verbs round it; None for what is not above zero."""
    rounded = to_major(to_minor(amount, currency), currency) if amount is not None else Decimal(0)
    return rounded if rounded > 0 else None


ACTS: dict[str, type[WalletAct]] = {act.slug: act for act in (TopUpWallet, PayOutWallet, CorrectWallet)}


@requires(TOP_UP)
def preview(request: HttpRequest, key: str, act: str) -> HttpResponse:
    """The sentence and the button for what has been typed so far."""
    if act not in ACTS:
        raise Http404("There is no such act.")
    customer = find_customer(key)
    currency = _known(request.GET.get("currency") or currency_of(customer))
    planned = ACTS[act].afterwards(customer, request.GET.get("amount", ""), currency)
    return TemplateResponse(request, "wallet/outcome.html", {"planned": planned, "back": customer_link(customer.pk)})


page("wallets/<str:key>/", name="customer_wallet", methods=("GET",))(wallet_ledger)
page("wallets/<str:key>/top-up/", name="wallet_top_up")(TopUpWallet.as_view())
page("wallets/<str:key>/pay-out/", name="wallet_pay_out")(PayOutWallet.as_view())
page("wallets/<str:key>/correct/", name="wallet_correct")(CorrectWallet.as_view())
page("wallets/<str:key>/<slug:act>/preview/", name="wallet_preview", methods=("GET",))(preview)
