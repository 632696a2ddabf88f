"""Previews and changes of plan over the API."""

from datetime import timedelta

import pytest

from customers.models import Subscription
from invoicing.models import Invoice
from tests import builders as world
from tests.api.conftest import caller_with
from tests.builders import allowance, assigned, customer, fee, on, plan, pro, team, use
from tests.instants import APRIL_1, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db

CUSTOM = [{"type": "fee", "amount": "80.00"}, {"type": "allowance", "featureSlug": "credits", "included": 500}]


def preview(api, who, plan_key, **more):
    return api.post(f"customers/{who.customer_id}/plan-changes/preview", {"planKey": plan_key, **more})


def change(api, who, plan_key, **more):
    return api.post(f"customers/{who.customer_id}/plan-changes", {"planKey": plan_key, **more})


def test_a_preview_says_what_happens_now_and_next_and_to_access(api):
    who = on(pro(50, credits=100))
    use(who, 30)
    team(200, credits=500)

    answer = preview(api.at(MARCH_16), who, "team")

    assert (answer.status, answer["kind"], answer["timing"]) == (200, "up", "now")
    assert answer["why"] == "Takes effect now — higher price"
    assert [line["amount"]["amount"] for line in answer["now"]["lines"]] == [-2581, 10323]
    assert answer["now"]["total"] == {"amount": 7742, "currency": "USD", "formatted": "$77.42"}
    assert "$200" in answer["now"]["lines"][1]["sum"]
    assert (answer["nextInvoice"]["at"], answer["nextInvoice"]["total"]["amount"]) == ("2026-04-01T00:00:00Z", 20000)
    [credits] = answer["access"]
    assert (credits["before"]["balance"], credits["after"]["balance"], credits["changed"]) == (70, 500, True)
    assert [c["timing"] for c in answer["choices"]] == ["now", "cycle_end", "without_billing"]
    assert answer["validUntil"] == "2026-03-16T00:30:00Z"


def test_a_preview_changes_nothing(api):
    who = customer()
    pro()

    preview(api, who, "pro")

    assert not Subscription.objects.exists()


def test_what_was_previewed_is_what_is_issued(api):
    """A-11"""
    who = on(pro(50))
    team(200)
    seen = preview(api.at(MARCH_16), who, "team")

    done = change(api.at(MARCH_16 + timedelta(minutes=29)), who, "team", fingerprint=seen["fingerprint"])

    assert done.status == 201
    assert done["invoices"][0]["total"] == seen["now"]["total"]
    assert done["subscription"]["plan"]["planKey"] == "team"
    assert done["operation"]["actor"] == "api:backend"


def test_an_expired_preview_is_refused_with_the_new_one(api):
    """A-11"""
    who = on(pro(50))
    team(200)
    seen = preview(api.at(MARCH_16), who, "team")

    answer = change(api.at(MARCH_16 + timedelta(hours=12)), who, "team", fingerprint=seen["fingerprint"])

    assert (answer.status, answer["code"]) == (409, "preview_outdated")
    assert answer["preview"]["now"]["total"]["amount"] == 7500
    again = change(api.at(MARCH_16 + timedelta(hours=12)), who, "team", fingerprint=answer["preview"]["fingerprint"])
    assert again.status == 201


def test_a_fingerprint_of_somebody_else_is_refused(api):
    """A-11"""
    pro()
    seen = preview(api, customer("Globex"), "pro")

    answer = change(api, customer(), "pro", fingerprint=seen["fingerprint"])

    assert (answer.status, answer["code"], answer["field"]) == (400, "bad_confirmation", "fingerprint")


def test_without_a_preview_it_is_decided_at_this_moment(api):
    pro(50)

    done = change(api, customer(), "pro")

    assert (done.status, done["invoices"][0]["total"]["amount"]) == (201, 5000)


