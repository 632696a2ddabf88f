"""Use that a wallet pays event by event, on plans of billing version 0."""

from dataclasses import replace
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db.models import Sum

from billing_admin.flows.customers import close_customer, deletion_blockers, erase
from billing_admin.flows.enable_plan import CurrencyLocked
from billing_admin.flows.upcoming import upcoming
from billing_admin.flows.use import check_use
from catalog.charges import GRADUATED, PERCENTAGE, Price, Tier
from catalog.items import InvalidItems
from entitlements.balances import Mode
from entitlements.models import UsageEvent
from entitlements.track import KeyReused
from invoicing.models import InvoiceLine, WalletEntry
from invoicing.readings import unbilled_use
from invoicing.wallet import InsufficientFunds, correct, top_up, withdraw
from tests.builders import (
    STAFF,
    allowance,
    customer,
    enable,
    fee,
    filled,
    instantly,
    new_version,
    on,
    pass_time,
    paying_at_once,
    plan,
    preview,
    pro,
    the_subscription,
    totals,
    use,
    wallet_balance,
)
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db

TIERS = Price(model=GRADUATED, tiers=(Tier(Decimal(5), unit=Decimal(3)), Tier(None, unit=Decimal(2))))
CARD = Price(model=PERCENTAGE, percent=Decimal("2.9"), fixed=Decimal("0.30"))


def entries(who):
    rows = WalletEntry.objects.filter(wallet__customer=who).order_by("id")
    return [(row.kind, row.amount) for row in rows]


def put(who, amount, *, now=MARCH_1):
    top_up(who, Decimal(amount), "USD", reference="bank", actor=STAFF, now=now)


# Events


def test_an_event_is_debited_at_once():
    """Y-31"""
    who = paying_at_once(5)

    event = use(who, 3).event

    assert wallet_balance(who) == Decimal("3.5")
    assert event.wallet_entries.get().derivation["sum"] == "3 × $0.50 = $1.50"


def test_insufficient_funds_reject_the_event():
    """Y-31"""
    who = paying_at_once("1.20")

    with pytest.raises(InsufficientFunds) as refusal:
        use(who, 3)

    assert refusal.value.messages == [
        "The wallet has $1.20 and this takes $1.50, so nothing was done. "
        "Top up at least $0.30, on the customer's page or through the API, and try again."
    ]
    assert (UsageEvent.objects.count(), who.balances.aggregate(n=Sum("used"))["n"] or 0) == (0, 0)
    assert wallet_balance(who) == Decimal("1.20")


@pytest.mark.parametrize("mode", Mode)
def test_no_mode_takes_what_the_wallet_does_not_cover(mode):
    """Y-31"""
    with pytest.raises(InsufficientFunds):
        use(paying_at_once("1.20"), 3, mode=mode)


def test_a_rejected_event_leaves_its_key_free():
    """Y-31"""
    who = paying_at_once(1)
    with pytest.raises(InsufficientFunds):
        use(who, 3, key="job-1")
    put(who, 1)

    assert use(who, 3, key="job-1").applied


def test_who_never_topped_up_is_refused():
    """Y-31"""
    with pytest.raises(InsufficientFunds, match=r"The wallet has \$0\.00"):
        use(paying_at_once(0), 1)


def test_a_repeated_key_is_debited_once():
    who = paying_at_once(200, instantly("50"))

    use(who, 1, key="job-1")
    repeated = use(who, 1, key="job-1")

    assert (repeated.applied, wallet_balance(who)) == (False, 150)


def test_a_key_for_another_event_is_debited_once():
    who = paying_at_once(5)
    use(who, 1, key="job-1")

    with pytest.raises(KeyReused):
        use(who, 2, key="job-1")

    assert wallet_balance(who) == Decimal("4.5")


def test_tiers_count_on_from_event_to_event():
    """Y-31"""
    who = paying_at_once(100, instantly(TIERS))

    for amount in (4, 3, 10):
        use(who, amount)

    assert entries(who)[1:] == [("debit", -12), ("debit", -7), ("debit", -20)]


def test_tiers_begin_anew_with_the_next_window():
    """Y-31"""
    who = paying_at_once(100, instantly(TIERS))
    use(who, 10)

    use(who, 1, now=APRIL_16)

    assert entries(who)[-1] == ("debit", -3)


