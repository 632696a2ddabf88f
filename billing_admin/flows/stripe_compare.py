"""Compare our books with Stripe's, page by page. Differences are written down; nothing is repaired here.

A page is fetched, compared with our rows, and written in one transaction together with the place where the next one
begins: a comparison that is killed goes on there. What looks different is fetched and read again, twice, before it is
written: money that moves while we compare is no difference.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Count, Q, QuerySet

from billing_admin.flows.stripe_account import connected, failing, reached
from billing_admin.flows.stripe_books import is_moving, read_customers, read_invoices, read_items
from customers.journal import CLOCKWORK, Actor
from invoicing.models import Invoice, Payment
from payments.comparing import (
    OVER,
    Gap,
    compare_customer,
    compare_invoice,
    compare_subscription,
    is_payment_suspect,
    is_suspect,
)
from payments.facts import AttemptFacts, CustomerFacts, InvoiceFacts, SubscriptionFacts
from payments.gateway import PAGE, Missing, NotAllowed, Refused, Unreachable, enabled, gateway
from payments.models import (
    Difference,
    Method,
    StripeAccount,
    StripeCustomer,
    StripeInvoice,
    StripeRun,
    StripeSubscription,
)

log = structlog.get_logger("billing_admin.stripe")

Subject = Difference.Subject
# How far back a comparison looks at what is settled on both sides.
WINDOW = timedelta(days=35)
EVERY = timedelta(days=1)
# A worker that dies lets go of its comparison after so long; one page with its second looks takes far less.
CLAIM = timedelta(minutes=10)
# Pages of one pass, and differences after which it ends: each of them takes several calls. The next pass goes on.
PAGES, MOST_TOLD = 40, 50
# So many are looked at one by one before it is written down how far we came.
SINGLY = 20
IN_STEP, MOVING, DIFFERING = "in_step", "moving", "differing"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at one thing came to."""

    gaps: tuple[Gap, ...] = ()
    is_moving: bool = False


@dataclass
class Page:
    """What one page came to. `last` continues its stage; empty: that was all. `write` keeps what was seen."""

    subject: str
    last: str = ""
    looked: int = 0
    gaps: list[Gap] = field(default_factory=list)
    differing: int = 0
    moving: int = 0
    write: Callable[[], object] | None = None

    def take(self, verdict: Verdict) -> None:
        self.gaps += verdict.gaps
        self.differing += any(gap.subject == self.subject for gap in verdict.gaps)
        self.moving += verdict.is_moving


# A whole comparison ---------------------------------------------------------------------------------------------------


def unfinished() -> StripeRun | None:
    return StripeRun.objects.filter(kind=StripeRun.Kind.COMPARISON, finished_at=None).first()


def latest() -> StripeRun | None:
    """The last one that came to its end."""
    return StripeRun.objects.filter(kind=StripeRun.Kind.COMPARISON, finished_at__isnull=False).first()


def begin(*, actor: Actor, now: datetime) -> StripeRun:
    """A new comparison, or the one that is under way. The clockwork carries it out (`compare_due`)."""
    try:
        with transaction.atomic():
            return StripeRun.objects.create(
                kind=StripeRun.Kind.COMPARISON,
                started_at=now,
                started_by=actor.name,
                cursor={"stage": next(iter(STAGES)), "after": ""},
            )
    except IntegrityError:
        run = unfinished()
        return run if run is not None else begin(actor=actor, now=now)


def compare_due(now: datetime, pages: int = PAGES) -> StripeRun | None:
    """Go on with a comparison, or begin one when the last began a day ago. None: there is nothing to do."""
    if not enabled() or connected(now) is None:
        return None
    run = unfinished()
    if run is None:
        recent = StripeRun.objects.filter(kind=StripeRun.Kind.COMPARISON, started_at__gt=now - EVERY)
        if recent.exists():
            return None
        run = begin(actor=CLOCKWORK, now=now)
    return carry_on(run, now, pages)


def carry_on(run: StripeRun, now: datetime, pages: int = PAGES) -> StripeRun:
    """So many pages more, unless another worker is at it. Where Stripe does not answer, the rest waits."""
    free = Q(claimed_until=None) | Q(claimed_until__lte=now)
    if not StripeRun.objects.filter(free, pk=run.pk, finished_at=None).update(claimed_until=now + CLAIM):
        run.refresh_from_db()
        return run
    run.refresh_from_db()
    try:
        told_now = 0
        for _ in range(pages):
            if run.finished_at is not None or told_now >= MOST_TOLD:
                break
            told_now += turn_page(run, now)
        reached(now)
    except (Unreachable, NotAllowed, Refused) as error:
        failing(error, now)
        run.problem = error.sentence[:300]
        StripeRun.objects.filter(pk=run.pk).update(problem=run.problem)
    finally:
        StripeRun.objects.filter(pk=run.pk).update(claimed_until=None)
    run.claimed_until = None
    return run


