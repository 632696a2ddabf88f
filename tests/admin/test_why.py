"""The page that tells why: the story in words, each number with the rows behind it."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from customers.models import Customer
from entitlements.grant import grant
from entitlements.override import override
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def told(client: Client, who: Customer, *, now: datetime = MARCH_16, dialog: bool = False, **asked: Any) -> Page:
    asked = {"feature": "credits"} | asked
    return CustomerDesk(client, now=now).get("customer_why", who.pk, dialog=dialog, **asked)


def given(who: Customer, value: Any, **more: Any):
    options = {"effective_until": APRIL_1, "reason": "migration", "actor": a.STAFF, "now": MARCH_1} | more
    return override(who, a.feature("credits"), value, **options)


def test_a_denied_check_is_told_with_its_limit_its_use_and_what_would_allow_it(client):
    """Y-38, L-35"""
    who = a.on(a.pro(credits=100))
    a.team(credits=500)
    a.use(who, 98)

    page = told(client, who, required="5")

    assert "Denied limit_reached now 5 asked for, 2 left, and the limit is hard. It resets on 1 Apr 2026." in page.text
    assert "What would allow it: Team" in page.text
    assert "3 of the 5 asked for fit in none of them." in page.text


def test_each_number_leads_to_the_rows_behind_it(client):
    """A-37"""
    pro = a.pro(credits=100)
    who = a.on(pro)
    a.use(who, 40)
    row = given(who, Decimal(500))
    balance = who.balances.get(override=None)

    html = told(client, who).html

    assert f"/catalog/plan/{pro.pk}/change/?version=1" in html
    assert f"/customers/customer/{who.pk}/ledger/{balance.pk}/" in html
    assert f"/customers/customer/{who.pk}/events/?feature=credits&amp;since=2026-03-01&amp;until=2026-03-16" in html
    assert "shown=all" in html and row.reason in html


def test_overrides_say_what_they_do_instead_of_what_and_until_when(client):
    """L-11, L-33"""
    who = a.on(a.pro(credits=100))
    given(who, Decimal(30), subscription=a.the_subscription(who))
    given(who, Decimal(500), effective_until=None)

    text = told(client, who).text

    assert "Both levels are overridden." in text
    assert "30 instead of 100" in text and "has no say: the customer's override decides" in text
    assert "500 instead of 30 of the customer adds 400" in text and "permanent" in text


def test_balances_stand_in_the_order_of_the_burn_with_what_each_would_give(client):
    """P-38"""
    who = a.on(a.pro(credits=100))
    grant(who, a.feature("credits"), Decimal(40), ends_at=day("2026-03-20"), label="Case 412", now=MARCH_1)

    text = told(client, who, required="60").text

    assert text.index("Case 412") < text.index("Pro", text.index("Balances, in the order"))
    assert "60 asked for, 140 left: it fits." in text


def test_an_earlier_instant_is_told_as_it_was_answered_then(client):
    """A-37"""
    who = a.on(a.pro(credits=100))
    a.use(who, 40, now=day("2026-03-05"))
    a.use(who, 60, now=day("2026-03-10"))

    then = told(client, who, required="20", at="2026-03-06T00:00")

    assert "Allowed ok as it was answered on 6 Mar 2026" in then.text
    assert "20 asked for, 60 left: it fits." in then.text
    assert "Denied" in told(client, who, required="20").text


@pytest.mark.parametrize(
    ("at", "why"),
    [
        ("2027-01-01T00:00", "This instant lies in the future."),
        ("2020-01-01T00:00", "is a customer only since 1 Mar 2026"),
        ("yesterday", "Enter a valid date/time."),
    ],
)
def test_an_instant_that_cannot_be_told_is_refused_beside_the_form(client, at, why):
    page = told(client, a.on(a.pro()), at=at)

    assert page.status == 200
    assert why in page.text


def test_units_that_are_no_number_are_refused_beside_the_form(client):
    assert "Enter a number." in told(client, a.on(a.pro()), required="many").text


def test_without_a_feature_the_page_asks_for_one(client):
    page = told(client, a.on(a.pro()), feature="")

    assert "Choose a feature" in page.text
    assert not page.answer.context["form"].errors


def test_a_feature_in_no_plan_names_the_plans_without_it(client):
    """L-32"""
    who = a.on(a.pro())
    a.feature("sso", type="boolean")

    text = told(client, who, feature="sso").text

    assert "not_in_plan" in text and "No plan in force mentions Sso." in text and "In force: Pro" in text


def test_whoever_has_nothing_is_told_so(client):
    """L-32"""
    a.feature("credits")

    text = told(client, a.customer()).text

    assert "no_plan" in text and "No plan is in force, and there is no default product." in text


def test_the_default_product_is_named_as_such(client):
    a.default(a.allowance(5))

    assert "Community v1 default product 5" in told(client, a.customer()).text


def test_a_number_of_two_plans_says_which_counts(client):
    """P-20"""
    who = a.on(a.plan("pro", a.fee(50), a.static("100")))
    a.enable(who, a.assigned("partner", a.static("250")))

    text = told(client, who, feature="rate-limit").text

    assert "The largest number counts. 100 · 250" in text


def test_the_dialog_is_the_story_alone(client):
    page = told(client, a.on(a.pro()), dialog=True)

    assert "desk-dialog-title" in page.html and "<html" not in page.html


def test_every_feature_of_the_customers_page_leads_to_its_story(client):
    who = a.on(a.pro())

    html = CustomerDesk(client).page(who).html

    assert f"/customers/customer/{who.pk}/why/?feature=credits" in html


def test_nobody_sees_it_without_the_permission_to_see_customers(client):
    """A-53"""
    who = a.on(a.pro())
    client.force_login(User.objects.create_user("blind", is_staff=True))

    assert client.get(f"/customers/customer/{who.pk}/why/?feature=credits").status_code == 403


def test_events_are_only_linked_for_those_who_may_see_them(client):
    """A-53"""
    who = a.on(a.pro())
    a.use(who, 1)
    user = User.objects.create_user("half", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_customer"))
    client.force_login(user)

    html = client.get(f"/customers/customer/{who.pk}/why/?feature=credits").content.decode()

    assert "/events/" not in html


def test_a_closed_customer_is_told_to_hold_nothing(client):
    who = a.customer()
    a.default(a.allowance(5))
    Customer.objects.filter(pk=who.pk).update(closed_at=day("2026-03-10"))

    assert "no_plan" in told(client, who).text
    assert "Allowed" in told(client, who, at="2026-03-09T00:00").text


def test_the_page_takes_few_queries(client, django_assert_max_num_queries):
    who = a.on(a.pro())
    given(who, Decimal(500))
    desk = CustomerDesk(client, now=MARCH_16)
    desk.get("customer_why", who.pk, feature="credits", at="2026-03-10T00:00")

    with django_assert_max_num_queries(20):
        desk.get("customer_why", who.pk, feature="credits")
    with django_assert_max_num_queries(25):
        desk.get("customer_why", who.pk, feature="credits", at="2026-03-10T00:00")
