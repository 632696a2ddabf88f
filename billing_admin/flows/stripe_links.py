"""Which customer of ours a customer of Stripe's is: by the key in its metadata, by hand, or by a file.

Nothing is guessed. Where a key does not say it, the reason stands beside the row, and a person decides.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import StringIO

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from billing_admin.flows.catalog import hand_over
from billing_admin.flows.customers import update_customer
from billing_admin.flows.stripe_catalog import STRIPE
from billing_admin.flows.stripe_customers import release
from billing_admin.flows.stripe_follow import follow
from customers.journal import Actor, record, require_reason
from customers.mirrored import RUNNING
from customers.models import Customer, Operation
from payments.models import StripeAccount, StripeCustomer, StripeInvoice

MOST_ROWS = 5_000
COLUMNS = ["stripe_id", "customer_id"]
# A link with one that was deleted there makes room for another, once nothing here follows it any more.
BINDING = Q(deleted_at=None) | Q(subscriptions__subscription__state__in=RUNNING)
UNLINKED = "It was unlinked by hand, and is linked again by hand only."


class LinkRefused(ValidationError):
    """Why two customers cannot be linked, or not parted."""

    def __init__(self, sentence: str, code: str = "link_refused"):
        super().__init__(sentence, code=code)


def link_of(customer: Customer) -> StripeCustomer | None:
    """The customer of Stripe's that is this one; None where there is none."""
    found: StripeCustomer | None = StripeCustomer.objects.linked().filter(customer=customer).first()
    return found


# By hand --------------------------------------------------------------------------------------------------------------


def why_not(row: StripeCustomer, customer: Customer) -> str:
    """Why these two cannot be linked; empty when they can."""
    if row.deleted_at is not None:
        return f"{row.stripe_id} is deleted in Stripe."
    if row.customer_id is not None:
        return f"{row.stripe_id} is linked with {row.customer} already."
    if customer.closed_at is not None:
        return f"{customer.name} is closed."
    other = StripeCustomer.objects.filter(BINDING, customer=customer).first()
    return f"{customer.name} is linked with {other.stripe_id} already." if other else ""


@transaction.atomic
def link(
    row: StripeCustomer,
    customer: Customer,
    *,
    by: str = StripeCustomer.Link.HAND,
    takes_over: bool = False,
    follows: bool = True,
    actor: Actor,
    now: datetime,
) -> Operation:
    """Say that the two are one. Its subscriptions are followed from now on. Raises `LinkRefused`.

    Name and e-mail here stay as they are unless Stripe's are taken over; Stripe is told what is true here.
    """
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    row = StripeCustomer.objects.select_for_update(of=("self",)).get(pk=row.pk)
    if why := why_not(row, customer):
        raise LinkRefused(why)
    if takes_over:
        customer = _take_over(customer, row, actor, now)
    release(StripeCustomer.objects.filter(customer=customer), customer)
    row.customer, row.linked_by, row.linked_at, row.conflict = customer, by, now, ""
    row.sent_name, row.sent_email, row.sent_id = row.name, row.email, row.key[:120]
    row.save()
    operation = record(
        customer,
        "stripe.linked",
        f"Linked with {row.stripe_id} in Stripe ({StripeCustomer.Link(by).label.lower()})",
        actor=actor,
        now=now,
        inputs={"stripeCustomer": row.stripe_id, "by": by, "takesOver": takes_over},
        effects={"name": row.name, "email": row.email},
    )
    if follows:
        follow(customer, now)
    return operation


def _take_over(customer: Customer, row: StripeCustomer, actor: Actor, now: datetime) -> Customer:
    name, email = row.name or customer.name, row.email or customer.email
    reason = f"Taken over from {row.stripe_id}."
    return update_customer(customer, name=name, email=email, reason=reason, actor=actor, now=now)


