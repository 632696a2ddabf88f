"""The one door to Stripe, and the only file that imports its library. Answers are plain values (facts.py).

Nothing here writes to the database, and nothing may be called inside a transaction: whoever holds a row would wait for
the network. Every call has a time limit and none is retried here: the rows that wait are the retry. A call that
changes something carries an idempotency key, so the same call after a lost answer has no second effect.

Amounts cross here: minor units of ours on this side, Stripe's on the other.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

import stripe
from django.conf import settings
from django.db import connection
from django.db.transaction import TransactionManagementError

from payments.facts import (
    AccountFacts,
    AttemptFacts,
    CardFacts,
    CreditFacts,
    CustomerFacts,
    EventFacts,
    InvoiceFacts,
    ItemFacts,
    LineFacts,
    PaymentFacts,
    PriceFacts,
    ProductFacts,
    SubscriptionFacts,
)
from payments.minor import from_stripe, to_stripe
from payments.models import StripeAccount

PAGE = 100
# Seconds that a call may take while a person looks at a page that does not come.
A_PERSONS_PATIENCE = 6.0
_patience: ContextVar[float] = ContextVar("patience", default=float("inf"))
ACCOUNT = re.compile(r"\bacct_[A-Za-z0-9]+")
# Under this name our public id stands in the metadata of what we make there.
REFERENCE = "back_office_id"


class NetworkInTransaction(TransactionManagementError):
    """A caller's mistake."""

    def __init__(self) -> None:
        super().__init__("Stripe is called outside of transactions: nobody may hold a row while the network is slow.")


class StripeTrouble(Exception):
    """What a call came to other than an answer. `code` is Stripe's, `sentence` for people, without secrets."""

    def __init__(self, sentence: str, code: str = "", request: str = ""):
        super().__init__(sentence)
        self.sentence, self.code, self.request = sentence, code, request


class Unreachable(StripeTrouble):
    """Nobody knows whether the call had its effect: ask again later, with the same key. `retry_after` in seconds."""

    retry_after = 0


class Faltered(Unreachable):
    """Stripe answered that it failed. It keeps that answer under the key, so look first, then ask with another key."""


class Busy(Unreachable):
    """Too many calls, or another one with this key is under way; nothing happened."""


class Declined(StripeTrouble):
    """A payment did not go through. `decline_code` is the bank's word."""

    def __init__(self, sentence: str, code: str = "", decline_code: str = "", request: str = ""):
        super().__init__(sentence, code, request)
        self.decline_code = decline_code


class Refused(StripeTrouble):
    """Stripe will not do this, however often it is asked."""


class Missing(Refused):
    """There is no such object."""


class NotAllowed(StripeTrouble):
    """The key is wrong, or may not do this."""


class WrongKey(NotAllowed):
    """Stripe does not know the key: nothing can be asked until there is another."""


class WrongAccount(WrongKey):
    """The keys belong to another account than the books here, or nobody knows yet to which."""


class BadSignature(Exception):
    """A webhook that Stripe did not send, or that came too late to be believed."""


def enabled() -> bool:
    """Whether there are keys. Without them nothing of Stripe shows anywhere."""
    return bool(settings.STRIPE_SECRET_KEY)


def livemode() -> bool:
    """Whether the key moves real money."""
    return "_live_" in settings.STRIPE_SECRET_KEY


def key_digest() -> str:
    """What tells one secret key from another without saying it."""
    return sha256(settings.STRIPE_SECRET_KEY.encode()).hexdigest()[:16]


def gateway() -> "Gateway":
    """The door with the keys of the settings. Raises `WrongAccount` while these are not those the books were made with:
    what another account does not have would be taken for deleted.
    """
    known = StripeAccount.objects.filter(pk=StripeAccount.SINGLE).values_list("key_digest", flat=True).first()
    if known and known != key_digest():
        raise WrongAccount("The key was changed, and Stripe has not said yet whose it is.", "key_changed")
    return any_account()


def any_account() -> "Gateway":
    """The same, whosever the keys are: to ask just that."""
    timeout = min(settings.STRIPE_TIMEOUT, _patience.get())
    return _gateway(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_URL, timeout)


@contextmanager
def in_a_hurry() -> Iterator[None]:
    """For pages on which a person waits: calls made inside give up after seconds, as if Stripe were away."""
    before = _patience.set(A_PERSONS_PATIENCE)
    try:
        yield
    finally:
        _patience.reset(before)


