"""Money that a customer paid ahead, and what comes off it by hand."""

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from invoicing.models import Wallet, WalletEntry
from invoicing.wallet import (
    BadAmount,
    ForeignWallet,
    InsufficientFunds,
    KeyReused,
    NoWallet,
    ReferenceRequired,
    correct,
    top_up,
    wallet_of,
    withdraw,
)
from tests.builders import STAFF, customer, filled, wallet_balance
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db


def put(who, amount, currency="USD", *, reference="wire 4711", key=None):
    return top_up(who, Decimal(amount), currency, reference=reference, key=key, actor=STAFF, now=MARCH_1)


def take(who, amount, *, reason="asked for it"):
    return withdraw(who, None if amount is None else Decimal(amount), reason=reason, actor=STAFF, now=MARCH_1)


def repair(who, amount, *, reason="counted wrongly"):
    return correct(who, Decimal(amount), reason=reason, actor=STAFF, now=MARCH_1)


@pytest.mark.parametrize(
    ("sent", "currency", "stored"),
    [
        ("17.9699999999999988631316", "EUR", "17.97"),
        ("0.005", "USD", "0.01"),
        ("1200.5", "JPY", "1201"),
        ("0.0005", "KWD", "0.001"),
    ],
)
def test_a_top_up_is_rounded_to_the_minor_unit_as_it_comes_in(sent, currency, stored):
    assert put(customer(), sent, currency).entry.amount == Decimal(stored)


def test_the_same_key_counts_once():
    who = customer()

    first, second = put(who, 50, key="tx-1"), put(who, 50, key="tx-1")

    assert (first.applied, second.applied, second.entry) == (True, False, first.entry)
    assert wallet_balance(who) == 50


@pytest.mark.parametrize(("amount", "currency"), [(51, "USD"), (50, "EUR")])
def test_the_same_key_for_another_top_up_is_a_conflict(amount, currency):
    who = customer()
    put(who, 50, key="tx-1")

    with pytest.raises(KeyReused) as refusal:
        put(who, amount, currency, key="tx-1")

    assert refusal.value.code == "idempotency_conflict"


def test_another_customer_may_use_the_same_key():
    put(customer("Acme"), 50, key="tx-1")

    assert put(customer("Globex"), 70, key="tx-1").applied


def test_a_top_up_needs_a_reference():
    with pytest.raises(ReferenceRequired):
        put(customer(), 50, reference="  ")


@pytest.mark.parametrize("amount", ["0", "-5", "0.004", "NaN", "1000000000000"])
def test_what_is_no_amount_above_zero_is_not_topped_up(amount):
    with pytest.raises(BadAmount):
        put(customer(), amount)


def test_the_first_top_up_settles_the_currency():
    who = customer()
    put(who, 50, "EUR")
    who.refresh_from_db()

    assert who.currency == "EUR"
    with pytest.raises(ForeignWallet):
        put(who, 50, "USD")


def test_a_closed_customer_is_not_topped_up():
    who = customer()
    who.closed_at = MARCH_1
    who.save()

    with pytest.raises(ValidationError, match="closed"):
        put(who, 5)


def test_paying_out_takes_money_with_its_reason():
    who = filled(50)

    entry = take(who, "20.005", reason="contract ended")

    assert (entry.amount, entry.balance_after) == (Decimal("-20.01"), Decimal("29.99"))
    assert entry.operation.reason == "contract ended"


def test_paying_out_everything_leaves_nothing_behind_the_minor_unit():
    who = filled("10")
    repair(who, "-0.000000000001")

    take(who, None)

    assert wallet_balance(who) == 0


def test_more_than_there_is_is_not_paid_out():
    who = filled(5)

    with pytest.raises(InsufficientFunds) as refusal:
        take(who, "5.5")

    assert refusal.value.messages == ["The wallet has $5.00 and this takes $5.50, so nothing was done."]


@pytest.mark.parametrize(("amount", "after"), [("-4.000000000001", "5.999999999999"), ("0.25", "10.25")])
def test_a_correction_is_exact_in_both_directions(amount, after):
    assert repair(filled(10), amount).balance_after == Decimal(after)


def test_a_correction_does_not_reach_below_zero():
    with pytest.raises(InsufficientFunds):
        repair(filled(10), "-10.01")


@pytest.mark.parametrize("act", [take, repair])
def test_money_that_goes_by_hand_needs_a_reason(act):
    with pytest.raises(ValidationError) as refusal:
        act(filled(10), "1", reason=" ")

    assert refusal.value.code == "reason_required"


@pytest.mark.parametrize("act", [take, repair])
def test_who_has_no_wallet_has_nothing_to_pay_out_or_correct(act):
    with pytest.raises(NoWallet):
        act(customer(), "1")


def test_each_act_stands_in_the_journal():
    who = filled(10)
    take(who, 1)
    repair(who, -2)

    verbs = list(who.operations.order_by("id").values_list("verb", "summary"))

    assert verbs == [
        ("wallet.topped_up", "Topped up the wallet by $10.00"),
        ("wallet.paid_out", "Paid out of the wallet $1.00"),
        ("wallet.corrected", "Corrected the wallet by −$2.00"),
    ]


def test_a_repeated_top_up_is_one_line_of_the_journal():
    who = customer()
    put(who, 50, key="tx-1")
    put(who, 50, key="tx-1")

    assert who.operations.count() == 1


def test_the_wallet_to_show_is_the_one_with_money_in_it():
    who = filled(10)
    Wallet.objects.create(customer=who, currency="EUR")

    assert wallet_of(who).currency == "USD"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "top_up", "amount": -1, "balance_after": 9},
        {"kind": "withdrawal", "amount": -11, "balance_after": -1},
        {"kind": "debit", "amount": -1, "balance_after": 9},
    ],
    ids=["a top-up that takes", "below zero", "a debit without its event"],
)
def test_the_database_refuses_entries_that_cannot_be(wrong):
    who = filled(10)
    operation = who.operations.get()

    with pytest.raises(IntegrityError), transaction.atomic():
        WalletEntry.objects.create(wallet=who.wallets.get(), operation=operation, at=MARCH_1, **wrong)
