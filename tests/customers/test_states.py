import pytest

from customers.models import Subscription
from customers.states import LIVE, NEXT, CannotMove, SubscriptionState


@pytest.mark.parametrize("state", SubscriptionState)
@pytest.mark.parametrize("to", SubscriptionState)
def test_a_subscription_moves_along_the_map_and_nowhere_else(state, to):
    subscription = Subscription(state=state)

    if to in NEXT.get(state, set()):
        subscription.move_to(to)
        assert subscription.state == to
    else:
        with pytest.raises(CannotMove):
            subscription.move_to(to)


@pytest.mark.parametrize("state", [SubscriptionState.ENDED, SubscriptionState.WITHDRAWN])
def test_nothing_follows_an_end(state):
    """Law 11"""
    assert state not in NEXT


def test_a_late_payment_takes_no_access_away():
    """P-18"""
    assert set(LIVE) == {"trialing", "active", "past_due"}