def turn_page(run: StripeRun, now: datetime) -> int:
    """Compare one page and write what it came to, and where the next one begins. Returns how many differences."""
    stage, after = run.cursor["stage"], run.cursor["after"]
    try:
        page = STAGES[stage](run, after, now)
    except Missing:
        if not after:
            raise
        # What the last page ended with is gone, so nothing follows it: this stage begins anew.
        run.counts.pop(stage, None)
        run.cursor = {"stage": stage, "after": ""}
        run.save(update_fields=["cursor", "counts"])
        return 0
    with transaction.atomic():
        locked = StripeRun.objects.select_for_update().get(pk=run.pk)
        if locked.cursor != run.cursor or locked.finished_at is not None:
            run.refresh_from_db()
            return 0  # it took so long that another worker has been here
        keep(page.gaps, run, now)
        if page.write:
            page.write()
        _count(run, stage, page)
        run.cursor = {"stage": stage, "after": page.last} if page.last else _after(stage)
        run.problem = ""
        if not run.cursor:
            run.finished_at = now
            run.counts[stage][DIFFERING] = Difference.objects.filter(settled_at=None).count()
        run.save(update_fields=["cursor", "counts", "problem", "finished_at"])
    return len(page.gaps)


def _after(stage: str) -> dict[str, str]:
    names = list(STAGES)
    place = names.index(stage) + 1
    return {"stage": names[place], "after": ""} if place < len(names) else {}


def _count(run: StripeRun, stage: str, page: Page) -> None:
    """By stage, so that one that begins anew is counted once."""
    counts = run.counts.setdefault(stage, {"subject": page.subject, IN_STEP: 0, MOVING: 0})
    counts[IN_STEP] += page.looked - page.differing - page.moving
    counts[MOVING] += page.moving


def counted(run: StripeRun) -> dict[str, dict[str, int]]:
    """How many things of each subject were in step, and how many were on their way."""
    found = {subject: {IN_STEP: 0, MOVING: 0} for subject in Subject.values}
    for counts in run.counts.values():
        for name in (IN_STEP, MOVING) if counts["subject"] else ():
            found[counts["subject"]][name] += counts[name]
    return found


def told(run: StripeRun) -> int:
    """How many differences there were at its end."""
    return sum(counts.get(DIFFERING, 0) for counts in run.counts.values())


def keep(gaps: Collection[Gap], run: StripeRun, now: datetime) -> None:
    """Write differences down; one that is open already stays, as it is now."""
    if not gaps:
        return
    fresh = {gap.key: gap for gap in gaps}
    known = Difference.objects.filter(settled_at=None, subject__in={gap.subject for gap in gaps}).filter(
        Q(stripe_id__in={gap.stripe_id for gap in gaps}), our_id__in={gap.our_id for gap in gaps}
    )
    seen = [row for row in known if key_of(row) in fresh]
    for row in seen:
        gap = fresh.pop(key_of(row))
        row.run, row.ours, row.theirs, row.repair = run, gap.ours[:200], gap.theirs[:200], gap.repair
    Difference.objects.bulk_update(seen, ["run", "ours", "theirs", "repair"])
    Difference.objects.bulk_create(
        [
            Difference(
                run=run,
                subject=gap.subject,
                kind=gap.kind,
                customer_id=gap.customer,
                our_id=gap.our_id,
                stripe_id=gap.stripe_id,
                ours=gap.ours[:200],
                theirs=gap.theirs[:200],
                repair=gap.repair,
                since=now,
            )
            for gap in fresh.values()
        ],
        ignore_conflicts=True,
    )


def key_of(row: Difference) -> tuple[str, str, str, str]:
    return row.subject, row.kind, row.our_id, row.stripe_id


# One thing, on both sides ---------------------------------------------------------------------------------------------


def twice(look: Callable[..., Verdict], *what: Any) -> Verdict:
    """Only what is the same in two looks, one after the other, is a difference: between them nothing moved."""
    first = look(*what)
    if not first.gaps:
        return first
    second = look(*what)
    if second.is_moving:
        return second
    return Verdict(tuple(gap for gap in second.gaps if gap in first.gaps))


