"""What the customer's page says of contracts that wait, are on trial, have seats or packs; and the invoices to come."""

from dataclasses import replace
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from billing_admin.flows.cancel import cancel
from billing_admin.flows.plan_change import Activation
from customers.models import Subscription
from tests.admin.customer_desk import CustomerDesk
from tests.admin.enable_desk import Desk, subscription_page
from tests.builders import (
    STAFF,
    allowance,
    customer,
    enable,
    fee,
    on,
    overuse,
    paid_seats,
    pay_all,
    plan,
    prepaid,
    pro,
    the_subscription,
    totals,
    use,
)
from tests.flows.deal_world import deal_of, done, said
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db
MID_MARCH = day("2026-03-16T12:00")  # half of March


def page_of(client: Client, who, *, now=MARCH_16, role="Admin"):
    return CustomerDesk(client, now=now, role=role).page(who)


def waiting(client: Client):
    who = customer()
    enable(who, pro(), activation=Activation.AFTER_PAYMENT)
    return who


# Waiting for a payment


def test_a_plan_that_waits_for_its_payment_says_so_with_its_links(client: Client):
    """A-50, Y-23"""
    who = waiting(client)

    page = page_of(client, who, now=MARCH_1)

    [row] = page.answer.context["waiting"]
    invoice = who.invoices.get()
    assert (row.title, row.invoice, row.due, row.until) == ("API · Pro", "ACME-0001", 5000, day("2026-03-02"))
    assert row.pay_link.endswith(f"/i/{invoice.token}")
    assert row.activate_url and row.pay_url
    assert row.give_up_url == subscription_page("cancel_subscription", Subscription.objects.get())
    assert "Pending payment" in page.html


def test_whoever_may_only_look_sees_no_act_of_it(client: Client):
    """A-53"""
    [row] = page_of(client, waiting(client), now=MARCH_1, role="Read-only").answer.context["waiting"]

    assert (row.activate_url, row.pay_url, row.give_up_url) == ("", "", "")


def test_the_free_plan_stands_beside_the_paid_one_that_waits(client: Client):
    """A-50"""
    who = customer()
    enable(who, plan("free", allowance(10)))
    enable(who, pro(), activation=Activation.AFTER_PAYMENT)

    page = page_of(client, who, now=MARCH_1)

    assert [row.title for row in page.answer.context["waiting"]] == ["API · Pro"]
    assert [row.title for row in page.answer.context["page"].products] == ["API · Free"]


# Trials


def trial(client: Client):
    who = customer()
    enable(who, plan("pro", fee(20), allowance(100), trial_days=14))
    return who


def test_a_trial_says_until_when_and_can_be_extended_or_ended(client: Client):
    """A-27"""
    page = page_of(client, trial(client), now=MARCH_1)

    [row] = page.answer.context["page"].products
    assert (row.state[0], row.contract.trial_ends_at) == ("trialing", day("2026-03-15"))
    assert row.contract.extend_url and row.contract.end_trial_url
    assert "Trial until" in page.html


def act(client: Client, who, name: str, *, now=MARCH_1, role="Sales engineer", **answers: str):
    desk = Desk(client, who, now=now, role=role)
    with desk.at():
        return client.post(subscription_page(name, the_subscription(who)), answers, follow=True)


def test_the_dialog_extends_a_trial_by_days_from_now(client: Client):
    """A-27"""
    who = trial(client)

    act(client, who, "extend_trial", now=day("2026-03-10"), days="14", reason="needs more time")

    assert the_subscription(who).trial_ends_at == day("2026-03-24")


def test_a_day_that_is_no_later_is_refused_at_its_field(client: Client):
    """A-27"""
    who = trial(client)

    page = act(client, who, "extend_trial", until="2026-03-10", days="14", reason="needs more time")

    assert "lasts until 15 Mar 2026 already" in page.context["form"].errors["until"][0]


def test_the_dialog_ends_a_trial_now(client: Client):
    """A-27"""
    who = trial(client)

    act(client, who, "end_trial", now=day("2026-03-10"), reason="wants to pay")

    assert totals(who) == [2000]


@pytest.mark.parametrize("name", ["extend_trial", "end_trial"])
def test_trials_are_not_for_everybody(client: Client, name):
    """A-53"""
    assert act(client, trial(client), name, role="Ops", reason="x", days="20").status_code == 403


