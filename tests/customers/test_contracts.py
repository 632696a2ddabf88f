import pytest

from billing_admin.flows.cancel import cancel
from catalog.models import Plan
from customers.holdings import contracts_at
from customers.models import Subscription
from tests.builders import (
    STAFF,
    access,
    allowance,
    assigned,
    customer,
    default,
    enable,
    fee,
    on,
    plan,
    pro,
    the_subscription,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def held(who, at=MARCH_16):
    return [contract.plan_name for contract in contracts_at(who, at)]


def test_whoever_has_nothing_has_the_default_product_without_a_row():
    """P-14"""
    default()
    acme = customer()

    assert held(acme) == ["Community"]
    assert not Subscription.objects.filter(customer=acme).exists()


def test_without_a_default_product_there_is_nothing():
    """L-32"""
    assert held(customer()) == []


def test_main_plans_stand_before_add_ons_and_older_ones_first():
    acme = customer()
    enable(acme, plan("boost", fee(10), allowance(10, of="calls"), add_on=True))
    enable(acme, assigned(), now=MARCH_16)
    enable(acme, pro(50), now=day("2026-03-10"))

    assert held(acme) == ["Pro", "Partner", "Boost"]


@pytest.mark.parametrize(
    ("state", "names"), [("past_due", ["Pro"]), ("pending_payment", ["Community"]), ("ended", ["Community"])]
)
def test_only_live_contracts_count(state, names):
    """P-18"""
    default()
    acme = on(pro(50))
    acme.subscriptions.update(state=state)

    assert held(acme) == names


def test_a_contract_that_was_to_begin_holds_from_its_first_instant_however_late_the_worker_is():
    """Law 7: its dates decide, not the state that a worker will write."""
    default()
    acme = on(pro(50))
    acme.subscriptions.update(state="scheduled")

    assert (held(acme, MARCH_1), held(acme, day("2026-02-28T23:59:59"))) == (["Pro"], ["Community"])


def test_the_default_product_applies_from_the_instant_the_last_contract_ends():
    """P-17, A-25"""
    default(allowance(5))
    acme = on(pro(50))
    cancel(the_subscription(acme), reason="leaves", actor=STAFF, now=MARCH_16)

    assert held(acme, day("2026-03-31T23:59:59")) == ["Pro"]
    assert (held(acme, APRIL_1), access(acme, now=APRIL_1).limit) == (["Community"], 5)


def test_a_plan_begins_with_its_first_instant():
    """Law 1"""
    acme = on(pro(50))

    assert (held(acme, day("2026-02-28T23:59:59")), held(acme, MARCH_1)) == ([], ["Pro"])


def test_contracts_are_read_in_one_query(django_assert_num_queries):
    acme = on(pro(50))
    enable(acme, plan("boost", fee(10), allowance(10, of="calls"), add_on=True))
    enable(acme, assigned())
    contracts_at(acme, MARCH_16)

    with django_assert_num_queries(1):
        contracts_at(acme, MARCH_16)


def test_the_windows_of_a_billed_contract_are_anchored_on_it_and_those_of_others_on_the_customer():
    """P-24, P-26"""
    acme = customer(since=day("2026-01-10"))
    enable(acme, pro(50), now=MARCH_16)
    enable(acme, assigned(), now=MARCH_16)

    assert [c.anchor for c in contracts_at(acme, MARCH_16)] == [MARCH_16, day("2026-01-10")]


def test_a_contract_made_for_the_customer_says_so():
    acme = on(pro(50))

    enable(acme, Plan.objects.get(key="pro"), fee(50), allowance(300), now=MARCH_16)

    [contract] = contracts_at(acme, MARCH_16)
    assert contract.is_custom
