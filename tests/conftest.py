"""The servers that all tests share. Fixtures for worlds and fakes belong to the folders that use them."""

import fcntl
import gc
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import IO, Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from pytest_django import DjangoDbBlocker
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

# Migrated databases, which those of the tests are copied from, and what their names end with.
TEMPLATE = "template_billing_"
OURS = ("catalog", "customers", "entitlements", "invoicing", "payments", "deals", "billing_admin")
IMPORTED = re.compile(rf"^(?:from|import) ((?:{'|'.join(OURS)})[\w.]+)", re.MULTILINE)


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


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the garbage collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 20)


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
def django_db_modify_db_settings(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Each slot and each xdist worker has a database and a cache of its own; it is copied, not migrated anew."""
    own = f"{os.environ[SLOT]}_{os.environ.get('PYTEST_XDIST_WORKER', 'gw0')}"
    wanted = settings.DATABASES["default"].setdefault("TEST", {})
    wanted.update(TEMPLATE=template(django_db_blocker), MIGRATE=False, NAME=f"test_billing_{own}")
    yield


def template(blocker: DjangoDbBlocker) -> str:
    """The name of a migrated database, made by whoever comes first after a change of what its tables come from."""
    name = f"{TEMPLATE}{made_from()}"
    with (PLACES.home / "template.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with blocker.unblock():
            known = templates()
            if name not in known:
                make_template(name)
                forget_templates(known[:-2])  # other runs may be of another state
    return name


def templates() -> list[str]:
    """Oldest first."""
    with connection._nodb_cursor() as cursor:  # the way on which Django itself makes test databases
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE %s ORDER BY oid", [f"{TEMPLATE}%"])
        return [name for (name,) in cursor.fetchall()]


def forget_templates(names: list[str]) -> None:
    with connection._nodb_cursor() as cursor:
        for name in names:
            with suppress(OperationalError):  # it is being copied
                cursor.execute(f"DROP DATABASE IF EXISTS {connection.ops.quote_name(name)}")


def make_template(name: str) -> None:
    """Under another name until it is whole, for a run may be killed at any time."""
    draft = f"{name}_unfinished"
    settings.DATABASES["default"]["TEST"]["NAME"] = draft
    usual = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    connection.close()
    settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = usual
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {connection.ops.quote_name(draft)} RENAME TO {connection.ops.quote_name(name)}")


def made_from() -> str:
    """A digest of the migrations, of our modules that they import, and of the packages' versions."""
    migrations = sorted(path for app in OURS for path in settings.BASE_DIR.glob(f"{app}/migrations/*.py"))
    imported = {found for path in migrations for found in IMPORTED.findall(path.read_text())}
    modules = [settings.BASE_DIR / f"{module.replace('.', '/')}.py" for module in sorted(imported)]
    digest = hashlib.sha256()
    for path in (settings.BASE_DIR / "requirements.txt", *migrations, *modules):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> None:
    settings.CACHES["default"]["KEY_PREFIX"] = f"{os.environ[SLOT]}-{os.environ.get('PYTEST_XDIST_WORKER', 'gw0')}"
