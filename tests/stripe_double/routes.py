"""Which function answers which endpoint. Modules register theirs; the server looks them up."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.stripe_double import endpoints, params
from tests.stripe_double.errors import StripeError, refused
from tests.stripe_double.state import Thing, World


@dataclass
class Call:
    """One checked request: `ids` are the path's places in order, `given` the typed parameters.

    `public` is True when it came with the publishable key.
    """

    world: World
    ids: tuple[str, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)
    public: bool = False

    @property
    def id(self) -> str:
        return self.ids[0]

    def pick(self, *names: str) -> dict[str, Any]:
        """The named parameters that were given; an empty text unsets."""
        return {name: (None if self.given[name] == "" else self.given[name]) for name in names if name in self.given}


Answer = Callable[[Call], Thing]


@dataclass(frozen=True)
class Route:
    pattern: re.Pattern[str]
    endpoint: endpoints.Endpoint
    answer: Answer
    public: bool


ROUTES: dict[str, list[Route]] = {"GET": [], "POST": [], "DELETE": []}


def endpoint(method: str, path: str, *, public: bool = False) -> Callable[[Answer], Answer]:
    """`path` as "/v1/invoices/{}/pay"; it must be one of the SDK's. `public`: a publishable key may use it."""
    known = endpoints.known()[method, path]

    def register(answer: Answer) -> Answer:
        ROUTES[method].append(Route(known.pattern, known, answer, public))
        ROUTES[method].sort(key=lambda route: route.pattern.groups)  # /customers/search is no customer
        return answer

    return register


def find(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    for route in ROUTES.get(method, []):
        if match := route.pattern.match(path):
            return route, match.groups()
    raise StripeError(
        404,
        "invalid_request_error",
        f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove the trailing slash.",
        keep=False,
    )


def call_for(world: World, route: Route, ids: tuple[str, ...], form: dict[str, Any], *, public: bool) -> Call:
    """The call with its parameters checked. A browser's call must know the intent's client secret."""
    secret = form.pop("client_secret", None) if public else None
    if public and ids:
        intent = world.find(ids[0])
        if intent is None or secret != intent.get("client_secret"):
            raise refused("The client_secret provided does not match the client_secret of this intent.")
    return Call(world, ids, params.read(form, route.endpoint.params), public)
