"""Overrides of many customers on the desk: chosen or written, tried, given, followed, taken back."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from customers.models import Customer
from entitlements.models import FeatureOverride, OverrideBatch
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page
from tests.admin.enable_desk import person
from tests.admin.test_overrides import acme, give
from tests.instants import MARCH_16, MAY_1

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def written(*customers: Customer, value: str = "500", until: str = "2026-05-01") -> str:
    lines = [f"{who.customer_id},credits,{value},{until}" for who in customers]
    return "\n".join(["customer_id,feature,value,until", *lines])


def tried(desk: CustomerDesk, text: str, **said: Any) -> Page:
    return desk.post("override_batch_new", **{"step": "try", "rows": text, "reason": "outage"} | said)


def confirmed(desk: CustomerDesk, page: Page, **said: Any) -> Page:
    """The button below the table."""
    shown = page.answer.context
    sent = {"step": "give", "rows": shown["text"], "reason": shown["reason"], "seen": shown["seen"]}
    return desk.post("override_batch_new", **sent | said)


def chosen(*customers: Customer, **said: Any) -> dict[str, Any]:
    return {
        "step": "try",
        "customer": [str(who.pk) for who in customers],
        "feature": "credits",
        "what": "value",
        "value": "500",
        "level": "customer",
        "starts": "",
        "until": "2026-05-01",
        "reason": "outage",
    } | said


def test_rows_are_tried_before_anything_is_given(desk):
    """L-30"""
    one, two = acme("Acme"), acme("Globex")

    page = tried(desk, written(one, two))

    rows = [(row.customer, row.before, row.after) for row in page.answer.context["good"]]
    assert rows == [("Acme", "100", "500"), ("Globex", "100", "500")]
    assert "Give 2 overrides" in page.text
    assert not FeatureOverride.objects.exists()


def test_what_was_looked_at_is_given_as_one_batch(desk):
    """L-30"""
    one, two = acme("Acme"), acme("Globex")

    done = confirmed(desk, tried(desk, written(one, two)))

    [batch] = OverrideBatch.objects.all()
    assert done.went_on and batch.finished_at is not None
    assert {row.customer for row in batch.overrides.all()} == {one, two}
    assert (a.left(one, now=MARCH_16), a.left(two, now=MARCH_16)) == (500, 500)


def test_rows_with_a_problem_are_named_and_left_out(desk):
    one, taken = acme("Acme"), acme("Globex")
    give(taken)
    text = written(one, taken) + "\nnobody,credits,500,2026-05-01"

    page = tried(desk, text)
    confirmed(desk, page)

    bad = [(row.line, row.column) for row in page.answer.context["bad"]]
    assert bad == [(3, "from"), (4, "customer_id")]
    assert OverrideBatch.objects.get().total == 1


def test_what_cannot_be_read_is_named_by_line_and_column_and_can_be_mended(desk):
    page = tried(desk, "customer_id,feature,value,until\nacme,credits,,soon\n,credits,5,permanent")

    problems = [(p.line, p.column) for p in page.answer.context["problems"]]
    assert problems == [(2, "value"), (2, "until"), (3, "customer_id")]
    assert "acme,credits,,soon" in page.html


def test_a_file_is_read(desk):
    who = acme("Acme")
    file = SimpleUploadedFile("rows.csv", ("\ufeff" + written(who)).encode())

    page = tried(desk, "", file=file)

    assert [row.customer for row in page.answer.context["good"]] == ["Acme"]


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"rows": " "}, "rows"),
        ({"rows": "", "file": SimpleUploadedFile("rows.xlsx", b"PK\x03\xff\xfe")}, "file"),
        ({"rows": "", "file": SimpleUploadedFile("rows.csv", b"x" * 1_000_001)}, "file"),
    ],
)
def test_what_is_wrong_stands_at_its_field(desk, said: dict[str, Any], field: str):
    """L-06"""
    page = tried(desk, **{"text": "customer_id,feature,value,until"} | said)

    assert list(page.errors) == [field]


def test_numbers_that_moved_are_shown_again_instead_of_given(desk):
    one, two = acme("Acme"), acme("Globex")
    page = tried(desk, written(one, two))
    give(two)

    again = confirmed(desk, page)

    assert "Something changed since you looked" in again.text and "Give 1 override" in again.text
    assert not OverrideBatch.objects.exists()


def test_pressing_twice_gives_once(desk):
    page = tried(desk, written(acme("Acme")))

    confirmed(desk, page)
    confirmed(desk, page)

    assert OverrideBatch.objects.count() == 1


def test_customers_are_chosen_in_their_list(desk):
    """L-30"""
    one, two, other = acme("Acme"), acme("Globex"), acme("Initech")

    listed = desk.get("customers_customer_changelist")
    asked = desk.get("override_batch_new", customer=[one.pk, two.pk])
    page = desk.post("override_batch_new", **chosen(one, two))
    confirmed(desk, page)

    assert f'name="customer" value="{other.pk}"' in listed.html
    assert "Override a feature of 2 customers" in asked.text and "Initech" not in asked.text
    given = {row.customer.name: row.units for row in FeatureOverride.objects.all()}
    assert given == {"Acme": 500, "Globex": 500}


def test_the_chosen_are_told_what_is_missing(desk):
    """L-07"""
    who = acme("Acme")

    page = desk.post("override_batch_new", **chosen(who, until="", reason=""))

    assert set(page.errors) == {"until", "reason"}


def test_an_override_of_the_chosen_may_take_over_from_others(desk):
    """L-12"""
    who = acme("Acme")
    give(who)

    page = desk.post("override_batch_new", **chosen(who, supersede="on"))
    confirmed(desk, page)

    assert a.left(who, now=MARCH_16) == 500


def test_a_batch_says_how_far_it_is_and_asks_again_until_it_is_done(desk):
    batch = OverrideBatch.objects.create(
        reason="outage", created_by="ops", created_at=MARCH_16, total=4, done=1, rows=[]
    )

    page = desk.get("override_batch_progress", batch.public_id)

    assert "1 of 4 rows · 1 given · 0 refused" in page.text
    assert 'hx-trigger="every 1s"' in page.html and 'value="1"' in page.html


def test_a_batch_that_is_done_shows_its_rows_and_is_left_alone(desk):
    who = acme("Acme")
    confirmed(desk, tried(desk, written(who)))
    batch = OverrideBatch.objects.get()

    page = desk.get("override_batch", batch.public_id)

    assert "Done" in page.text and "Acme Credits 500 1 May 2026" in page.text
    assert "every 1s" not in page.html
    assert batch.public_id in desk.get("entitlements_overridebatch_changelist").text


def test_many_rows_are_left_to_the_workers(desk, monkeypatch, django_capture_on_commit_callbacks):
    """The page follows them."""
    monkeypatch.setattr("billing_admin.admin.override_batches.AT_ONCE", 0)
    page = tried(desk, written(acme("Acme")))

    with django_capture_on_commit_callbacks() as handed_over:
        confirmed(desk, page)

    batch = OverrideBatch.objects.get()
    assert len(handed_over) == 1 and (batch.done, batch.finished_at) == (0, None)
    assert "Under way" in desk.get("override_batch", batch.public_id).text


def test_a_batch_is_taken_back_with_a_reason(desk):
    """L-08, L-30"""
    who = acme("Acme")
    confirmed(desk, tried(desk, written(who)))
    batch = OverrideBatch.objects.get()

    shown = desk.get("override_batch_revoke", batch.public_id)
    refused = desk.post("override_batch_revoke", batch.public_id, reason="")
    done = desk.post("override_batch_revoke", batch.public_id, reason="wrong list")

    assert "1 override stops at once" in shown.text
    assert list(refused.errors) == ["reason"]
    assert done.went_on and a.left(who, now=MARCH_16) == 100
    assert "“wrong list”" in desk.get("override_batch", batch.public_id).text


def overriding_many(client: Client, *codes: str) -> CustomerDesk:
    desk = CustomerDesk(client, role="Read-only")
    person("Read-only").user_permissions.add(*Permission.objects.filter(codename__in=codes))
    return desk


def test_permanent_ones_take_the_permission_for_them(client):
    """L-47"""
    desk = overriding_many(client, "bulk_override")
    who = acme("Acme")

    lasting = tried(desk, written(who, until="permanent"))
    ending = tried(desk, written(who))

    [row] = lasting.answer.context["bad"]
    assert (row.column, row.problem) == ("until", "You may give overrides for a limited time only: say when it ends.")
    assert ending.answer.context["number"] == 1


def test_a_batch_with_permanent_ones_is_not_revoked_by_everybody(client):
    """L-47"""
    boss = CustomerDesk(client)
    confirmed(boss, tried(boss, written(acme("Acme"), until="permanent")))
    batch = OverrideBatch.objects.get()

    assert (
        overriding_many(client, "bulk_override").post("override_batch_revoke", batch.public_id, reason="mine").status
        == 403
    )


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Finance"])
def test_many_at_once_is_for_those_who_may(client, role: str):
    """A-53"""
    desk = CustomerDesk(client, role=role)
    who = acme("Acme")
    batch = OverrideBatch.objects.create(reason="x", created_by="ops", created_at=MARCH_16, finished_at=MAY_1)

    codes = {
        desk.get("override_batch_new").status,
        tried(desk, written(who)).status,
        desk.post("override_batch_new", step="give", rows=written(who), reason="x").status,
        desk.post("override_batch_revoke", batch.public_id, reason="x").status,
    }

    assert codes == {403}
    assert 'formaction="/bulk/overrides/"' not in desk.get("customers_customer_changelist").html
    assert desk.get("override_batch", batch.public_id).status == 200


def test_what_is_sent_in_other_words_is_refused_and_not_broken(desk):
    acme("Acme")

    assert desk.post("override_batch_new", step="give").status == 200
    assert desk.post("override_batch_new", step="give", rows="customer_id", reason="x").status == 200
    assert desk.post("override_batch_new", step="try", customer=["0", "x"], feature="credits").status == 200
    assert not OverrideBatch.objects.exists()
