"""Which function answers which endpoint. Modules register theirs; the server looks them up."""

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
    endpoint: endpoints.Endpoint
    answer: Answer
    public: bool


ROUTES: dict[endpoints.Endpoint, Route] = {}


def endpoint(method: str, path: str, *, public: bool = False) -> Callable[[Answer], Answer]:
    """`path` as "/v1/invoices/{}/pay"; it must be one of the SDK's. `public`: a publishable key may use it."""
    known = endpoints.known()[method, path]

    def register(answer: Answer) -> Answer:
        ROUTES[known] = Route(known, answer, public)
        return answer

    return register


def find(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """The route and the path's places; an address of Stripe's that is not played says so."""
    for known in endpoints.in_order():
        match = known.pattern.match(path) if known.method == method else None
        if match and known in ROUTES:
            return ROUTES[known], match.groups()
        if match:
            raise StripeError(501, "api_error", f"The double does not play {method} {path}.", keep=False)
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
