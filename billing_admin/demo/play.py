"""A year of the demo company, played through the same verbs as the product, with a `now` that moves.

Nothing here writes a balance, an invoice or a subscription: people enable plans, applications report use, the worker
settles what is due, customers pay. All chance comes from seeded generators, one for each company, so the same end
gives the same year.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from random import Random

from django.contrib.auth.models import User
from django.db import connection
from django.utils.text import slugify

from billing_admin import runs
from billing_admin.demo import catalog, desk, people
from billing_admin.demo.roster import ACME, COMPANIES, Act, Company, Renewing, When
from billing_admin.flows.cancel import cancel
from billing_admin.flows.customers import create_customer
from billing_admin.flows.details import add_note
from billing_admin.flows.enable_plan import enable_plan, propose
from billing_admin.flows.gate import collect
from billing_admin.flows.grants import Wanted, give_units
from billing_admin.flows.rewards import apply_coupon
from billing_admin.flows.use import track_use
from catalog.models import Feature, Plan
from catalog.periods import Cadence, boundary, period_containing
from catalog.terms import ItemTerms, PlanTerms
from customers.journal import Actor
from customers.models import Customer, Subscription
from entitlements.balances import Mode
from entitlements.edit import edit_balance
from entitlements.models import Balance
from entitlements.override import override
from entitlements.partitions import make_months
from entitlements.track import LimitReached, track
from invoicing.account import change_settings
from invoicing.issue import void
from invoicing.models import Invoice
from invoicing.wallet import InsufficientFunds, correct, top_up

YEAR = timedelta(days=365)
DAY = timedelta(days=1)
MONTH = Cadence.parse("P1M")
SEED = 20_260

# The last weeks are told day by day, for the charts; before, use arrives in larger sums.
RECENT, COARSE, FINE = 32, 21, 7

# What the tour finds: Acme has 22 of its 100 credits left, and calls beyond what is included.
ACME_USES = {"credits": 78, "api-calls": 12_480}
# Who sends the invoices.
LETTERHEAD = {
    "company_name": "Juniper Cloud Ltd",
    "company_address": "12 Harbour Street\nDublin 2\nIreland",
    "company_tax_number": "IE 1234567 T",
    "invoice_footer": "Thank you for your business.",
    "payment_instructions": "IBAN IE00 DEMO 0000 0000 0000 00, Juniper Cloud Ltd",
}
# What a wallet pays event by event.
PAID_AT_ONCE = {"speech-minutes"}


def play(
    until: datetime, progress: Callable[[float], None] = lambda share: None, companies: Sequence[Company] = COMPANIES
) -> None:
    """Fill an empty database with the year that ends at the instant."""
    make_months(since=until - YEAR, until=until)
    World(until, companies).play(progress)


class World:
    def __init__(self, until: datetime, companies: Sequence[Company]) -> None:
        self.until = until
        self.start = until - YEAR
        self.agenda: list[tuple[datetime, int, Callable[[datetime], object]]] = []
        self.turn = count()
        self.cast = companies
        self.companies: dict[int, Company] = {}
        self.chance = {company.name: Random(f"{SEED} {company.name}") for company in companies}
        self.seen_invoice = 0

    def at(self, when: datetime, act: Callable[[datetime], object]) -> None:
        """Put an act on the agenda; what would come after the end never happens."""
        if when <= self.until:
            heapq.heappush(self.agenda, (when.replace(microsecond=0), next(self.turn), act))

    def play(self, progress: Callable[[float], None]) -> None:
        people.build()
        self.staff = {user.username: Actor.of(user) for user in User.objects.filter(username__in=people.PEOPLE)}
        catalog.build(self.start)
        change_settings(actor=self.staff["finance"], now=self.start, **LETTERHEAD)
        self.at(self.until - 262 * DAY, catalog.reprice_pro)
        for company in self.cast:
            self.at(self.until - timedelta(days=company.joined), self.joining(company))
        for day in range(366):
            self.at(self.start + day * DAY, self.look_at_the_day)
        while self.agenda:
            now, _, act = heapq.heappop(self.agenda)
            act(now)
            progress((now - self.start) / YEAR)
        self.settle(self.until)
        desk.build(self.staff, self.until)

    # The worker ------------------------------------------------------------------------------------------------------

    def look_at_the_day(self, now: datetime) -> None:
        """A worker looks twice a minute; here it looks where it will find something."""
        if (now - self.start) // DAY % 30 == 0:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        tomorrow = now + DAY
        renewals = Subscription.objects.due(tomorrow).values_list("bills_at", flat=True)
        resets = Balance.objects.due(tomorrow).filter(ends_at__gt=now).values_list("ends_at", flat=True)
        for due in sorted({*renewals, *resets}):
            self.at(max(due, now) + timedelta(seconds=17), self.settle)

    def settle(self, now: datetime) -> None:
        runs.renewals(now=now).finish(now + timedelta(seconds=1))
        runs.resets(now=now).finish(now + timedelta(seconds=2))
        self.expect_payments(now)

    # Customers -------------------------------------------------------------------------------------------------------

    def joining(self, company: Company) -> Callable[[datetime], None]:
        def join(now: datetime) -> None:
            slug = slugify(company.name).replace("-", "_")
            customer = create_customer(
                customer_id=slug,
                name=company.name,
                email=f"billing@{slug.split('_')[0]}.example",
                actor=self.staff["ops"],
                now=now,
            )
            self.companies[customer.pk] = company
            for act in company.acts:
                self.at(max(self.instant(act.when, company), now), self.acting(customer, act))
            for when, feature, amount in self.use_of(company, now):
                self.at(when, self.using(customer, feature, amount))

        return join

    def instant(self, when: When, company: Company) -> datetime:
        if isinstance(when, Renewing):
            return self.begun_to_renew(when)
        # Some minute of the working day: not everything happens at the same time of day.
        minutes = timedelta(minutes=self.chance[company.name].randint(-300, 300))
        return min(self.until - timedelta(days=when.days) + minutes, self.until - timedelta(hours=2))

    def begun_to_renew(self, when: Renewing) -> datetime:
        """The start of a contract that has a boundary at the wanted instant, whatever the lengths of the months."""
        renews_at = self.until + timedelta(days=when.in_days)
        starts = (boundary(renews_at, MONTH, -months) for months in range(when.months, when.months + 12))
        return next(start for start in starts if start.day == renews_at.day)

    def acting(self, customer: Customer, act: Act) -> Callable[[datetime], None]:
        def perform(now: datetime) -> None:
            getattr(self, act.verb)(Customer.objects.get(pk=customer.pk), now, **act.what)
            self.expect_payments(now)

        return perform

    # What staff do ---------------------------------------------------------------------------------------------------

    def enable(self, customer: Customer, now: datetime, *, plan: str, reason: str, by: str, changes: dict) -> None:
        chosen = Plan.objects.select_related("product", "current_version").get(key=plan)
        held = customer.subscriptions.live().filter(product=chosen.product, add_on=chosen.add_on).first()
        version = None
        if changes and held and (phase := held.phase_at(now)) and phase.version.plan_id == chosen.pk:
            version = phase.version  # a deal starts from what they have
        assert chosen.current_version is not None
        terms = (version or chosen.current_version).terms()
        proposal = propose(customer, chosen, items=tailored(terms, changes) if changes else None, version=version)
        enable_plan(customer, proposal, reason=reason, actor=self.staff[by], now=now)

    def assign(self, customer: Customer, now: datetime, *, plan: str, ends_in: float | None, reason: str) -> None:
        chosen = Plan.objects.select_related("product", "current_version").get(key=plan)
        ends_at = self.until + timedelta(days=ends_in) if ends_in else None
        proposal = propose(customer, chosen, ends_at=ends_at)
        enable_plan(customer, proposal, reason=reason, actor=self.staff["ops"], now=now)

    def edit(self, customer: Customer, now: datetime, *, feature: str, to: int, reason: str) -> None:
        edit_balance(customer, feature=feature, to=Decimal(to), reason=reason, actor=self.staff["ops"], now=now)

    def cancel(self, customer: Customer, now: datetime, *, plan: str, reason: str, at_once: bool) -> None:
        held = customer.subscriptions.live().get(phases__version__plan__key=plan, phases__ends_at=None)
        cancel(held, at_once=at_once, reason=reason, actor=self.staff["ops"], now=now)

    def void(self, customer: Customer, now: datetime, *, reason: str) -> None:
        void(customer.invoices.unpaid().newest()[0], reason=reason, actor=self.staff["finance"], now=now)

    def coupon(self, customer: Customer, now: datetime, *, code: str, reason: str) -> None:
        apply_coupon(customer, code, reason=reason, actor=self.staff["ops"], now=now)

    def override(
        self,
        customer: Customer,
        now: datetime,
        *,
        feature: str,
        value: Decimal | str | bool,
        reason: str,
        lasts: int | None,
    ) -> None:
        until = now + timedelta(days=lasts) if lasts else None
        of, actor = Feature.objects.get(slug=feature), self.staff["sales"]
        override(customer, of, value, effective_until=until, reason=reason, actor=actor, now=now)

    def give(
        self,
        customer: Customer,
        now: datetime,
        *,
        feature: str,
        units: int,
        label: str,
        reason: str,
        lasts: int | None,
    ) -> None:
        until = now + timedelta(days=lasts) if lasts else None
        wanted = Wanted(feature=Feature.objects.get(slug=feature), units=Decimal(units), label=label, ends_at=until)
        give_units(customer, wanted, reason=reason, actor=self.staff["ops"], now=now)

    def note(self, customer: Customer, now: datetime, *, text: str, by: str) -> None:
        add_note(customer, text=text, actor=self.staff[by], now=now)

    def top_up(self, customer: Customer, now: datetime, *, amount: str) -> None:
        reference = f"Bank transfer {now:%y%m%d}-{customer.customer_id[:4]}"
        top_up(customer, Decimal(amount), "USD", reference=reference, actor=self.staff["finance"], now=now)

    def correct(self, customer: Customer, now: datetime, *, amount: str, reason: str) -> None:
        correct(customer, Decimal(amount), reason=reason, actor=self.staff["finance"], now=now)

    # What customers do -----------------------------------------------------------------------------------------------

    def use_of(self, company: Company, joined: datetime) -> Iterator[tuple[datetime, str, int]]:
        chance = self.chance[company.name]
        exactly_from = self.until + DAY
        if company is ACME:
            [pro] = [act.when for act in company.acts if act.what.get("plan") == "pro"]
            exactly_from = period_containing(self.instant(pro, company), MONTH, self.until).starts_at
            yield from self.acme_uses(exactly_from, chance)
        for place, (feature, level) in enumerate(company.uses.items()):
            if feature == "seats":
                yield from self.seats_of(joined, level, chance)
                continue
            every = 1 if company.busy and place == 0 else FINE
            pending, days, offset = 0.0, (self.until - joined) // DAY, chance.randrange(every)
            for day in range(1, days + 1):
                when = joined + day * DAY + timedelta(minutes=chance.randint(0, 600))
                share = company.grows_from + (1 - company.grows_from) * day / max(days, 1)
                weekend = 0.35 if when.weekday() >= 5 else 1.25
                pending += level / 30 * share * weekend * chance.uniform(0.6, 1.4)
                spacing = every if days - day < RECENT else COARSE
                if (days - day) % spacing == offset and pending >= 1:
                    if when < exactly_from or feature not in ACME_USES:
                        yield when, feature, int(pending)
                    pending -= int(pending)

    def acme_uses(self, since: datetime, chance: Random) -> Iterator[tuple[datetime, str, int]]:
        """Exact sums in the present period, spread over its days."""
        days = max(1, (self.until - since) // DAY)
        for feature, amount in ACME_USES.items():
            weights = [chance.uniform(0.5, 1.5) for _ in range(days)]
            marks = [round(amount * sum(weights[: n + 1]) / sum(weights)) for n in range(days)]
            for day, (before, after) in enumerate(zip([0, *marks], marks, strict=False)):
                if after > before:
                    when = since + day * DAY + timedelta(minutes=chance.randint(5, 60))
                    yield min(when, self.until), feature, after - before

    def seats_of(self, joined: datetime, level: int, chance: Random) -> Iterator[tuple[datetime, str, int]]:
        days = (self.until - joined) / DAY
        for place in range(level):
            yield joined + timedelta(days=days * place / level, minutes=chance.randint(30, 600)), "seats", 1

    def using(self, customer: Customer, feature: str, amount: int) -> Callable[[datetime], None]:
        report = track_use if feature in PAID_AT_ONCE else track

        def use(now: datetime) -> None:
            # They ran out: it happens, and it is what they come back for.
            with suppress(LimitReached, InsufficientFunds):
                report(customer, feature=feature, amount=Decimal(amount), now=now, mode=Mode.CAP)

        return use

    def expect_payments(self, now: datetime) -> None:
        """Customers pay what was issued since the last look, each in their own way."""
        issued = Invoice.objects.unpaid().filter(pk__gt=self.seen_invoice)
        for invoice in issued.order_by("pk"):
            self.seen_invoice = invoice.pk
            company = self.companies[invoice.customer_id]
            chance = self.chance[company.name]
            is_last = self.until - now < 31 * DAY
            if company.pays == "stops" and self.until - now < 60 * DAY:
                continue
            days = chance.uniform(16, 29) if company.pays == "late" else chance.uniform(0.2, 6)
            share = Decimal("0.5") if company.pays == "half" and is_last else Decimal(1)
            self.at(now + timedelta(days=days), self.paying(invoice, share, chance.randint(100_000, 999_999)))

    def paying(self, invoice: Invoice, share: Decimal, number: int) -> Callable[[datetime], None]:
        def pay(now: datetime) -> None:
            present = Invoice.objects.get(pk=invoice.pk)
            if present.due > 0:
                collect(
                    present,
                    amount=int(present.due * share),
                    reference=f"Bank transfer {number}",
                    actor=self.staff["finance"],
                    now=now,
                )

        return pay


def tailored(terms: PlanTerms, changes: dict[str, dict]) -> list[ItemTerms]:
    unknown = changes.keys() - {item.key for item in terms.items}
    assert not unknown, unknown
    return [replace(item, id=None, **changes.get(item.key, {})) for item in terms.items]
