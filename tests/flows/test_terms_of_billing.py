"""When an item asks for its money: in advance or in arrears; the least and the most that a period costs; taxes."""

from dataclasses import replace
from decimal import Decimal

import pytest

from billing_admin.flows.cancel import cancel
from catalog.charges import PERCENTAGE, STAIRSTEP, Price, Tier
from catalog.models import Plan
from invoicing.models import Deduction, InvoiceCredit, InvoiceLine, TaxAssignment, TaxExemption, TaxRate
from tests.builders import (
    STAFF,
    allowance,
    customer,
    enable,
    fee,
    in_arrears,
    on,
    pass_time,
    pay_all,
    plan,
    preview,
    the_subscription,
    totals,
    use,
)
from tests.instants import APRIL_1, MARCH_1, MAY_1, day

pytestmark = pytest.mark.django_db
NOON_16 = day("2026-03-16T12:00")


def priced(price, *, of="calls"):
    return replace(allowance(0, of=of, price="1"), price=price)


def test_a_fee_in_arrears_is_billed_when_its_period_is_over():
    """Y-26"""
    acme = on(plan("pro", in_arrears(50)))

    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [0, 5000]
    assert InvoiceLine.objects.get().derivation["sum"] == "Pro, whole period: $50.00 = $50.00"


def test_an_end_in_the_middle_bills_the_elapsed_share_of_a_fee_in_arrears():
    """Design 4"""
    acme = on(plan("pro", in_arrears(62)))

    cancel(the_subscription(acme), at_once=True, reason="closing", actor=STAFF, now=NOON_16)

    assert totals(acme) == [0, 3100]


def test_a_change_bills_the_elapsed_share_at_the_old_price_and_the_close_the_rest():
    """Design 4"""
    acme = on(plan("pro", in_arrears(62)))

    enable(acme, Plan.objects.get(), in_arrears(124), now=NOON_16)
    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [0, 3100, 6200]


def test_a_change_of_features_leaves_a_fee_in_arrears_whole():
    """Design 4"""
    acme = on(plan("pro", in_arrears(62), allowance(100)))

    enable(acme, Plan.objects.get(), in_arrears(62), allowance(200), now=NOON_16)
    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [0, 6200]


def test_a_late_worker_bills_fees_in_arrears_of_each_period():
    """Law 7"""
    acme = on(plan("pro", in_arrears(50), fee(10, key="support")))

    pass_time(acme, to=MAY_1)

    assert totals(acme) == [1000, 6000, 6000]


@pytest.mark.parametrize(("used", "closing"), [(0, 50000), (320, 50000), (700, 70000)])
def test_what_is_missing_to_the_minimum_commitment_is_billed_at_the_close(used, closing):
    """Y-56"""
    acme = on(plan("reserved", allowance(0, of="calls", price="1"), commitment="500"))
    if used:
        use(acme, used, of="calls")

    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [0, closing]
    missing = InvoiceLine.objects.filter(kind="true_up").values_list("amount", flat=True)
    assert sum(missing) == max(0, 50000 - used * 100)


def test_fees_paid_in_advance_count_towards_the_commitment():
    """Y-56"""
    acme = on(plan("reserved", fee(100), allowance(0, of="calls", price="1"), commitment="500"))
    use(acme, 220, of="calls")

    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [10000, 22000 + 18000 + 10000]


def test_a_contract_that_ends_early_owes_the_elapsed_share_of_its_commitment():
    """Y-56"""
    acme = on(plan("reserved", allowance(0, of="calls", price="1"), commitment="620"))
    use(acme, 100, of="calls")

    cancel(the_subscription(acme), at_once=True, reason="closing", actor=STAFF, now=NOON_16)

    assert totals(acme) == [0, 31000]


def test_the_least_that_a_line_costs_is_billed_without_any_use():
    """Design 6"""
    acme = on(plan("pro", priced(Price(rate=Decimal("0.10"), line_min=Decimal(15)))))

    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [0, 1500]


