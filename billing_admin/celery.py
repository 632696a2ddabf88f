"""The workers and the whole clockwork: what runs by itself, and how often."""

import os
from urllib.parse import parse_qs, urlsplit

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "billing_admin.settings")

from django.conf import settings

# Every task below asks the database what is due and does it, safe to run twice. So a tick may be lost, late or
# doubled; a shorter interval makes things happen sooner, never differently.
EVERY = settings.CLOCKWORK_SECONDS

CLOCKWORK = {
    "reset balances whose window has ended": ("billing_admin.tasks.reset_due", EVERY),
    # Scheduled changes and planned ends come due like renewals: all three are a contract's next boundary.
    "settle contracts whose boundary has come": ("billing_admin.tasks.renew_due", EVERY),
    "issue drafts whose grace is over": ("billing_admin.tasks.issue_due", EVERY),
    "give up first invoices that were not paid in time": ("billing_admin.tasks.expire_due", EVERY),
    "ask for what is overdue": ("billing_admin.tasks.dun_due", EVERY * 2),
    "count use that callers did not wait for": ("billing_admin.tasks.count_accepted", min(EVERY, 5)),
    "go on with overrides of many customers": ("billing_admin.tasks.carry_out_batches", EVERY),
    "go on with imports and bulk acts": ("billing_admin.tasks.carry_out_rows", EVERY),
    "write exports, and remove those that are over": ("billing_admin.tasks.write_exports", EVERY),
    "move customers to another version": ("billing_admin.tasks.carry_out_migrations", min(EVERY, 5)),
    "erase customers whose grace has passed": ("billing_admin.tasks.erase_due", EVERY * 2),
    # Ticks are counted from the start of beat, which a release starts anew: a day would hardly ever pass.
    "make the tables of coming months": ("billing_admin.tasks.make_months", max(EVERY, 3600)),
    "archive months of events": ("billing_admin.tasks.archive_due", max(EVERY, 3600)),
    # Once a day there is something to say; which day it is, the database knows.
    "tell which overrides end soon": ("billing_admin.tasks.tell_override_ends", max(EVERY, 3600)),
    "close requests for approval that ran out": ("billing_admin.tasks.expire_approvals", EVERY * 2),
    # Without keys of Stripe these come to nothing.
    "process what Stripe told": ("billing_admin.tasks.process_stripe_events", EVERY),
    "collect invoices with Stripe": ("billing_admin.tasks.collect_with_stripe", EVERY),
    "tell Stripe who its customers are": ("billing_admin.tasks.sync_stripe_customers", EVERY * 2),
    # Once an hour, and as soon as Stripe answers again; the database knows which.
    "fetch events of Stripe that never came": ("billing_admin.tasks.fetch_stripe_events", EVERY * 2),
    "go on with an import from Stripe": ("billing_admin.tasks.go_on_importing", EVERY),
    "follow Stripe's subscriptions": ("billing_admin.tasks.mirror_due", EVERY * 2),
    # Once a day it begins; what was interrupted goes on.
    "compare the books with Stripe's": ("billing_admin.tasks.compare_with_stripe", EVERY * 2),
    "say that the clockwork is alive": ("billing_admin.tasks.heartbeat", min(EVERY, 30)),
}


def celery_url(url: str) -> str:
    """Celery's spelling of a Redis URL: `unix:///path?db=1` is `redis+socket:///path?virtual_host=1` to it."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    [database] = parse_qs(parts.query).get("db", ["0"])
    return f"redis+socket://{parts.path}?virtual_host={database}"


app = Celery("billing_admin")
# The app of every thread: a web process hands tasks over from any of its own.
app.set_default()
app.conf.update(
    broker_url=celery_url(settings.REDIS_URL),
    result_backend=celery_url(settings.REDIS_URL),
    broker_connection_retry_on_startup=True,
    # A task is done when its rows are written: a killed worker's task goes to the next one, so it is acknowledged
    # late, and handed out again when nobody has acknowledged it within ten minutes.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={
        "visibility_timeout": 600,
        # Whoever hands a task over does not wait for a queue that is away: the next tick finds the work all the same.
        # A worker waits for it by its own rules.
        "socket_connect_timeout": 2,
        "max_retries": 0,
        "interval_start": 0,
        "interval_step": 0,
        "interval_max": 0,
    },
    task_time_limit=540,
    # What a task did is in the database; results are kept only by tasks that ask for it.
    task_ignore_result=True,
    result_expires=3600,
    timezone="UTC",
    enable_utc=True,
    worker_hijack_root_logger=False,
    beat_schedule_filename=str(settings.VAR / "celerybeat-schedule"),
    beat_schedule={
        sentence: {
            "task": task,
            "schedule": seconds,
            # Without a worker the ticks would pile up: a tick is worth nothing once the next one is due.
            "options": {"expires": seconds},
        }
        for sentence, (task, seconds) in CLOCKWORK.items()
    },
)
app.autodiscover_tasks()


@setup_logging.connect
def keep_our_logging(**_: object) -> None:
    """Django's settings have set up logging already; a receiver here keeps Celery from doing it again."""
