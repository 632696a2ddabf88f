"""Time passing: what becomes due, in the order it does."""

from tests.stripe_double import collecting, renewals
from tests.stripe_double.state import World

STEPS = 10_000  # more instants than that in one move is a mistake


def advance(world: World, target: int) -> None:
    """Move the clock to the target (Unix seconds), stopping at every instant at which something is due."""
    for _ in range(STEPS):
        due = next_due(world)
        if due is None or due > target:
            break
        move(world, max(due, world.now()))
        tick(world)
    move(world, target)
    tick(world)


def move(world: World, to: int) -> None:
    if world.fixed is None:
        world.ahead += to - world.now()
    else:
        world.fixed = to


def next_due(world: World) -> int | None:
    return min(collecting.due_instants(world) + renewals.due_instants(world), default=None)


def tick(world: World) -> None:
    """Do what is due by now."""
    renewals.advance(world)
    collecting.advance(world)
