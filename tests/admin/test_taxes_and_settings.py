"""Tax rates, who has which, and billing settings on the desk."""

from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from customers.models import Customer, Operation
from invoicing.models import BillingSettings, TaxAssignment, TaxExemption, TaxRate
from invoicing.tax import create_rate
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page
from tests.instants import MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db
SETTINGS = {
    "payment_window_hours": "24",
    "net_terms_days": "0",
    "grace_hours": "0",
    "retry_days": "3, 7, 14, 21",
    "most_lines": "1000",
    "most_growth": "20",
    "company_name": "",
    "company_address": "",
    "company_tax_number": "",
    "invoice_footer": "",
}


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client, role="Finance")


def rate(percent: str = "19", **more: Any) -> TaxRate:
    return create_rate(name="VAT", percent=Decimal(percent), **more, actor=a.STAFF, now=MARCH_1)


# Rates


def test_a_rate_is_created_with_what_was_typed(desk):
    page = desk.post("tax_rate_add", name="VAT", percent="19", inclusive="yes", region="Germany", is_default="on")

    made = TaxRate.objects.get()
    assert page.went_on
    assert (made.name, made.percent, made.inclusive, made.region, made.is_default) == ("VAT", 19, True, "Germany", True)


@pytest.mark.parametrize(
    ("said", "field"), [({"name": ""}, "name"), ({"percent": "101"}, "percent"), ({"percent": "x"}, "percent")]
)
def test_what_is_wrong_stands_at_its_field(desk, said: dict[str, str], field: str):
    page = desk.post("tax_rate_add", **{"name": "VAT", "percent": "19", "inclusive": ""} | said)

    assert list(page.errors) == [field]


def test_the_same_rate_twice_is_refused_at_its_name(desk):
    rate()

    assert list(desk.post("tax_rate_add", name="VAT", percent="19", inclusive="").errors) == ["name"]


def test_the_list_says_how_a_rate_counts_and_who_has_it(desk):
    TaxAssignment.objects.create(rate=rate(inclusive=True), customer=a.customer())

    [row] = desk.get("invoicing_taxrate_changelist").answer.context["rows"]

    assert (str(row.rate), row.kind, row.customers, row.plans) == ("VAT 19 %", "within the price", 1, 0)


def test_a_rate_is_archived_with_a_reason_and_shows_among_the_archived(desk):
    made = rate()

    assert list(desk.post("tax_rate_archive", made.pk, reason="").errors) == ["reason"]
    assert desk.post("tax_rate_archive", made.pk, reason="rate of last year").went_on

    assert desk.get("invoicing_taxrate_changelist").answer.context["rows"] == []
    assert len(desk.get("invoicing_taxrate_changelist", shown="archived").answer.context["rows"]) == 1


def test_a_rate_becomes_the_usual_one_and_stops_being_it(desk):
    made = rate()

    found = []
    for _ in range(2):
        desk.post("tax_rate_default", made.pk)
        made.refresh_from_db()
        found.append(made.is_default)

    assert found == [True, False]


# Who has which


def test_a_customer_gets_rates_of_their_own(desk):
    who, made = a.customer(), rate()

    page = desk.post("customer_taxes", who.pk, rates=[made.pk], reason="")

    assert page.went_on
    assert list(who.tax_assignments.values_list("rate", flat=True)) == [made.pk]
    assert "VAT 19 %" in desk.page(who).text


def test_an_exemption_asks_for_its_reason(desk):
    who = a.customer()

    refused = desk.post("customer_taxes", who.pk, exempt="on", reason="")
    done = desk.post("customer_taxes", who.pk, exempt="on", reason="reverse charge")

    assert (list(refused.errors), done.went_on) == (["reason"], True)
    assert TaxExemption.objects.get().reason == "reverse charge"
    assert "Exempt" in desk.page(who).text


def test_an_exemption_ends_when_it_is_unticked(desk):
    who = a.customer()
    desk.post("customer_taxes", who.pk, exempt="on", reason="reverse charge")

    desk.post("customer_taxes", who.pk, reason="reverse charge")

    assert TaxExemption.objects.get().ended_at == MARCH_16


def test_the_dialog_shows_what_holds(desk):
    who, made = a.customer(), rate()
    desk.post("customer_taxes", who.pk, rates=[made.pk], exempt="on", reason="reverse charge")

    initial = desk.get("customer_taxes", who.pk, dialog=True).answer.context["form"].initial

    assert initial == {"rates": [made.pk], "exempt": True, "reason": "reverse charge"}


