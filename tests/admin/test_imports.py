"""Imports on the desk: every wrong line and column is named; what is right is tried, confirmed, taken back."""

from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from billing_admin.flows.batches import FORGOTTEN_AFTER, drop_unconfirmed
from billing_admin.models import ApprovalRule, Batch, BatchRow
from customers.models import Customer, Note, Operation
from entitlements.models import Grant
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def tried(desk: CustomerDesk, kind: str, *lines: str, **said: Any) -> Page:
    return desk.post("import_new", kind, **{"rows": "\n".join(lines), "reason": "moved from the old system"} | said)


def the_batch() -> Batch:
    return Batch.objects.latest("id")


def shown(desk: CustomerDesk) -> Page:
    return desk.get("batch", the_batch().public_id)


def confirmed(desk: CustomerDesk) -> Page:
    """The button below the dry run."""
    url = shown(desk).answer.context["confirm_url"]
    return _posted(desk, url)


def _posted(desk: CustomerDesk, url: str, **said: Any) -> Page:
    with time_machine.travel(desk.now, tick=False):
        return Page(desk.client.post(url, said))


def states() -> list[tuple[int, str]]:
    return [(row.line, row.state) for row in the_batch().rows.all()]


def test_every_wrong_line_and_column_is_named_and_nothing_is_kept(desk):
    page = tried(
        desk,
        "grants",
        "customer_id,feature,units,until",
        "acme,credits,many,2027-01-01",
        "acme,credits,5,soon",
        ",credits,5,lasting",
        "acme,credits,5,lasting,more",
    )

    problems = [(problem.line, problem.column) for problem in page.answer.context["problems"]]
    assert problems == [(2, "units"), (3, "until"), (4, "customer_id"), (5, "until")]
    assert "acme,credits,many,2027-01-01" in page.html
    assert not Batch.objects.exists()


def test_customers_are_tried_first_and_created_when_confirmed(desk):
    a.assigned("partner")

    tried(desk, "customers", "customer_id,name,email,plans", "acme,Acme,ops@acme.example,partner", "globex,Globex,,")
    assert not Customer.objects.exists()
    assert "Acme, ops@acme.example, Partner" in shown(desk).text

    confirmed(desk)

    assert states() == [(2, "done"), (3, "done")]
    assert set(Customer.objects.values_list("customer_id", "name")) == {("acme", "Acme"), ("globex", "Globex")}
    assert a.left(Customer.objects.get(customer_id="acme"), now=desk.now) == 1000


def test_rows_that_would_be_refused_are_left_out_with_line_and_column(desk):
    a.customer("Acme", customer_id="acme")

    tried(desk, "customers", "customer_id,name,email", "acme,Acme,", "globex,Globex,no mail", "initech,Initech,")
    page = shown(desk)
    confirmed(desk)

    left_out = [(row.line, row.column) for row in the_batch().rows.filter(state="left_out")]
    assert left_out == [(2, "customer_id"), (3, "email")]
    assert "There is a customer 'acme' already." in page.text
    assert Customer.objects.filter(customer_id="initech").exists()


def test_a_row_that_stands_twice_is_named(desk):
    page = tried(desk, "customers", "customer_id,name", "acme,Acme", "globex,Globex", "acme,Acme again")

    [problem] = page.answer.context["problems"]
    assert (problem.line, problem.message) == (4, "The same stands in line 2 already.")


def test_units_are_given_with_before_and_after(desk):
    who = a.on(a.pro())

    tried(desk, "grants", "customer_id,feature,units,until,label", f"{who.customer_id},credits,500,2027-01-01,Sorry")
    page = shown(desk)
    confirmed(desk)

    assert "Credits: 100 left" in page.text and "Credits: 600 left until 1 Jan 2027" in page.text
    assert a.left(who, now=desk.now) == 600
    assert Grant.objects.get().reason == "moved from the old system"


def test_plans_are_assigned_and_say_what_is_due(desk):
    who = a.customer("Acme", customer_id="acme")
    a.assigned("partner")
    a.team()

    tried(desk, "assignments", "customer_id,plan", "acme,partner", "acme,team", "acme,nothing")
    page = shown(desk)
    confirmed(desk)

    assert page.answer.context["sums"] == [("due", "$200.00")]
    assert "Partner now" in page.text and "$200.00 due" in page.text and "There is no plan 'nothing'." in page.text
    assert states() == [(2, "done"), (3, "done"), (4, "left_out")]
    assert who.subscriptions.count() == 2


def test_every_act_of_a_row_says_which_import_it_was(desk):
    tried(desk, "customers", "customer_id,name", "acme,Acme")
    confirmed(desk)

    batch = the_batch()
    operation = Operation.objects.get(verb="customer.created")
    history = desk.get("customers_operation_changelist", batch=batch.public_id)

    assert (operation.batch, operation.actor) == (batch.public_id, "admin")
    assert [row.public_id for row in history.answer.context["rows"]] == [operation.public_id]
    assert batch.rows.get().operations == [operation.public_id]


