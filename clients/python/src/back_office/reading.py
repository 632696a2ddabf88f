"""How the answers of the service are read."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from back_office.access import Access
from back_office.answers import Balance, BatchItem, Event, Grant, Override, Page, Row, Tracked, UsagePoint
from back_office.errors import Refused
from back_office.failures import refusal
from back_office.fields import Json


def accesses(found: Json) -> list[Access]:
    return [Access.of(access) for access in found["data"]]


def balances(found: Json) -> tuple[Balance, ...]:
    return tuple(Balance.of(balance) for balance in found["data"])


def grant(found: Json) -> Grant:
    return Grant.of(found)


def override(found: Json) -> Override:
    return Override.of(found)


def usage_points(found: Json) -> tuple[UsagePoint, ...]:
    return tuple(UsagePoint.of(point) for point in found["data"])


def page_of(row: Callable[[Json], Row]) -> Callable[[Json], Page[Row]]:
    return lambda found: Page(tuple(row(one) for one in found["data"]), found.get("nextCursor"))


def tracked(*, own_key: bool) -> Callable[[Json], Tracked]:
    """With a key that the call made for itself, "counted before" means: by an attempt whose answer was lost."""
    return lambda found: Tracked(
        applied=found["applied"] or own_key, event=Event.of(found["event"]), access=Access.of(found["access"])
    )


def batch_items(own_keys: Sequence[bool]) -> Callable[[Json], list[BatchItem]]:
    """In the order of the request, one for each of its events."""
    return lambda found: [_item(item, own) for item, own in zip(found["data"], own_keys, strict=True)]


def _item(found: Json, own_key: bool) -> BatchItem:
    access, event, error = found.get("access"), found.get("event"), found.get("error")
    item = BatchItem(
        applied=found["applied"],
        event=Event.of(event) if event else None,
        access=Access.of(access) if access else None,
        error=_refused(error) if error else None,
    )
    return replace(item, applied=True) if own_key and item.event and item.error is None else item


def _refused(error: Json) -> Refused:
    return refusal(409, error["code"], error["message"], error)
