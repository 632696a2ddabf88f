"""A plan change as rows for the eye: what happens now, on the next invoice, and to each feature. Pure.

Every word of the preview is made here, so that two previews can be compared: what a person saw is posted back signed,
and whatever reads differently in the next one is marked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core import signing

from billing_admin.flows.enable_plan import confirmation
from billing_admin.flows.forecast import Expected
from billing_admin.flows.plan_change import AccessChange, Choice, PlanChange, Timing
from catalog.charges import prepaid
from catalog.money import format_minor, grouped, to_minor
from catalog.terms import ALLOCATED, BOOLEAN, CANCEL, METERED, ChangeKind, ItemDifference
from entitlements.access import Access
from invoicing.documents import Document
from invoicing.lines import Line

SALT = "plan-change-seen"
NO_ACCESS = "no access"


@dataclass(frozen=True, slots=True)
class LineRow:
    """One line with its sum. `was`: what the person saw before, when that was something else."""

    name: str
    description: str
    sum: str
    amount: str
    is_credit: bool = False
    was: str = ""
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class SumRow:
    """What lies between the lines and the total: a discount, a credit, a tax; `detail` says how it came about."""

    words: str
    amount: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Money:
    """Lines with what comes off them and on top, and the total."""

    rows: tuple[LineRow, ...]
    total: str
    was: str = ""
    gone: tuple[str, ...] = ()
    sums: tuple[SumRow, ...] = ()


@dataclass(frozen=True, slots=True)
class ForecastRow:
    """One of the next invoices."""

    at: datetime
    plan: str
    amount: str
    note: str
    money: Money


@dataclass(frozen=True, slots=True)
class AccessRow:
    slug: str
    name: str
    before: str
    after: str
    notes: tuple[str, ...]
    is_same: bool
    is_loss: bool
    was: str = ""


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    value: str
    words: str
    starts_at: datetime
    money: str
    note: str
    is_chosen: bool
    is_default: bool


@dataclass(frozen=True, slots=True)
class ChangeRows:
    """Everything that the panel "What happens" says, and the two signed words that come back with the form."""

    why: str
    replaces: str
    is_scheduled: bool
    starts_at: datetime
    now: Money
    settlement: tuple[tuple[str, str], ...]
    next_at: datetime | None
    next_invoice: Money
    next_note: str
    access: tuple[AccessRow, ...]
    differences: tuple[str, ...]
    choices: tuple[ChoiceRow, ...]
    default_timing: str
    valid_until: datetime
    button: str
    confirmed: str
    seen: str
    waits: str = ""
    forecast: tuple[ForecastRow, ...] = ()
    year: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    could_wait: bool = False
    is_outdated: bool = False
    moved: int = 0


def rows_of(
    change: PlanChange, *, customer: str, invoice_numbers: Mapping[int, str], expected: Sequence[Expected] = ()
) -> ChangeRows:
    """A change in words. `invoice_numbers` names the open invoices that its lines come off; `expected` is what the
    year after it would bill."""
    now = money_of(change.documents, change.currency, invoice_numbers)
    upcoming = change.next_invoice
    rows = ChangeRows(
        why=change.why,
        replaces=change.replaces or change.stays,
        is_scheduled=change.is_scheduled,
        starts_at=change.starts_at,
        now=now,
        settlement=tuple(_settlement(change, invoice_numbers)),
        next_at=upcoming.at,
        next_invoice=money_of(upcoming.documents, change.currency),
        next_note=_next_note(change),
        access=tuple(access_row(row, change) for row in change.access),
        differences=tuple(_differences(change)),
        choices=tuple(_choice_row(choice, change) for choice in change.choices),
        default_timing=next((choice.timing for choice in change.choices if choice.is_default), ""),
        valid_until=change.valid_until,
        button=button(change, customer),
        confirmed=confirmation(change),
        seen="",
        waits=_waits(change),
        forecast=forecast_rows(expected),
        year=year_of(expected),
        units=dict(_units(change)),
        could_wait=change.could_wait,
    )
    return replace(rows, seen=signing.dumps(_summary(rows), salt=SALT, compress=True))


def money_of(documents: Sequence[Document], currency: str, invoice_numbers: Mapping[int, str] | None = None) -> Money:
    """Documents for the eye: their lines, what comes off them and on top, and the total."""
    lines = [line for document in documents for line in document.lines]
    sums = tuple(row for document in documents for row in _sums(document))
    total = sum(document.total for document in documents)
    return Money(tuple(_line_rows(lines, invoice_numbers or {})), format_minor(total, currency), sums=sums)


def _sums(document: Document) -> Iterator[SumRow]:
    drawn, currency = document.drawn, document.currency
    for taken in drawn.deductions:
        yield SumRow(taken.label, format_minor(-taken.amount, currency), taken.sum)
    for tax in drawn.tax_totals:
        included = " included" if tax.inclusive else ""
        yield SumRow(f"{tax.rate.label}{included}", format_minor(tax.amount, currency), tax.sum(currency))


def _waits(change: PlanChange) -> str:
    """Until when access waits, and for what; or until when nothing is charged."""
    if change.is_gated:
        until = change.position.at + change.position.gate.payment_window
        deadline = f"{until:%-d %b %Y, %H:%M} UTC"
        if change.position.gate.awaits_approval:
            return "Waits for somebody's approval of the first invoice, then for its payment. Nothing is given before."
        return f"Waits for the payment until {deadline}; nothing is given before, and unpaid it is void then."
    if change.trial_ends_at:
        ends = change.proposal.terms.trial_end == CANCEL
        after = "the plan ends, without an invoice" if ends else "the first period begins and is billed"
        return f"Trial until {change.trial_ends_at:%-d %b %Y}: use is free; then {after}."
    return ""


def _units(change: PlanChange) -> Iterator[tuple[str, str]]:
    """By item key: what bought units come to, such as `300 units = 3 packs of 100 × $10.00 = $30.00`."""
    for item in change.proposal.card.items:
        if item.is_prepaid and item.price is not None and item.bought is not None:
            rated = prepaid(item.price, item.bought, item.included or Decimal(0))
            granted = grouped(item.granted or 0)
            if not rated.amount:
                yield item.key, f"{granted} units: the included ones, nothing to pay"
                continue
            free = f" − {grouped(item.included)} included" if item.included else ""
            amount = format_minor(to_minor(rated.amount, change.currency), change.currency)
            words = rated.words(change.currency)
            yield item.key, f"{granted} units{free} = {words}{'' if words.endswith(amount) else f' = {amount}'}"


def forecast_rows(expected: Sequence[Expected]) -> tuple[ForecastRow, ...]:
    return tuple(
        ForecastRow(
            at=one.at,
            plan=one.plan_name,
            amount=format_minor(one.total, one.currency),
            note="use assumed" if one.is_estimated else "",
            money=money_of(one.documents, one.currency),
        )
        for one in expected
    )


def year_of(expected: Sequence[Expected]) -> str:
    """What the next invoices come to, all together."""
    return format_minor(sum(one.total for one in expected), expected[0].currency) if expected else ""


def button(change: PlanChange, customer: str) -> str:
    """What pressing it does."""
    what = "custom plan" if change.proposal.is_custom else change.proposal.plan_name
    if change.is_scheduled:
        return f"Schedule {what} for {change.starts_at:%-d %b %Y}"
    return f"Enable {what} for {customer}" if change.proposal.is_custom else f"Enable {what}"


def _differences(change: PlanChange) -> Iterator[str]:
    held = change.position.held
    if held and held.contract.quantity != change.proposal.quantity:
        yield f"Quantity: {held.contract.quantity} → {change.proposal.quantity}"
    for difference in change.differences:
        if not _is_told_by_access(difference):
            yield difference.sentence(change.currency)


def _is_told_by_access(difference: ItemDifference) -> bool:
    """Whether the list of features says all of it already; fees, prices, resets and limits need a line of their own."""
    items = [item for item in (difference.before, difference.after) if item]
    if any(item.is_fee for item in items):
        return False
    if len(items) == 1:
        return not items[0].price
    return set(difference.fields) <= {"granted", "value"}


def _line_rows(lines: Iterable[Line], invoice_numbers: Mapping[int, str]) -> list[LineRow]:
    rows: list[LineRow] = []
    taken: dict[str, int] = {}
    for line in lines:
        name = f"{line.kind}:{line.key}:{line.offsets_id or ''}"
        taken[name] = taken.get(name, 0) + 1
        number = invoice_numbers.get(line.offsets_id or 0)
        off = f" — off {number}" if number else ""
        rows.append(
            LineRow(
                name=f"{name}:{taken[name]}",
                description=f"{line.description}{off}",
                sum=str(line.derivation.get("sum", "")),
                amount=format_minor(line.amount, line.currency),
                is_credit=line.amount < 0,
            )
        )
    return rows


def _settlement(change: PlanChange, invoice_numbers: Mapping[int, str]) -> list[tuple[str, str]]:
    """Where the money goes when it is not simply due: off open invoices, out of or into account credit."""
    found, owed = [], 0
    for document in change.documents:
        if document.offsets_id is not None:
            number = invoice_numbers.get(document.offsets_id, "the open invoice")
            found.append((f"Comes off {number}, which is not paid yet", format_minor(document.total, change.currency)))
        else:
            owed += document.total
    if owed < 0:
        found.append(("Goes to account credit, by a credit note", format_minor(-owed, change.currency)))
    elif change.credit_used:
        found.append(("Account credit used", format_minor(-change.credit_used, change.currency)))
        found.append(("Left to pay", format_minor(owed - change.credit_used, change.currency)))
    elif owed and found:
        found.append(("On the new invoice", format_minor(owed, change.currency)))
    return found


def _next_note(change: PlanChange) -> str:
    if change.next_invoice.at is None:
        return "Never invoiced." if change.proposal.kind != "billed" else "No further invoice."
    if change.proposal.terms.is_free:
        return "Nothing to invoice."
    return "Estimated: use until then is added." if change.next_invoice.estimated else ""


def _choice_row(choice: Choice, change: PlanChange) -> ChoiceRow:
    note = ""
    if choice.total < 0:
        note = "credited"
    elif choice.timing is Timing.WITHOUT_BILLING:
        note = "the difference is not billed"
    elif choice.timing is Timing.CYCLE_END:
        note = f"on {choice.starts_at:%-d %b %Y}"
    return ChoiceRow(
        value=choice.timing,
        words=choice.words,
        starts_at=choice.starts_at,
        money=format_minor(choice.total, change.currency),
        note=note,
        is_chosen=choice.timing is change.timing,
        is_default=choice.is_default,
    )


def access_row(row: AccessChange, change: PlanChange) -> AccessRow:
    """`22 of 100 left → 172 of 250 left`, with what happens to use and reset date."""
    before, after = access_words(row.before), access_words(row.after)
    # At the end of a cycle every window is a new one; that alone is no change.
    is_same = row.is_same or (change.is_scheduled and before == after)
    return AccessRow(
        slug=row.slug,
        name=row.name,
        before=before,
        after=after,
        notes=() if is_same else tuple(_access_notes(row)),
        is_same=is_same,
        is_loss=not is_same and _is_loss(row.after),
    )


def access_words(access: Access | None) -> str:
    if access is None or not access.has_access:
        return NO_ACCESS
    if access.type == BOOLEAN:
        return "on"
    if access.unlimited:
        return f"unlimited, {grouped(access.used)} used" if access.used and access.type == METERED else "unlimited"
    if access.type != METERED:
        return grouped(access.value) if isinstance(access.value, Decimal) else str(access.value)
    limit = grouped(access.limit or Decimal(0))
    if _is_level(access):
        return f"{grouped(access.used)} of {limit} in use"
    net = access.net or Decimal(0)
    return f"{grouped(-net)} beyond {limit}" if net < 0 else f"{grouped(net)} of {limit} left"


def _is_level(access: Access) -> bool:
    return any(b.item.feature and b.item.feature.usage == ALLOCATED for b in access.buckets)


def _is_loss(after: Access | None) -> bool:
    return after is None or not after.has_access or (after.net is not None and after.net < 0)


def _access_notes(row: AccessChange) -> list[str]:
    before, after = row.before, row.after
    if after is None or after.type != METERED or not after.has_access:
        return []
    notes = []
    if before and before.used and not _is_level(after):
        if after.used == before.used:
            notes.append(f"{grouped(before.used)} used so far stay counted")
        elif not after.used:
            notes.append("starts afresh")
    if after.net is not None and after.net < 0:
        notes.append("further use is billed" if after.allowed else "further use is refused")
    if after.next_reset_at:
        kept = before is not None and before.next_reset_at == after.next_reset_at
        was = f", was {before.next_reset_at:%-d %b %Y}" if before and before.next_reset_at and not kept else ""
        notes.append(f"resets {after.next_reset_at:%-d %b %Y}{' (kept)' if kept else was}")
    elif before and before.next_reset_at:
        notes.append("no longer resets")
    return notes


def _summary(rows: ChangeRows) -> dict[str, Any]:
    """What a person can see of a preview, in few words."""
    return {
        "why": rows.why,
        "now": {row.name: [row.description, row.amount] for row in rows.now.rows},
        "total": rows.now.total,
        "next": {row.name: [row.description, row.amount] for row in rows.next_invoice.rows},
        "nextTotal": rows.next_invoice.total,
        "access": {row.slug: row.after for row in rows.access},
    }


def marked(rows: ChangeRows, seen: str, *, always: bool) -> ChangeRows:
    """The same rows, with everything marked that the person has not seen like this.

    Unless `always`, rows that read the same as before stay as they are.
    """
    again = "Schedule with these numbers" if rows.is_scheduled else "Enable with these numbers"
    try:
        before = signing.loads(seen, salt=SALT)
    except signing.BadSignature:
        return replace(rows, is_outdated=True, button=again) if always else rows
    now = _mark_money(rows.now, before["now"], before["total"])
    upcoming = _mark_money(rows.next_invoice, before["next"], before["nextTotal"])
    access = tuple(replace(row, was=_other(before["access"].get(row.slug, ""), row.after)) for row in rows.access)
    moved = [row for row in (*now.rows, *upcoming.rows) if row.was or row.is_new]
    count = len(moved) + len(now.gone) + len(upcoming.gone) + len([row for row in access if row.was])
    count += before["why"] != rows.why
    if not (count or always):
        return rows
    return replace(rows, now=now, next_invoice=upcoming, access=access, is_outdated=True, moved=count, button=again)


def _mark_money(money: Money, before: Mapping[str, list[str]], total_before: str) -> Money:
    rows = tuple(
        replace(row, is_new=row.name not in before, was=_other(before.get(row.name, ["", ""])[1], row.amount))
        for row in money.rows
    )
    names = {row.name for row in money.rows}
    gone = tuple(f"{what}, {amount}" for name, (what, amount) in before.items() if name not in names)
    return replace(money, rows=rows, was=_other(total_before, money.total), gone=gone)


def _other(before: str, after: str) -> str:
    return before if before and before != after else ""


def headline(change: PlanChange, customer: str) -> str:
    """What has become true, for the message on the next page."""
    name = change.proposal.plan_name
    named = f"a custom {name}" if change.proposal.is_custom else name
    if change.is_scheduled:
        return f"{customer} changes to {named} on {change.starts_at:%-d %b %Y}. Nothing was charged."
    due = sum(document.total for document in change.documents if document.offsets_id is None)
    if change.is_gated:
        return f"{named[:1].upper()}{named[1:]} starts when {format_minor(due, change.currency)} is paid."
    if change.trial_ends_at:
        return f"{customer} is on a trial of {named} until {change.trial_ends_at:%-d %b %Y}. Nothing was charged."
    verb = "has" if change.kind is ChangeKind.ADD_ON else "is on"
    if due > 0:
        money = f"{format_minor(due, change.currency)} was invoiced."
    elif due < 0:
        money = f"{format_minor(-due, change.currency)} went to account credit."
    else:
        money = "Nothing was charged."
    return f"{customer} {verb} {named} now. {money}"
