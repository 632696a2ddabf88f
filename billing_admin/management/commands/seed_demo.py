"""Fill an empty database with a year of demo data, made by the engine itself."""

import sys
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from billing_admin.demo import people, stripe
from billing_admin.demo.play import play
from customers.models import Customer
from payments.gateway import livemode

BAR = 30


class Command(BaseCommand):
    help = "Plays a year of a demo company through the product's own verbs, up to an instant; it takes under a minute."

    shown = -1

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--until", help="where the year ends, as 2026-11-16T09:00 UTC; default: the present hour")
        parser.add_argument("--if-empty", action="store_true", help="do nothing when there are customers already")
        parser.add_argument(
            "--stripe", action="store_true", help="give the demo that is there a share in Stripe, played by a double"
        )
        parser.add_argument("--print-logins", action="store_true", help="only say who may sign in, and how")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["print_logins"]:
            self.stdout.write(people.logins())
            return
        if settings.PRODUCTION:
            raise CommandError("The demo has known passwords, so it does not go into a production database.")
        if options["stripe"]:
            self.play_stripe()
            return
        if Customer.objects.exists():
            if options["if_empty"]:
                return
            raise CommandError("There are customers already; the demo goes into an empty database only.")
        # All or nothing: a killed command leaves an empty database, not half a year.
        with transaction.atomic():
            play(until_instant(options["until"]), self.show)
        self.say("\n" if self.on_terminal else "")
        self.say(f"{Customer.objects.count()} customers have lived through a year.\n")

    def play_stripe(self) -> None:
        """Twice does nothing; nor does it where there is no demo, only a database of somebody's own."""
        if not settings.STRIPE_API_URL or livemode():
            raise CommandError("The demo's customers pay with cards that only a double of Stripe takes.")
        if not Customer.objects.filter(customer_id=stripe.KNOWN_BY).exists() or stripe.is_played():
            return
        stripe.play(timezone.now)
        self.say("Some of them pay through Stripe now.\n")

    @property
    def on_terminal(self) -> bool:
        return sys.stdout.isatty()

    def show(self, share: float) -> None:
        full, percent = round(share * BAR), round(share * 100)
        if self.on_terminal and percent != self.shown:
            self.shown = percent
            self.say(f"\r  {'█' * full}{'░' * (BAR - full)} {percent:3} %")

    def say(self, text: str) -> None:
        self.stdout.write(text, ending="")
        self.stdout.flush()


def until_instant(text: str | None) -> datetime:
    if not text:
        return timezone.now().replace(minute=0, second=0, microsecond=0)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"--until takes an instant such as 2026-11-16T09:00, not {text!r}.") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
