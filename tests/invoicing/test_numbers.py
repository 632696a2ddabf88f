"""Numbers of documents: gapless for each customer, and nobody else's."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from billing_admin.flows.plan_change import Timing
from catalog.models import Plan
from tests.builders import allowance, customer, enable, fee, on, pro
from tests.instants import MARCH_16


def numbers(who):
    return list(who.invoices.order_by("id").values_list("number", flat=True))


@pytest.mark.django_db
def test_invoices_and_credit_notes_are_counted_apart():
    """Design 6: credit notes have their own series."""
    acme = on(pro(50))
    enable(acme, Plan.objects.get(key="pro"), fee(30), allowance(100), now=MARCH_16, timing=Timing.NOW)
    enable(acme, Plan.objects.get(key="pro"), fee(90), allowance(100), now=MARCH_16)

    assert numbers(acme) == ["ACME-0001", "ACME-CN-0001", "ACME-0002"]


@pytest.mark.django_db
def test_a_change_that_fails_leaves_no_gap():
    """Design 6: gapless."""
    acme = customer()
    plan = pro(50)
    with pytest.raises(RuntimeError), transaction.atomic():
        enable(acme, plan)
        raise RuntimeError

    enable(acme, plan)

    assert numbers(acme) == ["ACME-0001"]


@pytest.mark.django_db
def test_customers_of_one_name_have_numbers_of_their_own():
    first, second = on(pro(50)), customer()

    enable(second, Plan.objects.get(key="pro"))

    assert numbers(first) == ["ACME-0001"]
    assert numbers(second) == [f"ACME{second.pk}-0001"]


@pytest.mark.django_db
def test_a_name_may_look_like_the_numbers_of_another():
    second = customer()
    for name in ("Acme Robotics", f"Acme{second.pk} Ltd"):
        other = customer(name)
        enable(other, Plan.objects.filter(key="pro").first() or pro(50))

    enable(second, Plan.objects.get(key="pro"))

    assert len(numbers(second)) == 1


@pytest.mark.django_db
def test_a_name_without_letters_takes_its_numbers_from_the_id():
    acme = customer("株式会社", customer_id="tokyo_1")

    enable(acme, pro(50))

    assert numbers(acme) == ["TOKYO_1-0001"]


@pytest.mark.django_db(transaction=True)
def test_first_invoices_of_one_name_at_once_are_both_written():
    plan = pro(50)
    both = [customer(), customer()]

    def first_invoice(who):
        try:
            return enable(who, plan)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(first_invoice, both))

    assert len({number for who in both for number in numbers(who)}) == 2
