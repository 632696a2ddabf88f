"""JSON in, with exact numbers; texts that no database could keep are refused at the door."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from django.http import HttpRequest
from django.utils.datastructures import MultiValueDict
from ninja.parser import Parser
from pydantic.alias_generators import to_camel

from billing_admin.api.refusals import BadValue

DEEPEST = 50


class ExactParser(Parser):
    """Numbers become decimals digit by digit, so that 0.1 is a tenth."""

    def parse_body(self, request: HttpRequest) -> Any:
        try:
            body = json.loads(request.body, parse_float=exact, parse_constant=_refuse)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        _check(body)
        return body

    def parse_querydict(self, data: "MultiValueDict[str, Any]", list_fields: list[str], request: HttpRequest) -> Any:
        """The last value of each name, which may be written in snake_case too."""
        found = {to_camel(name): str(data[name]) for name in data}
        for name, text in found.items():
            if not is_storable(name) or not is_storable(text):
                raise BadValue(ascii(name)[1:-1], "The address holds a text that cannot be kept.")
        return found


def is_storable(text: str) -> bool:
    """Neither NUL nor a lone surrogate: no database keeps those."""
    return "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)


def exact(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text[:20]} is not a number that can be counted with") from None


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _check(value: Any, depth: int = 0) -> None:
    """Refuse what no database keeps, and nesting that would exhaust whoever reads it."""
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        if not is_storable(value):
            raise ValueError("a text holds a NUL or half a character")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check(key, depth + 1)
            _check(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth + 1)
