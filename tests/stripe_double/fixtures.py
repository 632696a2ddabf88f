"""`double`: one server for the whole run, empty at the start of each test."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.stripe_double import Double


@pytest.fixture(scope="session")
def stripe_server() -> Iterator["Double"]:
    from tests.stripe_double import Double

    server = Double().start()
    yield server
    server.stop()


@pytest.fixture
def double(stripe_server: "Double") -> Iterator["Double"]:
    stripe_server.reset()
    yield stripe_server
    for mistake in stripe_server.server.mistakes:  # of the double itself: the test proved nothing
        raise mistake
