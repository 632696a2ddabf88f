"""Numbers that are larger than what can be kept, and the largest that can."""

import pytest

from tests import builders as world
from tests.builders import allowance, customer, fee, on, plan

pytestmark = pytest.mark.django_db


def test_sums_beyond_what_can_be_kept_are_refused(api):
    """A fee may be large and a quantity may be large; both together are no amount of money."""
    world.product("api")
    fees = [{"amount": "99999999999", "quantity": 1_000_000}]
    api.post("plans", {"productId": "api", "name": "Galaxy", "prices": fees})
    who = customer()

    answer = api.post(f"customers/{who.customer_id}/plan-changes", {"planKey": "galaxy", "quantity": 10_000})

    assert (answer.status, answer["code"]) == (400, "out_of_range")
    assert not who.subscriptions.exists()


def test_the_largest_quantities_are_counted(api):
    who = on(plan("pro", fee(1), allowance(None)))
    body = {"customerId": who.customer_id, "featureSlug": "credits", "value": 10**18 - 1}

    assert [api.post("track", body)["access"]["used"] for _ in range(2)] == [str(10**18 - 1), str(2 * 10**18 - 2)]
