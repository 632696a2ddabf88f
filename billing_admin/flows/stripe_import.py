"""The first import: everything that is mirrored, page by page. It goes on where it stopped, whoever stopped it.

A page is fetched, then written with the place it ended at in one transaction; so a page is there with its place, or
not at all. Links and contracts come last, when all rows are there, so they do not depend on Stripe's order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from billing_admin.flows.stripe_account import connect, failing, reached
from billing_admin.flows.stripe_catalog import fetch_product, write_price, write_product
from billing_admin.flows.stripe_follow import follow
from billing_admin.flows.stripe_links import link_by_key
from billing_admin.flows.stripe_mirror import fetch_unknown, write_customers, write_subscription
from catalog.after import after_commit
from customers.journal import Actor, record
from customers.models import Customer
from payments.gateway import Page, StripeTrouble, Unreachable, gateway
from payments.models import StripeAccount, StripeCustomer, StripePrice, StripeProduct, StripeRun, StripeSubscription

log = structlog.get_logger("billing_admin.stripe")

# A worker that says nothing for so long has died.
CLAIM = timedelta(minutes=2)
PAUSE = timedelta(seconds=30)
BATCH = 50


class ImportRunning(ValidationError):
    def __init__(self) -> None:
        super().__init__("An import is under way already.", code="import_running")


@dataclass(frozen=True, slots=True)
class Stage:
    """`take` carries out one page from a place on and says where it ended (empty: that was all) and how many it was."""

    name: str
    title: str
    take: Callable[[StripeRun, str, datetime], "Taken"]


@dataclass(frozen=True, slots=True)
class Taken:
    last: str
    count: int
    write: Callable[[], Any]


def begin(*, actor: Actor, now: datetime) -> StripeRun:
    """Start an import; a worker takes it up. Raises `ImportRunning`, `StripeTrouble`."""
    connect(now)
    try:
        with transaction.atomic():
            run = StripeRun.objects.create(
                kind=StripeRun.Kind.IMPORT,
                started_at=now,
                started_by=actor.name,
                cursor={"stage": STAGES[0].name, "after": ""},
            )
            record(None, "stripe.import_begun", "An import from Stripe began", actor=actor, now=now)
            hand_over()
    except IntegrityError:
        raise ImportRunning from None
    return run


def hand_over() -> None:
    """Let a worker take it up, once it is written. Should the queue be away, the next pass finds it."""
    from billing_admin.tasks import go_on_importing  # Celery takes memory that web processes need only here

    after_commit(go_on_importing.apply_async, retry=False)


def latest() -> StripeRun | None:
    found: StripeRun | None = StripeRun.objects.filter(kind=StripeRun.Kind.IMPORT).first()
    return found


def step(now: datetime) -> bool:
    """One page of the import that is open. False when there is none, when another worker has it, or Stripe is away."""
    run = _claim(now)
    if run is None:
        return False
    try:
        _take_page(run, now)
    except Unreachable as error:
        failing(error, now)
        _pause(run, error.sentence, now)
        return False
    except StripeTrouble as error:
        _pause(run, error.sentence, now)
        return False
    except Exception as error:
        _pause(run, f"{type(error).__name__}: {error}", now)
        raise
    return True


@transaction.atomic
def _claim(now: datetime) -> StripeRun | None:
    open_runs = StripeRun.objects.filter(kind=StripeRun.Kind.IMPORT, finished_at=None)
    run: StripeRun | None = open_runs.select_for_update(skip_locked=True).first()
    if run is None or (run.claimed_until is not None and run.claimed_until > now):
        return None
    run.claimed_until = now + CLAIM
    run.save(update_fields=["claimed_until"])
    return run


def _pause(run: StripeRun, problem: str, now: datetime) -> None:
    StripeRun.objects.filter(pk=run.pk).update(problem=problem[:300], claimed_until=now + PAUSE)


def _take_page(run: StripeRun, now: datetime) -> None:
    place = dict(run.cursor)
    stage = next(stage for stage in STAGES if stage.name == place["stage"])
    taken = stage.take(run, place["after"], now)
    with transaction.atomic():
        run = StripeRun.objects.select_for_update().get(pk=run.pk)
        if run.cursor != place:  # our claim ran out, and somebody else has written this page
            return
        taken.write()
        run.counts = run.counts | {stage.name: run.counts.get(stage.name, 0) + taken.count}
        run.cursor = _next_place(stage, taken.last)
        run.claimed_until, run.problem = None, ""
        if not run.cursor:
            _finish(run, now)
        run.save()


def _next_place(stage: Stage, last: str) -> dict[str, str]:
    if last:
        return {"stage": stage.name, "after": last}
    following = STAGES[STAGES.index(stage) + 1 :]
    return {"stage": following[0].name, "after": ""} if following else {}


def _finish(run: StripeRun, now: datetime) -> None:
    run.finished_at = now
    StripeAccount.objects.filter(mirrored_at=None).update(mirrored_at=now)
    actor = Actor(run.started_by)
    record(None, "stripe.imported", "The import from Stripe is complete", actor=actor, now=now, effects=run.counts)


# Stages ---------------------------------------------------------------------------------------------------------------


def _unseen(rows: Sequence[Any], known: QuerySet, run: StripeRun) -> list[Any]:
    """What nobody has looked at since the import began: an event's look is newer than a page that was listed before."""
    seen = known.filter(stripe_id__in=[row.id for row in rows], seen_at__gt=run.started_at)
    ids = set(seen.values_list("stripe_id", flat=True))
    return [row for row in rows if row.id not in ids]


