"""The shape of each object, taken from the SDK's classes of this API version, and `expand`.

`make` fills what is optional with null and refuses a field that Stripe does not have; `view` shows a stored object as
Stripe would: private fields (a leading underscore) left out, includable ones only when they are asked for.
"""

import typing
from collections.abc import Callable
from functools import cache
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin

import stripe
from stripe import ListObject, StripeObject

from tests.stripe_double.errors import refused

CLASSES: dict[str, type[StripeObject]] = {
    "account": stripe.Account,
    "charge": stripe.Charge,
    "credit_note": stripe.CreditNote,
    "credit_note_line_item": stripe.CreditNoteLineItem,
    "customer": stripe.Customer,
    "customer_balance_transaction": stripe.CustomerBalanceTransaction,
    "dispute": stripe.Dispute,
    "event": stripe.Event,
    "invoice": stripe.Invoice,
    "invoice_payment": stripe.InvoicePayment,
    "invoiceitem": stripe.InvoiceItem,
    "line_item": stripe.InvoiceLineItem,
    "payment_intent": stripe.PaymentIntent,
    "payment_method": stripe.PaymentMethod,
    "price": stripe.Price,
    "product": stripe.Product,
    "refund": stripe.Refund,
    "setup_intent": stripe.SetupIntent,
    "subscription": stripe.Subscription,
    "subscription_item": stripe.SubscriptionItem,
}

# Shown only when expanded; the rest of an object is always there.
INCLUDABLE = {
    "charge": {"refunds"},
    "customer": {"sources", "subscriptions", "tax", "tax_ids", "cash_balance", "invoice_credit_balance"},
    "invoice": {"amount_paid_off_stripe", "confirmation_secret", "payments"},
    "price": {"tiers", "currency_options"},
}
# Only there in a certain case, never as null.
SELDOM = {
    "customer": {"deleted", "customer_account", "business_name", "individual_name"},
    "invoice": {"deleted"},
    "invoiceitem": {"deleted"},
    "price": {"deleted"},
    "product": {"deleted", "package_dimensions"},
    "subscription_item": {"deleted", "billed_until", "current_trial"},
    "charge": {"level3", "radar_options", "authorization_code", "presentment_details"},
    "refund": {"instructions_email", "next_action", "presentment_details", "failure_balance_transaction"},
    "event": {"account", "context"},
}


class Fields(typing.NamedTuple):
    defaults: dict[str, Any]
    required: frozenset[str]
    expandable: frozenset[str]
    inner: dict[str, type[StripeObject]]


@cache
def fields_of(cls: type[StripeObject]) -> Fields:
    defaults: dict[str, Any] = {}
    required, expandable, inner = set(), set(), {}
    for name, kind in cls.__annotations__.items():
        if name.isupper() or name.startswith("_") or get_origin(kind) is typing.ClassVar:
            continue
        choices = get_args(kind) if get_origin(kind) is Union else (kind,)
        if str in choices and any(isinstance(choice, ForwardRef) or get_origin(choice) is Union for choice in choices):
            expandable.add(name)
        inner.update((name, choice) for choice in choices if is_inner(choice, cls))
        if type(None) in choices:
            defaults[name] = None
        elif get_origin(kind) is not ListObject:
            required.add(name)
    return Fields(defaults, frozenset(required), frozenset(expandable), inner)


def is_inner(kind: Any, cls: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, StripeObject) and kind.__qualname__.startswith(cls.__qualname__)


def make(kind: str, **values: Any) -> dict[str, Any]:
    """A whole object: given values over nulls; `{}` for metadata, False and [] for what must not be null."""
    cls = CLASSES[kind]
    fields = fields_of(cls)
    dropped = SELDOM.get(kind, set()) | INCLUDABLE.get(kind, set())
    result = {name: value for name, value in fields.defaults.items() if name not in dropped}
    if kind == "payment_method":  # one hash per type of method, and only its own
        result = {name: value for name, value in result.items() if name not in fields.inner}
    for name, value in values.items():
        if not name.startswith("_") and name not in cls.__annotations__:
            raise TypeError(f"Stripe's {kind} has no {name}")
        result[name] = value
    result["object"] = kind
    if "metadata" in cls.__annotations__ and result.get("metadata") is None:
        result["metadata"] = {}
    for name in fields.required - result.keys() - dropped:
        result[name] = empty(cls, name)
    return result


