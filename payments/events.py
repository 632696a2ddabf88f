"""Which objects an event is about. That much is believed of it: what became of them is asked for. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

INVOICE, INTENT, CREDIT, REFUND = "invoice", "payment_intent", "credit_note", "refund"
CUSTOMER, PRODUCT, PRICE, SUBSCRIPTION = "customer", "product", "price", "subscription"

# How an event's type begins → which kinds of objects it makes us look at. The longest that fits holds.
ABOUT: dict[str, tuple[str, ...]] = {
    "invoice": (INVOICE,),
    "invoice_payment": (INVOICE,),
    "payment_intent": (INTENT,),
    "charge": (INTENT, REFUND),
    "dispute": (INTENT,),
    "refund": (INTENT, REFUND),
    "credit_note": (INVOICE, CREDIT),
    "customer": (CUSTOMER,),
    "payment_method": (CUSTOMER,),
    "setup_intent": (CUSTOMER,),
    "product": (PRODUCT,),
    "price": (PRICE,),
    "customer.subscription": (SUBSCRIPTION,),
}


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """One object of Stripe's: its kind in Stripe's word, and its id."""

    kind: str
    id: str


def matters(type_: str) -> bool:
    """Whether anything here depends on events of this type."""
    return bool(_kinds(type_))


def subjects(type_: str, payload: Mapping[str, Any]) -> tuple[Subject, ...]:
    """What to look at after this event; nothing when it names none of it."""
    found = ((kind, named(payload, kind)) for kind in _kinds(type_))
    return tuple(Subject(kind, id_) for kind, id_ in found if id_)


def _kinds(type_: str) -> tuple[str, ...]:
    family, _, rest = type_.partition(".")
    return ABOUT.get(f"{family}.{rest.partition('.')[0]}") or ABOUT.get(family, ())


def named(payload: Mapping[str, Any], kind: str) -> str:
    """The id of the object of this kind that an event is about, or belongs to: the customer of a card that was taken
    off stands only among the former values."""
    data = payload.get("data") or {}
    thing = data.get("object") or {}
    if thing.get("object") == kind:
        return _id(thing)
    return _id(thing.get(kind)) or _id((data.get("previous_attributes") or {}).get(kind))


def _id(value: Any) -> str:
    """Of what may be expanded or not."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) else ""


def bare(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of an event about somebody who was erased: which objects it names, and nothing of them."""
    thing = (payload.get("data") or {}).get("object") or {}
    names = {kind: named(payload, kind) for kinds in ABOUT.values() for kind in kinds if kind != thing.get("object")}
    kept = {name: thing[name] for name in ("id", "object") if name in thing}
    short = {name: payload[name] for name in ("id", "object", "type", "created", "livemode") if name in payload}
    return short | {"erased": True, "data": {"object": kept | {kind: id_ for kind, id_ in names.items() if id_}}}
