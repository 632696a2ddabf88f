"""The settings that the account bills with."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from customers.models import Operation
from invoicing.account import change_settings
from invoicing.models import BillingSettings
from tests import builders as a
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db


def change(**said: Any) -> BillingSettings:
    return change_settings(**said, actor=a.STAFF, now=MARCH_1)


def test_what_is_given_changes_and_the_rest_stays():
    change(net_terms_days=14)
    change(company_name=" Acme Billing Ltd ")

    account = BillingSettings.present()
    assert (account.net_terms_days, account.company_name, account.payment_window_hours) == (14, "Acme Billing Ltd", 24)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("payment_window_hours", 0),
        ("payment_window_hours", 721),
        ("grace_hours", -1),
        ("net_terms_days", 366),
        ("net_terms_days", True),
        ("most_lines", 0),
        ("most_growth", 1),
        ("retry_days", []),
        ("retry_days", [7, 3]),
        ("retry_days", [3, 3]),
        ("retry_days", [0, 3]),
        ("retry_days", [3, 400]),
        ("retry_days", ["3"]),
        ("company_tax_number", "x" * 41),
        ("approve_first_invoices", "yes"),
        ("id", 2),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_a_sentence_beside_its_field(field: str, value: Any):
    with pytest.raises(ValidationError) as refused:
        change(**{field: value})

    assert refused.value.field == field
    assert refused.value.messages[0].endswith(".")


def test_a_change_stands_in_the_journal_with_what_it_was():
    change(retry_days=[5, 10])
    change(retry_days=[5, 10])

    [operation] = Operation.objects.all()
    assert operation.summary == "Changed the billing settings: retry days"
    assert operation.inputs == {"retry_days": {"from": [3, 7, 14, 21], "to": [5, 10]}}
