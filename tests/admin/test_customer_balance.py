"""The balance popup, and the ledger behind the number."""

from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from customers.models import Customer
from entitlements.ledger import ledger
from entitlements.models import Balance
from entitlements.reset import reset_due
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page
from tests.instants import APRIL_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client, role="Ops")


def bucket_key(who: Customer) -> str:
    return f"s{a.the_subscription(who).pk}"


def set_balance(desk: CustomerDesk, who: Customer, to: str, *, feature: str = "credits", **said: Any) -> Page:
    said = {"bucket": bucket_key(who), "reason": "outage on 3 Mar", **said} if "bucket" not in said else said
    return desk.post("customer_balance", who.pk, feature, to=to, **said)


def test_the_popup_says_granted_used_and_left(desk):
    """A-30"""
    who = a.on(a.pro())
    a.use(who, 28)

    text = desk.get("customer_balance", who.pk, "credits", dialog=True).text

    assert "granted 100 used 28 left 72" in text


def test_the_popup_works_as_a_page_without_scripts(desk):
    who = a.on(a.pro())

    page = desk.get("customer_balance", who.pk, "credits")

    assert "<html" in page.html
    assert 'name="to"' in page.html


def test_setting_a_balance_moves_what_is_left_and_nothing_else(desk):
    """A-30"""
    who = a.on(a.pro())
    a.use(who, 10)

    assert set_balance(desk, who, "80").went_on
    assert set_balance(desk, who, "120").went_on

    row = Balance.objects.get(customer=who)
    assert (row.granted, row.used, row.adjusted, row.left) == (100, 10, 30, 120)


def test_the_edit_ends_with_its_window(desk):
    """A-33"""
    who = a.on(a.pro())
    set_balance(desk, who, "500")

    a.pass_time(who, to=APRIL_1)
    reset_due(now=APRIL_1)

    assert a.left(who, now=APRIL_1) == 100


def test_the_sentence_says_until_when_and_what_comes_after(desk):
    """A-30"""
    who = a.on(a.pro())

    page = desk.get("customer_balance_preview", who.pk, "credits", bucket=bucket_key(who), to="300", dialog=True)

    assert "Until 1 Apr 2026: 300 left; then 100 again. Nothing is charged." in page.text
    assert "Set balance to 300" in page.text


def test_a_negative_balance_of_a_priced_feature_says_what_it_will_cost(desk):
    """A-31"""
    who = a.on(a.plan("calls", a.fee(10), a.allowance(100, of="calls", price="0.10")))

    page = desk.get("customer_balance_preview", who.pk, "calls", bucket=bucket_key(who), to="-25", dialog=True)

    assert "25 units ($2.50) will be charged on the next invoice." in page.text


def test_what_the_popup_said_is_what_the_next_invoice_charges(desk):
    """A-31"""
    who = a.on(a.plan("calls", a.fee(10), a.allowance(100, of="calls", price="0.10")))
    set_balance(desk, who, "-25", feature="calls")

    a.pass_time(who, to=APRIL_1)

    assert a.totals(who) == [1000, 1000 + 250]


def test_a_negative_balance_without_a_price_blocks_and_says_so(desk):
    """A-31"""
    who = a.on(a.pro())

    page = desk.get("customer_balance_preview", who.pk, "credits", bucket=bucket_key(who), to="-25", dialog=True)

    assert "Nothing is charged; use is blocked until then." in page.text


def test_half_a_number_is_no_error_while_typing(desk):
    who = a.on(a.pro())

    page = desk.get("customer_balance_preview", who.pk, "credits", bucket=bucket_key(who), to="-", dialog=True)

    assert page.status == 200
    assert "Enter a number" in page.text


def test_words_instead_of_a_number_are_refused_at_the_field(desk):
    who = a.on(a.pro())

    assert set_balance(desk, who, "many").errors == {"to": ["Enter a number."]}


def test_a_missing_reason_is_refused_at_the_field(desk):
    """A-30: law 10"""
    who = a.on(a.pro())

    page = set_balance(desk, who, "300", bucket=bucket_key(who))

    assert "reason" in page.errors
    assert a.left(who, now=MARCH_16) == 100


def test_a_new_reset_date_ends_this_bucket_only(desk):
    """A-32"""
    who = a.on(a.pro())

    set_balance(desk, who, "300", reset_at="2026-03-20")

    row = Balance.objects.get(customer=who)
    assert row.ends_at.date().isoformat() == "2026-03-20"


