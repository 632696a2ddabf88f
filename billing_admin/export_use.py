"""What one customer used, has and owes, and the overrides of all, as files."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Count, QuerySet
from django.http import Http404

from billing_admin.admin import coupons, override_register, wallet
from billing_admin.admin.acts import find_customer
from billing_admin.admin.event_filter import EventForm
from billing_admin.admin.events import DAYS_OF_CUSTOMER, DAYS_OF_FEATURE
from billing_admin.admin.events import VIEW as SEE_EVENTS
from billing_admin.admin.override_register import RegisterFilter, alike, joined
from billing_admin.admin.wallet import LedgerFilter, entries_of
from billing_admin.api.events import parts_of
from billing_admin.csv_table import Cell, in_major
from billing_admin.event_search import newest_first
from billing_admin.exports import Asked, ListExport, Walk, each, exported
from billing_admin.flows.override_batch import PERMANENT
from billing_admin.flows.override_outlook import words_of
from catalog.models import Coupon, Feature, PromoCode
from catalog.money import plain
from customers.models import AppliedCoupon
from entitlements.models import FeatureOverride, UsageEvent
from invoicing.models import CreditEntry, WalletEntry

# Events ---------------------------------------------------------------------------------------------------------------


def _events(asked: Asked, form: EventForm, **of: Any) -> Walk:
    """Of so many events that nobody counts them first."""
    if not form.is_valid():
        raise ValidationError(next(iter(form.errors.values()))[0], code="bad_filter")
    search = form.search(**of)
    found = search.exact() if search.words else []
    return Walk(found or (row for row in newest_first(search) if row.recorded_at <= asked.now))


def _of_customer(asked: Asked) -> Walk:
    customer = find_customer(asked.query.get("customer", ""))
    form = asked.form(EventForm, features=Feature.objects.all(), today=asked.now.date(), days=DAYS_OF_CUSTOMER)
    return _events(asked, form, customer=customer)


def _of_feature(asked: Asked) -> Walk:
    feature = named(Feature.objects.all(), asked.query.get("feature", ""))
    form = asked.form(EventForm, features=None, today=asked.now.date(), days=DAYS_OF_FEATURE)
    return _events(asked, form, feature=feature)


def named(rows: QuerySet, key: str) -> Any:
    """The row that a page is about, by its number. Raises `Http404`."""
    found = rows.filter(pk=int(key)).first() if key.isdecimal() and len(key) < 18 else None
    if found is None:
        raise Http404("There is no such row.")
    return found


def _event_cells(row: UsageEvent) -> Sequence[Cell]:
    return (
        row.public_id,
        row.customer.customer_id,
        row.feature.slug,
        row.name,
        row.amount,
        row.taken,
        row.at,
        row.recorded_at,
        row.key,
        row.mode,
        json.dumps(row.properties, ensure_ascii=False),
        " ".join(f"{balance_id}:{plain(units)}" for balance_id, units in parts_of(row)),
        row.voided_at,
    )


EVENT_HEAD = (
    "id",
    "customer",
    "feature",
    "name",
    "value",
    "counted",
    "at",
    "recorded_at",
    "key",
    "mode",
    "properties",
    "balances",
    "voided_at",
)

exported(
    ListExport(
        kind="events_of_customer",
        title="Events of a customer",
        page="customer_events",
        of="customer",
        permission=SEE_EVENTS,
        needs=("customers.view_customer",),
        head=EVENT_HEAD,
        rows=_of_customer,
        cells=each(_event_cells),
    )
)

exported(
    ListExport(
        kind="events_of_feature",
        title="Events of a feature",
        page="feature_events",
        of="feature",
        permission=SEE_EVENTS,
        needs=("catalog.view_feature", "customers.view_customer"),
        head=EVENT_HEAD,
        rows=_of_feature,
        cells=each(_event_cells),
    )
)


# Overrides ------------------------------------------------------------------------------------------------------------


def _overrides(asked: Asked) -> QuerySet:
    form = asked.form(RegisterFilter)
    rows = form.narrowed(asked.now)
    return joined(alike(rows) if form.said.get("shown") == "same" else rows)


def _override_cells(rows: Sequence[FeatureOverride], asked: Asked) -> Iterator[Sequence[Cell]]:
    for row in rows:
        value = words_of(row)
        yield (
            row.customer.customer_id,
            row.feature.slug,
            value.replace(",", "") if row.units is not None else value,
            row.effective_from,
            row.effective_until or PERMANENT,
            row.reason,
            row.subscription.public_id if row.subscription else "",
            row.public_id,
            row.state(asked.now),
            row.stops_at,
            row.created_by,
            row.created_at,
            row.revoked_by,
            row.revoke_reason,
            row.batch.public_id if row.batch else "",
        )


exported(
    ListExport(
        kind="overrides",
        title="Overrides",
        page="entitlements_featureoverride_changelist",
        permission=override_register.VIEW,
        # Those that the import reads come first, so that what was exported can be changed and sent again.
        head=(
            "customer_id",
            "feature",
            "value",
            "from",
            "until",
            "reason",
            "subscription",
            "override",
            "state",
            "stops_at",
            "created_by",
            "created_at",
            "revoked_by",
            "revoke_reason",
            "batch",
        ),
        rows=_overrides,
        cells=_override_cells,
    )
)


# Money of a customer --------------------------------------------------------------------------------------------------


def _wallet(asked: Asked) -> QuerySet:
    return asked.form(LedgerFilter).narrowed(entries_of(find_customer(asked.query.get("customer", ""))))


def _wallet_cells(entry: WalletEntry) -> Sequence[Cell]:
    event, operation = entry.event, entry.operation
    return (
        entry.at,
        entry.kind,
        entry.amount,
        entry.balance_after,
        entry.wallet.currency,
        event.feature.slug if event else "",
        event.public_id if event else "",
        entry.derivation.get("sum", ""),
        entry.reference,
        operation.reason if operation else "",
        operation.actor if operation else "",
    )


exported(
    ListExport(
        kind="wallet",
        title="Wallet of a customer",
        page="customer_wallet",
        of="customer",
        permission=wallet.VIEW,
        head=(
            "at",
            "kind",
            "amount",
            "balance_after",
            "currency",
            "feature",
            "event",
            "sum",
            "reference",
            "reason",
            "actor",
        ),
        rows=_wallet,
        cells=each(_wallet_cells),
    )
)


def _credit(asked: Asked) -> Walk:
    customer = find_customer(asked.query.get("customer", ""))
    return Walk(_running(CreditEntry.objects.filter(customer=customer).select_related("invoice").order_by("id")))


def _running(entries: QuerySet[CreditEntry]) -> Iterator[tuple[CreditEntry, int]]:
    """Each line with the credit after it, the oldest first."""
    credit = 0
    for entry in entries:
        credit += entry.amount
        yield entry, credit


exported(
    ListExport(
        kind="account_credit",
        title="Account credit of a customer",
        page="customer_credit",
        of="customer",
        permission="invoicing.view_invoice",
        head=("at", "kind", "document", "currency", "amount", "credit_after"),
        rows=_credit,
        cells=each(
            lambda pair: (
                pair[0].at,
                pair[0].kind,
                str(pair[0].invoice) if pair[0].invoice else "",
                pair[0].currency,
                in_major(pair[0].amount, pair[0].currency),
                in_major(pair[1], pair[0].currency),
            )
        ),
    )
)


# Coupons --------------------------------------------------------------------------------------------------------------


def _coupon(asked: Asked) -> Coupon:
    found: Coupon = named(Coupon.objects.all(), asked.query.get("coupon", ""))
    return found


def _promo_codes(asked: Asked) -> QuerySet:
    return PromoCode.objects.filter(coupon=_coupon(asked)).select_related("coupon").annotate(times=Count("applied"))


exported(
    ListExport(
        kind="promo_codes",
        title="Promo codes of a coupon",
        page="catalog_coupon_change",
        of="coupon",
        button="Promo codes as CSV",
        permission=coupons.VIEW,
        head=("code", "coupon", "active", "redeemed", "max_redemptions", "expires_at", "only_new_customers"),
        rows=_promo_codes,
        cells=each(
            lambda row: (
                row.code,
                row.coupon.code,
                row.is_active,
                row.times,
                row.max_redemptions,
                row.expires_at,
                row.first_time_only,
            )
        ),
    )
)


def _redemptions(asked: Asked) -> QuerySet:
    rows = AppliedCoupon.objects.filter(coupon=_coupon(asked))
    return rows.select_related("customer", "coupon", "promo_code", "subscription")


exported(
    ListExport(
        kind="redemptions",
        title="Redemptions of a coupon",
        page="catalog_coupon_change",
        of="coupon",
        button="Redemptions as CSV",
        permission=coupons.VIEW,
        needs=("customers.view_customer",),
        head=(
            "id",
            "coupon",
            "promo_code",
            "customer_id",
            "customer",
            "subscription",
            "waits",
            "reason",
            "applied_by",
            "applied_at",
            "ends_at",
            "removed_at",
        ),
        rows=_redemptions,
        cells=each(
            lambda row: (
                row.public_id,
                row.coupon.code,
                row.promo_code.code if row.promo_code else "",
                row.customer.customer_id,
                row.customer.name,
                row.subscription.public_id if row.subscription else "",
                row.waits,
                row.reason,
                row.applied_by,
                row.applied_at,
                row.ends_at,
                row.removed_at,
            )
        ),
    )
)
