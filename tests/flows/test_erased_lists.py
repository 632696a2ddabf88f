"""Words in filters and exports, and files, of a customer who is erased."""

import csv
from datetime import datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import QueryDict

from billing_admin.flows.customers import close_customer, erase_due
from billing_admin.flows.erase_lists import REMOVED, Forget
from billing_admin.flows.exports import ask_for, clear, path_of, write
from billing_admin.flows.saved_filters import save_filter
from billing_admin.models import Export, SavedFilter
from customers.models import Customer, Operation
from invoicing.wallet import top_up
from tests import builders as a
from tests.admin.enable_desk import person
from tests.instants import APRIL_16, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db
LIST = "customers_customer_changelist"


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.EXPORT_FOLDER = tmp_path
    return tmp_path


def jane(customer_id: str = "jane-17") -> Customer:
    """Closed, and to be erased within April."""
    who = a.customer("Jane Doe", customer_id=customer_id)
    who.email = "jane@doe.example"
    who.save(update_fields=["email"])
    close_customer(who, confirm_name=who.name, reason="asked us to", actor=a.STAFF, now=MARCH_1)
    return who


def erase() -> None:
    assert erase_due(now=APRIL_16) == 1


def kept(query: str, name: str = "Mine") -> SavedFilter:
    return save_filter(user=boss(), page=LIST, query=query, name=name, is_shared=False, now=MARCH_16)


def boss() -> User:
    return person("Admin")


def still(at: datetime = APRIL_16) -> Any:
    return lambda: at


def exported(kind: str = "customers", query: str = "") -> Export:
    return write(ask_for(kind, query, user=boss(), now=MARCH_16), clock=still())


def removed(export: Export) -> bool:
    export.refresh_from_db()
    return (export.state, export.problem, path_of(export).exists()) == ("expired", REMOVED, False)


# Filters


@pytest.mark.parametrize("said", ["Jane Doe", "jane@doe.example", "JANE-17", "jane d", "invoices of jane doe"])
def test_words_of_a_saved_filter_are_overwritten(said: str):
    """A-52"""
    jane()
    saved = kept(f"q={said}&state=open")

    erase()

    saved.refresh_from_db()
    assert "jane" not in saved.query.lower() and "state=open" in saved.query


def test_the_name_of_a_saved_filter_is_overwritten_beside_another_of_that_name():
    """A-52"""
    jane()
    kept("q=x", name="About (erased)")
    saved = kept("q=jane", name="About Jane Doe")

    erase()

    saved.refresh_from_db()
    assert saved.name == f"About (erased) {saved.pk}"


@pytest.mark.parametrize("query", ["q=ja", "q=janet", "state=jane-17", "q=globex"])
def test_words_that_say_nothing_of_them_stay(query: str):
    jane()
    saved = kept(query)

    erase()

    saved.refresh_from_db()
    assert saved.query == query


def test_the_beginning_of_a_name_that_finds_others_too_stays():
    jane()
    a.customer("Jane Roe")
    saved = kept("q=jane")

    erase()

    saved.refresh_from_db()
    assert saved.query == "q=jane"


def test_a_number_of_another_customer_is_no_id_of_theirs():
    other = a.customer("Globex")
    jane(customer_id=str(other.pk))
    saved = kept(f"customer={other.pk}")

    erase()

    saved.refresh_from_db()
    assert saved.query == f"customer={other.pk}"


# Exports


@pytest.mark.parametrize("more", ["", f"&other={'x' * 500}"])
def test_words_of_an_export_and_of_its_line_in_the_history_are_overwritten(more: str):
    """A-52: also where the line is too short for all of the words."""
    jane()
    export = exported(query=f"q=Jane+Doe&state=closed{more}")

    erase()

    export.refresh_from_db()
    line = Operation.objects.get(verb="export.asked")
    assert QueryDict(export.query).dict() == {**QueryDict(more).dict(), "q": "(erased)", "state": "closed"}
    assert "Jane" not in f"{export.query} {line.summary} {line.inputs}"


def test_files_that_name_them_are_removed_and_the_row_says_why(django_capture_on_commit_callbacks: Any):
    """A-52"""
    jane()
    names_her, names_nobody = exported(query="state=closed"), exported("plans")

    with django_capture_on_commit_callbacks(execute=True):
        erase()

    assert removed(names_her)
    assert path_of(names_nobody).exists()


def test_a_file_of_theirs_alone_is_removed_though_it_names_nobody(django_capture_on_commit_callbacks: Any):
    """A-52"""
    who, other = a.customer("Jane Doe"), a.customer("Globex")
    for each in (who, other):
        top_up(each, Decimal(5), "USD", reference="wire", actor=a.STAFF, now=MARCH_1)
    export, of_other = (exported("wallet", f"customer={each.pk}") for each in (who, other))
    Customer.objects.filter(pk=who.pk).update(closed_at=MARCH_1, erase_at=MARCH_16)

    with django_capture_on_commit_callbacks(execute=True):
        erase()

    assert removed(export)
    assert path_of(of_other).exists()


@pytest.mark.parametrize(
    ("row", "is_in"), [("17,x", True), ("170,x", False), ('x,"17"', True), ("1.17,x", False), ("x 17,x", False)]
)
def test_an_id_that_is_a_number_is_found_where_it_stands_alone(folder: Path, row: str, is_in: bool):
    file = folder / "ids.csv"
    file.write_text(f"id,name\n{row}\n")

    assert Forget(["17"]).is_in(file) == is_in


def test_a_file_that_is_being_written_is_written_anew_without_them():
    """A-52"""
    jane()
    export = ask_for("customers", "state=closed", user=boss(), now=MARCH_16)

    def clock() -> datetime:
        """The first chunk is written when they are erased."""
        if Export.objects.filter(done=0, state="running", total=1).exists():
            erase()
        return APRIL_16

    interrupted = write(export, clock=clock)
    assert (interrupted.state, path_of(export).exists()) == ("waiting", False)
    anew = write(Export.objects.get(), clock=still())

    assert anew.state == "done"
    assert [row["name"] for row in csv.DictReader(StringIO(path_of(anew).read_text()))] == ["Erased customer"]


def test_a_file_whose_removal_was_cut_short_goes_with_the_next_pass():
    jane()
    export = exported()
    Export.objects.update(state="expired", problem=REMOVED)

    clear(now=MARCH_16)

    assert not path_of(export).exists()