def test_a_plan_gets_rates(desk):
    plan, made = a.pro(50), rate()

    assert desk.post("plan_taxes", plan.pk, rates=[made.pk]).went_on

    assert list(plan.tax_assignments.values_list("rate", flat=True)) == [made.pk]


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Sales engineer"])
def test_taxes_are_finances(client: Client, role: str):
    """A-53"""
    desk, who, made = CustomerDesk(client, role=role), a.customer(), rate()
    pages: list[Page] = [
        desk.get("tax_rate_add"),
        desk.post("tax_rate_add", name="Mine", percent="0"),
        desk.post("tax_rate_default", made.pk),
        desk.post("tax_rate_archive", made.pk, reason="mine"),
        desk.get("customer_taxes", who.pk),
        desk.post("customer_taxes", who.pk),
        desk.post("plan_taxes", a.pro(50).pk),
    ]

    assert {page.status for page in pages} == {403}
    assert desk.get("invoicing_taxrate_changelist").status == 200
    assert "New tax rate" not in desk.get("invoicing_taxrate_changelist").text


# Address, tax number, language


@pytest.mark.parametrize(
    ("field", "value"),
    [("billing_address", "1 Main Street\nBerlin"), ("tax_number", "DE123456789"), ("locale", "de_DE")],
)
def test_a_click_on_a_detail_changes_it(client: Client, field: str, value: str):
    who = a.customer()

    page = CustomerDesk(client, role="Ops").post("customer_detail", who.pk, field, **{field: value, "reason": ""})

    who.refresh_from_db()
    assert page.went_on
    assert getattr(who, field).replace("\r\n", "\n") == value


def test_what_no_language_is_called_is_refused(client: Client):
    page = CustomerDesk(client, role="Ops").post("customer_detail", a.customer().pk, "locale", locale="xx_YY")

    assert list(page.errors) == ["locale"]


# Settings


def test_settings_are_saved_from_one_page(desk):
    page = desk.post("billing_settings_save", **SETTINGS | {"net_terms_days": "14", "retry_days": "5, 10"})

    account = BillingSettings.present()
    assert page.went_on
    assert (account.net_terms_days, account.retry_days) == (14, [5, 10])
    assert Operation.objects.latest("id").verb == "settings.changed"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("payment_window_hours", "0"),
        ("grace_hours", "999"),
        ("net_terms_days", ""),
        ("retry_days", "soon"),
        ("retry_days", "7, 3"),
        ("most_growth", "1"),
        ("company_tax_number", "x" * 41),
    ],
)
def test_a_setting_that_cannot_be_is_refused_at_its_field(desk, field: str, value: str):
    page = desk.post("billing_settings_save", **SETTINGS | {field: value})

    assert list(page.errors) == [field]
    assert not BillingSettings.objects.exists()


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Sales engineer"])
def test_others_look_at_the_settings_and_change_none(client: Client, role: str):
    """A-53"""
    desk = CustomerDesk(client, role=role)

    page = desk.get("invoicing_billingsettings_changelist")

    assert (page.status, "Save settings" in page.text) == (200, False)
    assert desk.post("billing_settings_save", **SETTINGS).status == 403
    assert desk.post("invoicing_billingsettings_changelist", **SETTINGS).status == 405


# Terms of one contract


def terms(who: Customer, desk: CustomerDesk, **said: str) -> Page:
    given = {"net_terms_days": "30", "payment_window_hours": "", "approve_first_invoice": "", "reason": "framework"}
    return desk.post("contract_terms", a.the_subscription(who).public_id, **given | said)


def test_a_contract_gets_terms_of_its_own(desk):
    who = a.on(a.pro(50))

    assert terms(who, desk, approve_first_invoice="no").went_on

    held = a.the_subscription(who)
    assert (held.net_terms_days, held.payment_window_hours, held.approve_first_invoice) == (30, None, False)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"net_terms_days": "400"}, "net_terms_days"),
        ({"payment_window_hours": "0"}, "payment_window_hours"),
    ],
)
def test_terms_that_cannot_be_are_refused_at_their_field(desk, said: dict[str, str], field: str):
    assert list(terms(a.on(a.pro(50)), desk, **said).errors) == [field]


@pytest.mark.parametrize("role", ["Read-only", "Ops"])
def test_terms_are_for_those_who_make_deals_and_for_finance(client: Client, role: str):
    """A-53"""
    who, desk = a.on(a.pro(50)), CustomerDesk(client, role=role)

    assert terms(who, desk).status == 403
    assert "Terms of" not in desk.page(who).text