# Seats and packs


def test_seats_say_how_many_are_used_included_and_paid(client: Client):
    """A-50"""
    who = on(plan("pro", fee(20), paid_seats(included=2)))
    use(who, 5, of="seats")

    [row] = page_of(client, who).answer.context["page"].products

    assert [unit.words for unit in row.contract.units] == ["5 in use · 2 included · 3 paid"]


def packs():
    who = customer()
    enable(who, plan("pro", fee(20), prepaid()), bought={"credits": Decimal(300)})
    pay_all(who)
    return who


def test_packs_say_how_many_are_bought_and_used(client: Client):
    """A-50"""
    who = packs()
    use(who, 120)

    [row] = page_of(client, who).answer.context["page"].products

    assert [unit.words for unit in row.contract.units] == ["300 bought · 3 packs of 100 · 120 used"]
    assert row.contract.units_url


def test_the_dialog_for_units_shows_their_money_before_it_is_done(client: Client):
    """A-24: 200 more for half of March."""
    who = packs()
    preview = act(client, who, "buy_units_preview", now=MID_MARCH, credits="500").content.decode()
    assert "$10.00" in preview

    page = act(client, who, "buy_units", now=MID_MARCH, credits="500")
    assert totals(who) == [5000]
    confirmed = page.context["confirmed"]
    act(client, who, "buy_units", now=MID_MARCH, credits="500", confirmed=confirmed)

    assert totals(who) == [5000, 1000]
    assert the_subscription(who).phase_at(MID_MARCH).bought == {"credits": "500"}


def test_fewer_units_come_with_the_next_period_or_as_a_credit(client: Client):
    """A-24"""
    who = packs()

    page = act(client, who, "buy_units", now=MID_MARCH, credits="100")

    assert "lower price" in page.content.decode()


def test_the_same_units_change_nothing(client: Client):
    """A-13"""
    who = packs()

    page = act(client, who, "buy_units", now=MID_MARCH, credits="300")

    assert totals(who) == [5000]
    assert "exactly these items already" in page.content.decode()


# The invoices to come


def coming(client: Client, who, *, now=MARCH_16, **headers: str):
    desk = Desk(client, who, now=now, role="Admin")
    with desk.at():
        return client.get(reverse("admin:customer_upcoming", args=[who.pk]), headers=headers)


def test_the_next_invoice_stands_as_it_is_so_far_and_as_it_is_expected(client: Client):
    """A-50: 150 of 100 used in 15 days; 310 by the end of March."""
    who = on(plan("pro", fee(50), allowance(100, price="0.10")))
    overuse(who, 150)

    [row] = coming(client, who).context["coming"]

    assert (row.at, row.so_far.amount, row.expected.amount) == (APRIL_1, "$55.00", "$71.00")
    assert len(row.following) == 12


def test_the_part_of_the_page_is_the_same_as_the_page(client: Client):
    who = on(pro())

    part = coming(client, who, **{"HX-Request": "true"}).content.decode()

    assert "$50.00" in part
    assert "<html" not in part
    assert "$600.00" in coming(client, who).content.decode()


def test_a_contract_that_begins_on_a_day_to_come_is_named_instead_of_an_invoice(client: Client):
    """A-50"""
    who = customer()
    offer = deal_of(who, plan("pro", fee(50)))
    done(deal_of(who, offer.base_version.plan, replace(said(offer), starts_at=APRIL_1)))

    page = coming(client, who).content.decode()

    assert "API · Pro begins on" in page
    assert "No invoice is to come" not in page


def test_what_a_date_will_give_back_is_said(client: Client):
    """A-26"""
    who = on(plan("pro", fee(50), allowance(10, price="0.10")))
    overuse(who, 20)
    cancel(the_subscription(who), ends_at=day("2026-03-20"), unused="refund", reason="x", actor=STAFF, now=MARCH_16)

    [row] = coming(client, who).context["coming"]

    assert row.note == "Fees that are unused when it ends on 20 Mar 2026 are refunded then."


def test_the_invoices_to_come_are_read_in_few_queries(client: Client, django_assert_max_num_queries):
    """A-54"""
    who = on(plan("pro", fee(50), allowance(100, price="0.10")))
    overuse(who, 150)
    coming(client, who)

    with django_assert_max_num_queries(30):
        coming(client, who)
