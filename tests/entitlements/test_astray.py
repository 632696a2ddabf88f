import pytest
from django.db import IntegrityError, connection, transaction

from entitlements.astray import astray
from entitlements.models import Balance
from tests import builders as a
from tests.instants import APRIL_1

pytestmark = pytest.mark.django_db


def test_nothing_that_verbs_write_contradicts_the_catalog():
    """Law 9"""
    a.default()
    partner = a.customer()
    for who in (a.on(a.pro(50)), partner, a.customer()):
        if who == partner:
            a.enable(who, a.assigned())
        a.use(who, 1)
        a.use(who, 1, now=APRIL_1)

    assert Balance.objects.count() == 6
    assert astray() == []


@pytest.mark.parametrize("column", ["customer_id", "feature_id", "item_id", "plan_id"])
def test_a_row_that_names_what_there_is_not_is_found(column):
    """Law 9: what the database does not check row by row."""
    a.default()
    acme = a.customer()
    a.use(acme, 1)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE entitlements_balance SET {column} = 999999")  # noqa: S608  our own column

    assert astray() == [Balance.objects.get().pk]


@pytest.mark.parametrize("table", ["customers_customer", "customers_subscription"])
def test_what_has_balances_cannot_be_deleted(table):
    """Law 9: whoever writes, psql included."""
    a.on(a.pro(50))
    refused = pytest.raises(IntegrityError, match="has balances")

    with refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table}")  # noqa: S608  our own table


def test_a_contract_of_somebody_else_is_found():
    acme, globex = a.on(a.pro(50)), a.customer()
    Balance.objects.update(customer=globex)

    assert astray() == [acme.subscriptions.get().balances.get().pk]


def test_an_item_of_another_feature_is_found():
    acme = a.on(a.plan("pro", a.allowance(10), a.allowance(10, of="calls")))
    row = acme.balances.get(feature__slug="credits")
    Balance.objects.filter(pk=row.pk).update(item=acme.balances.get(feature__slug="calls").item_id)

    assert astray() == [row.pk]
