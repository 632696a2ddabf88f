"""What overrides, grants and accepted use say of a customer goes with them."""

from decimal import Decimal

import pytest

from billing_admin.flows.accepted import Use, accept
from billing_admin.flows.customers import erase_due
from billing_admin.flows.grants import Wanted, give_units
from billing_admin.flows.override_batch import Row, begin, carry_out
from customers.models import Customer
from entitlements.models import AcceptedEvent, FeatureOverride, Grant, OverrideBatch
from entitlements.override import override
from tests import builders as a
from tests.builders import STAFF
from tests.instants import APRIL_1, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


def erase(who: Customer) -> None:
    Customer.objects.filter(pk=who.pk).update(closed_at=MARCH_16, erase_at=MARCH_16)
    erase_due(now=APRIL_1)


def test_reasons_of_overrides_and_grants_lose_the_name():
    who = a.customer("Ada Lovelace")
    credits = a.feature()
    override(who, credits, 5, effective_until=None, reason="Ada Lovelace asked", actor=STAFF, now=MARCH_1)
    wanted = Wanted(credits, Decimal(5), None, "For Ada Lovelace", metadata={"mail": "ada@example.com"})
    give_units(who, wanted, reason="Ada Lovelace asked", key="ada-1", actor=STAFF, now=MARCH_1)

    erase(who)

    assert FeatureOverride.objects.get().reason == "(erased) asked"
    grant = Grant.objects.get()
    assert (grant.label, grant.reason) == ("For (erased)", "(erased) asked")
    assert (grant.metadata, grant.idempotency_key) == ({}, None)


def test_a_batch_loses_the_id_that_stood_in_it_also_where_its_row_was_refused():
    who = a.customer(customer_id="ada@example.com")
    a.feature()
    rows = [Row(2, "ada@example.com", "credits", "many", None), Row(3, "globex", "credits", "5", None)]
    carry_out(begin(rows, "pilot", STAFF, MARCH_1), MARCH_1)

    erase(who)

    batch = OverrideBatch.objects.get()
    assert [kept["customer_id"] for kept in batch.rows] == ["(erased)", "globex"]
    assert batch.failures[0]["customer"] == "(erased)"


def test_use_that_was_accepted_is_dropped():
    who = a.customer()
    a.feature()
    accept([(who, Use("credits", key="ada-1", properties={"mail": "ada@example.com"}))], now=MARCH_1)

    erase(who)

    assert not AcceptedEvent.objects.exists()
