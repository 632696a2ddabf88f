"""Coupons, promo codes, coupons of a customer and invoice credits over the API."""

from typing import Any

import pytest

from catalog.models import Coupon
from entitlements.grant import grant
from tests import builders as a
from tests.api.conftest import Caller, caller_with
from tests.flows.coupon_world import apply, credit, fixed, percent
from tests.instants import APRIL_1, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db

LAUNCH = {"name": "Launch", "kind": "percent", "percent": "20", "duration": "repeating", "periods": 3}


def test_a_coupon_is_made_and_read(api: Caller):
    """A-45"""
    made = api.post("coupons", LAUNCH)

    assert made.status == 201
    found = api.get("coupons/launch").body
    assert found == made.body
    assert (found["gives"], found["lasts"], found["percent"], found["redemptions"]) == (
        "20 % off",
        "3 billing periods",
        20,
        0,
    )


def test_every_bad_field_of_a_coupon_is_named(api: Caller):
    refused = api.post("coupons", {"name": "", "kind": "percent", "percent": "120", "lastsDays": 5})

    fields = {(e["field"], e["code"]) for e in refused["errors"]}
    assert refused.status == 400
    assert fields == {
        ("name", "name_required"),
        ("percent", "bad_percent"),
        ("lastsDays", "not_for_kind"),
        ("duration", "unknown_duration"),
    }


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"kind": "free_product", "freePlanKey": "pro"}, "freePlanKey"),
        ({"kind": "feature_grant", "featureSlug": "sso", "units": 5}, "featureSlug"),
        ({"kind": "fixed", "amount": 0, "currency": "USD", "duration": "once"}, "amount"),
        ({"kind": "fixed", "amount": 5, "currency": "XXX", "duration": "once"}, "currency"),
        ({"kind": "invoice_credit", "amount": 5, "currency": "EUR", "planKeys": ["pro"]}, "planKeys"),
        ({"kind": "percent", "percent": 5, "duration": "once", "planKeys": ["pro"], "itemKeys": ["x"]}, "itemKeys"),
    ],
)
def test_a_field_that_cannot_be_is_refused_in_the_words_of_the_api(api: Caller, said: dict[str, Any], field: str):
    a.pro()
    a.feature("sso", type="boolean")

    refused = api.post("coupons", {"name": "X", **said})

    assert (refused.status, refused["field"]) == (400, field)


def test_coupons_are_listed_page_by_page_without_archived_ones(api: Caller):
    for name in ("One", "Two", "Three"):
        percent(name=name)
    api.patch("coupons/two", {"archived": True})

    first = api.get("coupons", limit=1)
    second = api.get("coupons", limit=1, cursor=first["nextCursor"])

    assert [c["code"] for c in first["data"] + second["data"]] == ["three", "one"]
    assert len(api.get("coupons", archived="true")["data"]) == 3


def test_limits_of_a_coupon_change_and_what_it_gives_stays(api: Caller):
    percent(20, name="Launch", max_redemptions=5)

    changed = api.patch("coupons/launch", {"name": "Launch 2026", "maxRedemptions": None})

    assert (changed.status, changed["name"], changed["maxRedemptions"], changed["percent"]) == (
        200,
        "Launch 2026",
        None,
        20,
    )
    assert api.patch("coupons/launch", {"percent": 90})["code"] == "unknown_field"


def test_a_promo_code_is_added_and_switched_off(api: Caller):
    percent(name="Launch")

    made = api.post("coupons/launch/promo-codes", {"code": "hello", "maxRedemptions": 2})
    off = api.patch("promo-codes/hello", {"active": False})

    assert (made.status, made["code"], off["active"]) == (201, "HELLO", False)
    assert api.get("coupons/launch")["promoCodes"][0]["maxRedemptions"] == 2


def test_a_coupon_is_applied_listed_and_removed(api: Caller):
    """A-44"""
    who = a.on(a.pro(50))
    percent(20, name="Launch", duration="repeating", periods=2)
    path = f"customers/{who.customer_id}/coupons"

    applied = api.post(path, {"code": "launch", "reason": "trade fair"})
    listed = api.get(path)["data"]
    gone = api.delete(f"{path}/{applied['id']}")

    assert (applied.status, applied["periodsLeft"], applied["left"]) == (201, 2, "2 invoices left")
    assert listed == [applied.body]
    assert gone["removedAt"] is not None
    assert api.get(path)["data"] == []
    assert len(api.get(path, ended="true")["data"]) == 1


