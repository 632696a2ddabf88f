"""Coupons in the desk: the list, making and changing one, its promo codes, and adding it to a customer."""

from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.urls import reverse

from billing_admin.flows.rewards import give_invoice_credit
from catalog.models import Coupon, PromoCode
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.flows.coupon_world import apply, coupon, credit, fixed, percent
from tests.instants import APRIL_1, MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def typed(**said: Any) -> dict[str, Any]:
    """What the form sends for a new percent coupon, with other words for some fields."""
    return {
        "name": "Launch",
        "kind": "percent",
        "percent": "20",
        "duration": "repeating",
        "periods": "3",
        "currency": "USD",
        **said,
    }


# The list and the page ------------------------------------------------------------------------------------------------


def test_the_list_says_what_each_coupon_gives_how_often_and_its_state(desk: CustomerDesk):
    apply(a.customer(), percent(20, name="Launch", max_redemptions=1))
    coupon(Coupon.Kind.PERCENT, name="Spring", percent=Decimal(5), duration="once", redeem_by=MARCH_16)

    page = desk.get("catalog_coupon_changelist").text

    assert "Launch launch 20 % off for ever 1 of 1 Used up" in page
    assert "Spring spring 5 % off one invoice 0 Expired" in page


def test_a_coupon_is_found_by_its_promo_code(desk: CustomerDesk):
    one = percent(name="Launch")
    PromoCode.objects.create(coupon=one, code="HELLO")
    percent(name="Other")

    page = desk.get("catalog_coupon_changelist", q="hello").text

    assert "Launch" in page and "Other" not in page


def test_the_list_takes_few_queries(desk: CustomerDesk, django_assert_max_num_queries: Any):
    for _ in range(8):
        apply(a.customer(), percent())

    with django_assert_max_num_queries(9):
        desk.get("catalog_coupon_changelist")


def test_a_coupon_is_made_with_the_fields_of_its_kind(desk: CustomerDesk):
    """A-45"""
    made = desk.post("catalog_coupon_add", **typed(amount="5", lasts_days="30"))

    one = Coupon.objects.get()
    assert made.went_on
    assert (one.code, one.percent, one.periods, one.amount, one.lasts_days) == ("launch", 20, 3, None, None)


def test_an_amount_is_typed_in_major_units(desk: CustomerDesk):
    desk.post("catalog_coupon_add", **typed(kind="fixed", amount="12.50", duration="once"))

    assert Coupon.objects.get().amount == 1250


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"percent": "120"}, "percent"),
        ({"percent": ""}, "percent"),
        ({"periods": "0"}, "periods"),
        ({"name": ""}, "name"),
        ({"kind": "fixed", "amount": "-1"}, "amount"),
        ({"kind": "feature_grant", "units": "5"}, "feature"),
        ({"kind": "free_product"}, "free_plan"),
        ({"code": "Not good"}, "code"),
        ({"redeem_by": "2026-03-01T00:00"}, "redeem_by"),
        ({"max_redemptions": "0"}, "max_redemptions"),
    ],
)
def test_a_wrong_field_is_named_at_its_place(desk: CustomerDesk, said: dict[str, str], field: str):
    page = desk.post("catalog_coupon_add", **typed(**said))

    assert list(page.errors) == [field]
    assert not Coupon.objects.exists()


def test_a_code_that_is_taken_is_refused(desk: CustomerDesk):
    percent(name="Launch")

    assert desk.post("catalog_coupon_add", **typed(code="launch")).errors == {"code": ["The code 'launch' is taken."]}


def test_what_a_coupon_gives_is_fixed_once_somebody_has_it(desk: CustomerDesk):
    one = percent(20, name="Launch")
    apply(a.customer(), one)

    saved = desk.post("catalog_coupon_change", one.pk, **typed(name="Launch 2026", percent="90", max_redemptions="5"))

    one.refresh_from_db()
    assert saved.went_on
    assert (one.name, one.percent, one.max_redemptions) == ("Launch 2026", 20, 5)


