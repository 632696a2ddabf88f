"""Imports and bulk acts over the API."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User

from billing_admin.flows import batches
from billing_admin.flows.approvals import MayNotDecide, approve
from billing_admin.holders import KeyHolder
from billing_admin.models import ApiKey, ApprovalRequest, Batch
from customers.models import Customer, Note, Operation
from tests import builders as a
from tests.admin.enable_desk import person
from tests.api.conftest import Answer, Caller, caller_with, role
from tests.approving import rule
from tests.instants import MARCH_16

pytestmark = pytest.mark.django_db

NOTES = {"act": "notes", "inputs": {"text": "Called."}, "reason": "a round of calls"}
GRANTS = {"act": "grants", "inputs": {"feature": "credits", "units": 50, "until": "2027-01-01"}, "reason": "outage"}


@pytest.fixture
def api(api: Caller) -> Caller:
    return api.at(MARCH_16)


@pytest.fixture
def three(db: None) -> list[str]:
    plan = a.pro(50)
    return [a.on(plan, name=name).customer_id for name in ("Acme", "Globex", "Initech")]


def confirm(api: Caller, batch: Answer, **headers: str) -> Answer:
    return api.post(f"batches/{batch['id']}/confirm", {"confirmation": batch["confirmation"]}, **headers)


def go_on(batch_id: str) -> Batch:
    """What a worker does."""
    batch = Batch.objects.get(public_id=batch_id)
    batches.go_on(batch, clock=lambda: MARCH_16, until=MARCH_16 + timedelta(seconds=1))
    return batch


def done(api: Caller, **asked: Any) -> Answer:
    """A batch that was tried, confirmed and carried out."""
    batch = api.post("batches", asked)
    confirm(api, batch)
    go_on(batch["id"])
    return api.get(f"batches/{batch['id']}")


def caller_who_may(*codes: str, called: str = "narrow") -> Caller:
    group = Group.objects.create(name=called)
    for code in codes:
        label, name = code.split(".")
        group.permissions.add(Permission.objects.get(content_type__app_label=label, codename=name))
    return Caller(ApiKey.issue(called, group, by="tests")[1], MARCH_16)


# Trying ---------------------------------------------------------------------------------------------------------------


def test_an_act_for_customers_is_tried_and_nothing_is_done(api, three):
    """L-29"""
    batch = api.post("batches", {**GRANTS, "customers": [*three, "nobody"]})

    assert (batch.status, batch["state"], batch["source"]) == (201, "tried", "chosen")
    assert (batch["counts"]["ready"], batch["counts"]["leftOut"]) == (3, 1)
    assert batch["units"] == [{"featureSlug": "credits", "units": 150}]
    assert not Operation.objects.filter(verb="grant.given").exists()


def test_the_rows_say_before_and_after_and_why_one_is_left_out(api, three):
    """L-29"""
    batch = api.post("batches", {**GRANTS, "customers": [three[0], "nobody"]})

    first, second = api.get(f"batches/{batch['id']}/rows")["data"]

    assert (first["line"], first["state"], first["customerId"]) == (2, "ready", three[0])
    assert (first["before"], first["after"]) == ("Credits: 100 left", "Credits: 150 left until 1 Jan 2027")
    assert (second["state"], second["problem"]["code"], second["problem"]["field"]) == (
        "left_out",
        "customer_not_found",
        "customer_id",
    )


def test_all_customers_can_be_meant(api, three):
    assert api.post("batches", {**NOTES, "customers": "all"})["counts"]["ready"] == 3


def test_those_who_match_a_filter_are_meant_as_they_are_now(api, three):
    batch = api.post("batches", {**NOTES, "filter": {"q": "Glo", "plan": "pro"}})

    assert (batch["counts"]["total"], batch["title"]) == (1, "1 customer: all that match q=Glo&plan=pro")


def test_a_filter_that_cannot_be_read_is_refused_and_does_not_mean_everybody(api, three):
    answer = api.post("batches", {**NOTES, "filter": {"plan": "prro"}})

    assert (answer.status, answer["field"]) == (400, "filter.plan")
    assert not Batch.objects.exists()


def test_money_that_is_due_at_once_is_summed_up(api):
    """L-29"""
    a.pro(50)
    names = [a.customer(name).customer_id for name in ("Acme", "Globex")]

    batch = api.post("batches", {"act": "assignments", "inputs": {"plan": "pro"}, "customers": names, "reason": "x"})

    assert [money["formatted"] for money in batch["due"]] == ["$100.00"]


ROWS: dict[str, dict[str, Any]] = {
    "customers": {"customerId": "new", "name": "New", "email": "new@example.com"},
    "assignments": {"customerId": "acme", "plan": "pro"},
    "grants": {"customer_id": "acme", "feature": "credits", "units": "12.5", "until": "lasting"},
    "coupons": {"customerId": "acme", "coupon": "half"},
    "notes": {"customerId": "acme", "text": "Called,\n\ntwice."},
}


@pytest.mark.parametrize("act", sorted(ROWS))
def test_rows_of_every_kind_can_be_imported(api, act):
    a.feature("credits")
    a.pro(50)
    a.customer("Acme", customer_id="acme")
    api.post("coupons", {"code": "half", "name": "Half", "kind": "percent", "percent": "50", "duration": "once"})

    batch = done(api, act=act, rows=[ROWS[act]], reason="moved here")

    assert (batch["state"], batch["counts"]["done"], batch["source"]) == ("finished", 1, "file")


def test_the_same_is_imported_from_a_csv_text(api):
    text = "customer_id;name\nacme;Acme\nglobex;Globex"

    batch = done(api, act="customers", csv=text, title="people.csv", reason="moved here")

    assert (batch["title"], batch["counts"]["done"]) == ("people.csv", 2)
    assert set(Customer.objects.values_list("customer_id", flat=True)) == {"acme", "globex"}


# What cannot be read --------------------------------------------------------------------------------------------------


def places(answer: Answer) -> list[str]:
    return [problem["field"] for problem in answer["errors"]]


def test_each_wrong_cell_is_named_by_its_place(api):
    rows = [
        {"customerId": "acme", "feature": "credits", "units": "many", "until": "2027-01-01"},
        {"customerId": "globex", "feature": "credits", "units": 5, "until": "soon", "colour": "red"},
    ]

    answer = api.post("batches", {"act": "grants", "rows": rows, "reason": "x"})

    assert (answer.status, answer["code"], answer["field"]) == (400, "bad_rows", "rows.0.units")
    assert sorted(places(answer)) == ["rows.0.units", "rows.1.colour", "rows.1.until"]
    assert not Batch.objects.exists()


def test_each_wrong_cell_of_a_text_is_named_by_line_and_column(api):
    text = "customer_id,name,usage_started_at\nacme,,2026-01-01\n\nglobex,Globex,long ago"

    answer = api.post("batches", {"act": "customers", "csv": text, "reason": "x"})

    assert places(answer) == ["csv.2.name", "csv.4.usage_started_at"]


def test_a_heading_that_is_not_known_is_named(api):
    answer = api.post("batches", {"act": "notes", "csv": "customer_id,words\nacme,Called.", "reason": "x"})

    assert set(places(answer)) == {"csv.1.words", "csv.1.text"}


def test_what_is_wrong_for_everybody_is_named_once(api, three):
    answer = api.post("batches", {**GRANTS, "inputs": {"units": 5, "until": "2027-01-01"}, "customers": three})

    assert places(answer) == ["inputs.feature"]


@pytest.mark.parametrize(
    ("asked", "code", "field"),
    [
        ({"act": "poems", "customers": "all"}, "unknown_kind", "act"),
        ({"act": "overrides", "customers": "all"}, "unknown_kind", "act"),
        ({**NOTES}, "missing_field", "rows"),
        ({**NOTES, "customers": "all", "csv": "x"}, "missing_field", "rows"),
        ({**NOTES, "rows": [{"customerId": "acme"}]}, "invalid", "inputs"),
        ({**NOTES, "inputs": {"customerId": "acme", "text": "x"}, "customers": "all"}, "unknown_field", None),
        ({**NOTES, "inputs": {"text": "x", "colour": "red"}, "customers": ["acme"]}, "bad_rows", "inputs.colour"),
        ({**NOTES, "customers": "all", "reason": " "}, "reason_required", "reason"),
        ({**NOTES, "filter": {"q": "nobody is called so"}}, "bad_rows", "filter"),
        ({"act": "customers", "customers": ["acme"], "reason": "x"}, "bad_rows", "customers"),
        ({"act": "notes", "rows": [{"customerId": "a", "customer_id": "b"}], "reason": "x"}, "bad_rows", None),
        ({"act": "assignments", "rows": [{"customerId": "a", "plan": "p", "quantity": "²"}]}, "reason_required", None),
    ],
)
def test_what_makes_no_sense_is_refused(api, three, asked, code, field):
    answer = api.post("batches", asked)

    assert (answer.status, answer["code"]) == (400, code), answer.body
    assert field is None or answer["field"] == field
    assert not Batch.objects.exists()


@pytest.mark.parametrize(
    "cells", [{"quantity": "²"}, {"quantity": "9" * 5_000}, {"endsOn": "0001-01-01T00:00:00+14:00"}]
)
def test_strange_numbers_and_dates_are_wrong_cells(api, cells):
    row = {"customerId": "acme", "plan": "pro", **cells}

    assert api.post("batches", {"act": "assignments", "rows": [row], "reason": "x"})["code"] == "bad_rows"


def test_a_batch_takes_so_many_rows(api, monkeypatch):
    monkeypatch.setattr(batches, "MOST", 2)
    rows = [{"customerId": f"c{n}", "text": "Called."} for n in range(3)]

    answer = api.post("batches", {"act": "notes", "rows": rows, "reason": "x"})

    assert (answer["code"], answer["message"]) == ("bad_rows", "Send 1 to 2 rows.")


def test_more_rows_than_any_batch_takes_are_not_even_read(api):
    answer = api.post("batches", {"act": "notes", "rows": [{"text": "x"}] * 10_001, "reason": "x"})

    assert (answer.status, answer["field"]) == (400, "rows")


@pytest.mark.parametrize("headers", [{}, {"Idempotency_Key": "job 7"}])
def test_a_body_that_is_too_large_is_refused_in_our_shape(api, settings, headers):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100

    answer = api.post("batches", {**NOTES, "csv": "x" * 200}, **headers)

    assert (answer.status, answer["code"]) == (413, "too_large")


def test_the_same_rows_are_imported_again_only_on_purpose(api, three):
    asked = {"act": "notes", "rows": [{"customerId": three[0], "text": "Called."}], "reason": "x"}
    first = done(api, **asked)

    answer = api.post("batches", asked)
    again = api.post("batches", {**asked, "again": True})

    assert (answer.status, answer["code"]) == (409, "imported_before") and first["id"] in answer["message"]
    assert again.status == 201


# Confirming and following ---------------------------------------------------------------------------------------------


def test_what_was_confirmed_is_left_to_a_worker_and_done_by_it(api, three):
    """L-29"""
    batch = api.post("batches", {**NOTES, "customers": three})

    answer = confirm(api, batch)

    assert (answer.status, answer["state"], Note.objects.count()) == (200, "running", 0)
    go_on(batch["id"])
    assert api.get(f"batches/{batch['id']}")["counts"]["done"] == 3
    assert set(Operation.objects.filter(verb="note.added").values_list("actor", "batch")) == {
        ("api:backend", batch["id"])
    }


def test_confirming_again_changes_nothing(api, three):
    batch = api.post("batches", {**NOTES, "customers": three})
    confirm(api, batch)
    go_on(batch["id"])

    again = confirm(api, batch)

    assert (again.status, again["state"]) == (200, "finished")
    assert Operation.objects.filter(verb="bulk.started").count() == 1


def test_a_confirmation_with_an_idempotency_key_is_answered_as_before(api, three):
    batch = api.post("batches", {**NOTES, "customers": three})
    first = confirm(api, batch, Idempotency_Key="job 7")
    go_on(batch["id"])

    again = confirm(api, batch, Idempotency_Key="job 7")

    assert (again.body, again.headers["Idempotent-Replayed"]) == (first.body, "true")


def test_beginning_with_an_idempotency_key_begins_one(api, three):
    asked = {**NOTES, "customers": three}

    first, again = (api.post("batches", asked, Idempotency_Key="job 7") for _ in range(2))

    assert first["id"] == again["id"] and Batch.objects.count() == 1


def test_a_batch_is_confirmed_as_it_was_tried(api, three):
    batch = api.post("batches", {**NOTES, "customers": three})

    answer = api.post(f"batches/{batch['id']}/confirm", {"confirmation": "something else"})

    assert (answer.status, answer["code"]) == (409, "preview_outdated")


def test_many_rows_are_tried_by_the_workers(api, monkeypatch, three):
    monkeypatch.setattr(batches, "AT_ONCE", 2)
    batch = api.post("batches", {**NOTES, "customers": three})

    assert (batch["state"], batch["confirmation"]) == ("trying", None)
    early = api.post(f"batches/{batch['id']}/confirm", {"confirmation": ""})
    assert (early.status, early["code"]) == (409, "batch_not_in_this_state")
    go_on(batch["id"])
    assert api.get(f"batches/{batch['id']}")["state"] == "tried"


def test_rows_come_in_pages_and_by_state(api, three):
    batch = api.post("batches", {**NOTES, "customers": [*three, "nobody"]})
    path = f"batches/{batch['id']}/rows"

    first = api.get(path, limit=3)
    rest = api.get(path, limit=3, cursor=first["nextCursor"])

    assert ([row["line"] for row in first["data"]], first["nextCursor"]) == ([2, 3, 4], "4")
    assert ([row["line"] for row in rest["data"]], rest["nextCursor"]) == ([5], None)
    assert [row["customerId"] for row in api.get(path, state="left_out")["data"]] == ["nobody"]
    assert api.get(path, cursor="x")["code"] == "bad_cursor"


def test_batches_are_listed_newest_first(api, three, django_assert_max_num_queries):
    made = [api.post("batches", {**NOTES, "customers": [name]})["id"] for name in three]

    with django_assert_max_num_queries(8):
        first = api.get("batches", limit=2)

    assert [batch["id"] for batch in first["data"]] == made[:0:-1]
    assert [batch["id"] for batch in api.get("batches", cursor=first["nextCursor"])["data"]] == made[:1]
    assert first["data"][0]["counts"]["ready"] == 1


def test_stopped_rows_wait_until_somebody_goes_on(api, three):
    batch = api.post("batches", {**NOTES, "customers": three})
    confirm(api, batch)

    assert api.post(f"batches/{batch['id']}/stop")["state"] == "stopped"
    go_on(batch["id"])
    assert not Note.objects.exists()
    assert api.post(f"batches/{batch['id']}/resume")["state"] == "running"
    go_on(batch["id"])
    assert Note.objects.count() == 3


def test_what_is_not_under_way_cannot_be_stopped(api, three):
    batch = api.post("batches", {**NOTES, "customers": three})

    answer = api.post(f"batches/{batch['id']}/stop")

    assert (answer.status, answer["code"]) == (409, "batch_not_in_this_state")


def test_rows_that_failed_are_tried_again_and_confirmed_anew(api):
    who = a.customer("Acme")
    batch = api.post("batches", {**NOTES, "customers": [who.customer_id]})
    confirm(api, batch)
    Customer.objects.filter(pk=who.pk).update(closed_at=MARCH_16)
    Group.objects.get(name="Admin").permissions.remove(Permission.objects.get(codename="add_note"))
    go_on(batch["id"])
    Customer.objects.filter(pk=who.pk).update(closed_at=None)
    role("Admin").permissions.add(Permission.objects.get(codename="add_note"))

    again = api.post(f"batches/{batch['id']}/retry")

    assert (again["state"], again["counts"]["ready"], again["confirmation"] is None) == ("tried", 1, False)


def test_the_whole_is_taken_back_by_a_worker(api, three):
    """L-29"""
    batch = done(api, **GRANTS, customers=three)

    answer = api.post(f"batches/{batch['id']}/undo", {"reason": "the wrong list"})
    go_on(batch["id"])
    found = api.get(f"batches/{batch['id']}")

    assert answer["state"] == "taking_back"
    assert (found["state"], found["counts"]["takenBack"], found["takenBackBy"]) == ("taken_back", 3, "api:backend")


def test_a_revoked_key_takes_no_more_rows_back(api, three):
    batch = done(api, **NOTES, customers=three)
    api.post(f"batches/{batch['id']}/undo", {"reason": "the wrong list"})
    ApiKey.objects.update(revoked_at=MARCH_16)

    rows = go_on(batch["id"]).rows

    assert set(rows.values_list("state", "problem")) == {
        ("kept", "api:backend may no longer do this, so it cannot be carried out.")
    }


def test_taking_back_takes_a_reason(api, three):
    batch = done(api, **NOTES, customers=three)

    answer = api.post(f"batches/{batch['id']}/undo", {})

    assert (answer.status, answer["code"]) == (400, "reason_required")


def test_what_is_not_there_is_not_found(api):
    assert [
        (api.get("batches/imp_none").status, api.get("batches/imp_none/rows").status),
        (api.post("batches/imp_none/stop").status, api.get("batches/imp_none")["code"]),
    ] == [(404, 404), (404, "batch_not_found")]


# Who may --------------------------------------------------------------------------------------------------------------


def test_an_act_takes_its_own_permission(three):
    api = caller_with("Application", called="app").at(MARCH_16)

    answer = api.post("batches", {**GRANTS, "customers": three})

    assert (answer.status, answer["code"]) == (403, "forbidden")


def test_acts_on_customers_take_that_they_may_be_seen(three):
    api = caller_who_may("billing_admin.view_batch", "customers.add_note")

    assert api.post("batches", {**NOTES, "customers": "all"}).status == 403


def test_a_key_that_may_only_read_does_not_confirm_what_another_tried(api, three):
    batch = api.post("batches", {**NOTES, "customers": three})
    other = caller_with("Read-only", called="reader").at(MARCH_16)

    assert confirm(other, batch).status == 403
    assert other.get(f"batches/{batch['id']}").status == 200


def test_nobody_confirms_rows_of_others_that_they_could_not_do(api, three):
    """A-53: assigned plans take less than billed ones."""
    asked = {"act": "assignments", "inputs": {"plan": "pro"}, "customers": [a.customer("Fourth").customer_id]}
    batch = api.post("batches", {**asked, "reason": "x"})
    other = caller_with("Ops", called="ops").at(MARCH_16)

    answer = confirm(other, batch)

    assert answer.status == 403 and "permission to enable" in answer["message"]


def test_rows_are_done_with_the_rights_of_the_key_that_began_it(three):
    narrow = caller_who_may("billing_admin.view_batch", "customers.add_note", "customers.view_customer")
    batch = narrow.post("batches", {**NOTES, "customers": three[:1]})
    confirm(caller_with().at(MARCH_16), batch)
    Group.objects.get(name="narrow").permissions.clear()

    go_on(batch["id"])

    row = Batch.objects.get().rows.get()
    assert (row.state, row.code) == ("failed", "not_allowed")


def test_a_revoked_key_does_no_more_rows(api, three):
    batch = api.post("batches", {**NOTES, "customers": three})
    confirm(api, batch)
    ApiKey.objects.update(revoked_at=MARCH_16)

    go_on(batch["id"])

    assert set(Batch.objects.get().rows.values_list("code", flat=True)) == {"not_allowed"}


def test_what_a_person_tried_is_confirmed_by_a_key_that_may_do_all_of_it(api, three):
    made = batches.begin_chosen(
        "notes", three, {"text": "Called."}, title="three", reason="x", user=person("Ops"), now=MARCH_16
    )
    go_on(made.public_id)
    batch = api.get(f"batches/{made.public_id}")

    assert confirm(api, batch)["state"] == "running"
    go_on(made.public_id)
    assert set(Operation.objects.filter(verb="note.added").values_list("actor", flat=True)) == {"ops"}


# A second person ------------------------------------------------------------------------------------------------------


def test_a_rule_is_asked_and_the_batch_is_done_once_it_is_approved(api, three):
    """A-53"""
    rule("bulk.started", measure="customers", above="2")
    batch = api.post("batches", {**NOTES, "customers": three})

    asked, same = confirm(api, batch), confirm(api, batch)

    assert (asked.status, asked["approval"]["approver"]) == (202, "Finance")
    assert same["approval"]["id"] == asked["approval"]["id"]
    assert api.get(f"batches/{batch['id']}")["state"] == "tried"
    approve(ApprovalRequest.objects.get(), user=User.objects.create_superuser("boss"), now=MARCH_16)
    go_on(batch["id"])
    assert (api.get(f"batches/{batch['id']}")["approvedBy"], Note.objects.count()) == ("boss", 3)
    assert confirm(api, batch).status == 200


def test_a_batch_below_the_rule_asks_nobody(api, three):
    """A-53"""
    rule("bulk.started", measure="customers", above="3")

    assert confirm(api, api.post("batches", {**NOTES, "customers": three})).status == 200


@pytest.mark.parametrize("by", ["a person", "a key of theirs"])
def test_whoever_began_it_is_no_second_person_when_a_key_confirms_it(api, three, by):
    """A-53: else one person and a program would do for two."""
    rule("bulk.started", measure="customers", above="1")
    boss = User.objects.create_superuser("boss")
    own, _ = ApiKey.issue("own", role("Admin"), by="boss")
    holder = boss if by == "a person" else KeyHolder(own)
    made = batches.begin_chosen("notes", three, {"text": "x"}, title="three", reason="x", user=holder, now=MARCH_16)
    go_on(made.public_id)
    confirm(api, api.get(f"batches/{made.public_id}"))

    with pytest.raises(MayNotDecide):
        approve(ApprovalRequest.objects.get(), user=boss, now=MARCH_16)
    go_on(made.public_id)
    assert not Note.objects.exists()
