"""Reads a form as Stripe does: names and types come from the SDK's parameter types; anything else is refused."""

import re
import sys
import types
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Literal, NotRequired, Union, get_args, get_origin
from typing import NotRequired as BackportedNotRequired
from urllib.parse import parse_qsl

from stripe._request_options import RequestOptions
from typing_extensions import is_typeddict

from tests.stripe_double.errors import invalid

LIMITS = {"keys": 50, "name": 40, "value": 500}  # of metadata
OPTIONS = set(RequestOptions.__annotations__)


# -- the form: a[b][c]=1 and a[0][b]=2 become nested dicts and lists ---------------------------------------------------


def read_form(text: str) -> dict[str, Any]:
    form: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        put(form, [name.split("[")[0], *re.findall(r"\[([^\]]*)\]", name)], value)
    return {name: tidy(value) for name, value in form.items()}


def put(place: dict[str, Any], path: list[str], value: str) -> None:
    head, *rest = path
    head = head or str(len(place))  # expand[]=… counts by itself
    if not rest:
        place[head] = value
        return
    inner = place.setdefault(head, {})
    if not isinstance(inner, dict):
        raise invalid("Invalid form: a value and a hash under one name", param=head)
    put(inner, rest, value)


def tidy(value: Any) -> Any:
    """A dict whose names are 0, 1, 2… is a list."""
    if not isinstance(value, dict):
        return value
    if value and all(name.isdigit() for name in value):
        return [tidy(value[name]) for name in sorted(value, key=int)]
    return {name: tidy(inner) for name, inner in value.items()}


# -- the types ---------------------------------------------------------------------------------------------------------


def read(form: dict[str, Any], shape: Any) -> dict[str, Any]:
    """The form's values as Python values of the endpoint's parameter type, or a 400 that names the parameter."""
    if shape is None:
        if form:
            raise unknown(next(iter(form)))
        return {}
    values = read_dict(form, shape, "")
    check_metadata(values)
    return values


def read_dict(form: dict[str, Any], shape: Any, path: str) -> dict[str, Any]:
    fields = fields_of(shape)
    for name in form:
        if name not in fields:
            raise unknown(named(path, name))
    for name, (_, required) in fields.items():
        if required and form.get(name) in (None, ""):
            message = f"Missing required param: {named(path, name)}."
            raise invalid(message, code="parameter_missing", param=named(path, name))
    return {name: read_value(value, fields[name][0], named(path, name)) for name, value in form.items()}


@cache
def fields_of(shape: Any) -> dict[str, tuple[Any, bool]]:
    """Name → type and whether it is required, without the SDK's own request options."""
    module = vars(sys.modules[shape.__module__])
    fields: dict[str, tuple[Any, bool]] = {}
    for name, written in shape.__annotations__.items():
        if name in OPTIONS:
            continue
        kind = resolve(written, module)
        optional = get_origin(kind) in (NotRequired, BackportedNotRequired)
        fields[name] = (resolve(get_args(kind)[0], module) if optional else kind, not optional)
    return fields


def resolve(written: Any, module: dict[str, Any]) -> Any:
    text = getattr(written, "__forward_arg__", written)
    return eval(text, module) if isinstance(text, str) else written  # noqa: S307 - the SDK's own annotations


def read_value(value: Any, kind: Any, path: str) -> Any:
    if get_origin(kind) in (NotRequired, BackportedNotRequired):
        kind = get_args(kind)[0]
    choices = alternatives(kind)
    literals = [word for choice in choices if get_origin(choice) is Literal for word in get_args(choice)]
    if value == "" and "" in literals:
        return ""
    words = [word for word in literals if word != ""]
    others = [choice for choice in choices if get_origin(choice) is not Literal]
    if words and isinstance(value, str):
        return read_word(value, words, [choice for choice in others if choice is not str], path)
    return read_one(value, others, path)


def alternatives(kind: Any) -> list[Any]:

    if get_origin(kind) in (Union, types.UnionType):
        return [inner for choice in get_args(kind) for inner in alternatives(choice)]
    return [kind]