@transaction.atomic
def unlink(row: StripeCustomer, *, reason: str, actor: Actor, now: datetime) -> Operation:
    """Take a link back. Refused while something hangs on it. Raises `ReasonRequired`, `LinkRefused`."""
    reason = require_reason(reason, "taking a link back")
    row.refresh_from_db()
    if row.customer_id is None:
        raise LinkRefused(f"{row.stripe_id} is not linked.", "not_linked")
    customer = Customer.objects.select_for_update().get(pk=row.customer_id)
    row = StripeCustomer.objects.select_for_update(of=("self",)).get(pk=row.pk)
    if why := what_hangs_on(row):
        raise LinkRefused(why, "link_in_use")
    row.subscriptions.update(subscription=None, conflict="")
    # When it was linked stays: it tells that a person parted them, so that no key links them again.
    row.customer, row.linked_by, row.conflict = None, "", UNLINKED
    row.save()
    return record(
        customer,
        "stripe.unlinked",
        f"No longer linked with {row.stripe_id} in Stripe",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"stripeCustomer": row.stripe_id},
    )


def what_hangs_on(row: StripeCustomer) -> str:
    """Why a link has to stay; empty when it may go."""
    if row.subscriptions.filter(subscription__state__in=RUNNING).exists():
        return "Subscriptions here follow Stripe's through this link. Cancel them in Stripe first."
    if StripeInvoice.objects.filter(invoice__customer=row.customer_id).exists():
        return "Invoices were sent to Stripe through this link, so it stays."
    return ""


# By the key in the metadata -------------------------------------------------------------------------------------------


def link_by_key(pks: Iterable[int], now: datetime) -> int:
    """Link those whose key names one of ours beyond doubt; beside the others stands why not. Returns how many."""
    rows = list(StripeCustomer.objects.filter(pk__in=list(pks), deleted_at=None, customer=None).order_by("pk"))
    waiting = [row for row in rows if row.linked_at is None]
    return sum(_link_one(row, now) for row in waiting)


def _link_one(row: StripeCustomer, now: datetime) -> bool:
    customer, why = _named_by(row)
    if customer is None:
        if why != row.conflict:
            StripeCustomer.objects.filter(pk=row.pk).update(conflict=why[:300])
        return False
    link(row, customer, by=StripeCustomer.Link.METADATA, follows=False, actor=STRIPE, now=now)
    return True


def _named_by(row: StripeCustomer) -> tuple[Customer | None, str]:
    """Whom the key names, or why it names nobody."""
    if not row.key:
        return None, ""
    same = StripeCustomer.objects.filter(key=row.key, deleted_at=None).exclude(pk=row.pk).order_by("stripe_id")
    if others := list(same.values_list("stripe_id", flat=True)[:3]):
        return None, f"{', '.join(others)} in Stripe has the same key, “{row.key}”."
    customer = Customer.objects.filter(customer_id=row.key).first()
    if customer is None:
        return None, f"Nobody here has the customer id “{row.key}”."
    why = why_not(row, customer)
    return (None, why) if why else (customer, "")


def suggestions(rows: Sequence[StripeCustomer]) -> dict[int, Customer]:
    """By the key of an unlinked one, the customer with the same e-mail, where there is exactly one; one query."""
    emails = {row.email.lower() for row in rows if row.email and row.customer_id is None and row.deleted_at is None}
    if not emails:
        return {}
    found = Customer.objects.open().filter(stripe=None, email__in={row.email for row in rows} | emails)
    by_email: dict[str, list[Customer]] = {}
    for customer in found:
        by_email.setdefault(customer.email.lower(), []).append(customer)
    return {row.pk: by_email[row.email.lower()][0] for row in rows if len(by_email.get(row.email.lower(), [])) == 1}


# By a file ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileRow:
    """One line of a file and what becomes of it: `why_not` is empty for a link that would be made."""

    line: int
    stripe_id: str
    customer_id: str
    stripe: StripeCustomer | None
    customer: Customer | None
    why_not: str

    @property
    def links(self) -> bool:
        return not self.why_not