def look_at_customer(stripe_id: str, account: StripeAccount) -> Verdict:
    """Raises `StripeTrouble`."""
    try:
        theirs = gateway().customer(stripe_id)
    except Missing:
        theirs = CustomerFacts(stripe_id, deleted=True)
    books = read_customers([theirs], account)
    ours = books.linked.get(stripe_id)
    if ours is not None and not ours.is_told and not theirs.deleted:
        return Verdict(is_moving=True)
    return Verdict(tuple(compare_customer(ours, theirs, books.named(theirs))))


def look_at_invoice(stripe_id: str, now: datetime, reference: str = "") -> Verdict:
    """By Stripe's id, or by our public id where there is nothing in Stripe. Raises `StripeTrouble`."""
    theirs = fetch_invoice(stripe_id)
    intents = [payment.intent for payment in theirs.payments] if theirs else []
    references = {reference, theirs.reference if theirs else ""} - {""}
    books = read_invoices(now, stripe_ids=[stripe_id], references=references, intents=intents)
    ours = books.by_stripe_id.get(stripe_id)
    if ours is None:
        ours = books.by_public_id.get(theirs.reference if theirs else reference)
        if theirs is None and ours is not None and ours.stripe_id not in ("", stripe_id):
            return Verdict()  # it has another one by now
    if ours is not None and ours.public_id in books.moving:
        return Verdict(is_moving=True)
    return Verdict(tuple(compare_invoice(ours, theirs)))


def fetch_invoice(stripe_id: str) -> InvoiceFacts | None:
    try:
        return gateway().invoice(stripe_id) if stripe_id else None
    except Missing:
        return None


def look_at_subscription(stripe_id: str) -> Verdict:
    """Raises `StripeTrouble`."""
    try:
        theirs: SubscriptionFacts | None = gateway().subscription(stripe_id)
    except Missing:
        theirs = None
    return Verdict(tuple(_compare_items(stripe_id, theirs)))


def _compare_items(stripe_id: str, theirs: SubscriptionFacts | None) -> list[Gap]:
    linked = dict(_linked([theirs.customer])) if theirs else {}
    owner = linked.get(theirs.customer) if theirs else None
    return compare_subscription(read_items([stripe_id]).get(stripe_id, []), theirs, customer=owner)


def _linked(stripe_ids: Iterable[str]) -> Iterable[tuple[str, int]]:
    rows = StripeCustomer.objects.linked().filter(stripe_id__in=set(stripe_ids))
    return rows.values_list("stripe_id", "customer_id")


def look_again(row: Difference, now: datetime) -> Verdict:
    """The thing of which a difference was told, as it is now on both sides. Raises `StripeTrouble`."""
    account = StripeAccount.present()
    if row.subject == Subject.CUSTOMER and account is not None:
        return twice(look_at_customer, row.stripe_id, account)
    if row.subject == Subject.SUBSCRIPTION:
        return twice(look_at_subscription, row.stripe_id)
    if row.subject == Subject.INVOICE:
        return twice(look_at_invoice, row.stripe_id, now, row.our_id)
    stripe_id, reference = invoice_of_payment(row)
    return twice(look_at_invoice, stripe_id, now, reference)


def invoice_of_payment(row: Difference) -> tuple[str, str]:
    """Of a difference about a payment: the ids of its invoice, Stripe's (or empty) and ours."""
    payment = Payment.objects.filter(public_id=row.our_id).select_related("invoice__stripe").first()
    invoice = payment.invoice if payment else Invoice.objects.select_related("stripe").get(public_id=row.our_id)
    known = getattr(invoice, "stripe", None)
    return (known.stripe_id or "" if known else ""), invoice.public_id


def check_again(row: Difference, now: datetime, *, by: str, run: StripeRun | None = None) -> Difference:
    """Settle a difference that is gone, keep one that stays as it is now. `by` says who or what settled it."""
    verdict = look_again(row, now)
    if verdict.is_moving:
        return row
    with transaction.atomic():
        keep(verdict.gaps, run or row.run, now)
        row = Difference.objects.select_for_update().get(pk=row.pk)
        if row.settled_at is None and key_of(row) not in {gap.key for gap in verdict.gaps}:
            row.settled_at, row.settled_by = now, by[:150]
            row.save(update_fields=["settled_at", "settled_by"])
    return row


