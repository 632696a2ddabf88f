"""Moving many customers to another version over the API."""

import pytest
from django.contrib.auth.models import Group

from billing_admin.flows.migrate_run import carry_out
from billing_admin.models import ApprovalRule
from customers.models import Customer, PlanMigration
from tests import builders as a
from tests.api.conftest import caller_with
from tests.flows.migrations_world import second_version
from tests.instants import APRIL_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db
SAME = [{"from": "base", "to": "base"}]


@pytest.fixture
def pro(db):
    made = a.pro(50)
    for name in ("Acme", "Globex", "Initech"):
        a.on(made, name=name)
    second_version(made, a.fee(60), a.allowance(100))
    return made


@pytest.fixture
def api(api):
    return api.at(MARCH_16)


def ask(api, **more):
    asked = {"fromVersion": 1, "toVersion": 2, "priceMappings": SAME, "reason": "spring", **more}
    return api.post("plans/pro/migrations", asked)


def test_a_dry_run_says_what_would_happen_and_begins_nothing(api, pro):
    """L-29"""
    answer = ask(api, dryRun=True)

    assert (answer.status, answer["moves"], answer["skips"]) == (200, 3, {})
    assert answer["sums"][0]["difference"]["formatted"] == "$30.00"
    assert answer["priceDifferences"] == ["Base fee: $50.00 / month → $60.00 / month"]
    row = answer["rows"][0]
    assert (row["oldPrice"]["amount"], row["newPrice"]["amount"], row["startsAt"]) == (
        5000,
        6000,
        "2026-04-01T00:00:00Z",
    )
    assert not PlanMigration.objects.exists()


def test_a_migration_is_begun_and_followed(api, pro):
    """L-24"""
    began = ask(api)
    carry_out(PlanMigration.objects.get(), MARCH_16)
    found = api.get(f"migrations/{began['id']}")

    assert (began.status, began["state"], began["counts"]["waiting"]) == (201, "running", 3)
    assert (found["state"], found["counts"]["scheduled"]) == ("finished", 3)
    assert api.at(APRIL_1).get(f"migrations/{began['id']}")["counts"]["moved"] == 3


def test_what_was_confirmed_has_to_be_as_it_was(api, pro):
    """L-29"""
    seen = ask(api, dryRun=True)
    who = a.customer("Fourth")
    a.enable(who, pro, version=pro.versions.get(number=1), now=MARCH_16)

    answer = ask(api, fingerprint=seen["fingerprint"])

    assert (answer.status, answer["code"]) == (409, "dry_run_outdated")


def test_a_price_without_a_mapping_is_refused_by_name(api, pro):
    """L-25"""
    answer = ask(api, priceMappings=[])

    assert (answer.status, answer["code"], answer["field"]) == (400, "unmapped_price", "priceMappings")
    assert [(e["code"], e["field"]) for e in answer["errors"]] == [("unmapped_price", "priceMappings")]


def test_mappings_can_be_asked_for(api, pro):
    """L-25"""
    answer = api.get("plans/pro/migrations/mappings", fromVersion=1, toVersion=2)

    assert (answer["mappings"], answer["unmapped"]) == (SAME, [])


def test_prices_are_never_changed_at_once(api, pro):
    """L-24"""
    answer = ask(api, schedule="now")

    assert (answer.status, answer["code"], answer["field"]) == (400, "prices_differ", "schedule")


def test_a_date_is_the_first_billing_cycle_from_there(api, pro):
    """L-24"""
    answer = ask(api, schedule="2026-04-15", dryRun=True)

    assert {row["startsAt"] for row in answer["rows"]} == {"2026-05-01T00:00:00Z"}


@pytest.mark.parametrize("schedule", ["tomorrow", "0001-01-01T00:00:00+14:00", "9999-01-01"])
def test_a_schedule_that_is_none_is_refused(api, pro, schedule):
    answer = ask(api, schedule=schedule)

    assert (answer.status, answer["code"], answer["field"]) == (400, "bad_schedule", "schedule")


def test_single_customers_can_be_named_and_unknown_ones_are_told(api, pro):
    acme = Customer.objects.first()

    assert ask(api, customers=[acme.customer_id], dryRun=True)["moves"] == 1
    answer = ask(api, customers=[acme.customer_id, "nobody"])
    assert (answer.status, answer["code"], answer["field"]) == (400, "customer_not_on_version", "customers.1")