def test_the_next_invoice_is_shown_without_and_with_a_coupon(api: Caller):
    """A-44"""
    who = a.on(a.pro(50))
    percent(20, name="Launch")

    shown = api.at(MARCH_16).post(f"customers/{who.customer_id}/coupons/preview", {"code": "launch"})

    [one] = shown["nextInvoices"]
    assert (one["without"]["amount"], one["withCoupon"]["amount"], one["at"]) == (5000, 4000, "2026-04-01T00:00:00Z")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"redeem_by": MARCH_16}, "coupon_expired"),
        ({"archived_at": MARCH_1}, "coupon_not_active"),
        ({"first_time_only": True}, "coupon_for_first_time"),
        ({"kind": "fixed"}, "coupon_in_other_currency"),
    ],
)
def test_each_refusal_has_a_code_of_its_own(api: Caller, options: dict[str, Any], code: str):
    """A-43"""
    who = a.on(a.pro(50))
    archived = options.pop("archived_at", None)
    one = fixed(currency="EUR") if options.pop("kind", "") else percent(**options)
    Coupon.objects.filter(pk=one.pk).update(archived_at=archived)

    refused = api.at(MARCH_16).post(f"customers/{who.customer_id}/coupons", {"code": one.code})

    assert (refused.status, refused["code"]) == (409, code)


def test_an_unknown_code_is_not_found(api: Caller):
    """A-43"""
    refused = api.post(f"customers/{a.customer().customer_id}/coupons", {"code": "nothing"})

    assert (refused.status, refused["code"], refused["field"]) == (404, "coupon_not_found", "code")


def test_an_invoice_credit_is_given_used_and_taken_back(api: Caller):
    """L-37"""
    who = a.on(a.pro(50))
    path = f"customers/{who.customer_id}/invoice-credits"
    given = api.post(path, {"amount": 8000, "currency": "USD", "label": "Goodwill", "reason": "outage"})
    a.pass_time(who, to=APRIL_1)

    [left] = api.at(APRIL_1).get(path)["data"]
    done = api.at(APRIL_1).post(f"invoice-credits/{given['id']}/void", {"reason": "enough"})
    again = api.at(APRIL_1).post(f"invoice-credits/{given['id']}/void", {"reason": "enough"})

    assert (given.status, left["left"]["amount"]) == (201, 3000)
    assert (done["credit"]["left"]["amount"], done["operation"]["reason"]) == (0, "enough")
    assert (again.status, again["code"]) == (409, "credit_is_over")


def test_an_invoice_credit_needs_a_reason(api: Caller):
    path = f"customers/{a.on(a.pro(50)).customer_id}/invoice-credits"

    refused = api.post(path, {"amount": 8000, "currency": "USD", "label": "Goodwill", "reason": " "})

    assert (refused.status, refused["field"]) == (400, "reason")


def test_a_repeated_call_applies_a_coupon_once(api: Caller):
    who = a.on(a.pro(50))
    percent(name="Launch")
    path = f"customers/{who.customer_id}/coupons"

    first = api.post(path, {"code": "launch"}, Idempotency_Key="once")
    again = api.post(path, {"code": "launch"}, Idempotency_Key="once")

    assert (first.status, again.status, first.body) == (201, 201, again.body)
    assert who.applied_coupons.count() == 1


def test_a_check_tells_the_bonus_beside_the_limit(api: Caller):
    """P-32"""
    who = a.on(a.pro(credits=100))
    grant(who, a.feature(), a.Decimal(40), ends_at=None, label="Case 412", now=MARCH_1)
    a.use(who, 110)

    found = api.get("check", customerId=who.customer_id, featureSlug="credits")

    numbers = ("limit", "used", "remaining", "bonusGranted", "bonusUsed", "bonusRemaining")
    assert [found[name] for name in numbers] == [100, 100, 30, 40, 10, 30]


def test_balances_list_bonuses_with_their_ledger(api: Caller):
    who = a.on(a.pro(credits=100))
    grant(who, a.feature(), a.Decimal(40), ends_at=APRIL_1, label="Case 412", now=MARCH_1)

    found = api.get(f"customers/{who.customer_id}/balances", featureSlug="credits", ledger="true")["data"]

    assert [(row["kind"], row["label"], row["remaining"], row["plan"]) for row in found] == [
        ("plan", None, 100, "Pro"),
        ("bonus", "Case 412", 40, ""),
    ]
    assert found[1]["ledger"][0]["amount"] == 40


@pytest.mark.parametrize("role", ["Read-only", "Application"])
def test_acts_on_coupons_take_their_permission(role: str):
    """A-53"""
    who = a.on(a.pro(50))
    one = percent(name="Launch")
    applied = apply(who, credit())
    reader = caller_with(role)
    path = f"customers/{who.customer_id}"

    answers = [
        reader.post("coupons", LAUNCH),
        reader.patch("coupons/launch", {"archived": True}),
        reader.post("coupons/launch/promo-codes", {"code": "x"}),
        reader.post(f"{path}/coupons", {"code": one.code}),
        reader.post(f"{path}/coupons/preview", {"code": one.code}),
        reader.delete(f"{path}/coupons/{applied.public_id}"),
        reader.post(f"{path}/invoice-credits", {"amount": 1, "currency": "USD", "label": "x", "reason": "x"}),
    ]

    assert {answer.status for answer in answers} == {403}
    assert reader.get("coupons").status == 200
