"""How the answers of the service are read."""

from collections.abc import Callable, Sequence

from back_office.access import Access
from back_office.answers import Balance, BatchItem, CountedAccess, Event, Page, Reported, Row, Tracked, UsagePoint
from back_office.errors import BackOfficeError, Unavailable
from back_office.failures import BY_CODE, refusal
from back_office.fields import Json, maybe_units
from back_office.keys import Key

BROKEN = {"unavailable", "internal_error"}
STATUS = {"forbidden": 403} | dict.fromkeys(BY_CODE, 409)


def accesses(found: Json) -> list[Access]:
    return [Access.of(access) for access in found["data"]]


def balances(found: Json) -> tuple[Balance, ...]:
    return tuple(Balance.of(balance) for balance in found["data"])


def voided_events(found: Json) -> tuple[Event, ...]:
    return tuple(Event.of(event) for event in found["data"])


def usage_points(found: Json) -> tuple[UsagePoint, ...]:
    return tuple(UsagePoint.of(point) for point in found["data"])


def page_of(row: Callable[[Json], Row]) -> Callable[[Json], Page[Row]]:
    return lambda found: Page(tuple(row(one) for one in found["data"]), found.get("nextCursor"))


def tracked(key: Key) -> Callable[[Json], Tracked]:
    """With a key that the call made for itself, "counted before" means: by an attempt whose answer was lost."""
    return lambda found: Tracked(
        applied=found["applied"] or key.is_made, event=Event.of(found["event"]), access=Access.of(found["access"])
    )


def reported(key: Key) -> Callable[[Json], Reported]:
    """As `tracked`; an event that no feature counts was not applied, whoever made its key."""

    def read(found: Json) -> Reported:
        features = tuple(CountedAccess.of(counted) for counted in found["features"])
        return Reported(found["applied"] or (key.is_made and bool(features)), found.get("id"), features)

    return read


def batch_items(keys: Sequence[Key]) -> Callable[[Json], list[BatchItem]]:
    """In the order of the request, one for each of its events."""
    return lambda found: [_item(item, key) for item, key in zip(found["data"], keys, strict=True)]


def _item(found: Json, key: Key) -> BatchItem:
    event, error = found.get("event"), found.get("error")
    return BatchItem(
        applied=found["applied"] or (key.is_made and event is not None and error is None),
        event=Event.of(event) if event else None,
        error=_error(error, key) if error else None,
        remaining=maybe_units(found.get("remaining")),
        has_reached_limit=found.get("hasReachedLimit"),
        accepted_id=found.get("acceptedId"),
    )


def _error(said: Json, key: Key) -> BackOfficeError:
    """An item has no status of its own; its code says what it would have been alone."""
    code, message = str(said["code"]), str(said["message"])
    if code in BROKEN:
        unavailable = Unavailable(message, code=code)
        unavailable.keys = (key.text,)
        return unavailable
    return refusal(STATUS.get(code, 404 if code.endswith("_not_found") else 400), code, message, said)