def test_the_same_confirmation_twice_enables_once(api):
    """A-12"""
    who = customer()
    pro()
    seen = preview(api, who, "pro")
    change(api, who, "pro", fingerprint=seen["fingerprint"])

    again = change(api, who, "pro", fingerprint=seen["fingerprint"])

    assert (again.status, Invoice.objects.count()) == (409, 1)


def test_a_custom_plan_is_made_from_items(api):
    """A-01"""
    who = on(pro(80, credits=100))
    use(who, 70)

    done = change(api.at(MARCH_16), who, "pro", items=CUSTOM, reason="deal of March")

    assert (done.status, done["invoices"], done["subscription"]["plan"]["isCustom"]) == (201, [], True)
    access = api.at(MARCH_16).get("check", customerId=who.customer_id, featureSlug="credits")
    assert (access["remaining"], access["nextResetAt"]) == (430, "2026-04-01T00:00:00Z")


def test_a_custom_plan_keeps_the_keys_of_its_base(api):
    """A-04"""
    who = on(plan("pro", fee(50, key="platform"), allowance(100)))

    answer = preview(api.at(MARCH_16), who, "pro", items=CUSTOM)

    assert {d["key"]: d["sign"] for d in answer["differences"]} == {"platform": "changed", "credits": "changed"}


def test_a_custom_plan_takes_a_reason(api):
    who = on(pro(50))

    answer = change(api, who, "pro", items=CUSTOM)

    assert (answer.status, answer["code"], answer["field"]) == (400, "reason_required", "reason")


def test_bad_items_are_named_and_nothing_is_saved(api):
    """A-14"""
    who = on(pro(50))

    answer = preview(api, who, "pro", items=[{"amount": "-5"}, {"featureSlug": "nope"}])

    assert (answer.status, [e["field"] for e in answer["errors"]]) == (400, ["items.0.amount", "items.1.featureSlug"])


def test_a_plan_in_another_currency_is_refused(api):
    """A-14"""
    who = on(pro(50))
    plan("euro", fee(50), of="euro", currency="EUR")

    answer = preview(api, who, "euro")

    assert (answer.status, answer["code"]) == (409, "currency_locked")


def test_nothing_to_change_is_refused_with_a_sentence(api):
    """A-13"""
    answer = preview(api, on(pro(50)), "pro")

    assert (answer.status, answer["code"]) == (409, "already_on_plan")


def test_a_timing_may_be_chosen(api):
    """A-05"""
    who = on(pro(50))
    team(200)

    answer = preview(api.at(MARCH_16), who, "team", timing="cycle_end")

    assert (answer["timing"], answer["startsAt"], answer["now"]["lines"]) == ("cycle_end", "2026-04-01T00:00:00Z", [])


def test_an_older_version_may_be_chosen(api):
    """Y-46"""
    made = pro(50)
    world.new_version(made, fee(60))

    done = change(api, customer(), "pro", version=1)

    assert (done["subscription"]["plan"]["version"], done["invoices"][0]["total"]["amount"]) == (1, 5000)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"version": 9}, "version"),
        ({"timing": "later"}, "timing"),
        ({"quantity": 0}, "quantity"),
        ({"cadence": "P1W", "items": CUSTOM}, "cadence"),
        ({"cadence": "P1Y"}, "cadence"),
        ({"endsAt": "2026-01-01T00:00:00Z"}, "endsAt"),
        ({"endsAt": "2026-04-01"}, "endsAt"),
    ],
)
def test_bad_options_are_refused_at_their_field(api, body, field):
    pro()

    answer = preview(api, customer(), "pro", **body)

    assert (answer.status, answer["field"]) == (400, field)


def test_an_unknown_plan_is_not_found(api):
    answer = preview(api, customer(), "nope")

    assert (answer.status, answer["code"]) == (404, "plan_not_found")


