"""Overrides of many customers over the API."""

import pytest
from django.contrib.auth.models import Group, Permission

from billing_admin.api import override_batches
from billing_admin.flows.override_batch import carry_out
from billing_admin.models import ApiKey
from entitlements.models import FeatureOverride, OverrideBatch
from tests.api.conftest import caller_with
from tests.builders import on, pro
from tests.instants import MARCH_16

pytestmark = pytest.mark.django_db

JUNE = "2026-06-01T00:00:00Z"
ASKED = {"featureSlug": "credits", "value": 500, "effectiveUntil": JUNE, "reason": "pilot"}


@pytest.fixture
def three(db) -> list[str]:
    plan = pro()
    return [on(plan, name=name).customer_id for name in ("Acme", "Globex", "Initech")]


def bulk(api, **more):
    asked = {**ASKED, **more}
    return api.post("overrides/bulk", {k: v for k, v in asked.items() if v != "left out"})


def limits(api, customers) -> list[int]:
    return [api.post("check", {"customerId": c, "featureSlug": "credits"})["limit"] for c in customers]


def test_the_same_override_is_given_to_all_customers_that_are_named(api, three):
    """L-30"""
    answer = bulk(api, customers=three)

    assert (answer.status, answer["state"], answer["done"]) == (200, "finished", 3)
    assert [(row["row"], row["customerId"], row["state"]) for row in answer["rows"]] == [
        (n, name, "given") for n, name in enumerate(three)
    ]
    assert set(FeatureOverride.objects.values_list("batch__public_id", flat=True)) == {answer["id"]}
    assert limits(api, three) == [500, 500, 500]


def test_a_dry_run_tells_before_and_after_and_gives_nothing(api, three):
    """L-30"""
    answer = bulk(api, customers=[*three[:1], "nobody"], dryRun=True)

    assert (answer["id"], answer["state"], answer["refused"]) == (None, "dry_run", 1)
    assert [(r["state"], r["before"], r["after"]) for r in answer["rows"]] == [
        ("would_give", "100", "500"),
        ("refused", None, None),
    ]
    assert answer["rows"][1]["error"]["code"] == "customer_not_found"
    assert not OverrideBatch.objects.exists()


def test_rows_may_differ_and_one_that_is_refused_holds_up_no_other(api, three):
    """L-30"""
    rows = [
        {"customerId": three[0], "value": "unlimited"},
        {"customerId": three[1], "value": "many"},
        {"customerId": three[2], "effectiveUntil": None, "reason": "a promise"},
    ]

    answer = bulk(api, rows=rows)

    assert [row["state"] for row in answer["rows"]] == ["given", "refused", "given"]
    error = answer["rows"][1]["error"]
    assert (error["code"], error["field"]) == ("wrong_value_type", "value")
    told = api.get(f"overrides/{answer['rows'][2]['overrideId']}")
    assert (told["permanent"], told["reason"], told["batchId"]) == (True, "a promise", answer["id"])


def test_rows_can_come_as_a_csv_text(api, three):
    """L-30"""
    text = f"customer_id,feature,value,until\n{three[0]},credits,500,2026-06-01\n{three[1]},credits,unlimited,permanent"

    tried = api.post("overrides/bulk", {"csv": text, "reason": "pilot", "dryRun": True})
    answer = api.post("overrides/bulk", {"csv": text, "reason": "pilot"})

    assert [(row["row"], row["before"], row["after"]) for row in tried["rows"]] == [
        (2, "100", "500"),
        (3, "100", "unlimited"),
    ]
    assert ([row["state"] for row in answer["rows"]], answer["state"]) == (["given", "given"], "finished")


def test_each_wrong_cell_of_a_csv_text_is_named_by_line_and_column(api):
    text = "customer_id,feature,value,until\nacme,credits,500,soon\n,credits,500,permanent"

    answer = api.post("overrides/bulk", {"csv": text, "reason": "pilot"})

    assert (answer.status, answer["code"], answer["field"]) == (400, "bad_rows", "csv.2.until")
    assert [problem["field"] for problem in answer["errors"]] == ["csv.2.until", "csv.3.customer_id"]


