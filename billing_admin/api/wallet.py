"""The wallet: money that a customer paid ahead, for use that is charged event by event."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self

from django.conf import settings
from ninja import Query, Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer
from billing_admin.api.refusals import BadValue
from billing_admin.api.shapes import Answer, Body, ExactRate, Id, Major, Page, Rate, Reason
from billing_admin.flows import wallets as verbs
from catalog.items import check_currency
from customers.models import Customer
from invoicing.models import Wallet, WalletEntry
from invoicing.wallet import signed_rate, wallet_of

router = Router(tags=["Wallet"])

VIEW = "invoicing.view_wallet"
TOP_UP = "invoicing.top_up_wallet"

Reference = Annotated[str, Field(max_length=200)]


class ExactMoney(Answer):
    """Major units of a currency, exact to twelve decimals, and the same for people."""

    amount: ExactRate = Field(examples=["17.970002"])
    currency: str = Field(examples=["USD"])
    formatted: str = Field(examples=["$17.970002"])

    @classmethod
    def of(cls, amount: Decimal, currency: str) -> Self:
        return cls(amount=amount, currency=currency, formatted=signed_rate(amount, currency))


class EntryOut(Answer):
    id: str = Field(description="Of the entry; also the cursor of what follows it.")
    kind: str = Field(description="`top_up`, `debit`, `return`, `withdrawal` or `correction`.", examples=["debit"])
    amount: ExactMoney = Field(description="Below zero where it leaves the wallet.")
    balance_after: ExactMoney
    event_id: str | None = Field(description="The event that was charged, or gave units back.")
    reference: str
    reason: str
    actor: str | None
    how: str | None = Field(description="The sum that a debit comes from.", examples=["3 × $0.50 = $1.50"])
    at: datetime

    @classmethod
    def of(cls, entry: WalletEntry) -> Self:
        """Reads the wallet, the event and the operation, which should be joined."""
        currency, operation = entry.wallet.currency, entry.operation
        return cls(
            id=str(entry.pk),
            kind=entry.kind,
            amount=ExactMoney.of(entry.amount, currency),
            balance_after=ExactMoney.of(entry.balance_after, currency),
            event_id=entry.event.public_id if entry.event else None,
            reference=entry.reference,
            reason=operation.reason if operation else "",
            actor=operation.actor if operation else None,
            how=entry.derivation.get("sum"),
            at=entry.at,
        )


class WalletOut(Answer):
    """A wallet that was never topped up holds nothing."""

    customer_id: str
    balance: ExactMoney | None = Field(description="Null while the customer has no currency.")

    @classmethod
    def of(cls, customer: Customer, wallet: Wallet | None) -> Self:
        currency = wallet.currency if wallet else customer.currency
        balance = wallet.balance if wallet else Decimal(0)
        return cls(customer_id=customer.customer_id, balance=ExactMoney.of(balance, currency) if currency else None)


class EntriesOut(Page):
    data: list[EntryOut]


class TopUpIn(Body):
    amount: Major = Field(
        description="Major units; rounded to the currency's minor unit as it comes in.", examples=["50.00"]
    )
    currency: Annotated[str, Field(min_length=3, max_length=3)] = Field(examples=["USD"])
    reference: Reference = Field(description="The bank's or the provider's number of the payment.")
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        None, description="Counted once per customer and key, for good; the header `Idempotency-Key` may carry it."
    )


class PayoutIn(Body):
    amount: Major | None = Field(None, description="Major units; all of it when left out.", examples=["20.00"])
    reference: Reference = ""
    reason: Reason


class CorrectionIn(Body):
    amount: Rate = Field(description="Major units, exact; below zero takes money out.", examples=["-0.50"])
    reason: Reason


class EntryMade(Answer):
    entry: EntryOut
    wallet: WalletOut

    @classmethod
    def of(cls, customer: Customer, entry: WalletEntry) -> Self:
        wallet = Wallet.objects.get(pk=entry.wallet_id)
        return cls(entry=EntryOut.of(entry), wallet=WalletOut.of(customer, wallet))


class ToppedUp(EntryMade):
    applied: bool = Field(default=True, description="False: the key was known, and `entry` is the first one.")


@endpoint(router, "GET", "/customers/{customer_id}/wallet", needs=VIEW, gives=WalletOut, refuses=[404])
def read_wallet(request: ApiRequest, customer_id: Id) -> WalletOut:
    """What the wallet of a customer holds."""
    customer = find_customer(customer_id)
    return WalletOut.of(customer, wallet_of(customer))


@endpoint(router, "GET", "/customers/{customer_id}/wallet/entries", needs=VIEW, gives=EntriesOut, refuses=[404])
def list_wallet_entries(
    request: ApiRequest,
    customer_id: Id,
    kind: Annotated[str, Query(max_length=10)] = "",
    cursor: Annotated[str | None, Query(max_length=18)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> EntriesOut:
    """What came into a wallet and left it, the newest first; `kind` narrows it down."""
    wallet = wallet_of(find_customer(customer_id))
    if kind and kind not in WalletEntry.Kind.values:
        raise BadValue("kind", f"Allowed: {', '.join(WalletEntry.Kind.values)}.")
    if cursor is not None and not (cursor.isascii() and cursor.isdigit()):
        raise BadValue("cursor", "This is not a cursor of this list.", "bad_cursor")
    if wallet is None:
        return EntriesOut(data=[], next_cursor=None)
    rows = wallet.entries.select_related("wallet", "event", "operation").order_by("-id")
    rows = rows.filter(kind=kind) if kind else rows
    rows = rows.filter(pk__lt=int(cursor)) if cursor else rows
    found = list(rows[: limit + 1])
    following = str(found[limit - 1].pk) if len(found) > limit else None
    return EntriesOut(data=[EntryOut.of(entry) for entry in found[:limit]], next_cursor=following)


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/wallet/top-ups",
    needs=TOP_UP,
    gives=ToppedUp,
    status=201,
    also=ASKED,
    refuses=[404, 409],
    example={"amount": "50.00", "currency": "USD", "reference": "wire 2026-03-14/0815", "idempotencyKey": "tx-4711"},
)
def top_up_wallet(request: ApiRequest, customer_id: Id, body: TopUpIn) -> ToppedUp:
    """Put money that arrived into the wallet, once per key.

    The same key for another amount is 409 `idempotency_conflict`. A wallet is in the customer's currency: the first
    top-up settles it where nothing has yet.
    """
    key = body.idempotency_key or request.headers.get("Idempotency-Key") or None
    if key and not key.isprintable():
        raise BadValue("idempotency_key", "A key has at most 255 printable characters.")
    customer = find_customer(customer_id)
    if not customer.currency:
        check_currency(body.currency, settings.CURRENCIES)
    done = verbs.top_up_wallet(
        customer,
        body.amount,
        body.currency,
        reference=body.reference,
        key=key,
        actor=request.auth.actor,
        now=request.now,
    )
    made = EntryMade.of(customer, done.entry)
    return ToppedUp(applied=done.applied, entry=made.entry, wallet=made.wallet)


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/wallet/payouts",
    needs=TOP_UP,
    gives=EntryMade,
    status=201,
    also=ASKED,
    refuses=[404, 409],
    example={"amount": "20.00", "reason": "contract ended", "reference": "wire 2026-06-02/77"},
)
def pay_out_wallet(request: ApiRequest, customer_id: Id, body: PayoutIn) -> EntryMade:
    """Pay money out of the wallet, back to the customer; refused with 409 `insufficient_funds` beyond what is there."""
    customer = find_customer(customer_id)
    entry = verbs.pay_out_wallet(
        customer,
        body.amount,
        reason=body.reason,
        reference=body.reference,
        actor=request.auth.actor,
        now=request.now,
    )
    return EntryMade.of(customer, entry)


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/wallet/corrections",
    needs=TOP_UP,
    gives=EntryMade,
    status=201,
    also=ASKED,
    refuses=[404, 409],
    example={"amount": "-0.50", "reason": "topped up 50 cents too much"},
)
def correct_wallet(request: ApiRequest, customer_id: Id, body: CorrectionIn) -> EntryMade:
    """Correct what the wallet holds, up or down, by an exact amount and with a reason."""
    customer = find_customer(customer_id)
    entry = verbs.correct_wallet(customer, body.amount, reason=body.reason, actor=request.auth.actor, now=request.now)
    return EntryMade.of(customer, entry)
