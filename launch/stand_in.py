"""`make run STRIPE=double`: a double of Stripe beside our processes, so that one can pay by card on this machine."""

import http.client
import json
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from launch.errors import LaunchError
from launch.logs import last_line
from launch.processes import Process

SECRET_KEY, PUBLISHABLE_KEY = "sk_test_double", "pk_test_double"
WEBHOOK_SECRET = "whsec_double"  # noqa: S105  it guards a double that only this machine can reach
STARTS_WITHIN = 30  # seconds

TEST_CARDS = """\
  4242 4242 4242 4242   pays
  4000 0000 0000 0002   is declined
  4000 0000 0000 9995   has not enough money
  4000 0000 0000 3220   asks for 3-D Secure each time
  4000 0000 0000 0341   can be saved, and is declined when it is charged
  4000 0000 0000 0259   pays, and the payment is disputed
  DE89 3704 0044 0532 0130 00   a bank debit: it takes its time
  Any later month and any three digits go with them."""


@dataclass
class StandIn:
    """The double as a watched process; what it remembers stays in `home`, with the database that knows of it."""

    root: Path
    home: Path
    logs: Path
    webhook: str
    process: Process = field(init=False)
    port: int = field(init=False)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.port = self.lasting_port()
        self.process = Process("Stripe's double", self.command(), self.root, self.logs / "stripe-double.log")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "tests.stripe_double", "--port", str(self.port)),
            *("--state", str(self.home / "stripe-double.json")),
            *("--webhook", self.webhook, "--webhook-secret", WEBHOOK_SECRET, "--key", SECRET_KEY),
        ]

    def settings(self) -> dict[str, str]:
        """What makes our processes take it for Stripe."""
        return {
            "STRIPE_SECRET_KEY": SECRET_KEY,
            "STRIPE_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "STRIPE_API_URL": self.url,
            "STRIPE_JS_URL": f"{self.url}/js/stripe.js",
        }

    def lasting_port(self) -> int:
        """The port of the last run while it is free: links to invoices that were made then still open."""
        note = self.home / "stripe-double.port"
        known = note.read_text() if note.exists() else ""
        port = int(known) if known.isdecimal() and is_free(int(known)) else free_port()
        note.write_text(str(port))
        return port

    def start(self) -> None:
        self.process.start()
        deadline = time.monotonic() + STARTS_WITHIN
        while not self.answers():
            log = self.process.log
            if not self.process.alive():
                raise LaunchError(f"The double of Stripe could not start: {last_line(log)} (see {log})")
            if time.monotonic() > deadline:
                raise LaunchError(f"The double of Stripe did not answer within {STARTS_WITHIN} s (see {log}).")
            time.sleep(0.1)

    def answers(self) -> bool:
        return self.ask("account") is not None

    def ask(self, name: str) -> object:
        """What the double says of itself; None when it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("POST", f"/_double/{name}", "{}", {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