@lru_cache(maxsize=4)
def _gateway(key: str, url: str, timeout: float) -> "Gateway":
    http = stripe.RequestsClient(timeout=timeout)
    addresses: Any = {"api": url} if url else None
    client = stripe.StripeClient(key, base_addresses=addresses, http_client=http, max_network_retries=0)
    return Gateway(client)


def verify(payload: bytes, signature: str) -> EventFacts:
    """The event of a webhook, once its signature is right. Raises `BadSignature`."""
    try:
        stripe.WebhookSignature.verify_header(
            payload, signature, settings.STRIPE_WEBHOOK_SECRET, stripe.Webhook.DEFAULT_TOLERANCE
        )
        return event_facts(json.loads(payload))
    except (ValueError, stripe.SignatureVerificationError) as error:
        raise BadSignature(str(error)) from None
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise BadSignature(f"This is no event: {error!r}") from None


def _outside_of_transactions() -> None:
    # A test's own transaction around everything is no transaction of ours.
    blocks: list[Any] = connection.atomic_blocks
    if blocks and not blocks[-1]._from_testcase:
        raise NetworkInTransaction


@contextmanager
def _asking() -> Iterator[None]:
    """Stripe's errors as ours."""
    _outside_of_transactions()
    try:
        yield
    except stripe.CardError as error:
        detail = error.error
        raise Declined(
            error.user_message or "The payment was declined.",
            code=error.code or "",
            decline_code=(getattr(detail, "decline_code", None) or "") if detail else "",
            request=error.request_id or "",
        ) from error
    except stripe.RateLimitError as error:
        busy = Busy("Stripe asks for a pause.", "rate_limit", error.request_id or "")
        busy.retry_after = _pause(error)
        raise busy from error
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        kind = WrongKey if isinstance(error, stripe.AuthenticationError) else NotAllowed
        raise kind(_sentence(error, "Stripe refuses the key."), error.code or "", error.request_id or "") from error
    except stripe.IdempotencyError as error:
        # Other parameters under a known key: something changed since, so the first answer must be looked at.
        raise Faltered(_sentence(error, "The key was used before."), "idempotency_error") from error
    except stripe.InvalidRequestError as error:
        _raise_refused(error)
    except stripe.APIConnectionError as error:
        raise Unreachable("Stripe cannot be reached, or did not answer in time.", "unreachable") from error
    except stripe.StripeError as error:
        if error.http_status == 409:
            raise Busy("Another call with this key is under way.", error.code or "in_progress") from error
        raise Faltered(_sentence(error, "Stripe failed."), error.code or "api_error", error.request_id or "") from error


def _pause(error: stripe.StripeError) -> int:
    """Seconds that Stripe asks for; an hour at most."""
    asked = {name.lower(): value for name, value in (error.headers or {}).items()}.get("retry-after", "")
    return min(int(asked), 3600) if str(asked).isdecimal() else 0


def _raise_refused(error: stripe.InvalidRequestError) -> None:
    sentence, code, request = _sentence(error, "Stripe refuses."), error.code or "", error.request_id or ""
    if error.http_status == 409:
        raise Busy(sentence, code or "in_progress", request) from error
    if error.http_status == 404 or code == "resource_missing":
        raise Missing(sentence, code or "resource_missing", request) from error
    raise Refused(sentence, code, request) from error


def _sentence(error: stripe.StripeError, otherwise: str) -> str:
    return (error.user_message or otherwise)[:300]


