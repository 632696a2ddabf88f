"""Quantities, trials, gates, coupons, cancellations and forecasts over the API."""

from decimal import Decimal

import pytest

from catalog.models import Coupon, Plan
from customers.models import Subscription
from invoicing.models import BillingSettings, Invoice, Refund
from tests import builders as world
from tests.api.conftest import caller_with
from tests.builders import allowance, customer, fee, on, plan, prepaid, pro
from tests.instants import MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def preview(api, who, key="pro", **more):
    return api.post(f"customers/{who.customer_id}/plan-changes/preview", {"planKey": key, **more})


def enable(api, who, key="pro", **more):
    return api.post(f"customers/{who.customer_id}/plan-changes", {"planKey": key, **more})


def contract(who) -> str:
    return world.the_subscription(who).public_id


def cancel(api, subscription_id, **more):
    return api.post(f"subscriptions/{subscription_id}/cancel", {"reason": "moved away", **more})


# The gate


def test_a_first_plan_that_costs_something_waits_for_its_payment_at_a_link(api):
    """Y-23, Y-24"""
    pro()
    who = customer()
    seen = preview(api, who)
    assert (seen["gated"], seen["payableUntil"]) == (True, "2026-03-02T00:00:00Z")

    answer = enable(api, who)

    invoice = Invoice.objects.get()
    assert answer["subscription"]["state"] == "pending_payment"
    assert answer["checkoutUrl"].endswith(f"/i/{invoice.token}")
    access = api.get("check", customerId=who.customer_id, featureSlug="credits")
    assert access["hasAccess"] is False


def test_its_payment_activates_it(api):
    """Y-25"""
    pro()
    who = customer()
    answer = enable(api, who)
    body = {"amount": 5000, "reference": "wire 1"}

    api.post(f"invoices/{answer['invoices'][0]['id']}/payments", body)

    assert api.get(f"subscriptions/{answer['subscription']['id']}")["state"] == "active"


def test_access_before_the_payment_takes_a_reason_and_the_right(api):
    """Y-25, A-53"""
    pro()
    who = customer()
    assert enable(api, who, activation="now")["code"] == "reason_required"
    assert enable(caller_with("Application"), who, activation="now", reason="x").status == 403

    answer = enable(api, who, activation="now", reason="wire is on its way")

    assert (answer["subscription"]["state"], answer["checkoutUrl"]) == ("active", None)


def test_with_approval_there_is_no_link_yet(api):
    """Y-27"""
    BillingSettings.objects.create(pk=1, approve_first_invoices=True)
    pro()

    answer = enable(api, customer())

    assert (answer["checkoutUrl"], answer["invoices"][0]["state"]) == (None, "draft")


def test_only_use_is_priced_so_it_is_active_at_once(api):
    """Y-26"""
    plan("pro", allowance(0, price="0.10"))

    answer = enable(api, customer())

    assert (answer["subscription"]["state"], answer["invoices"][0]["state"]) == ("active", "paid")


def test_net_terms_and_an_anchor_belong_to_the_first_plan(api):
    """Y-21, Y-22, Y-54"""
    pro()
    who = customer()

    answer = enable(api.at(MARCH_16), who, netTermsDays=30, billingAnchor="2026-03-01T00:00:00Z")

    assert (answer["subscription"]["netTermsDays"], answer["invoices"][0]["total"]["amount"]) == (30, 2581)
    assert answer["subscription"]["periodEndsAt"] == "2026-04-01T00:00:00Z"


def test_an_anchor_to_come_is_refused(api):
    """Y-21"""
    pro()

    answer = preview(api, customer(), billingAnchor="2026-04-01T00:00:00Z")

    assert (answer.status, answer["code"], answer["field"]) == (400, "bad_anchor", "billingAnchor")


# Quantities and documents


def test_prepaid_units_are_given_by_feature(api):
    """A-24"""
    plan("pro", fee(20), prepaid())
    who = customer()

    answer = preview(api, who, quantities={"credits": 250})

    assert answer["now"]["total"]["amount"] == 2000 + 3000
    changed = enable(api, who, quantities={"credits": 250}, activation="now", reason="x")
    assert changed["subscription"]["quantities"] == {"credits": 250}


def test_units_that_the_plan_does_not_sell_are_refused(api):
    pro()

    assert preview(api, customer(), quantities={"credits": 5})["code"] == "bad_quantity"


def test_quantities_change_alone(api):
    """A-24: 200 more for half of March."""
    plan("pro", fee(20), prepaid())
    who = customer()
    world.enable(who, Plan.objects.get(), bought={"credits": Decimal(300)})
    world.pay_all(who)
    path = f"subscriptions/{contract(who)}/quantities"
    later = api.at(day("2026-03-16T12:00"))
    seen = later.post(f"{path}/preview", {"quantities": {"credits": 500}})
    assert seen["now"]["total"]["amount"] == 1000

    answer = later.post(path, {"quantities": {"credits": 500}, "fingerprint": seen["fingerprint"]})

    assert answer["subscription"]["quantities"] == {"credits": 500}
    assert [invoice["total"]["amount"] for invoice in answer["invoices"]] == [1000]


def test_coupons_come_with_the_act_and_show_in_its_documents(api):
    """A-41"""
    Coupon.objects.create(code="half", name="Half off", kind="percent", percent=50, duration="once")
    pro()
    who = customer()

    answer = preview(api, who, coupons=["HALF"], invoicesAhead=2)

    [document] = answer["now"]["documents"]
    assert (document["subtotal"]["amount"], document["total"]["amount"]) == (5000, 2500)
    assert [d["label"] for d in document["deductions"]] == ["Half off"]
    assert [one["total"]["amount"] for one in answer["forecast"]] == [5000, 5000]