def test_it_takes_a_reason(api, pro):
    answer = ask(api, reason="")

    assert (answer.status, answer["code"], answer["field"]) == (400, "reason_required", "reason")


def test_rows_are_read_page_by_page_and_by_state(api, pro):
    began = ask(api)
    path = f"migrations/{began['id']}/rows"

    first = api.get(path, limit=2)
    rest = api.get(path, limit=2, cursor=first["nextCursor"])

    assert [len(page["rows"]) for page in (first, rest)] == [2, 1]
    assert rest["nextCursor"] is None
    assert {row["state"] for row in first["rows"]} == {"waiting"}
    assert api.get(path, state="failed")["rows"] == []


def test_it_is_paused_resumed_stopped_and_taken_back(api, pro):
    migration = ask(api)["id"]
    carry_out(PlanMigration.objects.get(), MARCH_16, 1)
    why = {"reason": "a mistake"}

    states = [
        api.post(f"migrations/{migration}/{act}", why)["state"] for act in ("pause", "resume", "stop", "take-back")
    ]
    carry_out(PlanMigration.objects.get(), MARCH_16)

    assert states == ["paused", "running", "stopped", "taking_back"]
    found = api.get(f"migrations/{migration}")
    assert (found["state"], found["counts"]["takenBack"], found["takeBackReason"]) == ("taken_back", 3, "a mistake")


def test_what_cannot_be_done_in_a_state_is_a_conflict(api, pro):
    migration = ask(api)["id"]

    answer = api.post(f"migrations/{migration}/resume", {})

    assert (answer.status, answer["code"]) == (409, "migration_state")


def test_one_contract_is_taken_back_or_kept_with_the_reason(api, pro):
    """L-26"""
    migration = ask(api)["id"]
    carry_out(PlanMigration.objects.get(), MARCH_16)
    first, second, _ = api.get(f"migrations/{migration}/rows")["rows"]
    a.pass_time(Customer.objects.get(customer_id=second["customerId"]), to=APRIL_1)

    back = api.post(f"migrations/{migration}/rows/{first['subscriptionId']}/take-back", {"reason": "x"})
    kept = api.at(APRIL_1).post(f"migrations/{migration}/rows/{second['subscriptionId']}/take-back", {"reason": "x"})

    assert back["state"] == "taken_back"
    assert (kept["state"], kept["problem"]["code"]) == ("kept", "invoiced")


def test_one_contract_is_tried_again(api, pro):
    """L-29"""
    acme = Customer.objects.first()
    subscription = a.the_subscription(acme)
    subscription.ends_at = MAY_1
    subscription.save()
    migration = ask(api)["id"]
    subscription.ends_at = None
    subscription.save()

    answer = api.post(f"migrations/{migration}/rows/{subscription.public_id}/retry")

    assert (answer.status, answer["state"]) == (200, "scheduled")


def test_lists_are_of_one_plan_or_all(api, pro):
    ask(api)

    assert len(api.get("migrations")["migrations"]) == 1
    assert len(api.get("migrations", planId="pro")["migrations"]) == 1
    assert api.get("migrations", planId="team")["migrations"] == []


@pytest.mark.parametrize(
    ("role", "may"), [("Finance", True), ("Admin", True), ("Ops", False), ("Sales engineer", False)]
)
def test_it_takes_the_permission(pro, role, may):
    """A-53"""
    answer = ask(caller_with(role).at(MARCH_16), dryRun=True)

    assert answer.status == (200 if may else 403)


def test_a_large_one_is_asked_for_and_nothing_is_begun_before_somebody_agrees(api, pro):
    """A migration of more customers than a rule allows."""
    finance = Group.objects.get(name="Finance")
    ApprovalRule.objects.create(act="migration.started", measure="customers", above=2, approver=finance)

    few = ask(api, customers=[Customer.objects.first().customer_id])
    many = ask(api)

    assert (few.status, many.status) == (201, 202)
    assert many["approval"]["approver"] == "Finance"
    assert PlanMigration.objects.count() == 1