def test_each_event_is_a_transaction_of_a_percentage():
    """Y-31"""
    who = paying_at_once(100, instantly(CARD))

    use(who, 100)
    use(who, 50)

    assert entries(who)[1:] == [("debit", Decimal("-3.20")), ("debit", Decimal("-1.75"))]


def test_what_is_given_back_returns_at_what_it_was_charged():
    who = paying_at_once(100, instantly(TIERS))
    use(who, 7)

    use(who, -4)

    assert entries(who)[1:] == [("debit", -19), ("return", 10)]


def test_units_charged_at_an_older_price_return_at_that_price():
    who = paying_at_once(100, instantly("1"))
    use(who, 5)
    enable(who, the_subscription(who).phases.get().version.plan, instantly("2"), now=MARCH_16)
    use(who, 1, now=MARCH_16)

    use(who, -3, now=MARCH_16)

    assert entries(who)[1:] == [("debit", -5), ("debit", -2), ("return", 4)]


def test_an_event_taken_back_in_parts_returns_what_it_cost_and_no_more():
    who = paying_at_once(100, instantly(CARD))
    use(who, 100)

    for amount in (-40, -40, -20):
        use(who, amount)

    assert wallet_balance(who) == 100


def test_free_units_make_no_entry():
    first_free = Price(model=GRADUATED, tiers=(Tier(Decimal(10)), Tier(None, unit=Decimal(1))))
    who = paying_at_once(0, instantly(first_free))

    assert use(who, 10).applied
    assert entries(who) == []


def test_units_that_staff_gave_are_not_charged():
    who = paying_at_once(5)
    use(who, 2)
    who.balances.update(adjusted=4)  # as an edit leaves it: two units beyond what was used

    use(who, 3)

    assert entries(who)[1:] == [("debit", -1), ("debit", Decimal("-0.5"))]


def test_use_in_a_trial_is_free():
    who = filled(5)
    enable(who, plan("metered", instantly(), billing_version=0, trial_days=14))

    use(who, 3)

    assert check_use(who, "credits", now=MARCH_1, required=Decimal(1_000)).allowed
    assert wallet_balance(who) == 5


def test_an_ordinary_event_reads_no_wallet(django_assert_max_num_queries):
    who = on(pro())
    use(who, 1)

    with django_assert_max_num_queries(12) as queries:
        use(who, 1)

    assert not [query for query in queries.captured_queries if "wallet" in query["sql"]]


# Checks


@pytest.mark.parametrize(("required", "allowed"), [(10, True), (11, False)])
def test_a_check_allows_what_the_wallet_covers(required, allowed):
    """Y-31"""
    access = check_use(paying_at_once(5), "credits", now=MARCH_1, required=Decimal(required))

    assert (access.allowed, access.reason) == (allowed, "ok" if allowed else "insufficient_funds")


def test_a_check_counts_tiers_on():
    who = paying_at_once(25, instantly(TIERS))
    use(who, 7)

    assert check_use(who, "credits", now=MARCH_1, required=Decimal(3)).allowed
    assert not check_use(who, "credits", now=MARCH_1, required=Decimal(4)).allowed


def test_the_answer_of_a_track_says_whether_there_is_money_for_more():
    assert use(paying_at_once("1.50"), 3).access.reason == "insufficient_funds"


def test_a_check_of_an_ordinary_plan_costs_no_more_queries(django_assert_num_queries):
    who = on(pro())
    use(who, 1)

    with django_assert_num_queries(4):
        check_use(who, "credits", now=MARCH_1)


# Invoices


def test_what_the_wallet_paid_is_never_invoiced():
    """Y-31"""
    who = paying_at_once(50, fee(10), instantly())
    use(who, 20)

    pass_time(who, to=MAY_1)

    assert totals(who) == [1000, 1000, 1000]
    assert not InvoiceLine.objects.filter(kind=InvoiceLine.Kind.USAGE).exists()
    assert wallet_balance(who) == 40


def test_the_next_invoice_does_not_tell_of_what_the_wallet_paid():
    """Y-31"""
    who = paying_at_once(50, fee(10), instantly())
    use(who, 20)

    contract = who.subscriptions.live().with_phases().get()
    coming = upcoming(contract, unbilled_use([contract]).get(contract.pk, []))

    assert coming.total == 1000


