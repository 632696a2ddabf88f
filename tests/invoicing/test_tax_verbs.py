"""Tax rates and who has which; and what that makes of an issued invoice."""

from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from catalog.models import Plan
from customers.journal import ReasonRequired
from customers.models import Customer, Operation
from invoicing.models import Invoice, TaxExemption, TaxRate
from invoicing.tax import archive_rate, create_rate, set_default, tax_customer, tax_plan
from tests import builders as a
from tests.instants import APRIL_1, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


def rate(percent: str = "19", **more: Any) -> TaxRate:
    said = {"name": "VAT", "percent": Decimal(percent)} | more
    return create_rate(**said, actor=a.STAFF, now=MARCH_1)


def tax(who: Customer, *rates: TaxRate, because: str | None = None) -> None:
    tax_customer(who, rates, exempt_because=because, actor=a.STAFF, now=MARCH_1)


def billed(who: Customer) -> tuple[int, int, int, int]:
    """Subtotal, tax on top, tax within, total of the newest document."""
    invoice = Invoice.objects.filter(customer=who).latest("id")
    return invoice.subtotal, invoice.tax_added, invoice.tax_included, invoice.total


def enabled(who: Customer) -> Customer:
    a.enable(who, Plan.objects.filter(key="pro").first() or a.pro(50))
    return who


def test_an_exclusive_rate_comes_on_top():
    who = a.customer()
    tax(who, rate())

    # $50.00 × 19 % = $9.50.
    assert billed(enabled(who)) == (5000, 950, 0, 5950)


def test_an_inclusive_rate_is_taken_out_of_the_price():
    who = a.customer()
    tax(who, rate(inclusive=True))

    # $50.00 × 19 / 119 = $7.98.
    assert billed(enabled(who)) == (5000, 0, 798, 5000)


def test_the_default_rate_is_for_whoever_has_none():
    rate("10", is_default=True)

    assert billed(enabled(a.customer())) == (5000, 500, 0, 5500)


def test_a_plans_rate_comes_before_the_default_one():
    rate("10", is_default=True)
    tax_plan(a.pro(50), [rate("7")], actor=a.STAFF, now=MARCH_1)

    assert billed(enabled(a.customer())) == (5000, 350, 0, 5350)


def test_a_customers_own_rates_come_before_the_plans():
    tax_plan(a.pro(50), [rate("7")], actor=a.STAFF, now=MARCH_1)
    who = a.customer()
    tax(who, rate("5", name="GST"), rate("8", name="PST"))

    assert billed(enabled(who)) == (5000, 650, 0, 5650)


def test_who_is_exempt_pays_none():
    rate(is_default=True)
    who = a.customer()
    tax(who, because="reverse charge, DE123456789")

    assert billed(enabled(who)) == (5000, 0, 0, 5000)


def test_what_is_issued_keeps_its_tax_and_the_next_document_has_the_new_one():
    who = a.customer()
    tax(who, rate("19"))
    enabled(who)

    tax(who, rate("20"))
    a.pass_time(who, to=APRIL_1)

    assert a.totals(who) == [5950, 6000]


def test_an_archived_rate_applies_to_nobody():
    who, made = a.customer(), rate("19", is_default=True)
    tax(who, made)

    archive_rate(made, reason="rate of last year", actor=a.STAFF, now=MARCH_1)

    assert billed(enabled(who)) == (5000, 0, 0, 5000)


def test_a_rate_can_stop_applying_by_default():
    made = rate("19", is_default=True)

    set_default(made, is_default=False, actor=a.STAFF, now=MARCH_1)

    assert billed(enabled(a.customer())) == (5000, 0, 0, 5000)


def test_a_credit_mirrors_the_tax_of_its_charge_whatever_the_rate_is_by_then():
    who = a.customer()
    tax(who, rate("19"))
    enabled(who)
    a.pay_all(who)
    tax(who, rate("20"))

    change = a.preview(who, a.team(200), now=MARCH_16)

    credit, charge = change.documents[0].drawn.lines
    assert [tax.rate.percent for tax in (*credit.taxes, *charge.taxes)] == [19, 20]


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"name": " "}, "name"),
        ({"percent": Decimal(-1)}, "percent"),
        ({"percent": Decimal("100.5")}, "percent"),
        ({"percent": Decimal("7.12345")}, "percent"),
        ({"percent": Decimal("NaN")}, "percent"),
        ({"region": "x" * 61}, "region"),
    ],
)
def test_a_rate_that_cannot_be_is_refused_beside_its_field(said: dict[str, Any], field: str):
    with pytest.raises(ValidationError) as refused:
        rate(**{"percent": Decimal(19)} | said)

    assert refused.value.field == field


def test_the_same_rate_twice_is_refused_until_the_first_is_archived():
    first = rate()
    with pytest.raises(ValidationError, match="already"):
        rate()

    archive_rate(first, reason="typo", actor=a.STAFF, now=MARCH_1)

    assert rate().pk != first.pk


def test_an_archived_rate_cannot_be_given_to_anybody():
    made = archive_rate(rate(), reason="typo", actor=a.STAFF, now=MARCH_1)

    with pytest.raises(ValidationError, match="archived"):
        tax(a.customer(), made)


def test_an_exemption_needs_its_reason():
    """L-06"""
    with pytest.raises(ReasonRequired):
        tax(a.customer(), because=" ")


def test_another_reason_ends_the_first_exemption_and_keeps_it():
    who = a.customer()
    tax(who, because="certificate 12")

    tax(who, because="certificate 13")

    assert list(TaxExemption.objects.order_by("id").values_list("reason", "ended_at")) == [
        ("certificate 12", MARCH_1),
        ("certificate 13", None),
    ]


def test_changes_stand_in_the_journal_and_saving_the_same_does_not():
    who, made = a.customer(), rate()
    tax(who, made)
    tax(who, made)

    [operation] = Operation.objects.filter(customer=who)

    assert (operation.verb, operation.summary) == ("taxes.changed", "Taxed with VAT 19 %")
