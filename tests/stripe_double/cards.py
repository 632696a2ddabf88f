"""The documented test cards, bank accounts and tokens, and how each behaves."""

from dataclasses import dataclass
from typing import Any

from tests.stripe_double.errors import StripeError, refused


@dataclass(frozen=True)
class Decline:
    message: str
    code: str = "card_declined"
    decline_code: str | None = "generic_decline"


GENERIC = Decline("Your card was declined.")
POOR = Decline("Your card has insufficient funds.", decline_code="insufficient_funds")
LOST = Decline("Your card was declined.", decline_code="lost_card")
STOLEN = Decline("Your card was declined.", decline_code="stolen_card")
FRAUD = Decline("Your card was declined.", decline_code="fraudulent")
EXPIRED = Decline("Your card has expired.", "expired_card", None)
CVC = Decline("Your card's security code is incorrect.", "incorrect_cvc", None)
BROKEN = Decline("An error occurred while processing your card. Try again in a little bit.", "processing_error", None)


@dataclass(frozen=True)
class Card:
    """`decline` is what a charge answers; `attaches` whether it may be kept all the same.

    `asks`: "" never, "always", or "until_set_up" when its owner must be present until it was set up once.
    `dispute` is the reason of the dispute that follows a charge; `refund` "pending" or "fails" for slow refunds.
    """

    brand: str = "visa"
    decline: Decline | None = None
    attaches: bool = True
    asks: str = ""
    dispute: str = ""
    refund: str = ""


CARDS = {
    "4242424242424242": Card(),
    "4000056655665556": Card(),
    "5555555555554444": Card("mastercard"),
    "5200828282828210": Card("mastercard"),
    "378282246310005": Card("amex"),
    "6011111111111117": Card("discover"),
    "4000000000000077": Card(),
    "4000000000000002": Card(decline=GENERIC, attaches=False),
    "4000000000009995": Card(decline=POOR, attaches=False),
    "4000000000009987": Card(decline=LOST, attaches=False),
    "4000000000009979": Card(decline=STOLEN, attaches=False),
    "4100000000000019": Card(decline=FRAUD, attaches=False),
    "4000000000000069": Card(decline=EXPIRED, attaches=False),
    "4000000000000127": Card(decline=CVC, attaches=False),
    "4000000000000119": Card(decline=BROKEN, attaches=False),
    "4000000000000341": Card(decline=GENERIC),
    "4000002500003155": Card(asks="until_set_up"),
    "4000002760003184": Card(asks="always"),
    "4000000000003220": Card(asks="always"),
    "4000008260003178": Card(asks="until_set_up", decline=POOR),
    "4000000000000259": Card(dispute="fraudulent"),
    "4000000000002685": Card(dispute="product_not_received"),
    "4000000000007726": Card(refund="pending"),
    "4000000000005126": Card(refund="fails"),
}

TOKENS = {
    "pm_card_visa": "4242424242424242",
    "pm_card_visa_debit": "4000056655665556",
    "pm_card_mastercard": "5555555555554444",
    "pm_card_amex": "378282246310005",
    "pm_card_discover": "6011111111111117",
    "pm_card_bypassPending": "4000000000000077",
    "pm_card_chargeDeclined": "4000000000000002",
    "pm_card_visa_chargeDeclined": "4000000000000002",
    "pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_visa_chargeDeclinedLostCard": "4000000000009987",
    "pm_card_visa_chargeDeclinedStolenCard": "4000000000009979",
    "pm_card_chargeDeclinedFraudulent": "4100000000000019",
    "pm_card_chargeDeclinedExpiredCard": "4000000000000069",
    "pm_card_chargeDeclinedIncorrectCvc": "4000000000000127",
    "pm_card_chargeDeclinedProcessingError": "4000000000000119",
    "pm_card_chargeCustomerFail": "4000000000000341",
    "pm_card_authenticationRequiredOnSetup": "4000002500003155",
    "pm_card_authenticationRequired": "4000002760003184",
    "pm_card_threeDSecure2Required": "4000000000003220",
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": "4000008260003178",
    "pm_card_createDispute": "4000000000000259",
    "pm_card_createDisputeProductNotReceived": "4000000000002685",
    "pm_card_pendingRefund": "4000000000007726",
    "pm_card_refundFail": "4000000000005126",
    "pm_usBankAccount": "000123456789",
    "pm_usBankAccount_insufficientFunds": "000222222227",
}

# Bank accounts answer later: True settles, False bounces.
IBANS = {
    "AT611904300234573201": True,
    "AT861904300235473202": False,
    "DE89370400440532013000": True,
    "DE62370400440532013001": False,
    "FR1420041010050500013M02606": True,
    "FR8420041010050500013M02607": False,
}
US_ACCOUNTS = {"000123456789": True, "000222222227": False}


def card(number: str) -> Card:
    try:
        return CARDS[number]
    except KeyError:
        raise wrong_number(number) from None


def wrong_number(number: str) -> StripeError:
    if not number.isdigit() or not passes_luhn(number):
        return StripeError(402, "card_error", "Your card number is incorrect.", code="incorrect_number", param="number")
    return StripeError(
        402,
        "card_error",
        "Your card was declined. Your request was in test mode, but used a non test card.",
        code="card_declined",
        decline_code="test_mode_live_card",
    )


def passes_luhn(number: str) -> bool:
    digits = [int(letter) for letter in reversed(number)]
    doubled = [digit if place % 2 == 0 else sum(divmod(digit * 2, 10)) for place, digit in enumerate(digits)]
    return sum(doubled) % 10 == 0


def described(number: str, exp_month: int, exp_year: int) -> dict[str, Any]:
    """The method's type and its hash, as Stripe shows them: `{"type": "card", "card": {…}}`."""
    plain = number.replace(" ", "")
    if plain in US_ACCOUNTS:
        return {"type": "us_bank_account", "us_bank_account": us_account(plain)}
    if plain[:2].isalpha():
        return {"type": "sepa_debit", "sepa_debit": sepa(plain.upper())}
    return {"type": "card", "card": plastic(plain, exp_month, exp_year)}


def plastic(number: str, exp_month: int, exp_year: int) -> dict[str, Any]:
    brand = card(number).brand
    return {
        "brand": brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "display_brand": brand,
        "exp_month": exp_month,
        "exp_year": exp_year,
        "fingerprint": f"print{number[-10:]}",
        "funding": "credit",
        "generated_from": None,
        "last4": number[-4:],
        "networks": {"available": [brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def sepa(iban: str) -> dict[str, Any]:
    if iban not in IBANS:
        raise refused("The IBAN you entered is invalid.", code="invalid_bank_account_iban", param="sepa_debit[iban]")
    return {
        "bank_code": iban[4:12],
        "branch_code": "",
        "country": iban[:2],
        "fingerprint": f"print{iban[-10:]}",
        "generated_from": {"charge": None, "setup_attempt": None},
        "last4": iban[-4:],
    }


def us_account(number: str) -> dict[str, Any]:
    return {
        "account_holder_type": "company",
        "account_type": "checking",
        "bank_name": "STRIPE TEST BANK",
        "financial_connections_account": None,
        "fingerprint": f"print{number[-10:]}",
        "last4": number[-4:],
        "networks": {"preferred": "ach", "supported": ["ach"]},
        "routing_number": "110000000",
        "status_details": {},
    }
