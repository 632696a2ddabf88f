"""Cursor pagination: newest first, at most 100, `starting_after` goes back in time, `ending_before` forward."""

from collections.abc import Iterable
from typing import Any

from tests.stripe_double.errors import missing, refused
from tests.stripe_double.routes import Call
from tests.stripe_double.state import Thing

SPANS = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def page(call: Call, things: Iterable[Thing], url: str, *exact: str, spans: tuple[str, ...] = ("created",)) -> Thing:
    """One page of `things` (newest first), filtered by the parameters named in `exact` and by time spans."""
    found = [thing for thing in things if fits(thing, call, exact, spans)]
    limit = call.given.get("limit", 10)
    if not 1 <= limit <= 100:
        raise refused("Limit must be between 1 and 100.", param="limit")
    first, last = window(call, found, limit)
    return {
        "object": "list",
        "url": url,
        "data": found[first:last],
        "has_more": first > 0 if "ending_before" in call.given else last < len(found),
    }


def fits(thing: Thing, call: Call, exact: tuple[str, ...], spans: tuple[str, ...]) -> bool:
    given = call.given
    return all(thing.get(name) == given[name] for name in exact if name in given) and all(
        within(thing.get(name), given[name]) for name in spans if name in given
    )


def within(value: Any, bounds: Any) -> bool:
    if not isinstance(bounds, dict):
        return bool(value == bounds)
    return value is not None and all(SPANS[word](value, bound) for word, bound in bounds.items())


def window(call: Call, found: list[Thing], limit: int) -> tuple[int, int]:
    given = call.given
    if "starting_after" in given and "ending_before" in given:
        raise refused("You may only specify one of these parameters: starting_after, ending_before.")
    places = {thing["id"]: place for place, thing in enumerate(found)}
    if after := given.get("starting_after"):
        first = cursor(call, places, after, "starting_after") + 1
        return first, min(first + limit, len(found))
    if before := given.get("ending_before"):
        last = cursor(call, places, before, "ending_before")
        return max(last - limit, 0), last
    return 0, min(limit, len(found))


def cursor(call: Call, places: dict[str, int], identity: str, param: str) -> int:
    if identity not in places:
        raise missing("object", identity, param)
    return places[identity]


def whole(things: list[Thing], url: str, limit: int = 10) -> Thing:
    """A list inside an object: its first entries and whether there are more."""
    return {
        "object": "list",
        "data": things[:limit],
        "has_more": len(things) > limit,
        "total_count": len(things),
        "url": url,
    }
