"""Answers that are not 200, in the shape Stripe gives them."""

from typing import Any

KINDS = {
    "cus": "customer", "pm": "PaymentMethod", "seti": "setupintent", "pi": "payment_intent", "in": "invoice",
    "ii": "invoiceitem", "re": "refund", "cn": "credit_note", "ch": "charge", "du": "dispute", "prod": "product",
    "price": "price", "sub": "subscription", "si": "subscription_item", "evt": "event", "inpay": "invoice_payment",
}  # fmt: skip


class StripeError(Exception):
    """A refusal: HTTP status and the `error` object. `keep` is False when an idempotency key must not remember it."""

    def __init__(self, status: int, kind: str, message: str, *, keep: bool = True, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.keep = keep
        given = {name: value for name, value in details.items() if value is not None}
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, **given}}
        if code := given.get("code"):
            self.body["error"]["doc_url"] = f"https://stripe.com/docs/error-codes/{str(code).replace('_', '-')}"


def refused(message: str, *, code: str | None = None, param: str | None = None, **details: Any) -> StripeError:
    """400: the request was understood and cannot be done."""
    return StripeError(400, "invalid_request_error", message, code=code, param=param, **details)


def invalid(message: str, *, code: str | None = None, param: str | None = None) -> StripeError:
    """400 before the endpoint ran: idempotency keys do not remember it."""
    return StripeError(400, "invalid_request_error", message, keep=False, code=code, param=param)


def missing(kind: str, identity: str, param: str = "id") -> StripeError:
    return StripeError(
        404 if param == "id" else 400,
        "invalid_request_error",
        f"No such {kind}: '{identity}'",
        code="resource_missing",
        param=param,
    )


def declined(message: str, *, code: str, decline_code: str | None = None, **details: Any) -> StripeError:
    """402: the card said no, or wants its owner."""
    return StripeError(402, "card_error", message, code=code, decline_code=decline_code, **details)


def conflict() -> StripeError:
    return StripeError(
        409,
        "idempotency_error",
        "Another request with the same idempotency key is still in progress.",
        keep=False,
        code="idempotency_key_in_use",
    )


def key_reused(key: str) -> StripeError:
    return StripeError(
        400,
        "idempotency_error",
        "Keys for idempotent requests can only be used with the same endpoint and the same parameters they were first "
        f"used with. Try using a key other than '{key}' if you meant to execute a different request.",
        keep=False,
    )


def unauthorised(key: str) -> StripeError:
    shown = f"{key[:8]}{'*' * max(len(key) - 12, 4)}{key[-4:]}" if len(key) > 12 else "*" * len(key)
    message = f"Invalid API Key provided: {shown}" if key else "You did not provide an API key."
    return StripeError(401, "invalid_request_error", message, keep=False)


def rate_limited() -> StripeError:
    return StripeError(
        429,
        "invalid_request_error",
        "Too many requests hit the API too quickly.",
        keep=False,
        code="rate_limit",
    )


def broken(status: int = 500) -> StripeError:
    return StripeError(status, "api_error", "An unknown error occurred", keep=False)
