"""A parked contract waits for a person; until then nothing may step over what is due."""

import pytest

from billing_admin.flows.cancel import cancel, withdraw
from customers import switch
from customers.switch import ContractParked
from tests.builders import STAFF, on, preview, pro, team, the_subscription
from tests.instants import MARCH_16, day

pytestmark = pytest.mark.django_db

LATE = day("2031-03-16")


def parked(acme=None):
    acme = acme or on(pro(50))
    switch.park(the_subscription(acme), because="More than 36 periods are due.", now=LATE)
    return acme


def test_a_parked_contract_cannot_be_changed():
    acme = parked()

    with pytest.raises(ContractParked):
        preview(acme, team(), now=LATE)


def test_a_parked_contract_cannot_be_cancelled_for_later():
    acme = parked()

    with pytest.raises(ContractParked):
        cancel(the_subscription(acme), reason="leaves", actor=STAFF, now=LATE)


def test_a_parked_contract_can_be_ended_at_once():
    acme = parked()

    cancel(the_subscription(acme), at_once=True, reason="leaves", actor=STAFF, now=LATE)

    assert not acme.subscriptions.live().exists()


def test_a_cancellation_of_a_parked_contract_is_not_taken_back():
    acme = on(pro(50))
    cancel(the_subscription(acme), ends_at=day("2032-01-01"), reason="term", actor=STAFF, now=MARCH_16)
    parked(acme)

    with pytest.raises(ContractParked):
        withdraw(the_subscription(acme), actor=STAFF, now=LATE)
