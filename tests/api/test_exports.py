"""Lists as CSV files over the API."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission

from billing_admin.exports import EXPORTS
from billing_admin.flows import exports
from billing_admin.flows.migrate_order import Chosen
from billing_admin.models import ApiKey, Batch, Export, WorkerRun
from customers.models import Customer, PlanMigration
from tests import builders as a
from tests.admin.enable_desk import person
from tests.api.conftest import Answer, Caller, caller_with, role
from tests.flows.coupon_world import percent
from tests.instants import MARCH_16

pytestmark = pytest.mark.django_db

CUSTOMERS = {"list": "customers"}


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Any) -> None:
    settings.EXPORT_FOLDER = tmp_path


@pytest.fixture
def api(api: Caller) -> Caller:
    return api.at(MARCH_16)


def write(asked: Answer) -> Export:
    """What a worker does."""
    return exports.write(Export.objects.get(public_id=asked["id"]), clock=lambda: MARCH_16)


def fetch(api: Caller, asked: Answer) -> Answer:
    return api.get(f"exports/{asked['id']}/file")


def test_a_list_is_asked_for_written_by_a_worker_and_fetched(api: Caller) -> None:
    a.customer("Acme", customer_id="acme")

    asked = api.post("exports", CUSTOMERS)
    early = fetch(api, asked)
    write(asked)
    found, file = api.get(f"exports/{asked['id']}"), fetch(api, asked)

    assert (asked.status, asked["state"], asked["fileUrl"], asked["createdBy"]) == (201, "waiting", None, "api:backend")
    assert (early.status, early["code"]) == (409, "no_file")
    assert (found["state"], found["total"], found["done"]) == ("done", 1, 1)
    assert found["fileUrl"].endswith(f"/api/v1/exports/{asked['id']}/file")
    assert (file.status, file.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert file.headers["Content-Disposition"] == 'attachment; filename="customers-2026-03-16.csv"'
    assert b"\nacme," in file.body


def test_the_file_is_narrowed_as_its_list_would_be(api: Caller) -> None:
    a.customer("Acme", customer_id="acme")
    a.on(a.pro(50), name="Globex")

    asked = api.post("exports", {**CUSTOMERS, "filters": {"state": "active", "plan": "pro"}})
    write(asked)

    assert asked["filters"] == {"state": ["active"], "plan": ["pro"]}
    assert b"Globex" in fetch(api, asked).body and b"acme" not in fetch(api, asked).body


def whose(of: str, who: Customer) -> str:
    """What a list of one thing is asked for with, as in the address of its page."""
    version = a.the_subscription(who).phases.get().version
    versions = {"plan": version.plan, "from_version": version, "to_version": version}
    said = {"reason": "x", "created_by": "boss", "created_at": MARCH_16}
    match of:
        case "migration":
            return PlanMigration.objects.create(**versions, **said, chosen=Chosen().to_json()).public_id
        case "batch":
            return Batch.objects.create(kind="notes", source="file", title="x", digest="x", total=0, **said).public_id
        case "run":
            return str(WorkerRun.objects.create(task="carry_out_rows", started_at=MARCH_16).pk)
    return str({"customer": who, "feature": a.feature("credits"), "coupon": percent(20)}[of].pk)


@pytest.mark.parametrize("kind", sorted(EXPORTS))
def test_every_list_can_be_written_for_a_key(api: Caller, kind: str) -> None:
    who = a.on(a.pro(50))
    of = EXPORTS[kind].of

    asked = api.post("exports", {"list": kind, "filters": {of: whose(of, who)} if of else {}})

    assert asked.status == 201, asked.body
    assert write(asked).state == "done"


@pytest.mark.parametrize("kind", ["customers", "plans", "invoices"])
def test_a_condition_that_the_list_does_not_know_is_refused(api: Caller, kind: str) -> None:
    answer = api.post("exports", {"list": kind, "filters": {"colour": "red"}})

    assert (answer.status, answer["code"], answer["field"][:7]) == (400, "unknown_field", "filters")
    assert not Export.objects.exists()


@pytest.mark.parametrize(("kind", "name"), [("customers", "plan"), ("invoices", "state")])
def test_a_value_that_the_list_does_not_know_is_refused(api: Caller, kind: str, name: str) -> None:
    answer = api.post("exports", {"list": kind, "filters": {name: "prro"}})

    assert (answer.status, answer["code"], answer["field"]) == (400, "bad_condition", f"filters.{name}")


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("history", "customer", "²"),
        ("invoices", "customer", "nobody"),
        ("history", "until", "9999-12-31"),
        ("coming", "day", "9999-12-31"),
        ("approvals", "shown", "everything"),
    ],
)
def test_a_value_that_nothing_can_be_is_refused(api: Caller, kind: str, name: str, value: str) -> None:
    answer = api.post("exports", {"list": kind, "filters": {name: value}})

    assert (answer.status, answer["code"], answer["field"]) == (400, "bad_condition", f"filters.{name}")


@pytest.mark.parametrize(
    ("kind", "name"), [("wallet", "until"), ("events_of_customer", "since"), ("events_of_feature", "until")]
)
@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01"])
def test_a_day_at_the_edge_of_the_calendar_is_refused(api: Caller, kind: str, name: str, day: str) -> None:
    of = EXPORTS[kind].of
    answer = api.post("exports", {"list": kind, "filters": {of: whose(of, a.on(a.pro(50))), name: day}})

    assert (answer.status, answer["code"], answer["field"]) == (400, "bad_condition", f"filters.{name}")


def test_the_invoices_of_one_customer_are_asked_for_by_the_id_of_the_application(api: Caller) -> None:
    plan = a.pro(50)
    acme, globex = (a.on(plan, name=name).customer_id for name in ("Acme", "Globex"))

    asked = api.post("exports", {"list": "invoices", "filters": {"customer": acme}})
    write(asked)

    file = fetch(api, asked).body.decode()
    assert f",{acme}," in file and f",{globex}," not in file


def test_a_list_that_is_not_there_is_refused(api: Caller) -> None:
    answer = api.post("exports", {"list": "poems"})

    assert (answer.status, answer["code"], answer["field"]) == (400, "unknown_list", "list")


def test_an_export_takes_the_permission_to_see_its_list(api: Caller) -> None:
    reader = caller_with("Read-only", called="reader").at(MARCH_16)

    assert reader.post("exports", {"list": "people"}).status == 403
    assert reader.post("exports", CUSTOMERS).status == 201


def test_the_permission_is_asked_again_when_the_file_is_written(api: Caller) -> None:
    asked = api.post("exports", CUSTOMERS)
    role("Admin").permissions.remove(Permission.objects.get(codename="view_customer"))

    assert (write(asked).state, api.get(f"exports/{asked['id']}")["state"]) == ("failed", "failed")


def test_the_permission_is_asked_again_when_the_file_is_fetched(api: Caller) -> None:
    asked = api.post("exports", CUSTOMERS)
    write(asked)
    role("Admin").permissions.remove(Permission.objects.get(codename="view_customer"))

    assert fetch(api, asked).status == 403


def test_nothing_is_written_for_a_key_that_was_revoked(api: Caller) -> None:
    asked = api.post("exports", CUSTOMERS)
    ApiKey.objects.update(revoked_at=MARCH_16)

    assert write(asked).state == "failed"


def test_a_key_finds_its_own_exports_only(api: Caller) -> None:
    asked = api.post("exports", CUSTOMERS)
    other = caller_with("Read-only", called="reader").at(MARCH_16)
    own = other.post("exports", CUSTOMERS)

    assert (other.get(f"exports/{asked['id']}").status, fetch(other, asked).status) == (404, 404)
    assert [row["id"] for row in other.get("exports")["data"]] == [own["id"]]


def test_whoever_may_see_those_of_others_sees_them(api: Caller) -> None:
    theirs = exports.ask_for("customers", "", user=person("Ops"), now=MARCH_16)
    reader = caller_with("Read-only", called="reader").at(MARCH_16).post("exports", CUSTOMERS)

    first = api.get("exports", limit=1)
    rest = api.get("exports", cursor=first["nextCursor"])

    assert [row["id"] for row in first["data"]] == [reader["id"]]
    assert [(row["id"], row["createdBy"]) for row in rest["data"]] == [(theirs.public_id, "ops")]


def test_a_file_that_is_over_is_gone(api: Caller) -> None:
    asked = api.post("exports", CUSTOMERS)
    write(asked)

    answer = fetch(api.at(MARCH_16 + timedelta(days=7)), asked)

    assert (answer.status, answer["code"]) == (409, "no_file")


def test_so_many_are_under_way_at_once(api: Caller) -> None:
    for _ in range(exports.MOST_AT_ONCE):
        api.post("exports", CUSTOMERS)

    answer = api.post("exports", CUSTOMERS)
    other = caller_with("Read-only", called="reader").at(MARCH_16).post("exports", CUSTOMERS)

    assert (answer.status, answer["code"]) == (409, "too_many_exports")
    assert other.status == 201


def test_asking_again_with_an_idempotency_key_is_the_same_export(api: Caller) -> None:
    first, again = (api.post("exports", CUSTOMERS, Idempotency_Key="nightly 7") for _ in range(2))

    assert first["id"] == again["id"] and Export.objects.count() == 1


def test_a_list_without_rows_is_its_heading(api: Caller) -> None:
    asked = api.post("exports", CUSTOMERS)
    write(asked)

    assert fetch(api, asked).body.startswith(b"customer_id,id,name,")
    assert fetch(api, asked).body.count(b"\n") == 1