def empty(cls: type[StripeObject], name: str) -> Any:
    kind = cls.__annotations__[name]
    if kind is bool:
        return False
    if get_origin(kind) is list:
        return []
    if is_inner(kind, cls):
        return nested(kind)
    if get_origin(kind) is Union and get_origin(get_args(kind)[0]) is Literal:
        raise TypeError(f"{cls.__name__}.{name} must be given")
    if kind is int:
        return 0
    if kind is str or get_origin(kind) is Union or isinstance(kind, ForwardRef):
        raise TypeError(f"{cls.__name__}.{name} must be given")
    return None


def nested(cls: type[StripeObject], **values: Any) -> dict[str, Any]:
    """An inner hash as `parent` or `pricing`: null where it may be, False and [] where it must not."""
    fields = fields_of(cls)
    result = {**fields.defaults, **values}
    for name in fields.required - result.keys():
        result[name] = empty(cls, name)
    return result


# -- what a reader sees ------------------------------------------------------------------------------------------------

Find = Callable[[Any, dict[str, Any]], Any]
# kind → field → how it is found; modules register here what is computed: lists, secrets, tiers.
COMPUTED: dict[str, dict[str, Find]] = {}


def computed(kind: str, field: str) -> Callable[[Find], Find]:
    def register(function: Find) -> Find:
        COMPUTED.setdefault(kind, {})[field] = function
        return function

    return register


def view(world: Any, thing: dict[str, Any], expand: list[str] | None = None) -> dict[str, Any]:
    """The object as JSON, a copy. `expand` holds paths relative to it; a wrong path is a 400."""
    if thing.get("object") == "list":
        return view_list(world, thing, expand or [])
    shown = {name: copied(value) for name, value in thing.items() if not name.startswith("_")}
    wanted = group(expand or [])
    if not thing.get("deleted"):
        fill(world, thing, shown)
    for name, paths in wanted.items():
        shown[name] = grow(world, thing, shown, name, paths)
    return shown


def copied(value: Any) -> Any:
    """A copy of JSON; `copy.deepcopy` takes three times as long."""
    if isinstance(value, dict):
        return {name: copied(inner) for name, inner in value.items()}
    return [copied(inner) for inner in value] if isinstance(value, list) else value


def fill(world: Any, thing: dict[str, Any], shown: dict[str, Any]) -> None:
    """What always comes along: an invoice's lines, a subscription's items with their prices."""
    kind = str(thing.get("object"))
    for field, find in COMPUTED.get(kind, {}).items():
        if field not in INCLUDABLE.get(kind, set()):
            shown[field] = view_found(world, find(world, thing), [])


def view_found(world: Any, found: Any, expand: list[str]) -> Any:
    return view(world, found, expand) if isinstance(found, dict) and found.get("object") else found


def view_list(world: Any, listing: dict[str, Any], expand: list[str]) -> dict[str, Any]:
    inside = group(expand)
    if wrong := set(inside) - {"data"}:
        raise cannot_expand(next(iter(wrong)))
    return {**listing, "data": [view(world, each, inside.get("data", [])) for each in listing["data"]]}


def group(paths: list[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for path in paths:
        if path.count(".") > 3 + path.count("data"):
            raise refused("You cannot expand more than 4 levels of a property.", param="expand")
        head, _, rest = path.partition(".")
        grouped.setdefault(head, []).extend([rest] if rest else [])
    return grouped


def grow(world: Any, thing: dict[str, Any], shown: dict[str, Any], name: str, paths: list[str]) -> Any:
    kind = str(thing.get("object"))
    if find := COMPUTED.get(kind, {}).get(name):
        return view_found(world, find(world, thing), paths)
    if name not in shown and name not in INCLUDABLE.get(kind, set()):
        raise cannot_expand(name)
    return grow_value(world, shown.get(name), name, paths, known_expandable(kind, name))


def known_expandable(kind: str, name: str) -> bool:
    return kind not in CLASSES or name in fields_of(CLASSES[kind]).expandable


def grow_value(world: Any, value: Any, name: str, paths: list[str], expandable: bool) -> Any:
    if isinstance(value, str):
        found = world.find(value)
        if found is None or not expandable:
            raise cannot_expand(name)
        return view(world, found, paths)
    if isinstance(value, list):
        return [grow_value(world, each, name, paths, expandable) for each in value]
    if isinstance(value, dict):
        if not paths and not value.get("object"):
            raise cannot_expand(name)
        return grow_inner(world, value, paths)
    return value


def grow_inner(world: Any, value: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """Inside a plain hash as `payment` of an invoice payment."""
    for name, rest in group(paths).items():
        if name not in value:
            raise cannot_expand(name)
        value[name] = grow_value(world, value[name], name, rest, True)
    return value


def cannot_expand(name: str) -> Exception:
    return refused(
        f"This property cannot be expanded ({name}). You may want to try expanding another property.", param="expand"
    )
