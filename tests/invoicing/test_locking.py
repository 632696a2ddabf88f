"""Documents are written by whoever holds the customer."""

import pytest

from invoicing.documents import nothing_due
from invoicing.issue import CustomerNotLocked, issue
from invoicing.models import Invoice
from tests.builders import customer
from tests.instants import MARCH_1


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_nothing_is_issued():
    """Law 5"""
    acme = customer()

    with pytest.raises(CustomerNotLocked):
        issue(acme, [nothing_due("USD")], now=MARCH_1)

    assert not Invoice.objects.exists()
