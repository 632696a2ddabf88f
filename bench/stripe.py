"""`python -m bench.stripe [--quick]`: webhooks at our door, and how fast a double of Stripe is given a backlog.

Webhooks are signed and sent over real connections to the real web process; beside them the same requests with a wrong
signature, which write nothing. A backlog is invoices that Stripe has not heard of; beside it the same number of calls
that only ask the double for its account.
"""

import argparse
import hashlib
import hmac
import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench import places
from bench.report import Report
from launch import servers
from launch.places import Places
from launch.run import LOGS
from launch.stand_in import WEBHOOK_SECRET, StandIn

PLACES = Places(places.ROOT / "var", database="bench_stripe")
CONNECTIONS = 4
ASKED = "HTTP calls that ask nothing"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.stripe", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    options = parser.parse_args()
    number = 100 if options.quick else 1_000
    with a_double() as double:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)

        report = Report(quick=options.quick)
        webhooks(report, number * 5)
        backlog(report, double, number // 5)
        report.write(places.ROOT / "var" / "bench-stripe.json")
    return 0


@contextmanager
def a_double() -> Iterator[StandIn]:
    """An empty database and an empty Stripe, for this process and those that it starts."""
    postgres = servers.Postgres(PLACES)
    servers.start([postgres, servers.Valkey(PLACES)], PLACES)
    with postgres.connect() as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {PLACES.database} WITH (FORCE)")
    postgres.make_database()
    home = PLACES.home / "bench-stripe"
    (home / "stripe-double.json").unlink(missing_ok=True)
    double = StandIn(places.ROOT, home=home, logs=LOGS, webhook="http://127.0.0.1:9/")
    double.process.name = "Bench's double"
    os.environ |= double.settings() | {
        "DJANGO_SETTINGS_MODULE": "billing_admin.settings",
        "DATABASE_URL": PLACES.database_url,
        "REDIS_URL": PLACES.redis_url.replace("db=0", "db=7"),
        "LOG_LEVEL": "CRITICAL",
    }
    double.start()
    try:
        yield double
    finally:
        double.process.ask_to_stop()
        double.process.await_stop(time.monotonic() + 5)


# Webhooks -------------------------------------------------------------------------------------------------------------


def webhooks(report: Report, number: int) -> None:
    from bench import web

    report.title(f"Webhooks, {number:,} events over {CONNECTIONS} connections")
    with web.serving() as port:
        answered(port, [signed(place, "warm") for place in range(200)], 200)  # processes that have woken up
        refused = answered(port, [signed(place, "wrong", WEBHOOK_SECRET[::-1]) for place in range(number)], 400)
        kept = answered(port, [signed(place, "right") for place in range(number)], 200)
        again = answered(port, [signed(place, "right") for place in range(number)], 200)
    report.add("kept and handed over", kept, "/s", floor=refused, against="refused by their signature")
    report.add("sent a second time", again, "/s", floor=refused, against="refused by their signature")


def signed(place: int, name: str, secret: str = WEBHOOK_SECRET) -> tuple[bytes, str]:
    """An event of the size that Stripe's have, about an object that nothing here knows, and its signature."""
    event = {
        "id": f"evt_{name}_{place}",
        "object": "event",
        "type": "topup.created",
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": {"id": f"tu_{place}", "object": "topup", "description": "x" * 3_000}},
    }
    payload, at = json.dumps(event).encode(), int(time.time())
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256).hexdigest()
    return payload, f"t={at},v1={digest}"


def answered(port: int, events: Sequence[tuple[bytes, str]], status: int) -> float:
    """Events a second; each connection sends its share one after the other."""
    shares = [threading.Thread(target=post, args=(port, events[n::CONNECTIONS], status)) for n in range(CONNECTIONS)]
    began = time.perf_counter()
    for share in shares:
        share.start()
    for share in shares:
        share.join()
    return len(events) / (time.perf_counter() - began)


def post(port: int, events: Sequence[tuple[bytes, str]], status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for payload, signature in events:
        headers = {"Content-Type": "application/json", "Stripe-Signature": signature}
        connection.request("POST", "/stripe/webhook", payload, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status, f"{answer.status} instead of {status}"
    connection.close()


# The backlog ----------------------------------------------------------------------------------------------------------


def backlog(report: Report, double: StandIn, number: int) -> None:
    from django.utils import timezone

    from billing_admin.flows import stripe_collect
    from billing_admin.flows.stripe_account import connect
    from payments.models import StripeInvoice

    connect(timezone.now())
    owe(number)
    now = timezone.now()
    stripe_collect.enqueue(now)
    before = calls(double)
    began = time.perf_counter()
    while stripe_collect.collect_due(now).done:
        pass
    spent = time.perf_counter() - began
    made = calls(double) - before
    assert not StripeInvoice.objects.exclude(state="needs_method").exists(), "every invoice waits for a card now"
    report.title(f"Backlog, {number:,} new customers with an invoice each, one worker, {made / number:.1f} calls each")
    report.add("collected", number / spent, "/s", floor=number / asking(made), against=ASKED)


def owe(number: int) -> None:
    from datetime import timedelta

    from django.utils import timezone

    from bench import world
    from billing_admin.flows.customers import create_customer
    from billing_admin.flows.enable_plan import enable_plan, propose
    from catalog.models import Plan

    now = timezone.now()
    world.build(now)
    pro = Plan.objects.select_related("product", "current_version").get(key="pro")
    for place in range(number):
        who = create_customer(
            customer_id=f"owes-{place}", name=f"Owes {place}", email="", actor=world.BENCH, now=now - timedelta(days=1)
        )
        enable_plan(who, propose(who, pro), reason="", actor=world.BENCH, now=now)


def calls(double: StandIn) -> int:
    requests = double.ask("requests")
    assert isinstance(requests, list)
    return len(requests)


def asking(number: int) -> float:
    """Seconds for so many calls through the gateway that only read the account."""
    from payments.gateway import gateway

    began = time.perf_counter()
    for _ in range(number):
        gateway().account()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
