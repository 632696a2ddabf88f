"""Lists as files: asked for above the list, written in the background, downloaded by whoever asked."""

import csv
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from billing_admin.csv_table import csv_line
from billing_admin.exports import EXPORTS
from billing_admin.flows import exports
from billing_admin.flows.exports import ask_for, clear, path_of, write
from billing_admin.list_runs import write_exports
from billing_admin.models import Export, WorkerRun
from customers.models import Operation
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.admin.enable_desk import person
from tests.flows import coupon_world as coupons
from tests.instants import MARCH_1, MARCH_16
from tests.test_permission_matrix import a_migration, an_import

pytestmark = pytest.mark.django_db
A_WEEK = timedelta(days=7)


@pytest.fixture(autouse=True)
def folder(settings, tmp_path: Path) -> Path:
    settings.EXPORT_FOLDER = tmp_path / "exports"
    return settings.EXPORT_FOLDER


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def still(at: datetime = MARCH_16) -> Any:
    """A clock that stands still."""
    return lambda: at


def written(kind: str = "customers", query: str = "", *, user: User | None = None) -> Export:
    export = ask_for(kind, query, user=user or person("Admin"), now=MARCH_16)
    return write(export, clock=still())


def rows_of(export: Export) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(path_of(export).read_text())))


def test_a_narrowed_list_is_written_as_it_was_narrowed(desk):
    a.customer("Acme")
    globex = a.customer("Globex")

    export = written(query="q=glob&before=1")

    assert [row["customer_id"] for row in rows_of(export)] == [globex.customer_id]
    assert (export.state, export.done, export.query) == ("done", 1, "q=glob")


def test_a_button_above_the_list_asks_for_it_and_the_owner_downloads_it(desk):
    a.customer("Acme")

    desk.post("export_ask", kind="customers", query="q=acme")
    [export] = Export.objects.all()
    write(export, clock=still())
    page = desk.get("billing_admin_export_changelist")
    file = desk.get("export_download", export.public_id)

    assert f"/exports/{export.public_id}/download/" in page.html
    assert file.html.startswith("customer_id,id,name,email") and "Acme" in file.html
    assert file.answer.headers["Content-Disposition"] == 'attachment; filename="customers-2026-03-16.csv"'


def test_asking_for_an_export_stands_in_the_history(desk):
    desk.post("export_ask", kind="customers", query="state=parked")

    operation = Operation.objects.get(verb="export.asked")
    assert operation.inputs["query"] == "state=parked"


def test_nobody_exports_a_list_that_they_may_not_see(client):
    """A-53"""
    desk = CustomerDesk(client, role="Ops")

    assert desk.post("export_ask", kind="people").status == 403
    assert desk.post("export_ask", kind="nothing").status == 404
    assert not Export.objects.exists()


def test_the_file_is_its_owners_and_the_admins(client):
    """A-53"""
    export = written(user=person("Ops"))

    answers = {
        role: CustomerDesk(client, role=role).get("export_download", export.public_id).status
        for role in ("Ops", "Admin", "Finance")
    }

    assert answers == {"Ops": 200, "Admin": 200, "Finance": 404}


def test_whoever_lost_the_permission_since_gets_no_file(client):
    """A-53"""
    somebody = User.objects.create_user("temp", is_staff=True)
    somebody.groups.add(Group.objects.get(name="Read-only"))
    export = ask_for("customers", "", user=somebody, now=MARCH_16)
    somebody.groups.clear()

    write(Export.objects.select_related("user").get(pk=export.pk), clock=still())

    export.refresh_from_db()
    assert (export.state, path_of(export).exists()) == ("failed", False)
    assert export.problem == "Whoever asked for it may no longer see this list."


def test_cells_that_a_spreadsheet_would_run_are_marked(desk):
    a.customer("=HYPERLINK(1)", customer_id="acme")

    [row] = rows_of(written())

    assert row["name"] == "'=HYPERLINK(1)"


def test_an_amount_below_zero_stays_a_number():
    assert csv_line(["-26.67", "-1+1", "+49 30 1"]) == "-26.67,'-1+1,'+49 30 1\n"


def test_a_file_that_belongs_to_no_export_goes_once_it_is_older_than_any(folder):
    export = written()
    path = path_of(export)
    export.user.delete()
    os.utime(path, times=(MARCH_1.timestamp(), MARCH_1.timestamp()))

    clear(now=MARCH_1 + A_WEEK)
    assert path.exists()

    clear(now=MARCH_16)
    assert not path.exists()


