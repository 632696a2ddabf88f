"""Deals over the API: the same verbs, the same refusals as on the pages."""

import pytest
from django.contrib.auth.models import Group, Permission

from billing_admin.models import ApprovalRule
from deals.models import Deal
from tests import builders as a
from tests.api.conftest import Caller, caller_with
from tests.flows.coupon_world import percent

pytestmark = pytest.mark.django_db

RAMP = {
    "termMonths": 24,
    "phases": [
        {"label": "Year 1", "months": 12, "items": [{"type": "fee", "amount": "40"}]},
        {"label": "Year 2", "items": [{"type": "fee", "amount": "60"}], "commitment": "50"},
    ],
}


@pytest.fixture
def acme():
    return a.customer(customer_id="acme")


@pytest.fixture
def pro(acme):
    return a.plan("pro", a.fee(50), a.allowance(1000, of="calls", price="0.01"))


def begun(api: Caller, **more) -> str:
    return api.post("deals", {"customerId": "acme", "planKey": "pro", "name": "Acme: Pro", **more})["id"]


def test_a_deal_is_begun_from_a_plan_and_read_as_it_says(api: Caller, pro):
    made = api.post("deals", {"customerId": "acme", "planKey": "pro", "name": "Acme: Pro", "content": RAMP})

    assert made.status == 201
    assert api.get(f"deals/{made['id']}").body == made.body
    assert (made["state"], made["version"], made["content"]["termMonths"]) == ("draft", 2, 24)
    assert [(p["label"], p["months"], p["items"][0]["amount"]) for p in made["content"]["phases"]] == [
        ("Year 1", 12, "40"),
        ("Year 2", None, "60"),
    ]


def test_what_a_version_answers_can_be_sent_for_the_next(api: Caller, pro):
    percent_off = percent(10)
    content = RAMP | {
        "coupons": [{"code": percent_off.code}],
        "overrides": [{"featureSlug": "calls", "value": 5000, "untilMonth": 3}],
        "prices": [
            {
                "priceId": "base",
                "components": [
                    {"label": "Launch", "amountCents": 3000, "recurrenceRule": "RRULE:FREQ=MONTHLY;INTERVAL=1"}
                ],
                "cycles": 3,
            }
        ],
        "netTermsDays": 30,
    }
    deal = begun(api, content=content)
    said = api.get(f"deals/{deal}")["content"]

    again = api.post(f"deals/{deal}/versions", {"content": said})

    assert (again.status, again["version"], again["content"]) == (201, 2, said)


def test_the_calendar_has_every_invoice_and_what_the_deal_is_worth(api: Caller, pro):
    deal = begun(api, content=RAMP)

    found = api.get(f"deals/{deal}/calendar")

    assert len(found["invoices"]) == 24
    assert found["totalContractValue"]["formatted"] == "$1,200.00"
    assert (found["listValue"]["amount"], found["discountPercent"]) == (120000, "0")
    assert [year["net"]["amount"] for year in found["years"]] == [48000, 72000]


def test_a_preview_saves_nothing(api: Caller, pro):
    deal = begun(api)

    found = api.post(f"deals/{deal}/preview", RAMP | {"use": {}})

    assert found["totalContractValue"]["amount"] == 120000
    assert api.get(f"deals/{deal}")["version"] == 1


def test_every_wrong_field_is_named_in_the_words_of_the_api(api: Caller, pro):
    deal = begun(api)
    content = RAMP | {"termMonths": 30, "overrides": [{"featureSlug": "calls", "value": 5, "fromMonth": 33}]}
    content["phases"] = [{**phase, "months": 12} for phase in RAMP["phases"]]

    refused = api.post(f"deals/{deal}/versions", {"content": content})

    assert (refused.status, refused["code"]) == (400, "invalid_deal")
    assert {error["field"] for error in refused["errors"]} == {"phases", "overrides.0.fromMonth"}


def test_a_wrong_item_is_named_with_its_phase(api: Caller, pro):
    deal = begun(api)
    content = {"termMonths": 24, "phases": [RAMP["phases"][0], {"label": "Year 2", "items": [{"type": "fee"}]}]}

    refused = api.post(f"deals/{deal}/versions", {"content": content})

    assert (refused["code"], refused["field"]) == ("invalid_items", "phases.1.items.0.amount")


def test_from_draft_to_executed(api: Caller, pro, acme):
    deal = begun(api, content=RAMP)

    states = [
        api.post(f"deals/{deal}/submit", {})["state"],
        api.post(f"deals/{deal}/send")["state"],
        api.post(f"deals/{deal}/accept", {"by": "Ada", "how": "signed PDF"})["state"],
        api.post(f"deals/{deal}/execute", {})["state"],
    ]

    assert states == ["approved", "sent", "accepted", "executed"]
    assert api.post(f"deals/{deal}/execute", {})["state"] == "executed"
    assert api.get(f"deals/{deal}")["subscriptionId"] == acme.subscriptions.get().public_id