def test_the_planned_day_keeps_its_exact_instant(desk):
    """A-32"""
    who = a.on(a.pro())

    set_balance(desk, who, "300", reset_at="2026-04-01")

    assert Balance.objects.get(customer=who).ends_at == APRIL_1


def test_a_past_reset_date_is_refused_at_its_field(desk):
    """A-32"""
    who = a.on(a.pro())

    page = set_balance(desk, who, "300", reset_at="2026-03-02")

    assert page.errors == {"reset_at": ["The reset date has to be in the future."]}


def test_a_lasting_balance_takes_no_reset_date(desk):
    """A-32"""
    who = a.on(a.plan("pro", a.fee(50), a.lasting(200)))

    page = set_balance(desk, who, "300", feature="tokens", reset_at="2026-04-20")

    assert page.errors == {"reset_at": ["This balance never resets, so it takes no reset date."]}


@pytest.mark.parametrize("feature", ["storage", "sso", "rate-limit", "nothing-of-the-sort"])
def test_unlimited_boolean_and_static_features_have_no_popup(desk, feature):
    """A-31"""
    who = a.on(a.plan("pro", a.fee(50), a.allowance(None, of="storage"), a.switch(), a.static()))

    assert desk.get("customer_balance", who.pk, feature, dialog=True).status == 404


def two_buckets() -> Customer:
    who = a.on(a.pro())
    a.enable(who, a.plan("extra", a.fee(5), a.allowance(50), add_on=True))
    return who


def test_with_several_buckets_the_plans_own_is_chosen_first(desk):
    """A-34"""
    who = two_buckets()
    main = who.subscriptions.get(add_on=False)

    page = desk.get("customer_balance", who.pk, "credits")

    assert page.answer.context["form"]["bucket"].value() == f"s{main.pk}"
    assert page.html.count('type="radio"') == 2


def test_the_operator_picks_the_bucket(desk):
    """A-34"""
    who = two_buckets()
    add_on = who.subscriptions.get(add_on=True)

    set_balance(desk, who, "70", bucket=f"s{add_on.pk}", reason="goodwill")

    assert {b.subscription_id: b.left for b in Balance.objects.filter(customer=who)}[add_on.pk] == 70
    assert a.left(who, now=MARCH_16) == 170


def test_a_bucket_that_nobody_used_yet_can_be_edited(desk):
    """P-14: the default product has no rows before its first use."""
    plan = a.default()
    who = a.customer()

    page = set_balance(desk, who, "9", bucket=f"p{plan.pk}", reason="trying out")

    assert page.went_on
    assert a.left(who, now=MARCH_16) == 9


def test_a_missed_reset_does_not_leave_the_edit_on_the_closed_window(desk):
    """A-38"""
    who = a.on(a.free(credits=10))
    a.use(who, 10)
    late = CustomerDesk(desk.client, now=MAY_1, role="Ops")

    assert set_balance(late, who, "30").went_on

    assert a.left(who, now=MAY_1) == 30


def test_the_sum_of_the_ledger_is_the_number_on_the_page(desk):
    """A-37"""
    who = a.on(a.pro())
    a.use(who, 28)
    set_balance(desk, who, "300")
    a.use(who, 5, now=MARCH_16)
    [access] = [f.access for f in desk.page(who).answer.context["page"].features]
    balance = Balance.objects.get(customer=who)

    lines = desk.get("customer_ledger", who.pk, balance.pk).answer.context["lines"]

    assert lines[-1].after == access.remaining == sum(line.amount for line in lines) == 295
    assert ("ops", "outage on 3 Mar") in {(line.who, line.why) for line in lines}
    assert lines == ledger(balance)


def test_the_ledger_of_anothers_balance_is_not_found(desk):
    who, other = a.on(a.pro()), a.customer("Other")

    assert desk.get("customer_ledger", other.pk, Balance.objects.get(customer=who).pk).status == 404


def test_the_edit_stands_in_the_history_with_its_reason(desk):
    """A-30: law 10"""
    who = a.on(a.pro())
    set_balance(desk, who, "300")

    newest = who.operations.newest()[0]

    assert (newest.verb, newest.actor, newest.reason) == ("balance.edited", "ops", "outage on 3 Mar")
    assert Decimal(newest.effects["adjusted"]) == 200


def test_a_dialog_is_told_where_to_go(desk):
    who = a.on(a.pro())

    page = desk.post("customer_balance", who.pk, "credits", to="300", reason="x", bucket=bucket_key(who), dialog=True)

    assert page.answer.headers["HX-Redirect"] == f"/customers/customer/{who.pk}/"
