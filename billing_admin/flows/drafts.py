"""Drafts: invoices that still change, because late use may come or a person holds them back.

A draft is drawn up anew whenever something changes it: its use is rated again, and coupons, credits and taxes come off
as they are by then. Issuing does that a last time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from billing_admin.flows.approvals import guard_done
from billing_admin.flows.boundary import INSTANT_BEFORE, commitment_of, committed_period, past_lines
from billing_admin.flows.collection import finish, net_terms_of
from billing_admin.flows.gate import settled
from billing_admin.flows.position import levels_of, stretch_of
from billing_admin.flows.renew import history_of, is_past, phase_at
from catalog.money import format_minor
from catalog.periods import Cadence, period_containing
from customers.journal import CLOCKWORK, Actor, record
from customers.models import AppliedCoupon, Customer, Phase, Subscription
from entitlements.models import Balance
from entitlements.readings import item_terms
from invoicing.bounds import Bound
from invoicing.commitment import Commitment
from invoicing.documents import BillingRules, bounds_of, draw, nothing_due
from invoicing.issue import Issuing, settle_issued, totals_of, write_lines
from invoicing.lines import FEE, MANUAL, MAXIMUM, MINIMUM, OVERRIDE, TRUE_UP, USAGE, Line
from invoicing.manual import line_of, manual_line
from invoicing.models import BillingSettings, Invoice, InvoiceLine, PendingLine
from invoicing.overrides import specials_of
from invoicing.readings import charged_in, rated_use, unbilled
from invoicing.rewards import discount_terms
from invoicing.rules import billing_rules
from invoicing.special import not_below_zero
from invoicing.states import InvoiceState

MOST = 1_000
# Derived from the others, so they are drawn up anew with them.
DERIVED = (USAGE, MINIMUM, MAXIMUM, TRUE_UP)


class NotADraft(ValidationError):
    def __init__(self, invoice: Invoice):
        state = invoice.get_state_display().lower()
        super().__init__(f"{invoice} is {state}; only a draft can still be changed.", code="not_a_draft")


class AwaitsApproval(ValidationError):
    def __init__(self, invoice: Invoice):
        super().__init__(f"{invoice} is a first invoice that waits for an approval.", code="awaits_approval")


class BadLine(ValidationError):
    def __init__(self, why: str, code: str = "bad_line"):
        super().__init__(why, code=code)


# Drawing up anew ------------------------------------------------------------------------------------------------------


@transaction.atomic
def refresh(draft: Invoice, *, now: datetime) -> Invoice:
    """Rate a draft's use again, and take off coupons, credits and taxes as they are now. Raises `NotADraft`."""
    customer, draft = _hold(draft)
    return _redraw(customer, draft, at=now)


def _hold(draft: Invoice) -> tuple[Customer, Invoice]:
    """The customer's row, then the draft as it is by then."""
    customer = Customer.objects.select_for_update().get(pk=draft.customer_id)
    rows = Invoice.objects.select_for_update(of=("self",)).select_related("customer", "subscription", "gates")
    present = rows.get(pk=draft.pk)
    if present.state != InvoiceState.DRAFT:
        raise NotADraft(present)
    return customer, present


def _redraw(customer: Customer, draft: Invoice, *, at: datetime, more: Sequence[Line] = ()) -> Invoice:
    """Write a draft as it is drawn up at the instant, with more lines if there are any."""
    rows = [row for row in draft.lines.order_by("position", "id") if not _is_derived(row, draft)]
    before, phase = _phases_of(draft, at)
    coupons = [pk for pk in draft.deductions.values_list("applied_coupon", flat=True) if pk]
    # What the draft took itself is free again: its windows, its part of coupons, credits and special prices.
    draft.lines.exclude(pk__in=[row.pk for row in rows]).delete()
    draft.deductions.all().delete()
    past, bounds, commitment = _rated_anew(draft)
    others = [line_of(row, draft.currency) for row in rows]
    past = not_below_zero([*past, *others])[: len(past)]
    lines = [*past, *others, *more]
    rules = billing_rules(customer, phase.version.plan, draft.subscription, at=at, currency=draft.currency)
    if draft.boundary_at is None:
        rules = _with_former(rules, coupons)
    documents = draw(lines, rules, bounds=bounds, commitment=commitment, currency=draft.currency)
    document = documents[0] if documents else nothing_due(draft.currency)
    for name, value in totals_of(document.drawn).items():
        setattr(draft, name, value)
    draft.kind = Invoice.Kind.CREDIT_NOTE if document.is_credit_note else Invoice.Kind.INVOICE
    draft.save()
    ended = {line.item_id or 0: before for line in past if is_past(line, draft.boundary_at or at)}
    how = Issuing(subscription=draft.subscription, phase=phase, phases=ended)
    kept = {len(past) + place: row for place, row in enumerate(rows)}
    write_lines(draft, document.drawn, how=how, kept=kept)
    return draft


