"""What of an event is nobody's business here: secrets that let their holder act, and whole account numbers. Pure."""

import re
from typing import Any

HIDDEN = "(hidden)"
# Whoever has one of these may finish a payment, or knows where money lies.
SECRET = re.compile(r"(^|_)(secret|password|cvc|iban|account_number|routing_number)$")
DIGITS = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")


def masked(value: Any) -> Any:
    """JSON as it may be stored: secrets hidden, card numbers shortened to their last four digits."""
    if isinstance(value, dict):
        return {masked(name): _of_field(name, inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner) for inner in value]
    # PostgreSQL stores no NUL.
    return DIGITS.sub(_shortened, value.replace("\0", "")) if isinstance(value, str) else value


def _of_field(name: str, value: Any) -> Any:
    is_secret = value and not isinstance(value, dict | list) and SECRET.search(name)
    return HIDDEN if is_secret else masked(value)


def _shortened(found: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", found[0])
    return f"·· {digits[-4:]}" if _is_card(digits) else found[0]


def _is_card(digits: str) -> bool:
    """By the check digit that card numbers carry."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0
