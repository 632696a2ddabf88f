"""The dialogs that end or keep a contract."""

from decimal import Decimal

import pytest
from django.test import Client

from billing_admin.flows.plan_change import Activation
from catalog.models import Plan
from invoicing.models import Refund
from invoicing.readings import account_credit
from tests.admin.enable_desk import Desk, subscription_page
from tests.builders import (
    access,
    allowance,
    assigned,
    customer,
    default,
    enable,
    fee,
    on,
    overuse,
    pass_time,
    pay_all,
    plan,
    pro,
    the_subscription,
    totals,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db
MID_MARCH = day("2026-03-16T12:00")  # half of March


class Dialog:
    """One person with the dialog of one subscription."""

    def __init__(self, client: Client, who, name: str, *, now=MID_MARCH, role="Sales engineer"):
        self.desk = Desk(client, who, now=now, role=role)
        self.url = subscription_page(name, the_subscription(who))

    def open(self):
        with self.desk.at():
            return self.desk.client.get(self.url, follow=True)

    def answer(self, **answers: str):
        with self.desk.at():
            return self.desk.client.post(self.url, answers, follow=True)


@pytest.fixture
def acme():
    return on(plan("pro", fee(50), allowance(100, price="0.10")))


def said(page) -> str:
    return " ".join(str(message) for message in page.context["messages"])


def scheduled(who) -> None:
    enable(who, Plan.objects.get(key="pro"), fee(30), allowance(100, price="0.10"), now=MID_MARCH)


def test_a_scheduled_change_is_withdrawn_and_the_present_plan_runs_on(client: Client, acme):
    """A-15"""
    scheduled(acme)
    dialog = Dialog(client, acme, "withdraw_change")
    sentence = "Acme Robotics stays on Pro; the change to Pro (custom) on 1 Apr 2026 will not happen."
    assert sentence in dialog.open().content.decode()

    assert said(dialog.answer()) == sentence

    pass_time(acme, to=APRIL_1)
    assert totals(acme) == [5000, 5000]


def test_a_withdrawal_without_anything_scheduled_says_so(client: Client, acme):
    """A-15"""
    assert "no scheduled change" in said(Dialog(client, acme, "withdraw_change").open())


def test_once_its_date_has_come_a_change_cannot_be_withdrawn(client: Client, acme):
    """A-15"""
    scheduled(acme)
    dialog = Dialog(client, acme, "withdraw_change", now=APRIL_1)

    assert "no scheduled change" in said(dialog.open())
    dialog.answer()

    assert the_subscription(acme).phase_at(APRIL_1).version.tailored


def test_a_cancellation_at_the_end_of_the_cycle_keeps_access_until_then(client: Client, acme):
    """A-25"""
    default()
    dialog = Dialog(client, acme, "cancel_subscription")
    sentence = "Access ends on 1 Apr 2026. Nothing is due now."
    page = dialog.open().content.decode()
    assert sentence in page
    assert "Then Community applies." in page

    page = dialog.answer(when="cycle_end", reason="moved to a competitor")

    assert said(page) == "Pro was canceled for 1 Apr 2026."
    assert access(acme, now=MID_MARCH).limit == 100
    pass_time(acme, to=APRIL_1)
    assert access(acme, now=APRIL_1).limit == 5


def test_a_cancellation_is_taken_back(client: Client, acme):
    """A-25"""
    Dialog(client, acme, "cancel_subscription").answer(when="cycle_end", reason="by mistake")
    dialog = Dialog(client, acme, "uncancel_subscription")
    assert "it no longer ends on 1 Apr 2026" in dialog.open().content.decode()

    dialog.answer()

    pass_time(acme, to=APRIL_1)
    assert totals(acme) == [5000, 5000]


def test_a_cancellation_now_shows_each_answer_with_its_amount(client: Client, acme):
    """A-26"""
    overuse(acme, 150)

    page = Dialog(client, acme, "cancel_subscription").open().content.decode()

    assert "Bill it on a final invoice: $5.00" in page
    assert "Account credit: $25.00" in page
    assert "Lasts for what is paid, until 1 Apr 2026; nothing more is billed" in page


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"when": "cycle_end"}, "$5.00 is charged on 1 Apr 2026, as far as known by now."),
        ({"when": "now"}, "Access ends at once. $20.00 is credited now."),
        ({"when": "now", "unused": "nothing"}, "Access ends at once. $5.00 is charged now."),
        ({"when": "now", "unused": "refund"}, "Access ends at once. $20.00 is refunded now."),
        ({"when": "now", "access": "paid"}, "Access ends on 1 Apr 2026. $20.00 is credited now."),
        ({"when": "on_a_day", "ends_on": "2026-03-20"}, "$14.35 is credited on 20 Mar 2026"),
        ({"when": "on_a_day", "ends_on": "2026-03-01"}, "The end has to be in the future"),
    ],
)
def test_whatever_is_ticked_is_shown_as_it_would_be_billed(client: Client, acme, answers, sentence):
    """A-26"""
    overuse(acme, 150)
    dialog = Dialog(client, acme, "cancel_preview", role="Admin")

    assert sentence in dialog.answer(**{"bill_use": "yes", "unused": "account_credit", **answers}).content.decode()
    assert totals(acme) == [5000]


def test_without_scripts_a_button_shows_what_happens(client: Client, acme):
    """A-26"""
    page = Dialog(client, acme, "cancel_subscription").answer(act="preview", when="now", bill_use="no")

    assert "$25.00 is credited now." in page.content.decode()
    assert the_subscription(acme).ends_at is None