def test_a_coupon_that_nobody_has_can_be_changed(desk: CustomerDesk):
    one = percent(20, name="Launch")

    desk.post("catalog_coupon_change", one.pk, **typed(code="launch", percent="25"))

    one.refresh_from_db()
    assert (one.percent, one.duration, one.periods) == (25, "repeating", 3)


def test_the_page_says_who_has_it_and_what_is_left(desk: CustomerDesk):
    one = percent(20, name="Launch", duration="repeating", periods=3)
    apply(a.on(a.pro()), one)

    page = desk.get("catalog_coupon_change", one.pk).text

    assert "Acme Robotics 3 invoices left ops, 1 Mar 2026" in page


def test_a_promo_code_is_added_and_switched_off(desk: CustomerDesk):
    one = percent(name="Launch")

    desk.post("catalog_coupon_promo_code", one.pk, code="hello", max_redemptions="5")
    promo = one.promo_codes.get()
    desk.post("catalog_coupon_promo_turn", one.pk, promo.pk)

    promo.refresh_from_db()
    assert (promo.code, promo.max_redemptions, promo.is_active) == ("HELLO", 5, False)


def test_a_promo_code_that_is_taken_is_refused(desk: CustomerDesk):
    percent(name="Hello")

    page = desk.post("catalog_coupon_promo_code", percent().pk, code="hello")

    assert page.errors == {"code": ["The code HELLO is taken."]}


def test_an_archived_coupon_can_be_restored(desk: CustomerDesk):
    one = percent()

    desk.post("catalog_coupon_archive", one.pk)
    one.refresh_from_db()
    gone = one.archived_at
    desk.post("catalog_coupon_restore", one.pk)

    one.refresh_from_db()
    assert (gone, one.archived_at) == (MARCH_16, None)


# On a customer --------------------------------------------------------------------------------------------------------


def test_a_coupon_is_added_to_a_customer(desk: CustomerDesk):
    """A-44"""
    who, one = a.on(a.pro(50)), percent(20, name="Launch", duration="repeating", periods=2)

    added = desk.post("customer_coupon", who.pk, code="launch", at="next_invoice", reason="trade fair")

    page = desk.page(who).text
    assert added.went_on
    assert "Launch 20 % off · 2 invoices left" in page and "“trade fair”" in page
    assert [row.reason for row in one.applied.all()] == ["trade fair"]


def test_the_dialog_shows_the_next_invoice_without_and_with_the_coupon(desk: CustomerDesk):
    """A-44"""
    who = a.on(a.pro(50))
    percent(20, name="Launch")

    page = desk.get("customer_coupon_preview", who.pk, dialog=True, code="launch", at="next_invoice").text

    assert "1 Apr 2026 Pro $50.00 $40.00" in page
    assert "Add Launch" in page


def test_the_dialog_says_why_a_coupon_is_refused(desk: CustomerDesk):
    """A-43"""
    who = a.on(a.pro(50))
    fixed(300, currency="EUR", name="Euro")

    page = desk.get("customer_coupon_preview", who.pk, dialog=True, code="euro", at="next_invoice").text

    assert "Euro is in EUR, but this customer is billed in USD." in page


def test_a_refused_coupon_stays_in_the_dialog_with_its_sentence(desk: CustomerDesk):
    """A-43"""
    who, one = a.on(a.pro(50)), percent(name="Launch")
    apply(who, one)

    page = desk.post("customer_coupon", who.pk, dialog=True, code="launch", at="next_invoice")

    assert page.status == 200
    assert "This customer has Launch already." in page.text


def test_an_unknown_code_is_named_at_its_field(desk: CustomerDesk):
    """A-43"""
    page = desk.post("customer_coupon", a.on(a.pro()).pk, code="nothing", at="next_invoice")

    assert page.errors == {"code": ["There is no coupon or promo code 'nothing'."]}


