"""What a phase brings again and again is written with it."""

from decimal import Decimal

import pytest

from billing_admin.flows.gate import expire
from billing_admin.flows.plan_change import Activation
from customers.models import Customer, Phase
from tests.builders import (
    allowance,
    assigned,
    customer,
    enable,
    fee,
    in_arrears,
    on,
    paid_seats,
    plan,
    prepaid,
    pro,
    special_price,
)
from tests.instants import MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def brought(who: Customer) -> tuple[int, int, int]:
    phase = Phase.objects.kept().filter(subscription__customer=who).latest("id")
    return phase.monthly, phase.fees, phase.fees_between


def test_a_monthly_fee_is_the_same_in_a_month_and_at_a_renewal():
    assert brought(on(pro(50))) == (5000, 5000, 0)


def test_a_yearly_fee_is_a_twelfth_of_it_in_a_month():
    assert brought(on(plan("pro", fee(1200, cadence="P1Y"), cadence="P1Y"))) == (10_000, 120_000, 0)


def test_a_fee_that_is_billed_inside_the_period_is_told_apart():
    terms = plan("pro", fee(1200, cadence="P1Y"), fee(10, key="support"), cadence="P1Y")

    assert brought(on(terms)) == (11_000, 121_000, 1000)


def test_a_quantity_multiplies():
    who = customer()
    enable(who, pro(50), quantity=3)

    assert brought(who) == (15_000, 15_000, 0)


def test_bought_packs_count_and_included_units_do_not():
    who = customer()
    enable(who, plan("pro", fee(50), prepaid(100, price="10", pack=100)), bought={"credits": Decimal(300)})

    assert brought(who) == (7000, 7000, 0)


def test_fees_in_arrears_count_and_set_up_fees_do_not():
    terms = plan("pro", in_arrears(40), fee(500, cadence="P0D", key="setup"))

    assert brought(on(terms)) == (4000, 4000, 0)


def test_use_does_not_count_and_a_level_is_not_part_of_what_a_phase_brings_by_itself():
    assert brought(on(plan("pro", fee(50), allowance(100, price="0.10"), paid_seats(2)))) == (5000, 5000, 0)


def test_a_commitment_counts_where_it_is_more_than_the_fees():
    assert brought(on(plan("pro", fee(50), allowance(0, price="0.10"), commitment="500"))) == (50_000, 5000, 0)


def test_a_special_price_is_no_other_phase():
    who = on(pro(50))
    special_price(who, 3000)

    assert brought(who) == (5000, 5000, 0)


def test_what_is_never_invoiced_brings_nothing():
    who = customer()
    enable(who, assigned())

    assert brought(who) == (0, 0, 0)


def test_yen_have_no_minor_units():
    assert brought(on(plan("pro", fee(1000), currency="JPY"))) == (1000, 1000, 0)


def test_a_change_within_a_trial_changes_what_follows_it_too():
    terms = plan("pro", fee(50), trial_days=14)
    who = customer()
    enable(who, terms)
    enable(who, terms, fee(80), now=day("2026-03-05"))

    kept = Phase.objects.kept().filter(subscription__customer=who, ends_at=None)
    assert [phase.monthly for phase in kept] == [8000]


def test_a_contract_whose_first_invoice_nobody_paid_never_brought_anything():
    who = customer()
    enable(who, pro(50), activation=Activation.AFTER_PAYMENT)

    assert expire(who.invoices.get(), now=MARCH_16)

    assert [phase.monthly for phase in Phase.objects.filter(subscription__customer=who)] == [0]
    assert who.subscriptions.get().started_at == MARCH_1
