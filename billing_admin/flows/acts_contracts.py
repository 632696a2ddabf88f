"""Longer trials and pauses of collection, as acts that can need a second person. Sizes are days."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from billing_admin.approving import Effect, Shown, Size, guarded
from billing_admin.flows.acts import about, day, days_between, instant, last_of, subscription_again, text
from billing_admin.flows.collection import pause, pauses
from billing_admin.flows.trials import extend, new_end
from customers.journal import Actor
from customers.models import Customer, Operation, Subscription

DAYS: Mapping[str, str] = {"days": "days"}


@guarded
@dataclass(frozen=True)
class ExtendTrial:
    """Until an instant, or so many days from when it is done. Measured by the whole trial, from its first day on, so
    that many small steps are as large as one."""

    subscription: Subscription
    until: datetime | None = None
    days: int | None = None

    key: ClassVar[str] = "trial.extended"
    title: ClassVar[str] = "A new or longer trial"
    measures: ClassVar[Mapping[str, str]] = {"days": "days in all"}
    permissions: ClassVar[tuple[str, ...]] = ("customers.extend_trial",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        return cls(subscription_again(inputs["subscription"]), instant(inputs["until"]), inputs["days"])

    def to_json(self) -> dict[str, Any]:
        return {"subscription": self.subscription.public_id, "until": text(self.until), "days": self.days}

    def customer(self) -> Customer:
        return self.subscription.customer

    def _end(self, now: datetime) -> datetime:
        return new_end(self.subscription, until=self.until, days=self.days, now=now)

    def sizes(self, now: datetime) -> Sequence[Size]:
        return [Size("days", days_between(self.subscription.period_starts_at or now, self._end(now)))]

    def shown(self, now: datetime) -> Shown:
        """Days that are counted from when it is done move its end by themselves."""
        before, end = self.subscription.trial_ends_at, self._end(now)
        from_now = self.days is not None
        effects = (
            about(self.customer()),
            Effect("The trial ends", day(before, "—"), f"{end:%-d %b %Y}", is_passing=from_now),
        )
        until = f"by {self.days} days from the day it is done" if from_now else f"until {end:%-d %b %Y}"
        sentence = f"Extend the trial of {self.customer().name} ({self.subscription.public_id}) {until}"
        return Shown(sentence, effects, facts={"state": self.subscription.state, "ends": before})

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation:
        return extend(self.subscription, until=self.until, days=self.days, reason=reason, actor=actor, now=now)


@guarded
@dataclass(frozen=True)
class PauseCollection:
    """Measured from the first day of the pause, which may run already; one without an end lasts for ever."""

    subscription: Subscription
    behavior: str
    resumes_at: datetime | None = None

    key: ClassVar[str] = "collection.paused"
    title: ClassVar[str] = "Pausing collection"
    measures: ClassVar[Mapping[str, str]] = DAYS
    permissions: ClassVar[tuple[str, ...]] = ("customers.pause_collection",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        return cls(subscription_again(inputs["subscription"]), inputs["behavior"], instant(inputs["resumes_at"]))

    def to_json(self) -> dict[str, Any]:
        return {
            "subscription": self.subscription.public_id,
            "behavior": self.behavior,
            "resumes_at": text(self.resumes_at),
        }

    def customer(self) -> Customer:
        return self.subscription.customer

    def sizes(self, now: datetime) -> Sequence[Size]:
        since = self.subscription.collection_paused_at if pauses(self.subscription, now) else now
        return [Size("days", days_between(since or now, self.resumes_at))]

    def shown(self, now: datetime) -> Shown:
        what = Subscription.WhilePaused(self.behavior).label.lower()
        until = day(self.resumes_at, "somebody resumes it")
        effects = (
            about(self.customer()),
            Effect("Invoices that become due meanwhile", "", what),
            Effect("Collected again", "", until),
        )
        paused = pauses(self.subscription, now)
        facts = {
            "state": self.subscription.state,
            "paused since": self.subscription.collection_paused_at if paused else None,
            "paused until": self.subscription.collection_resumes_at if paused else None,
        }
        sentence = f"Pause the collection of {self.subscription.public_id} of {self.customer().name} until {until}"
        return Shown(sentence, effects, facts=facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        until, how = self.resumes_at, self.behavior
        pause(self.subscription, behavior=how, resumes_at=until, reason=reason, actor=actor, now=now)
        return last_of(self.customer(), self.key)