def test_money_is_in_major_units_beside_its_currency_and_instants_are_utc(desk):
    who = a.on(a.pro("50.00"))

    [row] = rows_of(written("invoices", f"customer={who.pk}"))

    assert (row["currency"], row["total"], row["due"], row["state"]) == ("USD", "50.00", "0.00", "paid")
    assert row["issued_at"] == "2026-03-01T00:00:00+00:00"


def test_a_long_list_is_read_in_chunks_each_row_once(desk, monkeypatch):
    monkeypatch.setattr(exports, "CHUNK", 3)
    made = [a.customer(f"Customer {number}").customer_id for number in range(10)]

    export = written()

    assert [row["customer_id"] for row in rows_of(export)] == made[::-1]


def test_queries_of_an_export_grow_with_its_chunks_alone(desk, django_assert_max_num_queries):
    plan = a.pro()
    for number in range(20):
        a.on(plan, name=f"Customer {number}")
    export = ask_for("customers", "", user=person("Admin"), now=MARCH_16)

    with django_assert_max_num_queries(16):
        write(export, clock=still())


def test_an_export_that_somebody_died_over_is_written_anew_once_they_are_silent(desk):
    a.customer("Acme")
    export = ask_for("customers", "", user=person("Admin"), now=MARCH_16)
    Export.objects.filter(pk=export.pk).update(state="running", heard_at=MARCH_16, done=400)

    early = write(export, clock=still(MARCH_16 + timedelta(minutes=1)))
    assert early.state == "running"
    late = write(export, clock=still(MARCH_16 + timedelta(minutes=3)))

    assert (late.state, late.done) == ("done", 1)


def test_what_fails_half_way_leaves_no_file(desk, folder, monkeypatch):
    a.customer("Acme")

    def breaks(*_: Any) -> Iterator[Any]:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(exports, "csv_line", breaks)
    export = written()

    assert (export.state, list(folder.iterdir())) == ("failed", [])


def test_the_pass_writes_what_waits_and_removes_what_is_over(desk, folder):
    old = written()
    waiting = ask_for("customers", "", user=person("Admin"), now=MARCH_16)
    draft = folder / "exp_x.y.part"
    draft.write_text("half")
    os.utime(draft, (MARCH_1.timestamp(), MARCH_1.timestamp()))

    write_exports(clock=still(MARCH_16 + A_WEEK))

    old.refresh_from_db()
    waiting.refresh_from_db()
    assert (old.state, waiting.state) == ("expired", "done")
    assert [file.name for file in folder.iterdir()] == [f"{waiting.public_id}.csv"]


def test_a_file_that_is_over_is_not_given_out(desk):
    export = written()
    desk.now = MARCH_16 + A_WEEK + timedelta(days=1)
    desk.client.force_login(person("Admin"))

    answer = desk.get("export_download", export.public_id)

    assert answer.status == 302
    assert clear(now=desk.now) == 1


def test_one_person_has_a_few_exports_under_way_at_most(desk):
    for _ in range(exports.MOST_AT_ONCE + 1):
        desk.post("export_ask", kind="customers")

    assert Export.objects.count() == exports.MOST_AT_ONCE


@pytest.mark.parametrize(
    "kind", ["customers", "invoices", "history", "plans", "coupons", "features", "people", "roles"]
)
def test_every_column_has_a_cell_in_every_row(desk, kind: str):
    a.on(a.pro())

    for row in rows_of(written(kind)):
        assert None not in row and None not in row.values()


def test_every_list_can_be_written(desk):
    who = a.on(a.pro())
    migration = a_migration(who.subscriptions.get())
    of = {
        "customer": who.pk,
        "feature": a.feature("credits").pk,
        "coupon": coupons.percent().pk,
        "migration": migration.public_id,
        "run": WorkerRun.objects.create(task="renew", started_at=MARCH_16).pk,
        "batch": an_import(who).public_id,
    }

    problems = {
        kind: export.problem
        for kind, one in EXPORTS.items()
        if (export := written(kind, f"{one.of}={of[one.of]}" if one.of else "")).state != "done"
    }

    assert problems == {}


@pytest.mark.parametrize("kind", sorted(kind for kind, one in EXPORTS.items() if one.of))
def test_what_a_list_belongs_to_has_to_be_there(desk, kind: str):
    of = EXPORTS[kind].of
    export = written(kind, f"{of}=999999999")

    is_empty = export.state == "done" and rows_of(export) == []
    assert is_empty or export.problem == "What this list belonged to is not there any more."


def test_the_button_carries_the_filter_with_it(client):
    html = CustomerDesk(client, role="Ops").get("customers_customer_changelist", q="acme", before="9").html

    assert 'name="kind" value="customers"' in html and 'name="query" value="q=acme"' in html
