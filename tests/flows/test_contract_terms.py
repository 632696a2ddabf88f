"""Terms of one contract that differ from the account's."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from billing_admin.flows.cancel import cancel
from billing_admin.flows.contract_terms import ContractTerms, change_contract_terms
from customers.journal import ReasonRequired
from customers.models import Customer, Operation
from invoicing.account import change_settings
from tests import builders as a
from tests.instants import APRIL_1, MARCH_16

pytestmark = pytest.mark.django_db


def give(who: Customer, reason: str = "framework contract", **terms: Any) -> None:
    held = who.subscriptions.get()
    change_contract_terms(held, ContractTerms(**terms), reason=reason, actor=a.STAFF, now=MARCH_16)


def test_invoices_from_then_on_are_due_later():
    acme = a.on(a.pro(50))

    give(acme, net_terms_days=30)
    a.pass_time(acme, to=APRIL_1, pays=False)

    assert acme.invoices.latest("id").due_at == APRIL_1 + timedelta(days=30)


def test_nothing_of_its_own_is_as_the_account_does():
    acme = a.on(a.pro(50))
    give(acme, net_terms_days=30)
    change_settings(net_terms_days=14, actor=a.STAFF, now=MARCH_16)

    give(acme, net_terms_days=None)
    a.pass_time(acme, to=APRIL_1, pays=False)

    assert acme.invoices.latest("id").due_at == APRIL_1 + timedelta(days=14)


@pytest.mark.parametrize(("field", "value"), [("net_terms_days", 366), ("payment_window_hours", 0)])
def test_a_term_that_cannot_be_is_refused_beside_its_field(field: str, value: int):
    acme = a.on(a.pro(50))

    with pytest.raises(ValidationError) as refused:
        give(acme, **{field: value})

    assert refused.value.field == field


def test_a_reason_is_required():
    """L-06"""
    with pytest.raises(ReasonRequired):
        give(a.on(a.pro(50)), reason="", net_terms_days=30)


def test_a_contract_that_is_over_keeps_its_terms():
    acme = a.on(a.pro(50))
    cancel(a.the_subscription(acme), at_once=True, reason="moved", actor=a.STAFF, now=MARCH_16)

    with pytest.raises(ValidationError, match="over"):
        give(acme, net_terms_days=30)


def test_the_journal_says_what_changed_and_why():
    acme = a.on(a.pro(50))

    give(acme, net_terms_days=30, approve_first_invoice=False)

    operation = Operation.objects.latest("id")
    assert operation.summary == "Changed net terms, the approval of its first invoice"
    assert (operation.reason, operation.inputs["net_terms_days"]) == ("framework contract", {"from": None, "to": 30})
