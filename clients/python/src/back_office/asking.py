"""A check, from memory or from the service, or said by the client itself while the service is away."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from back_office.access import Access
from back_office.cache import AccessCache
from back_office.errors import BackOfficeError, RateLimited, Unavailable
from back_office.exchange import Exchange
from back_office.fields import Units, exact
from back_office.flow import Flow, Request
from back_office.settings import OnOutage


@dataclass(frozen=True)
class Question:
    """What is asked about some features of a customer, and how old or uncertain an answer may be."""

    customer: str
    features: Sequence[str]
    required: Units = 1
    max_age: float | None = None
    on_outage: OnOutage | None = None


@dataclass(frozen=True)
class Asking:
    exchange: Exchange
    cache: AccessCache

    def answers(
        self,
        question: Question,
        request: Callable[[list[str]], Request],
        understand: Callable[[Any], list[Access]],
    ) -> Flow[dict[str, Access]]:
        """By feature, in the order of the question; `request` asks for those that memory does not hold."""
        known = self._remembered(question)
        missing = [feature for feature in dict.fromkeys(question.features) if feature not in known]
        if missing:
            try:
                known |= yield from self._ask(question, missing, request(missing), understand)
            except (Unavailable, RateLimited) as error:
                known |= self._without_the_service(question, missing, error)
        return {feature: known[feature] for feature in question.features if feature in known}

    def _remembered(self, question: Question) -> dict[str, Access]:
        max_age = self.exchange.settings.max_age if question.max_age is None else question.max_age
        if max_age <= 0:
            return {}
        now, required = self.exchange.clock(), exact(question.required)
        found = {
            feature: self.cache.find((question.customer, feature), required, max_age=max_age, now=now)
            for feature in question.features
        }
        return {feature: access for feature, access in found.items() if access is not None}

    def _ask(
        self, question: Question, features: list[str], request: Request, understand: Callable[[Any], list[Access]]
    ) -> Flow[dict[str, Access]]:
        """Ask the service and remember what it says as of the instant of the question: it is not older than that."""
        required = exact(question.required)
        asked = [self.cache.ask((question.customer, feature), required) for feature in features]
        asked_at = self.exchange.clock()
        try:
            found = yield from self.exchange.read(request, understand, deadline=self.exchange.settings.check_deadline)
            answers = {access.feature: access for access in found}
            for pending in asked:
                if access := answers.get(pending.place[1]):
                    self.cache.keep(pending, access, now=asked_at)
            return answers
        finally:
            for pending in asked:
                self.cache.forget(pending)

    def _without_the_service(
        self, question: Question, features: list[str], error: BackOfficeError
    ) -> dict[str, Access]:
        """What was chosen for outages; the error itself where nothing was."""
        choice = question.on_outage or self.exchange.settings.on_outage
        if choice == "raise":
            raise error
        return {name: Access.unknown(name, question.required, allowed=choice == "open") for name in features}