def test_a_coupon_for_the_next_plan_says_so(desk: CustomerDesk):
    """A-44"""
    who = a.customer()
    percent(name="Launch")

    desk.post("customer_coupon", who.pk, code="launch", at="enable")

    assert "begins with the next plan" in desk.page(who).text


def test_a_coupon_is_removed_from_a_customer(desk: CustomerDesk):
    """A-44"""
    who = a.on(a.pro(50))
    applied = apply(who, percent(name="Launch"))

    desk.post("customer_coupon_remove", who.pk, applied.public_id, reason="by mistake")

    applied.refresh_from_db()
    assert applied.removed_at == MARCH_16
    assert "Launch 20 % off" not in desk.page(who).text.split("Notes")[0].split("Rewards")[1]


def test_what_is_used_up_no_longer_shows(client: Client):
    who = a.on(a.pro(50))
    apply(who, percent(20, name="Launch", duration="once"), now=MARCH_16)
    a.pass_time(who, to=APRIL_1)

    page = CustomerDesk(client, now=APRIL_1).page(who).text

    assert "Launch" not in page.split("Rewards")[1].split("Notes")[0]


def test_invoice_credits_show_what_is_left_of_them(client: Client):
    who = a.on(a.pro(50))
    give_invoice_credit(
        who, amount=8000, currency="USD", label="Goodwill", reason="outage", actor=a.STAFF, now=MARCH_16
    )
    apply(who, credit(2000, name="Starter"), now=MARCH_16)
    a.pass_time(who, to=APRIL_1)

    page = CustomerDesk(client, now=APRIL_1).page(who).text

    assert "Goodwill $30.00 of $80.00 left for invoices" in page
    assert "Starter $20.00 for invoices · $20.00 left" in page


def test_a_bonus_stands_under_its_feature(desk: CustomerDesk):
    """P-32"""
    who = a.on(a.pro(credits=100))
    gift = coupon(
        Coupon.Kind.FEATURE_GRANT, name="Support case 412", feature=a.feature(), units=Decimal(40), lasts_days=30
    )
    apply(who, gift)

    page = desk.page(who).text

    assert "140 of 140 left" in page
    assert "Support case 412 bonus 40 left until 31 Mar 2026" in page


def test_the_customers_page_takes_few_more_queries_with_many_coupons(
    desk: CustomerDesk, django_assert_max_num_queries: Any
):
    who = a.on(a.pro(50))
    for _ in range(6):
        apply(who, percent(5, duration="repeating", periods=3))
        apply(who, credit(100))
    url = reverse("admin:customers_customer_change", args=[who.pk])
    desk.page(who)

    with time_machine.travel(MARCH_16, tick=False), django_assert_max_num_queries(45):
        desk.client.get(url)


# Who may --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["Read-only"])
def test_adding_and_removing_takes_its_permission(client: Client, role: str):
    """A-53"""
    who = a.on(a.pro(50))
    applied = apply(who, percent(name="Launch"))
    desk = CustomerDesk(client, role=role)

    codes = {
        desk.get("customer_coupon", who.pk).status,
        desk.get("customer_coupon_preview", who.pk, code="launch").status,
        desk.post("customer_coupon", who.pk, code="launch", at="enable").status,
        desk.post("customer_coupon_remove", who.pk, applied.public_id).status,
    }

    assert codes == {403}
    assert "Add coupon" not in desk.page(who).text


def test_making_coupons_is_not_for_ops(client: Client):
    """A-53"""
    one = percent(name="Launch")
    desk = CustomerDesk(client, role="Ops")

    codes = [
        desk.get("catalog_coupon_add").status,
        desk.post("catalog_coupon_change", one.pk, **typed()).status,
        desk.post("catalog_coupon_archive", one.pk).status,
        desk.post("catalog_coupon_promo_code", one.pk, code="x").status,
    ]

    assert codes == [403] * 4
    assert desk.get("catalog_coupon_change", one.pk).status == 200