def read_file(text: str) -> list[FileRow]:
    """What a file of stripe_id,customer_id would do, line by line; four queries. Raises `LinkRefused` for no table."""
    pairs = _pairs(text)
    stripes = StripeCustomer.objects.select_related("customer").in_bulk(
        {s for _, s, _ in pairs}, field_name="stripe_id"
    )
    customers = Customer.objects.in_bulk({c for _, _, c in pairs}, field_name="customer_id")
    binding = StripeCustomer.objects.filter(BINDING, customer__in=customers.values())
    known = binding.values_list("customer_id", "stripe_id")
    linked: dict[int, str] = dict(known)
    often = Counter(s for _, s, _ in pairs), Counter(c for _, _, c in pairs)
    rows = []
    for line, stripe_id, customer_id in pairs:
        row, customer = stripes.get(stripe_id), customers.get(customer_id)
        why = "It stands in the file more than once." if max(often[0][stripe_id], often[1][customer_id]) > 1 else ""
        why = why or _why_not_in_file(stripe_id, row, customer_id, customer, linked)
        rows.append(FileRow(line, stripe_id, customer_id, row, customer, why))
    return rows


def _why_not_in_file(
    stripe_id: str, row: StripeCustomer | None, customer_id: str, customer: Customer | None, linked: Mapping[int, str]
) -> str:
    if row is None:
        return f"No customer {stripe_id} is known from Stripe; import first."
    if customer is None:
        return f"Nobody here has the customer id “{customer_id}”."
    if row.deleted_at is not None:
        return f"{stripe_id} is deleted in Stripe."
    if row.customer_id == customer.pk:
        return "They are linked already."
    if row.customer_id is not None:
        return f"{stripe_id} is linked with {row.customer} already."
    if customer.closed_at is not None:
        return f"{customer.name} is closed."
    return f"{customer.name} is linked with {linked[customer.pk]} already." if customer.pk in linked else ""


def _pairs(text: str) -> list[tuple[int, str, str]]:
    """Line number and both ids of each line; the first line may name the columns."""
    lines = [(reader_line, cells) for reader_line, cells in _cells(text) if any(cell.strip() for cell in cells)]
    if lines and [cell.strip().lower() for cell in lines[0][1]] == COLUMNS:
        lines = lines[1:]
    if not lines:
        raise LinkRefused("The file has no rows. It needs two columns: stripe_id,customer_id.", "empty_file")
    if len(lines) > MOST_ROWS:
        raise LinkRefused(f"At most {MOST_ROWS:,} rows at a time; this file has {len(lines):,}.", "too_many_rows")
    if bad := next((line for line, cells in lines if len(cells) != len(COLUMNS)), None):
        raise LinkRefused(f"Line {bad} has not two columns: stripe_id,customer_id.", "bad_file")
    return [(line, cells[0].strip(), cells[1].strip()) for line, cells in lines]


def _cells(text: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(StringIO(text.lstrip("\ufeff")))
    try:
        return [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise LinkRefused(f"The file cannot be read as CSV: {error}.", "bad_file") from None


@transaction.atomic
def link_file(text: str, *, actor: Actor, now: datetime) -> Operation:
    """Make the links of a file as one act; lines that cannot be carried out are left out and told.

    Raises `LinkRefused`. What the newly linked subscribe to is followed right after, by a worker.
    """
    rows = read_file(text)
    made = []
    for row in sorted((row for row in rows if row.links), key=lambda row: row.customer.pk if row.customer else 0):
        assert row.stripe is not None and row.customer is not None
        link(row.stripe, row.customer, by=StripeCustomer.Link.CSV, follows=False, actor=actor, now=now)
        made.append({"stripeCustomer": row.stripe_id, "customerId": row.customer_id})
    if not made:
        raise LinkRefused("No line of the file can be carried out.", "nothing_to_link")
    left = [{"line": row.line, "why": row.why_not} for row in rows if not row.links]
    operation = record(
        None,
        "stripe.linked_by_file",
        f"Linked {len(made):,} customers with Stripe's by a file; {len(left):,} lines were left out",
        actor=actor,
        now=now,
        inputs={"lines": len(rows)},
        effects={"linked": made, "left": left},
    )
    hand_over()
    return operation


def key_name() -> str:
    """Under which name in Stripe's metadata our ids stand."""
    account = StripeAccount.present()
    return account.link_key if account else StripeAccount._meta.get_field("link_key").default
