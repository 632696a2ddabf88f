"""Carry a contract over each boundary that has come: close windows, switch phases, bill, open the next period.

Each boundary is settled as if a punctual worker had done it, in order. A contract that lags behind too far is parked
for a person instead of writing invoices without end.
"""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Max, Q

from billing_admin.flows.begin import begin
from billing_admin.flows.boundary import Stretch, boundary_lines, commitment_of, committed_period, elapsed_share
from billing_admin.flows.caution import LOOKS_BACK, Limits, NeedsAPerson, is_remarkable, why_not
from billing_admin.flows.collection import finish, issuing
from billing_admin.flows.position import levels_of, stretch_of
from customers import switch
from customers.holdings import contracts_at
from customers.journal import CLOCKWORK, record
from customers.models import Customer, Operation, Phase, Subscription
from customers.states import SubscriptionState
from entitlements.provision import close, close_all, held_until, settle, tell_of_closed
from entitlements.readings import locked, open_rows, pool
from entitlements.reset import bring_up_to_date
from invoicing.commitment import Commitment
from invoicing.documents import Document, bounds_of, draw
from invoicing.issue import issue
from invoicing.lines import OVERRIDE, TRUE_UP, USAGE, BilledFee, Line, unused_lines
from invoicing.manual import pending_lines
from invoicing.models import BillingSettings, Invoice
from invoicing.overrides import specials_of
from invoicing.readings import billed_fees, charged_in, rated_use, unbilled
from invoicing.rules import billing_rules
from invoicing.states import InvoiceState

MOST_PERIODS = 36


def catch_up(customer: Customer, *, now: datetime, looked_at: Container[int] = ()) -> list[Invoice]:
    """Settle everything of one customer that is due: contracts in the order of their boundaries, then balances.

    `looked_at` are contracts (by primary key) that somebody let go on, however much they are billed.
    """
    invoices: list[Invoice] = []
    if not customer.subscriptions.due(now).exists() and not _balances_due(customer, now):
        return invoices
    with transaction.atomic():
        customer = Customer.objects.select_for_update().get(pk=customer.pk)
        settled: Counter[int] = Counter()
        while due := customer.subscriptions.due(now).order_by("bills_at", "add_on", "id").first():
            if settled[due.pk] == MOST_PERIODS:
                because = f"More than {MOST_PERIODS} periods are due since {due.bills_at:%-d %b %Y}."
                _park(customer, due, because, now)
                continue
            invoices += renew_or_park(customer, due, now=now, looked_at=due.pk in looked_at)
            settled[due.pk] += 1
        bring_up_to_date(customer, now=now)
    return invoices


def renew_or_park(
    customer: Customer, subscription: Subscription, *, now: datetime, looked_at: bool = False
) -> list[Invoice]:
    """Settle the next boundary, or leave it to a person as it is: nothing half written."""
    try:
        with transaction.atomic():
            return renew(customer, subscription, now=now, looked_at=looked_at)
    except NeedsAPerson as found:
        _park(customer, Subscription.objects.get(pk=subscription.pk), found.messages[0], now)
        return []


def _balances_due(customer: Customer, now: datetime) -> bool:
    """Whether a window has ended, or a level has been held that is not counted yet."""
    held = Q(level_units__isnull=False, level_at__lt=now, closed_at=None) & ~Q(level=0)
    return customer.balances.filter(Q(closed_at=None, ends_at__lte=now) | held).exists()


def _park(customer: Customer, subscription: Subscription, because: str, now: datetime) -> None:
    switch.park(subscription, because=because, now=now)
    record(
        customer,
        "subscription.parked",
        f"Parked {subscription.public_id}: {because}",
        actor=CLOCKWORK,
        now=now,
        effects={"since": subscription.bills_at},
    )


