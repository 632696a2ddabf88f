"""What a customer's page and the API say of contracts with several changes to come, or that begin on a day to come."""

import pytest

from billing_admin.admin.panels import read_panels
from billing_admin.api.subscriptions import SubscriptionOut
from customers import switch
from customers.models import Subscription
from tests.builders import allowance, customer, fee, new_version, on, plan, pro, the_subscription
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db


def everything(_permission: str) -> bool:
    return True


def ramped() -> Subscription:
    contract = the_subscription(on(pro()))
    first = contract.phase_at(MARCH_1)
    assert first is not None
    stages = [
        switch.Stage(new_version(first.version.plan, fee(amount), allowance(100)), MARCH_1, at)
        for amount, at in ((60, APRIL_1), (70, MAY_1))
    ]
    switch.schedule_all(contract, stages, ends_at=None, at=MARCH_1, now=MARCH_1)
    return contract


def test_the_page_shows_the_next_change_and_what_follows_it():
    contract = ramped()

    [row] = read_panels(contract.customer, now=MARCH_16, allows=everything).products

    assert row.scheduled is not None
    assert (row.scheduled.at, row.scheduled.price) == (APRIL_1, "$60.00 / month")
    assert row.scheduled.then == ((MAY_1, "$70.00 / month"),)


def test_the_api_lists_the_later_changes():
    contract = ramped()

    found = SubscriptionOut.of(Subscription.objects.with_phases().get(pk=contract.pk), MARCH_16)

    assert found.scheduled_change is not None and found.scheduled_change.starts_at == APRIL_1
    assert [change.starts_at for change in found.later_changes] == [MAY_1]


def test_a_contract_that_has_not_begun_stands_on_the_page_with_its_day():
    who, made = customer(), plan("pro", fee(50), fee(20, cadence="P0D", key="setup"), allowance(100))
    version = made.current_version
    assert version is not None
    stage = switch.Stage(version, APRIL_1, APRIL_1)
    switch.plan_start(who, [stage], trial_ends_at=None, starts_at=APRIL_1, ends_at=None)

    panels = read_panels(who, now=MARCH_16, allows=everything)

    [row] = panels.products
    assert panels.state == ("pending_payment", "Begins 1 Apr 2026")
    assert (row.scheduled, row.change_url, bool(row.cancel_url)) == (None, "", True)
    assert [(bill.at, bill.total) for bill in panels.upcoming][:1] == [(APRIL_1, 7000)]
