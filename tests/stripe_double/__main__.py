"""python -m tests.stripe_double --port 12111 --state var/stripe.json --webhook http://127.0.0.1:8000/stripe/webhook/"""

import argparse
import contextlib
import signal
import threading
from pathlib import Path

from tests.stripe_double.control import Double


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stripe_double", description="A double of Stripe for a machine of one's own.")
    parser.add_argument("--port", type=int, default=12111)
    parser.add_argument("--state", type=Path, help="keep everything in this JSON file over restarts")
    parser.add_argument("--webhook", help="deliver events to this URL")
    parser.add_argument("--webhook-secret", default="whsec_double", help="what their signatures are made with")
    parser.add_argument("--key", default="sk_test_double", help="the secret key it answers to")
    return parser.parse_args()


def main() -> None:
    given = options()
    double = Double(given.port, given.key, given.webhook_secret, given.state)
    double.webhooks_to(given.webhook)
    double.start()
    print(f"Stripe's double listens at {double.url} for {double.key}", flush=True)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with contextlib.suppress(KeyboardInterrupt):
        stopped.wait()
    double.stop()


if __name__ == "__main__":
    main()