def renew(customer: Customer, subscription: Subscription, *, now: datetime, looked_at: bool = False) -> list[Invoice]:
    """Settle one boundary of one contract: the earliest that is due. The caller holds the customer's row.

    Raises `NeedsAPerson` for documents beyond the account's bounds, unless somebody has looked at them.
    """
    at = subscription.bills_at
    assert at is not None and at <= now
    if subscription.state == SubscriptionState.SCHEDULED:
        return begin(customer, subscription, at=at, now=now)
    before = phase_at(subscription, at, ending=True)
    if subscription.ends_at is not None and subscription.ends_at <= at:
        return end_contract(
            customer,
            subscription,
            at=at,
            reason=subscription.end_reason or "canceled",
            now=now,
            bill_use=subscription.bills_use_at_end,
            unused=subscription.unused_at_end,
        )
    phase = phase_at(subscription, at)
    switched = phase.pk != before.pk
    held_until(customer, open_rows(customer), at, now=now)
    _close_windows(customer, subscription, at=at, now=now)
    history = history_of(subscription, at)
    after = stretch_of(phase, levels_of(subscription)) if switched else history[-1]
    uses = [rated_use(row) for row in unbilled(subscription, at)]
    specials, pending = specials_of(subscription), pending_lines(subscription)
    lines = boundary_lines(at, history=history, after=after, uses=uses, specials=specials, pending=pending)
    plan = phase.version.plan
    documents = draw(
        lines,
        billing_rules(customer, plan, subscription, at=at),
        bounds=bounds_of(history[-1].terms, lines),
        commitment=_commitment(subscription, history, at, closes=switched),
        currency=plan.currency,
    )
    if not looked_at:
        _refuse_remarkable(subscription, documents, at)
    switch.roll(subscription, phase, at=at)
    operation = None
    if switched or documents:
        words = words_of(phase, lines, at, switched=switched)
        operation = record(customer, actor=CLOCKWORK, now=now, **words)
    phases = {line.item_id or 0: before for line in lines if is_past(line, at)}
    how = issuing(
        subscription, phase, operation=operation, phases=phases, at=at, has_use=bool(before.terms().usage_items)
    )
    return finish(issue(customer, documents, now=now, how=how), subscription, now=now)


def words_of(phase: Phase, lines: Sequence[Line], at: datetime, *, switched: bool) -> dict[str, Any]:
    """How the journal tells of a boundary: verb, summary and effects."""
    custom = " (custom)" if phase.version.tailored else ""
    return {
        "verb": "plan.switched" if switched else "subscription.renewed",
        "summary": f"{'Switched to' if switched else 'Renewed'} {phase.version.plan.name}{custom} as of {at:%-d %b %Y}",
        "effects": {"at": at, "lines": [{"description": li.description, "amount": li.amount} for li in lines]},
    }


def _refuse_remarkable(subscription: Subscription, documents: Sequence[Document], at: datetime) -> None:
    account = BillingSettings.present()
    largest = None
    if any(is_remarkable(document) for document in documents):
        largest = largest_documents([subscription], at).get(subscription.pk)
    if why := why_not(documents, Limits(account.most_lines, account.most_growth), largest):
        raise NeedsAPerson(why)


def largest_documents(subscriptions: Sequence[Subscription], at: datetime) -> dict[int, int]:
    """What each contract was charged at most by one document lately, minor units."""
    issued = Invoice.objects.invoices().filter(subscription__in=subscriptions, issued_at__gte=at - LOOKS_BACK)
    issued = issued.exclude(state=InvoiceState.VOID).order_by()
    return dict(
        issued.values_list("subscription").annotate(largest=Max("total")).values_list("subscription", "largest")
    )


def is_past(line: Line, at: datetime) -> bool:
    """Whether it charges for what was before the boundary, and so belongs to the phase that ran until it."""
    return line.kind in (USAGE, TRUE_UP) or (line.kind == OVERRIDE and line.ends_at is not None and line.ends_at <= at)


def history_of(subscription: Subscription, at: datetime) -> tuple[Stretch, ...]:
    """The phases that were in force before the instant, as billing sees them."""
    levels = levels_of(subscription)
    phases = list(subscription.phases.kept().select_related("version__plan").order_by("starts_at", "id"))
    begun = [phase for phase in phases if phase.starts_at < at] or phases[:1]
    return tuple(stretch_of(phase, levels) for phase in begun)


def _commitment(
    subscription: Subscription, history: Sequence[Stretch], at: datetime, *, closes: bool
) -> Commitment | None:
    period = committed_period(history, at, closes=closes)
    charged = charged_in(subscription, period) if period else 0
    return commitment_of(history, at, charged=charged, closes=closes)