# The stages -----------------------------------------------------------------------------------------------------------


def customers(run: StripeRun, after: str, now: datetime) -> Page:
    found = gateway().customers(after=after)
    account = StripeAccount.objects.get()
    books = read_customers(found.rows, account)
    page = Page(Subject.CUSTOMER, found.last)
    for theirs in found.rows:
        ours, named = books.linked.get(theirs.id), books.named(theirs)
        page.looked += ours is not None or named.means is not None or bool(named.reference)
        if ours is not None and not ours.is_told:
            page.moving += 1
        elif compare_customer(ours, theirs, named):
            page.take(twice(look_at_customer, theirs.id, account))
    shown = StripeCustomer.objects.filter(stripe_id__in=[theirs.id for theirs in found.rows])
    page.write = lambda: shown.update(seen_at=now)
    return page


def customers_here(run: StripeRun, after: str, now: datetime) -> Page:
    """Linked ones that Stripe did not show."""
    account = StripeAccount.objects.get()
    rows = _unseen(StripeCustomer.objects.linked().filter(customer__erased_at=None), run, after)
    return _singly(Subject.CUSTOMER, rows, lambda row: twice(look_at_customer, row.stripe_id, account))


def invoices(run: StripeRun, after: str, now: datetime) -> Page:
    """Those that were made in the window."""
    found = gateway().invoices(after=after, since=run.started_at - WINDOW)
    return _invoices(found.rows, found.last, now)


def invoices_open(run: StripeRun, after: str, now: datetime) -> Page:
    """Older ones that Stripe still asks for."""
    found = gateway().invoices(after=after, status="open")
    since = run.started_at - WINDOW
    older = [theirs for theirs in found.rows if theirs.created_at is not None and theirs.created_at < since]
    return _invoices(older, found.last, now)


def _invoices(rows: Collection[InvoiceFacts], last: str, now: datetime) -> Page:
    ids = [theirs.id for theirs in rows]
    references = {theirs.reference for theirs in rows} - {""}
    books = read_invoices(now, stripe_ids=ids, references=references) if rows else None
    page = Page(Subject.INVOICE, last)
    for theirs in rows:
        ours = books.of(theirs) if books else None
        if ours is None and not theirs.reference:
            continue  # made by others: a subscription of Stripe's own, or a person there
        page.looked += 1
        if books and ours and ours.public_id in books.moving:
            page.moving += 1
        elif is_suspect(ours, theirs):
            page.take(twice(look_at_invoice, theirs.id, now))
    page.write = lambda: StripeInvoice.objects.filter(stripe_id__in=ids).update(seen_at=now)
    return page


def invoices_here(run: StripeRun, after: str, now: datetime) -> Page:
    """Ours that Stripe did not show, and that are open or changed in the window."""
    since = run.started_at - WINDOW
    recent = Q(invoice__issued_at__gte=since) | Q(invoice__paid_at__gte=since) | Q(invoice__voided_at__gte=since)
    ours = StripeInvoice.objects.filter(recent | Q(invoice__state="open"), stripe_id__isnull=False)
    rows = _unseen(ours.select_related("invoice"), run, after)

    def look(row: StripeInvoice) -> Verdict:
        if is_moving(row.invoice, now):
            return Verdict(is_moving=True)
        return twice(look_at_invoice, row.stripe_id or "", now, row.invoice.public_id)

    return _singly(Subject.INVOICE, rows, look)


def invoices_unsent(run: StripeRun, after: str, now: datetime) -> Page:
    """Open ones that nobody has handed to Stripe. Those that are handed over by themselves are on their way."""
    account = StripeAccount.objects.get()
    wanted = Invoice.objects.unpaid().exclude(customer__stripe__method=Method.NONE)
    if account.method == Method.NONE:
        wanted = wanted.filter(customer__stripe__method__in=[Method.CHARGE, Method.SEND])
    rows = list(_beyond(wanted.filter(stripe=None), after)[:PAGE])
    books = read_invoices(now, keys=[row.pk for row in rows])
    page = Page(Subject.INVOICE, str(rows[-1].pk) if len(rows) == PAGE else "", looked=len(rows))
    for row in rows:
        if row.issued_at is not None and row.issued_at >= account.connected_at:
            page.moving += 1
        else:
            page.take(Verdict(tuple(compare_invoice(books.by_public_id[row.public_id], None))))
    return page


