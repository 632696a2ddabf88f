"""Imports and bulk acts as an engine: killed, doubled, approved by somebody else, erased with their customers."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from billing_admin.admin.links import link
from billing_admin.csv_table import BadRows
from billing_admin.flows import batches
from billing_admin.flows.approvals import ApprovalNeeded, approve, ask
from billing_admin.flows.batches import begin_file, confirm, digest_of, go_on, step
from billing_admin.flows.customers import close_customer, erase
from billing_admin.flows.exports import ask_for, path_of
from billing_admin.list_runs import carry_out_rows
from billing_admin.models import ApprovalRule, Batch, BatchRow, WorkerRun
from billing_admin.row_acts import ROW_ACTS
from billing_admin.tasks import carry_out_rows_of, write_export
from customers.journal import Actor
from customers.models import Customer, Note, Operation
from tests import builders as a
from tests.admin.enable_desk import person
from tests.instants import MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


def still() -> Any:
    return MARCH_16


def begun(kind: str, text: str, *, by: User | None = None) -> Batch:
    """Read and tried."""
    batch = begin_file(kind, text, name="rows.csv", reason="moved", user=by or person("Admin"), now=MARCH_16)
    while batch.state == Batch.State.TRYING:
        step(batch, MARCH_16)
    return batch


def started(kind: str, text: str) -> Batch:
    batch = begun(kind, text)
    confirm(batch, batch.fingerprint, actor=Actor.of(batch.user), now=MARCH_16)
    return batch


def notes_for(*people: Customer) -> str:
    return "\n".join(["customer_id,text", *(f"{who.customer_id},Called." for who in people)])


class Killed(BaseException):
    """The process ends here."""


def test_a_worker_that_is_killed_within_a_row_leaves_it_to_the_next(monkeypatch):
    """L-29: each row once, whoever dies."""
    people = [a.customer(f"Customer {n}") for n in range(4)]
    batch = started("notes", notes_for(*people))
    step(batch, MARCH_16)
    notes = ROW_ACTS["notes"]
    really = notes.do

    def dies(*args: Any, **kwargs: Any) -> Any:
        really(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(type(notes), "do", lambda _self, *args, **kwargs: dies(*args, **kwargs))
        with pytest.raises(Killed):
            step(batch, MARCH_16)
    go_on(batch, clock=still, until=MARCH_16 + timedelta(seconds=1))

    assert sorted(Note.objects.values_list("customer", flat=True)) == sorted(who.pk for who in people)
    assert batch.state == Batch.State.FINISHED


def test_the_clockwork_goes_on_with_what_nobody_finished():
    batch = started("notes", notes_for(a.customer(), a.customer("Globex")))

    carry_out_rows(clock=still).finish(MARCH_16)

    batch.refresh_from_db()
    assert (batch.state, Note.objects.count()) == ("finished", 2)
    assert WorkerRun.objects.get(task="carry_out_rows").done == 2


def test_a_batch_is_confirmed_as_it_was_looked_at():
    batch = begun("notes", notes_for(a.customer()))

    with pytest.raises(batches.Moved):
        confirm(batch, "something else", actor=Actor.of(batch.user), now=MARCH_16)
    confirm(batch, batch.fingerprint, actor=Actor.of(batch.user), now=MARCH_16)
    with pytest.raises(batches.NotInThisState):
        confirm(batch, batch.fingerprint, actor=Actor.of(batch.user), now=MARCH_16)


def test_what_a_second_person_approved_is_done_with_their_name():
    finance = Group.objects.get(name="Finance")
    ApprovalRule.objects.create(act="bulk.started", measure="customers", above=1, approver=finance)
    batch = begun("notes", notes_for(a.customer(), a.customer("Globex")))
    actor = Actor.of(batch.user)
    with pytest.raises(ApprovalNeeded) as needed:
        confirm(batch, batch.fingerprint, actor=actor, now=MARCH_16)

    request = ask(needed.value, reason="moved", actor=actor, now=MARCH_16)
    approve(request, user=person("Finance"), now=MARCH_16)
    batch.refresh_from_db()
    go_on(batch, clock=still, until=MARCH_16 + timedelta(seconds=1))

    made = Operation.objects.filter(verb="note.added")
    assert {(row.approval, row.approved_by) for row in made} == {(request.public_id, "finance")}


def test_a_batch_below_the_rule_needs_nobody():
    finance = Group.objects.get(name="Finance")
    ApprovalRule.objects.create(act="bulk.started", measure="customers", above=2, approver=finance)

    assert started("notes", notes_for(a.customer(), a.customer("Globex"))).state == Batch.State.RUNNING


def test_whoever_lost_the_permission_meanwhile_does_no_more_rows():
    """A-53"""
    batch = started("notes", notes_for(a.customer()))
    batch.user.groups.clear()

    batch = Batch.objects.get(pk=batch.pk)
    go_on(batch, clock=still, until=MARCH_16 + timedelta(seconds=1))

    row = batch.rows.get()
    assert (row.state, row.code) == ("failed", "not_allowed")


def test_the_same_rows_have_one_digest_whatever_their_line_ends():
    assert digest_of("notes", "a,b\r\nc,d\r\n") == digest_of("notes", "\ufeffa,b\nc,d")
    assert digest_of("notes", "a,b") != digest_of("grants", "a,b")


def test_what_was_imported_of_a_customer_goes_when_they_are_erased():
    batch = started("customers", "customer_id,name,email\nacme,Acme,ops@acme.example")
    go_on(batch, clock=still, until=MARCH_16 + timedelta(seconds=1))
    begun("customers", "customer_id,name\nacme,Acme again")
    who = Customer.objects.get(customer_id="acme")
    closed(who)

    erase(who.pk, now=MARCH_16 + timedelta(days=40))

    assert list(BatchRow.objects.values_list("cells", "after")) == [({}, ""), ({}, "")]


def test_a_request_for_a_batch_forgets_whom_it_named():
    """A-52"""
    finance = Group.objects.get(name="Finance")
    ApprovalRule.objects.create(act="bulk.started", measure="customers", above=1, approver=finance)
    who, other = a.customer("Jane Doe"), a.customer("Globex")
    batch = begun("notes", notes_for(who, other))
    actor = Actor.of(batch.user)
    with pytest.raises(ApprovalNeeded) as needed:
        confirm(batch, batch.fingerprint, actor=actor, now=MARCH_16)
    request = ask(needed.value, reason="moved", actor=actor, now=MARCH_16)
    closed(who)

    erase(who.pk, now=MARCH_16 + timedelta(days=40))

    request.refresh_from_db()
    assert "Jane Doe" not in str(request.shown) and "Globex" in str(request.shown)


def test_a_row_whose_customer_is_erased_stops_no_other():
    """A-52"""
    who, other = a.customer("Jane Doe"), a.customer("Globex")
    batch = started("notes", notes_for(who, other))
    batch.rows.filter(state="ready").update(state="failed")
    go_on(batch, clock=still, until=MARCH_16 + timedelta(seconds=1))
    closed(who)
    erase(who.pk, now=MARCH_16 + timedelta(days=40))

    batches.retry_failed(batch, actor=Actor.of(batch.user), now=MARCH_16)
    step(batch, MARCH_16)

    assert list(batch.rows.values_list("state", "code")) == [("left_out", "customer_erased"), ("ready", "")]


def test_a_file_with_nul_in_it_is_no_text():
    with pytest.raises(BadRows) as refused:
        begun("notes", "customer_id,text\nacme,fine\nacme,a\0b")

    assert [(problem.line, problem.column) for problem in refused.value.problems] == [(3, "customer_id")]


def test_nobody_lets_rows_be_done_or_taken_back_that_they_could_not_do(client):
    """A-53: whoever may put customers on assigned plans has no part in billed ones that somebody else prepared."""
    who, pro = a.customer(), a.pro(0)
    batch = begun("assignments", f"customer_id,plan\n{who.customer_id},{pro.key}", by=person("Sales engineer"))
    client.force_login(person("Ops"))
    confirm_url = link("batch_confirm", batch.public_id, seen=batch.fingerprint)

    assert client.post(confirm_url).status_code == 403
    batch.refresh_from_db()
    assert batch.state == Batch.State.TRIED

    confirm(batch, batch.fingerprint, actor=Actor.of(batch.user), now=MARCH_16)
    assert batches.needs_of(batch, "ready") == ("customers.enable_plan",)
    batches.stop(batch, actor=Actor.of(batch.user), now=MARCH_16)
    assert client.post(link("batch_turn", batch.public_id), {"do": "resume"}).status_code == 403
    batches.resume(batch, actor=Actor.of(batch.user), now=MARCH_16)
    go_on(batch, clock=still, until=MARCH_16 + timedelta(seconds=1))
    assert batch.rows.get().state == "done"
    assert client.post(link("batch_take_back", batch.public_id), {"reason": "no"}).status_code == 403


def closed(who: Customer) -> None:
    close_customer(who, reason="left", confirm_name=who.name, actor=a.STAFF, now=MARCH_16)


def test_rows_are_tried_in_chunks(monkeypatch):
    monkeypatch.setattr(batches, "CHUNK", 2)
    people = [a.customer(f"Customer {n}", since=MARCH_1) for n in range(5)]
    batch = begin_file("notes", notes_for(*people), name="x", reason="moved", user=person("Admin"), now=MARCH_16)

    assert [step(batch, MARCH_16) for _ in range(3)] == [2, 2, 1]
    assert batch.state == Batch.State.TRIED


def test_the_task_of_a_batch_carries_it_out():
    batch = started("notes", notes_for(a.customer()))

    carry_out_rows_of(batch.public_id)

    batch.refresh_from_db()
    assert (batch.state, Note.objects.count()) == ("finished", 1)


def test_the_task_of_an_export_writes_it(settings, tmp_path):
    settings.EXPORT_FOLDER = tmp_path
    export = ask_for("customers", "", user=person("Admin"), now=MARCH_16)

    write_export(export.public_id)

    export.refresh_from_db()
    assert (export.state, path_of(export).exists()) == ("done", True)
