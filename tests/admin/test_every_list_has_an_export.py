"""Every list of the desk can be taken away: a page with rows has an export, or stands here with the reason why not."""

import re

import pytest
from django.urls import NoReverseMatch, reverse

from billing_admin.exports import EXPORTS, of_page
from billing_admin.frame import NAVIGATION
from tests import permission_matrix as matrix
from tests.admin.catalog_desk import staff
from tests.admin.taken_away import buttons
from tests.test_permission_matrix import midday, world  # noqa: F401  a fixture is used by its name

pytestmark = pytest.mark.django_db
TABLE = re.compile(r'<table class="[^"]*desk-table|id="result_list"|class="desk-filters')
NO_LIST = {
    "index": "Home: each of its figures leads to a list.",
    "approval": "One request.",
    "billing_admin_export_changelist": "The files themselves.",
    "catalog_plan_change": "One plan: versions, items, who is on it.",
    "catalog_plan_compare": "Two versions side by side.",
    "catalog_planversion_changelist": "Versions stand on the page of their plan.",
    "catalog_product_change": "One product, with its few plans.",
    "coming": "A calendar: its list has the export.",
    "customer_ledger": "The sum behind one balance, derived from what was used, not a table of its own.",
    "customers_customer_change": "One customer: each panel leads to its list.",
    "deals_deal_change": "One deal.",
    "invoicing_invoice_change": "One invoice.",
    "revenue": "Sums by month: the rows behind each have the export.",
    "customer_why": "The story of one answer.",
    "usage_event": "One event, with the balances it used.",
}
# Entries of the sidebar that have no rows at all.
NO_ROWS = {
    "invoicing_billingsettings_changelist": "Settings.",
    "stripe_mirror": "How far an import is; its conflicts have a list.",
    "stripe_settings": "Settings.",
}


def pages() -> dict[str, str]:
    """What the desk shows to an Admin, with one row of everything: name of the address → HTML."""
    rows, admin = world(), staff("Admin")
    found = {}
    for address in matrix.addresses():
        answer = admin.get(address.filled(rows))
        if answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/html"):
            found[address.name] = answer.content.decode()
    return found


@pytest.mark.usefixtures("midday")
def test_every_page_with_rows_has_a_button_or_a_reason():
    shown = pages()

    with_rows = {name for name, html in shown.items() if TABLE.search(html)}
    without = {name for name in with_rows if not buttons(shown[name])}

    assert without - set(NO_LIST) == set()
    assert set(NO_LIST) - without == set()


def test_every_entry_of_the_sidebar_leads_to_a_list_with_an_export_or_has_a_reason():
    names = {entry.url.removeprefix("admin:") for entries in NAVIGATION.values() for entry in entries}

    without = {name for name in names if is_there(name) and not of_page(name)}
    assert without - set(NO_LIST) - set(NO_ROWS) == set()


def test_every_export_belongs_to_a_page():
    names = {address.name for address in matrix.addresses()}

    assert {kind for kind, one in EXPORTS.items() if one.page not in names} == set()


def is_there(name: str) -> bool:
    try:
        reverse(f"admin:{name}")
    except NoReverseMatch:
        return False
    return True