def _is_derived(row: InvoiceLine, draft: Invoice) -> bool:
    """Whether a line follows from the period that has ended, so that it is drawn up anew."""
    if draft.boundary_at is None:
        return False
    ended = row.ends_at is not None and row.ends_at <= draft.boundary_at
    return (
        row.kind in DERIVED or (row.kind == OVERRIDE and ended) or (row.kind == FEE and "inArrears" in row.derivation)
    )


def _phases_of(draft: Invoice, at: datetime) -> tuple[Phase, Phase]:
    """The phase that ran until the draft's boundary, and the one from it."""
    assert draft.subscription is not None, "drafts are those of contracts"
    if draft.gates is not None:
        phase = Phase.objects.select_related("version__plan").get(pk=draft.gates_id or 0)
        return phase, phase
    boundary = draft.boundary_at or at
    return phase_at(draft.subscription, boundary, ending=True), phase_at(draft.subscription, boundary)


def _rated_anew(draft: Invoice) -> tuple[list[Line], list[Bound], Commitment | None]:
    """The lines of the period that ended, with what its items cost at least and at most."""
    subscription, at = draft.subscription, draft.boundary_at
    if subscription is None or at is None:
        return [], [], None
    before, phase = _phases_of(draft, at)
    history = history_of(subscription, at)
    closes = phase.pk != before.pk
    after = stretch_of(phase, levels_of(subscription)) if closes else history[-1]
    uses = [rated_use(row) for row in unbilled(subscription, at)]
    lines = past_lines(at, history=history, after=after, uses=uses, specials=specials_of(subscription))
    period = committed_period(history, at, closes=closes)
    charged = charged_in(subscription, period) if period else 0
    commitment = commitment_of(history, at, charged=charged, closes=closes)
    return lines, bounds_of(history[-1].terms, lines), commitment


def _with_former(rules: BillingRules, coupons: Sequence[int]) -> BillingRules:
    """A first invoice keeps the coupons that came with its act, which are over with it."""
    known = {terms.id for terms in rules.discounts}
    rows = AppliedCoupon.objects.filter(pk__in=coupons).exclude(pk__in=known).select_related("coupon")
    return rules.with_discounts(discount_terms(row.coupon, row.pk) for row in rows.order_by("id"))


# Issuing --------------------------------------------------------------------------------------------------------------


@transaction.atomic
def issue_draft(draft: Invoice, *, actor: Actor, now: datetime, as_of: datetime | None = None) -> Invoice:
    """Draw a draft up a last time and issue it: its number, its due date, account credit. Raises `NotADraft`,
    `AwaitsApproval`. `as_of`: the instant that coupons and credits count from, if it is not now.
    """
    customer, draft = _hold(draft)
    if draft.awaits_approval:
        raise AwaitsApproval(draft)
    draft = _redraw(customer, draft, at=as_of or now)
    settle_issued(draft, now=now, net_terms_days=net_terms_of(draft.subscription, BillingSettings.present()))
    record(
        customer,
        "invoice.issued",
        f"Issued {draft}: {format_minor(draft.total, draft.currency)}",
        actor=actor,
        now=now,
        inputs={"invoice": draft.public_id},
        effects={"total": draft.total, "due": draft.due},
    )
    if draft.subscription is not None:
        finish([draft], draft.subscription, now=now)
    settled(draft, actor=actor, now=now)
    return draft


def issue_due(now: datetime, limit: int = MOST, *, customer: Customer | None = None) -> list[Invoice]:
    """Issue the drafts whose grace is over, each in a transaction of its own; of one customer, or of all.

    They are drawn up as of the end of their grace, so that a late worker changes nothing.
    """
    rows = Invoice.objects.to_issue(now).filter(awaits_approval=False).order_by("issues_at", "id")
    rows = rows if customer is None else rows.filter(customer=customer)
    issued = []
    for draft in rows[:limit]:
        try:
            issued.append(issue_draft(draft, actor=CLOCKWORK, now=now, as_of=draft.issues_at))
        except NotADraft:
            continue  # somebody else was faster
    return issued