def instant(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _id(value: Any) -> str:
    """The id of what may be expanded or not."""
    if value is None:
        return ""
    return str(value["id"] if isinstance(value, Mapping) else value)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, the newest first. `last` continues it; empty: that was all."""

    rows: tuple[Any, ...]
    last: str


class Gateway:
    """Each method is one thing to ask or to do. Raises `StripeTrouble` of the kinds above, `NetworkInTransaction`."""

    def __init__(self, client: stripe.StripeClient):
        self.v1: Any = client.v1

    # The account ---------------------------------------------------------------------------------------------------

    def account(self) -> AccountFacts:
        """Of a restricted key that may not read the account only its id: the refusal names it."""
        try:
            with _asking():
                found = self.v1.accounts.retrieve_current().to_dict()
        except NotAllowed as error:
            named = ACCOUNT.search(error.sentence)
            if isinstance(error, WrongKey) or named is None:
                raise
            return AccountFacts(named[0], "", livemode())
        profile = found.get("business_profile") or {}
        shown = ((found.get("settings") or {}).get("dashboard") or {}).get("display_name")
        return AccountFacts(found["id"], profile.get("name") or shown or "", livemode())

    # Customers -----------------------------------------------------------------------------------------------------

    def create_customer(self, *, name: str, email: str, metadata: Mapping[str, str], key: str) -> CustomerFacts:
        params = _present({"name": name, "email": email}) | {"metadata": dict(metadata)}
        with _asking():
            return customer_facts(self.v1.customers.create(params, {"idempotency_key": key}).to_dict())

    def update_customer(
        self, id_: str, *, name: str, email: str, metadata: Mapping[str, str], key: str = ""
    ) -> CustomerFacts:
        params = {"name": name, "email": email, "metadata": dict(metadata)}
        with _asking():
            return customer_facts(self.v1.customers.update(id_, params, _key(key)).to_dict())

    def set_default_method(self, id_: str, method: str) -> CustomerFacts:
        params = {"invoice_settings": {"default_payment_method": method}}
        with _asking():
            return customer_facts(self.v1.customers.update(id_, params).to_dict())

    def customer(self, id_: str) -> CustomerFacts:
        """Of a deleted one only the id, and that it is deleted. Raises `Missing`."""
        with _asking():
            return customer_facts(self.v1.customers.retrieve(id_).to_dict())

    def find_customer(self, reference: str, *, since: datetime) -> CustomerFacts | None:
        """The one that was made for ours, should its answer have been lost."""
        params = _since(since) | {"limit": PAGE}
        with _asking():
            for row in self.v1.customers.list(params).auto_paging_iter():
                found = customer_facts(row.to_dict())
                if found.metadata.get(REFERENCE) == reference:
                    return found
        return None

    def delete_customer(self, id_: str) -> None:
        """For good: Stripe cancels its subscriptions with it."""
        with _asking():
            self.v1.customers.delete(id_)

    def customers(self, *, after: str = "", since: datetime | None = None, email: str = "") -> Page:
        return self._page(self.v1.customers, customer_facts, after, _since(since) | _present({"email": email}))

    def cards(self, customer: CustomerFacts) -> tuple[CardFacts, ...]:
        """The saved ways to pay, the default one first."""
        with _asking():
            found = self.v1.customers.payment_methods.list(customer.id, {"limit": PAGE}).to_dict()["data"]
        cards = [card_facts(row, customer.default_method) for row in found]
        return tuple(sorted(cards, key=lambda card: not card.default))

    def detach(self, method: str) -> None:
        with _asking():
            self.v1.payment_methods.detach(method)

    def begin_setup(self, customer: str, *, key: str) -> tuple[str, str]:
        """The id and the client secret of a new setup intent, for the page on which a customer saves a way to pay."""
        params = {
            "customer": customer,
            "usage": "off_session",
            "automatic_payment_methods": {"enabled": True},
        }
        with _asking():
            made = self.v1.setup_intents.create(params, {"idempotency_key": key}).to_dict()
        return made["id"], made["client_secret"]

    def setup(self, id_: str) -> tuple[str, str, str]:
        """Status, customer and payment method of a setup intent."""
        with _asking():
            found = self.v1.setup_intents.retrieve(id_).to_dict()
        return found["status"], _id(found.get("customer")), _id(found.get("payment_method"))

    # Invoices ------------------------------------------------------------------------------------------------------

    def create_invoice(
        self,
        *,
        customer: str,
        currency: str,
        reference: str,
        number: str,
        method: str,
        days_until_due: int | None,
        memo: str,
        key: str,
    ) -> InvoiceFacts:
        """A draft without lines, which does not go on by itself: no discount or tax of Stripe's own touches it."""
        params: dict[str, Any] = {
            "customer": customer,
            "currency": currency.lower(),
            "collection_method": method,
            "auto_advance": False,
            "pending_invoice_items_behavior": "exclude",
            "discounts": "",
            "metadata": {REFERENCE: reference, "number": number},
            "custom_fields": [{"name": "Our number", "value": number[:140]}],
        }
        if days_until_due is not None:
            params["days_until_due"] = days_until_due
        if memo:
            params["description"] = memo[:1500]
        with _asking():
            return invoice_facts(self.v1.invoices.create(params, {"idempotency_key": key}).to_dict(), ())

    def add_line(
        self,
        *,
        customer: str,
        invoice: str,
        amount: int,
        currency: str,
        description: str,
        line: str,
        period: tuple[datetime, datetime] | None,
        key: str,
    ) -> None:
        """One line of a draft; `line` is what it is known by. Below zero it is a deduction."""
        params: dict[str, Any] = {
            "customer": customer,
            "invoice": invoice,
            "amount": to_stripe(amount, currency),
            "currency": currency.lower(),
            "description": description[:300],
            "discountable": False,
            "metadata": {REFERENCE: line},
        }
        if period is not None:
            params["period"] = {"start": int(period[0].timestamp()), "end": int(period[1].timestamp())}
        with _asking():
            self.v1.invoice_items.create(params, {"idempotency_key": key})

    def invoice(self, id_: str) -> InvoiceFacts:
        """As it is now, with its lines and every payment for it. Raises `Missing`."""
        with _asking():
            found = self.v1.invoices.retrieve(id_).to_dict()
            if found["lines"]["has_more"]:
                rows = self.v1.invoices.line_items.list(id_, {"limit": PAGE}).auto_paging_iter()
                found["lines"]["data"] = [row.to_dict() for row in rows]
        return invoice_facts(found, () if found["status"] == "draft" else self._payments_of(id_))

    def find_invoice(self, customer: str, reference: str, *, since: datetime) -> InvoiceFacts | None:
        """The one that was made for our document, should its answer have been lost."""
        params = {"customer": customer, "created": {"gte": int(since.timestamp())}, "limit": PAGE}
        with _asking():
            for row in self.v1.invoices.list(params).auto_paging_iter():
                found = row.to_dict()
                if (found.get("metadata") or {}).get(REFERENCE) == reference:
                    return self.invoice(found["id"])
        return None

    def invoice_of_intent(self, intent: str) -> str:
        """The id of the invoice that a payment was made for; empty when it was for none."""
        params: dict[str, Any] = {"payment": {"type": "payment_intent", "payment_intent": intent}, "limit": 1}
        with _asking():
            rows = self.v1.invoice_payments.list(params).to_dict()["data"]
        return _id(rows[0]["invoice"]) if rows else ""

    def invoices(self, *, after: str = "", since: datetime | None = None, status: str = "", customer: str = "") -> Page:
        """Without their payments."""
        params = _since(since) | _present({"status": status, "customer": customer})
        return self._page(self.v1.invoices, lambda row: invoice_facts(row, ()), after, params)

    def finalize(self, id_: str, *, auto_advance: bool, key: str) -> None:
        with _asking():
            self.v1.invoices.finalize_invoice(id_, {"auto_advance": auto_advance}, {"idempotency_key": key})

    def pay(self, id_: str, *, key: str) -> None:
        """Charge the customer's saved way to pay. Raises `Declined`, also where the customer has to confirm."""
        with _asking():
            self.v1.invoices.pay(id_, {"off_session": True}, {"idempotency_key": key})

    def settle_outside(self, id_: str, *, key: str) -> None:
        """Mark as paid without a payment."""
        with _asking():
            self.v1.invoices.pay(id_, {"paid_out_of_band": True}, {"idempotency_key": key})

    def void(self, id_: str, *, key: str) -> None:
        with _asking():
            self.v1.invoices.void_invoice(id_, {}, {"idempotency_key": key})

    def mark_uncollectible(self, id_: str, *, key: str) -> None:
        with _asking():
            self.v1.invoices.mark_uncollectible(id_, {}, {"idempotency_key": key})

    def delete_draft(self, id_: str) -> None:
        with _asking():
            self.v1.invoices.delete(id_)

    # Money back ----------------------------------------------------------------------------------------------------

    def credit(
        self, invoice: str, *, amount: int, currency: str, refund: bool, memo: str, reference: str, key: str
    ) -> CreditFacts:
        """A credit note: money back for a paid invoice (`refund`), or less to pay on an open one."""
        units = to_stripe(amount, currency)
        line = {"type": "custom_line_item", "description": memo[:300] or "Credit", "quantity": 1, "unit_amount": units}
        params: dict[str, Any] = {"invoice": invoice, "lines": [line], "metadata": {REFERENCE: reference}}
        if refund:
            params["refund_amount"] = units
        with _asking():
            made = self.v1.credit_notes.create(params, {"idempotency_key": key}).to_dict()
        return self._credit_facts(made)

    def void_credits(self, invoice: str) -> None:
        """Take back what was credited on an open invoice."""
        with _asking():
            for row in self.v1.credit_notes.list({"invoice": invoice, "limit": PAGE}).auto_paging_iter():
                if row.status == "issued":
                    self.v1.credit_notes.void_credit_note(row.id)

    def find_credit(self, invoice: str, reference: str) -> CreditFacts | None:
        with _asking():
            for row in self.v1.credit_notes.list({"invoice": invoice, "limit": PAGE}).auto_paging_iter():
                found = row.to_dict()
                if (found.get("metadata") or {}).get(REFERENCE) == reference:
                    return self._credit_facts(found)
        return None

    def credit_note(self, id_: str) -> CreditFacts:
        with _asking():
            return self._credit_facts(self.v1.credit_notes.retrieve(id_).to_dict())

    def void_credit(self, id_: str, *, key: str) -> CreditFacts:
        with _asking():
            return self._credit_facts(self.v1.credit_notes.void_credit_note(id_, {}, _key(key)).to_dict())

    def _credit_facts(self, found: dict[str, Any]) -> CreditFacts:
        """With the state of the money that goes back with it."""
        currency = found["currency"].upper()
        refunds = [_id(row.get("refund")) for row in found.get("refunds") or []]
        refund: dict[str, Any] = {}
        if refunds and refunds[0]:
            with _asking():
                refund = self.v1.refunds.retrieve(refunds[0]).to_dict()
        return CreditFacts(
            id=found["id"],
            status=found["status"],
            amount=from_stripe(found["total"], currency),
            reference=(found.get("metadata") or {}).get(REFERENCE, ""),
            refund=refund.get("id", ""),
            refund_status=refund.get("status") or "",
            refund_problem=refund.get("failure_reason") or "",
        )

    # What is mirrored ----------------------------------------------------------------------------------------------

    def products(self, *, after: str = "") -> Page:
        return self._page(self.v1.products, product_facts, after, {})

    def product(self, id_: str) -> ProductFacts:
        with _asking():
            return product_facts(self.v1.products.retrieve(id_).to_dict())

    def prices(self, *, after: str = "", product: str = "") -> Page:
        params = _present({"product": product}) | {"expand": ["data.tiers"]}
        return self._page(self.v1.prices, price_facts, after, params)

    def price(self, id_: str) -> PriceFacts:
        with _asking():
            return price_facts(self.v1.prices.retrieve(id_, {"expand": ["tiers"]}).to_dict())

    def subscriptions(self, *, after: str = "", customer: str = "") -> Page:
        params = _present({"customer": customer}) | {"status": "all"}
        return self._page(self.v1.subscriptions, self._subscription_facts, after, params)

    def subscription(self, id_: str) -> SubscriptionFacts:
        with _asking():
            return self._subscription_facts(self.v1.subscriptions.retrieve(id_).to_dict())

    def _subscription_facts(self, found: dict[str, Any]) -> SubscriptionFacts:
        if found["items"].get("has_more"):
            params = {"subscription": found["id"], "limit": PAGE}
            rows = self.v1.subscription_items.list(params).auto_paging_iter()
            found["items"]["data"] = [row.to_dict() for row in rows]
        return subscription_facts(found)

    # Payments and events -------------------------------------------------------------------------------------------

    def intents(self, *, after: str = "", since: datetime | None = None, customer: str = "") -> Page:
        params = _since(since) | _present({"customer": customer}) | {"expand": ["data.latest_charge"]}
        return self._page(self.v1.payment_intents, payment_facts, after, params)

    def invoice_payments(self, *, after: str = "", since: datetime | None = None) -> Page:
        """Every attempt to pay an invoice, by the instant at which the invoice asked for it."""
        params = _since(since) | {"expand": ["data.payment.payment_intent.latest_charge"]}
        return self._page(self.v1.invoice_payments, attempt_facts, after, params)

    def events(self, *, since: datetime, until: datetime, after: str = "") -> Page:
        """Those of a time range; Stripe keeps them for 30 days."""
        created = {"gte": int(since.timestamp()), "lte": int(until.timestamp())}
        return self._page(self.v1.events, event_facts, after, {"created": created})

    def _payments_of(self, invoice: str) -> tuple[PaymentFacts, ...]:
        params = {"invoice": invoice, "limit": PAGE, "expand": ["data.payment.payment_intent.latest_charge"]}
        with _asking():
            rows = [row.to_dict() for row in self.v1.invoice_payments.list(params).auto_paging_iter()]
            intents = [row["payment"].get("payment_intent") for row in rows]
            paid = [payment_facts(intent) for intent in intents if isinstance(intent, Mapping)]
            return tuple(self._with_dispute(payment) for payment in paid)

    def _with_dispute(self, payment: PaymentFacts) -> PaymentFacts:
        """Which dispute, where the charge has one: the charge only says that there is."""
        if not payment.disputed:
            return payment
        rows = self.v1.disputes.list({"payment_intent": payment.intent, "limit": 1}).to_dict()["data"]
        if not rows:
            return payment
        values = {name: getattr(payment, name) for name in PaymentFacts.__slots__}
        return PaymentFacts(**values | {"dispute": rows[0]["id"], "dispute_status": rows[0]["status"]})

    def _page(self, service: Any, facts: Callable[[Any], Any], after: str, params: Mapping[str, Any]) -> Page:
        asked = dict(params) | {"limit": PAGE} | _present({"starting_after": after})
        with _asking():
            found = service.list(asked).to_dict()
            rows = tuple(facts(row) for row in found["data"])
        return Page(rows, found["data"][-1]["id"] if found["has_more"] else "")


def _key(key: str) -> Any:
    return {"idempotency_key": key} if key else None


def _present(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value}


def _since(since: datetime | None) -> dict[str, Any]:
    return {} if since is None else {"created": {"gte": int(since.timestamp())}}


# Stripe's objects as facts --------------------------------------------------------------------------------------------


def customer_facts(row: Mapping[str, Any]) -> CustomerFacts:
    if row.get("deleted"):
        return CustomerFacts(row["id"], deleted=True)
    return CustomerFacts(
        id=row["id"],
        name=row.get("name") or "",
        email=row.get("email") or "",
        metadata=dict(row.get("metadata") or {}),
        default_method=_id((row.get("invoice_settings") or {}).get("default_payment_method")),
        balance=row.get("balance") or 0,
        created_at=instant(row.get("created")),
    )


def card_facts(row: Mapping[str, Any], default: str) -> CardFacts:
    """Of a card its brand, end and expiry; of anything else what it has of them."""
    detail = row.get(row["type"]) or {}
    month, year = detail.get("exp_month"), detail.get("exp_year")
    return CardFacts(
        id=row["id"],
        type=row["type"],
        brand=detail.get("brand") or detail.get("bank_name") or "",
        last4=detail.get("last4") or "",
        expires=f"{month:02}/{year}" if month and year else "",
        default=row["id"] == default,
    )


def _paid_with(row: Mapping[str, Any]) -> str:
    type_ = row.get("type") or ""
    detail = row.get(type_) or {}
    return CardFacts("", type_, detail.get("brand") or detail.get("bank_name") or "", detail.get("last4") or "").label


def invoice_facts(row: Mapping[str, Any], payments: Sequence[PaymentFacts]) -> InvoiceFacts:
    currency = row["currency"].upper()

    def ours(amount: int | None) -> int:
        return from_stripe(amount or 0, currency)

    parent = (row.get("parent") or {}).get("subscription_details") or {}
    metadata = row.get("metadata") or {}
    return InvoiceFacts(
        id=row["id"],
        status=row["status"] or "",
        currency=currency,
        customer=_id(row.get("customer")),
        total=ours(row["total"]),
        due=ours(row["amount_due"]),
        paid=ours(row["amount_paid"]),
        remaining=ours(row["amount_remaining"]),
        reference=metadata.get(REFERENCE, ""),
        subscription=_id(parent.get("subscription")),
        number=row.get("number") or "",
        hosted_url=row.get("hosted_invoice_url") or "",
        pdf_url=row.get("invoice_pdf") or "",
        paid_outside=ours(row.get("amount_paid_off_stripe")),
        attempts=row.get("attempt_count") or 0,
        lines=tuple(_line_facts(line, currency) for line in (row.get("lines") or {}).get("data") or []),
        payments=tuple(payments),
        created_at=instant(row.get("created")),
    )


def _line_facts(row: Mapping[str, Any], currency: str) -> LineFacts:
    return LineFacts(row["id"], (row.get("metadata") or {}).get(REFERENCE, ""), from_stripe(row["amount"], currency))


def payment_facts(row: Mapping[str, Any]) -> PaymentFacts:
    """Of a payment intent, its latest charge expanded or not."""
    currency = row["currency"].upper()
    charge = row.get("latest_charge")
    detail = charge if isinstance(charge, Mapping) else {}
    error = row.get("last_payment_error") or {}
    return PaymentFacts(
        intent=row["id"],
        status=row["status"],
        amount=from_stripe(row["amount"], currency),
        received=from_stripe(row.get("amount_received") or 0, currency),
        refunded=from_stripe(detail.get("amount_refunded") or 0, currency),
        charge=_id(charge),
        disputed=bool(detail.get("disputed")),
        code=error.get("code") or "",
        decline_code=error.get("decline_code") or "",
        message=(error.get("message") or "")[:300],
        paid_with=_paid_with(detail.get("payment_method_details") or {}),
        at=instant(detail.get("created") or row.get("created")),
    )


def attempt_facts(row: Mapping[str, Any]) -> AttemptFacts:
    """Of an invoice's payment; it may be none of a payment intent, but of a record of money that came elsewhere."""
    intent = row["payment"].get("payment_intent")
    return AttemptFacts(row["id"], _id(row["invoice"]), payment_facts(intent) if isinstance(intent, Mapping) else None)


def product_facts(row: Mapping[str, Any]) -> ProductFacts:
    if row.get("deleted"):
        return ProductFacts(row["id"], "", active=False, deleted=True)
    return ProductFacts(row["id"], row["name"], bool(row["active"]), dict(row.get("metadata") or {}))


def price_facts(row: Mapping[str, Any]) -> PriceFacts:
    recurring, exact = row.get("recurring") or {}, row.get("unit_amount_decimal")
    return PriceFacts(
        id=row["id"],
        product=_id(row["product"]),
        currency=row["currency"].upper(),
        active=bool(row["active"]),
        amount=row.get("unit_amount"),
        exact_amount="" if exact is None else str(exact),
        interval=recurring.get("interval") or "",
        count=recurring.get("interval_count") or 1,
        usage_type=recurring.get("usage_type") or "licensed",
        scheme=row.get("billing_scheme") or "per_unit",
        nickname=row.get("nickname") or "",
        tiers=tuple(dict(tier) for tier in row.get("tiers") or ()),
        divided_by=(row.get("transform_quantity") or {}).get("divide_by") or 1,
    )


def subscription_facts(row: Mapping[str, Any]) -> SubscriptionFacts:
    items = tuple(_item_facts(item) for item in row["items"]["data"])
    last = max((item.period_ends_at for item in items), default=None)
    return SubscriptionFacts(
        id=row["id"],
        customer=_id(row["customer"]),
        status=row["status"],
        anchor=_at(row["billing_cycle_anchor"]),
        started_at=_at(row["start_date"]),
        items=items,
        cancels_at=instant(row.get("cancel_at")) or (last if row.get("cancel_at_period_end") else None),
        ended_at=instant(row.get("ended_at")),
        trial_ends_at=instant(row.get("trial_end")),
        paused=row.get("pause_collection") is not None,
    )


def _item_facts(row: Mapping[str, Any]) -> ItemFacts:
    price = row["price"]
    return ItemFacts(
        id=row["id"],
        price=_id(price),
        product=_id(price.get("product")) if isinstance(price, Mapping) else "",
        quantity=1 if row.get("quantity") is None else row["quantity"],
        period_starts_at=_at(row["current_period_start"]),
        period_ends_at=_at(row["current_period_end"]),
    )


def event_facts(row: Mapping[str, Any]) -> EventFacts:
    subject = (row.get("data") or {}).get("object") or {}
    return EventFacts(
        id=row["id"],
        type=row["type"],
        object_id=str(subject.get("id") or ""),
        at=_at(row["created"]),
        livemode=bool(row["livemode"]),
        account=str(row.get("account") or ""),
        payload=dict(row),
    )
