"""What the clockwork calls: each task reads the clock and makes one pass. Safe to run twice, at once, and to kill."""

from celery import shared_task
from celery.signals import worker_ready
from django.conf import settings
from django.utils import timezone

import billing_admin.celery  # noqa: F401  whoever hands a task over from elsewhere needs to know the queue
from billing_admin import list_runs, migration_runs, runs, stripe_runs
from billing_admin.flows import batches, exports, stripe_collect, stripe_compare, stripe_credits, stripe_import
from billing_admin.flows.override_batch import carry_out
from billing_admin.models import Batch, Export
from entitlements.models import OverrideBatch
from payments.gateway import enabled

# So many pages of an import a task takes, before the next one goes on.
PAGES = 50


@shared_task
def reset_due() -> None:
    runs.resets(now=timezone.now()).finish(timezone.now())


@shared_task
def renew_due() -> None:
    """Renewals, scheduled changes and planned ends alike: whatever is due on a contract.

    Use that was accepted before belongs to what is billed, so it is counted first.
    """
    runs.accepted(now=timezone.now()).finish(timezone.now())
    runs.renewals(now=timezone.now()).finish(timezone.now())


@shared_task
def erase_due() -> None:
    runs.erasures(now=timezone.now()).finish(timezone.now())


@shared_task
def issue_due() -> None:
    """Drafts whose grace for late use is over."""
    runs.work(runs.DRAFTS, now=timezone.now()).finish(timezone.now())


@shared_task
def expire_due() -> None:
    """First invoices that nobody paid within their window."""
    runs.work(runs.EXPIRIES, now=timezone.now()).finish(timezone.now())


@shared_task
def dun_due() -> None:
    """Invoices past their due date: reminders, and the end after the last of them."""
    runs.work(runs.DUNNING, now=timezone.now()).finish(timezone.now())


@shared_task
def make_months() -> None:
    """The tables of the months ahead."""
    runs.make_months(now=timezone.now()).finish(timezone.now())


# A month may take an hour to write. Its tick may be lost: the next one finds the same month.
@shared_task(acks_late=False, time_limit=6 * 3600)
def archive_due() -> None:
    """Months of events that are old enough to leave the database."""
    keep, folder = settings.USAGE_KEEP_MONTHS, settings.USAGE_ARCHIVE
    runs.archive(now=timezone.now(), keep=keep, folder=folder).finish(timezone.now())


@shared_task
def count_accepted() -> None:
    """Use that was accepted to be counted soon."""
    runs.accepted(now=timezone.now()).finish(timezone.now())


@shared_task
def carry_out_batch(batch_id: str) -> None:
    """One batch of overrides by its public id, at once; should this be lost, the next pass finds what is left."""
    if batch := OverrideBatch.objects.filter(public_id=batch_id).first():
        carry_out(batch, timezone.now())


@shared_task
def carry_out_batches() -> None:
    """Batches of overrides that nobody has carried out to their end."""
    runs.override_batches(now=timezone.now()).finish(timezone.now())


# A long list may take an hour. Its tick may be lost: the next one finds the same export, once nobody is heard at it.
@shared_task(acks_late=False, time_limit=6 * 3600)
def write_export(export_id: str) -> None:
    """One export by its public id, at once."""
    if export := Export.objects.filter(public_id=export_id).select_related("user").first():
        exports.write(export, clock=timezone.now)


@shared_task(acks_late=False, time_limit=6 * 3600)
def write_exports() -> None:
    """Exports that nobody is at, and those that are over."""
    list_runs.write_exports(clock=timezone.now).finish(timezone.now())


@shared_task
def carry_out_rows_of(batch_id: str) -> None:
    """One import or bulk act by its public id, for a while; what is left goes into the next task."""
    batch = Batch.objects.filter(public_id=batch_id).first()
    if batch is None:
        return
    batches.go_on(batch, clock=timezone.now, until=timezone.now() + list_runs.PATIENCE)
    if batch.state in batches.UNDER_WAY:
        carry_out_rows_of.delay(batch_id)


@shared_task
def carry_out_rows() -> None:
    """Imports and bulk acts that nobody has carried out to their end."""
    list_runs.carry_out_rows(clock=timezone.now).finish(timezone.now())


@shared_task
def carry_out_migration(migration_id: str) -> None:
    """One migration by its public id, at once; should this be lost, the next pass finds what is left."""
    migration_runs.migrations(now=timezone.now(), only=migration_id).finish(timezone.now())


@shared_task
def carry_out_migrations() -> None:
    """Customers that wait to be moved to another version, or to be moved back."""
    migration_runs.migrations(now=timezone.now()).finish(timezone.now())


@shared_task
def tell_override_ends() -> None:
    """Overrides that end soon, to whoever may give them."""
    runs.override_ends(now=timezone.now()).finish(timezone.now())


@shared_task
def expire_approvals() -> None:
    """Requests for approval that nobody decided in time."""
    runs.approvals(now=timezone.now()).finish(timezone.now())


@shared_task
def collect_invoice(invoice_id: str) -> None:
    """One document by its public id, with Stripe; should this be lost, the next pass finds it."""
    stripe_collect.collect_document(invoice_id, timezone.now())
    stripe_credits.credit_document(invoice_id, timezone.now())


@shared_task
def process_stripe_events() -> None:
    """What Stripe told, by webhooks or when it was asked."""
    if enabled():
        stripe_runs.events(now=timezone.now()).finish(timezone.now())


@shared_task
def collect_with_stripe() -> None:
    """Invoices that are to be collected, or whose next step is due."""
    _with_stripe(stripe_runs.COLLECT)


@shared_task
def sync_stripe_customers() -> None:
    """Names, e-mails and ids that Stripe does not have yet."""
    _with_stripe(stripe_runs.CUSTOMERS)


@shared_task
def fetch_stripe_events() -> None:
    """Events that never came, once an hour; they are processed at once."""
    _with_stripe(stripe_runs.FETCH)
    process_stripe_events()


@shared_task
def go_on_importing() -> None:
    """An import from Stripe that was begun, or interrupted: page after page, for a while."""
    pages = 0
    while enabled() and pages < PAGES and stripe_import.step(timezone.now()):
        pages += 1
    if pages == PAGES:
        go_on_importing.delay()


@shared_task
def compare_with_stripe() -> None:
    """Begin the comparison of the day, or go on with one: so many pages, then the next task."""
    run = stripe_compare.compare_due(timezone.now())
    if run is not None and run.finished_at is None and not run.problem and run.claimed_until is None:
        compare_with_stripe.delay()


@shared_task
def mirror_due() -> None:
    """Stripe's subscriptions that nothing follows yet, or whose plan has a newer version here."""
    _with_stripe(stripe_runs.FOLLOW)


def _with_stripe(task: str) -> None:
    if enabled():
        stripe_runs.work(task, now=timezone.now()).finish(timezone.now())


@shared_task
def heartbeat() -> None:
    runs.heard(runs.CLOCKWORK_HEARD, timezone.now())


@worker_ready.connect
def say_hello(**_: object) -> None:
    """A worker that has just started is heard at once, not only with the first tick; so are the months made."""
    runs.heard(runs.CLOCKWORK_HEARD, timezone.now())
    make_months()
