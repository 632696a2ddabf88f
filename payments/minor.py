"""Amounts as Stripe writes them. Most currencies are alike; the tables hold those that are not. Pure.

Sources: Stripe's pages on supported currencies, zero-decimal and three-decimal currencies, and minimum charges.
"""

from django.core.exceptions import ValidationError

from catalog.money import exponent, format_minor

WITHOUT_DECIMALS = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"]
)
# The last digit must be 0.
THREE_DECIMALS = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])
# The least that can be charged, in Stripe's units; where Stripe names none, nothing is refused here.
LEAST = {
    "USD": 50, "AED": 200, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250,
    "EUR": 50, "GBP": 30, "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300,
    "NZD": 50, "PLN": 200, "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000,
}  # fmt: skip


class NotInStripe(ValidationError):
    """An amount that Stripe cannot take."""


def digits(currency: str) -> int:
    """Decimals of Stripe's unit. ISK and UGX have none of their own, but Stripe still writes two (always 00)."""
    if currency in WITHOUT_DECIMALS:
        return 0
    return 3 if currency in THREE_DECIMALS else 2


def to_stripe(minor: int, currency: str) -> int:
    """Our minor units as Stripe's: ¥1,200 → 1200, ISK 500 → 50000. Raises `NotInStripe` for what has no such form."""
    amount, rest = _shift(minor, digits(currency) - exponent(currency))
    if rest or (currency in THREE_DECIMALS and amount % 10):
        raise NotInStripe(
            f"Stripe takes no amount as fine as {format_minor(minor, currency)}; round it to two decimals.",
            code="too_fine_for_stripe",
        )
    return amount


def from_stripe(amount: int, currency: str) -> int:
    """Stripe's units as ours. Raises `NotInStripe` where ours are coarser and something would be lost."""
    minor, rest = _shift(amount, exponent(currency) - digits(currency))
    if rest:
        raise NotInStripe(f"{amount} of {currency} in Stripe is no whole amount here.", code="too_fine_for_us")
    return minor


def least(currency: str) -> int:
    """The least that Stripe charges, in our minor units; 0 where it names none."""
    return from_stripe(LEAST.get(currency, 0), currency)


def _shift(amount: int, places: int) -> tuple[int, int]:
    """An amount with so many more decimals, and what is lost with fewer."""
    unit: int = 10 ** abs(places)
    return (amount * unit, 0) if places >= 0 else divmod(amount, unit)