def test_a_rule_makes_it_wait_for_a_second_person(api: Caller, pro):
    finance = Group.objects.get(name="Finance")
    ApprovalRule.objects.create(act="deal.approved", measure="months", above=12, approver=finance)
    deal = begun(api, content=RAMP)

    waiting = api.post(f"deals/{deal}/submit", {"reason": "big logo"})

    assert waiting["state"] == "awaiting_approval"
    assert waiting["approvalId"].startswith("apr_")
    assert api.post(f"deals/{deal}/send").status == 409


def test_what_does_not_go_with_its_state_is_refused_with_409(api: Caller, pro):
    deal = begun(api)

    refused = api.post(f"deals/{deal}/execute", {})

    assert (refused.status, refused["code"]) == (409, "deal_state")


def test_giving_up_takes_a_reason(api: Caller, pro):
    deal = begun(api)

    refused = api.post(f"deals/{deal}/void", {})
    done = api.post(f"deals/{deal}/void", {"reason": "went elsewhere"})

    assert (refused.status, refused["field"]) == (400, "reason")
    assert (done["state"], done["voidReason"]) == ("void", "went elsewhere")


def test_templates_are_listed_apart_and_deals_are_made_from_them(api: Caller, pro):
    template = api.post("deals", {"planKey": "pro", "name": "Two years", "content": RAMP})["id"]
    deal = api.post("deals", {"customerId": "acme", "fromDealId": template, "name": "Acme"})

    assert [found["id"] for found in api.get("deals", templates="true")["data"]] == [template]
    assert [found["id"] for found in api.get("deals", customerId="acme")["data"]] == [deal["id"]]
    assert (deal["madeFrom"], deal["content"]["termMonths"]) == (template, 24)


def test_an_executed_deal_is_amended_not_changed(api: Caller, pro):
    deal = begun(api)
    for act, body in (("submit", {}), ("send", None), ("accept", {"by": "Ada"}), ("execute", {})):
        api.post(f"deals/{deal}/{act}", body)

    refused = api.post(f"deals/{deal}/versions", {"content": RAMP})
    made = api.post(f"deals/{deal}/amend", {"name": "More"})

    assert (refused.status, refused["code"]) == (409, "deal_closed")
    assert (made.status, made["amends"], made["state"]) == (201, deal, "draft")


def test_the_name_and_the_end_of_the_offer_change_without_another_version(api: Caller, pro):
    deal = begun(api)

    changed = api.patch(f"deals/{deal}", {"expiresAt": "2026-04-01T00:00:00Z"})

    assert (changed["name"], changed["expiresAt"], changed["version"]) == ("Acme: Pro", "2026-04-01T00:00:00Z", 1)


def test_a_deal_that_is_not_there_is_404(api: Caller):
    assert (api.get("deals/deal_nothing").status, api.get("deals/deal_nothing")["code"]) == (404, "deal_not_found")


def test_parts_of_a_deal_take_their_own_permissions(api: Caller, pro):
    """A-53"""
    group = Group.objects.create(name="Deal writer")
    group.permissions.set(Permission.objects.filter(content_type__app_label="deals"))
    writer = caller_with("Deal writer")
    deal = begun(writer)

    refused = writer.post(f"deals/{deal}/versions", {"content": RAMP | {"activation": "now"}})

    assert refused.status == 403
    assert Deal.objects.get().versions.count() == 1


@pytest.mark.parametrize("act", ["versions", "submit", "send", "accept", "execute", "void", "amend"])
def test_whoever_may_only_look_is_refused(act: str, api: Caller, pro):
    """A-53"""
    deal = begun(api)
    reader = caller_with("Read-only")

    body = {"versions": {"content": RAMP}, "accept": {"by": "Ada"}, "send": None}.get(act, {})

    assert reader.post(f"deals/{deal}/{act}", body).status == 403


def test_an_executed_deal_says_which_of_its_parts_were_taken_back(api: Caller, pro):
    """Y-47"""
    deal = begun(api, content=RAMP | {"overrides": [{"featureSlug": "calls", "value": 5000, "untilMonth": 3}]})
    assert api.get(f"deals/{deal}")["parts"] == []
    for act, body in (("submit", {}), ("send", None), ("accept", {"by": "Ada"}), ("execute", {})):
        api.post(f"deals/{deal}/{act}", body)
    [given] = [part for part in api.get(f"deals/{deal}")["parts"] if part["verb"] == "override.given"]
    assert not given["takenBack"]

    api.post(f"operations/{given['operationId']}/undo", {"reason": "a typing error"})

    gone = [part for part in api.get(f"deals/{deal}")["parts"] if part["takenBack"]]
    assert [part["operationId"] for part in gone] == [given["operationId"]]


def test_the_calendar_says_for_which_day_it_is_and_whether_access_waits(api: Caller, pro):
    """Y-24"""
    deal = begun(api, content=RAMP | {"startsAt": "2030-04-01T00:00:00Z"})

    calendar = api.get(f"deals/{deal}/calendar")

    assert calendar["reckonedFor"].startswith("2030-04-01T00:00:00")
    assert calendar["accessWaitsForPayment"]