def read_word(value: str, words: list[Any], others: list[Any], path: str) -> Any:
    """The SDK leaves an enum open (`Literal[…] | str`); the API does not."""
    if value in words:
        return value
    if others:
        return read_one(value, others, path)
    shown = ", ".join(words[:-1]) + (f", or {words[-1]}" if len(words) > 1 else str(words[-1]))
    raise invalid(f"Invalid {path}: must be one of {shown}", param=path)


def read_one(value: Any, kinds: list[Any], path: str) -> Any:
    """By the first kind that fits what was sent: a hash, a list or a text."""
    if isinstance(value, dict):
        return read_hash(value, kinds, path)
    if isinstance(value, list):
        return read_list(value, kinds, path)
    scalars = [kind for kind in kinds if kind in (int, bool, float, str, Decimal)]
    if not scalars:
        needed = "array" if any(get_origin(kind) is list for kind in kinds) else "object"
        raise invalid(f"Invalid {needed}", param=path)
    return read_scalar(value, scalars[0], path)


def read_hash(value: dict[str, Any], kinds: list[Any], path: str) -> Any:
    for kind in kinds:
        if is_typeddict(kind):
            return read_dict(value, kind, path)
        if get_origin(kind) is dict:
            inner = get_args(kind)[1]
            # An empty value unsets its name.
            return {name: each and read_value(each, inner, named(path, name)) for name, each in value.items()}
    raise invalid("Invalid string: a hash was given", param=path)


def read_list(value: list[Any], kinds: list[Any], path: str) -> Any:
    for kind in kinds:
        if get_origin(kind) is list:
            inner = get_args(kind)[0]
            return [read_item(each, inner, f"{path}[{index}]", kind) for index, each in enumerate(value)]
        if get_origin(kind) is dict:  # metadata with names 0, 1, 2…
            return {str(index): each for index, each in enumerate(value)}
    raise invalid("Invalid value: an array was given", param=path)


def read_item(value: Any, inner: Any, path: str, kind: Any) -> Any:
    text = getattr(inner, "__forward_arg__", inner)
    if isinstance(text, str):
        inner = find_shape(text)
    return read_value(value, inner, path)


@cache
def find_shape(name: str) -> Any:
    """A nested parameter type by its name: List["XParamsY"] keeps only the name of the SDK's class."""
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("stripe.params.") and name in vars(module):
            return vars(module)[name]
    raise LookupError(name)


# Plain texts that an empty value unsets, though their types do not say so (Stripe's changes of 2013-08-12).
UNSET_BY_NOTHING = {"email", "description"}


def read_scalar(value: str, kind: Any, path: str) -> Any:
    if kind is int:
        if not re.fullmatch(r"-?\d+", value):
            raise invalid(f"Invalid integer: {value}", code="parameter_invalid_integer", param=path)
        return int(value)
    if kind is bool:
        if value not in {"true", "false"}:
            raise invalid(f"Invalid boolean: {value}", param=path)
        return value == "true"
    if kind in (Decimal, float):
        return read_number(value, path)
    if value == "" and path in UNSET_BY_NOTHING:
        return None
    if value == "":
        message = (
            f"You passed an empty string for '{path}'. We assume empty values are an attempt to unset a parameter; "
            f"however '{path}' cannot be unset."
        )
        raise invalid(message, code="parameter_invalid_empty", param=path)
    return value


def read_number(value: str, path: str) -> Decimal:
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise invalid(f"Invalid decimal: {value}", param=path) from None
    if not number.is_finite() or -int(number.as_tuple().exponent) > 12:
        raise invalid(f"Invalid decimal: {value} has more than 12 decimal places", param=path)
    return number


def check_metadata(values: dict[str, Any]) -> None:
    metadata = values.get("metadata") or {}
    if len(metadata) > LIMITS["keys"]:
        raise invalid("Metadata can have up to 50 keys.", param="metadata")
    for name, value in metadata.items():
        if len(name) > LIMITS["name"]:
            raise invalid("Metadata keys must be under 40 characters.", param=f"metadata[{name}]")
        if len(value) > LIMITS["value"]:
            raise invalid("Metadata values must be under 500 characters.", param=f"metadata[{name}]")


def unknown(path: str) -> Exception:
    return invalid(f"Received unknown parameter: {path}", code="parameter_unknown", param=path)


def named(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name