@pytest.mark.parametrize(
    ("more", "code", "field"),
    [
        ({"effectiveUntil": "left out"}, "missing_field", "effectiveUntil"),
        ({"value": "left out"}, "missing_field", "value"),
        ({"featureSlug": "left out"}, "missing_field", "featureSlug"),
        ({"reason": "left out"}, "reason_required", "reason"),
        ({"rows": [{"customerId": "acme"}]}, "invalid", "rows"),
        ({"customers": []}, "invalid", "customers"),
        ({"customers": ["acme"] * 1001}, "invalid", "customers"),
        (
            {"customers": None, "effectiveUntil": "left out", "rows": [{"customerId": "a"}]},
            "missing_field",
            "rows.0.effectiveUntil",
        ),
    ],
)
def test_what_is_said_nowhere_or_too_often_is_refused_as_a_whole(api, more, code, field):
    """L-06, L-07"""
    answer = bulk(api, **{"customers": ["acme"], **more})

    assert (answer.status, answer["code"], answer.body.get("field")) == (400, code, field)
    assert not OverrideBatch.objects.exists()


def test_many_rows_are_left_to_the_workers(api, three, django_capture_on_commit_callbacks):
    """L-30"""
    with django_capture_on_commit_callbacks() as handed_over:
        answer = bulk(api, customers=three * 20)

    assert (answer["state"], answer["done"], len(handed_over)) == ("running", 0, 1)
    assert {row["state"] for row in answer["rows"]} == {"waiting"}
    assert api.get(f"override-batches/{answer['id']}").body == answer.body


def test_a_key_that_was_revoked_gives_nothing_more(api, three, monkeypatch):
    """A-53: what is left of its batch is refused row by row."""
    monkeypatch.setattr(override_batches, "AT_ONCE", 0)
    made = bulk(api, customers=three)
    ApiKey.objects.update(revoked_at=MARCH_16)

    batch = carry_out(OverrideBatch.objects.get(public_id=made["id"]), MARCH_16)

    assert {failure["code"] for failure in batch.failures} == {"requester_may_not"}
    assert (batch.done, FeatureOverride.objects.count()) == (3, 0)


def test_a_batch_is_taken_back_together(api, three):
    """L-30"""
    made = bulk(api, customers=three)

    told = api.at(MARCH_16).post(f"override-batches/{made['id']}/revoke", {"reason": "the wrong list"})

    assert (told["state"], told["revokedBy"], told["revokeReason"]) == ("revoked", "api:backend", "the wrong list")
    assert limits(api.at(MARCH_16), three) == [100, 100, 100]
    again = api.at(MARCH_16).post(f"override-batches/{made['id']}/revoke", {"reason": "once more"})
    assert again.body == told.body


def test_a_batch_nobody_made_is_not_found(api):
    assert api.get("override-batches/bat_nope")["code"] == "override_batch_not_found"
    assert api.post("override-batches/bat_nope/revoke", {"reason": "x"}).status == 404


def test_a_repeated_batch_with_its_key_is_the_same_batch(api, three):
    asked = {**ASKED, "customers": three}

    first, again = (api.post("overrides/bulk", asked, Idempotency_Key="list-1") for _ in range(2))

    assert (again["id"], FeatureOverride.objects.count()) == (first["id"], 3)


def test_many_customers_take_a_permission_of_their_own(api, three):
    """L-47"""
    made = bulk(api, customers=three)
    ops = caller_with("Ops", called="ops")

    assert bulk(ops, customers=three, dryRun=True).status == 403
    assert ops.get(f"override-batches/{made['id']}").status == 403
    assert ops.post(f"override-batches/{made['id']}/revoke", {"reason": "x"}).status == 403


def test_a_role_that_gives_to_many_but_nothing_for_good_gives_what_ends(api, three):
    """L-47"""
    caller = caller_with("Ops", called="ops")
    Group.objects.get(name="Ops").permissions.add(Permission.objects.get(codename="bulk_override"))

    assert bulk(caller, customers=three, effectiveUntil=None).status == 403
    assert bulk(caller, customers=three).status == 200
