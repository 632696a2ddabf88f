"""`make run`: the servers, the database, the pages' files, then web, worker and beat, until Ctrl-C."""

import fcntl
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launch import configuration, processes, servers, static
from launch.configuration import Configuration
from launch.environment import ROOT, writable
from launch.errors import LaunchError
from launch.interrupts import Interrupts
from launch.logs import last_line
from launch.places import Places
from launch.processes import Process
from launch.progress import say, step
from launch.stand_in import TEST_CARDS, StandIn

VAR = ROOT / "var"
LOGS = VAR / "log"
SEED = ROOT / "billing_admin" / "management" / "commands" / "seed_demo.py"
WEB_STARTS_WITHIN = 60  # seconds

# Until `seed_demo` can tell them itself.
LOGINS = """\
  admin     may do everything
  ops       customers, balances, notes
  sales     deals, plans, cancellations
  finance   invoices, payments, voids
  readonly  may look
  The password of each is: demo"""


def run() -> None:
    with the_only_one():
        config = configuration.read(ROOT)
        if processes.stop_orphans(ROOT):
            say("Ended what an earlier run had left running.")
        configuration.refuse_taken_port(config.host, config.port)
        if not config.production:
            os.environ.setdefault("PUBLIC_URL", config.address.rstrip("/"))  # links to customers lead here
        places = Places(VAR)
        embedded = embedded_servers(config, places)
        say("Starting the billing back office")
        parts = our_processes(config)
        with Interrupts() as interrupts:
            try:
                with interrupts.later():
                    start_servers(embedded, places)
                prepare(config)
                double = stand_in(config, places) if config.stripe_double else None
                open_the_doors(config, parts)
                greet(config, places, double)
                if double:
                    parts.append(double.process)
                with interrupts.later():
                    processes.supervise([*embedded, *parts], until=lambda: interrupts.asked)
            finally:
                interrupts.asked = True  # from here on nothing may disturb the stopping
                say("")
                with step("Stopping"):
                    processes.stop(parts)
                    processes.stop_orphans(ROOT)
                    servers.stop(embedded, places)


@contextmanager
def the_only_one() -> Iterator[None]:
    """Hold this folder's lock; it goes with the process, so a killed launcher never leaves it behind."""
    VAR.mkdir(exist_ok=True)
    writable(VAR)
    with (VAR / "launch.lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise LaunchError(f"It runs already in this folder (process {handle.read().strip() or '?'}).") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


# Getting ready --------------------------------------------------------------------------------------------------------


def embedded_servers(config: Configuration, places: Places) -> list[servers.Server]:
    """Each server that the environment does not give."""
    embedded: list[servers.Server] = []
    if config.database_url is None:
        embedded.append(servers.Postgres(places))
    else:
        configuration.refuse_unreachable_database(config.database_url)
    if config.redis_url is None:
        embedded.append(servers.Valkey(places))
    else:
        configuration.refuse_unreachable_redis(config.redis_url)
    return embedded


def start_servers(embedded: list[servers.Server], places: Places) -> None:
    if not embedded:
        return
    with step(", ".join(server.name for server in embedded)):
        servers.start(embedded, places)
        for server in embedded:
            if isinstance(server, servers.Postgres):
                server.make_database()


def prepare(config: Configuration) -> None:
    with step("Migrations"):
        manage("migrate", "--noinput", log=LOGS / "migrate.log")
    if SEED.exists() and not config.production:
        with step("Demo data"):
            manage("seed_demo", "--if-empty", log=LOGS / "seed.log")
    if static.changed(ROOT, VAR):
        with step("Static files"):
            manage("collectstatic", "--noinput", log=LOGS / "static.log")
            static.remember(ROOT, VAR)


def stand_in(config: Configuration, places: Places) -> StandIn:
    """Let a double be Stripe for what starts from now on, and give it a share in the demo."""
    double = StandIn(ROOT, home=places.home, logs=LOGS, webhook=f"{own_address(config)}stripe/webhook")
    with step("Stripe's double"):
        double.start()
    os.environ.update(double.settings())
    if SEED.exists():
        with step("Demo data in Stripe"):
            manage("seed_demo", "--stripe", log=LOGS / "seed-stripe.log")
    return double


def own_address(config: Configuration) -> str:
    """Where a process on this machine finds our web process."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    host = everywhere.get(config.host, f"[{config.host}]" if ":" in config.host else config.host)
    return f"http://{host}:{config.port}/"


def manage(*command: str, log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as lines:
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env={**os.environ, processes.MARK: str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
        )
    if done.returncode != 0:
        raise LaunchError(f"`manage.py {command[0]}` failed: {last_line(log)} (see {log})")


# Web, worker, beat ----------------------------------------------------------------------------------------------------


def our_processes(config: Configuration) -> list[Process]:
    def process(name: str, module: str, *arguments: str, **env: str) -> Process:
        command = [sys.executable, "-m", module, *arguments]
        return Process(name, command, ROOT, LOGS / f"{name.lower()}.log", env)

    celery = ("celery", "-A", "billing_admin.celery")
    return [
        process(
            "Web",
            "granian",
            *("--interface", "asgi", "--loop", "uvloop", "--no-ws", "billing_admin.asgi:application"),
            *("--host", config.host, "--port", str(config.port), "--workers", str(config.web_workers)),
            *("--respawn-failed-workers", "--workers-kill-timeout", "5"),
            WEB_THREADS=str(config.web_threads),
            # Two more read what plain checks and tracks have to know.
            DATABASE_POOL_MAX=str(config.web_threads + 2),
        ),
        process("Worker", *celery, "worker", "--concurrency", "2", "--loglevel", "INFO"),
        process("Beat", *celery, "beat", "--loglevel", "WARNING", "--pidfile", ""),
    ]


def open_the_doors(config: Configuration, parts: list[Process]) -> None:
    with step("Web, worker, beat"):
        for part in parts:
            part.start()
        [web] = [part for part in parts if part.name == "Web"]
        deadline = time.monotonic() + WEB_STARTS_WITHIN
        while not answers(config):
            if not web.alive():
                raise LaunchError(f"The web process could not start: {last_line(web.log)} (see {web.log})")
            if time.monotonic() > deadline:
                raise LaunchError(f"The web process did not answer within {WEB_STARTS_WITHIN} s (see {web.log}).")
            time.sleep(0.1)


def answers(config: Configuration) -> bool:
    """Any answer will do: it shows that the project is loaded."""
    connection = http.client.HTTPConnection(config.host, config.port, timeout=10)
    try:
        connection.request("HEAD", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def greet(config: Configuration, places: Places, double: StandIn | None) -> None:
    say(f"\nOpen  {config.address}")
    if not config.production:
        say(logins())
    if double:
        say(f"\nStripe is played by a double at {double.url}, with its test cards; no money moves:\n{TEST_CARDS}\n")
    say(f"Ctrl-C stops everything; the data stays in {near(places.home)}, the logs are in {near(LOGS)}.\n")


def near(folder: Path) -> str:
    return f"{folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder}/"


def logins() -> str:
    if SEED.exists():
        asked = subprocess.run(
            [sys.executable, "manage.py", "seed_demo", "--print-logins"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            start_new_session=True,
            check=False,
        )
        if asked.returncode == 0 and asked.stdout.strip():
            return asked.stdout.rstrip()
    return LOGINS
