"""Both clients, told to be quick, and the real server with a customer to ask about."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from back_office import AsyncClient, Client, Retries, Settings
from catalog.models import _frozen_terms
from customers.models import Customer
from entitlements.readings import forget_items
from tests import builders as a
from tests import conftest as servers
from tests.api.conftest import caller_with

# The same servers as all other tests have; these run alone as well.
django_db_modify_db_settings = servers.django_db_modify_db_settings
own_cache = servers.own_cache

QUICK = Settings(timeout=0.5, deadline=3.0, check_deadline=3.0, retries=Retries(attempts=3, base=0.01))
Make = Callable[..., Any]


def pytest_configure(config: pytest.Config) -> None:
    servers.pytest_configure(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    servers.pytest_unconfigure(config)


class Waiting:
    """An `AsyncClient` whose calls are waited for, so that one test asks both clients in the same words."""

    def __init__(self, runner: asyncio.Runner, client: AsyncClient) -> None:
        self.runner, self.client = runner, client

    def __getattr__(self, name: str) -> Any:
        return partial(self.wait, getattr(self.client, name))

    def wait(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            return await method(*args, **kwargs)

        return self.runner.run(call())


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Make]:
    """`billing = connect(url)`: a client, blocking or not, that gives up soon unless told otherwise."""
    made: list[Any] = []
    with asyncio.Runner() as runner:

        def make(url: str, settings: Settings = QUICK, key: str = "bk_test") -> Any:
            client: Any = (
                Client(url, key, settings)
                if request.param == "sync"
                else Waiting(runner, AsyncClient(url, key, settings))
            )
            made.append(client)
            return client

        yield make
        for client in made:
            client.close()


@pytest.fixture
def connect_blocking() -> Iterator[Make]:
    made: list[Client] = []

    def make(url: str, settings: Settings = QUICK, key: str = "bk_test") -> Client:
        made.append(Client(url, key, settings))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def now() -> datetime:
    """The server's own clock says what is now, so these worlds are built around the present."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def secret(transactional_db: None) -> str:
    return caller_with("Admin").secret


@pytest.fixture
def acme(transactional_db: None, now: datetime) -> Iterator[Customer]:
    """Ten days on Pro: 100 credits, of which nothing is used; Team has 500."""
    a.team()
    yield a.on(a.pro(), since=now - timedelta(days=10))
    # Each test has its own rows under the same numbers.
    _frozen_terms.cache_clear()
    forget_items()


@pytest.fixture
def patient() -> Settings:
    """For the real server, which may be busy: it shares its two cores with all other tests."""
    return Settings(timeout=20, deadline=60, check_deadline=60, retries=Retries(attempts=3, base=0.01))