def drafts_of(subscription: Subscription | None) -> list[Invoice]:
    """Those of a contract that can be issued, the oldest first."""
    if subscription is None:
        return []
    return list(Invoice.objects.drafts().filter(subscription=subscription, awaits_approval=False).order_by("id"))


def issue_drafts_of(subscription: Subscription | None, *, actor: Actor, now: datetime) -> list[Invoice]:
    """Issue what is drafted of a contract, before an act prices what was billed. The caller holds the customer."""
    return [issue_draft(draft, actor=actor, now=now) for draft in drafts_of(subscription)]


@contextmanager
def as_if_issued(subscriptions: Sequence[Subscription | None], *, now: datetime) -> Iterator[None]:
    """For previews: inside, the drafts of these contracts are issued; afterwards they are drafts again."""
    waiting = [subscription for subscription in subscriptions if drafts_of(subscription)]
    if not waiting:
        yield
        return
    with transaction.atomic():
        for subscription in waiting:
            issue_drafts_of(subscription, actor=CLOCKWORK, now=now)
        yield
        transaction.set_rollback(True)


# Late use -------------------------------------------------------------------------------------------------------------


def is_billed(row: Balance, now: datetime) -> bool:
    """Whether the use of a window is settled: it stands on an issued document, or its period was billed without any.

    What is never billed stays open: assigned plans, trials, use without a price.
    """
    subscription = row.subscription
    if subscription is None or row.item_id is None or not item_terms(row.item_id).is_usage:
        return False
    if subscription.trial_ends_at is not None and row.starts_at < subscription.trial_ends_at:
        return False
    lines = InvoiceLine.objects.filter(balance=row, kind=USAGE, is_replaced=False)
    if lines.exclude(invoice__state=InvoiceState.DRAFT).exists():
        return True
    return not _waits_on_draft(row, subscription, now) and _billed_at(row, subscription) < _settled_until(subscription)


def _waits_on_draft(row: Balance, subscription: Subscription, now: datetime) -> bool:
    waiting = Q(issues_at=None) | Q(issues_at__gt=now)
    return Invoice.objects.drafts().filter(waiting, subscription=subscription, boundary_at__gte=row.ends_at).exists()


def _billed_at(row: Balance, subscription: Subscription) -> datetime:
    """The boundary at which the use of a window is billed."""
    assert row.ends_at is not None and row.item_id is not None, "windows that are billed by use end"
    phase = phase_at(subscription, row.ends_at, ending=True)
    interval = Cadence.parse(phase.terms().interval_of(item_terms(row.item_id)))
    regular = period_containing(phase.anchor, interval, row.ends_at - INSTANT_BEFORE).ends_at
    stops = [stop for stop in (regular, phase.ends_at, subscription.ended_at) if stop is not None]
    return max(row.ends_at, min(stops, default=row.ends_at))


def _settled_until(subscription: Subscription) -> datetime:
    """Every boundary before it has been billed."""
    if subscription.bills_at is not None and subscription.settled_at is None:
        return subscription.bills_at
    return datetime.max.replace(tzinfo=subscription.started_at.tzinfo)


# Lines by hand --------------------------------------------------------------------------------------------------------


@transaction.atomic
def add_line(
    *,
    draft: Invoice | None = None,
    subscription: Subscription | None = None,
    description: str,
    amount: int,
    currency: str = "",
    actor: Actor,
    now: datetime,
) -> InvoiceLine | PendingLine:
    """Add a line to a draft, or to the next document of a subscription: exactly one of them. Minor units, below zero
    for a credit. Raises `BadLine`, `NotADraft`, and `ApprovalNeeded` for a credit that takes a second person.
    """
    if (draft is None) == (subscription is None):
        raise BadLine("A line belongs to exactly one of a draft invoice and a subscription.", "exactly_one")
    description = description.strip()
    if not description or len(description) > 300:
        raise BadLine("Say in up to 300 letters what the line is for.", "bad_description")
    if amount == 0:
        raise BadLine("A line charges something, or gives something back.", "bad_amount")
    if draft is not None:
        row: InvoiceLine | PendingLine = _add_to_draft(draft, description, amount, currency, actor=actor, now=now)
    else:
        assert subscription is not None
        row = _add_to_next(subscription, description, amount, currency, actor=actor, now=now)
    if amount < 0:  # last, so that what cannot be is refused rather than asked for; all of it is rolled back
        own = row.currency if isinstance(row, PendingLine) else row.invoice.currency
        where: dict[str, Any] = {"draft": draft, "subscription": subscription, "currency": own}
        guard_done("line.added", actor=actor, now=now, description=description, amount=amount, **where)
    return row