def test_the_same_file_is_noticed_and_imported_again_only_on_purpose(desk):
    who = a.customer("Acme", customer_id="acme")
    lines = ("customer_id,text", "acme,Called.")
    tried(desk, "notes", *lines)
    confirmed(desk)

    again = tried(desk, "notes", *lines)
    assert "These rows were imported before" in again.text and Batch.objects.count() == 1

    tried(desk, "notes", *lines, again="on")
    confirmed(desk)
    assert Note.objects.filter(customer=who).count() == 2


def test_a_file_is_read_with_its_name(desk):
    file = SimpleUploadedFile("customers.csv", "\ufeffcustomer_id;name\r\nacme;Acme\r\n".encode())

    tried(desk, "customers", file=file, rows="")

    assert (the_batch().title, the_batch().total) == ("customers.csv", 1)


def test_what_moved_since_it_was_tried_is_not_done(desk):
    who = a.on(a.pro())
    a.team()
    tried(desk, "assignments", "customer_id,plan", f"{who.customer_id},team")
    a.enable(who, a.plan("max", a.fee(90), a.allowance(9)), now=desk.now)

    confirmed(desk)

    row = the_batch().rows.get()
    assert (row.state, row.code) == ("failed", "preview_outdated")


def test_failed_rows_alone_are_tried_again(desk):
    tried(desk, "customers", "customer_id,name", "acme,Acme", "globex,Globex")
    taken = a.customer("Other", customer_id="globex")
    confirmed(desk)
    assert states() == [(2, "done"), (3, "failed")]
    Customer.objects.filter(pk=taken.pk).update(customer_id="moved-away")

    desk.post("batch_turn", the_batch().public_id, do="retry")
    assert states() == [(2, "done"), (3, "ready")]
    confirmed(desk)

    assert states() == [(2, "done"), (3, "done")]
    assert Customer.objects.filter(customer_id="acme").count() == 1


def test_only_what_somebody_may_do_is_offered_and_done(client):
    """A-53"""
    who, plan = a.customer("Acme", customer_id="acme"), a.team()
    desk = CustomerDesk(client, role="Ops")

    tried(desk, "assignments", "customer_id,plan", f"{who.customer_id},{plan.key}")

    row = the_batch().rows.get()
    assert (row.state, row.code) == ("left_out", "not_allowed")
    assert CustomerDesk(client, role="Finance").get("import_new", "grants").status == 403
    assert CustomerDesk(client, role="Finance").post("batch_confirm", the_batch().public_id).status == 403
    assert CustomerDesk(client, role="Read-only").get("import_template", "customers").status == 403


def test_a_rule_asks_for_a_second_person_before_anything_is_done(desk):
    """A bulk act over a number of customers waits for an approval."""
    approver = Group.objects.get(name="Finance")
    ApprovalRule.objects.create(act="bulk.started", measure="customers", above=1, approver=approver)
    tried(desk, "customers", "customer_id,name", "acme,Acme", "globex,Globex")

    page = confirmed(desk)

    assert "needs approval by Finance" in page.text
    assert not Customer.objects.exists() and the_batch().state == "tried"


def test_a_template_can_be_taken_for_each_kind(desk):
    for kind in ("customers", "assignments", "grants", "coupons", "notes", "overrides"):
        file = desk.get("import_template", kind)

        assert file.html.startswith("customer_id,")
        assert file.answer.headers["Content-Disposition"] == f'attachment; filename="{kind}.csv"'


def test_a_hundred_rows_are_tried_with_few_queries_each(desk, django_assert_max_num_queries):
    lines = [f"{a.customer(f'Customer {n}').customer_id},Called." for n in range(50)]
    tried(desk, "notes", "customer_id,text", "acme,warm up")

    with django_assert_max_num_queries(40):
        tried(desk, "notes", "customer_id,text", *lines)


def test_the_page_of_a_long_import_stays_in_its_queries(desk, django_assert_max_num_queries):
    lines = [f"{a.customer(f'Customer {n}').customer_id},Called." for n in range(50)]
    tried(desk, "notes", "customer_id,text", *lines)
    shown(desk)

    with django_assert_max_num_queries(12):
        page = shown(desk)

    assert page.text.count("Called.") == 50


def test_what_nobody_confirmed_is_forgotten(desk):
    tried(desk, "customers", "customer_id,name", "acme,Acme")

    assert drop_unconfirmed(now=desk.now) == 0
    assert drop_unconfirmed(now=desk.now + FORGOTTEN_AFTER) == 1
    assert not BatchRow.objects.exists()