def test_an_end_in_the_middle_owes_the_elapsed_share_of_the_least():
    """Design 6"""
    acme = on(plan("pro", priced(Price(rate=Decimal("0.10"), line_min=Decimal(31)))))

    cancel(the_subscription(acme), at_once=True, reason="closing", actor=STAFF, now=NOON_16)

    assert totals(acme) == [0, 1550]


def test_the_most_that_a_line_costs_takes_the_excess_off():
    """Design 6"""
    acme = on(plan("pro", priced(Price(rate=Decimal("0.10"), line_max=Decimal(15)))))
    use(acme, 1000, of="calls")

    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [0, 1500]
    assert sorted(InvoiceLine.objects.values_list("kind", "amount")) == [("maximum", -8500), ("usage", 10000)]


def test_a_stairstep_costs_the_flat_price_of_its_step():
    """Design 6"""
    tiers = (Tier(Decimal(100), flat=Decimal(10)), Tier(None, flat=Decimal(25)))
    acme = on(plan("pro", priced(Price(model=STAIRSTEP, tiers=tiers))))
    use(acme, 101, of="calls")

    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [0, 2500]


def test_each_transaction_has_its_own_least_fee():
    """Design 6"""
    price = Price(model=PERCENTAGE, percent=Decimal("2.9"), fixed=Decimal("0.30"), transaction_min=Decimal("0.50"))
    acme = on(plan("pro", priced(price, of="volume")))
    for amount in (100, 1):
        use(acme, amount, of="volume")

    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [0, 320 + 50]


# Taxes and invoice credits


def vat(percent="20", *, inclusive=False):
    return TaxRate.objects.create(name="VAT", percent=Decimal(percent), inclusive=inclusive)


def test_tax_comes_on_top_of_the_lines():
    """Design 6"""
    TaxAssignment.objects.create(rate=vat(), plan=plan("pro", fee("99.99")))

    acme = on(Plan.objects.get())

    invoice = acme.invoices.get()
    assert (invoice.subtotal, invoice.tax_added, invoice.total) == (9999, 2000, 11999)
    assert invoice.lines.get().taxes[0]["name"] == "VAT"


def test_tax_inside_the_price_leaves_the_total_alone():
    """Design 6"""
    TaxAssignment.objects.create(rate=vat(inclusive=True), plan=plan("pro", fee(12)))

    invoice = on(Plan.objects.get()).invoices.get()

    assert (invoice.total, invoice.tax_included, invoice.tax_added) == (1200, 200, 0)


def test_the_customers_own_rate_goes_before_the_plans_and_the_exempt_pay_none():
    """Design 6"""
    made = plan("pro", fee(100))
    TaxAssignment.objects.create(rate=vat("20"), plan=made)
    acme, globex = customer(), customer("Globex")
    TaxAssignment.objects.create(rate=vat("7"), customer=acme)
    TaxExemption.objects.create(customer=globex, reason="Reverse charge", created_by="ops", created_at=MARCH_1)

    assert preview(acme, made).total == 10700
    assert preview(globex, made).total == 10000


def test_a_credit_gives_its_tax_back():
    """Design 6"""
    made = plan("pro", fee(100))
    TaxAssignment.objects.create(rate=vat(), plan=made)
    acme = on(made)
    TaxAssignment.objects.all().delete()

    cancel(the_subscription(acme), at_once=True, reason="closing", actor=STAFF, now=NOON_16)

    assert totals(acme) == [12000, -6000]


def test_an_invoice_credit_comes_off_before_tax_and_carries_over():
    """L-37"""
    acme = customer()
    InvoiceCredit.objects.create(
        customer=acme, label="Launch", amount=9000, currency="USD", created_by="ops", created_at=MARCH_1
    )
    made = plan("pro", fee(80))
    TaxAssignment.objects.create(rate=vat("10"), plan=made)

    enable(acme, made)
    pay_all(acme)
    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [0, 7700]
    assert list(Deduction.objects.order_by("id").values_list("amount", flat=True)) == [8000, 1000]