def _listed(page: Page, write: Callable[[list[Any]], Any], known: QuerySet, run: StripeRun, now: datetime) -> Taken:
    reached(now)
    return Taken(page.last, len(page.rows), lambda: write(_unseen(page.rows, known, run)))


def _products(run: StripeRun, after: str, now: datetime) -> Taken:
    def write(rows: list[Any]) -> None:
        for facts in rows:
            write_product(facts, now)

    return _listed(gateway().products(after=after), write, StripeProduct.objects.all(), run, now)


def _prices(run: StripeRun, after: str, now: datetime) -> Taken:
    page = gateway().prices(after=after)
    ids = {facts.product for facts in page.rows}
    missing = ids - set(StripeProduct.objects.filter(stripe_id__in=ids).values_list("stripe_id", flat=True))
    for stripe_id in sorted(missing):
        write_product(fetch_product(stripe_id), now)

    def write(rows: list[Any]) -> None:
        products = StripeProduct.objects.in_bulk(ids, field_name="stripe_id")
        for facts in reversed(rows):  # the oldest first: what is new takes after what was there
            if facts.product in products:
                write_price(facts, products[facts.product], now)

    return _listed(page, write, StripePrice.objects.all(), run, now)


def _customers(run: StripeRun, after: str, now: datetime) -> Taken:
    write = partial(write_customers, now=now)
    return _listed(gateway().customers(after=after), write, StripeCustomer.objects.all(), run, now)


def _subscriptions(run: StripeRun, after: str, now: datetime) -> Taken:
    page = gateway().subscriptions(after=after)
    fetch_unknown(page.rows, now)

    def write(rows: list[Any]) -> None:
        for facts in rows:
            write_subscription(facts, now)

    return _listed(page, write, StripeSubscription.objects.all(), run, now)


def _links(run: StripeRun, after: str, now: datetime) -> Taken:
    rows = StripeCustomer.objects.unlinked().exclude(key="").filter(pk__gt=int(after or 0)).order_by("pk")
    pks = list(rows.values_list("pk", flat=True)[:BATCH])
    return Taken(_last(pks), len(pks), lambda: link_by_key(pks, now))


def _contracts(run: StripeRun, after: str, now: datetime) -> Taken:
    rows = Customer.objects.filter(stripe__subscriptions__isnull=False, pk__gt=int(after or 0)).distinct()
    customers = list(rows.order_by("pk")[:BATCH])
    # One customer a transaction: nobody waits for a whole page of them. Done twice it does nothing. Whoever cannot be
    # followed is left to the clockwork, which tells of it.
    for customer in customers:
        try:
            follow(customer, now)
        except Exception:
            log.exception("a customer could not follow stripe", customer=customer.public_id)
    return Taken(_last([customer.pk for customer in customers]), len(customers), lambda: None)


def _last(pks: Sequence[int]) -> str:
    return str(pks[-1]) if len(pks) == BATCH else ""


STAGES = (
    Stage("products", "Products", _products),
    Stage("prices", "Prices", _prices),
    Stage("customers", "Customers", _customers),
    Stage("subscriptions", "Subscriptions", _subscriptions),
    Stage("links", "Links by key", _links),
    Stage("contracts", "Customers followed", _contracts),
)