def _add_to_draft(
    draft: Invoice, description: str, amount: int, currency: str, *, actor: Actor, now: datetime
) -> InvoiceLine:
    customer, draft = _hold(draft)
    _same_currency(currency, draft.currency, str(draft))
    line = manual_line(description, amount, draft.currency, by=actor.name)
    draft = _redraw(customer, draft, at=now, more=[line])
    if draft.total < 0:
        short = format_minor(-draft.total, draft.currency)
        raise BadLine(
            f"The credit is {short} more than the draft charges; a draft does not fall below zero.", "below_zero"
        )
    row: InvoiceLine = draft.lines.filter(kind=MANUAL).order_by("-id")[0]
    _journal(customer, "line.added", "Added", row, draft, actor=actor, now=now)
    return row


def _add_to_next(
    subscription: Subscription, description: str, amount: int, currency: str, *, actor: Actor, now: datetime
) -> PendingLine:
    customer = Customer.objects.select_for_update().get(pk=subscription.customer_id)
    subscription = Subscription.objects.select_for_update().get(pk=subscription.pk)
    if not subscription.is_live or subscription.settled_at is not None or subscription.bills_at is None:
        raise BadLine("This subscription has no next invoice, so nothing can be added to it.", "no_next_invoice")
    own = phase_at(subscription, now).version.plan.currency
    _same_currency(currency, own, "This subscription")
    row = PendingLine.objects.create(
        subscription=subscription,
        description=description,
        amount=amount,
        currency=own,
        created_by=actor.name,
        created_at=now,
    )
    _journal(customer, "line.added", "Added", row, subscription, actor=actor, now=now)
    return row


def _same_currency(given: str, own: str, what: str) -> None:
    if given and given != own:
        raise BadLine(f"{what} is in {own}.", "currency_mismatch")


@transaction.atomic
def remove_line(line: InvoiceLine | PendingLine, *, actor: Actor, now: datetime) -> None:
    """Take back a line that was added by hand, while no document with it is issued. Raises `BadLine`, `NotADraft`."""
    if isinstance(line, PendingLine):
        customer = Customer.objects.select_for_update().get(pk=line.subscription.customer_id)
        waiting = PendingLine.objects.select_for_update().filter(pk=line.pk).first()
        if waiting is None or waiting.line_id is not None:
            raise BadLine("This line stands on an invoice already, or nowhere any more.", "not_waiting")
        _journal(customer, "line.removed", "Removed", waiting, waiting.subscription, actor=actor, now=now)
        waiting.delete()
        return
    customer, draft = _hold(line.invoice)
    row = draft.lines.filter(pk=line.pk).first()
    if row is None or row.kind != MANUAL:
        raise BadLine("Only lines that were added by hand can be removed.", "not_manual")
    _journal(customer, "line.removed", "Removed", row, draft, actor=actor, now=now)
    PendingLine.objects.filter(line=row).delete()
    row.delete()
    draft = _redraw(customer, draft, at=now)
    if draft.total < 0:
        raise BadLine("Without this line the draft would fall below zero; remove the credit first.", "below_zero")


def _journal(
    customer: Customer,
    verb: str,
    word: str,
    line: InvoiceLine | PendingLine,
    where: Invoice | Subscription,
    *,
    actor: Actor,
    now: datetime,
) -> None:
    currency = line.currency if isinstance(line, PendingLine) else line.invoice.currency
    preposition = "to" if word == "Added" else "from"
    place = str(where) if isinstance(where, Invoice) else "the next invoice"
    record(
        customer,
        verb,
        f"{word} {line.description} ({format_minor(line.amount, currency)}) {preposition} {place}",
        actor=actor,
        now=now,
        inputs={"description": line.description, "amount": line.amount, "on": where.public_id},
    )