def end_contract(
    customer: Customer,
    subscription: Subscription,
    *,
    at: datetime,
    reason: str,
    now: datetime,
    bill_use: bool = True,
    unused: str = Subscription.Unused.NOTHING,
) -> list[Invoice]:
    """End a contract: its windows close, open use is billed, its add-ons end with it in the same way.

    One whose final invoice was made before only ends.
    """
    phase = phase_at(subscription, at)
    gives_back = unused != Subscription.Unused.NOTHING
    # Read before the windows close: what was used of bought units is counted in those that are open.
    fees = billed_fees(subscription, at) if gives_back else []
    held_until(customer, open_rows(customer), at, now=now)
    close_all(customer, subscription.pk, ended_at=at, now=now)
    is_settled = subscription.settled_at is not None
    documents = [] if is_settled else closing_documents(subscription, at, bill_use=bill_use, fees=fees)
    switch.end(subscription, at=at, reason=reason, now=now)
    operation = record(
        customer,
        "subscription.ended",
        f"{phase.version.plan.name} ended on {at:%-d %b %Y} ({reason.replace('_', ' ')})",
        actor=CLOCKWORK,
        now=now,
        effects={"at": at, "reason": reason},
    )
    invoices = issue_closing(customer, subscription, documents, at=at, operation=operation, unused=unused, now=now)
    for add_on in add_ons_of(subscription):
        invoices += end_contract(
            customer, add_on, at=at, reason="main_plan_ended", now=now, bill_use=bill_use, unused=unused
        )
    return invoices


def issue_closing(
    customer: Customer,
    subscription: Subscription,
    documents: Sequence[Document],
    *,
    at: datetime,
    operation: Operation,
    unused: str,
    now: datetime,
) -> list[Invoice]:
    """Issue what the end of a contract comes to; what it gives back is paid out where that was answered."""
    phase = phase_at(subscription, at)
    how = issuing(subscription, phase, operation=operation, at=at, has_use=False)
    how = replace(how, refunds=unused == Subscription.Unused.REFUND)
    return finish(issue(customer, documents, now=now, how=how), subscription, now=now)


def closing_documents(
    subscription: Subscription, at: datetime, *, bill_use: bool, fees: Sequence[BilledFee]
) -> list[Document]:
    """What the end of a contract charges (open use, elapsed fees, the rest of a minimum), and gives back of fees."""
    lines = [*(open_use(subscription, at) if bill_use else []), *pending_lines(subscription)]
    lines += unused_lines(fees, at)
    phase, history = phase_at(subscription, at), history_of(subscription, at)
    before = history[-1]
    return draw(
        lines,
        billing_rules(subscription.customer, phase.version.plan, subscription, at=at),
        bounds=bounds_of(before.terms, lines, elapsed_share(history, at)),
        commitment=_commitment(subscription, history, at, closes=True) if bill_use else None,
        currency=before.terms.currency,
    )


def add_ons_of(subscription: Subscription) -> list[Subscription]:
    """The contracts that end with this one: add-ons of its product."""
    if subscription.add_on:
        return []
    others = Subscription.objects.live().filter(customer_id=subscription.customer_id, add_on=True)
    return list(others.filter(product_id=subscription.product_id).order_by("id"))


def open_use(subscription: Subscription, at: datetime) -> list[Line]:
    """All use of a contract that stands on no invoice yet, and its elapsed fees, as its end would bill them."""
    uses = [rated_use(row) for row in unbilled(subscription, None, at=at)]
    history, specials = history_of(subscription, at), specials_of(subscription)
    return boundary_lines(at, history=history, after=None, uses=uses, specials=specials)


def phase_at(subscription: Subscription, at: datetime, *, ending: bool = False) -> Phase:
    """The phase in force from the boundary, or the one that was in force until it."""
    phases = subscription.phases.kept().select_related("version__plan").order_by("-starts_at", "-id")
    found = phases.filter(starts_at__lt=at) if ending else phases.filter(starts_at__lte=at)
    phase: Phase | None = found.first() or phases.last()
    assert phase is not None, "a contract has a phase"
    return phase


def _close_windows(customer: Customer, subscription: Subscription, *, at: datetime, now: datetime) -> None:
    """Settle this contract's balances as of the boundary: what ended is closed, what goes on is carried."""
    own = [c for c in contracts_at(customer, at) if c.subscription_id == subscription.pk]
    # A window that begins later was opened by use that came before the worker; its own boundary is still to come.
    rows = locked(open_rows(customer).filter(subscription=subscription, starts_at__lte=at))
    there = pool(customer, own, rows, at, merges=False)
    settle(customer, there, rows, now=now)
    kept = {bucket.id for bucket in there.buckets}
    over = [row for row in rows if row.closed_at is None and row.pk not in kept]
    for row in over:
        close(row, ended_at=at, now=now)
    tell_of_closed(customer, over, now=at)
