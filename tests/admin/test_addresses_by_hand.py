"""Addresses that somebody typed by hand: what cannot be a day or the number of a row narrows nothing, and breaks
nothing."""

import pytest
from django.test import Client
from django.urls import reverse

from tests.admin.enable_desk import person

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("customers_operation_changelist", "customer=²&before=²"),
        ("customers_operation_changelist", "until=9999-12-31"),
        ("customers_customer_changelist", "before=²"),
        ("coming_list", "day=9999-12-31"),
        ("approvals", "before=²"),
    ],
)
def test_a_number_or_a_day_that_cannot_be_breaks_no_page(client: Client, name: str, query: str) -> None:
    client.force_login(person("Admin"))

    assert client.get(f"{reverse(f'admin:{name}')}?{query}").status_code == 200
