"""Every call of the API, once, for both clients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, TypeVar

from back_office.access import Access
from back_office.answers import (
    Accepted,
    Balance,
    BatchItem,
    Event,
    EventDetail,
    Grant,
    GrantSource,
    Mode,
    Override,
    OverrideState,
    Page,
    Reported,
    Tracked,
    UsagePoint,
    Use,
)
from back_office.asking import Asking, Question
from back_office.cache import AccessCache, Place
from back_office.exchange import Exchange, get, post
from back_office.fields import Units, exact, given, maybe_instant_out, maybe_text
from back_office.flow import Flow, Request
from back_office.keys import Key
from back_office.reading import accesses, balances, batch_items, page_of, reported, tracked, usage_points, voided_events
from back_office.settings import OnOutage

Answer = TypeVar("Answer")


class Operations:
    """Flows of steps, see `flow.py`; `Client` and `AsyncClient` carry them out.

    All of them raise the errors of `errors.py`.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.cache = AccessCache(exchange.settings.cache_size)
        self.asking = Asking(exchange, self.cache)

    # May they?

    def check(
        self,
        customer: str,
        feature: str,
        *,
        required: Units = 1,
        auto_create: bool = False,
        max_age: float | None = None,
        on_outage: OnOutage | None = None,
    ) -> Flow[Access]:
        """May this customer use `required` units now? Nothing is counted.

        An answer of less than `max_age` seconds may come from memory (`answer.age` says how old it is); a track of the
        same customer and feature through this client makes it forgotten. `on_outage` stands in for the settings'.
        """
        body = given(customerId=customer, featureSlug=feature, required=required, autoCreate=auto_create or None)
        answers = yield from self.asking.answers(
            Question(customer, [feature], required, max_age, on_outage),
            lambda missing: post("check", body=body),
            lambda found: [Access.of(found)],
        )
        return answers[feature]

    def check_many(
        self,
        customer: str,
        features: Sequence[str],
        *,
        required: Units = 1,
        max_age: float | None = None,
        on_outage: OnOutage | None = None,
    ) -> Flow[dict[str, Access]]:
        """The same for several features at once, by slug. What memory holds is not asked for again."""
        return self.asking.answers(
            Question(customer, features, required, max_age, on_outage),
            lambda missing: post("check", body={"customerId": customer, "featureSlugs": missing, "required": required}),
            accesses,
        )

    def features(self, customer: str) -> Flow[dict[str, Access]]:
        """Every feature of a customer, by slug."""
        found = yield from self.exchange.read(
            get("customers", customer, "features"), accesses, deadline=self.exchange.settings.check_deadline
        )
        return {access.feature: access for access in found}

    def explain(self, customer: str, feature: str, *, required: Units = 1, at: datetime | None = None) -> Flow[Access]:
        """A check with its `explanation`, the steps to the answer as the API tells them; never from memory.

        `at` asks for the answer of an earlier instant.
        """
        asked = {"required": f"{exact(required):f}", "at": maybe_instant_out(at)}
        return self.exchange.read(get("customers", customer, "features", feature, "explanation", **asked), Access.of)

    # They did

    def track(
        self,
        customer: str,
        feature: str,
        value: Units = 1,
        *,
        key: str | None = None,
        mode: Mode = "reject",
        at: datetime | None = None,
        properties: Mapping[str, Any] | None = None,
        auto_create: bool = False,
    ) -> Flow[Tracked]:
        """Count use, once per `key`; below zero gives back. Raises `LimitReached` when it does not fit.

        Without a key one is made for this call, so that its retries count once. It never passes for counted what may
        not be: when no answer comes it raises `Unavailable`, whose `key` repeats it safely.
        """
        named = Key.of(key)
        body = given(
            customerId=customer,
            featureSlug=feature,
            value=value,
            eventKey=named.text,
            mode=mode,
            at=at,
            properties=properties,
            autoCreate=auto_create or None,
        )
        return self._count(post("track", body=body), tracked(named), named, (customer, feature))

    def track_batch(self, events: Sequence[Use]) -> Flow[list[BatchItem]]:
        """Count many events in one call, each by itself: what became of them, in their order.

        Those without a key get one for this call. One that was not counted has its `error`, which is not raised.
        """
        return self._batch(events)

    def accept(self, events: Sequence[Use]) -> Flow[list[BatchItem]]:
        """Hand over events without waiting until they are counted; each gets an `accepted_id`, or its `error`.

        The service keeps them. Checks that are remembered do not see them before `max_age`.
        """
        return self._batch(events, {"async": True})

    def accepted(self, accepted_id: str) -> Flow[Accepted]:
        """What became of an event that was accepted."""
        return self.exchange.read(get("events", "accepted", accepted_id), Accepted.of)

    def set_usage(
        self, customer: str, feature: str, value: Units, *, reason: str | None = None, key: str | None = None
    ) -> Flow[Tracked]:
        """Say what the use of the present window is; the difference is counted as an event, once per `key`."""
        named = Key.of(key)
        body = given(featureSlug=feature, value=value, eventKey=named.text, reason=reason)
        request = post("customers", customer, "usage", body=body)
        return self._count(request, tracked(named), named, (customer, feature))

    def report(
        self,
        customer: str,
        event_name: str,
        *,
        properties: Mapping[str, Any] | None = None,
        value: Units | None = None,
        key: str | None = None,
        mode: Mode = "reject",
        at: datetime | None = None,
        auto_create: bool = False,
    ) -> Flow[Reported]:
        """Say what happened, once per `key`; every feature whose meter reads such events counts it, or none does."""
        named = Key.of(key)
        body = given(
            customerId=customer,
            eventName=event_name,
            properties=properties,
            value=value,
            eventKey=named.text,
            mode=mode,
            at=at,
            autoCreate=auto_create or None,
        )
        return self._count(post("events", body=body), reported(named), named)

    def void_event(self, event_id: str, *, reason: str, key: str | None = None) -> Flow[tuple[Event, ...]]:
        """Take an event back: its balances get what they gave. The event as each feature had counted it."""
        return self._write(post("events", event_id, "void", body={"reason": reason}), voided_events, key)

    # What have they got?

    def balances(self, customer: str, *, feature: str | None = None, ledger: bool = False) -> Flow[tuple[Balance, ...]]:
        """The open balances; with `ledger`, the lines whose sum is what is left."""
        request = get("customers", customer, "balances", featureSlug=feature, ledger="true" if ledger else None)
        return self.exchange.read(request, balances)

    # What they are given beside their plans

    def create_grant(
        self,
        customer: str,
        feature: str,
        units: Units,
        *,
        reason: str | None = None,
        source: GrantSource = "bonus",
        label: str | None = None,
        priority: int | None = None,
        starts_at: datetime | None = None,
        ends_at: datetime | None = None,
        recurs: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Flow[Grant]:
        """Give units of the customer's own, once per `key`; a bonus takes a reason.

        With `recurs` ("P1M") they come anew in each window until `ends_at`.
        """
        named = Key.of(key)
        body = given(
            featureSlug=feature,
            units=units,
            reason=reason,
            source=source,
            label=label,
            priority=priority,
            startsAt=starts_at,
            endsAt=ends_at,
            recurs=recurs,
            metadata=metadata,
            idempotencyKey=named.text,
        )
        return self._count(post("customers", customer, "grants", body=body), Grant.of, named, (customer, feature))

    def grants(
        self, customer: str, *, feature: str | None = None, cursor: str | None = None, limit: int | None = None
    ) -> Flow[Page[Grant]]:
        """What a customer was given, the newest first; voided and ended ones too."""
        asked = {"featureSlug": feature, "cursor": cursor, "limit": maybe_text(limit)}
        return self.exchange.read(get("customers", customer, "grants", **asked), page_of(Grant.of))

    def void_grant(self, grant_id: str, *, reason: str, key: str | None = None) -> Flow[Grant]:
        """Take back what is left of a grant; what was used stays used."""
        return self._write(post("grants", grant_id, "void", body={"reason": reason}), Grant.of, key)

    def create_override(
        self,
        customer: str,
        feature: str,
        value: bool | Units | str,
        *,
        effective_until: datetime | None,
        reason: str,
        effective_from: datetime | None = None,
        subscription: str | None = None,
        supersede: bool = False,
        key: str | None = None,
    ) -> Flow[Override]:
        """Give a feature another value, for a customer or one of their subscriptions.

        `value` is as the feature's type: True or False, units, a text, "unlimited" or "no_access". `effective_until`
        has to be said, None is permanent. `supersede` ends what holds in that time.
        """
        body = given(
            featureSlug=feature,
            value=value,
            reason=reason,
            effectiveFrom=effective_from,
            subscriptionId=subscription,
            supersede=supersede or None,
        )
        request = post("customers", customer, "overrides", body=body | {"effectiveUntil": effective_until})
        return self._write(request, Override.of, key, (customer, feature))

    def overrides(
        self,
        customer: str,
        *,
        feature: str | None = None,
        state: OverrideState | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Flow[Page[Override]]:
        """The overrides of a customer, the newest first; those that are over too."""
        asked = {"featureSlug": feature, "state": state, "cursor": cursor, "limit": maybe_text(limit)}
        return self.exchange.read(get("customers", customer, "overrides", **asked), page_of(Override.of))

    def revoke_override(self, override_id: str, *, reason: str, key: str | None = None) -> Flow[Override]:
        """End an override now; one that is over already stays as it is."""
        return self._write(post("overrides", override_id, "revoke", body={"reason": reason}), Override.of, key)

    # What happened?

    def events(
        self,
        customer: str,
        *,
        feature: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        name: str | None = None,
        where: tuple[str, str] | None = None,
        voided: bool | None = None,
        search: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Flow[Page[Event]]:
        """Events of a customer, the newest first; those of the last thirty days unless `since` and `until` say more.

        `where=("model", "large")` asks for a property, `search` for an id, a key or any property's value.
        """
        asked = {
            "featureSlug": feature,
            "from": maybe_instant_out(since),
            "to": maybe_instant_out(until),
            "name": name,
            "property": None if where is None else "=".join(where),
            "voided": None if voided is None else str(voided).lower(),
            "search": search,
            "cursor": cursor,
            "limit": maybe_text(limit),
        }
        return self.exchange.read(get("customers", customer, "events", **asked), page_of(Event.of))

    def event(self, event_id: str) -> Flow[EventDetail]:
        """One event, with the balances that it used."""
        return self.exchange.read(get("events", event_id), EventDetail.of)

    def usage(
        self,
        customer: str,
        feature: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        per: Literal["hour", "day", "month"] = "day",
        by: str | None = None,
        where: tuple[str, str] | None = None,
    ) -> Flow[tuple[UsagePoint, ...]]:
        """What was counted per hour, day or month (UTC); `by` splits it by the most frequent values of a property.

        Spans in which nothing was counted are left out, and so is what was voided.
        """
        asked = {
            "featureSlug": feature,
            "from": maybe_instant_out(since),
            "to": maybe_instant_out(until),
            "per": per,
            "by": by,
            "property": None if where is None else "=".join(where),
        }
        return self.exchange.read(get("customers", customer, "usage", **asked), usage_points)

    def _batch(self, events: Sequence[Use], how: Mapping[str, Any] | None = None) -> Flow[list[BatchItem]]:
        keys = [Key.of(event.key) for event in events]
        body = {"events": [_as_json(event, key) for event, key in zip(events, keys, strict=True)], **(how or {})}
        request = post("track", "batch", body=body)
        try:
            return (yield from self.exchange.read(request, batch_items(keys), keys=[key.text for key in keys]))
        finally:
            for event in events:
                self.cache.drop((event.customer, event.feature))

    def _write(
        self, request: Request, understand: Callable[[Any], Answer], key: str | None, changes: Place | None = None
    ) -> Flow[Answer]:
        """Carry out a write whose body has no place for a key: the header bears it."""
        named = Key.of(key)
        keyed = replace(request, headers={**request.headers, "Idempotency-Key": named.text})
        return self._count(keyed, understand, named, changes)

    def _count(
        self, request: Request, understand: Callable[[Any], Answer], key: Key, changes: Place | None = None
    ) -> Flow[Answer]:
        """Carry out a write, and forget the checks that it changes; all of them, where those are not known."""
        try:
            return (yield from self.exchange.read(request, understand, keys=[key.text]))
        finally:
            # Also when no answer came: it may have been done.
            if changes:
                self.cache.drop(changes)
            else:
                self.cache.drop_all()


def _as_json(event: Use, key: Key) -> dict[str, Any]:
    return given(
        customerId=event.customer,
        featureSlug=event.feature,
        value=event.value,
        eventKey=key.text,
        mode=event.mode,
        at=event.at,
        properties=dict(event.properties) or None,
    )
