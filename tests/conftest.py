"""The servers that all tests share. Fixtures for worlds and fakes belong to the folders that use them."""

import fcntl
import os
from collections.abc import Iterator
from itertools import count
from typing import IO, Any

import pytest
from django.conf import settings
from xdist.scheduler import LoadScopeScheduling

from launch import servers
from tests.settings import GIVEN, PLACES
from tests.stripe_double.fixtures import double, stripe_server  # noqa: F401 - fixtures, for every test

# Each builds a world that takes long, for all its tests: one worker builds it.
TOGETHER = {"tests/test_seed_demo.py"}

# A slot is one run of the tests: several may share the servers, each with databases of its own. xdist's workers
# inherit their controller's slot through the environment.
SLOT = "BILLING_TEST_SLOT"
held: dict[str, IO[str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    if not is_worker(config) and "slot" not in held:  # the client's tests call this too
        take_slot()
        if wanted := our_servers():
            servers.start(wanted, PLACES)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not is_worker(config) and leave_slot_as_the_last():
        servers.stop(our_servers(), PLACES)


class InTurn(LoadScopeScheduling):
    """Test by test to whichever worker is free; a file of TOGETHER goes to one of them, before all others."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in TOGETHER else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> InTurn | None:
    """In place of xdist's own loadgroup, which writes its groups where pytest 9 does not read them."""
    return InTurn(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(trylast=True)  # after pytest-django has put tests that empty the tables behind those that do not
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes a minute by nature begins first, so that no worker waits for it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def our_servers() -> list[servers.Server]:
    wanted: list[servers.Server] = []
    if "DATABASE_URL" not in GIVEN:
        wanted.append(servers.Postgres(PLACES, settings=servers.THROWAWAY))
    if "REDIS_URL" not in GIVEN:
        wanted.append(servers.Valkey(PLACES))
    return wanted


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def take_slot() -> None:
    """Hold the first free slot; the lock goes with the process, so a killed run gives its slot back."""
    servers.make_folders(PLACES)
    for number in count():
        handle = (PLACES.home / f"slot-{number}.lock").open("a")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            continue
        held["slot"] = handle
        os.environ[SLOT] = str(number)
        return


def leave_slot_as_the_last() -> bool:
    """Give our slot back; True when no other run holds one, so that nobody needs the servers any more."""
    if "slot" not in held:
        return False
    held.pop("slot").close()
    for lock in PLACES.home.glob("slot-*.lock"):
        with lock.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> Iterator[None]:
    """Each slot and each xdist worker has a database and a cache of its own."""
    own = f"{os.environ[SLOT]}_{os.environ.get('PYTEST_XDIST_WORKER', 'gw0')}"
    settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = f"test_billing_{own}"
    yield


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> None:
    settings.CACHES["default"]["KEY_PREFIX"] = f"{os.environ[SLOT]}-{os.environ.get('PYTEST_XDIST_WORKER', 'gw0')}"
