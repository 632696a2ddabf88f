"""Subscriptions."""

from tests.stripe_double.state import Thing, World


def end(world: World, subscription: Thing) -> None:
    subscription["status"] = "canceled"