def test_a_refund_is_for_those_who_may_give_one(client: Client, acme):
    """A-26, A-53"""
    sales = Dialog(client, acme, "cancel_subscription")
    assert "Refund what was paid" not in sales.open().content.decode()
    sales.answer(when="now", unused="refund", reason="fraud")
    assert totals(acme) == [5000]

    Dialog(client, acme, "cancel_subscription", role="Admin").answer(
        act="cancel", when="now", bill_use="yes", unused="refund", access="at_once", reason="fraud"
    )

    assert Refund.objects.get().amount == 2500


def test_access_may_last_for_what_is_paid(client: Client, acme):
    """A-26"""
    Dialog(client, acme, "cancel_subscription").answer(when="now", access="paid", unused="nothing", reason="leaves")

    assert the_subscription(acme).ends_at == APRIL_1
    assert access(acme, now=MID_MARCH).has_access


def test_a_first_payment_is_given_up_after_a_reason(client: Client):
    """A-26, Y-61"""
    who = customer()
    subscription = enable(who, pro(), activation=Activation.AFTER_PAYMENT).subscription
    desk = Desk(client, who, now=MARCH_1)
    url = subscription_page("cancel_subscription", subscription)
    with desk.at():
        page = client.get(url).content.decode()
        assert "ACME-0001 is void: nobody paid it" in page
        assert "Unused fees" not in page

        client.post(url, {"reason": "changed their mind"})

    assert who.invoices.get().state == "void"


@pytest.mark.parametrize(
    ("bill_use", "unused", "documents", "credit"),
    [
        ("yes", "account_credit", [5000, -2000], 2000),
        ("no", "account_credit", [5000, -2500], 2500),
        ("yes", "nothing", [5000, 500], 0),
        ("no", "nothing", [5000], 0),
    ],
)
def test_a_cancellation_now_does_what_was_answered(client: Client, acme, bill_use, unused, documents, credit):
    """A-26"""
    overuse(acme, 150)

    Dialog(client, acme, "cancel_subscription").answer(when="now", bill_use=bill_use, unused=unused, reason="fraud")

    assert totals(acme) == documents
    assert account_credit(acme) == credit
    assert access(acme, now=MID_MARCH).reason == "no_plan"


def test_a_cancellation_says_that_it_withdraws_what_is_scheduled(client: Client, acme):
    """A-26"""
    scheduled(acme)
    dialog = Dialog(client, acme, "cancel_subscription")
    assert "The change to Pro is withdrawn." in dialog.open().content.decode()

    dialog.answer(when="cycle_end", reason="bankrupt")

    assert the_subscription(acme).next_phase(MID_MARCH) is None


def test_a_cancellation_without_a_reason_is_refused_at_the_field(client: Client, acme):
    """A-26"""
    page = Dialog(client, acme, "cancel_subscription").answer(when="now", bill_use="no", unused="nothing", reason=" ")

    assert "Give a reason for a cancellation" in page.content.decode()
    assert totals(acme) == [5000]
    assert the_subscription(acme).ends_at is None


def test_access_may_last_until_another_day(client: Client, acme):
    """A-26"""
    Dialog(client, acme, "cancel_subscription").answer(when="on_a_day", ends_on="2026-03-20", reason="notice given")

    assert the_subscription(acme).ends_at == day("2026-03-20")


@pytest.mark.parametrize(("ends_on", "sentence"), [("", "Say on which day"), ("2026-03-01", "in the future")])
def test_a_day_that_is_missing_or_past_is_refused_at_the_field(client: Client, acme, ends_on, sentence):
    """A-26"""
    page = Dialog(client, acme, "cancel_subscription").answer(when="on_a_day", ends_on=ends_on, reason="notice")

    assert sentence in page.context["form"].errors["ends_on"][0]
    assert the_subscription(acme).ends_at is None


def test_an_assigned_plan_has_no_cycle_and_no_money_to_ask_about(client: Client):
    """A-26"""
    who = customer()
    enable(who, assigned())
    dialog = Dialog(client, who, "cancel_subscription")
    page = dialog.open().content.decode()
    assert "At the end of the cycle" not in page
    assert "Unused fees" not in page

    dialog.answer(when="now", reason="no longer a partner")

    assert access(who, now=MID_MARCH).reason == "no_plan"


def test_what_ended_already_is_left_alone(client: Client, acme):
    """A-26"""
    dialog = Dialog(client, acme, "cancel_subscription")
    dialog.answer(when="now", bill_use="no", unused="nothing", reason="fraud")

    page = dialog.answer(when="now", bill_use="no", unused="nothing", reason="fraud")

    assert "has ended already" in said(page)


def test_in_a_dialog_the_page_goes_on_by_redirect(client: Client, acme):
    """A-25"""
    dialog = Dialog(client, acme, "cancel_subscription")

    with dialog.desk.at():
        answer = client.post(dialog.url, {"when": "cycle_end", "reason": "moved"}, headers={"HX-Request": "true"})

    assert answer.status_code == 204
    assert answer.headers["HX-Redirect"] == f"/customers/customer/{acme.pk}/"
    assert Decimal(account_credit(acme)) == 0


def test_whoever_left_comes_back_through_the_same_page(client: Client, acme):
    """A-25"""
    Dialog(client, acme, "cancel_subscription").answer(when="now", bill_use="no", unused="nothing", reason="fraud")

    Desk(client, acme, now=MARCH_16.replace(day=20)).open(plan="pro").enable()
    pay_all(acme, now=MARCH_16.replace(day=20))

    assert the_subscription(acme).started_at == MARCH_16.replace(day=20)


def test_pro_is_still_on_sale_after_a_cancellation(client: Client):
    """Y-36"""
    who = on(pro())
    Dialog(client, who, "cancel_subscription").answer(when="now", bill_use="no", unused="nothing", reason="fraud")

    page = Desk(client, who, now=MID_MARCH).open().answer.context["page"]

    assert [group.title for group in page.groups] == ["API"]