def payments(run: StripeRun, after: str, now: datetime) -> Page:
    found = gateway().invoice_payments(after=after, since=run.started_at - WINDOW)
    rows: list[AttemptFacts] = [row for row in found.rows if row.payment is not None]
    books = read_invoices(now, stripe_ids={row.invoice for row in rows})
    page = Page(Subject.PAYMENT, found.last)
    for row in rows:
        ours, payment = books.by_stripe_id.get(row.invoice), row.payment
        if ours is None or payment is None:
            continue
        page.looked += payment.status == "succeeded"
        if ours.public_id in books.moving:
            page.moving += payment.status == "succeeded"
        elif is_payment_suspect(ours, payment):
            verdict = twice(look_at_invoice, row.invoice, now)
            page.gaps += verdict.gaps
            page.differing += any(gap.stripe_id == payment.intent for gap in verdict.gaps)
    return page


def subscriptions(run: StripeRun, after: str, now: datetime) -> Page:
    if not _mirrors():
        return Page("")
    found = gateway().subscriptions(after=after)
    mirrored = read_items(theirs.id for theirs in found.rows)
    linked = dict(_linked(theirs.customer for theirs in found.rows))
    page = Page(Subject.SUBSCRIPTION, found.last)
    for theirs in found.rows:
        ours, owner = mirrored.get(theirs.id, []), linked.get(theirs.customer)
        if not ours and (owner is None or theirs.status in OVER):
            continue
        page.looked += 1
        if compare_subscription(ours, theirs, customer=owner):
            page.take(twice(look_at_subscription, theirs.id))
    shown = StripeSubscription.objects.filter(stripe_id__in=[theirs.id for theirs in found.rows])
    page.write = lambda: shown.update(seen_at=now)
    return page


def subscriptions_here(run: StripeRun, after: str, now: datetime) -> Page:
    """Mirrored ones that run here and that Stripe did not show."""
    if not _mirrors():
        return Page("")
    rows = _unseen(StripeSubscription.objects.filter(removed_at=None).exclude(status__in=OVER), run, after)
    return _singly(Subject.SUBSCRIPTION, rows, lambda row: twice(look_at_subscription, row.stripe_id))


def _mirrors() -> bool:
    """Before the first import Stripe's subscriptions are none of our business."""
    return StripeRun.objects.filter(kind=StripeRun.Kind.IMPORT).exists()


def differences(run: StripeRun, after: str, now: datetime) -> Page:
    """What an earlier comparison told and this one did not come across: gone, or beyond the window."""
    rows = list(_beyond(Difference.objects.filter(settled_at=None, run__lt=run.pk), after)[:SINGLY])
    at = f"{run.started_at:%H:%M} on {run.started_at.day} {run.started_at:%b %Y}"
    for row in rows:
        check_again(row, now, by=f"gone in the comparison of {at} UTC", run=run)
    return Page("", str(rows[-1].pk) if len(rows) == SINGLY else "")


def _singly(subject: str, rows: "QuerySet[Any]", look: Callable[[Any], Verdict]) -> Page:
    """One by one, what no list could have shown."""
    chosen = list(rows[:SINGLY])
    page = Page(subject, str(chosen[-1].pk) if len(chosen) == SINGLY else "", looked=len(chosen))
    for row in chosen:
        page.take(look(row))
    return page


def _unseen(rows: "QuerySet[Any]", run: StripeRun, after: str) -> "QuerySet[Any]":
    return _beyond(rows.filter(Q(seen_at=None) | Q(seen_at__lt=run.started_at)), after)


def _beyond(rows: "QuerySet[Any]", after: str) -> "QuerySet[Any]":
    return rows.filter(pk__gt=int(after or 0)).order_by("pk")


# In this order. What a list shows is marked as seen, so that the stage after it finds what it did not show.
STAGES: dict[str, Callable[[StripeRun, str, datetime], Page]] = {
    "customers": customers,
    "customers_here": customers_here,
    "invoices": invoices,
    "invoices_open": invoices_open,
    "invoices_here": invoices_here,
    "invoices_unsent": invoices_unsent,
    "payments": payments,
    "subscriptions": subscriptions,
    "subscriptions_here": subscriptions_here,
    "differences": differences,
}


# For the first page ---------------------------------------------------------------------------------------------------


def open_differences() -> dict[str, int]:
    """How many there are by subject; nothing without keys."""
    if not enabled():
        return {}
    rows = Difference.objects.filter(settled_at=None).order_by().values_list("subject")
    return dict(rows.annotate(number=Count("id")))
