"""What Stripe says of its objects, as plain values. Amounts are our minor units; instants are aware. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class AccountFacts:
    id: str
    name: str
    livemode: bool


@dataclass(frozen=True, slots=True)
class CardFacts:
    """A saved way to pay. `label` is for people: Visa ·· 4242."""

    id: str
    type: str
    brand: str = ""
    last4: str = ""
    expires: str = ""
    default: bool = False

    @property
    def label(self) -> str:
        name = (self.brand or self.type).replace("_", " ").title()
        return f"{name} ·· {self.last4}" if self.last4 else name

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": self.type,
            "brand": self.brand,
            "last4": self.last4,
            "expires": self.expires,
            "default": self.default,
            "label": self.label,
        }


@dataclass(frozen=True, slots=True)
class CustomerFacts:
    id: str
    name: str = ""
    email: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    default_method: str = ""
    balance: int = 0
    created_at: datetime | None = None
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class PaymentFacts:
    """One attempt to pay an invoice. `status` is the payment intent's own word, `paid_with` as people say it."""

    intent: str
    status: str
    amount: int
    received: int = 0
    refunded: int = 0
    charge: str = ""
    disputed: bool = False
    dispute: str = ""
    dispute_status: str = ""
    code: str = ""
    decline_code: str = ""
    message: str = ""
    paid_with: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """An attempt to pay, and the id of the invoice; no payment where the money came another way."""

    id: str
    invoice: str
    payment: PaymentFacts | None


@dataclass(frozen=True, slots=True)
class LineFacts:
    """`key` is what we wrote into the line's metadata; empty on a line that is not ours."""

    id: str
    key: str
    amount: int


@dataclass(frozen=True, slots=True)
class InvoiceFacts:
    """`reference` is our public id from the metadata; `total` before, `due` after what Stripe itself takes off."""

    id: str
    status: str
    currency: str
    customer: str
    total: int
    due: int
    paid: int
    remaining: int
    reference: str = ""
    subscription: str = ""
    number: str = ""
    hosted_url: str = ""
    pdf_url: str = ""
    paid_outside: int = 0
    attempts: int = 0
    lines: tuple[LineFacts, ...] = ()
    payments: tuple[PaymentFacts, ...] = ()
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CreditFacts:
    """A credit note of Stripe's. `refund_status`: pending, succeeded, failed, canceled, requires_action or empty."""

    id: str
    status: str
    amount: int
    reference: str = ""
    refund: str = ""
    refund_status: str = ""
    refund_problem: str = ""


@dataclass(frozen=True, slots=True)
class ProductFacts:
    id: str
    name: str
    active: bool
    metadata: dict[str, str] = field(default_factory=dict)
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class PriceFacts:
    """`interval` is day, week, month, year, or empty for a price that is paid once.

    `amount` is None for tiers, and in Stripe's units like `exact_amount`; it is that of `divided_by` units.
    """

    id: str
    product: str
    currency: str
    active: bool
    amount: int | None
    exact_amount: str = ""
    interval: str = ""
    count: int = 1
    usage_type: str = "licensed"
    scheme: str = "per_unit"
    nickname: str = ""
    tiers: tuple[dict[str, Any], ...] = ()
    divided_by: int = 1


@dataclass(frozen=True, slots=True)
class ItemFacts:
    id: str
    price: str
    product: str
    quantity: int
    period_starts_at: datetime
    period_ends_at: datetime


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    id: str
    customer: str
    status: str
    anchor: datetime
    started_at: datetime
    items: tuple[ItemFacts, ...]
    cancels_at: datetime | None = None
    ended_at: datetime | None = None
    trial_ends_at: datetime | None = None
    paused: bool = False


@dataclass(frozen=True, slots=True)
class EventFacts:
    id: str
    type: str
    object_id: str
    at: datetime
    livemode: bool
    account: str
    payload: dict[str, Any]
