"""A double of Stripe: a real HTTP server with a memory, that the real SDK talks to.

    double = Double().start()
    stripe.StripeClient(double.key, base_addresses={"api": double.url})

`control.Double` says what a test can do to it. It needs nothing but the standard library and the `stripe` package,
from which it reads the names and types of parameters and the shapes of objects.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.stripe_double.control import Double

__all__ = ["Double"]


def __getattr__(name: str) -> Any:
    """Importing `stripe` takes a second: only who uses the double pays for it."""
    if name == "Double":
        from tests.stripe_double.control import Double

        return Double
    raise AttributeError(name)