def test_another_plan_of_the_product_is_a_change_not_a_second_contract(api):
    """L-41"""
    who = on(pro(50))
    team(200)

    change(api.at(MARCH_16), who, "team")

    [subscription] = api.at(MARCH_16).get(f"customers/{who.customer_id}")["subscriptions"]
    assert subscription["plan"]["planKey"] == "team"


def test_an_add_on_stands_beside(api):
    """L-41"""
    who = on(pro(50))
    plan("boost", fee(5), allowance(50), add_on=True)

    change(api, who, "boost", activation="now", reason="invoiced together")

    subscriptions = api.get(f"customers/{who.customer_id}")["subscriptions"]
    assert [(s["plan"]["planKey"], s["addOn"]) for s in subscriptions] == [("pro", False), ("boost", True)]


def test_an_assigned_plan_needs_no_invoice_and_ends_by_itself(api):
    """P-44"""
    world.default(allowance(5))
    assigned("trial", allowance(1000))
    who = customer()

    done = change(api, who, "trial", endsAt="2026-03-16T00:00:00Z")

    limits = [
        api.at(at).get("check", customerId=who.customer_id, featureSlug="credits")["limit"]
        for at in (MARCH_1, MARCH_16)
    ]
    assert (done["invoices"], limits) == ([], [1000, 5])


def test_an_assigned_plan_takes_the_permission_to_assign(api):
    """A-53"""
    assigned("partner")
    pro()
    ops = caller_with("Ops")

    assert [change(ops, customer(), key).status for key in ("partner", "pro")] == [201, 403]


def test_a_preview_takes_the_permission_of_the_act():
    """A-53"""
    pro()

    assert preview(caller_with("Ops"), customer(), "pro").status == 403


def test_a_quantity_multiplies_fees_and_allowances(api):
    """P-21"""
    pro(50, credits=100)
    who = customer()

    done = change(api, who, "pro", quantity=3, activation="now", reason="paid by wire")

    access = api.get("check", customerId=who.customer_id, featureSlug="credits")
    assert (done["invoices"][0]["total"]["amount"], access["limit"]) == (15000, 300)


def test_monthly_periods_are_counted_from_the_anchor(api):
    """Y-20"""
    pro()
    who = customer(since=MARCH_1)
    start = world.enable(who, world.reread(pro_plan()), now=MARCH_1.replace(month=1, day=31)).subscription

    ends = []
    for at in (MARCH_1.replace(month=2, day=10), MARCH_1.replace(day=2)):
        world.pass_time(who, to=at)
        ends.append(api.at(at).get(f"subscriptions/{start.public_id}")["periodEndsAt"][:10])

    assert ends == ["2026-02-28", "2026-03-31"]


def pro_plan():
    from catalog.models import Plan

    return Plan.objects.get(key="pro")


def test_a_change_at_the_end_of_the_cycle_can_be_withdrawn(api):
    """A-15"""
    who = on(team(200))
    pro(50)
    done = change(api.at(MARCH_16), who, "pro")
    path = f"subscriptions/{done['subscription']['id']}/scheduled-change"

    answer = api.at(MARCH_16).delete(path, {"reason": "changed their mind"})

    assert (answer.status, answer["subscription"]["scheduledChange"]) == (200, None)
    assert api.at(MARCH_16).delete(path).body["code"] == "nothing_scheduled"


def test_it_can_be_withdrawn_by_post_and_without_a_body(api):
    """A-15"""
    who = on(team(200))
    pro(50)
    done = change(api.at(MARCH_16), who, "pro")

    answer = api.at(MARCH_16).post(f"subscriptions/{done['subscription']['id']}/scheduled-change/withdraw")

    assert answer.status == 200


def test_at_its_date_it_is_too_late(api):
    """A-15"""
    who = on(team(200))
    pro(50)
    done = change(api.at(MARCH_16), who, "pro")

    answer = api.at(APRIL_1).delete(f"subscriptions/{done['subscription']['id']}/scheduled-change")

    assert (answer.status, answer["code"]) == (409, "already_in_effect")
