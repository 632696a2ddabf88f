"""One wallet, at once, from several processes with connections of their own."""

from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest

from customers.models import Customer
from entitlements.models import UsageEvent
from invoicing.models import WalletEntry
from invoicing.wallet import top_up
from tests.api.conftest import caller_with
from tests.api.test_parallel import at_once, track_one
from tests.builders import STAFF, customer, instantly, paying_at_once, wallet_balance
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db(transaction=True)


def put(customer_pk: int, key: str) -> bool:
    who = Customer.objects.get(pk=customer_pk)
    return top_up(who, Decimal(50), "USD", reference="bank", key=key, actor=STAFF, now=MARCH_1).applied


def track_or_put(secret: str, customer_id: str, customer_pk: int, n: int) -> int:
    """Every fifth call brings a cent, the others spend one."""
    if n % 5:
        return track_one(secret, customer_id, f"job-{n}")
    top_up(
        Customer.objects.get(pk=customer_pk),
        Decimal("0.01"),
        "USD",
        reference="bank",
        actor=STAFF,
        now=MARCH_1 + timedelta(seconds=n),
    )
    return 0


def test_of_fifty_tracks_at_once_ten_are_paid_by_a_wallet_for_ten():
    """Y-31"""
    who = paying_at_once(5)
    secret = caller_with("Application").secret

    statuses = at_once(track_one, [(secret, who.customer_id, f"job-{n}") for n in range(50)])

    assert Counter(statuses) == {200: 10, 409: 40}
    assert (UsageEvent.objects.count(), who.balances.get().used, wallet_balance(who)) == (10, 10, 0)


def test_of_several_top_ups_with_one_key_at_once_one_counts():
    who = customer()

    applied = at_once(put, [(who.pk, "tx-1")] * 8)

    assert (Counter(applied), wallet_balance(who)) == ({True: 1, False: 7}, 50)


def test_events_and_top_ups_that_meet_all_find_their_place():
    who = paying_at_once("0.05", instantly("0.01"))
    secret = caller_with("Application").secret

    statuses = at_once(track_or_put, [(secret, who.customer_id, who.pk, n) for n in range(40)])

    paid = Counter(statuses)[200]
    assert set(statuses) <= {0, 200, 409}
    assert wallet_balance(who) == Decimal("0.13") - paid * Decimal("0.01")
    assert WalletEntry.objects.filter(kind="debit").count() == paid
