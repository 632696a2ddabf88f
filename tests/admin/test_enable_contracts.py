"""Enable Product for what is bought, tried out, gated and discounted."""

from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client

from catalog.models import Coupon, Plan
from customers.models import AppliedCoupon, Subscription
from tests.admin.enable_desk import Desk
from tests.builders import (
    allowance,
    customer,
    enable,
    fee,
    on,
    overuse,
    pay_all,
    plan,
    prepaid,
    pro,
    the_subscription,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def packs():
    return plan("pro", fee(20), prepaid())


def new(client: Client, key: str = "pro", *, role: str = "Sales engineer", now=MARCH_1) -> Desk:
    return Desk(client, customer(), now=now, role=role).open(plan=key)


# Prepaid units


def test_prepaid_units_are_typed_in_total_and_say_what_they_come_to(client: Client):
    """A-24"""
    packs()

    desk = new(client).type(**{"bought-credits": "250"}).preview()

    [row] = desk.answer.context["page"].units
    assert row.words == "300 units = 3 packs of 100 × $10.00 = $30.00"
    assert desk.rows.now.total == "$50.00"


def test_units_that_were_bought_stand_in_the_field_and_more_of_them_cost_their_share(client: Client):
    """A-24: 200 more for half of March."""
    who = customer()
    enable(who, packs(), bought={"credits": Decimal(300)})
    pay_all(who)

    desk = Desk(client, who, now=day("2026-03-16T12:00")).open(plan="pro")
    assert desk.fields["bought-credits"] == "300"
    desk.type(**{"bought-credits": "500"}).preview()

    assert desk.rows.now.total == "$10.00"
    desk.enable()
    assert the_subscription(who).phase_at(MARCH_16.replace(day=17)).bought == {"credits": "500"}


def test_units_that_are_no_number_are_refused_at_their_field(client: Client):
    packs()

    desk = new(client).type(**{"bought-credits": "many"}).preview()

    assert "A number of units, 0 or more." in desk.text
    assert desk.rows is None


def test_while_typing_only_the_words_of_the_units_are_redrawn(client: Client):
    packs()
    desk = new(client).type(**{"bought-credits": "300"})

    html = desk.live_preview()

    assert 'id="units-words-credits" aria-live="polite" hx-swap-oob="true"' in html
    assert 'name="bought-credits"' not in html


# The gate


def test_a_first_plan_waits_for_its_payment_and_says_until_when(client: Client):
    """Y-23"""
    pro()

    desk = new(client)
    assert "Waits for the payment until 2 Mar 2026, 00:00 UTC" in desk.rows.waits
    desk.enable()

    assert "Pro starts when $50.00 is paid." in desk.message
    assert Subscription.objects.get().state == "pending_payment"


def test_access_before_the_payment_takes_a_reason(client: Client):
    """Y-25"""
    pro()
    desk = new(client).type(activation="now").preview()
    assert desk.rows.waits == ""

    assert "Give a reason for access before the first payment" in desk.enable().text
    desk.enable(reason="Wire is on its way")

    assert Subscription.objects.get().state == "active"


def test_access_before_the_payment_is_not_for_everybody(client: Client):
    """A-53"""
    pro()
    sellers = Group.objects.get(name="Sales engineer")
    sellers.permissions.remove(Permission.objects.get(codename="activate_unpaid"))

    desk = new(client)
    assert 'id="activation-now"' not in desk.text
    desk.type(activation="now").preview().enable(reason="I want to")

    assert Subscription.objects.get().state == "pending_payment"


def test_an_upgrade_of_a_paid_plan_asks_nothing_about_access(client: Client):
    """Y-23"""
    who = on(pro())
    plan("team", fee(200), allowance(500))

    desk = Desk(client, who, now=MARCH_16).open(plan="team")

    assert (desk.rows.could_wait, desk.rows.waits) == (False, "")


def test_net_terms_of_this_contract_open_the_gate(client: Client):
    """Y-54"""
    pro()

    new(client).type(net_terms_days="30").preview().enable()

    subscription = Subscription.objects.get()
    assert (subscription.state, subscription.net_terms_days) == ("active", 30)


def test_periods_may_count_from_a_day_in_the_past(client: Client):
    """Y-21, Y-22: 16 of 31 days, or all of it."""
    pro()
    desk = new(client, now=MARCH_16).type(anchor_on="2026-03-01").preview()
    assert (desk.rows.now.total, desk.rows.next_at) == ("$25.81", APRIL_1)

    assert desk.type(first_period="full").preview().rows.now.total == "$50.00"


def test_a_day_to_come_is_refused_at_its_field(client: Client):
    """Y-21"""
    pro()

    desk = new(client).type(anchor_on="2026-04-01").preview()

    assert "not from one to come" in desk.answer.context["form"].errors["anchor_on"][0]


# Trials


def test_a_trial_says_when_it_ends_and_what_follows(client: Client):
    """A-27"""
    plan("pro", fee(20), allowance(100), trial_days=14)

    desk = new(client)

    assert desk.rows.waits == ("Trial until 15 Mar 2026: use is free; then the first period begins and is billed.")
    assert (desk.rows.now.total, desk.rows.next_invoice.total) == ("$0.00", "$20.00")


def test_the_days_of_a_trial_may_be_changed(client: Client):
    """A-27"""
    plan("pro", fee(20), allowance(100), trial_days=14)

    new(client).type(trial_days="30").preview().enable()

    assert Subscription.objects.get().trial_ends_at == day("2026-03-31")


def test_no_trial_is_0_days_and_is_charged(client: Client):
    """A-27"""
    plan("pro", fee(20), allowance(100), trial_days=14)

    desk = new(client).type(trial_days="0").preview()

    assert desk.rows.now.total == "$20.00"


# Coupons


def half_off() -> Coupon:
    return Coupon.objects.create(code="half", name="Half off", kind="percent", percent=50, duration="forever")


def test_a_coupon_of_the_act_shows_in_the_documents(client: Client, django_user_model):
    """A-41, A-44"""
    pro()
    half_off()
    desk = new(client, role="Admin").type(coupon="half").preview()

    [discount] = desk.rows.now.sums
    assert (discount.words, discount.amount, desk.rows.now.total) == ("Half off", "−$25.00", "$25.00")
    assert desk.rows.next_invoice.total == "$25.00"
    desk.enable()

    assert AppliedCoupon.objects.get().coupon.code == "half"


def test_a_coupon_that_there_is_none_of_is_refused_at_its_field(client: Client):
    """A-43"""
    pro()

    desk = new(client, role="Admin").type(coupon="nothing").preview()

    assert desk.answer.context["form"].errors["coupon"]


# The year after


def test_the_next_twelve_invoices_stand_below_the_next_one(client: Client):
    pro()

    desk = new(client)

    assert len(desk.rows.forecast) == 12
    assert (desk.rows.forecast[0].at, desk.rows.forecast[0].amount, desk.rows.year) == (APRIL_1, "$50.00", "$600.00")


def test_use_is_assumed_at_the_rate_of_today(client: Client):
    """150 units in 15 days: 160 until April, 300 in it, and 100 of each window are included."""
    who = on(plan("pro", fee(50), allowance(100, price="0.10")))
    overuse(who, 150)
    plan("team", fee(200), allowance(100, price="0.10"))

    desk = Desk(client, who, now=MARCH_16).open(plan="team")

    assert [row.amount for row in desk.rows.forecast[:2]] == ["$206.00", "$220.00"]
    assert Plan.objects.count() == 2