def test_a_coupon_that_there_is_none_of_is_not_found(api):
    """A-43"""
    pro()

    assert preview(api, customer(), coupons=["nope"])["code"] == "coupon_not_found"


# Trials


def test_a_trial_may_be_longer_than_its_plan_says(api):
    """A-27"""
    plan("pro", fee(20), allowance(100), trial_days=14)
    who = customer()

    assert preview(api, who)["trialEndsAt"] == "2026-03-15T00:00:00Z"
    answer = enable(api, who, trialDays=30)

    assert (answer["subscription"]["state"], answer["invoices"]) == ("trialing", [])
    assert answer["subscription"]["trialEndsAt"] == "2026-03-31T00:00:00Z"


@pytest.fixture
def trial():
    who = customer()
    world.enable(who, plan("pro", fee(20), allowance(100), trial_days=14))
    return contract(who)


def test_a_trial_is_extended_from_now(api, trial):
    """A-27"""
    answer = api.at(day("2026-03-10")).post(f"subscriptions/{trial}/trial/extend", {"days": 14, "reason": "x"})

    assert answer["subscription"]["trialEndsAt"] == "2026-03-24T00:00:00Z"


def test_an_end_that_is_no_later_is_refused(api, trial):
    """A-27"""
    answer = api.post(f"subscriptions/{trial}/trial/extend", {"until": "2026-03-10T00:00:00Z", "reason": "x"})

    assert (answer.status, answer["code"]) == (400, "bad_trial_end")


def test_a_trial_ends_now_with_its_first_invoice(api, trial):
    """A-27"""
    answer = api.at(day("2026-03-10")).post(f"subscriptions/{trial}/trial/end", {"reason": "wants to pay"})

    assert [invoice["total"]["amount"] for invoice in answer["invoices"]] == [2000]
    again = api.at(day("2026-03-10")).post(f"subscriptions/{trial}/trial/end", {"reason": "wants to pay"})
    assert (again.status, again["code"]) == (409, "not_on_trial")


# Cancel


def test_each_answer_of_a_cancellation_says_its_money(api):
    """A-26"""
    who = on(pro())
    path = f"subscriptions/{contract(who)}/cancel/preview"

    answer = api.at(MARCH_16).post(path, {"atOnce": True, "unused": "refund"})

    assert (answer["total"]["amount"], answer["refund"]["amount"]) == (-2581, 2581)
    assert answer["documents"][0]["kind"] == "credit_note"


def test_a_refund_takes_its_own_right(api):
    """A-26, A-53"""
    who = on(pro())
    subscription = contract(who)
    assert cancel(caller_with("Sales engineer").at(MARCH_16), subscription, atOnce=True, unused="refund").status == 403

    answer = cancel(api.at(MARCH_16), subscription, atOnce=True, unused="refund")

    assert answer["invoices"][0]["settlement"] == "refund"
    assert Refund.objects.get().amount == 2581


def test_access_may_go_on_after_the_final_invoice(api):
    """A-26"""
    who = on(pro())

    answer = cancel(api.at(MARCH_16), contract(who), atOnce=True, unused="nothing", accessUntil="2026-04-01T00:00:00Z")

    assert (answer["subscription"]["state"], answer["subscription"]["endsAt"]) == ("active", "2026-04-01T00:00:00Z")
    assert answer["subscription"]["settledAt"] == "2026-03-16T00:00:00Z"
    back = api.at(MARCH_16).delete(f"subscriptions/{contract(who)}/scheduled-change")
    assert (back.status, back["code"]) == (409, "already_settled")


def test_a_first_payment_is_given_up_with_its_subscription(api):
    """A-26, Y-61"""
    pro()
    answer = enable(api, customer())

    canceled = cancel(api, answer["subscription"]["id"])

    assert canceled["subscription"]["state"] == "ended"
    assert Invoice.objects.get().state == "void"


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"reason": ""}, 400, "reason_required"),
        ({"endsAt": "2026-03-01T00:00:00Z"}, 400, "end_in_the_past"),
        ({"unused": "cash"}, 400, "invalid"),
        ({"atOnce": True, "accessUntil": "2026-05-01T00:00:00Z"}, 400, "bad_access_end"),
    ],
)
def test_answers_that_cannot_be_are_refused(api, more, status, code):
    """Y-49, Y-50"""
    answer = cancel(api.at(MARCH_16), contract(on(pro())), **more)

    assert (answer.status, answer["code"]) == (status, code)


def test_a_second_cancellation_is_a_conflict(api):
    """Y-49"""
    subscription = contract(on(pro()))
    cancel(api.at(MARCH_16), subscription, atOnce=True)

    answer = cancel(api.at(MARCH_16), subscription, atOnce=True)

    assert (answer.status, answer["code"]) == (409, "already_ended")


# Forecast


def test_the_next_invoices_of_a_subscription(api):
    who = on(plan("pro", fee(50), allowance(100, price="0.10")), since=MARCH_1)
    world.overuse(who, 150)

    answer = api.at(MARCH_16).get(f"subscriptions/{contract(who)}/forecast", invoices=2)

    assert [one["total"]["amount"] for one in answer["invoices"]] == [7100, 7000]
    assert answer["total"]["amount"] == 14100
    assert Subscription.objects.count() == 1


def test_what_never_bills_has_none(api):
    who = customer()
    world.enable(who, world.assigned())

    answer = api.get(f"subscriptions/{contract(who)}/forecast")

    assert (answer["invoices"], answer["total"]) == ([], None)