def test_arrears_beside_the_wallet_are_invoiced_alone():
    """Y-31"""
    later = allowance(None, of="calls", price="0.10")
    who = paying_at_once(50, instantly(), replace(later, unlimited=False))
    use(who, 20)
    use(who, 30, of="calls")

    pass_time(who, to=APRIL_1)

    assert InvoiceLine.objects.filter(kind=InvoiceLine.Kind.USAGE).values_list("key", "amount").get() == ("calls", 300)


@pytest.mark.parametrize("price", ["0.50", Price(model="volume", tiers=(Tier(None, unit=Decimal("0.5")),))])
def test_use_that_is_billed_later_from_now_on_is_billed_without_what_the_wallet_paid(price):
    """Y-31"""
    who = paying_at_once(50, instantly(price))
    use(who, 20)
    later = replace(instantly(price), term="in_arrears")
    enable(who, the_subscription(who).phases.get().version.plan, later, now=MARCH_16)
    use(who, 6, now=MARCH_16)

    pass_time(who, to=APRIL_1)

    billed = InvoiceLine.objects.filter(kind=InvoiceLine.Kind.USAGE).aggregate(total=Sum("amount"))["total"]
    assert (billed, wallet_balance(who)) == (300, 40)


# Plans


def test_a_plan_of_version_0_begins_without_a_gate():
    """Y-13"""
    who = filled(5)
    change = preview(who, plan("metered", fee(10), instantly(), billing_version=0), activation="after_payment")

    assert not change.is_gated


def test_a_line_of_a_period_cannot_bound_what_is_paid_event_by_event():
    with pytest.raises(InvalidItems, match="event by event"):
        plan("metered", instantly(Price(rate=Decimal(1), line_max=Decimal(5))), billing_version=0)


def test_a_plan_with_a_one_time_fee_and_instant_use_is_no_one_off():
    who = paying_at_once(5, fee(10, cadence="P0D", key="setup"), instantly())

    assert not the_subscription(who).phases.get().terms().is_one_off


def test_a_new_version_of_a_version_0_plan_is_checked_by_its_rules():
    """Y-12"""
    metered = plan("metered", instantly(), billing_version=0)

    with pytest.raises(InvalidItems):
        new_version(metered, allowance(100))


def test_a_custom_plan_of_version_0_is_checked_by_its_rules():
    """Y-12"""
    metered = plan("metered", instantly(), billing_version=0)

    with pytest.raises(InvalidItems):
        preview(filled(5), metered, allowance(100))


def test_a_custom_plan_of_version_1_is_never_paid_at_once():
    """Y-10"""
    with pytest.raises(InvalidItems):
        preview(filled(5), pro(), instantly())


# Money that remains


def test_money_in_the_wallet_locks_the_currency():
    euros = plan("euros", fee(10), currency="EUR")
    who = filled(5)

    with pytest.raises(CurrencyLocked):
        preview(who, euros)

    withdraw(who, None, reason="moves to euros", actor=STAFF, now=MARCH_1)
    assert preview(who, euros).total == 1000


def test_a_customer_with_money_in_the_wallet_is_not_deleted():
    """A-52"""
    [blocker] = deletion_blockers(filled("4.25"), now=MARCH_1)

    assert (blocker.kind, blocker.sentence) == ("wallet", "There is $4.25 in the wallet. Pay it out first.")


def test_the_references_of_an_erased_customer_are_scrubbed():
    """A-52"""
    who = customer("Acme Robotics")
    top_up(who, Decimal(5), "USD", reference="wire of Acme Robotics", actor=STAFF, now=MARCH_1)
    withdraw(who, None, reason="closing", actor=STAFF, now=MARCH_1)
    close_customer(who, confirm_name="Acme Robotics", reason="asked to", actor=STAFF, now=MARCH_1)

    erase(who.pk, now=APRIL_16)

    assert WalletEntry.objects.get(kind="top_up").reference == "wire of (erased)"


def test_a_correction_may_not_take_what_is_not_there():
    with pytest.raises(ValidationError):
        correct(paying_at_once(5), Decimal(-6), reason="typo", actor=STAFF, now=MARCH_1)
